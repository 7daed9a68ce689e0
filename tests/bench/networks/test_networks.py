"""Networks: layouts against torchvision's own, frozen batch norm, checkpointing, every fusion, Accel by name, cost."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import Bottleneck
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

import bench.networks.zoo
from bench.core.errors import UsageError
from bench.networks._deeplab import AtrousClassifier, DilatedResNet, deeplab
from bench.networks.build import (
    SCORE_FUSIONS,
    build_segmenter,
    check_size,
    fusion_names,
    multiple_of,
    network_names,
    rounded_size,
    set_checkpointing,
)
from bench.networks.cost import costs
from bench.runs.config import make_run_config
from stpl import FUSIONS, VideoSegmenter, build_fusion

NEW = ["deeplabv2_resnet101", "deeplabv2_resnet101_published", "deeplabv2_resnet50", "lraspp_mobilenetv3"]
DEEPLABS = [name for name in NEW if name.startswith("deeplab")]


class Narrow(Bottleneck):
    """A quarter of the channels."""

    expansion = 1


def narrow_segmenter(fusion: str = "conv1x1", published: bool = True, classes: int = 5) -> VideoSegmenter:
    torch.manual_seed(0)
    encoder = DilatedResNet((1, 1, 2, 1), published=published, block=Narrow, width_per_group=16)
    parts = deeplab(encoder, classes)
    operator = build_fusion(fusion, encoder.channels)
    return VideoSegmenter(
        encoder,
        parts.classifier(operator.out_channels),
        operator,
        auxiliary_classifier=parts.auxiliary_classifier,
    )


def clip(height: int = 64, width: int = 96) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    frames, flow = torch.rand(1, 2, 3, height, width, generator=g), torch.randn(1, 1, 2, height, width, generator=g)
    return frames, 5 * flow, torch.rand(1, 1, height, width, generator=g) > 0.1


# All of them ----------------------------------------------------------------------------------------------------------


def test_they_are_found_and_shared_code_is_not_a_network() -> None:
    assert network_names() == sorted([*NEW, "mini", "espnet", "espnet_q3", "espnet_q5"])


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("fusion", [*FUSIONS, *SCORE_FUSIONS])
def test_every_network_takes_every_fusion_at_full_size(name: str, fusion: str) -> None:
    """On the meta device: shapes only."""
    with torch.device("meta"):
        segmenter = build_segmenter(name, fusion, 15).eval()
        frames, valid = torch.empty(1, 2, 3, 512, 1024), torch.empty(1, 1, 512, 1024, dtype=torch.bool)
    with torch.no_grad():
        features, auxiliary = segmenter.encode(frames[0])
        size = (65, 129) if name.endswith("published") else (64, 128)
        assert features.shape == (2, segmenter.encoder.channels, *size)
        assert auxiliary is not None and auxiliary.shape[:2] == (2, segmenter.encoder.auxiliary_channels)
        mask = torch.ones(1, *size, dtype=torch.bool, device="meta")
        fused = segmenter.fuse(features[1:], [features[:1]], [mask])
        assert segmenter.classify(fused).shape == (1, 15, *size)
        assert segmenter.classify_auxiliary(auxiliary) is not None
    assert (segmenter.score_fusion is not None) == (fusion in SCORE_FUSIONS)
    assert valid.shape[-1] == 1024


@pytest.mark.parametrize("name", DEEPLABS)
def test_groups_leave_the_frozen_affine_out_and_hold_the_rest_once(name: str) -> None:
    with torch.device("meta"):
        segmenter = build_segmenter(name, "conv1x1", 15)
    encoder, heads = segmenter.parameter_groups(1e-3)
    assert heads["lr"] == pytest.approx(10 * encoder["lr"])
    norms = [m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d)]
    frozen = {id(p) for m in norms for p in m.parameters()}
    assert len(norms) > 50 and all(not p.requires_grad for m in norms for p in m.parameters())
    grouped = [id(p) for group in (encoder, heads) for p in group["params"]]
    assert set(grouped) == {id(p) for p in segmenter.parameters()} - frozen and len(set(grouped)) == len(grouped)
    assert {id(p) for p in segmenter.encoder.parameters()} - frozen == {id(p) for p in encoder["params"]}


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_a_pass_there_and_back(fusion: str, published: bool) -> None:
    segmenter = narrow_segmenter(fusion, published)
    out = segmenter(*clip(96, 160))
    size = (13, 21) if published else (12, 20)
    assert out.scores.shape == (1, 5, *size) and out.auxiliary_scores is not None
    (out.scores.square().mean() + out.auxiliary_scores.square().mean()).backward()
    assert all(
        p.grad is not None and bool(p.grad.isfinite().all()) for p in segmenter.encoder.parameters() if p.requires_grad
    )


@pytest.mark.parametrize("name", ["espnet", "espnet_q3", "espnet_q5", "mini", *NEW])
def test_frames_of_the_multiple_that_a_network_says_and_no_others(name: str) -> None:
    multiple = multiple_of(name)
    assert multiple == (8 if name.startswith("espnet") else 1)
    for odd in (5, 97):
        size = rounded_size(name, odd * multiple, (odd + 2) * multiple)
        assert size == (odd * multiple, (odd + 2) * multiple)
        if odd == 97:
            assert scores_of(name, *size)[2] > 0
    if multiple > 1:
        with pytest.raises(RuntimeError):
            scores_of(name, 5 * multiple, 5 * multiple + multiple // 2)


@torch.no_grad()
def scores_of(name: str, height: int, width: int) -> torch.Size:
    with torch.device("meta"):
        segmenter = build_segmenter(name, "none", 3).eval()
        return segmenter.classify(segmenter.encode(torch.empty(1, 3, height, width))[0]).shape


def test_sizes_are_rounded_to_the_nearest_or_refused_with_a_sentence() -> None:
    assert rounded_size("espnet", 363, 485) == (360, 488) and rounded_size("espnet", 2, 4) == (8, 8)
    assert rounded_size("mini", 97, 161) == (97, 161)
    check_size("espnet", 360, 480)
    with pytest.raises(UsageError, match=r"'espnet' takes frames .* multiples of 8, not 97x160; .* is 96x160"):
        check_size("espnet", 97, 160)


# The layouts ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_torchvision_layout_is_torchvisions() -> None:
    torch.manual_seed(0)
    reference = resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    encoder = DilatedResNet((3, 4, 6, 3))
    encoder.load_backbone(reference.state_dict())
    getter = IntermediateLayerGetter(reference, {"layer3": "auxiliary", "layer4": "main"}).eval()
    image = torch.rand(1, 3, 65, 97)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = getter((image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    main, auxiliary = encoder.eval()(image)
    torch.testing.assert_close(main, expected["main"])
    torch.testing.assert_close(auxiliary, expected["auxiliary"])


def test_dilations_and_strides() -> None:
    """Published: the stride in a bottleneck's first convolution, all of layer 3 dilated by 2 and of layer 4 by 4."""
    for published in (False, True):
        encoder = DilatedResNet((1, 2, 2, 2), published=published, block=Narrow, width_per_group=16)
        strides = [(b.conv1.stride[0], b.conv2.stride[0]) for b in encoder.layer2]
        assert strides == ([(2, 1), (1, 1)] if published else [(1, 2), (1, 1)])
        dilations = [[b.conv2.dilation[0] for b in stage] for stage in (encoder.layer3, encoder.layer4)]
        assert dilations == ([[2, 2], [4, 4]] if published else [[1, 2], [2, 4]])
        assert all(b.conv2.padding == b.conv2.dilation for s in (encoder.layer3, encoder.layer4) for b in s)


