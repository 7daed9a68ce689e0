"""The adaptation of a run in a box: which files it gets, and what it and the run that waits for it say to each other.

A method's code runs in a child process that can read its clips, the source model and the code, write ``state/`` of its run, and
do nothing else (:mod:`bench.core.box`); it has ended before a label is opened. The log, progress and everything that decides are
of the process outside.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from bench.core import box, child
from bench.core.access import opened
from bench.core.errors import AccessError, RunError
from bench.core.files import disk_errors
from bench.core.progress import say
from bench.core.schema import whole_text
from bench.core.seeding import seed_for
from bench.core.workspace import Workspace
from bench.data.handed import HandedSplit, hand_split
from bench.data.loaders import BadClips
from bench.data.rendered import ClipStore
from bench.data.splits import Split
from bench.flow.resolve import reads
from bench.networks.weights import load_tensors, save_tensors
from methods.base import Method

from .adaptation import Adapted, Context, grants_of, schedule_of
from .around import Around
from .config import RunConfig, Shift, method_class
from .settings import executed_here
from .source import initial_segmenter, source_flow
from .streaming import ONLINE, clips_of, work
from .training import Fitted, Log, snapshot_steps
from .watching import LOGS, TensorBoard


@dataclass(frozen=True)
class Task:
    """What the child of a run does."""

    config: RunConfig
    shift: Shift
    runs: Path
    cache: Path
    device: str
    workers: int
    folder: Path
    source: Path
    splits: dict[str, HandedSplit]
    tensorboard: bool
    skip: bool
    watched: bool


def boxable(workspace: Workspace) -> bool:
    """Whether a run can be boxed: the system can, and nothing in the workspace needs this process.

    An observer of one's own is handed the network as it trains, and ``torch.compile`` starts compilers. A process that has
    executed a plugin's method (`bench profile` does) scores nothing as boxed either.
    """
    plain = workspace.observer is None or isinstance(workspace.observer, TensorBoard)
    possible = box.available() and not workspace.unboxed and plain and not workspace.compiled and not executed_here
    return possible and (workspace.device.type == "cpu" or _computes(str(workspace.device)))


@lru_cache
def _computes(device: str) -> bool:
    """Whether a GPU can be used in a box here: its driver may want more than the devices. Tried once, without a method."""
    around = Around.of_now()
    payload = around.packed(device)
    call = child.Call("bench.runs.boxed:compute_here", payload, around.code([]), device=device)
    try:
        return bool(child.run_boxed(call).result == [3.0])
    except (RunError, RuntimeError) as error:
        say(f"{device} cannot be used in a box here ({error!s:.200}); methods are watched only, and records say so")
        return False


def adapt_boxed(context: Context, cls: type[Method], source: Path | None, splits: dict[str, Split]) -> Adapted:
    """:func:`bench.runs.streaming.work` in a box.

    Raises:
        AccessError: the method tried what it may not.
        RunError: as there, or the child ended without a word.
    """
    config, workspace, state = context.config, context.workspace, context.folder / "state"
    grants, writes = grants_of(config, cls), [state]
    if config.mode == "stream":
        writes.append(context.folder / ONLINE)
    fonts: list[Path] = []
    if tensorboard := workspace.observer is not None and cls.trains:
        import matplotlib

        from bench.pictures import canvas  # noqa: F401  # it looks for the system's fonts once, with a process of theirs

        writes.append(context.folder / LOGS)
        fonts.append(Path(matplotlib.get_cachedir()))
    with disk_errors(context.folder):
        for folder in writes:
            folder.mkdir(parents=True, exist_ok=True)
    around = Around.of_now(config.plugins)
    start = _initial(context, state) if source is None else source
    shown = context.shift.without_worlds()
    if source is not None and shown != context.shift:
        start = _without_facts(source, state)
    granted = {name: split for name, split in splits.items() if name in grants}
    task = Task(
        config,
        shown,
        workspace.runs,
        workspace.cache,
        str(workspace.device),
        workspace.workers,
        context.folder,
        start,
        {name: hand_split(split) for name, split in granted.items()},
        tensorboard,
        skip=context.bad.skip,
        watched=workspace.watch is not None,
    )
    call = child.Call(
        "bench.runs.boxed:adapt_here",
        around.packed(whole_text(task)),
        read=[
            *around.code([workspace.runs, workspace.cache]),
            *_clips(granted, grants),
            *_flow(context, granted),
            start,
            *fonts,
        ],
        write=writes,
        device=str(workspace.device),
        listed=[workspace.cache / "flow"],
    )
    answer = child.run_boxed(call, message_handler(workspace, context.log or Log(context.folder / "metrics.jsonl")))
    clips = clips_of(config, splits["target-val"]) if config.mode == "stream" else None
    adapted = _checked(answer.result, cls, context, clips)
    return dataclasses.replace(adapted, peak_memory_mb=answer.peak_memory_mb)


def message_handler(workspace: Workspace, log: Log) -> child.Say:
    """What receives the messages of a run's child: progress, log entries, the step to log from, scores to watch."""

    def receive(kind: str, content: Any) -> None:
        try:
            if kind == "progress":
                parsed: Any = str(content[0]), int(content[1]), int(content[2])
            elif kind == "log":
                parsed = {str(name): int(value) if name == "step" else float(value) for name, value in content.items()}
            elif kind == "log from":
                parsed = int(content)
            else:
                parsed = int(content[0]), float(content[1])
        except (TypeError, ValueError, AttributeError, IndexError, KeyError):
            raise AccessError("The process of the method said what is no message") from None
        if kind == "progress":
            workspace.progress(*parsed)
        elif kind == "log":
            log.add(parsed)
        elif kind == "log from":
            log.cut(parsed)
        elif kind == "watch" and workspace.watch is not None:
            workspace.watch(*parsed)

    return receive


