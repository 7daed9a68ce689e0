"""Leaderboards from hand-made records; every mean, interval and p-value checked here is worked out in the comments."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.errors import RunError, UsageError
from bench.leaderboards import page as leaderboard
from bench.leaderboards.bootstrap import paired_bootstrap
from bench.leaderboards.page import SEES, build, check, write
from bench.leaderboards.standings import oracle_and_source_only
from bench.runs.adaptation import GRANTS
from bench.runs.config import alterations, load_shift, make_run_config
from bench.runs.metrics import iou_from_counts, mean_iou
from bench.runs.records import Record
from bench.runs.sequences import place, write_sequences

REPOSITORY = Path(__file__).resolve().parents[3]
SHIFT = "ministreet"
SETTINGS = {"source_only": "none", "adabn": "SFDA", "self_training": "SFDA", "stpl": "SFDA", "oracle": "oracle"}


def make_record(key: str, seed: int, miou: float, *, shift: str = SHIFT, **changes: Any) -> Record:
    """A record with that mIoU; ``changes``: ``options`` of the run, and fields of the JSON to replace."""
    config = make_run_config(key, shift, seed, changes.pop("options", {}))
    classes = load_shift(shift).classes
    steps = 0 if key in ("source_only", "adabn") else 200
    value: dict[str, Any] = {
        "schema": 1,
        "run": config.hash,
        "config": config.model_dump(mode="json"),
        "shift_hash": config.shift_hash,
        "source_model": None,
        "method": {"title": key, "design": "-", "setting": SETTINGS[key], "floor": False},
        "result": {
            "iou": {name: miou + (5 if name == "road" else 0) for name in classes},
            "miou": miou,
            "pixel_accuracy": 80.0,
            "temporal_consistency": 60.0 + seed,
        },
        "selection": {
            "rule": "last",
            "label_looks": 0,
            "unsupervised": {"step": 100, "miou": miou - 1},
            "oracle": {"step": 150, "miou": miou + 2, "label_looks": 3 if steps else 1},
            "snapshots": [],
        },
        "cost": {
            "steps": steps,
            "seconds": steps / 10 + seed,
            "cpu_seconds": steps / 20 + seed,
            "total_seconds": 99.0,
            "peak_memory_mb": 900.0 + seed,
            "parameters": 600_000,
        },
        "code": {"revision": "abc123abc123", "dirty": False},
        "versions": {"python": "3.12.1", "torch": "2.14.0"},
        "hardware": {"cpu": "A CPU", "cores": 2, "threads": 2, "device": "cpu", "system": "Linux"},
        "date": f"2026-02-0{seed + 1}",
    }
    return Record.model_validate(value | changes)


def standard() -> list[Record]:
    """Three replicates of four methods, and two of a control."""
    scores = {
        "source_only": (30.0, 32.0, 34.0),
        "adabn": (36.0, 36.0, 36.0),
        "stpl": (40.0, 44.0, 48.0),
        "oracle": (70.0, 72.0, 74.0),
    }
    records = [make_record(method, seed, x) for method, values in scores.items() for seed, x in enumerate(values)]
    return records + [make_record("stpl", seed, x, options={"fusion": "none"}) for seed, x in enumerate((39.0, 41.0))]


def table(page: str, heading: str) -> list[dict[str, str]]:
    """The table under a heading, one dictionary per row."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def row(rows: list[dict[str, str]], start: str) -> dict[str, str]:
    """The only row whose first cell begins so."""
    (found,) = [r for r in rows if next(iter(r.values())).strip("[").startswith(start)]
    return found


