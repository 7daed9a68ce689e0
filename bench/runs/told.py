"""What a method says of itself, inside the box; :mod:`bench.runs.unseen` asks."""

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
    """Answer a question, inside the box."""
    name, what, given, shift = json.loads(Around.unpacked(payload))
    if what == "describe":
        return _described(loaded_class(name))
    if what == "settings":
        of = None if shift is None else Shift.model_validate_json(shift)
        return {key: dataclasses.asdict(value) for key, value in effective_settings(name, given, of).items()}
    return revision_of(name, given)


def _described(cls: type[Method]) -> dict[str, Any]:
    def layer(of: Layer) -> dict[str, Any]:
        return {key: dataclasses.asdict(value) for key, value in of.items()}

    usual = cls.Settings()
    values_of = {}
    for one in dataclasses.fields(usual):
        values = dict(one.metadata.get("by_source", {}))
        values |= {"": one.metadata["value"]} if "value" in one.metadata else {}
        kind = one.type if isinstance(one.type, str) else one.type.__name__
        values_of[one.name] = [kind, getattr(usual, one.name), layer(values)]
    return {
        "card": dataclasses.asdict(cls.card),
        "switches": {name: getattr(cls, name) for name in (*SWITCHES, "PAPER_HAS")},
        "settings": values_of,
        "later": dict(later(cls.Settings)),
        "tuned": {shift: layer(of) for shift, of in cls.TUNED.items()},
        "search": {key: [type(of).__name__, dataclasses.asdict(of)] for key, of in cls.SEARCH.items()},
    }
