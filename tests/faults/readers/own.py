"""Files and options that users write (shifts, lists of frames), and what `bench adapt` and `bench predict` write for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from bench.core.outputs import MANIFEST, Output
from bench.core.schema import read_yaml
from bench.data.datasets._description import find_frames
from bench.footage.request import Request
from bench.pages.report_own import _read as read_predict
from bench.pages.report_own import class_shares
from bench.runs.config import load_shift
from bench.runs.options import parse_options, parse_range
from tests.faults import mutations as m

from .base import LABEL, TINY, Reader, committed, data, picture, text

FRAMES = {
    **{"folder": "images", "labels": "labels", "classes": ["road", "sky"], "ids": {7: "road", 23: "sky"}},
    **{"size": [32, 64], "range": [0, 3], "stride": 1, "across_gaps": False},
}
REQUEST = {
    **{"checkpoint": "0123456789ab", "method": "stpl", "settings": {"a": 1.5}, "flow": "dis", "size": [32, 64]},
    **{"pictures": 3, "content": "0123456789ab", "seed": 0},
}
NOTED = "".join(
    json.dumps({"file": f"labels/{n}.png", "by": "predict", "size": 3, "sha256": f"{n:064x}"}) + "\n" for n in range(3)
)


def _footage(folder: Path) -> Path:
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    return text("frames.yaml", yaml.safe_dump(FRAMES))(folder)


def _masks(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "labels").mkdir()
        picture("labels/a.png", LABEL)(folder)
        legend = [{"id": 0, "name": "road", "color": [0, 0, 0]}, {"id": 1, "name": "sky", "color": [1, 1, 1]}]
        text("legend.json", json.dumps(legend))(folder)
        return folder / name

    return make


def _asked(folder: Path) -> Path:
    plan = load_shift(TINY).adaptation.model_dump(mode="json")
    return text("adapt.yaml", yaml.safe_dump({**REQUEST, "schedule": plan}))(folder)


def _option(path: Path) -> Any:
    return parse_options([f"tau={path.read_bytes().decode('utf-8', 'surrogateescape')}"])


def _range(path: Path) -> Any:
    return list(parse_range("--seeds", path.read_bytes().decode("utf-8", "surrogateescape")))


def _words(path: Path) -> Any:
    return {name: sorted(noted) for name, noted in Output(path.parent, "predict")._noted.items()}


def _load_shift(path: Path) -> Any:
    return load_shift(str(path))


def _predicted(path: Path) -> Any:
    return read_predict(path.parent)


SHIFT = committed("..", "bench", "shifts", "ministreet-tiny.yaml")
PREDICTED = '{"weights": "a", "label maps": 3, "mIoU": null}'

OWN = [
    Reader("shift", data("own.yaml", SHIFT), _load_shift, m.a_yaml, False),
    Reader("frames.yaml", _footage, lambda path: find_frames(path).description, m.a_yaml, False),
    Reader("an option", text("o", "0.25"), _option, m.a_word, False),
    Reader("a range", text("o", "2:5"), _range, m.a_word, False),
    Reader("adapt.yaml", _asked, lambda path: read_yaml(path, Request, "Request"), m.a_yaml, False),
    Reader("predict.json", text("predict.json", PREDICTED), _predicted, m.a_json, False),
    Reader("legend of masks", _masks("legend.json"), lambda path: class_shares(path.parent), m.a_json, False),
    Reader("masks", _masks("labels/a.png"), lambda path: class_shares(path.parents[1]), m.a_png, True),
    Reader("manifest of an output", text(MANIFEST, NOTED), _words, m.json_lines, False, loses=True),
]
