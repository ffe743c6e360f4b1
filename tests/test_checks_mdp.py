"""The checkers of the chapter on MDPs name each mistake that they know."""

import numpy as np
import pytest

from rlbook_utils.checks import mdp as check

CHECKERS = [check.next_marginal, check.discounted_return, check.occupancy]


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda c: c.name)
def test_the_oracle_passes_and_every_mistake_is_named(checker):
    assert checker.judge(checker.oracle).passed
    assert len(checker.mistakes) >= 3
    for mistake in checker.mistakes:
        verdict = checker.judge(mistake.answer)
        assert not verdict.passed and mistake.says in verdict.message


def test_a_return_by_hand():
    # 1 + 0.5 * 2 + 0.25 * 4 = 3.
    assert check.discounted_return.oracle(np.array([1.0, 2.0, 4.0]), 0.5) == 3.0


def test_an_occupancy_by_hand():
    # One state that never ends: 1 / (1 - 0.9) = 10.
    visits = check.occupancy.oracle(np.eye(1), np.ones(1), 0.9)
    assert visits == pytest.approx([10.0])


def test_a_marginal_by_hand():
    # Half fresh, half tired; fresh works (.6, .4), tired works or rests by halves:
    # fresh .5 * .6 + .5 * .5 * .8 = .5, home .5 * .5 * .5 = .125, tired the rest.
    after = check.next_marginal.oracle(*check.next_marginal.cases[0].values())
    np.testing.assert_allclose(after, [0.5, 0.375, 0.125])
