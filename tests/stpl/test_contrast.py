import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from stpl.contrast import PixelContrast, ProjectionHead, pixel_contrast, sample_class_balanced

denominators = st.sampled_from(["pair", "supcon"])
label_lists = st.lists(st.sampled_from([0, 1, 2, 7, 255]), min_size=0, max_size=14)


def embeddings(count, seed=0, dim=4, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=g, dtype=dtype), dim=1)


def slow_contrast(x, labels, temperature, denominator, anchors=None):
    """The formula of METHODS.md, three nested loops; (sum, number of anchors that count)."""
    total, counted = x.new_zeros(()), 0
    labels = labels.tolist()
    for i in range(len(labels) if anchors is None else anchors):
        if labels[i] == 255:
            continue
        s = [x[i] @ x[j] / temperature for j in range(len(labels))]
        positives = [j for j in range(len(labels)) if j != i and labels[j] == labels[i]]
        negatives = [j for j in range(len(labels)) if labels[j] not in (labels[i], 255)]
        if not positives or not negatives:
            continue
        counted += 1
        for p in positives:
            compared = [p, *negatives] if denominator == "pair" else positives + negatives
            total = total + (torch.logsumexp(torch.stack([s[j] for j in compared]), 0) - s[p]) / len(positives)
    return total, counted


@given(label_lists, st.integers(0, 99), denominators, st.sampled_from([None, 1, 3]), st.sampled_from([0.07, 1.0]))
def test_value_and_gradient_equal_the_loops(labels, seed, denominator, chunk_size, temperature):
    labels = torch.tensor(labels, dtype=torch.long)
    x, y = (embeddings(len(labels), seed).requires_grad_() for _ in range(2))
    loss = pixel_contrast(x, labels, temperature=temperature, denominator=denominator, chunk_size=chunk_size)
    total, counted = slow_contrast(y, labels, temperature, denominator)
    expected = total / max(1, counted)
    assert torch.allclose(loss, expected, rtol=1e-10, atol=1e-12)
    loss.backward()
    if counted:
        expected.backward()
        assert torch.allclose(x.grad, y.grad, rtol=1e-9, atol=1e-11)
    else:
        assert loss.item() == 0 and not x.grad.any()


@given(label_lists, label_lists, st.integers(0, 99), denominators, st.booleans())
def test_further_samples_serve_but_are_no_anchors(labels, further, seed, denominator, detached):
    labels, further = (torch.tensor(x, dtype=torch.long) for x in (labels, further))
    x, y = (embeddings(len(labels), seed).requires_grad_() for _ in range(2))
    c, d = (embeddings(len(further), seed + 1).requires_grad_() for _ in range(2))
    loss = pixel_contrast(
        x,
        labels,
        denominator=denominator,
        contrast=c.detach() if detached else c,
        contrast_labels=further,
        chunk_size=2,
        reduction="sum",
    )
    total, counted = slow_contrast(
        torch.cat((y, d)), torch.cat((labels, further)), 0.1, denominator, anchors=len(labels)
    )
    assert torch.allclose(loss, total, rtol=1e-10, atol=1e-12)
    loss.backward()
    if counted:
        total.backward()
        assert torch.allclose(x.grad, y.grad, rtol=1e-9, atol=1e-11)
        assert c.grad is None if detached else torch.allclose(c.grad, d.grad, rtol=1e-9, atol=1e-11)


def test_by_hand():
    """z0 = z1 = (1, 0) of one class, z2 = (0, 1) of another, temperature 1: anchor 2 has no positive."""
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 0, 1])
    # each anchor: -ln(e^1 / (e^1 + e^0)) = ln(1 + 1/e)
    expected = math.log(1 + math.exp(-1))
    assert pixel_contrast(x, labels, temperature=1.0).item() == pytest.approx(expected)
    assert pixel_contrast(x, labels, temperature=1.0, reduction="sum").item() == pytest.approx(2 * expected)


def test_the_two_denominators_differ_by_the_other_positives():
    """Three positives on one spot, one negative at right angle, temperature 1: pair ln(1 + 1/e), supcon ln(2 + 1/e)."""
    x = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    labels = torch.tensor([4, 4, 4, 9])
    assert pixel_contrast(x, labels, temperature=1.0).item() == pytest.approx(math.log(1 + math.exp(-1)))
    supcon = pixel_contrast(x, labels, temperature=1.0, denominator="supcon")
    assert supcon.item() == pytest.approx(math.log(2 + math.exp(-1)))


