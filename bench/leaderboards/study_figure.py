"""Figures of studies: two options crossed, a numeric axis, or rows. Means, 95 % t-intervals and every replicate as a dot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation, Transform

from bench.pictures.canvas import new_figure

from .generated import Drawing
from .statistics import mean_interval
from .study_page import Report

COLOURS = ("#2a6fbb", "#c8641f", "#2e8b57", "#7a4fa3", "#a3863c", "#6b6b6b")
MARKERS = ("o", "s", "D", "^", "v", "P")
BAND = 4
"""Replicates from which on a line has a band; a band of fewer would hide what it is made of, and whiskers do not."""
Scores = Mapping[int, float]
"""mIoU in percent by seed."""


def study_drawing(report: Report, root: Path) -> Drawing:
    """The figure of a study's page, under ``root/figures``."""
    rows = [[row.label, row.values, row.group.miou] for row in report.rows]
    data = [report.title, report.factors.as_data(), report.words, rows]
    path = root / "figures" / f"{report.stem}.png"
    return Drawing(f"{report.title}: mIoU by row", path, data, lambda: study_figure(report))


def study_figure(report: Report) -> Figure:
    """The figure that fits what varies in a study."""
    factors, rows = report.factors, report.rows
    if factors.axis is not None:
        remaining = [factor for factor in factors.varying if factor != factors.axis]
        lines: dict[str, dict[float, Scores]] = {}
        for row in rows:
            line = report.named(remaining[0], row.values[remaining[0].name]) if remaining else ""
            lines.setdefault(line, {})[float(row.values[factors.axis.name])] = row.group.miou
        return line_figure(lines, factors.axis.name, report.title)
    if factors.crossed:
        across, series = factors.crossed
        places = [tuple(report.named(f, row.values[f.name]) for f in (across, series)) for row in rows]
        cells = {(x.removeprefix(f"{across.name}="), y): r.group.miou for (x, y), r in zip(places, rows, strict=True)}
        return grouped_figure(cells, across.name, report.title)
    return rows_figure({row.label: row.group.miou for row in rows}, rows[report.reference].label, report.title)


def grouped_figure(cells: Mapping[tuple[str, str], Scores], across: str, title: str) -> Figure:
    """A group per level of one option, a mark in it per level of the other.

    Args:
        cells: scores by level of one and of the other, as they are called, in the order in which they are drawn.
        across: name of the option that makes the groups.
    """
    groups, members = (list(dict.fromkeys(key[side] for key in cells)) for side in (0, 1))
    figure = new_figure(max(7.0, 1.25 * len(groups) + 1.2), 4.6)
    axes = figure.add_subplot()
    width = 0.66 / len(members)
    for j, member in enumerate(members):
        for i, group in enumerate(groups):
            if scores := cells.get((group, member)):
                x = i + (j - (len(members) - 1) / 2) * width
                _point(axes, x, scores, j, member if i == 0 else None, along="y", spread=0.3 * width)
    axes.set_xticks(range(len(groups)), [group.replace("_", "\n") for group in groups])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_xlabel(across)
    axes.set_ylabel("mIoU, %")
    _finish(figure, axes, title, "y", legend=True)
    return figure


def line_figure(lines: Mapping[str, Mapping[float, Scores]], axis: str, title: str) -> Figure:
    """mIoU along a numeric option, a line per name; logarithmic where the values span more than a factor of ten.

    Args:
        lines: scores by value of the option, by name of the line ("" for one without a name).
    """
    figure = new_figure(7.4, 4.6)
    axes = figure.add_subplot()
    values = sorted({x for line in lines.values() for x in line})
    apart = 7 / 72 if len(lines) > 1 else 0.0  # inches: whiskers of the same value stand beside each other
    for j, (name, line) in enumerate(lines.items()):
        xs = sorted(x for x in line if line[x])
        stats = [mean_interval([line[x][seed] for seed in sorted(line[x])]) for x in xs]
        colour = COLOURS[j % len(COLOURS)]
        means = np.array([mean for mean, _ in stats])
        aside = ScaledTranslation((j - (len(lines) - 1) / 2) * apart, 0, figure.dpi_scale_trans)
        _moved(axes, axes.plot(xs, means, color=colour, linewidth=1.8, zorder=3), aside)
        halves = np.array([np.nan if half is None else half for _, half in stats])
        if min((len(line[x]) for x in xs), default=0) >= BAND:
            axes.fill_between(xs, means - halves, means + halves, color=colour, alpha=0.16, linewidth=0, zorder=1)
        for i, x in enumerate(xs):
            _point(axes, x, line[x], j, name if i == 0 and name else None, along="y", spread=0.0, aside=aside)
    if values[0] > 0 and values[-1] / values[0] > 10:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{x:g}" for x in values], minor=False)
    axes.minorticks_off()
    axes.set_xlabel(axis)
    axes.set_ylabel("mIoU, %")
    _finish(figure, axes, title, "y", legend=any(lines))
    return figure


