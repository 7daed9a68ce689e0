"""Studies: schema, expansion to runs, the reference row, and the committed ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from bench import cli
from bench.cli.common import Says
from bench.core.errors import RunError, UsageError
from bench.core.registry import flow_names, method_names
from bench.core.schema import validated
from bench.leaderboards.standings import admit, read_committed
from bench.runs.config import alterations, make_run_config
from bench.sweeps.spec import from_study, plan
from bench.sweeps.study import Study, expand, load_study, study_names

TINY = "ministreet-tiny"


def study_of(**fields: Any) -> Study:
    base = {"name": "s", "title": "t", "question": "q", "shift": TINY, "seeds": "0:2"}
    return validated(Study, {**base, **fields}, "Study s.yaml")  # type: ignore[no-any-return]


GRID = {"method": ["stpl"], "fusion": ["add", None], "ce": [True, False]}


def test_a_grid_is_every_combination_with_the_factors_of_each_row() -> None:
    rows = study_of(grid=GRID, words={"fusion": {"none": "no fusion"}, "ce": {True: "with CE"}}).all_rows()
    assert [row.label for row in rows] == [
        "add, with CE", "add, ce=false", "no fusion, with CE", "no fusion, ce=false",
    ]  # fmt: skip
    assert rows[2].factors == {"method": "stpl", "fusion": "none", "ce": True}
    assert rows[2].options == {"fusion": "none", "ce": True} and rows[2].method == "stpl"


def test_rows_and_seeds_become_runs() -> None:
    study = study_of(rows=[{"label": "a", "method": "adabn", "options": {"flow": "zero"}}], grid=GRID)
    runs = expand(study)
    assert [(row.label, seed) for row, seed, _ in runs][:3] == [("a", 0), ("a", 1), ("add, ce=true", 0)]
    assert runs[1][2] == make_run_config("adabn", TINY, 1, {"flow": "zero"}) and len(runs) == 10
    assert [seed for _, seed, _ in expand(study, [5])] == [5] * 5
    assert {p.config.hash for p in plan(from_study(study))} == {config.hash for _, _, config in runs}
    uda = study_of(rows=[{"label": "b", "method": "da_vsn", "options": {"init": "backbone"}}])
    assert expand(uda)[0][2].init == "backbone" == plan(from_study(uda))[0].config.init


def test_the_reference_is_one_row() -> None:
    assert study_of(grid=GRID, reference={"fusion": "add", "ce": False}).reference_row().label == "add, ce=false"  # type: ignore[union-attr]
    assert study_of(grid=GRID, reference="none, ce=true").reference_row().factors["fusion"] == "none"  # type: ignore[union-attr]
    assert study_of(grid=GRID).reference_row() is None
    for reference in ("other", {"fusion": "add"}, {"fusion": "concat", "ce": True}):
        with pytest.raises(UsageError, match=r"reference names (0|2) rows instead of one"):
            study_of(grid=GRID, reference=reference).reference_row()


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({}, "rows, grid: give at least one of them"),
        ({"grid": {"fusion": ["add"]}}, "grid.method: missing"),
        ({"grid": {"method": ["stpl"], "fusion": "all"}}, "grid.fusion: give a list"),
        ({"grid": {"method": []}}, "grid.method: give a list"),
        ({"grid": GRID, "seeds": 125}, "seeds: put seeds in quotes"),
        ({"grid": GRID, "colour": 1}, "colour: Unknown key 'colour'. "),
        ({"grid": GRID, "words": {"times": {"both": "x"}}}, "words.times: the grid has no such factor"),
        (
            {"rows": [{"label": "a", "method": "stpl", "option": {}}]},
            "rows.0.option: Unknown key 'option'. Did you mean 'options'?",
        ),
        ({"rows": [{"label": "", "method": "stpl"}]}, "rows.0.label: String should have at least 1"),
        ({"grid": GRID, "name": "A b"}, "name: String should match"),
    ],
)
def test_a_wrong_study_is_refused_with_the_path_of_the_field(what: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        study_of(**what)
    assert str(caught.value).startswith(f"Study s.yaml: {says}") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"rows": [{"label": "a", "method": "tsp"}]}, "Study 's', row 'a': Unknown method 'tsp'. Did you mean 'tps'"),
        ({"grid": {"method": ["adabn"], "tau": [1]}}, "Study 's', row 'adabn': Unknown option 'tau'"),
        (
            {"rows": [{"label": "a", "method": "stpl"}, {"label": "b", "method": "stpl"}]},
            "'a' and 'b' are the same run",
        ),
        ({"rows": [{"label": "a", "method": "stpl"}, {"label": "a", "method": "ur"}]}, "two rows are called 'a'"),
    ],
)
def test_rows_that_cannot_be_run_are_named(what: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        expand(study_of(**what))
    assert says in str(caught.value)


def test_files_are_read_by_name_and_by_path(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study_of(grid=GRID).model_dump()))
    assert load_study(str(tmp_path / "mine.yaml")) == study_of(grid=GRID)
    (tmp_path / "mine.yaml").write_text("[")
    with pytest.raises(UsageError, match=r"^Study mine.yaml is not YAML: "):
        load_study(str(tmp_path / "mine.yaml"))
    with pytest.raises(UsageError, match=r"Unknown study 'fusoin'\. Did you mean 'fusion'"):
        load_study("fusoin")


# The committed ones ---------------------------------------------------------------------------------------------------

ROWS = {
    **{"main": len(method_names()), "fusion": 12, "components": 8, "flow": 5, "temperature": 7, "label_noise": 8},
    **{"camvid_fusion": 10, "camvid_flow": 3},
}


@pytest.mark.parametrize("name", study_names())
def test_committed_studies_can_be_run(name: str) -> None:
    study = load_study(name)
    assert study.name == name and len(study.all_rows()) == ROWS[name] and study.reference_row() is not None
    if name == "flow" and "raft" not in flow_names():
        pytest.skip("the raft backend is not there")
    assert len({config.hash for _, _, config in expand(study)}) == ROWS[name] * len(study.replicates)


def test_the_questions_are_there() -> None:
    assert set(study_names()) == set(ROWS)


def test_the_main_study_is_what_is_on_the_leaderboard() -> None:
    """Existing records stay valid: no later setting has changed the hash of a run."""
    root = Path(__file__).resolve().parents[3] / "leaderboards"
    records = {record.run: record.config for record in read_committed(root, "ministreet").records}
    runs = {config.hash: config for _, _, config in expand(load_study("main"))}
    shared = records.keys() & runs.keys()
    assert len(shared) > 100 and all(records[key] == runs[key] for key in shared)


def test_noise_is_part_of_a_run_only_where_it_is_used() -> None:
    usual = make_run_config("stpl", TINY)
    assert "label_noise" not in usual.settings and make_run_config("stpl", TINY, 0, {"label_noise": 0}) == usual
    noisy = make_run_config("stpl", TINY, 0, {"label_noise": 0.2})
    assert noisy.settings == {**usual.settings, "label_noise": 0.2} and noisy.hash != usual.hash


def test_a_run_with_noise_belongs_on_the_leaderboard_and_is_named_by_it() -> None:
    root = Path(__file__).resolve().parents[3] / "leaderboards"
    record = next(r for r in read_committed(root, "ministreet").records if r.config.method == "stpl")
    config = make_run_config("stpl", "ministreet", 0, {"label_noise": 0.2})
    noisy = record.model_copy(update={"config": config, "run": config.hash})
    admit(noisy, config.protocol, "noisy")
    assert alterations(noisy.config) == ("label_noise=0.2",)
    strange = config.model_copy(update={"settings": {**config.settings, "more": 1}})
    with pytest.raises(RunError, match=r"settings of 'stpl' changed since \(more\)"):
        admit(record.model_copy(update={"config": strange, "run": strange.hash}), config.protocol, "strange")


def test_a_dry_run_lists_the_runs_and_runs_nothing(tmp_path: Path) -> None:
    arguments = ["study", "temperature", "--seeds", "0:2", "--dry-run", "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 15 and result.stdout.endswith("14 waiting\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("state", "says"), [("done", "No page: it takes two rows"), ("failed", "")])
def test_a_study_without_a_page_says_so(state: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = SimpleNamespace(runs=[SimpleNamespace(state=state)])
    monkeypatch.setattr("bench.study", lambda *arguments, **options: (jobs, []))
    monkeypatch.setattr("bench.cli.sweeps.outcome", lambda jobs, dry_run: Says({}, ""))
    result = CliRunner().invoke(cli.app, ["study", "floors.yaml"])
    assert result.exit_code == 0 and result.stderr.startswith(says) and bool(result.stderr) == bool(says)
