"""Answers of the checkers of the chapter `actor_critic`, by hand."""

import numpy as np

from rlbook_utils.checks import actor_critic as check


def test_next_values_by_hand():
    # Step 1 terminated: 0. Step 3 met the clock: 5. Step 4 goes on: 6, or ended: 0.
    first, second = check.next_values.cases
    alone = check.next_values.oracle(**first)
    np.testing.assert_allclose(alone, [2, 0, 4, 5, 6])
    both = check.next_values.oracle(**second)
    np.testing.assert_allclose(both, [2, 0, 4, 5, 0])


def test_inside_an_episode_the_state_reached_is_the_one_acted_on():
    for case in check.next_values.cases:
        goes_on = ~(case["terminated"] | case["truncated"])
        np.testing.assert_array_equal(
            case["following"][goes_on], case["final"][goes_on]
        )


def test_n_step_by_hand():
    # 1 - .5 * 2 = 0, -2 + .5 * 4 = 0, 4 + .5 * 3 = 5.5, and 3 at the end.
    found = check.n_step.oracle(**check.n_step.cases[0])
    np.testing.assert_allclose(found, [0, 0, 5.5, 3])


def test_targets_by_hand():
    # 1 + .5 * 6 = 4 where the record stops, 3 at the end, -1 + .5 * (1.5 + 1.5) = .5,
    # 2 + .5 * 5 = 4.5 at the clock, 1 + .5 * (2 + 2.25) = 3.125.
    found = check.targets.oracle(**check.targets.cases[0])
    np.testing.assert_allclose(found, [3.125, 4.5, 0.5, 3, 4])


def test_targets_tell_the_planted_bug(capsys):
    def planted(rewards, next_values, terminated, truncated, gamma, lam):
        y, later = np.zeros(len(rewards)), next_values[-1]
        for t in reversed(range(len(rewards))):
            ahead = 0.0 if terminated[t] else next_values[t]
            if terminated[t] or truncated[t]:
                later = 0.0
            later = rewards[t] + gamma * ((1 - lam) * ahead + lam * later)
            y[t] = later
        return y

    check.targets(planted)
    assert "it has all the weight" in capsys.readouterr().out
