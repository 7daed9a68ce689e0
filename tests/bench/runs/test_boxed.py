"""The box: what a method tries succeeds without it and fails in it, and a run in it gives the same bits."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bench.core import box
from bench.core.errors import RunError, UsageError
from bench.core.workspace import Workspace
from bench.data.rendered import prepare_split
from bench.runs import settings
from bench.runs.boxed import _computes, boxable
from bench.runs.config import load_shift, make_run_config
from bench.runs.records import read_record
from bench.runs.run import run

TINY = "ministreet-tiny"
pytestmark = [
    pytest.mark.usefixtures("no_figures"),
    pytest.mark.skipif(not box.available(), reason="no Landlock here"),
]

METHOD = '''
"""A method that tries things."""
import json
import textwrap
from methods.base import Card, Method

class Thief(Method):
    card = Card(key="thief", title="Thief", authors="-", venue="-", year=None, url="", design="image", setting="SFDA")

    def losses(self, target, source, step):
        if step == 0:
            self.try_everything()
        return {"loss": self.segmenter(target.frames, target.flow, target.valid).scores.float().square().mean()}

    def try_everything(self):
        found = {}
        for name, code in CODES.items():
            try:
                exec(textwrap.dedent(code), dict(KNOWN))
                found.setdefault(name, "done")
            except BaseException as error:
                found[name] = f"{type(error).__name__}"
        print("TRIED", json.dumps(found))

METHOD = Thief
'''

ATTACKS = {
    "torch.from_file": "import torch; torch.from_file(labels, size=8, dtype=torch.uint8)",
    "torchvision.io.read_file": "import torchvision; torchvision.io.read_file(labels)",
    "torch.load of a mapped file": "import torch; torch.UntypedStorage.from_file(labels, False, 8)",
    "cv2.imread": "import cv2; assert cv2.imread(picture) is not None",
    "cv2.VideoCapture": "import cv2; assert cv2.VideoCapture(picture).read()[0]",
    "safetensors, another run's weights": "import safetensors.torch as s; s.load_file(secret)",
    "libc's open": """
        import ctypes
        libc = ctypes.CDLL(None)
        assert libc.open(labels.encode(), 0) >= 0""",
    "a system call by number": """
        import ctypes
        assert ctypes.CDLL(None).syscall(257, -100, ctypes.c_char_p(labels.encode()), 0) >= 0""",
    "dir_fd": """
        import os
        here, folder, file = labels.rsplit('/', 2)
        handle = os.open(here, os.O_PATH)
        os.read(os.open(file, os.O_RDONLY, dir_fd=os.open(folder, os.O_PATH, dir_fd=handle)), 8)""",
    "_posixsubprocess.fork_exec": """
        import os, sys, _posixsubprocess as p
        out, into = os.pipe()
        pid = p.fork_exec([b'/bin/true'], [b'/bin/true'], True, (into,), None, None, -1, -1, -1, -1, -1, -1, out, into,
                          False, False, 0, None, None, None, -1, None, False)
        os.waitpid(pid, 0)""",
    "libc's fork": """
        import ctypes, os
        pid = ctypes.CDLL(None).fork()
        if pid == 0:
            os._exit(0)
        assert pid > 0 and os.waitpid(pid, 0)""",
    "copy_file_range": """
        import ctypes
        libc = ctypes.CDLL(None)
        into, out = libc.open(b'/tmp/../dev/null', 1), libc.open(labels.encode(), 0)
        assert out >= 0""",
    "/proc/PID/mem of the parent": """
        import ctypes, os
        assert ctypes.CDLL(None).open(f'/proc/{os.getppid()}/maps'.encode(), 0) >= 0""",
    "a signal to another process": "import os; os.kill(os.getppid(), 0)",
    "io_uring": """
        import ctypes
        assert ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(120)) >= 0""",
    "a socket": """
        import socket
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()""",
    "a socket of this machine": "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close()",
    "shared memory": """
        import ctypes
        assert ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0""",
    "shared memory by name": """
        import ctypes, os
        libc = ctypes.CDLL(None)
        made = libc.shm_open(f'/stpl-{os.getpid()}'.encode(), 0o102, 0o600)
        libc.shm_unlink(f'/stpl-{os.getpid()}'.encode())
        assert made >= 0""",
    "a record of its own": "open(runs + '/forged.json', 'w').write('{}')",
    "the modes of a file": "import os; os.chmod(secret, 0o644)",
    "a file cut short": "import ctypes; assert ctypes.CDLL(None).truncate(other.encode(), 0) == 0",
    "a link to a label": """
        import ctypes, os
        assert ctypes.CDLL(None).symlink(labels.encode(), (runs + '/link').encode()) == 0
        os.unlink(runs + '/link')""",
    "another run's folder": "import os; os.listdir(runs)",
    "the renderer, without its event": """
        from bench.data.ministreet import render""",
}
"""What was tried, as a method writes it: code that fails where the attempt does."""
WATCHED_TOO: set[str] = {"dir_fd"}
"""Those that the audit hook refuses as well."""


def plugin(folder: Path, text: str, name: str = "thief") -> str:
    """A file with a method, by its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return str(folder / f"{name}.py")


