"""bfloat16 where the processor has none, and numbers too small for a processor's full speed.

Autocast hands convolutions in bfloat16 to oneDNN, which takes them from AVX-512 on. On other processors they end in a loop that is
30 to 40 times as slow as float32 (``tests/benchmarks/test_precision.py``). There, the operations that autocast lowers are
computed here as such hardware does: operands rounded to bfloat16, products summed in float32, the result rounded once. Gradients
follow from the same roundings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

LOWERED: frozenset[Callable[..., Any]] = frozenset(
    {
        *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
        *(F.linear, F.scaled_dot_product_attention, torch.einsum),
        *(torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm),
        *(torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm),
    }
)


class _Rounded(TorchFunctionMode):
    """Computes what autocast would lower in float32, between roundings to bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in LOWERED or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        args, kwargs = tree_map(_rounded, (args, kwargs))
        with torch.autocast("cpu", enabled=False):
            result: Tensor = func(*args, **kwargs)
        return result.bfloat16() if result.dtype == torch.float32 else result


def _rounded(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64:
        return value.bfloat16().float()
    return value


def computes_bfloat16(device: torch.device) -> bool:
    """Whether convolutions in bfloat16 are computed as such."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def flush_denormals(on: bool = True) -> bool:
    """Take numbers closer to 0 than 1.2e-38 as 0 in arithmetic on a processor, or no longer; returns whether they were so before.

    Weight decay leaves such numbers in trained models (18,302 of the published ESPNet's), and an Intel processor takes many times
    as long for them: a step on the real drive took over ten times as long. Threads that torch starts later do as the one that calls
    this, threads that it has started do not: call it before anything is computed.
    """
    before = bool((torch.full((1,), 1, dtype=torch.int32).view(torch.float32) * 1.0).view(torch.int32).item() == 0)
    torch.set_flush_denormal(on)
    return before


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """:func:`flush_denormals` until the block ends, then as it was."""
    before = flush_denormals()
    try:
        yield
    finally:
        flush_denormals(before)


@contextlib.contextmanager
def bfloat16(device: torch.device, enabled: bool = True) -> Iterator[None]:
    """Autocast to bfloat16, with the same roundings where the processor has no such arithmetic."""
    emulated = _Rounded() if enabled and not computes_bfloat16(device) else contextlib.nullcontext()
    with torch.autocast(device.type, torch.bfloat16, enabled=enabled), emulated:
        yield
