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
from itertools import pairwise
from pathlib import Path, PurePosixPath
from statistics import median_low
from typing import ClassVar, Literal

import yaml
from pydantic import Field, model_validator

from bench.core.errors import BadFile, RunError, UsageError, unknown
from bench.core.files import no_file
from bench.core.progress import Progress, quiet
from bench.core.schema import Model, load_yaml, validated

from ..reading import IGNORE, PICTURES, lookup, picture_size, shown
from . import _base
from ._base import Colour, Ids, Item, Size, UInt8
from ._video import VIDEOS, extract

DESCRIPTION = "frames.yaml"
IGNORED = "ignore"
"""Instead of a class: an id or a colour that is ignored on purpose."""
UNREAD = (".heic", ".heif", ".avif", ".jp2", ".gif", ".ppm", ".pgm", ".exr", ".hdr", ".dng", ".raw", ".npy", *VIDEOS)
"""Endings that pictures and videos have too, which are not read in a folder."""
LABELLED = re.compile(
    r"(^|[/_.-])(?i:gt|gt_?(fine|coarse|image_\d)|labels?|(label|train|labeltrain|instance)ids|masks?|annotations?|annot|"
    r"segmentation(class)?|ground_?truth)([/_.-]|$)|_L$"
)
"""Names of pictures, or of their folders, that ground truth has and footage has not."""


class Description(Model):
    """The YAML, see the module's text."""

    folder: Path | None = None
    video: Path | None = None
    labels: Path | None = None
    label_suffix: str = Field(".png", pattern=r"^[^/]*\.png$")
    ids: dict[int, str] = Field(default_factory=dict)
    colors: dict[str, Colour | tuple[Colour, ...]] = Field(default_factory=dict)
    resize_labels: bool = False
    classes: str | tuple[str, ...] = "viper2cityscapes"
    size: tuple[int, int] | None = None
    range: tuple[int, int] | None = None
    stride: int = Field(1, ge=1)
    across_gaps: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Description:
        from ..label_maps import space_names

        if (self.folder is None) == (self.video is None):
            raise ValueError("give either folder: or video:")
        if (self.labels is None) != (not self.ids and not self.colors):
            raise ValueError("labels: and ids: belong together: give both or none; colors: may stand for ids:")
        if self.ids and self.colors:
            raise ValueError("ids: and colors: exclude each other: a label holds ids or colours")
        if isinstance(self.classes, str) and self.classes not in space_names():
            raise ValueError(f"classes: unknown label space '{self.classes}'; available: {', '.join(space_names())}")
        if twice := [name for name, count in Counter(self.class_names).items() if count > 1]:
            raise ValueError(f"classes: '{twice[0]}' is there twice")
        named = [*((f"ids.{raw}", name) for raw, name in self.ids.items()), *((f"colors.{c}", c) for c in self.colors)]
        for raw in self.ids:
            if not 0 <= raw < 256:
                raise ValueError(f"ids: raw ids are 0..255, got {raw}")
        for place, name in named:
            if name not in (*self.class_names, IGNORED):
                raise ValueError(
                    f"{place}: unknown class '{name}'; available: {', '.join(self.class_names)}, {IGNORED}"
                )
        colours = Counter(colour for _, colour in self.coloured)
        for colour, count in colours.items():
            if not all(0 <= value < 256 for value in colour) or count > 1:
                raise ValueError(f"colors: {list(colour)} {'is there twice' if count > 1 else 'is no colour: 0..255'}")
        if len(colours) > 255:
            raise ValueError(f"colors: at most 255, got {len(colours)}")
        if self.size is not None and min(self.size) < 16:
            raise ValueError(f"size: at least 16 x 16, got {self.size[0]} x {self.size[1]}")
        if self.range is not None and not 0 <= self.range[0] < self.range[1]:
            raise ValueError(f"range: first and end of the pictures, 0 <= first < end, got {list(self.range)}")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """In train-id order."""
        from ..label_maps import named_space

        return named_space(self.classes).classes if isinstance(self.classes, str) else self.classes

    @property
    def coloured(self) -> tuple[tuple[str, Colour], ...]:
        """Class and colour, for each colour."""
        pairs: list[tuple[str, Colour]] = []
        for name, of in self.colors.items():
            many = of if not of or isinstance(of[0], tuple) else (of,)
            pairs += [(name, colour) for colour in many]
        return tuple(pairs)


