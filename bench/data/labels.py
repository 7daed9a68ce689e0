"""Class names and colours of the embedded benchmark and of VIPER to Cityscapes-Seq (the same 15 classes)."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

from .clip import IGNORE

CLASSES: tuple[str, ...] = (
    "road", "sidewalk", "building", "fence", "light", "sign", "vegetation", "terrain",
    "sky", "person", "car", "truck", "bus", "motorcycle", "bicycle",
)  # fmt: skip
"""Train ids 0..14 in order (Cityscapes order without wall, pole, rider and train)."""

PALETTE: tuple[tuple[int, int, int], ...] = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (190, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35),
    (152, 251, 152), (70, 130, 180), (220, 20, 60), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
"""Cityscapes colours (RGB) of :data:`CLASSES`; ignored pixels are black."""

COLOURS: Mapping[str, tuple[int, int, int]] = {
    **dict(zip(CLASSES, PALETTE, strict=True)),
    "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0), "wall": (102, 102, 156), "pole": (153, 153, 153),
    "rider": (255, 0, 0), "train": (0, 80, 100), "pavement": (244, 35, 232), "tree": (107, 142, 35),
    "pedestrian": (220, 20, 60), "bicyclist": (119, 11, 32),
}  # fmt: skip
"""Cityscapes colours by name of a class, also of names that other data sets give to the same things."""


def palette_of(classes: Sequence[str]) -> tuple[tuple[int, int, int], ...]:
    """A colour for each class, no two the same: that of Cityscapes for names that are known, else one spread over the hues."""
    taken, palette = {COLOURS[name] for name in classes if name in COLOURS}, []
    for number, name in enumerate(classes):
        turn = number
        colour = COLOURS.get(name)
        while colour is None or (name not in COLOURS and colour in taken) or colour in palette:
            hue = (0.11 + turn * 0.6180339887498949) % 1.0
            r, g, b = colorsys.hsv_to_rgb(hue, 0.55 + 0.4 * (turn % 2), 0.95 - 0.2 * (turn % 3))
            colour, turn = (round(255 * r), round(255 * g), round(255 * b)), turn + 1
        palette.append(colour)
    return tuple(palette)


TRAIN_ID = {name: index for index, name in enumerate(CLASSES)}

__all__ = ["CLASSES", "COLOURS", "IGNORE", "PALETTE", "TRAIN_ID", "palette_of"]
