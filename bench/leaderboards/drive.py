"""What a page says where every frame of a recorded drive is scored (``counts: frame``): intervals over blocks of the drive.

Neighbouring frames show the same things a moment later, so they are no independent samples: a bootstrap that drew single frames
would give intervals that are far too narrow. The circular block bootstrap (Politis and Romano, "A Circular Block-Resampling
Procedure for Stationary Data", 1992) draws blocks of frames that follow each other, with replacement, as many as make the drive's
length, and keeps what a block's frames have in common. The last frame is followed by the first, so that every frame is drawn as
often as another.

Few blocks give intervals that are too narrow: of simulated drives of 40 frames, in blocks of 8, the 95 % interval of the mean holds
the truth in 87 % where neighbours do not correlate, in 82 % where they do by 0.5 and in 70 % by 0.8 (``test_drive.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bench.core.text import code, plain, table
from bench.runs.video_consistency import SHOWN
from bench.shifts.protocol import Shift, Videos
from bench.shifts.sides import ModelFile, Pictures

from .bootstrap import ByIdentity, Floats, Resampled, pooled_miou
from .standings import Group
from .statistics import LEVEL, NOTHING, bounds, mean_interval, p_value, rank_correlation, spread

BLOCK = 8
"""Frames of a block: half a second at 15 frames a second. Fixed before any record was made."""
FEWEST = 2
"""Blocks that a drive must have: one alone leaves nothing to chance."""
DRAWS = 10_000
"""So many that the least p-value, 2 in 10,001, is below 0.05 when it is corrected for all pairs of twenty methods."""
CONSISTENT = (
    " mVC8, mVC16: of the pixels whose class stays the same over 8 or 16 frames, the share whose prediction does, right or wrong; "
    "the mean over all windows of the scored frames (VSPW's), of the replicates whose records have it: older ones do not."
)
Drive = Mapping[str, npt.NDArray[np.int64]]
"""By frame, in the order of their names, pixels per scored class ``(K, 3)``: true positives, truth, predicted."""


def by_frame(shift: Shift) -> bool:
    """Whether the pixels of a shift's records are of each frame."""
    return shift.evaluation.counts == "frame"


