"""Actor-critic networks: multilayer perceptrons, one, or one for each of N seeds.

With ``seeds=N`` all weights have a leading axis and a layer is one `torch.baddbmm`:
N nets on (N, B, inputs). On a CPU that is several times faster than N nets in turn
where batches are small. The gradient of a sum of losses over the seeds is each net's
own gradient, so one optimizer without clipping trains all of them; clip with
:func:`clip_gradients`, which takes the norm of each net by itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Judged(NamedTuple):
    """Log-probability and entropy of the actor, value of the critic; each (..., B)."""

    logp: Tensor
    entropy: Tensor
    values: Tensor


def orthogonal(shape: Sequence[int], gain: float, generator: torch.Generator) -> Tensor:
    """Return matrices (..., inputs, outputs) with orthonormal rows or columns x gain.

    Each is the Q of the QR decomposition of a Gaussian matrix, with the signs of R's
    diagonal, so it is uniform over orthogonal matrices.

    Parameters
    ----------
    shape : sequence of int
        The last two axes are the matrix.
    gain : float
        Factor.
    generator : torch.Generator
        Numbers are drawn on its device.

    Returns
    -------
    tensor of `shape`
        float32.

    Notes
    -----
    Source: Saxe, McClelland and Ganguli (2014).

    Examples
    --------
    >>> w = orthogonal((2, 3, 5), 2.0, torch.Generator().manual_seed(0))
    >>> bool(torch.allclose(w @ w.mT, 4 * torch.eye(3), atol=1e-5))
    True
    """
    *lead, rows, columns = shape
    tall = (*lead, max(rows, columns), min(rows, columns))
    drawn = torch.randn(tall, generator=generator, device=generator.device)
    q, r = torch.linalg.qr(drawn)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
    turned: Tensor = q.mT if rows < columns else q
    return gain * turned.contiguous()


class MLP(nn.Module):
    """Layers of tanh or ReLU units, the last one linear, orthogonal at first.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden units of each layer, outputs; at least two numbers.
    generator : torch.Generator
        Source of the weights; the net lies on its device. Biases are 0.
    gain : float
        Gain of the last layer; that of the others is sqrt(2).
    seeds : int, optional
        N; None for a single net without the leading axis.
    relu : bool
        ReLU instead of tanh.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or a size or `seeds` is below 1.

    Examples
    --------
    >>> net = MLP((4, 64, 64, 1), torch.Generator().manual_seed(0), seeds=3)
    >>> net(torch.zeros(3, 8, 4)).shape
    torch.Size([3, 8, 1])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        generator: torch.Generator,
        *,
        gain: float = 1.0,
        seeds: int | None = None,
        relu: bool = False,
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(
                f"sizes is {(*sizes,)}: at least two numbers, none below 1"
            )
        if seeds is not None and seeds < 1:
            raise ValueError(f"seeds is {seeds}: it must be at least 1, or None")
        lead = () if seeds is None else (seeds,)
        pairs = list(itertools.pairwise(sizes))
        gains = [math.sqrt(2)] * (len(pairs) - 1) + [gain]
        self.weights = nn.ParameterList(
            orthogonal((*lead, *pair), g, generator)
            for pair, g in zip(pairs, gains, strict=True)
        )
        middle = () if seeds is None else (1,)
        self.biases = nn.ParameterList(
            torch.zeros(*lead, *middle, out, device=generator.device)
            for _, out in pairs
        )
        self.seeds, self.inputs = seeds, sizes[0]
        self._bend = torch.relu if relu else torch.tanh

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs) of x (B, inputs), or (N, B, outputs) of (N, B, inputs).

        A single net takes any leading shape.
        """
        if self.seeds is None and x.ndim != 2:
            flat: Tensor = self(x.reshape(-1, x.shape[-1]))
            return flat.reshape(*x.shape[:-1], -1)
        wrong = self.seeds is not None and (x.ndim != 3 or len(x) != self.seeds)
        if wrong or x.shape[-1] != self.inputs:
            lead = "..." if self.seeds is None else f"{self.seeds}, B"
            raise ValueError(
                f"x has shape {tuple(x.shape)}: the net needs ({lead}, {self.inputs})"
            )
        layer = torch.addmm if self.seeds is None else torch.baddbmm
        last = len(self.weights) - 1
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = layer(bias, x, weight)
            x = self._bend(x) if k < last else x
        return x


class ActorCritic(nn.Module):
    """A policy and a value function, two separate nets of the same shape.

    With `actions` > 0 the policy is categorical over them. Else it is Gaussian, of
    `dimensions` components with a standard deviation that does not depend on the
    state. The last layer of the actor starts at gain 0.01, so that all actions are
    about equally likely; that of the critic at 1.

    Parameters
    ----------
    observations, actions, dimensions : int
        As in :class:`~rlbook_utils.worlds.control.World`.
    generator : torch.Generator
        Source of the weights; the nets lie on its device.
    hidden : sequence of int
        Units of the hidden layers.
    seeds : int, optional
        N; None for one net without the leading axis.

    Raises
    ------
    ValueError
        If `actions` and `dimensions` are both positive or both 0.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> net = ActorCritic(4, 2, 0, generator)
    >>> seen = torch.zeros(5, 4)
    >>> action = net.act(seen, generator)
    >>> net.judge(seen, action).logp.exp().round(decimals=3).tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5]
    """

    def __init__(
        self,
        observations: int,
        actions: int,
        dimensions: int,
        generator: torch.Generator,
        *,
        hidden: Sequence[int] = (64, 64),
        seeds: int | None = None,
    ) -> None:
        super().__init__()
        if (actions > 0) == (dimensions > 0):
            raise ValueError(
                f"actions is {actions} and dimensions is {dimensions}: one must be 0"
            )
        self.discrete, outputs = actions > 0, actions or dimensions
        shape = (observations, *hidden)
        self.actor = MLP((*shape, outputs), generator, gain=0.01, seeds=seeds)
        self.critic = MLP((*shape, 1), generator, seeds=seeds)
        spread = (outputs,) if seeds is None else (seeds, 1, outputs)
        zeros = torch.zeros(spread, device=generator.device)
        self.log_std = None if self.discrete else nn.Parameter(zeros)

    def values(self, seen: Tensor) -> Tensor:
        """Return the critic's V (..., B) of observations (..., B, O)."""
        out: Tensor = self.critic(seen)
        return out[..., 0]

    @torch.no_grad()
    def act(self, seen: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a sampled action, or without a generator the most likely one.

        Of shape (..., B), or (..., B, dimensions) if the policy is Gaussian.
        """
        out: Tensor = self.actor(seen)
        if generator is None:
            return out.argmax(-1) if self.discrete else out
        if self.log_std is not None:
            noise = torch.empty_like(out).normal_(generator=generator)
            return out + self.log_std.exp() * noise
        # The maximum of logits plus independent Gumbel noise is a sample of softmax.
        waits = torch.empty_like(out).exponential_(generator=generator)
        return (out - waits.log()).argmax(-1)

    def judge(self, seen: Tensor, action: Tensor) -> Judged:
        """Return log pi(a | s), the entropy of pi(. | s) and V(s), each (..., B)."""
        out: Tensor = self.actor(seen)
        wanted = out.shape[:-1] if self.discrete else out.shape
        if action.shape != wanted:
            raise ValueError(
                f"action has shape {tuple(action.shape)}: it must be {tuple(wanted)}"
            )
        if self.log_std is None:
            logs = out.log_softmax(-1)
            entropy = -(logs.exp() * logs).sum(-1)
            logp = logs.gather(-1, action[..., None])[..., 0]
        else:
            z = (action - out) * (-self.log_std).exp()
            each = self.log_std + HALF_LOG_TWO_PI
            logp = -(0.5 * z * z + each).sum(-1)
            entropy = (each + 0.5).sum(-1).expand(logp.shape)
        return Judged(logp, entropy, self.values(seen))


@torch.no_grad()
def clip_gradients(
    parameters: Iterable[Tensor], most: float, seeds: int | None = None
) -> Tensor:
    """Scale gradients in place so that the norm of each net's is at most `most`.

    Parameters
    ----------
    parameters : iterable of tensors
        Those without a gradient are passed over. With `seeds`, all have a leading axis
        of N.
    most : float
        The largest norm allowed, > 0.
    seeds : int, optional
        N; None takes all as one net.

    Returns
    -------
    (N,) tensor, or (1,) without seeds
        The norms before.

    Raises
    ------
    ValueError
        If `most` is not positive.

    Examples
    --------
    >>> w = torch.zeros(2, 2, requires_grad=True)
    >>> w.grad = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    >>> clip_gradients([w], 1.0, seeds=2).tolist()
    [5.0, 0.5]
    >>> w.grad.norm(dim=1).tolist()
    [1.0, 0.5]
    """
    if not most > 0:
        raise ValueError(f"most is {most}: it must be positive")
    grads = [p.grad for p in parameters if p.grad is not None]
    rows = [grad.reshape(seeds or 1, -1) for grad in grads]
    norms = torch.stack([row.square().sum(1) for row in rows]).sum(0).sqrt()
    scale = most / norms.clamp(min=most)
    for grad in grads:
        lead = scale.reshape(-1, *[1] * (grad.ndim - 1)) if seeds else scale[0]
        grad.mul_(lead)
    return norms
