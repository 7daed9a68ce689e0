"""Names of methods, networks, flows, data sets and shifts: from this repository, users' files, installed packages."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.core import loading, registry
from bench.core.errors import AccessError, RunError, UsageError
from bench.core.loading import load, shift_file, source_hash, sources
from bench.core.registry import KINDS, ROOT, built_in, find, names, packed, recall, resolve, unpack

Package = Callable[..., Path]


def write(path: Path, text: str = "build = print\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """``package("ours", {"net.py": "..."}, networks={"net": "ours.net"})`` installs a package with entry points."""
    installed: list[str] = []

    def forget() -> None:
        registry._installed.cache_clear()
        loading._package_hash.cache_clear()
        for module in [name for name in sys.modules if name.split(".")[0] in installed]:
            del sys.modules[module]

    def make(name: str, files: dict[str, str], **points: dict[str, str]) -> Path:
        installed.append(name)
        site = tmp_path / f"site-{name}"
        for file, text in files.items():
            write(site / name / file, text)
        groups = [
            f"[stpl_benchmark.{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points[group].items())
            for group in points
        ]
        write(site / f"{name}-1.2.dist-info" / "entry_points.txt", "\n".join(groups))
        write(site / f"{name}-1.2.dist-info" / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        monkeypatch.syspath_prepend(str(site))
        forget()
        return site / name

    yield make
    forget()


# What this repository holds -------------------------------------------------------------------------------------------


def test_what_the_repository_holds_is_what_lies_in_its_folders() -> None:
    assert built_in("network") == sorted(p.stem for p in (ROOT / "networks" / "zoo").glob("[!_]*.py"))
    assert built_in("shift") == sorted(p.stem for p in (ROOT / "shifts").glob("*.yaml"))
    assert "base" not in built_in("method") and "common" not in built_in("method") and "stpl" in built_in("method")
    assert all(names(kind) == built_in(kind) for kind in KINDS)
    assert all(source_hash(kind, name) is None for kind in KINDS for name in built_in(kind))


def test_a_path_into_the_repository_is_the_repositorys_own() -> None:
    assert resolve("method", str(ROOT.parent / "methods" / "stpl.py")) == "stpl"
    assert resolve("shift", str(ROOT / "shifts" / "ministreet.yaml")) == "ministreet"
    assert source_hash("method", "stpl") is None and packed() == []


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_file_is_known_by_its_name_and_told_by_its_hash(tmp_path: Path) -> None:
    text = '"""mine: a network."""\n\n\ndef build(k):\n    return k + 1\n'
    assert resolve("network", write(tmp_path / "mine.py", text)) == "mine"
    assert "mine" in names("network") and "mine" not in built_in("network") and "mine" not in names("method")
    assert source_hash("network", "mine") == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert load("network", "mine").build(2) == 3 and load("network", "mine") is load("network", "mine")
    assert sources([("network", "mine"), ("network", "mini")]) == {"network/mine": source_hash("network", "mine")}


def test_a_relative_path_starts_from_the_folder_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "here" / "a.py")
    write(tmp_path / "there" / "b.py")
    monkeypatch.chdir(tmp_path / "here")
    assert resolve("network", "./a.py") == resolve("network", "a.py") == "a"
    assert resolve("network", "b.py", tmp_path / "there") == "b"
    monkeypatch.chdir(tmp_path)
    assert find("network", "a").path == str(tmp_path / "here" / "a.py"), "absolute: it is found from another folder too"


def test_what_runs_is_what_was_hashed_until_the_file_is_named_again(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", "build = 1\n")
    resolve("network", path)
    first = source_hash("network", "mine")
    write(tmp_path / "mine.py", "build = 2\n")
    assert source_hash("network", "mine") == first and load("network", "mine").build == 1
    resolve("network", path, again=False)
    assert load("network", "mine").build == 1
    resolve("network", path)
    assert source_hash("network", "mine") != first and load("network", "mine").build == 2


def test_another_process_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve("network", write(tmp_path / "mine.py", "build = 7\n"))
    files, digest = json.loads(json.dumps(packed())), source_hash("network", "mine")
    (tmp_path / "mine.py").unlink()
    monkeypatch.setattr(registry, "_files", {})
    with pytest.raises(UsageError, match="Unknown network 'mine'"):
        load("network", "mine")
    unpack(files)
    assert load("network", "mine").build == 7 and source_hash("network", "mine") == digest


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("nowhere.py", r"Unknown network '.*nowhere.py': no such file\. Available: deeplabv2_resnet101, "),
        ("folder.py", "Unknown network '.*folder.py': no such file"),
        ("a b.py", "letters, digits"),
        (".hidden.py", "letters, digits"),
        ("a=b.py", "letters, digits"),
    ],
)
def test_what_is_no_file_or_has_no_fit_name(file: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    if file not in ("nowhere.py", "folder.py"):
        write(tmp_path / file)
    with pytest.raises(UsageError, match=says) as caught:
        resolve("network", str(tmp_path / file))
    assert "\n" not in str(caught.value)


def test_the_environment_names_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = write(tmp_path / "a.py", "build = 1"), write(tmp_path / "b.py", "METHOD = 2")
    monkeypatch.setenv("BENCH_PLUGINS", f"network={a}:method={b}")
    assert load("network", "a").build == 1 and load("method", "b").METHOD == 2
    assert "b" not in names("network")
    for setting in ("a.py", f"net={a}", "network=a", f"shift={a}"):
        monkeypatch.setenv("BENCH_PLUGINS", setting)
        with pytest.raises(UsageError, match=r"\$BENCH_PLUGINS: '.*' is not KIND=FILE; kinds are method, network, "):
            names("network")
    monkeypatch.setenv("BENCH_PLUGINS", f"network={tmp_path / 'gone.py'}")
    with pytest.raises(UsageError, match=r"Unknown network '.*gone\.py': no such file\. Available: .*mini"):
        names("network")


# Clashes --------------------------------------------------------------------------------------------------------------


def test_a_file_with_a_name_of_the_repository_is_refused_with_both_places(tmp_path: Path) -> None:
    path = write(tmp_path / "mini.py")
    with pytest.raises(UsageError) as caught:
        resolve("network", path)
    assert path in str(caught.value) and str(ROOT / "networks" / "zoo" / "mini.py") in str(caught.value)
    assert find("network", "mini").built_in, "the repository's own stays what it is"


def test_two_files_of_one_name_are_refused_unless_they_are_the_same(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a" / "net.py"), write(tmp_path / "b" / "net.py", "build = 2\n")
    resolve("network", first)
    with pytest.raises(UsageError, match=f"Two networks are called 'net': {first} and {second}"):
        resolve("network", second)
    resolve("network", write(tmp_path / "c" / "net.py"))  # a copy
    Path(find("network", "net").path).unlink()
    assert resolve("network", second) == "net" and load("network", "net").build == 2, "the first has gone"


def test_what_is_remembered_gives_way_to_what_is_named(tmp_path: Path) -> None:
    old, new = write(tmp_path / "a" / "net.py"), write(tmp_path / "b" / "net.py", "build = 2\n")
    recall({"network/net": old, "network/gone": str(tmp_path / "gone.py"), "nonsense": "x.py", "colour/net": old})
    assert find("network", "net").path == old and "gone" not in names("network")
    resolve("network", new)
    recall({"network/net": old})
    assert find("network", "net").path == new


def test_a_package_and_the_repository_or_another_package_clash(package: Package, tmp_path: Path) -> None:
    package("ours", {"net.py": "build = 1"}, networks={"mini": "ours.net", "twice": "ours.net"})
    package("theirs", {"net.py": "build = 2"}, networks={"twice": "theirs.net"})
    with pytest.raises(UsageError, match=r"'mini': .*zoo/mini.py and package ours 1\.2 \(mini = ours\.net\)"):
        load("network", "mini")
    with pytest.raises(UsageError, match=r"'twice': package ours 1\.2 \(.*\) and package theirs 1\.2 \("):
        load("network", "twice")
    with pytest.raises(UsageError, match=r"'twice': package ours"):
        resolve("network", write(tmp_path / "twice.py"))
    assert load("network", "espnet" if "espnet" in built_in("network") else "deeplabv2_resnet50"), "the others stay"


# Packages -------------------------------------------------------------------------------------------------------------


def test_a_package_offers_names_and_its_hash_is_of_all_its_python_files(package: Package) -> None:
    folder = package(
        "ours", {"__init__.py": "", "net.py": "from ours.deep import VALUE as build", "deep/__init__.py": "VALUE = 5", "a.txt": ""},
        networks={"ours_net": "ours.net"},
    )  # fmt: skip
    assert "ours_net" in names("network") and "ours_net" not in built_in("network")
    assert load("network", "ours_net").build == 5
    digest = hashlib.sha256()
    for file in ("__init__.py", "deep/__init__.py", "net.py"):
        source = (folder / file).read_bytes()
        digest.update(f"{file}\0{len(source)}\0".encode() + source)
    assert source_hash("network", "ours_net") == digest.hexdigest()[:12]
    (folder / "deep" / "__init__.py").write_text("VALUE = 6")
    loading._package_hash.cache_clear()
    assert source_hash("network", "ours_net") != digest.hexdigest()[:12]


def test_a_package_brings_shifts(package: Package) -> None:
    package("ours", {"__init__.py": "", "yard.yaml": "name: yard\n"}, shifts={"yard": "ours", "lost": "ours"})
    path, text = shift_file("yard")
    assert path.name == "yard.yaml" and text == "name: yard\n"
    with pytest.raises(RunError, match=r"Cannot read shift lost of package ours 1\.2"):
        shift_file("lost")


def test_an_entry_point_names_a_module(package: Package) -> None:
    package("ours", {"net.py": "build = 1"}, networks={"one": "ours.net:build", "two": "ours.gone"})
    with pytest.raises(
        RunError, match=r"Cannot load network 'one': package ours .*names a module here, not 'build' in it"
    ):
        load("network", "one")
    with pytest.raises(
        RunError, match=r"Cannot load network 'two': package ours .*: ModuleNotFoundError: No module named"
    ):
        load("network", "two")


# What fails -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import math\n\nx = undefined\n", r"line 3: NameError: name 'undefined' is not defined"),
        ("import math\ndef (\n", r"line 2: SyntaxError: "),
        ("def f():\n    raise ValueError('a\\nb')\n\n\nf()\n", r"line 2: ValueError: a b"),
        ("import torch\ntorch.zeros('x')\n", r"line 2: TypeError: "),
        ("import nonsense_that_is_not_there\n", r"line 1: ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit(3)\n", r"line 2: SystemExit: 3"),
        ("raise RuntimeError\n", r"line 1: RuntimeError: no message"),
        ("x = 1\n", r"has no build, which a network must define"),
    ],
)
def test_a_broken_file_is_one_line_with_file_line_and_error(text: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "net.py", text)
    resolve("network", path)
    for _ in range(2):  # nothing half loaded is left behind
        with pytest.raises(RunError, match=says) as caught:
            load("network", "net")
        assert path in str(caught.value) and "\n" not in str(caught.value)


def test_the_line_of_a_package_is_where_its_own_code_fails(package: Package) -> None:
    package(
        "ours",
        {"net.py": "import ours.help\n", "help.py": "import torch\n\ntorch.zeros('x')\n"},
        networks={"net": "ours.net"},
    )
    with pytest.raises(RunError, match=r"package ours 1\.2 \(net = ours\.net\): .*ours/help\.py, line 3: TypeError"):
        load("network", "net")


def test_code_that_is_loaded_opens_no_clips(tmp_path: Path) -> None:
    label = tmp_path / "target-val-0123456789ab" / "label.npy"
    write(label)
    resolve("network", write(tmp_path / "peek.py", f"build = open({str(label)!r})\n"))
    with pytest.raises(AccessError, match=r"peek\.py, line 1: .* is closed in this stage"):
        load("network", "peek")


def test_a_file_may_use_what_modules_use(tmp_path: Path) -> None:
    """Dataclasses and pydantic look up annotations in the module that a class says it is of."""
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass, fields\nfrom typing import ClassVar\n"
        "from pydantic import TypeAdapter\n\n@dataclass(frozen=True)\nclass S:\n    n: Count = 3\n    K: ClassVar[int] = 1\n\n"
        "Count = int\ndef build(value):\n    return TypeAdapter(S).validate_python({'n': value})\n"
    )
    resolve("network", write(tmp_path / "net.py", text))
    module = load("network", "net")
    assert (
        module.build("4").n == 4
        and module.S.__module__ == module.__name__
        and module.__file__ == str(tmp_path / "net.py")
    )
