"""Answers of the checkers of the chapter `bandits`, by hand."""

import numpy as np
import pytest

from rlbook_utils.checks import bandits as check


def test_epsilon_greedy_by_hand():
    # Two of three arms tie: (1 - 0.3) / 2 + 0.1 = 0.45 each, 0.1 for the third.
    pi = check.epsilon_greedy.oracle(np.array([1.0, 0.0, 1.0]), 0.3)
    np.testing.assert_allclose(pi, [0.45, 0.1, 0.45])


def test_chance_by_hand():
    # Beta(2, 1) against Beta(1, 2): int 2x (1 - (1 - x)^2) dx = 5/6.
    chance = check.chance_that_first_is_best.oracle(np.array([1, 0]), np.array([0, 1]))
    assert chance == pytest.approx(5 / 6)


def test_bounds_by_hand():
    # t = 14, c = 2: 0.5 + 2 sqrt(ln 14 / 9) and 0.4 + 2 sqrt(ln 14 / 4).
    bounds = check.ucb_bounds.oracle(
        np.array([0.5, 0.4]), np.array([9.0, 4.0]), 14, 2.0
    )
    np.testing.assert_allclose(bounds, [1.5830, 2.0245], atol=1e-4)
