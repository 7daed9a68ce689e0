"""Building blocks of the compared methods: identities, slow references, gradients, degenerate inputs."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import Tensor, nn

import methods.common as common
from bench.networks.build import build_segmenter
from methods.base import ClipBatch
from methods.common import (
    Adversary,
    Discriminator,
    LabelBank,
    RareClassWeights,
    aggregated_prediction,
    class_balanced_portion,
    decoder_disagreement,
    diversity,
    drop_channels,
    entropy_loss,
    instance_contrast,
    intra_domain_consistency,
    judged,
    label_confident,
    propagate,
    relative_labels,
    robust_entropy,
    self_information,
    trusted_cross_entropy,
    two_head_labels,
    warped_labels,
    weight_discrepancy,
)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(n: int = 2, t: int = 2, size: tuple[int, int] = (32, 64)) -> ClipBatch:
    g = gen(3)
    frames = torch.rand(n, t, 3, *size, generator=g)
    flow = 3 * torch.randn(n, t - 1, 2, *size, generator=g)
    return ClipBatch(frames, flow, torch.ones(n, t - 1, *size, dtype=torch.bool), tuple(f"clip {i}" for i in range(n)))


def test_every_block_is_documented() -> None:
    for name in common.__all__:
        block = getattr(common, name)
        assert inspect.getdoc(block), name
        assert f":func:`{name}`" in common.__doc__ or f":class:`{name}`" in common.__doc__, name  # type: ignore[operator]


# Information ----------------------------------------------------------------------------------------------------------


def test_entropies_by_hand() -> None:
    even, sure = torch.full((1, 4, 2, 2), 0.25), torch.eye(4)[None, :, 0, None, None].expand(1, 4, 2, 2)
    assert float(entropy_loss(even)) == pytest.approx(1.0) and float(entropy_loss(sure)) == pytest.approx(0.0, abs=1e-6)
    assert float(self_information(even)[0, 0, 0, 0]) == pytest.approx(0.25)  # -1/4 log2(1/4) / log2 4
    assert float(robust_entropy(torch.zeros(1, 4, 2, 2))) == pytest.approx(1.0, rel=1e-5)  # (1^2 + 1e-8)^2
    certain = torch.tensor([100.0, 0, 0, 0]).view(1, 4, 1, 1)
    assert float(robust_entropy(certain)) == pytest.approx(1e-16, rel=1e-3)  # (1e-8)^2
    surest = (
        torch.tensor([200.0, 0, 0, 0]).view(1, 4, 1, 1).requires_grad_()
    )  # of three classes nothing is left in float32
    diversity(surest.softmax(1)).backward()
    assert surest.grad is not None and surest.grad.isfinite().all()
    assert float(diversity(even)) == pytest.approx(-2.0) and float(diversity(sure)) == 0.0  # bits; 0 log 0 = 0


@pytest.mark.parametrize("power", [1.5, 2.0])
def test_robust_entropy_gradient(power: float) -> None:
    scores = torch.randn(1, 3, 2, 2, dtype=torch.float64, generator=gen(), requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: robust_entropy(s, power), scores)


def test_decoders_that_agree_cost_nothing_and_teach_not_the_main_head() -> None:
    scores = torch.randn(2, 3, 4, 4, generator=gen(), requires_grad=True)
    p = scores.softmax(1)
    assert float(decoder_disagreement([scores.detach(), scores.detach()], p)) == 0.0
    decoder = torch.randn(2, 3, 4, 4, generator=gen(1), requires_grad=True)
    assert torch.autograd.grad(decoder_disagreement([decoder], p), scores, allow_unused=True)[0] is None


def test_dropped_channels_are_whole_and_the_rest_scaled() -> None:
    dropped = drop_channels(torch.ones(4, 200, 2, 2), 0.5, gen())
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert (dropped == dropped[..., :1, :1]).all()
    assert 0.4 < float((dropped == 0).float().mean()) < 0.6


# Discriminators -------------------------------------------------------------------------------------------------------


def test_discriminator_size_and_minimum() -> None:
    net = Discriminator(3, 4)
    assert net(torch.zeros(2, 3, 64, 96)).shape == (2, 1, 2, 3)
    widths = [(m.in_channels, m.out_channels, m.kernel_size, m.stride) for m in net if isinstance(m, nn.Conv2d)]
    assert widths == [(a, b, (4, 4), (2, 2)) for a, b in ((3, 4), (4, 8), (8, 16), (16, 32), (32, 1))]
    assert judged(torch.zeros(1, 3, 8, 16), (33, 65), 2).shape == (1, 3, 32, 33)
    assert judged(torch.zeros(1, 3, 8, 16), (128, 256), 2).shape == (1, 3, 64, 128)


def test_weight_discrepancy_does_not_see_scale() -> None:
    a, b = Discriminator(2, 2), Discriminator(2, 2)
    b.load_state_dict({name: 5 * value for name, value in a.state_dict().items()})
    assert float(weight_discrepancy(a, b).detach()) == pytest.approx(2.0)
    b.load_state_dict({name: -value for name, value in a.state_dict().items()})
    assert float(weight_discrepancy(a, b).detach()) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="shapes"):
        weight_discrepancy(a, Discriminator(3, 2))


def test_adversary_learns_apart_from_the_segmenter() -> None:
    adversary = Adversary(2, 4, 1e-2)
    source, target = torch.zeros(2, 2, 32, 32), torch.ones(2, 2, 32, 32).requires_grad_()
    before = [p.clone() for p in adversary.parameters()]
    adversary.fool(target).backward()
    assert target.grad is not None and target.grad.abs().sum() > 0
    assert all(p.grad is None for p in adversary.parameters())
    for _ in range(30):
        adversary.watch(source, target)
        adversary.learn()
    assert all(not torch.equal(p, q) for p, q in zip(adversary.parameters(), before, strict=True))
    with torch.no_grad():
        assert float(adversary.discriminator(target).mean()) > float(adversary.discriminator(source).mean()) + 1
    assert not any(p.requires_grad for p in adversary.parameters())
    with pytest.raises(AssertionError, match="watch"):
        adversary.learn()


# Labels ---------------------------------------------------------------------------------------------------------------


def test_two_head_labels_by_hand() -> None:
    main = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.55, 0.45]]).T[None, :, None]
    auxiliary = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.5, 0.5]]).T[None, :, None]
    first, second = two_head_labels(main, auxiliary, 0.6)
    assert first.flatten().tolist() == [255, 0, 255]  # strictly greater
    assert second.flatten().tolist() == [1, 0, 255]  # means 0.35/0.65, 0.55/0.45; neither head certain
    assert (two_head_labels(main, auxiliary, 0.0)[0] != 255).all()


@pytest.mark.parametrize("every", [1, 3])
def test_class_balanced_portion_against_loops(every: int) -> None:
    p = torch.randn(3, 4, 6, 7, generator=gen()).mul(2).softmax(1)
    p[:, 2] *= 0.01  # hardly ever predicted
    p = p / p.sum(1, keepdim=True)
    confidence, label = p.max(1)
    thresholds = class_balanced_portion(confidence, label, 5, 0.3, every)
    for c in range(5):
        values = [v for n in range(3) for v in confidence[n][label[n] == c].tolist()[::every]]
        m = int(0.3 * len(values))
        assert float(thresholds[c]) == pytest.approx(sorted(values, reverse=True)[m - 1] if m else 1.0), c
    labels = relative_labels(p, thresholds[:4])
    assert ((labels == 255) == ((p / thresholds[:4, None, None]).max(1).values < 1)).all()
    with pytest.raises(ValueError, match=r"0\.\.1"):
        class_balanced_portion(confidence, label, 5, 1.5)


def test_offline_labels_drop_a_share_of_each_class_over_all_clips() -> None:
    torch.manual_seed(0)
    batches = [clips(n=2), ClipBatch(*(x[:1] for x in (clips().frames, clips().flow, clips().valid)), ("third",))]
    maps = {key: torch.randn(3, 8, 8, generator=gen(i)) for i, key in enumerate(("clip 0", "clip 1", "third"))}

    def predict(batch: ClipBatch) -> Tensor:
        return torch.stack([maps[key] for key in batch.keys]).softmax(1)

    bank = LabelBank()
    label_confident(bank, batches, predict, 0.5, 1.0)
    p = torch.stack(list(maps.values())).softmax(1)
    labels, argmax = bank.of(tuple(maps)), p.argmax(1)
    for c in range(3):
        share = (labels == c).sum() / (argmax == c).sum()
        assert 0.4 < float(share) < 0.6, c
    assert ((labels == 255) | (labels == argmax)).all()
    label_confident(bank, batches, predict, 1.0, 0.0)  # nothing is above a cap of 0
    assert torch.equal(bank.of(tuple(maps)), argmax)


# Time -----------------------------------------------------------------------------------------------------------------


def test_consistency_is_zero_where_the_past_is_less_certain() -> None:
    sure = torch.tensor([8.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 4, 5).softmax(1)
    unsure = torch.full((1, 3, 4, 5), 1 / 3)
    flow = torch.zeros(1, 2, 4, 5)
    assert float(intra_domain_consistency(sure, unsure, flow)) == 0.0
    expected = (unsure - sure).abs().mean()
    assert float(intra_domain_consistency(unsure, sure, flow)) == pytest.approx(float(expected), rel=1e-5)
    assert float(intra_domain_consistency(sure, sure, flow)) == 0.0  # a tie has weight 0
    away = torch.full_like(flow, 100.0)
    assert float(intra_domain_consistency(unsure, sure, away)) == 0.0  # all holes


def test_each_clip_of_a_batch_uses_its_own_flow() -> None:
    p = torch.randn(2, 3, 6, 8, generator=gen()).softmax(1)
    q = torch.randn(2, 3, 6, 8, generator=gen(1)).mul(5).softmax(1)
    flow = torch.stack([torch.zeros(2, 6, 8), torch.full((2, 6, 8), 2.0)])
    together = intra_domain_consistency(p, q, flow)
    alone = [intra_domain_consistency(p[i : i + 1], q[i : i + 1], flow[i : i + 1]) for i in range(2)]
    assert float(together) == pytest.approx(float(sum(alone)) / 2)
    assert not torch.equal(propagate(q[1:], flow[1:])[0], q[1:])


def test_warped_labels_follow_an_integer_flow() -> None:
    p = torch.randn(1, 4, 5, 7, generator=gen()).softmax(1)
    flow = torch.zeros(1, 2, 5, 7)
    assert torch.equal(warped_labels(p, flow), p.argmax(1))
    flow[:, 0] = 2.0  # two columns to the right in the earlier frame
    assert torch.equal(warped_labels(p, flow)[..., :5], p.argmax(1)[..., 2:])


@pytest.mark.parametrize("t", [2, 3])
def test_aggregation_counts_valid_frames_only(t: int) -> None:
    torch.manual_seed(0)
    segmenter = build_segmenter("mini", "conv1x1", 5, t).eval()
    batch = clips(t=t)
    mean = aggregated_prediction(segmenter, batch)
    torch.testing.assert_close(mean.sum(1), torch.ones_like(mean[:, 0]))
    hidden = torch.zeros_like(batch.valid)
    alone = segmenter(batch.frames, batch.flow, hidden).scores.softmax(1)
    blind = ClipBatch(batch.frames, batch.flow, hidden, batch.keys)
    torch.testing.assert_close(aggregated_prediction(segmenter, blind), alone)


# HCL ------------------------------------------------------------------------------------------------------------------


def test_instance_contrast_against_loops() -> None:
    g = gen()
    f, h = (torch.nn.functional.normalize(torch.randn(2, 6, 4, generator=g, dtype=torch.float64), dim=2) for _ in "fh")
    y, z = (torch.randint(0, 3, (2, 6), generator=g) for _ in "yz")
    r = 0.9 + 0.2 * torch.rand(2, 6, generator=g, dtype=torch.float64)
    total = 0.0
    for n in range(2):
        for i in range(6):
            s = [float(f[n, i] @ h[n, j]) / 0.07 for j in range(6)]
            s = [x - max(s) for x in s]
            below = math.log(sum(float(r[n, k]) * math.exp(s[k]) for k in range(6) if k != i) + 1e-20)
            for j in range(6):
                if j != i and z[n, j] == y[n, i]:
                    total -= (s[j] - below + math.log(float(r[n, j]) + 1e-20)) / 6
    assert float(instance_contrast(f, h, y, z, r, 0.07)) == pytest.approx(total / 12)
    apart = torch.arange(6).expand(2, 6)
    assert float(instance_contrast(f, h, apart, apart + 10, r, 0.07)) == 0.0


def test_trusted_cross_entropy_with_nothing_labelled_is_zero() -> None:
    scores = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = trusted_cross_entropy(scores, torch.full((1, 2, 2), 255), torch.ones(1, 2, 2), torch.ones(3))
    loss.backward()
    assert float(loss.detach()) == 0.0 and scores.grad is not None and not scores.grad.any()


def test_absent_classes_gain_weight_over_batches() -> None:
    weights = RareClassWeights(3, 7.0)
    label = torch.zeros(1, 10, 10, dtype=torch.long)
    label[0, 0, 0] = 1
    first = weights(label, few=10)
    assert first.tolist() == pytest.approx([1.0, 7.0, 7.0 * 1.6])  # 0.9 + 0.1 * 7
    assert weights(label, few=10).tolist() == pytest.approx([1.0, 7.0, 7.0 * (0.9 * 1.6 + 0.7)])


def test_contrast_leaves_out_what_has_no_label() -> None:
    """As if those samples were not there: neither anchors nor positives nor in the denominator, and n is that of the others."""
    f, h = (torch.nn.functional.normalize(torch.randn(1, 7, 4, generator=gen(k)), dim=2) for k in (0, 1))
    r = torch.rand(1, 7, generator=gen(2)) * 0.2 + 0.9
    y = torch.tensor([[0, 255, 1, 0, 255, 1, 1]])
    labelled = (y[0] != 255).nonzero().flatten()
    alone = instance_contrast(f[:, labelled], h[:, labelled], y[:, labelled], y[:, labelled], r[:, labelled], 0.07)
    torch.testing.assert_close(instance_contrast(f, h, y, y, r, 0.07, ignore=255), alone)
    assert not torch.isclose(instance_contrast(f, h, y, y, r, 0.07), alone)  # published: a class like others
    nothing = torch.full_like(y, 255)
    assert instance_contrast(f, h, nothing, nothing, r, 0.07, ignore=255) == 0
