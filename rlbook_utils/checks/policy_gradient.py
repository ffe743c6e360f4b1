"""Checkers for the exercises of the chapter on policy gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlbook_utils.core.returns import discounted_returns
from rlbook_utils.page.check import Checker, Mistake
from rlbook_utils.policy_gradient import softmax
from rlbook_utils.worlds.mdp import Array, Ints

Bools = NDArray[np.bool_]


Read = Callable[[Bools, Bools], tuple[Bools, Bools]]


def _record(read: Read) -> Callable[..., Array]:
    """Return a function for G_t that takes the flags for what `read` makes of them."""

    def to_go(terminated: Bools, truncated: Bools, **rest: Any) -> Array:
        over, clock = read(terminated, truncated)
        return np.asarray(discounted_returns(terminated=over, truncated=clock, **rest))

    return to_go


def _runs_on(rewards: Array, gamma: float, **_: Any) -> Array:
    return np.asarray(discounted_returns(rewards, gamma))


_clock_is_an_end = _record(lambda over, clock: (over | clock, clock))
_end_is_a_clock = _record(lambda over, clock: (over & False, over | clock))
_clock_wins = _record(lambda over, clock: (over & ~clock, clock))
_each_step = _record(lambda over, clock: (over, clock | True))

reward_to_go = Checker(
    "reward_to_go",
    _record(lambda over, clock: (over, clock)),
    [
        {
            "rewards": np.array([[1.0, 2.0, 4.0]]),
            "next_values": np.array([[9.0, 9.0, 8.0]]),
            "terminated": np.array([[0, 0, 0]], np.bool_),
            "truncated": np.array([[0, 0, 1]], np.bool_),
            "gamma": 0.5,
        },
        {
            "rewards": np.array([[1.0, -2.0, 0.5, 3.0], [0.0, -1.0, 3.0, 2.0]]),
            "next_values": np.array([[4.0, 5.0, 6.0, 7.0], [2.0, 3.0, 4.0, 5.0]]),
            "terminated": np.array([[0, 1, 0, 0], [0, 0, 0, 1]], np.bool_),
            "truncated": np.array([[0, 0, 0, 1], [0, 1, 0, 1]], np.bool_),
            "gamma": 0.9,
        },
    ],
    mistakes=[
        Mistake(_runs_on, "An episode ends inside the row: cut the sum there."),
        Mistake(_clock_is_an_end, "A clock is no end: V stands for what it cut off."),
        Mistake(_end_is_a_clock, "Where the world ended there is nothing to come."),
        Mistake(_clock_wins, "When both are set, the world ended: no V."),
        Mistake(_each_step, "That is the TD target: use V at a clock only."),
    ],
)
"""G_t (N, T) of records with several episodes a row, each argument (N, T)."""


def _normal_score(action: float, mean: float, log_std: float) -> Array:
    std = np.exp(log_std)
    z = (action - mean) / std
    return np.array([z / std, z**2 - 1])


def _by_std(action: float, mean: float, log_std: float) -> Array:
    return np.asarray(_normal_score(action, mean, log_std) * np.exp([0, -log_std]))


def _without_normalizer(action: float, mean: float, log_std: float) -> Array:
    return np.asarray(_normal_score(action, mean, log_std) + np.array([0, 1]))


def _of_the_density(action: float, mean: float, log_std: float) -> Array:
    z = (action - mean) / np.exp(log_std)
    height = np.exp(-z * z / 2 - log_std) / np.sqrt(2 * np.pi)
    return np.asarray(_normal_score(action, mean, log_std) * height)


score = Checker(
    "score",
    _normal_score,
    [
        {"action": 1.0, "mean": 0.0, "log_std": float(np.log(2.0))},
        {"action": -1.5, "mean": 0.5, "log_std": -0.7},
    ],
    mistakes=[
        Mistake(_by_std, "The second parameter is log std: multiply by std."),
        Mistake(_without_normalizer, "The normalizer depends on log std: subtract 1."),
        Mistake(_of_the_density, "That is the gradient of pi, not of log pi."),
    ],
)
"""Gradient (2,) of the log-density of a normal policy by mean and log std."""


def _to_go(rewards: Array, gamma: float) -> Array:
    return np.asarray(discounted_returns(rewards, gamma))


def _up_to(rewards: Array, gamma: float) -> Array:
    return np.cumsum(rewards * gamma ** np.arange(len(rewards)))


def _from_zero(rewards: Array, gamma: float) -> Array:
    return np.asarray(gamma ** np.arange(len(rewards)) * _to_go(rewards, gamma))


def _total(rewards: Array, gamma: float) -> Array:
    return np.full(len(rewards), _to_go(rewards, gamma)[0])


Weigh = Callable[[Array, float], Array]


def _estimator(weigh: Weigh) -> Callable[..., Array]:
    def estimate(
        logits: Array, states: Ints, actions: Ints, rewards: Array, gamma: float
    ) -> Array:
        gradient = np.zeros(logits.shape)
        weights = weigh(rewards, gamma)
        for state, action, weight in zip(states, actions, weights, strict=True):
            score = np.eye(logits.shape[1])[action] - softmax(logits[state])
            gradient[state] += weight * score
        return gradient

    return estimate


def _mean_over_time(rewards: Array, gamma: float) -> Array:
    return _from_zero(rewards, gamma) / len(rewards)


def _standardized(rewards: Array, gamma: float) -> Array:
    returns = _to_go(rewards, gamma)
    return np.asarray((returns - returns.mean()) / returns.std())


estimate = Checker(
    "estimate",
    _estimator(_from_zero),
    [
        {
            "logits": np.array([[0.0, 1.0], [0.5, -0.5]]),
            "states": np.array([0, 1, 0]),
            "actions": np.array([1, 0, 0]),
            "rewards": np.array([1.0, 2.0, 4.0]),
            "gamma": 0.5,
        },
        {
            "logits": np.zeros((3, 2)),
            "states": np.array([2, 0, 2, 1]),
            "actions": np.array([0, 0, 1, 1]),
            "rewards": np.array([0.0, -1.0, 3.0, 2.0]),
            "gamma": 0.9,
        },
    ],
    mistakes=[
        Mistake(_estimator(_up_to), "It sums rewards up to t: an action earns later."),
        Mistake(_estimator(_to_go), "gamma^t is missing in front of G_t."),
        Mistake(_estimator(_mean_over_time), "Sum over t: a mean weights by 1/T."),
        Mistake(_estimator(_standardized), "Inside one episode this is no baseline."),
        Mistake(_estimator(_total), "G_0 is unbiased, but use G_t from t on."),
    ],
)
"""Gradient estimate (S, A) of one episode with reward-to-go and gamma^t."""
