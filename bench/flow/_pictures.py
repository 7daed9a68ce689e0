"""Pictures of flow: what was computed for some clips, and several backends beside the exact flow of one clip."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.pictures.canvas import Image, show, tile_grid
from bench.pictures.flow import flow_to_rgb, flow_wheel, mark_invalid, warp_previous

from ._photometric import error_map

TILE = 3.0
"""Width of a tile, inches."""
CAPTION, NOTE = 13, 10.5
"""Sizes of letters, points: legible when the picture is 800 pixels wide."""
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
    """Two rows per clip: both frames and the flow; t-1 warped to t, where the flow is not valid, what the warp leaves over.

    Raises:
        ValueError: no rows.
    """
    figure, grid = _grid(rows, 2, 3, title)
    for number, (caption, frames, flow, valid) in enumerate(rows):
        above, below = grid[2 * number], grid[2 * number + 1]
        previous, current = (np.ascontiguousarray(frames[k].transpose(1, 2, 0)) for k in (-2, -1))
        _name(above[0], caption)
        show(above[0], previous, "frame t-1", CAPTION)
        show(above[1], current, "frame t", CAPTION)
        _flow_tile(above[2], flow[-1], "flow t → t-1", None)
        show(below[0], warp_previous(previous, flow[-1]), "t-1 warped to t", CAPTION)
        _valid_tile(below[1], current, valid[-1], "not valid (pink)")
        _error_tile(below[2], frames, flow[-1], valid[-1], "|t - warped|, grey levels")
    return figure


def comparison(exact: Row, rows: Sequence[Row], title: str) -> Figure:
    """The exact flow of a clip and several backends' below it: flow, validity, and both kinds of error."""
    _, frames, truth, truly = exact
    captions = ("flow t → t-1", "not valid (pink)", "|t - warped|, grey levels", "end-point error, px")
    figure, grid = _grid([exact, *rows], 1, len(captions), title)
    full = float(np.percentile(np.hypot(*truth[-1]), 95))
    current = np.ascontiguousarray(frames[-1].transpose(1, 2, 0))
    for number, (axes, (caption, _, flow, valid)) in enumerate(zip(grid, [exact, *rows], strict=True)):
        columns = captions if number == 0 else ("",) * len(captions)
        _name(axes[0], caption)
        _flow_tile(axes[0], flow[-1], columns[0], full)
        _valid_tile(axes[1], current, valid[-1], columns[1])
        _error_tile(axes[2], frames, flow[-1], valid[-1], columns[2])
        epe = np.where(truly[-1], np.hypot(*(flow[-1] - truth[-1])), 0)
        show(axes[3], heat(epe, FULL_EPE), columns[3], CAPTION)
        _note(axes[3], f"mean {epe[truly[-1]].mean():.2f}, bright: {FULL_EPE:.0f}")
    return figure


def _grid(rows: Sequence[Row], rows_per_clip: int, columns: int, title: str) -> tuple[Figure, list[list[Axes]]]:
    if not rows:
        raise ValueError("a picture of flow needs at least one clip, got none")
    height, width = rows[0][1].shape[2:]
    gap = 0.32 if rows_per_clip > 1 else 0.06
    figure, grid = tile_grid(rows_per_clip * len(rows), columns, (TILE, TILE * height / width), gap, (0.3, 0.66, 0.08))
    figure.suptitle(title, fontsize=13, x=0.01, y=0.995, ha="left", va="top")
    return figure, grid


def _flow_tile(axes: Axes, flow: NDArray[np.float32], caption: str, full: float | None) -> None:
    length = np.hypot(flow[0], flow[1])
    full = float(np.percentile(length, 95)) if full is None else full
    show(axes, flow_to_rgb(flow, full or 1.0), caption, CAPTION)
    _note(axes, f"wheel {full:.1f}, longest {length.max():.1f} px")
    wheel = axes.inset_axes((0.865, 0.02, 0.125, 0.25))
    wheel.imshow(flow_wheel())
    wheel.set_xticks([])
    wheel.set_yticks([])


def _valid_tile(axes: Axes, frame: Image, valid: NDArray[np.bool_], caption: str) -> None:
    show(axes, mark_invalid(frame, valid), caption, CAPTION)
    _note(axes, f"{100 * (1 - valid.mean()):.1f} %")


def _error_tile(
    axes: Axes, frames: NDArray[np.uint8], flow: NDArray[np.float32], valid: NDArray[np.bool_], caption: str
) -> None:
    error = error_map(frames[-2], frames[-1], flow)
    show(axes, heat(np.where(valid, error, 0), FULL_ERROR), caption, CAPTION)
    mean = f"{error[valid].mean():.1f}" if valid.any() else "-"
    _note(axes, f"mean {mean}, bright: {FULL_ERROR:.0f}")


def _name(axes: Axes, text: str) -> None:
    axes.text(-0.02, 0.5, text, transform=axes.transAxes, rotation=90, fontsize=CAPTION, ha="right", va="center")


def _note(axes: Axes, text: str) -> None:
    """A line in the tile's lower left corner."""
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
    axes.text(0.015, 0.03, text, transform=axes.transAxes, fontsize=NOTE, va="bottom", bbox=box)
