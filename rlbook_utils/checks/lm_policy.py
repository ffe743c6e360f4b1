"""Checkers for the exercises of the chapter on language models as policies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlbook_utils.page.check import Checker, Mistake

Array = NDArray[np.float64]

_LOGITS = np.array(
    [[0.0, 1.0, 2.0], [1.0, 0.5, -1.0], [2.0, 0.0, 1.0], [0.3, 0.1, 0.2]]
)


def _log_softmax(logits: Array) -> Array:
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


def _log_prob(logits: Array, tokens: Array, response: Array) -> float:
    logp = _log_softmax(logits)[np.arange(len(tokens) - 1), tokens[1:]]
    return float(logp[response[1:]].sum())


def _unshifted(logits: Array, tokens: Array, response: Array) -> float:
    logp = _log_softmax(logits)[np.arange(len(tokens)), tokens]
    return float(logp[response].sum())


def _mask_left_behind(logits: Array, tokens: Array, response: Array) -> float:
    logp = _log_softmax(logits)[np.arange(len(tokens) - 1), tokens[1:]]
    return float(logp[response[:-1]].sum())


def _everything(logits: Array, tokens: Array, response: Array) -> float:
    return _log_prob(logits, tokens, np.ones_like(response))


def _mean(logits: Array, tokens: Array, response: Array) -> float:
    return _log_prob(logits, tokens, response) / int(response[1:].sum())


def _not_normalized(logits: Array, tokens: Array, response: Array) -> float:
    chosen = logits[np.arange(len(tokens) - 1), tokens[1:]]
    return float(chosen[response[1:]].sum())


log_prob = Checker(
    "log_prob",
    _log_prob,
    [
        {
            "logits": _LOGITS,
            "tokens": np.array([0, 2, 1, 0]),
            "response": np.array([False, False, True, True]),
        },
        {
            "logits": 2 * _LOGITS[:3],
            "tokens": np.array([1, 1, 2]),
            "response": np.array([False, True, False]),
        },
    ],
    mistakes=[
        Mistake(_unshifted, "Shift: logits at t are about the token at t + 1."),
        Mistake(_mask_left_behind, "You shifted the tokens but not the mask."),
        Mistake(_everything, "You scored prompt or padding: use the mask."),
        Mistake(_mean, "You took the mean: a probability is a product, so add."),
        Mistake(_not_normalized, "These are logits: normalize each row first."),
    ],
)
"""log pi(y given x) from one row of ``logits``, ``tokens`` and ``response``."""


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
