"""adabn: the source model with batch-norm statistics re-estimated on unlabelled target frames.

Li et al., "Adaptive Batch Normalization for practical domain adaptation", Pattern Recognition 2018. No weight moves. The
harness re-estimates the statistics (it does so for every method where the shift's policy is ``batch_norm: target``), so
this file has nothing to add: it is the start that all trained methods share.

Not in the paper's table; a floor that every SFDA method must beat.
"""

from __future__ import annotations

from torch import Tensor

from methods.base import Card, ClipBatch, LabelledBatch, Method


class AdaBN(Method):
    """Target statistics, source weights."""

    card = Card(
        key="adabn",
        title="AdaBN",
        authors="Li, Wang, Shi, Hou, Liu",
        venue="Pattern Recognition 2018",
        year=2018,
        url="https://arxiv.org/abs/1603.04779",
        design="image",
        setting="SFDA",
        floor=True,
    )
    trains = False

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        return {}


METHOD = AdaBN
