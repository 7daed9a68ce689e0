"""``raft``: torchvision's RAFT, large (Teed and Deng, ECCV 2020); needs its weights: a download, or $BENCH_RAFT_WEIGHTS."""

from __future__ import annotations

from .._estimated import backend
from .._raft import Raft

RAFT = Raft("raft_large", "BENCH_RAFT_WEIGHTS")
identity = RAFT.identity
reads = RAFT.reads
BACKEND = backend(RAFT)
