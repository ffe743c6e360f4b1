"""Checkers for the exercises of the chapter on PPO."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlbook_utils import ppo
from rlbook_utils.page.check import Checker, Mistake

Array = NDArray[np.float64]


def _no_dead_zone(beta: float, kl: float, target: float) -> float:
    return beta / 2 if kl < target else 2 * beta


def _turned(beta: float, kl: float, target: float) -> float:
    return beta * beta / ppo.adapted(beta, kl, target)


def _factor_two(beta: float, kl: float, target: float) -> float:
    return beta / 2 if kl < target / 2 else 2 * beta if kl > 2 * target else beta


def _by_one_and_a_half(beta: float, kl: float, target: float) -> float:
    return beta * {0.5: 1 / 1.5, 1.0: 1.0, 2.0: 1.5}[ppo.adapted(1.0, kl, target)]


adapted = Checker(
    "adapted",
    ppo.adapted,
    [
        {"beta": 3.0, "kl": kl, "target": 0.01}
        for kl in (0.001, 0.0065, 0.008, 0.012, 0.016, 0.5)
    ],
    mistakes=[
        Mistake(_no_dead_zone, "Near the target beta stays as it is."),
        Mistake(_turned, "A KL that is too large needs a *larger* penalty."),
        Mistake(_factor_two, "1.5 is the factor of the thresholds, 2 that of beta."),
        Mistake(_by_one_and_a_half, "beta is halved or doubled; 1.5 is for the KL."),
    ],
)
"""The next weight of the KL penalty."""


def _clipped(ratio: Array, advantage: Array, eps: float) -> Array:
    inside = np.clip(ratio, 1 - eps, 1 + eps)
    return np.minimum(ratio * advantage, inside * advantage)


def _min_of_ratios(ratio: Array, advantage: Array, eps: float) -> Array:
    return np.minimum(ratio, np.clip(ratio, 1 - eps, 1 + eps)) * advantage


def _clip_alone(ratio: Array, advantage: Array, eps: float) -> Array:
    return np.clip(ratio, 1 - eps, 1 + eps) * advantage


def _max_of_both(ratio: Array, advantage: Array, eps: float) -> Array:
    return -_clipped(ratio, -advantage, eps)


clipped = Checker(
    "clipped",
    _clipped,
    [
        {
            "ratio": np.array([0.5, 1.0, 1.5, 0.5, 1.0, 1.5]),
            "advantage": np.array([2.0, 2.0, 2.0, -2.0, -2.0, -2.0]),
            "eps": 0.2,
        }
    ],
    mistakes=[
        Mistake(_min_of_ratios, "The min is of the two products, not of the ratios."),
        Mistake(_clip_alone, "Clipping alone forgives samples on the wrong side."),
        Mistake(_max_of_both, "The objective takes the min; a *loss* takes the max."),
    ],
)
"""The clipped objective (B,), to be maximized."""


def _natural_step(g: Array, F: Array, radius: float) -> Array:
    x = np.asarray(np.linalg.solve(F, g), np.float64)
    return x * np.sqrt(2 * radius / (x @ F @ x))


def _no_two(g: Array, F: Array, radius: float) -> Array:
    return _natural_step(g, F, radius / 2)


def _plain_length(g: Array, F: Array, radius: float) -> Array:
    x = np.asarray(np.linalg.solve(F, g), np.float64)
    return x * np.sqrt(2 * radius / (x @ x))


def _plain_gradient(g: Array, F: Array, radius: float) -> Array:
    return g * np.sqrt(2 * radius / (g @ F @ g))


def _no_root(g: Array, F: Array, radius: float) -> Array:
    x = np.asarray(np.linalg.solve(F, g), np.float64)
    return x * 2 * radius / (x @ F @ x)


natural_step = Checker(
    "natural_step",
    _natural_step,
    [
        {"g": np.array([1.0, 2.0]), "F": np.diag([1.0, 4.0]), "radius": 0.01},
        {
            "g": np.array([1.0, -1.0]),
            "F": np.array([[2.0, 1.0], [1.0, 3.0]]),
            "radius": 0.5,
        },
    ],
    mistakes=[
        Mistake(_no_two, "The KL is *half* of x F x: you left out a factor of 2."),
        Mistake(_plain_length, "Measure the length of x by F, not by itself."),
        Mistake(_plain_gradient, "That is the plain gradient: solve F x = g first."),
        Mistake(_no_root, "You left out the square root."),
    ],
)
"""The step (P,) of TRPO from the gradient ``g`` (P,) and the Fisher matrix ``F``."""
