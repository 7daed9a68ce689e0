"""The specification of a sweep: errors with the field's path, expansion of grids and searches, development worlds only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import UsageError
from bench.core.registry import ROOT, method_names
from bench.core.schema import read_yaml, validated
from bench.leaderboards.published import in_paper
from bench.runs.config import alterations, load_shift, make_run_config, method_class, methods_on
from bench.sweeps.search import Search, draw, searched, tuning_shift
from bench.sweeps.spec import Sweep, parse_grid, parse_search, plan

TINY = "ministreet-tiny"


def sweep_of(**fields: Any) -> Sweep:
    return Sweep.model_validate({"shift": TINY, "methods": ["stpl"], **fields})


def call(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["sweep", *arguments])


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"metods": ["stpl"]}, "metods: Unknown key 'metods'. Did you mean 'methods'? Available: cpu, gpu, grid, "),
        ({}, "methods, rows: give at least one"),
        ({"methods": ["stpl"], "seeds": 125}, 'seeds: put seeds in quotes, e.g. seeds: "0:3"'),
        ({"methods": ["stpl"], "cpu": 0}, "cpu: Input should be greater than or equal to 1"),
        ({"methods": ["stpl"], "gpu": 1.5}, "gpu: above 1 only whole numbers"),
        ({"methods": ["stpl"], "grid": {"fusion": []}}, "grid.fusion: give at least one value"),
        ({"methods": ["stpl"], "search": {"kind": "tpe"}}, "search.kind: Input should be 'random' or 'grid'"),
        ({"methods": ["stpl"], "search": {"asha": {"grace": 2}}}, "search.asha.grace: Input should be less than 1"),
        (
            {"methods": ["stpl"], "search": {"kind": "grid", "trials": "0:4"}},
            "search: a grid search has no trials; leave",
        ),
        ({"methods": ["stpl"], "search": {"points": 5}}, "search: a random search has no points; leave"),
        ({"rows": [{"label": "a"}]}, "rows.0.method: Field required"),
        (
            {"rows": [{"label": "a", "method": "ur"}], "grid": {"drop": [0.1]}},
            "grid: is of methods, and there are none",
        ),
        ({"rows": [{"label": "a", "method": "ur"}], "options": {"drop": 0.1}}, "options: is of methods, and there"),
        ({"name": "a/b", "methods": ["stpl"]}, "name: String should match pattern"),
    ],
)
def test_a_wrong_spec_is_refused_with_the_path_of_the_field(what: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        validated(Sweep, what, "Sweep s.yaml")
    assert str(caught.value).startswith(f"Sweep s.yaml: {says}") and "\n" not in str(caught.value)


def test_a_grid_is_combined_with_seeds_and_goes_to_the_methods_that_have_the_option() -> None:
    sweep = sweep_of(
        methods=["stpl", "self_training", "adabn"],
        seeds="1:3",
        grid={"stpl.fusion": ["add", None], "drop": [0.25, "5e-1"]},
        options={"adabn.flow": "zero"},
    )
    planned = plan(sweep)
    per_seed = [(p.config.method, p.config.fusion, p.config.flow, p.config.settings.get("drop")) for p in planned[:7]]
    assert per_seed == [
        ("stpl", "add", "exact", 0.25), ("stpl", "none", "exact", 0.25),
        ("stpl", "add", "exact", 0.5), ("stpl", "none", "exact", 0.5),
        ("self_training", "conv1x1", "exact", 0.25), ("self_training", "conv1x1", "exact", 0.5),
        ("adabn", "conv1x1", "zero", None),
    ]  # fmt: skip
    assert [p.config.seed for p in planned] == [1] * 7 + [2] * 7
    assert planned[0].label == "stpl drop=0.25 fusion=add" and planned[6].label == "adabn"
    assert planned[0].config == make_run_config("stpl", TINY, 1, {"fusion": "add", "drop": 0.25})


def test_a_run_that_is_asked_for_twice_is_planned_once() -> None:
    usual = load_shift(TINY).network.fusion
    planned = plan(sweep_of(grid={"fusion": [usual, "add", usual]}, rows=[{"label": "again", "method": "stpl"}]))
    assert [p.config.fusion for p in planned] == [usual, "add"] and planned[0].label == "again"


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"methods": ["tsp"]}, "Unknown method 'tsp'. Did you mean 'tps'?"),
        ({"grid": {"ur.fusion": ["add"]}}, "Unknown method 'ur' before the option 'ur.fusion'. Available: stpl"),
        ({"grid": {"fusoin": ["add"]}}, "Unknown option 'fusoin' (stpl). Did you mean 'fusion'?"),
        ({"options": {"stpl.tau": 1}}, "Unknown option 'tau' (stpl)"),
        ({"grid": {"temperature": [99]}}, "temperature must be in 0.01..10, got 99"),
        ({"seeds": "3:1"}, "seeds must be FIRST:END with 0 <= FIRST < END"),
        ({"shift": "ministret"}, "Unknown shift 'ministret'. Did you mean 'ministreet'?"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_runs(what: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(sweep_of(**what))
    assert says in str(caught.value)


def test_a_grid_of_one_method_goes_before_an_option_of_all(tmp_path: Path) -> None:
    arguments = ("-m", "stpl,ur", "--shift", TINY, "-o", "fusion=none", "--grid", "stpl.fusion=none,add")
    result = call(*arguments, "--dry-run", "--runs", str(tmp_path))
    assert result.exit_code == 0 and "3 waiting" in result.stdout, result.output


def test_trials_are_those_of_the_command_line_or_the_first_sixteen() -> None:
    assert parse_search(None, None, False) is None
    for trials, meant in ((None, "0:16"), ("0:3", "0:3")):
        search = Search.model_validate(parse_search("random", trials, True))
        assert (search.kind, search.trials, search.asha is not None) == ("random", meant, True)


def test_the_command_line_says_the_same_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        yaml.safe_dump(
            {"shift": TINY, "methods": ["stpl", "ur"], "seeds": "0:2", "grid": {"stpl.times": ["both", "current"]}}
        )
    )
    common = ("--dry-run", "--runs", str(tmp_path / "runs"), "--json")
    from_file = call(str(path), *common)
    from_options = call(
        "-m", "stpl,ur", "--shift", TINY, "--seeds", "0:2", "--grid", "stpl.times=both,current", *common
    )
    assert from_file.exit_code == from_options.exit_code == 0 and from_file.stdout == from_options.stdout
    assert from_file.stdout.count('"state": "waiting"') == 6 and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "What to run? Give a SPEC.yaml, --method a,b, or --resume NAME"),
        (("none.yaml",), "No file none.yaml"),
        (("none.yaml", "-m", "stpl"), "none.yaml says what to run; leave out --method or the file"),
        (("-m", "stpl", "--grid", "fusion"), "--grid 'fusion' is not of the form option=value,value"),
        (("-m", "stpl", "--resume", "x"), "--resume NAME goes on with what was asked for then"),
        (("--resume", "x"), "No sweep 'x' in "),
        (("-m", "stpl", "--asha"), "--asha stops trials of a search; add --search random"),
        (("-m", "stpl", "--trials", "0:3"), "--trials is of a random search; add --search random, or leave it out"),
        (("-m", "stpl", "--search", "grid", "--trials", "0:3"), "--trials is of a random search"),
        (
            ("-m", "stpl", "-o", "fusion=none", "--grid", "fusion=none,add"),
            "Option 'fusion' is fixed, by -o or options",
        ),
        (("-m", "stpl", "-o", "stpl.fusion=none", "--grid", "fusion=none,add"), "Option 'stpl.fusion' is fixed"),
        (("-m", "stpl", "--search", "random"), "Shift 'ministreet' is not for tuning; use ministreet-dev"),
        (("-m", "stpl", "--gpu", "1.5"), "Sweep: gpu: above 1 only whole numbers"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    result = call(*arguments, "--dry-run", "--runs", str(tmp_path))
    assert result.exit_code == 2 and says in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_values_of_a_grid_are_read_as_options_are() -> None:
    assert parse_grid(["a=1,2.5,1e-3", "b.c=true,none,x"]) == {"a": [1, 2.5, 0.001], "b.c": [True, "none", "x"]}
    with pytest.raises(UsageError, match="'a' is given twice"):
        parse_grid(["a=1", "a=2"])


# Searches -------------------------------------------------------------------------------------------------------------


def test_a_random_search_makes_the_trials_of_bench_tune() -> None:
    planned = plan(sweep_of(shift="ministreet-dev", search={"trials": "1:4"}))
    drawn = {f"stpl trial {t}": make_run_config("stpl", "ministreet-dev", 0, draw("stpl", t)) for t in range(1, 4)}
    assert {entry.label: entry.config for entry in planned} == drawn


def test_a_grid_search_goes_from_end_to_end() -> None:
    space = method_class("self_training").SEARCH
    tried = searched("self_training", Search(kind="grid", points=3)).values()
    assert len(tried) == len({str(t) for t in tried}) == 3 * 3 * 3
    assert {t["ema_decay"] for t in tried} == set(space["ema_decay"].values)
    assert sorted({t["drop"] for t in tried}) == [0.0, 0.4, 0.8]
    weights = sorted({t["contrast_weight"] for t in searched("stpl", Search(kind="grid", points=3)).values()})
    assert weights == [0.1, 1.0, 10.0]  # even in the logarithm
    with pytest.raises(UsageError, match="'source_only' has no search space"):
        searched("source_only", Search())


def copy_of(shift: str, path: Path, **changes: Any) -> str:
    content = yaml.safe_load((ROOT / "shifts" / f"{shift}.yaml").read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**content, **changes}))
    return str(path)


def test_reported_worlds_cannot_be_reached_from_a_tuning_sweep(tmp_path: Path) -> None:
    """Every way that a person in a hurry would try."""
    assert tuning_shift("ministreet-dev").purpose == tuning_shift("ministreet2-dev").purpose == "tune"
    real = yaml.safe_load((ROOT / "shifts" / "viper2cityscapes.yaml").read_text(encoding="utf-8"))["data"]
    disguised = [
        "ministreet",
        "viper2cityscapes",
        str(ROOT / "shifts" / "ministreet.yaml"),
        copy_of("ministreet", tmp_path / "a.yaml", purpose="tune", name="mine"),  # says it is for tuning
        copy_of("ministreet-dev", tmp_path / "b.yaml", purpose="report"),
        copy_of("atlas-night", tmp_path / "e.yaml", purpose="tune"),  # worlds of MiniStreet 2
        copy_of("viper2cityscapes", tmp_path / "c.yaml", purpose="tune"),
        copy_of(  # another source: a family of its own, with the reported target
            "viper2cityscapes", tmp_path / "d.yaml", purpose="tune", data={**real, "source": dict(real["target"])}
        ),
    ]
    for shift in disguised:
        for search in ({"kind": "random"}, {"kind": "grid", "points": 2}, {"asha": {}}):
            with pytest.raises(UsageError, match="is not for tuning; use ministreet-dev"):
                plan(sweep_of(shift=shift, search=search))
    with pytest.raises(
        UsageError, match="Unknown option 'shift'"
    ):  # by an option that changes the shift behind the check
        plan(sweep_of(shift="ministreet-dev", search={}, options={"shift": "ministreet"}))
    assert "shift" not in make_run_config("stpl", "ministreet-dev").settings


def test_a_stored_sweep_that_was_edited_is_checked_again(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "s"
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text(sweep_of(name="s", shift="ministreet", search={}).to_yaml())
    result = call("--resume", "s", "--runs", str(tmp_path))
    assert result.exit_code == 2 and "is not for tuning" in result.stderr


def test_the_name_tells_what_is_asked_for_not_how_it_is_spread() -> None:
    assert sweep_of().named.name == sweep_of(cpu=2, gpu=0.5, retries=9).named.name
    assert sweep_of().named.name != sweep_of(seeds="0:2").named.name
    assert sweep_of(name="x").named.name == "x"
    assert Sweep.model_validate(yaml.safe_load(sweep_of(name="x").to_yaml())) == sweep_of(name="x")


def test_a_sweep_of_streams() -> None:
    """`all` are the methods that can; `reset` is an option like others; the example is such a sweep."""
    planned = plan(sweep_of(protocol="stream", methods="all", options={"reset": "never"}))
    assert [entry.config for entry in planned] == [
        make_run_config(m, TINY, mode="stream") for m in methods_on(TINY, "stream")
    ]
    assert "protocol" not in sweep_of().model_dump(mode="json")  # identities of earlier sweeps stay
    with pytest.raises(UsageError, match="Unknown option 'reset'"):
        plan(sweep_of(options={"reset": "never"}))
    example = read_yaml(ROOT.parent / "examples" / "stream.yaml", Sweep, "Sweep")
    assert {entry.config.mode for entry in plan(example)} == {"stream"} and example.methods == "all"


def test_the_board_of_ministreet_2_is_one_sweep() -> None:
    """Every method, the floors, STPL without its teacher, replicate by replicate, on what is reported."""
    example = read_yaml(ROOT.parent / "examples" / "ministreet2.yaml", Sweep, "Sweep")
    planned = plan(example)
    of_seed = [entry.config for entry in planned[: len(planned) // 8]]
    assert {config.seed for config in of_seed} == {0} and load_shift(example.shift).purpose == "report"
    assert {config.method for config in of_seed} == set(method_names()) and len(of_seed) == 24
    assert [alterations(config) for config in of_seed if alterations(config)] == [("teacher=none",)]


def test_the_table_of_published_ingredients_is_one_sweep() -> None:
    """The paper's fourteen rows and the floors, each as its own paper has it, on what is reported."""
    example = read_yaml(ROOT.parent / "examples" / "ministreet2-published.yaml", Sweep, "Sweep")
    planned = [entry.config for entry in plan(example)]
    assert load_shift(example.shift).purpose == "report" and len(planned) == 3 * 16
    assert {alterations(config) for config in planned} == {("ingredients=published",)}
    paper = {name for name in method_names() if in_paper("viper2cityscapes", name) is not None}
    assert {config.method for config in planned} == paper | {"adabn", "self_training"}
