"""What a report is made of: its parts, the page that shows them, and the pieces that runs and adaptations share."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core.errors import RunError
from bench.core.sealed import load_json
from bench.data.reading import colour_picture

from . import charts, extra
from .site import own, templates

POINTS = 400
"""Points of a curve; longer logs are averaged over equal numbers of steps."""
LARGEST_FILM = 30_000_000
"""Bytes of a film that is put into the page; a larger one is named."""
WIDE = 640
"""Pixels of a picture's width in the page."""
WEBP_MAX = 16383
"""Pixels of the longest side that a WebP may have."""


@dataclass
class Report:
    """What a report shows, in its order.

    Attributes:
        command: command line that repeats the run or adaptation, as far as it is known.
        facts: by section (what was asked, result, environment), texts by name.
        warnings: what a person should look at.
        charts: specifications by caption.
        heads, rows: a table of classes.
        pictures: caption and address (``data:``).
        pairs: caption, address before, address after.
        films: caption and address.
    """

    title: str
    kind: str
    command: str
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    charts: dict[str, charts.Spec] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)
    pairs: list[tuple[str, str, str]] = field(default_factory=list)
    films: list[tuple[str, str]] = field(default_factory=list)

    def html(self) -> str:
        """The page."""
        from markupsafe import Markup

        scripts = [extra.chart_script(), own("site.js")] if self.charts else [own("site.js")]
        inside = [Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--")) for text in scripts]
        return (
            templates().get_template("report.html").render(report=self, scripts=inside, style=Markup(own("site.css")))
        )


# Pieces ---------------------------------------------------------------------------------------------------------------


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as text for a table of facts; None and empty values are left out."""
    return {key: _text(value) for key, value in values.items() if value not in (None, "", {}, [])}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(child)}" for key, child in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def command_line(words: Iterable[object]) -> str:
    """Words as they are typed in a shell."""
    return shlex.join(map(str, words))


def log_points(log: Path) -> list[dict[str, Any]]:
    """Losses of ``metrics.jsonl``: ``step``, ``loss`` (its name), ``value``; at most :data:`POINTS` steps, each the mean of its
    neighbours. A last line that a killed process cut short is left out.

    Raises:
        RunError: another line is damaged.
    """
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = {key: float(value) for key, value in load_json(line).items() if value is not None}
            rows.append({"step": int(row.pop("step")), **row})
        except (ValueError, TypeError, AttributeError, KeyError):
            if number < len(lines):
                raise RunError(f"{log}, line {number}: no JSON of numbers; repeat the run with --force") from None
    width = -(-len(rows) // POINTS) or 1
    points = []
    for start in range(0, len(rows), width):
        part = rows[start : start + width]
        for name in dict.fromkeys(key for row in part for key in row if key != "step"):
            values = [row[name] for row in part if name in row]
            points.append({"step": int(part[len(part) // 2]["step"]), "loss": name, "value": sum(values) / len(values)})
    return points


def inlined(file: Path) -> str:
    """A picture as a ``data:`` address, reduced to :data:`WIDE` pixels.

    Raises:
        BadFile: it is no picture.
    """
    picture, buffer = colour_picture(file), io.BytesIO()
    if picture.width > 2 * WIDE or picture.height > WEBP_MAX:
        picture.thumbnail((2 * WIDE, 2 * WIDE))
    picture.save(buffer, "WEBP", quality=82)
    return _address("image/webp", buffer.getvalue())


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def films_in(folder: Path, report: Report) -> None:
    """Put the films of a folder into a report; those that are too large are named among the facts."""
    kinds = {".mp4": "video/mp4", ".gif": "image/gif"}
    for file in sorted(path for path in folder.iterdir() if path.suffix in kinds and path.is_file()):
        if file.stat().st_size > LARGEST_FILM:
            size = f"{file.stat().st_size / 1e6:.0f} MB, too large for this page; it lies in the folder"
            report.facts.setdefault("Films", {})[file.name] = size
        else:
            report.films.append((file.name, _address(kinds[file.suffix], file.read_bytes())))


def class_part(
    report: Report, names: Sequence[str], before: Mapping[str, float], after: Mapping[str, float], unit: str
) -> None:
    """The table and chart of classes, ``before`` and ``after`` in percent; either may lack a class, or all."""

    def text(value: float | None, form: str = ".1f") -> str:
        return "–" if value is None else f"{value:{form}}"

    shown = [name for name in names if name in before or name in after]
    report.heads = (
        "Class",
        *(("Before",) if before else ()),
        "After" if before else unit,
        *(("Change",) if before else ()),
    )
    for name in shown:
        a, b = before.get(name), after.get(name)
        change = b - a if a is not None and b is not None else None
        report.rows.append(
            (name, *((text(a),) if before else ()), text(b), *((text(change, "+.1f"),) if before else ()))
        )
    points = [{"class": name, "before": before.get(name), "after": after.get(name)} for name in shown]
    if points:
        report.charts[f"{unit} per class"] = charts.before_after(points, shown, unit)
