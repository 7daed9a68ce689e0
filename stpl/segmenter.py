"""The two-frame (or longer) segmenter that every method adapts: encoder, temporal fusion, classifier.

``F_k = encoder(x_k)``, ``F'_k = warp(F_k, flow to the current frame)``, ``S_t = fusion(F_t, F', valid)``,
``scores = classifier(S_t)``. Networks plug in as encoder and classifier, so every network works with every fusion
operator. Accel score fusion (DA-VSN, TPS) is one more mode: see :class:`AccelScoreFusion`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .fusion import Fusion, identity_then_zero_
from .warp import backward_warp, compose_flow, compose_valid, forward_splat, inside_mask, resize_flow, resize_mask


class Segmentation(NamedTuple):
    """What one pass over a batch of clips gives. ``h, w`` is the feature grid, ``H', W'`` that of the scores."""

    scores: Tensor
    """``(N, K, H', W')``, logits for the current frame."""
    auxiliary_scores: Tensor | None
    """``(N, K, ., .)`` logits of the auxiliary head, if there is one."""
    features: Tensor
    """``S_t``: fused features ``(N, C_S, h, w)``."""
    current: Tensor
    """``F_t``: features of the current frame ``(N, C, h, w)``."""
    previous: tuple[Tensor, ...]
    """``F'``: features of t-1, t-2, ... warped to the current frame, newest first."""
    encoded: tuple[Tensor, ...]
    """``F_0 ... F_t``: features of every frame on its own grid, oldest first."""
    auxiliary_encoded: tuple[Tensor, ...] | None
    """The same of the features under the auxiliary head, if there is one."""


class AccelScoreFusion(nn.Module):
    """Score fusion of Accel as DA-VSN and TPS use it: one 1x1 convolution on [current, propagated] scores.

    ``scores = W [s_t; propagate(s_{t-1})]``, ``W`` without bias, initialised ``[I | 0]``: at first the current scores
    pass unchanged. Main and auxiliary head share it. However long the clip is, it looks one frame back, as published. No
    gradient flows through the previous frame. The flow is resized as published (``align_corners=True``, both components
    times score height / flow height, in float64) and there is no validity mask: splatting leaves zeros in holes,
    warping repeats the edge.

    Args:
        num_classes: K.
        propagate: ``splat`` (DA-VSN: forward, nearest) or ``warp`` (TPS: backward, bilinear).
    """

    def __init__(self, num_classes: int, *, propagate: Literal["splat", "warp"] = "splat") -> None:
        super().__init__()
        if propagate not in ("splat", "warp"):
            raise ValueError(f"AccelScoreFusion: unknown propagate {propagate!r}; allowed: 'splat', 'warp'")
        self.propagate = propagate
        self.mix = nn.Conv2d(2 * num_classes, num_classes, 1, bias=False)
        identity_then_zero_(self.mix)

    def propagated(self, previous: Tensor, flow: Tensor) -> Tensor:
        """The previous scores ``(N, K, h, w)`` moved to the current frame by flow ``(N, 2, H, W)``, detached."""
        height, width = previous.shape[-2:]
        scaled = resize_flow(flow.double(), (height, width), align_corners=True, ratio=height / flow.shape[-2])
        if self.propagate == "splat":
            return forward_splat(previous.detach(), scaled)[0]
        return backward_warp(previous.detach(), scaled, padding="border")

    def forward(self, current: Tensor, previous: Tensor, flow: Tensor) -> Tensor:
        """Fuse ``(N, K, h, w)`` scores of t and of t-1 along the full-size flow t to t-1 ``(N, 2, H, W)``."""
        fused: Tensor = self.mix(torch.cat((current, self.propagated(previous, flow)), dim=1))
        return fused


