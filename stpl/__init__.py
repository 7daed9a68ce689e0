"""Spatio-temporal pixel-level contrastive learning for video segmentation, without source data.

Building blocks of STPL (Lo et al., CVPR 2023) that need nothing but torch: move features along optical flow, fuse them
over time, label confident pixels, contrast their embeddings. Plug any encoder and classifier into the segmenter:

    >>> import torch
    >>> from torch import nn
    >>> import stpl
    >>> class Encoder(nn.Module):                       # RGB in 0..1 -> (features, auxiliary features or None)
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layers = nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.ReLU())
    ...     def forward(self, frames):
    ...         return self.layers(frames), None
    >>> _ = torch.manual_seed(0)
    >>> fusion = stpl.build_fusion("attention", channels=16)
    >>> segmenter = stpl.VideoSegmenter(Encoder(), nn.Conv2d(fusion.out_channels, 5, 1), fusion)
    >>> project = stpl.ProjectionHead(fusion.out_channels)

A batch of two clips: two frames each, the backward flow from frame t to t-1 in pixels, and where it means something:

    >>> frames = torch.rand(2, 2, 3, 64, 128)
    >>> flow, valid = torch.zeros(2, 1, 2, 64, 128), torch.ones(2, 1, 64, 128, dtype=torch.bool)
    >>> segmentation = segmenter(frames, flow, valid)
    >>> segmentation.scores.shape                       # logits of frame t
    torch.Size([2, 5, 8, 16])

One step of adaptation to unlabelled video (in earnest the labels come from a weakly augmented view or a teacher):

    >>> thresholds = stpl.RunningThresholds(num_classes=5, fraction=0.3)
    >>> probabilities = segmentation.scores.softmax(dim=1)
    >>> _ = thresholds.update(probabilities)
    >>> labels, _ = thresholds(probabilities)
    >>> now, before = segmentation.features, segmenter.fuse_alone(segmentation.encoded[0])
    >>> losses = stpl.stpl_objective(segmentation.scores, labels, [project(now), project(before)], [labels, labels],
    ...                              contrast_weight=0.1, generator=torch.Generator().manual_seed(0))
    >>> sorted(losses)
    ['ce', 'contrast']
    >>> sum(losses.values()).backward()
    >>> optimiser = torch.optim.SGD(segmenter.parameter_groups(lr=1e-3), momentum=0.9)
    >>> optimiser.step()

Modules: :mod:`stpl.warp`, :mod:`stpl.fusion`, :mod:`stpl.segmenter`, :mod:`stpl.pseudo_labels`, :mod:`stpl.contrast`,
:mod:`stpl.objective`. Labels use 255 for "ignore" throughout.
"""

from .contrast import PixelContrast, ProjectionHead, pixel_contrast, sample_class_balanced
from .fusion import FUSIONS, Fusion, build_fusion
from .objective import STPLObjective, pseudo_label_cross_entropy, resize_labels, stpl_objective
from .pseudo_labels import RunningThresholds, class_balanced_thresholds, class_quantiles, confident_labels
from .segmenter import AccelScoreFusion, Segmentation, VideoSegmenter
from .warp import (
    backward_warp,
    compose_flow,
    compose_valid,
    forward_splat,
    inside_mask,
    resize_flow,
    resize_mask,
)

__all__ = [
    "FUSIONS",
    "AccelScoreFusion",
    "Fusion",
    "PixelContrast",
    "ProjectionHead",
    "RunningThresholds",
    "STPLObjective",
    "Segmentation",
    "VideoSegmenter",
    "backward_warp",
    "build_fusion",
    "class_balanced_thresholds",
    "class_quantiles",
    "compose_flow",
    "compose_valid",
    "confident_labels",
    "forward_splat",
    "inside_mask",
    "pixel_contrast",
    "pseudo_label_cross_entropy",
    "resize_flow",
    "resize_labels",
    "resize_mask",
    "sample_class_balanced",
    "stpl_objective",
]
