"""Cross entropy with probabilities as labels."""

from __future__ import annotations

from torch import Tensor


def soft_cross_entropy(scores: Tensor, probabilities: Tensor) -> Tensor:
    """Mean over pixels of ``-sum_c q_c ln softmax(scores)_c``, in nats.

    With ``probabilities = scores.softmax(1)`` it is the mean entropy; the gradient then goes through both.

    Args:
        scores: logits ``(N, K, ...)``.
        probabilities: q, of the same shape; detach it where it is a label.
    """
    return -(probabilities * scores.log_softmax(1)).sum(1).mean()
