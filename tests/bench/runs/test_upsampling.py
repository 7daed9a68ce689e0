"""Labels in bands of rows are those of upsampling everything and ``argmax``, bit for bit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.runs import upsampling
from bench.runs.upsampling import best_labels


def plain(scores: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    return F.interpolate(scores, size, mode="bilinear", align_corners=align_corners).argmax(1)


@pytest.fixture
def banded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Small pictures go in bands, too; columns that torch compared again are counted."""
    recomputed: list[int] = []
    inner = upsampling.upsampled

    def counted(scores: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
        if size[0] > 1 and len(scores[0]) > 1:
            recomputed.append(size[1])
        return inner(scores, size, align_corners)

    monkeypatch.setattr(upsampling, "LARGE", 0)
    monkeypatch.setattr(upsampling, "upsampled", counted)
    return recomputed


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("step", [None, 1e-6, 0.5])
def test_any_shape_and_any_tie(step: float | None, align_corners: bool, banded: list[int]) -> None:
    """Scores as they come, a rounding apart, and of a few values only, where whole regions tie; up, down and at the same size."""
    g = torch.Generator().manual_seed(0)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=g))

    for _ in range(8):
        shape = (number(1, 3), number(4, 20), number(2, 90), number(2, 200))
        size = (number(129, 200), number(129, 300))
        scores = torch.randn(shape, generator=g) * 10.0 ** number(-3, 4)
        if step is not None:  # classes in twos that differ by that much here and there
            scores = (
                torch.round(scores) if step == 0.5 else scores[:, :1] + step * torch.randn(shape, generator=g).round()
            )
        assert torch.equal(best_labels(scores, size, align_corners), plain(scores, size, align_corners)), (shape, size)
    assert step is None or max(banded) == upsampling.STRIP


@pytest.mark.parametrize("scores", [torch.zeros(1, 4, 5, 6), torch.full((1, 4, 5, 6), -1e30), torch.ones(1, 1, 5, 6)])
def test_where_all_is_one(scores: Tensor, banded: list[int]) -> None:
    assert torch.equal(best_labels(scores, (130, 140), False), torch.zeros(1, 130, 140, dtype=torch.int64))


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_a_few_classes(classes: int, banded: list[int]) -> None:
    scores = torch.randn(1, classes, 9, 40, generator=torch.Generator().manual_seed(3))
    assert torch.equal(best_labels(scores, (300, 200), False), plain(scores, (300, 200), False))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_torch_works_out_in_another_way_is_left_to_it(
    value: float, layout: torch.memory_format, banded: list[int]
) -> None:
    scores = torch.randn(2, 5, 9, 9, generator=torch.Generator().manual_seed(1))
    for size in ((20, 30), (200, 140)):
        for changed in (scores, scores.index_fill(2, torch.tensor([4]), value)):
            formatted = changed.contiguous(memory_format=layout)
            assert torch.equal(best_labels(formatted, size, False), plain(formatted, size, False))


def test_memory_does_not_grow_with_classes_times_pixels() -> None:
    """The largest tensor that is made is the labels, or a band: not one of classes x pixels."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(tensor, Tensor):
                    largest = max(largest, tensor.untyped_storage().nbytes())
            return out

    size = (512, 1024)
    scores = torch.randn(1, 15, 33, 65, generator=torch.Generator().manual_seed(2))
    with Watch():
        labels = best_labels(scores, size, True)
    assert largest == max(8 * size[0] * size[1], 4 * upsampling.BAND * 15 * size[1])
    assert torch.equal(labels, plain(scores, size, True))
