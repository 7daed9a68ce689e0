"""Intervals over blocks of a drive, by hand and by slow loops; the page of a shift that is scored by frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.leaderboards import ranking
from bench.leaderboards.consistency import _faults
from bench.leaderboards.drive import block_weights, likeness, over_blocks, paired_blocks
from bench.leaderboards.page import _beside, build
from bench.leaderboards.standings import group_of
from bench.leaderboards.tables import families_of
from bench.runs.config import load_shift, make_run_config, method_class
from bench.runs.records import Record

SHIFT = "cityscapes2camvid"
Drive = dict[str, npt.NDArray[np.int64]]


def drive(right: list[int]) -> Drive:
    """Frames of two classes with 100 pixels each, of which ``right`` are right; the others are the other class's."""
    return {f"f{i:03d}": np.array([[n, 100, 100], [n, 100, 100]]) for i, n in enumerate(right)}


def test_a_draw_is_whole_blocks_cut_to_the_drives_length() -> None:
    """7 frames in blocks of 3: three blocks, of which the last is cut to one frame; after the last frame comes the first."""
    weights = block_weights(7, 3, 500)
    assert (weights.sum(1) == 7).all()
    starts = np.random.RandomState(0).randint(7, size=(500, 3))
    for draw in (0, 1, 499):
        slow = np.zeros(7)
        frames = [(start + k) % 7 for start in starts[draw] for k in range(3)][:7]
        for frame in frames:
            slow[frame] += 1
        assert (weights[draw] == slow).all()


def test_a_drive_of_one_block_has_no_interval() -> None:
    """One block alone would leave nothing to chance, and its interval no width."""
    short, longer = {0: drive([40, 60, 50])}, {0: drive([40, 60, 50, 50])}
    assert over_blocks(short, block=2) is None and paired_blocks(short, short, block=2) is None
    interval = over_blocks(longer, block=2)
    assert interval is not None and interval[0] < interval[1] and paired_blocks(longer, longer, block=2) is not None
    assert over_blocks({}) is None


def test_every_frame_is_drawn_as_often_as_another() -> None:
    """At the ends of a drive too: else the interval would lie beside the score."""
    mean = block_weights(40, 8, 10_000).mean(0)
    assert mean.min() > 0.97 and mean.max() < 1.03


@pytest.mark.parametrize(("alike", "held"), [(0.0, 0.87), (0.5, 0.82), (0.8, 0.70)])
def test_few_blocks_give_intervals_that_are_too_narrow(alike: float, held: float) -> None:
    """How often the 95 % interval of the mean of 40 frames holds the truth, which is 0; neighbours correlate by ``alike``."""
    noise = np.random.RandomState(1).standard_normal((1000, 240))
    series = np.zeros_like(noise)
    for frame in range(1, 240):
        series[:, frame] = alike * series[:, frame - 1] + noise[:, frame]
    means = series[:, -40:] @ block_weights(40, 8, 1000).T / 40
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert float(((low <= 0) & (high >= 0)).mean()) == pytest.approx(held, abs=0.05)


def test_methods_of_a_drive_are_told_apart_if_replicates_and_blocks_tell_them_apart() -> None:
    """Every replicate finds stpl two points better, on half of the drive much better, on the other half worse: chance in adaptation
    is nothing, the part of the drive is all. adabn is better everywhere."""
    groups = []
    for method, right in (("ur", [50] * 40), ("stpl", [64] * 20 + [42] * 20), ("adabn", [60] * 40)):
        records, counts = {}, {}
        for seed in (0, 1, 2):
            record, _ = drive_record(method, seed, 50)
            pixels = {f"f{i:03d}": np.array([[n + seed, 100, 100]] * 11) for i, n in enumerate(right)}
            counts[record.run] = pixels
            total = np.sum(list(pixels.values()), axis=0)[0]
            iou = float(100 * total[0] / (total[1] + total[2] - total[0]))
            result = record.result.model_copy(update={"miou": iou + 0.01 * seed})
            records[seed] = record.model_copy(update={"result": result})
        groups.append(group_of(method, (), records, counts))
    family = families_of(groups)["SFDA"]
    seeds_alone = ranking.family({group.name: group.miou for group in groups})
    assert seeds_alone.told_apart("stpl", "ur") and not family.told_apart("stpl", "ur")
    assert family.told_apart("adabn", "ur") and (family.corrected["stpl", "ur"] or 0) > 0.05
    assert families_of([replace(group, counts={}) for group in groups]) == {}  # without pixels there is no second test


