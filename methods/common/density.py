"""Soft neighbourhood density: how well predictions cluster, without labels; and a student's densities kept over steps (DT-ST)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.common.growing import Growing


def soft_neighbourhood_density(probabilities: Tensor, temperature: float = 0.05) -> Tensor:
    """Mean entropy of each sample's similarity to the others, in nats; higher = denser neighbourhoods.

    ``P_ij = softmax_j(f_i . f_j / t)`` over ``j != i`` with f the predictions at unit length; ``SND = mean_i H(P_i)``, at most
    ``ln(n - 1)``.

    Args:
        probabilities: ``(n, K)``, n samples, at least 2.
        temperature: t, 0.05 as published.

    Source: Saito et al., "Tune it the Right Way", ICCV 2021. (DT-ST's code leaves each sample among its own neighbours.)
    """
    f = F.normalize(probabilities, dim=1)
    diagonal = torch.eye(len(f), dtype=torch.bool, device=f.device)
    with torch.autocast(f.device.type, enabled=False):
        logp = (f @ f.t() / temperature).masked_fill(diagonal, -1 / temperature).log_softmax(1)
    return -(logp.exp() * logp).sum(1).mean()


class DensityRecord(Growing):
    """Batches of frames, the pixels that were looked at, and the density that the student had there; compared with it later.

    Frames are held as 8-bit pictures: exact for those that come from files.
    """

    GROWING: ClassVar[dict[str, torch.dtype]] = {
        "frames": torch.uint8,
        "pixels": torch.int64,
        "densities": torch.float32,
    }
    frames: Tensor
    pixels: Tensor
    densities: Tensor

    def __len__(self) -> int:
        return len(self.densities)

    @torch.no_grad()
    def add(self, frames: Tensor, pixels: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        """Note a batch.

        Args:
            frames: ``(N, 3, H, W)`` in 0..1.
            pixels: of the flattened ``(N, h, w)`` predictions, int64 ``(n,)``.
            predict: probabilities ``(N, K, h, w)`` of frames.
        """
        eight_bit = (255 * frames).round().to(torch.uint8)
        density = self.density(eight_bit, pixels, predict)[None]
        if len(self):
            self.frames = torch.cat([self.frames, eight_bit[None]])
            self.pixels = torch.cat([self.pixels, pixels[None]])
            self.densities = torch.cat([self.densities, density])
        else:
            self.frames, self.pixels, self.densities = eight_bit[None], pixels[None], density

    @torch.no_grad()
    def improved(self, predict: Callable[[Tensor], Tensor]) -> Tensor:
        """Share of the batches on which the density is higher now than it was."""
        densities = [
            self.density(frames, pixels, predict) for frames, pixels in zip(self.frames, self.pixels, strict=True)
        ]
        return (torch.stack(densities) > self.densities).float().mean()

    def clear(self) -> None:
        """Forget all."""
        for name, dtype in self.GROWING.items():
            setattr(self, name, torch.empty(0, dtype=dtype, device=self.densities.device))

    @staticmethod
    def density(frames: Tensor, pixels: Tensor, predict: Callable[[Tensor], Tensor]) -> Tensor:
        """Soft neighbourhood density of the predictions of 8-bit frames at some pixels."""
        p = predict(frames.float() / 255)
        return soft_neighbourhood_density(p.movedim(1, -1).reshape(-1, p.shape[1])[pixels])
