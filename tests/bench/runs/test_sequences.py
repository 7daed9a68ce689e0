"""Scores per target sequence: counts by hand, their sums against the record, the file and its faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.errors import RunError
from bench.core.schema import finite
from bench.runs.metrics import confusion_matrix, iou_from_confusion, mean_iou, pixel_accuracy
from bench.runs.records import Result
from bench.runs.sequences import Counts, SequenceCounts, mismatch, read_sequences, to_csv, write_sequences

CLASSES = ("road", "sky", "bus")


def result_of(matrix: torch.Tensor, **changes: float) -> Result:
    """The record's result for a confusion matrix, as the harness makes it."""
    iou = iou_from_confusion(matrix)
    values = {
        "iou": {name: finite(100 * float(x)) for name, x in zip(CLASSES, iou, strict=True)},
        "miou": 100 * mean_iou(iou),
        "pixel_accuracy": 100 * pixel_accuracy(matrix),
        "temporal_consistency": None,
    }
    return Result.model_validate(values | changes)


def sample(clips: int = 6, seed: int = 0) -> tuple[dict[str, Counts], torch.Tensor]:
    """Two clips per sequence of random labels, 255 among them; the counts, and the matrix of everything at once."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 255], (clips, 9, 7))
    guess = rng.integers(0, 3, (clips, 9, 7))
    pooled = SequenceCounts(3)
    for i in range(clips):
        pooled.update(f"s{i // 2}", truth[i], guess[i])
    return pooled.counts(), confusion_matrix(truth, guess, 3)


def test_counts_by_hand() -> None:
    pooled = SequenceCounts(3)
    pooled.update("a", torch.tensor([0, 0, 1, 255]), torch.tensor([0, 1, 1, 2]))
    pooled.update("b", torch.tensor([2]), torch.tensor([0]))
    pooled.update("a", torch.tensor([1]), torch.tensor([1]))
    counts = pooled.counts()
    assert list(counts) == ["a", "b"]
    assert counts["a"].tolist() == [[1, 2, 1], [2, 2, 3], [0, 0, 0]]  # tp, truth, predicted of each class
    assert counts["b"].tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_pooled_counts_are_the_pooled_matrix() -> None:
    counts, matrix = sample()
    assert len(counts) == 3
    total = sum(counts.values())
    assert total[:, 0].tolist() == matrix.diagonal().tolist()
    assert total[:, 1].tolist() == matrix.sum(1).tolist() and total[:, 2].tolist() == matrix.sum(0).tolist()
    assert mismatch(counts, result_of(matrix), CLASSES) is None


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_counts_give_the_score_to_the_last_bit(seed: int) -> None:
    counts, matrix = sample(seed=seed)
    assert mismatch(counts, result_of(matrix), CLASSES) is None


def test_what_does_not_belong_is_said() -> None:
    counts, matrix = sample()
    result = result_of(matrix)
    assert "IoU of road is" in (mismatch(counts | {"s0": counts["s1"]}, result, CLASSES) or "")
    assert "mIoU is 99.0 in the record" in (mismatch(counts, result_of(matrix, miou=99.0), CLASSES) or "")
    assert "pixel accuracy is 1.0" in (mismatch(counts, result_of(matrix, pixel_accuracy=1.0), CLASSES) or "")
    without = result.iou | {"road": None}
    assert "IoU of road is None" in (mismatch(counts, result.model_copy(update={"iou": without}), CLASSES) or "")
    wrong = {name: clip_counts.copy() for name, clip_counts in counts.items()}
    wrong["s0"][0, 0] = wrong["s0"][0, 1] + 1000
    assert "'s0' are impossible" in (mismatch(wrong, result, CLASSES) or "")
    moved = {name: clip_counts.copy() for name, clip_counts in counts.items()}
    moved["s0"][0, 2] += 1
    moved["s1"][0, 2] -= 1  # the sums are right, the sequences are not
    assert "'s0' are impossible" in (mismatch(moved, result, CLASSES) or "")


def test_a_class_that_the_protocol_does_not_score_stays_out_of_the_mean() -> None:
    counts, matrix = sample()
    iou = 100 * iou_from_confusion(matrix)
    scored = {"road": float(iou[0]), "sky": float(iou[1]), "bus": None}
    result = result_of(matrix).model_copy(update={"iou": scored, "miou": float(iou[:2].mean())})
    assert mismatch(counts, result, CLASSES, ["bus"]) is None
    assert "IoU of bus is None in the record" in (mismatch(counts, result, CLASSES) or "")  # it is scored, and occurs
    assert "IoU of bus is" in (mismatch(counts, result_of(matrix), CLASSES, ["bus"]) or "")


def test_a_class_that_never_occurs() -> None:
    pooled = SequenceCounts(3)
    pooled.update("a", torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))
    result = result_of(confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 3))
    assert result.iou["bus"] is None and mismatch(pooled.counts(), result, CLASSES) is None


def test_the_file(tmp_path: Path) -> None:
    counts, _ = sample()
    path = write_sequences(tmp_path / "sequences.csv", counts, CLASSES)
    text = path.read_text()
    assert text.splitlines()[0] == ",".join(
        ["sequence", *(f"{c} {column}" for c in CLASSES for column in ("tp", "truth", "predicted"))]
    )
    assert text.splitlines()[1] == "s0," + ",".join(str(x) for x in counts["s0"].ravel())
    reread = read_sequences(path, CLASSES)
    assert list(reread) == list(counts) and all((reread[name] == counts[name]).all() for name in counts)
    assert to_csv(reread, CLASSES) == text
    assert [p.name for p in tmp_path.iterdir()] == ["sequences.csv"]  # written whole, nothing left over


def test_names_with_commas_survive(tmp_path: Path) -> None:
    counts = {'a, "b"': np.ones((3, 3), np.int64)}
    assert list(read_sequences(write_sequences(tmp_path / "s.csv", counts, CLASSES), CLASSES)) == ['a, "b"']


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda t: t.replace("road tp", "roads tp"), "line 1: the header is not that of 3 classes"),
        (lambda t: t[: t.rindex(",")] + "\n", "line 4: 9 columns instead of 10"),
        (lambda t: t.replace("\ns1,", "\ns1,-"), "line 3: a count is not a whole number"),
        (lambda t: t.replace("\ns1,", "\ns1,1e"), "line 3: a count is not a whole number"),
        (lambda t: t.replace("\ns1,", "\ns0,"), "line 3: sequence 's0' stands there twice"),
        (lambda t: t.splitlines()[0] + "\n", "line 2: no sequence"),
        (lambda t: "", "line 1: the header"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(spoil: object, says: str, tmp_path: Path) -> None:
    path = write_sequences(tmp_path / "sequences.csv", sample()[0], CLASSES)
    path.write_text(spoil(path.read_text()))  # type: ignore[operator]
    with pytest.raises(RunError, match=says) as error:
        read_sequences(path, CLASSES)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_binary_rubbish_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="is damaged: not a table of text"):
        read_sequences(tmp_path / "s.csv", CLASSES)
    with pytest.raises(RunError, match="Cannot read"):
        read_sequences(tmp_path / "nowhere.csv", CLASSES)
