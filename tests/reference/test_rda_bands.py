"""RDA's bands: the map, the energies, the swapped image under both readings of its inverse, the attack's term."""

import numpy as np
import pytest
import torch

from methods.common.bands import attack_term, band_energy, band_map, swap_bands

FILE = "rda_bands"


def share_of(case):
    """1 for the chosen components; index = channels * band + channel."""
    image = case["in_image"]
    channels = image.shape[1]
    share = torch.zeros(len(image), 32 * channels)
    share[:, torch.from_numpy(case["in_gate_index"].astype(np.int64))] = 1
    return share.view(len(image), 32, channels)


@pytest.mark.cases("in_image")
def test_map_and_energy(case, assert_close):
    image = case.tensor("in_image").double()
    band = band_map(*image.shape[-2:])
    if "out_band_index_map" in case:
        assert_close(band.to(torch.int16), case["out_band_index_map"])
    if "out_band_pixel_count" in case:
        counts = torch.bincount(band[band >= 0], minlength=32)
        assert_close(counts.int(), case["out_band_pixel_count"])
    if "out_band_energy64" in case:
        energy = band_energy(image)
        assert_close(energy if case["out_band_energy64"].ndim == 3 else energy[0], case["out_band_energy64"])


@pytest.mark.cases("in_image", "in_gate_index")
def test_the_gate_takes_the_highest_scores(case):
    if "in_gate_scores" not in case:
        pytest.skip("no scores in this case")
    count = len(case["in_gate_index"])
    chosen = torch.topk(case.tensor("in_gate_scores"), count).indices.sort().values
    if np.unique(case["in_gate_scores"]).size == case["in_gate_scores"].size:
        np.testing.assert_array_equal(chosen.numpy(), np.sort(case["in_gate_index"]))
    assert count == int(case["param_topk"]) if "param_topk" in case else True


@pytest.mark.cases("in_image", "in_ref", "in_gate_index", "out_image")
def test_image_and_attack_term(case, assert_close):
    image, reference, share = case.tensor("in_image").float(), case.tensor("in_ref").float(), share_of(case)
    half, apart = swap_bands(image, reference, share, published=True, inverse="half")
    np.testing.assert_allclose(half.numpy(), case["out_image"], rtol=0, atol=5e-3)
    if "out_image_realpart" in case:
        real, _ = swap_bands(image, reference, share, published=True)
        np.testing.assert_allclose(real.numpy(), case["out_image_realpart"], rtol=0, atol=5e-3)
    if "out_loss_faa" in case:
        weight = float(case["param_lambda_faa_aux"]) if "param_lambda_faa_aux" in case else 0.0002
        assert_close(weight * attack_term(share * apart), case["out_loss_faa"])


@pytest.mark.cases("in_image", "in_gate_index")
def test_an_image_that_is_its_own_reference_does_not_change(case):
    """Why the reference is another image here: the published one is the image itself, and its swap does nothing."""
    image = case.tensor("in_image").float()
    same, apart = swap_bands(image, image, share_of(case))
    torch.testing.assert_close(same, image, rtol=0, atol=1e-2)
    assert float(apart.abs().max()) == 0.0