def test_main_table_by_hand() -> None:
    rows = table(build(SHIFT, standard()), "Results")
    # The order is by what a setting may see, then by mean.
    assert [r["setting"] for r in rows] == ["oracle", "SFDA", "SFDA", "none"]
    stpl = row(rows, "STPL")
    assert stpl["method"] == "[STPL](https://arxiv.org/abs/2303.14361)"
    assert stpl["design"] == "video"
    assert stpl["n"] == "3"  # the control is not among them
    assert stpl["mIoU, %"] == "44.0 ± 9.9"  # s = 4, 4.303 * 4 / sqrt 3 = 9.94
    assert stpl["gain"] == "+12.0 ± 5.0"  # 10, 12, 14
    assert stpl["gap closed, %"] == "30 ± 12"  # 10, 12, 14 of 40: 25, 30, 35
    assert stpl["temporal cons., %"] == "61.0 ± 2.5"  # 60, 61, 62: 4.303 / sqrt 3 = 2.48
    assert stpl["CPU s/step"] == "0.055"  # median of 10, 11, 12 seconds over 200 steps
    assert stpl["step, ×"] == "–"  # no self-training to compare with
    # STPL minus AdaBN: 4, 8, 12: t = 8 / (4 / sqrt 3) = 3.46 with 2 degrees of freedom, p = 0.074: not told apart
    assert (stpl["place"], stpl["group"]) == ("1–2", "a")
    assert stpl["PUBLISHED mIoU, viper2cityscapes, %"] == "*52.5*"
    assert stpl["source of the published number"] == "*STPL CVPR 2023 slides*"


def test_cost_is_cpu_time_relative_to_self_training() -> None:
    changes = {"seconds": 42.0, "cpu_seconds": 22.0, "peak_memory_mb": 450.0}
    slow = make_record("self_training", 0, 40.0).cost.model_copy(update=changes)
    page = build(SHIFT, [*standard(), make_record("self_training", 0, 40.0, cost=slow.model_dump())])
    rows = table(page, "Cost")
    stpl = row(rows, "STPL")
    assert (stpl["CPU s/step"], stpl["CPU, s"]) == ("0.055", "11")
    assert stpl["step, ×"] == "0.50"  # 0.055 over 0.11
    assert (stpl["wall s/step"], stpl["wall, s"]) == ("0.105", "21")  # 20, 21, 22 seconds over 200 steps
    assert (stpl["memory, MB"], stpl["memory, ×"]) == ("902", "2.00")  # median of 900, 901, 902 over 450
    assert stpl["parameters, M"] == "0.60"
    assert row(rows, "Self-training")["step, ×"] == "1.00"
    assert [row(rows, "AdaBN")[name] for name in ("step, ×", "CPU, s", "wall s/step")] == ["–"] * 3  # takes no step
    assert row(table(page, "Results"), "STPL")["step, ×"] == "0.50"


def test_every_pair_of_a_setting() -> None:
    records = standard() + [make_record("self_training", seed, x) for seed, x in enumerate((32.0, 36.1, 40.0))]
    page = build(SHIFT, records)
    assert [line for line in page.splitlines() if line.startswith("## Every pair")] == ["## Every pair of SFDA methods"]
    rows = table(page, "Every pair of SFDA methods")
    # Best mean first; STPL minus self-training 8, 7.9, 8: s = 0.0577, t = 239, p = 2e-5: told apart after three-fold correction
    name = "Self-training (mean teacher)"
    assert list(rows[0]) == ["method", name, "AdaBN"] and [r["method"] for r in rows] == ["STPL", name]
    assert rows[0][name] == "**+7.97 ± 0.14**" and rows[0]["AdaBN"] == "+8.00 ± 9.94" and rows[1][name] == ""
    results = table(page, "Results")
    places = {r["method"].split("]")[0].strip("["): (r["place"], r["group"]) for r in results}
    assert places["STPL"] == ("1–2", "a") and places[name] == ("2–3", "b") and places["AdaBN"] == ("1–3", "a b")
    assert places["Oracle"] == ("–", "–")  # alone in its setting


def test_order_against_the_published_one() -> None:
    # Published: source_only 37.1 < stpl 52.5 < oracle 69.9, and measured so too; adabn has no published number.
    (found,) = table(build(SHIFT, standard()), "Measured against published order")
    assert list(found.values()) == ["all rows", "3", "3", "+1.00", "+1.00 to +1.00"]
    assert "Measured against" not in build(SHIFT, [r for r in standard() if r.config.method != "oracle"])


