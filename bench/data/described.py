"""Pictures of one's own as a side of a shift (`bench.shifts.sides.Pictures`): where they lie, what they are known by.

They are known by the names and sizes of the files, relative to their folder, and by what their labels mean; where the folder
lies is no part of that. A video is known by its content. As folders hold pictures of several splits, access is granted
file by file: what belongs to no split that was prepared stays closed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.core.access import guard
from bench.core.errors import BadFile, RunError, UsageError
from bench.core.files import sha256_of, write_atomically
from bench.core.schema import Model, canonical, hash_of, read_json
from bench.core.sealed import sealed
from bench.core.workspace import Workspace
from bench.shifts.protocol import Shift
from bench.shifts.sides import Pictures

from .datasets import Item
from .datasets._video import extract, fingerprint
from .datasets.frames import Frames, described
from .reading import Size
from .recorded import VideoStore


def find_place(path: str, field: str, shift: Shift, data_root: Path | None) -> Path:
    """A file or folder that a shift's YAML names: relative to the YAML, else to the data root.

    Args:
        field: of the YAML, for errors: ``data.target.folder``.

    Raises:
        RunError: it is at neither place.
    """
    candidates = [shift.folder / path] + ([data_root / path] if data_root else [])
    if existing := next((candidate for candidate in candidates if candidate.exists()), None):
        return existing
    root = "; give --data-root DIR or set $BENCH_DATA" if data_root is None else ""
    raise RunError(f"Shift '{shift.name}': {field} is not there: no {' and no '.join(map(str, candidates))}{root}")


@dataclass(frozen=True)
class Opened:
    """The pictures of a split.

    Attributes:
        frames: what they are, with the split's own choice.
        root: that its paths are relative to.
        images, labels: the folders; ``images`` is in the cache where it was a video.
        video: the file, where it is one.
    """

    frames: Frames
    root: Path
    images: Path
    labels: Path | None
    video: Path | None


class Listing(Model):
    """The clips of a split as they were on the disk, kept in the cache for when that is away: a source-free run goes on without
    its source.

    Attributes:
        content: hash of what they are.
    """

    items: tuple[Item, ...]
    content: str


def side_of(shift: Shift, role: str) -> Pictures | None:
    """The side, where it is pictures of one's own."""
    side = getattr(shift.data, role)
    return side if isinstance(side, Pictures) else None


def open_pictures(shift: Shift, role: str, split: str, workspace: Workspace, labelled: bool) -> Opened:
    """Find the pictures of a split. A video is taken apart into the cache once.

    Args:
        labelled: pictures without a label have no clip.

    Raises:
        UsageError: the side has no such split.
        RunError: they are not there, or runs or cache lie among them.
    """
    side = side_of(shift, role)
    assert side is not None
    if (part := side.parts.get(split)) is None:
        raise UsageError(f"Shift '{shift.name}': data.{role} has no {split}")

    def at(path: str, field: str) -> Path:
        return find_place(path, f"data.{role}.{field}", shift, workspace.data_root)

    video = (
        at(video_path, "video") if (video_path := part.video or (side.video if part.folder is None else None)) else None
    )
    folder = part.folder or side.folder or ""
    images = extract(video, workspace.cache, workspace.progress) if video else at(folder, "folder")
    labels = at(label_path, "labels") if (label_path := side.labels_of(split)) else None
    for field, path in (("folder", images), ("labels", labels)):
        if path is not None and not path.is_dir():
            raise RunError(f"Shift '{shift.name}': data.{role}.{field}: {path} is not a folder")
    if labels is not None and labels.resolve() == images.resolve():
        raise RunError(
            f"Shift '{shift.name}': data.{role}.labels: must be a folder of their own; {images} holds pictures"
        )
    for name, work_folder in (("the runs", workspace.runs), ("the cache", workspace.cache)):
        if images.resolve() in work_folder.resolve().parents and not video:
            raise RunError(
                f"{work_folder} ({name}) lies in the pictures' folder {images}, which is closed while a method runs; move it"
            )
    options: dict[str, Any] = {"span": part.range, "sequences": part.sequences, "alone": side.alone}
    frames, root = described(side, shift.label_classes(role), images, labels, only_labelled=labelled, **options)
    return Opened(frames, root, images.resolve(), labels and labels.resolve(), video)


def listed(shift: Shift, role: str, split: str, workspace: Workspace, labelled: bool) -> Listing:
    """The clips of a split: from the disk if that is there (and kept for later), else those that were kept.

    Raises:
        RunError: neither is there; pictures that were asked for are not; or files are others than the shift's checksums say.
    """
    side = side_of(shift, role)
    assert side is not None
    query = [side.model_dump(mode="json"), str(side.parts.get(split)), side.folder, side.video, side.labels, labelled]
    location = [str(shift.folder), str(workspace.data_root), shift.name, role, split, shift.data.frames]
    file = workspace.cache / "indexes" / f"{role}-{split}-{hash_of([location, query])}.json"
    try:
        opened = open_pictures(shift, role, split, workspace, labelled)
    except RunError:
        if not file.is_file():
            raise
        return read_json(file, Listing, "List", "delete it and bring the pictures back")
    if (missing := opened.frames.misses(opened.root)) is not None:
        raise RunError(f"Shift '{shift.name}': data.{role}.{split}: {missing}")
    items = tuple(opened.frames.items(opened.root, "val", shift.data.frames))
    listing = Listing(items=items, content=_content(opened, items, labels=role == "source"))
    write_atomically(file, canonical(sealed(listing.model_dump(mode="json"))))
    return listing


