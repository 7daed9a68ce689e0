"""What distinguishes each method of the paper's table: its terms, copies, phases and rounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.networks.build import build_segmenter
from bench.runs.config import method_class, resolve_settings
from bench.runs.settings import settings_of
from methods.base import ClipBatch, LabelledBatch, Method, Setup
from methods.common.augment import Geometry
from methods.common.historical import agreement
from methods.common.supervision import earlier_scores, rescale
from methods.common.temporal import aggregated_prediction
from methods.hcl import contrasted

CLASSES, STEPS = 5, 6


def make(name: str, **settings: Any) -> Method:
    torch.manual_seed(0)
    cls = method_class(name)
    segmenter = build_segmenter("mini", "conv1x1", CLASSES)
    method: Method = cls(segmenter, settings_of(name, resolve_settings(name, settings)), Setup(CLASSES, STEPS, 0))
    method.restart()
    return method.train()


def clips(seed: int = 0, n: int = 2) -> ClipBatch:
    g = torch.Generator().manual_seed(seed)
    frames, flow = torch.rand(n, 2, 3, 32, 64, generator=g), torch.randn(n, 1, 2, 32, 64, generator=g)
    return ClipBatch(frames, flow, torch.ones(n, 1, 32, 64, dtype=torch.bool), tuple(f"clip {i}" for i in range(n)))


def labelled(seed: int = 1, n: int = 2) -> LabelledBatch:
    c = clips(seed, n)
    label = torch.randint(0, CLASSES, (n, 32, 64), generator=torch.Generator().manual_seed(seed))
    return LabelledBatch(c.frames, c.flow, c.valid, c.keys, label)


def step(method: Method, number: int, source: LabelledBatch | None = None) -> dict[str, float]:
    """One step of plain gradient descent."""
    target = clips()
    if number in method.round_steps():
        method.start_round(method.round_steps().index(number), [target])
    losses = method.losses(target, source, number)
    parameters = [p for group in method.parameter_groups(0.01, 1.0) for p in group["params"]]
    gradients = torch.autograd.grad(sum(losses.values()), parameters, allow_unused=True)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter -= 0.01 * gradient
    method.after_step(number)
    return {name: float(value.detach()) for name, value in losses.items()}


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_ur_freezes_the_classifier_and_trains_its_copies() -> None:
    method = make("ur")
    classifier, decoders = weights(method.segmenter.classifier), weights(method.decoders)  # type: ignore[arg-type]
    step(method, 0)
    assert same(weights(method.segmenter.classifier), classifier)
    assert not same(weights(method.decoders), decoders)  # type: ignore[arg-type]


def test_ur_without_dropped_channels_has_no_disagreement_at_the_start() -> None:
    method = make("ur", channel_dropout=0.0)
    method.start_round(0, [clips()])
    assert float(method.losses(clips(), None, 0)["decoders"].detach()) == pytest.approx(0.0, abs=1e-12)


def test_fda_trains_three_segmenters_and_then_one() -> None:
    method = make("fda")
    before = weights(method.others)  # type: ignore[arg-type]
    first = step(method, 0, labelled())
    assert {"ce", "entropy", "ce_L0.01", "ce_L0.09"} <= first.keys() and "pseudo" not in first
    moved = weights(method.others)  # type: ignore[arg-type]
    assert not same(moved, before)
    second = step(method, method.first, labelled())  # type: ignore[arg-type]
    assert second.keys() == {"ce", "ce_aux", "entropy", "pseudo"}
    assert same(weights(method.others), moved)  # type: ignore[arg-type]


def test_pixmatch_scores_its_average_whatever_the_readout() -> None:
    method = make("pixmatch")
    assert method.evaluates_average
    before = weights(method.evaluated("student"))
    step(method, 0, labelled())
    average, student = weights(method.evaluated("student")), weights(method.segmenter)
    decay = method.settings.ema_decay
    for old, mean, new in zip(before, average, student, strict=True):
        torch.testing.assert_close(mean, decay * old + (1 - decay) * new)


@pytest.mark.parametrize("augmentation", ["photometric", "fourier", "cutmix"])
def test_pixmatch_augmentations(augmentation: str) -> None:
    method = make("pixmatch", augmentation=augmentation)
    losses = method.losses(clips(), labelled(), 0)
    assert {"ce", "consistency", "consistency_aux"} <= losses.keys()
    assert all(torch.isfinite(v) for v in losses.values())


def test_pixmatch_with_a_threshold_that_nothing_passes_has_no_consistency_loss() -> None:
    losses = make("pixmatch", threshold=1.0).losses(clips(), labelled(), 0)
    assert float(losses["consistency"].detach()) == 0.0


def test_hcl_resets_both_historical_models_to_the_student() -> None:
    """As the published trainer does every R steps; between two resets the average follows and the snapshot stands."""
    method = make("hcl", refresh=2)
    start = weights(method.older)  # type: ignore[arg-type]
    step(method, 0)
    assert same(weights(method.older), start) and not same(weights(method.averaged), start)  # type: ignore[arg-type]
    assert not same(weights(method.averaged), weights(method.segmenter))  # type: ignore[arg-type]
    step(method, 1)
    student = weights(method.segmenter)
    assert same(weights(method.older), student) and same(weights(method.averaged), student)  # type: ignore[arg-type]
    assert same(weights(method.averaged_projector), weights(method.projector))  # type: ignore[arg-type]
    assert not same(student, start)


def test_hcl_trusts_less_where_the_average_has_left_the_snapshot() -> None:
    """The weight is 1 after a reset and leaves it in between: it is of the student's way since then."""
    method, agreements = make("hcl", refresh=3, ema_decay=0.5), []

    def trust(*_: Any) -> None:
        with torch.no_grad():
            passes = [m(clips().frames, clips().flow, clips().valid).scores for m in (method.older, method.averaged)]
        agreements.append(float(agreement(*passes).mean()))

    for number in range(4):
        trust()
        for _ in range(3 if number == 2 else 1):  # the optimiser of a test is weak
            step(method, number)
    assert agreements[0] == agreements[3] == 1.0 and agreements[0] > agreements[1] > agreements[2]


