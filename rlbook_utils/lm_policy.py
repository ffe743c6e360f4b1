"""A language model as a policy: scores of responses, and training on demonstrations.

Rows hold prompt and response, padded on either side: tokens and masks are (B, L).
`mask` is True on real tokens, `response` on those of the response, end token included.
Logits at position t are about the token at t + 1, so what is known about tokens
1 ... L-1 is (B, L-1), and `response[:, 1:]` says which of it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlbook_utils.nets.sampling import Samples, sample
from rlbook_utils.nets.transformer import GPT
from rlbook_utils.worlds.tasks import Tokenizer

NORMALIZERS = ("tokens", "sequences", "constant")
Batch = tuple[Tensor, Tensor, Tensor]


def token_log_probs(
    logits: Tensor, tokens: Tensor, response: Tensor, temperature: float = 1.0
) -> Tensor:
    """Return log pi(y_t given x, y_<t) of response tokens, 0 elsewhere.

    log softmax(logits[:, :-1]/temperature) at tokens[:, 1:], where response[:, 1:].

    Parameters
    ----------
    logits : (B, L, V) Tensor
    tokens : (B, L) Tensor of int
    response : (B, L) Tensor of bool
    temperature : float
        That at which the response was sampled; positive.

    Returns
    -------
    (B, L - 1) Tensor

    Raises
    ------
    ValueError
        If shapes differ, a response is empty or begins in the first column, where
        nothing predicts it, or the temperature is not positive.

    Examples
    --------
    >>> tokens = torch.tensor([[0, 1, 1]])
    >>> response = torch.tensor([[False, True, True]])
    >>> logits = torch.zeros(1, 3, 2)
    >>> token_log_probs(logits, tokens, response).exp().tolist()
    [[0.5, 0.5]]
    """
    if logits.shape[:2] != tokens.shape or response.shape != tokens.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)}, tokens {tuple(tokens.shape)}, response "
            f"{tuple(response.shape)}: they must agree"
        )
    if not response.any(1).all():
        row = int((~response.any(1)).nonzero()[0])
        raise ValueError(f"response {row} is empty: its mask has no True")
    if response[:, 0].any():
        row = int(response[:, 0].nonzero()[0])
        raise ValueError(f"response {row} begins in column 0: nothing predicts it")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}: it must be positive")
    logs = (logits[:, :-1] / temperature).log_softmax(-1)
    chosen = logs.gather(2, tokens[:, 1:, None])[..., 0]
    return chosen.masked_fill(~response[:, 1:], 0.0)


def response_log_probs(
    network: GPT,
    tokens: Tensor,
    mask: Tensor,
    response: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """Return log pi(y given x), the sum over the tokens of each response.

    Parameters
    ----------
    network : GPT
    tokens, mask, response : (B, L) Tensors
    temperature : float
        As for :func:`token_log_probs`.

    Returns
    -------
    (B,) Tensor

    Raises
    ------
    ValueError
        As :func:`token_log_probs` and the network.

    Examples
    --------
    >>> net = GPT(5, 4, torch.Generator().manual_seed(0))
    >>> tokens = torch.tensor([[2, 3, 1]])
    >>> response = torch.tensor([[False, True, True]])
    >>> response_log_probs(net, tokens, tokens > 0, response).shape
    torch.Size([1])
    """
    logits = network(tokens, mask)
    return token_log_probs(logits, tokens, response, temperature).sum(1)


def masked_mean(
    x: Tensor, mask: Tensor, *, normalizer: str, length: int | None = None
) -> Tensor:
    """Return the mean of token-wise values over a batch, by a named normalizer.

    "tokens": sum over all tokens / number of tokens. "sequences": mean over rows of the
    mean over each row's tokens. "constant": sum over all / (B times `length`).

    Parameters
    ----------
    x, mask : (B, T) Tensors
        The mask is bool, True where a token counts.
    normalizer : {"tokens", "sequences", "constant"}
    length : int, optional
        Of "constant", the same for all batches.

    Returns
    -------
    Tensor, a number

    Raises
    ------
    ValueError
        If shapes differ, a row has no token, the normalizer is unknown, or "constant"
        has no positive `length`.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 1.0], [4.0, 9.0]])
    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> [masked_mean(x, mask, normalizer=n).item() for n in ("tokens", "sequences")]
    [2.0, 2.5]
    >>> masked_mean(x, mask, normalizer="constant", length=4).item()
    0.75
    """
    if x.shape != mask.shape or mask.dtype != torch.bool or not mask.any(1).all():
        raise ValueError(
            f"x {tuple(x.shape)}, mask {mask.dtype} {tuple(mask.shape)}: they must "
            "agree, the mask be bool and no row empty"
        )
    if normalizer not in NORMALIZERS:
        raise ValueError(f"normalizer is {normalizer!r}: choose one of {NORMALIZERS}")
    if normalizer == "constant" and (length is None or length < 1):
        raise ValueError(f"length is {length}: 'constant' needs a positive one")
    sums, counts = x.masked_fill(~mask, 0.0).sum(1), mask.sum(1)
    if normalizer == "sequences":
        return (sums / counts).mean()
    if normalizer == "tokens":
        return sums.sum() / counts.sum()
    return sums.mean() / (length or 1)


def sft_loss(logits: Tensor, tokens: Tensor, response: Tensor) -> Tensor:
    """Return the mean negative log-probability of a batch's response tokens.

    With all tokens but the first as the response it is the loss of pre-training.

    Parameters
    ----------
    logits, tokens, response
        As for :func:`token_log_probs`.

    Returns
    -------
    Tensor, a number

    Raises
    ------
    ValueError
        As :func:`token_log_probs`.

    Notes
    -----
    The sum of a batch's log-losses over its number of tokens. The sum, averaged over
    texts from a law p, has the gradient of KL(p, pi).

    Examples
    --------
    >>> tokens = torch.tensor([[0, 1, 1]])
    >>> response = torch.tensor([[False, True, True]])
    >>> round(sft_loss(torch.zeros(1, 3, 2), tokens, response).item(), 4)
    0.6931
    """
    logp = token_log_probs(logits, tokens, response)
    return -masked_mean(logp, response[:, 1:], normalizer="tokens")


class Curve(NamedTuple):
    """What was measured while training: `steps`, training `loss`, and `scores`."""

    steps: list[int]
    loss: list[float]
    scores: list[float]


def train_sft(
    network: GPT,
    draw: Callable[[], Batch],
    steps: int,
    *,
    lr: float = 3e-3,
    evaluate: Callable[[GPT], float] | None = None,
    every: int = 100,
) -> Curve:
    """Train a network in place on batches of demonstrations.

    Adam on :func:`sft_loss`, gradients cut to norm 1, the step falling to 0 like a
    cosine.

    Parameters
    ----------
    network : GPT
    draw : callable
        Returns a batch: tokens, mask, response.
    steps : int
        At least 1.
    lr : float
    evaluate : callable, optional
        Score of the network, taken before the first step and after each `every`.
    every : int

    Returns
    -------
    Curve
        The loss is the mean since the last entry; the first one is that of a batch.

    Raises
    ------
    ValueError
        If `steps` or `every` is not positive, or the loss becomes NaN.

    Examples
    --------
    >>> net = GPT(3, 4, torch.Generator().manual_seed(0), width=8)
    >>> tokens = torch.tensor([[0, 1, 2]])
    >>> batch = tokens, tokens >= 0, tokens > 0
    >>> curve = train_sft(net, lambda: batch, 60, lr=0.03, every=30)
    >>> curve.steps, curve.loss[-1] < 0.1
    ([0, 30, 60], True)
    """
    if steps < 1 or every < 1:
        raise ValueError(f"steps {steps}, every {every}: both must be at least 1")
    adam = torch.optim.Adam(network.parameters(), lr=lr)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    curve, recent = Curve([], [], []), []
    for step in range(steps + 1):
        tokens, mask, response = draw()
        loss = sft_loss(network(tokens, mask), tokens, response)
        recent.append(loss.item())
        if not recent[-1] < float("inf"):
            raise ValueError(f"the loss is {recent[-1]} at step {step}: lower lr {lr}")
        if step % every == 0:
            curve.steps.append(step)
            curve.loss.append(sum(recent) / len(recent))
            curve.scores.append(evaluate(network) if evaluate else 0.0)
            recent = []
        if step < steps:
            adam.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            adam.step()
            fall.step()
    return curve


def respond(
    network: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    count: int,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
) -> tuple[list[str], Samples]:
    """Answer prompts by texts.

    Parameters
    ----------
    network : GPT
    tokenizer : Tokenizer
    prompts : sequence of str
    count : int
        Most tokens of a response, its end token included.
    generator : torch.Generator
        On the network's device.
    temperature : float
        0 takes the likeliest token.

    Returns
    -------
    texts : list of str
    samples : Samples

    Raises
    ------
    ValueError
        If a prompt has an unknown symbol or is empty, and as
        :func:`~rlbook_utils.nets.sampling.sample`.

    Examples
    --------
    >>> from rlbook_utils.worlds.tasks import addition_tokenizer
    >>> digits, dice = addition_tokenizer(), torch.Generator().manual_seed(0)
    >>> net = GPT(len(digits), 12, dice)
    >>> texts, samples = respond(net, digits, ["1+1=", "12+30="], 4, dice)
    >>> len(texts), samples.logp.shape
    (2, torch.Size([2, 4]))
    """
    device = network.embed.weight.device
    tokens, mask, _ = tokenizer.batch(prompts)
    drawn = sample(
        network,
        tokens.to(device),
        mask.to(device),
        count,
        generator,
        temperature=temperature,
        eos=tokenizer.end,
    )
    ends = drawn.tokens[:, tokens.shape[1] :]
    return [tokenizer.decode(row) for row in ends.tolist()], drawn
