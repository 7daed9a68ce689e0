import pytest
import torch
from torch import nn

from stpl.fusion import FUSIONS, build_fusion
from stpl.segmenter import AccelScoreFusion, VideoSegmenter
from stpl.warp import backward_warp, forward_splat, resize_flow, resize_mask

K = 5


class Encoder(nn.Module):
    """Stride 4, 8 channels, 6 auxiliary ones; remembers the batch sizes it saw."""

    def __init__(self):
        super().__init__()
        self.main, self.aux = nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(3, 6, 4, stride=4)
        self.seen = []

    def forward(self, frames):
        self.seen.append(len(frames))
        return self.main(frames), self.aux(frames)


def build(fusion="conv1x1", frames=2, auxiliary=True, score_fusion=None):
    torch.manual_seed(1)
    block = build_fusion(fusion, 8, frames)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    upsampling = nn.Sequential(nn.Conv2d(block.out_channels, 4 * K, 1), nn.PixelShuffle(2))
    head = nn.Conv2d(6, K, 1) if auxiliary else None
    return VideoSegmenter(Encoder(), upsampling, block, auxiliary_classifier=head, score_fusion=score_fusion)


def clips(length=2, batch=2, height=16, width=32, motion=2.0):
    g = torch.Generator().manual_seed(2)
    frames = torch.rand(batch, length, 3, height, width, generator=g)
    flow = motion * torch.randn(batch, length - 1, 2, 1, 1, generator=g).expand(-1, -1, -1, height, width)
    valid = torch.rand(batch, length - 1, height, width, generator=g) > 0.2
    return frames, flow, valid


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
@pytest.mark.parametrize("length", [2, 3, 4])
def test_shapes_and_one_encoder_pass(fusion, length):
    segmenter = build(fusion, length)
    out = segmenter(*clips(length))
    assert out.scores.shape == (2, K, 8, 16) and out.auxiliary_scores.shape == (2, K, 4, 8)
    assert out.features.shape == (2, segmenter.fusion.out_channels, 4, 8)
    assert len(out.encoded) == length and len(out.previous) == length - 1
    assert torch.equal(out.current, out.encoded[-1])
    assert segmenter.encoder.seen == [2 * length]


def test_two_frames_step_by_step():
    """The forward pass is the composition that the paper writes."""
    segmenter, (frames, flow, valid) = build(), clips()
    out = segmenter(frames, flow, valid)
    (previous, _), (current, aux) = segmenter.encode(frames[:, 0]), segmenter.encode(frames[:, 1])
    small = resize_flow(flow[:, 0], (4, 8))
    warped = backward_warp(previous, small, padding="border")
    x = torch.arange(32) + flow[:, 0, 0]
    y = torch.arange(16)[:, None] + flow[:, 0, 1]
    inside = (x >= 0) & (x <= 31) & (y >= 0) & (y <= 15)
    fused = segmenter.fuse(current, [warped], [resize_mask(valid[:, 0] & inside, (4, 8))])
    assert torch.allclose(out.previous[0], warped, atol=1e-6)
    assert torch.allclose(out.features, fused, atol=1e-6)
    assert torch.allclose(out.scores, segmenter.classify(fused), atol=1e-6)
    assert torch.allclose(out.auxiliary_scores, segmenter.classify_auxiliary(aux), atol=1e-6)


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
@pytest.mark.parametrize("length", [3, 4])
def test_a_frame_is_fused_with_its_own_past(fusion, length):
    """``S`` of t-1 in a clip of T frames is ``S_t`` of the clip that ends there; the oldest frame stands alone."""
    segmenter, (frames, flow, valid) = build(fusion, length), clips(length)
    out = segmenter(frames, flow, valid)
    shorter = segmenter(frames[:, :-1], flow[:, :-1], valid[:, :-1])
    assert torch.allclose(segmenter.fuse_at(out.encoded, flow, valid, -2), shorter.features, atol=1e-6)
    assert torch.equal(segmenter.fuse_at(out.encoded, flow, valid, -1), out.features)
    alone = segmenter.fuse_alone(out.encoded[0])
    assert torch.equal(segmenter.fuse_at(out.encoded, flow, valid, -length), alone)
    if fusion != "none":
        middle = out.encoded[-2]
        assert not torch.allclose(shorter.features, segmenter.fuse_alone(middle), atol=1e-4)


