"""The splits of a shift: what must be prepared before a run, and how its clips are opened.

A :class:`Split` is a name, an identity and a way to open its clips; whether they are rendered or recorded is known here alone.
Recorded data lies where the user keeps it, so the folders of each split are made known to :mod:`bench.core.access` first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.core.access import guard
from bench.core.errors import BadFile, RunError, UsageError
from bench.core.loading import source_hash
from bench.core.schema import hash_of
from bench.shifts.protocol import Recorded, Shift, Videos

from . import described
from .clip import Clip, LabelledClip
from .datasets import dataset, dataset_names
from .index import Index, prepare_index
from .label_maps import id_table
from .labels import CLASSES, IGNORE
from .recorded import VideoStore
from .rendered import ClipStore, prepare_split, split_identity

if TYPE_CHECKING:
    from bench.core.workspace import Workspace


class LabelMaps(Protocol):
    """Label maps uint8 ``(H, W)`` by number: an array, or read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> npt.NDArray[np.uint8]: ...


class Store(Protocol):
    """Clips of one split by number; labels only where the stage grants them."""

    @property
    def carries_flow(self) -> bool:
        """Whether the clips bring their exact flow."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Clip: ...

    def key(self, index: int) -> str:
        """Name of a clip, unique in its split."""
        ...

    def sequence(self, index: int) -> str:
        """The video that a clip is taken from."""
        ...

    def follows(self, index: int) -> bool:
        """Whether a clip's frame t comes right after that of the clip before it, in the same video."""
        ...

    def labels(self) -> LabelMaps:
        """Label maps ``(H, W)`` by number, at the size at which they are used."""
        ...

    def previous_labels(self) -> LabelMaps:
        """The same of the frames before t, ``(T-1, H, W)``, of a split that was prepared with them."""
        ...

    def labelled(self, index: int) -> LabelledClip:
        """A clip with its label at the clip's size."""
        ...


@dataclass(frozen=True)
class Split:
    """One split of a shift.

    Attributes:
        name: ``<role>-<split>-<hash of the identity>``.
        identity: everything that its clips depend on.
        open: gives its clips.
    """

    name: str
    identity: dict[str, Any]
    open: Callable[[], Store]


def check_data(shift: Shift) -> None:
    """Check what a shift says of its data against the data sets and domains that there are.

    Raises:
        ValueError: classes, data sets, domains or sizes that do not fit; names the field.
    """
    data = shift.data
    if isinstance(data, Videos):
        for role, side in (("source", data.source), ("target", data.target)):
            if not isinstance(side, Recorded):
                continue
            if side.dataset not in dataset_names():
                raise ValueError(f"data.{role}.dataset is '{side.dataset}'; available: {', '.join(dataset_names())}")
            try:
                id_table(side.dataset, shift.label_classes(role))
            except UsageError as error:
                raise ValueError(f"data.{role}.dataset: {error}") from None
        return
    if shift.classes != CLASSES:
        raise ValueError(f"classes must be those of {data.kind}, in train-id order: {', '.join(CLASSES)}")
    from .ministreet import DOMAINS, check_frozen, get_domain  # here alone: a method's process has no renderer

    batches = {"source": shift.training.batch, "target": shift.adaptation.batch}
    for role, batch in batches.items():
        part = getattr(data, role)
        if part.domain not in DOMAINS:
            raise ValueError(f"data.{role}.domain is '{part.domain}'; available: {', '.join(sorted(DOMAINS))}")
        try:
            get_domain(part)
            if shift.purpose == "report":
                check_frozen(part)
        except ValueError as error:
            raise ValueError(f"data.{role}.{error}") from None
        if part.train < batch:
            raise ValueError(f"data.{role}.train ({part.train}) is smaller than the batch ({batch})")


def identity_of(
    shift: Shift, role: str, split: str, replicate: int, workspace: Workspace | None, labelled: bool = False
) -> dict[str, Any]:
    """Everything that the clips of a split depend on.

    A frame list of recorded data is read from the disk, or found in the cache from an earlier time: source-free runs go on when
    the source data has gone.

    Raises:
        RunError: no such data, and no frame list of it in the cache.
        UsageError: no data root for recorded data.
    """
    if not isinstance(shift.data, Videos):
        return split_identity(shift.data, role, split, replicate)
    if described.side_of(shift, role) is not None:
        return described.identity(shift, role, split, workspace, labelled or (role, split) != ("target", "train"))
    side: Recorded = getattr(shift.data, role)
    plugin = source_hash("dataset", side.dataset)
    return {
        **({"source": plugin} if plugin else {}),
        "kind": "video",
        "dataset": side.dataset,
        "split": split,
        "index": _index(shift.data, role, split, workspace).hash,
        "size": [side.height, side.width],
        "frames": shift.data.frames,
        "classes": list(shift.classes),
    }


