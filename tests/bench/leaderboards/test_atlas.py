"""The atlas: which records make it, whom it ranks, and what it says; every rank checked here is counted by hand."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from bench.core.errors import UsageError
from bench.core.registry import ROOT
from bench.leaderboards import atlas_page, page
from bench.leaderboards.atlas import Atlas
from bench.leaderboards.atlas_figures import gain_figure, rank_figure
from bench.leaderboards.rank_tests import critical_difference
from bench.leaderboards.standings import Committed, Group, grouped
from bench.runs.records import Record

from .conftest import register
from .made import commit, make_record, row, scored, table

Scores = Mapping[str, Mapping[str, Sequence[float | None]]]
"""mIoU by replicate, by method, by shift; None: no record."""
A, B, C = "atlas-test-a", "atlas-test-b", "atlas-test-c"
STANDARD: Scores = {
    A: {"source_only": (30, 32), "adabn": (33, 35), "ur": (36, 38), "stpl": (40, 42), "tps": (50, 52), "oracle": (70, 72)},
    B: {"source_only": (20, 22), "adabn": (26, 28), "ur": (22, 24), "stpl": (25, 27), "tps": (19, 21), "oracle": (60, 62)},
    C: {"source_only": (40, 41), "adabn": (43, 44), "ur": (44, 45), "stpl": (43, 44), "tps": (48, 49), "oracle": (80, 81)},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def shifts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Three shifts of an atlas, as if the repository held them and no others."""
    folder = tmp_path_factory.mktemp("atlas")
    (folder / "shifts").mkdir()
    shift = yaml.safe_load((ROOT / "shifts" / "ministreet.yaml").read_text(encoding="utf-8"))
    shift["settings"] = {"tuned-on": "ministreet2-dev"}  # as the atlas itself
    for name in (A, B, C):
        text = yaml.safe_dump(shift | {"name": name, "title": f"What {name} moves"})
        (folder / "shifts" / f"{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        register(patch, folder)
        patch.setattr("bench.leaderboards.atlas_page.shift_names", lambda: [A, B, C])
        yield


@cache
def cached_record(method: str, seed: int, miou: float, shift: str, options: tuple[tuple[str, str], ...]) -> Record:
    return make_record(method, seed, miou, shift=shift, options=dict(options))


def records(scores: Scores, *options: tuple[str, str]) -> list[Record]:
    return [
        cached_record(method, seed, float(miou), shift, options)
        for shift, by_method in scores.items()
        for method, values in by_method.items()
        for seed, miou in enumerate(values)
        if miou is not None
    ]


def by_shift(*record_lists: list[Record]) -> dict[str, list[Group]]:
    per_shift: dict[str, list[Record]] = {}
    for record in (record for several in record_lists for record in several):
        per_shift.setdefault(record.config.shift, []).append(record)
    return {name: grouped(several) for name, several in sorted(per_shift.items())}


def text_of(*record_lists: list[Record]) -> str:
    return atlas_page.page(Path("boards"), by_shift(*record_lists), {}).text


def rank_tables(text: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rank tables of source-free methods and of all but the oracle; the header of the second is one of the rows of the first."""
    rows = table(text, "Ranks")
    second = [r["method"] for r in rows].index("method")
    return rows[:second], rows[second + 2 :]


def ranks(rows: list[dict[str, str]], start: str) -> list[str]:
    """Mean rank and the ranks on the three shifts."""
    return [row(rows, start)[name] for name in ("mean rank", "test-a", "test-b", "test-c")]


def without(scores: Scores, shift: str, method: str, *seeds: int) -> Scores:
    """Without records of these seeds."""
    values = tuple(None if seed in seeds else x for seed, x in enumerate(scores[shift][method]))
    return {**scores, shift: {**scores[shift], method: values}}


def test_scores_gains_and_ranks_by_hand() -> None:
    text = text_of(records(STANDARD))
    scores, gains = table(text, "Scores"), table(text, "Gain over source-only")
    assert scores[0]["method"] == "Source only" and scores[-1]["method"] == "Oracle"
    # STPL on a: 40, 42: 12.706 * sqrt 2 / sqrt 2; 10 over source-only both times
    assert row(scores, "STPL")["test-a"] == "41.0 ± 12.7 (2)" and row(gains, "STPL")["test-a"] == "+10.0 ± 0.0 (2)"
    assert row(gains, "TPS")["test-b"] == "-1.0 ± 0.0 (2)" and "Source only" not in {r["method"] for r in gains}
    assert "Of 6 × 3 cells none is empty." in text and "Incomplete" not in text
    free, everybody = rank_tables(text)
    # Source-free: a: STPL, UR, AdaBN; b: AdaBN, STPL, UR; c: UR, then STPL and AdaBN level. All constant offsets: told apart.
    assert [r["method"] for r in free] == ["STPL", "UR", "AdaBN"]
    assert ranks(free, "STPL") == ["1.83", "**1**", "2", "2.5"]
    assert ranks(free, "UR") == ["2.00", "2", "3", "**1**"]
    assert ranks(free, "AdaBN") == ["2.17", "3", "**1**", "2.5"]
    assert ranks(everybody, "TPS") == ["2.33", "1", "5", "1"] and ranks(everybody, "Source only") == [
        "4.67",
        "5",
        "4",
        "5",
    ]
    assert "Oracle" not in {r["method"] for r in everybody}
    # Rank sums 5.5, 6, 6.5 about 6: S = 0.5; m² (k³ - k) - m Σ (t³ - t) = 9 * 24 - 3 * 6: W = 6 / 198
    assert (
        "Friedman's test of 3 methods over 3 shifts: χ² = 0.2, p = 0.913" in text
        and "Kendall's W = 0.03: very weak" in text
    )
    assert "mean rank correlation of +1.00, those of two of different shifts" in text
    assert (
        f"critical difference is {critical_difference(3, 3):.2f} ranks: STPL (1.83) is told apart from nobody." in text
    )


def test_shifts_that_start_from_one_model_are_not_independent() -> None:
    own_models = [
        cached_record("stpl", 0, 40.0, shift, ()).model_copy(update={"source_model": shift}) for shift in (A, B)
    ]
    assert "and its own source model on each shift" in text_of(own_models)
    assert "and one source model for all shifts" in text_of(
        [record.model_copy(update={"source_model": "ab"}) for record in own_models]
    )


def test_what_the_page_says_in_short() -> None:
    text = text_of(records(STANDARD)).split("## In short")[1].split("## Scores")[0]
    assert (
        "- `test-a`: best is STPL (41.0 ± 12.7), then UR (37.0 ± 12.7; +4.00 ± 0.00 between them); not told apart"
        in text
    )
    assert "- UR: best on `test-c`; rank 1 (`test-c`) to 3 (`test-b`) of 3." in text
    assert "Between shifts moves most the rank of UR (rank 1 (`test-c`) to 3 (`test-b`) of 3) and AdaBN" in text
    assert "STPL has the best mean rank, 1.83 of 3; Nemenyi's test does not tell it apart from UR and AdaBN." in text


def test_where_nobody_is_told_apart_names_are_not_listed() -> None:
    """STPL minus UR is -4 and 6, minus AdaBN 0 and 3: two replicates that contradict each other."""
    scores = {"source_only": (30, 32), "adabn": (33, 38), "ur": (37, 35), "stpl": (33, 41)}
    text = text_of(records(dict.fromkeys((A, B, C), scores)))
    assert "- `test-a`: best is STPL (37.0 ± 50.8), then UR (36.0 ± 12.7; +1.00 ± 63.53 between them)" in text
    assert text.count("; none of the 2 others is told apart from it.") == 3
    assert "- AdaBN: not told apart from the best on each; rank 3 of 3 on each." in text


def test_it_says_so_where_stpl_is_not_first() -> None:
    worse = {
        shift: {**by_method, "stpl": tuple(x - 9 for x in by_method["stpl"] if x is not None)}
        for shift, by_method in STANDARD.items()
    }
    text = text_of(records(worse))
    # AdaBN: 2, 1, 2; UR: 1, 2, 1
    assert (
        "**STPL is not first**: its mean rank is 3.00 of 3, after UR (1.33) and AdaBN (1.67); it is 1.67 ranks behind the first, "
        f"not more than the critical difference of {critical_difference(3, 3):.2f}. Shifts where it is told apart from the best: "
        "`test-a`, `test-b` and `test-c`."
    ) in text
    # UR as STPL: 1.5, 2.5, 2; AdaBN: 3, 1, 2
    level = {shift: {**by_method, "ur": by_method["stpl"]} for shift, by_method in STANDARD.items()}
    assert "STPL has the best mean rank, 2.00 of 3, shared with AdaBN and UR;" in text_of(records(level))
    without_stpl = {
        shift: {name: x for name, x in by_method.items() if name != "stpl"} for shift, by_method in STANDARD.items()
    }
    assert "STPL does not have every block and is not ranked." in text_of(records(without_stpl))


def test_a_method_without_a_shift_is_shown_and_not_ranked() -> None:
    gap = without(STANDARD, B, "adabn", 0, 1)
    text, atlas = text_of(records(gap)), Atlas.of(by_shift(records(gap)))
    assert (
        row(table(text, "Scores"), "AdaBN")["test-b"]
        == ""
        == row(table(text, "Gain over source-only"), "AdaBN")["test-b"]
    )
    assert "Of 6 × 3 cells 1 is empty; `bench run -m METHOD" in text
    assert "Incomplete and not ranked: AdaBN (`test-b`)." in text
    assert [group.name for group in atlas.source_free.rows] == ["stpl", "ur"]
    assert atlas.source_free.ranks.tolist() == [[1, 2], [1, 2], [2, 1]]
    assert "No test: 2 methods." in text and "- `test-b`: best is STPL" in text


def test_no_mean_is_taken_over_other_replicates_than_the_next() -> None:
    """AdaBN's second replicate on c is missing: its mean there would be 43 instead of 43.5, worse by the world alone."""
    atlas = Atlas.of(by_shift(records(without(STANDARD, C, "adabn", 1))))
    assert atlas.blocks == {A: [0, 1], B: [0, 1], C: [0, 1]} and [group.name for group in atlas.incomplete] == ["adabn"]
    assert "adabn" not in atlas.leaders[C] and "adabn" in atlas.leaders[B]
    assert "AdaBN (`test-c` seed 1)" in text_of(records(without(STANDARD, C, "adabn", 1)))
    larger: Scores = {**STANDARD, A: {**STANDARD[A], "ur": (36, 38, 90)}}
    larger_atlas = Atlas.of(by_shift(records(larger)))
    assert (
        larger_atlas.blocks[A] == [0, 1] and larger_atlas.source_free.scores[0].max() == 41
    )  # the third is nobody else's
    assert "1 records of ranked methods are of no block" in text_of(records(larger))
    half: Scores = {A: {"ur": (1, None), "stpl": (None, 2), "adabn": (None, None, 3)}}
    assert Atlas.of(by_shift(records(half))).blocks == {} and "in no rank: `test-a`" in text_of(records(half))


def test_one_shift_alone_has_ranks_and_no_test(tmp_path: Path) -> None:
    one_shift = atlas_page.page(tmp_path, by_shift(records({A: STANDARD[A]})), {})
    stpl = row(rank_tables(one_shift.text)[0], "STPL")
    assert (stpl["mean rank"], stpl["95 %"], stpl["group"]) == (
        "1.00",
        "–",
        "–",
    ) and "No test: one shift." in one_shift.text
    assert [drawing.path.name for drawing in one_shift.drawings] == ["atlas-gains.png"]
    assert f"Nobody has run `test-b` and `test-c` yet; `bench run -m METHOD --shift {B}`" in one_shift.text


def test_one_replicate_tells_nobody_apart() -> None:
    text = text_of(
        records({shift: {name: x[:1] for name, x in by_method.items()} for shift, by_method in STANDARD.items()})
    )
    assert "then UR (36.0; +4.00 between them); one replicate tells nobody apart." in text


def test_one_replicate_of_each_shift_ranks_and_claims_no_test() -> None:
    first = {
        shift: {method: values[:1] for method, values in by_method.items()} for shift, by_method in STANDARD.items()
    }
    text = text_of(records(first))
    short = text.split("## In short")[1].split("## Scores")[0]
    assert "- UR: best on `test-c`; rank 1 (`test-c`) to 3 (`test-b`) of 3." in short
    assert short.count("one replicate tells nobody apart") == 3 and "told apart" not in short.replace(
        "nobody apart", ""
    )
    assert "The orders of two different shifts have a mean rank correlation of " in text
    assert "two replicates of one shift" not in text
    assert [r["test-a"] for r in rank_tables(text)[0]].count("**1**") == 1 and "**2**" not in text


def test_no_records_no_page(tmp_path: Path) -> None:
    assert atlas_page.pages(tmp_path, {}) == []
    committed = Committed([make_record("stpl", 0, 40.0)], {})
    assert atlas_page.pages(tmp_path, {"ministreet": committed}) == []


def test_published_ingredients_have_tables_of_their_own() -> None:
    published = records({A: {"source_only": (35, 37), "stpl": (60, 62)}}, ("ingredients", "published"))
    alone, text = text_of(records(STANDARD)), text_of(records(STANDARD), published)
    common, _, published_part = text.partition("# With published ingredients")
    for heading in ("In short", "Scores", "Gain over source-only", "Ranks"):
        assert f"\n## {heading}\n" in common
    start = alone.index("## In short")
    assert (
        common[common.index("## In short") :]
        .rstrip()
        .startswith(alone[start : alone.index("## The same order")].rstrip())
    )
    (floor, stpl), (gain,) = table(published_part, "Scores"), table(published_part, "Gain over source-only")
    assert (floor["test-a"], stpl["test-a"], gain["test-a"]) == (
        "36.0 ± 12.7 (2)",
        "61.0 ± 12.7 (2)",
        "+25.0 ± 0.0 (2)",
    )
    assert "test-b" not in floor and "not counted here" not in text


def test_a_variant_is_a_row_and_another_option_is_not() -> None:
    variant = records({A: {"stpl": (38, 40)}}, ("teacher", "none"))
    ablation = records({A: {"stpl": (10, 12)}}, ("fusion", "none"))
    text = text_of(records(STANDARD), variant, ablation)
    assert row(table(text, "Scores"), "STPL, teacher=none")["test-a"] == "39.0 ± 12.7 (2)" and "11.0" not in text
    assert "2 records with other options stand on the pages of their shifts" in text


def test_the_order_elsewhere() -> None:
    """Published: stpl 52.5, ur 45.0, tps 48.9, source-only 37.1; the drive: ur before stpl."""
    drive = grouped([make_record(name, 0, x) for name, x in {"adabn": 30.0, "ur": 50.0, "stpl": 40.0}.items()])
    text = atlas_page.page(Path("boards"), by_shift(records(STANDARD)), {"some-drive": drive}).text
    paper, measured, same = table(text, "The same order elsewhere?")
    assert (paper["compared with"], paper["rows"], paper["methods"]) == (
        "published on viper2cityscapes",
        "all but the oracle",
        "4",
    )
    # Mean ranks 2.33 tps, 2.67 stpl, 2.83 ur, 4.67 source-only: against 48.9, 52.5, 45.0, 37.1: one swap of neighbours, 0.8
    assert paper["mean rank"] == "+0.80" and paper["test-a"] == "+0.80"
    assert measured["compared with"] == same["compared with"] == "measured on some-drive"
    # a: stpl, ur, adabn against ur, stpl, adabn: 0.5; b: adabn, stpl, ur: -1
    assert (measured["methods"], measured["test-a"], measured["test-b"]) == ("3", "+0.50", "-1.00")


# Files and figures ----------------------------------------------------------------------------------------------------


def test_the_page_is_written_checked_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.leaderboards.page.shift_pages", lambda *_: [])
    monkeypatch.setattr("bench.leaderboards.generated.Drawing.stale", lambda _: [])
    scores = {"source_only": 30.0, "stpl": 40.0}
    commit(tmp_path, [scored(name, 0, x, shift=shift) for shift in (A, B) for name, x in scores.items()])
    file = tmp_path / "atlas.md"
    assert file in page.write(tmp_path) and page.check(tmp_path) == []
    commit(tmp_path, [scored("stpl", 0, 44.0, shift=B)])
    assert file in page.check(tmp_path)
    for name in (A, B):
        shutil.rmtree(tmp_path / "records" / name)
    assert file in page.check(tmp_path)
    page.write(tmp_path)
    assert not file.exists()


def test_the_diagram_joins_what_is_not_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.array([[9.0, 5.0, 4.0, 1.0], [9.0, 4.0, 5.0, 1.0]] * 4)  # mean ranks 1, 2.5, 2.5, 4; 8 blocks: 1.66
    pytest.importorskip("scikit_posthocs")
    axes = rank_figure(scores, ["First", "B", "C", "Last"], critical_difference(4, 8), "title").axes[0]
    bars = {tuple(line.get_xdata()) for line in axes.lines if line.get_color() == "#2a6fbb"}
    assert bars == {(1.0, 2.5), (2.5, 4.0)}
    texts = [text.get_text().split() for text in axes.texts]
    assert ["First", "1.00"] in texts and ["4.00", "Last"] in texts and ["critical", "difference", "1.66"] in texts
    monkeypatch.setitem(sys.modules, "scikit_posthocs", None)
    with pytest.raises(UsageError, match=r"needs scikit-posthocs: pip install 'stpl-benchmark\[site\]'"):
        rank_figure(scores, ["First", "B", "C", "Last"], 1.0, "title")


def test_the_heat_map_leaves_an_empty_cell_blank() -> None:
    figure = gain_figure({"One": [1.0, None], "Two": [-2.0, 0.0]}, ["a", "b"], "title")
    assert [text.get_text() for text in figure.axes[0].texts] == ["+1.0", "−2.0", "0.0"]
