"""Foreign checkpoints of any network: whole modules by names and shapes, ambiguity refused, nothing swapped in silence."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import RunError, UsageError
from bench.networks._matching import match
from bench.networks.build import build_segmenter
from bench.networks.model_file import load_model
from bench.networks.published import convert

K = 4


# The pairing ----------------------------------------------------------------------------------------------------------


def conv(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def test_whole_modules_are_found_under_other_names() -> None:
    ours = {**conv("encoder.a", 4, 3), **conv("encoder.b", 8, 4), **conv("classifier", 2, 8)}
    theirs = {
        **conv("net.backbone.a", 4, 3),
        **conv("net.backbone.b", 8, 4),
        **conv("net.head", 2, 8),
        **conv("fc", 9, 8),
    }
    matching = match(ours, theirs)
    assert matching.modules == {"net.backbone": "encoder", "net.head": "classifier"} and not matching.doubtful
    assert matching.places == {
        name: name.replace("net.backbone", "encoder").replace("net.head", "classifier")
        for name in theirs
        if name[:2] != "fc"
    }


def test_of_two_that_fit_the_one_of_our_name_is_taken() -> None:
    ours = {**conv("x.a", 4, 4), **conv("x.b", 4, 4)}
    assert match(ours, {f"net.{n}": s for n, s in reversed(ours.items())}).places == {f"net.{n}": n for n in ours}
    copies = {**{f"model.{n}": s for n, s in ours.items()}, **{f"ema.{n}": s for n, s in ours.items()}}
    matching = match(ours, copies)
    assert not matching.places and matching.doubtful[""] == ("ema", "model")
    assert set(match(ours, {**copies, **ours}).places.values()) == set(ours)  # the very same names win


@pytest.mark.parametrize("block", ["block", "stage"])
def test_blocks_counted_from_another_number_are_not_shifted(block: str) -> None:
    """Ours 0, 1, 2; theirs 1, 2, 3, all of one shape: pairing 1 with 1 would be wrong, and is what shapes alone allow."""
    ours = {n: s for i in range(3) for n, s in conv(f"encoder.block.{i}", 4, 4).items()}
    theirs = {n: s for i in range(1, 4) for n, s in conv(f"net.{block}.{i}", 4, 4).items()}
    matching = match(ours, theirs)
    assert "encoder.block.0.weight" not in matching.places.values()
    if block == "stage":
        assert not matching.places


def test_siblings_of_one_shape_under_other_names_stay_open() -> None:
    ours = {**conv("first", 4, 4), **conv("second", 4, 4)}
    for theirs in ({**conv("a", 4, 4), **conv("b", 4, 4)}, {**conv("second", 4, 4), **conv("third", 4, 4)}):
        for order in itertools.permutations(theirs):
            matching = match(ours, {name: theirs[name] for name in order})
            assert not [name for name in matching.places.values() if name.startswith("first")]


def test_a_weight_is_never_a_bias() -> None:
    assert match({"norm.weight": (4,)}, {"norm.bias": (4,)}).places == {}


# A checkpoint of `mini` -----------------------------------------------------------------------------------------------


def mini() -> dict[str, Tensor]:
    torch.manual_seed(5)
    return {n: v.clone() for n, v in build_segmenter("mini", "none", K).state_dict().items()}


def alone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As somebody's plain network would be called: no encoder, another name of the head, no auxiliary one."""
    without_auxiliary = {n: v for n, v in state.items() if not n.startswith("auxiliary")}
    return {n.removeprefix("encoder.").replace("classifier.", "head."): v for n, v in without_auxiliary.items()}


WRAPS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda s: s,
    "renamed": alone,
    "parallel": lambda s: {f"module.{n}": v for n, v in s.items()},
    "lightning": lambda s: {
        "state_dict": {**{f"net.{n}": v for n, v in alone(s).items()}, "criterion.weight": torch.ones(K)},
        "pytorch-lightning_version": "2.4",
        "epoch": 3,
    },
    "mmseg": lambda s: {
        "meta": {"mmseg_version": "1.2.2", "CLASSES": ["a"]},
        "state_dict": {
            n.replace("encoder.", "backbone.")
            .replace("auxiliary_classifier", "auxiliary_head")
            .replace("classifier", "decode_head"): v
            for n, v in s.items()
        },
    },
    "without counters": lambda s: {n: v for n, v in alone(s).items() if not n.endswith("num_batches_tracked")},
}


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrap", WRAPS)
def test_it_comes_as_the_same_network(wrap: str, tmp_path: Path) -> None:
    state, out = mini(), tmp_path / "model.safetensors"
    path = saved(WRAPS[wrap](state), tmp_path / "x.pth")
    arguments = ["convert", str(path), "--network", "mini", "--classes", str(K), "--out", str(out), "--json"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["layout"] == "names" and report["num_classes"] == K
    assert report["ignored"] == (["criterion.weight"] if wrap == "lightning" else [])
    segmenter, info = load_model(out)
    assert info.auxiliary == (wrap in ("plain", "parallel", "mmseg")) and info.origin["converted_from"] == "x.pth"
    for name, value in segmenter.state_dict().items():
        if wrap != "without counters" or not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state[name]), name


