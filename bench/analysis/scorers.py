"""Which score without labels would have chosen well? Finished runs are scored on unlabelled clips, beside their mIoU.

<root>/analysis/<shift>/scorers/<method>-s<seed>-<run>.json    one finished run
<root>/<shift>-scorers.md                                      the page, a pure function of these files and the committed records
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from bench.core.access import stage
from bench.core.schema import Model
from bench.core.text import plain, table
from bench.core.workspace import Workspace
from bench.data.splits import prepare
from bench.flow.resolve import open_clips
from bench.leaderboards.generated import Page, Pages, orphans
from bench.leaderboards.standings import Group, grouped, ranked
from bench.leaderboards.statistics import signed
from bench.runs.config import load_shift
from bench.runs.finished import RunFolder
from bench.runs.records import Record, read_records
from bench.runs.scorers import SCORERS, scores_without_labels

from .data import Who, folder_of, read_all, who, write

HEAD = "# Scores without labels: "
TEXT = ("scorer", "chosen most often")
"""Columns of text."""


class Scored(Model):
    """A finished run and its scores without labels.

    Attributes:
        clips: unlabelled target training clips that were looked at.
        scores: by name of ``bench.runs.scorers.SCORERS``.
    """

    who: Who
    clips: int
    scores: dict[str, float]


def score_run(run: RunFolder, workspace: Workspace) -> Scored:
    """Score the weights of a finished run on as many clips as its protocol takes for batch-norm statistics.

    Raises:
        RunError: its checkpoint is damaged, or data is missing.
    """
    config, clips = run.config, run.shift.adaptation.statistics_clips
    split, segmenter = prepare(run.shift, "target", "train", config.seed, workspace), run.model(workspace)
    with stage("target-train"):
        loader = open_clips(split, config.flow, workspace.cache)
        scores = scores_without_labels(segmenter, loader, clips, len(run.shift.classes), workspace.device)
    return Scored(who=who(run.record), clips=min(clips, len(loader.store)), scores=scores)


def score_runs(runs: Sequence[RunFolder], root: Path, workspace: Workspace) -> list[Path]:
    """Score finished runs and keep what was found; returns the files."""
    written = []
    for number, run in enumerate(runs):
        scored = score_run(run, workspace)
        path = folder_of(root, scored.who.shift) / "scorers" / f"{scored.who.name}.json"
        write(path, scored)
        written.append(path)
        workspace.progress("score without labels", number + 1, len(runs))
    return written


# The page -------------------------------------------------------------------------------------------------------------


def compared(runs: Iterable[Scored]) -> dict[int, list[Scored]]:
    """Runs by replicate, without the oracle, which has seen target labels; replicates with three or more."""
    by_seed: dict[int, list[Scored]] = {}
    for run in runs:
        if run.who.setting != "oracle":
            by_seed.setdefault(run.who.seed, []).append(run)
    return {seed: scored for seed, scored in sorted(by_seed.items()) if len(scored) > 2}


def scorer_rows(runs: Iterable[Scored]) -> list[dict[str, str]]:
    """One row per scorer: rank correlation with mIoU, and what it would have chosen, over replicates."""
    replicates = compared(runs)
    rows = []
    for name in SCORERS:
        by_seed = {
            seed: [(run.scores[name], run.who) for run in scored if name in run.scores]
            for seed, scored in replicates.items()
        }
        by_seed = {seed: pairs for seed, pairs in by_seed.items() if len(pairs) > 2}
        if not by_seed:
            continue
        rhos, lost, chosen = [], [], []
        for pairs in by_seed.values():
            rhos.append(float(stats.spearmanr([x for x, _ in pairs], [w.miou for _, w in pairs]).statistic))
            best = max(pairs, key=lambda pair: pair[0])[1]
            chosen.append(best.label)
            lost.append(max(w.miou for _, w in pairs) - best.miou)
        often = max(sorted(set(chosen)), key=chosen.count)
        rows.append(
            {
                "scorer": name,
                "Spearman's ρ": _number(float(np.mean(rhos)), "+.2f"),
                "lowest, highest": f"{_number(min(rhos), '+.2f')}, {_number(max(rhos), '+.2f')}",
                "chosen most often": f"{often} ({chosen.count(often)} of {len(chosen)})",
                "mIoU lost": f"{np.mean(lost):.2f}",
            }
        )
    return rows


def snapshot_rows(groups: Iterable[Group]) -> list[dict[str, str]]:
    """What choosing among a run's snapshots by information maximisation would have given, by method; runs that kept one alone are
    left out."""
    rows = []
    for group in groups:
        gains = snapshot_gains(group)
        if len(gains):
            last, chosen, best = gains.T
            change = chosen - last
            cells = {
                "method": plain(group.title),
                "runs": str(len(gains)),
                "last": f"{last.mean():.2f}",
                "chosen without labels": f"{chosen.mean():.2f}",
                "chosen − last": signed(float(change.mean())),
                "best (labels)": f"{best.mean():.2f}",
                "better, same, worse than last": f"{(change > 0).sum()}, {(change == 0).sum()}, {(change < 0).sum()}",
            }
            rows.append(cells)
    return rows


def snapshot_gains(group: Group) -> npt.NDArray[np.float64]:
    """mIoU of a method's runs that kept several snapshots, ``(runs, 3)``: of the last, of the one with the best score without
    labels, of the best by labels."""
    runs = []
    for _, record in sorted(group.records.items()):
        snapshots = record.selection.snapshots
        if len(snapshots) > 1:
            last = max(snapshots, key=lambda s: s["step"])["miou"]
            chosen = max(snapshots, key=lambda s: (s["target_score"], s["step"]))["miou"]
            runs.append((last, chosen, max(s["miou"] for s in snapshots)))
    return np.array(runs, dtype=np.float64).reshape(-1, 3)


def snapshot_text(groups: Iterable[Group]) -> str:
    """Whether choosing helps, over methods: one that breaks down would outweigh all others in a mean over runs."""
    gains = [runs for group in groups if len(runs := snapshot_gains(group))]
    changes = np.array([(runs[:, 1] - runs[:, 0]).mean() for runs in gains])
    return (
        f"Over the {len(changes)} methods the change is {signed(float(np.mean(changes)))} points in the mean and "
        f"{signed(float(np.median(changes)))} in the median; it is above 0 for {(changes > 0).sum()} of them."
    )


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def build(shift_name: str, runs: Sequence[Scored], records: Sequence[Record]) -> str:
    """The page."""
    replicates = compared(runs)
    methods = len({run.who.label for scored in replicates.values() for run in scored})
    parts = [f"{HEAD}{plain(load_shift(shift_name).title)}"]
    parts += [
        "Where there is no label, something else must choose. Each score is computed on unlabelled target training clips after the "
        "run; it chooses nothing here. Made by `bench scorers`; do not edit.",
        "\n".join(f"* {name}: {meaning}" for name, meaning in SCORERS.items()),
    ]
    if rows := scorer_rows(runs):
        parts += [
            "## Between methods",
            f"{methods} methods and variants, {len(replicates)} replicates, without the oracle. ρ: rank correlation of the score "
            "with mIoU within a replicate, mean over replicates. Lost: mIoU of the replicate's best run less that of the run "
            "with the best score, mean over replicates.",
            table(rows, TEXT),
        ]
    groups = ranked(grouped(records))
    if rows := snapshot_rows(groups):
        parts += [
            "## Within a run",
            "Snapshots of the rows of the leaderboard, chosen by information maximisation, whose value their records keep. Mean "
            f"mIoU over runs. {snapshot_text(groups)}",
            table(rows, (*TEXT, "method")),
        ]
    return "\n\n".join(parts) + "\n"


def of_root(root: Path) -> Pages:
    """The page of every shift that has runs scored without labels, and those of shifts that have none any more."""
    pages = []
    for folder in sorted((root / "analysis").glob("*/scorers")):
        shift = folder.parent.name
        committed = root / "records" / shift
        records = read_records(committed) if committed.is_dir() else []
        pages.append(Page(root / f"{shift}-scorers.md", build(shift, read_all(folder, Scored), records)))
    return Pages(pages, orphans(sorted(root.glob("*-scorers.md")), (HEAD,), pages))