def test_a_method_that_evaluates_its_average_shows_its_student() -> None:
    student = {"student": make_record("stpl", 0, 35.0).result.model_dump()}
    records = [make_record("stpl", 0, 40.0, beside=student), *(r for r in standard() if r.config.method != "stpl")]
    (found,) = table(build(SHIFT, records), "Average and student")
    assert (found["n"], found["its average (the row above)"], found["student"]) == ("1", "40.0", "35.0")
    assert "## Average and student" not in build(SHIFT, standard())


def test_floors_and_ceiling_have_no_share_of_the_gap() -> None:
    rows = table(build(SHIFT, standard()), "Results")
    floor, start, ceiling = row(rows, "Source only"), row(rows, "AdaBN"), row(rows, "Oracle")
    assert (floor["gain"], floor["gap closed, %"], floor["CPU s/step"], floor["place"]) == ("–", "–", "–", "–")
    assert (ceiling["gain"], ceiling["gap closed, %"]) == ("+40.0 ± 0.0", "–")
    assert floor["PUBLISHED mIoU, viper2cityscapes, %"] == "*37.1*"  # in the paper's table, floor or not
    assert start["PUBLISHED mIoU, viper2cityscapes, %"] == "†"  # a floor of ours
    assert start["mIoU, %"] == "36.0 ± 0.0"


def test_comparisons_are_the_expected_chain() -> None:
    records = standard() + [make_record("self_training", seed, x) for seed, x in enumerate((32.0, 36.0, 40.0))]
    rows = table(build(SHIFT, records), "Paired comparisons")
    titles = ("Source only", "AdaBN", "Self-training (mean teacher)", "STPL")
    assert [(r["minus"], r["method"]) for r in rows] == list(itertools.pairwise(titles))
    # 6, 4, 2: mean 4, s = 2, t = 4 / (2 / sqrt 3) = sqrt 12, p = 1 - sqrt 12 / sqrt 14; then -4, 0, 4; then 8, 8, 8
    assert (rows[0]["pairs"], rows[0]["difference"], rows[0]["p"]) == ("3", "+4.00 ± 4.97", "0.074")
    assert (rows[1]["difference"], rows[1]["p"]) == ("+0.00 ± 9.94", "1.000")
    assert rows[2]["difference"] == "+8.00 ± 0.00"
    assert [r["p, Holm"] for r in rows] == ["0.148", "1.000", "<0.001"]  # 2 x 0.074, 1, 3 x 0
    assert {r["bootstrap 95 %"] for r in rows} == {"–"}  # records without sequences


def test_controls_are_paired_with_the_unaltered_method() -> None:
    (control,) = table(build(SHIFT, standard()), "Controls and ablations")
    assert (control["method"], control["changed options"]) == ("STPL", "`fusion=none`")
    # 39, 41 against 40, 44: -1, -3; half-width 12.706 * sqrt 2 / sqrt 2, p = 1 - 2/pi atan 2
    assert (control["unchanged, %"], control["pairs"]) == ("42.0 ± 25.4", "2")
    assert (control["difference"], control["p"]) == ("-2.00 ± 12.71", "0.295")
    assert control["minus self-training, same options"] == "–"


def test_controls_stand_beside_self_training_with_the_same_options() -> None:
    records = standard() + [make_record("self_training", seed, 38.0, options={"fusion": "none"}) for seed in range(2)]
    own, control = table(build(SHIFT, records), "Controls and ablations")
    assert control["method"] == "STPL"
    assert control["minus self-training, same options"] == "+2.00 ± 12.71"  # 39, 41 less 38
    assert own["minus self-training, same options"] == "–"
    times = [make_record("stpl", seed, 39.0, options={"fusion": "none", "times": "current"}) for seed in range(2)]
    control = table(build(SHIFT, records + times), "Controls and ablations")[2]
    assert control["changed options"] == "`fusion=none`, `times=current`"
    assert control["minus self-training, same options"] == "+1.00 ± 0.00"  # an option that self-training does not have


