"""``leaderboards/atlas.md``: which kind of shift is each method for? From the records of all shifts named ``atlas-…``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.registry import shift_names
from bench.core.text import code, listed, plain, table
from bench.runs.config import Shift, load_shift
from bench.runs.records import Record

from .atlas import CEILING, FLOOR, PREFIX, Atlas, Ranking, Row, key_of
from .atlas_words import cells_text, codes, in_short, left_out, short, tests_text
from .generated import Drawing, Page
from .provenance import processors, provenance
from .published import STAND_IN, in_paper
from .standings import Committed, Group, grouped
from .statistics import ALIKE, NOTHING, difference, mean_interval, rank_correlation, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "atlas.md"
HEAD = "# Atlas: "
RANKED = (
    "A block is a replicate of a shift, taken where at least half of the methods with records of the shift have one. A method "
    "is ranked if it has every block, so all are compared on the same ones. Rank on a shift: of the mean over its blocks. Mean "
    "rank: over shifts, with a 95 % percentile interval, shifts drawn anew (too narrow for few). The shift is the unit of "
    "interval and tests: replicates of a shift are drawn from the same two domains and repeat one answer, so counted as data "
    "sets of their own they would make few kinds of shift look like many. Over blocks: mean rank if each block is ranked by "
    "itself, without a test. Group: methods that share a letter are not told apart by Nemenyi's test at 0.05 (Demšar 2006). "
    f"Bold, in the first table: best on the shift; {ALIKE}: not told apart from the best there (paired t-tests over its blocks of "
    "all pairs, Holm-corrected, 0.05)."
)
"""How ranks are made."""
LEFT = ("method", "setting", "shift", "source → target", "compared with", "rows")


def pages(root: Path, committed: Mapping[str, Committed]) -> list[Page]:
    """The page, if a shift of the atlas has records.

    Args:
        committed: by shift, of all shifts.
    """
    groups = {name: grouped(committed_shift.records) for name, committed_shift in sorted(committed.items())}
    atlas = {name: members for name, members in groups.items() if name.startswith(PREFIX)}
    return (
        [page(root, atlas, {name: members for name, members in groups.items() if name not in atlas})] if atlas else []
    )


def page(root: Path, groups: Mapping[str, Sequence[Group]], other_shifts: Mapping[str, Sequence[Group]]) -> Page:
    """The page and its figures.

    Args:
        groups: results by shift of the atlas.
        other_shifts: by shift outside the atlas, whose order of methods is compared with the atlas's.
    """
    atlas, published_too = Atlas.of(groups), Atlas.of(groups, "published")
    drawn = drawings(root, atlas)
    figures = [f"![{plain(drawing.caption)}]({drawing.path.relative_to(root).as_posix()})" for drawing in drawn]
    records = {
        shift: [record for group in shift_groups for record in group.records.values()]
        for shift, shift_groups in groups.items()
    }
    parts = [
        f"{HEAD}which kind of shift is each method for?",
        "Each shift of the atlas moves one cause of a domain's change. Made by `bench leaderboard` from the records of the shifts "
        "below, whose own pages say more; do not edit.",
        _provenance(records),
        shift_table(atlas, records),
        *_not_run(groups),
    ]
    if atlas.rows:
        parts += ["## In short", *in_short(atlas), *_sections(atlas, figures, RANKED), *_elsewhere(atlas, other_shifts)]
    if published_too.rows:
        parts += [
            "# With published ingredients",
            "Each method with what its paper has beyond its loss (`-o ingredients=published`), source-only and the oracle too. "
            "These records are in no table above, and those above are in none below. Ranks are made as above.",
            *_sections(published_too, ()),
        ]
    return Page(root / NAME, "\n\n".join(part for part in parts if part) + "\n", tuple(drawn))


def _sections(atlas: Atlas, figures: Sequence[str], ranked: str = "") -> list[str]:
    """Scores, gains and ranks of one set of ingredients. ``ranked``: how ranks are made."""
    fields = {"Source-free (SFDA)": atlas.source_free, "All but the oracle": atlas.everybody}
    return [
        "## Scores",
        f"mIoU in percent, mean ± 95 % t-interval over replicates, their number in brackets. {cells_text(atlas)}",
        score_table(atlas),
        "## Gain over source-only",
        f"mIoU points, paired by replicate, ± 95 % t-interval, number of pairs in brackets. {ALIKE}: not told apart from "
        "source-only (paired t-tests, Holm-corrected over the rows of a column, 0.05).",
        gain_table(atlas),
        *figures[:1],
        "## Ranks",
        ranked,
        left_out(atlas),
        *(
            f"{name}. {tests_text(ranking)}\n\n{rank_table(atlas, ranking)}"
            for name, ranking in fields.items()
            if ranking.rows
        ),
        *figures[1:],
    ]


def _not_run(groups: Mapping[str, Sequence[Group]]) -> list[str]:
    """Shifts of the atlas without a record, and records that are not on this page."""
    parts = []
    if missing := [name for name in shift_names() if name.startswith(PREFIX) and name not in groups]:
        commands = listed(code(f"bench run -m METHOD --shift {name}") for name in missing)
        parts.append(f"Nobody has run {codes(map(short, missing))} yet; {commands} would.")
    if altered := sum(
        len(group.records) for shift_groups in groups.values() for group in shift_groups if key_of(group) is None
    ):
        parts.append(
            f"{altered} records with other options stand on the pages of their shifts and are not counted here."
        )
    return [" ".join(parts)] if parts else []


# Tables ---------------------------------------------------------------------------------------------------------------


def shift_table(atlas: Atlas, records: Mapping[str, Sequence[Record]]) -> str:
    """The shifts: what they are, their records, and the scores between which methods have room."""
    rows = []
    for name, shift_records in records.items():
        shift = load_shift(name)
        ends = {row.key[0]: row.miou.get(name, {}) for row in atlas.rows if row.key in ((FLOOR, ()), (CEILING, ()))}
        cells = {
            "shift": f"[{short(name)}]({name}.md)",
            "source → target": plain(f"{shift.data.source.title} → {shift.data.target.title}"),
            "records": str(len(shift_records)),
            "blocks, seeds": ", ".join(map(str, atlas.blocks.get(name, ()))) or NOTHING,
            "source-only, %": spread(ends.get(FLOOR, {}).values()),
            "oracle, %": spread(ends.get(CEILING, {}).values()),
            "protocol": code(shift.hash),
        }
        rows.append(cells)
    return table(rows, LEFT)


def score_table(atlas: Atlas) -> str:
    """mIoU of every row on every shift."""
    return table(
        [
            {"method": plain(row.title), "setting": row.setting}
            | {
                short(s): _counted(spread(scores.values()), len(scores)) if (scores := row.miou.get(s)) else ""
                for s in atlas.shifts
            }
            for row in atlas.shown
        ],
        LEFT,
    )


def gain_table(atlas: Atlas) -> str:
    """Gain of every row but source-only on every shift."""
    rows = []
    for row in atlas.shown:
        if (gains := atlas.gains.get(row.key)) is not None:
            cells = {
                short(s): _counted(difference(gains[s], 1), gains[s].n)
                + ("" if row.name in atlas.gained[s] else f" {ALIKE}")
                if s in gains
                else ""
                for s in atlas.shifts
            }
            rows.append({"method": plain(row.title), "setting": row.setting} | cells)
    return table(rows, LEFT)


def rank_table(atlas: Atlas, ranking: Ranking) -> str:
    """Mean rank with its interval and group, and the rank on each shift."""
    letters = ranking.nemenyi.letters if ranking.agreement else {}
    rows = []
    for i, row in enumerate(ranking.rows):
        cells = {
            "method": plain(row.title),
            "setting": row.setting,
            "mean rank": f"{ranking.mean[i]:.2f}",
            "95 %": NOTHING if ranking.interval is None else "{:.2f} to {:.2f}".format(*ranking.interval[:, i]),
            "group": letters.get(row.name, NOTHING),
            "over blocks": f"{ranking.over_blocks[i]:.2f}",
        }
        for shift, rank in zip(ranking.blocks, ranking.ranks[:, i], strict=True):
            first, *alike = atlas.leaders[shift] if ranking is atlas.source_free else ("",)
            text = f"**{rank:g}**" if row.name == first else f"{rank:g}"
            cells[short(shift)] = f"{text} {ALIKE}" if row.name in alike else text
        rows.append(cells)
    return table(rows, LEFT)


def _elsewhere(atlas: Atlas, other_shifts: Mapping[str, Sequence[Group]]) -> list[str]:
    """Rank correlations with the paper's table and with what was measured on other shifts; empty where there is none."""
    real = {
        row.name: miou for row in atlas.rows if not row.key[1] and (miou := in_paper(STAND_IN, row.key[0])) is not None
    }
    references = {f"published on {STAND_IN}": real}
    for name, groups in other_shifts.items():
        measured = {g.name: mean_interval(list(g.miou.values()))[0] for g in groups}
        references[f"measured on {name}"] = measured
    rows = []
    for name, numbers in references.items():
        for field, ranking in {"source-free (SFDA)": atlas.source_free, "all but the oracle": atlas.everybody}.items():
            if not ranking.rows or (correlation := rank_correlation(ranking.by_shift(), numbers)) is None:
                continue
            cells = {
                "compared with": name,
                "rows": field,
                "methods": str(correlation.methods),
                "mean rank": f"{correlation.rho:+.2f}",
                "95 %": NOTHING if correlation.low is None else f"{correlation.low:+.2f} to {correlation.high:+.2f}",
            }
            for i, shift in enumerate(ranking.blocks):
                shift_correlation = rank_correlation(
                    {name: {0: ranks[i]} for name, ranks in ranking.by_shift().items()}, numbers
                )
                cells[short(shift)] = NOTHING if shift_correlation is None else f"{shift_correlation.rho:+.2f}"
            rows.append(cells)
    if not rows:
        return []
    return [
        "## The same order elsewhere?",
        "Rank correlation (Spearman) of the ranks here with the paper's table and with the mean mIoU on other shifts, over the "
        "ranked methods that have both: of the mean rank, with a percentile interval over shifts drawn anew, and of the rank on "
        "each shift. +1: the same order. The interval covers neither the other side's uncertainty nor the choice of methods.",
        table(rows, LEFT),
    ]


