"""Checkers for the exercises of the chapter on direct preference optimization."""

from __future__ import annotations

from functools import partial

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


def _training(
    reference: Tensor,
    pairs: Tensor,
    beta: float,
    steps: int,
    *,
    follows: bool = False,
    anchored: bool = True,
    sign: int = 1,
    scale: float | None = None,
) -> Tensor:
    logits = reference.clone()
    start = reference.log_softmax(-1) if anchored else torch.zeros_like(reference)
    for _ in range(steps):
        logits = logits.detach().requires_grad_()
        if follows:
            start = logits.detach().log_softmax(-1)
        h = sign * (logits.log_softmax(-1) - start)[pairs]
        loss = dpo.dpo_loss(h[:, 0], h[:, 1], scale or beta).mean()
        logits = logits - torch.autograd.grad(loss, logits)[0]
    return logits.detach().log_softmax(-1)


training = Checker(
    "training",
    _training,
    [
        {
            "reference": torch.tensor([0.6, 0.3, 0.1]).log(),
            "pairs": torch.tensor([[1, 0], [1, 0], [1, 0], [0, 1], [2, 1], [1, 2]]),
            "beta": 0.5,
            "steps": 40,
        },
        {
            "reference": torch.tensor([0.0, 1.0]),
            "pairs": torch.tensor([[0, 1]]),
            "beta": 2.0,
            "steps": 3,
        },
    ],
    rtol=1e-4,
    atol=1e-5,
    mistakes=[
        Mistake(
            partial(_training, follows=True),
            "Your reference follows the policy: all margins stay 0. It needs a copy.",
        ),
        Mistake(
            partial(_training, anchored=False),
            "The reference is missing: h is a difference of two log-probabilities.",
        ),
        Mistake(
            partial(_training, sign=-1),
            "Chosen and rejected are swapped, or you climb the loss.",
        ),
        Mistake(partial(_training, scale=1.0), "Beta is missing from the margin."),
    ],
)
"""Log-probabilities (n,) after gradient descent with step 1 on ``pairs``."""


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


def _likelihood(margin: Tensor, beta: float, flip: float) -> Tensor:
    right = (beta * margin).sigmoid()
    return -((1 - flip) * right + flip * (1 - right)).log()


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
        Mistake(_likelihood, "Mix the losses, not the probabilities."),
        Mistake(_mixed_margin, "Mix the losses, not the margins."),
    ],
)
"""Mixture of two DPO losses of ``margin``, weights 1 - ``flip`` and ``flip``."""
