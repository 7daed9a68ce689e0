"""One's own pictures as clips: found, looked through once before work starts, and identified by their content."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.core.access import guard
from bench.core.errors import BadFile, RunError, UsageError
from bench.core.progress import Progress, quiet, say
from bench.core.schema import hash_of
from bench.core.workspace import Workspace
from bench.data.datasets import Item
from bench.data.datasets.frames import Frames, open_frames
from bench.data.reading import Size, as_colours, check_colours, open_picture, picture_size, read_bytes, shown, turned
from bench.data.recorded import VideoStore
from bench.networks.build import multiple_of, rounded_size

FRAMES = 2
"""Frames per clip: the picture and the one before it."""
LARGEST = 1024
"""Longer side, in pixels, to which pictures are reduced unless a size is given; what the published networks are made for."""
LARGEST_ASKED = 8192
"""Pixels of a side that can be asked for: a film in 8K."""
MULTIPLE, SMALLEST = 8, 32
"""Pixels. Where no size is given, sides are multiples of ``MULTIPLE`` and at least ``SMALLEST``."""
OFTEN = 100
"""Pictures between two reports of progress; reading the size of one is quick."""
NAMED = 20
"""Pictures that are named one by one when they are left out."""


@dataclass(frozen=True)
class Footage:
    """Pictures that are adapted to or predicted.

    Attributes:
        described: their description, with the names of their files.
        store: their clips.
        content: hash of the clips and of every picture's content; names outside the footage are no part of it.
        left_out: pictures that cannot be read and are skipped, with what is wrong.
    """

    described: Frames
    store: VideoStore
    content: str
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """Hashes of the pictures, those that cannot be used, and how many are unusual.

    Attributes:
        digests: SHA-256 of the files; ``sizes`` of those that can be used.
        bad: what is wrong with those that cannot be used.
        turned, alpha, several, palette: how many have an EXIF orientation, an alpha channel, more than one image in them, a
            palette.
    """

    digests: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
    bad: dict[str, BadFile] = field(default_factory=dict)
    turned: int = 0
    alpha: int = 0
    several: int = 0
    palette: int = 0

    def remarks(self) -> list[str]:
        """Sentences for the user on pictures that are unusual: how many, and what is done about it."""
        total, prefix = len(self.digests), "pictures have"
        notes = [
            (self.turned, f"{prefix} an EXIF orientation: they are turned upright"),
            (self.alpha, f"{prefix} an alpha channel: it is dropped"),
            (self.several, f"{prefix} several images in them: the first is read"),
            (self.palette, f"{prefix} a palette, as ground truth has: see that they are footage"),
        ]
        return [f"{count} of {total} {text}" for count, text in notes if count]


def look_through(root: Path, paths: Sequence[str], progress: Progress = quiet) -> Seen:
    """Decode every picture, in threads: a file that was cut short has a good header, and is better told of before work starts."""
    survey = Seen()

    def look(path: str) -> tuple[str, BadFile | Size, tuple[bool, ...]]:
        file, digest, facts = root / path, "", (False,) * 4
        try:
            data = read_bytes(file)
            digest = hashlib.sha256(data).hexdigest()
            picture = open_picture(file, data)
            check_colours(file, data, picture)
            alpha = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
            several = picture.format in ("PNG", "TIFF", "WEBP") and getattr(picture, "n_frames", 1) > 1
            facts = turned(picture, data) > 1, alpha, several, picture.mode == "P"
            decoded = as_colours(file, data)
        except BadFile as error:
            return digest, error, facts
        return digest, (decoded.height, decoded.width), facts

    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
        for done, (path, (digest, result, facts)) in enumerate(zip(paths, pool.map(look, paths), strict=True), 1):
            survey.digests[path] = digest
            if isinstance(result, BadFile):
                survey.bad[path] = result
            else:
                survey.sizes[path] = result
            survey.turned, survey.alpha = survey.turned + facts[0], survey.alpha + facts[1]
            survey.several, survey.palette = survey.several + facts[2], survey.palette + facts[3]
            if done % OFTEN == 0 or done == len(paths):
                progress("look at pictures", done, len(paths))
    return survey


def odd_sizes(root: Path, items: Sequence[Item], sizes: Mapping[str, Size]) -> dict[str, BadFile]:
    """Pictures that share a clip with one of another size and have not the size that most of their sequence have.

    Args:
        sizes: by picture; others are passed over. Of two that are as frequent, the first counts.
    """
    by_sequence: dict[str, dict[str, Size]] = {}
    for item in items:
        by_sequence.setdefault(item.sequence, {}).update({p: sizes[p] for p in item.frames if p in sizes})
    usual = {name: Counter(found.values()).most_common(1)[0][0] for name, found in by_sequence.items() if found}
    odd = {}
    for item in items:
        here = {path: sizes[path] for path in item.frames if path in sizes}
        for path, size in here.items():
            if len(set(here.values())) > 1 and size != usual[item.sequence]:
                problem = (
                    f"is {shown(size)} pixels, expected {shown(usual[item.sequence])} as most of its sequence have"
                )
                odd[path] = BadFile(root / path, "wrong size", problem)
    return odd


def open_footage(path: Path, size: Size | None, network: str, workspace: Workspace) -> Footage:
    """One's own pictures as clips. What is odd about them is said once.

    Args:
        path: folder, video or YAML (``bench.data.datasets.frames``).
        size: ``(height, width)`` the network works at; by default the description's, else the first picture's, reduced to
            :data:`LARGEST` and brought to multiples of :data:`MULTIPLE`.
        network: it says what sides must be multiples of.
        workspace: with ``skip_bad`` pictures that cannot be read are left out, as if they were not there.

    Raises:
        UsageError: nothing is there, or its description is wrong.
        RunError: no pictures, or one that cannot be read (BadFile).
    """
    frames, root = open_frames(path, workspace.cache, workspace.progress)
    items = frames.items(root, "val", FRAMES)
    for folder, grant in frames.guards().items():  # these two alone: an output may lie beside them
        guard(root / folder, "target", {"": grant})
    survey = look_through(
        root,
        list(dict.fromkeys(path for item in items for path in item.frames)),
        workspace.progress,
    )
    survey.bad |= odd_sizes(root, items, survey.sizes)
    if survey.bad:
        if not workspace.skip_bad:
            raise next(iter(survey.bad.values()))
        for number, error in enumerate(survey.bad.values()):
            if number < NAMED:
                say(f"left out {error}")
        if len(survey.bad) > NAMED:
            say(f"left out {len(survey.bad) - NAMED} more")
        if len(survey.bad) == len(survey.digests):
            raise RunError(f"{root / frames.images}: none of its {len(survey.bad)} pictures can be read")
        frames = replace(frames, left_out=frozenset(survey.bad))
        items = frames.items(root, "val", FRAMES)
    for remark in (*frames.remarks(root), *survey.remarks()):
        say(remark)
    requested = size or frames.size
    if requested and max(requested) > LARGEST_ASKED:
        raise UsageError(f"size: sides of at most {LARGEST_ASKED} pixels, got {shown(requested)}")
    working_size = rounded_size(network, *(requested or _own_size(picture_size(root / items[0].frames[-1]))))
    if requested and working_size != requested:
        multiple = multiple_of(network)
        say(
            f"size {shown(requested)} becomes {shown(working_size)}: the sides of network '{network}' are multiples of {multiple}"
        )
    files = {path: survey.digests[path] for item in items for path in item.frames}
    content = hash_of({"clips": [[item.key, *item.frames] for item in items], "files": files})
    ids = frames.id_table() if frames.labels is not None else None
    left_out = {path: str(error.problem) for path, error in survey.bad.items()}
    return Footage(frames, VideoStore(root, frames, items, ids, working_size), content, left_out)


def _own_size(size: Size) -> Size:
    scale = min(1.0, LARGEST / max(size))
    height, width = (max(SMALLEST, round(side * scale / MULTIPLE) * MULTIPLE) for side in size)
    return height, width
