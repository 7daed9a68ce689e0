"""``bench compare``: what differs between two runs in config, environment, result and cost."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.core.errors import UsageError
from bench.core.text import listed
from bench.runs.config import load_shift
from bench.runs.finished import run_name
from bench.runs.records import Record

SECTIONS = ("config", "environment", "result", "cost")


@dataclass(frozen=True)
class Difference:
    """One value that differs; None stands for one that a record lacks."""

    a: Any
    b: Any

    @property
    def change(self) -> float | None:
        """``b - a`` of two numbers, None otherwise."""
        numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (self.a, self.b))
        return self.b - self.a if numbers else None


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, ``settings.temperature`` and so on; lists stay as they are."""
    flattened: dict[str, Any] = {}
    for key, inner in nested.items():
        path = f"{prefix}{key}"
        flattened |= flat(inner, f"{path}.") if isinstance(inner, Mapping) else {path: inner}
    return flattened


def sections(record: Record) -> dict[str, dict[str, Any]]:
    """A record's values by section and dotted name."""
    fields = record.model_dump(mode="json")
    environment = {key: fields.get(key) for key in ("code", "versions", "hardware", "source_model", "flow", "date")}
    result = {key: value for key, value in fields["result"].items() if key != "iou"}
    result |= {"iou": in_order(fields["result"]["iou"], record.config.shift)}
    result |= {f"beside.{name}": scores for name, scores in fields["beside"].items()}
    return {
        "config": flat(fields["config"]),
        "environment": flat(environment),
        "result": flat(result),
        "cost": flat(fields["cost"]),
    }


def in_order(iou: Mapping[str, Any], shift: str) -> dict[str, Any]:
    """IoU by class in train-id order (records are sorted by name), as it is where the shift is not known here."""
    with contextlib.suppress(UsageError):
        return {name: iou[name] for name in load_shift(shift).score_classes if name in iou} | dict(iou)
    return dict(iou)


def differences(a: Record, b: Record) -> dict[str, dict[str, Difference]]:
    """What differs, by section (:data:`SECTIONS`) and dotted name in a's order."""
    first, second = sections(a), sections(b)
    return {
        name: {
            key: Difference(first[name].get(key), second[name].get(key))
            for key in [*first[name], *(k for k in second[name] if k not in first[name])]
            if first[name].get(key) != second[name].get(key)
        }
        for name in SECTIONS
    }


def same(by_section: Mapping[str, Mapping[str, Difference]]) -> bool:
    """True if config and result agree; the environment, and what a run costs, may differ between equal runs."""
    return not by_section["config"] and not by_section["result"]


def verdict(by_section: Mapping[str, Mapping[str, Difference]]) -> str:
    """One sentence: what agrees and what differs."""
    differing = [name for name in SECTIONS if by_section[name]]
    if not differing:
        return "The two records are the same in config, environment, result and cost."
    agreeing = [name for name in SECTIONS if not by_section[name]]
    sentence = f"They differ in {listed(differing)}"
    return (
        f"{sentence}; {listed(agreeing)} {'is' if len(agreeing) == 1 else 'are'} the same."
        if agreeing
        else f"{sentence}."
    )


@dataclass(frozen=True)
class Comparison:
    """Two records, compared as JSON or as tables for a terminal."""

    a: Record
    b: Record

    def as_json(self) -> dict[str, Any]:
        """What differs, by section and name."""
        return as_json(self.a, self.b)

    def __rich__(self) -> Group:
        return as_tables(self.a, self.b)


def as_json(a: Record, b: Record) -> dict[str, Any]:
    """The comparison as JSON."""
    by_section = differences(a, b)
    rows = {
        section: {
            key: {"a": d.a, "b": d.b} | ({} if d.change is None else {"change": d.change}) for key, d in by_name.items()
        }
        for section, by_name in by_section.items()
    }
    return {"a": a.run, "b": b.run, "same": same(by_section), "differences": rows}


def as_tables(a: Record, b: Record) -> Group:
    """The comparison for a terminal: a line on each run, a table per section that differs, the verdict."""
    by_section = differences(a, b)
    parts: list[Any] = [
        Text(f"{letter}: {r.run}  {run_name(r)}, seed {r.config.seed}") for letter, r in (("A", a), ("B", b))
    ]
    for section, by_name in by_section.items():
        if not by_name:
            continue
        unit = " (percent; change in points)" if section == "result" else ""
        table = Table("", "A", "B", "B - A", title=f"{section}{unit}", title_justify="left", show_edge=False)
        for column in table.columns:
            column.overflow = "fold"  # no path or hash is cut
        for column in table.columns[1:]:
            column.justify = "right"
        for key, d in by_name.items():
            change = "" if d.change is None else f"{d.change:+.6g}" if section == "config" else f"{d.change:+.2f}"
            table.add_row(key.removeprefix("iou."), _cell(d.a, section), _cell(d.b, section), change)
        parts += [Text(), table]
    return Group(*parts, Text(), Text(verdict(by_section)))


def _cell(value: Any, section: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, float) and section != "config":
        return f"{value:.2f}"
    return str(value)
