"""What a leaderboard's page shows, from the functions that make its markdown: rows with texts and numbers, groups, downloads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.leaderboards.cost import largest, median_cost, memory_of, of_processors
from bench.leaderboards.published_page import rows_of, title_of
from bench.leaderboards.ranking import Family
from bench.leaderboards.standings import Group, grouped, ranked
from bench.leaderboards.statistics import NOTHING, Paired, difference, mean_interval, p_value, spread
from bench.leaderboards.tables import Line, families_of, lines_of, place_text
from bench.runs.records import Record
from bench.runs.sequences import Counts


@dataclass(frozen=True)
class Column:
    """A column of a table: its key, what it is called, what it means, and whether it is shown at first, and on a small screen."""

    key: str
    title: str
    about: str = ""
    shown: bool = True
    small: bool = True
    published: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the number or text that it is sorted by, and where a mean stands with its interval."""

    text: str
    sort: float | str
    link: str = ""
    bar: tuple[float, float, float] | None = None


COLUMNS = (
    Column("method", "Method"),
    Column("setting", "Setting", "what a method may see while it adapts", small=False),
    Column("design", "Design", "image: each frame by itself; video: frames over time", small=False),
    Column("year", "Year", "of the paper", shown=False),
    Column("n", "n", "replicates", small=False),
    Column("miou", "mIoU, %", "mean ± 95 % t-interval over replicates"),
    Column("gain", "Gain", "mIoU points over source-only, paired by replicate"),
    Column("gap", "Gap, %", "share of the way from source-only to the oracle that is closed", shown=False),
    Column(
        "consistency",
        "Temporal, %",
        "IoU of the previous prediction, carried along the flow, with the current one",
        small=False,
    ),
    Column("accuracy", "Pixel accuracy, %", "share of labelled pixels that are right", shown=False),
    Column("place", "Place", "best and worst place within the setting that the method may hold", small=False),
    Column("group", "Group", "methods of a setting that share a letter cannot be told apart"),
    Column("cpu", "CPU s/step", "median CPU time of a step of adaptation", small=False),
    Column("slowness", "Step, ×", "relative to self-training's", shown=False),
    Column("memory", "Memory, MB", "largest peak of the process", shown=False),
    Column("published", "mIoU, %", "as published; other data, networks and selection", published=True),
    Column("source", "Source", "where the published number stands", shown=False, published=True),
)
"""Of the main table, in its order."""
LAST = -1e9
"""What a cell without a number is sorted by: below every number, as a number, or a column of them would be sorted as text."""


def mean_or_none(values: Mapping[int, float]) -> float | None:
    """Mean over replicates."""
    return mean_interval(list(values.values()))[0] if values else None


