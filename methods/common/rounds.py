"""Rounds of offline pseudo-labels: the whole target is labelled at once, and the labels are looked up by clip afterwards."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import ClipBatch
from methods.common.augment import Geometry
from methods.common.supervision import rescale
from methods.common.temporal import rescaled
from stpl import VideoSegmenter, class_quantiles
from stpl.pseudo_labels import IGNORE


def even_rounds(first: int, steps: int, rounds: int) -> tuple[int, ...]:
    """Starts of ``rounds`` equally long rounds over steps ``first .. steps - 1``; fewer where there are fewer steps."""
    length = steps - first
    return tuple(sorted({first + length * i // rounds for i in range(rounds)})) if length > 0 else ()


class LabelBank(nn.Module):
    """Labels ``uint8 (h, w)`` by clip key. Held in buffers, so that it is saved and resumed with the module that owns it.

    Memory is ``clips x h x w`` bytes, at score resolution: 0.6 MB on MiniStreet, 25 MB for the 2,975 clips of Cityscapes.
    """

    names: Tensor
    labels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("names", torch.empty(0, dtype=torch.int64))
        self.register_buffer("labels", torch.empty(0, 0, 0, dtype=torch.uint8))
        self._pending: list[tuple[list[int], Tensor]] = []
        self._places: dict[int, int] | None = None  # row of each name; None where ``names`` is to be read first

    def put(self, keys: Sequence[str], labels: Tensor) -> None:
        """Add labels ``(N, h, w)`` of some clips; they can be looked up once :meth:`close` was called."""
        self._pending.append(([_name(key) for key in keys], labels.to(torch.uint8)))

    def close(self) -> None:
        """Replace the labels of the last round by what was put in since.

        Raises:
            ValueError: nothing was put in, or a clip twice.
        """
        if not self._pending:
            raise ValueError("LabelBank.close: no labels were put in")
        names = [name for names, _ in self._pending for name in names]
        labels = torch.cat([labels for _, labels in self._pending])
        self._pending = []
        if len(set(names)) < len(names):
            raise ValueError("LabelBank.close: a clip was put in twice")
        order = sorted(range(len(names)), key=names.__getitem__)
        device = self.names.device
        self.labels = labels[torch.tensor(order, device=labels.device)].to(device)
        self.names = torch.tensor(sorted(names), device=device)
        self._places = {name: row for row, name in enumerate(sorted(names))}

    def of(self, keys: Sequence[str]) -> Tensor:
        """Labels int64 ``(N, h, w)`` of these clips.

        Raises:
            KeyError: a clip that was not in the round.
        """
        if self._places is None:  # after a resume; once, as it makes the processor wait for a GPU
            self._places = {name: row for row, name in enumerate(self.names.tolist())}
        names = [_name(key) for key in keys]
        if not self._places.keys() >= set(names):
            raise KeyError(
                f"LabelBank: no labels for all of {', '.join(keys)}; the round labelled {len(self.names)} clips"
            )
        rows = torch.tensor([self._places[name] for name in names])
        return self.labels[rows.to(self.labels.device, non_blocking=True)].long()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("names", "labels"):  # a saved round is of any size
            if prefix + name in state:
                setattr(self, name, torch.empty_like(state[prefix + name], device=self.names.device))
        self._places = None
        super()._load_from_state_dict(state, prefix, *args)


@contextlib.contextmanager
def in_mode(mode: str, *modules: nn.Module) -> Iterator[None]:
    """``eval`` or ``train`` (batch norm by its running statistics, or by the batch's) until the block ends, then ``train``."""
    for module in modules:
        module.train(mode == "train")
    try:
        yield
    finally:
        for module in modules:
            module.train()


@torch.no_grad()
def mean_over_views(
    segmenter: VideoSegmenter, clips: ClipBatch, percents: Sequence[int] = (100,), auxiliary: float = 0.0
) -> Tensor:
    """Probabilities ``(N, K, h, w)`` of the current frame, averaged over sizes and, of each, over the clip and its mirror image.

    Args:
        percents: of the clip's size; the maps are brought to those of the first one (bilinear, aligned corners).
        auxiliary: weight of the auxiliary head's scores, which are added to the main head's before the softmax.
    """
    n, maps = len(clips.keys), []
    mirror = Geometry(-torch.ones(n), torch.ones(n), torch.zeros(n, 2))
    for percent in percents:
        view = clips if percent == 100 else rescale(clips, percent)
        for turned in (False, True):
            moved = mirror.clips(view) if turned else view
            out = segmenter(moved.frames, moved.flow, moved.valid)
            scores = out.scores.float()
            if auxiliary > 0 and out.auxiliary_scores is not None:
                auxiliary_scores = F.interpolate(
                    out.auxiliary_scores.float(), scores.shape[-2:], mode="bilinear", align_corners=False
                )
                scores = scores + auxiliary * auxiliary_scores
            p = scores.softmax(1)
            maps.append(p.flip(-1) if turned else p)
    size = (maps[0].shape[-2], maps[0].shape[-1])
    return sum(p if p.shape[-2:] == size else rescaled(p, size) for p in maps) / len(maps)  # type: ignore[return-value]


@torch.no_grad()
def label_confident(
    bank: LabelBank, clips: Iterable[ClipBatch], predict: Callable[[ClipBatch], Tensor], drop: float, cap: float
) -> None:
    """Fill ``bank`` with the most likely class of every confident pixel of the target; 255 elsewhere.

    A pixel is confident if its probability is at least its class's threshold: the ``drop`` quantile of the class's confidences
    over the whole target, exactly (:func:`stpl.class_quantiles`), but never above ``cap``. One pass; held meanwhile are five
    bytes per pixel.

    Args:
        bank: replaced by the new labels.
        clips: the whole target.
        predict: probabilities ``(N, K, h, w)`` of a batch.
        drop: share of each predicted class that gets no label.
        cap: largest threshold.

    Source: FDA (Yang & Soatto, CVPR 2020), published code; CBST before it.
    """
    keys, confidences, labels, classes = [], [], [], 0
    for batch in clips:
        probabilities = predict(batch).float()
        classes = probabilities.shape[1]
        confidence, label = probabilities.max(1)
        keys.append(batch.keys)
        confidences.append(confidence)
        labels.append(label.to(torch.uint8))
    quantiles, _ = class_quantiles(torch.cat(confidences), torch.cat(labels), classes, drop)
    thresholds = quantiles.clamp(max=cap)
    for names, confidence, label in zip(keys, confidences, labels, strict=True):
        bank.put(names, torch.where(confidence >= thresholds[label.long()], label, IGNORE))
    bank.close()


def _name(key: str) -> int:
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
