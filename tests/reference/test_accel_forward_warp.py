"""The published Accel score fusion (DA-VSN): flow resizing, forward splat, fused scores and gradients."""

import pytest
import torch
from torch import nn

from stpl.fusion import NoFusion
from stpl.segmenter import AccelScoreFusion, VideoSegmenter
from stpl.warp import forward_splat, resize_flow

FILE = "accel_forward_warp"


def published_flow(case):
    """The flow as the published code uses it: that of the first element for the whole batch."""
    batch = case["in_cf"].shape[0]
    return case.tensor("in_flow")[:1].expand(batch, -1, -1, -1)


def resized(case, flow):
    height, width = case["in_cf"].shape[-2:]
    return resize_flow(flow, (height, width), align_corners=True, ratio=height / flow.shape[-2])


class Stored(nn.Module):
    """An encoder that has computed its answer beforehand."""

    def __init__(self, features, auxiliary):
        super().__init__()
        self.answer = features, auxiliary

    def forward(self, frames):
        return self.answer


def segmenter_of(case, leaves):
    """The published model on stored scores: frames are interleaved [t-1, t] for every element of the batch."""
    kf, kf_aux = case.tensor("in_kf"), case.tensor("in_kf_aux")
    encoder = Stored(*(torch.stack((k, c), 1).flatten(0, 1) for k, c in zip((kf, kf_aux), leaves, strict=True)))
    classes = kf.shape[1]
    return VideoSegmenter(
        encoder,
        nn.Identity(),
        NoFusion(classes),
        auxiliary_classifier=nn.Identity(),
        score_fusion=AccelScoreFusion(classes, propagate="splat"),
    )


def run(segmenter, case):
    flow = published_flow(case)
    batch, _, height, width = flow.shape
    frames = torch.zeros(batch, 2, 3, height, width)
    return segmenter(frames, flow[:, None], torch.ones(batch, 1, height, width, dtype=torch.bool))


@pytest.mark.cases("in_cf")
def test_flow_is_resized_with_one_ratio(case, assert_close):
    flow = case.tensor("in_flow")
    assert_close(case["in_cf"].shape[-2] / flow.shape[-2], case["param_ratio"])
    expected = case["out_flow_resized"]
    assert_close(resized(case, flow)[: len(expected)], expected)


@pytest.mark.cases("in_cf")
def test_splat(case, assert_close):
    flow = resized(case, published_flow(case))
    for name in ("kf", "kf_aux"):
        splatted, written = forward_splat(case.tensor(f"in_{name}"), flow)
        assert torch.equal(splatted, case.tensor(f"out_{name}_splat"))
        assert_close(written[: len(case["out_rec_positions"])].byte(), case["out_rec_positions"])


@pytest.mark.cases("in_cf")
def test_initial_fusion_passes_the_current_scores(case, assert_close):
    segmenter = segmenter_of(case, (case.tensor("in_cf"), case.tensor("in_cf_aux")))
    assert_close(segmenter.score_fusion.mix.weight, case["out_sf_weight_init"])
    out = run(segmenter, case)
    assert_close(out.scores, case["out_pred_init"])
    assert_close(out.auxiliary_scores, case["out_pred_aux_init"])


@pytest.mark.cases("in_cf")
def test_fused_scores_and_gradients(case, assert_close):
    leaves = [case.tensor(name).requires_grad_() for name in ("in_cf", "in_cf_aux")]
    segmenter = segmenter_of(case, leaves)
    segmenter.score_fusion.mix.weight.data.copy_(case.tensor("in_sf_weight_random"))
    out = run(segmenter, case)
    assert_close(out.scores, case["out_pred_random"])
    assert_close(out.auxiliary_scores, case["out_pred_aux_random"])
    cotangent = case.tensor("in_cotangent")
    ((cotangent * out.scores).sum() + 0.5 * (cotangent * out.auxiliary_scores).sum()).backward()
    assert_close(leaves[0].grad, case["out_grad_cf"])
    assert_close(leaves[1].grad, case["out_grad_cf_aux"])
    assert_close(segmenter.score_fusion.mix.weight.grad, case["out_grad_sf_weight"])
