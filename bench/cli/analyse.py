"""Command of the analysis: analyse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import COMPARE, ROOT, SHIFT, Says, app, command, fresh, names, wrote


def part(name: str, text: str) -> bool:
    """An option that asks for one part."""
    return typer.Option(name, help=text)  # type: ignore[no-any-return]


@command(
    app,
    "bench analyse --methods source_only,stpl,oracle --seeds 0:3 --knn",
    panel=COMPARE,
    shared="data_root runs cache device threads",
)
def analyse(
    runs_: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Run folders or hashes.")] = None,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Instead of runs: methods, e.g. source_only,stpl,oracle.")
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="With --methods: first and end of the replicates.")] = "0:3",
    shift: SHIFT = "ministreet",
    knn: Annotated[bool, part("--knn", "Same-class pixels among the k nearest neighbours in feature space.")] = False,
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
    root: ROOT = Path("leaderboards"),
    **shared: Any,
) -> Says:
    """Say why finished runs score what they score: neighbours, feature maps, confusions, calibration, pseudo-labels.

    Without a part, all but the embedding and the pseudo-labels. Numbers go to ROOT/analysis, figures and a page are made of them.
    """
    import bench
    from bench.core.errors import RunError, UsageError

    chosen = {"knn": knn, "separation": separation, "confusion": confusion, "calibration": calibration}
    parts = [name for name, on in chosen.items() if on]
    if (check or figures_only) and (runs_ or methods or parts or embedding or pseudo_labels):
        raise UsageError("--figures-only and --check look at no run; leave the runs and the parts out")
    if check:
        from bench.analysis import page

        answer = fresh(bench.analyse(root=root, check=True), "bench analyse --figures-only", "Analysis pages are fresh")
        if not answer.error and (
            foreign := [path for shift in page.analysed(root) for path in page.foreign(root, shift)]
        ):
            raise RunError(
                f"{len(foreign)} analyses, the first {foreign[0]}, are of another training than the committed record says; "
                "analyse the recorded run again"
            )
        return answer
    if not figures_only and bool(runs_) == bool(methods):
        raise UsageError("Name runs, e.g. runs/0123456789ab, or --methods, e.g. --methods source_only,stpl")
    written = bench.analyse(
        runs_ or (), parts, methods=names(methods or ""), seeds=seeds, shift=shift, embedding=embedding,  # type: ignore[arg-type]
        pseudo_labels=pseudo_labels, cells=cells, root=root, **shared,
    )  # fmt: skip
    return Says({"written": [str(p) for p in written]}, wrote(written) or "Nothing to write: no page is stale")
