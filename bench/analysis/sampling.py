"""Which pixels of the validation clips are looked at: the same ones for every model of a replicate.

A *cell* is one place of the feature grid. Its class is the label at its centre (nearest neighbour), the rule by which STPL's own
contrast brings label maps to the feature size; cells whose centre is ignored (255) are left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.core.seeding import seed_for
from bench.data.labels import IGNORE

Ints = npt.NDArray[np.int64]


def cell_labels(label: npt.NDArray[np.integer], grid: tuple[int, int]) -> Ints:
    """Labels ``(H, W)`` at the centres of a grid's cells, ``(h, w)``.

    >>> cell_labels(np.arange(16).reshape(4, 4), (2, 2)).tolist()
    [[5, 7], [13, 15]]
    """
    rows, columns = (
        np.minimum(((np.arange(cells) + 0.5) * size / cells).astype(np.int64), size - 1)
        for cells, size in zip(grid, label.shape, strict=True)
    )
    return label[np.ix_(rows, columns)].astype(np.int64)


def chosen_cells(labels: Ints, quota: int, seed: int, clip: int) -> Ints:
    """Flat numbers of the cells of a clip that are looked at, ascending: at most ``quota`` that are not ignored.

    They are drawn uniformly, so classes keep their frequency. The draw depends on the replicate, the clip and the grid's labels;
    the model has no part in it.
    """
    counted = np.flatnonzero(labels.ravel() != IGNORE)
    if len(counted) <= quota:
        return counted
    draw = np.random.default_rng(seed_for(seed, "analysis", "cells", clip))
    return np.sort(draw.permutation(counted)[:quota])


def balanced(labels: Ints, per_class: int, seed: int) -> Ints:
    """Positions, ascending, of at most ``per_class`` cells of every class among ``labels`` ``(N,)``; all of a rarer class."""
    chosen = []
    for number in np.unique(labels):
        of_class = np.flatnonzero(labels == number)
        draw = np.random.default_rng(seed_for(seed, "analysis", "balanced", int(number)))
        chosen.append(draw.permutation(of_class)[:per_class])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
