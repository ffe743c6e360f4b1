"""Answers of the checkers of the chapter `policy_gradient`, by hand."""

import numpy as np

from rlbook_utils.checks import policy_gradient as check


def test_answers_by_hand():
    # 4; 2 + .5 * 4 = 4; 1 + .5 * 4 = 3.
    found = check.reward_to_go.oracle(**check.reward_to_go.cases[0])
    np.testing.assert_allclose(found, [3, 4, 4])
    # pi(0) = 1/(1 + e^-1.5) = .8176.
    found = check.score.oracle(**check.score.cases[1])
    np.testing.assert_allclose(found, [0.1824, -0.1824], atol=1e-4)
    # Uniform over two actions: each step adds w (+-1/2). gamma .9, G_3 = 2, G_2 = 4.8,
    # G_1 = 3.32, G_0 = 2.988; w = 2.988, 2.988, 3.888, 1.458.
    found = check.estimate.oracle(**check.estimate.cases[1])
    by_hand = [[1.494, -1.494], [-0.729, 0.729], [-0.45, 0.45]]
    np.testing.assert_allclose(found, by_hand, atol=1e-12)
