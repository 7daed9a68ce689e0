"""The numbers of the analysis: neighbours against scikit-learn, separation and calibration against slow references."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import davies_bouldin_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from bench.analysis import embedding, knn, sampling
from bench.analysis.calibration import Reliability, expected_calibration_error


def pixels(n: int = 700, channels: int = 12, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Overlapping clusters: features, labels, and the clip of each (of about ten pixels)."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=draw)
    centres = torch.randn(classes, channels, generator=draw)
    features = centres[labels] + 1.5 * torch.randn(n, channels, generator=draw)
    return features, labels, torch.randint(n // 10, (n,), generator=draw)


def brute(features: Tensor, groups: Tensor, k: int) -> Tensor:
    """The k nearest pixels of other groups by scikit-learn's brute force; equal distances go by the pixel's number."""
    model = NearestNeighbors(n_neighbors=len(features), algorithm="brute", metric="cosine")
    distances, order = model.fit(features.double().numpy()).kneighbors(features.double().numpy())
    neighbours = []
    for row, (far, candidates) in enumerate(zip(np.round(distances, 12), order, strict=True)):
        ranked = sorted((d, int(w)) for d, w in zip(far, candidates, strict=True) if groups[w] != groups[row])
        neighbours.append([pixel for _, pixel in ranked[:k]])
    return torch.tensor(neighbours)


# Neighbours -----------------------------------------------------------------------------------------------------------


def test_neighbours_and_percentages_are_those_of_scikit_learn_exactly() -> None:
    features, labels, _ = pixels()
    groups = torch.arange(len(features))
    neighbours = knn.nearest(features, groups, 50)
    model = NearestNeighbors(n_neighbors=51, algorithm="brute", metric="cosine").fit(features.double().numpy())
    truth = model.kneighbors(features.double().numpy(), return_distance=False)[:, 1:]  # the first is the pixel itself
    assert torch.equal(neighbours, torch.from_numpy(truth.copy()))
    overall, by_class = knn.same_class(labels, neighbours, 4)
    same_class = labels.numpy()[truth] == labels.numpy()[:, None]
    for k in (1, 7, 50):
        assert float(overall[k - 1]) == pytest.approx(100 * same_class[:, :k].mean(), abs=1e-12)
        for number in range(4):
            expected = 100 * same_class[labels.numpy() == number, :k].mean()
            assert float(by_class[number, k - 1]) == pytest.approx(expected, abs=1e-12)


def test_ties_go_to_the_lower_number_and_own_clips_are_left_out() -> None:
    distinct, _, _ = pixels(60)
    features = distinct.repeat(5, 1)[torch.randperm(300, generator=torch.Generator().manual_seed(1))]
    labels, clips = torch.arange(300) % 3, torch.arange(300) // 12
    neighbours = knn.nearest(features, clips, 11)  # five copies of each: 11 cuts through the third group of equals
    assert torch.equal(neighbours, brute(features, clips, 11))
    assert (clips[neighbours] != clips[:, None]).all()
    assert knn.same_class(labels, neighbours, 3)[0].shape == (11,)


def test_more_equal_pixels_than_candidates_are_still_ordered() -> None:
    features = torch.ones(200, 5)
    neighbours = knn.nearest(features, torch.arange(200), 3)
    assert (
        neighbours[0].tolist() == [1, 2, 3]
        and neighbours[1].tolist() == [0, 2, 3]
        and neighbours[150].tolist() == [0, 1, 2]
    )


def test_nearly_equal_cosines_are_told_apart_in_float64() -> None:
    angles = 1e-5 * torch.arange(120, dtype=torch.float64)  # cosines differ by less than float32 can hold
    features = torch.stack([angles.cos(), angles.sin()], 1).float()
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    exact = (unit @ unit.T).fill_diagonal_(-2)
    neighbours = knn.nearest(features, torch.arange(120), 20)
    worst = exact.gather(1, neighbours).amin(1)
    assert ((exact > worst[:, None] + 1e-15).sum(1) <= 20).all()


@pytest.mark.parametrize("chunk", [1, 7, 64, 699, 5000])
def test_the_chunk_does_not_change_the_result(chunk: int) -> None:
    features, _, clips = pixels()
    assert torch.equal(knn.nearest(features, clips, 50, chunk), knn.nearest(features, clips, 50))


def test_no_square_matrix_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    inner = knn._nearest_of

    def watched(queries: Tensor, unit: Tensor, rough: Tensor, k: int, available: int) -> Tensor:
        shapes.append(tuple(rough.shape))
        return inner(queries, unit, rough, k, available)

    monkeypatch.setattr(knn, "_nearest_of", watched)
    monkeypatch.setattr(knn, "BUDGET", 70_000)
    monkeypatch.setattr(knn.rows_per_chunk, "__defaults__", (70_000,))
    features, _, clips = pixels()
    knn.nearest(features, clips, 5)
    assert shapes == [(100, 700)] * 7
    assert knn.rows_per_chunk(100_000, 2**24) == 167 and knn.rows_per_chunk(10**9) == 1


MEMORY = """
import resource, torch
from bench.analysis.knn import nearest
torch.set_num_threads(1)
nearest(torch.randn(200, 8), torch.arange(200), 50)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest(torch.randn(16_000, 8), torch.arange(16_000), 50)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_stays_far_below_the_square() -> None:
    process = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(process.stdout) < 500 < 16_000**2 * 4 / 2**20  # MB; the square would take 977


