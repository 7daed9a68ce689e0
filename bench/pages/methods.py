"""What a method's page shows: its card, its file's documentation, settings with origin, published numbers, runs, BibTeX."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from bench.leaderboards.published import rows as published_rows
from bench.leaderboards.settings_page import rows_of
from bench.leaderboards.statistics import NOTHING
from bench.runs.config import Shift, alterations, method_class
from bench.runs.records import Record

from .board import LAST, Cell, Column

RUN_COLUMNS = (
    Column("shift", "Shift", small=False),
    Column("seed", "Replicate"),
    Column("miou", "mIoU, %"),
    Column("options", "Changed options"),
    Column("consistency", "Temporal cons., %", small=False),
    Column("steps", "Steps", shown=False),
    Column("cpu", "CPU, s", shown=False),
    Column("revision", "Code", shown=False),
    Column("date", "Date", shown=False),
    Column("run", "Run"),
)
"""Of the table of a method's runs."""
_QUOTED = re.compile(r'"([^"]{15,})"')


def documentation(method: str) -> str:
    """The docstring of a method's file."""
    return inspect.cleandoc(sys.modules[method_class(method).__module__].__doc__ or "")


def settings_table(method: str, shifts: Sequence[Shift]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of a method's settings, as on the settings' page."""
    rows = rows_of(method, shifts)
    return (list(rows[0]) if rows else []), [[text.strip("`") for text in row.values()] for row in rows]


def published_of(method: str) -> list[dict[str, Any]]:
    """Its published numbers on real shifts."""
    return [
        {"shift": r.shift, "miou": f"{r.miou:.1f}", "source": r.source} for r in published_rows() if r.method == method
    ]


def run_rows(records: Iterable[Record]) -> list[dict[str, Cell]]:
    """A row per committed run, unchanged ones first."""
    ordered = sorted(records, key=lambda r: (r.config.shift, alterations(r.config), r.config.seed, r.run))
    return [
        {
            "shift": Cell(record.config.shift, record.config.shift),
            "seed": Cell(str(record.config.seed), record.config.seed),
            "options": Cell(", ".join(alterations(record.config)) or "none", ", ".join(alterations(record.config))),
            "miou": Cell(f"{record.result.miou:.1f}", record.result.miou),
            "consistency": _number(record.result.temporal_consistency),
            "steps": Cell(str(record.cost.steps), record.cost.steps),
            "cpu": Cell(f"{record.cost.cpu_seconds:.0f}", record.cost.cpu_seconds),
            "revision": Cell(str(record.code.get("revision")), str(record.code.get("revision"))),
            "date": Cell(record.date, record.date),
            "run": Cell(record.run, record.run),
        }
        for record in ordered
    ]


def _number(value: float | None) -> Cell:
    return Cell(NOTHING if value is None else f"{value:.1f}", LAST if value is None else value)


def curve_points(records: Iterable[Record]) -> list[dict[str, Any]]:
    """mIoU and target-only score of the kept weights of runs without changed options, by step and replicate."""
    unaltered = sorted((r for r in records if not alterations(r.config)), key=lambda r: (r.config.shift, r.config.seed))
    return [
        {"shift": record.config.shift, "seed": record.config.seed}
        | {key: snapshot[key] for key in ("step", "miou", "target_score")}
        for record in unaltered
        if len(record.selection.snapshots) > 1
        for snapshot in record.selection.snapshots
    ]  # fmt: skip


def bibtex(methods: Iterable[str]) -> str:
    """The papers of methods, each once; title as in the method's file, authors by family name as on its card."""
    entries: dict[str, str] = {}
    for method in methods:
        card = method_class(method).card
        if card.year is None or card.url in entries:
            continue
        quoted = _QUOTED.search(" ".join(documentation(method).split()))
        fields = {
            "title": f"{{{_tex(quoted[1] if quoted else card.title)}}}",
            "author": " and ".join(_tex(name.strip()) for name in card.authors.split(",")),
            "booktitle": _tex(re.sub(rf"\s*{card.year}$", "", card.venue)),
            "year": str(card.year),
            "url": card.url,
        }
        lines = ",\n".join(f"  {key} = {{{value}}}" for key, value in fields.items())
        entries[card.url] = f"@inproceedings{{{card.key},\n{lines}\n}}\n"
    return "\n".join(entries.values())


def _tex(text: str) -> str:
    return re.sub(r"([&%#_$])", r"\\\1", text)
