"""UR's class-balanced thresholds and labels."""

import numpy as np
import pytest
import torch

from methods.common.selection import class_balanced_portion, relative_labels

FILE = "ur_class_balanced_selection"


@pytest.mark.cases("in_prob", "param_portions")
def test_thresholds_counts_and_labels(case, assert_close):
    prob = case.tensor("in_prob")
    confidence, label = prob.max(1)
    classes, stride = prob.shape[1], int(case["param_ds_rate"])
    for number, portion in enumerate(case["param_portions"]):
        thresholds = class_balanced_portion(confidence, label, classes, float(portion), stride)
        assert_close(thresholds, case[f"p{number}_out_cls_thresh"])
        labels = relative_labels(prob, thresholds)
        np.testing.assert_array_equal(labels.numpy(), case[f"p{number}_out_pseudo_label"])
        counts = torch.bincount(label.flatten(), minlength=classes).numpy()
        np.testing.assert_array_equal(counts, case[f"p{number}_out_pred_cls_num"])
        # n pixels enter per class and image, one in `every`; m = int(portion n) of all of them are selected
        entering = sum(-(-torch.bincount(image.flatten(), minlength=classes) // stride) for image in label)
        selected = (float(portion) * entering.double()).long().numpy()
        np.testing.assert_array_equal(selected, case[f"p{number}_out_cls_sel_size"])
