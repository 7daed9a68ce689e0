"""Reports of studies from hand-made records: rows, sentences from statistics, layout by what varies, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.errors import RunError, UsageError
from bench.leaderboards import page as leaderboard
from bench.leaderboards import study_page
from bench.leaderboards.page import study_pages
from bench.leaderboards.study_factors import factors_of
from bench.leaderboards.study_page import Report, report
from bench.leaderboards.study_text import compare, sentence
from bench.runs.config import RunConfig, load_shift, make_run_config
from bench.runs.records import Record
from bench.runs.sequences import write_sequences
from tests.bench.leaderboards.made import SHIFT, commit, make_record, scored, table


@dataclass(frozen=True)
class Row:
    """A study's row, as ``bench.sweeps.study`` makes it."""

    label: str
    method: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    name: str
    rows: tuple[Row, ...]
    title: str = "A study"
    question: str = "What does it do?"
    reference: str | None = None
    seeds: tuple[int, ...] = field(default=(0, 1, 2))
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def reference_row(self) -> Row | None:
        return next((row for row in self.rows if row.label == self.reference), None)


def expand(study: Study, shift: str = SHIFT) -> list[tuple[Row, int, RunConfig]]:
    return [(r, s, make_run_config(r.method, shift, s, dict(r.options))) for r in study.rows for s in study.seeds]


def study_with_records(
    scores: Mapping[str, tuple[Mapping[str, Any], tuple[float, ...]]], **fields: Any
) -> tuple[Study, list[Record]]:
    """A study of STPL and its records: label to options and mIoU by seed."""
    study = Study("try", tuple(Row(label, "stpl", options) for label, (options, _) in scores.items()), **fields)
    records = [
        make_record("stpl", seed, miou, options=dict(options))
        for options, values in scores.values()
        for seed, miou in enumerate(values)
    ]
    return study, records


def reported(scores: Mapping[str, tuple[Mapping[str, Any], tuple[float, ...]]], **fields: Any) -> Report:
    study, records = study_with_records(scores, **fields)
    study_report = report(study, expand(study), SHIFT, records)
    assert study_report is not None
    return study_report


BASE = (50.0, 52.0, 54.0)
TEMPERATURES = {
    "0.05": ({"temperature": 0.05}, (49.0, 51.0, 53.01)),
    "default": ({}, BASE),
    "0.2": ({"temperature": 0.2}, (50.5, 51.0, 54.5)),
    "0.4": ({"temperature": 0.4}, (48.0, 50.02, 52.0)),
}
CROSSED = {
    f"{fusion}, {times}": ({"fusion": fusion, "times": times}, tuple(x + a + b for x in BASE))
    for fusion, a in (("conv1x1", 0.0), ("add", 1.0), ("none", -3.0))
    for times, b in (("both", 0.0), ("current", 0.25))
}


def test_rows_with_their_difference_to_the_reference() -> None:
    page = reported(TEMPERATURES).text
    rows = {r["row"]: r for r in table(page, "Rows")}
    assert list(rows) == list(TEMPERATURES)
    # -1, -1, -0.99: mean -0.997, s = 0.00577, half 4.303 * 0.00577 / sqrt 3 = 0.0143
    assert rows["0.05"]["difference"] == "-1.00 ± 0.01" and rows["0.05"]["p, Holm"] == "<0.001"
    assert rows["default"]["difference"] == "reference" and rows["default"]["p"] == ""
    # 0.5, -1, 0.5: mean 0, p = 1
    assert (rows["0.2"]["difference"], rows["0.2"]["p"], rows["0.2"]["p, Holm"]) == ("+0.00 ± 2.15", "1.000", "1.000")
    assert rows["default"]["changed options"] == "none" and rows["0.2"]["changed options"] == "`temperature=0.2`"
    assert rows["default"]["mIoU, %"] == "52.0 ± 5.0" and rows["default"]["n"] == "3"
    assert rows["default"]["temporal cons., %"] == "61.0 ± 2.5" and rows["default"]["CPU s/step"] == "0.055"


def test_conclusions_are_computed() -> None:
    first, second = reported(TEMPERATURES).conclusions
    assert first == (
        "`0.4` differs from `default` by -1.99 ± 0.03 mIoU points over 3 replicates (paired t-test, Holm-corrected p < 0.001), "
        "and so does `0.05` (-1.00 ± 0.01); `0.2` cannot be told apart from it."
    )
    assert second.startswith("Of all 6 pairs of rows ") and "`default`" in second
    assert reported(TEMPERATURES).text.count(f"- {first}") == 1


