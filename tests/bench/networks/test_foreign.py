"""Files that are not model files: each is called what it is, with the command that helps, and never advised to be deleted."""

from __future__ import annotations

import json
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import RunError, UsageError
from bench.networks.build import build_segmenter
from bench.networks.foreign import load_foreign
from bench.networks.model_file import load_model, save_model
from bench.networks.weights import check_finite, load_into, save_tensors

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 176000000\n"


def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {n: v.clone() for n, v in build_segmenter("mini", "none", 3).state_dict().items()}


def foreign_file(kind: str, path: Path) -> Path:
    """A file of a kind that people have."""
    if kind in ("lfs", "html", "annex", "hdf5", "empty", "junk"):
        content = {
            "lfs": POINTER.encode(),
            "html": b"<!DOCTYPE html><html><title>Google Drive - Virus scan warning",
            "annex": b"/annex/objects/MD5E-s104857600--1234.pth\n",
            "hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 90,
            "empty": b"",
            "junk": b"nothing of the kind" * 9,
        }[kind]
        path.write_bytes(content)
    elif kind == "foreign":
        save_file(tensors(), path)
    elif kind == "checkpoint":
        save_tensors(path, tensors(), {"config": "0123456789ab", "step": 3})
    elif kind == "cached":
        save_tensors(path, tensors(), {"identity": {"recipe": 2}})
    else:
        content = {
            "torch": tensors(),
            "old": tensors(),
            "lightning": {"state_dict": tensors(), "pytorch-lightning_version": "2.4"},
            "mmseg": {"state_dict": tensors(), "meta": {"mmseg_version": "1.2.2"}},
            "nested": {"model_state_dict": tensors(), "epoch": 3},
            "espnet": {"encoder.level2_0.c1.conv.weight": torch.zeros(1)},
            "code": torch.nn.Linear(2, 2),
            "advent": {"conv1.weight": torch.zeros(1), "layer6.conv2d_list.0.weight": torch.zeros(1)},
        }[kind]
        torch.save(content, path, _use_new_zipfile_serialization=kind != "old")
    return path


SAYS = {
    "lfs": "a Git LFS pointer to 176 MB that were not downloaded; `git lfs pull`",
    "html": "a web page; a download needs the link to the file itself",
    "annex": "a git-annex pointer; `git annex get`",
    "hdf5": "an HDF5 file",
    "empty": "damaged or not a safetensors file",
    "junk": "damaged or not a safetensors file",
    "foreign": "does not say which network it is for. It is a safetensors file with {n} tensors ("
    "'auxiliary_classifier.bias', ...); `bench convert {} --network NAME --shift SHIFT --out model.safetensors`",
    "checkpoint": "the checkpoint of a run; give the folder",
    "cached": "a source model that the cache keeps",
    "torch": "it is a torch file with {n} tensors ('encoder.stem.0.0.weight', ...); `bench convert {} --network NAME",
    "old": "it is a torch file with {n} tensors",
    "lightning": "it is a Lightning checkpoint with {n} tensors",
    "mmseg": "it is an mmsegmentation checkpoint with {n} tensors",
    "nested": "it is a torch checkpoint of weights and other things with {n} tensors",
    "espnet": "`bench convert {} --layout espnet",
    "advent": "`bench convert {} --layout LAYOUT",
    "code": "cannot be converted: holds more than tensors (pickled code, torch.nn.modules.linear.Linear)",
}


def expected_line(kind: str, path: Path) -> str:
    return SAYS[kind].format(path, n=len(tensors()))


@pytest.mark.parametrize("how", SAYS)
def test_what_is_given_as_a_model_is_called_what_it_is(how: str, tmp_path: Path) -> None:
    path = foreign_file(how, tmp_path / "given.safetensors")
    before = path.read_bytes()
    with pytest.raises(RunError) as caught:
        load_model(path)
    line = str(caught.value)
    assert line.startswith(f"{path} is ") and expected_line(how, path) in line, line
    assert "\n" not in line and len(line) < 700 and "delete" not in line and path.read_bytes() == before


