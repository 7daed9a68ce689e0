"""Leaderboards: each page is a pure function of the committed records of one shift and of the published numbers.

``leaderboards/records/<shift>/*.json`` in, ``leaderboards/<shift>.md`` out, the same bytes every time: no clock,
everything sorted. Records of tuning or test shifts, of another protocol or of a method that changed are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .config import Shift, load_shift
from .data.published import published_shifts
from .errors import RunError
from .records import Record, write_atomically
from .registry import shift_names
from .standings import ORDER, Group, admit, grouped, ranked, read_shift_records
from .tables import (
    average_table,
    class_table,
    comparison_table,
    control_table,
    main_table,
    order_table,
    selection_table,
)

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
        "Readout": f"the {shift.evaluation.readout}'s weights are scored; of a method whose paper scores its own average, that",
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
        f"{shift.data.scored}. Made by `bench leaderboard` from the files in [records/{shift.name}](records/{shift.name}); "
        "do not edit.",
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
        "time of the adaptation loop. Memory: largest peak of the process. ×: median relative to self-training's.",
        main_table(main, real),
        f"The last two columns were **not measured here**: mIoU on {real} as published, with other data, networks and "
        "checkpoint selection; they do not compare with the measured columns. † a floor, not in the paper's table.",
        *(f"![{caption}]({address})" for caption, address in figures),
        *_order_section(main, real),
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
    if averages := average_table(main):
        parts += [
            "## Average and student",
            f"The {shift.evaluation.readout}'s weights are scored, except of methods whose paper scores its own average: "
            "mIoU in percent of both.",
            averages,
        ]
    return [
        *parts,
        "## Selection rules",
        "mIoU in percent of the same runs when other weights are picked; the rest of this page is `last` alone. "
        "Unsupervised: the kept weights with the best target-only score. Best on the labels: what picking a checkpoint "
        "on the reported labels would show.",
        selection_table(main),
    ]


def _order_section(main: Sequence[Group], real: str) -> list[str]:
    """Does the measured order agree with the published one?"""
    table = order_table(main, real)
    if not table:
        return []
    return [
        "## Measured against published order",
        f"Rank correlation (Spearman) of the mean mIoU measured here with the number published on {real}, over the methods that "
        "have both; interval: percentile bootstrap over the replicates, which are drawn anew for all methods at once. It covers "
        "neither the uncertainty of the published numbers nor the choice of methods.",
        table,
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
