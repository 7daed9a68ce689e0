"""``bench verify --worlds SALT``: a method on MiniStreet worlds that nobody knew when it was written.

The salt gives the seeds of the worlds, and so another source model; nothing else differs from the reported protocol. What a method
gains over source_only there can therefore be held against what its records claim; its scores themselves cannot, since some worlds
are harder than others. source_only and self_training go through the same worlds.

The process of a method is told the name of the worlds, which says nothing about their seeds, and gets clips as files.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import ConfigDict, Field, model_validator
from scipy import stats

from bench.core.errors import UsageError
from bench.core.files import write_atomically
from bench.core.loading import shift_file
from bench.core.provenance import code, hardware, versions
from bench.core.registry import resolve, shift_names
from bench.core.schema import Hash, Model, Name, canonical, load_yaml, read_json
from bench.core.workspace import Workspace
from bench.runs.config import RunConfig, alterations, load_shift, make_run_config
from bench.runs.finished import matching
from bench.runs.options import parse_range
from bench.runs.records import Percent, Record, read_record
from bench.runs.run import run
from bench.shifts.protocol import Data

from .statistics import LEVEL, Paired, difference, paired_difference

FLOOR, RIVAL = "source_only", "self_training"
FOLDER, SALT = "hidden", 16
"""Where results are kept under the leaderboards; the fewest characters of a salt."""
SCHEMA: Literal[1] = 1
Scores = dict[int, Percent]
"""mIoU in percent by replicate."""
Order = Literal["holds", "unclear", "reversed"]


class Hidden(Model):
    """What a method scored on hidden worlds, and what its records claimed at that time.

    Attributes:
        worlds: their name, which the salt gives; who knows the salt can do it again.
        run: hash of the run's configuration on the reported shift, replicate 0, and what of it is not the leaderboard's.
        scores, claimed: mIoU by method (this one, source_only, self_training) and replicate: on the hidden worlds, in the records.
        access: how the method was kept from what it may not see; ``boxed`` if all its runs were.
    """

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema")
    worlds: Name
    shift: Name
    shift_hash: Hash
    method: Name
    run: Hash
    altered: tuple[str, ...] = ()
    scores: dict[str, Scores]
    claimed: dict[str, Scores]
    access: Literal["boxed", "watched"]
    code: dict[str, str | bool | None]
    versions: dict[str, str]
    hardware: dict[str, str | int]
    date: str

    @model_validator(mode="after")
    def _compares(self) -> Hidden:
        for field, scores in (("scores", self.scores), ("claimed", self.claimed)):
            if scores.keys() != {self.method, FLOOR, RIVAL}:
                raise ValueError(f"{field}: of {', '.join(scores)}; wanted are {self.method}, {FLOOR}, {RIVAL}")
            for name in (FLOOR, RIVAL):
                if not scores[self.method].keys() & scores[name].keys():
                    raise ValueError(f"{field}: {self.method} and {name} share no replicate")
        return self

    def gain(self, over: str = FLOOR) -> Paired:
        """Gain over another method on the hidden worlds, paired by replicate."""
        return _paired(self.scores, self.method, over)

    def claim(self, over: str = FLOOR) -> Paired:
        """Gain over another method in the records, paired by replicate."""
        return _paired(self.claimed, self.method, over)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the claimed gain, as the hidden worlds give it: around their mean, Welch's t with the errors of both
        means. From minus to plus infinity where there is one replicate."""
        gain, claim = self.gain(), self.claim()
        half = _welch_half(_variance(gain), gain.n, _variance(claim), claim.n)
        return gain.difference - half, gain.difference + half

    @property
    def within(self) -> bool:
        """Whether the claimed gain lies in :attr:`interval`."""
        low, high = self.interval
        return low - 1e-9 <= self.claim().difference <= high + 1e-9

    @property
    def order(self) -> Order | None:
        """Whether the method stands on the side of self_training on which its records have it: ``unclear`` where it does not, but
        the 95 % interval of the difference holds 0. None for self_training itself."""
        if self.method == RIVAL:
            return None
        gain, claim = self.gain(RIVAL), self.claim(RIVAL)
        if gain.difference * claim.difference > 0 or gain.difference == claim.difference:
            return "holds"
        return "unclear" if gain.half is None or abs(gain.difference) <= gain.half else "reversed"

    @property
    def passed(self) -> bool:
        """The claim is within the interval, and the order is not reversed."""
        return self.within and self.order != "reversed"

    @property
    def text(self) -> str:
        """For a person; the verdict in the last line."""
        low, high = self.interval
        lines = [f"{self.worlds}, mIoU on replicates {', '.join(map(str, self.scores[self.method]))}:"]
        lines += [
            f"  {name}: {', '.join(f'{value:.2f}' for value in scores.values())}"
            for name, scores in self.scores.items()
        ]
        lines.append(f"gain over {FLOOR}: {difference(self.gain())} here, {difference(self.claim())} in the records")
        lines.append(f"the records' gain is {'' if self.within else 'not '}within {low:+.2f} to {high:+.2f}")
        if self.order is not None:
            gain, claim = difference(self.gain(RIVAL)), difference(self.claim(RIVAL))
            lines.append(f"minus {RIVAL}: {gain} here, {claim} in the records; the order {ORDERS[self.order]}")
        return "\n".join([*lines, "confirmed" if self.passed else "not confirmed"])

    def to_json(self) -> str:
        """As it is kept."""
        return canonical_lines(self.model_dump(mode="json", by_alias=True))


