"""Predictions as files: the official evaluator's scores, own footage, and adaptation to it without source data or labels."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from cityscapesscripts.helpers.labels import name2label
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from bench import cli
from bench.cli._footage import closing
from bench.core.errors import UsageError
from bench.core.registry import ROOT
from bench.core.workspace import Workspace
from bench.data.fixtures import Tree
from bench.data.label_maps import named_space
from bench.footage.adapt import adapt_video, schedule
from bench.footage.export import _scores
from bench.networks.model_file import read_info
from bench.networks.weights import load_tensors
from bench.runs.config import RunConfig, make_run_config
from bench.runs.records import Record, read_record
from bench.runs.run import run

CPU = torch.device("cpu")
SPACE = "viper2cityscapes"


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory, trees: dict[str, Tree]) -> tuple[Path, Record, Workspace, str]:
    """A finished run on the small Cityscapes-Seq: its folder, record, workspace and shift file."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("real run")
    content = yaml.safe_load((ROOT / "shifts" / f"{SPACE}.yaml").read_text(encoding="utf-8"))
    content["data"]["source"] |= {"height": 72, "width": 128}
    content["data"]["target"] |= {"height": 64, "width": 128}
    content["evaluation"] |= {"height": 128, "width": 256}
    shift = folder / "shift.yaml"
    shift.write_text(yaml.safe_dump(content), encoding="utf-8")
    config = make_run_config("self_training", str(shift), 0, {"network": "mini", "flow": "dis"}, steps=12)
    workspace = Workspace(folder / "runs", folder / "cache", CPU, data_root=trees["viper"].root.parent)
    record = run(config, workspace)
    return workspace.runs / config.hash, record, workspace, str(shift)


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def test_the_record_says_which_flow_it_was(real_run: tuple[Path, Record, Workspace, str]) -> None:
    assert read_record(real_run[0] / "record.json").flow == "dis-medium"
    assert '"flow": "dis-medium"' in real_run[1].to_json()


# The official evaluator -----------------------------------------------------------------------------------------------


def official_truth(tree: Tree, folder: Path) -> list[Path]:
    """Ground truth as the shift means it: riders are persons; classes that are not in the shift are unlabeled.

    The official evaluator scores 19 classes. Its IoU of a class leaves out pixels whose truth is an ignored label, but counts
    a wrong prediction on a wall or a pole as a false positive, and a rider that is called a person as one too. The protocol of
    the shift (published code) maps labels first: that is done here to the files, and nothing else.
    """
    scored = {name2label[name].id for name in ("traffic light", "traffic sign")}
    scored |= {name2label[name].id for name in named_space(SPACE).classes if name in name2label}
    paths = []
    for file in sorted((tree.root / "gtFine" / "val").rglob("*_gtFine_labelIds.png")):
        raw = np.asarray(Image.open(file)).copy()
        raw[raw == name2label["rider"].id] = name2label["person"].id
        raw[~np.isin(raw, sorted(scored))] = 0
        Image.fromarray(raw).save(folder / file.name)
        paths.append(folder / file.name)
    return paths


