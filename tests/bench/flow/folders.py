"""What a folder of precomputed flow holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def contents(summary: dict[str, Any]) -> dict[str, Any]:
    """Everything in a flow folder; of the notes all but the seconds, and the checksums over these."""
    found: dict[str, Any] = {}
    for path in sorted(Path(summary["folder"]).iterdir()):
        if path.suffix == ".npy":
            found[path.name] = path.read_bytes()
        elif path.name != "manifest.json":
            found[path.name] = {
                k: v for k, v in json.loads(path.read_text()).items() if k not in ("seconds", "checksum")
            }
        else:
            found[path.name] = {**json.loads(path.read_text()), "summary": None, "checksum": None}
    return found
