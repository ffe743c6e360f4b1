"""Answers of the checkers of the chapter `rlhf`, by hand."""

import numpy as np
import pytest

from rlbook_utils.checks import rlhf as check


def test_best_of_n_by_hand():
    # Scores 1, 0, 2 with p = .2, .5, .3, n = 3: F = .7, .5, 1.
    # .7^3 - .5^3 = .218, .5^3 = .125, 1 - .7^3 = .657.
    law = check.best_of_n.oracle(**check.best_of_n.cases[0])
    np.testing.assert_allclose(law, [0.218, 0.125, 0.657])
    # Two responses of score 1 share 1 - .7^4 = .7599 as 1 to 2.
    law = check.best_of_n.oracle(**check.best_of_n.cases[1])
    np.testing.assert_allclose(law[[0, 2]], [0.7599 / 3, 0.7599 * 2 / 3])


def test_kl_by_hand():
    # .7 ln 3.5 + .2 ln .4 + .1 ln(1/3) = .58381.
    assert check.kl.oracle(**check.kl.cases[0]).item() == pytest.approx(
        0.58381, abs=1e-4
    )
