"""How methods are told apart, in the words of a page."""

from __future__ import annotations

from bench.shifts.protocol import Shift

from . import bootstrap, drive

TESTED = (
    "paired by replicate, ± 95 % t-interval. p: paired t-test over replicates, two-sided; Holm: corrected for the number of rows "
    "of this table. "
)
OVER_SEQUENCES = (
    f"Bootstrap: both methods on the same draw of replicates and, within them, of target sequences ({bootstrap.DRAWS} draws, "
    "IoU computed anew from the pooled pixels of the drawn sequences; the percentile interval of few replicates is too narrow, "
    "so the t-test decides); a dash where a record has no scores per sequence."
)
OVER_DRIVE = (
    "The t-test knows chance in adaptation alone: all replicates are scored on the same frames. Bootstrap: both methods on the "
    f"same draw of replicates and of blocks of {drive.BLOCK} frames ({drive.DRAWS:,} draws). Told apart are two that both tests "
    "tell apart; few blocks give too narrow an interval, so that p-values near 0.05 say little."
)


def tested(shift: Shift) -> str:
    """What the columns of a table of comparisons are."""
    return TESTED + (OVER_DRIVE if drive.by_frame(shift) else OVER_SEQUENCES)


def all_pairs(shift: Shift) -> str:
    """The tests by which two methods are told apart."""
    if drive.by_frame(shift):
        return "paired t-tests over replicates and bootstraps over blocks of the drive (the larger p-value of the two)"
    return "paired t-tests over replicates"