ORDERS: Mapping[Order, str] = {
    "holds": "holds",
    "unclear": "is not clear: the other way round, within the interval",
    "reversed": "is reversed",
}


def canonical_lines(value: Mapping[str, Any]) -> str:
    """JSON with a line for each key."""
    lines = (f" {canonical(key)}: {canonical(member)}" for key, member in sorted(value.items()))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _paired(scores: Mapping[str, Scores], method: str, over: str) -> Paired:
    paired = paired_difference(scores[method], scores[over])
    assert paired is not None  # what has no replicate in common is no result
    return paired


def _variance(paired: Paired) -> float:
    """Variance of the mean difference; 0 for one replicate, which gives no estimate."""
    return 0.0 if paired.half is None else float((paired.half / stats.t.ppf(0.5 + LEVEL / 2, paired.n - 1)) ** 2)


def _welch_half(gain_variance: float, n: int, claim_variance: float, m: int) -> float:
    """Half-width of Welch's 95 % interval of the difference of two means.

    Args:
        gain_variance, n: variance of the mean gain on the hidden worlds, and its number of replicates.
        claim_variance, m: the same of the records, where one replicate counts as a variance of 0.

    Returns:
        Infinity for ``n < 2``.
    """
    if n < 2:
        return math.inf
    if (total := gain_variance + claim_variance) == 0:
        return 0.0
    free = total**2 / (gain_variance**2 / (n - 1) + (claim_variance**2 / (m - 1) if m > 1 else 0.0))
    return float(stats.t.ppf(0.5 + LEVEL / 2, free) * math.sqrt(total))


# Worlds ---------------------------------------------------------------------------------------------------------------


def names_of(salt: str) -> tuple[str, str]:
    """The public name of a salt's worlds, and what their seeds are made of; neither gives the other or the salt.

    Raises:
        UsageError: a salt that could be guessed from the name.
    """
    if len(salt) < SALT:
        raise UsageError(
            f"--worlds: a salt of at least {SALT} characters, which nobody can guess: `openssl rand -hex 16`"
        )
    name, worlds = (hashlib.sha256(f"{purpose} {salt}".encode()).hexdigest() for purpose in ("name", "worlds"))
    return f"hidden-{name[:12]}", worlds


@contextmanager
def hidden_shift(shift: str, salt: str) -> Iterator[str]:
    """Write a copy of a shift with a salt's worlds to a temporary file, and give its path. Its purpose is ``private``: nothing is
    tuned or reported on it.

    Raises:
        UsageError: a shift without rendered worlds, or a salt that is too short.
    """
    reported, (name, worlds) = load_shift(shift), names_of(salt)
    if not isinstance(reported.data, Data):
        raise UsageError(f"Shift '{reported.name}' is recorded video: it has no worlds that could be hidden")
    protocol = load_yaml(shift_file(resolve("shift", shift))[1])
    protocol |= {"name": name, "title": f"{reported.title}, hidden worlds", "purpose": "private"}
    protocol["data"] |= {"family": name, "worlds": worlds}
    with tempfile.TemporaryDirectory(prefix="bench-verify-") as scratch:
        path = Path(scratch) / f"{name}.yaml"
        path.write_text(yaml.safe_dump(protocol), encoding="utf-8")
        yield str(path)


