"""Panels: errors and scores as numbers, tiles as arrays, the command on finished tiny runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from bench import cli
from bench.analysis.look import look
from bench.analysis.panels import (
    WRONG,
    Panel,
    Prediction,
    clip_miou,
    error_map,
    make_panels,
    panels_figure,
    run_panels,
)
from bench.analysis.preview import run_preview
from bench.core.access import stage
from bench.core.errors import RunError, UsageError
from bench.core.registry import ROOT
from bench.core.workspace import Workspace
from bench.data.fixtures import Tree
from bench.data.labels import PALETTE
from bench.pictures.canvas import colourise
from bench.runs.config import load_shift, make_run_config
from bench.runs.figures import spread_clips
from bench.runs.finished import RunFolder, finished_run, finished_runs
from bench.runs.records import read_record
from bench.runs.run import run

SHIFT = "ministreet-tiny"


def test_clips_are_spread_evenly() -> None:
    assert spread_clips(100, 1) == [50] and spread_clips(100, 2) == [0, 99] and spread_clips(100, 3) == [0, 50, 99]
    assert spread_clips(4, 9) == [0, 1, 2, 3] and spread_clips(1, 3) == [0]


def test_miou_of_a_clip_by_hand() -> None:
    label, guess = np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 3]])
    assert clip_miou(label, guess, 15) == pytest.approx(50)  # 1/2 and 1/2; the ignored pixel's class does not occur
    assert clip_miou(label, np.array([[0, 0, 2, 2]]), 15) == pytest.approx(100 / 3)  # class 0 whole, 1 and 2 nothing


def test_error_map_by_hand() -> None:
    frame = np.full((1, 4, 3), (30, 60, 90), np.uint8)
    image, share = error_map(frame, np.array([[0, 1, 255, 1]]), np.array([[0, 2, 2, 1]]))
    grey = [187, 187, 187]  # 0.35 * 60 + 0.65 * 255
    assert image.tolist() == [[grey, list(WRONG), [0, 0, 0], grey]]
    assert share == pytest.approx(100 / 3)
    assert np.isnan(error_map(frame, np.full((1, 4), 255), np.zeros((1, 4), int))[1])


def panel(name: str = "clip 7") -> Panel:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (8, 16)).astype(np.uint8)
    label[0, 0] = 255
    good = Prediction(np.full((8, 16), 10), np.where(label == 255, 0, label))
    bad = Prediction(np.full((8, 16), 11), np.full((8, 16), 14))
    return Panel(name, rng.integers(0, 256, (3, 3, 8, 16), dtype=np.uint8), label, {"Good": good, "Bad": bad})


def test_a_panel_has_a_row_for_the_clip_and_one_for_each_model() -> None:
    clip_panel = panel()
    figure = panels_figure([clip_panel, panel("clip 9")], "title")
    tiles = [axes for axes in figure.axes if axes.images]
    images = [np.asarray(axes.images[0].get_array()) for axes in tiles]
    captions = [axes.get_title() for axes in tiles]
    assert len(tiles) == 18 and captions[:3] == ["clip 7: frame t-1", "clip 7: frame t", "clip 7: ground truth of t"]
    assert captions[3:6] == ["Good, t-1", "Good, t: mIoU 100.0 %", "wrong (red): 0.0 % of pixels"]
    assert captions[6:9] == ["Bad, t-1", "Bad, t: mIoU 0.0 %", "wrong (red): 100.0 % of pixels"]
    assert captions[9] == "clip 9: frame t-1"
    assert (images[0] == clip_panel.frames[1].transpose(1, 2, 0)).all()  # of three frames the last two
    assert (images[1] == clip_panel.frames[2].transpose(1, 2, 0)).all() and (
        images[2] == colourise(clip_panel.label)
    ).all()
    assert (images[3] == PALETTE[10]).all() and (images[7] == PALETTE[14]).all()
    assert (images[8][clip_panel.label != 255] == WRONG).all()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["road", "sidewalk", "building", "car", "truck", "bicycle", "ignored"]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        panels_figure([], "title")
    clip_panel = panel()
    clip_panel.predictions["Small"] = Prediction(np.zeros((8, 15), int), np.zeros((8, 15), int))
    with pytest.raises(ValueError, match="prediction 'Small' must be"):
        panels_figure([clip_panel], "title")


# Finished runs


def test_a_finished_runs_model_is_its_checkpoint(finished_tiny: Path, tiny_cache: Path) -> None:
    """All clips' predictions, pooled by hand, score what the record says."""
    from bench.runs.metrics import ConfusionMatrix, iou_from_confusion, mean_iou

    shift = load_shift(SHIFT)
    runs = finished_runs(["source_only", "self_training"], SHIFT, [0], finished_tiny)
    panels = make_panels(runs, 99, Workspace(cache=tiny_cache))
    assert [p.name for p in panels] == ["clip 0", "clip 1", "clip 2", "clip 3"]
    for finished in runs:
        pooled = ConfusionMatrix(len(shift.classes))
        for clip_panel in panels:
            pooled.update(clip_panel.label, clip_panel.predictions[finished.name].current)
        assert 100 * mean_iou(iou_from_confusion(pooled.matrix)) == pytest.approx(finished.record.result.miou, abs=1e-6)


