"""What a compared method is: a card, settings, a search space, and the losses of one step.

A method never sees a path, a device, a logger, Ray or the evaluation loop. The harness (``bench.runs.training``) owns devices,
precision, optimiser, schedule, clipping, logging and checkpoints; it hands a method batches and asks for losses.
"""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from stpl.segmenter import VideoSegmenter

Setting = Literal["none", "SFDA", "UDA", "oracle"]
Design = Literal["-", "image", "video"]


@dataclass(frozen=True)
class Card:
    """Who a method is and what it may see.

    Attributes:
        key: name in tables and on the command line; equals the file name, or stands in a file of its family.
        design: ``image`` or ``video``; ``-`` for floors and ceilings.
        setting: ``none`` (no adaptation), ``SFDA`` (trained model + unlabelled target), ``UDA`` (source data too),
            ``oracle`` (target labels). The harness opens data by it.
        floor: True for a baseline outside the paper's table that every SFDA method must beat.
    """

    key: str
    title: str
    authors: str
    venue: str
    year: int | None
    url: str
    design: Design
    setting: Setting
    floor: bool = False


@dataclass(frozen=True)
class ClipBatch:
    """Clips without labels.

    Attributes:
        frames: float32 RGB in 0..1, ``(N, T, 3, H, W)``, oldest frame first.
        flow: float32 ``(N, T-1, 2, H, W)``, backward flow in pixels, x first.
        valid: bool ``(N, T-1, H, W)``, False where the flow's end is outside the frame or hidden.
        keys: name of each clip.
    """

    frames: Tensor
    flow: Tensor
    valid: Tensor
    keys: tuple[str, ...]


@dataclass(frozen=True)
class LabelledBatch(ClipBatch):
    """Clips with the current frame's label: int64 ``(N, H, W)``, 255 = ignore.

    ``previous_label``: those of the frames before it, ``(N, T-1, H, W)``, oldest first, for methods that ask for them.
    """

    label: Tensor
    previous_label: Tensor | None = None


@dataclass(frozen=True)
class Choice:
    """Search over listed values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class LogUniform:
    """Search over ``low..high``, uniform in the logarithm."""

    low: float
    high: float


@dataclass(frozen=True)
class Uniform:
    """Search over ``low..high``, uniform."""

    low: float
    high: float


SearchSpace = Mapping[str, Choice | LogUniform | Uniform]


@dataclass(frozen=True)
class Value:
    """A value of a setting, and where it is from.

    Attributes:
        origin: ``published`` in the paper or its code; ``ours`` where nothing is published or it cannot be kept; ``tuned`` by a
            search; ``-o`` for this one run.
        source: section, file or trial; of ours, why.
    """

    value: Any
    origin: Literal["published", "ours", "tuned", "-o"]
    source: str = ""


Layer = Mapping[str, Value]
"""Values by setting, of some settings of a method."""


def published(value: Any, source: str, **by_source: Any) -> Any:
    """A field of a settings class with its published value.

    Args:
        source: where it stands: section or table of the paper, file of the code.
        by_source: another published value by source data set, ``synthia_seq=1.0``.
    """
    values = {name: Value(alternative, "published", source) for name, alternative in by_source.items()}
    return field(default=value, metadata={"value": Value(value, "published", source), "by_source": values})


def ours(value: Any, why: str) -> Any:
    """A field of a settings class for which nothing is published, or nothing that could be kept."""
    return field(default=value, metadata={"value": Value(value, "ours", why)})


def tuned_on(shift: str, *layers: Layer) -> dict[str, Layer]:
    """What :attr:`Method.TUNED` is: ``tuned_on("ministreet-dev", trial(3, decay=0.9), by_hand("small frames", blur=2.0))``."""
    return {shift: {name: value for layer in layers for name, value in layer.items()}}


def trial(number: int, **values: Any) -> Layer:
    """Values that this trial of the method's search chose (``leaderboards/tuning/log.csv``)."""
    return {name: Value(value, "tuned", f"trial {number}") for name, value in values.items()}


def by_hand(why: str, **values: Any) -> Layer:
    """Values that were set for a family of shifts without a search."""
    return {name: Value(value, "ours", why) for name, value in values.items()}


def declared(settings: type, source: str = "") -> dict[str, Value]:
    """Each setting's published value, or ours where there is none.

    Args:
        settings: a settings class.
        source: data set of the shift's source domain, which some published values depend on.
    """
    values, usual = {}, settings()
    for setting in dataclasses.fields(usual):
        value = setting.metadata.get("value", Value(getattr(usual, setting.name), "ours"))
        values[setting.name] = setting.metadata.get("by_source", {}).get(source, value)
    return values


def later(settings: type) -> Mapping[str, Any]:
    """Settings that came after records had been made, each with the value that its absence from a record stands for."""
    defaults: Mapping[str, Any] = getattr(settings, "LATER", {})
    return defaults


@dataclass(frozen=True)
class NoSettings:
    """For methods without anything to set."""


@dataclass(frozen=True)
class Supervision:
    """How labelled clips teach on this shift (``methods.common.losses``, ``methods.common.supervised``).

    Attributes:
        loss: ``balanced`` over classes, or ``plain`` as published.
        mirror: training from scratch mirrors clips with probability 1/2.
        jitter: strength of its colour jitter, 0 = none.
        auxiliary: weight of the auxiliary head.
    """

    loss: Literal["balanced", "plain"] = "balanced"
    mirror: bool = True
    jitter: float = 0.0
    auxiliary: float = 0.1


