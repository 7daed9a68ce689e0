"""Methods, networks, flow backends, data sets and shifts from files of one's own, from the config to the leaderboard's door."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from bench.core import registry
from bench.core.errors import RunError, UsageError
from bench.core.loading import source_hash
from bench.core.registry import ROOT
from bench.core.schema import validated
from bench.core.workspace import Workspace
from bench.data.splits import prepare
from bench.flow.base import identity
from bench.flow.compute import compute
from bench.footage.adapt import adapt_video, schedule
from bench.leaderboards.submit import submit_runs
from bench.leaderboards.verify import verify_record
from bench.networks.build import build_segmenter
from bench.networks.model_file import load_model, save_model
from bench.runs.config import RunConfig, alterations, load_shift, make_run_config, method_class
from bench.runs.records import read_record
from bench.runs.run import run
from bench.runs.source import source_identity
from bench.sweeps.jobs import SweepFolder
from bench.sweeps.on_ray import Cluster, payload, sweep_runs
from bench.sweeps.spec import Sweep, from_study, plan
from bench.sweeps.study import Study
from bench.sweeps.trial import do

METHOD = '''
"""mine: squares."""
from methods.base import Card, Method

class Mine(Method):
    """Squares."""
    card = Card(key="mine", title="Mine", authors="-", venue="-", year=None, url="", design="image", setting="SFDA")

    def losses(self, target, source, step):
        return {"loss": self.segmenter(target.frames, target.flow, target.valid).scores.float().square().mean()}

METHOD = Mine
'''
NETWORK = '''
"""micro: one convolution."""
from torch import nn
from bench.networks.build import NetworkParts

class Encoder(nn.Module):
    channels, auxiliary_channels, stride = 8, 0, 8

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 8, stride=8), nn.BatchNorm2d(8)

    def forward(self, image):
        return self.norm(self.conv(image)), None

def build(num_classes):
    return NetworkParts(Encoder(), lambda channels: nn.Conv2d(channels, num_classes, 1))
'''
FLOW = '''
"""still: nothing moves."""
import numpy as np

def BACKEND(clip, clips, index):
    t, _, height, width = clip.frames.shape
    return np.zeros((t - 1, 2, height, width), np.float32), np.ones((t - 1, height, width), np.bool_)
'''

Files = dict[str, Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A file of each kind in a folder of its own."""
    folder = tmp_path / "own files"
    folder.mkdir()
    texts = {"mine": METHOD, "micro": NETWORK, "still": FLOW}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    told = yaml.safe_load((ROOT / "shifts" / "ministreet-tiny.yaml").read_text(encoding="utf-8"))
    (folder / "small.yaml").write_text(yaml.safe_dump({**told, "name": "small", "purpose": "report"}))
    return {path.stem: path for path in folder.iterdir()}


def config_of(files: Files, **options: Any) -> RunConfig:
    given = {"network": str(files["micro"]), "flow": str(files["still"]), **options}
    return make_run_config(str(files["mine"]), str(files["small"]), 0, given)


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """As in another process: no file is known."""
    return lambda: monkeypatch.setattr(registry, "_files", {})


@pytest.fixture
def done(files: Files, workspace: Workspace, no_figures: None) -> Path:
    """Folder of a finished run of all four files."""
    config = config_of(files)
    run(config, workspace)
    return workspace.runs / config.hash


# Config and record ----------------------------------------------------------------------------------------------------


def test_names_and_hashes_stand_in_the_config_and_no_path(files: Files) -> None:
    config = config_of(files)
    assert (config.method, config.network, config.flow, config.shift) == ("mine", "micro", "still", "small")
    kinds = {"method/mine": METHOD, "network/micro": NETWORK, "flow/still": FLOW}
    assert config.plugins == {key: registry.digest_of(text.encode()) for key, text in kinds.items()}
    assert str(files["mine"].parent) not in config.model_dump_json()
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert alterations(config) == ("flow=still", "network=micro")


def test_a_run_without_plugins_keeps_its_hash() -> None:
    config = make_run_config("stpl")
    assert config.hash == "168428c09373" and config.plugins == {} and "plugins" not in config.model_dump()


@pytest.mark.parametrize("name", ["mine", "micro", "still"])
def test_a_changed_file_is_another_run(name: str, files: Files) -> None:
    before = config_of(files)
    assert config_of(files) == before
    files[name].write_text(files[name].read_text() + "# changed\n")
    after = config_of(files)
    assert after.hash != before.hash and len({*after.plugins.items()} - {*before.plugins.items()}) == 1


