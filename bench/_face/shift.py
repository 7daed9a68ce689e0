"""Shifts of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def shift_check(
    name: str,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
) -> dict[str, Any]:
    """Look at what a shift's YAML names: every file, shares of the classes by side, clips, pictures without a predecessor.

    Args:
        name: a shift or a YAML file.
        out: PNG to write: a contact sheet of all sides and splits.
        data_root: that its paths may be relative to.

    Returns:
        The reports of :func:`data_check`, and the protocol's hash.
    """
    from bench.core.outputs import Output
    from bench.core.progress import ProgressDisplay
    from bench.core.workspace import Workspace, default_cache, default_data_root
    from bench.data.check_own import check_shift
    from bench.pictures.media import write_png
    from bench.pictures.shift_sheet import sheet
    from bench.runs.config import load_shift

    shift, picture = load_shift(name), None if out is None else Path(out)
    output = None if picture is None else Output.of_files("shift check", picture)
    with ProgressDisplay() as progress:
        root = Path(data_root) if data_root else default_data_root()
        workspace = Workspace(cache=Path(cache or default_cache()), data_root=root, progress=progress)
        reports = check_shift(shift, None, workspace, shift.data.frames, partial=True)
        if output is not None and picture is not None and not any(report.wrong for report in reports):
            with output:
                write_png(picture, sheet(shift, workspace))
    return {
        "shift": shift.name,
        "hash": shift.hash,
        "reports": reports,
        "sheet": None if picture is None or not picture.is_file() else str(picture),
    }


def shift_new(
    out: str | Path,
    target: str | Path,
    target_labels: str | Path,
    classes: str | Path,
    *,
    source: str | Path,
    source_labels: str | Path | None = None,
    network: str = "mini",
    val: str = "0.6",
    force: bool = False,
) -> dict[str, Any]:
    """Write a commented YAML of a shift of one's own, to be read and changed.

    Args:
        out: YAML to write; its name is the shift's.
        target: folder of pictures.
        target_labels: folder of their labels.
        classes: names in the order of the labels' ids, with commas, or a file of lines ``R G B name`` for labels in colours.
        source: folder of pictures, or a model file.
        source_labels: folder of their labels; none for a model file.
        network: of :func:`list`.
        val: from which part of each target sequence on pictures are scored and not adapted to.
        force: replace a file.
    """
    from bench.data.new_shift import write_shift

    written = write_shift(
        Path(out), Path(target), Path(target_labels), str(classes), Path(source),
        None if source_labels is None else Path(source_labels), network, val, force,
    )  # fmt: skip
    return {"shift": str(written)}
