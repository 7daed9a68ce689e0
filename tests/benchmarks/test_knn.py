"""Exact nearest neighbours of 100,000 pixels, as a ratio to the matrix products that they cannot do without."""

from __future__ import annotations

import time
from typing import Any

import torch

from bench.analysis.knn import nearest
from tests.benchmarks.measuring import measured

PIXELS, CHANNELS, K = 100_000, 96, 50
LIMIT = 4.0
"""Times the products of all pixels with all pixels, block by block."""


def test_the_search_costs_a_few_times_its_products(benchmark: Any) -> None:
    torch.manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(PIXELS, CHANNELS), dim=1)
    began = time.perf_counter()
    nearest(features, torch.arange(PIXELS) // 256, K)
    searched = time.perf_counter() - began
    began = time.perf_counter()
    for block in features.split(1000):
        block @ features.T
    products = time.perf_counter() - began
    print(f"{PIXELS} pixels: {searched:.1f} s, {searched / products:.2f} times their products")
    measured(benchmark, f"nearest neighbours of {PIXELS:,} pixels", "their products", searched / products, most=LIMIT)
    assert searched <= LIMIT * products and searched <= 60
