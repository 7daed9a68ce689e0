"""Feature maps: 2-D embeddings of pixels, and how far apart the classes lie. Pixels are compared as unit vectors."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import davies_bouldin_score, silhouette_score

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Kind = Literal["tsne", "pca"]
PERPLEXITY = 30.0


def unit_length(features: Floats) -> npt.NDArray[np.float64]:
    """Rows scaled to length 1; a row of zeros stays."""
    wide = np.asarray(features, np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(length > 0, length, 1)


def embed(features: Floats, kind: Kind = "tsne") -> npt.NDArray[np.float64]:
    """Pixels ``(N, C)`` in the plane, ``(N, 2)``, centred and scaled to a root mean square of 1; from a fixed seed.

    ``pca`` keeps the two directions of largest variance. ``tsne`` keeps neighbourhoods: distances between clusters, and their
    sizes, mean nothing in it.
    """
    unit = unit_length(features)
    if kind == "pca":
        points = PCA(2, svd_solver="full").fit_transform(unit)
    else:
        perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
        points = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(unit)
    points = np.asarray(points, np.float64)
    points -= points.mean(0)
    return np.asarray(points / np.sqrt((points**2).sum(1).mean()))


def separation(features: Floats, labels: Ints, classes: int) -> npt.NDArray[np.float64]:
    """Distance between class centres against the spread within, ``d_ij / (s_i + s_j)``, ``(K, K)``.

    ``d_ij`` is the distance between the centres (means) of two classes, ``s_i`` the mean distance of a class's pixels from its
    centre. Below 1 two classes overlap. The diagonal, and classes without a pixel, are NaN. Its reciprocal is the similarity of
    Davies and Bouldin (1979), whose index is the mean over classes of the largest one.
    """
    unit = unit_length(features)
    members = [unit[labels == number] for number in range(classes)]
    centres = np.array([m.mean(0) if len(m) else np.full(unit.shape[1], np.nan) for m in members])
    spread = np.array(
        [np.linalg.norm(m - c, axis=1).mean() if len(m) else np.nan for m, c in zip(members, centres, strict=True)]
    )
    between = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    np.fill_diagonal(between, np.nan)
    return np.asarray(between / (spread[:, None] + spread[None]))


def davies_bouldin(features: Floats, labels: Ints) -> float:
    """Davies-Bouldin index of the classes, lower is better separated (scikit-learn)."""
    return float(davies_bouldin_score(unit_length(features), labels))


def silhouette(features: Floats, labels: Ints) -> float:
    """Mean silhouette of the pixels by cosine distance, -1..1, higher is better separated (scikit-learn); takes N^2 time."""
    return float(silhouette_score(unit_length(features), labels, metric="cosine"))
