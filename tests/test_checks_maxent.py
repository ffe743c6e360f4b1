"""Answers of the checkers of the chapter `maxent`, by hand."""

import math

import numpy as np
import pytest

from rlbook_utils.checks import maxent as check


def test_the_soft_target_by_hand():
    # Row 1: .75 * 2 + .25 * 1 = 1.75, entropy .5623, so 1 + .9 (1.75 + .5 * .5623).
    # Row 2 has ended: its reward. Row 3: mean .9, entropy .3251.
    target = check.soft_target.oracle(**check.soft_target.cases[0])
    np.testing.assert_allclose(target, [2.82805, 0.5, -0.04371], atol=1e-4)


def test_the_budget_is_spent():
    for case in check.budget.cases:
        p = check.budget.oracle(**case)
        spent = (p * np.log(p / case["reference"])).sum()
        assert spent == pytest.approx(case["budget"], abs=1e-9)
        tilted = np.log(p / case["reference"])
        # Log-ratios are linear in the reward: one slope for all pairs.
        slope = np.polyfit(case["reward"], tilted, 1)
        np.testing.assert_allclose(np.polyval(slope, case["reward"]), tilted, atol=1e-9)


def test_the_temperature_by_hand():
    # exp(-.5 (.6 - .3)) = exp(-.15).
    assert check.temperature_step.oracle(1.0, 0.6, 0.3, 0.5) == math.exp(-0.15)