def test_class_names_come_from_a_shift(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = saved(build_segmenter("mini", "none", 15).state_dict(), tmp_path / "x.pth")
    out = tmp_path / "m.safetensors"
    arguments = ["convert", str(path), "--network", "mini", "--shift", "ministreet", "--out", str(out)]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    classes = load_model(out)[1].classes
    assert classes is not None and classes[:2] == ("road", "sidewalk")


def test_two_copies_need_a_word(tmp_path: Path) -> None:
    state = alone(mini())
    copies = {**{f"model.{n}": v for n, v in state.items()}, **{f"ema.{n}": 0 * v for n, v in state.items()}}
    path = saved(copies, tmp_path / "x.pth")
    with pytest.raises(
        RunError, match=r"'ema' and 'model' fit 'encoder' .*; say --rename ema=encoder or --rename model="
    ):
        convert(path, network="mini", num_classes=K)
    converted = convert(path, network="mini", num_classes=K, rename=["model.head=classifier", "model=encoder"])
    assert torch.equal(converted.segmenter.state_dict()["encoder.stem.0.0.weight"], state["stem.0.0.weight"])
    with pytest.raises(UsageError, match=r"--rename is THEIRS=OURS with a module of x.pth, got 'nobody=encoder'"):
        convert(path, network="mini", num_classes=K, rename=["nobody=encoder"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda s: {n: v for n, v in s.items() if n != "encoder.fine.first.0.weight"},
            "lacks 1 of the .*: 'encoder.fine.first.0.weight' ",
        ),
        (
            lambda s: {**s, "classifier.1.bias": torch.zeros(3)},
            r"'classifier.1.bias' is \(3,\) of torch.float32, but network 'mini' with 4",
        ),
        (
            lambda s: {**s, "classifier.1.bias": torch.zeros(16, dtype=torch.int64)},
            r"of torch.int64, but network 'mini'",
        ),
        (
            lambda s: {**s, "classifier.1.bias": torch.full((16,), float("inf"))},
            "'classifier.1.bias' has 16 values that are not",
        ),
        (
            lambda s: {f"x{i}.y": torch.zeros(2) for i in range(9)},
            "lacks .*; of its own have no place: 'x0.y', 'x1.y', 'x2.y'",
        ),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[Any], Any], says: str, tmp_path: Path) -> None:
    path = saved(change(mini()), tmp_path / "x.pth")
    with pytest.raises(RunError, match=says) as caught:
        convert(path, network="mini", num_classes=K)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_words_that_are_missing_or_wrong(tmp_path: Path) -> None:
    path = saved(mini(), tmp_path / "x.pth")
    with pytest.raises(
        UsageError, match=r"its names begin 'encoder.stem.0.0.weight', .* Say which network it is of: --network"
    ):
        convert(path)
    with pytest.raises(UsageError, match="Say which network the weights are of: --network NAME"):
        convert(path, "names")
    with pytest.raises(UsageError, match="Say how many classes the network has: --classes N, or --shift NAME"):
        convert(path, network="mini")
    with pytest.raises(UsageError, match="Unknown network 'minni'"):
        convert(path, network="minni", num_classes=K)
    with pytest.raises(UsageError, match="fusion 'add' would change the scores; allowed: none, conv1x1"):
        convert(path, network="mini", fusion="add", num_classes=K)


@torch.no_grad()
def test_fusions_are_put_under_it_or_come_with_it(tmp_path: Path) -> None:
    clip = torch.rand(1, 2, 3, 32, 64), torch.zeros(1, 1, 2, 32, 64), torch.ones(1, 1, 32, 64, dtype=torch.bool)
    path = saved(mini(), tmp_path / "x.pth")
    plain, fused = (convert(path, network="mini", fusion=f, num_classes=K).segmenter.eval() for f in ("", "conv1x1"))
    assert torch.equal(plain(*clip).scores, fused(*clip).scores)
    torch.manual_seed(1)
    attention = build_segmenter("mini", "attention", K).eval()
    converted = convert(
        saved(attention.state_dict(), tmp_path / "y.pth"), network="mini", fusion="attention", num_classes=K
    )
    assert torch.equal(converted.segmenter.eval()(*clip).scores, attention(*clip).scores) and converted.missing == ()
