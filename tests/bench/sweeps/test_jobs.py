"""Where a sweep stands: the run store decides, preparations come once and first, a killed driver's files are read again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bench.core.errors import RunError, UsageError
from bench.core.files import write_atomically
from bench.runs.finished import config_text
from bench.sweeps.jobs import Job, Jobs, SweepFolder, counts, preparations
from bench.sweeps.spec import Sweep, plan
from bench.sweeps.table import SweepTable, as_json, cells, failures, lines

TINY = "ministreet-tiny"


def record_text(job: Job, miou: float = 40.0) -> str:
    fields = {
        "schema": 1, "run": job.key, "config": job.config.model_dump(mode="json"), "shift_hash": job.config.shift_hash,
        "source_model": None, "method": {}, "versions": {}, "hardware": {}, "date": "2030-01-01", "code": {},
        "result": {"iou": {}, "miou": miou, "pixel_accuracy": 1, "temporal_consistency": 1},
        "selection": {"unsupervised": {}, "oracle": {}, "snapshots": []},
        "cost": {
            "steps": 1, "seconds": 1, "cpu_seconds": 1, "total_seconds": 1, "peak_memory_mb": 1, "parameters": 1,
        },
    }  # fmt: skip
    return json.dumps(fields)


def done_before(runs: Path, job: Job) -> None:
    write_atomically(runs / job.key / "config.yaml", config_text(job.config))
    write_atomically(runs / job.key / "record.json", record_text(job, 41))


def make(runs: Path, retries: int = 0, **fields: Any) -> Jobs:
    sweep = Sweep.model_validate({"name": "s", "shift": TINY, "methods": ["stpl", "adabn"], **fields})
    folder = SweepFolder(runs, "s")
    return Jobs(folder, folder.open(sweep), retries)


def carry_out(jobs: Jobs) -> list[str]:
    """Do all jobs one after another; what was done, in order."""
    done = []
    while (job := jobs.next()) is not None:
        done.append(job.label if job.kind != "run" else f"{job.config.method} {job.config.fusion}")
        jobs.finish(job, record_text(job) if job.kind == "run" else None)
    return done


def test_what_runs_share_is_prepared_once_and_before_them(tmp_path: Path) -> None:
    jobs = make(tmp_path, methods=["stpl", "adabn", "oracle"], grid={"stpl.fusion": ["conv1x1", "add"]})
    assert carry_out(jobs) == [
        "data of seed 0", "oracle conv1x1", "source model, conv1x1, seed 0", "stpl conv1x1", "adabn conv1x1",
        "source model, add, seed 0", "stpl add",
    ]  # fmt: skip
    assert jobs.over and len(jobs.records()) == 4


def test_two_at_once_never_need_what_is_not_there(tmp_path: Path) -> None:
    jobs = make(tmp_path, seeds="0:2")
    first, second = jobs.next(), jobs.next()
    assert first and second and (first.kind, second.kind, jobs.next()) == ("data", "data", None)
    jobs.finish(second)
    third = jobs.next()
    assert third and third.kind == "source" and third.config.seed == second.config.seed and jobs.next() is None


def test_preparations_differ_in_everything_that_a_source_model_depends_on() -> None:
    def source_keys(**fields: Any) -> set[str]:
        sweep = Sweep.model_validate({"shift": TINY, "methods": ["adabn"], **fields})
        return {job.key for job in preparations(plan(sweep))[0] if job.kind == "source"}

    usual = source_keys()
    assert len(usual) == 1 and usual == source_keys(methods=["stpl"]) == source_keys(options={"flow": "zero"})
    for changes in ({"seeds": "1"}, {"options": {"fusion": "add"}}, {"steps": 3}, {"shift": "ministreet-dev"}):
        assert not usual & source_keys(**changes), changes


def test_finished_runs_are_found_and_nothing_is_prepared_for_them(tmp_path: Path) -> None:
    for job in make(tmp_path).runs:
        done_before(tmp_path, job)
    jobs = make(tmp_path)
    assert jobs.over and jobs.next() is None and counts(jobs.runs) == {"found": 2}
    assert [record.result.miou for record in jobs.records()] == [41, 41]


def test_a_damaged_record_is_a_failure_and_the_others_go_on(tmp_path: Path) -> None:
    (first, _) = make(tmp_path).runs
    done_before(tmp_path, first)
    (tmp_path / first.key / "record.json").write_text("{")
    jobs = make(tmp_path, retries=3)
    assert jobs.runs[0].state == "failed" and "is damaged" in jobs.runs[0].reason
    assert carry_out(jobs)[-1] == "adabn conv1x1" and counts(jobs.runs) == {"failed": 1, "done": 1}


def test_a_record_that_comes_home_does_not_replace_one_that_is_there(tmp_path: Path) -> None:
    jobs = make(tmp_path)
    run = jobs.runs[0]
    done_before(tmp_path, run)
    jobs.finish(run, record_text(run, 99))
    assert jobs.runs[0].score == 41
    jobs.runs[1].attempts = 1
    jobs.finish(jobs.runs[1], record_text(jobs.runs[0], 99))  # another run's
    assert jobs.runs[1].state == "failed" and "another config's run" in jobs.runs[1].reason


def test_failures_are_tried_again_and_then_take_with_them_what_needs_them(tmp_path: Path) -> None:
    jobs = make(tmp_path, retries=1)
    for attempt in (1, 2):
        job = jobs.next()
        assert job is not None and (job.kind, job.attempts) == ("data", attempt)
        jobs.fail(job, "disk\nfull", "a traceback")
    assert jobs.over and counts(jobs) == {"failed": 4}
    (line, _) = failures([job for job in jobs.runs], tmp_path / "sweeps/s")
    assert line.startswith("stpl, seed 0: data of seed 0: disk full  [")
    log = tmp_path / "sweeps/s" / jobs.runs[0].log
    assert log.read_text() == "a traceback\n" and str(log) in line
    journal = [json.loads(text) for text in (tmp_path / "sweeps/s/journal.jsonl").read_text().splitlines()]
    assert [(entry["attempt"], entry["again"]) for entry in journal] == [(1, True), (2, False), *[(0, False)] * 3]
    assert not any(str(tmp_path) in json.dumps(entry) for entry in journal)


def test_a_run_stopped_early_stays_stopped_even_if_the_journal_was_cut(tmp_path: Path) -> None:
    jobs = make(tmp_path)
    jobs.stop(jobs.runs[0], 0.25)
    with (tmp_path / "sweeps/s/journal.jsonl").open("a") as journal:
        journal.write('{"event": "stopped", "job": "')
    later = make(tmp_path)
    assert (later.runs[0].state, later.runs[0].score) == ("stopped", 0.25) and later.runs[1].state == "waiting"


@pytest.mark.parametrize(
    "line", ['{"event": "stopped", "job": []}', '{"event": "stopped"}', "[1]", "[" * 9999, "9" * 9999]
)
def test_a_line_of_the_journal_that_is_none_is_passed_over(line: str, tmp_path: Path) -> None:
    jobs = make(tmp_path)
    jobs.stop(jobs.runs[0], 0.25)
    jobs.stop(jobs.runs[1], 0.75)
    journal = tmp_path / "sweeps/s/journal.jsonl"
    journal.write_text(f"{journal.read_text().replace('0.75', '0.25')}{line}\n")
    later = make(tmp_path)
    assert [run.state for run in later.runs[:2]] == [
        "stopped",
        "waiting",
    ]  # what was said of the second is found out again


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 9999])
def test_a_damaged_list_of_runs_is_named(content: bytes, tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "sweeps/s/runs.json").write_bytes(content)
    with pytest.raises(RunError, match=r"runs\.json is damaged; delete it, and the sweep goes on"):
        make(tmp_path)


def test_a_full_disk_does_not_stop_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = make(tmp_path)
    monkeypatch.setattr(
        "bench.sweeps.jobs.write_atomically", lambda *_: (_ for _ in ()).throw(RunError("Cannot write"))
    )
    job = jobs.next()
    assert job is not None
    jobs.fail(job, "x", "trace")
    assert job.state == "failed" and job.log == ""
    run = jobs.runs[0]
    run.state, run.attempts = "running", 1
    jobs.finish(run, record_text(run))
    assert run.state == "failed" and run.reason == "Cannot write"


def test_a_name_stands_for_the_same_runs(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UsageError, match="'s' was asked for other runs before; choose another --name"):
        make(tmp_path, seeds="0:2")
    make(tmp_path, cpu=2)  # spread otherwise: the same runs
    assert SweepFolder(tmp_path, "s").stored().cpu == 2
    (tmp_path / "sweeps/s/runs.json").write_text('["0123456789ab"]')
    with pytest.raises(UsageError, match="are others since code or protocols changed"):
        make(tmp_path)
    with pytest.raises(UsageError, match=r"No sweep 't' in .*; there are: s$"):
        SweepFolder(tmp_path, "t").stored()


def test_only_one_driver_works_on_a_sweep(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "s")
    folder.path.parent.mkdir(parents=True)
    lock = tmp_path / "sweeps/s.lock"
    with FileLock(lock), pytest.raises(RunError, match="'s' is being run by another process"), folder.held():
        pass
    lock.touch()  # a file left by a killed driver locks nobody out
    with folder.held():
        pass


# What a person sees ---------------------------------------------------------------------------------------------------


def test_lines_say_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = make(tmp_path, methods=["oracle"])
    with SweepTable(jobs) as table:
        job = jobs.next()
        table.show()
        table.show()
        assert job is not None
        jobs.finish(job)
        run = jobs.next()
        assert run is not None
        run.step, run.steps, run.pace, run.what = 3, 6, 0.5, "adapt"
        table.show()
        jobs.finish(run, record_text(run, 12.345))
        table.show()
        assert table.table().row_count == 2
    output = capsys.readouterr().err.splitlines()
    assert output[0] == "1 runs, 0 of them there already" and len(output) == 5
    assert output[3].split() == ["oracle", "oracle", "0", "3/6", "-", "0.50", "running:", "adapt"]
    assert output[4].split() == ["oracle", "oracle", "0", "3/6", "12.35", "0.50", "done"]
    assert lines(jobs)[-1] == "1 done" and "12.35" in lines(jobs)[0].replace("12.34", "12.35")
    assert as_json("s", jobs)["runs"][0]["miou"] == 12.345
    assert len(cells(run)) == 7 and os.fspath(tmp_path) not in json.dumps(as_json("s", jobs))
