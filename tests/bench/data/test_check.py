"""`bench data`: every kind of damage is found by path, counts and sizes against the published ones, fixtures, exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import UsageError
from bench.data.check import check_split, targets
from bench.data.fixtures import KINDS, Tree, corrupt, write_cityscapes, write_viper
from bench.runs.config import load_shift

FOUND = {
    "truncated": "truncated",
    "truncated_label": "truncated",
    "empty_file": "truncated",
    "missing_frame": "label without image",
    "missing_previous": "missing previous frame",
    "missing_label": "image without label",
    "wrong_size": "wrong size",
    "wrong_size_label": "wrong size",
    "not_an_image": "not an image",
    "unreadable": "unreadable",
    "stray": "stray",
    "empty_folder": "empty folder",
}
REAL = ["viper", "cityscapes_seq", "synthia_seq"]


def call(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["data", *arguments])


@pytest.mark.parametrize("name", REAL)
def test_nothing_is_wrong_with_the_fixtures(name: str, trees: dict[str, Tree]) -> None:
    tree = trees[name]
    for split, count in tree.data.counts.items():
        report = check_split(tree.data, tree.root, split, partial=True)
        assert report.findings == [] and report.size == tree.size and report.published == count
        strict = check_split(tree.data, tree.root, split)
        assert [f.kind for f in strict.findings] == ["count", "scaled"] == [f.kind for f in strict.wrong]


@pytest.mark.parametrize(
    ("name", "kind"),
    [  # SYNTHIA is one video: there is no folder of another one
        (name, kind) for name in REAL for kind in KINDS if (name, kind) != ("synthia_seq", "empty_folder")
    ],
)
def test_every_kind_of_damage_is_found_by_path(name: str, kind: str, trees: dict[str, Tree], tmp_path: Path) -> None:
    twin, culprit = corrupt(trees[name], kind, tmp_path)
    report = check_split(twin.data, twin.root, "train", partial=True)
    expected = FOUND[kind]
    if (name, kind) == ("synthia_seq", "missing_previous"):
        expected = FOUND["missing_frame"]  # every frame is labelled, so it is frame t of the clip before too
    findings = {(f.kind, f.path) for f in report.findings}
    assert (expected, culprit) in findings
    emptied = ("empty folder", culprit.rpartition("/")[0])  # the folder of the only label
    assert {path for kind, path in findings - {emptied} if kind != "stray"} <= {culprit}  # and nothing else is
    assert bool(report.wrong) == (kind != "stray")


def test_frames_two_back_are_checked_when_clips_are_longer(trees: dict[str, Tree], tmp_path: Path) -> None:
    twin, _ = corrupt(trees["viper"], "stray", tmp_path)
    (twin.root / "train/img/001/001_00018.jpg").unlink()
    assert not check_split(twin.data, twin.root, "train", 2, partial=True).wrong
    (finding,) = check_split(twin.data, twin.root, "train", 3, partial=True).wrong
    assert (finding.kind, finding.path) == ("missing previous frame", "train/img/001/001_00018.jpg")


def test_a_target_without_labels_is_told_in_one_line(tmp_path: Path) -> None:
    tree = write_cityscapes(tmp_path, 16, complete=False, train_labels=False)
    report = check_split(tree.data, tree.root, "train", partial=True)
    (finding,) = report.findings
    assert (finding.kind, finding.path) == ("no labels", "gtFine/train") and not report.wrong
    for path in (tree.root / "gtFine/val").rglob("*.png"):
        path.unlink()
    lost = check_split(tree.data, tree.root, "val", partial=True).wrong
    assert [f.kind for f in lost if f.kind == "image without label"] == ["image without label"] * 3


def test_own_footage(trees: dict[str, Tree], tmp_path: Path) -> None:
    ((data, root, split),) = targets("frames", None, trees["frames"].root, tmp_path)
    report = check_split(data, root, split)
    assert not report.wrong and report.clips == 7
    assert [f.kind for f in report.findings] == ["unlabelled"] * 3


def labelled(folder: Path, ids: str, labels: dict[str, int]) -> Path:
    """Footage whose labels hold 0 and, in their right half, one other id."""
    for name, other_id in labels.items():
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(folder / "images" / f"{name}.png")
        label = np.zeros((8, 12), np.uint8)
        label[:, 6:] = other_id
        Image.fromarray(label).save(folder / "labels" / f"{name}.png")
    (folder / "frames.yaml").write_text(f"folder: images\nlabels: labels\nids: {ids}\n")
    return folder


def test_ids_that_nothing_names_and_classes_that_never_occur(tmp_path: Path) -> None:
    """Labels of 0 and 255 where 0 and 1 are declared: 255 is car's id of someone else."""
    root = labelled(tmp_path, "{0: road, 1: car}", {"a": 255, "b": 255, "c": 0})
    ((data, folder, split),) = targets("frames", None, root, tmp_path / "cache")
    report = check_split(data, folder, split)
    assert not report.wrong and report.notes == [
        "labels/a.png has id 255, which ids: does not name: 96 pixels in 2 of 3 labels, all ignored",
        "no label has a pixel of car",
    ]
    result = call("check", "frames", "--root", str(root))
    assert result.exit_code == 0 and "  note: no label has a pixel of car\n" in result.stdout
    named = labelled(tmp_path / "right", "{0: road, 255: car}", {"a": 255})
    ((data, folder, split),) = targets("frames", None, named, tmp_path / "cache")
    assert check_split(data, folder, split).notes == []
    on_purpose = labelled(tmp_path / "ignored", "{0: road, 255: ignore}", {"a": 255})
    ((data, folder, split),) = targets("frames", None, on_purpose, tmp_path / "cache")
    assert check_split(data, folder, split).notes == []


