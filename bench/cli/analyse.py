"""Command of the analysis: analyse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import CACHE, DATA_ROOT, DEBUG, DEVICE, JSON, RUNS, SHIFT, THREADS, app, one_line_errors, print_json


def part(name: str, text: str) -> bool:
    """An option that asks for one part."""
    return typer.Option(name, help=text)  # type: ignore[no-any-return]


@app.command(epilog="Example: bench analyse --methods source_only,stpl,oracle --seeds 0:3 --knn")
def analyse(
    names: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Run folders or hashes.")] = None,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Instead of runs: methods, e.g. source_only,stpl,oracle.")
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="With --methods: first and end of the replicates.")] = "0:3",
    shift: SHIFT = "ministreet",
    neighbours: Annotated[
        bool, part("--knn", "Same-class pixels among the k nearest neighbours in feature space.")
    ] = False,
    separation: Annotated[bool, part("--separation", "Distances between class centres.")] = False,
    confusion: Annotated[bool, part("--confusion", "Confusion matrices.")] = False,
    calibration: Annotated[bool, part("--calibration", "Reliability and calibration error.")] = False,
    embedding: Annotated[
        str | None, typer.Option("--embedding", help="2-D maps of the features side by side: tsne, or pca (quick).")
    ] = None,
    pseudo_labels: Annotated[
        bool, part("--pseudo-labels", "Coverage and accuracy of what `bench run --save-predictions N` saved, by step.")
    ] = False,
    cells: Annotated[
        int, typer.Option("--cells", min=100, help="Pixels of the feature grid to look at, spread over the clips.")
    ] = 25_600,
    figures_only: Annotated[
        bool, typer.Option("--figures-only", help="Look at no run; make figures and pages of what is kept.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a page is stale.")] = False,
    root: Annotated[Path, typer.Option("--root", help="Folder with analysis/ and figures/.")] = Path("leaderboards"),
    runs: RUNS = None,
    cache: CACHE = None,
    data_root: DATA_ROOT = None,
    device: DEVICE = "auto",
    threads: THREADS = 0,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Say why finished runs score what they score: neighbours, feature maps, confusions, calibration, pseudo-labels.

    Without a part, all but the embedding and the pseudo-labels. Numbers go to ROOT/analysis, figures and a page are made of them.
    """
    with one_line_errors(debug):
        from bench.core.errors import RunError, UsageError

        asked = {
            "knn": neighbours, "separation": separation, "confusion": confusion, "calibration": calibration,
        }  # fmt: skip
        alone = check or figures_only
        if alone and (names or methods or any(asked.values()) or embedding or pseudo_labels):
            raise UsageError("--figures-only and --check look at no run; leave the runs and the parts out")
        if not alone and bool(names) == bool(methods):
            raise UsageError("Name runs, e.g. runs/0123456789ab, or --methods, e.g. --methods source_only,stpl")
        if embedding not in (None, "tsne", "pca"):
            raise UsageError(f"--embedding is tsne or pca, got '{embedding}'")
        if check:
            from bench.analysis import page

            if stale := page.check(root):
                raise RunError(f"Stale: {', '.join(map(str, stale))}; run `bench analyse --figures-only` and commit")
            if foreign := [path for shift in page.analysed(root) for path in page.foreign(root, shift)]:
                raise RunError(
                    f"{len(foreign)} analyses, the first {foreign[0]}, are of another training than the committed record says; "
                    "analyse the recorded run again"
                )
            print_json({"stale": []}) if as_json else typer.echo("Analysis pages are fresh")
            return
        from bench.analysis import page
        from bench.analysis.analyse import analyse as look_at_runs
        from bench.analysis.analyse import judge_runs
        from bench.core.progress import ProgressDisplay
        from bench.core.workspace import Workspace
        from bench.runs.config import parse_range
        from bench.runs.finished import RunFolder, find_folder, finished_runs

        written: list[Path] = []
        if not alone:
            parts = [name for name, on in asked.items() if on]
            if not parts and not embedding and not pseudo_labels:
                parts = list(asked)
            with ProgressDisplay() as progress:
                workspace = Workspace.at(runs, cache, data_root, device, threads, progress)
                if methods:
                    chosen = [name.strip() for name in methods.split(",") if name.strip()]
                    found = finished_runs(chosen, shift, parse_range("--seeds", seeds), workspace.runs)
                else:
                    found = [RunFolder.open(find_folder(name, workspace.runs)) for name in names or []]
                written = judge_runs(found, root, workspace) if pseudo_labels else []
                if parts or embedding:
                    written += look_at_runs(found, parts, embedding, root, workspace, cells)  # type: ignore[arg-type]
        written += page.write(root)
        print_json({"written": [str(p) for p in written]}) if as_json else typer.echo(
            "\n".join(f"Wrote {path}" for path in written) or f"Nothing is kept in {root / 'analysis'}"
        )
