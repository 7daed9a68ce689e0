"""oracle: trained from scratch on labelled target training clips with the source schedule. The ceiling of every table.

The only method that is handed target labels (its card says so, and the harness opens them for no other).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from methods.base import Card
from methods.common.supervised import Supervised


class Oracle(Supervised):
    """Supervised training on the target."""

    card = Card(
        key="oracle",
        title="Oracle",
        authors="-",
        venue="-",
        year=None,
        url="",
        design="-",
        setting="oracle",
    )
    PAPER_HAS: ClassVar[Mapping[str, str]] = {"fusion": "accel_warp"}  # as source_only


METHOD = Oracle
