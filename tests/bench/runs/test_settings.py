"""Layers of settings: published, tuned, given with `-o`; and the hashes of what was run before there were layers."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import RunError, UsageError
from bench.core.registry import method_names, shift_names
from bench.core.workspace import Workspace
from bench.leaderboards import settings_page
from bench.leaderboards.standings import admit
from bench.runs.config import (
    alterations,
    effective_settings,
    every_setting,
    load_shift,
    make_run_config,
    method_class,
    resolve_settings,
)
from bench.runs.options import parse_options
from bench.runs.records import read_record
from bench.runs.run import run
from bench.runs.settings import revision_of, settings_of
from methods.base import by_hand, trial, tuned_on

ROOT = Path(__file__).resolve().parents[3]
RECORDS = sorted((ROOT / "leaderboards" / "records").glob("*/*.json"))
REPORTED = ["cityscapes2camvid", "ministreet", "ministreet2", "synthia2cityscapes", "viper2cityscapes"]
ShiftFile = Callable[[dict[str, Any]], str]


@pytest.mark.parametrize("method", sorted({path.name.rsplit("-s", 1)[0] for path in RECORDS}))
def test_every_committed_record_is_made_again_under_its_name(method: str) -> None:
    """From its method and the options that it names, a config of today has the hash that the record was filed under."""
    paths = [path for path in RECORDS if path.name.startswith(f"{method}-s")]
    assert paths
    for path in paths:
        record = read_record(path)
        old = record.config
        if old.revision != revision_of(method, old.settings):
            with pytest.raises(RunError, match=rf"{path.name} was made with revision {old.revision} of '{method}'"):
                admit(record, load_shift(old.shift), path.name)
            continue
        admit(record, load_shift(old.shift), path.name)
        config = make_run_config(old.method, old.shift, old.seed, parse_options(list(alterations(old))))
        assert config.hash == record.run == old.hash, f"{path.name}: {config.hash}"
        assert every_setting(config) == every_setting(old), path.name


def settings_names(method: str) -> set[str]:
    return {f.name for f in dataclasses.fields(method_class(method).Settings)}


LOG = ROOT / "leaderboards" / "tuning" / "log.csv"


def searches() -> dict[tuple[str, str, str], list[dict[str, str]]]:
    """Rows of the tuning log by development shift, method and variant."""
    shifts = {load_shift(name).hash: name for name in shift_names() if load_shift(name).purpose == "tune"}
    by_search: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    with LOG.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            variant = " teacher=none" if json.loads(row["config"]).get("teacher") == "none" else ""
            by_search.setdefault((shifts[row["shift_hash"]], row["method"], variant), []).append(row)
    return by_search


@pytest.mark.parametrize("shift", sorted({shift for shift, *_ in searches()}))
def test_what_a_search_chose_stands_in_its_log(shift: str) -> None:
    """``trial(n, ...)`` beside a method's settings is the row ``n`` of the log, digit for digit, and its best one; every method
    that was searched there had six tries, and what has values from a search stands in the log."""
    of_shift = {(m, v): rows for (s, m, v), rows in searches().items() if s == shift and m in method_names()}
    assert ("stpl", " teacher=none") in of_shift  # it has a search of its own
    for (method, variant), rows in sorted(of_shift.items()):
        assert len(rows) == 6, method
        layer = method_class(method).TUNED[f"{shift}{variant}"]
        tuned = {name: value for name, value in layer.items() if value.origin == "tuned"}
        source = {value.source for value in tuned.values()}
        if not tuned and method_class(method).revision(None) > 1:
            continue  # its search was one of an earlier revision
        assert len(source) == 1, method
        number = source.pop().removeprefix("trial ")
        row = next(row for row in rows if row["trial"] == number)
        drawn = json.loads(row["searched"])
        if variant:
            drawn.pop("ema_decay")  # of a teacher that there is not
        assert drawn == {name: value.value for name, value in tuned.items()}, method
        assert float(row["miou"]) == max(float(candidate["miou"]) for candidate in rows), method
    for method in method_names():
        for name, layer in method_class(method).TUNED.items():
            base_shift, _, variant = name.partition(" ")
            if base_shift == shift and any(value.origin == "tuned" for value in layer.values()):
                assert (method, f" {variant}".rstrip()) in of_shift


@pytest.mark.parametrize("method", method_names())
def test_layers_name_settings_and_shifts_that_there_are(method: str) -> None:
    cls = method_class(method)
    for name, layer in cls.TUNED.items():
        assert name.split()[0] in shift_names() and load_shift(name.split()[0]).purpose == "tune"
        assert set(layer) <= settings_names(method), method
    for shift in map(load_shift, shift_names()):
        for key, value in effective_settings(method, {}, shift).items():
            assert value.origin in ("published", "ours", "tuned") and value.source, f"{method} {key}: {value}"


# Published values, written down a second time from the published code: a slip in a method's file shows here. ---------------

_ADVENT = {"adversarial_weight": 0.001, "discriminator_lr": 1e-4, "width": 64, "judged_stride": 1}
_STRONG = {"jitter": 0.8, "hue": 0.2, "jitter_probability": 0.8, "grey_probability": 0.2, "blur_probability": 0.6}
_STRONG |= {"blur": 9.0, "low": 80, "high": 119, "auxiliary": 0.1}
PUBLISHED: dict[str, dict[str, Any]] = {
    "pixmatch": {"ema_decay": 0.999, "weight": 0.1, "auxiliary": 0.1, "threshold": 0.0, "fraction": 0.01}
    | {"augmentation": "photometric"},
    "fda": {"entropy_weight": 0.005, "entropy_from": 0.5, "eta": 2.0, "drop": 0.66, "cap": 0.9, "labelling": "eval"},
    "tps": {**_STRONG, "weight": 0.1},
    "tps_sf": _STRONG,
    "da_vsn": {**_ADVENT, "itcr_weight": 0.001},
    "vat_vst": {**_ADVENT, "cap": 0.9},
    "rda": {
        **_ADVENT,
        "consistency_weight": 1.0,
        "attack_weight": 0.0002,
        "attacked_share": 0.1,
        "low": 80,
        "high": 119,
    },
    "ur": {"portion": 0.2, "entropy_weight": 1.0, "diversity_weight": 0.0, "decoder_weight": 0.1, "decoders": 4}
    | {"channel_dropout": 0.5, "rounds": 1, "every": 10, "max_zoom": 1.5, "min_zoom": 0.5, "growth": 0.05}
    | {"labelling": "eval"},
    "hcl": {"auxiliary": 0.5, "contrast_weight": 0.5, "temperature": 0.07, "ema_decay": 0.996, "refresh": 300}
    | {"rounds": 1, "drop": 0.0, "max_zoom": 1.5, "labelling": "eval"},
    "cmom": {"share": 0.75, "alignment_weight": 0.01, "memory": 50, "kept": 0.2, "power": 8.0, "rounds": 1}
    | {"labelling": "eval"},
    "iapc": {"importance_weight": 0.2, "enhanced_weight": 0.5, "symmetric_weight": 0.04, "entropy_weight": 2.0}
    | {"memory_decay": 0.9999, "largest": 7.0, "labelling": "eval"},
    "dt_st": {"ema_decay": 0.99, "first": 9, "every": 3, "longest": 30, "samples": 100, "upper": 0.8}
    | {"negative_weight": 0.5, "share": 0.5, "labelling": "eval"},
    "self_training": {"ema_decay": 0.999, "cap": 0.9},
    "vat_vst_sf": {"cap": 0.9},
    "stpl": {"cap": 0.9},
}


@pytest.mark.parametrize("shift", ["viper2cityscapes", "synthia2cityscapes"])
@pytest.mark.parametrize("method", sorted(PUBLISHED))
def test_a_real_shift_runs_with_what_is_published(method: str, shift: str) -> None:
    expected = PUBLISHED[method] | ({"weight": 1.0} if (method, shift) == ("tps", "synthia2cityscapes") else {})
    effective = effective_settings(method, {}, load_shift(shift))
    published = {key: value.value for key, value in effective.items() if value.origin == "published"}
    assert published == expected
    config = make_run_config(method, shift, options={"flow": "dis"})
    method_settings = settings_of(method, config.settings)  # what `bench run` hands to the method
    assert {key: getattr(method_settings, key) for key in expected} == expected


def test_the_layers_lie_in_order() -> None:
    """Published, under what was tuned where the shift takes that, under what the run asks for."""
    real, rendered = load_shift("viper2cityscapes"), load_shift("ministreet")
    assert rendered.settings == load_shift("ministreet-dev").settings != real.settings == "published"
    origins = {}
    for shift in (real, rendered):
        effective = effective_settings("pixmatch", {"threshold": 0.3}, shift)
        origins[shift.name] = {key: (value.value, value.origin) for key, value in effective.items()}
    assert origins["viper2cityscapes"]["ema_decay"] == (0.999, "published")
    assert origins["ministreet"]["ema_decay"] == (0.9, "tuned")
    assert origins["ministreet"]["strength"] == (0.5, "ours")
    for origin_of in origins.values():
        assert origin_of["threshold"] == (0.3, "-o")
    assert resolve_settings("pixmatch", {}) == resolve_settings("pixmatch", {}, rendered)


def test_a_setting_that_came_later_is_left_out_where_it_says_what_its_absence_says() -> None:
    """Not where it is the default: the absence of ``entropy_from`` means 0, whatever the published value is."""
    assert "entropy_from" not in make_run_config("fda", "ministreet").settings
    real = make_run_config("fda", "viper2cityscapes", options={"flow": "dis"})
    assert real.settings["entropy_from"] == 0.5 and alterations(real) == ("flow=dis",)
    at_once = make_run_config("fda", "viper2cityscapes", options={"flow": "dis", "entropy_from": 0.0})
    assert "entropy_from" not in at_once.settings and every_setting(at_once)["entropy_from"] == 0.0
    assert alterations(at_once) == ("entropy_from=0.0", "flow=dis")


def test_a_variant_has_values_of_its_own_and_is_known_by_its_option_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of stpl without a teacher is "teacher=none", whatever its own search chose."""
    cls = method_class("stpl")
    layer = tuned_on("ministreet-dev teacher=none", trial(5, drop=0.25, temperature=0.2))
    monkeypatch.setattr(cls, "TUNED", cls.TUNED | layer)
    config = make_run_config("stpl", "ministreet", options={"teacher": "none"})
    assert (config.settings["drop"], config.settings["temperature"]) == (0.25, 0.2)
    assert alterations(config) == ("teacher=none",)
    assert make_run_config("stpl", "ministreet", options={"teacher": "none", "drop": 0.25}) == config
    altered = make_run_config("stpl", "ministreet", options={"teacher": "none", "drop": 0.5, "fusion": "none"})
    assert altered.settings["temperature"] == 0.2 and alterations(altered) == (
        "drop=0.5",
        "fusion=none",
        "teacher=none",
    )
    assert alterations(make_run_config("stpl", "ministreet", options={"drop": 0.25})) == ("drop=0.25",)
    assert "teacher" not in make_run_config("stpl", "ministreet").settings
    assert effective_settings("stpl", {"teacher": "none"}, load_shift("viper2cityscapes"))["drop"].value == 0.5
    assert "With `-o teacher=none`" in settings_page.page(Path()).text


