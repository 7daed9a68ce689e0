"""``leaderboards/hidden-worlds.md``: what methods scored on worlds that nobody knew when they were written (:mod:`.hidden`)."""

from __future__ import annotations

from collections.abc import Sequence
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
    results = read_hidden(root)
    if not results:
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
        f"Few worlds that differ confirm easily: {_room(results)} The difference to {code(RIVAL)}, on the same worlds, is "
        "narrower. Rows with the same name under *worlds* share worlds, source models and both methods beside; they are one draw, "
        "not one confirmation each. What the records claim is of the day of the check.",
    ]
    for shift in sorted({hidden.shift for hidden in results}):
        rows = [row(hidden) for hidden in results if hidden.shift == shift]
        parts += [f"## {plain(load_shift(shift).title)}", table(rows, left=("method", "worlds", "where"))]
    return [Page(root / NAME, "\n\n".join(parts) + "\n")]


def _room(results: Sequence[Hidden]) -> str:
    """How much higher the records' gains could be and still be confirmed."""
    room = [(hidden.interval[1] - hidden.claim().difference, _title(hidden)) for hidden in results if hidden.passed]
    if not room:
        return "none is confirmed here."
    (least, first), (most, last) = min(room), max(room)
    return f"a gain in the records that is {least:.1f} ({first}) to {most:.1f} points ({last}) higher would be confirmed too."


def _title(hidden: Hidden) -> str:
    # A method that was verified need not be here yet.
    return plain(method_class(hidden.method).card.title if hidden.method in method_names() else hidden.method)


def row(hidden: Hidden) -> dict[str, str]:
    """The row of one result."""
    low, high = hidden.interval
    altered = f" ({', '.join(map(code, hidden.altered))})" if hidden.altered else ""
    stale = "" if hidden.shift_hash == load_shift(hidden.shift).hash else ", of another protocol"
    environment = (
        f"{hidden.hardware.get('cpu', NOTHING)}, torch {hidden.versions.get('torch', NOTHING)}, {hidden.access}, "
        f"{hidden.date}, revision "
    )
    return {
        "method": _title(hidden) + altered,
        "worlds": code(hidden.worlds),
        "n": str(hidden.gain().n),
        "gain": difference(hidden.gain()),
        "in the records": difference(hidden.claim()),
        "interval": bounds(low, high),
        f"minus {RIVAL}": NOTHING if hidden.order is None else difference(hidden.gain(RIVAL)),
        "records'": NOTHING if hidden.order is None else difference(hidden.claim(RIVAL)),
        "order": hidden.order or NOTHING,
        "confirmed": ("yes" if hidden.passed else "**no**") + stale,
        "where": plain(
            environment + str(hidden.code.get("revision") or NOTHING) + (" (dirty)" if hidden.code.get("dirty") else "")
        ),
    }