@lru_cache(maxsize=4)
def block_weights(frames: int, block: int = BLOCK, draws: int = DRAWS) -> Floats:
    """How often each draw takes each frame, ``(draws, frames)``.

    A draw is ``ceil(frames / block)`` blocks whose starts are drawn from all frames, cut to ``frames`` frames. The generator is
    numpy's frozen one, as in `bench.leaderboards.bootstrap`.
    """
    starts = np.random.RandomState(0).randint(frames, size=(draws, -(-frames // block)))
    frames_drawn = ((starts[..., None] + np.arange(block)) % frames).reshape(draws, -1)[:, :frames]
    taken = frames_drawn + frames * np.arange(draws)[:, None]
    return np.bincount(taken.ravel(), minlength=draws * frames).reshape(draws, frames).astype(np.float64)


def drawn_miou(drives: Mapping[int, Drive], block: int = BLOCK, draws: int = DRAWS) -> Floats:
    """mIoU in percent of every draw of blocks, by replicate in order, ``(R, draws)``; all replicates get the same draws, since they
    are scored on the same frames."""
    return np.stack([_drawn(ByIdentity(drive), block, draws) for _, drive in sorted(drives.items())])


@lru_cache(maxsize=256)
def _drawn(side: ByIdentity[Drive], block: int, draws: int) -> Floats:
    drive = side.value
    counts = np.stack([drive[name] for name in sorted(drive)])
    frames, classes, three = counts.shape
    pooled = block_weights(frames, block, draws) @ counts.reshape(frames, -1).astype(np.float64)
    return pooled_miou(pooled.reshape(draws, classes, three))


def enough(drive: Drive, block: int = BLOCK) -> bool:
    """Whether a drive has the blocks without which an interval says nothing."""
    return len(drive) >= FEWEST * block


def over_blocks(drives: Mapping[int, Drive], block: int = BLOCK, draws: int = DRAWS) -> tuple[float, float] | None:
    """95 % percentile interval of the mean mIoU over replicates, blocks drawn anew; None without :data:`FEWEST` blocks."""
    if not drives or not all(enough(drive, block) for drive in drives.values()):
        return None
    low, high = np.quantile(np.round(drawn_miou(drives, block, draws).mean(0), 9), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)


def paired_blocks(
    a: Mapping[int, Drive], b: Mapping[int, Drive], block: int = BLOCK, draws: int = DRAWS
) -> Resampled | None:
    """Resample the difference ``a - b`` in mIoU points: in each draw the same blocks for both, and as many replicates as there are,
    drawn with replacement.

    Args:
        a, b: by replicate; replicates that one lacks, or has other frames for, are left out.

    Returns:
        None where no replicate is left that has :data:`FEWEST` blocks.
    """
    shared = [seed for seed in sorted(a.keys() & b.keys()) if a[seed].keys() == b[seed].keys()]
    seeds = [seed for seed in shared if enough(a[seed], block)]
    if not seeds:
        return None
    first, second = ({seed: side[seed] for seed in seeds} for side in (a, b))
    differences = drawn_miou(first, block, draws) - drawn_miou(second, block, draws)
    picked = np.random.RandomState(1).randint(len(seeds), size=(len(seeds), draws))
    means = np.round(np.take_along_axis(differences, picked, 0).mean(0), 9)
    observed = float(np.mean([_pooled(first[seed]) - _pooled(second[seed]) for seed in seeds]))
    low, high = np.quantile(means, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    p = min(1.0, 2 * (1 + min((means <= 0).sum(), (means >= 0).sum())) / (draws + 1))
    return Resampled(observed, float(low), float(high), float(p), len(seeds), sum(map(len, first.values())))


def _pooled(drive: Drive) -> float:
    return float(pooled_miou(np.sum(list(drive.values()), axis=0)))


def likeness(drive: Drive) -> float | None:
    """Correlation of the pixel accuracies of a frame and the next (lag-1 autocorrelation); None where there is none."""
    counts = np.stack([drive[name] for name in sorted(drive)]).astype(np.float64)
    accuracy = counts[..., 0].sum(1) / counts[..., 1].sum(1)
    if len(accuracy) < 3 or np.ptp(accuracy[:-1]) == 0 or np.ptp(accuracy[1:]) == 0:
        return None
    return float(np.corrcoef(accuracy[:-1], accuracy[1:])[0, 1])


# The page -------------------------------------------------------------------------------------------------------------


def about(shift: Shift) -> list[str]:
    """What a page says of a shift whose source is nothing but a model, and of how pictures of one's own were divided."""
    data, parts = shift.data, []
    if not isinstance(data, Videos):
        return []
    if isinstance(data.source, ModelFile):
        parts.append(
            f"**Source-free rows only**: the source of this shift is nothing but a model file (`{data.source.name}`), so neither "
            "UDA methods nor an oracle can be run on it. Every replicate starts from the same weights and the same frames; what a "
            "replicate draws is the order of clips and the method's own draws. Rows that take no step (source only, AdaBN) draw "
            "nothing: their replicates are one result, as each processor computes it."
        )
    if isinstance(data.target, Pictures) and data.target.transductive is not None:
        parts.append(
            "Scored are frames that were not adapted to; the score on all frames (transductive) stands beside it."
        )
    return parts


def sections(shift: Shift, main: Sequence[Group]) -> list[str]:
    """The section on the drive; empty where pixels are not kept of each frame."""
    if not by_frame(shift) or not any(group.counts for group in main):
        return []
    first = next(group for group in main if group.counts)
    seed, drive = next(iter(sorted(first.sequences.items())))
    correlation = likeness(drive)
    measured = ""
    if correlation is not None:
        whose = f"{plain(first.card.title)}, seed {seed}"
        measured = f" Here the pixel accuracies of a frame and the next correlate by {correlation:.2f} ({whose})."
    return [
        "## Over the drive",
        f"The {len(drive)} scored frames are of one drive. Neighbours show the same street a moment later, so single frames are "
        f"not independent and are not drawn one by one.{measured} Over seeds: mean ± 95 % t-interval over replicates, how far the "
        "score depends on chance in adaptation. Over blocks: 95 % interval of the mean, circular block bootstrap with blocks "
        f"of {BLOCK} frames ({DRAWS:,} draws, the same for every method), how far it depends on which part of this drive was "
        "scored. Gain: over source-only, blocks and replicates drawn together. "
        f"{len(drive) // BLOCK} blocks are few, so these intervals are too narrow (RULES.md). "
        "Neither covers another street, another day, or another camera. All frames: mIoU on the whole drive, most of which was "
        "adapted to." + (CONSISTENT if video_names(main) else ""),
        drive_table(main),
    ]


def drive_table(main: Sequence[Group]) -> str:
    """Intervals over seeds and over blocks, and the transductive score."""
    floor = next((group.sequences for group in main if group.method == "source_only"), {})
    rows, names = [], video_names(main)
    for group in main:
        blocks, gain = over_blocks(group.sequences), paired_blocks(group.sequences, floor)
        whole = group.of(lambda record: result.miou if (result := record.beside.get("transductive")) else None)
        rows.append(
            {
                "method": plain(group.title),
                "n": str(len(group.records)),
                "mIoU, over seeds": spread(group.miou.values()),
                "over blocks": NOTHING if blocks is None else f"{blocks[0]:.1f} to {blocks[1]:.1f}",
                "gain": NOTHING if gain is None or group.method == "source_only" else f"{gain.difference:+.1f}",
                "over blocks and seeds": NOTHING
                if gain is None or group.method == "source_only"
                else bounds(gain.low, gain.high, 1),
                "all frames": spread(whole.values()),
                **video_cells(group, names),
            }
        )
    return table(rows)


def video_names(groups: Sequence[Group]) -> list[str]:
    """Those of mVC8 and mVC16 that a record of the groups has; records that are older than them have none."""
    return [name for name in SHOWN if any(_video(group, name) for group in groups)]


def video_cells(group: Group, names: Sequence[str]) -> dict[str, str]:
    """Cells of a group's row: mean and interval of each named consistency over the records that have it."""
    return {f"{SHOWN[name]}, %": spread(_video(group, name).values()) for name in names}


def _video(group: Group, name: str) -> dict[int, float]:
    return group.of(lambda record: record.result.video.get(name))


def against(main: Sequence[Group], other_shifts: Mapping[str, Sequence[Group]]) -> list[str]:
    """How far the order of methods is that of other shifts: rank correlations over the methods that both have."""
    rows = []
    for name, groups in other_shifts.items():
        for label, settings in (("all rows", ("none", "SFDA", "UDA")), ("source-free (SFDA)", ("SFDA",))):
            scores = {g.name: g.miou for g in main if g.card.setting in settings}
            reference = {g.name: mean_interval(list(g.miou.values()))[0] for g in groups if g.card.setting in settings}
            if (correlation := rank_correlation(scores, reference)) is not None:
                interval = NOTHING if correlation.low is None else f"{correlation.low:+.2f} to {correlation.high:+.2f}"
                cells = {"measured on": code(name), "row": label, "methods": str(correlation.methods)}
                rho = {"Spearman's ρ": f"{correlation.rho:+.2f}", "p": p_value(correlation.p)}
                rows.append(cells | rho | {"interval over replicates": interval})
    if not rows:
        return []
    return [
        "## The same order elsewhere?",
        "Rank correlation (Spearman) of the mean mIoU here with the mean mIoU measured there, over the methods that both have. "
        "p: of no relation between the two orders. Interval: bootstrap over the replicates of this shift alone.",
        table(rows, left=("measured on", "row")),
    ]
