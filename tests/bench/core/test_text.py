"""Tables and lists in markdown; text from outside is escaped, so that none of it is read as markup."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.errors import short, unknown
from bench.core.text import beside, code, link, listed, plain, table


def test_a_table_by_hand() -> None:
    rows = [{"method": "a", "mIoU, %": "1.0"}, {"method": "bb", "mIoU, %": "12.0"}]
    assert table(rows).splitlines() == [
        "| method   |   mIoU, % |",
        "|:---------|----------:|",
        "| a        |       1.0 |",
        "| bb       |      12.0 |",
    ]
    assert table([]) == ""
    assert table([{"x": "1"}], left=("x",)).splitlines()[1].startswith("|:-")


def test_a_cell_stays_a_cell() -> None:
    text = table([{"row": "a|b\nc", "n": r"1\|2"}])
    assert len(text.splitlines()) == 3 and r"a\|b c" in text and r"1\|2" in text


def test_two_tables_side_by_side() -> None:
    assert beside([{"a": "1"}], [{"b": "2"}]) == [{"a": "1", "b": "2"}]
    with pytest.raises(ValueError, match="shorter"):
        beside([{"a": "1"}], [])


def test_lists_in_a_sentence() -> None:
    assert [listed(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


@pytest.mark.parametrize(
    ("given_", "shown"),
    [
        ("AMD EPYC (family 26, model 2, stepping 1, AVX512)", "AMD EPYC (family 26, model 2, stepping 1, AVX512)"),
        ("no time: no fusion, contrast on t-1 alone", "no time: no fusion, contrast on t-1 alone"),
        ("cross_attention", "cross_attention"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a & b", "a &amp; b"),
        ("**bold** _it_ `code` ~~x~~", r"\*\*bold\*\* \_it\_ \`code\` \~\~x\~\~"),
        ("[here](https://x.org)", r"\[here\](https://x.org)"),
        ("# Title\n\n- item", r"\# Title - item"),
        ("a\u202eb\x00c\x1b[31m", r"a b c \[31m"),
        (7, "7"),
    ],
)
def test_what_others_wrote_is_shown_letter_by_letter(given_: object, shown: str) -> None:
    assert plain(given_) == shown


@given(st.text())
def test_no_text_becomes_markup(text: str) -> None:
    shown = plain(text)
    assert not re.search(r"[<>\n\r]", shown)
    assert not re.search(r"[`*\[\]~$]", re.sub(r"\\.", "", shown))
    expected = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    assert html.unescape(re.sub(r"\\(.)", r"\1", shown)) == expected  # what a reader sees
    assert "`" not in code(text)[1:-1] and "\n" not in code(text)


def test_links_lead_to_the_web_only() -> None:
    assert link("A*B", "https://arxiv.org/abs/1") == r"[A\*B](https://arxiv.org/abs/1)"
    for address in ("javascript:alert(1)", "https://a b", "https://a)", "", "/etc/passwd"):
        assert link("A", address) == "A"


def test_an_empty_value_is_shown_empty_and_an_error_without_text_by_its_name() -> None:
    assert short("") == short(" \n") == "" and short(ValueError()) == "ValueError" and short("a\nb") == "a b"
    assert str(unknown("method", "", ["a"])) == "Unknown method ''. Available: a"
