"""What a run computes, holds and waits for on a GPU, found without one: the real steps of the real trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.core.errors import UsageError
from bench.core.no_gpu import Ledger, Operation, Wait, no_gpu, onto_gpu
from bench.data.loaders import to_device
from bench.shifts.sides import ModelFile
from methods.base import ClipBatch, LabelledBatch, Method, NoSettings, Setup
from methods.common.supervised import Supervised

from .adaptation import schedule_of
from .config import RunConfig, Schedule, Shift
from .predictions import predict
from .settings import loaded_class, settings_of
from .source import fresh_segmenter, supervision_of
from .training import Trainer

CUDA = torch.device("cuda")


@dataclass(frozen=True)
class Pass:
    """What happens on the GPU in a step, or on a clip.

    Attributes:
        operations: its kernels, in order.
        clips: that it goes over.
        peak: bytes on the GPU at the highest, weights and optimiser included.
        waits: how often the processor waits for the GPU, by place.
        parameters: of the segmenter.
    """

    operations: tuple[Operation, ...]
    clips: int
    peak: int
    waits: Mapping[Wait, int]
    parameters: int = 0

    @property
    def flops(self) -> int:
        """Floating-point operations of convolutions and products, a multiply-add counted as two."""
        return sum(operation.flops for operation in self.operations)


@dataclass(frozen=True)
class Training:
    """A training: of a source model, or an adaptation.

    Attributes:
        step: the last step.
        round: one round of offline labels over ``round.clips`` clips; None for a method without. ``rounds``: how many there are.
        peak: the highest of all steps and rounds that were looked at, bytes.
        held: bytes between two steps: weights, gradients, optimiser, teachers.
    """

    step: Pass
    round: Pass | None
    rounds: int
    peak: int
    held: int


def dry_adaptation(config: RunConfig, steps: Sequence[int] = (0, -1), size: tuple[int, int] | None = None) -> Training:
    """The adaptation of a run whose method takes steps, on a GPU that is not there.

    Args:
        steps: that are gone through, the last one of the schedule being -1.
        size: ``(H, W)`` of the clips where it is not the shift's.
    """
    return _training(config, loaded_class(config.method), steps, size)


def dry_source(config: RunConfig) -> Training | None:
    """The training of a run's source model; None where the source is a model file."""
    if isinstance(config.protocol.data.source, ModelFile):
        return None
    return _training(config, Supervised, (0, -1), None)


def dry_look(config: RunConfig) -> Pass:
    """The evaluation of one clip."""
    shift = config.protocol
    rule = shift.evaluation
    with no_gpu(len(shift.classes)) as ledger:
        segmenter = fresh_segmenter(config, shift, 0)
        onto_gpu(segmenter, ledger)
        predicted = predict(segmenter.eval(), to_device(noise(shift, "target", 1, False), CUDA), rule.align_corners)
        predicted.labels()
        predicted.previous_labels()
        if rule.height and rule.width:
            predicted.labels((rule.height, rule.width))
        return replace(_pass(ledger, 1), parameters=sum(p.numel() for p in segmenter.parameters()))


def _training(config: RunConfig, cls: type[Method], steps: Sequence[int], size: tuple[int, int] | None) -> Training:
    shift = config.protocol
    schedule: Schedule = shift.training if cls is Supervised else schedule_of(cls, shift)
    setting = cls.card.setting if cls is not Supervised else "oracle"
    target = noise(shift, "source" if cls is Supervised else "target", schedule.batch, setting == "oracle", size)
    source = noise(shift, "source", schedule.batch, True, size) if setting == "UDA" else None
    with no_gpu(len(shift.classes)) as ledger:
        segmenter = fresh_segmenter(config, shift, 0)
        onto_gpu(segmenter, ledger)
        setup = Setup(len(shift.classes), schedule.steps, 0, supervision_of(shift))
        settings = NoSettings() if cls is Supervised else settings_of(config.method, config.settings)
        with CUDA:  # what a method makes goes to the device with it
            method = cls(segmenter, settings, setup).train()
        method.restart()
        return _steps(method, schedule, target, source, ledger, steps)


def _steps(
    method: Method,
    schedule: Schedule,
    target: ClipBatch,
    source: ClipBatch | None,
    ledger: Ledger,
    steps: Sequence[int],
) -> Training:
    """Go through some steps and the rounds before them; returns the costs of the last step and the last round."""
    trainer = Trainer(method, schedule, Path(), CUDA)
    starts, of_round, peak = method.round_steps(), None, 0
    first = 0
    for step in sorted({range(schedule.steps)[step] for step in steps}):
        for number, start in enumerate(starts):
            if first <= start <= step:
                ledger.reset()
                trainer.start_round(number, start, [to_device(target, CUDA)])
                of_round = _pass(ledger, len(target.keys))
                peak = max(peak, ledger.peak)
        first = step + 1
        ledger.reset()
        trainer.step(step, [(target, source)] * schedule.accumulate)
        trainer._noted.clear()
        peak = max(peak, ledger.peak)
    last = _pass(ledger, len(target.keys) * schedule.accumulate)
    ledger.reset()
    return Training(last, of_round, len(starts), peak, ledger.live)


def _pass(ledger: Ledger, clips: int) -> Pass:
    return Pass(tuple(ledger.operations), clips, ledger.peak, dict(ledger.waits))


def frame_size(shift: Shift, role: str) -> tuple[int, int]:
    """``(H, W)`` of the frames that a network gets from a side of a shift.

    Raises:
        UsageError: there are no frames.
    """
    side: Any = getattr(shift.data, role)
    if isinstance(side, ModelFile):
        raise UsageError(f"The {role} of shift '{shift.name}' is a model file: it has no frames")
    geometry: Any = side if hasattr(side, "height") else shift.data
    return geometry.height, geometry.width


def noise(shift: Shift, role: str, clips: int, labelled: bool, size: tuple[int, int] | None = None) -> ClipBatch:
    """Clips of the size of a shift's, of noise, on the processor."""
    height, width = size or frame_size(shift, role)
    t, g = shift.data.frames, torch.Generator().manual_seed(0)
    frames = torch.rand(clips, t, 3, height, width, generator=g)
    flow = torch.randn(clips, t - 1, 2, height, width, generator=g)
    valid = torch.rand(clips, t - 1, height, width, generator=g) > 0.1
    keys = tuple(f"clip {number}" for number in range(clips))
    if not labelled:
        return ClipBatch(frames, flow, valid, keys)
    labels = torch.randint(len(shift.classes), (clips, t, height, width), generator=g)
    return LabelledBatch(frames, flow, valid, keys, labels[:, -1], labels[:, :-1])
