"""Pages and figures on disk: written where they are stale, checked byte for byte, removed with their records."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import UsageError
from bench.leaderboards import page as leaderboard
from bench.leaderboards.generated import Drawing
from bench.leaderboards.page import check, write
from bench.leaderboards.provenance import provenance
from bench.runs.config import load_shift
from tests.bench.leaderboards.made import SCORES, SHIFT, commit, committed_standard, make_record, scored

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of studies have tests of their own; here the committed ones stay out of the way."""
    monkeypatch.setattr("bench.leaderboards.study_page.committed_studies", lambda: [])


@pytest.fixture
def no_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time and are beside the point where pages are tested."""
    monkeypatch.setattr("bench.leaderboards.generated.Drawing.stale", lambda _: [])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    commit(tmp_path, committed_standard())
    return tmp_path


def figures(root: Path) -> list[Path]:
    """Figures of a page, in its order."""
    endings = (".png", "-gains.png", "-first-page.png", "-first-page.svg", "-classes.png")
    return [root / "figures" / f"{SHIFT}{ending}" for ending in endings]


def test_write_then_check(root: Path) -> None:
    page, settings = root / f"{SHIFT}.md", root / "settings.md"
    assert check(root) == [page, *figures(root), settings]
    written = write(root)
    assert written == [*figures(root), page, settings]
    before = {path: path.read_bytes() for path in written}
    assert check(root) == []
    assert f"![mIoU of every method](figures/{SHIFT}.png)".encode() in before[page]
    assert write(root) == []  # what is fresh is left alone
    for path in written:
        path.unlink()
    assert write(root) == written and {path: path.read_bytes() for path in written} == before  # the same bytes again


def test_a_page_is_stale_when_text_or_records_change(root: Path) -> None:
    page = root / f"{SHIFT}.md"
    write(root)
    page.write_text(page.read_text(encoding="utf-8").replace("44.0 ± 9.9", "54.0 ± 9.9"), encoding="utf-8")
    assert check(root) == [page]
    write(root)
    assert check(root) == []
    for path in (root / "records" / SHIFT).rglob("stpl-s2-*"):
        path.unlink()
    assert check(root) == [page, *figures(root)]


@pytest.mark.parametrize(
    "notes", ["# My notes: do not lose them", "# Leaderboard: mine, to keep", "# Settings of mine"]
)
@pytest.mark.parametrize(
    "name", [f"{SHIFT}.md", "settings.md", f"figures/{SHIFT}.png", f"figures/{SHIFT}-first-page.svg"]
)
def test_a_file_that_was_not_generated_is_not_written_over(name: str, notes: str, root: Path) -> None:
    """Whatever its title."""
    (root / "figures").mkdir(exist_ok=True)
    (root / name).write_text(notes)
    with pytest.raises(UsageError, match=r"was not written by bench; move it away, or choose another --root"):
        write(root)
    assert (root / name).read_text() == notes


def test_a_figure_is_stale_when_it_is_missing_broken_or_of_other_data(root: Path) -> None:
    write(root)
    scores, _, first, vector, classes = figures(root)
    classes.unlink()
    scores.write_bytes(scores.read_bytes()[:-200])
    vector.write_text(vector.read_text().replace("data ", "data 0"))
    assert check(root) == [scores, vector, classes]
    linked = [page := root / f"{SHIFT}.md", classes]
    classes.write_bytes(scores.read_bytes())
    page.write_text(page.read_text(encoding="utf-8").replace("44.0 ± 9.9", "54.0 ± 9.9"), encoding="utf-8")
    for path in linked:
        path.symlink_to(path.rename(path.with_name(f"kept-{path.name}")))
    assert write(root) == [scores, vector, classes, page] and check(root) == []
    assert all(path.is_symlink() for path in linked)
    commit(root, [scored("oracle", 0, SCORES["oracle"][0] + 0.01)])  # in the scores and on the first page
    assert check(root) == [scores, first, vector]  # the page rounds to 0.1: not stale


def test_what_a_processor_changes_in_a_number_makes_no_figure_stale() -> None:
    def note(value: float) -> str:
        return Drawing("", Path("x.png"), {"a": [value]}, lambda: None).note  # type: ignore[arg-type, return-value]

    assert note(40.0) == note(40.0 + 1e-9) != note(40.0 + 1e-5)


@pytest.mark.usefixtures("no_drawings")
def test_a_page_without_records_is_stale_and_removed(root: Path) -> None:
    write(root)
    shutil.rmtree(root / "records" / SHIFT)
    (root / f"{SHIFT}-gone.md").write_text("# Study: of records that are gone\n\nMade by `bench leaderboard`", "utf-8")
    (root / f"{SHIFT}-notes.md").write_text("# Study: notes of mine\n", encoding="utf-8")
    (root / "ministreet-dev.md").write_text("# Notes of mine\n", encoding="utf-8")  # not a leaderboard: left alone
    assert check(root) == [root / f"{SHIFT}.md", root / f"{SHIFT}-gone.md"]
    assert write(root) == []
    assert not (root / f"{SHIFT}.md").exists() and (root / "ministreet-dev.md").exists()
    assert (root / f"{SHIFT}-notes.md").exists() and not (root / f"{SHIFT}-gone.md").exists()


@pytest.mark.parametrize(
    "command", [["leaderboard"], ["leaderboard", "--check"], ["analyse", "--check"], ["scorers", "--check"]]
)
def test_nothing_there_is_an_error(command: list[str], tmp_path: Path) -> None:
    """Not "fresh": most likely the folder is another one than was meant."""
    result = CliRunner().invoke(cli.app, [*command, "--root", str(tmp_path)])
    assert result.exit_code == 2 and result.stdout == "" and len(result.stderr.strip().splitlines()) == 1
    assert str(tmp_path / ("records" if "leaderboard" in command else "analysis")) in result.stderr


@pytest.mark.usefixtures("no_drawings")
def test_the_page_is_a_function_of_records_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock and no machine: the page stays the same where both are gone."""
    write(root)
    monkeypatch.setattr("time.time", lambda: 0.0)
    monkeypatch.setattr("platform.platform", lambda: "elsewhere")
    monkeypatch.chdir(root)
    assert leaderboard.check(Path(".")) == []


@pytest.mark.usefixtures("no_drawings")
def test_the_same_bytes_in_another_process_and_locale(tmp_path: Path) -> None:
    """Byte for byte, with another order of hashing, another directory and another locale."""
    bases = {"self_training": 50.0, "stpl": 51.0}
    commit(tmp_path, [scored(key, seed, base + seed) for key, base in bases.items() for seed in range(3)])
    write(tmp_path)
    code = (
        "from pathlib import Path; from bench.leaderboards import generated, page; "
        "generated.Drawing.stale = lambda _: []; print(page.check(Path('.')))"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = os.environ | {
        "PYTHONHASHSEED": seed,
        "LC_ALL": "C",
        "PYTHONPATH": str(REPOSITORY),
        "TZ": "Asia/Tokyo",
    }
    completed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert completed.stdout.strip() == "[]"


def test_a_page_says_how_methods_were_kept_from_the_labels() -> None:
    """Records that are older than the box alone leave a page as it was."""
    old = [make_record("stpl", seed, 40.0) for seed in range(3)]
    new = [old[0].model_copy(update={"access": "boxed"}), old[1].model_copy(update={"access": "watched"}), old[2]]
    shift = load_shift(SHIFT)
    assert "- Access" not in provenance(shift, old)
    assert (
        "- Access: 1 adapted in a process that could open nothing else; 1 in one that was watched only; "
        "1 are older than the box and were watched"
    ) in provenance(shift, new)
