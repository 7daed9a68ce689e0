"""Sentences of the atlas page, worked out from ranks and tests: which methods are best where, whose rank moves, what the tests tell
apart, what is missing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from bench.core.text import code, listed, plain

from .atlas import PREFIX, Atlas, Ranking, Row
from .ranking import ALPHA
from .statistics import NOTHING, difference, p_value, spread

OWN = "stpl"
"""The method of which the page says where it is not first."""
WORDS = ((0.8, "unusually strong"), (0.6, "strong"), (0.4, "moderate"), (0.2, "weak"), (0.0, "very weak"))
"""Kendall's W in words, from the value on: halfway between the points that Schmidt names (Decision Sciences 28, 1997)."""


def in_short(atlas: Atlas) -> list[str]:
    """The answer in sentences, of source-free methods."""
    ranking = atlas.source_free
    parts = ["\n".join(f"- {code(short(shift))}: {best_text(atlas, shift)}" for shift in atlas.shifts)]
    if ranking.rows:
        parts.append("\n".join(f"- {plain(row.title)}: {row_text(atlas, row)}" for row in ranking.rows))
    return [power_text(atlas), *parts, " ".join((moves_text(ranking), own_text(atlas))).strip()]


def power_text(atlas: Atlas) -> str:
    """How many pairs the tests tell apart on each shift: where they are few, "not told apart" says little."""
    counts = []
    for shift in atlas.tested:
        contest = atlas.contests[shift]
        pairs = list(itertools.combinations(contest.names, 2))
        counts.append(f"{sum(contest.told_apart(*pair) for pair in pairs)} of {len(pairs)} on {code(short(shift))}")
    if not counts:
        return ""
    return (
        f"Few replicates tell few pairs of source-free methods apart: {listed(counts)}. A method may rank last on a shift, and far "
        "behind, without being told apart from the best there."
    )


def best_text(atlas: Atlas, shift: str) -> str:
    """Best and second source-free method of a shift, and who is not told apart from the best."""
    contest, title = atlas.contests[shift], titles(atlas)
    if not contest.names:
        return "no source-free method has its blocks."
    scores = {
        row.name: [row.miou[shift][seed] for seed in atlas.blocks[shift]]
        for row in atlas.rows
        if row.name in contest.names
    }
    first = contest.names[0]
    text = f"best is {title[first]} ({spread(scores[first])})"
    if len(contest.names) == 1:
        return f"{text}, alone."
    second = contest.names[1]
    gap = difference(contest.differences[first, second])
    text += f", then {title[second]} ({spread(scores[second])}; {gap} between them)"
    alike = [title[name] for name in atlas.leaders[shift][1:]]
    if all(p is None for p in contest.corrected.values()):
        return f"{text}; one replicate tells nobody apart."
    rivals = len(contest.names) - 1
    if len(alike) == rivals:
        return f"{text}; none of the {rivals} others is told apart from it."
    return f"{text}; not told apart from the best: {listed(alike) if alike else 'nobody'}, of {rivals} others."


def row_text(atlas: Atlas, row: Row) -> str:
    """On which shifts a ranked method is best, or not told apart from the best, and where its rank is best and worst."""
    best = [short(shift) for shift, names in atlas.leaders.items() if names[:1] == [row.name]]
    among = [short(shift) for shift, names in atlas.leaders.items() if row.name in names[1:]]
    parts = [f"best on {codes(best)}"] * bool(best)
    shifts = "each" if len(among) == len(atlas.leaders) > 1 else codes(among)
    parts += [f"not told apart from the best on {shifts}"] * bool(among)
    apart = "told apart from the best everywhere" if atlas.tested else ""
    return "; ".join(filter(None, (", ".join(parts) or apart, _span(atlas.source_free, row)))) + "."


def _span(ranking: Ranking, row: Row) -> str:
    """``ranks 1 (`sensor`) to 4 (`night`) of 8``."""
    ranks = ranking.ranks[:, ranking.rows.index(row)]
    shifts = [short(shift) for shift in ranking.blocks]
    low, high = float(ranks.min()), float(ranks.max())
    if low == high:
        return f"rank {low:g} of {len(ranking.rows)} on each"
    ends = [codes([s for s, r in zip(shifts, ranks, strict=True) if r == end]) for end in (low, high)]
    return f"rank {low:g} ({ends[0]}) to {high:g} ({ends[1]}) of {len(ranking.rows)}"


def moves_text(ranking: Ranking) -> str:
    """Whose rank moves most between shifts; empty where none can."""
    if len(ranking.blocks) < 2 or len(ranking.rows) < 2:
        return ""
    spans = np.ptp(ranking.ranks, axis=0)
    if not spans.max():
        return "No method's rank moves between shifts."
    most = [row for row, span in zip(ranking.rows, spans, strict=True) if span == spans.max()]
    return f"Between shifts moves most the rank of {listed(f'{plain(row.title)} ({_span(ranking, row)})' for row in most)}."


