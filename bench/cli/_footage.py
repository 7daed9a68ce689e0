"""What ``bench predict`` and ``bench adapt`` say at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

ADVICE = {
    "adapted": "nothing that shows without labels speaks against the adapted model; look at changes.png",
    "adabn": "the statistics of the footage alone: `bench adapt --method adabn`; training has made it worse",
    "as it was": "the model that came in, which the footage is better off with",
}
"""What each recommendation means."""


def closing(found: Mapping[str, Any]) -> Group:
    """A line for each thing said, a table of the classes that have labels, and what an adaptation changed."""
    apart = ("IoU", "without a labelled pixel", "changes")
    parts: list[RenderableType] = [
        Text(f"{key}: {value}", no_wrap=True, overflow="ignore") for key, value in found.items() if key not in apart
    ]
    if iou := found.get("IoU"):
        parts.append(_table(("class", "IoU"), [(name, f"{value:.1f}") for name, value in iou.items()]))
    if without := found.get("without a labelled pixel"):
        parts.append(escape(f"without a labelled pixel, so not in the mean: {', '.join(without)}"))
    return Group(*parts, *(_changes(told) if (told := found.get("changes")) else ()))


def _changes(told: Mapping[str, Any]) -> list[RenderableType]:
    """The numbers of ``changes.json``; classes that neither model finds are left out."""
    rows = [
        (name, f"{of['before']:.2f}", f"{of['after']:.2f}", _number(of["kept"]), of["most became"] or "-")
        for name, of in told["classes"].items()
        if of["before"] or of["after"]
    ]
    models = [
        (name, f"{_number(of['flicker'])}", "-" if of["information"] is None else f"{of['information']:.2f}")
        for name, of in told["models"].items()
    ]
    best = told["recommended"]
    return [
        f"pixels whose class changed: {told['pixels changed']:.1f} % (changes.json, changes.png)",
        _table(("class", "% before", "% after", "% kept", "most of the others became"), rows),
        _table(("model", "flicker %", "information, nats"), models),
        *(f"[bold]Look:[/] {escape(warning)}" for warning in told["warnings"]),
        *(escape(what) for what in told["against the others"]),
        f"[bold]Recommended: {best}[/] ({escape(ADVICE[best])})",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(*names, box=None, padding=(0, 2))
    for row in rows:
        table.add_row(*map(escape, row))
    return table
