"""Which files can be read in which stage of a run: stages, grants, loaders. Methods that try to cheat: test_cheats.py."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.core.access import RENDER_EVENT, guard, needed_grant, stage
from bench.core.errors import AccessError
from bench.core.workspace import Workspace
from bench.data.loaders import ClipLoader, LabelledLoader
from bench.data.rendered import ClipStore, prepare_split
from bench.flow.backends.exact import exact
from bench.runs import adaptation, training
from bench.runs.adaptation import GRANTS
from bench.runs.config import load_shift, make_run_config
from bench.runs.run import run
from methods.base import LabelledBatch

TINY = "ministreet-tiny"
pytestmark = pytest.mark.usefixtures("no_figures")


# The stage itself -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "grant"),
    [
        ("cache/clips/target-val-0123456789ab/label.npy", "target-val/label"),
        ("target-train-0123456789ab/labels-copy.npy", "target-train/label"),
        ("/c/source-train-0123456789ab/flow.npy", "source-train"),
        ("/c/source-train-0123456789ab/manifest.json", "source-train"),
        ("/c/source-train-0123456789ab", "source-train/label"),  # a handle of the folder leads to all of it
        ("cache/sources/0123456789ab.safetensors", None),
        ("runs/0123456789ab/metrics.jsonl", None),
        ("target-val.txt", None),
    ],
)
def test_the_grant_that_a_path_takes(path: str, grant: str | None) -> None:
    assert needed_grant(path) == grant


def opened(path: Any, mode: str = "rb") -> None:
    with open(path, mode):
        pass


READERS: dict[str, Callable[[Path], Any]] = {
    "np.load": lambda p: np.load(p),
    "np.load mapped": lambda p: np.load(p, mmap_mode="r"),
    "np.memmap": lambda p: np.memmap(p, mode="r"),
    "np.fromfile": lambda p: np.fromfile(p, np.uint8),
    "open": lambda p: opened(p),
    "os.open": lambda p: os.open(p, os.O_RDONLY),
    "pathlib": lambda p: p.read_bytes(),
    "bytes path": lambda p: opened(os.fsencode(p)),
    "dots": lambda p: opened(p.parent / ".." / p.parent.name / p.name),
    "shutil.copy": lambda p: shutil.copyfile(p, p.parent.parent / "copy.npy"),
    "os.link": lambda p: os.link(p, p.parent.parent / "link.npy"),
    "rename": lambda p: os.rename(p.parent, p.parent.parent / "other"),
    "write": lambda p: opened(p, "r+b"),
    "folder handle": lambda p: os.open(p.name, os.O_RDONLY, dir_fd=os.open(p.parent, os.O_RDONLY)),
}


@pytest.fixture
def private(splits: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the target's validation split that a reader may not touch."""
    return shutil.copytree(splits["target-val"], tmp_path / "clips" / splits["target-val"].name)


@pytest.mark.parametrize("how", READERS)
def test_every_way_to_a_closed_file_is_refused(how: str, private: Path) -> None:
    with stage("target-train", "target-train/label"), pytest.raises(AccessError, match=r"closed in this stage"):
        READERS[how](private / "label.npy")
    if how not in ("os.link", "rename"):
        READERS[how](private / "label.npy")  # outside of a stage it works: the refusal was the stage's doing


