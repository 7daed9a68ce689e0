"""Splits and shifts handed to another process as JSON: they are restored unchanged, and nothing is unpickled."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from bench.core.child import Call
from bench.core.registry import ROOT, shift_names
from bench.core.schema import WHOLE, whole_text
from bench.data.datasets import dataset
from bench.data.datasets.frames import Frames
from bench.data.fixtures import Tree
from bench.data.handed import HandedSplit, Recorded, hand_split, hand_store
from bench.data.recorded import VideoStore
from bench.data.splits import prepare
from bench.runs.config import Shift, load_shift, make_run_config

HANDED = TypeAdapter(HandedSplit)


def round_trip(split: HandedSplit) -> HandedSplit:
    return HANDED.validate_json(whole_text(split))


def test_a_rendered_split(tiny_cache: Path) -> None:
    from bench.core.workspace import Workspace

    split = prepare(load_shift("ministreet-tiny"), "target", "val", 0, Workspace(cache=tiny_cache))
    handed = round_trip(hand_split(split))
    assert handed == hand_split(split) and handed.split().name == split.name
    assert str(split.identity["world"]) not in whole_text(handed) and handed.split().identity == {}
    np.testing.assert_array_equal(handed.split().open()[1].frames, split.open()[1].frames)


@pytest.mark.parametrize("name", ["viper", "cityscapes_seq", "frames"])
def test_a_recorded_split(name: str, trees: dict[str, Tree]) -> None:
    data, root = dataset(name), trees[name].root
    if name == "frames":
        data = Frames(images="", names={7: "road"}, colours={7: (1, 2, 3)}, left_out=frozenset({"x.png"}))
    ids = None if name == "frames" else {0: 3, 7: 0, 26: 255}
    store = VideoStore(root, data, data.items(root, "train", 2), ids, (32, 64), (16, 32))
    first = store[0].frames  # also what the store has found out meanwhile goes along
    handed = TypeAdapter(Recorded).validate_json(whole_text(hand_store(store)))
    restored = handed.open()
    assert (restored.root, restored.items, restored.dataset) == (store.root, store.items, store.dataset)
    assert (restored.label_size, restored._native) == (store.label_size, store._native)
    assert (store.ids is None and restored.ids is None) or np.array_equal(restored.ids, store.ids)
    np.testing.assert_array_equal(restored[0].frames, first)


@pytest.mark.parametrize("name", shift_names())
def test_a_shift_with_its_places_and_defaults(name: str) -> None:
    shift = load_shift(name)
    restored = Shift.model_validate_json(whole_text(shift))
    assert restored == shift or restored.model_dump(context=WHOLE) == shift.model_dump(context=WHOLE)
    assert restored.hash == shift.hash
    if name == "cityscapes2camvid":
        assert restored.data.target.folder == "camvid_drive/images"  # type: ignore[union-attr]
        assert "camvid_drive" not in shift.model_dump_json()  # where things lie is in no other text


def test_a_config(shift_file: Callable[..., str]) -> None:
    config = make_run_config("stpl", shift_file({"adaptation.lr": 0.1 + 0.2}), options={"temperature": 0.1 / 3})
    restored = type(config).model_validate_json(whole_text(config))
    assert restored == config and restored.hash == config.hash and restored.settings["temperature"] == 0.1 / 3


def test_a_call_keeps_what_is_no_text(tmp_path: Path) -> None:
    call = Call("a:b", "{}", [tmp_path / "a\udcff"], write=(tmp_path,), environment={"LATIN": "\udce4"}, path=["x"])
    restored = Call.from_json(call.to_json())
    assert (
        restored.read == [tmp_path / "a\udcff"]
        and restored.write == [tmp_path]
        and restored.environment == call.environment
    )
    assert (restored.function, restored.payload, restored.path, restored.folder) == ("a:b", "{}", ["x"], call.folder)


def test_nothing_in_the_code_unpickles() -> None:
    """``allow_pickle=False`` and ``weights_only=True`` are how foreign files are read; errors of theirs are the one thing used."""
    loads = re.compile(
        r"pickle\.loads?\(|Unpickler\(|allow_pickle=True|weights_only=False|(?:joblib|dill|marshal)\.load"
    )
    files = [path for name in ("bench", "methods", "stpl") for path in (ROOT.parent / name).rglob("*.py")]
    assert len(files) > 200 and [str(path) for path in files if loads.search(path.read_text(encoding="utf-8"))] == []
