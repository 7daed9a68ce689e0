"""Sweeps: many runs, spread over cores, GPUs and nodes by Ray Tune. The only file that imports ray.

One Tuner drives everything. Its searcher hands out jobs in the order in which they become possible: the data of a replicate,
then the source models trained on it, then the runs that start from them; no slot waits for a file lock, and a worker process
goes from one job to the next without importing torch again. A trial is ``bench.runs.run.run(config, workspace)`` and nothing else,
so a sweep gives the same bits as ``bench run``. What is done is decided by the run store (``sweep_state``); Ray's own files are
scratch, and are removed with the sweep's temporary folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # names of shift files are relative to where the sweep was started
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # without it Ray warns on every start; a trial without a GPU says cpu itself
    "RAY_enable_metrics_collection": "0",
    "RAY_prestart_worker_first_driver": "0",  # trials have processes of their own: those started ahead end unused
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # the feeder gives out no more than there are slots
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
}
"""Read by Ray when it is imported or started: no telemetry, no output, no files of its own, no process without a use."""
os.environ.update(QUIET)
warnings.filterwarnings("ignore", category=FutureWarning, module="ray")

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put  # noqa: E402
from ray.tune import Callback  # noqa: E402
from ray.tune.schedulers import AsyncHyperBandScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

from bench.core.errors import RunError, UsageError  # noqa: E402
from bench.core.progress import aside  # noqa: E402
from bench.core.registry import packed  # noqa: E402
from bench.core.workspace import Workspace  # noqa: E402

from ._left_over import scratch_folder  # noqa: E402
from .jobs import Job, Jobs, SweepFolder  # noqa: E402
from .search import read_log  # noqa: E402
from .spec import Sweep  # noqa: E402
from .table import SweepTable  # noqa: E402
from .trial import Work, do, reason_of  # noqa: E402

STORE_BYTES = 100_000_000
"""Of Ray's object store, which holds next to nothing here; Ray takes no less than 75 MB."""
STARTING = b"bench-sweep-starting"
"""Key in Ray's store, known to driver and trials: whether a process of a trial is being started."""
PATIENCE = 60.0
"""Seconds for which a trial that is done waits for it."""
COUNT_EVERY = 1.0
"""Seconds between two counts of the cluster's slots: Tune asks for a job ten times a second, and each count is a call to Ray."""


@dataclass(frozen=True)
class Cluster:
    """Where trials run.

    Attributes:
        address: of a running Ray cluster, ``auto`` for the one of this machine; None starts one for this sweep.
        cpus, gpus: of the cluster that is started; by default what this machine has.
        dashboard: start Ray's dashboard too.
    """

    address: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    dashboard: bool = False


# The driver -----------------------------------------------------------------------------------------------------------


def sweep_runs(sweep: Sweep, workspace: Workspace, cluster: Cluster | None = None, work: Work | None = None) -> Jobs:
    """Run a sweep to its end; what is there already is not run again.

    Args:
        workspace: folders; the device is chosen by ``gpu``.
        work: what a trial does with a job, for tests.

    Returns:
        All jobs with their states. Failed ones do not raise.

    Raises:
        UsageError: the sweep cannot be run as asked.
        RunError: another process is at work on it, or no cluster could be reached.
    """
    if sweep.log:
        read_log(Path(sweep.log))  # said before a folder is made
    folder = SweepFolder(workspace.runs.resolve(), sweep.name)
    planned = folder.open(sweep)
    with folder.held():
        jobs = Jobs(folder, planned, sweep.retries, log=sweep.log)
        with SweepTable(jobs) as table:
            if not jobs.over:
                with started(cluster or Cluster()) as scratch:
                    _check_resources(sweep)
                    _tune(sweep, jobs, table, workspace, scratch, work or do)
            table.show()
        jobs.write_log()
    return jobs


