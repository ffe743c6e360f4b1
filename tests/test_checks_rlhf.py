"""Answers of the checkers of the chapter `rlhf`, by hand."""

import numpy as np
import pytest
from torch.nn import functional

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


def test_the_planted_bug_and_its_half_repair_are_explained():
    def planted(logp, logp_ref):
        return functional.kl_div(logp, logp_ref, reduction="sum")

    def half(logp, logp_ref):
        return functional.kl_div(logp, logp_ref, log_target=True, reduction="sum")

    assert "Which argument is a log?" in check.kl.judge(planted).message
    assert "the first argument comes second" in check.kl.judge(half).message
    assert "NaN:" not in check.kl.judge(lambda logp, logp_ref: logp.sum()).message


def test_an_answer_that_raises_is_shown_and_not_explained():
    message = check.kl.judge(lambda logp, logp_ref: 1 / 0).message
    assert "ZeroDivisionError" in message and "NaN:" not in message
