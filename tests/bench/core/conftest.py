"""A fixture for the tests of file access: the splits on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.data.rendered import prepare_split
from bench.runs.config import load_shift


@pytest.fixture(scope="module")
def splits(tiny_cache: Path) -> dict[str, Path]:
    """All four splits of replicate 0, on disk."""
    data = load_shift("ministreet-tiny").data
    names = [(role, split) for role in ("source", "target") for split in ("train", "val")]
    return {f"{role}-{split}": prepare_split(data, role, split, 0, tiny_cache) for role, split in names}
