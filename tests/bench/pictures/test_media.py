"""Files of predictions: read back as numbers; what the official Cityscapes evaluator makes of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from cityscapesscripts.helpers.labels import name2label
from PIL import Image

from bench.core.errors import RunError, UsageError
from bench.data.labels import CLASSES, IGNORE, PALETTE
from bench.pictures.media import (
    Gif,
    Mp4,
    check_film,
    colours,
    overlay,
    readable,
    write_film,
    write_gif,
    write_labels,
    write_palette_png,
    write_png,
)
from bench.runs.metrics import ConfusionMatrix, iou_from_confusion, mean_iou

OFFICIAL_NAMES = ["traffic " + name if name in ("light", "sign") else name for name in CLASSES]
LABEL_IDS = [name2label[name].id for name in OFFICIAL_NAMES]
KEYS = ("frankfurt_000000_000294", "lindau_000001_000019", "bad-honnef_000002_000005")


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# Label maps


def official_scores(folder: Path, truths: list[Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``csEvalPixelLevelSemanticLabeling`` says of the predictions under a folder, found by its own search."""
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(folder))
    args = copy.copy(official.args)
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    args.predictionPath = args.predictionWalk = None
    predictions = [official.getPrediction(args, str(truth)) for truth in truths]
    scores: dict[str, Any] = official.evaluateImgLists(predictions, [str(truth) for truth in truths], args)
    return scores


