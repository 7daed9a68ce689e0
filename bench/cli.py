"""The command line. Importing it loads neither torch nor ray: what a command needs is imported when it runs."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import RunError, UsageError

app = typer.Typer(
    help="Benchmark of domain adaptation for video semantic segmentation. Start with: bench run --method stpl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON, nothing else on standard output.")]
DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
RUNS = Annotated[Path | None, typer.Option("--runs", help="Folder of runs [default: $BENCH_RUNS or runs].")]
CACHE = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder of rendered clips and source models [default: $BENCH_CACHE or cache]."),
]
DEVICE = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
THREADS = Annotated[int, typer.Option("--threads", min=0, help="CPU threads of torch; 0 leaves torch's choice.")]
SHIFT = Annotated[str, typer.Option("--shift", help="Benchmark: a name from `bench list shifts`, or a YAML file.")]
SEED = Annotated[int, typer.Option("--seed", help="Replicate: draws its own worlds, source model and adaptation seed.")]


@contextlib.contextmanager
def one_line_errors(debug: bool) -> Iterator[None]:
    """Errors become one line on standard error and an exit code: 2 wrong use, 1 failed."""
    try:
        yield
    except (UsageError, RunError) as error:
        if debug:
            raise
        typer.secho(f"bench: {error}", err=True, fg="red")
        raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None
    except KeyboardInterrupt:
        typer.secho("bench: stopped; the same command goes on where it was", err=True, fg="red")
        raise typer.Exit(1) from None
    except OSError as error:
        if debug:
            raise
        typer.secho(f"bench: {error.filename or 'file'}: {error.strerror or error}", err=True, fg="red")
        raise typer.Exit(1) from None
    except typer.Exit:
        raise
    except Exception as error:  # out of memory, a killed renderer, a fault of ours: one line all the same
        if debug:
            raise
        what = " ".join(str(error).split()) or "no message"
        typer.secho(f"bench: {type(error).__name__}: {what:.300} (--debug shows where)", err=True, fg="red")
        raise typer.Exit(1) from None


@app.command(epilog="Example: bench run --method stpl --seed 1 -o fusion=attention -o temperature=0.07")
def run(
    method: Annotated[str, typer.Option("--method", "-m", help="A name from `bench list methods`.")],
    shift: SHIFT = "ministreet",
    seed: SEED = 0,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", help="key=value: fusion, flow, network, or a setting of the method; repeatable."
        ),
    ] = None,
    init: Annotated[
        str,
        typer.Option("--init", help="source, or backbone: a UDA method without a source-trained model, as published."),
    ] = "source",
    runs: RUNS = None,
    cache: CACHE = None,
    device: DEVICE = "auto",
    threads: THREADS = 0,
    force: Annotated[bool, typer.Option("--force", help="Repeat a finished run.")] = False,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Adapt a source model with one method and score it. A finished run is found again, a killed one goes on."""
    with one_line_errors(debug):
        from .config import make_run_config, parse_options

        config = make_run_config(method, shift, seed, parse_options(option or []), init)
        from .session import execute

        execute(config, runs, cache, device, threads, force, as_json)


