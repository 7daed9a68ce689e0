"""Initial weights: torchvision's from its cache or from a file; what goes wrong is one line."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import MobileNet_V3_Large_Weights, get_weight, mobilenet_v3_large, resnet50

from bench.core.errors import RunError, UsageError
from bench.core.registry import import_from
from bench.networks._pretrained import initial_weights
from bench.networks.build import build_segmenter, network_names
from stpl import VideoSegmenter

MOBILE = "lraspp_mobilenetv3"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and a name service that knows nobody."""

    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)


def mobile() -> tuple[VideoSegmenter, dict[str, Tensor]]:
    torch.manual_seed(0)
    return build_segmenter(MOBILE, "conv1x1", 4), mobilenet_v3_large(weights=None).state_dict()


def check_mobile(segmenter: VideoSegmenter, weights: dict[str, Tensor], before: dict[str, Tensor]) -> None:
    """The backbone is the file's, everything else as built."""
    for name, value in segmenter.state_dict().items():
        name_in_file = name.removeprefix("encoder.")
        assert torch.equal(value, weights[name_in_file] if name_in_file.startswith("features.") else before[name]), name


def test_from_torchs_cache(tmp_path: Path) -> None:
    segmenter, weights = mobile()
    before = {k: v.clone() for k, v in segmenter.state_dict().items()}
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(weights, cache / Path(MobileNet_V3_Large_Weights.IMAGENET1K_V1.url).name)
    initial_weights(segmenter, MOBILE, "imagenet")
    check_mobile(segmenter, weights, before)


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_from_a_file(form: str, tmp_path: Path) -> None:
    segmenter, weights = mobile()
    before = {k: v.clone() for k, v in segmenter.state_dict().items()}
    path = tmp_path / f"weights.{form}"
    torch.save(weights, path) if form == "pth" else save_file(weights, path)
    initial_weights(segmenter, MOBILE, "imagenet", path)
    check_mobile(segmenter, weights, before)


@pytest.mark.parametrize("published", [False, True])
def test_resnets(published: bool, tmp_path: Path) -> None:
    """The published layout's weights expect B, G, R and come with another prefix; counters may be missing."""
    from bench.networks._deeplab import DilatedResNet, deeplab
    from stpl import build_fusion

    torch.manual_seed(0)
    weights = {k: v for k, v in resnet50(weights=None).state_dict().items() if not k.endswith("num_batches_tracked")}
    encoder = DilatedResNet((3, 4, 6, 3), published=published)
    segmenter = VideoSegmenter(encoder, deeplab(encoder, 3).classifier(2048), build_fusion("none", 2048))
    path = tmp_path / "x.pth"
    torch.save({f"Scale.{k}": v for k, v in weights.items()} if published else weights, path)
    initial_weights(segmenter, "deeplabv2_resnet50", "imagenet", path)
    state = encoder.state_dict()
    assert torch.equal(state["conv1.weight"], weights["conv1.weight"].flip(1) if published else weights["conv1.weight"])
    assert all(torch.equal(state[k], v) for k, v in weights.items() if k.startswith("layer"))


def test_random_leaves_everything_as_built() -> None:
    segmenter, _ = mobile()
    before = {k: v.clone() for k, v in segmenter.state_dict().items()}
    initial_weights(segmenter, MOBILE, "random")
    assert all(torch.equal(v, before[k]) for k, v in segmenter.state_dict().items())


def test_every_name_is_one_that_torchvision_has() -> None:
    named = {}
    for network in network_names():
        named[network] = getattr(import_from("bench.networks.zoo", network, kind="network"), "IMAGENET", None)
    assert {k: v.split(".")[0] for k, v in named.items() if v} == {
        "deeplabv2_resnet101": "ResNet101_Weights",
        "deeplabv2_resnet50": "ResNet50_Weights",
        MOBILE: "MobileNet_V3_Large_Weights",
    }
    assert all(get_weight(name).url.startswith("https://") for name in named.values() if name)


def test_without_network_it_says_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    segmenter, _ = mobile()
    with pytest.raises(RunError) as caught:
        initial_weights(segmenter, MOBILE, "imagenet")
    line = str(caught.value)
    assert "https://download.pytorch.org/models/mobilenet_v3_large-8738ca79.pth" in line and "\n" not in line
    assert str(tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v3_large-8738ca79.pth") in line


def test_a_damaged_download_and_a_pickle_in_the_cache(tmp_path: Path) -> None:
    segmenter, _ = mobile()
    cached = tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v3_large-8738ca79.pth"
    cached.parent.mkdir(parents=True)
    for content in (b"\x00" * 100, b"PK\x03\x04 broken"):
        cached.write_bytes(content)
        with pytest.raises(RunError, match="Cannot get https://"):
            initial_weights(segmenter, MOBILE, "imagenet")
    torch.save(torch.nn.Linear(2, 2), cached)  # a whole module is code
    with pytest.raises(RunError, match="Cannot get https://"):
        initial_weights(segmenter, MOBILE, "imagenet")


def test_wrong_files_and_wrong_words(tmp_path: Path) -> None:
    segmenter, _ = mobile()
    path = tmp_path / "x.safetensors"
    save_file({"features.0.0.weight": torch.zeros(2)}, path)
    with pytest.raises(RunError, match=f"{path}: not the backbone of '{MOBILE}'"):
        initial_weights(segmenter, MOBILE, "imagenet", path)
    with pytest.raises(RunError, match="No checkpoint at"):
        initial_weights(segmenter, MOBILE, "imagenet", tmp_path / "none.pth")
    with pytest.raises(UsageError, match=r"Unknown weights 'imagnet'\. Did you mean 'imagenet'"):
        initial_weights(segmenter, MOBILE, "imagnet")
    with pytest.raises(UsageError, match="takes no file"):
        initial_weights(segmenter, MOBILE, "random", path)
    with pytest.raises(UsageError, match="Network 'mini' has no ImageNet weights"):
        initial_weights(build_segmenter("mini", "none", 3), "mini", "imagenet")
    with torch.device("meta"):
        published = build_segmenter("deeplabv2_resnet101_published", "none", 3)
    with pytest.raises(UsageError, match="torchvision has no ImageNet weights for 'deeplabv2_resnet101_published'"):
        initial_weights(published, "deeplabv2_resnet101_published", "imagenet")
