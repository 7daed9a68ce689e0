"""Figures: colours and positions are checked as numbers, files as bytes; the contact sheet with clips made here."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from bench.analysis import preview
from bench.core.errors import RunError, UsageError
from bench.data import ministreet
from bench.data.clip import LabelledClip
from bench.data.labels import PALETTE
from bench.leaderboards.score_figures import Entry, class_gains, difference_figure, gains_figure, miou_figure
from bench.pictures.canvas import colourise, new_figure, save, segmentation_panel
from bench.pictures.flow import flow_to_rgb, flow_wheel
from bench.shifts.protocol import Mixture

ENTRIES = [
    Entry("Oracle", "oracle", "-", {0: 70.0, 1: 72.0, 2: 74.0}),
    Entry("STPL", "SFDA", "video", {2: 48.0, 0: 40.0, 1: 44.0}),
    Entry("Source only", "none", "-", {0: 30.0}),
]


def moving_clip(shift: int = 3, key: str = "00000", frames: int = 2, height: int = 24, width: int = 40) -> LabelledClip:
    """A picture that moves ``shift`` pixels to the right between frames; what enters on the left is not valid."""
    scene = np.random.default_rng(0).integers(0, 256, (3, height, width + 8 * frames), dtype=np.uint8)
    start = [8 * frames - shift * t for t in range(frames)]
    flow = np.zeros((frames - 1, 2, height, width), np.float32)
    flow[:, 0] = -shift
    valid = np.ones((frames - 1, height, width), np.bool_)
    valid[:, :, :shift] = False
    label = np.zeros((height, width), np.uint8)
    label[:4], label[4:8, :9] = 8, 255
    return LabelledClip(np.stack([scene[:, :, x : x + width] for x in start]), flow, valid, key, label)


# Scores


def test_miou_figure_shows_means_intervals_and_every_replicate() -> None:
    axes: Any = miou_figure(ENTRIES, "title").axes[0]
    replicates = [sorted(np.asarray(line.get_xdata())) for line in axes.lines if line.get_marker() == "."]
    assert replicates == [[70, 72, 74], [40, 44, 48], [30]]
    means = [container.lines[0] for container in axes.containers]
    assert [(float(m.get_xdata()[0]), float(m.get_ydata()[0])) for m in means] == [(72, 0), (44, 1), (30, 2)]
    assert [m.get_marker() for m in means] == ["D", "s", "D"]
    # s = 4 over three: 4.303 * 4 / sqrt 3 = 9.937 to each side; one replicate has no whiskers
    whiskers = axes.containers[1].lines[2][0].get_segments()[0]
    assert whiskers[:, 0] == pytest.approx([44 - 9.937, 44 + 9.937], abs=1e-3)
    assert axes.containers[2].lines[2] == ()
    assert [t.get_text() for t in axes.texts] == ["72.0 ± 5.0", "44.0 ± 9.9", "30.0"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["Oracle", "STPL", "Source only"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # first entry at the top


def test_differences_have_a_zero_line_and_what_is_far_out_is_an_arrow() -> None:
    """Quartiles of 4, 3, 2, 1 and -14 are 1 and 3: below 1 - 3 * 2 is far out."""
    gains = {"a": [3.0, 5.0], "b": [2.0, 4.0], "c": [1.0, 3.0], "d": [0.0, 2.0], "collapsed": [-20.0, -8.0]}
    entries = [Entry(name, "SFDA", "image", dict(enumerate(values))) for name, values in gains.items()]
    axes: Any = difference_figure(entries, "title").axes[0]
    assert [t.get_text() for t in axes.texts][-2:] == ["+1.0 ± 12.7", "−14.0 ± 76.2"]
    arrows = [(line.get_ydata()[0], line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "<"]
    low, high = axes.get_xlim()
    assert [row for row, _ in arrows] == [4] and low < arrows[0][1] < 1 - 12.7
    assert low == pytest.approx(1 - 12.706 - 0.04 * 28.412, abs=0.01) and high > 4 + 12.7
    assert any(list(line.get_xdata()) == [0, 0] for line in axes.lines)
    axes = difference_figure(entries[:4], "title").axes[0]
    assert not any(line.get_marker() == "<" for line in axes.lines)


@pytest.mark.parametrize("figure", [miou_figure, difference_figure])
def test_a_figure_of_methods_needs_an_entry(figure: Any) -> None:
    with pytest.raises(ValueError, match="at least one entry"):
        figure([], "title")


def test_class_gains_pair_by_seed_and_skip_absent_classes() -> None:
    def record(**iou: float | None) -> SimpleNamespace:
        return SimpleNamespace(result=SimpleNamespace(iou=iou))

    records = {0: record(road=80.0, bus=10.0), 1: record(road=81.0, bus=None), 2: record(road=99.0, bus=99.0)}
    floor = {1: record(road=75.0, bus=5.0), 0: record(road=70.0, bus=12.0)}
    gains = class_gains(records, floor, ("road", "bus", "car"))  # type: ignore[arg-type]
    assert list(gains.items()) == [("road", [10.0, 6.0]), ("bus", [-2.0]), ("car", [])]
    assert class_gains(records, {}, ("road",)) == {"road": []}  # type: ignore[arg-type]


def test_gains_figure_bars() -> None:
    axes: Any = gains_figure({"road": [10.0, 6.0], "bus": [], "car": [-2.0]}, "title").axes[0]
    assert [(bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in axes.patches] == [(8.0, 0), (-2.0, 2)]
    assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()
    assert [t.get_text() for t in axes.texts] == ["+8.0", "-2.0"]


# Images


def test_colourise_is_the_palette_and_ignored_is_black() -> None:
    label = np.array([[0, 8, 14], [255, 13, 1]], np.uint8)
    expected = [[PALETTE[0], PALETTE[8], PALETTE[14]], [(0, 0, 0), PALETTE[13], PALETTE[1]]]
    assert colourise(label).tolist() == np.array(expected).tolist()
    assert colourise(label.astype(np.int64)).dtype == np.uint8
    with pytest.raises(ValueError, match=r"label value 15 is neither in 0\.\.14 nor 255"):
        colourise(np.array([[15]], np.uint8))


def test_flow_colours() -> None:
    # right, down, left, up, none; then half as long to the right
    flow = np.array([[[4.0, 0, -4, 0, 0, 2]], [[0.0, 4, 0, -4, 0, 0]]], np.float32)
    right, down, left, up, none, half = flow_to_rgb(flow)[0].tolist()
    assert (right, left, none, half) == ([255, 0, 0], [0, 255, 255], [255, 255, 255], [255, 128, 128])
    assert (down, up) == ([128, 255, 0], [128, 0, 255])
    assert flow_to_rgb(flow, maximum=8.0)[0, 0].tolist() == half
    assert flow_to_rgb(10 * flow, maximum=4.0)[0, 5].tolist() == right  # longer than the maximum: full saturation
    assert (flow_to_rgb(np.zeros((2, 3, 5), np.float32)) == 255).all()


def test_the_wheel_is_the_legend_of_the_flow() -> None:
    wheel = flow_wheel(65)
    assert wheel[32, 32].tolist() == [255, 255, 255] and wheel[0, 0].tolist() == [255, 255, 255]
    assert wheel[32, 64].tolist() == [255, 0, 0] and wheel[64, 32].tolist() == [128, 255, 0]


def test_segmentation_panel_tiles() -> None:
    clip = moving_clip()
    prediction = np.full_like(clip.label, 10)
    figure = segmentation_panel(clip.frames, clip.label, {"source only": prediction, "STPL": clip.label})
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["frame t", "label", "source only", "STPL"]
    images = [np.asarray(axes.images[0].get_array()) for axes in shown]
    assert (images[0] == clip.frames[-1].transpose(1, 2, 0)).all()
    assert (images[2] == PALETTE[10]).all() and (images[3] == images[1]).all()
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["road", "sky", "car", "ignored"]
    with pytest.raises(ValueError, match="prediction 'x' must be"):
        segmentation_panel(clip.frames, clip.label, {"x": prediction[:5]})


# Files


def chunks(path: Path) -> list[bytes]:
    """Types of a PNG's chunks."""
    content, at, types = path.read_bytes(), 8, []
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        types.append(content[at + 4 : at + 8])
        at += 12 + length
    return types


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    first = save(miou_figure(ENTRIES, "title"), tmp_path / "new" / "a.png", dpi=60)
    second = save(miou_figure(ENTRIES, "title"), tmp_path / "b.png", dpi=60)
    assert first.read_bytes() == second.read_bytes()
    assert not {b"tEXt", b"tIME", b"iTXt"} & set(chunks(first))
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["a.png", "b.png"]
    assert save(miou_figure(ENTRIES[:2], "title"), tmp_path / "c.png", dpi=60).read_bytes() != first.read_bytes()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match=r"Cannot write .*a\.png"):
        save(new_figure(1, 1), tmp_path / "file" / "a.png", dpi=20)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(new_figure(1, 1), tmp_path / "a.png", dpi=20)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RunError, match="No space left on device"):
        save(new_figure(2, 2), path, dpi=20)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.png"]