# Revisions ------------------------------------------------------------------------------------------------------------


def test_a_changed_algorithm_is_another_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is in the hash where it is not 1; a config that was made for another one is not run as if it were today's."""
    plain = make_run_config("ur", "ministreet-tiny")
    assert plain.revision == 1 and "revision" not in plain.model_dump_json()
    assert make_run_config("pixmatch").revision == 1
    assert make_run_config("pixmatch", options={"augmentation": "cutmix"}).revision == 2
    monkeypatch.setattr(method_class("ur"), "revision", classmethod(lambda cls, settings: 2))
    changed = make_run_config("ur", "ministreet-tiny")
    assert changed.hash != plain.hash and changed.settings == plain.settings and alterations(changed) == ()
    with pytest.raises(UsageError, match=r"made for revision 1 of method 'ur', which is now 2"):
        run(plain, workspace)


# Ingredients ----------------------------------------------------------------------------------------------------------


def test_common_is_what_everybody_had_before_and_no_part_of_the_hash() -> None:
    for method in method_names():
        assert make_run_config(method, options={"ingredients": "common"}) == make_run_config(method)
    assert "ingredients" not in make_run_config("stpl").model_dump_json()


@pytest.mark.parametrize("shift", ["ministreet", "viper2cityscapes"])
def test_published_ingredients_are_those_of_the_papers(shift: str) -> None:
    flow = {"flow": "dis"}
    fusion = {}
    for method in method_names():
        config = make_run_config(method, shift, options={**flow, "ingredients": "published"})
        fusion[method] = config.fusion
        assert config.hash != make_run_config(method, shift, options=flow).hash
        assert set(alterations(config)) == {"flow=dis", "ingredients=published"}
        assert config == make_run_config(method, shift, options=parse_options(list(alterations(config))))
    splat, warp = ["cmom", "da_vsn", "da_vsn_sf"], ["oracle", "source_only", "tps", "tps_sf", "vat_vst", "vat_vst_sf"]
    image = [name for name in method_names() if method_class(name).card.design == "image"]
    expected = {
        **dict.fromkeys(image, "none"),
        **dict.fromkeys(splat, "accel_splat"),
        **dict.fromkeys(warp, "accel_warp"),
    }
    assert fusion == {**expected, "stpl": "conv1x1"}
    stpl = make_run_config("stpl", shift, options={**flow, "ingredients": "published"})
    assert stpl.settings["teacher"] == "none"


