"""A CamVid-like data set of one's own, drawn here: eleven classes, coloured masks, several sequences, some frames labelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

COLOURS = {
    "sky": (128, 128, 128), "building": (128, 0, 0), "pole": (192, 192, 128), "road": (128, 64, 128),
    "pavement": (60, 40, 222), "tree": (128, 128, 0), "sign": (192, 128, 128), "fence": (64, 64, 128),
    "car": (64, 0, 128), "pedestrian": (64, 64, 0), "bicyclist": (0, 128, 192),
}  # fmt: skip
"""Of the masks, as CamVid has them."""
CLASSES = tuple(COLOURS)
VOID = (0, 0, 0)
HEIGHT, WIDTH = 48, 64


def scene(position: int) -> npt.NDArray[np.uint8]:
    """Train ids of a street at one place of a drive; everything moves to the left as it goes on."""
    ids = np.full((HEIGHT, WIDTH), CLASSES.index("building"), np.uint8)
    ids[:10] = CLASSES.index("sky")
    ids[30:] = CLASSES.index("road")
    ids[26:30] = CLASSES.index("pavement")
    objects = [("tree", 2, 10, 8, 14), ("pole", 14, 8, 2, 20), ("sign", 20, 10, 6, 6), ("fence", 28, 20, 10, 6),
              ("car", 40, 28, 12, 10), ("pedestrian", 54, 20, 4, 12), ("bicyclist", 60, 22, 6, 12)]  # fmt: skip
    for name, x, y, wide, high in objects:
        for column in range(wide):
            ids[y : y + high, (x + column - position) % WIDTH] = CLASSES.index(name)
    ids[:2, :3] = 255  # void in a corner
    return ids


def draw(folder: Path, sequence: str, frames: int, light: float, seed: int, labelled: int = 1) -> None:
    """Write ``images/<sequence>/000.png`` and masks ``masks/<sequence>/000_L.png`` of every ``labelled``-th frame."""
    rng = np.random.default_rng(seed)
    paint = rng.integers(40, 216, (len(CLASSES) + 1, 3))
    for index in range(frames):
        ids = scene(index + 7 * seed)
        colour = paint[np.where(ids == 255, len(CLASSES), ids)] * light + rng.normal(0, 6, (HEIGHT, WIDTH, 3))
        write(folder / "images" / sequence / f"{index:03d}.png", colour.clip(0, 255).astype(np.uint8))
        if index % labelled == 0:
            table = np.array([*COLOURS.values(), VOID], np.uint8)
            write(folder / "masks" / sequence / f"{index:03d}_L.png", table[np.where(ids == 255, len(CLASSES), ids)])


def write(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def camvid_like(root: Path) -> Path:
    """The data set: ``day`` is the source, ``dusk`` the target. Of the target every second frame of ``drive2`` is labelled."""
    draw(root / "day", "drive1", 6, 1.0, 1)
    draw(root / "day", "drive2", 4, 1.0, 1)
    draw(root / "dusk", "drive1", 8, 0.4, 1, labelled=100)
    draw(root / "dusk", "drive2", 8, 0.4, 1, labelled=2)
    return root


SCHEDULE = {
    "steps": 4, "batch": 2, "lr": 0.01, "head_multiplier": 1.0, "momentum": 0.9, "weight_decay": 0.0005, "power": 0.9,
    "clip_norm": 10.0, "precision": "float32",
}  # fmt: skip


def day2dusk(**changes: Any) -> dict[str, Any]:
    """The YAML of the shift day → dusk, all of it; ``changes`` by dotted path with ``__`` for dots, ``...`` removes."""
    side = {
        "height": HEIGHT,
        "width": WIDTH,
        "label_suffix": "_L.png",
        "colors": {**{name: list(colour) for name, colour in COLOURS.items()}, "ignore": list(VOID)},
    }
    shift: dict[str, Any] = {
        "name": "day2dusk",
        "title": "Day → dusk",
        "purpose": "private",
        "classes": list(CLASSES),
        "data": {
            "kind": "video",
            "frames": 2,
            "source": {"name": "day", "folder": "day/images", "labels": "day/masks", **side},
            "target": {
                **{"name": "dusk", "folder": "dusk/images", "labels": "dusk/masks", **side},
                "train": {"sequences": {"drive1": "all", "drive2": [0, 2]}},
                "val": {"sequences": {"drive2": [2, 8]}},
            },
        },
        "network": {"name": "mini", "fusion": "conv1x1"},
        "flow": "dis",
        "source_training": {**SCHEDULE, "steps": 30},
        "adaptation": {**SCHEDULE, "batch_norm": "target", "snapshots": 1, "statistics_clips": 4},
        "evaluation": {"align_corners": False, "readout": "student"},
    }
    shift = json.loads(json.dumps(shift))  # nothing twice, so no aliases, and a change is of one side
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        section = shift
        for key in parents:
            section = section[key]
        if value is ...:
            del section[last]
        else:
            section[last] = value
    return shift


def write_yaml(path: Path, content: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return str(path)
