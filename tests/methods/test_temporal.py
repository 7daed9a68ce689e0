"""Consistency with the propagated previous frame, against the published double loop. Identities: test_blocks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bench.networks.build import build_segmenter
from methods.common.temporal import flow_at, frame_scores, intra_domain_consistency


def probabilities(seed: int, n: int = 2) -> Tensor:
    return torch.randn(n, 4, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(1)


def slow(current: Tensor, previous: Tensor, flow: Tensor) -> float:
    """Pixel by pixel: splat, compare entropies, sum; the divisor counts every class and pixel."""
    n, k, height, width = current.shape

    def entropy(p: Tensor) -> float:
        return -sum(float(x) * math.log2(float(x)) for x in p) / math.log2(k) / k

    total = 0.0
    for i in range(n):
        arrived: dict[tuple[int, int], Tensor] = {}
        for x in range(width):
            for y in range(height):
                to_x, to_y = round(x - float(flow[i, 0, y, x])), round(y - float(flow[i, 1, y, x]))
                if 0 <= to_x < width and 0 <= to_y < height:
                    arrived[to_y, to_x] = previous[i, :, y, x]
        for (y, x), p in arrived.items():
            if entropy(p) < entropy(current[i, :, y, x]):
                total += float((current[i, :, y, x] - p).abs().sum())
    return total / current.numel()


@pytest.mark.parametrize("size", [0.0, 1.5, 4.0])
def test_consistency_against_loops(size: float) -> None:
    flow = size * torch.randn(2, 2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    current, previous = probabilities(0), probabilities(1)
    loss = intra_domain_consistency(current, previous, flow)
    assert float(loss) == pytest.approx(slow(current, previous, flow), rel=1e-9)
    assert float(loss) > 0


def test_gradient_reaches_the_current_frame_only() -> None:
    scores = torch.randn(1, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    previous = (6 * scores.flip(1)).softmax(1).requires_grad_()  # more certain, and different
    flow = torch.zeros(1, 2, 3, 4, dtype=torch.float64)
    current = scores.requires_grad_()
    loss = intra_domain_consistency(current.softmax(1), previous, flow)
    present, past = torch.autograd.grad(loss, [current, previous], allow_unused=True)
    assert past is None and present is not None and present.abs().sum() > 0
    assert torch.autograd.gradcheck(lambda s: intra_domain_consistency(s.softmax(1), previous, flow), current)


def test_a_step_along_the_gradient_moves_towards_the_past() -> None:
    scores = torch.zeros(1, 3, 2, 2, requires_grad=True)
    sure = torch.tensor([5.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 2, 2).softmax(1)
    (gradient,) = torch.autograd.grad(
        intra_domain_consistency(scores.softmax(1), sure, torch.zeros(1, 2, 2, 2)), scores
    )
    assert (gradient[:, 0] < 0).all() and (gradient[:, 1:] > 0).all()


def test_flow_at_has_one_ratio_for_both_components() -> None:
    flow = torch.ones(1, 2, 32, 64)
    assert torch.equal(flow_at(flow, (8, 16)), torch.full((1, 2, 8, 16), 0.25))
    torch.testing.assert_close(flow_at(torch.ones(1, 2, 33, 65), (10, 18)), torch.full((1, 2, 10, 18), 10 / 33))


@pytest.mark.parametrize("t", [2, 3])
def test_frame_scores_are_those_of_a_clip_without_a_past(t: int) -> None:
    torch.manual_seed(0)
    segmenter = build_segmenter("mini", "conv1x1", 5, t).eval()
    frames, flow = torch.rand(2, t, 3, 32, 64), torch.randn(2, t - 1, 2, 32, 64)
    visible, hidden = torch.ones(2, t - 1, 32, 64, dtype=torch.bool), torch.zeros(2, t - 1, 32, 64, dtype=torch.bool)
    with torch.no_grad():
        out, alone = segmenter(frames, flow, visible), segmenter(frames, flow, hidden)
        backwards = segmenter(frames.flip(1), flow, hidden)
        latest, oldest = frame_scores(segmenter, out, -1), frame_scores(segmenter, out, 0)
    torch.testing.assert_close(latest.main, alone.scores)
    torch.testing.assert_close(latest.auxiliary, alone.auxiliary_scores)
    torch.testing.assert_close(oldest.main, backwards.scores, rtol=1e-4, atol=1e-5)
    segmenter.auxiliary_classifier = None
    assert frame_scores(segmenter, out, -1).auxiliary is None
