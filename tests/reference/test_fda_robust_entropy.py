"""FDA's Charbonnier entropy, with the published constant ln 19 and with ln C."""

import pytest
import torch

from methods.common.information import robust_entropy

FILE = "fda_robust_entropy"


@pytest.mark.cases("in_logits")
def test_loss_and_gradient(case, assert_close):
    inner = {s.rsplit("_out_", 1)[0] for s in case.suffixes() if "_out_loss" in s}
    assert inner
    for name in sorted(inner):  # ita2p0_fixed, ita1p5_lnC, ...
        eta, kind = name.removeprefix("ita").split("_")
        power = float(eta.replace("p", "."))
        scale = float(case[f"param_const_{kind}"])
        logits = case.tensor("in_logits").double().requires_grad_()
        loss = robust_entropy(logits, power, scale)
        assert_close(loss, case[f"{name}_out_loss64"])
        (gradient,) = torch.autograd.grad(loss, logits)
        assert_close(gradient, case[f"{name}_out_grad_logits64"])
        assert_close(robust_entropy(case.tensor("in_logits"), power, scale), case[f"{name}_out_loss"])
        if kind == "lnC":  # what the method uses
            assert_close(
                robust_entropy(case.tensor("in_logits").double(), power), case[f"{name}_out_loss64"], rtol=1e-6
            )
