"""Where methods, networks, flow backends, data sets and shifts come from, by name.

A name is offered by a file of this repository (``methods/mine.py`` offers ``mine``), by a file of one's own that was named by its
path, or by an installed package (an entry point). Two places that offer one name are an error. What is from outside this
repository is a *plugin*. A file is read once, when it is named: what is hashed is what runs, whatever becomes of it meanwhile.
``$BENCH_PLUGINS`` names files for commands that are given a run or a model and no name: ``method=mine.py:network=nets/micro.py``.

Nothing is executed here; see :mod:`bench.core.loading`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import RunError, UsageError, unknown

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the package ``bench``."""

_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Kind:
    """A kind of thing that is found by name.

    Attributes:
        word: what it is called in errors.
        package: dotted, of those that this repository holds.
        group: of the entry points by which installed packages offer it.
        holds: what its module must define; empty for YAML files.
        exclude: modules of the package that are none.
    """

    word: str
    package: str
    group: str
    holds: str
    exclude: tuple[str, ...] = ()

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of its files."""
        return (".py",) if self.holds else (".yaml", ".yml")


KINDS: Mapping[str, Kind] = {
    "method": Kind("method", "methods", "stpl_benchmark.methods", "METHOD", exclude=("base",)),
    "network": Kind("network", "bench.networks.zoo", "stpl_benchmark.networks", "build"),
    "flow": Kind("flow", "bench.flow.backends", "stpl_benchmark.flow_backends", "BACKEND"),
    "dataset": Kind("data set", "bench.data.datasets", "stpl_benchmark.datasets", "DATASET"),
    "shift": Kind("shift", "bench.shifts", "stpl_benchmark.shifts", ""),
}


@dataclass(frozen=True)
class Offer:
    """One place that offers a name.

    Attributes:
        place: where, for people.
        module: dotted name of what is imported; empty for a file of one's own and for a shift of this repository.
        path: of a file of one's own, or of a shift of this repository.
        text: of a file of one's own, as it was when it was named.
        digest: of that file's bytes.
        recalled: a file that was not named now, see :func:`recall`.
    """

    name: str
    place: str
    module: str = ""
    path: str = ""
    text: str = ""
    digest: str = ""
    built_in: bool = False
    recalled: bool = False


_files: dict[tuple[str, str], Offer] = {}
"""Files that were named by their path, by kind and name."""


# What there is --------------------------------------------------------------------------------------------------------


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


def built_in(kind: str) -> list[str]:
    """Names of a kind that this repository holds, one file each: those of the leaderboards and of ``all``."""
    return sorted(offer.name for offer in _built_in(kind))


def names(kind: str) -> list[str]:
    """All names of a kind: of this repository, of installed packages, and from files that were named."""
    return sorted({offer.name for offer in offers(kind)})


def shift_names() -> list[str]:
    """Shifts of this repository."""
    return built_in("shift")


def method_names() -> list[str]:
    """Methods of this repository."""
    return built_in("method")


def flow_names() -> list[str]:
    """Flow backends at hand."""
    return names("flow")


def _built_in(kind: str, only: str | None = None) -> Iterator[Offer]:
    package, suffixes = KINDS[kind].package, KINDS[kind].suffixes
    for folder in importlib.import_module(package).__path__:
        file_names = os.listdir(folder) if only is None else [f"{only}{suffix}" for suffix in suffixes]
        for file in file_names:
            path, (name, suffix) = os.path.join(folder, file), os.path.splitext(file)
            hidden = name.startswith("_") or name in KINDS[kind].exclude
            if suffix not in suffixes or hidden or os.path.dirname(file) or not os.path.isfile(path):
                continue
            module = f"{package}.{name}" if KINDS[kind].holds else ""
            yield Offer(name, path, module, path, built_in=True)


_elsewhere: dict[str, tuple[Offer, ...]] = {}
"""By group, in a child that may not read where packages are installed, what its parent found there."""


def installed() -> dict[str, tuple[Offer, ...]]:
    """Offers of installed packages, by group."""
    return {kind.group: _installed(kind.group) for kind in KINDS.values()}


def know_installed(by_group: Mapping[str, tuple[Offer, ...]]) -> None:
    """Use what another process found installed (offers by group) instead of looking here."""
    _elsewhere.update(by_group)
    _installed.cache_clear()


@functools.lru_cache
def _installed(group: str) -> tuple[Offer, ...]:
    if group in _elsewhere:
        return _elsewhere[group]
    from importlib.metadata import entry_points

    entries = []
    for point in entry_points(group=group):
        package = f"package {point.dist.name} {point.dist.version}" if point.dist else "a package"
        entries.append(Offer(point.name, f"{package} ({point.name} = {point.value})", point.value))
    return tuple(sorted(entries, key=lambda offer: (offer.name, offer.place)))


def offers(kind: str, only: str | None = None) -> list[Offer]:
    """All places that offer a name of a kind, or one name only.

    Raises:
        UsageError: ``$BENCH_PLUGINS`` names something else than a file of a kind.
    """
    for entry in filter(None, os.environ.get("BENCH_PLUGINS", "").split(os.pathsep)):
        entry_kind, _, path = entry.partition("=")
        if entry_kind not in KINDS or not path.endswith(KINDS[entry_kind].suffixes):
            raise UsageError(f"$BENCH_PLUGINS: '{entry}' is not KIND=FILE; kinds are {', '.join(KINDS)}")
        if entry_kind == kind and (kind, Path(path).stem) not in _files:
            _take(kind, Path(path))
    return _all(kind, only)


def _all(kind: str, only: str | None = None) -> list[Offer]:
    named = [offer for (file_kind, _), offer in _files.items() if file_kind == kind]
    offered = [*_built_in(kind, only), *named, *_installed(KINDS[kind].group)]
    return offered if only is None else [offer for offer in offered if offer.name == only]


def find(kind: str, name: str) -> Offer:
    """The one place that offers a name.

    Raises:
        UsageError: no place does (with the nearest name), or several do (with both places).
    """
    candidates = offers(kind, name)
    if not candidates:
        raise unknown(KINDS[kind].word, name, names(kind))
    _refuse_clash(kind, candidates)
    return candidates[0]


def _refuse_clash(kind: str, candidates: list[Offer]) -> None:
    if len(candidates) > 1:
        first, second = candidates[0], candidates[1]
        raise UsageError(
            f"Two {KINDS[kind].word}s are called '{first.name}': {first.place} and {second.place}; "
            "rename a file, or uninstall a package"
        )


# Files of one's own ---------------------------------------------------------------------------------------------------


def resolve(kind: str, reference: str, folder: Path | None = None, again: bool = True) -> str:
    """The name of what is asked for: a name as it is; of a path, the file's name, by which it is known from here on.

    Args:
        folder: that a relative path starts from; by default the current one.
        again: read a file that is known already anew.

    Raises:
        UsageError: there is no such file, or its name is taken.
    """
    if not reference.endswith(KINDS[kind].suffixes):
        return reference
    path = Path(os.path.abspath((folder or Path()) / Path(reference).expanduser()))
    offer = _files.get((kind, path.stem))
    return path.stem if not again and offer and offer.path == str(path) else _take(kind, path, reference)


def _take(kind: str, path: Path, reference: str = "", recalled: bool = False) -> str:
    path, name, word = Path(os.path.abspath(path)), path.stem, KINDS[kind].word
    if not os.path.isfile(path):
        raise unknown(word, reference or str(path), {offer.name for offer in _all(kind)}, context=": no such file")
    if any(os.path.samefile(offer.path, path) for offer in _built_in(kind, name)):
        return name
    if not _NAME.fullmatch(name):
        raise UsageError(f"{path}: a {word} is called as its file; letters, digits, '_', '-' and '.' are allowed")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}") from None
    text = source.decode(errors="replace") if not KINDS[kind].holds else _decoded(source, path)
    offer = Offer(name, str(path), "", str(path), text, digest_of(source), recalled=recalled)

    def gives_way(rival: Offer) -> bool:
        if not rival.digest:
            return False
        return (
            rival.recalled or offer.digest == rival.digest or offer.path == rival.path or not Path(rival.path).is_file()
        )

    rivals = [rival for rival in _all(kind, name) if not gives_way(rival)]
    _refuse_clash(kind, [*rivals, offer])
    _files[kind, name] = offer
    return name


def digest_of(source: bytes) -> str:
    """First 12 hex digits of SHA-256."""
    return hashlib.sha256(source).hexdigest()[:12]


def _decoded(source: bytes, path: Path) -> str:
    try:
        return importlib.util.decode_source(source)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: not Python: {error}") from None


def file_of(kind: str, name: str) -> str | None:
    """Path of the file of one's own that offers a name; None for what is found by its name alone."""
    offer = _files.get((kind, name))
    return offer.path if offer else None


def packed() -> list[dict[str, Any]]:
    """All files that were named, for another process; as JSON can hold it."""
    return [{"kind": kind, **asdict(offer)} for (kind, _), offer in _files.items()]


def unpack(files: Iterable[Mapping[str, Any]]) -> None:
    """Register the files that another process packed; they need not exist here."""
    for file in files:
        _files[file["kind"], file["name"]] = Offer(**{key: value for key, value in file.items() if key != "kind"})


def recall(files: Mapping[str, str]) -> None:
    """Register files of an earlier run by ``kind/name``, where they still exist. Files named by their path take precedence."""
    for key, path in files.items():
        kind, _, name = key.partition("/")
        if kind in KINDS and name not in names(kind) and path.endswith(KINDS[kind].suffixes) and Path(path).is_file():
            _take(kind, Path(path), recalled=True)
