"""A user's pictures: damaged ones left out, remarks, the size that the network works at; masks with a user's ids and colours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import bench.networks.zoo
from bench import cli
from bench.core.errors import BadFile, RunError
from bench.core.workspace import Workspace
from bench.data.label_maps import named_space
from bench.footage.masks import legend_of
from bench.footage.pictures import look_through, open_footage
from bench.networks.build import build_segmenter
from bench.networks.model_file import save_model

RNG = np.random.default_rng(5)
CLASSES = named_space("viper2cityscapes").classes
SIZE = (48, 64)


def call(command: str, model: Path, frames: Path, out: Path, *options: Any) -> Any:
    arguments = [
        "--checkpoint",
        model,
        "--frames",
        frames,
        "--out",
        out,
        "--threads",
        1,
        "--cache",
        out.parent / "cache",
        *options,
    ]
    result = CliRunner().invoke(cli.app, [command, *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def pictures(folder: Path, names: list[str], size: tuple[int, int] = SIZE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(RNG.integers(0, 255, (*size, 3)).astype(np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "runs", tmp_path / "cache", torch.device("cpu"))


# Left out -------------------------------------------------------------------------------------------------------------


def test_a_damaged_picture_is_as_if_it_were_not_there(model: Path, tmp_path: Path) -> None:
    """No mask, no score, named; the others have the masks and the score that they have without it."""
    names = [f"img{k}.png" for k in range(4)]
    damaged, sound = pictures(tmp_path / "damaged" / "v", names), tmp_path / "sound" / "v"
    sound.mkdir(parents=True)
    for name in names:
        for folder in (damaged, sound):
            (folder.parent / "l").mkdir(exist_ok=True)
            (folder / name).write_bytes((damaged / name).read_bytes())
            labels = np.random.default_rng(int(name[3])).choice([7, 26], SIZE).astype(np.uint8)
            Image.fromarray(labels).save(folder.parent / "l" / name)
            (folder.parent / "frames.yaml").write_text("folder: v\nlabels: l\nids: {7: road, 26: car}\n")
    (damaged / "img1.png").write_bytes((damaged / "img1.png").read_bytes()[:-500])  # the header is fine
    (sound / "img1.png").unlink()
    expected = json.loads(call("predict", model, sound.parent, tmp_path / "o1", "--json").stdout)
    result = call("predict", model, damaged.parent, tmp_path / "o2", "--json", "--skip-bad")
    report = json.loads(result.stdout)
    masks = {p.name: p.read_bytes() for p in (tmp_path / "o2" / "labels").iterdir()}
    assert masks == {p.name: p.read_bytes() for p in (tmp_path / "o1" / "labels").iterdir()} and len(masks) == 3
    assert report["label maps"] == report["labelled pictures"] == 3 and report["mIoU"] == expected["mIoU"]
    assert list(report["left out"]) == ["v/img1.png"] and report["skipped"] == 1
    assert "is truncated" in report["left out"]["v/img1.png"] and str(tmp_path) not in json.dumps(report["left out"])
    assert f"bench: left out {damaged / 'img1.png'}: is truncated" in result.stderr


def test_a_label_that_cannot_be_read_is_left_out_of_the_score(model: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "v", ["img0.png", "img1.png"])
    (tmp_path / "l").mkdir()
    for name in ("img0.png", "img1.png"):
        Image.fromarray(RNG.choice([7, 26], SIZE).astype(np.uint8)).save(tmp_path / "l" / name)
    (tmp_path / "l" / "img1.png").write_bytes(b"\x89PNG")
    (tmp_path / "frames.yaml").write_text("folder: v\nlabels: l\nids: {7: road, 26: car}\n")
    report = json.loads(call("predict", model, tmp_path, tmp_path / "out", "--json", "--skip-bad").stdout)
    assert report["label maps"] == 2 and report["labelled pictures"] == 1
    assert list(report["left out"]) == ["img1 (its label)"]


def test_of_pictures_of_several_sizes_the_odd_one_is_named_and_left_out_alone(model: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "v", ["img0.png", "img2.png"], (64, 96))
    pictures(folder, ["img1.png"], (128, 96))
    with pytest.raises(
        AssertionError, match=r"img1\.png: is 96x128 pixels, expected 96x64 as most of its sequence have"
    ):
        call("predict", model, folder, tmp_path / "out")
    result = call("predict", model, folder, tmp_path / "out", "--skip-bad", "--json")
    assert list(json.loads(result.stdout)["left out"]) == ["img1.png"] and "skipped clip" not in result.stderr
    masks = sorted((tmp_path / "out" / "labels").iterdir())
    assert [Image.open(mask).size for mask in masks] == [(96, 64)] * 2


def test_pictures_that_no_clip_joins_may_have_any_size(tmp_path: Path, workspace: Workspace) -> None:
    """Single photographs; and a film whose size changes once loses one picture, not half of them."""
    folder = pictures(tmp_path / "photos", ["img0.png"], (64, 96))
    pictures(folder, ["img20.png", "img21.png", "img22.png"], (128, 96))
    assert not open_footage(folder, None, "mini", workspace).left_out
    film = pictures(tmp_path / "film", ["img0.png", "img1.png", "img2.png"], (64, 96))
    pictures(film, ["img3.png", "img4.png"], (128, 96))
    with pytest.raises(BadFile, match=r"img3\.png: is 96x128 pixels, expected 96x64"):
        open_footage(film, None, "mini", workspace)
    footage = open_footage(film, None, "mini", replace(workspace, skip_bad=True))
    assert list(footage.left_out) == ["img3.png"] and len(footage.store) == 4


def test_without_skip_bad_it_is_an_error_before_work(tmp_path: Path, workspace: Workspace) -> None:
    folder = pictures(tmp_path / "v", ["a1.png", "a2.png"])
    (folder / "a2.png").write_bytes(b"<html>")
    with pytest.raises(BadFile, match=r"a2\.png: is not a PNG or JPEG picture"):
        open_footage(folder, None, "mini", workspace)
    for name in ("a1.png", "a2.png"):
        (folder / name).write_bytes(b"")
    with pytest.raises(RunError, match="none of its 2 pictures can be read"):
        open_footage(folder, None, "mini", Workspace(tmp_path, tmp_path / "cache", skip_bad=True))


# Said -----------------------------------------------------------------------------------------------------------------


def test_what_is_odd_is_said_once_with_counts(
    tmp_path: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "v", ["img1.png", "img2.jpg", "img11.png"])
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(folder / "img1.png").save(folder / "img1.png", exif=exif)
    Image.open(folder / "img11.png").convert("RGBA").save(folder / "img11.png")
    open_footage(folder, None, "mini", workspace)
    assert capsys.readouterr().err.splitlines() == [
        "bench: the pictures are of several kinds, all are read: 1 .jpg, 2 .png",
        "bench: the numbering has 1 gap, e.g. img2.jpg to img11.png; pictures on the two sides are not taken as consecutive "
        "(across_gaps: true in a frames.yaml does)",
        "bench: 1 of 3 pictures have an EXIF orientation: they are turned upright",
        "bench: 1 of 3 pictures have an alpha channel: it is dropped",
    ]


def test_palettes_and_several_images_are_counted(tmp_path: Path) -> None:
    folder = pictures(tmp_path, ["a.png", "b.png"])
    Image.open(folder / "a.png").quantize(16).save(folder / "a.png")
    two = [Image.open(folder / "b.png"), Image.fromarray(RNG.integers(0, 255, (*SIZE, 3)).astype(np.uint8))]
    two[0].save(folder / "c.tif", save_all=True, append_images=two[1:])
    survey = look_through(folder, ["a.png", "b.png", "c.tif"])
    assert (survey.palette, survey.several, survey.turned, survey.alpha) == (1, 1, 0, 0) and not survey.bad
    assert len(set(survey.digests.values())) == 3 and all(len(digest) == 64 for digest in survey.digests.values())


def test_content_is_names_order_and_bytes(tmp_path: Path, workspace: Workspace) -> None:
    folder = pictures(tmp_path / "a", ["x1.png", "x2.png"])
    first = open_footage(folder, None, "mini", workspace).content
    (tmp_path / "b").mkdir()
    for name in ("x1.png", "x2.png"):
        (tmp_path / "b" / name).write_bytes((folder / name).read_bytes())
    assert open_footage(tmp_path / "b", None, "mini", workspace).content == first
    (tmp_path / "b" / "x1.png").write_bytes((folder / "x2.png").read_bytes())
    (tmp_path / "b" / "x2.png").write_bytes((folder / "x1.png").read_bytes())
    assert open_footage(tmp_path / "b", None, "mini", workspace).content != first


# Size -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "asked", "becomes"),
    [
        ((100, 130), None, (96, 128)),
        ((20, 64), None, (32, 64)),
        ((1080, 1920), None, (576, 1024)),
        ((20, 64), (33, 47), (33, 47)),
    ],
)
def test_the_size_that_a_network_works_at(
    own: tuple[int, int], asked: tuple[int, int] | None, becomes: tuple[int, int], tmp_path: Path, workspace: Workspace
) -> None:
    """Network mini takes any size; without one, the pictures' is reduced and brought to multiples of 8."""
    pictures(tmp_path / "v", ["a1.png"], own)
    assert open_footage(tmp_path / "v", asked, "mini", workspace).store.frame_size == becomes


