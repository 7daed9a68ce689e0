"""Class names and colours of the embedded benchmark and of VIPER to Cityscapes-Seq (the same 15 classes)."""

from __future__ import annotations

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

TRAIN_ID = {name: index for index, name in enumerate(CLASSES)}

__all__ = ["CLASSES", "IGNORE", "PALETTE", "TRAIN_ID"]
