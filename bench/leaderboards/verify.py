"""``bench verify``: run a record's config again, in a fresh folder, and say how the scores differ.

In the environment of the record (processor, threads, device, versions) a run is repeatable to the last bit, so there a score
may differ by ``records.TOLERANCE`` at most. On another processor the order of sums differs. Where both runs start from the same
source model, as from a released one, the mIoU may then differ by :data:`ELSEWHERE`, which was measured. Over 800 steps of source
training it grows into another model, and one run has no interval that would say how far it may go: that is reported, not judged.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from bench.core.errors import RunError
from bench.core.progress import Progress, quiet
from bench.core.workspace import Workspace, default_cache, default_data_root, default_released, pick_device
from bench.runs.config import load_shift
from bench.runs.records import TOLERANCE, Record, gap, read_record
from bench.runs.released import read_manifest
from bench.runs.run import run
from bench.runs.video_consistency import SHOWN

from .consistency import check_config
from .submit import threads_of

ENVIRONMENT = ("cpu", "cpu_model", "threads", "device", "system")
"""What of a record's hardware decides in which order is summed; of a GPU, which one it is, too."""
ELSEWHERE = 0.9
"""Points of mIoU by which two runs from the same source model may differ where processor, threads or device do: the double of the
largest difference that was measured, rounded up (``leaderboards/calibration/processors.csv``, RULES)."""

Verdict = Literal["identical", "within tolerance", "different"]


@dataclass(frozen=True)
class Report:
    """A record against its second run.

    Attributes:
        scores: by name, what the record says and what the second run scored, in percent (None where undefined).
        environment: by name, the record's and this environment's value, where they differ or the record has none.
        revisions: code of the record's run and of the second one; for the reader, it excuses no difference.
        full: whether nothing was taken from the cache.
        alike: whether both start from the same source model, with the same versions of the libraries.
        source: what to know of the released source model that the second run started from, in words; empty without one.
    """

    run: str
    scores: Mapping[str, tuple[float | None, float | None]]
    environment: Mapping[str, tuple[str, str]]
    revisions: tuple[str, str]
    full: bool
    alike: bool = False
    source: str = ""

    @property
    def verdict(self) -> Verdict:
        """``identical`` to the last bit, ``within tolerance``, or ``different``."""
        if all(recorded == scored for recorded, scored in self.scores.values()):
            return "identical"
        near = all(gap(recorded, scored) <= TOLERANCE for recorded, scored in self.scores.values())
        return "within tolerance" if near else "different"

    @property
    def same_environment(self) -> bool:
        """Whether the record's environment is this one; what the record does not say is not the same."""
        return not self.environment

    @property
    def bound(self) -> float | None:
        """By how many points the mIoU may differ; None where that cannot be said."""
        if self.same_environment:
            return TOLERANCE
        return ELSEWHERE if self.alike else None

    @property
    def beyond(self) -> bool:
        """The mIoU differs by more than another processor explains."""
        return self.bound is not None and gap(*self.scores["mIoU"]) > self.bound

    def failed(self, strict: bool = False) -> bool:
        """Different in the same environment, or by more than another processor explains; with ``strict`` different anywhere."""
        return self.verdict == "different" and (strict or self.same_environment or self.beyond)

    def as_json(self) -> dict[str, Any]:
        """The report as ``--json`` prints it."""
        scores = {
            name: {
                "record": recorded,
                "again": scored,
                "difference": None if recorded is None or scored is None else scored - recorded,
            }
            for name, (recorded, scored) in self.scores.items()
        }
        environment = {
            name: {"record": recorded, "here": current} for name, (recorded, current) in self.environment.items()
        }
        fields = dataclasses.asdict(self) | {"scores": scores, "environment": environment}
        fields["revisions"] = {"record": self.revisions[0], "here": self.revisions[1]}
        return fields | {"verdict": self.verdict, "same_environment": self.same_environment, "bound": self.bound}


