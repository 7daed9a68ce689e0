"""Walk a data set and say what is wrong with it, file by file: missing, unreadable, truncated, wrong-sized, unpaired.

Every picture that a clip uses is decoded whole (a JPEG that was cut short has a good header). Decoding runs in threads: Pillow
and OpenCV let go of the interpreter while they decode, so threads are as fast as processes and start at once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.errors import BadFile, UsageError, unknown
from bench.core.progress import Progress, quiet
from bench.core.registry import resolve
from bench.shifts.protocol import Recorded, Shift, Videos

from .datasets import Dataset, Item, dataset, locate
from .datasets._base import files_under
from .datasets.frames import Frames, open_frames
from .index import Index, build_index
from .label_maps import label_space, named_space, space_names
from .reading import AS_THEY_ARE, IGNORE, Size, UInt8, shown
from .recorded import unnamed

HARMLESS = frozenset({"stray", "no labels", "unlabelled"})
"""Kinds of finding that do not make a data set wrong."""


@dataclass(frozen=True)
class Finding:
    """A fault or a remark about one file. ``path`` is relative to the data set's root, ``what`` says what is wrong."""

    kind: str
    path: str
    what: str


@dataclass
class Report:
    """The result of checking a split.

    Attributes:
        size: ``(H, W)`` that most pictures have.
        files: number of files that were decoded or found missing.
        notes: what else is worth knowing of names and labels, a sentence each.
        pixels: of each class, in all labels; empty where classes are not known.
        alone: clips of one's own pictures whose picture is its own predecessor.
    """

    dataset: str
    split: str
    root: Path
    clips: int
    published: int | None
    size: Size | None
    files: int
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pixels: dict[str, int] = field(default_factory=dict)
    alone: int = 0

    @property
    def wrong(self) -> list[Finding]:
        """Findings that matter."""
        return [finding for finding in self.findings if finding.kind not in HARMLESS]

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; findings are complete."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "root": str(self.root),
            "clips": self.clips,
            "published": self.published,
            "size": None if self.size is None else list(self.size),
            "files": self.files,
            "wrong": len(self.wrong),
            "notes": self.notes,
            "pixels": self.pixels,
            "alone": self.alone,
            "findings": [vars(finding) for finding in self.findings],
        }


def check_split(
    data: Dataset,
    root: Path,
    split: str,
    frames: int = 2,
    workers: int | None = None,
    partial: bool = False,
    progress: Progress = quiet,
    classes: tuple[str, ...] | None = None,
) -> Report:
    """Check one split.

    Args:
        frames: per clip; the frames before t are looked at too.
        classes: of a shift; by default the labels are held against all label spaces that know the data set.
        workers: threads; by default one per core that is free to this process.
        partial: another number of clips, or another size, than published is fine.

    Raises:
        RunError: nothing is there at all.
    """
    index = build_index(data, root, split, frames)
    files = _uses(index)
    present, empty = _listing(data, root, split)
    clips = {item.frames[-1]: item for item in index.items}
    lost = [(path, why) for path, why in files.items() if path not in present]
    wrong = [_missing(root, path, why, clips, present) for path, why in lost]
    if not any(finding.kind == "label without image" for finding in wrong):
        wrong = _without_labels(data, split, index, wrong)
    sizes, ids, bad = _decode(data, root, [f for f in files.items() if f[0] in present], workers, progress)
    usual = Counter(sizes.values()).most_common(1)[0][0] if sizes else None
    report = Report(data.name, split, root, index.found, index.published, usual, len(files))
    report.findings = _by_path(wrong + bad + _odd_sizes(data, index, sizes, usual))
    report.findings += [Finding("empty folder", path, "has no files") for path in empty]
    report.findings += [
        Finding("stray", path, "is not named like a file of this data set; it is not used")
        for path in sorted(present)
        if not data.belongs(path)
    ]
    if isinstance(data, Frames):
        report.notes += data.remarks(root)
        report.findings += _footage_labels(data, root, index, present) if data.labels is not None else []
    _look_at_ids(report, data, ids, _spaces(data, classes))
    if not partial:
        report.findings += _against_published(data, index, usual)
    return report


def _uses(index: Index) -> dict[str, str]:
    """Each file that clips use, and as what: ``frame``, ``previous`` (of a clip, never its last), ``label``."""
    uses: dict[str, str] = {}
    for item in index.items:
        uses[item.frames[-1]] = "frame"
        if item.label is not None:
            uses[item.label] = "label"
    for item in index.items:
        for path in item.frames[:-1]:
            uses.setdefault(path, "previous")
    return uses


