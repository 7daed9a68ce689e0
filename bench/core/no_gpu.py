"""A GPU where there is none: tensors with a shape, a type and a device, but no values, and a ledger of what happens to them.

Torch's fake tensors stand for what lies on the GPU; what is on the processor (random draws, numbers of a step) stays real. The
ledger sees every operation: its floating-point operations, the bytes that it reads and writes, the storages that live, and what
makes the processor wait for the GPU. A tensor on the wrong device is an error, as on a GPU. What is asked of values that are not
there is answered:

* a selection by a mask takes all pixels, so memory and operations are upper bounds where a step selects,
* there are as many different labels as classes, each equally often,
* ``any`` is False and every other truth True; a number is 1.0, or 0.

Autograd's engine refuses a device that is not there, so :mod:`.fake_backward` walks its graph.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from .fake_backward import Kept, backward
from .registry import ROOT

aten = torch.ops.aten
BLOCK = 512
"""Bytes that an allocation on a GPU is rounded up to."""


class Operation(NamedTuple):
    """One kernel: floating-point operations, bytes read and written, and the type that it computes in."""

    flops: int
    bytes: int
    dtype: torch.dtype


class Wait(NamedTuple):
    """Where the processor waits for the GPU: the operation, and the file and function that ask for it."""

    what: str
    where: str


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation on a device.

    Args:
        device: that is looked at: ``cpu`` with real tensors, or ``cuda`` with fake ones, under a ``FakeTensorMode``.
        classes: answer to how many different labels there are.

    Attributes:
        operations: in order.
        live, peak: bytes of living storages now, and at the highest since :meth:`reset`.
        waits: number of times by place.
    """

    def __init__(self, device: str, classes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.classes = device, classes
        self.operations: list[Operation] = []
        self.live = self.peak = 0
        self.waits: dict[Wait, int] = {}
        self._known: dict[int, tuple[Any, int]] = {}
        self._counted: dict[int, int] = {}

    def reset(self) -> None:
        """Start counting anew from what is alive now; cyclic garbage is collected first."""
        gc.collect()
        self.operations, self.waits, self.peak = [], {}, self.live

    # Memory -----------------------------------------------------------------------------------------------------------

    def own(self, tensor: Tensor) -> None:
        """Count a tensor's storage from now until it is gone."""
        if not self._here(place_of(tensor)):
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        if self.device == "cuda":
            size = -(-size // BLOCK) * BLOCK

        def gone(_: Any) -> None:
            del self._known[key]
            self._counted.pop(key, None)
            self.live -= size

        self._known[key] = weakref.ref(storage, gone), size
        self.live += size
        self.peak = max(self.peak, self.live)

    # Operations -------------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return place_of(args[0])
        inputs = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
        device = kwargs.get("device")
        if not (self._here(device) or any(self._here(place_of(x)) for x in inputs)):
            with really() if self.device == "cuda" else contextlib.nullcontext():
                return func(*args, **kwargs)
        answer = ANSWERS.get(func.overloadpacket) if self.device == "cuda" else None
        out = func(*args, **kwargs) if answer is None else answer(self, func, *args, **kwargs)
        outputs = [x for x in tree_iter(out) if isinstance(x, Tensor)]
        for tensor in outputs:
            self.own(tensor)
        if not is_view(func) and func.overloadpacket not in FREE:
            self._count(func, args, kwargs, out, inputs, outputs)
        return out

    def _here(self, device: Any) -> bool:
        return device is not None and torch.device(device).type == self.device

    def _count(self, func: Any, args: Any, kwargs: Any, out: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        formula = flop_registry.get(func.overloadpacket)
        flops = int(formula(*args, **kwargs, out_val=out)) if formula else 0
        moved = sum(x.numel() * x.element_size() for x in (*inputs, *outputs) if self._here(place_of(x)))
        kinds = [x.dtype for x in inputs if x.is_floating_point()]
        self.operations.append(Operation(flops, moved, kinds[0] if kinds else torch.float32))

    def wait(self, operation: Any) -> None:
        """Count one wait of the processor for the GPU, by operation and caller."""
        name = str(getattr(operation, "overloadpacket", operation)).removeprefix("aten.")
        wait = Wait(name, caller())
        self.waits[wait] = self.waits.get(wait, 0) + 1


def place_of(tensor: Tensor) -> torch.device:
    """A tensor's device; asking a fake one itself would be one more operation."""
    device: torch.device = tensor.__dict__.get("fake_device") or tensor.device
    return device


def really() -> Any:
    """A context in which tensors are real, not fake."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    return unset_fake_temporarily()


OURS = tuple(str(ROOT.parent / name) for name in ("methods", "stpl", "bench"))


def caller() -> str:
    """The innermost function of this project that is being called, below the ledger: ``stpl/contrast.py: pixel_contrast``."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(OURS) and file != __file__:
            path = Path(file)
            return f"{path.parent.name}/{path.name}: {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def is_view(func: Any) -> bool:
    """Whether an operation only looks at its argument in another way."""
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


FREE = {
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.new_empty,
    aten.new_empty_strided,
    aten.detach,
    aten.lift_fresh,
    aten.set_,
}


# Answers to what is asked of values that are not there ------------------------------------------------------------------


def _scalar(ledger: Ledger, func: Any, x: Tensor) -> Any:
    ledger.wait(func)
    counted = ledger._counted.get(x.untyped_storage()._cdata)
    if x.dtype == torch.bool:
        return counted is None
    return 1.0 if x.is_floating_point() else counted or 0


def _any(ledger: Ledger, func: Any, *args: Any, **kwargs: Any) -> Tensor:
    out: Tensor = func(*args, **kwargs)
    ledger.own(out)
    ledger._counted[out.untyped_storage()._cdata] = 0
    return out


def _nonzero(ledger: Ledger, func: Any, x: Tensor) -> Tensor:
    ledger.wait(func)
    return x.new_empty((x.numel(), x.dim()), dtype=torch.long)


def _all(ledger: Ledger, func: Any, indices: Any, device: torch.device) -> list[Any]:
    """Indices with each mask replaced by the indices of all its elements."""
    expanded: list[Any] = []
    for index in indices:
        if index is None:
            expanded.append(None)
            continue
        if index.device != device:
            ledger.wait(f"{func.overloadpacket} by indices of the processor")
            index = torch.empty_like(index, device=device)
        if index.dtype in (torch.bool, torch.uint8):
            ledger.wait(func)
            expanded += [torch.empty(index.numel(), dtype=torch.long, device=device) for _ in range(index.dim())]
        else:
            expanded.append(index)
    return expanded


def _index(ledger: Ledger, func: Any, x: Tensor, indices: Any, *args: Any, **kwargs: Any) -> Any:
    return func(x, _all(ledger, func, indices, x.device), *args, **kwargs)


def _masked_select(ledger: Ledger, func: Any, x: Tensor, mask: Tensor) -> Tensor:
    ledger.wait(func)
    return x.new_empty(torch.broadcast_shapes(x.shape, mask.shape).numel())  # type: ignore[no-untyped-call]


def _unique(ledger: Ledger, func: Any, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
    ledger.wait(func)
    number = min(ledger.classes, x.numel())
    counts = x.new_empty(number, dtype=torch.long)
    return x.new_empty(number), x.new_empty(x.shape, dtype=torch.long), counts


def _bincount(ledger: Ledger, func: Any, x: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    ledger.wait(func)
    bins = max(minlength, 1)
    kind = torch.long if weights is None else torch.promote_types(weights.dtype, torch.float32)
    counts = x.new_empty(bins, dtype=kind)
    ledger.own(counts)
    ledger._counted[counts.untyped_storage()._cdata] = x.numel() // bins
    return counts


def _repeat(ledger: Ledger, func: Any, repeats: Tensor, *, output_size: int | None = None) -> Tensor:
    if output_size is None:
        ledger.wait(func)
        output_size = repeats.numel()
    return repeats.new_empty(output_size, dtype=torch.long)


def _equal(ledger: Ledger, func: Any, x: Tensor, y: Tensor) -> bool:
    ledger.wait(func)
    return True


def _to_copy(ledger: Ledger, func: Any, x: Tensor, **kwargs: Any) -> Tensor:
    to = torch.device(kwargs.get("device") or x.device)
    if to.type == x.device.type:
        copied: Tensor = func(x, **kwargs)
        return copied
    if to.type == "cpu":
        ledger.wait("copy from the GPU")
        with really():
            return torch.zeros(x.shape, dtype=kwargs.get("dtype") or x.dtype)
    if not kwargs.get("non_blocking"):
        ledger.wait("copy to the GPU")
    return torch.empty(x.shape, dtype=kwargs.get("dtype") or x.dtype, device="cuda")


def _copy(ledger: Ledger, func: Any, x: Tensor, y: Tensor, non_blocking: bool = False) -> Tensor:
    if y.device.type != x.device.type:
        if not (non_blocking and x.device.type == "cuda"):
            ledger.wait("copy to the GPU" if x.device.type == "cuda" else "copy from the GPU")
        return x
    copied: Tensor = func(x, y, non_blocking)
    return copied


ANSWERS: dict[Any, Callable[..., Any]] = {
    aten._local_scalar_dense: _scalar,
    aten.any: _any,
    aten.nonzero: _nonzero,
    aten.index: _index,
    aten.index_put: _index,
    aten.index_put_: _index,
    aten._index_put_impl_: _index,
    aten.masked_select: _masked_select,
    aten._unique2: _unique,
    aten.unique_consecutive: _unique,
    aten.bincount: _bincount,
    aten.repeat_interleave: _repeat,
    aten.equal: _equal,
    aten._to_copy: _to_copy,
    aten.copy_: _copy,
}


# A GPU that is not there -----------------------------------------------------------------------------------------------


def onto_gpu(module: nn.Module, ledger: Ledger) -> None:
    """Put parameters and buffers on the fake GPU, as ``module.to("cuda")`` does. They are other objects afterwards."""
    fakes: dict[int, Tensor] = {}

    def fake_copy(tensor: Tensor) -> Tensor:
        fake: Tensor = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")
        ledger.own(fake)
        return nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake

    for submodule in module.modules():
        stores: tuple[dict[str, Any], ...] = submodule._parameters, submodule._buffers
        for registered in stores:
            for name, tensor in registered.items():
                if tensor is not None:
                    if id(tensor) not in fakes:
                        fakes[id(tensor)] = fake_copy(tensor)
                    registered[name] = fakes[id(tensor)]


class GeneratorOf(torch.Generator):
    """A generator that says that it is a GPU's."""

    says: torch.device

    def __new__(cls, device: torch.device | str = "cpu") -> GeneratorOf:
        generator: GeneratorOf = super().__new__(cls, "cpu")  # type: ignore[call-arg]
        generator.says = torch.device(device)
        return generator

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The device that was asked for."""
        return self.says


@contextlib.contextmanager
def no_gpu(classes: int) -> Iterator[Ledger]:
    """A GPU of fake tensors, and a ledger of what happens on it."""
    import torch.optim.optimizer as optimiser
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
    from torch.utils import _foreach_utils as foreach

    class Fake(FakeTensorMode):  # type: ignore[no-untyped-call]
        # Where there is a GPU, torch makes constants on it, and copies of them do not mix with fake tensors.
        avoid_device_init = True

    with contextlib.ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings())
        warnings.filterwarnings(
            "ignore", message="Accessing the data pointer of FakeTensor"
        )  # torch's own deepcopy does
        for owner, name, value in (
            (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
            (torch.cuda, "is_bf16_supported", lambda *_: True),
            (torch.Tensor, "backward", lambda self, *_, **__: backward(self)),
            (torch, "Generator", GeneratorOf),
            (optimiser, "_foreach_supported_types", [*optimiser._foreach_supported_types, FakeTensor]),
            (foreach, "_foreach_supported_types", [torch.Tensor, FakeTensor]),
        ):
            if hasattr(owner, name):  # of all versions of torch
                undo.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, value)
        undo.enter_context(torch.autograd.graph.saved_tensors_hooks(Kept, Kept.get))
        undo.enter_context(Fake(allow_non_fake_inputs=True))
        yield undo.enter_context(Ledger("cuda", classes))
