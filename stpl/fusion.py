"""Fusion blocks: from the features of the current frame and the warped previous ones to spatio-temporal features.

``S_t = b(F_t, F', v)``, after the STPL paper (Lo et al., CVPR 2023). ``F'`` are features of earlier frames already
warped to the current one, ``v`` says where that warp means something. **Where v is False every operator falls back on
F_t alone**: a frame that is invalid at a pixel changes nothing there, whatever it holds (not even a NaN gets
through), and the output equals that of a clip without the frame.

All six share one signature, so any of them fits any network; :func:`build_fusion` finds them by name.
"""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fusion(nn.Module, ABC):
    """Base of the fusion operators.

    Args:
        channels: C, of every frame's features.
        num_frames: T, frames per clip, at least 2; up to ``T - 1`` previous frames are accepted, and a frame that is
            not given counts as one that is invalid everywhere.

    Attributes:
        out_channels: channels of the fused features.
    """

    def __init__(self, channels: int, num_frames: int = 2) -> None:
        super().__init__()
        if channels < 1 or num_frames < 2:
            raise ValueError(f"fusion needs channels >= 1 and num_frames >= 2, got {channels} and {num_frames}")
        self.channels = channels
        self.num_frames = num_frames
        self.out_channels = channels

    def forward(self, current: Tensor, previous: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        """Fuse.

        Args:
            current: ``(N, C, h, w)``, features of frame t.
            previous: warped features of t-1, t-2, ... (newest first), each ``(N, C, h, w)``.
            valid: for each of them bool ``(N, h, w)``.

        Returns:
            ``(N, out_channels, h, w)``.

        Raises:
            ValueError: if there are more previous frames than the block was built for, or shapes do not fit.
        """
        if len(previous) != len(valid) or len(previous) > self.num_frames - 1:
            raise ValueError(
                f"{type(self).__name__} for {self.num_frames} frames takes up to {self.num_frames - 1} previous frames "
                f"with one mask each, got {len(previous)} and {len(valid)} masks"
            )
        mask_shape = (current.shape[0], *current.shape[2:])
        for features, mask in zip(previous, valid, strict=True):
            if features.shape != current.shape or mask.shape != mask_shape:
                raise ValueError(
                    f"previous features {tuple(features.shape)} and mask {tuple(mask.shape)} must fit the current "
                    f"features {tuple(current.shape)}"
                )
        return self.combine(current, previous, [mask[:, None].bool() for mask in valid])

    @abstractmethod
    def combine(self, current: Tensor, previous: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        """The operator itself; shapes are checked and ``valid`` is bool ``(N, 1, h, w)`` each."""

    def _stacked(self, current: Tensor, previous: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        """``[F_t, F'_{t-1}, ...]`` along channels, every invalid or missing value replaced by that of F_t."""
        frames = [current]
        frames += [torch.where(mask, features, current) for features, mask in zip(previous, valid, strict=True)]
        frames += [current] * (self.num_frames - len(frames))
        return torch.cat(frames, dim=1)


class NoFusion(Fusion):
    """``S = F_t``: the spatial-only ablation. Has no parameters."""

    def combine(self, current: Tensor, previous: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        return current


class ConcatFusion(Fusion):
    """``S = [F_t, F'_{t-1}, ...]``, ``T * C`` channels; the classifier learns what to do with them.

    Invalid values are those of F_t, so the classifier sees a static scene there.
    """

    def __init__(self, channels: int, num_frames: int = 2) -> None:
        super().__init__(channels, num_frames)
        self.out_channels = channels * num_frames

    def combine(self, current: Tensor, previous: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        return self._stacked(current, previous, valid)


class AddFusion(Fusion):
    """``S = mean of F_t and the valid F'``. Has no parameters.

    A mean, not a sum: with a sum the scale of S would be T times that of F_t where the warp is valid and once where
    it is not, so the classifier would see occlusion as a jump in contrast. The mean keeps one scale everywhere, and
    differs from the sum by a constant factor where all frames are valid.
    """

    def combine(self, current: Tensor, previous: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        total, count = current, torch.ones_like(current[:, :1])
        for features, mask in zip(previous, valid, strict=True):
            total = total + torch.where(mask, features, torch.zeros_like(features))
            count = count + mask
        return total / count


class Conv1x1Fusion(Fusion):
    """``S = W [F_t; F'_{t-1}; ...]``, one 1x1 convolution without bias, initialised ``[I | 0]``.

    It starts as the single-frame model exactly and learns how much of the past to let in. Invalid values are those of
    F_t.
    """

    def __init__(self, channels: int, num_frames: int = 2) -> None:
        super().__init__(channels, num_frames)
        self.mix = nn.Conv2d(channels * num_frames, channels, 1, bias=False)
        identity_then_zero_(self.mix)

    def combine(self, current: Tensor, previous: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        fused: Tensor = self.mix(self._stacked(current, previous, valid))
        return fused


class AttentionFusion(Fusion):
    r"""Per-pixel weights over the frames: ``S = Σ_k a_k F_k`` with ``a = softmax_k(e(F_t, F_k))``.

    ``e`` is a small network (1x1 convolution to ``max(C / 4, 8)`` channels, ReLU, 1x1 convolution to one) that sees
    the current and the k-th frame's features; the frames share it, the current frame being compared with itself.
    Its last layer starts at zero, so all valid frames weigh the same (:class:`AddFusion`) until it has learned better.
    Invalid frames get weight 0 and the others share it.
    """

    def __init__(self, channels: int, num_frames: int = 2) -> None:
        super().__init__(channels, num_frames)
        hidden = max(channels // 4, 8)
        self.energy = nn.Sequential(nn.Conv2d(2 * channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, 1, 1))
        last = self.energy[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def combine(self, current: Tensor, previous: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        frames = [current]
        frames += [torch.where(mask, features, current) for features, mask in zip(previous, valid, strict=True)]
        energies = [self.energy(torch.cat((current, features), dim=1)) for features in frames]
        energies[1:] = [energy.masked_fill(~mask, -math.inf) for energy, mask in zip(energies[1:], valid, strict=True)]
        weights = torch.softmax(torch.cat(energies, dim=1), dim=1)
        return torch.stack([weights[:, k : k + 1] * features for k, features in enumerate(frames)]).sum(0)


class CrossAttentionFusion(Fusion):
    r"""Queries from F_t, keys and values from a small window of every F' around the pixel.

    .. math:: S(q) = F_t(q) + W_o \sum_{k,\,r} a_{k,r}(q)\, F'_k(q + r), \qquad
              a = \mathrm{softmax}_{k,r}\Bigl(\tfrac{1}{\sqrt d}\, (W_q F_t(q)) \cdot (W_k F'_k(q + r)) + \beta_r\Bigr)

    with r in a ``window x window`` neighbourhood and a learned bias per offset. The window forgives flow that is off
    by a cell. A value projection before the sum would fold into ``W_o`` (both are linear), so there is none. ``W_o``
    starts at zero: the block begins as the single-frame model. A frame is left out at pixels where it is invalid; in
    the window of a valid pixel, neighbours that are invalid or outside the map get no weight.

    Args:
        key_channels: d; by default ``min(C, 64)``.
        window: odd edge of the neighbourhood, in feature cells.
    """

    def __init__(self, channels: int, num_frames: int = 2, *, key_channels: int | None = None, window: int = 3) -> None:
        super().__init__(channels, num_frames)
        if window < 1 or window % 2 == 0:
            raise ValueError(f"cross_attention: window must be odd and positive, got {window}")
        key_channels = key_channels or min(channels, 64)
        self.window = window
        self.query = nn.Conv2d(channels, key_channels, 1)
        self.key = nn.Conv2d(channels, key_channels, 1)
        self.offset_bias = nn.Parameter(torch.zeros(window * window))
        self.output = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.zeros_(self.output.weight)

    def combine(self, current: Tensor, previous: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        if not previous:
            return current
        query = self.query(current) / math.sqrt(self.key.out_channels)
        energies: list[Tensor] = []
        values: list[Tensor] = []
        for features, mask in zip(previous, valid, strict=True):
            masked = torch.where(mask, features, torch.zeros_like(features))
            keys = self._neighbours(self.key(masked))
            allowed = self._neighbours(mask.to(current.dtype))
            for offset, (key, value) in enumerate(zip(keys, self._neighbours(masked), strict=True)):
                energy = (query * key).sum(1, keepdim=True) + self.offset_bias[offset]
                energies.append(energy.masked_fill((allowed[offset] == 0) | ~mask, -math.inf))
                values.append(value)
        somewhere = torch.stack(list(valid)).any(0)
        # A pixel without any valid frame has no softmax: give it a harmless one and drop its result below.
        energy = torch.cat(energies, dim=1).masked_fill(~somewhere, 0.0)
        weights = torch.softmax(energy, dim=1)
        gathered = torch.zeros_like(current)
        for k, value in enumerate(values):
            gathered = gathered + weights[:, k : k + 1] * value
        return current + torch.where(somewhere, self.output(gathered), torch.zeros_like(current))

    def _neighbours(self, features: Tensor) -> list[Tensor]:
        """Views of ``features`` shifted by every offset of the window, 0 beyond the map, row by row."""
        height, width = features.shape[-2:]
        radius = self.window // 2
        padded = F.pad(features, (radius,) * 4)
        offsets = [(row, column) for row in range(self.window) for column in range(self.window)]
        return [padded[..., row : row + height, column : column + width] for row, column in offsets]


FUSIONS: dict[str, type[Fusion]] = {
    "none": NoFusion,
    "concat": ConcatFusion,
    "add": AddFusion,
    "conv1x1": Conv1x1Fusion,
    "attention": AttentionFusion,
    "cross_attention": CrossAttentionFusion,
}
"""The fusion operators by name."""


def build_fusion(name: str, channels: int, num_frames: int = 2) -> Fusion:
    """Build a fusion operator by name.

    Args:
        name: a key of :data:`FUSIONS`.
        channels: C of every frame's features.
        num_frames: frames per clip, T >= 2.

    Raises:
        ValueError: for an unknown name (the message has the nearest one) or impossible sizes.
    """
    if name not in FUSIONS:
        near = difflib.get_close_matches(name, FUSIONS, n=1, cutoff=0.0)
        raise ValueError(f"Unknown fusion {name!r}. Did you mean {near[0]!r}? Available: {', '.join(FUSIONS)}")
    return FUSIONS[name](channels, num_frames)


def identity_then_zero_(convolution: nn.Conv2d) -> None:
    """Set a 1x1 convolution from ``k * C`` to ``C`` channels to ``[I | 0 | ...]``: it passes its first C inputs."""
    with torch.no_grad():
        convolution.weight.zero_()
        outputs = convolution.out_channels
        convolution.weight[:, :outputs, 0, 0].diagonal().fill_(1.0)  # torch.eye on meta imports half of torch
