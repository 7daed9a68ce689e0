"""frames: your own video, a folder of pictures or a video file, with or without labels.

A bare folder works as it is: its pictures (jpg, png, webp, bmp, tif, mixed) in natural order (``img2`` before ``img10``); every
folder that holds pictures is a sequence of its own and no clip spans two. Pictures may have any size, the same within a clip.
A picture's predecessor is the picture before it, if their numbers follow each other: ``img11`` is not the predecessor of ``img20``
where the others count by one. A picture without a predecessor is its own, as any clip that would reach back past the start
repeats the earliest picture. A video file (mp4, avi, mov, mkv, webm, m4v, mpg, ts, wmv, gif) is taken apart into the cache once.

A ``frames.yaml`` in the folder, or any YAML file, says more (all but the first line is optional)::

    folder: images              # or  video: drive.mp4   (relative to this file)
    range: [100, 500]           # of each sequence the pictures from place 100 to before place 500, counted from 0
    stride: 5                   # every fifth of them; its predecessor is still the picture just before it
    across_gaps: true           # pictures follow each other whatever their numbers say
    size: [512, 1024]           # height and width the network works at
    classes: viper2cityscapes   # a label space, or a list of class names; must be the model's
    labels: labels              # a folder of its own; names are the pictures'
    label_suffix: _L.png        # what a label's name has instead of the picture's ending [.png]
    ids: {7: road, 26: car}     # grey or palette labels: raw id of a pixel to class ...
    colors: {road: [128, 64, 128], car: [[0, 0, 142], [0, 0, 70]]}     # ... or labels in colours: class to its colour or colours
    resize_labels: true         # labels may be larger or smaller than their pictures: nearest neighbour

Ids and colours that are not named are ignored, and said to be; name them ``ignore`` to have it without a word. Masks that a model
writes carry the first id, or colour, of each class.

The same pictures are train and val: there is one footage, which is adapted to and predicted. `guards` therefore gives them the
grant ``train`` alone; a stage that evaluates on them has to grant it.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path, PurePosixPath
from statistics import median_low
from typing import Any, ClassVar, Literal

from bench.core.errors import BadFile, RunError, UsageError
from bench.core.progress import Progress, quiet
from bench.shifts.sides import IGNORED, Looks, Range

from ..reading import IGNORE, PICTURES, lookup, picture_size, shown
from . import _base
from ._base import Colour, Ids, Item, Size, UInt8
from ._description import find_frames
from ._video import VIDEOS, extract

UNREAD = (
    ".jfif", ".jpe", ".heic", ".heif", ".avif", ".jp2", ".ppm", ".pgm", ".exr", ".hdr", ".dng", ".raw", ".npy", *VIDEOS,
)  # fmt: skip
"""Endings that pictures and videos have too, which are not read in a folder."""
LABELLED = re.compile(
    r"(^|[/_.-])(?i:gt|gt_?(fine|coarse|image_\d)|labels?|(label|train|labeltrain|instance)ids|masks?|annotations?|annot|"
    r"segmentation(class)?|ground_?truth)([/_.-]|$)|_L$"
)
"""Names of pictures, or of their folders, that ground truth has and footage has not."""


@dataclass(frozen=True)
class Frames:
    """One footage.

    Attributes:
        images, labels: folders relative to the root.
        names: class by raw id. Labels in colours have the ids 1, 2, ... in the order of their colours, and 0 elsewhere.
        coloured: labels hold colours, not ids.
        colours: by raw id: those of the labels, or of the classes where labels hold ids.
        span: first and end of the pictures of each sequence; all by default.
        sequences: those that count, by name of their folder (``*`` and ``?`` allowed), with a range of their own or None; all by
            default.
        alone: what becomes of a picture without a predecessor: it is its own, or has no clip.
        only_labelled: pictures without a label have no clip.
        left_out: pictures that are not used.
        size, classes, label_suffix, resize_labels, stride, across_gaps: as in the YAML.
    """

    images: str = ""
    labels: str | None = None
    size: Size | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    colours: Mapping[int, Colour] = field(default_factory=dict)
    coloured: bool = False
    label_suffix: str = ".png"
    resize_labels: bool = False
    span: Range | None = None
    sequences: Mapping[str, Range | None] = field(default_factory=dict)
    alone: Literal["repeat", "drop"] = "repeat"
    only_labelled: bool = False
    stride: int = 1
    across_gaps: bool = False
    left_out: frozenset[str] = frozenset()

    name: ClassVar[str] = "frames"
    folder: ClassVar[str] = ""
    raw_size: ClassVar[Size | None] = None
    counts: ClassVar[Mapping[str, int]] = {}  # nothing is published about your own video
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def items(self, root: Path, split: str, frames: int = 2) -> list[Item]:
        """One clip per picture; both splits are the same.

        Raises:
            RunError: no pictures, or two of one name (``a.jpg`` and ``a.png``).
        """
        _base.check_split(self.name, split, self.splits, frames)
        labels = set() if self.labels is None else set(_base.files_under(root, self.labels)[0])
        items_by_key: dict[str, Item] = {}
        sequences = self._sequences(root)
        for folder, paths in sequences.items():
            sequence = self._sequence(folder)
            if (span := self._span(sequence, len(paths))) is None:
                continue
            starts = self._starts(paths, *span)
            for t in range(span[0], min(span[1], len(paths)), self.stride):
                path = paths[t]
                if path in self.left_out or (self.alone == "drop" and starts[t] == t):
                    continue
                name = self._stem(path)
                label = None if self.labels is None else self._label(name)
                if self.only_labelled and label not in labels:
                    continue
                key, clip = name.replace("/", "__"), range(t - frames + 1, t + 1)
                if key in items_by_key:
                    raise RunError(
                        f"{root / path}: has the same name as {root / items_by_key[key].frames[-1]}; rename one"
                    )
                pictures = tuple(paths[max(starts[t], k)] for k in clip)
                items_by_key[key] = Item(key, sequence.replace("/", "__"), pictures, label if label in labels else None)
        if not items_by_key and sequences:
            raise RunError(f"{root / self.images}: {self._why_none(sum(map(len, sequences.values())))}")
        example = f"{self.images or '.'}/img1.jpg ({', '.join(PICTURES)})"
        return _base.in_order(items_by_key.values(), self.name, root, example)

    def _span(self, sequence: str, count: int) -> Range | None:
        """First and end of the pictures of a sequence that count; None where the sequence does not."""
        if not self.sequences:
            return self.span or (0, count)
        spans = [span for pattern, span in self.sequences.items() if fnmatchcase(sequence, pattern)]
        return (spans[0] or self.span or (0, count)) if spans else None

    def _starts(self, paths: Sequence[str], first: int, end: int) -> list[int]:
        """For each picture of a sequence, the number of the earliest picture that a clip ending at it may hold."""
        breaks = {number for number, (a, _) in enumerate(pairwise(paths), 1) if a in self.left_out}
        breaks |= set() if self.across_gaps else set(gaps(paths))
        starts, start = [0] * len(paths), first
        for number in range(first, min(end, len(paths))):
            start = number if number in breaks else start
            starts[number] = start
        return starts

    def _why_none(self, count: int) -> str:
        """Why none of the pictures that there are has a clip."""
        if self.only_labelled:
            return f"none of its {count} pictures has a label in {self.labels} and is in the split"
        names = f" of {', '.join(self.sequences)}" if self.sequences else ""
        dropped = ", of which those without a predecessor are dropped" if self.alone == "drop" else ""
        return f"range {list(self.span or ())}{names} leaves none of {count} pictures{dropped}"

    def misses(self, root: Path) -> str | None:
        """Which chosen sequence, or which pictures of a range, do not exist, in words; None where all do."""
        counts = {self._sequence(folder): len(paths) for folder, paths in self._sequences(root).items()}
        for pattern in self.sequences:
            if not any(fnmatchcase(sequence, pattern) for sequence in counts):
                return f"no sequence is called '{pattern}'; there are {', '.join(list(counts)[:20])}"
        for sequence, count in counts.items():
            span = self._span(sequence, count)
            if span is not None and span[1] > count:
                return f"range {list(span)} ends beyond the {count} pictures of sequence '{sequence}'"
        return None

    def _sequence(self, folder: str) -> str:
        return str(PurePosixPath(folder).relative_to(self.images or "."))

    def _sequences(self, root: Path) -> dict[str, list[str]]:
        """Pictures by folder, in natural order."""
        inside = f"{self.labels}/" if self.labels else "\0"  # labels may lie in the folder of the pictures
        pictures: dict[str, list[str]] = defaultdict(list)
        for path in _base.files_under(root, self.images)[0]:
            if path.lower().endswith(PICTURES) and not path.startswith(inside):
                pictures[str(PurePosixPath(path).parent)].append(path)
        return {folder: sorted(pictures[folder], key=_base.natural) for folder in sorted(pictures, key=_base.natural)}

    def all_labels(self, root: Path) -> set[str]:
        """Names that labels of the pictures have, be they in the range or not."""
        stems = (self._stem(path) for paths in self._sequences(root).values() for path in paths)
        return {self._label(stem) for stem in stems}

    def _label(self, stem: str) -> str:
        return str(PurePosixPath(self.labels or "") / f"{stem}{self.label_suffix}")

    def _stem(self, path: str) -> str:
        return str(PurePosixPath(path).relative_to(self.images or ".").with_suffix(""))

    def remarks(self, root: Path) -> list[str]:
        """Doubts that the file names raise, a sentence each."""
        remarks, sequences, top = [], self._sequences(root), (root / self.images).resolve().name
        paths = sorted((path for pictures in sequences.values() for path in pictures), key=_base.natural)
        kinds = Counter(PurePosixPath(path).suffix.lower() for path in paths)
        if len(kinds) > 1:
            remarks.append(f"the pictures are of several kinds, all are read: {_counts(kinds)}")
        unread = [path for path in _base.files_under(root, self.images)[0] if path.lower().endswith(UNREAD)]
        if unread:
            counted = Counter(PurePosixPath(path).suffix.lower() for path in unread)
            remarks.append(f"not read, since they are of no kind that is read as a picture: {_counts(counted)}")
        if odd := [path for path in paths if LABELLED.search(f"{top}/{self._stem(path)}")]:
            remarks.append(
                f"{len(odd)} of {len(paths)} pictures look like ground truth by their names, e.g. {odd[0]}; they are taken as "
                "footage: give the folder of the pictures alone, or a frames.yaml with labels:"
            )
        if self.across_gaps is False and (
            cut := [(pictures[k - 1], pictures[k]) for pictures in sequences.values() for k in gaps(pictures)]
        ):
            remarks.append(
                f"the numbering has {len(cut)} gap{'s' * (len(cut) > 1)}, e.g. {cut[0][0]} to {PurePosixPath(cut[0][1]).name}; "
                "pictures on the two sides are not taken as consecutive (across_gaps: true in a frames.yaml does)"
            )
        return remarks + self._label_remarks(root, {self._stem(path) for path in paths})

    def _label_remarks(self, root: Path, stems: set[str]) -> list[str]:
        if self.labels is None:
            return []
        label_files = [p for p in _base.files_under(root, self.labels)[0] if p.lower().endswith(PICTURES)]
        names = [str(PurePosixPath(path).relative_to(self.labels)) for path in label_files]
        expected = {f"{stem}{self.label_suffix}" for stem in stems}
        lost = sorted((name for name in names if name not in expected), key=_base.natural)
        remarks = []
        if lost:
            endings = Counter(
                name[size:]
                for name in lost
                for size in range(1, len(name))
                if name[:size] in stems and "/" not in name[size:]
            )
            likely = endings.most_common(1)[0][0] if endings else ""
            hint = f"; with label_suffix: {likely} in the YAML they would" if likely.lower().endswith(".png") else ""
            remarks.append(f"{len(lost)} of {len(names)} labels belong to no picture, e.g. {lost[0]}{hint}")
        if missing := len(stems) - (len(names) - len(lost)):
            remarks.append(f"{missing} of {len(stems)} pictures have no label")
        return remarks

    def read_frame(self, file: Path, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """See `Dataset.read_frame`."""
        return _base.resized_rgb(_base.colour_picture(file, expect), size)

    def read_label(self, file: Path, ids: Ids, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """See `Dataset.read_label`. With ``resize_labels`` a label may have another size than ``expect``, and is brought to it."""
        if self.resize_labels and expect is not None:
            label_size = picture_size(file)
            if abs(label_size[0] * expect[1] - label_size[1] * expect[0]) > max(*label_size, *expect):
                raise BadFile(
                    file, "wrong size", f"is {shown(label_size)} pixels, which cannot be scaled to {shown(expect)}"
                )
            size, expect = size or expect, None
        return _base.to_train(_base.label_ids(file, size, expect, self.colours, self._holds), ids)

    @property
    def _holds(self) -> Literal["colours", "indices"]:
        return "colours" if self.coloured else "indices"

    def look(self, file: Path, label: bool) -> Size:
        """See `Dataset.look`."""
        picture = _base.id_picture(file, None, self.colours, self._holds) if label else _base.colour_picture(file)
        return picture.height, picture.width

    def guards(self) -> Mapping[str, str]:
        """See `Dataset.guards`; where one folder lies in the other, the grant of the longer path holds."""
        guards = {self.images: "train"}
        if self.labels is not None:
            guards[self.labels] = "val/label"
        return guards

    def belongs(self, path: str) -> bool:
        """Pictures do; other files in the folder are none of our business and are reported as stray."""
        return path.lower().endswith(PICTURES)

    def id_table(self) -> UInt8:
        """Train ids by raw id as the YAML says; all 255 without labels."""
        return lookup(
            {raw: IGNORE if name == IGNORED else self.classes.index(name) for raw, name in self.names.items()}
        )


def gaps(paths: Sequence[str]) -> list[int]:
    """Places at which pictures in natural order do not follow each other by their numbers: ``k`` is between ``k - 1`` and ``k``.

    What counts is the last number in the names that is not the same in all. The usual step is the (lower) median of all; a gap is
    more than one and a half of that, another text or another earlier number in the name, or the same numbers (``3`` and ``03``).
    Names without numbers have no gaps.

    >>> gaps(["a1.png", "a2.png", "a3.png", "a10.png"]), gaps(["a5.png", "a10.png", "a15.png"])
    ([3], [])
    """
    split = [re.split(r"([0-9]+)", PurePosixPath(path).stem) for path in paths]
    texts = [tuple(parts[0::2]) for parts in split]
    numbers = [tuple(map(int, parts[1::2])) for parts in split]
    varying: dict[tuple[str, ...], int] = {}
    for text in set(texts):
        columns = zip(*(n for n, t in zip(numbers, texts, strict=True) if t == text), strict=True)
        varying[text] = max((c for c, column in enumerate(columns) if len(set(column)) > 1), default=-1)
    breaks, steps = [], {}
    for k in range(1, len(paths)):
        column, (previous, current) = varying[texts[k]], (numbers[k - 1], numbers[k])
        same = previous == current
        if same or texts[k - 1] != texts[k] or (column >= 0 and previous[:column] != current[:column]):
            breaks += [k] if previous and current else []
        elif column >= 0:
            steps[k] = current[column] - previous[column]
    usual = median_low(steps.values()) if len(steps) > 1 else 1
    return sorted(breaks + [k for k, step in steps.items() if 2 * step > 3 * max(1, usual)])


def _counts(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


# What is given --------------------------------------------------------------------------------------------------------


def open_frames(path: Path, cache: Path, progress: Progress = quiet) -> tuple[Frames, Path]:
    """Your footage and its root: from a folder, a YAML file or a video file. A video is taken apart into ``cache`` once.

    Raises:
        UsageError: nothing is there, or the YAML does not validate (with the field's path).
        RunError: the video cannot be decoded.
    """
    footage = find_frames(path)
    images = footage.path if footage.path.is_dir() else extract(footage.path, cache, progress)
    if footage.description is None:
        return DATASET, images
    description = footage.description
    return described(
        description, description.class_names, images, footage.labels, size=description.size, span=description.range
    )


def described(
    looks: Looks, classes: tuple[str, ...], images: Path, labels: Path | None, **options: Any
) -> tuple[Frames, Path]:
    """Footage and its root, from its folders and a description of how its pictures and labels look.

    Args:
        classes: in train-id order.
        options: other fields of :class:`Frames`.
    """
    images, labels = images.resolve(), labels and labels.resolve()
    root = images if labels is None else Path(os.path.commonpath([images, labels]))
    names = dict(looks.ids)
    if looks.colors:
        names = {number: name for number, (name, _) in enumerate(looks.coloured, 1)}
    frames = Frames(
        images=_inside(images, root),
        labels=None if labels is None else _inside(labels, root),
        names=names,
        classes=classes,
        colours=_colours_of(looks, classes),
        coloured=bool(looks.colors),
        label_suffix=looks.label_suffix,
        resize_labels=looks.resize_labels,
        stride=looks.stride,
        across_gaps=looks.across_gaps,
        **options,
    )
    return frames, root


def _colours_of(looks: Looks, classes: tuple[str, ...]) -> dict[int, Colour]:
    """By raw id: the labels' colours, or those of the classes that the ids stand for, where these are known."""
    from ..label_maps import label_space

    if looks.colors:
        return {number: colour for number, (_, colour) in enumerate(looks.coloured, 1)}
    try:
        space = label_space(classes)
    except UsageError:
        return {}
    return {raw: space.palette[space.classes.index(name)] for raw, name in looks.ids.items() if name != IGNORED}


def _inside(folder: Path, root: Path) -> str:
    relative = folder.relative_to(root).as_posix()
    return "" if relative == "." else relative


DATASET = Frames()
