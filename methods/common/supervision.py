"""Temporal pseudo-supervision (TPS): a strongly augmented clip learns what an earlier frame predicted, moved along the flow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import ClipBatch, published
from methods.common.augment import Geometry, uniform
from methods.common.checks import in_range
from methods.common.temporal import FrameScores, flow_at, rescaled, warped_labels
from stpl import VideoSegmenter, pseudo_label_cross_entropy, resize_flow

CODE = "train_video_UDA.py"
"""Of TPS's published code."""


@dataclass(frozen=True)
class StrongViewSettings:
    """What tps and tps_sf share: the strong view. Values without a unit unless said."""

    jitter: float = published(0.8, f"{CODE}: range of brightness, contrast and saturation factors, 1 -+ this")
    hue: float = published(0.2, f"{CODE}: range of the hue's shift, of the whole circle")
    jitter_probability: float = published(0.8, f"{CODE}: share of clips whose colours are jittered")
    grey_probability: float = published(0.2, f"{CODE}: share of clips that turn grey")
    blur_probability: float = published(0.6, f"{CODE}: share of clips that are blurred")
    blur: float = published(9.0, f"{CODE}: largest sigma, pixels, the smallest is 5/9 of it (5, 7 or 9 at 512 x 1024)")
    low: int = published(80, "config.py: SCALING_RATIO, smallest scale, percent")
    high: int = published(119, "config.py: SCALING_RATIO, largest scale, percent")
    auxiliary: float = published(0.1, "config.py: LAMBDA_SEG_AUX, weight of the auxiliary head")

    def __post_init__(self) -> None:
        in_range("jitter", self.jitter, 0, 1)
        in_range("hue", self.hue, 0, 0.5)
        for name in ("jitter_probability", "grey_probability", "blur_probability"):
            in_range(name, getattr(self, name), 0, 1)
        in_range("blur", self.blur, 0.1, 50)
        in_range("low", self.low, 25, 400)
        in_range("high", self.high, self.low, 400)
        in_range("auxiliary", self.auxiliary, 0, 100)


def rotate_hue(frames: Tensor, shift: float) -> Tensor:
    """Turn the hue of ``(..., 3, H, W)`` in 0..1 by ``shift`` of the circle: a rotation of RGB about the grey axis, clamped.

    Linear, and so a twentieth of the time of a change of the H of HSV, which was a tenth of a step; greys stay what they are.
    """
    angle = 2 * math.pi * shift
    third, cross = (1 - math.cos(angle)) / 3, math.sin(angle) / math.sqrt(3)
    same, next_, previous = third + math.cos(angle), third - cross, third + cross
    turn = torch.tensor([[same, next_, previous], [previous, same, next_], [next_, previous, same]])
    return torch.einsum("ij,...jhw->...ihw", turn.to(frames, non_blocking=True), frames).clamp(0, 1)


def strong_colours(frames: Tensor, s: StrongViewSettings, generator: torch.Generator) -> Tensor:
    """Colour jitter, grey and blur of ``frames`` ``(N, T, 3, H, W)`` in 0..1, one draw for all frames of a clip."""
    from torchvision.transforms.v2 import functional as TF  # here: see methods.common.augment

    views = []
    for clip in frames:
        coins = torch.rand(3, generator=generator).tolist()
        factors = uniform(3, 1 - s.jitter, 1 + s.jitter, generator).tolist()
        shift = float(uniform(1, -s.hue, s.hue, generator))
        sigma = float(uniform(1, 5 / 9 * s.blur, s.blur, generator))
        if coins[0] < s.jitter_probability:
            clip = TF.adjust_brightness(clip, factors[0])
            clip = TF.adjust_contrast(clip, factors[1])
            clip = TF.adjust_saturation(clip, factors[2])
            clip = rotate_hue(clip, shift)
        if coins[1] < s.grey_probability:
            clip = TF.rgb_to_grayscale(clip, 3)
        if coins[2] < s.blur_probability:
            size = 2 * round(2 * sigma) + 1
            for kernel in (
                [size, 1],
                [1, size],
            ):  # a Gaussian's two directions one after the other cost less than both at once
                clip = TF.gaussian_blur(clip, kernel, [sigma, sigma])
        views.append(clip)
    return torch.stack(views)


def rescale(clips: ClipBatch, percent: int) -> ClipBatch:
    """Clips at ``percent`` of their size, in multiples of 8 pixels, flow and validity with them."""
    height, width = (max(8, round(side * percent / 800) * 8) for side in clips.frames.shape[-2:])
    return resized(clips, (height, width))


def resized(clips: ClipBatch, size: tuple[int, int]) -> ClipBatch:
    """Clips at another size ``(H, W)``, flow and validity with them."""
    t, (height, width) = clips.frames.shape[1], size
    frames = F.interpolate(clips.frames.flatten(0, 1), (height, width), mode="bilinear", align_corners=False)
    flow = torch.stack([resize_flow(clips.flow[:, k], (height, width)) for k in range(t - 1)], 1)
    valid = F.interpolate(clips.valid.float(), (height, width), mode="nearest-exact") > 0.5
    return ClipBatch(frames.view(-1, t, 3, height, width), flow, valid, clips.keys)


@torch.no_grad()
def earlier_scores(segmenter: VideoSegmenter, clips: ClipBatch, mirror: Geometry) -> FrameScores:
    """Scores of the clip that ends one frame earlier, moved: all its frames, or frame t-1 by itself where there is no other."""
    if clips.frames.shape[1] > 2:
        moved = mirror.clips(ClipBatch(clips.frames[:, :-1], clips.flow[:, :-1], clips.valid[:, :-1], clips.keys))
        out = segmenter(moved.frames, moved.flow, moved.valid)
        return FrameScores(out.scores, out.auxiliary_scores)
    features, auxiliary = segmenter.encode(mirror.maps(clips.frames[:, -2]))
    return FrameScores(segmenter.classify(segmenter.fuse_alone(features)), segmenter.classify_auxiliary(auxiliary))


def temporal_pseudo_supervision(
    segmenter: VideoSegmenter, clips: ClipBatch, s: StrongViewSettings, generator: torch.Generator
) -> dict[str, Tensor]:
    """``CE(s(strong(x_t, x_{t-1})), warp(sg p of the earlier clip))``, main head and ``s.auxiliary`` times the auxiliary head.

    The earlier clip is mirrored with probability 1/2; its prediction is mirrored back before it is warped, which is the same as
    warping in the mirrored geometry along the mirrored flow. Labels and losses are at score resolution, without a threshold.
    """
    n = len(clips.keys)
    mirror = Geometry.draw(n, 1.0, generator)
    earlier = earlier_scores(segmenter, clips, mirror)
    percent = int(torch.randint(s.low, s.high + 1, (1,), generator=generator))
    strong = ClipBatch(strong_colours(clips.frames, s, generator), clips.flow, clips.valid, clips.keys)
    strong = rescale(strong, percent)
    out = segmenter(strong.frames, strong.flow, strong.valid)
    losses = {}
    heads = (
        ("pseudo", 1.0, earlier.main, out.scores),
        ("pseudo_aux", s.auxiliary, earlier.auxiliary, out.auxiliary_scores),
    )
    for name, weight, previous, current in heads:
        if previous is not None and current is not None:
            size = (previous.shape[-2], previous.shape[-1])
            labels = warped_labels(mirror.maps(previous.float().softmax(1)), flow_at(clips.flow[:, -1], size))
            losses[name] = weight * pseudo_label_cross_entropy(rescaled(current, size), labels)
    return losses
