"""MiniStreet: the embedded benchmark, a seeded street world rendered on the fly in two domains.

``render_clip(domain, world, index)`` is a pure function: the same arguments give the same bytes. ``DOMAINS`` holds
every parameter of the shift; ``VERSION`` and ``spec_json`` identify what was rendered.
"""

from __future__ import annotations

from .domains import DOMAINS, spec_json
from .render import VERSION, render_clip, render_labels
from .spec import DomainSpec

__all__ = ["DOMAINS", "VERSION", "DomainSpec", "render_clip", "render_labels", "spec_json"]
