"""``leaderboards/overview.md``: every method on every reported shift in one picture and one table, and a list of all pages.

Who reads one board sees one order of methods. Here the orders stand side by side, recorded drives first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.text import plain, table
from bench.runs.config import Shift, load_shift
from bench.shifts.protocol import Data

from .atlas import PREFIX
from .atlas_words import short
from .generated import MADE, Drawing, Page
from .ranking import Family
from .standings import ORDER, Group
from .statistics import ALIKE, mean_interval, paired_difference, spread
from .tables import families_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "overview.md"
HEAD = "# Overview: "
OURS = f"{MADE}leaderboard`"
"""What those of this command say: which of them there are is known without looking."""
LEFT = ("method", "setting", "page", "kind")
Results = Mapping[str, Sequence[Group]]
"""Rows of the results (:func:`.standings.ranked`) by shift."""


def pages(root: Path, results: Results, streams: Results, others: Sequence[Page]) -> list[Page]:
    """The page, if there are two shifts to lay side by side.

    Args:
        others: the generated pages that it lists; those that other commands made are found in ``root``.
    """
    results, streams = _with_rows(results), _with_rows(streams)
    if len(results) < 2:
        return []
    drawing = _drawing(root, results)
    parts = [
        f"{HEAD}every method on every shift",
        "Made by `bench leaderboard` from the records of all shifts; do not edit. Numbers of different columns do not compare, the "
        "orders of methods do. Recorded drives stand first, then rendered worlds, then the atlas: one cause moves in each.",
        "## Gain over source-only",
        f"![{plain(drawing.caption)}]({drawing.path.relative_to(root).as_posix()})",
        "## Scores",
        "mIoU in percent, mean ± 95 % t-interval over replicates (the mean alone for one). Bold: the best of its setting on the "
        f"shift; {ALIKE}: not told apart from it (paired t-tests over replicates, of recorded drives also over blocks of the "
        "drive, all pairs of the setting, Holm-corrected, 0.05), as many are where replicates are few or scatter. "
        "Empty: nobody has run it, or the shift has no source data.",
        score_table(results),
    ]
    if streams:
        parts += [
            "## Scores where the target comes once",
            "The same of the streaming boards (`bench run --protocol stream`): each clip is predicted, then adapted to.",
            score_table(streams),
        ]
    parts += ["## Pages", page_table(root, others)]
    return [Page(root / NAME, "\n\n".join(parts) + "\n", (drawing,))]


def _with_rows(results: Results) -> dict[str, Sequence[Group]]:
    """The shifts with a row, in the order of the columns."""
    return {name: results[name] for name in sorted(results, key=lambda name: place(load_shift(name))) if results[name]}


def place(shift: Shift) -> tuple[bool, bool, str]:
    """Sorts shifts as they are shown: recorded drives, rendered worlds, the atlas."""
    return isinstance(shift.data, Data), shift.name.startswith(PREFIX), shift.name


def rows_of(results: Results) -> list[dict[str, Group]]:
    """A row of the table: a method's results by shift; by setting, the best on the first shift that the setting has first."""
    by_name: dict[str, dict[str, Group]] = {}
    for shift, groups in results.items():
        for group in groups:
            by_name.setdefault(group.name, {})[shift] = group
    shifts = list(results)

    def row_place(row: dict[str, Group]) -> tuple[int, int, float, str]:
        shift, group = next(iter(row.items()))
        mean = mean_interval(list(group.miou.values()))[0]
        return ORDER[::-1].index(group.card.setting), shifts.index(shift), -mean, group.name

    return sorted(by_name.values(), key=row_place)


def score_table(results: Results) -> str:
    """mIoU of every method on every shift; bold the best of a setting, marked those that are not told apart from it."""
    families = {shift: families_of(groups) for shift, groups in results.items()}
    lines = []
    for row in rows_of(results):
        first = next(iter(row.values()))
        cells = {"method": plain(first.title), "setting": first.card.setting}
        for shift in results:
            family = families[shift].get(first.card.setting)
            cells[_column(shift)] = _cell(row[shift], family) if shift in row else ""
        lines.append(cells)
    return table(lines, LEFT)


def _cell(group: Group, family: Family | None) -> str:
    text = spread(group.miou.values())
    if family is None:
        return text
    best = family.names[0]
    if group.name == best:
        return f"**{text}**"
    return text if family.told_apart(best, group.name) else f"{text} {ALIKE}"


def _column(shift: str) -> str:
    return f"atlas: {short(shift)}" if shift.startswith(PREFIX) else shift


def page_table(root: Path, others: Sequence[Page]) -> str:
    """Every generated page, what it is and its title."""
    texts = {page.path.name: page.text for page in others}
    for path in sorted(root.glob("*.md")):
        if path.name != NAME and path.name not in texts:
            text = path.read_text(encoding="utf-8", errors="replace")
            if text.startswith("# ") and MADE in text and OURS not in text:  # ours that is not expected is removed
                texts[path.name] = text
    lines = []
    for name, text in sorted(texts.items()):
        kind, colon, title = text.partition("\n")[0].removeprefix("# ").partition(": ")
        lines.append(
            {"page": f"[{name.removesuffix('.md')}]({name})", "kind": kind if colon else "", "title": title or kind}
        )
    return table(sorted(lines, key=lambda line: (line["kind"] == "", line["kind"], line["page"])), (*LEFT, "title"))


def _drawing(root: Path, results: Results) -> Drawing:
    """The heat map of gains."""
    gains: dict[str, list[float | None]] = {}
    for row in rows_of(results):
        first = next(iter(row.values()))
        if first.card.setting in ("SFDA", "UDA"):
            title = f"{first.title} (UDA)" if first.card.setting == "UDA" else first.title
            gains[title] = [_gain(row.get(shift), groups) for shift, groups in results.items()]
    title, columns = "Gain over source-only, by shift", [_column(shift) for shift in results]

    def draw() -> Figure:
        from .atlas_figures import gain_figure

        return gain_figure(gains, columns, title)

    caption = "Gain of every method over source-only, mIoU points, by shift"
    return Drawing(caption, root / "figures" / "overview.png", [title, columns, list(gains.items())], draw)


def _gain(group: Group | None, groups: Sequence[Group]) -> float | None:
    floor = next((other.miou for other in groups if other.name == "source_only"), {})
    gain = paired_difference(group.miou, floor) if group else None
    return gain.difference if gain else None
