"""Answers of the checkers of the chapter `ppo`, by hand."""

import numpy as np

from rlbook_utils.checks import ppo as check


def test_adapted_by_hand():
    # Thresholds of the target .01: .00667 and .015.
    found = [check.adapted.oracle(**case) for case in check.adapted.cases]
    assert found == [1.5, 1.5, 3.0, 3.0, 6.0, 6.0]


def test_clipped_by_hand():
    # A = 2: .5 * 2, 2, 1.2 * 2. A = -2: .8 * -2, -2, 1.5 * -2.
    found = check.clipped.oracle(**check.clipped.cases[0])
    np.testing.assert_allclose(found, [1.0, 2.0, 2.4, -1.6, -2.0, -3.0])


def test_natural_step_by_hand():
    # x = (1, .5), x F x = 1 + 1 = 2, so the scale is sqrt(.02/2) = .1.
    found = check.natural_step.oracle(**check.natural_step.cases[0])
    np.testing.assert_allclose(found, [0.1, 0.05])
    # x = (4, -3)/5, x F x = x g = 7/5, the scale sqrt(5/7).
    found = check.natural_step.oracle(**check.natural_step.cases[1])
    np.testing.assert_allclose(found, np.array([0.8, -0.6]) * (5 / 7) ** 0.5)
