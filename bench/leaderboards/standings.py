"""Standings: which records belong on a leaderboard, and whose they are: grouped by method and configuration, ranked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from bench.core.errors import RunError, UsageError, unknown
from bench.core.registry import method_names
from bench.runs.config import RunConfig, Shift, alterations, load_shift, method_class, resolve_settings
from bench.runs.finished import FOLDERS, folder_of
from bench.runs.records import Record, read_record
from bench.runs.sequences import Counts, Pixels, place, sequences_of
from bench.runs.settings import revision_of
from bench.shifts.protocol import TunedOn, check_protocol
from methods.base import later

from .consistency import check_alone, compare_records, pixel_fault
from .statistics import mean_interval

STREAM = "protocol=stream"
"""What every run of a stream is altered by (:func:`bench.runs.config.alterations`)."""
ORDER = ("oracle", "UDA", "SFDA", "none")
"""Settings from the one that may see most to the one that may see least."""
VARIANTS = {"ministreet2-dev": ("stpl teacher=none",)}
"""Variants that are rows of the results, by where a shift's settings were tuned; fixed before the first record, since a row more
changes every corrected p-value."""


def name_of(method: str, altered: Sequence[str]) -> str:
    """A method or a variant of one in code: ``stpl``, ``stpl teacher=none``."""
    return " ".join((method, *altered))


def title_of(method: str, altered: Sequence[str]) -> str:
    """What people call it, with the options that were changed: ``STPL, teacher=none``."""
    return ", ".join(filter(None, (str(method_class(method).card.title), " ".join(altered))))


@dataclass(frozen=True)
class Group:
    """Records of one method under one configuration, by seed.

    Attributes:
        method: its key.
        altered: ``key=value`` of each option that differs from the leaderboard's configuration; empty for that one.
        records: by seed.
        counts: by seed, pixels per target sequence ``(K, 3)``, of the records that have them.
    """

    method: str
    altered: tuple[str, ...]
    records: Mapping[int, Record]
    counts: Mapping[int, Mapping[str, Counts]] = field(default_factory=dict)

    @property
    def card(self) -> Any:
        """The method's card."""
        return method_class(self.method).card

    @property
    def name(self) -> str:
        """What it is called in code: ``stpl``, ``stpl teacher=none``."""
        return name_of(self.method, self.altered)

    @property
    def title(self) -> str:
        """What people call it, with the options that were changed."""
        return title_of(self.method, self.altered)

    @cached_property
    def is_row(self) -> bool:
        """Whether it is compared as a method of its own: nothing was changed, or it is one of the :data:`VARIANTS`."""
        if not self.altered:
            return True
        settings = load_shift(next(iter(self.records.values())).config.shift).settings
        return isinstance(settings, TunedOn) and self.name in VARIANTS.get(settings.tuned_on, ())

    @property
    def miou(self) -> dict[int, float]:
        """mIoU in percent by seed."""
        return self.of(lambda record: record.result.miou)

    def iou(self, name: str) -> dict[int, float]:
        """IoU of a class in percent by seed, where it occurs."""
        return self.of(lambda record: record.result.iou.get(name))

    @cached_property
    def sequences(self) -> dict[int, Pixels]:
        """Pixels per target sequence by seed, of the classes alone that the record scores."""
        pixels = {}
        classes = load_shift(next(iter(self.records.values())).config.shift).score_classes if self.counts else ()
        for seed, counts in sorted(self.counts.items()):
            kept = [i for i, name in enumerate(classes) if self.records[seed].result.iou.get(name) is not None]
            pixels[seed] = Pixels.of(counts).small().of_classes(kept)
        return pixels

    def of(self, value: Callable[[Record], float | None]) -> dict[int, float]:
        """A value by seed; seeds where it is None are left out."""
        values = {seed: value(self.records[seed]) for seed in sorted(self.records)}
        return {seed: x for seed, x in values.items() if x is not None}


@dataclass(frozen=True)
class Committed:
    """What is committed of a shift: its records in order of their file names, and by run its pixels per target sequence."""

    records: list[Record]
    sequences: Mapping[str, Mapping[str, Counts]]


def read_committed(root: Path, shift_name: str, mode: str = "offline") -> Committed:
    """The committed records of a shift and their sequences, each checked, alone and against the others.

    Raises:
        RunError: a record that does not belong on this leaderboard or cannot be, or sequences that are not those of a record;
            names the file.
    """
    shift, records, sequences = load_shift(shift_name), dict[str, Record](), dict[str, Mapping[str, Counts]]()
    folder = folder_of(root, shift_name, mode)
    files, admitted, class_of = sorted(folder.glob("*.json")), set[str](), cache(method_class)
    for path in files:
        record = read_record(path)
        admit(record, shift, str(path), mode, admitted)
        check_alone(record, shift, str(path), class_of(record.config.method))
        counts = sequences_of(record, path, shift)
        if (fault := pixel_fault(counts, shift)) is not None:
            raise RunError(f"{place(path)}: {fault}; submit the run again")
        records[str(path)], sequences[str(path)] = record, counts.small()
    compare_records(records, sequences, shift)
    sequence_files = {place(path) for path in files}
    for path in sorted((folder / "sequences").glob("*.csv")):
        if path not in sequence_files:
            raise RunError(f"{path} belongs to no record; remove it, or submit its run again")
    return Committed(list(records.values()), {records[name].run: counts for name, counts in sequences.items()})


