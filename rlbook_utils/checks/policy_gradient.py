"""Checkers for the exercises of the chapter on policy gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlbook_utils.core.returns import discounted_returns
from rlbook_utils.page.check import Checker, Mistake
from rlbook_utils.policy_gradient import softmax
from rlbook_utils.worlds.mdp import Array, Ints


def _to_go(rewards: Array, gamma: float) -> Array:
    return np.asarray(discounted_returns(rewards, gamma))


def _up_to(rewards: Array, gamma: float) -> Array:
    return np.cumsum(rewards * gamma ** np.arange(len(rewards)))


def _from_zero(rewards: Array, gamma: float) -> Array:
    return np.asarray(gamma ** np.arange(len(rewards)) * _to_go(rewards, gamma))


def _total(rewards: Array, gamma: float) -> Array:
    return np.full(len(rewards), _to_go(rewards, gamma)[0])


reward_to_go = Checker(
    "reward_to_go",
    _to_go,
    [
        {"rewards": np.array([1.0, 2.0, 4.0]), "gamma": 0.5},
        {"rewards": np.array([0.0, -1.0, 3.0, 2.0]), "gamma": 0.9},
    ],
    mistakes=[
        Mistake(_up_to, "You summed from the start up to t: sum from t to the end."),
        Mistake(_from_zero, "The first reward of G_t has factor 1, not gamma^t."),
        Mistake(_total, "That is G_0 for every t: leave out what came before t."),
    ],
)
"""G_t for each step of one episode, from ``rewards`` (T,) and ``gamma``."""


def _score(logits: Array, action: int) -> Array:
    return np.asarray(np.eye(len(logits))[action] - softmax(logits))


def _probability_gradient(logits: Array, action: int) -> Array:
    return np.asarray(softmax(logits)[action] * _score(logits, action))


def _one_hot(logits: Array, action: int) -> Array:
    return np.asarray(np.eye(len(logits))[action])


def _turned(logits: Array, action: int) -> Array:
    return -_score(logits, action)


score = Checker(
    "score",
    _score,
    [
        {"logits": np.array([0.0, 1.0, -1.0]), "action": 1},
        {"logits": np.array([2.0, 0.5]), "action": 0},
    ],
    mistakes=[
        Mistake(_probability_gradient, "That is the gradient of pi, not of log pi."),
        Mistake(_one_hot, "The normalizer depends on the logits too: subtract pi."),
        Mistake(_turned, "The sign is turned round: the action taken gets the plus."),
    ],
)
"""Gradient (A,) of log softmax(``logits``) at ``action``."""

Weigh = Callable[[Array, float], Array]


def _estimator(weigh: Weigh) -> Callable[..., Array]:
    def estimate(
        logits: Array, states: Ints, actions: Ints, rewards: Array, gamma: float
    ) -> Array:
        gradient = np.zeros(logits.shape)
        weights = weigh(rewards, gamma)
        for state, action, weight in zip(states, actions, weights, strict=True):
            gradient[state] += weight * _score(logits[state], action)
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
