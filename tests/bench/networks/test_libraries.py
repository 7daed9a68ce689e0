"""Networks of timm and segmentation_models_pytorch, with random weights and nothing downloaded."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from bench.core.errors import RunError, UsageError
from bench.core.workspace import Workspace
from bench.networks._pretrained import initial_weights
from bench.networks.build import build_segmenter, check_network, multiple_of
from bench.networks.model_file import load_model, save_model
from bench.networks.published import convert
from bench.runs.config import RunConfig, make_run_config
from bench.runs.run import run

MISSING = [m for m in ("timm", "segmentation_models_pytorch") if importlib.util.find_spec(m) is None]
needs_libraries = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra [timm])")

NETWORKS = {
    "timm:mobilenetv4_conv_small": (1, 4, 4),
    "timm:convnext_atto": (32, 4, 4),
    "timm:pvt_v2_b0": (1, 4, 4),
    "timm:vit_tiny_patch16_224": (16, 16, 16),
    "timm:vit_small_patch14_dinov2": (14, 14, 14),
    "timm:vit_small_patch16_dinov3": (16, 16, 16),
    "smp:unet:resnet18": (1, 1, 1),
    "smp:fpn:mobilenet_v2": (32, 4, 1),
    "smp:segformer:mit_b0": (32, 4, 1),
    "smp:deeplabv3plus:tu-convnext_atto": (16, 4, 1),
}
"""What sides must be a multiple of, stride of the features, stride of the scores."""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    if "huggingface_hub" in sys.modules or not MISSING:
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def clip(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    frames, flow = torch.rand(1, 2, 3, height, width, generator=g), torch.randn(1, 1, 2, height, width, generator=g)
    return frames, 5 * flow, torch.rand(1, 1, height, width, generator=g) > 0.1


# All of them ----------------------------------------------------------------------------------------------------------


@needs_libraries
@pytest.mark.parametrize("name", NETWORKS)
def test_a_pass_there_and_back(name: str) -> None:
    multiple, stride, score_stride = NETWORKS[name]
    assert multiple_of(name) == multiple
    torch.manual_seed(0)
    segmenter = build_segmenter(name, "conv1x1", 5)
    unit = -(-16 // multiple) * multiple
    height, width = 4 * unit, 6 * unit
    out = segmenter(*clip(height, width))
    channels = segmenter.encoder.channels
    assert out.features.shape == (1, channels, height // stride, width // stride)
    assert out.scores.shape == (1, 5, height // score_stride, width // score_stride) and out.auxiliary_scores is None
    out.scores.square().mean().backward()
    without = [n for n, p in segmenter.named_parameters() if p.requires_grad and p.grad is None]
    unused = ("mask_token", "reg_token", "pos_embed")
    assert all(any(u in n for u in unused) for n in without), without
    assert all(bool(p.grad.isfinite().all()) for p in segmenter.parameters() if p.grad is not None)


@needs_libraries
@pytest.mark.parametrize("name", ["timm:mobilenetv4_conv_small", "smp:fpn:mobilenet_v2"])
@torch.no_grad()
def test_any_fusion_and_the_model_file(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    segmenter = build_segmenter(name, "conv1x1", 3).eval()
    scores = segmenter(*clip(64, 96)).scores
    alone = segmenter.classify(segmenter.encode(clip(64, 96)[0][:, 1])[0])
    torch.testing.assert_close(scores, alone)  # starts as the single-frame network
    save_model(tmp_path / "m.safetensors", segmenter, name, "conv1x1", 3)
    loaded, info = load_model(tmp_path / "m.safetensors")
    assert info.network == name and not info.auxiliary
    assert torch.equal(loaded.eval()(*clip(64, 96)).scores, scores)
    for fusion in ("concat", "attention", "accel_warp"):
        assert build_segmenter(name, fusion, 3).eval()(*clip(64, 96)).scores.shape == scores.shape


@needs_libraries
def test_a_run_by_name(tmp_path: Path, tiny_cache: Path) -> None:
    config = make_run_config("self_training", "ministreet-tiny", 0, {"network": "timm:mobilenetv4_conv_small"}, steps=1)
    assert RunConfig.model_validate_json(config.model_dump_json()).hash == config.hash
    record = run(config, Workspace(tmp_path / "runs", tiny_cache, torch.device("cpu")))
    assert record.config.network == "timm:mobilenetv4_conv_small" and record.cost.steps == 1


# timm -----------------------------------------------------------------------------------------------------------------


@needs_libraries
@torch.no_grad()
def test_the_head_is_segformers_with_its_two_linear_layers_as_one() -> None:
    from bench.networks._timm import MLPNeck

    torch.manual_seed(0)
    neck = MLPNeck([4, 6, 8]).eval()
    neck.norm.running_mean.normal_()
    maps = [torch.randn(1, c, 24 // s, 32 // s) for c, s in ((4, 1), (6, 2), (8, 4))]
    first = [torch.randn(256, c) / c for c in (4, 6, 8)]
    second = torch.randn(256, 3 * 256) / 256
    for number, linear in enumerate(neck.linear):
        linear.weight.copy_((second[:, 256 * number : 256 * (number + 1)] @ first[number])[:, :, None, None])
    projected = [torch.einsum("oc,nchw->nohw", w, x) for w, x in zip(first, maps, strict=True)]
    large = [F.interpolate(x, (24, 32), mode="bilinear", align_corners=False) for x in projected]
    expected = torch.relu(neck.norm(torch.einsum("oc,nchw->nohw", second, torch.cat(large, 1))))
    torch.testing.assert_close(neck(maps), expected, rtol=1e-4, atol=1e-5)


@needs_libraries
@torch.no_grad()
def test_the_maps_are_those_that_timm_gives() -> None:
    import timm

    torch.manual_seed(0)
    encoder = build_segmenter("timm:resnet18", "none", 3).encoder.eval()
    timm_encoder = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    timm_encoder.load_state_dict(encoder.backbone.state_dict(), strict=False)
    image = torch.rand(1, 3, 64, 96)
    maps: list[Any] = []
    encoder.neck.register_forward_pre_hook(lambda _, inputs: maps.extend(inputs[0]))
    encoder(image)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = timm_encoder((image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    assert len(maps) == 4
    for actual, expected_map in zip(maps, expected, strict=True):
        torch.testing.assert_close(actual, expected_map)


@needs_libraries
@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_weights_of_timms_classification_network(name: str, tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    weights = timm.create_model(name, num_classes=7).state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    segmenter = build_segmenter(f"timm:{name}", "none", 3)
    neck = {k: v.clone() for k, v in segmenter.encoder.neck.state_dict().items()}
    initial_weights(segmenter, f"timm:{name}", "imagenet", tmp_path / "w.safetensors")
    backbone = segmenter.encoder.backbone.state_dict()
    assert backbone and all(torch.equal(value, weights[n]) for n, value in backbone.items())
    assert all(torch.equal(value, neck[n]) for n, value in segmenter.encoder.neck.state_dict().items())
    del weights[next(iter(backbone))]
    save_file(weights, tmp_path / "less.safetensors")
    with pytest.raises(RunError, match=rf"less.safetensors: not the backbone of 'timm:{name}': Missing key"):
        initial_weights(segmenter, f"timm:{name}", "imagenet", tmp_path / "less.safetensors")


@needs_libraries
@pytest.mark.parametrize("name", ["timm:convnext_atto", "smp:fpn:mobilenet_v2"])
def test_without_internet_it_says_so_in_one_line(name: str) -> None:
    with pytest.raises(
        RunError, match=f"Cannot get weights for '{name}' .*: run once on a machine with internet"
    ) as caught:
        initial_weights(build_segmenter(name, "none", 3), name, "imagenet")
    assert "\n" not in str(caught.value)


# segmentation_models_pytorch ------------------------------------------------------------------------------------------


@needs_libraries
@pytest.mark.parametrize("name", ["unet:resnet18", "fpn:mobilenet_v2", "segformer:mit_b0"])
@torch.no_grad()
def test_the_librarys_own_checkpoint_converts_and_scores_the_same(name: str, tmp_path: Path) -> None:
    import segmentation_models_pytorch as smp

    torch.manual_seed(1)
    library_model = smp.create_model(*name.split(":"), encoder_weights=None, classes=4).eval()
    save_file(library_model.state_dict(), tmp_path / "x.safetensors")
    converted = convert(tmp_path / "x.safetensors", network=f"smp:{name}", num_classes=4)
    assert converted.matched == len(library_model.state_dict()) and converted.ignored == () and converted.missing == ()
    assert converted.renamed["segmentation_head"] == "classifier"
    frames, flow, valid = clip(64, 96)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = library_model((frames[:, 1] - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    torch.testing.assert_close(converted.segmenter.eval()(frames, flow, valid).scores, expected, rtol=1e-4, atol=1e-4)


@needs_libraries
def test_weights_of_the_librarys_encoder(tmp_path: Path) -> None:
    import segmentation_models_pytorch as smp

    torch.manual_seed(2)
    weights = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    segmenter = build_segmenter("smp:unet:resnet18", "none", 3)
    initial_weights(segmenter, "smp:unet:resnet18", "imagenet", tmp_path / "w.safetensors")
    assert all(torch.equal(value, weights[n]) for n, value in segmenter.encoder.encoder.state_dict().items())


# Names ----------------------------------------------------------------------------------------------------------------


@needs_libraries
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:resnet_18", "timm has no encoder 'resnet_18'. Did you mean resnet18"),
        ("smp:unet", "smp:ARCHITECTURE:ENCODER, got 'smp:unet'"),
        ("smp:unett:resnet18", "Unknown architecture 'unett' of segmentation_models_pytorch. Did you mean 'unet'"),
        ("smp:unet:resnet19", "Unknown encoder 'resnet19' of segmentation_models_pytorch"),
        ("tim:resnet18", "Unknown network family 'tim' in 'tim:resnet18'. Did you mean 'timm'"),
        ("minni", "Unknown network 'minni'. Did you mean 'mini'?"),
    ],
)
def test_unknown_names(name: str, says: str) -> None:
    for ask in (check_network, lambda n: make_run_config("stpl", options={"network": n})):
        with pytest.raises(UsageError) as caught:
            ask(name)
        assert says in str(caught.value) and "\n" not in str(caught.value)


@needs_libraries
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:beit_base_patch16_224", "takes frames of 224x224 only"),
        ("timm:resnet18.nope", "timm cannot build 'resnet18.nope'"),
        ("smp:unet:tu-nope", "cannot build 'smp:unet:tu-nope': Unknown model"),
        ("smp:dpt:tu-vit_tiny_patch16_224", "has no head that could be put on fused features"),
    ],
)
def test_what_cannot_be_built(name: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        multiple_of(name)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "package"), [("timm:resnet18", "timm"), ("smp:unet:resnet18", "segmentation-models-pytorch")]
)
def test_a_missing_package_names_the_extra(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("timm", "segmentation_models_pytorch"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"needs the package {package} .*pip install 'stpl-benchmark\[timm\]'"):
        build_segmenter(name, "none", 3)
