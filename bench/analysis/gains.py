"""``bench gains``: what one method wins and loses over another, class by class, paired by replicate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import UsageError
from bench.core.outputs import Output
from bench.leaderboards.score_figures import class_gains, gains_figure
from bench.leaderboards.statistics import Paired, difference, mean_interval
from bench.pictures.canvas import save
from bench.runs.config import load_shift
from bench.runs.finished import LEADERBOARDS, all_records, config_of, find_record, is_hash, matching, run_name
from bench.runs.records import Record, read_record
from bench.shifts.protocol import check_protocol


@dataclass(frozen=True)
class Gain:
    """A class: IoU in percent of both sides (mean over the shared replicates where it occurs), the paired differences in
    points, their mean, and the half-width of its 95 % t-interval (None for one replicate)."""

    name: str
    ours: float
    theirs: float
    values: tuple[float, ...]
    mean: float
    half: float | None


def sorted_gains(ours: Mapping[int, Record], theirs: Mapping[int, Record], classes: Sequence[str]) -> list[Gain]:
    """Gains by class, the largest first; classes that never occur on both sides of a replicate are left out."""
    seeds = sorted(ours.keys() & theirs.keys())
    gains = []
    for name, values in class_gains(ours, theirs, classes).items():
        if not values:
            continue
        pairs = [(ours[seed].result.iou.get(name), theirs[seed].result.iou.get(name)) for seed in seeds]
        our_mean, their_mean = np.array([pair for pair in pairs if None not in pair], float).mean(0)
        gains.append(Gain(name, float(our_mean), float(their_mean), tuple(values), *mean_interval(values)))
    return sorted(gains, key=lambda gain: -gain.mean)


def side(reference: str, shift: str, records: Sequence[Record], runs: Path, root: Path) -> dict[int, Record]:
    """Records by seed of ``method``, ``method:key=value:...``, or one record named by hash, folder or file (with a dot or a slash).

    Raises:
        UsageError: there is none.
    """
    if "." in reference or "/" in reference or is_hash(reference):
        record = read_record(find_record(reference, runs, root))
        return {record.config.seed: record}
    by_seed = matching(records, config_of(reference, shift, 0))
    if not by_seed:
        raise UsageError(
            f"No record of '{reference}' on '{shift}' in {runs} or {root}/records; run it first: bench run"
        )
    return by_seed


def run_gains(
    ours: str, theirs: str, shift_name: str, out: Path | None, runs: Path, root: Path = LEADERBOARDS
) -> dict[str, Any]:
    """Compare two methods class by class and draw the figure.

    Args:
        ours, theirs: see :func:`side`; the difference is ours minus theirs.
        out: PNG to write; None draws nothing.

    Returns:
        Names, shared seeds, the classes in order of their gain, and the figure's path.

    Raises:
        UsageError: unknown, no record, or no shared replicate.
    """
    if out is not None and out.suffix.lower() != ".png":
        raise UsageError(f"--out must be a .png file, got '{out}'")
    output = None if out is None else Output.of_files("gains", out)
    shift = load_shift(shift_name)
    records = all_records(runs, root, shift_name)
    a, b = (side(reference, shift_name, records, runs, root) for reference in (ours, theirs))
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise UsageError(f"'{ours}' (seeds {sorted(a)}) and '{theirs}' (seeds {sorted(b)}) share no replicate")
    names = run_name(a[seeds[0]]), run_name(b[seeds[0]])
    for record in (*a.values(), *b.values()):
        check_protocol(shift, record.shift_hash, f"Run {record.run}", "name its shift with --shift")
    gains = sorted_gains(a, b, shift.score_classes)
    if out is not None and output is not None:
        title = f"{names[0]} minus {names[1]}\n{shift.title}, paired replicates: {len(seeds)}"
        with output:
            save(gains_figure({gain.name: gain.values for gain in gains}, title), out)
    miou = [a[seed].result.miou - b[seed].result.miou for seed in seeds]
    mean, half = mean_interval(miou)
    return {
        "ours": names[0],
        "theirs": names[1],
        "seeds": seeds,
        "miou": {"difference": mean, "half": half},
        "classes": [vars(gain) | {"values": list(gain.values)} for gain in gains],
        "figure": None if out is None else str(out),
    }


def gains_table(result: Mapping[str, Any]) -> str:
    """The result of :func:`run_gains` as a markdown table: IoU in percent, gains in points with 95 % intervals."""
    from tabulate import tabulate

    rows = [
        [
            row["name"],
            f"{row['ours']:.1f}",
            f"{row['theirs']:.1f}",
            difference(Paired(row["mean"], row["half"], len(row["values"]), None), 1),
            len(row["values"]),
        ]
        for row in result["classes"]
    ]
    seeds = len(result["seeds"])
    rows.append(["mIoU", "", "", difference(Paired(**result["miou"], n=seeds, p=None), 1), seeds])
    head = ["class", result["ours"], result["theirs"], "gain, points", "n"]
    align = ("left", "right", "right", "right", "right")
    return str(tabulate(rows, head, tablefmt="github", disable_numparse=True, colalign=align))
