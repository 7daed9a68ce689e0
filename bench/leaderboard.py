"""Leaderboards: each page is a pure function of the committed records of one shift and of the published numbers.

``leaderboards/records/<shift>/*.json`` in, ``leaderboards/<shift>.md`` out, the same bytes every time: no clock,
everything sorted. Records of tuning or test shifts, of another protocol or of a method that changed are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .config import Shift, load_shift, resolve_settings
from .data.published import published, published_shifts
from .errors import RunError
from .records import Record, write_atomically
from .registry import shift_names
from .standings import ORDER, Group, admit, grouped, ranked, read_shift_records
from .statistics import NOTHING, Paired, difference, gap_closed, mean_interval, p_value, paired_difference, spread

HEAD = "# Leaderboard: "
STAND_IN = "viper2cityscapes"
"""Real shift whose published numbers stand beside a shift that has none of its own."""
SEES = {
    "none": "the source-trained model; nothing is adapted",
    "SFDA": "the source-trained model and unlabelled target training clips; no source data",
    "UDA": "the source-trained model, labelled source clips and unlabelled target training clips",
    "oracle": "labelled target training clips; no source data and no source-trained model",
}
"""What each setting may see, in words; the harness enforces it (``bench/access.py``)."""
PAIRED = "paired by replicate, ± 95 % interval; p: paired t-test, two-sided, not corrected for the number of rows."
LEFT = ("method", "setting", "design", "source of the published number", "changed options", "minus")
"""Columns of text; all others hold numbers and are set to the right."""


# Tables ---------------------------------------------------------------------------------------------------------------


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
    rows = []
    for group in groups:
        card, row = group.card, published(real, group.card.key)
        own_floor = {} if group.method == "source_only" else floor
        own_ceiling = {} if group.method == "oracle" else ceiling
        seconds = group.of(lambda record: record.cost.seconds if record.cost.steps else None)
        per_step = [seconds[seed] / group.records[seed].cost.steps for seed in seconds]
        cells = {
            "method": f"[{card.title}]({card.url})" if card.url else str(card.title),
            "setting": card.setting,
            "design": card.design.replace("-", NOTHING),
            "n": str(len(group.records)),
            "mIoU, %": spread(group.miou.values()),
            "gain": difference(paired_difference(group.miou, own_floor), 1),
            "gap closed, %": spread(gap_closed(group.miou, own_floor, own_ceiling).values(), 0),
            "temporal cons., %": spread(group.of(lambda record: record.result.temporal_consistency).values()),
            "s/step": f"{np.median(per_step):.3f}" if seconds else NOTHING,
            "adapt., s": f"{np.median(list(seconds.values())):.0f}" if seconds else NOTHING,
            "memory, MB": f"{max(group.of(lambda record: record.cost.peak_memory_mb).values()):.0f}",
            f"PUBLISHED mIoU, {real}, %": f"*{row.miou:.1f}*" if row else "†" if card.floor else NOTHING,
            "source of the published number": f"*{row.source}*" if row else NOTHING,
        }
        rows.append(cells)
    return markdown(rows)


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


# The page -------------------------------------------------------------------------------------------------------------


def provenance(shift: Shift, records: Sequence[Record]) -> str:
    """Where the numbers come from and under which rules, as a list."""
    dates = sorted({record.date for record in records})
    seeds = sorted({record.config.seed for record in records})
    revisions = {f"{r.code.get('revision') or 'unknown'}{' (dirty)' if r.code.get('dirty') else ''}" for r in records}
    packages = sorted({name for record in records for name in record.versions})
    versions = [f"{name} {' / '.join(sorted({r.versions.get(name, 'missing') for r in records}))}" for name in packages]
    machines = {
        "{cpu}, {cores} cores, {threads} threads, device {device}, {system}".format_map(
            {"cpu": "?", "cores": "?", "threads": "?", "device": "?", "system": "?"} | record.hardware
        )
        for record in records
    }
    lines = {
        "Runs": f"{len(records)}, of {dates[0] if len(dates) == 1 else f'{dates[0]} to {dates[-1]}'}",
        "Replicates": f"{len(seeds)} (seeds {', '.join(map(str, seeds))}); each draws its own worlds, source model and "
        "adaptation seed",
        "Protocol": f"`{shift.name}`, hash `{shift.hash}`; {shift.adaptation.steps} adaptation steps, "
        f"network {shift.network.name}, fusion {shift.network.fusion}, flow {shift.flow}",
        "Selection": "rule `last`, 0 looks at the reported labels",
        "Readout": f"the {shift.evaluation.readout}'s weights are scored",
        "Code": ", ".join(sorted(revisions)),
        "Versions": ", ".join(versions),
        "Hardware": "; ".join(sorted(machines)),
    }
    return "\n".join(f"- {key}: {text}" for key, text in lines.items())


def build(shift_name: str, records: Sequence[Record], figures: Sequence[tuple[str, str]] = ()) -> str:
    """The page of a shift.

    Args:
        records: of this shift, in any order.
        figures: caption and address, relative to the page, of each figure to show.

    Raises:
        RunError: no records, or one that does not belong here.
    """
    shift = load_shift(shift_name)
    if not records:
        raise RunError(f"Shift '{shift_name}' has no records; make one with `bench run` and `bench submit`")
    for record in records:
        admit(record, shift, f"{record.config.method}-s{record.config.seed}-{record.run}.json")
    groups = grouped(records)
    main = ranked(groups)
    parts = [
        f"{HEAD}{shift.title}",
        f"Domain adaptation for video semantic segmentation, {len(shift.classes)} classes, scored on "
        f"{shift.data.target.val} clips of domain `{shift.data.target.domain}` per replicate. Made by "
        f"`bench leaderboard` from the files in [records/{shift.name}](records/{shift.name}); do not edit.",
        provenance(shift, records),
        "What each setting may see while it adapts (the reported labels are opened afterwards, for every method):",
        "\n".join(f"- {name}: {SEES[name]}" for name in reversed(ORDER)),
        *(_main_sections(main, shift, figures) if main else ()),
    ]
    if controls := control_table(groups):
        parts += [
            "## Controls and ablations",
            "Options changed with `-o`, everything else as in the table of results. Difference: changed minus "
            f"unchanged, mIoU points, {PAIRED} A flow backend is that of adaptation and of evaluation; another fusion "
            "operator has a source model of its own. The last column is what the method adds to self-training under the same "
            "options.",
            controls,
        ]
    return "\n\n".join(parts) + "\n"


def _main_sections(main: Sequence[Group], shift: Shift, figures: Sequence[tuple[str, str]]) -> list[str]:
    """Results, classes, comparisons, selection: the sections on unaltered methods."""
    real = shift.name if shift.name in published_shifts() else STAND_IN
    parts = [
        "## Results",
        "Mean ± 95 % t-interval over n replicates (the mean alone for n = 1). Gain: mIoU points over source-only, "
        "paired by replicate. Gap closed: share of the way from source-only to the oracle. Temporal cons.: mean IoU of "
        "the previous prediction, carried along the exact flow, with the current one. s/step and adapt.: median wall "
        "time of the adaptation loop. Memory: largest peak of the process.",
        main_table(main, real),
        f"The last two columns were **not measured here**: mIoU on {real} as published, with other data, networks and "
        "checkpoint selection; they do not compare with the measured columns. † a floor, not in the paper's table.",
        *(f"![{caption}]({address})" for caption, address in figures),
        "## IoU per class",
        "Percent, mean over replicates. Bold: the best source-free (SFDA) method of a column.",
        class_table(main, shift.classes),
    ]
    if comparisons := comparison_table(main):
        parts += [
            "## Paired comparisons",
            f"The floors in the order that the rules expect, and every other source-free method against self-training; mIoU "
            f"points, {PAIRED}",
            comparisons,
        ]
    return [
        *parts,
        "## Selection rules",
        "mIoU in percent of the same runs when other weights are picked; the rest of this page is `last` alone. "
        "Unsupervised: the kept weights with the best target-only score. Best on the labels: what picking a checkpoint "
        "on the reported labels would show.",
        selection_table(main),
    ]


# Files ----------------------------------------------------------------------------------------------------------------


def pages(root: Path) -> dict[Path, list[Record]]:
    """Page of each shift that has records under ``root/records``, and these records."""
    folders = sorted(path for path in (root / "records").glob("*") if path.is_dir() and any(path.glob("*.json")))
    return {root / f"{folder.name}.md": read_shift_records(root, folder.name) for folder in folders}


def figure_paths(root: Path, shift_name: str) -> dict[str, Path]:
    """Caption and place of a shift's figures: scores of all methods, gains per class."""
    return {
        "mIoU of every method": root / "figures" / f"{shift_name}.png",
        "Gain of STPL per class": root / "figures" / f"{shift_name}-classes.png",
    }