@pytest.mark.parametrize("how", ["lfs", "torch"])
@pytest.mark.parametrize("command", ["adapt", "predict", "run"])
def test_every_command_that_takes_a_model_says_so(how: str, command: str, tmp_path: Path) -> None:
    path, out = foreign_file(how, tmp_path / "given.pth"), tmp_path / "out"
    frames = ["--checkpoint", str(path), "--frames", str(tmp_path / "frames"), "--out", str(out)]
    arguments = {
        "adapt": ["adapt", *frames],
        "predict": ["predict", *frames],
        "run": ["run", "-m", "adabn", "--shift", "ministreet-tiny", "--source-model", str(path), "--runs", str(out)],
    }[command]
    (tmp_path / "frames").mkdir()
    for number in range(2):
        Image.new("RGB", (64, 64)).save(tmp_path / "frames" / f"{number}.png")
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 1 and expected_line(how, path) in result.stderr and "delete" not in result.stderr


@pytest.mark.parametrize("how", ["lfs", "html", "empty", "junk", "code"])
def test_convert_says_so_too(how: str, tmp_path: Path) -> None:
    path = foreign_file(how, tmp_path / "given.pth")
    with pytest.raises(RunError) as caught:
        load_foreign(path)
    expected = {
        "empty": "damaged or not a torch file",
        "junk": "damaged or not a torch file",
        "code": "holds more than tensors",
    }
    assert expected.get(how, SAYS[how]) in str(caught.value) and "\n" not in str(caught.value)


# Not finite -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "count"), [(float("nan"), 1), (float("-inf"), 1), (1e300, 1)])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, count: int, tmp_path: Path) -> None:
    segmenter, state = build_segmenter("mini", "none", 3), tensors()
    name = "encoder.fine.second.0.weight"
    state[name] = state[name].double()
    state[name][0, 0, 0, 0] = value
    save_tensors(tmp_path / "a", state)
    before = {n: v.clone() for n, v in segmenter.state_dict().items()}
    with pytest.raises(RunError, match=f"'{name}' has {count} values that are not finite"):
        load_into(segmenter, tmp_path / "a")
    assert all(torch.equal(v, before[n]) for n, v in segmenter.state_dict().items())


def test_negative_variances_and_other_kinds_of_number(tmp_path: Path) -> None:
    state = tensors()
    name = next(n for n in state if n.endswith("running_var"))
    with pytest.raises(RunError, match=f"'{name}' has negative variances"):
        check_finite({name: -state[name]}, "x")
    check_finite({"count": torch.tensor(-3), "half": torch.ones(2).bfloat16()}, "x")
    save_tensors(tmp_path / "a", {**state, name: state[name].to(torch.int64)})
    with pytest.raises(RunError, match=f"'{name}' is torch.int64, the network's is torch.float32"):
        load_into(build_segmenter("mini", "none", 3), tmp_path / "a")


# Hostile ones ---------------------------------------------------------------------------------------------------------


def model(path: Path) -> Path:
    save_model(path, build_segmenter("mini", "none", 3), "mini", "none", 3, classes=["a", "b", "c"])
    return path


