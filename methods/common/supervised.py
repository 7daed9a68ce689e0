"""Supervised training on labelled clips: how a source model is made, and the oracle on the target."""

from __future__ import annotations

from torch import Tensor

from methods.base import ClipBatch, LabelledBatch, Method
from methods.common.augment import Geometry, strong_view
from methods.common.losses import supervised

MAX_ZOOM = 1.3
STRENGTH = 0.5


class Supervised(Method):
    """Cross entropy on mirrored, zoomed and mildly jittered clips (ours; the published source-only recipe has no augmentation)."""

    start = "scratch"

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        assert isinstance(target, LabelledBatch), "supervised training needs labels"
        generator = self.generator(step, "supervised view")
        geometry = Geometry.draw(len(target.keys), MAX_ZOOM, generator)
        view = strong_view(target, geometry, STRENGTH, generator)
        batch = LabelledBatch(view.frames, view.flow, view.valid, view.keys, geometry.labels(target.label))
        return supervised(self.segmenter, batch)
