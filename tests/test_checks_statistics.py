"""Answers of the checkers of the page on comparing methods, by hand."""

import pytest

from rlbook_utils.checks import statistics as check


def test_improvement_by_hand():
    # 3 beats 2, 2 and 0; 1 beats 0; 2 ties twice and beats 0: (3 + 1 + 1 + 1)/12.
    assert check.improvement.oracle(**check.improvement.cases[0]) == pytest.approx(0.5)
    # 1 beats 0; 4 beats both: 3/4.
    assert check.improvement.oracle(**check.improvement.cases[1]) == pytest.approx(0.75)


def test_error_by_hand():
    # Means of the seeds 2 and 6: standard deviation sqrt(8), over sqrt(2) seeds 2.
    assert check.error.oracle(**check.error.cases[0]) == pytest.approx(2)
    # Means 2, 1 and 6, their mean 3: variance (1 + 4 + 9)/2 = 7, over 3 seeds.
    assert check.error.oracle(**check.error.cases[1]) == pytest.approx((7 / 3) ** 0.5)