def scale_of(lines: Sequence[Line]) -> tuple[float, float]:
    """Whole tens around all intervals of mIoU: the ends of the bars."""
    spans = [ends_of(line.group) for line in lines]
    low, high = min(low for _, low, _ in spans), max(high for _, _, high in spans)
    return 10 * (low // 10), 10 * (-(-high // 10))


def ends_of(group: Group) -> tuple[float, float, float]:
    """Mean mIoU and the ends of its interval, both the mean for one replicate."""
    mean, half = mean_interval(list(group.miou.values()))
    return mean, mean - (half or 0), mean + (half or 0)


def table_rows(lines: Sequence[Line]) -> list[dict[str, Cell]]:
    """A row per method; texts as in the markdown table."""
    low, high = scale_of(lines)

    def share(value: float) -> float:
        return 100 * min(1.0, max(0.0, (value - low) / ((high - low) or 1)))

    rows = []
    for line, timed in zip(lines, of_processors([line.group for line in lines]), strict=True):
        group, card, published = line.group, line.group.card, line.published
        mean, low_end, high_end = ends_of(group)
        memory = timed.of(memory_of)
        accuracy = group.of(lambda record: record.result.pixel_accuracy)
        row = {
            "method": Cell(group.title, group.title.lower(), f"methods/{card.key}.html"),
            "setting": Cell(card.setting, card.setting),
            "design": Cell(card.design.replace("-", NOTHING), card.design),
            "year": Cell(str(card.year or NOTHING), card.year or LAST),
            "n": Cell(str(len(group.records)), len(group.records)),
            "miou": Cell(spread(group.miou.values()), mean, bar=(share(low_end), share(mean), share(high_end))),
            "gain": Cell(difference(line.gain, 1), line.gain.difference if line.gain else LAST),
            "gap": _mean_cell(line.gap_closed, 0),
            "consistency": _mean_cell(line.consistency),
            "accuracy": _mean_cell(accuracy),
            "place": Cell(place_text(line.places), line.places[0] if line.places else -LAST),
            "group": Cell(line.letters or NOTHING, line.letters or "~"),
            "cpu": Cell(median_cost(group), float(median_cost(group)) if line.cpu else LAST),
            "slowness": Cell(NOTHING if line.slowness is None else f"{line.slowness:.2f}", line.slowness or LAST),
            "memory": Cell(largest(memory), max(memory.values(), default=LAST)),
            "published": Cell(f"{published.miou:.1f}" if published else NOTHING, published.miou if published else LAST),
            "source": Cell(published.source if published else NOTHING, published.source if published else ""),
        }  # fmt: skip
        rows.append(row)
    return rows


def lead(lines: Sequence[Line], most: int = 3) -> str:
    """The methods with the highest mean mIoU in a few words, source-free ones where there are some; the floor and ceiling last."""
    free = [line.group for line in lines if line.group.card.setting == "SFDA"]
    uda = [line.group for line in lines if line.group.card.setting == "UDA"]
    ends = [line.group for line in lines if line.group.card.setting in ("none", "oracle")]
    best = sorted(free or uda, key=lambda group: -ends_of(group)[0])[:most]
    return ", ".join(f"{group.title} {ends_of(group)[0]:.1f}" for group in (*best, *ends))


def _mean_cell(values: Mapping[int, float], digits: int = 1) -> Cell:
    mean = mean_or_none(values)
    return Cell(spread(values.values(), digits), LAST if mean is None else mean)


def alike(family: Family, titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """The groups of a setting that cannot be told apart: their letters in the table, and the methods, best first."""
    letters = sorted({letter for text in family.letters.values() for letter in text.split()}, key=lambda x: (len(x), x))
    return [(x, ", ".join(titles[name] for name in group)) for x, group in zip(letters, family.groups, strict=True)]


# Downloads ------------------------------------------------------------------------------------------------------------


def as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The table with all digits; measured and published apart."""
    rows = []
    for line in lines:
        group, card, published = line.group, line.group.card, line.published
        mean, half = mean_interval(list(group.miou.values()))
        measured = {
            "replicates": len(group.records),
            "miou": {"mean": mean, "half_width_95": half, "by_seed": group.miou},
            "gain_over_source_only": _paired(line.gain),
            "gap_closed_percent": mean_or_none(line.gap_closed),
            "temporal_consistency": mean_or_none(line.consistency),
            "iou": {name: mean_or_none(group.iou(name)) for name in next(iter(group.records.values())).result.iou},
            "place": line.places,
            "group": line.letters or None,
            "cpu_seconds_per_step": line.cpu,
            "runs": sorted(record.run for record in group.records.values()),
        }
        published_row = (
            {"miou": published.miou, "shift": published.shift, "source": published.source} if published else None
        )
        facts = {
            "method": card.key,
            "title": group.title,
            "options": list(group.altered),
            "setting": card.setting,
            "design": card.design,
            "year": card.year,
        }
        rows.append({**facts, "measured": measured, "published": published_row})
    return rows


def _paired(paired: Paired | None) -> dict[str, Any] | None:
    if paired is None:
        return None
    return {"difference": paired.difference, "half_width_95": paired.half, "pairs": paired.n, "p": paired.p}


def csv_rows(lines: Sequence[Line], classes: Iterable[str]) -> list[dict[str, Any]]:
    """The table as flat numbers; the columns of published ones say so."""
    names, rows = list(classes), []
    for facts in as_json(lines):
        measured, published = facts.pop("measured"), facts.pop("published") or {}
        row = {
            **facts,
            "options": " ".join(facts["options"]),
            "replicates": measured["replicates"],
            "miou": measured["miou"]["mean"],
            "miou_half_width_95": measured["miou"]["half_width_95"],
            "gain": (measured["gain_over_source_only"] or {}).get("difference"),
            "gap_closed_percent": measured["gap_closed_percent"],
            "temporal_consistency": measured["temporal_consistency"],
            "group": measured["group"],
            **{f"iou/{name}": measured["iou"].get(name) for name in names},
            "PUBLISHED_miou": published.get("miou"),
            "PUBLISHED_source": published.get("source"),
        }
        rows.append(row)
    return rows


# Plots ----------------------------------------------------------------------------------------------------------------


def score_points(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Mean, interval and cost of each method, for the plots; ``low`` and ``high`` equal the mean for one replicate."""
    points = []
    for line in lines:
        mean, low, high = ends_of(line.group)
        card, n = line.group.card, len(line.group.records)
        point = {
            "method": line.group.title, "setting": card.setting, "design": card.design, "miou": mean, "low": low,
            "high": high, "text": spread(line.group.miou.values()), "replicates": n,
            "cpu": float(median_cost(line.group)) if line.cpu else None,
        }  # fmt: skip
        points.append(point)
    return points


def published_points(shift: str) -> list[dict[str, Any]]:
    """Published numbers of a real shift; none of them was measured here."""
    return [
        {
            "method": title_of(row.method), "setting": row.setting, "design": row.design, "miou": row.miou,
            "low": row.miou, "high": row.miou, "text": f"{row.miou:.1f}", "source": row.source,
        }
        for row in rows_of(shift)
    ]  # fmt: skip


def class_points(groups: Sequence[Group], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Mean IoU of each method and class; classes that do not occur are left out."""
    return [
        {"method": group.title, "class": name, "iou": mean, "setting": group.card.setting}
        for group in groups
        for name in classes
        if (mean := mean_or_none(group.iou(name))) is not None
    ]


def pair_points(family: Family, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Row minus column for every pair of a setting."""
    return [
        {
            "row": titles[a], "column": titles[b], "difference": pair.difference, "text": difference(pair),
            "p": p_value(family.corrected[a, b]), "apart": family.told_apart(a, b), "pairs": pair.n,
        }
        for (a, b), pair in family.differences.items()
    ]  # fmt: skip


@dataclass(frozen=True)
class Board:
    """The measured methods of a shift: groups, lines, families, titles by name."""

    groups: list[Group]
    lines: list[Line]
    families: dict[str, Family]
    titles: dict[str, str]


def board_of(
    records: Iterable[Record], real: str, sequences: Mapping[str, Mapping[str, Counts]] | None = None
) -> Board:
    """A board of committed records.

    Args:
        real: shift whose published numbers stand beside.
        sequences: by run, pixels per target sequence; of a drive no two methods are told apart without.
    """
    groups = ranked(grouped(records, sequences))
    titles = {group.name: group.title for group in groups}
    return Board(groups, lines_of(groups, real), families_of(groups), titles)
