"""Benchmark of domain adaptation for video semantic segmentation. Every command of the command line is a call with the same words:

>>> import bench
>>> record = bench.run("stpl", shift="ministreet-tiny", steps=2)  # as `bench run --method stpl ...`
>>> record.config.method, 0 <= record.result.miou <= 100
('stpl', True)
>>> table = bench.records("ministreet-tiny")  # a pandas table: committed records and finished runs
>>> sorted(table["method"].unique())
['stpl']
>>> clip = bench.clips("ministreet-tiny", "target", "train")[0]
>>> clip.frames.shape, clip.flow.shape
((2, 3, 64, 128), (1, 2, 64, 128))
>>> network = bench.load_model(f"runs/{record.run}")  # stpl.VideoSegmenter, in evaluation mode
>>> bench.methods()["stpl"].venue
'CVPR 2023'

Run: ``run``, ``profile``, ``methods``, ``load_shift``, ``clips``, ``load_model``, ``records``.
Compare: ``plan``, ``sweep``, ``study``, ``tune``, ``compare``, ``gains``, ``export``.
Real data: ``data_check``, ``data_index``, ``data_fixture``, ``flow_compute``, ``flow_compare``.
Your own video: ``adapt``, ``predict``, ``convert``, ``flops``, ``shift_new``, ``shift_check``.
Leaderboard: ``leaderboard``, ``site``, ``submit``, ``release``, ``verify``, ``analyse``, ``scorers``.
Look: ``list``, ``preview``, ``panels``, ``strip``, ``report``, ``doctor``.

Importing this loads neither torch nor ray: a name's module is imported when the name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._face.board import analyse, leaderboard, release, scorers, site, submit, verify
    from ._face.compare import compare, export, gains, plan, study, sweep, tune
    from ._face.look import catalogue as list
    from ._face.look import doctor, panels, preview, report, strip
    from ._face.own import adapt, convert, flops, predict
    from ._face.real import data_check, data_fixture, data_index, flow_compare, flow_compute
    from ._face.run import clips, load_model, load_shift, methods, profile, records, run
    from ._face.shift import shift_check, shift_new
    from .core.errors import RunError, UsageError

_FACE = {
    "run": "clips load_model load_shift methods profile records run",
    "compare": "compare export gains plan study sweep tune",
    "real": "data_check data_fixture data_index flow_compare flow_compute",
    "own": "adapt convert flops predict",
    "board": "analyse leaderboard release scorers site submit verify",
    "look": "doctor list panels preview report strip",
    "shift": "shift_check shift_new",
}
_MODULE = {name: f"._face.{module}" for module, names in _FACE.items() for name in names.split()}
_MODULE |= {"RunError": ".core.errors", "UsageError": ".core.errors"}
__all__ = [
    "RunError", "UsageError", "adapt", "analyse", "clips", "compare", "convert", "data_check", "data_fixture",
    "data_index", "doctor", "export", "flops", "flow_compare", "flow_compute", "gains", "leaderboard", "list",
    "load_model", "load_shift", "methods", "panels", "plan", "predict", "preview", "profile", "records", "release", "report",
    "run", "scorers",
    "shift_check", "shift_new", "site", "strip", "study", "submit", "sweep", "tune", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'bench' has no attribute '{name}'")
    return getattr(import_module(_MODULE[name], __name__), {"list": "catalogue"}.get(name, name))


def __dir__() -> Any:
    return sorted(__all__)
