"""Answers of the checkers of the chapter `td`, by hand."""

import numpy as np
import pytest

from rlbook_utils.checks import td as check


def test_the_target_by_hand():
    # gamma .9: 1 + .9 * 4 = 4.6; ended: -2; only the clock: .5 + .9 * 6 = 5.9; both: 3.
    found = check.target.oracle(**check.target.cases[0])
    np.testing.assert_allclose(found, [4.6, -2.0, 5.9, 3.0])


def test_the_double_target_by_hand():
    # q1 = (1, 3, 2) chooses action 1, q2 gives it .5: 1 + .9 * .5 = 1.45.
    found = check.double_target.oracle(**check.double_target.cases[0])
    assert found == pytest.approx(1.45)


def test_the_expected_target_by_hand():
    # q = (1, 4, 2): mean 7/3, .3 * 7/3 + .7 * 4 = 3.5; 1 + .9 * 3.5 = 4.15.
    found = check.expected_target.oracle(**check.expected_target.cases[0])
    assert found == pytest.approx(4.15)
