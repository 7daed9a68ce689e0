"""Averages of weights over steps."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def frozen_copy(model: M) -> M:
    """A copy without gradients, in train mode (batch norm uses the batch's own statistics)."""
    twin = copy.deepcopy(model).requires_grad_(False)
    twin.train()
    return twin


@torch.no_grad()
def ema_update(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """``average <- d average + (1 - d) model`` with ``d = min(decay, (1 + step) / (10 + step))``; integer buffers are copied.

    The ramp (Tarvainen & Valpola, NeurIPS 2017) lets the average follow in the first steps.
    """
    d = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - d)
        else:
            mean.copy_(value)
