"""``bench verify``: a second run against its record; the verdict depends on the environment that the record names."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import RunError
from bench.core.workspace import Workspace
from bench.leaderboards.verify import ELSEWHERE, compare, report_text, verify_record
from bench.runs.config import make_run_config
from bench.runs.records import TOLERANCE, Record, read_record
from bench.runs.run import run

TINY = "ministreet-tiny"


@pytest.fixture(scope="module")
def record_file(tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of a finished run of a method that trains."""
    runs = tmp_path_factory.mktemp("runs")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run._draw", lambda *_: None)
        config = make_run_config("self_training", TINY)
        run(config, Workspace(runs, tiny_cache, torch.device("cpu")))
    return runs / config.hash / "record.json"


@pytest.fixture
def record(record_file: Path) -> Record:
    return read_record(record_file)


def changed(record: Record, **fields: Any) -> Record:
    """The record with parts of its dictionaries replaced."""
    raw = json.loads(record.to_json())
    return Record.model_validate(raw | {name: raw[name] | changes for name, changes in fields.items()})


@pytest.mark.usefixtures("no_figures")
def test_a_run_is_repeated_to_the_last_bit(record_file: Path, tiny_cache: Path) -> None:
    before = sorted(record_file.parents[1].rglob("*"))
    report = verify_record(record_file, tiny_cache, "cpu")
    assert report.verdict == "identical" and report.same_environment and not report.failed(strict=True)
    assert {"mIoU", "IoU road", "mIoU at step 2"} <= report.scores.keys() and report.environment == {}
    assert sorted(record_file.parents[1].rglob("*")) == before  # the run's own folder is not touched


@pytest.mark.usefixtures("no_figures")
def test_an_edited_record_fails_the_command(record: Record, tmp_path: Path, tiny_cache: Path) -> None:
    path = tmp_path / "edited.json"
    path.write_text(changed(record, result={"miou": record.result.miou + 1}).to_json())
    result = CliRunner().invoke(cli.app, ["verify", str(path), "--cache", str(tiny_cache), "--device", "cpu", "--json"])
    output = json.loads(result.stdout)
    assert result.exit_code == 1 and output["verdict"] == "different" and output["same_environment"] is True
    assert output["scores"]["mIoU"]["difference"] == pytest.approx(-1)


@pytest.mark.usefixtures("no_figures")
def test_full_takes_nothing_from_the_cache(record_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def spy(config: Any, workspace: Workspace) -> Record:
        used.append(workspace)
        return read_record(record_file)

    monkeypatch.setattr("bench.leaderboards.verify.run", spy)
    assert verify_record(record_file.parent, tmp_path, "cpu", full=True).full  # the folder of a run will do
    verify_record(record_file.parent, tmp_path, "cpu")
    assert used[0].cache != tmp_path and used[1].cache == tmp_path
    assert used[0].cache.parent == used[0].runs.parent and not used[0].runs.parent.exists()


def test_threads_are_those_of_the_record(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_cache: Path
) -> None:
    seen = []
    monkeypatch.setattr("bench.leaderboards.verify.run", lambda *_: seen.append(torch.get_num_threads()) or record)
    path = tmp_path / "two.json"
    path.write_text(changed(record, hardware={"threads": 2}).to_json())
    verify_record(path, tiny_cache, "cpu")
    verify_record(path, tiny_cache, "cpu", threads=3)
    assert seen == [2, 3] and torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("gap", "verdict"), [(0.0, "identical"), (TOLERANCE / 2, "within tolerance"), (2 * TOLERANCE, "different")]
)
def test_the_verdict_in_the_same_environment(gap: float, verdict: str, record: Record) -> None:
    report = compare(record, changed(record, result={"pixel_accuracy": record.result.pixel_accuracy - gap}))
    assert report.verdict == verdict and report.failed() == (verdict == "different")
    assert report_text(report).splitlines()[-1].startswith(f"{verdict} (in the record's environment)")


HARDWARE = [
    ({"hardware": {"threads": 2}}, "threads"),
    ({"hardware": {"cpu": "Another"}}, "cpu"),
    ({"hardware": {"cpu_model": "family 25"}}, "cpu_model"),
    ({"hardware": {"gpu": "A card"}}, "gpu"),
]
VERSIONS = [({"versions": {"torch": "1.0"}}, "torch"), ({"versions": {"new": "1.0"}}, "new")]


