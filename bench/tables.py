"""The tables of a leaderboard page: rows from groups of records, set in markdown. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .config import resolve_settings
from .data.published import published
from .records import Record
from .standings import Group
from .statistics import (
    NOTHING,
    Paired,
    difference,
    gap_closed,
    mean_interval,
    p_value,
    paired_difference,
    rank_correlation,
    spread,
)

LEFT = (
    "rows of the paper's table",
    "method",
    "setting",
    "design",
    "source of the published number",
    "changed options",
    "neighbours",
    "average",
    "minus",
)
"""Columns of text; all others hold numbers and are set to the right."""


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A table in markdown from rows with the same keys; empty for no rows."""
    if not rows:
        return ""
    sides = ["left" if name in LEFT else "right" for name in rows[0]]
    return str(pd.DataFrame(list(rows)).to_markdown(index=False, disable_numparse=True, colalign=sides))


def main_table(groups: Sequence[Group], real: str) -> str:
    """Measured columns, and in the last two the published number with its source."""
    by_method = {group.method: group.miou for group in groups}
    floor, ceiling = by_method.get("source_only", {}), by_method.get("oracle", {})
    yardstick = next((group for group in groups if group.method == "self_training"), None)
    rows = []
    for group in groups:
        card, row = group.card, published(real, group.card.key)
        own_floor = {} if group.method == "source_only" else floor
        own_ceiling = {} if group.method == "oracle" else ceiling
        seconds, per_step = group.of(_seconds), group.of(_per_step)
        cells = {
            "method": f"[{card.title}]({card.url})" if card.url else str(card.title),
            "setting": card.setting,
            "design": card.design.replace("-", NOTHING),
            "n": str(len(group.records)),
            "mIoU, %": spread(group.miou.values()),
            "gain": difference(paired_difference(group.miou, own_floor), 1),
            "gap closed, %": spread(gap_closed(group.miou, own_floor, own_ceiling).values(), 0),
            "temporal cons., %": spread(group.of(lambda record: record.result.temporal_consistency).values()),
            "s/step": f"{np.median(list(per_step.values())):.3f}" if seconds else NOTHING,
            "step, ×": _times(per_step, yardstick.of(_per_step) if yardstick else {}),
            "adapt., s": f"{np.median(list(seconds.values())):.0f}" if seconds else NOTHING,
            "memory, MB": f"{max(group.of(_memory).values()):.0f}",
            "memory, ×": _times(group.of(_memory), yardstick.of(_memory) if yardstick else {}),
            f"PUBLISHED mIoU, {real}, %": f"*{row.miou:.1f}*" if row else "†" if card.floor else NOTHING,
            "source of the published number": f"*{row.source}*" if row else NOTHING,
        }
        rows.append(cells)
    return markdown(rows)


def _seconds(record: Record) -> float | None:
    return record.cost.seconds if record.cost.steps else None


def _per_step(record: Record) -> float | None:
    return record.cost.seconds / record.cost.steps if record.cost.steps else None


def _memory(record: Record) -> float:
    return record.cost.peak_memory_mb


def _times(values: Mapping[int, float], reference: Mapping[int, float]) -> str:
    """Ratio of the medians over all seeds."""
    if not values or not reference:
        return NOTHING
    return f"{np.median(list(values.values())) / np.median(list(reference.values())):.2f}"


def class_table(groups: Sequence[Group], classes: Sequence[str]) -> str:
    """Mean IoU per class and their mean; the best source-free method of each column in bold."""
    columns = {name: [_mean(group.iou(name)) for group in groups] for name in classes}
    columns["mIoU"] = [_mean(group.miou) for group in groups]
    rivals = [row for row, group in enumerate(groups) if group.card.setting == "SFDA"]
    rows = [{"method": str(group.card.title)} for group in groups]
    for name, means in columns.items():
        known = [mean for row in rivals if (mean := means[row]) is not None]
        best = max(known) if len(known) > 1 else None
        for row, mean in enumerate(means):
            text = NOTHING if mean is None else f"{mean:.1f}"
            rows[row][name] = f"**{text}**" if row in rivals and mean is not None and mean == best else text
    return markdown(rows)


def _mean(values: Mapping[int, float]) -> float | None:
    """The mean as it is shown, one decimal; equal texts are equal numbers."""
    return round(mean_interval(list(values.values()))[0], 1) if values else None


