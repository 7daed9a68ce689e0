"""bfloat16 on processors without it: the roundings of hardware that has it, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.core import precision
from bench.core.precision import bfloat16

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: False)


def rounded(x: Tensor) -> Tensor:
    """To bfloat16's 8 significant bits, by numbers: half to even."""
    mantissa, exponent = torch.frexp(x.double())
    return torch.ldexp(torch.round(mantissa * 256), exponent - 8)


def test_rounding_by_hand() -> None:
    x = torch.tensor([1.0, 1.00390625, 1.01171875, 3.14159265, -0.1])  # the second and third lie half-way
    assert rounded(x).tolist() == [1.0, 1.0, 1.015625, 3.140625, -0.10009765625]
    assert torch.equal(rounded(x).float(), x.bfloat16().float())


OPERATIONS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...], tuple[int, ...]]] = {
    "conv2d": (lambda x, w: F.conv2d(x, w, padding=1, dilation=1), (2, 3, 9, 8), (4, 3, 3, 3)),
    "conv_transpose2d": (lambda x, w: F.conv_transpose2d(x, w, stride=2), (1, 3, 5, 4), (3, 2, 2, 2)),
    "linear": (lambda x, w: F.linear(x, w), (7, 5), (3, 5)),
    "matmul": (lambda x, w: x @ w, (4, 6), (6, 3)),
    "bmm": (torch.bmm, (2, 4, 6), (2, 6, 3)),
    "einsum": (lambda x, w: torch.einsum("nc,kc->nk", x, w), (5, 4), (3, 4)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operands_and_results_are_rounded_and_sums_are_not(name: str) -> None:
    operation, of_x, of_w = OPERATIONS[name]
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=generator).requires_grad_() for shape in (of_x, of_w))
    with bfloat16(CPU):
        y = operation(x, w)
        assert y.dtype == torch.bfloat16
    direction = torch.randn(y.shape, generator=generator).bfloat16()
    y.backward(direction)

    exact_x, exact_w = (rounded(v.detach()).requires_grad_() for v in (x, w))
    exact = operation(exact_x, exact_w)
    exact.backward(direction.double())
    for actual, expected in ((y, exact), (x.grad, exact_x.grad), (w.grad, exact_w.grad)):
        assert actual is not None and expected is not None
        # Equal to what is rounded from the exact sum, but where float32's own error tips it over a half.
        error = (actual.double() - rounded(expected)).abs()
        assert bool((error <= expected.abs() * 2**-7 + 1e-6).all()) and float((error > 0).float().mean()) < 0.02


def test_what_autocast_leaves_alone_is_left_alone() -> None:
    x, w = torch.randn(4, 5), torch.randn(3, 5)
    with bfloat16(CPU):
        assert (x + 1).dtype == torch.float32 and F.linear(x.double(), w.double()).dtype == torch.float64
        with torch.autocast("cpu", enabled=False):
            assert torch.equal(F.linear(x, w), x @ w.T) and F.linear(x, w).dtype == torch.float32
    with bfloat16(CPU, enabled=False):
        assert F.linear(x, w).dtype == torch.float32
    assert F.linear(x, w).dtype == torch.float32
