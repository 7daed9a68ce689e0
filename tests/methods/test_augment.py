"""The strong and the weak view: geometry that moves labels and flow along, photometric noise."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import ClipBatch
from methods.common.augment import Geometry, colour_jitter, photometric, strong_view
from stpl import backward_warp
from tests.methods.batches import clips, seeded


def geometry(sign: float = 1.0, zoom: float = 1.0, x: float = 0.0, y: float = 0.0) -> Geometry:
    return Geometry(torch.tensor([sign]), torch.tensor([zoom]), torch.tensor([[x, y]]))


def smooth(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth random map: resampling errors are small, so that geometry alone is compared."""
    coarse = torch.rand(1, channels, 5, 7, generator=seeded(seed), dtype=torch.float64)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)


# Geometry -------------------------------------------------------------------------------------------------------------


def test_no_geometry_is_the_identity() -> None:
    batch = clips(1)
    moved = geometry().clips(batch)
    torch.testing.assert_close(moved.frames, batch.frames, atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.flow, batch.flow, atol=1e-4, rtol=0)
    assert torch.equal(moved.valid, batch.valid) and moved.keys == batch.keys
    label = torch.randint(0, 9, (1, 32, 48), generator=seeded())
    assert torch.equal(geometry().labels(label), label)


def test_a_mirror_flips_columns_and_negates_x_flow() -> None:
    batch = clips(1)
    moved = geometry(sign=-1).clips(batch)
    torch.testing.assert_close(moved.frames, batch.frames.flip(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.flow[:, :, 0], -batch.flow[:, :, 0].flip(-1), atol=1e-4, rtol=0)
    torch.testing.assert_close(moved.flow[:, :, 1], batch.flow[:, :, 1].flip(-1), atol=1e-4, rtol=0)
    assert torch.equal(moved.valid, batch.valid.flip(-1))
    label = torch.randint(0, 9, (1, 32, 48), generator=seeded())
    assert torch.equal(geometry(sign=-1).labels(label), label.flip(-1))


def test_zoom_by_two_shows_a_quarter_and_doubles_the_flow() -> None:
    flow = torch.full((1, 2, 8, 8), 3.0)
    assert torch.equal(geometry(zoom=2).flow(flow), torch.full((1, 2, 8, 8), 6.0))
    label = torch.arange(64).view(1, 8, 8)
    corner = geometry(zoom=2, x=-0.5, y=0.5).labels(label)  # left and lower quarter
    assert torch.equal(corner, label[:, 4:, :4].repeat_interleave(2, 1).repeat_interleave(2, 2))


@pytest.mark.parametrize("seed", range(4))
def test_labels_at_lower_resolution_move_with_the_image(seed: int) -> None:
    """Pseudo-labels have the scores' size, frames the image's; both show the same crop."""
    g = Geometry.draw(1, 2.0, seeded(seed))
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 32, 64)
    small = torch.linspace(0, 1, 16).expand(1, 1, 8, 16)
    fine, coarse = g.maps(ramp), g.maps(small)
    pooled = F.avg_pool2d(fine, 4)
    # Pixel centres of the two grids differ by a fraction of a coarse pixel, which a ramp shows as up to 1/16.
    assert (pooled - coarse).abs().max() < 1 / 16
    assert (g.labels((small[:, 0] * 15).round().long()) / 15 - coarse[:, 0]).abs().max() < 1 / 15


@pytest.mark.parametrize(
    "g",
    [geometry(-1), geometry(1, 1.5, 0.2, -0.1), geometry(-1, 1.3, -0.2, 0.15), geometry(1, 2.0, 0.5, -0.5)],
    ids=["mirror", "zoom", "both", "corner"],
)
def test_warping_the_moved_clip_is_moving_the_warped_clip(g: Geometry) -> None:
    """Images and flow stay consistent: what flow says of the pixels is true in the view as well."""
    image, flow = smooth(3, 64, 96).float(), 4 * (smooth(2, 64, 96, 1) - 0.5).float()
    before = g.maps(backward_warp(image, flow, padding="border"))
    after = backward_warp(g.maps(image), g.flow(flow), padding="border")
    inner = (..., slice(12, -12), slice(12, -12))  # where no vector leads out of the crop
    assert (before - after)[inner].abs().max() < 5e-3
    assert (after - g.maps(image))[inner].abs().max() > 0.05  # the flow did move something


