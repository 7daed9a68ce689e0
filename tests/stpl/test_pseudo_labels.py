import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stpl.pseudo_labels import RunningThresholds, class_balanced_thresholds, class_quantiles, confident_labels, count

K = 4


def probabilities(seed=0, pixels=(6, 7)):
    g = torch.Generator().manual_seed(seed)
    return torch.softmax(2 * torch.randn(2, K, *pixels, generator=g, dtype=torch.float64), dim=1)


def two_class(*confidences):
    """One row of pixels of class 0 with these confidences."""
    p = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack((p, 1 - p)).view(1, 2, 1, -1)


def slow_quantile(values, fraction):
    """FDA's rule on one class, with Python's own rounding (half to even)."""
    return sorted(values)[min(round(fraction * len(values)), len(values) - 1)]


def test_confident_labels_by_hand():
    p = torch.tensor([[0.6, 0.3, 0.5], [0.4, 0.7, 0.5]]).view(1, 2, 1, 3)
    labels, confidence = confident_labels(p, 0.6)
    assert labels.tolist() == [[[0, 1, 255]]] and labels.dtype == torch.int64
    assert torch.allclose(confidence, torch.tensor([[[0.6, 0.7, 0.5]]]))
    assert confident_labels(p, torch.tensor([0.65, 0.7]))[0].tolist() == [[[255, 1, 255]]]
    assert confident_labels(p, 0.0)[0].tolist() == [[[0, 1, 0]]]


def test_confident_labels_have_no_gradient():
    p = probabilities().requires_grad_()
    assert not confident_labels(p, 0.5)[1].requires_grad


def test_thresholds_must_fit_the_classes():
    with pytest.raises(ValueError, match="4 entries"):
        confident_labels(probabilities(), torch.zeros(3))


@given(st.integers(0, 999), st.sampled_from([0.0, 0.2, 0.5, 0.66, 1.0]))
def test_class_quantiles_equal_sorting_class_by_class(seed, fraction):
    g = torch.Generator().manual_seed(seed)
    count = int(torch.randint(0, 60, (), generator=g))
    confidence = torch.rand(count, generator=g, dtype=torch.float64)
    labels = torch.tensor([0, 1, 3, 255])[torch.randint(0, 4, (count,), generator=g)]
    quantiles, present = class_quantiles(confidence, labels, K, fraction)
    for c in range(K):
        values = confidence[labels == c].tolist()
        assert bool(present[c]) == bool(values)
        assert quantiles[c].item() == (slow_quantile(values, fraction) if values else 0.0)


KINDS = {
    "uniform": lambda u: u,
    "all of a class in one cell of the histogram": lambda u: 0.75 + 1e-6 * u,
    "ties": lambda u: (u * 8).round() / 8,
    "zeros and ones": lambda u: (u > 0.5).float(),
    "tiny": lambda u: 1e-40 * u,
    "below zero": lambda u: u - 0.5,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.0, 0.31, 0.66, 1.0])
def test_class_quantiles_of_many_pixels(kind, fraction):
    """Enough of them that float32 is looked up in a histogram first; scores by class as far apart as frequencies."""
    g = torch.Generator().manual_seed(0)
    confidence = KINDS[kind](torch.rand(2, 300, 400, generator=g))
    labels = torch.tensor([0, 0, 0, 0, 1, 2, 255, -1])[torch.randint(0, 8, confidence.shape, generator=g)]
    confidence[labels == 2] *= 0.5
    quantiles, present = class_quantiles(confidence, labels, K, fraction)
    assert present.tolist() == [True, True, True, False] and quantiles[3] == 0
    assert [q.item() for q in quantiles[:3]] == [
        slow_quantile(confidence[labels == c].tolist(), fraction) for c in range(3)
    ]


@given(st.integers(0, 999), st.sampled_from([0.2, 0.5, 0.66]))
def test_the_stated_share_of_every_class_is_dropped(seed, fraction):
    p = probabilities(seed, (30, 30))
    predicted, labels = p.argmax(1), confident_labels(p, class_balanced_thresholds(p, fraction, cap=1.0))[0]
    for c in range(K):
        of_class = predicted == c
        assert (labels[of_class] == 255).float().mean() == pytest.approx(fraction, abs=1 / of_class.sum().item())


