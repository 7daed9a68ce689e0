"""Figures of the analysis. Each takes kept numbers (``data``) and returns a matplotlib ``Figure``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.data.labels import PALETTE
from bench.leaderboards.statistics import mean_interval
from bench.pictures.canvas import Colour, heat_map, new_figure

from .data import Embedding, PseudoLabels
from .knn import HEADLINE

Matrix = npt.NDArray[np.floating]
REFERENCE = {"source_only": "#6b6b6b", "oracle": "#111111"}
COLOURS = ("#2a6fbb", "#c8641f", "#2e8b57", "#b3261e", "#7b4ab5", "#8a5a2b", "#d6559f", "#7d8a00", "#0e9aa7", "#c49a00")
DASHES = {"video": "-", "image": (0, (6, 2)), "-": (0, (1.5, 1.5))}
DESIGNS = "solid: video-based, dashed: image-based, dotted: reference"
MARKERS = {"video": "s", "image": "o", "-": "D"}


@dataclass(frozen=True)
class Series:
    """A method in a figure: its values by replicate, each a list (a curve, bins) or one number.

    Attributes:
        label: in the legend.
        method: key, which gives the colour of source_only and oracle.
        design: ``video``, ``image`` or ``-``.
        values: by seed.
    """

    label: str
    method: str
    design: str
    values: Mapping[int, Any]


def colours(series: Sequence[Series]) -> list[str]:
    """A colour for each: grey and black for source_only and oracle, the others in the order of their labels."""
    labels = sorted(s.label for s in series if s.method not in REFERENCE)
    return [REFERENCE.get(s.method) or COLOURS[labels.index(s.label) % len(COLOURS)] for s in series]


def _axes(figure: Figure, title: str, x: str, y: str, position: Any = 111) -> Axes:
    axes = figure.add_subplot(position)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#e2e2e2")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def _legend(figure: Figure, note: str, numbers: str, handle: float = 2.2) -> None:
    """Legend below, under a note on the marks and what the numbers behind the names are."""
    figure.legend(
        loc="outside lower center", frameon=False, fontsize=9, title=f"{note}\nNumbers: {numbers}.", title_fontsize=9,
        ncols=3, handlelength=handle, columnspacing=1.0, handletextpad=0.6,
    )  # fmt: skip


# Neighbours -----------------------------------------------------------------------------------------------------------


def knn_figure(series: Sequence[Series], title: str) -> Figure:
    """Same-class share over k: mean over replicates; at its last k each curve's name, with the 95 % interval there in the legend.

    Args:
        series: values are percentages for k = 1, 2, ....

    Raises:
        ValueError: no series.
    """
    if not series:
        raise ValueError("knn_figure needs at least one series, got none")
    figure = new_figure(8.0, 6.2)
    axes = _axes(figure, title, "k, nearest neighbours", "neighbours of the same class, %")
    ranked = sorted(zip(series, colours(series), strict=True), key=lambda pair: -_mean(pair[0])[-1])
    for method, colour in ranked:
        mean = _mean(method)
        k = np.arange(1, len(mean) + 1)
        last, half = mean_interval([method.values[seed][HEADLINE - 1] for seed in sorted(method.values)])
        text = f"{method.label}  {last:.1f}" + ("" if half is None else f" ± {half:.1f}")
        axes.plot(k, mean, color=colour, linestyle=DASHES[method.design], linewidth=1.9, label=text)
    axes.axvline(HEADLINE, color="#999999", linewidth=0.8)
    axes.set_xlim(1, len(_mean(series[0])))
    seeds = len({seed for method in series for seed in method.values})
    note = f"Lines: mean over {seeds} replicate{'s' if seeds > 1 else ''}; {DESIGNS}."
    _legend(figure, note, f"at k = {HEADLINE}, %, with the 95 % interval over replicates")
    return figure


def _mean(series: Series) -> npt.NDArray[np.float64]:
    return np.asarray(np.mean([series.values[seed] for seed in sorted(series.values)], axis=0))


def agreement_figure(series: Sequence[Series], title: str, x: str) -> Figure:
    """mIoU against same-class share: a mark per method, mean with 95 % intervals both ways, replicates as dots.

    Args:
        series: values are pairs (share in percent, mIoU in percent).
        x: what the share is.
    """
    figure = new_figure(8.0, 6.2)
    axes = _axes(figure, title, x, "mIoU, %")
    for method, colour in zip(series, colours(series), strict=True):
        pairs = np.array([method.values[seed] for seed in sorted(method.values)])
        (mx, hx), (my, hy) = (mean_interval(column.tolist()) for column in pairs.T)
        axes.plot(*pairs.T, ".", color=colour, alpha=0.45, markersize=6)
        axes.errorbar(
            mx, my, xerr=hx, yerr=hy, color=colour, fmt=MARKERS[method.design], markersize=7, elinewidth=0.9, capsize=2,
            markeredgecolor="white", label=f"{method.label}  {mx:.1f}, {my:.1f}",
        )  # fmt: skip
    note = "Marks: mean over replicates with 95 % intervals; dots: replicates. ■ video, ● image, ◆ reference."
    _legend(figure, note, "mean share and mean mIoU, %", 1.0)
    return figure


# Matrices -------------------------------------------------------------------------------------------------------------


def class_share_figure(shares: Mapping[str, Sequence[float | None]], classes: Sequence[str], title: str) -> Figure:
    """Heat map of the same-class share, percent: a row per method, a column per class.

    Args:
        shares: mean over replicates by method's label; None for a class that never occurs.
    """
    values = np.array([[np.nan if x is None else x for x in row] for row in shares.values()])
    figure = new_figure(8.0, 1.7 + 0.31 * len(shares))
    axes = figure.add_subplot()
    image = heat_map(axes, values, list(shares), classes, ".0f", (0, 100), "viridis", 8.5)
    axes.set_title(title, loc="left", fontsize=11)
    figure.colorbar(image, ax=axes, label="same class, %", pad=0.015)
    return figure


def separation_figure(ratios: Mapping[str, Matrix], classes: Sequence[str], title: str) -> Figure:
    """Heat maps of the distance between class centres over the spread within, one under the other.

    Args:
        ratios: by label, ``(K, K)``; only what lies below the diagonal is drawn.
    """
    figure = new_figure(8.0, 0.6 + 5.2 * len(ratios))
    figure.suptitle(title, fontsize=11)
    highest = max(float(np.nanmax(ratio)) for ratio in ratios.values())
    for number, (label, ratio) in enumerate(ratios.items()):
        axes = figure.add_subplot(len(ratios), 1, number + 1)
        lower = np.where(np.tri(len(classes), k=-1, dtype=bool), ratio, np.nan)
        image = heat_map(axes, lower, classes, classes, ".1f", (0, highest), "viridis")
        axes.set_title(label, loc="left", fontsize=10.5)
        figure.colorbar(image, ax=axes, label="centre distance / (spread + spread)", pad=0.015)
    return figure


def row_percent(confusion: npt.NDArray[np.integer]) -> Matrix:
    """Each true class's pixels by prediction, percent ``(K, K)``; NaN for a class that never occurs."""
    counts = np.asarray(confusion, np.float64)
    total = counts.sum(1, keepdims=True)
    return np.asarray(np.where(total > 0, 100 * counts / np.where(total > 0, total, 1), np.nan))


