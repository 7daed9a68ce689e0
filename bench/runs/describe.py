"""Describes a method inside the box: answers to the questions of :mod:`bench.runs.unseen`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from bench.core import child
from bench.shifts.protocol import Shift
from methods.base import Layer, Method, later

from .around import Around
from .settings import effective_settings, loaded_class, revision_of
from .unseen import SWITCHES


def answer(payload: str, say: child.Say) -> Any:
    """Answer a question about a method, inside the box: its description, its settings on a shift, or its revision."""
    name, question, overrides, shift_text = json.loads(Around.unpacked(payload))
    if question == "describe":
        return _described(loaded_class(name))
    if question == "settings":
        shift = None if shift_text is None else Shift.model_validate_json(shift_text)
        return {key: dataclasses.asdict(value) for key, value in effective_settings(name, overrides, shift).items()}
    return revision_of(name, overrides)


def _described(cls: type[Method]) -> dict[str, Any]:
    def layer(layer_values: Layer) -> dict[str, Any]:
        return {key: dataclasses.asdict(value) for key, value in layer_values.items()}

    usual = cls.Settings()
    values_of = {}
    for field in dataclasses.fields(usual):
        values = dict(field.metadata.get("by_source", {}))
        values |= {"": field.metadata["value"]} if "value" in field.metadata else {}
        kind = field.type if isinstance(field.type, str) else field.type.__name__
        values_of[field.name] = [kind, getattr(usual, field.name), layer(values)]
    return {
        "card": dataclasses.asdict(cls.card),
        "switches": {name: getattr(cls, name) for name in (*SWITCHES, "PAPER_HAS")},
        "settings": values_of,
        "later": dict(later(cls.Settings)),
        "tuned": {shift: layer(tuned) for shift, tuned in cls.TUNED.items()},
        "search": {key: [type(space).__name__, dataclasses.asdict(space)] for key, space in cls.SEARCH.items()},
    }
