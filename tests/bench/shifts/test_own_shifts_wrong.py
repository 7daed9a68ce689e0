"""What is wrong with a YAML of one's own or with its files is one line that names the place."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.errors import BadFile, RunError, UsageError
from bench.core.workspace import Workspace
from bench.data.splits import prepare
from bench.runs.config import load_shift
from tests.bench.shifts.own import CLASSES, COLOURS, day2dusk, write, write_yaml

WRONG = {
    "data.target.val: missing": {"data__target__val": ...},
    "data.target.labels: val is scored, so it needs labels": {"data__target__labels": ..., "data__target__colors": {}},
    "data.target.labels: and ids: belong together": {"data__target__colors": {}},
    "data.source.labels: a source model is trained on them": {"data__source__labels": ..., "data__source__colors": {}},
    "data.target.colors.lamp: unknown class 'lamp'": {"data__target__colors__lamp": [9, 9, 9]},
    "data.target.train: no pictures: give folder": {"data__target__folder": ...},
    "data.target.val.range: first and end": {"data__target__val": {"range": [5, 5]}},
    "data.target.hight: Unknown key 'hight'. Did you mean 'height'?": {"data__target__hight": 3},
    "data.source.width: Field required": {"data__source__width": ...},
    "source_training: missing; a source model is trained": {"source_training": ...},
    "evaluation.groups.big: 'lorry' is not among the classes": {"evaluation__groups": {"big": ["lorry"]}},
    "evaluation.groups: 'car' is in two groups": {"evaluation__groups": {"a": ["car"], "b": ["car", "sky"]}},
    "data.target.colors.sky: unknown class 'sky'; available: all": {"evaluation__groups": {"all": ["sky", "road"]}},
    "evaluation: own_size and height, width exclude each other": {
        "evaluation__own_size": True,
        "evaluation__height": 96,
        "evaluation__width": 128,
    },
    "classes: 'sky' is there twice": {"classes": [*CLASSES, "sky"]},
}


@pytest.mark.parametrize("says", sorted(WRONG))
def test_a_wrong_yaml_is_one_line_with_the_place(says: str, tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "wrong.yaml", day2dusk(**WRONG[says]))
    with pytest.raises(UsageError) as error:
        load_shift(path)
    message = str(error.value)
    field, _, reason = says.partition(": ")
    assert field in message and reason in message and "\n" not in message and "side-" not in message, message


@pytest.mark.parametrize(
    ("val", "says"),
    [
        ({"sequences": ["drive9"]}, "data.target.val: no sequence is called 'drive9'; there are drive1, drive2"),
        ({"sequences": {"drive2": [2, 9]}}, "range [2, 9] ends beyond the 8 pictures of sequence 'drive2'"),
        ({"sequences": {"drive2": [3, 4]}}, "none of its 16 pictures has a label in masks and is in the split"),
    ],
)
def test_pictures_that_are_asked_for_and_not_there_are_told(
    val: Any, says: str, tmp_path: Path, data_workspace: Workspace
) -> None:
    path = write_yaml(tmp_path / "wrong.yaml", day2dusk(data__target__val=val))
    with pytest.raises(RunError) as error:
        prepare(load_shift(path), "target", "val", 0, data_workspace)
    assert says in str(error.value)


def test_files_that_are_not_those_of_the_checksums_are_refused(data: Path, tmp_path: Path, own_cache: Path) -> None:
    import hashlib

    copy = Path(shutil.copytree(data / "dusk", tmp_path / "dusk"))
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {kind}/{path.relative_to(copy / folder).as_posix()}"
        for kind, folder in (("images", "images"), ("labels", "masks"))
        for path in sorted((copy / folder).rglob("*.png"))
    ]
    (tmp_path / "sums.txt").write_text("\n".join(lines) + "\n")
    shift = load_shift(write_yaml(tmp_path / "sums.yaml", day2dusk(data__target__checksums="sums.txt")))
    workspace = Workspace(tmp_path / "runs", own_cache, data_root=tmp_path)
    assert len(prepare(shift, "target", "val", 0, workspace).open()) == 3
    table = np.array([*COLOURS.values(), (0, 0, 0)], np.uint8)
    write(copy / "masks" / "drive2" / "004_L.png", table[np.zeros((48, 64), int)])
    with pytest.raises(BadFile, match=r"004_L.png: is not the shift's file of this name: its SHA-256 is another"):
        prepare(shift, "target", "val", 0, workspace)
    (tmp_path / "sums.txt").write_text("\n".join(line for line in lines if "drive1/005" not in line) + "\n")
    with pytest.raises(BadFile, match=r"drive1/005.png: is not among the files of the shift"):
        prepare(shift, "target", "train", 0, workspace)
