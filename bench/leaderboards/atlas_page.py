"""``leaderboards/atlas.md``: which kind of shift is each method for? From the records of all shifts named ``atlas-…``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.core.registry import shift_names
from bench.core.text import code, listed, plain, table
from bench.runs.config import Shift, load_shift
from bench.runs.records import Record

from .atlas import CEILING, FLOOR, PREFIX, Atlas, Ranking, Row, key_of
from .generated import Drawing, Page
from .provenance import processors, provenance
from .published import STAND_IN, published
from .ranking import ALPHA
from .standings import Committed, Group, grouped
from .statistics import (
    NOTHING,
    difference,
    mean_interval,
    p_value,
    rank_correlation,
    spread,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "atlas.md"
HEAD = "# Atlas: "
OWN = "stpl"
"""The method of which the page says where it is not first."""
WORDS = ((0.8, "unusually strong"), (0.6, "strong"), (0.4, "moderate"), (0.2, "weak"), (0.0, "very weak"))
"""Kendall's W in words, from the value on: halfway between the points that Schmidt names (Decision Sciences 28, 1997)."""
RANKED = (
    "A block is a replicate of a shift, taken where at least half of the methods with records of the shift have one. A method "
    "is ranked if it has every block, so all are compared on the same ones. Rank on a shift: of the mean over its blocks. Mean "
    "rank: over shifts, with a 95 % percentile interval, shifts drawn anew (too narrow for few). The shift is the unit of "
    "interval and tests: replicates of a shift are drawn from the same two domains and repeat one answer, so counted as data "
    "sets of their own they would make few kinds of shift look like many. Over blocks: mean rank if each block is ranked by "
    "itself, without a test. Group: methods that share a letter are not told apart by Nemenyi's test at 0.05 (Demšar 2006). "
    "Bold, in the first table: best on the shift, or not told apart from the best there (paired t-tests over its blocks of all "
    "pairs, Holm-corrected, 0.05)."
)
"""How ranks are made."""
LEFT = ("method", "setting", "shift", "source → target", "compared with", "rows")


def pages(root: Path, committed: Mapping[str, Committed]) -> list[Page]:
    """The page, if a shift of the atlas has records.

    Args:
        committed: by shift, of all shifts.
    """
    groups = {name: grouped(of.records) for name, of in sorted(committed.items())}
    own = {name: of for name, of in groups.items() if name.startswith(PREFIX)}
    return [page(root, own, {name: of for name, of in groups.items() if name not in own})] if own else []


def page(root: Path, groups: Mapping[str, Sequence[Group]], others: Mapping[str, Sequence[Group]]) -> Page:
    """The page and its figures.

    Args:
        groups: by shift of the atlas.
        others: by other shift, whose order of methods is compared.
    """
    atlas, published_too = Atlas.of(groups), Atlas.of(groups, "published")
    drawn = drawings(root, atlas)
    figures = [f"![{plain(one.caption)}]({one.path.relative_to(root).as_posix()})" for one in drawn]
    records = {shift: [record for group in of for record in group.records.values()] for shift, of in groups.items()}
    parts = [
        f"{HEAD}which kind of shift is each method for?",
        "Each shift of the atlas moves one cause of a domain's change. Made by `bench leaderboard` from the records of the shifts "
        "below, whose own pages say more; do not edit.",
        _provenance(records),
        shift_table(atlas, records),
        *_not_run(groups),
    ]
    if atlas.rows:
        parts += ["## In short", *in_short(atlas), *_sections(atlas, figures, RANKED), *_elsewhere(atlas, others)]
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
        f"mIoU in percent, mean ± 95 % t-interval over replicates, their number in brackets. {cells_told(atlas)}",
        score_table(atlas),
        "## Gain over source-only",
        "mIoU points, paired by replicate, ± 95 % t-interval, number of pairs in brackets.",
        gain_table(atlas),
        *figures[:1],
        "## Ranks",
        ranked,
        _left_out(atlas),
        *(f"{name}. {tests_told(of)}\n\n{rank_table(atlas, of)}" for name, of in fields.items() if of.rows),
        *figures[1:],
    ]


