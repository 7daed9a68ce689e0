"""Clips and their lists."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.core.schema import canonical, read_json
from bench.core.sealed import sealed
from bench.data.described import Listing
from bench.data.index import Index, read_index, store_index
from bench.data.rendered import ClipStore, is_whole
from tests.faults import mutations as m

from .base import Again, Reader, text
from .flows import rendered


def _clips(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return Path(shutil.copytree(rendered(), folder / rendered().name)) / name

    return make


def _load_clips(path: Path) -> Any:
    if not is_whole(path.parent):
        raise Again("rendered again")
    store = ClipStore(path.parent)
    return [store.labelled(i) for i in range(2)]


ITEM = {"key": "a_1", "sequence": "a", "frames": ["a_0.png", "a_1.png"], "label": "l/a_1.png", "previous_labels": []}
INDEX = {
    **{"dataset": "viper", "split": "train", "frames": 2, "published": None, "size": [4, 8]},
    "items": [ITEM, {**ITEM, "key": "a_2"}],
}


def _index(folder: Path) -> Path:
    store_index(Index.model_validate(INDEX), folder / "i.json")
    return folder / "i.json"


def _read_listing(path: Path) -> Any:
    return read_json(path, Listing, "List", "delete it")


CLIPS = [
    Reader("clips, frames", _clips("frames.npy"), _load_clips, m.an_npy, True),
    Reader("clips, labels", _clips("label.npy"), _load_clips, m.an_npy, True),
    Reader("clips, manifest", _clips("manifest.json"), _load_clips, m.a_json, True),
    Reader("index", _index, read_index, m.a_json, True),
    Reader(
        "list of own pictures",
        text("l.json", canonical(sealed({"items": [ITEM], "content": "0123456789ab"}))),
        _read_listing,
        m.a_json,
        True,
    ),
]
