"""Checkers for the exercises of the chapter on learning from human feedback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rlbook_utils.core.kl import exact_kl
from rlbook_utils.page.check import Checker, Mistake
from rlbook_utils.rlhf import best_of_n as best_law

Array = NDArray[np.float64]


def _best_of_n(p: Array, r: Array, n: int) -> Array:
    law = best_law(torch.as_tensor(np.log(p)), torch.as_tensor(r), n)
    return np.asarray(law)


def _below(p: Array, r: Array) -> Array:
    return np.asarray((p * (r[None] < r[:, None])).sum(1))


def _upto(p: Array, r: Array) -> Array:
    return np.asarray((p * (r[None] <= r[:, None])).sum(1))


def _no_ties(p: Array, r: Array, n: int) -> Array:
    return np.asarray((_below(p, r) + p) ** n - _below(p, r) ** n)


def _each_takes_all(p: Array, r: Array, n: int) -> Array:
    return np.asarray(_upto(p, r) ** n - _below(p, r) ** n)


def _only_upto(p: Array, r: Array, n: int) -> Array:
    return np.asarray(_upto(p, r) ** n)


def _one_less(p: Array, r: Array, n: int) -> Array:
    return np.asarray(n * p * _upto(p, r) ** (n - 1))


best_of_n = Checker(
    "best_of_n",
    _best_of_n,
    [
        {
            "p": np.array([0.2, 0.5, 0.3]),
            "r": np.array([1.0, 0.0, 2.0]),
            "n": 3,
        },
        {
            "p": np.array([0.1, 0.4, 0.2, 0.3]),
            "r": np.array([1.0, 0.0, 1.0, -1.0]),
            "n": 4,
        },
    ],
    mistakes=[
        Mistake(_no_ties, "Equal scores: F counts all responses of that score."),
        Mistake(_each_takes_all, "Responses of equal score share, by their p."),
        Mistake(_only_upto, "Not all n may score less: take the case away."),
        Mistake(_one_less, "That is the limit of many small p, not the sum."),
    ],
)
"""Law (m,) of the best of ``n`` draws from ``p`` (m,) by scores ``r`` (m,)."""


def _kl(logp: Tensor, logp_ref: Tensor) -> Tensor:
    return exact_kl(logp, logp_ref)


def _other_order(logp: Tensor, logp_ref: Tensor) -> Tensor:
    return functional.kl_div(logp, logp_ref, log_target=True, reduction="sum")


def _sampled_from_reference(logp: Tensor, logp_ref: Tensor) -> Tensor:
    return (logp_ref.exp() * (logp - logp_ref)).sum()


def _mean(logp: Tensor, logp_ref: Tensor) -> Tensor:
    apart = functional.kl_div(logp_ref, logp, log_target=True, reduction="none")
    return apart.mean()


class _KLChecker(Checker):
    """Says, too, where NaN comes from, which equals no mistake's answer."""

    def _likely(self, answer: Callable[..., Any]) -> list[str]:
        known = super()._likely(answer)
        try:
            wrong = bool(torch.as_tensor(answer(**self.cases[0])).isnan().any())
        except Exception:
            return known
        if known or not wrong:
            return known
        return ["  NaN: a logarithm of a negative number. Which argument is a log?"]


kl = _KLChecker(
    "kl",
    _kl,
    [
        {
            "logp": torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log(),
            "logp_ref": torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log(),
        },
        {
            "logp": torch.tensor([0.5, 0.5], dtype=torch.float64).log(),
            "logp_ref": torch.tensor([0.9, 0.1], dtype=torch.float64).log(),
        },
    ],
    mistakes=[
        Mistake(_other_order, "This is KL(ref, pi): the first argument comes second."),
        Mistake(_sampled_from_reference, "The mean is over pi, not over ref."),
        Mistake(_mean, "Sum over responses: the mean divides by their number."),
    ],
)
"""KL(pi, ref) from log-probabilities ``logp`` and ``logp_ref``, both (m,)."""
