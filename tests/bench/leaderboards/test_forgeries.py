"""Records and runs that were made up: each is refused with one line that names the file and the reason, and nothing is written.

What is consistent throughout cannot be found by looking: ``bench leaderboard --check --sample`` scores some again, ``bench verify``
runs one again.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bench.core.errors import RunError, UsageError
from bench.core.files import sha256_of
from bench.leaderboards.page import check, write
from bench.leaderboards.standings import read_committed
from bench.leaderboards.submit import submit_runs
from bench.leaderboards.verify import verify_record
from bench.networks.weights import load_tensors, save_tensors
from bench.runs import selection
from bench.runs.config import RunConfig, load_shift
from bench.runs.finished import config_text
from bench.runs.selection import Snapshot
from bench.runs.sequences import place, read_sequences, write_sequences
from tests.bench.leaderboards.made import SHIFT, Pixels, commit, result_of, scored

Fields = dict[str, Any]
PAIRS = [scored(key, seed, 50.5 + seed) for key in ("self_training", "stpl") for seed in range(3)]
CLASSES = load_shift(SHIFT).classes


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def renamed(fields: Fields, **config: Any) -> None:
    """Change the config, and the run's hash with it."""
    fields["config"] |= config
    fields["run"] = RunConfig.model_validate(fields["config"]).hash


def selected(fields: Fields) -> None:
    """Make the last snapshot's score that of the record, and the selection what the snapshots give."""
    chosen = fields["selection"]
    chosen["snapshots"][-1]["miou"] = fields["result"]["miou"]
    snapshots = [
        Snapshot(int(snapshot["step"]), snapshot["target_score"], snapshot["miou"]) for snapshot in chosen["snapshots"]
    ]
    for name, choice in (("unsupervised", selection.unsupervised(snapshots)), ("oracle", selection.oracle(snapshots))):
        chosen[name] |= {"step": choice.step, "miou": choice.miou}


def rescored(fields: Fields, counts: Pixels) -> None:
    """Make the record's scores those of the pixels."""
    fields["result"] |= {k: v for k, v in result_of(counts).items() if k != "temporal_consistency"}
    selected(fields)


# Committed records ----------------------------------------------------------------------------------------------------


def put(dotted: str, value: Any) -> Callable[[Fields, Pixels], None]:
    """Replace one value of the JSON."""

    def edit(fields: Fields, counts: Pixels) -> None:
        *parents, last = dotted.split(".")
        for key in parents:
            fields = fields[int(key)] if isinstance(fields, list) else fields[key]
        fields[last] = value

    return edit


def as_config(**config: Any) -> Callable[[Fields, Pixels], None]:
    return lambda fields, counts: renamed(fields, **config)


def as_setting(**settings: Any) -> Callable[[Fields, Pixels], None]:
    return lambda fields, counts: renamed(fields, settings=fields["config"]["settings"] | settings)


def worst_ten_left_out(fields: Fields, counts: Pixels) -> None:
    iou = fields["result"]["iou"]
    for name in sorted(iou, key=iou.__getitem__)[:10]:
        iou[name] = None
    fields["result"]["miou"] = float(np.mean([x for x in iou.values() if x is not None]))
    selected(fields)


def invented_class(fields: Fields, counts: Pixels) -> None:
    fields["result"]["iou"]["unicorn"] = 100.0


def class_gone(fields: Fields, counts: Pixels) -> None:
    del fields["result"]["iou"]["bus"]


def never_run(fields: Fields, counts: Pixels) -> None:
    renamed(fields, seed=7)


def never_run_with_labels_made_up(fields: Fields, counts: Pixels) -> None:
    renamed(fields, seed=7)
    for sequence in counts.values():
        sequence[0, 1:] += 1
    rescored(fields, counts)


def easier_labels(fields: Fields, counts: Pixels) -> None:
    for sequence in counts.values():
        sequence[:, 1:] -= (sequence[:, 1:] - sequence[:, :1]) // 2  # half of what was wrong is gone
    rescored(fields, counts)


def fewer_sequences(fields: Fields, counts: Pixels) -> None:
    del counts["00099"]
    rescored(fields, counts)


def larger_labels(fields: Fields, counts: Pixels) -> None:
    counts["00003"] += 10_000
    rescored(fields, counts)


def more_right_than_there_is(fields: Fields, counts: Pixels) -> None:
    counts["00003"][0, 0] += 500


