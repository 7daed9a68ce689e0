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
from bench.core.registry import KINDS, ROOT, Offer, know_installed, packed, unpack
from bench.core.registry import installed as installed_offers
from bench.core.schema import whole_text


@dataclass(frozen=True)
class Around:
    """What a child of any command starts with.

    Attributes:
        threads, cv_threads: of torch and OpenCV.
        offers: files that were named.
        packages: folders of the packages in which names are looked for.
        installed: folders of installed packages that offer what is used.
        datasets: of one's own, whose classes the rest is made of.
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
        """As this process is.

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

    def packed(self, told: str) -> str:
        """A payload for a child that is to be like this process first."""
        return json.dumps([whole_text(self), told])

    @classmethod
    def unpacked(cls, payload: str) -> str:
        """Make this child like its parent; the text that the payload holds beside."""
        around, told = json.loads(payload)
        TypeAdapter(Around).validate_json(around).settle()
        return str(told)

    def settle(self) -> None:
        """Make this child like the process that it was made by."""
        torch.set_num_threads(self.threads)
        cv2.setNumThreads(self.cv_threads)
        for package, folders in self.packages.items():
            importlib.import_module(package).__path__ = folders
        know_installed(self.offered)
        unpack(self.offers)
        for name in self.datasets:  # classes of what comes next
            load("dataset", name)

    def code(self, closed: Iterable[Path]) -> list[Path]:
        """Where Python and the code lie, without the renderer, which can draw every label, and what else is closed in there."""
        own = [*stpl.__path__, *methods.__path__, str(ROOT), *(p for some in self.packages.values() for p in some)]
        places = [*box.of_python(), *(Path(os.path.realpath(folder)) for folder in own)]
        shut = [Path(os.path.realpath(place)) for place in (*closed, ROOT / "data" / "ministreet")]
        return list(box.open_parts([*places, *self.installed], shut))