def _listing(data: Dataset, root: Path, split: str) -> tuple[set[str], list[str]]:
    """Files in the split's folders, and folders with nothing in them."""
    present: set[str] = set()
    empty: list[str] = []
    whole = isinstance(data, Frames)  # footage of one's own has one set of folders for both splits
    folders = [folder for folder, grant in data.guards().items() if whole or grant.split("/")[0] == split]
    for folder in folders:
        if (root / folder).is_dir():
            files, hollow = files_under(root, folder)
            present.update(files)
            empty += hollow
    return present, sorted(set(empty))


def _missing(root: Path, path: str, why: str, clips: Mapping[str, Item], present: set[str]) -> Finding:
    if (root / path).exists():
        return Finding("unreadable", path, "is a folder, a file is expected")
    if why == "label":
        return Finding("image without label", path, "no such file, though its image is there")
    if why == "previous":
        return Finding("missing previous frame", path, "no such file, but the clip after it needs it")
    if clips[path].label in present:
        return Finding("label without image", path, "no such file, though its label is there")
    return Finding("missing", path, "no such file")


def _footage_labels(data: Frames, root: Path, index: Index, present: set[str]) -> list[Finding]:
    """Labels of one's own footage are optional: pictures without one are told, labels without a picture are wrong."""
    inside, used = f"{data.labels}/", data.all_labels(root)
    return [
        *(Finding("label without image", path, "has no picture of its name")
          for path in sorted(present - used) if path.startswith(inside)),
        *(Finding("unlabelled", item.frames[-1], "has no label") for item in index.items if item.label is None),
    ]  # fmt: skip


def _without_labels(data: Dataset, split: str, index: Index, wrong: list[Finding]) -> list[Finding]:
    """One finding instead of thousands where a split has no labels at all, which is right for an unlabelled target."""
    lost = [finding for finding in wrong if finding.kind == "image without label"]
    if data.name != "cityscapes_seq" or split != "train" or len(lost) < index.found:
        return wrong
    folder = str(Path(lost[0].path).parents[1].as_posix())
    summary = Finding("no labels", folder, "has no labels at all; adaptation does not need them, the oracle does")
    return [summary, *(finding for finding in wrong if finding.kind != "image without label")]


Counts = npt.NDArray[np.int64]
"""Pixels by raw id, ``(256,)``."""


def _look(data: Dataset, root: Path, path: str, label: bool) -> tuple[Size, Counts | None] | BadFile:
    try:
        size = data.look(root / path, label)
        if not label:
            return size, None
        return size, np.bincount(data.read_label(root / path, AS_THEY_ARE).ravel(), minlength=256)
    except BadFile as error:
        return error


def _decode(
    data: Dataset, root: Path, files: list[tuple[str, str]], workers: int | None, progress: Progress
) -> tuple[dict[str, Size], dict[str, Counts], list[Finding]]:
    """Decode files in threads, in no particular order; a few are under way at a time, so that stopping is prompt."""
    import cv2

    sizes: dict[str, Size] = {}
    ids: dict[str, Counts] = {}
    bad: list[Finding] = []
    count = workers or len(os.sched_getaffinity(0))
    threads_before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(count) as pool:
            remaining = iter(files)
            running: dict[Future[tuple[Size, Counts | None] | BadFile], str] = {}
            for done in range(len(files)):
                for path, why in islice(remaining, 4 * count - len(running)):
                    running[pool.submit(_look, data, root, path, why == "label")] = path
                future = next(iter(wait(running, return_when=FIRST_COMPLETED).done))
                path, outcome = running.pop(future), future.result()
                if isinstance(outcome, BadFile):
                    bad.append(Finding(outcome.kind, path, outcome.problem))
                else:
                    sizes[path] = outcome[0]
                    if outcome[1] is not None:
                        ids[path] = outcome[1]
                progress(f"check {data.name}", done + 1, len(files))
    finally:
        cv2.setNumThreads(threads_before)
    return sizes, ids, bad


Space = tuple[tuple[str, ...], UInt8]
"""Classes in train-id order, and a table of train ids by raw id."""


def _spaces(data: Dataset, classes: tuple[str, ...] | None) -> list[Space]:
    if isinstance(data, Frames):
        return [(data.classes, data.id_table())] if data.labels is not None else []
    candidates = [label_space(classes)] if classes else [named_space(name) for name in space_names()]
    return [(space.classes, space.ids[data.name]) for space in candidates if data.name in space.ids]


