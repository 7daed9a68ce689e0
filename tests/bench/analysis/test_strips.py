"""Strips: the demonstration belongs to no split, flicker is counted by hand, films show the tiles as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench import cli
from bench.analysis.strips import (
    CHANGED,
    FRAMES,
    STAYED,
    UNKNOWN,
    Footage,
    compose,
    demonstration,
    demonstration_world,
    film_name,
    flicker,
    flicker_map,
    predict_windows,
    summary,
    track,
    windows,
)
from bench.core.access import stage
from bench.core.errors import RunError, UsageError
from bench.data.ministreet import render_clip, render_labels
from bench.data.rendered import ClipStore, prepare_split, split_identity
from bench.flow.backends.exact import exact
from bench.pictures.canvas import colourise
from bench.pictures.media import readable
from bench.pictures.tiles import CAPTION, GAP, fitted, font
from bench.runs.config import load_shift

TINY = "ministreet-tiny"


@pytest.fixture(scope="module")
def footage() -> Footage:
    return demonstration(load_shift(TINY), 0, 0, 5)


# The demonstration


def test_the_world_is_that_of_no_split() -> None:
    for name in ("ministreet", "ministreet-dev", TINY):
        data = load_shift(name).data
        worlds = {
            split_identity(data, role, split, seed)["world"]
            for role in ("source", "target") for split in ("train", "val") for seed in range(20)
        }  # fmt: skip
        assert not worlds & {demonstration_world(seed, data.family) for seed in range(20)}


def test_labels_of_all_frames(footage: Footage) -> None:
    """The label of frame t is the clip's; that of an earlier frame is the last one of the clip that ends there, which has the
    same surfaces, so labels carried along exact flow agree where it is valid."""
    shift = load_shift(TINY)
    scene = ("cam", demonstration_world(0, shift.data.family), 0, 64, 128, 5)
    clip, labels = render_clip(*scene), render_labels(*scene)
    assert labels.shape == (5, 64, 128) and labels.dtype == np.uint8
    assert (labels[-1] == clip.label).all() and (labels == footage.labels).all()
    assert (footage.clip.frames == clip.frames).all() and not hasattr(footage.clip, "label")
    for k in range(4):
        followed = flicker(labels[k], labels[k + 1], clip.flow[k], clip.valid[k], 15)
        assert followed.share < 2  # rounding to pixels at edges
        still = flicker(labels[k], labels[k + 1], np.zeros_like(clip.flow[k]), clip.valid[k], 15)
        assert still.share > 3 * followed.share  # it is the flow that makes them agree


def test_a_clip_that_no_world_has_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"--clip is 0 to 2\*\*64 - 1 in the demonstration world, got 18446744073709551616"
    ):
        demonstration(load_shift(TINY), 0, 2**64, 3)


def test_no_frame_is_rendered_within_a_stage() -> None:
    with stage("target-val", "target-val/label"), pytest.raises(RunError, match="Rendering is closed"):
        render_labels("cam", 1, 0, 32, 32)


def test_windows_are_what_the_segmenter_takes(footage: Footage) -> None:
    clips = windows(footage.clip, 2)
    assert len(clips) == 4 and len({clip.key for clip in clips}) == 4
    for k, clip in enumerate(clips):
        assert (clip.frames == footage.clip.frames[k : k + 2]).all()
        assert (clip.flow[0] == footage.clip.flow[k]).all() and (clip.valid[0] == footage.clip.valid[k]).all()
    assert [len(clip.flow) for clip in windows(footage.clip, 4)] == [3, 3]


def test_predictions_of_windows_are_those_of_evaluation(finished_tiny: Path, tiny_cache: Path) -> None:
    """On clips of a split: the same labels as the panels', which score what the record says."""
    import torch

    from bench.analysis.panels import pair_predictions
    from bench.core.workspace import Workspace
    from bench.data.loaders import ClipLoader
    from bench.runs.finished import finished_run

    shift, cpu = load_shift(TINY), torch.device("cpu")
    store = ClipStore(prepare_split(shift.data, "target", "val", 0, tiny_cache))
    model = finished_run("adabn", TINY, 0, finished_tiny).model(Workspace())
    labels = predict_windows(model, [store[0], store[1]], exact, shift.evaluation, cpu)
    expected = pair_predictions(model, ClipLoader(store, exact, 1, 0), [0, 1], shift, cpu)
    assert (labels[0] == expected[0].current).all() and (labels[1] == expected[1].current).all()


# Flicker


def test_flicker_by_hand() -> None:
    """A row that moves one pixel to the right: what enters at the left is not known."""
    previous, current = np.array([[3, 3, 5, 5]]), np.array([[9, 3, 3, 7]])
    flow = np.zeros((2, 1, 4), np.float32)
    flow[0] = -1
    measured = flicker(previous, current, flow, np.ones((1, 4), bool), 10)
    assert measured.visible.tolist() == [[False, True, True, True]]
    assert measured.changed.tolist() == [[False, False, False, True]]
    assert measured.share == pytest.approx(100 / 3)
    assert measured.consistency == pytest.approx(100 / 3)  # class 3: 2 of 2; classes 5 and 7: 0
    assert flicker_map(measured).tolist() == [[list(UNKNOWN), list(STAYED), list(STAYED), list(CHANGED)]]
    hidden = flicker(previous, current, flow, np.zeros((1, 4), bool), 10)
    assert np.isnan(hidden.share) and np.isnan(hidden.consistency) and not hidden.changed.any()


