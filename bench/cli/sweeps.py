"""Commands that run many runs: sweep, tune, study."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.core.errors import UsageError

from .common import CACHE, DATA_ROOT, DEBUG, DEVICE, JSON, RUNS, SHIFT, THREADS, app, one_line_errors, print_json

if TYPE_CHECKING:
    from bench.sweeps.jobs import Jobs
    from bench.sweeps.spec import Sweep

GPU = Annotated[float | None, typer.Option("--gpu", help="GPUs per trial; 0.5 puts two trials on one.")]
CPU = Annotated[int | None, typer.Option("--cpu", min=1, help="Cores, and threads of torch, per trial.")]
ADDRESS = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to use, `auto` for a running one [default: start one].")
]
DASHBOARD = Annotated[bool, typer.Option("--dashboard", help="Start Ray's dashboard too.")]
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="List the runs and which are there already; run nothing.")]
RETRIES = Annotated[int | None, typer.Option("--retries", min=0, help="How often a failed trial is tried again.")]


@app.command(epilog="Example: bench sweep --method stpl,ur --seeds 0:3 --grid stpl.fusion=concat,add --dry-run")
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
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="key=value that stays fixed; repeatable.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", help="random or grid over each method's search space, on a shift for tuning only."),
    ] = None,
    trials: Annotated[str, typer.Option("--trials", help="First and end of the trials of a random search.")] = "0:16",
    log: Annotated[
        Path | None, typer.Option("--log", help="CSV to which every run of a random search is added.")
    ] = None,
    asha: Annotated[
        bool, typer.Option("--asha", help="Stop worse trials of a search early, by their target-only score.")
    ] = False,
    shift: Annotated[str | None, typer.Option("--shift", help="Benchmark [default: ministreet].")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="At most so many steps, to try out.")] = None,
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
    data_root: DATA_ROOT = None,
    runs: RUNS = None,
    cache: CACHE = None,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Many runs at once, spread over cores, GPUs and nodes by Ray. What is there already is not run again."""
    with one_line_errors(debug):
        from bench.core.workspace import default_runs
        from bench.runs.config import parse_options
        from bench.sweeps.spec import parse_grid

        asked = {
            "methods": method if method == "all" else [part for part in method.split(",") if part],
            "seeds": seeds,
            "grid": parse_grid(grid or []),
            "options": parse_options(option or []),
            "search": _search(search, trials, asha),
            "shift": shift,
            "steps": steps,
            "log": str(log) if log else None,
            "name": name,
        }
        asked = {key: value for key, value in asked.items() if value}
        spread = {k: v for k, v in {"gpu": gpu, "cpu": cpu, "retries": retries}.items() if v is not None}
        whole = _asked(spec, resume, asked, spread, runs or default_runs())
        jobs = _run(whole, runs, cache, data_root, address, dashboard, dry_run)
        _tell(whole, jobs, dry_run, as_json)


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
    """Random search on development worlds, every run written to a log. The reported worlds are refused.

    The same as `bench sweep --search random --log LOG`, with a table of the trials at the end.
    """
    with one_line_errors(debug):
        import torch

        from bench.core.schema import validated
        from bench.core.workspace import pick_device
        from bench.runs.config import parse_options, parse_range
        from bench.sweeps.search import summary
        from bench.sweeps.spec import Sweep

        for name, span in (("--trials", trials), ("--seeds", seeds)):
            parse_range(name, span)
        where = pick_device(device)
        if where.index is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = str(where.index)  # Ray gives out what it sees
        asked = {
            "methods": [method], "shift": shift, "seeds": seeds, "options": parse_options(option or []),
            "search": {"trials": trials}, "log": str(log),
            "cpu": threads or torch.get_num_threads(), "gpu": int(where.type == "cuda"),
        }  # fmt: skip
        whole = validated(Sweep, asked, "Tuning").named
        cores = max(whole.cpu, len(os.sched_getaffinity(0)))  # more threads than cores are slow, not wrong
        jobs = _run(whole, runs, cache, None, None, False, False, cores)
        table = summary(jobs.tries())
        if as_json:
            print_json(table)
        else:
            typer.echo("\n".join(f"{row['miou']:6.2f}  trial {row['trial']}  {row['settings']}" for row in table))
        _close(jobs)


