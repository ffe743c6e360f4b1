"""Answers of the checkers of the chapter `actor_critic`, by hand."""

import numpy as np

from rlbook_utils.checks import actor_critic as check


def test_next_values_by_hand():
    # Step 1 terminated: 0. Steps 3 and 4 met the clock: 5, and 6 unless it ended too.
    first, second = check.next_values.cases
    alone = check.next_values.oracle(**first)
    np.testing.assert_allclose(alone, [2, 0, 4, 5, 7])
    both = check.next_values.oracle(**second)
    np.testing.assert_allclose(both, [2, 0, 4, 5, 0])


def test_n_step_by_hand():
    # 1 - .5 * 2 = 0, -2 + .5 * 4 = 0, 4 + .5 * 3 = 5.5, and 3 at the end.
    found = check.n_step.oracle(**check.n_step.cases[0])
    np.testing.assert_allclose(found, [0, 0, 5.5, 3])


def test_gae_by_hand():
    # delta = 1 + 2 - 2 = 1, 2 + 2.5 - 4 = .5 (clock), -1 + 1.5 - 1 = -.5,
    # 3 - 3 = 0 (end), 1 + 3 - 2 = 2; gamma lam = .25 and cuts behind steps 1 and 3.
    found = check.gae.oracle(**check.gae.cases[0])
    np.testing.assert_allclose(found, [1 + 0.25 * 0.5, 0.5, -0.5 + 0, 0, 2])
