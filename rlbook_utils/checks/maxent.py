"""Checkers for the exercises of the chapter on control as inference."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rlbook_utils.core.tilt import relative_entropy, tilt
from rlbook_utils.page.check import Checker, Mistake

Array = NDArray[np.float64]

_BATCH = {
    "reward": np.array([1.0, 0.5, -1.0]),
    "terminated": np.array([0.0, 1.0, 0.0]),
    "next_q": np.array([[2.0, 1.0], [3.0, 0.0], [0.0, 1.0]]),
    "next_pi": np.array([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]]),
}


def _target(
    reward: Array,
    terminated: Array,
    next_q: Array,
    next_pi: Array,
    gamma: float,
    alpha: float,
) -> Array:
    entropy = -(next_pi * np.log(next_pi)).sum(1)
    ahead = (next_pi * next_q).sum(1) + alpha * entropy
    return np.asarray(reward + gamma * (1 - terminated) * ahead)


def _no_mask(reward, terminated, next_q, next_pi, gamma, alpha):  # type: ignore
    return _target(reward, 0 * terminated, next_q, next_pi, gamma, alpha)


def _entropy_subtracted(reward, terminated, next_q, next_pi, gamma, alpha):  # type: ignore
    return _target(reward, terminated, next_q, next_pi, gamma, -alpha)


def _no_entropy(reward, terminated, next_q, next_pi, gamma, alpha):  # type: ignore
    return _target(reward, terminated, next_q, next_pi, gamma, 0.0)


def _entropy_unmasked(reward, terminated, next_q, next_pi, gamma, alpha):  # type: ignore
    entropy = -(next_pi * np.log(next_pi)).sum(1)
    plain = _target(reward, terminated, next_q, next_pi, gamma, 0.0)
    return plain + gamma * alpha * entropy


def _soft_maximum(reward, terminated, next_q, next_pi, gamma, alpha):  # type: ignore
    return reward + gamma * (1 - terminated) * tilt(next_q, alpha).value


soft_target = Checker(
    "soft_target",
    _target,
    [{**_BATCH, "gamma": 0.9, "alpha": 0.5}, {**_BATCH, "gamma": 0.5, "alpha": 2.0}],
    mistakes=[
        Mistake(_no_mask, "A terminated episode bootstraps 0."),
        Mistake(_entropy_subtracted, "Entropy is a reward here: minus alpha log pi."),
        Mistake(_no_entropy, "You left out the entropy of the next state."),
        Mistake(_entropy_unmasked, "After the end no entropy is earned either."),
        Mistake(_soft_maximum, "That is the best policy's value: average over pi."),
    ],
)
"""Soft target (B,) from rewards and flags (B,), next Q and policy (B, A)."""


def _tilt_to(
    reward: Array, reference: Array, budget: float, *, backward: bool = False
) -> Array:
    low, high = -12.0, 12.0
    for _ in range(80):
        middle = (low + high) / 2
        found = tilt(reward, math.exp(middle), reference)
        with np.errstate(divide="ignore"):
            spent = relative_entropy(found.probabilities, np.log(reference))
        if backward:
            spent = relative_entropy(reference, found.log_probabilities)
        low, high = (middle, high) if spent > budget else (low, middle)
    return found.probabilities


def _wrong_direction(reward: Array, reference: Array, budget: float) -> Array:
    return _tilt_to(reward, reference, budget, backward=True)


def _no_reference(reward: Array, reference: Array, budget: float) -> Array:
    return _tilt_to(reward, np.full(len(reward), 1 / len(reward)), budget)


def _budget_as_temperature(reward: Array, reference: Array, budget: float) -> Array:
    return tilt(reward, budget, reference).probabilities


budget = Checker(
    "budget",
    _tilt_to,
    [
        {
            "reward": np.array([0.0, 1.0, 3.0]),
            "reference": np.array([0.5, 0.3, 0.2]),
            "budget": 0.2,
        },
        {
            "reward": np.array([2.0, 1.0, 0.0, 1.5]),
            "reference": np.array([0.1, 0.2, 0.6, 0.1]),
            "budget": 0.5,
        },
    ],
    mistakes=[
        Mistake(_wrong_direction, "You bounded KL(reference, p): exchange the two."),
        Mistake(_no_reference, "You tilted the uniform distribution: use reference."),
        Mistake(_budget_as_temperature, "The budget is a KL, not the temperature."),
    ],
    rtol=1e-5,
    atol=1e-6,
)
"""Distribution (n,) with the most reward at KL(p, reference) <= budget."""


def _temperature_step(alpha: float, entropy: float, target: float, lr: float) -> float:
    return alpha * math.exp(-lr * (entropy - target))


def _runs_away(alpha: float, entropy: float, target: float, lr: float) -> float:
    return alpha * math.exp(lr * (entropy - target))


def _not_in_logs(alpha: float, entropy: float, target: float, lr: float) -> float:
    return alpha - lr * (entropy - target)


def _no_target(alpha: float, entropy: float, target: float, lr: float) -> float:
    return alpha * math.exp(-lr * entropy)


temperature_step = Checker(
    "temperature_step",
    _temperature_step,
    [
        {"alpha": 1.0, "entropy": 0.6, "target": 0.3, "lr": 0.5},
        {"alpha": 0.2, "entropy": 0.1, "target": 0.4, "lr": 0.1},
    ],
    mistakes=[
        Mistake(_runs_away, "Too random must lower the temperature, not raise it."),
        Mistake(_not_in_logs, "The step is in log alpha, so that alpha stays above 0."),
        Mistake(_no_target, "Compare the entropy with its target."),
    ],
)
"""Next temperature from the present one, the entropy, its target and a step size."""
