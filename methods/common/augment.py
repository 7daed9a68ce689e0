"""Two views of a clip: one draw of geometry moves images, flow, validity and labels together; photometric noise is apart.

All draws come from a ``torch.Generator``, per clip, the same for all frames of a clip. Colour operations are torchvision's, which
is imported where they are used: it takes as long as torch itself, and most processes never change a colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import ClipBatch
from stpl.pseudo_labels import IGNORE


def uniform(shape: int | tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform numbers in ``low..high``."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def _centres(n: int) -> Tensor:
    """Centres of ``n`` pixels in units in which the outer edges are -1 and 1."""
    return torch.linspace(-1, 1, n) * (n - 1) / n


@dataclass(frozen=True)
class Geometry:
    """Mirror and zoom of each clip: output pixel ``x`` (in -1..1) shows input ``sign / zoom * x + offset``.

    Attributes:
        sign: ``(N,)``, -1 where the clip is mirrored left to right.
        zoom: ``(N,)``; from 1 on the crop is ``1/zoom`` of each side, below 1 the clip fills ``zoom`` of each side and what is
            around it is black, has no valid flow and no label.
        offset: ``(N, 2)`` x then y, in -1..1 units, within ``|1 - 1/zoom|`` so that the crop stays inside.
    """

    sign: Tensor
    zoom: Tensor
    offset: Tensor

    @classmethod
    def draw(
        cls, clips: int, max_zoom: float, generator: torch.Generator, mirror: bool = True, min_zoom: float = 1.0
    ) -> Geometry:
        """Random geometry: mirrored with probability 1/2, zoom uniform in ``min_zoom..max_zoom``, anywhere inside."""
        coin = torch.rand(clips, generator=generator) < 0.5
        sign = torch.where(coin & torch.tensor(mirror), -1.0, 1.0)
        zoom = uniform(clips, min_zoom, max_zoom, generator)
        offset = uniform((clips, 2), -1.0, 1.0, generator) * (1 - 1 / zoom)[:, None]
        return cls(sign, zoom, offset)

    def _grid(self, size: tuple[int, int], device: torch.device) -> Tensor:
        """Where each output pixel reads, ``(N, H, W, 2)`` x then y in -1..1 units, made on the CPU.

        The bits of ``affine_grid`` without its product of matrices: mirror and zoom never mix rows and columns.
        """
        n, (height, width) = len(self.sign), size
        x = (self.sign / self.zoom)[:, None] * _centres(width) + self.offset[:, :1]
        y = (1 / self.zoom)[:, None] * _centres(height) + self.offset[:, 1:]
        grid = torch.stack([x[:, None].expand(n, height, width), y[:, :, None].expand(n, height, width)], -1)
        return grid.to(device, non_blocking=True)

    def maps(self, x: Tensor, mode: str = "bilinear", grid: Tensor | None = None) -> Tensor:
        """Move float maps ``(N, C, H, W)``; ``grid`` is that of their size, where it is there already."""
        grid = self._grid((x.shape[2], x.shape[3]), x.device) if grid is None else grid
        return F.grid_sample(x, grid, mode, "border", align_corners=False)

    def labels(self, label: Tensor) -> Tensor:
        """Move integer maps ``(N, H, W)``, nearest neighbour."""
        moved = self.maps(label[:, None].float(), "nearest")[:, 0].to(label.dtype)
        around = self._around((label.shape[1], label.shape[2]), label.device)
        return moved if around is None else moved.masked_fill(around, IGNORE)

    def _around(self, size: tuple[int, int], device: torch.device) -> Tensor | None:
        """Bool ``(N, H, W)``: pixels beyond the clip; None where there are none."""
        return None if bool((self.zoom >= 1).all()) else (self._grid(size, device).abs() > 1).any(-1)

    def flow(self, flow: Tensor) -> Tensor:
        """Move flow ``(N, 2, H, W)``: zoom lengthens the vectors, a mirror turns the sign of x."""
        return self.maps(flow) * self._lengthening(flow.device)

    def _lengthening(self, device: torch.device) -> Tensor:
        """Factors of the vectors' x and y, ``(N, 2, 1, 1)``."""
        return torch.stack([self.sign * self.zoom, self.zoom], 1).to(device, non_blocking=True)[:, :, None, None]

    def clips(self, batch: ClipBatch) -> ClipBatch:
        """Move a whole batch; keys stay."""
        t = batch.frames.shape[1]
        together = torch.cat([batch.frames.flatten(1, 2), batch.flow.flatten(1, 2)], 1)  # one pass costs less than two
        grid = self._grid((together.shape[2], together.shape[3]), together.device)
        moved = self.maps(together, grid=grid)
        n, _, height, width = moved.shape
        frames = moved[:, : 3 * t].reshape(n, t, 3, height, width)
        flow = moved[:, 3 * t :].reshape(n, t - 1, 2, height, width) * self._lengthening(moved.device)[:, None]
        valid = self.maps(batch.valid.float(), "nearest", grid) > 0.5
        if (around := self._around((height, width), moved.device)) is not None:
            frames, flow = (x.masked_fill(around[:, None, None], 0.0) for x in (frames, flow))
            valid = valid & ~around[:, None]
        return ClipBatch(frames, flow, valid, batch.keys)


