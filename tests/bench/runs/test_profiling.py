"""The profile of a step: the shares of its parts add up to all of its time, and patched functions are restored."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import methods.self_training as module
from bench import cli
from bench.core.errors import UsageError
from bench.core.workspace import Workspace
from bench.networks.build import build_segmenter
from bench.runs.config import make_run_config, method_class
from bench.runs.profiling import Clock, networks, profile
from methods.base import Setup


def test_nested_parts_are_counted_once() -> None:
    clock = Clock(torch.device("cpu"))
    with clock.part("outer"):
        time.sleep(0.02)
        with clock.part("inner"):
            time.sleep(0.04)
        time.sleep(0.02)
    assert 0.03 < clock.seconds["outer"] < 0.06
    assert 0.035 < clock.seconds["inner"] < 0.06


def test_a_part_can_be_named_when_it_ends() -> None:
    clock = Clock(torch.device("cpu"))
    clock.start("rest")
    time.sleep(0.01)
    clock.stop("losses")
    assert set(clock.seconds) == {"losses"}


def test_networks_are_segmenters_with_their_parts_and_heads() -> None:
    cls = method_class("stpl")
    method = cls(build_segmenter("mini", "conv1x1", 5), cls.Settings(), Setup(5, 6, 0))
    modules = networks(method)
    for segmenter in (method.segmenter, method.teacher.segmenter):
        assert all(any(part is m for m in modules) for part in (segmenter, segmenter.encoder, segmenter.classifier))
    assert any(method.head is m for m in modules)
    assert not any(isinstance(m, nn.Conv2d) and m is not method.segmenter.auxiliary_classifier for m in modules[:1])


@pytest.mark.parametrize("name", ["self_training", "oracle"])
def test_shares_add_up_and_nothing_stays_patched(name: str, workspace: Workspace) -> None:
    before, backward = dict(vars(module)), torch.Tensor.backward
    profiled = profile(make_run_config(name, "ministreet-tiny", 0), workspace, 3)
    assert sum(profiled["share"].values()) == pytest.approx(100, abs=0.5)
    assert {"network", "losses", "backward", "optimiser", "clips", "rest"} == set(profiled["share"])
    assert profiled["outside"] == pytest.approx(profiled["share"]["clips"] + profiled["share"]["rest"], abs=0.5)
    assert 0 < profiled["outside"] < 90 and profiled["step"] > 0
    assert dict(vars(module)) == before and torch.Tensor.backward is backward
    assert not list(workspace.runs.rglob("*.safetensors"))


def test_what_a_first_step_loads_is_no_steps_time(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, calls = module.strong_view, []

    def slow_at_first(*args: Any) -> Any:
        calls.append(time.sleep(0 if calls else 2.0))
        return drawn(*args)

    monkeypatch.setattr(module, "strong_view", slow_at_first)
    profiled = profile(make_run_config("self_training", "ministreet-tiny", 0), workspace, 2)
    assert len(calls) == 3 and profiled["step"] < 1.0  # of two steps; with the first one it would be more than 1


def test_a_method_without_steps_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="'adabn' takes no steps"):
        profile(make_run_config("adabn", "ministreet-tiny", 0), workspace, 3)


def test_the_command_prints_a_table_and_json(tiny_cache: Path) -> None:
    arguments = [
        "profile",
        "-m",
        "self_training",
        "--shift",
        "ministreet-tiny",
        "--steps",
        "2",
        "--cache",
        str(tiny_cache),
    ]
    text = CliRunner().invoke(cli.app, arguments)
    assert text.exit_code == 0 and "outside" in text.stdout and "self_training" in text.stdout
    rows = json.loads(CliRunner().invoke(cli.app, [*arguments, "--json"]).stdout)
    assert rows[0]["method"] == "self_training" and rows[0]["rounds"] == 0
