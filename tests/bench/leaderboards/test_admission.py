"""What may stand on a leaderboard: records of this protocol, with the pixels of each target sequence that give their scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import RunError
from bench.leaderboards.bootstrap import paired_bootstrap
from bench.leaderboards.page import build, check, write
from bench.runs.records import Record
from bench.runs.sequences import place
from tests.bench.leaderboards.made import SHIFT, commit, counts_for, make_record, scored, table


@pytest.fixture(autouse=True)
def pages_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies and figures have tests of their own."""
    monkeypatch.setattr("bench.leaderboards.study_page.committed_studies", lambda: [])
    monkeypatch.setattr("bench.leaderboards.generated.Drawing.stale", lambda _: [])


def edited(record: Record, **config: Any) -> dict[str, Any]:
    """The record's JSON with its config changed but not its hash."""
    fields: dict[str, Any] = json.loads(record.to_json())
    return fields | {"config": fields["config"] | config}


def rehashed(record: Record, **config: Any) -> Record:
    """A record whose hash fits its changed config."""
    fields = edited(record, **config)
    changed = Record.model_validate(fields)
    return Record.model_validate(fields | {"run": changed.config.hash, "shift_hash": changed.config.shift_hash})


GOOD = make_record("stpl", 0, 40.0)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (rehashed(GOOD, shift_hash="0" * 12), "made under protocol 000000000000; 'ministreet' is now"),
        (make_record("stpl", 0, 40.0, shift_hash="0" * 12), "made under protocol 000000000000"),
        (make_record("stpl", 0, 40.0, shift="ministreet-dev"), "is of shift 'ministreet-dev', not 'ministreet'"),
        (Record.model_validate(edited(GOOD, seed=5)), "edited; run it again"),
        (rehashed(GOOD, method="tsp"), "Unknown method 'tsp'"),
        (rehashed(GOOD, settings={**GOOD.config.settings, "gone": 1}), r"changed since \(gone\)"),
        (
            make_record("stpl", 0, 40.0, method={"title": "STPL", "setting": "UDA"}),
            "ran as UDA, but 'stpl' is now SFDA",
        ),
    ],
)
def test_records_that_do_not_belong_are_refused_by_file(tmp_path: Path, record: Record, message: str) -> None:
    folder = tmp_path / "records" / SHIFT
    folder.mkdir(parents=True)
    (folder / "bad.json").write_text(record.to_json(), encoding="utf-8")
    for refuse in (write, check):
        with pytest.raises(RunError, match=message) as error:
            refuse(tmp_path)
        assert "bad.json" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(RunError, match=message):
        build(SHIFT, [record])
    assert not (tmp_path / f"{SHIFT}.md").exists()


@pytest.mark.parametrize("shift", ["ministreet-dev", "ministreet-tiny"])
def test_tuning_and_test_shifts_have_no_leaderboard(shift: str) -> None:
    with pytest.raises(RunError, match=r"is for (tune|test), not for reporting"):
        build(shift, [make_record("stpl", 0, 40.0, shift=shift)])


def test_a_run_counts_once() -> None:
    with pytest.raises(RunError, match=r"\(stpl, seed 0\) is recorded twice"):
        build(SHIFT, [GOOD, GOOD])


def test_no_records_no_page() -> None:
    with pytest.raises(RunError, match="has no records"):
        build(SHIFT, [])


# Scores per sequence


@pytest.fixture
def with_sequences(tmp_path: Path) -> Path:
    """Committed records of two methods on three replicates."""
    bases = {"self_training": 50.0, "stpl": 51.0}
    commit(tmp_path, [scored(key, seed, base + seed) for key, base in bases.items() for seed in range(3)])
    return tmp_path


def test_sequences_are_drawn_anew(with_sequences: Path) -> None:
    write(with_sequences)
    page = (with_sequences / f"{SHIFT}.md").read_text(encoding="utf-8")
    (comparison,) = table(page, "Paired comparisons")
    a, b = ({s: counts_for(base + s, s) for s in range(3)} for base in (51.0, 50.0))
    bootstrap = paired_bootstrap(a, b)
    assert bootstrap is not None and bootstrap.low > 0
    assert comparison["bootstrap 95 %"] == f"{bootstrap.low:+.2f} to {bootstrap.high:+.2f}"
    assert comparison["bootstrap p, Holm"] == "<0.001"


def test_a_touched_up_number_is_refused_by_file(with_sequences: Path) -> None:
    write(with_sequences)
    file = place(next((with_sequences / "records" / SHIFT).glob("stpl-s1-*.json")))
    lines = file.read_text().splitlines()
    cells = lines[1].split(",")
    cells[1] = str(int(cells[1]) - 1)
    file.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]))
    for refuse in (check, write):
        with pytest.raises(
            RunError, match=r"does not belong to stpl-s1-.*: .* in the record, .* from the counts"
        ) as error:
            refuse(with_sequences)
        assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_sequences_of_no_record_are_refused(with_sequences: Path) -> None:
    next((with_sequences / "records" / SHIFT).glob("stpl-s1-*.json")).unlink()
    with pytest.raises(RunError, match=r"stpl-s1-.*\.csv belongs to no record; remove it"):
        check(with_sequences)
