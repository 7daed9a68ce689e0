"""One run from config to record: found again, repeated, refused, and the same twice."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from bench.core.errors import AccessError, RunError, UsageError
from bench.core.workspace import Workspace
from bench.runs import run as adapt
from bench.runs import training
from bench.runs.config import RunConfig, alterations, load_shift, make_run_config
from bench.runs.finished import finished, finished_run
from bench.runs.own_files import EARLIER
from bench.runs.records import read_record
from bench.runs.run import run

TINY = "ministreet-tiny"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stpl_run(tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """A finished run of stpl, with figures, that no test may touch; its config and the folder of runs."""
    runs = tmp_path_factory.mktemp("done")
    torch.set_num_threads(1)
    config = make_run_config("stpl", TINY)
    run(config, Workspace(runs, tiny_cache, CPU))
    return config, runs


@pytest.fixture
def run_copy(stpl_run: tuple[RunConfig, Path], tmp_path: Path, tiny_cache: Path) -> tuple[RunConfig, Workspace]:
    """A copy of it that may be spoilt."""
    shutil.copytree(stpl_run[1], tmp_path / "runs")
    return stpl_run[0], Workspace(tmp_path / "runs", tiny_cache, CPU)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a finished run was done again")

    monkeypatch.setattr(adapt, "_run", refuse)


# What a run leaves ----------------------------------------------------------------------------------------------------


def test_a_run_folder_holds_config_log_checkpoint_record_and_figures(stpl_run: tuple[RunConfig, Path]) -> None:
    config, runs = stpl_run
    folder = runs / config.hash
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoint.safetensors", "config.yaml", "figures", "metrics.jsonl", "record.json", "sequences.csv",
    ]  # fmt: skip
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == list(range(6)) and set(log[0]) == {"step", "ce", "contrast"}
    figures = sorted((folder / "figures").iterdir())
    assert len(figures) == 3 and all(path.read_bytes().startswith(b"\x89PNG") for path in figures)


def test_the_record_says_where_the_number_comes_from(stpl_run: tuple[RunConfig, Path], tiny_cache: Path) -> None:
    config, runs = stpl_run
    record = read_record(runs / config.hash / "record.json")
    shift = load_shift(TINY)
    assert record.config == config and record.run == config.hash and record.shift_hash == shift.hash
    assert (tiny_cache / "sources" / f"{record.source_model}.safetensors").is_file()
    assert set(record.result.iou) == set(shift.classes)
    assert record.selection.label_looks == 0 and record.selection.rule == "last"
    steps = [snapshot["step"] for snapshot in record.selection.snapshots]
    assert steps == [2, 4, 6] and record.selection.oracle["label_looks"] == 3
    assert record.selection.snapshots[-1]["miou"] == record.result.miou
    assert record.selection.oracle["miou"] == max(s["miou"] for s in record.selection.snapshots)
    best = max(record.selection.snapshots, key=lambda s: s["target_score"])
    assert record.selection.unsupervised == {"step": best["step"], "miou": best["miou"]}
    assert record.cost.steps == 6 and 0 < record.cost.seconds < record.cost.total_seconds
    assert record.cost.peak_memory_mb > 100 and 400_000 < record.cost.parameters < 800_000
    assert record.hardware["threads"] == 1 and record.hardware["device"] == "cpu"
    assert set(record.versions) >= {"python", "torch", "numpy"} and "missing" not in record.versions.values()
    text = (runs / config.hash / "record.json").read_text()
    assert record.flow is None and "flow" not in json.loads(text)  # exact flow depends on nothing
    assert str(runs) not in text and os.uname().nodename not in json.dumps(record.hardware)


@pytest.mark.usefixtures("no_figures")
def test_the_threads_in_the_record_are_those_that_were_used(workspace: Workspace) -> None:
    torch.set_num_threads(2)
    assert run(make_run_config("adabn", TINY), workspace).hardware["threads"] == 2


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("mode", ["offline", "stream"])
def test_compilers_may_start_where_they_were_asked_for(
    mode: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One starts processes at the first pass: in the training of the source model, and in the adaptation."""
    started = []

    def compiles(encoder: torch.nn.Module) -> None:
        encoder.register_forward_pre_hook(lambda *_: started.append(subprocess.run(["true"], check=True)))

    monkeypatch.setattr(torch.nn.Module, "compile", compiles)
    fresh = dataclasses.replace(workspace, runs=tmp_path, cache=tmp_path, compiled=True, released=None)
    record = run(make_run_config("self_training", TINY, mode=mode), fresh)
    assert record.hardware["compiled"] is True and record.access == "watched"
    assert len(started) > record.cost.steps


