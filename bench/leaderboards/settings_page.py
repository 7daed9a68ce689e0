"""``leaderboards/settings.md``: every setting of every method, its published value with its source, and what each reported shift
runs with. A pure function of the methods' files and the shifts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.registry import method_names, shift_names
from bench.core.schema import canonical
from bench.core.text import code, table
from bench.runs.config import effective_settings, load_shift, method_class
from bench.shifts.protocol import TunedOn

from .atlas import PREFIX
from .generated import Page

if TYPE_CHECKING:
    from bench.shifts.protocol import Shift
    from methods.base import Value

NAME = "settings.md"
HEAD = (
    "# Settings of the methods",
    "Made by `bench leaderboard` from the methods' files; do not edit. `bench list methods --shift NAME` prints the same for any "
    "shift.",
    "Value: as published in the paper or its code, in which case the source says where; `ours` where nothing is published, or "
    "nothing that could be kept, in which case it says why. The last columns are what the methods run with on each reported "
    "shift: the same, or a value tuned on development worlds (the trial of [tuning/log.csv](tuning/log.csv)) or set for them "
    "without a search (by hand).",
)


def page(root: Path) -> Page:
    """The page as it has to be."""
    shifts = columns()
    parts = [
        *HEAD,
        "The shifts of the atlas (`atlas-…`) run with what `ministreet2` runs with: nothing is tuned on them.",
    ]
    parts += [
        f"**Not searched on `{name}` yet**, so `{shift}` runs with values that were published or set by hand: "
        f"{', '.join(map(code, methods))}."
        for shift, name, methods in _waiting(shifts)
    ]
    for name in method_names():
        rows = rows_of(name, shifts)
        if rows:
            parts += [f"## {method_class(name).card.title} (`{name}`)", table(rows, left=tuple(rows[0]))]
        for layer, values in method_class(name).TUNED.items():
            if " " in layer:  # "ministreet-dev teacher=none"
                variant_rows = [
                    {"setting": f"`{key}`", layer.split()[0]: _cell(value, value)} for key, value in values.items()
                ]
                parts += [f"With `-o {layer.split()[1]}`:", table(variant_rows, left=tuple(variant_rows[0]))]
    return Page(root / NAME, "\n\n".join(parts) + "\n")


def columns() -> list[Shift]:
    """The reported shifts that have settings of their own."""
    shifts = [load_shift(name) for name in shift_names() if not name.startswith(PREFIX)]
    return [shift for shift in shifts if shift.purpose == "report"]


def _waiting(shifts: Sequence[Shift]) -> list[tuple[str, str, list[str]]]:
    """Shifts whose settings are those of a search, each with where it is to run and the methods that it has not been run for."""
    tuned_on = {shift.name: shift.settings.tuned_on for shift in shifts if isinstance(shift.settings, TunedOn)}
    waiting = [
        (shift, name, [m for m in method_names() if method_class(m).SEARCH and not _searched(m, name)])
        for shift, name in tuned_on.items()
    ]
    return [(shift, name, methods) for shift, name, methods in waiting if methods]


def _searched(method: str, shift: str) -> bool:
    return any(value.origin == "tuned" for value in method_class(method).TUNED.get(shift, {}).values())


def rows_of(method: str, shifts: Sequence[Shift]) -> list[dict[str, str]]:
    """The settings of a method, one per row: value, origin, source, and what each of the shifts runs with."""
    from methods.base import declared

    defaults = declared(method_class(method).Settings)
    refused = {shift.name: shift.refuses(method_class(method).card.setting) for shift in shifts}
    effective = {shift.name: {} if refused[shift.name] else effective_settings(method, {}, shift) for shift in shifts}
    return [
        {
            "setting": f"`{key}`",
            "value": _text(value.value),
            "published or ours": value.origin,
            "source, or why": value.source or "–",
            **{shift: _cell(settings[key], value) if settings else "–" for shift, settings in effective.items()},
        }
        for key, value in defaults.items()
    ]


def _cell(value: Value, default: Value) -> str:
    """A shift's value, with its origin in brackets where it is not the default of the columns before."""
    if value == default:
        return _text(value.value)
    origin = {"tuned": value.source, "ours": f"by hand: {value.source}", "published": value.source}[value.origin]
    return f"{_text(value.value)} ({origin})"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)
