"""`bench shift new` and `bench shift check`, on pictures drawn here; `bench data check` of pictures that have checksums."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from bench import cli
from bench.core.registry import ROOT
from bench.runs.config import load_shift
from tests.bench.shifts.own import CLASSES, COLOURS, VOID, camvid_like, day2dusk, scene, write, write_yaml

REAL = ROOT.parent.parent / "shared" / "real"


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set and a list of its colours, as CamVid comes with one; not to be changed."""
    root = camvid_like(tmp_path_factory.mktemp("own"))
    lines = [f"{' '.join(map(str, colour))}\t{name}" for name, colour in (*COLOURS.items(), ("Void", VOID))]
    (root / "label_colors.txt").write_text("\n".join(lines) + "\n")
    return root


def new(data: Path, out: Path, *flags: str, **changes: Any) -> Any:
    options = {
        "out": out,
        "target": data / "dusk" / "images",
        "target-labels": data / "dusk" / "masks",
        "classes": data / "label_colors.txt",
        "source": data / "day" / "images",
        "source-labels": data / "day" / "masks",
    } | {key.replace("_", "-"): value for key, value in changes.items()}
    given = (x for key, value in options.items() if value is not None for x in (f"--{key}", value))
    return call("shift", "new", *given, *flags)


@pytest.fixture(scope="module")
def new_shift(data: Path) -> Path:
    out = data / "mine.yaml"
    result = new(data, out)
    assert result.exit_code == 0, result.output
    return out


# New ------------------------------------------------------------------------------------------------------------------


def test_a_new_shift_is_what_lies_there(new_shift: Path, data: Path) -> None:
    shift = load_shift(str(new_shift))
    assert shift.classes == CLASSES and shift.purpose == "private" and shift.name == "mine"
    side = shift.data.target
    assert (side.height, side.width) == (48, 64) and side.label_suffix == "_L.png"  # type: ignore[union-attr]
    content = yaml.safe_load(new_shift.read_text())
    assert content["data"]["target"]["folder"] == "dusk/images"  # beside the YAML
    assert content["data"]["target"]["train"] == {"sequences": {"drive1": [0, 5], "drive2": [0, 5]}}
    assert content["data"]["target"]["val"] == {"sequences": {"drive1": [5, 8], "drive2": [5, 8]}}
    assert content["data"]["source"]["colors"]["ignore"] == list(VOID)
    assert new_shift.read_text().count("#") > 8 and str(data) not in new_shift.read_text()


def test_it_runs(new_shift: Path, tmp_path: Path) -> None:
    common = ("--runs", tmp_path / "r", "--cache", tmp_path / "c", "--threads", 1)
    result = call("run", "-m", "adabn", "--shift", new_shift, "--steps", 2, "--json", *common)
    assert result.exit_code == 0, result.output
    assert tuple(sorted(json.loads(result.stdout)["result"]["iou"])) == tuple(sorted(CLASSES))


def test_a_model_file_as_source_has_groups(data: Path, tmp_path: Path) -> None:
    from bench.networks.build import build_segmenter
    from bench.networks.model_file import save_model

    model = tmp_path / "model.safetensors"
    save_model(model, build_segmenter("mini", "none", 3, 2), "mini", "none", 3, classes=("road", "car", "sky"))
    result = new(data, tmp_path / "sf.yaml", source=model, source_labels=None)
    assert result.exit_code == 0, result.output
    shift = load_shift(str(tmp_path / "sf.yaml"))
    assert shift.classes == ("road", "car", "sky") and shift.source_training is None
    assert shift.evaluation.groups["road"] == ("road",) and shift.evaluation.groups["pole"] == ()
    assert shift.data.source.sha256 == hashlib.sha256(model.read_bytes()).hexdigest()  # type: ignore[union-attr]
    assert shift.refuses("UDA") is not None and "always wrong: fill it in" in (tmp_path / "sf.yaml").read_text()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no target": ({"target": None}, "--target: missing; the folder of the target's pictures"),
    "no source labels": ({"source_labels": None}, "--source-labels: missing"),
    "a share of all": (
        {"val": "1.5"},
        "--val: the share of each sequence that is adapted to, above 0 and below 1, got '1.5'",
    ),
    "one class": ({"classes": "road"}, "--classes: names with commas"),
    "no folder": ({"target": "nowhere"}, "nowhere is no folder of pictures"),
    "not a YAML": ({"out": "mine.txt"}, "--out mine.txt: a shift is a .yaml file"),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_what_is_wrong_is_one_line(what: str, data: Path, tmp_path: Path) -> None:
    changes, says = WRONG[what]
    result = new(data, **({"out": tmp_path / "x.yaml"} | changes))
    assert result.exit_code == 2 and says in result.output and len(result.output.strip().splitlines()) == 1


def test_a_file_of_the_users_is_kept(new_shift: Path, data: Path) -> None:
    before = new_shift.read_text()
    result = new(data, new_shift)
    assert result.exit_code == 2 and "is there already" in result.output and new_shift.read_text() == before


