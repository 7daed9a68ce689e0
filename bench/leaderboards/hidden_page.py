"""``leaderboards/hidden-worlds.md``: what methods scored on worlds that nobody knew when they were written (:mod:`.hidden`)."""

from __future__ import annotations

from pathlib import Path

from bench.core.registry import method_names
from bench.core.text import code, plain, table
from bench.runs.config import load_shift, method_class

from .generated import Page
from .hidden import FLOOR, FOLDER, RIVAL, Hidden, read_hidden
from .statistics import NOTHING, bounds, difference

NAME = "hidden-worlds.md"
HEAD = "# Hidden worlds: "


def pages(root: Path) -> list[Page]:
    """The page, if anything was verified.

    Raises:
        RunError: a result is damaged.
    """
    found = read_hidden(root)
    if not found:
        return []
    parts = [
        f"{HEAD}methods on worlds that nobody knew",
        "`bench verify --worlds SALT` draws MiniStreet worlds and source models from a salt that was not known before, and runs a "
        f"method there beside {code(FLOOR)} and {code(RIVAL)}. Made by `bench leaderboard` from the files in [{FOLDER}]({FOLDER}); "
        "do not edit.",
        "Gain: mIoU points over source-only, paired by replicate, ± 95 % t-interval; some worlds are harder than others, so scores "
        "themselves do not compare. Interval: of the records' gain, 95 %, as the hidden worlds give it (Welch's t, the errors of "
        "both means). Confirmed: the records' gain lies in it, and the method is not significantly on the other side of "
        "self-training. No leaderboard has these scores.",
    ]
    for shift in sorted({of.shift for of in found}):
        rows = [row(of) for of in found if of.shift == shift]
        parts += [f"## {plain(load_shift(shift).title)}", table(rows, left=("method", "worlds", "where"))]
    return [Page(root / NAME, "\n\n".join(parts) + "\n")]


def row(of: Hidden) -> dict[str, str]:
    """One result."""
    low, high = of.interval
    title = method_class(of.method).card.title if of.method in method_names() else of.method  # one that is not here yet
    altered = f" ({', '.join(map(code, of.altered))})" if of.altered else ""
    stale = "" if of.shift_hash == load_shift(of.shift).hash else ", of another protocol"
    where = f"{of.hardware.get('cpu', NOTHING)}, torch {of.versions.get('torch', NOTHING)}, {of.access}, {of.date}, revision "
    return {
        "method": plain(title) + altered,
        "worlds": code(of.worlds),
        "n": str(of.gain().n),
        "gain": difference(of.gain()),
        "in the records": difference(of.claim()),
        "interval": bounds(low, high),
        f"minus {RIVAL}": NOTHING if of.order is None else difference(of.gain(RIVAL)),
        "records'": NOTHING if of.order is None else difference(of.claim(RIVAL)),
        "order": of.order or NOTHING,
        "confirmed": ("yes" if of.passed else "**no**") + stale,
        "where": plain(where + str(of.code.get("revision") or NOTHING) + (" (dirty)" if of.code.get("dirty") else "")),
    }