# Contact sheet


def test_warp_follows_the_flow() -> None:
    clip = moving_clip(shift=3)
    previous, current = (np.ascontiguousarray(frame.transpose(1, 2, 0)) for frame in clip.frames)
    warped = preview.warp_previous(previous, clip.flow[0])
    assert (warped[:, 3:] == current[:, 3:]).all()
    assert (warped[:, :3] == 0).all()  # outside of t-1
    assert (preview.warp_previous(previous, np.zeros_like(clip.flow[0])) == previous).all()


def test_warp_is_bilinear_and_x_comes_first() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[1, 2] = 200
    flow = np.zeros((2, 4, 6), np.float32)
    flow[0], flow[1] = 0.5, -1.0  # looks half a pixel to the right and one up
    warped = preview.warp_previous(picture, flow)[..., 0]
    assert warped[2].tolist() == [0, 100, 100, 0, 0, 0]
    assert np.count_nonzero(warped) == 2


def test_warp_error_tells_a_right_flow_from_a_wrong_one() -> None:
    clip = moving_clip()
    still, moved = preview.warp_error(clip)
    assert moved == 0 and still > 50
    wrong = LabelledClip(clip.frames, -clip.flow, clip.valid, clip.key, clip.label)
    assert preview.warp_error(wrong)[1] > 50
    nowhere = LabelledClip(clip.frames, clip.flow, np.zeros_like(clip.valid), clip.key, clip.label)
    assert preview.warp_error(nowhere) == (0.0, 0.0)


