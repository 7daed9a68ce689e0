"""Sides of a shift that are no data set: pictures of one's own, and, as source, nothing but a trained model.

    source: {model: espnet.pth, sha256: 2a6e...}      # or pictures like the target's, or {dataset: viper, ...}
    target:
      height: 360                                     # what the network works at
      width: 480
      folder: camvid_drive/images                     # or  video: drive.mp4
      labels: camvid_drive/labels                     # names are the pictures'
      ids: {0: sky, 1: building, 11: ignore}          # or  colors: {sky: [128, 128, 128], ...}
      train: {range: [0, 61]}                         # of each sequence, counted from 0, the end left out
      val: {range: [61, 101]}                         # or  {sequences: [drive3, "night*"]},  {folder: ..., labels: ...}

A path is relative to the YAML or to ``--data-root``. Where things lie is no part of what a shift is: it is not hashed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from bench.core.schema import Model

Colour = tuple[int, int, int]
Range = tuple[int, int]
IGNORED = "ignore"
"""Instead of a class: an id or a colour that is ignored on purpose."""
SPLITS = ("train", "val", "transductive")
"""Splits of pictures; the last one is scored beside ``val`` and may hold what was adapted to."""


class Looks(Model):
    """How pictures follow each other, and what their labels hold; of footage and of a side of a shift alike.

    Attributes:
        label_suffix: what a label's name has instead of the picture's ending.
        ids: raw id of a pixel to class.
        colors: class to its colour or colours.
        resize_labels: labels may be larger or smaller than their pictures.
        stride: every so many pictures; the predecessor is still the picture just before.
        across_gaps: pictures follow each other whatever their numbers say.
    """

    label_suffix: str = Field(".png", pattern=r"^[^/]*\.(png|PNG)$")
    ids: dict[int, str] = Field(default_factory=dict)
    colors: dict[str, Colour | tuple[Colour, ...]] = Field(default_factory=dict)
    resize_labels: bool = False
    stride: int = Field(1, ge=1)
    across_gaps: bool = False

    @model_validator(mode="after")
    def _fit(self) -> Looks:
        if self.ids and self.colors:
            raise ValueError("ids: and colors: exclude each other: a label holds ids or colours")
        for raw in self.ids:
            if not 0 <= raw < 256:
                raise ValueError(f"ids: raw ids are 0..255, got {raw}")
        colours = Counter(colour for _, colour in self.coloured)
        for colour, count in colours.items():
            if not all(0 <= value < 256 for value in colour) or count > 1:
                raise ValueError(f"colors: {list(colour)} {'is there twice' if count > 1 else 'is no colour: 0..255'}")
        if len(colours) > 255:
            raise ValueError(f"colors: at most 255, got {len(colours)}")
        return self

    @property
    def coloured(self) -> tuple[tuple[str, Colour], ...]:
        """Class and colour, for each colour."""
        pairs: list[tuple[str, Colour]] = []
        for name, entry in self.colors.items():
            colours = entry if not entry or isinstance(entry[0], tuple) else (entry,)
            pairs += [(name, colour) for colour in colours]  # one colour or several
        return tuple(pairs)

    def check_names(self, classes: Collection[str]) -> None:
        """Refuse a class that is none of these.

        Raises:
            ValueError: names the place.
        """
        named = [*((f"ids.{raw}", name) for raw, name in self.ids.items()), *((f"colors.{c}", c) for c in self.colors)]
        for location, name in named:
            if name not in (*classes, IGNORED):
                raise ValueError(f"{location}: unknown class '{name}'; available: {', '.join(classes)}, {IGNORED}")


def check_range(bounds: Range | None) -> None:
    """Refuse a range of pictures that has none.

    Raises:
        ValueError: it is not first and end with 0 <= first < end.
    """
    if bounds is not None and not 0 <= bounds[0] < bounds[1]:
        raise ValueError(f"range: first and end of the pictures, 0 <= first < end, got {list(bounds)}")


def _by_pattern(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return dict.fromkeys(value)
    return (
        {key: None if bounds == "all" else bounds for key, bounds in value.items()}
        if isinstance(value, dict)
        else value
    )


class Part(Model):
    """The pictures of one split.

    Attributes:
        folder, video, labels: where they are others than the side's.
        sequences: names of folders, ``*`` and ``?`` allowed; all by default. With ranges, ``{drive1: all, drive2: [0, 500]}``.
        range: of each sequence the pictures from the first place to before the end.
    """

    PLACES: ClassVar[tuple[str, ...]] = ("folder", "video", "labels")

    folder: str | None = None
    video: str | None = None
    labels: str | None = None
    sequences: Annotated[dict[str, Range | None], BeforeValidator(_by_pattern)] = Field(default_factory=dict)
    range: Range | None = None

    @model_validator(mode="after")
    def _fits(self) -> Part:
        if self.folder is not None and self.video is not None:
            raise ValueError("folder: and video: exclude each other")
        for bounds in (self.range, *self.sequences.values()):
            check_range(bounds)
        if self.range is not None and any(self.sequences.values()):
            raise ValueError("range: and the ranges of sequences: exclude each other")
        return self


class Pictures(Looks):
    """Pictures of one's own as a side of a shift.

    Attributes:
        name: what pages call them.
        height, width: of the frames that the network gets; files are resized to it.
        folder, video, labels: where they lie.
        checksums: file of SHA-256 sums (``sha256sum`` format) of ``images/NAME`` and ``labels/NAME``; a run refuses other files.
        alone: what becomes of a picture without a predecessor: its own predecessor, or no clip.
        train, val: the pictures of each split. A source needs no ``val``.
        transductive: pictures that are scored too, beside ``val``, and may be adapted to.
    """

    PLACES: ClassVar[tuple[str, ...]] = ("folder", "video", "labels", "checksums")
    LATER: ClassVar[tuple[str, ...]] = ("transductive",)

    name: str = Field("own", pattern=r"^[\w.-]+$")
    height: int = Field(ge=32)
    width: int = Field(ge=32)
    folder: str | None = None
    video: str | None = None
    labels: str | None = None
    checksums: str | None = None
    alone: Literal["repeat", "drop"] = "repeat"
    train: Part = Part()
    val: Part | None = None
    transductive: Part | None = None

    @model_validator(mode="after")
    def _fits(self) -> Pictures:
        for name, part in self.parts.items():
            if not (part.folder or part.video or self.folder or self.video):
                raise ValueError(f"{name}: no pictures: give folder: or video:, here or of the whole side")
        if self.folder is not None and self.video is not None:
            raise ValueError("folder: and video: exclude each other")
        labelled = self.labels or any(part.labels for part in self.parts.values())
        if bool(labelled) != bool(self.ids or self.colors):
            raise ValueError("labels: and ids: belong together: give both or none; colors: may stand for ids:")
        return self

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name

    @property
    def parts(self) -> dict[str, Part]:
        """By split, those that there are."""
        by_split = {name: getattr(self, name) for name in SPLITS}
        return {name: part for name, part in by_split.items() if part is not None}

    def labels_of(self, split: str) -> str | None:
        """Where the labels of a split lie."""
        return self.parts[split].labels or self.labels


class ModelFile(Model):
    """A source that is nothing but a trained model: there is no source data.

    Attributes:
        model: a model file, or a checkpoint that ``bench convert`` knows, which is converted into the cache.
        sha256: of the file.
        weights: SHA-256 of the weights that it becomes (``bench.networks.weights.digest``), by which a model file is known that
            was converted from it.
        layout: of the checkpoint, as for ``bench convert``.
    """

    PLACES: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    weights: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    layout: str = "auto"
    name: str = Field("model", pattern=r"^[\w.-]+$")

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name


def kind_of(side: Any) -> str:
    """Which of the alternatives a side is, by its keys; these names are the tags of the union."""
    keys = side if isinstance(side, dict) else {type(side).__name__: None}
    if "dataset" in keys or "Recorded" in keys:
        return "side-dataset"
    return "side-model" if "model" in keys or "ModelFile" in keys else "side-pictures"


TAGS = ("side-dataset", "side-model", "side-pictures")
