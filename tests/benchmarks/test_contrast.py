"""Contrast, forward and backward, 128-d, against the three N x N x 128 products that it cannot avoid.

Limits: at most twice their time at N = 4,096 and 16,384 on two threads, and at most 0.5 GB of extra memory at 16,384.
"""

import json
import statistics
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F

from stpl.contrast import pixel_contrast
from tests.benchmarks.measuring import measured

DIM, CLASSES, LIMIT = 128, 15, 2.0

MEMORY = """
import json, torch
import torch.nn.functional as F
from stpl.contrast import pixel_contrast

torch.set_num_threads(2)
def run(n):
    z = F.normalize(torch.randn(n, 128), dim=1).requires_grad_()
    pixel_contrast(z, torch.randint(0, 15, (n,))).backward()
def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))
run(64)  # libraries start their threads and workspaces
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak counts from here; a process starts with its parent's
before = status("VmRSS")
run(16384)
print(json.dumps((status("VmHWM") - before) / 2**20))
"""


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def three_products(z):
    """What forward and both sides of the gradient need at least, into memory that is there already."""
    similarities, gradient = torch.empty(len(z), len(z)), torch.empty_like(z)

    def run():
        torch.mm(z, z.t(), out=similarities)
        torch.mm(similarities, z, out=gradient)
        torch.mm(similarities.t(), z, out=gradient)

    return run


def interleaved_medians(first, second, runs):
    """Medians of two functions timed in turn, so that a busy machine slows both."""
    times = [], []
    first(), second()
    for _ in range(runs):
        for function, samples in zip((first, second), times, strict=True):
            start = time.perf_counter()
            function()
            samples.append(time.perf_counter() - start)
    return [statistics.median(samples) for samples in times]


@pytest.mark.parametrize("denominator", ["pair", "supcon"])
@pytest.mark.parametrize("count", [4096, 16384])
def test_contrast_takes_at_most_twice_its_matrix_products(benchmark, count, denominator):
    g = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(count, DIM, generator=g), dim=1).requires_grad_()
    labels = torch.randint(0, CLASSES, (count,), generator=g)

    def contrast():
        features.grad = None
        pixel_contrast(features, labels, denominator=denominator).backward()

    products, seconds = interleaved_medians(three_products(features.detach()), contrast, 15 if count < 10_000 else 5)
    benchmark.pedantic(contrast, rounds=3)
    label = f"contrast ({denominator}) of {count:,} pixels, 128-d"
    measured(benchmark, label, "its three matrix products", seconds / products, most=LIMIT)
    assert seconds <= LIMIT * products


def test_contrast_of_16384_pixels_needs_at_most_half_a_gigabyte(benchmark):
    completed = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    extra = json.loads(completed.stdout)
    benchmark.extra_info.update(extra_gib=extra, limit=0.5)
    benchmark.pedantic(lambda: None)  # a record to carry the number
    assert 0 < extra <= 0.5