def selection_table(groups: Sequence[Group]) -> str:
    """mIoU under the three selection rules, each in its own column, with the looks at the reported labels."""
    rows = []
    for group in groups:
        quiet = group.of(lambda record: record.selection.unsupervised["miou"])
        best = group.of(lambda record: record.selection.oracle["miou"])
        looks = sorted({int(record.selection.oracle["label_looks"]) for record in group.records.values()})
        cells = {
            "method": str(group.card.title),
            "n": str(len(group.records)),
            "`last` (0 looks)": spread(group.miou.values()),
            "unsupervised (0 looks)": spread(quiet.values()),
            "best on the labels": spread(best.values()),
            "its looks per run": ", ".join(map(str, looks)),
        }
        rows.append(cells)
    return markdown(rows)


def order_table(groups: Sequence[Group], real: str) -> str:
    """Rank correlation of the measured with the published order, for all rows and for groups of them."""
    sides = {
        "all rows": groups,
        "without source-only and oracle": [g for g in groups if g.card.setting in ("SFDA", "UDA")],
        "source-free (SFDA)": [g for g in groups if g.card.setting == "SFDA"],
        "UDA": [g for g in groups if g.card.setting == "UDA"],
    }
    rows = []
    for name, members in sides.items():
        numbers = {g.method: row.miou for g in members if (row := published(real, g.method)) is not None}
        found = rank_correlation({g.method: g.miou for g in members}, numbers)
        if found is not None:
            interval = NOTHING if found.low is None else f"{found.low:+.2f} to {found.high:+.2f}"
            cells = {"rows of the paper's table": name, "methods": str(found.methods), "n": str(found.seeds)}
            rows.append(cells | {"Spearman's ρ": f"{found.rho:+.2f}", "95 % interval": interval})
    return markdown(rows)


def average_table(groups: Sequence[Group]) -> str:
    """Methods that evaluate their own average of weights, beside their student's score; empty where there is none."""
    rows = []
    for group in groups:
        students = group.of(lambda record: record.beside["student"].miou if "student" in record.beside else None)
        if students:
            cells = {"method": str(group.card.title), "n": str(len(students))}
            cells |= {"its average (the row above)": spread(group.miou.values()), "student": spread(students.values())}
            rows.append(cells)
    return markdown(rows)


def comparison_table(groups: Sequence[Group]) -> str:
    """The floors against each other and every other source-free method against self-training; empty where none is there."""
    by_method = {group.method: group for group in groups}
    others = [g.method for g in groups if g.card.setting == "SFDA" and not g.card.floor]
    pairs = [("adabn", "source_only"), ("self_training", "adabn"), *((name, "self_training") for name in others)]
    rows = []
    for method, reference in pairs:
        if method in by_method and reference in by_method:
            ours, theirs = by_method[method], by_method[reference]
            names = {"method": str(ours.card.title), "minus": str(theirs.card.title)}
            rows.append(names | _paired(paired_difference(ours.miou, theirs.miou)))
    return markdown(rows)


def control_table(groups: Sequence[Group]) -> str:
    """Altered configurations against the unaltered method, and against self-training with the same options, by seed."""
    unaltered = {group.method: group.miou for group in groups if not group.altered}
    plain = {group.altered: group.miou for group in groups if group.method == "self_training"}
    shared = {"fusion", "flow", "network", *resolve_settings("self_training", {})}
    rows = []
    for group in (g for g in groups if g.altered):
        reference = unaltered.get(group.method, {})
        same = tuple(text for text in group.altered if text.split("=")[0] in shared)
        rival = {} if group.method == "self_training" else plain.get(same, {})
        cells = {
            "method": str(group.card.title),
            "changed options": ", ".join(f"`{text}`" for text in group.altered),
            "mIoU, %": spread(group.miou.values()),
            "unchanged, %": spread(reference[seed] for seed in sorted(reference.keys() & group.miou.keys())),
        }
        over = {"minus self-training, same options": difference(paired_difference(group.miou, rival))}
        rows.append(cells | _paired(paired_difference(group.miou, reference)) | over)
    return markdown(rows)


def _paired(paired: Paired | None) -> dict[str, str]:
    return {"pairs": str(paired.n if paired else 0), "difference": difference(paired), "p": p_value(paired)}
