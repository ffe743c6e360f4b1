"""Bandits: worlds of K arms, the policies that pull them, and the exact answers.

A bandit has no state: pulling arm a gives a reward with mean mu_a, whatever was pulled
before. With mu* = max_k mu_k, three different sums are called regret:

- regret, sum_t (mu* - r_t): what was missed, with the luck of the rewards in it;
- pseudo-regret, sum_t (mu* - mu_{a_t}): what was missed by choosing, never falling.
  Its expectation is that of the regret, its variance is smaller. It is what
  :func:`run` returns (the summand) and what the book plots;
- the sum of 1 - r_t, which is the regret plus T (1 - mu*): it grows linearly even for
  a policy that always pulls the best arm.

Simulation is torch in float32 on any device: replications last and contiguous (K, N)
in the kernels, first (N, T) in what is returned. The exact part is numpy float64.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Array = NDArray[np.float64]
Rule = Callable[[NDArray[np.int64], NDArray[np.int64]], Array]
S = TypeVar("S")

NORMALS_PER_DRAW = 16
MOST_STATES = 10**5


def _within(name: str, value: float, low: float, high: float = math.inf) -> None:
    if not low <= value <= high or math.isinf(value):
        raise ValueError(
            f"{name} is {value}: it must be in [{low:g}, {high:g}], finite"
        )


def _positive(name: str, value: float, high: float = math.inf) -> None:
    if not 0 < value <= high or math.isinf(value):
        raise ValueError(f"{name} is {value}: it must be in (0, {high:g}], finite")


def _count(name: str, value: int) -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} is {value!r}: it must be an integer, at least 1")


def _means(means: ArrayLike | Tensor, low: float, high: float) -> Tensor:
    values = torch.as_tensor(means, dtype=torch.float64).detach().cpu()
    if values.ndim not in (1, 2) or values.shape[-1] < 2 or len(values) == 0:
        raise ValueError(
            f"means has shape {tuple(values.shape)}: it must be (K,) or (N, K), K >= 2"
        )
    inside = values.isfinite() & (values >= low) & (values <= high)
    if not inside.all():
        worst = values[~inside][0].item()
        raise ValueError(f"means has {worst}: all must lie in [{low:g}, {high:g}]")
    return values


# Random numbers


def _child(parent: torch.Generator) -> torch.Generator:
    seed = torch.randint(2**62, (), generator=parent, device=parent.device)
    return torch.Generator(parent.device).manual_seed(int(seed))


def _rows(
    draw: Callable[..., Tensor], source: torch.Generator, count: int, block: int
) -> Iterator[Tensor]:
    width = -(-count // NORMALS_PER_DRAW) * NORMALS_PER_DRAW
    while True:
        numbers = draw(block, width, generator=source, device=source.device)
        yield from numbers[:, :count]


class Noise:
    """Random numbers for N replications, one row a call, drawn in blocks.

    Uniform and normal rows and what ``generator`` is used for come from three streams
    of their own, seeded from the parent. On a CPU the rows do not depend on the block
    size: torch's `randn` fills 16 numbers at a time, so rows are padded to 16.

    Parameters
    ----------
    parent : torch.Generator
        Source of the three seeds; numbers are drawn on its device.
    replications : int
        N, at least 1.
    block : int
        Rows drawn at once, at least 1.

    Raises
    ------
    ValueError
        If `replications` or `block` is below 1.

    Examples
    --------
    >>> noise = Noise(torch.Generator().manual_seed(0), replications=3)
    >>> noise.uniform().shape
    torch.Size([3])
    """

    def __init__(
        self, parent: torch.Generator, replications: int, block: int = 64
    ) -> None:
        _count("replications", replications)
        _count("block", block)
        self.generator = _child(parent)
        self._uniforms = _rows(torch.rand, _child(parent), replications, block)
        self._normals = _rows(torch.randn, _child(parent), replications, block)

    def uniform(self) -> Tensor:
        """Return (N,) numbers, uniform on the multiples of 2^-24 in [0, 1)."""
        return next(self._uniforms)

    def normal(self) -> Tensor:
        """Return (N,) standard normal numbers."""
        return next(self._normals)


# Worlds


class BernoulliBandit:
    """Arms that pay 1 with probability mu_k and else 0.

    Parameters
    ----------
    means : (K,) or (N, K) array
        Probabilities in [0, 1]; one row per replication, or one for all of them.

    Attributes
    ----------
    means : (K,) or (N, K) tensor
        float64, on the CPU.
    arms : int
        K.

    Raises
    ------
    ValueError
        If a mean is NaN or outside [0, 1], or the shape is another.

    Examples
    --------
    >>> BernoulliBandit([0.1, 0.9]).arms
    2
    """

    def __init__(self, means: ArrayLike | Tensor) -> None:
        self.means = _means(means, 0.0, 1.0)
        self.arms = self.means.shape[-1]

    def reward(self, chosen: Tensor, noise: Noise) -> Tensor:
        """Return rewards (N,) of arms with means `chosen` (N,)."""
        return torch.lt(noise.uniform(), chosen, out=torch.empty_like(chosen))

    def move(self, means: Tensor, noise: Noise) -> Tensor:
        """Return the means (K, N) of the next step: the same."""
        return means


class GaussianBandit:
    """Arms that pay mu_k + scale * N(0, 1), and may walk.

    After each pull every mean moves by walk * N(0, 1), independently. With
    walk = 0 the world is stationary.

    Parameters
    ----------
    means : (K,) or (N, K) array
        At the first step; one row per replication, or one for all of them.
    scale : float
        Standard deviation of the rewards, >= 0.
    walk : float
        Standard deviation of a mean's move in one step, >= 0.

    Attributes
    ----------
    means : (K,) or (N, K) tensor
        float64, on the CPU.
    arms : int
        K.

    Raises
    ------
    ValueError
        If a mean is NaN or infinite, the shape is another, or `scale` or `walk` is
        negative.

    Notes
    -----
    Source: Sutton and Barto (2018), section 2.3, and exercise 2.5 for the walk
    (0.01 from equal means).

    Examples
    --------
    >>> GaussianBandit([0.0, 0.0], walk=0.01).arms
    2
    """

    def __init__(
        self, means: ArrayLike | Tensor, scale: float = 1.0, walk: float = 0.0
    ) -> None:
        _within("scale", scale, 0)
        _within("walk", walk, 0)
        self.means = _means(means, -math.inf, math.inf)
        self.arms = self.means.shape[-1]
        self.scale, self.walk = scale, walk

    def reward(self, chosen: Tensor, noise: Noise) -> Tensor:
        """Return rewards (N,) of arms with means `chosen` (N,)."""
        return torch.add(chosen, noise.normal(), alpha=self.scale)

    def move(self, means: Tensor, noise: Noise) -> Tensor:
        """Return the means (K, N) of the next step."""
        if self.walk == 0:
            return means
        source = noise.generator
        steps = torch.randn(means.shape, generator=source, device=means.device)
        return torch.add(means, steps, alpha=self.walk)


Bandit = BernoulliBandit | GaussianBandit


def ten_armed_testbed(
    replications: int, generator: torch.Generator, arms: int = 10
) -> GaussianBandit:
    """Return one Gaussian problem per replication, with means drawn from N(0, 1).

    Parameters
    ----------
    replications : int
        N.
    generator : torch.Generator
        Source of the means.
    arms : int
        K.

    Returns
    -------
    GaussianBandit
        Means of shape (N, K), rewards of standard deviation 1.

    Raises
    ------
    ValueError
        If `replications` is below 1 or `arms` below 2.

    Notes
    -----
    Source: Sutton and Barto (2018), section 2.3.

    Examples
    --------
    >>> ten_armed_testbed(5, torch.Generator().manual_seed(0)).means.shape
    torch.Size([5, 10])
    """
    _count("replications", replications)
    _count("arms", arms)
    size = replications, arms
    means = torch.randn(size, generator=generator, device=generator.device)
    return GaussianBandit(means)


# Policies


class Policy(NamedTuple, Generic[S]):
    """A policy: three pure functions and nothing else.

    ``init(bandit, replications, device)`` returns the first state; of the bandit it
    reads the number of arms and the kind of reward, never the means.
    ``act(state, noise)`` returns actions (N,), int64. ``update(state, actions,
    rewards)`` returns the next state and leaves the old one as it was.
    """

    init: Callable[[Bandit, int, torch.device], S]
    act: Callable[[S, Noise], Tensor]
    update: Callable[[S, Tensor, Tensor], S]


class ActionValues(NamedTuple):
    """State of the value policies, (K, N) each, after `pulls` pulls."""

    counts: Tensor
    totals: Tensor
    values: Tensor
    pulls: int


class Posterior(NamedTuple):
    """State of Thompson sampling: (2, K, N), prior + successes, prior + failures."""

    pseudo_counts: Tensor


class Preferences(NamedTuple):
    """State of the gradient bandit: (K, N), softmax of it, baseline (N,)."""

    preferences: Tensor
    probabilities: Tensor
    baseline: Tensor
    pulls: int


class AdamPreferences(NamedTuple):
    """State of REINFORCE with Adam: as Preferences, and Adam's two moments (K, N)."""

    preferences: Tensor
    probabilities: Tensor
    baseline: Tensor
    first: Tensor
    second: Tensor
    pulls: int