@pytest.mark.parametrize("denominator", ["pair", "supcon"])
@pytest.mark.parametrize("scale", [1.0, 12.0])  # unit vectors; and scores so large that a maximum must be subtracted
def test_gradcheck(denominator, scale):
    labels = torch.tensor([0, 1, 0, 2, 1, 255, 0, 2])
    x = (scale * embeddings(8)).requires_grad_()
    further = (scale * embeddings(3, 1)).requires_grad_()
    further_labels = torch.tensor([2, 0, 255])
    assert gradcheck(
        lambda a, b: pixel_contrast(
            a, labels, denominator=denominator, contrast=b, contrast_labels=further_labels, chunk_size=2
        ),
        (x, further),
    )


@pytest.mark.parametrize("denominator", ["pair", "supcon"])
@pytest.mark.parametrize("norm", [1.0, 30.0, 1e4])
def test_scores_beyond_the_range_of_exp_stay_finite_and_right(denominator, norm):
    labels = torch.arange(40) % 4
    x = (norm * embeddings(40)).requires_grad_()
    single = x.detach().float().requires_grad_()
    loss = pixel_contrast(single, labels, denominator=denominator)
    expected = pixel_contrast(x, labels, denominator=denominator)
    assert torch.allclose(expected, slow_contrast(x, labels, 0.1, denominator)[0] / 40, rtol=1e-9)
    assert loss.item() == pytest.approx(expected.item(), rel=2e-5)
    loss.backward()
    assert torch.isfinite(single.grad).all()


@given(st.integers(0, 99), denominators, st.integers(1, 50))
def test_order_and_chunks_do_not_matter(seed, denominator, chunk_size):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (40,), generator=g)
    x, order = embeddings(40, seed), torch.randperm(40, generator=g)
    expected = pixel_contrast(x, labels, denominator=denominator)
    assert torch.allclose(pixel_contrast(x[order], labels[order], denominator=denominator), expected, rtol=1e-12)
    assert torch.allclose(
        pixel_contrast(x, labels, denominator=denominator, chunk_size=chunk_size), expected, rtol=1e-12
    )
    renamed = torch.tensor([9, 3, 250, 0, 41])[labels]
    assert torch.allclose(pixel_contrast(x, renamed, denominator=denominator), expected, rtol=1e-12)


def test_rotating_all_embeddings_changes_nothing():
    labels = torch.arange(20) % 3
    x = embeddings(20)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, dtype=x.dtype))
    assert torch.allclose(pixel_contrast(x @ rotation, labels), pixel_contrast(x, labels), rtol=1e-10)


@given(st.integers(0, 99), denominators)
def test_ignored_samples_are_as_good_as_absent(seed, denominator):
    labels = torch.tensor([0, 255, 1, 1, 255, 0, 2, 2])
    x = embeddings(8, seed).requires_grad_()
    loss = pixel_contrast(x, labels, denominator=denominator)
    labelled = labels != 255
    assert torch.allclose(loss, pixel_contrast(x[labelled], labels[labelled], denominator=denominator), rtol=1e-12)
    loss.backward()
    assert not x.grad[~labelled].any() and x.grad[labelled].any()


def test_a_step_along_the_gradient_separates_classes():
    labels = torch.arange(30) % 3
    x = embeddings(30).requires_grad_()
    before = pixel_contrast(x, labels)
    before.backward()
    assert pixel_contrast(F.normalize(x.detach() - 0.1 * x.grad, dim=1), labels) < before


def test_upstream_factors_scale_the_gradient():
    labels = torch.arange(12) % 3
    x, y = embeddings(12).requires_grad_(), embeddings(12).requires_grad_()
    pixel_contrast(x, labels).backward()
    (2.5 * pixel_contrast(y, labels) ** 2).backward()
    assert torch.allclose(y.grad, 5 * pixel_contrast(y, labels).detach() * x.grad)


def test_half_precision_and_autocast_are_computed_in_single():
    labels = torch.arange(64) % 4
    x = embeddings(64, dim=16, dtype=torch.float32).bfloat16().requires_grad_()
    y = x.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = pixel_contrast(x, labels)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() == pixel_contrast(y, labels).item()
    assert x.grad.dtype == torch.bfloat16 and x.grad.any()


