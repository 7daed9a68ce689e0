"""HCL's instance contrast, alone and as the whole step with its resizing and reliability."""

import numpy as np
import pytest
import torch

from methods.common.historical import instance_contrast, reliability, samples, small_labels

FILE = "hcl_hcid"


@pytest.mark.cases("in_features", "in_features_hist", "in_reliability")
def test_loss_and_gradient(case, assert_close):
    temperature = float(case["param_temperature"])
    for kind, suffix in ((torch.float32, ""), (torch.float64, "64")):
        features = case.tensor("in_features").to(kind).requires_grad_()
        loss = instance_contrast(
            features.squeeze(2),
            case.tensor("in_features_hist").to(kind).squeeze(2),
            case.tensor("in_labels"),
            case.tensor("in_labels_hist"),
            case.tensor("in_reliability").to(kind),
            temperature,
        )
        assert_close(loss, case[f"out_loss{suffix}"])
        if f"out_grad_features{suffix}" in case:
            assert_close(torch.autograd.grad(loss, features)[0], case[f"out_grad_features{suffix}"])


@pytest.mark.cases("in_feature", "in_feature_ma", "in_label_aug", "in_pred_ma_upsampled")
def test_the_whole_step(case, assert_close):
    feature = case.tensor("in_feature").requires_grad_()
    size = feature.shape[-2:]
    labels, historical = small_labels(case.tensor("in_label_aug"), size), small_labels(case.tensor("in_label"), size)
    np.testing.assert_array_equal(labels.numpy(), case["out_labels_small"])
    np.testing.assert_array_equal(historical.numpy(), case["out_labels_hist_small"])
    certain = reliability(case.tensor("in_pred_ma_upsampled"), size).flatten(1)
    assert_close(certain, case["out_reliability"])
    loss = instance_contrast(samples(feature), samples(case.tensor("in_feature_ma")), labels, historical, certain, 0.07)
    assert_close(loss, case["out_loss"])
    gradient = torch.autograd.grad(loss, feature)[0].numpy()
    expected = case["out_grad_feature"]  # float32 through exp(1 / 0.07): looser than a map
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max() + 1e-12)
