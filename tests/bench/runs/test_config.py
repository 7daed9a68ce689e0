"""Names, options and protocols: what is accepted, what is refused and in which words."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.core.errors import UsageError, unknown
from bench.core.registry import ROOT, method_names, shift_names
from bench.runs.config import RunConfig, canonical, hash_of, load_shift, make_run_config, method_class, resolve_settings
from bench.runs.options import parse_options, parse_range
from bench.runs.source import source_identity

ShiftFile = Callable[[dict[str, Any]], str]


# Shifts ---------------------------------------------------------------------------------------------------------------


def test_the_shifts_at_hand_are_valid_and_named_after_their_files() -> None:
    assert {"ministreet", "ministreet-dev", "ministreet-tiny"} <= set(shift_names())
    for name in shift_names():
        assert load_shift(name).name == name


@pytest.mark.parametrize("reported", ["ministreet", "ministreet2"])
def test_dev_is_the_reported_benchmark_on_other_worlds(reported: str) -> None:
    """Word for word, apart from name, title, purpose and family: what is tuned is what is reported."""
    shifts, dev = {}, f"{reported}-dev"
    for name in (reported, dev):
        shifts[name] = yaml.safe_load((ROOT / "shifts" / f"{name}.yaml").read_text(encoding="utf-8"))
        for key in ("name", "title", "purpose"):
            assert shifts[name].pop(key)
        assert shifts[name]["data"].pop("family") == name
    assert shifts[reported] == shifts[dev]
    assert load_shift(reported).purpose == "report" and load_shift(dev).purpose == "tune"


CAUSES = {
    "atlas-materials": {"materials", "texture"},
    "atlas-night": {"light"},
    "atlas-sensor": {"sensor"},
    "atlas-traffic": {"traffic"},
    "atlas-view": {"camera", "layout"},
    "atlas-weather": {"light", "weather"},
}


def test_the_atlas_is_ministreet_2_with_another_target() -> None:
    """Word for word, apart from name, title and target, so that its source models are MiniStreet 2's; each moves one cause."""
    assert {name for name in shift_names() if name.startswith("atlas-")} == set(CAUSES)
    shifts, sources = {}, set()
    for name in ("ministreet2", *CAUSES):
        shifts[name] = yaml.safe_load((ROOT / "shifts" / f"{name}.yaml").read_text(encoding="utf-8"))
        del shifts[name]["name"], shifts[name]["title"]
        target = shifts[name]["data"].pop("target")
        assert (target["domain"], target["train"], target["val"]) == ("city", 500, 100)
        assert set(target["with"]) == CAUSES.get(name, set(target["with"])), name
        assert shifts[name] == shifts["ministreet2"]
        config = make_run_config("stpl", name, 3)
        sources.add(hash_of(source_identity(config, config.protocol)))
    assert len(sources) == 1 and "night" not in load_shift("atlas-weather").data.target.title


