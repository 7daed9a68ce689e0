"""Predictions of footage: a picture that cannot be read is left out, and no other stands under its name."""

from __future__ import annotations

from pathlib import Path

import torch

from bench.core.errors import BadFile
from bench.data.clip import Clip
from bench.data.loaders import BadClips, ClipLoader
from bench.data.rendered import ClipStore, prepare_split
from bench.flow.backends.exact import exact
from bench.footage.predict import predictions
from bench.networks.build import build_segmenter
from bench.runs.config import load_shift

CPU = torch.device("cpu")


class Damaged(ClipStore):
    """Clips of which the third cannot be read."""

    def __getitem__(self, index: int) -> Clip:
        if index == 2:
            raise BadFile(self.key(index))
        return super().__getitem__(index)


def test_a_skipped_picture_is_left_out(tiny_cache: Path) -> None:
    folder = prepare_split(load_shift("ministreet-tiny").data, "target", "val", 0, tiny_cache)  # type: ignore[arg-type]
    store, bad = ClipStore(folder), BadClips(skip=True)
    segmenter = build_segmenter("mini", "none", 15)
    whole = {one.key: one for one in predictions(segmenter, ClipLoader(store, exact, 1, 0), None, False, CPU)}
    found = list(predictions(segmenter, ClipLoader(Damaged(folder), exact, 1, 0, bad), None, False, CPU))
    assert [one.key for one in found] == [store.key(i) for i in (0, 1, 3)] and list(bad.found) == [store.key(2)]
    for one, index in zip(found, (0, 1, 3), strict=True):
        assert (one.frame == store[index].frames[-1].transpose(1, 2, 0)).all()
        assert (one.labels == whole[one.key].labels).all()
