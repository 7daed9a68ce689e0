"""The page and figures of an analysis: pure functions of the files under ``<root>/analysis/<shift>``.

``<root>/<shift>-analysis.md`` is checked byte by byte; figures are drawn anew by ``bench analyse --figures-only``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from bench.core.errors import UsageError
from bench.core.text import plain
from bench.leaderboards.generated import Page, Pages, check_own, orphans
from bench.pictures.canvas import save
from bench.runs.config import load_shift
from bench.runs.records import TOLERANCE, gap, read_record

from . import plots, tables
from .data import Embedding, PseudoLabels, RunAnalysis, folder_of, read, read_all
from .knn import HEADLINE, K
from .tables import SURE, Group, groups_of

HEAD = "# Analysis: "
DPI = 100
"""Figures of 8 inches become 800 pixels wide."""
SHOWN = ("source_only", "stpl")
"""Methods of the figures that show two side by side."""
HOW = (
    "A pixel is a cell of the feature grid; its representation is the fused feature that the classifier takes, its class the "
    f"label at the cell's centre. The {K} nearest by cosine are found exactly. Unless it says otherwise, pixels of the query's own "
    "clip do not count as neighbours: overlapping receptive fields make them alike whatever the network knows. All models of a "
    "replicate are shown the same pixels. These choices were fixed before any number was seen; the paper's own were not at hand."
)


@dataclass(frozen=True)
class Kept:
    """Everything that is kept of a shift's analysis."""

    shift: str
    groups: list[Group]
    embedding: Embedding | None
    pseudo_labels: list[PseudoLabels]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the shift, as analysed."""
        return next(iter(self.groups[0].runs.values())).classes


def kept(root: Path, shift: str) -> Kept:
    """Read the files of a shift's analysis.

    Raises:
        RunError: a damaged file.
    """
    folder, embedding = folder_of(root, shift), None
    if (folder / "embedding.json").is_file():
        embedding = read(folder / "embedding.json", Embedding)
    runs = read_all(folder / "runs", RunAnalysis)
    return Kept(shift, groups_of(runs), embedding, read_all(folder / "pseudo-labels", PseudoLabels))


# Figures --------------------------------------------------------------------------------------------------------------


def figures(analysis: Kept) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure, as far as the data allows."""
    title = analysis.shift
    if shown := [g for g in analysis.groups if g.curves("headline")]:
        curves = [g.series({s: c.mean for s, c in g.curves("headline").items()}) for g in shown]
        caption = "Same-class pixels among the k nearest neighbours, mean over classes"
        yield "knn", caption, plots.knn_figure(curves, f"{caption} · {title}")
        shares = [(g, g.share("headline", "mean", HEADLINE)) for g in shown]
        pairs = [g.series({s: (x, g.miou[s]) for s, x in share.items()}) for g, share in shares]
        caption, x = "Do good neighbours go with a good score?", f"same class among the {HEADLINE} nearest, %"
        yield "knn-miou", caption, plots.agreement_figure(pairs, f"{caption} · {title}", x)
        by_class, caption = (
            tables.class_shares(shown, analysis.classes),
            f"Same class among the {HEADLINE} nearest, by class",
        )
        yield "knn-classes", caption, plots.class_share_figure(by_class, analysis.classes, caption)
    if analysis.embedding:
        kind = {"tsne": "t-SNE", "pca": "PCA"}[analysis.embedding.kind]
        caption = f"The same validation pixels by true class, {kind} of their features (no unit)"
        text = f"{caption}, seed {analysis.embedding.seed}"
        yield "embedding", caption, plots.embedding_figure(analysis.embedding, text)
    beside = sorted((g for g in analysis.groups if g.method in SHOWN), key=lambda g: SHOWN.index(g.method))
    ratios = {g.label: ratio for g in beside if (ratio := separation_of(g)) is not None}
    if ratios:
        caption = "Class centres: distance over spread, mean over replicates (below 1: they overlap)"
        yield "separation", caption, plots.separation_figure(ratios, analysis.classes, caption)
    yield from _confusions(analysis)
    if shown := [g for g in analysis.groups if tables.errors_of(g)]:
        bins = [g.series({s: bins_of(run) for s, run in g.runs.items() if run.calibration}) for g in shown]
        errors = {g.label: float(np.mean(tables.errors_of(g))) for g in shown}
        yield (
            "calibration",
            "Reliability",
            plots.reliability_figure(bins, errors, f"Is the confidence right? · {title}"),
        )
    if analysis.pseudo_labels:
        caption = "Pseudo-labels on target training clips over the steps"
        yield "pseudo-labels", caption, plots.pseudo_label_figure(analysis.pseudo_labels, SURE, f"{caption} · {title}")


