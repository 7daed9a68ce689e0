"""Every reader of the benchmark: how a small valid file of its kind is made, how it is read, and how files of it go wrong.

What a reader says of a damaged file is an error of :data:`TYPED`; caches that would be made again say so with :class:`Again`.
"""

from .base import TYPED, Reader
from .clips import CLIPS
from .flows import FLOWS
from .own import OWN
from .pictures import PICTURES
from .runs import RUNS
from .sweeps import SWEEPS
from .weights import WEIGHTS

READERS = {reader.name: reader for reader in (*PICTURES, *FLOWS, *WEIGHTS, *CLIPS, *RUNS, *SWEEPS, *OWN)}
__all__ = ["READERS", "TYPED", "Reader"]
