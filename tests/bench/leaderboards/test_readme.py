"""The numbers of the README's results stand on the pages that it links: it is written by hand, they are generated."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\((leaderboards/[\w-]+\.md)\)")
NUMBER = r"[+−-]?\d+(?:\.\d+)?"
PAIR = re.compile(rf"({NUMBER}) ± ({NUMBER})")
METHODS = [
    "IAPC",
    "VAT-VST",
    "HCL",
    "STPL",
    "DT-ST",
    "AdaBN",
    "UR",
    "DA-VSN",
    "Tent",
    "MIC",
    "PixMatch",
    "TPS",
    "RDA",
    "FDA",
]
DECIMALS = re.compile(r"(?<![\d.])[+−-]?\d\.\d{2,3}(?!\d|\.\d)")
TITLES = {
    **{name: name for name in METHODS},
    "self-training": "Self-training (mean teacher)",
    "source only": "Source only",
    "Source only": "Source only",
    "oracle": "Oracle",
}
"""What the README calls a method, and its title in the tables."""
SCORE = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, TITLES))}) (\d\d\.\d)\b(?: \((\d\d\.\d to \d\d\.\d)\))?")


def results() -> dict[str, str]:
    """By its heading, each part of the results with the pages that it links, numbers on one line."""
    section = " ".join(README.split("\n## Results\n")[1].split("\n## ")[0].split())
    parts = re.split(r"\*\*\[([^]]+)\](?=\(leaderboards/)", section)[1:]
    return {name: f"[{name}]{text}" for name, text in zip(parts[::2], parts[1::2], strict=True)}


def linked(text: str) -> list[str]:
    """The pages that a text links."""
    return [(ROOT / address).read_text(encoding="utf-8") for address in dict.fromkeys(LINK.findall(text))]


def value(text: str) -> float:
    return float(text.replace("−", "-"))


def test_the_parts_are_found() -> None:
    assert list(results()) == ["On a real camera", "On MiniStreet 2", "The atlas", "On MiniStreet"]
    found = [match for text in results().values() for match in SCORE.findall(text)]
    assert len(found) >= 20 and {"IAPC", "VAT-VST", "STPL", "self-training", "PixMatch"} <= {
        match[0] for match in found
    }


@pytest.mark.parametrize("part", ["On a real camera", "On MiniStreet 2", "On MiniStreet"])
def test_a_score_is_on_a_linked_page(part: str) -> None:
    """In the row of its method, at the beginning of a cell; an interval in brackets anywhere in that row of a page."""
    text = results()[part]
    lines = [line for page in linked(text) for line in page.splitlines() if line.startswith("|")]
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    for title, score, interval in SCORE.findall(text):
        of_method = [
            row for row in rows if row[0].strip("[").partition("](")[0].partition(" (source")[0] == TITLES[title]
        ]
        cells = [cell for row in of_method for cell in row[1:]]
        assert any(cell.startswith(score) for cell in cells), (
            f"README: {title} {score} is on no page that this part links"
        )
        assert not interval or interval in cells, (
            f"README: {title} {score} ({interval}) is on no page that this part links"
        )


@pytest.mark.parametrize("part", ["On a real camera", "On MiniStreet 2", "The atlas", "On MiniStreet"])
def test_a_difference_is_on_a_linked_page(part: str) -> None:
    """Rounded, and whichever of the two is subtracted."""
    text = results()[part]
    measured = {pair for page in linked(text) for pair in PAIR.findall(page)}
    for mean, half in PAIR.findall(text):
        decimals = len(half.partition(".")[2])
        near = 0.5 * 10**-decimals + 0.0051  # the page has rounded too
        close = (
            abs(abs(value(mean)) - abs(value(a))) <= near and abs(value(half) - value(b)) <= near for a, b in measured
        )
        assert any(close), f"README: {mean} ± {half} is on no page that this part links"


@pytest.mark.parametrize("part", ["On a real camera", "On MiniStreet 2", "The atlas", "On MiniStreet"])
def test_a_correlation_or_p_value_is_on_a_linked_page(part: str) -> None:
    """Numbers of two and three decimals that are no difference: a cell of a table, to the digit, or in a page's text; "below
    0.001" where the cell says <0.001."""
    text = results()[part]
    lines = [line for page in linked(text) for line in page.replace("−", "-").splitlines()]
    cells = {cell.strip(" *") for line in lines if line.startswith("|") for cell in line.split("|")}
    texts = {number for line in lines if not line.startswith("|") for number in DECIMALS.findall(line)}
    found = [number.replace("−", "-") for number in DECIMALS.findall(PAIR.sub("", text))]
    assert found
    below = set(re.findall(r"below (0\.\d+)", text))
    for number in found:
        number = f"<{number}" if number in below else number
        assert number in cells | texts, f"README: {number} is on no page that this part links"


def test_the_first_numbers_are_of_the_real_camera() -> None:
    """The paragraph under the first picture: source only, AdaBN, STPL and IAPC, and how steady the second and third are."""
    page = (ROOT / "leaderboards/cityscapes2camvid.md").read_text(encoding="utf-8")
    table = page.split("\n## Results\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")
    ]
    head, *methods = rows
    of = {row[0].strip("[").partition("](")[0]: dict(zip(head, row, strict=True)) for row in methods}
    scores = [of[name]["mIoU, %"].partition(" ")[0] for name in ("Source only", "AdaBN", "STPL", "IAPC")]
    steady = [f"{value(of[name]['temporal cons., %'].partition(' ')[0]):.0f}" for name in ("STPL", "AdaBN")]
    paragraph = " ".join(
        next(p for p in README.split("\n\n") if p.startswith("A network trained on Cityscapes")).split()
    )
    numbers = re.findall(r"\d+(?:\.\d)?", LINK.sub("", paragraph))
    assert numbers == [*scores[:3], *steady, scores[3]]
    below = [row for row in of.values() if value(row["mIoU, %"].partition(" ")[0]) < value(scores[0])]
    words = ("none", "one", "two", "three", "four", "five")
    assert f"{words[len(below)].capitalize()} end below the start" in paragraph
    methods_there = {12: "twelve", 13: "thirteen"}[sum(row["setting"] == "SFDA" for row in of.values())]
    assert f"the best of {methods_there} methods" in paragraph