def workspace_of(base: Path, cache: Path, boxed: bool) -> Workspace:
    return Workspace(base / "runs", cache, torch.device("cpu"), unboxed=not boxed)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, tiny_cache: Path) -> dict[bool, dict[str, str]]:
    """What came of each attempt, by whether the method was boxed: one run each."""
    by_boxed = {}
    torch.set_num_threads(1)
    for boxed, name in ((True, "boxed_thief"), (False, "thief")):
        base = tmp_path_factory.mktemp("thief")
        split = prepare_split(load_shift(TINY).data, "target", "val", 0, tiny_cache)
        figures = base / "runs" / "0123456789ab" / "figures"
        figures.mkdir(parents=True)
        cv2.imwrite(str(figures / "clip.png"), np.zeros((4, 4, 3), np.uint8))
        save_file({"oracle": torch.zeros(2)}, figures.parent / "checkpoint.safetensors")
        (figures.parent / "other").write_bytes(b"something")
        paths = {"labels": split / "label.npy", "picture": figures / "clip.png", "runs": base / "runs"}
        paths |= {"secret": figures.parent / "checkpoint.safetensors", "other": figures.parent / "other"}
        header = f"KNOWN = { ({k: str(v) for k, v in paths.items()})!r}\nCODES = {ATTACKS!r}\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bench.runs.run._draw", lambda *_: None)
            patch.setattr(sys, "stdout", output := io.StringIO())
            config = make_run_config(plugin(base / "own", header + METHOD.replace('"thief"', repr(name)), name), TINY)
            record = run(config, workspace_of(base, tiny_cache, boxed))
        line = next(line for line in output.getvalue().splitlines() if line.startswith("TRIED "))
        by_boxed[boxed] = json.loads(line.removeprefix("TRIED "))
        assert record.access == ("boxed" if boxed else "watched")
    settings.executed_here.clear()
    return by_boxed


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_succeeds_without_the_box_and_fails_in_it(attack: str, outcomes: dict[bool, dict[str, str]]) -> None:
    assert outcomes[True][attack] not in ("done", "NameError", "SyntaxError"), "in the box"
    if attack not in WATCHED_TOO:
        assert outcomes[False][attack] == "done", "without it"


def test_the_scoring_process_never_executes_a_plugin(outcomes: dict[bool, dict[str, str]]) -> None:
    """Its card, settings and revision were asked for in the box."""
    assert outcomes[True]
    assert not [name for name in sys.modules if name.startswith("plugin_method_boxed_thief")]
    assert [name for name in sys.modules if name.startswith("plugin_method_thief")]  # without the box it was


def test_a_boxed_run_has_the_same_bits(finished_tiny: Path, tiny_cache: Path, tmp_path: Path) -> None:
    config = make_run_config("self_training", TINY)
    record = run(config, workspace_of(tmp_path, tiny_cache, boxed=True))
    for name in ("checkpoint.safetensors", "metrics.jsonl", "sequences.csv"):
        path = Path("runs") / config.hash / name
        assert (tmp_path / path).read_bytes() == (finished_tiny / config.hash / name).read_bytes()
    unboxed = read_record(finished_tiny / config.hash / "record.json")
    assert (record.access, unboxed.access) == ("boxed", "watched")
    assert record.result == unboxed.result and record.ingredients == unboxed.ingredients
    assert sorted(path.name for path in (tmp_path / "runs" / config.hash).iterdir()) == sorted(
        path.name for path in (finished_tiny / config.hash).iterdir()
    )


CARD = 'Card(key="{}", title="T", authors="-", venue="-", year=None, url="", design="image", setting="{}")'
TWO_FACED = f"""
from methods.base import Card, Method

class Meta(type(Method)):
    asked = 0

    @property
    def card(cls):
        Meta.asked += 1
        return {CARD.format("two_faced", "oracle")} if Meta.asked < 5 else {CARD.format("two_faced", "SFDA")}

class TwoFaced(Method, metaclass=Meta):
    def losses(self, target, source, step):
        return {{}}

METHOD = TwoFaced
"""


def test_a_card_says_the_same_to_whoever_asks(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"METHOD is no subclass of methods\.base\.Method with a card"):
        make_run_config(plugin(tmp_path, TWO_FACED, "two_faced"), TINY)


def test_what_cannot_be_boxed_is_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = workspace_of(tmp_path, tmp_path, boxed=True)
    assert boxable(workspace) and _computes("cpu")
    for changes in ({"compiled": True}, {"observer": object()}, {"unboxed": True}):
        assert not boxable(dataclasses.replace(workspace, **changes))
    if not torch.cuda.is_available():
        assert not boxable(dataclasses.replace(workspace, device=torch.device("cuda")))
        assert "cuda cannot be used in a box here" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["runs", "cache"])
def test_a_folder_whose_name_is_no_text_is_refused_before_work(
    place: str, workspace: Workspace, tmp_path: Path
) -> None:
    odd = dataclasses.replace(workspace, **{place: tmp_path / os.fsdecode(b"caf\xe9")})
    with pytest.raises(UsageError, match="is no text in utf-8; rename the file or folder"):
        run(make_run_config("self_training", "ministreet-tiny", steps=1), odd)
    assert not list(tmp_path.rglob("*.*"))
