"""ESPNet: the same scores as the published network, whose passes are written out here over its own names and tensors.

The published weights are tried where ``BENCH_REAL`` (default: ``shared/real`` beside the repository) has them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import RunError, UsageError
from bench.networks.build import build_segmenter
from bench.networks.model_file import load_model
from bench.networks.published import convert

REAL = Path(os.environ.get("BENCH_REAL", Path(__file__).resolve().parents[4] / "shared" / "real"))
WEIGHTS = REAL / "espnet_p_2_q_8.pth"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"no published weights: set BENCH_REAL, not {REAL}")
NAMES = {3: "espnet_q3", 5: "espnet_q5", 8: "espnet"}
MEAN, STD = (72.3923111, 82.90893555, 73.15840149), (45.3192215, 46.15289307, 44.91483307)

Weights = dict[str, Tensor]


# The published network ------------------------------------------------------------------------------------------------


def published(q: int, outputs: int = 20, seed: int = 0) -> Weights:
    """Random tensors under the published names and shapes."""
    g = torch.Generator().manual_seed(seed)
    w: Weights = {}

    def conv(name: str, to: int, channels: int, size: int) -> None:
        w[f"{name}.weight"] = (
            torch.randn(to, channels, size, size, generator=g) * (1.5 / (channels * size * size)) ** 0.5
        )

    def norm(name: str, n: int, act: str | None) -> None:
        for kind, low, high in (("weight", 0.5, 1.5), ("bias", -0.3, 0.3), ("running_mean", -0.3, 0.3)):
            w[f"{name}.{kind}"] = torch.empty(n).uniform_(low, high, generator=g)
        w[f"{name}.running_var"] = torch.empty(n).uniform_(0.5, 1.5, generator=g)
        if act:
            w[f"{act}.weight"] = torch.empty(n).uniform_(0.1, 0.4, generator=g)

    def esp(name: str, channels: int, to: int, down: bool = False) -> None:
        conv(f"{name}.c1.conv", to // 5, channels, 3 if down else 1)
        for d in (1, 2, 4, 8, 16):
            conv(f"{name}.d{d}.conv", to - 4 * (to // 5) if d == 1 else to // 5, to // 5, 3)
        norm(f"{name}.bn" if down else f"{name}.bn.bn", to, f"{name}.act" if down else f"{name}.bn.act")

    conv("encoder.level1.conv", 16, 3, 3)
    norm("encoder.level1.bn", 16, "encoder.level1.act")
    w["encoder.level1.conv.weight"] *= 200  # of pixels divided by 45 and by 255
    norm("encoder.b1.bn", 19, "encoder.b1.act")
    esp("encoder.level2_0", 19, 64, down=True)
    for i in range(2):
        esp(f"encoder.level2.{i}", 64, 64)
    norm("encoder.b2.bn", 131, "encoder.b2.act")
    esp("encoder.level3_0", 131, 128, down=True)
    for i in range(q):
        esp(f"encoder.level3.{i}", 128, 128)
    norm("encoder.b3.bn", 256, "encoder.b3.act")
    conv("encoder.classifier.conv", outputs, 256, 1)
    conv("level3_C.conv", outputs, 131, 1)
    norm("br", outputs, None)
    conv("conv.conv", outputs, outputs + 16, 3)
    norm("conv.bn", outputs, "conv.act")
    norm("combine_l2_l3.0.bn", 2 * outputs, "combine_l2_l3.0.act")
    esp("combine_l2_l3.1", 2 * outputs, outputs)
    norm("up_l2.1.bn", outputs, "up_l2.1.act")
    for name in ("up_l3.0", "up_l2.0", "classifier"):
        conv(name, outputs, outputs, 2)
    return w


def original(w: Weights, rgb: Tensor) -> Tensor:
    """Scores ``(N, outputs, H, W)`` of RGB in 0..1, as the published loader and network make them."""
    mean, std = (torch.tensor(v, dtype=rgb.dtype).view(1, 3, 1, 1) for v in (MEAN, STD))
    x = (255 * rgb.flip(1) - mean) / std / 255

    def norm(name: str, x: Tensor) -> Tensor:
        parts = [w[f"{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, eps=1e-3)

    def act(name: str, x: Tensor) -> Tensor:
        return F.prelu(norm(f"{name}.bn", x), w[f"{name}.act.weight"])

    def esp(name: str, x: Tensor, down: bool = False, add: bool = True) -> Tensor:
        y = F.conv2d(x, w[f"{name}.c1.conv.weight"], stride=2 if down else 1, padding=1 if down else 0)
        d1, d2, d4, d8, d16 = (
            F.conv2d(y, w[f"{name}.d{d}.conv.weight"], padding=d, dilation=d) for d in (1, 2, 4, 8, 16)
        )
        y = torch.cat((d1, d2, d2 + d4, d2 + d4 + d8, d2 + d4 + d8 + d16), 1)
        return act(name if down else f"{name}.bn", y if down or not add else y + x)

    def up(name: str, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, w[f"{name}.weight"], stride=2)

    half = F.avg_pool2d(x, 3, 2, 1)
    quarter = F.avg_pool2d(half, 3, 2, 1)
    level1 = act("encoder.level1", F.conv2d(x, w["encoder.level1.conv.weight"], stride=2, padding=1))
    entry = y = esp("encoder.level2_0", act("encoder.b1", torch.cat((level1, half), 1)), down=True)
    for i in range(2):
        y = esp(f"encoder.level2.{i}", y)
    level2 = act("encoder.b2", torch.cat((y, entry, quarter), 1))
    entry = y = esp("encoder.level3_0", level2, down=True)
    for i in range(len({name.split(".")[2] for name in w if name.startswith("encoder.level3.")})):
        y = esp(f"encoder.level3.{i}", y)
    level3 = act("encoder.b3", torch.cat((entry, y), 1))
    coarse = up("up_l3.0", norm("br", F.conv2d(level3, w["encoder.classifier.conv.weight"])))
    joined = torch.cat((F.conv2d(level2, w["level3_C.conv.weight"]), coarse), 1)
    joined = act("up_l2.1", up("up_l2.0", esp("combine_l2_l3.1", act("combine_l2_l3.0", joined), add=False)))
    last = act("conv", F.conv2d(torch.cat((joined, level1), 1), w["conv.conv.weight"], padding=1))
    return up("classifier", last)


# Same scores ----------------------------------------------------------------------------------------------------------


def saved(weights: Weights, path: Path) -> Path:
    torch.save(weights, path)
    return path


def clip(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    frames = torch.rand(1, 2, 3, height, width, generator=g)
    flow = 4 * torch.randn(1, 1, 2, height, width, generator=g)
    return frames, flow, torch.ones(1, 1, height, width, dtype=torch.bool)


@pytest.mark.parametrize("q", NAMES)
@torch.no_grad()
def test_every_depth_scores_as_the_published_one(q: int, tmp_path: Path) -> None:
    weights, out = published(q), tmp_path / "model.safetensors"
    arguments = ["convert", str(saved(weights, tmp_path / "x.pth")), "--layout", "espnet", "--out", str(out), "--json"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["network"], report["num_classes"], report["fusion"]) == (NAMES[q], 19, "none")
    assert report["matched"] == len(weights) and report["ignored"] == [] and "void" in report["note"]
    assert all(name.endswith("num_batches_tracked") for name in report["missing"]) and not report["auxiliary"]
    segmenter, info = load_model(out)
    assert info.classes is not None and (info.classes[0], info.classes[18]) == ("road", "bicycle")
    frames, flow, valid = clip(64, 96)
    output = segmenter.eval()(frames, flow, valid)
    expected = original(weights, frames[:, 1])
    assert output.scores.shape == (1, 19, 64, 96) and output.features.shape == (1, 20, 32, 48)
    assert float(expected.std()) > 0.1 and output.auxiliary_scores is None
    torch.testing.assert_close(output.scores, expected[:, :19], rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("fusion", ["conv1x1", "cross_attention"])
@torch.no_grad()
def test_a_fusion_starts_as_the_single_frame_bit_by_bit(fusion: str, tmp_path: Path) -> None:
    path = saved(published(3), tmp_path / "x.pth")
    alone, fused = (convert(path, "espnet", fusion=f).segmenter.eval() for f in ("none", fusion))
    assert torch.equal(fused(*clip(64, 96)).scores, alone(*clip(64, 96)).scores)


@needs_weights
@torch.no_grad()
def test_the_published_weights_give_the_published_scores() -> None:
    with np.load(REAL / "espnet_reference.npz", allow_pickle=False) as file:
        crop, expected = file["crop_rgb"], torch.from_numpy(file["scores_float64"])
    frame = torch.from_numpy(crop).permute(2, 0, 1)[None].double() / 255
    segmenter = convert(WEIGHTS).segmenter.eval()
    single = segmenter.classify(segmenter.encode(frame.float())[0])
    segmenter.double()
    double = segmenter.classify(segmenter.encode(frame)[0])
    far = [float((scores - expected[:, :19]).abs().max()) for scores in (double, single)]
    print(f"from the published scores: float64 {far[0]:.1e}, float32 {far[1]:.1e} of {float(expected.abs().max()):.1f}")
    assert far[0] < 1e-5 and far[1] < 1e-4


@needs_weights
def test_the_tensors_written_here_are_the_published_ones() -> None:
    """Names and shapes of :func:`published`, and so of the other tests."""
    listed = json.loads((REAL / "espnet_state_dict.json").read_text(encoding="utf-8"))
    assert {name: list(value.shape) for name, value in published(8).items()} == listed


# How files come, and faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {f"module.{k}": v for k, v in w.items()},
        lambda w: {**w, **{f"modules.0.{k}": v for k, v in w.items()}},
        lambda w: {
            **w,
            **{
                k.replace("running_var", "num_batches_tracked"): torch.tensor(7) for k in w if k.endswith("running_var")
            },
        },
    ],
    ids=["parallel", "repeated", "counters"],
)
def test_prefixes_repetitions_and_counters(wrap: Callable[[Weights], Weights], tmp_path: Path) -> None:
    weights = published(3)
    plain = convert(saved(weights, tmp_path / "x.pth")).segmenter.state_dict()
    converted = convert(saved(wrap(weights), tmp_path / "y.pth"))
    assert converted.layout == "espnet" and all(name.startswith("modules.") for name in converted.ignored)
    for name, value in converted.segmenter.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, plain[name]), name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "classifier.weight"}, "classifier.weight is none"),
        (lambda w: published(3, outputs=12), r"classifier.weight is \(12, 12, 2, 2\)"),
        (lambda w: {**w, "classifier.weight": torch.tensor(1.0)}, r"classifier.weight is \(\)"),
        (lambda w: published(4), "it has 4 blocks of level 3; espnet_q3 has 3"),
        (
            lambda w: {**w, "encoder.level2.2.c1.conv.weight": torch.zeros(2)},
            "1 tensors of the network that 'espnet_q3' has no",
        ),
        (
            lambda w: {**w, "encoder.level2.1.d3.conv.weight": torch.zeros(2)},
            "1 tensors of the network that 'espnet_q3' has no",
        ),
        (lambda w: {k: v for k, v in w.items() if k != "br.bias"}, "lacks 1 of the tensors"),
        (lambda w: {**w, "br.bias": w["br.bias"] * float("nan")}, "'br.bias' has 20 values that are not finite"),
        (lambda w: {**w, "br.running_var": -w["br.running_var"]}, "'br.running_var' has negative variances"),
    ],
)
def test_what_is_not_the_published_network_is_refused(
    change: Callable[[Weights], Any], says: str, tmp_path: Path
) -> None:
    path = saved(change(published(3)), tmp_path / "x.pth")
    with pytest.raises(RunError, match=says) as caught:
        convert(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_words(tmp_path: Path) -> None:
    path = saved(published(3), tmp_path / "x.pth")
    with pytest.raises(RunError, match="is not espnet: it has 3 blocks"):
        convert(path, network="espnet")
    with pytest.raises(UsageError, match="has 19 classes, not the 5 that are asked for"):
        convert(path, num_classes=5)
    with pytest.raises(UsageError, match="fusion 'add' would change the scores; allowed: none, conv1x1"):
        convert(path, fusion="add")


def test_few_classes_still_have_a_decoder() -> None:
    """Its last block has five branches, so the decoder is never narrower."""
    segmenter = build_segmenter("espnet_q3", "none", 2).eval()
    assert segmenter(*clip(32, 64)).scores.shape == (1, 2, 32, 64)
