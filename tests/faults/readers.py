"""Every reader of the benchmark: how a small valid file of its kind is made, how it is read, and how files of it go wrong.

What a reader says of a damaged file is an error of :data:`TYPED`; caches that would be made again say so with :class:`Again`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from PIL import Image
from torch import nn

from bench.analysis.data import RunAnalysis
from bench.analysis.data import read as read_analysis
from bench.analysis.export import metrics_frame, read_log
from bench.core.errors import RunError, UsageError
from bench.core.outputs import MANIFEST, Output
from bench.core.schema import canonical, read_json, read_yaml
from bench.core.sealed import sealed
from bench.data.datasets import dataset
from bench.data.datasets._description import find_frames
from bench.data.datasets._video import SUMS, extract
from bench.data.described import Listing
from bench.data.index import Index, read_index, store_index
from bench.data.reading import AS_THEY_ARE, colour_picture, label_ids
from bench.data.rendered import ClipStore, is_whole, prepare_split
from bench.flow import _formats as formats
from bench.flow._raft import read_weights
from bench.flow._shards import Precomputed
from bench.flow.compute import compute
from bench.footage.request import Request
from bench.networks.build import build_segmenter
from bench.networks.foreign import load_foreign
from bench.networks.model_file import load_model, save_model
from bench.networks.weights import load_into, load_tensors, save_tensors
from bench.pages.report_own import _read as read_predict
from bench.pages.report_own import class_shares
from bench.pages.sheet import inlined, log_points
from bench.runs.config import load_shift, make_run_config
from bench.runs.finished import config_text, finished
from bench.runs.known_data import same_data
from bench.runs.model_source import is_good
from bench.runs.options import parse_options, parse_range
from bench.runs.pseudo_labels import _write, read_predictions
from bench.runs.records import PLACES, _recall_places, read_record
from bench.runs.sequences import read_sequences, to_csv
from bench.runs.training import Trainer
from bench.shifts.protocol import Adaptation
from bench.sweeps.jobs import SweepFolder
from bench.sweeps.search import COLUMNS
from bench.sweeps.search import read_log as read_tuning
from bench.sweeps.spec import Sweep
from bench.sweeps.study import load_study
from methods.base import Card, ClipBatch, LabelledBatch, Method, NoSettings, Setup
from stpl.segmenter import VideoSegmenter

from . import mutations as m

TINY = "ministreet-tiny"
TYPED = (RunError, UsageError)
LEADERBOARDS = Path(__file__).resolve().parents[2] / "leaderboards"
RNG = np.random.default_rng(0)
RGB = cv2.GaussianBlur(RNG.integers(0, 255, (24, 32, 3)).astype(np.uint8), (5, 5), 0)
LABEL = RNG.integers(0, 12, (24, 32)).astype(np.uint8)
FLOW = RNG.normal(0, 3, (2, 12, 16)).astype(np.float32)


class Again(RunError):
    """A damaged cache was found: it is made again."""


@dataclass(frozen=True)
class Reader:
    """A kind of file.

    Attributes:
        make: writes a valid one (and what belongs to it) into a folder; returns its path.
        read: its value, of plain data, arrays and tensors.
        mutate: how it is damaged.
        checksum: whether every byte that matters is covered by one, so that another value must never be read.
        loses: whether what is damaged may be left out of the value.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    mutate: m.Mutate
    checksum: bool
    loses: bool = False


def text(name: str, content: str) -> Callable[[Path], Path]:
    """Makes a file of a text."""
    return data(name, content.encode())


