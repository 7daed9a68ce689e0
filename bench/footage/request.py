"""What an adaptation to one's own footage was asked for."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from bench.core.schema import Model
from bench.shifts.protocol import Adaptation


class Request(Model):
    """What was asked for, completely; written as ``adapt.yaml``. Nothing in it says where a file lies."""

    LATER: ClassVar[tuple[str, ...]] = ("plugins",)

    checkpoint: str
    method: str
    settings: dict[str, Any]
    flow: str
    size: tuple[int, int]
    pictures: int
    content: str
    seed: int = Field(ge=0)
    schedule: Adaptation
    plugins: dict[str, str] = Field(default={})
