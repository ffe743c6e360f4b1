"""Checkers for the exercises of the chapter on Markov decision processes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlbook_utils.page.check import Checker, Mistake

Array = NDArray[np.float64]

_P = np.array(
    [
        [[0.6, 0.4, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]],
        [[1.0, 0.0, 0.0], [0.8, 0.2, 0.0], [0.0, 0.0, 1.0]],
    ]
)
_MIXED = np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
_SURE = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])


def _next_marginal(marginal: Array, P: Array, pi: Array) -> Array:
    return np.asarray(np.einsum("s,sa,ast->t", marginal, pi, P))


def _backwards(marginal: Array, P: Array, pi: Array) -> Array:
    return np.asarray(np.einsum("t,sa,ast->s", marginal, pi, P))


def _first_action_only(marginal: Array, P: Array, pi: Array) -> Array:
    return np.asarray(marginal @ P[0])


def _actions_averaged(marginal: Array, P: Array, pi: Array) -> Array:
    return np.asarray(marginal @ P.mean(0))


next_marginal = Checker(
    "next_marginal",
    _next_marginal,
    [
        {"marginal": np.array([0.5, 0.5, 0.0]), "P": _P, "pi": _MIXED},
        {"marginal": np.array([0.2, 0.3, 0.5]), "P": _P, "pi": _SURE},
    ],
    mistakes=[
        Mistake(_backwards, "You multiplied from the wrong side: sum over s, keep s'."),
        Mistake(_first_action_only, "You used action 0 alone: weight each by pi."),
        Mistake(_actions_averaged, "You averaged the actions: weight each by pi(a|s)."),
    ],
)
"""State marginal (S,) one step on, from ``marginal`` (S,), ``P`` (A, S, S), ``pi``."""


def _discounted_return(rewards: Array, gamma: float) -> float:
    return float(rewards @ gamma ** np.arange(len(rewards)))


def _one_power_too_many(rewards: Array, gamma: float) -> float:
    return gamma * _discounted_return(rewards, gamma)


def _backwards_in_time(rewards: Array, gamma: float) -> float:
    return _discounted_return(rewards[::-1], gamma)


def _undiscounted(rewards: Array, gamma: float) -> float:
    return float(rewards.sum())


discounted_return = Checker(
    "discounted_return",
    _discounted_return,
    [
        {"rewards": np.array([1.0, 2.0, 4.0]), "gamma": 0.5},
        {"rewards": np.array([0.0, 0.0, -3.0, 1.0]), "gamma": 0.9},
    ],
    mistakes=[
        Mistake(
            _one_power_too_many, "The first reward counts in full: gamma ** 0 is 1."
        ),
        Mistake(_backwards_in_time, "You discounted from the end of the episode."),
        Mistake(_undiscounted, "You left out gamma."),
    ],
)
"""Return G_0 from ``rewards`` (T,) and ``gamma``."""


def _occupancy(P_pi: Array, start: Array, gamma: float) -> Array:
    return np.asarray(np.linalg.solve(np.eye(len(start)) - gamma * P_pi.T, start))


def _not_transposed(P_pi: Array, start: Array, gamma: float) -> Array:
    return np.asarray(np.linalg.solve(np.eye(len(start)) - gamma * P_pi, start))


def _normalized(P_pi: Array, start: Array, gamma: float) -> Array:
    return (1 - gamma) * _occupancy(P_pi, start, gamma)


def _start_left_out(P_pi: Array, start: Array, gamma: float) -> Array:
    return _occupancy(P_pi, start, gamma) - start


occupancy = Checker(
    "occupancy",
    _occupancy,
    [
        {
            "P_pi": np.einsum("sa,ast->st", _MIXED, _P),
            "start": np.array([1.0, 0.0, 0.0]),
            "gamma": 0.9,
        },
        {
            "P_pi": np.einsum("sa,ast->st", _SURE, _P),
            "start": np.array([0.3, 0.7, 0.0]),
            "gamma": 0.5,
        },
    ],
    mistakes=[
        Mistake(_not_transposed, "Transpose P_pi: probability flows along s to s'."),
        Mistake(_normalized, "You multiplied by 1 - gamma: ours is unnormalized."),
        Mistake(
            _start_left_out, "Step t = 0 counts, too: the start belongs to the sum."
        ),
    ],
)
"""Unnormalized discounted occupancy (S,) from ``P_pi`` (S, S), ``start``, ``gamma``."""
