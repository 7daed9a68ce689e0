"""TensorBoard beside a run: it holds what the log holds, changes nothing, goes on with the run, and sees no label."""

from __future__ import annotations

import builtins
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import AccessError, UsageError
from bench.core.workspace import Workspace
from bench.data.rendered import ClipStore, prepare_split
from bench.runs.config import load_shift, make_run_config
from bench.runs.run import run
from bench.runs.training import Trainer, poly
from bench.runs.watching import LOGS, TensorBoard, Unwatched, evaluating, pictures

TINY = "ministreet-tiny"
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("no_figures")


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder / LOGS), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder: Path, tag: str) -> dict[int, float]:
    entries = events(folder).Scalars(tag)
    assert len({event.step for event in entries}) == len(entries)  # no step twice
    return {event.step: event.value for event in entries}


def watch(runs: Path, cache: Path, method: str = "self_training", unboxed: bool = False) -> Path:
    """A run with a log; its folder."""
    observer = TensorBoard()
    config = make_run_config(method, TINY)
    try:
        run(config, Workspace(runs, cache, CPU, observer=observer, unboxed=unboxed))
    finally:
        observer.close()
    return runs / config.hash


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_holds_losses_rates_and_pictures(tmp_path: Path, tiny_cache: Path) -> None:
    folder = watch(tmp_path, tiny_cache)
    log, schedule = logged(folder), load_shift(TINY).adaptation
    assert len(log) == schedule.steps
    for name in log[0].keys() - {"step"}:
        assert scalars(folder, f"loss/{name}") == {int(row["step"]): pytest.approx(row[name], rel=1e-6) for row in log}
    for group, factor in (("encoder", 1), ("heads", schedule.head_multiplier)):
        expected = {k: schedule.lr * factor * poly(k, schedule.steps, schedule.power) for k in range(schedule.steps)}
        assert scalars(folder, f"lr/segmenter/{group}") == pytest.approx(expected, rel=1e-6)
    assert all(0 < seconds < 60 for seconds in scalars(folder, "time/seconds per step").values())
    accumulator = events(folder)
    tags = accumulator.Tags()["images"]
    assert tags == ["target/00000", "target/00001"]  # the first batch of target training clips
    shift = load_shift(TINY)
    clips = ClipStore(prepare_split(shift.data, "target", "train", 0, tiny_cache))
    for number, tag in enumerate(tags):
        shown = accumulator.Images(tag)
        assert [event.step for event in shown] == list(range(schedule.steps))
        picture = np.array(Image.open(io.BytesIO(shown[-1].encoded_image_string)))
        assert picture.shape == (64, 256, 3) and (picture[:, :128] == clips[number].frames[-1].transpose(1, 2, 0)).all()


@pytest.mark.parametrize("method", ["stpl", "vat_vst_sf"])
def test_it_changes_no_number(method: str, tmp_path: Path, tiny_cache: Path) -> None:
    """The same bits in weights, log and record as without; a method with a teacher and one in rounds."""
    config = make_run_config(method, TINY)
    run(config, Workspace(tmp_path / "plain", tiny_cache, CPU))
    watched, plain = watch(tmp_path / "watched", tiny_cache, method), tmp_path / "plain" / config.hash
    assert watched.name == plain.name and (watched / LOGS).is_dir() and not (plain / LOGS).exists()
    for name in ("checkpoint.safetensors", "metrics.jsonl", "config.yaml"):
        assert (watched / name).read_bytes() == (plain / name).read_bytes()
    records = [json.loads((folder / "record.json").read_text()) for folder in (watched, plain)]
    for record in records:
        record.pop("cost")
    assert records[0] == records[1]


def test_it_removes_its_own_log_alone(tmp_path: Path) -> None:
    """A run that starts anew leaves what else lies in the folder of its log."""
    (tmp_path / LOGS).mkdir()
    for name in ("events.out.tfevents.1.host", "notes.txt"):
        (tmp_path / LOGS / name).write_text("old")
    observer = TensorBoard()
    observer.start(tmp_path, 0, 2, torch.nn.Identity(), [])  # type: ignore[arg-type]
    observer.close()
    remaining = sorted(p.name for p in (tmp_path / LOGS).iterdir())
    assert "notes.txt" in remaining and "events.out.tfevents.1.host" not in remaining and len(remaining) == 2