@pytest.mark.parametrize("seed", range(3))
def test_a_draw_stays_inside_the_image_and_is_its_own_for_each_clip(seed: int) -> None:
    g = Geometry.draw(200, 1.5, seeded(seed))
    assert set(g.sign.tolist()) == {-1.0, 1.0} and 0.35 < (g.sign < 0).float().mean() < 0.65
    assert g.zoom.min() >= 1 and g.zoom.max() <= 1.5 and g.zoom.std() > 0.1
    assert (g.offset.abs() + 1 / g.zoom[:, None] <= 1 + 1e-6).all()
    assert g.offset[:, 0].ne(g.offset[:, 1]).all()
    repeated = Geometry.draw(200, 1.5, seeded(seed))
    assert (
        torch.equal(g.sign, repeated.sign)
        and torch.equal(g.zoom, repeated.zoom)
        and torch.equal(g.offset, repeated.offset)
    )
    assert (Geometry.draw(50, 1.5, seeded(seed), mirror=False).sign == 1).all()


def test_a_smaller_clip_has_black_without_label_and_flow_around_it() -> None:
    """Zoom 1/2 in the middle: a quarter of the pixels shows the clip, at half its flow."""
    g = Geometry(torch.ones(1), torch.full((1,), 0.5), torch.zeros(1, 2))
    batch = ClipBatch(
        torch.ones(1, 2, 3, 32, 48), torch.full((1, 1, 2, 32, 48), 4.0), torch.ones(1, 1, 32, 48) > 0, ("a",)
    )
    view, label = g.clips(batch), g.labels(torch.full((1, 32, 48), 3))
    inside = torch.zeros(32, 48, dtype=torch.bool)
    inside[8:24, 12:36] = True
    assert torch.equal(view.frames[0, 0, 0], inside.float()) and torch.equal(view.valid[0, 0], inside)
    assert torch.equal(view.flow[0, 0, 0], 2.0 * inside) and torch.equal(label[0] == 3, inside)
    assert (label[0][~inside] == 255).all()
    drawn = Geometry.draw(200, 1.5, seeded(), min_zoom=0.5)
    assert 0.5 <= drawn.zoom.min() < 0.6 and 1.4 < drawn.zoom.max() <= 1.5
    assert torch.equal(Geometry.draw(4, 1.5, seeded()).zoom, Geometry.draw(4, 1.5, seeded(), min_zoom=1.0).zoom)


def test_geometry_is_the_same_for_all_frames_of_a_clip() -> None:
    batch = clips(3, t=3)
    still = ClipBatch(batch.frames[:, :1].expand(-1, 3, -1, -1, -1).contiguous(), batch.flow, batch.valid, batch.keys)
    moved = Geometry.draw(3, 1.5, seeded()).clips(still).frames
    assert torch.equal(moved[:, 0], moved[:, 1]) and torch.equal(moved[:, 0], moved[:, 2])


def test_geometry_is_not_rounded_under_autocast() -> None:
    """bfloat16 has 8 bits: a grid computed in it is a third of a pixel off at 256 columns."""
    geometry = Geometry(torch.tensor([-1.0]), torch.tensor([1.23]), torch.tensor([[0.1, -0.05]]))
    ramp = torch.linspace(0, 255, 256).expand(1, 1, 128, 256)
    with torch.autocast("cpu", torch.bfloat16):
        moved = geometry.maps(ramp)
    assert torch.equal(moved, geometry.maps(ramp))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (9, 16), (33, 20), (128, 256)])
