"""How YAML is read: ``on``, ``off``, ``yes`` and ``no`` as text; repeated keys, aliases and huge numbers are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench.core.errors import UsageError
from bench.core.schema import Model, load_yaml, read_yaml, shown, validated


def test_on_off_yes_and_no_are_text() -> None:
    text = "classes: [on, off, yes, no, Off]\nids: {1: on}\na: true\nb: False\nc: ~\nd: 1.5"
    expected = {
        "classes": ["on", "off", "yes", "no", "Off"],
        "ids": {1: "on"},
        "a": True,
        "b": False,
        "c": None,
        "d": 1.5,
    }
    assert load_yaml(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ids: {7: road, 7: car}", "line 1: '7' is there twice"),
        ("ids:\n  7: road\n  '7': car", "line 3: '7' is there twice"),
        ("a: 1\nb: 2\na: 3", "line 3: 'a' is there twice"),
        ("a: &x [1]\nb: [*x, *x]", r"aliases \(\*name\) are not read"),
        ("a: 2026-13-01", "month must be in 1..12"),
        ("[" * 5000, "recursion"),
        ("? [1]\n: 2", "unhashable"),
        ("a: 0x" + "f" * 5000, "line 1: a whole number of 5002 digits"),
        ("a: 1\nb: -9223372036854775808", "line 2: a whole number of 20 digits"),
        ("!!int x", "invalid literal"),
        (r'a: "\ud800"', "surrogates not allowed"),
        (r'? "a\0b"' + "\n: 1", "a text has a NUL in it"),
    ],
)
def test_what_is_not_read_is_one_kind_of_error(text: str, says: str) -> None:
    with pytest.raises(yaml.YAMLError, match=says):
        load_yaml(text)


def test_a_file_is_read_the_same_way(tmp_path: Path) -> None:
    class Named(Model):
        name: str

    (tmp_path / "s.yaml").write_text("name: off")
    assert read_yaml(tmp_path / "s.yaml", Named, "Sweep").name == "off"
    (tmp_path / "s.yaml").write_text("name: a\nname: b")
    with pytest.raises(UsageError, match=r"Sweep s\.yaml is not YAML: line 2: 'name' is there twice"):
        read_yaml(tmp_path / "s.yaml", Named, "Sweep")


def test_what_an_error_shows_of_a_value_is_bounded() -> None:
    class Named(Model):
        name: str

    nested: list[object] = []
    for _ in range(200_000):  # of which the whole text could not be made
        nested = [nested]
    for value in ([list(range(10**6))] * 1000, nested, {"k" * 10**6: 1}, 10**4000):
        assert len(shown(value)) < 300
        with pytest.raises(UsageError, match="S: name: Input should be a valid string, got ") as caught:
            validated(Named, {"name": value}, "S")
        assert len(str(caught.value)) < 150
    with pytest.raises(UsageError) as caught:
        validated(Named, {"name": "a", "x" * 10**6: 1, "\n\x1b[31m": 2}, "S")
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()
