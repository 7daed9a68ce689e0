"""Tables, figures and page of the analysis, from numbers made here: checked as numbers and text."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import cli
from bench.analysis import data, page, plots, tables
from bench.analysis.data import Calibration, Curve, Embedding, PseudoLabels, RunAnalysis, Separation, Who
from bench.core.errors import RunError
from bench.runs.config import load_shift
from bench.runs.records import read_record

SHIFT = load_shift("ministreet")
COUNT = len(SHIFT.classes)
RECORDS = Path(__file__).resolve().parents[3] / "leaderboards" / "records" / "ministreet"
DESIGNS = {"source_only": "-", "oracle": "-", "hcl": "image"}


def analysis(method: str, seed: int, share: float, miou: float, run: str = "") -> RunAnalysis:
    """An analysis whose same-class share falls linearly from ``share`` at k = 1, in every variant and class."""
    falling = [share - 0.1 * k for k in range(50)]
    classes = {name: falling for name in SHIFT.classes} | {SHIFT.classes[4]: None}
    confusion = np.full((COUNT, COUNT), 10) + np.diag([int(10 * miou)] * COUNT)
    confusion[4] = 0
    return RunAnalysis(
        who=Who(
            run=run or f"{abs(hash((method, seed))):012x}"[:12], method=method, title=method.upper(),
            design=DESIGNS.get(method, "video"), setting="SFDA", altered=(), seed=seed, shift="ministreet",
            shift_hash=SHIFT.hash, miou=miou,
        ),
        classes=SHIFT.classes,
        sample={"cells": 25600, "balanced": 4500, "grid": [16, 32], "k": 50, "seed": seed},
        knn={
            "headline": Curve(pixels=falling, mean=falling, classes=classes),
            "own clip": Curve(pixels=falling, mean=[x + 5 for x in falling]),
            "balanced": Curve(pixels=falling, mean=falling[::-1]),
        },
        separation=Separation(ratio=[[0.5] * i for i in range(COUNT)], davies_bouldin=2.0, silhouette=0.1),
        confusion=confusion.tolist(),
        calibration=Calibration(count=[0, 30, 10], confidence=[None, 50.0, 90.0], accuracy=[None, 40.0, 100.0]),
    )  # fmt: skip


SCORES = {
    "source_only": (50.0, 30.0),
    "stpl": (66.0, 52.0),
    "hcl": (67.0, 51.0),
    "tps_sf": (55.0, 22.0),
    "oracle": (74.0, 69.0),
}


def runs(scores: Mapping[str, tuple[float, float]] = SCORES, seeds: int = 3) -> list[RunAnalysis]:
    """Analyses of all methods; replicate ``s`` has share and mIoU of replicate 0 plus ``s``."""
    return [
        analysis(m, seed, share + seed, miou + seed) for m, (share, miou) in scores.items() for seed in range(seeds)
    ]


PSEUDO = PseudoLabels(
    who=analysis("stpl", 0, 66, 52).who, clips=8, thresholds=[0.0, 0.9], steps=[0, 50, 150],
    coverage=[[100.0, 20.0], [100.0, 30.0], [100.0, 50.0]], accuracy=[[55.0, None], [70.0, 90.0], [75.0, 94.5]],
)  # fmt: skip
EMBEDDING = Embedding(
    kind="tsne", seed=0, classes=SHIFT.classes, labels=[0, 10, 10, 11], points={n: [(0.0, 1.0)] * 4 for n in ("A", "B")}
)


def fill(root: Path, analyses: list[RunAnalysis]) -> Path:
    """Files as ``bench analyse`` keeps them."""
    folder = data.folder_of(root, "ministreet")
    for run in analyses:
        data.write(folder / "runs" / f"{run.who.name}.json", run)
    data.write(folder / "embedding.json", EMBEDDING)
    data.write(folder / "pseudo-labels" / "stpl.json", PSEUDO)
    return folder


# Does it order the methods as mIoU does? ------------------------------------------------------------------------------


def test_the_answer_is_computed_from_the_numbers() -> None:
    text = tables.answer(tables.groups_of(runs()))
    # Ranks by share 1 3 4 2 5, by mIoU 2 4 3 1 5: sum of squared differences 4, rho = 1 - 6 * 4 / (5 * 24)
    assert text.startswith("**Largely**: Spearman's rho is +0.80 (+0.80 to +0.80) over 5 methods and 3 replicates")
    assert "and +0.50 (+0.50 to +0.50) without source-only and the oracle" in text
    assert "STPL over HCL by 1.0 points of mIoU, under it by 1.0 of the share" in text
    assert "SOURCE_ONLY over TPS_SF by 8.0 points of mIoU, under it by 5.0" in text


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ((1, 2, 3, 4, 5), "**Yes, exactly**: Spearman's rho is +1.00"),
        ((5, 4, 3, 2, 1), "**No, rather the other way round**: Spearman's rho is -1.00"),
        ((3, 5, 1, 4, 2), "**No**: Spearman's rho is -0.30"),
        ((2, 1, 5, 3, 4), "**In part**: Spearman's rho is +0.60"),
    ],
)
def test_the_answer_can_be_no(shares: tuple[int, ...], says: str) -> None:
    scores = {m: (50.0 + x, 40.0 + i) for i, (m, x) in enumerate(zip(SCORES, shares, strict=True))}
    assert tables.answer(tables.groups_of(runs(scores))).startswith(says)


def test_two_methods_have_no_order() -> None:
    two = {name: SCORES[name] for name in ("stpl", "oracle")}
    assert tables.answer(tables.groups_of(runs(two))).startswith("Too few methods")


def test_replicates_of_a_share_and_its_score_are_drawn_together() -> None:
    """Where share and mIoU swap places in the same replicate, the order agrees in every draw."""
    a = [analysis("stpl", s, 60 + d, 50 + d) for s, d in enumerate((-3, 3, 1))]
    b = [analysis("hcl", s, 60 - d, 50 - d) for s, d in enumerate((-3, 3, 1))]
    c = [analysis("tps_sf", s, 40, 20) for s in range(3)]
    rho = tables.agreement(tables.groups_of(a + b + c), "headline", "mean", 10)
    assert rho is not None and (rho.low, rho.high) == (1.0, 1.0)


# Tables ---------------------------------------------------------------------------------------------------------------


def test_tables_show_what_was_kept() -> None:
    groups = tables.groups_of(runs())
    assert [group.method for group in groups] == ["oracle", "stpl", "hcl", "source_only", "tps_sf"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.knn_table(groups).splitlines()]
    stpl = dict(zip(rows[0], rows[3], strict=True))
    assert stpl["k = 1, %"] == "67.0 ± 2.5" and stpl["k = 10, %"] == "66.1 ± 2.5" and stpl["k = 50, %"] == "62.1 ± 2.5"
    assert stpl["own clip counted"] == "71.1 ± 2.5" and stpl["balanced"] == "63.0 ± 2.5" and stpl["n"] == "3"
    shares = tables.class_shares(groups, SHIFT.classes)
    assert shares["STPL"][0] == pytest.approx(66.1) and shares["STPL"][4] is None
    assert tables.errors_of(groups[0]) == pytest.approx([0.75 * 10 + 0.25 * 10] * 3)
    assert "10.0 ± 0.0" in tables.calibration_table(groups) and "60.0 ± 0.0" in tables.calibration_table(groups)
    assert "2.00 ± 0.00" in tables.separation_table(groups)
    last = tables.pseudo_label_table([PSEUDO]).splitlines()[-1]
    assert [cell.strip() for cell in last.split("|")[1:-1]] == ["STPL, seed 0", "150", "75.0", "50.0", "94.5"]


def test_a_replicate_analysed_twice_is_refused() -> None:
    with pytest.raises(RunError, match=r"STPL, seed 0, is analysed twice"):
        tables.groups_of([analysis("stpl", 0, 60, 50, "a" * 12), analysis("stpl", 0, 61, 50, "b" * 12)])


# Figures --------------------------------------------------------------------------------------------------------------


def series(*methods: str) -> list[plots.Series]:
    groups = [g for g in tables.groups_of(runs()) if g.method in methods]
    return [g.series({s: c.mean for s, c in g.curves("headline").items()}) for g in groups]


def test_the_knn_figure_draws_means_and_names_intervals() -> None:
    figure = plots.knn_figure(series("stpl", "hcl", "oracle"), "title")
    axes: Any = figure.axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 50]
    assert [line.get_label() for line in lines] == ["ORACLE  74.1 ± 2.5", "HCL  67.1 ± 2.5", "STPL  66.1 ± 2.5"]
    assert list(lines[0].get_xdata()) == list(range(1, 51)) and lines[0].get_ydata()[0] == pytest.approx(75.0)
    assert axes.get_xlabel() == "k, nearest neighbours" and axes.get_ylabel().endswith("%")
    with pytest.raises(ValueError, match="at least one series"):
        plots.knn_figure([], "title")


def test_colours_are_distinct_and_do_not_depend_on_the_order() -> None:
    forwards = series("stpl", "hcl", "tps_sf", "oracle", "source_only")
    colours = dict(zip([s.label for s in forwards], plots.colours(forwards), strict=True))
    assert len(set(colours.values())) == 5 and colours["ORACLE"] == plots.REFERENCE["oracle"]
    backwards = forwards[::-1]
    assert dict(zip([s.label for s in backwards], plots.colours(backwards), strict=True)) == colours


def test_the_agreement_figure_puts_each_replicate_in_its_place() -> None:
    pairs = [plots.Series("A", "stpl", "video", {0: (60.0, 50.0), 1: (62.0, 54.0)})]
    axes: Any = plots.agreement_figure(pairs, "title", "share, %").axes[0]
    dots = next(line for line in axes.lines if line.get_marker() == ".")
    assert (list(dots.get_xdata()), list(dots.get_ydata())) == ([60, 62], [50, 54])
    assert axes.get_ylabel() == "mIoU, %" and axes.get_xlabel() == "share, %"


def test_confusion_rows_are_percent_and_the_difference_is_to_the_floor() -> None:
    counts, floor = np.array([[3, 1], [0, 0]]), np.array([[1, 1], [0, 0]])
    assert plots.row_percent(counts)[0].tolist() == [75, 25] and np.isnan(plots.row_percent(counts)[1]).all()
    figure = plots.confusion_figure(counts, floor, ["a", "b"], "STPL")
    panels: list[Any] = [axes for axes in figure.axes if axes.images and axes.get_xlabel()]
    assert [text.get_text() for text in panels[0].texts] == ["75", "25"]
    assert [text.get_text() for text in panels[1].texts] == ["+25", "−25"]
    assert len(plots.confusion_figure(counts, None, ["a", "b"], "x").axes) == 2  # matrix and colour bar


def test_classes_that_look_alike_have_marks_of_their_own() -> None:
    palette = [(0, 0, 142), (250, 170, 30), (0, 0, 70), (0, 0, 230)]
    marks = plots.class_marks(palette)
    assert marks[1] == "o" and len({marks[0], marks[2], marks[3]}) == 3
    figure = plots.embedding_figure(EMBEDDING, "title")
    assert [len(c.get_offsets()) for c in figure.axes[0].collections] == [1, 2, 1]
    assert [text.get_text() for text in figure.legends[0].texts] == ["road", "car", "truck"]


def test_bins_of_replicates_are_pooled_by_their_pixels() -> None:
    nan = np.nan
    pooled = plots.pooled_bins([[[10, 0], [50, nan], [40, nan]], [[30, 0], [60, nan], [80, nan]]])
    assert pooled[:, 0].tolist() == [40, 57.5, 70] and np.isnan(pooled[1:, 1]).all()


def test_pseudo_labels_are_drawn_over_their_steps() -> None:
    figure = plots.pseudo_label_figure([PSEUDO], 0.9, "title")
    left, right = figure.axes
    assert list(left.lines[0].get_xdata()) == [0, 50, 150] and list(left.lines[0].get_ydata()) == [20, 30, 50]
    assert list(right.lines[0].get_ydata())[1:] == [90, 94.5] and list(right.lines[1].get_ydata()) == [55, 70, 75]


def test_separation_is_averaged_below_the_diagonal() -> None:
    ratio = page.separation_of(tables.groups_of(runs())[0])
    assert ratio is not None and ratio[3, 1] == 0.5 and np.isnan(ratio[1, 3])
    figure = plots.separation_figure({"A": ratio}, SHIFT.classes, "title")
    assert len(figure.axes[0].texts) == COUNT * (COUNT - 1) / 2


# Files ----------------------------------------------------------------------------------------------------------------


def test_files_come_back_as_they_were_and_stay_small(tmp_path: Path) -> None:
    run = analysis("stpl", 0, 66, 52)
    path = data.write(tmp_path / "run.json", run)
    assert data.read(path, RunAnalysis) == run and path.stat().st_size < 12_000
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2 + len(RunAnalysis.model_fields)


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "is damaged"), ('{"who": 1}', "is damaged: who"), ("\xff", "not text"), (None, "Cannot read")],
)
def test_damaged_files_are_one_line_errors(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "run.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match=says) as caught:
        data.read(path, RunAnalysis)
    assert "\n" not in str(caught.value)


def test_a_page_is_the_same_again_and_notices_staleness(tmp_path: Path) -> None:
    fill(tmp_path, runs(seeds=2))
    assert page.check(tmp_path) == [tmp_path / "ministreet-analysis.md"]
    written = page.write(tmp_path)
    assert page.check(tmp_path) == []
    names = {path.stem.removeprefix("ministreet-") for path in written}
    expected = {"knn", "knn-miou", "knn-classes", "embedding", "separation", "calibration", "pseudo-labels", "analysis"}
    assert names == expected | {f"confusion-{m}" for m in SCORES}
    text = (tmp_path / "ministreet-analysis.md").read_text(encoding="utf-8")
    assert all(f"figures/{path.name}" in text for path in written if path.suffix == ".png")
    assert text.startswith(page.HEAD) and "**Largely**" in text and "nan" not in text
    before = written[0].read_bytes()
    page.write(tmp_path)
    assert written[0].read_bytes() == before and (tmp_path / "ministreet-analysis.md").read_text("utf-8") == text
    fill(tmp_path, [analysis("ur", 0, 60, 50)])
    assert page.check(tmp_path) == [tmp_path / "ministreet-analysis.md"]
    shutil.rmtree(tmp_path / "analysis")
    assert page.check(tmp_path) == [tmp_path / "ministreet-analysis.md"]
    assert page.write(tmp_path) == [] and not (tmp_path / "ministreet-analysis.md").exists()


def test_an_analysis_of_another_training_than_the_record_is_named(tmp_path: Path) -> None:
    source = sorted(RECORDS.glob("stpl-s0-*.json"))[0]
    record = read_record(source)
    identity = data.who(record)
    assert identity.label.startswith("STPL") and identity.miou == record.result.miou
    target = tmp_path / "records" / "ministreet" / f"{identity.name}.json"
    target.parent.mkdir(parents=True)
    shutil.copy(source, target)
    run = analysis("stpl", 0, 60, 50)
    path = data.folder_of(tmp_path, "ministreet") / "runs" / f"{identity.name}.json"
    data.write(path, run.model_copy(update={"who": identity}))
    assert page.foreign(tmp_path, "ministreet") == []
    data.write(path, run.model_copy(update={"who": identity.model_copy(update={"miou": identity.miou + 0.5})}))
    assert page.foreign(tmp_path, "ministreet") == [path]
    page.write(tmp_path)
    result = CliRunner().invoke(cli.app, ["analyse", "--check", "--root", str(tmp_path)])
    assert result.exit_code == 1 and f"1 analyses, the first {path}, are of another training" in result.stderr


def test_parts_may_be_missing(tmp_path: Path) -> None:
    complete = analysis("stpl", 0, 66, 52)
    for part in ("knn", "separation", "confusion", "calibration"):
        bare = complete.model_copy(
            update={p: None for p in ("knn", "separation", "confusion", "calibration") if p != part}
        )
        folder = tmp_path / part
        data.write(data.folder_of(folder, "ministreet") / "runs" / f"{complete.who.name}.json", bare)
        assert len(page.write(folder)) >= 2 and page.check(folder) == []
