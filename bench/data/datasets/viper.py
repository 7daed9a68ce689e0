"""viper: the VIPER training videos (Richter et al., Playing for Benchmarks, ICCV 2017), rendered by a game at 1920x1080.

Layout, as downloaded and as DA-VSN and TPS read it::

    train/img/001/001_00010.jpg      every frame, sequences 001 to 077
    train/cls/001/001_00010.png      class labels, ids 0..31, of every tenth frame; those of the frames before are there too and are
                                     read where a method asks for them

Clips end at the frames whose number is a multiple of ten; the frames before them are read from the same folder. Labels come as
pictures of ids or in the colours of the class list; both are read. The player's own car is ignored (see `without_ego`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from . import _base
from ._base import Ids, Item, Size, UInt8

CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("unlabeled", (0, 0, 0)), ("ambiguous", (111, 74, 0)), ("sky", (70, 130, 180)), ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)), ("railtrack", (230, 150, 140)), ("terrain", (152, 251, 152)), ("tree", (87, 182, 35)),
    ("vegetation", (35, 142, 35)), ("building", (70, 70, 70)), ("infrastructure", (153, 153, 153)),
    ("fence", (190, 153, 153)), ("billboard", (150, 20, 20)), ("trafficlight", (250, 170, 30)),
    ("trafficsign", (220, 220, 0)), ("mobilebarrier", (180, 180, 100)), ("firehydrant", (173, 153, 153)),
    ("chair", (168, 153, 153)), ("trash", (81, 0, 21)), ("trashcan", (81, 0, 81)), ("person", (220, 20, 60)),
    ("animal", (255, 0, 0)), ("bicycle", (119, 11, 32)), ("motorcycle", (0, 0, 230)), ("car", (0, 0, 142)),
    ("van", (0, 80, 100)), ("bus", (0, 60, 100)), ("truck", (0, 0, 70)), ("trailer", (0, 0, 90)),
    ("train", (0, 80, 100)), ("plane", (0, 100, 100)), ("boat", (50, 0, 90)),
)  # fmt: skip
"""Name and colour by raw id. Van and train have one colour: a picture in colours gives van for both, and both are ignored."""

COLOURS = {raw: colour for raw, (_, colour) in enumerate(CLASSES)}
CAR = next(raw for raw, (name, _) in enumerate(CLASSES) if name == "car")
_IMAGE = re.compile(r"(train|val)/img/(\d{3})/\2_(\d{5})\.jpg")
_LABEL = re.compile(r"(train|val)/cls/(\d{3})/\2_(\d{5})\.png")


def without_ego(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Raw ids ``(H, W)`` with the player's own car set to 0: if the pixel in the last row at column ``W // 2`` is car, all of
    its 8-connected component of car. Cars elsewhere stay, even where they touch the lower edge."""
    import cv2

    middle = raw.shape[1] // 2
    if raw[-1, middle] != CAR:
        return raw
    changed = np.array(raw)
    cv2.floodFill(changed, None, (middle, raw.shape[0] - 1), 0, flags=8)  # only this component; 8 neighbours
    return changed


class Viper:
    """See the module's text."""

    name = "viper"
    folder = "VIPER"
    size: Size | None = (1080, 1920)
    raw_size = size
    counts: ClassVar[Mapping[str, int]] = {"train": 13367}
    splits = ("train", "val")
    names: ClassVar[Mapping[int, str]] = {raw: name for raw, (name, _) in enumerate(CLASSES)}

    def items(self, root: Path, split: str, frames: int = 2) -> list[Item]:
        """Clips at every tenth frame of which the image or the label is there (so that a lost file is missed, not skipped)."""
        _base.check_split(self.name, split, self.splits, frames)
        matches = _base.matches(root, f"{split}/img", _IMAGE) + _base.matches(root, f"{split}/cls", _LABEL)
        places = {(m[2], int(m[3])) for m in matches}
        return _base.in_order(
            (
                Item(
                    key=f"{sequence}_{t:05d}",
                    sequence=sequence,
                    frames=tuple(
                        f"{split}/img/{sequence}/{sequence}_{k:05d}.jpg" for k in range(t - frames + 1, t + 1)
                    ),
                    label=f"{split}/cls/{sequence}/{sequence}_{t:05d}.png",
                    previous_labels=tuple(
                        f"{split}/cls/{sequence}/{sequence}_{k:05d}.png" for k in range(t - frames + 1, t)
                    ),
                )
                for sequence, t in places
                if t % 10 == 0 and t >= frames - 1
            ),
            self.name,
            root,
            f"{split}/img/001/001_00010.jpg",
        )

    def read_frame(self, file: Path, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """See `Dataset.read_frame`."""
        return _base.resized_rgb(_base.colour_picture(file, expect), size)

    def read_label(self, file: Path, ids: Ids, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """Resized first, then the player's car is found in the resized picture, as published."""
        return _base.to_train(without_ego(_base.label_ids(file, size, expect, COLOURS, "ids or colours")), ids)

    def look(self, file: Path, label: bool) -> Size:
        """See `Dataset.look`."""
        if label:
            height, width = _base.label_ids(file, None, None, COLOURS, "ids or colours").shape
            return height, width
        picture = _base.colour_picture(file)
        return picture.height, picture.width

    def guards(self) -> Mapping[str, str]:
        """See `Dataset.guards`."""
        return {
            f"{split}/{part}": split + end for split in self.splits for part, end in (("img", ""), ("cls", "/label"))
        }

    def belongs(self, path: str) -> bool:
        """See `Dataset.belongs`."""
        return bool(_IMAGE.fullmatch(path) or _LABEL.fullmatch(path))


DATASET = Viper()
