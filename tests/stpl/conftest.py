"""One thread and repeatable examples for the library's tests."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("stpl", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("stpl")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
