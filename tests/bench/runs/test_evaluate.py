"""Scores against slow loops, statistics and the target-only score against arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.core.errors import RunError
from bench.data.clip import Clip
from bench.data.loaders import ClipLoader
from bench.flow.backends.exact import exact
from bench.flow.backends.zero import zero
from bench.runs import predictions as module
from bench.runs.config import Evaluation
from bench.runs.evaluate import Scores, carried, evaluate, reestimate_statistics, target_score
from bench.runs.predictions import predictions
from bench.runs.video_consistency import window_consistencies
from stpl.segmenter import Segmentation

CPU = torch.device("cpu")
K, HEIGHT, WIDTH = 4, 12, 20
RULE = Evaluation(align_corners=False, readout="student")


class Store:
    """Random clips in memory with labels; flow of several pixels, some of it leading out of the image."""

    carries_flow = True
    drive = False
    """Each clip's frame comes right after the one before."""

    def __init__(self, clips: int, frames: int = 2, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.clips = [
            Clip(
                rng.integers(0, 256, (frames, 3, HEIGHT, WIDTH), np.uint8),
                rng.normal(0, 4, (frames - 1, 2, HEIGHT, WIDTH)).astype(np.float32),
                rng.random((frames - 1, HEIGHT, WIDTH)) < 0.8,
                f"clip-{i}",
            )
            for i in range(clips)
        ]
        self.truth = rng.integers(0, K, (clips, HEIGHT, WIDTH)).astype(np.uint8)
        self.truth[rng.random(self.truth.shape) < 0.1] = 255

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        return self.clips[index]

    def labels(self) -> Any:
        return self.truth

    def sequence(self, index: int) -> str:
        return f"{index:05d}"

    def follows(self, index: int) -> bool:
        return self.drive and index > 0


class Model(nn.Module):
    """Scores at half the resolution, a random linear map of average-pooled colours; no fusion."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, K, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(K, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * 5)
            self.conv.bias.zero_()  # type: ignore[union-attr]

    def fuse_alone(self, features: Tensor) -> Tensor:
        return features

    def classify(self, features: Tensor) -> Tensor:
        return self.conv(features - 0.5)

    def forward(self, frames: Tensor, flow: Tensor, valid: Tensor) -> Segmentation:
        pooled = nn.functional.avg_pool2d(frames.flatten(0, 1), 2).unflatten(0, frames.shape[:2])
        encoded = pooled.unbind(1)
        return Segmentation(self.classify(encoded[-1]), None, encoded[-1], encoded[-1], (), encoded, None)


def loader(store: Store, flow: Any = exact) -> ClipLoader:
    return ClipLoader(store, flow, 1, 0)  # type: ignore[arg-type]


def slow_labels(model: Model, frame: np.ndarray[Any, Any], align_corners: bool) -> np.ndarray[Any, Any]:
    """Labels of one frame: pooled, mapped, interpolated, largest, one after another in numpy."""
    x = frame.astype(np.float64) / 255
    pooled = x.reshape(3, HEIGHT // 2, 2, WIDTH // 2, 2).mean((2, 4)) - 0.5
    weight = model.conv.weight.detach().double().numpy()[:, :, 0, 0]
    small = np.einsum("kc,chw->khw", weight, pooled)
    label = np.empty((HEIGHT, WIDTH), np.int64)
    h, w = small.shape[1:]
    for i in range(HEIGHT):
        for j in range(WIDTH):
            if align_corners:
                y, x_ = i * (h - 1) / (HEIGHT - 1), j * (w - 1) / (WIDTH - 1)
            else:
                y, x_ = max(0.0, (i + 0.5) * h / HEIGHT - 0.5), max(0.0, (j + 0.5) * w / WIDTH - 0.5)
            y0, x0 = int(y), int(x_)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            a, b = y - y0, x_ - x0
            top = (1 - b) * small[:, y0, x0] + b * small[:, y0, x1]
            bottom = (1 - b) * small[:, y1, x0] + b * small[:, y1, x1]
            label[i, j] = np.argmax((1 - a) * top + a * bottom)
    return label


def slow_iou(pairs: list[tuple[int, int]]) -> list[float]:
    """Per class TP / (TP + FP + FN), in percent, over (truth, prediction) pairs."""
    ious = []
    for c in range(K):
        tp = sum(t == c and p == c for t, p in pairs)
        union = sum(t == c or p == c for t, p in pairs)
        ious.append(100 * tp / union if union else math.nan)
    return ious


@pytest.mark.parametrize("align_corners", [False, True])
def test_scores_equal_a_slow_loop_over_pixels(align_corners: bool) -> None:
    store, model = Store(5), Model()
    progress: list[tuple[str, int, int]] = []
    scores = evaluate(
        model, loader(store), K, Evaluation(align_corners=align_corners, readout="student"), CPU, "score",  # type: ignore[arg-type]
        lambda *a: progress.append(a),
    )  # fmt: skip
    pairs, carried_pairs = [], []
    for clip, truth in zip(store.clips, store.truth, strict=True):
        current, previous = (slow_labels(model, clip.frames[k], align_corners) for k in (1, 0))
        for i in range(HEIGHT):
            for j in range(WIDTH):
                if truth[i, j] != 255:
                    pairs.append((int(truth[i, j]), int(current[i, j])))
                x, y = round(float(j + clip.flow[0, 0, i, j])), round(float(i + clip.flow[0, 1, i, j]))
                if clip.valid[0, i, j] and 0 <= x <= WIDTH - 1 and 0 <= y <= HEIGHT - 1:
                    carried_pairs.append((int(previous[y, x]), int(current[i, j])))
    expected, consistency = slow_iou(pairs), slow_iou(carried_pairs)
    assert scores.iou == pytest.approx(expected)
    assert scores.miou == pytest.approx(np.nanmean(expected))
    assert scores.pixel_accuracy == pytest.approx(100 * np.mean([t == p for t, p in pairs]))
    assert scores.temporal_consistency == pytest.approx(np.nanmean(consistency))
    assert progress == [("score", 4, 5), ("score", 5, 5)]
    assert list(scores.sequences) == [f"{i:05d}" for i in range(5)]
    for number, counts in enumerate(scores.sequences.values()):
        label = slow_labels(model, store.clips[number].frames[1], align_corners)
        labelled = store.truth[number] != 255
        for c, (tp, truth, predicted) in enumerate(counts.tolist()):
            right = (store.truth[number] == c) & (label == c)
            counted = int(right.sum()), int((store.truth[number] == c).sum()), int(((label == c) & labelled).sum())
            assert (tp, truth, predicted) == counted


def test_video_consistency_is_of_frames_that_follow_each_other() -> None:
    store, model = Store(10), Model()
    store.truth[:] = store.truth[0]
    assert evaluate(model, loader(store), K, RULE, CPU).video == {}  # type: ignore[arg-type]
    store.drive = True
    guesses = np.stack([slow_labels(model, clip.frames[1], False) for clip in store.clips])
    expected = 100 * np.mean(window_consistencies(store.truth, guesses, 8))
    consistencies = evaluate(model, loader(store), K, RULE, CPU).video  # type: ignore[arg-type]
    assert consistencies == {"mvc8": pytest.approx(expected)}
    for clip in store.clips:
        clip.frames[1] = store.clips[0].frames[1]
    assert evaluate(model, loader(store), K, RULE, CPU).video == {"mvc8": 100.0}  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_scores_do_not_depend_on_the_batch(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = evaluate(Model(), loader(Store(7)), K, RULE, CPU)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "BATCH", batch)
    assert evaluate(Model(), loader(Store(7)), K, RULE, CPU) == expected  # type: ignore[arg-type]


def test_consistency_is_measured_along_the_exact_flow_whatever_the_model_was_given() -> None:
    store = Store(4)
    assert evaluate(Model(), loader(store, zero), K, RULE, CPU) == evaluate(Model(), loader(store), K, RULE, CPU)  # type: ignore[arg-type]


def test_a_still_clip_is_perfectly_consistent() -> None:
    store = Store(2)
    for i, clip in enumerate(store.clips):
        frames = np.repeat(clip.frames[:1], 2, axis=0)
        store.clips[i] = Clip(frames, np.zeros_like(clip.flow), clip.valid, clip.key)
    assert evaluate(Model(), loader(store), K, RULE, CPU).temporal_consistency == 100  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [-1000.0, 1000.0])
def test_a_class_without_a_labelled_pixel_leaves_the_mean_whether_it_is_predicted_or_not(bias: float) -> None:
    store, model = Store(2), Model()
    with torch.no_grad():
        model.conv.bias[3] = bias  # type: ignore[index]
    store.truth[store.truth == 3] = 255
    scores: Scores = evaluate(model, loader(store), K, RULE, CPU)  # type: ignore[arg-type]
    assert math.isnan(scores.iou[3])
    assert scores.miou == pytest.approx(np.nanmean(scores.iou)) and (scores.miou == 0) == (bias > 0)


@pytest.mark.parametrize("frames", [2, 3])
def test_carried_equals_a_loop(frames: int) -> None:
    store = Store(2, frames)
    rng = np.random.default_rng(1)
    previous = torch.from_numpy(rng.integers(0, K, (HEIGHT, WIDTH)))
    for index in range(2):
        moved = carried(store, loader(store, zero).read(index), previous)  # type: ignore[arg-type]
        flow, valid = store[index].flow[-1], store[index].valid[-1]
        for i in range(HEIGHT):
            for j in range(WIDTH):
                x, y = round(float(j + flow[0, i, j])), round(float(i + flow[1, i, j]))
                inside = valid[i, j] and 0 <= x <= WIDTH - 1 and 0 <= y <= HEIGHT - 1
                expected = previous[y, x] if inside else 255
                assert moved[i, j] == expected, (i, j)


def test_the_previous_frame_is_labelled_from_its_own_features() -> None:
    store, model = Store(1), Model()
    (prediction,) = predictions(model, loader(store), CPU)  # type: ignore[arg-type]
    np.testing.assert_array_equal(prediction.labels()[0].numpy(), slow_labels(model, store[0].frames[1], False))
    np.testing.assert_array_equal(
        prediction.previous_labels()[0].numpy(), slow_labels(model, store[0].frames[0], False)
    )


# Target-only score ----------------------------------------------------------------------------------------------------


class Fixed(Model):
    """Gives the scores it is told, whatever it sees; remembers its mode."""

    def __init__(self, probabilities: Tensor) -> None:
        super().__init__()
        self.scores, self.modes, self.seen = probabilities.log(), [], []  # type: ignore[var-annotated]

    def forward(self, frames: Tensor, flow: Tensor, valid: Tensor) -> Segmentation:
        self.modes.append(self.training)
        self.seen.append(len(frames))
        scores = self.scores.expand(len(frames), -1, -1, -1)
        return Segmentation(scores, None, scores, scores, (), (scores, scores), None)


def score_of(pixels: list[list[float]], clips: int = 3, size: int = 5) -> tuple[float, Fixed]:
    model = Fixed(torch.tensor(pixels).t()[None, :, None, :])
    return target_score(model, loader(Store(size)), clips, CPU), model  # type: ignore[arg-type]


def test_the_target_score_worked_by_hand() -> None:
    """Two pixels, (0.9, 0.1) and (0.2, 0.8): mean p = (0.55, 0.45)."""

    def entropy(*p: float) -> float:
        return -sum(x * math.log(x) for x in p)

    expected = entropy(0.55, 0.45) - (entropy(0.9, 0.1) + entropy(0.2, 0.8)) / 2
    assert score_of([[0.9, 0.1], [0.2, 0.8]])[0] == pytest.approx(expected, abs=1e-5)
    assert expected == pytest.approx(0.2754, abs=1e-4)


def test_confident_and_varied_is_best_and_collapse_is_worth_nothing() -> None:
    tiny = 1e-9
    assert score_of([[1 - tiny, tiny], [tiny, 1 - tiny]])[0] == pytest.approx(math.log(2), abs=1e-4)
    assert score_of([[1 - tiny, tiny], [1 - tiny, tiny]])[0] == pytest.approx(0, abs=1e-4)
    assert score_of([[0.5, 0.5], [0.5, 0.5]])[0] == pytest.approx(0, abs=1e-5)
    with pytest.raises(RunError, match="not finite"):
        score_of([[float("nan"), 0.5], [0.5, 0.5]])


@pytest.mark.parametrize(("clips", "seen"), [(3, [3]), (4, [4]), (5, [4, 1]), (99, [4, 1])])
def test_it_looks_at_the_first_clips_only_and_in_evaluation_mode(clips: int, seen: list[int]) -> None:
    _, model = score_of([[0.5, 0.5]], clips, size=5)
    assert model.seen == seen and not any(model.modes)


# Batch-norm statistics ------------------------------------------------------------------------------------------------


class Normed(nn.Module):
    """One batch-norm layer on the colours of the current frame."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, momentum=0.3)
        self.norm.running_mean.fill_(77)  # type: ignore[union-attr]

    def forward(self, frames: Tensor, flow: Tensor, valid: Tensor) -> None:
        self.norm(frames[:, -1])


@pytest.mark.parametrize(
    ("clips", "groups"), [(8, [[0, 1, 2, 3], [4, 5, 6, 7]]), (6, [[0, 1, 2, 3], [4, 5]]), (2, [[0, 1]])]
)
def test_statistics_are_the_average_of_the_batches(clips: int, groups: list[list[int]]) -> None:
    store, model = Store(8), Normed()
    reestimate_statistics(model, loader(store), clips, CPU)  # type: ignore[arg-type]
    frames = np.stack([clip.frames[-1] for clip in store.clips]).astype(np.float64) / 255
    means = [frames[g].mean((0, 2, 3)) for g in groups]
    variances = [frames[g].var((0, 2, 3)) * (n := len(g) * HEIGHT * WIDTH) / (n - 1) for g in groups]
    np.testing.assert_allclose(model.norm.running_mean, np.mean(means, 0), rtol=1e-5)  # type: ignore[arg-type]
    np.testing.assert_allclose(model.norm.running_var, np.mean(variances, 0), rtol=1e-5)  # type: ignore[arg-type]
    assert model.norm.momentum == 0.3


def test_statistics_forget_what_was_and_weights_stay() -> None:
    store, model = Store(4), Normed()
    weight = model.norm.weight.detach().clone()
    reestimate_statistics(model, loader(store), 4, CPU)  # type: ignore[arg-type]
    first = model.norm.running_mean.clone()  # type: ignore[union-attr]
    model.norm.running_mean.fill_(-5)  # type: ignore[union-attr]
    reestimate_statistics(model, loader(store), 4, CPU)  # type: ignore[arg-type]
    assert torch.equal(model.norm.running_mean, first) and torch.equal(model.norm.weight, weight)  # type: ignore[arg-type]


# Batches --------------------------------------------------------------------------------------------------------------


def test_a_loader_visits_every_clip_once_per_pass_in_an_order_of_its_seed() -> None:
    store = Store(7)

    def order(seed: int, steps: int = 7) -> list[int]:
        batches = ClipLoader(store, exact, 2, seed)  # type: ignore[arg-type]
        return [i for step in range(steps) for i in batches.indices(step)]

    assert sorted(order(0)[:7]) == sorted(order(0)[7:]) == list(range(7))
    assert order(0)[:7] != order(0)[7:] and order(0) == order(0) != order(1)
    resumed = ClipLoader(store, exact, 2, 0)  # type: ignore[arg-type]
    assert resumed.indices(5) == order(0)[10:12]  # no history is needed, not even across the end of a pass
    assert resumed.indices(3) == order(0)[6:8]


def test_a_batch_is_scaled_to_one_and_keeps_keys() -> None:
    store = Store(3)
    batch = loader(store).collate([2, 0])
    assert batch.keys == ("clip-2", "clip-0") and batch.frames.dtype == torch.float32
    np.testing.assert_allclose(batch.frames[1], store[0].frames / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(batch.flow[0], store[2].flow)
    assert batch.valid.dtype == torch.bool
