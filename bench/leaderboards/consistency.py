"""Can these numbers have been measured? A record against itself and its protocol, its pixels against its data, and all records of
a shift against each other.

Nothing is run here. What only a run can show is left to ``bench submit``, which scores the checkpoint again, ``bench leaderboard
--check --sample``, which does so for some, and ``bench verify``, which runs the whole configuration again.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from bench.core.errors import RunError, UsageError, unknown
from bench.core.registry import KINDS, built_in, names
from bench.core.schema import hash_of
from bench.data.datasets import dataset
from bench.networks.build import build_segmenter
from bench.runs import selection
from bench.runs.adaptation import schedule_of
from bench.runs.config import RunConfig, Shift, every_setting, make_run_config, method_class
from bench.runs.records import Record, Result
from bench.runs.selection import Snapshot
from bench.runs.sequences import MEAN_TOLERANCE, Counts, Pixels
from bench.runs.source import source_flow
from bench.runs.training import snapshot_steps
from bench.shifts.protocol import Recorded, Videos
from bench.shifts.sides import ModelFile, Pictures

LEAST_STEP = 1e-3
"""Seconds that a step takes on any machine: autograd and the optimiser alone take longer to be called."""
SLACK = 1e-3
"""Nats by which a target-only score may leave its range: it is a sum of many rounded terms."""
MOST_THREADS = 4096
FACT = re.compile(r"[\w .,:;()@/+#'-]{0,200}", re.ASCII)
"""What a processor, a system or a version may be called."""

# A record alone ------------------------------------------------------------------------------------------------------


def check_alone(record: Record, shift: Shift, name: str, cls: Any = None) -> None:
    """Check a record of a known method against itself and its protocol.

    Args:
        cls: the method's class, where the caller has looked it up.

    Raises:
        RunError: the first thing in it that cannot be; one line that names the record.
    """
    check_config(record.config, name)
    for fault in _faults(record, shift, cls or method_class(record.config.method)):
        raise RunError(f"Record {name}: {fault}; run it again")


def _faults(record: Record, shift: Shift, cls: Any) -> Iterator[str]:
    yield from _result("result", record.result, shift)
    if (protocol := record.protocol) != (mode := record.config.mode):
        yield f"protocol is {protocol}, but its config asks for {mode}"
    transductive = (
        isinstance(shift.data.target, Pictures) and shift.data.target.transductive is not None and mode == "offline"
    )
    if transductive != ("transductive" in record.beside):
        fault = "has no score of the transductive split" if transductive else "has a score of a transductive split"
        yield f"{fault}, unlike shift '{shift.name}'"
    beside = sorted(record.beside.keys() - {"transductive"})
    if beside not in ([], ["student"]) or (beside and not cls.evaluates_average):
        yield f"scores of other weights ({', '.join(beside)}), which '{record.config.method}' does not keep"
    for name, result in record.beside.items():
        yield from _result(f"beside.{name}", result, shift)
    yield from _selection(record, shift, cls)
    yield from _cost(record, shift, cls)
    yield from _origin(record, cls)
    averages = (record.ingredients or {}).get("averages")
    if cls.averages != "none" and averages not in (None, cls.averages):  # a method may go without by its settings
        yield f"says that averages '{averages}' took part, where '{record.config.method}' has '{cls.averages}'"


def check_config(config: RunConfig, name: str, outside: bool = False) -> None:
    """Check that a record's config is what ``bench run`` makes of its names and settings: nothing unknown, nothing out of range.

    Names are looked up, never taken for paths: a file that a record names is neither read nor executed.

    Args:
        outside: names may also be of installed packages, and of files that were named by someone else than the record.

    Raises:
        RunError: it is not; one line that names the record.
    """
    if (fault := _made_again(config.model_copy(update={"seed": 0}).model_dump_json(), outside)) is not None:
        raise RunError(f"Record {name}: {fault}")


@cache
def _made_again(text: str, outside: bool) -> str | None:
    config = RunConfig.model_validate_json(text)
    for kind in (
        "method",
        "network",
        "flow",
        *(() if outside else ("shift",)),
    ):  # a shift may be a YAML, which runs nothing
        available = names(kind) if outside else built_in(kind)
        if (chosen := getattr(config, kind)) not in available and (kind, ":" in chosen) != ("network", True):
            return str(unknown(KINDS[kind].word, chosen, available))
    if config.plugins and not outside:
        return f"it ran with {', '.join(config.plugins)} from outside this repository"
    try:
        implied = method_class(config.method).PAPER_HAS if config.ingredients == "published" else {}
        named = {key: getattr(config, key) for key in ("network", "fusion", "flow", "weights", "ingredients")}
        settings = {**every_setting(config), **named, **({"frames": config.frames} if config.frames else {})}
        settings |= {"reset": config.reset} if config.mode == "stream" else {}
        # Without those that come with the ingredients.
        options = {key: value for key, value in settings.items() if key not in implied}
        arguments = (config.init, config.steps, config.source_file, config.mode)
        remade = make_run_config(config.method, config.shift, 0, options, *arguments)
    except UsageError as error:
        return str(error)
    judged = {name: getattr(config, name) for name in ("shift_hash", "revision")}  # by who compares it with today's
    remade = remade.model_copy(update=judged)
    return None if remade == config else "its config is not what its names and settings give; run it again"


def _result(name: str, result: Result, shift: Shift) -> Iterator[str]:
    if set(result.iou) != set(shift.score_classes):
        class_name = sorted(set(result.iou) ^ set(shift.score_classes))[0]
        yield f"{name}.iou: '{class_name}' is {'no class of the shift' if class_name in result.iou else 'missing'}"
    if scored := [c for c in shift.unscored if result.iou.get(c) is not None]:
        yield f"{name}.iou: '{scored[0]}' has a score, but the protocol does not score it"
    values = [value for value in result.iou.values() if value is not None]
    mean = math.fsum(values) / len(values) if values else math.nan
    if not abs(result.miou - mean) <= MEAN_TOLERANCE:
        yield f"{name}.miou is {result.miou}, the mean of its IoUs is {mean}"
    if result.video and not isinstance(shift.data, Videos):
        yield f"{name}.{next(iter(result.video))} has a value, but clips of rendered worlds do not follow each other"


def _selection(record: Record, shift: Shift, cls: Any) -> Iterator[str]:
    recorded = record.selection
    shapes = [(recorded.unsupervised, "miou step"), (recorded.oracle, "label_looks miou step")]
    shapes += [(snapshot, "miou step target_score") for snapshot in recorded.snapshots]
    if wrong_keys := [sorted(entry) for entry, keys in shapes if sorted(entry) != keys.split()]:
        yield f"selection: {', '.join(wrong_keys[0]) or 'nothing'} is not what is kept of a snapshot"
        return
    kept = _kept(record, shift, cls)
    if (steps := [snapshot["step"] for snapshot in recorded.snapshots]) != kept:
        yield f"selection.snapshots are of steps {_numbers(steps)}; this protocol keeps {_numbers(kept)}"
        return
    most = math.log(len(shift.classes))
    for snapshot in recorded.snapshots:
        if not 0 <= snapshot["miou"] <= 100:
            yield f"selection.snapshots: mIoU is {snapshot['miou']} at step {snapshot['step']:g}; it is in 0..100"
        if not -SLACK <= snapshot["target_score"] <= most + SLACK:
            yield (
                f"selection.snapshots: target_score is {snapshot['target_score']} at step {snapshot['step']:g}; "
                f"it is in 0..{most:.4f}"
            )
    if (last := recorded.snapshots[-1]["miou"]) != record.result.miou:
        yield f"result.miou is {record.result.miou}, that of the last snapshot {last}"
    snapshots = [
        Snapshot(int(snapshot["step"]), snapshot["target_score"], snapshot["miou"]) for snapshot in recorded.snapshots
    ]
    unsupervised, best = selection.unsupervised(snapshots), selection.oracle(snapshots)
    oracle = {"step": best.step, "miou": best.miou, "label_looks": len(snapshots)}
    for name, stated, expected in (
        ("unsupervised", recorded.unsupervised, {"step": unsupervised.step, "miou": unsupervised.miou}),
        ("oracle", recorded.oracle, oracle),
    ):
        if stated != expected:
            yield f"selection.{name} is {stated}; its snapshots give {expected}"


def _kept(record: Record, shift: Shift, cls: Any) -> list[int]:
    """Step counts after which weights are kept; of a stream the last alone."""
    if not cls.trains:
        return [0]
    return snapshot_steps(schedule_of(cls, shift)) if record.config.mode == "offline" else [record.cost.frames or 0]


def _cost(record: Record, shift: Shift, cls: Any) -> Iterator[str]:
    cost, config = record.cost, record.config
    steps = _kept(record, shift, cls)[-1]
    if cost.steps != steps:
        yield f"cost.steps is {cost.steps}; this protocol takes {steps}"
    passes = cost.frames or steps  # a stream predicts each frame, whether it learns or not
    least = LEAST_STEP * passes
    for name in ("seconds", "cpu_seconds"):
        if (value := getattr(cost, name)) < least or (passes == 0 and value != 0):
            yield f"cost.{name} is {value} for {passes} steps; possible: {f'{least:g} or more' if passes else 'none'}"
    yield from _frames(record)
    cores = record.hardware.get("cores")
    if isinstance(cores, int) and cost.cpu_seconds > 1.05 * cores * cost.seconds + 1:
        yield f"cost.cpu_seconds is {cost.cpu_seconds}, more than {cores} cores have in {cost.seconds} s"
    parameters = _parameters(config.network, config.fusion, len(shift.classes), config.frames or shift.data.frames)
    if cost.parameters != parameters:
        yield f"cost.parameters is {cost.parameters}; {config.network} with {config.fusion} has {parameters}"
    if cost.peak_memory_mb < 4e-6 * parameters:
        yield f"cost.peak_memory_mb is {cost.peak_memory_mb}, less than the network alone takes"


def _frames(record: Record) -> Iterator[str]:
    """Faults in the number of frames of a stream and the times per frame; a record that is no stream must have neither."""
    cost = record.cost
    if (record.config.mode == "stream") != (cost.frames is not None):
        yield f"cost.frames is {cost.frames}; the protocol is {record.config.mode}"
    for name in ("seconds", "cpu_seconds"):
        stated, expected = (
            getattr(cost, f"{name}_per_frame"),
            getattr(cost, name) / cost.frames if cost.frames else None,
        )
        if (stated is None) != (expected is None) or (
            stated is not None and expected is not None and abs(stated - expected) > 1e-3
        ):
            yield f"cost.{name}_per_frame is {stated}; {getattr(cost, name)} s for {cost.frames or 'no'} frames give {expected}"


@cache
def _parameters(network: str, fusion: str, classes: int, frames: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_segmenter(network, fusion, classes, frames).parameters())


def _origin(record: Record, cls: Any) -> Iterator[str]:
    """Faults in code, versions, hardware, title, date and source model, which may be names and numbers and nothing else."""
    sections = {"code": record.code, "versions": record.versions, "hardware": record.hardware}
    for section, facts in {**sections, "record": {"flow": record.flow}}.items():
        for name, value in facts.items():
            if not FACT.fullmatch(name) or (isinstance(value, str) and not FACT.fullmatch(value)):
                yield f"{section}.{name:.40} is no name or version: {value!r:.60}"
            elif not (value is None or isinstance(value, (str, int, bool))):
                yield f"{section}.{name} is neither text nor a whole number: {value!r:.60}"
    title = record.method.get("title")
    if not (isinstance(title, str) and title.isprintable() and len(title) <= 200 and not set(title) & set("<>")):
        yield f"method.title is no title: {title!r:.60}"
    threads = record.hardware.get("threads")
    if not (isinstance(threads, int) and 0 < threads <= MOST_THREADS):
        yield f"hardware.threads is {threads!r}, not a number of threads"
    revision = record.code.get("revision")
    if revision is not None and not re.fullmatch(r"[0-9a-f]{7,40}", str(revision)):
        yield f"code.revision is no revision of git: {revision!r:.60}"
    try:
        datetime.date.fromisoformat(record.date)
    except ValueError:
        yield f"date is not YYYY-MM-DD: {record.date!r:.40}"
    bare, config = cls.start == "scratch" or record.config.init == "backbone", record.config
    if (record.source_model is None) != bare:
        yield f"source_model is {record.source_model}; '{config.method}' starts from {'none' if bare else 'one'}"
    elif not bare and not config.source_file and not re.fullmatch(r"[0-9a-f]{12}", str(record.source_model)):
        yield f"source_model is not the name of one: {record.source_model!r:.40}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "none"


# Pixels ---------------------------------------------------------------------------------------------------------------


def pixel_fault(counts: Mapping[str, Counts], shift: Shift) -> str | None:
    """What in the pixels of the target sequences is not of the shift's data, in words; None where they fit.

    Pixels that the labels leave out are not counted, so a sequence has at most as many as its labels.
    """
    data, rule = shift.data, shift.evaluation
    if isinstance(data, Videos):
        height, width, clips = data.target.height, data.target.width, None
        if isinstance(data.target, Recorded):
            clips = dataset(data.target.dataset).counts.get("val")
        elif rule.own_size or rule.counts == "sequence":
            return None  # as many pixels as the pictures have
    else:
        height, width, clips = data.height, data.width, data.target.val
        if sorted(counts) != [f"{number:05d}" for number in range(clips)]:
            return (
                f"{len(counts)} sequences, '{min(counts)}' to '{max(counts)}'; the data has {clips}, '00000' and so on"
            )
    size = (rule.height or height) * (rule.width or width)
    pixels = dict(zip(counts, Pixels.of(counts).counts[:, :, 1].sum(1).tolist(), strict=True))
    most = size if not isinstance(data, Videos) else size * (clips or 1)
    for name, number in pixels.items():
        if number > most:
            return f"sequence '{name}' has {number} pixels; its labels have {most} at most"
    if clips is not None and sum(pixels.values()) > clips * size:
        return f"{sum(pixels.values())} pixels; the {clips} labels have {clips * size}"
    return None


# Records together -----------------------------------------------------------------------------------------------------


def compare_records(records: Mapping[str, Record], counts: Mapping[str, Mapping[str, Counts]], shift: Shift) -> None:
    """Check the records of a shift against each other: on one replicate all methods are scored on the same labels and start from
    the same source models, and no two replicates of rendered worlds share either.

    Args:
        records: by name of the file.
        counts: pixels per sequence, by name of the file.

    Raises:
        RunError: names the record that stands against the others.
    """
    rendered = not isinstance(shift.data, Videos)
    truths = {name: _truth(counts[name]) for name in records}
    seeds = {name: (record.config.seed if rendered else 0,) for name, record in records.items()}
    _one_to_one(seeds, truths, ("is scored on other labels than", "is scored on the labels of"), rendered)
    starts = {name: _start(record, shift) for name, record in records.items()}
    with_source = {name: start for name, start in starts.items() if start is not None}
    digests = {name: hash_of(record.data or {}) for name, record in records.items()}
    _one_to_one(
        {name: (records[name].config.frames or 0,) for name in records}, digests, ("is of other data than", ""), False
    )
    models = {name: str(records[name].source_model) for name in with_source}
    _one_to_one(with_source, models, ("starts from another source model than", "starts from the source model of"), True)


def _truth(counts: Mapping[str, Counts]) -> str:
    """A digest of the labels' pixels by sequence and class."""
    pixels = Pixels.of(counts).small()
    names = "\0".join(pixels)
    return hashlib.sha256(names.encode() + pixels.counts[:, :, 1].astype(np.int64).tobytes()).hexdigest()