@dataclass(frozen=True)
class Frames:
    """One footage.

    Attributes:
        images, labels: folders relative to the root.
        names: class by raw id. Labels in colours have the ids 1, 2, ... in the order of their colours, and 0 elsewhere.
        coloured: labels hold colours, not ids.
        colours: by raw id: those of the labels, or of the classes where labels hold ids.
        span: first and end of the pictures of each sequence; all by default.
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
    span: tuple[int, int] | None = None
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
        found: dict[str, Item] = {}
        for folder, whole in self._sequences(root).items():
            breaks = {number for number, (a, b) in enumerate(pairwise(whole), 1) if a in self.left_out}
            breaks |= set() if self.across_gaps else set(gaps(whole))
            first, end = self.span or (0, len(whole))
            starts, start = [0] * len(whole), first
            for number in range(first, min(end, len(whole))):
                start = number if number in breaks else start
                starts[number] = start
            for t in range(first, min(end, len(whole)), self.stride):
                path = whole[t]
                if path in self.left_out:
                    continue
                name = self._stem(path)
                label = None if self.labels is None else str(PurePosixPath(self.labels) / f"{name}{self.label_suffix}")
                key, clip = name.replace("/", "__"), range(t - frames + 1, t + 1)
                if key in found:
                    raise RunError(f"{root / path}: has the same name as {root / found[key].frames[-1]}; rename one")
                sequence = str(PurePosixPath(folder).relative_to(self.images or ".")).replace("/", "__")
                pictures = tuple(whole[max(starts[t], k)] for k in clip)
                found[key] = Item(key, sequence, pictures, label if label in labels else None)
        example = f"{self.images or '.'}/img1.jpg ({', '.join(PICTURES)})"
        return _base.in_order(found.values(), self.name, root, example)

    def _sequences(self, root: Path) -> dict[str, list[str]]:
        """Pictures by folder, in natural order."""
        inside = f"{self.labels}/" if self.labels else "\0"  # labels may lie in the folder of the pictures
        found: dict[str, list[str]] = defaultdict(list)
        for path in _base.files_under(root, self.images)[0]:
            if path.lower().endswith(PICTURES) and not path.startswith(inside):
                found[str(PurePosixPath(path).parent)].append(path)
        return {folder: sorted(paths, key=_base.natural) for folder, paths in found.items()}

    def _stem(self, path: str) -> str:
        return str(PurePosixPath(path).relative_to(self.images or ".").with_suffix(""))

    def remarks(self, root: Path) -> list[str]:
        """What the names give reason to ask about, a sentence each."""
        told, sequences = [], self._sequences(root)
        paths = [path for of_it in sequences.values() for path in of_it]
        kinds = Counter(PurePosixPath(path).suffix.lower() for path in paths)
        if len(kinds) > 1:
            told.append(f"the pictures are of several kinds, all are read: {_counts(kinds)}")
        others = [path for path in _base.files_under(root, self.images)[0] if path.lower().endswith(UNREAD)]
        if others:
            counted = Counter(PurePosixPath(path).suffix.lower() for path in others)
            told.append(f"not read, since they are of no kind that is read as a picture: {_counts(counted)}")
        if odd := [path for path in paths if LABELLED.search(self._stem(path))]:
            told.append(
                f"{len(odd)} of {len(paths)} pictures look like ground truth by their names, e.g. {odd[0]}; they are taken as "
                "footage: give the folder of the pictures alone, or a frames.yaml with labels:"
            )
        if self.across_gaps is False and (
            cut := [(of_it[k - 1], of_it[k]) for of_it in sequences.values() for k in gaps(of_it)]
        ):
            told.append(
                f"the numbering has {len(cut)} gap{'s' * (len(cut) > 1)}, e.g. {cut[0][0]} to {PurePosixPath(cut[0][1]).name}; "
                "pictures on the two sides are not taken as consecutive (across_gaps: true in a frames.yaml does)"
            )
        return told + self._label_remarks(root, {self._stem(path) for path in paths})

    def _label_remarks(self, root: Path, stems: set[str]) -> list[str]:
        if self.labels is None:
            return []
        there = [p for p in _base.files_under(root, self.labels)[0] if p.lower().endswith(PICTURES)]
        names = [str(PurePosixPath(path).relative_to(self.labels)) for path in there]
        wanted = {f"{stem}{self.label_suffix}" for stem in stems}
        lost = [name for name in names if name not in wanted]
        told = []
        if lost:
            endings = Counter(
                name[size:]
                for name in lost
                for size in range(1, len(name))
                if name[:size] in stems and "/" not in name[size:]
            )
            likely = endings.most_common(1)[0][0] if endings else ""
            hint = f"; with label_suffix: {likely} in the YAML they would" if likely.endswith(".png") else ""
            told.append(f"{len(lost)} of {len(names)} labels belong to no picture, e.g. {lost[0]}{hint}")
        if missing := len(stems) - (len(names) - len(lost)):
            told.append(f"{missing} of {len(stems)} pictures have no label")
        return told

    def read_frame(self, file: Path, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """See `Dataset.read_frame`."""
        return _base.resized_rgb(_base.colour_picture(file, expect), size)

    def read_label(self, file: Path, ids: Ids, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """See `Dataset.read_label`. With ``resize_labels`` a label may have another size than ``expect``, and is brought to it."""
        if self.resize_labels and expect is not None:
            own = picture_size(file)
            if abs(own[0] * expect[1] - own[1] * expect[0]) > max(*own, *expect):
                raise BadFile(file, "wrong size", f"is {shown(own)} pixels, which cannot be scaled to {shown(expect)}")
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
        """The longer of two folders of which one lies in the other decides."""
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
    twice that or more, or another text or another earlier number in the name. Names without numbers have no gaps.

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
    found, steps = [], {}
    for k in range(1, len(paths)):
        column, (before, now) = varying[texts[k]], (numbers[k - 1], numbers[k])
        if texts[k - 1] != texts[k] or (column >= 0 and before[:column] != now[:column]):
            found += [k] if before and now else []
        elif column >= 0:
            steps[k] = now[column] - before[column]
    usual = median_low(steps.values()) if len(steps) > 1 else 1
    return sorted(found + [k for k, step in steps.items() if step >= 2 * max(1, usual)])


def _counts(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


# What is given --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """Where a footage lies, before anything of it is opened.

    Attributes:
        path: folder of pictures, or video file.
        told: what its YAML says; None without one.
        yaml, labels: the YAML and the folder of labels, if there are any.
    """

    path: Path
    told: Description | None = None
    yaml: Path | None = None
    labels: Path | None = None

    @property
    def inputs(self) -> dict[str, Path]:
        """Files and folders that it consists of, by what they are."""
        found = {"the footage": self.path, "the labels": self.labels, "the description": self.yaml}
        return {what: path for what, path in found.items() if path is not None}


def find_frames(path: Path) -> Given:
    """What a folder, a YAML file or a video file leads to.

    Raises:
        UsageError: nothing is there, or the YAML does not validate (with the field's path).
    """
    if path.is_dir():
        own = path / DESCRIPTION
        return find_frames(own) if own.is_file() else Given(path)
    if not path.exists():
        raise UsageError(
            f"{path} is not there; give a folder of pictures, a video file or a YAML file that describes them"
        )
    if what := no_file(path):
        raise UsageError(
            f"{path} is {what}; give a folder of pictures, a video file or a YAML file that describes them"
        )
    if path.suffix.lower() in VIDEOS:
        return Given(path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise unknown("kind of footage", path.suffix, ["a folder", ".yaml", *VIDEOS], where=f" of {path}")
    told = _described(path)
    images, labels = path.parent / (told.video or told.folder or "."), told.labels and path.parent / told.labels
    for what, folder in (("folder", None if told.video else images), ("labels", labels)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{path}: {what}: {folder} is not a folder")
    if labels is not None and labels.resolve() == images.resolve():
        raise UsageError(f"{path}: labels: must be a folder of their own; the pictures' is open while a model adapts")
    return Given(images, told, path, labels)


def open_frames(path: Path, cache: Path, progress: Progress = quiet) -> tuple[Frames, Path]:
    """Your footage and its root: from a folder, a YAML file or a video file. A video is taken apart into ``cache`` once.

    Raises:
        UsageError: nothing is there, or the YAML does not validate (with the field's path).
        RunError: the video cannot be decoded.
    """
    given = find_frames(path)
    images = given.path if given.path.is_dir() else extract(given.path, cache, progress)
    if given.told is None:
        return DATASET, images
    told, images, labels = given.told, images.resolve(), given.labels and given.labels.resolve()
    root = images if labels is None else Path(os.path.commonpath([images, labels]))
    names, colours = dict(told.ids), _colours_of(told)
    if told.colors:
        names = {number: name for number, (name, _) in enumerate(told.coloured, 1)}
    return (
        Frames(
            images=_inside(images, root),
            labels=None if labels is None else _inside(labels, root),
            size=told.size,
            names=names,
            classes=told.class_names,
            colours=colours,
            coloured=bool(told.colors),
            label_suffix=told.label_suffix,
            resize_labels=told.resize_labels,
            span=told.range,
            stride=told.stride,
            across_gaps=told.across_gaps,
        ),
        root,
    )


def _described(path: Path) -> Description:
    try:
        content = load_yaml(path.read_text(encoding="utf-8", errors="replace"))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML that is read here: {' '.join(str(error).split())}") from None
    described: Description = validated(Description, content, str(path))
    return described


def _colours_of(told: Description) -> dict[int, Colour]:
    """By raw id: the labels' colours, or those of the classes that the ids stand for, where these are known."""
    from ..label_maps import label_space

    if told.colors:
        return {number: colour for number, (_, colour) in enumerate(told.coloured, 1)}
    try:
        space = label_space(told.class_names)
    except UsageError:
        return {}
    return {raw: space.palette[space.classes.index(name)] for raw, name in told.ids.items() if name != IGNORED}


def _inside(folder: Path, root: Path) -> str:
    relative = folder.relative_to(root).as_posix()
    return "" if relative == "." else relative


DATASET = Frames()
