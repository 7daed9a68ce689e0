"""`bench adapt` and `bench predict` into folders that hold other files: none of a user's is lost, no old result stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench import cli
from bench.core import box, files
from bench.core.errors import RunError
from bench.networks.weights import load_tensors, save_tensors

RNG = np.random.default_rng(3)


def call(command: str, model: Path, frames: Path, out: Path | str, *options: Any) -> Any:
    arguments = ["--checkpoint", model, "--frames", frames, "--out", out, "--threads", 1, *options]
    return CliRunner().invoke(cli.app, [command, *map(str, arguments)])


def adapt(model: Path, frames: Path, out: Path | str, *options: Any) -> Any:
    return call("adapt", model, frames, out, "--method", "adabn", "--steps", 1, "--batch", 1, "--workers", 0, *options)


def project(folder: Path, pictures: int = 3) -> Path:
    """A user's project: pictures, labels, notes."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for k in range(pictures):
        noise = RNG.integers(0, 255, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"img{k}.png")
        Image.fromarray(np.where(noise[..., 0] % 2, np.uint8(26), np.uint8(7))).save(folder / "labels" / f"img{k}.png")
    (folder / "notes.txt").write_text("a week's work")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default cache and runs lie in the working folder."""
    (tmp_path / "cwd").mkdir()
    for name in ("BENCH_CACHE", "BENCH_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("{p}", "contains the footage"),
        ("{p}/images", "is the footage"),
        ("{p}/images/out", "lies in the footage"),
        (".", "contains the cache"),
        ("cache/out", "lies in the cache"),
        ("runs", "is the runs"),
    ],
)
@pytest.mark.parametrize("command", ["adapt", "predict"])
def test_an_out_that_harms_what_is_read_is_refused_before_work(
    command: str, out: str, says: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.footage.adapt.load", lambda *_: pytest.fail("work was begun"))
    proj = project(tmp_path / "proj")
    before = content(tmp_path)
    result = call(command, model, proj / "images", out.format(p=proj), *(["--force"] if command == "adapt" else []))
    assert result.exit_code == 2 and says in result.stderr and len(result.stderr.splitlines()) == 1
    assert content(tmp_path) == before


@pytest.mark.parametrize("command", [adapt, lambda *arguments: call("predict", *arguments)])
def test_a_file_of_the_users_in_the_way_is_named_before_work(command: Any, model: Path, tmp_path: Path) -> None:
    """`--out` into a folder whose `labels/` has the names of the masks."""
    proj, out = project(tmp_path / "proj"), tmp_path / "out"
    (out / "labels").mkdir(parents=True)
    shutil.copy(proj / "labels" / "img1.png", out / "labels" / "img1_pred_labelIds.png")
    before = content(tmp_path)
    result = command(model, proj / "images", out)
    assert result.exit_code == 2 and "out/labels/img1_pred_labelIds.png was not written by `bench" in result.stderr
    after = content(tmp_path)
    assert {name: data for name, data in after.items() if not Path(name).name.startswith(".")} == before


def test_force_removes_what_it_wrote_and_nothing_else(model: Path, tmp_path: Path) -> None:
    proj, out = project(tmp_path / "proj"), tmp_path / "out"
    (out / "labels").mkdir(parents=True)
    (out / "mine.txt").write_text("mine")
    (out / "labels" / "by hand.png").write_bytes(b"mine")
    assert adapt(model, proj / "images", out).exit_code == 0
    refused = adapt(model, proj / "images", out, "--seed", 1)
    assert refused.exit_code == 2 and "holds another adaptation" in refused.stderr
    assert adapt(model, proj / "images", out, "--seed", 1, "--force", "--no-masks").exit_code == 0
    names = {name for name in content(out) if not name.startswith(".")} - {"metrics.jsonl"}  # adabn has no losses
    assert names == {"adapt.yaml", "labels/by hand.png", "mine.txt", "model.safetensors"}
    assert (out / "mine.txt").read_text() == "mine" and "seed: 1" in (out / "adapt.yaml").read_text()


def test_an_edited_mask_is_kept(model: Path, tmp_path: Path) -> None:
    proj, out = project(tmp_path / "proj"), tmp_path / "out"
    assert call("predict", model, proj / "images", out).exit_code == 0
    mask = out / "labels" / "img0_pred_labelIds.png"
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(mask)
    edited = mask.read_bytes()
    repeated = call("predict", model, proj / "images", out)
    assert (
        repeated.exit_code == 2
        and "img0_pred_labelIds.png was not written by `bench predict`, or was changed" in repeated.stderr
    )
    assert mask.read_bytes() == edited and len(list((out / "labels").iterdir())) == 3


def test_old_masks_do_not_stay(model: Path, tmp_path: Path) -> None:
    """Three pictures first, then two others into the same folder."""
    first, second, out = project(tmp_path / "a"), project(tmp_path / "b", 2), tmp_path / "out"
    assert call("predict", model, first / "images", out, "--video", "gif").exit_code == 0
    (out / "labels" / "notes.txt").write_text("mine")
    old = (out / "labels" / "img0_pred_labelIds.png").read_bytes()
    (second / "images" / "img1.png").rename(second / "images" / "img7.png")
    assert call("predict", model, second / "images", out).exit_code == 0
    assert {p.name for p in (out / "labels").iterdir()} == {
        "img0_pred_labelIds.png", "img7_pred_labelIds.png", "notes.txt",
    }  # fmt: skip
    assert {p.name for p in (out / "overlays").iterdir()} == {"img0.png", "img7.png"} and not list(out.glob("*.gif"))
    assert (out / "labels" / "img0_pred_labelIds.png").read_bytes() != old


def test_other_footage_of_equal_size_is_other_footage(model: Path, tmp_path: Path) -> None:
    proj, out = project(tmp_path / "proj"), tmp_path / "out"
    assert adapt(model, proj / "images", out, "--no-masks").exit_code == 0
    repeated = adapt(model, proj / "images", out, "--no-masks")
    assert repeated.exit_code == 0  # found again
    picture = proj / "images" / "img1.png"
    stamp = picture.stat()
    pixels = np.asarray(Image.open(picture)).copy()
    pixels[5, 5] ^= 1
    Image.fromarray(pixels).save(picture)
    os.utime(picture, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # time stamps say nothing
    changed = adapt(model, proj / "images", out, "--no-masks")
    assert changed.exit_code == 2 and "holds another adaptation" in changed.stderr
    pixels[5, 5] ^= 1
    (proj / "images").rename(tmp_path / "moved")
    Image.fromarray(pixels).save(tmp_path / "moved" / "img1.png")
    assert adapt(model, tmp_path / "moved", out, "--no-masks").exit_code == 0  # the same content elsewhere
    text = (out / "adapt.yaml").read_text()
    assert str(tmp_path) not in text and "content: " in text


def test_a_model_of_other_weights_is_another_model(model: Path, tmp_path: Path) -> None:
    proj, out = project(tmp_path / "proj"), tmp_path / "out"
    copy = tmp_path / "model.safetensors"
    shutil.copy(model, copy)
    assert adapt(copy, proj / "images", out, "--no-masks").exit_code == 0
    tensors, meta = load_tensors(model)
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    tensors[name] = tensors[name] + 0.5
    save_tensors(copy, tensors, meta)
    changed = adapt(copy, proj / "images", out, "--no-masks")
    assert changed.exit_code == 2 and "holds another adaptation" in changed.stderr


def test_a_killed_prediction_goes_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proj, out = project(tmp_path / "proj"), tmp_path / "out"
    with monkeypatch.context() as patch:

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("bench.footage.export._tell", stop)
        assert call("predict", model, proj / "images", out).exit_code == 1
    assert content(out) == {}  # all masks were there but for the file that says so
    assert call("predict", model, proj / "images", out).exit_code == 0
    assert json.loads((out / "predict.json").read_text())["label maps"] == 3


@pytest.mark.parametrize("command", ["predict", "adapt"])
def test_a_refused_or_failed_command_leaves_the_earlier_result(
    command: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the user's is in the way of a new mask; a picture is cut short; the disk is full at the end."""
    proj, out = project(tmp_path / "proj"), tmp_path / "out"
    again = call if command == "predict" else lambda _, *arguments: adapt(*arguments, "--force")
    assert again(command, model, proj / "images", out).exit_code == 0
    before, new = content(out), proj / "images" / "img3.png"
    shutil.copy(proj / "images" / "img1.png", new)
    (mine := out / "labels" / "img3_pred_labelIds.png").write_text("mine")
    refused = again(command, model, proj / "images", out)
    assert refused.exit_code == 2 and "img3_pred_labelIds.png was not written by" in refused.stderr
    mine.unlink()
    assert content(out) == before
    new.write_bytes(new.read_bytes()[:-500])  # the header is fine
    failed = again(command, model, proj / "images", out)
    assert failed.exit_code == 1 and "img3.png: is truncated" in failed.stderr and content(out) == before
    new.unlink()
    if command == "predict":

        def full(*_: object) -> None:
            raise RunError("the disk is full")

        monkeypatch.setattr("bench.footage.export._tell", full)
        assert again(command, model, proj / "images", out, "--video", "gif").exit_code == 1 and content(out) == before


