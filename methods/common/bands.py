"""RDA's frequency bands: 32 square rings of the spectrum, whose amplitude may be taken from another image.

Images ``(N, C, H, W)``, floating point, any unit. A component is a band of a channel, numbered ``C * band + channel``. Computed in
float32 (float64 for float64 input), also under autocast.

Source of all: RDA (Huang et al., ICCV 2021) section 3.2 and its published code.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.common.fourier import unit_phase

BANDS = 32


def band_map(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Band of each frequency of the unshifted spectrum, int64 ``(H, W)``; -1 for the middle row or column of an odd size.

    Region t is the four corners of ``floor(H t / 2) x floor(W t / 2)``; band k is region (k + 1) / 32 without region k / 32.
    """

    def first_region(length: int) -> Tensor:
        extents = torch.arange(1, BANDS + 1, device=device) * length // (2 * BANDS)  # of regions 1/32 ... 32/32
        at = torch.arange(length, device=device)
        return torch.searchsorted(extents, torch.minimum(at, length - 1 - at), right=True)

    band = torch.maximum(first_region(height)[:, None], first_region(width)[None, :])
    return torch.where(band < BANDS, band, -1)


def band_energy(images: Tensor) -> Tensor:
    """``sum |F|^2`` of each band and channel, ``(N, 32, C)``."""
    with torch.autocast(images.device.type, enabled=False):
        power = torch.fft.fft2(_full(images)).abs().square().flatten(2)
    band = band_map(images.shape[-2], images.shape[-1], images.device).flatten()
    energy = power.new_zeros(*power.shape[:2], BANDS + 1)
    energy.index_add_(2, torch.where(band < 0, BANDS, band), power)
    by_band: Tensor = energy[..., :BANDS].transpose(1, 2)
    return by_band


def swap_bands(
    images: Tensor, reference: Tensor, share: Tensor, *, published: bool = False, inverse: str = "real"
) -> tuple[Tensor, Tensor]:
    """Images whose components have the reference's amplitude in part, and how far apart amplitudes are.

    ``A = (1 - share) A_image + share A_reference`` under the image's phase. The reference is resized (bilinear, aligned corners)
    to the image's size first.

    Args:
        images: ``(N, C, H, W)``.
        reference: ``(N, C, H', W')``.
        share: ``(N, 32, C)`` in 0..1, of each component; gradient flows to it.
        published: True leaves out frequencies of no band (odd sizes), as published; False keeps them as they are.
        inverse: ``real`` part of the full inverse transform, or ``half``: the left half of the spectrum alone, as the published
            code read it. They differ slightly, since the regions are not symmetric.

    Returns:
        The images, and ``mean |A_reference - A_image|`` per component ``(N, 32, C)``, where the mean is over all H W frequencies;
        times ``share`` it is how far the amplitudes moved.
    """
    size = (images.shape[-2], images.shape[-1])
    if reference.shape[-2:] != images.shape[-2:]:
        reference = F.interpolate(_full(reference), size, mode="bilinear", align_corners=True)
    band = band_map(*size, device=images.device)
    with torch.autocast(images.device.type, enabled=False):
        spectrum, reference_spectrum = torch.fft.fft2(_full(images)), torch.fft.fft2(_full(reference))
        amplitude = spectrum.abs()
        difference = reference_spectrum.abs() - amplitude
        padded = F.pad(share.to(amplitude), (0, 0, 0, 1))  # one more band, of what is in none
        spread = padded[:, torch.where(band < 0, BANDS, band)].movedim(-1, 1)  # (N, C, H, W)
        mixed = spectrum + spread * difference * unit_phase(spectrum)
        if published:
            mixed = mixed * (band >= 0)
        distance = amplitude.new_zeros(*amplitude.shape[:2], BANDS + 1)
        distance.index_add_(2, torch.where(band < 0, BANDS, band).flatten(), difference.abs().flatten(2))
        distance = distance[..., :BANDS].transpose(1, 2) / band.numel()
        if inverse == "half":
            return torch.fft.irfft2(mixed[..., : size[1] // 2 + 1], s=size), distance
        return torch.fft.ifft2(mixed).real, distance


def _full(images: Tensor) -> Tensor:
    return images if images.dtype == torch.float64 else images.float()


def attack_term(moved: Tensor) -> Tensor:
    """``- mean |change of amplitude|`` over the components of bands 2..15, where shapes and outlines are.

    The gate is trained against the loss (:func:`reverse_gradient`), so that this term keeps those bands as they are.

    Args:
        moved: mean change of the amplitude per component, ``(N, 32, C)``.
    """
    return -moved[:, 2:16].mean()


def top_components(scores: Tensor, count: int) -> Tensor:
    """Straight-through choice: 1 for the ``count`` highest scores ``(N, M)`` of each row, 0 else, with the sigmoid's gradient."""
    soft = scores.sigmoid()
    hard = torch.zeros_like(soft).scatter(1, scores.topk(count, dim=1).indices, 1.0)
    return hard + soft - soft.detach()


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


def reverse_gradient(x: Tensor) -> Tensor:
    """``x``; what comes before it is trained to raise the loss that what comes after lowers (Ganin & Lempitsky, ICML 2015)."""
    reversed_: Tensor = _Reversed.apply(x)
    return reversed_