class Coarse(nn.Module):
    """An encoder whose two halves fit together at multiples of 32 only, as a decoder with skip connections does."""

    channels, auxiliary_channels, stride = 8, 0, 32

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 8, 3, 16, 1), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        fine = self.fine(image)
        return (fine + self.coarse(fine).repeat_interleave(2, 2).repeat_interleave(2, 3))[..., ::2, ::2], None


def test_a_network_of_stride_32_works_at_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "coarse32.py").write_text(
        '"""coarse32: for a test."""\nfrom torch import nn\nfrom bench.networks.build import NetworkParts\nENCODER = None\n\n\n'
        "def build(num_classes):\n    return NetworkParts(ENCODER(), lambda channels: nn.Conv2d(channels, num_classes, 1))\n"
    )
    monkeypatch.setattr(bench.networks.zoo, "__path__", [*bench.networks.zoo.__path__, str(folder)])
    import bench.networks.zoo.coarse32 as module  # type: ignore[import-not-found]

    monkeypatch.setattr(module, "ENCODER", Coarse)
    segmenter = build_segmenter("coarse32", "none", 15)
    with pytest.raises(RuntimeError):
        segmenter.encoder(torch.zeros(1, 3, 80, 110))
    model = tmp_path / "m.safetensors"
    save_model(model, segmenter, "coarse32", "none", 15, classes=CLASSES)
    frames = pictures(tmp_path / "v", ["a1.png", "a2.png"], (75, 110))
    result = call("predict", model, frames, tmp_path / "out", "--size", "80x110", "--json")
    assert json.loads(result.stdout)["size"] == [96, 96]
    assert "bench: size 110x80 becomes 96x96: the sides of network 'coarse32' are multiples of 32\n" in result.stderr
    assert Image.open(tmp_path / "out" / "labels" / "a1_pred_labelIds.png").size == (110, 75)
    assert json.loads(call("predict", model, frames, tmp_path / "two", "--json").stdout)["size"] == [64, 128]


