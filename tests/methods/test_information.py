"""Entropies: their agreement, their gradients, and what is certain. Values by hand: test_blocks; vectors: tests/reference."""

from __future__ import annotations

import math

import pytest
import torch

from methods.common.information import entropy_loss, normalised_entropy, robust_entropy, self_information


def scores(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_three_conventions_measure_one_entropy() -> None:
    p = scores().softmax(1)
    h = torch.distributions.Categorical(probs=p.movedim(1, -1)).entropy() / math.log(4)
    torch.testing.assert_close(self_information(p).sum(1), h)
    assert float(entropy_loss(p)) == pytest.approx(float(h.mean()))
    assert float(normalised_entropy(p)) == pytest.approx(float(h.mean()), rel=1e-6)
    assert float(robust_entropy(scores(), 1.0)) == pytest.approx(float((h**2).mean()), rel=1e-6)


def test_classes_and_pixels_are_interchangeable() -> None:
    p = scores().softmax(1)
    shuffled = p[:, [2, 0, 3, 1]].flip(2)
    for loss in (entropy_loss, normalised_entropy):
        assert float(loss(shuffled)) == pytest.approx(float(loss(p)))
    torch.testing.assert_close(self_information(shuffled), self_information(p)[:, [2, 0, 3, 1]].flip(2))


def test_gradients() -> None:
    s = scores().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: self_information(x.softmax(1)), s)
    assert torch.autograd.gradcheck(lambda x: entropy_loss(x.softmax(1)), s)
    assert torch.autograd.gradcheck(lambda x: normalised_entropy(x.softmax(1)), s)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_certain_pixel_has_a_finite_gradient(dtype: torch.dtype) -> None:
    for loss in (lambda x: entropy_loss(x.softmax(1)), lambda x: normalised_entropy(x.softmax(1)), robust_entropy):
        s = torch.tensor([500.0, 0, -500, 0], dtype=dtype).view(1, 4, 1, 1).requires_grad_()
        value = loss(s)
        (gradient,) = torch.autograd.grad(value, s)
        assert float(value.detach()) == pytest.approx(0.0, abs=1e-6) and torch.isfinite(gradient).all()


def test_the_published_scale_makes_fewer_classes_look_more_certain() -> None:
    """ln 19 whatever C is: an even prediction over 4 classes then counts as (ln 4 / ln 19)^4, not 1."""
    even = torch.zeros(1, 4, 1, 1, dtype=torch.float64)
    assert float(robust_entropy(even)) == pytest.approx(1.0, rel=1e-6)
    assert float(robust_entropy(even, scale=2.9444)) == pytest.approx((math.log(4) / 2.9444) ** 4, rel=1e-6)
