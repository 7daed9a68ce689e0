"""A run's real steps on noise, on any device, for tests that compare them with others."""

from __future__ import annotations

from pathlib import Path

import torch

from bench.data.loaders import to_device
from bench.runs.adaptation import schedule_of
from bench.runs.config import RunConfig
from bench.runs.dry_run import noise
from bench.runs.settings import loaded_class, settings_of
from bench.runs.source import fresh_segmenter, supervision_of
from bench.runs.training import Part, Trainer
from methods.base import Setup

WAITS = {
    "stpl": {
        # How many pixels of each class there are decides the shapes of the contrast and its blocks.
        "stpl/contrast.py: sample_class_balanced",
        "stpl/contrast.py: pixel_contrast",
        "stpl/contrast.py: forward",
    }
}
"""Where the processor may wait for the GPU in a step, and why."""


def real_steps(
    config: RunConfig, device: torch.device, size: tuple[int, int] | None = None, folder: Path = Path(), batch: int = 0
) -> tuple[Trainer, list[Part]]:
    """The trainer of a run on a fresh network and the batches of a step, of ``batch`` clips or as many as the shift says;
    rounds have been there."""
    shift, cls = config.protocol, loaded_class(config.method)
    schedule = schedule_of(cls, shift)
    batch = batch or schedule.batch
    torch.manual_seed(0)
    setup = Setup(len(shift.classes), schedule.steps, 0, supervision_of(shift))
    segmenter = fresh_segmenter(config, shift, 0).to(device)
    method = cls(segmenter, settings_of(config.method, config.settings), setup).to(device).train()
    method.restart()
    target = noise(shift, "target", batch, cls.card.setting == "oracle", size)
    source = noise(shift, "source", batch, True, size) if cls.card.setting == "UDA" else None
    trainer = Trainer(method, schedule, folder, device)
    for number, start in enumerate(method.round_steps()):
        trainer.start_round(number, start, [to_device(target, device)])
    return trainer, [(target, source)] * schedule.accumulate
