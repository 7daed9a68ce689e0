"""A method, a network, a flow backend and a shift in files of one's own, for tests (fixture `files`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bench.core.registry import ROOT
from bench.runs.config import RunConfig, make_run_config

METHOD = '''
"""mine: squares."""
from methods.base import Card, Method

class Mine(Method):
    """Squares."""
    card = Card(key="mine", title="Mine", authors="-", venue="-", year=None, url="", design="image", setting="SFDA")

    def losses(self, target, source, step):
        return {"loss": self.segmenter(target.frames, target.flow, target.valid).scores.float().square().mean()}

METHOD = Mine
'''
NETWORK = '''
"""micro: one convolution."""
from torch import nn
from bench.networks.build import NetworkParts

class Encoder(nn.Module):
    channels, auxiliary_channels, stride = 8, 0, 8

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 8, stride=8), nn.BatchNorm2d(8)

    def forward(self, image):
        return self.norm(self.conv(image)), None

def build(num_classes):
    return NetworkParts(Encoder(), lambda channels: nn.Conv2d(channels, num_classes, 1))
'''
FLOW = '''
"""still: nothing moves."""
import numpy as np

def BACKEND(clip, clips, index):
    t, _, height, width = clip.frames.shape
    return np.zeros((t - 1, 2, height, width), np.float32), np.ones((t - 1, height, width), np.bool_)
'''

Files = dict[str, Path]


def write_files(folder: Path) -> Files:
    """A file of each kind in a new folder."""
    folder.mkdir()
    texts = {"mine": METHOD, "micro": NETWORK, "still": FLOW}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    shift = yaml.safe_load((ROOT / "shifts" / "ministreet-tiny.yaml").read_text(encoding="utf-8"))
    (folder / "small.yaml").write_text(yaml.safe_dump({**shift, "name": "small", "purpose": "report"}))
    return {path.stem: path for path in folder.iterdir()}


def config_of(files: Files, **options: Any) -> RunConfig:
    all_options = {"network": str(files["micro"]), "flow": str(files["still"]), **options}
    return make_run_config(str(files["mine"]), str(files["small"]), 0, all_options)
