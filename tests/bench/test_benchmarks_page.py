"""BENCHMARKS.md is what the report makes of what was measured, and tells nothing of the machine's names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import report


def measured(**changes: Any) -> dict[str, Any]:
    row = {"what": "splat", "against": "a loop", "value": 51.26, "least": 40, "most": None}
    growth = {"what": "contrast", "unit": "pixels", "sizes": [1000, 2000, 4000], "seconds": [0.5, 2.0, 8.0]}
    return {
        "datetime": "2026-11-26T09:00:00",
        "machine_info": {"node": "our-host", "cpu": {"brand_raw": "A processor"}},
        "libraries": {"torch": "2.14", "threads": 1},
        "benchmarks": [
            {"fullname": "tests/benchmarks/test_warp.py::a", "extra_info": {"rows": [row]}, "stats": {"min": 1}},
            {"fullname": "tests/benchmarks/test_growth.py::b", "extra_info": {"growth": growth}},
        ],
        **changes,
    }


def cells_of(page: str) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def test_the_committed_page_is_of_the_committed_figures() -> None:
    page = (report.ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert page == report.report(json.loads(report.KEPT.read_text(encoding="utf-8")))
    assert (report.ROOT / report.FIGURE).is_file()


def test_a_row_a_limit_an_exponent_and_the_run() -> None:
    kept = report.kept(measured())
    page = report.report([kept])
    cells = cells_of(page)
    assert ["splat", "a loop", "51.3", "at least 40"] in cells and "missed" not in page
    kept["benchmarks"][0]["extra_info"]["rows"][0]["value"] = 39.9
    assert "at least 40, **missed**" in report.report([kept])
    kept["benchmarks"][0]["extra_info"]["rows"][0] |= {"value": 1.1532, "least": None, "most": 1.15}
    assert ["splat", "a loop", "1.153", "at most 1.15, **missed**"] in cells_of(report.report([kept]))
    # Twice the pixels take four times as long: to the power of 2.
    assert ["contrast", "pixels", "2.00", "1,000 (500.0 ms)", "4,000 (8000.0 ms)"] in cells
    assert "## A processor\n\nRun: 2026-11-26, torch 2.14, 1 thread(s)." in page
    assert "`test_sweep.py`" in page and "`test_warp.py`" not in page
    assert "our-host" not in json.dumps(kept)


def test_a_run_stands_beside_those_of_other_processors_and_takes_the_place_of_its_own(tmp_path: Path) -> None:
    first, again = report.kept(measured()), report.kept(measured(datetime="2026-11-28T09:00:00"))
    other = report.kept(measured(machine_info={"cpu": {"brand_raw": "Another processor"}}))
    runs = report.with_run(report.with_run([first], other), again)
    assert [(report.processor(run), run["datetime"]) for run in runs] == [
        ("A processor", "2026-11-28"),
        ("Another processor", "2026-11-26"),
    ]
    page = report.report(runs)
    assert page.index("## A processor") < page.index("## Another processor") and page.count("| splat") == 2
    report.draw(runs, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_an_exponent_by_hand() -> None:
    assert report.exponent([1, 10, 100], [3, 30, 300]) == pytest.approx(1)
    assert report.exponent([1, 4], [1, 2]) == pytest.approx(0.5)