def test_its_time_is_not_the_methods_cost(tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only the observer moves forward, the method takes no time."""
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0])
    monkeypatch.setattr("bench.runs.training.time", clock)

    class Slow(Unwatched):
        def step(self, *_: Any) -> None:
            now[0] += 10

    record = run(make_run_config("self_training", TINY), Workspace(tmp_path, tiny_cache, CPU, observer=Slow()))
    assert now[0] == 60 and (record.cost.seconds, record.cost.cpu_seconds) == (0, 0)


def test_a_run_that_goes_on_goes_on_in_its_log(
    tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in step 5 with a state after step 4: what was logged of step 4 is replaced, and nothing stands twice."""
    monkeypatch.setattr("bench.runs.training.STATE_EVERY", 4)
    original = Trainer.step

    def deadly(self: Trainer, step: int, *arguments: Any) -> Any:
        if step == 5 and LOGS not in str(self.folder) and "sources" not in str(self.folder):
            raise KeyboardInterrupt
        return original(self, step, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", deadly)
        with pytest.raises(KeyboardInterrupt):
            watch(tmp_path, tiny_cache, unboxed=True)
    folder = tmp_path / make_run_config("self_training", TINY).hash
    assert list(scalars(folder, "loss/ce")) == [0, 1, 2, 3, 4]
    watch(tmp_path, tiny_cache)
    assert len(list((folder / LOGS).iterdir())) == 2
    assert scalars(folder, "loss/ce") == {k: pytest.approx(row["ce"], rel=1e-6) for k, row in enumerate(logged(folder))}
    assert [event.step for event in events(folder).Images("target/00000")] == [0, 1, 2, 3, 4, 5]


def test_a_log_that_goes_on_within_the_second_is_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tenth log of a process would be read before its ninth: ``.10`` stands before ``.9``."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(9))
    for first, end in ((0, 5), (4, 6)):
        observer = TensorBoard()
        observer.start(tmp_path, first, 6, torch.nn.Identity(), [])  # type: ignore[arg-type]
        for step in range(first, end):
            observer.step(step, {"loss/ce": float(step)})
        observer.close()
    assert scalars(tmp_path, "loss/ce") == {step: step for step in range(6)}


def test_a_run_that_starts_anew_starts_a_new_log(
    tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / make_run_config("self_training", TINY).hash / LOGS / "events.out.tfevents.1.old.1.0"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of a run that was killed before it had a state")
    watch(tmp_path, tiny_cache)
    assert not stale.exists() and len(list(stale.parent.iterdir())) == 1


def test_an_observer_is_handed_no_label(tmp_path: Path, tiny_cache: Path) -> None:
    received: dict[str, Any] = {}
    clips = ClipStore(prepare_split(load_shift(TINY).data, "target", "train", 0, tiny_cache))

    class Nosy(Unwatched):
        def start(self, folder: Path, first: int, steps: int, segmenter: Any, clips: Any) -> None:
            received.update(first=first, steps=steps, batches=list(clips))

        def step(self, *_: Any) -> None:
            with pytest.raises(AccessError, match=r"label\.npy is closed"):
                clips.labels()
            received["tried"] = True

    run(make_run_config("self_training", TINY), Workspace(tmp_path, tiny_cache, CPU, observer=Nosy()))
    assert (received["first"], received["steps"], received["tried"]) == (0, 6, True)
    assert len(received["batches"]) == 4 and not any(hasattr(batch, "label") for batch in received["batches"])
    run(make_run_config("oracle", TINY), Workspace(tmp_path, tiny_cache, CPU, observer=Unlabelled()))


class Unlabelled(Unwatched):
    """The oracle learns from labels, but what it shows has none."""

    def start(self, folder: Path, first: int, steps: int, segmenter: Any, clips: Any) -> None:
        assert not any(hasattr(batch, "label") for batch in clips)


def test_pictures_leave_every_module_in_its_mode() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Dropout()).train()
    module[1].eval()
    with pytest.raises(RuntimeError, match="inside"), evaluating(module):
        assert not any(part.training for part in module.modules())
        raise RuntimeError("inside")
    assert module.training and module[0].training and not module[1].training
    assert pictures(module, []) == []  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["run", "--shift", TINY, "--runs", str(tmp_path), "--cache", str(tiny_cache), "--tensorboard", "-m"]
    result = CliRunner().invoke(cli.app, [*arguments, "self_training", "--json"])
    assert result.exit_code == 0 and "no TensorBoard log" not in result.stderr
    folder = tmp_path / json.loads(result.stdout)["run"]
    assert folder.name == make_run_config("self_training", TINY).hash and len(scalars(folder, "loss/ce")) == 6
    result = CliRunner().invoke(cli.app, [*arguments, "source_only"])
    assert result.exit_code == 0 and "no TensorBoard log: the run was finished before" in result.stderr
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith(("torch.utils.tensorboard", "tensorboard")):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="--tensorboard needs tensorboard: pip install tensorboard"):
        TensorBoard()