def _pick(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Return arms (N,) drawn with probability proportional to weights (K, N).

    Inverse distribution function. Since a uniform is at most 1 - 2^-24, its product
    with the total rounds below the total, and an arm of weight 0 is never drawn.
    """
    below = weights.cumsum(0)
    passed = torch.le(below, uniforms * below[-1], out=torch.empty_like(below))
    return passed.sum(0).long()


@lru_cache(maxsize=64)
def _arms(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.arange(count, dtype=dtype, device=device)[:, None]


def _one_hot(actions: Tensor, table: Tensor) -> Tensor:
    """Return [k = a_n] as a floating-point table (K, N), like the one given."""
    arms = _arms(len(table), table.dtype, table.device)
    return torch.eq(arms, actions.to(table.dtype), out=torch.empty_like(table))


def greedy_probabilities(values: Tensor, epsilon: float = 0.0) -> Tensor:
    """Return the probabilities of epsilon-greedy.

    pi_k = epsilon/K + (1 - epsilon) [k is a maximizer]/(number of maximizers).
    Epsilon is the probability of exploring; the greedy arm can be drawn then, too.

    Parameters
    ----------
    values : (K, N) tensor
        Floating point. Infinite values are allowed.
    epsilon : float
        In [0, 1].

    Returns
    -------
    (K, N) tensor

    Raises
    ------
    ValueError
        If `epsilon` is outside [0, 1].

    Notes
    -----
    Source: Sutton and Barto (2018), section 2.2.

    Examples
    --------
    >>> values = torch.tensor([[0.0], [2.0]])
    >>> [round(p, 3) for p in greedy_probabilities(values, 0.1).flatten().tolist()]
    [0.05, 0.95]
    """
    _within("epsilon", epsilon, 0, 1)
    best = torch.eq(values, values.amax(0), out=torch.empty_like(values))
    return best.div_(best.sum(0)).mul_(1 - epsilon).add_(epsilon / len(values))


def upper_confidence_bounds(
    values: Tensor, counts: Tensor, pulls: int, c: float = 2.0
) -> Tensor:
    """Return the bounds that UCB maximizes.

    U_k = Q_k + c sqrt(ln t / n_k), infinite for an arm that was never pulled, where
    t = pulls + 1 is the number of the pull that is being chosen. Hoeffding's
    inequality for rewards in [0, 1] gives P(mu_k > U_k) <= t^(-2 c^2); UCB1 has
    c = sqrt(2). (Auer et al. write the number of pulls so far for t.)

    Parameters
    ----------
    values, counts : (K, N) tensor
        Mean reward Q_k and number of pulls n_k of each arm.
    pulls : int
        Pulls so far, in all.
    c : float
        Width, >= 0.

    Returns
    -------
    (K, N) tensor

    Raises
    ------
    ValueError
        If `c` is negative.

    Notes
    -----
    Source: Sutton and Barto (2018), equation 2.10; Auer, Cesa-Bianchi and Fischer
    (2002), figure 1.

    Examples
    --------
    >>> values, counts = torch.tensor([[0.5], [0.0]]), torch.tensor([[1.0], [0.0]])
    >>> upper_confidence_bounds(values, counts, pulls=1, c=0.0).flatten().tolist()
    [0.5, inf]
    """
    _within("c", c, 0)
    widths = (c**2 * math.log(pulls + 1) / counts).sqrt_()
    return values + widths.nan_to_num_(nan=math.inf, posinf=math.inf)


def _value_policy(
    bounds: Callable[[ActionValues], Tensor],
    epsilon: float,
    step: float | None,
    initial: float,
) -> Policy[ActionValues]:
    if step is not None:
        _positive("step", step, 1)
    _within("initial", initial, -math.inf)
    greedy_probabilities(torch.zeros(2, 1), epsilon)

    def init(bandit: Bandit, replications: int, device: torch.device) -> ActionValues:
        zeros = torch.zeros(bandit.arms, replications, device=device)
        return ActionValues(zeros, zeros, torch.full_like(zeros, initial), 0)

    def act(state: ActionValues, noise: Noise) -> Tensor:
        return _pick(greedy_probabilities(bounds(state), epsilon), noise.uniform())

    def update(state: ActionValues, actions: Tensor, rewards: Tensor) -> ActionValues:
        pulled = _one_hot(actions, state.counts)
        counts = state.counts + pulled
        totals = torch.addcmul(state.totals, pulled, rewards)
        if step is None:
            means = totals / counts.clamp(min=1)
            values = state.values.lerp(means, pulled)
        else:
            error = rewards - state.values
            values = torch.addcmul(state.values, pulled, error, value=step)
        return ActionValues(counts, totals, values, state.pulls + 1)

    return Policy(init, act, update)


def epsilon_greedy(
    epsilon: float, step: float | None = None, initial: float = 0.0
) -> Policy[ActionValues]:
    """Return epsilon-greedy on estimated values.

    With probability epsilon any arm, else one of the arms with the largest Q, both
    uniformly. After reward r from arm a, Q_a <- Q_a + eta (r - Q_a), with
    eta = 1/n_a (the sample average) or a constant. The sample average is computed as
    total/n_a, so arms with equal records tie exactly.

    Parameters
    ----------
    epsilon : float
        Probability of exploring, in [0, 1].
    step : float, optional
        Constant eta in (0, 1]; by default 1/n_a.
    initial : float
        Q before the first pull. With the sample average it only decides which arms
        are tried first. Optimistic start: 5, with a constant step of 0.1.

    Returns
    -------
    Policy

    Raises
    ------
    ValueError
        If `epsilon` is outside [0, 1], `step` outside (0, 1] or `initial` not finite.

    Notes
    -----
    Source: Sutton and Barto (2018), sections 2.2 to 2.6, equations 2.3 and 2.5.

    Examples
    --------
    >>> rewards = run(epsilon_greedy(0.1), BernoulliBandit([0.2, 0.8]), 9, 4,
    ...               torch.Generator().manual_seed(0)).rewards
    >>> rewards.shape
    torch.Size([4, 9])
    """
    return _value_policy(lambda state: state.values, epsilon, step, initial)


def greedy(initial: float = 0.0, step: float | None = None) -> Policy[ActionValues]:
    """Return the policy that always pulls an arm with the largest estimate.

    It is :func:`epsilon_greedy` with epsilon = 0; see there.

    Parameters
    ----------
    initial : float
        Q before the first pull.
    step : float, optional
        Constant step in (0, 1]; by default the sample average.

    Returns
    -------
    Policy

    Raises
    ------
    ValueError
        If `step` is outside (0, 1] or `initial` is not finite.

    Examples
    --------
    >>> optimistic = greedy(initial=5.0, step=0.1)
    """
    return epsilon_greedy(0.0, step, initial)


def ucb(c: float = 2.0) -> Policy[ActionValues]:
    """Return the policy that pulls the arm with the largest upper confidence bound.

    argmax_k Q_k + c sqrt(ln t / n_k), ties at random, each arm once first; see
    :func:`upper_confidence_bounds`. For rewards in [0, 1], c = sqrt(2) is UCB1, whose
    pseudo-regret is at most sum over gaps > 0 of 8 ln T / gap + (1 + pi^2/3) gap.

    Parameters
    ----------
    c : float
        Width, >= 0. With c = 0 it is greedy after one pull of each arm.

    Returns
    -------
    Policy

    Raises
    ------
    ValueError
        If `c` is negative.

    Notes
    -----
    Source: Sutton and Barto (2018), section 2.7; Auer, Cesa-Bianchi and Fischer
    (2002), theorem 1.

    Examples
    --------
    >>> ucb1 = ucb(c=math.sqrt(2))
    """
    _within("c", c, 0)

    def bounds(state: ActionValues) -> Tensor:
        return upper_confidence_bounds(state.values, state.counts, state.pulls, c)

    return _value_policy(bounds, 0.0, None, 0.0)


def sample_log_odds(pseudo_counts: Tensor, generator: torch.Generator) -> Tensor:
    """Draw theta from Beta(p, q) and return log(theta / (1 - theta)).

    theta = X/(X + Y) with X from Gamma(p) and Y from Gamma(q), so the log-odds are
    log X - log Y; `torch.sigmoid` gives theta. For shapes below 1, Gamma(p) is
    Gamma(p + 1) U^(1/p) with U uniform, in logarithms: nothing underflows. Uses
    `torch._standard_gamma`, since the public distributions take no generator.

    Parameters
    ----------
    pseudo_counts : (2, ...) tensor
        p and q, positive, float32.
    generator : torch.Generator
        On the same device.

    Returns
    -------
    (...) tensor

    Raises
    ------
    ValueError
        If `pseudo_counts` has another shape than (2, ...).

    Notes
    -----
    Source: Devroye (1986), Non-Uniform Random Variate Generation, sections IX.3 and
    IX.4; Marsaglia and Tsang (2000) for the Gamma numbers.

    Examples
    --------
    >>> counts = torch.tensor([4.0, 1.0])[:, None].expand(2, 1000)
    >>> draws = sample_log_odds(counts, torch.Generator().manual_seed(0))
    >>> round(torch.sigmoid(draws).mean().item(), 1)
    0.8
    """
    if pseudo_counts.ndim < 2 or len(pseudo_counts) != 2:
        shape = tuple(pseudo_counts.shape)
        raise ValueError(f"pseudo_counts has shape {shape}: it must be (2, ...)")
    small = float(pseudo_counts.amin()) < 1
    x, y = torch._standard_gamma(pseudo_counts + small, generator=generator)
    log_odds: Tensor = (x / y).log_()
    if small:
        u = torch.empty_like(pseudo_counts).uniform_(generator=generator)
        x, y = torch.log1p(-u) / pseudo_counts
        log_odds += x - y
    return log_odds


def thompson(prior: tuple[float, float] = (1.0, 1.0)) -> Policy[Posterior]:
    """Return Thompson sampling for Bernoulli rewards with Beta priors.

    Draw theta_k from Beta(p_k, q_k) for every arm, pull the arm with the largest, and
    add the reward r to p_a and 1 - r to q_a: the posterior, by conjugacy. Arm k is
    pulled with the posterior probability that it is the best.

    Parameters
    ----------
    prior : (float, float)
        p and q before the first pull, positive; (1, 1) is uniform.

    Returns
    -------
    Policy
        Its ``init`` raises ValueError for a world that is not Bernoulli.

    Raises
    ------
    ValueError
        If the prior is not two positive numbers.

    Notes
    -----
    Source: Thompson (1933); Agrawal and Goyal (2012), algorithm 1.

    Examples
    --------
    >>> rewards = run(thompson(), BernoulliBandit([0.2, 0.8]), 9, 4,
    ...               torch.Generator().manual_seed(0)).rewards
    >>> rewards.shape
    torch.Size([4, 9])
    """
    if len(prior) != 2:
        raise ValueError(f"prior is {prior}: it must be two numbers")
    for value in prior:
        _positive("prior", value)

    def init(bandit: Bandit, replications: int, device: torch.device) -> Posterior:
        if not isinstance(bandit, BernoulliBandit):
            raise ValueError(
                f"bandit is a {type(bandit).__name__}: Beta priors need a "
                "BernoulliBandit, whose rewards are 0 or 1"
            )
        start = torch.tensor(prior, dtype=torch.float32, device=device)
        return Posterior(start[:, None, None].repeat(1, bandit.arms, replications))

    def act(state: Posterior, noise: Noise) -> Tensor:
        return sample_log_odds(state.pseudo_counts, noise.generator).max(0).indices

    def update(state: Posterior, actions: Tensor, rewards: Tensor) -> Posterior:
        counts = state.pseudo_counts
        failed = actions + counts.shape[1]
        index = torch.where(rewards > 0, actions, failed)[None]
        flat = counts.flatten(0, 1).scatter_add(
            0, index, torch.ones_like(rewards)[None]
        )
        return Posterior(flat.view(counts.shape))

    return Policy(init, act, update)


def reinforce_gradient(
    probabilities: Tensor, actions: Tensor, advantages: Tensor
) -> Tensor:
    """Return the REINFORCE gradient of a softmax policy in its preferences.

    A grad_h log pi(a), with d log pi(a) / d h_k = [k = a] - pi_k. With advantage
    A = r - b and any b that does not depend on a, its expectation is the gradient of
    E[r]: E[b grad log pi(a)] = b grad sum_k pi_k = 0.

    Parameters
    ----------
    probabilities : (K, N) tensor
        softmax(h).
    actions : (N,) tensor
        int64, drawn from these.
    advantages : (N,) tensor
        r - b.

    Returns
    -------
    (K, N) tensor

    Notes
    -----
    Source: Williams (1992); Sutton and Barto (2018), section 2.8.

    Examples
    --------
    >>> half = torch.tensor([[0.5], [0.5]])
    >>> gradient = reinforce_gradient(half, torch.tensor([1]), torch.tensor([2.0]))
    >>> gradient.flatten().tolist()
    [-1.0, 1.0]
    """
    return advantages * (_one_hot(actions, probabilities) - probabilities)


def gradient(lr: float, baseline: bool = True) -> Policy[Preferences]:
    """Return the gradient bandit: a step of size lr along REINFORCE's gradient.

    h <- h + lr (r - b) grad_h log pi(a), pi = softmax(h), h = 0 at first. The baseline
    b is the mean of the rewards *before* the present one, so it does not depend on the
    present action; on the first pull it is that reward itself, which moves nothing.

    Parameters
    ----------
    lr : float
        Learning rate, positive.
    baseline : bool
        False sets b = 0.

    Returns
    -------
    Policy

    Raises
    ------
    ValueError
        If `lr` is not positive and finite.

    Notes
    -----
    Source: Sutton and Barto (2018), equation 2.12.

    Examples
    --------
    >>> rewards = run(gradient(0.1), GaussianBandit([0.0, 1.0]), 9, 4,
    ...               torch.Generator().manual_seed(0)).rewards
    >>> rewards.shape
    torch.Size([4, 9])
    """
    _positive("lr", lr)

    def init(bandit: Bandit, replications: int, device: torch.device) -> Preferences:
        zeros = torch.zeros(bandit.arms, replications, device=device)
        return Preferences(zeros, zeros.softmax(0), torch.zeros_like(zeros[0]), 0)

    def act(state: Preferences, noise: Noise) -> Tensor:
        return _pick(state.probabilities, noise.uniform())

    def update(state: Preferences, actions: Tensor, rewards: Tensor) -> Preferences:
        before, after, pulls = state.baseline, state.baseline, state.pulls + 1
        if baseline:
            after = before + (rewards - before) / pulls
            before = after if pulls == 1 else before
        ascent = reinforce_gradient(state.probabilities, actions, rewards - before)
        preferences = torch.add(state.preferences, ascent, alpha=lr)
        return Preferences(preferences, preferences.softmax(0), after, pulls)

    return Policy(init, act, update)


def reinforce_adam(
    lr: float = 0.05, baseline_rate: float = 0.05
) -> Policy[AdamPreferences]:
    """Return REINFORCE on a softmax policy, one Adam step per pull.

    Adam descends the loss -(r - b) log pi(a), with the defaults of `torch.optim.Adam`
    (0.9, 0.999, 1e-8). After the step b <- b + baseline_rate (r - b), from b = 0: an
    exponential moving average of the rewards before the present one.

    Parameters
    ----------
    lr : float
        Learning rate, positive.
    baseline_rate : float
        Rate of the moving average in [0, 1]; 0 is no baseline.

    Returns
    -------
    Policy

    Raises
    ------
    ValueError
        If `lr` is not positive and finite or `baseline_rate` is outside [0, 1].

    Notes
    -----
    Source: Williams (1992); Kingma and Ba (2015), algorithm 1.

    Examples
    --------
    >>> rewards = run(reinforce_adam(), BernoulliBandit([0.2, 0.8]), 9, 4,
    ...               torch.Generator().manual_seed(0)).rewards
    >>> rewards.shape
    torch.Size([4, 9])
    """
    _positive("lr", lr)
    _within("baseline_rate", baseline_rate, 0, 1)
    decay_1, decay_2, tiny = 0.9, 0.999, 1e-8

    def init(
        bandit: Bandit, replications: int, device: torch.device
    ) -> AdamPreferences:
        zeros = torch.zeros(bandit.arms, replications, device=device)
        rest = torch.zeros_like(zeros[0])
        return AdamPreferences(zeros, zeros.softmax(0), rest, zeros, zeros, 0)

    def act(state: AdamPreferences, noise: Noise) -> Tensor:
        return _pick(state.probabilities, noise.uniform())

    def update(
        state: AdamPreferences, actions: Tensor, rewards: Tensor
    ) -> AdamPreferences:
        pulls = state.pulls + 1
        advantages = rewards - state.baseline
        descent = reinforce_gradient(state.probabilities, actions, -advantages)
        first = state.first.lerp(descent, 1 - decay_1)
        second = state.second * decay_2
        second.addcmul_(descent, descent, value=1 - decay_2)
        scale = second.sqrt().div_(math.sqrt(1 - decay_2**pulls)).add_(tiny)
        step = -lr / (1 - decay_1**pulls)
        preferences = torch.addcdiv(state.preferences, first, scale, value=step)
        baseline = torch.add(state.baseline, advantages, alpha=baseline_rate)
        soft = preferences.softmax(0)
        return AdamPreferences(preferences, soft, baseline, first, second, pulls)

    return Policy(init, act, update)


# Simulation


class Run(NamedTuple):
    """What :func:`run` records, (N, T) each."""

    actions: Tensor
    rewards: Tensor
    regret: Tensor


class Summary(NamedTuple):
    """What :func:`run_summary` keeps: sums (N, C) over the first `steps` (C,) pulls."""

    steps: Tensor
    rewards: Tensor
    regret: Tensor


def _start(
    bandit: Bandit,
    replications: int,
    generator: torch.Generator,
    device: torch.device | str | None,
) -> Tensor:
    """Return the means at the first step, (K, N), float32, on the device."""
    here = generator.device
    place = here if device is None else torch.device(device)
    if place.type != here.type or place.index not in (None, here.index):
        raise ValueError(f"generator is on {here}, device is {place}: they must agree")
    shape = tuple(bandit.means.shape)
    if len(shape) == 2 and shape[0] != replications:
        raise ValueError(
            f"means has shape {shape}, replications is {replications}: they must agree"
        )
    means = bandit.means.expand(replications, -1).T.to(torch.float32)
    return means.contiguous().to(here)


def _play(
    policy: Policy[S],
    bandit: Bandit,
    replications: int,
    generator: torch.Generator,
    device: torch.device | str | None,
    block: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield actions, rewards and gaps (N,) of one pull after the other, forever."""
    world = Noise(generator, replications, block)
    choices = Noise(generator, replications, block)
    means = _start(bandit, replications, generator, device)
    best = means.amax(0)
    state = policy.init(bandit, replications, means.device)
    while True:
        actions = policy.act(state, choices)
        chosen = means.gather(0, actions[None])[0]
        rewards = bandit.reward(chosen, world)
        yield actions, rewards, best - chosen
        state = policy.update(state, actions, rewards)
        moved = bandit.move(means, world)
        if moved is not means:
            means, best = moved, moved.amax(0)


def run(
    policy: Policy[Any],
    bandit: Bandit,
    steps: int,
    replications: int,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    block: int = 64,
) -> Run:
    """Let N copies of a policy pull T times, independently.

    The world and the policy have streams of their own, seeded from `generator`: two
    policies that start from equal generators meet the same luck, so their difference
    has a smaller variance. On a CPU the result does not depend on `block`.

    Parameters
    ----------
    policy : Policy
        Made by :func:`epsilon_greedy`, :func:`ucb`, :func:`thompson`, ...
    bandit : BernoulliBandit or GaussianBandit
        With means (K,), or (N, K) for one problem per replication.
    steps : int
        T, at least 1.
    replications : int
        N, at least 1.
    generator : torch.Generator
        Its device computes.
    device : torch.device or str, optional
        If given, must be the generator's.
    block : int
        Rows of random numbers drawn at once.

    Returns
    -------
    Run
        (N, T) each, views of (T, N) memory, 9 bytes a pull. ``actions`` is int8 (int16
        for K > 127; index with ``actions.long()``), ``rewards`` float32. ``regret`` is
        the summand of the pseudo-regret, float32: max_k mu_{t,k} - mu_{t,a_t}, with
        the means as they stand at step t. It is 0 where the best arm is pulled, it
        contains no luck of the rewards, and ``regret.cumsum(1)`` is the curve to plot.

    Raises
    ------
    ValueError
        If `steps`, `replications` or `block` is below 1, the rows of the means are not
        N, the policy needs another kind of reward, or the devices differ.

    Examples
    --------
    >>> record = run(ucb(), BernoulliBandit([0.2, 0.8]), 9, 4,
    ...              torch.Generator().manual_seed(0))
    >>> record.regret[:, :2].sum(1).allclose(torch.tensor(0.6))
    True
    """
    _count("steps", steps)
    pulls = _play(policy, bandit, replications, generator, device, block)
    small = torch.int8 if bandit.arms <= 127 else torch.int16
    size, place = (steps, replications), generator.device
    kept = Run(
        torch.empty(size, dtype=small, device=place),
        torch.empty(size, device=place),
        torch.empty(size, device=place),
    )
    for t, pull in zip(range(steps), pulls, strict=False):
        for rows, row in zip(kept, pull, strict=True):
            rows[t] = row
    return Run(*(rows.T for rows in kept))


def run_summary(
    policy: Policy[Any],
    bandit: Bandit,
    checkpoints: Sequence[int],
    replications: int,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    block: int = 64,
) -> Summary:
    """Let N copies of a policy pull, and keep only the sums at some checkpoints.

    The same pulls as :func:`run` from an equal generator, in memory that does not grow
    with the number of steps: for runs of 10^5 pulls and more.

    Parameters
    ----------
    policy, bandit, replications, generator, device, block
        As for :func:`run`.
    checkpoints : sequence of C ints
        Numbers of pulls after which to look, increasing, at least 1.

    Returns
    -------
    Summary
        ``steps`` (C,), and float64 sums over the pulls up to each checkpoint
        ``rewards`` and ``regret`` (N, C), the second the pseudo-regret. On mps, which
        has no float64, they are float32.

    Raises
    ------
    ValueError
        If the checkpoints are not increasing from at least 1, and as :func:`run`.

    Examples
    --------
    >>> sums = run_summary(ucb(), BernoulliBandit([0.2, 0.8]), [2, 9], 4,
    ...                    torch.Generator().manual_seed(0))
    >>> sums.regret[:, 0].float().allclose(torch.tensor(0.6))
    True
    """
    marks = list(checkpoints)
    for mark in marks:
        _count("checkpoint", mark)
    if not marks or sorted(set(marks)) != marks:
        raise ValueError(f"checkpoints are {marks}: they must increase")
    pulls = _play(policy, bandit, replications, generator, device, block)
    place = generator.device
    wide = torch.float32 if place.type == "mps" else torch.float64
    sums = torch.zeros(2, replications, dtype=wide, device=place)
    kept = torch.empty(len(marks), 2, replications, dtype=wide, device=place)
    done = 0
    for row, mark in enumerate(marks):
        for _, (_, rewards, gaps) in zip(range(mark - done), pulls, strict=False):
            sums[0] += rewards
            sums[1] += gaps
        kept[row], done = sums, mark
    rewards, regret = kept.unbind(1)
    return Summary(torch.tensor(marks), rewards.T, regret.T)


# Exact answers


def _exact_means(means: ArrayLike) -> Array:
    values = np.asarray(_means(means, 0.0, 1.0))
    if values.ndim != 1:
        raise ValueError(f"means has shape {values.shape}: it must be (K,)")
    return values


def expected_regret(probabilities: ArrayLike, means: ArrayLike) -> Array:
    """Return the expected regret of one pull, exactly.

    max_k mu_k - sum_k pi_k mu_k. Regret and pseudo-regret have this same expectation.

    Parameters
    ----------
    probabilities : (..., K) array
        pi, each summing to 1.
    means : (K,) array
        mu.

    Returns
    -------
    (...) array

    Raises
    ------
    ValueError
        If a probability is negative or NaN, they do not sum to 1 (to 1e-6), a mean is
        not finite, or the numbers of arms differ.

    Examples
    --------
    >>> float(expected_regret([0.5, 0.5], [0.25, 0.75]))
    0.25
    """
    pi = np.asarray(probabilities, dtype=np.float64)
    mu = np.asarray(means, dtype=np.float64)
    if mu.ndim != 1 or pi.shape[-1:] != mu.shape:
        raise ValueError(
            f"probabilities has shape {pi.shape}, means {mu.shape}: they must be "
            "(..., K) and (K,)"
        )
    if not np.isfinite(mu).all():
        raise ValueError(f"means is {mu}: all must be finite")
    if not (pi >= 0).all():
        raise ValueError(f"probabilities has {pi.min()}: all must be at least 0")
    sums = pi.sum(-1)
    if (np.abs(sums - 1) > 1e-6).any():
        worst = sums.flat[np.abs(sums - 1).argmax()]
        raise ValueError(f"probabilities sum to {worst}: it must be 1")
    return np.asarray(mu.max() - pi @ mu)


def lai_robbins_constant(means: ArrayLike) -> float:
    """Return the constant of the Lai-Robbins bound for Bernoulli arms.

    C = sum over arms with gap_k > 0 of gap_k / KL(mu_k, mu*), where KL(p, q) =
    p ln(p/q) + (1-p) ln((1-p)/(1-q)). Every policy that is good on all problems has
    liminf_T E[pseudo-regret]/ln T >= C. It says nothing at a fixed T.

    Parameters
    ----------
    means : (K,) array
        In [0, 1].

    Returns
    -------
    float
        0 if all arms are equal or mu* = 1.

    Raises
    ------
    ValueError
        If a mean is NaN or outside [0, 1], or `means` is not a vector.

    Notes
    -----
    Source: Lai and Robbins (1985), theorem 1.

    Examples
    --------
    >>> round(lai_robbins_constant([0.1, 0.9]), 4)
    0.4551
    """
    mu = _exact_means(means)
    best = mu.max()
    constant = 0.0
    for p in mu[mu < best] if best < 1 else ():
        divergence = (1 - p) * math.log((1 - p) / (1 - best))
        if p > 0:
            divergence += p * math.log(p / best)
        constant += (best - p) / divergence
    return float(constant)


@lru_cache(maxsize=64)
def _unit_nodes(count: int) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2


def thompson_probabilities(
    successes: ArrayLike, failures: ArrayLike, prior: tuple[int, int] = (1, 1)
) -> Array:
    """Return the probability with which Thompson sampling pulls each arm, exactly.

    pi_k = P(theta_k is the largest) = int f_k(x) prod_{j != k} F_j(x) dx, with f and F
    the density and distribution function of Beta(p_j, q_j). For integers p and q these
    are polynomials (F_j(x) = P(Binomial(p_j + q_j - 1, x) >= p_j)), so Gauss-Legendre
    quadrature with enough nodes has no error but rounding.

    Parameters
    ----------
    successes, failures : (K,) array
        Integers >= 0.
    prior : (int, int)
        Positive integers.

    Returns
    -------
    (K,) array
        Sums to 1.

    Raises
    ------
    ValueError
        If the shapes differ, or a count or prior is not an integer in its range.

    Examples
    --------
    >>> thompson_probabilities([1, 0], [0, 1]).round(6).tolist()
    [0.833333, 0.166667]
    """
    counts = np.asarray(successes), np.asarray(failures)
    if counts[0].ndim != 1 or counts[0].shape != counts[1].shape:
        raise ValueError(
            f"successes has shape {counts[0].shape}, failures {counts[1].shape}: "
            "both must be (K,)"
        )
    for name, values in zip(("successes", "failures"), counts, strict=True):
        if not (np.equal(np.mod(values, 1), 0) & (values >= 0)).all():
            raise ValueError(f"{name} is {values}: all must be integers >= 0")
    for value in prior:
        _count("prior", value)
    p, q = (
        np.add(c, a).astype(int).tolist() for c, a in zip(counts, prior, strict=True)
    )
    x, weights = _unit_nodes((sum(p) + sum(q)) // 2 + 1)
    densities, below = np.empty((2, len(p), len(x)))
    for k, (a, b) in enumerate(zip(p, q, strict=True)):
        n = a + b - 1
        densities[k] = a * math.comb(n, a) * x ** (a - 1) * (1 - x) ** (b - 1)
        j = np.arange(a, n + 1)[:, None]
        ways = np.array([[float(math.comb(n, i))] for i in range(a, n + 1)])
        below[k] = (ways * x**j * (1 - x) ** (n - j)).sum(0)
    others = [np.delete(below, k, axis=0).prod(0) for k in range(len(p))]
    return np.asarray((densities * np.array(others)) @ weights)


def epsilon_greedy_probabilities(
    successes: ArrayLike,
    failures: ArrayLike,
    epsilon: float = 0.1,
    initial: float = 0.0,
) -> Array:
    """Return the probability with which epsilon-greedy pulls each Bernoulli arm.

    :func:`greedy_probabilities` of the sample averages, in float64.

    Parameters
    ----------
    successes, failures : (K,) array
        Integers >= 0.
    epsilon : float
        Probability of exploring, in [0, 1].
    initial : float
        Value of an arm that was never pulled.

    Returns
    -------
    (K,) array

    Raises
    ------
    ValueError
        If `epsilon` is outside [0, 1].

    Examples
    --------
    >>> epsilon_greedy_probabilities([1, 0], [0, 1], 0.2).round(6).tolist()
    [0.9, 0.1]
    """
    wins, losses = np.asarray(successes), np.asarray(failures)
    counts = wins + losses
    values = np.where(counts > 0, wins / np.maximum(counts, 1), initial)
    columns = torch.as_tensor(values)[:, None]
    return np.asarray(greedy_probabilities(columns, epsilon)[:, 0])


def ucb_probabilities(
    successes: ArrayLike, failures: ArrayLike, c: float = 2.0
) -> Array:
    """Return the probability with which UCB pulls each Bernoulli arm.

    Uniform over the maximizers of :func:`upper_confidence_bounds`, in float64.

    Parameters
    ----------
    successes, failures : (K,) array
        Integers >= 0.
    c : float
        Width, >= 0.

    Returns
    -------
    (K,) array

    Raises
    ------
    ValueError
        If `c` is negative.

    Examples
    --------
    >>> ucb_probabilities([1, 0], [0, 0]).tolist()
    [0.0, 1.0]
    """
    wins, losses = np.asarray(successes), np.asarray(failures)
    counts = torch.as_tensor(wins + losses, dtype=torch.float64)[:, None]
    values = torch.as_tensor(wins, dtype=torch.float64)[:, None] / counts.clamp(min=1)
    bounds = upper_confidence_bounds(values, counts, int(counts.sum()), c)
    return np.asarray(greedy_probabilities(bounds)[:, 0])


def exact_regret(rule: Rule, means: ArrayLike, steps: int) -> Array:
    """Return the expected pseudo-regret of each of the first T pulls, exactly.

    For a policy that looks at nothing but the successes and failures of each Bernoulli
    arm. Goes forward through all these counts: with P_t(s, f) their probability before
    pull t, E[regret_t] = sum_{s, f} P_t(s, f) sum_k pi_k(s, f) gap_k, and P_{t+1}
    follows from P_t by pulling k with probability pi_k and winning with mu_k. There
    are comb(T - 1 + 2K, 2K) counts in all: for small K and T.

    Parameters
    ----------
    rule : callable
        ``rule(successes, failures)`` gives pi from two (K,) integer arrays, as
        :func:`thompson_probabilities` does. Use `functools.partial` for parameters.
    means : (K,) array
        In [0, 1].
    steps : int
        T, at least 1.

    Returns
    -------
    (T,) array
        Its cumulative sum is the curve that :func:`run` estimates.

    Raises
    ------
    ValueError
        If a mean is NaN or outside [0, 1], T < 1, there are more than 10^5 counts, or
        the rule returns something that is not a distribution over K arms.

    Examples
    --------
    >>> exact_regret(thompson_probabilities, [0.25, 0.75], 2).round(6).tolist()
    [0.25, 0.208333]
    """
    mu = _exact_means(means)
    _count("steps", steps)
    arms = len(mu)
    if math.comb(steps - 1 + 2 * arms, 2 * arms) > MOST_STATES:
        raise ValueError(
            f"steps is {steps} for {arms} arms: more than {MOST_STATES} counts"
        )
    chances = np.concatenate([mu, 1 - mu])
    reach = {(0,) * (2 * arms): 1.0}
    regret = np.zeros(steps)
    for t in range(steps):
        following: dict[tuple[int, ...], float] = defaultdict(float)
        for counts, weight in reach.items():
            pi = rule(np.array(counts[:arms]), np.array(counts[arms:]))
            regret[t] += weight * expected_regret(pi, mu)
            for k, chance in enumerate(np.tile(pi, 2) * chances):
                if chance > 0:
                    after = (*counts[:k], counts[k] + 1, *counts[k + 1 :])
                    following[after] += weight * float(chance)
        reach = following
    return regret