# What it says ---------------------------------------------------------------------------------------------------------


def in_short(atlas: Atlas) -> list[str]:
    """The answer in sentences, of source-free methods."""
    ranking = atlas.source_free
    parts = ["\n".join(f"- {code(_short(shift))}: {best_told(atlas, shift)}" for shift in atlas.shifts)]
    if ranking.rows:
        parts.append("\n".join(f"- {plain(row.title)}: {row_told(atlas, row)}" for row in ranking.rows))
    return [*parts, " ".join((moves_told(ranking), own_told(atlas))).strip()]


def best_told(atlas: Atlas, shift: str) -> str:
    """Best and second source-free method of a shift, and who is not told apart from the best."""
    of, titles = atlas.contests[shift], _titles(atlas)
    if not of.names:
        return "no source-free method has its blocks."
    scores = {
        row.name: [row.miou[shift][seed] for seed in atlas.blocks[shift]] for row in atlas.rows if row.name in of.names
    }
    first = of.names[0]
    text = f"best is {titles[first]} ({spread(scores[first])})"
    if len(of.names) == 1:
        return f"{text}, alone."
    second = of.names[1]
    gap = difference(of.differences[first, second])
    text += f", then {titles[second]} ({spread(scores[second])}; {gap} between them)"
    alike = [titles[name] for name in atlas.leaders[shift][1:]]
    if all(p is None for p in of.corrected.values()):
        return f"{text}; one replicate tells nobody apart."
    return (
        f"{text}; not told apart from the best: {listed(alike) if alike else 'nobody'}, of {len(of.names) - 1} others."
    )


def row_told(atlas: Atlas, row: Row) -> str:
    """On which shifts a ranked method is best, or not told apart from the best, and where its rank is best and worst."""
    best = [_short(shift) for shift, names in atlas.leaders.items() if names[:1] == [row.name]]
    among = [_short(shift) for shift, names in atlas.leaders.items() if row.name in names[1:]]
    parts = [f"best on {_codes(best)}"] * bool(best)
    parts += [f"not told apart from the best on {_codes(among)}"] * bool(among)
    return f"{', '.join(parts) or 'told apart from the best everywhere'}; {_span(atlas.source_free, row)}."


def _span(ranking: Ranking, row: Row) -> str:
    """``ranks 1 (`sensor`) to 4 (`night`) of 8``."""
    ranks = ranking.ranks[:, ranking.rows.index(row)]
    shifts = [_short(shift) for shift in ranking.blocks]
    low, high = float(ranks.min()), float(ranks.max())
    if low == high:
        return f"rank {low:g} of {len(ranking.rows)} on each"
    ends = [_codes([s for s, r in zip(shifts, ranks, strict=True) if r == end]) for end in (low, high)]
    return f"rank {low:g} ({ends[0]}) to {high:g} ({ends[1]}) of {len(ranking.rows)}"


def moves_told(ranking: Ranking) -> str:
    """Whose rank moves most between shifts; empty where none can."""
    if len(ranking.blocks) < 2 or len(ranking.rows) < 2:
        return ""
    spans = np.ptp(ranking.ranks, axis=0)
    if not spans.max():
        return "No method's rank moves between shifts."
    most = [row for row, span in zip(ranking.rows, spans, strict=True) if span == spans.max()]
    return f"Between shifts moves most the rank of {listed(f'{plain(row.title)} ({_span(ranking, row)})' for row in most)}."


