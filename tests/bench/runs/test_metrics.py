import math

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.runs.metrics import (
    ConfusionMatrix,
    carry_labels,
    confusion_matrix,
    iou_from_confusion,
    mean_iou,
    pixel_accuracy,
)

pairs = st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 200, 255]), st.integers(0, 3)), max_size=40)
quick = settings(deadline=None, derandomize=True, max_examples=40)


def test_by_hand():
    """Truth 0 0 1 x, prediction 0 1 1 0: IoU 1/2 and 1/2; the ignored pixel's prediction does not count."""
    matrix = confusion_matrix(torch.tensor([0, 0, 1, 255]), torch.tensor([0, 1, 1, 0]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert matrix.dtype == torch.int64
    iou = iou_from_confusion(matrix)
    assert iou[:2].tolist() == [0.5, 0.5] and math.isnan(iou[2])
    assert mean_iou(iou) == 0.5
    assert pixel_accuracy(matrix) == pytest.approx(2 / 3)


def test_a_class_that_is_only_predicted_scores_zero_and_counts():
    iou = iou_from_confusion(confusion_matrix(torch.tensor([0, 0]), torch.tensor([0, 2]), 3))
    assert iou[0] == 0.5 and math.isnan(iou[1]) and iou[2] == 0
    assert mean_iou(iou) == 0.25


@quick
@given(pairs)
def test_matrix_equals_counting(pairs):
    truth = np.array([t for t, _ in pairs], dtype=np.uint8)
    guess = np.array([p for _, p in pairs], dtype=np.uint8)
    matrix = confusion_matrix(truth, guess, 4)
    for t in range(4):
        for p in range(4):
            assert matrix[t, p] == pairs.count((t, p))
    for c, iou in enumerate(iou_from_confusion(matrix).tolist()):
        intersection = sum(t == c and p == c for t, p in pairs)
        union = sum((t == c or p == c) and t < 4 for t, p in pairs)
        assert iou == pytest.approx(intersection / union) if union else math.isnan(iou)


@quick
@given(pairs, st.integers(0, 40))
def test_pooling_over_batches_is_one_matrix(pairs, cut):
    truth = torch.tensor([t for t, _ in pairs], dtype=torch.uint8)
    guess = torch.tensor([p for _, p in pairs], dtype=torch.uint8)
    pooled = ConfusionMatrix(4)
    pooled.update(truth[:cut], guess[:cut])
    pooled.update(truth[cut:], guess[cut:])
    assert torch.equal(pooled.matrix, confusion_matrix(truth, guess, 4))


def test_counts_beyond_float32_are_exact():
    pooled = ConfusionMatrix(2)
    pooled.matrix += torch.tensor([[2**40 + 1, 0], [0, 1]])
    pooled.update(torch.tensor([0]), torch.tensor([0]))
    assert pooled.matrix[0, 0].item() == 2**40 + 2


def test_nothing_counted_is_not_a_score():
    matrix = confusion_matrix(torch.full((5,), 255), torch.zeros(5, dtype=torch.long), 3)
    assert math.isnan(mean_iou(iou_from_confusion(matrix))) and math.isnan(pixel_accuracy(matrix))


def test_the_official_evaluator_agrees():
    """cityscapesscripts on label ids: the same matrix, IoU per class and mean."""
    rng = np.random.default_rng(0)
    ids = {entry.trainId: entry.id for entry in cityscapes_labels if 0 <= entry.trainId < 19}
    to_id = np.array([ids[train_id] for train_id in range(19)])
    truth = rng.integers(0, 17, (40, 60))  # 17 and 18 are absent from the truth
    guess = np.where(rng.random((40, 60)) < 0.6, truth, rng.integers(0, 18, (40, 60)))
    truth[:5] = 255
    args = official.args
    args.evalLabels = []
    official.generateMatrix(args)
    official_matrix = official.generateMatrix(args)
    truth_ids = np.where(truth == 255, 0, to_id[np.minimum(truth, 18)])
    for t, p in zip(truth_ids.flatten(), to_id[guess].flatten(), strict=True):
        official_matrix[t, p] += 1

    matrix = confusion_matrix(truth, guess, 19)
    assert np.array_equal(matrix, official_matrix[np.ix_(to_id, to_id)])
    iou = iou_from_confusion(matrix)
    official_ious = [official.getIouScoreForLabel(int(i), official_matrix, args) for i in to_id]
    np.testing.assert_allclose(iou, official_ious, rtol=1e-12)
    names = {entry.id: entry.name for entry in cityscapes_labels}
    by_name = {names[int(i)]: score for i, score in zip(to_id, official_ious, strict=True)}
    assert mean_iou(iou) == pytest.approx(official.getScoreAverage(by_name, args), rel=1e-12)


def test_carried_labels_by_hand():
    previous = torch.tensor([[[0, 1, 2, 3]]])
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, 0] = torch.tensor([1.0, -0.4, 1.0, -2.0])
    valid = torch.tensor([[[True, True, True, False]]])
    # column 0 sees column 1; column 1 itself (nearest); column 2 sees 3; column 3 is not valid
    assert carry_labels(previous, flow, valid).tolist() == [[[1, 1, 3, 255]]]
    flow[0, 0, 0, 2] = 1.6
    assert carry_labels(previous, flow, valid).tolist() == [[[1, 1, 255, 255]]], "beyond the image is not valid"


def test_a_prediction_that_moves_with_the_scene_is_consistent():
    g = torch.Generator().manual_seed(0)
    previous = torch.randint(0, 4, (1, 6, 9), generator=g)
    current = torch.roll(previous, 2, dims=-1)
    flow = torch.zeros(1, 2, 6, 9)
    flow[:, 0] = -2
    valid = torch.ones(1, 6, 9, dtype=torch.bool)
    matrix = confusion_matrix(carry_labels(previous, flow, valid), current, 4)
    assert matrix.sum() == 6 * 7  # two columns came in from outside
    assert mean_iou(iou_from_confusion(matrix)) == 1.0
    still = confusion_matrix(carry_labels(previous, torch.zeros_like(flow), valid), current, 4)
    assert mean_iou(iou_from_confusion(still)) < 0.5


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="same shape"):
        confusion_matrix(torch.zeros(3), torch.zeros(4), 2)
    with pytest.raises(ValueError, match=r"prediction 7 is not a class; allowed: 0\.\.1"):
        confusion_matrix(torch.tensor([0, 255]), torch.tensor([7, 9]), 2)
    assert confusion_matrix(torch.tensor([255]), torch.tensor([9]), 2).sum() == 0