def test_the_grid_is_that_of_the_affine_matrix(height: int, width: int) -> None:
    """`sign / zoom` and the offset in a matrix, which torch turns into positions."""
    moved = Geometry.draw(3, 3.0, seeded(), min_zoom=0.4)
    theta = torch.zeros(3, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = moved.sign / moved.zoom, 1 / moved.zoom, moved.offset
    expected = F.affine_grid(theta, [3, 1, height, width], align_corners=False)
    torch.testing.assert_close(moved._grid((height, width), torch.device("cpu")), expected, rtol=0, atol=1e-6)


# Photometric noise ----------------------------------------------------------------------------------------------------


def test_strength_zero_changes_nothing() -> None:
    frames = clips().frames
    torch.testing.assert_close(photometric(frames, 0.0, seeded()), frames, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(6))
def test_all_frames_of_a_clip_get_the_same_draw_and_clips_their_own(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grain alone is each frame's own; without it, equal frames stay equal."""
    monkeypatch.setattr(torch, "randn", lambda shape, generator: torch.zeros(shape))
    frame = smooth(3, 32, 48).float()
    frames = frame.expand(2, 3, 3, 32, 48).contiguous()
    out = photometric(frames, 1.0, seeded(seed))
    assert torch.equal(out[:, 0], out[:, 1]) and torch.equal(out[:, 0], out[:, 2])
    assert not torch.equal(out[0], out[1]) and not torch.equal(out[0, 0], frame[0])


@pytest.mark.parametrize("strength", [0.5, 1.5])
def test_noise_is_that_of_frame_by_frame(strength: float) -> None:
    """The obvious way: frames are blurred one by one and put together in the end. Its blurs, greys and neither all occur."""
    from torchvision.transforms.v2 import functional as TF

    frames, ours, obvious = torch.rand(24, 2, 3, 33, 47, generator=seeded()), seeded(5), seeded(5)
    expected, seen = [], set()
    for clip in frames:
        views = colour_jitter(clip, strength, obvious)
        blurred, grey = (torch.rand(2, generator=obvious) < torch.tensor([0.5, 0.1]) * strength).tolist()
        sigma = 0.3 + float(torch.rand(1, generator=obvious) * (1.2 - 0.3))
        noise = float(torch.rand(1, generator=obvious) * (0.05 * strength))
        if blurred:
            views = torch.stack([TF.gaussian_blur(view, [5, 5], [sigma, sigma]) for view in views])
        if grey:
            views = torch.stack([TF.rgb_to_grayscale(view, 3) for view in views])
        expected.append((views + noise * torch.randn(clip.shape, generator=obvious)).clamp(0, 1))
        seen.add((blurred, grey))
    torch.testing.assert_close(photometric(frames, strength, ours), torch.stack(expected), atol=1e-6, rtol=0)
    assert torch.equal(ours.get_state(), obvious.get_state()) and len(seen) >= 3


def test_grain_differs_between_frames() -> None:
    out = photometric(torch.full((1, 2, 3, 16, 16), 0.5), 1.0, seeded(1))
    assert not torch.equal(out[:, 0], out[:, 1])
    assert (out[:, 0] - out[:, 1]).std() < 0.05 * math.sqrt(2) * 1.1


@pytest.mark.parametrize("strength", [0.3, 1.0, 1.5])
def test_noise_stays_in_range_grows_with_strength_and_follows_its_seed(strength: float) -> None:
    frames = clips(4).frames
    out = photometric(frames, strength, seeded(3))
    assert out.shape == frames.shape and out.min() >= 0 and out.max() <= 1 and torch.isfinite(out).all()
    assert torch.equal(out, photometric(frames, strength, seeded(3)))
    assert not torch.equal(out, photometric(frames, strength, seeded(4)))
    weaker = photometric(frames, strength / 3, seeded(3))
    assert (out - frames).abs().mean() > (weaker - frames).abs().mean()


def test_the_strong_view_moves_flow_but_only_frames_get_noise() -> None:
    batch, g = clips(), Geometry.draw(2, 1.5, seeded())
    view, moved = strong_view(batch, g, 1.0, seeded(1)), g.clips(batch)
    assert torch.equal(view.flow, moved.flow) and torch.equal(view.valid, moved.valid) and view.keys == batch.keys
    assert torch.equal(view.frames, photometric(moved.frames, 1.0, seeded(1)))