@app.command("list", epilog="Example: bench list methods")
def list_(
    what: Annotated[str, typer.Argument(help="methods, shifts, fusions, flows or networks; all without it.")] = "",
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """List what is there, by discovery."""
    with one_line_errors(debug):
        from .catalogue import catalogue, print_catalogue

        found = catalogue(what)
        print_json(found) if as_json else print_catalogue(found)


@app.command(epilog="Example: bench preview --shift ministreet --clips 3")
def preview(
    shift: SHIFT = "ministreet",
    seed: SEED = 0,
    clips: Annotated[int, typer.Option("--clips", min=1, max=12, help="Clips per domain.")] = 3,
    out: Annotated[Path, typer.Option("--out", help="PNG to write.")] = Path("preview/clips.png"),
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Write a contact sheet: frame t-1, t, label, flow, warped previous frame, valid mask, of both domains."""
    with one_line_errors(debug):
        from .preview import run_preview

        path = run_preview(shift, clips, seed, out)
        print_json({"preview": str(path)}) if as_json else typer.echo(f"Wrote {path}")


@app.command(epilog="Example: bench tune --method stpl --trials 0:16 --seeds 0:2")
def tune(
    method: Annotated[str, typer.Option("--method", "-m", help="A name from `bench list methods`.")],
    shift: SHIFT = "ministreet-dev",
    trials: Annotated[
        str, typer.Option("--trials", help="First and end of the trials; trial 0 is the defaults.")
    ] = "0:16",
    seeds: Annotated[str, typer.Option("--seeds", help="First and end of the replicates.")] = "0:2",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="key=value that stays fixed over the trials; repeatable.")
    ] = None,
    log: Annotated[Path, typer.Option("--log", help="CSV to which every run is added.")] = Path(
        "leaderboards/tuning/log.csv"
    ),
    runs: RUNS = None,
    cache: CACHE = None,
    device: DEVICE = "auto",
    threads: THREADS = 0,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Random search on development worlds, every run written to a log. The reported worlds are refused."""
    with one_line_errors(debug):
        from .config import parse_options, parse_range
        from .session import search

        spans = parse_range("--trials", trials), parse_range("--seeds", seeds)
        table = search(method, shift, *spans, parse_options(option or []), log, runs, cache, device, threads)
        if as_json:
            print_json(table)
        else:
            typer.echo("\n".join(f"{row['miou']:6.2f}  trial {row['trial']}  {row['settings']}" for row in table))


@app.command(epilog="Example: bench profile --method stpl --steps 20")
def profile(
    method: Annotated[list[str], typer.Option("--method", "-m", help="A name from `bench list methods`; repeatable.")],
    shift: SHIFT = "ministreet",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps to run.")] = 20,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="As for `bench run`.")] = None,
    cache: CACHE = None,
    device: DEVICE = "auto",
    threads: THREADS = 0,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Say where the time of a method's step goes, and how much of it is outside forward, backward and optimiser."""
    with one_line_errors(debug):
        from .config import make_run_config, parse_options
        from .session import profiles

        configs = [make_run_config(name, shift, 0, parse_options(option or [])) for name in method]
        rows = profiles(configs, cache, device, threads, steps)
        print_json(rows) if as_json else typer.echo(profile_text(rows))


def profile_text(rows: list[dict[str, Any]]) -> str:
    """One line per method."""
    parts = ("network", "losses", "backward", "optimiser", "clips", "rest")
    head = f"{'method':15}{'s/step':>8}" + "".join(f"{part:>11}" for part in parts) + f"{'outside':>9}{'rounds, s':>11}"
    lines = [
        f"{row['method']:15}{row['step']:8.3f}"
        + "".join(f"{row['share'].get(part, 0.0):9.1f} %" for part in parts)
        + f"{row['outside']:7.1f} %{row['rounds']:11.1f}"
        for row in rows
    ]
    return "\n".join([head, *lines])


@app.command(epilog="Example: bench leaderboard --check")
def leaderboard(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a committed page is stale.")] = False,
    root: Annotated[Path, typer.Option("--root", help="Folder with records/.")] = Path("leaderboards"),
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Generate the leaderboard pages from the committed records."""
    with one_line_errors(debug):
        from . import leaderboard as pages

        if check:
            stale = pages.check(root)
            if stale:
                raise RunError(f"Stale: {', '.join(map(str, stale))}; run `bench leaderboard` and commit")
            print_json({"stale": []}) if as_json else typer.echo("Leaderboards are fresh")
            return
        written = [str(path) for path in pages.write(root)]
        print_json({"written": written}) if as_json else typer.echo("\n".join(f"Wrote {path}" for path in written))


@app.command(epilog="Example: bench submit runs/0123456789ab")
def submit(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    root: Annotated[Path, typer.Option("--root", help="Folder with records/.")] = Path("leaderboards"),
    cache: CACHE = None,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Score the runs' checkpoints again, compare, and copy their records to the leaderboard's."""
    with one_line_errors(debug):
        from .submit import submit_runs

        copied = [str(path) for path in submit_runs(folders, root, cache)]
        print_json({"records": copied}) if as_json else typer.echo("\n".join(f"Wrote {path}" for path in copied))


@app.command(epilog="Example: bench doctor --json")
def doctor(runs: RUNS = None, cache: CACHE = None, as_json: JSON = False, debug: DEBUG = False) -> None:
    """Say what is installed, which devices there are, free disk, and what is missing and how to get it."""
    with one_line_errors(debug):
        from .doctor import examine, print_report

        report = examine(runs, cache)
        print_json(report) if as_json else print_report(report)
        if report["missing"]:
            raise typer.Exit(1)


def print_json(value: Any) -> None:
    """JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
