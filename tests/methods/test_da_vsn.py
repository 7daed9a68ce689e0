"""da_vsn: what the discriminators see, and what they and the segmenter learn from. Terms and names: test_table."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.networks.build import build_segmenter
from methods.base import ClipBatch, LabelledBatch, Setup
from methods.common.adversarial import weight_discrepancy
from methods.common.temporal import flow_at, frame_scores, intra_domain_consistency
from methods.da_vsn import AUXILIARY, DAVSN, DAVSNSettings
from methods.da_vsn_sf import DAVSNSF, DAVSNSFSettings

CLASSES = 4


def batch(seed: int, n: int = 2, t: int = 2, size: tuple[int, int] = (32, 64)) -> LabelledBatch:
    g = torch.Generator().manual_seed(seed)
    frames, flow = torch.rand(n, t, 3, *size, generator=g), 3 * torch.randn(n, t - 1, 2, *size, generator=g)
    label = torch.randint(0, CLASSES, (n, *size), generator=g)
    valid = torch.ones(n, t - 1, *size, dtype=torch.bool)
    return LabelledBatch(frames, flow, valid, tuple(f"clip {i}" for i in range(n)), label)


def make(auxiliary: bool = True, frames: int = 2, **settings: Any) -> DAVSN:
    torch.manual_seed(0)
    segmenter = build_segmenter("mini", "conv1x1", CLASSES, frames)
    if not auxiliary:
        segmenter.auxiliary_classifier = None
    method = DAVSN(segmenter, DAVSNSettings(width=4, judged_stride=2, **settings), Setup(CLASSES, 6, 0))
    method.restart()
    method.train()
    return method


def test_weights_scale_their_terms_and_the_auxiliary_head_has_a_fifth() -> None:
    base = make(itcr_weight=1.0, adversarial_weight=1.0).losses(batch(0), batch(1), 0)
    scaled = make(itcr_weight=3.0, adversarial_weight=0.5).losses(batch(0), batch(1), 0)
    for head in ("main", "auxiliary"):
        torch.testing.assert_close(scaled[f"itcr_{head}"], 3 * base[f"itcr_{head}"])
        for view in ("temporal", "spatial"):
            torch.testing.assert_close(scaled[f"{view}_{head}"], 0.5 * base[f"{view}_{head}"])
    assert pytest.approx(0.0002 / 0.001) == AUXILIARY  # LAMBDA_ADV_AUX / LAMBDA_ADV_MAIN
    ratio = float((base["temporal_auxiliary"] / base["temporal_main"]).detach())
    assert 0.1 < ratio < 0.4  # both discriminators are near chance: the ratio is near the share


@pytest.mark.parametrize("t", [2, 3])
def test_discriminators_see_time_and_space(t: int) -> None:
    method = make(frames=t)
    method.losses(batch(0, t=t), batch(1, t=t), 0)
    for head in ("main", "auxiliary"):
        for view in ("temporal", "spatial"):
            (watched,) = method.adversary(f"{view}_{head}")._watched
            for maps in watched:
                assert not maps.requires_grad and maps.shape[1:] == (2 * CLASSES, 32, 32)
                first, second = maps[:, :CLASSES], maps[:, CLASSES:]
                assert torch.allclose(first, second, atol=1e-6) == (view == "spatial")


def test_the_segmenters_gradient_stays_out_of_the_discriminators_and_theirs_out_of_it() -> None:
    method = make()
    losses = method.losses(batch(0), batch(1), 0)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None for p in method.adversaries.parameters())
    segmenter = [(p, p.detach().clone(), p.grad) for p in method.segmenter.parameters()]
    gradients = [None if g is None else g.clone() for _, _, g in segmenter]
    method.after_step(0)
    for (p, before, _), g in zip(segmenter, gradients, strict=True):
        assert torch.equal(p, before)
        assert (p.grad is None and g is None) or torch.equal(p.grad, g)  # type: ignore[arg-type]


def test_source_clips_teach_the_segmenter_by_labels_alone() -> None:
    """Only target maps are asked to fool; the adversarial terms have no path to the source's frames."""
    method, source, target = make(), batch(1), batch(0)
    source.frames.requires_grad_()
    target.frames.requires_grad_()
    losses = method.losses(target, source, 0)
    for name in ("temporal_main", "spatial_main", "itcr_main"):
        target_gradient, source_gradient = torch.autograd.grad(
            losses[name], [target.frames, source.frames], retain_graph=True, allow_unused=True
        )
        assert source_gradient is None and target_gradient is not None and target_gradient.abs().sum() > 0, name


