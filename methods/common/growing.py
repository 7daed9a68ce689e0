"""Buffers whose size is known only while a method runs, saved and resumed with it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Growing(nn.Module):
    """A module whose buffers named in :attr:`GROWING` take any size, also when a state is loaded. They start empty."""

    GROWING: ClassVar[dict[str, torch.dtype]] = {}
    """Buffers by name, with their dtype."""

    def __init__(self) -> None:
        super().__init__()
        for name, dtype in self.GROWING.items():
            self.register_buffer(name, torch.empty(0, dtype=dtype))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.GROWING:
            if prefix + name in state:
                mine: Tensor = getattr(self, name)
                setattr(self, name, torch.empty_like(state[prefix + name], device=mine.device))
        super()._load_from_state_dict(state, prefix, *args)
