"""Commands that run many runs: sweep, study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.core.progress import aside

from .common import COMPARE, OPTION, ROOT, Says, app, command, names

if TYPE_CHECKING:
    from bench.sweeps.jobs import Jobs

GPU = Annotated[float | None, typer.Option("--gpu", help="GPUs per trial; 0.5 puts two trials on one.")]
CPU = Annotated[int | None, typer.Option("--cpu", min=1, help="Cores, and threads of torch, per trial.")]
ADDRESS = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to use, `auto` for a running one [default: start one].")
]
DASHBOARD = Annotated[bool, typer.Option("--dashboard", help="Start Ray's dashboard too.")]
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="List the runs and which are there already; run nothing.")]
RETRIES = Annotated[int | None, typer.Option("--retries", min=0, help="How often a failed trial is tried again.")]


@command(
    app,
    "bench sweep --method stpl,ur --seeds 0:3 --grid stpl.fusion=concat,add --dry-run",
    panel=COMPARE,
    shared="data_root runs cache",
)
def sweep(
    spec: Annotated[Path | None, typer.Argument(help="YAML file that says what to run.")] = None,
    method: Annotated[str, typer.Option("--method", "-m", help="Names from `bench list methods`, or all.")] = "",
    seeds: Annotated[str | None, typer.Option("--seeds", help="First and end of the replicates, e.g. 0:5.")] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid", help="option=value,value for every method that has it, or method.option=...; repeatable."
        ),
    ] = None,
    option: OPTION = None,
    search: Annotated[
        str | None,
        typer.Option("--search", help="random or grid over each method's search space, on a shift for tuning only."),
    ] = None,
    trials: Annotated[
        str | None, typer.Option("--trials", help="First and end of the trials of a random search [default: 0:16].")
    ] = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="CSV to which every run of a random search is added.")
    ] = None,
    asha: Annotated[
        bool, typer.Option("--asha", help="Stop worse trials of a search early, by their target-only score.")
    ] = False,
    shift: Annotated[str | None, typer.Option("--shift", help="Benchmark [default: ministreet].")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="At most so many steps, to try out.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="offline or stream [default: offline].")] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Of the sweep [default: made of what is asked for].")
    ] = None,
    resume: Annotated[str | None, typer.Option("--resume", help="Name of a sweep to go on with.")] = None,
    gpu: GPU = None,
    cpu: CPU = None,
    retries: RETRIES = None,
    address: ADDRESS = None,
    dashboard: DASHBOARD = False,
    dry_run: DRY_RUN = False,
    **shared: Any,
) -> Says:
    """Many runs at once, spread over cores, GPUs and nodes by Ray. What is there already is not run again."""
    import bench
    from bench.runs.options import parse_options
    from bench.sweeps.spec import parse_grid, parse_search

    fields: dict[str, Any] = {
        "methods": method if method == "all" else names(method), "seeds": seeds, "grid": parse_grid(grid or []),
        "options": parse_options(option or []), "search": parse_search(search, trials, asha), "shift": shift,
        "steps": steps, "protocol": protocol, "log": str(log) if log else None, "name": name,
    }  # fmt: skip
    jobs = bench.sweep(
        spec, resume=resume, gpu=gpu, cpu=cpu, retries=retries, address=address, dashboard=dashboard, dry_run=dry_run,
        **shared, **{key: value for key, value in fields.items() if value not in (None, [], {})},
    )  # fmt: skip
    return outcome(jobs, dry_run)


@command(
    app, "bench plan viper2cityscapes --method stpl,hcl --gpu a100 --gpus 4 --seeds 0:3", panel=COMPARE, shared="runs"
)
def plan(
    shift: Annotated[str, typer.Argument(help="A name from `bench list shifts`, or a YAML file.")],
    method: Annotated[str, typer.Option("--method", "-m", help="Names from `bench list methods`, or all.")] = "all",
    gpu: Annotated[str, typer.Option("--gpu", help="A card, e.g. h100, a100, 4090; none need be here.")] = "h100",
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="How many of them.")] = 1,
    seeds: Annotated[str, typer.Option("--seeds", help="First and end of the replicates, e.g. 0:5.")] = "0",
    option: OPTION = None,
    **shared: Any,
) -> Says:
    """Say what runs would take on GPUs: memory, time, disk, the order of the week, and what will not fit. Needs none."""
    import bench
    from bench.runs.options import parse_options

    forecast = bench.plan(
        shift, method if method == "all" else names(method), gpu=gpu, gpus=gpus, seeds=seeds,
        options=parse_options(option or []), **shared,
    )  # fmt: skip
    from bench.sweeps.forecast import text

    return Says(forecast, text(forecast))


@command(app, "bench study temperature --seeds 0:1 --dry-run", panel=COMPARE, shared="data_root runs cache")
def study(
    name: Annotated[str, typer.Argument(help="A name from bench/sweeps/studies, or a YAML file.")],
    seeds: Annotated[str | None, typer.Option("--seeds", help="Other replicates than the study's, e.g. 0:3.")] = None,
    root: ROOT = Path("leaderboards"),
    gpu: GPU = None,
    cpu: CPU = None,
    retries: RETRIES = None,
    address: ADDRESS = None,
    dashboard: DASHBOARD = False,
    dry_run: DRY_RUN = False,
    **shared: Any,
) -> Says:
    """Run a study and write its table and figure."""
    import bench

    spread: dict[str, Any] = {k: v for k, v in {"gpu": gpu, "cpu": cpu, "retries": retries}.items() if v is not None}
    jobs, written = bench.study(
        name, seeds, root, address=address, dashboard=dashboard, dry_run=dry_run, **shared, **spread
    )
    for path in written:
        aside(f"Wrote {path}\n")
    if not (written or dry_run or any(job.state == "failed" for job in jobs.runs)):
        # Of two rows at least, and one that changes an option; see study_page.report.
        aside(
            "No page: it takes two rows, one of which changes an option; of methods as they are, bench leaderboard makes one\n"
        )
    return outcome(jobs, dry_run)


def outcome(jobs: Jobs, dry_run: bool) -> Says:
    """What came of a sweep: a line per run, what failed and why on standard error."""
    from bench.sweeps.table import as_json, failures, lines

    failed = [] if dry_run else failures(jobs.runs, jobs.folder.path)
    for line in failed:
        aside(f"failed: {line}\n")
    again = f"{len(failed)} of {len(jobs.runs)} runs failed; once the causes are gone: bench sweep --resume {jobs.folder.name}"
    return Says(as_json(jobs.folder.name, jobs), "\n".join(lines(jobs)), again if failed else "")
