import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from stpl.warp import (
    backward_warp,
    compose_flow,
    compose_valid,
    forward_splat,
    inside_mask,
    resize_flow,
    resize_mask,
)

sizes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 10_000)
scales = st.sampled_from([0.0, 0.5, 2.0, 100.0])


def random_pair(size, seed, scale, dtype=torch.float32):
    batch, channels, height, width = size
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, channels, height, width, generator=g, dtype=dtype)
    return image, scale * torch.randn(batch, 2, height, width, generator=g, dtype=dtype)


def slow_warp(image, flow, padding):
    """Bilinear interpolation, one pixel at a time."""
    batch, _, height, width = image.shape
    out = torch.zeros_like(image)
    for n in range(batch):
        for row in range(height):
            for column in range(width):
                x, y = column + float(flow[n, 0, row, column]), row + float(flow[n, 1, row, column])
                for r in (math.floor(y), math.floor(y) + 1):
                    for c in (math.floor(x), math.floor(x) + 1):
                        weight = (1 - abs(y - r)) * (1 - abs(x - c))
                        if padding == "border":
                            out[n, :, row, column] += (
                                weight * image[n, :, min(max(r, 0), height - 1), min(max(c, 0), width - 1)]
                            )
                        elif 0 <= r < height and 0 <= c < width:
                            out[n, :, row, column] += weight * image[n, :, r, c]
    return out


def slow_splat(image, flow):
    """The published double loop: column by column, row by row, a later write replaces an earlier one."""
    batch, _, height, width = image.shape
    out, written = torch.zeros_like(image), torch.zeros(batch, height, width, dtype=torch.bool)
    for n in range(batch):
        for x in range(width):
            for y in range(height):
                to_x, to_y = round(x - float(flow[n, 0, y, x])), round(y - float(flow[n, 1, y, x]))
                if 0 <= to_x < width and 0 <= to_y < height:
                    out[n, :, to_y, to_x] = image[n, :, y, x]
                    written[n, to_y, to_x] = True
    return out, written


# --- backward warp


@given(sizes, seeds, scales, st.sampled_from(["zeros", "border"]))
def test_warp_equals_the_loop(size, seed, scale, padding):
    image, flow = random_pair(size, seed, scale, torch.float64)
    assert torch.allclose(backward_warp(image, flow, padding=padding), slow_warp(image, flow, padding), atol=1e-11)


@given(sizes, seeds)
def test_zero_flow_is_the_identity_to_the_bit(size, seed):
    image, flow = random_pair(size, seed, 0.0)
    assert torch.equal(backward_warp(image, flow), image)
    assert torch.equal(backward_warp(image, flow, padding="border"), image)


@given(sizes, seeds, st.sampled_from([0.5, 2.0]), st.sampled_from(["zeros", "border"]))
def test_warp_commutes_with_a_mirror_that_negates_x(size, seed, scale, padding):
    image, flow = random_pair(size, seed, scale, torch.float64)
    mirrored = flow.flip(-1) * torch.tensor([-1.0, 1.0], dtype=flow.dtype).view(1, 2, 1, 1)
    direct = backward_warp(image, flow, padding=padding).flip(-1)
    assert torch.allclose(backward_warp(image.flip(-1), mirrored, padding=padding), direct, atol=1e-11)


def test_warp_by_hand():
    image = torch.tensor([[[[1.0, 2.0, 4.0]]]])
    flow = torch.zeros(1, 2, 1, 3)
    flow[0, 0, 0] = torch.tensor([1.0, 0.5, 0.25])
    # column 0 reads column 1; column 1 reads midway between 2 and 4; column 2 reads a quarter beyond the edge
    assert backward_warp(image, flow).tolist() == [[[[2.0, 3.0, 3.0]]]]
    assert backward_warp(image, flow, padding="border").tolist() == [[[[2.0, 3.0, 4.0]]]]


def test_warp_points_x_along_columns_and_y_along_rows():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    down = torch.zeros(1, 2, 3, 4)
    down[:, 1] = 1
    assert torch.equal(backward_warp(image, down)[0, 0, :2], image[0, 0, 1:])


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_warp_gradcheck(padding):
    image, flow = random_pair((2, 2, 4, 5), 3, 1.3, torch.float64)
    flow = flow.round(decimals=1) + 0.03  # away from whole pixels, where bilinear reading has a kink
    inputs = image.requires_grad_(), flow.requires_grad_()
    assert gradcheck(lambda i, f: backward_warp(i, f, padding=padding), inputs)


def test_half_precision_is_sampled_in_single():
    image, flow = random_pair((1, 2, 4, 300), 0, 1.0)
    half = backward_warp(image.bfloat16(), flow)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, backward_warp(image.bfloat16().float(), flow).bfloat16())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_vectors_that_are_not_finite_read_outside(bad):
    image, flow = torch.ones(1, 1, 3, 3), torch.zeros(1, 2, 3, 3)
    flow[0, :, 1, 1] = bad
    expected = torch.ones(3, 3)
    expected[1, 1] = 0
    assert torch.equal(backward_warp(image, flow)[0, 0], expected)
    assert torch.equal(inside_mask(flow)[0], expected.bool())
    assert not forward_splat(image, flow)[1][0, 1, 1]


# --- masks


@given(sizes, seeds, scales)
def test_inside_mask_is_where_padding_does_not_matter(size, seed, scale):
    _, flow = random_pair(size, seed, scale, torch.float64)
    weight_inside = backward_warp(torch.ones_like(flow[:, :1]), flow)[:, 0]
    assert torch.equal(inside_mask(flow), weight_inside > 1 - 1e-9)


