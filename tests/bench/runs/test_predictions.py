"""The one pass over clips: how often each is read from disk, in which batches, at which size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray

from bench.core.errors import BadFile
from bench.data.clip import Clip
from bench.data.loaders import BadClips, ClipLoader, LabelledLoader
from bench.data.rendered import ClipStore, prepare_split
from bench.data.splits import Split
from bench.flow.backends import dis, exact, shuffled, zero
from bench.flow.compare import compare
from bench.flow.compute import compute
from bench.flow.resolve import flow_of
from bench.networks.build import build_segmenter
from bench.runs.config import load_shift
from bench.runs.evaluate import Everything, evaluate, reestimate_statistics, target_score
from bench.runs.figures import spread_clips
from bench.runs.predictions import batch_size, predict, predictions
from stpl.segmenter import VideoSegmenter

CPU = torch.device("cpu")
SHIFT = load_shift("ministreet-tiny")
K = len(SHIFT.classes)


class Spy(ClipStore):
    """Clips of a split; counts how often each, and each label, is read."""

    def __init__(self, folder: Path, bad: Sequence[int] = ()) -> None:
        super().__init__(folder)
        self.bad, self.reads, self.label_reads = set(bad), Counter[int](), Counter[int]()

    def __getitem__(self, index: int) -> Clip:
        self.reads[index] += 1
        if index in self.bad:
            raise BadFile(self.key(index))
        return super().__getitem__(index)

    def labels(self) -> Any:
        spy, labels = self, super().labels()

        class Labels:
            def __getitem__(self, index: int) -> NDArray[np.uint8]:
                spy.label_reads[index] += 1
                return labels[index]  # type: ignore[no-any-return]

        return Labels()

    def once_each(self) -> bool:
        return self.reads == Counter(range(len(self)))


@pytest.fixture(scope="module")
def folder(tiny_cache: Path) -> Path:
    return prepare_split(SHIFT.data, "target", "val", 0, tiny_cache)  # type: ignore[arg-type]


@pytest.fixture
def store(folder: Path) -> Spy:
    return Spy(folder)


@pytest.fixture
def segmenter() -> VideoSegmenter:
    torch.manual_seed(0)
    return build_segmenter("mini", "conv1x1", K)


# Every clip is read from disk once per use ----------------------------------------------------------------------------

USES: dict[str, Callable[[VideoSegmenter, ClipLoader], Any]] = {
    "evaluation": lambda s, loader: evaluate(s, loader, K, SHIFT.evaluation, CPU),
    "target-only score": lambda s, loader: target_score(s, loader, 99, CPU),
    "statistics": lambda s, loader: reestimate_statistics(s, loader, 99, CPU),
    "rounds": lambda _, loader: list(Everything(loader, CPU)),
    "training": lambda _, loader: [loader(step) for step in range(len(loader.store) // loader.batch)],
}


@pytest.mark.parametrize("backend", [exact.BACKEND, zero.BACKEND, dis.BACKEND])
@pytest.mark.parametrize("use", USES)
def test_a_use_reads_every_clip_once(use: str, backend: Any, store: Spy, segmenter: VideoSegmenter) -> None:
    USES[use](segmenter, ClipLoader(store, backend, 2, 0))
    assert store.once_each(), store.reads


@pytest.mark.parametrize("skip", [False, True])
def test_labelled_batches_read_clip_and_label_once(skip: bool, store: Spy) -> None:
    loader = LabelledLoader(store, exact.BACKEND, 2, 0, BadClips(skip))
    batches = [loader(step) for step in range(2)]
    assert store.once_each() and store.label_reads == store.reads
    labels = {key: label for batch in batches for key, label in zip(batch.keys, batch.label, strict=True)}  # type: ignore[attr-defined]
    plain = ClipStore(store.folder)
    for number in range(len(plain)):
        assert (labels[plain.key(number)].numpy() == plain.labels()[number]).all()


def test_precomputed_flow_reads_every_clip_once(folder: Path, segmenter: VideoSegmenter, tmp_path: Path) -> None:
    ahead, store = Spy(folder), Spy(folder)
    compute(Split(folder.name, {}, lambda: ahead), "dis", tmp_path, workers=1)
    assert ahead.reads == Counter([0, *range(len(ahead))])  # the size of the first one is looked at before
    flow = flow_of("dis", store, folder.name, tmp_path)
    store.reads.clear()  # of the look whether it fits
    evaluate(segmenter, ClipLoader(store, flow, 1, 0), K, SHIFT.evaluation, CPU)
    assert store.once_each()


def test_backends_are_compared_on_clips_that_are_read_once(store: Spy) -> None:
    compare(store, ["zero", "dis"], 3)
    assert store.reads == Counter({0: 4, 1: 2, 2: 2})  # by each, the first once more before the clock runs


def test_another_clips_flow_takes_one_more_read(store: Spy) -> None:
    ClipLoader(store, shuffled.BACKEND, 1, 0).read(1)
    assert store.reads == Counter({1: 1, 3: 1})


def test_a_skipped_clip_is_named_by_the_one_that_was_read(folder: Path, segmenter: VideoSegmenter) -> None:
    store = Spy(folder, bad=[1])
    passes = list(predictions(segmenter, ClipLoader(store, zero.BACKEND, 1, 0, BadClips(skip=True)), CPU, together=1))
    assert [prediction.reads[0].number for prediction in passes] == [0, 2, 2, 3]
    assert passes[1].batch.keys == (store.key(2),)


# Batches, sizes, modes ------------------------------------------------------------------------------------------------


def test_clips_come_in_the_order_and_number_that_is_asked_for(store: Spy, segmenter: VideoSegmenter) -> None:
    loader, numbers_read = ClipLoader(store, exact.BACKEND, 1, 0), []
    for together, numbers in ((None, None), (3, None), (2, [3, 0, 1]), (1, [])):
        passes = list(predictions(segmenter, loader, CPU, numbers=numbers, together=together))
        numbers_read.append([[read.number for read in prediction.reads] for prediction in passes])
        assert all(
            prediction.batch.keys == tuple(store.key(read.number) for read in prediction.reads) for prediction in passes
        )
    assert numbers_read == [[[0, 1, 2, 3]], [[0, 1, 2], [3]], [[3, 0], [1]], []]


def test_label_maps_that_are_large_come_one_by_one() -> None:
    assert [batch_size(size) for size in ((64, 128), (512, 511), (512, 512), (1024, 2048))] == [4, 4, 1, 1]


@pytest.mark.parametrize("align_corners", [False, True])
def test_scores_and_labels_are_upsampled_to_any_size(
    align_corners: bool, store: Spy, segmenter: VideoSegmenter
) -> None:
    loader = ClipLoader(store, exact.BACKEND, 1, 0)
    (prediction,) = predictions(segmenter, loader, CPU, align_corners)
    assert prediction.size == (64, 128) and not prediction.scores().requires_grad and not segmenter.training
    for size in ((64, 128), (20, 31)):
        expected = functional.interpolate(prediction.out.scores, size, mode="bilinear", align_corners=align_corners)
        assert torch.equal(prediction.scores(size), expected) and torch.equal(
            prediction.labels(size), expected.argmax(1)
        )
        alone = segmenter.classify(segmenter.fuse_alone(segmenter.encode(prediction.batch.frames[:, 0])[0]))
        expected = functional.interpolate(alone, size, mode="bilinear", align_corners=align_corners)
        assert torch.equal(prediction.previous_labels(size), expected.argmax(1))
    assert torch.equal(prediction.scores(), prediction.scores((64, 128)))


def test_one_pass_leaves_the_mode_as_it_is(store: Spy, segmenter: VideoSegmenter) -> None:
    batch = ClipLoader(store, exact.BACKEND, 4, 0)(0)
    assert not predict(segmenter.train(), batch).out.scores.requires_grad and segmenter.training
    trained = predict(segmenter, batch).out.scores
    assert not torch.equal(trained, predict(segmenter.eval(), batch).out.scores)  # batch norm knows its mode


# Which clips are drawn ------------------------------------------------------------------------------------------------


def test_the_drawn_clips_are_those_of_every_run_before() -> None:
    for clips in range(1, 200):
        assert spread_clips(clips) == sorted({round(i * (clips - 1) / 2) for i in range(3)})