def test_thresholds_are_capped_and_absent_classes_get_zero():
    p = torch.tensor([[0.99, 0.98, 0.2], [0.01, 0.02, 0.8], [0.0, 0.0, 0.0]]).view(1, 3, 1, 3)
    assert torch.allclose(class_balanced_thresholds(p, 0.5, cap=0.9), torch.tensor([0.9, 0.8, 0.0]))


def test_running_thresholds_follow_by_hand():
    running = RunningThresholds(2, fraction=0.5, cap=0.95, momentum=0.9)
    assert torch.allclose(running.thresholds, torch.tensor([0.95, 0.95]))
    # class 0 alone, entry round(0.5 * 3) = 2 of [0.6, 0.7, 0.8]: taken as it is; class 1 was not seen
    assert torch.allclose(running.update(two_class(0.8, 0.6, 0.7)), torch.tensor([0.8, 0.95]))
    # then 0.9 * 0.8 + 0.1 * 0.6
    assert torch.allclose(running.update(two_class(0.6)), torch.tensor([0.78, 0.95]))
    # class 1 alone (confidence 0.9): class 0 keeps its own
    assert torch.allclose(running.update(two_class(0.1)), torch.tensor([0.78, 0.9]))


def test_running_thresholds_are_capped_but_remember():
    running = RunningThresholds(2, fraction=0.0, cap=0.7, momentum=0.5)
    assert running.update(two_class(0.9))[0].item() == pytest.approx(0.7)
    assert running.update(two_class(0.6))[0].item() == pytest.approx(0.7)  # (0.9 + 0.6) / 2 = 0.75
    assert running.update(two_class(0.55))[0].item() == pytest.approx(0.65)


def test_running_thresholds_resume():
    first = RunningThresholds(K, 0.5)
    first.update(probabilities(0))
    second = RunningThresholds(K, 0.5)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.update(probabilities(1)), second.update(probabilities(1)))


def test_update_and_label_is_update_then_label():
    apart, together = RunningThresholds(K, 0.3), RunningThresholds(K, 0.3)
    for seed in range(3):
        p = torch.randn(2, K, 6, 7, generator=torch.Generator().manual_seed(seed)).softmax(1)
        apart.update(p)
        expected, answer = apart(p), together.update_and_label(p)
        assert all(torch.equal(a, b) for a, b in zip(expected, answer, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(apart.buffers(), together.buffers(), strict=True))
        assert (answer[0] == 255).any() and (answer[0] < K).any()


def test_running_thresholds_label_a_batch():
    running = RunningThresholds(K, 0.3)
    running.update(probabilities())
    before = running.thresholds.clone()
    labels, confidence = running(probabilities(1))
    expected = confident_labels(probabilities(1), before)
    assert torch.equal(labels, expected[0]) and torch.equal(confidence, expected[1])
    assert torch.equal(running.thresholds, before), "labelling does not move the thresholds"


def test_fractions_out_of_range_are_refused():
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"within 0\.\.1"):
            class_balanced_thresholds(probabilities(), bad)
        with pytest.raises(ValueError, match=r"0\.\.1"):
            RunningThresholds(K, bad)
        with pytest.raises(ValueError, match=r"cap must be in 0\.\.1"):
            RunningThresholds(K, 0.5, cap=bad)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="must have one shape"):
        class_quantiles(torch.rand(2, 4, 4), torch.zeros(4, 4, dtype=torch.long), K, 0.5)
    running = RunningThresholds(K + 1, 0.5)
    for method in (running.update, running.update_and_label):
        with pytest.raises(ValueError, match=f"of {K + 1} classes, got"):
            method(probabilities())


def test_a_batch_of_a_broken_network_does_not_stay_in_the_thresholds():
    running, untouched = RunningThresholds(K, 0.5), RunningThresholds(K, 0.5)
    for seed in (0, 1):
        running.update(probabilities(seed))
        untouched.update(probabilities(seed))
        running.update(torch.full_like(probabilities(), math.nan))
    assert torch.equal(running.thresholds, untouched.thresholds) and running.thresholds.isfinite().all()


def test_counting_is_bincount() -> None:
    values = torch.randint(7, (3, 40, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(count(values, 9), torch.bincount(values.flatten(), minlength=9))
    assert torch.equal(count(values[:0], 2), torch.zeros(2, dtype=torch.int64))
