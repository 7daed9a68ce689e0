"""dt_st: thresholds, densities, when the teacher moves, and which pixels are pasted where."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.common import (
    Candidates,
    DensityRecord,
    Growing,
    PeakThresholds,
    confident,
    consistent,
    rare_classes,
    soft_neighbourhood_density,
)
from methods.dt_st import negative_cross_entropy


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Thresholds -----------------------------------------------------------------------------------------------------------


def test_thresholds_against_a_loop() -> None:
    thresholds = PeakThresholds(4, upper=0.7)
    thresholds.prior.copy_(torch.tensor([0.5, 0.001, 0.0003, 0.0]))
    p = (2 * torch.randn(3, 4, 5, 6, generator=gen())).softmax(1)
    label = thresholds(p)
    for n in range(3):
        confidence, guess = p[n].max(0)
        for y in range(5):
            for x in range(6):
                c = int(guess[y, x])
                peak = float(confidence[guess == c].max())
                limit = max(0.2, 0.7 * peak * (1 - math.exp(-float(thresholds.prior[c]) / 0.001)))
                assert int(label[n, y, x]) == (c if float(confidence[y, x]) > limit else 255)
    assert 0 < int((label == 255).sum()) < label.numel()


def test_a_threshold_by_hand() -> None:
    """chi = 0.001 gives 1 - 1/e = 0.632: with a peak of 0.9 the limit is 0.8 * 0.9 * 0.632 = 0.455; and a tie is not kept."""
    thresholds = PeakThresholds(2)
    p = torch.tensor([0.9, 0.46, 0.45]).view(1, 1, 1, 3)
    p = torch.cat([p, torch.full_like(p, 0.0)], 1)
    assert thresholds(p).flatten().tolist() == [0, 0, 255]
    thresholds.prior.fill_(1.0)
    assert PeakThresholds(2, upper=1.0)(p[..., 1:]).flatten().tolist() == [0, 0]
    exact = PeakThresholds(2, upper=0.0, lower=0.45)  # the limit itself
    assert exact(p).flatten().tolist() == [0, 0, 255]


def test_the_prior_starts_with_the_first_batch_that_has_the_class() -> None:
    thresholds = PeakThresholds(3)
    first = torch.tensor([0.75, 0.25, 0.0]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    thresholds.update(first)
    assert thresholds.prior.tolist() == pytest.approx([0.75, 0.25, 0.9 * 0.001])
    second = torch.tensor([0.25, 0.25, 0.5]).view(1, 3, 1, 1)
    thresholds.update(second)
    assert thresholds.prior.tolist() == pytest.approx([0.9 * 0.75 + 0.1 * 0.25, 0.25, 0.5])


def test_negative_labels_by_hand() -> None:
    """K = 2: 1/2 itself counts as unlikely; ln(1 + e^0) = ln 2."""
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).t().reshape(1, 2, 1, 2)
    scores = torch.tensor([[5.0, 0.0], [1.0, -1.0]]).t().reshape(1, 2, 1, 2)
    expected = (math.log(2) + math.log(1 + math.e) + math.log(1 + math.exp(-1))) / 3
    assert float(negative_cross_entropy(scores, p)) == pytest.approx(expected)
    sure = torch.full((1, 2, 1, 2), 0.6)
    assert float(negative_cross_entropy(scores, sure)) == 0.0


# Densities ------------------------------------------------------------------------------------------------------------


def slow_density(p: Tensor, temperature: float) -> float:
    total = 0.0
    for i in range(len(p)):
        s = [float(p[i] @ p[j] / (p[i].norm() * p[j].norm())) / temperature for j in range(len(p)) if j != i]
        z = sum(math.exp(v) for v in s)
        total -= sum(math.exp(v) / z * math.log(math.exp(v) / z) for v in s)
    return total / len(p)


def test_density_against_a_loop_and_at_its_ends() -> None:
    p = (2 * torch.randn(12, 4, generator=gen())).softmax(1)
    assert float(soft_neighbourhood_density(p)) == pytest.approx(slow_density(p, 0.05), rel=1e-3)
    assert float(soft_neighbourhood_density(p, 1.0)) == pytest.approx(slow_density(p, 1.0), rel=0.1)
    assert float(soft_neighbourhood_density(p[:2])) == pytest.approx(0.0, abs=1e-6)  # one neighbour each
    assert float(soft_neighbourhood_density(torch.eye(4)[:1].expand(9, 4))) == pytest.approx(math.log(8), rel=1e-4)


def test_three_clusters_of_ten_have_nine_neighbours_each_and_all_alike_is_the_most_there_is() -> None:
    assert float(soft_neighbourhood_density(torch.eye(3).repeat(10, 1))) == pytest.approx(math.log(9), rel=1e-4)
    assert float(soft_neighbourhood_density(torch.ones(30, 3))) == pytest.approx(math.log(29), rel=1e-4)


def test_a_record_compares_the_same_pixels_of_the_same_pictures() -> None:
    record = DensityRecord()
    inputs: list[Tensor] = []
    sharp = {"factor": 1.0}

    def predict(frames: Tensor) -> Tensor:
        inputs.append(frames)
        return (sharp["factor"] * 8 * frames).softmax(1)

    pictures = torch.randint(0, 256, (3, 2, 3, 4, 6), generator=gen()).float() / 255
    pixels = [torch.randperm(48, generator=gen(k))[:10] for k in range(3)]
    for frames, places in zip(pictures, pixels, strict=True):
        record.add(frames, places, predict)
    assert len(record) == 3 and float(record.improved(predict)) == 0.0
    for frames, stored in zip(pictures, inputs[3:], strict=True):
        assert torch.equal(frames, stored)  # 8 bits lose nothing of an 8-bit picture
    for k in range(3):
        flat = (8 * pictures[k]).softmax(1).movedim(1, -1).reshape(-1, 3)[pixels[k]]
        assert float(record.densities[k]) == pytest.approx(slow_density(flat, 0.05), rel=1e-3)
    then = record.densities.clone()
    sharp["factor"] = 0.0  # all alike: the densest there is
    assert float(record.improved(predict)) == 1.0
    sharp["factor"] = 1.0
    record.densities[0] = 0.0
    assert float(record.improved(predict)) == pytest.approx(1 / 3)
    copy = DensityRecord()
    copy.load_state_dict(record.state_dict())
    assert len(copy) == 3 and torch.equal(copy.frames, record.frames) and torch.equal(copy.densities[1:], then[1:])
    record.clear()
    assert len(record) == 0 and record.frames.dtype == torch.uint8
    record.load_state_dict(DensityRecord().state_dict())
    assert len(record) == 0 and isinstance(record, Growing)


# Candidates -----------------------------------------------------------------------------------------------------------


def test_the_confident_half_of_each_class() -> None:
    confidence = torch.tensor([[[0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.7, 0.6]]])
    label = torch.tensor([[[0, 0, 0, 0], [2, 2, 2, 1]]], dtype=torch.uint8)
    assert confident(confidence, label, 3, 0.5).tolist() == [[[255, 255, 0, 0], [2, 255, 255, 1]]]
    assert confident(confidence, label, 3, 1.0).tolist() == label.tolist()


def test_the_consistent_half_of_the_images_of_each_class() -> None:
    current = torch.tensor([[[0, 0, 0, 1]], [[0, 0, 1, 1]], [[0, 1, 1, 1]], [[1, 1, 1, 1]]])
    earlier = torch.tensor([[[0, 0, 0, 1]], [[0, 1, 1, 1]], [[1, 0, 1, 1]], [[0, 0, 1, 1]]])
    # IoU of class 0: 1, 1/2, 0, 0 (gone); kept is the upper half of those above 0. Of class 1: 1, 2/3, 1/2, 1/2.
    labels = consistent(current, earlier, 2, 0.5)
    assert labels.tolist() == [[[0, 0, 0, 1]], [[255, 255, 1, 1]], [[255] * 4], [[255] * 4]]


def test_rare_classes_are_the_lower_half() -> None:
    assert rare_classes(torch.tensor([0.5, 0.1, 0.2, 0.15, 0.05])).tolist() == [4, 1]
    assert rare_classes(torch.tensor([1.0])).tolist() == [0]


def filled(stand_in: Any, per_class: int = 2) -> tuple[Candidates, Any, Tensor]:
    """Six clips; class 1 is in clips 0 to 3, class 3 in clip 5 alone, class 2 in none (too few pixels)."""
    batches = [stand_in.clips(seed, n=2, size=(8, 16)) for seed in range(3)]
    labels = torch.full((6, 2, 4), 255)
    labels[:4, 0] = 1
    labels[5, 1] = 3
    labels[:, 1, 0] = 2
    candidates = Candidates()
    candidates.fill(batches, labels, torch.tensor([3, 2, 1]), per_class, 2, gen())
    return candidates, torch.cat([b.frames[:, -1] for b in batches]), labels


def test_candidates_are_frames_with_enough_of_their_class(stand_in: Any) -> None:
    candidates, frames, labels = filled(stand_in)
    assert candidates.filled.tolist() == [[True, False], [False, False], [True, True]]
    pictures = (255 * frames).round().to(torch.uint8)
    for row, c in enumerate((3, 2, 1)):
        for slot in range(2):
            if candidates.filled[row, slot]:
                clip = next(i for i in range(6) if torch.equal(pictures[i], candidates.frames[row, slot]))
                assert torch.equal(candidates.masks[row, slot], labels[clip] == c)
                assert clip == 5 if c == 3 else clip < 4
    chosen = {tuple(filled(stand_in)[0].frames[2].flatten().tolist()) for _ in range(2)}
    assert len(chosen) == 1  # the same draw again


def test_a_draw_follows_the_chances_and_leaves_empty_classes_out(stand_in: Any) -> None:
    candidates, _, _ = filled(stand_in)
    chances = torch.tensor([1.0, 0.25, 1.0, 0.75, 1.0])
    frames, label = candidates.draw(2000, chances, gen())
    assert frames.shape == (2000, 3, 8, 16) and label.shape == (2000, 2, 4)
    classes = torch.where(label == 255, -1, label).flatten(1).max(1).values
    assert set(classes.tolist()) == {1, 3} and float((classes == 1).float().mean()) == pytest.approx(0.25, abs=0.04)
    of_one = frames[classes == 1].flatten(1)
    assert 0.4 < float((of_one == of_one[0]).all(1).float().mean()) < 0.6  # both frames of class 1
    restored = Candidates()
    restored.load_state_dict(candidates.state_dict())
    assert torch.equal(restored.draw(9, chances, gen())[1], candidates.draw(9, chances, gen())[1])


def test_where_nothing_is_trusted_nothing_is_drawn(stand_in: Any) -> None:
    candidates = Candidates()
    candidates.fill([stand_in.clips(n=2, size=(8, 16))], torch.full((2, 2, 4), 255), torch.tensor([0, 1]), 3, 1, gen())
    assert (candidates.draw(5, torch.ones(4), gen())[1] == 255).all()


# The method -----------------------------------------------------------------------------------------------------------


def test_the_teacher_moves_when_its_student_has_improved_or_it_took_too_long(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks after 9, 12, ... notes; after 33 the teacher moves whatever they say."""
    share, looks = {"now": 0.5}, []

    def improved(record: DensityRecord, predict: Any) -> Tensor:
        looks.append(len(record))
        return torch.tensor(share["now"])

    monkeypatch.setattr(DensityRecord, "improved", improved)
    method = stand_in.method("dt_st", ema_decay=0.75)
    teacher = stand_in.weights(method.teacher)
    with torch.no_grad():
        for p in method.segmenter.parameters():
            p.add_(1.0)

    def after(steps: int) -> None:
        for step in range(steps):
            method.note(stand_in.clips(n=1).frames[:, -1], 128, step)
            method.after_step(step)

    after(32)
    assert looks == [9, 12, 15, 18, 21, 24, 27, 30] and len(method.record) == 32  # half is not more than half
    assert all(torch.equal(a, b) for a, b in zip(teacher, stand_in.weights(method.teacher), strict=True))
    after(1)
    assert len(method.record) == 0 and looks[-1] == 30
    for old, mean in zip(teacher, stand_in.weights(method.teacher), strict=True):
        torch.testing.assert_close(mean, old + 0.25)
    share["now"], before = 0.51, len(looks)
    after(9)
    assert looks[before:] == [9] and len(method.record) == 0
    assert method.evaluates_average and method.evaluated("student") is method.teacher


