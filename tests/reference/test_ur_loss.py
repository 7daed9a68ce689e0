"""UR's terms, alone and together, with gradients."""

import numpy as np
import pytest
import torch

from methods.common.information import normalised_entropy
from methods.common.uncertainty import decoder_disagreement, diversity
from stpl import pseudo_label_cross_entropy

FILE = "ur_loss"


def terms(case, kind):
    scores = case.tensor("in_logits").to(kind).requires_grad_()
    auxiliary = case.tensor("in_aux_logits").to(kind).requires_grad_()
    p = scores.softmax(1)
    values = {
        "ce": pseudo_label_cross_entropy(scores, case.tensor("in_label").long()),
        "ent": normalised_entropy(p),
        "div": diversity(p),
        "unc_mse_sum": decoder_disagreement(list(auxiliary), p),
    }
    return scores, auxiliary, values


@pytest.mark.cases("in_logits", "in_label", "in_aux_logits")
def test_terms_sums_and_gradients(case, assert_close):
    unlabelled = bool((case["in_label"] == 255).all())
    weights = {name: float(case[f"param_lambda_{name}"]) for name in ("ce", "ent", "div", "unc")}
    for kind, suffix in ((torch.float32, ""), (torch.float64, "64")):
        scores, auxiliary, values = terms(case, kind)
        for name, value in values.items():
            expected = case[f"out_{name}{suffix}"]
            if np.isnan(expected):  # nothing labelled: NaN as published, 0 here on purpose
                assert name == "ce" and unlabelled and float(value.detach()) == 0.0
            else:
                assert_close(value, expected)
        full = weights["ce"] * values["ce"] + weights["ent"] * values["ent"] + weights["div"] * values["div"]
        full = full + weights["unc"] * values["unc_mse_sum"]
        if unlabelled:
            continue
        assert_close(values["ce"] + values["ent"], case[f"out_readme{suffix}"])
        assert_close(values["ce"] + values["ent"] + values["div"], case[f"out_all_on{suffix}"])
        assert_close(full, case[f"out_full_cct{suffix}"])
        if suffix:
            for name in ("ce", "ent", "div"):
                (gradient,) = torch.autograd.grad(values[name], scores, retain_graph=True)
                assert_close(gradient, case[f"out_grad_logits_{name}64"])
            gradients = torch.autograd.grad(full, [scores, auxiliary])
            assert_close(gradients[0], case["out_grad_logits_full64"])
            assert_close(gradients[1], case["out_grad_aux_logits_full64"])
