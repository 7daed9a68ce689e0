"""stpl, and what it adds to self_training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.core.errors import UsageError
from bench.networks.build import build_segmenter
from bench.runs.config import method_class, resolve_settings
from bench.runs.settings import settings_of
from methods.base import ClipBatch, Method, Setup
from tests.methods.batches import CLASSES, clips, seeded


def make(name: str, **overrides: Any) -> Method:
    torch.manual_seed(0)
    cls = method_class(name)
    model = build_segmenter("mini", "conv1x1", CLASSES)
    method: Method = cls(model, settings_of(name, resolve_settings(name, overrides)), Setup(CLASSES, 10, 0))
    method.restart()
    return method.train()


def trained(method: Method, steps: int) -> list[dict[str, float]]:
    optimiser = torch.optim.SGD(method.parameter_groups(0.01, 10.0), momentum=0.9)
    log = []
    for step in range(steps):
        losses = method.losses(clips(seed=step), None, step)
        log.append({k: v.item() for k, v in losses.items()})
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        method.after_step(step)
    return log


def shared_settings() -> dict[str, Any]:
    settings = resolve_settings("self_training", {})
    return {key: settings[key] for key in set(settings) & set(resolve_settings("stpl", {}))}


def test_stpl_has_all_settings_of_self_training() -> None:
    """By the same names, so that either can be run with the other's values; the defaults come from a search of their own."""
    assert set(resolve_settings("self_training", {})) <= set(resolve_settings("stpl", {}))


def test_without_a_teacher_the_student_labels_itself() -> None:
    """The same losses, over steps, as with an average that forgets at once; and nothing of a teacher is kept or trained."""
    alone = make("stpl", teacher="none")  # with the values of its own search
    forgetful = make(
        "stpl", **{**resolve_settings("stpl", {"teacher": "none"}), "teacher": "average", "ema_decay": 0.0}
    )
    assert trained(alone, 3) == trained(forgetful, 3)
    assert not any("teacher.segmenter" in name or "teacher_head" in name for name in alone.state_dict())
    assert alone.evaluated("teacher") is alone.segmenter is not forgetful.evaluated("teacher")
    size = sum(p.numel() for p in alone.parameters())
    assert size < 0.6 * sum(p.numel() for p in forgetful.parameters())
    labelled = alone.teacher.label(clips(), 0.0, seeded(), alone.segmenter)
    assert not labelled.out.scores.requires_grad


def test_stpl_without_contrast_is_self_training_bit_for_bit() -> None:
    """Same views, same teacher, same labels, same cross entropy, over steps in which all of them change."""
    method, floor = make("stpl", contrast=False, **shared_settings()), make("self_training")
    assert trained(method, 3) == trained(floor, 3)
    for (key, a), b in zip(method.segmenter.state_dict().items(), floor.segmenter.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_only_stpl_labels_frame_t_minus_1() -> None:
    """Teacher and student classify once each in a step of self-training; what it does not learn from costs nothing."""
    calls = {}
    for name in ("self_training", "stpl"):
        method, calls[name] = make(name), []
        for segmenter in (method.segmenter, method.teacher.segmenter):
            segmenter.classifier.register_forward_hook(lambda *_, passes=calls[name]: passes.append(1))
        method.losses(clips(), None, 0)
    assert (len(calls["self_training"]), len(calls["stpl"])) == (2, 3)


def test_the_first_cross_entropy_of_both_is_the_same_with_contrast_too() -> None:
    logged, floor = trained(make("stpl", **shared_settings()), 2), trained(make("self_training"), 2)
    assert logged[0]["ce"] == floor[0]["ce"] and logged[0]["contrast"] > 0
    assert logged[1]["ce"] != floor[1]["ce"]  # the contrast has moved the features


@pytest.mark.parametrize("weak_view", ["teacher", "student", "none"])
@pytest.mark.parametrize("times", ["both", "current"])
def test_what_enters_the_contrast(weak_view: str, times: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import methods.stpl as module

    maps: list[list[Tensor]] = []
    original = module.stpl_objective

    def spy(scores: Tensor, labels: Tensor, embeddings: list[Tensor], map_labels: list[Tensor], **rest: Any) -> Any:
        maps.append(embeddings)
        assert len(embeddings) == len(map_labels)
        return original(scores, labels, embeddings, map_labels, **rest)

    monkeypatch.setattr(module, "stpl_objective", spy)
    make("stpl", weak_view=weak_view, times=times).losses(clips(), None, 0)
    views = 1 if weak_view == "none" else 2
    assert len(maps[0]) == views * (2 if times == "both" else 1)
    with_gradient = [z.requires_grad for z in maps[0]]
    expected = (
        [True] * len(maps[0])
        if weak_view != "teacher"
        else [True] * (len(maps[0]) // 2) + [False] * (len(maps[0]) // 2)
    )
    assert with_gradient == expected


def test_without_ce_only_the_contrast_is_left() -> None:
    assert set(make("stpl", ce=False).losses(clips(), None, 0)) == {"contrast"}
    assert set(make("stpl", contrast=False).losses(clips(), None, 0)) == {"ce"}


def test_the_contrast_reads_time() -> None:
    """The frame before matters: changing it alone changes the contrast."""
    batch = clips()
    frames = batch.frames.clone()
    frames[:, 0] = frames[:, 0].flip(-1)
    changed = ClipBatch(frames, batch.flow, batch.valid, batch.keys)
    assert make("stpl").losses(batch, None, 0)["contrast"] != make("stpl").losses(changed, None, 0)["contrast"]


@pytest.mark.parametrize(
    ("method", "overrides", "says"),
    [
        ("stpl", {"temperature": 0.001}, "temperature must be in 0.01..10, got 0.001"),
        ("stpl", {"contrast_weight": -0.1}, "contrast_weight must be in 0..100, got -0.1"),
        ("stpl", {"pixels_per_class": 0}, "pixels_per_class must be in 1..100000, got 0"),
        ("stpl", {"dimension": 1}, "dimension must be in 2..4096, got 1"),
        ("stpl", {"ema_decay": 1.1}, "ema_decay must be in 0..1, got 1.1"),
        ("stpl", {"contrast": False, "ce": False}, "contrast and ce are both off"),
        ("stpl", {"contrast_weight": 0.0, "ce": False}, "contrast and ce are both off"),
        ("self_training", {"drop": 1}, "drop must be in 0..0.99, got 1"),
        ("self_training", {"cap": 1.01}, "cap must be in 0..1, got 1.01"),
        ("self_training", {"strength": 2}, "strength must be in 0..1.5, got 2"),
        ("self_training", {"max_zoom": 0.9}, "max_zoom must be in 1..4, got 0.9"),
    ],
)
def test_settings_out_of_range_name_the_field_and_what_is_allowed(
    method: str, overrides: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says.replace(".", r"\.")):
        resolve_settings(method, overrides)
