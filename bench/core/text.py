"""Text of pages and terminals: tables in markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

LEFT = (
    "rows of the paper's table",
    "row",
    "method",
    "setting",
    "design",
    "source of the published number",
    "changed options",
    "neighbours",
    "average",
    "minus",
    "split",
    "backend",
    "check",
    "note",
)
"""Columns of text; all others hold numbers and are set to the right."""


def markdown(rows: Sequence[Mapping[str, str]], left: Sequence[str] = LEFT) -> str:
    """A table in markdown from rows with the same keys, columns in ``left`` set to the left; empty for no rows."""
    if not rows:
        return ""
    sides = ["left" if name in left else "right" for name in rows[0]]
    return str(pd.DataFrame(list(rows)).to_markdown(index=False, disable_numparse=True, colalign=sides))
