"""Pictures' frequencies: Fourier style transfer and RDA's bands, identities and loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from methods.common import (
    band_energy,
    band_map,
    fourier_mix,
    reverse_gradient,
    spectral_transfer,
    swap_bands,
    top_components,
)
from methods.common.fourier import unit_phase
from tests.methods.batches import seeded


def test_spectral_transfer_identities() -> None:
    a, b = torch.rand(2, 3, 20, 31, generator=seeded()), torch.rand(2, 3, 20, 31, generator=seeded(1))
    torch.testing.assert_close(spectral_transfer(a, a, 0.2), a, atol=1e-5, rtol=0)
    torch.testing.assert_close(spectral_transfer(a, b, 0.0, window="corners"), a, atol=1e-5, rtol=0)
    styled = spectral_transfer(a, b, 0.0)  # the symmetric window still takes the mean
    torch.testing.assert_close(styled.mean((2, 3)), b.mean((2, 3)), atol=1e-5, rtol=0)
    mirrored = spectral_transfer(a.flip(-1), b.flip(-1), 0.1)
    torch.testing.assert_close(mirrored, spectral_transfer(a, b, 0.1).flip(-1), atol=1e-4, rtol=0)
    torch.testing.assert_close(fourier_mix(a, b, 0.1), spectral_transfer(a, b, 0.1))
    assert torch.isfinite(spectral_transfer(torch.zeros(1, 1, 8, 8), torch.rand(1, 1, 8, 8), 0.3)).all()
    with pytest.raises(ValueError, match="differ"):
        spectral_transfer(a, b[..., :-1], 0.1)
    with pytest.raises(ValueError, match=r"0\.\.0\.5"):
        spectral_transfer(a, b, 0.6)


def test_band_map_against_loops() -> None:
    for height, width in ((36, 64), (33, 65), (8, 10), (64, 64)):
        expected = torch.full((height, width), -1)
        for k in reversed(range(1, 33)):
            h, w = height * k // 64, width * k // 64
            for rows in (slice(0, h), slice(height - h, height)):
                for columns in (slice(0, w), slice(width - w, width)):
                    expected[rows, columns] = k - 1
        if height % 2:
            expected[height // 2] = -1
        assert torch.equal(band_map(height, width), expected), (height, width)


def test_swap_bands_identities_and_odd_sizes() -> None:
    image, reference = torch.rand(2, 3, 33, 65, generator=seeded()), torch.rand(2, 3, 33, 65, generator=seeded(1))
    nothing = torch.zeros(2, 32, 3)
    torch.testing.assert_close(swap_bands(image, reference, nothing)[0], image, atol=1e-5, rtol=0)
    lost = swap_bands(image, reference, nothing, published=True)[0]
    assert float((lost - image).abs().max()) > 0.01  # the middle row and column of the spectrum, lost as published
    even = torch.rand(1, 3, 32, 64, generator=seeded())
    total = band_energy(even).sum((1, 2))
    torch.testing.assert_close(total, even.square().sum((1, 2, 3)) * even.shape[-1] * even.shape[-2])  # Parseval


def test_the_gate_gets_a_gradient_and_it_is_reversed() -> None:
    scores = torch.randn(2, 96, generator=seeded(), requires_grad=True)
    chosen = top_components(scores, 9)
    assert chosen.detach().sum(1).tolist() == pytest.approx([9.0, 9.0])
    picked = scores.detach().masked_select(chosen.detach() > 0.5).view(2, 9).min(1).values
    assert (picked >= scores.detach().masked_select(chosen.detach() < 0.5).view(2, 87).max(1).values).all()
    image, reference = torch.rand(2, 3, 16, 32, generator=seeded(1)), torch.rand(2, 3, 16, 32, generator=seeded(2))

    def gradient(turn: bool) -> Tensor:
        share = top_components(scores, 9).view(2, 32, 3)
        out, _ = swap_bands(image, reference, reverse_gradient(share) if turn else share)
        return torch.autograd.grad((out - image).square().sum(), scores)[0]

    assert gradient(False).abs().sum() > 0
    torch.testing.assert_close(gradient(True), -gradient(False))


@pytest.mark.parametrize("size", [(36, 50), (30, 34), (65, 129), (128, 256)])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_what_rounding_leaves_of_a_spectrum_has_no_phase(size: tuple[int, int], kind: torch.dtype) -> None:
    """A constant picture has one frequency. Transforms leave others at 1e-8 of it, with any phase; a style's amplitude under
    those would be noise instead of the style's own spectrum at phase 0."""
    content = torch.full((1, 1, *size), 0.3, dtype=kind)
    phase = unit_phase(torch.fft.fft2(content))
    torch.testing.assert_close(phase, torch.ones_like(phase))
    style = torch.rand(1, 1, *size, generator=seeded(), dtype=kind)
    border = int(0.2 * min(size))
    low = [torch.tensor([min(k, n - k) <= border for k in range(n)]) for n in size]
    window = low[0][:, None] & low[1]
    expected = torch.fft.ifft2(torch.where(window, torch.fft.fft2(style).abs(), 0.0)).real
    torch.testing.assert_close(spectral_transfer(content, style, 0.2), expected, atol=1e-4, rtol=1e-4)
    true = torch.fft.fft2(style)
    torch.testing.assert_close(unit_phase(true), true / true.abs())