def test_selection_rules_stand_in_their_own_columns() -> None:
    stpl = row(table(build(SHIFT, standard()), "Selection rules"), "STPL")
    assert stpl["`last` (0 looks)"] == "44.0 ± 9.9"
    assert stpl["unsupervised (0 looks)"] == "43.0 ± 9.9"
    assert (stpl["best on the labels"], stpl["its looks per run"]) == ("46.0 ± 9.9", "3")


def test_per_class_means_and_the_best_source_free_in_bold() -> None:
    rows = table(build(SHIFT, standard()), "IoU per class")
    assert row(rows, "STPL")["road"] == "**49.0**"  # 45, 49, 53
    assert row(rows, "STPL")["mIoU"] == "**44.0**"
    assert row(rows, "AdaBN")["road"] == "41.0"
    assert row(rows, "Oracle")["road"] == "77.0"  # better, but not source-free: not bold


def test_a_floor_as_good_as_the_best_is_not_bold() -> None:
    records = [make_record(method, 0, 44.0) for method in ("source_only", "stpl")] + [make_record("adabn", 0, 36.0)]
    rows = table(build(SHIFT, records), "IoU per class")
    assert [row(rows, name)["mIoU"] for name in ("STPL", "AdaBN", "Source only")] == ["**44.0**", "36.0", "44.0"]


def test_a_class_that_never_occurs_is_a_dash() -> None:
    records = standard()
    without = [
        Record.model_validate(
            (value := json.loads(r.to_json()))
            | {"result": value["result"] | {"iou": value["result"]["iou"] | {"bus": None}}}
        )
        for r in records
    ]
    rows = table(build(SHIFT, without), "IoU per class")
    assert {r["bus"] for r in rows} == {"–"}
    assert row(rows, "STPL")["road"] == "**49.0**"


def test_one_replicate_shows_means_alone() -> None:
    page = build(SHIFT, [r for r in standard() if r.config.seed == 0])
    stpl = row(table(page, "Results"), "STPL")
    assert (stpl["mIoU, %"], stpl["gain"], stpl["gap closed, %"]) == ("40.0", "+10.0", "25")
    assert table(page, "Paired comparisons")[0]["p"] == "–"
    assert "±" not in "".join(line for line in page.splitlines() if line.startswith("|"))


def test_provenance_says_where_the_numbers_come_from() -> None:
    records = standard()
    records[0] = make_record("source_only", 0, 30.0, code={"revision": "def456def456", "dirty": True})
    page = build(SHIFT, records)
    for text in (
        "- Runs: 14, of 2026-02-01 to 2026-02-03",
        "- Replicates: 3 (seeds 0, 1, 2)",
        f"hash `{load_shift(SHIFT).hash}`",
        "- Selection: rule `last`, 0 looks",
        "- Code: abc123abc123, def456def456 (dirty)",
        "- Versions: python 3.12.1, torch 2.14.0",
        "- Hardware: A CPU (model not recorded), 2 cores, 2 threads, device cpu, Linux",
        f"- Readout: the {load_shift(SHIFT).evaluation.readout}'s weights",
    ):
        assert text in page


def test_what_the_page_says_settings_may_see_is_what_the_harness_grants() -> None:
    assert SEES.keys() == GRANTS.keys()
    for setting, grants in GRANTS.items():
        assert ("labelled source clips" in SEES[setting]) == ("source-train/label" in grants)
        assert ("labelled target" in SEES[setting].replace("unlabelled", "")) == ("target-train/label" in grants)


def test_same_bytes_for_any_order_of_the_records() -> None:
    records = standard()
    page = build(SHIFT, records)
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert build(SHIFT, records) == page


def test_alterations_are_named_as_options() -> None:
    assert alterations(make_record("stpl", 0, 40.0).config) == ()
    altered = make_record("stpl", 0, 40.0, options={"contrast": False, "flow": "zero", "ema_decay": 0.5})
    assert alterations(altered.config) == ("contrast=false", "ema_decay=0.5", "flow=zero")


