"""Generated stand-ins for the recorded data sets: reproducible, at the published sizes, with the cases that matter to readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.core.access import stage
from bench.core.errors import AccessError, UsageError
from bench.data.fixtures import Tree, corrupt, write_synthia, write_viper
from bench.data.labels import CLASSES

CAR = CLASSES.index("car")


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    a, b = write_viper(tmp_path / "a", 16), write_viper(tmp_path / "b", 16)
    assert contents(a.root) == contents(b.root)


def test_sizes_are_fractions_of_the_published_ones(trees: dict[str, Tree], tmp_path: Path) -> None:
    assert {n: t.size for n, t in trees.items() if n != "frames"} == {
        "viper": (135, 240), "cityscapes_seq": (128, 256), "synthia_seq": (95, 160),
    }  # fmt: skip
    full_size = write_synthia(tmp_path, frames=2)
    file = full_size.root / full_size.data.items(full_size.root, "train")[0].frames[0]
    assert Image.open(file).size == (1280, 760)
    assert full_size.data.read_frame(file).shape == (3, 640, 1280)
    with pytest.raises(UsageError, match=r"scale must be 1\.\.22 for 'viper', got 40"):
        write_viper(tmp_path, 40)


def test_both_cases_of_the_ego_rule_are_there(trees: dict[str, Tree]) -> None:
    tree = trees["viper"]
    middle = tree.size[1] // 2
    for key, raw in tree.raw.items():
        label = tree.label(key, "viper2cityscapes")
        bonnet = tree.own_car[key]
        assert bonnet.any() == key.startswith("001") == (raw[-1, middle] == 24)
        assert (label[bonnet] == 255).all()
        if not bonnet.any():  # a car at the lower edge, but not in the middle, stays
            assert (label[-1] == CAR).any()


def test_ids_that_share_a_class_are_all_used(trees: dict[str, Tree]) -> None:
    used = {name: set(np.unique(np.concatenate([r.ravel() for r in t.raw.values()]))) for name, t in trees.items()}
    assert {7, 8} <= used["viper"]  # tree and vegetation
    assert {17, 24, 25} <= used["cityscapes_seq"]  # pole, person and rider
    assert {7, 10, 11} <= used["synthia_seq"]
    assert all(len(ids) >= 9 for ids in used.values())


def test_unknown_damage(trees: dict[str, Tree], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Unknown kind of damage 'truncate'\. Did you mean 'truncated'"):
        corrupt(trees["viper"], "truncate", tmp_path)


def test_a_twin_leaves_the_original_alone(trees: dict[str, Tree], tmp_path: Path) -> None:
    before = contents(trees["synthia_seq"].root)
    twin, culprit = corrupt(trees["synthia_seq"], "truncated", tmp_path)
    assert contents(trees["synthia_seq"].root) == before
    changed = {path for path, data in contents(twin.root).items() if before.get(path) != data}
    assert changed == {culprit}


def test_fixtures_are_not_made_inside_a_stage(tmp_path: Path) -> None:
    with stage("target-train"), pytest.raises(AccessError, match="Rendering is closed"):
        write_viper(tmp_path, 16)