def test_what_is_pasted_is_in_frame_t_alone_and_has_no_past(stand_in: Any) -> None:
    method, target = stand_in.method("dt_st", max_zoom=1.0, least=1, share=1.0), stand_in.clips()
    method.start_round(0, [target])
    label = torch.full((2, 8, 16), 4)
    view, mixed = method.paste(target, label, 0)
    pasted = (mixed != label) | (view.frames[:, -1] != target.frames[:, -1]).any(1)[:, ::4, ::4]
    wide = pasted.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert 0 < int(pasted.sum()) < pasted.numel()
    assert torch.equal(view.frames[:, 0], target.frames[:, 0]) and torch.equal(view.flow, target.flow)
    assert torch.equal(view.valid[:, 0], target.valid[:, 0] & ~wide)
    assert torch.equal(view.frames[:, -1].movedim(1, -1)[~wide], target.frames[:, -1].movedim(1, -1)[~wide])
    assert (mixed[~pasted] == 4).all()
    for n in range(2):  # one class per clip
        assert len(set(mixed[n][pasted[n]].tolist())) <= 1


def test_later_rounds_trust_what_stayed_the_same(stand_in: Any) -> None:
    method, target = stand_in.method("dt_st", least=1, share=1.0), stand_in.clips()
    assert method.round_steps() == (0, 2, 4)
    method.start_round(0, [target])
    first = method.bank.of(target.keys)
    method.bank.put(target.keys, (first + 1) % 5)  # as if every pixel had changed
    method.bank.close()
    method.start_round(1, [target])
    assert not method.candidates.filled.any() and torch.equal(method.bank.of(target.keys), first)
    method.start_round(2, [target])
    assert method.candidates.filled.any()


def test_terms(stand_in: Any) -> None:
    losses = stand_in.step(stand_in.method("dt_st"), 0)
    assert losses.keys() == {"ce", "negative"} and losses["negative"] > 0


def test_a_step_of_several_batches_is_noted_once(stand_in: Any) -> None:
    """What ``first``, ``every`` and ``longest`` count are steps."""
    method = stand_in.method("dt_st")
    method.start_round(0, [stand_in.clips()])
    for method.part in (0, 1, 2):
        method.losses(stand_in.clips(), None, 0)
    assert len(method.record) == 1
