"""Sweeps and studies of files of one's own: known by name and hash, found again, and the same in every worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.core import registry
from bench.core.schema import validated
from bench.core.workspace import Workspace
from bench.runs.config import load_shift, method_class
from bench.runs.records import read_record
from bench.sweeps.jobs import SweepFolder
from bench.sweeps.on_ray import Cluster, payload, sweep_runs
from bench.sweeps.spec import Sweep, from_study, plan
from bench.sweeps.study import Study
from bench.sweeps.trial import do
from tests.bench.own_files import NETWORK, Files, config_of


def sweep_of(files: Files, **changes: Any) -> Sweep:
    fields = {
        "methods": [str(files["mine"]), "adabn"],
        "shift": str(files["small"]),
        "grid": {"network": ["mini", str(files["micro"])]},
    }
    return validated(Sweep, {**fields, "options": {"mine.flow": str(files["still"])}, **changes}, "Sweep").named  # type: ignore[no-any-return]


def test_a_sweep_knows_files_by_name_and_finds_them_again(
    files: Files, tmp_path: Path, forget: Callable[[], None]
) -> None:
    sweep = sweep_of(files)
    assert (
        sweep.methods == ["mine", "adabn"] and sweep.shift == "small" and sweep.grid == {"network": ["mini", "micro"]}
    )
    keys = ["flow/still", "method/mine", "network/micro", "shift/small"]
    assert sorted(sweep.files) == keys and sweep.files["method/mine"] == str(files["mine"])
    planned = SweepFolder(tmp_path, sweep.name).open(sweep)
    assert [(entry.config.method, entry.config.network, entry.config.flow) for entry in planned] == [
        ("mine", "mini", "still"), ("mine", "micro", "still"), ("adabn", "mini", "exact"), ("adabn", "micro", "exact"),
    ]  # fmt: skip
    forget()
    stored = SweepFolder(tmp_path, sweep.name).stored()
    assert stored.identity == sweep.identity and [entry.config for entry in plan(stored)] == [
        entry.config for entry in planned
    ]
    files["micro"].write_text(NETWORK + "# changed\n")
    assert sweep_of(files).name != sweep.name, "runs of a changed file are another sweep"


def test_a_sweep_without_files_keeps_its_name() -> None:
    sweep = validated(Sweep, {"methods": ["stpl"], "seeds": "0:2"}, "Sweep")
    assert sweep.named.name == "sweep-3f30e3e89224" and "plugins" not in sweep.to_yaml()


def test_a_trial_takes_the_source_that_the_sweep_began_with(
    files: Files, workspace: Workspace, forget: Callable[[], None], no_figures: None
) -> None:
    from bench.sweeps.jobs import Job

    config = config_of(files)
    sweep = sweep_of(files)
    job = json.loads(json.dumps(payload(Job(config.hash, "run", "mine", config), sweep, workspace)))
    files["mine"].write_text("1 / 0\n")
    files["small"].unlink()
    forget()
    record = json.loads(do(job, lambda _: None)["record"])
    assert record["config"]["plugins"] == config.plugins and record["run"] == config.hash


def test_a_study_names_files(files: Files) -> None:
    micro = str(files["micro"])
    fields = {
        "name": "s", "title": "-", "question": "-", "seeds": "0:1", "shift": str(files["small"]),
        "rows": [{"label": "a", "method": str(files["mine"]), "options": {"network": micro}}],
        "grid": {"method": ["adabn", str(files["mine"])], "network": ["mini", micro]},
        "reference": {"method": "adabn", "network": micro},
    }  # fmt: skip
    study: Study = validated(Study, fields, "Study")
    assert [row.label for row in study.all_rows()][1:] == [
        "adabn, network=mini", "adabn, network=micro", "mine, network=mini", "mine, network=micro",
    ]  # fmt: skip
    reference = study.reference_row()
    assert reference is not None and reference.label == "adabn, network=micro"
    assert sorted(from_study(study).files) == ["method/mine", "network/micro", "shift/small"]


def test_all_means_the_methods_of_the_repository(files: Files) -> None:
    registry.resolve("method", str(files["mine"]))
    assert "mine" in registry.names("method") and method_class("mine").card.title == "Mine"
    sweep = validated(Sweep, {"methods": "all", "shift": "ministreet-tiny"}, "Sweep")
    assert {entry.config.method for entry in plan(sweep)} == set(registry.built_in("method"))


def test_trials_of_ray_take_files_of_ones_own(
    files: Files, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files["mine"].parent)
    fields = {
        "methods": ["./mine.py"],
        "shift": "./small.yaml",
        "options": {"network": "./micro.py", "flow": "still.py"},
    }
    sweep = validated(Sweep, fields, "Sweep").named
    jobs = sweep_runs(sweep, workspace, Cluster(cpus=1))
    assert [(job.state, job.reason) for job in jobs.runs] == [("done", "")]
    record = read_record(workspace.runs / jobs.runs[0].key / "record.json")
    assert record.config == config_of(files) and record.shift_hash == load_shift("small").hash
