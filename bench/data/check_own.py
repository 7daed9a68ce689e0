"""What is wrong with the sides of a shift that are one's own: pictures, checked as footage and by checksums; a model file."""

from __future__ import annotations

from bench.core.errors import UsageError
from bench.core.files import sha256_of
from bench.core.progress import Progress
from bench.core.workspace import Workspace
from bench.shifts.protocol import Recorded, Shift, Videos
from bench.shifts.sides import ModelFile, Pictures

from .check import Finding, Report, check_split, targets
from .described import find_place, listed, open_pictures, other_content, sums_of, uses


def is_own(shift: Shift) -> bool:
    """Whether a side of it is one's own."""
    return any(isinstance(side, (Pictures, ModelFile)) for side in (shift.data.source, shift.data.target))


def check_shift(
    shift: Shift,
    split: str | None,
    workspace: Workspace,
    frames: int = 2,
    partial: bool = False,
    progress: Progress | None = None,
) -> list[Report]:
    """Check everything of a shift that lies on a disk: data sets, pictures of one's own, a model file.

    Args:
        split: one of a side's splits alone; all by default. A model file has none.
        frames: per clip, of data sets.

    Raises:
        UsageError: a shift that is rendered, or no such split.
        RunError: nothing is there.
    """
    if not isinstance(shift.data, Videos):
        raise UsageError(f"Shift '{shift.name}' has no data on disk: it is rendered when first needed")
    show, reports, splits = progress or workspace.progress, [], set[str]()
    sides = (shift.data.source, shift.data.target)
    if any(isinstance(side, Recorded) for side in sides) and workspace.data_root is not None:
        places = targets(shift, split, workspace.data_root, workspace.cache)
        splits.update(name for _, _, name in places)
        reports += [
            check_split(data, root, name, frames, None, partial, show, shift.classes) for data, root, name in places
        ]
    for role, side in zip(("source", "target"), sides, strict=True):
        if isinstance(side, ModelFile) and split is None:
            reports.append(check_model(shift, workspace))
        if isinstance(side, Pictures):
            splits.update(side.parts)
            chosen = [name for name in side.parts if split in (None, name)]
            reports += [check_pictures(shift, role, name, workspace, show) for name in chosen]
    if not reports:
        raise UsageError(f"Shift '{shift.name}' has no split '{split}'; it has {', '.join(sorted(splits))}")
    return reports


def check_pictures(shift: Shift, role: str, split: str, workspace: Workspace, progress: Progress) -> Report:
    """Check the pictures of a split: as footage, and against the shift's checksums.

    Raises:
        UsageError, RunError: see `bench.data.described.open_pictures`.
    """
    side = getattr(shift.data, role)
    opened = open_pictures(shift, role, split, workspace, labelled=False)
    items = listed(shift, role, split, workspace, labelled=False).items
    report = check_split(opened.frames, opened.root, "val", shift.data.frames, partial=True, progress=progress)
    report.dataset, report.split = f"{role} ({side.title})", split
    report.alone = sum(item.frames[-2] == item.frames[-1] for item in items)
    if sums := sums_of(shift, role, workspace.data_root):
        present = {path: kind for path, kind in uses(items).items() if (opened.root / path).is_file()}
        report.findings += [
            Finding("other content", path, problem) for path, problem in other_content(opened, present, sums)
        ]
        report.notes.append(f"{len(present)} files were compared with {len(sums)} checksums of the shift")
    return report


def check_model(shift: Shift, workspace: Workspace) -> Report:
    """Compare a source that is a model file with its checksum, where the shift has one.

    Raises:
        RunError: it is not there.
    """
    source = shift.data.source
    assert isinstance(source, ModelFile)
    file = find_place(source.model, "data.source.model", shift, workspace.data_root)
    report = Report(f"source ({source.title})", "model", file.parent, 0, None, None, 1)
    if source.sha256 is None:
        report.notes.append("the shift does not say which file it is (sha256:)")
    elif sha256_of(file) != source.sha256:
        report.findings.append(Finding("other content", file.name, "is not the shift's model: its SHA-256 is another"))
    return report
