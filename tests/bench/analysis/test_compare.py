"""compare, gains and export: what differs between runs, class by class, and their logs as a table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.table import Table
from typer.testing import CliRunner

from bench import cli
from bench.analysis.compare import as_json, as_tables, differences, flat, same, verdict
from bench.analysis.export import metrics_frame, read_log
from bench.analysis.gains import gains_table, run_gains, sorted_gains
from bench.core.errors import RunError, UsageError
from bench.runs.config import load_shift, make_run_config
from bench.runs.finished import find_folder, find_record, matching, run_name
from bench.runs.records import Record, read_record

TINY = "ministreet-tiny"
CLASSES = load_shift(TINY).classes


@pytest.fixture(scope="module")
def records(finished_tiny: Path) -> dict[str, Record]:
    names = ("source_only", "adabn", "self_training")
    return {n: read_record(finished_tiny / make_run_config(n, TINY).hash / "record.json") for n in names}


def altered(record: Record, **changes: Any) -> Record:
    """A record with some values changed by dotted path (``__`` for the dot)."""
    content = record.model_dump(mode="json", by_alias=True)
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = content
        for parent in parents:
            section = section[parent]
        section[last] = value
    return Record.model_validate(content)


def call(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments))


# compare


def test_flat_names() -> None:
    assert flat({"a": 1, "b": {"c": [2], "d": {"e": None}}}) == {"a": 1, "b.c": [2], "b.d.e": None}


def test_a_record_is_the_same_as_itself(records: dict[str, Record]) -> None:
    by_section = differences(records["adabn"], records["adabn"])
    assert by_section == {"config": {}, "environment": {}, "result": {}, "cost": {}} and same(by_section)
    assert verdict(by_section) == "The two records are the same in config, environment, result and cost."


def test_each_difference_stands_in_its_section(records: dict[str, Record]) -> None:
    a = records["self_training"]
    b = altered(
        a, config__seed=1, versions__torch="9.9", hardware__threads=7, code__revision="f" * 12, result__miou=50.0,
        result__iou__bus=1.0, result__iou__car=None, cost__seconds=99.0,
    )  # fmt: skip
    by_section = differences(a, b)
    assert {key: (d.a, d.b) for key, d in by_section["config"].items()} == {"seed": (0, 1)}
    assert set(by_section["environment"]) == {"code.revision", "versions.torch", "hardware.threads"}
    assert set(by_section["result"]) == {"miou", "iou.bus", "iou.car"} and set(by_section["cost"]) == {"seconds"}
    assert by_section["result"]["miou"].change == pytest.approx(50 - a.result.miou)
    assert by_section["result"]["iou.car"].change is None and by_section["environment"]["versions.torch"].change is None
    assert not same(by_section) and verdict(by_section) == "They differ in config, environment, result and cost."
    only_faster = differences(a, altered(a, cost__seconds=1.0, date="2000-01-01"))
    assert (
        same(only_faster)
        and verdict(only_faster) == "They differ in environment and cost; config and result are the same."
    )


def test_other_methods_have_other_settings(records: dict[str, Record]) -> None:
    comparison = as_json(records["adabn"], records["self_training"])
    rows = comparison["differences"]["config"]
    assert rows["method"] == {"a": "adabn", "b": "self_training"}
    assert rows["settings.ema_decay"]["a"] is None and rows["settings.ema_decay"]["b"] > 0
    classes = [key for key in comparison["differences"]["result"] if key.startswith("iou.")]
    assert classes == [f"iou.{name}" for name in CLASSES if f"iou.{name}" in classes]  # in train-id order


def test_compare_command(finished_tiny: Path, records: dict[str, Record], tmp_path: Path) -> None:
    a, b = records["adabn"].run, records["self_training"].run
    options = ("--runs", str(finished_tiny), "--root", str(tmp_path))
    printed = call("compare", a, b, *options)
    assert (
        printed.exit_code == 0 and "They differ in config, result and cost; environment is the same." in printed.stdout
    )
    assert "ema_decay" in printed.stdout and f"{records['adabn'].result.miou:.2f}" in printed.stdout
    folder, file = str(finished_tiny / b), str(finished_tiny / a / "record.json")
    comparison = json.loads(call("compare", file, folder, *options, "--json").stdout)
    assert comparison == as_json(records["adabn"], records["self_training"]) and comparison["same"] is False
    assert json.loads(call("compare", a, a, *options, "--json").stdout)["same"] is True
    result = call("compare", a, "0123456789ab", *options)
    assert result.exit_code == 2 and "'0123456789ab' is no finished run" in result.stderr and result.stdout == ""


def test_committed_records_are_found_by_hash(records: dict[str, Record], tmp_path: Path) -> None:
    record = records["adabn"]
    path = tmp_path / "records" / TINY / f"adabn-s0-{record.run}.json"
    path.parent.mkdir(parents=True)
    path.write_text(record.to_json())
    assert find_record(record.run, tmp_path / "nowhere", tmp_path) == path
    assert find_record(str(path), tmp_path, tmp_path) == path


# gains


def seeds(record: Record, **by_class: list[float | None]) -> dict[int, Record]:
    """The record on several replicates, with these IoUs; classes that are not named have none."""
    count = len(next(iter(by_class.values())))
    nothing = dict.fromkeys(CLASSES, None)
    return {
        k: altered(record, config__seed=k, result__iou={**nothing, **{n: v[k] for n, v in by_class.items()}})
        for k in range(count)
    }


def test_gains_are_paired_and_sorted(records: dict[str, Record]) -> None:
    ours = seeds(records["adabn"], road=[60.0, 62.0], bus=[5.0, None], car=[40.0, 44.0])
    theirs = seeds(records["source_only"], road=[61.0, 63.0], bus=[2.0, 9.0], car=[30.0, 30.0], sky=[1.0, 1.0])
    gains = sorted_gains(ours, theirs, CLASSES)
    assert [gain.name for gain in gains] == ["car", "bus", "road"]
    car, bus, road = gains
    assert (car.ours, car.theirs, car.values, car.mean) == (42.0, 30.0, (10.0, 14.0), 12.0)
    assert car.half == pytest.approx(12.706 * 2, abs=0.01)  # t(0.975, 1) times the standard error 2
    assert (bus.ours, bus.theirs, bus.values, bus.half) == (5.0, 2.0, (3.0,), None)  # only where both have it
    assert road.mean == -1 and road.half == 0


def test_gains_of_methods_and_of_single_runs(finished_tiny: Path, records: dict[str, Record], tmp_path: Path) -> None:
    out = tmp_path / "new" / "gains.png"
    result = run_gains("self_training", "source_only", TINY, out, finished_tiny, tmp_path)
    a, b = records["self_training"].result, records["source_only"].result
    assert result["seeds"] == [0] and result["miou"] == {"difference": pytest.approx(a.miou - b.miou), "half": None}
    gains = {row["name"]: row["mean"] for row in result["classes"]}
    assert list(gains.values()) == sorted(gains.values(), reverse=True)
    ious = {n: (a.iou[n], b.iou[n]) for n in CLASSES if a.iou[n] is not None and b.iou[n] is not None}
    assert gains == {name: pytest.approx(x - y) for name, (x, y) in ious.items()}  # type: ignore[operator]
    assert out.read_bytes().startswith(b"\x89PNG")
    runs = records["self_training"].run, str(finished_tiny / records["source_only"].run)
    assert run_gains(*runs, TINY, None, finished_tiny, tmp_path) == {**result, "figure": None}
    lines = gains_table(result).splitlines()
    assert lines[0].split("|")[1].strip() == "class" and lines[-1].split("|")[1].strip() == "mIoU"
    assert len(lines) == 3 + len(gains)


def test_a_method_is_not_a_folder_of_its_name(
    finished_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adabn").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_gains("adabn", "source_only", TINY, None, finished_tiny, tmp_path)["seeds"] == [0]


def test_gains_that_cannot_be_shown(finished_tiny: Path, records: dict[str, Record], tmp_path: Path) -> None:
    def fails(ours: str, theirs: str, says: str, shift: str = TINY) -> None:
        with pytest.raises(UsageError) as caught:
            run_gains(ours, theirs, shift, None, finished_tiny, tmp_path)
        assert says in str(caught.value)

    fails("stpl", "adabn", "No record of 'stpl' on 'ministreet-tiny'")
    fails("tsp", "adabn", "Unknown method 'tsp'")
    fails("adabn:fusion=non", "adabn", "Unknown fusion 'non'")
    fails("adabn:fusion=none", "adabn", "No record of 'adabn:fusion=none'")
    path = tmp_path / "other.json"
    path.write_text(altered(records["adabn"], config__seed=3).to_json())
    fails(str(path), "adabn", "share no replicate")
    path.write_text(altered(records["adabn"], shift_hash="0" * 12).to_json())
    fails(str(path), "adabn", "was made under protocol 000000000000")
    result = call("gains", "adabn", "source_only", "--shift", TINY, "--runs", str(finished_tiny), "--out", "a.gif")
    assert result.exit_code == 2 and "--out must be a .png file" in result.stderr


def test_matching_records_and_their_names(records: dict[str, Record]) -> None:
    a, b = records["adabn"], altered(records["adabn"], config__seed=4)
    unfused = altered(records["adabn"], config__fusion="none")
    config = make_run_config("adabn", TINY, 0)
    assert matching([b, unfused, a, records["source_only"], a], config) == {0: a, 4: b}
    assert matching([a, unfused], make_run_config("adabn", TINY, 0, {"fusion": "none"})) == {0: unfused}
    assert run_name(unfused) == f"{run_name(a)} (fusion=none)"


# export


def test_export_is_the_logs_below_each_other(finished_tiny: Path, records: dict[str, Record], tmp_path: Path) -> None:
    run = records["self_training"].run
    log = [json.loads(line) for line in (finished_tiny / run / "metrics.jsonl").read_text().splitlines()]
    second = shutil.copytree(finished_tiny / run, tmp_path / "ffffffffffff")
    (second / "metrics.jsonl").write_text('{"step": 0, "odd": 0.1}\n')
    out = tmp_path / "new" / "a.csv"
    result = call("export", run, str(second), "--runs", str(finished_tiny), "--csv", str(out), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"csv": str(out), "rows": len(log) + 1}
    table = pd.read_csv(out)
    assert list(table)[:4] == ["run", "method", "seed", "step"] and list(table)[-1] == "odd"
    assert table["run"].tolist() == [run] * len(log) + ["ffffffffffff"] and set(table["method"]) == {"self_training"}
    for name in log[0]:
        assert table[name].tolist()[: len(log)] == [row[name] for row in log]  # to the last digit
    assert np.isnan(table["odd"][0]) and table["odd"].iloc[-1] == 0.1 and np.isnan(table["ce"].iloc[-1])


def test_logs_that_are_being_written_or_damaged(
    finished_tiny: Path, records: dict[str, Record], tmp_path: Path
) -> None:
    folder = shutil.copytree(finished_tiny / records["self_training"].run, tmp_path / "run")
    log = folder / "metrics.jsonl"
    text = log.read_text()
    log.write_text(text + '{"step": 6, "ce')  # killed, or still running
    assert len(read_log(folder)) == len(text.splitlines()) == len(metrics_frame([folder]))
    log.write_text(text + "nonsense\n" + text)
    with pytest.raises(RunError, match=r"metrics\.jsonl:7 is not a line of a training log"):
        read_log(folder)
    (folder / "config.yaml").write_text("nothing")
    with pytest.raises(RunError, match=r"config\.yaml is damaged"):
        metrics_frame([folder])


def test_nothing_to_export(finished_tiny: Path, records: dict[str, Record], tmp_path: Path) -> None:
    options = ("--runs", str(finished_tiny), "--csv", str(tmp_path / "a.csv"))
    result = call("export", records["source_only"].run, *options)
    assert result.exit_code == 2 and "did not train" in result.stderr and not (tmp_path / "a.csv").exists()
    result = call("export", "0123456789ab", *options)
    assert result.exit_code == 2 and "'0123456789ab' is no run" in result.stderr
    assert find_folder(records["adabn"].run, finished_tiny) == finished_tiny / records["adabn"].run


def test_a_comparison_cuts_no_value(records: dict[str, Record]) -> None:
    parts = as_tables(records["adabn"], records["source_only"]).renderables
    columns = [column for part in parts if isinstance(part, Table) for column in part.columns]
    assert columns and {column.overflow for column in columns} == {"fold"}
