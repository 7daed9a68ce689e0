"""Label spaces of the real shifts: which classes there are and what each data set's own ids become.

Maps are written by class name. Cityscapes ids and colours come from the official scripts, the others from the data set's file in
``bench/data/datasets``; every id that is not named becomes 255.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bench.core.errors import UsageError, unknown

from .datasets import dataset
from .labels import CLASSES, IGNORE

Table = npt.NDArray[np.uint8]

OWN_NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "viper": {"light": ("trafficlight",), "sign": ("trafficsign",), "vegetation": ("tree", "vegetation")},
    "cityscapes_seq": {"light": ("traffic light",), "sign": ("traffic sign",)},
    "synthia_seq": {"person": ("pedestrian",), "rider": ("cyclist",)},
}
"""Data set to class to the data set's own names for it, where they differ from the class name."""

_SPACES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "viper2cityscapes": (CLASSES, ("viper", "cityscapes_seq"), ()),
    "synthia2cityscapes": (
        (
            "road",
            "sidewalk",
            "building",
            "fence",
            "pole",
            "light",
            "sign",
            "vegetation",
            "sky",
            "person",
            "rider",
            "car",
        ),
        ("synthia_seq", "cityscapes_seq"),
        ("fence",),
    ),
}
"""Name to classes in train-id order, data sets, and classes that are trained but not scored."""


@dataclass(frozen=True, eq=False)
class LabelSpace:
    """The classes of a shift and how the ids of its data sets lead to them.

    Attributes:
        name: of the shift it belongs to.
        classes: in train-id order.
        palette: RGB by train id; ignored pixels are black.
        ids: data set name to a table, uint8 ``(256,)``, of train ids by raw id; 255 = ignore.
        skipped: classes that are trained and stand in the confusion matrix, but are left out of the mean.
        label_ids: Cityscapes label id by train id, for pictures that the official evaluator reads.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ids: Mapping[str, Table] = field(repr=False)
    skipped: tuple[str, ...]
    label_ids: tuple[int, ...]

    @property
    def scored(self) -> tuple[int, ...]:
        """Train ids that count in the mean."""
        return tuple(i for i, name in enumerate(self.classes) if name not in self.skipped)


def own_names(data: str, cls: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The data set's own names for a class. Where a space has no riders, those of Cityscapes are persons (VIPER has none)."""
    aliases = OWN_NAMES.get(data) or getattr(dataset(data), "own_names", {})
    names = tuple(aliases.get(cls, (cls,)))
    if data == "cityscapes_seq" and cls == "person" and "rider" not in classes:
        names = (*names, "rider")
    return names


def _table(data: str, classes: tuple[str, ...]) -> Table:
    table = np.full(256, IGNORE, np.uint8)
    raw_of: dict[str, int] = {}
    for raw, name in dataset(data).names.items():
        raw_of.setdefault(name, raw)
    for train, cls in enumerate(classes):
        for name in own_names(data, cls, classes):
            if name not in raw_of:
                raise UsageError(f"'{data}' has no class '{name}' among its own: {', '.join(raw_of)}")
            if 0 <= raw_of[name] < 256:  # Cityscapes has an id -1, which no file holds
                table[raw_of[name]] = train
    table.setflags(write=False)
    return table


def id_table(data: str, classes: tuple[str, ...]) -> Table:
    """Train ids by raw id of a data set, uint8 ``(256,)``: of a label space if the classes are one, else by class name.

    A data set that this repository does not hold may have ``own_names``: class to its own names for it, where they differ.

    Raises:
        UsageError: the data set has no class of such a name.
    """
    space = next(
        (named_space(name) for name, (space_classes, _, _) in _SPACES.items() if space_classes == tuple(classes)), None
    )
    return space.ids[data] if space and data in space.ids else _table(data, tuple(classes))


@lru_cache
def named_space(name: str) -> LabelSpace:
    """Label space by name.

    Raises:
        UsageError: unknown name.
    """
    from cityscapesscripts.helpers.labels import name2label

    if name not in _SPACES:
        raise unknown("label space", name, _SPACES)
    classes, data, skipped = _SPACES[name]
    official = [name2label[own_names("cityscapes_seq", cls, classes)[0]] for cls in classes]
    return LabelSpace(
        name=name,
        classes=classes,
        palette=tuple(label.color for label in official),
        ids={data_set: _table(data_set, classes) for data_set in data},
        skipped=skipped,
        label_ids=tuple(label.id for label in official),
    )


def label_space(classes: tuple[str, ...]) -> LabelSpace:
    """Label space by its class names, in train-id order.

    Raises:
        UsageError: no space has exactly these classes.
    """
    for name, (space_classes, _, _) in _SPACES.items():
        if space_classes == tuple(classes):
            return named_space(name)
    spaces = "; ".join(f"{name}: {', '.join(space_classes)}" for name, (space_classes, _, _) in _SPACES.items())
    raise UsageError(f"No label space has the classes {', '.join(classes)}. There are {spaces}")


def space_names() -> list[str]:
    """Names of the label spaces."""
    return sorted(_SPACES)
