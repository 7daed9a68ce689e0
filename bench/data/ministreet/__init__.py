"""MiniStreet: the embedded benchmark, a seeded street world rendered on the fly in domains that are data.

``render_clip(domain, world, index)`` is a pure function: the same arguments give the same bytes. ``DOMAINS`` and ``VARIANTS``
hold every parameter; ``VERSION`` and ``spec_json`` identify what was rendered.
"""

from __future__ import annotations

from .domains import DOMAINS, VARIANTS, Domain, check_frozen, get_domain, spec_json
from .render import VERSION, render_clip, render_labels
from .spec import DomainSpec

__all__ = [
    "DOMAINS",
    "VARIANTS",
    "VERSION",
    "Domain",
    "DomainSpec",
    "check_frozen",
    "get_domain",
    "render_clip",
    "render_labels",
    "spec_json",
]
