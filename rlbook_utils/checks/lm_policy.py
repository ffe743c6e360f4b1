"""Checkers for the exercises of the chapter on language models as policies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlbook_utils.page.check import Checker, Mistake

Array = NDArray[np.float64]

_CHANCES = np.array([[0.1, 0.5, 0.06, 0.34], [0.02, 0.05, 0.9, 0.03]])


def _normalized(logits: Array) -> Array:
    chances = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(chances / chances.sum(1, keepdims=True))


def _before(chances: Array) -> Array:
    """Return the probability of all likelier tokens."""
    order = (-chances).argsort(1)
    ordered = np.take_along_axis(chances, order, 1)
    before = np.empty_like(chances)
    np.put_along_axis(before, order, ordered.cumsum(1) - ordered, 1)
    return before


def _log(chances: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(chances))


def _kept(chances: Array, kept: NDArray[np.bool_]) -> Array:
    left = chances * kept
    return _log(left / left.sum(1, keepdims=True))


def _top_p(logits: Array, p: float) -> Array:
    chances = _normalized(logits)
    return _kept(chances, _before(chances) < p)


def _not_renormalized(logits: Array, p: float) -> Array:
    chances = _normalized(logits)
    return _log(chances * (_before(chances) < p))


def _crossing_lost(logits: Array, p: float) -> Array:
    chances = _normalized(logits)
    first = chances == chances.max(1, keepdims=True)
    return _kept(chances, first | (_before(chances) + chances <= p))


def _threshold(logits: Array, p: float) -> Array:
    chances = _normalized(logits)
    first = chances == chances.max(1, keepdims=True)
    return _kept(chances, first | (chances >= 1 - p))


def _sorted(logits: Array, p: float) -> Array:
    return np.asarray(-np.sort(-_top_p(logits, p), 1))


def _chances(logits: Array, p: float) -> Array:
    return np.asarray(np.exp(_top_p(logits, p)))


top_p = Checker(
    "top_p",
    _top_p,
    [
        {"logits": np.log(_CHANCES), "p": 0.7},
        {"logits": np.log(_CHANCES) + 3.0, "p": 0.93},
        {"logits": np.array([[0.0, 2.0, -1.0], [1.0, 1.5, 0.0]]), "p": 0.2},
    ],
    mistakes=[
        Mistake(_not_renormalized, "Renormalize: what is kept must add up to 1."),
        Mistake(_crossing_lost, "The token that crosses p is kept: p is reached."),
        Mistake(_threshold, "p bounds a sum from the likeliest on, not each token."),
        Mistake(_sorted, "Put the tokens back into their old order."),
        Mistake(_chances, "These are probabilities: take the logarithm."),
    ],
)
"""Log-probabilities (rows, vocabulary) of top-p sampling, from ``logits`` and ``p``."""


def _sft_loss(logp: Array, mask: Array) -> float:
    return float(-(logp * mask).sum() / mask.sum())


def _all_positions(logp: Array, mask: Array) -> float:
    return float(-(logp * mask).mean())


def _mean_of_means(logp: Array, mask: Array) -> float:
    return float(-((logp * mask).sum(1) / mask.sum(1)).mean())


def _wrong_sign(logp: Array, mask: Array) -> float:
    return -_sft_loss(logp, mask)


def _per_row(logp: Array, mask: Array) -> float:
    return float(-(logp * mask).sum(1).mean())


sft_loss = Checker(
    "sft_loss",
    _sft_loss,
    [
        {
            "logp": np.array([[-1.0, -2.0, -0.5], [-0.1, -3.0, -1.0]]),
            "mask": np.array([[False, True, True], [False, False, True]]),
        },
        {"logp": np.array([[-1.0, -2.0]]), "mask": np.array([[True, False]])},
    ],
    mistakes=[
        Mistake(_all_positions, "You divided by all positions: count the scored ones."),
        Mistake(_mean_of_means, "You averaged each row first: short rows count more."),
        Mistake(_wrong_sign, "A loss is minimized: mind the sign."),
        Mistake(_per_row, "You divided by the rows: divide by the scored tokens."),
    ],
)
"""Mean negative log-probability of the scored tokens, from ``logp`` and ``mask``."""
