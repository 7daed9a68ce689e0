"""Is this flow right? What the frames themselves say of it, without ground truth.

Frame t-1 is brought to t along the flow, along its negation, and not at all, and compared with frame t on the same pixels.
Right backward flow explains frame t best. If the negation does, the flow is that of the other direction: forward flow
t-1 to t is close to minus the backward flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bench.data.clip import Flow, Frame, Mask
from stpl import backward_warp

from ._estimated import lands_inside

MOVES = 0.5
"""Mean length in pixels below which a clip says nothing about direction."""
CLEARLY = 0.95
"""The negation must explain the frames better than this times the flow's own error to be called right."""


@dataclass(frozen=True)
class Check:
    """One clip, mean over its pairs. Differences are mean absolute grey levels of 255; NaN where no pixel can be compared.

    Attributes:
        still: frame t from frame t-1 as it is.
        moved: from t-1 brought along the flow.
        negated: from t-1 brought along the negated flow.
        valid: share of valid pixels, 0..1.
        length: mean length of the flow on valid pixels, pixels.
    """

    still: float
    moved: float
    negated: float
    valid: float
    length: float


UNKNOWN = Check(*[float("nan")] * 5)
"""A clip that could not be read."""


def error_map(previous: Frame, current: Frame, flow: Flow) -> NDArray[np.float32]:
    """Absolute difference ``(H, W)`` of frame t and t-1 brought to it along the flow, mean over channels, grey levels."""
    image, vectors = torch.from_numpy(previous[None]).float(), torch.from_numpy(np.ascontiguousarray(flow[None]))
    warped = backward_warp(image, vectors)[0].numpy()
    return np.abs(warped - current.astype(np.float32)).mean(axis=0)  # type: ignore[no-any-return]


def _pair(previous: Frame, current: Frame, flow: Flow, valid: Mask) -> list[float]:
    common = valid & lands_inside(flow) & lands_inside(-flow)
    length = np.hypot(flow[0], flow[1])
    share = [float(valid.mean()), float(length[valid].mean()) if valid.any() else np.nan]
    if not common.any():
        return [np.nan, np.nan, np.nan, *share]
    return [float(error_map(previous, current, f)[common].mean()) for f in (0 * flow, flow, -flow)] + share


def check(frames: NDArray[np.uint8], flow: NDArray[np.float32], valid: NDArray[np.bool_]) -> Check:
    """Check a clip's flow ``(T-1, 2, H, W)`` and validity against its frames ``(T, 3, H, W)``."""
    pairs = [_pair(frames[k], frames[k + 1], flow[k], valid[k]) for k in range(len(flow))]
    return Check(*(float(value) for value in mean_known(np.array(pairs))))


def mean_known(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each column over the rows that are known there, NaN where none is."""
    finite = np.isfinite(rows)
    total = np.where(finite, rows, 0).sum(axis=0)
    return np.where(finite.any(axis=0), total / np.maximum(finite.sum(axis=0), 1), np.nan)


def average(checks: Sequence[Check]) -> Check:
    """Mean over clips."""
    rows = np.array([[c.still, c.moved, c.negated, c.valid, c.length] for c in checks])
    return Check(*(float(value) for value in mean_known(rows)))


def verdict(checks: Sequence[Check]) -> str | None:
    """What is wrong with the flow of these clips, None if nothing shows. Clips that hardly move do not count."""
    telling = [c for c in checks if c.length >= MOVES and np.isfinite(c.moved)]
    if not telling:
        return None
    mean = average(telling)
    comparison = f"frames differ by {mean.moved:.1f} grey levels along it, {mean.negated:.1f} along its negation"
    if mean.negated < CLEARLY * mean.moved and mean.negated < mean.still:
        return f"points the wrong way, like forward flow t-1 to t: {comparison}, {mean.still:.1f} without motion"
    if mean.moved > mean.still:
        return f"explains the frames worse than no motion: {comparison}, {mean.still:.1f} without motion"
    return None
