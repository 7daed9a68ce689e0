"""cmom: thresholds that follow each class, each frame's own mask, and a memory of what source classes look like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.base import ClipBatch, LabelledBatch
from methods.common import ClassMemory, LabelBank, adapted, class_means, class_percentiles, label_adaptively
from methods.common.class_mix import class_mask


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Thresholds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_numpys(seed: int) -> None:
    g = gen(seed)
    confidence, label = torch.rand(200, generator=g), torch.randint(0, 4, (200,), generator=g)
    label[:4] = torch.arange(4)
    label[label == 3] = 2
    label[7] = 3  # a class of one
    fractions = torch.rand(4, generator=g)
    fractions[0], fractions[1] = 0.0, 1.0
    percentiles = class_percentiles(confidence, label, fractions)
    expected = [np.percentile(confidence[label == c].numpy(), 100 * float(fractions[c])) for c in range(4)]
    np.testing.assert_allclose(percentiles.numpy(), expected, rtol=1e-5)


def slow_thresholds(theta: list[float], confidence: Tensor, label: Tensor, share: float, power: float) -> list[float]:
    """IAST as CMOM's published code has it, class by class."""
    new = []
    for c, before in enumerate(theta):
        values = [before, *confidence[label == c].tolist()]
        quantile = float(np.percentile(values, 100 * (1 - share * before**power)))
        new.append(min(0.9 * before + 0.1 * quantile, 0.999))
    return new


def test_thresholds_follow_clip_by_clip_and_label_the_clip_they_come_from() -> None:
    g, clips, p = gen(), [], []
    for number in range(3):
        frames = torch.zeros(2, 2, 3, 4, 4)
        names = tuple(f"clip {2 * number + i}" for i in range(2))
        clips.append(ClipBatch(frames, torch.zeros(2, 1, 2, 4, 4), torch.ones(2, 1, 4, 4).bool(), names))
        p.append((3 * torch.randn(2, 4, 4, 4, generator=g)).softmax(1))
    bank, predictions = LabelBank(), iter(p)
    label_adaptively(bank, clips, lambda batch: next(predictions), 0.5, 2.0)
    theta = [0.9] * 4
    for batch, probabilities in zip(clips, p, strict=True):
        for key, probability in zip(batch.keys, probabilities, strict=True):
            confidence, label = probability.max(0)
            theta = slow_thresholds(theta, confidence, label, 0.5, 2.0)
            confident = torch.tensor(theta)[label] <= confidence
            assert torch.equal(bank.of((key,))[0], torch.where(confident, label, 255)), key
    assert len(set(theta)) == 4 and 0 < int((bank.of(("clip 5",)) == 255).sum()) < 16


def test_a_threshold_by_hand() -> None:
    """theta 0.5, share 0.2, power 1: the 90 % quantile of {0.5, 0.1, 0.3} is 0.3 + 0.8 (0.5 - 0.3) = 0.46; a class without a pixel
    keeps its threshold; and 0.999 is the largest there is."""
    theta = adapted(torch.tensor([0.5, 0.7]), torch.tensor([0.1, 0.3]), torch.tensor([0, 0]), 0.2, 1.0, 0.9)
    assert theta.tolist() == pytest.approx([0.9 * 0.5 + 0.1 * 0.46, 0.7])
    top = adapted(torch.tensor([1.0]), torch.tensor([1.0]), torch.tensor([0]), 0.2, 8.0, 0.9)
    assert top.tolist() == pytest.approx([0.999])


# Features of classes --------------------------------------------------------------------------------------------------


def test_means_of_classes_against_a_loop() -> None:
    features = torch.randn(2, 4, 3, 5, generator=gen(), dtype=torch.float64, requires_grad=True)
    label = torch.randint(0, 3, (2, 3, 5), generator=gen())
    label[0, 0] = 255
    label[1][label[1] == 2] = 0
    means, present = class_means(features, label, 4)
    for n in range(2):
        for c in range(4):
            mask = label[n] == c
            assert bool(present[n, c]) == bool(mask.any())
            expected = features[n][:, mask].mean(1) if mask.any() else torch.zeros(4, dtype=torch.float64)
            torch.testing.assert_close(means[n, c], expected)
    assert torch.autograd.gradcheck(lambda f: class_means(f, label, 4)[0], features)


def test_the_memory_is_a_ring_per_class_and_only_full_ones_count() -> None:
    memory, stored = ClassMemory(3, 2, 4), [[], [], []]  # type: ignore[var-annotated]
    for seed in range(4):
        means = torch.randn(2, 3, 4, generator=gen(seed))
        present = torch.tensor([[True, seed == 0, False], [True, False, False]])
        memory.put(means, present)
        for n in range(2):
            for c in range(3):
                if present[n, c]:
                    stored[c].append(means[n, c])
    query = torch.randn(2, 3, 4, generator=gen(9), requires_grad=True)
    in_query = torch.tensor([[True, True, True], [False, True, True]])
    expected = (
        min(float((query[0, 0] - f).abs().mean()) for f in stored[0][-2:]) / 2
    )  # class 0 of the first image alone
    assert memory.count.tolist() == [8, 1, 0]
    distance = memory.distance(query, in_query)
    assert float(distance.detach()) == pytest.approx(expected, rel=1e-5)
    distance.backward()
    assert query.grad is not None and query.grad[0, 0].abs().sum() > 0 and query.grad[1].abs().sum() == 0


