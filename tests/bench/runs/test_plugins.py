"""Methods, networks, flow backends and shifts from files of one's own, from the config to `bench submit`, which refuses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.core import registry
from bench.core.errors import RunError, UsageError
from bench.core.loading import source_hash
from bench.core.workspace import Workspace
from bench.data.splits import prepare
from bench.flow.base import identity
from bench.flow.compute import compute
from bench.footage.adapt import adapt_video, schedule
from bench.leaderboards.submit import submit_runs
from bench.leaderboards.verify import verify_record
from bench.networks.build import build_segmenter
from bench.networks.model_file import load_model, save_model
from bench.runs.config import RunConfig, alterations, load_shift, make_run_config
from bench.runs.records import read_record
from bench.runs.run import run
from bench.runs.source import source_identity
from tests.bench.own_files import FLOW, METHOD, NETWORK, Files, config_of


@pytest.fixture
def finished_folder(files: Files, workspace: Workspace, no_figures: None) -> Path:
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
    finished_folder: Path, tiny_cache: Path, forget: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("record.json", "config.yaml", "metrics.jsonl"):
        assert "own files" not in (finished_folder / name).read_text(), "a record holds no path"
    forget()
    monkeypatch.chdir(tmp_path)
    record = read_record(finished_folder / "record.json")
    assert sorted(record.config.plugins) == ["flow/still", "method/mine", "network/micro"]
    report = verify_record(finished_folder, tiny_cache)
    assert report.verdict == "identical" and report.same_environment


def test_a_run_of_a_file_that_has_changed_or_gone_is_refused_in_one_line(
    finished_folder: Path, files: Files, tiny_cache: Path, forget: Callable[[], None]
) -> None:
    text = files["micro"].read_text()
    files["micro"].write_text(text + "# changed\n")
    forget()
    with pytest.raises(
        UsageError, match=r"has network/micro [0-9a-f]{12}, at hand is [0-9a-f]{12}; run it anew, or bring"
    ) as caught:
        verify_record(finished_folder, tiny_cache)
    assert "\n" not in str(caught.value)
    files["micro"].unlink()
    forget()
    with pytest.raises(
        UsageError, match=r"needs the network 'micro', which is not at hand: .*BENCH_PLUGINS=network=path/to/micro\.py"
    ):
        verify_record(finished_folder, tiny_cache)


def test_the_leaderboard_holds_only_what_the_repository_holds(
    finished_folder: Path, files: Files, workspace: Workspace, tmp_path: Path, no_figures: None
) -> None:
    with pytest.raises(
        UsageError, match="flow still, method mine, network micro, shift small from outside this repository; add"
    ):
        submit_runs([finished_folder], tmp_path / "boards", workspace.cache)
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
    summary = compute(split, name, workspace.cache, workers=2, per_shard=2, force=True)
    assert summary["identity"] == identity(name) and summary["clips"] == len(split.open())
    assert Path(summary["folder"]).parent.name == identity(name)


def test_an_adaptation_of_own_footage_belongs_to_the_source_of_its_method(files: Files, tmp_path: Path) -> None:
    model, pictures, out = tmp_path / "m.safetensors", tmp_path / "pictures", tmp_path / "out"
    classes = load_shift("viper2cityscapes").classes
    save_model(model, build_segmenter("mini", "none", len(classes)), "mini", "none", len(classes), classes=classes)
    pictures.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (32, 64, 3), np.uint8)
        Image.fromarray(noise).save(pictures / f"{number}.png")

    def adapted() -> Path:
        arguments = (
            str(files["mine"]),
            out,
            {},
            schedule(1, 1, 1e-3),
            Workspace(tmp_path / "runs", tmp_path / "cache"),
        )
        return adapt_video(model, pictures, *arguments, flow=str(files["still"]))

    first = adapted().read_bytes()
    assert adapted().read_bytes() == first
    files["mine"].write_text(METHOD + "# changed\n")
    with pytest.raises(UsageError, match="holds another adaptation"):
        adapted()