@pytest.mark.parametrize("name", ["x.yaml", "a name.yaml"])
def test_a_refused_shift_replaces_and_leaves_no_file(name: str, data: Path, tmp_path: Path) -> None:
    result = new(data, tmp_path / name, classes="a,a" if name == "x.yaml" else data / "label_colors.txt")
    assert result.exit_code == 2 and f"Shift {name}: " in result.output and not list(tmp_path.iterdir())
    (tmp_path / name).write_text("a week's work")
    assert new(data, tmp_path / name, "--force", classes="a,a").exit_code == 2
    assert (tmp_path / name).read_text() == "a week's work"


def test_a_link_to_a_shift_stays_one(data: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.yaml").write_text("of another time")
    (tmp_path / "x.yaml").symlink_to("kept.yaml")
    assert new(data, tmp_path / "x.yaml", "--force").exit_code == 0 and (tmp_path / "x.yaml").is_symlink()
    assert load_shift(str(tmp_path / "x.yaml")).name == "x" and "name: x" in (tmp_path / "kept.yaml").read_text()


# Check ----------------------------------------------------------------------------------------------------------------


def test_check_says_what_it_found(new_shift: Path, data: Path, tmp_path: Path) -> None:
    """Of the source all ten frames are labelled; a sequence of the target has one frame without predecessor in each part."""
    sheet = tmp_path / "sheet.png"
    result = call("shift", "check", new_shift, "--out", sheet, "--cache", tmp_path / "c", "--json")
    assert result.exit_code == 0, result.output
    reports = {(r["dataset"], r["split"]): r for r in json.loads(result.stdout)["reports"]}
    source = reports["source (source)", "train"]
    ids = np.stack([scene(k + 7) for k in (*range(6), *range(4))])
    assert source["pixels"] == {name: int((ids == k).sum()) for k, name in enumerate(CLASSES)}
    assert source["clips"] == 10 and source["alone"] == 2
    assert reports["target (target)", "val"]["alone"] == 2 and reports["target (target)", "val"]["wrong"] == 0
    with Image.open(sheet) as picture:
        assert picture.width > 4 * 240 and picture.height > 3 * 180
    output = call("shift", "check", new_shift, "--cache", tmp_path / "c").output
    share = 100 * source["pixels"]["sky"] / sum(source["pixels"].values())
    assert f"labelled pixels, %: sky {share:.1f}" in output and "2 of 10 clips have no predecessor" in output


def test_a_damaged_picture_is_named(new_shift: Path, data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    broken = copy / "dusk" / "images" / "drive2" / "003.png"
    broken.write_bytes(broken.read_bytes()[:100])
    result = call("shift", "check", copy / "mine.yaml", "--out", tmp_path / "s.png", "--cache", tmp_path / "c")
    assert result.exit_code == 1 and "drive2/003.png" in result.output and not (tmp_path / "s.png").exists()


def test_a_rendered_shift_has_nothing_to_check() -> None:
    result = call("shift", "check", "ministreet-tiny")
    assert result.exit_code == 2 and "it is rendered when first needed" in result.output


def test_data_check_compares_with_the_checksums(data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {kind}/{path.relative_to(copy / 'dusk' / folder).as_posix()}"
        for kind, folder in (("images", "images"), ("labels", "masks"))
        for path in sorted((copy / "dusk" / folder).rglob("*.png"))
    ]
    (copy / "sums").write_text("\n".join(lines) + "\n")
    shift = write_yaml(copy / "summed.yaml", day2dusk(data__target__checksums="sums"))
    arguments = ("data", "check", shift, "--root", copy, "--cache", tmp_path / "c")
    good = call(*arguments)
    assert good.exit_code == 0 and f"were compared with {len(lines)} checksums" in good.output, good.output
    table = np.array([*COLOURS.values(), VOID], np.uint8)
    write(copy / "dusk" / "masks" / "drive2" / "004_L.png", table[np.zeros((48, 64), int)])
    bad = call(*arguments)
    assert bad.exit_code == 1 and "drive2/004_L.png: is not the shift's file of this name" in bad.output


# The real camera ------------------------------------------------------------------------------------------------------

needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the drive and the weights are not in ../shared/real")


@needs_real
def test_the_drive_and_the_weights_are_those_of_the_shift(tmp_path: Path) -> None:
    result = call("data", "check", "cityscapes2camvid", "--root", REAL, "--cache", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    reports = {r["split"]: r for r in json.loads(result.stdout)["reports"]}
    assert [reports[s]["clips"] for s in ("train", "val", "transductive")] == [61, 40, 101]
    assert all(count > 0 for s in ("train", "val") for count in reports[s]["pixels"].values())  # eleven classes in both


def test_the_real_shift_keeps_its_protocol() -> None:
    """Its hash stands in every record of it."""
    shift = load_shift("cityscapes2camvid")
    assert shift.hash == "50eaf738ed49" and len(shift.score_classes) - len(shift.unscored) == 11
    sums = (ROOT / "shifts" / "cityscapes2camvid.sha256").read_text().splitlines()
    assert len(sums) == 2 * 101
