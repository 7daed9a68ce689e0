"""A fixture for the tests of footage: a model file of an untrained network."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.data.label_maps import named_space
from bench.networks.model_file import save_model
from bench.runs.config import make_run_config
from bench.runs.source import fresh_segmenter


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of an untrained network."""
    config = make_run_config("source_only", "ministreet-tiny")
    segmenter = fresh_segmenter(config, config.protocol, 7)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, segmenter, "mini", "conv1x1", 15, classes=named_space("viper2cityscapes").classes)
    return path
