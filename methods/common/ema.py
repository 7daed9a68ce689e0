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
def ema_update(average: nn.Module, model: nn.Module, decay: float) -> None:
    """``average <- decay average + (1 - decay) model``, parameters and buffers; integer buffers are copied.

    There is no ramp in the first steps, as there is where a mean teacher starts from random weights: here it starts as the
    source model, and a ramp would throw that away (on development worlds self-training then collapsed, leaderboards/tuning).
    """
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
