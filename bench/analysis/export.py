"""``bench export``: the training logs of runs as one CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench.core.errors import RunError, UsageError
from bench.core.files import write_atomically
from bench.core.outputs import Output
from bench.core.schema import load_yaml
from bench.core.sealed import load_json
from bench.runs.finished import find_folder

if TYPE_CHECKING:
    import pandas as pd

LEADING = ("run", "method", "seed", "step")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Lines of a run's ``metrics.jsonl``: step and losses; none for a method that does not train.

    Raises:
        RunError: a line is damaged; names file and line. The last line may be cut short: the run is being written.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    rows, lines = [], path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = load_json(line)
            rows.append({"step": int(row.pop("step")), **{name: float(value) for name, value in row.items()}})
        except (ValueError, TypeError, KeyError, AttributeError):
            if number == len(lines):  # without its line break
                break
            raise RunError(f"{path}:{number} is not a line of a training log; run the run again with --force") from None
    return rows


def metrics_frame(folders: Sequence[Path]) -> pd.DataFrame:
    """Steps of several runs below each other, columns :data:`LEADING` and every loss in order of appearance; a loss that a
    run does not have is missing (NaN).

    Raises:
        RunError: a damaged log or config.
    """
    import pandas as pd

    rows = []
    for folder in folders:
        try:
            config = load_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
            identity = {"run": folder.resolve().name, "method": config["method"], "seed": config["seed"]}
        except (yaml.YAMLError, OSError, UnicodeDecodeError, TypeError, KeyError):
            raise RunError(f"{folder}/config.yaml is damaged; run the run again with --force") from None
        rows += [{**identity, **row} for row in read_log(folder)]
    frame: pd.DataFrame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(LEADING))
    return frame


def export_csv(references: Sequence[str], out: Path, runs: Path) -> int:
    """Write the logs of runs to a CSV; numbers as in the log, to the last digit.

    Returns:
        The number of rows.

    Raises:
        UsageError: no such run, or none of them has a log.
        RunError: damaged log, or the file cannot be written.
    """
    output = Output.of_files("export", out, option="--csv")
    folders = [find_folder(reference, runs) for reference in references]
    table = metrics_frame(folders)
    if table.empty:
        raise UsageError(f"Nothing to export: {', '.join(references)} did not train (yet)")
    with output:
        write_atomically(out, table.to_csv(index=False))
    return len(table)
