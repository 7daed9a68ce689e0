"""The parts that methods share: views, teacher, averages, losses; and what stpl adds to self-training."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.errors import UsageError
from bench.networks.build import build_segmenter
from bench.runs.config import method_class, resolve_settings
from bench.runs.settings import settings_of
from methods.base import ClipBatch, LabelledBatch, Method, Setup, Supervision
from methods.common.augment import Geometry, photometric, strong_view
from methods.common.checks import in_range
from methods.common.ema import ema_update, frozen_copy
from methods.common.losses import balanced_weights, supervised, upsampled_cross_entropy
from methods.common.teacher import Teacher
from stpl import backward_warp, confident_labels, pseudo_label_cross_entropy

CLASSES = 5


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def geometry(sign: float = 1.0, zoom: float = 1.0, x: float = 0.0, y: float = 0.0) -> Geometry:
    return Geometry(torch.tensor([sign]), torch.tensor([zoom]), torch.tensor([[x, y]]))


def smooth(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth random map: resampling errors are small, so that geometry alone is compared."""
    coarse = torch.rand(1, channels, 5, 7, generator=seeded(seed), dtype=torch.float64)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)


def clips(n: int = 2, t: int = 2, height: int = 32, width: int = 48, seed: int = 0) -> ClipBatch:
    g = seeded(seed)
    frames = torch.rand(n, t, 3, height, width, generator=g)
    flow = 3 * torch.randn(n, t - 1, 2, height, width, generator=g)
    valid = torch.rand(n, t - 1, height, width, generator=g) > 0.2
    return ClipBatch(frames, flow, valid, tuple(f"c{i}" for i in range(n)))


# Geometry -------------------------------------------------------------------------------------------------------------


def test_no_geometry_is_the_identity() -> None:
    batch = clips(1)
    moved = geometry().clips(batch)
    torch.testing.assert_close(moved.frames, batch.frames, atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.flow, batch.flow, atol=1e-4, rtol=0)
    assert torch.equal(moved.valid, batch.valid) and moved.keys == batch.keys
    label = torch.randint(0, 9, (1, 32, 48), generator=seeded())
    assert torch.equal(geometry().labels(label), label)


def test_a_mirror_flips_columns_and_negates_x_flow() -> None:
    batch = clips(1)
    moved = geometry(sign=-1).clips(batch)
    torch.testing.assert_close(moved.frames, batch.frames.flip(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.flow[:, :, 0], -batch.flow[:, :, 0].flip(-1), atol=1e-4, rtol=0)
    torch.testing.assert_close(moved.flow[:, :, 1], batch.flow[:, :, 1].flip(-1), atol=1e-4, rtol=0)
    assert torch.equal(moved.valid, batch.valid.flip(-1))
    label = torch.randint(0, 9, (1, 32, 48), generator=seeded())
    assert torch.equal(geometry(sign=-1).labels(label), label.flip(-1))


def test_zoom_by_two_shows_a_quarter_and_doubles_the_flow() -> None:
    flow = torch.full((1, 2, 8, 8), 3.0)
    assert torch.equal(geometry(zoom=2).flow(flow), torch.full((1, 2, 8, 8), 6.0))
    label = torch.arange(64).view(1, 8, 8)
    corner = geometry(zoom=2, x=-0.5, y=0.5).labels(label)  # left and lower quarter
    assert torch.equal(corner, label[:, 4:, :4].repeat_interleave(2, 1).repeat_interleave(2, 2))


@pytest.mark.parametrize("seed", range(4))
def test_labels_at_lower_resolution_move_with_the_image(seed: int) -> None:
    """Pseudo-labels have the scores' size, frames the image's; both show the same crop."""
    g = Geometry.draw(1, 2.0, seeded(seed))
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 32, 64)
    small = torch.linspace(0, 1, 16).expand(1, 1, 8, 16)
    fine, coarse = g.maps(ramp), g.maps(small)
    pooled = F.avg_pool2d(fine, 4)
    # Pixel centres of the two grids differ by a fraction of a coarse pixel, which a ramp shows as up to 1/16.
    assert (pooled - coarse).abs().max() < 1 / 16
    assert (g.labels((small[:, 0] * 15).round().long()) / 15 - coarse[:, 0]).abs().max() < 1 / 15


