"""The two domains of MiniStreet: ``sim`` is the source, ``cam`` the target.

Their numbers were set on development worlds by two figures alone, source-only and oracle mIoU. They are frozen;
:func:`spec_json` goes into the hash of every rendered clip, so a changed number can never meet an old cache.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from .domain_cam import CAM
from .domain_sim import SIM
from .spec import DomainSpec

DOMAINS: dict[str, DomainSpec] = {"sim": SIM, "cam": CAM}
"""The two domains by name."""


def spec_json(domain: str) -> str:
    """Canonical JSON (sorted keys, no spaces) of a domain's parameters, for hashing.

    Raises:
        ValueError: for an unknown domain.
    """
    return json.dumps(asdict(get_domain(domain)), sort_keys=True, separators=(",", ":"))


def get_domain(domain: str) -> DomainSpec:
    """The parameters of ``domain``; ValueError names the domains that exist."""
    if domain not in DOMAINS:
        raise ValueError(f"MiniStreet: unknown domain {domain!r}; available: {', '.join(sorted(DOMAINS))}")
    return DOMAINS[domain]
