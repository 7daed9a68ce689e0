"""What a method says of itself, inside the box; :mod:`bench.runs.unseen` asks."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

from bench.core import child
from methods.base import Layer, Method, later

from .settings import effective_settings, loaded_class, revision_of
from .unseen import SWITCHES


def answer(payload: bytes, say: child.Say) -> Any:
    """Answer a question, inside the box."""
    around, question = pickle.loads(payload)
    around.settle()
    name, what, arguments = pickle.loads(question)
    if what == "describe":
        return _described(loaded_class(name))
    if what == "settings":
        return {key: dataclasses.asdict(value) for key, value in effective_settings(name, *arguments).items()}
    return revision_of(name, *arguments)


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