def rows_figure(rows: Mapping[str, Scores], reference: str, title: str) -> Figure:
    """A line per row, the first at the top, and the reference's mean over all of them."""
    figure = new_figure(8.0, 1.6 + 0.42 * len(rows))
    axes = figure.add_subplot()
    for row, (label, scores) in enumerate(rows.items()):
        _point(axes, row, scores, 1 if label == reference else 0, None, along="x", spread=0.0)
        mean, half = mean_interval([scores[seed] for seed in sorted(scores)])
        text = f"{mean:.1f}" if half is None else f"{mean:.1f} ± {half:.1f}"
        anchor = (1.01, row)
        axes.annotate(
            text, anchor, xycoords=axes.get_yaxis_transform(), va="center", annotation_clip=False, fontsize=9.5
        )
    if reference in rows:
        mean = mean_interval([rows[reference][seed] for seed in sorted(rows[reference])])[0]
        axes.axvline(mean, color=COLOURS[1], linestyle="--", linewidth=1.1, zorder=1)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("mIoU, %")
    _finish(figure, axes, title, "x", legend=False)
    return figure


def _point(
    axes: Axes, at: float, scores: Scores, style: int, label: str | None, along: str, spread: float,
    aside: Transform | None = None,
) -> None:  # fmt: skip
    """Mean with its interval at a place, and a dot per replicate beside it.

    Args:
        along: axis of the scores.
        spread: of the dots, in units of the other axis.
        aside: moves all of it on the paper.
    """
    seeds: Sequence[Any] = sorted(scores)
    values = [scores[seed] for seed in seeds]
    mean, half = mean_interval(values)
    colour, marker = COLOURS[style % len(COLOURS)], MARKERS[style % len(MARKERS)]
    offsets = at + (np.linspace(-spread, spread, len(values)) if len(values) > 1 else np.zeros(1))
    dots = (offsets, values) if along == "y" else (values, offsets)
    drawn: list[Artist] = [*axes.plot(*dots, ".", color=colour, alpha=0.45, markersize=6, zorder=2)]
    point = (at, mean) if along == "y" else (mean, at)
    yerr, xerr = (half, None) if along == "y" else (None, half)
    bar = axes.errorbar(
        *point, yerr=yerr, xerr=xerr, color=colour, fmt=marker, markersize=7.5, capsize=3, markeredgecolor="white",
        elinewidth=1.5, label=label, zorder=4,
    )  # fmt: skip
    if aside is not None:
        _moved(axes, [*drawn, *bar.get_children()], aside)


def _moved(axes: Axes, artists: Sequence[Artist], aside: Transform) -> None:
    """Move what is drawn on the paper; afterwards, because the axes fit what has their own transform alone."""
    for artist in artists:
        artist.set_transform(axes.transData + aside)


def _finish(figure: Figure, axes: Axes, title: str, along: str, legend: bool) -> None:
    axes.set_title(title, loc="left", fontsize=11, pad=20)  # over the note, however narrow the axes are
    axes.grid(axis=along, color="#e4e4e4", zorder=0)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if legend and handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9.5)
    axes.annotate(
        "dots: replicates; whiskers: 95 % t-interval", (1, 1.0), xycoords="axes fraction", xytext=(0, 4),
        textcoords="offset points", ha="right", va="bottom", fontsize=8, color="#666666",
    )  # fmt: skip
