"""Style from the spectrum: the low-frequency amplitude of one image under the phase of another.

Images are ``(N, C, H, W)``, floating point, in any unit: amplitudes scale with it. Everything is computed in float32 (float64
for float64 input), also under autocast. The result is not clipped.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Window = Literal["symmetric", "corners"]
Inverse = Literal["real", "half"]


def spectral_transfer(
    content: Tensor, style: Tensor, fraction: float, *, window: Window = "symmetric", inverse: Inverse = "real"
) -> Tensor:
    """``content`` with its low-frequency amplitude replaced by that of ``style``; the phase stays.

    With ``b = floor(fraction * min(H, W))`` the frequencies ``-b..b`` in either direction are replaced (``symmetric``), or
    ``-b..b-1`` as in the published training code (``corners``), which for b = 0 changes nothing and at 1 % needs an image of
    100 pixels.

    Args:
        content: ``(N, C, H, W)``.
        style: the same shape; image i takes the style of image i.
        fraction: L, 0..0.5.
        window: which frequencies.
        inverse: ``real`` takes the real part of the inverse transform; ``half`` reads the left half of the spectrum alone, as
            the published code did through a complex-to-real routine. The two differ for ``corners``, whose spectrum is not
            that of a real image; for ``symmetric`` they agree.

    Raises:
        ValueError: shapes differ or ``fraction`` is outside 0..0.5.

    Source: FDA (Yang & Soatto, CVPR 2020) eq. 3, published code.
    """
    if content.shape != style.shape:
        raise ValueError(f"spectral_transfer: content {tuple(content.shape)} and style {tuple(style.shape)} differ")
    if not 0 <= fraction <= 0.5:
        raise ValueError(f"spectral_transfer: fraction must be within 0..0.5, got {fraction}")
    size = (content.shape[-2], content.shape[-1])
    border = int(fraction * min(size))
    kind = torch.float64 if content.dtype == torch.float64 else torch.float32
    with torch.autocast(content.device.type, enabled=False):
        content, style = content.to(kind), style.to(kind)
        last = border if window == "symmetric" else border - 1
        if window == "symmetric" or inverse == "half":
            # A real image's spectrum is given by its left half; the rest of the window follows by symmetry.
            spectrum, style_spectrum = torch.fft.rfft2(content), torch.fft.rfft2(style)
            rows = _low(size[0], border, last, content.device)
            columns = torch.arange(spectrum.shape[-1], device=content.device) <= last
            if window == "corners" and size[1] - border < spectrum.shape[-1]:
                columns |= torch.arange(spectrum.shape[-1], device=content.device) >= size[1] - border
            mixed = swap_amplitude(spectrum, style_spectrum, rows[:, None] & columns)
            styled: Tensor = torch.fft.irfft2(mixed, s=size)
            return styled
        spectrum, style_spectrum = torch.fft.fft2(content), torch.fft.fft2(style)
        rows, columns = (_low(n, border, last, content.device) for n in size)
        styled = torch.fft.ifft2(swap_amplitude(spectrum, style_spectrum, rows[:, None] & columns)).real
        return styled


def _low(length: int, border: int, last: int, device: torch.device) -> Tensor:
    """Bool ``(length,)``: frequencies ``-border..last`` of an unshifted axis."""
    at = torch.arange(length, device=device)
    return (at <= last) | (at >= length - border)


def swap_amplitude(spectrum: Tensor, style: Tensor, mask: Tensor) -> Tensor:
    """Complex ``spectrum`` with the amplitude of the spectrum ``style`` where ``mask`` is True; phase 0 where it has none."""
    return torch.where(mask, style.abs() * unit_phase(spectrum), spectrum)


def unit_phase(spectrum: Tensor) -> Tensor:
    """``F / |F|``, complex; 1 where F is 0 but for the transform's rounding, whose phase means nothing.

    Rounding is what is below one machine epsilon of the largest |F| of an image's channel, of float64 64 of them. Measured on
    constant pictures, whose other frequencies should be 0: none at powers of two, up to 0.45 of it at 30 x 34 to 720 x 1280; of
    float64 up to 17 on an Intel Xeon.
    """
    amplitude = spectrum.abs()
    limits = torch.finfo(amplitude.dtype)
    epsilons = 64 if amplitude.dtype == torch.float64 else 1
    significant = amplitude > epsilons * limits.eps * amplitude.amax((-2, -1), keepdim=True)
    return torch.where(significant, spectrum / amplitude.clamp_min(limits.tiny), 1.0)


def fourier_mix(content: Tensor, style: Tensor, fraction: float) -> Tensor:
    """:func:`spectral_transfer` from a style of any size, resized (bicubic) to the content first; symmetric window.

    Repair: PixMatch's published code resizes the style only where the content is larger, and else cuts the window out of the
    larger spectrum, so that two of its corners hit other frequencies.
    """
    size = (content.shape[-2], content.shape[-1])
    if style.shape[-2:] != content.shape[-2:]:
        style = F.interpolate(style.float(), size, mode="bicubic", align_corners=False)
    return spectral_transfer(content, style.to(content), fraction)