@pytest.mark.parametrize(
    "g",
    [geometry(-1), geometry(1, 1.5, 0.2, -0.1), geometry(-1, 1.3, -0.2, 0.15), geometry(1, 2.0, 0.5, -0.5)],
    ids=["mirror", "zoom", "both", "corner"],
)
def test_warping_the_moved_clip_is_moving_the_warped_clip(g: Geometry) -> None:
    """Images and flow stay consistent: what flow says of the pixels is true in the view as well."""
    image, flow = smooth(3, 64, 96).float(), 4 * (smooth(2, 64, 96, 1) - 0.5).float()
    before = g.maps(backward_warp(image, flow, padding="border"))
    after = backward_warp(g.maps(image), g.flow(flow), padding="border")
    inner = (..., slice(12, -12), slice(12, -12))  # where no vector leads out of the crop
    assert (before - after)[inner].abs().max() < 5e-3
    assert (after - g.maps(image))[inner].abs().max() > 0.05  # the flow did move something


@pytest.mark.parametrize("seed", range(3))
def test_a_draw_stays_inside_the_image_and_is_its_own_for_each_clip(seed: int) -> None:
    g = Geometry.draw(200, 1.5, seeded(seed))
    assert set(g.sign.tolist()) == {-1.0, 1.0} and 0.35 < (g.sign < 0).float().mean() < 0.65
    assert g.zoom.min() >= 1 and g.zoom.max() <= 1.5 and g.zoom.std() > 0.1
    assert (g.offset.abs() + 1 / g.zoom[:, None] <= 1 + 1e-6).all()
    assert g.offset[:, 0].ne(g.offset[:, 1]).all()
    again = Geometry.draw(200, 1.5, seeded(seed))
    assert torch.equal(g.sign, again.sign) and torch.equal(g.zoom, again.zoom) and torch.equal(g.offset, again.offset)
    assert (Geometry.draw(50, 1.5, seeded(seed), mirror=False).sign == 1).all()


def test_a_smaller_clip_has_black_without_label_and_flow_around_it() -> None:
    """Zoom 1/2 in the middle: a quarter of the pixels shows the clip, at half its flow."""
    g = Geometry(torch.ones(1), torch.full((1,), 0.5), torch.zeros(1, 2))
    batch = ClipBatch(
        torch.ones(1, 2, 3, 32, 48), torch.full((1, 1, 2, 32, 48), 4.0), torch.ones(1, 1, 32, 48) > 0, ("a",)
    )
    view, label = g.clips(batch), g.labels(torch.full((1, 32, 48), 3))
    inside = torch.zeros(32, 48, dtype=torch.bool)
    inside[8:24, 12:36] = True
    assert torch.equal(view.frames[0, 0, 0], inside.float()) and torch.equal(view.valid[0, 0], inside)
    assert torch.equal(view.flow[0, 0, 0], 2.0 * inside) and torch.equal(label[0] == 3, inside)
    assert (label[0][~inside] == 255).all()
    drawn = Geometry.draw(200, 1.5, seeded(), min_zoom=0.5)
    assert 0.5 <= drawn.zoom.min() < 0.6 and 1.4 < drawn.zoom.max() <= 1.5
    assert torch.equal(Geometry.draw(4, 1.5, seeded()).zoom, Geometry.draw(4, 1.5, seeded(), min_zoom=1.0).zoom)