def test_blocks_are_wider_than_single_frames_where_neighbours_are_alike() -> None:
    slow = drive([30] * 20 + [90] * 20)
    single, blocks = over_blocks({0: slow}, block=1), over_blocks({0: slow}, block=8)
    assert single is not None and blocks is not None
    assert blocks[1] - blocks[0] > 2 * (single[1] - single[0])
    alike = likeness(slow)
    assert alike is not None and alike > 0.9
    assert likeness(drive([50] * 5)) is None


def test_pairs_get_the_same_blocks() -> None:
    """One point better on every frame is better on every draw; the two differ by the IoU of 60 and of 50 right of 100."""
    a, b = {s: drive([60] * 16) for s in (0, 1)}, {s: drive([50] * 16) for s in (0, 1, 2)}
    paired = paired_blocks(a, b)
    assert paired is not None and paired.replicates == 2 and paired.sequences == 32
    expected = 100 * (60 / 140 - 50 / 150)
    assert (paired.difference, paired.low, paired.high) == pytest.approx((expected,) * 3)
    assert paired.p == pytest.approx(2 / 10_001)
    assert paired_blocks(a, {}) is None and paired_blocks(a, {0: drive([1])}) is None


# The page -------------------------------------------------------------------------------------------------------------


def drive_record(method: str, seed: int, right: int, **changes: Any) -> tuple[Record, Drive]:
    """A record of the shift whose eleven classes have ``right`` of 100 pixels right in each of 40 frames."""
    shift = load_shift(SHIFT)
    config = make_run_config(method, SHIFT, seed)
    counts = {f"0016E5_{7959 + 2 * (61 + i):05d}": np.array([[right, 100, 100]] * 11 + [[0, 0, 0]]) for i in range(40)}
    counts = {name: frame_counts[: len(shift.score_classes)] for name, frame_counts in counts.items()}
    iou = 100 * right / (200 - right)
    result = {
        "iou": {name: None if name in shift.unscored else iou for name in shift.score_classes},
        "miou": iou,
        "pixel_accuracy": float(right),
        "temporal_consistency": 70.0,
    }
    steps = 0 if method in ("source_only", "adabn") else 150
    fields: dict[str, Any] = {
        "schema": 1,
        "run": config.hash,
        "config": config.model_dump(mode="json"),
        "shift_hash": config.shift_hash,
        "source_model": "ab" * 6,
        "method": {"title": method, "design": "-", "setting": "none" if method == "source_only" else "SFDA", "floor": False},
        "result": result,
        "beside": {"transductive": {**result, "miou": iou + 3}},
        "selection": {
            "unsupervised": {"step": steps, "miou": iou},
            "oracle": {"step": steps, "miou": iou, "label_looks": 1},
            "snapshots": [],
        },
        "cost": {"steps": steps, "seconds": 1.0, "cpu_seconds": 1.0, "total_seconds": 2.0, "peak_memory_mb": 9.0, "parameters": 1},
        "code": {"revision": "abc123abc123", "dirty": False},
        "versions": {"python": "3.12.1"},
        "hardware": {"cpu": "A CPU", "cores": 2, "threads": 2, "device": "cpu", "system": "Linux"},
        "date": "2026-02-01",
    }  # fmt: skip
    return Record.model_validate(fields | changes), counts


@pytest.fixture(scope="module")
def page() -> str:
    pairs = [drive_record(m, s, r + s) for m, r in (("source_only", 50), ("adabn", 60), ("stpl", 66)) for s in (0, 1)]
    sequences = {record.run: counts for record, counts in pairs}
    rendered = [group_of(record.config.method, (), {0: record}, {}) for record, _ in pairs[::2]]
    return build(SHIFT, [record for record, _ in pairs], sequences, other_shifts={"ministreet": rendered})


