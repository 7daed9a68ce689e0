"""Domain discriminators: the network, its loss, and its own training beside the segmenter's.

The segmenter is trained to make target maps pass for source maps; the discriminator to tell them apart. The discriminator's
weights carry no gradient in the segmenter's step, and the maps none in the discriminator's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SOURCE, TARGET = 0.0, 1.0
"""Labels of the two domains (ADVENT)."""


class Discriminator(nn.Sequential):
    """Fully convolutional: four times 4x4 convolution, stride 2, padding 1, then LeakyReLU 0.2; a fifth one to a single channel.

    ``(N, channels, H, W)`` to logits ``(N, 1, ~H/32, ~W/32)``; H and W of 32 or more. No normalisation, no sigmoid.

    Args:
        channels: of the maps.
        width: channels after the first layer; doubled in each of the next three. Published: 64.

    Source: ADVENT (Vu et al., CVPR 2019), published code ``get_fc_discriminator``, after DCGAN.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        widths = [channels, width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, 2, 1))


def domain_loss(logits: Tensor, domain: float) -> Tensor:
    """Mean binary cross entropy of a discriminator's logits against one constant label (ADVENT ``bce_loss``)."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, domain))


def weight_discrepancy(first: nn.Module, second: nn.Module) -> Tensor:
    """Mean over parameter tensors of ``1 + cos(first, second)``, each tensor flattened: 2 = alike, 0 = opposed.

    Source: DA-VSN (Guan et al., ICCV 2021) eq. 7, published code. A tensor of zeros has cosine 0.

    Raises:
        ValueError: the two do not have the same parameter shapes.
    """
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        raise ValueError("weight_discrepancy: the two networks differ in the shapes of their parameters")
    return torch.stack([1 + F.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in pairs]).mean()


def judged(scores: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Probabilities as a discriminator sees them: scores brought bilinearly to the image's size over ``stride``, then softmax.

    Args:
        scores: logits ``(N, C, h, w)``; concatenated scores of two frames share one softmax, as in DA-VSN.
        size: H, W of the image.
        stride: 1 as published; larger ones save time. A side is never brought below 32 pixels, the least that passes.
    """
    height, width = (max(32, -(-side // stride)) for side in size)
    upsampled = F.interpolate(scores.float(), (height, width), mode="bilinear", align_corners=True)
    return upsampled.softmax(1)


class Adversary(nn.Module):
    """A discriminator with an optimiser of its own.

    In a step the method calls :meth:`fool` on target maps while it builds its losses and :meth:`watch` with the maps of both
    domains; after the segmenter's step :meth:`learn` trains the discriminator on what it watched.

    Args:
        channels: of the maps.
        width: see :class:`Discriminator`.
        lr: of Adam with betas 0.9, 0.99 (ADVENT and DA-VSN: 1e-4).
        clip_norm: largest norm of the discriminator's gradient (DA-VSN: 1); None = no limit.
    """

    def __init__(self, channels: int, width: int, lr: float, clip_norm: float | None = None) -> None:
        super().__init__()
        self.clip_norm = clip_norm
        # Without gradient at rest: the segmenter's backward pass then leaves nothing in the discriminator.
        self.discriminator = Discriminator(channels, width).requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.discriminator.parameters(), lr=lr, betas=(0.9, 0.99))
        self._watched: list[tuple[Tensor, Tensor]] = []

    def fool(self, target: Tensor) -> Tensor:
        """Loss of the segmenter: how far target maps ``(N, C, H, W)`` are from being taken for source."""
        return domain_loss(self.discriminator(target).float(), SOURCE)

    def watch(self, source: Tensor, target: Tensor, part: int = 0) -> None:
        """Keep the maps of one of a step's batches, detached, for :meth:`learn`.

        Args:
            part: number of the batch within the step; with the first, what was kept before is forgotten.
        """
        self._watched = [*(self._watched if part else []), (source.detach(), target.detach())]

    def _told_apart(self, source: Tensor, target: Tensor) -> Tensor:
        loss = 0.5 * domain_loss(self.discriminator(source).float(), SOURCE)
        return loss + 0.5 * domain_loss(self.discriminator(target).float(), TARGET)

    def learn(self, extra: Callable[[], Tensor] | None = None) -> None:
        """One step of the discriminator on ``(domain_loss(source) + domain_loss(target)) / 2``, the mean over the step's batches,
        plus ``extra()``.

        ``extra`` is a loss on discriminator weights, such as a weighted :func:`weight_discrepancy`; what it asks of other
        discriminators is not followed here.
        """
        assert self._watched, "watch() comes before learn()"
        watched, self._watched = self._watched, []
        self.discriminator.requires_grad_(True)
        with torch.enable_grad():
            loss = torch.stack([self._told_apart(source, target) for source, target in watched]).mean()
            if extra is not None:
                loss = loss + extra()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.clip_norm)
        self.optimiser.step()
        self.discriminator.requires_grad_(False)
