"""The steps of MiniStreet's drawing: pixels of rectangles, groups of things drawn together, hiding by depth."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.ministreet import DOMAINS, patches, solids
from bench.data.ministreet.buffers import groups, pixels, reveal
from bench.data.ministreet.raster import render_buffers
from bench.data.ministreet.render import random_parts, sample_scene
from bench.data.ministreet.sensor import pick


def test_pixels_of_rectangles() -> None:
    """In a picture of four columns: rows 1 and 2 of columns 0 and 1, nothing, and row 0 of column 2."""
    numbers, counts = pixels(np.array([[1, 3, 0, 2], [0, 0, 0, 0], [0, 1, 2, 3]]), 4)
    assert numbers.tolist() == [4, 5, 8, 9, 2] and counts.tolist() == [4, 0, 1]


def test_groups_keep_the_order_and_leave_out_what_is_not_in_view() -> None:
    """Of 2**16 pixels together, or of a quarter of a large frame; each thing has 2**15, the third none."""
    bounds = np.array([[0, 128, 0, 256], [0, 128, 0, 256], [0, 0, 0, 0], [0, 128, 0, 256], [0, 128, 0, 256]])
    order = np.array([4, 2, 0, 3, 1])
    assert [g.tolist() for g in groups(bounds, order, 2**15)] == [[4], [0, 3], [1]]
    assert [g.tolist() for g in groups(bounds, order, 2**20)] == [[4, 0, 3, 1]]
    assert groups(bounds[2:3], np.array([0]), 2**15) == []


def test_the_nearer_hides_and_the_first_of_two_as_near_stays() -> None:
    """Three pixels and two things; the second sees pixel 0 behind the first, pixel 1 as near, pixel 2 in front of the buffer."""
    buffer = np.array([9, 9, 4], np.float32)
    depth = np.array([1, 2, 5, 3, 2, 3], np.float32)
    at, fragments = reveal(buffer, np.array([0, 1, 2, 0, 1, 2]), depth, np.array([3, 3]))
    assert at.tolist() == [0, 1, 2] and fragments.tolist() == [0, 1, 5] and buffer.tolist() == [1, 2, 3]


def test_what_is_seen_through_hides_nothing() -> None:
    buffer = np.array([9, 9], np.float32)
    at, fragments = reveal(
        buffer, np.array([0, 1]), np.array([1, 1], np.float32), np.array([2]), lambda k, front: front[front != 0]
    )
    assert at.tolist() == [1] and fragments.tolist() == [1] and buffer.tolist() == [9, 1]


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_things_drawn_together_are_things_drawn_one_by_one(domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = sample_scene(DOMAINS[domain], random_parts(domain, 31_337, 0), 64, 128, 2)
    together = render_buffers(scene.world, scene.cameras[1], 1)
    for module in (patches, solids):
        monkeypatch.setattr(
            module, "groups", lambda *arguments: [k for g in groups(*arguments) for k in np.split(g, len(g))]
        )
    alone = render_buffers(scene.world, scene.cameras[1], 1)
    assert len(np.unique(together.primitive)) > 10
    for name in ("depth", "primitive", "surface", "u", "v", "facing", "tone"):
        np.testing.assert_array_equal(getattr(together, name), getattr(alone, name), name)


def test_pick_draws_what_choice_draws() -> None:
    pick_rng, choice_rng = np.random.default_rng(1), np.random.default_rng(1)
    options = [0.0, 0.0, 0.6, 1.5, -1.0]
    assert [pick(pick_rng, options) for _ in range(50)] == [float(choice_rng.choice(options)) for _ in range(50)]
