"""``bench plan``: what runs would take on GPUs that need not be there: memory, operations, time, disk, and the order of a sweep."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bench.core.progress import Progress, quiet
from bench.core.schema import canonical
from bench.core.workspace import Workspace
from bench.data.datasets import dataset
from bench.runs.adaptation import adapts_statistics, schedule_of
from bench.runs.config import RunConfig, Shift, method_class
from bench.runs.dry_run import Pass, Training, dry_adaptation, dry_look, dry_source, frame_size
from bench.runs.released import released_model
from bench.runs.source import source_identity
from bench.runs.training import snapshot_steps
from bench.shifts.protocol import Recorded
from bench.shifts.sides import ModelFile

from .gpus import ARITHMETIC, BANDWIDTH, CONTEXT, LAUNCH, Gpu, gpu_of, seconds
from .jobs import Job, Jobs, SweepFolder
from .spec import Planned, Sweep, plan

RENDERED = 24 * 128 * 256 * 2
"""Pixels per second that one core renders, assumed: 24 clips of two frames of 128x256."""


@dataclass(frozen=True)
class Forecast:
    """What one run takes on one GPU.

    Attributes:
        tflop: of a step. ``step``: its seconds. ``waits``: how often the processor waits for the GPU in it.
        peak: bytes at the highest: of the adaptation or of the evaluation.
        adapt, evaluate: seconds; ``evaluate`` is None where nobody knows how many clips are scored.
        held: bytes of weights, gradients, optimiser and teachers: what a saved state is at most.
    """

    tflop: float
    step: float
    waits: int
    peak: int
    adapt: float
    evaluate: float | None
    held: int
    parameters: int

    @property
    def seconds(self) -> float:
        """Seconds of the run; without evaluation where its number of clips is not known."""
        return self.adapt + (self.evaluate or 0.0)


def clips_of(shift: Shift, role: str, split: str) -> int | None:
    """How many clips a split has, where that is known without looking at files."""
    side: Any = getattr(shift.data, role)
    if isinstance(side, Recorded):
        return dataset(side.dataset).counts.get(split)
    count = getattr(side, split, None)
    return count if isinstance(count, int) else None


@lru_cache(maxsize=64)
def _source(key: str) -> Training | None:
    return dry_source(RunConfig.model_validate_json(key))


@lru_cache(maxsize=64)
def _look(key: str) -> Pass:
    return dry_look(RunConfig.model_validate_json(key))


def _alike(config: RunConfig) -> str:
    """Runs of one key have the same source model and evaluation, but for the seed."""
    same = {
        "method": "source_only",
        "settings": {},
        "seed": 0,
        "init": "source",
        "revision": 1,
        "ingredients": "common",
    }
    return canonical(config.model_copy(update=same).model_dump(mode="json"))


def forecast(config: RunConfig, gpu: Gpu) -> Forecast:
    """What a run takes on a GPU, once its source model is there."""
    shift, cls = config.protocol, method_class(config.method)
    look = _look(_alike(config))
    schedule, took = schedule_of(cls, shift), dry_adaptation(config) if cls.trains else None
    kept = len(snapshot_steps(schedule)) if took else 1
    unscored = shift.adaptation.statistics_clips * kept * (2 if adapts_statistics(cls, shift) else 1)
    scored, per_clip = clips_of(shift, "target", "val"), seconds(look.operations, gpu)
    evaluate = None if scored is None else per_clip * (scored * (kept + cls.evaluates_average) + unscored)
    step = seconds(took.step.operations, gpu) if took else 0.0
    adapt = schedule.steps * step if took else 0.0
    if took and took.round:
        clips = clips_of(shift, "target", "train") or schedule.steps * schedule.batch
        adapt += took.rounds * clips / took.round.clips * seconds(took.round.operations, gpu)
    return Forecast(
        tflop=took.step.flops / 1e12 if took else 0.0,
        step=step,
        waits=len(took.step.waits) if took else 0,
        peak=max(look.peak, took.peak if took else 0),
        adapt=adapt,
        evaluate=evaluate,
        held=took.held if took else 0,
        parameters=look.parameters,
    )


def source_seconds(config: RunConfig, gpu: Gpu, workspace: Workspace) -> float:
    """Seconds of training a run's source model; 0 for a released one."""
    if is_released(config, workspace):
        return 0.0
    training = _source(_alike(config))
    return config.protocol.training.steps * seconds(training.step.operations, gpu) if training else 0.0


def is_released(config: RunConfig, workspace: Workspace) -> bool:
    """Whether a run's source model is released; False for recorded data, whose identity cannot be computed without the files."""
    if config.protocol.data.kind != "ministreet" or config.source_file is not None:
        return False
    return released_model(source_identity(config, config.protocol), workspace) is not None


