"""A shift: one named source to target benchmark, completely described by one validated YAML (``bench/shifts``)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from bench.core.errors import RunError, UsageError
from bench.core.schema import Model, hash_of


class Split(Model):
    """Clips of one domain: numbers of training and validation clips."""

    domain: str
    train: int = Field(ge=1)
    val: int = Field(ge=1)


class Data(Model):
    """Where clips come from: rendered worlds of one family, frame size in pixels, frames per clip."""

    kind: Literal["ministreet"]
    family: str
    height: int = Field(ge=32)
    width: int = Field(ge=32)
    frames: int = Field(ge=2)
    source: Split
    target: Split

    @property
    def scored(self) -> str:
        """What the reported scores are of, for a sentence."""
        return f"{self.target.val} clips of domain `{self.target.domain}` per replicate"


class Recorded(Model):
    """One side of a shift of recorded videos: a data set (a file in ``bench/data/datasets``) and the network's input size."""

    dataset: str
    height: int = Field(ge=32)
    width: int = Field(ge=32)


class Videos(Model):
    """Clips from data sets on disk, under the folder that ``--data-root`` names."""

    kind: Literal["video"]
    frames: int = Field(ge=2)
    source: Recorded
    target: Recorded

    @property
    def family(self) -> str:
        """Name that seeds depend on."""
        return f"{self.source.dataset}-{self.target.dataset}"

    @property
    def scored(self) -> str:
        """What the reported scores are of, for a sentence."""
        return f"the validation split of `{self.target.dataset}`"


class Network(Model):
    """Default network and fusion operator of all methods, and what its backbone starts from."""

    LATER: ClassVar[tuple[str, ...]] = ("weights",)

    name: str
    fusion: str
    weights: Literal["random", "imagenet"] = "random"


class Schedule(Model):
    """SGD with momentum under a polynomial schedule, ``lr (1 - step/horizon)^power``, for all parameter groups.

    ``horizon`` is ``steps`` unless given: the published runs stop early in a schedule made for more steps. A step sums the
    gradients of ``accumulate`` batches and divides by their number.
    """

    LATER: ClassVar[tuple[str, ...]] = ("horizon", "accumulate")

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    head_multiplier: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    power: float = Field(gt=0)
    clip_norm: float | None = Field(gt=0)
    precision: Literal["float32", "bfloat16"]
    horizon: int | None = None
    accumulate: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _long_enough(self) -> Schedule:
        if self.horizon is not None and self.horizon < self.steps:
            raise ValueError(f"horizon ({self.horizon}) is smaller than steps ({self.steps})")
        return self


class SourceTraining(Schedule):
    """How source models and the oracle are trained, and the loss of the source terms of UDA methods.

    ``loss: balanced`` weighs each class by (its share in the batch)^-1/2; ``plain`` weighs all pixels alike and compares both
    heads at the labels' size, as published. ``mirror`` and ``jitter`` (strength of a colour jitter, 0 = none) are views of
    training from scratch alone. ``auxiliary`` is the weight of the auxiliary head.
    """

    LATER: ClassVar[tuple[str, ...]] = (*Schedule.LATER, "loss", "mirror", "jitter", "auxiliary")

    loss: Literal["balanced", "plain"] = "balanced"
    mirror: bool = True
    jitter: float = Field(default=0.0, ge=0, le=1.5)
    auxiliary: float = Field(default=0.1, ge=0)


class Adaptation(Schedule):
    """Schedule of all methods that train on the target, and the batch-norm policy.

    ``batch_norm: target`` starts every adaptation from statistics of target frames, keeps batch norm in train mode and
    re-estimates the statistics on target training frames before each evaluation, the same for every method.
    ``batch_norm: source`` starts from the source model's and scores with the running statistics as they have become in train
    mode, as published.
    ``snapshots`` weights are kept on the way (the last included) for the selection rules.
    """

    batch_norm: Literal["target", "source"]
    snapshots: int = Field(ge=1)
    statistics_clips: int = Field(ge=1)


class Evaluation(Model):
    """Scores are upsampled bilinearly to the label's size; ``readout`` says which weights are evaluated.

    ``height`` and ``width`` of the labels where they are not the frames'. Classes in ``unscored`` are trained and counted in the
    confusion matrix, and left out of the reported IoU and its mean.
    """

    LATER: ClassVar[tuple[str, ...]] = ("height", "width", "unscored")

    align_corners: bool
    readout: Literal["student", "teacher"]
    height: int | None = Field(default=None, ge=32)
    width: int | None = Field(default=None, ge=32)
    unscored: tuple[str, ...] = ()


class TunedOn(Model):
    """A method's settings are those that were tuned on this shift; published ones where nothing was tuned."""

    tuned_on: str = Field(alias="tuned-on")


MINISTREET = TunedOn.model_validate({"tuned-on": "ministreet-dev"})


class Shift(Model):
    """A named source to target benchmark.

    ``settings`` says which values of a method's settings its runs get: the ``published`` ones, or ``{tuned-on: SHIFT}``.
    ``ingredients`` says what methods have beyond their own loss: ``common``, all the network's fusion above, or ``published``,
    each what its paper has.
    """

    LATER: ClassVar[tuple[str, ...]] = ("settings", "ingredients")

    name: str
    title: str
    purpose: Literal["report", "tune", "test"]
    classes: tuple[str, ...] = Field(min_length=2)
    data: Annotated[Data | Videos, Field(discriminator="kind")]
    network: Network
    flow: str
    source_training: SourceTraining
    adaptation: Adaptation
    evaluation: Evaluation
    settings: Literal["published"] | TunedOn = MINISTREET
    ingredients: Literal["common", "published"] = "common"

    @model_validator(mode="after")
    def _fits(self) -> Shift:
        if missing := set(self.evaluation.unscored) - set(self.classes):
            raise ValueError(f"evaluation.unscored: '{min(missing)}' is not among the classes")
        if (self.evaluation.height is None) != (self.evaluation.width is None):
            raise ValueError("evaluation: give both height and width, or neither")
        return self

    @property
    def hash(self) -> str:
        """Hash of the protocol; the title is not part of it."""
        return hash_of(self.model_dump(mode="json", exclude={"title"}))

    def with_frames(self, frames: int) -> Shift:
        """The same with ``frames`` frames per clip, of which the last are those of the shorter clips."""
        return self.model_copy(update={"data": self.data.model_copy(update={"frames": frames})})

    def shortened(self, steps: int) -> Shift:
        """The same with schedules of at most ``steps`` steps, to try a shift out."""

        def cut(schedule: Schedule) -> Schedule:
            return schedule.model_copy(update={"steps": min(steps, schedule.steps), "horizon": None})

        return self.model_copy(
            update={"source_training": cut(self.source_training), "adaptation": cut(self.adaptation)}
        )


def check_protocol(
    shift: Shift, made: str, what: str, remedy: str, error: type[UsageError] | type[RunError] = UsageError
) -> None:
    """Refuse what was made under another protocol than the shift has now.

    Args:
        made: hash of the protocol under which it was made.
        what, remedy: start and end of the line that says so: what it is, and what to do.

    Raises:
        UsageError: it was; or ``error``.
    """
    if made != shift.hash:
        raise error(f"{what} was made under protocol {made}; '{shift.name}' is now {shift.hash}; {remedy}")
