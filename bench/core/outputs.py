"""What commands write for the user, known by a manifest: nothing else is ever replaced or removed.

A command opens an :class:`Output` over its ``--out`` before it starts to work. While it is open, every file that is written there
(all of them go through :func:`bench.core.files.whole`) is noted in ``.bench-output.jsonl`` of that folder before it is moved into
place: its name, size and SHA-256, and the command, one line of JSON each. A file is the command's own if the manifest names it and
its content is one that was noted. Whatever else is there is the user's: a command that would have to replace it says so before it
works, and ``clear`` leaves it alone.

    apart(out, {"the footage": images, "the model": checkpoint})
    with Output(out, "predict") as output:
        output.check(names)               # nothing of the user's is in the way
        with output.replaced() as new:    # an earlier prediction stays until this one is whole
            ...                           # write_atomically(new / "labels" / ...)
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType

from .errors import UsageError
from .files import check_folder, disk_errors, no_file, scratch_beside, sha256_of, watchers, write_atomically
from .sealed import load_json

MANIFEST = ".bench-output.jsonl"


def apart(out: Path, inputs: Mapping[str, Path], option: str = "--out") -> None:
    """Refuse an output that contains, equals or lies in what a command reads.

    Args:
        out: folder or file that will be written.
        inputs: files and folders by what they are, e.g. ``the footage``.
        option: that names the output.

    Raises:
        UsageError: names the input.
    """
    output = out.resolve()
    for name, path in inputs.items():
        resolved = path.resolve()
        relations = {
            "is": output == resolved,
            "contains": output in resolved.parents,
            "lies in": resolved in output.parents,
        }
        for relation in (relation for relation, holds in relations.items() if holds):
            raise UsageError(f"{option} {out} {relation} {name} {path}; choose a place of its own")


class Output:
    """A command's own files in a folder.

    Args:
        folder: of the output; made when the first file is written.
        command: whose files these are; those of other commands are not touched.
        names: the only files that are written there; None for everything in the folder.
        option: of the command that names the output.
    """

    def __init__(self, folder: Path, command: str, names: Iterable[str] | None = None, option: str = "--out") -> None:
        self.folder, self.command, self.option = folder, command, option
        self._place = Path(os.path.abspath(folder))
        self._only = None if names is None else frozenset(names)
        self._noted: dict[str, set[tuple[int, str]]] = {}
        self._growing: set[str] = set()
        self._new: Path | None = None
        self._written: dict[str, dict[str, int | str | bool]] = {}
        self._read()

    @classmethod
    def of_files(
        cls, command: str, *files: Path, inputs: Mapping[str, Path] | None = None, option: str = "--out"
    ) -> Output:
        """Files of one folder, checked at once.

        Args:
            inputs, option: see :func:`apart`.

        Raises:
            UsageError: one of them is there and not the command's, or it is or lies in an input.
        """
        for file in files:
            apart(file, inputs or {}, option)
        output = cls(files[0].parent, command, [file.name for file in files], option)
        output.check(file.name for file in files)
        return output

    def __enter__(self) -> Output:
        watchers.append(self._admit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        watchers.remove(self._admit)

    def owns(self, name: str) -> bool:
        """Whether a file may be replaced: it is not there, or its content is what this command wrote."""
        path = self.folder / name
        if not os.path.lexists(path):
            return True
        if name not in self._noted or path.is_symlink() or no_file(path):
            return False
        if name in self._growing:
            return True
        with disk_errors(path):
            sizes = {size for size, _ in self._noted[name]}
            return path.stat().st_size in sizes and (path.stat().st_size, sha256_of(path)) in self._noted[name]

    def check(self, names: Iterable[str]) -> None:
        """Refuse, before work starts, to write over what is not this command's.

        Raises:
            UsageError: names the first such file.
        """
        check_folder(self.folder, self.option)
        for name in names:
            if not self.owns(name):
                raise self._foreign(name)

    def clear(self, under: str = "", keep: Iterable[str] = ()) -> None:
        """Remove what this command wrote; folders go when they are empty.

        Args:
            under: only what lies in this folder of the output.
            keep: names that stay.

        Raises:
            UsageError: one of the files was changed since; nothing is removed then.
            RunError: the disk is read-only.
        """
        owned = self._owned(under, keep)
        self.check(owned)
        with disk_errors(self.folder):
            for name in reversed(owned):  # what was written last says that all is there
                (self.folder / name).unlink(missing_ok=True)
                self._noted.pop(name)
                self._growing.discard(name)
            for name in sorted(
                {str(parent) for n in owned for parent in PurePosixPath(n).parents} - {"."}, reverse=True
            ):
                with contextlib.suppress(OSError):  # not empty: something of the user's is in it
                    (self.folder / name).rmdir()
        if owned:
            self._forget(owned)

    @contextlib.contextmanager
    def replaced(self, keep: Collection[str] = ()) -> Iterator[Path]:
        """A folder for what takes the place of this command's earlier files when the block ends well; else they stay.

        The new files are moved in the order in which they were written: the last should be the one that says that all is there.

        Args:
            keep: see :meth:`clear`.

        Raises:
            UsageError: one of the earlier files was changed since, or something of the user's is in the way of a new one.
            RunError: the disk is full or read-only.
        """
        self.check(self._owned("", keep))
        with scratch_beside(self._place / self.command) as new:
            self._new, self._written = new, {}
            try:
                yield new
            finally:
                self._new = None
            self.check(self._written)
            self.clear(keep=keep)
            for name, facts in self._written.items():
                self._note(name, **facts)
                with disk_errors(self.folder / name):
                    (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(new / name, self.folder / name)

    def _owned(self, under: str, keep: Iterable[str]) -> list[str]:
        kept = set(keep)
        return [name for name in self._noted if name not in kept and (not under or name.startswith(f"{under}/"))]

    def grows(self, name: str) -> None:
        """Note a file that is written line by line; it is this command's, whatever is in it, until :meth:`ends`.

        Raises:
            UsageError: it is there and not this command's.
        """
        self.check([name])
        self._note(name, grows=True)

    def ends(self, name: str) -> None:
        """Note what a growing file has become."""
        path = self.folder / name
        if path.is_file():
            with disk_errors(path):
                self._note(name, size=path.stat().st_size, sha256=sha256_of(path), grows=False)

    def _foreign(self, name: str) -> UsageError:
        return UsageError(
            f"{self.folder / name} was not written by `bench {self.command}`, or was changed since; "
            f"move it away or choose another {self.option}"
        )

    def _admit(self, path: Path, scratch: Path) -> None:
        """Note a file that is about to be moved into place."""
        destination = Path(os.path.abspath(path))
        if self._place not in destination.parents:
            return
        if self._new is not None and self._new in destination.parents:
            name = destination.relative_to(self._new).as_posix()
            self._written[name] = {"size": scratch.stat().st_size, "sha256": sha256_of(scratch)}
            return
        name = destination.relative_to(self._place).as_posix()
        if name == MANIFEST or (self._only is not None and name not in self._only):
            return
        if scratch.is_dir():
            self.check([name])
            return
        size, digest = scratch.stat().st_size, sha256_of(scratch)
        unchanged = destination.is_file() and not destination.is_symlink()
        unchanged = unchanged and destination.stat().st_size == size and sha256_of(destination) == digest
        if not unchanged and not self.owns(name):
            raise self._foreign(name)
        self._note(name, size=size, sha256=digest)

    def _note(self, name: str, **facts: int | str | bool) -> None:
        line = {"file": name, "by": self.command, **facts}
        self._take(line)
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / MANIFEST).open("a", encoding="utf-8") as manifest:
                manifest.write(json.dumps(line) + "\n")

    def _lines(self) -> list[dict[str, object]]:
        """Valid lines of the manifest. Others are left out, so the files that they named do not count as the command's."""
        path, lines = self.folder / MANIFEST, []
        if path.is_file():
            for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    line = load_json(text)
                    if isinstance(line, dict) and isinstance(line.get("file"), str):
                        lines.append(line)
        return lines

    def _read(self) -> None:
        manifest = self.folder / MANIFEST
        if kind := "a link" if manifest.is_symlink() else no_file(manifest):  # neither believed nor written through
            raise UsageError(f"{manifest}, where outputs are noted, is {kind}; remove it or choose another --out")
        with disk_errors(self.folder):
            for line in self._lines():
                inside = PurePosixPath(str(line["file"]))
                if line.get("by") == self.command and not inside.is_absolute() and ".." not in inside.parts:
                    self._take(line)

    def _take(self, line: Mapping[str, object]) -> None:
        name, size, grows = str(line["file"]), line.get("size"), line.get("grows")
        noted = self._noted.setdefault(name, set())
        if isinstance(size, int):
            noted.add((size, str(line.get("sha256"))))
        if grows is not None:
            (self._growing.add if grows else self._growing.discard)(name)

    def _forget(self, names: Iterable[str]) -> None:
        removed = set(names)
        kept = [line for line in self._lines() if line.get("by") != self.command or line["file"] not in removed]
        path = self.folder / MANIFEST
        if kept:
            write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))
        else:
            path.unlink(missing_ok=True)
