"""``bench profile``: where the time of a method's step goes. Only forward, backward and optimiser should cost much.

The method runs a short schedule on a shift's training clips, with a timer around every network (by forward hooks), every loss
function (a function that the method's file imports and whose result carries a gradient), every ``backward`` and every
optimiser step, its own optimisers included. What is left is overhead: reading clips, drawing views, selecting labels, moving
averages, and what a loss function does before a network that it calls itself. Rounds of offline labels belong to no single step
and are timed apart.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from bench.core.access import stage
from bench.core.errors import UsageError
from bench.core.workspace import Workspace
from methods.base import Method
from stpl.segmenter import VideoSegmenter

from .adaptation import GRANTS, Context, begin, make_method, open_batches, prepare, schedule_of
from .config import RunConfig
from .evaluate import Everything
from .settings import loaded_class
from .training import Trainer

WORK = ("network", "losses", "backward", "optimiser")
"""Forward (networks and loss functions), backward, optimiser: what a step is for. Everything else is overhead."""


class Clock:
    """Seconds by part. A part that starts inside another one is counted for the inner one alone."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self.device = device
        self._running: list[str] = []
        self._since = 0.0

    def _account(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._running:
            part = self._running[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now

    def start(self, part: str) -> None:
        """From now on seconds are this part's."""
        self._account()
        self._running.append(part)

    def stop(self, part: str | None = None) -> None:
        """The innermost part ends; ``part`` renames what it spent since a part inside it ended."""
        if part is not None:
            self._running[-1] = part
        self._account()
        self._running.pop()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a block."""
        self.start(name)
        try:
            yield
        finally:
            self.stop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with a timer around it."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return call


def networks(method: Method) -> list[nn.Module]:
    """The outermost modules with weights that compute; of segmenters the parts too, since methods call them one by one."""
    modules: list[nn.Module] = []

    def visit(parent: nn.Module) -> None:
        for child in parent.children():
            computes = "forward" in dir(type(child)) and type(child).forward is not nn.Module.forward
            if computes and any(True for _ in child.parameters()):
                modules.append(child)
            if not computes or isinstance(child, VideoSegmenter):
                visit(child)

    visit(method)
    return modules


def _timed_loss(clock: Clock, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with a timer: its time is that of a loss if what it returns carries a gradient."""

    def call(*args: Any, **kwargs: Any) -> Any:
        clock.start("rest")
        try:
            result = function(*args, **kwargs)
        except BaseException:
            clock.stop()
            raise
        leaves = result.values() if isinstance(result, dict) else result if isinstance(result, tuple) else (result,)
        carries = any(isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in leaves)
        clock.stop("losses" if carries else None)
        return result

    return call


@contextlib.contextmanager
def timers(method: Method, trainer: Trainer, clock: Clock) -> Iterator[None]:
    """Timers on networks, loss functions, ``backward`` and optimisers, gone afterwards."""
    with contextlib.ExitStack() as undo:
        for network in networks(method):
            undo.callback(network.register_forward_pre_hook(lambda *_: clock.start("network")).remove)
            undo.callback(network.register_forward_hook(lambda *_: clock.stop()).remove)
        for optimiser in trainer.optimisers.values():
            undo.callback(optimiser.register_step_pre_hook(lambda *_: clock.start("optimiser")).remove)
            undo.callback(optimiser.register_step_post_hook(lambda *_: clock.stop()).remove)
        for module in {sys.modules[cls.__module__] for cls in type(method).__mro__ if issubclass(cls, Method)}:
            plain = {
                name: function
                for name, function in vars(module).items()
                if inspect.isfunction(function) and function.__module__ != module.__name__
            }
            undo.callback(vars(module).update, plain)
            vars(module).update({name: _timed_loss(clock, function) for name, function in plain.items()})
        undo.callback(setattr, torch.Tensor, "backward", torch.Tensor.backward)
        torch.Tensor.backward = clock.timed("backward", torch.Tensor.backward)  # type: ignore[method-assign]
        yield


def profile(config: RunConfig, workspace: Workspace, steps: int) -> dict[str, Any]:
    """Where a step's time goes. Nothing of the run is kept.

    Args:
        config: of the run to look at.
        steps: to time, after a first one, in which libraries are imported and choose their algorithms.

    Returns:
        ``step``: seconds; ``share``: percent by part (``network, losses, backward, optimiser, clips, rest``); ``outside``:
        percent of the last two; ``rounds``: seconds of all rounds of offline labels.

    Raises:
        UsageError: the method takes no steps.
    """
    shift, cls = config.protocol, loaded_class(config.method)
    if not cls.trains:
        raise UsageError(f"Method '{config.method}' takes no steps: there is nothing to profile")
    source, splits = prepare(config, shift, workspace)
    originals = {name: getattr(shift, name) for name in ("adaptation", "source_training")}
    schedules = {
        name: schedule and schedule.model_copy(update={"steps": steps + 1}) for name, schedule in originals.items()
    }
    with TemporaryDirectory() as folder:
        context = Context(config, shift.model_copy(update=schedules), workspace, Path(folder))
        with stage(*GRANTS[cls.card.setting]):
            method = make_method(context, cls, source)
            unlabelled, target, labelled = open_batches(context, cls, splits)
            begin(context, method, unlabelled)
            trainer = Trainer(method, schedule_of(cls, context.shift), Path(folder), workspace.device)
            clock, rounds = Clock(workspace.device), 0.0
            method.train()
            starts = method.round_steps()
            with timers(method, trainer, clock):
                for step in range(steps + 1):
                    if step == 1:
                        clock.seconds.clear()
                    if step in starts:
                        began, before = time.perf_counter(), dict(clock.seconds)
                        trainer.start_round(starts.index(step), step, Everything(unlabelled, workspace.device))
                        rounds += time.perf_counter() - began
                        clock.seconds = before
                    with clock.part("clips"):
                        batches = trainer.parts(step, target, labelled)
                    with clock.part("rest"):
                        trainer.step(step, batches)
    total = sum(clock.seconds.values())
    share = {part: round(100 * seconds / total, 1) for part, seconds in sorted(clock.seconds.items())}
    return {
        "method": config.method,
        "step": round(total / steps, 4),
        "share": share,
        "outside": round(100 - 100 * sum(clock.seconds.get(part, 0.0) for part in WORK) / total, 2),
        "rounds": round(rounds, 2),
    }