def test_ingredients_are_chosen_once(shift_file: ShiftFile) -> None:
    for option in ({"fusion": "conv1x1"}, {"teacher": "average"}):
        with pytest.raises(
            UsageError, match=f"gives 'stpl' fusion=conv1x1, teacher=none; leave out {next(iter(option))}"
        ):
            make_run_config("stpl", options={"ingredients": "published", **option})
    with pytest.raises(UsageError, match="Did you mean 'published'"):
        make_run_config("stpl", options={"ingredients": "puplished"})
    shift = shift_file({"ingredients": "published"})
    assert make_run_config("tps", shift).fusion == "accel_warp" and alterations(make_run_config("tps", shift)) == ()
    assert alterations(make_run_config("tps", shift, options={"ingredients": "common"})) == ("ingredients=common",)


def test_a_shift_may_take_the_other_layer(shift_file: ShiftFile) -> None:
    published = shift_file({"settings": "published"})
    assert make_run_config("ur", published).settings["portion"] == 0.2
    assert make_run_config("ur", "ministreet-tiny").settings["portion"] == 0.23
    assert load_shift(published).hash != load_shift("ministreet-tiny").hash
    explicit = shift_file({"settings": {"tuned-on": "ministreet-dev"}})
    assert load_shift(explicit).hash == load_shift("ministreet-tiny").hash


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("best", "settings"),
        ({"tuned-on": "ministret"}, "Did you mean 'ministreet'"),
        ({"tuned": "ministreet-dev"}, "settings"),
    ],
)
def test_a_shift_with_another_word_for_its_settings_is_refused(settings: Any, says: str, shift_file: ShiftFile) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        load_shift(shift_file({"settings": settings}))
    assert "\n" not in str(caught.value)