# The method -----------------------------------------------------------------------------------------------------------


def test_three_quarters_of_the_classes_and_each_frames_own_mask(stand_in: Any) -> None:
    method, source, target = stand_in.method("cmom", share=0.75), stand_in.labelled(), stand_in.clips()
    method.start_round(0, [target])
    clips, label = method.mix(source, target, 0)
    for n in range(2):
        frames = []
        for t in range(2):
            pasted = (clips.frames[n, t] == source.frames[n, t]).all(0)
            assert torch.equal(clips.frames[n, t][:, ~pasted], target.frames[n, t][:, ~pasted])
            frames.append(pasted)
        labels = source.previous_label[n, 0], source.label[n]
        classes = [set(frame_label[mask].tolist()) for frame_label, mask in zip(labels, frames, strict=True)]
        assert classes[0] == classes[1] and len(classes[0]) == round(0.75 * 5) and 255 not in classes[0]
        for frame_label, mask in zip(labels, frames, strict=True):
            assert torch.equal(mask, torch.isin(frame_label, torch.tensor(sorted(classes[0]))))
        assert not torch.equal(*frames)
        assert torch.equal(label[n][frames[1]], source.label[n][frames[1]])
        bank = method.bank.of((target.keys[n],))[0].repeat_interleave(4, 0).repeat_interleave(4, 1)
        assert torch.equal(label[n][~frames[1]], bank[~frames[1]])


def test_a_source_without_labels_of_its_earlier_frames_is_refused(stand_in: Any) -> None:
    method, batch, target = stand_in.method("cmom"), stand_in.labelled(), stand_in.clips()
    method.start_round(0, [target])
    bare = LabelledBatch(batch.frames, batch.flow, batch.valid, batch.keys, batch.label)
    with pytest.raises(ValueError, match="labels of the source's earlier frames"):
        method.losses(target, bare, 0)


def test_the_consensus_is_of_t_and_of_what_the_flow_brings(stand_in: Any) -> None:
    """Scores are the frames' colours; the flow points one pixel to the right everywhere."""
    method = stand_in.method("cmom", classes=3)
    frames = torch.eye(3)[torch.randint(0, 3, (1, 2, 6, 8), generator=gen())].movedim(-1, 2)
    flow = torch.zeros(1, 1, 2, 6, 8)
    flow[:, :, 0] = 1.0
    valid = torch.ones(1, 1, 6, 8, dtype=torch.bool)
    valid[..., 0, :] = False
    clips = ClipBatch(frames, flow, valid, ("clip",))
    painter = stand_in.painter()
    method.segmenter.classify, method.segmenter.fuse_alone = (lambda x: x), (lambda x: x)
    consensus = method.consensus(painter(frames, flow, valid), clips, frames[:, -1])[0]
    previous, current = frames[0].argmax(1)
    for y in range(6):
        for x in range(8):
            agreed = y > 0 and x < 7 and bool(previous[y, min(x + 1, 7)] == current[y, x])
            assert int(consensus[y, x]) == (int(current[y, x]) if agreed else 255), (y, x)
    assert 0 < int((consensus != 255).sum()) < 40


def test_only_recognised_source_pixels_are_remembered(stand_in: Any) -> None:
    method = stand_in.method("cmom", classes=3, memory=1)
    frames = torch.rand(1, 2, 3, 6, 8, generator=gen())
    label = torch.randint(0, 3, (1, 6, 8), generator=gen(1))
    label[label == 2] = 0
    method.memory = ClassMemory(3, 1, 3)
    method.segmenter.classify, method.segmenter.fuse_alone = (lambda x: x), (lambda x: x)
    method.remember(stand_in.painter()(frames, None, None), label)
    current = frames[0, -1]
    for c in range(2):
        right = (label[0] == c) & (current.argmax(0) == c)
        torch.testing.assert_close(method.memory.features[c, 0], current[:, right].mean(1))
    assert method.memory.count.tolist() == [1, 1, 0]


def test_terms_and_rounds(stand_in: Any) -> None:
    method = stand_in.method("cmom", memory=1, rounds=2)
    assert method.round_steps() == (0, 3)
    losses = stand_in.step(method, 0, stand_in.labelled())
    assert losses.keys() == {"ce", "ce_aux", "mixed", "mixed_aux", "alignment"}
    assert losses["mixed"] > 0 and losses["alignment"] >= 0


def test_no_alignment_before_the_memory_is_full(stand_in: Any) -> None:
    assert stand_in.step(stand_in.method("cmom"), 0, stand_in.labelled())["alignment"] == 0.0


def test_class_masks_of_nothing_chosen_are_empty() -> None:
    assert not class_mask(torch.zeros(1, 2, 2).long(), torch.zeros(1, 3, dtype=torch.bool)).any()