def test_zero_padding_means_the_mean_colour() -> None:
    """A picture of the mean colour is zero to the network, so its edges look like its middle."""
    for published in (False, True):
        encoder = DilatedResNet((1, 1, 1, 1), published=published, block=Narrow, width_per_group=16)
        mean = encoder.normalise.mean.expand(1, 3, 32, 32)
        assert not bool(encoder.conv1(encoder.normalise(mean)).detach().any())
    assert encoder.normalise.mean.flatten().tolist() == pytest.approx(
        [122.67891434 / 255, 116.66876762 / 255, 104.00698793 / 255]
    )
    assert {"normalise.mean", "normalise.std"} <= set(encoder.state_dict())


@torch.no_grad()
def test_the_classifier_sums_four_dilated_branches() -> None:
    classifier = AtrousClassifier(3, 2)
    classifier.branches[1].bias.fill_(0.5)
    x = torch.zeros(1, 3, 60, 60)
    x[0, 1, 30, 30] = 1
    scores = classifier(x)[0] - 0.5
    for branch, dilation in zip(classifier.branches, (6, 12, 18, 24), strict=True):
        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                if row or column:  # the middle belongs to all four
                    response = scores[:, 30 - row * dilation, 30 - column * dilation]
                    torch.testing.assert_close(response, branch.weight[:, 1, 1 + row, 1 + column])
    assert int((scores.abs() > 1e-7).any(0).sum()) == 33


