"""RDA's swap of bands, component by component. Map, energy and identities: test_blocks; vectors: tests/reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.common.bands import BANDS, attack_term, band_energy, band_map, swap_bands, top_components


def images(seed: int, height: int = 18, width: int = 24, n: int = 2) -> Tensor:
    return 255 * torch.rand(n, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def chosen(n: int = 2, share: float = 0.3) -> Tensor:
    return (torch.rand(n, BANDS, 3, generator=torch.Generator().manual_seed(9)) < share).double()


@pytest.mark.parametrize("size", [(18, 24), (17, 25), (16, 21), (66, 70)])
def test_swap_against_loops_over_components(size: tuple[int, int]) -> None:
    image, reference, share = images(0, *size), images(1, *size), chosen()
    band = band_map(*size).numpy()
    swapped, apart = swap_bands(image, reference, share)
    for n in range(2):
        for c in range(3):
            spectrum, style = np.fft.fft2(image[n, c].numpy()), np.fft.fft2(reference[n, c].numpy())
            mixed = spectrum.copy()
            for k in range(BANDS):
                mask = band == k
                distance = np.abs(np.abs(style) - np.abs(spectrum))[mask].sum() / band.size
                assert float(apart[n, k, c]) == pytest.approx(distance)
                if share[n, k, c]:
                    mixed[mask] = np.abs(style)[mask] * np.exp(1j * np.angle(spectrum))[mask]
            np.testing.assert_allclose(swapped[n, c].numpy(), np.fft.ifft2(mixed).real, atol=1e-8)


@pytest.mark.parametrize("size", [(8, 10), (33, 65), (66, 70)])
def test_bands_are_rings_and_their_energies_add_up(size: tuple[int, int]) -> None:
    image = images(0, *size)
    band = band_map(*size)
    energy = band_energy(image)
    power = torch.fft.fft2(image).abs().square()
    for k in range(BANDS):
        torch.testing.assert_close(energy[:, k], power[..., band == k].sum(-1))
    in_bands = (band >= 0).sum()
    odd = size[0] % 2 * size[1] + size[1] % 2 * size[0] - size[0] % 2 * (size[1] % 2)
    assert int(in_bands) + odd == size[0] * size[1]  # one middle row or column of an odd size is in no band


def test_a_share_in_between_moves_amplitudes_in_between_and_passes_a_gradient() -> None:
    image, reference = images(0, 6, 8, 1), images(1, 6, 8, 1)
    share = torch.full((1, BANDS, 3), 0.4, dtype=torch.float64, requires_grad=True)
    half = swap_bands(image, reference, share)[0].detach()
    all_, none = (swap_bands(image, reference, torch.full_like(share, s).detach())[0] for s in (1.0, 0.0))
    torch.testing.assert_close(half, 0.4 * all_ + 0.6 * none)  # linear in the share
    assert torch.autograd.gradcheck(lambda s: swap_bands(image, reference, s)[0].square().sum().sqrt(), share)


def test_each_image_has_its_own_components() -> None:
    image, reference, share = images(0), images(1), chosen()
    together = swap_bands(image, reference, share)
    for n in range(2):
        single = slice(n, n + 1)
        for a, b in zip(together, swap_bands(image[single], reference[single], share[single]), strict=True):
            torch.testing.assert_close(a[single], b)


def test_a_reference_of_another_size_is_resized_first() -> None:
    image, reference, share = images(0), images(1, 30, 50), chosen()
    fitted = torch.nn.functional.interpolate(reference, (18, 24), mode="bilinear", align_corners=True)
    torch.testing.assert_close(swap_bands(image, reference, share)[0], swap_bands(image, fitted, share)[0])


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_flat_and_black_images_stay_finite(value: float) -> None:
    flat = torch.full((1, 3, 18, 24), value)
    swapped, apart = swap_bands(flat, images(1, n=1).float(), torch.ones(1, BANDS, 3))
    assert torch.isfinite(swapped).all() and torch.isfinite(apart).all()


def test_autocast_does_not_touch_the_transform() -> None:
    image, reference, share = images(0).float(), images(1).float(), chosen().float()
    plain = swap_bands(image, reference, share)[0], band_energy(image)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = swap_bands(image, reference, share)[0], band_energy(image)
    for a, b in zip(plain, mixed, strict=True):
        assert b.dtype == torch.float32 and torch.equal(a, b)


def test_attack_term_is_the_mean_over_bands_2_to_15() -> None:
    moved = torch.zeros(1, BANDS, 3)
    moved[:, [0, 1, 16, 31]] = 100.0  # do not count
    assert float(attack_term(moved)) == 0.0
    moved[0, 2, 0], moved[0, 15, 2] = 21.0, 21.0
    assert float(attack_term(moved)) == pytest.approx(-1.0)  # 42 over 14 bands x 3 channels


def test_the_straight_through_gradient_is_the_sigmoids() -> None:
    scores = torch.randn(2, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.arange(20.0, dtype=torch.float64).view(2, 10)
    hard = top_components(scores, 3)
    (gradient,) = torch.autograd.grad((weight * hard).sum(), scores)
    p = scores.detach().sigmoid()
    torch.testing.assert_close(gradient, weight * p * (1 - p))
    assert sorted({round(v, 6) for v in hard.detach().flatten().tolist()}) == [0.0, 1.0]
