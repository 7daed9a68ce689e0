"""vat_vst_sf: the source-free variant of vat_vst: its second phase alone, labels that several frames agree on.

Shin, Park, Woo, Kweon, "Unsupervised Domain Adaptation for Video Semantic Segmentation", AAAI 2022; the source-free variant is the
STPL paper's (CVPR 2023). Source-free, video.

In rounds: the whole target is labelled by the mean of each frame's prediction and the flow-warped predictions of the frames
before it, the least confident pixels of each class left out; ``L = CE(s_T, y)``, from the source model.

Differs from the published code: there is none; otherwise as phase 2 of vat_vst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from methods.base import (
    Card,
    Choice,
    ClipBatch,
    LabelledBatch,
    Method,
    SearchSpace,
    Setup,
    Uniform,
    ours,
    published,
    trial,
    tuned_on,
)
from methods.common.checks import in_range
from methods.common.rounds import LabelBank, even_rounds, label_confident
from methods.common.temporal import aggregated_prediction
from stpl import VideoSegmenter, pseudo_label_cross_entropy


@dataclass(frozen=True)
class VATVSTSFSettings:
    """Values without a unit."""

    rounds: int = ours(1, "of offline labels")
    drop: float = ours(0.5, "share of each class without a label")
    cap: float = published(0.9, "FDA, getSudoLabel_multi.py: no threshold is above this confidence")

    def __post_init__(self) -> None:
        in_range("rounds", self.rounds, 1, 100)
        in_range("drop", self.drop, 0, 1)
        in_range("cap", self.cap, 0, 1)


class VATVSTSF(Method):
    """Video self-training."""

    card = Card(
        key="vat_vst_sf",
        title="VAT-VST (source-free)",
        authors="Shin, Park, Woo, Kweon",
        venue="AAAI 2022",
        year=2022,
        url="https://arxiv.org/abs/2107.11052",
        design="video",
        setting="SFDA",
    )
    Settings = VATVSTSFSettings
    SEARCH: ClassVar[SearchSpace] = {"rounds": Choice((1, 2, 3)), "drop": Uniform(0.0, 0.8)}
    TUNED = tuned_on("ministreet-dev", trial(5, rounds=3, drop=0.277)) | tuned_on(
        "ministreet2-dev",
        trial(5, drop=0.277, rounds=3),
    )
    PAPER_HAS: ClassVar[Mapping[str, str]] = {"fusion": "accel_warp"}
    settings: VATVSTSFSettings

    def __init__(self, segmenter: VideoSegmenter, settings: VATVSTSFSettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        self.bank = LabelBank()

    def round_steps(self) -> tuple[int, ...]:
        return even_rounds(0, self.setup.steps, self.settings.rounds)

    def start_round(self, number: int, clips: Iterable[ClipBatch]) -> None:
        predict = partial(aggregated_prediction, self.segmenter)
        label_confident(self.bank, clips, predict, self.settings.drop, self.settings.cap)

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        out = self.segmenter(target.frames, target.flow, target.valid)
        return {"ce": pseudo_label_cross_entropy(out.scores.float(), self.bank.of(target.keys))}


METHOD = VATVSTSF
