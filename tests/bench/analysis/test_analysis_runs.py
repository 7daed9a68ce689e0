"""``bench analyse`` and ``bench run --save-predictions`` on tiny runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bench import cli
from bench.analysis import analyse, data, look
from bench.core.access import AccessError, stage
from bench.core.errors import RunError, UsageError
from bench.core.workspace import Workspace
from bench.data.splits import prepare
from bench.runs import pseudo_labels
from bench.runs.config import load_shift, make_run_config
from bench.runs.finished import RunFolder
from bench.runs.records import Record
from bench.runs.run import run

TINY = "ministreet-tiny"
CLIPS = 3


def call(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments))


def error_of(result: Any) -> str:
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("bench: ")]
    return line


@pytest.fixture(scope="module")
def finished(tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Record]]:
    """source_only, and self_training with predictions saved; nothing in it may be changed by a test."""
    torch.set_num_threads(1)
    runs = tmp_path_factory.mktemp("runs")
    workspace = Workspace(runs, tiny_cache, torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run._draw", lambda *_: None)
        records = {
            "source_only": run(make_run_config("source_only", TINY), workspace),
            "self_training": run(
                make_run_config("self_training", TINY), dataclasses.replace(workspace, save_predictions=CLIPS)
            ),
        }
    return workspace, records


Finished = tuple[Workspace, dict[str, Record]]


# Predictions ----------------------------------------------------------------------------------------------------------


def test_saving_predictions_changes_nothing_else(finished: Finished, tmp_path: Path, no_figures: None) -> None:
    workspace, records = finished
    with_them = records["self_training"]
    plain = dataclasses.replace(workspace, runs=tmp_path)
    without = run(make_run_config("self_training", TINY), plain)
    assert without.run == with_them.run
    assert without.result == with_them.result and without.selection == with_them.selection
    weights = [(r / with_them.run / "checkpoint.safetensors").read_bytes() for r in (workspace.runs, tmp_path)]
    assert weights[0] == weights[1]
    assert not (tmp_path / without.run / "predictions").exists()
    with pytest.raises(UsageError, match=r"snapshots are gone; repeat it with --force"):
        run(make_run_config("self_training", TINY), dataclasses.replace(plain, save_predictions=1))


def test_every_kept_step_and_the_source_model_are_saved(finished: Finished) -> None:
    workspace, records = finished
    folder = workspace.runs / records["self_training"].run
    paths = sorted((folder / "predictions").glob("*"))
    steps = [0, *(int(s["step"]) for s in records["self_training"].selection.snapshots)]
    assert [path.name for path in paths] == [f"step-{step:06d}.npz" for step in steps] and len(steps) == 4
    maps = []
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            assert file["label"].shape == file["confidence"].shape == (CLIPS, 64, 128)
            assert file["label"].dtype == file["confidence"].dtype == np.uint8 and file["label"].max() < 15
            assert len(set(file["keys"].tolist())) == CLIPS
            maps.append(file["label"])
    assert (maps[0] != maps[-1]).any()


def test_labels_stay_closed_while_predictions_are_saved(finished: Finished, tmp_path: Path, no_figures: None) -> None:
    """The function that saves predictions is replaced by one that first tries to open the labels, which must be refused."""
    workspace, _ = finished
    tried: list[str] = []
    inner = pseudo_labels.save_predictions

    def curious(folder: Path, segmenter: Any, weights: Any, loader: Any, *rest: Any) -> Any:
        with pytest.raises(AccessError):
            loader.store.labels()
        tried.append("labels")
        return inner(folder, segmenter, weights, loader, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run.save_predictions", curious)
        run(make_run_config("adabn", TINY), dataclasses.replace(workspace, runs=tmp_path, save_predictions=1))
    assert tried == ["labels"]


def test_quality_equals_the_slow_loop() -> None:
    draw = np.random.default_rng(0)
    label, truth = (draw.integers(0, 3, (4, 5, 6)).astype(np.uint8) for _ in range(2))
    truth[0, 0] = 255
    confidence = draw.integers(80, 256, (4, 5, 6)).astype(np.uint8)
    coverage, accuracy = pseudo_labels.quality(label, confidence, truth, (0.0, 0.7, 1.0))
    pixels = [(g, c, t) for g, c, t in zip(label.flat, confidence.flat, truth.flat, strict=True) if t != 255]
    for at, threshold in enumerate((0.0, 0.7)):
        sure = [(g, t) for g, c, t in pixels if c / 255 >= threshold]
        assert coverage[at] == pytest.approx(100 * len(sure) / len(pixels))
        assert accuracy[at] == pytest.approx(100 * sum(g == t for g, t in sure) / len(sure))
    assert coverage[0] == 100
    none, unknown = pseudo_labels.quality(label, np.minimum(confidence, 200), truth, (0.9,))
    assert none == [0.0] and unknown == [None]


# Runs -----------------------------------------------------------------------------------------------------------------


def options(workspace: Workspace) -> list[str]:
    return ["--runs", str(workspace.runs), "--cache", str(workspace.cache), "--threads", "1"]


def test_runs_are_analysed_and_a_page_is_made(finished: Finished, tmp_path: Path) -> None:
    workspace, records = finished
    root, names = tmp_path / "boards", [r.run for r in records.values()]
    result = call("analyse", *names, "--root", str(root), *options(workspace), "--cells", "400", "--json")
    assert result.exit_code == 0, result.output
    written = [Path(path) for path in json.loads(result.stdout)["written"]]
    analyses = [data.read(p, data.RunAnalysis) for p in written if p.parent.name == "runs"]
    assert [k.who.method for k in analyses] == ["source_only", "self_training"]
    for analysis, record in zip(analyses, records.values(), strict=True):
        assert analysis.who.miou == record.result.miou and analysis.knn is not None and analysis.calibration is not None
        assert sum(map(sum, analysis.confusion or [])) == sum(analysis.calibration.count)
        assert set(analysis.knn) == set(data.VARIANTS) and len(analysis.knn["headline"].mean) == 50
    assert (root / f"{TINY}-analysis.md") in written and (root / "figures" / f"{TINY}-knn.png").is_file()
    # One more part leaves the others as they were.
    result = call(
        "analyse", "--methods", "source_only,self_training", "--shift", TINY, "--seeds", "0", "--separation",
        "--embedding", "pca", "--root", str(root), *options(workspace), "--cells", "400",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    folder = data.folder_of(root, TINY)
    assert data.read_all(folder / "runs", data.RunAnalysis) == sorted(analyses, key=lambda k: k.who.name)
    embedding = data.read(folder / "embedding.json", data.Embedding)
    assert list(embedding.points) == ["Source only", "Self-training (mean teacher)"] and embedding.kind == "pca"
    assert {len(p) for p in embedding.points.values()} == {len(embedding.labels)}
    result = call("analyse", names[1], "--pseudo-labels", "--root", str(root), *options(workspace))
    assert result.exit_code == 0, result.output
    (judged,) = data.read_all(folder / "pseudo-labels", data.PseudoLabels)
    assert judged.clips == CLIPS and judged.steps[0] == 0 and len(judged.steps) == 4
    assert all(row[0] == 100 for row in judged.coverage)
    assert call("analyse", "--check", "--root", str(root)).stdout == "Analysis pages are fresh\n"
    page = root / f"{TINY}-analysis.md"
    page.write_text(page.read_text() + "edited\n")
    stale = call("analyse", "--check", "--root", str(root))
    assert stale.exit_code == 1 and "run `bench analyse --figures-only`" in error_of(stale)
    assert call("analyse", "--figures-only", "--root", str(root)).exit_code == 0
    assert call("analyse", "--check", "--root", str(root)).exit_code == 0


def test_all_models_of_a_replicate_are_shown_the_same_pixels(finished: Finished) -> None:
    workspace, records = finished
    a, b = (look.look(RunFolder.open(workspace.runs / r.run), workspace, 200) for r in records.values())
    assert torch.equal(a.cells, b.cells) and torch.equal(a.clips, b.clips) and torch.equal(a.labels, b.labels)
    assert torch.bincount(a.clips).tolist() == [50] * 4 and not torch.equal(a.features, b.features)
    assert a.grid == (8, 16) and a.features.shape == (200, 96) and bool((a.labels < 15).all())


def test_labels_cannot_be_looked_at_during_adaptation(finished: Finished) -> None:
    workspace, records = finished
    run = RunFolder.open(workspace.runs / records["source_only"].run)
    with stage("target-train"), pytest.raises(AccessError):
        look.look(run, workspace, 200)


def test_a_checkpoint_that_scores_otherwise_is_refused(finished: Finished) -> None:
    workspace, records = finished
    record = records["source_only"]
    features = look.look(RunFolder.open(workspace.runs / record.run), workspace, 400)
    altered = record.model_copy(update={"result": record.result.model_copy(update={"miou": record.result.miou + 1})})
    with pytest.raises(RunError, match=f"Run {record.run}: its record says .* run it again"):
        analyse.analyse_run(altered, features, load_shift(TINY).classes, ())


def test_too_few_clips_for_the_neighbours_are_one_line(finished: Finished) -> None:
    workspace, records = finished
    record = records["source_only"]
    features = look.look(RunFolder.open(workspace.runs / record.run), workspace, 400)
    alone = dataclasses.replace(features, clips=torch.zeros_like(features.clips))
    with pytest.raises(RunError, match=rf"Run {record.run}: neighbours in feature space: k must be in 1..0"):
        analyse.analyse_run(record, alone, load_shift(TINY).classes, ("knn",))


def test_a_run_that_saved_nothing_or_other_clips_is_not_judged(finished: Finished, tmp_path: Path) -> None:
    workspace, records = finished
    result = call(
        "analyse",
        records["source_only"].run,
        "--pseudo-labels",
        "--root",
        str(tmp_path / "boards"),
        *options(workspace),
    )
    assert (
        result.exit_code == 1 and "No predictions in" in error_of(result) and "--save-predictions 8" in error_of(result)
    )
    folder = tmp_path / "predictions"
    folder.mkdir()
    saved = next((workspace.runs / records["self_training"].run / "predictions").glob("*.npz"))
    with np.load(saved, allow_pickle=False) as file:
        arrays = dict(file)
    store = prepare(load_shift(TINY), "target", "train", 0, workspace).open()
    np.savez(folder / "step-000000.npz", **arrays | {"keys": arrays["keys"][::-1]})
    with pytest.raises(RunError, match="is of other clips than this run's"):
        pseudo_labels.judge(folder, store)
    (folder / "step-000000.npz").write_bytes(saved.read_bytes()[:1000])
    with pytest.raises(RunError, match="is damaged"):
        pseudo_labels.judge(folder, store)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Name runs, e.g. runs/0123456789ab, or --methods"),
        (("x", "--methods", "stpl"), "Name runs, e.g. runs/0123456789ab, or --methods"),
        (("0123456789ab",), "'0123456789ab' is no run: give a run folder or the hash of a run in"),
        (("--methods", "stlp"), "Unknown method 'stlp'. Did you mean 'stpl'?"),
        (("--methods", "stpl", "--seeds", "2:1"), "--seeds must be FIRST:END"),
        (("--methods", "stpl", "--shift", TINY), f"first: bench run --method stpl --shift {TINY} --seed 0"),
        (("x", "--embedding", "umap"), "--embedding is tsne or pca, got 'umap'"),
        (("--check", "--knn"), "--figures-only and --check look at no run"),
    ],
)
def test_wrong_use_is_exit_code_2(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("analyse", *arguments)
    assert result.exit_code == 2 and says in error_of(result)
    assert result.stdout == "" and list(tmp_path.iterdir()) == []