OTHER_START = {"digests": {"source_model": "0" * 64}}


@pytest.mark.parametrize(("part", "value"), [*((part | OTHER_START, value) for part, value in HARDWARE), *VERSIONS])
def test_elsewhere_a_difference_is_reported_not_judged(part: dict[str, Any], value: str, record: Record) -> None:
    """Where the runs start from different models, or a library has another version."""
    report = compare(record, changed(record, result={"miou": 1.0}, **part))
    assert list(report.environment) == [value] and report.bound is None
    assert report.verdict == "different" and not report.failed() and report.failed(strict=True)
    assert f"environment: {value} was" in report_text(report) and "not judged" in report_text(report)


@pytest.mark.parametrize(("part", "value"), HARDWARE)
@pytest.mark.parametrize("times", [0.5, -0.99, 1.01, -2])
def test_from_the_same_source_model_another_processor_explains_so_much(
    part: dict[str, Any], value: str, times: float, record: Record
) -> None:
    report = compare(record, changed(record, result={"miou": record.result.miou + times * ELSEWHERE}, **part))
    assert list(report.environment) == [value] and report.as_json()["bound"] == report.bound == ELSEWHERE
    assert report.verdict == "different" and report.failed(strict=True) and report.failed() == (abs(times) > 1)
    phrase = "more than the" if abs(times) > 1 else "no more than the"
    assert report_text(report).splitlines()[-1].count(f"differs by {phrase} {ELSEWHERE} points") == 1


def test_the_bound_is_the_double_of_what_was_measured() -> None:
    """``leaderboards/calibration/processors.csv``: runs on other processors, instruction sets, thread counts and a GPU."""
    with (Path(__file__).parents[3] / "leaderboards/calibration/processors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 20 and len({row["method"] for row in rows}) >= 8
    largest = max(float(row["difference"]) for row in rows)
    assert 2 * largest <= ELSEWHERE < 2 * largest + 0.1


def test_parts_that_were_made_elsewhere_are_named_and_not_judged(record: Record) -> None:
    """A source model of another thread count from the cache, and a run resumed with other threads."""
    environments = record.environments or {}
    assert set(environments) == {"adaptation", "source model"} and len(environments["adaptation"]) == 1
    seven_threads = {**environments["adaptation"][0], "threads": "7"}
    for part, recorded in (
        ("source model", (seven_threads,)),
        ("adaptation", (seven_threads, environments["adaptation"][0])),
    ):
        elsewhere = record.model_copy(update={"environments": environments | {part: recorded}})
        report = compare(changed(elsewhere, result={"miou": 1.0}, **OTHER_START), record)
        threads = " then ".join(environment["threads"] for environment in recorded)
        assert report.environment == {f"threads of the {part}": (threads, "1")}
        assert report.verdict == "different" and not report.failed() and report.failed(strict=True)


def test_what_the_record_does_not_say_is_not_the_same(record: Record) -> None:
    """Records made before the processor's model was kept."""
    fields = json.loads(record.to_json())
    del fields["hardware"]["cpu_model"]
    report = compare(Record.model_validate(fields), record)
    assert (
        report.environment == {"cpu_model": ("unknown", record.hardware["cpu_model"])} and not report.same_environment
    )


def test_a_score_that_is_undefined_on_one_side_is_a_difference(record: Record) -> None:
    gone = changed(record, result={"temporal_consistency": None})
    assert compare(record, gone).verdict == "different" and compare(gone, gone).verdict == "identical"
    assert "-" in report_text(compare(record, gone))


def test_what_an_older_record_did_not_measure_is_no_difference(record: Record) -> None:
    newer = changed(record, result={"mvc8": 70.0})
    assert compare(record, newer).verdict == "identical"
    assert compare(newer, record).verdict == "different"
    assert compare(newer, changed(record, result={"mvc8": 71.0})).scores["mVC8"] == (70.0, 71.0)


def test_a_record_of_another_config_is_refused(record: Record, tmp_path: Path, tiny_cache: Path) -> None:
    fields = json.loads(record.to_json())
    fields["config"]["seed"] = 7
    (tmp_path / "r.json").write_text(json.dumps(fields))
    with pytest.raises(RunError, match=r"says run .*, but its config gives .*: edited"):
        verify_record(tmp_path / "r.json", tiny_cache)
