"""Where a sweep stands: its jobs, what they wait for, and the folder that outlives a killed driver. Knows nothing of Ray.

The run store decides what is done: a run with a good record is never started again, whatever a sweep's own files say. The
folder ``<runs>/sweeps/<name>/`` holds ``spec.yaml`` (what was asked for), ``runs.json`` (the hashes), ``journal.jsonl`` (failures
and early stops, one line each) and ``logs/`` (tracebacks).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.core.errors import Busy, RunError, UsageError
from bench.core.files import locked, write_atomically
from bench.core.schema import read_yaml
from bench.core.sealed import load_json, sealed, unsealed
from bench.runs.config import RunConfig, hash_of, method_class
from bench.runs.finished import config_text, finished
from bench.runs.records import Record, read_record
from bench.runs.source import source_flow

from .search import Tries, same_trial, write_log
from .spec import Planned, Sweep, plan

State = Literal["waiting", "running", "done", "found", "stopped", "failed"]
OVER = ("done", "found", "stopped", "failed")


@dataclass
class Job:
    """One thing to do: the data of a replicate, a source model, or a run.

    Attributes:
        key: hash of the run, or of what is prepared.
        needs: keys of what must be there first.
        step, steps, pace: how far it is, and seconds per step.
        score: mIoU of a finished run in percent; target-only score of a stopped one.
    """

    key: str
    kind: Literal["data", "source", "run"]
    label: str
    config: RunConfig
    needs: tuple[str, ...] = ()
    state: State = "waiting"
    attempts: int = 0
    what: str = ""
    step: int = 0
    steps: int = 0
    pace: float | None = None
    score: float | None = None
    reason: str = ""
    log: str = ""
    nodes: list[str] = field(default_factory=list)


def preparations(planned: Sequence[Planned]) -> tuple[list[Job], dict[str, tuple[str, ...]]]:
    """What must exist before runs that share it, each once, and what each run needs of it.

    Returns:
        Jobs in the order in which runs first need them, and keys of needed jobs by run.
    """
    jobs: dict[str, Job] = {}
    needs: dict[str, tuple[str, ...]] = {}
    for run in planned:
        config, cls = run.config, method_class(run.config.method)
        replicate = [config.shift, config.shift_hash, config.steps, config.seed]
        world = f"data-{hash_of(replicate)}"
        jobs.setdefault(world, Job(world, "data", f"data of seed {config.seed}", config))
        needs[config.hash] = (world,)
        if cls.start == "scratch" or config.init == "backbone" or config.source_file:
            continue
        flow = source_flow(config, config.protocol)
        model = f"source-{hash_of([*replicate, config.network, config.fusion, config.weights, flow])}"
        name = f"source model, {config.fusion}, seed {config.seed}"
        jobs.setdefault(model, Job(model, "source", name, config, (world,)))
        needs[config.hash] = (model,)
    return list(jobs.values()), needs


class SweepFolder:
    """The files of a sweep; see the module's text."""

    def __init__(self, runs: Path, name: str) -> None:
        self.runs, self.name = runs, name
        self.path = runs / "sweeps" / name

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other drivers out. A killed driver's lock is released by the operating system.

        Raises:
            RunError: another driver is at work on this sweep.
        """
        try:
            with locked(self.path, timeout=1.0):
                yield
        except Busy:
            raise Busy(f"Sweep '{self.name}' is being run by another process; wait for it or stop it") from None

    def stored(self) -> Sweep:
        """The sweep as its ``spec.yaml`` has it.

        Raises:
            UsageError: there is no such sweep, or its file does not validate.
        """
        if not (self.path / "spec.yaml").is_file():
            names = sorted(p.parent.name for p in self.path.parent.glob("*/spec.yaml"))
            raise UsageError(f"No sweep '{self.name}' in {self.path.parent}; there are: {', '.join(names) or 'none'}")
        sweep: Sweep = read_yaml(self.path / "spec.yaml", Sweep, "Sweep")
        return sweep.model_copy(update={"name": self.name})

    def open(self, sweep: Sweep) -> list[Planned]:
        """Write down what is asked for, or check that it is what was asked for before.

        Raises:
            UsageError: the name is taken by another sweep, or code and protocols changed so that its runs are others now.
        """
        planned = plan(sweep)
        keys = [run.config.hash for run in planned]
        if (self.path / "runs.json").is_file():
            if self.stored().identity != sweep.identity:
                raise UsageError(f"Sweep '{self.name}' was asked for other runs before; choose another --name")
            if self._runs_before() != keys:
                raise UsageError(
                    f"The runs of sweep '{self.name}' are others since code or protocols changed; rename it"
                )
        write_atomically(self.path / "spec.yaml", sweep.to_yaml())
        write_atomically(self.path / "runs.json", json.dumps(keys, indent=1) + "\n")
        return planned

    def _runs_before(self) -> Any:
        """Hashes of the runs, as they were written down.

        Raises:
            RunError: they cannot be read any more.
        """
        path = self.path / "runs.json"
        try:
            return load_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(f"Cannot read {path}: {error.strerror or error}") from None
        except ValueError:
            raise RunError(
                f"{path} is damaged; delete it, and the sweep goes on with the runs that are there"
            ) from None

    def note(self, job: Job, event: str, **fields: Any) -> None:
        """Add a line to the journal. A sweep on a full disk goes on without it."""
        line = {"event": event, "job": job.key, "label": job.label, "seed": job.config.seed, **fields}
        try:
            with (self.path / "journal.jsonl").open("a", encoding="utf-8") as journal:
                journal.write(json.dumps(sealed(line)) + "\n")
        except OSError:
            pass

    def stopped_early(self) -> dict[str, float]:
        """Target-only score of the runs that were stopped on purpose. A line cut short by a kill, or damaged, is passed over: what
        it said is found out again."""
        scores: dict[str, float] = {}
        if (self.path / "journal.jsonl").is_file():
            for line in (self.path / "journal.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    entry = unsealed(load_json(line))
                    if entry["event"] == "stopped":
                        scores[str(entry["job"])] = float(entry["score"])
        return scores

    def keep_log(self, job: Job, text: str) -> str:
        """Write down what a failed job said; returns the path relative to the folder, empty where the disk is full."""
        path = self.path / "logs" / f"{job.key}-{job.attempts}.log"
        try:
            write_atomically(path, text if text.endswith("\n") else text + "\n")
        except RunError:
            return ""
        return str(path.relative_to(self.path))


class Jobs:
    """All jobs of a sweep, in order, and what may start next.

    Args:
        folder: of the sweep.
        planned: its runs.
        retries: how often a failed job is tried again.
        note: False leaves the journal alone.
        log: CSV to which every finished run of a search is added as soon as it is there.

    Raises:
        RunError: the log is another file, or cannot be written.
    """

    def __init__(
        self,
        folder: SweepFolder,
        planned: Sequence[Planned],
        retries: int = 0,
        note: bool = True,
        log: str | None = None,
    ) -> None:
        self.folder, self.retries, self._notes, self._log = folder, retries, note, log
        self._trials = {run.config.hash: run.trials for run in planned}
        self._same = {
            same_trial(run.config.method, trial, run.trials[0]): None for run in planned for trial in run.trials[1:]
        }
        before, needs = preparations(planned)
        runs = [Job(p.config.hash, "run", p.label, p.config, needs[p.config.hash]) for p in planned]
        self.by_key = {job.key: job for job in [*before, *runs]}
        self.runs = runs
        stopped = folder.stopped_early()
        for job in runs:
            self._look(job, stopped)
        needed = {need for job in runs if job.state == "waiting" for need in self._all_needs(job)}
        for job in before:
            if job.key not in needed:
                job.state = "found"
        self.write_log()

    def _look(self, job: Job, stopped: dict[str, float]) -> None:
        """Whether the run is there already."""
        try:
            record = finished(self.folder.runs / job.key, job.config)
        except RunError as error:  # damaged, or another config's: a person has to look, the others go on
            self.fail(job, str(error), "", again=False)
            return
        if record is not None:
            job.state, job.score = "found", record.result.miou
        elif job.key in stopped:
            job.state, job.score = "stopped", stopped[job.key]

    def _all_needs(self, job: Job) -> Iterator[str]:
        for need in job.needs:
            yield need
            yield from self._all_needs(self.by_key[need])

    def __iter__(self) -> Iterator[Job]:
        return iter(self.by_key.values())

    @property
    def over(self) -> bool:
        """True when nothing is left to do."""
        return all(job.state in OVER for job in self)

    def next(self) -> Job | None:
        """A job that may start, marked as running; runs before preparations, so that what is prepared is used.

        None where everything left waits for what is running.
        """
        ready = [job for job in self if job.state == "waiting" and self._ready(job)]
        if not ready:
            return None
        # A source model that is ready frees many runs, but the second one must not keep the first one's runs waiting.
        job = min(ready, key=lambda job: job.kind != "run")
        job.state = "running"
        job.attempts += 1
        job.step, job.steps, job.pace, job.what = 0, 0, None, ""
        return job

    def _ready(self, job: Job) -> bool:
        return all(self.by_key[need].state in ("done", "found") for need in job.needs)

    def finish(self, job: Job, record: str | None = None) -> None:
        """A job is done. The record of a run that came from a node with folders of its own is written down here."""
        if job.kind == "run":
            path = self.folder.runs / job.key
            try:
                if record is not None and not (path / "record.json").is_file():
                    write_atomically(path / "config.yaml", config_text(job.config))
                    write_atomically(path / "record.json", record)
                stored = finished(path, job.config)
            except RunError as error:
                self.fail(job, str(error), "")
                return
            if stored is None:
                self.fail(job, "the trial ended without a record", "")
                return
            job.score = stored.result.miou
        job.state = "done"
        with contextlib.suppress(RunError):  # said at the end of the sweep: what runs need not stop for the log
            self.write_log()

    def stop(self, job: Job, score: float) -> None:
        """A run was stopped early on purpose."""
        job.state, job.score = "stopped", score
        self.folder.note(job, "stopped", step=job.step, score=score)

    def fail(self, job: Job, reason: str, trace: str, again: bool = True, log: str = "") -> None:
        """A job failed: it waits for another try, or is given up, and with it what needs it.

        Args:
            reason: one line.
            trace: what goes into a log of its own; empty for none.
            again: False where another try makes no sense.
            log: an existing one instead.
        """
        job.reason = " ".join(reason.split()) or "no message"
        job.log = self.folder.keep_log(job, trace) if trace else log
        again = again and job.attempts <= self.retries
        if self._notes:
            self.folder.note(job, "failed", attempt=job.attempts, reason=job.reason, log=job.log, again=again)
        job.state = "waiting" if again else "failed"
        if not again:
            for dependent in self:
                if job.key in dependent.needs and dependent.state == "waiting":
                    cause = job.reason if job.attempts == 0 else f"{job.label}: {job.reason}"  # the first in the chain
                    self.fail(dependent, cause, "", again=False, log=job.log)

    def records(self) -> list[Record]:
        """Records of all finished runs, in the sweep's order."""
        done = [job for job in self.runs if job.state in ("done", "found")]
        return [read_record(self.folder.runs / job.key / "record.json") for job in done]

    def tries(self) -> Tries:
        """Trials and records of all finished runs of a search, in the order of the trials."""
        pairs = [(trial, record) for record in self.records() for trial in self._trials[record.run]]
        return sorted(pairs, key=lambda pair: (pair[0], pair[1].config.seed))

    def write_log(self) -> None:
        """Bring the log up to date, where there is one.

        Raises:
            RunError: it is another file, or cannot be written.
        """
        if self._log:
            self._same.update(dict.fromkeys(write_log(Path(self._log), self.tries())))

    @property
    def same_trials(self) -> list[str]:
        """Which trials of a search drew the settings of another one, or are in the log as another one."""
        return list(self._same)


def counts(jobs: Iterable[Job]) -> dict[str, int]:
    """Number of jobs by state, those that occur."""
    by_state: dict[str, int] = {}
    for job in jobs:
        by_state[job.state] = by_state.get(job.state, 0) + 1
    return by_state
