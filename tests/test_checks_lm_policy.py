"""Answers of the checkers of the chapter `lm_policy`, by hand."""

import numpy as np
import pytest

from rlbook_utils.checks import lm_policy as check


def test_top_p_by_hand():
    # .5 alone is below .7, .5 + .34 reaches it; .9 alone reaches it.
    found = np.exp(check.top_p.oracle(**check.top_p.cases[0]))
    expected = [[0, 0.5 / 0.84, 0, 0.34 / 0.84], [0, 0, 1, 0]]
    np.testing.assert_allclose(found, expected)
    # .5 + .34 + .1 reaches .93; .9 + .05 does.
    found = np.exp(check.top_p.oracle(**check.top_p.cases[1]))
    expected = [
        [0.1 / 0.94, 0.5 / 0.94, 0, 0.34 / 0.94],
        [0, 0.05 / 0.95, 0.9 / 0.95, 0],
    ]
    np.testing.assert_allclose(found, expected)
    found = np.exp(check.top_p.oracle(**check.top_p.cases[2]))
    assert found.tolist() == [[0, 1, 0], [0, 1, 0]]


def test_the_loss_by_hand():
    # Scored: 2, .5 and 1.
    assert check.sft_loss.oracle(**check.sft_loss.cases[0]) == pytest.approx(3.5 / 3)
