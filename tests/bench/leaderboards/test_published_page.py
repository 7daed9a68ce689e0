"""Pages of real shifts: every published number, what is missing, and the command that measures it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.registry import method_names
from bench.leaderboards.page import HEAD, check, pages, write
from bench.leaderboards.published import published_shifts, rows
from bench.leaderboards.published_page import TITLES, drawing, page, result_table, rows_of, sections, title_of
from bench.leaderboards.standings import Group
from bench.runs.config import load_shift, method_class

REAL = ["synthia2cityscapes", "viper2cityscapes"]


class Measured:
    """A method with records, as far as the table asks."""

    def __init__(self, name: str, *miou: float) -> None:
        self.name, self.miou = name, dict(enumerate(miou))


def cells(text: str) -> dict[str, list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    return {c[0]: c for c in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}


def test_every_real_shift_has_published_numbers() -> None:
    assert published_shifts() == REAL


@pytest.mark.parametrize("shift", REAL)
def test_every_published_row_and_every_method_stands_there_once(shift: str) -> None:
    table = cells(result_table(load_shift(shift), ()))
    published = [row for row in rows() if row.shift == shift]
    titles = {title_of(row.method) for row in published} | {method_class(m).card.title for m in method_names()}
    assert set(table) == titles
    for row in published:
        entry = table[title_of(row.method)]
        assert entry[4] == f"*{row.miou:.1f}*" and entry[5] == "" and entry[6].startswith(row.source)
        built_in = row.method in method_names()
        assert entry[7] == (f"`bench run -m {row.method} --shift {shift} --data-root data`" if built_in else "–")
    numbers = [float(c[4].strip("*")) for c in table.values() if c[4] != "–"]
    assert numbers == sorted(numbers, reverse=True) and list(table.values())[-1][4] == "–"


def test_the_rows_that_udass_reports_are_there() -> None:
    """ZHE-SAPI/UDASS, video_udass/VIDEO/README.md, VIPER and SYNTHIA."""
    expected = {
        "moda": (49.1, None), "sfc": (51.1, 52.5), "i2vda": (51.2, 53.0), "tpl_sfc": (51.7, 55.3), "pat": (53.0, 54.9),
        "cmom": (53.8, 56.3), "quadmix_cnn": (56.2, 61.5), "quadmix_vit": (58.2, 67.2),
    }  # fmt: skip
    for method, numbers in expected.items():
        mious = {row.shift: row.miou for row in rows() if row.method == method}
        assert (mious.get("viper2cityscapes"), mious.get("synthia2cityscapes")) == numbers, method
    assert set(TITLES) == {row.method for row in rows()} - set(method_names())


def test_what_was_measured_fills_its_cell_and_comes_before_what_was_not() -> None:
    groups: list[Group] = [Measured("stpl", 50.0, 52.0), Measured("tent", 41.0)]  # type: ignore[list-item]
    table = cells(result_table(load_shift("viper2cityscapes"), groups))
    assert table["STPL"][5].startswith("51.0") and table["STPL"][4] == "*52.5*"
    unpublished = [c[0] for c in table.values() if c[4] == "–"]
    assert unpublished[0] == "Tent" and table["Tent"][5] == "41.0" and len(unpublished) > 3


def test_the_page_says_that_nobody_has_run_it(tmp_path: Path) -> None:
    shift = load_shift("viper2cityscapes")
    rendered = page(tmp_path, shift, HEAD)
    assert rendered.path == tmp_path / "viper2cityscapes.md" and "Nobody has run this shift here yet" in rendered.text
    assert "(figures/viper2cityscapes-published.png)" in rendered.text
    for section in sections(shift, ()):
        assert section in rendered.text
    assert len(drawing(tmp_path, shift).data[0]["marks"]) == len(rows_of(shift.name))


def test_a_page_that_is_there_is_kept_fresh_and_none_is_made_unasked(tmp_path: Path) -> None:
    assert pages(tmp_path) == []
    board = tmp_path / "viper2cityscapes.md"
    stale = page(tmp_path, load_shift("viper2cityscapes"), HEAD).text.replace("*52.5*", "*51.5*")
    board.write_text(stale, encoding="utf-8")
    figure = tmp_path / "figures" / "viper2cityscapes-published.png"
    settings = tmp_path / "settings.md"
    assert check(tmp_path) == [board, figure, settings]
    assert set(write(tmp_path)) == {board, figure, settings} and check(tmp_path) == []
    board.write_text(board.read_text(encoding="utf-8").replace("*52.5*", "*53.5*"), encoding="utf-8")
    assert check(tmp_path) == [board]


def test_a_published_method_without_a_title_is_named() -> None:
    with pytest.raises(KeyError, match="nobody"):
        title_of("nobody")
