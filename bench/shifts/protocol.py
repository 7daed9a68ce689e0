"""A shift: one named source to target benchmark, completely described by one validated YAML (``bench/shifts``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, PrivateAttr, Tag, model_validator

from bench.core.errors import RunError, UsageError
from bench.core.schema import Model, Name, hash_of

from .sides import ModelFile, Pictures, kind_of

NO_GROUP = "no group"
"""Beside the groups of an evaluation: outputs that belong to none. It has no score; where a label counts it is wrong."""


def _shares(value: Any) -> Any:
    return {value: 1.0} if isinstance(value, str) else value


Shares = Annotated[dict[str, Annotated[float, Field(gt=0, le=1)]], BeforeValidator(_shares), Field(min_length=1)]
"""Variants and the share of the clips that each gets; a name alone gets all."""


class Mixture(Model):
    """A rendered domain, some groups of whose parameters may be another's: ``domain: sim, with: {sensor: cam}, severity: 0.5``.

    ``with`` names what each group becomes: a variant (another domain's, or one such as ``night``), or several with the share of
    the clips that each gets, ``light: {noon: 0.7, night: 0.3}``. ``severity`` says how far these groups go from the domain's own
    (0) to the variant (1); :mod:`bench.data.ministreet.mixture` says how.
    """

    LATER: ClassVar[tuple[str, ...]] = ("groups", "severity")

    domain: str
    groups: dict[str, Shares] = Field(default={}, alias="with")
    severity: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _mixes(self) -> Mixture:
        if not self.groups and self.severity != 1:
            raise ValueError("severity: of what? there are no groups; leave it out, or say e.g. with: {light: night}")
        return self

    @property
    def title(self) -> str:
        """What it is called: ``sim``, or ``sim with light: 70 % noon / 30 % night (severity 0.5)``."""
        if not self.groups:
            return self.domain

        def variants(shares: dict[str, float]) -> str:
            return " / ".join(name if share == 1 else f"{100 * share:.3g} % {name}" for name, share in shares.items())

        groups = ", ".join(f"{group}: {variants(shares)}" for group, shares in self.groups.items())
        return f"{self.domain} with {groups}" + (f" (severity {self.severity:g})" if self.severity < 1 else "")


class Split(Mixture):
    """Clips of one domain: numbers of training and validation clips."""

    train: int = Field(ge=1)
    val: int = Field(ge=1)


class Data(Model):
    """Where clips come from: rendered worlds of one family, frame size in pixels, frames per clip.

    Attributes:
        family: name that every seed depends on.
        worlds: what the worlds' seeds depend on instead, where a method may not know it (``bench verify --worlds``).
    """

    LATER: ClassVar[tuple[str, ...]] = ("worlds",)

    kind: Literal["ministreet"]
    family: str
    worlds: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    height: int = Field(ge=32)
    width: int = Field(ge=32)
    frames: int = Field(ge=2)
    source: Split
    target: Split

    @property
    def scored(self) -> str:
        """What the reported scores are of, for a sentence."""
        return f"{self.target.val} clips of domain `{self.target.title}` per replicate"


class Recorded(Model):
    """One side of a shift of recorded videos: a data set (a file in ``bench/data/datasets``) and the network's input size."""

    dataset: str
    height: int = Field(ge=32)
    width: int = Field(ge=32)

    @property
    def title(self) -> str:
        """What it is called."""
        return self.dataset


_Dataset = Annotated[Recorded, Tag("side-dataset")]
_Pictures = Annotated[Pictures, Tag("side-pictures")]
_Model = Annotated[ModelFile, Tag("side-model")]


class Videos(Model):
    """Clips from files: of data sets under the folder that ``--data-root`` names, or of one's own (:mod:`.sides`)."""

    kind: Literal["video"]
    frames: int = Field(ge=2)
    source: Annotated[_Dataset | _Pictures | _Model, Discriminator(kind_of)]
    target: Annotated[_Dataset | _Pictures, Discriminator(kind_of)]

    @model_validator(mode="after")
    def _can_be_scored(self) -> Videos:
        if isinstance(self.target, Pictures):
            for split in ("val", "transductive"):
                if split in self.target.parts and not self.target.labels_of(split):
                    raise ValueError(
                        f"target.labels: {split} is scored, so it needs labels (bench adapt takes footage without)"
                    )
            if self.target.val is None:
                raise ValueError("target.val: missing; say which pictures are scored, e.g. val: {range: [61, 101]}")
        if isinstance(self.source, Pictures) and not self.source.labels_of("train"):
            raise ValueError(
                "source.labels: a source model is trained on them; or give a trained one: source: {model: FILE}"
            )
        return self

    @property
    def family(self) -> str:
        """Name that seeds depend on."""
        return f"{self.source.title}-{self.target.title}"

    @property
    def scored(self) -> str:
        """What the reported scores are of, for a sentence."""
        return f"the validation split of `{self.target.title}`"


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

    ``height`` and ``width`` of the labels where they are not the frames'; ``own_size`` leaves each label at its own. Classes in
    ``unscored`` are trained and counted in the confusion matrix, and left out of the reported IoU and its mean. ``groups`` are
    scored instead of the network's classes, each made of some of them: labels of the target name groups, predictions are mapped
    before they are counted. ``counts`` says of what pixels are kept: of each target sequence, or of each frame of it.
    """

    LATER: ClassVar[tuple[str, ...]] = ("height", "width", "unscored", "own_size", "groups", "counts")

    align_corners: bool
    readout: Literal["student", "teacher"]
    height: int | None = Field(default=None, ge=32)
    width: int | None = Field(default=None, ge=32)
    unscored: tuple[str, ...] = ()
    own_size: bool = False
    groups: dict[str, tuple[str, ...]] = Field(default={})
    counts: Literal["sequence", "frame"] = "sequence"


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

    name: Name
    title: str
    purpose: Literal["report", "tune", "test", "private"]
    classes: tuple[str, ...] = Field(min_length=2)
    data: Annotated[Data | Videos, Field(discriminator="kind")]
    network: Network
    flow: str
    source_training: SourceTraining | None = None
    adaptation: Adaptation
    evaluation: Evaluation
    settings: Literal["published"] | TunedOn = MINISTREET
    ingredients: Literal["common", "published"] = "common"
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _fits(self) -> Shift:
        rule = self.evaluation
        if missing := set(rule.unscored) - set(self.score_classes):
            raise ValueError(f"evaluation.unscored: '{min(missing)}' is not among the classes")
        if (rule.height is None) != (rule.width is None):
            raise ValueError("evaluation: give both height and width, or neither")
        if rule.own_size and rule.height is not None:
            raise ValueError("evaluation: own_size and height, width exclude each other")
        grouped = [name for names in rule.groups.values() for name in names]
        for group, names in rule.groups.items():
            for name in names:
                if name not in self.classes:
                    raise ValueError(f"evaluation.groups.{group}: '{name}' is not among the classes")
                if grouped.count(name) > 1:
                    raise ValueError(f"evaluation.groups: '{name}' is in two groups")
        if twice := next((name for name in self.classes if self.classes.count(name) > 1), None):
            raise ValueError(f"classes: '{twice}' is there twice")
        return self

    @model_validator(mode="after")
    def _has_a_source(self) -> Shift:
        source = self.data.source
        if isinstance(source, ModelFile) != (self.source_training is None):
            raise ValueError(
                "source_training: a model file is trained already; leave it out"
                if isinstance(source, ModelFile)
                else "source_training: missing; a source model is trained, unless data.source is {model: FILE}"
            )
        if isinstance(source, ModelFile) and self.purpose == "report" and source.sha256 is None:
            raise ValueError(
                "data.source.sha256: missing; a reported shift says which model it starts from (sha256sum FILE)"
            )
        for role in ("source", "target"):
            if isinstance(side := getattr(self.data, role), Pictures):
                try:
                    side.check_names(self.label_classes(role))
                except ValueError as error:
                    raise ValueError(f"data.{role}.{error}") from None
        return self

    @property
    def folder(self) -> Path:
        """Of its YAML: one of the places that paths in it are relative to."""
        return self._folder

    def label_classes(self, role: str) -> tuple[str, ...]:
        """What labels name: of the target the groups, if there are any; the network's classes else."""
        return tuple(self.evaluation.groups) if role == "target" and self.evaluation.groups else self.classes

    @property
    def score_classes(self) -> tuple[str, ...]:
        """What scores are of: the classes, or the groups, and :data:`NO_GROUP` where an output belongs to none."""
        groups = self.evaluation.groups
        left_over = set(self.classes) - {name for names in groups.values() for name in names}
        return (*groups, *((NO_GROUP,) if left_over else ())) if groups else self.classes

    @property
    def unscored(self) -> tuple[str, ...]:
        """Of :attr:`score_classes` those without a score."""
        return (*self.evaluation.unscored, *((NO_GROUP,) if NO_GROUP in self.score_classes else ()))

    @property
    def training(self) -> SourceTraining:
        """Schedule of source models and of the oracle.

        Raises:
            UsageError: the shift starts from a trained model.
        """
        if self.source_training is None:
            raise UsageError(f"Shift '{self.name}' starts from a model file: nothing is trained on source data")
        return self.source_training

    def refuses(self, setting: str, init: str = "source") -> str | None:
        """Why no method of a setting, or no ``--init``, can be run on the shift, in words; None where it can."""
        if isinstance(self.data.source, ModelFile):
            if setting == "UDA" or init == "backbone":
                return "it starts from a model file alone: there is no source data; source-free methods run on it"
            if setting == "oracle":
                return "it starts from a model file alone: no schedule trains an oracle; source-free methods run on it"
        if setting == "oracle" and self.evaluation.groups:
            return "its labels name groups of classes, which a network cannot be trained on"
        if setting == "oracle" and isinstance(self.data.target, Pictures) and not self.data.target.labels_of("train"):
            return "its target has no training labels"
        return None

    @property
    def hash(self) -> str:
        """Hash of the protocol; the title is not part of it."""
        return hash_of(self.model_dump(mode="json", exclude={"title"}))

    def without_worlds(self) -> Shift:
        """The shift without the seeds of hidden worlds, as a method's process gets it."""
        nothing_hidden = isinstance(self.data, Videos) or self.data.worlds is None
        return (
            self if nothing_hidden else self.model_copy(update={"data": self.data.model_copy(update={"worlds": None})})
        )

    def with_frames(self, frames: int) -> Shift:
        """The same with ``frames`` frames per clip, of which the last are those of the shorter clips."""
        return self.model_copy(update={"data": self.data.model_copy(update={"frames": frames})})

    def shortened(self, steps: int) -> Shift:
        """The same with schedules of at most ``steps`` steps, to try a shift out."""

        def cut(schedule: Schedule) -> Schedule:
            return schedule.model_copy(update={"steps": min(steps, schedule.steps), "horizon": None})

        trained = None if self.source_training is None else cut(self.source_training)
        return self.model_copy(update={"source_training": trained, "adaptation": cut(self.adaptation)})


def check_protocol(
    shift: Shift, protocol: str, name: str, remedy: str, error: type[UsageError] | type[RunError] = UsageError
) -> None:
    """Refuse what was made under another protocol than the shift has now.

    Args:
        protocol: hash of the protocol under which it was made.
        name, remedy: start and end of the error: what was made, and what to do.

    Raises:
        UsageError: it was; or ``error``.
    """
    if protocol != shift.hash:
        raise error(f"{name} was made under protocol {protocol}; '{shift.name}' is now {shift.hash}; {remedy}")
