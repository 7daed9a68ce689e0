"""The parts that methods share: averages of weights, the teacher, losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from bench.networks.build import build_segmenter
from bench.runs.config import method_class
from methods.base import LabelledBatch, Method, Setup, Supervision
from methods.common.checks import in_range
from methods.common.ema import ema_update, frozen_copy
from methods.common.losses import balanced_weights, supervised, upsampled_cross_entropy
from methods.common.teacher import Teacher, noisy
from stpl import confident_labels, pseudo_label_cross_entropy
from tests.methods.batches import CLASSES, clips, seeded

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
    previous = teacher.label_previous(batch, labels.out, 0.0, torch.Generator())
    assert not labels.out.scores.requires_grad
    twin = frozen_copy(student)
    with torch.no_grad():
        out = twin(batch.frames, batch.flow, batch.valid)
        earlier = twin.classify(twin.fuse_alone(out.encoded[-2])).softmax(1)
    current = out.scores.softmax(1)
    assert torch.equal(labels.current, confident_labels(current, teacher.thresholds.thresholds)[0])
    assert torch.equal(previous, confident_labels(earlier, teacher.thresholds.thresholds)[0])
    share = (labels.current != 255).float().mean()
    assert 0.4 < share < 0.6  # half of each predicted class is dropped


def test_the_teacher_restarts_as_the_student_and_follows_it() -> None:
    student, restarted = segmenter(0), segmenter(1)
    teacher = Teacher(student, CLASSES, 0.5, 0.9)
    teacher.restart(restarted)
    assert all(
        torch.equal(a, b)
        for a, b in zip(teacher.segmenter.state_dict().values(), restarted.state_dict().values(), strict=True)
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
    for supervision in (Supervision(), Supervision(loss="plain")):
        losses = supervised(model, labelled, supervision)
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

    batches: list[LabelledBatch] = []
    monkeypatch.setattr(module, "supervised", lambda model, batch, supervision: batches.append(batch) or {})
    batch = clips()
    label = torch.randint(0, CLASSES, (2, 32, 48), generator=seeded())
    labelled = LabelledBatch(batch.frames, batch.flow, batch.valid, batch.keys, label)

    def view(step: int, **options: Any) -> LabelledBatch:
        setup = Setup(CLASSES, 10, 0, Supervision(**options))
        method_class("oracle")(segmenter(), None, setup).losses(labelled, None, step)
        return batches[-1]

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

    batches: list[LabelledBatch] = []
    monkeypatch.setattr("methods.common.augment.photometric", lambda frames, *_: frames)
    monkeypatch.setattr(module, "supervised", lambda model, batch, supervision: batches.append(batch) or {})
    oracle: Method = method_class("oracle")(segmenter(), None, Setup(CLASSES, 10, 0))
    label = torch.randint(0, CLASSES, (2, 32, 48), generator=seeded())
    frames = (label / CLASSES).float()[:, None, None].expand(2, 2, 3, 32, 48).contiguous()
    batch = clips()
    for step in range(4):
        oracle.losses(LabelledBatch(frames, batch.flow, batch.valid, batch.keys, label), None, step)
        assert torch.equal((batches[-1].frames[:, -1, 0] * CLASSES).round().long(), batches[-1].label)
    moved = [not torch.equal(view.label[i], label[i]) for view in batches for i in range(2)]
    assert any(moved) and not all(moved)


# Labels and ranges ------------------------------------------------------------------------------------------------------


def test_a_range_includes_its_ends_and_no_nan() -> None:
    in_range("x", 0, 0, 1)
    in_range("x", 1, 0, 1)
    for value in (-1e-9, 1 + 1e-9, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"x must be in 0\.\.1"):
            in_range("x", value, 0, 1)


def test_noise_replaces_a_share_of_the_labels_and_leaves_what_is_ignored() -> None:
    labels = torch.randint(0, 5, (4, 40, 50), generator=torch.Generator().manual_seed(0))
    labels[:, :, :10] = 255
    assert noisy(labels, 0.0, 5, torch.Generator()) is labels
    changed = noisy(labels, 0.4, 5, torch.Generator().manual_seed(1))
    assert torch.equal(changed, noisy(labels, 0.4, 5, torch.Generator().manual_seed(1)))
    assert (changed[:, :, :10] == 255).all() and changed[:, :, 10:].max() < 5
    wrong = float((changed != labels)[:, :, 10:].float().mean())
    assert wrong == pytest.approx(0.4 * 4 / 5, abs=0.02)  # a fifth of the drawn classes is right by chance
    drawn = noisy(labels, 1.0, 5, torch.Generator().manual_seed(2))[:, :, 10:]
    assert torch.bincount(drawn.flatten(), minlength=5).float().div(drawn.numel()).sub(0.2).abs().max() < 0.02