def test_a_control_without_its_method_has_no_difference() -> None:
    page = build(SHIFT, [make_record("stpl", 0, 40.0, options={"fusion": "none"})])
    (control,) = table(page, "Controls and ablations")
    assert (control["unchanged, %"], control["pairs"], control["difference"], control["p"]) == ("–", "0", "–", "–")
    assert "## Results" not in page


def test_floor_and_ceiling_of_a_replicate() -> None:
    records = standard()
    assert oracle_and_source_only(records, 1) == (32.0, 72.0)
    assert oracle_and_source_only(records, 7) == (None, None)
    altered = make_record("oracle", 7, 80.0, options={"fusion": "none"})
    assert oracle_and_source_only([*records, altered, make_record("source_only", 7, 31.0)], 7) == (31.0, None)


# Refusals


def edited(record: Record, **config: Any) -> dict[str, Any]:
    """The record's JSON with its config changed but not its hash."""
    value: dict[str, Any] = json.loads(record.to_json())
    return value | {"config": value["config"] | config}


def rehashed(record: Record, **config: Any) -> Record:
    """A record whose hash fits its changed config."""
    value = edited(record, **config)
    changed = Record.model_validate(value)
    return Record.model_validate(value | {"run": changed.config.hash, "shift_hash": changed.config.shift_hash})


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


# Files


@pytest.fixture(autouse=True)
def no_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of studies have tests of their own; here the committed ones stay out of the way."""
    monkeypatch.setattr("bench.leaderboards.study_page.committed_studies", lambda: [])


@pytest.fixture
def no_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time and are beside the point where pages are tested."""
    monkeypatch.setattr("bench.leaderboards.generated.Drawing.stale", lambda _: [])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "records" / SHIFT
    folder.mkdir(parents=True)
    for record in standard():
        name = f"{record.config.method}-s{record.config.seed}-{record.run}.json"
        (folder / name).write_text(record.to_json(), encoding="utf-8")
    return tmp_path


def figures(root: Path) -> list[Path]:
    """Figures of a page, in its order."""
    return [root / "figures" / f"{SHIFT}{of}" for of in (".png", "-first-page.png", "-first-page.svg", "-classes.png")]


def test_write_then_check(root: Path) -> None:
    page, settings = root / f"{SHIFT}.md", root / "settings.md"
    assert check(root) == [page, *figures(root), settings]
    written = write(root)
    assert written == [*figures(root), page, settings]
    before = {path: path.read_bytes() for path in written}
    assert check(root) == []
    assert f"![mIoU of every method](figures/{SHIFT}.png)".encode() in before[page]
    assert write(root) == []  # what is fresh is left alone
    for path in written:
        path.unlink()
    assert write(root) == written and {path: path.read_bytes() for path in written} == before  # the same bytes again


def test_a_page_is_stale_when_text_or_records_change(root: Path) -> None:
    page = root / f"{SHIFT}.md"
    write(root)
    page.write_text(page.read_text(encoding="utf-8").replace("44.0 ± 9.9", "54.0 ± 9.9"), encoding="utf-8")
    assert check(root) == [page]
    write(root)
    assert check(root) == []
    next((root / "records" / SHIFT).glob("stpl-s2-*.json")).unlink()
    assert check(root) == [page, *figures(root)]


@pytest.mark.parametrize("name", [f"{SHIFT}.md", f"figures/{SHIFT}.png", f"figures/{SHIFT}-first-page.svg"])
def test_a_file_that_was_not_generated_is_not_written_over(name: str, root: Path) -> None:
    (root / "figures").mkdir(exist_ok=True)
    (root / name).write_text("# My notes: do not lose them")
    with pytest.raises(UsageError, match=r"was not written by bench; move it away, or choose another --root"):
        write(root)
    assert (root / name).read_text() == "# My notes: do not lose them"


