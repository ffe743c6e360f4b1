"""Answers of the checkers of the chapter `mdp`, by hand."""

import numpy as np
import pytest

from rlbook_utils.checks import mdp as check


def test_a_return_by_hand():
    # 1 + 0.5 * 2 + 0.25 * 4 = 3.
    assert check.discounted_return.oracle(np.array([1.0, 2.0, 4.0]), 0.5) == 3.0


def test_an_occupancy_by_hand():
    # One state that never ends: 1 / (1 - 0.9) = 10.
    visits = check.occupancy.oracle(np.eye(1), np.ones(1), 0.9)
    assert visits == pytest.approx([10.0])


def test_a_marginal_by_hand():
    # Half fresh, half tired; fresh works (.6, .4), tired works or rests by halves:
    # fresh .5 * .6 + .5 * .5 * .8 = .5, home .5 * .5 * .5 = .125, tired the rest.
    after = check.next_marginal.oracle(*check.next_marginal.cases[0].values())
    np.testing.assert_allclose(after, [0.5, 0.375, 0.125])
