"""Checkers for the exercises of the chapter on bandits."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rlbook_utils import bandits
from rlbook_utils.page.check import Checker, Mistake

Array = NDArray[np.float64]


def _epsilon_greedy(values: ArrayLike, epsilon: float) -> Array:
    columns = torch.as_tensor(np.asarray(values, float))[:, None]
    return bandits.greedy_probabilities(columns, epsilon)[:, 0].numpy()


def _first_maximum(values: ArrayLike, epsilon: float) -> Array:
    pi = np.full(len(np.asarray(values)), epsilon / len(np.asarray(values)))
    pi[np.argmax(values)] += 1 - epsilon
    return pi


def _upside_down(values: ArrayLike, epsilon: float) -> Array:
    return _epsilon_greedy(values, 1 - epsilon)


def _explores_only_others(values: ArrayLike, epsilon: float) -> Array:
    q = np.asarray(values, float)
    best = q == q.max()
    rest = max(1, int((~best).sum()))
    return np.where(best, (1 - epsilon) / best.sum(), epsilon / rest)


epsilon_greedy = Checker(
    "epsilon_greedy",
    _epsilon_greedy,
    [
        {"values": np.array([0.2, 0.9, 0.1]), "epsilon": 0.1},
        {"values": np.array([1.0, 0.0, 1.0, 1.0]), "epsilon": 0.3},
        {"values": np.array([0.0, 0.0]), "epsilon": 0.0},
    ],
    mistakes=[
        Mistake(_first_maximum, "Ties: you gave all of 1 - epsilon to the first best."),
        Mistake(
            _upside_down, "Epsilon is the probability to explore, not to be greedy."
        ),
        Mistake(
            _explores_only_others,
            "An exploring pull may hit the greedy arm, too: it gets epsilon / K more.",
        ),
    ],
)
"""Probabilities (K,) of epsilon-greedy from ``values`` (K,) and ``epsilon``."""


def _chance_that_first_is_best(wins: Array, losses: Array) -> float:
    return float(bandits.thompson_probabilities(wins, losses)[0])


def _without_the_prior(wins: Array, losses: Array) -> float:
    return _chance_that_first_is_best(
        np.maximum(wins - 1, 0), np.maximum(losses - 1, 0)
    )


def _arms_swapped(wins: Array, losses: Array) -> float:
    return 1 - _chance_that_first_is_best(wins, losses)


def _ratio_of_means(wins: Array, losses: Array) -> float:
    means = (wins + 1) / (wins + losses + 2)
    return float(means[0] / means.sum())


chance_that_first_is_best = Checker(
    "chance_that_first_is_best",
    _chance_that_first_is_best,
    [
        {"wins": np.array([1, 0]), "losses": np.array([0, 1])},
        {"wins": np.array([0, 0]), "losses": np.array([0, 0])},
        {"wins": np.array([3, 5]), "losses": np.array([2, 6])},
    ],
    mistakes=[
        Mistake(_without_the_prior, "The uniform prior adds one win and one loss."),
        Mistake(_arms_swapped, "This is the chance that the *second* arm is best."),
        Mistake(_ratio_of_means, "Comparing means forgets how sure each one is."),
    ],
    rtol=1e-4,
)
"""P(theta_0 > theta_1) under uniform priors from ``wins`` (2,), ``losses`` (2,)."""


def _bounds(values: Array, counts: Array, t: int, c: float) -> Array:
    columns = torch.as_tensor(values)[:, None], torch.as_tensor(counts)[:, None]
    bounds = bandits.upper_confidence_bounds(*columns, pulls=t - 1, c=c)
    return bounds[:, 0].numpy()


def _root_of_the_log_alone(values: Array, counts: Array, t: int, c: float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        bonus = np.where(counts > 0, c * math.sqrt(math.log(t)) / counts, math.inf)
    return values + bonus


def _log_of_the_count(values: Array, counts: Array, t: int, c: float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        bonus = c * np.sqrt(np.log(counts) / t)
    return values + np.where(counts > 0, bonus, math.inf)


def _nothing_for_new_arms(values: Array, counts: Array, t: int, c: float) -> Array:
    with np.errstate(divide="ignore"):
        bonus = np.where(counts > 0, c * np.sqrt(math.log(t) / counts), 0.0)
    return values + bonus


ucb_bounds = Checker(
    "ucb_bounds",
    _bounds,
    [
        {
            "values": np.array([0.5, 0.4]),
            "counts": np.array([9.0, 4.0]),
            "t": 14,
            "c": 2.0,
        },
        {
            "values": np.array([0.0, 0.7]),
            "counts": np.array([0.0, 3.0]),
            "t": 4,
            "c": 1.0,
        },
    ],
    mistakes=[
        Mistake(_root_of_the_log_alone, "The count belongs under the root, too."),
        Mistake(_log_of_the_count, "The log is of t, the root divides by the count."),
        Mistake(_nothing_for_new_arms, "An arm never pulled has an infinite bound."),
    ],
)
"""Bounds (K,) of UCB from ``values`` (K,), ``counts`` (K,), ``t`` and ``c``."""
