"""Figures of studies and of the first page: what is drawn where, as numbers."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.leaderboards.first_page import Mark, Panel, apart, first_page_figure
from bench.leaderboards.generated import Drawing, rounded
from bench.leaderboards.study_figure import grouped_figure, line_figure, rows_figure
from bench.pictures.canvas import new_figure, note_of, save

THREE = {0: 50.0, 1: 52.0, 2: 54.0}


def means(axes: Any) -> list[tuple[float, float]]:
    """Places of the marks with whiskers, in the order in which they were drawn."""
    return [(float(c.lines[0].get_xdata()[0]), float(c.lines[0].get_ydata()[0])) for c in axes.containers]


def dots(axes: Any) -> list[list[float]]:
    return [sorted(map(float, line.get_ydata())) for line in axes.lines if line.get_marker() == "."]


def test_grouped_marks_stand_in_their_group() -> None:
    cells = {
        (g, s): {0: v, 1: v + 2}
        for v, (g, s) in enumerate([("a", "t=on"), ("a", "t=off"), ("b_c", "t=on"), ("b_c", "t=off")])
    }
    axes: Any = grouped_figure(cells, "fusion", "title").axes[0]
    marks = sorted(means(axes))
    assert [round(x) for x, _ in marks] == [0, 0, 1, 1] and [y for _, y in marks] == [1, 2, 3, 4]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b\nc"] and axes.get_ylabel() == "mIoU, %"
    legend = axes.figure.legends[0]
    assert [t.get_text() for t in legend.get_texts()] == ["t=on", "t=off"]
    assert sorted(dots(axes)) == [[0, 2], [1, 3], [2, 4], [3, 5]]


def test_a_missing_cell_is_left_out() -> None:
    axes: Any = grouped_figure({("a", "on"): THREE, ("b", "off"): THREE}, "f", "title").axes[0]
    assert len(axes.containers) == 2


def test_lines_run_along_the_option() -> None:
    line = {0.4: THREE, 0.01: {0: 40.0, 1: 42.0, 2: 44.0}}
    axes: Any = line_figure({"": line}, "temperature", "title").axes[0]
    (curve,) = [artist for artist in axes.lines if artist.get_linestyle() == "-" and len(artist.get_xdata()) == 2]
    assert list(curve.get_xdata()) == [0.01, 0.4] and list(curve.get_ydata()) == [42, 52]
    assert axes.get_xscale() == "log" and not axes.collections[0:0] and not axes.figure.legends
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.01", "0.4"]
    linear: Any = line_figure({"x": {0.0: THREE, 0.5: THREE}, "y": {0.0: THREE}}, "noise", "title").axes[0]
    assert linear.get_xscale() == "linear" and [t.get_text() for t in linear.figure.legends[0].get_texts()] == [
        "x",
        "y",
    ]


def test_enough_replicates_have_a_band() -> None:
    many = {seed: 50.0 + seed for seed in range(5)}
    bands = [
        len(line_figure({"": {1.0: scores, 2.0: scores}}, "x", "t").axes[0].get_children()) for scores in (many, THREE)
    ]
    assert bands[0] == bands[1] + 1  # the band


def test_rows_from_the_top_with_their_numbers() -> None:
    axes: Any = rows_figure({"first": THREE, "second": {0: 40.0}}, "first", "title").axes[0]
    assert means(axes) == [(52, 0), (40, 1)] and axes.get_ylim()[0] > axes.get_ylim()[1]
    texts = [t.get_text() for t in axes.texts]
    assert "52.0 ± 5.0" in texts and "40.0" in texts
    assert any(np.allclose(line.get_xdata(), 52) and line.get_linestyle() == "--" for line in axes.lines)


# The first page


MARKS = [
    Mark("Oracle", "oracle", "-", 70.0),
    Mark("A", "UDA", "image", 50.0, 1.0),
    Mark("B", "UDA", "video", 50.1, 1.0),
    Mark("C", "SFDA", "video", 52.0, 3.0),
    Mark("Source only", "none", "-", 30.0),
]


def test_versions_stand_in_panels_of_their_own() -> None:
    figure = first_page_figure([Panel("Measured: x", "records", MARKS), Panel("Published: y", "slides", MARKS[1:4])])
    left, right = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Measured: x", "Published: y"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["records", "slides"]
    texts = {t.get_text(): t for t in left.texts}
    assert {"oracle\n70.0", "source\nonly\n30.0", "A 50.0", "B 50.1", "C 52.0"} == texts.keys()
    assert "oracle\n70.0" not in {t.get_text() for t in right.texts}
    marks = {c.lines[0].get_marker(): c.lines[0] for c in left.containers[:2]}  # type: ignore[attr-defined]
    assert marks["o"].get_xdata()[0] < marks["s"].get_xdata()[0] < 0.5  # image left of video, both above UDA
    low, high = left.get_ylim()
    assert low < 30 and high > 70


@pytest.mark.parametrize("crowd", [60.0, 20.0])
def test_labels_of_a_crowd_at_an_end_are_in_the_picture(crowd: float) -> None:
    """Eight methods within a point, and one far away: their labels spread over more than their marks do."""
    marks = [Mark(f"M{i}", "SFDA", "image", crowd + 0.1 * i, 0.2) for i in range(8)] + [Mark("N", "UDA", "image", 40.0)]
    figure = first_page_figure([Panel("x", "y", marks)])
    figure.canvas.draw()
    (axes,) = figure.axes
    frame = axes.get_window_extent()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(marks) and all(frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)


def test_it_needs_methods() -> None:
    with pytest.raises(ValueError, match="a method in each"):
        first_page_figure([Panel("x", "y", [])])


@given(st.lists(st.floats(0, 100), max_size=8).map(sorted), st.floats(0.1, 10))
def test_labels_keep_their_order_and_distance(values: list[float], gap: float) -> None:
    places = apart(values, gap)
    assert len(places) == len(values) and (np.diff(places) >= gap - 1e-6).all()
    if all(b - a >= gap for a, b in itertools.pairwise(values)):
        assert places == pytest.approx(values)
    assert np.mean(places) == pytest.approx(np.mean(values)) if values else True


# Files


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_figure_carries_its_note_and_is_the_same_each_time(ending: str, tmp_path: Path) -> None:
    def drawn() -> Any:
        return first_page_figure([Panel("Measured: x < y", "records", MARKS)])

    path = save(drawn(), tmp_path / f"a.{ending}", note="data 0123")
    first = path.read_bytes()
    assert note_of(path) == "data 0123"
    assert save(drawn(), path, note="data 0123").read_bytes() == first
    assert not re.search(rb"20[0-9][0-9]-[0-9][0-9]-", first)  # no date
    path.write_bytes(first[: len(first) // 2])
    assert note_of(path) is None and note_of(tmp_path / f"gone.{ending}") is None
    assert note_of(save(new_figure(2, 2), tmp_path / f"b.{ending}")) is None


def test_numbers_count_to_the_sixth_decimal() -> None:
    def note(value: float) -> str:
        return Drawing("", Path("x.png"), [{0: (value, "a")}], lambda: new_figure(1, 1)).note

    assert note(1.0) == note(1.0 + 1e-9) != note(1.0 + 1e-5)
    assert rounded({1: (-1e-9, None, True)}) == {"1": [0.0, None, True]} and str(rounded(-1e-9)) == "0.0"


def test_only_what_is_stale_is_drawn(tmp_path: Path) -> None:
    calls = []

    def draw() -> Any:
        calls.append(1)
        return new_figure(2, 2)

    drawing = Drawing("", tmp_path / "a.png", [1], draw, (tmp_path / "a.svg",))
    assert drawing.write() == [tmp_path / "a.png", tmp_path / "a.svg"] and drawing.write() == [] and len(calls) == 1
    (tmp_path / "a.svg").unlink()
    assert drawing.stale() == [tmp_path / "a.svg"] and drawing.write() == [tmp_path / "a.svg"]
