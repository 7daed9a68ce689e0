"""``bench doctor``: versions, devices, disk, data, and what is missing with the command that gets it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench.core.errors import UsageError
from bench.core.files import check_folder
from bench.core.precision import computes_bfloat16
from bench.core.provenance import code, cpu_name, versions
from bench.core.workspace import default_cache, default_runs

NEEDED_GB = 2.0
"""Free disk below which a run may not fit: one replicate's clips are about 0.4 GB."""


def examine(runs: Path | None, cache: Path | None) -> dict[str, Any]:
    """Look at everything a run needs; ``missing`` lists what is not there and how to get it."""
    import torch

    folders = {"runs": runs or default_runs(), "cache": cache or default_cache()}
    missing = [f"{p}: pip install {p}" for p, version in versions().items() if version == "missing"]
    disk = {}
    for name, folder in folders.items():
        real = Path(os.path.realpath(folder))
        existing = next(p for p in [real, *real.parents] if os.path.exists(p))
        free, problem = shutil.disk_usage(existing).free / 1e9, _problem(folder, existing, name)
        disk[name] = {"folder": str(folder), "free_gb": round(free, 1), "writable": not problem}
        if problem:
            missing.append(problem)
        elif free < NEEDED_GB:
            missing.append(
                f"disk: {free:.1f} GB free for {name} in {folder}, {NEEDED_GB:.0f} GB needed; choose another with --{name}"
            )
    return {
        "code": code(),
        "versions": versions(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "bfloat16": torch.cuda.is_available() or computes_bfloat16(torch.device("cpu")),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "disk": disk,
        "data": {"ministreet": "rendered when first needed, no download"},
        "optional": {"mmflow": _mmflow()},
        "missing": missing,
    }


def _problem(folder: Path, existing: Path, name: str) -> str:
    """Why nothing can be written to a folder, or to the one that it would be made in; empty where something can."""
    try:
        check_folder(folder, f"--{name}")
        with tempfile.TemporaryFile(dir=existing):  # what permissions allow, a read-only or special file system may not
            return ""
    except UsageError as error:
        return str(error)
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror or error}): choose another folder with --{name}"


def _mmflow() -> str:
    """mmflow lives in an environment of its own."""
    from bench.flow.backends.mmflow import environment

    python = environment()
    return f"environment at {python}" if python.is_file() else "not built; make mmflow"