def _content(opened: Opened, items: tuple[Item, ...], labels: bool) -> str:
    """Hash of the clips by names relative to the pictures' folder, and of the files' sizes.

    Args:
        labels: those of the label files too; a target is the same with and without its labels.
    """
    start = f"{opened.frames.images}/" if opened.frames.images else ""

    def relative(path: str) -> str:
        return path.removeprefix(start)

    clips = [[item.key, item.sequence, *map(relative, item.frames)] for item in items]
    if opened.video:
        files: Any = fingerprint(opened.video)
    else:
        files = {relative(path): os.stat(opened.root / path).st_size for item in items for path in item.frames}
    marked = [os.stat(opened.root / item.label).st_size for item in items if item.label] if labels else []
    return hash_of({"clips": clips, "files": files, "labels": marked})


def identity(shift: Shift, role: str, split: str, workspace: Workspace | None, labelled: bool) -> dict[str, Any]:
    """Everything that the clips of a split depend on, wherever they lie.

    Raises:
        RunError: see :func:`listed`.
    """
    assert workspace is not None, "recorded data lies in a workspace"
    side = side_of(shift, role)
    assert side is not None
    return {
        "kind": "pictures",
        "dataset": side.title,
        "split": split,
        "index": listed(shift, role, split, workspace, labelled).content,
        "size": [side.height, side.width],
        "frames": shift.data.frames,
        "classes": list(shift.label_classes(role)),
        "labels": hash_of([sorted(side.ids.items()), sorted(side.colors.items())]),
    }


def open_split(shift: Shift, role: str, split: str, workspace: Workspace, labelled: bool) -> Callable[[], VideoStore]:
    """How a split's clips are opened. Its files are made known to `bench.core.access`.

    Raises:
        UsageError, RunError: see :func:`open_pictures` and :func:`listed`.
    """
    side = side_of(shift, role)
    assert side is not None
    opened = open_pictures(shift, role, split, workspace, labelled)
    items = listed(shift, role, split, workspace, labelled).items
    check_sums(shift, role, opened, items, workspace.data_root)
    grant(role, split, opened, items)
    rule, size = shift.evaluation, (side.height, side.width)
    label_size: Size | None = size
    if role == "target" and split != "train":
        label_size = (rule.height, rule.width) if rule.height and rule.width else None if rule.own_size else size
    ids = opened.frames.id_table() if opened.labels is not None else None
    return partial(VideoStore, opened.root, opened.frames, items, ids, size, label_size)


def grant(role: str, split: str, opened: Opened, items: tuple[Item, ...]) -> None:
    """Make known which grant it takes to open the files of a split; everything else beside them takes one that no stage gives."""
    for folder in filter(None, (opened.images, opened.labels)):
        guard(folder, role, {})
    grants = {path: split for item in items for path in item.frames}
    grants |= {item.label: f"{split}/label" for item in items if item.label}
    guard(opened.root, role, grants, whole=False)


def close_folders(shift: Shift, workspace: Workspace) -> None:
    """Close the folders of all sides that are there: what no prepared split grants is refused while a method runs."""
    guard(workspace.cache / "frames", "source", {})  # videos that were taken apart, of any shift
    for role in ("source", "target"):
        if (side := side_of(shift, role)) is None:
            continue
        for split, part in side.parts.items():
            for path in (part.folder, side.folder, part.video, side.video, side.labels_of(split)):
                candidates = (
                    [shift.folder / path, *([workspace.data_root / path] if workspace.data_root else [])]
                    if path
                    else []
                )
                for candidate in candidates:
                    if candidate.is_dir() or candidate.is_file():
                        guard(candidate, role, {})


# Checksums ------------------------------------------------------------------------------------------------------------


def sums_of(shift: Shift, role: str, data_root: Path | None) -> dict[str, str]:
    """SHA-256 by ``images/NAME`` and ``labels/NAME``, as the shift says; empty where it does not.

    Raises:
        RunError: the file is not there, or no list of sums.
    """
    side = side_of(shift, role)
    if side is None or side.checksums is None:
        return {}
    file = find_place(side.checksums, f"data.{role}.checksums", shift, data_root)
    sums = {}
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        digest, _, name = line.partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", digest) or not name.isprintable() or not name:
            raise RunError(f"{file}, line {number}: a SHA-256 sum, two blanks and a name are expected")
        sums[name] = digest
    return sums


def other_content(opened: Opened, paths: Mapping[str, str], sums: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Files that are not what the sums say: path, and what is wrong.

    Args:
        paths: ``images`` or ``labels``, by path relative to the root.
    """
    for path, kind in paths.items():
        start = opened.frames.images if kind == "images" else opened.frames.labels or ""
        name = f"{kind}/{path.removeprefix(f'{start}/') if start else path}"
        if name not in sums:
            yield path, f"is not among the files of the shift ({name} has no checksum)"
        elif sha256_of(opened.root / path) != sums[name]:
            yield path, "is not the shift's file of this name: its SHA-256 is another"


def uses(items: tuple[Item, ...]) -> dict[str, str]:
    """``images`` or ``labels`` by path, for all files of some clips."""
    files = {path: "images" for item in items for path in item.frames}
    return files | {item.label: "labels" for item in items if item.label}


def check_sums(shift: Shift, role: str, opened: Opened, items: tuple[Item, ...], data_root: Path | None) -> None:
    """Refuse files that are others than the shift's checksums say.

    Raises:
        BadFile: names the first.
    """
    if sums := sums_of(shift, role, data_root):
        for path, problem in other_content(opened, uses(items), sums):
            raise BadFile(opened.root / path, "other content", f"{problem}; see `bench data check {shift.name}`")
