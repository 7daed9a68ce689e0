"""A domain out of others: how far each group of parameters goes from a base to a variant.

Severity ``s`` in 0..1, parameter by parameter: numbers are ``(1 - s) base + s variant``; ranges go by their two ends, counts too,
rounded; the sky's colours go pairwise (the shorter palette starts over), channel by channel; names (the shapes of trees) are the
base's below 0.5 and the variant's from there on. Materials do not blend, since halfway between a dark road beside a light sidewalk
and a light road beside a dark one there are two grey ones: a share ``s`` of the surfaces is of the variant's material, the rest of
the base's. At 1 a group is the variant itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from bench.core.errors import unknown
from bench.shifts.protocol import Mixture

from .spec import Alternative, Colour, DomainSpec, Group, Materials, MaterialSpec

Variants = Mapping[str, Mapping[str, Group | Materials]]
"""By group and name."""


def mixed(mixture: Mixture, base: DomainSpec, variants: Variants) -> DomainSpec:
    """The domain that a mixture describes. A base that draws light and colours together with its street no longer does.

    Raises:
        ValueError: an unknown group or variant, shares that are not 1 together, or a group that stays what it is; the message
            begins with the field's path.
    """
    changed: dict[str, Any] = {}
    alternatives = []
    for group, shares in sorted(mixture.groups.items()):
        if group not in variants:
            raise ValueError(f"with: {unknown('group', group, variants)}")
        base_group = getattr(base, group)
        for name in shares:
            if name not in variants[group]:
                raise ValueError(f"with.{group}: {unknown('variant', name, variants[group])}")
        if abs(sum(shares.values()) - 1) > 1e-6:
            raise ValueError(f"with.{group}: the shares must be 1 together, they are {sum(shares.values()):g}")
        if all(variants[group][name] == base_group for name in shares):
            raise ValueError(
                f"with.{group}: '{', '.join(shares)}' is what the base '{base.name}' has already; leave it out"
            )
        # Sorted by name: two texts with one hash are one domain.
        weighted = [
            (shares[name], towards(base_group, variants[group][name], mixture.severity)) for name in sorted(shares)
        ]
        changed[group] = weighted[0][1]
        if len(weighted) > 1:
            alternatives += [Alternative(group, share, spec) for share, spec in weighted]
    return dataclasses.replace(base, **changed, own_draws=True, alternatives=tuple(alternatives))


def towards(base: Any, variant: Any, severity: float) -> Any:
    """A group of parameters, or the materials, between two."""
    if severity == 1:
        return variant
    if isinstance(base, tuple):
        variant_materials = cast(dict[str, MaterialSpec], dict(variant))
        return tuple(
            (name, dataclasses.replace(m, other=variant_materials[name], other_share=severity)) for name, m in base
        )
    return dataclasses.replace(
        base,
        **{
            f.name: _BETWEEN[str(f.type)](getattr(base, f.name), getattr(variant, f.name), severity)
            for f in dataclasses.fields(base)
        },
    )


def _number(a: float, b: float, s: float) -> float:
    return (1 - s) * a + s * b


def _whole(a: int, b: int, s: float) -> int:
    return math.floor(_number(a, b, s) + 0.5)


def _range(a: tuple[float, float], b: tuple[float, float], s: float) -> tuple[float, float]:
    return _number(a[0], b[0], s), _number(a[1], b[1], s)


def _count(a: tuple[int, int], b: tuple[int, int], s: float) -> tuple[int, int]:
    return _whole(a[0], b[0], s), _whole(a[1], b[1], s)


def _palette(a: tuple[Colour, ...], b: tuple[Colour, ...], s: float) -> tuple[Colour, ...]:
    def colour(c: Colour, d: Colour) -> Colour:
        return _whole(c[0], d[0], s), _whole(c[1], d[1], s), _whole(c[2], d[2], s)

    return tuple(colour(a[k % len(a)], b[k % len(b)]) for k in range(max(len(a), len(b))))


def _name(a: Any, b: Any, s: float) -> Any:
    return b if s >= 0.5 else a


_BETWEEN: Mapping[str, Callable[[Any, Any, float], Any]] = {
    "float": _number,
    "int": _whole,
    "Range": _range,
    "Count": _count,
    "tuple[Colour, ...]": _palette,
    "tuple[str, ...]": _name,
}
"""By a parameter's type as ``spec.py`` writes it."""