def _confusions(analysis: Kept) -> Iterator[tuple[str, str, Figure]]:
    matrices = {g.label: (g, confusions_of(g)) for g in analysis.groups if confusions_of(g)}
    floor = next((by_seed for g, by_seed in matrices.values() if g.method == "source_only"), {})
    for label, (group, by_seed) in matrices.items():
        shared = sorted(by_seed.keys() & floor.keys())
        beside = np.sum([floor[s] for s in shared], 0) if shared and group.method != "source_only" else None
        seeds = shared if beside is not None else sorted(by_seed)
        figure = plots.confusion_figure(np.sum([by_seed[s] for s in seeds], 0), beside, analysis.classes, label)
        identity = next(iter(group.runs.values())).who
        name = identity.run if identity.altered else group.method
        yield f"confusion-{name}", f"Confusion of {label}", figure


def confusions_of(group: Group) -> dict[int, npt.NDArray[np.int64]]:
    """Confusion matrices by seed."""
    return {seed: np.array(run.confusion) for seed, run in group.runs.items() if run.confusion}


def separation_of(group: Group) -> npt.NDArray[np.float64] | None:
    """Mean over replicates of the centres' separation ``(K, K)``; NaN above the diagonal and for absent classes."""
    ratios = [run.separation.ratio for run in group.runs.values() if run.separation]
    if not ratios:
        return None
    total = np.full((len(ratios), len(ratios[0]), len(ratios[0])), np.nan)
    for number, ratio in enumerate(ratios):
        for i, row in enumerate(ratio):
            total[number, i, : len(row)] = [np.nan if x is None else x for x in row]
    counts = np.isfinite(total).sum(0)
    return np.where(counts > 0, np.nansum(total, 0) / np.maximum(counts, 1), np.nan)


def bins_of(run: RunAnalysis) -> list[list[float]]:
    """Pixels, confidence and accuracy per bin; NaN for an empty one."""
    assert run.calibration is not None
    calibration = run.calibration
    return [
        [np.nan if x is None else float(x) for x in row]
        for row in (calibration.count, calibration.confidence, calibration.accuracy)
    ]


# The page -------------------------------------------------------------------------------------------------------------


def build(analysis: Kept, drawn: set[str]) -> str:
    """The page of a shift, markdown.

    Args:
        drawn: names of the figures to show.
    """
    shift = load_shift(analysis.shift)

    def figure(name: str, caption: str) -> list[str]:
        return [f"![{caption}](figures/{analysis.shift}-{name}.png)"] if name in drawn else []

    parts = [
        f"{HEAD}{plain(shift.title)}",
        "Why the methods score what they score. Made by `bench analyse` from the files in "
        f"[analysis/{analysis.shift}](analysis/{analysis.shift}); do not edit.",
        _provenance(analysis),
    ]
    if table := tables.knn_table(analysis.groups):
        parts += [
            "## Same-class nearest neighbours",
            HOW,
            *figure("knn", "Same-class share over k"),
            "Mean over classes, percent ± 95 % t-interval over replicates. The last three columns are at "
            f"k = {HEADLINE}: pixels weighted equally; pixels of the query's own clip counted; a sample with equally many pixels "
            "of each class.",
            table,
            *figure("knn-classes", "Same-class share by class"),
            "## Does it order the methods as mIoU does?",
            tables.answer(analysis.groups),
            "The share judges the features that the classifier takes, not the classifier: a method may spoil the one and keep the "
            "other.",
            *figure("knn-miou", "Same-class share against mIoU"),
            "Spearman's rho of the means over replicates; interval: percentile bootstrap over the replicates, drawn anew for share "
            "and mIoU together. It does not cover the choice of methods. Without the ends: without source-only and the oracle.",
            tables.agreement_table(analysis.groups),
        ]
    maps = figure("embedding", "Features in the plane") + figure("separation", "Distances of class centres")
    if (table := tables.separation_table(analysis.groups)) or maps:
        parts += [
            "## Feature maps",
            "Unit-length features. In the plane of t-SNE only neighbourhoods mean something; distances between clusters do not. "
            "Separation is the distance of two class centres over the sum of the mean distances of their pixels from them; the "
            "Davies-Bouldin index averages each class's worst reciprocal. The silhouette is by cosine, on equally many pixels of "
            "each class.",
            *maps,
            *([table] if table else []),
        ]
    matrices = [name for name in sorted(drawn) if name.startswith("confusion-")]
    if matrices:
        links = [f"[{name.removeprefix('confusion-')}](figures/{analysis.shift}-{name}.png)" for name in matrices]
        parts += [
            "## Confusion",
            f"Pixels pooled over replicates, percent of the true class, and the difference to source-only: {', '.join(links)}.",
            *figure("confusion-stpl", "Confusion of STPL"),
        ]
    if table := tables.calibration_table(analysis.groups):
        parts += [
            "## Calibration",
            "Confidence is the largest probability of a pixel at the labels' size; calibration error (ECE): mean over pixels of "
            "the gap between a bin's accuracy and its confidence, 15 bins of equal width.",
            *figure("calibration", "Reliability"),
            table,
        ]
    if analysis.pseudo_labels:
        parts += [
            "## Pseudo-labels over the steps",
            f"Labels that the evaluated weights of each kept step give to the first {analysis.pseudo_labels[0].clips} target "
            "training clips; step 0 is the source model. They were saved without labels by `bench run --save-predictions` and "
            "judged afterwards. A method that learns from an average of its own may have trained on slightly other labels.",
            *figure("pseudo-labels", "Pseudo-labels over the steps"),
            tables.pseudo_label_table(analysis.pseudo_labels),
        ]
    return "\n\n".join(parts) + "\n"


