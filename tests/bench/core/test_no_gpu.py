"""The simulated GPU: operations counted, memory held, waits of the processor for it, and its backward pass."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.fake_backward import Kept, backward
from bench.core.no_gpu import BLOCK, Ledger, no_gpu, onto_gpu
from stpl import pixel_contrast


def wait_names(ledger: Ledger) -> set[str]:
    return {wait.what for wait in ledger.waits}


def test_a_product_is_counted_and_what_lives_is_held() -> None:
    with no_gpu(3) as ledger:
        a, b = torch.empty(256, 64, device="cuda"), torch.empty(64, 128, device="cuda")
        assert ledger.live == ledger.peak == 4 * (256 * 64 + 64 * 128)
        c = a @ b
        assert c.device.type == "cuda" and sum(operation.flops for operation in ledger.operations) == 2 * 256 * 64 * 128
        assert ledger.operations[-1].bytes == 4 * (256 * 64 + 64 * 128 + 256 * 128)
        del c
        assert ledger.live == 4 * (256 * 64 + 64 * 128) and ledger.peak == ledger.live + 4 * 256 * 128
        view, small = a[:2], torch.empty(3, device="cuda")
        assert ledger.live == 4 * (256 * 64 + 64 * 128) + BLOCK and view.shape == (2, 64) and small.shape == (3,)


def test_what_is_on_the_processor_has_values() -> None:
    with no_gpu(3):
        assert torch.arange(3).tolist() == [0, 1, 2]
        assert torch.rand(2, generator=torch.Generator().manual_seed(0)).tolist() == pytest.approx(
            [0.4963, 0.7682], abs=1e-4
        )
    assert torch.Generator is not None and torch.Tensor.backward.__module__ == "torch._tensor"


def test_a_tensor_on_the_wrong_device_is_an_error() -> None:
    with no_gpu(3), pytest.raises(RuntimeError, match="same device"):
        torch.empty(3, device="cuda") + torch.ones(3)


def test_what_makes_the_processor_wait_is_noted() -> None:
    with no_gpu(3) as ledger:
        x = torch.empty(4, 5, device="cuda")
        assert float(x.sum()) == 1.0 and wait_names(ledger) == {"_local_scalar_dense"}
        ledger.reset()
        assert x[x > 0].shape == (20,) and wait_names(ledger) == {"index"}
        ledger.reset()
        assert torch.ones(3).to("cuda", non_blocking=True).device.type == "cuda" and not ledger.waits
        torch.ones(3).to("cuda")
        x.new_tensor([1.0, 2.0])
        assert sum(ledger.waits.values()) == 2 and wait_names(ledger) == {"copy to the GPU"}
        ledger.reset()
        assert x.cpu().tolist() == [[0.0] * 5] * 4 and wait_names(ledger) == {"copy from the GPU"}
        ledger.reset()
        x[x > 0] = 0.0
        torch.bincount(x.flatten().long(), minlength=3).tolist()
        assert {"index_put_", "bincount"} <= wait_names(ledger)
        assert not bool((x > 0).any()) and bool((x > 0).all())


class Net(nn.Module):
    """Shared weights, a residual sum, a broadcast, two types, and a function with a gradient of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.scale = nn.Parameter(torch.ones(4, 1, 1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu()
        y = y + self.last(self.last(y)) * self.scale.float()
        rows = F.normalize(y.flatten(2).transpose(1, 2).reshape(-1, 4), dim=1)
        labels = torch.arange(len(rows), device=rows.device) % 3
        return pixel_contrast(rows, labels) + y.square().mean() + self.first.bias.sum()


def test_the_backward_pass_is_autograds() -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.rand(2, 3, 8, 8)
    net(x).backward()
    expected = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    assert expected.keys() == dict(net.named_parameters()).keys()
    net.zero_grad()
    for _ in range(2):  # the second time it adds
        with torch.autograd.graph.saved_tensors_hooks(Kept, Kept.get):
            loss = net(x)
        backward(loss)
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.dtype == p.dtype
        assert torch.equal(p.grad, 2 * expected[name]), name


def test_it_runs_on_the_gpu_that_is_not_there_and_lets_go_of_what_it_kept() -> None:
    with no_gpu(3) as ledger:
        net, x = Net(), torch.rand(2, 3, 8, 8)
        onto_gpu(net, ledger)
        held = ledger.live
        loss = net(x.to("cuda"))
        before = ledger.live
        loss.backward()
        assert all(p.grad is not None and p.grad.device.type == "cuda" for p in net.parameters())
        assert held < ledger.live < before
        with pytest.raises(AssertionError, match="twice"):
            loss.backward()
