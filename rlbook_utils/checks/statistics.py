"""Checkers for the exercises of the page on comparing methods."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlbook_utils.page.check import Checker, Mistake

Array = NDArray[np.float64]

_SAMPLES = [
    {"x": np.array([3.0, 1.0, 2.0]), "y": np.array([2.0, 2.0, 0.0, 5.0])},
    {"x": np.array([1.0, 4.0]), "y": np.array([0.0, 2.0])},
]


def _improvement(x: Array, y: Array) -> float:
    return float(((np.sign(x[:, None] - y) + 1) / 2).mean())


def _ties_lost(x: Array, y: Array) -> float:
    return float((x[:, None] > y).mean())


def _ties_won(x: Array, y: Array) -> float:
    return float((x[:, None] >= y).mean())


def _in_turn(x: Array, y: Array) -> float:
    n = min(len(x), len(y))
    return _improvement_of_pairs(x[:n], y[:n])


def _improvement_of_pairs(x: Array, y: Array) -> float:
    return float(((np.sign(x - y) + 1) / 2).mean())


def _turned(x: Array, y: Array) -> float:
    return _improvement(y, x)


improvement = Checker(
    "improvement",
    _improvement,
    _SAMPLES,
    mistakes=[
        Mistake(_ties_lost, "A tie counts one half, not nothing."),
        Mistake(_ties_won, "A tie counts one half, not a win."),
        Mistake(_in_turn, "Compare every x with every y, not the i-th with the i-th."),
        Mistake(_turned, "This is the chance that y beats x."),
    ],
)
"""Chance that one more run of x beats one more run of y, ties counted as one half."""

_TABLES = [
    {"scores": np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 8.0]])},
    {"scores": np.array([[0.0, 4.0], [1.0, 1.0], [9.0, 3.0]])},
]


def _error(scores: Array) -> float:
    runs = scores.mean(1)
    return float(runs.std(ddof=1) / np.sqrt(len(runs)))


def _episodes_counted(scores: Array) -> float:
    return float(scores.std(ddof=1) / np.sqrt(scores.size))


def _episodes_scatter(scores: Array) -> float:
    return float(scores.std(ddof=1) / np.sqrt(len(scores)))


def _biased(scores: Array) -> float:
    runs = scores.mean(1)
    return float(runs.std() / np.sqrt(len(runs)))


def _of_one_run(scores: Array) -> float:
    return float(scores.mean(1).std(ddof=1))


def _wrong_axis(scores: Array) -> float:
    return _error(scores.T)


error = Checker(
    "error",
    _error,
    _TABLES,
    mistakes=[
        Mistake(_episodes_counted, "Episodes are counted as if each were a seed."),
        Mistake(_episodes_scatter, "Take the scatter of the seeds' means."),
        Mistake(_biased, "The standard deviation of a sample divides by n - 1."),
        Mistake(_of_one_run, "This is the scatter of one seed, not of their mean."),
        Mistake(_wrong_axis, "Rows are seeds: average over the other axis."),
    ],
)
"""Standard error of a method's mean score, from an array (seeds, episodes)."""
