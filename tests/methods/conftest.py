"""Shared by the method tests: one thread, so that sums have one order; methods and clips to try them on; ``--method FILE``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.core.registry import resolve
from bench.networks.build import build_segmenter
from bench.runs.config import resolve_settings
from bench.runs.settings import loaded_class, settings_of
from methods.base import ClipBatch, LabelledBatch, Method, Setup
from stpl import Segmentation
from tests.threads import one_thread  # noqa: F401

NAME = pytest.StashKey[str]()
"""Of the method that ``--method`` names."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--method", help="File of a method: the contract suite tests it alone.")


def pytest_configure(config: pytest.Config) -> None:
    if file := config.getoption("--method"):
        config.stash[NAME] = resolve("method", file)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if name := config.stash.get(NAME, None):
        items[:] = [
            item for item in items if getattr(item, "callspec", None) and item.callspec.params.get("name") == name
        ]  # type: ignore[attr-defined]


class Painter(nn.Module):
    """A segmenter whose scores are the frames' colours, so that what it says of a clip can be chosen: K = 3 classes."""

    def __init__(self, factor: float = 1.0, stride: int = 1) -> None:
        super().__init__()
        self.factor, self.stride = nn.Parameter(torch.tensor(factor)), stride

    def forward(self, frames: Tensor, flow: Tensor, valid: Tensor) -> Segmentation:
        maps = self.factor * frames[:, :, :, :: self.stride, :: self.stride]
        encoded = tuple(maps.unbind(1))
        return Segmentation(encoded[-1], None, encoded[-1], encoded[-1], (), encoded, None)


class StandIn:
    """Small methods, clips and steps."""

    classes, steps = 5, 6
    painter = Painter

    def method(self, name: str, classes: int = classes, **settings: Any) -> Any:
        """A method around a freshly initialised network, the same in every call."""
        torch.manual_seed(0)
        cls = loaded_class(name)
        segmenter = build_segmenter("mini", "conv1x1", classes)
        built: Method = cls(
            segmenter, settings_of(name, resolve_settings(name, settings)), Setup(classes, self.steps, 0)
        )
        built.restart()
        return built.train()

    def clips(self, seed: int = 0, n: int = 2, t: int = 2, size: tuple[int, int] = (32, 64)) -> ClipBatch:
        """Clips of noise with flow of a few pixels, valid nearly everywhere."""
        g = torch.Generator().manual_seed(seed)
        frames = torch.rand(n, t, 3, *size, generator=g)
        flow = 2 * torch.randn(n, t - 1, 2, *size, generator=g)
        valid = torch.rand(n, t - 1, *size, generator=g) > 0.1
        return ClipBatch(frames, flow, valid, tuple(f"clip {i}" for i in range(n)))

    def labelled(self, seed: int = 1, n: int = 2, t: int = 2, size: tuple[int, int] = (32, 64)) -> LabelledBatch:
        """The same with random labels of every frame, the four upper rows ignored."""
        c, g = self.clips(seed, n, t, size), torch.Generator().manual_seed(seed)
        labels = torch.randint(0, self.classes, (n, t, *size), generator=g)
        labels[..., :4, :] = 255
        return LabelledBatch(c.frames, c.flow, c.valid, c.keys, labels[:, -1], labels[:, :-1])

    def step(self, method: Method, number: int, source: LabelledBatch | None = None) -> dict[str, float]:
        """One step of plain gradient descent on :meth:`clips`, with the round that starts before it."""
        target = self.clips()
        if number in method.round_steps():
            method.start_round(method.round_steps().index(number), [target])
        losses = method.losses(target, source, number)
        groups = method.parameter_groups(0.01, 1.0)
        torch.optim.SGD(groups).zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.optim.SGD(groups).step()
        method.after_step(number)
        return {name: float(value.detach()) for name, value in losses.items()}

    @staticmethod
    def weights(module: nn.Module) -> list[Tensor]:
        """Copies of a module's parameters."""
        return [p.detach().clone() for p in module.parameters()]


@pytest.fixture
def stand_in() -> StandIn:
    """Methods and clips to try them on."""
    return StandIn()