def test_float32_is_within_the_stated_tolerance():
    labels = torch.arange(300) % 15
    x = embeddings(300, dim=128)
    a, b = x.float().requires_grad_(), x.requires_grad_()
    loss32, loss64 = pixel_contrast(a, labels, temperature=0.07), pixel_contrast(b, labels, temperature=0.07)
    loss32.backward(), loss64.backward()
    assert loss32.item() == pytest.approx(loss64.item(), rel=1e-5)
    assert (a.grad - b.grad).abs().max() < 1e-5 * b.grad.abs().max()


def test_module_equals_function():
    x, labels = embeddings(12), torch.arange(12) % 3
    module = PixelContrast(temperature=0.2, denominator="supcon", chunk_size=4, reduction="sum")
    assert module(x, labels) == pixel_contrast(
        x, labels, temperature=0.2, denominator="supcon", chunk_size=4, reduction="sum"
    )


def test_wrong_arguments_are_refused():
    x, labels = embeddings(4), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"features \(M, D\)"):
        pixel_contrast(x, labels[:3])
    with pytest.raises(ValueError, match="above 0, got 0"):
        pixel_contrast(x, labels, temperature=0)
    with pytest.raises(ValueError, match="'pair', 'supcon'"):
        pixel_contrast(x, labels, denominator="all")
    with pytest.raises(ValueError, match="'mean', 'sum'"):
        pixel_contrast(x, labels, reduction="none")
    with pytest.raises(ValueError, match="at least 1"):
        pixel_contrast(x, labels, chunk_size=0)
    with pytest.raises(ValueError, match="together"):
        pixel_contrast(x, labels, contrast=x)
    with pytest.raises(ValueError, match="differ in D"):
        pixel_contrast(x, labels, contrast=x[:, :-1], contrast_labels=labels)


def test_labels_of_two_types_are_compared_as_numbers():
    """Cast to the anchors' bytes, 256 and 257 would be 0 and 1."""
    x, labels, further = embeddings(4), torch.tensor([0, 0, 1, 1]), torch.tensor([256, 257, 1, 300])
    expected = pixel_contrast(x, labels, contrast=x, contrast_labels=further)
    assert pixel_contrast(x, labels.byte(), contrast=x, contrast_labels=further) == expected


# --- sampling


@given(st.lists(st.sampled_from([0, 1, 5, 255]), max_size=60), st.integers(1, 8), st.integers(0, 999))
def test_sampling_is_balanced_distinct_and_repeatable(labels, per_class, seed):
    labels = torch.tensor(labels, dtype=torch.long)
    drawn = sample_class_balanced(labels, per_class, torch.Generator().manual_seed(seed))
    for label in (0, 1, 5):
        assert (labels[drawn] == label).sum() == min(per_class, int((labels == label).sum()))
    assert not (labels[drawn] == 255).any() and len(drawn.unique()) == len(drawn)
    assert torch.equal(drawn, sample_class_balanced(labels, per_class, torch.Generator().manual_seed(seed)))


def test_sampling_is_uniform_within_a_class():
    labels = torch.tensor([1] * 5 + [2] * 3)
    g = torch.Generator().manual_seed(0)
    hits = torch.zeros(8)
    for _ in range(2000):
        hits[sample_class_balanced(labels, 2, g)] += 1
    expected = torch.tensor([2 / 5] * 5 + [2 / 3] * 3) * 2000
    assert ((hits - expected).abs() < 5 * expected.sqrt()).all()
    assert not torch.equal(sample_class_balanced(labels, 2, g), sample_class_balanced(labels, 2, g))


def test_sampling_refuses_impossible_requests():
    with pytest.raises(ValueError, match="per_class >= 1"):
        sample_class_balanced(torch.zeros(3, dtype=torch.long), 0)
    with pytest.raises(ValueError, match=r"labels \(M,\)"):
        sample_class_balanced(torch.zeros(3, 3, dtype=torch.long), 1)


def test_projection_head_gives_unit_vectors():
    z = ProjectionHead(6, dim=8)(torch.randn(2, 6, 3, 4))
    assert z.shape == (2, 8, 3, 4)
    assert torch.allclose(z.norm(dim=1), torch.ones(2, 3, 4), atol=1e-6)