class VideoSegmenter(nn.Module):
    """A segmentation network for clips.

    Args:
        encoder: maps float RGB ``(N, 3, H, W)`` in 0..1 to ``(features, auxiliary features or None)``.
        classifier: maps fused features ``(N, fusion.out_channels, h, w)`` to logits, at any resolution.
        fusion: the block that joins current and warped previous features.
        auxiliary_classifier: maps the *current* frame's auxiliary features to logits. They are not fused over time:
            the head supervises the backbone, not the prediction.
        score_fusion: fuses scores of t and t-1 on top, for both heads (Accel); normally with ``fusion`` = ``none``.
    """

    def __init__(
        self,
        encoder: nn.Module,
        classifier: nn.Module,
        fusion: Fusion,
        *,
        auxiliary_classifier: nn.Module | None = None,
        score_fusion: AccelScoreFusion | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = classifier
        self.fusion = fusion
        self.auxiliary_classifier = auxiliary_classifier
        self.score_fusion = score_fusion

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features of single frames: ``(N, 3, H, W)`` to ``(N, C, h, w)`` and the auxiliary ones (or None)."""
        features, auxiliary = self.encoder(frames)
        return features, auxiliary

    def fuse(self, current: Tensor, previous: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        """``S_t`` from ``F_t``, warped ``F'`` (newest first) and their bool ``(N, h, w)`` masks."""
        fused: Tensor = self.fusion(current, previous, valid)
        return fused

    def fuse_alone(self, features: Tensor) -> Tensor:
        """``S`` of a frame that has no past: every previous frame counts as invalid. For single-frame predictions."""
        return self.fuse(features, (), ())

    def fuse_at(self, encoded: Sequence[Tensor], flow: Tensor, valid: Tensor, frame: int) -> Tensor:
        """``S`` of one frame of a clip from its own features and those of the frames before it.

        Args:
            encoded: features of the clip's T frames, oldest first.
            flow: ``(N, T-1, 2, H, W)``, as for :meth:`warp_to_current`.
            valid: bool ``(N, T-1, H, W)``.
            frame: counted from the end, -1 = current, -2 = t-1; the oldest one, ``-T``, has no past.
        """
        past = len(encoded) + frame
        if past == 0:
            return self.fuse_alone(encoded[0])
        previous, masks = self.warp_to_current(encoded[: past + 1], flow[:, :past], valid[:, :past])
        return self.fuse(encoded[past], previous, masks)

    def classify(self, features: Tensor) -> Tensor:
        """Logits ``(N, K, H', W')`` of fused features."""
        scores: Tensor = self.classifier(features)
        return scores

    def classify_auxiliary(self, features: Tensor | None) -> Tensor | None:
        """Logits of auxiliary features; None without an auxiliary head."""
        if self.auxiliary_classifier is None or features is None:
            return None
        scores: Tensor = self.auxiliary_classifier(features)
        return scores

    def warp_to_current(
        self, encoded: Sequence[Tensor], flow: Tensor, valid: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Bring the features of all earlier frames to the current one.

        Flow and masks are chained at full resolution and only then brought to the feature grid, so that rounding to
        cells happens once.

        Args:
            encoded: T feature maps ``(N, C, h, w)``, oldest first.
            flow: ``(N, T-1, 2, H, W)``, ``flow[:, k]`` from frame k+1 to frame k, pixels.
            valid: bool ``(N, T-1, H, W)``. A cell reads along the vectors around its centre, valid or not: give
                invalid pixels a plausible vector, or 0.

        Returns:
            Warped features and bool ``(N, h, w)`` masks, both newest first (t-1, t-2, ...).
        """
        size = (encoded[-1].shape[-2], encoded[-1].shape[-1])
        warped: list[Tensor] = []
        masks: list[Tensor] = []
        chain, visible = flow[:, -1], valid[:, -1]
        for k in range(len(encoded) - 2, -1, -1):
            if k < len(encoded) - 2:
                visible = compose_valid(visible, valid[:, k], chain)
                chain = compose_flow(chain, flow[:, k])
            # One vector that is not finite would spoil the cells around it, which stay valid: it counts as outside below.
            small = resize_flow(chain.nan_to_num(0.0, 0.0, 0.0), size)
            # Edge values instead of zeros: a cell centre may fall just outside while most of the cell is inside.
            warped.append(backward_warp(encoded[k], small, padding="border"))
            masks.append(resize_mask(visible & inside_mask(chain), size))
        return warped, masks

    def forward(self, frames: Tensor, flow: Tensor, valid: Tensor) -> Segmentation:
        """Segment the last frame of each clip.

        Args:
            frames: float ``(N, T, 3, H, W)``, RGB in 0..1, oldest first.
            flow: float ``(N, T-1, 2, H, W)``, backward flow from frame k+1 to frame k, pixels, x first.
            valid: bool ``(N, T-1, H, W)``, where that flow means something.

        Raises:
            ValueError: if shapes or dtypes do not fit together.
        """
        _check_clip(frames, flow, valid)
        batch, length = frames.shape[:2]
        features, auxiliary = self.encode(frames.flatten(0, 1))
        encoded = features.reshape(batch, length, *features.shape[1:]).unbind(1)
        previous, masks = self.warp_to_current(encoded, flow, valid)
        fused = self.fuse(encoded[-1], previous, masks)
        scores = self.classify(fused)

        auxiliary_encoded = (
            None if auxiliary is None else auxiliary.reshape(batch, length, *auxiliary.shape[1:]).unbind(1)
        )
        auxiliary_scores = self.classify_auxiliary(None if auxiliary_encoded is None else auxiliary_encoded[-1])
        if self.score_fusion is not None:
            with torch.no_grad():
                earlier = self.classify(self.fuse_alone(encoded[-2]))
                auxiliary_earlier = self.classify_auxiliary(
                    None if auxiliary_encoded is None else auxiliary_encoded[-2]
                )
            scores = self.score_fusion(scores, earlier, flow[:, -1])
            if auxiliary_scores is not None and auxiliary_earlier is not None:
                auxiliary_scores = self.score_fusion(auxiliary_scores, auxiliary_earlier, flow[:, -1])
        return Segmentation(
            scores, auxiliary_scores, fused, encoded[-1], tuple(previous), tuple(encoded), auxiliary_encoded
        )

    def parameter_groups(self, lr: float, head_multiplier: float = 10.0) -> list[dict[str, Any]]:
        """Optimiser groups: the encoder at ``lr``; fusion, score fusion and classifiers at ``head_multiplier * lr``.

        Frozen parameters are left out, and so is a group that has none; each group carries a ``name``.
        """
        heads: list[nn.Module] = [self.classifier, self.fusion]
        heads += [module for module in (self.auxiliary_classifier, self.score_fusion) if module is not None]
        named = (("encoder", lr, [self.encoder]), ("heads", head_multiplier * lr, heads))
        groups: list[dict[str, Any]] = []
        for name, rate, modules in named:
            parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
            if parameters:
                groups.append({"name": name, "params": parameters, "lr": rate})
        return groups


def _check_clip(frames: Tensor, flow: Tensor, valid: Tensor) -> None:
    if frames.dim() != 5 or frames.shape[1] < 2 or frames.shape[2] != 3 or not frames.is_floating_point():
        raise ValueError(f"frames must be float (N, T>=2, 3, H, W) in 0..1, got {frames.dtype} {tuple(frames.shape)}")
    batch, length, _, height, width = frames.shape
    if flow.shape != (batch, length - 1, 2, height, width):
        raise ValueError(f"flow must be {(batch, length - 1, 2, height, width)}, got {tuple(flow.shape)}")
    if valid.shape != (batch, length - 1, height, width) or valid.dtype != torch.bool:
        raise ValueError(
            f"valid must be bool {(batch, length - 1, height, width)}, got {valid.dtype} {tuple(valid.shape)}"
        )
