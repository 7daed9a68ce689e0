"""Leaderboards: each page is a pure function of the committed records of one shift and of the published numbers.

``leaderboards/records/<shift>/`` (records, and their scores per target sequence) in, ``leaderboards/<shift>.md``, a page per
study and their figures out: no clock, everything sorted, numbers rounded at the end. Pages are the same bytes on every machine;
figures carry the hash of the data that they show (``bench/leaderboards/generated.py``). Records of tuning or test shifts, of
another protocol or of a method that changed are refused, and so are sequences that do not give their record's IoU to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from bench.core.errors import RunError, UsageError, unknown
from bench.core.registry import shift_names
from bench.core.text import code, plain
from bench.runs.config import Shift, load_shift, methods_on
from bench.runs.finished import FOLDERS
from bench.runs.records import Record
from bench.runs.sequences import Counts
from bench.shifts.sides import ModelFile
from bench.sweeps.study import Study, expand

from . import (
    atlas_page,
    drive,
    hidden_page,
    overview_page,
    published_page,
    settings_page,
    stream_page,
    study_page,
)
from .cost import cost_table, of_processors
from .figures import drawings
from .generated import Page, Pages, orphans
from .provenance import provenance
from .published import compared_with, published_shifts
from .standings import ORDER, Committed, Group, admit, grouped, ranked, read_committed
from .study_figure import study_drawing
from .tables import (
    average_table,
    class_table,
    comparison_table,
    control_table,
    families_of,
    main_table,
    order_table,
    pair_table,
    selection_table,
    two_verdicts,
)
from .tested import all_pairs, tested

HEAD = "# Leaderboard: "
RENDERED = ("ministreet", "ministreet2")
"""Rendered shifts, whose order of methods stands beside that of recorded drives, and the drives' beside theirs."""
SEES = {
    "none": "the source-trained model; nothing is adapted",
    "SFDA": "the source-trained model and unlabelled target training clips; no source data",
    "UDA": "the source-trained model, labelled source clips and unlabelled target training clips",
    "oracle": "labelled target training clips; no source data and no source-trained model",
}
"""What each setting may see, in words; the harness enforces it (``bench/core/access.py``)."""
INGREDIENTS = {
    "common": "all methods have the fusion of the shift",
    "published": "each method has what its paper has beyond its loss",
}
"""What methods have beyond their loss, in words."""
OTHER_INGREDIENTS = tuple((f"ingredients={kind}",) for kind in INGREDIENTS)
"""Alterations whose runs have a table of results of their own."""


# The page -------------------------------------------------------------------------------------------------------------


