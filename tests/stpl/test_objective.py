import doctest
import math

import pytest
import torch
import torch.nn.functional as F

import stpl
from stpl.contrast import pixel_contrast, sample_class_balanced
from stpl.objective import STPLObjective, pseudo_label_cross_entropy, resize_labels, stpl_objective


def batch(seed=0):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 5, 8, 16, generator=g).requires_grad_()
    labels = torch.randint(0, 5, (2, 8, 16), generator=g)
    labels[:, :3] = 255
    maps = [F.normalize(torch.randn(2, 6, 4, 8, generator=g), dim=1).requires_grad_() for _ in range(3)]
    return scores, labels, maps


def test_the_example_of_the_package_runs():
    result = doctest.testmod(stpl)
    assert result.attempted > 10 and result.failed == 0


def test_cross_entropy_by_hand():
    scores = torch.tensor([[0.0, math.log(3), 5.0], [0.0, 0.0, 5.0]]).view(1, 2, 1, 3)
    labels = torch.tensor([[[0, 0, 255]]])
    # -ln(1/2) and -ln(3/4), the third is ignored
    assert pseudo_label_cross_entropy(scores, labels).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    weight = torch.tensor([[[1.0, 0.5, 9.0]]])
    expected = (math.log(2) + 0.5 * math.log(4 / 3)) / 2
    assert pseudo_label_cross_entropy(scores, labels, weight).item() == pytest.approx(expected)


def test_labels_are_resized_to_the_centre_pixel():
    labels = torch.arange(9).view(1, 3, 3)
    assert resize_labels(labels, (1, 1)).tolist() == [[[4]]]
    assert torch.equal(resize_labels(labels, (3, 3)), labels)
    assert resize_labels(torch.full((1, 2, 2), 255, dtype=torch.uint8), (4, 4)).unique().tolist() == [255]


def test_terms_add_up_from_their_parts():
    scores, labels, maps = batch()
    losses = stpl_objective(
        scores,
        labels,
        maps[:2],
        [labels, labels.flip(0)],
        contrast_weight=0.3,
        temperature=0.2,
        pixels_per_class=7,
        denominator="supcon",
        generator=torch.Generator().manual_seed(4),
    )
    small = torch.cat([resize_labels(x, (4, 8)).flatten() for x in (labels, labels.flip(0))])
    flat = torch.cat([z.permute(0, 2, 3, 1).reshape(-1, 6) for z in maps[:2]])
    drawn = sample_class_balanced(small, 7, torch.Generator().manual_seed(4))
    expected = 0.3 * pixel_contrast(flat[drawn], small[drawn], temperature=0.2, denominator="supcon")
    assert torch.allclose(losses["contrast"], expected)
    assert torch.allclose(losses["ce"], F.cross_entropy(scores, labels, ignore_index=255))


def test_every_map_is_contrasted_with_every_other():
    """Positives exist only across maps: each map has one pixel of each class."""
    z = [torch.eye(2).view(1, 2, 1, 2).clone().requires_grad_() for _ in range(2)]
    labels = torch.tensor([[[0, 1]]])
    scores = torch.zeros(1, 2, 1, 2)
    loss = stpl_objective(scores, labels, z, [labels] * 2, contrast_weight=1.0, temperature=1.0)["contrast"]
    # every anchor: positive at similarity 1, two negatives at 0
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-1)), rel=1e-6)
    loss.backward()
    assert z[0].grad.any() and z[1].grad.any()


def test_terms_can_be_switched_off():
    scores, labels, maps = batch()
    assert set(stpl_objective(scores, labels, maps, [labels] * 3, contrast_weight=0)) == {"ce"}
    assert set(stpl_objective(scores, labels, maps, [labels] * 3, ce=False)) == {"contrast"}
    assert set(stpl_objective(scores, labels, [], [])) == {"ce"}


def test_nothing_labelled_gives_zero_with_zero_gradient():
    scores, labels, maps = batch()
    labels = torch.full_like(labels, 255)
    losses = stpl_objective(scores, labels, maps, [labels] * 3)
    sum(losses.values()).backward()
    assert [loss.item() for loss in losses.values()] == [0, 0]
    assert all(not x.grad.any() for x in (scores, *maps))


def test_gradients_stay_with_labelled_pixels():
    scores, labels, maps = batch()
    sum(stpl_objective(scores, labels, maps, [labels] * 3, pixels_per_class=1000).values()).backward()
    ignored = (labels == 255)[:, None].expand_as(scores)
    assert not scores.grad[ignored].any() and scores.grad[~ignored].any()
    ignored = (resize_labels(labels, (4, 8)) == 255)[:, None].expand_as(maps[0])
    assert not maps[0].grad[ignored].any() and maps[0].grad[~ignored].any()


def test_the_draw_of_pixels_is_repeatable():
    scores, labels, maps = batch()

    def contrast(seed):
        g = torch.Generator().manual_seed(seed)
        return stpl_objective(scores, labels, maps, [labels] * 3, pixels_per_class=3, generator=g)["contrast"]

    assert contrast(1) == contrast(1) and contrast(1) != contrast(2)


def test_module_equals_function():
    scores, labels, maps = batch()
    options = {"contrast_weight": 0.5, "temperature": 0.3, "pixels_per_class": 9, "denominator": "supcon"}
    module = STPLObjective(**options)
    weight = torch.rand(2, 8, 16)

    def with_seed(function, **overrides):
        return function(
            scores,
            labels,
            maps,
            [labels] * 3,
            ce_weight=weight,
            generator=torch.Generator().manual_seed(0),
            **overrides,
        )

    assert with_seed(module) == with_seed(stpl_objective, **options)


def test_maps_and_labels_must_pair_up():
    scores, labels, maps = batch()
    with pytest.raises(ValueError, match="3 embedding maps need as many label maps, got 1"):
        stpl_objective(scores, labels, maps, [labels])
    with pytest.raises(ValueError, match=r"of the same N, got \(2, .* and \(1, "):
        stpl_objective(scores, labels, maps[:1], [labels[:1]])
    with pytest.raises(ValueError, match=r"embeddings \(N, D, h, w\)"):
        stpl_objective(scores, labels, [maps[0].flatten(2)], [labels])


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_that_is_none_does_not_switch_the_contrast_off(weight):
    scores, labels, maps = batch()
    with pytest.raises(ValueError, match="contrast_weight must be 0 or more"):
        stpl_objective(scores, labels, maps, [labels] * len(maps), contrast_weight=weight)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(half):
    """The sum over a map of 128 x 256 is beyond float16's largest number."""
    scores = (3 * torch.randn(2, 19, 128, 256, generator=torch.Generator().manual_seed(0))).to(half)
    labels = torch.randint(0, 19, (2, 128, 256), generator=torch.Generator().manual_seed(1))
    loss = pseudo_label_cross_entropy(scores, labels)
    assert loss.dtype == torch.float32 and loss == F.cross_entropy(scores.float(), labels)
