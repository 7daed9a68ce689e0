"""FDA's amplitude swap where 1 % of the shorter side is a pixel: the smallest window that does anything."""

import numpy as np
import pytest

from methods.common.fourier import spectral_transfer

FILE = "fda_spectral_transfer_large"


@pytest.mark.cases("in_src", "in_trg")
def test_every_fraction(case):
    source, target = (case.tensor(name).float() for name in ("in_src", "in_trg"))
    inner = [suffix.removesuffix("param_L") for suffix in case.suffixes() if suffix.endswith("param_L")]
    assert inner
    for name in inner:
        fraction = float(case[f"{name}param_L"])
        half = spectral_transfer(source, target, fraction, window="corners", inverse="half")
        real = spectral_transfer(source, target, fraction, window="corners", inverse="real")
        np.testing.assert_allclose(half.numpy(), case[f"{name}out_torch"], rtol=0, atol=5e-3)
        if f"{name}out_torch_realpart" in case:
            np.testing.assert_allclose(real.numpy(), case[f"{name}out_torch_realpart"], rtol=0, atol=5e-3)
        if f"{name}out_maxabs_torch_minus_torch_realpart" in case:
            expected = float(case[f"{name}out_maxabs_torch_minus_torch_realpart"])
            assert float((half - real).abs().max()) == pytest.approx(expected, abs=5e-3)
        symmetric = spectral_transfer(source.double(), target.double(), fraction)
        np.testing.assert_allclose(symmetric.numpy(), case[f"{name}out_numpy"], rtol=0, atol=5e-3)