def test_labels_that_are_ignored_throughout(tmp_path: Path) -> None:
    ((data, folder, split),) = targets(
        "frames", None, labelled(tmp_path, "{7: road}", {"a": 7, "b": 1}), tmp_path / "c"
    )
    notes = check_split(data, folder, split).notes
    assert "1 of 2 labels are ignored throughout, e.g. labels/b.png" in notes
    tree = write_viper(tmp_path, 16, sequences=1)
    for path in (tree.root / "train/cls").rglob("*.png"):
        Image.fromarray(np.zeros(tree.size, np.uint8)).save(path)
    (finding,) = check_split(tree.data, tree.root, "train", partial=True).wrong
    assert finding.kind == "all ignored"
    assert finding.what == "is ignored throughout, as are all 2 labels: no pixel has a class"


def test_ids_that_the_data_set_does_not_have(tmp_path: Path) -> None:
    tree = write_viper(tmp_path, 16, sequences=1)
    path = tree.root / "train/cls/001/001_00020.png"
    label = np.asarray(Image.open(path)).copy()
    label[0, :3] = 77
    Image.fromarray(label).save(path)
    (finding,) = check_split(tree.data, tree.root, "train", partial=True).wrong
    assert (finding.kind, finding.path) == ("unknown id", "train/cls/001/001_00020.png")
    assert finding.what == "has id 77, which viper does not have: 3 pixels in 1 of 2 labels, all ignored"


def test_a_shifts_classes_are_what_counts(tmp_path: Path) -> None:
    tree = write_cityscapes(tmp_path, 16, complete=False)
    for path in (tree.root / "gtFine/val").rglob("*.png"):
        Image.fromarray(np.full(tree.size, 26, np.uint8)).save(path)  # car
    report = check_split(tree.data, tree.root, "val", partial=True)
    narrowed = check_split(tree.data, tree.root, "val", partial=True, classes=load_shift("synthia2cityscapes").classes)
    names = "road, sidewalk, building, fence, pole, light, sign, vegetation, sky, person, rider"
    assert (
        narrowed.notes == [f"no label has a pixel of {names}"]
        and narrowed.notes[0] in report.notes
        and len(report.notes) == 2
    )
    assert report.as_json()["notes"] == report.notes


def test_labels_outside_a_range_are_not_lost(tmp_path: Path) -> None:
    root = labelled(tmp_path, "{0: road}", {f"a{k}": 0 for k in range(4)})
    with (root / "frames.yaml").open("a") as file:
        file.write("range: [1, 3]\n")
    ((data, folder, split),) = targets("frames", None, root, tmp_path)
    report = check_split(data, folder, split)
    assert report.findings == [] and report.clips == 2 and report.notes == []
    (root / "images" / "a0.png").unlink()
    (finding,) = check_split(data, folder, split).wrong
    assert (finding.kind, finding.path) == ("label without image", "labels/a0.png")


def test_odd_files_among_footage(tmp_path: Path) -> None:
    root = labelled(tmp_path / "f", "{0: road}", {"a1": 0, "a2": 0})
    os.mkfifo(root / "images" / "a3.png")
    ((data, folder, split),) = targets("frames", None, root, tmp_path)
    report = check_split(data, folder, split)
    assert [(f.path, f.what) for f in report.wrong] == [("images/a3.png", "is a pipe, a file is expected")]
    (root / "images" / "up").symlink_to("..")
    result = call("check", "frames", "--root", str(root))
    assert result.exit_code == 1 and "images/up is a link to a folder that it lies in" in result.stderr


def test_pictures_are_checked_upright(tmp_path: Path) -> None:
    """The second picture and the label are as large as the first once they are turned."""
    root = labelled(tmp_path, "{0: road}", {"a1": 0, "a2": 0})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((12, 8, 3), np.uint8)).save(root / "images" / "a2.png", exif=exif)
    Image.fromarray(np.zeros((12, 8), np.uint8)).save(root / "labels" / "a2.png", exif=exif)
    ((data, folder, split),) = targets("frames", None, root, tmp_path)
    report = check_split(data, folder, split)
    assert not report.wrong and report.size == (8, 12)


