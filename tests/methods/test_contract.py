"""One suite for every discovered method: what the harness relies on."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import re
from typing import Any

import pytest
import torch

from bench.core.errors import RunError, UsageError
from bench.core.loading import load
from bench.core.registry import built_in, method_names, names
from bench.networks.build import build_segmenter
from bench.runs.config import effective_settings, load_shift, resolve_settings
from bench.runs.settings import loaded_class, settings_of
from methods.base import Choice, ClipBatch, LabelledBatch, LogUniform, Method, Setup, Supervision, Uniform
from stpl.fusion import Conv1x1Fusion
from stpl.segmenter import VideoSegmenter

CLASSES = 5
STEPS = 6


def loadable() -> dict[str, type[Method]]:
    """Methods of this repository, of installed packages, and of ``--method``; a broken one has a test of its own."""
    methods = {}
    for name in names("method"):
        with contextlib.suppress(RunError, UsageError):
            methods[name] = loaded_class(name)
    return methods


METHODS = loadable()
TRAINED = [name for name, cls in METHODS.items() if cls.trains]
STREAMING = [name for name in TRAINED if METHODS[name].streams and METHODS[name].card.setting == "SFDA"]
NO_DRAWS = ("da_vsn", "da_vsn_sf", "fda", "tent", "vat_vst", "vat_vst_sf")
"""Methods whose published step draws nothing at random."""
UNTRAINED = {"mic_sf": {"threshold": 0.0}}
"""Settings without which a method learns nothing from a network that knows nothing: no pixel would be confident."""


def make_method(name: str, seed: int = 0, frames: int = 2) -> Method:
    torch.manual_seed(seed)
    cls = loaded_class(name)
    segmenter = build_segmenter("mini", "conv1x1", CLASSES, frames)
    settings = settings_of(name, resolve_settings(name, UNTRAINED.get(name, {})))
    method: Method = cls(segmenter, settings, Setup(CLASSES, STEPS, seed))
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
    method: Method, first: int, last: int, optimiser: torch.optim.Optimizer | None = None, **kwargs: Any
) -> list[dict[str, float]]:
    optimiser = optimiser or torch.optim.SGD(method.parameter_groups(0.01, 10.0), momentum=0.9)
    log = []
    for step in range(first, last):
        target, source = batches(method, **kwargs)
        if step in method.round_steps():
            method.start_round(method.round_steps().index(step), [target])
        losses = method.losses(target, source, step)
        log.append({k: float(v.detach()) for k, v in losses.items()})
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        method.after_step(step)
    return log


@pytest.mark.parametrize("name", names("method"))
def test_its_file_can_be_loaded(name: str) -> None:
    assert issubclass(loaded_class(name), Method)


@pytest.mark.parametrize("name", STREAMING)
def test_it_learns_from_each_clip_as_it_comes(name: str) -> None:
    """In a stream every clip is a batch, and a round, of its own; one that cannot says so by ``streams``."""
    method = make_method(name)
    before = {key: value.clone() for key, value in method.segmenter.state_dict().items()}
    for step in range(3):
        clip = make_batch(n=1, labelled=False, seed=step)
        method.start_round(step, [clip])
        losses = method.losses(clip, None, step)
        assert all(torch.isfinite(value) for value in losses.values())
        torch.stack(list(losses.values())).sum().backward()
        torch.optim.SGD(method.parameter_groups(0.01, 10.0)).step()
        method.after_step(step)
    assert any((value != before[key]).any() for key, value in method.segmenter.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_card_and_settings_are_complete(name: str) -> None:
    cls = loaded_class(name)
    card = cls.card
    assert card.key == name
    assert card.setting in ("none", "SFDA", "UDA", "oracle")
    assert card.design in ("-", "image", "video")
    assert cls.__module__ == load("method", name).__name__ and cls.__doc__
    fields = {f.name: f for f in dataclasses.fields(cls.Settings)}
    assert set(cls.SEARCH) <= set(fields)
    tuned = effective_settings(name, {})  # where the search was made
    for key, space in cls.SEARCH.items():
        default = tuned[key].value
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
    separate = {
        id(p) for optimiser in method.optimisers().values() for group in optimiser.param_groups for p in group["params"]
    }
    for key, parameter in method.named_parameters():
        assert parameter.requires_grad == (id(parameter) in optimised), key
        if key.startswith("segmenter.") and not parameter.requires_grad:
            assert key not in moved, f"{key} is frozen but moved"
        if key.startswith("segmenter.classifier") and parameter.requires_grad:
            assert key in moved, key
        if id(parameter) in separate:  # a discriminator: trained, but by an optimiser of its own
            assert key in moved and id(parameter) not in optimised, key


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_gives_same_losses_and_resume_is_exact(name: str) -> None:
    uninterrupted = make_method(name)
    optimiser = torch.optim.SGD(uninterrupted.parameter_groups(0.01, 10.0), momentum=0.9)
    kill = STEPS - 2  # in the last phase of methods that have phases
    log = train(uninterrupted, 0, kill, optimiser)
    state = {k: v.clone() for k, v in uninterrupted.state_dict().items()}
    optimisers = copy.deepcopy([o.state_dict() for o in (optimiser, *uninterrupted.optimisers().values())])
    log += train(uninterrupted, kill, STEPS, optimiser)

    repeated = make_method(name)
    assert train(repeated, 0, 2) == log[:2]

    resumed = make_method(name, seed=0)
    with torch.no_grad():
        for p in resumed.parameters():
            p.add_(1.0)  # whatever it was before, the state is all that counts
    resumed.load_state_dict(state)
    optimiser = torch.optim.SGD(resumed.parameter_groups(0.01, 10.0), momentum=0.9)
    for o, saved in zip((optimiser, *resumed.optimisers().values()), optimisers, strict=True):
        o.load_state_dict(saved)
    assert train(resumed, kill, STEPS, optimiser) == log[kill:]
    for (key, a), b in zip(uninterrupted.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", TRAINED)
def test_another_seed_draws_other_views_where_anything_is_drawn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    generator = Method.generator
    monkeypatch.setattr(Method, "generator", lambda *a, **k: drawn.append(a) or generator(*a, **k))
    first, second = make_method(name, 0), make_method(name, 0)
    second.setup = Setup(CLASSES, STEPS, 1)
    assert (train(first, 0, 2) != train(second, 0, 2)) == bool(drawn)
    if name in built_in("method"):
        assert bool(drawn) == (name not in NO_DRAWS)


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


LONGER = [(name, 3) for name in TRAINED] + [(name, 4) for name in TRAINED if loaded_class(name).card.design == "video"]


@pytest.mark.parametrize(("name", "frames"), LONGER)
def test_longer_clips_train_and_resume_to_the_same_bits(name: str, frames: int) -> None:
    """All steps, with their rounds and phases; saved after the fourth, as a killed run is."""
    method = make_method(name, frames=frames)
    optimiser = torch.optim.SGD(method.parameter_groups(0.01, 10.0), momentum=0.9)
    kill = STEPS - 2
    train(method, 0, kill, optimiser, t=frames)
    state = {k: v.clone() for k, v in method.state_dict().items()}
    optimisers = copy.deepcopy([o.state_dict() for o in (optimiser, *method.optimisers().values())])
    log = train(method, kill, STEPS, optimiser, t=frames)
    assert all(torch.isfinite(torch.tensor(list(entry.values()))).all() for entry in log)
    resumed = make_method(name, seed=1, frames=frames)
    resumed.setup = method.setup
    resumed.load_state_dict(state)
    optimiser = torch.optim.SGD(resumed.parameter_groups(0.01, 10.0), momentum=0.9)
    for o, saved in zip((optimiser, *resumed.optimisers().values()), optimisers, strict=True):
        o.load_state_dict(saved)
    assert train(resumed, kill, STEPS, optimiser, t=frames) == log


@pytest.mark.parametrize(("name", "frames"), LONGER)
def test_every_frame_of_a_longer_clip_counts(name: str, frames: int) -> None:
    """With fusion in the network all methods learn from all frames, the oldest one included."""
    losses = []
    for changed in (None, 0):
        method = make_method(name, frames=frames)
        for member in (m for m in method.modules() if isinstance(m, Conv1x1Fusion)):
            torch.nn.init.normal_(member.mix.weight, std=0.1, generator=torch.Generator().manual_seed(0))
        target, source = batches(method, t=frames)
        for batch in (target, source):
            if batch is not None and changed is not None:
                batch.frames[:, changed] = 1 - batch.frames[:, changed]
        if 0 in method.round_steps():
            method.start_round(0, [target])
        losses.append({key: float(v.detach()) for key, v in method.losses(target, source, 0).items()})
    assert losses[0] != losses[1]


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


@pytest.mark.parametrize("name", [n for n, cls in METHODS.items() if cls.card.setting in ("SFDA", "none")])
def test_a_source_free_method_works_without_a_source_batch_and_gets_no_label(name: str) -> None:
    method = make_method(name)
    target, source = begin(method)
    assert source is None and not hasattr(target, "label")
    method.losses(target, None, 0)


@pytest.mark.parametrize("name", [n for n in TRAINED if loaded_class(n).card.setting == "UDA"])
def test_a_source_batch_with_nothing_labelled_gives_zero_not_nan(name: str) -> None:
    method = make_method(name)
    target, source = begin(method)
    source.label.fill_(255)
    source.previous_label.fill_(255)
    losses = method.losses(target, source, 0)
    assert all(torch.isfinite(v) for v in losses.values())
    assert float(losses["ce"].detach()) == 0.0


@pytest.mark.parametrize("name", ["oracle", *(n for n in TRAINED if loaded_class(n).card.setting == "UDA")])
def test_labelled_clips_teach_as_the_shift_says(name: str) -> None:
    """Plain or balanced over classes, and the auxiliary head's share: none falls back on what MiniStreet does."""
    losses = {}
    for supervision in (
        Supervision(mirror=False),
        Supervision("plain", False),
        Supervision("plain", False, auxiliary=0.7),
    ):
        method = make_method(name)
        method.setup = dataclasses.replace(method.setup, supervision=supervision)
        losses[supervision] = {key: float(v.detach()) for key, v in method.losses(*begin(method), 0).items()}
    balanced, plain, heavier = losses.values()
    assert balanced["ce"] != plain["ce"] == heavier["ce"]
    assert heavier["ce_aux"] == pytest.approx(7 * plain["ce_aux"])


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("source_only", "oracle")])
def test_card_names_its_paper(name: str) -> None:
    card = loaded_class(name).card
    assert len(card.authors) > 1 and str(card.year) in card.venue
    assert card.url.startswith("https://")


