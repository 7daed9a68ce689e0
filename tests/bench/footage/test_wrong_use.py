"""``bench predict`` and ``bench adapt`` refuse what cannot be, or would count for nothing, in one line and before work."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bench
from bench import cli
from bench.core.errors import UsageError
from bench.data.fixtures import Tree
from bench.networks.build import build_segmenter
from bench.networks.model_file import save_model
from bench.pictures.media import RATES
from bench.runs.config import load_shift


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


WRONG: dict[str, tuple[list[str], str]] = {
    "no such model": (["--checkpoint", "{tmp}/none.safetensors"], "No "),
    "not a model": (["--checkpoint", "{tmp}/text.safetensors"], "damaged or not a safetensors file"),
    "a folder that is no run": (["--checkpoint", "{tmp}"], "is not a finished run"),
    "no footage": (["--frames", "{tmp}/nowhere"], "is not there"),
    "an empty folder": (["--frames", "{tmp}/empty"], "No frames of 'frames' under"),
    "a size that is none": (["--size", "12"], "--size is HEIGHTxWIDTH"),
    "a size beyond memory": (["--size", "99999x99999"], "sides of 32 to 8192 pixels"),
    "a size in other digits": (["--size", "\u00b2\u00b2x64"], "--size is HEIGHTxWIDTH"),
    "an endless learning rate": (["--lr", "inf"], "lr: Input should be a finite number, got inf"),
    "an unknown flow": (["--flow", "rift"], "Unknown flow 'rift'"),
    "exact flow": (["--flow", "exact"], "without exact flow"),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_wrong_use_is_one_line(what: str, model: Path, trees: dict[str, Tree], tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "empty").mkdir()
    option, says = WRONG[what]
    options = {
        "--checkpoint": str(model),
        "--frames": str(trees["frames"].root / "images"),
        "--out": str(tmp_path / "out"),
    }
    options |= {option[0]: option[1].format(tmp=tmp_path)}
    result = call("adapt", *(part for pair in options.items() for part in pair), "--cache", tmp_path / "cache")
    assert result.exit_code in (1, 2) and says in result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("option", [("--rate", "inf"), ("--rate", "1e9"), ("--batch", "100000000")])
def test_numbers_beyond_what_can_be_are_refused_by_the_option(
    option: tuple[str, str], model: Path, tmp_path: Path
) -> None:
    result = call("adapt", "--checkpoint", model, "--frames", tmp_path, "--out", tmp_path / "out", *option)
    assert (
        result.exit_code == 2
        and f"Invalid value for '{option[0]}'" in result.stderr
        and not (tmp_path / "out").exists()
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--shift", "ministreet"], "--shift: of a shift, and --frames is your own footage; leave it out"),
        (["--split", "train", "--seed", "5"], "--split, --seed: of a shift"),
        (["--seed", "0"], "--seed: of a shift"),
        (["--data-root", "nope"], "--data-root says where a shift's data lie; leave it out with --frames"),
    ],
)
def test_options_of_a_shift_are_refused_with_footage(
    options: list[str], says: str, model: Path, tmp_path: Path
) -> None:
    result = call("predict", "--checkpoint", model, "--frames", tmp_path, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2 and says in result.stderr and len(result.stderr.splitlines()) == 1


def test_options_of_footage_are_refused_with_a_shift(model: Path, tmp_path: Path) -> None:
    result = call("predict", "--checkpoint", model, "--shift", "ministreet", "--out", tmp_path, "--size", "64x64")
    assert result.exit_code == 2 and "--size: of your own footage (--frames), not of a shift" in result.stderr
    result = call(
        "adapt", "--checkpoint", model, "--frames", tmp_path, "--out", tmp_path, "--no-masks", "--video", "mp4"
    )
    assert result.exit_code == 2 and "--video mp4 shows the masks, which --no-masks leaves out" in result.stderr


def test_the_library_refuses_what_the_options_refuse(model: Path, trees: dict[str, Tree], tmp_path: Path) -> None:
    frames, out = trees["frames"].root / "images", tmp_path / "out"
    assert RATES == (0.1, 60)  # as the option says
    for options, says in (
        ({"rate": 61.0, "video": "mp4"}, "--rate is 0.1 to 60 pictures per second, got 61"),
        ({"rate": math.inf, "video": "gif"}, "got inf"),
        ({"size": (99999, 99999)}, "size: sides of at most 8192 pixels, got 99999x99999"),
    ):
        with pytest.raises(UsageError, match=says):
            bench.predict(model, out, frames=frames, cache=tmp_path / "cache", **options)
    with pytest.raises(UsageError, match="batch: at most 1024 clips per step"):
        bench.adapt(model, frames, out, batch=100_000_000)
    assert not list(out.rglob("*.*"))


def test_a_model_for_fewer_frames_than_the_shift_has_is_refused_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks for T frames take clips of up to T."""
    monkeypatch.setattr("bench.footage.export.prepare", lambda *_: pytest.fail("work was begun"))
    classes = load_shift("ministreet2").classes
    save_model(
        tmp_path / "m.safetensors",
        build_segmenter("mini", "none", len(classes)),
        "mini",
        "none",
        len(classes),
        classes=classes,
    )
    result = call(
        "predict", "--checkpoint", tmp_path / "m.safetensors", "--shift", "ministreet2", "--out", tmp_path / "out"
    )
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    assert "The model is made for clips of 2 frames, those of 'ministreet2' have 3" in result.stderr
