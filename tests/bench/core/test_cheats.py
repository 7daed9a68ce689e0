"""Methods that try to read what is closed to them, in plain Python: each is stopped, and nothing finished is left behind."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import AccessError
from bench.core.workspace import Workspace
from bench.runs.config import make_run_config
from bench.runs.run import run

TINY = "ministreet-tiny"
pytestmark = pytest.mark.usefixtures("no_figures")


CHEATS = {
    "target-train labels": "import numpy as np; np.load({target-train!r} + '/label.npy')",
    "target-val frames": "import numpy as np; np.load({target-val!r} + '/frames.npy', mmap_mode='r')",
    "target-val labels": "open({target-val!r} + '/label.npy', 'rb').read()",
    "source frames": "import pathlib; pathlib.Path({source-train!r}, 'frames.npy').read_bytes()",
    "source labels": "import numpy as np; np.memmap({source-train!r} + '/label.npy', mode='r')",
    "source validation": "import numpy as np; np.load({source-val!r} + '/frames.npy')",
    "glob": """
        import glob
        for path in glob.glob({cache!r} + '/**/label.npy', recursive=True):
            with open(path, 'rb') as file:
                file.read()""",
    "mmap": """
        import mmap, os
        handle = os.open({target-train!r} + '/label.npy', os.O_RDONLY)
        mmap.mmap(handle, 0, prot=mmap.PROT_READ)""",
    "thread": """
        import concurrent.futures, numpy
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(numpy.load, {target-train!r} + '/label.npy').result()""",
    "ClipStore.labels": """
        from pathlib import Path
        from bench.data.rendered import ClipStore
        ClipStore(Path({target-train!r})).labels()""",
    "ClipStore.labelled": """
        from pathlib import Path
        from bench.data.rendered import ClipStore
        ClipStore(Path({target-train!r})).labelled(0)""",
    "LabelledLoader": """
        from pathlib import Path
        from bench.data.loaders import LabelledLoader
        from bench.data.rendered import ClipStore
        from bench.flow.backends.exact import exact
        LabelledLoader(ClipStore(Path({target-train!r})), exact, 1, 0)""",
    "a wider stage": """
        import numpy as np
        from bench.core.access import stage
        with stage('target-train', 'target-train/label', 'target-val'):
            np.load({target-train!r} + '/label.npy')""",
    "render the same world": """
        from bench.runs.config import load_shift
        from bench.data.ministreet import render_clip
        from bench.data.rendered import split_identity
        world = split_identity(load_shift('ministreet-tiny').data, 'target', 'train', 0)['world']
        render_clip('cam', world, 0, 64, 128)""",
    "prepare another split": """
        from pathlib import Path
        from bench.runs.config import load_shift
        from bench.data.rendered import prepare_split
        prepare_split(load_shift('ministreet-tiny').data, 'target', 'train', 123, Path({cache!r}))""",
    "prepare the validation split": """
        from pathlib import Path
        from bench.runs.config import load_shift
        from bench.data.rendered import prepare_split
        prepare_split(load_shift('ministreet-tiny').data, 'target', 'val', 0, Path({cache!r}))""",
    "another process": "import subprocess; subprocess.run(['cat', {target-train!r} + '/label.npy'], check=True)",
    "rename": """
        import os
        os.rename({target-train!r}, {cache!r} + '/free')""",
}


def filled(code: str, splits: dict[str, Path], cache: Path) -> str:
    """The code of a cheat with the paths filled in."""
    paths = {name: str(path) for name, path in splits.items()} | {"cache": str(cache)}
    for name, path in paths.items():
        code = code.replace("{" + name + "!r}", repr(path))
    return textwrap.dedent(code).strip()


@pytest.mark.parametrize("cheat", CHEATS)
@pytest.mark.parametrize("where", ["losses", "__init__"])
def test_a_source_free_method_cannot_cheat(
    cheat: str, where: str, fake_method: Callable[..., str], splits: dict[str, Path], workspace: Workspace
) -> None:
    code = filled(CHEATS[cheat], splits, workspace.cache)
    if where == "losses":
        name = fake_method(losses=code)
    else:
        body = textwrap.indent(code, " " * 8)
        members = f"    def __init__(self, *a):\n        super().__init__(*a)\n{body}\n"
        name = fake_method(more=members)
    config = make_run_config(name, TINY)
    with pytest.raises(AccessError, match=r"closed|No process"):
        run(config, workspace)
    folder = workspace.runs / config.hash
    assert not (folder / "record.json").exists() and not (folder / "checkpoint.safetensors").exists()


def test_a_cheat_is_one_line_and_exit_code_1(
    fake_method: Callable[..., str], splits: dict[str, Path], workspace: Workspace
) -> None:
    name = fake_method(losses=filled(CHEATS["target-train labels"], splits, workspace.cache))
    folders = ["--runs", str(workspace.runs), "--cache", str(workspace.cache)]
    result = CliRunner().invoke(cli.app, ["run", "-m", name, "--shift", TINY, *folders])
    assert result.exit_code == 1
    lines = result.stderr.strip().splitlines()
    assert len([line for line in lines if line.startswith("bench: ")]) == 1 and "Traceback" not in result.stderr
    assert "label.npy is closed" in lines[-1] and "open are: target-train" in lines[-1]


def test_a_method_file_cannot_read_while_it_is_imported(
    fake_method: Callable[..., str], splits: dict[str, Path], workspace: Workspace
) -> None:
    code = filled(CHEATS["target-train labels"], splits, workspace.cache)
    with pytest.raises(AccessError, match="open are: nothing"):
        make_run_config(fake_method(more=code), TINY)


def test_settings_cannot_read_either(
    fake_method: Callable[..., str], splits: dict[str, Path], workspace: Workspace
) -> None:
    body = textwrap.indent(filled(CHEATS["target-train labels"], splits, workspace.cache), " " * 8)
    members = f"import dataclasses\n@dataclasses.dataclass\nclass S:\n    def __post_init__(self):\n{body}\nFake.Settings = S\n"
    with pytest.raises(AccessError, match="open are: nothing"):
        make_run_config(fake_method(more=members), TINY)


def test_a_method_cannot_smuggle_a_reader_into_evaluation(
    fake_method: Callable[..., str], splits: dict[str, Path], workspace: Workspace
) -> None:
    """The network is replaced by one that prefers to read the labels, which are open in evaluation. It is never asked."""
    members = """
    calls = 0

    def __init__(self, segmenter, *a):
        super().__init__(segmenter, *a)
        segmenter.register_forward_hook(self.peep)

    def peep(self, module, inputs, out):
        self.calls += not module.training
        if self.calls > {allowed}:
            import numpy
            numpy.load({target-val!r} + '/label.npy')
            open({cache!r} + '/cheated', 'w').close()
"""
    # The harness asks the method's network for the target-only score, 3 snapshots x 2 batches, and never after that.
    for allowed in (5, 6):
        name = fake_method(more=filled_members(members.replace("{allowed}", str(allowed)), splits, workspace.cache))
        with pytest.raises(AccessError) if allowed == 5 else contextlib.nullcontext():
            run(make_run_config(name, TINY), workspace)
        assert not (workspace.cache / "cheated").exists()


def filled_members(code: str, splits: dict[str, Path], cache: Path) -> str:
    for name, path in {**splits, "cache": cache}.items():
        code = code.replace("{" + name + "!r}", repr(str(path)))
    return code