@pytest.mark.parametrize("name", TRAINED)
def test_every_setting_says_where_its_value_comes_from(name: str) -> None:
    for shift in ("viper2cityscapes", "ministreet"):
        for key, value in effective_settings(name, {}, load_shift(shift)).items():
            assert value.origin in ("published", "ours", "tuned") and value.source, f"{name}: {key}"


@pytest.mark.parametrize("name", [n for n in TRAINED if loaded_class(n).card.url])
def test_docstring_says_what_differs_from_the_published_code(name: str) -> None:
    if not loaded_class(name).card.floor:
        assert re.search(
            r"Differs from the (published code|paper / published code):", inspect.getmodule(loaded_class(name)).__doc__
        )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_copy_that_takes_part_is_an_average_that_records_name(name: str) -> None:
    """A record's ingredients say which averages took part; a second network that nobody trains is one."""
    method = make_method(name)
    segmenters = [module for module in method.modules() if isinstance(module, VideoSegmenter)]
    copies = [module for module in segmenters if not any(p.requires_grad for p in module.parameters())]
    assert (method.averages != "none") == bool(copies)
    assert method.averages in ("none", "teacher", "historical", "evaluated")


def test_the_whole_table_is_there() -> None:
    rows = {"source_only", "fda", "pixmatch", "rda", "ur", "hcl", "da_vsn", "vat_vst", "tps"}
    rows |= {"da_vsn_sf", "vat_vst_sf", "tps_sf", "stpl", "oracle"}
    assert rows <= set(method_names())
    settings = {name: loaded_class(name).card.setting for name in rows}
    assert {n for n, s in settings.items() if s == "UDA"} == {"fda", "pixmatch", "rda", "da_vsn", "vat_vst", "tps"}
    assert {n for n, s in settings.items() if s == "SFDA"} == {"ur", "hcl", "da_vsn_sf", "vat_vst_sf", "tps_sf", "stpl"}