def test_hcl_has_a_projector_on_the_features_under_the_auxiliary_head() -> None:
    method = make("hcl")
    frames = clips()
    out = method.segmenter(frames.frames, frames.flow, frames.valid)
    assert contrasted(out) is out.auxiliary_encoded[-1]
    assert method.projector(contrasted(out)).shape[1] == 128  # type: ignore[operator]
    assert contrasted(out._replace(auxiliary_encoded=None)) is out.current
    groups = method.parameter_groups(0.1, 10.0)
    assert all(group["nesterov"] for group in groups)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert {rate[id(p)] for p in method.projector.parameters()} == {1.0}  # type: ignore[operator]
    assert all(g["nesterov"] for g in torch.optim.SGD(groups, lr=0.1, momentum=0.9).param_groups)


def test_hcl_labels_are_of_both_heads_sizes_and_mirrors() -> None:
    method = make("hcl", drop=0.0, labelling="eval")
    method.start_round(0, [clips()])
    segmenter = method.averaged.eval()  # type: ignore[operator]
    expected = torch.zeros(2, CLASSES, 8, 16)
    for percent in (100, 125):
        view = clips() if percent == 100 else rescale(clips(), 125)
        for turned in (False, True):
            moved = Geometry(torch.full((2,), -1.0 if turned else 1.0), torch.ones(2), torch.zeros(2, 2)).clips(view)
            out = segmenter(moved.frames, moved.flow, moved.valid)
            half = torch.nn.functional.interpolate(out.auxiliary_scores, out.scores.shape[-2:], mode="bilinear")
            p = (out.scores + 0.5 * half).softmax(1)
            p = p.flip(-1) if turned else p
            expected += torch.nn.functional.interpolate(p, (8, 16), mode="bilinear", align_corners=True)
    agree = method.bank.of(clips().keys) == expected.argmax(1)  # type: ignore[operator, union-attr]
    assert agree.float().mean() > 0.999


@pytest.mark.parametrize("name", ["ur", "fda", "hcl", "cmom", "iapc", "dt_st"])
def test_offline_labels_are_made_in_the_mode_that_is_asked_for(name: str) -> None:
    """Published: batch norm by its running statistics. In train mode the pass would move them, in eval mode it does not."""
    moved = {}
    for mode in ("eval", "train"):
        method = make(name, labelling=mode)
        before = {key: value.clone() for key, value in method.state_dict().items() if "running_mean" in key}
        method.start_round(0, [clips()])
        after = method.state_dict()
        moved[mode] = [key for key, value in before.items() if not torch.equal(value, after[key])]
        assert all(module.training for module in method.modules())
    assert not moved["eval"] and moved["train"]


