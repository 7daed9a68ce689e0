"""DeepLabv2 on a torchvision ResNet: dilated to output stride 8, four-branch atrous classifiers, batch-norm affine frozen.

Two layouts share the code. The *torchvision* one is what ``torchvision.models.resnet`` makes of
``replace_stride_with_dilation``; it fits torchvision's ImageNet weights. The *published* one is that of the Caffe lineage
which AdaptSegNet, ADVENT, DA-VSN and TPS train (and fits their checkpoints): a bottleneck's stride is in its first 1x1
convolution, every block of layer 3 and 4 is dilated by 2 and 4, and the max pooling rounds up, so that 512x1024 gives 65x129
scores.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import Bottleneck, ResNet

from ._normalise import IMAGENET, PUBLISHED, Normalise
from .build import NetworkParts

DILATIONS = (6, 12, 18, 24)
"""Of the classifier's branches (DeepLabv2, Chen et al., PAMI 2018: ASPP-L)."""


class AtrousClassifier(nn.Module):
    """Sum of four 3x3 convolutions with dilation 6, 12, 18, 24 and bias: ``(N, C, h, w)`` to logits ``(N, K, h, w)``."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(channels, num_classes, 3, padding=d, dilation=d) for d in DILATIONS)
        for branch in self.branches:
            assert isinstance(branch, nn.Conv2d) and branch.bias is not None
            nn.init.normal_(branch.weight, 0, 0.01)  # as published
            nn.init.zeros_(branch.bias)

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.branches[0](features)
        for branch in self.branches[1:]:
            scores = scores + branch(features)
        return scores


class DilatedResNet(nn.Module):
    """RGB in 0..1 ``(N, 3, H, W)`` to the features of layer 4 (main) and layer 3 (auxiliary), both at stride 8.

    Batch norm keeps its affine weights (no gradient) and uses batch statistics in train mode, as published.

    Args:
        layers: blocks of the four stages.
        published: the published layout (module docstring) instead of torchvision's.
        block: kind of residual block.
        width_per_group: width of the blocks' inner convolutions; 64 for ResNet-50 and 101.

    Attributes:
        checkpointing: keep only each block's input for the backward pass and compute the rest again. Same bits, less
            memory, about a third more time.
    """

    stride, multiple = 8, 1

    def __init__(
        self,
        layers: Sequence[int],
        *,
        published: bool = False,
        block: type[Bottleneck] = Bottleneck,
        width_per_group: int = 64,
    ) -> None:
        super().__init__()
        body = ResNet(
            block,
            list(layers),
            num_classes=1,
            width_per_group=width_per_group,
            replace_stride_with_dilation=[False, True, True],
        )
        self.channels, self.auxiliary_channels = 512 * block.expansion, 256 * block.expansion
        self.published = published
        self.checkpointing = False
        self.normalise = Normalise(*(PUBLISHED if published else IMAGENET))
        self.conv1, self.bn1, self.relu, self.maxpool = body.conv1, body.bn1, body.relu, body.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = body.layer1, body.layer2, body.layer3, body.layer4
        if published:
            self._rearrange()
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)

    def _rearrange(self) -> None:
        """From torchvision's layout to the published one; the weights' names and shapes are the same."""
        self.maxpool.ceil_mode = True
        self.layer2[0].conv1.stride, self.layer2[0].conv2.stride = (2, 2), (1, 1)
        for stage, dilation in ((self.layer3, 2), (self.layer4, 4)):
            stage[0].conv2.dilation = stage[0].conv2.padding = (dilation, dilation)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.normalise(image)))))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = self._run(stage, x)
        return self._run(self.layer4, x), x

    def _run(self, stage: nn.Sequential, x: Tensor) -> Tensor:
        if not (self.checkpointing and torch.is_grad_enabled()):
            return stage(x)  # type: ignore[no-any-return]
        for block in stage:
            x = checkpoint(
                block,
                x,
                use_reentrant=False,
                preserve_rng_state=False,  # nothing in a block is random
                context_fn=functools.partial(_contexts, block),
            )
        return x

    def load_backbone(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a classification network in this layout; its ``fc`` and other heads are left out.

        Published ones expect B, G, R.

        Raises:
            RuntimeError: names or shapes differ.
        """
        stages = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
        taken = {name: value for name, value in weights.items() if name.startswith(stages)}
        if self.published and "conv1.weight" in taken:
            taken["conv1.weight"] = taken["conv1.weight"].flip(1)
        state = self.state_dict()
        kept = {n: v for n, v in state.items() if n.startswith("normalise.") or n.endswith("num_batches_tracked")}
        self.load_state_dict({**kept, **taken})


def _contexts(
    block: nn.Module,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """Around the first and the second pass of a checkpointed block."""
    return contextlib.nullcontext(), statistics_kept(block)


@contextlib.contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norm below ``module`` works as in train mode but does not move its running statistics.

    For the second forward pass of a checkpointed block: the first one has moved them.
    """
    before = [
        (layer, layer.momentum, count, count.clone())
        for layer in module.modules()
        if isinstance(layer, nn.BatchNorm2d) and (count := layer.num_batches_tracked) is not None
    ]
    for layer, *_ in before:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum, count, value in before:
            layer.momentum = momentum
            count.copy_(value)


def deeplab(encoder: DilatedResNet, num_classes: int) -> NetworkParts:
    """The encoder with its two classifiers; see :class:`bench.networks.build.NetworkParts`."""
    return NetworkParts(
        encoder=encoder,
        classifier=lambda channels: AtrousClassifier(channels, num_classes),
        auxiliary_classifier=AtrousClassifier(encoder.auxiliary_channels, num_classes),
    )
