"""What a method of one's own says of itself, asked in a box: this process, which may score it later, never executes its file.

The answers are data: its card, switches, settings with their values and origins, its search space. They are asked for once for each
state of its source.
"""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.core import child
from bench.core.errors import RunError
from bench.core.loading import source_hash
from bench.core.registry import find
from bench.core.schema import one_line, whole_text
from bench.shifts.protocol import Shift
from methods.base import Card, Choice, LogUniform, Method, Uniform, Value

from .around import Around

SPACES = {kind.__name__: kind for kind in (Choice, LogUniform, Uniform)}


@dataclasses.dataclass(frozen=True)
class MethodDescription:
    """What a method says of itself, as JSON can hold it.

    Attributes:
        switches: class attributes of the harness, by name.
        settings: of each, its type in words, its default, and its values by source of the shift, the usual one under "".
        search: of each, the kind of space and its fields.
    """

    card: Card
    switches: dict[str, Any]
    settings: dict[str, tuple[str, Any, dict[str, Value]]]
    later: dict[str, Any]
    tuned: dict[str, dict[str, Value]]
    search: dict[str, tuple[str, dict[str, Any]]]


SWITCHES = {
    "start": ("source", "target_statistics", "scratch"), "trains": (True, False), "evaluates_average": (True, False),
    "previous_labels": (True, False), "streams": (True, False),
}  # fmt: skip
"""Class attributes of a method that the harness goes by, and what they may be."""


def stand_in(name: str) -> type[Method]:
    """A class with everything that a method's class says of itself, and none of its code.

    Raises:
        UsageError, RunError: as :func:`bench.runs.settings.method_class`.
    """
    return _stand_in(name, source_hash("method", name))


@lru_cache
def _stand_in(name: str, source: str | None) -> type[Method]:
    origin = find("method", name).place
    try:
        described = TypeAdapter(MethodDescription).validate_python(_ask(name, source, "describe"))
    except ValidationError as error:
        raise RunError(f"{origin}: what it says of itself cannot be used: {one_line(error)}") from None
    for switch, allowed in SWITCHES.items():
        if (value := described.switches.get(switch)) not in allowed:
            raise RunError(f"{origin}: {switch} is {value!r:.80}; allowed: {', '.join(map(str, allowed))}")
    try:
        return _class_of(described)
    except (TypeError, ValueError, KeyError) as error:
        raise RunError(f"{origin}: what it says of itself cannot be used: {error!s:.200}") from None


def _class_of(described: MethodDescription) -> type[Method]:
    fields = []
    for key, (kind, default, values) in described.settings.items():
        usual = values.get("")
        metadata = (
            {"value": usual, "by_source": {name: value for name, value in values.items() if name}} if usual else {}
        )
        fields.append((key, kind, dataclasses.field(default=_tuple(default), metadata=metadata)))
    settings = dataclasses.make_dataclass("Settings", fields, frozen=True, namespace={"LATER": described.later})
    search = {
        key: SPACES[kind](**{name: _tuple(value) for name, value in arguments.items()})
        for key, (kind, arguments) in described.search.items()
    }
    says = {"Settings": settings, "SEARCH": search, "TUNED": described.tuned, "card": described.card}
    return type("Unseen", (Method,), described.switches | says)


def _tuple(value: Any) -> Any:
    """JSON has no tuples, and a dataclass takes no lists."""
    return tuple(value) if isinstance(value, list) else value


def settings_told(name: str, overrides: dict[str, Any], shift: Shift | None) -> dict[str, Value]:
    """:func:`bench.runs.settings.effective_settings`, worked out in the box."""
    values = _ask(name, source_hash("method", name), "settings", overrides, shift)
    return TypeAdapter(dict[str, Value]).validate_python(values)


def revision_told(name: str, settings: dict[str, Any]) -> int:
    """:func:`bench.runs.settings.revision_of`, worked out in the box."""
    return int(_ask(name, source_hash("method", name), "revision", settings))


_answers: dict[tuple[str, str | None, str], str] = {}


def _ask(
    name: str, source: str | None, kind: str, settings: dict[str, Any] | None = None, shift: Shift | None = None
) -> Any:
    shift_text = None if shift is None else whole_text(shift)
    question = json.dumps([name, kind, settings, shift_text], default=str)
    key = name, source, question
    if key not in _answers:
        around = Around.of_now([f"method/{name}"])
        call = child.Call("bench.runs.describe:answer", around.packed(question), around.code([]))
        _answers[key] = json.dumps(child.run_boxed(call).result)
    return json.loads(_answers[key])