def test_what_cannot_be_told_apart_is_said_so() -> None:
    noisy = {"plain": ({}, BASE), "a": ({"drop": 0.3}, (51.0, 51.0, 54.5)), "b": ({"drop": 0.4}, (48.0, 53.0, 54.0))}
    first, second = reported(noisy).conclusions
    # b - plain: -2, 1, 0: mean -0.33, s = 1.53, half 3.79, p = 0.742; a - plain: 1, -1, 0.5: p = 0.808
    assert first == (
        "None of the 2 others can be told apart from `plain`; the largest difference is that of `b`, -0.33 ± 3.79 mIoU points "
        "over 3 replicates (paired t-test, Holm-corrected p = 1.000)."
    )
    assert second == (
        "Of all 3 pairs of rows 0 can be told apart (Holm-corrected over all of them); the best row, `a`, cannot be told apart "
        "from `plain` and `b`."
    )


def test_two_options_crossed_are_averaged_over_each_other() -> None:
    study_report = reported(CROSSED, reference="conv1x1, both")
    assert [factor.name for factor in study_report.factors.crossed] == ["fusion", "times"]
    first, second = study_report.conclusions
    assert first.startswith(
        "Averaged over `times`, `fusion=none` differs from `fusion=conv1x1` by -3.00 ± 0.00 mIoU points"
    )
    assert first.endswith("and so does `fusion=add` (+1.00 ± 0.00).")
    assert second.startswith(
        "Averaged over `fusion`, `times=current` differs from `times=both` by +0.25 ± 0.00 mIoU points"
    )
    assert "paired t-test, p < 0.001" in second  # one comparison: nothing to correct
    rows = table(study_report.text, "fusion, averaged over times")
    # conv1x1: means of BASE and BASE + 0.25 by replicate
    assert [r["mIoU, %"] for r in rows] == ["52.1 ± 5.0", "53.1 ± 5.0", "49.1 ± 5.0"]
    words = {"fusion": {"none": "no fusion"}, "times": {"both": "t and t-1", "current": "t alone"}}
    first, second = reported(CROSSED, words=words).conclusions
    assert "`no fusion` differs from `fusion=conv1x1`" in first and "`t alone` differs from `t and t-1`" in second


def test_a_cell_without_a_replicate_keeps_it_out_of_the_average() -> None:
    scores = dict(CROSSED)
    options, values = scores["none, current"]
    scores["none, current"] = (options, values[:2])
    rows = {r["fusion"]: r for r in table(reported(scores).text, "fusion, averaged over times")}
    assert rows["`fusion=none`"]["n"] == "2" and rows["`fusion=add`"]["n"] == "3"


def test_one_replicate_tests_nothing() -> None:
    study_report = reported({label: (options, values[:1]) for label, (options, values) in TEMPERATURES.items()})
    assert study_report.conclusions == [
        "Nothing can be tested against `default`: there are no two replicates of both.",
        "With one replicate no pair of rows can be tested.",
    ]
    assert "±" not in "".join(line for line in study_report.text.splitlines() if line.startswith("|"))


def test_rows_without_records_wait() -> None:
    study, records = study_with_records(TEMPERATURES)
    measured = [r for r in records if r.config.settings["temperature"] != 0.4]
    study_report = report(study, expand(study), SHIFT, measured)
    assert study_report is not None and [row.label for row in study_report.rows] == ["0.05", "default", "0.2"]
    assert report(study, expand(study), SHIFT, records[:3]) is None  # one row compares with nothing
    assert report(study, expand(study), "elsewhere", records) is None
    foreign = [make_record("stpl", seed, 40.0, options={"drop": 0.1}) for seed in range(3)]
    with_foreign = report(study, expand(study), SHIFT, [*records, *foreign])
    assert with_foreign is not None and with_foreign.text == reported(TEMPERATURES).text


def test_a_study_of_unaltered_methods_is_the_leaderboard_itself() -> None:
    study = Study("main", (Row("STPL", "stpl", {}), Row("AdaBN", "adabn", {})))
    records = [make_record(m, s, 40.0) for m in ("stpl", "adabn") for s in range(3)]
    assert report(study, expand(study), SHIFT, records) is None


