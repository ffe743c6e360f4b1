"""Sampling responses in batches, with the log-probabilities of what was sampled.

One uniform number is drawn for each row and step, row by row, so that on a CPU 1 x 8
prompts and 8 x 1 give the same responses, whatever the padding and with or without the
cache.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlbook_utils.nets.transformer import GPT, Cache


class Samples(NamedTuple):
    """Prompts with their responses.

    `tokens` and `mask` (B, P + N), prompt first; `response` (B, P + N) True on the
    response, its end token included; `logp` (B, N), log-probabilities under the
    distribution that was *sampled*, temperature included, 0 after the end.
    """

    tokens: Tensor
    mask: Tensor
    response: Tensor
    logp: Tensor


@torch.no_grad()
def sample(
    network: GPT,
    prompts: Tensor,
    mask: Tensor | None,
    count: int,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
    eos: int | None = None,
    cached: bool = True,
) -> Samples:
    """Draw a response of at most `count` tokens to each prompt.

    Parameters
    ----------
    network : GPT
    prompts : (B, P) Tensor of int
    mask : (B, P) Tensor of bool, optional
        True on real tokens; padding may stand at either side.
    count : int
        N, at least 1.
    generator : torch.Generator
        On the network's device.
    temperature : float
        Logits are divided by it; 0 takes the likeliest token.
    eos : int, optional
        Token that ends a response.
    cached : bool
        Keep keys and values; False reads everything anew at each step, to compare.

    Returns
    -------
    Samples

    Raises
    ------
    ValueError
        If the mask has another shape than the prompts or is not bool, a prompt is
        empty, `count` tokens do not fit the context behind the longest prompt, or the
        temperature is negative.

    Examples
    --------
    >>> net = GPT(5, 8, torch.Generator().manual_seed(0))
    >>> start = torch.zeros(2, 1, dtype=torch.long)
    >>> sample(net, start, None, 3, torch.Generator().manual_seed(0)).tokens.shape
    torch.Size([2, 4])
    """
    if mask is None:
        mask = torch.ones_like(prompts, dtype=torch.bool)
    _check(network, prompts, mask, count, temperature)
    (rows, size), stop = prompts.shape, -1 if eos is None else eos
    tokens, seen = (
        functional.pad(prompts, (0, count), value=max(stop, 0)),
        functional.pad(mask, (0, count)),
    )
    logp = torch.zeros(rows, count, device=tokens.device)
    luck = torch.rand(rows, count, generator=generator, device=tokens.device)
    cache = Cache(rows, size + count, network) if cached else None
    alive = torch.ones(rows, dtype=torch.bool, device=tokens.device)
    last = size - 1 - mask.flip(1).long().argmax(1)
    for t in range(count):
        begin, end = (size + t - 1 if cached and t else 0), size + t
        logits = network(tokens[:, begin:end], seen[:, begin:end], cache)
        now = logits[:, -1] if t else logits[torch.arange(rows), last]
        chosen, chance = _draw(now, luck[:, t, None], temperature)
        tokens[:, end] = torch.where(alive, chosen, tokens[:, end])
        logp[:, t], seen[:, end] = torch.where(alive, chance, 0.0), alive
        alive = alive & (chosen != stop)
        if not alive.any():
            break
    response = seen.clone()
    response[:, :size] = False
    return Samples(tokens, seen, response, logp)


def _check(
    network: GPT, prompts: Tensor, mask: Tensor, count: int, temperature: float
) -> None:
    if mask.shape != prompts.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"mask is {mask.dtype} {tuple(mask.shape)}: it must be bool "
            f"{tuple(prompts.shape)}"
        )
    if not mask.any(1).all():
        raise ValueError(f"prompt {int((~mask.any(1)).nonzero()[0])} is empty")
    longest = int(mask.sum(1).max())
    if count < 1 or longest + count > network.context:
        raise ValueError(
            f"a prompt of {longest} tokens and {count} new ones: at least 1, and the "
            f"context holds {network.context}"
        )
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}: it must be 0 or more")


def _draw(logits: Tensor, luck: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return tokens (B,) by inversion of numbers in [0, 1) (B, 1), and log-probs."""
    if not temperature:
        return logits.argmax(-1), torch.zeros(len(logits), device=logits.device)
    logs = (logits / temperature).log_softmax(-1)
    mass = logs.exp().cumsum(-1)
    chosen = torch.searchsorted(mass, luck * mass[:, -1:], right=True)
    chosen = chosen.clamp(max=logits.shape[-1] - 1)
    return chosen[:, 0], logs.gather(1, chosen)[:, 0]


def sample_some(
    policy: nn.Module,
    prompts: tuple[Tensor, Tensor],
    number: int,
    count: int,
    generator: torch.Generator,
    *,
    repeat: int = 1,
    temperature: float = 1.0,
    eos: int | None = None,
) -> Samples:
    """Draw prompts with replacement, and responses to each of them.

    Parameters
    ----------
    policy : Module
        A GPT, or a table of its kind.
    prompts : pair of (R, P) Tensor
        Tokens and mask of the prompts to choose from.
    number : int
        Prompts to draw.
    count, generator, temperature, eos
        As for :func:`sample`.
    repeat : int
        Responses to each prompt; they stand in a row.

    Returns
    -------
    Samples
        B = number repeat.

    Raises
    ------
    ValueError
        As :func:`sample`.

    Examples
    --------
    >>> from rlbook_utils.nets.tables import Table
    >>> heads = torch.tensor([[4], [4]])
    >>> some = sample_some(Table(4, 2, 2), (heads, heads > 0), 3, 2,
    ...     torch.Generator().manual_seed(0), repeat=5)
    >>> some.tokens.shape
    torch.Size([15, 3])
    """
    heads, mask = prompts
    some = torch.randint(
        len(heads), (number,), generator=generator, device=heads.device
    ).repeat_interleave(repeat)
    return sample(
        cast(GPT, policy),
        heads[some],
        mask[some],
        count,
        generator,
        temperature=temperature,
        eos=eos,
        cached=isinstance(policy, GPT),
    )
