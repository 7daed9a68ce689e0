"""RAFT: any size, both directions, weights from a file or a download that cannot be had. Weights here are random."""

from __future__ import annotations

import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torchvision.models import get_model

from bench.core.errors import RunError
from bench.data.clip import Frame
from bench.flow._estimated import pad
from bench.flow._raft import MINIMUM, MULTIPLE, Raft
from bench.flow.backends import raft, raft_small

VARIABLE = "BENCH_RAFT_SMALL_WEIGHTS"


def frames(height: int, width: int) -> list[Frame]:
    return list(np.random.default_rng(height).integers(0, 256, (2, 3, height, width), np.uint8))


@pytest.fixture(scope="module")
def small() -> Raft:
    return Raft("raft_small", VARIABLE, random=True)


@given(st.integers(1, 200), st.integers(1, 200))
def test_padding_meets_the_networks_rules_and_keeps_the_frame(height: int, width: int) -> None:
    frame = np.arange(height * width, dtype=np.int32).reshape(1, height, width)
    padded, (rows, columns) = pad(frame, MULTIPLE, MINIMUM)
    assert all(side >= MINIMUM and side % MULTIPLE == 0 for side in padded.shape[1:])
    assert padded.shape[1] < max(height, MINIMUM) + MULTIPLE and padded.shape[2] < max(width, MINIMUM) + MULTIPLE
    np.testing.assert_array_equal(padded[:, rows, columns], frame)
    assert padded[0, 0, 0] == frame[0, 0, 0] and padded[0, -1, -1] == frame[0, -1, -1]  # the border is repeated


@pytest.mark.parametrize("size", [(64, 64), (65, 199), (136, 200), (200, 71)])
def test_any_size_both_directions(small: Raft, size: tuple[int, int]) -> None:
    previous, current = frames(*size)
    backward, forward = small(previous, current)
    for flow in (backward, forward):
        assert flow.shape == (2, *size) and flow.dtype == np.float32 and np.isfinite(flow).all()
    swapped = small(current, previous)
    np.testing.assert_allclose(swapped[0], forward, atol=1e-3)
    np.testing.assert_allclose(swapped[1], backward, atol=1e-3)
    assert np.abs(backward - forward).max() > 0.1


def test_backward_flow_leads_from_the_current_frame(small: Raft) -> None:
    previous, current = frames(128, 136)
    first, second = (torch.from_numpy(f[None]).float() / 127.5 - 1 for f in (current, previous))
    with torch.inference_mode():
        expected = small.network(first, second, num_flow_updates=12)[-1][0].numpy()
    np.testing.assert_allclose(small(previous, current)[0], expected, atol=1e-3)


def test_identities() -> None:
    assert raft.identity() == "raft_large-ff5fadd5-12it"  # torchvision's names, known without the files
    assert raft_small.identity() == "raft_small-01064c6d-12it"


# Weights -----------------------------------------------------------------------------------------------------------------


def weights() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return {name: value.clone() for name, value in get_model("raft_small", weights=None).state_dict().items()}


def raft_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> Raft:
    monkeypatch.setenv(VARIABLE, str(path))
    return Raft("raft_small", VARIABLE)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_weights_from_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = weights()
    save_file(tensors, tmp_path / name) if name.endswith("safetensors") else torch.save(tensors, tmp_path / name)
    flow = raft_with(tmp_path / name, monkeypatch)
    for key, value in flow.network.state_dict().items():
        assert torch.equal(value, tensors[key])
    assert not flow.network.training
    assert flow.identity().startswith("raft_small-") and "01064c6d" not in flow.identity()


class Evil:
    """Would be executed by a careless reader."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_bad_files_are_one_line_with_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = weights()
    torch.save(tensors, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-2000])
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({**tensors, "feature_encoder.conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    cases = {
        "gone.pth": "No checkpoint at",
        "cut.pth": "is damaged or not a torch file",
        "junk.safetensors": "is damaged or not a safetensors file",
        "evil.pth": "holds more than tensors (pickled code",
        "list.pth": "is not a state dict",
        "other.pth": "does not hold weights of torchvision's raft_small: 'feature_encoder.conv.weight' differs",
    }
    for name, says in cases.items():
        with pytest.raises(RunError) as caught:
            _ = raft_with(tmp_path / name, monkeypatch).network
        message = str(caught.value)
        assert says in message and str(tmp_path / name) in message and "\n" not in message


def test_nothing_in_a_weights_file_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    with pytest.raises(RunError):
        _ = raft_with(tmp_path / "evil.pth", monkeypatch).network
    assert "executed" not in capsys.readouterr().out


def test_without_network_it_says_how_to_get_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    with pytest.raises(RunError) as caught:
        _ = Raft("raft_small", VARIABLE).network
    message = str(caught.value)
    assert message == (
        "No weights for raft_small, and no download (no route): get "
        "https://download.pytorch.org/models/raft_small_C_T_V2-01064c6d.pth on a machine that can and set "
        f"{VARIABLE} to the file"
    )


def test_a_download_that_is_not_what_its_name_says_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "raft_small_C_T_V2-01064c6d.pth"
    path.parent.mkdir(parents=True)
    torch.save(weights(), path)
    with pytest.raises(RunError, match=rf"{path} is damaged: its SHA-256 does not start with 01064c6d; delete it"):
        _ = Raft("raft_small", VARIABLE).network
