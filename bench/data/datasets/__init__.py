"""Data sets, one file each, found by file name: ``DATASET`` in it says what lies where and how it is read."""

from __future__ import annotations

from bench.core.registry import import_from, names_in

from ._base import Dataset, Item, locate


def dataset_names() -> list[str]:
    """Data sets at hand, one file each in this folder."""
    return names_in(__name__)


def dataset(name: str) -> Dataset:
    """A data set by name.

    Raises:
        UsageError: unknown name (with the nearest one).
    """
    found: Dataset = import_from(__name__, name, kind="data set").DATASET
    return found


__all__ = ["Dataset", "Item", "dataset", "dataset_names", "locate"]
