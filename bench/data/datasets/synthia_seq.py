"""synthia_seq: video SEQS-04-DAWN of SYNTHIA (Ros et al., CVPR 2016), 850 rendered frames at 1280x760, all labelled.

Layout of ``SYNTHIA-SEQS-04-DAWN.rar``; the folder may be called ``SEQS-04-DAWN`` too, as DA-VSN and TPS do::

    SEQS-04-DAWN/RGB/Stereo_Left/Omni_F/000001.png
    SEQS-04-DAWN/GT/LABELS/Stereo_Left/Omni_F/000001.png      16 bits, channel 0 = class id, channel 1 = instance

The lowest 120 of 760 rows are cut off images and labels after the resize, as published: 1280x640.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.core.errors import BadFile

from .. import reading
from . import _base
from ._base import Ids, Item, Size, UInt8

VIDEOS = ("SEQS-04-DAWN", "SYNTHIA-SEQS-04-DAWN")
RAW, CUT = 760, 640
"""Rows before and after the cut."""

_VIEW = "Stereo_Left/Omni_F"
_IMAGE = re.compile(rf"({'|'.join(VIDEOS)})/RGB/{_VIEW}/(\d{{6}})\.png")
_LABEL = re.compile(rf"({'|'.join(VIDEOS)})/GT/LABELS/{_VIEW}/(\d{{6}})\.png")


def before_cut(size: Size | None) -> Size | None:
    """Size to resize to so that the cut leaves ``size``: 1280x640 comes from 1280x760."""
    return None if size is None else (round(size[0] * RAW / CUT), size[1])


def kept_rows(height: int) -> int:
    """Rows that the cut leaves of a picture: 640 of 760."""
    return round(height * CUT / RAW)


class SynthiaSeq:
    """See the module's text."""

    name = "synthia_seq"
    folder = "SynthiaSeq"
    size: Size | None = (CUT, 1280)
    raw_size: Size | None = (RAW, 1280)
    counts: ClassVar[Mapping[str, int]] = {"train": 849}
    splits = ("train",)
    names: ClassVar[Mapping[int, str]] = {
        0: "void", 1: "sky", 2: "building", 3: "road", 4: "sidewalk", 5: "fence", 6: "vegetation", 7: "pole", 8: "car",
        9: "sign", 10: "pedestrian", 11: "cyclist", 12: "lane-marking", 13: "reserved", 14: "reserved", 15: "light",
    }  # fmt: skip

    def items(self, root: Path, split: str, frames: int = 2) -> list[Item]:
        """One clip per frame that has enough frames before it: 849 of 850 for two frames."""
        _base.check_split(self.name, split, self.splits, frames)
        video = next((name for name in VIDEOS if (root / name).is_dir()), VIDEOS[0])
        matches = _base.matches(root, f"{video}/RGB/{_VIEW}", _IMAGE)
        matches += _base.matches(root, f"{video}/GT/LABELS/{_VIEW}", _LABEL)
        numbers = {int(m[2]) for m in matches}
        return _base.in_order(
            (
                Item(
                    key=f"{VIDEOS[0]}_{t:06d}",
                    sequence=VIDEOS[0],
                    frames=tuple(f"{video}/RGB/{_VIEW}/{k:06d}.png" for k in range(t - frames + 1, t + 1)),
                    label=f"{video}/GT/LABELS/{_VIEW}/{t:06d}.png",
                    previous_labels=tuple(f"{video}/GT/LABELS/{_VIEW}/{k:06d}.png" for k in range(t - frames + 1, t)),
                )
                for t in numbers
                if t >= min(numbers) + frames - 1
            ),
            self.name,
            root,
            f"{VIDEOS[0]}/RGB/{_VIEW}/000001.png",
        )

    def read_frame(self, file: Path, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """Resized, then cut; ``size`` is the size after the cut."""
        uncut = _base.resized_rgb(_base.colour_picture(file, expect), before_cut(size))
        return np.ascontiguousarray(uncut[:, : size[0] if size else kept_rows(uncut.shape[1])])

    def read_label(self, file: Path, ids: Ids, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """Resized, then cut; ``size`` is the size after the cut."""
        uncut = _base.nearest(Image.fromarray(self._classes(file, expect)), before_cut(size))
        return _base.to_train(uncut[: size[0] if size else kept_rows(uncut.shape[0])], ids)

    def look(self, file: Path, label: bool) -> Size:
        """See `Dataset.look`."""
        if label:
            height, width = self._classes(file).shape
            return height, width
        picture = _base.colour_picture(file)
        return picture.height, picture.width

    def _classes(self, file: Path, expect: Size | None = None) -> UInt8:
        """Class ids of the whole picture. Pillow reads such files with 8 bits, that is all zero; OpenCV keeps 16."""
        import cv2

        data = reading.read_bytes(file)
        picture = reading.open_picture(file, data, expect)
        try:
            reading.check_sums(data, picture)  # OpenCV gives half a picture without a word
            image: npt.NDArray[np.generic] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except Exception as error:
            raise reading.damaged(file, error) from None
        if image is None:
            raise BadFile(file, "damaged", "is damaged: OpenCV cannot decode it")
        if image.dtype != np.uint16 or image.ndim != 3:
            raise BadFile(
                file,
                "wrong mode",
                f"is no SYNTHIA label: a colour PNG with 16 bits is expected, got {image.dtype} {image.shape}",
            )
        ids = image[..., 2]  # OpenCV's order is BGR
        if (most := int(ids.max())) > 255:
            hint = ": they are 257 times too large, as of 8 bits stretched to 16" if not (ids % 257).any() else ""
            raise BadFile(file, "wrong ids", f"holds id {most}; those of SYNTHIA are 0 to {max(self.names)}{hint}")
        return ids.astype(np.uint8)

    def guards(self) -> Mapping[str, str]:
        """See `Dataset.guards`."""
        return {
            f"{video}/{part}": grant for video in VIDEOS for part, grant in (("RGB", "train"), ("GT", "train/label"))
        }

    def belongs(self, path: str) -> bool:
        """See `Dataset.belongs`."""
        return bool(_IMAGE.fullmatch(path) or _LABEL.fullmatch(path) or path.endswith(".txt"))


DATASET = SynthiaSeq()
