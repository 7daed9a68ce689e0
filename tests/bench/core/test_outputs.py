"""Outputs: a command replaces and removes what it wrote itself, unchanged, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench.core.errors import RunError, UsageError
from bench.core.files import locked, whole, write_atomically
from bench.core.outputs import MANIFEST, Output, apart


def write_output(folder: Path, command: str = "predict", **files: str) -> None:
    with Output(folder, command):
        for name, text in files.items():
            write_atomically(folder / name.replace("__", "/"), text)


def test_what_was_written_is_known_by_name_size_and_content(tmp_path: Path) -> None:
    write_output(tmp_path / "out", labels__a="1", predict="{}")
    lines = [json.loads(line) for line in (tmp_path / "out" / MANIFEST).read_text().splitlines()]
    digest = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"  # printf 1 | sha256sum
    assert lines[0] == {"file": "labels/a", "by": "predict", "size": 1, "sha256": digest} and len(lines) == 2
    output = Output(tmp_path / "out", "predict")
    assert output.owns("labels/a") and output.owns("not there")
    (tmp_path / "out" / "labels" / "a").write_text("2")  # of the same size
    assert not output.owns("labels/a")
    assert not Output(tmp_path / "out", "adapt").owns("predict")  # another command's


def test_a_file_of_the_users_is_never_replaced(tmp_path: Path) -> None:
    mask = tmp_path / "labels" / "a.png"
    mask.parent.mkdir()
    mask.write_text("by hand")
    output = Output(tmp_path, "predict")
    with pytest.raises(
        UsageError, match=r"labels/a\.png was not written by `bench predict`, or was changed since; move"
    ):
        output.check(["labels/b.png", "labels/a.png"])
    with output, pytest.raises(UsageError):
        write_atomically(mask, "a mask")
    assert mask.read_text() == "by hand" and sorted(p.name for p in mask.parent.iterdir()) == ["a.png"]
    with output:
        write_atomically(mask, "by hand")  # the same content: nothing is lost
    assert output.owns("labels/a.png")


def test_new_files_replace_earlier_ones_together_or_not_at_all(tmp_path: Path) -> None:
    write_output(tmp_path, labels__a="1", labels__b="2", model="m", whole="{}")
    (tmp_path / "labels" / "notes.txt").write_text("mine")

    def content() -> dict[str, str]:
        files = (p for p in tmp_path.rglob("*") if p.is_file() and p.name != MANIFEST)
        return {str(p.relative_to(tmp_path)): p.read_text() for p in files}

    before = content()
    with Output(tmp_path, "predict") as output:
        with pytest.raises(RunError), output.replaced(keep=["model"]) as new:
            write_atomically(new / "labels" / "c", "3")
            raise RunError("the disk is full")
        assert content() == before
        with pytest.raises(UsageError, match=r"notes\.txt was not written by"), output.replaced(keep=["model"]) as new:
            write_atomically(new / "labels" / "notes.txt", "a mask")
        assert content() == before
        with output.replaced(keep=["model"]) as new:
            write_atomically(new / "labels" / "c", "3")
            write_atomically(new / "whole", "{1}")
    assert content() == {"labels/notes.txt": "mine", "model": "m", "labels/c": "3", "whole": "{1}"}
    assert all(Output(tmp_path, "predict").owns(name) for name in ("labels/c", "whole", "model"))
    (tmp_path / "whole").write_text("mine")  # told before work
    with pytest.raises(UsageError), Output(tmp_path, "predict").replaced():
        pytest.fail("work was begun")


def test_what_says_that_all_is_there_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops a removal half way leaves nothing that looks whole."""
    write_output(tmp_path, labels__a="1", labels__b="2", whole="{}")
    removed: list[str] = []
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: removed.append(path.name))
    Output(tmp_path, "predict").clear()
    assert removed[:3] == ["whole", "b", "a"]


def test_clear_removes_what_was_written_and_leaves_the_rest(tmp_path: Path) -> None:
    write_output(tmp_path, labels__a="1", labels__b="2", model="m")
    write_output(tmp_path, "adapt", state="s")
    (tmp_path / "labels" / "notes.txt").write_text("mine")
    Output(tmp_path, "predict").clear(keep=["model"])
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert files == [MANIFEST, "labels/notes.txt", "model", "state"]
    Output(tmp_path, "predict").clear()
    assert not (tmp_path / "model").exists() and Output(tmp_path, "adapt").owns("state")
    Output(tmp_path, "adapt").clear()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels"]  # the manifest goes with the last of its files


def test_nothing_is_removed_if_one_file_was_changed(tmp_path: Path) -> None:
    write_output(tmp_path, a="1", b="2")
    (tmp_path / "b").write_text("corrected by hand")
    with pytest.raises(UsageError, match=r"/b was not written by `bench predict`, or was changed since"):
        Output(tmp_path, "predict").clear()
    assert (tmp_path / "a").read_text() == "1" and (tmp_path / "b").read_text() == "corrected by hand"