def test_severities_are_those_that_the_calibration_kept() -> None:
    """By a drop of source-only of 10 to 20 points on each world that was looked at."""
    with (ROOT.parent / "leaderboards" / "calibration" / "atlas.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["note"].startswith("kept")]
    severities = [(row["shift"], row["seed"], float(row["severity"])) for row in rows]
    expected = [(name, seed, load_shift(name).data.target.severity) for name in CAUSES for seed in "01"]  # type: ignore[union-attr]
    assert sorted(severities) == expected and all(10 <= float(row["drop"]) <= 20 for row in rows)


def test_a_copy_under_another_title_has_the_same_hash_and_any_other_change_another(shift_file: ShiftFile) -> None:
    base = load_shift("ministreet-tiny").hash
    assert load_shift(shift_file({"title": "Something else"})).hash == base
    for change in ({"adaptation.lr": 0.002}, {"data.target.val": 5}, {"evaluation.readout": "teacher"}, {"name": "x"}):
        assert load_shift(shift_file(change)).hash != base, change


def test_what_came_later_is_not_in_the_text_of_what_does_not_use_it(shift_file: ShiftFile) -> None:
    """Hashes of shifts and runs that records were made under; a change here would refuse all of them."""
    assert load_shift("ministreet").hash == "17a50ab9a36a" and load_shift("ministreet-dev").hash == "366d41b5b5f3"
    assert make_run_config("source_only").hash == "aa0e8916f04f"
    assert make_run_config("stpl").hash == "168428c09373" and "label_noise" not in make_run_config("stpl").settings
    noisy = make_run_config("stpl", options={"label_noise": 0.2})
    assert noisy.settings["label_noise"] == 0.2 and noisy.hash != "168428c09373"
    text = load_shift("ministreet").model_dump_json()
    assert not any(word in text for word in ("accumulate", "horizon", "weights", "unscored"))
    assert load_shift(shift_file({"adaptation.accumulate": 2})).hash != load_shift("ministreet-tiny").hash
    short = make_run_config("source_only", steps=4)
    assert short.hash != "aa0e8916f04f" and RunConfig.model_validate_json(short.model_dump_json()) == short
    assert short.protocol.adaptation.steps == 4 and short.protocol.source_training.steps == 4


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"colour": "red"}, "colour", "Unknown key 'colour'. Available: adaptation, classes, data, "),
        ({"adaptation.learning_rate": 1}, "adaptation.learning_rate", "Unknown key 'learning_rate'. "),
        (
            {"purpos": "x", "purpose": ...},
            "purpos",
            "Unknown key 'purpos'. Did you mean 'purpose'? Available: adaptation, ",
        ),
        ({"adaptation.lr": ...}, "adaptation.lr", "Field required"),
        ({"adaptation.lr": "fast"}, "adaptation.lr", "valid number"),
        ({"adaptation.lr": -1}, "adaptation.lr", "greater than 0"),
        ({"adaptation.lr": float("nan")}, "adaptation.lr", "finite number"),
        ({"adaptation.lr": float("inf")}, "adaptation.lr", "finite number"),
        ({"adaptation.momentum": 1.0}, "adaptation.momentum", "less than 1"),
        ({"adaptation.steps": 1.5}, "adaptation.steps", "valid integer"),
        ({"adaptation.steps": 0}, "adaptation.steps", "greater than or equal to 1"),
        ({"adaptation.batch_norm": "both"}, "adaptation.batch_norm", "'target' or 'source'"),
        ({"adaptation.precision": "float16"}, "adaptation.precision", "'float32' or 'bfloat16'"),
        ({"data.source.train": 0}, "data.source.train", "greater than or equal to 1"),
        ({"data.frames": 1}, "data.frames", "greater than or equal to 2"),
        ({"data.source": [1]}, "data.source", "valid dictionary"),
        ({"data.kind": "film"}, "data", "'kind' does not match any of the expected tags: 'ministreet'"),
        ({"classes": ["road"]}, "classes", "at least 2"),
        ({"classes": ["road", "sky"]}, "classes", "train-id order: road, sidewalk"),
        ({"data.target.domain": "moon"}, "data.target.domain is 'moon'", "available: cam, city, sim"),
        ({"data.target.domain": "a\nb"}, "data.target.domain is 'a b'", "available"),
        ({"data.target.domain": "x" * 5000}, "data.target.domain is 'xxx", "..."),
        ({"data.source.train": 1}, "data.source.train (1)", "smaller than the batch (2)"),
        ({"data.target.train": 1}, "data.target.train (1)", "smaller than the batch (2)"),
        ({"evaluation.readout": "both", "evaluation.align_corners": 3}, "evaluation.align_corners", "(and 1 more)"),
    ],
)
def test_a_bad_shift_is_refused_with_the_fields_path(
    changes: dict[str, Any], path: str, says: str, shift_file: ShiftFile
) -> None:
    with pytest.raises(UsageError) as caught:
        load_shift(shift_file(changes))
    message = str(caught.value)
    assert message.startswith("Shift variant-1.yaml: ") and path in message and says in message
    assert message.isprintable() and len(message) < 1200


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: [1, 2", "is not YAML"),
        (b"", "valid dictionary"),
        (b"just text", "valid dictionary"),
        (b"\xff\xfe\x00\x01", "Shift"),
        (b"a: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_a_file_that_is_no_shift(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / f"{os.urandom(4).hex()}.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says) as caught:
        load_shift(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ministret", "ministreet.yml", "/nowhere/at/all.yaml", ""])
def test_an_unknown_shift_names_what_there_is(name: str) -> None:
    with pytest.raises(UsageError, match=r"Unknown shift .* Available: atlas-materials, .*ministreet, ministreet-dev"):
        load_shift(name)


# Names and options ----------------------------------------------------------------------------------------------------


def test_the_nearest_name_is_proposed() -> None:
    assert str(unknown("method", "tsp", ["tps", "da_vsn"])) == (
        "Unknown method 'tsp'. Did you mean 'tps'? Available: da_vsn, tps"
    )
    assert "Did you mean" not in str(unknown("method", "xxxxxxx", ["tps"]))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (("stlp",), r"Unknown method 'stlp'. Did you mean 'stpl'\? Available: adabn, "),
        (("base",), "Unknown method 'base'"),
        (("common",), "Unknown method 'common'"),
        (("stpl", "ministreet-tin"), r"Unknown shift 'ministreet-tin'. Did you mean 'ministreet-tiny'\?"),
        (("stpl", "ministreet-tiny", -1), "seed must be 0 or more, got -1"),
        (("stpl", "ministreet-tiny", 0, {"frames": 1}), "frames must be a whole number of 2 or more, got 1"),
        (("stpl", "ministreet-tiny", 0, {"frames": "three"}), "frames must be a whole number of 2 or more, got three"),
        (("stpl", "ministreet-tiny", 0, {"fusion": "conv1"}), r"Unknown fusion 'conv1'. Did you mean 'conv1x1'\?"),
        (("stpl", "ministreet-tiny", 0, {"flow": "exat"}), r"Unknown flow 'exat'. Did you mean 'exact'\?"),
        (("stpl", "ministreet-tiny", 0, {"flow": "base"}), "Unknown flow 'base'"),
        (("stpl", "ministreet-tiny", 0, {"network": "minni"}), r"Unknown network 'minni'. Did you mean 'mini'\?"),
        (("stpl", "ministreet-tiny", 0, {"network": "build"}), "Unknown network 'build'"),
        (
            ("stpl", "ministreet-tiny", 0, {"temprature": 1}),
            r"Unknown option 'temprature' for method 'stpl'. Did you mean 'temperature'\?",
        ),
        (("adabn", "ministreet-tiny", 0, {"fusio": 1}), r"Did you mean 'fusion'\?"),
        (("stpl", "ministreet-tiny", 0, {"temperature": 0}), r"temperature must be in 0.01..10, got 0"),
        (("stpl", "ministreet-tiny", 0, {"temperature": float("nan")}), "temperature must be in 0.01..10, got nan"),
        (("stpl", "ministreet-tiny", 0, {"temperature": "hot"}), "temperature: Input should be a valid number"),
        (("stpl", "ministreet-tiny", 0, {"temperature": [1, 2]}), "temperature: Input should be a valid number"),
        (("stpl", "ministreet-tiny", 0, {"temperature": True}), "temperature: expected float, got True"),
        (
            ("stpl", "ministreet-tiny", 0, {"pixels_per_class": 1.5}),
            "pixels_per_class: Input should be a valid integer",
        ),
        (("stpl", "ministreet-tiny", 0, {"times": "all"}), "times: Input should be 'both', 'current' or 'previous'"),
        (("stpl", "ministreet-tiny", 0, {"contrast": "maybe"}), "contrast: Input should be a valid boolean"),
        (("stpl", "ministreet-tiny", 0, {"contrast": False, "ce": False}), "nothing is left to learn from"),
        (("self_training", "ministreet-tiny", 0, {"drop": 1.0}), "drop must be in 0..0.99, got 1"),
    ],
)
def test_bad_names_and_options_are_refused_in_one_line(call: tuple[Any, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        make_run_config(*call)
    assert "\n" not in str(caught.value)


def test_an_unknown_method_comes_before_its_options() -> None:
    with pytest.raises(UsageError, match="Unknown method"):
        make_run_config("stlp", "ministreet-tiny", 0, {"nonsense": 1})


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], {}),
        (["a=1", "b=0.5", "c=1e-3", "d=-2", "e=text"], {"a": 1, "b": 0.5, "c": 1e-3, "d": -2, "e": "text"}),
        (["a=true", "b=no"], {"a": True, "b": False}),
        (["fusion=none", "g=null", "h=~"], {"fusion": "none", "g": "none", "h": "none"}),
        (["a="], {"a": ""}),
        (["a=b=c"], {"a": "b=c"}),
    ],
)
def test_options_are_read_as_a_person_means_them(pairs: list[str], expected: dict[str, Any]) -> None:
    options = parse_options(pairs)
    assert options == expected and [type(v) for v in options.values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["fusion"], "'fusion' is not of the form key=value"),
        (["=3"], "'=3' is not of the form key=value"),
        ([""], "not of the form"),
        (["a=1", "a=2"], "'a' is given twice"),
        (["a=[1, 2"], r"'\[1, 2' is not a value"),
        (["a={"], "is not a value"),
        (["a=*x"], "is not a value"),
        (["a=@x"], "is not a value"),
        (["a=x: y: z"], "is not a value"),
    ],
)
def test_malformed_options_are_refused(pairs: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse_options(pairs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "expected"), [("0:3", range(3)), ("2", range(2, 3)), ("4:5", range(4, 5))])
def test_ranges(text: str, expected: range) -> None:
    assert parse_range("--seeds", text) == expected