def test_progress_and_workers(trees: dict[str, Tree]) -> None:
    tree = trees["viper"]
    events: list[tuple[str, int, int]] = []
    serial = check_split(tree.data, tree.root, "train", workers=1, progress=lambda *event: events.append(event))
    parallel = check_split(tree.data, tree.root, "train", workers=7)
    assert serial == parallel and serial.files == 12
    assert events == [("check viper", k, 12) for k in range(1, 13)]


def test_a_shift_is_its_two_data_sets(trees: dict[str, Tree], tmp_path: Path) -> None:
    shift, root = load_shift("viper2cityscapes"), trees["viper"].root.parent
    splits = [(data.name, folder, split) for data, folder, split in targets(shift, None, root, tmp_path)]
    assert splits == [
        ("viper", root / "VIPER", "train"),
        ("cityscapes_seq", root / "Cityscapes", "train"),
        ("cityscapes_seq", root / "Cityscapes", "val"),
    ]
    assert len(targets(shift, "val", root, tmp_path)) == 1
    with pytest.raises(UsageError, match="Unknown split 'tset' of 'viper2cityscapes'"):
        targets(shift, "tset", root, tmp_path)


# The commands ---------------------------------------------------------------------------------------------------------


def test_check_says_what_and_where(trees: dict[str, Tree], tmp_path: Path) -> None:
    root = trees["viper"].root.parent
    good = call("check", "viper", "--root", str(root), "--partial")
    assert good.exit_code == 0, good.output
    assert "viper train: 4 clips (published: 13367), 12 files, 240x135 pixels" in good.stdout
    twin, culprit = corrupt(trees["viper"], "truncated", tmp_path)
    bad = call("check", "viper", "--root", str(tmp_path), "--partial")
    assert bad.exit_code == 1 and f"{twin.root / culprit}: is truncated" in bad.stdout
    assert bad.stderr.strip().splitlines()[-1].startswith(f"bench: {twin.root / culprit}: is truncated")
    machine = call("check", "viper", "--root", str(tmp_path), "--partial", "--json")
    (report,) = json.loads(machine.stdout)["reports"]
    assert machine.exit_code == 1 and report["wrong"] == 1 and report["findings"][0]["path"] == culprit


def test_long_lists_are_cut(tmp_path: Path) -> None:
    tree = write_viper(tmp_path, 16)
    for path in (tree.root / "train/cls").rglob("*.png"):
        path.unlink()
    result = call("check", "viper", "--root", str(tmp_path), "--partial", "--max-listed", "2")
    assert result.exit_code == 1 and result.stdout.count("though its image is there") == 2
    assert "image without label: 4" in result.stdout and "... and 2 more" in result.stdout
    assert "(and " in result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("check", "vipr", "--root", "."), "Unknown shift or data set 'vipr'. Did you mean 'viper'?"),
        (("index", "ministreet", "--root", "."), "Shift 'ministreet' has no data on disk"),
        (("check", "viper", "--root", "gone"), "--root gone is not a folder"),
        (
            ("check", "viper", "--root", ".", "--split", "test"),
            "Unknown split 'test' of 'viper'. Available: train, val",
        ),
        (("check", "frames", "--root", "gone"), "gone is not there; give a folder of pictures"),
    ],
)
def test_wrong_use(arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2 and says in result.stderr and result.stdout == "" and not list(tmp_path.iterdir())


def test_an_empty_root_is_exit_code_1(tmp_path: Path) -> None:
    result = call("check", "viper", "--root", str(tmp_path))
    assert result.exit_code == 1 and "No frames of 'viper' under" in result.stderr


def test_index_is_stored(trees: dict[str, Tree], tmp_path: Path) -> None:
    root = trees["viper"].root.parent
    result = call("index", "cityscapes_seq", "--root", str(root), "--cache", str(tmp_path), "--json")
    assert result.exit_code == 0, result.output
    entries = json.loads(result.stdout)["indexes"]
    assert [(e["split"], e["clips"], e["published"]) for e in entries] == [("train", 3, 2975), ("val", 3, 500)]
    assert all(Path(e["file"]).is_file() for e in entries)
    plain = call("index", "viper", "--root", str(root), "--cache", str(tmp_path))
    assert "viper train: 4 clips (published: 13367), hash " in plain.stdout


def test_fixture_writes_what_check_accepts(tmp_path: Path) -> None:
    result = call("fixture", "--out", str(tmp_path / "d"), "--small", "--json")
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)) == {"viper", "cityscapes_seq", "synthia_seq", "frames"}
    for name in REAL:
        assert call("check", name, "--root", str(tmp_path / "d"), "--partial").exit_code == 0
    assert call("check", "frames", "--root", str(tmp_path / "d" / "site")).exit_code == 0
    repeated = call("fixture", "--out", str(tmp_path / "d"), "--small")
    assert repeated.exit_code == 2 and "is there already; choose another folder" in repeated.stderr
