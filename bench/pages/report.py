"""``bench report RUN``: one self-contained HTML of a run, or of an adaptation to one's own footage.

Scripts, styles, pictures and films are inside the file: it can be sent to somebody and opened without a network. What is not
known is left out, not guessed.
"""

from __future__ import annotations

from pathlib import Path

from bench.core.files import write_atomically
from bench.core.outputs import Output
from bench.core.workspace import Workspace
from bench.footage.adapt import ASKED

from .report_own import of_footage
from .report_run import of_run
from .sheet import Report


def write_report(
    reference: str,
    out: Path,
    root: Path,
    workspace: Workspace,
    before: Path | None = None,
    frames: Path | None = None,
) -> Report:
    """Write the report of a run (hash or folder), or of a folder of ``bench adapt``.

    Args:
        workspace: where runs lie.
        before: folder that ``bench predict`` wrote of the same footage with the model before its adaptation.
        frames: the footage, to check the flow against.

    Raises:
        UsageError: nothing is there; ``out`` is in the way of something; ``before`` or ``frames`` with a run, or of others.
        RunError: a damaged file.
    """
    folder = Path(reference)
    own_video = (folder / ASKED).is_file()
    inputs = {"the run": folder if folder.is_dir() else workspace.runs / reference}
    inputs |= {name: path for name, path in (("the predictions", before), ("the footage", frames)) if path}
    with Output.of_files("report", out, inputs=inputs):
        if own_video:
            report = of_footage(folder, before, frames, workspace)
        else:
            report = of_run(reference, workspace.runs, root, before or frames)
        write_atomically(out, report.html())
    return report