# What is told of them -------------------------------------------------------------------------------------------------


def test_the_page_has_every_setting_with_its_source_and_what_each_shift_runs_with() -> None:
    text = settings_page.page(Path("somewhere")).text
    rows = {}
    for section in text.split("\n## ")[1:]:
        name = section.split("`")[1]
        lines = section.split("With `-o")[0].splitlines()  # a variant's own values stand in a table below
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
        assert cells[0] == ["setting", "value", "published or ours", "source, or why", *REPORTED]
        column = 4 + REPORTED.index("ministreet2")  # left out: its values follow from searches that are still to come
        rows[name] = {row[0].strip("`"): row[1:column] + row[column + 1 :] for row in cells[2:]}
    assert {name: set(row) for name, row in rows.items()} == {
        name: fields for name in method_names() if (fields := settings_names(name))
    }
    assert rows["tps"]["weight"][:2] == ["0.1", "published"]
    assert rows["tps"]["weight"][3:] == [
        "–",  # there is no source data
        "0.386 (trial 2)",
        "1.0 (tps_viper2city.yml, tps_syn2city.yml: LAMBDA_T)",
        "0.1",
    ]
    assert rows["rda"]["width"][3:] == ["–", "16 (by hand: for a network of 0.6 M parameters)", "64", "64"]
    assert rows["pixmatch"]["ema_decay"][3:] == ["–", "0.9 (trial 3)", "0.999", "0.999"]
    assert rows["stpl"]["ema_decay"][3] == rows["stpl"]["ema_decay"][5]  # published, as on the other real shifts


