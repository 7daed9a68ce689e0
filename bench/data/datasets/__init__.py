"""Data sets, one file each, here or of one's own: ``DATASET`` in it says what lies where and how it is read."""

from __future__ import annotations

from bench.core.errors import RunError
from bench.core.loading import check_name, load
from bench.core.registry import names

from ._base import Dataset, Item, locate

PARTS = (*Dataset.__annotations__, "items", "read_frame", "read_label", "look", "guards", "belongs")
"""What a data set has."""


def dataset_names() -> list[str]:
    """Data sets at hand."""
    return names("dataset")


def dataset(name: str) -> Dataset:
    """A data set by name.

    Raises:
        UsageError: unknown name (with the nearest one), or a plugin that calls itself otherwise.
        RunError: its file cannot be loaded, or lacks something that a data set has.
    """
    data_set: Dataset = load("dataset", name).DATASET
    if missing := [part for part in PARTS if not hasattr(data_set, part)]:
        raise RunError(f"Data set '{name}': its DATASET has no {', '.join(missing)}; see bench.data.datasets.Dataset")
    check_name("dataset", name, data_set.name)
    return data_set


__all__ = ["Dataset", "Item", "dataset", "dataset_names", "locate"]
