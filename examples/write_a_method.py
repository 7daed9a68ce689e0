"""A method of one's own in one file: learn where two frames agree. `bench run --method examples/write_a_method.py` runs it too.

python examples/write_a_method.py [SHIFT]

The same place of the street is seen in two frames. Where the network gives it one class in both, that class is taken as its label.
A method is named as its file is; CONTRIBUTING.md, "Add a method", says what else it can have.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import bench
from methods.base import Card, ClipBatch, LabelledBatch, Method, ours

IGNORE = 255


@dataclass(frozen=True)
class Settings:
    """What `-o weight=...` sets."""

    weight: float = ours(1.0, "of the only loss")


class TwoFramesAgree(Method):
    """Cross entropy on the classes that the current and the previous frame agree on."""

    card = Card(
        key="write_a_method",
        title="Two frames agree",
        authors="you",
        venue="examples/write_a_method.py",
        year=2026,
        url="https://example.org",
        design="video",
        setting="SFDA",  # unlabelled target clips; "UDA" gets a labelled source batch beside them
    )
    Settings = Settings
    settings: Settings

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        clip = self.segmenter(target.frames, target.flow, target.valid)
        with torch.no_grad():
            now = self.segmenter.classify(self.segmenter.fuse_alone(clip.current)).argmax(1)
            before = self.segmenter.classify(self.segmenter.fuse_alone(clip.previous[0])).argmax(1)  # along the flow
            labels = torch.where(now == before, now, IGNORE)
            labels[:, 0, 0] = now[:, 0, 0]  # never without a label
        return {"agreement": self.settings.weight * cross_entropy(clip.scores, labels, ignore_index=IGNORE)}


METHOD = TwoFramesAgree

if __name__ == "__main__":
    shift = sys.argv[1] if len(sys.argv) > 1 else "ministreet"
    for method in ("source_only", "adabn", __file__):
        record = bench.run(method, shift)
        print(f"{record.method['title']:18} {record.result.miou:5.1f} mIoU")
