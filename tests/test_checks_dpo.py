"""Answers of the checkers of the chapter `dpo`, by hand."""

import math

import pytest

from rlbook_utils.checks import dpo as check


def test_weights_by_hand():
    # beta .5: margins 0, 3 and -4: .5 / (1 + exp(.5 m)) = .25, .09121, .44040.
    found = check.weight.oracle(**check.weight.cases[0])
    assert found.tolist() == pytest.approx([0.25, 0.09121, 0.44040], abs=1e-5)


def test_log_ratios_by_hand():
    # .5 + 1 = 1.5, the third token is masked; .2 - 1 + 1.5 = .7.
    found = check.log_ratio.oracle(**check.log_ratio.cases[0])
    assert found.tolist() == pytest.approx([1.5, 0.7], abs=1e-6)


def test_the_noisy_loss_by_hand():
    # .7 log(1 + exp(-1)) + .3 log(1 + exp(1)) = .7 * .31326 + .3 * 1.31326 = .61326.
    found = check.noisy_loss.oracle(**check.noisy_loss.cases[1])
    assert found.item() == pytest.approx(0.61326, abs=1e-5)
    assert found.item() > 0.7 * math.log(1 / 0.7) + 0.3 * math.log(1 / 0.3)
