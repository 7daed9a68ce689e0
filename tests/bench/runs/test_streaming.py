"""``--protocol stream``: each clip is predicted before it is adapted to, once, without labels; what was predicted is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bench.core import box
from bench.core.errors import AccessError, RunError, UsageError
from bench.core.workspace import Workspace
from bench.data.rendered import ClipStore, prepare_split
from bench.data.splits import prepare
from bench.flow.resolve import open_clips
from bench.networks.weights import load_into, load_tensors
from bench.runs import streaming, training
from bench.runs.config import RunConfig, alterations, load_shift, make_run_config, methods_on
from bench.runs.finished import all_records
from bench.runs.metrics import confusion_matrix, iou_from_confusion
from bench.runs.records import Record
from bench.runs.run import run
from bench.runs.sequences import mismatch, read_sequences
from bench.runs.source import fresh_segmenter, source_model
from bench.runs.streaming import ONLINE, online_scores
from methods import tent

TINY = "ministreet-tiny"
CLIPS = 4
FAST = {"rate": 3000.0}
"""Of tent: every step changes what it says."""
pytestmark = pytest.mark.usefixtures("no_figures")


def config_of(method: str, **options: object) -> RunConfig:
    return make_run_config(method, TINY, options=dict(options), mode="stream")


def online(workspace: Workspace, config: RunConfig) -> dict[str, bytes]:
    """What a run predicted, by file."""
    return {path.name: path.read_bytes() for path in sorted((workspace.runs / config.hash / ONLINE).iterdir())}


def predicted(workspace: Workspace, config: RunConfig, number: int) -> np.ndarray:
    """Train ids ``(H, W)`` of a clip."""
    return np.asarray(Image.open(workspace.runs / config.hash / ONLINE / f"{number:06d}.png"))


@pytest.fixture(scope="module")
def streams(tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Record]]:
    """Finished streams of source_only, adabn, tent and hcl; not to be changed."""
    torch.set_num_threads(1)
    workspace = Workspace(tmp_path_factory.mktemp("streams"), tiny_cache, torch.device("cpu"), unboxed=True)
    configs = {name: config_of(name) for name in ("source_only", "adabn", "hcl")} | {"tent": config_of("tent", **FAST)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run._draw", lambda *_: None)
        return workspace, {name: run(config, workspace) for name, config in configs.items()}


Streams = tuple[Workspace, dict[str, Record]]


def test_tent_as_a_person_would_write_it(streams: Streams) -> None:
    """Predict with the clip's own statistics, then one step of SGD on the entropy by batch norm's affine weights."""
    workspace, records = streams
    config, shift = records["tent"].config, load_shift(TINY)
    segmenter = fresh_segmenter(config, shift, 0)
    load_into(segmenter, source_model(config, shift, workspace))
    norms = [m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d)]
    weights = [p for norm in norms for p in (norm.weight, norm.bias)]
    lr = shift.adaptation.lr * FAST["rate"]
    optimiser = torch.optim.SGD(weights, lr, momentum=shift.adaptation.momentum)
    loader = open_clips(prepare(shift, "target", "val", 0, workspace), "exact", workspace.cache)
    for number in range(CLIPS):
        clip = loader.collate([number])
        segmenter.eval()
        for norm in norms:
            norm.train()
        with torch.no_grad():
            scores = segmenter(clip.frames, clip.flow, clip.valid).scores
            size = clip.frames.shape[-2:]
            labels = nn.functional.interpolate(scores, size, mode="bilinear", align_corners=False).argmax(1)
        assert (predicted(workspace, config, number) == labels[0].numpy()).mean() > 0.9999
        p = segmenter.train()(clip.frames, clip.flow, clip.valid).scores.float().softmax(1)
        (-(p * p.log()).sum(1).mean()).backward()
        nn.utils.clip_grad_norm_(weights, shift.adaptation.clip_norm)
        optimiser.step()
        segmenter.zero_grad()


def test_the_first_clip_is_predicted_by_the_source_model_and_later_ones_are_not(streams: Streams) -> None:
    workspace, records = streams
    files = {name: online(workspace, record.config) for name, record in records.items()}
    assert files["tent"]["000000.png"] == files["adabn"]["000000.png"] != files["source_only"]["000000.png"]
    for number in range(1, CLIPS):
        assert files["tent"][f"{number:06d}.png"] != files["adabn"][f"{number:06d}.png"]
    assert sorted(files["tent"]) == [f"{n:06d}{end}.png" for n in range(CLIPS) for end in ("-previous", "")]


def test_scored_is_what_was_predicted(streams: Streams) -> None:
    workspace, records = streams
    folder = prepare_split(load_shift(TINY).data, "target", "val", 0, workspace.cache)
    truth = np.load(folder / "label.npy")
    for record in records.values():
        predictions = np.stack([predicted(workspace, record.config, number) for number in range(CLIPS)])
        iou = 100 * iou_from_confusion(confusion_matrix(truth, predictions, 15))
        labelled = [
            float(x) for x, name in zip(iou, record.result.iou, strict=True) if record.result.iou[name] is not None
        ]
        assert [x for x in record.result.iou.values() if x is not None] == labelled
        assert record.result.miou == record.selection.snapshots[0]["miou"] and record.beside == {}
        counts = read_sequences(workspace.runs / record.run / "sequences.csv", load_shift(TINY).classes)
        assert mismatch(counts, record.result, load_shift(TINY).classes) is None


def test_the_record_says_that_it_is_a_stream_and_what_a_frame_took(streams: Streams) -> None:
    workspace, records = streams
    for name, record in records.items():
        cost = record.cost
        assert (record.protocol, cost.frames, cost.steps) == (
            "stream",
            CLIPS,
            0 if name in ("source_only", "adabn") else CLIPS,
        )
        assert cost.seconds_per_frame == pytest.approx(cost.seconds / CLIPS, abs=5e-4)
        assert cost.cpu_seconds_per_frame and cost.cpu_seconds_per_frame > 0
        assert '"protocol": "stream"' in record.to_json() and "protocol=stream" in alterations(record.config)
        assert record.digests and record.digests.predictions
    assert records["hcl"].cost.cpu_seconds_per_frame > records["adabn"].cost.cpu_seconds_per_frame
    assert all_records(workspace.runs, workspace.runs, TINY) == []  # they are never among the others


def test_configs_without_a_stream_are_what_they_were() -> None:
    config = make_run_config("tent", TINY).model_dump(mode="json")
    assert not {"mode", "reset"} & set(config)
    assert len({config_of("tent").hash, make_run_config("tent", TINY).hash}) == 2
    assert config_of("tent").model_dump(mode="json") == {**config, "mode": "stream"}


@pytest.mark.skipif(not box.available(), reason="no Landlock here")
def test_a_boxed_stream_has_the_same_bits(streams: Streams, tmp_path: Path) -> None:
    workspace, records = streams
    boxed = Workspace(tmp_path, workspace.cache, torch.device("cpu"))
    record = run(records["tent"].config, boxed)
    assert (record.access, record.result, record.digests) == ("boxed", records["tent"].result, records["tent"].digests)
    assert online(boxed, record.config) == online(workspace, record.config)


def test_a_stream_that_was_stopped_goes_on_with_the_same_bits(
    streams: Streams, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hcl: its labels of the clip are part of the state. What was predicted after the state is predicted again."""
    monkeypatch.setattr(streaming, "STATE_EVERY", 2)
    complete, config = streams[1]["hcl"], streams[1]["hcl"].config
    step, write = training.Trainer.step, streaming.write_png

    def stop(self: training.Trainer, number: int, parts: object) -> None:
        if number == 3:
            raise KeyboardInterrupt
        step(self, number, parts)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            run(config, workspace)
    folder = workspace.runs / config.hash
    assert load_tensors(folder / "state" / "state.safetensors")[1]["step"] == 2
    (folder / ONLINE / "000003.png").write_bytes(b"half")
    rewritten: list[str] = []
    monkeypatch.setattr(streaming, "write_png", lambda path, pixels: (rewritten.append(path.name), write(path, pixels)))
    record = run(config, workspace)
    assert [name for name in rewritten if "-" not in name] == ["000002.png", "000003.png"]
    assert (record.result, record.digests, record.selection) == (complete.result, complete.digests, complete.selection)
    name = "metrics.jsonl"
    assert (folder / name).read_bytes() == (streams[0].runs / config.hash / name).read_bytes()