def test_the_page_says_where_no_search_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a method has values of MiniStreet 2's development worlds; the atlas takes them and has no column."""
    cls = method_class("hcl")
    for name in method_names():
        layers = {key: layer for key, layer in method_class(name).TUNED.items() if "2" not in key}
        monkeypatch.setattr(method_class(name), "TUNED", layers)

    def waiting() -> dict[str, str]:
        lines = [x for x in settings_page.page(Path()).text.splitlines() if x.startswith("**Not searched on")]
        return {line.split("`")[1]: line for line in lines}

    assert "`hcl`" in waiting()["ministreet2-dev"] and "`stpl`" in waiting()["ministreet2-dev"]
    assert "ministreet-dev" not in waiting()  # all of the first search stays
    by_hand_alone = tuned_on("ministreet2-dev", by_hand("a third", refresh=50))
    monkeypatch.setattr(cls, "TUNED", cls.TUNED | by_hand_alone)
    assert "`hcl`" in waiting()["ministreet2-dev"]  # that is no search
    monkeypatch.setattr(cls, "TUNED", cls.TUNED | tuned_on("ministreet2-dev", trial(4, contrast_weight=0.123)))
    assert "`hcl`" not in waiting()["ministreet2-dev"] and "`adabn`" not in waiting()["ministreet2-dev"]
    text = settings_page.page(Path()).text
    assert "0.123 (trial 4)" in text and "`atlas-…`" in text and "| atlas-" not in text


def test_the_committed_page_is_fresh() -> None:
    assert settings_page.page(ROOT / "leaderboards").stale() == []


def test_the_command_prints_every_setting_of_a_shift_with_its_origin() -> None:
    def listed(*arguments: str) -> Any:
        return CliRunner().invoke(cli.app, ["list", *arguments])

    settings_by_method = json.loads(listed("methods", "--shift", "viper2cityscapes", "--json").stdout)
    assert settings_by_method["tps"]["blur"] == {"value": 9.0, "origin": "published"} | {
        "source": settings_by_method["tps"]["blur"]["source"]
    }
    assert json.loads(listed("methods", "--shift", "ministreet", "--json").stdout)["tps"]["blur"]["value"] == 2.25
    plain = listed("methods", "--shift", "ministreet").stdout
    assert "blur_probability" in plain and "trial 2" in plain
    assert listed("shifts", "--shift", "ministreet").exit_code == 2
    assert listed("methods", "--shift", "ministret").exit_code == 2
