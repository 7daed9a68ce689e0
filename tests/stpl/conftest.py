"""One thread and repeatable examples for the library's tests."""

import pytest
import torch
from hypothesis import settings

from tests.threads import one_thread  # noqa: F401

settings.register_profile("stpl", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("stpl")


@pytest.fixture(autouse=True)
def one_seed() -> None:
    torch.manual_seed(0)