def test_no_gradient_enters_through_the_previous_frame() -> None:
    method, target = make().eval(), batch(0)  # fixed statistics: frames meet nowhere else
    target.frames.requires_grad_()
    losses = method.losses(target, batch(1), 0)
    for name in losses.keys() - {"ce", "ce_aux"}:
        (gradient,) = torch.autograd.grad(losses[name], target.frames, retain_graph=True)
        assert not gradient[:, 0].any() and gradient[:, 1].any(), name


def test_a_past_that_has_left_the_image_leaves_nothing_to_follow() -> None:
    target = batch(0)
    target.flow.fill_(1000.0)
    losses = make().losses(target, batch(1), 0)
    assert float(losses["itcr_main"].detach()) == 0.0 and float(losses["itcr_auxiliary"].detach()) == 0.0


def test_a_strong_discrepancy_weight_turns_the_weights_of_a_pair_apart() -> None:
    method = make(adversarial_weight=50.0, discriminator_lr=0.01)
    pairs = [[method.adversary(f"{v}_{h}").discriminator for v in ("temporal", "spatial")] for h in method.heads]
    for first, second in pairs:
        second.load_state_dict(first.state_dict())
    for step in range(3):
        method.losses(batch(step), batch(9 + step), step)
        method.after_step(step)
    assert all(float(weight_discrepancy(*pair)) < 1.9 for pair in pairs)


def test_without_an_auxiliary_head_there_is_one_pair() -> None:
    method = make(auxiliary=False)
    losses = method.losses(batch(0), batch(1), 0)
    method.after_step(0)
    assert method.optimisers().keys() == {"temporal_main", "spatial_main"}
    assert losses.keys() == {"ce", "itcr_main", "temporal_main", "spatial_main"}


def test_the_source_free_term_is_the_mean_over_clips_with_their_own_flow() -> None:
    torch.manual_seed(0)
    segmenter = build_segmenter("mini", "conv1x1", CLASSES).eval()  # fixed statistics: clips do not see each other
    method = DAVSNSF(segmenter, DAVSNSFSettings(itcr_weight=2.0), Setup(CLASSES, 6, 0))
    c = batch(0, n=3)
    together = method.losses(c, None, 0)
    for name in ("itcr_main", "itcr_auxiliary"):
        one_by_one = [
            method.losses(ClipBatch(*(x[i : i + 1] for x in (c.frames, c.flow, c.valid)), ("c",)), None, 0)[name]
            for i in range(3)
        ]
        torch.testing.assert_close(together[name], torch.stack(one_by_one).mean(), rtol=1e-4, atol=1e-7)
    out = segmenter(c.frames, c.flow, c.valid)
    p, q = (frame_scores(segmenter, out, k).main.softmax(1) for k in (-1, -2))
    expected = 2.0 * intra_domain_consistency(p, q, flow_at(c.flow[:, -1], (8, 16)))
    torch.testing.assert_close(together["itcr_main"], expected)


@pytest.mark.parametrize("bad", [{"itcr_weight": -1.0}, {"width": 0}, {"judged_stride": 9}, {"discriminator_lr": 2.0}])
def test_settings_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        DAVSNSettings(**bad)
