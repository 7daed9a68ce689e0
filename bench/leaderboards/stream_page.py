"""``leaderboards/<shift>-stream.md``: the streaming track of a shift, from the records in ``leaderboards/streams/<shift>``.

A board of its own: its runs adapt to the clips that they are scored on and are scored on the way, so its numbers compare with
those of no other page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.core.text import plain
from bench.runs.config import Shift, load_shift

from .cost import of_processors, time_per_frame
from .drive import CONSISTENT, video_names
from .generated import Drawing, Page
from .provenance import provenance
from .standings import STREAM, Committed, Group, grouped, ranked
from .tables import class_table, control_table, families_of, pair_table, stream_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = "# Streaming leaderboard: "


def page(root: Path, shift_name: str, committed: Committed) -> Page:
    """The page of a shift's streams and its figure."""
    shift = load_shift(shift_name)
    groups = own_groups(committed)
    main = ranked(groups)
    drawings = [_figure(root, shift, main)] if main else []
    text = build(shift, committed, groups, [(d.caption, d.path.relative_to(root).as_posix()) for d in drawings])
    return Page(root / f"{shift_name}-stream.md", text, tuple(drawings))


def own_groups(committed: Committed) -> list[Group]:
    """Records of streams by method and configuration; that they are streams is no alteration here."""
    groups = grouped(committed.records, committed.sequences)
    return [replace(group, altered=tuple(text for text in group.altered if text != STREAM)) for group in groups]


def build(shift: Shift, committed: Committed, groups: Sequence[Group], figures: Sequence[tuple[str, str]] = ()) -> str:
    """The text of the page.

    Args:
        groups: see :func:`own_groups`.
        figures: caption and address, relative to the page, of each figure to show.
    """
    main, controls = ranked(groups), [group for group in groups if not group.is_row]
    frames = sorted({record.cost.frames or 0 for record in committed.records})
    rules = {
        "Protocol": f"`{shift.name}`, hash `{shift.hash}`, mode `stream`: {' or '.join(map(str, frames))} clips per replicate, one "
        f"step on each at a constant rate; network {shift.network.name}, fusion {shift.network.fusion}, flow {shift.flow}",
        "Selection": "none: every clip counts as it was predicted when it came, 0 looks at labels",
        "Readout": f"the {shift.evaluation.readout}'s weights predict; of a method whose paper scores its own average, that",
    }
    parts = [
        f"{HEAD}{plain(shift.title)}",
        f"Domain adaptation for video semantic segmentation, {len(shift.score_classes) - len(shift.unscored)} classes. The target "
        f"comes once, in the order of the video and without labels ({shift.data.scored}): each clip is predicted, then adapted to, "
        "and scored is what was predicted (`bench run --protocol stream`). Source-free methods that need no pass over the whole "
        f"target take part. These numbers do not compare with those of the leaderboard (`{shift.name}.md`), where methods adapt to "
        "other clips first and are scored by their last weights. Made by `bench leaderboard` from the files in "
        f"[streams/{shift.name}](streams/{shift.name}); do not edit.",
        provenance(shift, committed.records, **rules),
    ]
    if main:
        parts += [
            "## Results",
            "Mean ± 95 % t-interval over n replicates (the mean alone for n = 1). Gain: mIoU points over source-only, paired by "
            "replicate. Place and group: as on the leaderboard, paired t-tests over replicates of all pairs of a setting, "
            "Holm-corrected, 0.05. s/frame: median seconds that a frame takes to be read, predicted and adapted to, CPU time (wall "
            "time on another device); ×: relative to source-only's, which only predicts."
            + (CONSISTENT if video_names(main) else ""),
            stream_table(main),
            *(f"![{plain(caption)}]({address})" for caption, address in figures),
            "## IoU per class",
            "Percent, mean over replicates. Bold: the best source-free (SFDA) method of a column.",
            class_table(main, shift.score_classes),
        ]
        for setting, family in families_of(main).items():
            parts += [
                f"## Every pair of {setting} methods",
                "Row minus column, mIoU points, paired by replicate, ± 95 % t-interval. Bold: told apart by the paired t-test, "
                f"Holm-corrected over the {len(family.corrected) // 2} pairs of the setting, at 0.05.",
                pair_table(main, family),
            ]
    if controls:
        parts += [
            "## Reset, controls and ablations",
            "Options changed with `-o`, everything else as in the table of results; `reset=sequence` starts anew with every "
            "sequence. Difference: changed minus unchanged, mIoU points, paired by replicate, ± 95 % t-interval; the last column "
            "is what the method adds to self-training under the same options.",
            control_table(controls, groups),
        ]
    return "\n\n".join(parts) + "\n"


def _figure(root: Path, shift: Shift, main: Sequence[Group]) -> Drawing:
    """Accuracy against time per frame."""
    timed = [
        (group, list(some.of(time_per_frame).values())) for group, some in zip(main, of_processors(main), strict=True)
    ]
    times = [(group, float(np.median(values))) for group, values in timed if values]

    def draw() -> Figure:
        from .score_figures import Entry, time_figure

        entries = [(Entry(g.title, g.card.setting, g.card.design, g.miou), seconds) for g, seconds in times]
        return time_figure(entries, f"Online mIoU against time per frame on {shift.title}")

    data = [shift.title, [[g.title, g.card.setting, g.card.design, g.miou, seconds] for g, seconds in times]]
    caption = "Online mIoU against the seconds that a frame takes"
    return Drawing(caption, root / "figures" / f"{shift.name}-stream.png", data, draw)
