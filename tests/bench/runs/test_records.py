"""Records on disk: validated when read, whole when written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import RunError
from bench.core.files import write_atomically
from bench.core.schema import finite
from bench.runs.config import make_run_config
from bench.runs.records import Record, read_record, read_records


def record(**changes: Any) -> dict[str, Any]:
    config = make_run_config("adabn", "ministreet-tiny")
    snapshot = {"step": 0, "target_score": 1.0, "miou": 40.0}
    fields: dict[str, Any] = {
        "schema": 1,
        "run": config.hash,
        "config": config.model_dump(mode="json"),
        "shift_hash": config.shift_hash,
        "source_model": "0123456789ab",
        "method": {"title": "AdaBN"},
        "result": {"iou": {"road": 80.0, "sky": None}, "miou": 80.0, "pixel_accuracy": 90.0, "temporal_consistency": 60.0},
        "selection": {
            "rule": "last", "label_looks": 0, "unsupervised": {"step": 0, "miou": 40.0},
            "oracle": {"step": 0, "miou": 40.0, "label_looks": 1}, "snapshots": [snapshot],
        },
        "cost": {
            "steps": 0, "seconds": 0.0, "cpu_seconds": 0.0, "total_seconds": 1.0, "peak_memory_mb": 1.0, "parameters": 2,
        },
        "code": {"revision": None, "dirty": None},
        "versions": {"python": "3"},
        "hardware": {"threads": 1},
        "date": "2030-01-01",
    }  # fmt: skip
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        section = fields
        for key in parents:
            section = section[key]
        section[last] = value
    return fields


def record_file(tmp_path: Path, fields: dict[str, Any]) -> Path:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


def test_a_record_survives_being_written_and_read(tmp_path: Path) -> None:
    first = read_record(record_file(tmp_path, record()))
    write_atomically(tmp_path / "again.json", first.to_json())
    assert read_record(tmp_path / "again.json") == first
    assert first.to_json() == read_record(tmp_path / "again.json").to_json()
    assert first.to_json().endswith("}\n") and '"sky": null' in first.to_json()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"result__miou": 250.0}, "result.miou: Input should be less than or equal to 100"),
        ({"run": "../../../../x"}, "run: String should match pattern"),
        ({"digests": {"clips": "0" * 64}}, "digests.checkpoint: Field required"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"result__miou": "high"}, "result.miou: Input should be a valid number"),
        ({"result__miou": None}, "result.miou"),
        ({"selection__rule": "oracle"}, "selection.rule: Input should be 'last'"),
        ({"selection__label_looks": 3}, "selection.label_looks: Input should be 0"),
        ({"config__seed": -1}, "config.seed: Input should be greater than or equal to 0"),
    ],
)
def test_a_record_that_does_not_validate_is_refused_with_the_fields_path(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = record_file(tmp_path, record(**changes))
    with pytest.raises(RunError, match=f"Record {path} is damaged: {says}"):
        read_record(path)


@pytest.mark.parametrize("more", [{}, {"surprise": 1, "result__miou": "high"}])
def test_a_record_of_another_version_is_not_damaged(more: dict[str, Any], tmp_path: Path) -> None:
    path = record_file(tmp_path, record(schema=2, **more))
    message = f"Record {path} is of schema 2; this version of bench reads schema 1: use the version that made it"
    with pytest.raises(RunError, match=f"^{message}$"):
        read_record(path)


def test_digests_are_no_part_of_older_records(tmp_path: Path) -> None:
    text = read_record(record_file(tmp_path, record())).to_json()
    assert "digests" not in text
    digests = {"checkpoint": "0" * 64, "source_model": "f" * 64}
    reread = read_record(record_file(tmp_path, record(digests=digests)))
    assert reread.digests is not None and reread.digests.model_dump() == digests
    assert json.loads(reread.to_json()) == json.loads(text) | {"digests": digests}


@pytest.mark.parametrize("keep", [0, 1, 100, -3])
def test_a_truncated_record_is_refused(keep: int, tmp_path: Path) -> None:
    path = record_file(tmp_path, record())
    os.truncate(path, keep % path.stat().st_size)
    with pytest.raises(RunError, match=r"is damaged: .*; delete it and run again") as caught:
        read_record(path)
    assert "\n" not in str(caught.value)


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"Cannot read record {tmp_path}/none.json: No such file"):
        read_record(tmp_path / "none.json")


def test_records_are_found_below_a_folder_in_order(tmp_path: Path) -> None:
    for name, seed in (("b/2.json", 2), ("a/9.json", 9), ("b/1.json", 1)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(record(config__seed=seed)))
    (tmp_path / "a" / ".hidden.json.123").write_text("half")
    assert [r.config.seed for r in read_records(tmp_path)] == [9, 1, 2]
    assert read_records(tmp_path / "nowhere") == []


def test_a_full_disk_keeps_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, "old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        RunError, match=f"Cannot write {path}: No space left on device; free space or choose another folder"
    ):
        write_atomically(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["record.json"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"Cannot write {tmp_path}/file/deep/r.json: Not a directory"):
        write_atomically(tmp_path / "file" / "deep" / "r.json", "x")


def test_nan_becomes_null_for_a_class_and_is_refused_as_a_score() -> None:
    assert finite(float("nan")) is None and finite(1.5) == 1.5
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"result\.miou\s+Input should be a finite number"):
            Record.model_validate(record(result__miou=value))
