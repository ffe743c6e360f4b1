"""Answers of the checkers of the chapter `policy_gradient`, by hand."""

import numpy as np
import pytest
import torch

from rlbook_utils.checks import policy_gradient as check


def test_answers_by_hand():
    # 4 + .5 * 8 = 8; 2 + .5 * 8 = 6; 1 + .5 * 6 = 4.
    found = check.reward_to_go.oracle(**check.reward_to_go.cases[0])
    np.testing.assert_allclose(found, [[4, 6, 8]])
    # Row 0: 3 + .9 * 7 = 9.3, .5 + .9 * 9.3 = 8.87; -2 ends, 1 - .9 * 2 = -.8.
    # Row 1: 2 ends (both are set), 3 + 1.8 = 4.8; -1 + .9 * 3 = 1.7, .9 * 1.7 = 1.53.
    found = check.reward_to_go.oracle(**check.reward_to_go.cases[1])
    np.testing.assert_allclose(found, [[-0.8, -2, 8.87, 9.3], [1.53, 1.7, 4.8, 2]])
    # z = 1/2: z/std = .25, z^2 - 1 = -.75.
    found = check.score.oracle(**check.score.cases[0])
    np.testing.assert_allclose(found, [0.25, -0.75])
    # Uniform over two actions: each step adds w (+-1/2). gamma .9, G_3 = 2, G_2 = 4.8,
    # G_1 = 3.32, G_0 = 2.988; w = 2.988, 2.988, 3.888, 1.458.
    found = check.estimate.oracle(**check.estimate.cases[1])
    by_hand = [[1.494, -1.494], [-0.729, 0.729], [-0.45, 0.45]]
    np.testing.assert_allclose(found, by_hand, atol=1e-12)


@pytest.mark.parametrize("case", check.score.cases)
def test_the_score_is_the_derivative_of_the_log_density(case):
    given = torch.tensor([case["mean"], case["log_std"]], requires_grad=True)
    normal = torch.distributions.Normal(given[0], given[1].exp())
    normal.log_prob(torch.tensor(case["action"])).backward()
    found = check.score.oracle(**case)
    np.testing.assert_allclose(found, given.grad.numpy(), rtol=1e-5)
