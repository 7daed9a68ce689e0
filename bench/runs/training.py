"""The one training loop: source models, the oracle and every adaptation run through it.

It owns precision, optimiser, schedule, clipping, logging and checkpoints. Everything random is a function of seed and step,
and state is written whole every few steps, so a run killed at any moment ends with the same bits when it is run again.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.core.errors import RunError
from bench.core.files import disk_errors, write_atomically
from bench.core.precision import bfloat16
from bench.core.progress import Progress, quiet, say
from bench.core.provenance import Environments, environment, environments_in
from bench.core.schema import hash_of
from bench.core.seeding import seed_for
from bench.core.workspace import Observer
from bench.data.loaders import to_device
from bench.networks.weights import load_tensors, save_tensors
from methods.base import ClipBatch, LabelledBatch, Method

from .config import Adaptation, Schedule
from .watching import Unwatched

STATE_EVERY = 20
"""Steps between two writes of the resumable state."""

Batches = Callable[[int], ClipBatch]
Part = tuple[ClipBatch, ClipBatch | None]
"""A batch of target clips and one of source clips, where the method gets one."""


@dataclass(frozen=True)
class Noted:
    """Values of a step that are still to be checked: what they are, by name, and the clips they come from."""

    step: int
    kind: str
    values: dict[str, Tensor]
    keys: tuple[str, ...]

    def numbers(self) -> dict[str, float]:
        """The values, brought to the processor in one transfer."""
        return dict(zip(self.values, torch.stack(list(self.values.values())).tolist(), strict=True))


@dataclass(frozen=True)
class Fitted:
    """What the loop spent: steps, wall and CPU seconds, summed over interruptions; and each environment that it ran in."""

    steps: int
    wall_seconds: float
    cpu_seconds: float
    environments: Environments = ()


def poly(step: int, steps: int, power: float) -> float:
    """Learning-rate factor ``(1 - step / steps)^power``, for all parameter groups alike.

    The published code schedules two of three groups (the classifiers stay at 10x base for the whole run); repaired here.
    """
    return float((1 - step / steps) ** power)


def snapshot_steps(schedule: Schedule) -> list[int]:
    """Step counts after which weights are kept, evenly spaced, the last step included."""
    count = schedule.snapshots if isinstance(schedule, Adaptation) else 1
    return sorted({max(1, round(schedule.steps * (i + 1) / count)) for i in range(count)})


class Log:
    """``metrics.jsonl`` of a run: one line per step.

    Raises:
        RunError: the disk is full or read-only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut(self, steps: int) -> None:
        """Keep the first lines: those after the state that a run goes on from are logged again."""
        if not steps:
            self.path.unlink(missing_ok=True)
            return
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        lines = text.splitlines(keepends=True)
        if lines:
            write_atomically(self.path, "".join(lines[:steps]))
        if len(lines) < steps:
            say(f"{self.path} has {len(lines)} lines, {steps} steps are done: the losses of the others are lost")

    def add(self, entry: Mapping[str, float]) -> None:
        """Log a step."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")


class Trainer:
    """Minimises a method's losses.

    Args:
        method: what is trained, on its device already.
        schedule: optimiser and steps.
        folder: where ``metrics.jsonl`` and ``state/`` go; a folder with state resumes.
        device: where batches are sent.
        readout: whose weights snapshots keep, ``student`` or ``teacher``; a method that evaluates its own average keeps both.
        observer: is told of every step, off the clock; it can change nothing.
        log: of the steps, by default ``metrics.jsonl``.
    """

    def __init__(
        self,
        method: Method,
        schedule: Schedule,
        folder: Path,
        device: torch.device,
        readout: str = "student",
        observer: Observer | None = None,
        log: Log | None = None,
    ) -> None:
        self.log = log or Log(folder / "metrics.jsonl")
        self.readout = readout
        self.observer = observer or Unwatched()
        self._off_clock = (0.0, 0.0)
        self.method, self.schedule, self.folder, self.device = method, schedule, folder, device
        groups = method.parameter_groups(schedule.lr, schedule.head_multiplier)
        self.optimiser = torch.optim.SGD(
            groups, lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay
        )
        # The segmenter's optimiser first, then those that the method steps itself.
        self.optimisers = {"segmenter": self.optimiser, **method.optimisers()}
        self.base_lr = {name: [g["lr"] for g in o.param_groups] for name, o in self.optimisers.items()}
        self.state_path = folder / "state" / "state.safetensors"
        self.kept = snapshot_steps(schedule)
        self._noted: list[Noted] = []
        self._environments: Environments = ()

    def fit(
        self,
        target: Batches,
        source: Batches | None = None,
        activity: str = "adapt",
        progress: Progress = quiet,
        everything: Iterable[ClipBatch] = (),
        watch: Callable[[int], None] | None = None,
    ) -> Fitted:
        """Run to the last step, from the saved state if there is one.

        Args:
            target: batch of a step.
            source: the same of labelled source clips, for UDA methods.
            activity: name of the work, for ``progress``.
            everything: all target training clips in order, unlabelled and on the device, for methods in rounds.
            watch: called with the number of steps whenever weights have been kept before the last step.

        Raises:
            RunError: a loss is NaN or infinite, a saved state is damaged, or the disk is full.
        """
        first, spent = self.begin(everything)
        keep = set(self.kept)
        rounds = {step: number for number, step in enumerate(self.method.round_steps())}
        for step in range(first, self.schedule.steps):
            if step in rounds:
                self.start_round(rounds[step], step, everything)
            self.step(step, self.parts(step, target, source))
            done = step + 1
            saves = done % STATE_EVERY == 0 or done == self.schedule.steps
            if self.device.type == "cpu" or done in keep or saves:
                self.settle()
            if done in keep:
                weights = self.method.evaluated(self.readout).state_dict()
                save_tensors(self.snapshot_path(done), weights, {"step": done})
                if self.method.evaluates_average:
                    save_tensors(self.student_path(done), self.method.segmenter.state_dict(), {"step": done})
                if watch and done < self.schedule.steps:
                    watch(done)
            if saves:
                self._save(done, *spent())
            progress(activity, done, self.schedule.steps)
        return Fitted(self.schedule.steps, *spent(), self._environments)

    def begin(self, everything: Iterable[ClipBatch] = ()) -> tuple[int, Callable[[], tuple[float, float]]]:
        """Load the saved state if there is one; returns the next step, and what gives the wall and CPU seconds spent so far."""
        first, wall, cpu = self._resume()
        here = environment(self.device, torch.get_num_threads())
        if first < self.schedule.steps and here not in self._environments:
            self._environments = (*self._environments, here)
        self.observer.start(self.folder, first, self.schedule.steps, self.method.segmenter, everything)
        began, cpu_began = time.perf_counter(), time.process_time()

        def spent() -> tuple[float, float]:
            off_wall, off_cpu = self._off_clock
            return wall + time.perf_counter() - began - off_wall, cpu + time.process_time() - cpu_began - off_cpu

        self.method.train()
        return first, spent

    @contextlib.contextmanager
    def off_clock(self) -> Iterator[None]:
        """What is done in the block is not the method's cost."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        off_wall, off_cpu = self._off_clock
        self._off_clock = off_wall + time.perf_counter() - wall, off_cpu + time.process_time() - cpu

    def _tell(self, step: int, losses: dict[str, float]) -> None:
        """Tell the observer of a step."""
        factor = self._factor(step)
        rates = {
            f"lr/{name}/{group.get('name', 'own')}": base * factor
            for name, optimiser in self.optimisers.items()
            for group, base in zip(optimiser.param_groups, self.base_lr[name], strict=True)
        }
        self.observer.step(step, {**{f"loss/{name}": value for name, value in losses.items()}, **rates})

    def _factor(self, step: int) -> float:
        """What the learning rates are multiplied with in a step."""
        return poly(step, self.schedule.horizon or self.schedule.steps, self.schedule.power)

    def parts(self, step: int, target: Batches, source: Batches | None) -> list[Part]:
        """The batches whose gradients a step averages."""
        numbers = range(step * self.schedule.accumulate, (step + 1) * self.schedule.accumulate)
        return [(target(number), source(number) if source else None) for number in numbers]

    def settle(self) -> None:
        """Check and log the steps since the last call.

        Raises:
            RunError: a loss or gradient is NaN or infinite, or the disk is full.
        """
        losses: dict[int, list[dict[str, float]]] = {}
        for noted in self._noted:
            numbers = self._checked(noted)
            if noted.kind == "loss":
                losses.setdefault(noted.step, []).append(numbers)
        self._noted.clear()
        for step, parts in losses.items():
            means = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
            self.log.add({"step": step, **means})
            with self.off_clock():
                self._tell(step, means)

    def snapshot_path(self, step: int) -> Path:
        """Where the weights after ``step`` steps are kept."""
        return self.folder / "state" / f"snapshot-{step:06d}.safetensors"

    def student_path(self, step: int) -> Path:
        """Where the student's own weights are kept beside a snapshot of an average."""
        return self.folder / "state" / f"student-{step:06d}.safetensors"

    @contextlib.contextmanager
    def _draws(self, step: int, name: str, part: int = 0) -> Iterator[None]:
        """The steps' precision, and torch's global generator set by the step: dropout and the like then draw the same numbers
        in a resumed run."""
        half = bfloat16(self.device, enabled=self.schedule.precision == "bfloat16")
        with torch.random.fork_rng(devices=[]), half:
            seed = seed_for(self.method.setup.seed, name, step, *([part] if part else []))
            if (
                self.device.type == "cpu"
            ):  # torch.manual_seed would note a stack trace in case a GPU comes: 1 ms or more
                torch.default_generator.manual_seed(seed)
            else:
                torch.manual_seed(seed)
            yield

    def start_round(self, number: int, step: int, everything: Iterable[ClipBatch]) -> None:
        """Let the method label the whole target before a step."""
        with self._draws(step, "round"):
            self.method.start_round(number, everything)

    def step(self, step: int, parts: Sequence[Part]) -> None:
        """One optimiser step on the losses of the parts, averaged.

        Losses and gradients are noted for :meth:`settle`. On the CPU they are checked before they are used. On a GPU that would
        bring them to the processor in every step, so they are checked later, but before any state is saved.
        """
        factor = self._factor(step)
        for name, optimiser in self.optimisers.items():
            for group, base in zip(optimiser.param_groups, self.base_lr[name], strict=True):
                group["lr"] = base * factor
        names: list[str] = []
        for number, (target, source) in enumerate(parts):
            target = to_device(target, self.device)
            source = to_device(source, self.device) if source is not None else None
            assert source is None or isinstance(source, LabelledBatch)
            self.method.part = number
            with self._draws(step, "step", number):
                losses = self.method.losses(target, source, step)
            names = list(losses)
            self._note(Noted(step, "loss", {k: v.detach().float() for k, v in losses.items()}, target.keys))
            total = torch.stack([value.float() for value in losses.values()]).sum()
            if number == 0:
                self.optimiser.zero_grad(set_to_none=True)
            (total / len(parts) if len(parts) > 1 else total).backward()  # type: ignore[no-untyped-call]
        norm = self._clip()
        keys = tuple(key for target, _ in parts for key in target.keys)
        self._note(Noted(step, "gradient", {" + ".join(names): norm}, keys))
        self.optimiser.step()
        self.method.part = 0
        with self._draws(step, "after step"):
            self.method.after_step(step)

    def _clip(self) -> Tensor:
        """Clip the gradients of what is clipped together; returns the largest norm before, NaN where any is."""
        limit = self.schedule.clip_norm if self.schedule.clip_norm is not None else math.inf
        together: dict[object, list[Tensor]] = {}
        for group in self.optimiser.param_groups:
            together.setdefault(group.get("clipped"), []).extend(group["params"])
        trained = [some for some in together.values() if any(p.grad is not None for p in some)] or [[]]
        norms = [torch.nn.utils.clip_grad_norm_(some, limit).detach() for some in trained]
        return norms[0] if len(norms) == 1 else torch.stack(norms).max()

    def _note(self, noted: Noted) -> None:
        if self.device.type == "cpu":
            self._checked(noted)
        self._noted.append(noted)

    def _checked(self, noted: Noted) -> dict[str, float]:
        numbers = noted.numbers()
        for name, value in numbers.items():
            if not math.isfinite(value):
                quantity = f"loss '{name}'" if noted.kind == "loss" else f"the gradient of '{name}'"
                kept = f"is kept in {self.state_path.parent}" if self.state_path.is_file() else "is the start"
                raise RunError(
                    f"Step {noted.step}: {quantity} is {value} on clips {', '.join(noted.keys)}; the last good state {kept}. "
                    "Lower the learning rate or check those clips"
                )
        return numbers

    def beside(self) -> dict[str, Tensor]:
        """Further tensors of the resumable state, by name."""
        return {}

    def load_beside(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors that :meth:`beside` gave."""

    def _save(self, step: int, wall: float, cpu: float) -> None:
        tensors = {f"method/{name}": value for name, value in self.method.state_dict().items()}
        tensors |= {f"beside/{name}": value for name, value in self.beside().items()}
        for name, optimiser in self.optimisers.items():
            for number, parameter in enumerate(_parameters(optimiser)):
                for key, value in optimiser.state.get(parameter, {}).items():
                    if isinstance(value, Tensor):  # momentum, Adam's moments and its step count
                        tensors[f"optimiser/{name}/{number}/{key}"] = value
        facts = {"environments": list(self._environments), "names": hash_of(sorted(tensors))}
        save_tensors(self.state_path, tensors, {"step": step, "wall": wall, "cpu": cpu, **facts})

    def _resume(self) -> tuple[int, float, float]:
        """Load the saved state; returns the next step and the seconds spent so far."""
        if not self.state_path.is_file():
            self.log.cut(0)
            return 0, 0.0, 0.0
        tensors, meta = load_tensors(self.state_path, "delete it and run again")
        method = {n.removeprefix("method/"): v for n, v in tensors.items() if n.startswith("method/")}
        # Without its moments an optimiser would start anew in the middle of the run, and say nothing.
        whole = meta.get("names", hash_of(sorted(tensors))) == hash_of(sorted(tensors))
        step, wall, cpu = (meta.get(name) for name in ("step", "wall", "cpu"))
        numbers = not any(isinstance(x, bool) for x in (step, wall, cpu))  # True is an int as well
        timed = isinstance(wall, (int, float)) and isinstance(cpu, (int, float)) and min(wall, cpu) >= 0
        counted = isinstance(step, int) and 0 <= step <= self.schedule.steps
        if self.method.state_dict().keys() != method.keys() or not (whole and numbers and timed and counted):
            raise RunError(f"{self.state_path} was saved by other code than this; delete it and run again")
        self._environments = environments_in(meta)
        assert isinstance(step, int)
        for kept in (self.snapshot_path(at) for at in self.kept if at <= step):
            if not kept.is_file():  # they are needed after the last step; hours may lie between
                raise RunError(f"{kept} has gone, and the run goes on after it; delete {kept.parent} and run again")
        try:
            self.method.load_state_dict(method)
        except RuntimeError:  # shapes differ
            raise RunError(f"{self.state_path} was saved by other code than this; delete it and run again") from None
        for name, optimiser in self.optimisers.items():
            for number, parameter in enumerate(_parameters(optimiser)):
                start = f"optimiser/{name}/{number}/"
                for key in (key for key in tensors if key.startswith(start)):
                    value = tensors[key] if tensors[key].dim() == 0 else tensors[key].to(parameter.device)
                    optimiser.state[parameter][key.removeprefix(start)] = value
        self.load_beside({n.removeprefix("beside/"): v for n, v in tensors.items() if n.startswith("beside/")})
        self.log.cut(step)
        return step, float(str(wall)), float(str(cpu))


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimiser.param_groups for p in group["params"]]
