"""Analyses by method, and the tables of the analysis page: pure functions of what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.core.errors import RunError
from bench.core.text import plain, table
from bench.leaderboards.statistics import NOTHING, RankCorrelation, mean_interval, rank_agreement, spread

from .calibration import expected_calibration_error
from .data import VARIANTS, Curve, PseudoLabels, RunAnalysis
from .knn import HEADLINE, K
from .plots import Series

ENDS = ("source_only", "oracle")
SURE = 0.9
"""Confidence above which a pseudo-label counts in figure and table."""


@dataclass(frozen=True)
class Group:
    """Analyses of one method under one configuration, by seed."""

    label: str
    method: str
    design: str
    runs: Mapping[int, RunAnalysis]

    def series(self, values: Mapping[int, object]) -> Series:
        """Values of this method by seed, as a series of a figure."""
        return Series(self.label, self.method, self.design, values)

    def curves(self, variant: str) -> dict[int, Curve]:
        """Neighbour curves by seed, where they were made."""
        return {seed: run.knn[variant] for seed, run in self.runs.items() if run.knn}

    def share(self, variant: str, over: str, k: int) -> dict[int, float]:
        """Same-class share in percent by seed, ``over`` pixels or the ``mean`` over classes."""
        return {seed: getattr(curve, over)[k - 1] for seed, curve in self.curves(variant).items()}

    @property
    def miou(self) -> dict[int, float]:
        """mIoU in percent by seed."""
        return {seed: run.who.miou for seed, run in self.runs.items()}


def groups_of(runs: Sequence[RunAnalysis]) -> list[Group]:
    """Analyses by method and configuration, the best mean mIoU first.

    Raises:
        RunError: two analyses of one replicate of a method.
    """
    by_method: dict[tuple[str, str], dict[int, RunAnalysis]] = {}
    for run in runs:
        seeds = by_method.setdefault((run.who.method, run.who.label), {})
        if run.who.seed in seeds:
            raise RunError(
                f"{run.who.label}, seed {run.who.seed}, is analysed twice; remove {run.who.name}.json or the other"
            )
        seeds[run.who.seed] = run
    groups = []
    for (method, label), seeds in by_method.items():
        groups.append(Group(label, method, next(iter(seeds.values())).who.design, dict(sorted(seeds.items()))))
    return sorted(groups, key=lambda group: (-mean_interval(list(group.miou.values()))[0], group.label))


# Does it order the methods as mIoU does? ------------------------------------------------------------------------------


def agreement(groups: Sequence[Group], variant: str, over: str, k: int) -> RankCorrelation | None:
    """Rank correlation over methods of the same-class share with mIoU."""
    shares = {g.label: g.share(variant, over, k) for g in groups}
    return rank_agreement(
        {name: by_seed for name, by_seed in shares.items() if by_seed}, {g.label: g.miou for g in groups}
    )


def answer(groups: Sequence[Group]) -> str:
    """The question answered in words, from the headline numbers."""
    whole = agreement(groups, "headline", "mean", HEADLINE)
    inner = agreement([g for g in groups if g.method not in ENDS], "headline", "mean", HEADLINE)
    if whole is None:
        return "Too few methods, or no replicate that all of them share: there is no order to compare."
    if whole.rho >= 0.995:
        verdict = "**Yes, exactly**"
    elif whole.rho >= 0.75:
        verdict = "**Largely**"
    elif whole.rho >= 0.4:
        verdict = "**In part**"
    elif whole.rho > -0.4:
        verdict = "**No**"
    else:
        verdict = "**No, rather the other way round**"
    replicates = f"{whole.seeds} replicate{'s' if whole.seeds > 1 else ''}"
    text = f"{verdict}: Spearman's rho is {_rho(whole)} over {whole.methods} methods and {replicates}"
    if inner is not None:
        text += f", and {_rho(inner)} without source-only and the oracle, which any sensible measure sets apart"
    if swapped := swaps(groups):
        text += f". Set the other way round: {'; '.join(swapped[:4])}"
        text += f", and {len(swapped) - 4} more" if len(swapped) > 4 else ""
    return text + "."


def swaps(groups: Sequence[Group]) -> list[str]:
    """Pairs whose mean mIoU and mean same-class share disagree, the largest difference in mIoU first, in words."""
    rows = [(plain(g.label), g.share("headline", "mean", HEADLINE), g.miou) for g in groups]
    means = [
        (label, np.mean(list(share.values())), np.mean([miou[s] for s in share]))
        for label, share, miou in rows
        if share
    ]
    pairs = [
        (
            abs(a[2] - b[2]),
            f"{a[0]} over {b[0]} by {a[2] - b[2]:.1f} points of mIoU, under it by {b[1] - a[1]:.1f} of the share",
        )
        for a in means
        for b in means
        if a[2] > b[2] and a[1] < b[1]
    ]
    return [text for _, text in sorted(pairs, reverse=True)]


def _rho(correlation: RankCorrelation) -> str:
    interval = "" if correlation.low is None else f" ({correlation.low:+.2f} to {correlation.high:+.2f})"
    return f"{correlation.rho:+.2f}{interval}"


# Tables ---------------------------------------------------------------------------------------------------------------


def knn_table(groups: Sequence[Group]) -> str:
    """Same-class share by method, ``mean ± half-width``."""
    rows = []
    for group in groups:
        if not group.curves("headline"):
            continue
        row = {"method": plain(group.label), "n": str(len(group.runs)), "mIoU, %": spread(group.miou.values())}
        row |= {f"k = {k}, %": spread(group.share("headline", "mean", k).values()) for k in (1, HEADLINE, K)}
        row[f"over pixels, k = {HEADLINE}"] = spread(group.share("headline", "pixels", HEADLINE).values())
        row["own clip counted"] = spread(group.share("own clip", "mean", HEADLINE).values())
        row["balanced"] = spread(group.share("balanced", "mean", HEADLINE).values())
        rows.append(row)
    return table(rows)


def agreement_table(groups: Sequence[Group]) -> str:
    """Rank correlation with mIoU for every way of counting."""
    rows, inner = [], [g for g in groups if g.method not in ENDS]
    for variant, meaning in VARIANTS.items():
        for over, words in (("mean", "mean over classes"), ("pixels", "over pixels")):
            if variant == "balanced" and over == "pixels":
                continue
            row = {"neighbours": meaning, "average": words}
            for k in (1, HEADLINE, K):
                correlation = agreement(groups, variant, over, k)
                row[f"rho, k = {k}"] = _rho(correlation) if correlation else NOTHING
            correlation = agreement(inner, variant, over, HEADLINE)
            row[f"without the ends, k = {HEADLINE}"] = _rho(correlation) if correlation else NOTHING
            rows.append(row)
    return table(rows)


def class_shares(groups: Sequence[Group], classes: Sequence[str]) -> dict[str, list[float | None]]:
    """Mean over replicates of the headline share by method and class; None where the class never occurs."""
    shares: dict[str, list[float | None]] = {}
    for group in groups:
        if curves := group.curves("headline"):
            curves_by_class = {name: [(c.classes or {}).get(name) for c in curves.values()] for name in classes}
            shares[group.label] = [
                float(np.mean([row[HEADLINE - 1] for row in rows if row])) if any(rows) else None
                for rows in curves_by_class.values()
            ]
    return shares


def separation_table(groups: Sequence[Group]) -> str:
    """Davies-Bouldin index and silhouette by method."""
    rows = []
    for group in groups:
        separations = [run.separation for run in group.runs.values() if run.separation]
        if separations:
            rows.append(
                {
                    "method": plain(group.label),
                    "mIoU, %": spread(group.miou.values()),
                    "Davies-Bouldin (lower is better)": spread([s.davies_bouldin for s in separations], 2),
                    "silhouette, −1..1": spread([s.silhouette for s in separations], 3),
                }
            )
    return table(rows)


def errors_of(group: Group) -> list[float]:
    """Expected calibration error in points of each replicate."""
    calibrations = [run.calibration for run in group.runs.values() if run.calibration]
    return [
        expected_calibration_error(*(torch.tensor([np.nan if x is None else x for x in row]) for row in bins))
        for bins in ((c.count, c.confidence, c.accuracy) for c in calibrations)
    ]


def calibration_table(groups: Sequence[Group]) -> str:
    """Calibration error, mean confidence and accuracy by method."""
    rows = []
    for group in groups:
        calibrations = [run.calibration for run in group.runs.values() if run.calibration]
        if not calibrations:
            continue
        confidence, accuracy = (
            [float(np.average([x or 0.0 for x in getattr(c, name)], weights=c.count)) for c in calibrations]
            for name in ("confidence", "accuracy")
        )
        rows.append(
            {
                "method": plain(group.label),
                "calibration error, points": spread(errors_of(group)),
                "mean confidence, %": spread(confidence),
                "pixel accuracy, %": spread(accuracy),
            }
        )
    return table(rows)


def pseudo_label_table(values: Sequence[PseudoLabels]) -> str:
    """Accuracy of all, coverage and accuracy above :data:`SURE`, by run and step."""
    rows = []
    for quality in values:
        column = quality.thresholds.index(SURE)
        for step, coverage, accuracy in zip(quality.steps, quality.coverage, quality.accuracy, strict=True):
            rows.append(
                {
                    "method": f"{plain(quality.who.label)}, seed {quality.who.seed}",
                    "step": str(step),
                    "accuracy of all, %": _percent(accuracy[0]),
                    f"coverage at {SURE:g}, %": _percent(coverage[column]),
                    f"accuracy at {SURE:g}, %": _percent(accuracy[column]),
                }
            )
    return table(rows)


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"
