"""bfloat16's roundings around float32, against float32 and what torch does without AVX-512; numbers next to zero, too."""

import contextlib
import statistics
import time

import pytest
import torch

from bench.core import precision
from tests.benchmarks.measuring import measured

CPU = torch.device("cpu")


def seconds(context, layer, image, runs):
    """Median CPU time of a convolution, forward and backward."""
    times = []
    for _ in range(runs + 1):
        start = time.process_time()
        with context():
            output = layer(image)
        output.float().square().sum().backward()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def test_a_convolution(monkeypatch, benchmark):
    """At most twice float32; where the processor has no bfloat16, at least ten times as fast as torch's own."""
    native = precision.computes_bfloat16(CPU)
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: False)
    torch.manual_seed(0)
    layer, image = torch.nn.Conv2d(64, 64, 3, padding=1), torch.randn(4, 64, 32, 64, requires_grad=True)
    plain = seconds(lambda: torch.autocast("cpu", enabled=False), layer, image, 9)
    rounded = seconds(lambda: precision.bfloat16(CPU), layer, image, 9)
    print(f"\nfloat32 {1e3 * plain:.0f} ms, rounded {rounded / plain:.2f} x")
    measured(benchmark, "convolution with bfloat16's roundings", "float32", rounded / plain, most=2)
    assert rounded < 2 * plain
    if native:
        pytest.skip("this processor has bfloat16: torch's own is not slow")
    native_seconds = seconds(lambda: torch.autocast("cpu", torch.bfloat16), layer, image, 3)
    print(f"torch's own {native_seconds / rounded:.0f} x the rounded one")
    measured(
        benchmark,
        "convolution with bfloat16's roundings",
        "torch's own without AVX-512",
        native_seconds / rounded,
        least=10,
    )
    assert native_seconds > 10 * rounded


def test_a_convolution_of_numbers_next_to_zero(benchmark):
    """Of published weights many have decayed to such numbers; an Intel Xeon took over ten times as long for a step with them."""
    torch.manual_seed(0)
    layer, image = torch.nn.Conv2d(64, 64, 3, padding=1), torch.randn(4, 64, 32, 64, requires_grad=True)
    before = precision.flush_denormals()
    try:
        usual = seconds(contextlib.nullcontext, layer, image, 9)
        layer.weight.data.copy_(torch.full_like(layer.weight, 713_624, dtype=torch.int32).view(torch.float32))  # 1e-39
        tiny = seconds(contextlib.nullcontext, layer, image, 9)
    finally:
        precision.flush_denormals(before)
    print(f"\nusual weights {1e3 * usual:.0f} ms, weights of 1e-39 {tiny / usual:.2f} x")
    measured(benchmark, "convolution with weights of 1e-39", "with usual ones", tiny / usual, most=1.5)
    assert tiny < 1.5 * usual
