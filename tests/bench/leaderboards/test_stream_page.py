"""Streams on the leaderboard: submitted from what was predicted, verified, and on a page of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.core.errors import RunError
from bench.core.workspace import Workspace
from bench.leaderboards import page, stream_page
from bench.leaderboards.standings import Committed, read_committed
from bench.leaderboards.submit import submit_runs
from bench.leaderboards.verify import verify_record
from bench.runs.config import make_run_config
from bench.runs.finished import find_record
from bench.runs.records import Record
from bench.runs.run import run

from .conftest import REVISION, SOURCE, register
from .made import make_record, row, table

SHIFT = "tiny-reported"


@pytest.fixture(scope="module")
def stream_runs(reported: Path, tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs folder with streams of source_only and tent; not to be changed."""
    runs = tmp_path_factory.mktemp("streams")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        register(patch, reported)
        patch.setattr("bench.runs.run._draw", lambda *_: None)
        patch.setattr("bench.runs.run.code", lambda: {"revision": REVISION, "dirty": False, "source": SOURCE})
        for method in ("source_only", "tent"):
            config = make_run_config(method, SHIFT, mode="stream")
            run(config, Workspace(runs, tiny_cache, torch.device("cpu"), unboxed=True))
            (runs / method).symlink_to(runs / config.hash)
    return runs


@pytest.fixture
def known(reported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, reported)
    monkeypatch.setattr("bench.leaderboards.evidence.source_at", {REVISION: SOURCE}.get)


@pytest.mark.usefixtures("known", "no_figures")
def test_from_a_run_to_its_own_page(stream_runs: Path, tmp_path: Path, tiny_cache: Path) -> None:
    root = tmp_path / "boards"
    submitted = submit_runs([stream_runs / "source_only", stream_runs / "tent"], root, tiny_cache)
    assert {submission.record.parent for submission in submitted} == {root / "streams" / SHIFT} and not (
        root / "records"
    ).exists()
    tent = submitted[1].record
    assert find_record(json.loads(tent.read_text())["run"], tmp_path, root) == tent
    written = page.write(root)
    text = (root / f"{SHIFT}-stream.md").read_text(encoding="utf-8")
    assert root / "figures" / f"{SHIFT}-stream.png" in written and not (root / f"{SHIFT}.md").exists()
    assert [r["design"] for r in table(text, "Results")] == ["image", "–"] and page.check(root) == []
    report = verify_record(tent, tiny_cache, "cpu")
    assert (report.verdict, report.failed()) == ("identical", False)

    wrong = root / "records" / SHIFT / tent.name
    wrong.parent.mkdir(parents=True)
    shutil.copy(tent, wrong)
    with pytest.raises(RunError, match=rf"mode stream; move it to streams/{SHIFT}$"):
        read_committed(root, SHIFT)
    shutil.rmtree(wrong.parent)
    shutil.rmtree(root / "streams")
    assert page.check(root) == [root / f"{SHIFT}-stream.md"]  # of nothing


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "online" / "000002.png").unlink(), "has other online predictions than its record says"),
        (lambda folder: _swap(folder / "online", "000001.png", "000002.png"), "has other online predictions"),
        (lambda folder: _edit(folder, cost={"frames": 3}), r"selection\.snapshots are of steps 4; this protocol keeps 3"),
        (lambda folder: _edit(folder, cost={"seconds_per_frame": 0.0001}), r"cost\.seconds_per_frame is 0\.0001"),
        (lambda folder: _edit(folder, protocol="offline"), "protocol is offline, but its config asks for stream"),
    ],
)  # fmt: skip
def test_a_stream_that_is_not_what_it_says_is_refused(
    spoil: Any, says: str, stream_runs: Path, tmp_path: Path, tiny_cache: Path
) -> None:
    origin = (stream_runs / "tent").resolve()
    folder = shutil.copytree(origin, tmp_path / origin.name)
    spoil(folder)
    with pytest.raises(RunError, match=says):
        submit_runs([folder], tmp_path / "boards", tiny_cache)


def _swap(folder: Path, first: str, second: str) -> None:
    (folder / first).rename(folder / "x")
    (folder / second).rename(folder / first)
    (folder / "x").rename(folder / second)


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "record.json"
    fields = json.loads(path.read_text())
    for name, value in changes.items():
        fields[name] = fields[name] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(fields))


def streamed(method: str, seed: int, miou: float, seconds: float, **options: Any) -> Record:
    """A record of a stream, 100 frames."""
    record = make_record(method, seed, miou)
    config = make_run_config(method, "ministreet", seed, options, mode="stream")
    cost = {"frames": 100, "seconds_per_frame": 2 * seconds, "cpu_seconds_per_frame": seconds, "seconds": 200 * seconds}
    fields = json.loads(record.to_json()) | {
        "run": config.hash,
        "config": config.model_dump(mode="json"),
        "protocol": "stream",
    }
    return Record.model_validate(fields | {"cost": fields["cost"] | cost})


def test_times_of_frames_are_of_processors_where_there_are_such(tmp_path: Path) -> None:
    card = {"cpu": "A CPU", "cores": 2, "threads": 2, "device": "cuda", "gpu": "A card", "system": "Linux"}
    own = [streamed(method, 0, 30.0, 0.01) for method in ("source_only", "stpl")]
    of_card = [streamed("stpl", 1, 30.0, 9.0), streamed("stpl", 2, 30.0, 9.0), streamed("hcl", 0, 30.0, 9.0)]
    records = [*own, *(record.model_copy(update={"hardware": card}) for record in of_card)]
    rows = table(stream_page.page(tmp_path, "ministreet", Committed(records, {})).text, "Results")
    times = [[row(rows, name)[column] for column in ("s/frame", "×", "wall s/frame")] for name in ("STPL", "HCL")]
    assert times == [["0.010", "1.00", "0.020"], ["–"] * 3] and row(rows, "STPL")["n"] == "3"


def test_rows_intervals_and_times(tmp_path: Path) -> None:
    """Three replicates: mean 32 ± t(0.975, 2) 2/sqrt(3) = 4.97; a frame takes four times that of source-only."""
    scores = {"source_only": (30.0, 32.0, 34.0), "stpl": (33.0, 36.0, 39.0)}
    records = [
        streamed(method, seed, x, 0.01 if method == "source_only" else 0.04)
        for method, values in scores.items()
        for seed, x in enumerate(values)
    ]
    records.append(streamed("stpl", 0, 20.0, 0.04, temperature=0.2))
    generated = stream_page.page(tmp_path, "ministreet", Committed(records, {}))
    rows = table(generated.text, "Results")
    stpl, floor = row(rows, "STPL"), row(rows, "Source only")
    assert (floor["online mIoU, %"], floor["gain"], floor["×"], floor["s/frame"]) == (
        "32.0 ± 5.0",
        "–",
        "1.00",
        "0.010",
    )
    assert (stpl["online mIoU, %"], stpl["gain"], stpl["×"]) == ("36.0 ± 7.5", "+4.0 ± 2.5", "4.00")
    assert (stpl["wall s/frame"], stpl["n"]) == ("0.080", "3")
    (control,) = table(generated.text, "Reset, controls and ablations")
    assert (control["changed options"], control["difference"]) == ("`temperature=0.2`", "-13.00")
    assert "100 clips per replicate" in generated.text and "protocol=stream" not in generated.text
    (drawing,) = generated.drawings
    assert (
        drawing.data[1][0][3:] == [{0: 33.0, 1: 36.0, 2: 39.0}, 0.04] and drawing.path.name == "ministreet-stream.png"
    )
