"""What varies over the rows of a study: one option on a numeric axis, two options crossed, or anything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST_AXIS = 3
"""Values from which on a numeric option is an axis."""


@dataclass(frozen=True)
class Factor:
    """An option and the values that it takes, in the order of the rows."""

    name: str
    levels: tuple[Any, ...]

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers, enough of them for an axis."""
        numbers = all(isinstance(level, (int, float)) and not isinstance(level, bool) for level in self.levels)
        return numbers and len(self.levels) >= LEAST_AXIS


@dataclass(frozen=True)
class Factors:
    """How the rows of a study are laid out.

    Attributes:
        varying: every option (or the method) with more than one value.
        crossed: two options of which every combination is a row, the one with more values first; empty otherwise.
    """

    varying: tuple[Factor, ...]
    crossed: tuple[Factor, ...]

    @property
    def axis(self) -> Factor | None:
        """The numeric option that figures draw along; the other varying one, if any, makes the lines."""
        numeric = [factor for factor in self.varying if factor.numeric]
        return numeric[0] if len(numeric) == 1 and len(self.varying) in (1, 2) else None

    def as_data(self) -> list[Any]:
        """Names and levels of the varying options, then of the crossed ones, as JSON."""
        return [[factor.name, list(factor.levels)] for factor in (*self.varying, *self.crossed)]


def value_of(values: Mapping[str, Any], factor: Factor) -> Any:
    """The value that a row has for a factor's option.

    Args:
        values: the row's values by option.
    """
    return values[factor.name]


def value_text(value: Any) -> str:
    """A value as it is typed: ``true``, not ``True``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def factors_of(rows: Sequence[Mapping[str, Any]]) -> Factors:
    """Find which options vary over the rows, and whether two of them are crossed.

    Args:
        rows: values by option of each row; all rows have the same options.
    """
    names = list(rows[0]) if rows else []
    factors = [Factor(name, tuple(dict.fromkeys(row[name] for row in rows))) for name in names]
    varying = tuple(factor for factor in factors if len(factor.levels) > 1)
    cells = {tuple(row[factor.name] for factor in varying) for row in rows}
    full = len(varying) == 2 and len(cells) == len(rows) == len(varying[0].levels) * len(varying[1].levels)
    return Factors(varying, tuple(sorted(varying, key=lambda factor: -len(factor.levels))) if full else ())
