"""A pinhole camera. World axes: x right, y up, z along the street, metres; image axes: x right, y down, pixels.

Pixel ``(i, j)`` (row, column) has its centre at ``x = j, y = i``; the principal point is the image centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

NEAR = 0.2
"""Nothing closer than this many metres is drawn."""


@dataclass(frozen=True)
class Camera:
    """One frame's camera.

    Attributes:
        position: ``(3,)`` metres.
        rotation: ``(3, 3)``, camera axes (x right, y down, z forward) to world axes.
        focal: pixels.
        height, width: of the image.
    """

    position: npt.NDArray[np.float64]
    rotation: npt.NDArray[np.float64]
    focal: float
    height: int
    width: int

    def rays(self) -> tuple[Floats, Floats, Floats]:
        """World direction of every pixel, three ``(H, W)`` arrays; depth times direction is the offset from here."""
        x = (np.arange(self.width) - (self.width - 1) / 2) / self.focal
        y = (np.arange(self.height) - (self.height - 1) / 2) / self.focal
        r = self.rotation
        parts = [
            (r[k, 1] * y + r[k, 2]).astype(np.float32)[:, None] + (r[k, 0] * x).astype(np.float32)[None]
            for k in range(3)
        ]
        return parts[0], parts[1], parts[2]

    def project(self, x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats, Floats]:
        """Offsets from the camera in world axes to (column, row, depth); depths below 1 cm are lifted to it."""
        r = self.rotation.astype(np.float32)
        cx = r[0, 0] * x + r[1, 0] * y + r[2, 0] * z
        cy = r[0, 1] * x + r[1, 1] * y + r[2, 1] * z
        cz = r[0, 2] * x + r[1, 2] * y + r[2, 2] * z
        scale = np.float32(self.focal) / np.maximum(cz, np.float32(0.01))
        return cx * scale + np.float32((self.width - 1) / 2), cy * scale + np.float32((self.height - 1) / 2), cz

    def bounds(self, corners: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """Rows and columns that can show the convex hull of each group of corners.

        Args:
            corners: ``(N, K, 3)`` world points. Corners behind the near plane are replaced by the points where their
                connections to the other corners cross it.

        Returns:
            ``(N, 4)``: first and end row, first and end column; all zero for what is out of view.
        """
        p = (corners - self.position) @ self.rotation
        front = p[..., 2] >= NEAR
        cut = front[:, :, None] & ~front[:, None, :]
        if cut.any():
            group, i, j = cut.nonzero()
            a, b = p[group, i], p[group, j]
            crossings = np.zeros((*cut.shape, 3))
            crossings[group, i, j] = a + (NEAR - a[:, 2:]) / (b[:, 2:] - a[:, 2:]) * (b - a)
            p = np.concatenate([p, crossings.reshape(len(p), -1, 3)], 1)
            front = np.concatenate([front, cut.reshape(len(p), -1)], 1)
        z, ranges = np.where(front, p[..., 2], 1), []
        for size, offset in ((self.height, p[..., 1]), (self.width, p[..., 0])):
            at = offset / z * self.focal + (size - 1) / 2
            start = np.maximum(0, np.ceil(np.where(front, at, np.inf).min(1)))
            ranges += [start, np.minimum(size - 1, np.floor(np.where(front, at, -np.inf).max(1))) + 1]
        seen = (ranges[0] < ranges[1]) & (ranges[2] < ranges[3])
        return np.asarray(np.where(seen, ranges, 0).T, np.intp)


def rotation(yaw: float, pitch: float, roll: float) -> npt.NDArray[np.float64]:
    """Camera-to-world rotation; angles in degrees, yaw to the right, pitch up, roll clockwise of the image content."""
    a, b, c = np.deg2rad([yaw, pitch, roll])
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    lift = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    lean = np.array([[np.cos(c), np.sin(c), 0], [-np.sin(c), np.cos(c), 0], [0, 0, 1]])
    flip = np.diag([1.0, -1.0, 1.0])
    return np.asarray(turn @ lift @ lean @ flip)
