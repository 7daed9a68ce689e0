"""Moving feature maps, scores and masks along optical flow.

Conventions, shared by every function here:

* Flow is **backward** flow in pixels, x (columns) first: pixel ``q`` of frame t shows what frame t-1 shows at
  ``q + flow(q)``. Shape ``(N, 2, H, W)``.
* Pixel centres have integer coordinates: column 0 is the centre of the first pixel, ``W - 1`` that of the last.
* *Warp* reads (backward, bilinear, differentiable in image and flow); *splat* writes (forward, nearest, with holes).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

_FAR_OUTSIDE = -1e4
"""Where a vector that is not a number points when it is read along: outside any image."""


def resize_flow(
    flow: Tensor,
    size: tuple[int, int],
    *,
    mode: str = "bilinear",
    align_corners: bool = False,
    ratio: float | tuple[float, float] | None = None,
) -> Tensor:
    r"""Resize a flow field and express its vectors in pixels of the new grid.

    .. math:: u' = \tfrac{w}{W}\,\mathrm{resize}(u), \qquad v' = \tfrac{h}{H}\,\mathrm{resize}(v)

    Each component is scaled by the ratio of *its own* axis. The published Accel code (DA-VSN, TPS) instead multiplies
    both by ``h / H`` and samples with ``align_corners=True``; pass ``ratio=h / H, align_corners=True`` for that.

    Args:
        flow: ``(N, 2, H, W)``, pixels, x first, any floating dtype (kept).
        size: ``(h, w)`` of the result.
        mode: an interpolation mode of :func:`torch.nn.functional.interpolate` (``bilinear``, ``nearest``, ``area``).
        align_corners: sampling convention, for ``bilinear`` and ``bicubic`` only.
        ratio: factor for both components, or ``(x factor, y factor)``; ``None`` takes ``(w / W, h / H)``.

    Returns:
        ``(N, 2, h, w)``.

    Raises:
        ValueError: if ``flow`` does not have two channels.
    """
    _check_flow(flow)
    if ratio is None:
        ratio = (size[1] / flow.shape[-1], size[0] / flow.shape[-2])
    elif not isinstance(ratio, tuple):
        ratio = (ratio, ratio)
    if flow.shape[-2:] != torch.Size(size):
        corners = align_corners if mode in ("bilinear", "bicubic") else None
        flow = F.interpolate(flow, size=size, mode=mode, align_corners=corners)
    # new_tensor would make the processor wait for the GPU
    factors = torch.tensor(ratio, dtype=flow.dtype).to(flow.device, non_blocking=True)
    return flow * factors.view(1, 2, 1, 1)


def backward_warp(image: Tensor, flow: Tensor, *, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    r"""Fetch the previous frame's values to where they are seen now: ``out(q) = image(q + flow(q))``, bilinear.

    The warp of the paper's spatio-temporal features, and of TPS. Reads beyond an image of finite values give 0 (``zeros``;
    a position less than one pixel outside is blended with 0) or the nearest edge pixel (``border``, what TPS computes).
    Whole-pixel flow is exact. Half-precision images are sampled in float32 and returned in their own dtype: bfloat16
    cannot name a column beyond 256.

    Args:
        image: ``(N, C, H, W)``, floating point.
        flow: ``(N, 2, H, W)``, pixels of this very grid, x first. Vectors that are not finite read outside.
        padding: what lies outside the image.

    Returns:
        ``(N, C, H, W)`` in the dtype of ``image``; gradients flow to ``image`` and ``flow``.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    _check_pair(image, flow)
    if padding not in ("zeros", "border"):
        raise ValueError(f"backward_warp: unknown padding {padding!r}; allowed: 'zeros', 'border'")
    height, width = image.shape[-2:]
    exact = torch.promote_types(image.dtype, torch.float32)
    x, y = torch.nan_to_num(_targets(flow.to(exact), sign=1), nan=_FAR_OUTSIDE).unbind(1)
    left, top = x.floor(), y.floor()
    values = image.to(exact).flatten(2)
    warped = torch.zeros_like(values)
    # Four gathers rather than grid_sample: its grid of -1..1 would round positions, so that neither zero flow nor whole
    # pixels came out exactly and wide maps missed the published numbers. On CPU it costs the same with the gradient.
    for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, column_weight in ((left, 1 - (x - left)), (left + 1, x - left)):
            weight = row_weight * column_weight
            if padding == "zeros":
                weight = weight * ((row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1))
            corner = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            read = values.gather(2, corner.flatten(1)[:, None].expand_as(values))
            warped = warped + weight.flatten(1)[:, None] * read
    return warped.view_as(image).to(image.dtype)


