"""Cases of reference vectors: `pytest tests/reference [--vectors DIR]`.

A test module names its file in ``FILE``; a test that takes ``case`` says which input suffix makes a case, and runs once
for every prefix of that suffix in the file::

    FILE = "pixel_contrast"

    @pytest.mark.cases("in_features")
    def test_loss(case): case["in_features"] ...

Nothing else about the file is fixed: prefixes, shapes and class counts are discovered.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

COMMITTED = Path(__file__).parent / "vectors"


class Case:
    """The arrays of one case, by suffix; ``tensor`` gives torch copies.

    An output that another folder's case does not have ends the test as skipped; in the committed vectors nothing may be missing.
    """

    def __init__(self, arrays, prefix, complete):
        self.arrays = arrays
        self.prefix = prefix
        self.complete = complete

    def __contains__(self, suffix):
        return self.prefix + suffix in self.arrays

    def __getitem__(self, suffix):
        if "out_" in suffix and suffix not in self and not self.complete:
            pytest.skip(f"this case has no {self.prefix}{suffix}")
        return self.arrays[self.prefix + suffix]

    def tensor(self, suffix):
        return torch.from_numpy(self[suffix].copy())

    def suffixes(self):
        return [key[len(self.prefix) :] for key in self.arrays if key.startswith(self.prefix)]


def pytest_addoption(parser):
    parser.addoption("--vectors", metavar="DIR", default=None, help="folder of reference vectors to check against")


def pytest_configure(config):
    config.addinivalue_line("markers", "cases(*suffixes): run once per prefix that has all of these keys")


def folder_of(config):
    option = config.getoption("--vectors", default=None)
    return Path(option) if option else COMMITTED


def load(folder, name):
    with np.load(folder / f"{name}.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def pytest_generate_tests(metafunc):
    if "case" not in metafunc.fixturenames:
        return
    folder, name = folder_of(metafunc.config), metafunc.module.FILE
    if not (folder / f"{name}.npz").is_file():
        if folder == COMMITTED:
            raise FileNotFoundError(f"{folder / name}.npz is missing; it is part of the repository")
        reason = pytest.mark.skip(reason=f"{folder} has no {name}.npz")
        metafunc.parametrize("case", [pytest.param(None, marks=reason)], ids=["missing"])
        return
    arrays = load(folder, name)
    suffixes = next(metafunc.definition.iter_markers("cases")).args
    prefixes = [key.removesuffix(suffixes[0]) for key in arrays if key.endswith(suffixes[0])]
    prefixes = [prefix for prefix in prefixes if all(prefix + suffix in arrays for suffix in suffixes)]
    cases = [Case(arrays, prefix, folder == COMMITTED) for prefix in prefixes]
    metafunc.parametrize("case", cases, ids=[prefix.strip("_") or "all" for prefix in prefixes])


@pytest.fixture
def assert_close():
    """Compare with the tolerances of the vectors' README: by dtype of the expected values, or as told."""

    def check(actual, expected, *, rtol=None):
        expected = np.asarray(expected)
        actual = actual.detach().numpy() if isinstance(actual, torch.Tensor) else np.asarray(actual)
        assert actual.shape == expected.shape
        if expected.dtype == np.float64:
            np.testing.assert_allclose(actual, expected, rtol=rtol or 1e-7, atol=1e-12)
        elif expected.dtype == np.float32:
            scale = float(np.nanmax(np.abs(expected), initial=0.0)) if expected.ndim else 0.0
            zero = expected == 0  # nothing is near it in relative terms; one rounding of a value around 1 is
            np.testing.assert_allclose(actual[zero], expected[zero], rtol=0, atol=max(1e-7, 1e-5 * scale))
            np.testing.assert_allclose(actual[~zero], expected[~zero], rtol=rtol or 1e-5, atol=1e-5 * scale)
        else:
            np.testing.assert_array_equal(actual, expected)

    return check
