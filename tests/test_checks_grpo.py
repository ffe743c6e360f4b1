"""Answers of the checkers of the chapter `grpo`, by hand."""

import pytest

from rlbook_utils.checks import grpo as check


def test_leave_one_out_by_hand():
    # Others of 2, 1, .5, .5: means 2/3, 1, 7/6, 7/6.
    found = check.leave_one_out.oracle(**check.leave_one_out.cases[0])[1]
    assert found.tolist() == pytest.approx([4 / 3, 0, -2 / 3, -2 / 3], abs=1e-6)


def test_grouped_by_hand():
    # 1 1 1 | 0 0 1: means 1 and 1/3.
    found = check.grouped.oracle(**check.grouped.cases[0])
    right = [0, 0, 0, -1 / 3, -1 / 3, 2 / 3]
    assert found.tolist() == pytest.approx(right, abs=1e-6)


def test_pass_at_k_by_hand():
    # C(5, 3)/C(6, 3) = 10/20; C(3, 3)/20 = 1/20; one wrong sample: never three.
    found = check.pass_at_k.oracle(**check.pass_at_k.cases[0])
    assert found.tolist() == pytest.approx([0, 0.5, 0.95, 1, 1])
