"""Mixtures of domains: refused or well defined, worked out by hand where numbers can be, and one group at a time."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.errors import UsageError
from bench.core.provenance import cpu_name
from bench.core.schema import hash_of, whole_text
from bench.core.workspace import Workspace
from bench.data.labels import IGNORE, TRAIN_ID
from bench.data.ministreet import DOMAINS, VARIANTS, domains, get_domain, render_clip, spec_json
from bench.data.ministreet.domains import FROZEN
from bench.data.ministreet.mixture import _BETWEEN, towards
from bench.data.ministreet.render import of_clip, random_parts
from bench.data.ministreet.scene import Surfaces
from bench.data.rendered import RENDERED_WITH, ClipStore, libraries, prepare_split, split_identity
from bench.runs.config import load_shift, make_run_config
from bench.runs.run import run
from bench.shifts.protocol import Mixture, Shift

WORLD = 970_100
"""A world that no split uses."""

ShiftFile = Callable[[dict[str, Any]], str]


def side(**settings: Any) -> dict[str, Any]:
    """A shift's side as its YAML has it."""
    return {"domain": "sim", "train": 8, "val": 4, **settings}


def mixture(base: str = "city", severity: float = 1.0, **groups: Any) -> Mixture:
    return Mixture.model_validate({"domain": base, "with": groups, "severity": severity})


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("settings", "path", "says"),
    [
        ({"severity": 0.5}, "severity: ", "there are no groups"),
        (
            {"with": {"light": "night"}, "strength": 1},
            "strength: ",
            "Available: domain, severity, train, val, with",
        ),
        ({"with": {"light": "night"}, "severity": 0}, "severity: ", "greater than 0"),
        ({"with": {"light": "night"}, "severity": 2}, "severity: ", "less than or equal to 1"),
        ({"with": {"light": 7}}, "with.light: ", "valid dictionary"),
        ({"with": {"light": {}}}, "with.light: ", "at least 1"),
        ({"with": {"lihgt": "night"}}, "with: ", "Did you mean 'light'?"),
        ({"with": {"light": "nihgt"}}, "with.light: ", "Did you mean 'night'?"),
        ({"with": {"light": {"night": 0.5}}}, "with.light: ", "they are 0.5"),
        ({"with": {"light": {"night": -1, "sim": 2}}}, "with.light.night: ", "greater than 0"),
        ({"with": {"sensor": "sim"}}, "with.sensor: ", "'sim' has already"),
        ({"domain": "city", "with": {"light": "noon"}}, "with.light: ", "'city' has already"),
        ({"domain": "moon", "with": {"light": "night"}}, "domain is 'moon'", "available: cam, city, sim"),
    ],
)
def test_an_impossible_mixture_is_refused_in_one_line(
    settings: dict[str, Any], path: str, says: str, shift_file: ShiftFile
) -> None:
    with pytest.raises(UsageError) as caught:
        load_shift(shift_file({"data.target": side(**settings)}))
    message = str(caught.value)
    assert f": data.target.{path}" in message and says in message and "\n" not in message, message