def data(name: str, content: bytes) -> Callable[[Path], Path]:
    """Makes a file of bytes."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def picture(name: str, pixels: Any, **how: Any) -> Callable[[Path], Path]:
    """Makes a picture."""

    def make(folder: Path) -> Path:
        Image.fromarray(pixels).save(folder / name, **how)
        return folder / name

    return make


# Pictures and video ---------------------------------------------------------------------------------------------------


def _labels_of(name: str) -> Callable[[Path], Any]:
    return lambda path: dataset(name).read_label(path, AS_THEY_ARE)


def _sixteen_bits(folder: Path) -> Path:
    wide = np.zeros((*LABEL.shape, 3), np.uint16)
    wide[..., 2] = LABEL
    (folder / "a.png").write_bytes(cv2.imencode(".png", wide)[1].tobytes())
    return folder / "a.png"


def _video(ending: str, codec: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"a{ending}"
        film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (64, 48))
        for number in range(4):
            film.write(np.roll(cv2.resize(RGB, (64, 48)), number, 1))
        film.release()
        return path

    return make


def _frames_of(path: Path) -> Any:
    folder = extract(path, path.parent / "cache")
    try:
        return [colour_picture(file) for file in sorted(folder.glob("*.png"))]
    finally:
        shutil.rmtree(path.parent / "cache")


def _extracted(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return extract(_video(".avi", "MJPG")(folder), folder / "cache") / name

    return make


def _extracted_again(path: Path) -> Any:
    """Frames as a command gets them: what was damaged has been taken from the video again."""
    folder = extract(path.parents[3] / "a.avi", path.parents[2])
    return [colour_picture(file) for file in sorted(folder.glob("*.png"))]


PICTURES = [
    Reader("picture .png", picture("a.png", RGB), colour_picture, m.a_png, True),
    *(
        Reader(f"picture {end}", picture(f"a{end}", RGB), colour_picture, m.some_bytes, False)
        for end in (".jpg", ".webp", ".bmp", ".tif")
    ),
    Reader("labels, grey", picture("a.png", LABEL), label_ids, m.a_png, True),
    Reader("labels, 4 bits", picture("a.png", LABEL, bits=4), label_ids, m.a_png, True),
    Reader("labels of viper", picture("a.png", LABEL), _labels_of("viper"), m.a_png, True),
    Reader("labels of cityscapes_seq", picture("a.png", LABEL), _labels_of("cityscapes_seq"), m.a_png, True),
    Reader("labels of synthia_seq", _sixteen_bits, _labels_of("synthia_seq"), m.a_png, True),
    Reader("picture of a report", picture("a.png", RGB), inlined, m.a_png, True),
    Reader("video .avi", _video(".avi", "MJPG"), _frames_of, m.some_bytes, False),
    Reader("video .mp4", _video(".mp4", "mp4v"), _frames_of, m.some_bytes, False),
    Reader("frames of a video, one", _extracted("000001.png"), _extracted_again, m.a_png, True),
    Reader("frames of a video, list", _extracted(SUMS), _extracted_again, m.a_json, True),
]


# Flow -----------------------------------------------------------------------------------------------------------------


def _flow(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        formats.write(folder / name, FLOW, np.abs(FLOW[0]) < 5)
        return folder / name

    return make


@dataclass(frozen=True)
class _Clips:
    """A split of two clips, rendered once."""

    name: str = "target-train-0123456789ab"

    def open(self) -> ClipStore:
        return ClipStore(rendered())


@lru_cache
def rendered() -> Path:
    """Folder of two small rendered clips; it is copied, not changed."""
    import tempfile

    shift = load_shift(TINY)
    assert shift.data.kind == "ministreet"
    two = shift.data.target.model_copy(update={"train": 2})  # type: ignore[union-attr]
    return prepare_split(shift.data.model_copy(update={"target": two}), "target", "train", 0, Path(tempfile.mkdtemp()))  # type: ignore[arg-type]


def _computed(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        done = compute(_Clips(), "dis", folder, workers=1, per_shard=1, force=True)  # type: ignore[arg-type]
        return Path(done["folder"]) / name

    return make


def _flow_of_a_run(path: Path) -> Any:
    found = Precomputed(path.parent)
    store = _Clips().open()
    if not found.fits(store):
        raise Again("of other clips")
    return [found(store[i], store, i) for i in range(2)], found.identity, found.backend


FLOWS = [
    Reader("flow .flo", _flow("a.flo"), formats.read, m.some_bytes, False),
    Reader("flow .png (KITTI)", _flow("a.png"), formats.read, m.a_png, True),
    Reader("flow .npy (DA-VSN)", _flow("a_int16_x10.npy"), formats.read, m.an_npy, False),
    Reader("flow .npz (VIPER)", _flow("a.npz"), formats.read, m.an_npz, True),
    Reader("flow shard", _computed("00001.npy"), _flow_of_a_run, m.an_npy, True),
    Reader("flow shard, note", _computed("00001.json"), _flow_of_a_run, m.a_json, True),
    Reader("flow manifest", _computed("manifest.json"), _flow_of_a_run, m.a_json, True),
]


# Weights --------------------------------------------------------------------------------------------------------------


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def _checkpoint(folder: Path) -> Path:
    save_tensors(folder / "a.safetensors", _network().state_dict(), {"config": "0123456789ab", "step": 3})
    return folder / "a.safetensors"


def _load_checkpoint(path: Path) -> Any:
    network = _network()
    return load_into(network, path), network.state_dict()


def _segmenter() -> VideoSegmenter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_segmenter("mini", "none", 3, 2)


def _model(folder: Path) -> Path:
    save_model(folder / "a.safetensors", _segmenter(), "mini", "none", 3, classes=("a", "b", "c"))
    return folder / "a.safetensors"


def _load_model(path: Path) -> Any:
    segmenter, info = load_model(path)
    return info, segmenter.state_dict()


IDENTITY = {"recipe": 2, "seed": 1}


def _source(folder: Path) -> Path:
    save_tensors(folder / "a.safetensors", _network().state_dict(), {"identity": IDENTITY})
    return folder / "a.safetensors"


def _load_source(path: Path) -> Any:
    if not is_good(path, IDENTITY):
        raise Again("it is trained again")
    return load_tensors(path)


class Toy(Method):
    """Two weights with momentum."""

    card = Card("toy", "Toy", "-", "-", None, "", "-", "SFDA")

    def __init__(self) -> None:
        super().__init__(_network(), NoSettings(), Setup(2, 7, 0))  # type: ignore[arg-type]

    def parameter_groups(self, lr: float, head_multiplier: float) -> list[dict[str, Any]]:
        return [{"params": list(self.segmenter.parameters()), "lr": lr}]

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, torch.Tensor]:
        return {"square": sum((p.square().sum() for p in self.parameters()), torch.zeros(()))}


def _trainer(folder: Path) -> Trainer:
    plan = load_shift(TINY).adaptation.model_copy(update={"snapshots": 1, "steps": 7})
    assert isinstance(plan, Adaptation)
    return Trainer(Toy(), plan, folder, torch.device("cpu"))


def _state(folder: Path) -> Path:
    trainer = _trainer(folder)
    sum(trainer.method.losses(None, None, 0).values()).backward()  # type: ignore[arg-type, union-attr]
    trainer.optimiser.step()
    trainer._save(3, 1.0, 1.0)
    return trainer.state_path


def _resume(path: Path) -> Any:
    trainer = _trainer(path.parents[1])
    found = trainer._resume()
    moments = [value for of in trainer.optimiser.state.values() for value in of.values()]
    return found, trainer.method.state_dict(), moments


def _torch(folder: Path) -> Path:
    torch.save({"state_dict": _network().state_dict(), "epoch": 1}, folder / "a.pth")
    return folder / "a.pth"


def _old_torch(folder: Path) -> Path:
    torch.save(_network().state_dict(), folder / "a.pth", _use_new_zipfile_serialization=False)
    return folder / "a.pth"


WEIGHTS = [
    Reader("checkpoint", _checkpoint, _load_checkpoint, m.a_safetensors, True),
    Reader("model file", _model, _load_model, m.a_safetensors, True),
    Reader("source model", _source, _load_source, m.a_safetensors, True),
    Reader("state", _state, _resume, m.a_safetensors, True),
    Reader("torch file", _torch, load_foreign, m.a_torch, True),
    Reader("torch file, old format", _old_torch, load_foreign, m.some_bytes, False),
    Reader("weights of RAFT", _torch, read_weights, m.a_torch, True),
]


# Clips and their lists ------------------------------------------------------------------------------------------------


def _clips(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return Path(shutil.copytree(rendered(), folder / rendered().name)) / name

    return make


def _load_clips(path: Path) -> Any:
    if not is_whole(path.parent):
        raise Again("rendered again")
    store = ClipStore(path.parent)
    return [store.labelled(i) for i in range(2)]


ITEM = {"key": "a_1", "sequence": "a", "frames": ["a_0.png", "a_1.png"], "label": "l/a_1.png", "previous_labels": []}
INDEX = {
    **{"dataset": "viper", "split": "train", "frames": 2, "published": None, "size": [4, 8]},
    "items": [ITEM, {**ITEM, "key": "a_2"}],
}


def _index(folder: Path) -> Path:
    store_index(Index.model_validate(INDEX), folder / "i.json")
    return folder / "i.json"


def _read_listing(path: Path) -> Any:
    return read_json(path, Listing, "List", "delete it")


CLIPS = [
    Reader("clips, frames", _clips("frames.npy"), _load_clips, m.an_npy, True),
    Reader("clips, labels", _clips("label.npy"), _load_clips, m.an_npy, True),
    Reader("clips, manifest", _clips("manifest.json"), _load_clips, m.a_json, True),
    Reader("index", _index, read_index, m.a_json, True),
    Reader(
        "list of own pictures",
        text("l.json", canonical(sealed({"items": [ITEM], "content": "0123456789ab"}))),
        _read_listing,
        m.a_json,
        True,
    ),
]


# Runs and records -----------------------------------------------------------------------------------------------------


def _committed(*parts: str) -> bytes:
    return sorted(LEADERBOARDS.joinpath(*parts[:-1]).glob(parts[-1]))[0].read_bytes()


def _config(folder: Path) -> Path:
    (folder / "config.yaml").write_text(config_text(make_run_config("adabn", TINY)), encoding="utf-8")
    return folder / "config.yaml"


def _finished(path: Path) -> Any:
    assert finished(path.parent, make_run_config("adabn", TINY)) is None
    return "of this run"


SCORES = {"a": np.arange(6).reshape(2, 3), "b": np.ones((2, 3), np.int64)}
LOG = "".join(json.dumps({"step": n, "loss": 1.5 - n}) + "\n" for n in range(4))
KNOWN = {"target-train": "0123456789ab", "target-val": "ba9876543210"}


def _predictions(folder: Path) -> Path:
    of = {"label": LABEL[None], "confidence": LABEL[None], "keys": np.array(["a"])}
    return _write(folder / "step-000003.npz", **of)


def _known(folder: Path) -> Path:
    same_data(folder, KNOWN)
    return folder / "data.json"


def _log_table(path: Path) -> Any:
    (path.parent / "metrics.jsonl").write_text(LOG)
    return metrics_frame([path.parent]).values.tolist()


RUNS = [
    Reader(
        "record",
        text("record.json", _committed("records", "ministreet", "*.json").decode()),
        read_record,
        m.a_json,
        False,
    ),
    Reader(
        "sequences of a record",
        text("s.csv", to_csv(SCORES, ("a", "b"))),
        lambda path: read_sequences(path, ("a", "b")),
        m.a_csv,
        False,
    ),
    Reader("config of a run", _config, _finished, m.a_yaml, True),
    Reader("config of a run, exported", _config, _log_table, m.a_yaml, False),
    Reader("log of a run", text("metrics.jsonl", LOG), lambda path: read_log(path.parent), m.json_lines, False),
    Reader("log of a run, drawn", text("metrics.jsonl", LOG), log_points, m.json_lines, False),
    Reader("predictions", _predictions, read_predictions, m.an_npz, True),
    Reader("data of a run", _known, lambda path: same_data(path.parent, KNOWN), m.a_json, True),
    Reader("places of a run", text(PLACES, json.dumps({"method/mine": "mine.py"})), _recall_places, m.a_json, False),
]


# Sweeps and tables ----------------------------------------------------------------------------------------------------

SWEEP = Sweep.model_validate({"name": "s", "shift": TINY, "methods": ["adabn"], "seeds": "0:2", "steps": 3})
STOPPED = "".join(
    json.dumps(sealed({"event": event, "job": f"{n:012x}", "score": n / 7})) + "\n"
    for n, event in enumerate(("failed", "stopped", "stopped"))
)
ROW = ("stpl", "3", "0", "31.250", '"{""a"": 1}"', '"{}"', "0123456789ab", "ba9876543210", "abc", "2030-01-01")
TABLE = "\n".join(",".join(row) for row in (COLUMNS, ROW, (*ROW[:6], "0123456789ac", *ROW[7:]))) + "\n"


def _sweep(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        SweepFolder(folder, "s").open(SWEEP)
        (folder / "sweeps" / "s" / "journal.jsonl").write_text(STOPPED, encoding="utf-8")
        return folder / "sweeps" / "s" / name

    return make


def _folder_of(path: Path) -> SweepFolder:
    return SweepFolder(path.parents[2], "s")


def _open(path: Path) -> Any:
    return [one.config.hash for one in _folder_of(path).open(SWEEP)]


def _stored(path: Path) -> Any:
    return _folder_of(path).stored()


def _stopped(path: Path) -> Any:
    return _folder_of(path).stopped_early()


def _load_study(path: Path) -> Any:
    return load_study(str(path))


STUDY = _committed("..", "bench", "sweeps", "studies", "fusion.yaml")

SWEEPS = [
    Reader("sweep", _sweep("spec.yaml"), _stored, m.a_yaml, False),
    Reader("sweep, runs", _sweep("runs.json"), _open, m.a_json, True),
    Reader("sweep, journal", _sweep("journal.jsonl"), _stopped, m.json_lines, True, loses=True),
    Reader("study", data("s.yaml", STUDY), _load_study, m.a_yaml, False),
    Reader("tuning log", text("log.csv", TABLE), read_tuning, m.a_csv, False),
    Reader(
        "analysis",
        data("a.json", _committed("analysis", "ministreet", "runs", "*.json")),
        lambda path: read_analysis(path, RunAnalysis),
        m.a_json,
        False,
    ),
]


# What people write, and what is written for them ----------------------------------------------------------------------

FRAMES = {
    **{"folder": "images", "labels": "labels", "classes": ["road", "sky"], "ids": {7: "road", 23: "sky"}},
    **{"size": [32, 64], "range": [0, 3], "stride": 1, "across_gaps": False},
}
REQUEST = {
    **{"checkpoint": "0123456789ab", "method": "stpl", "settings": {"a": 1.5}, "flow": "dis", "size": [32, 64]},
    **{"pictures": 3, "content": "0123456789ab", "seed": 0},
}
NOTED = "".join(
    json.dumps({"file": f"labels/{n}.png", "by": "predict", "size": 3, "sha256": f"{n:064x}"}) + "\n" for n in range(3)
)


def _footage(folder: Path) -> Path:
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    return text("frames.yaml", yaml.safe_dump(FRAMES))(folder)


def _masks(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "labels").mkdir()
        picture("labels/a.png", LABEL)(folder)
        legend = [{"id": 0, "name": "road", "color": [0, 0, 0]}, {"id": 1, "name": "sky", "color": [1, 1, 1]}]
        text("legend.json", json.dumps(legend))(folder)
        return folder / name

    return make


def _asked(folder: Path) -> Path:
    plan = load_shift(TINY).adaptation.model_dump(mode="json")
    return text("adapt.yaml", yaml.safe_dump({**REQUEST, "schedule": plan}))(folder)


def _option(path: Path) -> Any:
    return parse_options([f"tau={path.read_bytes().decode('utf-8', 'surrogateescape')}"])


def _range(path: Path) -> Any:
    return list(parse_range("--seeds", path.read_bytes().decode("utf-8", "surrogateescape")))


def _words(path: Path) -> Any:
    return {name: sorted(noted) for name, noted in Output(path.parent, "predict")._noted.items()}


def _load_shift(path: Path) -> Any:
    return load_shift(str(path))


def _predicted(path: Path) -> Any:
    return read_predict(path.parent)


SHIFT = _committed("..", "bench", "shifts", "ministreet-tiny.yaml")
PREDICTED = '{"weights": "a", "label maps": 3, "mIoU": null}'

OWN = [
    Reader("shift", data("own.yaml", SHIFT), _load_shift, m.a_yaml, False),
    Reader("frames.yaml", _footage, lambda path: find_frames(path).told, m.a_yaml, False),
    Reader("an option", text("o", "0.25"), _option, m.a_word, False),
    Reader("a range", text("o", "2:5"), _range, m.a_word, False),
    Reader("adapt.yaml", _asked, lambda path: read_yaml(path, Request, "Request"), m.a_yaml, False),
    Reader("predict.json", text("predict.json", PREDICTED), _predicted, m.a_json, False),
    Reader("legend of masks", _masks("legend.json"), lambda path: class_shares(path.parent), m.a_json, False),
    Reader("masks", _masks("labels/a.png"), lambda path: class_shares(path.parents[1]), m.a_png, True),
    Reader("manifest of an output", text(MANIFEST, NOTED), _words, m.json_lines, False, loses=True),
]

READERS = {reader.name: reader for reader in (*PICTURES, *FLOWS, *WEIGHTS, *CLIPS, *RUNS, *SWEEPS, *OWN)}
__all__ = ["READERS", "TYPED", "Reader"]
