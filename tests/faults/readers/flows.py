"""Optical flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.rendered import ClipStore, prepare_split
from bench.flow import _formats as formats
from bench.flow._shards import Precomputed
from bench.flow.compute import compute
from bench.runs.config import load_shift
from tests.faults import mutations as m

from .base import FLOW, TINY, Again, Reader


def _flow(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        formats.write(folder / name, FLOW, np.abs(FLOW[0]) < 5)
        return folder / name

    return make


@dataclass(frozen=True)
class _Clips:
    """A split of two clips, rendered once."""

    name: str = "target-train-0123456789ab"

    def open(self) -> ClipStore:
        return ClipStore(rendered())


@lru_cache
def rendered() -> Path:
    """Folder of two small rendered clips; it is copied, not changed."""
    import tempfile

    shift = load_shift(TINY)
    assert shift.data.kind == "ministreet"
    two = shift.data.target.model_copy(update={"train": 2})  # type: ignore[union-attr]
    return prepare_split(shift.data.model_copy(update={"target": two}), "target", "train", 0, Path(tempfile.mkdtemp()))  # type: ignore[arg-type]


def _computed(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        summary = compute(_Clips(), "dis", folder, workers=1, per_shard=1, force=True)  # type: ignore[arg-type]
        return Path(summary["folder"]) / name

    return make


def _flow_of_a_run(path: Path) -> Any:
    flow = Precomputed(path.parent)
    store = _Clips().open()
    if not flow.fits(store):
        raise Again("of other clips")
    return [flow(store[i], store, i) for i in range(2)], flow.identity, flow.backend


FLOWS = [
    Reader("flow .flo", _flow("a.flo"), formats.read, m.some_bytes, False),
    Reader("flow .png (KITTI)", _flow("a.png"), formats.read, m.a_png, True),
    Reader("flow .npy (DA-VSN)", _flow("a_int16_x10.npy"), formats.read, m.an_npy, False),
    Reader("flow .npz (VIPER)", _flow("a.npz"), formats.read, m.an_npz, True),
    Reader("flow shard", _computed("00001.npy"), _flow_of_a_run, m.an_npy, True),
    Reader("flow shard, note", _computed("00001.json"), _flow_of_a_run, m.a_json, True),
    Reader("flow manifest", _computed("manifest.json"), _flow_of_a_run, m.a_json, True),
]