def build(
    shift_name: str,
    records: Sequence[Record],
    sequences: Mapping[str, Mapping[str, Counts]] | None = None,
    figures: Sequence[tuple[str, str]] = (),
    studies: Sequence[study_page.Report] = (),
    other_shifts: Mapping[str, Sequence[Group]] = MappingProxyType({}),
) -> str:
    """The page of a shift.

    Args:
        records: of this shift, in any order.
        sequences: by run, pixels per target sequence, of the records that have them.
        figures: caption and address, relative to the page, of each figure to show.
        studies: that have a page of their own; their records are not shown among the controls.
        other_shifts: results measured on other shifts, by name, whose order of methods this one's is compared with.

    Raises:
        RunError: no records, or one that does not belong here.
    """
    shift = load_shift(shift_name)
    if not records:
        raise RunError(f"Shift '{shift_name}' has no records; make one with `bench run` and `bench submit`")
    admitted: set[str] = set()
    for record in records:
        admit(record, shift, f"{record.config.method}-s{record.config.seed}-{record.run}.json", admitted=admitted)
    groups = grouped(records, sequences)
    main = ranked(groups)
    study_runs = {record.run for study in studies for record in study.records}
    controls = [
        g for g in groups if not g.is_row and not all(record.run in study_runs for record in g.records.values())
    ]
    other_ingredients = [g for g in controls if g.altered in OTHER_INGREDIENTS]
    controls = [g for g in controls if g not in other_ingredients]
    parts = [
        f"{HEAD}{plain(shift.title)}",
        f"Domain adaptation for video semantic segmentation, {len(shift.score_classes) - len(shift.unscored)} classes, scored on "
        f"{shift.data.scored}. Made by `bench leaderboard` from the files in [records/{shift.name}](records/{shift.name}); "
        "do not edit.",
        *drive.about(shift),
        provenance(shift, records),
        "What each setting may see while it adapts (the reported labels are opened afterwards, for every method):",
        "\n".join(f"- {name}: {SEES[name]}" for name in reversed(ORDER)),
        *(_main_sections(main, shift, figures, other_shifts) if main else ()),
        *(_ingredient_sections(other_ingredients, groups, shift) if other_ingredients else ()),
    ]
    if shift.name in published_shifts():
        parts += published_page.sections(shift, main)
    if studies:
        parts += [
            "## Studies",
            "\n".join(f"- [{plain(study.title)}]({study.page_name}): {study.summary}" for study in studies),
        ]
    if controls:
        parts += [
            "## Controls and ablations",
            "Options changed with `-o`, everything else as in the table of results; what belongs to a study stands on its page. "
            f"Difference: changed minus unchanged, mIoU points, {tested(shift)} A flow backend is that of adaptation and of "
            f"evaluation; {_fusion(shift)}. The last column is what the method adds to self-training "
            "under the same options.",
            control_table(controls, groups),
        ]
    return "\n\n".join(parts) + "\n"


