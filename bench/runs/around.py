"""What a child process of a method is made like, and where the code lies that it may read."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import torch
from pydantic import TypeAdapter

import methods
import stpl
from bench.core import box
from bench.core.loading import folders_of, load
from bench.core.precision import flush_denormals
from bench.core.registry import KINDS, ROOT, Offer, know_installed, packed, unpack
from bench.core.registry import installed as installed_offers
from bench.core.schema import whole_text


@dataclass(frozen=True)
class Around:
    """The state of this process that its child processes take over.

    Attributes:
        threads, cv_threads: of torch and OpenCV.
        offers: files that were named.
        packages: folders of the packages in which names are looked for.
        installed: folders of installed packages that offer what is used.
        datasets: names of the user's own data sets, whose classes must be loaded before a task is read.
        offered: what installed packages offer.
    """

    threads: int
    cv_threads: int
    offers: list[dict[str, Any]]
    packages: dict[str, list[str]]
    installed: tuple[Path, ...] = ()
    datasets: tuple[str, ...] = ()
    offered: dict[str, tuple[Offer, ...]] = field(default_factory=dict)

    @classmethod
    def of_now(cls, plugins: Iterable[str] = ()) -> Around:
        """The state of this process.

        Args:
            plugins: what is used that this repository does not hold, as ``kind/name``.
        """
        folders = {kind.package: list(importlib.import_module(kind.package).__path__) for kind in KINDS.values()}
        used = [key.partition("/")[::2] for key in plugins]
        installed = tuple(folder for kind, name in used for folder in folders_of(kind, name))
        datasets = tuple(name for kind, name in used if kind == "dataset")
        threads = torch.get_num_threads(), cv2.getNumThreads()
        files = [
            file for file in packed() if file["kind"] != "shift"
        ]  # a task brings its own; hidden worlds stay hidden
        return cls(*threads, files, folders, installed, datasets, installed_offers())

    def packed(self, text: str) -> str:
        """Payload for a child: this state, and a text."""
        return json.dumps([whole_text(self), text])

    @classmethod
    def unpacked(cls, payload: str) -> str:
        """Give this child the state of its parent; returns the text of the payload."""
        around, text = json.loads(payload)
        TypeAdapter(Around).validate_json(around).settle()
        return str(text)

    def settle(self) -> None:
        """Make this child like the process that it was made by; it has computed nothing yet."""
        flush_denormals()
        torch.set_num_threads(self.threads)
        cv2.setNumThreads(self.cv_threads)
        for package, folders in self.packages.items():
            importlib.import_module(package).__path__ = folders
        know_installed(self.offered)
        unpack(self.offers)
        for name in self.datasets:  # classes of what comes next
            load("dataset", name)

    def code(self, closed: Iterable[Path]) -> list[Path]:
        """Paths of Python and code that a child may read: without ``closed`` and the renderer, which can draw every label."""
        folders = [
            *stpl.__path__,
            *methods.__path__,
            str(ROOT),
            *(p for paths in self.packages.values() for p in paths),
        ]
        places = [*box.of_python(), *(Path(os.path.realpath(folder)) for folder in folders)]
        shut = [Path(os.path.realpath(path)) for path in (*closed, ROOT / "data" / "ministreet")]
        return list(box.open_parts([*places, *self.installed], shut))