@pytest.mark.parametrize(
    ("settings", "path", "frozen"),
    [
        ({"domain": "sim", "with": {"camera": "lorry"}}, "with.camera: 'lorry'", ["cam", "city", "sim", "van"]),
        (
            {"domain": "sim", "with": {"sensor": {"cam": 0.5, "webcam": 0.5}}},
            "with.sensor: 'webcam'",
            ["cam", "city", "dashcam", "sim"],
        ),
    ],
)
def test_a_reported_shift_takes_only_what_is_frozen(
    settings: dict[str, Any], path: str, frozen: list[str], shift_file: ShiftFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same mixture is allowed in a private shift, and one of frozen parts in a reported one."""
    monkeypatch.setattr(domains, "FROZEN", {**FROZEN, "camera": ("van",), "sensor": ("dashcam",)})
    with pytest.raises(UsageError) as caught:
        load_shift(shift_file({"data.target": side(**settings), "purpose": "report"}))
    message = str(caught.value)
    assert f": data.target.{path} may still change" in message and "\n" not in message, message
    assert frozen == message.rsplit(": ", 1)[1].split(", ")
    assert load_shift(shift_file({"data.target": side(**settings), "purpose": "private"}))
    assert load_shift(shift_file({"data.target": side(**{"with": {"light": "cam"}}), "purpose": "report"}))


# ------------------------------------------------------------------------------------------------ what is frozen

CLIPS = {
    ("", "city"): 211568521,
    ("camera", "van"): 599497761,
    ("camera", "lorry"): 3944050276,
    ("layout", "oldtown"): 3302268040,
    ("layout", "village"): 3042764881,
    ("traffic", "market"): 2623921315,
    ("traffic", "crowd"): 12767576,
    ("texture", "worn"): 262437310,
    ("materials", "oldtown"): 2376720777,
    ("light", "noon"): 211568521,  # the city's own
    ("light", "overcast"): 3508214218,
    ("light", "low_sun"): 3680632864,
    ("light", "night"): 826244701,
    ("weather", "dry"): 211568521,
    ("weather", "rain"): 3638367762,
    ("weather", "fog"): 2422833989,
    ("sensor", "dashcam"): 1772898786,
    ("sensor", "webcam"): 1561350165,
}
"""CRC-32 of frames, flow and label of one clip of the city with one group changed, on an AMD EPYC."""


@pytest.mark.skipif(
    libraries() != RENDERED_WITH or not cpu_name().startswith("AMD"),
    reason="pixels depend on the libraries' versions, and by rounding on the maker of the processor",
)
@pytest.mark.parametrize(("group", "variant"), sorted(CLIPS))
def test_frozen_variants_give_the_clips_that_they_gave(group: str, variant: str) -> None:
    unchanged = not group or getattr(DOMAINS["city"], group) == VARIANTS[group][variant]
    clip = render_clip("city" if unchanged else mixture(**{group: variant}), WORLD, 1, 48, 96, 3)
    assert zlib.crc32(clip.frames.tobytes() + clip.flow.tobytes() + clip.label.tobytes()) == CLIPS[group, variant]


def test_every_frozen_variant_has_a_clip() -> None:
    of_groups = {(group, name) for group, names in FROZEN.items() for name in names if group != "domain"}
    assert of_groups | {("", "city")} == set(CLIPS)


MIXED = {
    "ministreet2": "aa50401ff525",
    "atlas-materials": "f340a5a57172",
    "atlas-night": "75af056fcf2a",
    "atlas-sensor": "d365f6b9e860",
    "atlas-traffic": "d076b1927880",
    "atlas-view": "52f9c5a69da9",
    "atlas-weather": "94ef9ceaaa5a",
}
"""Hash of the parameters of reported targets, severity and shares worked in."""


@pytest.mark.parametrize("shift", MIXED)
def test_reported_mixtures_have_the_parameters_that_they_had(shift: str) -> None:
    assert hash_of(spec_json(load_shift(shift).data.target)) == MIXED[shift]


# -------------------------------------------------------------------------------------------------- interpolation


def test_each_kind_of_parameter_is_interpolated_as_said() -> None:
    """Worked out by hand at severity 0.25: 4 + 0.25 (8 - 4) = 5, and so on."""
    assert _BETWEEN["float"](4.0, 8.0, 0.25) == 5
    assert _BETWEEN["Range"]((0.0, 4.0), (8.0, 8.0), 0.25) == (2, 5)
    assert _BETWEEN["Count"]((0, 1), (2, 3), 0.25) == (1, 2)  # 0.5 and 1.5, halves go up
    palette = _BETWEEN["tuple[Colour, ...]"](((0, 0, 0), (100, 100, 100)), ((40, 80, 120),), 0.25)
    assert palette == ((10, 20, 30), (85, 95, 105))
    names = [_BETWEEN["tuple[str, ...]"](("a",), ("b",), s) for s in (0.25, 0.49, 0.5, 0.75)]
    assert names == [("a",), ("a",), ("b",), ("b",)]


def test_groups_go_from_base_to_variant() -> None:
    base, variant = DOMAINS["sim"], DOMAINS["cam"]
    half = get_domain(mixture("sim", 0.5, camera="cam"))
    assert half.camera.step == pytest.approx((1.25, 2.5))  # sim 1..2, cam 1.5..3
    assert half.camera.pitch_jitter == pytest.approx(0.25)  # 0.15, 0.35
    assert half.layout == base.layout and half.traffic == base.traffic
    assert get_domain(mixture("sim", camera="cam")).camera == variant.camera
    assert get_domain(mixture("sim", 1e-9, camera="cam")).camera.step == pytest.approx(base.camera.step)


def test_a_share_of_the_surfaces_is_of_the_other_material() -> None:
    """A quarter of 400 kerbs has the colour of a kerb that is pure red; the others have the base's own."""
    red = dataclasses.replace(DOMAINS["sim"].material("kerb"), palette=((255, 0, 0),), brightness=0, hue=0)
    reddened = tuple((name, red if name == "kerb" else m) for name, m in DOMAINS["sim"].materials)
    spec = dataclasses.replace(DOMAINS["sim"], materials=towards(DOMAINS["sim"].materials, reddened, 0.25))
    surfaces = Surfaces(spec, np.random.default_rng(0))
    kerbs = [surfaces.add("kerb", TRAIN_ID["sidewalk"]) for _ in range(400)]
    green = surfaces.freeze().base[kerbs, 1]
    assert (green < 0.1).mean() == pytest.approx(0.25, abs=0.06)


def test_every_type_of_parameter_can_be_interpolated() -> None:
    for group, variants in VARIANTS.items():
        for base in DOMAINS.values():
            for name, variant in variants.items():
                between = towards(getattr(base, group), variant, 0.4)
                assert type(between) is type(variant), (group, name)


def test_materials_of_every_variant_have_the_same_names() -> None:
    names = {name: [m for m, _ in materials] for name, materials in VARIANTS["materials"].items()}  # type: ignore[union-attr]
    assert all(material_names == names["city"] for material_names in names.values())


# ------------------------------------------------------------------------------------------------------- identity


def test_old_domains_are_named_as_before() -> None:
    """Hashes of the splits of the first MiniStreet, replicate 0, as they were before there were mixtures."""
    data = load_shift("ministreet").data
    hashes = [
        hash_of(split_identity(data, role, split, 0)) for role in ("source", "target") for split in ("train", "val")
    ]
    assert hashes == ["f612c9036fc3", "6bf7fde20a02", "eef40560e850", "595cc30a61e0"]
    assert "weather" not in spec_json("sim") and "own_draws" not in spec_json("cam")


def test_the_mixture_is_part_of_the_identity(shift_file: ShiftFile) -> None:
    def identity(target: Any) -> dict[str, Any]:
        return split_identity(load_shift(shift_file({"data.target": side(**target)})).data, "target", "val", 0)

    base = {"domain": "city", "with": {"light": "night", "sensor": "cam"}}
    turned = {"domain": "city", "with": {"sensor": "cam", "light": "night"}, "severity": 1}
    assert hash_of(identity(base)) == hash_of(identity(turned))
    variants = [
        {**base, "severity": 0.5},
        {**base, "domain": "sim"},
        {**base, "with": {"light": "night"}},
        {**base, "with": {"light": "low_sun", "sensor": "cam"}},
        {"domain": "city"},
    ]
    hashes = [hash_of(identity(target)) for target in [base, *variants]]
    assert len(set(hashes)) == len(hashes)
    assert identity(base)["spec"]["light"]["lamps"] and json.dumps(identity(base))


def test_the_order_of_shares_does_not_matter() -> None:
    a = mixture(light={"night": 0.3, "low_sun": 0.7})
    b = mixture(light={"low_sun": 0.7, "night": 0.3})
    assert get_domain(a) == get_domain(b) and hash_of(a.model_dump(mode="json")) == hash_of(b.model_dump(mode="json"))


def test_a_mixture_says_what_it_is() -> None:
    assert mixture(sensor="cam", severity=0.5).title == "city with sensor: cam (severity 0.5)"
    assert mixture(light={"night": 0.3, "noon": 0.7}).title == "city with light: 30 % night / 70 % noon"
    assert Mixture(domain="city").title == "city"


def test_a_shift_with_a_mixture_is_read_back_whole(shift_file: ShiftFile) -> None:
    """Its text for another process gives the same shift; what has no groups has the text that it had before."""
    shift = load_shift(shift_file({"data.target": side(severity=0.5, **{"with": {"light": {"night": 1}}})}))
    restored = Shift.model_validate_json(whole_text(shift))
    assert restored.data == shift.data and restored.hash == shift.hash
    assert shift.hash != load_shift(shift_file({"data.target": side(**{"with": {"light": "night"}})})).hash
    assert load_shift("ministreet").data.target.model_dump() == {"domain": "cam", "train": 300, "val": 100}


# ------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    ("group", "variant"),
    [
        ("light", "night"), ("light", "low_sun"), ("light", "overcast"), ("weather", "rain"), ("weather", "fog"),
        ("sensor", "dashcam"), ("materials", "oldtown"), ("texture", "worn"),
    ],
)  # fmt: skip
def test_one_cause_moves_nothing_else(group: str, variant: str) -> None:
    """Light, weather, sensor, materials and texture leave the street where it is: labels and flow are the base's."""
    domain = get_domain(mixture(**{group: variant}))
    for index in range(3):
        base, varied = render_clip("city", WORLD, index, 48, 96, 3), render_clip(domain, WORLD, index, 48, 96, 3)
        for name in ("label", "flow", "valid"):
            np.testing.assert_array_equal(getattr(base, name), getattr(varied, name))
        assert np.abs(base.frames.astype(int) - varied.frames).mean() > 2


