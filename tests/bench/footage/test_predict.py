"""Predictions of footage: a picture that cannot be read is left out, and no other prediction gets its name."""

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
    store, bad_clips = ClipStore(folder), BadClips(skip=True)
    segmenter = build_segmenter("mini", "none", 15)
    expected = {
        prediction.key: prediction
        for prediction in predictions(segmenter, ClipLoader(store, exact, 1, 0), None, False, CPU)
    }
    predicted = list(predictions(segmenter, ClipLoader(Damaged(folder), exact, 1, 0, bad_clips), None, False, CPU))
    assert [prediction.key for prediction in predicted] == [store.key(i) for i in (0, 1, 3)] and list(
        bad_clips.found
    ) == [store.key(2)]
    for prediction, index in zip(predicted, (0, 1, 3), strict=True):
        assert (prediction.frame == store[index].frames[-1].transpose(1, 2, 0)).all()
        assert (prediction.labels == expected[prediction.key].labels).all()
