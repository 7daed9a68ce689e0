"""A leaderboard of hand-made records, and the site that is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from bench.analysis.strips import film_name
from bench.leaderboards import page
from bench.pages import extra
from tests.bench.leaderboards.made import SHIFT, commit, committed_standard

MISSING = [name for name in extra.NEEDED if extra.find_spec(name) is None]
EXTRA = f"not installed: {', '.join(MISSING)} (pip install '.[site]')"
needs_extra = pytest.mark.skipif(bool(MISSING), reason=EXTRA)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
"""What somebody might write into a file that is read here."""


@pytest.fixture(scope="module", autouse=True)
def no_drawings() -> Iterator[None]:
    """Whether figures are fresh is tested with the pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.leaderboards.generated.Drawing.stale", lambda _: [])
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records and the pages made of them; one picture stands for the figures, which take most of the time."""
    root = tmp_path_factory.mktemp("leaderboards")
    commit(root, committed_standard())
    (root / "figures").mkdir()
    for name in (SHIFT, f"{SHIFT}-panels"):
        Image.new("RGB", (600, 300), "#2a6fbb").save(root / "figures" / f"{name}.png")
    for name, colour in {"frames": "#804020", "source_only": "#c02020", "stpl": "#2020c0"}.items():
        film = Image.new("RGB", (256, 4 * 128), colour)
        film.paste("#20c020", (0, 128, 256, 256))  # the second of four frames is green
        film.save(root / "figures" / film_name(SHIFT, name))
    page.write(root)
    return root


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of :func:`root` on disk."""
    from bench.pages.site import write_site

    out = tmp_path_factory.mktemp("site") / "out"
    write_site(root, out)
    return out


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test runs in a folder of its own: commands write there by default."""
    monkeypatch.chdir(tmp_path)
