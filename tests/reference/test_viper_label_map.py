"""VIPER's raw label pictures to train ids with the ego-vehicle rule, and the published label maps, sizes and palettes."""

import io
import json
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.datasets import dataset
from bench.data.datasets.viper import CAR, CLASSES, without_ego
from bench.data.label_maps import label_space, named_space
from bench.data.labels import CLASSES as MINISTREET
from bench.data.labels import PALETTE

FILE = "viper_label_map"


@pytest.fixture
def maps(request):
    option = request.config.getoption("--vectors", default=None)
    folder = (
        Path(option) if option and (Path(option) / "label_maps.json").is_file() else Path(__file__).parent / "vectors"
    )
    return json.loads((folder / "label_maps.json").read_text())


@pytest.mark.cases("in_viper_label")
def test_the_vectors_as_files(case, tmp_path):
    table = named_space("viper2cityscapes").ids["viper"]
    raw = case["in_viper_label"]
    colours = np.array([colour for _, colour in CLASSES], np.uint8)
    for name, pixels in (("ids", raw), ("colours", colours[np.minimum(raw, 31)])):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        train = dataset("viper").read_label(tmp_path / f"{name}.png", table)
        np.testing.assert_array_equal(train, case["out_train_label"], err_msg=name)


def by_breadth_first_search(raw):
    """The rule, one pixel at a time."""
    height, width = raw.shape
    out, queue = raw.copy(), deque([(height - 1, width // 2)])
    if raw[-1, width // 2] != CAR:
        return out
    while queue:
        y, x = queue.popleft()
        if not (0 <= y < height and 0 <= x < width) or out[y, x] != CAR:
            continue
        out[y, x] = 0
        queue.extend((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
    return out


@pytest.mark.parametrize("seed", range(20))
def test_the_ego_rule_on_random_pictures(seed):
    rng = np.random.default_rng(seed)
    raw = rng.choice(np.array([3, CAR, 25], np.uint8), (11, 14), p=[0.4, 0.45, 0.15])
    before = raw.copy()
    np.testing.assert_array_equal(without_ego(raw), by_breadth_first_search(raw))
    np.testing.assert_array_equal(raw, before)


def table_of(pairs, default=255):
    table = np.full(256, default, np.uint8)
    for raw, train in pairs.items():
        if int(raw) >= 0:
            table[int(raw)] = train
    return table


def test_published_maps_of_viper(maps):
    entry, space = maps["viper_to_cityscapes_seq"], named_space("viper2cityscapes")
    np.testing.assert_array_equal(space.ids["viper"], table_of(entry["viper_id_to_train_id"]))
    np.testing.assert_array_equal(space.ids["cityscapes_seq"], table_of(entry["cityscapes_label_id_to_train_id"]))
    assert [list(c) for c in space.palette] == entry["palette_rgb"]
    published = [name.replace("motocycle", "motorcycle") for name in entry["class_names"]]
    assert list(space.classes) == published == list(MINISTREET)
    assert space.palette == PALETTE and space.skipped == () and space.scored == tuple(range(15))
    assert [name for name, _ in CLASSES] == entry["viper_raw_id_names"]


def test_published_maps_of_synthia(maps):
    entry, space = maps["synthia_seq_to_cityscapes_seq"], named_space("synthia2cityscapes")
    np.testing.assert_array_equal(space.ids["synthia_seq"], table_of(entry["synthia_id_to_train_id"]))
    np.testing.assert_array_equal(space.ids["cityscapes_seq"], table_of(entry["cityscapes_label_id_to_train_id"]))
    assert [list(c) for c in space.palette] == entry["palette_rgb"]
    assert list(space.classes) == entry["class_names"]
    assert list(space.scored) == entry["evaluated_train_ids"] and space.skipped == ("fence",)
    assert label_space(space.classes) is space


def test_label_ids_lead_back_to_their_class():
    for name in ("viper2cityscapes", "synthia2cityscapes"):
        space = named_space(name)
        assert [space.ids["cityscapes_seq"][i] for i in space.label_ids] == list(range(len(space.classes)))


def test_published_sizes_and_counts(maps):
    facts = {fact["name"]: fact["value"] for fact in maps["facts"]}
    viper, synthia, cityscapes = (dataset(name) for name in ("viper", "synthia_seq", "cityscapes_seq"))
    counts = [viper.counts["train"], synthia.counts["train"], cityscapes.counts["train"], cityscapes.counts["val"]]
    assert counts == facts["list lengths VIPER train / SYNTHIA train / Cityscapes train / val"]
    assert list(synthia.size[::-1]) == facts["source input size (W,H) SYNTHIA after the bottom cut"]
    assert list(cityscapes.size[::-1]) == facts["test output size (W,H)"]


def test_the_rule_comes_after_the_resize(tmp_path):
    """A one-pixel gap between two cars is lost by the resize: then they are one component, and both go."""
    raw = np.full((40, 60), 3, np.uint8)
    raw[20:, 25:36] = CAR
    raw[20:, 36] = 3
    raw[20:, 37:50] = CAR
    buffer = io.BytesIO()
    Image.fromarray(raw).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    table = named_space("viper2cityscapes").ids["viper"]
    full = dataset("viper").read_label(tmp_path / "a.png", table)
    half = dataset("viper").read_label(tmp_path / "a.png", table, (20, 30))
    car = MINISTREET.index("car")
    assert (full[20:, 25:36] == 255).all() and (full[20:, 37:50] == car).all()
    small = np.asarray(Image.fromarray(raw).resize((30, 20), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(half, table[by_breadth_first_search(small)])
    assert not (half == car).any()  # the gap is gone
