"""What the published TPS augmentation is given: an inverted, wrapped picture. Ours is given the picture."""

import numpy as np
import pytest
import torch

from methods.common.supervision import StrongViewSettings, strong_colours

FILE = "tps_strong_input"


def published_bytes(network_image):
    """``trunc(255 v) mod 256`` of a mean-subtracted image ``(3, H, W)``, as ``(H, W, 3)`` uint8."""
    return (np.trunc(255.0 * network_image).astype(np.int64) % 256).astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.cases("in_pixels_bgr", "in_network_image")
def test_published_picture(case):
    network = case["in_pixels_bgr"].astype(np.float32) - case["param_mean_bgr"].astype(np.float32)
    np.testing.assert_allclose(network, case["in_network_image"], atol=1e-4)
    wrapped = published_bytes(case["in_network_image"])
    np.testing.assert_array_equal(wrapped, case["out_uint8_hwc"])
    np.testing.assert_allclose(wrapped.transpose(2, 0, 1) / 255.0, case["out_tensor"], atol=1e-6)


@pytest.mark.cases("in_pixels_bgr", "out_uint8_hwc")
def test_published_blur(case):
    image = pytest.importorskip("PIL.Image")
    from PIL import ImageFilter

    for radius in (5, 7, 9):
        if f"out_blur_radius{radius}_uint8_hwc" in case:
            blurred = image.fromarray(case["out_uint8_hwc"]).filter(ImageFilter.GaussianBlur(radius))
            np.testing.assert_array_equal(np.asarray(blurred), case[f"out_blur_radius{radius}_uint8_hwc"])


@pytest.mark.cases("in_pixels_bgr", "out_uint8_hwc")
def test_why_ours_acts_on_the_picture_itself(case):
    """Without any draw our strong view is the picture; the published one runs against it, 255 levels down for each level up."""
    pixels = torch.from_numpy(case["in_pixels_bgr"].copy()).float() / 255
    off = StrongViewSettings(jitter_probability=0.0, grey_probability=0.0, blur_probability=0.0)
    view = strong_colours(pixels[None, None], off, torch.Generator().manual_seed(0))[0, 0]
    assert torch.equal(view, pixels)
    if case["in_pixels_bgr"].std() > 1:
        published = case["out_uint8_hwc"].transpose(2, 0, 1).astype(float)
        assert np.abs(published - case["in_pixels_bgr"]).mean() > 20
