"""Time in predictions: consistency with the propagated previous frame (DA-VSN), labels and means along the flow (TPS, VAT-VST).

Maps are at score resolution and so is the flow: see :func:`flow_at`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import ClipBatch
from methods.common.information import self_information
from stpl import Segmentation, VideoSegmenter, backward_warp, forward_splat, resize_flow


def flow_at(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Flow ``(N, 2, H, W)`` at score resolution as published: bilinear with aligned corners, both components times h / H."""
    return resize_flow(flow, size, align_corners=True, ratio=size[0] / flow.shape[-2])


class FrameScores(NamedTuple):
    """Scores ``(N, K, h, w)`` of a frame from its own features alone; the auxiliary head's or None."""

    main: Tensor
    auxiliary: Tensor | None


def frame_scores(segmenter: VideoSegmenter, out: Segmentation, frame: int) -> FrameScores:
    """Scores of frame ``frame`` (-1 = current, -2 = previous) of a pass, without fusion over time."""
    auxiliary = None if out.auxiliary_encoded is None else out.auxiliary_encoded[frame]
    main = segmenter.classify(segmenter.fuse_alone(out.encoded[frame]))
    return FrameScores(main, segmenter.classify_auxiliary(auxiliary))


def propagate(previous: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities ``(N, K, h, w)`` of frame t-1 and their normalised entropies ``(N, h, w)``, splatted to frame t; 0 in holes."""
    entropy = self_information(previous).mean(1, keepdim=True)
    splatted, _ = forward_splat(torch.cat([previous, entropy.to(previous)], 1), flow)
    return splatted[:, :-1], splatted[:, -1]


def intra_domain_consistency(current: Tensor, previous: Tensor, flow: Tensor) -> Tensor:
    """Pull the current prediction to the propagated previous one where that is more certain (intra-domain TCR).

    With p' and e' the splatted probabilities and entropies of t-1, p and e those of t:
    ``mean over classes and pixels of w |p - p'|``, ``w = sum_c p'_c [e' < e]`` (the sum is 1 where something was splatted, 0 in
    holes). The mean is over all pixels, not over the chosen ones. Ties have weight 0.

    Args:
        current: probabilities ``(N, K, h, w)`` of t; the only ones with gradient.
        previous: of t-1.
        flow: ``(N, 2, h, w)`` at this resolution, backward.

    Source: DA-VSN (Guan et al., ICCV 2021) eq. 6, published code.
    """
    splatted, certainty = propagate(previous.detach(), flow)
    entropy = self_information(current.detach()).mean(1)
    weight = splatted.sum(1) * (certainty < entropy)
    return (weight[:, None] * (current - splatted).abs()).mean()


def warped_labels(previous: Tensor, flow: Tensor) -> Tensor:
    """Labels ``(N, h, w)`` of frame t: argmax of the earlier probabilities ``(N, K, h, w)`` warped along the flow, edges repeated.

    No threshold and no mask, as published. Source: TPS (Xing et al., ECCV 2022), published code.
    """
    return backward_warp(previous.detach(), flow, padding="border").argmax(1)


@torch.no_grad()
def aggregated_prediction(segmenter: VideoSegmenter, clips: ClipBatch) -> Tensor:
    """Mean of the current frame's probabilities and of every preceding frame's, warped to it; invalid pixels do not count.

    The current frame is predicted as always, with its past; the preceding ones each from its own features.

    Args:
        segmenter: predicts, chains the flow and brings it to the maps' grid, as it does for features.
        clips: T frames with their flow and validity.

    Returns:
        ``(N, K, h, w)``, sums to 1 over classes.

    Source: VAT-VST (Shin et al., AAAI 2022), the aggregation of preceding frames' predictions.
    """
    out = segmenter(clips.frames, clips.flow, clips.valid)
    preceding = [frame_scores(segmenter, out, k).main.float().softmax(1) for k in range(len(out.encoded) - 1)]
    current = out.scores.float().softmax(1)
    warped, masks = segmenter.warp_to_current([*preceding, current], clips.flow, clips.valid)
    total: Tensor = current
    count = torch.ones_like(total[:, :1])
    for p, mask in zip(warped, masks, strict=True):
        weight = mask[:, None].to(p)
        total, count = total + weight * p, count + weight
    return total / count


def rescaled(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Scores at another size, bilinear with aligned corners (how TPS brings a rescaled view back)."""
    return F.interpolate(scores.float(), size, mode="bilinear", align_corners=True)
