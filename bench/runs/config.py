"""Configuration of a run: what the command line or a sweep asks for, completely. The protocol is its shift (``shift.py``).

Both are validated by pydantic: unknown keys, wrong types and impossible values are refused with the field's path. Their
canonical JSON is hashed; a run's folder is named by the hash and the shift's hash stands in every record.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, ValidationError

from bench.core.errors import RunError, UsageError, short, unknown
from bench.core.loading import load, shift_file, sources
from bench.core.registry import KINDS, find, method_names, names, resolve, shift_names
from bench.core.schema import Model, canonical, hash_of, load_yaml, one_line
from bench.shifts.protocol import Adaptation, Data, Evaluation, Recorded, Schedule, Shift, TunedOn
from bench.shifts.sides import TAGS

from .settings import (
    check_options,
    completed,
    effective_settings,
    method_class,
    resolve_settings,
    revision_of,
    usual_settings,
)


class RunConfig(Model):
    """One run, completely: every default written out, so that equal configs mean equal runs.

    Attributes:
        init: ``backbone`` starts a UDA method as published, from an untrained head on the network's initial backbone, instead
            of from the source model.
        weights: what the backbone of a source model starts from.
        steps: upper limit of all schedules, to try a shift out; such a run is refused by the leaderboard.
        frames: per clip, where they are not the shift's.
        ingredients: ``published`` gives the method what its paper has beyond its loss (``PAPER_HAS`` of its class), ``common``
            what all methods of the shift have.
        revision: of the method's algorithm (``Method.revision``).
        source_file: hash of a source model that was given as a file, instead of being trained here.
        mode: ``offline``: the method adapts to the target's training clips, then is scored on others; ``stream``: the scored clips
            come once, in order, and each is predicted before it is adapted to (``streaming.py``).
        reset: when a method in a stream starts anew: ``never``, or with every ``sequence``.
        plugins: hash of the source of what this repository does not hold, by ``kind/name``: ``{"method/mine": "0123456789ab"}``. A
            shift is told by ``shift_hash``.
    """

    LATER: ClassVar[tuple[str, ...]] = (
        *("init", "weights", "steps", "frames", "ingredients", "revision", "source_file", "mode", "reset", "plugins"),
    )

    method: str
    shift: str
    shift_hash: str
    seed: int = Field(ge=0)
    network: str
    fusion: str
    flow: str
    settings: dict[str, Any]
    init: Literal["source", "backbone"] = "source"
    weights: Literal["random", "imagenet"] = "random"
    steps: int | None = Field(default=None, ge=1)
    frames: int | None = Field(default=None, ge=2)
    ingredients: Literal["common", "published"] = "common"
    revision: int = Field(default=1, ge=1)
    source_file: str | None = None
    mode: Literal["offline", "stream"] = "offline"
    reset: Literal["never", "sequence"] = "never"
    plugins: dict[str, str] = Field(default={})

    @property
    def protocol(self) -> Shift:
        """The shift as this run goes through it."""
        shift = load_shift(self.shift)
        shift = shift if self.frames is None else shift.with_frames(self.frames)
        return shift if self.steps is None else shift.shortened(self.steps)

    @property
    def hash(self) -> str:
        """Name of the run's folder."""
        return hash_of(self.model_dump(mode="json"))


def every_setting(config: RunConfig) -> dict[str, Any]:
    """Settings of a run, those included that :func:`resolve_settings` leaves out."""
    return completed(config.method, config.settings)


MODES = ("offline", "stream")
RESETS = ("never", "sequence")


def methods_on(shift: str, mode: str = "offline") -> list[str]:
    """The built-in methods that can be run on a shift: all but those that it, or the mode, refuses, e.g. with source data where
    there is none.

    Raises:
        UsageError: unknown shift.
    """
    protocol = load_shift(shift)
    fits = [name for name in method_names() if protocol.refuses(method_class(name).card.setting) is None]
    return [name for name in fits if mode == "offline" or refuses_stream(name) is None]


def refuses_stream(method: str) -> str | None:
    """Why a method cannot run where each target clip comes once, in words; None where it can."""
    cls = method_class(method)
    if (setting := cls.card.setting) not in ("none", "SFDA"):
        needs = "source data" if setting == "UDA" else "target labels"
        return f"it is {setting} and learns from {needs}, and a stream brings unlabelled target clips alone"
    return None if cls.streams else "it goes through the whole target in rounds, and a stream brings each clip once"


