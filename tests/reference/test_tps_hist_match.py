"""TPS's histogram matching of a source frame to a target frame."""

import numpy as np
import pytest

from methods.common.histogram import match_histograms

FILE = "tps_hist_match"


@pytest.mark.cases("in_src_rgb", "in_ref_rgb")
def test_matched(case, assert_close):
    source, reference = (case.tensor(name).float() for name in ("in_src_rgb", "in_ref_rgb"))
    if source.dim() == 3:
        source, reference = source[None], reference[None]
    matched = match_histograms(source, reference)
    np.testing.assert_allclose(matched.numpy(), case["out_matched_rgb"], rtol=1e-5, atol=5e-3)
    if (
        "out_network_input_bgr" in case
    ):  # published: reversed channels, minus a mean; here the encoder normalises by itself
        offset = matched.flip(1).numpy() - case["out_network_input_bgr"]
        means = offset.mean(axis=(0, 2, 3), keepdims=True)
        np.testing.assert_allclose(offset, np.broadcast_to(means, offset.shape), atol=5e-3)
        np.testing.assert_allclose(means.ravel(), [104.00698793, 116.66876762, 122.67891434], atol=5e-3)