EDITED = {
    "mIoU 250": (put("result.miou", 250.0), r"result.miou: Input should be less than or equal to 100, got 250"),
    "mIoU -5": (put("result.miou", -5.0), r"result.miou: Input should be greater than or equal to 0, got -5"),
    "mIoU 99.9": (put("result.miou", 99.9), r"result.miou is 99.9, the mean of its IoUs is 51"),
    "IoU -3": (put("result.iou.bus", -3.0), r"result.iou.bus: Input should be greater than or equal to 0"),
    "IoU of one class": (put("result.iou.bus", 60.0), r"result.miou is 51.*, the mean of its IoUs is 5"),
    "IoU is NaN": (put("result.iou.bus", float("nan")), r"result.iou.bus: Input should be"),
    "accuracy": (put("result.pixel_accuracy", 99.0), r"pixel accuracy is 99.0 in the record, .* from the counts"),
    "consistency 120": (put("result.temporal_consistency", 120.0), r"temporal_consistency: Input should be less than"),
    "mVC of rendered clips": (put("result.mvc8", 99.0), r"result.mvc8 has a value, but clips of rendered worlds do not follow"),
    "ten worst IoUs left out": (worst_ten_left_out, r"IoU of \w+ is None in the record, [\d.]+ from the counts"),
    "invented class": (invented_class, r"result.iou: 'unicorn' is no class of the shift"),
    "class gone": (class_gone, r"result.iou: 'bus' is missing"),
    "replicate never run": (never_run, r"is scored on the labels of \S+, on another replicate"),
    "never run, labels made up": (never_run_with_labels_made_up, r"starts from the source model of \S+, on another replicate"),
    "CSV edited along": (easier_labels, r"is scored on other labels than \S+, on the same replicate"),
    "fewer sequences": (fewer_sequences, r"99 sequences, '00000' to '00098'; the data has 100"),
    "larger labels": (larger_labels, r"sequence '00003' has \d+ pixels; its labels have 32768 at most"),
    "CSV alone": (more_right_than_there_is, r"the counts of sequence '00003' are impossible"),
    "HTML in hardware": (put("hardware.cpu", "<script>alert(1)</script>"), r"hardware.cpu is no name or version: '<scr"),
    "HTML in a key": (put("versions", {"<img src=x>": "1"}), r"versions.<img src=x> is no name or version"),
    "markdown in a version": (put("versions.torch", "[2](https://x.y)"), r"versions.torch is no name or version"),
    "a list in hardware": (put("hardware.cpu", ["a"]), r"hardware.cpu is neither text nor a whole number"),
    "a billion threads": (put("hardware.threads", 10**9), r"hardware.threads is 1000000000, not a number of threads"),
    "revision": (put("code.revision", "HEAD"), r"code.revision is no revision of git: 'HEAD'"),
    "date": (put("date", "yesterday"), r"date is not YYYY-MM-DD: 'yesterday'"),
    "title": (put("method.title", "<b>STPL</b>"), r"method.title is no title: '<b>STPL</b>'"),
    "method: way up": (as_config(method="../../../escaped"), r"Unknown method '../../../escaped'"),
    "method: absolute": (as_config(method="/tmp/escaped"), r"Unknown method '/tmp/escaped'"),
    "shift: way up": (as_config(shift="../../x"), r"is of shift '../../x', not 'ministreet'"),
    "network: way up": (as_config(network="../zoo/mini"), r"Unknown network '../zoo/mini'"),
    "flow": (as_config(flow="telepathy"), r"Unknown flow 'telepathy'"),
    "run: way up": (put("run", "../../../x"), r"run: String should match pattern"),
    "run": (put("run", "0" * 12), r"says run 000000000000, but its config gives"),
    "setting out of range": (as_setting(temperature=-1.0), r"temperature must be in 0.01..10, got -1"),
    "setting of another type": (as_setting(times="<b>"), r"Option of method 'stpl'.*times"),
    "saw more": (put("method.setting", "UDA"), r"ran as UDA, but 'stpl' is now SFDA"),
    "looks": (put("selection.oracle.label_looks", 0), r"selection.oracle is .*'label_looks': 0.*; its snapshots give"),
    "best on the labels": (put("selection.oracle.miou", 80.0), r"selection.oracle is .*80.0.*; its snapshots give"),
    "unsupervised": (put("selection.unsupervised.step", 50), r"selection.unsupervised is .*50.*; its snapshots give"),
    "steps kept": (put("selection.snapshots.0.step", 17), r"snapshots are of steps 17, 100, 150; this protocol keeps 50"),
    "nothing kept": (put("selection.snapshots", []), r"snapshots are of steps none; this protocol keeps 50, 100, 150"),
    "target score": (put("selection.snapshots.2.target_score", 99.0), r"target_score is 99.0 at step 150; it is in 0..2.7"),
    "snapshot": (put("selection.snapshots.2.miou", 60.0), r"result.miou is 51.*, that of the last snapshot 60.0"),
    "more in a snapshot": (put("selection.oracle.luck", 1), r"selection: label_looks, luck, miou, step is not what"),
    "no time": (put("cost.seconds", 0.0), r"cost.seconds is 0.0 for 150 steps; possible: 0.15 or more"),
    "negative cost": (put("cost.cpu_seconds", -1.0), r"cost.cpu_seconds: Input should be greater than or equal to 0"),
    "more time than cores": (put("cost.cpu_seconds", 9e9), r"cost.cpu_seconds is 9000000000.0, more than 2 cores have"),
    "steps": (put("cost.steps", 15), r"cost.steps is 15; this protocol takes 150"),
    "parameters": (put("cost.parameters", 1), r"cost.parameters is 1; mini with conv1x1 has 509931"),
    "memory": (put("cost.peak_memory_mb", 0.1), r"cost.peak_memory_mb is 0.1, less than the network alone"),
    "no source model": (put("source_model", None), r"source_model is None; 'stpl' starts from one"),
    "source model: way up": (put("source_model", "../x"), r"source_model is not the name of one: '../x'"),
    "weights not kept": (put("beside", {"teacher": PAIRS[0][0].result.model_dump()}), r"scores of other weights \(teacher\)"),
    "schema 2": (put("schema", 2), r"is of schema 2; this version of bench reads schema 1: use the version that made it"),
    "digest": (put("digests", {"checkpoint": "x"}), r"digests.checkpoint: String should match pattern"),
}  # fmt: skip


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    root = tmp_path / "a" / "b" / "boards"
    commit(root, PAIRS)
    return root


