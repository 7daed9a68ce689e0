"""The command line: exit codes, errors in one line, JSON with nothing else on stdout, help with examples."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from bench import cli
from bench.cli.common import PANELS
from bench.core.workspace import Workspace
from bench.runs import run as adapt
from bench.runs.records import Record, read_record

ROOT = Path(__file__).resolve().parents[3]
TINY = ("--shift", "ministreet-tiny")


def commands(group: Any, prefix: str = "") -> dict[str, Any]:
    """Each command of a typer group by its name as it is typed, subcommands (``data check``) included."""
    tree: dict[str, Any] = {}
    for name, command in group.commands.items():
        tree |= commands(command, f"{prefix}{name} ") if hasattr(command, "commands") else {prefix + name: command}
    return tree


TREE = commands(get_command(cli.app))
COMMANDS = sorted(TREE)


def call(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments))


def error_of(result: Any) -> str:
    """The line on stderr that names the error; it must be the last one, without a traceback."""
    assert "Traceback" not in result.stderr and not isinstance(result.exception, (RuntimeError, ValueError)), result
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("bench: ")]
    assert result.stderr.strip().splitlines()[-1] == line
    return line


# Help -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_parses(command: str) -> None:
    result = call(*command.split(), "--help")
    assert result.exit_code == 0
    text = " ".join(re.sub(r"[│╭╰─╮╯]", " ", result.stdout).split())
    match = re.search(rf"Example: bench {command}(.*)$", text)
    assert match, f"no example in the help of {command}"
    TREE[command].make_context(command, match[1].split(), resilient_parsing=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_and_debug(command: str) -> None:
    names = {name for p in TREE[command].params for name in p.opts}
    assert {"--json", "--debug"} <= names


def test_without_a_command_it_shows_what_a_newcomer_needs() -> None:
    shown = re.findall(r"^  bench (\w+)", call().output, re.MULTILINE)
    assert call().exit_code == 0 and shown == ["run", "list", "adapt"]


def test_the_help_lists_every_command_run_first() -> None:
    text = call("--help").output
    assert all(command.split()[0] in text for command in COMMANDS)
    places = [text.index(f"─ {panel} ─") for panel in PANELS]
    assert places == sorted(places) and "run" in text[places[0] : places[1]]


def test_the_version() -> None:
    assert re.fullmatch(r"bench \d+\.\d+\.\d+\n", call("--version").output)


# Wrong use: exit code 2 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "-m", "tsp"), "Unknown method 'tsp'. Did you mean 'tps'? Available: adabn, "),
        (("run", "-m", "stpl", "--shift", "ministret"), "Unknown shift 'ministret'. Did you mean 'ministreet'?"),
        (("run", "-m", "stpl", *TINY, "-o", "fusion=conv"), "Unknown fusion 'conv'. Did you mean 'conv1x1'?"),
        (("run", "-m", "stpl", *TINY, "-o", "flow=exakt"), "Unknown flow 'exakt'. Did you mean 'exact'?"),
        (("run", "-m", "stpl", *TINY, "-o", "network=min"), "Unknown network 'min'. Did you mean 'mini'?"),
        (
            ("run", "-m", "stpl", *TINY, "-o", "temperatur=1"),
            "Unknown option 'temperatur' for method 'stpl'. Did you mean",
        ),
        (("run", "-m", "stpl", *TINY, "-o", "temperature=99"), "temperature must be in 0.01..10, got 99"),
        (("run", "-m", "stpl", *TINY, "-o", "temperature=hot"), "temperature: Input should be a valid number"),
        (("run", "-m", "stpl", *TINY, "-o", "temperature"), "'temperature' is not of the form key=value"),
        (("run", "-m", "stpl", *TINY, "-o", "ema_decay=[1"), "'[1' is not a value"),
        (("run", "-m", "stpl", *TINY, "--seed", "-1"), "seed must be 0 or more, got -1"),
        (("run", "-m", "adabn", *TINY, "--device", "gpu"), "Unknown device 'gpu'. Available: auto, cpu, cuda"),
        (
            ("list", "method"),
            "Unknown kind 'method'. Did you mean 'methods'? Available: datasets, flows, fusions, methods",
        ),
        (("tune", "-m", "stpl", "--shift", "ministreet"), "Shift 'ministreet' is not for tuning; use ministreet-dev"),
        (("tune", "-m", "stpl", "--trials", "3:1"), "trials must be FIRST:END"),
        (("tune", "-m", "stlp"), "Unknown method 'stlp'. Did you mean 'stpl'?"),
        (("tune", "-m", "stpl", "--log", ""), "Invalid value for '--log': empty; give a value or leave it out"),
        (("submit", "/nowhere"), "/nowhere is not a finished run: it has no record.json"),
        (("preview", "--shift", "ministret"), "Unknown shift 'ministret'. Did you mean 'ministreet'?"),
        (("adapt", "--checkpoint", "nope", "--frames", "/", "--out", "out"), "No model at nope"),
        (("predict", "--checkpoint", "nope", "--out", "out"), "No model at nope"),
        (("convert", "nope"), "No checkpoint at nope"),
        (("verify", "nope.json"), "No record at nope.json"),
        (("verify", "/dev"), "No record at /dev/record.json"),
        (("verify", "nope.json", "--worlds", "x"), "No record at nope.json"),
        (("run", "-m", "adabn", *TINY, "--source-model", "nope"), "No source model at nope"),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_line(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2
    assert says in error_of(result)
    assert result.stdout == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "-m"),
        ("run", "-m", "stpl", "--seed", "one"),
        ("run", "-m", "stpl", "--threads", "-2"),
        ("run", "-m", "stpl", "--nonsense"),
        ("nonsense",),
        ("preview", "--clips", "0"),
        ("submit",),
    ],
)
def test_what_does_not_parse_is_exit_code_2(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2 and result.stdout == "" and error_of(result) == result.stderr.strip()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("run", "Missing option '--method' / '-m': A name from `bench list methods`, or a file; see bench run --help"),
        ("run -m", "requires an argument: A name from `bench list methods`, or a file; see bench run --help"),
        ("run -m stpl --steps 0", "'--steps'.*0.*; see bench run --help"),
        ("run -m stpl --seed 1.5", "'--seed'.*1.5.*; see bench run --help"),
        ("strip --rate nan", "'--rate': (Input should be a number|nan)"),
        ("data chek", "Unknown command 'chek' of `bench data`. Did you mean 'check'? Available: check, fixture, index"),
        ("lst", "Unknown command 'lst' of `bench`. Did you mean 'list'? Available: adapt, "),
        ("run --sede 1", "Unknown option '--sede' of `bench run`. Did you mean '--seed'? Available: --cache, "),
        ("--version=3", "Option '--version' does not take a value; see bench --help"),
        ("list a b", "Got unexpected extra argument.*; see bench list --help"),
    ],
)
def test_what_does_not_parse_is_said_in_one_line_with_what_is_allowed(arguments: str, says: str) -> None:
    line = error_of(call(*arguments.split()))
    assert re.search(says if "*" in says or "(" in says else re.escape(says), line), line


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_value_is_refused_and_not_taken_for_none(command: str) -> None:
    """``--runs "$RUNS"`` without such a variable would write into the working folder, ``--shift ""`` run another benchmark."""
    for param in TREE[command].params:
        if getattr(param, "is_flag", False) or "--help" in param.opts:
            continue
        option = [name for name in param.opts if name.startswith("--")]
        for empty in ("", " "):
            result = call(*command.split(), *option, empty)
            assert result.exit_code == 2 and "empty; give a value" in error_of(result), param.name
    assert "'--shift': empty; give a value or leave it out; see bench sweep --help" in error_of(
        call("sweep", "--shift=")
    )


def test_a_group_without_a_command_shows_its_help() -> None:
    result = call("data")
    assert result.exit_code == 2 and "fixture" in result.output and "bench: " not in result.output


def test_a_bad_shift_file_is_named_with_the_fields_path(shift_file: Callable[..., str]) -> None:
    result = call("run", "-m", "stpl", "--shift", shift_file({"adaptation.lr": -1}))
    assert result.exit_code == 2
    assert "variant-1.yaml: adaptation.lr: Input should be greater than 0, got -1" in error_of(result)


def test_debug_shows_the_traceback() -> None:
    from bench.core.errors import UsageError

    with pytest.raises(UsageError, match="Unknown method"):
        CliRunner().invoke(cli.app, ["run", "-m", "tsp", "--debug"], catch_exceptions=False)


# Failures: exit code 1 ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder in which nobody can make another")
def test_a_folder_that_cannot_be_written_is_exit_code_1(tiny_cache: Path) -> None:
    result = call("run", "-m", "adabn", *TINY, "--runs", "/proc/runs", "--cache", str(tiny_cache))
    assert result.exit_code == 1
    assert error_of(result).startswith("bench: Cannot write /proc/runs")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device", "/some/file"), "bench: /some/file: No space left on device"),
        (OSError("odd"), "bench: file: odd"),
        (KeyboardInterrupt(), "bench: stopped; the same command goes on where it was"),
    ],
)
def test_the_system_and_ctrl_c_are_one_line_too(
    error: BaseException, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("bench.runs.run.run", fail)
    result = call("run", "-m", "adabn", *TINY)
    assert result.exit_code == 1 and error_of(result) == says


def test_a_damaged_record_is_exit_code_1(tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.runs.config import make_run_config

    folder = tmp_path / make_run_config("adabn", "ministreet-tiny").hash
    folder.mkdir()
    (folder / "record.json").write_text("{")
    result = call("run", "-m", "adabn", *TINY, "--runs", str(tmp_path), "--cache", str(tiny_cache))
    assert result.exit_code == 1
    assert f"Record {folder}/record.json is damaged" in error_of(result)


# Results --------------------------------------------------------------------------------------------------------------


def folders(workspace: Workspace) -> tuple[str, ...]:
    return ("--runs", str(workspace.runs), "--cache", str(workspace.cache))


@pytest.mark.usefixtures("no_figures")
def test_json_is_the_record_and_nothing_else(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    result = call("run", "-m", "self_training", *TINY, *folders(workspace), "--json", "--threads", "1")
    assert result.exit_code == 0, result.output
    record = Record.model_validate_json(result.stdout)
    assert record.config.method == "self_training" and record.hardware["threads"] == 1
    assert "adapt: 6/6" in result.stderr  # progress goes elsewhere, in plain lines without a terminal
    monkeypatch.setattr(adapt, "_run", None)  # a second time it is found
    assert call("run", "-m", "self_training", *TINY, *folders(workspace), "--json").stdout == result.stdout


def test_a_run_ends_with_a_panel(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no committed records here
    monkeypatch.setenv("COLUMNS", "200")
    for method in ("source_only", "oracle", "adabn"):
        (workspace.runs / "broken").mkdir(parents=True, exist_ok=True)
        (workspace.runs / "broken" / "record.json").write_text("{")  # of another run: none of this run's business
        result = call("run", "-m", method, *TINY, *folders(workspace))
        assert result.exit_code == 0, result.output
    panel = result.stdout
    for label in (
        "mIoU",
        "gain over source",
        "gap",
        "pixel accuracy",
        "temporal consistency",
        "peak memory",
        "bicycle",
    ):
        assert label in panel, label
    assert "unknown" not in panel  # floor and ceiling of this replicate are among the local runs
    assert "no such source model" not in panel
    floor = next(
        r for r in map(read_record, workspace.runs.glob("[!b]*/record.json")) if r.config.method == "source_only"
    )
    path = workspace.runs / floor.run / "record.json"
    assert floor.digests is not None
    digests = floor.digests.model_copy(update={"source_model": "0" * 64})
    path.write_text(floor.model_copy(update={"digests": digests}).to_json())
    rerun = call("run", "-m", "adabn", *TINY, *folders(workspace))
    assert "points, of a record that names no such source model" in rerun.stdout
    assert str(workspace.runs) in panel and "record.json" in panel


def unfolded(text: str) -> str:
    """What is printed in one column, without frames and line ends."""
    return re.sub(r"[\s│]", "", text)


@pytest.mark.usefixtures("no_figures")
def test_the_path_of_a_record_is_whole_in_a_narrow_terminal(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    place = workspace.runs / ("a-folder-with-a-long-name" * 4)
    result = call("run", "-m", "adabn", *TINY, "--runs", str(place), "--cache", str(workspace.cache))
    (record,) = place.glob("*/record.json")
    assert f"record{record}" in unfolded(result.stdout).replace("─", ""), result.stdout


@pytest.mark.parametrize("columns", ["0", "20", "40"])
def test_lists_are_whole_whatever_the_width(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for kind in ("methods", "shifts"):
        shown = call("list", kind).stdout
        assert "…" not in shown and max(map(len, shown.splitlines())) == 40
        firsts = "".join(line[1:6].strip() for line in shown.splitlines())
        assert all(len(name) > 5 or name in firsts for name in json.loads(call("list", kind, "--json").stdout)[kind])
    assert "bench" in call("--help").stdout


def test_what_convert_and_a_comparison_say_is_whole() -> None:
    from rich.console import Console

    from bench.cli._footage import _table
    from bench.cli.convert import report_table

    report = dict.fromkeys(("layout", "network", "fusion", "num_classes", "auxiliary", "matched", "note"), "")
    path = "/models/" + "a" * 90
    for table in (
        report_table({**report, "model": path, "renamed": [], "ignored": [], "missing": []}),
        _table(("class", "IoU"), [(path, "")]),
    ):
        console = Console(width=40, record=True, file=io.StringIO())
        console.print(table)
        assert path in unfolded(console.export_text())


@pytest.mark.parametrize("kind", ["methods", "shifts", "fusions", "flows", "networks"])
def test_lists(kind: str) -> None:
    listing = json.loads(call("list", kind, "--json").stdout)
    assert list(listing) == [kind] and listing[kind]
    plain = call("list", kind)
    assert plain.exit_code == 0 and all(name in plain.stdout for name in listing[kind])
    if kind != "shifts":
        assert all(all(str(value).strip() for value in entry.values()) for entry in listing[kind].values())


def test_everything_at_once() -> None:
    listing = json.loads(call("list", "--json").stdout)
    assert set(listing) == {"methods", "shifts", "fusions", "flows", "networks", "datasets"}
    assert {"stpl", "self_training", "adabn", "source_only", "oracle"} <= set(listing["methods"])
    assert listing["methods"]["stpl"]["setting"] == "SFDA"


def test_the_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--runs", str(tmp_path / "r"), "--cache", str(tmp_path / "c"))
    result = call("doctor", *options, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == (1 if report["missing"] else 0)
    assert {"versions", "disk", "data", "gpus", "missing"} <= set(report)
    monkeypatch.setattr("bench.runs.doctor.NEEDED_GB", 1e9)
    result = call("doctor", *options)
    assert result.exit_code == 1 and "GB needed" in " ".join(result.stdout.split())


def test_preview_writes_a_sheet(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "sheet.png"
    result = call("preview", *TINY, "--clips", "1", "--out", str(out), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"preview": str(out)} and out.read_bytes().startswith(b"\x89PNG")
