"""Splat against the per-pixel loop it replaces, at the score size of a 512x1024 frame: at least 40 times faster."""

import statistics
import time

import numpy as np
import torch

from stpl.warp import backward_warp, forward_splat
from tests.bench.networks.deeplab_as_published import splatted
from tests.benchmarks.measuring import measured

CLASSES, HEIGHT, WIDTH = 15, 65, 129


def scores_and_flow():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(1, CLASSES, HEIGHT, WIDTH, generator=g)
    return scores, 3 * torch.randn(1, 2, HEIGHT, WIDTH, generator=g, dtype=torch.float64)


def median_seconds(function, runs):
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def test_splat_is_40_times_faster_than_a_loop(benchmark):
    scores, flow = scores_and_flow()
    image, vectors = scores[0].numpy(), flow[0].numpy()
    assert np.array_equal(forward_splat(scores, flow)[0][0].numpy(), splatted(image, vectors))
    loop = median_seconds(lambda: splatted(image, vectors), 7)
    splat = median_seconds(lambda: forward_splat(scores, flow), 51)
    benchmark(forward_splat, scores, flow)
    measured(benchmark, "splat of 65×129 scores, 15 classes", "a loop over pixels", loop / splat, least=40)
    assert loop / splat >= 40


def test_warp_of_feature_maps(benchmark):
    """Forward and backward on a training batch of the mini network; no limit, for the record."""
    features = torch.randn(8, 96, 16, 32, requires_grad=True)
    flow = torch.randn(8, 2, 16, 32)
    benchmark(lambda: backward_warp(features, flow, padding="border").sum().backward())
