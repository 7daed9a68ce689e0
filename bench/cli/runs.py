"""Commands that run methods: run, profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import CACHE, DATA_ROOT, DEBUG, DEVICE, JSON, RUNS, SEED, SHIFT, THREADS, app, one_line_errors, print_json


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
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="At most so many steps, to try a shift out; refused by the leaderboard."),
    ] = None,
    source_model: Annotated[
        Path | None, typer.Option("--source-model", help="Model file to start from, instead of training one.")
    ] = None,
    data_root: DATA_ROOT = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Replace a clip that cannot be read by the next one, and count it.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Threads that read clips ahead.")] = 0,
    compiled: Annotated[bool, typer.Option("--compile", help="Let torch.compile work on the encoder.")] = False,
    save_predictions: Annotated[
        int,
        typer.Option(
            "--save-predictions", min=0, help="Save what each kept step says about so many target training clips."
        ),
    ] = 0,
    runs: RUNS = None,
    cache: CACHE = None,
    device: DEVICE = "auto",
    threads: THREADS = 0,
    force: Annotated[bool, typer.Option("--force", help="Repeat a finished run.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log losses, rates and pictures to <run>/tensorboard.")
    ] = False,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Adapt a source model with one method and score it. A finished run is found again, a killed one goes on."""
    with one_line_errors(debug):
        from bench.runs.config import make_run_config, parse_options

        options = parse_options(option or [])
        from bench.core.files import file_hash
        from bench.core.workspace import Workspace, default_cache, default_data_root, default_runs, pick_device

        from ._session import execute

        source_file = file_hash(source_model) if source_model else None
        config = make_run_config(method, shift, seed, options, init, steps, source_file)
        workspace = Workspace(
            runs or default_runs(),
            cache or default_cache(),
            pick_device(device),
            force=force,
            data_root=data_root or default_data_root(),
            source_file=source_model,
            workers=workers,
            compiled=compiled,
            skip_bad=skip_bad,
            save_predictions=save_predictions,
        )
        execute(config, workspace, threads, as_json, tensorboard)


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
        from bench.runs.config import make_run_config, parse_options

        from ._session import profiles

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