def data_seconds(config: RunConfig) -> float:
    """Seconds of rendering a replicate's clips on one core; 0 for recorded ones."""
    shift = config.protocol
    if shift.data.kind != "ministreet":
        return 0.0
    clips = sum(clips_of(shift, *split) or 0 for split in (("source", "train"), ("target", "train"), ("target", "val")))
    return clips * shift.data.frames * shift.data.height * shift.data.width / RENDERED


@dataclass(frozen=True)
class Slot:
    """A job in the week: seconds from the start."""

    gpu: int
    start: float
    end: float
    kind: str
    label: str
    seed: int


def schedule(jobs: Jobs, gpus: int, took: Callable[[Job], float]) -> list[Slot]:
    """In which order a sweep does its jobs on so many GPUs, one at a time on each: what a slot asks for when it is free, as
    ``bench.sweeps.on_ray`` does."""
    free, running, now, slots = list(range(gpus)), list[tuple[float, int, Job]](), 0.0, list[Slot]()
    while True:
        while free and (job := jobs.next()) is not None:
            gpu = heapq.heappop(free)
            slots.append(Slot(gpu, now, now + took(job), job.kind, job.label, job.config.seed))
            heapq.heappush(running, (slots[-1].end, gpu, job))
        if not running:
            return slots
        now, gpu, job = heapq.heappop(running)
        job.state = "done"
        heapq.heappush(free, gpu)


def planned(
    sweep: Sweep, workspace: Workspace, gpu_name: str = "h100", gpus: int = 1, progress: Progress = quiet
) -> dict[str, Any]:
    """The plan of a sweep, as JSON can hold it.

    Args:
        workspace: finished runs in its folder are not planned again.
        gpu_name, gpus: which (:data:`bench.sweeps.gpus.GPUS`), and how many.

    Raises:
        UsageError: a run that cannot be made, or an unknown GPU.
    """
    gpu, runs = gpu_of(gpu_name), plan(sweep)
    by_label: dict[str, Planned] = {}
    for run in runs:
        by_label.setdefault(run.label, run)
    forecasts: dict[str, Forecast] = {}
    for number, (label, run) in enumerate(by_label.items()):
        forecasts[label] = forecast(run.config, gpu)
        progress("dry run", number + 1, len(by_label))
    jobs = Jobs(SweepFolder(workspace.runs, sweep.named.name), runs, note=False)
    finished = [job for job in jobs.runs if job.state == "found"]

    def took(job: Job) -> float:
        if job.kind == "run":
            return forecasts[job.label].seconds
        return source_seconds(job.config, gpu, workspace) if job.kind == "source" else data_seconds(job.config)

    slots = schedule(jobs, gpus, took)
    slots = [
        slot for slot in slots if slot.kind != "source" or slot.end > slot.start
    ]  # nobody waits for a released one
    first = runs[0].config
    shift = first.protocol
    height, width = frame_size(shift, "target")
    clip = clip_bytes(shift.data.frames, height, width)
    rows = [
        _row(label, by_label[label].config, estimate, gpu, clip, workspace) for label, estimate in forecasts.items()
    ]
    end = max((slot.end for slot in slots), default=0.0)
    return {
        "shift": shift.name,
        "gpu": {"name": gpu_name, **gpu._asdict()},
        "gpus": gpus,
        "rows": rows,
        "too_large": [row["run"] for row in rows if not row["fit_side_by_side"]],
        "runs": len(runs),
        "there": len(finished),
        "disk_gb": disk(shift, [run.config for run in runs], forecasts, clip),
        "seconds": end,
        "busy": sum(slot.end - slot.start for slot in slots) / (gpus * end) if end else 0.0,
        "schedule": [slot.__dict__ for slot in slots],
        "assumed": {"arithmetic": ARITHMETIC, "bandwidth": BANDWIDTH, "launch": LAUNCH, "context_gb": CONTEXT},
    }


def _row(
    label: str, config: RunConfig, estimate: Forecast, gpu: Gpu, clip: int, workspace: Workspace
) -> dict[str, Any]:
    batch = schedule_of(method_class(config.method), config.protocol).batch
    return {
        "run": label,
        "tflop_per_step": estimate.tflop,
        "seconds_per_step": estimate.step,
        "waits": estimate.waits,
        "peak_gb": estimate.peak / 1e9,
        "fit_side_by_side": int(gpu.memory * 1e9 / (estimate.peak + CONTEXT * 1e9)),
        "source_seconds": source_seconds(config, gpu, workspace),
        "source_released": is_released(config, workspace),
        "adapt_seconds": estimate.adapt,
        "evaluate_seconds": estimate.evaluate,
        "read_mb_per_second": batch * clip / 1e6 / estimate.step if estimate.step else 0.0,
    }


def clip_bytes(frames: int, height: int, width: int) -> int:
    """Bytes of a clip as it is read: frames uint8, flow float32, validity."""
    return (3 * frames + (frames - 1) * 9) * height * width


