"""ur: learn the pseudo-labels, be certain, and be certain on damaged features too.

Prabhu Teja S, Fleuret, "Uncertainty Reduction for Model Adaptation in Semantic Segmentation", CVPR 2021. Source-free, image.

In rounds: the whole target is labelled by the mean prediction of each frame and its mirror image, the most confident
``portion`` of each class (``methods.common.selection``). Then
``L = CE(s, y) + entropy_weight * H(p) + diversity_weight * D(p) + decoder_weight * sum_4 MSE(softmax(g_i(drop(S_t))), sg p)``: four
auxiliary decoders see the features with half of the channels dropped. The classifier is frozen (the hypothesis of the source model
stays; its features move).

Differs from the published code: pixels around a clip that was made smaller are 255, not road (black in the picture, as there).
The classifier is really frozen (the published flag misses it). Decoders start as copies of the classifier. Labels and losses are at
score resolution.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from methods.base import (
    Card,
    Choice,
    ClipBatch,
    LabelledBatch,
    LogUniform,
    Method,
    SearchSpace,
    Setup,
    Uniform,
    by_hand,
    published,
    trial,
    tuned_on,
)
from methods.common.augment import Geometry
from methods.common.checks import in_range
from methods.common.information import normalised_entropy
from methods.common.rounds import LabelBank, even_rounds, in_mode, mean_over_views
from methods.common.selection import class_balanced_portion, relative_labels
from methods.common.uncertainty import decoder_disagreement, diversity, drop_channels
from stpl import VideoSegmenter, pseudo_label_cross_entropy

LARGEST_PORTION = 0.5
"""Up to which the portion grows (published code, argparser.py: MAX_TGT_PORT)."""


@dataclass(frozen=True)
class URSettings:
    """Values without a unit."""

    portion: float = published(0.2, "argparser.py: INIT_TGT_PORT, of each predicted class that gets a label")
    entropy_weight: float = published(1.0, "argparser.py: lambda_ent")
    diversity_weight: float = published(0.0, "argparser.py: lambda_div")
    decoder_weight: float = published(0.1, "argparser.py: lambda_unc")
    decoders: int = published(4, "argparser.py: decoders")
    channel_dropout: float = published(0.5, "argparser.py: dropout")
    rounds: int = published(1, "argparser.py: NUM_ROUNDS")
    every: int = published(10, "argparser.py: DS_RATE, every how many pixels of a class enter the selection")
    max_zoom: float = published(1.5, "argparser.py: TRAIN_SCALE_TGT, largest")
    min_zoom: float = published(0.5, "argparser.py: TRAIN_SCALE_TGT, smallest")
    growth: float = published(0.05, "argparser.py: TGT_PORT_STEP, of the portion in each round, up to half")
    labelling: Literal["eval", "train"] = published("eval", "generate_pseudo_labels.py: batch norm while it labels")

    LATER: ClassVar[Mapping[str, Any]] = {"min_zoom": 1.0, "growth": 0.0, "labelling": "train"}

    def __post_init__(self) -> None:
        in_range("portion", self.portion, 0, 1)
        in_range("entropy_weight", self.entropy_weight, 0, 100)
        in_range("diversity_weight", self.diversity_weight, 0, 100)
        in_range("decoder_weight", self.decoder_weight, 0, 100)
        in_range("decoders", self.decoders, 1, 16)
        in_range("channel_dropout", self.channel_dropout, 0, 0.95)
        in_range("rounds", self.rounds, 1, 100)
        in_range("every", self.every, 1, 1000)
        in_range("max_zoom", self.max_zoom, 1, 4)
        in_range("min_zoom", self.min_zoom, 0.1, 1)
        in_range("growth", self.growth, 0, 1)


class UR(Method):
    """Pseudo-labels, entropy and agreement of decoders, with the classifier frozen."""

    card = Card(
        key="ur",
        title="UR",
        authors="Prabhu Teja, Fleuret",
        venue="CVPR 2021",
        year=2021,
        url="https://openaccess.thecvf.com/content/CVPR2021/html/S_Uncertainty_Reduction_for_Model_Adaptation_in_Semantic_Segmentation_CVPR_2021_paper.html",
        design="image",
        setting="SFDA",
    )
    Settings = URSettings
    SEARCH: ClassVar[SearchSpace] = {
        "portion": Uniform(0.1, 0.8),
        "entropy_weight": LogUniform(0.05, 2.0),
        "decoder_weight": LogUniform(0.03, 3.0),
        "rounds": Choice((1, 2)),
    }
    TUNED = tuned_on(
        "ministreet-dev",
        trial(4, portion=0.23, entropy_weight=0.718, decoder_weight=0.0655, rounds=2),
        by_hand("frames are small", every=1, min_zoom=1.0),
        by_hand("not searched", growth=0.0),
        by_hand("the shift's batch norm is in train mode throughout", labelling="train"),
    ) | tuned_on(
        "ministreet2-dev",
        trial(3, decoder_weight=0.0692, entropy_weight=0.184, portion=0.686, rounds=1),
        by_hand("frames are small", every=1, min_zoom=1.0),
        by_hand("the shift's batch norm is in train mode throughout", labelling="train"),
    )
    settings: URSettings

    def __init__(self, segmenter: VideoSegmenter, settings: URSettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        self.decoders = nn.ModuleList(copy.deepcopy(segmenter.classifier) for _ in range(settings.decoders))
        segmenter.classifier.requires_grad_(False)
        self.bank = LabelBank()

    def restart(self) -> None:
        for decoder in self.decoders:
            decoder.load_state_dict(self.segmenter.classifier.state_dict())

    def round_steps(self) -> tuple[int, ...]:
        return even_rounds(0, self.setup.steps, self.settings.rounds)

    def portion(self, number: int) -> float:
        """Share of each predicted class that gets a label in a round: a little more in each, up to :data:`LARGEST_PORTION`."""
        first, increase = self.settings.portion, self.settings.growth * number
        return max(first, min(first + increase, LARGEST_PORTION))

    @torch.no_grad()
    def start_round(self, number: int, clips: Iterable[ClipBatch]) -> None:
        # Two passes: the thresholds need all confidences, the labels all probabilities, and only the former fit in memory.
        with in_mode(self.settings.labelling, self.segmenter):
            best = [mean_over_views(self.segmenter, batch).max(1) for batch in clips]
            confidence, label = torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])
            portion, stride = self.portion(number), self.settings.every
            thresholds = class_balanced_portion(confidence, label, self.setup.num_classes, portion, stride)
            for batch in clips:
                self.bank.put(batch.keys, relative_labels(mean_over_views(self.segmenter, batch), thresholds))
        self.bank.close()

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        s = self.settings
        generator = self.generator(step, "strong view")
        geometry = Geometry.draw(len(target.keys), s.max_zoom, generator, min_zoom=s.min_zoom)
        view = geometry.clips(target)
        out = self.segmenter(view.frames, view.flow, view.valid)
        scores = out.scores.float()
        p = scores.softmax(1)
        generator = self.generator(step, "dropped channels")
        damaged = [decoder(drop_channels(out.features, s.channel_dropout, generator)) for decoder in self.decoders]
        losses = {
            "ce": pseudo_label_cross_entropy(scores, geometry.labels(self.bank.of(target.keys))),
            "entropy": s.entropy_weight * normalised_entropy(p),
            "decoders": s.decoder_weight * decoder_disagreement([d.float() for d in damaged], p),
        }
        if s.diversity_weight > 0:
            losses["diversity"] = s.diversity_weight * diversity(p)
        return losses


METHOD = UR