def test_a_figure_is_stale_when_it_is_missing_broken_or_of_other_data(root: Path) -> None:
    write(root)
    scores, first, vector, classes = figures(root)
    classes.unlink()
    scores.write_bytes(scores.read_bytes()[:-200])
    vector.write_text(vector.read_text().replace("data ", "data 0"))
    assert check(root) == [scores, vector, classes]
    assert write(root) == [scores, vector, classes] and check(root) == []
    oracle = next((root / "records" / SHIFT).glob("oracle-s0-*.json"))  # in the scores and on the first page
    told = json.loads(oracle.read_text())
    told["result"]["miou"] += 1e-9  # less than counts
    oracle.write_text(json.dumps(told))
    assert check(root) == []
    told["result"]["miou"] += 0.01
    oracle.write_text(json.dumps(told))
    assert check(root) == [scores, first, vector]  # the page rounds to 0.1: not stale


@pytest.mark.usefixtures("no_drawings")
def test_a_page_without_records_is_stale_and_removed(root: Path) -> None:
    write(root)
    for path in (root / "records" / SHIFT).glob("*.json"):
        path.unlink()
    (root / f"{SHIFT}-gone.md").write_text("# Study: of records that are gone\n", encoding="utf-8")
    (root / f"{SHIFT}-notes.md").write_text("# Notes of mine\n", encoding="utf-8")
    (root / "ministreet-dev.md").write_text("# Notes of mine\n", encoding="utf-8")  # not a leaderboard: left alone
    assert check(root) == [root / f"{SHIFT}.md", root / f"{SHIFT}-gone.md"]
    assert write(root) == []
    assert check(root) == [] and not (root / f"{SHIFT}.md").exists() and (root / "ministreet-dev.md").exists()
    assert (root / f"{SHIFT}-notes.md").exists() and not (root / f"{SHIFT}-gone.md").exists()


def test_nothing_there_is_fresh(tmp_path: Path) -> None:
    assert check(tmp_path) == [] and write(tmp_path) == []


def test_a_truncated_record_is_named(root: Path) -> None:
    path = next((root / "records" / SHIFT).glob("oracle-s0-*.json"))
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    with pytest.raises(RunError, match=r"oracle-s0-.* is damaged"):
        check(root)