@pytest.mark.parametrize("fusion", sorted(set(FUSIONS) - {"none"}))
def test_every_frame_of_a_longer_clip_is_fused(fusion):
    segmenter, (frames, flow, valid) = build(fusion, 4), clips(4)
    before = segmenter(frames, flow, valid).scores
    for k in range(3):
        changed = frames.clone()
        changed[:, k] = 1 - changed[:, k]
        assert not torch.allclose(segmenter(changed, flow, valid).scores, before, atol=1e-4), (
            f"frame {k} does not count"
        )


def test_encoded_frames_keep_their_clip_and_time():
    segmenter, (frames, flow, valid) = build(), clips(3)
    segmenter.fusion = build_fusion("none", 8, 3)
    segmenter.classifier = nn.Conv2d(8, K, 1)
    out = segmenter(frames, flow, valid)
    for k in range(3):
        assert torch.allclose(out.encoded[k], segmenter.encode(frames[:, k])[0], atol=1e-6)
        assert torch.allclose(out.auxiliary_encoded[k], segmenter.encode(frames[:, k])[1], atol=1e-6)


def test_a_static_clip_gives_previous_equal_to_current():
    segmenter = build("add", 4)
    frame = torch.rand(1, 1, 3, 16, 32).expand(-1, 4, -1, -1, -1)
    out = segmenter(frame, torch.zeros(1, 3, 2, 16, 32), torch.ones(1, 3, 16, 32, dtype=torch.bool))
    for previous in out.previous:
        assert torch.allclose(previous, out.current, atol=1e-6)
    assert torch.allclose(out.features, segmenter.fuse_alone(out.current), atol=1e-6)


def test_motion_is_chained_over_three_frames():
    """Frames shifted by one cell each: every warped map equals the current one where the chain stays inside."""
    segmenter = build("add", 3)
    wide = torch.rand(1, 3, 16, 32)
    frames = torch.stack([torch.roll(wide, 4 * k, dims=-1) for k in range(3)], dim=1)
    flow = torch.zeros(1, 2, 2, 16, 32)
    flow[:, :, 0] = -4.0
    valid = torch.ones(1, 2, 16, 32, dtype=torch.bool)
    out = segmenter(frames, flow, valid)
    warped, masks = segmenter.warp_to_current(out.encoded, flow, valid)
    assert masks[0][0, 0].tolist() == [False] + [True] * 7
    assert masks[1][0, 0].tolist() == [False] * 2 + [True] * 6
    for features, mask, first in zip(warped, masks, (1, 2), strict=True):
        assert mask[..., first:].all()
        assert torch.allclose(features[..., first:], out.current[..., first:], atol=1e-6)


def test_validity_is_chained():
    """Hidden in the older step, at the place the newer step looks at."""
    segmenter = build("add", 3)
    frames, flow, _ = clips(3, batch=1)
    flow = torch.zeros_like(flow)
    flow[:, 1, 0] = -8.0  # t to t-1: two cells to the left
    valid = torch.ones(1, 2, 16, 32, dtype=torch.bool)
    valid[:, 0, :, 8:12] = False  # t-1 to t-2: cell 2 of t-1 is hidden, which is seen in cell 4 of t
    encoded = segmenter(frames, flow, valid).encoded
    _, masks = segmenter.warp_to_current(encoded, flow, valid)
    assert masks[0][0, 0].tolist() == [False, False, True, True, True, True, True, True]
    assert masks[1][0, 0].tolist() == [False, False, True, True, False, True, True, True]


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_invalid_everywhere_is_the_single_frame_prediction(fusion):
    segmenter, (frames, flow, valid) = build(fusion), clips()
    out = segmenter(frames, flow, torch.zeros_like(valid))
    alone = segmenter.fuse_alone(out.current)
    assert torch.allclose(out.features, alone, atol=1e-6)
    assert torch.allclose(out.scores, segmenter.classify(alone), atol=1e-6)


