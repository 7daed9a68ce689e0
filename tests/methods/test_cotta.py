"""cotta: views are averaged where the anchor is unsure, a share of the weights goes back, the teacher is the average."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import ClipBatch
from methods.common import averaged_views, mirrored, restore_weights
from methods.cotta import VIEWS


def pair() -> tuple[nn.Module, nn.Module]:
    model, anchor = nn.Linear(100, 100), nn.Linear(100, 100)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
        for p in anchor.parameters():
            p.fill_(2.0)
    return model, anchor


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Restoration ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.0, 0.0), (0.25, 0.23, 0.27), (1.0, 1.0, 1.0)])
def test_the_share_of_weights_that_goes_back(share: float, low: float, high: float) -> None:
    model, anchor = pair()
    restore_weights(model, anchor, share, gen())
    values = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert ((values == 1) | (values == 2)).all()  # an element goes back as a whole
    assert low <= float((values == 2).float().mean()) <= high
    assert all((p == 2).all() for p in anchor.parameters())


def test_frozen_weights_and_buffers_stay_and_the_draw_is_the_generators() -> None:
    model, anchor = nn.BatchNorm2d(1000), nn.BatchNorm2d(1000)
    model.running_mean.fill_(5.0)  # type: ignore[union-attr]
    with torch.no_grad():
        anchor.weight.fill_(2.0)
        anchor.bias.fill_(2.0)
    model.bias.requires_grad_(False)
    restore_weights(model, anchor, 0.5, gen(1))
    assert (model.running_mean == 5).all() and (model.bias == 0).all()  # type: ignore[union-attr]
    twin = nn.BatchNorm2d(1000)
    restore_weights(twin, anchor, 0.5, gen(1))
    assert torch.equal(model.weight, twin.weight) and 400 < int((model.weight == 2).sum()) < 600


def test_the_teacher_follows_before_the_student_is_restored(stand_in: Any) -> None:
    method = stand_in.method("cotta", restore=1.0, ema_decay=0.75)
    source, before = stand_in.weights(method.anchor), stand_in.weights(method.teacher)
    with torch.no_grad():
        for p in method.segmenter.parameters():
            p.add_(1.0)
    stepped = stand_in.weights(method.segmenter)
    method.after_step(0)
    for old, new, mean in zip(before, stepped, stand_in.weights(method.teacher), strict=True):
        torch.testing.assert_close(mean, 0.75 * old + 0.25 * new)
    assert all(torch.equal(a, b) for a, b in zip(source, stand_in.weights(method.segmenter), strict=True))
    assert method.evaluates_average and method.evaluated("student") is method.teacher


# Views ----------------------------------------------------------------------------------------------------------------


def slow_view(segmenter: nn.Module, clips: ClipBatch, percent: int, mirror: bool) -> Tensor:
    """Of a single still frame, by hand: resize, mirror, predict, and back."""
    frames = clips.frames[:, -1]
    size = [round(side * percent / 800) * 8 for side in frames.shape[-2:]]
    frames = F.interpolate(frames.flip(-1) if mirror else frames, size, mode="bilinear", align_corners=False)
    scores = segmenter(torch.stack([frames, frames], 1), None, None).scores
    back = F.interpolate(scores, clips.frames.shape[-2:], mode="bilinear", align_corners=True)
    return (back.flip(-1) if mirror else back).softmax(1)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_against_doing_it_by_hand(stand_in: Any, view: tuple[int, bool]) -> None:
    segmenter, clips = stand_in.painter(), stand_in.clips(size=(16, 32))
    averaged = averaged_views(segmenter, clips, [view], (16, 32))
    torch.testing.assert_close(averaged, slow_view(segmenter, clips, *view), atol=1e-5, rtol=0)


def test_the_mean_is_over_views_and_the_size_of_the_first_view_is_the_default(stand_in: Any) -> None:
    segmenter, clips = stand_in.painter(), stand_in.clips(size=(16, 32))
    views = [(100, False), (150, True), (50, False)]
    mean = sum(slow_view(segmenter, clips, *view) for view in views) / 3
    torch.testing.assert_close(averaged_views(segmenter, clips, views), mean, atol=1e-5, rtol=0)
    odd = stand_in.clips(size=(17, 33))  # the plain view is not brought to multiples of eight
    assert averaged_views(segmenter, odd, [(100, False)]).shape[-2:] == (17, 33)
    with pytest.raises(ValueError, match="at least one view"):
        averaged_views(segmenter, clips, [])


def test_mirroring_twice_is_nothing_and_turns_the_flow(stand_in: Any) -> None:
    clips = stand_in.clips(size=(16, 32))
    once, twice = mirrored(clips), mirrored(mirrored(clips))
    torch.testing.assert_close(once.frames, clips.frames.flip(-1))
    torch.testing.assert_close(once.flow[:, :, 0], -clips.flow[:, :, 0].flip(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(twice.frames, clips.frames)
    assert torch.equal(twice.valid, clips.valid)


# Labels ---------------------------------------------------------------------------------------------------------------


def test_the_anchor_decides_pixel_by_pixel(stand_in: Any) -> None:
    method = stand_in.method("cotta", views=len(VIEWS))
    clips = stand_in.clips(size=(16, 32))
    method.teacher, method.anchor = stand_in.painter(3.0), stand_in.painter(5.0)
    confidence = method.anchor(clips.frames, None, None).scores.softmax(1).max(1).values.detach()
    object.__setattr__(method.settings, "threshold", float(confidence.median()))
    label = method.label(clips, 0)
    plain = method.teacher(clips.frames, None, None).scores.softmax(1)
    mean = sum(slow_view(method.teacher, clips, *view) for view in VIEWS) / len(VIEWS)
    sure = (confidence > confidence.median())[:, None].expand_as(label)
    torch.testing.assert_close(label[sure], plain[sure])
    torch.testing.assert_close(label[~sure], mean[~sure], atol=1e-5, rtol=0)
    assert 0.3 < float(sure.float().mean()) < 0.7 and not torch.allclose(plain, mean, atol=1e-3)
    assert not label.requires_grad


def test_views_are_drawn_without_repetition_anew_in_each_step(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import methods.cotta as module

    steps: list[tuple[Any, ...]] = []

    def spied(segmenter: Any, clips: Any, views: Any, size: Any) -> Tensor:
        steps.append(tuple(views))
        return averaged_views(segmenter, clips, views, size)

    monkeypatch.setattr(module, "averaged_views", spied)
    method, clips = stand_in.method("cotta", threshold=0.0, views=3), stand_in.clips()
    for step in range(20):
        label = method.label(clips, step)
    assert all(len(set(drawn)) == 3 and set(drawn) <= set(VIEWS) for drawn in steps)
    assert len(set(steps)) > 15 and {view for drawn in steps for view in drawn} == set(VIEWS)
    plain = method.teacher(clips.frames, clips.flow, clips.valid).scores.float().softmax(1)
    torch.testing.assert_close(label, plain)  # every anchor is more confident than 0