def _text(page: Path, records: Sequence[Record]) -> str:
    places = figure_paths(page.parent, page.stem)
    found = [(caption, f"figures/{path.name}") for caption, path in places.items() if path.is_file()]
    return build(page.stem, records, found)


def check(root: Path) -> list[Path]:
    """Pages that are not what the records give: stale, missing, or of a shift without records. Writes nothing."""
    wanted = pages(root)
    orphans = [root / f"{name}.md" for name in shift_names() if root / f"{name}.md" not in wanted]
    stale = [page for page, of in wanted.items() if not page.is_file() or page.read_bytes() != _text(page, of).encode()]
    return stale + [page for page in orphans if page.is_file() and page.read_text(encoding="utf-8").startswith(HEAD)]


def write(root: Path) -> list[Path]:
    """Write all pages, and figures where the page was stale or has none; remove pages of shifts without records.

    Returns:
        The figures and pages that were written.

    Raises:
        RunError: a record that does not belong, or a disk that cannot be written.
    """
    written, wanted, stale = [], pages(root), check(root)
    for page in stale:
        if page not in wanted:
            page.unlink()
    for page, records in wanted.items():
        if page in stale or not any(path.is_file() for path in figure_paths(root, page.stem).values()):
            written += draw(root, page.stem, records)
        write_atomically(page, _text(page, records))
        written.append(page)
    return written


def draw(root: Path, shift_name: str, records: Sequence[Record]) -> list[Path]:
    """Draw a shift's figures as far as its records allow; returns those written."""
    from .plots import Entry, class_gains, gains_figure, miou_figure, save

    shift = load_shift(shift_name)
    main = ranked(grouped(records))
    scores, classes = figure_paths(root, shift_name).values()
    written = []
    if main:
        entries = [Entry(g.card.title, g.card.setting, g.card.design, g.miou) for g in main]
        written.append(save(miou_figure(entries, f"mIoU on {shift.title}"), scores))
    by_method = {group.method: group.records for group in main}
    gains = class_gains(by_method.get("stpl", {}), by_method.get("source_only", {}), shift.classes)
    if any(gains.values()):
        written.append(save(gains_figure(gains, f"STPL minus source-only on {shift.title}"), classes))
    return written
