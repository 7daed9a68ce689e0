"""Shifts of one's own: one YAML, two folders of pictures, no Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bench import cli
from bench.analysis.strips import run_strip
from bench.core.errors import AccessError, RunError, UsageError
from bench.core.registry import shift_names
from bench.core.workspace import Workspace
from bench.data.splits import identity_of, prepare
from bench.leaderboards.verify import verify_record
from bench.runs.config import load_shift, make_run_config
from bench.runs.run import run
from bench.runs.source import source_model
from tests.bench.shifts.own import CLASSES, COLOURS, day2dusk, draw, scene, write, write_yaml

HASHES = {
    "ministreet": "17a50ab9a36a",
    "ministreet-dev": "366d41b5b5f3",
    "ministreet-tiny": "1c0dacd274fb",
    "ministreet2": "a0c3f913db7c",
    "ministreet2-dev": "b0d4ed80e290",
    "atlas-materials": "4675009ff791",
    "atlas-night": "1b55432702d0",
    "atlas-sensor": "bebdf14af72b",
    "atlas-traffic": "4c75eb02f6c2",
    "atlas-view": "2ce044f936bf",
    "atlas-weather": "f6555c829394",
}
"""Of the shifts that committed records are of, or tests; a new field must not change them."""


def clips_of(shift: str, role: str, split: str, workspace: Workspace, **options: Any) -> Any:
    return prepare(load_shift(shift), role, split, 0, workspace, **options).open()


# The whole way --------------------------------------------------------------------------------------------------------


def test_a_camvid_like_set_trains_a_source_model_and_adapts_by_yaml_alone(
    shift: str, data: Path, own_cache: Path, tmp_path: Path
) -> None:
    """From the command line, figures included; source data and labels in colours, eleven classes."""
    for method in ("source_only", "stpl", "fda", "oracle"):
        arguments = ["run", "-m", method, "--shift", shift, "--data-root", str(data), "--json", "--threads", "1"]
        result = CliRunner().invoke(cli.app, [*arguments, "--runs", str(tmp_path / "r"), "--cache", str(own_cache)])
        assert result.exit_code == 0, result.output
        record = json.loads(result.stdout)
        assert tuple(record["result"]["iou"]) == tuple(sorted(CLASSES)) and 0 <= record["result"]["miou"] <= 100
        assert str(data) not in result.stdout  # nothing says where the data lies
        assert sorted(path.name for path in (tmp_path / "r" / record["run"] / "figures").iterdir())
    log = [json.loads(line) for line in (tmp_path / "r" / record["run"] / "metrics.jsonl").read_text().splitlines()]
    assert len(log) == 30  # the oracle trains as a source model does


def test_the_source_model_learns_the_drawn_classes(shift: str, data_workspace: Workspace, no_figures: None) -> None:
    """Source-only is far above chance on the target, which has the same scenes in less light."""
    assert run(make_run_config("source_only", shift), data_workspace).result.pixel_accuracy > 40


def test_a_run_is_made_again_from_the_data_root(shift: str, data_workspace: Workspace, no_figures: None) -> None:
    record = run(make_run_config("source_only", shift), data_workspace)
    report = verify_record(
        data_workspace.runs / record.run, data_workspace.cache, "cpu", data_root=data_workspace.data_root
    )
    assert all(recorded == repeated for recorded, repeated in report.scores.values()) and report.scores
    with pytest.raises(RunError, match="give --data-root DIR"):
        verify_record(data_workspace.runs / record.run, data_workspace.cache, "cpu")


def test_a_recorded_drive_is_filmed_in_the_classes_of_its_scores(
    tmp_path: Path, own_cache: Path, no_figures: None
) -> None:
    """Groups in another order than the classes: were they left out, nothing would be right."""
    draw(tmp_path / "data" / "day", "drive1", 6, 1.0, 1)
    draw(tmp_path / "data" / "day", "drive2", 4, 1.0, 1)
    for sequence in ("drive1", "drive2"):
        draw(tmp_path / "data" / "dusk", sequence, 8, 0.4, 1)
    groups = {name.upper(): [name] for name in reversed(CLASSES)}
    colours = {name.upper(): list(COLOURS[name]) for name in CLASSES}
    content = day2dusk(evaluation__groups=groups, data__target__colors={**colours, "ignore": [0, 0, 0]})
    shift = write_yaml(tmp_path / "yaml" / "drive.yaml", content)
    workspace = Workspace(tmp_path / "runs", own_cache, torch.device("cpu"), data_root=tmp_path / "data")
    record = run(make_run_config("source_only", shift), workspace)
    common = [
        "-m",
        "source_only",
        "--shift",
        shift,
        "--data-root",
        str(tmp_path / "data"),
        "--runs",
        str(workspace.runs),
    ]
    common += ["--cache", str(own_cache), "--json"]
    sizes = []
    for pictures in ("--pictures", "--no-pictures"):
        out = tmp_path / f"film{pictures}.png"
        result = CliRunner().invoke(cli.app, ["strip", *common, "--frames", "3", "--out", str(out), pictures])
        assert result.exit_code == 0, result.output
        (model,) = json.loads(result.stdout)["models"].values()
        assert abs(model["miou"] - record.result.miou) < 15 and len(model["changed"]) == 3
        assert all(share is not None and 0 <= share < 60 for share in model["changed"])  # along flow that there is
        panel = tmp_path / f"panels{pictures}.png"
        result = CliRunner().invoke(cli.app, ["panels", *common, "--clips", "2", "--out", str(panel), pictures])
        assert result.exit_code == 0, result.output
        (scores, _) = json.loads(result.stdout)["miou"].values()
        assert abs(next(iter(scores.values())) - record.result.miou) < 15
        sizes.append([Image.open(path).size for path in (out, panel)])
    assert sizes[1][0][0] < sizes[0][0][0] and sizes[1][1][0] < sizes[0][1][0]  # a column of frames and truth less
    result = CliRunner().invoke(cli.app, ["strip", *common, "--frames", "60", "--out", str(tmp_path / "x.png")])
    assert result.exit_code == 2 and "lower --frames or --clip" in result.stderr


def test_a_film_needs_every_frame_labelled(
    shift: str, data_workspace: Workspace, tmp_path: Path, no_figures: None
) -> None:
    run(make_run_config("source_only", shift), data_workspace)
    with pytest.raises(UsageError, match="are not neighbours: a film needs every frame labelled"):
        run_strip(["source_only"], shift, 0, 2, 0, 4.0, tmp_path / "x.gif", data_workspace)


# Clips ----------------------------------------------------------------------------------------------------------------


def test_clips_are_those_that_the_yaml_names(shift: str, data_workspace: Workspace) -> None:
    train, val = clips_of(shift, "target", "train", data_workspace), clips_of(shift, "target", "val", data_workspace)
    assert [train.key(i) for i in range(len(train))] == [f"drive1__{t:03d}" for t in range(8)] + [
        "drive2__000",
        "drive2__001",
    ]
    assert [val.key(i) for i in range(len(val))] == ["drive2__002", "drive2__004", "drive2__006"]  # the labelled ones
    assert {val.sequence(i) for i in range(len(val))} == {"drive2"}
    source = clips_of(shift, "source", "train", data_workspace)
    assert len(source) == 10 and source.sequence(0) == "drive1" and source.sequence(9) == "drive2"


def test_labels_are_the_drawn_ones(shift: str, data_workspace: Workspace) -> None:
    val = clips_of(shift, "target", "val", data_workspace)
    for number, t in enumerate((2, 4, 6)):
        assert (val.label(number) == scene(t + 7)).all()  # seed 1 begins 7 places on
    assert (val.labelled(1).label == 255).sum() == 6  # void in the corner


def test_a_clip_does_not_reach_into_another_split(shift: str, data_workspace: Workspace, data: Path) -> None:
    """Frame 2 is the first of val: its predecessor is itself, not frame 1, which adaptation sees."""
    val = clips_of(shift, "target", "val", data_workspace)
    assert (val[0].frames[0] == val[0].frames[1]).all() and not (val[1].frames[0] == val[1].frames[1]).all()
    training_frames = {
        path for item in clips_of(shift, "target", "train", data_workspace).items for path in item.frames
    }
    assert not training_frames & {path for item in val.items for path in item.frames}


def test_pictures_without_a_predecessor_can_be_dropped(tmp_path: Path, data_workspace: Workspace) -> None:
    drop = write_yaml(
        tmp_path / "drop.yaml",
        day2dusk(data__target__alone="drop", data__target__val={"sequences": {"drive2": [2, 8]}}),
    )
    val, train = clips_of(drop, "target", "val", data_workspace), clips_of(drop, "target", "train", data_workspace)
    assert [val.key(i) for i in range(len(val))] == ["drive2__004", "drive2__006"]
    assert [item.frames[-1][-7:] for item in train.items][:2] == ["001.png", "002.png"] and len(train) == 8
    assert all(item.frames[0] != item.frames[1] for item in (*val.items, *train.items))


def test_only_labelled_pictures_are_an_oracles(shift: str, data_workspace: Workspace) -> None:
    labelled = clips_of(shift, "target", "train", data_workspace, labelled=True)
    assert [labelled.key(i) for i in range(len(labelled))] == ["drive1__000", "drive2__000"]


def test_paths_are_relative_to_the_yaml_or_the_data_root(
    data: Path, tmp_path: Path, own_cache: Path, shift: str
) -> None:
    beside = write_yaml(Path(shutil.copytree(data, tmp_path / "copy")) / "beside.yaml", day2dusk())
    nowhere = Workspace(tmp_path / "runs", own_cache, data_root=None)
    with_root = Workspace(tmp_path / "runs", own_cache, data_root=data)
    for role, split in (("source", "train"), ("target", "train"), ("target", "val")):
        assert identity_of(load_shift(beside), role, split, 0, nowhere) == identity_of(
            load_shift(shift), role, split, 0, with_root
        )
    with pytest.raises(
        RunError, match=r"data.target.folder is not there: no .*dusk/images; give --data-root DIR or set \$BENCH_DATA"
    ):
        prepare(load_shift(shift), "target", "val", 0, nowhere)


def test_a_video_and_its_masks(data: Path, tmp_path: Path, data_workspace: Workspace) -> None:
    import cv2

    film = cv2.VideoWriter(str(tmp_path / "dusk.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for t in range(8):
        film.write(cv2.imread(str(data / "dusk" / "images" / "drive2" / f"{t:03d}.png")))
        if t % 2 == 0:
            shutil.copy(
                data / "dusk" / "masks" / "drive2" / f"{t:03d}_L.png", _folder(tmp_path / "film") / f"{t:06d}_L.png"
            )
    film.release()
    content = day2dusk(
        data__target__folder=..., data__target__train={"range": [0, 4]}, data__target__val={"range": [4, 8]}
    )
    content["data"]["target"] |= {"video": "dusk.avi", "labels": "film"}
    shift = write_yaml(tmp_path / "film.yaml", content)
    val = clips_of(shift, "target", "val", data_workspace)
    assert [val.key(i) for i in range(len(val))] == ["000004", "000006"] and (val.label(1) == scene(6 + 7)).all()
    before = identity_of(load_shift(shift), "target", "val", 0, data_workspace)
    shutil.move(tmp_path / "dusk.avi", _folder(tmp_path / "elsewhere") / "dusk.avi")
    content["data"]["target"]["video"] = "elsewhere/dusk.avi"
    assert (
        identity_of(load_shift(write_yaml(tmp_path / "moved.yaml", content)), "target", "val", 0, data_workspace)
        == before
    )


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


# What a shift and a split are known by --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(HASHES))
def test_hashes_of_earlier_shifts_have_not_moved(name: str) -> None:
    assert load_shift(name).hash == HASHES[name]


def test_where_things_lie_is_no_part_of_a_shift(shift: str, tmp_path: Path) -> None:
    unchanged = load_shift(shift).hash
    moved = day2dusk(data__target__folder="/mnt/elsewhere", data__source__labels="x/y", data__target__labels="z")
    assert load_shift(write_yaml(tmp_path / "moved.yaml", moved)).hash == unchanged
    for number, change in enumerate(
        (
            {"data__target__val": {"sequences": {"drive2": [3, 8]}}},
            {"data__source__colors__sky": [1, 2, 3]},
            {"data__target__alone": "drop"},
        )
    ):
        assert load_shift(write_yaml(tmp_path / f"other{number}.yaml", day2dusk(**change))).hash != unchanged


def test_other_pictures_in_the_same_place_are_told(
    data: Path, tmp_path: Path, shift: str, own_cache: Path, no_figures: None
) -> None:
    """The run's name is that of its configuration, so a finished one would be found again."""
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    workspace = Workspace(tmp_path / "runs", own_cache, data_root=copy)
    config = make_run_config("adabn", shift)
    first = run(config, workspace)
    assert first.data is not None and sorted(first.data) == ["source", "target-train", "target-val"]
    assert run(config, workspace) == first
    (copy / "dusk").rename(tmp_path / "away")  # what was listed is known still
    assert run(config, workspace) == first
    (tmp_path / "away").rename(copy / "dusk")
    write(copy / "dusk" / "images" / "drive1" / "003.png", np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(UsageError, match=r"was made with other data \(target-train\); --force makes it anew"):
        run(config, workspace)
    assert (
        run(config, Workspace(tmp_path / "runs", tmp_path / "bare")) == first
    )  # nothing to compare with: the record stands


# Who may see what -----------------------------------------------------------------------------------------------------

CLOSED = {
    "labels of training pictures": "dusk/masks/drive2/000_L.png",
    "labels of validation pictures": "dusk/masks/drive2/004_L.png",
    "validation pictures, in the folder of the training ones": "dusk/images/drive2/004.png",
    "pictures of the source": "day/images/drive1/000.png",
    "labels of the source": "day/masks/drive1/000_L.png",
}


@pytest.mark.parametrize("what", sorted(CLOSED))
def test_what_a_source_free_method_may_not_see(
    what: str, shift: str, data_workspace: Workspace, data: Path, fake_method: Callable[..., str]
) -> None:
    name = fake_method(losses=f"open({str(data / CLOSED[what])!r}, 'rb').read()")
    with pytest.raises(AccessError, match="is closed in this stage of a run"):
        run(make_run_config(name, shift), data_workspace)


@pytest.mark.parametrize("file", ["dusk/images/drive1/000.png", "dusk/images/drive2/001.png"])
def test_training_pictures_are_open(
    file: str, shift: str, data_workspace: Workspace, data: Path, fake_method: Callable[..., str], no_figures: None
) -> None:
    config = make_run_config(fake_method(losses=f"open({str(data / file)!r}, 'rb').read()"), shift)
    assert run(config, data_workspace).cost.steps == config.protocol.adaptation.steps


def test_uda_sees_the_source_and_no_label_of_the_target(
    shift: str, data_workspace: Workspace, data: Path, fake_method: Callable[..., str], no_figures: None
) -> None:
    for file in ("day/images/drive1/000.png", "day/masks/drive1/000_L.png"):
        run(
            make_run_config(fake_method(losses=f"open({str(data / file)!r}, 'rb')", setting="UDA"), shift),
            data_workspace,
        )
    for kind in ("labels of training pictures", "labels of validation pictures"):
        name = fake_method(losses=f"open({str(data / CLOSED[kind])!r}, 'rb')", setting="UDA")
        with pytest.raises(AccessError):
            run(make_run_config(name, shift), data_workspace)


def test_a_source_free_method_runs_when_the_source_has_gone(
    shift: str, data: Path, tmp_path: Path, no_figures: None
) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    workspace = Workspace(tmp_path / "runs", tmp_path / "cache", data_root=copy)
    source_model(config := make_run_config("adabn", shift), config.protocol, workspace)
    shutil.rmtree(copy / "day")
    assert run(config, workspace).result.miou >= 0
    with pytest.raises(RunError, match=r"data.source.folder is not there"):
        run(make_run_config("fda", shift), workspace)


def test_runs_and_cache_do_not_lie_among_the_pictures(shift: str, data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    workspace = Workspace(copy / "dusk" / "images" / "runs", tmp_path / "cache", data_root=copy)
    with pytest.raises(RunError, match=r"\(the runs\) lies in the pictures' folder"):
        run(make_run_config("adabn", shift), workspace)


# The shifts of this repository, and streams ----------------------------------------------------------------------------


def test_every_shift_of_this_repository_validates() -> None:
    assert {load_shift(name).name for name in shift_names()} == set(shift_names())


def test_a_stream_of_two_drives_starts_anew_with_the_second(
    data: Path, data_workspace: Workspace, tmp_path: Path, no_figures: None
) -> None:
    """Boxed; labels have the files' own size, which the network's frames have not."""
    changes = {"data__target__height": 32, "data__target__width": 48, "evaluation__own_size": True}
    drives = {"val": {"sequences": {"drive1": [0, 1], "drive2": [2, 8]}}, "train": {"sequences": {"drive1": [1, 8]}}}
    changes |= {f"data__target__{name}": split for name, split in drives.items()}
    shift = write_yaml(tmp_path / "yaml" / "drives.yaml", day2dusk(**changes))
    predictions = {}
    for name, options in (("adabn", {}), ("tent", {"reset": "never"}), ("tent", {"reset": "sequence"})):
        rate = {"rate": 3000.0} if name == "tent" else {}
        record = run(make_run_config(name, shift, options={**options, **rate}, mode="stream"), data_workspace)
        files = sorted((data_workspace.runs / record.run / "online").iterdir())
        predictions[(name, *options.values())] = {path.name: path.read_bytes() for path in files}
        assert record.cost.frames == 4
    start, never, anew = predictions[("adabn",)], predictions["tent", "never"], predictions["tent", "sequence"]
    assert list(start) == [f"{n:06d}{end}.png" for n in range(4) for end in ("-current", "-previous", "")]
    assert never["000001.png"] != anew["000001.png"] == start["000001.png"]
    assert anew["000003.png"] not in (never["000003.png"], start["000003.png"])
