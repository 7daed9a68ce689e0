"""Models and one's own footage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .place import Place, there, working

if TYPE_CHECKING:
    from typing_extensions import Unpack


def adapt(
    model: str | Path,
    frames: str | Path,
    out: str | Path,
    method: str = "stpl",
    *,
    options: Mapping[str, Any] | None = None,
    flow: str = "dis",
    size: tuple[int, int] | None = None,
    steps: int = 500,
    batch: int = 4,
    lr: float = 5e-4,
    seed: int = 0,
    masks: bool = True,
    overlay: bool = True,
    video: str = "none",
    rate: float = 10.0,
    skip_bad: bool = False,
    force: bool = False,
    **place: Unpack[Place],
) -> dict[str, Any]:
    """Adapt a model to unlabelled footage without its source data: ``out/model.safetensors``, and masks.

    Args:
        model: a model file, or the folder of a finished run.
        frames: folder of pictures, a video file, or a YAML about them.
        method: a source-free one.
        options: settings of the method.
        size: ``(height, width)`` the network works at; by default the pictures'.
        steps, batch, lr: of the schedule; ``lr`` of the encoder.
        masks: write what :func:`predict` writes; ``overlay``, ``video``, ``rate`` as there.
        skip_bad: leave out pictures that cannot be read, and count them.
        force: remove what an earlier ``adapt`` wrote to ``out``.
    """
    from bench.core import child
    from bench.core.errors import UsageError

    child.prepare()  # imports beside this process
    from bench.footage.adapt import schedule
    from bench.footage.export import adapt_and_export

    place.setdefault("workers", 2)
    if not masks and video != "none":
        raise UsageError(f"--video {video} shows the masks, which --no-masks leaves out")
    looks = (overlay, video, rate) if masks else None
    with working(place, skip_bad=skip_bad, force=force) as workspace:
        return adapt_and_export(
            there(model, "model"), Path(frames), method, Path(out), schedule(steps, batch, lr), looks, workspace,
            options=dict(options or {}), flow=flow, size=size, seed=seed,
        )  # fmt: skip


def predict(
    model: str | Path,
    out: str | Path,
    *,
    shift: str | None = None,
    frames: str | Path | None = None,
    split: str | None = None,
    seed: int | None = None,
    flow: str | None = None,
    size: tuple[int, int] | None = None,
    overlay: bool = True,
    video: str = "none",
    rate: float = 10.0,
    skip_bad: bool = False,
    **place: Unpack[Place],
) -> dict[str, Any]:
    """Write label maps that the official Cityscapes evaluator accepts, colour overlays, and a film of each sequence.

    Args:
        model: a model file, or the folder of a finished run.
        shift: benchmark to predict on; by default the run's.
        frames: your own footage instead of a shift's.
        split: ``val`` or ``train``, of the shift's target; by default ``val``.
        seed: replicate, for a model file, or a run on another shift than its own; by default 0.
        flow: backend; by default the run's or the shift's.
        size: ``(height, width)`` the network works at, of your own footage.
        overlay: write the pictures under their classes' colours.
        video: ``mp4``, ``gif`` or ``none``; ``rate`` in pictures per second.
    """
    from bench.core.errors import UsageError
    from bench.footage.export import predict_and_export

    if frames and place.get("data_root") is not None:
        raise UsageError("--data-root says where a shift's data lie; leave it out with --frames")
    footage = Path(frames) if frames else None
    with working(place, skip_bad=skip_bad) as workspace:
        return predict_and_export(
            there(model, "model"), Path(out), (overlay, video, rate), workspace,
            shift=shift, frames=footage, split=split, seed=seed, flow=flow, size=size,
        )  # fmt: skip


def convert(
    checkpoint: str | Path,
    out: str | Path = "model.safetensors",
    layout: str = "auto",
    network: str = "",
    fusion: str = "",
    shift: str = "",
    classes: int = 0,
    rename: Sequence[str] = (),
) -> dict[str, Any]:
    """Turn a checkpoint into a model file with the same scores: published ones, or your own of any network.

    Args:
        checkpoint: a torch file or .safetensors, from anywhere; never unpickled.
        layout: ``adaptsegnet``, ``advent``, ``da_vsn``, ``tps``, ``espnet``; ``names`` for any other network; ``auto`` where the
            names tell.
        network: which network the weights are of.
        fusion: instead of the layout's own: the single-frame model.
        shift: benchmark whose class names go into the file.
        classes: their number, without a shift.
        rename: ``THEIRS=OURS``: modules of the file, as we call them.

    Returns:
        What became of the tensors: matched, renamed, ignored, missing.
    """
    from bench.core.errors import UsageError
    from bench.core.outputs import Output
    from bench.networks.model_file import save_model
    from bench.networks.published import convert
    from bench.runs.config import load_shift

    if Path(out).suffix != ".safetensors":
        raise UsageError(f"A model file ends in .safetensors, got --out {out}")
    output = Output.of_files("convert", Path(out), inputs={"the checkpoint": Path(checkpoint)})
    names = load_shift(shift).classes if shift else None
    if names and classes not in (0, len(names)):
        raise UsageError(
            f"Shift '{shift}' has {len(names)} classes, --classes says {classes}; leave one of the two out"
        )
    conversion = convert(there(checkpoint, "checkpoint"), layout, network, fusion, len(names or ()) or classes, rename)
    names = names or conversion.classes
    origin = {"converted_from": Path(checkpoint).name, "layout": conversion.layout}
    parts = (conversion.segmenter, conversion.network, conversion.fusion, conversion.num_classes)
    with output:
        save_model(Path(out), *parts, classes=names, origin=origin)
    auxiliary = conversion.segmenter.auxiliary_classifier is not None
    report: dict[str, Any] = {
        "model": str(out),
        "layout": conversion.layout,
        "network": conversion.network,
        "fusion": conversion.fusion,
    }
    report |= {"num_classes": conversion.num_classes, "auxiliary": auxiliary, "classes": list(names or ())}
    report |= {
        "matched": conversion.matched,
        "ignored": list(conversion.ignored),
        "missing": list(conversion.missing),
        "note": conversion.note,
    }
    return report | {
        "renamed": [f"{theirs or 'all'} is {ours or 'all'}" for theirs, ours in conversion.renamed.items()]
    }


def flops(height: int = 512, width: int = 1024, classes: int = 15) -> list[dict[str, Any]]:
    """How large each network is and how much a frame of ``height`` x ``width`` pixels costs."""
    from bench.networks.cost import costs

    return costs(height, width, classes)
