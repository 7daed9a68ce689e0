"""Who may read what, enforced while code runs.

Cached data lies in folders named ``<role>-<split>-<hash>`` (``source-train-...``, ``target-val-...``) with the labels in a
file of their own, ``label.npy``. Inside ``stage(...)`` only the granted folders can be opened, labels only with a grant of
their own, and nothing can be rendered anew (rendering would give labels too). A Python audit hook sees every ``open`` of
the process, in whatever module or thread it happens, and refuses; a nested stage can only narrow what its parent allows.
Recorded data lies elsewhere: :func:`guard` makes its folders known, and everything under a data set's root that is not named
as frames of a split takes a grant of its own. Clip data cannot be moved or linked to another name, and no process can be
started (it would not be watched).

    with stage("target-train"):                    # source-free adaptation
    with stage("target-train", "source-train", "source-train/label"):       # UDA
    with stage("target-val", "target-val/label"):  # evaluation

This stops mistakes and ordinary cheating, and says in one line what was wrong. Code that sets out to patch the interpreter can
get around it, as it can around anything in one process, and so can what Python raises no event for: readers in C++
(``torch.from_file``) and ``multiprocessing``'s spawn. Weights of other runs are not guarded. Where the system can, a method
therefore adapts in a box (:mod:`bench.core.box`), in which this watch goes on; a record says which of the two its run had.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from .errors import AccessError

RENDER_EVENT = "bench.render"
"""Audit event that ``render_clip`` raises; refused inside every stage."""

_MOVES = frozenset({"os.rename", "os.link"})
_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec", "os.system"})

_FOLDER = re.compile(r"(?:^|/)((?:source|target)-(?:train|val|transductive))-[0-9a-f]{12}(?:/([^/]*))?$")
_FIGURE = re.compile(r"/[0-9a-f]{12}/figures/[^/]+$")


def needed_grant(path: str) -> str | None:
    """The grant that opening ``path`` takes, None for files that are not clip data.

    A handle of the folder itself leads to everything in it, so it takes the labels' grant.

    >>> needed_grant("cache/target-val-0123456789ab/label.npy")
    'target-val/label'
    >>> needed_grant("cache/source-train-0123456789ab/frames.npy")
    'source-train'
    """
    path = path.replace(os.sep, "/")
    if _FIGURE.search(path):
        return "figures"  # of finished runs: they show validation labels
    match = _FOLDER.search(path)
    if match is None:
        return None
    return f"{match[1]}/label" if not match[2] or match[2].startswith("label") else match[1]


class Stage(Protocol):
    """Type of :data:`stage`."""

    def __call__(self, *grants: str, processes: bool = False) -> contextlib._GeneratorContextManager[None]: ...


class Guard(Protocol):
    """Type of :data:`guard`."""

    def __call__(self, root: Path, role: str, grants: Mapping[str, str], whole: bool = True) -> None: ...


class Opened(Protocol):
    """Type of :data:`opened`."""

    def __call__(self, *grants: str) -> tuple[list[Path], list[Path]]: ...


def _make_stage() -> tuple[Stage, Guard, Opened]:
    # These live in this closure only; no grants = no stage, everything is allowed.
    granted: list[frozenset[str]] = []
    watched: list[bool] = []
    guarded: dict[str, frozenset[str]] = {}

    def grants_for(path: str) -> frozenset[str]:
        """Grants of which one is enough to open ``path``; empty for what is not watched."""
        grant = needed_grant(path)
        if grant is not None:
            return frozenset({grant})
        folder = path if guarded else ""
        while folder:
            if folder in guarded:
                return guarded[folder]
            folder = parent if (parent := os.path.dirname(folder)) != folder else ""
        return frozenset()

    def grants_of(name: str) -> tuple[str, frozenset[str]]:
        """The path that a name may stand for, and :func:`grants_for` it. A relative one may be meant from a handle of a folder,
        which the event does not tell: then it is taken for whatever is guarded there."""
        path = os.path.realpath(name)
        enough = grants_for(path)
        if not enough and not os.path.isabs(name) and not os.path.lexists(name):
            for folder in {os.path.dirname(entry) for entry in guarded} | set(guarded):
                candidate = os.path.realpath(os.path.join(folder, name))
                if os.path.lexists(candidate) and (grants := grants_for(candidate)):
                    return candidate, grants
        return path, enough

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not granted:
            return
        if event == RENDER_EVENT:
            raise AccessError("Rendering is closed during adaptation and evaluation; clips are prepared before")
        if event in _STARTS and watched[-1]:
            raise AccessError("No process can be started during adaptation: what it reads would not be watched")
        if event not in _MOVES and event != "open":
            return
        for name in arguments[: 2 if event in _MOVES else 1]:
            if not isinstance(name, (str, bytes, os.PathLike)):
                continue
            path, enough = grants_of(os.fsdecode(name))
            if not enough or ((event == "open" or "figures" in enough) and enough & granted[-1]):
                continue
            allowed = ", ".join(sorted(granted[-1])) or "nothing"
            raise AccessError(
                f"{'/'.join(path.split(os.sep)[-2:])} is closed in this stage of a run; open are: {allowed}"
            )

    sys.addaudithook(hook)

    @contextlib.contextmanager
    def stage(*grants: str, processes: bool = False) -> Iterator[None]:
        """Allow reading of the granted data only, until the block ends (see the module's text).

        Args:
            grants: ``<role>-<split>`` and ``<role>-<split>/label``.
            processes: allow starting other processes, which are not watched.
        """
        granted.append(frozenset(grants) & granted[-1] if granted else frozenset(grants))
        watched.append(not processes or (bool(watched) and watched[-1]))
        try:
            yield
        finally:
            granted.pop()
            watched.pop()

    def guard(root: Path, role: str, grants: Mapping[str, str], whole: bool = True) -> None:
        """Watch a data set on disk, for the rest of the process.

        Args:
            root: its folder; what ``grants`` does not name takes ``<role>-label``, which no stage grants.
            role: ``source`` or ``target``.
            grants: ``train``, ``train/label``, ``val`` or ``val/label`` by folder or file relative to the root.
            whole: with False what ``grants`` does not name stays as it is.
        """
        places = {"": "label", **grants} if whole else grants
        for folder, grant in places.items():
            path = os.path.realpath(root / folder)
            # One data set may be both sides of a shift: then each side's grant opens it.
            guarded[path] = guarded.get(path, frozenset()) | {f"{role}-{grant}"}

    def opened(*grants: str) -> tuple[list[Path], list[Path]]:
        """Guarded files and folders that some grants open, and those that stay closed; of two nested ones the inner counts."""
        paths: tuple[list[Path], list[Path]] = [], []
        for path, enough in guarded.items():
            paths[not enough & set(grants)].append(Path(path))
        return paths

    return stage, guard, opened


stage, guard, opened = _make_stage()
