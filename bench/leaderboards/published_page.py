"""What is published on a real shift, and what is missing: every number with its source, and the command that measures it here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.core.registry import method_names
from bench.core.text import plain, table
from bench.runs.config import Shift, method_class

from .generated import Drawing, Page
from .published import Published
from .published import rows as published_rows
from .standings import Group
from .statistics import NOTHING, spread

TITLES = {
    "moda": "MoDA",
    "i2vda": "I2VDA",
    "sfc": "SFC",
    "tpl_sfc": "TPL-SFC",
    "pat": "PAT",
    "quadmix_cnn": "QuadMix (CNN)",
    "quadmix_vit": "QuadMix (ViT)",
}
"""Published methods that are not here."""
TEXT = ("method", "setting", "design", "venue", "source", "to measure it here")


def title_of(method: str) -> str:
    """Title of a published row's method, from its card where the method is here.

    Raises:
        KeyError: neither here nor named in :data:`TITLES`.
    """
    return str(method_class(method).card.title) if method in method_names() else TITLES[method]


def rows_of(shift: str) -> list[Published]:
    """Published rows of a real shift, best first."""
    return sorted((row for row in published_rows() if row.shift == shift), key=lambda row: (-row.miou, row.method))


def _venue(card: Any) -> str:
    return str(card.venue) if card.year else NOTHING


def result_table(shift: Shift, groups: Sequence[Group]) -> str:
    """Every published row and every method that is here, with what was measured here; methods without a number come last."""
    measured = {group.name: spread(group.miou.values()) for group in groups}
    methods, rows = method_names(), []
    published = rows_of(shift.name)
    published_methods = {row.method for row in published}
    for row in published:
        rows.append(
            {
                "method": plain(title_of(row.method)), "setting": row.setting, "design": row.design.replace("-", NOTHING),
                "venue": NOTHING if row.venue == "-" else row.venue, "published": f"*{row.miou:.1f}*",
                "measured here": measured.get(row.method, ""), "source": plain(row.source + (f"; {row.note}" if row.note else "")),
                "to measure it here": command(shift, row.method) if row.method in methods else NOTHING,
            }
        )  # fmt: skip
    for method in sorted(set(methods) - published_methods, key=lambda name: (measured.get(name, "") == "", name)):
        card = method_class(method).card
        rows.append(
            {
                "method": plain(card.title), "setting": card.setting, "design": card.design.replace("-", NOTHING),
                "venue": _venue(card), "published": NOTHING, "measured here": measured.get(method, ""), "source": NOTHING,
                "to measure it here": command(shift, method),
            }
        )  # fmt: skip
    return table(rows, TEXT)


def command(shift: Shift, method: str) -> str:
    """How to run a method on the shift, as code."""
    return f"`bench run -m {method} --shift {shift.name} --data-root data`"


def class_table(shift: Shift) -> str:
    """Published IoU per class, of the rows that have it."""
    rows = [
        {"method": plain(title_of(row.method)), **{plain(name): _iou(row.iou.get(name)) for name in shift.classes}}
        for row in rows_of(shift.name)
        if row.iou
    ]
    return table(rows, TEXT)


def _iou(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def sections(shift: Shift, groups: Sequence[Group]) -> list[str]:
    """The parts of the page on what is published and what is missing."""
    return [
        "## Published, and measured here",
        "mIoU in percent. Published numbers are from other code, other source models and, in most papers, the best of many "
        "checkpoints chosen on these very labels; here the last weights are scored. An empty cell has not been run: its command, "
        "then `bench submit RUN` and `bench leaderboard`, fills it. Where the data comes from and how long a run takes: GUIDE.md, "
        "Real data.",
        result_table(shift, groups),
        "## Published, per class",
        "IoU in percent, where the source gives it.",
        class_table(shift),
    ]


def drawing(root: Path, shift: Shift) -> Drawing:
    """Published mIoU against restriction."""
    from .first_page import Mark, Panel, as_data, first_page_figure

    rows = rows_of(shift.name)
    # The axis says already what is source-free.
    marks = [Mark(title_of(r.method).replace(" (source-free)", ""), r.setting, r.design, r.miou) for r in rows]
    sources = "; ".join(sorted({row.source.split(";")[0] for row in rows}))
    panels = [Panel(f"Published: {shift.title}", sources, marks)]
    path = root / "figures" / f"{shift.name}-published.png"
    caption = "Published mIoU against restriction; nothing of it was measured here"
    return Drawing(caption, path, as_data(panels), lambda: first_page_figure(panels))


def page(root: Path, shift: Shift, head: str) -> Page:
    """The page of a real shift of which there is no record yet."""
    drawn = drawing(root, shift)
    parts = [
        f"{head}{plain(shift.title)}",
        f"Domain adaptation for video semantic segmentation, {len(shift.classes)} classes, scored on {shift.data.scored}. **Nobody "
        "has run this shift here yet**: there is no record of it. Made by `bench leaderboard` from the published numbers; do not "
        "edit.",
        f"![{drawn.caption}]({drawn.path.relative_to(root).as_posix()})",
        *sections(shift, ()),
    ]
    return Page(root / f"{shift.name}.md", "\n\n".join(parts) + "\n", (drawn,))