def make_run_config(
    method: str,
    shift: str = "ministreet",
    seed: int = 0,
    options: dict[str, Any] | None = None,
    init: str = "source",
    steps: int | None = None,
    source_file: str | None = None,
    mode: str = "offline",
) -> RunConfig:
    """Build the complete configuration of a run from names and ``-o`` options.

    Args:
        options: ``fusion``, ``flow``, ``network``, ``weights`` of its backbone, ``frames`` per clip, ``ingredients``, ``reset`` of
            a stream, and settings of the method.
        init: ``source``, or ``backbone`` for UDA methods.
        steps: upper limit of all schedules.
        source_file: hash of a source model that is given as a file.
        mode: ``offline`` or ``stream``.

    Raises:
        UsageError: anything unknown, mistyped or out of range.
    """
    options = dict(options or {})
    protocol = load_shift(shift)
    shift, method = resolve("shift", shift), resolve("method", method)
    method_class(method)  # an unknown method is named before its options are
    reset = _reset(method, protocol, mode, options)
    ingredients = str(options.pop("ingredients", protocol.ingredients))
    if ingredients not in ("common", "published"):
        raise unknown("ingredients", ingredients, ["common", "published"])
    if ingredients == "published":
        paper_options = method_class(method).PAPER_HAS
        if twice := sorted(paper_options.keys() & options.keys()):
            listed = ", ".join(f"{key}={value}" for key, value in paper_options.items())
            raise UsageError(
                f"ingredients=published gives '{method}' {listed}; leave out {' and '.join(twice)}, or ingredients"
            )
        options |= paper_options
    network = resolve("network", str(options.pop("network", protocol.network.name)))
    fusion = str(options.pop("fusion", protocol.network.fusion))
    flow = resolve("flow", str(options.pop("flow", protocol.flow)))
    usual = protocol.network.weights if network == protocol.network.name else "random"
    weights = str(options.pop("weights", usual))
    frames = options.pop("frames", protocol.data.frames)
    if not isinstance(frames, int) or isinstance(frames, bool) or frames < 2:
        raise UsageError(f"frames must be a whole number of 2 or more, got {frames}")
    from bench.networks.build import check_network, fusion_names

    check_network(network)
    for kind, name in (("network", network), ("flow", flow)):
        if ":" not in name and not find(kind, name).built_in:
            load(kind, name)  # what is wrong with it is said now, not after hours
    if fusion not in fusion_names():
        raise unknown("fusion", fusion, fusion_names())
    if weights not in ("random", "imagenet"):
        raise unknown("weights", weights, ["random", "imagenet"])
    if flow == "exact" and protocol.data.kind == "video":
        raise UsageError(f"Recorded videos of shift '{protocol.name}' come without exact flow; use e.g. -o flow=dis")
    if seed < 0:
        raise UsageError(f"seed must be 0 or more, got {seed}")
    if init not in ("source", "backbone"):
        raise unknown("init", init, ["source", "backbone"])
    setting = method_class(method).card.setting
    if (why := protocol.refuses(setting, init)) is not None:
        refused = "--init backbone" if init == "backbone" else f"method '{method}' ({setting})"
        raise UsageError(f"Shift '{protocol.name}' cannot be run with {refused}: {why}")
    if init == "backbone" and setting != "UDA":
        raise UsageError(f"--init backbone is for UDA methods, which see source data; '{method}' is {setting}")
    check_options(method, options)
    settings = resolve_settings(method, options, protocol)
    return RunConfig(
        method=method,
        shift=shift,
        shift_hash=protocol.hash,
        seed=seed,
        network=network,
        fusion=fusion,
        flow=flow,
        settings=settings,
        init=init,  # type: ignore[arg-type]  # checked above
        weights=weights,  # type: ignore[arg-type]
        steps=steps,
        frames=None if frames == protocol.data.frames else frames,
        ingredients=ingredients,  # type: ignore[arg-type]
        revision=revision_of(method, settings),
        source_file=source_file,
        mode=mode,  # type: ignore[arg-type]  # checked in _reset
        reset=reset,
        plugins=_sources(protocol, method, network, flow),
    )


def _reset(method: str, shift: Shift, mode: str, options: dict[str, Any]) -> Any:
    """When a method starts anew, taken out of the options; what a stream cannot be run with is refused.

    Raises:
        UsageError: unknown mode or reset, or a method or data that it makes no sense for.
    """
    if mode not in MODES:
        raise unknown("protocol", mode, MODES)
    if mode == "offline":
        if "reset" in options:
            raise UsageError("Option 'reset' is of a stream; add --protocol stream, or leave it out")
        return "never"
    if (why := refuses_stream(method)) is not None:
        allowed = ", ".join(methods_on(shift.name, mode))
        raise UsageError(f"Method '{method}' cannot run with --protocol stream: {why}; allowed: {allowed}")
    if (reset := str(options.pop("reset", "never"))) not in RESETS:
        raise unknown("reset", reset, RESETS)
    if reset == "sequence" and shift.data.kind == "ministreet":
        raise UsageError(
            f"Every clip of '{shift.name}' is a sequence of its own, so reset=sequence would predict each with the source model; "
            "use reset=never"
        )
    return reset


def _sources(shift: Shift, method: str, network: str, flow: str) -> dict[str, str]:
    data = (("dataset", side.dataset) for side in (shift.data.source, shift.data.target) if isinstance(side, Recorded))
    return sources((("method", method), ("network", network), ("flow", flow), ("flow", shift.flow), *data))


