"""Checkers for the exercises of the chapter on group-relative policy optimization."""

from __future__ import annotations

import torch
from torch import Tensor

from rlbook_utils import grpo
from rlbook_utils.page.check import Checker, Mistake

_REWARDS = [
    {"rewards": torch.tensor([[1.0, 0.0, 0.0, 0.0], [2.0, 1.0, 0.5, 0.5]])},
    {"rewards": torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])},
]


def _leave_one_out(rewards: Tensor) -> Tensor:
    return grpo.group_advantages(rewards, "others")


def _with_own(rewards: Tensor) -> Tensor:
    return grpo.group_advantages(rewards, "mean")


def _over_g(rewards: Tensor) -> Tensor:
    return rewards - (rewards.sum(1, keepdim=True) - rewards) / rewards.shape[1]


def _divided(rewards: Tensor) -> Tensor:
    return grpo.group_advantages(rewards, "std")


def _whole_batch(rewards: Tensor) -> Tensor:
    return rewards - rewards.mean()


leave_one_out = Checker(
    "leave_one_out",
    _leave_one_out,
    _REWARDS,
    mistakes=[
        Mistake(_with_own, "The own reward is in your mean: leave it out."),
        Mistake(_over_g, "There are G - 1 others, not G."),
        Mistake(_divided, "Do not divide by the standard deviation."),
        Mistake(_whole_batch, "Compare within each group, not over all prompts."),
    ],
)
"""Leave-one-out advantages (P, G) of rewards (P, G)."""


def _grouped(rewards: Tensor, group: int) -> Tensor:
    return _with_own(rewards.view(-1, group)).flatten()


def _mixed(rewards: Tensor, group: int) -> Tensor:
    table = rewards.view(group, -1)
    return (table - table.mean(0)).flatten()


def _no_groups(rewards: Tensor, group: int) -> Tensor:
    return rewards - rewards.mean()


def _not_flat(rewards: Tensor, group: int) -> Tensor:
    return _with_own(rewards.view(-1, group))


def _across(rewards: Tensor, group: int) -> Tensor:
    table = rewards.view(-1, group)
    return (table - table.mean(0)).flatten()


grouped = Checker(
    "grouped",
    _grouped,
    [
        {"rewards": torch.tensor([1.0, 1, 1, 0, 0, 1]), "group": 3},
        {"rewards": torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 1, 0, 0]), "group": 2},
    ],
    mistakes=[
        Mistake(_mixed, "A group of yours mixes answers to different prompts."),
        Mistake(_across, "Take the mean over the answers, not over the prompts."),
        Mistake(_no_groups, "You subtract the mean of the whole batch."),
        Mistake(_not_flat, "Return the advantages flat, in the order of the rewards."),
    ],
)
"""Advantages (P G,), each reward minus its group's mean, of flat rewards (P G,)."""


def _plug_in(correct: Tensor, count: int, k: int) -> Tensor:
    return 1 - (1 - correct.double() / count) ** k


def _share(correct: Tensor, count: int, k: int) -> Tensor:
    return correct.double() / count


def _any(correct: Tensor, count: int, k: int) -> Tensor:
    return (correct > 0).double()


def _fails(correct: Tensor, count: int, k: int) -> Tensor:
    return 1 - grpo.pass_at_k(correct, count, k)


pass_at_k = Checker(
    "pass_at_k",
    grpo.pass_at_k,
    [
        {"correct": torch.tensor([0, 1, 3, 5, 6]), "count": 6, "k": 3},
        {"correct": torch.tensor([2.0, 40.0]), "count": 400, "k": 100},
    ],
    mistakes=[
        Mistake(_plug_in, "This is biased: it draws with replacement."),
        Mistake(_share, "This is pass@1."),
        Mistake(_any, "This is pass@n, with all samples."),
        Mistake(_fails, "This is the chance to fail: subtract it from 1."),
    ],
)
"""Unbiased pass@``k`` from numbers of right answers among ``count``."""