def test_a_kill_at_any_line_keeps_both_promises(tmp_path: Path) -> None:
    """The note comes before the move: whichever of two contents is in place after a kill, it is the command's."""
    write_output(tmp_path, a="old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, Output(tmp_path, "predict"), pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old" and Output(tmp_path, "predict").owns("a")
    (tmp_path / "a").write_text("new")  # as if the kill had come after the move
    assert Output(tmp_path, "predict").owns("a")
    manifest = tmp_path / MANIFEST
    manifest.write_text(manifest.read_text() + '{"file": "b", "by": "pre')  # cut off
    (tmp_path / "b").write_text("")
    assert not Output(tmp_path, "predict").owns("b") and Output(tmp_path, "predict").owns("a")


def test_a_file_that_grows_is_the_commands_until_it_ends(tmp_path: Path) -> None:
    with Output(tmp_path, "adapt") as output:
        output.grows("log")
        (tmp_path / "log").write_text("1\n2\n")
        write_atomically(tmp_path / "log", "1\n")  # a resume cuts it back
        (tmp_path / "log").write_text("1\nother\n")
    assert Output(tmp_path, "adapt").owns("log")  # killed here
    Output(tmp_path, "adapt").ends("log")
    (tmp_path / "log").write_text("mine\n")
    assert not Output(tmp_path, "adapt").owns("log")
    with pytest.raises(UsageError):
        Output(tmp_path, "adapt").grows("log")


@pytest.mark.parametrize("name", ["../outside", "/etc/outside"])
def test_a_manifest_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "outside").write_text("")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    line = {"file": name, "by": "predict", "size": 0, "sha256": empty}
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(line) + "\n[]\nnull\n")
    Output(tmp_path / "out", "predict").clear()
    assert (tmp_path / "outside").exists()


def test_files_beside_others(tmp_path: Path) -> None:
    """An output of single files has nothing to say about the rest of their folder."""
    (tmp_path / "mine.png").write_text("mine")
    with pytest.raises(UsageError, match=r"mine\.png was not written by `bench gains`"):
        Output.of_files("gains", tmp_path / "mine.png")
    with Output.of_files("gains", tmp_path / "g.png"):
        write_atomically(tmp_path / "g.png", "1")
        write_atomically(tmp_path / "mine.png", "by another part of the program")
    with Output.of_files("gains", tmp_path / "g.png"):
        write_atomically(tmp_path / "g.png", "2")
    assert (tmp_path / "g.png").read_text() == "2"


def test_links_and_folders_are_the_users(tmp_path: Path) -> None:
    write_output(tmp_path / "out", a="1")
    (tmp_path / "out" / "a").rename(tmp_path / "kept")
    (tmp_path / "out" / "a").symlink_to(tmp_path / "kept")
    output = Output(tmp_path / "out", "predict")
    assert not output.owns("a")
    (tmp_path / "out" / "a").unlink()
    (tmp_path / "out" / "a").mkdir()
    assert not output.owns("a")
    with pytest.raises(UsageError, match="is not a folder"):
        Output(tmp_path / "kept", "predict").check([])
    with pytest.raises(UsageError, match="choose another --films"):
        Output(tmp_path / "kept", "strip", option="--films").check([])


def test_nothing_is_written_through_or_over_a_link(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "kept")
    with pytest.raises(UsageError, match="a was not written by"):
        write_output(tmp_path / "out", a="1")  # not even where the content is the same
    (tmp_path / "out" / MANIFEST).symlink_to(tmp_path / "kept")
    with pytest.raises(UsageError, match=rf"{MANIFEST}, where outputs are noted, is a link; remove it or choose"):
        write_output(tmp_path / "out", b="1")
    assert (tmp_path / "out" / "a").is_symlink() and (tmp_path / "kept").read_text() == "1"


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("proj", "--out .*proj contains the footage .*images; choose a place of its own"),
        ("proj/images", "is the footage"),
        ("proj/images/out", "lies in the footage"),
        ("link/out", "lies in the footage"),  # a link to the images
        ("proj/m.safetensors", "is the model"),
    ],
)
def test_an_output_stands_apart_from_inputs(out: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "proj" / "images").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "proj" / "images")
    inputs = {"the footage": tmp_path / "proj" / "images", "the model": tmp_path / "proj" / "m.safetensors"}
    with pytest.raises(UsageError, match=says):
        apart(tmp_path / out, inputs)
    apart(tmp_path / "proj" / "out", inputs)  # a neighbour


def test_the_working_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with locked(Path(".")), whole(Path("a")) as scratch:
        scratch.write_text("1")
    assert Path("a").read_text() == "1"


def test_a_file_of_the_users_is_no_lock(tmp_path: Path) -> None:
    """Older filelocks (3.12) empty the file that they lock: `--out poetry` beside a poetry.lock."""
    (tmp_path / "poetry.lock").write_text("precious")
    with (
        pytest.raises(RunError, match=r"poetry\.lock is needed as a lock but is another file"),
        locked(tmp_path / "poetry"),
    ):
        raise AssertionError("not locked")
    assert (tmp_path / "poetry.lock").read_text() == "precious"
