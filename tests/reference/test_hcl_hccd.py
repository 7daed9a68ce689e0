"""HCL's weighted cross entropy and its class weights."""

import numpy as np
import pytest
import torch

from methods.common.historical import RareClassWeights, agreement, trusted_cross_entropy

FILE = "hcl_hccd"


@pytest.mark.cases("in_pred", "in_label", "in_pred_ma", "in_pred_source")
def test_loss_and_gradient(case, assert_close):
    for kind, suffix in ((torch.float32, ""), (torch.float64, "64")):
        scores = case.tensor("in_pred").to(kind).requires_grad_()
        trust = agreement(case.tensor("in_pred_source").to(kind), case.tensor("in_pred_ma").to(kind))
        weight = case.tensor("in_class_weight").to(kind)
        loss = trusted_cross_entropy(scores, case.tensor("in_label"), trust, weight)
        assert_close(loss, case[f"out_loss{suffix}"])
        if f"out_grad_pred{suffix}" in case:
            assert_close(torch.autograd.grad(loss, scores)[0], case[f"out_grad_pred{suffix}"])
        if f"out_consistency{suffix}" in case:
            assert_close(trust, case[f"out_consistency{suffix}"])


@pytest.mark.cases("in_labels", "out_class_weight_sequence")
def test_class_weights_over_batches(case, assert_close):
    expected = case["out_class_weight_sequence"]
    weights = RareClassWeights(expected.shape[1], float(case["param_max_value"]))
    for label, row in zip(case.tensor("in_labels"), expected, strict=True):
        np.testing.assert_allclose(weights(label.long()).numpy(), row, rtol=1e-5)