def own_text(atlas: Atlas) -> str:
    """Where STPL stands among source-free methods; said in any case, and plainly where it is not first."""
    ranking = atlas.source_free
    row = next((row for row in ranking.rows if row.key == (OWN, ())), None)
    if row is None:
        return "STPL does not have every block and is not ranked." if ranking.rows else ""
    index = ranking.rows.index(row)
    mean, best = float(ranking.mean[index]), float(ranking.mean[0])
    ahead = [rival for rival, rank in zip(ranking.rows, ranking.mean, strict=True) if rank < mean]
    level = [rival for rival, rank in zip(ranking.rows, ranking.mean, strict=True) if rank == mean and rival != row]
    if not ahead:
        with_whom = f", shared with {listed(plain(rival.title) for rival in level)}" if level else ""
        text = f"STPL has the best mean rank, {mean:.2f} of {len(ranking.rows)}{with_whom}"
        alike = [
            rival
            for rival in ranking.rows
            if rival != row and ranking.agreement and not ranking.nemenyi.told_apart(row.name, rival.name)
        ]
        return (
            f"{text}; Nemenyi's test does not tell it apart from {listed(plain(rival.title) for rival in alike)}."
            if alike
            else f"{text}."
        )
    names = listed(f"{plain(rival.title)} ({ranking.mean[ranking.rows.index(rival)]:.2f})" for rival in ahead)
    text = f"**STPL is not first**: its mean rank is {mean:.2f} of {len(ranking.rows)}, after {names}"
    if ranking.agreement is None:
        return f"{text}."
    apart = "more" if ranking.nemenyi.told_apart(ranking.rows[0].name, row.name) else "not more"
    text += f"; it is {mean - best:.2f} ranks behind the first, {apart} than the critical difference of {ranking.critical:.2f}."
    if not atlas.tested:
        return text
    worse = [short(shift) for shift in atlas.tested if row.name not in atlas.leaders[shift]]
    return f"{text} Shifts where it is told apart from the best: {codes(worse) if worse else 'none'}."


def tests_text(ranking: Ranking) -> str:
    """Friedman's test, Kendall's W and Nemenyi's critical difference in words, or why there are none."""
    agreement = ranking.agreement
    if agreement is None:
        few = (
            "one shift"
            if len(ranking.blocks) < 2
            else f"{len(ranking.rows)} methods"
            if len(ranking.rows) < 3
            else "ties alone"
        )
        return f"No test: {few}."
    word = next(word for least, word in WORDS if agreement.w >= least)
    result = "not all methods rank alike" if agreement.p < ALPHA else "ranks this far apart come about by chance too"
    within, between = ranking.likeness
    first, *rest = ranking.rows
    apart = [plain(row.title) for row in rest if ranking.nemenyi.told_apart(first.name, row.name)]
    parts = [
        f"Friedman's test of {len(ranking.rows)} methods over {len(ranking.blocks)} shifts: χ² = {agreement.chi2:.1f}, "
        f"p {equals(p_value(agreement.p))}: {result}.",
        f"Kendall's W = {agreement.w:.2f}: {word} agreement of the shifts on the order (0: none, 1: the same order everywhere).",
        _likeness_text(within, between),
        f"Nemenyi's critical difference is {ranking.critical:.2f} ranks: {plain(first.title)} ({ranking.mean[0]:.2f}) is told "
        f"apart from {listed(apart) if apart else 'nobody'}"
        + (", and not after Friedman's test." if apart and agreement.p >= ALPHA else "."),
    ]
    return " ".join(parts)


def _likeness_text(within: float | None, between: float | None) -> str:
    if within is None:
        return f"The orders of two different shifts have a mean rank correlation of {rho(between)}."
    return (
        f"The orders of two replicates of one shift have a mean rank correlation of {rho(within)}, those of two of different "
        f"shifts {rho(between)}: what the second lacks is the kind of shift's doing."
    )


def cells_text(atlas: Atlas) -> str:
    """How many cells are empty, and which rows are therefore not ranked."""
    cells = len(atlas.rows) * len(atlas.shifts)
    text = f"Of {len(atlas.rows)} × {len(atlas.shifts)} cells {atlas.empty or 'none'} {'is' if atlas.empty < 2 else 'are'} empty"
    if atlas.empty:
        text += "; `bench run -m METHOD --shift NAME`, `bench submit RUN` and `bench leaderboard` fill one"
    return f"{text}." if cells else ""


def left_out(atlas: Atlas) -> str:
    """Rows without every block with what they lack, shifts without a block, and records that are in no block."""
    parts = []
    if atlas.incomplete:
        rows = [f"{plain(row.title)} ({_lacking(atlas, row)})" for row in atlas.incomplete]
        parts.append(f"Incomplete and not ranked: {'; '.join(rows)}.")
    if bare := [short(shift) for shift in atlas.shifts if shift not in atlas.blocks]:
        parts.append(f"Without a replicate that half of the methods have, and in no rank: {codes(bare)}.")
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
        f"{code(short(shift))}" + (f" seed {listed(map(str, seeds))}" if shift in row.miou else "")
        for shift, seeds in gaps.items()
    )


# Small things


def short(shift: str) -> str:
    """A shift's name without what all have."""
    return shift.removeprefix(PREFIX)


def codes(names: Sequence[str] | map[str]) -> str:
    return listed(map(code, names))


def titles(atlas: Atlas) -> dict[str, str]:
    return {row.name: plain(row.title) for row in atlas.rows}


def equals(p: str) -> str:
    return f"< {p[1:]}" if p.startswith("<") else f"= {p}"


def rho(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.2f}"