# Figures --------------------------------------------------------------------------------------------------------------


def drawings(root: Path, atlas: Atlas) -> list[Drawing]:
    """The heat map of gains and, where ranks can be tested, the critical-difference diagram of source-free methods."""
    shifts, title = [short(shift) for shift in atlas.shifts], "Gain over source-only by kind of shift"
    gains: dict[str, list[float | None]] = {
        _in_figure(row): [by_shift[shift].difference if shift in by_shift else None for shift in atlas.shifts]
        for row in atlas.shown
        if row.setting != "oracle" and (by_shift := atlas.gains.get(row.key))
    }
    if not gains:
        return []

    def heat() -> Figure:
        from .atlas_figures import gain_figure

        return gain_figure(gains, shifts, title)

    caption = "Gain over source-only, mIoU points, by method and shift"
    drawn = [Drawing(caption, root / "figures" / "atlas-gains.png", [title, shifts, list(gains.items())], heat)]
    ranking = atlas.source_free
    if ranking.agreement is None:
        return drawn
    titles, heading = (
        [row.title for row in ranking.rows],
        f"Mean rank over {len(ranking.blocks)} shifts, source-free methods",
    )

    def ranks() -> Figure:
        from .atlas_figures import rank_figure

        return rank_figure(ranking.scores, titles, ranking.critical, heading)

    caption = "Critical-difference diagram: a bar joins methods that are not told apart"
    data = [heading, titles, ranking.scores.tolist()]
    return [*drawn, Drawing(caption, root / "figures" / "atlas-ranks.png", data, ranks)]


