"""A method, a network and a flow backend as somebody writes them in files of their own: ``mine``, ``micro``, ``still``."""

from __future__ import annotations

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
