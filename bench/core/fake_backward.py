"""A backward pass without autograd's engine, which refuses a device that is not there: its graph is walked here, node by node.

Of :mod:`.no_gpu`, whose tensors have no values. What a node kept is let go once the pass has been through it, as the
engine does, so that the ledger's memory is that of a real pass.
"""

from __future__ import annotations

import heapq
from typing import Any

import torch
from torch import Tensor


class Kept:
    """A tensor that the backward pass needs; gone once the pass has been through the operation that kept it."""

    unpacked: list[Kept] | None = None

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor

    def get(self) -> Tensor:
        """The tensor."""
        assert self.tensor is not None, "backward() was called twice"
        if Kept.unpacked is not None:
            Kept.unpacked.append(self)
        return self.tensor


def backward(root: Tensor) -> None:
    """``root.backward()``: gradients of a scalar into its leaves, as autograd's engine does it, node by node."""
    first = root.grad_fn
    assert first is not None
    needed: dict[Any, int] = {}
    seen, stack = {first}, [first]
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is not None:
                needed[node] = needed.get(node, 0) + 1
                if node not in seen:
                    seen.add(node)
                    stack.append(node)
    del seen, stack
    with torch.no_grad():
        grads: dict[Any, dict[int, Tensor]] = {first: {0: torch.ones_like(root)}}
        order, number = [(-first._sequence_nr(), 0, first)], 0
        while order:
            _, _, node = heapq.heappop(order)
            inputs = grads.pop(node, {})
            if hasattr(node, "variable"):
                if inputs:
                    accumulate(node.variable, inputs.pop(0))
                continue
            outputs = call(node, inputs)
            del inputs
            for (following, index), grad in outputs:
                if grad is not None:
                    grad = fitted(grad, following._input_metadata[index])
                    pending = grads.setdefault(following, {})
                    pending[index] = grad if index not in pending else pending[index] + grad
                needed[following] -= 1
                if needed[following] == 0:
                    number += 1
                    heapq.heappush(order, (-following._sequence_nr(), number, following))
            del outputs
            grad = None


def call(node: Any, inputs: dict[int, Tensor]) -> list[tuple[tuple[Any, int], Tensor | None]]:
    """Run a node of the graph on the gradients of its outputs, and release the tensors that it kept.

    Returns:
        For each edge to a next node, the gradient that goes along it.
    """
    edges = node.next_functions
    metadata = node._input_metadata
    arguments = [inputs.get(i) for i in range(len(metadata))]
    if not inputs:
        return [(edge, None) for edge in edges if edge[0] is not None]
    if hasattr(node, "apply"):  # of a torch.autograd.Function: undefined gradients are zeros
        arguments = [
            torch.zeros(tuple(t.shape), dtype=t.dtype, device=t.device) if g is None else g
            for g, t in zip(arguments, metadata, strict=True)
        ]
    outer, Kept.unpacked = Kept.unpacked, []
    try:
        out = (node.apply if hasattr(node, "apply") else node)(*arguments)
        for kept in Kept.unpacked:
            kept.tensor = None
    finally:
        Kept.unpacked = outer
    out = out if isinstance(out, tuple) else (out,)
    if hasattr(node, "needs_input_grad") and hasattr(
        node, "apply"
    ):  # one for each argument, also for those that are no tensors
        out = tuple(grad for grad, needed in zip(out, node.needs_input_grad, strict=True) if needed)
        edges = tuple(edge for edge in edges if edge[0] is not None)
    return [(edge, grad) for edge, grad in zip(edges, out, strict=True) if edge[0] is not None]


def fitted(grad: Tensor, metadata: Any) -> Tensor:
    """A gradient in the shape and type of the tensor that it belongs to, which ``metadata`` describes."""
    shape = tuple(metadata.shape)
    if grad.shape != shape:
        grad = grad.sum_to_size(shape)
    return grad if grad.dtype == metadata.dtype else grad.to(metadata.dtype)


def accumulate(leaf: Tensor, grad: Tensor) -> None:
    """Add to a leaf's gradient."""
    if leaf.grad is None:
        leaf.grad = grad.detach() if grad.is_contiguous() and grad.storage_offset() == 0 else grad.clone()
    else:
        leaf.grad += grad
