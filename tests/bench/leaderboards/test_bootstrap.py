"""The bootstrap against loops, and what must hold for any data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.leaderboards.bootstrap import Sequences, paired_bootstrap, plan, pooled_miou

K = 3


def sequences(size: int, skill: float, seed: int, classes: int = K) -> dict[str, np.ndarray]:
    """Random pixel counts of a method that gets about ``skill`` of them right; truth depends on ``seed`` alone."""
    world, luck = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    truth = world.integers(0, 200, (size, classes))
    hits = np.minimum(truth, (truth * np.clip(skill + luck.normal(0, 0.1, truth.shape), 0, 1)).astype(int))
    missed = (truth - hits).sum(1)
    predicted = hits.copy()
    predicted[:, 0] += missed  # all errors go to one class
    return {f"s{i}": np.stack([hits[i], truth[i], predicted[i]], 1).astype(np.int64) for i in range(size)}


def replicates(skill: float, n: int = 3, size: int = 7) -> dict[int, Sequences]:
    return {seed: sequences(size + seed, skill, seed) for seed in range(n)}


def slow_miou(drawn: list[np.ndarray]) -> float:
    """Pooled mIoU of a list of sequences, class by class."""
    ious = []
    for c in range(len(drawn[0])):
        tp, truth, predicted = (sum(int(counts[c, k]) for counts in drawn) for k in range(3))
        if truth + predicted - tp:
            ious.append(100 * tp / (truth + predicted - tp))
    return sum(ious) / len(ious)


def slow_bootstrap(a: dict[int, Sequences], b: dict[int, Sequences], draws: int) -> list[float]:
    """Loops over draws, replicates and sequences, with the same stream of numbers as :func:`plan`."""
    seeds = sorted(a)
    generator = np.random.RandomState(0)
    chosen = [[int(x) for x in row] for row in generator.randint(len(seeds), size=(draws, len(seeds)))]
    streams = []
    for number, seed in enumerate(seeds):
        times = sum(row.count(number) for row in chosen)
        streams.append(iter(generator.randint(len(a[seed]), size=(times, len(a[seed])))))
    means = []
    for row in chosen:
        gaps = []
        for number in row:
            names = sorted(a[seeds[number]])
            drawn = [names[i] for i in next(streams[number])]
            first, second = ([side[seeds[number]][name] for name in drawn] for side in (a, b))
            gaps.append(slow_miou(first) - slow_miou(second))
        means.append(sum(gaps) / len(gaps))
    return means


@pytest.mark.parametrize("n", [1, 3])
def test_the_bootstrap_equals_loops(n: int) -> None:
    a, b, draws = replicates(0.62, n), replicates(0.6, n), 60
    paired, means = paired_bootstrap(a, b, draws), slow_bootstrap(a, b, draws)
    assert paired is not None and (paired.replicates, paired.sequences) == (n, sum(len(clips) for clips in a.values()))
    assert (paired.low, paired.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-8)
    rarer = min(sum(x <= 0 for x in means), sum(x >= 0 for x in means))
    assert paired.p == pytest.approx(min(1, 2 * (1 + rarer) / (draws + 1)))
    observed = [slow_miou(list(a[s].values())) - slow_miou(list(b[s].values())) for s in a]
    assert paired.difference == pytest.approx(sum(observed) / n)


def test_pooled_miou_by_hand() -> None:
    # Class 0: 3 of 3 + 4 - 3 = 4; class 1: 1 of 2 + 1 - 1 = 2; class 2 nowhere: (75 + 50) / 2
    assert pooled_miou(np.array([[3, 3, 4], [1, 2, 1], [0, 0, 0]])) == 62.5


def test_equal_methods_do_not_differ() -> None:
    paired = paired_bootstrap(replicates(0.6), replicates(0.6))
    assert paired is not None and (paired.difference, paired.low, paired.high, paired.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_method_that_is_better_everywhere_is_better_in_every_draw() -> None:
    paired = paired_bootstrap(replicates(0.8), replicates(0.5))
    assert (
        paired is not None and 0 < paired.low < paired.difference < paired.high and paired.p == pytest.approx(2 / 2001)
    )


def test_it_is_antisymmetric_and_reproducible() -> None:
    a, b = replicates(0.62), replicates(0.6)
    forward, backward = paired_bootstrap(a, b), paired_bootstrap(b, a)
    plan.cache_clear()
    assert forward is not None and backward is not None and paired_bootstrap(a, b) == forward
    assert (backward.difference, backward.low, backward.high) == pytest.approx(
        (-forward.difference, -forward.high, -forward.low)
    )
    assert backward.p == forward.p


def test_drawing_replicates_too_widens_the_interval() -> None:
    """Replicates whose differences disagree: sequences within one of them know nothing of it."""
    a = {0: sequences(40, 0.8, 0), 1: sequences(40, 0.4, 1)}
    b = {0: sequences(40, 0.6, 0), 1: sequences(40, 0.6, 1)}
    two_seeds, one_seed = paired_bootstrap(a, b), paired_bootstrap({0: a[0]}, {0: b[0]})
    assert (
        two_seeds is not None
        and one_seed is not None
        and two_seeds.high - two_seeds.low > 2 * (one_seed.high - one_seed.low)
    )
    assert two_seeds.low < 0 < two_seeds.high


def test_only_shared_replicates_with_the_same_sequences_are_paired() -> None:
    a, b = replicates(0.7), replicates(0.6)
    assert paired_bootstrap(a, {9: b[0]}) is None and paired_bootstrap({}, {}) is None
    renamed = {0: {f"other {name}": counts for name, counts in b[0].items()}}
    assert paired_bootstrap({0: a[0]}, renamed) is None
    assert paired_bootstrap({0: {}}, {0: {}}) is None
    paired = paired_bootstrap(a, {0: b[0], 2: b[2]})
    assert paired is not None and paired.replicates == 2


def test_order_of_sequences_does_not_matter() -> None:
    a, b = replicates(0.62), replicates(0.6)
    turned = {seed: dict(reversed(clips.items())) for seed, clips in a.items()}
    assert paired_bootstrap(turned, b) == paired_bootstrap(a, b)


def test_interval_is_as_wide_as_the_spread_over_sequences_says() -> None:
    """One class, sequences of equal size: the mean over sequences, whose standard error is known."""
    rng = np.random.default_rng(0)
    hits = rng.integers(300, 700, 200)
    a = {0: {f"s{i:03d}": np.array([[h, 1000, h]]) for i, h in enumerate(hits)}}
    b = {0: {f"s{i:03d}": np.array([[500, 1000, 500]]) for i in range(200)}}
    paired = paired_bootstrap(a, b)
    half = 1.96 * 100 * (hits / 1000).std() / math.sqrt(200)
    assert paired is not None and (paired.high - paired.low) / 2 == pytest.approx(half, rel=0.1)


def test_the_draws_are_the_same_in_every_version_of_numpy() -> None:
    chosen, weights = plan((4, 3), 5)
    assert chosen.tolist() == [[0, 1], [1, 0], [1, 1], [1, 1], [1, 1]]
    assert [w.shape for w in weights] == [(2, 4), (8, 3)] and weights[0].sum(1).tolist() == [4, 4]