def test_the_official_evaluator_gives_our_scores(
    real_run: tuple[Path, Record, Workspace, str], trees: dict[str, Tree], tmp_path: Path
) -> None:
    folder, record, workspace, shift = real_run
    out = tmp_path / "predictions"
    result = call(
        "predict", "--checkpoint", folder, "--shift", shift, "--out", out, "--data-root", workspace.data_root,
        "--cache", workspace.cache, "--threads", 1, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (tmp_path / "truth").mkdir()
    truth = official_truth(trees["cityscapes_seq"], tmp_path / "truth")
    arguments = Namespace(**vars(official.args))
    arguments.predictionPath, arguments.predictionWalk, arguments.quiet = str(out / "labels"), None, True
    arguments.evalInstLevelScore = arguments.evalPixelAccuracy = False
    arguments.JSONOutput = False
    arguments.evalLabels = []
    predictions = [official.getPrediction(arguments, str(file)) for file in truth]
    scores = official.evaluateImgLists(predictions, [str(file) for file in truth], arguments)["classScores"]
    names = {"light": "traffic light", "sign": "traffic sign"}
    compared = 0
    for name, iou in record.result.iou.items():
        official_iou = scores[names.get(name, name)]
        if iou is None:
            assert math.isnan(official_iou)
        else:
            assert iou / 100 == pytest.approx(official_iou, abs=1e-9), name
            compared += 1
    assert compared >= 8
    official_ious = [scores[names.get(name, name)] for name in record.result.iou]
    assert record.result.miou / 100 == pytest.approx(float(np.nanmean(official_ious)), abs=1e-9)


def test_every_picture_of_the_split_has_one_label_map_of_the_labels_size(
    real_run: tuple[Path, Record, Workspace, str], tmp_path: Path
) -> None:
    folder, _, workspace, _ = real_run
    arguments = [
        "predict",
        "--checkpoint",
        folder,
        "--out",
        tmp_path,
        "--data-root",
        workspace.data_root,
        "--threads",
        1,
    ]
    assert call(*arguments, "--cache", workspace.cache, "--video", "mp4").exit_code == 0
    maps, overlays = sorted((tmp_path / "labels").iterdir()), sorted((tmp_path / "overlays").iterdir())
    assert len(maps) == len(overlays) == 3 and {Image.open(file).size for file in maps} == {(256, 128)}
    ids = set(np.unique(np.asarray(Image.open(maps[0]))))
    assert ids <= {
        name2label[n].id for n in ("road", "sidewalk", "building", "fence", "vegetation", "terrain", "sky")
    } | {
        name2label[n].id
        for n in ("traffic light", "traffic sign", "person", "car", "truck", "bus", "motorcycle", "bicycle")
    }
    about = json.loads((tmp_path / "predict.json").read_text())
    assert about["label maps"] == 3 and about["films"] == len(list(tmp_path.glob("*.mp4")))
    assert str(workspace.data_root) not in json.dumps(about)


# Own footage ----------------------------------------------------------------------------------------------------------


def test_a_plain_folder_is_predicted_in_natural_order(model: Path, trees: dict[str, Tree], tmp_path: Path) -> None:
    images = shutil.copytree(trees["frames"].root / "images" / "north", tmp_path / "footage")
    out = tmp_path / "out"
    result = call("predict", "--checkpoint", model, "--frames", images, "--out", out, "--video", "gif", "--threads", 1)
    assert result.exit_code == 0, result.output
    for file in images.iterdir():  # masks are as large as their pictures
        mask = out / "labels" / f"{file.stem}_pred_labelIds.png"
        assert Image.open(mask).size == Image.open(file).size
    film = Image.open(out / "film.gif")
    assert film.n_frames == len(list(images.iterdir()))  # type: ignore[attr-defined]


def test_labels_of_ones_own_are_scored(model: Path, trees: dict[str, Tree], tmp_path: Path) -> None:
    """mIoU of the masks that were written against the labels as they lie there."""
    tree = trees["frames"]
    result = call("predict", "--checkpoint", model, "--frames", tree.root, "--out", tmp_path, "--threads", 1, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    label_id = {name2label[{"light": "traffic light", "sign": "traffic sign"}.get(n, n)].id: i
                for i, n in enumerate(named_space(SPACE).classes)}  # fmt: skip
    hits, either = np.zeros(15), np.zeros(15)
    for key in tree.raw:
        guess = np.vectorize(label_id.get)(np.asarray(Image.open(tmp_path / "labels" / f"{key}_pred_labelIds.png")))
        truth = tree.label(key, SPACE)
        for k in range(15):
            counted = truth != 255
            hits[k] += ((guess == k) & (truth == k) & counted).sum()
            either[k] += (((guess == k) | (truth == k)) & counted).sum()
    iou = hits[either > 0] / either[either > 0]
    assert report["labelled pictures"] == len(tree.raw) and report["mIoU"] == pytest.approx(100 * iou.mean(), abs=1e-9)
    assert report["IoU"] == pytest.approx(dict(zip(named_space(SPACE).classes, 100 * iou, strict=True)))
    assert report["without a labelled pixel"] == []
    assert json.loads((tmp_path / "predict.json").read_text())["IoU"] == report["IoU"]


def test_a_class_without_a_labelled_pixel_is_left_out_and_named() -> None:
    """Four pixels of road, one called a tree; four of sky, all right; no tree. Counted as 0 the tree would make 58.3 of 87.5."""
    scores = _scores(torch.tensor([[3, 0, 1], [0, 4, 0], [0, 0, 0]]), ("road", "sky", "tree"))
    assert scores["IoU"] == {"road": pytest.approx(75), "sky": pytest.approx(100)} and scores["mIoU"] == pytest.approx(
        87.5
    )
    assert scores["pixel accuracy"] == pytest.approx(87.5) and scores["without a labelled pixel"] == ["tree"]
    console = Console(file=io.StringIO(), width=80)
    console.print(closing({"mIoU": scores["mIoU"], **scores}))
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "without a labelled pixel, so not in the mean: tree" in output and re.search(r"road +75\.0", output)


# Adaptation -----------------------------------------------------------------------------------------------------------


def adapted(model: Path, frames: Path, out: Path, method: str = "stpl", **changes: Any) -> Path:
    workspace = Workspace(out.parent / "runs", out.parent / "cache", CPU, **changes)
    return adapt_video(model, frames, method, out, {}, schedule(4, 2, 5e-4), workspace)


def test_adaptation_gives_a_model_file_and_masks(model: Path, trees: dict[str, Tree], tmp_path: Path) -> None:
    out = tmp_path / "adapted"
    arguments = [
        "adapt",
        "--checkpoint",
        model,
        "--frames",
        trees["frames"].root / "images",
        "--method",
        "stpl",
        "--out",
        out,
    ]
    arguments += ["--steps", 3, "--batch", 2, "--threads", 1, "--cache", tmp_path / "cache", "--json"]
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    before, after = load_tensors(model)[0], load_tensors(out / "model.safetensors")[0]
    assert before.keys() == after.keys() and any(not torch.equal(before[k], after[k]) for k in before)
    info = read_info(out / "model.safetensors")
    assert info.network == "mini" and info.origin["adapted_by"] == "stpl" and info.classes == named_space(SPACE).classes
    assert len(list((out / "labels").iterdir())) == 7 and not (out / "state").exists()
    assert "labelled pictures" not in json.loads(result.stdout)
    text = (out / "adapt.yaml").read_text()
    assert str(tmp_path) not in text and "images" not in text  # where things lie is nobody's business
    changed = out / "model.safetensors"
    stamp = changed.stat().st_mtime_ns
    assert call(*arguments).exit_code == 0 and changed.stat().st_mtime_ns == stamp  # found again


@pytest.mark.parametrize("method", ["adabn", "self_training", "ur", "hcl", "da_vsn_sf", "vat_vst_sf", "tps_sf"])
def test_every_source_free_method_adapts(method: str, model: Path, trees: dict[str, Tree], tmp_path: Path) -> None:
    tensors = load_tensors(adapted(model, trees["frames"].root / "images", tmp_path / "out", method))[0]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def test_a_killed_adaptation_ends_with_the_same_bits(
    model: Path, trees: dict[str, Tree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = trees["frames"].root / "images"
    expected = adapted(model, frames, tmp_path / "whole").read_bytes()
    monkeypatch.setattr("bench.runs.training.STATE_EVERY", 1)

    def stop(task: str, done: int, total: int) -> None:
        if task == "adapt" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapted(model, frames, tmp_path / "broken", progress=stop, unboxed=True)
    assert not (tmp_path / "broken" / "model.safetensors").exists()
    steps: list[int] = []

    def note(task: str, done: int, total: int) -> None:
        steps.append(done)

    path = adapted(model, frames, tmp_path / "broken", progress=note, unboxed=True)
    assert path.read_bytes() == expected and steps[-2:] == [3, 4] and steps.count(2) == 0


def test_labels_beside_the_pictures_are_closed_while_it_adapts(
    model: Path, trees: dict[str, Tree], tmp_path: Path, fake_method: Callable[..., str]
) -> None:
    from bench.core.errors import AccessError

    label = sorted((trees["frames"].root / "labels").rglob("*.png"))[0]
    name = fake_method(losses=f"open({str(label)!r}, 'rb').read()")
    with pytest.raises(AccessError):
        adapted(model, trees["frames"].root, tmp_path / "out", name)


@pytest.mark.parametrize(
    ("method", "says"), [("fda", "needs source data"), ("oracle", "needs more"), ("stlp", "Did you mean")]
)
def test_methods_that_need_more_are_refused(
    method: str, says: str, model: Path, trees: dict[str, Tree], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        adapted(model, trees["frames"].root / "images", tmp_path / "out", method)


def test_another_request_in_the_same_folder_is_refused(model: Path, trees: dict[str, Tree], tmp_path: Path) -> None:
    frames = trees["frames"].root / "images"
    adapted(model, frames, tmp_path / "out", "adabn")
    with pytest.raises(UsageError, match="holds another adaptation"):
        adapted(model, frames, tmp_path / "out", "self_training")
    adapted(model, frames, tmp_path / "out", "self_training", force=True)
    assert read_info(tmp_path / "out" / "model.safetensors").origin["adapted_by"] == "self_training"


def test_a_run_is_predicted_on_its_own_replicate_alone(
    real_run: tuple[Path, Record, Workspace, str], tmp_path: Path
) -> None:
    folder, _, workspace, _ = real_run
    arguments = (
        "predict",
        "--checkpoint",
        folder,
        "--data-root",
        workspace.data_root,
        "--cache",
        workspace.cache,
        "--threads",
        1,
    )
    result = call(*arguments, "--out", tmp_path / "a", "--seed", 4)
    assert result.exit_code == 2 and "The run is of replicate 0 of" in result.stderr and "got --seed 4" in result.stderr
    same = call(*arguments, "--out", tmp_path / "b", "--seed", 0)
    assert not (tmp_path / "a").exists() and same.exit_code == 0, same.output


# A given source model -------------------------------------------------------------------------------------------------


def config_of(path: Path, **options: Any) -> RunConfig:
    from bench.core.files import file_hash

    return make_run_config("adabn", "ministreet-tiny", 0, options, source_file=file_hash(path))


def test_a_run_may_start_from_a_model_file(model: Path, tiny_cache: Path, tmp_path: Path, no_figures: None) -> None:
    config = config_of(model)
    record = run(config, Workspace(tmp_path / "runs", tiny_cache, CPU, source_file=model))
    assert record.config.source_file == config.source_file and record.source_model == model.stem
    plain = make_run_config("adabn", "ministreet-tiny")
    assert plain.hash != config.hash and "source_file" not in plain.model_dump()


def test_another_model_than_the_configs_is_refused(model: Path, tiny_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give that file with --source-model"):
        run(config_of(model), Workspace(tmp_path / "runs", tiny_cache, CPU))
    with pytest.raises(UsageError, match="fusion is conv1x1, the run's is none"):
        run(config_of(model, fusion="none"), Workspace(tmp_path / "runs", tiny_cache, CPU, source_file=model))
    with pytest.raises(UsageError, match="num_frames is 2, the run's is 3; use -o frames="):
        run(config_of(model, frames=3), Workspace(tmp_path / "runs", tiny_cache, CPU, source_file=model))
