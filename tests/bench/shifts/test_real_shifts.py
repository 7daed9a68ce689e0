"""The real shifts on small data sets in their exact layouts: methods run and see no closed file, damaged files are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import AccessError, BadFile, RunError, UsageError
from bench.core.registry import ROOT, method_names
from bench.core.workspace import Workspace
from bench.data.fixtures import Tree, corrupt
from bench.data.splits import identity_of, prepare
from bench.runs.config import load_shift, make_run_config, method_class
from bench.runs.run import run
from bench.runs.source import source_model

SMALL = {
    "viper2cityscapes": {"source": [72, 128], "target": [64, 128]},
    "synthia2cityscapes": {"source": [64, 128], "target": [64, 128]},
}
"""Sizes of the frames in tests, by shift; source and target differ as they do in the protocol."""
OPTIONS = {"network": "mini", "flow": "dis"}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The two protocols at a fraction of their sizes, labels at the size of the fixtures' files, as YAML files."""
    folder, paths = tmp_path_factory.mktemp("shifts"), {}
    for name, sizes in SMALL.items():
        fields = yaml.safe_load((ROOT / "shifts" / f"{name}.yaml").read_text(encoding="utf-8"))
        for role, (height, width) in sizes.items():
            fields["data"][role] |= {"height": height, "width": width}
        fields["evaluation"] |= {"height": 128, "width": 256}
        path = folder / f"small-{name}.yaml"
        path.write_text(yaml.safe_dump(fields), encoding="utf-8")
        paths[name] = str(path)
    return paths


@pytest.fixture(scope="session")
def real_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source models of the small shifts, made once."""
    return tmp_path_factory.mktemp("real cache")


@pytest.fixture
def real_workspace(tmp_path: Path, real_cache: Path, trees: dict[str, Tree]) -> Workspace:
    return Workspace(tmp_path / "runs", real_cache, torch.device("cpu"), data_root=trees["viper"].root.parent)


def config(shift: str, method: str, steps: int = 2, **options: Any) -> Any:
    return make_run_config(method, shift, 0, {**OPTIONS, **options}, steps=steps)


def moved_data(trees: dict[str, Tree], into: Path) -> dict[str, Path]:
    """A copy of the data sets that a test may change."""
    return {
        name: Path(shutil.copytree(trees[name].root, into / trees[name].root.name))
        for name in ("viper", "cityscapes_seq")
    }


# Protocols ------------------------------------------------------------------------------------------------------------


def test_the_protocols_are_the_published_ones() -> None:
    """Facts of ``label_maps.json``: sizes, optimiser, lengths, what is scored."""
    viper, synthia = load_shift("viper2cityscapes"), load_shift("synthia2cityscapes")
    for shift in (viper, synthia):
        assert (shift.data.target.height, shift.data.target.width) == (512, 1024)  # type: ignore[union-attr]
        assert (shift.evaluation.height, shift.evaluation.width, shift.evaluation.align_corners) == (1024, 2048, True)
        for schedule in (shift.source_training, shift.adaptation):
            assert (schedule.batch, schedule.momentum, schedule.weight_decay) == (1, 0.9, 5e-4)
            assert (schedule.power, schedule.horizon, schedule.steps, schedule.head_multiplier) == (
                0.9,
                250_000,
                40_000,
                10,
            )
        assert shift.network.name == "deeplabv2_resnet101" and shift.network.weights == "imagenet"
    assert (viper.data.source.height, viper.data.source.width) == (720, 1280)  # type: ignore[union-attr]
    assert (synthia.data.source.height, synthia.data.source.width) == (640, 1280)  # type: ignore[union-attr]
    assert (viper.adaptation.lr, synthia.adaptation.lr) == (1e-4, 2.5e-4)
    assert (len(viper.classes), len(synthia.classes)) == (15, 12)
    assert viper.evaluation.unscored == () and synthia.evaluation.unscored == ("fence",)


def test_imagenet_weights_are_for_the_protocols_own_network() -> None:
    assert make_run_config("stpl", "viper2cityscapes").weights == "imagenet"
    assert make_run_config("stpl", "viper2cityscapes", options={"network": "mini"}).weights == "random"
    with pytest.raises(UsageError, match="without exact flow"):
        make_run_config("stpl", "viper2cityscapes", options={"flow": "exact"})


# Runs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", method_names())
def test_every_method_runs(method: str, small: dict[str, str], real_workspace: Workspace, no_figures: None) -> None:
    record = run(config(small["viper2cityscapes"], method), real_workspace)
    assert 0 <= record.result.miou <= 100 and record.config.steps == 2
    assert record.cost.steps == (2 if method_class(method).trains else 0)
    assert record.result.temporal_consistency is not None and record.skipped is None


@pytest.mark.parametrize("method", ["stpl", "tps", "oracle"])
def test_fence_is_trained_and_not_scored(
    method: str, small: dict[str, str], real_workspace: Workspace, no_figures: None
) -> None:
    result = run(config(small["synthia2cityscapes"], method), real_workspace).result
    scored = {name: iou for name, iou in result.iou.items() if name != "fence"}
    assert result.iou["fence"] is None and len(scored) == 11
    measured = [iou for iou in scored.values() if iou is not None]
    assert result.miou == pytest.approx(sum(measured) / len(measured))


@pytest.mark.parametrize(("shift", "frames"), [("viper2cityscapes", 3), ("synthia2cityscapes", 4)])
def test_longer_clips_of_recorded_videos(
    shift: str, frames: int, small: dict[str, str], real_workspace: Workspace, no_figures: None
) -> None:
    record = run(config(small[shift], "tps", frames=frames), real_workspace)
    assert 0 <= record.result.miou <= 100 and record.config.frames == frames


def test_earlier_labels_of_synthia_are_read_and_refused_where_there_are_none(
    small: dict[str, str], real_workspace: Workspace, no_figures: None, tmp_path: Path
) -> None:
    assert run(config(small["synthia2cityscapes"], "cmom"), real_workspace).cost.steps == 2
    fields = yaml.safe_load(Path(small["viper2cityscapes"]).read_text(encoding="utf-8"))
    fields["data"]["source"]["dataset"] = "cityscapes_seq"
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    shift = load_shift(str(tmp_path / "other.yaml"))
    assert prepare(shift, "source", "train", 0, real_workspace).open().labels()
    with pytest.raises(UsageError, match="data set 'cityscapes_seq' has none"):
        prepare(shift, "source", "train", 0, real_workspace, previous_labels=True)


def test_the_protocol_itself_runs_from_the_command_line(
    trees: dict[str, Tree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of 1280x720 and 1024x512, labels of the files' size brought to 2048x1024 as predictions are."""
    arguments = ["run", "-m", "adabn", "--shift", "viper2cityscapes", "--data-root", str(trees["viper"].root.parent)]
    arguments += ["--steps", "1", "-o", "network=mini", "-o", "flow=dis", "--workers", "2", "--json"]
    result = CliRunner().invoke(cli.app, [*arguments, "--runs", str(tmp_path / "r"), "--cache", str(tmp_path / "c")])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["config"]["steps"] == 1 and record["config"]["shift"] == "viper2cityscapes"
    assert str(tmp_path) not in result.stdout  # nothing says where the data lies


