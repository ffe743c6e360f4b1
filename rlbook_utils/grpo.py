"""Group-relative policy optimization: reward without a critic.

To each prompt a *group* of G responses is sampled. A response's advantage is its reward
compared with those of its group, the same for each of its tokens; PPO's clipped loss
does the step. Recipes differ in three choices, each of them an argument here: what an
advantage is divided by (:func:`group_advantages`), what a batch of token losses is
divided by (`masked_mean`'s normalizer), and where a KL to the reference stands.

Rewards are (P, G), prompts times group. Rows of tokens are (P G, L), the group of a
prompt together; what is known about tokens 1 ... L-1 is (P G, L-1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlbook_utils.core.kl import k3
from rlbook_utils.lm_policy import NORMALIZERS, masked_mean, sft_loss, token_log_probs
from rlbook_utils.nets.sampling import sample, sample_some
from rlbook_utils.nets.transformer import GPT
from rlbook_utils.ppo import clipped_loss
from rlbook_utils.worlds import tasks

KINDS = ("std", "mean", "others")
Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps tokens, mask and response mask, all (B, L), to scores (B,)."""


def _kind(kind: str, group: int) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: choose one of {KINDS}")
    if group < 2:
        raise ValueError(f"a group of {group} has nothing to compare: at least 2")


def group_advantages(rewards: Tensor, kind: str = "std") -> Tensor:
    """Return how much better each response is than its group.

    "mean": r_i - mean(r), Dr. GRPO's. "std": that over the group's standard deviation
    (G - 1 in its denominator), GRPO's. "others": r_i - mean of the other rewards,
    RLOO's, G/(G - 1) times "mean".

    Parameters
    ----------
    rewards : (..., G) Tensor
    kind : {"std", "mean", "others"}

    Returns
    -------
    (..., G) Tensor
        Sums to 0 over each group; all 0 where its rewards are equal, also with "std",
        where 0/0 would be NaN.

    Raises
    ------
    ValueError
        If the group has fewer than 2 responses, the kind is unknown, or a reward is not
        finite.

    Notes
    -----
    Source: Shao et al. (2024), section 4.1.2; Liu et al. (2025), section 3.1; Kool et
    al. (2019). Libraries add 1e-4 or so to the standard deviation instead.

    Examples
    --------
    >>> rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    >>> group_advantages(rewards, "others")[0]
    tensor([ 1.0000, -0.3333, -0.3333, -0.3333])
    >>> group_advantages(rewards)
    tensor([[ 1.5000, -0.5000, -0.5000, -0.5000],
            [ 0.0000,  0.0000,  0.0000,  0.0000]])
    """
    size = rewards.shape[-1]
    _kind(kind, size)
    if not rewards.isfinite().all():
        raise ValueError(f"a reward is {rewards[~rewards.isfinite()][0].item()}")
    gaps = rewards - rewards.mean(-1, True)
    if kind == "others":
        return gaps * (size / (size - 1))
    if kind == "mean":
        return gaps
    equal = rewards.amax(-1, True) == rewards.amin(-1, True)
    scale = rewards.std(-1, keepdim=True).masked_fill(equal, 1.0)
    return (gaps / scale).masked_fill(equal, 0.0)


def _chance(success: Tensor | float, group: int) -> Tensor:
    p = torch.as_tensor(success, dtype=torch.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"success is {success}: it must be in [0, 1]")
    if group < 2:
        raise ValueError(f"a group of {group} has nothing to compare: at least 2")
    return p