def test_the_page_says_what_it_is_of(page: str) -> None:
    assert "**Source-free rows only**" in page and "11 classes" in page
    assert "single frames are not independent" in page and "carried along the flow that the model was given" in page
    assert "worlds there are none" in page and "exact flow" not in page


def test_the_drive_has_both_intervals_and_all_frames(page: str) -> None:
    """Every frame is alike, so blocks leave nothing to chance: stpl has 66 and 67 of 100, IoU 49.25 and 50.38, mean 49.8;
    source-only 33.33 and 34.23, mean 33.8."""
    section = page.split("## Over the drive")[1].split("\n## ")[0]
    (stpl,) = [line for line in section.splitlines() if line.startswith("| STPL")]
    cells = [cell.strip() for cell in stpl.strip("|").split("|")]
    assert cells[3] == "49.8 to 49.8" and cells[4] == "+16.0" and cells[6].startswith("52.8")


def test_video_consistency_stands_where_a_record_has_it(page: str) -> None:
    assert "mVC8" not in page
    newer = [drive_record("source_only", 0, 50), drive_record("stpl", 0, 66)]
    newer[1] = drive_record(
        "stpl", 0, 66, result={**newer[1][0].model_dump(mode="json")["result"], "mvc8": 81.26, "mvc16": 73.0}
    )
    text = build(SHIFT, [record for record, _ in newer], {record.run: counts for record, counts in newer})
    section = text.split("## Over the drive")[1].split("\n## ")[0]
    assert "| mVC16, % |" in " ".join(section.split()) and "the share whose prediction does" in section
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[-3:-1]]
        for line in section.splitlines()[4:]
    }
    assert rows["STPL"] == ["81.3", "73.0"] and rows["Source only"] == ["–", "–"]


def test_the_order_stands_beside_that_of_the_rendered_world(page: str) -> None:
    section = page.split("## The same order elsewhere?")[1].split("\n## ")[0]
    assert "| `ministreet`" in section and "+1.00" in section


def test_orders_are_compared_both_ways() -> None:
    committed = ["cityscapes2camvid", "ministreet", "ministreet2", "viper2cityscapes"]
    assert _beside(SHIFT, committed) == ["ministreet", "ministreet2"] and _beside(SHIFT, committed[:2]) == [
        "ministreet"
    ]
    assert _beside("ministreet2", committed) == ["cityscapes2camvid"] and not _beside("viper2cityscapes", committed)


def test_a_record_without_the_score_on_all_frames_is_refused() -> None:
    shift, cls = load_shift(SHIFT), method_class("stpl")
    good, _ = drive_record("stpl", 0, 60)
    assert not [fault for fault in _faults(good, shift, cls) if "split" in fault]
    bare, _ = drive_record("stpl", 0, 60, beside={})
    assert next(iter(_faults(bare, shift, cls))) == f"has no score of the transductive split, unlike shift '{SHIFT}'"
    with_student, _ = drive_record(
        "stpl", 0, 60, beside={**good.model_dump()["beside"], "student": good.model_dump()["result"]}
    )
    assert (
        next(iter(_faults(with_student, shift, cls))) == "scores of other weights (student), which 'stpl' does not keep"
    )
    rendered = load_shift("ministreet")
    assert "has a score of a transductive split, unlike shift 'ministreet'" in _faults(good, rendered, cls)


def test_a_record_that_names_other_averages_than_its_method_has_is_refused() -> None:
    shift, cls = load_shift(SHIFT), method_class("cotta")
    for averages, faults in (("teacher", 0), ("none", 1)):
        ingredients = {"fusion": "conv1x1", "flow": "dis", "averages": averages, "start": "source, target statistics"}
        record, _ = drive_record("cotta", 0, 60, ingredients=ingredients)
        assert len([fault for fault in _faults(record, shift, cls) if "averages 'none' took part" in fault]) == faults
