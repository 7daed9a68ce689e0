"""rda: the attack is one for a clip, needs another image, and is trained against the segmenter. Terms: test_table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import methods.rda as module
from bench.networks.build import build_segmenter
from methods.base import ClipBatch, LabelledBatch, Setup
from methods.common.bands import BANDS, band_map
from methods.rda import RDA, RDASettings

CLASSES = 4


def batch(seed: int, n: int = 2, t: int = 2, size: tuple[int, int] = (32, 64)) -> LabelledBatch:
    g = torch.Generator().manual_seed(seed)
    frames, flow = torch.rand(n, t, 3, *size, generator=g), 2 * torch.randn(n, t - 1, 2, *size, generator=g)
    label = torch.randint(0, CLASSES, (n, *size), generator=g)
    valid = torch.ones(n, t - 1, *size, dtype=torch.bool)
    return LabelledBatch(frames, flow, valid, tuple(f"clip {i}" for i in range(n)), label)


def make(**settings: Any) -> RDA:
    torch.manual_seed(0)
    method = RDA(
        build_segmenter("mini", "conv1x1", CLASSES),
        RDASettings(width=4, judged_stride=2, **settings),
        Setup(CLASSES, 6, 0),
    )
    method.restart()
    method.train()
    return method


def changed_components(before: Tensor, after: Tensor) -> Tensor:
    """bool ``(32, 3)``: whose amplitude differs between two images ``(3, H, W)`` in 0..1."""
    band = band_map(before.shape[-2], before.shape[-1])
    far = (torch.fft.fft2(255 * before).abs() - torch.fft.fft2(255 * after).abs()).abs() > 1.0
    return torch.stack([far[:, band == k].any(1) for k in range(BANDS)])


@pytest.mark.parametrize("t", [2, 3])
def test_all_frames_of_a_clip_are_attacked_in_the_same_tenth_of_components(t: int) -> None:
    """Square and power-of-two sides: there every band is symmetric but for one row and column (the published regions)."""
    target = batch(0, t=t, size=(64, 64))
    attacked, moved = make().attack(target, batch(1, t=t, size=(64, 64)))
    moved = moved.detach().view(2, t, BANDS, 3)
    for clip in range(2):
        components = moved[clip] > 0
        assert (components == components[0]).all()
        assert int(components[0].sum()) == 9  # floor(0.1 * 96); every band has frequencies at this size
    assert attacked.flow is target.flow and attacked.valid is target.valid


def test_the_reference_is_the_next_clips_same_frame() -> None:
    method, target = make(attacked_share=1.0), batch(0, n=3)
    attacked, _ = method.attack(target, batch(1, n=3))
    for i in range(3):
        for k in range(2):
            image, reference = attacked.frames[i, k].detach(), target.frames[(i + 1) % 3, k]
            # Every amplitude in a band is the reference's; the mean colour is the first of them.
            torch.testing.assert_close(image.mean((1, 2)), reference.mean((1, 2)), atol=1e-4, rtol=0)


def test_a_lone_clip_takes_the_source_as_reference() -> None:
    method, target, source = make(attacked_share=1.0), batch(0, n=1), batch(1, n=1)
    attacked, _ = method.attack(target, source)
    torch.testing.assert_close(attacked.frames.detach().mean((3, 4)), source.frames.mean((3, 4)), atol=1e-4, rtol=0)


def test_the_gate_is_trained_to_raise_the_consistency_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def gradient() -> Tensor:
        method = make(attack_weight=0.0)
        (of_bias,) = torch.autograd.grad(method.losses(batch(0), batch(1), 0)["consistency"], method.gate.bias)
        return of_bias

    trained = gradient()
    monkeypatch.setattr(module, "reverse_gradient", lambda x: x)
    assert trained.abs().sum() > 0
    torch.testing.assert_close(trained, -gradient())


def test_the_gate_learns_to_spare_bands_2_to_15() -> None:
    """The published gate's output passes a gradient reversal before the term: the term protects shapes and outlines."""
    method, target, source = make(attack_weight=1.0, consistency_weight=0.0, adversarial_weight=0.0), batch(0), batch(1)

    def change() -> float:
        return float(method.attack(target, source)[1][:, 2:16].detach().mean())

    start = change()
    optimiser = torch.optim.SGD(method.gate.parameters(), lr=1.0)
    for _ in range(5):
        optimiser.zero_grad()
        method.losses(target, source, 0)["attack"].backward()
        optimiser.step()
    assert start > 0 and change() < 0.1 * start


def test_the_gate_sees_the_current_frame_only() -> None:
    method, target = make(), batch(0)
    past = ClipBatch(target.frames.clone(), target.flow, target.valid, target.keys)
    past.frames[:, 0] = torch.rand_like(past.frames[:, 0])
    present = ClipBatch(target.frames.clone(), target.flow, target.valid, target.keys)
    present.frames[:, -1] *= 0.01
    scores: list[Tensor] = []
    method.gate.register_forward_hook(lambda _, __, out: scores.append(out.detach()))
    for clips in (target, past, present):
        method.attack(clips, batch(1))
    assert torch.equal(scores[0], scores[1]) and not torch.allclose(scores[0], scores[2])


def test_the_consistency_teaches_the_attacked_side_only() -> None:
    method, target = make(), batch(0)
    plain = method.segmenter(target.frames, target.flow, target.valid).scores.detach().softmax(1)
    passes: list[Tensor] = []
    method.segmenter.register_forward_hook(lambda _, __, out: passes.append(out.scores))
    losses = method.losses(target, batch(1), 0)
    _, clean, attacked = passes  # source, target, attacked target
    torch.testing.assert_close(clean.detach().softmax(1), plain)
    to_clean, to_attacked = torch.autograd.grad(losses["consistency"], [clean, attacked], allow_unused=True)
    assert to_clean is None and to_attacked is not None and to_attacked.abs().sum() > 0


def test_the_discriminator_sees_self_information_of_both_domains() -> None:
    method = make()
    method.losses(batch(0), batch(1), 0)
    (watched,) = method.adversary._watched
    for maps in watched:
        assert maps.shape == (2, CLASSES, 32, 32) and not maps.requires_grad
        entropy = maps.sum(1)
        assert float(entropy.min()) >= 0 and float(entropy.max()) <= 1 + 1e-5


def test_only_the_gate_is_added_to_the_harness_optimiser() -> None:
    method = make()
    *_, gate_group = method.parameter_groups(0.01, 10.0)
    assert {id(p) for p in gate_group["params"]} == {id(p) for p in method.gate.parameters()}
    assert method.optimisers().keys() == {"discriminator"}


@pytest.mark.parametrize("size", [(33, 65), (32, 64)])
def test_scaled_views_of_any_size_come_back_to_the_scores_grid(size: tuple[int, int]) -> None:
    for low, high in ((80, 80), (119, 119)):
        losses = make(low=low, high=high).losses(batch(0, size=size), batch(1, size=size), 0)
        assert torch.isfinite(losses["consistency"]) and float(losses["consistency"].detach()) > 0


@pytest.mark.parametrize("bad", [{"attacked_share": 0.0}, {"high": 70}, {"width": 0}, {"consistency_weight": -1.0}])
def test_settings_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        RDASettings(**bad)