def test_our_miou_is_the_official_evaluators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official tool scores 19 classes; the protocol of VIPER to Cityscapes-Seq scores 15 of them: riders count as persons,
    and wall, pole and train are ignored. So the official tool is shown a ground truth in which riders are written as persons
    (25 -> 24), and ids without a class here as *unlabeled* (0), which it ignores. The predictions it reads are the exported
    PNGs, found by its own file search. Then its class scores must be ours for all 15 classes, and its average, which leaves out
    classes without a pixel, our mIoU. On the unchanged ground truth they must differ, or the test would show nothing."""
    rng = np.random.default_rng(3)
    train_id = {label: i for i, label in enumerate(LABEL_IDS)} | {name2label["rider"].id: CLASSES.index("person")}
    confusion, adjusted, unchanged = ConfusionMatrix(len(CLASSES)), [], []
    for key in KEYS:
        raw = rng.integers(0, 34, (37, 53), dtype=np.uint8)  # every id from unlabeled to bicycle
        raw[raw == name2label["bus"].id] = 0  # a class that is never true; it is predicted below
        truth = np.vectorize(lambda label: train_id.get(label, IGNORE))(raw).astype(np.uint8)
        guess = np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, len(CLASSES), truth.shape))
        guess = np.where((truth == IGNORE) & (guess == IGNORE), 2, guess).astype(np.uint8)
        guess[guess == CLASSES.index("truck")] = CLASSES.index("car")
        truth[truth == CLASSES.index("truck")] = IGNORE  # neither true nor predicted: NaN on both sides
        raw[raw == name2label["truck"].id] = 0
        confusion.update(truth, guess)
        write_labels(tmp_path / "results", key, guess, LABEL_IDS)
        shown = np.where(truth == IGNORE, 0, np.array([*LABEL_IDS, *[0] * 241], np.uint8)[truth])
        adjusted.append(write_png(tmp_path / "gt" / f"{key}_gtFine_labelIds.png", shown.astype(np.uint8)))
        unchanged.append(write_png(tmp_path / "raw" / f"{key}_gtFine_labelIds.png", raw))
    scores = official_scores(tmp_path / "results", adjusted, monkeypatch)
    iou = iou_from_confusion(confusion.matrix)
    for name, value in zip(OFFICIAL_NAMES, iou.tolist(), strict=True):
        assert scores["classScores"][name] == pytest.approx(value, abs=1e-9, nan_ok=True), name
    assert np.isnan(scores["classScores"]["truck"]) and scores["classScores"]["bus"] == 0
    assert scores["averageScoreClasses"] == pytest.approx(mean_iou(iou), abs=1e-9)
    raw_scores = official_scores(tmp_path / "results", unchanged, monkeypatch)
    assert raw_scores["classScores"]["person"] < scores["classScores"]["person"] - 0.01  # riders were right as persons
    assert raw_scores["classScores"]["building"] < scores["classScores"]["building"] - 0.01  # guesses on poles


def test_label_ids_by_hand(tmp_path: Path) -> None:
    path = write_labels(tmp_path, "ulm_000000_000019", np.array([[0, 4, 14], [9, 255, 10]], np.uint8), LABEL_IDS)
    assert path.name == "ulm_000000_000019_pred_labelIds.png"
    picture = Image.open(path)
    assert picture.mode == "L" and np.array(picture).tolist() == [[7, 19, 33], [24, 0, 26]]
    with pytest.raises(ValueError, match="train id 15 has no label id; there are 15"):
        write_labels(tmp_path, "ulm_000000_000020", np.array([[15]], np.uint8), LABEL_IDS)


def test_a_palette_png_keeps_ids_and_shows_colours(tmp_path: Path) -> None:
    labels = np.array([[0, 8, 14], [255, 13, 1]], np.uint8)
    picture = Image.open(write_palette_png(tmp_path / "a.png", labels, PALETTE))
    assert np.array(picture).tolist() == labels.tolist()
    assert np.array(picture.convert("RGB")).tolist() == colours(labels, PALETTE).tolist()
    assert colours(labels, PALETTE)[1, 0].tolist() == [0, 0, 0]


def test_overlay_by_hand() -> None:
    frame = np.full((1, 2, 3), (100, 0, 200), np.uint8)
    shown = overlay(frame, np.array([[10, 255]], np.uint8), PALETTE)
    assert shown[0, 0].tolist() == [45, 0, 168]  # 0.45 (100, 0, 200) + 0.55 (0, 0, 142)
    assert shown[0, 1].tolist() == [100, 0, 200]  # ignored: as it is
    small = overlay(frame[:, :1], np.full((2, 4), 10, np.uint8), PALETTE)
    assert small.shape == (2, 4, 3) and (small == [45, 0, 168]).all()


# Films


def test_a_gif_keeps_exact_colours_and_every_frame(tmp_path: Path) -> None:
    frames = []
    for k in range(5):
        picture = noise(20, 30, 3, seed=k)  # many more colours than a palette has
        picture[:10] = colours(np.full((10, 30), k, np.uint8), PALETTE)
        frames.append(picture)
    film = Image.open(write_film(tmp_path / "new" / "a.gif", frames, 4.0, exact=PALETTE))
    assert film.n_frames == 5 and film.info["duration"] == 250 and film.info["loop"] == 0  # type: ignore[attr-defined]
    for k, frame in enumerate(frames):
        film.seek(k)
        shown = np.array(film.convert("RGB")).astype(int)
        assert (shown[:10] == frame[:10]).all()
        assert np.abs(shown[10:] - frame[10:]).mean() < 25  # 240 colours for noise


def test_colours_that_do_not_change_do_not_flicker(tmp_path: Path) -> None:
    still = noise(16, 16, 3)
    frames = [np.concatenate([still, noise(16, 16, 3, seed=k)]) for k in range(1, 4)]
    film = Image.open(write_gif(tmp_path / "a.gif", frames, 10.0))
    shown = []
    for k in range(3):
        film.seek(k)
        shown.append(np.array(film.convert("RGB"))[:16])
    assert (shown[0] == shown[1]).all() and (shown[1] == shown[2]).all()


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47)])
def test_an_mp4_is_read_back_and_padded_to_even(tmp_path: Path, height: int, width: int) -> None:
    frames = [np.full((height, width, 3), (40 * k, 200 - 40 * k, 90), np.uint8) for k in range(4)]
    path = write_film(tmp_path / "new" / "a.mp4", frames, 5.0)
    film = cv2.VideoCapture(str(path))
    assert film.get(cv2.CAP_PROP_FPS) == 5
    for frame in frames:
        good, shown = film.read()
        assert good and shown.shape == (32 if height == 32 else 34, 48, 3)
        assert np.abs(shown[..., ::-1].reshape(-1, 3).mean(0) - frame[0, 0]).max() < 6  # lossy
    assert not film.read()[0] and [p.name for p in path.parent.iterdir()] == ["a.mp4"]


def test_a_film_that_cannot_be_read_back_is_an_error_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_film(tmp_path / "a.mp4", [noise(16, 16, 3)], 5.0)
    before = path.read_bytes()
    monkeypatch.setattr("bench.pictures.media.readable", lambda film: readable(film) - 1)
    with pytest.raises(RunError, match=r"Cannot write .*a\.mp4: 2 of 3 pictures can be read back"):
        write_film(path, [noise(16, 16, 3)] * 3, 5.0)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_film_with_pictures_of_two_sizes_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="pictures of different sizes"):
        write_film(tmp_path / "a.mp4", [noise(16, 16, 3), noise(16, 20, 3)], 5.0)
    with pytest.raises(ValueError, match="pictures of one size"):
        write_film(tmp_path / "a.gif", [noise(16, 16, 3), noise(16, 20, 3)], 5.0)
    with pytest.raises(ValueError, match="at least one picture"):
        write_film(tmp_path / "a.gif", [], 5.0)
    assert list(tmp_path.iterdir()) == []


def test_growing_films(tmp_path: Path) -> None:
    for kind, name in ((Gif, "a.gif"), (Mp4, "a.mp4")):
        film = kind(tmp_path / name, 5.0)
        for k in range(3):
            film.add(noise(20, 600, 3, seed=k))
        film.close()
    assert Image.open(tmp_path / "a.gif").size == (480, 16) and readable(tmp_path / "a.mp4") == 3
    film = Mp4(tmp_path / "b.mp4", 5.0)
    film.add(noise(16, 16, 3))
    film.close(keep=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gif", "a.mp4"]


def test_unknown_endings_and_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"by the ending of 'a\.avi'; use one of \.mp4, \.gif, \.png"):
        check_film(Path("a.avi"), also=(".png",))
    (tmp_path / "file").write_text("")
    for name in ("a.gif", "a.mp4"):
        with pytest.raises(RunError, match=rf"Cannot write .*file/{name}"):
            write_film(tmp_path / "file" / name, [noise(16, 16, 3)], 5.0)
    with pytest.raises(RunError, match="Cannot write"):
        write_png(tmp_path / "file" / "a.png", noise(4, 4))
