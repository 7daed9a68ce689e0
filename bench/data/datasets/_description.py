"""Where one's own footage lies and what its YAML says (the YAML's text is in ``frames``); nothing of the footage is opened."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import model_validator

from bench.core.errors import UsageError, short, unknown
from bench.core.files import no_file
from bench.core.schema import load_yaml, validated
from bench.shifts.sides import Looks, check_range

from ._video import VIDEOS

DESCRIPTION = "frames.yaml"


class Description(Looks):
    """The YAML, see the module's text."""

    folder: Path | None = None
    video: Path | None = None
    labels: Path | None = None
    classes: str | tuple[str, ...] = "viper2cityscapes"
    size: tuple[int, int] | None = None
    range: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Description:
        from ..label_maps import space_names

        if (self.folder is None) == (self.video is None):
            raise ValueError("give either folder: or video:")
        if (self.labels is None) != (not self.ids and not self.colors):
            raise ValueError("labels: and ids: belong together: give both or none; colors: may stand for ids:")
        if isinstance(self.classes, str) and self.classes not in space_names():
            raise ValueError(f"classes: unknown label space '{self.classes}'; available: {', '.join(space_names())}")
        if twice := [name for name, count in Counter(self.class_names).items() if count > 1]:
            raise ValueError(f"classes: '{twice[0]}' is there twice")
        self.check_names(self.class_names)
        if self.size is not None and min(self.size) < 16:
            raise ValueError(f"size: at least 16 x 16, got {self.size[0]} x {self.size[1]}")
        check_range(self.range)
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """In train-id order."""
        from ..label_maps import named_space

        return named_space(self.classes).classes if isinstance(self.classes, str) else self.classes


@dataclass(frozen=True)
class Given:
    """Where a footage lies, before anything of it is opened.

    Attributes:
        path: folder of pictures, or video file.
        description: what its YAML says; None without one.
        yaml, labels: the YAML and the folder of labels, if there are any.
    """

    path: Path
    description: Description | None = None
    yaml: Path | None = None
    labels: Path | None = None

    @property
    def inputs(self) -> dict[str, Path]:
        """Files and folders that it consists of, by what they are."""
        paths = {"the footage": self.path, "the labels": self.labels, "the description": self.yaml}
        return {name: path for name, path in paths.items() if path is not None}


def find_frames(path: Path) -> Given:
    """What a folder, a YAML file or a video file leads to.

    Raises:
        UsageError: nothing is there, or the YAML does not validate (with the field's path).
    """
    if os.path.isdir(path):
        yaml_file = path / DESCRIPTION
        return find_frames(yaml_file) if yaml_file.is_file() else Given(path)
    if not os.path.exists(path):
        raise UsageError(
            f"{path} is not there; give a folder of pictures, a video file or a YAML file that describes them"
        )
    if kind := no_file(path):
        raise UsageError(
            f"{path} is {kind}; give a folder of pictures, a video file or a YAML file that describes them"
        )
    if path.suffix.lower() in VIDEOS:
        return Given(path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise unknown("kind of footage", path.suffix, ["a folder", ".yaml", *VIDEOS], context=f" of {path}")
    description = _described(path)
    images, labels = (
        path.parent / (description.video or description.folder or "."),
        description.labels and path.parent / description.labels,
    )
    for field, folder in (("folder", None if description.video else images), ("labels", labels)):
        if folder is not None and not os.path.isdir(folder):
            raise UsageError(f"{path}: {field}: {short(folder)} is not a folder")
    if labels is not None and labels.resolve() == images.resolve():
        raise UsageError(f"{path}: labels: must be a folder of their own; the pictures' is open while a model adapts")
    return Given(images, description, path, labels)


def _described(path: Path) -> Description:
    try:
        content = load_yaml(path.read_text(encoding="utf-8", errors="replace"))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML that is read here: {short(error)}") from None
    described: Description = validated(Description, content, str(path))
    return described
