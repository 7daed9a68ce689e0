"""PixMatch's labels of both heads and its consistency loss; the published ignored label is -1, ours 255."""

import numpy as np
import pytest
import torch

from methods.common.selection import two_head_labels
from stpl import pseudo_label_cross_entropy

FILE = "pixmatch_pseudo_label"


@pytest.mark.cases("in_weak_main", "in_weak_aux")
def test_labels_losses_and_gradients(case, assert_close):
    inner = [suffix.removesuffix("param_T") for suffix in case.suffixes() if suffix.endswith("param_T")]
    assert inner
    for name in inner:
        weak = [case.tensor(f"in_weak_{head}").softmax(1) for head in ("main", "aux")]
        labels = two_head_labels(*weak, float(case[f"{name}param_T"]))
        strong = [case.tensor(f"in_strong_{head}").double().requires_grad_() for head in ("main", "aux")]
        terms = []
        for head, label, scores in zip(("main", "aux"), labels, strong, strict=True):
            np.testing.assert_array_equal(
                np.where(label.numpy() == 255, -1, label.numpy()), case[f"{name}out_label_{head}"]
            )
            term, expected = pseudo_label_cross_entropy(scores, label), case[f"{name}out_ce_{head}64"]
            if np.isnan(expected):  # nothing kept: the published mean of nothing is NaN, ours is 0 on purpose
                assert float(term.detach()) == 0.0 and bool((label == 255).all())
            else:
                assert_close(term, expected)
            terms.append(term)
        weight, auxiliary = float(case["param_lam_aug"]), float(case["param_lam_aux"])
        total = weight * terms[0] + weight * auxiliary * terms[1]
        if np.isnan(case[f"{name}out_loss_total64"]):
            continue
        assert_close(total, case[f"{name}out_loss_total64"])
        for head, gradient in zip(("main", "aux"), torch.autograd.grad(total, strong), strict=True):
            assert_close(gradient, case[f"{name}out_grad_{head}64"])
