"""Checkers for the exercises of the chapter on direct preference optimization."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rlbook_utils import dpo
from rlbook_utils.page.check import Checker, Mistake

_PAIRS = [
    {
        "chosen": torch.tensor([0.0, 2.0, -1.0]),
        "rejected": torch.tensor([0.0, -1.0, 3.0]),
        "beta": 0.5,
    },
    {"chosen": torch.tensor([0.5]), "rejected": torch.tensor([0.2]), "beta": 2.0},
]


def _without_beta(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    return (-beta * (chosen - rejected)).sigmoid()


def _wrong_side(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    return beta * (beta * (chosen - rejected)).sigmoid()


def _no_scale_inside(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    return beta * (rejected - chosen).sigmoid()


weight = Checker(
    "weight",
    dpo.dpo_weight,
    _PAIRS,
    mistakes=[
        Mistake(_without_beta, "The chain rule gives one more factor beta."),
        Mistake(_wrong_side, "A pair that is ranked rightly should weigh less."),
        Mistake(_no_scale_inside, "The margin inside is scaled by beta, too."),
        Mistake(dpo.dpo_loss, "This is the loss; its gradient's weight is asked for."),
    ],
)
"""Weight of each pair in DPO's gradient, from log-ratios and ``beta``."""


def _log_ratio(logp: Tensor, logp_ref: Tensor, mask: Tensor) -> Tensor:
    return dpo.log_ratio(logp, logp_ref, mask.bool())


def _mean(logp: Tensor, logp_ref: Tensor, mask: Tensor) -> Tensor:
    return _log_ratio(logp, logp_ref, mask) / mask.sum(1)


def _unmasked(logp: Tensor, logp_ref: Tensor, mask: Tensor) -> Tensor:
    return (logp - logp_ref).sum(1)


def _no_reference(logp: Tensor, logp_ref: Tensor, mask: Tensor) -> Tensor:
    return (logp * mask).sum(1)


def _swapped(logp: Tensor, logp_ref: Tensor, mask: Tensor) -> Tensor:
    return _log_ratio(logp_ref, logp, mask)


log_ratio = Checker(
    "log_ratio",
    _log_ratio,
    [
        {
            "logp": torch.tensor([[-1.0, -0.5, -2.0], [-0.1, -3.0, -1.0]]),
            "logp_ref": torch.tensor([[-1.5, -1.5, -1.0], [-0.3, -2.0, -2.5]]),
            "mask": torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]),
        }
    ],
    mistakes=[
        Mistake(_mean, "A response's log-probability is a sum: do not average."),
        Mistake(_unmasked, "Tokens outside the mask are counted."),
        Mistake(_no_reference, "The reference is missing."),
        Mistake(_swapped, "The policy comes first, then the reference."),
    ],
)
"""Log-ratios of responses (B,) from token log-probabilities and a mask (B, T)."""


def _noisy_loss(margin: Tensor, beta: float, flip: float) -> Tensor:
    return dpo.dpo_loss(margin, torch.zeros_like(margin), beta, flip)


def _as_if_clean(margin: Tensor, beta: float, flip: float) -> Tensor:
    return _noisy_loss(margin, beta, 0.0)


def _flipped(margin: Tensor, beta: float, flip: float) -> Tensor:
    return _noisy_loss(-margin, beta, flip)


def _unbiased(margin: Tensor, beta: float, flip: float) -> Tensor:
    right, wrong = (
        functional.softplus(-beta * margin),
        functional.softplus(beta * margin),
    )
    return ((1 - flip) * right - flip * wrong) / (1 - 2 * flip)


def _mixed_margin(margin: Tensor, beta: float, flip: float) -> Tensor:
    return functional.softplus(-beta * (1 - 2 * flip) * margin)


noisy_loss = Checker(
    "noisy_loss",
    _noisy_loss,
    [
        {"margin": torch.tensor([-2.0, 0.5, 4.0]), "beta": 0.5, "flip": 0.1},
        {"margin": torch.tensor([1.0]), "beta": 1.0, "flip": 0.3},
    ],
    mistakes=[
        Mistake(_as_if_clean, "You trust each label fully."),
        Mistake(_flipped, "Most labels are right: the weights are swapped."),
        Mistake(_unbiased, "This is the unbiased version: add the two losses."),
        Mistake(_mixed_margin, "Mix the losses, not the margins."),
    ],
)
"""Mixture of two DPO losses of ``margin``, weights 1 - ``flip`` and ``flip``."""
