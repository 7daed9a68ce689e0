"""Figures of the atlas: gains by method and shift, and the critical-difference diagram of mean ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from bench.core.errors import UsageError
from bench.pictures.canvas import heat_map, new_figure

from .ranking import ALPHA

BAR = "#2a6fbb"


def gain_figure(gains: Mapping[str, Sequence[float | None]], shifts: Sequence[str], title: str) -> Figure:
    """Heat map of gains in mIoU points: a row per method, a column per shift; None is left blank.

    Args:
        gains: by title of the method, the first at the top.
    """
    values = np.array([[np.nan if x is None else x for x in row] for row in gains.values()], np.float64)
    limit = max(1.0, 1.2 * float(np.nanmax(np.abs(values), initial=0.0)))  # the darkest colours hide the numbers
    figure = new_figure(3.4 + 0.8 * len(shifts), 1.9 + 0.31 * len(gains))
    axes = figure.add_subplot()
    axes.set_facecolor("#eeeeee")  # a cell that nobody has run
    image = heat_map(axes, values, list(gains), shifts, "+.1f", (-limit, limit), "RdBu", 9.0)
    axes.set_title(title, loc="left", fontsize=11)
    for side in axes.spines.values():
        side.set_visible(False)
    figure.colorbar(image, ax=axes, label="mIoU points over source-only", pad=0.02)
    return figure


def rank_figure(scores: npt.NDArray[np.float64], titles: Sequence[str], critical: float, title: str) -> Figure:
    """Critical-difference diagram (Demšar 2006): mean ranks, and a bar over methods of which no two are told apart.

    Args:
        scores: mean mIoU ``(shifts, methods)``.
        critical: the critical difference, drawn to scale.

    Raises:
        UsageError: scikit-posthocs is not there; says how to install it.
    """
    try:
        from scikit_posthocs import critical_difference_diagram, posthoc_nemenyi_friedman
    except ImportError:
        raise UsageError("The figure of ranks needs scikit-posthocs: pip install 'stpl-benchmark[site]'") from None
    from pandas import DataFrame, Series

    from .rank_tests import ranks_of
    from .statistics import DIGITS

    means = Series(ranks_of(scores).mean(0), index=list(titles))
    tested = posthoc_nemenyi_friedman(DataFrame(np.round(scores, DIGITS), columns=list(titles)))
    figure = new_figure(8.4, 1.6 + 0.2 * len(titles))
    axes = figure.add_subplot()
    drawn = critical_difference_diagram(
        means, tested, alpha=ALPHA, ax=axes, label_fmt_left="{label}  {rank:.2f} ", label_fmt_right=" {rank:.2f}  {label}",
        label_props={"fontsize": 9.5}, crossbar_props={"color": BAR, "linewidth": 2.6},
        elbow_props={"color": "#888888", "linewidth": 0.9}, marker_props={"color": "#444444", "s": 22},
    )  # fmt: skip
    for line in (line for lines in drawn["crossbars"] for line in lines):
        x, y = line.get_data()
        line.set_data([min(x), max(x)], y[:2])  # its points stand in the order of a set, another in every process
    for label in drawn["labels"]:
        label.set_color("#222222")  # not the elbows' grey
    axes.set_xticks(range(1, len(titles) + 1))
    axes.set_xlim(0.9, len(titles) + 0.1)
    # To scale and above the ticks, which the library's own bar would cross.
    axes.plot([1, 1 + critical], [1.7, 1.7], color="#444444", linewidth=1.2, marker="|", markersize=7)
    text = f" critical difference {critical:.2f}"
    axes.annotate(text, (1 + critical, 1.7), va="center", fontsize=9, color="#444444")
    axes.set_title(title, loc="left", fontsize=11)
    return figure