def _start(record: Record, shift: Shift) -> tuple[Any, ...] | None:
    """The settings that decide which source model a run starts from; None for a run without one, or with one from a file."""
    config = record.config
    if record.source_model is None or config.source_file:
        return None
    if isinstance(shift.data.source, ModelFile):
        return config.network, config.fusion, config.frames or 0
    flow = source_flow(config, shift)
    return config.seed, config.network, config.fusion, config.weights, config.frames or 0, flow


def _one_to_one(
    keys: Mapping[str, tuple[Any, ...]], values: Mapping[str, str], verbs: tuple[str, str], apart: bool
) -> None:
    """Check that records with equal keys have equal values and, with ``apart``, records with other keys other values. Where they
    disagree, the value that fewer records have counts as wrong.

    Args:
        verbs: the error's words for a record whose value differs from its key's, and for one with the value of another key.
    """
    by_key: dict[tuple[Any, ...], Counter[str]] = {}
    for name, key in keys.items():
        by_key.setdefault(key, Counter())[values[name]] += 1
    usual = {key: counts.most_common(1)[0][0] for key, counts in by_key.items()}
    for name, key in keys.items():
        if values[name] != usual[key]:
            other_name = next(n for n in keys if keys[n] == key and values[n] == usual[key])
            raise RunError(f"Record {name} {verbs[0]} {other_name}, on the same replicate; run it again")
    owners: dict[str, tuple[Any, ...]] = {}
    for key in sorted(usual, key=lambda key: (-by_key[key].total(), key)) if apart else ():
        if (owner := owners.setdefault(usual[key], key)) != key:
            name, other_name = (next(n for n in keys if keys[n] == replicate) for replicate in (key, owner))
            raise RunError(f"Record {name} {verbs[1]} {other_name}, on another replicate; run it again")
