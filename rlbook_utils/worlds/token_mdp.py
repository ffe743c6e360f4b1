"""A language so small that every response can be listed.

A response is a string of tokens 0 ... V-1. Without an end token every response has
exactly `length` tokens: V^length of them, 4,096 for the book's V = 8 and length 4. With
`eos` a response ends right after its first `eos`, which counts as a token of it, or at
`length`; the rest is filled with `eos` and masked.

The state of the token MDP is prompt and prefix, the action is the next token. A policy
is a table of conditional logits (prompts, prefixes, V), the prefixes in order of length
and then of their tokens; :meth:`TokenMDP.table` makes one of any causal network. All
log-probabilities, sums, KLs and gradients over responses are exact, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from rlbook_utils.core import tilt
from rlbook_utils.core.kl import exact_kl, policy_loss

LIMIT = 200_000
"""Most responses, over all prompts, that a language may have."""


class TokenMDP:
    """All responses of a language, and the probabilities that policies give them.

    Parameters
    ----------
    vocabulary : int
        V, at least 2.
    length : int
        Most tokens of a response, at least 1.
    prompts : int
        Number of prompts, at least 1.
    eos : int, optional
        Token that ends a response; None: every response has `length` tokens.
    device : torch.device or str, optional

    Attributes
    ----------
    responses : (n, T) Tensor of int
        Each response once.
    mask : (n, T) Tensor of bool
        True on its tokens, `eos` included.
    contexts : (n, T) Tensor of int
        Number of the prefix before each token.
    shape : (int, int, int)
        Of a policy's logits: prompts, prefixes, V.

    Raises
    ------
    ValueError
        If a size is too small, `eos` is no token, or there are more than `LIMIT`
        responses.

    Examples
    --------
    >>> language = TokenMDP()
    >>> len(language.responses), language.shape
    (4096, (1, 585, 8))
    >>> TokenMDP(2, 3, eos=0).responses.tolist()
    [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """

    def __init__(
        self,
        vocabulary: int = 8,
        length: int = 4,
        prompts: int = 1,
        *,
        eos: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if vocabulary < 2 or length < 1 or prompts < 1:
            raise ValueError(
                f"vocabulary {vocabulary}, length {length}, prompts {prompts}: they "
                "must be at least 2, 1 and 1"
            )
        if eos is not None and not 0 <= eos < vocabulary:
            raise ValueError(f"eos is {eos}: tokens are 0 to {vocabulary - 1}")
        count = prompts * vocabulary**length
        if count > LIMIT:
            raise ValueError(
                f"{prompts} x {vocabulary}^{length} = {count:,} responses are too many "
                f"to list: at most {LIMIT:,}"
            )
        self.vocabulary, self.length, self.prompts = vocabulary, length, prompts
        self.eos, self.device = eos, torch.device(device or "cpu")
        first = [(vocabulary**t - 1) // (vocabulary - 1) for t in range(length + 1)]
        self.shape = (prompts, first[-1], vocabulary)
        self._first = torch.tensor(first[:-1], device=self.device)
        powers = vocabulary ** torch.arange(length - 1, -1, -1, device=self.device)
        number = torch.arange(vocabulary**length, device=self.device)
        tokens = number[:, None] // powers % vocabulary
        mask = torch.ones_like(tokens, dtype=torch.bool)
        if eos is not None:
            mask[:, 1:] = (tokens != eos).cumprod(1)[:, :-1].bool()
            keep = ((tokens == eos) | mask).all(1)
            number, tokens, mask = number[keep], tokens[keep], mask[keep]
        self._number, self._powers = number, powers
        self.responses, self.mask = tokens, mask
        self.contexts = self._first + number[:, None] // (powers * vocabulary)

    def __repr__(self) -> str:
        """Say how large the language is."""
        return (
            f"TokenMDP(vocabulary={self.vocabulary}, length={self.length}, "
            f"prompts={self.prompts}, eos={self.eos}, responses={len(self.responses)})"
        )

    def token_log_probs(self, logits: Tensor) -> Tensor:
        """Return log pi(y_t given x, y_<t) of every token, (prompts, n, T), 0 outside.

        Raises ValueError if `logits` has another shape than the language's.
        """
        if tuple(logits.shape) != self.shape:
            raise ValueError(
                f"logits has shape {tuple(logits.shape)}: it must be {self.shape}"
            )
        flat = logits.log_softmax(-1).flatten(1)
        chosen = flat[:, self.contexts * self.vocabulary + self.responses]
        return chosen.masked_fill(~self.mask, 0.0)

    def log_probs(self, logits: Tensor) -> Tensor:
        """Return log pi(y given x) of every response, (prompts, n)."""
        return self.token_log_probs(logits).sum(-1)

    def conditionals(self, log_probs: Tensor) -> Tensor:
        """Return the table of log pi(token given prefix) of a law over responses.

        `log_probs` is (prompts, n), normalized or not. Rows of prefixes that cannot
        occur are 0, uniform.
        """
        places = (self.contexts * self.vocabulary + self.responses)[self.mask]
        rows = self.mask.nonzero()[:, 0]
        size = self.shape[1] * self.vocabulary
        source, index = log_probs[:, rows], places.expand(self.prompts, -1)
        most = source.new_full((self.prompts, size), -torch.inf)
        most = most.scatter_reduce(1, index, source, "amax")
        top = most.nan_to_num(neginf=0.0)
        terms = (source - top.gather(1, index)).exp()
        total = torch.zeros_like(most).scatter_add(1, index, terms)
        table = (total.log() + top).view(self.shape)
        absent = (table == -torch.inf).all(-1, True)
        return table.masked_fill(absent, 0.0).log_softmax(-1) * ~absent

    @cached_property
    def inputs(self) -> Tensor:
        """Return what a causal network must read to be known, (prompts rows, T) of int.

        First the prompt as token V + x, then every string of T - 1 tokens.
        """
        stems = torch.arange(self.vocabulary ** (self.length - 1), device=self.device)
        tokens = stems[:, None] // self._powers[1:] % self.vocabulary
        heads = self.vocabulary + torch.arange(self.prompts, device=self.device)
        first = heads[:, None, None].expand(-1, len(stems), 1)
        return torch.cat([first, tokens.expand(self.prompts, -1, -1)], 2).flatten(0, 1)

    def table(self, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the conditional logits of a causal network, with their gradient.

        `network` takes tokens (B, T), the first of them V + prompt, and returns logits
        (B, T, at least V); those beyond V are dropped. Its logits become float64.
        """
        logits = network(self.inputs)[..., : self.vocabulary].double()
        logits = logits.view(self.prompts, -1, self.length, self.vocabulary)
        stems = logits.shape[1]
        steps = [stems // self.vocabulary**t for t in range(self.length)]
        levels = [logits[:, ::step, t] for t, step in enumerate(steps)]
        return torch.cat(levels, 1)

    def sample(
        self, logits: Tensor, count: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw responses by number, (prompts, count), independently."""
        chances = self.log_probs(logits.detach()).exp()
        return chances.multinomial(count, True, generator=generator)

    def number(self, responses: Tensor) -> Tensor:
        """Return the place of responses (..., T) in `responses`.

        Raises ValueError if a token is unknown or there is no such response, as where
        the filling after `eos` is not `eos`.
        """
        code = (responses * self._powers).sum(-1)
        place = torch.searchsorted(self._number, code).clamp(max=len(self._number) - 1)
        wrong = (self.responses[place] != responses).any(-1)
        if wrong.any():
            raise ValueError(f"{responses[wrong][0].tolist()} is no response of {self}")
        return place


class Optimum(NamedTuple):
    """pi*: `log_probs` (prompts, n), its table `logits`, `value` beta log Z (prompts,).

    The value is the most that J can be, J*.
    """

    log_probs: Tensor
    logits: Tensor
    value: Tensor


class Objective:
    """J(pi) = E[r(x, y)] - beta KL(pi, reference), exactly, for each prompt.

    J* - J(pi) = beta KL(pi, pi*) with pi* proportional to reference exp(r/beta): one
    number, :meth:`distance`, judges every method.

    Parameters
    ----------
    language : TokenMDP
    reference : Tensor
        Conditional logits of the reference policy, of `language.shape`, float64.
    reward : (prompts, n) Tensor
        r(x, y), finite.
    beta : float
        Positive.

    Raises
    ------
    ValueError
        If `beta` is not positive and finite, or a shape or dtype is wrong.

    Examples
    --------
    >>> language = TokenMDP(2, 1)
    >>> flat = torch.zeros(language.shape, dtype=torch.float64)
    >>> goal = Objective(language, flat, torch.tensor([[0.0, 1.0]]).double(), 0.5)
    >>> [round(x, 4) for x in goal.optimum.log_probs.exp()[0].tolist()]
    [0.1192, 0.8808]
    >>> gap = goal.optimum.value - goal.value(flat)
    >>> bool(torch.isclose(gap, 0.5 * goal.distance(flat)))
    True
    """

    def __init__(
        self, language: TokenMDP, reference: Tensor, reward: Tensor, beta: float
    ) -> None:
        if not 0 < beta < float("inf"):
            raise ValueError(f"beta is {beta}: it must be positive and finite")
        if reward.shape != (language.prompts, len(language.responses)):
            raise ValueError(
                f"reward has shape {tuple(reward.shape)}: it must be "
                f"{(language.prompts, len(language.responses))}"
            )
        if reward.dtype != torch.float64 or reference.dtype != torch.float64:
            raise ValueError(
                f"reward is {reward.dtype}, reference {reference.dtype}: exact work "
                "is done in float64"
            )
        self.language, self.reference = language, reference
        self.reward, self.beta = reward, beta
        self.reference_log_probs = language.log_probs(reference)

    @cached_property
    def optimum(self) -> Optimum:
        """Return pi* and J*, the exponential tilt of the reference."""
        weights = self.reference_log_probs.exp().cpu().numpy()
        best = tilt.tilt(self.reward.cpu().numpy(), self.beta, weights)
        logs, value = (
            torch.as_tensor(x, device=self.reward.device)
            for x in (best.log_probabilities, best.value)
        )
        return Optimum(logs, self.language.conditionals(logs), value)

    def value(self, logits: Tensor) -> Tensor:
        """Return J(pi) for each prompt, with its gradient."""
        logp = self.language.log_probs(logits)
        paid = (logp.exp() * self.reward).sum(-1)
        return paid - self.beta * exact_kl(logp, self.reference_log_probs)

    def loss(
        self,
        *,
        where: str = "reward",
        estimator: str = "k1",
        level: str = "sequence",
        ratio: bool = False,
    ) -> Callable[[Tensor], Tensor]:
        """Return :func:`~core.kl.policy_loss` of every response, as `settle` takes it.

        The function maps log-probabilities (prompts, n, T) to losses (prompts, n).
        """
        reference = self.language.token_log_probs(self.reference)

        def losses(logp: Tensor) -> Tensor:
            each = policy_loss(
                logp.flatten(0, 1),
                reference.flatten(0, 1),
                self.reward.flatten(),
                self.language.mask.repeat(self.language.prompts, 1),
                self.beta,
                where=where,
                estimator=estimator,
                level=level,
                ratio=ratio,
            )
            return each.view_as(self.reward)

        return losses

    def distance(self, logits: Tensor) -> Tensor:
        """Return KL(pi, pi*) = (J* - J(pi))/beta for each prompt, with its gradient."""
        return exact_kl(self.language.log_probs(logits), self.optimum.log_probs)


def random_objective(
    generator: torch.Generator,
    *,
    vocabulary: int = 8,
    length: int = 4,
    prompts: int = 1,
    beta: float = 0.5,
    eos: int | None = None,
) -> Objective:
    """Make a language with a random reference and a reward of words and pairs.

    The reference's logits are standard normal. The reward is the sum of a score of each
    token and of each pair of neighbors, standard normal for each prompt, then scaled to
    mean 0 and standard deviation 1 under the reference.

    Parameters
    ----------
    generator : torch.Generator
        On the CPU.
    vocabulary, length, prompts, eos
        As for :class:`TokenMDP`.
    beta : float
        Positive.

    Returns
    -------
    Objective

    Raises
    ------
    ValueError
        As :class:`TokenMDP` and :class:`Objective`.

    Examples
    --------
    >>> goal = random_objective(torch.Generator().manual_seed(0))
    >>> round(goal.distance(goal.optimum.logits).item(), 9)
    0.0
    """

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    language = TokenMDP(vocabulary, length, prompts, eos=eos)
    y, kept = language.responses, language.mask
    reference = normal(*language.shape)
    words, pairs = normal(prompts, vocabulary), normal(prompts, vocabulary, vocabulary)
    reward = (words[:, y] * kept).sum(-1)
    reward = reward + (pairs[:, y[:, :-1], y[:, 1:]] * kept[:, 1:]).sum(-1)
    chances = language.log_probs(reference).exp()
    reward = reward - (chances * reward).sum(-1, True)
    reward = reward / (chances * reward.square()).sum(-1, True).sqrt()
    return Objective(language, reference, reward, beta)


def settle(
    language: TokenMDP,
    logits: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    steps: int = 2000,
    lr: float = 0.05,
) -> Tensor:
    """Follow the exact expected on-policy gradient of a loss to where it rests.

    Each step takes sum_y pi(y) grad loss(y), the weights without gradient: what the
    mean over infinitely many samples of pi would give. Adam, its step falling to 0.

    Parameters
    ----------
    language : TokenMDP
    logits : Tensor
        Where to begin, of `language.shape`, float64.
    loss : callable
        Takes the log-probabilities of all tokens (prompts, n, T) and returns the loss
        of each response, (prompts, n).
    steps : int
    lr : float

    Returns
    -------
    Tensor
        The last logits.

    Examples
    --------
    >>> language = TokenMDP(2, 1)
    >>> start = torch.zeros(language.shape, dtype=torch.float64)
    >>> toward_1 = torch.tensor([[0.0, 1.0]])
    >>> end = settle(language, start, lambda logp: -toward_1 * logp.sum(-1), steps=200)
    >>> bool(end.softmax(-1)[0, 0, 1] > 0.99)
    True
    """
    table = logits.detach().clone().requires_grad_()
    adam = torch.optim.Adam([table], lr=lr, betas=(0.9, 0.99))
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        table.grad = expected_gradient(language, table, loss)
        adam.step()
        fall.step()
    return table.detach()


def expected_gradient(
    language: TokenMDP, logits: Tensor, loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return sum over prompts and responses of pi(y) grad loss(y), pi held fixed.

    Parameters
    ----------
    language : TokenMDP
    logits : Tensor
        Of `language.shape`.
    loss : callable
        As for :func:`settle`.

    Returns
    -------
    Tensor
        Of the shape of `logits`.

    Examples
    --------
    >>> language = TokenMDP(2, 1)
    >>> even = torch.zeros(language.shape, dtype=torch.float64)
    >>> expected_gradient(language, even, lambda logp: logp.sum(-1)).tolist()
    [[[0.0, 0.0]]]
    """
    table = logits.detach().requires_grad_()
    logp = language.token_log_probs(table)
    mean = (logp.sum(-1).exp().detach() * loss(logp)).sum()
    return torch.autograd.grad(mean, table)[0]
