"""``bench shift new``: a commented YAML of a shift of one's own, made from what lies in two folders."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from bench.core.errors import RunError, UsageError
from bench.core.files import check_folder, no_file, real, sha256_of, write_atomically
from bench.core.registry import resolve
from bench.core.schema import from_yaml
from bench.networks.build import rounded_size
from bench.networks.model_file import read_info
from bench.networks.published import convert
from bench.shifts.protocol import Shift
from bench.shifts.sides import IGNORED

from .datasets import _base
from .datasets.frames import Frames
from .reading import PICTURES, picture_size

LARGEST = 1024
"""Longer side, pixels, to which frames are reduced, as for `bench adapt`."""
VOID = ("void", "ignore", "unlabeled", "unlabelled")
"""Names in a list of colours that mean: ignored."""

TEXT = """\
# A shift of your own. Look at it with  bench shift check {path}  and run it with
#   bench run --method stpl --shift {path}
# Paths are relative to this file, or to --data-root.
name: {name}
title: {name}
purpose: private            # only shifts of the repository itself are reported
# What the network tells apart.
classes: {classes}
data:
  kind: video
  frames: 2                 # of a clip: the picture and the one before it
{source}
  target:
    name: target
{target}
    # Adapted to, without labels, is `train`; scored is `val`. A range counts the pictures of each sequence (each folder), from 0,
    # its end left out. Or choose whole sequences:  val: {{sequences: [drive3, "night*"]}}
    train: {train}
    val: {val}
network: {{name: {network}, fusion: {fusion}}}
flow: dis
{training}adaptation:
  steps: 150
  batch: 4
  lr: 0.0005
  head_multiplier: 10.0     # the classifier learns so many times faster
  momentum: 0.9
  weight_decay: 0.0005
  power: 0.9
  clip_norm: 10.0
  precision: float32        # or bfloat16, which is faster where the processor has it
  batch_norm: target        # start from batch-norm statistics of the target
  snapshots: 3
  statistics_clips: 64
evaluation:
  align_corners: false
  readout: student
{evaluation}settings: published         # of the methods: nothing is tuned on this shift
"""
SIDE = """\
    height: {height}             # of the frames that the network gets
    width: {width}
    folder: {folder}
    labels: {labels}
    label_suffix: {suffix}
{more}    {names}
"""
TRAINING = """\
source_training:
  steps: 800
  batch: 4
  lr: 0.05
  head_multiplier: 1.0      # from scratch: nothing is pretrained
  momentum: 0.9
  weight_decay: 0.0005
  power: 0.9
  clip_norm: 10.0
  precision: float32
"""
GROUPS = """\
  # The labels' classes, each made of some of the network's. A class with nothing in [] is always wrong: fill it in.
  groups: {groups}
"""


def write_shift(
    out: Path,
    target: Path,
    target_labels: Path,
    classes: str,
    source: Path,
    source_labels: Path | None,
    network: str,
    val: str,
    force: bool = False,
) -> Path:
    """Write the YAML if it is a valid shift. See ``bench.shift_new``.

    Raises:
        UsageError: the file is there, what is given does not fit together, or makes no valid shift; nothing is written then.
        RunError: pictures or a model that cannot be read.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--out {out}: a shift is a .yaml file")
    check_folder(out.parent)
    if kind := no_file(out):
        raise UsageError(f"--out {out} is {kind}; choose another --out")
    if os.path.lexists(out) and not force:
        raise UsageError(f"{out} is there already; choose another --out, or --force")
    names, label_line = named(classes)
    facts: dict[str, str] = {}
    if source.is_file():
        if source_labels is not None:
            raise UsageError(f"--source {source} is a model file, which has no --source-labels")
        network_classes, network, facts["fusion"] = _model(source)
        groups = {name: [name] if name in network_classes else [] for name in names}
        facts |= {"training": "", "evaluation": GROUPS.format(groups=_flow(groups))}
        model_facts = {"model": _near(source, out), "sha256": sha256_of(source)}
        facts["source"] = "  # Nothing but a trained model: source-free methods alone.\n  source: " + _flow(model_facts)
    else:
        if source_labels is None:
            raise UsageError(
                "--source-labels: missing; a source model is trained on them, unless --source is a model file"
            )
        network, network_classes, facts["fusion"] = resolve("network", network), names, "conv1x1"
        side, _ = _side(source, source_labels, label_line, network, out)
        facts |= {"training": TRAINING, "evaluation": "", "source": f"  source:\n    name: source\n{side}".rstrip("\n")}
    side, sequences = _side(target, target_labels, label_line, network, out)
    train, scored = _parts(sequences, val)
    text = TEXT.format(
        path=out.name, name=out.stem, classes=_flow(list(network_classes)), target=side.rstrip("\n"), network=network,
        train=train, val=scored, **facts,
    )  # fmt: skip
    from_yaml(text, Shift, f"Shift {out.name}")  # before anything is written: what is refused replaces no file
    write_atomically(real(out), text)
    return out


