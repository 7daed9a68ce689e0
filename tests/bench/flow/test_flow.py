"""Flow backends: right, deliberately wrong, and estimated."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.core.registry import flow_names, import_from
from bench.data.clip import Clip
from bench.flow._estimated import consistent
from bench.flow.backends import dis, exact, shuffled, zero
from stpl import backward_warp

HEIGHT, WIDTH = 48, 80


class Clips:
    """Clips in memory: a smooth texture that moves by a known number of pixels."""

    def __init__(self, number: int, frames: int = 2) -> None:
        self.clips = [self.make(i, frames) for i in range(number)]

    @staticmethod
    def make(index: int, frames: int) -> Clip:
        rng = np.random.default_rng(index)
        texture = cv2.GaussianBlur(rng.uniform(0, 255, (200, 200, 3)).astype(np.float32), (0, 0), 2)
        texture = (texture - texture.min()) / (texture.max() - texture.min()) * 255
        step = np.array([3 + index, -2])
        images = [
            texture[60 + k * step[1] :, 60 + k * step[0] :][:HEIGHT, :WIDTH].transpose(2, 0, 1) for k in range(frames)
        ]
        # Frame k+1 looks step further into the texture, so its pixel q shows what frame k shows at q + step.
        flow = np.broadcast_to(step[:, None, None], (frames - 1, 2, HEIGHT, WIDTH)).astype(np.float32)
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        inside = (x + step[0] < WIDTH) & (x + step[0] >= 0) & (y + step[1] < HEIGHT) & (y + step[1] >= 0)
        valid = np.broadcast_to(inside, (frames - 1, HEIGHT, WIDTH)).copy()
        return Clip(np.stack(images).astype(np.uint8), flow, valid, f"clip-{index}")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int, /) -> Clip:
        return self.clips[index]


def residual(clip: Clip, flow: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    """Mean difference in grey levels between the current frame and the previous one brought to it."""
    warped = backward_warp(torch.from_numpy(clip.frames[-2:-1]).float(), torch.from_numpy(flow[-1:]))
    difference = (warped - torch.from_numpy(clip.frames[-1:]).float()).abs().mean(1)
    return float(difference[torch.from_numpy(valid[-1:])].mean())


SET_UP = {"files", "mmflow", "raft", "raft_small"}
"""Backends that need weights or files; each has a test file of its own."""


@pytest.mark.parametrize("name", sorted(set(flow_names()) - SET_UP))
@pytest.mark.parametrize("frames", [2, 3])
def test_every_backend_gives_flow_and_validity_of_every_pair(name: str, frames: int) -> None:
    backend = import_from("bench.flow.backends", name, kind="flow").BACKEND
    clips = Clips(3, frames)
    flow, valid = backend(clips[1], clips, 1)
    assert flow.shape == (frames - 1, 2, HEIGHT, WIDTH) and flow.dtype == np.float32 and np.isfinite(flow).all()
    assert valid.shape == (frames - 1, HEIGHT, WIDTH) and valid.dtype == np.bool_
    repeated, _ = backend(Clips(3, frames)[1], Clips(3, frames), 1)
    np.testing.assert_array_equal(flow, repeated)


def test_the_texture_moves_as_it_says() -> None:
    clip = Clips(1)[0]
    assert residual(clip, clip.flow, clip.valid) == 0
    assert residual(clip, -clip.flow, clip.valid) > 10


def test_exact_is_the_clips_own() -> None:
    clips = Clips(2)
    flow, valid = exact.BACKEND(clips[1], clips, 1)
    assert flow is clips[1].flow and valid is clips[1].valid


def test_zero_is_no_motion_and_valid_everywhere() -> None:
    flow, valid = zero.BACKEND(Clips(1)[0], Clips(1), 0)
    assert not flow.any() and valid.all()


@pytest.mark.parametrize("number", [2, 3, 8])
def test_shuffled_is_always_another_clips(number: int) -> None:
    clips = Clips(number)
    partners = []
    for i in range(number):
        flow, valid = shuffled.BACKEND(clips[i], clips, i)
        (partner,) = [k for k in range(number) if clips[k].flow is flow]
        assert clips[partner].valid is valid and partner != i
        partners.append(partner)
    assert sorted(partners) == list(range(number))  # every clip's flow is used once


def test_dis_finds_the_motion_and_its_direction() -> None:
    clips = Clips(2, frames=3)
    for i in range(2):
        flow, valid = dis.BACKEND(clips[i], clips, i)
        for k in range(2):
            inner = (slice(8, -8), slice(8, -8))
            assert np.abs(np.median(flow[k, 0][inner]) - clips[i].flow[k, 0, 0, 0]) < 0.25
            assert np.abs(np.median(flow[k, 1][inner]) - clips[i].flow[k, 1, 0, 0]) < 0.25
            assert valid[k][inner].mean() > 0.9
        assert residual(clips[i], flow, valid) < 3


def test_consistency_marks_what_leads_out_or_does_not_lead_back() -> None:
    backward = np.zeros((2, 4, 6), np.float32)
    backward[0] = 2.0
    forward = np.zeros((2, 4, 6), np.float32)
    forward[0] = -2.0
    forward[:, 1, 3] = (5.0, 0.0)  # occluded there: another surface moves off to the right
    valid = consistent(backward, forward)
    expected = np.ones((4, 6), bool)
    expected[:, 4:] = False  # x + 2 is outside
    expected[1, 1] = False  # leads to (3, 1), from where nothing leads back: error 7 > 1 + 0.05 * 2
    np.testing.assert_array_equal(valid, expected)


def test_a_pixel_may_miss_by_the_stated_tolerance() -> None:
    backward, forward = np.zeros((2, 3, 8), np.float32), np.zeros((2, 3, 8), np.float32)
    for error, inside in ((0.99, True), (1.01, False)):  # with no flow at all the tolerance is 1 pixel
        forward[1] = error
        assert consistent(backward, forward).all() == inside


def test_dis_is_bit_by_bit_what_the_committed_controls_used() -> None:
    """The whole path, written out as it was when they were made."""
    clip = Clips(3)[2]
    grey = [cv2.cvtColor(np.ascontiguousarray(f.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY) for f in clip.frames]
    engine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    backward = engine.calc(grey[1], grey[0], None).transpose(2, 0, 1)
    forward = (
        cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey[0], grey[1], None).transpose(2, 0, 1)
    )
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    to_x, to_y = x + backward[0], y + backward[1]
    returned = np.stack([cv2.remap(np.ascontiguousarray(f), to_x, to_y, cv2.INTER_LINEAR) for f in forward])
    inside = (to_x >= 0) & (to_x <= WIDTH - 1) & (to_y >= 0) & (to_y <= HEIGHT - 1)
    agrees = np.hypot(*(backward + returned)) <= 1.0 + 0.05 * np.hypot(*backward)
    flow, valid = dis.BACKEND(clip, Clips(3), 2)
    np.testing.assert_array_equal(flow[0], backward)
    np.testing.assert_array_equal(valid[0], inside & agrees)