def _initial(context: Context, state: Path) -> Path:
    """The start of a method without a source model, as a file: weights of ImageNet are downloaded outside the box."""
    config, shift = context.config, context.shift
    seed = seed_for(seed_for(config.seed, "adaptation", shift.data.family), "init")
    path = state / "initial.safetensors"
    save_tensors(path, initial_segmenter(config, shift, seed).state_dict())
    return path


def _without_facts(source: Path, state: Path) -> Path:
    """A source model without what it was made of: the seed of its hidden world is among that."""
    path = state / "initial.safetensors"
    save_tensors(path, load_tensors(source)[0])
    return path


def _clips(splits: dict[str, Split], grants: tuple[str, ...]) -> list[Path]:
    """Files and folders of the clips that some grants open."""
    paths: list[Path] = []
    for name, split in splits.items():
        store = split.open()
        if not isinstance(store, ClipStore):
            continue
        paths += [store.folder / f"{part}.npy" for part in ("frames", "flow", "valid")]
        if f"{name}/label" in grants:
            paths += [folder / "label.npy" for folder in (store.folder, store.earlier) if folder is not None]
    return [*paths, *box.open_parts(*opened(*grants))]


def _flow(context: Context, splits: dict[str, Split]) -> list[Path]:
    """Files of the flow of some splits."""
    flow = {"target": context.config.flow, "source": source_flow(context.config, context.shift)}
    cache = context.workspace.cache
    return [path for name, split in splits.items() for path in reads(flow[name.partition("-")[0]], split, cache)]


_READY = re.compile(r"ready-(snapshot|student)-\d{6}\.safetensors")


def _checked(answer: Any, cls: type[Method], context: Context, clips: int | None = None) -> Adapted:
    """The answer of a run's child, checked: whatever it holds, the files it names are those of the run's ``state/``.

    Args:
        answer: what :func:`adapt_here` returned in the child.
        clips: of a stream.

    Raises:
        AccessError: it is not what an adaptation gives.
    """
    state, schedule = context.folder / "state", schedule_of(cls, context.shift)
    last = (clips or schedule.steps) if cls.trains else 0
    steps = snapshot_steps(schedule) if cls.trains and clips is None else [last]
    students = ["student"] if cls.evaluates_average and cls.trains and clips is None else []
    try:
        wall, cpu = map(float, answer["spent"])
        environments = tuple({str(k): str(v) for k, v in environment.items()} for environment in answer["environments"])
        scores = [float(score) for score in answer["scores"]]
        names = [str(name) for name in (*answer["weights"], *answer["students"])]
        skipped = {str(key): str(why) for key, why in answer["skipped"].items()}
        good = all(map(math.isfinite, (wall, cpu, *scores))) and all(map(_READY.fullmatch, names)) and wall > 0 <= cpu
        if not cls.trains and clips is None:
            good = all(map(_READY.fullmatch, names))
        if not good or len(scores) != len(steps) or len(names) != len(steps) + len(students):
            raise ValueError
    except (TypeError, ValueError, KeyError, AttributeError):
        raise AccessError("The process of the method gave what is no result of an adaptation") from None
    if context.bad.skip:
        context.bad.found.update(skipped)
    paths = [state / name for name in names]
    fitted = Fitted(last, wall, cpu, environments) if cls.trains or clips else Fitted(0, 0.0, 0.0)
    weights = list(zip(steps, paths, scores, strict=False))
    return Adapted(fitted, weights, dict(zip(students, paths[len(steps) :], strict=True)), str(answer["averages"]))


# In the box -----------------------------------------------------------------------------------------------------------


class ForwardedLog(Log):
    """A log that the process outside writes."""

    def __init__(self, say: child.Say) -> None:
        self.say = say

    def cut(self, steps: int) -> None:
        self.say("log from", steps)

    def add(self, entry: Mapping[str, float]) -> None:
        self.say("log", dict(entry))


def compute_here(payload: str, say: child.Say) -> list[float]:
    """A product of two small matrices, ``[3.0]``: shows that the device of the payload works in the box."""
    device = Around.unpacked(payload)
    product: list[float] = (torch.ones(1, 3, device=device) @ torch.ones(3, 1, device=device)).flatten().tolist()
    return product


def adapt_here(payload: str, say: child.Say) -> dict[str, Any]:
    """The adaptation of a :class:`Task`, inside the box."""
    task = TypeAdapter(Task).validate_json(Around.unpacked(payload))
    workspace = Workspace(
        task.runs,
        task.cache,
        torch.device(task.device),
        progress=lambda activity, done, total: say("progress", [activity, done, total]),
        observer=TensorBoard() if task.tensorboard else None,
        data_root=None,
        workers=task.workers,
        skip_bad=task.skip,
        watch=(lambda step, score: say("watch", [step, score])) if task.watched else None,
    )
    splits = {name: handed.split() for name, handed in task.splits.items()}
    context = Context(task.config, task.shift, workspace, task.folder, BadClips(task.skip), ForwardedLog(say))
    adapted = work(context, method_class(task.config.method), task.source, splits)
    if isinstance(workspace.observer, TensorBoard):
        workspace.observer.close()
    return {
        "spent": [adapted.fitted.wall_seconds, adapted.fitted.cpu_seconds],
        "environments": adapted.fitted.environments,
        "scores": [score for _, _, score in adapted.weights],
        "weights": [path.name for _, path, _ in adapted.weights],
        "students": [path.name for path in adapted.students.values()],
        "averages": adapted.averages,
        "skipped": context.bad.found,
    }
