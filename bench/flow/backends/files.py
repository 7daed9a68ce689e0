"""``files``: flow that you already have, in $BENCH_FLOW_FILES: Middlebury .flo, KITTI 16-bit png, DA-VSN's npy, VIPER's npz.

A clip named ``frankfurt_000000_000294`` has its flow 294 to 293 in one of these, in the folder itself, in its subfolder
``frankfurt`` or in that of the clip's sequence:

    frankfurt_000000_000294.flo  .png  frankfurt_000000_000294_000293_int16_x10.npy       backward flow, named by frame t
    frankfurt_000000_000293.npz                                              VIPER's forward flow, named by frame t-1

A name that is a number alone (SYNTHIA-Seq's ``000019_int16_x10.npy``) does not say of which video it is. It is taken from the
folder of the clip's sequence only, or for clips that are named so themselves: SYNTHIA-Seq, and clips whose key is a number.

With ``BENCH_FLOW_DIRECTION=forward`` .flo and png hold forward flow too and are named by frame t-1. Forward flow is inverted
by splatting. Flow of another size is resized with its vectors; the proportions must be the frame's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bench.core.errors import RunError, UsageError
from bench.core.schema import hash_of
from bench.data.clip import Clip, Clips
from bench.data.datasets import synthia_seq
from stpl.warp import resize_flow

from .._estimated import lands_inside
from .._formats import Field, invert, is_forward, read

FOLDER, DIRECTION = "BENCH_FLOW_FILES", "BENCH_FLOW_DIRECTION"


def settings() -> tuple[Path, bool]:
    """The folder of flow files and whether they hold forward flow, from the environment.

    Raises:
        UsageError: not set, or no folder, or not a direction.
    """
    name, direction = os.environ.get(FOLDER, ""), os.environ.get(DIRECTION) or "backward"
    if not name:
        raise UsageError(f"Flow backend 'files' reads what you have: set {FOLDER} to its folder")
    if not Path(name).is_dir():
        raise UsageError(f"{FOLDER} is {name}, which is no folder")
    if direction not in ("backward", "forward"):
        raise UsageError(f"{DIRECTION} must be backward or forward, got '{direction}'")
    return Path(name), direction == "forward"


def identity() -> str:
    """Name of this backend's precomputed flow: by folder and direction."""
    folder, forward = settings()
    return f"files-{hash_of([str(folder.resolve()), forward])}"


def names(stem: str, previous: str, forward: bool) -> Iterator[str]:
    """Names that the flow of a pair may have, by those of its frames without suffix."""
    for ending in (".flo", ".png"):
        yield (previous if forward else stem) + ending
    number = re.search(r"\d+$", previous)
    previous_number = number[0] if number else ""
    current = re.search(r"\d+$", stem)
    yield f"{stem}_{previous_number}_int16_x10.npy"  # Cityscapes-Seq as DA-VSN names it
    yield f"{stem}{previous_number}_int16_x10.npy"  # VIPER
    yield f"{current[0] if current else stem}_int16_x10.npy"  # SYNTHIA-Seq
    yield f"{previous}.npz"


def lowered(stem: str, by: int) -> str:
    """A frame's name some frames earlier: ``a_000294`` by 1 is ``a_000293``."""
    number = re.search(r"\d+$", stem)
    if number is None:
        return stem
    return f"{stem[: number.start()]}{max(0, int(number[0]) - by):0{len(number[0])}d}"


NUMBER = re.compile(r"\d+(_int16_x10\.npy|\.\w+)")
"""A name that is a number alone."""


def find(folder: Path, stem: str, previous: str, sequence: str, forward: bool) -> Path:
    """The flow file of a pair of frames.

    Args:
        sequence: the clip's, a folder below ``folder``; empty where it has none.

    Raises:
        RunError: there is none.
    """
    sequence_folders = [folder / sequence] if sequence not in ("", ".") else []
    numbered = stem.isdigit() or stem.startswith(synthia_seq.VIDEOS)
    candidates = list(names(stem, previous, forward))
    for parent in (folder, folder / stem.split("_")[0], *sequence_folders):
        for name in candidates:
            if (numbered or parent in sequence_folders or not NUMBER.fullmatch(name)) and (parent / name).is_file():
                return parent / name
    numbers = [name for name in candidates if NUMBER.fullmatch(name)] if not numbered else []
    rest = (
        f"; {', '.join(numbers)} only in {sequence_folders[0] if sequence_folders else 'a folder of its sequence'}"
        if numbers
        else ""
    )
    looked_for = ", ".join(name for name in candidates if name not in numbers)
    raise RunError(
        f"No flow of {stem} in {folder}: looked for {looked_for or 'nothing'}, there and in its subfolders{rest}"
    )


def fit(field: Field, size: tuple[int, int], path: Path) -> Field:
    """Flow resized to ``(H, W)``, its vectors too; valid where all that a pixel is made of is.

    Raises:
        RunError: other proportions.
    """
    flow, valid = field
    (height, width), (own_height, own_width) = size, valid.shape
    if (own_height, own_width) == (height, width):
        return field
    if abs(own_height * width - own_width * height) > max(own_height, own_width, height, width):
        raise RunError(f"Flow {path} is {own_width}x{own_height}, which cannot be scaled to frames of {width}x{height}")
    resized = resize_flow(torch.from_numpy(flow[None]), size)[0].numpy()
    share = F.interpolate(torch.from_numpy(valid[None, None]).float(), size=size, mode="bilinear")[0, 0].numpy()
    whole = share > 0.999
    return np.where(whole, resized, 0).astype(np.float32), whole


def files(clip: Clip, clips: Clips, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Flow of every pair from its file; valid where the file says so and it ends inside the frame.

    Raises:
        UsageError: no folder is given.
        RunError: a file is missing, damaged or of other proportions.
    """
    folder, forward = settings()
    stem, pairs, size = clip.key.rsplit("/", 1)[-1], len(clip.frames) - 1, clip.frames.shape[2:]
    if pairs > 1 and getattr(clips, "carries_flow", True):
        raise RunError(
            f"Clip {clip.key} has {pairs + 1} frames without names; flow files are for two, or for video frames"
        )
    sequence = clips.sequence(index) if hasattr(clips, "sequence") else ""
    flows, masks = [], []
    for pair in range(pairs):
        current = lowered(stem, pairs - 1 - pair) if pairs > 1 else stem
        path = find(folder, current, lowered(current, 1), sequence, forward)
        field = fit(read(path), (size[0], size[1]), path)
        flow, valid = invert(*field) if is_forward(path) or (forward and path.suffix in (".flo", ".png")) else field
        flows.append(flow)
        masks.append(valid & lands_inside(flow))
    return np.stack(flows), np.stack(masks)


BACKEND = files
