"""One suite for every discovered method: what the harness relies on."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
from typing import Any

import pytest
import torch

from bench.core.registry import method_names
from bench.networks.build import build_segmenter
from bench.runs.config import method_class, resolve_settings
from methods.base import Choice, ClipBatch, LabelledBatch, LogUniform, Method, Setup, Uniform

CLASSES = 5
STEPS = 6
TRAINED = [name for name in method_names() if method_class(name).trains]
NO_DRAWS = ("da_vsn", "da_vsn_sf", "fda", "tent", "vat_vst", "vat_vst_sf")
"""Methods whose published step draws nothing at random."""
UNTRAINED = {"mic_sf": {"threshold": 0.0}}
"""Settings without which a method learns nothing from a network that knows nothing: no pixel would be confident."""


def make_method(name: str, seed: int = 0, frames: int = 2) -> Method:
    torch.manual_seed(seed)
    cls = method_class(name)
    segmenter = build_segmenter("mini", "conv1x1", CLASSES, frames)
    method: Method = cls(
        segmenter, cls.Settings(**resolve_settings(name, UNTRAINED.get(name, {}))), Setup(CLASSES, STEPS, seed)
    )
    method.restart()
    return method.train()


def begin(method: Method, **kwargs: Any) -> tuple[Any, Any]:
    """Batches of the first step, and the round that starts with it, if there is one."""
    target, source = batches(method, **kwargs)
    if method.trains and 0 in method.round_steps():
        method.start_round(0, [target])
    return target, source


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
    earlier = label[:, None].roll(1, -1).expand(-1, t - 1, -1, -1).clone()
    return LabelledBatch(frames, flow, valid, keys, label, earlier)


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
        target, source = batches(method)
        if step in method.round_steps():
            method.start_round(method.round_steps().index(step), [target])
        losses = method.losses(target, source, step)
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
    losses = method.losses(*begin(method, height=size[0], width=size[1]), 0)
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
    log = train(method, 0, STEPS)
    assert all(torch.isfinite(torch.tensor(list(entry.values()))).all() for entry in log)
    moved = {k for k, v in method.named_parameters() if not torch.equal(v, before[k])}
    assert any(k.startswith("segmenter.encoder") for k in moved)
    own = {
        id(p) for optimiser in method.optimisers().values() for group in optimiser.param_groups for p in group["params"]
    }
    for key, parameter in method.named_parameters():
        assert parameter.requires_grad == (id(parameter) in optimised), key
        if key.startswith("segmenter.") and not parameter.requires_grad:
            assert key not in moved, f"{key} is frozen but moved"
        if key.startswith("segmenter.classifier") and parameter.requires_grad:
            assert key in moved, key
        if id(parameter) in own:  # a discriminator: trained, but by an optimiser of its own
            assert key in moved and id(parameter) not in optimised, key


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_gives_same_losses_and_resume_is_exact(name: str) -> None:
    whole = make_method(name)
    optimiser = torch.optim.SGD(whole.parameter_groups(0.01, 10.0), momentum=0.9)
    kill = STEPS - 2  # in the last phase of methods that have phases
    log = train(whole, 0, kill, optimiser)
    state = {k: v.clone() for k, v in whole.state_dict().items()}
    optimisers = copy.deepcopy([o.state_dict() for o in (optimiser, *whole.optimisers().values())])
    log += train(whole, kill, STEPS, optimiser)

    again = make_method(name)
    assert train(again, 0, 2) == log[:2]

    resumed = make_method(name, seed=0)
    with torch.no_grad():
        for p in resumed.parameters():
            p.add_(1.0)  # whatever it was before, the state is all that counts
    resumed.load_state_dict(state)
    optimiser = torch.optim.SGD(resumed.parameter_groups(0.01, 10.0), momentum=0.9)
    for o, saved in zip((optimiser, *resumed.optimisers().values()), optimisers, strict=True):
        o.load_state_dict(saved)
    assert train(resumed, kill, STEPS, optimiser) == log[kill:]
    for (key, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", TRAINED)
def test_another_seed_draws_other_views(name: str) -> None:
    if name in NO_DRAWS:
        pytest.skip("draws nothing")
    first, second = make_method(name, 0), make_method(name, 0)
    second.setup = Setup(CLASSES, STEPS, 1)
    assert train(first, 0, 2) != train(second, 0, 2)


@pytest.mark.parametrize("name", TRAINED)
def test_losses_do_not_touch_the_batch_or_global_randomness(name: str) -> None:
    method = make_method(name)
    target, source = begin(method)
    tensors = [x for batch in (target, source) if batch is not None for x in vars(batch).values() if torch.is_tensor(x)]
    before = [x.clone() for x in tensors]
    torch.manual_seed(123)
    expected = torch.rand(1, generator=torch.Generator().manual_seed(123))
    method.losses(target, source, 0)
    assert torch.equal(torch.rand(1), expected), "global generator was used"
    assert all(torch.equal(a, b) for a, b in zip(before, tensors, strict=True))


@pytest.mark.parametrize("name", TRAINED)
def test_three_frames(name: str) -> None:
    method = make_method(name, frames=3)
    losses = method.losses(*begin(method, t=3), 0)
    assert all(torch.isfinite(v) for v in losses.values())


@pytest.mark.parametrize("name", TRAINED)
def test_batch_of_one_and_of_three(name: str) -> None:
    for n in (1, 3):
        method = make_method(name)
        losses = method.losses(*begin(method, n=n), 0)
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
    target, source = begin(method)
    assert source is None and not hasattr(target, "label")
    method.losses(target, None, 0)


@pytest.mark.parametrize("name", [n for n in TRAINED if method_class(n).card.setting == "UDA"])
def test_a_source_batch_with_nothing_labelled_gives_zero_not_nan(name: str) -> None:
    method = make_method(name)
    target, source = begin(method)
    source.label.fill_(255)
    source.previous_label.fill_(255)
    losses = method.losses(target, source, 0)
    assert all(torch.isfinite(v) for v in losses.values())
    assert float(losses["ce"].detach()) == 0.0


@pytest.mark.parametrize("name", [n for n in method_names() if n not in ("source_only", "oracle")])
def test_card_names_its_paper(name: str) -> None:
    card = method_class(name).card
    assert len(card.authors) > 1 and str(card.year) in card.venue
    assert card.url.startswith("https://")


@pytest.mark.parametrize("name", TRAINED)
def test_every_setting_says_where_its_value_comes_from(name: str) -> None:
    for cls in method_class(name).Settings.__mro__:
        if not dataclasses.is_dataclass(cls):
            continue
        lines = inspect.getsource(cls).splitlines()
        for number, line in enumerate(lines):
            if re.match(r"    \w+: .*=", line):
                assert "#" in line + "".join(lines[number + 1 : number + 3]), f"{name}: {line.strip()}"


@pytest.mark.parametrize("name", [n for n in TRAINED if method_class(n).card.url])
def test_docstring_says_what_differs_from_the_published_code(name: str) -> None:
    if not method_class(name).card.floor:
        assert re.search(
            r"Differs from the (published code|paper / published code):", inspect.getmodule(method_class(name)).__doc__
        )


def test_the_whole_table_is_there() -> None:
    rows = {"source_only", "fda", "pixmatch", "rda", "ur", "hcl", "da_vsn", "vat_vst", "tps"}
    rows |= {"da_vsn_sf", "vat_vst_sf", "tps_sf", "stpl", "oracle"}
    assert rows <= set(method_names())
    settings = {name: method_class(name).card.setting for name in rows}
    assert {n for n, s in settings.items() if s == "UDA"} == {"fda", "pixmatch", "rda", "da_vsn", "vat_vst", "tps"}
    assert {n for n, s in settings.items() if s == "SFDA"} == {"ur", "hcl", "da_vsn_sf", "vat_vst_sf", "tps_sf", "stpl"}
