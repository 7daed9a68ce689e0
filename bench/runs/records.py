"""Records: the result of one run, and everything needed to doubt it. One JSON each; leaderboards are made from them alone."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from bench.core.files import write_atomically
from bench.core.registry import file_of, recall
from bench.core.schema import OTHER_VERSION, Hash, read_json
from bench.core.sealed import load_json

from .config import Model, RunConfig
from .video_consistency import SHOWN

SCHEMA = 1
Percent = Annotated[float, Field(ge=0, le=100)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TOLERANCE = 0.02
"""Points by which a score of the same weights, or of a run repeated in its environment, may differ: another number of threads
changes a few pixels."""
PLACES = "plugins.json"


class Result(Model):
    """Scores in percent. A class without a labelled pixel has IoU null and is left out of the mean; temporal consistency is null
    where no pixel has a valid predecessor; video consistency over 8 and 16 frames where that many scored frames follow each other,
    and in no record that is older than it."""

    LATER: ClassVar[tuple[str, ...]] = tuple(SHOWN)

    iou: dict[str, Percent | None]
    miou: Percent
    pixel_accuracy: Percent
    temporal_consistency: Percent | None
    mvc8: Percent | None = None
    mvc16: Percent | None = None

    @property
    def video(self) -> dict[str, float]:
        """Those of mVC8 and mVC16 that are known."""
        return {name: value for name in SHOWN if (value := getattr(self, name)) is not None}


class Selection(Model):
    """Which weights were scored. ``last`` is the headline; the others stand beside it and are never mixed with it.

    Attributes:
        rule: always ``last``.
        label_looks: how often the labels that are reported were looked at to choose the headline: 0.
        unsupervised: step and mIoU of the snapshot with the best target-only score (no labels).
        oracle: step and mIoU of the best snapshot on the reported labels, and the number of looks it took.
        snapshots: step, target-only score and mIoU of each kept snapshot.
    """

    rule: Literal["last"] = "last"
    label_looks: Literal[0] = 0
    unsupervised: dict[str, float]
    oracle: dict[str, float]
    snapshots: list[dict[str, float]]


class Cost(Model):
    """What the adaptation took: wall and CPU seconds of the training loop (without evaluation), of the whole command,
    peak resident memory of the process in MB, parameters of the segmenter.

    In a stream the loop reads, predicts and adapts to each of ``frames`` clips, of which each brings one frame; both kinds of
    seconds are also given per frame.
    """

    LATER: ClassVar[tuple[str, ...]] = ("frames", "seconds_per_frame", "cpu_seconds_per_frame")

    steps: int = Field(ge=0)
    seconds: float = Field(ge=0)
    cpu_seconds: float = Field(ge=0)
    total_seconds: float = Field(gt=0)
    peak_memory_mb: float = Field(gt=0)
    parameters: int = Field(gt=0)
    frames: int | None = Field(default=None, ge=1)
    seconds_per_frame: float | None = Field(default=None, ge=0)
    cpu_seconds_per_frame: float | None = Field(default=None, ge=0)


class Digests(Model):
    """SHA-256 of the run's checkpoint and, where it started from one, of its source model; of a stream also of its predictions."""

    LATER: ClassVar[tuple[str, ...]] = ("predictions",)

    checkpoint: Sha256
    source_model: Sha256 | None = None
    predictions: Sha256 | None = None


class Record(Model):
    """One finished run.

    Attributes:
        result: scores of the headline weights.
        beside: scores of other weights of the last step: ``student`` for a method that evaluates its own average; or of the same
            on other clips: ``transductive``, which may hold what was adapted to.
        skipped: clips that could not be read and were replaced (``--skip-bad``), and why.
        flow: what the flow depends on besides the clips (``raft_large-<weights>-12it``), where it does.
        ingredients: what the method had beyond its own loss: fusion over time, flow, averages of weights, its start.
        digests: of the files that the run started from and ended with.
        environments: where the ``adaptation`` ran, and where the ``source model`` was trained: processor, threads, device,
            versions, in order; several where one was interrupted and resumed elsewhere.
        data: of pictures of one's own what each split is known by, and of a source that is a model file the SHA-256 of its weights.
        protocol: ``stream`` where scores are of what was predicted online, clip by clip, and not of the last weights.
        source_from: ``released`` where the source model is one that everybody may start from (``bench.runs.released``), ``trained``
            where it was trained where the run was; None in older records, without a source model, or with a given one.
        access: how the method was kept from what it may not see: ``boxed`` in a process that could not open it, or ``watched`` in
            one that was refused it; None in records that are older than the box.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    LATER: ClassVar[tuple[str, ...]] = (
        "skipped",
        "flow",
        "ingredients",
        "digests",
        "data",
        "environments",
        "access",
        "protocol",
        "source_from",
    )

    schema_version: int = Field(alias="schema", default=SCHEMA)
    run: Hash
    config: RunConfig
    shift_hash: str
    source_model: str | None
    method: dict[str, Any]
    result: Result
    beside: dict[str, Result] = Field(default_factory=dict)
    selection: Selection
    cost: Cost
    code: dict[str, Any]
    versions: dict[str, str]
    hardware: dict[str, Any]
    date: str
    skipped: dict[str, str] | None = None
    flow: str | None = None
    ingredients: dict[str, str] | None = None
    digests: Digests | None = None
    data: dict[str, str] | None = None
    environments: dict[str, tuple[dict[str, str], ...]] | None = None
    access: Literal["boxed", "watched"] | None = None
    protocol: Literal["offline", "stream"] = "offline"
    source_from: Literal["released", "trained"] | None = None

    @field_validator("schema_version")
    @classmethod
    def _known(cls, value: int) -> int:
        if value != SCHEMA:
            versions = {"made": value, "read": SCHEMA}
            says = "is of schema {made}; this version of bench reads schema {read}: use the version that made it"
            raise PydanticCustomError(OTHER_VERSION, says, versions)
        return value

    def to_json(self) -> str:
        """The record as committed: sorted keys, one value per line, final newline."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True, allow_nan=False) + "\n"


def gap(recorded: float | None, repeated: float | None) -> float:
    """Absolute difference of two scores in points; 0 where both are undefined, infinite where one is."""
    if recorded is None or repeated is None:
        return 0.0 if recorded == repeated else math.inf
    return abs(repeated - recorded)


def read_record(path: Path) -> Record:
    """Read and validate a record.

    Raises:
        RunError: missing, truncated, or not a record (with the field's path).
    """
    record = read_json(path, Record, "Record", "delete it and run again")
    if path.name == "record.json":
        _recall_places(path.with_name(PLACES))
    return record


def keep_places(folder: Path, config: RunConfig) -> None:
    """Note in a run's folder where the files of one's own lie that it uses. They are no part of its config or record."""
    keys = (*config.plugins, f"shift/{config.shift}")
    if places := {key: path for key in keys if (path := file_of(*key.split("/", 1)))}:
        write_atomically(folder / PLACES, json.dumps(places, indent=1, sort_keys=True) + "\n")


def _recall_places(file: Path) -> None:
    """So that commands on a run find its files without being told again."""
    with contextlib.suppress(OSError, ValueError):
        places = load_json(file.read_text(encoding="utf-8"))
        if isinstance(places, dict):
            recall({str(key): str(path) for key, path in places.items()})


def read_records(folder: Path) -> list[Record]:
    """All records under a folder, in order of their file names."""
    return [read_record(path) for path in sorted(folder.rglob("*.json"))]
