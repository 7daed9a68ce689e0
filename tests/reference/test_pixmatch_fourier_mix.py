"""PixMatch's Fourier style: the published window on mean-subtracted images; a larger style is the repair."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from methods.common.fourier import fourier_mix, spectral_transfer, swap_amplitude

FILE = "pixmatch_fourier_mix"


def inputs(case):
    mean = case.tensor("param_mean_bgr").float()
    return case.tensor("in_content_bgr").float() - mean, case.tensor("in_style_bgr").float() - mean


@pytest.mark.cases("in_content_bgr", "in_style_bgr")
def test_published_mix(case):
    content, style = inputs(case)
    height, width = content.shape[-2:]
    if height > style.shape[-2] or width > style.shape[-1]:
        style = F.interpolate(style, (height, width), mode="bicubic", align_corners=False)
    if style.shape == content.shape:
        for inverse, key in (("half", "out_mixed"), ("real", "out_mixed_realpart")):
            mixed = spectral_transfer(content, style, float(case["param_L"]), window="corners", inverse=inverse)
            np.testing.assert_allclose(mixed.numpy(), case[key], rtol=0, atol=5e-3)
        return
    # A larger style, as published: its spectrum is cut with the content's indices, so bottom and right corners hit other
    # frequencies. Written out here alone: ours resizes the style instead.
    border = int(float(case["param_L"]) * min(height, width))
    spectrum, style_spectrum = torch.fft.fft2(content), torch.fft.fft2(style)[..., :height, :width]
    rows, columns = ((torch.arange(n) < border) | (torch.arange(n) >= n - border) for n in (height, width))
    published = swap_amplitude(spectrum, style_spectrum, rows[:, None] & columns)
    half = torch.fft.irfft2(published[..., : width // 2 + 1], s=(height, width))
    np.testing.assert_allclose(half.numpy(), case["out_mixed"], rtol=0, atol=5e-3)
    np.testing.assert_allclose(torch.fft.ifft2(published).real.numpy(), case["out_mixed_realpart"], rtol=0, atol=5e-3)
    repaired = fourier_mix(content, style, float(case["param_L"]))
    if border > 0:
        assert float((repaired - half).abs().max()) > 0.1, "the repair changes the picture"
    resized = F.interpolate(style, (height, width), mode="bicubic", align_corners=False)
    torch.testing.assert_close(repaired, spectral_transfer(content, resized, float(case["param_L"])))
