"""What one frame sees, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

from .scene import Floats, Ints


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