# Masks ----------------------------------------------------------------------------------------------------------------


def test_masks_carry_the_ids_of_the_yaml(model: Path, tmp_path: Path) -> None:
    """What Cityscapes calls 7 (road) and 23 (sky) is 0 and 200 here; others get ids that are free."""
    pictures(tmp_path / "v", ["a1.png", "a2.png"])
    (tmp_path / "l").mkdir()
    ids = {0: "road", 200: "sky", 201: "sky", 7: "car", 8: "ignore"}
    described = {"folder": "v", "labels": "l", "ids": ids}
    (tmp_path / "frames.yaml").write_text(yaml.safe_dump(described))
    call("predict", model, tmp_path / "v", tmp_path / "plain")
    call("predict", model, tmp_path, tmp_path / "own")
    plain, own_ids = (
        {row["name"]: row["id"] for row in json.loads((tmp_path / out / "legend.json").read_text())}
        for out in ("plain", "own")
    )
    assert plain == dict(zip(CLASSES, named_space("viper2cityscapes").label_ids, strict=True)) and list(
        own_ids
    ) == list(CLASSES)
    assert (own_ids["road"], own_ids["sky"], own_ids["car"]) == (0, 200, 7) and own_ids["building"] == plain[
        "building"
    ] == 11
    assert own_ids["sidewalk"] == 1 and len(set(own_ids.values())) == 15  # 8 is taken; 1 is the first that is free
    table = np.zeros(256, np.uint8)
    table[[plain[name] for name in CLASSES]] = [own_ids[name] for name in CLASSES]
    for name in ("a1", "a2"):
        masks = [
            np.asarray(Image.open(tmp_path / out / "labels" / f"{name}_pred_labelIds.png")) for out in ("plain", "own")
        ]
        np.testing.assert_array_equal(table[masks[0]], masks[1])
        assert len(np.unique(masks[0])) > 1