def confusion_figure(
    confusion: npt.NDArray[np.integer], floor: npt.NDArray[np.integer] | None, classes: Sequence[str], label: str
) -> Figure:
    """A confusion matrix by true class in percent, and under it the difference to source-only in points.

    Args:
        confusion: pixels ``(K, K)``, rows = truth, summed over replicates.
        floor: source-only's over the same replicates; None leaves the difference out.
    """
    title = f"{label}: prediction by true class, % of its pixels"
    panels = [(title, row_percent(confusion), ".0f", (0.0, 100.0), "Blues")]
    if floor is not None:
        change = row_percent(confusion) - row_percent(floor)
        limit = max(10.0, float(np.nanmax(np.abs(change))))
        panels.append((f"{label} minus source-only, points", change, "+.0f", (-limit, limit), "RdBu"))
    figure = new_figure(8.0, 5.2 * len(panels))
    for number, (title, values, form, limits, cmap) in enumerate(panels):
        axes = figure.add_subplot(len(panels), 1, number + 1)
        image = heat_map(axes, values, classes, classes, form, limits, cmap)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_ylabel("true class")
        axes.set_xlabel("predicted class")
        figure.colorbar(image, ax=axes, label="points" if number else "%", pad=0.015)
    return figure


# Maps, calibration, pseudo-labels -------------------------------------------------------------------------------------


MARKS = ("o", "s", "^", "D", "v", "P")
"""By turns for the dark colours, which would look alike."""


def class_marks(palette: Sequence[Colour]) -> list[str]:
    """A mark for each class: dots for light colours."""
    dark = [0.3 * red + 0.59 * green + 0.11 * blue < 75 for red, green, blue in palette]
    return [MARKS[sum(dark[:i]) % len(MARKS)] if dark[i] else "o" for i in range(len(palette))]


