"""Text for people: markdown tables, lists in a sentence, and what others wrote made harmless.

What comes from a record, a YAML or the network is not ours: it goes through :func:`plain`, :func:`code` or :func:`link`, so that
neither HTML nor markdown in it is ever read as such.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

from tabulate import tabulate

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
    "class",
)
"""Columns of text; all others hold numbers and are set to the right."""
_MARKUP = re.compile(r"[\\`*\[\]~$]|(?<!\w)_|_(?!\w)|^[#+-](?=\s)")
_PIPE = re.compile(r"(?<!\\)\|")


def table(rows: Sequence[Mapping[str, str]], left: Sequence[str] = LEFT) -> str:
    """A table in markdown.

    Args:
        rows: with the same keys, cells in markdown. A ``|`` in a cell does not end it.
        left: columns that are set to the left; the others are set to the right.

    Returns:
        Lines without a final newline; empty for no rows.
    """
    if not rows:
        return ""
    cells = [{_cell(key): _cell(text) for key, text in row.items()} for row in rows]
    sides = ["left" if name in left else "right" for name in rows[0]]
    return str(tabulate(cells, headers="keys", tablefmt="pipe", disable_numparse=True, colalign=sides))


def _cell(text: str) -> str:
    return _PIPE.sub(r"\\|", " ".join(text.splitlines()))


def beside(left: Sequence[Mapping[str, str]], right: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Two tables of as many rows, side by side."""
    return [{**a, **b} for a, b in zip(left, right, strict=True)]


def listed(texts: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``; empty for none."""
    *first, last = [*texts] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def plain(text: object) -> str:
    """What somebody else wrote, as one line of markdown that shows it letter by letter."""
    return _MARKUP.sub(r"\\\g<0>", html.escape(_one_line(text), quote=False))


def code(text: object) -> str:
    """The same as code: ```fusion=none```; backticks in it become quotation marks."""
    return f"`{_one_line(text).replace('`', chr(39))}`"


def link(text: object, address: str) -> str:
    """A link to an ``https`` address, the text alone where the address is another one."""
    good = re.fullmatch(r"https?://[^\s<>()\[\]\\`\"]+", address)
    return f"[{plain(text)}]({address})" if good else plain(text)


def _one_line(text: object) -> str:
    """Without line breaks and what cannot be printed."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
