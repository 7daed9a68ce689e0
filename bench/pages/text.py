"""Markdown pages as HTML: the generated pages of a leaderboard, with their links leading to pages of the site."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

Place = Callable[[str], str | None]
"""What becomes of an address in a page; None where nothing is to be linked."""


def to_html(markdown: str, resolve: Place) -> str:
    """HTML of markdown. HTML in it is shown letter by letter; a wide table scrolls by itself.

    Args:
        resolve: gives the site's address for each address in the markdown.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for token in tokens:
        if token.children:
            token.children = list(_linked(token.children, resolve))
    parser.add_render_rule("table_open", _open)
    parser.add_render_rule("table_close", _close)
    _name_headings(tokens)
    return str(parser.renderer.render(tokens, parser.options, {}))


def _linked(tokens: list[Token], resolve: Place) -> Iterator[Token]:
    """The tokens with addresses of the site; a link without one becomes its text, a picture without one its caption."""
    kept: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            address = resolve(str(token.attrs["href"]))
            kept.append(address is not None)
            if address is None:
                continue
            token.attrs["href"] = address
            if "://" in address:
                token.attrs["rel"] = "noopener"
        elif token.type == "link_close" and not kept.pop():
            continue
        elif token.type == "image":
            address = resolve(str(token.attrs["src"]))
            if address is None:
                yield from token.children or []
                continue
            token.attrs |= {"src": address, "loading": "lazy"}
        yield token


def _name_headings(tokens: list[Token]) -> None:
    """Give headings an ``id``, so that a link can lead to a section."""
    for token, inside in itertools.pairwise(tokens):
        if token.type == "heading_open":
            token.attrs["id"] = slug(inside.content)


def slug(text: str) -> str:
    """``IoU per class`` is ``iou-per-class``."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _open(*_: Any) -> str:
    return '<div class="scroll" role="group" aria-label="table" tabindex="0"><table>\n'


def _close(*_: Any) -> str:
    return "</table></div>\n"


def title_of(markdown: str) -> str:
    """The text of a page's first heading, without its kind (``Study: ``)."""
    (title,) = [t.content for t in MarkdownIt().parse(markdown.split("\n", 1)[0]) if t.type == "inline"][:1] or [""]
    return re.sub(r"\\(.)", r"\1", title)
