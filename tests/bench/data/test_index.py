"""The stored list of clips: round trip, identity, use while the disk with the data is not mounted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.core.errors import RunError, UsageError
from bench.data.fixtures import Tree
from bench.data.index import build_index, index_file, prepare_index, read_index, store_index


@pytest.mark.parametrize("name", ["viper", "cityscapes_seq", "synthia_seq"])
def test_round_trip(name: str, trees: dict[str, Tree], tmp_path: Path) -> None:
    tree = trees[name]
    index = build_index(tree.data, tree.root, "train")
    assert index.found == len(index.items) and index.published == tree.data.counts["train"] and index.size == tree.size
    store_index(index, tmp_path / "i.json")
    stored = read_index(tmp_path / "i.json")
    assert stored.items == index.items and stored.hash == index.hash and stored.size == index.size


def test_identity_is_that_of_the_names(trees: dict[str, Tree], tmp_path: Path) -> None:
    tree = trees["cityscapes_seq"]
    index = build_index(tree.data, tree.root, "train")
    moved = tmp_path / "elsewhere"
    shutil.copytree(tree.root, moved)
    shutil.rmtree(moved / "gtFine" / "train")
    assert build_index(tree.data, moved, "train").hash == index.hash
    hashes = {build_index(tree.data, tree.root, "val").hash, build_index(tree.data, tree.root, "train", 3).hash}
    shutil.rmtree(moved / "leftImg8bit_sequence" / "train" / "aachen")
    hashes.add(build_index(tree.data, moved, "train").hash)
    assert len(hashes | {index.hash}) == 4


def test_the_stored_list_serves_while_the_disk_is_away(trees: dict[str, Tree], tmp_path: Path) -> None:
    tree, cache = trees["viper"], tmp_path / "cache"
    root = tmp_path / "v"
    shutil.copytree(tree.root, root)
    index = prepare_index(tree.data, root, "train", 2, cache)
    shutil.rmtree(root / "train" / "img" / "002")
    shutil.rmtree(root / "train" / "cls" / "002")
    assert prepare_index(tree.data, root, "train", 2, cache).found == 2  # the disk is right while it is there
    store_index(index, index_file(cache, tree.data, root, "train", 2))
    shutil.rmtree(root)
    assert prepare_index(tree.data, root, "train", 2, cache).items == index.items
    with pytest.raises(RunError, match="No frames of 'viper'"):
        prepare_index(tree.data, root, "train", 3, cache)  # no such list was kept
    with pytest.raises(UsageError, match="has no split 'test'"):
        prepare_index(tree.data, root, "test", 2, cache)


def test_a_changed_name_is_found_and_a_list_without_checksum_read(trees: dict[str, Tree], tmp_path: Path) -> None:
    index, file = build_index(trees["viper"].data, trees["viper"].root, "train"), tmp_path / "i.json"
    store_index(index, file)
    file.write_text(file.read_text().replace("001_00010", "001_00020", 1))
    with pytest.raises(RunError, match=r"Index .*i\.json is damaged: its checksum is of other content; delete it"):
        read_index(file)
    file.write_text(index.model_dump_json())
    assert read_index(file).items == index.items


@pytest.mark.parametrize("content", [b"{", b'{"dataset": 3}', b"\xff\xfe", b""])
def test_a_damaged_list_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "i.json").write_bytes(content)
    with pytest.raises(RunError, match=r"Index .*i\.json is damaged: .*; delete it and run `bench data index` again"):
        read_index(tmp_path / "i.json")
    with pytest.raises(RunError, match=r"Cannot read index .*gone\.json: No such file"):
        read_index(tmp_path / "gone.json")