def colour_jitter(clip: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation factors ``1 ± 0.5 strength`` and gamma ``1 ± 0.3 strength``, one draw for all frames.

    Args:
        clip: ``(T, 3, H, W)`` in 0..1.
        strength: 0 changes nothing. Ranges are ours.
    """
    from torchvision.transforms.v2 import functional as TF

    factor = uniform(3, 1 - 0.5 * strength, 1 + 0.5 * strength, generator).tolist()
    gamma = float(uniform(1, 1 - 0.3 * strength, 1 + 0.3 * strength, generator))
    clip = TF.adjust_brightness(clip, factor[0])
    clip = TF.adjust_contrast(clip, factor[1])
    clip = TF.adjust_saturation(clip, factor[2])
    jittered: Tensor = TF.adjust_gamma(clip, gamma)
    return jittered


def photometric(frames: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Colour jitter, grey, blur and pixel noise of ``frames`` ``(N, T, 3, H, W)`` in 0..1; strength 0 changes nothing.

    Per clip: :func:`colour_jitter`, with probability ``0.5 strength`` a Gaussian blur (sigma 0.3..1.2 px), with
    ``0.1 strength`` grey; noise of standard deviation up to ``0.05 strength`` independently per frame. Strengths are ours.
    """
    from torchvision.transforms.v2 import functional as TF

    views = frames.new_empty(frames.shape)
    for clip, view in zip(frames, views, strict=True):
        clip = colour_jitter(clip, strength, generator)
        coins = torch.rand(2, generator=generator).tolist()
        sigma = float(uniform(1, 0.3, 1.2, generator))
        noise = float(uniform(1, 0.0, 0.05 * strength, generator))
        if coins[0] < 0.5 * strength:  # all frames as channels of one picture: the same bits, sooner
            clip = TF.gaussian_blur(clip.flatten(0, 1)[None], [5, 5], [sigma, sigma])[0].unflatten(0, clip.shape[:2])
        if coins[1] < 0.1 * strength:
            clip = TF.rgb_to_grayscale(clip, 3)
        grain = torch.randn(clip.shape, generator=generator).to(clip.device, non_blocking=True)
        torch.clamp(grain.mul_(noise).add_(clip), 0, 1, out=view)
    return views


def strong_view(batch: ClipBatch, geometry: Geometry, strength: float, generator: torch.Generator) -> ClipBatch:
    """Geometry, then photometric noise."""
    moved = geometry.clips(batch)
    return ClipBatch(photometric(moved.frames, strength, generator), moved.flow, moved.valid, moved.keys)
