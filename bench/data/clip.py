"""Clips: a few consecutive frames of one video, what moved between them, and never a label.

Adaptation code is handed :class:`Clip` objects. They have no label field, so a method cannot read one by accident;
:class:`LabelledClip` exists for source training, for the oracle and for evaluation only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

IGNORE = 255
"""Label value of pixels that belong to no class; they count neither in a loss nor in a score."""


@dataclass(frozen=True)
class Clip:
    """``T`` consecutive frames, oldest first; the current frame t is the last one.

    Attributes:
        frames: uint8 RGB, ``(T, 3, H, W)``.
        flow: float32 ``(T-1, 2, H, W)``, backward flow in pixels, x first. ``flow[k]`` leads from frame ``k+1`` to
            frame ``k``: pixel ``q`` of frame ``k+1`` shows what is seen at ``q + flow[k](q)`` in frame ``k``.
        valid: bool ``(T-1, H, W)``; False where that place lies outside frame ``k`` or is hidden there.
        key: name of the clip inside its split, unique and stable.

    Raises:
        ValueError: if shapes or dtypes do not fit together.
    """

    frames: npt.NDArray[np.uint8]
    flow: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    key: str

    def __post_init__(self) -> None:
        t, channels, height, width = self.frames.shape
        if t < 2 or channels != 3 or self.frames.dtype != np.uint8:
            raise ValueError(
                f"clip {self.key}: frames must be uint8 (T>=2, 3, H, W), got {self.frames.dtype} {self.frames.shape}"
            )
        if self.flow.shape != (t - 1, 2, height, width) or self.flow.dtype != np.float32:
            raise ValueError(
                f"clip {self.key}: flow must be float32 {(t - 1, 2, height, width)}, got {self.flow.dtype} {self.flow.shape}"
            )
        if self.valid.shape != (t - 1, height, width) or self.valid.dtype != np.bool_:
            raise ValueError(
                f"clip {self.key}: valid must be bool {(t - 1, height, width)}, got {self.valid.dtype} {self.valid.shape}"
            )


@dataclass(frozen=True)
class LabelledClip(Clip):
    """A clip with the label of its current frame: uint8 ``(H, W)`` train ids, 255 = ignore."""

    label: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label.shape != self.frames.shape[2:] or self.label.dtype != np.uint8:
            raise ValueError(
                f"clip {self.key}: label must be uint8 {self.frames.shape[2:]}, got {self.label.dtype} {self.label.shape}"
            )

    def without_label(self) -> Clip:
        """The same clip as adaptation may see it."""
        return Clip(self.frames, self.flow, self.valid, self.key)


Frame = NDArray[np.uint8]
"""RGB, uint8 ``(3, H, W)``."""

Flow = NDArray[np.float32]
"""float32 ``(2, H, W)`` in pixels, x first."""

Mask = NDArray[np.bool_]
"""bool ``(H, W)``."""


class Clips(Protocol):
    """Anything with clips by number, such as a ``ClipStore``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Clip: ...


class FlowBackend(Protocol):
    """Backward flow float32 ``(T-1, 2, H, W)`` in pixels, x first, and validity bool ``(T-1, H, W)`` of a clip.

    The clip is given as it was read, so that no file is read twice; ``clips`` and ``index`` say which one it is.
    """

    def __call__(self, clip: Clip, clips: Clips, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]: ...
