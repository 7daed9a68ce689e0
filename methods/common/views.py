"""Predictions averaged over sizes and mirror images of a clip (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from methods.base import ClipBatch
from methods.common.augment import Geometry
from methods.common.supervision import rescale
from methods.common.temporal import rescaled
from stpl import VideoSegmenter

View = tuple[int, bool]
"""Size in percent of the clip's, and whether it is mirrored left to right."""


def mirrored(clips: ClipBatch) -> ClipBatch:
    """Clips mirrored left to right, flow and validity with them."""
    n = len(clips.keys)
    return Geometry(-torch.ones(n), torch.ones(n), torch.zeros(n, 2)).clips(clips)


@torch.no_grad()
def averaged_views(
    segmenter: VideoSegmenter, clips: ClipBatch, views: Sequence[View], size: tuple[int, int] | None = None
) -> Tensor:
    """Mean over views of the current frame's probabilities ``(N, K, h, w)``, each brought back to the plain geometry.

    Args:
        segmenter: predicts each view; scores are resized before the softmax.
        clips: plain clips.
        views: at least one.
        size: h, w of the result; None = the scores' own in the first view.

    Raises:
        ValueError: no view.
    """
    if not views:
        raise ValueError("averaged_views: at least one view is needed")
    total: Tensor | None = None
    for percent, mirror in views:
        view = mirrored(clips) if mirror else clips
        view = view if percent == 100 else rescale(view, percent)
        scores = segmenter(view.frames, view.flow, view.valid).scores
        size = size or (scores.shape[-2], scores.shape[-1])
        p = rescaled(scores, size).softmax(1)
        p = p.flip(-1) if mirror else p
        total = p if total is None else total + p
    assert total is not None
    return total / len(views)