def own_told(atlas: Atlas) -> str:
    """Where STPL stands among source-free methods; said in any case, and plainly where it is not first."""
    ranking = atlas.source_free
    row = next((row for row in ranking.rows if row.key == (OWN, ())), None)
    if row is None:
        return "STPL does not have every block and is not ranked." if ranking.rows else ""
    place = ranking.rows.index(row)
    mean, best = float(ranking.mean[place]), float(ranking.mean[0])
    ahead = [of for of, rank in zip(ranking.rows, ranking.mean, strict=True) if rank < mean]
    level = [of for of, rank in zip(ranking.rows, ranking.mean, strict=True) if rank == mean and of != row]
    if not ahead:
        with_whom = f", shared with {listed(plain(of.title) for of in level)}" if level else ""
        text = f"STPL has the best mean rank, {mean:.2f} of {len(ranking.rows)}{with_whom}"
        alike = [
            of
            for of in ranking.rows
            if of != row and ranking.agreement and not ranking.nemenyi.told_apart(row.name, of.name)
        ]
        return (
            f"{text}; Nemenyi's test does not tell it apart from {listed(plain(of.title) for of in alike)}."
            if alike
            else f"{text}."
        )
    names = listed(f"{plain(of.title)} ({ranking.mean[ranking.rows.index(of)]:.2f})" for of in ahead)
    text = f"**STPL is not first**: its mean rank is {mean:.2f} of {len(ranking.rows)}, after {names}"
    if ranking.agreement is None:
        return f"{text}."
    apart = "more" if ranking.nemenyi.told_apart(ranking.rows[0].name, row.name) else "not more"
    text += f"; it is {mean - best:.2f} ranks behind the first, {apart} than the critical difference of {ranking.critical:.2f}."
    worse = [_short(shift) for shift, leaders in atlas.leaders.items() if row.name not in leaders]
    return f"{text} Shifts where it is told apart from the best: {_codes(worse) if worse else 'none'}."


def tests_told(ranking: Ranking) -> str:
    """Friedman's test, Kendall's W and Nemenyi's critical difference in words, or why there are none."""
    found = ranking.agreement
    if found is None:
        few = (
            "one shift"
            if len(ranking.blocks) < 2
            else f"{len(ranking.rows)} methods"
            if len(ranking.rows) < 3
            else "ties alone"
        )
        return f"No test: {few}."
    word = next(word for least, word in WORDS if found.w >= least)
    result = "not all methods rank alike" if found.p < ALPHA else "ranks this far apart come about by chance too"
    within, between = ranking.likeness
    first, *rest = ranking.rows
    apart = [plain(row.title) for row in rest if ranking.nemenyi.told_apart(first.name, row.name)]
    parts = [
        f"Friedman's test of {len(ranking.rows)} methods over {len(ranking.blocks)} shifts: χ² = {found.chi2:.1f}, "
        f"p {_equals(p_value(found.p))}: {result}.",
        f"Kendall's W = {found.w:.2f}: {word} agreement of the shifts on the order (0: none, 1: the same order everywhere).",
        f"The orders of two replicates of one shift have a mean rank correlation of {_rho(within)}, those of two of different "
        f"shifts {_rho(between)}: what the second lacks is the kind of shift's doing.",
        f"Nemenyi's critical difference is {ranking.critical:.2f} ranks: {plain(first.title)} ({ranking.mean[0]:.2f}) is told "
        f"apart from {listed(apart) if apart else 'nobody'}"
        + (", and not after Friedman's test." if apart and found.p >= ALPHA else "."),
    ]
    return " ".join(parts)


def cells_told(atlas: Atlas) -> str:
    """How many cells are empty, and which rows are therefore not ranked."""
    cells = len(atlas.rows) * len(atlas.shifts)
    text = f"Of {len(atlas.rows)} × {len(atlas.shifts)} cells {atlas.empty or 'none'} {'is' if atlas.empty < 2 else 'are'} empty"
    if atlas.empty:
        text += "; `bench run -m METHOD --shift NAME`, `bench submit RUN` and `bench leaderboard` fill one"
    return f"{text}." if cells else ""


