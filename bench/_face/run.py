"""Runs, and what they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .place import LEADERBOARDS, Place, root_in, runs_in, there, working

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Unpack

    from bench.data.splits import Store
    from bench.runs.records import Record
    from bench.shifts.protocol import Shift
    from methods.base import Card
    from stpl.segmenter import VideoSegmenter


def run(
    method: str,
    shift: str = "ministreet",
    seed: int = 0,
    *,
    options: Mapping[str, Any] | None = None,
    protocol: str = "offline",
    init: str = "source",
    steps: int | None = None,
    source_model: str | Path | None = None,
    train_source: bool = False,
    compiled: bool = False,
    skip_bad: bool = False,
    save_predictions: int = 0,
    force: bool = False,
    tensorboard: bool = False,
    **keywords: Any,
) -> Record:
    """Adapt a source model with one method and score it. A finished run is found again, a killed one goes on.

    Args:
        method: a name of :func:`methods`, or a file.
        shift: benchmark: a name, or a YAML file.
        seed: replicate: draws its own worlds, source model and adaptation seed.
        options: ``fusion``, ``flow``, ``network``, ``weights``, ``reset`` of a stream, and settings of the method.
        protocol: ``offline``, or ``stream``: the scored clips come once, each is predicted before it is adapted to.
        init: ``source``, or ``backbone``: a UDA method without a source-trained model, as published.
        steps: at most so many steps, to try a shift out; refused by the leaderboard.
        source_model: model file to start from, instead of training one.
        train_source: train the source model here, or take the one trained here before, where a released one is there.
        compiled: let ``torch.compile`` work on the encoder.
        skip_bad: replace a clip that cannot be read by the next one, and count it.
        save_predictions: save what each kept step says about so many target training clips.
        force: repeat a finished run; what no run wrote stays in its folder.
        tensorboard: log losses, rates and pictures to ``<run>/tensorboard``.
        keywords: those of :class:`Place`; all others are ``options``.

    Raises:
        UsageError: anything unknown or out of range.
        RunError: damaged files, a full disk, a loss that is not finite.
    """
    from bench.core import child

    child.prepare()  # imports beside this process
    from bench.core.files import file_hash
    from bench.runs.config import make_run_config
    from bench.runs.run import run as run_config
    from bench.runs.watching import watched

    place = {key: keywords.pop(key) for key in Place.__annotations__ if key in keywords}
    source_hash = file_hash(Path(source_model)) if source_model else None
    config = make_run_config(method, shift, seed, {**(options or {}), **keywords}, init, steps, source_hash, protocol)
    settings: dict[str, Any] = {
        "compiled": compiled,
        "skip_bad": skip_bad,
        "save_predictions": save_predictions,
        "force": force,
    }
    settings |= {"released": None} if train_source else {}
    file = Path(source_model) if source_model else None
    with watched(tensorboard) as observer, working(place, observer=observer, source_file=file, **settings) as workspace:
        return run_config(config, workspace)


def profile(
    method: str | Sequence[str],
    shift: str = "ministreet",
    steps: int = 20,
    *,
    options: Mapping[str, Any] | None = None,
    **place: Unpack[Place],
) -> list[dict[str, Any]]:
    """Where the time of a method's step goes, by method; see :func:`bench.runs.profiling.profile`."""
    from bench.runs.config import make_run_config
    from bench.runs.profiling import profile as take_apart

    methods = [method] if isinstance(method, str) else method
    configs = [make_run_config(name, shift, 0, dict(options or {})) for name in methods]
    with working(place) as workspace:
        return [take_apart(config, workspace, steps) for config in configs]


def methods() -> dict[str, Card]:
    """The card of each method by name: title, venue, design, setting. ``bench.list("methods")`` names broken ones too."""
    from bench.runs.catalogue import methods
    from bench.runs.config import method_class

    return {name: method_class(name).card for name, entry in methods().items() if "broken" not in entry}


def load_shift(name: str = "ministreet") -> Shift:
    """A benchmark by name or YAML file: classes, data, schedules, evaluation."""
    from bench.runs.config import load_shift

    return load_shift(name)


def clips(
    shift: str = "ministreet", role: str = "target", split: str = "train", seed: int = 0, **place: Unpack[Place]
) -> Store:
    """Clips of a split, rendered now if they are not in the cache: ``clips(...)[0].frames`` is uint8 ``(T, 3, H, W)``.

    Args:
        role: ``source`` or ``target``.
        split: ``train`` or ``val``.
        seed: replicate.

    Returns:
        A sequence of :class:`bench.data.clip.Clip`; ``.labelled(i)`` gives one with its label.
    """
    from bench.core.errors import unknown
    from bench.data.splits import prepare

    for kind, value, allowed in (("role", role, ("source", "target")), ("split", split, ("train", "val"))):
        if value not in allowed:
            raise unknown(kind, value, allowed)
    with working(place) as workspace:
        return prepare(load_shift(shift), role, split, seed, workspace).open()


def load_model(path: str | Path, **place: Unpack[Place]) -> VideoSegmenter:
    """The network of a finished run's folder or of a model file, in evaluation mode."""
    from bench.footage.predict import load

    with working(place) as workspace:
        return load(there(path, "model"), workspace).segmenter.eval()


def records(shift: str = "ministreet", root: str | Path = LEADERBOARDS, runs: str | Path | None = None) -> pd.DataFrame:
    """Committed records of a shift and finished runs on it, a row each: method, options, seed, scores in percent, cost."""
    from bench.runs.finished import records_frame

    return records_frame(shift, root_in(root), runs_in(runs))