def test_labels_are_opened_in_a_stage_of_their_own(finished_tiny: Path, tiny_cache: Path) -> None:
    runs, workspace = finished_runs(["adabn"], SHIFT, [0], finished_tiny), Workspace(cache=tiny_cache)
    make_panels(runs, 1, workspace)
    with stage("target-train"), pytest.raises(RunError, match="closed"):  # not from within an adaptation
        make_panels(runs, 1, workspace)


def test_runs_that_are_not_there(finished_tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        finished_run("stpl:fusion=none:flow=dis", SHIFT, 0, finished_tiny)
    assert "first: bench run --method stpl --shift ministreet-tiny --seed 0 -o fusion=none -o flow=dis" in str(
        caught.value
    )
    with pytest.raises(UsageError, match="Unknown method 'tsp'"):
        finished_run("tsp", SHIFT, 0, finished_tiny)
    with pytest.raises(UsageError, match="names 'adabn' twice"):
        finished_runs(["adabn", "adabn"], SHIFT, [0], finished_tiny)
    with pytest.raises(UsageError, match="names no method"):
        finished_runs([], SHIFT, [0], finished_tiny)
    run = finished_run("adabn", SHIFT, 0, finished_tiny)
    copied = shutil.copytree(run.folder, tmp_path / run.folder.name)
    (copied / "checkpoint.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(RunError, match="damaged or not a safetensors file"):
        finished_run("adabn", SHIFT, 0, tmp_path).model(Workspace())


@pytest.mark.usefixtures("no_figures")
def test_panels_of_recorded_video_are_at_the_frames_size(
    trees: dict[str, Tree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = yaml.safe_load((ROOT / "shifts" / "viper2cityscapes.yaml").read_text(encoding="utf-8"))
    shift["data"]["source"] |= {"height": 64, "width": 96}
    shift["data"]["target"] |= {"height": 64, "width": 128}
    shift["evaluation"] |= {"height": 128, "width": 256}
    shift |= {"network": {"name": "mini", "fusion": "none"}, "flow": "dis"}
    (tmp_path / "video.yaml").write_text(yaml.safe_dump(shift), encoding="utf-8")
    workspace = Workspace(tmp_path / "runs", tmp_path / "cache", data_root=trees["viper"].root.parent)
    config = make_run_config("source_only", str(tmp_path / "video.yaml"), steps=1)
    record = run(config, workspace)
    folder = RunFolder.open(workspace.runs / config.hash)
    monkeypatch.setattr("bench.analysis.panels.finished_runs", lambda *_: [folder])  # whose runs are not cut short
    scores = run_panels(["source_only"], config.shift, 0, 2, tmp_path / "a.png", workspace)
    assert (tmp_path / "a.png").is_file() and set(scores["miou"]) == {"clip 0", "clip 2"}  # type: ignore[call-overload]
    (first, _) = make_panels([folder], 2, workspace)
    assert first.label.shape == first.predictions[folder.name].current.shape == (64, 128)
    assert look(folder, workspace, 200).confusion.sum() > 0 and record.flow == "dis-medium"


def test_what_is_rendered_for_a_picture_alone_is_refused_of_recorded_video(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Shift 'viper2cityscapes' is recorded video"):
        run_preview("viper2cityscapes", 1, 0, tmp_path)


def call(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments))


def test_the_command(finished_tiny: Path, tiny_cache: Path, tmp_path: Path) -> None:
    options = ("--shift", SHIFT, "--runs", str(finished_tiny), "--cache", str(tiny_cache))
    out = tmp_path / "new" / "panels.png"
    result = call("panels", "-m", "source_only,adabn", "--clips", "2", "--out", str(out), *options, "--json")
    assert result.exit_code == 0 and "all of them are drawn" not in result.stderr, result.output
    more = call("panels", "-m", "adabn", "--clips", "12", "--out", str(tmp_path / "b.png"), *options, "--json")
    assert more.exit_code == 0 and "the split has 4 clips, fewer than --clips 12: all of them are drawn" in more.stderr
    scores = json.loads(result.stdout)
    assert scores["panels"] == str(out) and out.read_bytes().startswith(b"\x89PNG")
    titles = {read_record(finished_run(m, SHIFT, 0, finished_tiny).folder / "record.json").method["title"]
              for m in ("source_only", "adabn")}  # fmt: skip
    assert set(scores["miou"]) == {"clip 0", "clip 3"} and set(scores["miou"]["clip 0"]) == titles
    for arguments, says in (
        (("-m", "stpl"), "No finished run of 'stpl' (seed 0)"),
        (("-m", "adabn", "--out", "a.gif"), "--out must be a .png file, got 'a.gif'"),
    ):
        result = call("panels", *arguments, *options)
        assert result.exit_code == 2 and result.stdout == "" and says in result.stderr