def test_links_and_another_folder_do_not_help(private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.symlink(private / "label.npy", tmp_path / "innocent.npy")
    os.symlink(private, tmp_path / "innocent")
    monkeypatch.chdir(private)
    with stage("target-val"):
        for path in (tmp_path / "innocent.npy", tmp_path / "innocent" / "label.npy", Path("label.npy")):
            with pytest.raises(AccessError, match=r"target-val/label|closed"):
                np.load(path)
        np.load("frames.npy")  # granted
        for move in (os.rename, os.link):
            with pytest.raises(AccessError):  # reading is granted, moving is not
                move(private / "frames.npy", tmp_path / "frames.npy")


def test_a_thread_is_refused_too(private: Path) -> None:
    caught: list[BaseException] = []

    def read() -> None:
        try:
            np.load(private / "frames.npy")
        except BaseException as error:
            caught.append(error)

    with stage("target-train"):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert [type(e) for e in caught] == [AccessError]


def test_a_nested_stage_only_narrows_and_the_outer_one_comes_back(private: Path) -> None:
    with stage("target-val"):
        with stage("target-val", "target-val/label", "source-train"):
            np.load(private / "frames.npy")
            with pytest.raises(AccessError, match=r"open are: target-val$"):
                np.load(private / "label.npy")
        with pytest.raises(ZeroDivisionError), stage():
            _ = 1 / 0
        np.load(private / "frames.npy")
        with pytest.raises(AccessError):
            np.load(private / "label.npy")
    np.load(private / "label.npy")


@pytest.mark.parametrize("start", ["import subprocess; subprocess.run(['true'])", "import os; os.system('true')"])
def test_no_process_is_started_where_it_could_read(start: str) -> None:
    with stage("target-train"), stage(processes=True), pytest.raises(AccessError, match="No process can be started"):
        exec(start)
    with stage("target-val", "target-val/label", processes=True):
        exec(start)


def test_nothing_is_rendered_in_a_stage(tiny_cache: Path, tmp_path: Path) -> None:
    from bench.data.ministreet import render_clip

    with stage("target-train"):
        with pytest.raises(AccessError, match="Rendering is closed"):
            sys.audit(RENDER_EVENT)
        with pytest.raises(AccessError, match="Rendering is closed"):
            render_clip("cam", 0, 0, 32, 64)
        with pytest.raises(AccessError, match="Rendering is closed"):  # another replicate of a granted split
            prepare_split(load_shift(TINY).data, "target", "train", 77, tmp_path)
    assert list((tmp_path / "clips").glob("*train*[0-9a-f]")) == []


def test_large_splits_are_rendered_in_other_processes_but_not_from_a_stage(tmp_path: Path) -> None:
    data = load_shift(TINY).data
    large = data.model_copy(update={"target": data.target.model_copy(update={"train": 40})})
    with stage("target-train"), pytest.raises(AccessError, match="Rendering is closed"):
        prepare_split(large, "target", "train", 0, tmp_path, workers=2)


# Grants ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", sorted(GRANTS))
def test_a_setting_opens_what_grants_says_and_no_more(setting: str, splits: dict[str, Path]) -> None:
    expected = {
        "none": {"target-train"},
        "SFDA": {"target-train"},
        "UDA": {"target-train", "source-train", "source-train/label"},
        "oracle": {"target-train", "target-train/label"},
    }[setting]
    opened = set()
    with stage(*GRANTS[setting]):
        for name, folder in splits.items():
            for grant, file in ((name, "frames.npy"), (f"{name}/label", "label.npy")):
                try:
                    np.load(folder / file, mmap_mode="r")
                    opened.add(grant)
                except AccessError:
                    pass
    assert opened == expected


@pytest.mark.parametrize("setting", ["SFDA", "UDA", "oracle"])
def test_what_a_method_is_handed(setting: str, fake_method: Callable[..., str], workspace: Workspace) -> None:
    losses = "type(self).seen.append((target, source))"
    name = fake_method(losses=losses, setting=setting, more="    seen = []\n")
    run(make_run_config(name, TINY), workspace)
    batches = sys.modules[f"methods.{name}"].METHOD.seen  # type: ignore[attr-defined]
    assert len(batches) == load_shift(TINY).adaptation.steps
    for target, source in batches:
        assert isinstance(target, LabelledBatch) == (setting == "oracle")
        assert all(key.startswith("target-train-") for key in target.keys)
        assert (source is not None) == (setting == "UDA")
        if source is not None:
            assert isinstance(source, LabelledBatch)
            assert all(key.startswith("source-train-") for key in source.keys)
    if setting != "oracle":
        assert {f.name for f in dataclasses.fields(batches[0][0])} == {"frames", "flow", "valid", "keys"}


@pytest.fixture
def own_cache(tiny_cache: Path, tmp_path: Path, splits: dict[str, Path]) -> Path:
    """A copy of the cache that a test may spoil, with the source model of replicate 0 in it."""
    run(make_run_config("adabn", TINY), Workspace(tmp_path / "first", tiny_cache, torch.device("cpu"), unboxed=True))
    return shutil.copytree(tiny_cache, tmp_path / "own cache")


@pytest.mark.parametrize("state", ["deleted", "garbage", "a file", "unreadable"])
def test_source_free_means_without_the_source_folder(state: str, own_cache: Path, tmp_path: Path) -> None:
    for folder in own_cache.glob("clips/source-*[0-9a-f]"):
        if state == "unreadable":  # for everybody but root, who runs the suite in some places
            folder.chmod(0)
            continue
        shutil.rmtree(folder)
        if state == "garbage":
            folder.mkdir()
            (folder / "frames.npy").write_bytes(b"not an array")
        elif state == "a file":
            folder.write_text("in the way")
    config = make_run_config("stpl" if state == "deleted" else "adabn", TINY)
    try:
        record = run(config, Workspace(tmp_path / "runs", own_cache, torch.device("cpu"), unboxed=True))
    finally:
        for folder in own_cache.glob("clips/source-*[0-9a-f]"):
            folder.chmod(0o755)
    assert record.result.miou > 0 and record.source_model


def test_a_source_free_run_never_constructs_the_source_data(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constructed: list[str] = []
    original = ClipStore.__init__

    def spy(self: ClipStore, folder: Path) -> None:
        constructed.append(folder.name.rsplit("-", 1)[0])
        original(self, folder)

    monkeypatch.setattr(ClipStore, "__init__", spy)
    run(
        make_run_config("self_training", TINY),
        Workspace(tmp_path / "runs", own_cache, torch.device("cpu"), unboxed=True),
    )
    assert constructed == ["target-train", "target-val"]
    constructed.clear()
    for path in own_cache.glob("sources/*.safetensors"):
        path.unlink()
    run(
        make_run_config("source_only", TINY), Workspace(tmp_path / "runs", own_cache, torch.device("cpu"), unboxed=True)
    )
    assert constructed == ["source-train", "target-train", "target-val"]  # the spy does see it when it happens


def test_validation_data_is_opened_only_after_adaptation(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    load, fit, ready = np.load, training.Trainer.fit, adaptation.save_tensors

    def spy_load(path: Any, *args: Any, **kwargs: Any) -> Any:
        events.append("/".join(Path(path).parts[-2:]))
        return load(path, *args, **kwargs)

    def spy_fit(self: Any, *args: Any) -> Any:
        events.append("fit")
        return fit(self, *args)

    def spy_ready(path: Path, *args: Any) -> None:
        events.append("weights are final")
        ready(path, *args)

    config = make_run_config("self_training", TINY)
    run(make_run_config("adabn", TINY), workspace)  # so that everything is cached
    monkeypatch.setattr(np, "load", spy_load)
    monkeypatch.setattr(training.Trainer, "fit", spy_fit)
    monkeypatch.setattr(adaptation, "save_tensors", spy_ready)
    run(config, workspace)
    final = max(i for i, event in enumerate(events) if event == "weights are final")
    val = [i for i, event in enumerate(events) if event.startswith("target-val")]
    labels = [event for event in events if event.endswith("label.npy")]
    assert events.index("fit") < final < min(val)
    assert len(labels) >= 1 and all(event.startswith("target-val") for event in labels)


def test_all_weights_are_final_before_a_label_is_seen(workspace: Workspace) -> None:
    """The checkpoint is the file that was written in the adaptation stage, bit for bit."""
    config = make_run_config("self_training", TINY)
    record = run(config, workspace)
    weights = load_file(workspace.runs / config.hash / "checkpoint.safetensors")
    assert sum(v.numel() for k, v in weights.items() if "running" not in k and "num_batches" not in k) == (
        record.cost.parameters
    )


# Loaders --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(splits: dict[str, Path]) -> Iterator[ClipStore]:
    yield ClipStore(splits["target-train"])


def test_an_unlabelled_batch_has_no_label_and_a_labelled_loader_is_refused(store: ClipStore) -> None:
    with stage("target-train"):
        batch = ClipLoader(store, exact, 2, 0)(0)
        assert not hasattr(batch, "label")
        with pytest.raises(AccessError, match=r"label\.npy"):
            LabelledLoader(store, exact, 2, 0)
    with stage("target-train", "target-train/label"):
        assert LabelledLoader(store, exact, 2, 0)(0).label.shape == (2, 64, 128)


def test_figures_of_finished_runs_are_closed_to_methods(tmp_path: Path) -> None:
    """They show validation labels."""
    figure = tmp_path / "0123456789ab" / "figures" / "clip-00000.png"
    figure.parent.mkdir(parents=True)
    figure.write_bytes(b"labels")
    with stage("target-train"), pytest.raises(AccessError, match="is closed in this stage"):
        figure.read_bytes()
    with stage("target-val", "target-val/label", "figures"):
        assert figure.read_bytes() == b"labels"


# Recorded data --------------------------------------------------------------------------------------------------------


def test_recorded_data_is_watched_where_it_lies(tmp_path: Path) -> None:
    for folder in ("frames/train", "frames/val", "truth/train", "elsewhere"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        (tmp_path / "set" / folder / "0.png").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "set" / "truth", target_is_directory=True)
    guard(tmp_path / "set", "target", {"frames/train": "train", "frames/val": "val", "truth/train": "train/label"})

    def readable(name: str) -> bool:
        try:
            return (tmp_path / name).read_bytes() == b"x"
        except AccessError:
            return False

    names = ("set/frames/train/0.png", "set/frames/val/0.png", "set/truth/train/0.png", "set/elsewhere/0.png")
    linked = "link/train/0.png"
    assert all(map(readable, (*names, linked)))  # outside every stage
    with stage("target-train"):
        assert [readable(name) for name in (*names, linked)] == [True, False, False, False, False]
    with stage("target-train", "target-train/label"):
        assert [readable(name) for name in (*names, linked)] == [True, False, True, False, True]
    with stage("target-val", "source-train"):
        assert [readable(name) for name in (*names, linked)] == [False, True, False, False, False]
        with pytest.raises(AccessError, match=r"train/0\.png is closed in this stage of a run"):
            (tmp_path / names[2]).read_bytes()
        with pytest.raises(AccessError):
            (tmp_path / names[1]).rename(tmp_path / "away.png")
