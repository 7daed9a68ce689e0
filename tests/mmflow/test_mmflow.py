"""The real mmflow in its own environment, with random weights: ``make test-mmflow``. Not part of the ordinary suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench.core.errors import RunError
from bench.core.workspace import Workspace
from bench.data.rendered import ClipStore
from bench.data.splits import Split
from bench.flow._shards import with_precomputed
from bench.flow.backends import mmflow
from bench.flow.compute import compute, open_split
from bench.runs.config import load_shift

RAFT = "raft_8x2_100k_mixed_368x768"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], mmflow.Worker]]:
    """``worker(config)``: mmflow with that config and random weights."""
    workers: list[mmflow.Worker] = []

    def make(config: str) -> mmflow.Worker:
        monkeypatch.setenv("BENCH_MMFLOW_CONFIG", config)
        monkeypatch.setenv("BENCH_MMFLOW_CHECKPOINT", "random")
        workers.append(mmflow.Worker())
        return workers[-1]

    yield make
    for started in workers:
        started.close()


def frames(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, 3, height, width), np.uint8)


def test_raft_gives_both_directions_of_any_size_and_the_same_bits_each_time(
    worker: Callable[[str], mmflow.Worker],
) -> None:
    previous, current = frames(120, 168)
    first = worker(RAFT)
    backward, forward = first(previous, current)
    for flow in (backward, forward):
        assert flow.shape == (2, 120, 168) and flow.dtype == np.float32 and np.isfinite(flow).all()
    assert np.abs(backward - forward).max() > 0.1
    swapped = first(current, previous)
    np.testing.assert_allclose(swapped[0], forward, atol=1e-2)
    np.testing.assert_allclose(swapped[1], backward, atol=1e-2)
    repeated = worker(RAFT)(previous, current)
    np.testing.assert_array_equal(repeated[0], backward)
    np.testing.assert_array_equal(repeated[1], forward)
    assert first.versions["mmflow"] == "0.5.2" and first.versions["mmcv"] == "1.7.2"


@pytest.mark.parametrize(
    "config", ["pwcnet_ft_4x1_300k_sintel_384x768", "flownet2_8x1_sfine_flyingthings3d_subset_384x768"]
)
def test_what_has_no_cpu_implementation_says_so(worker: Callable[[str], mmflow.Worker], config: str) -> None:
    with pytest.raises(RunError) as caught:
        worker(config)(*frames(64, 64))
    assert str(caught.value) == (
        f"mmflow's {config} failed: its correlation has no CPU implementation in mmcv; use a GPU, or a RAFT config"
    )


def test_an_unknown_config_names_the_nearest(worker: Callable[[str], mmflow.Worker]) -> None:
    with pytest.raises(RunError, match=r"Unknown mmflow config 'raft_mixed'. Did you mean 'raft_"):
        worker("raft_mixed")(*frames(64, 64))


class Two(ClipStore):
    """The first two clips of a split."""

    def __len__(self) -> int:
        return 2


def test_its_flow_is_computed_ahead_and_found_by_a_run(worker: Callable[[str], mmflow.Worker], tmp_path: Path) -> None:
    worker(RAFT)
    full = open_split(load_shift("ministreet-tiny"), "target-val", 0, Workspace(cache=tmp_path))
    store = full.open()
    assert isinstance(store, ClipStore)
    split = Split(full.name, {}, partial(Two, store.folder))
    try:
        summary = compute(split, "mmflow", tmp_path, workers=1, force=True)
    finally:
        mmflow.WORKER.close()
    assert summary["identity"] == f"mmflow-{RAFT}-random" and summary["pairs"] == 2
    backend = with_precomputed(mmflow.BACKEND, "mmflow", split.open(), split.name, tmp_path)
    flow, valid = backend(split.open()[1], split.open(), 1)
    assert flow.shape == (1, 2, 64, 128) and valid.dtype == np.bool_