def named(classes: str) -> tuple[list[str], str]:
    """Names of classes, and the line of a side that says how labels hold them.

    Args:
        classes: names with commas, in the order of their ids; or a file of lines ``R G B name``.

    Raises:
        UsageError: neither.
    """
    file = Path(classes)
    if not file.is_file():
        names = [name.strip() for name in classes.split(",") if name.strip()]
        if len(names) < 2:
            raise UsageError(f"--classes: names with commas, or a file of lines `R G B name`, got '{classes}'")
        return names, "ids: " + _flow({**dict(enumerate(names)), 255: IGNORED})
    colours: dict[str, list[int]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split(maxsplit=3)
        if not parts or line.startswith("#"):
            continue
        if len(parts) < 4 or not all(part.isdigit() and int(part) < 256 for part in parts[:3]):
            raise UsageError(f"{file}, line {number}: three numbers of 0..255 and a name are expected, got '{line}'")
        name = parts[3].strip()
        colours[IGNORED if name.lower() in VOID else name] = [int(part) for part in parts[:3]]
    return [name for name in colours if name != IGNORED], "colors: " + _flow(colours)


def _model(file: Path) -> tuple[list[str], str, str]:
    """Classes, network and fusion of a model file or of a checkpoint that is converted when it is used."""
    try:
        info = read_info(file)
        classes, network, fusion = info.classes, info.network, info.fusion
    except RunError:
        converted = convert(file, "auto", "", "none")
        classes, network, fusion = converted.classes, converted.network, converted.fusion
    if classes is None:
        raise UsageError(f"{file} does not name its classes; convert it with --shift, or write them into the YAML")
    return list(classes), network, "conv1x1" if fusion == "none" else fusion


def _side(pictures: Path, labels: Path, names: str, network: str, out: Path) -> tuple[str, dict[str, int]]:
    """The lines of a side, and how many pictures each of its sequences has."""
    for kind, folder in (("pictures", pictures), ("labels", labels)):
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder of {kind}")
    paths = [path for path in _base.files_under(pictures, "")[0] if path.lower().endswith(PICTURES)]
    if not paths:
        raise RunError(f"{pictures}: no pictures ({', '.join(PICTURES)})")
    paths = sorted(paths, key=_base.natural)
    suffix = _suffix(paths, set(_base.files_under(labels, "")[0]), labels)
    size = picture_size(pictures / paths[0])
    scale = min(1.0, LARGEST / max(size))
    height, width = rounded_size(network, *(round(side * scale) for side in size))
    of_pictures = (labels / f"{PurePosixPath(path).with_suffix('')}{suffix}" for path in paths)
    marked = next(file for file in of_pictures if file.is_file())
    resize_line = (
        ""
        if picture_size(marked) == size
        else "    resize_labels: true       # they have another size than the pictures\n"
    )
    sequences = {str(PurePosixPath(folder)): len(files) for folder, files in Frames()._sequences(pictures).items()}
    return SIDE.format(
        height=height, width=width, folder=_near(pictures, out), labels=_near(labels, out), suffix=suffix, more=resize_line,
        names=names,
    ), sequences  # fmt: skip


def _suffix(pictures: list[str], labels: set[str], folder: Path) -> str:
    """The end of the labels' names, which stands in place of the pictures' ending."""
    for path in pictures:
        stem = str(PurePosixPath(path).with_suffix(""))
        endings = sorted(
            name.removeprefix(stem) for name in labels if name.startswith(stem) and name.lower().endswith(".png")
        )
        if endings:
            return endings[0]
    raise UsageError(
        f"{folder}: no .png whose name begins as a picture's does, e.g. {PurePosixPath(pictures[0]).stem}.png"
    )


def _parts(sequences: dict[str, int], val: str) -> tuple[str, str]:
    """Which pictures are adapted to and which are scored, by the share of each sequence."""
    try:
        share = float(val)
    except ValueError:
        share = -1
    if not 0 < share < 1:
        raise UsageError(f"--val: the share of each sequence that is adapted to, above 0 and below 1, got '{val}'")
    cuts = {name: round(share * count) for name, count in sequences.items()}
    if len(sequences) == 1:
        (cut,), (count,) = cuts.values(), sequences.values()
        ranges: tuple[Any, Any] = {"range": [0, cut]}, {"range": [cut, count]}
    else:
        before = {name: [0, cut] for name, cut in cuts.items() if cut > 0}
        after = {name: [cut, sequences[name]] for name, cut in cuts.items() if cut < sequences[name]}
        ranges = {"sequences": before}, {"sequences": after}
    return _flow(ranges[0]), _flow(ranges[1])


def _near(path: Path, out: Path) -> str:
    """A path relative to the YAML."""
    return Path(os.path.relpath(str(path), str(out.parent))).as_posix()


def _flow(value: Any) -> str:
    """As YAML on one line."""
    return str(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)).strip()