def test_a_share_worked_out_by_hand() -> None:
    labels = torch.tensor([0, 0, 1])
    neighbours = torch.tensor([[1, 2], [2, 0], [0, 1]])
    overall, by_class = knn.same_class(labels, neighbours, 3)
    assert overall.tolist() == pytest.approx([100 / 3, 100 / 3])  # 1 of 3, 2 of 6
    assert by_class[:2].tolist() == [[50.0, 50.0], [0.0, 0.0]]  # class 0: 1 of 2, then 2 of 4
    assert by_class[2].isnan().all()


@pytest.mark.parametrize(
    ("features", "groups", "k", "says"),
    [
        (torch.ones(4, 2), torch.arange(4), 4, r"k must be in 1..3 .*got 4"),
        (torch.ones(4, 2), torch.zeros(4), 1, r"k must be in 1..0"),
        (torch.full((4, 2), math.nan), torch.arange(4), 1, "finite"),
    ],
)
def test_what_has_no_neighbours_is_refused(features: Tensor, groups: Tensor, k: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        knn.nearest(features, groups, k)


# Sampling -------------------------------------------------------------------------------------------------------------


def test_cells_take_the_label_at_their_centre() -> None:
    label = np.zeros((8, 16), np.uint8)
    label[4, 12] = 7  # centre of the last of 1 x 2 cells of 8 x 8 pixels
    assert sampling.cell_labels(label, (1, 2)).tolist() == [[0, 7]]
    assert sampling.cell_labels(label, (8, 16)).tolist() == label.tolist()


def test_the_sample_depends_on_replicate_and_clip_alone_and_skips_ignored_cells() -> None:
    labels = np.tile(np.array([0, 1, 255, 2]), (6, 5))
    chosen = sampling.chosen_cells(labels, 20, seed=0, clip=3)
    assert len(set(chosen)) == 20 and (np.diff(chosen) > 0).all() and 255 not in labels.ravel()[chosen]
    assert (chosen == sampling.chosen_cells(labels, 20, 0, 3)).all()
    assert (chosen != sampling.chosen_cells(labels, 20, 0, 4)).any()
    assert (chosen != sampling.chosen_cells(labels, 20, 1, 3)).any()
    assert (sampling.chosen_cells(labels, 1000, 0, 3) == np.flatnonzero(labels.ravel() != 255)).all()


def test_a_balanced_sample_has_equally_many_of_each_class_or_all() -> None:
    labels = np.repeat([0, 1, 2], [100, 30, 5])
    chosen = sampling.balanced(labels, 20, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [20, 20, 5] and (np.diff(chosen) > 0).all()


# Feature maps ---------------------------------------------------------------------------------------------------------


def test_separation_is_the_reciprocal_of_davies_and_bouldin() -> None:
    features, labels, _ = pixels()
    ratios = embedding.separation(features.numpy(), labels.numpy(), 5)
    assert (
        np.isnan(ratios[4]).all()
        and np.isnan(np.diag(ratios)).all()
        and np.allclose(ratios[:4, :4], ratios.T[:4, :4], equal_nan=True)
    )
    index = np.nanmax(1 / ratios[:4, :4], axis=1).mean()
    unit = embedding.unit_length(features.numpy())
    assert index == pytest.approx(davies_bouldin_score(unit, labels.numpy()), rel=1e-10)
    assert embedding.davies_bouldin(features.numpy(), labels.numpy()) == pytest.approx(index)


def test_separation_by_hand() -> None:
    features = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, -3.0]])
    ratios = embedding.separation(features, np.array([0, 0, 1, 1]), 2)
    assert ratios[0, 1] == pytest.approx(1.0)  # centres (1, 0) and (0, 0): 1 apart; spreads 0 and 1


