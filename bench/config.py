"""Configuration: a shift (one YAML, the protocol) and a run (what the command line or a sweep asks for).

Both are validated by pydantic: unknown keys, wrong types and impossible values are refused with the field's path. Their
canonical JSON is hashed; a run's folder is named by the hash and the shift's hash stands in every record.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from .access import stage
from .errors import UsageError, unknown
from .registry import ROOT, flow_names, import_from, method_names, names_in, shift_names


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Split(Model):
    """Clips of one domain: numbers of training and validation clips."""

    domain: str
    train: int = Field(ge=1)
    val: int = Field(ge=1)


class Data(Model):
    """Where clips come from: rendered worlds of one family, frame size in pixels, frames per clip."""

    kind: Literal["ministreet"]
    family: str
    height: int = Field(ge=32)
    width: int = Field(ge=32)
    frames: int = Field(ge=2)
    source: Split
    target: Split


class Network(Model):
    """Default network and fusion operator of all methods."""

    name: str
    fusion: str


class Schedule(Model):
    """SGD with momentum under a polynomial schedule, ``lr (1 - step/steps)^power``, for all parameter groups."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    head_multiplier: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    power: float = Field(gt=0)
    clip_norm: float | None = Field(gt=0)
    precision: Literal["float32", "bfloat16"]


class Adaptation(Schedule):
    """Schedule of all methods that train on the target, and the batch-norm policy.

    ``batch_norm: target`` starts every adaptation from statistics of target frames, keeps batch norm in train mode and
    re-estimates the statistics on target training frames before each evaluation, the same for every method.
    ``snapshots`` weights are kept on the way (the last included) for the selection rules.
    """

    batch_norm: Literal["target", "source"]
    snapshots: int = Field(ge=1)
    statistics_clips: int = Field(ge=1)


class Evaluation(Model):
    """Scores are upsampled bilinearly to the label's size; ``readout`` says which weights are evaluated."""

    align_corners: bool
    readout: Literal["student", "teacher"]


class Shift(Model):
    """A named source to target benchmark."""

    name: str
    title: str
    purpose: Literal["report", "tune", "test"]
    classes: tuple[str, ...] = Field(min_length=2)
    data: Data
    network: Network
    flow: str
    source_training: Schedule
    adaptation: Adaptation
    evaluation: Evaluation

    @model_validator(mode="after")
    def _fits(self) -> Shift:
        from .data.labels import CLASSES
        from .data.ministreet import DOMAINS

        if self.classes != CLASSES:
            raise ValueError(f"classes must be those of {self.data.kind}, in train-id order: {', '.join(CLASSES)}")
        for role, domain in (("source", self.data.source.domain), ("target", self.data.target.domain)):
            if domain not in DOMAINS:
                raise ValueError(f"data.{role}.domain is '{domain}'; available: {', '.join(sorted(DOMAINS))}")
        for role, split in (("source", self.data.source), ("target", self.data.target)):
            batch = (self.source_training if role == "source" else self.adaptation).batch
            if split.train < batch:
                raise ValueError(f"data.{role}.train ({split.train}) is smaller than the batch ({batch})")
        return self

    @property
    def hash(self) -> str:
        """Hash of the protocol; the title is not part of it."""
        return hash_of(self.model_dump(mode="json", exclude={"title"}))