def test_invalid_pixels_are_pink_and_the_rest_is_grey() -> None:
    frame = np.full((2, 2, 3), (30, 60, 90), np.uint8)
    marked = preview.mark_invalid(frame, np.array([[True, False], [True, True]]))
    assert marked[0, 0].tolist() == [60, 60, 60]
    assert marked[0, 1].tolist() == [206, 15, 135]  # a quarter of 60 and three quarters of (255, 0, 160)


@pytest.mark.parametrize("frames", [2, 3])
def test_contact_sheet_has_a_row_per_clip(frames: int) -> None:
    first, second = moving_clip(3, "a", frames), moving_clip(1, "b", frames)
    figure = preview.contact_sheet({"sim": [first], "cam": [second]}, "title")
    rows = [axes for axes in figure.axes if axes.images]
    wide = frames + 4
    assert len(rows) == 2 * wide
    captions = ("frame t-2", "frame t-1", "frame t")[-frames:]
    assert tuple(axes.get_title() for axes in rows[:wide]) == captions + preview.BESIDE
    shown = [np.asarray(axes.images[0].get_array()) for axes in rows[wide:]]
    for tile, frame in zip(shown, second.frames, strict=False):
        assert (tile == frame.transpose(1, 2, 0)).all()
    assert (shown[frames] == colourise(second.label)).all()
    texts = [t.get_text() for axes in rows for t in axes.texts]
    assert "sim\nclip 0" in texts and "cam\nclip 0" in texts and "7.5 %" in texts  # 3 of 40 columns
    assert "wheel 3.0 px, longest 3.0 px" in texts and "wheel 1.0 px, longest 1.0 px" in texts
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["road", "sky", "ignored"]


def test_contact_sheet_needs_a_clip() -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        preview.contact_sheet({"sim": []})


def test_run_preview_renders_both_domains_from_their_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int, int, tuple[int, int, int]]] = []

    def render(domain: Mixture, world: int, index: int, height: int, width: int, frames: int) -> LabelledClip:
        calls.append((domain.domain, world, index, (height, width, frames)))
        return moving_clip(1, f"{index:05d}", frames, height, width)

    monkeypatch.setattr(ministreet, "render_clip", render, raising=False)
    monkeypatch.setattr(ministreet, "VERSION", 1, raising=False)
    monkeypatch.setattr(ministreet, "spec_json", lambda domain: "{}", raising=False)
    path = preview.run_preview("ministreet-tiny", 2, 0, tmp_path)
    assert path == tmp_path / "ministreet-tiny-s0.png" and b"IEND" in chunks(path)
    assert [(domain, index, size) for domain, _, index, size in calls] == [
        ("sim", 0, (64, 128, 2)), ("sim", 1, (64, 128, 2)), ("cam", 0, (64, 128, 2)), ("cam", 1, (64, 128, 2)),
    ]  # fmt: skip
    worlds = [world for _, world, _, _ in calls]
    assert worlds[0] == worlds[1] != worlds[2] == worlds[3]
    preview.run_preview("ministreet-tiny", 1, 1, tmp_path / "x.png")
    assert calls[4][1] != worlds[0]  # another replicate, another world
    with pytest.raises(UsageError, match=r"clips must be 1\.\.8"):
        preview.run_preview("ministreet-tiny", 9, 0, tmp_path)


def test_a_mixture_is_named_above_the_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift_file: Callable[[dict[str, Any]], str]
) -> None:
    monkeypatch.setattr(ministreet, "render_clip", lambda *_: moving_clip())
    drawn: list[Figure] = []
    monkeypatch.setattr(preview, "save", lambda figure, path, **_: drawn.append(figure) or path)
    light = {"low_sun": 0.25, "night": 0.75}
    target = {"domain": "sim", "with": {"light": light}, "severity": 0.5, "train": 8, "val": 4}
    preview.run_preview(shift_file({"data.target": target}), 1, 0, tmp_path)
    title = drawn[0].get_suptitle().splitlines()
    assert title[1:] == ["target: sim with light: 25 % low_sun / 75 % night (severity 0.5)"]
    texts = [text.get_text() for axes in drawn[0].axes for text in axes.texts]
    assert "sim (source)\nclip 0" in texts and "sim with … (target)\nclip 0" in texts


def test_captions_are_cut_to_the_tile() -> None:
    clip = moving_clip()
    figure = segmentation_panel(clip.frames, clip.label, {"a very long name of a method " * 3: clip.label})
    assert all(len(axes.get_title()) <= 40 for axes in figure.axes)
