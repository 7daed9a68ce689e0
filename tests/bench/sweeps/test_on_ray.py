"""Sweeps through Ray: packing, failures, early stops, nodes, and kills at random moments that change nothing.

Trials that only have to end somehow are stood in for by ``work`` functions; the kills hit real ones.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.cluster_utils import Cluster as Nodes

from bench.cli.sweeps import outcome
from bench.core.errors import UsageError
from bench.core.workspace import Workspace
from bench.runs.config import RunConfig
from bench.runs.records import read_record
from bench.runs.run import run
from bench.sweeps import trial as module
from bench.sweeps._left_over import clear, marked, scratch_folder
from bench.sweeps.jobs import Jobs, SweepFolder
from bench.sweeps.on_ray import Cluster, sweep_runs
from bench.sweeps.spec import Sweep, plan
from bench.sweeps.table import failures
from bench.sweeps.trial import workspace_of
from tests.bench.sweeps.asked import CPU, make

MIB = 1 << 20


def pretended(config: RunConfig, miou: float = 40.0) -> str:
    """A record as a run would give it."""
    fields = {
        "schema": 1, "run": config.hash, "config": config.model_dump(mode="json"), "shift_hash": config.shift_hash,
        "source_model": None, "method": {}, "versions": {}, "hardware": {}, "date": "2030-01-01", "code": {},
        "result": {"iou": {}, "miou": miou, "pixel_accuracy": 1, "temporal_consistency": 1},
        "selection": {"unsupervised": {}, "oracle": {}, "snapshots": []},
        "cost": {
            "steps": 1, "seconds": 1, "cpu_seconds": 1, "total_seconds": 1, "peak_memory_mb": 1, "parameters": 1,
        },
    }  # fmt: skip
    return json.dumps(fields)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[Path]]]:
    """Two Ray nodes on this machine with two cores and one, each with folders of its own; the first says it has a GPU.

    Returns:
        Address and folders.
    """
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folders = [tmp_path_factory.mktemp(f"node{number}") for number in range(2)]
    Path("/tmp/ray").mkdir(exist_ok=True)  # a note of the address goes there, wherever the rest is
    with scratch_folder() as scratch:
        common: dict[str, Any] = {"object_store_memory": 80 * MIB}

        def environment(folder: Path) -> dict[str, str]:
            return {"BENCH_NODE_RUNS": str(folder / "runs"), "BENCH_NODE_CACHE": str(folder / "cache")}

        head = {**common, "num_cpus": 2, "num_gpus": 1, "temp_dir": str(scratch), "env_vars": environment(folders[0])}
        head |= {"include_dashboard": False, "no_monitor": True}  # nothing is scaled
        cluster = Nodes(initialize_head=True, head_node_args=head)
        cluster.add_node(**common, num_cpus=1, num_gpus=0, env_vars=environment(folders[1]))
        cluster.wait_for_nodes()
        yield cluster.address, folders
        ray.shutdown()
        cluster.shutdown()
        clear(scratch)


# Packing, nodes, failures, early stops: trials that only pretend -------------------------------------------------------


def test_two_halves_share_a_gpu_and_a_third_waits(nodes: tuple[str, list[Path]], tmp_path: Path) -> None:
    log = tmp_path / "log"

    def work(job: dict[str, Any], say: Any) -> dict[str, Any]:
        def note(event: str) -> None:
            with log.open("a") as file:
                file.write(f"{event} {job['kind']} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")

        if job["kind"] != "run":
            return {"ready": True}
        note("start")
        deadline = time.time() + 60  # long enough for a second one to come, and for a third if it could
        while log.read_text().count("start") < 2 and time.time() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        note("end")
        return {"record": pretended(RunConfig.model_validate(job["config"]))}

    jobs = sweep_runs(*make(tmp_path, gpu=0.5), Cluster(nodes[0]), work)
    assert [job.state for job in jobs.runs] == ["done"] * 4
    lines = log.read_text().splitlines()
    at_once, peak = 0, 0
    for line in lines:
        at_once += 1 if line.startswith("start") else -1
        peak = max(peak, at_once)
    assert peak == 2 and {line.split()[2] for line in lines} == {"0"}  # three cores are free, half a GPU is not


def test_trials_land_on_both_nodes_and_their_records_come_home(nodes: tuple[str, list[Path]], tmp_path: Path) -> None:
    address, folders = nodes

    def work(job: dict[str, Any], say: Any) -> dict[str, Any]:
        if job["kind"] != "run":
            return {"ready": True}
        config = RunConfig.model_validate(job["config"])
        (workspace_of(job, say).runs / job["key"]).mkdir(parents=True)
        deadline = time.time() + 120
        while sum(len(list((folder / "runs").glob("*"))) for folder in folders) < 3:
            assert time.time() < deadline, "the three runs were never at work at the same time"
            time.sleep(0.05)  # two nodes with three cores together: at once they lie on both
        return {"record": pretended(config, 40 + config.seed)}

    sweep, workspace = make(tmp_path, seeds="0:3")
    jobs = sweep_runs(sweep, workspace, Cluster(address), work)
    assert len({node for job in jobs.runs for node in job.nodes}) == 2
    run_names = [{path.name for path in (folder / "runs").iterdir()} for folder in folders]
    assert all(run_names) and not run_names[0] & run_names[1]
    for job in jobs.runs:
        home = read_record(workspace.runs / job.key / "record.json")
        assert home.config == job.config and home.result.miou == 40 + job.config.seed
    assert [record.run for record in jobs.records()] == [job.key for job in jobs.runs]


def test_failed_trials_are_tried_again_then_listed_and_the_others_finish(
    nodes: tuple[str, list[Path]], tmp_path: Path
) -> None:
    full, dies, flickers, wrong, memory = (tmp_path / name for name in ("full", "dies", "flickers", "wrong", "memory"))
    fates = dict(enumerate((full, dies, flickers, wrong, memory)))

    def work(job: dict[str, Any], say: Any) -> dict[str, Any]:
        if job["kind"] != "run":
            return {"ready": True}
        config = RunConfig.model_validate(job["config"])
        fate = fates.get(config.seed)
        if fate is not None:
            with fate.open("a") as file:
                file.write("tried\n")
            tries = fate.read_text().count("tried")
            if fate.name == "full":  # the operating system refuses to write more, as on a full disk
                soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
                try:
                    module.run(config, Workspace(tmp_path / "other", tmp_path / "cache", CPU))
                finally:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            if fate.name == "dies" or (fate.name == "flickers" and tries == 1):
                os.kill(os.getpid(), signal.SIGKILL)
            if fate.name == "wrong":
                raise UsageError("no such thing")
            if fate.name == "memory":
                raise MemoryError
        return {"record": pretended(config)}

    sweep, workspace = make(tmp_path, seeds="0:7", retries=1)
    jobs = sweep_runs(sweep, workspace, Cluster(nodes[0]), work)
    assert [job.state for job in jobs.runs] == ["failed", "failed", "done", "failed", "failed", "done", "done"]
    tried = [fate.read_text().count("tried") for fate in fates.values()]
    assert tried == [2, 2, 2, 1, 2]  # wrong use stays wrong
    reasons = [job.reason for job in jobs.runs if job.state == "failed"]
    assert reasons[0].startswith("Cannot write ") and "free space" in reasons[0]
    assert reasons[1] == "its process died (killed, or out of memory)"
    assert reasons[2] == "no such thing" and reasons[3].startswith("out of memory")
    folder = workspace.runs / "sweeps" / "s"
    assert "disk_errors" in (folder / jobs.runs[0].log).read_text()
    listed = failures(jobs.runs, folder)
    assert (outcome(jobs, False).error or "") == "4 of 7 runs failed; once the causes are gone: bench sweep --resume s"
    assert len(listed) == 4 and all(reason in line for reason, line in zip(reasons, listed, strict=True))
    assert f"[{folder / jobs.runs[1].log}]" in listed[1]
    assert len((folder / "journal.jsonl").read_text().splitlines()) == 8  # every failure, each once

    # The causes are gone: only what is missing is done, and what was found is not counted twice.
    for fate in fates.values():
        fate.unlink()

    def works(job: dict[str, Any], say: Any) -> dict[str, Any]:
        with (tmp_path / "again").open("a") as file:
            file.write(f"{job['key']}\n")
        config = RunConfig.model_validate(job["config"])
        return {"record": pretended(config)} if job["kind"] == "run" else {"ready": True}

    missing = {job.key for job in jobs.runs if job.state == "failed"}
    stored = SweepFolder(workspace.runs, "s").stored()
    resumed = sweep_runs(stored, workspace, Cluster(nodes[0]), works)
    keys = (tmp_path / "again").read_text().split()
    assert {key for key in keys if "-" not in key} == missing and len(keys) == len(set(keys))
    assert {job.state for job in resumed.runs if job.key not in missing} == {"found"} and len(resumed.records()) == 7
    assert not failures(resumed.runs, folder)


def test_asha_stops_the_worse_trials_by_a_score_without_labels(nodes: tuple[str, list[Path]], tmp_path: Path) -> None:
    def work(job: dict[str, Any], say: Any) -> dict[str, Any]:
        if job["kind"] != "run":
            return {"ready": True}
        assert job["asha"] and job["tuning"]
        config = RunConfig.model_validate(job["config"])
        for snapshot in range(1, 60):
            say(
                {
                    "what": "adapt",
                    "step": snapshot,
                    "steps": 60,
                    "snapshot": snapshot * 2,
                    "target_score": -config.seed,
                }
            )
        return {"record": pretended(config)}

    fields = {
        "shift": "ministreet-dev", "methods": ["self_training"], "seeds": "0:4",
        "search": {"trials": "0:1", "asha": {"grace": 0.1, "reduction": 2}},
    }  # fmt: skip
    sweep, workspace = make(tmp_path, **fields, cpu=2)
    jobs = sweep_runs(sweep, workspace, Cluster(nodes[0]), work)
    states = [job.state for job in jobs.runs]
    assert states[0] == "done" and "stopped" in states and set(states) <= {"done", "stopped"}
    stopped = next(job for job in jobs.runs if job.state == "stopped")
    assert stopped.score == -stopped.config.seed and stopped.step < 59
    assert not (workspace.runs / stopped.key / "record.json").exists()
    later = Jobs(SweepFolder(workspace.runs, "s"), plan(sweep))
    assert later.over and later.by_key[stopped.key].score == stopped.score
    assert not failures(jobs.runs, workspace.runs)  # stopping early is no failure


def test_more_than_there_is_is_refused(nodes: tuple[str, list[Path]], tmp_path: Path) -> None:
    for fields, says in (({"cpu": 64}, "cpu: 64 per trial is asked for, but Ray sees 3"), ({"gpu": 2}, "gpu: 2 per")):
        with pytest.raises(UsageError, match=says):
            sweep_runs(*make(tmp_path, **fields), Cluster(nodes[0]))


# Kills ------------------------------------------------------------------------------------------------------------------


def trial_processes(folder: Path) -> list[int]:
    """Processes of a cluster in which trials run."""
    pids = []
    for pid in marked(folder):
        try:
            if b"ImplicitFunc" in Path(f"/proc/{pid}/cmdline").read_bytes():
                pids.append(pid)
        except OSError:
            continue
    return pids


def cluster_of(driver: subprocess.Popen[bytes]) -> Path | None:
    return next(Path("/tmp").glob(f"bench-ray-{os.getuid()}-{driver.pid}-*"), None)


def wait_for(condition: Callable[[], Any], driver: subprocess.Popen[bytes], seconds: float = 300) -> Any:
    """The first true value; fails if the driver ends before."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        if outcome := condition():
            return outcome
        assert driver.poll() is None, "the sweep ended before it could be killed"
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def test_kills_at_random_moments_lose_nothing_and_change_no_bit(
    tmp_path: Path, shift_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = shift_file({"adaptation.steps": 24, "source_training.steps": 22, "adaptation.snapshots": 2})
    runs, moments = tmp_path / "runs", random.Random(20)
    fields = {
        "name": "killed", "shift": shift, "methods": ["stpl", "source_only"], "seeds": "0:2",
        "retries": 5,
    }  # fmt: skip
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(fields))
    command = [sys.executable, "-m", "bench", "sweep", "--runs", str(runs), "--cache", str(tmp_path / "cache")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments, kills = [str(tmp_path / "spec.yaml")], []

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "output").open("ab") as output:
            return subprocess.Popen([*command, *arguments], stdout=output, stderr=output, env=environment)

    def under_way() -> list[list[Path]]:
        """Source models being trained, and runs at work, from this start on or left by the one before."""
        return [list((tmp_path / "cache" / "sources").glob("*/state/*")), list(runs.glob("*/state/*"))]

    for stage, kill_a_worker in enumerate((False, True)):
        driver = start()
        arguments = ["--resume", "killed"]
        folder = wait_for(lambda: cluster_of(driver), driver)  # noqa: B023
        workers = wait_for(lambda: trial_processes(folder), driver)  # noqa: B023
        wait_for(lambda: under_way()[stage], driver)  # noqa: B023
        time.sleep(moments.uniform(0, 1))
        if kill_a_worker:
            os.kill(moments.choice(trial_processes(folder) or workers), signal.SIGKILL)
            kills.append("worker")
            time.sleep(moments.uniform(0, 2))
        assert driver.poll() is None, "the sweep ended before it could be killed"
        driver.kill()
        driver.wait()
        kills.append("driver")
        deadline = time.time() + 20
        while (marked(folder) or folder.exists()) and time.time() < deadline:
            time.sleep(0.1)
        assert not marked(folder) and not folder.exists()  # nothing lingers
    assert sorted(kills) == ["driver"] * 2 + ["worker"]
    last = start()
    assert last.wait(timeout=900) == 0, (tmp_path / "output").read_text()[-3000:]

    monkeypatch.setattr("bench.runs.run._draw", lambda *_: None)
    undisturbed = Workspace(
        tmp_path / "undisturbed", tmp_path / "own cache", CPU, unboxed=True
    )  # in a box or not: the same
    expected = {entry.config.hash: run(entry.config, undisturbed) for entry in plan(Sweep.model_validate(fields))}
    records = {path.parent.name: read_record(path) for path in runs.glob("*/record.json")}
    assert records.keys() == expected.keys() and len(records) == 4
    for key, record in records.items():
        reference = expected[key]
        assert (record.config, record.result, record.selection) == (
            reference.config,
            reference.result,
            reference.selection,
        )
        assert (record.beside, record.source_model) == (reference.beside, reference.source_model)
        assert record.hardware["threads"] == 1
    text = (tmp_path / "output").read_text()
    assert "4 runs, 0 of them there already" in text and text.count("runs, ") == 3
    assert not any(word in text for word in ("Traceback", "raylet", "ray start", "dashboard", "WARNING", "INFO"))
