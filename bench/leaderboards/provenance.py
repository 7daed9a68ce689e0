"""The provenance lines of a page: where its numbers come from and under which rules."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.text import plain
from bench.runs.config import Shift
from bench.runs.records import Record
from bench.shifts.sides import ModelFile


def provenance(shift: Shift, records: Sequence[Record], **replacements: str) -> str:
    """Where the numbers come from and under which rules, as a list. ``replacements``: lines that replace those, by key."""
    dates = sorted({record.date for record in records})
    seeds = sorted({record.config.seed for record in records})
    revisions = {f"{r.code.get('revision') or 'unknown'}{' (dirty)' if r.code.get('dirty') else ''}" for r in records}
    packages = sorted({name for record in records for name in record.versions})
    versions = [f"{name} {' / '.join(sorted({r.versions.get(name, 'missing') for r in records}))}" for name in packages]
    unknown = {
        "cpu": "?",
        "cores": "?",
        "threads": "?",
        "device": "?",
        "system": "?",
        "cpu_model": "model not recorded",
    }
    machines = {
        "{cpu} ({cpu_model}), {cores} cores, {threads} threads, device {card}, {system}".format_map(
            {"card": record.hardware.get("gpu", record.hardware.get("device", "?"))} | unknown | record.hardware
        )
        for record in records
    }
    lines = {
        "Runs": f"{len(records)}, of {plain(dates[0] if len(dates) == 1 else f'{dates[0]} to {dates[-1]}')}",
        "Replicates": f"{len(seeds)} (seeds {', '.join(map(str, seeds))}); {_drawn(shift)}",
        "Protocol": f"`{shift.name}`, hash `{shift.hash}`; {shift.adaptation.steps} adaptation steps, "
        f"network {shift.network.name}, fusion {shift.network.fusion}, flow {shift.flow}",
        "Selection": "rule `last`, 0 looks at the reported labels",
        "Readout": f"the {shift.evaluation.readout}'s weights are scored; of a method whose paper scores its own average, that",
        "Code": plain(", ".join(sorted(revisions))),
        "Versions": plain(", ".join(versions)),
        "Hardware": plain("; ".join(sorted(machines))),
    }
    if any(record.access for record in records):
        lines["Access"] = access(records)
    if mixed := processors(records, "frames" if isinstance(shift.data.source, ModelFile) else "worlds"):
        lines["Processors"] = mixed
    lines |= replacements
    return "\n".join(f"- {key}: {text}" for key, text in lines.items())


def access(records: Sequence[Record]) -> str:
    """How the methods of some records were kept from what they may not see."""
    accesses = [record.access for record in records]
    kinds = {
        "boxed": "adapted in a process that could open nothing else",
        "watched": "in one that was watched only",
        None: "are older than the box and were watched",
    }
    return "; ".join(f"{accesses.count(kind)} {text}" for kind, text in kinds.items() if kind in accesses)


def _drawn(shift: Shift) -> str:
    """What a replicate draws."""
    if isinstance(shift.data.source, ModelFile):
        return "each draws its own adaptation seed; worlds there are none, and all start from one model file"
    return "each draws its own worlds, source model and adaptation seed"


def processors(records: Sequence[Record], alike: str = "worlds") -> str:
    """Which processors or GPUs the records come from and what that means, where there are several; empty for one.

    Two that the records cannot tell apart count as one.

    Args:
        alike: what a replicate's records have in common whatever they ran on.
    """
    kinds: dict[tuple[str, ...], set[int]] = {}
    for record in records:
        deciding = ("gpu",) if "gpu" in record.hardware else ("cpu", "cpu_model")
        machine = tuple(str(record.hardware.get(key, "?")) for key in deciding)
        kinds.setdefault(machine, set()).add(record.config.seed)
    if len(kinds) < 2:
        return ""
    seeds = [seed for kind_seeds in kinds.values() for seed in kind_seeds]
    mixed = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    shared = f"{alike} and source model" if all(_one_start(records, seed) for seed in mixed) else alike
    pairs = (
        f"; replicates {', '.join(map(str, mixed))} have records of several, whose pairs share the {shared} alone"
        if mixed
        else ""
    )
    return (
        f"{len(kinds)} kinds; the same configuration scores differently on each, as with another seed (RULES.md, Determinism)"
        f"{pairs}"
    )


def _one_start(records: Sequence[Record], seed: int) -> bool:
    """Whether a replicate's records that name the same source model have the same file of it."""
    files: dict[str, set[str | None]] = {}
    for record in records:
        if record.config.seed == seed and record.source_model:
            files.setdefault(record.source_model, set()).add(record.digests.source_model if record.digests else None)
    return bool(files) and all(len(digests) == 1 and None not in digests for digests in files.values())