def _provenance(analysis: Kept) -> str:
    runs = [run for group in analysis.groups for run in group.runs.values()]
    seeds = sorted({run.who.seed for run in runs})
    sizes = sorted({(run.sample["cells"], *run.sample["grid"]) for run in runs})
    hashes = sorted({run.who.shift_hash for run in runs})
    cells = f"{min(s[0] for s in sizes)}" + (
        f" to {max(s[0] for s in sizes)}" if len({s[0] for s in sizes}) > 1 else ""
    )
    grids = ", ".join(sorted({f"{rows}x{columns}" for _, rows, columns in sizes}))
    return "\n".join(
        [
            f"- Runs: {len(runs)}, of {len(analysis.groups)} methods, replicates {', '.join(map(str, seeds))}",
            f"- Protocol: `{analysis.shift}`, hash {', '.join(f'`{h}`' for h in hashes)}; weights of the last step",
            f"- Pixels: {cells} cells of the {grids} feature grid per replicate, evenly from all validation clips; confusion and "
            "calibration are over all pixels",
        ]
    )


# Files ----------------------------------------------------------------------------------------------------------------


def analysed(root: Path) -> dict[str, Path]:
    """Page by shift that has analyses under ``root/analysis``."""
    folders = sorted(path for path in (root / "analysis").glob("*") if any((path / "runs").glob("*.json")))
    return {folder.name: root / f"{folder.name}-analysis.md" for folder in folders}


def _figure_path(root: Path, shift: str, name: str) -> Path:
    return root / "figures" / f"{shift}-{name}.png"


def _text(root: Path, analysis: Kept) -> str:
    names = [
        path.stem.removeprefix(f"{analysis.shift}-") for path in (root / "figures").glob(f"{analysis.shift}-*.png")
    ]
    return build(analysis, set(names))


def of_root(root: Path) -> Pages:
    """The pages of all shifts that are analysed under ``root``, and those of shifts that are not any more. Figures are not
    among them: they are drawn anew."""
    pages = [Page(page, _text(root, kept(root, shift))) for shift, page in analysed(root).items()]
    return Pages(pages, orphans(sorted(root.glob("*-analysis.md")), (HEAD,), pages))


def check(root: Path) -> list[Path]:
    """Pages that are not what the analyses give: stale, missing, or of a shift without any. Writes nothing.

    Raises:
        UsageError: neither analyses nor a page.
    """
    if not (pages := of_root(root)):
        raise UsageError(f"Nothing is analysed in {root / 'analysis'}; `bench analyse RUN` puts something there")
    return pages.stale()


def foreign(root: Path, shift: str) -> list[Path]:
    """Analyses whose run has a committed record that says another mIoU: of an earlier training of the same configuration."""
    paths = []
    for run in read_all(folder_of(root, shift) / "runs", RunAnalysis):
        record_path = root / "records" / shift / f"{run.who.name}.json"
        if record_path.is_file() and gap(read_record(record_path).result.miou, run.who.miou) > TOLERANCE:
            paths.append(folder_of(root, shift) / "runs" / f"{run.who.name}.json")
    return paths


def write(root: Path) -> list[Path]:
    """Draw all figures and write all pages; remove pages whose analyses have gone.

    Returns:
        The files that were written.
    """
    pages, drawn = of_root(root), []
    ownership = {page.path: page.is_own() for page in pages.expected}
    for shift, path in analysed(root).items():
        for name, _, figure in figures(kept(root, shift)):
            check_own(figure_path := _figure_path(root, shift, name), ownership[path])  # figures are their page's
            drawn.append(save(figure, figure_path, DPI))
    return drawn + of_root(root).write()