def test_reading_ahead_changes_no_bit(
    small: dict[str, str], real_workspace: Workspace, tmp_path: Path, no_figures: None
) -> None:
    run_config = config(small["viper2cityscapes"], "tps", 3)
    plain = run(run_config, real_workspace)
    ahead = run(
        run_config,
        Workspace(
            tmp_path / "ahead",
            real_workspace.cache,
            real_workspace.device,
            data_root=real_workspace.data_root,
            workers=3,
        ),
    )
    assert ahead.result == plain.result


def test_flow_computed_ahead_gives_the_same_run(
    small: dict[str, str], real_workspace: Workspace, tmp_path: Path, no_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is read, not computed again: with the estimator gone the run still goes through."""
    run_config = config(small["viper2cityscapes"], "stpl")
    plain = run(run_config, real_workspace)
    cache = shutil.copytree(real_workspace.cache, tmp_path / "cache")
    arguments = ["flow", "compute", small["viper2cityscapes"], "--backend", "dis", "--workers", "1"]
    result = CliRunner().invoke(
        cli.app, [*arguments, "--data-root", str(real_workspace.data_root), "--cache", str(cache)]
    )
    assert result.exit_code == 0, result.output

    def unavailable(*_: Any) -> Any:
        raise AssertionError("flow was computed again")

    monkeypatch.setattr("cv2.DISOpticalFlow_create", unavailable)
    ahead = run(
        run_config, Workspace(tmp_path / "ahead", cache, real_workspace.device, data_root=real_workspace.data_root)
    )
    assert ahead.result == plain.result


def test_a_wrong_flow_leaves_the_source_model(small: dict[str, str], real_workspace: Workspace) -> None:
    """The estimator of a run is that of its source model; flow that is wrong on purpose is not."""
    from bench.runs.source import source_identity

    shift = config(small["viper2cityscapes"], "stpl").protocol
    dis, zero = (
        source_identity(config(small["viper2cityscapes"], "stpl", flow=f), shift, real_workspace)
        for f in ("dis", "zero")
    )
    assert dis["flow"] == "dis" and zero["flow"] == shift.flow == "raft"


# Access ---------------------------------------------------------------------------------------------------------------


def test_a_source_free_method_runs_when_the_source_has_gone(
    small: dict[str, str], trees: dict[str, Tree], tmp_path: Path, no_figures: None
) -> None:
    moved_data(trees, tmp_path / "data")
    workspace = Workspace(tmp_path / "runs", tmp_path / "cache", torch.device("cpu"), data_root=tmp_path / "data")
    run_config = config(small["viper2cityscapes"], "self_training")
    source_model(run_config, run_config.protocol, workspace)
    shutil.rmtree(tmp_path / "data" / trees["viper"].root.name)
    assert run(run_config, workspace).cost.steps == 2
    with pytest.raises(RunError, match="'viper' is not at"):
        run(config(small["viper2cityscapes"], "fda"), workspace)


READS = {
    "target training labels": "gtFine/train/*/*_labelIds.png",
    "target validation frames": "leftImg8bit_sequence/val/*/*.png",
    "target validation labels": "gtFine/val/*/*_labelIds.png",
}


@pytest.mark.parametrize("what", sorted(READS))
def test_labels_and_validation_frames_are_closed(
    what: str, small: dict[str, str], real_workspace: Workspace, trees: dict[str, Tree], fake_method: Callable[..., str]
) -> None:
    file = sorted(trees["cityscapes_seq"].root.glob(READS[what]))[0]
    name = fake_method(losses=f"open({str(file)!r}, 'rb').read()")
    with pytest.raises(AccessError, match="is closed in this stage of a run"):
        run(config(small["viper2cityscapes"], name), real_workspace)


def test_source_frames_are_closed_to_a_source_free_method_and_open_to_uda(
    small: dict[str, str],
    real_workspace: Workspace,
    trees: dict[str, Tree],
    fake_method: Callable[..., str],
    no_figures: None,
) -> None:
    for folder in ("img", "cls"):
        file = sorted((trees["viper"].root / "train" / folder).rglob("*.*"))[0]
        with pytest.raises(AccessError):
            run(
                config(small["viper2cityscapes"], fake_method(losses=f"open({str(file)!r}, 'rb').read()")),
                real_workspace,
            )
        run(
            config(small["viper2cityscapes"], fake_method(losses=f"open({str(file)!r}, 'rb')", setting="UDA")),
            real_workspace,
        )


# Faults ---------------------------------------------------------------------------------------------------------------


def test_without_a_data_root_it_says_what_to_give(
    small: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENCH_DATA", raising=False)
    with pytest.raises(
        UsageError, match=r"'cityscapes_seq' is read from disk: give --data-root DIR or set \$BENCH_DATA"
    ):
        run(config(small["viper2cityscapes"], "stpl"), Workspace(tmp_path, tmp_path))
    with pytest.raises(RunError, match="No frames of 'cityscapes_seq' under"):
        run(config(small["viper2cityscapes"], "stpl"), Workspace(tmp_path, tmp_path, data_root=tmp_path / "nowhere"))


def test_a_truncated_picture_stops_a_run_and_is_skipped_where_that_is_asked_for(
    small: dict[str, str], trees: dict[str, Tree], real_cache: Path, tmp_path: Path, no_figures: None
) -> None:
    damaged, culprit = corrupt(trees["cityscapes_seq"], "truncated", tmp_path / "data")
    shutil.copytree(trees["viper"].root, tmp_path / "data" / trees["viper"].root.name)
    run_config = config(small["viper2cityscapes"], "self_training", 6)
    workspace = Workspace(tmp_path / "runs", tmp_path / "cache", torch.device("cpu"), data_root=damaged.root.parent)
    with pytest.raises(BadFile) as error:
        run(run_config, workspace)
    assert culprit in str(error.value) and "\n" not in str(error.value)
    skipping = Workspace(
        tmp_path / "runs", tmp_path / "cache", torch.device("cpu"), data_root=workspace.data_root, skip_bad=True
    )
    record = run(run_config, skipping)
    assert record.cost.steps == 6 and record.skipped is not None
    assert len(record.skipped) == 1 and culprit in next(iter(record.skipped.values()))


def test_a_damaged_validation_picture_is_never_skipped(
    small: dict[str, str], trees: dict[str, Tree], tmp_path: Path, no_figures: None
) -> None:
    """A score on fewer pictures than the protocol's is no score."""
    damaged, culprit = corrupt(trees["cityscapes_seq"], "truncated", tmp_path / "data", "val")
    shutil.copytree(trees["viper"].root, tmp_path / "data" / trees["viper"].root.name)
    workspace = Workspace(
        tmp_path / "runs", tmp_path / "cache", torch.device("cpu"), data_root=damaged.root.parent, skip_bad=True
    )
    with pytest.raises(BadFile, match=culprit.replace(".", r"\.")):
        run(config(small["viper2cityscapes"], "source_only"), workspace)


def test_the_frame_list_is_part_of_what_a_split_is(
    small: dict[str, str], trees: dict[str, Tree], tmp_path: Path, real_workspace: Workspace
) -> None:
    shift = load_shift(small["viper2cityscapes"])
    before = identity_of(shift, "source", "train", 0, real_workspace)
    roots = moved_data(trees, tmp_path / "data")
    moved = Workspace(tmp_path / "runs", tmp_path / "cache", data_root=tmp_path / "data")
    assert identity_of(shift, "source", "train", 0, moved) == before  # wherever it lies
    split = prepare(shift, "source", "train", 0, moved)
    assert split.name.startswith("source-train-") and len(split.open()) == len(
        prepare(shift, "source", "train", 0, real_workspace).open()
    )
    for folder in ("img", "cls"):
        shutil.rmtree(roots["viper"] / "train" / folder / "002")
    assert identity_of(shift, "source", "train", 0, moved) != before
