"""No command writes over a file of the user's; that is said before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli

COMMANDS = {
    "preview": ("mine.png", "preview --out mine.png"),
    "panels": ("mine.png", "panels --out mine.png --runs nowhere"),
    "strip": ("mine.gif", "strip --out mine.gif --runs nowhere"),
    "gains": ("mine.png", "gains stpl source_only --out mine.png --runs nowhere --root nowhere"),
    "export": ("mine.csv", "export 0123456789ab --csv mine.csv --runs nowhere"),
    "export by default": ("metrics.csv", "export 0123456789ab --runs nowhere"),
    "convert": ("model.safetensors", "convert nowhere.pth"),
    "flow compute": ("target-val.json", "flow compute ministreet-tiny --backend dis --out . --cache nowhere"),
    "flow compare": ("mine.json", "flow compare ministreet-tiny --out mine.md --cache nowhere"),
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_file_of_the_users_stays(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, line = COMMANDS[command]
    (tmp_path / name).write_text("a week's work")
    result = CliRunner().invoke(cli.app, line.split())
    assert result.exit_code == 2 and f"{name} was not written by `bench {line.split()[0]}" in result.stderr
    assert result.stderr.endswith(f"choose another {'--csv' if 'export' in command else '--out'}\n")
    assert len(result.stderr.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "a week's work"


WRONG_KIND = {
    "run --runs": (
        "run -m adabn --shift ministreet-tiny --runs so.json",
        "so.json is not a folder; choose another --runs",
    ),
    "run --cache": (
        "run -m adabn --shift ministreet-tiny --cache so.json/x",
        "so.json is not a folder; choose another --cache",
    ),
    "a long name": (f"run -m adabn --runs {'r' * 256}", f"{'r' * 256}: File name too long; choose another --runs"),
    "a dangling link": (
        "run -m adabn --shift ministreet-tiny --runs gone",
        "gone is not a folder; choose another --runs",
    ),
    "tune --log": (
        "tune -m stpl --trials 0:1 --log d.yaml --runs r --cache c",
        "d.yaml is a folder; give a file to --log",
    ),
    "adapt": ("adapt --checkpoint m --frames . --out so.json", "so.json is not a folder; choose another --out"),
    "predict": ("predict --checkpoint m --out gone", "gone is not a folder; choose another --out"),
    "export": ("export 0123456789ab --csv so.json/m.csv", "so.json is not a folder; choose another --csv"),
    "analyse": ("analyse 0123456789ab --root so.json", "so.json is not a folder; choose another --root"),
    "scorers": ("scorers 0123456789ab --root so.json/x", "so.json is not a folder; choose another --root"),
    "study": ("study temperature --root so.json", "so.json is not a folder; choose another --root"),
    "shift new": (
        "shift new --target t --target-labels t --source t --source-labels t --classes a,b --out d.yaml --force",
        "--out d.yaml is a folder; choose another --out",
    ),
}


@pytest.mark.parametrize("command", sorted(WRONG_KIND))
def test_an_output_of_the_wrong_kind_is_said_before_any_work(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "so.json").write_text("a week's work")
    (tmp_path / "d.yaml").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "m").write_text("a model, which nobody reads")
    line, says = WRONG_KIND[command]
    result = CliRunner().invoke(cli.app, line.split())
    assert (result.exit_code, result.stderr) == (2, f"bench: {says}\n")
    assert (tmp_path / "so.json").read_text() == "a week's work" and not any((tmp_path / "d.yaml").iterdir())


@pytest.mark.parametrize("name", ["mine.csv", "new.jpg"])
def test_a_preview_is_a_png_or_lies_in_a_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("1,2")
    result = CliRunner().invoke(cli.app, ["preview", "--shift", "ministreet-tiny", "--out", str(tmp_path / name)])
    assert result.exit_code == 2 and "--out must be a .png file or a folder, got" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.csv"]


def test_what_a_command_wrote_it_writes_again(tmp_path: Path) -> None:
    def preview(clips: int) -> int:
        arguments = ["preview", "--shift", "ministreet-tiny", "--clips", str(clips), "--out", str(tmp_path / "p.png")]
        return CliRunner().invoke(cli.app, arguments).exit_code

    assert preview(1) == 0
    first = (tmp_path / "p.png").read_bytes()
    assert preview(2) == 0 and (tmp_path / "p.png").read_bytes() != first
    (tmp_path / "p.png").write_bytes(b"mine now")
    assert preview(1) == 2 and (tmp_path / "p.png").read_bytes() == b"mine now"


def test_convert_does_not_write_over_what_it_reads(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    result = CliRunner().invoke(cli.app, ["convert", str(file), "--out", str(file)])
    assert result.exit_code == 2 and "is the checkpoint" in result.stderr and file.read_bytes() == b"weights"
