"""DA-VSN's intra-domain consistency: propagated maps, weights, loss, gradient."""

import pytest
import torch

from methods.common.information import self_information
from methods.common.temporal import flow_at, intra_domain_consistency, propagate

FILE = "davsn_intra_tcr"


@pytest.mark.cases("in_pred_cf", "in_pred_kf", "in_flow")
def test_propagated_maps_and_weights(case, assert_close):
    flow = flow_at(case.tensor("in_flow"), case["in_pred_cf"].shape[-2:])
    for aux in ("", "_aux"):
        current, previous = (case.tensor(f"in_pred_{frame}{aux}").softmax(1) for frame in ("cf", "kf"))
        splatted, certainty = propagate(previous, flow)
        entropy = self_information(current).mean(1)
        if not aux:
            assert_close(entropy, case["out_ent_cf"])
            assert_close(self_information(previous).mean(1), case["out_ent_kf"])
            assert_close(splatted, case["out_prob_propagated"])
            assert_close(certainty, case["out_ent_propagated"])
        if f"out_weights{aux}" in case:
            assert_close(splatted.sum(1) * (certainty < entropy), case[f"out_weights{aux}"])


@pytest.mark.cases("in_pred_cf", "in_pred_kf", "in_flow", "out_loss_itcr")
def test_loss_and_gradient(case, assert_close):
    flow = flow_at(case.tensor("in_flow"), case["in_pred_cf"].shape[-2:])
    total, scores = 0.0, []
    for aux in ("", "_aux"):
        current = case.tensor(f"in_pred_cf{aux}").requires_grad_()
        loss = intra_domain_consistency(current.softmax(1), case.tensor(f"in_pred_kf{aux}").softmax(1), flow)
        assert_close(loss, case[f"out_loss_itcr{aux}"])
        total, scores = total + loss, [*scores, current]
    assert_close(float(case["param_lamda_u"]) * total, case["out_loss_total"])
    gradients = torch.autograd.grad(total, scores)  # stored before the weight
    for aux, gradient in zip(("", "_aux"), gradients, strict=True):
        assert_close(gradient, case[f"out_grad_pred_cf{aux}"])