def test_a_prediction_that_follows_its_surfaces_does_not_flicker(footage: Footage) -> None:
    followed = track(footage.labels.astype(np.int64), footage.clip, 15, footage.labels[1:])
    drawn = np.random.default_rng(0).integers(0, 15, footage.labels.shape)
    random = track(drawn, footage.clip, 15, footage.labels[1:])
    assert followed.miou == 100 and random.miou is not None and random.miou < 10
    assert all(f.share < 2 and f.consistency > 80 for f in followed.flicker)
    assert all(f.share > 90 for f in random.flicker)
    assert len(followed.labels) == len(followed.flicker) == 4
    numbers = summary({"a": followed})["a"]
    assert numbers["miou"] == 100 and len(numbers["changed"]) == len(numbers["consistency"]) == 4
    assert not {"mvc8", "mvc16"} & set(numbers)  # the film is shorter than a window


def test_a_long_film_has_a_video_consistency() -> None:
    film = demonstration(load_shift(TINY), 0, 0, 10)
    first = np.where(film.labels[:1] == 255, 0, film.labels[:1])
    still = track(np.repeat(first, 10, 0).astype(np.int64), film.clip, 15, film.labels[1:])
    drawn = np.random.default_rng(0).integers(0, 15, film.labels.shape)
    numbers = summary({"still": still, "random": track(drawn, film.clip, 15, film.labels[1:])})
    assert numbers["still"]["mvc8"] == 100 and numbers["random"]["mvc8"] < 1 and "mvc16" not in numbers["still"]


# Pictures


def test_a_picture_shows_frame_truth_prediction_and_flicker(footage: Footage) -> None:
    prediction = track(footage.labels.astype(np.int64), footage.clip, 15, footage.labels[1:])
    pictures = compose(footage.clip.frames[1:], footage.labels[1:], {"A": prediction, "B": prediction}, "title")
    assert len(pictures) == 4 and len({p.shape for p in pictures}) == 1
    height, width = 128, 256  # twice 64 x 128, since captions need the room
    top, step = 2 * CAPTION + GAP, CAPTION + height
    tiles = [
        [p[top + r * step :][:height, GAP + c * (width + GAP) :][:, :width][::2, ::2] for r in (0, 1) for c in range(3)]
        for p in pictures
    ]
    for k in range(4):
        assert (tiles[k][0] == footage.clip.frames[k + 1].transpose(1, 2, 0)).all()
        assert (tiles[k][1] == colourise(prediction.labels[k])).all() and (tiles[k][2] == tiles[k][1]).all()
        assert (tiles[k][3] == colourise(footage.labels[k + 1])).all()
        assert (tiles[k][4] == flicker_map(prediction.flicker[k])).all()
    without = compose(footage.clip.frames[1:], None, {"A": prediction}, "title")
    assert (without[0][top + step :][:height, GAP:][:, :width] == 255).all()


def test_texts_are_cut_to_their_tile() -> None:
    assert fitted("short", 300) == "short"
    cut = fitted("a very long caption " * 5, 200)
    assert cut.endswith("…") and font().getlength(cut) <= 200


# The command


def test_the_command_writes_gif_mp4_and_png(finished_tiny: Path, tmp_path: Path) -> None:
    def call(*arguments: str) -> Any:
        base = (
            "strip",
            "--shift",
            TINY,
            "--runs",
            str(finished_tiny),
            "-m",
            "source_only,self_training",
            "--frames",
            "3",
        )
        return CliRunner().invoke(cli.app, [*base, *arguments])

    numbers = {}
    for name in ("a.gif", "a.mp4", "a.png"):
        result = call("--out", str(tmp_path / name), "--json")
        assert result.exit_code == 0, result.output
        numbers[name] = json.loads(result.stdout)["models"]
        (scores, _) = numbers[name].values()
        assert len(scores["changed"]) == len(scores["consistency"]) == 3 and 0 <= scores["miou"] <= 100
    assert numbers["a.gif"] == numbers["a.mp4"] == numbers["a.png"]
    film = Image.open(tmp_path / "a.gif")
    assert film.n_frames == 3 and readable(tmp_path / "a.mp4") == 3  # type: ignore[attr-defined]
    width, height = film.size
    assert cv2.imread(str(tmp_path / "a.png")).shape == (3 * height, width, 3)
    result = call("--out", str(tmp_path / "a.png"), "--films", str(tmp_path / "films"))
    assert result.exit_code == 0, result.output
    films = {path.name: np.asarray(Image.open(path)) for path in (tmp_path / "films").glob("*.png")}
    assert {name: film.shape for name, film in films.items()} == {
        film_name(TINY, "source_only"): (3 * 64, 128),
        film_name(TINY, "self_training"): (3 * 64, 128),
        film_name(TINY, FRAMES): (3 * 64, 128, 3),
    }
    frames = demonstration(load_shift(TINY), 0, 0, 5).clip.frames[-3:]
    assert (films[film_name(TINY, FRAMES)].reshape(3, 64, 128, 3) == frames.transpose(0, 2, 3, 1)).all()
    assert len(np.unique(films[film_name(TINY, "source_only")])) > 1
    result = call("--out", str(tmp_path / "a.avi"))
    assert result.exit_code == 2 and "use one of .mp4, .gif, .png" in result.stderr
    result = call("--out", str(tmp_path / "a.gif"), "--seed", "5")
    assert result.exit_code == 2 and "No finished run of 'source_only' (seed 5)" in result.stderr
