"""The published contrast of ContrastiveSeg, value and gradient.

It multiplies the mean by temperature / base_temperature and knows no ignore label, so labels are renumbered first.
Where an anchor has no positive it returns NaN; on purpose, here such an anchor leaves the mean.
"""

import numpy as np
import pytest
import torch

from stpl.contrast import pixel_contrast

FILE = "pixel_contrast"


def contrast(case, features, **options):
    _, labels = torch.unique(case.tensor("in_labels"), return_inverse=True)
    temperature = float(case["param_temperature"])
    views = features.shape[1]
    loss = pixel_contrast(features.flatten(0, 1), labels.repeat_interleave(views), temperature=temperature, **options)
    return loss * temperature / float(case["param_base_temperature"])


def slow_contrast(case):
    """Three nested loops; anchors without a positive are left out. None if there is no anchor."""
    features, views = case["in_features"].astype(np.float64), case["in_features"].shape[1]
    x, y = features.reshape(-1, features.shape[-1]), np.repeat(case["in_labels"], views)
    t = float(case["param_temperature"])
    s = x @ x.T / t
    losses = []
    for i in range(len(x)):
        positives = [j for j in range(len(x)) if j != i and y[j] == y[i]]
        negatives = [k for k in range(len(x)) if y[k] != y[i]]
        if positives and negatives:
            terms = [np.logaddexp.reduce([s[i, j], *s[i, negatives]]) - s[i, j] for j in positives]
            losses.append(np.mean(terms))
    return np.mean(losses) * t / float(case["param_base_temperature"]) if losses else 0.0


@pytest.mark.cases("in_features", "in_labels")
@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_loss(case, assert_close, chunk_size):
    expected = case["out_loss64"] if "out_loss64" in case else case["out_loss"]
    loss64 = contrast(case, case.tensor("in_features").double(), chunk_size=chunk_size)
    if np.isnan(expected):
        np.testing.assert_allclose(loss64.item(), slow_contrast(case), rtol=1e-9)
        return
    np.testing.assert_allclose(loss64.item(), slow_contrast(case), rtol=1e-9, atol=1e-12)
    assert_close(loss64.to(torch.from_numpy(np.array(expected)).dtype), expected)
    assert_close(contrast(case, case.tensor("in_features"), chunk_size=chunk_size), case["out_loss"])


@pytest.mark.cases("out_grad_features64")
@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_gradient(case, assert_close, chunk_size):
    features = case.tensor("in_features").double().requires_grad_()
    contrast(case, features, chunk_size=chunk_size).backward()
    expected = case["out_grad_features64"]
    if np.isnan(expected).any():
        assert torch.isfinite(features.grad).all()
        return
    np.testing.assert_allclose(features.grad.numpy(), expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max())
