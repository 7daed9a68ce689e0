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
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from bench.core.errors import RunError, UsageError, short, unknown

if TYPE_CHECKING:
    from rich.table import Table

PANELS = RUN, COMPARE, REAL, OWN, BOARD, LOOK = "Run", "Compare", "Real data", "Your own video", "Leaderboard", "Look"
"""Panels of ``bench --help``, in this order."""

LEAST_WIDTH = 40
"""Columns that are printed however few ``$COLUMNS`` says: with 0 rich prints nothing."""

FIRST = """Benchmark of domain adaptation for video semantic segmentation. Three commands to begin with:

  bench run --method stpl     one run: renders a benchmark, trains a source model, adapts it, scores it
  bench list methods          what there is to run
  bench adapt --help          your own model on your own unlabelled video

All commands: bench --help
"""


NotParsed: Any = typer.BadParameter.__mro__[1]
"""What typer raises where a command line is not as declared: click's ``UsageError``, of which newer typers have a copy."""


class Command(typer.core.TyperCommand):
    """A command that refuses empty values, as of a shell variable that is not set: they would count as not given, or as the working
    folder; and says which value it cannot take."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given: dict[str, Any] = {}
        params: Any = self.params  # of click, or of typer's copy of it
        try:
            given = self.make_parser(ctx).parse_args(list(args))[0]
            for param in params:
                value = given.get(str(param.name))
                if any(isinstance(text, str) and not text.strip() for text in _each(value)):
                    way_out = "give a value" if param.required else "give a value or leave it out"
                    raise typer.BadParameter(f"empty; {way_out}", ctx=ctx, param=param)
            return super().parse_args(ctx, args)
        except NotParsed as error:
            error.ctx = error.ctx or ctx
            value = given.get(str(error.param.name)) if getattr(error, "param", None) else None
            texts = [short(text, 60) for text in _each(value) if isinstance(text, str) and text.strip()]
            if any(text.lower() in ("nan", "+nan", "-nan") for text in texts):  # which would be "not less than 60"
                error.message = "Input should be a number"
            if texts and not any(text in error.message for text in texts):
                error.message = f"{error.message.rstrip('.')}, got '{', '.join(texts)}'"
            raise


def _each(value: Any) -> tuple[Any, ...]:
    """What an option was given: once, or several times."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


class Group(typer.core.TyperGroup):
    """Commands; a name that is none of them is said with those that there are."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except NotParsed as error:
            error.ctx = error.ctx or ctx
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise unknown("command", args[0], self.commands, context=f" of `{typed(ctx)}`")
        return super().resolve_command(ctx, args)


class Panels(Group):
    """All commands, in the order of their panels."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=lambda name: PANELS.index(str(self.commands[name].rich_help_panel)))  # type: ignore[attr-defined]

    def main(self, *args: Any, **extra: Any) -> Any:
        """As typer's, but what does not parse, or cannot be shown, is one line too."""
        if not extra.get("standalone_mode", True):
            return super().main(*args, **extra)
        given = (args[0] if args else extra.get("args")) or sys.argv
        columns = os.environ.get("COLUMNS", "")
        if columns.isdigit() and int(columns) < LEAST_WIDTH:
            os.environ["COLUMNS"] = str(LEAST_WIDTH)
        try:
            with shown():
                code = super().main(*args, **{**extra, "standalone_mode": False})
        except NotParsed as error:
            code = error.exit_code
            if type(error).__name__ != "NoArgsIsHelpError":  # its help was printed
                tell(not_parsed(error))
        except (UsageError, RunError) as error:
            if "--debug" in given:
                raise
            code = tell(error)
        except typer.Exit as end:
            code = end.exit_code
        except typer.Abort:
            code = tell(KeyboardInterrupt())
        sys.exit(code if isinstance(code, int) else 0)


def typed(ctx: Any) -> str:
    """What is typed for a command, however the program was started: ``bench data check``."""
    return f"bench{ctx.command_path.removeprefix(ctx.find_root().info_name or '')}"


def not_parsed(error: Any) -> UsageError:
    """A command line that is not as declared, in one line: what is wrong, what is allowed, where it stands."""
    kind, params = type(error).__name__, error.ctx.command.params
    option: Any = getattr(error, "option_name", None)
    if kind == "NoSuchOption":
        there = [name for param in params for name in (*param.opts, *param.secondary_opts) if name.startswith("--")]
        return unknown("option", option, {*there, "--help"}, context=f" of `{typed(error.ctx)}`")
    param = getattr(error, "param", None) or next((param for param in params if option in param.opts), None)
    wanted = "" if kind == "BadParameter" or param is None or getattr(param, "is_flag", False) else f": {param.help}"
    text = f"{error.format_message().rstrip('.')}{wanted}".rstrip(".")
    return UsageError(f"{text}; see {typed(error.ctx)} --help")


app = typer.Typer(
    cls=Panels,
    help="Benchmark of domain adaptation for video semantic segmentation.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def group_of(name: str, panel: str, text: str) -> typer.Typer:
    """A group of commands, ``bench NAME COMMAND``, with its panel of ``bench --help`` and its help."""
    group = typer.Typer(cls=Group, help=text, no_args_is_help=True, add_completion=False)
    app.add_typer(group, name=name, rich_help_panel=panel)
    return group


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
        group.command(name, cls=Command, epilog=f"Example: {example}", rich_help_panel=panel)(run)
        return run

    return register


def say(answer: Says, as_json: bool) -> None:
    """Print what a command says.

    Raises:
        RunError, typer.Exit: it ends with an error, or cannot be printed.
    """
    if sys.stdout is None:
        raise RunError("Cannot show the result: standard output is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    with shown():
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
def shown() -> Iterator[None]:
    """Print to standard output and know that it has arrived.

    Raises:
        RunError: it has not; a reader that has enough, as ``head``, is no error, and the exit code is 1 without a line.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # or Python tries again when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(1) from None
        raise RunError(f"Cannot write to standard output: {error.strerror or error}") from error


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
        raise typer.Exit(tell(error)) from None


def tell(error: BaseException) -> int:
    """Say an error in one line on standard error; the exit code: 2 wrong use, 1 failed."""
    with contextlib.suppress(OSError):  # nobody to tell; the exit code stays
        typer.secho(f"bench: {line_of(error)}", err=True, fg="red")
    return 2 if isinstance(error, UsageError) else 1


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


def whole(table: Table) -> Table:
    """A table that cuts no name, hash or path: what is wider than its column goes on in the next line."""
    for column in table.columns:
        column.overflow = "fold"
    return table


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
