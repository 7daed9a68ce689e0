"""Hand-made records for the tests of this folder: plain ones with round numbers, and consistent ones with their pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.networks.build import build_segmenter
from bench.runs.config import load_shift, make_run_config, method_class
from bench.runs.metrics import iou_from_counts, mean_iou
from bench.runs.records import Record
from bench.runs.sequences import place, write_sequences

SHIFT = "ministreet"
SCORES = {
    "source_only": (30.0, 32.0, 34.0),
    "adabn": (36.0, 36.0, 36.0),
    "stpl": (40.0, 44.0, 48.0),
    "oracle": (70.0, 72.0, 74.0),
}
CONTROL = (39.0, 41.0)
Pixels = dict[str, npt.NDArray[np.int64]]


def make_record(key: str, seed: int, miou: float, *, shift: str = SHIFT, **changes: Any) -> Record:
    """A record with that mIoU; ``changes``: ``options`` of the run, and fields of the JSON to replace."""
    config = make_run_config(key, shift, seed, changes.pop("options", {}))
    classes = load_shift(shift).classes
    steps = 0 if key in ("source_only", "adabn") else 200
    fields: dict[str, Any] = {
        "schema": 1,
        "run": config.hash,
        "config": config.model_dump(mode="json"),
        "shift_hash": config.shift_hash,
        "source_model": None,
        "method": {"title": key, "design": "-", "setting": method_class(key).card.setting, "floor": False},
        "result": {
            "iou": {name: miou + (5 if name == "road" else 0) for name in classes},
            "miou": miou,
            "pixel_accuracy": 80.0,
            "temporal_consistency": 60.0 + seed,
        },
        "selection": {
            "rule": "last",
            "label_looks": 0,
            "unsupervised": {"step": 100, "miou": miou - 1},
            "oracle": {"step": 150, "miou": miou + 2, "label_looks": 3 if steps else 1},
            "snapshots": [],
        },
        "cost": {
            "steps": steps,
            "seconds": steps / 10 + seed,
            "cpu_seconds": steps / 20 + seed,
            "total_seconds": 99.0,
            "peak_memory_mb": 900.0 + seed,
            "parameters": 600_000,
        },
        "code": {"revision": "abc123abc123", "dirty": False},
        "versions": {"python": "3.12.1", "torch": "2.14.0"},
        "hardware": {"cpu": "A CPU", "cores": 2, "threads": 2, "device": "cpu", "system": "Linux"},
        "date": f"2026-02-0{seed + 1}",
    }
    return Record.model_validate(fields | changes)


def standard() -> list[Record]:
    """Three replicates of four methods, and two of a control."""
    records = [make_record(method, seed, x) for method, values in SCORES.items() for seed, x in enumerate(values)]
    return records + [make_record("stpl", seed, x, options={"fusion": "none"}) for seed, x in enumerate(CONTROL)]


def table(page: str, heading: str) -> list[dict[str, str]]:
    """The table under a heading, one dictionary per row."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def row(rows: list[dict[str, str]], start: str) -> dict[str, str]:
    """The only row whose first cell begins so."""
    (match,) = [r for r in rows if next(iter(r.values())).strip("[").startswith(start)]
    return match


# Records that could have been measured --------------------------------------------------------------------------------


def counts_for(miou: float, seed: int, clips: int = 100) -> Pixels:
    """Pixels per clip of 15 classes, each pooled near ``miou`` percent; the labels depend on the seed alone."""
    truth = np.random.default_rng(seed).integers(200, 400, (clips, 15))
    # IoU h with as many wrong of each class as are missed: tp / (2 truth - tp) = m  ->  tp = 2 m truth / (1 + m)
    hits = np.diff(np.round(2 * miou / (100 + miou) * truth.cumsum(0)), axis=0, prepend=0).astype(np.int64)
    return {f"{i:05d}": np.stack([hits[i], truth[i], truth[i]], 1).astype(np.int64) for i in range(clips)}


def result_of(counts: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, Any]:
    """The scores of these pixels, as a record of MiniStreet's classes has them."""
    total = np.sum(list(counts.values()), axis=0)
    iou = iou_from_counts(total)
    return {
        "iou": dict(zip(load_shift(SHIFT).classes, (100 * iou).tolist(), strict=True)),
        "miou": 100 * mean_iou(iou),
        "pixel_accuracy": 100 * (float(total[:, 0].sum()) / float(total[:, 1].sum())),
        "temporal_consistency": 60.0,
    }


def scored(key: str, seed: int, miou: float, *, shift: str = SHIFT, **changes: Any) -> tuple[Record, Pixels]:
    """A record near that mIoU that could have been measured, and its pixels; ``changes`` as for :func:`make_record`."""
    options, counts, cls = changes.pop("options", {}), counts_for(miou, seed), method_class(key)
    result = result_of(counts)
    steps = {"oracle": [800], "source_only": [0], "adabn": [0]}.get(key, [50, 100, 150])
    snapshots = [
        {"step": float(s), "target_score": 1 + s / 1000, "miou": result["miou"] - (steps[-1] - s) / 100} for s in steps
    ]
    last = {name: snapshots[-1][name] for name in ("step", "miou")}
    config = make_run_config(key, shift, seed, options)
    fusion, cost = config.fusion, make_record(key, seed, miou).cost.model_dump()
    network = build_segmenter(config.network, fusion, 15, load_shift(shift).data.frames)
    consistent = {
        "source_model": None if key == "oracle" else f"{seed:04x}{sum(map(ord, fusion)):08x}",
        "method": {name: getattr(cls.card, name) for name in ("title", "design", "setting", "floor")},
        "result": result,
        "selection": {"unsupervised": last, "oracle": last | {"label_looks": len(snapshots)}, "snapshots": snapshots},
        "cost": cost
        | {"steps": steps[-1], "parameters": sum(p.numel() for p in network.parameters())}
        | ({} if steps[-1] else {"seconds": 0.0, "cpu_seconds": 0.0}),
    }
    return make_record(key, seed, miou, shift=shift, options=options, **(consistent | changes)), counts


def commit(root: Path, pairs: Iterable[tuple[Record, Pixels]]) -> list[Path]:
    """Write records and their pixels where ``bench submit`` puts them."""
    paths = []
    for record, counts in pairs:
        name = f"{record.config.method}-s{record.config.seed}-{record.run}.json"
        paths.append(root / "records" / record.config.shift / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_text(record.to_json(), encoding="utf-8")
        write_sequences(place(paths[-1]), counts, load_shift(SHIFT).classes)
    return paths


def committed_standard() -> list[tuple[Record, Pixels]]:
    """:func:`standard`, as it could have been measured."""
    pairs = [scored(method, seed, x) for method, values in SCORES.items() for seed, x in enumerate(values)]
    return pairs + [scored("stpl", seed, x, options={"fusion": "none"}) for seed, x in enumerate(CONTROL)]