def _tune(sweep: Sweep, jobs: Jobs, table: SweepTable, workspace: Workspace, scratch: Path, work: Work) -> None:
    feeder = Feeder(jobs, lambda job: payload(job, sweep, workspace), lambda: slots(sweep))
    asha = sweep.search.asha if sweep.search else None
    scheduler = None
    if asha:
        steps = jobs.runs[0].config.protocol.adaptation.steps
        scheduler = AsyncHyperBandScheduler(
            time_attr="snapshot",
            metric="target_score",
            mode="max",
            max_t=steps + 1,  # the last step is followed by the evaluation: nothing is to be stopped there
            grace_period=max(1, round(asha.grace * steps)),
            reduction_factor=asha.reduction,
        )
    tuner = tune.Tuner(
        tune.with_resources(trial_of(work), {"cpu": sweep.cpu, "gpu": sweep.gpu}),
        tune_config=tune.TuneConfig(
            search_alg=feeder,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(scratch), verbose=0, callbacks=[Follower(feeder, table)]
        ),
    )
    tuner.fit()


class _Scratch:
    """Tune stores a pickle of everything that it is given; these parts have nothing to be restored from."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _Scratch:
        return self


class Feeder(_Scratch, Searcher):
    """Gives Tune the next job when a slot is free, and is told what became of it.

    Tune gives the process of a trial that is done to the next one that waits, even if one is being started for that, which is
    then killed; after short trials a second process would never come up. So no trial waits for a slot (Tune is given none
    before), and a trial that is done keeps its process until those that are being started are there (:func:`wait_for_others`).
    """

    def __init__(self, jobs: Jobs, packed: Callable[[Job], dict[str, Any]], room: Callable[[], int]) -> None:
        super().__init__(metric="target_score", mode="max")
        self.jobs, self.packed, self.room = jobs, packed, room
        self.slots, self.counted = 0, -math.inf
        self.starting: set[str] = set()
        self.running: dict[str, Job] = {}
        self.reports: dict[str, dict[str, Any]] = {}

    def suggest(self, trial_id: str) -> Any:
        if self.jobs.over:
            return Searcher.FINISHED
        now = time.monotonic()
        if now >= self.counted + COUNT_EVERY:
            self.slots, self.counted = self.room(), now
        job = self.jobs.next() if len(self.running) < self.slots else None
        if job is None:
            return None
        self.running[trial_id] = job
        self.starting.add(trial_id)
        return {"job": json.dumps(self.packed(job))}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        job = self.running.get(trial_id)
        if job is None:
            return
        job.nodes = sorted({*job.nodes, str(result.get("node", ""))} - {""})
        for name in ("what", "step", "steps", "pace"):
            if name in result:
                setattr(job, name, result[name])
        self.reports.setdefault(trial_id, {}).update(
            {k: result[k] for k in ("record", "ready", "failed", "trace", "for_good", "target_score") if k in result}
        )

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error:  # the follower knows more
            return
        if result:
            self.on_trial_result(trial_id, result)
        self.starting.discard(trial_id)
        job, report = self.running.pop(trial_id), self.reports.pop(trial_id, {})
        if "failed" in report:
            self.jobs.fail(job, report["failed"], report["trace"], again=not report["for_good"])
        elif "record" in report or "ready" in report:
            self.jobs.finish(job, report.get("record"))
        elif "target_score" in report:
            self.jobs.stop(job, report["target_score"])
        else:
            self.jobs.fail(job, "the trial ended without a result", "")

    def lost(self, trial_id: str, text: str) -> None:
        """The trial's process ended without a word."""
        self.starting.discard(trial_id)
        job = self.running.pop(trial_id, None)
        self.reports.pop(trial_id, None)
        if job is not None:
            memory = "OutOfMemory" in text or "memory monitor" in text
            reason = (
                "out of memory: Ray stopped its process" if memory else "its process died (killed, or out of memory)"
            )
            self.jobs.fail(job, reason, text)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the run store is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class Follower(_Scratch, Callback):
    """Keeps the table up to date and notices processes that died."""

    def __init__(self, feeder: Feeder, table: SweepTable) -> None:
        self.feeder, self.table = feeder, table
        self.announced: bool | None = None

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if (starting := bool(self.feeder.starting)) != self.announced:
            _internal_kv_put(STARTING, str(int(starting)).encode(), overwrite=True)
            self.announced = starting
        self.table.show()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.feeder.starting.discard(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.feeder.lost(trial.trial_id, str(trial.get_error() or "no message"))


def payload(job: Job, sweep: Sweep, workspace: Workspace) -> dict[str, Any]:
    """The job of a trial and its surroundings, as JSON can hold them."""

    def resolved(path: Path | None) -> str | None:
        return None if path is None else str(path.resolve())

    return {
        "kind": job.kind,
        "key": job.key,
        "config": job.config.model_dump(mode="json"),
        "folder": os.getcwd(),
        "runs": resolved(workspace.runs),
        "cache": resolved(workspace.cache),
        "data_root": resolved(workspace.data_root),
        "source_file": resolved(workspace.source_file),
        "released": resolved(workspace.released),
        "plugins": packed(),
        "cpu": sweep.cpu,
        "device": "auto" if sweep.gpu else "cpu",
        "tuning": sweep.search is not None,
        "asha": sweep.search is not None and sweep.search.asha is not None,
    }


def _check_resources(sweep: Sweep) -> None:
    available = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, amount in (("CPU", float(sweep.cpu)), ("GPU", sweep.gpu)):
        if amount > available.get(name, 0.0):
            raise UsageError(
                f"{name.lower()}: {amount:g} per trial is asked for, but Ray sees {available.get(name, 0.0):g}"
            )


def slots(sweep: Sweep) -> int:
    """How many trials fit on the nodes that are there now."""

    def fit(resources: dict[str, float]) -> int:
        cores = int(resources.get("CPU", 0) / sweep.cpu)
        if not sweep.gpu:
            return cores
        gpus = int(resources.get("GPU", 0))
        return min(cores, int(gpus / sweep.gpu) if sweep.gpu >= 1 else gpus * int(1 / sweep.gpu + 1e-9))

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return sum(map(fit, alive))


# The cluster ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def started(cluster: Cluster) -> Iterator[Path]:
    """A Ray cluster for a sweep, started or joined; gives a folder for Ray's scratch files, which is removed at the end.

    Raises:
        RunError: the cluster cannot be reached or started.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    # Ray's driver prints on standard output what happens to its workers, whatever the level of logging.
    with scratch_folder() as scratch, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        if cluster.address:
            options["address"] = cluster.address
        else:
            options |= {
                "address": "local",  # not one that happens to run on this machine
                "num_cpus": cluster.cpus or len(os.sched_getaffinity(0)),
                "num_gpus": cluster.gpus,
                "include_dashboard": cluster.dashboard,
                "object_store_memory": STORE_BYTES,
                "_temp_dir": str(scratch),
            }
        try:
            try:
                context = ray.init(**options)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise RunError(f"No Ray cluster: {' '.join(str(error).split()):.300}") from None
            logging.getLogger("ray").setLevel(logging.CRITICAL)
            if cluster.dashboard and not cluster.address:
                aside(f"Dashboard: http://{context.dashboard_url}\n")
            yield scratch
        finally:
            ray.shutdown()


# The trial, in a process of Ray's -------------------------------------------------------------------------------------


def trial_of(work: Work) -> Callable[[dict[str, Any]], None]:
    """The function that Tune calls: do a job, report how it goes and what came of it. It never raises."""

    def trial(config: dict[str, Any]) -> None:
        job = json.loads(config["job"])
        node = ray.get_runtime_context().get_node_id()

        def say(report: dict[str, Any]) -> None:
            tune.report({**report, "node": node})

        try:
            outcome = work(job, say)
        except Exception as error:
            outcome = {
                "failed": reason_of(error),
                "trace": traceback.format_exc(),
                "for_good": isinstance(error, UsageError),
            }
        wait_for_others()
        say(outcome)

    return trial


def wait_for_others() -> None:
    """Keep this process until those that are being started are there; see :class:`Feeder`."""
    deadline = time.monotonic() + PATIENCE
    while _internal_kv_get(STARTING) == b"1" and time.monotonic() < deadline:
        time.sleep(0.05)