def embedding_figure(embedding: Embedding, title: str, palette: Sequence[Colour] = PALETTE) -> Figure:
    """The same pixels by model side by side, coloured by their true class; dark colours are told apart by their marks."""
    columns = min(2, len(embedding.points))
    rows = -(-len(embedding.points) // columns)
    figure = new_figure(8.0, 8.0 / columns * rows + 1.2)
    figure.suptitle(title, fontsize=11)
    labels, marks = np.array(embedding.labels), class_marks(palette)
    for number, (label, coordinates) in enumerate(embedding.points.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        points = np.array(coordinates)
        for i in np.unique(labels):
            x, y = points[labels == i].T
            axes.scatter(
                x, y, s=13, color=np.array(palette[i]) / 255, marker=marks[i], linewidths=0.25,
                edgecolors="#666666" if marks[i] == "o" else "white", label=embedding.classes[i] if not number else None,
            )  # fmt: skip
        axes.set_title(label, loc="left", fontsize=10.5)
        axes.set_box_aspect(1)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9.5, markerscale=1.8)
    return figure


def reliability_figure(series: Sequence[Series], errors: Mapping[str, float], title: str) -> Figure:
    """Accuracy against confidence by bin, pooled over replicates, beside the diagonal of perfect calibration; below, where the
    pixels are.

    Args:
        series: values are ``(3, B)``: pixels, mean confidence and accuracy in percent, NaN for empty bins.
        errors: expected calibration error in points by label, for the legend.
    """
    figure = new_figure(8.0, 7.4)
    cells = figure.add_gridspec(2, 1, height_ratios=(3, 1))
    axes = _axes(figure, title, "", "accuracy, %", cells[0])
    below = _axes(figure, "", "confidence, %", "pixels, %", cells[1])
    axes.plot([0, 100], [0, 100], color="#aaaaaa", linewidth=1)
    for method, colour in zip(series, colours(series), strict=True):
        count, confidence, accuracy = pooled_bins(list(method.values.values()))
        text = f"{method.label}  {errors[method.label]:.1f}"
        axes.plot(
            confidence, accuracy, color=colour, linestyle=DASHES[method.design], marker=".", linewidth=1.6, label=text
        )
        below.plot(confidence, 100 * count / count.sum(), color=colour, linestyle=DASHES[method.design], linewidth=1.4)
    below.set_yscale("log")
    for panel in (axes, below):
        panel.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    _legend(figure, f"Bins pooled over replicates; grey: perfect; {DESIGNS}.", "calibration error, points")
    return figure


def pooled_bins(replicates: Sequence[Any]) -> npt.NDArray[np.float64]:
    """Bins of several replicates as one: ``(3, B)`` with pixels summed and means weighted by them; NaN for empty bins."""
    bins = np.array(replicates, np.float64)  # replicates x 3 x B
    count = bins[:, 0].sum(0)
    sums = np.nansum(bins[:, :1] * bins[:, 1:], axis=0)
    return np.stack([count, *np.where(count > 0, sums / np.where(count > 0, count, 1), np.nan)])


def pseudo_label_figure(values: Sequence[PseudoLabels], threshold: float, title: str) -> Figure:
    """Coverage and accuracy over the steps: of the labels above a confidence (solid), and the accuracy of all (dotted)."""
    figure = new_figure(8.0, 4.6)
    left = _axes(figure, "coverage", "optimiser step", f"pixels with confidence ≥ {threshold:g}, %", 121)
    right = _axes(figure, "accuracy", "optimiser step", "right labels, %", 122)
    figure.suptitle(title, fontsize=11)
    series = [Series(f"{v.who.label}, seed {v.who.seed}", v.who.method, v.who.design, {}) for v in values]
    for quality, run, colour in zip(values, series, colours(series), strict=True):
        column = quality.thresholds.index(threshold)
        left.plot(quality.steps, [row[column] for row in quality.coverage], color=colour, marker="o", label=run.label)
        accuracy = np.array(quality.accuracy, float)  # None becomes NaN
        right.plot(quality.steps, accuracy[:, column], color=colour, marker="o")
        right.plot(quality.steps, accuracy[:, 0], color=colour, marker=".", linestyle=(0, (1.5, 1.5)))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    figure.legend(loc="outside lower center", frameon=False, fontsize=9.5, ncols=3)
    right.annotate(
        f"solid: confidence ≥ {threshold:g}\ndotted: all pixels",
        (0.97, 0.05),
        xycoords="axes fraction",
        ha="right",
        fontsize=9,
    )
    return figure
