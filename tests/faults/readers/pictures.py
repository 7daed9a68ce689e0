"""Pictures and video."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.data.datasets import dataset
from bench.data.datasets._video import SUMS, extract
from bench.data.reading import AS_THEY_ARE, colour_picture, label_ids
from bench.pages.sheet import inlined
from tests.faults import mutations as m

from .base import LABEL, RGB, Reader, picture


def _labels_of(name: str) -> Callable[[Path], Any]:
    return lambda path: dataset(name).read_label(path, AS_THEY_ARE)


def _sixteen_bits(folder: Path) -> Path:
    wide = np.zeros((*LABEL.shape, 3), np.uint16)
    wide[..., 2] = LABEL
    (folder / "a.png").write_bytes(cv2.imencode(".png", wide)[1].tobytes())
    return folder / "a.png"


def _video(ending: str, codec: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"a{ending}"
        film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (64, 48))
        for number in range(4):
            film.write(np.roll(cv2.resize(RGB, (64, 48)), number, 1))
        film.release()
        return path

    return make


def _frames_of(path: Path) -> Any:
    folder = extract(path, path.parent / "cache")
    try:
        return [colour_picture(file) for file in sorted(folder.glob("*.png"))]
    finally:
        shutil.rmtree(path.parent / "cache")


def _extracted(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return extract(_video(".avi", "MJPG")(folder), folder / "cache") / name

    return make


def _extracted_again(path: Path) -> Any:
    """Frames as a command gets them: what was damaged has been taken from the video again."""
    folder = extract(path.parents[3] / "a.avi", path.parents[2])
    return [colour_picture(file) for file in sorted(folder.glob("*.png"))]


PICTURES = [
    Reader("picture .png", picture("a.png", RGB), colour_picture, m.a_png, True),
    *(
        Reader(f"picture {end}", picture(f"a{end}", RGB), colour_picture, m.some_bytes, False)
        for end in (".jpg", ".webp", ".bmp", ".tif")
    ),
    Reader("labels, grey", picture("a.png", LABEL), label_ids, m.a_png, True),
    Reader("labels, 4 bits", picture("a.png", LABEL, bits=4), label_ids, m.a_png, True),
    Reader("labels of viper", picture("a.png", LABEL), _labels_of("viper"), m.a_png, True),
    Reader("labels of cityscapes_seq", picture("a.png", LABEL), _labels_of("cityscapes_seq"), m.a_png, True),
    Reader("labels of synthia_seq", _sixteen_bits, _labels_of("synthia_seq"), m.a_png, True),
    Reader("picture of a report", picture("a.png", RGB), inlined, m.a_png, True),
    Reader("video .avi", _video(".avi", "MJPG"), _frames_of, m.some_bytes, False),
    Reader("video .mp4", _video(".mp4", "mp4v"), _frames_of, m.some_bytes, False),
    Reader("frames of a video, one", _extracted("000001.png"), _extracted_again, m.a_png, True),
    Reader("frames of a video, list", _extracted(SUMS), _extracted_again, m.a_json, True),
]