def _left_out(atlas: Atlas) -> str:
    """Rows without every block with what they lack, shifts without a block, and records that are in no block."""
    parts = []
    if atlas.incomplete:
        told = [f"{plain(row.title)} ({_lacking(atlas, row)})" for row in atlas.incomplete]
        parts.append(f"Incomplete and not ranked: {'; '.join(told)}.")
    if bare := [_short(shift) for shift in atlas.shifts if shift not in atlas.blocks]:
        parts.append(f"Without a replicate that half of the methods have, and in no rank: {_codes(bare)}.")
    ranked = [row for row in atlas.rows if row in atlas.everybody.rows]
    extra = sum(
        seed not in atlas.blocks.get(s, ()) for row in ranked for s in atlas.shifts for seed in row.miou.get(s, {})
    )
    if extra:
        parts.append(
            f"{extra} records of ranked methods are of no block: they count in the tables above and in no rank."
        )
    return " ".join(parts)


def _lacking(atlas: Atlas, row: Row) -> str:
    gaps = row.lacks(atlas.blocks)
    return ", ".join(
        f"{code(_short(shift))}" + (f" seed {listed(map(str, seeds))}" if shift in row.miou else "")
        for shift, seeds in gaps.items()
    )


def _not_run(groups: Mapping[str, Sequence[Group]]) -> list[str]:
    """Shifts of the atlas without a record, and records that are not on this page."""
    parts = []
    if missing := [name for name in shift_names() if name.startswith(PREFIX) and name not in groups]:
        commands = listed(code(f"bench run -m METHOD --shift {name}") for name in missing)
        parts.append(f"Nobody has run {_codes(map(_short, missing))} yet; {commands} would.")
    if altered := sum(len(group.records) for of in groups.values() for group in of if key_of(group) is None):
        parts.append(
            f"{altered} records with other options stand on the pages of their shifts and are not counted here."
        )
    return [" ".join(parts)] if parts else []


# Tables ---------------------------------------------------------------------------------------------------------------


