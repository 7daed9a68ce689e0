"""The code behind a name: executed where no clip data can be opened, and identified by the hash of its source.

A run's config holds the hashes of its plugins, never a path. What fails while it is loaded is one line with file and line.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from .access import stage
from .errors import AccessError, RunError, UsageError
from .registry import KINDS, Offer, digest_of, find, offers


def source_hash(kind: str, name: str) -> str | None:
    """First 12 hex digits of SHA-256 of a plugin's file, or of all Python files of an installed one's package; None for what this
    repository holds.

    Raises:
        UsageError: unknown name.
        RunError: the package's files cannot be found.
    """
    if ":" in name:  # of a library, such as timm:NAME: its version stands in the record
        return None
    offer = find(kind, name)
    return None if offer.built_in else offer.digest or _package_hash(offer.module.partition(":")[0].partition(".")[0])


def sources(used: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Hash of the source, by ``kind/name``, of those of some kinds and names that this repository does not hold."""
    return {f"{kind}/{name}": digest for kind, name in used if (digest := source_hash(kind, name))}


def folders_of(kind: str, name: str) -> list[Path]:
    """Folders of the installed package that offers a name; none for a file, and for what this repository holds."""
    offer = find(kind, name)
    if offer.built_in or not offer.module:
        return []
    spec = importlib.util.find_spec(offer.module.partition(":")[0].partition(".")[0])
    return [Path(os.path.realpath(folder)) for folder in (spec.submodule_search_locations or ())] if spec else []


@functools.lru_cache
def _package_hash(package: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise RunError(f"Package '{package}' offers a plugin, but cannot be found; install it again")
    if not spec.submodule_search_locations:
        return digest_of(Path(str(spec.origin)).read_bytes())
    digest = hashlib.sha256()
    for folder in map(Path, spec.submodule_search_locations):
        for path in sorted(folder.rglob("*.py")):
            source = path.read_bytes()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()[:12]


def load(kind: str, name: str) -> ModuleType:
    """The module behind a name. It is executed here, if it was not yet; no clip data can be opened meanwhile.

    Raises:
        UsageError: unknown name, or one that several places offer.
        RunError: the file fails; says in which line and why.
    """
    offer = find(kind, name)
    # Libraries of networks may ask the system something; a method could leave a process behind that nobody watches.
    with stage(processes=kind != "method"), _loading(offer, KINDS[kind].word):
        module = _imported(offer) if offer.module else _executed(kind, offer)
    if not hasattr(module, KINDS[kind].holds):
        raise RunError(
            f"{offer.place} has no {KINDS[kind].holds}, which a {KINDS[kind].word} must define; see CONTRIBUTING.md"
        )
    return module


def _imported(offer: Offer) -> ModuleType:
    module, _, attribute = offer.module.partition(":")
    if attribute:
        raise ImportError(f"an entry point names a module here, not '{attribute}' in it")
    return importlib.import_module(module)


def _executed(kind: str, offer: Offer) -> ModuleType:
    name = f"plugin_{kind}_{offer.name}_{offer.digest}"
    if name not in sys.modules:
        module = ModuleType(name)
        module.__file__ = offer.path
        sys.modules[name] = module  # where dataclasses and pydantic look up what annotations mean
        try:
            exec(compile(offer.text, offer.path, "exec", dont_inherit=True), module.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


@contextlib.contextmanager
def _loading(offer: Offer, word: str) -> Iterator[None]:
    """What code raises while it is loaded becomes one line: the place, the line in it, and what was raised."""
    try:
        yield
    except (Exception, SystemExit) as error:
        message = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split()) or "no message"
        line = _line_in(offer, error)
        location = offer.place if line is None else line if line.startswith(offer.place) else f"{offer.place}: {line}"
        error_type = AccessError if isinstance(error, AccessError) else RunError
        raise error_type(f"Cannot load {word} '{offer.name}': {location}: {type(error).__name__}: {message}") from error


def _line_in(offer: Offer, error: BaseException) -> str | None:
    """File and line of the plugin's own code at which it failed, not of a library that it calls."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    frames = [frame for frame in frames if "importlib" not in frame.filename]
    if not frames:
        return None
    tree = os.path.dirname(frames[0].filename) if offer.module else offer.path
    last = [frame for frame in frames if frame.filename.startswith(tree)][-1]
    return f"{last.filename}, line {last.lineno}"


def check_name(kind: str, name: str, declared: str) -> None:
    """Refuse a plugin whose ``declared`` name is not the one that it was found by.

    Raises:
        UsageError: names both; and the place that offers the other name, if there is one.
    """
    if declared != name and not (offer := find(kind, name)).built_in:
        hint = next((f" ({rival.place} is called so)" for rival in offers(kind) if rival.name == declared), "")
        raise UsageError(f"{offer.place} calls its {KINDS[kind].word} '{declared}'{hint}; it must be '{name}'")


def shift_file(name: str) -> tuple[Path, str]:
    """Path and text of a shift's YAML. An installed package's lies in the package that its entry point names.

    Raises:
        UsageError: unknown name.
        RunError: it cannot be read.
    """
    offer = find("shift", name)
    path = Path(offer.path)
    if offer.module:
        with stage(processes=True), _loading(offer, "shift"):
            module = _imported(offer)
        folders = list(getattr(module, "__path__", [])) or [str(Path(str(module.__file__)).parent)]
        path = next((p for folder in folders if (p := Path(folder) / f"{name}.yaml").is_file()), Path(folders[0]))
    try:
        return path, offer.text or path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RunError(f"Cannot read shift {name} of {offer.place}: {error.strerror}") from None