def test_camera_and_layout_move_the_street() -> None:
    for groups in ({"camera": "van"}, {"layout": "oldtown"}, {"traffic": "market"}):
        clip = render_clip(mixture(**groups), WORLD, 0, 48, 96)
        assert (clip.label != render_clip("city", WORLD, 0, 48, 96).label).mean() > 0.05, groups


def test_shares_are_those_of_the_clips() -> None:
    domain = get_domain(mixture(light={"night": 0.25, "low_sun": 0.75}, weather={"dry": 0.5, "rain": 0.2, "fog": 0.3}))
    lights, weathers = [], []
    for index in range(400):
        clip = of_clip(domain, random_parts(domain.name, WORLD, index))
        assert clip.alternatives == () and clip.materials == DOMAINS["city"].materials
        lights.append(clip.light == VARIANTS["light"]["night"])
        weathers.append(next(name for name, spec in VARIANTS["weather"].items() if spec == clip.weather))
    assert np.mean(lights) == pytest.approx(0.25, abs=0.06)  # three standard errors of 400 draws: 0.065
    assert weathers.count("rain") / 400 == pytest.approx(0.2, abs=0.06)
    assert weathers.count("fog") / 400 == pytest.approx(0.3, abs=0.06)
    together = np.mean([a and b == "fog" for a, b in zip(lights, weathers, strict=True)])
    assert together == pytest.approx(0.25 * 0.3, abs=0.04)  # one says nothing about the other


