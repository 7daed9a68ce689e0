"""Discriminators: what one step of their own does, and what it leaves alone. Sizes and vectors: test_blocks, tests/reference."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from methods.common.adversarial import SOURCE, TARGET, Adversary, Discriminator, domain_loss, judged, weight_discrepancy


def adversary(seed: int = 0, clip_norm: float | None = None) -> Adversary:
    torch.manual_seed(seed)
    return Adversary(3, 2, 1e-2, clip_norm)


def maps(seed: int, n: int = 2) -> Tensor:
    return torch.rand(n, 3, 32, 40, generator=torch.Generator().manual_seed(seed)).softmax(1)


def test_domain_loss_by_hand() -> None:
    logits = torch.tensor([0.0, math.log(3.0)])  # probabilities 1/2 and 3/4 of being target
    assert float(domain_loss(logits, TARGET)) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert float(domain_loss(logits, SOURCE)) == pytest.approx((math.log(2) + math.log(4)) / 2)


@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_a_step_is_adam_on_half_of_both_losses(clip_norm: float | None) -> None:
    learner = adversary(clip_norm=clip_norm)
    net = copy.deepcopy(learner.discriminator).requires_grad_(True)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.9, 0.99))
    for seed in range(3):
        source, target = maps(seed), maps(seed + 10)
        learner.watch(source, target)
        learner.learn()
        loss = (domain_loss(net(source), SOURCE) + domain_loss(net(target), TARGET)) / 2
        optimiser.zero_grad()
        loss.backward()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip_norm)
        optimiser.step()
    for a, b in zip(learner.discriminator.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach())


def test_a_step_of_two_batches_learns_from_both() -> None:
    """As from their mean, whatever was watched in a step that nobody learned from."""
    learner, whole = adversary(), adversary()
    learner.watch(maps(5), maps(6))
    for part in (0, 1):
        learner.watch(maps(part), maps(part + 10), part)
    learner.learn()
    whole.watch(torch.cat([maps(0), maps(1)]), torch.cat([maps(10), maps(11)]))
    whole.learn()
    for a, b in zip(learner.discriminator.parameters(), whole.discriminator.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_gradient_is_clipped_with_the_extra_term_in_it() -> None:
    learner = adversary(clip_norm=1.0)
    learner.watch(maps(0), maps(1))
    learner.learn(lambda: 1e4 * learner.discriminator[0].weight.sum())  # type: ignore[union-attr,operator]
    norm = torch.stack([p.grad.norm() for p in learner.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1.0, rel=1e-3)


def test_what_the_extra_term_asks_of_another_discriminator_is_not_followed() -> None:
    learner, second = adversary(0), adversary(1)
    learner.discriminator.load_state_dict(second.discriminator.state_dict())
    before = [p.clone() for p in second.parameters()]
    start = float(weight_discrepancy(learner.discriminator, second.discriminator))
    for seed in range(5):
        learner.watch(maps(seed), maps(seed))  # the same maps in both domains: nothing else to learn
        learner.learn(lambda: weight_discrepancy(learner.discriminator, second.discriminator))
    assert float(weight_discrepancy(learner.discriminator, second.discriminator)) < start - 0.01
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(second.parameters(), before, strict=True))


def test_learning_reaches_neither_the_maps_nor_what_made_them() -> None:
    scores = torch.randn(2, 3, 32, 32, requires_grad=True)
    learner = adversary()
    learner.watch(scores.softmax(1), scores.softmax(1))
    with torch.no_grad():  # the harness may call it so
        learner.learn()
    assert scores.grad is None


def test_fooling_lowers_what_the_discriminator_says() -> None:
    learner = adversary()
    target = maps(0).requires_grad_()
    loss = learner.fool(target)
    (gradient,) = torch.autograd.grad(loss, target)
    with torch.no_grad():
        moved = target - 10 * gradient
        assert float(learner.discriminator(moved).mean()) < float(learner.discriminator(target).mean())


def test_bfloat16_gives_float32_losses() -> None:
    learner = adversary()
    with torch.autocast("cpu", torch.bfloat16):
        loss = learner.fool(maps(0))
        learner.watch(maps(0), maps(1))
        learner.learn()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in learner.parameters())


def test_weight_discrepancy_gradient() -> None:
    torch.manual_seed(0)
    first, second = Discriminator(1, 1).double(), Discriminator(1, 1).double()
    names = [name for name, _ in first.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in first.parameters()]

    def discrepancy(*weights: Tensor) -> Tensor:
        twin = copy.deepcopy(first)
        for name, weight in zip(names, weights, strict=True):
            layer, kind = name.split(".")
            del twin[int(layer)]._parameters[kind]
            twin[int(layer)]._parameters[kind] = weight  # type: ignore[assignment]
        return weight_discrepancy(twin, second)

    # Against the definition rather than by differences: the cosine of a single number is flat but for its sign.
    gradients = torch.autograd.grad(discrepancy(*values), values)
    for a, b, gradient in zip(values, second.parameters(), gradients, strict=True):
        u, v = a.detach().flatten(), b.detach().flatten()
        expected = (v / v.norm() - (u @ v) / (u.norm() * v.norm()) * u / u.norm()) / u.norm() / len(values)
        torch.testing.assert_close(gradient.flatten(), expected, rtol=1e-7, atol=1e-12)


def test_two_frames_share_one_softmax() -> None:
    joint = judged(torch.randn(1, 6, 8, 16), (128, 256), 2)
    torch.testing.assert_close(joint.sum(1), torch.ones(1, 64, 128))
    assert float((joint[:, :3].sum(1) - 1).abs().min()) > 1e-3  # a half by itself does not sum to 1
    same = torch.randn(1, 3, 40, 40)
    torch.testing.assert_close(judged(same, (40, 40), 1), same.softmax(1))