def disk(
    shift: Shift, configs: Sequence[RunConfig], forecasts: dict[str, Forecast], clip: int
) -> dict[str, float | None]:
    """GB on disk, by what: clips rendered for all replicates, or flow computed ahead of recorded ones; source models; what stays of
    the runs; a run's state while it works. None where nobody knows how many clips there are."""
    seeds = {config.seed for config in configs}
    parts = [("target", "train"), ("target", "val")]
    parts += [] if isinstance(shift.data.source, ModelFile) else [("source", "train")]
    numbers = [clips_of(shift, *part) for part in parts]
    rendered = shift.data.kind == "ministreet"
    height, width = frame_size(shift, "target")
    per_clip = clip + height * width if rendered else (shift.data.frames - 1) * (8 + 1 / 8) * height * width
    clips = None if None in numbers else per_clip * sum(n or 0 for n in numbers) * (len(seeds) if rendered else 1) / 1e9
    weights = 4 * max(estimate.parameters for estimate in forecasts.values()) / 1e9
    sources = {(config.seed, config.network, config.fusion, config.weights) for config in configs}
    return {
        "clips" if rendered else "flow": clips,
        "source_models": len(sources) * weights,
        "checkpoints": len(configs) * weights,
        "state_of_a_run": max(estimate.held for estimate in forecasts.values()) / 1e9
        + shift.adaptation.snapshots * weights,
    }


def text(report: dict[str, Any]) -> str:
    """The plan as text: a table of the runs, the order on each GPU, disk, and what was assumed.

    Args:
        report: from :func:`planned`.
    """
    gpu, assumed = report["gpu"], report["assumed"]
    head = f"{'run':22}{'TFLOP/step':>11}{'ms/step':>9}{'waits':>6}{'peak GB':>9}{'fit':>5}"
    lines = [head + f"{'source':>9}{'adapt':>9}{'score':>9}{'read MB/s':>11}"]
    for row in report["rows"]:
        times = [span(row[part]) for part in ("source_seconds", "adapt_seconds", "evaluate_seconds")]
        if row["source_released"]:
            times[0] = "released"
        lines.append(
            f"{row['run']:22}{row['tflop_per_step']:11.3f}{1e3 * row['seconds_per_step']:9.1f}{row['waits']:6}"
            f"{row['peak_gb']:9.2f}{row['fit_side_by_side'] or 'no':>5}{times[0]:>9}{times[1]:>9}{times[2]:>9}"
            f"{row['read_mb_per_second']:11.1f}"
        )
    cards = f"{report['gpus']} x {gpu['name']}"
    lines.append("")
    lines.append(
        f"{report['runs']} runs, {report['there']} there already; the rest takes {span(report['seconds'])} on "
        f"{cards}, one run on each at a time, {100 * report['busy']:.0f} % of them at work"
    )
    for number in range(report["gpus"]):
        slots = [slot for slot in report["schedule"] if slot["gpu"] == number]
        if slots:
            shown = [f"{span(slot['start'])} {slot['label']}{_seed(slot)}" for slot in slots]
            remainder = f" | and {len(shown) - 6} more" if len(shown) > 6 else ""
            lines.append(f"  GPU {number}, from: {' | '.join(shown[:6])}{remainder}, until {span(slots[-1]['end'])}")
    sizes = {
        name.replace("_", " "): "unknown" if gb is None else f"{gb:.2f} GB" for name, gb in report["disk_gb"].items()
    }
    lines.append("disk: " + ", ".join(f"{name} {gb}" for name, gb in sizes.items()))
    if report["too_large"]:
        lines.append(f"will not fit into {gpu['memory']:g} GB: {', '.join(report['too_large'])}")
    lines.append(
        f"{gpu['name']}: {gpu['memory']:g} GB, {gpu['bandwidth']:g} GB/s, {gpu['bfloat16']:g} TFLOP/s bfloat16, "
        f"{gpu['float32']:g} float32 ({gpu['source']})"
    )
    lines.append(
        f"assumed, not measured: {100 * assumed['arithmetic']:.0f} % of its arithmetic, {100 * assumed['bandwidth']:.0f} % "
        f"of its bandwidth, {1e6 * assumed['launch']:.0f} us an operation at least, {assumed['context_gb']:g} GB beside the "
        "tensors; flow of recorded clips computed ahead; a selection of pixels takes all (an upper bound)"
    )
    return "\n".join(lines)


def span(seconds: float | None) -> str:
    """A time in the unit that suits it: ``42 s``, ``12 min``, ``3.4 h``, ``2.1 d``."""
    if seconds is None:
        return "-"
    for unit, size, until in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < until:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} d"


def _seed(slot: dict[str, Any]) -> str:
    return "" if slot["kind"] != "run" else f" seed {slot['seed']}"
