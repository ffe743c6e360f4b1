"""Checkers for the exercises of the chapter on learning from samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlbook_utils.page.check import Checker, Mistake

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

_FOUR = {
    "reward": np.array([1.0, -2.0, 0.5, 3.0]),
    "next_value": np.array([4.0, 5.0, 6.0, 7.0]),
    "terminated": np.array([False, True, False, True]),
    "truncated": np.array([False, False, True, True]),
}


def _target(
    reward: Array, next_value: Array, terminated: Bools, truncated: Bools, gamma: float
) -> Array:
    return np.asarray(reward + gamma * np.where(terminated, 0.0, next_value))


def _masks_the_clock(
    reward: Array, next_value: Array, terminated: Bools, truncated: Bools, gamma: float
) -> Array:
    return _target(reward, next_value, terminated | truncated, truncated, gamma)


def _masks_nothing(
    reward: Array, next_value: Array, terminated: Bools, truncated: Bools, gamma: float
) -> Array:
    return np.asarray(reward + gamma * next_value)


def _clock_wins(
    reward: Array, next_value: Array, terminated: Bools, truncated: Bools, gamma: float
) -> Array:
    return _target(reward, next_value, terminated & ~truncated, truncated, gamma)


def _drops_the_reward(
    reward: Array, next_value: Array, terminated: Bools, truncated: Bools, gamma: float
) -> Array:
    return np.where(terminated, 0.0, reward + gamma * next_value)


target = Checker(
    "target",
    _target,
    [_FOUR | {"gamma": 0.9}, _FOUR | {"gamma": 0.5}],
    mistakes=[
        Mistake(_masks_the_clock, "A clock is no end: bootstrap where it truncated."),
        Mistake(_masks_nothing, "Where the world ended there is nothing to come."),
        Mistake(_clock_wins, "When both are set, the world ended: no bootstrap."),
        Mistake(_drops_the_reward, "The last reward is still paid."),
    ],
)
"""TD targets (N,) from steps with both kinds of end, each argument (N,)."""


def _double_target(q1: Array, q2: Array, reward: float, gamma: float) -> float:
    return float(reward + gamma * q2[q1.argmax()])


def _chooser_judges(q1: Array, q2: Array, reward: float, gamma: float) -> float:
    return float(reward + gamma * q1.max())


def _roles_swapped(q1: Array, q2: Array, reward: float, gamma: float) -> float:
    return _double_target(q2, q1, reward, gamma)


def _best_of_the_mean(q1: Array, q2: Array, reward: float, gamma: float) -> float:
    return float(reward + gamma * ((q1 + q2) / 2).max())


def _judge_chooses_too(q1: Array, q2: Array, reward: float, gamma: float) -> float:
    return float(reward + gamma * q2.max())


double_target = Checker(
    "double_target",
    _double_target,
    [
        {
            "q1": np.array([1.0, 3.0, 2.0]),
            "q2": np.array([5.0, 0.5, 4.0]),
            "reward": 1.0,
            "gamma": 0.9,
        },
        {
            "q1": np.array([2.0, -1.0]),
            "q2": np.array([-3.0, 1.0]),
            "reward": 0.0,
            "gamma": 0.5,
        },
    ],
    mistakes=[
        Mistake(_chooser_judges, "The table that chooses may not judge as well."),
        Mistake(_roles_swapped, "q1 is updated: it chooses, and q2 judges."),
        Mistake(_best_of_the_mean, "The mean of both is one table again."),
        Mistake(_judge_chooses_too, "q2 only judges: the action is q1's best."),
    ],
)
"""Target of double Q-learning for ``q1``, from rows (A,) of both tables."""


def _expected_target(q: Array, reward: float, gamma: float, epsilon: float) -> float:
    mean = epsilon * q.mean() + (1 - epsilon) * q.max()
    return float(reward + gamma * mean)


def _larger_part(q: Array, reward: float, gamma: float, epsilon: float) -> float:
    return float(reward + gamma * max(epsilon * q.mean(), (1 - epsilon) * q.max()))


def _epsilon_is_greedy(q: Array, reward: float, gamma: float, epsilon: float) -> float:
    return _expected_target(q, reward, gamma, 1 - epsilon)


def _only_greedy(q: Array, reward: float, gamma: float, epsilon: float) -> float:
    return _expected_target(q, reward, gamma, 0.0)


def _explores_elsewhere(q: Array, reward: float, gamma: float, epsilon: float) -> float:
    others = (q.sum() - q.max()) / (len(q) - 1)
    mean = epsilon * others + (1 - epsilon) * q.max()
    return float(reward + gamma * mean)


expected_target = Checker(
    "expected_target",
    _expected_target,
    [
        {
            "q": np.array([1.0, 4.0, 2.0]),
            "reward": 1.0,
            "gamma": 0.9,
            "epsilon": 0.3,
        },
        {
            "q": np.array([-1.0, -4.0]),
            "reward": 0.0,
            "gamma": 0.5,
            "epsilon": 0.1,
        },
        {
            "q": np.array([-5.0, -3.0]),
            "reward": -1.0,
            "gamma": 1.0,
            "epsilon": 0.0,
        },
    ],
    mistakes=[
        Mistake(_larger_part, "Add the two parts: the larger one is not the mean."),
        Mistake(_epsilon_is_greedy, "epsilon is the probability of exploring."),
        Mistake(_only_greedy, "This is the target of Q-learning."),
        Mistake(_explores_elsewhere, "Exploring may pick the greedy action, too."),
    ],
)
"""Target of Expected Sarsa for an epsilon-greedy policy, from a row (A,) of Q."""
