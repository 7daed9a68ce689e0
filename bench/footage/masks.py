"""Masks, overlays and films of a prediction: which id and colour a class has, which files there are, and how they are written."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.files import write_atomically
from bench.data.datasets.frames import Frames
from bench.data.label_maps import label_space
from bench.data.labels import CLASSES, PALETTE
from bench.data.splits import Store
from bench.pictures.media import FILMS, Colour, overlay, write_labels, write_palette_png, write_png

from .predict import Prediction


@dataclass(frozen=True)
class Legend:
    """How classes become pixels, by train id.

    Attributes:
        ids: what a mask holds.
        colours: of overlays, and of masks with a palette.
        palette: masks have the colours beside the ids.
    """

    classes: tuple[str, ...]
    ids: tuple[int, ...]
    colours: tuple[Colour, ...]
    palette: bool = False

    def as_json(self) -> str:
        """``legend.json``."""
        rows = zip(self.ids, self.classes, self.colours, strict=True)
        return json.dumps([{"id": i, "name": name, "color": list(c)} for i, name, c in rows], indent=1) + "\n"


def legend_of(classes: tuple[str, ...], described: Frames | None = None) -> Legend:
    """Ids and colours of a model's classes.

    Ids are the first that one's own description names for each class; else, for a known label space, those of Cityscapes; else
    train ids. A class that the description does not name has an id that it leaves free. Colours likewise: those that the
    description names, Cityscapes', or spread over its palette.
    """
    ids: tuple[int, ...] = tuple(range(len(classes)))
    try:
        space = label_space(classes)
        colours, ids, palette = space.palette, space.label_ids, False
    except UsageError:
        by_name = dict(zip(CLASSES, PALETTE, strict=True))
        colours = tuple(by_name.get(name, PALETTE[i % len(PALETTE)]) for i, name in enumerate(classes))
        palette = True
    if described is None or not described.names:
        return Legend(classes, ids, colours, palette)
    first_id = {name: raw for raw, name in reversed(list(described.names.items()))}
    if described.coloured:
        described_colours = tuple(
            described.colours[first_id[n]] if n in first_id else c for n, c in zip(classes, colours, strict=True)
        )
        return Legend(classes, tuple(range(len(classes))), described_colours, palette=True)
    preferred = {name: i for name, i in zip(classes, ids, strict=True) if not palette and i not in described.names}
    free = (i for i in range(256) if i not in described.names and i not in preferred.values())
    return Legend(
        classes,
        tuple(first_id[n] if n in first_id else preferred[n] if n in preferred else next(free) for n in classes),
        colours,
    )


Looks = tuple[bool, str, float]
"""Whether overlays are written, ``mp4``, ``gif`` or ``none`` for a film of each sequence, and its pictures per second."""
Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Masks:
    """The files of a prediction in an output folder.

    Attributes:
        overlays: write the pictures under their classes' colours.
        video: ``mp4``, ``gif`` or ``none``: a film of each sequence.
        rate: its pictures per second.
    """

    out: Path
    legend: Legend
    overlays: bool
    video: str
    rate: float

    def label_name(self, key: str) -> str:
        """Name of a clip's mask."""
        return f"labels/{key.replace('/', '__')}{'' if self.legend.palette else '_pred_labelIds'}.png"

    def film_name(self, sequence: str) -> str:
        """Name of a sequence's film."""
        return f"{sequence.replace('/', '__') if sequence not in ('', '.') else 'film'}.{self.video}"

    def names(self, store: Store) -> list[str]:
        """All files that :meth:`write` will write for a store.

        Raises:
            UsageError: two of one name.
        """
        keys = [store.key(number) for number in range(len(store))]
        names = [self.label_name(key) for key in keys] + ["legend.json", "predict.json"]
        names += [f"overlays/{key.replace('/', '__')}.png" for key in keys] if self.overlays else []
        if self.video != "none":
            names += [
                self.film_name(sequence) for sequence in dict.fromkeys(store.sequence(n) for n in range(len(store)))
            ]
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise UsageError(f"Two of the files to write would be {self.out / name}; rename a picture or its folder")
        return names

    def write(self, folder: Path, predicted: Iterator[Prediction]) -> dict[str, int]:
        """Write all files into a folder; returns how many of each kind. One picture is held at a time, but for GIFs.

        Raises:
            RunError: the disk is full or read-only.
        """
        legend, counts = self.legend, {"label maps": 0, "overlays": 0, "films": 0}
        write_atomically(folder / "legend.json", legend.as_json())
        for sequence, group in itertools.groupby(predicted, lambda prediction: prediction.sequence):
            film = FILMS[self.video](folder / self.film_name(sequence), self.rate) if self.video != "none" else None
            good = False
            try:
                for prediction in group:
                    key, labels = prediction.key.replace("/", "__"), prediction.labels
                    if legend.palette:
                        write_palette_png(folder / self.label_name(key), labels, legend.colours)
                    else:
                        write_labels(folder / "labels", key, labels, legend.ids)
                    counts["label maps"] += 1
                    if not (self.overlays or film):
                        continue
                    shown = overlay(prediction.frame, labels, legend.colours)
                    if self.overlays:
                        write_png(folder / "overlays" / f"{key}.png", shown)
                        counts["overlays"] += 1
                    if film:
                        film.add(shown)
                good = True
            finally:
                if film:
                    film.close(keep=good)
                    counts["films"] += 1
        return counts
