"""One suite for every discovered method: what the harness relies on."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from bench.config import method_class, resolve_settings
from bench.networks.build import build_segmenter
from bench.registry import method_names
from methods.base import Choice, ClipBatch, LabelledBatch, LogUniform, Method, Setup, Uniform

CLASSES = 5
TRAINED = [name for name in method_names() if method_class(name).trains]


def make_method(name: str, seed: int = 0, frames: int = 2) -> Method:
    torch.manual_seed(seed)
    cls = method_class(name)
    segmenter = build_segmenter("mini", "conv1x1", CLASSES, frames)
    method: Method = cls(segmenter, cls.Settings(**resolve_settings(name, {})), Setup(CLASSES, 10, seed))
    method.restart()
    return method.train()


def make_batch(n: int = 2, t: int = 2, height: int = 32, width: int = 64, labelled: bool = True, seed: int = 0) -> Any:
    g = torch.Generator().manual_seed(seed)
    frames = torch.rand(n, t, 3, height, width, generator=g)
    flow = 4 * torch.randn(n, t - 1, 2, height, width, generator=g)
    valid = torch.rand(n, t - 1, height, width, generator=g) > 0.1
    keys = tuple(f"clip {i}" for i in range(n))
    if not labelled:
        return ClipBatch(frames, flow, valid, keys)
    label = torch.randint(0, CLASSES - 1, (n, height, width), generator=g)  # the last class never occurs
    label[:, :4] = 255
    return LabelledBatch(frames, flow, valid, keys, label)


def batches(method: Method, **kwargs: Any) -> tuple[Any, Any]:
    """Target and source batch as the method's setting gets them."""
    setting = method.card.setting
    target = make_batch(labelled=setting == "oracle", **kwargs)
    return target, make_batch(seed=1, **kwargs) if setting == "UDA" else None


def train(
    method: Method, first: int, last: int, optimiser: torch.optim.Optimizer | None = None
) -> list[dict[str, float]]:
    optimiser = optimiser or torch.optim.SGD(method.parameter_groups(0.01, 10.0), momentum=0.9)
    log = []
    for step in range(first, last):
        losses = method.losses(*batches(method), step)
        log.append({k: float(v.detach()) for k, v in losses.items()})
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        method.after_step(step)
    return log


@pytest.mark.parametrize("name", method_names())
def test_card_and_settings_are_complete(name: str) -> None:
    cls = method_class(name)
    card = cls.card
    assert card.key == name
    assert card.setting in ("none", "SFDA", "UDA", "oracle")
    assert card.design in ("-", "image", "video")
    assert cls.__module__ == f"methods.{name}" and cls.__doc__
    fields = {f.name: f for f in dataclasses.fields(cls.Settings)}
    assert set(cls.SEARCH) <= set(fields)
    for key, space in cls.SEARCH.items():
        default = fields[key].default
        if isinstance(space, Choice):
            assert default in space.values, f"{key}: default {default} is not among {space.values}"
        elif isinstance(space, (LogUniform, Uniform)):
            assert space.low <= default <= space.high, f"{key}: default {default} outside its search range"


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("size", [(32, 64), (33, 65), (64, 32)])
def test_losses_are_finite_scalars_with_gradients(name: str, size: tuple[int, int]) -> None:
    method = make_method(name)
    losses = method.losses(*batches(method, height=size[0], width=size[1]), 0)
    assert losses
    for key, value in losses.items():
        assert value.dim() == 0 and torch.isfinite(value), key
    torch.stack(list(losses.values())).sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.segmenter.encoder.parameters())


@pytest.mark.parametrize("name", TRAINED)
def test_parameters_move_and_frozen_ones_do_not(name: str) -> None:
    method = make_method(name)
    before = {k: v.clone() for k, v in method.named_parameters()}
    groups = method.parameter_groups(0.01, 10.0)
    optimised = {id(p) for group in groups for p in group["params"]}
    log = train(method, 0, 2)
    assert all(torch.isfinite(torch.tensor(list(entry.values()))).all() for entry in log)
    moved = {k for k, v in method.named_parameters() if not torch.equal(v, before[k])}
    assert any(k.startswith("segmenter.encoder") for k in moved)
    assert any(k.startswith("segmenter.classifier") for k in moved)
    for key, parameter in method.named_parameters():
        assert parameter.requires_grad == (id(parameter) in optimised), key


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_gives_same_losses_and_resume_is_exact(name: str) -> None:
    whole = make_method(name)
    optimiser = torch.optim.SGD(whole.parameter_groups(0.01, 10.0), momentum=0.9)
    log = train(whole, 0, 2, optimiser)
    state = {k: v.clone() for k, v in whole.state_dict().items()}
    momentum = [
        optimiser.state[p].get("momentum_buffer", torch.zeros_like(p)).clone()
        for group in optimiser.param_groups
        for p in group["params"]
    ]
    log += train(whole, 2, 4, optimiser)

    again = make_method(name)
    assert train(again, 0, 2) == log[:2]

    resumed = make_method(name, seed=0)
    with torch.no_grad():
        for p in resumed.parameters():
            p.add_(1.0)  # whatever it was before, the state is all that counts
    resumed.load_state_dict(state)
    optimiser = torch.optim.SGD(resumed.parameter_groups(0.01, 10.0), momentum=0.9)
    for p, buffer in zip([p for g in optimiser.param_groups for p in g["params"]], momentum, strict=True):
        optimiser.state[p]["momentum_buffer"] = buffer
    assert train(resumed, 2, 4, optimiser) == log[2:]
    for (key, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", TRAINED)
def test_another_seed_draws_other_views(name: str) -> None:
    first, second = make_method(name, 0), make_method(name, 0)
    second.setup = Setup(CLASSES, 10, 1)
    assert first.losses(*batches(first), 0) != second.losses(*batches(second), 0)


@pytest.mark.parametrize("name", TRAINED)
def test_losses_do_not_touch_the_batch_or_global_randomness(name: str) -> None:
    method = make_method(name)
    target, source = batches(method)
    copy = [x.clone() for x in (target.frames, target.flow, target.valid)]
    torch.manual_seed(123)
    expected = torch.rand(1, generator=torch.Generator().manual_seed(123))
    method.losses(target, source, 0)
    assert torch.equal(torch.rand(1), expected), "global generator was used"
    assert all(torch.equal(a, b) for a, b in zip(copy, (target.frames, target.flow, target.valid), strict=True))


@pytest.mark.parametrize("name", TRAINED)
def test_three_frames(name: str) -> None:
    method = make_method(name, frames=3)
    losses = method.losses(*batches(method, t=3), 0)
    assert all(torch.isfinite(v) for v in losses.values())


@pytest.mark.parametrize("name", TRAINED)
def test_batch_of_one_and_of_three(name: str) -> None:
    for n in (1, 3):
        method = make_method(name)
        losses = method.losses(*batches(method, n=n), 0)
        assert all(torch.isfinite(v) for v in losses.values()), n


def test_oracle_with_nothing_labelled_is_zero_not_nan() -> None:
    method = make_method("oracle")
    batch = make_batch()
    batch.label.fill_(255)
    losses = method.losses(batch, None, 0)
    assert all(float(v.detach()) == 0.0 for v in losses.values())


@pytest.mark.parametrize("name", [n for n in method_names() if method_class(n).card.setting in ("SFDA", "none")])
def test_a_source_free_method_works_without_a_source_batch_and_gets_no_label(name: str) -> None:
    method = make_method(name)
    target = make_batch(labelled=False)
    assert not hasattr(target, "label")
    method.losses(target, None, 0)
