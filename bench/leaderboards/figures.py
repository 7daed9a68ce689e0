"""Which figures stand on a shift's leaderboard, and what they show: scores, gains per class, the paper's first page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.runs.config import Shift

from .generated import Drawing
from .published import Published, compared_with
from .published import rows as published_rows
from .standings import Committed, Group, grouped, ranked
from .statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .first_page import Panel


def drawings(root: Path, shift: Shift, committed: Committed) -> list[Drawing]:
    """The figures of a shift's page, as far as its records allow, in the page's order."""
    main = ranked(grouped(committed.records))
    if not main:
        return []
    drawn = [_scores(root, shift, main), _differences(root, shift, main), _first_page(root, shift, main)]
    return [drawing for drawing in (*drawn, _gains(root, shift, main)) if drawing is not None]


def _scores(root: Path, shift: Shift, main: Sequence[Group]) -> Drawing:
    """mIoU of every method."""

    def draw() -> Figure:
        from .score_figures import Entry, miou_figure

        entries = [Entry(g.title, g.card.setting, g.card.design, g.miou) for g in main]
        return miou_figure(entries, f"mIoU on {shift.title}")

    data = [shift.title, [[g.title, g.card.setting, g.card.design, g.miou] for g in main]]
    return Drawing("mIoU of every method", root / "figures" / f"{shift.name}.png", data, draw)


def _differences(root: Path, shift: Shift, main: Sequence[Group]) -> Drawing | None:
    """Gain over source-only of every adapted method, paired by replicate; None where no method shares two replicates with it."""
    floor = next((group.miou for group in main if group.method == "source_only"), {})
    gains = [
        (g, {seed: value - floor[seed] for seed, value in g.miou.items() if seed in floor})
        for g in main
        if g.card.setting in ("UDA", "SFDA")
    ]
    if max((len(gain) for _, gain in gains), default=0) < 2:
        return None
    shown = [(g.title, g.card.setting, g.card.design, gain) for g, gain in gains if gain]

    def draw() -> Figure:
        from .score_figures import Entry, difference_figure

        return difference_figure([Entry(*fields) for fields in shown], f"Gain over source-only on {shift.title}")

    caption = "Gain of every method over source-only, paired by replicate"
    return Drawing(caption, root / "figures" / f"{shift.name}-gains.png", [shift.title, shown], draw)


def _gains(root: Path, shift: Shift, main: Sequence[Group]) -> Drawing | None:
    """Gain of STPL per class; None where STPL or source-only is missing."""
    from .score_figures import class_gains, gains_figure

    by_name = {group.name: group.records for group in main}
    gains = class_gains(by_name.get("stpl", {}), by_name.get("source_only", {}), shift.score_classes)
    if not any(gains.values()):
        return None
    title = f"STPL minus source-only on {shift.title}"
    path = root / "figures" / f"{shift.name}-classes.png"
    return Drawing("Gain of STPL per class", path, [title, list(gains.items())], lambda: gains_figure(gains, title))


def _first_page(root: Path, shift: Shift, main: Sequence[Group]) -> Drawing | None:
    """mIoU against restriction, measured beside published; None where no adapted method has been measured."""
    from .first_page import as_data, first_page_figure

    if not any(group.card.setting in ("UDA", "SFDA") for group in main):
        return None
    panels = [measured_panel(shift, main), *published_panels(shift, main)]
    path = root / "figures" / f"{shift.name}-first-page.png"
    caption = "mIoU against restriction: measured here (left), published (right); the panels do not compare"
    return Drawing(caption, path, as_data(panels), lambda: first_page_figure(panels), (path.with_suffix(".svg"),))


def measured_panel(shift: Shift, main: Sequence[Group]) -> Panel:
    """Means over replicates with their intervals."""
    from .first_page import Mark, Panel

    marks = [Mark(_short(g.title), g.card.setting, g.card.design, *mean_interval(list(g.miou.values()))) for g in main]
    seeds = {len(group.records) for group in main}
    n = str(min(seeds)) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    over = "one replicate" if n == "1" else f"mean and 95 % interval over {n} replicates"
    source = f"records/{shift.name}, {over}"
    return Panel(f"Measured: {shift.title}", source, marks)


def published_panels(shift: Shift, main: Sequence[Group]) -> list[Panel]:
    """The paper's numbers on the shift itself, or on the one that stands in; of the methods with records, so that both panels
    show the same ones."""
    from .first_page import Mark, Panel

    real, measured = compared_with(shift.name), {group.method for group in main}
    rows = [row for row in published_rows() if row.shift == real and row.method in measured]
    marks = [Mark(_short(_title(row)), row.setting, row.design, row.miou) for row in rows]
    sources = sorted({row.source.split(";")[0] for row in rows})
    return [Panel(f"Published: {_arrow(real)}", "; ".join(sources), marks)] if marks else []


def _title(row: Published) -> str:
    from bench.runs.config import method_class

    return str(method_class(row.method).card.title)


def _short(title: str) -> str:
    """A method's title without the setting, which the axis says already."""
    return title.replace(" (source-free)", "").replace(" (mean teacher)", "")


def _arrow(shift: str) -> str:
    """The name of a shift as papers write it: ``VIPER → Cityscapes-Seq`` for ``viper2cityscapes``."""
    names = {"viper": "VIPER", "synthia": "SYNTHIA-Seq", "cityscapes": "Cityscapes-Seq"}
    source, _, target = shift.partition("2")
    return f"{names.get(source, source)} → {names.get(target, target)}"