@pytest.mark.parametrize(
    "text", ["", ":", "3:", ":3", "3:3", "5:2", "-1:2", "-1", "a:b", "1:2:3", "1.5", "9" * 5000, f"0:{1 << 63}"]
)
def test_bad_ranges(text: str) -> None:
    with pytest.raises(UsageError, match="--seeds must be FIRST:END"):
        parse_range("--seeds", text)


@pytest.mark.parametrize("text", ["0:1000000000", "5:10006", f"0:{(1 << 63) - 1}"])
def test_ranges_of_more_than_anyone_means(text: str) -> None:
    with pytest.raises(UsageError, match=r"--seeds .*: these are \d+; one command takes at most 10000"):
        parse_range("--seeds", text)
    assert len(parse_range("--seeds", "5:10005")) == 10_000


# Run configs ----------------------------------------------------------------------------------------------------------


def test_defaults_are_written_out_and_explicit_defaults_are_the_same_run() -> None:
    plain = make_run_config("stpl", "ministreet-tiny")
    defaults = method_class("stpl").Settings(**resolve_settings("stpl", {}))
    assert plain.settings["temperature"] == defaults.temperature and (plain.fusion, plain.flow) == ("conv1x1", "exact")
    explicit = {"fusion": "conv1x1", "flow": "exact", "network": "mini"}
    explicit |= {"temperature": defaults.temperature, "ema_decay": defaults.ema_decay}
    assert make_run_config("stpl", "ministreet-tiny", 0, explicit).hash == plain.hash
    assert make_run_config("stpl", "ministreet-tiny", 0, {"pixels_per_class": 128.0}).hash == plain.hash


