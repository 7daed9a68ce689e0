"""The domains of MiniStreet by name, the variants that a mixture may take, and their text for hashing.

``sim`` and ``cam`` are MiniStreet's source and target. Their numbers were set on development worlds by two figures alone,
source-only and oracle mIoU. ``city`` and most variants in :data:`FROZEN` are MiniStreet 2's, set by these two and adabn's
(``leaderboards/calibration/ministreet2.csv``); ``lorry``, ``village``, ``crowd`` and ``webcam`` are the atlas's, whose severities
were set by source-only (``atlas.csv``). All of these are frozen; a new variant is for shifts of one's own, and its numbers may
change until a reported shift uses it. :func:`spec_json` goes into the hash of every rendered clip, so a changed
number can never meet an old cache.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from bench.shifts.protocol import Mixture

from .domain_cam import CAM
from .domain_city import CITY
from .domain_sim import SIM
from .mixture import Variants, mixed
from .spec import DomainSpec
from .variants import VARIANTS as NAMED

DOMAINS: dict[str, DomainSpec] = {"sim": SIM, "cam": CAM, "city": CITY}
"""The domains by name."""

GROUPS = ("camera", "layout", "traffic", "texture", "light", "weather", "sensor", "materials")

VARIANTS: Variants = {
    group: {**{name: getattr(spec, group) for name, spec in DOMAINS.items()}, **NAMED.get(group, {})}
    for group in GROUPS
}
"""What a group may become in a mixture: every domain's own, and the named ones."""

FROZEN: Mapping[str, tuple[str, ...]] = {
    "domain": ("cam", "city", "sim"),
    "camera": ("van", "lorry"),
    "layout": ("oldtown", "village"),
    "traffic": ("market", "crowd"),
    "texture": ("worn",),
    "light": ("noon", "overcast", "low_sun", "night"),
    "weather": ("dry", "rain", "fog"),
    "sensor": ("dashcam", "webcam"),
    "materials": ("oldtown",),
}
"""What a reported shift may use: whole domains, with each of their groups, and variants by group. Tests hold clips of them."""

Domain = str | Mixture | DomainSpec


def get_domain(domain: Domain) -> DomainSpec:
    """The parameters of a domain or of a mixture.

    Raises:
        ValueError: unknown domain, or a mixture that cannot be (see :func:`.mixture.mixed`).
    """
    if isinstance(domain, DomainSpec):
        return domain
    name = domain.domain if isinstance(domain, Mixture) else domain
    if name not in DOMAINS:
        raise ValueError(f"MiniStreet: unknown domain {name!r}; available: {', '.join(sorted(DOMAINS))}")
    base = DOMAINS[name]
    return mixed(domain, base, VARIANTS) if isinstance(domain, Mixture) and domain.groups else base


def check_frozen(mixture: Mixture) -> None:
    """Refuse a mixture of anything whose numbers may still change.

    Raises:
        ValueError: names the field and what is frozen.
    """
    whole = FROZEN["domain"]
    used = [("domain", mixture.domain, whole)]
    for group, shares in mixture.groups.items():
        used += [(f"with.{group}", name, (*whole, *FROZEN.get(group, ()))) for name in shares]
    for field, name, frozen in used:
        if name not in frozen:
            raise ValueError(
                f"{field}: '{name}' may still change; a reported shift takes what is frozen: {', '.join(sorted(frozen))}"
            )


def spec_json(domain: Domain) -> str:
    """Canonical JSON (sorted keys, no spaces) of a domain's parameters, for hashing; without those that have their default.

    Raises:
        ValueError: see :func:`get_domain`.
    """
    return json.dumps(_plain(get_domain(domain)), sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {f.name: _plain(v) for f, v in fields if v != f.default}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value