def test_ur_labels_a_little_more_in_each_round() -> None:
    method = make("ur", portion=0.3, growth=0.05, rounds=6)
    assert [method.portion(n) for n in range(6)] == pytest.approx([0.3, 0.35, 0.4, 0.45, 0.5, 0.5])  # type: ignore[operator]
    assert make("ur", portion=0.7, growth=0.05).portion(3) == 0.7  # type: ignore[operator]
    share = {}
    for number in (0, 4):
        method.start_round(number, [clips()])
        share[number] = (method.bank.labels != 255).float().mean()  # type: ignore[union-attr]
    assert share[4] > share[0]


def test_fda_has_its_entropy_from_a_share_of_the_first_phase_on() -> None:
    """Published: step 50,000 of 100,000. Here 4 of 6 steps are the first phase, and half of them goes by without it."""
    method = make("fda", entropy_from=0.5, first_share=0.67)
    entropies = [step(method, number, labelled())["entropy"] for number in range(STEPS)]
    assert entropies[:2] == [0.0, 0.0] and min(entropies[2:]) > 0
    assert step(make("fda"), 0, labelled())["entropy"] > 0  # MiniStreet: at once


def test_fda_has_three_sets_of_gradients() -> None:
    groups = make("fda").parameter_groups(0.01, 10.0)
    assert [group["clipped"] for group in groups] == [0, 0, 1, 1, 2, 2]


def test_da_vsn_has_four_discriminators_that_learn_and_differ() -> None:
    method = make("da_vsn")
    names = {"temporal_main", "spatial_main", "temporal_auxiliary", "spatial_auxiliary"}
    assert method.optimisers().keys() == names
    before = weights(method.adversaries)  # type: ignore[arg-type]
    losses = step(method, 0, labelled())
    assert names | {"ce", "ce_aux", "itcr_main", "itcr_auxiliary"} == losses.keys()
    moved = weights(method.adversaries)  # type: ignore[arg-type]
    assert not any(torch.equal(a, b) for a, b in zip(before, moved, strict=True))


def test_the_source_free_da_vsn_is_the_target_term_alone() -> None:
    full, alone = make("da_vsn", itcr_weight=1.0), make("da_vsn_sf", itcr_weight=1.0)
    alone.segmenter.load_state_dict(full.segmenter.state_dict())
    alone_losses = alone.losses(clips(), None, 0)
    full_losses = full.losses(clips(), labelled(), 0)
    assert alone_losses.keys() == {"itcr_main", "itcr_auxiliary"}
    for name, value in alone_losses.items():
        torch.testing.assert_close(value, full_losses[name])


def test_the_source_free_tps_is_the_target_term_alone() -> None:
    full = make("tps", weight=1.0)
    alone = make("tps_sf", jitter=full.settings.jitter, blur_probability=full.settings.blur_probability)
    full_losses, alone_losses = full.losses(clips(), labelled(), 0), alone.losses(clips(), None, 0)
    assert alone_losses.keys() == {"pseudo", "pseudo_aux"} and full_losses.keys() == {"ce", "ce_aux", *alone_losses}
    for name, value in alone_losses.items():
        torch.testing.assert_close(value, full_losses[name])


def test_tps_labels_do_not_depend_on_the_mirror() -> None:
    """The repair: a mirrored earlier frame is warped in the geometry that it was predicted in."""
    from methods.common.augment import Geometry
    from methods.common.temporal import warped_labels

    p, flow = torch.rand(2, 4, 8, 12), torch.zeros(2, 2, 8, 12)
    flow[:, 0], flow[:, 1] = 2.0, -1.0
    mirror = Geometry(-torch.ones(2), torch.ones(2), torch.zeros(2, 2))
    mirrored = warped_labels(mirror.maps(p), mirror.flow(flow))  # mirrored maps along the mirrored flow, x negated
    back, plain = mirror.labels(mirrored), warped_labels(p, flow)
    assert (back == plain)[..., 1:-1, 2:-2].all()