def prepare(
    shift: Shift,
    role: str,
    split: str,
    replicate: int,
    workspace: Workspace,
    previous_labels: bool = False,
    labelled: bool = False,
) -> Split:
    """A split, rendered now if it is not in the cache; of recorded data the frame list is read from the disk.

    Args:
        previous_labels: with the labels of the frames before t; name and identity of the split stay the same.
        labelled: of a target's training pictures those alone that have a label. Of the other splits none is without.

    Raises:
        RunError: the cache cannot be written, data is missing.
        UsageError: no data root for recorded data; no labels of earlier frames where they are asked for.
    """
    identity = identity_of(shift, role, split, replicate, workspace, labelled)
    if not isinstance(shift.data, Videos):
        arguments = shift.data, role, split, replicate, workspace.cache, workspace.progress
        folder, earlier = (
            prepare_split(*arguments),
            [prepare_split(*arguments, earlier=True)] if previous_labels else [],
        )
        return Split(folder.name, identity, partial(ClipStore, folder, *earlier))
    watch(shift, workspace)
    if described.side_of(shift, role) is not None:
        labelled = labelled or (role, split) != ("target", "train")
        if previous_labels:
            raise UsageError(
                "This method needs labels of the frames before t too, which pictures of one's own do not bring"
            )
        clips = described.open_split(shift, role, split, workspace, labelled)
        return Split(f"{role}-{split}-{hash_of(identity)}", identity, clips)
    side: Recorded = getattr(shift.data, role)
    data, root = dataset(side.dataset), root_of(side, workspace)
    if not root.is_dir():
        raise RunError(f"Data set '{side.dataset}' is not at {root}; see `bench data check {side.dataset}`")
    size, rule = (side.height, side.width), shift.evaluation
    scored = role == "target" and split == "val"
    label_size = (rule.height, rule.width) if scored and rule.height and rule.width else size
    items = _index(shift.data, role, split, workspace).items
    if previous_labels and not all(item.previous_labels for item in items):
        raise UsageError(f"This method needs labels of the frames before t too, and data set '{side.dataset}' has none")
    ids = id_table(side.dataset, shift.label_classes(role))
    return Split(
        f"{role}-{split}-{hash_of(identity)}", identity, partial(VideoStore, root, data, items, ids, size, label_size)
    )


def check_labels(split: Split, skip_bad: bool = False) -> None:
    """See that a split has a label with a class in it, before hours are spent on what will be scored with it.

    Labels are read until there is one, which usually is the first. Rendered clips always have some.

    Raises:
        RunError: all labels are ignored throughout, or one cannot be read (BadFile; with ``skip_bad`` it is passed over).
    """
    if split.identity.get("kind") not in ("video", "pictures"):
        return
    store, unreadable = split.open(), 0
    labels = store.labels()
    for index in range(len(store)):
        try:
            if (labels[index] != IGNORE).any():
                return
        except BadFile:
            unreadable += 1
            if not skip_bad:
                raise
    name, role = split.identity["dataset"], split.name.rsplit("-", 1)[0]
    rest = f", {unreadable} cannot be read" if unreadable else ""
    see = "`bench shift check`" if split.identity["kind"] == "pictures" else f"`bench data check {name}`"
    raise RunError(
        f"None of the {len(store)} labels of {role} ({name}) has a pixel of the classes: all are ignored{rest}; see {see}"
    )


def _index(data: Videos, role: str, split: str, workspace: Workspace | None) -> Index:
    side: Recorded = getattr(data, role)
    assert workspace is not None, "recorded data lies in a workspace"
    root = root_of(side, workspace)
    return prepare_index(dataset(side.dataset), root, split, data.frames, workspace.cache)


def root_of(side: Recorded, workspace: Workspace) -> Path:
    """Where a data set lies under the data root.

    Raises:
        UsageError: no data root was given.
    """
    if workspace.data_root is None:
        raise UsageError(f"Data set '{side.dataset}' is read from disk: give --data-root DIR or set $BENCH_DATA")
    return workspace.data_root / dataset(side.dataset).folder


def watch(shift: Shift, workspace: Workspace) -> None:
    """Make known which grant it takes to open the files of both sides of a shift of recorded videos."""
    if isinstance(shift.data, Videos):
        described.close_folders(shift, workspace)
        for role, side in (("source", shift.data.source), ("target", shift.data.target)):
            if isinstance(side, Recorded):
                guard(root_of(side, workspace), role, dataset(side.dataset).guards())
