"""Conversion of published checkpoints: the same scores as the original, every name accounted for, nothing unpickled.

The originals are those of ``deeplab_as_published.py``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

import bench.networks.zoo
from bench import cli
from bench.core.errors import RunError, UsageError
from bench.networks.model_file import load_model
from bench.networks.published import convert
from tests.bench.networks.deeplab_as_published import Published, bgr, scrambled

# A narrow network of the same code, found by name ---------------------------------------------------------------------

NARROW = '''"""narrow: for a test."""
from torchvision.models.resnet import Bottleneck
from bench.networks._deeplab import DilatedResNet, deeplab

class Block(Bottleneck):
    expansion = 1

def build(num_classes):
    return deeplab(DilatedResNet((1, 2, 2, 2), published=True, block=Block, width_per_group=16), num_classes)
'''
BLOCKS = (1, 2, 2, 2)
CLASSES = 5


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "networks"
    folder.mkdir()
    (folder / "narrow.py").write_text(NARROW, encoding="utf-8")
    monkeypatch.setattr(bench.networks.zoo, "__path__", [*bench.networks.zoo.__path__, str(folder)])
    return "narrow"


def original(**options: Any) -> Published:
    return scrambled(Published(CLASSES, BLOCKS, inner=16, expansion=1, **options), seed=1)


def frames(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Clip of two RGB frames ``(1, 2, 3, H, W)``, flow of up to some cells, valid everywhere."""
    g = torch.Generator().manual_seed(seed)
    clip = torch.rand(1, 2, 3, height, width, generator=g)
    flow = 40 * torch.rand(1, 1, 2, height, width, generator=g) - 20
    return clip, F.avg_pool2d(flow[0], 9, 1, 4)[None] * 3, torch.ones(1, 1, height, width, dtype=torch.bool)


def deviation(scores: Tensor, reference: Tensor) -> float:
    """Largest difference over the largest score."""
    assert scores.shape == reference.shape
    return float((scores - reference).abs().max() / reference.abs().max())


def saved(model: nn.Module, path: Path, wrap: Callable[[dict[str, Tensor]], Any] = lambda state: state) -> Path:
    torch.save(wrap(model.state_dict()), path)
    return path


def call(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["convert", *arguments])


