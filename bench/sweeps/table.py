"""What a person sees of a sweep: one live table on a terminal, plain lines elsewhere, and the list at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.core.progress import PLAIN_EVERY, aside, remarks

from .jobs import Job, Jobs, counts

RECENT = 8
"""Jobs that are over and still shown, the latest ones."""


class SweepTable:
    """Follows the jobs of a sweep on standard error. :meth:`show` may be called as often as anything changes."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.console = Console(file=remarks())
        self.live: Live | None = None
        self.states = {job.key: (job.state, job.attempts) for job in jobs}
        self.reported: dict[str, float] = {}
        self.over: list[Job] = []

    def __enter__(self) -> SweepTable:
        by_state = counts(self.jobs.runs)
        already = sum(by_state.get(state, 0) for state in ("found", "stopped"))
        self.console.print(f"{len(self.jobs.runs)} runs, {already} of them there already", highlight=False)
        if self.console.is_terminal:
            self.live = Live(self.table(), console=self.console, refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.update(self.table(), refresh=True)
            self.live.stop()

    def show(self) -> None:
        """Bring the table up to date, or say what changed."""
        changed = [job for job in self.jobs if self.states[job.key] != (job.state, job.attempts)]
        for job in changed:
            self.states[job.key] = job.state, job.attempts
            if job.state not in ("running", "waiting"):
                self.over.append(job)
        if self.live:
            self.live.update(self.table())
            return
        now = time.perf_counter()
        for job in self.jobs:
            started = self.reported.setdefault(job.key, now) if job.state == "running" else now
            due = job.state == "running" and now - started >= PLAIN_EVERY
            if job in changed or due:
                self.reported[job.key] = now
                aside(" ".join(f"{part:{width}}" for part, width in zip(cells(job), WIDTHS, strict=True)) + "\n")

    def table(self) -> Table:
        """Running jobs and the latest that are over; the counts below."""
        table = Table(box=None, pad_edge=False)
        for name in ("trial", "method", "seed", "step", "mIoU", "s/step", "state"):
            table.add_column(name, justify="right" if name in ("seed", "step", "mIoU", "s/step") else "left")
        for job in [*self.over[-RECENT:], *(job for job in self.jobs if job.state == "running")]:
            table.add_row(*cells(job))
        table.caption = ", ".join(f"{number} {state}" for state, number in counts(self.jobs.runs).items())
        return table


WIDTHS = (30, 14, 4, 9, 6, 7, 1)


def cells(job: Job) -> tuple[str, ...]:
    """Trial, method, seed, step, mIoU, seconds per step, state of a job, as text."""
    score = f"{job.score:.2f}" if job.score is not None and job.state in ("done", "found") else "-"
    step = f"{job.step}/{job.steps}" if job.steps else "-"
    state = f"{job.state}: {job.what}" if job.state == "running" and job.what else job.state
    if job.state in ("failed", "waiting") and job.reason:
        state += f" ({job.reason:.80})"
    method = job.config.method if job.kind == "run" else "-"
    return job.label, method, str(job.config.seed), step, score, f"{job.pace:.2f}" if job.pace else "-", state


def failures(jobs: Sequence[Job], folder: Path) -> list[str]:
    """One line per failed job: what, why, and where its log is."""
    return [
        f"{job.label}, seed {job.config.seed}: {job.reason}" + (f"  [{folder / job.log}]" if job.log else "")
        for job in jobs
        if job.state == "failed"
    ]


def lines(jobs: Jobs) -> list[str]:
    """One line per run: state, mIoU, hash, seed, label; the counts at the end."""
    text = [
        f"{job.state:8}{'' if job.score is None or job.state == 'stopped' else f'{job.score:.2f}':>6}"
        f"  {job.key}  seed {job.config.seed}  {job.label}"
        for job in jobs.runs
    ]
    return [*text, ", ".join(f"{number} {state}" for state, number in counts(jobs.runs).items())]


def as_json(name: str, jobs: Jobs) -> dict[str, Any]:
    """The result of a sweep."""
    return {
        "name": name,
        "counts": counts(jobs.runs),
        "runs": [
            {"run": j.key, "label": j.label, "method": j.config.method, "seed": j.config.seed, "state": j.state}
            | ({"miou": j.score} if j.state in ("done", "found") else {})
            | ({"target_score": j.score} if j.state == "stopped" else {})
            | ({"reason": j.reason, "log": j.log} if j.state == "failed" else {})
            for j in jobs.runs
        ],
    }