def test_a_prediction_killed_at_work_leaves_the_earlier_one_and_is_cleared_by_the_next(
    model: Path, tmp_path: Path
) -> None:
    proj, out = project(tmp_path / "proj"), tmp_path / "out"
    assert call("predict", model, proj / "images", out).exit_code == 0
    before = content(out)
    code = (
        "import os, sys; import bench.footage.export as e; from bench import cli; e._tell = lambda *_: os.kill(os.getpid(), 9); "
        "cli.app(sys.argv[1:])"
    )
    arguments = ["--checkpoint", model, "--frames", proj / "images", "--out", out, "--threads", 1]
    killed = subprocess.run([sys.executable, "-c", code, "predict", *map(str, arguments)], check=False)
    left = content(out)
    assert killed.returncode == -9 and {name: left[name] for name in before} == before
    assert any(name.startswith(".predict.bench-") for name in left)
    files._cleared.discard(out.resolve())
    assert call("predict", model, proj / "images", out).exit_code == 0
    assert set(content(out)) == set(before)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (
            "fusion=none",
            "Unknown option 'fusion' for method 'stpl' on your own footage, where fusion, network and weights are",
        ),
        ("temperatur=1", "Unknown option 'temperatur' for method 'stpl'. Did you mean 'temperature'?"),
        ("temperature=99", "temperature must be in 0.01..10, got 99"),
    ],
)
def test_an_option_that_an_adaptation_does_not_take_is_said_before_a_folder_is_made(
    option: str, says: str, model: Path, tmp_path: Path
) -> None:
    project(tmp_path / "mine")
    result = adapt(model, tmp_path / "mine" / "images", tmp_path / "out", "--method", "stpl", "-o", option)
    assert result.exit_code == 2 and says in result.stderr, result.output
    assert ", fusion" not in result.stderr and not (tmp_path / "out").exists()


@pytest.mark.skipif(not box.available(), reason="no Landlock here")
@pytest.mark.parametrize("where", ["the output", "a picture"])
def test_a_name_that_cannot_be_handed_to_a_child_is_refused_before_work(
    where: str, model: Path, tmp_path: Path
) -> None:
    """A folder from a disk of another system; `bench predict` needs no child and takes it."""
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    proj, out = project((odd if where == "a picture" else tmp_path) / "proj"), tmp_path / "out"
    out = odd / "out" if where == "the output" else out
    refused = adapt(model, proj / "images", out)
    assert refused.exit_code == 2 and not content(out)
    assert "\\udce9" in refused.stderr and "is no text in utf-8; rename the file or folder" in refused.stderr
    predicted = call("predict", model, proj / "images", out)
    assert predicted.exit_code == 0, predicted.output
