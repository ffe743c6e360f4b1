"""Checkers for the exercises of the chapter on actor-critic methods."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbook_utils.core.returns import generalized_advantage_estimation
from rlbook_utils.page.check import Checker, Mistake

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

_OVER = np.array([False, True, False, False, True])
_LATE = np.array([False, False, False, True, True])
_NEXT = {
    "following": np.array([2.0, 8.0, 4.0, 9.0, 6.0]),
    "final": np.array([2.0, 1.0, 4.0, 5.0, 6.0]),
}


def _next_values(
    following: Array, final: Array, terminated: Bools, truncated: Bools
) -> Array:
    return np.where(terminated, 0.0, np.where(truncated, final, following))


def _zero_at_the_clock(**k: Any) -> Any:
    return np.where(k["terminated"] | k["truncated"], 0.0, k["following"])


def _leak(**k: Any) -> Any:
    return np.where(k["terminated"], 0.0, k["following"])


def _never_zero(**k: Any) -> Any:
    return np.where(k["terminated"] | k["truncated"], k["final"], k["following"])


def _clock_wins(**k: Any) -> Any:
    return np.where(k["truncated"], k["final"], _leak(**k))


next_values = Checker(
    "next_values",
    _next_values,
    [
        {**_NEXT, "terminated": _OVER & ~_LATE, "truncated": _LATE & ~_OVER},
        {**_NEXT, "terminated": _OVER, "truncated": _LATE},
    ],
    mistakes=[
        Mistake(_zero_at_the_clock, "A clock is no end: the state reached has value."),
        Mistake(_leak, "At a truncation that is the value of the next episode."),
        Mistake(_never_zero, "Where the world ended nothing more is to come."),
        Mistake(_clock_wins, "Where both are set, the world has ended: 0."),
    ],
)
"""V' (T,) from the values (T,) of what is acted on next, and of what was reached."""


def _n_step(delta: Array, gamma: float, n: int) -> Array:
    steps = len(delta)
    return np.array(
        [
            sum(gamma**k * delta[t + k] for k in range(min(n, steps - t)))
            for t in range(steps)
        ]
    )


def _no_discount(delta: Array, gamma: float, n: int) -> Array:
    return _n_step(delta, 1.0, n)


def _one_too_many(delta: Array, gamma: float, n: int) -> Array:
    return _n_step(delta, gamma, n + 1)


def _backward_in_time(delta: Array, gamma: float, n: int) -> Array:
    return _n_step(delta[::-1], gamma, n)[::-1]


def _one_term(delta: Array, gamma: float, n: int) -> Array:
    later = np.append(delta, np.zeros(n))[n - 1 :][: len(delta)]
    return np.asarray(gamma ** (n - 1) * later)


n_step = Checker(
    "n_step",
    _n_step,
    [
        {"delta": np.array([1.0, -2.0, 4.0, 3.0]), "gamma": 0.5, "n": 2},
        {"delta": np.array([2.0, 1.0, -1.0]), "gamma": 0.9, "n": 5},
    ],
    mistakes=[
        Mistake(_no_discount, "You left out gamma."),
        Mistake(_one_too_many, "You took n + 1 TD errors: the first one is l = 0."),
        Mistake(_backward_in_time, "You looked back: the sum runs over what follows."),
        Mistake(_one_term, "You took the last TD error alone: add all n of them."),
    ],
)
"""n-step advantages (T,) from the TD errors ``delta`` (T,) of one episode."""


def _targets(
    rewards: Array,
    next_values: Array,
    terminated: Bools,
    truncated: Bools,
    gamma: float,
    lam: float,
) -> Array:
    values = np.append(0.0, next_values[:-1])
    gaps = generalized_advantage_estimation(
        rewards, values, next_values, terminated, truncated, gamma, lam
    )
    return np.asarray(gaps + values)


def _less_than_all(**k: Any) -> Any:
    clock = k["truncated"] & ~k["terminated"]
    return _targets(
        **{**k, "next_values": k["next_values"] * np.where(clock, 1 - k["lam"], 1.0)}
    )


def _ends_at_the_clock(**k: Any) -> Any:
    return _targets(**{**k, "terminated": k["terminated"] | k["truncated"]})


def _runs_through_the_clock(**k: Any) -> Any:
    return _targets(**{**k, "truncated": np.zeros_like(k["truncated"])})


def _ends_with_the_record(**k: Any) -> Any:
    last = np.append(np.ones(len(k["rewards"]) - 1), 0.0)
    return _targets(**{**k, "next_values": k["next_values"] * last})


_RECORD = {
    "rewards": np.array([1.0, 2.0, -1.0, 3.0, 1.0]),
    "next_values": np.array([4.0, 5.0, 3.0, 7.0, 6.0]),
    "terminated": np.array([False, False, False, True, False]),
    "truncated": np.array([False, True, False, False, False]),
}

targets = Checker(
    "targets",
    _targets,
    [
        {**_RECORD, "gamma": 0.5, "lam": 0.5},
        {**_RECORD, "gamma": 0.9, "lam": 1.0},
    ],
    mistakes=[
        Mistake(
            _less_than_all,
            "At a truncation only the critic is left: it has all the weight.",
        ),
        Mistake(_ends_at_the_clock, "A clock is no end: bootstrap there."),
        Mistake(_runs_through_the_clock, "It runs through a truncation: cut it there."),
        Mistake(_ends_with_the_record, "The record stops, the episode goes on."),
    ],
)
"""Lambda-returns (T,) of one record of several episodes: GAE plus the values."""
