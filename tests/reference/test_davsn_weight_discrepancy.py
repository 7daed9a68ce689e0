"""DA-VSN's discriminators: output and losses on concatenated scores, and the discrepancy of their weights."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from methods.common.adversarial import SOURCE, TARGET, Discriminator, domain_loss, judged, weight_discrepancy

FILE = "davsn_weight_discrepancy"


def discriminator(case, name):
    """With the weights of the file, whatever their widths."""
    tensors = [case.tensor(f"in_{name}_param{k:02d}") for k in range(10)]
    net = Discriminator(tensors[0].shape[1], tensors[0].shape[0])
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), tensors, strict=True):
            parameter.copy_(value)
    return net


@pytest.mark.cases("in_sta_param00", "in_sa_param00")
def test_discrepancy_and_gradient(case, assert_close):
    assert_close(weight_discrepancy(discriminator(case, "sta"), discriminator(case, "sa")), case["out_loss_wd"])
    # In float64, since the gradient of a single number's cosine is 0 as a difference of equal terms.
    temporal, spatial = discriminator(case, "sta").double(), discriminator(case, "sa").double()
    weight_discrepancy(temporal, spatial).backward()
    for name, net in (("sta", temporal), ("sa", spatial)):
        for k, parameter in enumerate(net.parameters()):
            expected = case[f"out_grad_{name}_param{k:02d}"]
            scale = float(np.abs(expected).max())
            np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=1e-4, atol=1e-5 * scale + 1e-7)
    assert_close(weight_discrepancy(temporal, temporal).float(), case["out_loss_wd_identical"])
    opposed = discriminator(case, "sta").double()
    with torch.no_grad():
        for parameter in opposed.parameters():
            parameter.mul_(-3.0)
    expected = float(case["out_loss_wd_negated_scaled"])
    assert float(weight_discrepancy(temporal, opposed).detach()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.cases("in_sta_param00", "in_pred_cf", "in_pred_kf", "param_up_size")
def test_outputs_and_losses(case, assert_close):
    size = tuple(int(side) for side in case["param_up_size"])
    views = {"": ("sta", "in_pred_kf"), "_sa": ("sa", "in_pred_cf")}
    for suffix, (name, second) in views.items():
        current = case.tensor("in_pred_cf").requires_grad_()
        paired = case.tensor(second) if suffix == "" else current
        joint = torch.cat([current, paired], 1)
        maps = F.interpolate(joint, size, mode="bilinear", align_corners=True).softmax(1)
        if min(size) >= 32:
            torch.testing.assert_close(judged(joint, size, 1), maps)
        out = discriminator(case, name)(maps)
        assert_close(out, case[f"out_disc_{name}"])
        loss = domain_loss(out, SOURCE)
        assert_close(loss, case[f"out_bce0{suffix}"])
        if suffix == "" and "out_bce1" in case:
            assert_close(domain_loss(out, TARGET), case["out_bce1"])
            half = float(maps[:, : maps.shape[1] // 2].detach().sum(1).mean())
            if "out_softmax_channel_sum_first_half_mean" in case:
                np.testing.assert_allclose(half, case["out_softmax_channel_sum_first_half_mean"], rtol=1e-5)
        (gradient,) = torch.autograd.grad(loss, current)
        assert_close(gradient, case[f"out_bce0{suffix}_grad_pred_cf"])