# Runs -----------------------------------------------------------------------------------------------------------------


def verify_on_worlds(config: RunConfig, salt: str, seeds: str, root: Path, workspace: Workspace) -> Hidden:
    """Run a configuration on hidden worlds, beside source_only and self_training, and keep what comes of it.

    What is finished is found again, so a check that was killed goes on; source models are shared by all methods of a salt.

    Args:
        config: of a run on a shift of rendered worlds; its replicate does not count.
        seeds: replicates, ``0:3``.
        root: folder with the records that are claimed. Of a shift without any, the runs at hand are.

    Raises:
        UsageError: no worlds to hide, fewer than two replicates, source_only, or nothing that was claimed.
        RunError: a run failed.
    """
    replicates = parse_range("--seeds", seeds)
    if config.shift not in shift_names():
        raise UsageError(f"Shift '{config.shift}' is not of this repository; --worlds is for what its records claim")
    if len(replicates) < 2:
        raise UsageError(f"--seeds {seeds}: one replicate has no interval; at least two, better three: 0:3")
    if config.method == FLOOR:
        raise UsageError(f"'{FLOOR}' is what the others are held against on hidden worlds; name another method")
    base = config.model_copy(update={"seed": 0})
    configs = {base.method: base, **{name: _beside(base, name) for name in (FLOOR, RIVAL) if name != base.method}}
    claimed = claims(configs, root, workspace.runs)
    scores: dict[str, Scores] = {name: {} for name in configs}
    access: set[str | None] = set()
    with hidden_shift(config.shift, salt) as path:
        shift_fields = {"shift": resolve("shift", path), "shift_hash": load_shift(path).hash}
        for seed in replicates:
            for name, method_config in configs.items():
                record = run(method_config.model_copy(update=shift_fields | {"seed": seed}), workspace)
                scores[name][seed] = record.result.miou
                access.add(record.access)
    hidden = Hidden(
        worlds=shift_fields["shift"],
        shift=base.shift,
        shift_hash=base.shift_hash,
        method=base.method,
        run=base.hash,
        altered=alterations(base),
        scores=scores,
        claimed=claimed,
        access="boxed" if access == {"boxed"} else "watched",
        code={key: value for key, value in code().items() if key in ("revision", "dirty", "version")},
        versions=versions(),
        hardware=hardware(workspace.device, torch.get_num_threads()),
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    )
    file = root / FOLDER / hidden.shift / f"{hidden.method}-{hidden.run}-{hidden.worlds}.json"
    write_atomically(file, hidden.to_json())
    return hidden


def _beside(config: RunConfig, method: str) -> RunConfig:
    """Another method under the options that all methods of a run share."""
    shared = {name: getattr(config, name) for name in ("network", "fusion", "flow", "weights")}
    shared |= {"frames": config.frames} if config.frames else {}
    return make_run_config(method, config.shift, 0, shared, steps=config.steps)


def claims(configs: Mapping[str, RunConfig], root: Path, runs: Path) -> dict[str, Scores]:
    """mIoU by replicate of what is committed of some configurations; of a shift without records, of the finished runs.

    Raises:
        UsageError: of one of them there is nothing, or no replicate is shared.
    """
    shift = next(iter(configs.values())).shift
    files = sorted((root / "records" / shift).glob("*.json")) or sorted(runs.glob("*/record.json"))
    records = [record for path in files if (record := read_record(path)).config.shift == shift]
    scores = {name: _scores(matching(records, config).values()) for name, config in configs.items()}
    for name, by_seed in scores.items():
        if not by_seed:
            raise UsageError(
                f"Nothing is claimed of '{name}' on '{shift}' with these options: no record in {root / 'records'}"
            )
        if not by_seed.keys() & next(iter(scores.values())).keys():
            raise UsageError(f"The records of '{name}' on '{shift}' share no replicate with the method's")
    return scores


def _scores(records: Iterable[Record]) -> Scores:
    return {record.config.seed: record.result.miou for record in records}


def read_hidden(root: Path) -> Sequence[Hidden]:
    """All results that are kept, in order of their files.

    Raises:
        RunError: one is damaged.
    """
    files = sorted((root / FOLDER).glob("*/*.json"))
    return [read_json(path, Hidden, "Result", "verify the method again") for path in files]