# The same scores ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 96), (97, 161)])
@pytest.mark.parametrize(("layout", "how"), [("da_vsn", "splat"), ("tps", "warp")])
@torch.no_grad()
def test_two_frames_of_da_vsn_and_tps(
    layout: str, how: str, size: tuple[int, int], narrow: str, tmp_path: Path
) -> None:
    reference = original(score_fusion=True)
    converted = convert(saved(reference, tmp_path / "x.pth"), layout, narrow)
    clip, flow, valid = frames(*size)
    out = converted.segmenter.eval()(clip, flow, valid)
    auxiliary, main = reference.fused(bgr(clip[:, 1]), bgr(clip[:, 0]), flow[:, 0], how)
    assert deviation(out.scores, main) < 1e-5 and deviation(out.auxiliary_scores, auxiliary) < 1e-5
    alone = converted.segmenter.classify(out.encoded[-1])
    assert deviation(alone, reference(bgr(clip[:, 1]))[1]) < 1e-5
    assert deviation(out.scores, alone) > 0.1  # the previous frame has a say


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("advent", {}),
        ("adaptsegnet", {"counting": 2}),
        ("advent", {"heads": ("layer6",)}),
        ("adaptsegnet", {"heads": ("layer5",), "counting": 2}),
    ],
)
@torch.no_grad()
def test_single_frames_of_adaptsegnet_and_advent(
    layout: str, options: dict[str, Any], narrow: str, tmp_path: Path
) -> None:
    reference = original(**options)
    path, out = saved(reference, tmp_path / "x.pth"), tmp_path / "model.safetensors"
    one_level = "heads" in options
    layout_option = () if one_level else ("--layout", layout)
    result = call(str(path), "--network", narrow, "--out", str(out), *layout_option, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["layout"] == layout and report["num_classes"] == CLASSES and report["auxiliary"] is not one_level
    segmenter, info = load_model(out)
    assert info.origin == {"converted_from": "x.pth", "layout": layout} and info.fusion == "none"
    clip, flow, valid = frames(96, 160)
    output = segmenter.eval()(clip, flow, valid)
    auxiliary, main = reference(bgr(clip[:, 1]))
    assert deviation(output.scores, main) < 1e-5
    if one_level:
        assert output.auxiliary_scores is None
    else:
        assert auxiliary is not None and deviation(output.auxiliary_scores, auxiliary) < 1e-5


@torch.no_grad()
def test_the_whole_resnet_101(tmp_path: Path) -> None:
    reference = scrambled(Published(15, (3, 4, 23, 3), score_fusion=True), seed=2)
    path, out = saved(reference, tmp_path / "davsn.pth"), tmp_path / "model.safetensors"
    began = time.process_time()
    result = call(str(path), "--layout", "da_vsn", "--out", str(out), "--shift", "ministreet", "--json")
    assert result.exit_code == 0, result.output
    print(f"conversion {time.process_time() - began:.1f} CPU s, {out.stat().st_size / 1e6:.0f} MB")
    report = json.loads(result.stdout)
    assert report["matched"] == len(reference.state_dict()) and report["ignored"] == report["missing"] == []
    segmenter, info = load_model(out)
    assert info.num_classes == 15 and info.classes is not None and info.classes[0] == "road"
    clip, flow, valid = frames(96, 160)
    output = segmenter.eval()(clip, flow, valid)
    auxiliary, main = reference.fused(bgr(clip[:, 1]), bgr(clip[:, 0]), flow[:, 0], "splat")
    print(f"main {deviation(output.scores, main):.1e}, auxiliary {deviation(output.auxiliary_scores, auxiliary):.1e}")
    assert deviation(output.scores, main) < 1e-5 and deviation(output.auxiliary_scores, auxiliary) < 1e-5


@pytest.mark.parametrize("fusion", ["conv1x1", "cross_attention", "none"])
@torch.no_grad()
def test_a_feature_fusion_starts_as_the_single_frame_model(fusion: str, narrow: str, tmp_path: Path) -> None:
    reference = original(score_fusion=True)
    converted = convert(saved(reference, tmp_path / "x.pth"), "tps", narrow, fusion)
    clip, flow, valid = frames(64, 96)
    assert deviation(converted.segmenter.eval()(clip, flow, valid).scores, reference(bgr(clip[:, 1]))[1]) < 1e-5
    assert converted.ignored == ("sf_layer.weight",)
    assert all(name.startswith("fusion.") for name in converted.missing) and bool(converted.missing) is (
        fusion != "none"
    )


# How files come -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"Scale.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3, "optimizer": {"lr": [0.1]}},
        lambda s: {"model": {f"model.{k}": v for k, v in s.items()}},
        lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
        lambda s: {**s, "fc.weight": torch.zeros(2, 2)},
    ],
)
def test_wrappers_prefixes_and_counters(wrap: Callable[..., Any], narrow: str, tmp_path: Path) -> None:
    reference = original()
    plain = convert(saved(reference, tmp_path / "x.pth"), "advent", narrow).segmenter.state_dict()
    converted = convert(saved(reference, tmp_path / "y.pth", wrap), "advent", narrow)
    for name, value in converted.segmenter.state_dict().items():
        torch.testing.assert_close(value, plain[name], rtol=0, atol=0)
    assert converted.ignored == (("fc.weight",) if converted.matched + 1 == len(wrap(reference.state_dict())) else ())
    assert all(name.endswith("num_batches_tracked") for name in converted.missing)


