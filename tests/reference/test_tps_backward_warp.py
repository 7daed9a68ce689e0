"""The published TPS warp, its score fusion and its cross-frame pseudo-labels."""

import numpy as np
import pytest
import torch

from stpl.segmenter import AccelScoreFusion
from stpl.warp import backward_warp, resize_flow

FILE = "tps_backward_warp"


def resized(flow, size):
    return resize_flow(flow, size, align_corners=True, ratio=size[0] / flow.shape[-2]).float()


@pytest.mark.cases("in_image", "in_flow")
def test_warp_and_gradient(case, assert_close):
    image = case.tensor("in_image").requires_grad_()
    warped = backward_warp(image, case.tensor("in_flow"), padding="border")
    assert_close(warped, case["out_warped"])
    (warped * case.tensor("in_cotangent")).sum().backward()
    assert_close(image.grad, case["out_grad_image"])


@pytest.mark.cases("in_sf_weight")
def test_model(case, assert_close):
    fusion = AccelScoreFusion(case["in_cf"].shape[1], propagate="warp")
    fusion.mix.weight.data.copy_(case.tensor("in_sf_weight"))
    flow = case.tensor("in_flow")
    assert_close(resized(flow, case["in_cf"].shape[-2:]), case["out_flow_resized"])
    for aux in ("", "_aux"):
        fused = fusion(case.tensor(f"in_cf{aux}"), case.tensor(f"in_kf{aux}"), flow)
        assert_close(fused, case[f"out_pred{aux}"])


@pytest.mark.cases("in_pred", "param_flip")
def test_pseudo_labels_of_the_earlier_frame(case, assert_close):
    flow = resized(case.tensor("in_flow"), case["in_pred"].shape[-2:])
    assert_close(flow, case["out_flow_resized"])
    for aux in ("", "_aux"):
        warped = backward_warp(case.tensor(f"in_pred{aux}").softmax(1), flow, padding="border")
        assert_close(warped, case[f"out_prob{aux}_warped"])
        labels = warped.argmax(1)
        if case["param_flip"]:  # the published step: mirrored frames, flow as it was, only the labels mirrored back
            labels, warped = labels.flip(-1), warped.flip(-1)
        differs = labels.numpy() != case[f"out_pl{aux}"]
        best, second = torch.topk(warped, 2, dim=1).values.unbind(1)
        assert not np.any(differs & ((best - second).numpy() > 1e-5)), "labels differ where the winner is clear"
        assert differs.mean() < 0.01
