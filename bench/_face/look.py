"""What there is, and pictures of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .place import LEADERBOARDS, Place, root_in, working

if TYPE_CHECKING:
    from typing_extensions import Unpack


def catalogue(what: str = "", shift: str = "") -> dict[str, dict[str, dict[str, Any]]]:
    """What there is, by kind and name: methods, shifts, fusions, flows, networks, datasets (``bench.list``).

    Args:
        shift: with ``methods``: every setting of each method on this shift, and where its value is from.
    """
    from bench.core.errors import UsageError
    from bench.runs.catalogue import catalogue, settings

    if shift and what != "methods":
        raise UsageError("--shift goes with methods: bench list methods --shift NAME")
    return settings(shift) if shift else catalogue(what)


def preview(
    shift: str = "ministreet", seed: int = 0, clips: int = 3, out: str | Path = Path("preview/clips.png")
) -> Path:
    """Write a contact sheet of both domains: frames, label, flow, warped previous frame, valid mask."""
    from bench.analysis.preview import run_preview

    return run_preview(shift, clips, seed, Path(out))


def panels(
    methods: Sequence[str] = ("source_only", "ur", "hcl", "stpl", "oracle"),
    shift: str = "ministreet",
    seed: int = 0,
    clips: int = 3,
    out: str | Path = Path("preview/panels.png"),
    pictures: bool = True,
    **place: Unpack[Place],
) -> dict[str, Any]:
    """Draw frame, truth, predictions and errors of finished runs on validation clips, at t-1 and t; without ``pictures`` the
    predictions alone."""
    from bench.analysis.panels import run_panels

    with working(place) as workspace:
        return run_panels(methods, shift, seed, clips, Path(out), workspace, pictures)


def strip(
    methods: Sequence[str] = ("source_only", "stpl", "oracle"),
    shift: str = "ministreet",
    seed: int = 0,
    frames: int = 16,
    clip: int = 0,
    rate: float = 4.0,
    out: str | Path = Path("preview/strip.gif"),
    pictures: bool = True,
    films: str | Path | None = None,
    **place: Unpack[Place],
) -> dict[str, Any]:
    """Film a rendered world of no split, or a recorded validation split: frame, truth, predictions, and where they flicker from
    frame to frame.

    Args:
        pictures: frame and truth too.
        films: folder for a film of each method alone, which :func:`site` compares by a slider.
    """
    from bench.analysis.strips import run_strip

    with working(place) as workspace:
        films_folder = Path(films) if films else None
        return run_strip(methods, shift, seed, frames, clip, rate, Path(out), workspace, pictures, films_folder)


def doctor(runs: str | Path | None = None, cache: str | Path | None = None) -> dict[str, Any]:
    """What is installed, which devices there are, free disk, and what is missing and how to get it."""
    from bench.runs.doctor import examine

    return examine(Path(runs) if runs else None, Path(cache) if cache else None)


def report(
    run: str | Path,
    out: str | Path = "report.html",
    *,
    before: str | Path | None = None,
    frames: str | Path | None = None,
    root: str | Path = LEADERBOARDS,
    **place: Unpack[Place],
) -> Path:
    """Write one self-contained HTML of a finished run, or of a folder that :func:`adapt` wrote.

    Needs ``pip install 'stpl-benchmark[site]'``.

    Args:
        run: hash or folder of a run, or the folder of an adaptation.
        out: the file.
        before: folder that :func:`predict` wrote of the same footage with the model before its adaptation: what changed is shown.
        frames: the footage, to check the flow that the adaptation took against its frames.
        root: folder of committed records, for source-only and the oracle.
    """
    from bench.pages.extra import check_extra

    check_extra("report")
    from bench.pages.report import write_report

    with working(place) as workspace:
        footage = [None if path is None else Path(path) for path in (before, frames)]
        write_report(str(run), Path(out), root_in(root), workspace, *footage)
    return Path(out)
