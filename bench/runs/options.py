"""What people write on a command line or in a sweep's file: ``key=value``, ``first:end``, yes and no, ``1e-3``."""

from __future__ import annotations

from typing import Any

import yaml

from bench.core.errors import UsageError, short
from bench.core.schema import load_yaml
from bench.core.sealed import LONGEST

MOST_OF_A_RANGE = 10_000
"""Replicates or trials: each is a run."""
ANSWERS = {"yes": True, "on": True, "no": False, "off": False}


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``["tau=0.1", "fusion=none"]`` to a dictionary; values are read as YAML scalars, so numbers become numbers.

    Raises:
        UsageError: not of the form key=value, or a key twice.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"Option '{short(pair, 80)}' is not of the form key=value, e.g. -o fusion=none")
        if key in options:
            raise UsageError(f"Option '{short(key, 80)}' is given twice")
        try:
            value = load_yaml(text) if text else ""
        except yaml.YAMLError:
            raise UsageError(
                f"Option '{short(pair, 80)}': '{short(text, 80)}' is not a value; put quotes around special characters"
            ) from None
        options[key] = plain_value(value)
    return options


def plain_value(value: Any) -> Any:
    """A YAML scalar as a person means it: nothing is ``none``, yes and no are booleans, and ``1e-3``, text to YAML, is a number."""
    if isinstance(value, str) and value.lower() in ANSWERS:
        return ANSWERS[value.lower()]
    return "none" if value is None else _number(value)


def parse_range(name: str, text: str) -> range:
    """``"0:3"`` to ``range(0, 3)``, ``"2"`` to ``range(2, 3)``.

    Raises:
        UsageError: not of that form, empty, or of more than :data:`MOST_OF_A_RANGE`.
    """
    first, separator, end = text.partition(":")
    try:
        start = int(first)
        stop = int(end) if separator else start + 1
    except ValueError:
        start = stop = 0
    if not 0 <= start < stop < LONGEST:
        raise UsageError(f"{name} must be FIRST:END with 0 <= FIRST < END, or one number, got '{short(text, 60)}'")
    if stop - start > MOST_OF_A_RANGE:
        raise UsageError(f"{name} {text}: these are {stop - start}; one command takes at most {MOST_OF_A_RANGE}")
    return range(start, stop)


def _number(value: Any) -> Any:
    """YAML 1.1 reads ``1e-3`` as text; a person means a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