def inside_mask(flow: Tensor) -> Tensor:
    """True where ``q + flow(q)`` lies between the centres of the outermost pixels, i.e. is read without padding.

    Args:
        flow: ``(N, 2, H, W)``, pixels, x first. Vectors that are not finite count as outside.

    Returns:
        bool ``(N, H, W)``.
    """
    _check_flow(flow)
    x, y = _targets(flow, sign=1).unbind(1)
    height, width = flow.shape[-2:]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def resize_mask(valid: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a validity mask by the area rule: a cell is valid when more than half of its pixels are.

    A cell has all pixels that it touches, also those of which it covers a part, where the sizes do not divide.

    Args:
        valid: bool ``(N, H, W)``.
        size: ``(h, w)`` of the result.

    Returns:
        bool ``(N, h, w)``.
    """
    if valid.shape[-2:] == torch.Size(size):
        return valid.bool()
    share = F.interpolate(valid[:, None].float(), size=size, mode="area")
    return share[:, 0] > 0.5


def compose_flow(newer: Tensor, older: Tensor) -> Tensor:
    r"""Chain two steps of backward flow: t to t-1 (``newer``) and t-1 to t-2 (``older``) give t to t-2.

    .. math:: o_{t \to t-2}(q) = o_{t \to t-1}(q) + o_{t-1 \to t-2}\bigl(q + o_{t \to t-1}(q)\bigr)

    The older flow is read bilinearly with edge values beyond the image, so the result is finite everywhere; whether it
    is *meaningful* at ``q`` is the caller's mask: ``valid_newer & warp(valid_older)``, see :func:`compose_valid`.

    Args:
        newer: ``(N, 2, H, W)``, pixels, x first.
        older: the same shape.

    Returns:
        ``(N, 2, H, W)``.
    """
    return newer + backward_warp(older, newer, padding="border")


def compose_valid(newer: Tensor, older: Tensor, flow: Tensor) -> Tensor:
    """Validity of a composed flow: the point must be seen in t-1 *and*, from its place there, in t-2.

    Args:
        newer: bool ``(N, H, W)``, validity of ``flow`` (t to t-1).
        older: bool ``(N, H, W)``, validity of the flow t-1 to t-2, on the grid of frame t-1.
        flow: ``(N, 2, H, W)``, the flow t to t-1.

    Returns:
        bool ``(N, H, W)``: ``newer`` and at least half of what the bilinear read of ``older`` touches.
    """
    visible = backward_warp(older[:, None].to(flow.dtype), flow)[:, 0]
    return newer & (visible >= 0.5)


def forward_splat(image: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    r"""Push the previous frame's values forward to the current frame, as published Accel code (DA-VSN) does.

    The value at column x, row y is written to ``X = round(x - u(x, y))``, ``Y = round(y - v(x, y))`` (half to even)
    when that is inside. Columns are visited from left to right, rows from top to bottom inside a column, and a later
    write replaces an earlier one: the largest x wins, then the largest y. Places that nothing reaches hold 0.
    The flow is backward flow sampled at the previous frame's pixel, as in the publication; unlike there every batch
    element uses its own flow. Rounding happens in the dtype of ``flow`` (float64 in the published code).

    Instead of a loop over pixels every write carries its turn ``x * H + y`` and each target keeps the latest turn.

    Args:
        image: ``(N, C, H, W)``, any dtype.
        flow: ``(N, 2, H, W)``, pixels of this very grid, x first. Vectors that are not finite write nothing.

    Returns:
        The splatted image ``(N, C, H, W)`` and bool ``(N, H, W)``: where something was written. Gradients flow to
        ``image`` (each written value's to its source pixel), none to ``flow``.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    _check_pair(image, flow)
    batch, channels, height, width = image.shape
    x, y = torch.round(_targets(flow.detach(), sign=-1)).unbind(1)
    inside = (x == x.clamp(0, width - 1)) & (y == y.clamp(0, height - 1))  # false for NaN
    nowhere = height * width
    target = torch.where(inside, y.long() * width + x.long(), nowhere)

    turns = torch.arange(height * width, device=image.device)
    pixel_of_turn = turns.view(height, width).t().reshape(-1)
    latest = torch.full((batch, height * width + 1), -1, dtype=torch.long, device=image.device)
    in_turn = target.transpose(1, 2).flatten(1)
    latest = latest.scatter_reduce_(1, in_turn, turns.expand(batch, -1), "amax")[:, :-1]

    written = latest >= 0
    source = torch.where(written, pixel_of_turn[latest], nowhere)
    padded = F.pad(image.flatten(2), (0, 1))  # holes read the 0 behind the last pixel
    splatted = padded.gather(2, source[:, None].expand(-1, channels, -1))
    return splatted.view_as(image), written.view(batch, height, width)


def _targets(flow: Tensor, *, sign: int) -> Tensor:
    """``q + sign * flow(q)``: ``(N, 2, H, W)``, x first, in the dtype of ``flow`` but at least float32."""
    height, width = flow.shape[-2:]
    flow = flow.to(torch.promote_types(flow.dtype, torch.float32))
    x = torch.arange(width, dtype=flow.dtype, device=flow.device).expand(height, width)
    y = torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None].expand(height, width)
    return torch.stack((x, y)) + sign * flow


def _check_flow(flow: Tensor) -> None:
    if flow.dim() != 4 or flow.shape[1] != 2:
        raise ValueError(f"flow must be (N, 2, H, W), x first, got {tuple(flow.shape)}")


def _check_pair(image: Tensor, flow: Tensor) -> None:
    _check_flow(flow)
    if image.dim() != 4 or image.shape[0] != flow.shape[0] or image.shape[2:] != flow.shape[2:]:
        raise ValueError(
            f"image {tuple(image.shape)} and flow {tuple(flow.shape)} must agree in batch and size; "
            "bring the flow to the image's grid with resize_flow first"
        )
