import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from stpl.fusion import FUSIONS, build_fusion

C, H, W = 6, 4, 5
every_fusion = pytest.mark.parametrize("name", sorted(FUSIONS))
every_length = pytest.mark.parametrize("frames", [2, 3])


def trained_looking(name, frames, dtype=torch.float64):
    """A block whose weights are all random, so that nothing holds only because of the initialisation."""
    torch.manual_seed(7)
    fusion = build_fusion(name, C, frames).to(dtype)
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return fusion


def maps(frames, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    stack = torch.randn(frames, 2, C, H, W, generator=g, dtype=dtype)
    masks = torch.rand(frames - 1, 2, H, W, generator=g) > 0.4
    return stack[0], list(stack[1:]), list(masks)


def test_the_six_operators_of_the_issue():
    assert set(FUSIONS) == {"none", "concat", "add", "conv1x1", "attention", "cross_attention"}


@every_fusion
@every_length
def test_output_shape(name, frames):
    fusion = build_fusion(name, C, frames)
    current, previous, valid = maps(frames, dtype=torch.float32)
    assert fusion(current, previous, valid).shape == (2, fusion.out_channels, H, W)
    assert fusion.out_channels == (C * frames if name == "concat" else C)


@every_fusion
@every_length
@given(seed=st.integers(0, 100))
def test_an_invalid_frame_is_as_good_as_left_out(name, frames, seed):
    fusion = trained_looking(name, frames)
    current, previous, valid = maps(frames, seed)
    alone = fusion(current, (), ())
    nothing_valid = [torch.zeros_like(mask) for mask in valid]
    assert torch.allclose(fusion(current, previous, nothing_valid), alone, atol=1e-12)

    out = fusion(current, previous, valid)
    invalid = ~torch.stack(valid).any(0)[:, None].expand_as(out)
    assert torch.allclose(out[invalid], alone[invalid], atol=1e-12)


@every_fusion
def test_a_valid_frame_matters(name):
    fusion = trained_looking(name, 2)
    current, previous, _ = maps(2)
    everywhere = [torch.ones(2, H, W, dtype=torch.bool)]
    differs = (fusion(current, previous, everywhere) - fusion(current, (), ())).abs().amax(1) > 1e-9
    assert not differs.any() if name == "none" else differs.all()


@every_fusion
@every_length
def test_what_an_invalid_pixel_holds_does_not_matter_not_even_nan(name, frames):
    fusion = trained_looking(name, frames)
    current, previous, valid = maps(frames)
    current.requires_grad_()
    clean = fusion(current, previous, valid)
    spoilt = [torch.where(mask[:, None], p, math.nan) for p, mask in zip(previous, valid, strict=True)]
    out = fusion(current, spoilt, valid)
    assert torch.equal(out, clean)
    out.sum().backward()
    assert torch.isfinite(current.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in fusion.parameters())


@every_fusion
def test_two_pixel_masks_act_pixel_by_pixel(name):
    """Invalidating one pixel changes that pixel; others change only inside the window of cross attention."""
    fusion = trained_looking(name, 2)
    current, previous, _ = maps(2)
    mask = torch.ones(2, H, W, dtype=torch.bool)
    hole = mask.clone()
    hole[:, 1, 1] = False
    changed = (fusion(current, previous, [mask]) - fusion(current, previous, [hole])).abs().amax(1) > 1e-12
    radius = 1 if name == "cross_attention" else 0
    far = torch.ones(H, W, dtype=torch.bool)
    far[1 - radius : 2 + radius, 1 - radius : 2 + radius] = False
    assert not changed[:, far].any()
    assert changed[:, 1, 1].all() or name == "none"


@every_fusion
def test_gradcheck(name):
    fusion = trained_looking(name, 3)
    current, previous, valid = maps(3)
    inputs = [x[:1, :, :3, :3].clone().requires_grad_() for x in (current, *previous)]
    masks = [mask[:1, :3, :3] for mask in valid]
    assert gradcheck(lambda c, *p: fusion(c, list(p), masks), inputs)


@pytest.mark.parametrize("name", ["none", "conv1x1", "cross_attention"])
@every_length
def test_starts_as_the_single_frame_model(name, frames):
    current, previous, valid = maps(frames, dtype=torch.float32)
    assert torch.allclose(build_fusion(name, C, frames)(current, previous, valid), current, atol=1e-6)


def test_add_is_the_mean_of_what_is_valid():
    fusion = build_fusion("add", 1, 3)
    current = torch.tensor([1.0, 1.0, 1.0]).view(1, 1, 1, 3)
    newer = torch.tensor([3.0, 3.0, 9.0]).view(1, 1, 1, 3)
    older = torch.tensor([5.0, 9.0, 9.0]).view(1, 1, 1, 3)
    valid = [torch.tensor([[[True, True, False]]]), torch.tensor([[[True, False, False]]])]
    assert fusion(current, [newer, older], valid).flatten().tolist() == [3.0, 2.0, 1.0]


def test_attention_starts_as_the_mean_and_weighs_by_energy():
    current, previous, valid = maps(3)
    fusion = build_fusion("attention", C, 3).double()
    assert torch.allclose(fusion(current, previous, valid), build_fusion("add", C, 3)(current, previous, valid))
    trained = trained_looking("attention", 2)
    energies = [trained.energy(torch.cat((current, f), 1)) for f in (current, previous[0])]
    share = torch.sigmoid(energies[1] - energies[0])
    expected = torch.where(valid[0][:, None], current + share * (previous[0] - current), current)
    assert torch.allclose(trained_looking("attention", 2)(current, previous[:1], valid[:1]), expected)


def test_cross_attention_equals_loops():
    fusion = trained_looking("cross_attention", 3)
    current, previous, valid = maps(3)
    query, keys = fusion.query(current), [fusion.key(p) for p in previous]
    expected = current.clone()
    for n in range(2):
        for row in range(H):
            for column in range(W):
                energies, values = [], []
                for k in range(2):
                    for offset, (r, c) in enumerate((row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                        if valid[k][n, row, column] and 0 <= r < H and 0 <= c < W and valid[k][n, r, c]:
                            similarity = query[n, :, row, column] @ keys[k][n, :, r, c]
                            energies.append(similarity / math.sqrt(C) + fusion.offset_bias[offset])
                            values.append(previous[k][n, :, r, c])
                if energies:
                    gathered = torch.softmax(torch.stack(energies), 0) @ torch.stack(values)
                    expected[n, :, row, column] += fusion.output.weight[:, :, 0, 0] @ gathered
    assert torch.allclose(fusion(current, previous, valid), expected)


def test_unknown_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match=r"Unknown fusion 'atention'. Did you mean 'attention'\? Available: none, "):
        build_fusion("atention", 8)


@every_fusion
def test_impossible_input_is_refused(name):
    current, previous, valid = maps(3, dtype=torch.float32)
    fusion = build_fusion(name, C, 2)
    with pytest.raises(ValueError, match="takes up to 1 previous frames"):
        fusion(current, previous, valid)
    with pytest.raises(ValueError, match="must fit the current"):
        fusion(current, [previous[0][:, :, :2]], valid[:1])
    with pytest.raises(ValueError, match="num_frames >= 2"):
        build_fusion(name, C, 1)