def multiplier(success: Tensor | float, group: int, kind: str = "std") -> Tensor:
    """Return what a group's expected gradient is, over that of the success probability.

    With rewards 0 and 1 and the number k of successes in the group binomial,
    m = E[sum_i A_i r_i] / (G p (1 - p)). "others": 1; "mean": 1 - 1/G; "std":
    E[sqrt(k (G - k) (G - 1)/G)] / (G p (1 - p)), which tends to 1/sqrt(p (1 - p)) as G
    grows and is below sqrt(G) (1 - 1/G), its limit for p to 0.

    Parameters
    ----------
    success : float or (...) Tensor
        p, between 0 and 1; at the ends the limit is returned.
    group : int
        G, at least 2.
    kind : {"std", "mean", "others"}

    Returns
    -------
    (...) Tensor
        float64.

    Raises
    ------
    ValueError
        If p is out of range, the group too small or the kind unknown.

    Examples
    --------
    >>> multiplier(torch.tensor([0.01, 0.5]), 8).round(decimals=2).tolist()
    [2.44, 1.74]
    >>> multiplier(0.3, 8, "mean").item()
    0.875
    """
    p = _chance(success, group)
    _kind(kind, group)
    if kind != "std":
        return torch.full_like(p, 1.0 if kind == "others" else 1 - 1 / group)
    k = torch.arange(1, group, dtype=torch.float64)
    size = torch.tensor(group + 1.0, dtype=torch.float64)
    ways = size.lgamma() - (k + 1).lgamma() - (size - k).lgamma()
    gain = (k * (group - k) * (group - 1) / group).sqrt() / group
    rest = torch.xlogy(k - 1, p[..., None]) + torch.xlogy(
        group - k - 1, 1 - p[..., None]
    )
    return ((ways + rest).exp() * gain).sum(-1)


def without_signal(success: Tensor | float, group: int) -> Tensor:
    """Return p^G + (1 - p)^G, the share of groups whose rewards 0 or 1 are all equal.

    Parameters
    ----------
    success : float or (...) Tensor
        p, between 0 and 1.
    group : int
        G, at least 2.

    Returns
    -------
    (...) Tensor
        float64.

    Raises
    ------
    ValueError
        If p is out of range or the group too small.

    Examples
    --------
    >>> round(without_signal(0.01, 8).item(), 2)
    0.92
    """
    p = _chance(success, group)
    return p**group + (1 - p) ** group


def pass_at_k(correct: Tensor, count: int, k: int) -> Tensor:
    """Return 1 - C(n - c, k)/C(n, k), the chance that k of n samples hold a right one.

    Its mean is the probability that at least one of k fresh samples is right, which
    1 - (1 - c/n)^k underestimates.

    Parameters
    ----------
    correct : (...) Tensor
        c, right samples of each prompt.
    count : int
        n, samples of each prompt.
    k : int
        From 1 to n.

    Returns
    -------
    (...) Tensor
        float64.

    Raises
    ------
    ValueError
        If k or a number of right samples is out of range.

    Notes
    -----
    Source: Chen et al. (2021), equation 1.

    Examples
    --------
    >>> pass_at_k(torch.tensor([0, 1, 3]), 4, 2).tolist()
    [0.0, 0.5, 1.0]
    """
    if not 1 <= k <= count:
        raise ValueError(f"k is {k}: it must be from 1 to {count}")
    if ((correct < 0) | (correct > count)).any():
        raise ValueError(f"correct has {correct.tolist()}: of {count} samples")
    wrong = count - correct.double()
    steps = torch.arange(k, dtype=torch.float64, device=correct.device)
    factors = (wrong[..., None] - steps).clamp(min=0) / (count - steps)
    return 1 - factors.prod(-1)


def token_losses(
    logp: Tensor,
    logp_old: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
    logp_ref: Tensor | None = None,
    beta: float = 0.0,
) -> Tensor:
    """Return GRPO's loss of each token, before any mean.

    -min(rho_t A, clamp(rho_t, 1 - clip, 1 + clip_high) A) + beta k3(d_t), with rho_t =
    pi/pi_old of the token and d_t = log pi - log reference.

    Parameters
    ----------
    logp, logp_old : (B, T) Tensor
        Log-probabilities of the tokens now, and when they were sampled.
    advantages : (B,) or (B, T) Tensor
    mask : (B, T) Tensor of bool
        True on tokens of the response.
    clip : float
        epsilon, positive.
    clip_high : float, optional
        The upper epsilon where it differs, DAPO's "clip higher".
    logp_ref : (B, T) Tensor, optional
        Needed where beta is positive.
    beta : float
        At least 0. The penalty per token does not have the optimum of RLHF: see
        :mod:`rlbook_utils.core.kl`.

    Returns
    -------
    (B, T) Tensor
        0 outside the mask.

    Raises
    ------
    ValueError
        If shapes differ, an epsilon is not positive, beta is negative, or the reference
        is missing.

    Notes
    -----
    Source: Shao et al. (2024), equation 3; Yu et al. (2025), equation 8.

    Examples
    --------
    >>> now, old = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.0, -2.0]])
    >>> token_losses(now, old, torch.tensor([2.0]), now < 0)
    tensor([[-2.0000, -2.4000]])
    """
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta is {beta}: it must be 0 or more, and finite")
    if beta and logp_ref is None:
        raise ValueError(f"beta is {beta}, and there is no logp_ref")
    if not logp.shape == logp_old.shape == mask.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"logp {tuple(logp.shape)}, logp_old {tuple(logp_old.shape)}, mask "
            f"{mask.dtype} {tuple(mask.shape)}: they must agree, the mask be bool"
        )
    if advantages.shape not in (mask.shape, mask.shape[:1]):
        raise ValueError(
            f"advantages has shape {tuple(advantages.shape)}: it must be "
            f"{tuple(mask.shape[:1])} or {tuple(mask.shape)}"
        )
    gaps = advantages if advantages.dim() == 2 else advantages[:, None]
    log_ratio = (logp - logp_old).masked_fill(~mask, 0.0)
    loss = clipped_loss(log_ratio, gaps.expand_as(logp), clip, clip_high)
    if beta and logp_ref is not None:
        loss = loss + beta * k3((logp - logp_ref).masked_fill(~mask, 0.0))
    return loss.masked_fill(~mask, 0.0)