@app.command(epilog="Example: bench study temperature --seeds 0:1 --dry-run")
def study(
    name: Annotated[str, typer.Argument(help="A name from bench/sweeps/studies, or a YAML file.")],
    seeds: Annotated[str | None, typer.Option("--seeds", help="Other replicates than the study's, e.g. 0:3.")] = None,
    root: Annotated[Path, typer.Option("--root", help="Folder for tables and figures.")] = Path("leaderboards"),
    gpu: GPU = None,
    cpu: CPU = None,
    retries: RETRIES = None,
    address: ADDRESS = None,
    dashboard: DASHBOARD = False,
    dry_run: DRY_RUN = False,
    data_root: DATA_ROOT = None,
    runs: RUNS = None,
    cache: CACHE = None,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Run a study and write its table and figure."""
    with one_line_errors(debug):
        from bench.sweeps.spec import from_study
        from bench.sweeps.study import expand, load_study

        one = load_study(name)
        expand(one)  # what is wrong with a row is said with the row's label
        spread = {k: v for k, v in {"gpu": gpu, "cpu": cpu, "retries": retries}.items() if v is not None}
        whole = from_study(one, seeds, **spread)
        jobs = _run(whole, runs, cache, data_root, address, dashboard, dry_run)
        _tell(whole, jobs, dry_run, as_json)
        if not dry_run:
            for path in _report(one, jobs, root):
                typer.echo(f"Wrote {path}", err=True)


def _search(kind: str | None, trials: str, asha: bool) -> dict[str, Any] | None:
    if asha and not kind:
        raise UsageError("--asha stops trials of a search; add --search random")
    return {"kind": kind, "trials": trials, "asha": {} if asha else None} if kind else None


def _asked(spec: Path | None, resume: str | None, asked: dict[str, Any], spread: dict[str, Any], runs: Path) -> Sweep:
    """The sweep from whichever way it was asked for."""
    from bench.core.schema import read_yaml, validated
    from bench.sweeps.jobs import SweepFolder
    from bench.sweeps.spec import Sweep

    if resume:
        if spec or asked:
            raise UsageError(
                "--resume NAME goes on with what was asked for then; leave SPEC, --method and the like out"
            )
        return SweepFolder(runs, resume).stored().model_copy(update=spread)
    if not spec:
        if not asked.get("methods"):
            raise UsageError("What to run? Give a SPEC.yaml, --method a,b, or --resume NAME")
        return validated(Sweep, {**asked, **spread}, "Sweep").named
    if extra := set(asked) - {"name", "seeds", "shift", "steps", "log"}:
        raise UsageError(f"{spec} says what to run; leave out --{min(extra).removesuffix('s')} or the file")
    if not spec.is_file():
        raise UsageError(f"No file {spec}")
    stored = read_yaml(spec, Sweep, "Sweep")
    return validated(Sweep, {**stored.model_dump(mode="json"), **asked, **spread}, "Sweep").named


def _run(
    whole: Sweep,
    runs: Path | None,
    cache: Path | None,
    data_root: Path | None,
    address: str | None,
    dashboard: bool,
    dry_run: bool,
    cores: int | None = None,
) -> Jobs:
    """Run a sweep; with ``dry_run`` look only at what is there. ``cores``: of the cluster, others than this machine's."""
    from bench.core.workspace import Workspace, default_cache, default_data_root, default_runs
    from bench.sweeps.jobs import Jobs, SweepFolder
    from bench.sweeps.spec import plan

    workspace = Workspace(runs or default_runs(), cache or default_cache(), data_root=data_root or default_data_root())
    if dry_run:
        return Jobs(SweepFolder(workspace.runs, whole.name), plan(whole), note=False)
    from bench.sweeps.on_ray import Cluster, sweep_runs

    return sweep_runs(whole, workspace, Cluster(address, cores, dashboard=dashboard))


def _tell(whole: Sweep, jobs: Jobs, dry_run: bool, as_json: bool) -> None:
    """Print what came of a sweep, or what it would run; fail where runs did."""
    from bench.sweeps.table import as_json as result
    from bench.sweeps.table import lines

    if as_json:
        print_json(result(whole.name, jobs))
    else:
        typer.echo("\n".join(lines(jobs)))
    if not dry_run:
        _close(jobs)


def _close(jobs: Jobs) -> None:
    """Fail where runs did, after all had their chance."""
    from bench.sweeps.on_ray import closing

    closing(jobs)


def _report(study: Any, jobs: Jobs, root: Path) -> list[Path]:
    """Table and figure of a finished study."""
    from bench.leaderboards.page import study_pages
    from bench.leaderboards.study_page import sequences_of_runs

    records = jobs.records()
    sequences = sequences_of_runs(jobs.folder.runs, records)
    pages = study_pages(study, records, root, sequences)
    for page in pages:
        page.write()
    return [path for page in pages for path in page.files]
