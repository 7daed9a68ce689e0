"""Discovery by file name: a method, network, shift or flow backend is there because its file is there."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from .errors import unknown

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the package ``bench``."""


def names_in(package: str) -> list[str]:
    """Names of the modules in ``package`` (dotted), sorted, private ones and subpackages left out.

    Only the package's folders are read: the modules are not imported, so listing is instant.
    """
    folders = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(folders) if not m.name.startswith("_") and not m.ispkg)


def import_from(package: str, name: str, *, kind: str, exclude: tuple[str, ...] = ()) -> ModuleType:
    """Import ``package.name``.

    Raises:
        UsageError: no such module; names the nearest one and all there are.
    """
    available = [n for n in names_in(package) if n not in exclude]
    if name not in available:
        raise unknown(kind, name, available)
    return importlib.import_module(f"{package}.{name}")


def shift_names() -> list[str]:
    """Shifts at hand, one YAML each."""
    return sorted(path.stem for path in (ROOT / "shifts").glob("*.yaml"))


def method_names() -> list[str]:
    """Methods at hand, one file each in ``methods/``."""
    return [name for name in names_in("methods") if name != "base"]


def flow_names() -> list[str]:
    """Flow backends at hand, one file each in ``bench/flow/backends/``."""
    return names_in("bench.flow.backends")