@pytest.mark.usefixtures("no_drawings")
def test_the_page_is_a_function_of_records_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock and no machine: the page stays the same where both are gone."""
    write(root)
    monkeypatch.setattr("time.time", lambda: 0.0)
    monkeypatch.setattr("platform.platform", lambda: "elsewhere")
    monkeypatch.chdir(root)
    assert leaderboard.check(Path(".")) == []


# Scores per sequence


def counts_for(miou: float, seed: int, clips: int = 12) -> dict[str, np.ndarray]:
    """Pixels per clip of 15 classes, all pooled near ``miou`` percent; which clips are hard depends on the seed alone."""
    truth = np.random.default_rng(seed).integers(200, 400, (clips, 15))
    # IoU h with as many wrong of each class as are missed: tp / (2 truth - tp) = m  ->  tp = 2 m truth / (1 + m)
    hits = (2 * miou / (100 + miou) * truth).astype(np.int64)
    return {f"{i:05d}": np.stack([hits[i], truth[i], truth[i]], 1).astype(np.int64) for i in range(clips)}


def scored(key: str, seed: int, miou: float, **changes: Any) -> tuple[Record, dict[str, np.ndarray]]:
    """A record whose scores are those of its sequences."""
    record, counts = make_record(key, seed, miou, **changes), counts_for(miou, seed)
    total = sum(counts.values())
    iou = 100 * iou_from_counts(total)
    result = {
        "iou": dict(zip(load_shift(SHIFT).classes, iou.tolist(), strict=True)),
        "miou": 100 * mean_iou(iou_from_counts(total)),
        "pixel_accuracy": 100 * float(total[:, 0].sum() / total[:, 1].sum()),
        "temporal_consistency": 60.0,
    }
    return record.model_copy(update={"result": record.result.model_validate(result)}), counts


@pytest.fixture
def with_sequences(tmp_path: Path) -> Path:
    """Committed records of two methods on three replicates with their sequences."""
    folder = tmp_path / "records" / SHIFT
    folder.mkdir(parents=True)
    for key, base in (("self_training", 50.0), ("stpl", 51.0)):
        for seed in range(3):
            record, counts = scored(key, seed, base + seed)
            path = folder / f"{key}-s{seed}-{record.run}.json"
            path.write_text(record.to_json(), encoding="utf-8")
            write_sequences(place(path), counts, load_shift(SHIFT).classes)
    return tmp_path


@pytest.mark.usefixtures("no_drawings")
def test_sequences_are_drawn_anew(with_sequences: Path) -> None:
    write(with_sequences)
    page = (with_sequences / f"{SHIFT}.md").read_text(encoding="utf-8")
    (found,) = table(page, "Paired comparisons")
    a, b = ({s: counts_for(base + s, s) for s in range(3)} for base in (51.0, 50.0))
    again = paired_bootstrap(a, b)
    assert again is not None and again.low > 0
    assert found["bootstrap 95 %"] == f"{again.low:+.2f} to {again.high:+.2f}"
    assert found["bootstrap p, Holm"] == "<0.001"
    next((with_sequences / "records" / SHIFT / "sequences").glob("stpl-s2-*")).unlink()  # the other two remain
    assert check(with_sequences) == [with_sequences / f"{SHIFT}.md"]


@pytest.mark.usefixtures("no_drawings")
@pytest.mark.parametrize("what", ["sequences", "record"])
def test_a_touched_up_number_is_refused_by_file(what: str, with_sequences: Path) -> None:
    write(with_sequences)
    path = next((with_sequences / "records" / SHIFT).glob("stpl-s1-*.json"))
    if what == "sequences":
        table_ = place(path)
        line = table_.read_text().splitlines()[1].split(",")
        more = [*line[:1], str(int(line[1]) + 1), *line[2:]]
        table_.write_text(table_.read_text().replace(",".join(line), ",".join(more)))
    else:
        told = json.loads(path.read_text())
        told["result"]["miou"] += 0.5
        path.write_text(json.dumps(told))
    for refuse in (check, write):
        with pytest.raises(
            RunError, match=r"does not belong to stpl-s1-.*: .* in the record, .* from the counts"
        ) as error:
            refuse(with_sequences)
        assert str(place(path)) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.usefixtures("no_drawings")
def test_sequences_of_no_record_are_refused(with_sequences: Path) -> None:
    next((with_sequences / "records" / SHIFT).glob("stpl-s1-*.json")).unlink()
    with pytest.raises(RunError, match=r"stpl-s1-.*\.csv belongs to no record; remove it"):
        check(with_sequences)


@pytest.mark.usefixtures("no_drawings")
def test_the_same_bytes_in_another_process_and_locale(with_sequences: Path) -> None:
    """Byte for byte, with another order of hashing, another directory and another locale."""
    write(with_sequences)
    code = (
        "from pathlib import Path; from bench.leaderboards import generated, page; generated.Drawing.stale = lambda _: []; "
        "print(page.check(Path('.')))"
    )
    for seed in ("1", "2"):
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "LC_ALL": "C",
            "PYTHONPATH": str(REPOSITORY),
            "TZ": "Asia/Tokyo",
        }
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=with_sequences, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


# Several processors


def test_records_of_several_processors_say_so() -> None:
    records = standard()
    assert "- Processors:" not in build(SHIFT, records)
    new = {
        "cpu": "A CPU",
        "cpu_model": "family 26, AVX512",
        "cores": 2,
        "threads": 2,
        "device": "cpu",
        "system": "Linux",
    }
    records[0] = make_record("source_only", 0, 30.0, hardware=new)
    page = build(SHIFT, records)
    assert "- Processors: 2 kinds; the same configuration scores differently on each" in page
    assert "replicates 0 have records of several" in page
    assert "A CPU (family 26, AVX512), 2 cores" in page and "A CPU (model not recorded), 2 cores" in page
    records = [make_record(r.config.method, r.config.seed, r.result.miou, hardware=new) for r in standard()[:-2]]
    assert "- Processors:" not in build(SHIFT, records)
