"""What GPUs can do, by their makers' data sheets, and what of it this code is assumed to get."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from bench.core.errors import unknown
from bench.core.no_gpu import Operation


class Gpu(NamedTuple):
    """A GPU.

    Attributes:
        memory: GB (1e9 bytes).
        bandwidth: of its memory, GB/s.
        bfloat16, float32: dense TFLOP/s with sums in float32: of tensor cores, and outside them (this code keeps TF32 off).
        source: the maker's document.
    """

    memory: float
    bandwidth: float
    bfloat16: float
    float32: float
    source: str


GPUS = {
    "h200": Gpu(141, 4800, 989, 67, "NVIDIA H200 data sheet (SXM; half of what it states with sparsity)"),
    "h100": Gpu(80, 3350, 989, 67, "NVIDIA H100 data sheet (SXM; half of what it states with sparsity)"),
    "h100-pcie": Gpu(80, 2000, 756, 51, "NVIDIA H100 data sheet (PCIe; half of what it states with sparsity)"),
    "a100": Gpu(80, 2039, 312, 19.5, "NVIDIA A100 data sheet (80 GB SXM)"),
    "a100-40gb": Gpu(40, 1555, 312, 19.5, "NVIDIA A100 data sheet (40 GB)"),
    "l40s": Gpu(48, 864, 362, 91.6, "NVIDIA L40S data sheet (dense)"),
    "l4": Gpu(24, 300, 121, 30.3, "NVIDIA L4 data sheet (half of what it states with sparsity)"),
    "4090": Gpu(24, 1008, 165.2, 82.6, "NVIDIA Ada GPU architecture whitepaper (GeForce RTX 4090, sums in float32)"),
    "3090": Gpu(24, 936, 71, 35.6, "NVIDIA GA102 architecture whitepaper (GeForce RTX 3090, sums in float32)"),
}
ARITHMETIC, BANDWIDTH, LAUNCH = 0.4, 0.6, 2e-5
"""Assumed: shares of a data sheet's arithmetic and bandwidth that an operation reaches, and seconds that it takes at least: the
processor's, which issues it. With these, full-size steps of the 21 trained methods on an H200 (``tests/gpu/h200.json``, whose
plans had 8e-6 and were 1.4 to 3.2 times too short) took 0.76 to 2.14 times what ``bench plan viper2cityscapes --gpu h200`` says."""
CONTEXT = 1.5
"""GB assumed for CUDA's context, libraries' workspaces and gaps between blocks."""


def gpu_of(name: str) -> Gpu:
    """A GPU by name.

    Raises:
        UsageError: not in the table.
    """
    if name not in GPUS:
        raise unknown("GPU", name, GPUS)
    return GPUS[name]


def seconds(operations: Iterable[Operation], gpu: Gpu) -> float:
    """Time of operations one after the other, each bound by arithmetic, by memory or by its launch."""
    halves = (torch.bfloat16, torch.float16)
    total = 0.0
    for operation in operations:
        peak = (gpu.bfloat16 if operation.dtype in halves else gpu.float32) * 1e12 * ARITHMETIC
        total += max(operation.flops / peak, operation.bytes / (gpu.bandwidth * 1e9 * BANDWIDTH), LAUNCH)
    return total