def test_the_reference_is_named_or_unaltered_or_first() -> None:
    assert reported(TEMPERATURES).reference == 1
    assert reported(TEMPERATURES, reference="0.4").reference == 3
    only = {label: row for label, row in TEMPERATURES.items() if label != "default"}
    assert reported(only).reference == 0


def test_rows_without_records_are_named() -> None:
    study, records = study_with_records(TEMPERATURES)
    measured = [r for r in records if r.config.settings["temperature"] not in (0.2, 0.4)]
    study_report = report(study, expand(study), SHIFT, measured)
    assert study_report is not None and study_report.missing == ("0.2", "0.4")
    assert "- `0.2` and `0.4` are in no comparison: they have no records here.\n" in study_report.text
    one_missing = report(study, expand(study), SHIFT, [r for r in records if r.config.settings["temperature"] != 0.2])
    assert one_missing is not None and "- `0.2` is in no comparison: it has no records here.\n" in one_missing.text
    assert "no comparison" not in reported(TEMPERATURES).text


def test_rows_with_fewer_replicates_are_counted() -> None:
    study, records = study_with_records(TEMPERATURES)
    last = max(record.config.seed for record in records)
    fewer = [r for r in records if r.config.settings["temperature"] != 0.2 or r.config.seed != last]
    study_report = report(study, expand(study), SHIFT, fewer)
    assert study_report is not None and study_report.gaps == [
        f"1 of 4 rows have {last} of {last + 1} replicates. A difference is over those that both have, so it need not be that of "
        "the means in the table."
    ]
    assert reported(TEMPERATURES).gaps == []


@pytest.mark.parametrize("named", [None, "0.4"])
def test_without_its_reference_a_study_has_no_page(named: str | None) -> None:
    """With another row to compare with it would say other things."""
    study, records = study_with_records(TEMPERATURES, reference=named)
    temperature = {None: 0.0954, "0.4": 0.4}[named]
    without = [r for r in records if r.config.settings["temperature"] != temperature]
    with pytest.raises(
        RunError, match=f"Study 'try' on ministreet: its reference '{named or 'default'}' has no records"
    ):
        report(study, expand(study), SHIFT, without)


def test_what_varies_decides_the_layout() -> None:
    assert reported(TEMPERATURES).factors.axis is not None and not reported(TEMPERATURES).factors.crossed
    assert reported(CROSSED).factors.axis is None
    rows = [{"t": t, "m": m} for t in (0.1, 0.2, 0.3) for m in ("x", "y")]
    assert factors_of(rows).axis.name == "t" and [f.name for f in factors_of(rows).crossed] == ["t", "m"]  # type: ignore[union-attr]
    assert factors_of(rows[:-1]).crossed == ()  # a combination is missing
    loose = [{"a": 1, "b": True}, {"a": 2, "b": True}, {"a": 1, "b": False}]
    assert factors_of(loose).axis is None and factors_of(loose).crossed == ()
    assert factors_of([]).varying == ()


def test_defaults_stand_on_the_axis() -> None:
    study_report = reported(TEMPERATURES)
    assert study_report.factors.axis is not None and study_report.factors.axis.levels == (0.05, 0.0954, 0.2, 0.4)


def test_a_default_that_records_leave_out_stands_on_the_axis() -> None:
    scores = {str(noise): ({"label_noise": noise}, BASE) for noise in (0.0, 0.1, 0.4)}
    assert "label_noise" not in study_with_records(scores)[1][0].config.settings
    axis = reported(scores).factors.axis
    assert axis is not None and axis.levels == (0.0, 0.1, 0.4)


