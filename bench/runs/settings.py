"""Settings of a method in layers: what is published, what was tuned for a family of shifts, what this run asks for.

A method's file has the published value of each setting (or ours, where nothing is published) and, beside them, values that were
tuned on development worlds. A shift says which of the two its runs get; ``-o`` goes on top of either.
"""

from __future__ import annotations

import dataclasses
from abc import ABCMeta
from collections.abc import Iterable
from functools import lru_cache
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from bench.core import box, child
from bench.core.access import stage
from bench.core.errors import RunError, UsageError, unknown
from bench.core.loading import check_name, load
from bench.core.registry import find
from bench.core.schema import one_line
from bench.shifts.protocol import MINISTREET, Shift, TunedOn

if TYPE_CHECKING:
    from methods.base import Value


executed_here: set[str] = set()
"""Plugins whose method was executed in this process, which then is no better than they are."""


def method_class(name: str) -> Any:
    """The class of a method, for what it says of itself. Of a plugin it is a stand-in: its file is executed in a box alone.

    Raises:
        UsageError: unknown method, or a plugin whose card has another key than its name.
        RunError: its file cannot be loaded, or holds no method.
    """
    if is_foreign(name):
        from .unseen import stand_in

        return stand_in(name)
    return loaded_class(name)


def is_foreign(name: str) -> bool:
    """Whether a method's file may not be executed in this process: a plugin's, where it can be put into a box."""
    return not child.inside() and box.available() and not find("method", name).built_in


def loaded_class(name: str) -> Any:
    """The class itself. Its file is executed here, so no clip data can be opened meanwhile.

    Raises:
        UsageError, RunError: as :func:`method_class`.
    """
    if not child.inside() and not find("method", name).built_in:
        executed_here.add(name)
    with stage(processes=True):
        from methods.base import Card, Method  # brings torch

        cls = load("method", name).METHOD
        # Read past descriptors and metaclasses: a card says the same to whoever asks.
        if not (isinstance(cls, type) and issubclass(cls, Method) and type(cls) is ABCMeta):
            raise RunError(f"{find('method', name).place}: METHOD is no subclass of methods.base.Method with a card")
        if type(getattr_static(cls, "card", None)) is not Card:
            raise RunError(f"{find('method', name).place}: METHOD is no subclass of methods.base.Method with a card")
        check_name("method", name, cls.card.key)
    return cls


RUN_OPTIONS = ("fusion", "flow", "network", "weights", "frames", "ingredients")
"""Options of a run beside its method's settings."""


def check_options(method: str, options: Iterable[str], others: Iterable[str] = RUN_OPTIONS, context: str = "") -> None:
    """Refuse options that a method does not have.

    Args:
        others: options that are taken beside its settings.
        context: of the error, after the method.

    Raises:
        UsageError: an unknown one, with the nearest that there is.
    """
    fields = [field.name for field in dataclasses.fields(method_class(method).Settings)]
    for key in options:
        if key not in fields:
            raise unknown("option", key, [*fields, *others], context=f" for method '{method}'{context}")


def effective_settings(method: str, overrides: dict[str, Any], shift: Shift | None = None) -> dict[str, Value]:
    """Every setting of a method on a shift, checked against the types of its ``Settings`` and its own rules, and its origin.

    Args:
        overrides: ``-o`` options that are settings of the method.
        shift: None stands for one that takes what was tuned on MiniStreet's development worlds.

    Raises:
        UsageError: unknown key (with the nearest one), wrong type, value out of range.
    """
    if is_foreign(method):
        from .unseen import settings_told

        return settings_told(method, overrides, shift)
    with stage(processes=True):
        return _effective(loaded_class(method), method, overrides, shift)


def _effective(cls: Any, method: str, overrides: dict[str, Any], shift: Shift | None) -> dict[str, Value]:
    from methods.base import Value, declared

    layers = declared(cls.Settings, _source(shift))
    choice: object = MINISTREET if shift is None else shift.settings
    fields = {f.name: f for f in dataclasses.fields(cls.Settings)}
    for key in overrides:
        if key not in fields:
            raise unknown("option", key, fields, context=f" for method '{method}'")
        if isinstance(overrides[key], bool) and fields[key].type not in (bool, "bool"):
            raise UsageError(f"Option of method '{method}': {key}: expected {fields[key].type}, got {overrides[key]}")
    if isinstance(choice, TunedOn):
        for name in (choice.tuned_on, *(f"{choice.tuned_on} {key}={value}" for key, value in overrides.items())):
            layers |= cls.TUNED.get(name, {})
    layers |= {key: Value(value, "-o") for key, value in overrides.items()}
    try:
        checked = _adapter(cls.Settings).validate_python({key: layer.value for key, layer in layers.items()})
    except ValidationError as error:
        raise UsageError(f"Option of method '{method}': {one_line(error)}") from None
    return {key: dataclasses.replace(layers[key], value=value) for key, value in dataclasses.asdict(checked).items()}


@lru_cache
def _adapter(settings: type) -> TypeAdapter[Any]:
    """Kept: making one takes longer than all that it checks."""
    return TypeAdapter(settings)


def _source(shift: Shift | None) -> str:
    """Data set of the source domain, empty where it is none."""
    return getattr(shift.data.source, "dataset", "") if shift is not None else ""


def resolve_settings(method: str, overrides: dict[str, Any], shift: Shift | None = None) -> dict[str, Any]:
    """:func:`effective_settings` as a run's config has them.

    Those that its ``LATER`` names are left out where they have the value that it gives, so that older runs keep their hash.

    Raises:
        UsageError: unknown key (with the nearest one), wrong type, value out of range.
    """
    from methods.base import later

    came_later = later(method_class(method).Settings)
    values = {key: setting.value for key, setting in effective_settings(method, overrides, shift).items()}
    return {key: value for key, value in values.items() if key not in came_later or value != came_later[key]}


def usual_settings(method: str, settings: dict[str, Any], shift: Shift) -> dict[str, Any]:
    """Every setting of a run as it would be if its options had not been given.

    A variant of the method, such as stpl with ``teacher=none``, has values of its own; a run of it is compared with these.
    """
    layers = method_class(method).TUNED
    tuned_on = getattr(shift.settings, "tuned_on", "")
    variant = {
        key: value for key, value in completed(method, settings).items() if f"{tuned_on} {key}={value}" in layers
    }
    plain = completed(method, resolve_settings(method, {}, shift))
    return {**completed(method, resolve_settings(method, variant, shift)), **{key: plain[key] for key in variant}}


def completed(method: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a config, those included that :func:`resolve_settings` leaves out."""
    from methods.base import later

    return {**later(method_class(method).Settings), **settings}


def settings_of(method: str, settings: dict[str, Any]) -> Any:
    """What the method is given: an instance of its ``Settings`` from those of a config. Its code is executed."""
    from methods.base import later

    cls = loaded_class(method)
    return cls.Settings(**{**later(cls.Settings), **settings})


def revision_of(method: str, settings: dict[str, Any]) -> int:
    """The revision that the method's algorithm has today, with the settings of a config; those that it has no more are left out."""
    if is_foreign(method):
        from .unseen import revision_told

        return revision_told(method, settings)
    cls = loaded_class(method)
    names = {f.name for f in dataclasses.fields(cls.Settings)} & settings.keys()
    return int(cls.revision(settings_of(method, {key: settings[key] for key in names})))