# Training


@dataclass(frozen=True)
class Recipe:
    """What :func:`train_grpo` needs to know.

    Attributes
    ----------
    length : int
        Most tokens of a response; also the constant of the normalizer "constant".
    prompts, group : int
        P and G of a rollout; G at least 2.
    kind : {"std", "mean", "others"}
        Of the advantages.
    normalizer : {"sequences", "tokens", "constant"}
        As for :func:`~rlbook_utils.lm_policy.masked_mean`.
    clip, clip_high
        As for :func:`token_losses`.
    beta : float
        Price of KL to the reference, at least 0.
    paid : bool
        Take beta times the response's log-ratio from its reward, before groups are
        compared; else k3 per token stands in the loss.
    tries : int
        Rollouts drawn at most until P groups with unequal rewards are found, DAPO's
        dynamic sampling; 1 takes the first as it comes.
    epochs, minibatch : int
        Passes over a rollout, and responses of a step (0: all at once).
    lr : float
    temperature : float
        At which responses are sampled *and* scored, positive.
    eos : int, optional
        Token that ends a response.

    Raises
    ------
    ValueError
        If a number is out of its range or a name unknown.
    """

    length: int
    prompts: int = 32
    group: int = 8
    kind: str = "std"
    normalizer: str = "sequences"
    clip: float = 0.2
    clip_high: float | None = None
    beta: float = 0.0
    paid: bool = False
    tries: int = 1
    epochs: int = 1
    minibatch: int = 0
    lr: float = 5e-4
    temperature: float = 1.0
    eos: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _kind(self.kind, self.group)
        if self.normalizer not in NORMALIZERS:
            raise ValueError(
                f"normalizer is {self.normalizer!r}: choose one of {NORMALIZERS}"
            )
        positive = ["length", "prompts", "clip", "tries", "epochs", "lr", "temperature"]
        positive += ["clip_high"] if self.clip_high is not None else []
        for name in positive:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: must be positive")
        for name in ("beta", "minibatch"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: must be 0 or more")


RECIPES: dict[str, dict[str, Any]] = {
    "grpo": {"kind": "std", "normalizer": "sequences"},
    "dr_grpo": {"kind": "mean", "normalizer": "constant"},
    "rloo": {"kind": "others", "normalizer": "constant", "paid": True},
    "dapo": {"kind": "std", "normalizer": "tokens", "clip_high": 0.28, "tries": 4},
}
"""Choices of the four recipes by name, for ``Recipe(length, **RECIPES[name])``."""


BY_ROW = ("tokens", "mask", "response", "logp", "logp_ref", "advantages")


class Rollout(NamedTuple):
    """Groups of responses of the behavior policy.

    `tokens`, `mask`, `response` (B, L); `logp`, `logp_ref` (B, L - 1), 0 outside the
    response; `rewards` (P, G); `advantages` (B,). B = P G.
    """

    tokens: Tensor
    mask: Tensor
    response: Tensor
    logp: Tensor
    logp_ref: Tensor
    rewards: Tensor
    advantages: Tensor


@torch.no_grad()
def roll_out(
    policy: nn.Module,
    reference: nn.Module | None,
    reward: Reward,
    prompts: tuple[Tensor, Tensor],
    recipe: Recipe,
    generator: torch.Generator,
) -> tuple[Rollout, float, int]:
    """Sample a group of responses to random prompts, and compare them.

    Parameters
    ----------
    policy : module
        Maps tokens and mask to logits (B, L, V).
    reference : module, optional
        Needed where the recipe's beta is positive.
    reward : callable
        Maps tokens, mask and response mask to scores (B,).
    prompts : pair of (n, W) Tensors
        Tokens and mask.
    recipe : Recipe
    generator : torch.Generator
        On the tokens' device.

    Returns
    -------
    rollout : Rollout
        Under dynamic sampling possibly of fewer prompts.
    signal : float
        Share of the groups drawn, of all tries, whose rewards are not all equal.
    drawn : int
        Responses sampled, of all tries.

    Examples
    --------
    >>> from rlbook_utils.nets.tables import Table
    >>> start = torch.tensor([[4]])
    >>> rollout, signal, drawn = roll_out(
    ...     Table(4, 2, 1), None, lambda tokens, *_: tokens[:, 1].double(),
    ...     (start, start > 0), Recipe(2, 3, 5), torch.Generator().manual_seed(0))
    >>> rollout.rewards.shape, signal, drawn
    (torch.Size([3, 5]), 1.0, 15)
    """
    found, live, drawn = list[Rollout](), 0, 0
    for _ in range(recipe.tries):
        one = _draw(policy, reference, reward, prompts, recipe, generator)
        drawn += len(one.tokens)
        keep = one.rewards.amax(1) > one.rewards.amin(1)
        live += int(keep.sum())
        if recipe.tries > 1:
            rows = keep.repeat_interleave(recipe.group)
            one = Rollout(*(x[keep if len(x) == len(keep) else rows] for x in one))
        found.append(one)
        if live >= recipe.prompts:
            break
    size, groups = recipe.prompts * recipe.group, drawn // recipe.group
    joined = [torch.cat(parts)[:size] for parts in zip(*found, strict=True)]
    joined[5] = joined[5][: recipe.prompts]
    return Rollout(*joined), live / groups, drawn


def _draw(
    policy: nn.Module,
    reference: nn.Module | None,
    reward: Reward,
    prompts: tuple[Tensor, Tensor],
    recipe: Recipe,
    generator: torch.Generator,
) -> Rollout:
    drawn = sample_some(
        policy,
        prompts,
        recipe.prompts,
        recipe.length,
        generator,
        repeat=recipe.group,
        temperature=recipe.temperature,
        eos=recipe.eos,
    )
    # The sampler knows what it sampled from: no second pass, no second temperature.
    logp = nn.functional.pad(drawn.logp, (prompts[0].shape[1] - 1, 0))
    known = torch.zeros_like(logp)
    if recipe.beta:
        if reference is None:
            raise ValueError(f"beta is {recipe.beta}, and there is no reference")
        known = _scores(reference, *drawn[:3], recipe.temperature).to(logp.dtype)
    scores = reward(drawn.tokens, drawn.mask, drawn.response)
    if scores.shape != logp.shape[:1]:
        raise ValueError(
            f"reward has shape {tuple(scores.shape)}: it must be ({len(logp)},)"
        )
    paid = scores - recipe.beta * (logp - known).sum(1) if recipe.paid else scores
    gaps = group_advantages(paid.view(-1, recipe.group), recipe.kind).flatten()
    rewards = scores.view(-1, recipe.group)
    return Rollout(*drawn[:3], logp, known, rewards, gaps)


def _scores(
    policy: nn.Module, tokens: Tensor, mask: Tensor, response: Tensor, heat: float
) -> Tensor:
    return token_log_probs(policy(tokens, mask), tokens, response, heat)


def grpo_loss(logp: Tensor, rollout: Rollout, recipe: Recipe) -> Tensor:
    """Return the loss of a rollout, or of some of its rows.

    Parameters
    ----------
    logp : (B, L - 1) Tensor
        Of the policy as it stands, with gradient.
    rollout : Rollout
    recipe : Recipe

    Returns
    -------
    Tensor, a number
        At the policy that was sampled, with kind "others" and normalizer "constant",
        minus `length` times its mean gradient is that of the mean reward.

    Examples
    --------
    >>> one, yes = torch.ones(2, 1), torch.ones(2, 2, dtype=torch.bool)
    >>> made = Rollout(yes, yes, yes, 0 * one, 0 * one, one, torch.tensor([1.0, -0.5]))
    >>> grpo_loss(0 * one, made, Recipe(1))
    tensor(-0.2500)
    """
    kept = rollout.response[:, 1:]
    losses = token_losses(
        logp,
        rollout.logp,
        rollout.advantages.to(logp.dtype),
        kept,
        clip=recipe.clip,
        clip_high=recipe.clip_high,
        logp_ref=rollout.logp_ref,
        beta=0.0 if recipe.paid else recipe.beta,
    )
    length = recipe.length if recipe.normalizer == "constant" else None
    return masked_mean(losses, kept, normalizer=recipe.normalizer, length=length)


class Update(NamedTuple):
    """What a rollout showed and its steps did.

    `reward` and `length` are means over responses used, `signal` the share of drawn
    groups with unequal rewards, `drawn` the responses sampled, `surprise` the mean of
    -log pi over tokens, an estimate of the entropy, `clip_fraction` the share of tokens
    whose ratio had left its interval at the last step.
    """

    reward: float
    length: float
    signal: float
    drawn: int
    surprise: float
    clip_fraction: float


def train_grpo(
    policy: nn.Module,
    reward: Reward,
    prompts: tuple[Tensor, Tensor],
    updates: int,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    reference: nn.Module | None = None,
    measure: Callable[[int], None] | None = None,
    stop: int | None = None,
) -> list[Update]:
    """Maximize the mean reward by comparing responses within groups, in place.

    Adam, gradients cut to norm 1; the step falls linearly to 0 over `updates`.

    Parameters
    ----------
    policy, reward, prompts, recipe, generator, reference
        As for :func:`roll_out`; the policy is trained.
    updates : int
        Rollouts, at least 1.
    measure : callable, optional
        Called with the number of updates done, before each and after the last.
    stop : int, optional
        Leave after so many updates, with the steps of a whole run.

    Returns
    -------
    list of Update

    Raises
    ------
    ValueError
        If `updates` is not positive, beta has no reference, the reward is not one
        number a response, or the loss becomes NaN.

    Notes
    -----
    Source: Shao et al. (2024), algorithm 1, with a fixed reference and verifier.

    Examples
    --------
    >>> from rlbook_utils.nets.tables import Table
    >>> policy, start = Table(4, 2, 1), torch.tensor([[4]])
    >>> made = train_grpo(policy, lambda tokens, *_: (tokens[:, 1] == 2).double(),
    ...     (start, start > 0), 40, Recipe(2, 4, 8, lr=0.2),
    ...     torch.Generator().manual_seed(0))
    >>> made[0].reward < 0.5, made[-1].reward > 0.9
    (True, True)
    """
    if updates < 1:
        raise ValueError(f"updates is {updates}: it must be at least 1")
    adam, made = torch.optim.Adam(policy.parameters(), lr=recipe.lr), list[Update]()
    last = updates if stop is None else min(stop, updates)
    for k in range(last):
        if measure:
            measure(k)
        full, signal, drawn = roll_out(
            policy, reference, reward, prompts, recipe, generator
        )
        adam.param_groups[0]["lr"] = recipe.lr * (1 - k / updates)
        away = _steps(policy, adam, full, recipe, generator)
        kept = full.response.sum().item()
        rows = max(len(full.tokens), 1)
        surprise = -full.logp.sum().item() / max(kept, 1)
        paid = full.rewards.mean().item() if len(full.rewards) else math.nan
        made.append(Update(paid, kept / rows, signal, drawn, surprise, away))
    if measure:
        measure(last)
    return made


def _steps(
    policy: nn.Module,
    adam: torch.optim.Optimizer,
    full: Rollout,
    recipe: Recipe,
    generator: torch.Generator,
) -> float:
    """Take the steps of one rollout; return the last one's clip fraction."""
    count, away = len(full.tokens), 0.0
    size, high = recipe.minibatch or count, recipe.clip_high or recipe.clip
    for _ in range(recipe.epochs if count else 0):
        order = torch.randperm(count, generator=generator, device=full.tokens.device)
        for first in range(0, count, size):
            some = order[first : first + size]
            part = full._replace(**{x: getattr(full, x)[some] for x in BY_ROW})
            logp = _scores(policy, *part[:3], recipe.temperature)
            loss = grpo_loss(logp, part, recipe)
            if not loss.isfinite():
                raise ValueError(f"the loss is {loss.item()}: lower lr {recipe.lr}")
            adam.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            adam.step()
    if count:
        ratio = (logp.detach() - part.logp)[part.response[:, 1:]].exp()
        outside = (ratio < 1 - recipe.clip) | (ratio > 1 + high)
        away = outside.double().mean().item()
    return away


# Addition: a verifier in place of a reward model


ANSWER = 4
"""Most tokens of a sum, its end token included."""


def verifier(tokenizer: tasks.Tokenizer, check: Callable[[str, str], float]) -> Reward:
    """Return a reward that reads prompt and response as texts and checks them.

    Parameters
    ----------
    tokenizer : Tokenizer
    check : callable
        Maps prompt and response, texts, to a score. A response counts only if its end
        token came: one that was cut off scores 0.

    Returns
    -------
    callable
        Maps tokens, mask and response mask (B, L) to scores (B,).

    Examples
    --------
    >>> digits = tasks.addition_tokenizer()
    >>> batch = digits.batch(["7+5=", "7+5="], ["12", "13"])
    >>> verifier(digits, tasks.verify_addition)(*batch)
    tensor([1., 0.])
    """
    known: dict[tuple[int, ...], float] = {}

    def score(row: tuple[int, ...], real: list[bool], answer: list[bool]) -> float:
        head = [t for t, a, b in zip(row, real, answer, strict=True) if a and not b]
        tail = [t for t, b in zip(row, answer, strict=True) if b]
        if tokenizer.end not in tail:
            return 0.0
        return check(tokenizer.decode(head), tokenizer.decode(tail))

    def reward(tokens: Tensor, mask: Tensor, response: Tensor) -> Tensor:
        rows = list(map(tuple, (tokens + len(tokenizer) * response).tolist()))
        plain = zip(tokens.tolist(), mask.tolist(), response.tolist(), strict=True)
        for row, parts in zip(rows, plain, strict=True):
            if row not in known:
                known[row] = score(*parts)
        return torch.tensor([known[row] for row in rows], device=tokens.device)

    return reward


def addition_prompts(held_out: int = 500) -> tuple[list[str], list[str]]:
    """Return all sums of two numbers of two digits, to train on and to test on.

    Parameters
    ----------
    held_out : int
        How many of the 8,100 are for the test, the same ones at each call.

    Returns
    -------
    train, test : list of str

    Examples
    --------
    >>> train, test = addition_prompts()
    >>> len(train), len(test), set(train) & set(test)
    (7600, 500, set())
    """
    every = [f"{a}+{b}=" for a in range(10, 100) for b in range(10, 100)]
    order = torch.randperm(8100, generator=torch.Generator().manual_seed(99)).tolist()
    mixed = [every[k] for k in order]
    return mixed[held_out:], mixed[:held_out]


def right_answers(
    network: GPT, prompts: Sequence[str], samples: int, generator: torch.Generator
) -> Tensor:
    """Return how many of so many sampled answers to each sum are right, (n,).

    Parameters
    ----------
    network : GPT
    prompts : sequence of str
    samples : int
    generator : torch.Generator

    Returns
    -------
    (n,) Tensor

    Examples
    --------
    >>> net = GPT(14, 10, torch.Generator().manual_seed(0), width=8)
    >>> right_answers(net, ["12+34="], 4, torch.Generator().manual_seed(0)).tolist()
    [0.0]
    """
    digits = tasks.addition_tokenizer()
    tokens, mask, _ = digits.batch([p for p in prompts for _ in range(samples)])
    drawn = sample(network, tokens, mask, ANSWER, generator, eos=digits.end)
    scores = verifier(digits, tasks.verify_addition)(*drawn[:3])
    return scores.view(-1, samples).sum(1)


def addition_start(
    seed: int,
    *,
    labels: int | None = None,
    level: float = 0.3,
    most: int = 1000,
    lr: float = 2e-3,
) -> tuple[GPT, int]:
    """Train a network on solved sums, and stop early.

    Every 10 steps of 64 sums it answers the 500 held-out ones once, by sampling, and
    stops where at least `level` of them are right.

    Parameters
    ----------
    seed : int
    labels : int, optional
        Solved sums that there are, used again and again; None: all but the held-out.
    level : float
    most : int
        Steps at most.
    lr : float

    Returns
    -------
    network : GPT
        Of 0.1 million parameters.
    steps : int

    Examples
    --------
    >>> addition_start(0, most=10)[1]
    10
    """
    dice, digits = torch.Generator().manual_seed(seed), tasks.addition_tokenizer()
    train, test = addition_prompts()
    order = torch.randperm(len(train), generator=dice)[:labels].tolist()
    known = [train[k] for k in order]
    answers = [str(sum(map(int, prompt[:-1].split("+")))) for prompt in known]
    tokens, mask, response = digits.batch(known, answers, left=False)
    network = GPT(len(digits), 10, dice)
    adam = torch.optim.Adam(network.parameters(), lr=lr)
    for step in range(1, most + 1):
        some = torch.randint(len(known), (64,), generator=dice)
        logits = network(tokens[some], mask[some])
        loss = sft_loss(logits, tokens[some], response[some])
        adam.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        # Nothing is right before the answers have a form: do not look yet.
        if step % 10 == 0 and step >= 150:
            right = right_answers(network, test, 1, dice)
            if right.mean().item() >= level:
                return network, step
    return network, most


class Study(NamedTuple):
    """One seed's run on addition.

    `marks` and `accuracy`: updates done, and the share of the held-out sums that one
    sampled answer gets right. `signal`: share of groups with unequal rewards, the mean
    over the updates since the last mark, the first update's at 0. `before`, `after`:
    right answers of 32 to 200 held-out sums.
    """

    marks: list[int]
    accuracy: list[float]
    signal: list[float]
    before: Tensor
    after: Tensor


ADDITION = Recipe(ANSWER, epochs=2, minibatch=128, lr=7e-4, eos=tasks.Tokenizer.end)
"""GRPO as it stands in the paper, without KL, 32 sums with 8 answers each."""


def learn_addition(
    network: GPT,
    seed: int,
    *,
    updates: int = 300,
    stop: int | None = None,
    recipe: Recipe = ADDITION,
    every: int = 25,
    repeats: int = 2,
) -> Study:
    """Train a network on sums by a verifier alone, in place.

    Parameters
    ----------
    network : GPT
    seed, updates, stop, recipe
        As for :func:`train_grpo`.
    every : int
        Updates between marks.
    repeats : int
        Sampled answers to each held-out sum at a mark.

    Returns
    -------
    Study

    Examples
    --------
    >>> net = addition_start(0, most=1)[0]
    >>> learn_addition(net, 0, updates=1, every=1, repeats=1).marks
    [0, 1]
    """
    digits, dice = tasks.addition_tokenizer(), torch.Generator().manual_seed(seed)
    judge = torch.Generator().manual_seed(10_000 + seed)
    train, test = addition_prompts()
    marks, scores = list[int](), list[float]()

    def measure(k: int) -> None:
        if k % every == 0:
            right = right_answers(network, test, repeats, judge)
            marks.append(k)
            scores.append(right.mean().item() / repeats)

    before = right_answers(network, test[:200], 32, judge)
    made = train_grpo(
        network,
        verifier(digits, tasks.verify_addition),
        digits.batch(train)[:2],
        updates,
        recipe,
        dice,
        measure=measure,
        stop=stop,
    )
    parts = [made[:1], *(made[k - every : k] for k in marks[1:])]
    signal = [sum(u.signal for u in part) / len(part) for part in parts]
    after = right_answers(network, test[:200], 32, judge)
    return Study(marks, scores, signal, before, after)


KS = (1, 2, 4, 8, 16, 32)
"""Of pass@k in the study."""


def addition_run(seed: int, labels: int = 0, updates: int = 400) -> list[float]:
    """Do the study on addition for one seed.

    Parameters
    ----------
    seed : int
    labels : int
        Solved sums before, with 400 steps on them; 0: all that are not held out, until
        3 of 10 answers are right.
    updates : int

    Returns
    -------
    list of float
        Accuracy at the marks, signal at the marks, and pass@k for each of `KS` before
        and after.

    Examples
    --------
    >>> len(addition_run(0, 1, updates=1))
    14
    """
    few = functools.partial(addition_start, labels=labels, level=1.0, most=400)
    network = (few if labels else addition_start)(seed)[0]
    found = learn_addition(network, seed, updates=updates)
    marks = [
        pass_at_k(right, 32, k).mean().item()
        for right in (found.before, found.after)
        for k in KS
    ]
    return [*found.accuracy, *found.signal, *marks]
