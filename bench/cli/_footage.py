"""What ``bench predict`` and ``bench adapt`` say at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .common import whole

ADVICE = {
    "adapted": "nothing that shows without labels speaks against the adapted model; look at changes.png",
    "adabn": "the statistics of the footage alone: `bench adapt --method adabn`; training has made it worse",
    "as it was": "the model that came in, which the footage is better off with",
}
"""What each recommendation means."""


def closing(report: Mapping[str, Any]) -> Group:
    """A line per entry of the report, a table of the classes that have labels, and what an adaptation changed."""
    apart = ("IoU", "without a labelled pixel", "changes")
    parts: list[RenderableType] = [
        Text(f"{key}: {value}", no_wrap=True, overflow="ignore") for key, value in report.items() if key not in apart
    ]
    if iou := report.get("IoU"):
        parts.append(_table(("class", "IoU"), [(name, f"{value:.1f}") for name, value in iou.items()]))
    if without := report.get("without a labelled pixel"):
        parts.append(escape(f"without a labelled pixel, so not in the mean: {', '.join(without)}"))
    return Group(*parts, *(_changes(changes) if (changes := report.get("changes")) else ()))


def _changes(changes: Mapping[str, Any]) -> list[RenderableType]:
    """The numbers of ``changes.json``; classes that neither model finds are left out."""
    rows = [
        (
            name,
            f"{shares['before']:.2f}",
            f"{shares['after']:.2f}",
            _number(shares["kept"]),
            shares["most became"] or "-",
        )
        for name, shares in changes["classes"].items()
        if shares["before"] or shares["after"]
    ]
    models = [
        (
            name,
            f"{_number(scores['flicker'])}",
            "-" if scores["information"] is None else f"{scores['information']:.2f}",
        )
        for name, scores in changes["models"].items()
    ]
    best = changes["recommended"]
    return [
        f"pixels whose class changed: {changes['pixels changed']:.1f} % (changes.json, changes.png)",
        _table(("class", "% before", "% after", "% kept", "most of the others became"), rows),
        _table(("model", "flicker %", "information, nats"), models),
        *(f"[bold]Look:[/] {escape(warning)}" for warning in changes["warnings"]),
        *(escape(sentence) for sentence in changes["against the others"]),
        f"[bold]Recommended: {best}[/] ({escape(ADVICE[best])})",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(*names, box=None, padding=(0, 2))
    for row in rows:
        table.add_row(*map(escape, row))
    return whole(table)
