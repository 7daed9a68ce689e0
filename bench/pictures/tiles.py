"""Pictures of a strip: tiles at their own pixels under captions, with Pillow, since matplotlib would resample them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from bench.pictures.canvas import Colour, Image

if TYPE_CHECKING:
    pass

FONT, CAPTION, GAP = 15, 22, 6
"""Pixels: size of the letters, height of a caption, space between tiles."""
INK, PAPER = (30, 30, 30), (255, 255, 255)
MIN_TILE = 240
"""Pixels; captions need this width. Smaller tiles are enlarged by whole numbers."""


@lru_cache
def font(size: int = FONT) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def fitted(text: str, width: int) -> str:
    """The text, cut with an ellipsis to ``width`` pixels."""
    if font().getlength(text) <= width:
        return text
    while text and font().getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def tiled(
    rows: Sequence[Sequence[tuple[str, Image]]], title: str, notes: Sequence[str], legend: Mapping[str, Colour]
) -> Image:
    """Tiles of one size in rows, each under its caption; a title above, lines of notes and a legend of colours below."""
    height, width = rows[0][0][1].shape[:2]
    scale = max(1, -(-MIN_TILE // width))
    height, width = scale * height, scale * width
    total = GAP + max(len(row) for row in rows) * (width + GAP)
    below = _legend(legend, total)
    top, step = CAPTION + GAP, CAPTION + height
    bottom = top + len(rows) * step + GAP
    canvas = Pillow.new("RGB", (total, bottom + len(notes) * CAPTION + below.height), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, 5), fitted(title, total - 2 * GAP), fill=INK, font=font())
    for r, row in enumerate(rows):
        for c, (caption, tile) in enumerate(row):
            x, y = GAP + c * (width + GAP), top + r * step
            draw.text((x, y + 2), fitted(caption, width), fill=INK, font=font())
            enlarged = tile.repeat(scale, axis=0).repeat(scale, axis=1)
            canvas.paste(Pillow.fromarray(np.ascontiguousarray(enlarged)), (x, y + CAPTION))
    for line, note in enumerate(notes):
        draw.text((GAP, bottom + line * CAPTION), fitted(note, total - 2 * GAP), fill=INK, font=font())
    canvas.paste(below, (0, bottom + len(notes) * CAPTION))
    return np.asarray(canvas)


def _legend(legend: Mapping[str, Colour], total: int) -> Pillow.Image:
    """Swatches with names, in as many lines as they need."""
    corners, x, y = [], GAP, 0
    for name in legend:
        length = FONT + 5 + int(font().getlength(name)) + 14
        if x + length > total and x > GAP:
            x, y = GAP, y + CAPTION
        corners.append((x, y))
        x += length
    picture = Pillow.new("RGB", (total, y + CAPTION + GAP), PAPER)
    draw = ImageDraw.Draw(picture)
    for (name, colour), (x, y) in zip(legend.items(), corners, strict=True):
        draw.rectangle((x, y + 2, x + FONT, y + 2 + FONT), fill=colour, outline=(136, 136, 136))
        draw.text((x + FONT + 5, y), name, fill=INK, font=font())
    return picture