def _main_sections(
    main: Sequence[Group], shift: Shift, figures: Sequence[tuple[str, str]], other_shifts: Mapping[str, Sequence[Group]]
) -> list[str]:
    """Results, classes, comparisons, selection: the sections on unaltered methods."""
    real = compared_with(shift.name)
    parts = [
        "## Results",
        "Mean ± 95 % t-interval over n replicates (the mean alone for n = 1). Gain: mIoU points over source-only, "
        "paired by replicate. Gap closed: share of the way from source-only to the oracle. Temporal cons.: mean IoU of "
        f"the previous prediction, carried along the {_flow(shift)}, with the current one. Place: best and worst place within the "
        "setting that a method may hold, one more than the number of methods significantly better than it, and the number of "
        "all less those significantly worse; group: methods of a setting that share a letter cannot be told apart (both: "
        f"{all_pairs(shift)} of all pairs of the setting, Holm-corrected, 0.05). CPU s/step: median CPU time of the "
        "adaptation loop; ×: relative to self-training's on the same processor.",
        main_table(main, real),
        f"The last two columns were **not measured here**: mIoU on {real} as published, with other data, networks and "
        "checkpoint selection; they do not compare with the measured columns. † a floor, not in the paper's table.",
        *_missing(main, shift),
        *(f"![{plain(caption)}]({address})" for caption, address in figures),
        *drive.sections(shift, main),
        *_order_section(main, real, other_shifts),
        *drive.against(main, other_shifts),
        "## IoU per class",
        "Percent, mean over replicates. Bold: the best source-free (SFDA) method of a column.",
        class_table(main, shift.score_classes),
        *_pair_sections(main, shift),
    ]
    if comparisons := comparison_table(main):
        parts += [
            "## Paired comparisons",
            "The floors in the order that the rules expect, and every other source-free method against self-training; mIoU "
            f"points, {tested(shift)}",
            comparisons,
            *filter(None, [two_verdicts(main)]),
        ]
    parts += [
        "## Cost",
        "Of the adaptation loop, without evaluation; medians over replicates, of memory the largest peak of the process. "
        + ("Runs on a GPU are left out. " if of_processors(main) != main else "")
        + "CPU time is what compares, on one processor: wall time is longer where runs were made side by side. ×: relative to "
        "self-training's, both on the processor that most replicates of both ran on, a dash where there is none.",
        cost_table(main),
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


def _missing(main: Sequence[Group], shift: Shift) -> list[str]:
    """The methods that could stand in the results and do not."""
    measured = {group.method for group in main}
    absent = [code(name) for name in methods_on(shift.name) if name not in measured]
    return [f"Not measured here yet: {', '.join(absent)}."] if absent else []


def _ingredient_sections(variants: Sequence[Group], groups: Sequence[Group], shift: Shift) -> list[str]:
    """The table of results with the other ingredients than the shift's, and how far they are from the shift's."""
    (option,) = variants[0].altered
    kind = option.partition("=")[2]
    rows, real = ranked(replace(group, altered=()) for group in variants), compared_with(shift.name)
    order = order_table(rows, real)
    return [
        f"## Results with {kind} ingredients",
        f"The same table of the runs with {code(f'-o {option}')}: {INGREDIENTS[kind]}. Gains and the gap are taken from "
        "source-only and the oracle with these ingredients. No other run is in it, and these are in no table above.",
        main_table(rows, real),
        *([f"Rank correlation (Spearman) with the table of STPL's paper on {real}, as above:", order] if order else ()),
        f"What the ingredients change: these minus {shift.ingredients} ones, mIoU points, {tested(shift)}",
        control_table(variants, groups),
    ]


def _pair_sections(main: Sequence[Group], shift: Shift) -> list[str]:
    """All pairs of each setting."""
    parts = []
    for setting, family in families_of(main).items():
        parts += [
            f"## Every pair of {setting} methods",
            f"Row minus column, mIoU points, paired by replicate, ± 95 % t-interval. Bold: told apart by {all_pairs(shift)}, "
            f"Holm-corrected over the {len(family.corrected) // 2} pairs of the setting, at 0.05; places and groups above follow "
            "from these.",
            pair_table(main, family),
        ]
    return parts


def _fusion(shift: Shift) -> str:
    if isinstance(shift.data.source, ModelFile):
        return "another fusion operator is put under the same weights of single frames"
    return "another fusion operator has a source model of its own"


def _flow(shift: Shift) -> str:
    return "flow that the model was given" if shift.data.kind == "video" else "exact flow"


def _order_section(main: Sequence[Group], real: str, other_shifts: Mapping[str, Sequence[Group]]) -> list[str]:
    """Does the measured order agree with the published one, and with that of other shifts? Theirs stand beside it."""
    table = order_table(main, real)
    if not table:
        return []
    return [
        "## Measured against published order",
        f"Rank correlation (Spearman) of the mean mIoU measured here with that on {real} in the table of STPL's paper, over the "
        "methods that have both. p: two-sided, of no relation between the two orders, which says whether these methods show one. "
        "Interval over replicates: percentile bootstrap, replicates drawn anew for all methods at once; it says how far the "
        "measured order depends on chance and worlds, not whether it agrees with the published one. The two ends, source-only and "
        "the oracle, agree wherever adaptation does anything.",
        table,
        *(
            part
            for name, groups in other_shifts.items()
            if (beside := order_table(groups, real))
            for part in (f"The same of {code(name)}, whose page this is from:", beside)
        ),
    ]


# Files ----------------------------------------------------------------------------------------------------------------


def pages(root: Path) -> list[Page]:
    """Pages of each shift that has records under ``root/records``: its leaderboard, then its studies; the atlas over those that are
    of it; of each that has some under ``root/streams`` that of its streams; hidden worlds; last, the settings and the overview. A
    real shift without records whose page is there (:mod:`.published_page`) keeps it.

    Raises:
        RunError: a record or its sequences do not belong; names the file.
    """
    names, streams = (_with_records(root / folder) for folder in FOLDERS.values())
    committed = {name: read_committed(root, name) for name in names}
    boards = [page for name in names for page in shift_pages(root, name, committed)]
    boards += atlas_page.pages(root, committed)
    kept = sorted(name for name in set(published_shifts()) - set(names) if (root / f"{name}.md").is_file())
    boards += [published_page.page(root, load_shift(name), HEAD) for name in kept]
    committed_streams = {name: read_committed(root, name, "stream") for name in streams}
    boards += [stream_page.page(root, name, committed_stream) for name, committed_stream in committed_streams.items()]
    boards += [settings_page.page(root)] if boards else []
    boards += hidden_page.pages(root)
    results = {name: ranked(grouped(committed[name].records, committed[name].sequences)) for name in names}
    online = {name: ranked(stream_page.own_groups(committed_streams[name])) for name in streams}
    return boards + overview_page.pages(root, results, online, boards)


def _with_records(folder: Path) -> list[str]:
    """Names of the shifts that have records in a folder.

    Raises:
        UsageError: one that is not known.
    """
    names = sorted(p.name for p in folder.glob("*") if p.is_dir() and any(p.glob("*.json")))
    if strange := set(names) - set(shift_names()):
        raise unknown("shift", min(strange), shift_names(), context=f" in {folder}")
    return names


def shift_pages(root: Path, shift_name: str, committed: Mapping[str, Committed]) -> list[Page]:
    """Leaderboard and study pages of a shift. ``committed``: by shift, of this one and of those whose order of methods may be
    compared with its own."""
    committed_shift = committed[shift_name]
    reports = study_page.reports(shift_name, committed_shift.records, committed_shift.sequences)
    figures = drawings(root, load_shift(shift_name), committed_shift)
    shown = [(drawing.caption, drawing.path.relative_to(root).as_posix()) for drawing in figures]
    other_shifts = {name: ranked(grouped(committed[name].records)) for name in _beside(shift_name, committed)}
    text = build(shift_name, committed_shift.records, committed_shift.sequences, shown, reports, other_shifts)
    board = Page(root / f"{shift_name}.md", text, tuple(figures))
    return [board, *(of_study(report, root) for report in reports)]


def _beside(shift_name: str, names: Iterable[str]) -> list[str]:
    """Shifts of the other kind: the rendered ones for a recorded drive, the drives for a rendered one."""
    if drive.by_frame(load_shift(shift_name)):
        return [name for name in RENDERED if name in names]
    return [name for name in names if drive.by_frame(load_shift(name))] if shift_name in RENDERED else []


def of_study(report: study_page.Report, root: Path) -> Page:
    """The page of a study with its figure."""
    return Page(root / report.page_name, report.text, (study_drawing(report, root),))


def study_pages(
    study: Study, records: Sequence[Record], root: Path, sequences: study_page.Sequences | None = None
) -> list[Page]:
    """Pages of one study, one per shift that it has records of."""
    shifts = sorted({record.config.shift for record in records})
    reports = [study_page.report(study, expand(study), name, records, sequences) for name in shifts]
    return [of_study(report, root) for report in reports if report is not None]


def of_root(root: Path) -> Pages:
    """The pages of all shifts that have records under ``root``, and those of shifts and studies without.

    Raises:
        UsageError: neither records nor a page.
        RunError: a record that does not belong.
    """
    expected, names = pages(root), shift_names()
    candidates = [root / f"{name}.md" for name in names] + [p for n in names for p in sorted(root.glob(f"{n}-*.md"))]
    candidates += [root / name for name in (hidden_page.NAME, atlas_page.NAME, overview_page.NAME)]
    heads = (HEAD, study_page.HEAD, stream_page.HEAD, hidden_page.HEAD, atlas_page.HEAD, overview_page.HEAD)
    root_pages = Pages(expected, orphans(candidates, heads, expected))
    if not root_pages:
        raise UsageError(
            f"There is no leaderboard: no records in {root / 'records'}; `bench submit RUN` puts some there"
        )
    return root_pages


def check(root: Path) -> list[Path]:
    """Pages and figures that are not what the records give: stale, missing, or of no records. Writes nothing."""
    return of_root(root).stale()


def write(root: Path) -> list[Path]:
    """Write what is stale; remove pages of shifts and studies without records.

    Returns:
        The figures and pages that were written.

    Raises:
        RunError: a record that does not belong, or a disk that cannot be written.
    """
    return of_root(root).write()
