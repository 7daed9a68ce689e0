"""Video consistency, as users of VSPW know it: does a prediction stay the same where the truth does, over 8 or 16 frames?

Beside the temporal consistency, not instead of it: that one follows surfaces along the flow between two frames; this one looks at
places in the picture over many frames, and so counts mostly what hardly moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.data.labels import IGNORE

LENGTHS = (8, 16)
"""Frames of a window: mVC8 and mVC16."""
SHOWN = {f"mvc{length}": f"mVC{length}" for length in LENGTHS}
"""What their scores are called in a record, and on a page."""

Maps = npt.NDArray[np.integer]


def window_consistencies(truth: Maps, prediction: Maps, length: int) -> list[float]:
    """``|same truth and same prediction| / |same truth|`` of every run of ``length`` consecutive frames of one video.

    A pixel has the same truth if its class is one and the same in all frames of the window (255 is no class), and the same
    prediction likewise; whether the prediction is right is not asked. A window in which no pixel keeps its class is left out.

    Args:
        truth: integer ``(T, H, W)``.
        prediction: integer ``(T, H, W)``.
        length: at least 2.

    Returns:
        In 0..1, one for each of the ``T - length + 1`` windows; empty where the video is shorter than a window.

    Raises:
        ValueError: shapes differ, or a window of less than two frames.

    Source: VSPW (Miao et al., CVPR 2021), published code ``VC_perclip.py``; there the last window is never looked at, and pixels
    without a class count as one.
    """
    if truth.shape != prediction.shape or truth.ndim != 3:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} must be maps (T, H, W) of one shape")
    if length < 2:
        raise ValueError(f"a window has at least 2 frames, got {length}")
    consistencies = []
    for start in range(len(truth) - length + 1):
        window, guess = truth[start : start + length], prediction[start : start + length]
        same = (window == window[0]).all(0) & (window[0] != IGNORE)
        if same.any():
            consistencies.append(float(((guess == guess[0]).all(0) & same).sum() / same.sum()))
    return consistencies


class Windows:
    """mVC of videos that come frame by frame; no more frames are held than the longest window has."""

    def __init__(self, lengths: Sequence[int] = LENGTHS) -> None:
        self.consistencies: dict[int, list[float]] = {length: [] for length in lengths}
        self._frames: deque[tuple[Maps, Maps]] = deque(maxlen=max(lengths))

    def add(self, truth: Maps, prediction: Maps, follows: bool) -> None:
        """Take in a frame; one of another size than the last starts anew.

        Args:
            truth, prediction: integer ``(H, W)``.
            follows: whether it comes right after the frame before, in the same video.
        """
        if not follows or self._frames[-1][0].shape != truth.shape:
            self._frames.clear()
        self._frames.append((truth, prediction))
        for length, consistencies in self.consistencies.items():
            if len(self._frames) >= length:
                labels, guesses = zip(*list(self._frames)[-length:], strict=True)
                consistencies += window_consistencies(np.stack(labels), np.stack(guesses), length)

    def scores(self) -> dict[str, float]:
        """``{"mvc8": ..., "mvc16": ...}`` in percent over all windows; without those that no video was long enough for."""
        return {
            f"mvc{length}": 100 * float(np.mean(consistencies))
            for length, consistencies in self.consistencies.items()
            if consistencies
        }


def video_consistencies(truth: Maps, prediction: Maps) -> dict[str, float]:
    """The same of one video, ``(T, H, W)`` both."""
    windows = Windows()
    for t, maps in enumerate(zip(truth, prediction, strict=True)):
        windows.add(*maps, follows=t > 0)
    return windows.scores()
