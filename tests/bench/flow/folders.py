"""Reads folders of precomputed flow, to compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def contents(summary: dict[str, Any]) -> dict[str, Any]:
    """The content of a flow folder by file name; of its JSON files without times and the checksums over them."""
    content: dict[str, Any] = {}
    for path in sorted(Path(summary["folder"]).iterdir()):
        if path.suffix == ".npy":
            content[path.name] = path.read_bytes()
        elif path.name != "manifest.json":
            content[path.name] = {
                k: v for k, v in json.loads(path.read_text()).items() if k not in ("seconds", "checksum")
            }
        else:
            content[path.name] = {**json.loads(path.read_text()), "summary": None, "checksum": None}
    return content
