"""The adaptation to one's own footage in a box (:mod:`bench.core.box`): it sees the model, the pictures and the code."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bench.core import box, child
from bench.core.access import opened
from bench.core.files import disk_errors
from bench.core.outputs import Output
from bench.core.schema import whole_text
from bench.core.workspace import Workspace
from bench.data.handed import Recorded, hand_store
from bench.data.recorded import VideoStore
from bench.flow.base import module_of
from bench.networks.model_file import ModelInfo
from bench.networks.weights import load_into
from bench.runs.around import Around
from bench.runs.boxed import message_handler
from bench.runs.training import Log, snapshot_steps
from stpl.segmenter import VideoSegmenter

from .request import Request

METRICS, STATE, ADAPTED = "metrics.jsonl", "state", "state/adapted.safetensors"


@dataclasses.dataclass(frozen=True)
class Task:
    """The adaptation that the child process runs.

    Attributes:
        weights: file of the model's weights; ``training``: the mode of the network that was made of it.
    """

    request: Request
    info: ModelInfo
    weights: Path
    training: bool
    classes: int
    store: Recorded
    folder: Path
    runs: Path
    cache: Path
    device: str
    workers: int
    skip: bool


def fit_boxed(
    request: Request,
    info: ModelInfo,
    weights: Path,
    segmenter: VideoSegmenter,
    classes: int,
    store: VideoStore,
    output: Output,
    workspace: Workspace,
) -> VideoSegmenter:
    """Adapt in a box, and load what came of it into the network.

    Raises:
        UsageError: files of the user's are in the way.
        AccessError: the method tried what it may not.
        RunError: unreadable files, a full disk, a loss that is not finite.
    """
    kept = [f"{kind}-{step:06d}" for step in snapshot_steps(request.schedule) for kind in ("snapshot", "student")]
    names = [ADAPTED, *(f"{STATE}/{name}.safetensors" for name in ("state", *kept))]
    for name in names:  # the child writes them, unnoticed by the output
        output.grows(name)
    state = output.folder / STATE
    with disk_errors(state):
        state.mkdir(parents=True, exist_ok=True)
    around = Around.of_now(request.plugins)
    model = request, info, weights, segmenter.training, classes
    environment = workspace.runs, workspace.cache, str(workspace.device), workspace.workers, workspace.skip_bad
    task = Task(*model, hand_store(store), output.folder, *environment)
    flow = getattr(module_of(request.flow), "reads", None)
    code = around.code([workspace.runs, workspace.cache])
    call = child.Call(
        "bench.footage.adapt:adapt_footage_here",
        around.packed(whole_text(task)),
        read=[*code, *box.open_parts(*opened("target-train")), *(flow(True) if flow else ()), weights],
        write=[state],
        device=str(workspace.device),
    )
    child.run_boxed(call, message_handler(workspace, Log(output.folder / METRICS)))
    load_into(segmenter, output.folder / ADAPTED)
    for name in names:
        output.ends(name)
    return segmenter
