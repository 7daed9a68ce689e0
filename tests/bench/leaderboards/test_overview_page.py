"""The page over all shifts, from hand-made records: order of rows and columns, marks, gaps, gains and the list of pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.leaderboards import overview_page, page
from bench.leaderboards.generated import Page
from bench.leaderboards.standings import Group, grouped, ranked
from bench.runs.config import load_shift
from tests.bench.leaderboards.made import commit, committed_standard, make_record, scored, table

DRIVE, WORLD, NIGHT = "cityscapes2camvid", "ministreet2", "atlas-night"


def results(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, list[Group]]:
    """Rows by shift, from mIoU by method by shift."""
    return {
        shift: ranked(
            grouped(make_record(m, seed, x, shift=shift) for m, xs in methods.items() for seed, x in enumerate(xs))
        )
        for shift, methods in scores.items()
    }


@pytest.fixture(scope="module")
def three() -> dict[str, list[Group]]:
    """A drive, a rendered world with UDA and an oracle, and a shift of the atlas; given in another order than they are shown."""
    return results(
        {
            NIGHT: {"source_only": (50.0,), "stpl": (60.0,)},
            WORLD: {
                "source_only": (30.0, 31.0, 32.0),
                "stpl": (40.0, 41.0, 42.0),
                "ur": (40.1, 40.9, 41.9),
                "hcl": (35.0, 36.1, 37.0),
                "fda": (45.0, 46.0, 47.0),
                "oracle": (70.0, 71.0, 72.0),
            },
            DRIVE: {"source_only": (37.0, 37.2), "ur": (40.0, 40.4), "hcl": (45.0, 45.1)},
        }
    )


def text_of(root: Path, rows: Mapping[str, Sequence[Group]], others: Sequence[Page] = ()) -> str:
    (made,) = overview_page.pages(root, rows, {}, others)
    return made.text


def test_rows_and_columns(tmp_path: Path, three: dict[str, list[Group]]) -> None:
    """Drives first, the atlas last; settings from the least to the most that is seen, the best on the drive first."""
    rows = table(text_of(tmp_path, three), "Scores")
    assert list(rows[0]) == ["method", "setting", DRIVE, WORLD, "atlas: night"]
    assert [row["method"] for row in rows] == ["Source only", "HCL", "UR", "STPL", "FDA", "Oracle"]
    scores = {row["method"]: row for row in rows}
    assert scores["Source only"][DRIVE] == "37.1 ± 1.3" and scores["FDA"][DRIVE] == scores["UR"]["atlas: night"] == ""


def test_the_best_of_a_setting_and_who_is_not_told_apart(tmp_path: Path, three: dict[str, list[Group]]) -> None:
    """On the world STPL is best, UR 0.03 below, HCL far below on every replicate. One method of a setting is compared with none."""
    scores = {row["method"]: row for row in table(text_of(tmp_path, three), "Scores")}
    assert scores["STPL"][WORLD] == "**41.0 ± 2.5**"
    assert scores["UR"][WORLD] == "41.0 ± 2.2 ≈" and scores["HCL"][WORLD] == "36.0 ± 2.5"
    assert scores["FDA"][WORLD] == "46.0 ± 2.5" and scores["STPL"]["atlas: night"] == "60.0"
    assert scores["HCL"][DRIVE] == "45.0 ± 0.6"  # of a drive without its pixels nothing is tested


def test_the_picture_shows_gains_of_methods(tmp_path: Path, three: dict[str, list[Group]]) -> None:
    """Neither floor of the gain nor the oracle has a row; what nobody has run is None; both names say who saw source data."""
    (made,) = overview_page.pages(tmp_path, three, {}, ())
    _, columns, gains = made.drawings[0].data
    assert columns == [DRIVE, WORLD, "atlas: night"] and [name for name, _ in gains] == [
        "HCL",
        "UR",
        "STPL",
        "FDA (UDA)",
    ]
    values = {name: np.array(row, np.float64) for name, row in gains}
    np.testing.assert_allclose(values["HCL"], [7.95, 36.1 / 3 + 72 / 3 - 31, np.nan])
    np.testing.assert_allclose(values["STPL"], [np.nan, 10.0, 10.0])
    assert made.drawings[0].draw().axes[0].get_title(loc="left") == "Gain over source-only, by shift"


def test_recorded_videos_stand_before_rendered_ones() -> None:
    """Also those that are not scored by frame."""
    shifts = [load_shift(name) for name in (NIGHT, "viper2cityscapes", WORLD, DRIVE)]
    assert [s.name for s in sorted(shifts, key=overview_page.place)] == [DRIVE, "viper2cityscapes", WORLD, NIGHT]


def test_streams_have_a_table_of_their_own(tmp_path: Path, three: dict[str, list[Group]]) -> None:
    (made,) = overview_page.pages(tmp_path, three, {DRIVE: three[DRIVE]}, ())
    assert [r["method"] for r in table(made.text, "Scores where the target comes once")] == ["Source only", "HCL", "UR"]


def test_one_shift_has_no_overview(tmp_path: Path, three: dict[str, list[Group]]) -> None:
    assert overview_page.pages(tmp_path, {WORLD: three[WORLD], NIGHT: []}, {}, ()) == []


def test_pages_that_bench_made_are_listed(tmp_path: Path, three: dict[str, list[Group]]) -> None:
    """Those of other commands too, which are read from the folder; neither the user's notes nor a page that is about to go."""
    (tmp_path / "ministreet-analysis.md").write_text("# Analysis: MiniStreet\n\nMade by `bench analyse` from ...\n")
    (tmp_path / "notes.md").write_text("# Notes of mine\n")
    (tmp_path / "gone.md").write_text("# Study: of records that are gone\n\nMade by `bench leaderboard` from ...\n")
    others = [Page(tmp_path / "settings.md", "# Settings of the methods\n"), Page(tmp_path / "a.md", "# Study: flow\n")]
    listed = table(text_of(tmp_path, three, others), "Pages")
    assert [tuple(row.values()) for row in listed] == [
        ("[ministreet-analysis](ministreet-analysis.md)", "Analysis", "MiniStreet"),
        ("[a](a.md)", "Study", "flow"),
        ("[settings](settings.md)", "", "Settings of the methods"),
    ]


def test_it_comes_and_goes_with_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh after one write, though it lists the others; gone with the second shift; a file of the user's is left alone."""
    monkeypatch.setattr("bench.leaderboards.study_page.committed_studies", lambda: [])
    monkeypatch.setattr("bench.leaderboards.generated.Drawing.stale", lambda _: [])
    commit(tmp_path, committed_standard())
    overview = tmp_path / overview_page.NAME
    overview.write_text("# Overview of my own\n")
    page.write(tmp_path)
    assert overview.read_text() == "# Overview of my own\n"
    overview.unlink()
    commit(tmp_path, [scored("adabn", 0, 36.0, shift=WORLD)])
    assert page.write(tmp_path) == [tmp_path / f"{WORLD}.md", overview] and page.check(tmp_path) == []
    for path in (tmp_path / "records" / WORLD).rglob("adabn-*"):
        path.unlink()
    assert page.check(tmp_path) == [tmp_path / f"{WORLD}.md", overview]
    page.write(tmp_path)
    assert not overview.exists()
