"""mic and mic_sf: blocks, dense labels and their weight, the class mix, the teacher's ramp."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import ClipBatch, LabelledBatch
from methods.common import (
    at_size,
    block_mask,
    class_mask,
    dense_labels,
    draw_classes,
    hide,
    masked_consistency,
    mix_clips,
    mix_labels,
    ramped_decay,
)
from methods.common.masking import DenseLabels, MaskedSettings


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Masks ----------------------------------------------------------------------------------------------------------------


def test_blocks_are_hidden_as_a_whole() -> None:
    shown = block_mask(3, (32, 64), 8, 0.7, gen())
    blocks = shown.view(3, 4, 8, 8, 8).permute(0, 1, 3, 2, 4).flatten(3)
    assert shown.shape == (3, 32, 64) and ((blocks.all(3)) | (~blocks).all(3)).all()
    assert blocks[0, ..., 0].ne(blocks[1, ..., 0]).any()  # each clip has a mask of its own
    share = block_mask(50, (64, 128), 8, 0.7, gen(1)).float().mean()
    assert 0.27 < float(share) < 0.33
    assert block_mask(2, (8, 8), 4, 0.0, gen()).all() and not block_mask(2, (8, 8), 4, 1.0, gen()).any()


def test_a_block_larger_than_the_image_is_the_image() -> None:
    masks = block_mask(20, (8, 16), 100, 0.5, gen())
    assert all(mask.all() or not mask.any() for mask in masks) and len({bool(mask.any()) for mask in masks}) == 2


def test_sizes_that_do_not_divide_are_read_at_the_nearest_block() -> None:
    shown = block_mask(1, (10, 14), 4, 0.5, gen(3))[0]  # round(2.5) x round(3.5) = 2 x 4 blocks
    values = torch.rand(1, 1, 2, 4, generator=gen(3))[0, 0] > 0.5
    for y in range(10):
        for x in range(14):
            assert bool(shown[y, x]) == bool(values[y * 2 // 10, x * 4 // 14])


def test_all_frames_lose_the_same_pixels(stand_in: Any) -> None:
    clips = stand_in.clips(t=3)
    shown = block_mask(2, (32, 64), 8, 0.5, gen())
    hidden = hide(clips, shown)
    mean = torch.tensor([0.485, 0.456, 0.406])
    for n in range(2):
        for t in range(3):
            assert torch.equal(hidden.frames[n, t][:, shown[n]], clips.frames[n, t][:, shown[n]])
            assert (hidden.frames[n, t][:, ~shown[n]] == mean[:, None]).all()
    assert hidden.flow is clips.flow and hidden.valid is clips.valid


def test_the_block_scales_with_the_height(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import methods.common.masking as module

    sizes: list[float] = []

    def spied(n: int, size: tuple[int, int], block: float, hidden: float, generator: torch.Generator) -> Tensor:
        sizes.append(block)
        return block_mask(n, size, block, hidden, generator)

    monkeypatch.setattr(module, "block_mask", spied)
    for height in (128, 512):
        clips = stand_in.clips(n=1, size=(height, 16))
        labels = DenseLabels(torch.zeros(1, height, 16, dtype=torch.int64), torch.ones(1))
        masked_consistency(stand_in.painter(), clips, labels, MaskedSettings(), gen())
    assert sizes == [16.0, 64.0]


# Dense labels ---------------------------------------------------------------------------------------------------------


def test_the_weight_is_each_clips_share_of_confident_pixels(stand_in: Any) -> None:
    clips = stand_in.clips(n=2, size=(4, 4))
    frames = torch.zeros_like(clips.frames)
    frames[0, -1, 1, 0] = 1.0  # a row of four pixels of class 1 with logit 10: p = e^10 / (e^10 + 2) = 0.9999
    frames[1, -1, 2, :3] = 1.0
    frames[1, -1, 2, 3] = 0.3  # logit 3: p = 0.909
    labels = dense_labels(stand_in.painter(10.0), ClipBatch(frames, clips.flow, clips.valid, clips.keys), 0.968)
    assert labels.weight.tolist() == [4 / 16, 12 / 16]
    assert (labels.label[0, 0] == 1).all() and (labels.label[1] == 2).all() and not labels.label.requires_grad
    half = dense_labels(stand_in.painter(10.0, stride=2), clips, 0.5)
    assert half.label.shape == (2, 4, 4)  # at the clips' size, whatever the scores' is


def test_the_consistency_is_weighted_clip_by_clip(stand_in: Any) -> None:
    clips, painter = stand_in.clips(), stand_in.painter(4.0)
    label = torch.randint(0, 3, (2, 32, 64), generator=gen())
    s = MaskedSettings(hidden=0.0, strength=0.0, masked_weight=0.5)
    loss = masked_consistency(painter, clips, DenseLabels(label, torch.tensor([0.25, 0.75])), s, gen())
    terms = [F.cross_entropy(4 * clips.frames[n : n + 1, -1], label[n : n + 1]) for n in range(2)]
    torch.testing.assert_close(loss, 0.5 * (0.25 * terms[0] + 0.75 * terms[1]) / 2)


# Class mix ------------------------------------------------------------------------------------------------------------


def test_half_of_an_images_own_classes_rounded_up_and_never_255() -> None:
    label = torch.full((4, 2, 6), 255)
    label[0, 0] = torch.tensor([0, 1, 2, 3, 4, 255])
    label[1, 0] = torch.tensor([1, 1, 1, 1, 1, 1])
    label[2, :] = torch.tensor([[0, 0, 0, 4, 4, 4], [255] * 6])
    drawn = [draw_classes(label, 5, lambda n: (n + 1) // 2, gen(seed)) for seed in range(200)]
    counts = torch.stack(drawn).sum(2)
    assert (counts == torch.tensor([3, 1, 1, 0])).all()
    often = torch.stack(drawn).float().mean(0)
    assert (often[0] - 0.6).abs().max() < 0.12  # each of five classes with probability 3/5
    assert often[1].tolist() == [0, 1, 0, 0, 0] and often[2, 1:4].sum() == 0 and 0.3 < float(often[2, 0]) < 0.7


def test_the_mask_is_where_the_chosen_classes_are() -> None:
    label = torch.tensor([[[0, 1, 255], [2, 2, 0]]])
    chosen = torch.tensor([[True, False, True]])
    assert class_mask(label, chosen).tolist() == [[[True, False, False], [True, True, True]]]


def slow_mix(source: ClipBatch, target: ClipBatch, masks: Tensor) -> ClipBatch:
    frames, flow, valid = target.frames.clone(), target.flow.clone(), target.valid.clone()
    n, t, height, width = masks.shape
    for i in range(n):
        for k in range(t):
            frames[i, k][:, masks[i, k]] = source.frames[i, k][:, masks[i, k]]
        for k in range(t - 1):
            for y in range(height):
                for x in range(width):
                    pasted = bool(masks[i, k + 1, y, x])
                    origin = source if pasted else target
                    flow[i, k, :, y, x] = origin.flow[i, k, :, y, x]
                    u, v = origin.flow[i, k, :, y, x].tolist()
                    y0, x0 = min(max(y + int(v), 0), height - 1), min(max(x + int(u), 0), width - 1)
                    valid[i, k, y, x] = bool(origin.valid[i, k, y, x]) and bool(masks[i, k, y0, x0]) == pasted
    return ClipBatch(frames, flow, valid, target.keys)


@pytest.mark.parametrize("t", [2, 3])
def test_mixed_clips_against_a_loop(stand_in: Any, t: int) -> None:
    source, target = stand_in.labelled(t=t, size=(8, 12)), stand_in.clips(t=t, size=(8, 12))
    source, target = (ClipBatch(c.frames, c.flow.round(), c.valid, c.keys) for c in (source, target))  # whole pixels
    masks = torch.rand(2, t, 8, 12, generator=gen()) > 0.5
    mixed, expected = mix_clips(source, target, masks), slow_mix(source, target, masks)
    for name in ("frames", "flow", "valid"):
        assert torch.equal(getattr(mixed, name), getattr(expected, name)), name
    assert mixed.keys == target.keys and 0 < int(mixed.valid.sum()) < int(target.valid.sum())


def test_nothing_pasted_is_the_target_and_all_pasted_the_source(stand_in: Any) -> None:
    source, target = stand_in.labelled(), stand_in.clips()
    masks = torch.zeros(2, 2, 32, 64, dtype=torch.bool)
    for mask, expected in ((masks, target), (~masks, source)):
        mixed = mix_clips(source, target, mask)
        assert all(torch.equal(getattr(mixed, k), getattr(expected, k)) for k in ("frames", "flow", "valid"))
    assert torch.equal(
        mix_labels(source.label, torch.ones_like(source.label), masks[:, 0]), torch.ones(2, 32, 64).long()
    )


def test_clips_of_another_size(stand_in: Any) -> None:
    batch = stand_in.labelled(t=3)
    assert at_size(batch, (32, 64)) is batch
    scaled = at_size(batch, (16, 64))
    assert scaled.frames.shape == (2, 3, 3, 16, 64) and scaled.previous_label.shape == (2, 2, 16, 64)  # type: ignore[union-attr]
    assert torch.equal(scaled.label, batch.label[:, 1::2]) and scaled.label.dtype == torch.int64
    still = LabelledBatch(batch.frames, torch.full_like(batch.flow, 2.0), batch.valid, batch.keys, batch.label)
    shrunk = at_size(still, (16, 64))
    assert (shrunk.flow[:, :, 0] == 2).all() and (shrunk.flow[:, :, 1] == 1).all() and shrunk.previous_label is None


# The methods ----------------------------------------------------------------------------------------------------------


def test_one_mask_for_both_frames_and_the_targets_pixels_count_q(stand_in: Any) -> None:
    method, source, target = stand_in.method("mic"), stand_in.labelled(), stand_in.clips()
    labels = DenseLabels(torch.full((2, 32, 64), 4), torch.tensor([0.25, 0.5]))
    clips, label, weight = method.mix(source, target, labels, 0)
    pasted = weight == 1.0
    for t in range(2):
        assert torch.equal(clips.frames[:, t].movedim(1, -1)[pasted], source.frames[:, t].movedim(1, -1)[pasted])
        assert torch.equal(clips.frames[:, t].movedim(1, -1)[~pasted], target.frames[:, t].movedim(1, -1)[~pasted])
    for n in range(2):
        classes = set(source.label[n][pasted[n]].tolist())
        assert len(classes) == 3 and 255 not in classes  # of five
        assert torch.equal(pasted[n], torch.isin(source.label[n], torch.tensor(sorted(classes))))
        assert set(weight[n][~pasted[n]].tolist()) == {(0.25, 0.5)[n]}
    assert torch.equal(label[pasted], source.label[pasted]) and (label[~pasted] == 4).all()


def test_a_source_of_another_size_is_brought_to_the_targets(stand_in: Any) -> None:
    method = stand_in.method("mic", threshold=0.0)
    losses = method.losses(stand_in.clips(), stand_in.labelled(size=(40, 72)), 0)
    assert losses.keys() == {"ce", "ce_aux", "mixed", "masked"}
    assert all(torch.isfinite(value) for value in losses.values())


def test_the_source_free_variant_is_the_masked_term_alone(stand_in: Any) -> None:
    alike = {"threshold": 0.3, "masked_weight": 1.0, "hidden": 0.7}
    full, alone = stand_in.method("mic", **alike), stand_in.method("mic_sf", **alike)
    full_losses, alone_losses = (
        full.losses(stand_in.clips(), stand_in.labelled(), 0),
        alone.losses(stand_in.clips(), None, 0),
    )
    assert alone_losses.keys() == {"masked"} and float(alone_losses["masked"].detach()) > 0
    torch.testing.assert_close(alone_losses["masked"], full_losses["masked"])


def test_no_confident_pixel_no_loss(stand_in: Any) -> None:
    losses = stand_in.method("mic_sf", threshold=1.0).losses(stand_in.clips(), None, 0)
    assert float(losses["masked"].detach()) == 0.0


def test_the_ramp_is_the_plain_mean_of_all_weights_until_it_ends(stand_in: Any) -> None:
    assert [ramped_decay(step, 0.999) for step in range(3)] == pytest.approx([1 / 2, 2 / 3, 3 / 4])
    assert ramped_decay(997, 0.999) == pytest.approx(1 - 1 / 999) and ramped_decay(5000, 0.999) == 0.999
    method = stand_in.method("mic_sf")
    history = [stand_in.weights(method.segmenter)]
    for step in range(3):
        with torch.no_grad():
            for p in method.segmenter.parameters():
                p.add_(float(step + 1))
        method.after_step(step)
        history.append(stand_in.weights(method.segmenter))
    for mean, values in zip(stand_in.weights(method.teacher), zip(*history, strict=True), strict=True):
        torch.testing.assert_close(mean, torch.stack(list(values)).mean(0))