@pytest.mark.parametrize("frames", [3, 4])
def test_tps_labels_come_from_the_clip_that_ends_one_frame_earlier(frames: int) -> None:
    """As published: frames t-1 and t-2 of a longer clip are predicted together, not t-1 by itself."""
    segmenter = build_segmenter("mini", "conv1x1", CLASSES, frames).eval()
    torch.nn.init.normal_(segmenter.fusion.mix.weight, std=0.1)
    g = torch.Generator().manual_seed(0)
    clip = ClipBatch(
        torch.rand(2, frames, 3, 32, 64, generator=g),
        torch.randn(2, frames - 1, 2, 32, 64, generator=g),
        torch.ones(2, frames - 1, 32, 64, dtype=torch.bool),
        ("a", "b"),
    )
    plain = Geometry(torch.ones(2), torch.ones(2), torch.zeros(2, 2))
    before = earlier_scores(segmenter, clip, plain)
    expected = segmenter(clip.frames[:, :-1], clip.flow[:, :-1], clip.valid[:, :-1])
    torch.testing.assert_close(before.main, expected.scores, atol=1e-4, rtol=1e-4)
    alone = segmenter.classify(segmenter.fuse_alone(segmenter.encode(clip.frames[:, -2])[0]))
    assert not torch.allclose(before.main, alone, atol=1e-2)


def test_vat_vst_aggregates_several_preceding_frames() -> None:
    """Standing scene: the mean of the current prediction and those of t-1, t-2 and t-3, each by itself."""
    segmenter = build_segmenter("mini", "none", CLASSES, 4).eval()
    frames = torch.rand(2, 4, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    clip = ClipBatch(frames, torch.zeros(2, 3, 2, 32, 64), torch.ones(2, 3, 32, 64, dtype=torch.bool), ("a", "b"))
    predictions = [segmenter.classify(segmenter.encode(frames[:, k])[0]).softmax(1) for k in range(4)]
    torch.testing.assert_close(aggregated_prediction(segmenter, clip), torch.stack(predictions).mean(0))


def test_vat_vst_leaves_source_and_discriminators_in_its_second_phase() -> None:
    method = make("vat_vst", first_share=0.5)
    assert {"ce", "image", "sequence"} <= step(method, 0, labelled()).keys()
    before = weights(method.image)  # type: ignore[arg-type]
    assert step(method, 3, labelled()).keys() == {"ce"}
    assert same(weights(method.image), before)  # type: ignore[arg-type]


def test_vat_vst_sf_labels_the_target_in_rounds() -> None:
    method = make("vat_vst_sf", rounds=3)
    assert method.round_steps() == (0, 2, 4)
    step(method, 0)
    first = method.bank.of(("clip 0",)).clone()  # type: ignore[union-attr,operator]
    for number in (1, 2):
        step(method, number)
    assert first.shape == method.bank.of(("clip 0",)).shape  # type: ignore[union-attr,operator]


def test_rda_trains_its_gate_against_the_segmenter() -> None:
    method = make("rda")
    gate = weights(method.gate)  # type: ignore[arg-type]
    losses = step(method, 0, labelled())
    assert {"ce", "adversarial", "consistency", "attack"} <= losses.keys()
    assert losses["attack"] < 0 < losses["consistency"]
    assert not same(weights(method.gate), gate)  # type: ignore[arg-type]


def test_rda_attacks_with_another_clip_and_a_lone_clip_with_the_source() -> None:
    method = make("rda", attacked_share=1.0)
    pair, _ = method.attack(clips(), labelled())  # type: ignore[operator]
    assert float((pair.frames - clips().frames).abs().mean().detach()) > 0.01
    lone, _ = method.attack(clips(n=1), labelled(n=1))  # type: ignore[operator]
    assert float((lone.frames - clips(n=1).frames).abs().mean().detach()) > 0.01
    twins = clips()
    twins = ClipBatch(twins.frames[:1].expand(2, -1, -1, -1, -1), twins.flow, twins.valid, twins.keys)
    same_clip, _ = method.attack(twins, labelled())  # type: ignore[operator]
    torch.testing.assert_close(same_clip.frames, twins.frames, atol=1e-4, rtol=0)