@dataclass(frozen=True)
class Setup:
    """What the harness tells a method about the run: classes K, number of steps, seed of its own random draws, how labelled
    clips teach."""

    num_classes: int
    steps: int
    seed: int
    supervision: Supervision = Supervision()


class Method(nn.Module, ABC):
    """Base of all compared methods.

    Whatever a method keeps between steps lives in parameters, buffers or submodules, so that ``state_dict`` is all of
    its state and a run resumes to the same bits. Random draws come from :meth:`generator`, which depends on seed, step
    and name alone: there is no generator state to save either.

    Args:
        segmenter: the source-trained network (freshly initialised for the oracle), to be adapted in place.
        settings: instance of :attr:`Settings`.
        setup: facts of the run.
    """

    card: ClassVar[Card]
    Settings: ClassVar[type] = NoSettings
    SEARCH: ClassVar[SearchSpace] = {}
    TUNED: ClassVar[Mapping[str, Layer]] = {}
    """Values for a family of shifts, by the shift that they were tuned on; they go over those in :attr:`Settings`, which are
    the published ones. A shift says whether it takes them. ``"ministreet-dev teacher=none"`` goes on top for that option."""
    start: ClassVar[Literal["source", "target_statistics", "scratch"]] = "target_statistics"
    """Where the method starts: the source model as it is, with batch-norm statistics of the target where the shift's
    policy says so, or a fresh network trained with the source schedule (oracle)."""
    trains: ClassVar[bool] = True
    """False for methods that take no gradient step."""
    evaluates_average: ClassVar[bool] = False
    """True where the paper scores the method's own average of weights: :meth:`evaluated` returns it whatever the shift's
    readout is, and the student's score is recorded beside it."""
    PAPER_HAS: ClassVar[Mapping[str, str]] = {"fusion": "none"}
    """Options that give the method what its paper has beyond its loss (``-o ingredients=published``): fusion over time, and
    settings such as a teacher. An image method has no fusion."""
    averages: str = "none"
    """Which averages of weights take part, for the record: ``teacher`` that labels, ``historical`` models, ``evaluated`` one."""
    previous_labels: ClassVar[bool] = False
    """True for a UDA method that needs the source's labels of every frame: its batches bring ``previous_label``."""
    streams: ClassVar[bool] = True
    """Whether the method can run where each clip comes once (``bench run --protocol stream``). One that overrides
    :meth:`round_steps` cannot, unless it sets this itself: then it is given each clip as a round of its own when it comes."""
    part: int = 0
    """Number of the batch within a step, set by the harness where a step sums the gradients of several; draws depend on it."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "round_steps" in vars(cls) and "streams" not in vars(cls):
            cls.streams = False

    def __init__(self, segmenter: VideoSegmenter, settings: Any, setup: Setup) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.settings = settings
        self.setup = setup

    @classmethod
    def revision(cls, settings: Any) -> int:
        """Number of the algorithm, raised when a change of code changes what a run with these settings computes.

        It is part of a run's config, where it is not 1: records of an earlier revision are refused until they are run again.
        """
        return 1

    @abstractmethod
    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        """Weighted loss terms of one step; the harness minimises their sum and logs each.

        Args:
            target: unlabelled target clips (a :class:`LabelledBatch` only for the oracle).
            source: labelled source clips for UDA methods, None otherwise.
            step: 0-based step.
        """

    def restart(self) -> None:
        """Called once before the first step, after the segmenter got target statistics: copy it into a teacher here."""
        return None

    def round_steps(self) -> tuple[int, ...]:
        """Steps, ascending, before which the harness calls :meth:`start_round`; empty for a method without rounds."""
        return ()

    def start_round(self, number: int, clips: Iterable[ClipBatch]) -> None:
        """Called before step ``round_steps()[number]``, under the steps' precision, e.g. to label the target offline.

        Args:
            number: 0-based round.
            clips: all target training clips in order, unlabelled and on the device; may be gone through more than once. In a
                stream (:attr:`streams`) the clip alone that has just come, before the step on it.
        """
        return None

    def after_step(self, step: int) -> None:
        """Called after the optimiser's step, under its precision: move a teacher, train discriminators."""
        return None

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Optimisers that the method steps by itself in :meth:`after_step` (discriminators), by name.

        The harness lowers their learning rates on the same schedule and makes their state part of resume.
        """
        return {}

    def evaluated(self, readout: str) -> VideoSegmenter:
        """The weights that are scored: the ``student``, or the ``teacher`` where the shift says so and there is one."""
        return self.segmenter

    def parameter_groups(self, lr: float, head_multiplier: float) -> list[dict[str, Any]]:
        """Optimiser groups: the segmenter's, plus one at head rate for what the method itself trains.

        Besides SGD's own options a group may have ``clipped``: groups of one value are clipped together, each value apart, so
        that networks that are trained side by side do not shorten each other's steps.
        """
        groups: list[dict[str, Any]] = self.segmenter.parameter_groups(lr, head_multiplier)
        segmenter_ids = {id(p) for group in groups for p in group["params"]}
        extra = [p for p in self.parameters() if p.requires_grad and id(p) not in segmenter_ids]
        return [*groups, {"params": extra, "lr": lr * head_multiplier}] if extra else groups

    def generator(self, step: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Random generator for one purpose in one step, the same whatever was drawn before.

        The method's name is not part of the seed: two methods that draw a view under the same name get the same view,
        so that paired comparisons differ in the method alone.
        """
        text = f"{self.setup.seed}/{name}/{step}" + (f"/{self.part}" if self.part else "")
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)
