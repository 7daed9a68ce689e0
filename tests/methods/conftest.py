"""Shared by the method tests: one thread, so that sums have one order; ``--method FILE`` tests a method from anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from bench.core.registry import resolve

NAME = pytest.StashKey[str]()
"""Of the method that ``--method`` names."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--method", help="File of a method: the contract suite tests it alone.")


def pytest_configure(config: pytest.Config) -> None:
    if file := config.getoption("--method"):
        config.stash[NAME] = resolve("method", file)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if name := config.stash.get(NAME, None):
        items[:] = [
            item for item in items if getattr(item, "callspec", None) and item.callspec.params.get("name") == name
        ]  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
