"""iapc: each term at values worked out by hand, prototypes against loops, models that stand still or nearly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from methods.common import averaged_views, class_means, prototype_similarity
from methods.iapc import VIEWS, importance


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_importance_by_hand() -> None:
    """Probabilities 0.6, 0.3, 0.1 give 1 - 0.3/0.6; a tie gives 0."""
    p = torch.tensor([[0.6, 0.3, 0.1], [0.45, 0.45, 0.1]]).log().t().reshape(1, 3, 1, 2)
    assert importance(p + 7.0).flatten().tolist() == pytest.approx(
        [0.5, 0.0], abs=1e-6
    )  # logits are free of a constant


@pytest.mark.parametrize("absent", [(), (1,), (0, 1, 2)])
def test_similarity_to_prototypes_against_a_loop(absent: tuple[int, ...]) -> None:
    features = torch.randn(2, 4, 3, 5, generator=gen())
    means, present = torch.randn(2, 3, 4, generator=gen(1)), torch.ones(2, 3, dtype=torch.bool)
    present[1, list(absent)] = False
    cosine, nearest = prototype_similarity(features, means, present)
    for n in range(2):
        for y in range(3):
            for x in range(5):
                f = features[n, :, y, x]
                expected = [
                    float(f @ means[n, c] / (f.norm() * means[n, c].norm())) if present[n, c] else 0.0 for c in range(3)
                ]
                assert cosine[n, :, y, x].tolist() == pytest.approx(expected, abs=1e-5)
                candidates = [c for c in range(3) if present[n, c]]
                best = max(candidates, key=lambda c: expected[c]) if candidates else 255
                assert int(nearest[n, y, x]) == best


def test_an_absent_class_is_nobodys_nearest_even_if_all_others_are_opposed() -> None:
    features, means = torch.ones(1, 2, 1, 1), torch.tensor([[[-1.0, -1.0], [0.0, 0.0]]])
    cosine, nearest = prototype_similarity(features, means, torch.tensor([[True, False]]))
    assert cosine.flatten().tolist() == pytest.approx([-1.0, 0.0]) and int(nearest) == 0


PUBLISHED = {"importance_weight": 0.2, "enhanced_weight": 0.5, "entropy_weight": 2.0, "labelling": "train"}


def test_every_term_is_what_the_docstring_says(stand_in: Any) -> None:
    """Without noise and zoom; the networks' outputs are taken as they are, everything after them is done pixel by pixel."""
    method = stand_in.method("iapc", strength=0.0, max_zoom=1.0, **PUBLISHED)
    target = stand_in.clips()
    method.start_round(0, [target])
    with torch.no_grad():  # so that source model, memory and student differ
        for p in method.segmenter.classifier.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=gen(5)))
    losses = {k: float(v.detach()) for k, v in method.losses(target, None, 0).items()}

    from methods.common.augment import Geometry

    geometry = Geometry.draw(2, 1.0, method.generator(0, "strong view"))
    view, label = geometry.clips(target), geometry.labels(method.bank.of(target.keys))
    out, of_source, memory = (
        m(view.frames, view.flow, view.valid) for m in (method.segmenter, method.origin, method.memory)
    )
    scores, p1 = out.scores.detach(), of_source.scores.softmax(1).detach()
    memory_label = memory.scores.argmax(1)[:, ::2, ::2]  # features have half of the scores' resolution
    memory_label = F.interpolate(
        memory.scores.argmax(1)[:, None].float(), memory.features.shape[-2:], mode="nearest-exact"
    )[:, 0]
    cosine, nearest = prototype_similarity(out.features, *class_means(memory.features, memory_label.long(), 5))
    n, _, height, width = scores.shape
    pixels, rare = height * width, 4096 / 131072
    counts = torch.bincount(label.flatten(), minlength=5)
    often = [0.9 + 0.1 * (7.0 if counts[c] == 0 else 1.0) for c in range(5)]
    weight = [(7.0 if counts[c] < rare * pixels * n else 1.0) * often[c] for c in range(5)]
    ia = pe = ps1 = entropy = 0.0
    for i in range(n):
        for y in range(height):
            for x in range(width):
                logp, truth = scores[i, :, y, x].log_softmax(0), int(label[i, y, x])
                k = int(nearest[i, y // 2, x // 2])
                first, second = sorted(p1[i, :, y, x].tolist(), reverse=True)[:2]
                loss = -float(logp[truth]) * weight[truth]
                ia += loss * (1 - second / first)
                pe += loss * (k == truth)
                ps1 -= float(logp[k])
                entropy -= float((logp.exp() * logp).sum())
    cells = n * pixels
    guess = F.interpolate(scores.argmax(1)[:, None].float(), cosine.shape[-2:], mode="nearest-exact")[:, 0].long()
    ps2 = float(F.cross_entropy(cosine, guess).detach())
    assert losses["importance"] == pytest.approx(0.2 * ia / cells, rel=1e-4)
    assert losses["enhanced"] == pytest.approx(0.5 * pe / cells, rel=1e-4)
    assert losses["symmetric"] == pytest.approx(0.04 * (ps1 / cells + ps2), rel=1e-4)
    assert losses["entropy"] == pytest.approx(2 * entropy / cells, rel=1e-4)
    assert 0 < pe < ia * 100 and min(weight) == 1.0


def test_the_entropy_term_of_even_predictions_is_two_ln_k(stand_in: Any) -> None:
    method = stand_in.method("iapc", **PUBLISHED)
    with torch.no_grad():
        for p in method.segmenter.classifier.parameters():
            p.zero_()
    method.restart()
    method.start_round(0, [stand_in.clips()])
    losses = method.losses(stand_in.clips(), None, 0)
    assert float(losses["entropy"].detach()) == pytest.approx(2 * math.log(5), rel=1e-4)
    assert float(losses["importance"].detach()) == pytest.approx(
        0.0, abs=1e-6
    )  # every prediction of the source is a tie


def test_the_memory_creeps_and_the_source_model_stands(stand_in: Any) -> None:
    method = stand_in.method("iapc", **PUBLISHED)
    before, origin = stand_in.weights(method.memory), stand_in.weights(method.origin)
    with torch.no_grad():
        for p in method.segmenter.parameters():
            p.add_(1.0)
    method.after_step(0)
    for old, mean in zip(before, stand_in.weights(method.memory), strict=True):
        torch.testing.assert_close(mean, old + 1e-4, atol=1e-6, rtol=0)
    assert all(torch.equal(a, b) for a, b in zip(origin, stand_in.weights(method.origin), strict=True))


def test_labels_are_the_source_models_mean_over_six_views(stand_in: Any) -> None:
    method, target = stand_in.method("iapc", **PUBLISHED), stand_in.clips()
    method.start_round(0, [target])
    assert set(VIEWS) == {(s, m) for s in (75, 100, 125) for m in (False, True)}
    expected = averaged_views(stand_in.method("iapc").origin, target, VIEWS, (8, 16)).argmax(1)
    assert torch.equal(method.bank.of(target.keys), expected)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_source_model_weighs_a_step_in_the_mode_that_it_labels_in(stand_in: Any, mode: str) -> None:
    """Published: by its running statistics, which no batch then moves. The memory's are always the batch's."""
    method, target = stand_in.method("iapc", labelling=mode), stand_in.clips()
    method.start_round(0, [target])

    def statistics(network: torch.nn.Module) -> list[torch.Tensor]:
        return [value.clone() for key, value in network.state_dict().items() if "running_mean" in key]

    before = {name: statistics(getattr(method, name)) for name in ("origin", "memory")}
    method.losses(target, None, 0)
    same = {
        name: all(torch.equal(a, b) for a, b in zip(old, statistics(getattr(method, name)), strict=True))
        for name, old in before.items()
    }
    assert same == {"origin": mode == "eval", "memory": False}
