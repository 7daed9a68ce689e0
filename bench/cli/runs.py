"""Commands that run methods: run, tune, profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.core.progress import say

from .common import COMPARE, LOOK, METHOD, OPTION, PROTOCOL, RUN, SEED, SHIFT, Says, app, command

EXAMPLE = "bench run --method stpl --seed 1 -o fusion=attention -o temperature=0.07"


@command(app, EXAMPLE, panel=RUN, shared="data_root workers runs cache device threads")
def run(
    method: METHOD,
    shift: SHIFT = "ministreet",
    seed: SEED = 0,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", help="key=value: fusion, flow, network, or a setting of the method; repeatable."
        ),
    ] = None,
    protocol: PROTOCOL = "offline",
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
    train_source: Annotated[
        bool,
        typer.Option("--train-source", help="Train the source model here, where a released one could be taken."),
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Replace a clip that cannot be read by the next one, and count it.")
    ] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Let torch.compile work on the encoder.")] = False,
    save_predictions: Annotated[
        int,
        typer.Option(
            "--save-predictions", min=0, help="Save what each kept step says about so many target training clips."
        ),
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Repeat a finished run.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log losses, rates and pictures to <run>/tensorboard.")
    ] = False,
    **shared: Any,
) -> Says:
    """Adapt a source model with one method and score it. A finished run is found again, a killed one goes on."""
    import bench
    from bench.runs.options import parse_options

    record = bench.run(
        method, shift, seed, options=parse_options(option or []), protocol=protocol, init=init, steps=steps,
        source_model=source_model, train_source=train_source, compiled=compiled, skip_bad=skip_bad,
        save_predictions=save_predictions, force=force, tensorboard=tensorboard,
        **shared,
    )  # fmt: skip
    from bench._face.place import runs_in

    from ._closing import closing_panel, notes

    folder = runs_in(shared["runs"]) / record.run
    for note in notes(record, folder, tensorboard):
        say(note)
    return Says(json.loads(record.to_json()), lambda: closing_panel(record, folder))


@command(app, "bench tune --method stpl --trials 0:16 --seeds 0:2", panel=COMPARE, shared="runs cache device threads")
def tune(
    method: METHOD,
    shift: SHIFT = "ministreet-dev",
    trials: Annotated[
        str, typer.Option("--trials", help="First and end of the trials; trial 0 is the defaults.")
    ] = "0:16",
    seeds: Annotated[str, typer.Option("--seeds", help="First and end of the replicates.")] = "0:2",
    option: OPTION = None,
    log: Annotated[Path, typer.Option("--log", help="CSV to which every run is added.")] = Path(
        "leaderboards/tuning/log.csv"
    ),
    **shared: Any,
) -> Says:
    """Random search on development worlds, every run written to a log. The reported worlds are refused."""
    import bench
    from bench.runs.options import parse_options

    table = bench.tune(method, shift, trials, seeds, log, options=parse_options(option or []), **shared)
    lines = [f"{row['miou']:6.2f}  trial {row['trial']}  {row['settings']}" for row in table]
    return Says(table, "\n".join(lines))


@command(app, "bench profile --method stpl --steps 20", panel=LOOK, shared="data_root cache device threads")
def profile(
    method: Annotated[list[str], typer.Option("--method", "-m", help="A name from `bench list methods`; repeatable.")],
    shift: SHIFT = "ministreet",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps to run.")] = 20,
    option: OPTION = None,
    **shared: Any,
) -> Says:
    """Say where the time of a method's step goes, and how much of it is outside forward, backward and optimiser."""
    import bench
    from bench.runs.options import parse_options

    rows = bench.profile(method, shift, steps, options=parse_options(option or []), **shared)
    return Says(rows, profile_text(rows))


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
