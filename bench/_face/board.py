"""The leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .place import LEADERBOARDS, Place, root_in, there, working

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bench.leaderboards.hidden import Hidden
    from bench.leaderboards.submit import Submitted
    from bench.leaderboards.verify import Report
    from bench.runs.finished import RunFolder


def leaderboard(
    root: str | Path = LEADERBOARDS,
    check: bool = False,
    sample: int = 0,
    runs: str | Path | None = None,
    cache: str | Path | None = None,
    data_root: str | Path | None = None,
) -> list[Path]:
    """Write the leaderboard pages and figures that are not what the committed records give; returns these files.

    Args:
        check: write nothing.
        sample: with ``check``: score so many records again, drawn from those whose runs lie in ``runs``; says on standard error
            how many could be.
    """
    from bench.core.errors import UsageError
    from bench.core.progress import say
    from bench.leaderboards import page

    if sample and not check:
        raise UsageError("sample scores records again; it goes with check")
    files = (page.check if check else page.write)(root_in(root))
    if sample:
        from bench.leaderboards.sample import score_sample

        with working({"runs": runs, "cache": cache, "data_root": data_root, "device": "cpu"}) as workspace:
            done = score_sample(root_in(root), sample, workspace)
        say(done.text)
    return files


def site(out: str | Path = "site", root: str | Path = LEADERBOARDS) -> list[Path]:
    """Write the leaderboards as a static site: tables to sort and filter, plots, method and study pages, downloads.

    Needs ``pip install 'stpl-benchmark[site]'``. What an earlier site left in ``out`` is replaced, what is the user's stays.

    Args:
        out: folder of the site; open its ``index.html``.
        root: folder with records and the pages made of them, which must be fresh.
    """
    from bench.core.progress import ProgressDisplay
    from bench.pages.extra import check_extra

    check_extra("site")
    from bench.pages.site import write_site

    with ProgressDisplay() as progress:
        return write_site(root_in(root), Path(out), progress)


def submit(
    run: str | Path | Sequence[str | Path],
    root: str | Path = LEADERBOARDS,
    allow_dirty: bool = False,
    cache: str | Path | None = None,
    data_root: str | Path | None = None,
) -> list[Submitted]:
    """Score the checkpoints of run folders again, compare, and copy their records to the leaderboard's.

    Args:
        allow_dirty: accept runs of code that was not committed; the page says so.
    """
    from bench.leaderboards.submit import submit_runs

    folders = [run] if isinstance(run, (str, Path)) else run
    with working({"cache": cache, "data_root": data_root, "device": "cpu"}) as workspace:
        return submit_runs(
            [Path(folder) for folder in folders],
            root_in(root),
            workspace.cache,
            allow_dirty,
            workspace.progress,
            workspace.data_root,
        )


@overload
def verify(record: str | Path, full: bool = False, **place: Unpack[Place]) -> Report: ...
@overload
def verify(
    record: str | Path | None = None,
    *,
    worlds: str,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    seeds: str = "0:3",
    shift: str = "ministreet",
    root: str | Path = LEADERBOARDS,
    **place: Unpack[Place],
) -> Hidden: ...
def verify(
    record: str | Path | None = None,
    full: bool = False,
    worlds: str | None = None,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    seeds: str = "0:3",
    shift: str = "ministreet",
    root: str | Path = LEADERBOARDS,
    **place: Unpack[Place],
) -> Report | Hidden:
    """Run a record's config again and say how the new scores differ. With ``worlds``: run it, beside source_only and self_training,
    on worlds that nobody knew when the method was written, say whether its gain there is what the records claim, and keep that
    under ``root/hidden``.

    Args:
        record: a committed record, or a run folder.
        full: take nothing from the cache: render the clips and train the source model too.
        worlds: a salt, which gives the worlds.
        method: with ``worlds``, instead of a record: a method, with ``options``, on a ``shift``.
        seeds: with ``worlds``: replicates, at least two.
        place: ``threads`` 0: as many as the record's run had; with ``worlds`` what torch has. ``runs`` is for ``worlds`` alone.
    """
    from bench.core.errors import UsageError

    if worlds is None:
        if record is None or method is not None or options:
            raise UsageError("Give a record; --method and -o are for --worlds")
        from bench.leaderboards.verify import verify_record

        threads = place.pop("threads", 0)
        with working(place) as workspace:
            arguments = workspace.cache, str(workspace.device), threads, full, workspace.progress, workspace.data_root
            return verify_record(_record_file(record), *arguments)
    if (record is None) == (method is None) or full:
        raise UsageError("--worlds takes a record or --method, and --full is not for it")
    from bench.leaderboards.consistency import check_config
    from bench.leaderboards.hidden import verify_on_worlds
    from bench.runs.config import make_run_config
    from bench.runs.records import read_record

    if record is not None:
        path = _record_file(record)
        config = read_record(path).config
        check_config(config, str(path), outside=True)  # names become paths in a run
    else:
        config = make_run_config(str(method), shift, 0, dict(options or {}))
    with working(place) as workspace:
        return verify_on_worlds(config, worlds, seeds, root_in(root), workspace)


def _record_file(record: str | Path) -> Path:
    """A record, or that in the folder of a run."""
    path = there(record, "record")
    return there(path / "record.json", "record") if path.is_dir() else path


def release(
    shift: str = "ministreet",
    seeds: str = "0",
    root: str | Path = LEADERBOARDS,
    *,
    options: Mapping[str, Any] | None = None,
    runs: str | Path | None = None,
    cache: str | Path | None = None,
) -> list[Path]:
    """Copy source models from the cache to ``root/sources``, where every run looks before it trains one.

    Args:
        seeds: first and end of the replicates, ``0:3``.
        options: as for :func:`run`: those that a source model depends on, such as ``network`` and ``fusion``.

    Raises:
        RunError: one is not in the cache, is not what committed records started from, or another one was released before.
    """
    from bench.core.workspace import Workspace
    from bench.leaderboards.release import release_sources
    from bench.runs.config import make_run_config
    from bench.runs.options import parse_range

    configs = [make_run_config("source_only", shift, seed, dict(options or {})) for seed in parse_range("seeds", seeds)]
    return release_sources(configs, Workspace.at(runs, cache, device="cpu"), root_in(root))


def analyse(
    runs_: Sequence[str | Path] = (),
    parts: Sequence[str] = (),
    *,
    methods: Sequence[str] = (),
    seeds: str = "0:3",
    shift: str = "ministreet",
    embedding: Literal["tsne", "pca"] | None = None,
    pseudo_labels: bool = False,
    cells: int = 25_600,
    root: str | Path = LEADERBOARDS,
    check: bool = False,
    **place: Unpack[Place],
) -> list[Path]:
    """Say why finished runs score what they score; numbers go to ``root/analysis``, figures and a page are made of them.

    Args:
        runs_: folders or hashes of runs; or give ``methods`` and ``seeds`` on a ``shift``. Without either, figures and pages are
            made of what is kept.
        parts: of ``knn``, ``separation``, ``confusion``, ``calibration``; without a part all four, unless an embedding or
            pseudo-labels are asked for.
        embedding: ``tsne`` or ``pca``: 2-D maps of the features.
        pseudo_labels: judge what ``run(..., save_predictions=N)`` saved.
        cells: pixels of the feature grid to look at.
        check: write nothing, look at no run; return the stale files.

    Returns:
        The files that were written.
    """
    from bench.analysis import page
    from bench.analysis.analyse import PARTS, judge_runs
    from bench.analysis.analyse import analyse as look_at
    from bench.core.errors import UsageError

    root = root_in(root)
    if check:
        return page.check(root)
    if embedding not in (None, "tsne", "pca"):
        raise UsageError(f"--embedding is tsne or pca, got '{embedding}'")
    written: list[Path] = []
    if runs_ or methods:
        chosen = list(parts) or ([] if embedding or pseudo_labels else list(PARTS))
        with working(place) as workspace:
            folders = _finished(runs_, methods, shift, seeds, workspace.runs)
            written += judge_runs(folders, root, workspace) if pseudo_labels else []
            if chosen or embedding:
                written += look_at(folders, chosen, embedding, root, workspace, cells)
    return written + page.write(root)


def scorers(
    runs_: Sequence[str | Path] = (),
    *,
    methods: Sequence[str] = (),
    seeds: str = "0:3",
    shift: str = "ministreet",
    root: str | Path = LEADERBOARDS,
    check: bool = False,
    **place: Unpack[Place],
) -> list[Path]:
    """Score finished runs on unlabelled target clips, and say on a page which score would have chosen well.

    Args:
        runs_: folders or hashes of runs; or give ``methods`` and ``seeds`` on a ``shift``. Without either, the pages are made of
            what is kept.
        check: score nothing; return the stale pages.

    Returns:
        The files that were written.
    """
    from bench.analysis.scorers import of_root, score_runs
    from bench.core.errors import UsageError

    root = root_in(root)
    if check:
        if not (pages := of_root(root)):
            raise UsageError(f"Nothing is scored in {root / 'analysis'}; `bench scorers RUN` puts something there")
        return pages.stale()
    written: list[Path] = []
    if runs_ or methods:
        with working(place) as workspace:
            written += score_runs(_finished(runs_, methods, shift, seeds, workspace.runs), root, workspace)
    return written + of_root(root).write()


def _finished(
    runs_: Sequence[str | Path], methods: Sequence[str], shift: str, seeds: str, runs: Path
) -> list[RunFolder]:
    """Finished runs that are named, or those of methods on replicates."""
    from bench.core.errors import UsageError
    from bench.runs.finished import RunFolder, find_folder, finished_runs
    from bench.runs.options import parse_range

    if methods:
        return finished_runs(methods, shift, parse_range("--seeds", seeds), runs)
    folders = [RunFolder.open(find_folder(str(run), runs)) for run in runs_]
    if stream := next((run for run in folders if run.config.mode == "stream"), None):
        raise UsageError(
            f"{stream.folder} is a stream, which is scored on the way and not by its last weights; name other runs"
        )
    return folders
