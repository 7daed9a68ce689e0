"""Many runs, and comparisons of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .place import LEADERBOARDS, Place, root_in, runs_in

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bench.analysis.compare import Comparison
    from bench.sweeps.jobs import Jobs


def sweep(
    spec: str | Path | None = None,
    *,
    resume: str | None = None,
    gpu: float | None = None,
    cpu: int | None = None,
    retries: int | None = None,
    address: str | None = None,
    dashboard: bool = False,
    dry_run: bool = False,
    runs: str | Path | None = None,
    cache: str | Path | None = None,
    data_root: str | Path | None = None,
    **fields: Any,
) -> Jobs:
    """Many runs at once, spread over cores, GPUs and nodes by Ray. What is there already is not run again.

    Args:
        spec: YAML file that says what to run; else give ``methods`` and the like.
        resume: name of a sweep to go on with.
        gpu, cpu, retries: per trial; 0.5 GPU puts two trials on one.
        address, dashboard: of the Ray cluster.
        dry_run: list the runs and which are there; run nothing.
        fields: of :class:`bench.sweeps.spec.Sweep`: ``methods`` (``method`` on the command line), ``seeds="0:5"``,
            ``grid={"stpl.fusion": [...]}``, ``options``, ``search={"kind": "random", "trials": "0:16"}``, ``log``, ``shift``,
            ``steps``, ``protocol="stream"``, ``name``.

    Returns:
        The jobs with their states; ``.records()`` of those that are done.

    Raises:
        UsageError: the sweep cannot be run as asked.
    """
    from bench.sweeps.jobs import SweepFolder
    from bench.sweeps.spec import asked_for

    spread = {key: value for key, value in (("gpu", gpu), ("cpu", cpu), ("retries", retries)) if value is not None}
    folders = {"runs": runs, "cache": cache, "data_root": data_root}
    stored = SweepFolder(runs_in(runs), resume).stored if resume is not None else None
    whole = asked_for(Path(spec) if spec else None, stored, fields, spread)
    return _sweep(whole, folders, address, dashboard, dry_run)


def _sweep(
    whole: Any,
    folders: Mapping[str, Any],
    address: str | None = None,
    dashboard: bool = False,
    dry_run: bool = False,
    cores: int | None = None,
) -> Jobs:
    from bench.core.progress import say
    from bench.core.workspace import Workspace
    from bench.sweeps.jobs import Jobs, SweepFolder
    from bench.sweeps.spec import plan

    workspace = Workspace.at(**folders)
    if dry_run:
        jobs = Jobs(SweepFolder(workspace.runs, whole.name), plan(whole), note=False)
    else:
        from bench.sweeps.on_ray import Cluster, sweep_runs

        jobs = sweep_runs(whole, workspace, Cluster(address, cores, dashboard=dashboard))
    if jobs.same_trials:
        say(f"the same settings, so one run: {', '.join(jobs.same_trials)}")
    return jobs


def plan(
    shift: str = "ministreet",
    method: str | Sequence[str] = "all",
    *,
    gpu: str = "h100",
    gpus: int = 1,
    seeds: str = "0",
    options: Mapping[str, Any] | None = None,
    runs: str | Path | None = None,
) -> dict[str, Any]:
    """What runs would take on GPUs that need not be there: memory, operations and seconds per step from a dry run, hours of source
    training, adaptation and evaluation, disk, reading, the order of the sweep, and what will not fit.

    Args:
        method: names, or ``all``.
        gpu: a name of :data:`bench.sweeps.gpus.GPUS`; times follow from its data sheet and assumed shares of it.
        gpus: how many of them, one run on each at a time.
        seeds: first and end of the replicates, ``0:3``.
        options: as for :func:`run`.
        runs: finished runs in this folder are not planned again.

    Raises:
        UsageError: unknown method, option or GPU.
    """
    from bench.core.progress import ProgressDisplay
    from bench.core.workspace import Workspace
    from bench.sweeps.forecast import planned
    from bench.sweeps.spec import asked_for

    methods = (
        method if isinstance(method, str) and method == "all" else [method] if isinstance(method, str) else [*method]
    )
    fields = {"shift": shift, "methods": methods, "seeds": seeds, "options": dict(options or {})}
    whole = asked_for(None, None, fields, {"gpu": 1.0})
    with ProgressDisplay() as progress:
        return planned(whole, Workspace(runs_in(runs)), gpu, gpus, progress)


def study(
    name: str,
    seeds: str | None = None,
    root: str | Path = LEADERBOARDS,
    *,
    address: str | None = None,
    dashboard: bool = False,
    dry_run: bool = False,
    runs: str | Path | None = None,
    cache: str | Path | None = None,
    data_root: str | Path | None = None,
    **spread: Any,
) -> tuple[Jobs, list[Path]]:
    """Run a committed question and write its table and figure.

    Args:
        name: in ``bench/sweeps/studies``, or a YAML file.
        seeds: other replicates than the study's, ``0:3``.
        root: folder for table and figure.
        spread: ``gpu``, ``cpu``, ``retries`` as for :func:`sweep`.

    Returns:
        The jobs, and the page and figure of each shift (none after a dry run or where a run failed).
    """
    from bench.leaderboards.page import study_pages
    from bench.leaderboards.study_page import sequences_of_runs
    from bench.sweeps.spec import from_study
    from bench.sweeps.study import expand, load_study

    definition, root = load_study(name), root_in(root)
    expand(definition)  # what is wrong with a row is said with the row's label
    folders = {"runs": runs, "cache": cache, "data_root": data_root}
    jobs = _sweep(from_study(definition, seeds, **spread), folders, address, dashboard, dry_run)
    if dry_run or any(job.state == "failed" for job in jobs.runs):
        return jobs, []
    records = jobs.records()
    pages = study_pages(definition, records, root, sequences_of_runs(jobs.folder.runs, records))
    for page in pages:
        page.write()
    return jobs, [path for page in pages for path in page.files]


def compare(
    run_a: str | Path, run_b: str | Path, root: str | Path = LEADERBOARDS, runs: str | Path | None = None
) -> Comparison:
    """What differs between two runs in config, environment, result and cost; runs by hash, folder or record file."""
    from bench.analysis.compare import Comparison
    from bench.runs.finished import find_record
    from bench.runs.records import read_record

    return Comparison(*(read_record(find_record(str(run), runs_in(runs), root_in(root))) for run in (run_a, run_b)))


def gains(
    ours: str,
    theirs: str,
    shift: str = "ministreet",
    out: str | Path | None = None,
    root: str | Path = LEADERBOARDS,
    runs: str | Path | None = None,
) -> dict[str, Any]:
    """What a method (``stpl``, ``stpl:fusion=none``, or one run) wins and loses over another by class, paired by replicate."""
    from bench.analysis.gains import run_gains

    return run_gains(ours, theirs, shift, Path(out) if out else None, runs_in(runs), root_in(root))


def export(run: str | Sequence[str], csv: str | Path = "metrics.csv", runs: str | Path | None = None) -> int:
    """Write the training logs of runs as one CSV: run, method, seed, step, losses; returns the number of rows."""
    from bench.analysis.export import export_csv

    return export_csv([run] if isinstance(run, str) else run, Path(csv), runs_in(runs))


def tune(
    method: str,
    shift: str = "ministreet-dev",
    trials: str = "0:16",
    seeds: str = "0:2",
    log: str | Path = LEADERBOARDS / "tuning" / "log.csv",
    *,
    options: Mapping[str, Any] | None = None,
    **place: Unpack[Place],
) -> list[dict[str, Any]]:
    """Random search on development worlds, every run added to a log: ``sweep(search={"kind": "random"}, log=...)``.

    Args:
        options: that stay fixed over the trials.
        place: ``threads`` of each trial, 0: as many as torch takes.

    Returns:
        Mean mIoU and settings by trial, the best first.

    Raises:
        UsageError: the shift is not for tuning, or the method has nothing to search.
        RunError: a run failed; what the others gave is in the log.
    """
    import torch

    from bench.core.errors import RunError
    from bench.core.schema import validated
    from bench.core.workspace import pick_device
    from bench.runs.options import parse_range
    from bench.sweeps.search import summary
    from bench.sweeps.spec import Sweep

    parse_range("trials", trials), parse_range("seeds", seeds)  # named as they are called here
    device, threads = pick_device(place.pop("device", "auto")), place.pop("threads", 0) or torch.get_num_threads()
    if device.index is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(device.index)  # Ray gives out what it sees
    fields = {
        "methods": [method], "shift": shift, "seeds": seeds, "options": dict(options or {}), "log": str(log),
        "search": {"trials": trials}, "cpu": threads, "gpu": int(device.type == "cuda"),
    }  # fmt: skip
    place.pop("workers", None)  # of a single run
    cores = max(threads, len(os.sched_getaffinity(0)))  # more threads than cores are slow, not wrong
    jobs = _sweep(validated(Sweep, fields, "Tuning").named, place, cores=cores)
    if failed := [job for job in jobs.runs if job.state == "failed"]:
        problem = f"{len(failed)} of {len(jobs.runs)} runs failed, the first, {failed[0].label}: {failed[0].reason}"
        raise RunError(f"{problem}; once the causes are gone, the same again goes on from here")
    return summary(jobs.tries())
