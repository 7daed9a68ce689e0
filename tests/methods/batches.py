"""Random clips, by a seed."""

from __future__ import annotations

import torch

from methods.base import ClipBatch

CLASSES = 5


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(n: int = 2, t: int = 2, height: int = 32, width: int = 48, seed: int = 0) -> ClipBatch:
    g = seeded(seed)
    frames = torch.rand(n, t, 3, height, width, generator=g)
    flow = 3 * torch.randn(n, t - 1, 2, height, width, generator=g)
    valid = torch.rand(n, t - 1, height, width, generator=g) > 0.2
    return ClipBatch(frames, flow, valid, tuple(f"c{i}" for i in range(n)))
