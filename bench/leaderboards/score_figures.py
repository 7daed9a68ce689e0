"""Figures of scores: methods with their replicates, and gains per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from bench.pictures.canvas import DESIGN_MARKERS, DESIGN_NAMES, SETTING_COLOURS, SETTING_NAMES, mark, new_figure, plain
from bench.runs.records import Record

from .first_page import apart
from .statistics import mean_interval

GAIN, LOSS = "#2a6fbb", "#c8641f"


@dataclass(frozen=True)
class Entry:
    """A method in a figure: its title, setting, design, and mIoU in percent by seed."""

    title: str
    setting: str
    design: str
    miou: Mapping[int, float]


def miou_figure(entries: Sequence[Entry], title: str) -> Figure:
    """mIoU of each method, best at the top as given: mean and 95 % t-interval, and every replicate as a small dot.

    Colour is the setting, the mark is the design.

    Raises:
        ValueError: no entries.
    """
    return _rows(entries, title, "mIoU, %", "")


def difference_figure(entries: Sequence[Entry], title: str) -> Figure:
    """The same of mIoU points over a floor, paired by replicate: what worlds and source models have in common is gone.

    A method that falls far below all others (Tukey's outer fence, three quartile ranges) is an arrow at the axis's end, so that
    the others can be told apart.

    Args:
        entries: with the difference of each replicate instead of its mIoU.

    Raises:
        ValueError: no entries.
    """
    figure = _rows(entries, title, "mIoU points over source-only, paired by replicate", "+")
    axes, means = figure.axes[0], [mean_interval(list(entry.miou.values())) for entry in entries]
    first, third = np.quantile([mean for mean, _ in means], [0.25, 0.75])
    near = [mean >= first - 3 * (third - first) for mean, _ in means]
    shown = [
        x
        for (mean, half), entry, inside in zip(means, entries, near, strict=True)
        if inside
        for x in (mean - (half or 0), mean + (half or 0), *entry.miou.values())
    ]
    low, high = min(0.0, *shown), max(0.0, *shown)
    room = 0.04 * (high - low or 1)
    axes.set_xlim(low - room, high + room)
    axes.axvline(0, color="#333333", linewidth=1, zorder=1)
    for row, (entry, inside) in enumerate(zip(entries, near, strict=True)):
        if not inside:
            axes.plot(low - 0.5 * room, row, "<", color=SETTING_COLOURS[entry.setting], markersize=9, zorder=4)
    return figure


def _rows(entries: Sequence[Entry], title: str, label: str, sign: str) -> Figure:
    """A row for each entry."""
    if not entries:
        raise ValueError("a figure of methods needs at least one entry, got none")
    figure = new_figure(8.0, 1.9 + 0.42 * len(entries))
    axes = figure.add_subplot()
    for row, entry in enumerate(entries):
        values = [entry.miou[seed] for seed in sorted(entry.miou)]
        mean, half = mean_interval(values)
        colour = SETTING_COLOURS[entry.setting]
        axes.plot(values, [row + 0.3] * len(values), ".", color=colour, alpha=0.5, markersize=7, zorder=2)
        axes.errorbar(
            mean, row, xerr=half, color=colour, fmt=DESIGN_MARKERS[entry.design], markersize=8, capsize=4,
            markeredgecolor="white", elinewidth=1.8, zorder=3,
        )  # fmt: skip
        text = f"{mean:{sign}.1f}" if half is None else f"{mean:{sign}.1f} ± {half:.1f}"
        axes.annotate(
            text.replace("-", "−"), (1.01, row), xycoords=axes.get_yaxis_transform(), va="center", color=colour,
            annotation_clip=False,
        )  # fmt: skip
    axes.set_yticks(range(len(entries)), [entry.title for entry in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.set_title(title, loc="left", fontsize=11)
    plain(axes)
    settings = [name for name in SETTING_COLOURS if any(entry.setting == name for entry in entries)]
    designs = [name for name in DESIGN_MARKERS if any(entry.design == name for entry in entries)]
    handles: list[Artist] = [Patch(color=SETTING_COLOURS[name], label=SETTING_NAMES[name]) for name in settings]
    handles += [mark(DESIGN_MARKERS[name], "#444444", DESIGN_NAMES[name]) for name in designs]
    handles.append(mark(".", "#999999", "one replicate"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9.5)
    return figure


def time_figure(entries: Sequence[tuple[Entry, float]], title: str) -> Figure:
    """mIoU against time per frame, of each method: mean with its 95 % t-interval, and its name.

    Args:
        entries: with the seconds that a frame takes.

    Raises:
        ValueError: no entries.
    """
    if not entries:
        raise ValueError("time_figure needs at least one entry, got none")
    figure = new_figure(8.0, 5.2)
    axes = figure.add_subplot()
    means = [mean_interval([entry.miou[seed] for seed in sorted(entry.miou)]) for entry, _ in entries]
    low, high = (pick(mean + side * (half or 0) for mean, half in means) for pick, side in ((min, -1), (max, 1)))
    room = 0.06 * (high - low or 1)
    order = sorted(range(len(entries)), key=lambda i: (means[i][0], entries[i][0].title))
    gap = 0.05 * (high - low + 2 * room)
    places = apart([means[i][0] for i in order], gap)
    heights = dict(zip(order, places, strict=True))
    for number, ((entry, seconds), (mean, half)) in enumerate(zip(entries, means, strict=True)):
        colour = SETTING_COLOURS[entry.setting]
        axes.errorbar(
            seconds, mean, yerr=half, color=colour, fmt=DESIGN_MARKERS[entry.design], markersize=8, capsize=3,
            markeredgecolor="white", elinewidth=1.4, zorder=3,
        )  # fmt: skip
        axes.annotate(
            f"{entry.title} {mean:.1f}", (seconds, mean), (1.02, heights[number]), textcoords=axes.get_yaxis_transform(),
            va="center", fontsize=9, color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.4, "relpos": (0, 0.5)},
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(
        min([low - room, *places - gap]), max([high + room, *places + gap])
    )  # labels may spread beyond the marks
    axes.set_xlabel("seconds per frame: read, predict, adapt")
    axes.set_ylabel("online mIoU, %")
    axes.set_title(title, loc="left", fontsize=11)
    plain(axes)
    designs = [name for name in DESIGN_MARKERS if any(entry.design == name for entry, _ in entries)]
    settings = [name for name in SETTING_COLOURS if any(entry.setting == name for entry, _ in entries)]
    handles: list[Artist] = [Patch(color=SETTING_COLOURS[name], label=SETTING_NAMES[name]) for name in settings]
    handles += [mark(DESIGN_MARKERS[name], "#444444", DESIGN_NAMES[name]) for name in designs]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9.5)
    return figure


def class_gains(
    ours: Mapping[int, Record], floor: Mapping[int, Record], classes: Sequence[str]
) -> dict[str, list[float]]:
    """Paired differences in IoU points by class, over the seeds that both have and where the class occurs."""
    pairs = [(ours[seed].result.iou, floor[seed].result.iou) for seed in sorted(ours.keys() & floor.keys())]
    iou_pairs = {name: [(a.get(name), b.get(name)) for a, b in pairs] for name in classes}
    return {name: [a - b for a, b in values if a is not None and b is not None] for name, values in iou_pairs.items()}


def gains_figure(gains: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Gain per class in IoU points: mean, 95 % t-interval, and every replicate as a dot.

    Args:
        gains: from :func:`class_gains`, shown in its order; a class without a value is left blank.
    """
    figure = new_figure(8.0, 1.2 + 0.29 * len(gains))
    axes = figure.add_subplot()
    for row, values in enumerate(gains.values()):
        if not len(values):
            continue
        mean, half = mean_interval(values)
        axes.barh(row, mean, height=0.62, color=GAIN if mean >= 0 else LOSS, alpha=0.55, zorder=2)
        axes.plot(values, row + _spread(len(values)), ".", color="#333333", alpha=0.6, markersize=5, zorder=3)
        if half is not None:
            axes.errorbar(mean, row, xerr=half, fmt="none", color="#333333", capsize=3, elinewidth=1.2, zorder=3)
        axes.annotate(
            f"{mean:+.1f}", (1.01, row), xycoords=axes.get_yaxis_transform(), va="center", annotation_clip=False
        )
    axes.axvline(0, color="#333333", linewidth=1)
    axes.set_yticks(range(len(gains)), list(gains))
    axes.set_ylim(len(gains) - 0.4, -0.6)
    axes.set_xlabel("difference in IoU, points (dots: replicates; whiskers: 95 % interval)")
    axes.set_title(title, loc="left", fontsize=11)
    plain(axes)
    return figure


def _spread(n: int) -> npt.NDArray[np.float64]:
    """Small vertical offsets, so that equal values stay apart."""
    return np.linspace(-0.16, 0.16, n) if n > 1 else np.zeros(n)
