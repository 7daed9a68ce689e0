"""Reports: one file that needs nothing else, with the request, the scores, warnings and pictures."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import bench
from bench import cli
from bench.core.errors import RunError, UsageError
from bench.core.workspace import Workspace
from bench.footage.adapt import schedule
from bench.footage.pictures import open_footage
from bench.footage.request import Request
from bench.runs.config import make_run_config
from bench.runs.finished import config_text
from bench.runs.options import parse_options
from bench.runs.records import Record
from bench.runs.settings import resolve_settings
from tests.bench.leaderboards.made import make_record
from tests.bench.pages.conftest import EXTRA, HOSTILE, needs_extra

sheet, report_own, report_run = (
    pytest.importorskip(f"bench.pages.{name}", reason=EXTRA) for name in ("sheet", "report_own", "report_run")
)
pytestmark = needs_extra
MODEL, FOOTAGE = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
LEGEND = [{"id": i, "name": name, "color": [i, 0, 0]} for i, name in ((7, "road"), (8, "train"), (9, "bus"))]


def write_run(runs: Path, record: Record, losses: str = "") -> Path:
    """The folder of a finished run, its checkpoint left empty: a report reads none."""
    folder = runs / record.run
    (folder / "figures").mkdir(parents=True)
    (folder / "record.json").write_text(record.to_json())
    (folder / "config.yaml").write_text(config_text(record.config))
    (folder / "checkpoint.safetensors").write_bytes(b"")
    (folder / "metrics.jsonl").write_text(losses)
    Image.new("RGB", (40, 20), "red").save(folder / "figures" / "clip-00000.png")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of STPL beside the source-only run of its replicate; a class has gone, a loss is logged."""
    classes = make_record("stpl", 0, 44.0).result.model_dump()
    classes["iou"] |= {"bus": 0.0, "sky": 90.0}
    snapshots = [{"step": float(s), "target_score": t, "miou": m} for s, t, m in ((50, 1.5, 42.0), (100, 1.4, 44.0))]
    selection = make_record("stpl", 0, 44.0).selection.model_dump() | {"snapshots": snapshots}
    options = {"fusion": "none", "temperature": 0.2}
    record = make_record("stpl", 0, 44.0, options=options, result=classes, selection=selection, source_model="c" * 12)
    write_run(tmp_path / "runs", make_record("source_only", 0, 30.0, source_model="c" * 12, options={"fusion": "none"}))
    write_run(tmp_path / "runs", make_record("source_only", 0, 35.0, source_model="d" * 12))
    return write_run(
        tmp_path / "runs", record, '{"step": 0, "ce": 2.0, "con": 1.0}\n{"step": 1, "ce": 1.0}\n{"step": 2, "c'
    )


@pytest.fixture
def adapted(tmp_path: Path) -> Callable[..., Path]:
    """``adapted("name", [ids])`` is a folder as ``bench adapt`` leaves it, with one mask of these ids."""

    def make(name: str, ids: list[int], **changes: Any) -> Path:
        folder = tmp_path / name
        (folder / "labels").mkdir(parents=True)
        (folder / "overlays").mkdir()
        request = Request(
            checkpoint=MODEL, method="self_training", settings=resolve_settings("self_training", {"drop": 0.25}), flow="dis",
            size=(64, 128), pictures=4, content=FOOTAGE, seed=3, schedule=schedule(20, 2, 1e-3),
        )  # fmt: skip
        (folder / "adapt.yaml").write_text(yaml.safe_dump(request.model_dump(mode="json")))
        (folder / "model.safetensors").write_bytes(b"")
        (folder / "metrics.jsonl").write_text('{"step": 0, "ce": 2.0}\n{"step": 1, "ce": 1.5}\n')
        (folder / "legend.json").write_text(json.dumps(LEGEND))
        Image.fromarray(np.array([ids], np.uint8)).save(folder / "labels" / "a.png")
        Image.new("RGB", (40, 20), "blue").save(folder / "overlays" / "a.png")
        predicted = {
            "weights": "e" * 12,
            "content": FOOTAGE,
            "label maps": 1,
            "labelled pictures": 1,
            "mIoU": 50.0,
            "left out": {},
        }
        (folder / "predict.json").write_text(json.dumps(predicted | changes))
        return folder

    return make