@torch.no_grad()
def test_lraspp_is_torchvisions_with_its_two_classifiers_as_one() -> None:
    torch.manual_seed(0)
    reference = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=7).eval()
    segmenter = build_segmenter("lraspp_mobilenetv3", "none", 7).eval()
    segmenter.encoder.features.load_state_dict({k: v for k, v in reference.backbone.state_dict().items()})
    head = reference.classifier
    segmenter.encoder.context.load_state_dict(head.cbr.state_dict())
    segmenter.encoder.scale.load_state_dict(head.scale.state_dict())
    segmenter.classifier.weight.copy_(torch.cat((head.high_classifier.weight, head.low_classifier.weight), 1))
    segmenter.classifier.bias.copy_(head.high_classifier.bias + head.low_classifier.bias)
    image = torch.rand(1, 3, 97, 161)
    normalised = segmenter.encoder.normalise(image)
    expected = head(reference.backbone(normalised))
    features, _ = segmenter.encode(image)
    torch.testing.assert_close(segmenter.classify(features), expected)


# Checkpointing --------------------------------------------------------------------------------------------------------


def kept_bytes(segmenter: VideoSegmenter) -> tuple[int, Any]:
    """Bytes that a pass keeps for its backward pass, each storage once; and the pass."""
    storages: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = segmenter(*clip())
    return sum(storages.values()), out


@pytest.mark.parametrize("half", [False, True])
def test_checkpointing_gives_the_same_bits_with_less_memory(half: bool) -> None:
    plain = narrow_segmenter()
    sparing = copy.deepcopy(plain)
    set_checkpointing(sparing)
    sizes = []
    for segmenter in (plain, sparing):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            for _ in range(2):
                used, out = kept_bytes(segmenter)
                (out.scores.float().square().mean() + out.auxiliary_scores.float().square().mean()).backward()
            sizes.append(used)
    assert sizes[1] < 0.7 * sizes[0]
    sparing_parameters, plain_parameters = dict(sparing.named_parameters()), dict(plain.named_parameters())
    for name, parameter in plain_parameters.items():
        if parameter.requires_grad:
            assert parameter.grad is not None and torch.equal(sparing_parameters[name].grad, parameter.grad), name
    for name, value in plain.state_dict().items():  # running statistics and their counters moved once per pass
        assert torch.equal(sparing.state_dict()[name], value), name
    assert int(sparing.encoder.bn1.num_batches_tracked) == int(sparing.encoder.layer3[1].bn2.num_batches_tracked) == 2


def test_not_every_network_can_checkpoint() -> None:
    with pytest.raises(UsageError, match="no gradient checkpointing"):
        set_checkpointing(build_segmenter("mini", "none", 3))


# Accel by name --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "how"), SCORE_FUSIONS.items())
def test_accel_can_be_asked_for_by_name(name: str, how: str) -> None:
    torch.manual_seed(0)
    segmenter = build_segmenter("mini", name, 4).eval()
    assert segmenter.score_fusion is not None and segmenter.score_fusion.propagate == how
    assert name in fusion_names() and name not in FUSIONS
    assert make_run_config("stpl", options={"fusion": name}).fusion == name
    frames, flow, valid = clip(32, 64)
    out = segmenter(frames, flow, valid)
    torch.testing.assert_close(out.scores, segmenter.classify(out.encoded[-1]))  # starts as the current frame's scores


# Cost -----------------------------------------------------------------------------------------------------------------


def test_flops_of_a_network_small_enough_to_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One 8x8 convolution with stride 8 from 3 to 16 channels, a 1x1 classifier to K = 5, on 64x128 pixels."""
    code = """
from torch import nn
from bench.networks.build import NetworkParts

class Encoder(nn.Module):
    channels, auxiliary_channels, stride = 16, 0, 8

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 16, 8, stride=8)

    def forward(self, image):
        return self.layer(image), None

def build(num_classes):
    return NetworkParts(Encoder(), lambda channels: nn.Conv2d(channels, num_classes, 1))
"""
    (tmp_path / "counted.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(bench.networks.zoo, "__path__", [*bench.networks.zoo.__path__, str(tmp_path)])
    cells = (64 // 8) * (128 // 8)
    (row,) = [row for row in costs(64, 128, 5) if row["network"] == "counted"]
    assert row["flops"] == 2 * cells * (3 * 64 * 16 + 16 * 5)
    assert row["parameters"] == 3 * 64 * 16 + 16 + 16 * 5 + 5 and row["features"] == [16, 8, 16]


def test_flops_of_resnet_50_are_those_it_is_known_for() -> None:
    """4.09 G multiply-adds at 224x224 (torchvision's ``_ops``) without dilation; dilation to stride 8 multiplies layers 3 and 4."""
    flops = {row["network"]: row["flops"] for row in costs(224, 224)}
    assert 4 * 2 * 4.09e9 < flops["deeplabv2_resnet50"] < 6 * 2 * 4.09e9