def test_silhouette_rises_with_the_distance_of_the_classes() -> None:
    features, labels, _ = pixels(300)
    far = features + 20 * torch.nn.functional.one_hot(labels, 12)
    values = [embedding.silhouette(x.numpy(), labels.numpy()) for x in (features, far)]
    assert -1 <= values[0] < values[1] - 0.3 <= 1


@pytest.mark.parametrize("kind", ["pca", "tsne"])
def test_embeddings_keep_clusters_apart_and_are_the_same_again(kind: Any) -> None:
    features, labels, _ = pixels(120, classes=3)
    far = (features + 20 * torch.nn.functional.one_hot(labels, 12)).numpy()
    points = embedding.embed(far, kind)
    assert points.shape == (120, 2) and np.allclose(points.mean(0), 0) and (points**2).sum(1).mean() == pytest.approx(1)
    assert (points == embedding.embed(far, kind)).all()
    near = NearestNeighbors(n_neighbors=2).fit(points).kneighbors(points, return_distance=False)[:, 1]
    assert (labels.numpy()[near] == labels.numpy()).mean() > 0.95


# Calibration ----------------------------------------------------------------------------------------------------------


def slow_error(confidence: list[float], correct: list[bool], bins: int = 15) -> float:
    """The definition, bin by bin and pixel by pixel."""
    error = 0.0
    for b in range(bins):
        inside = [i for i, p in enumerate(confidence) if b / bins < p <= (b + 1) / bins]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            mean = sum(confidence[i] for i in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(accuracy - mean)
    return error


def test_calibration_error_equals_the_slow_loop_in_any_batches() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.uniform(1 / 15, 1, 500)
    correct = draw.uniform(size=500) < confidence**2
    reliability = Reliability()
    for batch in np.array_split(np.arange(500), 7):
        reliability.update(torch.from_numpy(confidence[batch]), torch.from_numpy(correct[batch]))
    assert int(reliability.count.sum()) == 500
    means = (reliability.count, reliability.confidence / reliability.count, reliability.right / reliability.count)
    expected = slow_error(confidence.tolist(), correct.tolist())
    assert expected_calibration_error(*means) == pytest.approx(expected, abs=1e-12) and expected > 0.1


def test_calibration_error_by_hand() -> None:
    reliability = Reliability(2)
    reliability.update(torch.tensor([0.5, 0.75, 1.0]), torch.tensor([True, False, True]))
    assert reliability.count.tolist() == [1, 2]  # a confidence on an edge falls into the lower bin
    count, accuracy = reliability.count, reliability.right / reliability.count
    # |1 - 0.5| on a third of the pixels, |0.5 - 0.875| on two thirds
    error = expected_calibration_error(count, reliability.confidence / count, accuracy)
    assert error == pytest.approx(0.5 / 3 + 0.375 * 2 / 3)


def test_empty_bins_count_nothing() -> None:
    nan = math.nan
    assert expected_calibration_error(*torch.tensor([[0.0, 4.0], [nan, 0.75], [nan, 0.5]])) == 0.25
