"""Share of same-class pixels among the k nearest neighbours in feature space: exact search, in chunks.

The analysis of the STPL paper. What the paper leaves open is fixed here, before any number was looked at:

* A pixel's representation is the fused feature ``S_t`` that the classifier takes, scaled to unit length; nearest means the
  largest cosine, which orders as the Euclidean distance between unit vectors does. STPL's own contrast compares by cosine.
* A pixel is not its own neighbour, and neither is any pixel of its own clip: those share most of their receptive field, so that
  they are near one another whether or not the network knows what they show. The variant that counts them stands beside.
* Classes keep their natural frequency. "Mean over classes" weights classes equally; "over pixels" weights pixels equally. In the
  balanced variant the sample itself has equally many pixels of each class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

K = 50
"""Neighbours: the curves run from 1 to this."""
HEADLINE = 10
"""The k at which single numbers are given."""
MARGIN = 14
"""Candidates beyond k that are scored again in float64."""
BUDGET = 2**24
"""Similarities held at a time (64 MB in float32), so memory does not grow with the square of the pixels."""


def rows_per_chunk(pixels: int, budget: int = BUDGET) -> int:
    """Queries whose similarities to all pixels fit into the budget; at least one."""
    return max(1, budget // max(1, pixels))


@torch.no_grad()
def nearest(features: Tensor, groups: Tensor, k: int = K, chunk: int | None = None) -> Tensor:
    """The k nearest neighbours of every pixel by cosine, nearest first, among pixels of other groups.

    The search is exact: candidates come from a float32 product and are ordered by their float64 cosine. Where its rounding
    error leaves open whether a pixel outside the candidates is nearer, all that come into question are scored again. Equal
    cosines are ordered by the pixel's number. So neither ``chunk`` nor the number of threads changes the result.

    Args:
        features: float ``(N, C)``.
        groups: integer ``(N,)``; neighbours come from other groups than the query's own.
        k: neighbours per pixel.
        chunk: queries at a time; default: as many as :data:`BUDGET` allows.

    Returns:
        int64 ``(N, k)`` pixel numbers.

    Raises:
        ValueError: a feature is not finite, or some pixel has fewer than k pixels in other groups.
    """
    if not bool(torch.isfinite(features).all()):
        raise ValueError("features must be finite")
    total = len(features)
    available = total - int(torch.unique(groups, return_counts=True)[1].max()) if total else 0
    if not 1 <= k <= available:
        raise ValueError(f"k must be in 1..{available} (pixels in other groups), got {k}")
    unit = F.normalize(features.double(), dim=1)
    rough_unit = unit.float()
    neighbours = torch.empty(total, k, dtype=torch.int64)
    rows = chunk or rows_per_chunk(total)
    for start in range(0, total, rows):
        queries, query_groups = unit[start : start + rows], groups[start : start + rows]
        rough = rough_unit[start : start + rows] @ rough_unit.T
        rough.masked_fill_(query_groups[:, None] == groups, -torch.inf)
        neighbours[start : start + rows] = _nearest_of(queries, unit, rough, k, available).cpu()
    return neighbours


def _nearest_of(queries: Tensor, unit: Tensor, rough: Tensor, k: int, available: int) -> Tensor:
    """Neighbours ``(rows, k)`` from float32 similarities ``(rows, N)`` of queries to all pixels; -inf is no neighbour."""
    values, candidates = rough.topk(min(k + MARGIN, available))
    candidates, order = candidates.sort(1)  # by number, so that a stable sort by cosine leaves ties in that order
    cosines = _cosines(queries[:, None], unit[candidates]).masked_fill_(values.gather(1, order).isneginf(), -torch.inf)
    ranked, order = cosines.sort(dim=1, descending=True, stable=True)
    neighbours = candidates.gather(1, order[:, :k])
    # |float32 product - cosine| of unit vectors is below (C + 2) / 2 machine epsilons; half of this.
    error = 1.2e-7 * (unit.shape[1] + 2)
    doubtful = ranked[:, k - 1] <= values[:, -1].double() + error
    for row in doubtful.nonzero()[:, 0].tolist():
        possible = (rough[row].double() >= ranked[row, k - 1] - error).nonzero()[:, 0]
        exact = _cosines(queries[row], unit[possible])
        neighbours[row] = possible[exact.sort(descending=True, stable=True)[1][:k]]
    return neighbours


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """Inner products over the last dimension, float64: the same number for the same two vectors, wherever they stand."""
    return (a * b).sum(-1)


def same_class(labels: Tensor, neighbours: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Percentage of neighbours of the query's class, for every number of neighbours from 1 to k.

    Args:
        labels: integer ``(N,)`` in ``0..classes - 1``.
        neighbours: ``(N, k)`` from :func:`nearest`.

    Returns:
        Over all queries, float64 ``(k,)``; by the query's class, ``(classes, k)``, NaN for a class without a query.
    """
    hits = (labels[neighbours] == labels[:, None]).cumsum(1)  # exact integers up to here
    by_class = torch.zeros(classes, hits.shape[1], dtype=torch.int64).index_add_(0, labels, hits)
    queries = torch.bincount(labels, minlength=classes)
    numbers = torch.arange(1, hits.shape[1] + 1)
    return (
        100 * by_class.sum(0).double() / (numbers * queries.sum()),
        100 * by_class.double() / (numbers * queries[:, None]),
    )
