"""What there is to choose from: methods, shifts, fusion operators, flow backends, networks."""

from __future__ import annotations

import inspect
from typing import Any

from bench.core.errors import unknown
from bench.core.registry import flow_names, import_from, method_names, names_in, shift_names
from bench.runs.config import effective_settings, load_shift, method_class


def first_sentence(text: str | None) -> str:
    """First line of a docstring without its leading name."""
    line = inspect.cleandoc(text or "").split("\n\n")[0].replace("\n", " ")
    return line.split(": ", 1)[-1].split(". ")[0].rstrip(".").replace("``", "")


def methods() -> dict[str, dict[str, Any]]:
    """Each method's card."""
    found = {}
    for name in method_names():
        card = method_class(name).card
        found[name] = {"title": card.title, "venue": card.venue, "design": card.design, "setting": card.setting}
    return found


def settings(shift: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each method that has any, on a shift: every setting's value, whether it is published, ours or tuned, and where it stands.

    Raises:
        UsageError: unknown shift.
    """
    protocol, found = load_shift(shift), {}
    for name in method_names():
        told = effective_settings(name, {}, protocol)
        found[name] = {key: {"value": v.value, "origin": v.origin, "source": v.source} for key, v in told.items()}
    return {name: told for name, told in found.items() if told}


def shifts() -> dict[str, dict[str, Any]]:
    """Each shift's title, purpose and protocol hash."""
    loaded = {name: load_shift(name) for name in shift_names()}
    return {name: {"title": s.title, "purpose": s.purpose, "hash": s.hash} for name, s in loaded.items()}


def fusions() -> dict[str, dict[str, Any]]:
    """Each fusion operator's first sentence; those on scores after those on features."""
    from bench.networks.build import SCORE_FUSIONS
    from stpl.fusion import FUSIONS
    from stpl.segmenter import AccelScoreFusion

    found = {name: {"what": first_sentence(cls.__doc__)} for name, cls in FUSIONS.items()}
    accel = first_sentence(AccelScoreFusion.__doc__)
    return found | {name: {"what": f"{accel}; propagates by {how}"} for name, how in SCORE_FUSIONS.items()}


def flows() -> dict[str, dict[str, Any]]:
    """Each flow backend's first sentence."""
    return {
        n: {"what": first_sentence(import_from("bench.flow.backends", n, kind="flow").__doc__)} for n in flow_names()
    }


def networks() -> dict[str, dict[str, Any]]:
    """Each network's first sentence."""
    names = names_in("bench.networks.zoo")
    return {n: {"what": first_sentence(import_from("bench.networks.zoo", n, kind="network").__doc__)} for n in names}


def datasets() -> dict[str, dict[str, Any]]:
    """Each recorded data set's first sentence and its usual folder under the data root."""
    from bench.data.datasets import dataset, dataset_names

    found = {}
    for name in dataset_names():
        module = import_from("bench.data.datasets", name, kind="data set")
        found[name] = {"what": first_sentence(module.__doc__), "folder": dataset(name).folder or "any"}
    return found


KINDS = {
    "methods": methods,
    "shifts": shifts,
    "fusions": fusions,
    "flows": flows,
    "networks": networks,
    "datasets": datasets,
}


def catalogue(what: str = "") -> dict[str, dict[str, dict[str, Any]]]:
    """Everything, or one kind.

    Raises:
        UsageError: unknown kind.
    """
    if what and what not in KINDS:
        raise unknown("kind", what, KINDS)
    return {kind: make() for kind, make in KINDS.items() if what in ("", kind)}


def print_catalogue(found: dict[str, dict[str, dict[str, Any]]]) -> None:
    """A table per kind on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    for kind, entries in found.items():
        columns = list(next(iter(entries.values()), {}))
        table = Table("name", *columns, title=kind, title_justify="left", box=None, header_style="dim")
        for name, entry in entries.items():
            table.add_row(f"[bold]{name}[/]", *(escape(str(entry[column])) for column in columns))
        Console().print(table, "")
