"""The published learning-rate schedules: ours is the same curve, over every parameter group."""

import numpy as np
import pytest

from bench.runs.training import poly

FILE = "lr_schedules"


def column(case, name):
    names = [str(text) for text in case["columns"]]
    return case["out_rows"][:, names.index(name)]


def poly_factors(case):
    """``poly`` with the published number of steps and power, as a factor of each row."""
    steps, power = int(case["param_max_iters"]), float(case["param_power"])
    return np.array([poly(int(t), steps, power) for t in column(case, "iteration")])


@pytest.mark.cases("out_rows", "param_max_iters")
def test_scheduled_groups(case, assert_close):
    assert_close(column(case, "base_lr") * poly_factors(case), column(case, "group0_backbone"))
    assert_close(10 * column(case, "base_lr") * poly_factors(case), column(case, "group1_score_fusion"))


@pytest.mark.cases("out_rows", "param_max_iters")
def test_the_classifiers_are_scheduled_too(case):
    """Repair: the published code leaves the third group at its first rate to the end; here it falls with the others."""
    base, published = column(case, "base_lr"), column(case, "group2_classifiers")
    np.testing.assert_allclose(published, 10 * base)
    repaired, later = 10 * base * poly_factors(case), column(case, "iteration") > 0
    assert (repaired[later] < published[later]).all()
    np.testing.assert_allclose(repaired[~later], published[~later])


@pytest.mark.cases("hcl_out_rows")
def test_hcl_after_its_warm_up(case):
    """HCL warms up for 5,000 of 100,000 steps and then jumps onto the same curve; here it runs on the shift's curve from step 0."""
    names = [str(text) for text in case["hcl_columns"]]
    iteration, backbone, heads = (
        case["hcl_out_rows"][:, names.index(n)] for n in ("iteration", "group0_backbone", "group1_heads")
    )
    np.testing.assert_allclose(heads, 10 * backbone)
    steps, base = 100_000, 1e-4
    curve = np.array([base * poly(int(t), steps, 0.9) for t in iteration])
    after = iteration >= 5000
    np.testing.assert_allclose(backbone[after], curve[after], rtol=1e-7)
    np.testing.assert_allclose(backbone[~after], base * (0.1 + 0.9 * iteration[~after] / 5000))
    assert not np.isclose(backbone[~after], curve[~after]).any()  # left out here: the source model needs no warm-up