def test_every_part_of_a_config_is_in_its_hash() -> None:
    configs = [
        make_run_config("stpl", "ministreet-tiny"),
        make_run_config("self_training", "ministreet-tiny"),
        make_run_config("stpl", "ministreet-dev"),
        make_run_config("stpl", "ministreet-tiny", 1),
        *(make_run_config("stpl", "ministreet-tiny", 0, {k: v}) for k, v in
          {"fusion": "none", "flow": "zero", "temperature": 0.2, "ce": False}.items()),
    ]  # fmt: skip
    assert len({config.hash for config in configs}) == len(configs)
    assert all(len(config.hash) == 12 and int(config.hash, 16) >= 0 for config in configs)


def test_a_config_survives_json() -> None:
    config = make_run_config("stpl", "ministreet-tiny")
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_canonical_json_does_not_depend_on_order() -> None:
    assert canonical({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    assert hash_of({"b": 1, "a": 2}) == hash_of({"a": 2, "b": 1}) != hash_of({"a": 2, "b": 2})


@pytest.mark.parametrize("method", method_names())
def test_settings_of_a_method_are_complete_and_stay_the_same_when_resolved_again(method: str) -> None:
    settings = resolve_settings(method, {})
    assert resolve_settings(method, settings) == settings
    assert method_class(method).Settings(**settings)
