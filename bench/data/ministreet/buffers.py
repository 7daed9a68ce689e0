"""What one frame sees, pixel by pixel, and how the nearer hides the farther."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .scene import Floats, Ints

Numbers = npt.NDArray[np.intp]


@dataclass
class Buffers:
    """What one frame sees, every array ``(H, W)``.

    Attributes:
        rays: world direction of a pixel; depth times ray is the offset from the camera.
        depth: along the optical axis, metres; inf for the sky.
        primitive: 0 sky, 1 ground, then patches and solids in the world's order.
        surface: number of the surface.
        u, v: coordinates on the surface, metres.
        facing: cosine-like factor; the long side of a pixel's footprint is depth / (focal * facing).
        tone: brightness factor of a sprite's texel; for solids the lit share of a face.
    """

    rays: tuple[Floats, Floats, Floats]
    depth: Floats
    primitive: Ints
    surface: Ints
    u: Floats
    v: Floats
    facing: Floats
    tone: Floats

    def flat(self) -> Buffers:
        """The same buffers with every array one-dimensional (views)."""
        x, y, z = (r.reshape(-1) for r in self.rays)
        depth, u, v, facing, tone = (a.reshape(-1) for a in (self.depth, self.u, self.v, self.facing, self.tone))
        return Buffers((x, y, z), depth, self.primitive.reshape(-1), self.surface.reshape(-1), u, v, facing, tone)


def pixels(bounds: Numbers, columns: int) -> tuple[Numbers, Numbers]:
    """Numbers of the pixels of rectangles in a picture with so many columns.

    Args:
        bounds: ``(N, 4)`` as of :meth:`.camera.Camera.bounds`.

    Returns:
        Row by row, rectangle after rectangle, ``(F,)``, and how many each has, ``(N,)``.
    """
    top, bottom, left, right = bounds.T
    rows = bottom - top
    widths = np.repeat(right - left, rows)  # of every row of every rectangle
    row = np.arange(len(widths)) + np.repeat(top - np.cumsum(rows) + rows, rows)
    first = row * columns + np.repeat(left, rows)
    return np.arange(widths.sum()) + np.repeat(first - np.cumsum(widths) + widths, widths), rows * (right - left)


def groups(bounds: Numbers, order: Numbers, frame: int) -> list[Numbers]:
    """The things that are in view, in their order, in groups to be drawn at once.

    Args:
        bounds: ``(N, 4)`` as of :meth:`.camera.Camera.bounds`.
        frame: pixels of the frame.
    """
    limit = max(
        2**16, frame // 4
    )  # things have some 1,000 pixels: few calls of numpy; and little memory in large frames
    sizes = ((bounds[:, 1] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 2]))[order]
    order, sizes = order[sizes > 0], sizes[sizes > 0]
    ends = [*(np.diff(np.cumsum(sizes) // limit).nonzero()[0] + 1).tolist(), len(order)]
    return [order[start:end] for start, end in zip([0, *ends], ends, strict=False) if end]


def reveal(
    buffer: Floats, pixel: Numbers, depth: Floats, counts: Numbers, opaque: Callable[[int, Numbers], Numbers] | None = None
) -> tuple[Numbers, Numbers]:  # fmt: skip
    """Hide what lies behind: enter the depths of things, one after the other, where they are less than the buffer's.

    Args:
        buffer: depths of all pixels, changed.
        pixel, depth: of the things' fragments, ``(F,)``; inf where a thing is missed.
        counts: of fragments by thing, ``(N,)``.
        opaque: which of the fragments in front, given as numbers in 0..F-1, of the thing with this number do hide.

    Returns:
        The pixels that changed and, for each, the fragment that is seen there.
    """
    winner, ends = np.full(len(buffer), -1), np.cumsum(counts)
    for k, (start, end) in enumerate(zip((ends - counts).tolist(), ends.tolist(), strict=True)):
        (front,) = (depth[start:end] < buffer.take(pixel[start:end])).nonzero()
        front += start
        if opaque is not None and front.size:
            front = opaque(k, front)
        at = pixel.take(front)
        buffer[at] = depth.take(front)
        winner[at] = front
    (at,) = (winner >= 0).nonzero()
    return at, winner.take(at)
