"""What there is to choose from: methods, shifts, fusion operators, flow backends, networks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from bench.core.errors import RunError, UsageError, unknown
from bench.core.loading import load
from bench.core.registry import names
from bench.runs.config import effective_settings, load_shift, method_class, refuses_stream


def first_sentence(text: str | None) -> str:
    """First line of a docstring without its leading name."""
    line = inspect.cleandoc(text or "").split("\n\n")[0].replace("\n", " ")
    return line.split(": ", 1)[-1].split(". ")[0].rstrip(".").replace("``", "")


def _each(names: Iterable[str], describe: Callable[[str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Description of each name; of one that cannot be loaded, ``broken`` with the reason."""
    entries = {}
    for name in names:
        try:
            entries[name] = describe(name)
        except (RunError, UsageError) as error:
            entries[name] = {"broken": str(error)}
    return entries


def methods() -> dict[str, dict[str, Any]]:
    """Each method's card."""

    def card(name: str) -> dict[str, Any]:
        card, streams = method_class(name).card, "no" if refuses_stream(name) else "yes"
        fields = {"title": card.title, "venue": card.venue, "design": card.design, "setting": card.setting}
        return fields | {"stream": streams}

    return _each(names("method"), card)


def settings(shift: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each method that has any and can be run on a shift: every setting's value, whether it is published, ours or tuned, and
    where it stands.

    Raises:
        UsageError: unknown shift.
    """
    protocol = load_shift(shift)

    def layers(name: str) -> dict[str, Any]:
        if protocol.refuses(method_class(name).card.setting) is not None:
            return {}
        values = effective_settings(name, {}, protocol)
        return {key: {"value": v.value, "origin": v.origin, "source": v.source} for key, v in values.items()}

    return {
        name: values for name, values in _each(names("method"), layers).items() if values and "broken" not in values
    }


def shifts() -> dict[str, dict[str, Any]]:
    """Each shift's title, purpose and protocol hash."""

    def protocol(name: str) -> dict[str, Any]:
        shift = load_shift(name)
        return {"title": shift.title, "purpose": shift.purpose, "hash": shift.hash}

    return _each(names("shift"), protocol)


def fusions() -> dict[str, dict[str, Any]]:
    """Each fusion operator's first sentence; those on scores after those on features."""
    from bench.networks.build import SCORE_FUSIONS
    from stpl.fusion import FUSIONS
    from stpl.segmenter import AccelScoreFusion

    operators = {name: {"what": first_sentence(cls.__doc__)} for name, cls in FUSIONS.items()}
    accel = first_sentence(AccelScoreFusion.__doc__)
    return operators | {name: {"what": f"{accel}; propagates by {how}"} for name, how in SCORE_FUSIONS.items()}


def flows() -> dict[str, dict[str, Any]]:
    """Each flow backend's first sentence."""
    return _each(names("flow"), lambda name: {"what": first_sentence(load("flow", name).__doc__)})


def networks() -> dict[str, dict[str, Any]]:
    """Each network's first sentence, and how those of libraries are named."""
    from bench.networks.build import FAMILIES

    families = {how: import_module(f"bench.networks._{family}").__doc__ for family, how in FAMILIES.items()}
    return _each(names("network"), lambda name: {"what": first_sentence(load("network", name).__doc__)}) | {
        how: {"what": f"{first_sentence(text)}; pip install 'stpl-benchmark[timm]'"} for how, text in families.items()
    }


def datasets() -> dict[str, dict[str, Any]]:
    """Each recorded data set's first sentence and its usual folder under the data root."""
    from bench.data.datasets import dataset

    def described(name: str) -> dict[str, Any]:
        return {"what": first_sentence(load("dataset", name).__doc__), "folder": dataset(name).folder or "any"}

    return _each(names("dataset"), described)


KINDS = {
    "methods": methods,
    "shifts": shifts,
    "fusions": fusions,
    "flows": flows,
    "networks": networks,
    "datasets": datasets,
}


def catalogue(chosen: str = "") -> dict[str, dict[str, dict[str, Any]]]:
    """Everything, or one kind.

    Raises:
        UsageError: unknown kind.
    """
    if chosen and chosen not in KINDS:
        raise unknown("kind", chosen, KINDS)
    return {kind: make() for kind, make in KINDS.items() if chosen in ("", kind)}
