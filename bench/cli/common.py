"""What all commands share: the application, options that recur, errors as one line, JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.core.errors import RunError, UsageError

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
DATA_ROOT = Annotated[
    Path | None,
    typer.Option(
        "--data-root", help="Folder with recorded data sets (VIPER/, Cityscapes/, ...) [default: $BENCH_DATA]."
    ),
]
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


def print_json(value: Any) -> None:
    """JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=1, sort_keys=True) + "\n")
