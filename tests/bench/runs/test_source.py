"""Source models: one file per everything they depend on, trained once, trained again when damaged."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.core.errors import RunError
from bench.core.provenance import environment
from bench.core.workspace import Workspace
from bench.networks.weights import load_into, load_tensors, save_tensors
from bench.runs import source
from bench.runs.config import load_shift, make_run_config
from bench.runs.source import fresh_segmenter, source_identity, source_model, supervision_of
from methods.base import Supervision

TINY = "ministreet-tiny"


@pytest.fixture
def own_workspace(tiny_cache: Path, tmp_path: Path) -> Workspace:
    """A cache of its own with the clips of the shared one and no source model."""
    source_model(make_run_config("adabn", TINY), load_shift(TINY), Workspace(tmp_path, tiny_cache))
    shutil.copytree(tiny_cache / "clips", tmp_path / "cache" / "clips")
    return Workspace(tmp_path / "runs", tmp_path / "cache", torch.device("cpu"))


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every call of the training loop."""
    calls: list[str] = []
    original = source.Trainer.fit

    def counted(self: Any, *args: Any) -> Any:
        calls.append(args[2])
        return original(self, *args)

    monkeypatch.setattr(source.Trainer, "fit", counted)
    return calls


def identity(method: str = "adabn", seed: int = 0, **options: Any) -> dict[str, Any]:
    return source_identity(make_run_config(method, TINY, seed, options), load_shift(TINY))


def test_methods_and_their_settings_share_a_model() -> None:
    assert identity("stpl", temperature=0.3, flow="zero") == identity("source_only")


def test_network_fusion_replicate_and_schedule_each_make_another(shift_file: Callable[..., str]) -> None:
    identities = [identity(), identity(fusion="none"), identity(seed=1)]
    for change in ({"source_training.lr": 0.01}, {"data.source.train": 9}, {"data.family": "x"}):
        shift = shift_file(change)
        identities.append(source_identity(make_run_config("adabn", shift), load_shift(shift)))
    assert all(a != b for i, a in enumerate(identities) for b in identities[i + 1 :])
    shift = shift_file({"adaptation.lr": 0.5, "data.target.train": 3, "evaluation.align_corners": True})
    assert source_identity(make_run_config("adabn", shift), load_shift(shift)) == identity()


def test_how_labels_teach_belongs_to_the_shift(shift_file: Callable[..., str]) -> None:
    """Each part of it makes another source model; said out loud, what MiniStreet does makes the same one as before."""
    usual = {"source_training.loss": "balanced", "source_training.mirror": True, "source_training.auxiliary": 0.1}
    shift = shift_file({**usual, "source_training.jitter": 0.0})
    assert source_identity(make_run_config("adabn", shift), load_shift(shift)) == identity()
    identities = [identity()]
    for change in ({"loss": "plain"}, {"mirror": False}, {"jitter": 0.4}, {"auxiliary": 0.5}):
        shift = shift_file({f"source_training.{key}": value for key, value in change.items()})
        identities.append(source_identity(make_run_config("adabn", shift), load_shift(shift)))
        supervision = supervision_of(load_shift(shift))
        assert all(getattr(supervision, key) == value for key, value in change.items())
    assert all(a != b for i, a in enumerate(identities) for b in identities[i + 1 :])
    for name in ("viper2cityscapes", "synthia2cityscapes"):
        assert supervision_of(load_shift(name)) == Supervision("plain", mirror=False, jitter=0.0, auxiliary=0.1)
    assert supervision_of(load_shift("ministreet")) == Supervision()


def test_it_is_trained_once_and_found_again(own_workspace: Workspace, trainings: list[str]) -> None:
    config, shift = make_run_config("adabn", TINY), load_shift(TINY)
    path = source_model(config, shift, own_workspace)
    first = path.read_bytes()
    assert source_model(config, shift, own_workspace) == path and trainings == ["train source"]
    metadata = load_tensors(path)[1]
    assert metadata == {"identity": identity(), "environments": [environment(own_workspace.device, 1)]}
    assert [p.name for p in path.parent.iterdir() if p.suffix != ".lock"] == [path.name]  # no state is left behind
    path.unlink()
    assert source_model(config, shift, own_workspace).read_bytes() == first  # and again to the same bits
    load_into(fresh_segmenter(config, shift, 0), path)


def test_threads_that_need_the_same_model_train_it_once(own_workspace: Workspace, trainings: list[str]) -> None:
    config, shift = make_run_config("adabn", TINY), load_shift(TINY)
    threads = [threading.Thread(target=source_model, args=(config, shift, own_workspace)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trainings == ["train source"]


def test_a_model_of_another_recipe_under_this_name_is_trained_again(
    own_workspace: Workspace, trainings: list[str]
) -> None:
    config, shift = make_run_config("adabn", TINY), load_shift(TINY)
    path = source_model(config, shift, own_workspace)
    tensors, _ = load_tensors(path)
    save_tensors(path, {k: torch.zeros_like(v) for k, v in tensors.items()}, {"identity": {"recipe": 0}})
    source_model(config, shift, own_workspace)
    assert trainings == ["train source"] * 2
    assert load_tensors(path)[0]["encoder.stem.0.0.weight"].any()


def test_an_interrupted_training_leaves_no_model_and_goes_on(
    own_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, shift = make_run_config("adabn", TINY), load_shift(TINY)
    path = source_model(config, shift, own_workspace)
    content = path.read_bytes()
    path.unlink()

    def stop(task: str, done: int, total: int) -> None:
        if task == "train source" and done == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr("bench.runs.training.STATE_EVERY", 3)
    with pytest.raises(KeyboardInterrupt):
        source_model(config, shift, Workspace(own_workspace.runs, own_workspace.cache, own_workspace.device, stop))
    assert not path.exists() and (path.with_suffix("") / "state" / "state.safetensors").is_file()
    steps: list[int] = []
    resumed = Workspace(
        own_workspace.runs, own_workspace.cache, own_workspace.device, lambda task, done, total: steps.append(done)
    )
    assert source_model(config, shift, resumed).read_bytes() == content
    assert steps == list(range(7, 13))


def test_training_opens_the_source_alone(own_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, ...]] = []
    original = source.stage

    def spy(*grants: str, processes: bool = False) -> Any:
        assert not processes
        opened.append(grants)
        return original(*grants)

    monkeypatch.setattr(source, "stage", spy)
    source_model(make_run_config("adabn", TINY), load_shift(TINY), own_workspace)
    assert opened == [("source-train", "source-train/label")]


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"Cannot write {tmp_path}/file/cache/sources/"):
        source_model(make_run_config("adabn", TINY), load_shift(TINY), Workspace(tmp_path, tmp_path / "file" / "cache"))


def test_a_fresh_network_depends_on_its_seed_alone() -> None:
    config, shift = make_run_config("adabn", TINY), load_shift(TINY)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fresh_segmenter(config, shift, 5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second, third = fresh_segmenter(config, shift, 5).state_dict(), fresh_segmenter(config, shift, 6).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["encoder.stem.0.0.weight"], third["encoder.stem.0.0.weight"])