def test_flow_that_leaves_the_image_counts_as_invalid_whatever_the_mask_says():
    segmenter, (frames, flow, valid) = build(), clips()
    out = segmenter(frames, flow + 1000, torch.ones_like(valid))
    assert torch.allclose(out.features, segmenter.fuse_alone(out.current), atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_vector_that_is_not_finite_spoils_no_valid_cell(bad):
    """Cells of 4 pixels: the bad one is beside the centre of cell (1, 2), most of which stays valid."""
    net, (frames, flow, valid) = build(), clips(motion=0.0)
    valid[:] = True
    plain = net(frames, flow, valid)
    flow = flow.clone()
    flow[:, 0, :, 5, 9] = bad
    valid[:, 0, 5, 9] = False
    assert torch.equal(net(frames, flow, valid).scores, plain.scores)


def test_temporal_gradient_reaches_the_encoder_through_the_previous_frame():
    segmenter, (frames, flow, valid) = build(), clips(motion=0.0)
    frames.requires_grad_()
    segmenter(frames, flow, torch.ones_like(valid)).scores.sum().backward()
    assert (frames.grad[:, 0] != 0).any() and (frames.grad[:, 1] != 0).any()


@pytest.mark.parametrize("propagate", ["splat", "warp"])
def test_accel_mode(propagate):
    segmenter = build("none", score_fusion=AccelScoreFusion(K, propagate=propagate))
    frames, flow, valid = clips()
    plain = build("none")
    start = segmenter(frames, flow, valid)
    assert torch.allclose(start.scores, plain(frames, flow, valid).scores, atol=1e-6), "starts as the current frame's"
    assert torch.allclose(start.auxiliary_scores, plain(frames, flow, valid).auxiliary_scores, atol=1e-6)

    nn.init.normal_(segmenter.score_fusion.mix.weight)
    frames.requires_grad_()
    out = segmenter(frames, flow, valid)
    previous, current = (segmenter.classify(segmenter.fuse_alone(f)) for f in out.encoded)
    scaled = resize_flow(flow[:, 0].double(), (8, 16), align_corners=True, ratio=8 / 16)
    moved = (
        forward_splat(previous, scaled)[0]
        if propagate == "splat"
        else backward_warp(previous, scaled, padding="border")
    )
    assert torch.allclose(out.scores, segmenter.score_fusion.mix(torch.cat((current, moved), 1)), atol=1e-5)
    (out.scores.sum() + out.auxiliary_scores.sum()).backward()
    assert (frames.grad[:, 0] == 0).all(), "no gradient through the previous frame"
    assert (frames.grad[:, 1] != 0).any()


@pytest.mark.parametrize("propagate", ["splat", "warp"])
def test_score_fusion_itself_stops_the_gradient_of_the_previous_scores(propagate):
    fusion = AccelScoreFusion(K, propagate=propagate)
    nn.init.normal_(fusion.mix.weight)
    current, previous = (torch.randn(1, K, 8, 16, requires_grad=True) for _ in range(2))
    fusion(current, previous, torch.zeros(1, 2, 16, 32)).sum().backward()
    assert current.grad.any() and previous.grad is None


def test_accel_mode_refuses_an_unknown_propagation():
    with pytest.raises(ValueError, match="'splat', 'warp'"):
        AccelScoreFusion(3, propagate="flow")


def test_parameter_groups_hold_every_parameter_once():
    segmenter = build("attention", score_fusion=AccelScoreFusion(K))
    encoder, heads = segmenter.parameter_groups(0.1)
    assert (encoder["lr"], heads["lr"]) == (0.1, 1.0)
    assert {id(p) for p in encoder["params"]} == {id(p) for p in segmenter.encoder.parameters()}
    held = [id(p) for group in (encoder, heads) for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in segmenter.parameters())
    assert segmenter.parameter_groups(0.1, head_multiplier=1)[1]["lr"] == pytest.approx(0.1)


def test_frozen_parameters_are_left_out_of_the_groups():
    segmenter = build()
    segmenter.encoder.requires_grad_(False)
    groups = segmenter.parameter_groups(0.1)
    assert [group["name"] for group in groups] == ["heads"]


def test_without_auxiliary_head():
    out = build(auxiliary=False)(*clips())
    assert out.auxiliary_scores is None


@pytest.mark.parametrize("wrong", ["bytes", "one frame", "flow", "mask"])
def test_wrong_clips_are_refused(wrong):
    segmenter, (frames, flow, valid) = build(), clips()
    if wrong == "bytes":
        frames = (255 * frames).byte()
    elif wrong == "one frame":
        frames = frames[:, :1]
    elif wrong == "flow":
        flow = flow[..., :-1]
    else:
        valid = valid.float()
    with pytest.raises(ValueError, match="must be"):
        segmenter(frames, flow, valid)
