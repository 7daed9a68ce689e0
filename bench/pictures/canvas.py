"""Figures: scores with their replicates, gains per class, segmentations, flow. pyplot's global state is not touched.

Every function returns a matplotlib ``Figure``; :func:`save` writes it as a PNG or SVG that depends on the figure alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image as Image_

from bench.core.files import write_atomically
from bench.data.labels import CLASSES, IGNORE, PALETTE

Colour = tuple[int, int, int]
Image = npt.NDArray[np.uint8]
"""RGB, uint8 ``(H, W, 3)``."""

SETTING_COLOURS = {"none": "#6b6b6b", "SFDA": "#2a6fbb", "UDA": "#c8641f", "oracle": "#2e8b57"}
SETTING_NAMES = {"none": "no adaptation", "SFDA": "source-free (SFDA)", "UDA": "UDA", "oracle": "oracle"}
DESIGN_MARKERS = {"-": "D", "image": "o", "video": "s"}
DESIGN_NAMES = {"-": "reference", "image": "image-based", "video": "video-based"}
MAX_CAPTION = 40
"""Characters over a tile; more would run into the next one."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, drawn by Agg."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tile_grid(
    rows: int, columns: int, tile: tuple[float, float], gap: float, margins: tuple[float, float, float]
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of equal tiles at fixed places, and its axes by row.

    Args:
        tile: width and height of a tile, inches.
        gap: between rows, inches; captions stand there.
        margins: at the left, the top and the bottom, inches.
    """
    (width, height), (left, top, bottom), between = tile, margins, 0.06
    size = left + columns * (width + between), top + rows * height + (rows - 1) * gap + bottom
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    corners = [
        [
            (left + column * (width + between), size[1] - top - height - row * (height + gap))
            for column in range(columns)
        ]
        for row in range(rows)
    ]
    shares = (width / size[0], height / size[1])
    return figure, [[figure.add_axes((x / size[0], y / size[1], *shares)) for x, y in row] for row in corners]


def save(figure: Figure, path: Path, dpi: int = 150, note: str | None = None) -> Path:
    """Write a PNG, or an SVG by the file's ending, whole or not at all, without time stamp or software name: the same figure
    gives the same bytes.

    Args:
        note: text that is kept in the file, read by :func:`note_of`.

    Raises:
        RunError: the disk is full or read-only.
    """
    buffer = io.BytesIO()
    if path.suffix == ".svg":
        with rc_context({"svg.hashsalt": path.name}):  # names of clip paths are random without it
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Description": note})
    else:
        figure.savefig(
            buffer, format="png", dpi=dpi, metadata={"Software": None, **({"Description": note} if note else {})}
        )
    write_atomically(path, buffer.getvalue())
    return path


def note_of(path: Path) -> str | None:
    """The text that :func:`save` kept in a figure; None where there is none, or no whole figure."""
    try:
        if path.suffix == ".svg":
            match = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(encoding="utf-8"))
            return match[1] if match and path.read_text(encoding="utf-8").rstrip().endswith("</svg>") else None
        with Image_.open(path) as image:
            image.load()  # a truncated one fails here
            note = image.info.get("Description")
            return None if note is None else str(note)
    except (OSError, SyntaxError, ValueError):
        return None


# Scores ---------------------------------------------------------------------------------------------------------------


def mark(marker: str, colour: str, label: str) -> Line2D:
    return Line2D([], [], marker=marker, color=colour, linestyle="none", markersize=8, label=label)


def plain(axes: Axes) -> None:
    axes.grid(axis="x", color="#dddddd", zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def heat_map(
    axes: Axes, values: npt.NDArray[np.floating], rows: Sequence[str], columns: Sequence[str], form: str,
    limits: tuple[float, float], cmap: str, size: float = 8.0,
) -> Any:  # fmt: skip
    """A heat map with a number in every cell; NaN is left blank."""
    image = axes.imshow(np.ma.masked_invalid(values), cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        text = f"{value:{form}}"
        text = text.replace("-", "−") if float(text) else text.lstrip("+-")
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if dark else "#222222")
    axes.set_xticks(range(len(columns)), list(columns), rotation=55, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=9)
    axes.tick_params(length=0)
    return image


# Images ---------------------------------------------------------------------------------------------------------------


def colourise(label: npt.NDArray[np.integer], palette: Sequence[Colour] = PALETTE) -> Image:
    """Colours of a label map: ``(H, W)`` train ids to RGB uint8 ``(H, W, 3)``, 255 to black.

    Raises:
        ValueError: a value that is neither a train id nor 255.
    """
    strange = (label != IGNORE) & ((label < 0) | (label >= len(palette)))
    if strange.any():
        raise ValueError(f"label value {label[strange][0]} is neither in 0..{len(palette) - 1} nor {IGNORE}")
    table: Image = np.zeros((IGNORE + 1, 3), np.uint8)
    table[: len(palette)] = palette
    return np.asarray(table[label])


def show(axes: Axes, image: npt.NDArray[np.uint8], caption: str = "", size: float = 9.5) -> None:
    """An image without axes under a caption that is cut to the tile."""
    axes.imshow(image, interpolation="nearest" if image.shape[1] <= 512 else "antialiased")
    axes.set_axis_off()
    cut = caption if len(caption) <= MAX_CAPTION else caption[: MAX_CAPTION - 1] + "…"
    axes.set_title(cut, fontsize=size, pad=3)


def class_legend(
    figure: Figure, ids: Iterable[int], classes: Sequence[str] = CLASSES, palette: Sequence[Colour] = PALETTE
) -> None:
    """Legend of the classes that occur, by train id, ``ignored`` last, in the figure's lowest 0.6 inch."""
    present = {int(i) for i in ids}
    handles = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*palette[i]), edgecolor="#888888", label=classes[i])
        for i in sorted(present - {IGNORE})
    ]
    if IGNORE in present:
        handles.append(Patch(facecolor="black", label="ignored"))
    columns = min(8, max(2, int(figure.get_figwidth() / 1.2)))
    figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=9.5, columnspacing=1.2)


