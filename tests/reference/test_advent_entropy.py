"""ADVENT: self-information maps, entropy, the discriminator's loss, cross entropy."""

import numpy as np
import pytest
import torch

from methods.common.adversarial import SOURCE, TARGET, domain_loss
from methods.common.information import entropy_loss, self_information
from stpl import pseudo_label_cross_entropy

FILE = "advent_entropy"


@pytest.mark.cases("in_logits")
def test_entropy(case, assert_close):
    assert_close(self_information(case.tensor("in_logits").softmax(1)), case["out_prob_2_entropy"])
    assert_close(entropy_loss(case.tensor("in_logits").softmax(1)), case["out_entropy_loss"])
    logits = case.tensor("in_logits").double().requires_grad_()
    loss = entropy_loss(logits.softmax(1))
    assert_close(loss, case["out_entropy_loss64"])
    assert_close(torch.autograd.grad(loss, logits)[0], case["out_entropy_grad_logits64"])


@pytest.mark.cases("in_disc_logits")
def test_domain_loss(case, assert_close):
    for label, domain in ((0, SOURCE), (1, TARGET)):
        logits = case.tensor("in_disc_logits").requires_grad_()
        loss = domain_loss(logits, domain)
        assert_close(loss, case[f"out_bce_label{label}"])
        assert_close(torch.autograd.grad(loss, logits)[0], case[f"out_bce_grad_label{label}"])


@pytest.mark.cases("in_logits", "in_label")
def test_cross_entropy(case, assert_close):
    label = case.tensor("in_label").long()
    logits = case.tensor("in_logits").double().requires_grad_()
    loss = pseudo_label_cross_entropy(logits, label)
    expected = case["out_cross_entropy_2d64"]
    if np.isnan(expected):  # nothing labelled: the published mean of nothing is NaN, ours is 0 on purpose
        assert float(loss.detach()) == 0.0 and bool((label == 255).all())
        return
    assert_close(loss, expected)
    assert_close(torch.autograd.grad(loss, logits)[0], case["out_cross_entropy_grad_logits64"])
    assert_close(pseudo_label_cross_entropy(case.tensor("in_logits"), label), case["out_cross_entropy_2d"])
