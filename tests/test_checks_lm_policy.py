"""Answers of the checkers of the chapter `lm_policy`, by hand."""

import math

import pytest

from rlbook_utils.checks import lm_policy as check


def test_the_score_by_hand():
    # Logits (1, .5, -1) for token 1, then (2, 0, 1) for token 0.
    first = 0.5 - math.log(math.exp(1) + math.exp(0.5) + math.exp(-1))
    second = 2 - math.log(math.exp(2) + 1 + math.exp(1))
    found = check.log_prob.oracle(**check.log_prob.cases[0])
    assert found == pytest.approx(first + second)


def test_the_loss_by_hand():
    # Scored: 2, .5 and 1.
    assert check.sft_loss.oracle(**check.sft_loss.cases[0]) == pytest.approx(3.5 / 3)
