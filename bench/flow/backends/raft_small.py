"""``raft_small``: torchvision's small RAFT, faster and less exact; weights by download, or $BENCH_RAFT_SMALL_WEIGHTS."""

from __future__ import annotations

from .._estimated import backend
from .._raft import Raft

RAFT = Raft("raft_small", "BENCH_RAFT_SMALL_WEIGHTS")
identity = RAFT.identity
reads = RAFT.reads
BACKEND = backend(RAFT)
