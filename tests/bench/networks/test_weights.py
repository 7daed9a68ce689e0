"""Weights on disk: whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bench.core.errors import RunError, UsageError
from bench.networks.weights import load_into, load_tensors, read_header, save_tensors

ROOT = Path(__file__).resolve().parents[3]


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_round_trip_keeps_every_bit_dtype_and_the_metadata(tmp_path: Path) -> None:
    tensors = {
        "nan": torch.tensor([float("nan"), -0.0, 1e-45]),
        "half": torch.randn(3, dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "transposed": torch.arange(6).view(2, 3).t(),
    }
    save_tensors(tmp_path / "deep" / "a.safetensors", tensors, {"step": 3, "nested": {"x": [1, None]}})
    loaded, metadata = load_tensors(tmp_path / "deep" / "a.safetensors")
    assert metadata == {"step": 3, "nested": {"x": [1, None]}}
    for name, value in tensors.items():
        assert loaded[name].dtype == value.dtype and loaded[name].shape == value.shape
        assert loaded[name].contiguous().view(-1).view(torch.uint8).equal(value.contiguous().view(-1).view(torch.uint8))


def test_tensors_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    save_tensors(tmp_path / "a", {"a": shared, "b": shared, "c": shared[:2]})
    assert load_tensors(tmp_path / "a")[0]["c"].tolist() == [0.0, 1.0]


def test_a_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {"a": torch.zeros(1)})
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("keep", [0, 4, 20, -1])
def test_a_truncated_file_is_named(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, model().state_dict())
    os.truncate(path, keep % path.stat().st_size)
    with pytest.raises(RunError, match=rf"{path} is damaged or not a safetensors file .*; copy or make it again") as e:
        load_into(model(), path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("content", [b"\x80\x04junk of a pickle", b"text", bytes(range(64, 128))])
def test_other_files_are_never_unpickled(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(RunError, match="not a safetensors file"):
        load_tensors(tmp_path / "a")


def test_a_pickled_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save(model().state_dict(), tmp_path / "a.pt")
    with pytest.raises(RunError, match="not a safetensors file"):
        load_tensors(tmp_path / "a.pt")


def test_a_name_that_is_no_text_is_said_not_to_be_rather_than_damage(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9")
    save_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)})
    (tmp_path / "a.safetensors").rename(path)
    with pytest.raises(UsageError, match="is no text in utf-8; rename the file or folder, or set PYTHONUTF8=1"):
        load_tensors(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"No checkpoint at {tmp_path}/none"):
        load_tensors(tmp_path / "none")


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)), "0.bias"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "1.bias"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)), "2.bias"),
    ],
)
def test_weights_of_another_network_are_refused_and_nothing_is_loaded(
    other: nn.Module, differs: str, tmp_path: Path
) -> None:
    save_tensors(tmp_path / "a", other.state_dict())
    network = model()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(RunError, match=rf"weights of another network: '{differs}' differs"):
        load_into(network, tmp_path / "a")
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


@pytest.mark.parametrize("fault", ["write", "replace"])
def test_a_full_disk_keeps_the_old_file_and_leaves_no_scratch(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.zeros(2)})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*(("bench.networks.weights.save_file", full) if fault == "write" else (os, "replace", full)))  # type: ignore[arg-type]
    with pytest.raises(RunError, match=f"Cannot write {path}: No space left on device; free space or choose another"):
        save_tensors(path, {"x": torch.ones(2)})
    assert load_tensors(path)[0]["x"].tolist() == [0, 0]
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_a_disk_that_fills_up_for_real(tmp_path: Path) -> None:
    """No file may grow beyond 50 kB in another process: the writer in Rust gets the error of the operating system."""
    code = f"""
import resource, torch
from pathlib import Path
from bench.networks.weights import save_tensors
from bench.core.errors import RunError
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save_tensors(Path({str(tmp_path / "a")!r}), {{"x": torch.zeros(100_000)}})
except RunError as error:
    print(error)
"""
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert completed.stdout.startswith(f"Cannot write {tmp_path}/a: ") and completed.stdout.count("\n") == 1, (
        completed.stderr
    )
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"Cannot write {tmp_path}/file/a"):
        save_tensors(tmp_path / "file" / "a", {"x": torch.zeros(1)})


def test_every_flipped_byte_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"w": torch.arange(4.0), "n": torch.tensor(3)}, {"step": 3, "names": ["a"]})
    content = path.read_bytes()
    detected = 0
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        try:
            tensors, meta = load_tensors(path)
        except RunError:
            detected += 1
            continue
        assert meta == {"step": 3, "names": ["a"]} and tensors.keys() == {"w", "n"}, at
        assert tensors["w"].tolist() == [0, 1, 2, 3] and tensors["n"].item() == 3, at
    assert detected > 0.9 * len(content)


def test_a_changed_value_is_named_and_changed_metadata_without_reading_values(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, model().state_dict(), {"step": 3})
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RunError, match=rf"{path} is damaged .*its values are not those that were saved"):
        load_into(model(), path)
    assert read_header(path)[1] == {"step": 3}  # which are whole
    path.write_bytes(content.replace(b'step\\": 3', b'step\\": 4'))
    with pytest.raises(RunError, match=rf"{path} is damaged .*its checksum is of other content"):
        read_header(path)


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    """Older ones, and those of others."""
    tensors = {"a": torch.arange(3.0)}
    save_file(tensors, tmp_path / "older", {"meta": '{"step": 3}'})
    save_file(tensors, tmp_path / "other", {"format": "pt"})
    assert load_tensors(tmp_path / "older")[1] == read_header(tmp_path / "older")[1] == {"step": 3}
    assert load_tensors(tmp_path / "other")[1] == {} and load_tensors(tmp_path / "other")[0]["a"].tolist() == [0, 1, 2]
