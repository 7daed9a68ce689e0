"""Random search: the same trials everywhere, never on reported worlds, every run written down."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import RunError, UsageError
from bench.core.registry import method_names
from bench.runs.config import make_run_config, method_class, resolve_settings
from bench.runs.records import Record
from bench.sweeps import search as module
from bench.sweeps.jobs import Jobs, SweepFolder
from bench.sweeps.search import COLUMNS, draw, summary
from bench.sweeps.spec import Sweep, plan
from methods.base import Choice, LogUniform, Uniform

SEARCHED = [name for name in method_names() if method_class(name).SEARCH]


def fake_record(config: Any, miou: float = 40.0) -> Record:
    fields = {
        "run": config.hash, "config": config, "shift_hash": config.shift_hash, "source_model": None, "method": {},
        "result": {"iou": {}, "miou": miou, "pixel_accuracy": 1, "temporal_consistency": 1},
        "selection": {"unsupervised": {}, "oracle": {}, "snapshots": []},
        "cost": {
            "steps": 1, "seconds": 1, "cpu_seconds": 1, "total_seconds": 1, "peak_memory_mb": 1, "parameters": 1,
        },
        "code": {"revision": "abc"}, "versions": {}, "hardware": {}, "date": "2030-01-01",
    }  # fmt: skip
    return Record.model_validate(fields)


def tuning(method: str, trials: str, seeds: str = "0", log: Path | None = None, **fields: Any) -> Sweep:
    """As ``bench tune`` asks for it."""
    defaults = {
        "methods": [method],
        "shift": "ministreet-dev",
        "seeds": seeds,
        "search": {"trials": trials},
        "name": "t",
    }
    return Sweep.model_validate({**defaults, "log": log and str(log), **fields})


def carried_out(runs: Path, sweep: Sweep, limit: int = 10**6) -> Jobs:
    """Nothing is run, but every job ends well; the score falls with ``drop``. At most so many runs, as if killed then."""
    jobs = Jobs(SweepFolder(runs, sweep.name), plan(sweep), log=sweep.log)
    while (job := jobs.next()) is not None:
        if job.kind == "run":
            if limit == 0:
                break
            limit -= 1
            miou = 40 + job.config.seed - 10 * job.config.settings.get("drop", 0)
            jobs.finish(job, fake_record(job.config, miou).to_json())
        else:
            jobs.finish(job)
    return jobs


@pytest.mark.parametrize("method", SEARCHED)
def test_draws_are_the_same_everywhere_and_inside_their_space(method: str) -> None:
    assert draw(method, 0) == {}
    drawn = [draw(method, trial) for trial in range(1, 40)]
    assert drawn == [draw(method, trial) for trial in range(1, 40)]
    assert len({json.dumps(d, sort_keys=True) for d in drawn}) == 39
    for settings in drawn:
        assert set(settings) == set(method_class(method).SEARCH)
        make_run_config(method, "ministreet-dev", 0, settings)  # every draw is a valid config
        for name, space in method_class(method).SEARCH.items():
            if isinstance(space, Choice):
                assert settings[name] in space.values
            else:
                assert space.low * 0.99 <= settings[name] <= space.high * 1.01
                assert float(f"{settings[name]:.3g}") == settings[name]


def test_draws_do_not_depend_on_what_else_is_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert draw("stpl", 3) != draw("self_training", 3)
    before = draw("stpl", 3)
    draw("stpl", 2)
    assert draw("stpl", 3) == before


def test_log_uniform_and_uniform_cover_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"log": LogUniform(0.01, 1.0), "flat": Uniform(0.0, 1.0), "pick": Choice(("a", "b"))}
    monkeypatch.setattr(module, "method_class", lambda name: type("M", (), {"SEARCH": space}))
    drawn = [draw("any", trial) for trial in range(1, 401)]
    assert 0.4 < sum(d["log"] < 0.1 for d in drawn) / 400 < 0.6  # half of the draws in each decade
    assert 0.4 < sum(d["flat"] < 0.5 for d in drawn) / 400 < 0.6
    assert 0.4 < sum(d["pick"] == "a" for d in drawn) / 400 < 0.6


@pytest.mark.parametrize("shift", ["ministreet", "ministreet-tiny", "ministreet2", "atlas-night"])
def test_only_worlds_for_tuning_are_accepted(shift: str) -> None:
    with pytest.raises(UsageError, match=f"Shift '{shift}' is not for tuning; use ministreet-dev"):
        plan(tuning("stpl", "0:1", shift=shift))


def test_reported_worlds_under_another_name_are_refused(shift_file: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match="is not for tuning"):
        plan(tuning("stpl", "0:1", shift=shift_file({"purpose": "tune", "data.family": "ministreet"})))


def test_a_method_without_a_space_has_nothing_to_tune() -> None:
    with pytest.raises(UsageError, match="Method 'adabn' has no search space"):
        plan(tuning("adabn", "0:1"))


def test_every_trial_runs_on_every_seed_and_fixed_options_stay(tmp_path: Path) -> None:
    jobs = carried_out(tmp_path, tuning("stpl", "2:5", "0:2", options={"fusion": "none", "drop": 0.25}))
    tries = jobs.tries()
    assert [(trial, record.config.seed) for trial, record in tries] == [(t, s) for t in (2, 3, 4) for s in range(2)]
    configs = [record.config for _, record in tries]
    assert {c.fusion for c in configs} == {"none"} and {c.settings["drop"] for c in configs} == {0.25}
    assert configs[0].settings["temperature"] == draw("stpl", 2)["temperature"] != configs[2].settings["temperature"]
    assert len({c.hash for c in configs}) == 6 and {c.shift for c in configs} == {"ministreet-dev"}


def test_two_trials_that_drew_the_same_are_one_run_and_two_lines_of_the_summary(tmp_path: Path) -> None:
    """Trial 1 of stpl is what its defaults, trial 0, were chosen from."""
    jobs = carried_out(tmp_path, tuning("stpl", "0:3"))
    assert len(jobs.runs) == 2 and [trial for trial, _ in jobs.tries()] == [0, 1, 2]
    assert sorted(row["trial"] for row in summary(jobs.tries())) == [0, 1, 2]


def test_a_run_in_the_log_stays_the_trial_that_it_was_called_first(tmp_path: Path) -> None:
    """Trials 0 and 1 of stpl are one run."""
    log = tmp_path / "log.csv"
    jobs = carried_out(tmp_path, tuning("stpl", "1:2", log=log))
    assert [row["trial"] for row in rows(log)] == ["1"] and jobs.same_trials == []
    before = log.read_bytes()
    for trials, same in (
        ("0:1", ["stpl: trial 0 is trial 1"]),
        ("0:2", ["stpl: trial 1 is trial 0", "stpl: trial 0 is trial 1"]),
    ):
        assert carried_out(tmp_path, tuning("stpl", trials, log=log)).same_trials == same
        assert log.read_bytes() == before
    log.unlink()
    assert carried_out(tmp_path, tuning("stpl", "0:2", log=log)).same_trials == ["stpl: trial 1 is trial 0"]
    assert [row["trial"] for row in rows(log)] == ["0"]


def test_a_dry_run_says_which_trials_are_one_run(tmp_path: Path) -> None:
    command = ["sweep", "-m", "stpl", "--search", "random", "--trials", "0:3", "--seeds", "0:2", "--dry-run"]
    result = CliRunner().invoke(cli.app, [*command, "--shift", "ministreet-dev", "--runs", str(tmp_path)])
    assert result.exit_code == 0 and result.stderr == "bench: the same settings, so one run: stpl: trial 1 is trial 0\n"


def test_the_summary_is_the_mean_over_seeds_best_first(tmp_path: Path) -> None:
    table = summary(carried_out(tmp_path, tuning("self_training", "0:4", "0:3")).tries())
    assert [row["miou"] for row in table] == sorted((row["miou"] for row in table), reverse=True)
    default = next(row for row in table if row["trial"] == 0)
    settings = resolve_settings("self_training", {})
    assert default["miou"] == pytest.approx(40 + 1 - 10 * settings["drop"]) and default["seeds"] == 3
    assert default["settings"] == {name: settings[name] for name in ("ema_decay", "drop", "strength")}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_log_has_one_line_per_run_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.csv"
    first = carried_out(tmp_path, tuning("stpl", "2:4", "0:2", path))
    assert len(rows(path)) == 4 and tuple(rows(path)[0]) == COLUMNS
    before = path.read_bytes()
    carried_out(tmp_path, tuning("stpl", "2:4", "0:2", path))  # found again: nothing is added
    assert path.read_bytes() == before
    second = carried_out(tmp_path, tuning("self_training", "1:2", log=path, options={"fusion": "none"}))
    logged = rows(path)
    assert len(logged) == 5 and {row["run"] for row in logged} == {r.run for _, r in (*first.tries(), *second.tries())}
    assert [row["method"] for row in logged] == ["self_training", *["stpl"] * 4]
    assert json.loads(logged[0]["searched"]) == draw("self_training", 1)
    assert json.loads(logged[0]["config"])["fusion"] == "none"
    assert logged[0]["revision"] == "abc" and math.isfinite(float(logged[0]["miou"]))


def test_a_link_to_a_log_stays_one(tmp_path: Path) -> None:
    link, path = tmp_path / "link.csv", tmp_path / "elsewhere" / "log.csv"
    link.symlink_to(path)
    carried_out(tmp_path, tuning("hcl", "0:2", log=link))
    assert link.is_symlink() and len(rows(path)) == 2


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"hello\n1\n", b""])
def test_a_log_that_is_none_is_not_overwritten(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(RunError, match=f"{path} is not a tuning log: its columns should be method, trial"):
        carried_out(tmp_path, tuning("stpl", "0:1", log=path))
    assert path.read_bytes() == content and not list(tmp_path.glob("*/record.json"))  # said before the first run


def test_a_search_that_is_killed_has_logged_what_was_done(tmp_path: Path) -> None:
    carried_out(tmp_path, tuning("hcl", "0:4", "0:2", tmp_path / "log.csv"), limit=3)
    assert len(rows(tmp_path / "log.csv")) == 3


def test_only_a_random_search_is_logged_and_the_log_is_no_part_of_what_a_sweep_is() -> None:
    with pytest.raises(ValueError, match="log: only the trials of a random search are logged"):
        tuning("stpl", "0:1", log=Path("log.csv"), search={"kind": "grid"})
    assert tuning("stpl", "0:1", log=Path("log.csv")).identity == tuning("stpl", "0:1").identity
    assert "log" not in tuning("stpl", "0:1").to_yaml()


def test_tune_says_what_a_search_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that are there already are neither run again nor is Ray started for them."""
    sweep = tuning("self_training", "0:3", "0:2")
    carried_out(tmp_path / "runs", sweep)
    command = ["tune", "-m", "self_training", "--trials", "0:3", "--seeds", "0:2", "--device", "cpu", "--threads", "1"]
    folders = ["--runs", str(tmp_path / "runs"), "--cache", str(tmp_path), "--log", str(tmp_path / "log.csv")]
    text = CliRunner().invoke(cli.app, [*command, *folders])
    assert text.exit_code == 0, text.output
    first, *following = text.stdout.splitlines()
    assert len(following) == 2 and first.split()[1] == "trial" and "'ema_decay': " in first
    assert len(rows(tmp_path / "log.csv")) == 6
    printed = json.loads(CliRunner().invoke(cli.app, [*command, *folders, "--json"]).stdout)
    assert [f"{row['miou']:.2f}" for row in printed] == [line.split()[0] for line in (first, *following)]
    assert [set(row) for row in printed] == [{"trial", "miou", "seeds", "settings"}] * 3
