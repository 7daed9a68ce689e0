"""Released source models: taken before one is trained, known by content, and refused where they are not what was released."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import bench
from bench.core.errors import RunError, UsageError
from bench.core.files import sha256_of
from bench.core.schema import hash_of
from bench.core.workspace import Workspace, default_released
from bench.leaderboards.release import release_sources
from bench.leaderboards.verify import compare, report_text, verify_record
from bench.networks.weights import load_tensors, save_tensors
from bench.runs import source
from bench.runs.config import make_run_config
from bench.runs.released import MANIFEST, read_manifest, release
from bench.runs.run import run
from bench.runs.source import cached_model, source_identity, source_model

CONFIG = make_run_config("source_only", "ministreet-tiny")


@pytest.fixture
def released(finished_tiny: Path, tiny_cache: Path, tmp_path: Path) -> Workspace:
    """The shared cache's source model, released; a cache of its own without one."""
    root = tmp_path / "leaderboards"
    assert release_sources([CONFIG], Workspace(tmp_path, tiny_cache), root)
    shutil.copytree(tiny_cache / "clips", tmp_path / "cache" / "clips")
    return Workspace(tmp_path / "runs", tmp_path / "cache", released=root / "sources", unboxed=True)


def refuse_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any, **__: Any) -> None:
        raise AssertionError("a source model is trained")

    monkeypatch.setattr(source.Trainer, "fit", fit)


def test_a_run_starts_from_it_and_says_so(
    released: Workspace, finished_tiny: Path, no_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_training(monkeypatch)
    record = run(CONFIG, released)
    before = bench.runs.records.read_record(finished_tiny / CONFIG.hash / "record.json")
    assert (before.source_from, record.source_from) == ("trained", "released")
    assert (record.run, record.source_model, record.result) == (before.run, before.source_model, before.result)
    assert record.digests is not None and record.digests == before.digests
    assert record.environments == before.environments  # of where the source model was trained
    with pytest.raises(UsageError, match="from the released source model; repeat it with --force"):
        run(CONFIG, dataclasses.replace(released, released=None))


def test_the_manifest_says_what_it_is(released: Workspace, tiny_cache: Path) -> None:
    assert released.released is not None
    identity = source_identity(CONFIG, CONFIG.protocol, released)
    (name, entry), *rest = read_manifest(released.released).models.items()
    cached = cached_model(identity, Workspace(released.runs, tiny_cache))
    assert not rest and name == hash_of(identity) == cached.stem
    assert (
        entry.sha256 == sha256_of(cached) == sha256_of(released.released / entry.file)
        and entry.size == cached.stat().st_size
    )
    assert (
        entry.environments
        and entry.environments[0]["threads"] == "1"
        and (entry.shift, entry.seed) == ("ministreet-tiny", 0)
    )
    paths = release_sources([CONFIG], Workspace(released.runs, tiny_cache), released.released.parent)
    assert paths == [released.released / entry.file]


def test_without_it_one_is_trained(released: Workspace) -> None:
    path = source_model(CONFIG, CONFIG.protocol, dataclasses.replace(released, released=None))
    assert path.parent == released.cache / "sources"
    unreleased = make_run_config("source_only", "ministreet-tiny", seed=1)  # none was released
    assert released.released is not None and len(read_manifest(released.released).models) == 1
    assert hash_of(source_identity(unreleased, unreleased.protocol)) not in read_manifest(released.released).models


def test_what_is_not_what_was_released_is_refused(released: Workspace) -> None:
    folder = released.released
    assert folder is not None
    (path,), manifest = folder.glob("*.safetensors"), folder / MANIFEST
    content, manifest_text = path.read_bytes(), manifest.read_text(encoding="utf-8")
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RunError, match="is not what was released: its SHA-256"):
        source_model(CONFIG, CONFIG.protocol, released)
    path.unlink()
    with pytest.raises(RunError, match="is not there; bring it back from git, or train one with --train-source"):
        source_model(CONFIG, CONFIG.protocol, released)
    path.write_bytes(content)
    save_tensors(path, load_tensors(path)[0], {"identity": {"seed": 1}})
    changed = json.loads(manifest_text)
    changed["models"][path.stem]["sha256"] = sha256_of(path)
    manifest.write_text(json.dumps(changed))
    with pytest.raises(RunError, match="source model of something else"):
        source_model(CONFIG, CONFIG.protocol, released)
    manifest.write_text("{")
    with pytest.raises(RunError, match="damaged"):
        source_model(CONFIG, CONFIG.protocol, released)


def test_what_may_not_be_released(released: Workspace, tiny_cache: Path, tmp_path: Path) -> None:
    folder = released.released
    assert folder is not None
    identity = source_identity(CONFIG, CONFIG.protocol, released)
    with pytest.raises(RunError, match="No source model of ministreet-tiny, seed 0 in the cache"):
        bench.release("ministreet-tiny", root=tmp_path, cache=tmp_path / "empty")
    cached = cached_model(identity, Workspace(tmp_path, tiny_cache))
    with pytest.raises(RunError, match="committed records of ministreet-tiny, seed 0 started from ffffffffffff"):
        release("ministreet-tiny", 0, identity, cached, tmp_path / "new", ["f" * 64])
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["models"][cached.stem]["sha256"] = "0" * 64
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="what was released does not change"):
        release("ministreet-tiny", 0, identity, cached, folder)


def test_where_a_command_is_called_does_not_decide_what_a_run_starts_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENCH_SOURCES", raising=False)
    monkeypatch.chdir(tmp_path)
    committed = Path(bench.__file__).parents[1] / "leaderboards" / "sources"
    assert default_released() == committed and (committed / MANIFEST).is_file()
    (tmp_path / "leaderboards/sources").mkdir(parents=True)
    assert default_released() == Path("leaderboards/sources")  # a checkout's own, or what is being released here
    monkeypatch.setenv("BENCH_SOURCES", "elsewhere")
    assert default_released() == Path("elsewhere")


def test_verify_says_what_a_run_started_from(
    released: Workspace, finished_tiny: Path, no_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert released.released is not None
    monkeypatch.setenv("BENCH_SOURCES", str(released.released))
    monkeypatch.setattr(
        "bench.leaderboards.verify.run",
        lambda config, workspace: run(config, dataclasses.replace(workspace, unboxed=True)),
    )
    folder = finished_tiny / CONFIG.hash  # it trained the model that was released later
    report = verify_record(folder, cache=released.cache, device="cpu")
    assert report.verdict == "identical" and report.same_environment
    assert "both start from the released one" in report.source and "trained on this processor" in report_text(report)
    before = bench.runs.records.read_record(folder / "record.json")
    elsewhere = {**(before.environments or {}), "source model": ({"cpu_model": "family 1, AVX9"},)}
    moved = before.model_copy(update={"source_from": "released", "environments": elsewhere})
    comparison = compare(moved, moved)
    assert "trained on another processor (family 1, AVX9; here is" in comparison.source and comparison.same_environment
    assert before.digests is not None
    other_start = before.model_copy(update={"digests": before.digests.model_copy(update={"source_model": "0" * 64})})
    comparison = compare(other_start, moved)
    assert comparison.environment["SHA-256 of the source model"] == ("0" * 12, str(before.digests.source_model)[:12])
    assert "the record started from another" in comparison.source and not comparison.failed()
