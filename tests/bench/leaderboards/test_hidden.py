"""``bench verify --worlds``: hidden worlds are others, their seeds never reach a method, and a claim is held against them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from bench import cli
from bench.core import box, child
from bench.core.errors import RunError, UsageError
from bench.core.registry import resolve
from bench.core.workspace import Workspace
from bench.data.rendered import split_identity
from bench.leaderboards import hidden_page, page
from bench.leaderboards.hidden import FLOOR, RIVAL, Hidden, hidden_shift, names_of, read_hidden, verify_on_worlds
from bench.leaderboards.standings import admit
from bench.runs import boxed
from bench.runs.config import load_shift, make_run_config
from bench.runs.finished import all_records
from bench.runs.run import run
from bench.sweeps.search import tuning_shift
from tests.bench.leaderboards.made import commit, committed_standard, scored

TINY, SALT = "ministreet-tiny", "a salt that nobody knows"


def result(
    scores: dict[str, list[float]], claimed: dict[str, list[float]], method: str = "stpl", **changes: Any
) -> Hidden:
    by_seed = [{name: dict(enumerate(values)) for name, values in by_method.items()} for by_method in (scores, claimed)]
    config = make_run_config(method)
    fields: dict[str, Any] = {
        "worlds": names_of(SALT)[0], "shift": config.shift, "shift_hash": config.shift_hash, "method": method, "run": config.hash,
        "scores": by_seed[0], "claimed": by_seed[1], "access": "boxed", "code": {"revision": "abc123abc123", "dirty": False},
        "versions": {"torch": "2.14.0"}, "hardware": {"cpu": "A CPU", "threads": 1}, "date": "2026-11-26",
    }  # fmt: skip
    return Hidden(**fields | changes)


# What is said of a claim ----------------------------------------------------------------------------------------------

CLAIMED = {"stpl": [40.0, 44.0, 45.0], FLOOR: [30.0, 33.0, 36.0], RIVAL: [38.0, 40.0, 44.0]}
"""Gains of 10, 11 and 9 points, 2.33 above self-training on average."""


def test_a_gain_that_holds_on_harder_worlds_is_confirmed() -> None:
    hidden = result({"stpl": [20.0, 22.0, 23.5], FLOOR: [10.0, 11.0, 14.0], RIVAL: [18.0, 19.0, 21.5]}, CLAIMED)
    assert hidden.gain().difference == pytest.approx(30.5 / 3) and hidden.within
    assert (hidden.order, hidden.passed) == ("holds", True)
    assert hidden.text.endswith("\nconfirmed")


def test_a_gain_that_is_gone_is_not_confirmed() -> None:
    """The variances of both means are 1/3 (differences of 1 each): half-width t(0.975, 4) sqrt(2/3) = 2.776 x 0.8165 = 2.267."""
    hidden = result({"stpl": [20.0, 22.0, 24.0], FLOOR: [20.0, 21.0, 25.0], RIVAL: [18.0, 19.0, 21.5]}, CLAIMED)
    assert hidden.gain().difference == 0 and hidden.claim().difference == 10
    assert hidden.interval == pytest.approx((-2.267, 2.267), abs=1e-3)
    assert (hidden.within, hidden.passed) == (False, False) and hidden.text.endswith("not confirmed")


@pytest.mark.parametrize(
    ("rival", "order"),
    [([19.9, 21.8, 23.3], "holds"), ([19.0, 23.0, 25.0], "unclear"), ([22.0, 24.0, 25.5], "reversed")],
)
def test_the_order_against_self_training(rival: list[float], order: str) -> None:
    hidden = result({"stpl": [20.0, 22.0, 23.5], FLOOR: [10.0, 11.0, 14.0], RIVAL: rival}, CLAIMED)
    assert (hidden.order, hidden.passed) == (order, order != "reversed")


def test_without_spread_a_claim_must_be_met() -> None:
    same = {"stpl": [40.0, 44.0], FLOOR: [30.0, 34.0], RIVAL: [39.0, 42.0]}
    assert result(same, same).interval == (10.0, 10.0) and result(same, same).passed
    assert not result(same | {"stpl": [40.1, 44.1]}, same).passed


def test_what_compares_nothing_is_no_result() -> None:
    with pytest.raises(ValueError, match="scores: stpl and self_training share no replicate"):
        result(CLAIMED | {RIVAL: []}, CLAIMED)
    with pytest.raises(ValueError, match="claimed: of stpl, source_only; wanted are stpl, source_only, self_training"):
        result(CLAIMED, {"stpl": [1.0], FLOOR: [1.0]})


# Worlds ---------------------------------------------------------------------------------------------------------------


def test_the_worlds_are_others_and_the_protocol_is_the_same() -> None:
    public = load_shift("ministreet")
    with hidden_shift("ministreet", SALT) as first_path, hidden_shift("ministreet", SALT + "!") as second_path:
        first, second = load_shift(first_path), load_shift(second_path)
        seeds = {
            split_identity(shift.data, role, split, seed)["world"]  # type: ignore[arg-type]
            for shift in (public, first, second) for role in ("source", "target") for split in ("train", "val") for seed in (0, 1)
        }  # fmt: skip
        assert len(seeds) == 3 * 2 * 2 * 2
        bare = split_identity(first.without_worlds().data, "target", "val", 0)["world"]  # type: ignore[arg-type]
        assert bare not in seeds  # the name of the worlds does not give their seeds
        naming = {"name": public.name, "title": public.title, "purpose": public.purpose}
        fields = first.model_dump(mode="json") | naming
        fields["data"] |= {"family": public.data.family}
        del fields["data"]["worlds"]
        assert fields == public.model_dump(mode="json")


def test_neither_name_nor_family_tell_what_the_worlds_are_made_of() -> None:
    name, worlds = names_of(SALT)
    with hidden_shift(TINY, SALT) as path:
        shift = load_shift(path)
        assert shift.name == shift.data.family == name and not set(name[7:]) - set("0123456789abcdef")
        assert shift.data.worlds == worlds and worlds not in shift.without_worlds().model_dump_json()  # type: ignore[union-attr]
    for short in ("", "ministreet"):
        with pytest.raises(UsageError, match="a salt of at least 16 characters"), hidden_shift(TINY, short):
            pass
    with (
        pytest.raises(UsageError, match="'viper2cityscapes' is recorded video"),
        hidden_shift("viper2cityscapes", SALT),
    ):
        pass


def test_nothing_is_tuned_or_reported_on_hidden_worlds(tmp_path: Path) -> None:
    with hidden_shift("ministreet", SALT) as path:
        with pytest.raises(UsageError, match="is not for tuning"):
            tuning_shift(path)
        Path(path).write_text(Path(path).read_text().replace("purpose: private", "purpose: tune"))
        with pytest.raises(UsageError, match="is not for tuning"):
            tuning_shift(path)
        Path(path).write_text(Path(path).read_text().replace("purpose: tune", "purpose: private"))
        shift, (record, _) = load_shift(path), committed_standard()[0]
        config = record.config.model_copy(update={"shift": resolve("shift", path), "shift_hash": shift.hash})
        moved = record.model_copy(update={"config": config, "shift_hash": shift.hash, "run": config.hash})
        with pytest.raises(RunError, match="is for private, not for reporting"):
            admit(moved, shift, "it")
        with pytest.raises(RunError, match="is of shift 'hidden-"):
            admit(moved, load_shift("ministreet"), "it")


@pytest.mark.skipif(not box.available(), reason="no box here")
def test_the_salt_and_the_seeds_never_enter_the_process_of_a_method(
    tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None
) -> None:
    """All that the child is sent, and the files that it may open."""
    calls: list[child.Call] = []
    opened: list[bytes] = []
    original = child.run_boxed

    def noted(call: child.Call, *arguments: Any) -> child.Answer:
        calls.append(call)
        opened.extend(
            file.read_bytes() for file in call.read if file.suffix in (".safetensors", ".npy", ".yaml", ".json")
        )
        return original(call, *arguments)

    monkeypatch.setattr(boxed.child, "run_boxed", noted)
    with hidden_shift(TINY, SALT) as path:
        config = make_run_config("adabn", path)
        record = run(config, Workspace(tmp_path / "runs", tiny_cache, torch.device("cpu")))
        assert record.access == "boxed"
        data = load_shift(path).data
        seeds = [
            split_identity(data, *role_and_split, 0)["world"]
            for role_and_split in (("target", "train"), ("target", "val"), ("source", "train"))
        ]  # type: ignore[arg-type]
    sent = b"".join(call.to_json() for call in calls).decode()
    assert calls and names_of(SALT)[0] in sent
    secrets = [SALT, names_of(SALT)[1], *map(str, seeds)]
    assert not [secret for secret in secrets if secret in sent]
    assert opened and not [secret for secret in secrets for text in opened if secret.encode() in text]


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def claimed(finished_tiny: Path, tmp_path: Path) -> Path:
    """Runs that claim: those of the session, two replicates of everything that is compared."""
    runs = tmp_path / "runs"
    runs.mkdir()
    for folder in finished_tiny.iterdir():
        if folder.is_dir():
            (runs / folder.name).symlink_to(folder)
    return runs


def test_a_method_is_run_on_hidden_worlds_and_listed(
    claimed: Path, tiny_cache: Path, tmp_path: Path, no_figures: None
) -> None:
    root = tmp_path / "boards"
    arguments = [
        "verify",
        "--worlds",
        SALT,
        "--method",
        "adabn",
        "--shift",
        TINY,
        "--seeds",
        "0:2",
        "--root",
        str(root),
    ]
    arguments += ["--runs", str(claimed), "--cache", str(tiny_cache), "--device", "cpu", "--json"]
    completed = CliRunner().invoke(cli.app, arguments)
    printed = json.loads(completed.stdout)
    assert completed.exit_code == int(not printed["confirmed"]), completed.output
    assert {name: list(by_seed) for name, by_seed in printed["scores"].items()} == {
        name: ["0", "1"] for name in ("adabn", FLOOR, RIVAL)
    }
    (record,) = [r for r in all_records(claimed, root, TINY) if r.config.method == "adabn"]
    assert printed["claimed"]["adabn"] == {"0": record.result.miou}
    assert printed["scores"]["adabn"]["0"] != record.result.miou and printed["worlds"] == names_of(SALT)[0]
    (hidden,) = read_hidden(root)
    assert hidden.access == ("boxed" if box.available() else "watched") and json.loads(hidden.to_json()) == {
        key: value for key, value in printed.items() if key not in ("interval", "order", "confirmed")
    }
    (file,) = (root / "hidden" / TINY).iterdir()
    assert file.name == f"adabn-{hidden.run}-{hidden.worlds}.json" and SALT not in file.read_text()
    before = file.read_bytes(), sorted(claimed.iterdir())
    assert CliRunner().invoke(cli.app, arguments).exit_code == completed.exit_code  # found again, nothing is run
    assert (file.read_bytes(), sorted(claimed.iterdir())) == before


def test_the_page_lists_results_and_is_seen_when_it_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.leaderboards.generated.Drawing.stale", lambda _: [])
    commit(tmp_path, [scored("adabn", 0, 36.0)])
    page.write(tmp_path)
    path = tmp_path / hidden_page.NAME
    assert page.check(tmp_path) == [] and not path.exists()
    good = result({"stpl": [20.0, 22.0, 23.5], FLOOR: [10.0, 11.0, 14.0], RIVAL: [18.0, 19.0, 21.5]}, CLAIMED)
    bad = result(CLAIMED, CLAIMED | {FLOOR: [10.0, 11.0, 14.0]}, worlds="hidden-000000000000")
    for number, hidden in enumerate((good, bad)):
        (tmp_path / "hidden/ministreet").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"hidden/ministreet/{number}.json").write_text(hidden.to_json())
    assert page.check(tmp_path) == [path]
    assert page.write(tmp_path) == [path] and page.check(tmp_path) == []
    rows = [line for line in path.read_text().splitlines() if line.startswith("| STPL")]
    confirmed = [row.split("|")[-3].strip() for row in rows]
    assert confirmed == ["yes", "**no**"] and "A CPU, torch 2.14.0, boxed" in rows[0]
    (tmp_path / "hidden/ministreet/1.json").write_text(bad.to_json().replace('"stpl"', '"nothing"', 1))
    with pytest.raises(RunError, match=r"Result .*1\.json is damaged.*; verify the method again"):
        page.check(tmp_path)
    for file in (tmp_path / "hidden/ministreet").iterdir():
        file.unlink()
    assert page.check(tmp_path) == [path]  # a page of nothing
    page.write(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--worlds", SALT], "takes a record or --method"),
        (["--worlds", SALT, "--method", "stpl", "--seeds", "0"], "one replicate has no interval"),
        (["--worlds", SALT, "--method", FLOOR], "is what the others are held against"),
        (["--worlds", SALT, "--method", "stpl", "--strict"], "--full and --strict are of a second run"),
        (["--worlds", SALT, "--method", "stpl", "-o", "fusion=add", "--shift", TINY], "Nothing is claimed of 'stpl'"),
        ([], "Give a record; --method and -o are for --worlds"),
    ],
)
def test_what_cannot_be_verified_is_said_at_once(given: list[str], says: str, tmp_path: Path) -> None:
    completed = CliRunner().invoke(
        cli.app, ["verify", *given, "--root", str(tmp_path), "--runs", str(tmp_path), "--device", "cpu"]
    )
    assert completed.exit_code == 2 and says in completed.output


def test_a_file_of_ones_own_is_no_shift_with_claims(tmp_path: Path, shift_file: Any) -> None:
    with pytest.raises(UsageError, match="is not of this repository"):
        verify_on_worlds(make_run_config("adabn", shift_file({})), SALT, "0:2", tmp_path, Workspace(tmp_path, tmp_path))