def _look_at_ids(report: Report, data: Dataset, ids: Mapping[str, Counts], spaces: Sequence[Space]) -> None:
    """Hold the ids in the labels against what they lead to. Ids that the data set does not have, and a split whose labels are
    all ignored, are wrong; ids that one's own description does not name, classes that never occur, and single labels that are
    ignored throughout are noted."""
    if not ids or not spaces:
        return
    total = np.sum(list(ids.values()), axis=0)
    for raw in (raw for raw in np.flatnonzero(total).tolist() if raw not in data.names):
        paths = sorted(path for path, counts in ids.items() if counts[raw])
        problem = f"{unnamed(data, [raw])}: {total[raw]} pixels in {len(paths)} of {len(ids)} labels, all ignored"
        if isinstance(data, Frames):
            report.notes.append(f"{paths[0]} {problem}")
        else:
            report.findings.append(Finding("unknown id", paths[0], problem))
    if len(spaces) == 1:
        (classes, table), counted = spaces[0], total[: len(spaces[0][1])]
        report.pixels = {name: int(counted[table == train].sum()) for train, name in enumerate(classes)}
    for classes, table in spaces:
        present = {int(table[raw]) for raw in np.flatnonzero(total)}
        if absent := [classes[train] for train in sorted(set(table.tolist()) - present - {IGNORE})]:
            report.notes.append(f"no label has a pixel of {', '.join(absent)}")
    ignored = sorted(path for path, n in ids.items() if not any(n[table != IGNORE].any() for _, table in spaces))
    if len(ignored) == len(ids):
        problem = f"is ignored throughout, as are all {len(ids)} labels: no pixel has a class"
        report.findings.append(Finding("all ignored", ignored[0], problem))
    elif ignored:
        report.notes.append(f"{len(ignored)} of {len(ids)} labels are ignored throughout, e.g. {ignored[0]}")


def _odd_sizes(data: Dataset, index: Index, sizes: dict[str, Size], usual: Size | None) -> list[Finding]:
    """Files of another size than the rest, or, where a data set has no fixed size, than the other files of their clip."""
    if data.raw_size is not None:
        return [
            Finding("wrong size", path, f"is {shown(size)} pixels, the others are {shown(usual)}")
            for path, size in sizes.items()
            if usual is not None and size != usual
        ]
    odd: dict[str, Finding] = {}
    for item in index.items:
        expect = sizes.get(item.frames[-1])
        scaled = isinstance(data, Frames) and data.resize_labels
        for path in (*item.frames[:-1], *([item.label] if item.label and not scaled else [])):
            size = sizes.get(path)
            if expect is not None and size is not None and size != expect:
                problem = f"is {shown(size)} pixels, {item.frames[-1]} of the same clip is {shown(expect)}"
                odd.setdefault(path, Finding("wrong size", path, problem))
    return list(odd.values())


def _against_published(data: Dataset, index: Index, usual: Size | None) -> list[Finding]:
    findings = []
    if index.published is not None and index.found != index.published:
        problem = f"{index.split} has {index.found} clips, {index.published} are published (--partial accepts that)"
        findings.append(Finding("count", ".", problem))
    if data.raw_size is not None and usual is not None and usual != data.raw_size:
        problem = f"pictures are {shown(usual)}, {shown(data.raw_size)} is published (--partial accepts that)"
        findings.append(Finding("scaled", ".", problem))
    return findings


def _by_path(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: (finding.path, finding.kind))


# What to check --------------------------------------------------------------------------------------------------------


def targets(subject: str | Shift, split: str | None, root: Path, cache: Path) -> list[tuple[Dataset, Path, str]]:
    """Data set, its root and split, for the name of a data set or for a shift (its source's train, its target's train and val).

    Raises:
        UsageError: no such data set, a shift that is rendered, or no such split.
    """
    subject = resolve("dataset", subject) if isinstance(subject, str) else subject
    if subject == "frames":
        footage, footage_root = open_frames(root, cache)
        return [(footage, footage_root, split or "train")]
    if not root.is_dir():
        raise UsageError(f"--root {root} is not a folder")
    by_name = isinstance(subject, str)
    sides = (
        [(subject, tuple(dataset(subject).counts) or dataset(subject).splits)]
        if isinstance(subject, str)
        else _sides_of(subject)
    )
    selected: list[tuple[Dataset, Path, str]] = []
    split_names: set[str] = set()
    for name, splits in sides:
        data = dataset(name)
        allowed = data.splits if by_name else splits
        split_names.update(allowed)
        selected += [(data, locate(data, root), s) for s in ((split,) if split else splits) if s in allowed]
    if not selected:
        raise unknown(
            "split", str(split), split_names, context=f" of '{subject if isinstance(subject, str) else subject.name}'"
        )
    return selected


def _sides_of(shift: Shift) -> list[tuple[str, tuple[str, ...]]]:
    """Data sets and splits of a shift."""
    if not isinstance(shift.data, Videos):
        raise UsageError(f"Shift '{shift.name}' has no data on disk: it is rendered when first needed")
    sides: list[tuple[Any, tuple[str, ...]]] = [(shift.data.source, ("train",)), (shift.data.target, ("train", "val"))]
    recorded = [(side.dataset, splits) for side, splits in sides if isinstance(side, Recorded)]
    if not recorded:
        raise UsageError(f"Shift '{shift.name}' has no data set of the list")
    return recorded