def test_old_torch_format_and_safetensors(narrow: str, tmp_path: Path) -> None:
    reference = original()
    torch.save(reference.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(reference.state_dict(), tmp_path / "x.safetensors")
    old, new = (convert(tmp_path / n, "advent", narrow) for n in ("old.pth", "x.safetensors"))
    assert old.matched == new.matched == len(reference.state_dict())


def test_the_report_for_a_person(narrow: str, tmp_path: Path) -> None:
    path = saved(original(), tmp_path / "x.pth", lambda s: {**s, **{f"extra{i}": torch.zeros(1) for i in range(6)}})
    out = tmp_path / "model.safetensors"
    result = call(str(path), "--network", narrow, "--layout", "advent", "--out", str(out))
    text = " ".join(result.stdout.split())
    assert result.exit_code == 0 and "matched" in text and "extra3, ... 2 more" in text and out.is_file()


# Faults ---------------------------------------------------------------------------------------------------------------


class Evil:
    """What a pickle can do: this one would write a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def without(prefix: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {k: v for k, v in state.items() if not k.startswith(prefix)}


@pytest.fixture
def refused(narrow: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """``refused(path, code, *options)`` converts on the command line and returns the one line."""

    def check(path: Path, code: int, *options: str) -> str:
        out = tmp_path / "model.safetensors"
        result = call(str(path), "--network", narrow, "--out", str(out), *options)
        assert result.exit_code == code and not out.exists() and result.stdout == ""
        (line,) = result.stderr.splitlines()
        return str(line)

    yield check


def test_a_pickle_is_not_executed(refused: Callable[..., str], tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"state_dict": original().state_dict(), "args": Evil(mark)}, tmp_path / "evil.pth")
    line = refused(tmp_path / "evil.pth", 1, "--layout", "advent")
    assert "evil.pth holds more than tensors" in line and "save its state dict alone" in line and not mark.exists()


def test_what_is_not_a_checkpoint(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    assert f"No checkpoint at {path}" in refused(path, 2)
    path.write_bytes(b"GIF89a nothing of the kind")
    assert f"{path} is damaged or not a torch file" in refused(path, 1)
    content = saved(original(), path).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert f"{path} is damaged or not a torch file" in refused(path, 1)
    torch.save([1, 2], path)
    assert f"{path} is not a state dict" in refused(path, 1)
    torch.save({"features.0.weight": torch.zeros(3)}, path)
    assert "not a DeepLabv2 checkpoint" in refused(path, 1, "--layout", "advent")
    line = refused(path, 1, "--classes", "5")
    assert "lacks" in line and "have no place: 'features.0.weight'" in line
    (tmp_path / "x.safetensors").write_bytes(b"no")
    assert "damaged or not a safetensors file" in refused(tmp_path / "x.safetensors", 1)


def test_another_depth_or_width(refused: Callable[..., str], tmp_path: Path) -> None:
    deeper = Published(CLASSES, (1, 2, 3, 2), inner=16, expansion=1)
    line = refused(saved(deeper, tmp_path / "x.pth"), 1, "--layout", "advent")
    assert "has no place for, the first: 'layer3.2.conv1.weight'" in line
    shallower = Published(CLASSES, (1, 2, 1, 2), inner=16, expansion=1)
    line = refused(saved(shallower, tmp_path / "x.pth"), 1, "--layout", "advent")
    assert "lacks" in line and "'encoder.layer3.1.conv1.weight'" in line
    wider = Published(CLASSES, BLOCKS, inner=32, expansion=1)
    line = refused(saved(wider, tmp_path / "x.pth"), 1, "--layout", "advent")
    assert "'layer1.0.conv1.weight' is (32, 64, 1, 1)" in line and "has (16, 64, 1, 1)" in line
    headless = saved(original(), tmp_path / "x.pth", without("layer6.conv2d_list.3"))
    assert "'classifier.branches.3.weight'" in refused(headless, 1, "--layout", "advent")


def test_the_layout_must_be_said_where_names_cannot_tell(refused: Callable[..., str], tmp_path: Path) -> None:
    line = refused(saved(original(), tmp_path / "x.pth"), 2)
    assert "say --layout adaptsegnet or --layout advent (probably advent, since all four look trained)" in line
    two = original()
    for branch in (2, 3):
        two.layer6.conv2d_list[branch].weight.data.normal_(0, 0.01, generator=torch.Generator().manual_seed(0))
    assert "(probably adaptsegnet, since branches 2 and 3" in refused(saved(two, tmp_path / "x.pth"), 2)
    fused = saved(original(score_fusion=True), tmp_path / "y.pth")
    assert "say --layout da_vsn or --layout tps" in refused(fused, 2)
    assert "Unknown layout 'davsn'. Did you mean 'da_vsn'?" in refused(fused, 2, "--layout", "davsn")
    assert "allowed: accel_splat, conv1x1, cross_attention, none" in refused(
        fused, 2, "--layout", "da_vsn", "--fusion", "accel_warp"
    )
    assert "Unknown fusion 'conv'" in refused(fused, 2, "--layout", "tps", "--fusion", "conv")
    line = refused(saved(original(), tmp_path / "x.pth"), 1, "--layout", "tps")
    assert "lacks 1 of the tensors" in line and "score_fusion.mix.weight" in line


def test_a_model_file_ends_in_safetensors(narrow: str, tmp_path: Path) -> None:
    """Whoever opens a .pth takes it for what torch.save wrote."""
    path = saved(original(), tmp_path / "x.pth")
    result = call(str(path), "--network", narrow, "--layout", "advent", "--out", str(tmp_path / "y.pth"))
    assert result.exit_code == 2 and "A model file ends in .safetensors, got --out" in result.stderr
    assert not (tmp_path / "y.pth").exists()


def test_wrong_networks_and_classes(refused: Callable[..., str], tmp_path: Path) -> None:
    path = saved(original(), tmp_path / "x.pth")
    says = "x.pth has 5 classes, not the 15 that are asked for"
    assert says in refused(path, 2, "--layout", "advent", "--shift", "ministreet")
    assert says in refused(path, 2, "--layout", "advent", "--classes", "15")
    line = refused(path, 2, "--layout", "advent", "--classes", "5", "--shift", "ministreet")
    assert "Shift 'ministreet' has 15 classes, --classes says 5" in line
    with pytest.raises(UsageError, match=r"Unknown network 'mimi'\. Did you mean 'mini'"):
        convert(path, "advent", "mimi")
    for network in ("mini", "deeplabv2_resnet50"):
        with pytest.raises(UsageError, match="not in the published layout; use deeplabv2_resnet101_published"):
            convert(path, "advent", network)
    with pytest.raises(RunError, match="network 'deeplabv2_resnet101_published'"):
        convert(path, "advent")
