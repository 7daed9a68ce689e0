"""da_vsn_sf: the source-free variant of da_vsn: the target prediction follows its own more certain past, and nothing else.

Guan, Huang, Xiao, Lu, "Domain Adaptive Video Segmentation via Temporal Consistency Regularization", ICCV 2021; the source-free
variant is the STPL paper's (CVPR 2023). Source-free, video.

``L = itcr_weight * (TCR(main) + TCR(auxiliary))`` (``methods.common.temporal``): source terms and discriminators are gone.

Differs from the published code: there is none of this variant. The weight is raised to where something happens, since nothing
stands beside the term; every clip of a batch uses its own flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.base import (
    Card,
    ClipBatch,
    LabelledBatch,
    LogUniform,
    Method,
    SearchSpace,
    ours,
    trial,
    tuned_on,
)
from methods.common.checks import in_range
from methods.common.temporal import flow_at, frame_scores, intra_domain_consistency


@dataclass(frozen=True)
class DAVSNSFSettings:
    """Values without a unit."""

    itcr_weight: float = ours(10.0, "published is 0.001, beside source supervision")

    def __post_init__(self) -> None:
        in_range("itcr_weight", self.itcr_weight, 0, 10_000)


class DAVSNSF(Method):
    """Temporal consistency within the target."""

    card = Card(
        key="da_vsn_sf",
        title="DA-VSN (source-free)",
        authors="Guan, Huang, Xiao, Lu",
        venue="ICCV 2021",
        year=2021,
        url="https://arxiv.org/abs/2107.11004",
        design="video",
        setting="SFDA",
    )
    Settings = DAVSNSFSettings
    SEARCH: ClassVar[SearchSpace] = {"itcr_weight": LogUniform(0.1, 1000.0)}
    TUNED = tuned_on("ministreet-dev", trial(0, itcr_weight=10.0)) | tuned_on(
        "ministreet2-dev",
        trial(0, itcr_weight=10.0),
    )
    PAPER_HAS: ClassVar[Mapping[str, str]] = {"fusion": "accel_splat"}
    settings: DAVSNSFSettings

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        out = self.segmenter(target.frames, target.flow, target.valid)
        current_scores = frame_scores(self.segmenter, out, -1)
        with torch.no_grad():
            previous_scores = frame_scores(self.segmenter, out, -2)
        losses = {}
        for head, current, previous in zip(current_scores._fields, current_scores, previous_scores, strict=True):
            if current is None or previous is None:
                continue
            flow = flow_at(target.flow[:, -1], (current.shape[-2], current.shape[-1]))
            tcr = intra_domain_consistency(current.float().softmax(1), previous.float().softmax(1), flow)
            losses[f"itcr_{head}"] = self.settings.itcr_weight * tcr
        return losses


METHOD = DAVSNSF
