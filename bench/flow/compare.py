"""``bench flow compare``: backends against exact flow, on clips that have it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import RunError, UsageError
from bench.core.progress import Progress, quiet
from bench.core.registry import flow_names, resolve
from bench.data.clip import Clips, FlowBackend

from ._estimated import backend
from ._photometric import average, check
from ._raft import Raft
from .base import module_of

BOUNDS = ("exact", "zero")
"""What the estimated ones stand between; always shown, not timed."""
OUTLIER = 3.0
"""End-point error in pixels beyond which a pixel is an outlier, as in KITTI."""


@dataclass(frozen=True)
class Result:
    """One backend over all clips. Errors are over pixels where the exact flow is valid; None where weights are random.

    Attributes:
        note: why there are no numbers, or what to know about them.
        epe: mean end-point error, pixels.
        outliers: share of pixels with more than 3 pixels, 0..1.
        epe_valid: mean end-point error where the backend calls its flow valid too.
        valid: share of pixels it calls valid, 0..1.
        photometric: mean absolute grey levels of 255 between t and t-1 brought to it, where it calls its flow valid.
        rate: pairs per second of one thread, forward and backward flow and validity included; None for the bounds.
        clock: what the rate was measured by: ``cpu`` seconds of this process, or ``wall``.
    """

    backend: str
    note: str = ""
    epe: float | None = None
    outliers: float | None = None
    epe_valid: float | None = None
    valid: float | None = None
    photometric: float | None = None
    rate: float | None = None
    clock: str = ""


def chosen(name: str, random_weights: bool) -> tuple[FlowBackend, str]:
    """A backend that can run here, and a note on it.

    Raises:
        UsageError: unknown, or not set up.
        RunError: no weights.
    """
    module = module_of(name)
    raft: Raft | None = getattr(module, "RAFT", None)
    if raft is not None:
        try:
            _ = raft.network
        except RunError:
            if not random_weights:
                raise
            return backend(Raft(raft.model, raft.variable, random=True)), "random weights: speed only"
    return module.BACKEND, ""


def compare(
    clips: Clips, names: list[str], number: int, random_weights: bool = False, progress: Progress = quiet
) -> tuple[list[Result], dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]]:
    """Measure backends on the first clips.

    Args:
        clips: with exact flow of their own.
        number: of clips.
        random_weights: time RAFT without weights rather than leave it out.

    Returns:
        A result per backend, and what each gave for the first clip.

    Raises:
        UsageError: unknown backend, or clips without exact flow.
    """
    if not getattr(clips, "carries_flow", True):
        raise UsageError("These clips come without exact flow; compare on a rendered shift such as ministreet")
    number = min(number, len(clips))
    results, shown = [], {}
    for name in [resolve("flow", name) for name in names]:
        try:
            function, note = chosen(name, random_weights)
            result, first = _measured(name, function, note, clips, number, progress)
            shown[name] = first
        except (RunError, UsageError) as error:
            if name not in flow_names():
                raise
            result = Result(name, str(error))
        results.append(result)
    return results, shown


def _measured(
    name: str, function: FlowBackend, note: str, clips: Clips, number: int, progress: Progress
) -> tuple[Result, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    from .compute import one_thread

    wall = name == "mmflow"  # its work is another process's
    clock = time.perf_counter if wall else time.process_time
    first = function(clips[0], clips, 0)  # what is built once is not timed
    errors, trusted, checks, masks, seconds, pairs = [], [], [], [], 0.0, 0
    with one_thread():
        for index in range(number):
            clip = clips[index]
            began = clock()
            flow, valid = function(clip, clips, index)
            seconds += clock() - began
            pairs += len(flow)
            distance = np.hypot(*np.moveaxis(flow - clip.flow, 1, 0))
            errors.append(distance[clip.valid])
            trusted.append(distance[clip.valid & valid])
            masks.append(valid.mean())
            checks.append(check(clip.frames, flow, valid))
            progress(f"flow {name}", index + 1, number)
    rate = None if name in BOUNDS or not seconds else pairs / seconds
    clocked = {"rate": rate, "clock": "" if rate is None else "wall" if wall else "cpu"}
    if note:
        return Result(name, note, **clocked), first  # type: ignore[arg-type]
    all_errors, where_trusted = np.concatenate(errors), np.concatenate(trusted)
    result = Result(
        name,
        epe=float(all_errors.mean()),
        outliers=float((all_errors > OUTLIER).mean()),
        epe_valid=float(where_trusted.mean()) if where_trusted.size else None,
        valid=float(np.mean(masks)),
        photometric=average(checks).moved,
        **clocked,  # type: ignore[arg-type]
    )
    return result, first