def with_meta(path: Path, meta: str) -> Path:
    """The file with other text as its metadata, its header's length set right."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["meta"] = meta
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return path


META: dict[str, Any] = {"format": "bench-model", "version": 1, "network": "mini", "fusion": "none", "num_classes": 3}
META |= {"num_frames": 2, "auxiliary": True, "classes": None, "origin": {}}


@pytest.mark.parametrize(
    "meta",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        "9" * 100_000,
        "[]",
        "null",
        "{",
        '"\\ud800"',
        json.dumps({**META, "num_classes": 10**12}),
        json.dumps({**META, "num_classes": 10**400}),
        json.dumps({**META, "num_classes": 60_000}),
        json.dumps({**META, "num_frames": 10**9}),
        json.dumps({**META, "num_frames": 1000, "fusion": "concat"}),
        json.dumps({**META, "num_classes": -1}),
        json.dumps({**META, "num_classes": None}),
        json.dumps({**META, "version": 10**300}),
        json.dumps({**META, "network": "n" * 10**6}),
        json.dumps({**META, "network": "x" * 150}),
        json.dumps({**META, "network": "../../../etc/passwd"}),
        json.dumps({**META, "network": "timm:local-dir:/tmp"}),
        json.dumps({**META, "fusion": "\x00"}),
        json.dumps({**META, "classes": ["a"] * 10**5}),
        json.dumps({**META, "classes": ["a", "b"]}),
        json.dumps({**META, "classes": {"a": 1}}),
        json.dumps({**META, "classes": ["\ud800", "b", "c"]}),
        json.dumps({**META, "origin": {"a": ["b"]}}),
        json.dumps({**META, "auxiliary": "perhaps"}),
    ],
)
def test_metadata_of_any_kind_end_in_one_bounded_line(meta: str, tmp_path: Path) -> None:
    path = with_meta(model(tmp_path / "m.safetensors"), meta)
    with pytest.raises((RunError, UsageError)) as caught:
        load_model(path)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 900 and line.encode()


@pytest.mark.parametrize("name", ["a" * 5000, ".".join("a" * 50_000), "\n"])
def test_names_of_any_kind(name: str, tmp_path: Path) -> None:
    torch.save({name: torch.zeros(2), "b": torch.zeros(1)}, tmp_path / "x.pth")
    try:
        assert set(load_foreign(tmp_path / "x.pth")) == {name, "b"}
    except RunError as error:
        assert len(str(error)) < 500


def test_what_claims_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(1).expand(10**12)}, path)
    with pytest.raises(RunError, match="'a' is not a plain tensor with all of its values in the file"):
        load_foreign(path)
    torch.save({"a": torch.zeros(1000, 1000)}, path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(RunError, match=r"damaged or not a torch file .it claims to hold more bytes than it has"):
        load_foreign(tmp_path / "y.pth")
    loop: dict[str, Any] = {}
    loop["state_dict"] = loop
    torch.save(loop, path)
    with pytest.raises(RunError, match="is not a state dict"):
        load_foreign(path)
    for odd in (torch.zeros(2).to_sparse(), torch.zeros(2, device="meta")):
        torch.save({"a": odd}, path)
        with pytest.raises(RunError, match=r"'a' is not a plain tensor|damaged or not a torch file"):
            load_foreign(path)


def test_a_flipped_bit_in_an_archive_is_found_by_its_checksums(tmp_path: Path) -> None:
    """torch's own reader does not look at them."""
    path = tmp_path / "x.pth"
    torch.save({"a": torch.arange(9.0)}, path)
    content = path.read_bytes()
    at = content.index(torch.arange(9.0).numpy().tobytes()) + 6
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert torch.load(path, weights_only=True)["a"].tolist() != list(range(9))
    with pytest.raises(RunError, match=r"damaged or not a torch file .the checksum of its part \w+/data/0 is another"):
        load_foreign(path)


@pytest.mark.skipif(not hasattr(torch.serialization, "set_crc32_options"), reason="this torch always writes them")
def test_an_archive_without_checksums_is_read(tmp_path: Path) -> None:
    try:
        torch.serialization.set_crc32_options(False)
        torch.save({"a": torch.arange(9.0)}, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_foreign(tmp_path / "x.pth")["a"].tolist() == list(range(9))


def test_the_old_format_makes_no_room_for_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"seed": 1 << 40, "state_dict": {"a": torch.zeros(77)}}, path, _use_new_zipfile_serialization=False)
    assert load_foreign(path)["a"].shape == (77,)
    long, short = b"J" + (1 << 29).to_bytes(4, "little"), b"K\x4d"  # BININT and BININT1 of pickles
    path.write_bytes(path.read_bytes().replace(short, long, 1))
    with pytest.raises(RunError, match="it claims to hold more bytes than it has"):
        load_foreign(path)


def test_a_text_of_the_old_format_that_claims_a_gigabyte_takes_no_room(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(7)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    *_, key = re.finditer(rb"X.\0\0\0\d+", content)  # of the storage, in the list behind the four pickles
    path.write_bytes(content[: key.start() + 1] + struct.pack("<I", 1 << 30) + content[key.start() + 5 :])
    tracemalloc.start()
    with pytest.raises(RunError, match=r"a\.pth is damaged or not a torch file"):
        load_foreign(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