def shift_table(atlas: Atlas, records: Mapping[str, Sequence[Record]]) -> str:
    """The shifts: what they are, their records, and the scores between which methods have room."""
    rows = []
    for name, of in records.items():
        shift = load_shift(name)
        ends = {row.key[0]: row.miou.get(name, {}) for row in atlas.rows if row.key in ((FLOOR, ()), (CEILING, ()))}
        cells = {
            "shift": f"[{_short(name)}]({name}.md)",
            "source → target": plain(f"{shift.data.source.title} → {shift.data.target.title}"),
            "records": str(len(of)),
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
                _short(s): _counted(spread(of.values()), len(of)) if (of := row.miou.get(s)) else ""
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
                _short(s): _counted(difference(gains[s], 1), gains[s].n) if s in gains else "" for s in atlas.shifts
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
            cells[_short(shift)] = (
                f"**{rank:g}**" if ranking is atlas.source_free and row.name in atlas.leaders[shift] else f"{rank:g}"
            )
        rows.append(cells)
    return table(rows, LEFT)


def _elsewhere(atlas: Atlas, others: Mapping[str, Sequence[Group]]) -> list[str]:
    """Rank correlations with the paper's table and with what was measured on other shifts; empty where there is none."""
    real = {row.name: of.miou for row in atlas.rows if not row.key[1] and (of := published(STAND_IN, row.key[0]))}
    told = {f"published on {STAND_IN}": real}
    for name, groups in others.items():
        measured = {" ".join((g.method, *g.altered)): mean_interval(list(g.miou.values()))[0] for g in groups}
        told[f"measured on {name}"] = measured
    rows = []
    for name, numbers in told.items():
        for field, ranking in {"source-free (SFDA)": atlas.source_free, "all but the oracle": atlas.everybody}.items():
            if not ranking.rows or (found := rank_correlation(ranking.by_shift(), numbers)) is None:
                continue
            cells = {
                "compared with": name,
                "rows": field,
                "methods": str(found.methods),
                "mean rank": f"{found.rho:+.2f}",
                "95 %": NOTHING if found.low is None else f"{found.low:+.2f} to {found.high:+.2f}",
            }
            for i, shift in enumerate(ranking.blocks):
                one = rank_correlation({name: {0: of[i]} for name, of in ranking.by_shift().items()}, numbers)
                cells[_short(shift)] = NOTHING if one is None else f"{one.rho:+.2f}"
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
    shifts, title = [_short(shift) for shift in atlas.shifts], "Gain over source-only by kind of shift"
    gains: dict[str, list[float | None]] = {
        _in_figure(row): [of[shift].difference if shift in of else None for shift in atlas.shifts]
        for row in atlas.shown
        if row.setting != "oracle" and (of := atlas.gains.get(row.key))
    }
    if not gains:
        return []

    def heat() -> Figure:
        from .atlas_figures import gain_figure

        return gain_figure(gains, shifts, title)

    caption = "Gain over source-only, mIoU points, by method and shift"
    found = [Drawing(caption, root / "figures" / "atlas-gains.png", [title, shifts, list(gains.items())], heat)]
    ranking = atlas.source_free
    if ranking.agreement is None:
        return found
    titles, heading = (
        [row.title for row in ranking.rows],
        f"Mean rank over {len(ranking.blocks)} shifts, source-free methods",
    )

    def ranks() -> Figure:
        from .atlas_figures import rank_figure

        return rank_figure(ranking.scores, titles, ranking.critical, heading)

    caption = "Critical-difference diagram: a bar joins methods that are not told apart"
    data = [heading, titles, ranking.scores.tolist()]
    return [*found, Drawing(caption, root / "figures" / "atlas-ranks.png", data, ranks)]


def _in_figure(row: Row) -> str:
    """A title that says who saw source data."""
    return f"{row.title} (UDA)" if row.setting == "UDA" else row.title


# Provenance and small things ------------------------------------------------------------------------------------------


def _provenance(records: Mapping[str, Sequence[Record]]) -> str:
    """Of all shifts together; what differs between them is said of each."""
    shifts = [load_shift(name) for name in records]
    everything = [record for of in records.values() for record in of]
    seeds = sorted({record.config.seed for record in everything})
    readouts = sorted({shift.evaluation.readout for shift in shifts})
    instead = {
        "Replicates": f"{len(seeds)} (seeds {', '.join(map(str, seeds))}) of each shift, not of every method; each draws its own "
        f"worlds and adaptation seed, {_models(records.values())}",
        "Protocol": "; ".join(dict.fromkeys(_protocol(shift) for shift in shifts)),
        "Readout": f"the {' or '.join(readouts)}'s weights are scored; of a method whose paper scores its own average, that",
        "Settings": "; ".join(dict.fromkeys(_settings(shift) for shift in shifts)),
    }
    if processors(everything):
        mixed = [_short(shift) for shift, of in records.items() if processors(of)]
        instead["Processors"] = "several kinds; a configuration scores differently on each, as with another seed" + (
            f"; records of several on {_codes(mixed)}, whose pages say more"
            if mixed
            else ", and no shift has records of two"
        )
    return provenance(shifts[0], everything, **instead)


def _models(records: Iterable[Sequence[Record]]) -> str:
    """Whether shifts share source models: what starts from one model is not independent."""
    several = [{record.source_model for record in of} - {None} for of in records]
    if len(several) > 1 and set.intersection(*several):
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


def _short(shift: str) -> str:
    """A shift's name without what all have."""
    return shift.removeprefix(PREFIX)


def _codes(names: Sequence[str] | map[str]) -> str:
    return listed(map(code, names))


def _titles(atlas: Atlas) -> dict[str, str]:
    return {row.name: plain(row.title) for row in atlas.rows}


def _counted(text: str, n: int) -> str:
    return f"{text} ({n})"


def _equals(p: str) -> str:
    return f"< {p[1:]}" if p.startswith("<") else f"= {p}"


def _rho(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.2f}"
