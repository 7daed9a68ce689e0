"""FDA's class-wise thresholds (66 % of each class is dropped, at most those below 0.9) through ``stpl``'s quantiles."""

import numpy as np
import pytest
import torch

from stpl import class_quantiles

FILE = "fda_pseudo_label"


@pytest.mark.cases("in_label", "in_prob", "out_thres")
def test_thresholds_and_labels(case, assert_close):
    label, confidence = case.tensor("in_label").long(), case.tensor("in_prob")
    classes = len(case["out_thres"])
    quantiles, present = class_quantiles(confidence, label, classes, 0.66)
    thresholds = quantiles.clamp(max=0.9)
    assert_close(thresholds, case["out_thres"])
    np.testing.assert_array_equal(present.numpy(), np.bincount(case["in_label"].ravel(), minlength=256)[:classes] > 0)
    counted = label < classes
    selected = torch.where(counted & (confidence >= thresholds[label.clamp(max=classes - 1)]), label, 255)
    np.testing.assert_array_equal(selected.numpy(), case["out_pseudo_label"])
