"""Confusion matrix, IoU and mean IoU of four published scorers, and the published reading of absent classes.

Where nothing is counted at all our mean is NaN on purpose: no pixel, no score.
"""

import re

import numpy as np
import pytest

from bench.runs.metrics import confusion_matrix, iou_from_confusion, mean_iou

FILE = "miou"


def check_means(iou, expected):
    """A mean IoU, where scorers disagree only on "nothing was counted" (0 or NaN)."""
    mean = mean_iou(iou)
    if np.isnan(mean):
        assert np.isnan(expected) or expected == 0
    else:
        np.testing.assert_allclose(mean, expected, rtol=1e-6)


@pytest.mark.cases("in_gt_trainIds", "in_pred_trainIds")
def test_scorers_on_train_ids(case, assert_close):
    matrices = {
        s: case[s] for s in ("advent_out_hist", "torchmetrics_out_confmat", "cityscapes_out_confmat19") if s in case
    }
    assert matrices, "the case has no confusion matrix to compare with"
    for name, expected in matrices.items():
        matrix = confusion_matrix(case["in_gt_trainIds"], case["in_pred_trainIds"], len(expected))
        np.testing.assert_array_equal(matrix, expected, err_msg=name)
    iou = iou_from_confusion(matrix)
    for suffix in ("advent_out_iou", "cityscapes_out_iou"):
        if suffix in case:
            assert_close(iou, case[suffix])
    if "torchmetrics_out_iou" in case:
        assert_close(iou.nan_to_num(0.0).float(), case["torchmetrics_out_iou"])
    for suffix in ("advent_out_miou_nanmean", "cityscapes_out_miou", "torchmetrics_out_macro"):
        if suffix in case:
            check_means(iou, case[suffix])
    if "nan_to_num_out_miou" in case:  # UR and RDA count absent classes as 0; we do not, but can say what they say
        assert_close(iou.nan_to_num(0.0).mean(), case["nan_to_num_out_miou"])


@pytest.mark.cases("in_gt_labelIds", "in_pred_labelIds", "in_trainid_to_labelid")
def test_label_ids_give_the_same_matrix(case):
    """The official evaluator counts label ids; mapped to train ids our matrix is the same."""
    label_ids = case["in_trainid_to_labelid"]
    to_train = np.full(256, 255)
    to_train[label_ids] = np.arange(len(label_ids))
    matrix = confusion_matrix(to_train[case["in_gt_labelIds"]], to_train[case["in_pred_labelIds"]], len(label_ids))
    np.testing.assert_array_equal(matrix, case["cityscapes_out_confmat19"])


@pytest.mark.cases("in_gt", "in_pred", "out_hist")
def test_percentages_as_reported(case, assert_close):
    """DA-VSN and TPS report round(100 * nanmean, 2); for SYNTHIA-Seq the IoU of class 3 is dropped after the fact."""
    classes = len(case["out_hist"])
    matrix = confusion_matrix(case["in_gt"], case["in_pred"], classes)
    assert_close(matrix, case["out_hist"])
    iou = iou_from_confusion(matrix)
    without_fence = iou[[c for c in range(classes) if c != 3]]
    checked = 0
    for suffix in case.suffixes():
        if match := re.fullmatch(r"out_(m?)iou(\d*)", suffix):
            scored = without_fence if match[2] and int(match[2]) < classes else iou
            if match[1]:
                np.testing.assert_allclose(round(100 * mean_iou(scored), 2), case[suffix], atol=1e-9)
            else:
                assert_close(scored, case[suffix])
            checked += 1
    assert checked >= 2