def test_where_a_file_lies_does_not_matter(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = config_of(files).hash
    monkeypatch.chdir(files["mine"].parent)
    assert config_of({name: Path(path.name) for name, path in files.items()}).hash == before
    (tmp_path / "elsewhere").mkdir()
    assert config_of({n: p.rename(tmp_path / "elsewhere" / p.name) for n, p in files.items()}).hash == before


def test_a_run_says_which_sources_it_had_and_can_be_gone_back_to_from_anywhere(
    done: Path, tiny_cache: Path, forget: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("record.json", "config.yaml", "metrics.jsonl"):
        assert "own files" not in (done / name).read_text(), "a record holds no path"
    forget()
    monkeypatch.chdir(tmp_path)
    record = read_record(done / "record.json")
    assert sorted(record.config.plugins) == ["flow/still", "method/mine", "network/micro"]
    report = verify_record(done, tiny_cache)
    assert report.verdict == "identical" and report.same_environment


def test_a_run_of_a_file_that_has_changed_or_gone_is_refused_in_one_line(
    done: Path, files: Files, tiny_cache: Path, forget: Callable[[], None]
) -> None:
    text = files["micro"].read_text()
    files["micro"].write_text(text + "# changed\n")
    forget()
    with pytest.raises(
        UsageError, match=r"has network/micro [0-9a-f]{12}, at hand is [0-9a-f]{12}; run it anew, or bring"
    ) as caught:
        verify_record(done, tiny_cache)
    assert "\n" not in str(caught.value)
    files["micro"].unlink()
    forget()
    with pytest.raises(
        UsageError, match=r"needs the network 'micro', which is not at hand: .*BENCH_PLUGINS=network=path/to/micro\.py"
    ):
        verify_record(done, tiny_cache)


def test_the_leaderboard_holds_only_what_the_repository_holds(
    done: Path, files: Files, workspace: Workspace, tmp_path: Path, no_figures: None
) -> None:
    with pytest.raises(
        UsageError, match="flow still, method mine, network micro, shift small from outside this repository; add"
    ):
        submit_runs([done], tmp_path / "boards", workspace.cache)
    config = make_run_config("adabn", str(files["small"]))
    run(config, workspace)
    with pytest.raises(UsageError, match="ran with shift small from outside this repository"):
        submit_runs([workspace.runs / config.hash], tmp_path / "boards", workspace.cache)


def test_a_method_that_is_wrong_is_named_before_anything_is_prepared(files: Files, workspace: Workspace) -> None:
    for text, says in (
        (
            METHOD.replace('"mine"', '"stpl"'),
            r"mine\.py calls its method 'stpl' \(.*methods/stpl\.py is called so\); it must be 'mine'",
        ),
        (
            METHOD.replace("METHOD = Mine", "METHOD = Mine.card"),
            "METHOD is no subclass of methods.base.Method with a card",
        ),
        (
            METHOD.replace("METHOD = Mine", "METHOD = Method"),
            "METHOD is no subclass of methods.base.Method with a card",
        ),
        (METHOD + "undefined\n", r"Cannot load method 'mine': .*mine\.py, line 13: NameError"),
    ):
        files["mine"].write_text(text)
        with pytest.raises((RunError, UsageError), match=says):
            config_of(files)
    files["mine"].write_text(METHOD)
    files["still"].write_text("1 / 0\n")
    with pytest.raises(RunError, match=r"Cannot load flow 'still': .*still\.py, line 1: ZeroDivisionError"):
        config_of(files)
    files["still"].write_text(FLOW)
    files["micro"].write_text("def build(classes):\n    return classes\n")
    with pytest.raises(RunError, match=r"Network 'micro': build\(\) gives int, a NetworkParts is expected"):
        run(config_of(files), workspace)


# What is kept between runs --------------------------------------------------------------------------------------------


def test_a_source_model_belongs_to_the_source_of_its_network_and_not_to_the_methods(files: Files) -> None:
    def source() -> Any:
        config = config_of(files)
        return source_identity(config, config.protocol)

    first = source()
    assert first["plugins"] == {"network/micro": source_hash("network", "micro")}
    files["mine"].write_text(METHOD + "# changed\n")
    files["still"].write_text(FLOW + "# changed\n")
    assert source() == first
    files["micro"].write_text(NETWORK + "# changed\n")
    assert source() != first
    assert "plugins" not in source_identity(make_run_config("stpl"), load_shift("ministreet"))


def test_a_model_file_belongs_to_the_source_of_its_network(
    files: Files, tmp_path: Path, forget: Callable[[], None]
) -> None:
    name, path = registry.resolve("network", str(files["micro"])), tmp_path / "m.safetensors"
    save_model(path, build_segmenter(name, "none", 3), name, "none", 3)
    assert load_model(path)[1].origin["network_source"] == source_hash("network", name)
    forget()
    with pytest.raises(UsageError, match=r"is of network 'micro', which is not at hand: .*BENCH_PLUGINS=network="):
        load_model(path)
    files["micro"].write_text(NETWORK + "# changed\n")
    registry.resolve("network", str(files["micro"]))
    with pytest.raises(UsageError, match=r"is of network 'micro' [0-9a-f]{12}, at hand is [0-9a-f]{12}"):
        load_model(path)


def test_flow_that_is_computed_ahead_belongs_to_the_source_of_its_backend(files: Files, workspace: Workspace) -> None:
    """Several processes, which know the file though it has gone meanwhile."""
    files["still"].write_text(FLOW + '\n\ndef identity():\n    return "still-1"\n')
    name = registry.resolve("flow", str(files["still"]))
    assert identity(name) == f"still-1-{source_hash('flow', name)}"
    split = prepare(load_shift("ministreet-tiny"), "target", "val", 0, workspace)
    files["still"].unlink()
    told = compute(split, name, workspace.cache, workers=2, per_shard=2, force=True)
    assert told["identity"] == identity(name) and told["clips"] == len(split.open())
    assert Path(told["folder"]).parent.name == identity(name)


def test_an_adaptation_of_own_footage_belongs_to_the_source_of_its_method(files: Files, tmp_path: Path) -> None:
    model, pictures, out = tmp_path / "m.safetensors", tmp_path / "pictures", tmp_path / "out"
    classes = load_shift("viper2cityscapes").classes
    save_model(model, build_segmenter("mini", "none", len(classes)), "mini", "none", len(classes), classes=classes)
    pictures.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (32, 64, 3), np.uint8)
        Image.fromarray(noise).save(pictures / f"{number}.png")

    def adapted() -> Path:
        given = (str(files["mine"]), out, {}, schedule(1, 1, 1e-3), Workspace(tmp_path / "runs", tmp_path / "cache"))
        return adapt_video(model, pictures, *given, flow=str(files["still"]))

    first = adapted().read_bytes()
    assert adapted().read_bytes() == first
    files["mine"].write_text(METHOD + "# changed\n")
    with pytest.raises(UsageError, match="holds another adaptation"):
        adapted()


# Data sets ------------------------------------------------------------------------------------------------------------

DATA = '''
"""yard: pictures by number."""
import re
from bench.data.datasets import Item, _base

class Yard:
    name, folder, size, raw_size, counts, splits = "yard", "yard", None, None, {}, ("train", "val")
    names = {0: "road", 3: "nature", 300: "beyond"}
    own_names = {"vegetation": ("nature",)}

    def items(self, root, split, frames=2):
        there = sorted(m[0] for m in _base.matches(root, split, re.compile(split + r"/\\d\\.png")))
        ends = range(frames - 1, len(there))
        clips = [Item(str(t), "0", tuple(there[t - frames + 1 : t + 1]), there[t].replace(split, split + "_ids")) for t in ends]
        return _base.in_order(clips, self.name, root, "0.png")

    def read_frame(self, file, size=None, expect=None):
        return _base.resized_rgb(_base.colour_picture(file, expect), size)

    def read_label(self, file, ids, size=None, expect=None):
        return _base.to_train(_base.nearest(_base.id_picture(file, expect), size), ids)

    def look(self, file, label):
        picture = _base.id_picture(file) if label else _base.colour_picture(file)
        return picture.height, picture.width

    def guards(self):
        return {"train": "train", "train_ids": "train/label", "val": "val", "val_ids": "val/label"}

    def belongs(self, path):
        return path.endswith(".png")

DATASET = Yard()
'''


@pytest.fixture
def yard(files: Files, tmp_path: Path) -> tuple[Path, Path]:
    """A shift of own classes whose data set lies beside it, and the data root."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for part in (split, f"{split}_ids"):
            (tmp_path / "data" / "yard" / part).mkdir(parents=True)
        for number in range(5):
            file = f"{number}.png"
            Image.fromarray(rng.integers(0, 256, (40, 64, 3), np.uint8)).save(tmp_path / "data" / "yard" / split / file)
            ids = rng.choice(np.array([0, 3, 9], np.uint8), (40, 64))
            Image.fromarray(ids).save(tmp_path / "data" / "yard" / f"{split}_ids" / file)
    (files["small"].parent / "yard.py").write_text(DATA)
    told = yaml.safe_load(files["small"].read_text())
    side = {"dataset": "./yard.py", "height": 32, "width": 64}
    told |= {"name": "yards", "classes": ["road", "vegetation"], "flow": "./still.py", "purpose": "test"}
    told["data"] = {"kind": "video", "frames": 2, "source": side, "target": dict(side)}
    told["network"]["name"] = "./micro.py"
    path = files["small"].with_name("yards.yaml")
    path.write_text(yaml.safe_dump(told))
    return path, tmp_path / "data"


def test_a_shift_names_files_beside_it(
    yard: tuple[Path, Path],
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forget: Callable[[], None],
) -> None:
    shift, root = yard
    workspace = Workspace(workspace.runs, tmp_path / "cache", torch.device("cpu"), data_root=root)
    config = make_run_config("adabn", str(shift))
    assert sorted(config.plugins) == ["dataset/yard", "flow/still", "network/micro"] and config.shift == "yards"
    assert config.protocol.data.target.dataset == "yard" and "/" not in config.protocol.model_dump_json().replace(
        "\\/", ""
    )
    record = run(config, workspace)
    assert set(record.result.iou) == {"road", "vegetation"} and record.result.miou > 0
    places = json.loads((workspace.runs / config.hash / "plugins.json").read_text())
    assert set(places) == {*config.plugins, "shift/yards"}
    forget()
    monkeypatch.chdir(tmp_path)
    assert read_record(workspace.runs / config.hash / "record.json").config.protocol.hash == record.shift_hash


def test_another_file_of_a_data_set_is_another_split(yard: tuple[Path, Path], tmp_path: Path) -> None:
    shift, root = yard
    workspace = Workspace(tmp_path, tmp_path / "cache", torch.device("cpu"), data_root=root)
    first, hashed = prepare(load_shift(str(shift)), "target", "val", 0, workspace), load_shift(str(shift)).hash
    assert first.identity["source"] == source_hash("dataset", "yard")
    shift.with_name("yard.py").write_text(DATA + "# changed\n")
    assert prepare(load_shift(str(shift)), "target", "val", 0, workspace).name != first.name
    assert load_shift(str(shift)).hash == hashed, "the protocol is the same"
    clips = first.open()
    np.testing.assert_array_equal(np.unique(clips.labels()[0]), [0, 1, 255])  # 0: road, 3: vegetation, 9: neither


def test_workers_read_a_data_set_whose_file_they_have_not_loaded(
    yard: tuple[Path, Path], tmp_path: Path, files: Files
) -> None:
    files["still"].write_text(FLOW + '\n\ndef identity():\n    return "still-1"\n')
    workspace = Workspace(tmp_path, tmp_path / "cache", torch.device("cpu"), data_root=yard[1])
    split = prepare(load_shift(str(yard[0])), "target", "val", 0, workspace)
    told = compute(
        split, registry.resolve("flow", str(files["still"])), workspace.cache, workers=2, per_shard=2, force=True
    )
    assert told["clips"] == 4 and not told["bad"]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("yard.py", None, r"Shift yards\.yaml: Unknown data set './yard\.py': no such file"),
        ("yard.py", "x = undefined\n", r"Shift yards\.yaml: .*Cannot load data set 'yard': .*yard\.py, line 1: NameError"),
        ("yard.py", "class D:\n    name = 'yard'\n\nDATASET = D\n", "its DATASET has no items, read_frame, read_label"),
        ("yard.py", DATA.replace('"yard", "yard"', '"viper", "yard"'), r"calls its data set 'viper' \(.*viper\.py is called so\)"),
        ("yard.py", DATA.replace("nature", "wood", 1), "source.dataset: 'yard' has no class 'nature' among its own: road, wood"),
        ("still.py", None, r"Shift yards\.yaml: Unknown flow './still\.py': no such file"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_shifts_files_is_said_with_the_shift(
    file: str, text: str | None, says: str, yard: tuple[Path, Path]
) -> None:
    path = yard[0].with_name(file)
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        load_shift(str(yard[0]))
    assert "\n" not in str(caught.value)


# Sweeps and studies ---------------------------------------------------------------------------------------------------


def sweep_of(files: Files, **more: Any) -> Sweep:
    asked = {
        "methods": [str(files["mine"]), "adabn"],
        "shift": str(files["small"]),
        "grid": {"network": ["mini", str(files["micro"])]},
    }
    return validated(Sweep, {**asked, "options": {"mine.flow": str(files["still"])}, **more}, "Sweep").named  # type: ignore[no-any-return]


def test_a_sweep_knows_files_by_name_and_finds_them_again(
    files: Files, tmp_path: Path, forget: Callable[[], None]
) -> None:
    sweep = sweep_of(files)
    assert (
        sweep.methods == ["mine", "adabn"] and sweep.shift == "small" and sweep.grid == {"network": ["mini", "micro"]}
    )
    keys = ["flow/still", "method/mine", "network/micro", "shift/small"]
    assert sorted(sweep.files) == keys and sweep.files["method/mine"] == str(files["mine"])
    planned = SweepFolder(tmp_path, sweep.name).open(sweep)
    assert [(one.config.method, one.config.network, one.config.flow) for one in planned] == [
        ("mine", "mini", "still"), ("mine", "micro", "still"), ("adabn", "mini", "exact"), ("adabn", "micro", "exact"),
    ]  # fmt: skip
    forget()
    again = SweepFolder(tmp_path, sweep.name).stored()
    assert again.identity == sweep.identity and [one.config for one in plan(again)] == [one.config for one in planned]
    files["micro"].write_text(NETWORK + "# changed\n")
    assert sweep_of(files).name != sweep.name, "runs of a changed file are another sweep"


def test_a_sweep_without_files_keeps_its_name() -> None:
    asked = validated(Sweep, {"methods": ["stpl"], "seeds": "0:2"}, "Sweep")
    assert asked.named.name == "sweep-3f30e3e89224" and "plugins" not in asked.to_yaml()


def test_a_trial_takes_the_source_that_the_sweep_began_with(
    files: Files, workspace: Workspace, forget: Callable[[], None], no_figures: None
) -> None:
    from bench.sweeps.jobs import Job

    config = config_of(files)
    sweep = sweep_of(files)
    told = json.loads(json.dumps(payload(Job(config.hash, "run", "mine", config), sweep, workspace)))
    files["mine"].write_text("1 / 0\n")
    files["small"].unlink()
    forget()
    record = json.loads(do(told, lambda _: None)["record"])
    assert record["config"]["plugins"] == config.plugins and record["run"] == config.hash


def test_a_study_names_files(files: Files) -> None:
    micro = str(files["micro"])
    told = {
        "name": "s", "title": "-", "question": "-", "seeds": "0:1", "shift": str(files["small"]),
        "rows": [{"label": "a", "method": str(files["mine"]), "options": {"network": micro}}],
        "grid": {"method": ["adabn", str(files["mine"])], "network": ["mini", micro]},
        "reference": {"method": "adabn", "network": micro},
    }  # fmt: skip
    study: Study = validated(Study, told, "Study")
    assert [row.label for row in study.all_rows()][1:] == [
        "adabn, network=mini", "adabn, network=micro", "mine, network=mini", "mine, network=micro",
    ]  # fmt: skip
    reference = study.reference_row()
    assert reference is not None and reference.label == "adabn, network=micro"
    assert sorted(from_study(study).files) == ["method/mine", "network/micro", "shift/small"]


def test_all_means_the_methods_of_the_repository(files: Files) -> None:
    registry.resolve("method", str(files["mine"]))
    assert "mine" in registry.names("method") and method_class("mine").card.title == "Mine"
    every = validated(Sweep, {"methods": "all", "shift": "ministreet-tiny"}, "Sweep")
    assert {one.config.method for one in plan(every)} == set(registry.built_in("method"))


def test_trials_of_ray_take_files_of_ones_own(
    files: Files, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files["mine"].parent)
    asked = {
        "methods": ["./mine.py"],
        "shift": "./small.yaml",
        "options": {"network": "./micro.py", "flow": "still.py"},
    }
    sweep = validated(Sweep, asked, "Sweep").named
    jobs = sweep_runs(sweep, workspace, Cluster(cpus=1))
    assert [(job.state, job.reason) for job in jobs.runs] == [("done", "")]
    record = read_record(workspace.runs / jobs.runs[0].key / "record.json")
    assert record.config == config_of(files) and record.shift_hash == load_shift("small").hash
