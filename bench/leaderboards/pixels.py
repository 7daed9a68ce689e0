"""Pixels of the target sequences of many records: as small as they can be kept, and summed over many draws at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bench.runs.sequences import Counts


@lru_cache(maxsize=64)
def _places(names: tuple[str, ...]) -> dict[str, int]:
    """Number of each sequence; records of one data set share it."""
    return {name: number for number, name in enumerate(names)}


class Pixels(Mapping[str, Counts]):
    """Pixels by sequence, sorted by name, ``(K, 3)`` each: true positives, truth, predicted.

    Args:
        places: number of each sequence.
        counts: ``(S, K, 3)``, whole numbers.
    """

    def __init__(self, places: Mapping[str, int], counts: npt.NDArray[np.integer]) -> None:
        self.places, self.counts = places, counts

    @classmethod
    def of(cls, sequences: Mapping[str, Counts]) -> Pixels:
        """The same in the smallest type that holds every number."""
        if isinstance(sequences, cls):
            return sequences
        names = tuple(sorted(sequences))
        counts = np.stack([sequences[name] for name in names])
        return cls(_places(names), counts.astype(np.min_scalar_type(int(counts.max(initial=0)))))

    def of_classes(self, numbers: Sequence[int]) -> Pixels:
        """Of some of the K classes alone."""
        return self if len(numbers) == self.counts.shape[1] else Pixels(self.places, self.counts[:, list(numbers)])

    def __getitem__(self, name: str) -> Counts:
        found: Counts = self.counts[self.places[name]].astype(np.int64)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