def segmentation_panel(
    frames: npt.NDArray[np.uint8],
    label: npt.NDArray[np.uint8],
    predictions: Mapping[str, npt.NDArray[np.integer]],
    classes: Sequence[str] = CLASSES,
    palette: Sequence[Colour] = PALETTE,
) -> Figure:
    """Frame t, its label, and each prediction by name, with a class legend; three tiles a row.

    Args:
        frames: uint8 RGB ``(T, 3, H, W)``; the last one is shown.
        label: ``(H, W)`` train ids, 255 = ignore.
        predictions: name to ``(H, W)`` train ids.

    Raises:
        ValueError: a prediction of another size than the frame.
    """
    height, width = frames.shape[2:]
    for name, prediction in predictions.items():
        if prediction.shape != (height, width):
            raise ValueError(f"prediction '{name}' must be {(height, width)} like the frame, got {prediction.shape}")
    tiles = [("frame t", frames[-1].transpose(1, 2, 0)), ("label", colourise(label, palette))]
    tiles += [(name, colourise(prediction, palette)) for name, prediction in predictions.items()]
    columns = min(3, len(tiles))
    rows = -(-len(tiles) // columns)
    figure, grid = tile_grid(rows, columns, (3.2, 3.2 * height / width), 0.27, (0.06, 0.27, 0.6))
    all_axes = [axes for row in grid for axes in row]
    for axes, (caption, image) in zip(all_axes, tiles, strict=False):
        show(axes, image, caption)
    for axes in all_axes[len(tiles) :]:
        axes.set_axis_off()
    ids = np.unique(np.concatenate([label.ravel(), *(np.asarray(p).ravel() for p in predictions.values())]))
    class_legend(figure, ids, classes, palette)
    return figure
