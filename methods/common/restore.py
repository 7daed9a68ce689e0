"""Stochastic restoration: now and then a weight goes back to what it was."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def restore_weights(model: nn.Module, anchor: nn.Module, share: float, generator: torch.Generator) -> None:
    """``w <- m w_anchor + (1 - m) w`` with ``m ~ Bernoulli(share)`` for every element of every trained parameter.

    Args:
        model: changed in place; parameters without gradient stay, and so do buffers.
        anchor: a module of the same structure.
        share: expected share of the elements that go back, 0..1.
        generator: on the parameters' device.

    Source: CoTTA (Wang et al., CVPR 2022), stochastic restoration; published code.
    """
    for weight, original in zip(model.parameters(), anchor.parameters(), strict=True):
        if weight.requires_grad:
            back = torch.rand(weight.shape, generator=generator, device=generator.device) < share
            weight.copy_(torch.where(back, original, weight))