def verify_record(
    path: Path,
    cache: Path | None = None,
    device: str = "auto",
    threads: int = 0,
    full: bool = False,
    progress: Progress = quiet,
    data_root: Path | None = None,
) -> Report:
    """Run a record's config again in a temporary folder.

    Args:
        path: a record, or the folder of a run.
        cache: of clips and source models, shared with other runs; not read with ``full``.
        threads: of torch; 0: as many as the record's run had.
        full: render the clips and train the source model anew as well, although it may have been released.
        data_root: folder with recorded data; ``$BENCH_DATA`` by default.

    Raises:
        UsageError: the shift's protocol is no longer the record's.
        RunError: not a record, one whose run is not that of its config, or the second run failed.
    """
    record = read_record(path / "record.json" if path.is_dir() else path)
    if record.run != record.config.hash:
        raise RunError(f"Record {path} says run {record.run}, but its config gives {record.config.hash}: edited")
    check_config(record.config, str(path), outside=True)  # names become paths in a run
    with tempfile.TemporaryDirectory(prefix="bench-verify-") as scratch, threads_of(record):
        if threads:
            torch.set_num_threads(threads)
        fresh = Path(scratch)
        folders = fresh / "runs", fresh / "cache" if full else cache or default_cache()
        root = data_root or default_data_root()
        released = None if full else _released_for(record)
        at = Workspace(*folders, pick_device(device), progress, data_root=root, released=released)
        again = run(record.config, at)
    return compare(record, again, full)


def _released_for(record: Record) -> Path | None:
    """The folder of released source models where the record started from one of them, whether it was released then or later."""
    folder = default_released()
    model = read_manifest(folder).models.get(str(record.source_model))
    same = model is not None and record.digests is not None and record.digests.source_model == model.sha256
    return folder if same or record.source_from == "released" else None


def compare(record: Record, again: Record, full: bool = False) -> Report:
    """Scores, environment and revisions of two records of one config."""
    first, second = _scores(record), _scores(again)
    for name in set(SHOWN.values()) - first.keys():  # a record from before there were any
        second.pop(name, None)
    names = [*first, *(name for name in second if name not in first)]
    deciding = [*ENVIRONMENT, *({"gpu"} & (record.hardware | again.hardware).keys())]
    hardware = {name: (_fact(record.hardware, name), _fact(again.hardware, name)) for name in deciding}
    packages = sorted(record.versions.keys() | again.versions.keys())
    versions = {name: (_fact(record.versions, name), _fact(again.versions, name)) for name in packages}
    differs = {
        name: values for name, values in {**hardware, **versions}.items() if values[0] != values[1] or UNKNOWN in values
    }
    differs |= dict(_elsewhere(record, again))
    return Report(
        run=record.run,
        scores={name: (first.get(name), second.get(name)) for name in names},
        environment=differs,
        revisions=(_revision(record), _revision(again)),
        full=full,
        alike=_started_alike(record, again) and not differs.keys() & set(packages),
        source=_start(record, again),
    )


def _started_alike(record: Record, again: Record) -> bool:
    """Whether both runs adapted the same weights, by their digests."""
    first, second = (r.digests.source_model if r.digests else None for r in (record, again))
    return first is not None and first == second


def _start(record: Record, again: Record) -> str:
    """What the reader should know of a released source model that the second run started from; empty where it started from none."""
    if again.source_from != "released" or again.digests is None or record.digests is None:
        return ""
    if record.digests.source_model != again.digests.source_model:
        return f"the second run starts from the released one, {again.source_model}; the record started from another"
    trained = " then ".join(
        dict.fromkeys(
            _fact(environment, "cpu_model") for environment in (again.environments or {}).get("source model", ())
        )
    )
    processor = again.hardware.get("cpu_model")
    trained_on = (
        "this processor" if trained == processor else f"another processor ({trained or UNKNOWN}; here is {processor})"
    )
    return f"both start from the released one, {again.source_model}, trained on {trained_on}: the adaptation alone ran again"


