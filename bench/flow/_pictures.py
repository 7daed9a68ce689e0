"""Pictures of flow: what was computed for some clips, and several backends beside the exact flow of one clip."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.plots import Image, flow_to_rgb, flow_wheel, show, tile_grid
from bench.preview import mark_invalid, warp_previous

from ._photometric import error_map

COLUMNS = ("frame t-1", "frame t", "flow t → t-1", "t-1 warped to t", "not valid (pink)", "|t - warped|")
TILE = 3.0
"""Width of a tile, inches."""
FULL_ERROR = 64.0
"""Grey levels at the bright end of an error map."""
FULL_EPE = 5.0
"""Pixels at the bright end of an end-point-error map."""

Row = tuple[str, NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]
"""Caption, frames ``(T, 3, H, W)``, flow ``(T-1, 2, H, W)`` and validity; the last pair is shown."""


def heat(values: NDArray[np.floating], full: float) -> Image:
    """Values ``(H, W)`` from 0 (dark) to ``full`` (bright) in colour."""
    colours = matplotlib.colormaps["magma"](np.clip(values / full, 0, 1))
    return np.asarray(np.round(255 * colours[..., :3]), np.uint8)


def flow_sheet(rows: Sequence[Row], title: str) -> Figure:
    """One row per clip: both frames, flow, t-1 warped to t, where the flow is not valid, and what the warp leaves over.

    Raises:
        ValueError: no rows.
    """
    figure, grid = _grid(rows, len(COLUMNS), title)
    for number, (axes, (caption, frames, flow, valid)) in enumerate(zip(grid, rows, strict=True)):
        columns = COLUMNS if number == 0 else ("",) * len(COLUMNS)
        previous, current = (np.ascontiguousarray(frames[k].transpose(1, 2, 0)) for k in (-2, -1))
        _name(axes[0], caption)
        show(axes[0], previous, columns[0], 11)
        show(axes[1], current, columns[1], 11)
        _flow_tile(axes[2], flow[-1], columns[2], None)
        show(axes[3], warp_previous(previous, flow[-1]), columns[3], 11)
        show(axes[4], mark_invalid(current, valid[-1]), columns[4], 11)
        _note(axes[4], f"{100 * (1 - valid[-1].mean()):.1f} %")
        _error_tile(axes[5], frames, flow[-1], valid[-1], columns[5])
    return figure


def comparison(exact: Row, rows: Sequence[Row], title: str) -> Figure:
    """The exact flow of a clip and several backends' below it: flow, warp, validity, and both kinds of error."""
    _, frames, truth, truly = exact
    captions = ("flow t → t-1", "t-1 warped to t", "not valid (pink)", "|t - warped|", "end-point error")
    figure, grid = _grid([exact, *rows], len(captions), title)
    length = np.hypot(*truth[-1])
    full = float(np.percentile(length, 95))
    previous, current = (np.ascontiguousarray(frames[k].transpose(1, 2, 0)) for k in (-2, -1))
    for number, (axes, (caption, _, flow, valid)) in enumerate(zip(grid, [exact, *rows], strict=True)):
        columns = captions if number == 0 else ("",) * len(captions)
        _name(axes[0], caption)
        _flow_tile(axes[0], flow[-1], columns[0], full)
        show(axes[1], warp_previous(previous, flow[-1]), columns[1], 11)
        show(axes[2], mark_invalid(current, valid[-1]), columns[2], 11)
        _note(axes[2], f"{100 * (1 - valid[-1].mean()):.1f} %")
        _error_tile(axes[3], frames, flow[-1], valid[-1], columns[3])
        epe = np.where(truly[-1], np.hypot(*(flow[-1] - truth[-1])), 0)
        show(axes[4], heat(epe, FULL_EPE), columns[4], 11)
        _note(axes[4], f"mean {epe[truly[-1]].mean():.2f} px, bright: {FULL_EPE:.0f} px")
    return figure


def _grid(rows: Sequence[Row], columns: int, title: str) -> tuple[Figure, list[list[Axes]]]:
    if not rows:
        raise ValueError("a picture of flow needs at least one clip, got none")
    height, width = rows[0][1].shape[2:]
    figure, grid = tile_grid(len(rows), columns, (TILE, TILE * height / width), 0.06, (0.3, 0.62, 0.08))
    figure.suptitle(title, fontsize=12.5, x=0.01, y=0.995, ha="left", va="top")
    return figure, grid


def _flow_tile(axes: Axes, flow: NDArray[np.float32], caption: str, full: float | None) -> None:
    length = np.hypot(flow[0], flow[1])
    full = float(np.percentile(length, 95)) if full is None else full
    show(axes, flow_to_rgb(flow, full or 1.0), caption, 11)
    _note(axes, f"wheel {full:.1f} px, longest {length.max():.1f} px")
    wheel = axes.inset_axes((0.865, 0.02, 0.125, 0.25))
    wheel.imshow(flow_wheel())
    wheel.set_xticks([])
    wheel.set_yticks([])


def _error_tile(
    axes: Axes, frames: NDArray[np.uint8], flow: NDArray[np.float32], valid: NDArray[np.bool_], caption: str
) -> None:
    left = error_map(frames[-2], frames[-1], flow)
    show(axes, heat(np.where(valid, left, 0), FULL_ERROR), caption, 11)
    mean = f"{left[valid].mean():.1f}" if valid.any() else "-"
    _note(axes, f"mean {mean}, bright: {FULL_ERROR:.0f} of 255")


def _name(axes: Axes, text: str) -> None:
    axes.text(-0.02, 0.5, text, transform=axes.transAxes, rotation=90, fontsize=9.5, ha="right", va="center")


def _note(axes: Axes, text: str) -> None:
    """A line in the tile's lower left corner."""
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
    axes.text(0.015, 0.03, text, transform=axes.transAxes, fontsize=8.5, va="bottom", bbox=box)
