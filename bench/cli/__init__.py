"""The command line. Importing it loads neither torch nor ray: what a command needs is imported when it runs.

Every file of this folder registers its commands with ``common.app``; there is no list to edit.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

from bench.core.progress import any_character
from bench.core.registry import import_from, names_in

from .common import app

for _name in names_in(__name__):
    import_from(__name__, _name, kind="commands")


def main() -> None:
    """Entry point of the console script."""
    # Or the interpreter's last collection walks all of torch: up to a second of every command.
    atexit.register(gc.freeze)
    any_character()
    # Closed: the next file that is opened would have its number, and the warnings of C code in it.
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    app()


__all__ = ["app", "main"]