# Found again ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_work")
def test_a_finished_run_is_found_again(run_copy: tuple[RunConfig, Workspace], stpl_run: tuple[RunConfig, Path]) -> None:
    config, workspace = run_copy
    assert run(config, workspace) == read_record(stpl_run[1] / config.hash / "record.json")


@pytest.mark.usefixtures("no_figures")
def test_force_repeats_it_and_gets_the_same_bits(run_copy: tuple[RunConfig, Workspace]) -> None:
    config, workspace = run_copy
    folder = workspace.runs / config.hash
    before, weights = read_record(folder / "record.json"), (folder / "checkpoint.safetensors").read_bytes()
    after = run(config, dataclasses.replace(workspace, force=True))
    assert not (folder / "figures").exists() and not (folder / EARLIER).exists()
    assert (folder / "checkpoint.safetensors").read_bytes() == weights
    assert (after.result, after.selection) == (before.result, before.selection)


@pytest.mark.usefixtures("no_figures")
def test_seeds_differ_in_world_source_model_and_weights(workspace: Workspace) -> None:
    configs = [make_run_config("self_training", TINY, seed) for seed in (0, 1)]
    records = [run(config, workspace) for config in configs]
    assert records[0].source_model != records[1].source_model
    weights = [load_file(workspace.runs / config.hash / "checkpoint.safetensors") for config in configs]
    assert not torch.equal(weights[0]["encoder.stem.0.0.weight"], weights[1]["encoder.stem.0.0.weight"])
    assert len(list((workspace.cache / "clips").glob("target-val-*[0-9a-f]"))) >= 2