def admit(record: Record, shift: Shift, name: str, mode: str = "offline", admitted: set[str] | None = None) -> None:
    """Check that a record belongs on a shift's leaderboard.

    Args:
        mode: of the runs on it.
        admitted: what has been found of other replicates: all that this says is then said once.

    Raises:
        RunError: other shift, mode or protocol, a tuning or test shift, a run hash that is not its config's, an unknown
            method, or one whose settings or setting changed since; one line that names the record and what to do.
    """
    config = record.config
    if shift.purpose != "report":
        raise RunError(f"Record {name}: '{shift.name}' is for {shift.purpose}, not for reporting; remove the record")
    if config.shift != shift.name:
        raise RunError(
            f"Record {name} is of shift '{config.shift}', not '{shift.name}'; move it to that shift's folder"
        )
    if config.mode != mode:
        raise RunError(
            f"Record {name} is of a run in mode {config.mode}; move it to {FOLDERS[config.mode]}/{shift.name}"
        )
    if config.steps is not None:
        raise RunError(f"Record {name} is of a run cut short with --steps {config.steps}; run it whole")
    if record.run != (config_hash := config.hash):
        raise RunError(f"Record {name} says run {record.run}, but its config gives {config_hash}: edited; run it again")
    admitted = set() if admitted is None else admitted
    known_by = f"{record.shift_hash} {record.method.get('setting')} {one_of_all_replicates(config)}"
    if known_by in admitted:
        return
    for shift_hash in (record.shift_hash, config.shift_hash):
        check_protocol(shift, shift_hash, f"Record {name}", "remove it or run it again", RunError)
    try:
        if config.method not in method_names():  # of a plugin nothing is executed
            raise unknown("method", config.method, method_names())
        cls, settings = method_class(config.method), resolve_settings(config.method, {}, shift)
        today = revision_of(config.method, config.settings)
    except (UsageError, TypeError, ValueError) as error:  # the latter of settings that the method refuses
        raise RunError(f"Record {name}: {' '.join(str(error).split())}") from None
    if config.revision != today:
        reason = f"was made with revision {config.revision} of '{config.method}', which is now {today}"
        raise RunError(f"Record {name} {reason}; remove it or run it again")
    if changed := (settings.keys() ^ config.settings.keys()) - set(later(cls.Settings)):
        names = ", ".join(sorted(changed))
        raise RunError(f"Record {name}: settings of '{config.method}' changed since ({names}); run it again")
    if (recorded := record.method.get("setting")) != (setting := cls.card.setting):
        raise RunError(f"Record {name} ran as {recorded}, but '{config.method}' is now {setting}; run it again")
    admitted.add(known_by)


def grouped(records: Iterable[Record], sequences: Mapping[str, Mapping[str, Counts]] | None = None) -> list[Group]:
    """Records by method and configuration, sorted by both.

    Args:
        sequences: by run, pixels per target sequence.

    Raises:
        RunError: two records of one run.
    """
    by_configuration: dict[tuple[str, tuple[str, ...]], dict[int, Record]] = {}
    altered: dict[str, tuple[str, ...]] = {}
    for record in records:
        method, seed = record.config.method, record.config.seed
        if (configuration := one_of_all_replicates(record.config)) not in altered:
            altered[configuration] = alterations(record.config)
        seeds = by_configuration.setdefault((method, altered[configuration]), {})
        if seed in seeds:
            raise RunError(f"Run {record.run} ({method}, seed {seed}) is recorded twice; remove one")
        seeds[seed] = record
    return [
        group_of(method, altered, seeds, sequences or {})
        for (method, altered), seeds in sorted(by_configuration.items(), key=lambda item: item[0])
    ]


def one_of_all_replicates(config: RunConfig) -> str:
    """Text that the configurations of all replicates of a run share, and no other has."""
    return config.model_copy(update={"seed": 0}).model_dump_json()


def group_of(
    method: str,
    altered: tuple[str, ...],
    seeds: Mapping[int, Record],
    sequences: Mapping[str, Mapping[str, Counts]],
) -> Group:
    """A group with the sequences of those of its records that have them."""
    counts = {seed: sequences[record.run] for seed, record in seeds.items() if record.run in sequences}
    return Group(method, altered, seeds, counts)


def ranked(groups: Iterable[Group]) -> list[Group]:
    """Groups that are rows of the results, by setting (:data:`ORDER`), the best mean mIoU first."""

    def rank(group: Group) -> tuple[int, float, str]:
        return ORDER.index(group.card.setting), -mean_interval(list(group.miou.values()))[0], group.name

    return sorted((group for group in groups if group.is_row), key=rank)


def oracle_and_source_only(records: Iterable[Record], seed: int) -> tuple[float | None, float | None]:
    """mIoU in percent of source_only and of the oracle (in this order) on a replicate, None where there is no record.

    Only runs of the leaderboard's own configuration count; of several records of one run, the first does. Records are of one mode.
    """
    of_seed = [record for record in records if record.config.seed == seed]

    def first(method: str) -> float | None:
        scores = (
            r.result.miou for r in of_seed if r.config.method == method and set(alterations(r.config)) <= {STREAM}
        )
        return next(scores, None)

    return first("source_only"), first("oracle")
