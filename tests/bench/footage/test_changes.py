"""The report of what an adaptation changed (shares, warnings, advice), worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bench import cli
from bench.data.fixtures import Tree
from bench.footage.changes import ADAPTED, BEFORE, STATISTICS, Changes, Seen, flickered

CLASSES = ("road", "person", "sign")


def changes_of(
    moved: list[list[int]], flicker: tuple[float, ...] = (5, 5), information: tuple[float, ...] = (1, 1)
) -> Changes:
    """Changes between two models, from the pixels by class before (rows) and after (columns)."""
    matrix = np.array(moved)
    pixels = (matrix.sum(1).tolist(), matrix.sum(0).tolist())
    names = (BEFORE, ADAPTED)
    models = {n: Seen(tuple(p), f, i) for n, p, f, i in zip(names, pixels, flicker, information, strict=True)}
    return Changes(CLASSES, models, matrix)


def test_shares_of_a_hundred_pixels() -> None:
    """90 road, 10 persons; 6 of the persons become signs, 5 of the road persons: 11 of 100 have changed."""
    changes = changes_of([[85, 5, 0], [0, 4, 6], [0, 0, 0]])
    summary = changes.as_dict()
    assert summary["pixels changed"] == pytest.approx(11)
    assert summary["classes"]["person"] == {"before": 10, "after": 9, "kept": pytest.approx(40), "most became": "sign"}
    assert (
        summary["classes"]["road"]["kept"] == pytest.approx(100 * 85 / 90)
        and summary["classes"]["road"]["most became"] == "person"
    )
    assert summary["classes"]["sign"] == {"before": 0, "after": 6, "kept": None, "most became": None}
    assert summary["warnings"] == ["60 % of what was person is sign now"]


def test_a_class_that_vanished_is_told() -> None:
    """Half of the 10 persons become road and 4 signs, none is swallowed; one is left of ten, which is not less than a tenth."""
    assert changes_of([[90, 0, 0], [5, 1, 4], [0, 0, 0]]).warnings() == []
    assert changes_of([[90, 0, 0], [5, 0, 5], [0, 0, 0]]).warnings() == [
        "person has vanished: 10.00 % of the pixels before, now 0.00"
    ]
    assert changes_of([[99999, 0, 0], [1, 0, 0], [0, 0, 0]]).warnings() == []  # one pixel of 100,000 was no person


def test_a_class_seen_where_it_is_has_not_vanished() -> None:
    """9 % of the pixels were persons by mistake, 0.5 % are left: it is told of neither as a warning nor against the model."""
    fewer = changes_of([[9100, 0, 0], [450, 50, 400], [0, 0, 0]])
    assert fewer.warnings() == [] and fewer.advice() == (ADAPTED, [])
    small = changes_of([[9970, 0, 0], [16, 0, 14], [0, 0, 0]])  # 0.3 % of the pixels: told, not held against it
    assert small.warnings() == ["53 % of what was person is road now"] and small.advice() == (ADAPTED, [])
    gone = changes_of([[9900, 0, 0], [60, 0, 40], [0, 0, 0]])
    assert gone.advice() == (BEFORE, ["adapted against as it was: person is gone"])


def test_the_advice_goes_by_signs() -> None:
    unchanged = [[90, 0, 0], [0, 10, 0], [0, 0, 0]]
    assert changes_of(unchanged).advice() == (ADAPTED, [])
    assert changes_of(unchanged, flicker=(5, 5.4)).advice()[0] == ADAPTED  # too little to be held against it
    assert changes_of(unchanged, flicker=(20, 21)).advice()[0] == ADAPTED  # a twentieth more
    assert changes_of(unchanged, flicker=(5, 6)).advice() == (
        BEFORE,
        ["adapted against as it was: flicker 6.0 % of the pixels, not 5.0"],
    )
    assert changes_of(unchanged, information=(1, 0.9)).advice()[0] == BEFORE
    assert changes_of([[90, 0, 0], [10, 0, 0], [0, 0, 0]]).advice() == (
        BEFORE,
        ["adapted against as it was: person is gone"],
    )


def test_training_is_compared_with_the_statistics_alone() -> None:
    """Better than the model that came in is not enough."""
    pixels = (90, 10, 0)
    models = {BEFORE: Seen(pixels, 9, 1.0), STATISTICS: Seen(pixels, 5, 1.1), ADAPTED: Seen(pixels, 7, 1.1)}
    moved = np.diag(pixels)
    best, against = Changes(CLASSES, models, moved).advice()
    assert best == STATISTICS and against == ["adapted against adabn: flicker 7.0 % of the pixels, not 5.0"]
    worse = {**models, STATISTICS: Seen(pixels, 11, 1.1)}  # then it is compared with the model as it was
    assert Changes(CLASSES, worse, moved).advice()[0] == ADAPTED


def test_flicker_follows_the_flow() -> None:
    """Everything moves right by one: backward flow is (-1, 0). The leftmost pixel comes from outside and is not counted."""
    previous, current = torch.tensor([[[0, 1, 2, 2]]]), torch.tensor([[[2, 0, 1, 0]]])
    flow = torch.zeros(1, 2, 1, 4)
    flow[:, 0] = -1
    valid = torch.ones(1, 1, 4, dtype=torch.bool)
    assert flickered(current, previous, flow, valid) == (1, 3)  # 0 1 are carried along, 2 has become 0
    valid[..., 3] = False
    assert flickered(current, previous, flow, valid) == (0, 2)
    assert flickered(current, previous, 0 * flow, ~valid) == (1, 1)


def test_nothing_to_follow_is_no_flicker() -> None:
    assert not changes_of([[1, 0, 0], [0, 0, 0], [0, 0, 0]], flicker=(math.nan, math.nan)).advice()[1]


@pytest.fixture(scope="module")
def adapted(model: Path, trees: dict[str, Tree], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder of ``bench adapt`` and what the command printed."""
    out = tmp_path_factory.mktemp("adapted") / "out"
    arguments = ["adapt", "--checkpoint", model, "--frames", trees["frames"].root / "images", "--method", "self_training",
                 "--out", out, "--steps", 2, "--batch", 1, "--threads", 1, "--cache", out.parent / "cache"]  # fmt: skip
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return out, result.output


def test_adapt_ends_with_what_changed(adapted: tuple[Path, str]) -> None:
    out, output = adapted
    report = json.loads((out / "changes.json").read_text())
    assert list(report["models"]) == [BEFORE, STATISTICS, ADAPTED] and report["recommended"] in report["models"]
    assert sum(shares["before"] for shares in report["classes"].values()) == pytest.approx(100)
    assert sum(shares["after"] for shares in report["classes"].values()) == pytest.approx(100)
    assert f"pixels whose class changed: {report['pixels changed']:.1f} %" in output
    assert f"Recommended: {report['recommended']}" in " ".join(output.split())
    assert (out / "changes.png").stat().st_size > 10_000
    assert str(out.parent) not in (out / "changes.json").read_text()


def test_the_masks_have_the_shares_that_it_tells(adapted: tuple[Path, str]) -> None:
    """The share of a class after is that of the masks, which another pass has written."""
    from PIL import Image

    out, _ = adapted
    report = json.loads((out / "changes.json").read_text())
    legend = {row["name"]: row["id"] for row in json.loads((out / "legend.json").read_text())}
    masks = [np.asarray(Image.open(path)) for path in sorted((out / "labels").iterdir())]
    for name, shares in report["classes"].items():
        share = 100 * np.mean([(mask == legend[name]).mean() for mask in masks])
        assert shares["after"] == pytest.approx(share, abs=1.0), name
