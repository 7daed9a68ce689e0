"""FDA's amplitude swap: the training variant under both readings of its inverse, and the symmetric one of its demo."""

import numpy as np
import pytest
import torch

from methods.common.fourier import spectral_transfer

FILE = "fda_spectral_transfer"


def fractions(case):
    """Inner prefixes (``L0p01_``) of a case."""
    return [suffix.removesuffix("param_L") for suffix in case.suffixes() if suffix.endswith("param_L")]


def near(actual, expected):
    """Fourier images in 0..255: atol 5e-3."""
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=5e-3)


@pytest.mark.cases("in_src", "in_trg")
def test_every_fraction(case):
    source, target = (case.tensor(name).float() for name in ("in_src", "in_trg"))
    assert fractions(case)
    for inner in fractions(case):
        fraction = float(case[f"{inner}param_L"])
        if f"{inner}param_b" in case:
            assert int(fraction * min(source.shape[-2:])) == int(case[f"{inner}param_b"])
        half = spectral_transfer(source, target, fraction, window="corners", inverse="half")
        real = spectral_transfer(source, target, fraction, window="corners", inverse="real")
        near(half, case[f"{inner}out_torch"])
        if f"{inner}out_torch_realpart" in case:
            near(real, case[f"{inner}out_torch_realpart"])
        if f"{inner}out_maxabs_torch_minus_torch_realpart" in case:
            expected = float(case[f"{inner}out_maxabs_torch_minus_torch_realpart"])
            assert float((half - real).abs().max()) == pytest.approx(expected, abs=5e-3)
        symmetric = spectral_transfer(source.double(), target.double(), fraction)
        near(symmetric, case[f"{inner}out_numpy"])


@pytest.mark.cases("in_src", "in_trg")
def test_why_ours_is_symmetric(case):
    """The published window (-b..b-1) is no spectrum of a real image: its two readings disagree, the symmetric one's agree."""
    source, target = (case.tensor(name).double() for name in ("in_src", "in_trg"))
    real, half = (spectral_transfer(source, target, 0.09, inverse=inverse) for inverse in ("real", "half"))
    torch.testing.assert_close(real, half)
    if torch.equal(source, target) or int(0.09 * min(source.shape[-2:])) == 0:
        return
    real, half = (spectral_transfer(source, target, 0.09, window="corners", inverse=i) for i in ("real", "half"))
    assert float((real - half).abs().max()) > 0.1
