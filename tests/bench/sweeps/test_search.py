"""Random search: the same trials everywhere, never on reported worlds, every run written down."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bench
from bench.core.errors import RunError, UsageError
from bench.core.registry import method_names
from bench.core.workspace import Workspace
from bench.runs.config import make_run_config, method_class, resolve_settings
from bench.runs.records import Record
from bench.sweeps import search as module
from bench.sweeps.search import COLUMNS, draw, summary, tune, write_log
from methods.base import Choice, LogUniform, Uniform

SEARCHED = [name for name in method_names() if method_class(name).SEARCH]


def fake_record(config: Any, miou: float = 40.0) -> Record:
    told = {
        "run": config.hash, "config": config, "shift_hash": config.shift_hash, "source_model": None, "method": {},
        "result": {"iou": {}, "miou": miou, "pixel_accuracy": 1, "temporal_consistency": 1},
        "selection": {"unsupervised": {}, "oracle": {}, "snapshots": []},
        "cost": {
            "steps": 1, "seconds": 1, "cpu_seconds": 1, "total_seconds": 1, "peak_memory_mb": 1, "parameters": 1,
        },
        "code": {"revision": "abc"}, "versions": {}, "hardware": {}, "date": "2030-01-01",
    }  # fmt: skip
    return Record.model_validate(told)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Runs are not done but noted; the score falls with the trial's first drawn number."""
    configs: list[Any] = []

    def fake_run(config: Any, workspace: Workspace) -> Record:
        configs.append(config)
        return fake_record(config, 40 + config.seed - 10 * config.settings.get("drop", 0))

    monkeypatch.setattr(module, "run", fake_run)
    return configs


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


@pytest.mark.parametrize("shift", ["ministreet", "ministreet-tiny"])
def test_only_worlds_for_tuning_are_accepted(shift: str, ran: list[Any]) -> None:
    with pytest.raises(UsageError, match=f"Shift '{shift}' is not for tuning; use ministreet-dev"):
        tune("stpl", shift, [0], [0], {}, Workspace())
    assert ran == []


def test_reported_worlds_under_another_name_are_refused(shift_file: Callable[..., str], ran: list[Any]) -> None:
    with pytest.raises(UsageError, match="is not for tuning"):
        tune("stpl", shift_file({"purpose": "tune", "data.family": "ministreet"}), [0], [0], {}, Workspace())
    assert ran == []


def test_a_method_without_a_space_has_nothing_to_tune(ran: list[Any]) -> None:
    with pytest.raises(UsageError, match="Method 'adabn' has no search space"):
        tune("adabn", "ministreet-dev", [0], [0], {}, Workspace())


def test_every_trial_runs_on_every_seed_and_fixed_options_stay(ran: list[Any]) -> None:
    trials = (0, 2, 3)  # trial 1 of stpl is what its defaults were chosen from
    done = tune("stpl", "ministreet-dev", trials, range(2), {"fusion": "none", "drop": 0.25}, Workspace())
    assert [(trial, record.config.seed) for trial, record in done] == [(t, s) for t in trials for s in range(2)]
    assert {c.fusion for c in ran} == {"none"} and {c.settings["drop"] for c in ran} == {0.25}
    assert (
        ran[0].settings["temperature"] == resolve_settings("stpl", {})["temperature"] != ran[2].settings["temperature"]
    )
    assert len({c.hash for c in ran}) == 6 and {c.shift for c in ran} == {"ministreet-dev"}


def test_the_summary_is_the_mean_over_seeds_best_first(ran: list[Any]) -> None:
    table = summary(tune("self_training", "ministreet-dev", range(4), range(3), {}, Workspace()))
    assert [row["miou"] for row in table] == sorted((row["miou"] for row in table), reverse=True)
    default = next(row for row in table if row["trial"] == 0)
    settings = resolve_settings("self_training", {})
    assert default["miou"] == pytest.approx(40 + 1 - 10 * settings["drop"]) and default["seeds"] == 3
    assert default["settings"] == {name: settings[name] for name in ("ema_decay", "drop", "strength")}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_log_has_one_line_per_run_and_grows(ran: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.csv"
    first = tune("stpl", "ministreet-dev", (0, 2), range(2), {}, Workspace())
    write_log(path, first)
    assert len(rows(path)) == 4 and tuple(rows(path)[0]) == COLUMNS
    write_log(path, first)  # the same again adds nothing
    assert len(rows(path)) == 4
    more = tune("self_training", "ministreet-dev", [1], [0], {"fusion": "none"}, Workspace())
    write_log(path, more)
    told = rows(path)
    assert len(told) == 5 and {row["run"] for row in told} == {r.run for _, r in (*first, *more)}
    assert [row["method"] for row in told] == ["self_training", *["stpl"] * 4]
    assert json.loads(told[0]["searched"]) == draw("self_training", 1)
    assert json.loads(told[0]["config"])["fusion"] == "none"
    assert told[0]["revision"] == "abc" and math.isfinite(float(told[0]["miou"]))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"hello\n1\n", b""])
def test_a_log_that_is_none_is_not_overwritten(content: bytes, ran: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    done = tune("stpl", "ministreet-dev", [0], [0], {}, Workspace())
    with pytest.raises(RunError, match=f"{path} is not a tuning log: its columns should be method, trial"):
        write_log(path, done)
    assert path.read_bytes() == content


def test_the_command_writes_the_log_after_every_trial(
    ran: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    fake = module.run

    def stops_in_the_third_trial(config: Any, workspace: Workspace) -> Record:
        if len(ran) == 4:
            raise KeyboardInterrupt
        return fake(config, workspace)

    monkeypatch.setattr(module, "run", stops_in_the_third_trial)
    log = tmp_path / "log.csv"
    with pytest.raises(KeyboardInterrupt):
        bench.tune("hcl", "ministreet-dev", "0:4", "0:2", log, runs=tmp_path, cache=tmp_path, device="cpu")
    assert len(rows(log)) == 4


@pytest.mark.usefixtures("no_figures")
def test_a_real_search(shift_file: Callable[..., str], workspace: Workspace, tmp_path: Path) -> None:
    """Two trials on a tiny shift for tuning: really run, found again, and logged."""
    shift = shift_file({"purpose": "tune"})
    done = tune("self_training", shift, range(2), [0], {}, workspace)
    assert len({record.result.miou for _, record in done}) == 2
    write_log(tmp_path / "log.csv", done)
    written = (tmp_path / "log.csv").read_bytes()
    again = tune("self_training", shift, range(2), [0], {}, workspace)
    assert [record for _, record in again] == [record for _, record in done]
    write_log(tmp_path / "log.csv", again)
    assert (tmp_path / "log.csv").read_bytes() == written
