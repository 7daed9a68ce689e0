"""Rounds, optimisers of a method's own, an average that is evaluated, a start from the backbone: what the harness does for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import UsageError
from bench.core.workspace import Workspace
from bench.networks.weights import load_tensors
from bench.runs.config import RunConfig, alterations, make_run_config
from bench.runs.records import Record
from bench.runs.run import run

ROUNDS = """
    def round_steps(self):
        return (0, 3)

    def start_round(self, number, clips):
        once, again = list(clips), list(clips)
        assert [c.keys for c in once] == [c.keys for c in again] and not hasattr(once[0], "label")
        keys = [key for clip in once for key in clip.keys]
        assert len(keys) == len(set(keys)) == 8
        LOG.append((number, torch.is_autocast_enabled("cpu"), self.segmenter.training))
"""

RIVAL = """
    def __init__(self, segmenter, settings, setup):
        super().__init__(segmenter, settings, setup)
        self.rival = torch.nn.Linear(3, 1).requires_grad_(False)
        self.adam = torch.optim.Adam(self.rival.parameters(), lr=0.01)

    def optimisers(self):
        return {"rival": self.adam}

    def losses(self, target, source, step):
        if STOP and step == STOP[0]:
            raise KeyboardInterrupt
        self.colours = target.frames.mean((0, 1, 3, 4))
        return self.ordinary(target)

    def after_step(self, step):
        RATES.append(self.adam.param_groups[0]["lr"])
        self.rival.requires_grad_(True)
        with torch.enable_grad():
            loss = (self.rival(self.colours).float() - torch.rand(())).square().sum()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self.rival.requires_grad_(False)
        FINAL.append(torch.cat([p.flatten() for p in self.rival.parameters()]).tolist())
"""

AVERAGE = """
    evaluates_average = True

    def __init__(self, segmenter, settings, setup):
        super().__init__(segmenter, settings, setup)
        import copy
        self.average = copy.deepcopy(segmenter).requires_grad_(False)

    def evaluated(self, readout):
        return self.average
"""

pytestmark = pytest.mark.usefixtures("no_figures")


def module(name: str) -> object:
    import importlib

    return importlib.import_module(f"methods.{name}")


def tiny(name: str, **kwargs: str) -> RunConfig:
    return make_run_config(name, "ministreet-tiny", 0, **kwargs)


def test_rounds_see_the_whole_unlabelled_target_before_their_step(
    fake_method: Callable[..., str], workspace: Workspace
) -> None:
    name = fake_method("ORDER.append(step)", more=ROUNDS + "\nimport torch\nLOG, ORDER = [], []\n")
    run(tiny(name), workspace)
    assert module(name).LOG == [(0, False, True), (1, False, True)]  # type: ignore[attr-defined]


def test_an_own_optimiser_is_scheduled_and_resumed_to_the_same_bits(
    fake_method: Callable[..., str], workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.runs.training.STATE_EVERY", 2)
    name = fake_method(more=RIVAL + "\nimport torch\nSTOP, RATES, FINAL = [], [], []\n")
    uninterrupted = run(tiny(name), workspace)
    method_module = module(name)
    rates, final = list(method_module.RATES), method_module.FINAL[-1]  # type: ignore[attr-defined]
    assert rates == pytest.approx([0.01 * (1 - s / 6) ** 0.9 for s in range(6)])

    elsewhere = Workspace(tmp_path / "other runs", workspace.cache, workspace.device, unboxed=True)
    method_module.STOP.append(5)  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        run(tiny(name), elsewhere)
    saved, _ = load_tensors(next(elsewhere.runs.rglob("state.safetensors")))
    assert {"optimiser/rival/0/exp_avg", "optimiser/rival/0/step", "optimiser/rival/1/exp_avg_sq"} <= saved.keys()
    method_module.STOP.clear()  # type: ignore[attr-defined]
    assert run(tiny(name), elsewhere).result == uninterrupted.result
    assert method_module.FINAL[-1] == final  # type: ignore[attr-defined]


def test_a_method_that_evaluates_its_average_is_scored_on_both(
    fake_method: Callable[..., str], workspace: Workspace
) -> None:
    name = fake_method(more=AVERAGE)
    record = run(tiny(name), workspace)
    assert record.beside.keys() == {"student"}
    assert record.beside["student"].iou != record.result.iou  # the average never moved, the student did
    adabn = run(tiny("adabn"), workspace)
    assert record.result.miou == pytest.approx(adabn.result.miou)
    assert Record.model_validate_json(record.to_json()) == record
    assert run(tiny("self_training"), workspace).beside == {}


def test_init_backbone_starts_without_a_source_model(fake_method: Callable[..., str], workspace: Workspace) -> None:
    name = fake_method("ABLE.append(source.label.shape)", setting="UDA", more="\nABLE = []\n")
    plain, bare = tiny(name), tiny(name, init="backbone")
    assert plain.hash != bare.hash and "init" not in plain.model_dump() and bare.model_dump()["init"] == "backbone"
    record = run(bare, workspace)
    assert record.source_model is None and record.config.init == "backbone"
    assert run(plain, workspace).source_model is not None
    assert alterations(record.config) == ("init=backbone",)


def test_init_backbone_is_refused_without_source_data(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=r"--init backbone is for UDA methods.*'stpl' is SFDA"):
        tiny("stpl", init="backbone")
    with pytest.raises(UsageError, match="Unknown init 'imagenet'"):
        tiny("stpl", init="imagenet")
    result = CliRunner().invoke(
        cli.app, ["run", "--method", "stpl", "--init", "backbone", "--shift", "ministreet-tiny"]
    )
    assert result.exit_code == 2


def test_starting_from_scratch_is_the_oracles_alone(fake_method: Callable[..., str], workspace: Workspace) -> None:
    name = fake_method(more='\n    start = "scratch"\n')
    with pytest.raises(UsageError, match="starts from scratch, which only the oracle may"):
        run(tiny(name), workspace)


def test_an_old_config_keeps_its_hash() -> None:
    """Records made before ``init`` existed are found under the same run."""
    text = json.loads(json.dumps(tiny("adabn").model_dump(mode="json")))
    assert RunConfig.model_validate(text).hash == tiny("adabn").hash
    assert set(text) == {"method", "shift", "shift_hash", "seed", "network", "fusion", "flow", "settings"}
