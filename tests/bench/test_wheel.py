"""A wheel, built from the files as they are and installed where there is no checkout, does what the checkout does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path
from sysconfig import get_paths

import pytest
import yaml

from bench.core.provenance import source_here

ROOT = Path(__file__).resolve().parents[2]


def call(*command: object, cwd: Path, fails: bool = False) -> str:
    """What a command prints; with ``fails`` what it says when it fails."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "BENCH_", "GIT_"))}
    completed = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**clean, "OMP_NUM_THREADS": "1"},
        timeout=900,
    )
    assert (completed.returncode != 0) == fails, f"{command}: {completed.stdout[-2000:]}{completed.stderr[-2000:]}"
    return completed.stderr if fails else completed.stdout


def source(into: Path) -> Path:
    """A clone of the checkout with its files as they are now."""
    call("git", "clone", "-q", ROOT, into, cwd=ROOT)
    for name in call("git", "ls-files", "-z", "--deleted", cwd=ROOT).split("\0")[:-1]:
        (into / name).unlink(missing_ok=True)
    for name in call("git", "ls-files", "-z", "--modified", "--others", "--exclude-standard", cwd=ROOT).split("\0")[
        :-1
    ]:
        if (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name)
    return into


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment with the wheel. It sees the packages of this one behind its own, and not the checkout."""
    base = tmp_path_factory.mktemp("wheel")
    call(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        base,
        source(base / "src"),
        cwd=base,
    )
    shutil.rmtree(base / "src")
    project = base / "project"  # someone's repository around the environment
    project.mkdir()
    call("git", "init", "-q", cwd=project)
    call("git", "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "theirs", cwd=project)
    venv.create(project / "env", with_pip=False, symlinks=True)
    python = project / "env" / "bin" / "python"
    (wheel,) = base.glob("*.whl")
    call(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=base)
    site_packages = Path(
        call(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=base).strip()
    )
    (site_packages / "packages-of-the-present-environment.pth").write_text(get_paths()["purelib"] + "\n")
    return python.parent


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_what_runs_is_the_wheel_and_it_knows_where_it_is_from(installed: Path, empty: Path) -> None:
    script = "import json, bench, methods, stpl; from bench.core.provenance import code; "
    script += "print(json.dumps([bench.__file__, methods.__file__, stpl.__file__, code()]))"
    *files, code = json.loads(call(installed / "python", "-c", script, cwd=empty))
    assert all(Path(file).is_relative_to(installed.parent) for file in files)
    changed = call("git", "status", "--porcelain", "--", "stpl", "methods", "bench", "pyproject.toml", cwd=ROOT)
    revision = call("git", "rev-parse", "--short=12", "HEAD", cwd=ROOT).strip()
    assert code.pop("source") == source_here()  # the same files, wherever they lie
    assert code == {"revision": revision, "dirty": bool(changed), "version": version("stpl-benchmark")}


def test_in_an_empty_folder_it_lists_runs_sweeps_studies_and_makes_boards(installed: Path, empty: Path) -> None:
    bench = installed / "bench"
    listing = json.loads(call(bench, "list", "--json", cwd=empty))
    assert "stpl" in listing["methods"] and "viper2cityscapes" in listing["shifts"] and "mini" in listing["networks"]
    assert not any("broken" in entry for kind in listing.values() for entry in kind.values())
    record = json.loads(call(bench, "run", "-m", "adabn", "--shift", "ministreet-tiny", "--json", cwd=empty))
    assert record["result"]["miou"] > 0 and record["code"]["version"] == version("stpl-benchmark")
    assert (empty / "runs" / record["run"] / "checkpoint.safetensors").is_file()
    assert "temperature=0.07" in call(bench, "study", "temperature", "--seeds", "0:1", "--dry-run", cwd=empty)
    rows = [{"label": "its flow", "method": "adabn"}, {"label": "none", "method": "adabn", "options": {"flow": "zero"}}]
    study = {"name": "still", "title": "Still", "question": "Flow?", "shift": "ministreet-tiny", "seeds": "0:1"}
    (empty / "still.yaml").write_text(yaml.safe_dump({**study, "rows": rows}))
    call(bench, "study", "still.yaml", cwd=empty)  # the one that starts Ray, for the run that is missing
    assert "its flow" in (empty / "leaderboards" / "ministreet-tiny-still.md").read_text(encoding="utf-8")
    swept = json.loads(call(bench, "sweep", "-m", "adabn", "--shift", "ministreet-tiny", "--json", cwd=empty))
    assert [run["state"] for run in swept["runs"]] == ["found"]
    records = ROOT / "leaderboards" / "records" / "ministreet"
    for path in [p for method in ("adabn", "source_only") for p in records.rglob(f"{method}-s[0-2]-*")]:
        copy = empty / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    call(bench, "leaderboard", cwd=empty)
    assert "AdaBN" in (empty / "leaderboards" / "ministreet.md").read_text(encoding="utf-8")


def test_an_edited_installation_says_so(installed: Path, empty: Path) -> None:
    script = "import json; from bench.core.provenance import code; print(json.dumps(code()['dirty']))"
    (file,) = installed.parent.glob("lib/python*/site-packages/methods/adabn.py")
    before = file.read_text()
    file.write_text(before + "# edited\n")
    assert json.loads(call(installed / "python", "-c", script, cwd=empty)) is True
    file.write_text(before)
