"""What a run writes into its folder, told from what a person put there: only the run's own files are ever moved or removed.

A finished result that is repeated (``--force``) is put aside within the folder, and goes when the new record is written. A
repetition that fails before it has a state to go on from gives it back at once; one that was killed then, when the run is given
again.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from bench.core.errors import RunError, UsageError, short
from bench.core.files import clear_scratch, disk_errors
from bench.core.progress import say

from .finished import CHECKPOINT, CONFIG, RECORD
from .known_data import FILE as DATA
from .records import PLACES
from .sequences import FILE as SEQUENCES
from .streaming import ONLINE
from .watching import LOGS

FILES = (CONFIG, RECORD, CHECKPOINT, SEQUENCES, PLACES, DATA, "metrics.jsonl")
FOLDERS = {
    "figures": r"clip-\d+\.png",
    "predictions": r"step-\d+\.npz",
    ONLINE: r"\d+(-previous|-current)?\.png",
    LOGS: r"events\.out\.tfevents\..+",
    "state": r"(state|initial|(ready-)?(snapshot|student)-\d+)\.safetensors",
}
"""Folders of a run's folder, and the files in them that are the run's."""
_OWN = re.compile("|".join([*map(re.escape, FILES), *(f"{name}/({files})" for name, files in FOLDERS.items())]))
_SCRATCH = re.compile(r"(.+/)?\..+\.bench-.+")
STATE = "state/state.safetensors"
"""What a run that was stopped goes on from."""
EARLIER = ".earlier"
"""Folder, in a run's, of the result that is being repeated."""


def own_files(folder: Path, under: str = "") -> list[str]:
    """Names of the files in a run's folder, or in one folder of it, that a run wrote."""
    return [name for name in _names(folder) if _OWN.fullmatch(name) and name.startswith(under)]


def _names(folder: Path) -> list[str]:
    """Files of a run's folder and of the folders in it that are the run's; folders of a person by their name."""
    inside = (path for name in FOLDERS for path in sorted((folder / name).glob("*")))
    own_folders = {folder / name for name in FOLDERS if (folder / name).is_dir()}
    return [p.relative_to(folder).as_posix() for p in (*sorted(folder.glob("*")), *inside) if p not in own_folders]


def check_place(folder: Path) -> None:
    """See that a run can write its files, before it works.

    Raises:
        UsageError: a folder of a person has the name of a file, or a file that of a folder.
    """
    files = [name for name in FILES if (folder / name).is_dir()]
    folders = [name for name in (*FOLDERS, EARLIER) if os.path.lexists(folder / name) and not (folder / name).is_dir()]
    if wrong := [*files, *folders]:
        kind = "a file" if files else "a folder"
        raise UsageError(f"{folder / wrong[0]} is in the way of {kind} of the run; move it away")


def put_aside(folder: Path) -> None:
    """Make way for a repetition: a finished result is put aside, what else a run wrote goes, the rest stays and is named.

    Raises:
        RunError: the folder cannot be written.
    """
    put_back(folder)
    _remove(folder, own_files(folder, "state/"))
    names, earlier = own_files(folder), folder / EARLIER
    if kept := [name for name in _names(folder) if name not in names and name != EARLIER and not _SCRATCH.match(name)]:
        say(f"kept in {folder}, as no run wrote it: {short(', '.join(kept))}")
    if (folder / RECORD).is_file():
        _remove(earlier, own_files(earlier))
        # First the record: a process that is killed here leaves no record without its checkpoint.
        _move(sorted(names, key=lambda name: name != RECORD), folder, earlier)
    else:
        _remove(folder, names)


def put_back(folder: Path) -> bool:
    """Give back a result that was put aside, unless there is a new one, or a state to go on from.

    Returns:
        Whether one is still put aside.

    Raises:
        RunError: the folder cannot be written.
    """
    earlier = folder / EARLIER
    if not (earlier / RECORD).is_file():
        return False
    if (folder / RECORD).is_file() or (folder / STATE).is_file():
        return True
    _remove(folder, own_files(folder, "state/"))
    _move(sorted(own_files(earlier), key=lambda name: name == RECORD), earlier, folder)
    return False


def tidy(folder: Path) -> None:
    """Remove what is of no use beside a new record: the result that was put aside, and the state.

    Raises:
        RunError: the folder cannot be written.
    """
    earlier = folder / EARLIER
    _remove(earlier, own_files(earlier))
    clear_scratch(folder / "state")
    _remove(folder, own_files(folder, "state/"))


def failed(folder: Path) -> None:
    """After a failure: give an earlier result back, or say where it is."""
    with contextlib.suppress(RunError):  # what failed before is what is told
        if put_back(folder):
            say(f"the earlier result is in {folder / EARLIER} until this run is finished; without --force it goes on")


def _move(names: Iterable[str], source: Path, target: Path) -> None:
    with disk_errors(target):
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source / name, target / name)
    _remove_empty(source)


def _remove(folder: Path, names: Iterable[str]) -> None:
    with disk_errors(folder):
        for name in names:
            (folder / name).unlink(missing_ok=True)
    _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    for name in (*FOLDERS, *([""] if folder.name == EARLIER else [])):
        with contextlib.suppress(OSError):  # something of a person's is in it
            (folder / name).rmdir()