def test_resize_mask_wants_more_than_half():
    mask = torch.tensor([[[1, 1, 1, 0], [1, 0, 0, 1]]]).bool()
    assert resize_mask(mask, (1, 2)).tolist() == [[[True, False]]]  # 3 of 4; 2 of 4 is not more than half
    assert resize_mask(mask, (2, 4)) is not None and torch.equal(resize_mask(mask, (2, 4)), mask)


# --- flow


def test_resize_flow_scales_each_axis_by_its_own_ratio():
    flow = torch.ones(1, 2, 8, 32)
    resized = resize_flow(flow, (4, 4))
    assert torch.equal(resized[:, 0], torch.full((1, 4, 4), 1 / 8))
    assert torch.equal(resized[:, 1], torch.full((1, 4, 4), 1 / 2))
    published = resize_flow(flow, (4, 4), align_corners=True, ratio=4 / 8)
    assert torch.allclose(published, torch.full((1, 2, 4, 4), 0.5))
    assert torch.equal(resize_flow(flow, (4, 4), ratio=(2.0, 3.0))[0, :, 0, 0], torch.tensor([2.0, 3.0]))


@given(st.integers(1, 6), st.integers(1, 6), seeds)
def test_resizing_flow_to_its_own_size_changes_nothing(height, width, seed):
    _, flow = random_pair((2, 1, height, width), seed, 3.0)
    assert torch.equal(resize_flow(flow, (height, width)), flow)


def test_whole_cells_move_the_same_at_both_resolutions():
    """Warping and averaging over 4x4 cells commute for motion by whole cells."""
    image = torch.randn(1, 2, 16, 32)
    flow = torch.zeros(1, 2, 16, 32)
    flow[:, 0], flow[:, 1] = 8.0, -4.0
    pooled = torch.nn.functional.avg_pool2d(backward_warp(image, flow), 4)
    small = backward_warp(torch.nn.functional.avg_pool2d(image, 4), resize_flow(flow, (4, 8)))
    assert torch.allclose(pooled, small, atol=1e-6)


def test_composed_flow_equals_two_warps_for_whole_pixels():
    g = torch.Generator().manual_seed(1)
    image = torch.randn(1, 3, 7, 9, generator=g)
    newer = torch.randint(-1, 2, (1, 2, 7, 9), generator=g).float()
    older = torch.randint(-1, 2, (1, 2, 7, 9), generator=g).float()
    inside = inside_mask(newer) & (backward_warp(inside_mask(older)[:, None].float(), newer)[:, 0] == 1)
    twice = backward_warp(backward_warp(image, older), newer)
    once = backward_warp(image, compose_flow(newer, older))
    mask = inside[:, None].expand_as(image)
    assert inside.any() and torch.equal(once[mask], twice[mask])


def test_composed_validity_needs_both_steps():
    newer = torch.ones(1, 1, 4, dtype=torch.bool)
    newer[..., 0] = False
    older = torch.ones(1, 1, 4, dtype=torch.bool)
    older[..., 2] = False  # seen from column 1 through the flow below
    flow = torch.zeros(1, 2, 1, 4)
    flow[:, 0] = 1
    # column 0 is hidden in t-1, column 1 looks at the hole, column 2 is fine, column 3 leaves the image
    assert compose_valid(newer, older, flow).tolist() == [[[False, False, True, False]]]


# --- forward splat


@given(sizes, seeds, scales)
def test_splat_equals_the_published_loop(size, seed, scale):
    image, flow = random_pair(size, seed, scale)
    flow = (flow * 2).round() / 2  # many ties, many collisions
    splatted, written = forward_splat(image, flow)
    expected, expected_written = slow_splat(image, flow)
    assert torch.equal(splatted, expected) and torch.equal(written, expected_written)


def test_splat_by_hand():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    flow = torch.zeros(1, 2, 2, 2)
    flow[0, 0] = torch.tensor([[-1.0, 0.0], [-1.0, 1.0]])
    flow[0, 1] = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    # 1 -> column 1 row 0, then 3 -> the same place, then 2 stays there and wins; 4 -> column 0 row 0
    splatted, written = forward_splat(image, flow)
    assert splatted.tolist() == [[[[4.0, 2.0], [0.0, 0.0]]]]
    assert written.tolist() == [[[True, True], [False, False]]]


@given(sizes, seeds)
def test_splat_of_zero_flow_is_the_identity(size, seed):
    image, flow = random_pair(size, seed, 0.0)
    splatted, written = forward_splat(image, flow)
    assert torch.equal(splatted, image) and written.all()


def test_splat_gradcheck_and_where_it_goes():
    image, flow = random_pair((2, 2, 4, 5), 5, 1.5, torch.float64)
    assert gradcheck(lambda i: forward_splat(i, flow)[0], (image.requires_grad_(),))
    splatted, written = forward_splat(image, flow)
    splatted.sum().backward()
    assert image.grad.sum() == written.sum() * image.shape[1]  # one source per written place, the rest get none


# --- faults


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="x first"):
        inside_mask(torch.zeros(1, 3, 4, 4))
    for function in (backward_warp, forward_splat):
        with pytest.raises(ValueError, match="resize_flow"):
            function(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="'zeros', 'border'"):
        backward_warp(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 4), padding="reflect")
