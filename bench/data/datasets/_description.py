"""Where one's own footage lies and what its YAML says (the YAML's text is in ``frames``); nothing of the footage is opened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field, model_validator

from bench.core.errors import UsageError, unknown
from bench.core.files import no_file
from bench.core.schema import Model, load_yaml, validated

from ..reading import Colour
from ._video import VIDEOS

DESCRIPTION = "frames.yaml"
IGNORED = "ignore"
"""Instead of a class: an id or a colour that is ignored on purpose."""


class Description(Model):
    """The YAML, see the module's text."""

    folder: Path | None = None
    video: Path | None = None
    labels: Path | None = None
    label_suffix: str = Field(".png", pattern=r"^[^/]*\.(png|PNG)$")
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


def _described(path: Path) -> Description:
    try:
        content = load_yaml(path.read_text(encoding="utf-8", errors="replace"))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML that is read here: {' '.join(str(error).split())}") from None
    described: Description = validated(Description, content, str(path))
    return described
