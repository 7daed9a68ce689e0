"""Data sets defined in a user's Python file, named by a shift beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from bench.core import registry
from bench.core.errors import UsageError
from bench.core.loading import source_hash
from bench.core.workspace import Workspace
from bench.data.splits import prepare
from bench.flow.compute import compute
from bench.runs.config import load_shift, make_run_config
from bench.runs.records import read_record
from bench.runs.run import run
from tests.bench.own_files import FLOW, Files

DATA = '''
"""yard: pictures by number."""
import re
from bench.data.datasets import Item, _base

class Yard:
    name, folder, size, raw_size, counts, splits = "yard", "yard", None, None, {}, ("train", "val")
    names = {0: "road", 3: "nature", 300: "beyond"}
    own_names = {"vegetation": ("nature",)}

    def items(self, root, split, frames=2):
        there = sorted(m[0] for m in _base.matches(root, split, re.compile(split + r"/\\d\\.png")))
        ends = range(frames - 1, len(there))
        clips = [Item(str(t), "0", tuple(there[t - frames + 1 : t + 1]), there[t].replace(split, split + "_ids")) for t in ends]
        return _base.in_order(clips, self.name, root, "0.png")

    def read_frame(self, file, size=None, expect=None):
        return _base.resized_rgb(_base.colour_picture(file, expect), size)

    def read_label(self, file, ids, size=None, expect=None):
        return _base.to_train(_base.nearest(_base.id_picture(file, expect), size), ids)

    def look(self, file, label):
        picture = _base.id_picture(file) if label else _base.colour_picture(file)
        return picture.height, picture.width

    def guards(self):
        return {"train": "train", "train_ids": "train/label", "val": "val", "val_ids": "val/label"}

    def belongs(self, path):
        return path.endswith(".png")

DATASET = Yard()
'''


@pytest.fixture
def yard(files: Files, tmp_path: Path) -> tuple[Path, Path]:
    """A shift of own classes whose data set lies beside it, and the data root."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for part in (split, f"{split}_ids"):
            (tmp_path / "data" / "yard" / part).mkdir(parents=True)
        for number in range(5):
            file = f"{number}.png"
            Image.fromarray(rng.integers(0, 256, (40, 64, 3), np.uint8)).save(tmp_path / "data" / "yard" / split / file)
            ids = rng.choice(np.array([0, 3, 9], np.uint8), (40, 64))
            Image.fromarray(ids).save(tmp_path / "data" / "yard" / f"{split}_ids" / file)
    (files["small"].parent / "yard.py").write_text(DATA)
    shift = yaml.safe_load(files["small"].read_text())
    side = {"dataset": "./yard.py", "height": 32, "width": 64}
    shift |= {"name": "yards", "classes": ["road", "vegetation"], "flow": "./still.py", "purpose": "test"}
    shift["data"] = {"kind": "video", "frames": 2, "source": side, "target": dict(side)}
    shift["network"]["name"] = "./micro.py"
    path = files["small"].with_name("yards.yaml")
    path.write_text(yaml.safe_dump(shift))
    return path, tmp_path / "data"


def test_a_shift_names_files_beside_it(
    yard: tuple[Path, Path],
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forget: Callable[[], None],
) -> None:
    shift, root = yard
    workspace = Workspace(workspace.runs, tmp_path / "cache", torch.device("cpu"), data_root=root)
    config = make_run_config("adabn", str(shift))
    assert sorted(config.plugins) == ["dataset/yard", "flow/still", "network/micro"] and config.shift == "yards"
    assert config.protocol.data.target.dataset == "yard" and "/" not in config.protocol.model_dump_json().replace(
        "\\/", ""
    )
    record = run(config, workspace)
    assert set(record.result.iou) == {"road", "vegetation"} and record.result.miou > 0
    paths = json.loads((workspace.runs / config.hash / "plugins.json").read_text())
    assert set(paths) == {*config.plugins, "shift/yards"}
    forget()
    monkeypatch.chdir(tmp_path)
    assert read_record(workspace.runs / config.hash / "record.json").config.protocol.hash == record.shift_hash


def test_another_file_of_a_data_set_is_another_split(yard: tuple[Path, Path], tmp_path: Path) -> None:
    shift, root = yard
    workspace = Workspace(tmp_path, tmp_path / "cache", torch.device("cpu"), data_root=root)
    first, hashed = prepare(load_shift(str(shift)), "target", "val", 0, workspace), load_shift(str(shift)).hash
    assert first.identity["source"] == source_hash("dataset", "yard")
    shift.with_name("yard.py").write_text(DATA + "# changed\n")
    assert prepare(load_shift(str(shift)), "target", "val", 0, workspace).name != first.name
    assert load_shift(str(shift)).hash == hashed, "the protocol is the same"
    clips = first.open()
    np.testing.assert_array_equal(np.unique(clips.labels()[0]), [0, 1, 255])  # 0: road, 3: vegetation, 9: neither


def test_workers_read_a_data_set_whose_file_they_have_not_loaded(
    yard: tuple[Path, Path], tmp_path: Path, files: Files
) -> None:
    files["still"].write_text(FLOW + '\n\ndef identity():\n    return "still-1"\n')
    workspace = Workspace(tmp_path, tmp_path / "cache", torch.device("cpu"), data_root=yard[1])
    split = prepare(load_shift(str(yard[0])), "target", "val", 0, workspace)
    report = compute(
        split, registry.resolve("flow", str(files["still"])), workspace.cache, workers=2, per_shard=2, force=True
    )
    assert report["clips"] == 4 and not report["bad"]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("yard.py", None, r"Shift yards\.yaml: Unknown data set './yard\.py': no such file"),
        ("yard.py", "x = undefined\n", r"Shift yards\.yaml: .*Cannot load data set 'yard': .*yard\.py, line 1: NameError"),
        ("yard.py", "class D:\n    name = 'yard'\n\nDATASET = D\n", "its DATASET has no items, read_frame, read_label"),
        ("yard.py", DATA.replace('"yard", "yard"', '"viper", "yard"'), r"calls its data set 'viper' \(.*viper\.py is called so\)"),
        ("yard.py", DATA.replace("nature", "wood", 1), "source.dataset: 'yard' has no class 'nature' among its own: road, wood"),
        ("still.py", None, r"Shift yards\.yaml: Unknown flow './still\.py': no such file"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_shifts_files_is_said_with_the_shift(
    file: str, text: str | None, says: str, yard: tuple[Path, Path]
) -> None:
    path = yard[0].with_name(file)
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        load_shift(str(yard[0]))
    assert "\n" not in str(caught.value)