def test_masks_carry_the_colours_of_the_yaml(model: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "v", ["a1.png"])
    (tmp_path / "l").mkdir()
    colours = {name: [k, 2 * k, 255 - k] for k, name in enumerate(CLASSES)}
    (tmp_path / "frames.yaml").write_text(yaml.safe_dump({"folder": "v", "labels": "l", "colors": colours}))
    call("predict", model, tmp_path, tmp_path / "out")
    call("predict", model, tmp_path / "v", tmp_path / "plain")
    mask, plain = (
        Image.open(tmp_path / "out" / "labels" / "a1.png"),
        Image.open(tmp_path / "plain/labels/a1_pred_labelIds.png"),
    )
    train = np.zeros(256, np.uint8)
    train[list(named_space("viper2cityscapes").label_ids)] = range(15)
    np.testing.assert_array_equal(np.asarray(mask), train[np.asarray(plain)])
    np.testing.assert_array_equal(
        np.asarray(mask.convert("RGB")), np.array(list(colours.values()), np.uint8)[np.asarray(mask)]
    )
    rows = json.loads((tmp_path / "out" / "legend.json").read_text())
    assert rows[3] == {"id": 3, "name": CLASSES[3], "color": colours[CLASSES[3]]}


def test_classes_of_no_label_space_have_train_ids() -> None:
    legend = legend_of(("lane", "car", "on"))
    assert legend.ids == (0, 1, 2) and legend.palette and legend.colours[1] == (0, 0, 142)


def test_adapt_writes_what_predict_writes(model: Path, tmp_path: Path) -> None:
    frames = pictures(tmp_path / "v", ["a1.png", "a2.png"])
    out = tmp_path / "adapted"
    call("adapt", model, frames, out, "--method", "adabn", "--steps", 1, "--batch", 1, "--video", "gif", "--rate", 5)
    call("predict", out / "model.safetensors", frames, tmp_path / "predicted", "--video", "gif", "--rate", 5)
    for name in ("legend.json", "predict.json", "film.gif", "labels/a2_pred_labelIds.png", "overlays/a1.png"):
        assert (out / name).read_bytes() == (tmp_path / "predicted" / name).read_bytes(), name
    about = json.loads((out / "predict.json").read_text())
    assert about["label maps"] == 2 and about["films"] == 1 and about["content"] in (out / "adapt.yaml").read_text()


# Places ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["labels", "../elsewhere/labels"])
def test_an_output_may_lie_beside_footage_with_labels(labels: str, model: Path, tmp_path: Path) -> None:
    """And the labels far away, as on another mount: their common folder is closed to nothing."""
    proj = tmp_path / "proj"
    pictures(proj / "images", ["a1.png", "a2.png"])
    (proj / labels).mkdir(parents=True)
    for name in ("a1.png", "a2.png"):
        Image.fromarray(RNG.choice([7, 26], SIZE).astype(np.uint8)).save(proj / labels / name)
    (proj / "frames.yaml").write_text(f"folder: images\nlabels: {labels}\nids: {{7: road, 26: car}}\n")
    options = ["--method", "self_training", "--steps", 2, "--batch", 1, "--json"]
    report = json.loads(call("adapt", model, proj, proj / "out", *options).stdout)
    assert report["labelled pictures"] == 2 and (proj / "out" / "metrics.jsonl").read_text().count("\n") == 2
    prediction = json.loads(call("predict", model, proj, proj / "predicted", "--json").stdout)
    assert prediction["labelled pictures"] == 2
