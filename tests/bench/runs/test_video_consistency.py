"""mVC: by hand, against the published loop, and where it says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from bench.runs.video_consistency import Windows, video_consistencies, window_consistencies


def maps(seed: int, frames: int = 6, classes: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, (frames, 4, 5))


def mean_of_windows(videos: list[tuple[np.ndarray, np.ndarray]], length: int) -> float:
    """mVC in percent, from whole videos, not frame by frame."""
    return 100 * float(np.mean([value for video in videos for value in window_consistencies(*video, length)]))


def test_three_pixels_over_two_frames() -> None:
    """Pixels: truth stays and so does the (wrong) prediction; truth stays, prediction flickers; truth changes. One of two."""
    truth = np.array([[[1, 2, 0]], [[1, 2, 1]]])
    prediction = np.array([[[3, 2, 0]], [[3, 0, 0]]])
    assert window_consistencies(truth, prediction, 2) == [0.5]


@pytest.mark.parametrize("length", [2, 3, 6])
def test_against_a_loop_over_pixels(length: int) -> None:
    truth, prediction = maps(0), maps(1)
    truth[2, 1] = 255
    expected = []
    for start in range(6 - length + 1):
        consistent = constant = 0
        for y in range(4):
            for x in range(5):
                t, p = truth[start : start + length, y, x], prediction[start : start + length, y, x]
                if len(set(t.tolist())) == 1 and t[0] != 255:
                    constant += 1
                    consistent += len(set(p.tolist())) == 1
        if constant:
            expected.append(consistent / constant)
    assert window_consistencies(truth, prediction, length) == pytest.approx(expected)


def test_the_truth_is_consistent_with_itself_and_short_videos_say_nothing() -> None:
    truth = maps(0, 9)
    assert set(window_consistencies(truth, truth, 2)) == {1.0}
    assert window_consistencies(truth, truth, 10) == []
    assert video_consistencies(np.ones((9, 2, 2), int), maps(1, 9)[:, :2, :2]).keys() == {"mvc8"}
    assert video_consistencies(np.ones((16, 2, 2), int), np.ones((16, 2, 2), int)) == {"mvc8": 100.0, "mvc16": 100.0}


def test_the_mean_is_over_windows_of_all_videos() -> None:
    still = np.ones((4, 1, 2), int)
    half = np.ones((2, 1, 2), int)
    half[1, 0, 0] = 0
    assert mean_of_windows([(still, still), (still[:2], half)], 2) == pytest.approx(100 * (3 + 0.5) / 4)


def test_a_window_without_a_pixel_that_keeps_its_class_is_left_out() -> None:
    truth = np.array([[[0]], [[1]], [[1]], [[255]], [[255]]])
    assert window_consistencies(truth, np.zeros_like(truth), 2) == [1.0]


def test_wrong_use() -> None:
    with pytest.raises(ValueError, match="one shape"):
        window_consistencies(maps(0), maps(0, 5), 2)
    with pytest.raises(ValueError, match="at least 2 frames"):
        window_consistencies(maps(0), maps(0), 1)


def test_frame_by_frame_is_the_same_as_whole_videos() -> None:
    """Videos of 20, 9 and 8 frames, and one of 3 that no window fits into; a pixel changes in one frame of 50."""
    videos = [(maps(s, n, 50) > 0, maps(s + 10, n, 50) > 0) for s, n in ((0, 20), (1, 9), (2, 3), (3, 8))]
    videos = [(truth.astype(int), prediction.astype(int)) for truth, prediction in videos]
    windows = Windows()
    for truth, prediction in videos:
        for t in range(len(truth)):
            windows.add(truth[t], prediction[t], follows=t > 0)
    expected = {f"mvc{n}": mean_of_windows(videos, n) for n in (8, 16)}
    assert windows.scores() == pytest.approx(expected)
    assert 0 < expected["mvc16"] < expected["mvc8"] < 100


def test_a_frame_that_does_not_follow_or_has_another_size_starts_anew() -> None:
    still, small = np.ones((2, 2), int), np.ones((1, 2), int)
    windows = Windows((2,))
    for shown, follows in ((still, False), (still, False), (small, True), (still, True)):
        windows.add(shown, shown, follows)
    assert windows.scores() == {}
    windows.add(still, still, True)
    assert windows.scores() == {"mvc2": 100.0}
