"""Published numbers: the table is read whole, and its rows are of the methods that are here."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.registry import method_names
from bench.leaderboards.published import FILE, in_paper, published, published_shifts, rows
from bench.runs.config import method_class


def test_a_row_is_typed() -> None:
    row = published("viper2cityscapes", "tps")
    assert row is not None
    assert (row.venue, row.design, row.setting, row.miou) == ("ECCV 2022", "video", "UDA", 48.9)
    assert len(row.iou) == 15
    assert (row.iou["road"], row.iou["light"], row.iou["sign"], row.iou["bicycle"]) == (82.4, 26.3, 29.4, 31.7)
    assert row.source == "STPL CVPR 2023 slides; per class: TPS ECCV 2022"


def test_only_the_mean_is_given_for_some() -> None:
    row = published("viper2cityscapes", "stpl")
    assert row is not None and row.miou == 52.5 and row.iou == {}


def test_what_is_not_there_is_none() -> None:
    assert published("viper2cityscapes", "adabn") is None
    assert published("ministreet", "stpl") is None
    assert published_shifts() == ["synthia2cityscapes", "viper2cityscapes"]


def test_per_class_values_average_to_the_mean() -> None:
    """Guards the columns' order; the source rows are rounded to 0.1."""
    complete = [row for row in rows() if row.shift == "viper2cityscapes" and len(row.iou) == 15]
    assert len(complete) >= 6
    for row in complete:
        assert sum(row.iou.values()) / 15 == pytest.approx(row.miou, abs=0.11), row.method


@pytest.mark.parametrize("name", method_names())
def test_a_row_says_of_a_method_what_its_card_says(name: str) -> None:
    card = method_class(name).card
    assert {(r.design, r.setting) for r in rows() if r.method == card.key} <= {(card.design, card.setting)}


def test_the_methods_of_the_papers_table_have_rows() -> None:
    assert len({row.method for row in rows()} & set(method_names())) >= 14


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",mIoU,", ",miou,", "column 'mIoU' is missing"),
        ("CVPR 2023,video,SFDA,52.5", "CVPR 2023,video,SFDA,525", "line 14, mIoU: '525' is not a percentage"),
        ("none,37.1,56.7", "none,37.1,x", "line 2, road: 'x' is not a percentage"),
        ("viper2cityscapes,fda", "viper2cityscapes,stpl", "stpl on viper2cityscapes stands there twice"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "table.csv"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        rows(path)


def test_what_later_work_reports_is_not_of_the_papers_table() -> None:
    table = {row.method for row in rows() if row.shift == "viper2cityscapes" and row.of_paper}
    assert len(table) == 14 and {"stpl", "tps_sf", "oracle"} <= table and not {"cmom", "sfc", "quadmix_vit"} & table
    assert in_paper("viper2cityscapes", "stpl") == 52.5
    assert in_paper("viper2cityscapes", "cmom") is None
    assert published("viper2cityscapes", "cmom") is not None
