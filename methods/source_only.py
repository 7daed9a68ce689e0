"""source_only: the source-trained model as it is, batch-norm statistics included. The floor of every table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from methods.base import Card, ClipBatch, LabelledBatch, Method


class SourceOnly(Method):
    """No adaptation."""

    card = Card(
        key="source_only",
        title="Source only",
        authors="-",
        venue="-",
        year=None,
        url="",
        design="-",
        setting="none",
        floor=True,
    )
    PAPER_HAS: ClassVar[Mapping[str, str]] = {"fusion": "accel_warp"}  # TPS, which the published number is from
    start = "source"
    trains = False

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        return {}


METHOD = SourceOnly
