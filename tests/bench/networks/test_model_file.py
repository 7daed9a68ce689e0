"""Model files: rebuilt from themselves alone, refused when they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.core.errors import RunError, UsageError
from bench.networks.build import build_segmenter
from bench.networks.model_file import load_model, read_info, save_model
from bench.networks.weights import load_tensors, save_tensors


def clip(frames: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    images = torch.rand(1, frames, 3, 32, 64, generator=g)
    flow = torch.randn(1, frames - 1, 2, 32, 64, generator=g)
    return images, flow, torch.ones(1, frames - 1, 32, 64, dtype=torch.bool)


@pytest.mark.parametrize(("fusion", "frames"), [("conv1x1", 2), ("attention", 3), ("accel_warp", 2)])
@torch.no_grad()
def test_it_comes_back_whole(fusion: str, frames: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    segmenter = build_segmenter("mini", fusion, 3, frames).eval()
    path = tmp_path / "deep" / "model.safetensors"
    classes = ["road", "sky", "car"]
    info = save_model(path, segmenter, "mini", fusion, 3, num_frames=frames, classes=classes, origin={"made": "here"})
    loaded, loaded_info = load_model(path)
    assert loaded_info == info == read_info(path)
    assert (loaded_info.network, loaded_info.fusion, loaded_info.num_frames, loaded_info.classes) == (
        "mini",
        fusion,
        frames,
        tuple(classes),
    )
    assert torch.equal(loaded.eval()(*clip(frames)).scores, segmenter(*clip(frames)).scores)


def test_without_auxiliary_head_and_without_names(tmp_path: Path) -> None:
    segmenter = build_segmenter("mini", "none", 3)
    segmenter.auxiliary_classifier = None
    save_model(tmp_path / "m.safetensors", segmenter, "mini", "none", 3)
    loaded, info = load_model(tmp_path / "m.safetensors")
    assert loaded.auxiliary_classifier is None and not info.auxiliary and info.classes is None
    assert loaded.eval()(*clip()).auxiliary_scores is None


def test_loading_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    segmenter = build_segmenter("mini", "none", 3)
    save_model(tmp_path / "m.safetensors", segmenter, "mini", "none", 3)
    before = torch.get_rng_state()
    load_model(tmp_path / "m.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"format": "other"}, RunError, "is not a model file: it does not say which network"),
        ({"version": 2}, RunError, "version 2; this code reads version 1"),
        ({"network": "minni"}, UsageError, "Unknown network 'minni'. Did you mean 'mini'"),
        ({"fusion": "conv"}, UsageError, "Unknown fusion 'conv'"),
        ({"fusion": "conv1x1"}, RunError, "'fusion.mix.weight' differs"),
        ({"num_classes": 4}, RunError, "holds weights of another network"),
        ({"num_classes": "many"}, RunError, "its metadata are damaged"),
        ({"num_frames": None}, RunError, "its metadata are damaged"),
    ],
)
def test_faults_are_one_line_with_the_path(change: dict[str, Any], error: type, says: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, build_segmenter("mini", "none", 3), "mini", "none", 3)
    tensors, meta = load_tensors(path)
    save_tensors(path, tensors, {**meta, **change})
    with pytest.raises(error) as caught:
        load_model(path)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    if error is RunError:
        assert str(path) in str(caught.value)


def test_a_checkpoint_of_a_run_is_not_a_model_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_tensors(path, build_segmenter("mini", "none", 3).state_dict(), {"config": "0123456789ab", "step": 3})
    with pytest.raises(RunError, match="is not a model file"):
        load_model(path)
    with pytest.raises(RunError, match="No checkpoint at"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="3 classes but 1 names"):
        save_model(path, build_segmenter("mini", "none", 3), "mini", "none", 3, classes=["road"])