def check_self_contained(html: str) -> None:
    """Checks that a page loads nothing from outside itself."""
    body = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"', body)
    assert html.count("<script>") == html.count("</script>") - html.count('<script type="application/json"')


def test_a_run(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["report", str(run), "--out", "r.html", "--runs", str(run.parent), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"report": "r.html"}
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    check_self_contained(html)
    assert "30.0 % (+14.0 points)" in html  # of the same source model, not the other one's 35.0
    assert "<td>road</td><td>35.0</td><td>49.0</td><td>+14.0</td>" in html
    assert "Classes that vanished: bus had an IoU above 0" in html
    assert "No gain in the target-only score over the kept weights: 1.500 first, 1.400 last." in html
    picture = re.search(r'<img src="data:image/webp;base64,([^"]+)" alt="clip-00000"', html)
    assert picture and base64.b64decode(picture[1])[8:12] == b"WEBP"


def test_before_is_the_very_source_model_that_the_run_started_from() -> None:
    record = make_record("stpl", 0, 44.0, source_model="c" * 12)
    right = make_record("source_only", 0, 30.0, source_model="c" * 12)
    wrong = [
        make_record("source_only", 0, 35.0, source_model="d" * 12),
        make_record("source_only", 1, 35.0, source_model="c" * 12),
        make_record("source_only", 0, 35.0, source_model="c" * 12, options={"flow": "zero"}),
        make_record("adabn", 0, 35.0, source_model="c" * 12),
    ]
    assert report_run._start(record, [*wrong, right]) is right and report_run._start(record, wrong) is None
    assert report_run._start(right, [right]) is None


def test_its_command_gives_the_same_run(run: Path, tmp_path: Path) -> None:
    record = Record.model_validate_json((run / "record.json").read_text())
    words = shlex.split(report_run.of_run(str(run), run.parent, tmp_path).command)
    arguments = {key: words[words.index(key) + 1] for key in ("--method", "--shift", "--seed")}
    options = [word for flag, word in itertools.pairwise(words) if flag == "-o"]
    config = make_run_config(
        arguments["--method"], arguments["--shift"], int(arguments["--seed"]), parse_options(options)
    )
    assert config.hash == record.run and sorted(options) == ["fusion=none", "temperature=0.2"]


def test_warnings_of_a_good_run_are_none() -> None:
    snapshots = [{"step": float(s), "target_score": s / 100, "miou": 44.0} for s in (50, 100)]
    selection = make_record("stpl", 0, 44.0).selection.model_dump() | {"snapshots": snapshots}
    record = make_record("stpl", 0, 44.0, selection=selection)
    assert report_run.warnings(record, {"road": 30.0}, 30.0) == []
    assert report_run.warnings(record, {}, 44.1) == ["Below source-only: 44.0 % against 44.1 %."]


def test_losses_are_means_of_their_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "POINTS", 2)
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(f'{{"step": {s}, "ce": {v}}}\n' for s, v in enumerate((1.0, 2.0, 3.0, 6.0))) + '{"step": 4')
    assert sheet.log_points(log) == [
        {"step": 1, "loss": "ce", "value": 1.5},
        {"step": 3, "loss": "ce", "value": 4.5},
    ]
    log.write_text('{"step": 0\n{"step": 1, "ce": 1.0}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 1: no JSON of numbers"):
        sheet.log_points(log)


def test_an_adaptation_before_and_after(adapted: Callable[..., Path], tmp_path: Path) -> None:
    before = adapted("before", [7, 7, 8, 9], weights=MODEL, mIoU=40.0)
    after = adapted("after", [7, 7, 7, 9], mIoU=50.0)
    (after / "film.gif").write_bytes(b"GIF89a film")
    html = bench.report(after, tmp_path / "o.html", before=before).read_text(encoding="utf-8")
    check_self_contained(html)
    assert "<td>road</td><td>50.0</td><td>75.0</td><td>+25.0</td>" in html  # 2 and 3 of 4 pixels
    assert "Classes that vanished: train (25.0 % of the pixels before)." in html and "in no mask" not in html
    assert "50.0 % of 1 pictures; before 40.0 % (+10.0 points)" in html
    assert "--size 64x128 --steps 20 --batch 2 --lr 0.001 --seed 3 -o drop=0.25</pre>" in html
    assert html.count('class="compare"') == 1 and base64.b64encode(b"GIF89a film").decode() in html


def test_an_adaptation_alone(adapted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    after = adapted("after", [7] * 19 + [9])
    monkeypatch.setattr(sheet, "LARGEST_FILM", 3)
    (after / "film.gif").write_bytes(b"GIF89a film")
    monkeypatch.setattr(report_own, "flow_fault", lambda *_: "points the wrong way")
    (tmp_path / "frames").mkdir()
    html = bench.report(after, tmp_path / "o.html", frames=tmp_path / "frames").read_text(encoding="utf-8")
    assert "Classes that are in no mask: train." in html and "One class has 95 % of all pixels: road." in html
    assert "The flow does not fit the frames: &#39;dis&#39; points the wrong way." in html
    assert "too large for this page" in html and "<td>road</td><td>95.0</td>" in html and 'class="compare"' not in html


def test_flow_that_does_not_fit_the_frames_is_seen(
    adapted: Callable[..., Path], tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A texture that moves three pixels to the right: DIS explains it, its negation does not."""
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 160, 3), dtype=np.uint8), (0, 0), 2)
    (tmp_path / "frames").mkdir()
    for t in range(4):
        Image.fromarray(texture[:, 12 - 3 * t : 140 - 3 * t]).save(tmp_path / "frames" / f"{t:04d}.png")
    footage = open_footage(tmp_path / "frames", (64, 128), "mini", workspace)
    folder = adapted("after", [7])
    fields = yaml.safe_load((folder / "adapt.yaml").read_text())
    request = Request.model_validate(fields | {"content": footage.content, "size": (64, 128)})
    monkeypatch.setattr(report_own, "read_info", lambda _: SimpleNamespace(network="mini"))
    arguments = tmp_path / "frames", folder, request, workspace
    assert report_own.flow_fault(*arguments) is None
    right = report_own.backend_of("dis")

    def wrong(*clip: Any) -> tuple[Any, Any]:
        flow, valid = right(*clip)
        return -flow, valid

    monkeypatch.setattr(report_own, "backend_of", lambda _: wrong)
    assert str(report_own.flow_fault(*arguments)).startswith("points the wrong way, like forward flow t-1 to t")
    with pytest.raises(UsageError, match=f"is not the footage that was adapted to .{footage.content}, not {FOOTAGE}"):
        report_own.flow_fault(tmp_path / "frames", folder, Request.model_validate(fields), workspace)


def test_what_does_not_belong_together_is_refused(run: Path, adapted: Callable[..., Path], tmp_path: Path) -> None:
    after, foreign = adapted("after", [7]), adapted("other", [7], weights=MODEL, content="f" * 12)
    with pytest.raises(UsageError, match=r"was predicted with another footage than the adaptation had \(ffffffffffff"):
        bench.report(after, tmp_path / "o.html", before=foreign)
    with pytest.raises(UsageError, match="--before and --frames go with a folder of `bench adapt`"):
        bench.report(run, tmp_path / "o.html", before=foreign, runs=run.parent)
    (after / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="is not a finished adaptation"):
        bench.report(after, tmp_path / "o.html")
    (tmp_path / "o.html").write_text("mine")
    with pytest.raises(UsageError, match=r"o\.html was not written by `bench report`"):
        bench.report(run, tmp_path / "o.html", runs=run.parent)
    with pytest.raises(UsageError, match="lies in the run"):
        bench.report(run, run / "o.html", runs=run.parent)
    assert (tmp_path / "o.html").read_text() == "mine"


def test_what_a_file_says_is_no_markup(adapted: Callable[..., Path], tmp_path: Path) -> None:
    after = adapted("after", [7], **{"left out": {HOSTILE: HOSTILE}})
    (after / "legend.json").write_text(json.dumps([{"id": 7, "name": HOSTILE, "color": [0, 0, 0]}]))
    html = bench.report(after, tmp_path / "o.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in html and "<img src=x" not in html and "&lt;script&gt;alert(1)" in html