def test_what_was_measured_is_taken(boards: Path) -> None:
    assert len(read_committed(boards, SHIFT).records) == len(PAIRS)


@pytest.mark.parametrize("name", EDITED)
def test_an_edited_record_is_refused(name: str, boards: Path, tmp_path: Path) -> None:
    edit, reason = EDITED[name]
    path = next((boards / "records" / SHIFT).glob("stpl-s1-*.json"))
    fields, counts = json.loads(path.read_text()), read_sequences(place(path), CLASSES)
    edit(fields, counts)
    path.write_text(json.dumps(fields))
    write_sequences(place(path), counts, CLASSES)
    before = contents(tmp_path)
    for take in (check, write):
        with pytest.raises(RunError, match=reason) as error:
            take(boards)
        message = str(error.value)
        assert path.stem in message and "\n" not in message and len(message) < 600
    assert contents(tmp_path) == before


def test_a_record_without_its_pixels_is_refused(boards: Path) -> None:
    path = next((boards / "records" / SHIFT).glob("stpl-s1-*.json"))
    place(path).unlink()
    with pytest.raises(RunError, match=re.escape(f"Record {path} has no scores per sequence ({place(path)}); submit")):
        check(boards)


def test_records_of_a_folder_that_is_no_shift_are_refused(boards: Path) -> None:
    (boards / "records" / SHIFT).rename(boards / "records" / "x.yaml")
    with pytest.raises(UsageError, match=r"Unknown shift 'x\.yaml'"):
        check(boards)


# Runs ------------------------------------------------------------------------------------------------------------------


def oracle_inside(folder: Path, fields: Fields, oracle: Path) -> None:
    """Weights, scores and pixels of the oracle in a folder of STPL."""
    for name in ("checkpoint.safetensors", "sequences.csv"):
        (folder / name).write_bytes((oracle / name).read_bytes())
    fields["result"] = json.loads((oracle / "record.json").read_text())["result"]
    selected(fields)


def oracle_and_digest(folder: Path, fields: Fields, oracle: Path) -> None:
    oracle_inside(folder, fields, oracle)
    fields["digests"]["checkpoint"] = sha256_of(folder / "checkpoint.safetensors")


def other_weights(folder: Path, fields: Fields, oracle: Path) -> None:
    """All that can be checked without scoring is right."""
    path = folder / "checkpoint.safetensors"
    tensors, metadata = load_tensors(path)
    name = "encoder.stem.0.0.weight"
    save_tensors(path, {**tensors, name: -tensors[name]}, metadata)
    fields["digests"]["checkpoint"] = sha256_of(path)


def labels_made_up(folder: Path, fields: Fields, oracle: Path) -> None:
    """A pixel moves from one class to another in truth and prediction of a sequence, and so does one in another, back."""
    path, classes = folder / "sequences.csv", load_shift("tiny-reported").classes
    counts = read_sequences(path, classes)
    a, b = counts["00000"], counts["00001"]
    i, j = [k for k in range(len(classes)) if (a[k] > 0).all() and (b[k] > 0).all()][:2]
    a[i] -= 1
    a[j] += 1
    b[i] += 1
    b[j] -= 1
    write_sequences(path, counts, classes)


def field_changed(dotted: str, value: Any) -> Callable[[Path, Fields, Path], None]:
    return lambda folder, fields, oracle: put(dotted, value)(fields, {})


def configured(**config: Any) -> Callable[[Path, Fields, Path], None]:
    def edit(folder: Path, fields: Fields, oracle: Path) -> None:
        renamed(fields, **config)
        (folder / "config.yaml").write_text(config_text(RunConfig.model_validate(fields["config"])))

    return edit


