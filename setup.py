"""The wheel is told the revision that it is built from, since git cannot be asked where it is installed. See pyproject.toml."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))
from bench.core.provenance import BUILT, code


class BuildWithRevision(build_py):
    """Adds ``bench/core/built.json``."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            Path(self.build_lib, "bench", BUILT).write_text(json.dumps(code()) + "\n", encoding="utf-8")


setup(cmdclass={"build_py": BuildWithRevision})