THREE_FRAMES = {
    "data.frames": 3,
    "data.target": side(**{"with": {"light": {"night": 0.5, "sim": 0.5}, "sensor": "dashcam"}, "severity": 0.7}),
}


def test_a_mixture_of_three_frames_is_stored_with_both_flows(shift_file: ShiftFile, tmp_path: Path) -> None:
    data = load_shift(shift_file(THREE_FRAMES)).data
    store = ClipStore(prepare_split(data, "target", "val", 0, tmp_path))
    clip = store.labelled(1)
    assert clip.frames.shape[0] == 3 and clip.flow.shape[0] == clip.valid.shape[0] == 2
    world = split_identity(data, "target", "val", 0)["world"]
    expected = render_clip(data.target, world, 1, data.height, data.width, 3)
    for name in ("frames", "flow", "valid", "label"):
        np.testing.assert_array_equal(getattr(clip, name), getattr(expected, name))
    short = render_clip(data.target, world, 1, data.height, data.width, 2)
    assert np.array_equal(short.frames, clip.frames[1:]) and set(np.unique(clip.label)) <= {*range(15), IGNORE}


def test_a_run_on_three_frames_of_a_mixture(shift_file: ShiftFile, workspace: Workspace, no_figures: None) -> None:
    """Source model with jitter, statistics and scores on clips of three frames along estimated flow."""
    small = {"data.height": 32, "data.width": 64, "source_training.steps": 3, "source_training.jitter": 0.4}
    shift = shift_file({**THREE_FRAMES, **small, "flow": "dis"})
    record = run(make_run_config("adabn", shift), workspace)
    assert record.shift_hash == load_shift(shift).hash and 0 < record.result.miou < 100