def test_geometry_is_the_same_for_all_frames_of_a_clip() -> None:
    batch = clips(3, t=3)
    still = ClipBatch(batch.frames[:, :1].expand(-1, 3, -1, -1, -1).contiguous(), batch.flow, batch.valid, batch.keys)
    moved = Geometry.draw(3, 1.5, seeded()).clips(still).frames
    assert torch.equal(moved[:, 0], moved[:, 1]) and torch.equal(moved[:, 0], moved[:, 2])


# Photometric noise ----------------------------------------------------------------------------------------------------


def test_strength_zero_changes_nothing() -> None:
    frames = clips().frames
    torch.testing.assert_close(photometric(frames, 0.0, seeded()), frames, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(6))
def test_all_frames_of_a_clip_get_the_same_draw_and_clips_their_own(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grain alone is each frame's own; without it, equal frames stay equal."""
    monkeypatch.setattr(torch, "randn", lambda shape, generator: torch.zeros(shape))
    frame = smooth(3, 32, 48).float()
    frames = frame.expand(2, 3, 3, 32, 48).contiguous()
    out = photometric(frames, 1.0, seeded(seed))
    assert torch.equal(out[:, 0], out[:, 1]) and torch.equal(out[:, 0], out[:, 2])
    assert not torch.equal(out[0], out[1]) and not torch.equal(out[0, 0], frame[0])


def test_grain_differs_between_frames() -> None:
    out = photometric(torch.full((1, 2, 3, 16, 16), 0.5), 1.0, seeded(1))
    assert not torch.equal(out[:, 0], out[:, 1])
    assert (out[:, 0] - out[:, 1]).std() < 0.05 * math.sqrt(2) * 1.1


@pytest.mark.parametrize("strength", [0.3, 1.0, 1.5])
def test_noise_stays_in_range_grows_with_strength_and_follows_its_seed(strength: float) -> None:
    frames = clips(4).frames
    out = photometric(frames, strength, seeded(3))
    assert out.shape == frames.shape and out.min() >= 0 and out.max() <= 1 and torch.isfinite(out).all()
    assert torch.equal(out, photometric(frames, strength, seeded(3)))
    assert not torch.equal(out, photometric(frames, strength, seeded(4)))
    weaker = photometric(frames, strength / 3, seeded(3))
    assert (out - frames).abs().mean() > (weaker - frames).abs().mean()


def test_the_strong_view_moves_flow_but_only_frames_get_noise() -> None:
    batch, g = clips(), Geometry.draw(2, 1.5, seeded())
    view, moved = strong_view(batch, g, 1.0, seeded(1)), g.clips(batch)
    assert torch.equal(view.flow, moved.flow) and torch.equal(view.valid, moved.valid) and view.keys == batch.keys
    assert torch.equal(view.frames, photometric(moved.frames, 1.0, seeded(1)))


# Averages and the teacher ---------------------------------------------------------------------------------------------


class Two(nn.Module):
    def __init__(self, weight: float, statistic: float, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.register_buffer("statistic", torch.tensor(statistic))
        self.register_buffer("count", torch.tensor(count))


def test_the_average_worked_by_hand() -> None:
    """0.9 * 10 + 0.1 * 20 = 11, then 0.9 * 11 + 0.1 * 20 = 11.9; there is no ramp in the first steps."""
    average, model = Two(10.0, 1.0, 3), Two(20.0, 2.0, 7)
    ema_update(average, model, 0.9)
    assert average.weight.item() == pytest.approx(11.0) and average.statistic.item() == pytest.approx(1.1)
    assert average.count.item() == 7 and model.weight.item() == 20.0
    ema_update(average, model, 0.9)
    assert average.weight.item() == pytest.approx(11.9)


def test_decay_zero_is_a_copy_and_decay_one_stands_still() -> None:
    average, model = Two(10.0, 1.0, 3), Two(20.0, 2.0, 7)
    ema_update(average, model, 0.0)
    assert average.weight.item() == 20.0 and average.statistic.item() == 2.0
    average = Two(10.0, 1.0, 3)
    ema_update(average, model, 1.0)
    assert average.weight.item() == pytest.approx(10.0)


def test_a_frozen_copy_is_apart_and_never_trained() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
    twin = frozen_copy(model)
    assert twin.training and not model.training and not any(p.requires_grad for p in twin.parameters())
    assert all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        model[0].weight.zero_()
    assert twin[0].weight.any()


def segmenter(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return build_segmenter("mini", "conv1x1", CLASSES).train()


def test_the_teacher_labels_both_frames_by_its_running_thresholds() -> None:
    student, batch = segmenter(), clips()
    teacher = Teacher(student, CLASSES, drop=0.5, cap=0.9)
    labels = teacher.label(batch, 0.0, torch.Generator())
    assert not labels.out.scores.requires_grad
    twin = frozen_copy(student)
    with torch.no_grad():
        out = twin(batch.frames, batch.flow, batch.valid)
        before = twin.classify(twin.fuse_alone(out.encoded[-2])).softmax(1)
    now = out.scores.softmax(1)
    assert torch.equal(labels.current, confident_labels(now, teacher.thresholds.thresholds)[0])
    assert torch.equal(labels.previous, confident_labels(before, teacher.thresholds.thresholds)[0])
    kept = (labels.current != 255).float().mean()
    assert 0.4 < kept < 0.6  # half of each predicted class is dropped


def test_the_teacher_restarts_as_the_student_and_follows_it() -> None:
    student, other = segmenter(0), segmenter(1)
    teacher = Teacher(student, CLASSES, 0.5, 0.9)
    teacher.restart(other)
    assert all(
        torch.equal(a, b)
        for a, b in zip(teacher.segmenter.state_dict().values(), other.state_dict().values(), strict=True)
    )
    teacher.follow(student, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(teacher.segmenter.parameters(), student.parameters(), strict=True))
    assert not any(p.requires_grad for p in teacher.parameters())


# Losses ---------------------------------------------------------------------------------------------------------------


def test_cross_entropy_by_hand_after_upsampling() -> None:
    """One pixel of scores (0, ln 3) over a 2x2 label: p = (1/4, 3/4) everywhere; labels 1, 0 and two ignored."""
    scores = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1)
    label = torch.tensor([[[1, 0], [255, 255]]])
    expected = (-math.log(3 / 4) - math.log(1 / 4)) / 2
    assert upsampled_cross_entropy(scores, label).item() == pytest.approx(expected)


def test_balanced_weights_by_hand() -> None:
    """Shares 3/4 and 1/4: weights proportional to (0.751)^-1/2 and (0.251)^-1/2, 1 on average over labelled pixels."""
    label = torch.tensor([[[0, 0, 0], [1, 255, 255]]])
    a, b = 0.751**-0.5, 0.251**-0.5
    mean = (3 * a + b) / 4
    expected = torch.tensor([[[a, a, a], [b, 0, 0]]]) / torch.tensor([[[mean, mean, mean], [mean, 1, 1]]])
    weight = balanced_weights(label, 4)
    torch.testing.assert_close(weight, expected)
    assert weight[label != 255].mean().item() == pytest.approx(1)
    assert not balanced_weights(torch.full((1, 2, 2), 255), 4).any()


def test_everything_ignored_is_zero_with_zero_gradient() -> None:
    model, batch = segmenter(), clips()
    labelled = LabelledBatch(batch.frames, batch.flow, batch.valid, batch.keys, torch.full((2, 32, 48), 255))
    for how in (Supervision(), Supervision(loss="plain")):
        losses = supervised(model, labelled, how)
        assert set(losses) == {"ce", "ce_aux"} and all(v.item() == 0 for v in losses.values())
    assert set(losses) == {"ce", "ce_aux"} and all(v.item() == 0 for v in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_the_auxiliary_head_counts_a_tenth() -> None:
    model, batch = segmenter(), clips()
    label = torch.randint(0, CLASSES, (2, 32, 48), generator=seeded())
    labelled = LabelledBatch(batch.frames, batch.flow, batch.valid, batch.keys, label)
    losses = supervised(model, labelled, Supervision())
    out = model(batch.frames, batch.flow, batch.valid)
    weight = balanced_weights(label, CLASSES)
    torch.testing.assert_close(losses["ce"], upsampled_cross_entropy(out.scores, label, weight))
    auxiliary = pseudo_label_cross_entropy(out.auxiliary_scores, label, weight)
    torch.testing.assert_close(losses["ce_aux"], 0.1 * auxiliary)


def test_plain_supervision_is_the_published_one() -> None:
    """Both heads' scores brought to the label's size with aligned corners, all labelled pixels alike (DA-VSN, TPS: loss_calc)."""
    model, batch = segmenter(), clips()
    label = torch.randint(0, CLASSES, (2, 32, 48), generator=seeded())
    label[:, :5] = 255
    labelled = LabelledBatch(batch.frames, batch.flow, batch.valid, batch.keys, label)
    losses = supervised(model, labelled, Supervision(loss="plain", auxiliary=0.3))
    out = model(batch.frames, batch.flow, batch.valid)
    for name, share, scores in (("ce", 1.0, out.scores), ("ce_aux", 0.3, out.auxiliary_scores)):
        upsampled = torch.nn.functional.interpolate(scores, (32, 48), mode="bilinear", align_corners=True)
        expected = torch.nn.functional.cross_entropy(upsampled, label, ignore_index=255)
        torch.testing.assert_close(losses[name], share * expected)


def test_training_from_scratch_sees_the_views_that_the_shift_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import methods.common.supervised as module

    seen: list[LabelledBatch] = []
    monkeypatch.setattr(module, "supervised", lambda model, batch, how: seen.append(batch) or {})
    batch = clips()
    label = torch.randint(0, CLASSES, (2, 32, 48), generator=seeded())
    labelled = LabelledBatch(batch.frames, batch.flow, batch.valid, batch.keys, label)

    def view(step: int, **asked: Any) -> LabelledBatch:
        setup = Setup(CLASSES, 10, 0, Supervision(**asked))
        method_class("oracle")(segmenter(), None, setup).losses(labelled, None, step)
        return seen[-1]

    assert view(0, mirror=False) is labelled  # untouched, not resampled
    turned = [not torch.equal(view(step).label, label) for step in range(4)]
    assert any(turned)
    jittered = view(0, mirror=False, jitter=0.5)
    assert jittered.label is label and not torch.equal(jittered.frames, labelled.frames)
    means = [clip.mean((-3, -2, -1)) for clip in (jittered.frames, labelled.frames)]
    assert jittered.frames.min() >= 0 and jittered.frames.max() <= 1 and not torch.allclose(*means)
    assert torch.equal(view(0, mirror=False, jitter=0.5).frames, jittered.frames)


def test_supervised_training_moves_labels_with_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that show their own label in grey still do so in the view that is trained on."""
    import methods.common.supervised as module

    seen: list[LabelledBatch] = []
    monkeypatch.setattr("methods.common.augment.photometric", lambda frames, *_: frames)
    monkeypatch.setattr(module, "supervised", lambda model, batch, how: seen.append(batch) or {})
    oracle: Method = method_class("oracle")(segmenter(), None, Setup(CLASSES, 10, 0))
    label = torch.randint(0, CLASSES, (2, 32, 48), generator=seeded())
    frames = (label / CLASSES).float()[:, None, None].expand(2, 2, 3, 32, 48).contiguous()
    batch = clips()
    for step in range(4):
        oracle.losses(LabelledBatch(frames, batch.flow, batch.valid, batch.keys, label), None, step)
        assert torch.equal((seen[-1].frames[:, -1, 0] * CLASSES).round().long(), seen[-1].label)
    moved = [not torch.equal(view.label[i], label[i]) for view in seen for i in range(2)]
    assert any(moved) and not all(moved)


# stpl and self_training -----------------------------------------------------------------------------------------------


def make(name: str, **overrides: Any) -> Method:
    torch.manual_seed(0)
    cls = method_class(name)
    model = build_segmenter("mini", "conv1x1", CLASSES)
    method: Method = cls(model, settings_of(name, resolve_settings(name, overrides)), Setup(CLASSES, 10, 0))
    method.restart()
    return method.train()


def trained(method: Method, steps: int) -> list[dict[str, float]]:
    optimiser = torch.optim.SGD(method.parameter_groups(0.01, 10.0), momentum=0.9)
    log = []
    for step in range(steps):
        losses = method.losses(clips(seed=step), None, step)
        log.append({k: v.item() for k, v in losses.items()})
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        method.after_step(step)
    return log


def shared_settings() -> dict[str, Any]:
    ours = resolve_settings("self_training", {})
    return {key: ours[key] for key in set(ours) & set(resolve_settings("stpl", {}))}


def test_stpl_has_all_settings_of_self_training() -> None:
    """By the same names, so that either can be run with the other's values; the defaults come from a search of their own."""
    assert set(resolve_settings("self_training", {})) <= set(resolve_settings("stpl", {}))


def test_without_a_teacher_the_student_labels_itself() -> None:
    """The same losses, over steps, as with an average that forgets at once; and nothing of a teacher is kept or trained."""
    alone = make("stpl", teacher="none")  # with the values of its own search
    forgetful = make(
        "stpl", **{**resolve_settings("stpl", {"teacher": "none"}), "teacher": "average", "ema_decay": 0.0}
    )
    assert trained(alone, 3) == trained(forgetful, 3)
    assert not any("teacher.segmenter" in name or "teacher_head" in name for name in alone.state_dict())
    assert alone.evaluated("teacher") is alone.segmenter is not forgetful.evaluated("teacher")
    size = sum(p.numel() for p in alone.parameters())
    assert size < 0.6 * sum(p.numel() for p in forgetful.parameters())
    labelled = alone.teacher.label(clips(), 0.0, seeded(), alone.segmenter)
    assert not labelled.out.scores.requires_grad


def test_stpl_without_contrast_is_self_training_bit_for_bit() -> None:
    """Same views, same teacher, same labels, same cross entropy, over steps in which all of them change."""
    ours, floor = make("stpl", contrast=False, **shared_settings()), make("self_training")
    assert trained(ours, 3) == trained(floor, 3)
    for (key, a), b in zip(ours.segmenter.state_dict().items(), floor.segmenter.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_the_first_cross_entropy_of_both_is_the_same_with_contrast_too() -> None:
    ours, floor = trained(make("stpl", **shared_settings()), 2), trained(make("self_training"), 2)
    assert ours[0]["ce"] == floor[0]["ce"] and ours[0]["contrast"] > 0
    assert ours[1]["ce"] != floor[1]["ce"]  # the contrast has moved the features


@pytest.mark.parametrize("weak_view", ["teacher", "student", "none"])
@pytest.mark.parametrize("times", ["both", "current"])
def test_what_enters_the_contrast(weak_view: str, times: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import methods.stpl as module

    maps: list[list[Tensor]] = []
    original = module.stpl_objective

    def spy(scores: Tensor, labels: Tensor, embeddings: list[Tensor], theirs: list[Tensor], **rest: Any) -> Any:
        maps.append(embeddings)
        assert len(embeddings) == len(theirs)
        return original(scores, labels, embeddings, theirs, **rest)

    monkeypatch.setattr(module, "stpl_objective", spy)
    make("stpl", weak_view=weak_view, times=times).losses(clips(), None, 0)
    views = 1 if weak_view == "none" else 2
    assert len(maps[0]) == views * (2 if times == "both" else 1)
    with_gradient = [z.requires_grad for z in maps[0]]
    expected = (
        [True] * len(maps[0])
        if weak_view != "teacher"
        else [True] * (len(maps[0]) // 2) + [False] * (len(maps[0]) // 2)
    )
    assert with_gradient == expected


def test_without_ce_only_the_contrast_is_left() -> None:
    assert set(make("stpl", ce=False).losses(clips(), None, 0)) == {"contrast"}
    assert set(make("stpl", contrast=False).losses(clips(), None, 0)) == {"ce"}


def test_the_contrast_reads_time() -> None:
    """The frame before matters: changing it alone changes the contrast."""
    batch = clips()
    other = batch.frames.clone()
    other[:, 0] = other[:, 0].flip(-1)
    changed = ClipBatch(other, batch.flow, batch.valid, batch.keys)
    assert make("stpl").losses(batch, None, 0)["contrast"] != make("stpl").losses(changed, None, 0)["contrast"]


@pytest.mark.parametrize(
    ("method", "overrides", "says"),
    [
        ("stpl", {"temperature": 0.001}, "temperature must be in 0.01..10, got 0.001"),
        ("stpl", {"contrast_weight": -0.1}, "contrast_weight must be in 0..100, got -0.1"),
        ("stpl", {"pixels_per_class": 0}, "pixels_per_class must be in 1..100000, got 0"),
        ("stpl", {"dimension": 1}, "dimension must be in 2..4096, got 1"),
        ("stpl", {"ema_decay": 1.1}, "ema_decay must be in 0..1, got 1.1"),
        ("stpl", {"contrast": False, "ce": False}, "contrast and ce are both off"),
        ("self_training", {"drop": 1}, "drop must be in 0..0.99, got 1"),
        ("self_training", {"cap": 1.01}, "cap must be in 0..1, got 1.01"),
        ("self_training", {"strength": 2}, "strength must be in 0..1.5, got 2"),
        ("self_training", {"max_zoom": 0.9}, "max_zoom must be in 1..4, got 0.9"),
    ],
)
def test_settings_out_of_range_name_the_field_and_what_is_allowed(
    method: str, overrides: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says.replace(".", r"\.")):
        resolve_settings(method, overrides)


def test_a_range_includes_its_ends_and_no_nan() -> None:
    in_range("x", 0, 0, 1)
    in_range("x", 1, 0, 1)
    for value in (-1e-9, 1 + 1e-9, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"x must be in 0\.\.1"):
            in_range("x", value, 0, 1)


def test_geometry_is_not_rounded_under_autocast() -> None:
    """bfloat16 has 8 bits: a grid computed in it is a third of a pixel off at 256 columns."""
    geometry = Geometry(torch.tensor([-1.0]), torch.tensor([1.23]), torch.tensor([[0.1, -0.05]]))
    ramp = torch.linspace(0, 255, 256).expand(1, 1, 128, 256)
    with torch.autocast("cpu", torch.bfloat16):
        moved = geometry.maps(ramp)
    assert torch.equal(moved, geometry.maps(ramp))


def test_noise_replaces_a_share_of_the_labels_and_leaves_what_is_ignored() -> None:
    from methods.common.teacher import noisy

    labels = torch.randint(0, 5, (4, 40, 50), generator=torch.Generator().manual_seed(0))
    labels[:, :, :10] = 255
    assert noisy(labels, 0.0, 5, torch.Generator()) is labels
    found = noisy(labels, 0.4, 5, torch.Generator().manual_seed(1))
    assert torch.equal(found, noisy(labels, 0.4, 5, torch.Generator().manual_seed(1)))
    assert (found[:, :, :10] == 255).all() and found[:, :, 10:].max() < 5
    wrong = float((found != labels)[:, :, 10:].float().mean())
    assert wrong == pytest.approx(0.4 * 4 / 5, abs=0.02)  # a fifth of the drawn classes is right by chance
    everything = noisy(labels, 1.0, 5, torch.Generator().manual_seed(2))[:, :, 10:]
    assert torch.bincount(everything.flatten(), minlength=5).float().div(everything.numel()).sub(0.2).abs().max() < 0.02
