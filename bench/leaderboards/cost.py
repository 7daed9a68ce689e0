"""What methods cost: time and memory of their runs, on a processor wherever there are such runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bench.core.text import plain, table
from bench.runs.records import Record

from .standings import Group
from .statistics import NOTHING


def time_per_frame(record: Record) -> float | None:
    """Seconds that a frame of a stream took: CPU time, which does not depend on what else ran; on another device wall time."""
    cost = record.cost
    return cost.cpu_seconds_per_frame if _on_processor(record) else cost.seconds_per_frame


def of_processors(groups: Sequence[Group]) -> Sequence[Group]:
    """The groups with their runs on a processor alone, where any has such runs: a GPU's take other seconds and other memory."""
    kept = [{seed: record for seed, record in group.records.items() if _on_processor(record)} for group in groups]
    return (
        [replace(group, records=records) for group, records in zip(groups, kept, strict=True)] if any(kept) else groups
    )


def cost_table(groups: Sequence[Group]) -> str:
    """Time, memory and size of what takes steps or measures something; medians over replicates."""
    rows = []
    parameters = [next(iter(group.records.values())).cost.parameters / 1e6 for group in groups]
    groups = of_processors(groups)
    reference = yardstick_of(groups)
    for group, size in zip(groups, parameters, strict=True):
        cpu, wall, memory = group.of(cpu_per_step), group.of(_per_step), group.of(memory_of)
        cells = {
            "method": plain(group.title),
            "setting": group.card.setting,
            "CPU s/step": median(cpu, 3),
            "step, ×": ratio_text(ratio(group, reference, cpu_per_step)),
            "CPU, s": median(group.of(_cpu_seconds), 0),
            "wall s/step": median(wall, 3),
            "wall, s": median(group.of(_seconds), 0),
            "memory, MB": largest(memory),
            "memory, ×": ratio_text(ratio(group, reference, memory_of)),
            "parameters, M": f"{size:.2f}",
        }
        rows.append(cells)
    return table(rows)


def _seconds(record: Record) -> float | None:
    return record.cost.seconds if record.cost.steps else None


def _per_step(record: Record) -> float | None:
    return record.cost.seconds / record.cost.steps if record.cost.steps else None


def _on_processor(record: Record) -> bool:
    return record.hardware.get("device") == "cpu"


def _cpu_seconds(record: Record) -> float | None:
    """Of a GPU's run they say little: most of its work is not the processor's."""
    return record.cost.cpu_seconds if record.cost.steps and _on_processor(record) else None


def cpu_per_step(record: Record) -> float | None:
    """CPU seconds of a step; None on a GPU, and where there are no steps."""
    spent = _cpu_seconds(record)
    return None if spent is None else spent / record.cost.steps


def memory_of(record: Record) -> float:
    """Largest memory of the process, MB."""
    return record.cost.peak_memory_mb


def yardstick_of(groups: Sequence[Group]) -> Group | None:
    """What costs are relative to: self-training."""
    return next((group for group in groups if group.method == "self_training"), None)


def median_cost(group: Group) -> str:
    """Median CPU seconds per step, a dash where there are no steps on a processor."""
    return median(group.of(cpu_per_step), 3)


def largest(values: Mapping[int, float]) -> str:
    """The largest value as it is shown, without decimals."""
    return f"{max(values.values()):.0f}" if values else NOTHING


def median(values: Mapping[int, float], digits: int) -> str:
    """The median as it is shown."""
    return f"{np.median(list(values.values())):.{digits}f}" if values else NOTHING


def ratio(group: Group, reference: Group | None, value: Callable[[Record], float | None]) -> float | None:
    """Median of a value over the reference's, both on the processor that most replicates of both ran on; None where there is none:
    the quotient of two processors says nothing of methods."""
    if reference is None:
        return None
    values, others = _by_processor(group, value), _by_processor(reference, value)
    shared = sorted(values.keys() & others.keys())
    if not shared:
        return None
    processor = max(shared, key=lambda name: min(len(values[name]), len(others[name])))
    return float(np.median(values[processor]) / np.median(others[processor]))


def _by_processor(group: Group, value: Callable[[Record], float | None]) -> dict[str, list[float]]:
    kinds: dict[str, list[float]] = {}
    for seed, x in group.of(value).items():
        hardware = group.records[seed].hardware
        name = " ".join(str(hardware.get(key)) for key in ("cpu", "cpu_model", "threads", "device"))
        kinds.setdefault(name, []).append(x)
    return kinds


def ratio_text(value: float | None) -> str:
    """A ratio as it is shown."""
    return NOTHING if value is None else f"{value:.2f}"
