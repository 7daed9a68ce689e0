"""Charts of pages as Vega-Lite, written by Altair: numbers in, a specification with its data out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from bench.pictures.canvas import DESIGN_NAMES, SETTING_COLOURS

Points = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]
RANGE = {"image": "circle", "video": "square", "-": "diamond"}
STEP = 30
"""Pixels of a row or column of a matrix."""
DIVERGING = "redblue"
FULL: Any = "container"
ROW = 22
"""Pixels of a row of names."""


def _data(points: Points) -> Any:
    return alt.Data(values=[dict(point) for point in points])


def _spec(chart: Any, about: str) -> Spec:
    spec: Spec = chart.properties(description=about).to_dict()
    return spec


def _colour() -> Any:
    names = list(SETTING_COLOURS)
    scale = alt.Scale(domain=names, range=[SETTING_COLOURS[name] for name in names])
    return alt.Color("setting:N", scale=scale, legend=alt.Legend(title=None, orient="top"))


def _shape() -> Any:
    names = list(DESIGN_NAMES)
    scale = alt.Scale(domain=names, range=[RANGE[name] for name in names])
    legend = alt.Legend(title=None, orient="bottom", labelExpr="datum.value == '-' ? 'reference' : datum.value")
    return alt.Shape("design:N", scale=scale, legend=legend)


def _hover(*tooltips: Any) -> list[Any]:
    named = [alt.Tooltip(f"{key}:N", title=title) for key, title in (("method", "method"), ("setting", "setting"))]
    return [*named, alt.Tooltip("text:N", title="mIoU, %"), *tooltips]


def scores(points: Points) -> Spec:
    """mIoU of every method with its interval, in the table's order."""
    base = alt.Chart(_data(points)).encode(
        y=alt.Y("method:N", sort=[str(point["method"]) for point in points], title=None), tooltip=_hover()
    )
    rules = base.mark_rule(strokeWidth=2).encode(x=_miou("low"), x2="high:Q", color=_colour())
    marks = base.mark_point(filled=True, size=70, opacity=1).encode(x="miou:Q", color=_colour(), shape=_shape())
    return _spec(
        (rules + marks).properties(width=FULL, height=ROW * len(points)),
        "mIoU of every method with its 95 % interval over replicates",
    )


def _miou(field: str) -> Any:
    return alt.X(f"{field}:Q", title="mIoU, %", scale=alt.Scale(zero=False))


def against_cost(points: Points) -> Spec:
    """mIoU over CPU seconds per step; methods without steps are left out."""
    timed = [point for point in points if point.get("cpu") is not None]
    base = alt.Chart(_data(timed)).encode(
        x=alt.X("cpu:Q", title="CPU seconds per step of adaptation", scale=alt.Scale(zero=False)),
        tooltip=_hover(alt.Tooltip("cpu:Q", title="CPU s/step")),
    )
    rules = base.mark_rule(strokeWidth=1.5).encode(y=_score("low"), y2="high:Q", color=_colour())
    marks = base.mark_point(filled=True, size=80, opacity=1).encode(y="miou:Q", color=_colour(), shape=_shape())
    chart = (rules + marks).properties(width=FULL, height=300)
    return _spec(chart, "mIoU against CPU seconds per step of adaptation")


def _score(field: str, title: str = "mIoU, %") -> Any:
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=False))


def against_restriction(points: Points, about: str) -> Spec:
    """mIoU by what a method may see; source-only and the oracle are lines over both."""
    adapted = [point for point in points if point["setting"] in ("UDA", "SFDA")]
    ends = [point for point in points if point["setting"] in ("none", "oracle")]
    counts: dict[str, int] = {}
    placed = []
    for point in adapted:  # side by side in the order of the table, so that none hides another
        position = counts[point["setting"]] = counts.get(point["setting"], 0) + 1
        placed.append({**point, "place": position})
    base = alt.Chart(_data(placed)).encode(
        x=alt.X("setting:N", sort=["UDA", "SFDA"], title=None, axis=alt.Axis(labelAngle=0)),
        xOffset="place:O",
        tooltip=_hover(),
    )
    rules = base.mark_rule(strokeWidth=1.5).encode(y=_score("low"), y2="high:Q", color=_colour())
    marks = base.mark_point(filled=True, size=80, opacity=1).encode(y="miou:Q", color=_colour(), shape=_shape())
    lines = (
        alt.Chart(_data(ends))
        .mark_rule(strokeDash=[5, 4], strokeWidth=2)
        .encode(y="miou:Q", color=_colour(), tooltip=_hover())
    )
    return _spec((lines + rules + marks).properties(width=FULL, height=300), about)


