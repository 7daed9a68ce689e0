"""cityscapes_seq: the Cityscapes videos (Cordts et al., CVPR 2016), 30-frame snippets at 2048x1024, one frame of each labelled.

Layout of ``leftImg8bit_sequence_trainvaltest.zip`` and ``gtFine_trainvaltest.zip``::

    leftImg8bit_sequence/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png
    gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png

The labelled frame is number 19 of its snippet, counted from 0. Clips are derived from the image names alone, so a target
without labels gives the same clips; snippets that were thinned out (only t-1 and t kept) are understood too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from . import _base
from ._base import Colour, Ids, Item, Size, UInt8

SNIPPET, LABELLED = 30, 19
"""Frames of a snippet, and the place of the labelled one."""

_IMAGE = re.compile(r"leftImg8bit_sequence/(\w+)/([\w-]+)/\2_(\d{6})_(\d{6})_leftImg8bit\.png")
_LABEL = re.compile(r"gtFine/(\w+)/([\w-]+)/\2_(\d{6})_(\d{6})_gtFine_labelIds\.png")
_OTHER = re.compile(
    r"gtFine/(\w+)/([\w-]+)/\2_\d{6}_\d{6}_gtFine_"
    r"(?:(?:color|instanceIds|labelTrainIds|instanceTrainIds)\.png|polygons\.json)"
)


def snippets(numbers: Iterable[int]) -> Iterator[list[int]]:
    """Frame numbers of one recording by snippet. A snippet reaches over thirty numbers from its first; what is lost inside
    it leaves a hole and does not cut it in two.

    >>> list(snippets([7, 8, 9, 11, 36, 37, 50]))
    [[7, 8, 9, 11, 36], [37, 50]]
    """
    run: list[int] = []
    for number in sorted(numbers):
        if run and number >= run[0] + SNIPPET:
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def ends(images: Iterable[int], labels: Iterable[int]) -> set[int]:
    """Frame numbers of one recording at which clips end: labelled frames; in a snippet of which no label is there frame 19
    (whether or not it is there: a lost file is to be missed, not skipped), or the last one if the snippet is shorter."""
    numbers = set(labels)
    for snippet in snippets(images):
        if numbers.isdisjoint(range(snippet[0], snippet[0] + SNIPPET)):
            numbers.add(min(snippet[0] + LABELLED, snippet[-1]))
    return numbers


class CityscapesSeq:
    """See the module's text."""

    name = "cityscapes_seq"
    folder = "Cityscapes"
    size: Size | None = (1024, 2048)
    raw_size = size
    counts: ClassVar[Mapping[str, int]] = {"train": 2975, "val": 500}
    splits = ("train", "val")

    @cached_property
    def names(self) -> Mapping[int, str]:
        """From the official scripts."""
        from cityscapesscripts.helpers.labels import labels

        return {label.id: label.name for label in labels}

    @cached_property
    def colours(self) -> Mapping[int, Colour]:
        """From the official scripts."""
        from cityscapesscripts.helpers.labels import labels

        return {label.id: label.color for label in labels if label.id >= 0}

    def items(self, root: Path, split: str, frames: int = 2) -> list[Item]:
        """One clip per snippet."""
        _base.check_split(self.name, split, self.splits, frames)
        images: dict[tuple[str, str], list[int]] = defaultdict(list)
        labels: dict[tuple[str, str], list[int]] = defaultdict(list)
        for m in _base.matches(root, f"leftImg8bit_sequence/{split}", _IMAGE):
            images[m[2], m[3]].append(int(m[4]))
        for m in _base.matches(root, f"gtFine/{split}", _LABEL):
            labels[m[2], m[3]].append(int(m[4]))

        def item(city: str, recording: str, t: int) -> Item:
            stem = f"{city}/{city}_{recording}"
            return Item(
                key=f"{city}_{recording}_{t:06d}",
                sequence=f"{city}_{recording}",
                frames=tuple(
                    f"leftImg8bit_sequence/{split}/{stem}_{k:06d}_leftImg8bit.png" for k in range(t - frames + 1, t + 1)
                ),
                label=f"gtFine/{split}/{stem}_{t:06d}_gtFine_labelIds.png",
            )

        return _base.in_order(
            (
                item(*video, t)
                for video in {*images, *labels}
                for t in ends(images[video], labels[video])
                if t >= frames - 1
            ),
            self.name,
            root,
            f"leftImg8bit_sequence/{split}/<city>/<city>_000000_000019_leftImg8bit.png",
        )

    def read_frame(self, file: Path, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """See `Dataset.read_frame`."""
        return _base.resized_rgb(_base.colour_picture(file, expect), size)

    def read_label(self, file: Path, ids: Ids, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """See `Dataset.read_label`."""
        return _base.to_train(_base.label_ids(file, size, expect, self.colours), ids)

    def look(self, file: Path, label: bool) -> Size:
        """See `Dataset.look`."""
        picture = _base.id_picture(file, colours=self.colours) if label else _base.colour_picture(file)
        return picture.height, picture.width

    def guards(self) -> Mapping[str, str]:
        """See `Dataset.guards`."""
        places = (("leftImg8bit_sequence", ""), ("gtFine", "/label"))
        return {f"{part}/{split}": split + end for split in self.splits for part, end in places}

    def belongs(self, path: str) -> bool:
        """See `Dataset.belongs`."""
        return any(form.fullmatch(path) for form in (_IMAGE, _LABEL, _OTHER))


DATASET = CityscapesSeq()
