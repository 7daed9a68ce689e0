"""Colours, sizes and mixing of pictures: numpy's histograms, the published draws of boxes, pasted clips."""

from __future__ import annotations

import pytest
import torch

from methods.base import ClipBatch, LabelledBatch
from methods.common import (
    cut_mix,
    match_histograms,
    random_boxes,
    rescale,
    rotate_hue,
)
from methods.common.supervision import resized
from tests.methods.batches import clips, seeded


def test_histogram_matching_against_numpy() -> None:
    import numpy as np

    g = seeded()
    source = torch.randint(0, 256, (2, 3, 9, 11), generator=g).float()
    reference = torch.randint(40, 90, (2, 3, 7, 8), generator=g).float()
    matched = match_histograms(source, reference)
    for n in range(2):
        for c in range(3):
            values, inverse, counts = np.unique(source[n, c].numpy(), return_inverse=True, return_counts=True)
            levels, level_counts = np.unique(reference[n, c].numpy(), return_counts=True)
            quantile = np.cumsum(counts) / source[n, c].numel()
            new = np.interp(quantile, np.cumsum(level_counts) / reference[n, c].numel(), levels)
            np.testing.assert_allclose(matched[n, c].numpy().ravel(), new[inverse.ravel()], atol=1e-3)
            assert len(values) == len(new)
    torch.testing.assert_close(match_histograms(source, source), source)
    flat = torch.full((1, 1, 4, 4), 9.0)
    assert (match_histograms(source[:1, :1], flat) == 9).all()
    with pytest.raises(ValueError, match="differ in images"):
        match_histograms(source, reference[:1])


def test_hue_turns_primaries_into_each_other_and_leaves_grey() -> None:
    red, green = torch.tensor([1.0, 0, 0]).view(3, 1, 1), torch.tensor([0, 1.0, 0]).view(3, 1, 1)
    torch.testing.assert_close(rotate_hue(red, 1 / 3), green, atol=1e-6, rtol=0)
    grey = torch.full((3, 2, 2), 0.4)
    torch.testing.assert_close(rotate_hue(grey, 0.17), grey)
    colours = 0.3 + 0.2 * torch.rand(3, 4, 4, generator=seeded())
    torch.testing.assert_close(rotate_hue(rotate_hue(colours, 0.1), -0.1), colours, atol=1e-6, rtol=0)


def test_rescaling_scales_the_flow() -> None:
    batch = clips(height=32, width=64)
    moved = ClipBatch(batch.frames, torch.full_like(batch.flow, 4.0), batch.valid, batch.keys)
    small = rescale(moved, 75)
    assert small.frames.shape[-2:] == (24, 48) and small.valid.shape[-2:] == (24, 48)
    torch.testing.assert_close(small.flow, torch.full_like(small.flow, 3.0))
    same = rescale(moved, 100)
    torch.testing.assert_close(same.frames, moved.frames)


def test_boxes_are_the_published_draw() -> None:
    """Area uniform in 0..1, cut off at the border, turned inside out for half of them: either picture is pasted as often."""
    boxes = random_boxes(400, (32, 64), seeded())
    corners = boxes[:, [0, 0, -1, -1], [0, -1, 0, -1]].sum(
        1
    )  # a box reaches one corner as a rule, all but one inside out
    assert 0.4 < (corners >= 3).float().mean() < 0.6
    area = torch.where(corners >= 3, 1 - boxes.float().mean((1, 2)), boxes.float().mean((1, 2)))
    assert area.min() >= 0 and area.max() > 0.5 and 0.2 < area.mean() < 0.4  # what is cut off makes it less than 1/2
    for box in boxes[corners < 3][:20]:
        rows, columns = box.any(1).nonzero().flatten(), box.any(0).nonzero().flatten()
        if len(rows):
            assert box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_cut_mix_pastes_labelled_source_clips_with_their_flow_and_labels() -> None:
    target, larger = clips(n=3), clips(n=3, height=48, width=96)
    source = LabelledBatch(larger.frames, larger.flow, larger.valid, larger.keys, torch.full((3, 48, 96), 7))
    boxes = random_boxes(3, (48, 96), seeded(2))
    pseudo = torch.arange(3)[:, None, None].expand(3, 8, 16)  # at the resolution of scores
    mixed = cut_mix(target, pseudo, source, boxes)
    moved = resized(target, (48, 96))
    assert mixed.keys == target.keys and mixed.label.shape == (3, 48, 96)
    for i in range(3):
        inside = boxes[i]
        assert (mixed.label[i][inside] == 7).all() and (mixed.label[i][~inside] == i).all()
        for field in ("frames", "flow", "valid"):
            maps = getattr(mixed, field)[i]
            assert torch.equal(maps[..., inside], getattr(source, field)[i][..., inside])
            assert torch.equal(maps[..., ~inside], getattr(moved, field)[i][..., ~inside])
