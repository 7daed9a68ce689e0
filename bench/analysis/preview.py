"""``bench preview``: a contact sheet of clips, to see with one's own eyes what a shift is and if its flow is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.core.errors import UsageError
from bench.core.outputs import Output
from bench.data.clip import LabelledClip
from bench.data.labels import CLASSES
from bench.data.rendered import split_identity
from bench.pictures.canvas import class_legend, colourise, save, show, tile_grid
from bench.pictures.flow import flow_to_rgb, flow_wheel, mark_invalid, warp_previous
from bench.runs.config import load_shift
from bench.runs.finished import rendered_data

BESIDE = ("label of t", "flow t → t-1", "t-1 warped to t", "not valid in t-1 (pink)")
TILE = 3.0
"""Width of a tile, inches."""


def warp_error(clip: LabelledClip) -> tuple[float, float]:
    """Mean absolute difference of frame t from t-1 and from the warped t-1, grey levels of 255, over valid pixels.

    The second is far below the first where the flow is right; sensor noise is what remains.
    """
    previous, current = clip.frames[-2].transpose(1, 2, 0), clip.frames[-1].transpose(1, 2, 0)
    valid = clip.valid[-1]
    if not valid.any():
        return 0.0, 0.0
    warped = warp_previous(np.ascontiguousarray(previous), clip.flow[-1])
    still, moved = (np.abs(image.astype(np.float32) - current)[valid].mean() for image in (previous, warped))
    return float(still), float(moved)


def columns(frames: int) -> tuple[str, ...]:
    """Captions of a row of clips of so many frames."""
    return (*(f"frame t-{k}" for k in range(frames - 1, 0, -1)), "frame t", *BESIDE)


def contact_sheet(
    clips: Mapping[str, Sequence[LabelledClip]], title: str = "", classes: Sequence[str] = CLASSES
) -> Figure:
    """One row per clip: its frames, oldest first, label of t, flow, t-1 warped to t, and where the flow is not valid.

    Args:
        clips: clips by domain, e.g. ``{"sim (source)": [...], "cam (target)": [...]}``.
        classes: names in order of train ids, for the legend.

    Raises:
        ValueError: no clips.
    """
    rows = [
        (f"{domain}\nclip {n}", clip) for domain, domain_clips in clips.items() for n, clip in enumerate(domain_clips)
    ]
    if not rows:
        raise ValueError("contact_sheet needs at least one clip, got none")
    frames, _, height, width = rows[0][1].frames.shape
    captions, top = columns(frames), 0.62 + 0.21 * title.count("\n")
    figure, grid = tile_grid(len(rows), len(captions), (TILE, TILE * height / width), 0.06, (0.45, top, 0.6))
    for number, (axes, (name, clip)) in enumerate(zip(grid, rows, strict=True)):
        _row(axes, clip, captions if number == 0 else ("",) * len(captions))
        axes[0].text(
            -0.02, 0.5, name, transform=axes[0].transAxes, rotation=90, fontsize=9.5,
            ha="right", va="center", multialignment="center",
        )  # fmt: skip
    class_legend(figure, np.unique(np.concatenate([clip.label.ravel() for _, clip in rows])), classes)
    figure.suptitle(title, fontsize=12.5, x=0.01, y=0.995, ha="left", va="top")
    return figure


def _row(axes: Sequence[Axes], clip: LabelledClip, captions: Sequence[str]) -> None:
    frames = [np.ascontiguousarray(frame.transpose(1, 2, 0)) for frame in clip.frames]
    previous, current = frames[-2:]
    flow, valid = clip.flow[-1], clip.valid[-1]
    length = np.hypot(flow[0], flow[1])
    full = float(np.percentile(length, 95))  # a few very near things would leave the rest of the field white
    tiles = (
        *frames,
        colourise(clip.label),
        flow_to_rgb(flow, full),
        warp_previous(previous, flow),
        mark_invalid(current, valid),
    )
    for tile, image, caption in zip(axes, tiles, captions, strict=True):
        show(tile, image, caption, 11)
    _note(axes[-3], f"wheel {full:.1f} px, longest {length.max():.1f} px")
    still, moved = warp_error(clip)
    _note(axes[-2], f"|t - warped| {moved:.1f}, |t - (t-1)| {still:.1f}")
    _note(axes[-1], f"{100 * (1 - valid.mean()):.1f} %")
    wheel = axes[-3].inset_axes((0.865, 0.02, 0.125, 0.25))
    wheel.imshow(flow_wheel())
    wheel.set_xticks([])
    wheel.set_yticks([])


def _note(axes: Axes, text: str) -> None:
    """A line in the tile's lower left corner."""
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
    axes.text(0.015, 0.03, text, transform=axes.transAxes, fontsize=8.5, va="bottom", bbox=box)


def run_preview(shift_name: str, clips_per_domain: int, seed: int, out: Path) -> Path:
    """Render the first training clips of both domains of a replicate and write their contact sheet.

    Args:
        out: the PNG to write, or a folder for ``<shift>-s<seed>.png``.

    Raises:
        UsageError: unknown shift, another file than a PNG, or not a number of clips that it has.
        RunError: the file cannot be written.
    """
    from bench.data.ministreet import render_clip

    shift = load_shift(shift_name)
    path = out if out.suffix.lower() == ".png" else out / f"{shift.name}-s{seed}.png"
    if path != out and not out.is_dir() and (out.exists() or out.suffix[1:].isalpha()):  # meant as a file: a.jpg
        raise UsageError(f"--out must be a .png file or a folder, got '{out}'")
    output = Output.of_files("preview", path)
    data, clips = rendered_data(shift), {}
    most = min(data.source.train, data.target.train)
    if not 1 <= clips_per_domain <= most:
        raise UsageError(f"clips must be 1..{most} for shift '{shift.name}', got {clips_per_domain}")
    for role, split in (("source", data.source), ("target", data.target)):
        world = split_identity(data, role, "train", seed)["world"]
        clips[f"{split.domain}{' with …' if split.groups else ''} ({role})"] = [
            render_clip(split, world, index, data.height, data.width, data.frames) for index in range(clips_per_domain)
        ]
    title = (
        f"{shift.title}, replicate {seed}: first training clips (differences in grey levels of 255, on valid pixels)"
    )
    mixed = [
        f"{role}: {split.title}" for role, split in (("source", data.source), ("target", data.target)) if split.groups
    ]
    title = "\n".join([title, *(line for text in mixed for line in wrap(text, 170))])
    with output:
        return save(contact_sheet(clips, title, shift.classes), path, dpi=110)