def shift_file_with_a_way_up(folder: Path, fields: Fields, oracle: Path) -> None:
    shift = yaml.safe_load((oracle.parents[1] / "shifts" / "tiny-reported.yaml").read_text())
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(shift | {"name": "../../x"}))
    configured(shift=str(path))(folder, fields, oracle)


def log_cut_short(folder: Path, fields: Fields, oracle: Path) -> None:
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-1]))


def file_deleted(name: str) -> Callable[[Path, Fields, Path], None]:
    return lambda folder, fields, oracle: (folder / name).unlink()


FORGED = {
    "oracle's checkpoint": (oracle_inside, r"has another checkpoint than its record says"),
    "oracle's, with its digest": (oracle_and_digest, r"has the checkpoint of run [0-9a-f]{12}, step 12; run it again"),
    "other weights": (other_weights, r"the record says [\d.]+ \w+, its checkpoint scores [\d.]+"),
    "labels made up": (labels_made_up, r"the pixels of sequence '00000' are not those of its labels"),
    "no digests": (field_changed("digests", None), r"names no digest of its checkpoint; run it again"),
    "no digest of the start": (field_changed("digests", {"checkpoint": "0" * 64}), r"names no digest of its source model"),
    "revision of nowhere": (field_changed("code.revision", "0123456789ab"), r"0123456789ab, which is not in the history"),
    "revision of other code": (field_changed("code.revision", "def456def456"), r"def456def456, but its code was another"),
    "no revision": (field_changed("code.revision", None), r"does not say which revision of the code ran"),
    "changed code": (field_changed("code.dirty", True), r"ran with changes that are not in revision"),
    "compilers": (field_changed("hardware.compiled", True), r"ran with --compile, whose compilers are processes"),
    "source model": (field_changed("source_model", "0123456789ab"), r"says source model 0123456789ab, not [0-9a-f]{12};"),
    "steps": (field_changed("cost.steps", 5), r"cost.steps is 5; this protocol takes 6"),
    "time": (field_changed("cost.seconds", 1e-9), r"cost.seconds is 1e-09 for 6 steps"),
    "parameters": (field_changed("cost.parameters", 7), r"cost.parameters is 7; mini with conv1x1 has"),
    "log": (log_cut_short, r"logged 5 steps, its record says 6"),
    "no log": (file_deleted("metrics.jsonl"), r"logged 0 steps, its record says 6"),
    "no pixels": (file_deleted("sequences.csv"), r"has no scores per sequence \(sequences.csv\)"),
    "looks": (field_changed("selection.oracle.label_looks", 0), r"selection.oracle is .*; its snapshots give"),
    "score": (field_changed("result.miou", 60.0), r"result.miou is 60.0, the mean of its IoUs is"),
    "consistency": (field_changed("result.temporal_consistency", 99.0), r"says 99.0 temporal_consistency, its checkpoint"),
    "HTML": (field_changed("hardware.cpu", "<b>"), r"hardware.cpu is no name or version"),
    "method: way up": (configured(method="../../../escaped"), r"Unknown method '../../../escaped'"),
    "method: absolute": (configured(method="/tmp/escaped"), r"Unknown method '/tmp/escaped'"),
    "shift: way up": (configured(shift="../../x"), r"ran with shift ../../x from outside this repository"),
    "shift: a file": (shift_file_with_a_way_up, r"ran with shift \S+mine.yaml from outside this repository"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_run_is_refused(
    name: str, copied: Callable[[str], Path], reported: Path, tmp_path: Path, tiny_cache: Path
) -> None:
    folder, root = copied("stpl"), tmp_path / "a" / "b" / "boards"
    fields = json.loads((folder / "record.json").read_text())
    edit, reason = FORGED[name]
    edit(folder, fields, (reported / "oracle").resolve())
    (folder / "record.json").write_text(json.dumps(fields))
    before = contents(tmp_path)
    with pytest.raises((RunError, UsageError), match=reason) as error:
        submit_runs([folder], root, tiny_cache)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
    assert contents(tmp_path) == before and not root.exists()


@pytest.mark.parametrize("config", [{"method": "../../../escaped"}, {"shift": "../../x"}, {"network": "../x"}])
def test_verify_makes_no_path_of_a_name(config: dict[str, str], tmp_path: Path, tiny_cache: Path) -> None:
    fields = copy.deepcopy(json.loads(PAIRS[0][0].to_json()))
    renamed(fields, **config)
    path = tmp_path / "a" / "b" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(fields))
    with pytest.raises(RunError, match=f"Record {path}: Unknown {next(iter(config))} '{next(iter(config.values()))}'"):
        verify_record(path, tmp_path / "cache")
    assert list(contents(tmp_path)) == [path]
