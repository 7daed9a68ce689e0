"""What all commands share: the application, options that recur, errors as one line, JSON.

A command is a function from its options to what it :class:`Says`. :func:`command` adds to it the options that it names as
``shared``, ``--json`` and ``--debug``, prints what it says, and turns errors into one line and an exit code.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from bench.core.errors import RunError, UsageError, short

PANELS = RUN, COMPARE, REAL, OWN, BOARD, LOOK = "Run", "Compare", "Real data", "Your own video", "Leaderboard", "Look"
"""Panels of ``bench --help``, in this order."""

FIRST = """Benchmark of domain adaptation for video semantic segmentation. Three commands to begin with:

  bench run --method stpl     one run: renders a benchmark, trains a source model, adapts it, scores it
  bench list methods          what there is to run
  bench adapt --help          your own model on your own unlabelled video

All commands: bench --help
"""


class Panels(typer.core.TyperGroup):
    """Commands in the order of their panels."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=lambda name: PANELS.index(str(self.commands[name].rich_help_panel)))  # type: ignore[attr-defined]


app = typer.Typer(
    cls=Panels,
    help="Benchmark of domain adaptation for video semantic segmentation.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main(
    ctx: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Benchmark of domain adaptation for video semantic segmentation."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"bench {version_of('stpl-benchmark')}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(FIRST.rstrip())


JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON, nothing else on standard output.")]
DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
METHOD = Annotated[str, typer.Option("--method", "-m", help="A name from `bench list methods`, or a file.")]
OPTION = Annotated[list[str] | None, typer.Option("--option", "-o", help="key=value, as for `bench run`; repeatable.")]
PROTOCOL = Annotated[
    str,
    typer.Option(
        "--protocol",
        help="offline, or stream: clips come once, each is predicted, then adapted to (-o reset=sequence).",
    ),
]
SHIFT = Annotated[str, typer.Option("--shift", help="Benchmark: a name from `bench list shifts`, or a YAML file.")]
SEED = Annotated[int, typer.Option("--seed", help="Replicate: draws its own worlds, source model and adaptation seed.")]
RATE = Annotated[float, typer.Option("--rate", min=0.1, max=60, help="Pictures per second of the film.")]
ROOT = Annotated[Path, typer.Option("--root", help="Folder with records/ and the pages made of them.")]

SHARED: dict[str, tuple[Any, Any]] = {
    "runs": (
        Annotated[Path | None, typer.Option("--runs", help="Folder of runs [default: $BENCH_RUNS or runs].")],
        None,
    ),
    "cache": (
        Annotated[
            Path | None,
            typer.Option(
                "--cache", help="Folder of rendered clips and source models [default: $BENCH_CACHE or cache]."
            ),
        ],
        None,
    ),
    "data_root": (
        Annotated[
            Path | None,
            typer.Option(
                "--data-root", help="Folder with recorded data sets (VIPER/, Cityscapes/, ...) [default: $BENCH_DATA]."
            ),
        ],
        None,
    ),
    "device": (Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")], "auto"),
    "threads": (
        Annotated[
            int, typer.Option("--threads", min=0, help="CPU threads of torch and OpenCV; 0 leaves their choice.")
        ],
        0,
    ),
    "workers": (Annotated[int, typer.Option("--workers", min=0, help="Threads that read clips ahead.")], 0),
}
"""Options of where and on what a command works: their types and defaults. They have the same names in Python."""


class Says(NamedTuple):
    """What a command has to say.

    Attributes:
        value: for ``--json``.
        text: for a person: a string, or a function that gives what rich prints.
        error: the line that ends it, on standard error; then the exit code is 1.
        failed: the exit code is 1 without a line more.
    """

    value: Any
    text: str | Callable[[], Any] = ""
    error: str = ""
    failed: bool = False


def command(
    group: typer.Typer, example: str, *, name: str | None = None, panel: str | None = None, shared: str = ""
) -> Callable[[Callable[..., Says]], Callable[..., None]]:
    """Make a command of a function.

    Args:
        group: that it belongs to.
        example: of its use, shown under its help.
        name: what is typed, where it is not the function's name.
        panel: of ``bench --help``.
        shared: names of :data:`SHARED` that the function takes as keyword arguments.
    """

    def register(function: Callable[..., Says]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*, as_json: bool, debug: bool, **options: Any) -> None:
            with one_line_errors(debug):
                say(function(**options), as_json)

        keyword = inspect.Parameter.KEYWORD_ONLY
        declared = inspect.signature(function, eval_str=True).parameters.values()
        added = {key: SHARED[key] for key in shared.split()} | {"as_json": (JSON, False), "debug": (DEBUG, False)}
        parameters = [p.replace(kind=keyword) for p in declared if p.kind is not inspect.Parameter.VAR_KEYWORD]
        parameters += [
            inspect.Parameter(key, keyword, default=default, annotation=kind) for key, (kind, default) in added.items()
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        group.command(name, epilog=f"Example: {example}", rich_help_panel=panel)(run)
        return run

    return register


def say(answer: Says, as_json: bool) -> None:
    """Print what a command says.

    Raises:
        RunError, typer.Exit: it ends with an error.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    if as_json:
        sys.stdout.write(json.dumps(answer.value, indent=1, sort_keys=True) + "\n")
    elif callable(answer.text):
        from rich.console import Console

        Console().print(answer.text())
    elif answer.text:
        typer.echo(answer.text)
    if answer.error:
        raise RunError(answer.error)
    if answer.failed:
        raise typer.Exit(1)


@contextlib.contextmanager
def one_line_errors(debug: bool) -> Iterator[None]:
    """Errors become one line on standard error and an exit code: 2 wrong use, 1 failed."""
    try:
        yield
    except typer.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        typer.secho(f"bench: {line_of(error)}", err=True, fg="red")
        raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None


def line_of(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, (UsageError, RunError)):
        return short(error, 4000)
    if isinstance(error, KeyboardInterrupt):
        return "stopped; the same command goes on where it was"
    if isinstance(error, OSError):
        return short(f"{error.filename or 'file'}: {error.strerror or error}")
    # Out of memory, a killed renderer, a fault of ours: one line all the same.
    message = short(error) if str(error).strip() else "no message"
    return f"{type(error).__name__}: {message} (--debug shows where)"


def names(text: str) -> list[str]:
    """``"a,b"`` to ``["a", "b"]``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def fresh(stale: list[Any], write: str, text: str) -> Says:
    """What ``--check`` says of generated pages: ``text``, or an error that names the stale files and the command to write them."""
    error = f"Stale: {', '.join(map(str, stale))}; run `{write}` and commit" if stale else ""
    return Says({"stale": list(map(str, stale))}, "" if stale else text, error)


def wrote(paths: list[Any]) -> str:
    """A line per file that was written."""
    return "\n".join(f"Wrote {path}" for path in paths)
