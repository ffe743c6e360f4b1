"""Checkers for the exercises of the chapter on the Bellman equations."""

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
_R = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
_CASES = [
    {"values": np.array([5.0, 3.0, 0.0]), "P": _P, "r": _R, "gamma": 0.9},
    {"values": np.array([1.0, 4.0, 0.0]), "P": _P, "r": _R, "gamma": 0.5},
]


def _q_from_v(values: Array, P: Array, r: Array, gamma: float) -> Array:
    return np.asarray(r + gamma * np.einsum("ast,t->sa", P, values))


def _q_sweep(q: Array, P: Array, r: Array, gamma: float) -> Array:
    return _q_from_v(q.max(1), P, r, gamma)


def _mean_of_actions(q: Array, P: Array, r: Array, gamma: float) -> Array:
    return _q_from_v(q.mean(1), P, r, gamma)


def _no_discount(q: Array, P: Array, r: Array, gamma: float) -> Array:
    return _q_from_v(q.max(1), P, r, 1.0)


def _maximum_outside(q: Array, P: Array, r: Array, gamma: float) -> Array:
    means = np.einsum("ast,tb->sab", P, q)
    return np.asarray(r + gamma * means.max(2))


def _maximum_over_successors(q: Array, P: Array, r: Array, gamma: float) -> Array:
    reached = np.where(P > 0, q.max(1), -np.inf).max(2).T
    return np.asarray(r + gamma * reached)


q_sweep = Checker(
    "q_sweep",
    _q_sweep,
    [
        {
            "q": np.array([[5.0, 4.0], [2.0, 3.0], [0.0, 0.0]]),
            "P": _P,
            "r": _R,
            "gamma": 0.9,
        },
        {
            "q": np.array([[1.0, 6.0], [4.0, 0.0], [0.0, 0.0]]),
            "P": _P,
            "r": _R,
            "gamma": 0.5,
        },
    ],
    mistakes=[
        Mistake(_mean_of_actions, "You averaged over the next action: take the best."),
        Mistake(_no_discount, "You left out gamma."),
        Mistake(_maximum_outside, "Maximize inside the mean: a' may differ with s'."),
        Mistake(_maximum_over_successors, "The world picks s': average over it."),
    ],
)
"""One sweep of Q* (S, A) from ``q`` (S, A), ``P`` (A, S, S), ``r`` and ``gamma``."""


def _optimal_backup(values: Array, P: Array, r: Array, gamma: float) -> Array:
    return np.asarray(_q_from_v(values, P, r, gamma).max(1))


def _mean_backup(values: Array, P: Array, r: Array, gamma: float) -> Array:
    return np.asarray(_q_from_v(values, P, r, gamma).mean(1))


def _best_successor(values: Array, P: Array, r: Array, gamma: float) -> Array:
    reached = np.where(P > 0, values, -np.inf).max(2).T
    return np.asarray((r + gamma * reached).max(1))


def _over_states(values: Array, P: Array, r: Array, gamma: float) -> Array:
    return np.asarray(_q_from_v(values, P, r, gamma).max(0))


optimal_backup = Checker(
    "optimal_backup",
    _optimal_backup,
    _CASES,
    mistakes=[
        Mistake(_mean_backup, "You averaged over actions: the best one counts."),
        Mistake(_best_successor, "The world picks s', not you: average over it."),
        Mistake(_over_states, "You took the maximum over states: it is over actions."),
    ],
)
"""One sweep of value iteration (S,), from `values` (S,), `P`, `r` and `gamma`."""


def _stopping_residual(gamma: float, error: float) -> float:
    return error * (1 - gamma) / gamma


def _error_itself(gamma: float, error: float) -> float:
    return error


def _upside_down(gamma: float, error: float) -> float:
    return error * gamma / (1 - gamma)


def _one_factor_short(gamma: float, error: float) -> float:
    return error * (1 - gamma)


stopping_residual = Checker(
    "stopping_residual",
    _stopping_residual,
    [{"gamma": 0.9, "error": 1e-3}, {"gamma": 0.5, "error": 0.2}],
    mistakes=[
        Mistake(_error_itself, "The residual is not the error: steps still add up."),
        Mistake(_upside_down, "You solved the inequality the wrong way round."),
        Mistake(_one_factor_short, "This bounds the error before the last sweep."),
    ],
    atol=1e-12,
)
"""Largest residual that guarantees ``error``, at discount ``gamma``."""
