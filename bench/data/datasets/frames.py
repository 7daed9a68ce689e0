"""frames: your own video, a folder of pictures or a video file, with or without labels.

A bare folder works as it is: its pictures (jpg, jpeg, png, mixed) in natural order (``img2`` before ``img10``); every
folder that holds pictures is a sequence of its own and no clip spans two. Pictures may have any size, the same within a
clip. The first picture of a sequence has no predecessor: its clip shows the picture itself as the previous one, as any clip
does where it would reach back past the start. A ``frames.yaml`` in the folder, or any YAML file, says more::

    folder: images              # or  video: drive.mp4   (relative to this file)
    labels: labels              # optional; same names as the pictures, .png, one raw id per pixel
    ids: {7: road, 26: car}     # raw id of the labels to class; ids not named are ignored
    classes: viper2cityscapes   # a label space, or a list of class names
    size: [512, 1024]           # optional: height and width the network works at

The same pictures are train and val: there is one footage, which is adapted to and predicted. `guards` therefore gives them the
grant ``train`` alone; a stage that evaluates on them has to grant it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import yaml
from pydantic import Field, ValidationError, model_validator

from bench.core.errors import RunError, UsageError, unknown
from bench.core.progress import Progress, quiet
from bench.core.schema import Model, one_line

from . import _base
from ._base import Ids, Item, Size, UInt8

PICTURES = (".jpg", ".jpeg", ".png")
DESCRIPTION = "frames.yaml"


class Description(Model):
    """The YAML, see the module's text."""

    folder: Path | None = None
    video: Path | None = None
    labels: Path | None = None
    ids: dict[int, str] = Field(default_factory=dict)
    classes: str | tuple[str, ...] = "viper2cityscapes"
    size: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Description:
        from ..label_maps import space_names

        if (self.folder is None) == (self.video is None):
            raise ValueError("give either folder: or video:")
        if (self.labels is None) != (not self.ids):
            raise ValueError("labels: and ids: belong together: give both or none")
        if isinstance(self.classes, str) and self.classes not in space_names():
            raise ValueError(f"classes: unknown label space '{self.classes}'; available: {', '.join(space_names())}")
        for raw, name in self.ids.items():
            if not 0 <= raw < 256:
                raise ValueError(f"ids: raw ids are 0..255, got {raw}")
            if name not in self.class_names:
                raise ValueError(f"ids.{raw}: unknown class '{name}'; available: {', '.join(self.class_names)}")
        if self.size is not None and min(self.size) < 16:
            raise ValueError(f"size: at least 16 x 16, got {self.size[0]} x {self.size[1]}")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """In train-id order."""
        from ..label_maps import named_space

        return named_space(self.classes).classes if isinstance(self.classes, str) else self.classes


@dataclass(frozen=True)
class Frames:
    """One footage. ``images`` and ``labels`` are folders relative to the root; the rest as in the YAML."""

    images: str = ""
    labels: str | None = None
    size: Size | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    name = "frames"
    folder = ""
    raw_size = None
    counts = {}  # noqa: RUF012  # nothing is published about your own video
    splits = ("train", "val")

    def items(self, root: Path, split: str, frames: int = 2) -> list[Item]:
        """One clip per picture; both splits are the same.

        Raises:
            RunError: no pictures, or two of one name (``a.jpg`` and ``a.png``).
        """
        _base.check_split(self.name, split, self.splits, frames)
        sequences: dict[str, list[str]] = defaultdict(list)
        for path in self._pictures(root):
            sequences[str(PurePosixPath(path).parent)].append(path)
        labels = set() if self.labels is None else set(_base.files_under(root, self.labels)[0])
        found: dict[str, Item] = {}
        for folder, paths in sequences.items():
            paths.sort(key=_base.natural)
            for t, path in enumerate(paths):
                name = PurePosixPath(path).relative_to(self.images or ".").with_suffix("")
                key = str(name).replace("/", "__")
                label = None if self.labels is None else str(PurePosixPath(self.labels) / f"{name}.png")
                clip = tuple(paths[max(0, k)] for k in range(t - frames + 1, t + 1))
                if key in found:
                    raise RunError(f"{root / path}: has the same name as {root / found[key].frames[-1]}; rename one")
                sequence = str(PurePosixPath(folder).relative_to(self.images or ".")).replace("/", "__")
                found[key] = Item(key, sequence, clip, label if label in labels else None)
        example = f"{self.images or '.'}/img1.jpg ({', '.join(PICTURES)})"
        return _base.in_order(found.values(), self.name, root, example)

    def _pictures(self, root: Path) -> list[str]:
        inside = f"{self.labels}/" if self.labels else "\0"  # labels may lie in the folder of the pictures
        found = _base.files_under(root, self.images)[0]
        return [p for p in found if p.lower().endswith(PICTURES) and not p.startswith(inside)]

    def read_frame(self, file: Path, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """See `Dataset.read_frame`."""
        return _base.resized_rgb(_base.colour_picture(file, expect), size)

    def read_label(self, file: Path, ids: Ids, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """See `Dataset.read_label`."""
        return _base.to_train(_base.nearest(_base.id_picture(file, expect), size), ids)

    def look(self, file: Path, label: bool) -> Size:
        """See `Dataset.look`."""
        picture = (_base.id_picture if label else _base.colour_picture)(file)
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
        return _base.lookup({raw: self.classes.index(name) for raw, name in self.names.items()})


def open_frames(path: Path, cache: Path, progress: Progress = quiet) -> tuple[Frames, Path]:
    """Your footage and its root: from a folder, a YAML file or a video file. A video is taken apart into ``cache`` once.

    Raises:
        UsageError: nothing is there, or the YAML does not validate (with the field's path).
        RunError: the video cannot be decoded.
    """
    from ._video import VIDEOS, extract

    if path.is_dir():
        own = path / DESCRIPTION
        return open_frames(own, cache, progress) if own.is_file() else (DATASET, path)
    if not path.exists():
        raise UsageError(
            f"{path} is not there; give a folder of pictures, a video file or a YAML file that describes them"
        )
    if path.suffix.lower() in VIDEOS:
        return DATASET, extract(path, cache, progress)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise unknown("kind of footage", path.suffix, ["a folder", ".yaml", *VIDEOS], where=f" of {path}")
    told = _described(path)
    images = extract(path.parent / told.video, cache, progress) if told.video else path.parent / (told.folder or ".")
    labels = None if told.labels is None else path.parent / told.labels
    for what, folder in (("folder", images), ("labels", labels)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{path}: {what}: {folder} is not a folder")
    images = images.resolve()
    root = images if labels is None else Path(os.path.commonpath([images, labels.resolve()]))
    return (
        Frames(
            images=_inside(images, root),
            labels=None if labels is None else _inside(labels.resolve(), root),
            size=told.size,
            names=told.ids,
            classes=told.class_names,
        ),
        root,
    )


def _inside(folder: Path, root: Path) -> str:
    relative = folder.relative_to(root).as_posix()
    return "" if relative == "." else relative


def _described(path: Path) -> Description:
    try:
        return Description.model_validate(yaml.safe_load(path.read_text(encoding="utf-8", errors="replace")))
    except ValidationError as error:
        raise UsageError(f"{path}: {one_line(error)}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


DATASET = Frames()
