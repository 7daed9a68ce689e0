"""YAML as people mean it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench.core.errors import UsageError
from bench.core.schema import Model, load_yaml, read_yaml


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
