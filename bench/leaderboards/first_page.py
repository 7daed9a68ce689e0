"""Figure of the paper's first page: mIoU against restriction, measured and published versions side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import isotonic_regression

from bench.pictures.canvas import DESIGN_MARKERS, DESIGN_NAMES, SETTING_COLOURS, new_figure

RESTRICTIONS = {"UDA": "UDA\nsource data kept", "SFDA": "source-free (SFDA)\ntrained model only"}
"""From the one that restricts less to the one that restricts more, as the axis says it."""
LINES = {"oracle": "oracle", "none": "source\nonly"}
"""Settings that are drawn as a line over all restrictions."""
WIDEST = 52
"""Letters of a title's line; two panels stand side by side."""
OVER_LINES = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
"""Behind a method's label, so that the dashed lines and the intervals of others do not cross it out."""


@dataclass(frozen=True)
class Mark:
    """A method: title, setting, design, mIoU in percent and half-width of its 95 % interval (None: one number)."""

    title: str
    setting: str
    design: str
    miou: float
    half: float | None = None


@dataclass(frozen=True)
class Panel:
    """One version of the comparison: where its numbers come from, in a title and a line under the axis, and its methods."""

    title: str
    source: str
    marks: Sequence[Mark]


def first_page_figure(panels: Sequence[Panel]) -> Figure:
    """One panel per version, each with its own axis: numbers of different versions do not compare.

    Raises:
        ValueError: no panel, or one without a method.
    """
    if not panels or not all(panel.marks for panel in panels):
        raise ValueError("first_page_figure needs at least one panel, and a method in each")
    figure = new_figure(5.2 * len(panels), 5.4)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        _panel(axes, panel)
    designs = [name for name in ("image", "video") if any(m.design == name for panel in panels for m in panel.marks)]
    handles = [
        Line2D([], [], marker=DESIGN_MARKERS[n], color="#444444", linestyle="none", markersize=8, label=DESIGN_NAMES[n])
        for n in designs
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    return figure


def _panel(axes: Axes, panel: Panel) -> None:
    lines = [mark for mark in panel.marks if mark.setting in LINES]
    low, high = (
        pick(mark.miou + side * (mark.half or 0) for mark in panel.marks) for pick, side in ((min, -1), (max, 1))
    )
    room = 0.06 * (high - low or 1)
    gap = 0.043 * (high - low + 2 * room)
    bottom, top = low - room, high + 1.4 * room
    for mark in lines:
        axes.axhline(mark.miou, color=SETTING_COLOURS[mark.setting], linestyle="--", linewidth=1.3, zorder=1)
        axes.annotate(
            f"{LINES[mark.setting]}\n{mark.miou:.1f}", (1.01, mark.miou), va="center",
            xycoords=axes.get_yaxis_transform(), fontsize=9, color=SETTING_COLOURS[mark.setting],
        )  # fmt: skip
    for column, setting in enumerate(RESTRICTIONS):
        marks = sorted((m for m in panel.marks if m.setting == setting), key=lambda m: (m.miou, m.title))
        heights = apart([mark.miou for mark in marks], gap)
        bottom, top = min([bottom, *heights - gap]), max([top, *heights + gap])  # labels may spread beyond the marks
        lanes = _lanes([mark.design for mark in marks])
        for mark, height, lane in zip(marks, heights, lanes, strict=True):
            x = column + lane
            colour = SETTING_COLOURS[setting]
            axes.errorbar(
                x, mark.miou, yerr=mark.half, color=colour, fmt=DESIGN_MARKERS[mark.design], markersize=8, capsize=3,
                markeredgecolor="white", elinewidth=1.4, zorder=3,
            )  # fmt: skip
            axes.plot([x, column - 0.05], [mark.miou, height], color=colour, linewidth=0.6, alpha=0.6, zorder=2)
            axes.annotate(
                f"{mark.title} {mark.miou:.1f}", (column - 0.04, height), va="center", fontsize=9, color=colour,
                bbox=OVER_LINES, zorder=4,
            )  # fmt: skip
    axes.set_xlim(-0.48, len(RESTRICTIONS) - 0.1)
    axes.set_ylim(bottom, top)
    axes.set_xticks([column - 0.1 for column in range(len(RESTRICTIONS))], list(RESTRICTIONS.values()))
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("mIoU, %")
    axes.set_xlabel(f"{panel.source}", fontsize=8.5, color="#555555", labelpad=8)
    axes.set_title(textwrap.fill(panel.title, WIDEST, break_on_hyphens=False), loc="left", fontsize=11)
    axes.grid(axis="y", color="#e4e4e4", zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def _lanes(designs: Sequence[str]) -> list[float]:
    """Horizontal places, image-based left and video-based right, neighbours of a design side by side so that none is hidden."""
    places = {"image": (-0.43, -0.37, -0.31), "video": (-0.22, -0.16, -0.1)}
    lanes = [places.get(design, (-0.25,) * 3) for design in designs]
    return [lane[designs[:i].count(design) % 3] for i, (design, lane) in enumerate(zip(designs, lanes, strict=True))]


def apart(values: Sequence[float], gap: float) -> npt.NDArray[np.float64]:
    """Places for labels of ascending values, at least ``gap`` apart and, in the sense of least squares, nearest to them."""
    steps: npt.NDArray[np.float64] = gap * np.arange(len(values), dtype=np.float64)
    return np.asarray(isotonic_regression(np.asarray(values) - steps).x + steps, np.float64) if len(values) else steps


def as_data(panels: Sequence[Panel]) -> list[Mapping[str, object]]:
    """What the figure shows, as JSON."""
    return [
        {
            "title": panel.title,
            "source": panel.source,
            "marks": [[m.title, m.setting, m.design, m.miou, m.half] for m in panel.marks],
        }
        for panel in panels
    ]