def class_map(points: Points, classes: Sequence[str]) -> Spec:
    """IoU by method and class."""
    methods = list(dict.fromkeys(str(point["method"]) for point in points))
    base = alt.Chart(_data(points)).encode(
        x=alt.X("class:N", sort=list(classes), title=None, axis=alt.Axis(orient="top", labelAngle=-50)),
        y=alt.Y("method:N", sort=methods, title=None),
        tooltip=["method:N", "class:N", alt.Tooltip("iou:Q", title="IoU, %", format=".1f")],
    )
    colour = alt.Color("iou:Q", scale=alt.Scale(scheme="viridis", domain=[0, 100]), legend=None)
    text = base.mark_text(fontSize=10).encode(
        text=alt.Text("iou:Q", format=".0f"),
        color=alt.condition("datum.iou > 55", alt.value("black"), alt.value("white")),
    )
    whole = (base.mark_rect().encode(color=colour) + text).properties(width=alt.Step(STEP), height=alt.Step(ROW))
    return _spec(whole, "IoU in percent of every method on every class, mean over replicates")


def pair_matrix(points: Points, methods: Sequence[str], setting: str) -> Spec:
    """Row minus column of every pair of a setting; a dot where they are told apart."""
    largest = max([abs(point["difference"]) for point in points], default=1.0) or 1.0
    base = alt.Chart(_data(points)).encode(
        x=alt.X("column:N", sort=list(methods), title=None, axis=alt.Axis(orient="top", labelAngle=-50)),
        y=alt.Y("row:N", sort=list(methods), title=None),
        tooltip=[
            "row:N", alt.Tooltip("column:N", title="minus"), alt.Tooltip("text:N", title="mIoU points"),
            alt.Tooltip("p:N", title="p, Holm"), alt.Tooltip("pairs:Q", title="replicates"),
        ],
    )  # fmt: skip
    scale = alt.Scale(scheme=DIVERGING, domain=[-largest, largest])
    apart = base.transform_filter("datum.apart").mark_point(fill="black", stroke="white", size=34, opacity=1)
    cells = base.mark_rect().encode(color=alt.Color("difference:Q", scale=scale, legend=alt.Legend(title="points")))
    about = f"Differences in mIoU of every pair of {setting} methods, row minus column; a dot: told apart"
    return _spec((cells + apart).properties(width=alt.Step(STEP), height=alt.Step(STEP)), about)


def curves(points: Points, value: str, title: str, by: str = "seed", about: str = "") -> Spec:
    """A value over the steps, a line for each of what ``by`` names."""
    colour = alt.Color(f"{by}:N", legend=alt.Legend(title=by, orient="top"), scale=alt.Scale(scheme="tableau10"))
    chart = (
        alt.Chart(_data(points))
        .mark_line(point=len(points) < 200)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(format="d")),
            y=_score(value, title),
            color=colour,
            tooltip=[f"{by}:N", "step:Q", alt.Tooltip(f"{value}:Q", title=title, format=".4g")],
        )
        .properties(width=FULL, height=260)
    )
    return _spec(chart, about or f"{title} over the steps")


def before_after(points: Points, classes: Sequence[str], unit: str) -> Spec:
    """Two values of each class, ``before`` and ``after``, joined by a line."""
    long = [
        {"class": point["class"], "when": when, "value": point[when]}
        for point in points
        for when in ("before", "after")
        if point[when] is not None
    ]
    class_axis = alt.Y("class:N", sort=list(classes), title=None)
    colour = alt.Color(
        "when:N",
        sort=["before", "after"],
        scale=alt.Scale(domain=["before", "after"], range=["#8a8a8a", "#2a6fbb"]),
        legend=alt.Legend(title=None, orient="top"),
    )
    rules = (
        alt.Chart(_data([p for p in points if None not in (p["before"], p["after"])]))
        .mark_rule(strokeWidth=2, color="#9a9a9a")
        .encode(y=class_axis, x=alt.X("before:Q", title=unit), x2="after:Q")
    )
    hover = ["class:N", "when:N", alt.Tooltip("value:Q", title=unit, format=".1f")]
    marks = alt.Chart(_data(long)).mark_point(filled=True, size=70, opacity=1)
    marks = marks.encode(y=class_axis, x=alt.X("value:Q", title=unit), color=colour, tooltip=hover)
    return _spec(
        (rules + marks).properties(width=FULL, height=ROW * len(points)), f"{unit} of every class before and after"
    )