def test_sentences_alone() -> None:
    comparison = compare({"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {0: 2.0, 1: 1.5, 2: 3.2}}, "a")
    # 1, -0.5, 0.2: mean 0.233, s = 0.7506, half 1.86, t = 0.538, p = 0.644
    text = "`b` cannot be told apart from `a`: +0.23 ± 1.86 mIoU points over 3 replicates (paired t-test, p = 0.644)."
    assert sentence(comparison) == text and sentence(comparison, "On average, ") == f"On average, {text}"
    assert sentence(compare({"a": {0: 1.0}, "b": {1: 2.0}}, "a")).startswith("Nothing can be tested against `a`")


# Files


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Study, list[Record]]:
    """A root with a study's records, and the study among the committed ones."""
    study = study_with_records(TEMPERATURES)[0]
    values = [(dict(options), seed, x) for options, mious in TEMPERATURES.values() for seed, x in enumerate(mious)]
    pairs = [scored("stpl", seed, miou, options=options) for options, seed, miou in values]
    commit(tmp_path, pairs)
    records = [record for record, _ in pairs]
    made_up = [report(study, expand(study), SHIFT, records)]
    monkeypatch.setattr(study_page, "reports", lambda *_: made_up)
    return tmp_path, study, records


def test_the_leaderboard_writes_and_checks_studies(committed: tuple[Path, Study, list[Record]]) -> None:
    root = committed[0]
    page, figure = root / f"{SHIFT}-try.md", root / "figures" / f"{SHIFT}-try.png"
    written = leaderboard.write(root)
    assert page in written and figure in written and leaderboard.check(root) == []
    board = (root / f"{SHIFT}.md").read_text(encoding="utf-8")
    assert f"- [A study]({SHIFT}-try.md): `0.4` differs from `default`" in board
    assert "## Controls and ablations" not in board  # every altered record is the study's
    page.write_text(page.read_text().replace("-1.99", "-2.99"), encoding="utf-8")
    figure.unlink()
    assert leaderboard.check(root) == [page, figure]


def test_a_study_that_is_gone_leaves_no_page(
    committed: tuple[Path, Study, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = committed[0]
    monkeypatch.setattr("bench.leaderboards.generated.Drawing.stale", lambda _: [])
    leaderboard.write(root)
    monkeypatch.setattr(study_page, "reports", lambda *_: [])
    assert leaderboard.check(root) == [root / f"{SHIFT}.md", root / f"{SHIFT}-try.md"]
    leaderboard.write(root)
    assert not (root / f"{SHIFT}-try.md").exists()
    assert "## Controls and ablations" in (root / f"{SHIFT}.md").read_text(encoding="utf-8")


def test_a_study_of_runs_that_are_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``bench study`` ends: from the records and the sequences in the folders of the runs."""
    monkeypatch.setattr(leaderboard, "expand", expand)
    study, records = study_with_records({"plain": ({}, BASE), "hot": ({"temperature": 0.4}, (49.0, 51.5, 53.0))})
    classes = load_shift(SHIFT).classes
    for record in records[:-1]:
        hits = 80 if record.config.settings["temperature"] == 0.4 else 90
        counts = {f"{i}": np.array([[hits + i, 100 + i, 100 + i]] * len(classes)) for i in range(9)}
        write_sequences(tmp_path / "runs" / record.run / "sequences.csv", counts, classes)
    monkeypatch.setattr("bench.leaderboards.page.expand", expand)
    sequences = study_page.sequences_of_runs(tmp_path / "runs", records)
    assert sequences.keys() == {record.run for record in records[:-1]}
    (page,) = study_pages(study, records, tmp_path / "boards", sequences)
    assert page.stale() == page.files and set(page.write()) == set(page.files) and page.stale() == page.write() == []
    assert [path.name for path in page.files] == [f"{SHIFT}-try.md", f"{SHIFT}-try.png"]
    rows = {r["row"]: r for r in table(page.path.read_text(encoding="utf-8"), "Rows")}
    low, high = map(float, rows["hot"]["bootstrap 95 %"].split(" to "))
    assert low <= high < 0 and rows["hot"]["pairs"] == "3"


def test_the_files_of_a_study_on_a_shift_of_ones_own_stay_in_the_folder(
    shift_file: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shift is named by the path of its file; pages and figures by what it calls itself."""
    monkeypatch.setattr(leaderboard, "expand", lambda study: expand(study, shift))
    shift = shift_file({"name": "mine"})
    study = Study("try", (Row("plain", "stpl", {}), Row("hot", "stpl", {"temperature": 0.4})))
    records = [
        make_record("stpl", s, 40.0 + s + t, shift=shift, options={"temperature": t} if t else {})
        for t in (0.0, 0.4)
        for s in range(3)
    ]
    (page,) = study_pages(study, records, tmp_path / "boards")
    assert [path.relative_to(tmp_path).as_posix() for path in page.files] == [
        "boards/mine-try.md",
        "boards/figures/mine-try.png",
    ]
    assert "](figures/mine-try.png)" in page.text


def test_a_shift_may_not_be_called_like_a_way_up(shift_file: Callable[..., str]) -> None:
    for name in ("../../x", "/tmp/x", "..", ""):
        with pytest.raises(UsageError, match="name: String should match pattern"):
            load_shift(shift_file({"name": name}))
