"""Reward models from preferences, and PPO against them with a KL penalty.

:func:`bradley_terry_loss` fits a :class:`Scorer`, a language model with a linear head,
to pairs. :func:`train_rlhf` maximizes E[r] - beta KL(pi, reference): the KL is paid for
token by token in the reward, the score of the response at its last token, a critic and
GAE make advantages, and PPO's clipped loss does the step. :func:`best_of_n` is the
exact law of the simplest alternative.

Prompts are padded on the left to P columns, responses have at most N tokens. What
belongs to the tokens of a response is (B, N).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlbook_utils.core.kl import token_rewards
from rlbook_utils.core.returns import generalized_advantage_estimation
from rlbook_utils.lm_policy import train_sft
from rlbook_utils.nets.sampling import Samples, sample, sample_some
from rlbook_utils.nets.transformer import GPT
from rlbook_utils.ppo import clipped_loss, value_loss
from rlbook_utils.worlds import tasks

Record = dict[str, str]
Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps tokens, mask and response mask, all (B, P + N), to scores (B,)."""


# Preferences


def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return -log sigmoid(r_w - r_l), the surprise of each choice.

    Parameters
    ----------
    chosen, rejected : (B,) Tensor
        r_w, r_l: the scores of the responses of each pair.

    Returns
    -------
    (B,) Tensor
        ln 2 where the scores are equal.

    Raises
    ------
    ValueError
        If the shapes differ, (B, 1) and (B,) included, or a score is NaN.

    Notes
    -----
    Source: Bradley and Terry (1952); as a loss, Christiano et al. (2017), equation 1.

    Examples
    --------
    >>> bradley_terry_loss(torch.tensor([1.0]), torch.tensor([1.0]))
    tensor([0.6931])
    """
    if chosen.shape != rejected.shape:
        raise ValueError(
            f"chosen is {tuple(chosen.shape)}, rejected {tuple(rejected.shape)}: "
            "they must agree"
        )
    if chosen.isnan().any() or rejected.isnan().any():
        raise ValueError("a score is NaN")
    return -functional.logsigmoid(chosen - rejected)


def review_preferences(
    count: int, generator: torch.Generator, *, sharpness: float = 1.0
) -> list[Record]:
    """Draw pairs of mini-reviews of one prompt, and let the annotator choose.

    Parameters
    ----------
    count : int
        At least 1.
    generator : torch.Generator
        On the CPU.
    sharpness : float
        Of the annotator, as for :func:`~rlbook_utils.worlds.tasks.prefer`.

    Returns
    -------
    list of dict
        With the keys "prompt", "chosen" and "rejected".

    Raises
    ------
    ValueError
        If `count` is not positive or the sharpness negative.

    Examples
    --------
    >>> sorted(review_preferences(1, torch.Generator().manual_seed(0))[0])
    ['chosen', 'prompt', 'rejected']
    """
    prompts, first = tasks.reviews(count, generator)
    _, second = tasks.reviews(count, generator)
    gold = torch.tensor([[tasks.review_score(t) for t in x] for x in (first, second)])
    better = tasks.prefer(gold[0], gold[1], generator, sharpness).tolist()
    return [
        {"prompt": x, "chosen": a if won else b, "rejected": b if won else a}
        for x, a, b, won in zip(prompts, first, second, better, strict=True)
    ]


class Pairs(NamedTuple):
    """Tokens and mask of pairs, (2, n, L): the chosen responses, then the rejected."""

    tokens: Tensor
    mask: Tensor


def encode_pairs(tokenizer: tasks.Tokenizer, records: Sequence[Record]) -> Pairs:
    """Return the tokens of prompts with their chosen and rejected responses.

    Parameters
    ----------
    tokenizer : Tokenizer
    records : sequence of dict
        With the keys "prompt", "chosen" and "rejected", texts.

    Returns
    -------
    Pairs

    Raises
    ------
    ValueError
        If there are no records or one lacks a key, and as the tokenizer.

    Examples
    --------
    >>> records = review_preferences(3, torch.Generator().manual_seed(0))
    >>> encode_pairs(tasks.review_tokenizer(), records).tokens.shape[:2]
    torch.Size([2, 3])
    """
    keys = ("prompt", "chosen", "rejected")
    for number, record in enumerate(records):
        if not set(keys) <= set(record):
            raise ValueError(f"record {number} has the keys {sorted(record)}: {keys}")
    if not records:
        raise ValueError("there are no records")
    heads = [record["prompt"] for record in records] * 2
    tails = [record[key] for key in keys[1:] for record in records]
    tokens, mask, _ = tokenizer.batch(heads, tails, left=False)
    shape = (2, len(records), -1)
    return Pairs(tokens.view(shape), mask.view(shape))


class Scorer(nn.Module):
    """A language model whose head gives one number at each token.

    At the last token of a response it is a reward model; at each token, a critic.

    Parameters
    ----------
    network : GPT or Scorer
        Copied: the body, and of a Scorer the head, too.

    Examples
    --------
    >>> net = GPT(20, 16, torch.Generator().manual_seed(0))
    >>> tokens = torch.zeros(3, 5, dtype=torch.long)
    >>> Scorer(net)(tokens).shape, Scorer(net).score(tokens, tokens == 0).tolist()
    (torch.Size([3, 5, 1]), [0.0, 0.0, 0.0])
    """

    def __init__(self, network: GPT | Scorer) -> None:
        super().__init__()
        given = isinstance(network, Scorer)
        body = network.body if isinstance(network, Scorer) else network
        self.body: GPT = copy.deepcopy(body)
        self.head = nn.Linear(self.body.width, 1, bias=False)
        old = network.head.weight.detach() if given else torch.zeros(1, self.body.width)
        self.head.weight = nn.Parameter(old.to(self.body.embed.weight).clone())

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, L, 1)."""
        return cast(Tensor, self.head(self.body.hidden(tokens, mask)))

    def score(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the number at the last real token, (B,)."""
        last = mask.shape[1] - 1 - mask.flip(1).long().argmax(1)
        every: Tensor = self(tokens, mask)[..., 0]
        return every.gather(1, last[:, None])[:, 0]


def margins(model: Scorer, pairs: Pairs) -> Tensor:
    """Return r_w - r_l of each pair, (n,).

    Parameters
    ----------
    model : Scorer
    pairs : Pairs

    Returns
    -------
    (n,) Tensor
        Positive where the model agrees with the annotator.

    Examples
    --------
    >>> words, dice = tasks.review_tokenizer(), torch.Generator().manual_seed(0)
    >>> pairs = encode_pairs(words, review_preferences(3, dice))
    >>> margins(Scorer(GPT(len(words), 16, dice)), pairs).tolist()
    [0.0, 0.0, 0.0]
    """
    scores = model.score(pairs.tokens.flatten(0, 1), pairs.mask.flatten(0, 1))
    halves: Tensor = scores.view(2, -1)
    return halves[0] - halves[1]


def train_reward_model(
    model: Scorer,
    pairs: Pairs,
    steps: int,
    generator: torch.Generator,
    *,
    batch: int = 64,
    lr: float = 1e-3,
) -> list[float]:
    """Fit a reward model to preferences by maximum likelihood, in place.

    Adam on the mean of :func:`bradley_terry_loss` over pairs drawn with repetition,
    gradients cut to norm 1, the step falling to 0 like a cosine.

    Parameters
    ----------
    model : Scorer
    pairs : Pairs
    steps : int
        At least 1.
    generator : torch.Generator
        Draws the batches, on the CPU.
    batch : int
        Pairs in a batch, or all where there are fewer.
    lr : float

    Returns
    -------
    list of float
        The loss of each step, before it.

    Raises
    ------
    ValueError
        If `steps` is not positive or the loss becomes NaN.

    Examples
    --------
    >>> words, dice = tasks.review_tokenizer(), torch.Generator().manual_seed(0)
    >>> pairs = encode_pairs(words, review_preferences(8, dice))
    >>> model = Scorer(GPT(len(words), 16, dice, width=8))
    >>> losses = train_reward_model(model, pairs, 20, dice, lr=0.01)
    >>> round(losses[0], 4), losses[-1] < 0.5
    (0.6931, True)
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: it must be at least 1")
    count, losses = pairs.tokens.shape[1], []
    adam = torch.optim.Adam(model.parameters(), lr=lr)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        some = torch.randint(count, (min(batch, count),), generator=generator)
        some = some.to(pairs.tokens.device)
        apart = margins(model, Pairs(pairs.tokens[:, some], pairs.mask[:, some]))
        loss = bradley_terry_loss(apart, torch.zeros_like(apart)).mean()
        losses.append(loss.item())
        adam.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        fall.step()
    return losses


# PPO on responses


@dataclass(frozen=True)
class Settings:
    """What :func:`train_rlhf` needs to know.

    Attributes
    ----------
    length : int
        N, most tokens of a response.
    beta : float
        Price of a unit of KL to the reference, at least 0.
    batch, minibatch, epochs : int
        Responses of a rollout, of a step, and passes over each rollout.
    clip, lam, entropy_weight
        epsilon, GAE's lambda, c_H. There is no discount: gamma = 1.
    lr, lr_values : float
        Of the policy and of the critic.
    temperature : float
        At which responses are sampled *and* scored, positive.
    eos : int, optional
        Token that ends a response.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    length: int
    beta: float
    batch: int = 256
    minibatch: int = 128
    epochs: int = 2
    clip: float = 0.2
    lam: float = 0.95
    entropy_weight: float = 0.0
    lr: float = 3e-4
    lr_values: float = 1e-3
    temperature: float = 1.0
    eos: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        positive = ("length", "batch", "minibatch", "epochs", "clip", "lr", "lr_values")
        for name in (*positive, "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: must be positive")
        for name in ("beta", "entropy_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: must be 0 or more")
        if not 0 <= self.lam <= 1:
            raise ValueError(f"lam is {self.lam}: it must be in [0, 1]")


class Rollout(NamedTuple):
    """Responses of the behavior policy, with what the losses need.

    `tokens`, `mask`, `response` (B, P + N); `kept` (B, N), True on the response's
    tokens; `logp`, `logp_ref`, `advantages`, `targets` (B, N); `score` (B,).
    """

    tokens: Tensor
    mask: Tensor
    response: Tensor
    kept: Tensor
    logp: Tensor
    logp_ref: Tensor
    score: Tensor
    advantages: Tensor
    targets: Tensor


class Judged(NamedTuple):
    """Log-probabilities of a response's tokens, and the entropies before them."""

    logp: Tensor
    entropy: Tensor


def judge(
    policy: nn.Module,
    tokens: Tensor,
    mask: Tensor,
    kept: Tensor,
    temperature: float = 1.0,
) -> Judged:
    """Return log pi(y_t given x, y_<t) and the entropy at each token of responses.

    Parameters
    ----------
    policy : module
        Maps tokens and mask to logits (B, L, V).
    tokens, mask : (B, P + N) Tensors
    kept : (B, N) Tensor of bool
        True on the response's tokens.
    temperature : float
        That at which they were sampled, positive.

    Returns
    -------
    Judged
        Both (B, N), 0 outside `kept`.

    Examples
    --------
    >>> from rlbook_utils.nets.tables import Table
    >>> tokens = torch.tensor([[4, 1, 2]])
    >>> seen = torch.ones_like(tokens, dtype=torch.bool)
    >>> judge(Table(4, 2, 1), tokens, seen, seen[:, 1:]).logp.exp().tolist()
    [[0.25, 0.25]]
    """
    size = kept.shape[1]
    logits = policy(tokens, mask)[:, -size - 1 : -1]
    logs = (logits / temperature).log_softmax(-1)
    logp = logs.gather(2, tokens[:, -size:, None])[..., 0]
    entropy = -(logs.exp() * logs).sum(-1)
    return Judged(logp.masked_fill(~kept, 0.0), entropy.masked_fill(~kept, 0.0))


def token_advantages(
    paid: Tensor, values: Tensor, kept: Tensor, lam: float
) -> tuple[Tensor, Tensor]:
    """Return GAE's advantages without discount, and the targets of the critic.

    The last token of a response ends its episode: nothing comes after, V' = 0.

    Parameters
    ----------
    paid : (B, N) Tensor
        Token rewards, 0 outside `kept`.
    values : (B, N) Tensor
        V before each token.
    kept : (B, N) Tensor of bool
    lam : float
        In [0, 1]; 1 gives reward-to-go minus V.

    Returns
    -------
    advantages, targets : (B, N) Tensors
        0 outside `kept`; targets = advantages + V.

    Raises
    ------
    ValueError
        If shapes differ or `lam` is out of range.

    Examples
    --------
    >>> paid, values = torch.tensor([[-0.5, 2.5]]), torch.tensor([[1.0, 2.0]])
    >>> kept = torch.ones(1, 2, dtype=torch.bool)
    >>> [x.tolist() for x in token_advantages(paid, values, kept, 1.0)]
    [[[1.0, 0.5]], [[2.0, 2.5]]]
    """
    v = values.detach().masked_fill(~kept, 0.0)
    after = functional.pad(v[:, 1:], (0, 1))
    ends = kept & ~functional.pad(kept[:, 1:], (0, 1))
    none = torch.zeros_like(kept)
    gaps: Tensor = generalized_advantage_estimation(
        paid, v, after, ends, none, 1.0, lam
    )
    gaps = gaps.masked_fill(~kept, 0.0)
    return gaps, gaps + v


@torch.no_grad()
def roll_out(
    policy: nn.Module,
    reference: nn.Module,
    critic: nn.Module,
    reward: Reward,
    prompts: tuple[Tensor, Tensor],
    settings: Settings,
    generator: torch.Generator,
) -> Rollout:
    """Sample responses to random prompts and judge them by all four models.

    Parameters
    ----------
    policy, reference : module
        Map tokens and mask to logits (B, L, V).
    critic : module
        Maps them to values (B, L, 1).
    reward : callable
        Maps tokens, mask and response mask to scores (B,).
    prompts : pair of (n, P) Tensors
        Tokens and mask.
    settings : Settings
    generator : torch.Generator
        On the tokens' device.

    Returns
    -------
    Rollout

    Raises
    ------
    ValueError
        As :func:`~rlbook_utils.nets.sampling.sample` and `token_rewards`.

    Examples
    --------
    >>> from rlbook_utils.nets.tables import Table
    >>> flat, start = Table(4, 2, 1), torch.tensor([[4]])
    >>> rollout = roll_out(flat, flat, Table(4, 2, 1, outputs=1),
    ...     lambda tokens, mask, response: tokens[:, 1].double(), (start, start > 0),
    ...     Settings(2, 0.5, batch=3), torch.Generator().manual_seed(0))
    >>> rollout.logp.shape
    torch.Size([3, 2])
    """
    drawn = sample_some(
        policy,
        prompts,
        settings.batch,
        settings.length,
        generator,
        temperature=settings.temperature,
        eos=settings.eos,
    )
    tokens, mask, response = drawn.tokens, drawn.mask, drawn.response
    kept = response[:, prompts[0].shape[1] :]
    logp = judge(policy, tokens, mask, kept, settings.temperature).logp
    logp_ref = judge(reference, tokens, mask, kept, settings.temperature).logp
    score = reward(tokens, mask, response)
    paid = token_rewards(score, logp, logp_ref, kept, settings.beta)
    values = critic(tokens, mask)[:, -settings.length - 1 : -1, 0]
    gaps, targets = token_advantages(paid, values, kept, settings.lam)
    return Rollout(tokens, mask, response, kept, logp, logp_ref, score, gaps, targets)


def rlhf_loss(
    judged: Judged, values: Tensor, rollout: Rollout, settings: Settings
) -> Tensor:
    """Return the loss of each response: policy, critic and entropy, summed over tokens.

    sum_t [-min(rho_t A_t, clamp(rho_t) A_t) + (V_t - y_t)^2/2 - c_H H_t].

    Parameters
    ----------
    judged : Judged
        Of the policy as it stands, with gradients.
    values : (B, N) Tensor
        V before each token, with gradients.
    rollout : Rollout
        Advantages and targets are constants.
    settings : Settings

    Returns
    -------
    (B,) Tensor
        With lam = 1 and the policy that was sampled, minus the mean gradient of its
        first term is that of E[r] - beta KL(pi, reference).

    Notes
    -----
    A sum, not a mean over tokens: dividing by each response's length would change the
    objective.

    Examples
    --------
    >>> one = torch.ones(1, 1)
    >>> batch = Rollout(*[one] * 3, one > 0, 0 * one, *[one] * 4)
    >>> rlhf_loss(Judged(0 * one, 0 * one), 0 * one, batch, Settings(1, 0.5))
    tensor([-0.5000])
    """
    step = clipped_loss(judged.logp - rollout.logp, rollout.advantages, settings.clip)
    error = value_loss(values.masked_fill(~rollout.kept, 0.0), rollout.targets)
    every = step + error / 2 - settings.entropy_weight * judged.entropy
    return every.sum(1)


class Update(NamedTuple):
    """What a rollout showed and an update did.

    `score` and `kl` are means over responses, the KL by k1 from the reference;
    `entropy` and `approx_kl`, of the step from the old policy, are means over tokens;
    `clip_fraction` is the share of tokens whose ratio left 1 +- clip.
    """

    score: float
    kl: float
    entropy: float
    approx_kl: float
    clip_fraction: float


def train_rlhf(
    policy: nn.Module,
    reference: nn.Module,
    critic: nn.Module,
    reward: Reward,
    prompts: tuple[Tensor, Tensor],
    updates: int,
    settings: Settings,
    generator: torch.Generator,
    *,
    measure: Callable[[int], None] | None = None,
) -> list[Update]:
    """Maximize E[r] - beta KL(pi, reference) by PPO, in place.

    Advantages are standardized over the tokens of each rollout, gradients cut to norm
    1, and the steps fall linearly to 0.

    Parameters
    ----------
    policy, reference, critic, reward, prompts, settings, generator
        As for :func:`roll_out`; policy and critic are trained.
    updates : int
        Rollouts, at least 1.
    measure : callable, optional
        Called with the number of updates done, before each and after the last.

    Returns
    -------
    list of Update

    Raises
    ------
    ValueError
        If `updates` is not positive, and as :func:`roll_out`.

    Examples
    --------
    >>> from rlbook_utils.nets.tables import Table
    >>> policy, start = Table(4, 2, 1), torch.tensor([[4]])
    >>> made = train_rlhf(policy, Table(4, 2, 1), Table(4, 2, 1, outputs=1),
    ...     lambda tokens, mask, response: tokens[:, 1].double(), (start, start > 0),
    ...     20, Settings(2, 0.1, lr=0.1), torch.Generator().manual_seed(0))
    >>> made[-1].score > made[0].score
    True
    """
    if updates < 1:
        raise ValueError(f"updates is {updates}: it must be at least 1")
    groups = [
        {"params": list(policy.parameters()), "lr": settings.lr},
        {"params": list(critic.parameters()), "lr": settings.lr_values},
    ]
    adam, made = torch.optim.Adam(groups), []
    fall = torch.optim.lr_scheduler.LambdaLR(adam, lambda k: max(1 - k / updates, 0.0))
    for k in range(updates):
        if measure:
            measure(k)
        full = roll_out(policy, reference, critic, reward, prompts, settings, generator)
        every = full.advantages[full.kept]
        scaled = (full.advantages - every.mean()) / (every.std() + 1e-8)
        rollout = full._replace(advantages=scaled.masked_fill(~full.kept, 0.0))
        for _ in range(settings.epochs):
            order = torch.randperm(
                settings.batch, generator=generator, device=full.tokens.device
            )
            for first in range(0, settings.batch, settings.minibatch):
                some = order[first : first + settings.minibatch]
                part = Rollout(*(x[some] for x in rollout))
                judged = judge(
                    policy, part.tokens, part.mask, part.kept, settings.temperature
                )
                values = critic(part.tokens, part.mask)
                values = values[:, -settings.length - 1 : -1, 0]
                loss = rlhf_loss(judged, values, part, settings).mean()
                adam.zero_grad()
                torch.autograd.backward(loss)
                for group in groups:
                    nn.utils.clip_grad_norm_(cast(list[Tensor], group["params"]), 1.0)
                adam.step()
        fall.step()
        made.append(_summary(policy, full, settings))
    if measure:
        measure(updates)
    return made


@torch.no_grad()
def _summary(policy: nn.Module, rollout: Rollout, settings: Settings) -> Update:
    now = judge(
        policy, rollout.tokens, rollout.mask, rollout.kept, settings.temperature
    )
    moved = (now.logp - rollout.logp)[rollout.kept]
    away = (moved.exp() - 1).abs() > settings.clip
    numbers = (
        rollout.score.mean(),
        (rollout.logp - rollout.logp_ref).sum(1).mean(),
        now.entropy[rollout.kept].mean(),
        (moved.expm1() - moved).mean(),
        away.double().mean(),
    )
    return Update(*(x.item() for x in numbers))


# Best of n


def best_of_n(log_probs: Tensor, reward: Tensor, n: int) -> Tensor:
    """Return the law of the best of n independent samples, by score.

    F(r(y))^n - F_(r(y))^n for each score, with F = P(r <= .) and F_ = P(r < .), shared
    among the responses of that score in proportion to pi.

    Parameters
    ----------
    log_probs, reward : (m,) Tensor
        log pi(y) and r(y) of every response, float64; -inf for one never said.
    n : int
        At least 1.

    Returns
    -------
    (m,) Tensor
        Probabilities.

    Raises
    ------
    ValueError
        If n is below 1 or the shapes differ.

    Examples
    --------
    >>> half = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    >>> best_of_n(half, torch.tensor([0.0, 1.0]), 2).tolist()
    [0.25, 0.75]
    """
    if n < 1:
        raise ValueError(f"n is {n}: it must be at least 1")
    if log_probs.shape != reward.shape or log_probs.ndim != 1:
        raise ValueError(
            f"log_probs is {tuple(log_probs.shape)}, reward {tuple(reward.shape)}: "
            "they must be (m,), one number a response"
        )
    chances = log_probs.exp()
    _, level = torch.unique(reward, return_inverse=True)
    mass = torch.zeros(int(level.max()) + 1, dtype=chances.dtype, device=chances.device)
    mass = mass.index_add(0, level, chances)
    upto = (mass.cumsum(0) / mass.sum()).clamp(max=1)
    wins = upto**n - functional.pad(upto[:-1], (1, 0)) ** n
    return chances * torch.where(mass > 0, wins / mass, 0.0)[level]


def best_of_n_bound(n: float) -> float:
    """Return log n - (n - 1)/n, which KL(best of n, pi) never exceeds.

    It is attained where no two samples ever have the same score.

    Parameters
    ----------
    n : float
        At least 1.

    Returns
    -------
    float
        In nats.

    Raises
    ------
    ValueError
        If n is below 1.

    Notes
    -----
    Source: Beirami et al. (2025).

    Examples
    --------
    >>> round(best_of_n_bound(4), 4)
    0.6363
    """
    if not n >= 1:
        raise ValueError(f"n is {n}: it must be at least 1")
    return math.log(n) - (n - 1) / n


# Mini-reviews: a proxy is chased


LONGEST = 11
"""Most tokens of a review of the grammar, its end token included."""

SHARPNESS = 2.0
"""Of the annotator of the mini-reviews."""


def review_prompts() -> tuple[Tensor, Tensor]:
    """Return tokens and mask of the prompts "the <topic> was", (8, 3).

    Examples
    --------
    >>> review_prompts()[0].shape
    torch.Size([8, 3])
    """
    heads = [f"the {topic} was" for topic in tasks.TOPICS]
    tokens, mask, _ = tasks.review_tokenizer().batch(heads)
    return tokens, mask


def gold_scores(tokens: Tensor) -> Tensor:
    """Return the gold reward of responses, the first three tokens being the prompt.

    Parameters
    ----------
    tokens : (B, L) Tensor of int

    Returns
    -------
    (B,) Tensor

    Examples
    --------
    >>> words = tasks.review_tokenizer()
    >>> gold_scores(words.batch(["the film was"], ["not good"])[0]).round(decimals=2)
    tensor([-0.7800])
    """
    words = tasks.review_tokenizer()
    texts = [words.decode(row) for row in tokens[:, 3:].tolist()]
    return torch.tensor([tasks.review_score(text) for text in texts])


def review_model(seed: int, steps: int = 300) -> GPT:
    """Train a language model of 0.1 million parameters on mini-reviews.

    Parameters
    ----------
    seed : int
    steps : int
        Batches of 64 fresh reviews.

    Returns
    -------
    GPT

    Examples
    --------
    >>> sum(p.numel() for p in review_model(0, steps=1).parameters())
    104832
    """
    dice, words = torch.Generator().manual_seed(seed), tasks.review_tokenizer()
    network = GPT(len(words), 16, dice)
    train_sft(network, lambda: words.batch(*tasks.reviews(64, dice)), steps)
    return network


def review_reward_model(network: GPT, count: int, seed: int) -> Scorer:
    """Fit a reward model to so many pairs of mini-reviews.

    Between 40 and 200 steps of 32 pairs: more would only learn few pairs by heart.

    Parameters
    ----------
    network : GPT
        Where the body begins.
    count : int
        Pairs, at least 1.
    seed : int

    Returns
    -------
    Scorer

    Examples
    --------
    >>> review_reward_model(review_model(0, 1), 1, 0).head.weight.shape
    torch.Size([1, 64])
    """
    dice = torch.Generator().manual_seed(seed)
    records = review_preferences(count, dice, sharpness=SHARPNESS)
    model, steps = Scorer(network), max(40, min(200, count // 5))
    pairs = encode_pairs(tasks.review_tokenizer(), records)
    train_reward_model(model, pairs, steps, dice, batch=32, lr=2e-3)
    return model


def accuracy(model: Scorer, pairs: Pairs) -> float:
    """Return the share of pairs in which the model agrees with the annotator.

    Parameters
    ----------
    model : Scorer
    pairs : Pairs

    Returns
    -------
    float
        Equal scores count half.

    Examples
    --------
    >>> words, dice = tasks.review_tokenizer(), torch.Generator().manual_seed(0)
    >>> pairs = encode_pairs(words, review_preferences(3, dice))
    >>> accuracy(Scorer(GPT(len(words), 16, dice)), pairs)
    0.5
    """
    with torch.no_grad():
        apart = margins(model, pairs)
    return ((apart > 0).double() + (apart == 0).double() / 2).mean().item()


@torch.no_grad()
def stepwise_kl(
    policy: nn.Module, reference: nn.Module, tokens: Tensor, mask: Tensor, kept: Tensor
) -> Tensor:
    """Return sum_t KL(pi(. given s_t), reference(. given s_t)) of each response.

    Its mean over samples of pi is KL(pi, reference), as that of k1 is, with less noise:
    the chosen token is replaced by the mean over all.

    Parameters
    ----------
    policy, reference : module
        Map tokens and mask to logits (B, L, V).
    tokens, mask : (B, P + N) Tensors
    kept : (B, N) Tensor of bool
        True on the response's tokens.

    Returns
    -------
    (B,) Tensor
        At least 0.

    Examples
    --------
    >>> from rlbook_utils.nets.tables import Table
    >>> flat, tokens = Table(4, 2, 1), torch.tensor([[4, 1, 2]])
    >>> stepwise_kl(flat, flat, tokens, tokens > 0, tokens[:, 1:] > 0).tolist()
    [0.0]
    """
    size = kept.shape[1]
    p, q = (m(tokens, mask)[:, -size - 1 : -1] for m in (policy, reference))
    p, q = p.log_softmax(-1), q.log_softmax(-1)
    steps: Tensor = (p.exp() * (p - q)).sum(-1)
    return steps.masked_fill(~kept, 0.0).sum(1)


def _fresh(network: GPT, count: int, dice: torch.Generator) -> Samples:
    heads, seen = (part.repeat(count // 8, 1) for part in review_prompts())
    return sample(network, heads, seen, LONGEST, dice, eos=tasks.Tokenizer.end)


def _scaled(model: Scorer, start: Samples) -> tuple[Reward, Tensor]:
    with torch.no_grad():
        raw = model.score(start.tokens, start.mask)
    center, scale = raw.mean(), raw.std()

    @torch.no_grad()
    def reward(tokens: Tensor, mask: Tensor, _: Tensor) -> Tensor:
        return (model.score(tokens, mask) - center) / scale

    return reward, scale


class Chase(NamedTuple):
    """The pursuit of a proxy, at each mark: KL from the start, proxy and gold, means.

    `policy` is the one at the end.
    """

    kl: list[float]
    proxy: list[float]
    gold: list[float]
    policy: GPT


def chase(
    network: GPT,
    model: Scorer,
    updates: int,
    seed: int,
    *,
    beta: float = 0.0,
    every: int = 5,
    samples: int = 256,
) -> Chase:
    """Maximize a reward model's score of mini-reviews by PPO; watch the gold reward.

    The proxy is the score, shifted and scaled to mean 0 and standard deviation 1 on
    512 samples of the network before.

    Parameters
    ----------
    network : GPT
        Reference, and start of the policy.
    model : Scorer
        Reward model, and start of the critic.
    updates : int
        Rollouts of 128 responses.
    seed : int
    beta : float
        At least 0, in units of the scaled score.
    every, samples : int
        Updates between marks, and fresh responses at each.

    Returns
    -------
    Chase

    Examples
    --------
    >>> network = review_model(0, 1)
    >>> model = review_reward_model(network, 1, 0)
    >>> len(chase(network, model, 1, 0, every=1, samples=8).gold)
    2
    """
    dice, prompts = torch.Generator().manual_seed(seed), review_prompts()
    reward, scale = _scaled(model, _fresh(network, 512, dice))
    policy, critic = copy.deepcopy(network), Scorer(model)
    critic.head.weight.data /= scale
    found = Chase([], [], [], policy)

    def measure(k: int) -> None:
        if k % every == 0:
            drawn = _fresh(policy, samples, dice)
            some = drawn.tokens, drawn.mask, drawn.response[:, 3:]
            found.kl.append(stepwise_kl(policy, network, *some).mean().item())
            found.proxy.append(reward(*some).mean().item())
            found.gold.append(gold_scores(drawn.tokens).mean().item())

    settings = Settings(
        LONGEST, beta, batch=128, minibatch=64, lr=1e-3, eos=tasks.Tokenizer.end
    )
    models = policy, network, critic, reward
    train_rlhf(*models, prompts, updates, settings, dice, measure=measure)
    return found


SIZES = (50, 150, 500, 1500, 3000)
"""Pairs of the reward models that the study compares."""

CHASED = (150, 3000)
"""Pairs of those that it chases."""


def review_run(seed: int, updates: int = 60, test: int = 2000) -> list[float]:
    """Do all of the study on the mini-reviews for one seed.

    Parameters
    ----------
    seed : int
    updates, test : int
        Rollouts of each chase, and pairs for the accuracy.

    Returns
    -------
    list of float
        Accuracy for each of `SIZES`; then for each of `CHASED` the square roots of KL
        at the marks, the proxy, and the gold reward.

    Examples
    --------
    >>> len(review_run(0, updates=1, test=8))
    11
    """
    network = review_model(seed)
    dice = torch.Generator().manual_seed(10_000 + seed)
    records = review_preferences(test, dice, sharpness=SHARPNESS)
    pairs = encode_pairs(tasks.review_tokenizer(), records)
    models = {n: review_reward_model(network, n, 1000 * seed + n) for n in SIZES}
    row = [accuracy(models[n], pairs) for n in SIZES]
    for n in CHASED:
        found = chase(network, models[n], updates, seed)
        row += [x**0.5 for x in found.kl] + found.proxy + found.gold
    return row