def check_sources(config: RunConfig) -> None:
    """The plugins of a run must be at hand, as they were when its config was made.

    Raises:
        UsageError: one is missing, or another one; says which and what to do.
    """
    for key in (*config.plugins, f"shift/{config.shift}"):
        kind, _, name = key.partition("/")
        if name not in names(kind) and not name.endswith(
            KINDS[kind].suffixes
        ):  # of old, shifts were told by their path
            raise UsageError(
                f"Run {config.hash} needs the {kind} '{name}', which is not at hand: install its package, or name its "
                f"file: BENCH_PLUGINS={kind}=path/to/{name}{KINDS[kind].suffixes[0]}"
            )
    hashes = _sources(load_shift(config.shift), config.method, config.network, config.flow)
    for key in sorted({*hashes, *config.plugins}):
        if hashes.get(key) != (recorded := config.plugins.get(key, "of this repository")):
            raise UsageError(
                f"Run {config.hash} has {key} {recorded}, at hand is {hashes.get(key, 'that of this repository')}; "
                "run it anew, or bring the file back as it was"
            )


__all__ = [
    "Adaptation",
    "Data",
    "Evaluation",
    "Model",
    "RunConfig",
    "Schedule",
    "Shift",
    "canonical",
    "effective_settings",
    "hash_of",
    "load_shift",
    "make_run_config",
    "method_class",
    "method_names",
    "one_line",
    "resolve_settings",
]


def load_shift(name: str) -> Shift:
    """Read and validate a shift by name, or by path of a YAML file.

    Raises:
        UsageError: unknown name, or a file that does not validate (with the field's path).
    """
    resolved = resolve("shift", name)
    if resolved != name:  # a file, named by its path: it is read anew, and the files that it names
        _read_shift.cache_clear()
    path, text = shift_file(resolved)
    return _read_shift(path, text, resolved != name)


@lru_cache
def _read_shift(path: Path, text: str, again: bool) -> Shift:
    from bench.data.splits import check_data  # brings torch, which `bench list` need not wait for

    try:
        shift = Shift.model_validate(_by_name(load_yaml(text), path.parent, again))
        shift._folder = path.parent
        check_data(shift)
        if isinstance(shift.settings, TunedOn) and shift.settings.tuned_on not in shift_names():
            raise unknown("shift", shift.settings.tuned_on, shift_names(), context=" in settings.tuned-on")
        return shift
    except ValidationError as error:
        raise UsageError(f"Shift {path.name}: {one_line(error, ('ministreet', 'video', *TAGS), Shift)}") from None
    except (ValueError, UsageError, RunError) as error:
        raise UsageError(f"Shift {path.name}: {short(error, 1000)}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"Shift {path.name} is not YAML: {short(error)}") from None


def _by_name(content: Any, folder: Path, again: bool) -> Any:
    """The content of a shift's YAML, the paths of plugin files in it replaced by their names.

    Args:
        folder: of the YAML; paths are relative to it.
        again: the files are read anew.
    """
    places = {
        "dataset": ("data.source.dataset", "data.target.dataset"),
        "network": ("network.name",),
        "flow": ("flow",),
    }
    for kind, path in [(kind, path) for kind, fields in places.items() for path in fields]:
        *parents, last = path.split(".")
        part = content
        for parent in parents:
            part = part.get(parent) if isinstance(part, dict) else None
        if isinstance(part, dict) and isinstance(part.get(last), str):
            part[last] = resolve(kind, part[last], folder, again)
    return content


def shift_or_dataset(name: str) -> Shift | str:
    """The shift of a name or YAML file; of a data set, its name.

    Raises:
        UsageError: neither.
    """
    from bench.data.datasets import dataset_names

    if (dataset := resolve("dataset", name)) in dataset_names():
        return dataset
    if name not in names("shift") and not name.endswith((".yaml", ".yml")):
        raise unknown("shift or data set", name, [*dataset_names(), *names("shift")])
    return load_shift(name)


def alterations(config: RunConfig) -> tuple[str, ...]:
    """Options in which a run differs from its shift's and method's defaults, as ``-o`` would set them, sorted. A stream differs in
    its ``protocol``, so it is never taken for the leaderboard's own configuration."""
    shift = load_shift(config.shift)
    network = shift.network
    default: dict[str, Any] = {"network": network.name, "fusion": network.fusion, "weights": network.weights}
    usual = usual_settings(config.method, config.settings, shift)
    default |= {
        "protocol": "offline",
        "reset": "never",
        "flow": shift.flow,
        "init": "source",
        "ingredients": shift.ingredients,
        **usual,
    }
    if config.ingredients == "published":
        default |= method_class(config.method).PAPER_HAS
    parts = ("network", "fusion", "weights", "flow", "init", "frames", "ingredients", "source_file", "reset")
    actual = {name: getattr(config, name) for name in parts} | {"protocol": config.mode}
    actual |= every_setting(config)
    return tuple(
        f"{key}={value if isinstance(value, str) else canonical(value)}"
        for key, value in sorted(actual.items())
        if canonical(value) != canonical(default.get(key))
    )