def _elsewhere(record: Record, again: Record) -> Iterator[tuple[str, tuple[str, str]]]:
    """What decides the order of sums and differs between the two in parts that other processes did: the source model's training,
    and steps before an interruption. A record of before these were kept says nothing of them, and is compared without."""
    if "released" in (record.source_from, again.source_from) and record.digests and again.digests:
        source_models = tuple(str(digests.source_model) for digests in (record.digests, again.digests))
        if source_models[0] != source_models[1]:
            yield "SHA-256 of the source model", (source_models[0][:12], source_models[1][:12])
    for part, first in (record.environments or {}).items():
        second = (again.environments or {}).get(part, ())
        for name in sorted({key for environment in (*first, *second) for key in environment}):
            recorded, current = (
                " then ".join(dict.fromkeys(_fact(environment, name) for environment in side))
                for side in (first, second)
            )
            if recorded != current:
                yield f"{name} of the {part}", (recorded, current or UNKNOWN)


UNKNOWN = "unknown"


def _fact(facts: Mapping[str, Any], name: str) -> str:
    return str(facts.get(name, UNKNOWN))


def _revision(record: Record) -> str:
    return f"{record.code.get('revision') or UNKNOWN}{' (dirty)' if record.code.get('dirty') else ''}"


def _scores(record: Record) -> dict[str, float | None]:
    """Every score of a record by name, percent: the headline, each class, other weights, snapshots."""
    result = record.result
    scores: dict[str, float | None] = {
        "mIoU": result.miou,
        "pixel accuracy": result.pixel_accuracy,
        "temporal consistency": result.temporal_consistency,
    }
    scores |= {SHOWN[name]: value for name, value in result.video.items()}
    scores |= {f"IoU {name}": result.iou.get(name) for name in load_shift(record.config.shift).score_classes}
    scores |= {f"mIoU of the {name}": beside.miou for name, beside in sorted(record.beside.items())}
    snapshots = record.selection.snapshots[:-1]  # the last one is the headline
    return scores | {f"mIoU at step {int(snapshot['step'])}": snapshot["miou"] for snapshot in snapshots}


def report_text(report: Report) -> str:
    """The report for a person: differing scores, environment, verdict in the last line."""
    lines = [f"{'score':24}{'record':>12}{'again':>12}{'difference':>12}"]
    always = ("mIoU", "pixel accuracy", "temporal consistency")
    for name, (recorded, scored) in report.scores.items():
        if name in always or recorded != scored:
            gap = "-" if recorded is None or scored is None else f"{scored - recorded:+.4f}"
            lines.append(f"{name:24}{_number(recorded):>12}{_number(scored):>12}{gap:>12}")
    lines += [
        f"environment: {name} was {recorded}, is {current}" for name, (recorded, current) in report.environment.items()
    ]
    if report.source:
        lines.append(f"source model: {report.source}")
    if report.revisions[0] != report.revisions[1]:
        lines.append(f"code: revision was {report.revisions[0]}, is {report.revisions[1]}")
    environment = (
        "in the record's environment" if report.same_environment else "in another environment, or one not recorded"
    )
    judged = {
        "identical": "every score to the last bit",
        "within tolerance": f"no score differs by more than {TOLERANCE} points",
        "different": _judged(report),
    }[report.verdict]
    return "\n".join([*lines, f"{report.verdict} ({environment}): {judged}"])


def _judged(report: Report) -> str:
    """The verdict's words for scores that differ."""
    if report.same_environment:
        return "not repeatable"
    if report.bound is None:
        return "reported, not judged: sums run in another order there"
    return (
        f"both start from the same source model, and the mIoU differs by "
        f"{'more than' if report.beyond else 'no more than'} the {report.bound} points that another processor explains"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
