"""The page of scores without labels: numbers by hand, runs scored end to end, nothing but target frames opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from bench import cli
from bench.analysis.data import Who
from bench.analysis.scorers import Scored, build, of_root, score_runs, scorer_rows, snapshot_rows, snapshot_text
from bench.core.workspace import Workspace
from bench.leaderboards.standings import Group
from bench.runs.config import make_run_config
from bench.runs.finished import RunFolder
from bench.runs.run import run
from bench.runs.scorers import SCORERS

TINY = "ministreet-tiny"


def scored(method: str, seed: int, miou: float, setting: str = "SFDA", **scores: float) -> Scored:
    identity = Who(
        run="0" * 12, method=method, title=method, design="image", setting=setting, altered=(), seed=seed, shift=TINY,
        shift_hash="1" * 12, miou=miou,
    )  # fmt: skip
    return Scored(who=identity, clips=8, scores=scores)


def runs() -> list[Scored]:
    """Scored runs of two replicates: entropy orders both as mIoU does, density the first in reverse; an oracle in each."""
    scored_runs = []
    for seed, density in ((0, (3.0, 2.0, 1.0)), (1, (1.0, 2.0, 3.0))):
        for number, miou in enumerate((30.0, 40.0, 50.0)):
            scored_runs.append(scored(f"m{number}", seed, miou + seed, entropy=-1 / miou, density=density[number]))
        scored_runs.append(scored("oracle", seed, 70.0, "oracle", entropy=-9.0, density=9.0))
    return scored_runs


def test_rows_by_hand() -> None:
    entropy, density = scorer_rows(runs())
    assert (entropy["scorer"], entropy["Spearman's ρ"], entropy["lowest, highest"]) == (
        "entropy",
        "+1.00",
        "+1.00, +1.00",
    )
    assert entropy["chosen most often"] == "m2 (2 of 2)" and entropy["mIoU lost"] == "0.00"
    assert (density["Spearman's ρ"], density["lowest, highest"]) == ("+0.00", "-1.00, +1.00")
    assert density["chosen most often"] == "m0 (1 of 2)" and density["mIoU lost"] == "10.00"  # 20 and 0


def test_two_runs_are_no_order() -> None:
    assert scorer_rows(runs()[:2]) == []
    assert "## Between methods" not in build(TINY, runs()[:2], [])


class Snapshots:
    """Stands in for a record: it has snapshots (step, score, mIoU) and nothing else."""

    def __init__(self, *rows: tuple[int, float, float]) -> None:
        self.selection = self
        self.snapshots = [{"step": s, "target_score": t, "miou": m} for s, t, m in rows]


def test_snapshots_by_hand() -> None:
    records: Any = [
        Snapshots((50, 0.5, 40.0), (100, 0.9, 44.0), (150, 0.7, 42.0)),  # chosen 44, last 42
        Snapshots((50, 0.9, 30.0), (100, 0.5, 36.0), (150, 0.9, 35.0)),  # a tie: the later one
        Snapshots((0, 0.1, 20.0)),  # only one
    ]
    broken: Any = [Snapshots((50, 0.9, 60.0), (100, 0.1, 20.0))]
    worse: Any = [Snapshots((50, 0.9, 48.0), (100, 0.1, 50.0))]
    groups = [
        Group(name, (), dict(enumerate(some))) for name, some in (("stpl", records), ("tps_sf", broken), ("ur", worse))
    ]
    stpl, tps, _ = snapshot_rows(groups)
    assert stpl == {
        "method": "STPL",
        "runs": "2",
        "last": "38.50",
        "chosen without labels": "39.50",
        "chosen − last": "+1.00",
        "best (labels)": "40.00",
        "better, same, worse than last": "1, 1, 0",
    }
    assert tps["chosen − last"] == "+40.00"
    text = snapshot_text(groups)
    assert "the 3 methods" in text and "+13.00 points in the mean and +1.00 in the median" in text
    assert "above 0 for 2 of them" in text
    assert snapshot_rows([Group("stpl", (), dict(enumerate(records[2:])))]) == []


def test_runs_are_scored_and_the_page_is_made_of_what_is_kept(
    tiny_cache: Path, tmp_path: Path, no_figures: None
) -> None:
    workspace = Workspace(tmp_path / "runs", tiny_cache, torch.device("cpu"))
    folders = []
    for method in ("source_only", "adabn", "tent"):
        config = make_run_config(method, TINY)
        run(config, workspace)
        folders.append(RunFolder.open(workspace.runs / config.hash))
    root = tmp_path / "boards"
    written = score_runs(folders, root, workspace)
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in written]
    assert [path.name.split("-")[0] for path in written] == ["source_only", "adabn", "tent"]
    for content in contents:
        assert content["scores"].keys() == SCORERS.keys() - {"teacher"} and content["clips"] == 8
    assert score_runs(folders, root, workspace) == written  # again, with the same numbers
    assert [json.loads(path.read_text(encoding="utf-8")) for path in written] == contents
    assert of_root(root).stale() == [root / f"{TINY}-scorers.md"]
    result = CliRunner().invoke(cli.app, ["scorers", "--root", str(root), "--json"])
    assert result.exit_code == 0 and of_root(root).stale() == []
    assert [page.path for page in of_root(root).expected] == [root / f"{TINY}-scorers.md"]
    text = (root / f"{TINY}-scorers.md").read_text(encoding="utf-8")
    assert "3 methods and variants, 1 replicates" in text and text.count("\n| ") > 5
    (root / f"{TINY}-scorers.md").write_text(text + " ", encoding="utf-8")
    result = CliRunner().invoke(cli.app, ["scorers", "--root", str(root), "--check"])
    assert result.exit_code == 1 and "Stale" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["x", "--methods", "stpl"], "not both"),
        (["--methods", "stpl", "--check"], "--check scores nothing"),
        (["nowhere"], "'nowhere' is no run"),
    ],
)
def test_wrong_use(arguments: list[str], says: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["scorers", *arguments, "--root", str(tmp_path)])
    assert result.exit_code == 2 and says in result.output
