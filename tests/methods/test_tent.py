"""tent: entropy, and nothing but batch norm's affine weights moves."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from methods.base import Setup
from methods.common import soft_cross_entropy
from methods.tent import Tent, TentSettings


def affine(segmenter: nn.Module) -> set[str]:
    return {
        f"{name}.{kind}"
        for name, module in segmenter.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for kind in ("weight", "bias")
    }


def test_soft_cross_entropy_against_a_loop() -> None:
    g = torch.Generator().manual_seed(0)
    scores, q = torch.randn(2, 3, 2, 2, generator=g), torch.rand(2, 3, 2, 2, generator=g).softmax(1)
    total = 0.0
    for n in range(2):
        for y in range(2):
            for x in range(2):
                log_sum = math.log(sum(math.exp(float(s)) for s in scores[n, :, y, x]))
                total -= sum(float(q[n, c, y, x]) * (float(scores[n, c, y, x]) - log_sum) for c in range(3))
    assert float(soft_cross_entropy(scores, q)) == pytest.approx(total / 8, rel=1e-5)


def test_the_entropy_of_an_even_prediction_is_ln_k_and_of_a_sure_one_0() -> None:
    even, sure = torch.zeros(1, 4, 2, 2), torch.tensor([100.0, 0, 0, 0]).view(1, 4, 1, 1)
    assert float(soft_cross_entropy(even, even.softmax(1))) == pytest.approx(math.log(4))
    assert float(soft_cross_entropy(sure, sure.softmax(1))) == pytest.approx(0.0, abs=1e-6)
    scores = torch.randn(1, 3, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: soft_cross_entropy(s, s.softmax(1)), scores)


def test_only_batch_norms_affine_weights_move(stand_in: Any) -> None:
    method = stand_in.method("tent")
    before = {name: p.detach().clone() for name, p in method.segmenter.named_parameters()}
    stand_in.step(method, 0)
    moved = {name for name, p in method.segmenter.named_parameters() if not torch.equal(p, before[name])}
    # All but those of layers on which the main head's prediction does not depend (there are none in this network).
    assert moved == affine(method.segmenter)
    share = sum(before[name].numel() for name in moved) / sum(p.numel() for p in before.values())
    assert share < 0.01


def test_one_rate_for_all_and_no_weight_decay(stand_in: Any) -> None:
    method = stand_in.method("tent", rate=3.0)
    groups = method.parameter_groups(0.01, 10.0)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [("affine", pytest.approx(0.03), 0.0)]
    assert len(groups[0]["params"]) == len(affine(method.segmenter))


def test_entropy_falls(stand_in: Any) -> None:
    method = stand_in.method("tent", rate=100.0)
    entropies = [stand_in.step(method, number)["entropy"] for number in range(6)]
    assert entropies[-1] < entropies[0] - 0.005


def test_affine_weights_that_the_network_freezes_are_trained(stand_in: Any) -> None:
    """As in the published DeepLabv2."""
    segmenter = stand_in.method("adabn").segmenter
    for module in segmenter.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    Tent(segmenter, TentSettings(), Setup(5, 6, 0))
    assert {name for name, p in segmenter.named_parameters() if p.requires_grad} == affine(segmenter)


def test_a_network_without_batch_norm_is_refused(stand_in: Any) -> None:
    with pytest.raises(ValueError, match="this network has none"):
        Tent(stand_in.painter(), TentSettings(), Setup(3, 6, 0))