def _in_figure(row: Row) -> str:
    """A title that says who saw source data."""
    return f"{row.title} (UDA)" if row.setting == "UDA" else row.title


# Provenance and small things ------------------------------------------------------------------------------------------


def _provenance(records: Mapping[str, Sequence[Record]]) -> str:
    """The provenance lines of all shifts together; where shifts differ, a line lists what each has."""
    shifts = [load_shift(name) for name in records]
    everything = [record for shift_records in records.values() for record in shift_records]
    seeds = sorted({record.config.seed for record in everything})
    readouts = sorted({shift.evaluation.readout for shift in shifts})
    replacements = {
        "Replicates": f"{len(seeds)} (seeds {', '.join(map(str, seeds))}) of each shift, not of every method; each draws its own "
        f"worlds and adaptation seed, {_models(records.values())}",
        "Protocol": "; ".join(dict.fromkeys(_protocol(shift) for shift in shifts)),
        "Readout": f"the {' or '.join(readouts)}'s weights are scored; of a method whose paper scores its own average, that",
        "Settings": "; ".join(dict.fromkeys(_settings(shift) for shift in shifts)),
    }
    if processors(everything):
        mixed = [short(shift) for shift, shift_records in records.items() if processors(shift_records)]
        replacements["Processors"] = (
            "several kinds; a configuration scores differently on each, as with another seed"
            + (
                f"; records of several on {codes(mixed)}, whose pages say more"
                if mixed
                else ", and no shift has records of two"
            )
        )
    return provenance(shifts[0], everything, **replacements)


def _models(records: Iterable[Sequence[Record]]) -> str:
    """Whether shifts share source models: what starts from one model is not independent."""
    models = [{record.source_model for record in shift_records} - {None} for shift_records in records]
    if len(models) > 1 and set.intersection(*models):
        return "and one source model for all shifts, which are therefore not wholly independent of each other"
    return "and its own source model on each shift"


def _protocol(shift: Shift) -> str:
    return (
        f"{shift.adaptation.steps} adaptation steps, {shift.data.frames} frames per clip, network {shift.network.name}, fusion "
        f"{shift.network.fusion}, flow {shift.flow}"
    )


def _settings(shift: Shift) -> str:
    return (
        "as published"
        if shift.settings == "published"
        else f"tuned on {code(shift.settings.tuned_on)}, none on the atlas"
    )


def _counted(text: str, n: int) -> str:
    return f"{text} ({n})"