def test_with_every_sequence_it_starts_anew(
    streams: Streams, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sequences of two clips: the first clip of each is predicted by the source model, the second by what the first taught."""
    monkeypatch.setattr(ClipStore, "sequence", lambda self, index: "ab"[index // 2])
    never = streams[1]["tent"].config
    anew = never.model_copy(update={"reset": "sequence"})
    start_anew, momenta = streaming.Stream.start_anew, []

    def watched(self: streaming.Stream, start: Mapping[str, torch.Tensor]) -> None:
        start_anew(self, start)
        momenta.append([len(optimiser.state) for optimiser in self.optimisers.values()])

    monkeypatch.setattr(streaming.Stream, "start_anew", watched)
    run(anew, workspace)
    assert momenta == [[0]]  # once, and nothing is left of the first sequence's
    before, after, start = (
        online(streams[0], never), online(workspace, anew), online(streams[0], streams[1]["adabn"].config)
    )  # fmt: skip
    assert after["000001.png"] == before["000001.png"] != start["000001.png"]
    assert after["000002.png"] == start["000002.png"] != before["000002.png"]
    assert after["000003.png"] not in (start["000003.png"], before["000003.png"])
    assert "reset=sequence" in alterations(anew)


@pytest.mark.parametrize("file", ["frames.npy", "label.npy"])
def test_a_method_can_neither_look_ahead_nor_at_labels(
    file: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepare_split(load_shift(TINY).data, "target", "val", 0, workspace.cache) / file
    losses = tent.Tent.losses

    def look(self: tent.Tent, *args: object) -> object:
        path.open("rb").close()
        return losses(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(tent.Tent, "losses", look)
    with pytest.raises(AccessError, match=rf"{file} is closed in this stage of a run; open are: nothing"):
        run(config_of("tent"), workspace)


def test_predictions_that_are_none_are_refused(streams: Streams, tmp_path: Path) -> None:
    workspace, records = streams
    folder, shift = workspace.runs / records["adabn"].run, load_shift(TINY)
    (tmp_path / ONLINE).mkdir()
    for path in (folder / ONLINE).iterdir():
        (tmp_path / ONLINE / path.name).write_bytes(path.read_bytes())
    loader = open_clips(prepare(shift, "target", "val", 0, workspace), "exact", workspace.cache)
    assert online_scores(shift, loader, tmp_path, CLIPS).miou == records["adabn"].result.miou
    spoilt = tmp_path / ONLINE / "000001.png"
    Image.fromarray(np.full((64, 128), 15, np.uint8)).save(spoilt)
    with pytest.raises(RunError, match=r"000001\.png: 15 is no class; there are 15; run it again"):
        online_scores(shift, loader, tmp_path, CLIPS)
    spoilt.unlink()
    with pytest.raises(RunError, match=r"000001\.png: no such file; run it again"):
        online_scores(shift, loader, tmp_path, CLIPS)


ALLOWED = "adabn, cotta, da_vsn_sf, hcl, mic_sf, self_training, source_only, stpl, tent, tps_sf"


@pytest.mark.parametrize(
    ("method", "options", "mode", "says"),
    [
        ("dt_st", {}, "stream", f"it goes through the whole target in rounds, and .* once; allowed: {ALLOWED}$"),
        ("oracle", {}, "stream", "it is oracle and learns from target labels, and a stream brings unlabelled"),
        ("fda", {}, "stream", "Method 'fda' cannot run with --protocol stream: it is UDA and learns from source data"),
        ("tent", {"reset": "never"}, "offline", "Option 'reset' is of a stream; add --protocol stream"),
        ("tent", {"reset": "clip"}, "stream", r"Unknown reset 'clip'\. Available: never, sequence"),
        ("tent", {"reset": "sequence"}, "stream", "Every clip of 'ministreet-tiny' is a sequence of its own"),
        ("tent", {}, "strem", r"Unknown protocol 'strem'\. Did you mean 'stream'\?"),
    ],
)
def test_what_cannot_be_a_stream_is_refused_in_one_line(
    method: str, options: dict[str, object], mode: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        make_run_config(method, TINY, options=options, mode=mode)
    assert "\n" not in str(raised.value)


def test_a_method_in_rounds_streams_only_where_it_says_so(fake_method: Callable[..., str]) -> None:
    rounds = "    def round_steps(self):\n        return (0,)\n"
    plain, in_rounds, willing = (fake_method(more=body) for body in ("", rounds, f"    streams = True\n{rounds}"))
    allowed = methods_on(TINY, "stream")
    assert plain in allowed and willing in allowed and in_rounds not in allowed


def test_predictions_of_training_clips_are_refused(workspace: Workspace) -> None:
    saving = Workspace(workspace.runs, workspace.cache, workspace.device, save_predictions=1)
    with pytest.raises(UsageError, match="--save-predictions is of target training clips, and a stream has none"):
        run(config_of("adabn"), saving)
