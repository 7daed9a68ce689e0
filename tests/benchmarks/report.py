"""BENCHMARKS.md and its figure from pytest-benchmark's JSON: ``python -m tests.benchmarks.report FILE`` (``make bench``).

What the page takes of the JSON is kept beside this file, so that a test can make the page again: of each processor the newest run.
Nothing is told of the machine but its processor, torch's version and the number of threads.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.text import listed, table
from bench.pictures.canvas import new_figure, save

ROOT = Path(__file__).resolve().parents[2]
FIGURE = "tests/benchmarks/growth.png"
KEPT = Path(__file__).with_name("measured.json")
HEAD = """# Benchmarks

Written by `make bench` from what it measured; do not edit. A ratio is of two measurements of the same run: "at least" rows say how
many times as fast this code is as what it stands against, "at most" rows how many times its cost this code takes. Of each processor
the newest run stands here.
"""


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of a straight line through the logarithms: seconds grow as size to this power."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _ratio(value: float) -> str:
    """Small ratios have limits with two digits after the point: one more shows on which side they are."""
    return f"{value:.3f}" if value < 2 else f"{value:.1f}"


def _limit(row: Mapping[str, Any]) -> str:
    least, most, value = row["least"], row["most"], row["value"]
    limits = [f"{name} {limit:g}" for name, limit in (("at least", least), ("at most", most)) if limit is not None]
    missed = (least is not None and value < least) or (most is not None and value > most)
    return (listed(limits) or "none") + (", **missed**" if missed else "")


def kept(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What the page takes of a JSON: no host, no user, no single times."""
    return {
        "datetime": measured["datetime"][:10],
        "machine_info": {"cpu": {"brand_raw": measured["machine_info"]["cpu"].get("brand_raw", "unknown processor")}},
        "libraries": measured["libraries"],
        "benchmarks": [
            {
                "fullname": benchmark["fullname"],
                "extra_info": {k: v for k, v in benchmark["extra_info"].items() if k in ("rows", "growth")},
            }
            for benchmark in measured["benchmarks"]
        ],
    }


def processor(measured: Mapping[str, Any]) -> str:
    """Name of the processor that a run was on."""
    return str(measured["machine_info"]["cpu"]["brand_raw"])


def report(runs: Sequence[Mapping[str, Any]]) -> str:
    """The page of runs on several processors."""
    parts = [HEAD, *(part for run in runs for part in section(run)), f"![CPU time against size]({FIGURE})"]
    return "\n".join(parts).rstrip() + "\n"


def section(measured: Mapping[str, Any]) -> list[str]:
    """What the page says of one run."""
    benchmarks = sorted(measured["benchmarks"], key=lambda benchmark: benchmark["fullname"])
    rows = [
        {"what": row["what"], "against": row["against"], "ratio": _ratio(row["value"]), "limit": _limit(row)}
        for benchmark in benchmarks
        for row in benchmark["extra_info"].get("rows", [])
    ]
    growth = [benchmark["extra_info"]["growth"] for benchmark in benchmarks if "growth" in benchmark["extra_info"]]
    grown = [
        {
            "what": curve["what"],
            "grows with": curve["unit"],
            "exponent": f"{exponent(curve['sizes'], curve['seconds']):.2f}",
            "from": f"{curve['sizes'][0]:,} ({1e3 * curve['seconds'][0]:.1f} ms)",
            "to": f"{curve['sizes'][-1]:,} ({1e3 * curve['seconds'][-1]:.1f} ms)",
        }
        for curve in growth
    ]
    libraries = measured["libraries"]
    run_line = f"{measured['datetime']}, torch {libraries['torch']}, {libraries['threads']} thread(s)"
    files = {benchmark["fullname"].partition("::")[0].rpartition("/")[2] for benchmark in benchmarks}
    absent = sorted(file.name for file in Path(__file__).parent.glob("test_*.py") if file.name not in files)
    parts = [f"## {processor(measured)}\n", f"Run: {run_line}.\n"]
    parts += [f"Not in this run: {listed(f'`{name}`' for name in absent)}.\n"] if absent else []
    parts += [table(rows, left=("what", "against", "limit")) + "\n"]
    parts += ["CPU time of one thread; time grows as the size to the power of the exponent.\n"] if grown else []
    return [*parts, table(grown, left=("what", "grows with")) + "\n"] if grown else parts


def draw(runs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Time against size, each over its smallest, on logarithmic axes; a panel for each run."""
    figure = new_figure(5.6 * len(runs), 4.0)
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axes, run in zip(panels, runs, strict=True):
        draw_growth(axes, [b["extra_info"]["growth"] for b in run["benchmarks"] if "growth" in b["extra_info"]])
        axes.set(title=processor(run), xlabel="size, over the smallest")
    panels[0].set(ylabel="CPU time, over that of the smallest")
    save(figure, path)


def draw_growth(axes: Any, growth: Sequence[Mapping[str, Any]]) -> None:
    """Curves of one run."""
    for curve, marker in zip(growth, "osD^vP*X", strict=False):
        sizes, seconds = np.array(curve["sizes"]), np.array(curve["seconds"])
        name = f"{curve['what']}, {curve['unit']}: {exponent(sizes, seconds):.2f}"
        axes.plot(sizes / sizes[0], seconds / seconds[0], marker=marker, label=name)
    ends = np.array([1.0, max((curve["sizes"][-1] / curve["sizes"][0] for curve in growth), default=2.0)])
    for power, style in ((1, ":"), (2, "--")):
        axes.plot(ends, ends**power, style, color="#999999", linewidth=1, zorder=0)
        end = (ends[1], ends[1] ** power)
        axes.annotate(f"to the power of {power}", end, ha="right", va="bottom", color="#777777", fontsize=8)
    axes.set(xscale="log", yscale="log")
    axes.legend(title="fitted exponent", fontsize=8, title_fontsize=8, frameon=False)


def with_run(runs: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Runs by processor, this one instead of an earlier one of its own."""
    return sorted([*(r for r in runs if processor(r) != processor(run)), run], key=processor)


def main() -> None:
    run = kept(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    runs = with_run(json.loads(KEPT.read_text(encoding="utf-8")), run)
    KEPT.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    (ROOT / "BENCHMARKS.md").write_text(report(runs), encoding="utf-8")
    draw(runs, ROOT / FIGURE)


if __name__ == "__main__":
    main()