@pytest.mark.usefixtures("no_figures")
def test_the_source_model_is_shared_and_depends_on_the_fusion(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    original = training.Trainer.fit

    def spy(self: Any, *args: Any) -> Any:
        trained.append(args[2])
        return original(self, *args)

    monkeypatch.setattr(training.Trainer, "fit", spy)
    first = run(make_run_config("adabn", TINY), workspace)
    trained.clear()
    assert run(make_run_config("source_only", TINY), workspace).source_model == first.source_model
    assert trained == []
    without_fusion = run(make_run_config("source_only", TINY, 0, {"fusion": "none"}), workspace)
    assert trained == ["train source"] and without_fusion.source_model != first.source_model


@pytest.mark.usefixtures("no_figures")
def test_a_watched_run_tells_the_target_only_score_and_stays_the_same(workspace: Workspace, tmp_path: Path) -> None:
    config, reported = make_run_config("stpl", TINY, 0, {"ema_decay": 0.9}), dict[int, float]()

    def watch(step: int, score: float) -> None:
        reported[step] = score
        with pytest.raises(AccessError, match=r"label\.npy is closed"):  # whoever is told sees no labels either
            open(next((workspace.cache / "clips").glob("target-val-*/label.npy")), "rb").close()

    alone = run(config, workspace)
    watched = run(config, dataclasses.replace(workspace, runs=tmp_path / "watched", watch=watch))
    assert (watched.result, watched.selection) == (alone.result, alone.selection)
    weights = [runs / config.hash / "checkpoint.safetensors" for runs in (workspace.runs, tmp_path / "watched")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    scores = {s["step"]: s["target_score"] for s in alone.selection.snapshots}
    assert reported == {step: score for step, score in scores.items() if step < 6} and len(reported) == 2


# Refused --------------------------------------------------------------------------------------------------------------


def test_a_folder_of_another_config_is_refused(run_copy: tuple[RunConfig, Workspace]) -> None:
    config, workspace = run_copy
    other_config = make_run_config("stpl", TINY, 0, {"temperature": 0.2})
    (workspace.runs / config.hash).rename(workspace.runs / other_config.hash)
    with pytest.raises(
        RunError, match=f"Run folder .*{other_config.hash} holds another config's run; delete it or choose"
    ):
        run(other_config, workspace)
    (workspace.runs / other_config.hash / "config.yaml").unlink()
    with pytest.raises(RunError, match="holds another config's run"):
        run(other_config, workspace)


def test_a_config_of_an_older_protocol_is_refused(run_copy: tuple[RunConfig, Workspace]) -> None:
    config, workspace = run_copy
    old = config.model_copy(update={"shift_hash": "0123456789ab"})
    with pytest.raises(UsageError, match="This config was made under protocol 0123456789ab; 'ministreet-tiny' is now"):
        run(old, workspace)


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "run": "', b"\xff\xfe\x00", b"[]", b'{"schema": 1}'])
@pytest.mark.usefixtures("no_work")
def test_a_damaged_record_is_named(content: bytes, run_copy: tuple[RunConfig, Workspace]) -> None:
    config, workspace = run_copy
    path = workspace.runs / config.hash / "record.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=f"Record {path} is damaged: .*; delete it and run again") as caught:
        run(config, workspace)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_figures")
def test_a_deleted_record_is_made_again(run_copy: tuple[RunConfig, Workspace]) -> None:
    config, workspace = run_copy
    path = workspace.runs / config.hash / "record.json"
    before = read_record(path)
    path.unlink()
    assert run(config, workspace).result == before.result


@pytest.mark.parametrize("content", [b"", b"method: stp", b"\xff\xfe"])
def test_a_damaged_config_is_not_this_config(content: bytes, run_copy: tuple[RunConfig, Workspace]) -> None:
    config, workspace = run_copy
    (workspace.runs / config.hash / "config.yaml").write_bytes(content)
    with pytest.raises(RunError, match="holds another config's run; delete it"):
        run(config, workspace)


def test_an_empty_folder_is_not_finished(tmp_path: Path) -> None:
    assert finished(tmp_path, make_run_config("stpl", TINY)) is None


def test_a_run_that_is_in_use_is_named(run_copy: tuple[RunConfig, Workspace], monkeypatch: pytest.MonkeyPatch) -> None:
    config, workspace = run_copy
    monkeypatch.setattr(adapt, "locked", partial(adapt.locked, timeout=0.1))
    folder = workspace.runs / config.hash
    record = read_record(folder / "record.json")
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        assert run(config, workspace) == record  # finished: nothing is waited for
        (folder / "record.json").unlink()
        with pytest.raises(RunError, match=f"{folder} is in use by another process"):
            run(config, workspace)


def test_a_finished_run_is_found_where_nothing_can_be_written(
    run_copy: tuple[RunConfig, Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workspace = run_copy
    monkeypatch.setattr("bench.core.files.FileLock", None)  # no lock can be made there
    assert run(config, workspace).run == config.hash


def test_what_a_kill_behind_the_record_left_is_removed(run_copy: tuple[RunConfig, Workspace]) -> None:
    config, workspace = run_copy
    before = sorted(workspace.runs.rglob("*"))
    (workspace.runs / config.hash / "state").mkdir()
    (workspace.runs / config.hash / "state/snapshot-000002.safetensors").touch()
    (workspace.runs / f"{config.hash}.lock").touch()
    run(config, workspace)
    assert sorted(workspace.runs.rglob("*")) == before


def test_runs_that_cannot_be_written(tmp_path: Path, tiny_cache: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"Cannot write {tmp_path}/file/runs/.*choose another folder"):
        run(make_run_config("adabn", TINY), Workspace(tmp_path / "file" / "runs", tiny_cache, CPU))


@pytest.mark.parametrize("what", ["checkpoint.safetensors", "record.json", "config.yaml"])
@pytest.mark.usefixtures("no_figures")
def test_a_disk_that_is_full_at_the_end_leaves_nothing_finished(
    what: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == what:
            raise OSError(28, "No space left on device")
        replace(source, target)

    config = make_run_config("adabn", TINY)
    folder = workspace.runs / config.hash
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match=r"Cannot write .*: No space left on device; free space"):
            run(config, workspace)
    assert not (folder / "record.json").exists() and not (folder / what).exists()
    assert [p.name for p in folder.rglob(".*")] == []
    assert run(config, workspace).result.miou > 0  # with space again, it goes on


@pytest.mark.usefixtures("no_figures")
def test_a_damaged_source_model_is_trained_again(workspace: Workspace, tiny_cache: Path, tmp_path: Path) -> None:
    cache = shutil.copytree(tiny_cache, tmp_path / "cache")
    own_workspace = Workspace(tmp_path / "own", cache, CPU)
    before = run(make_run_config("adabn", TINY), own_workspace)
    path = cache / "sources" / f"{before.source_model}.safetensors"
    content = path.read_bytes()
    for damaged in (content[:1000], b"", b"text", content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]):
        path.write_bytes(damaged)
        after = run(make_run_config("adabn", TINY), dataclasses.replace(own_workspace, force=True))
        assert path.read_bytes() == content and after.result == before.result


# Policies -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("policy", ["target", "source"])
def test_the_batch_norm_policy(policy: str, shift_file: Callable[..., str], workspace: Workspace) -> None:
    shift = shift_file({"adaptation.batch_norm": policy})
    statistics = "encoder.stem.0.1.running_mean"
    weights = {}
    for method in ("source_only", "adabn"):
        config = make_run_config(method, shift)
        run(config, workspace)
        weights[method] = load_file(workspace.runs / config.hash / "checkpoint.safetensors")
    assert torch.equal(weights["source_only"][statistics], weights["adabn"][statistics]) == (policy == "source")
    for name, value in weights["source_only"].items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(value, weights["adabn"][name]), name


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("policy", ["target", "source"])
def test_restart_is_called_once_before_the_first_step_with_the_policys_statistics(
    policy: str, shift_file: Callable[..., str], fake_method: Callable[..., str], workspace: Workspace
) -> None:
    body = """
    calls = []
    def restart(self):
        self.calls.append(self.segmenter.encoder.stem[0][1].running_mean.clone())
"""
    name = fake_method(losses="self.calls.append(step)", more=body)
    record = run(make_run_config(name, shift_file({"adaptation.batch_norm": policy})), workspace)
    first, *steps = adapt.method_class(name).calls
    assert steps == [0, 1, 2, 3, 4, 5]
    source = load_file(workspace.cache / "sources" / f"{record.source_model}.safetensors")
    assert torch.equal(first, source["encoder.stem.0.1.running_mean"]) == (policy == "source")


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("method", "frames"), [("stpl", 3), ("tps", 4), ("vat_vst", 3)])
def test_longer_clips(method: str, frames: int, workspace: Workspace) -> None:
    """A source model, clips and weights of their own; the same last frames, so the same validation labels."""
    config = make_run_config(method, TINY, options={"frames": frames})
    plain = make_run_config(method, TINY)
    assert config.hash != plain.hash and config.protocol.data.frames == frames
    assert make_run_config(method, TINY, options={"frames": 2}) == plain and alterations(config) == (
        f"frames={frames}",
    )
    record = run(config, workspace)
    assert 0 <= record.result.miou <= 100 and record.result.temporal_consistency is not None
    weights = load_file(workspace.runs / config.hash / "checkpoint.safetensors")
    assert weights["fusion.mix.weight"].shape[1] == frames * 96
    assert (
        finished_run(f"{method}:frames={frames}", TINY, 0, workspace.runs).model(workspace).fusion.num_frames == frames
    )


@pytest.mark.parametrize("method", ["tps", "da_vsn", "stpl", "ur"])
def test_a_record_says_which_ingredients_its_run_had(method: str, workspace: Workspace) -> None:
    """Score fusion in the network where the paper has it, so another source model; the losses see scores before it."""
    record = run(make_run_config(method, TINY, options={"ingredients": "published"}), workspace)
    fusion = {"tps": "accel_warp", "da_vsn": "accel_splat", "stpl": "conv1x1", "ur": "none"}[method]
    start = {"flow": "exact", "averages": "none", "start": "source, target statistics"}
    assert record.ingredients == {"set": "published", "fusion": fusion, **start}
    weights = load_file(workspace.runs / record.run / "checkpoint.safetensors")
    assert ("score_fusion.mix.weight" in weights) == fusion.startswith("accel")


def test_the_readout_decides_whose_weights_are_scored(shift_file: Callable[..., str], workspace: Workspace) -> None:
    scored = {}
    for readout in ("student", "teacher"):
        config = make_run_config("self_training", shift_file({"evaluation.readout": readout}))
        run(config, workspace)
        scored[readout] = load_file(workspace.runs / config.hash / "checkpoint.safetensors")
    name = "encoder.stem.0.0.weight"
    assert not torch.equal(scored["student"][name], scored["teacher"][name])


@pytest.mark.usefixtures("no_figures")
def test_the_oracle_starts_from_scratch_with_the_source_schedule(workspace: Workspace) -> None:
    record = run(make_run_config("oracle", TINY), workspace)
    assert record.source_model is None and record.cost.steps == load_shift(TINY).source_training.steps