class RunConfig(Model):
    """One run, completely: every default written out, so that equal configs mean equal runs.

    ``init: backbone`` starts a UDA method as published, from an untrained head on the network's initial backbone, instead
    of from the source model. It came later than the rest and is left out of the text, and so of the hash, where it is not used.
    """

    method: str
    shift: str
    shift_hash: str
    seed: int = Field(ge=0)
    network: str
    fusion: str
    flow: str
    settings: dict[str, Any]
    init: Literal["source", "backbone"] = "source"

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        text: dict[str, Any] = handler(self)
        return text if self.init != "source" else {key: value for key, value in text.items() if key != "init"}

    @property
    def hash(self) -> str:
        """Name of the run's folder."""
        return hash_of(self.model_dump(mode="json"))


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def hash_of(value: Any) -> str:
    """First 12 hex digits of SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def one_line(error: ValidationError) -> str:
    """The first problem of a validation as ``path: what`` and how many more there are."""
    problems = error.errors()
    first = problems[0]
    path = ".".join(str(part) for part in first["loc"])
    if not path:  # a rule over the whole, which names its fields itself
        return str(first["msg"]).removeprefix("Value error, ")
    rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{path}: {first['msg']}, got {first['input']!r:.60}{rest}"


@lru_cache
def load_shift(name: str) -> Shift:
    """Read and validate a shift by name (a file in ``bench/shifts``) or by path of a YAML file.

    Raises:
        UsageError: unknown name, or a file that does not validate (with the field's path).
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else ROOT / "shifts" / f"{name}.yaml"
    if not path.is_file():
        raise unknown("shift", name, shift_names())
    try:
        return Shift.model_validate(yaml.safe_load(path.read_text(encoding="utf-8", errors="replace")))
    except ValidationError as error:
        raise UsageError(f"Shift {path.name}: {one_line(error)}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"Shift {path.name} is not YAML: {' '.join(str(error).split())}") from None


@stage(processes=True)
def method_class(name: str) -> Any:
    """The class of a discovered method. Its file is executed here, so no clip data can be opened meanwhile.

    Raises:
        UsageError: unknown method.
    """
    module = import_from("methods", name, kind="method", exclude=("base",))
    return module.METHOD


@stage(processes=True)
def resolve_settings(method: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Settings of a method with ``overrides`` applied, checked against the types of its ``Settings`` and its own rules.

    Raises:
        UsageError: unknown key (with the nearest one), wrong type, value out of range.
    """
    settings_class = method_class(method).Settings
    fields = {f.name: f for f in dataclasses.fields(settings_class)}
    for key in overrides:
        if key not in fields:
            raise unknown("option", key, [*fields, "fusion", "flow", "network"], where=f" for method '{method}'")
        if isinstance(overrides[key], bool) and fields[key].type not in (bool, "bool"):
            raise UsageError(f"Option of method '{method}': {key}: expected {fields[key].type}, got {overrides[key]}")
    try:
        return dataclasses.asdict(TypeAdapter(settings_class).validate_python(overrides))
    except ValidationError as error:
        raise UsageError(f"Option of method '{method}': {one_line(error)}") from None


def make_run_config(
    method: str,
    shift: str = "ministreet",
    seed: int = 0,
    options: dict[str, Any] | None = None,
    init: str = "source",
) -> RunConfig:
    """Build the complete configuration of a run from names and ``-o`` options.

    Args:
        options: ``fusion``, ``flow``, ``network``, and settings of the method.
        init: ``source``, or ``backbone`` for UDA methods.

    Raises:
        UsageError: anything unknown, mistyped or out of range.
    """
    options = dict(options or {})
    protocol = load_shift(shift)
    method_class(method)  # an unknown method is named before its options are
    network = str(options.pop("network", protocol.network.name))
    fusion = str(options.pop("fusion", protocol.network.fusion))
    flow = str(options.pop("flow", protocol.flow))
    networks = [n for n in names_in("bench.networks") if n != "build"]
    from .networks.build import fusion_names

    for kind, name, available in (
        ("network", network, networks),
        ("fusion", fusion, fusion_names()),
        ("flow", flow, flow_names()),
    ):
        if name not in available:
            raise unknown(kind, name, available)
    if seed < 0:
        raise UsageError(f"seed must be 0 or more, got {seed}")
    if init not in ("source", "backbone"):
        raise unknown("init", init, ["source", "backbone"])
    if init == "backbone" and (setting := method_class(method).card.setting) != "UDA":
        raise UsageError(f"--init backbone is for UDA methods, which see source data; '{method}' is {setting}")
    return RunConfig(
        method=method,
        shift=shift,
        shift_hash=protocol.hash,
        seed=seed,
        network=network,
        fusion=fusion,
        flow=flow,
        settings=resolve_settings(method, options),
        init=init,  # type: ignore[arg-type]  # checked above
    )


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``["tau=0.1", "fusion=none"]`` to a dictionary; values are read as YAML scalars, so numbers become numbers.

    Raises:
        UsageError: not of the form key=value, or a key twice.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"Option '{pair}' is not of the form key=value, e.g. -o fusion=none")
        if key in options:
            raise UsageError(f"Option '{key}' is given twice")
        try:
            value = yaml.safe_load(text) if text else ""
        except yaml.YAMLError:
            raise UsageError(
                f"Option '{pair}': '{text}' is not a value; put quotes around special characters"
            ) from None
        options[key] = "none" if value is None else _number(value)
    return options


def parse_range(name: str, text: str) -> range:
    """``"0:3"`` to ``range(0, 3)``, ``"2"`` to ``range(2, 3)``.

    Raises:
        UsageError: not of that form, or empty.
    """
    first, separator, end = text.partition(":")
    try:
        span = range(int(first), int(end) if separator else int(first) + 1)
    except ValueError:
        span = range(0)
    if not span or span.start < 0:
        raise UsageError(f"{name} must be FIRST:END with 0 <= FIRST < END, or one number, got '{text}'")
    return span


def _number(value: Any) -> Any:
    """YAML 1.1 reads ``1e-3`` as text; a person means a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


__all__ = [
    "RunConfig",
    "Shift",
    "canonical",
    "hash_of",
    "load_shift",
    "make_run_config",
    "method_names",
    "parse_options",
]
