"""``kill -9`` at any moment, run again: the same weights bit for bit, the same record.

The child processes are forked from a server that has imported the harness once. Each kills itself with SIGKILL at an exact
moment; nothing can be tidied up after that, as when a node dies.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from bench.core.registry import ROOT
from bench.core.workspace import Workspace
from bench.data import rendered as store
from bench.networks.weights import load_tensors
from bench.runs import run as adapt
from bench.runs import source, streaming, training
from bench.runs.config import RunConfig, make_run_config
from tests.faults.kill_points import PROCESSES

EVERY = 4
"""Steps between two states: 13 steps leave some undone at any kill."""
BOXED = "beside a box"
"""The method adapts in its box, and the process that waits for it is killed."""


def die_at(moment: str) -> None:
    """Arrange for this process to be killed at a moment."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_on(owner: Any, name: str, condition: Callable[..., bool], half_written: bool = False) -> None:
        original = getattr(owner, name)

        def deadly(*args: Any, **kwargs: Any) -> Any:
            if condition(*args, **kwargs):
                if half_written:  # the scratch file is there and is not whole
                    os.truncate(args[0], os.path.getsize(args[0]) // 2)
                die()
            return original(*args, **kwargs)

        setattr(owner, name, deadly)

    count = iter(range(10_000))
    if moment == "third clip":
        kill_on(store, "_render_one", lambda job: next(count) == 2)
    elif moment.startswith("source step"):
        kill_on(source.Trainer, "step", lambda self, step, *_: step == int(moment.split()[-1]))
    elif moment == "source model half written":
        kill_on(os, "replace", lambda _, to: Path(to).parent.name == "sources", half_written=True)
    elif moment.startswith("adaptation step"):
        fatal_step = int(moment.split()[-1])
        kill_on(
            training.Trainer, "step", lambda self, step, *_: "sources" not in str(self.folder) and step == fatal_step
        )
    elif moment == "state half written":

        def second_state(_: Any, to: Path) -> bool:
            return Path(to).name == "state.safetensors" and "sources" not in str(to) and next(count) == 1

        kill_on(os, "replace", second_state, half_written=True)
    elif moment == "snapshot half written":
        kill_on(os, "replace", lambda _, to: Path(to).name == "snapshot-000009.safetensors", half_written=True)
    elif moment == "log half written":
        original = training.Log.add

        def half(self: training.Log, entry: Mapping[str, float]) -> None:
            if "sources" not in str(self.path) and entry["step"] == 10:
                with self.path.open("a") as log:
                    log.write('{"step": 10, "ce')
                die()
            original(self, entry)

        training.Log.add = half  # type: ignore[method-assign]
    elif moment == "prediction half written":
        kill_on(os, "replace", lambda _, to: Path(to).name == "000006.png", half_written=True)
    elif moment == BOXED:
        kill_on(training.Log, "add", lambda self, entry: "sources" not in str(self.path) and entry["step"] == 7)
    elif moment == "second evaluation":
        kill_on(adapt, "protocol_scores", lambda *_: next(count) == 1)
    elif moment == "record half written":
        kill_on(os, "replace", lambda _, to: Path(to).name == "record.json", half_written=True)
    elif moment == "after the record":
        kill_on(adapt, "tidy", lambda folder: (folder / "record.json").exists())
    else:
        raise AssertionError(moment)


def child(moment: str, method: str, shift: str, runs: Path, cache: Path) -> None:
    torch.set_num_threads(1)
    training.STATE_EVERY = streaming.STATE_EVERY = EVERY
    adapt._draw = lambda *_: None  # type: ignore[assignment]
    if moment:
        die_at(moment)
    config = config_of(method, shift)
    adapt.run(config, Workspace(runs, cache, torch.device("cpu"), unboxed=moment != BOXED))


def config_of(method: str, shift: str) -> RunConfig:
    """Of a method's name; ``hcl, stream`` is one of a stream."""
    name, _, mode = method.partition(", ")
    return make_run_config(name, shift, mode=mode or "offline")


def go(moment: str, *arguments: Any) -> None:
    """Run in a process that is killed at ``moment``, or undisturbed where it is empty."""
    process = PROCESSES.Process(target=child, args=(moment, *arguments))
    process.start()
    process.join(120)
    assert process.exitcode == (-signal.SIGKILL if moment else 0), f"{moment}: exit code {process.exitcode}"


@pytest.fixture(scope="module")
def shift(tmp_path_factory: pytest.TempPathFactory) -> str:
    fields = yaml.safe_load((ROOT / "shifts" / "ministreet-tiny.yaml").read_text(encoding="utf-8"))
    fields["adaptation"].update(steps=13)
    fields["source_training"].update(steps=13)
    fields["data"]["target"].update(val=13)
    path = tmp_path_factory.mktemp("shift") / "killed.yaml"
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return str(path)


def result_of(runs: Path, method: str, shift: str) -> tuple[bytes, dict[str, Any], list[str], Path]:
    """Weights, record without cost and date, log and folder of a finished run."""
    folder = runs / make_run_config(method, shift).hash
    record = json.loads((folder / "record.json").read_text())
    assert record.pop("cost")["steps"] == 13
    record.pop("date")
    return (
        (folder / "checkpoint.safetensors").read_bytes(),
        record,
        (folder / "metrics.jsonl").read_text().splitlines(),
        folder,
    )


def whole_files(folder: Path) -> None:
    """Everything that stands under a final name can be read, whenever the process died."""
    for path in folder.rglob("*.safetensors"):
        if not path.name.startswith("."):
            load_tensors(path)
    for path in folder.rglob("record.json"):
        json.loads(path.read_text())


@pytest.fixture(scope="module")
def undisturbed(shift: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    go("", "stpl", shift, folder / "runs", folder / "cache")
    return folder


CHAIN = (
    "third clip",
    "source step 6",
    "source model half written",
    "adaptation step 2",
    BOXED,
    "state half written",
    "snapshot half written",
    "log half written",
    "second evaluation",
    "record half written",
    "after the record",
)


def test_killed_eleven_times_on_the_way_it_ends_with_the_same_bits(
    shift: str, undisturbed: Path, tmp_path: Path
) -> None:
    runs, cache = tmp_path / "runs", tmp_path / "cache"
    for moment in CHAIN:
        go(moment, "stpl", shift, runs, cache)
        whole_files(tmp_path)
    go("", "stpl", shift, runs, cache)
    weights, record, log, _ = result_of(runs, "stpl", shift)
    expected = result_of(undisturbed / "runs", "stpl", shift)
    assert weights == expected[0]
    assert record == expected[1]
    assert log == expected[2] and len(log) == 13
    (model,) = (cache / "sources").glob("*.safetensors")
    (expected_model,) = (undisturbed / "cache" / "sources").glob("*.safetensors")
    assert load_tensors(model)[1] == load_tensors(expected_model)[1]
    assert model.read_bytes() == expected_model.read_bytes()


def test_a_state_is_resumed_and_not_trained_again(shift: str, undisturbed: Path, tmp_path: Path) -> None:
    """Of what was done before the kill, at most the steps since the last state are done again."""
    arguments = ("self_training", shift, tmp_path / "runs", undisturbed / "cache")
    go("adaptation step 10", *arguments)
    (folder,) = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    assert load_tensors(folder / "state" / "state.safetensors")[1]["step"] == 8
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 10
    go("adaptation step 8", *arguments)  # it does start with step 8, and dies there
    go("", *arguments)
    assert len(result_of(tmp_path / "runs", "self_training", shift)[2]) == 13


def test_a_killed_stream_ends_with_the_same_bits(undisturbed: Path, shift: str, tmp_path: Path) -> None:
    """13 clips: killed while a prediction is written, and beside a box."""
    method, cache = "hcl, stream", undisturbed / "cache"
    name = config_of(method, shift).hash
    go("", method, shift, tmp_path / "whole", cache)
    for moment in ("prediction half written", BOXED):
        go(moment, method, shift, tmp_path / "killed", cache)
    go("", method, shift, tmp_path / "killed", cache)
    complete, killed = tmp_path / "whole" / name, tmp_path / "killed" / name
    records = [json.loads((folder / "record.json").read_text()) for folder in (complete, killed)]
    for record in records:
        assert record.pop("cost")["frames"] == 13
        record.pop("date")
    assert records[0] == records[1]
    for file in (
        "checkpoint.safetensors",
        "metrics.jsonl",
        "sequences.csv",
        *(f"online/{n:06d}.png" for n in range(13)),
    ):
        assert (complete / file).read_bytes() == (killed / file).read_bytes(), file
    assert len(list((killed / "online").iterdir())) == 26
