"""Trust regions: how far one batch of data may move a policy.

The losses are functions of the log-ratio log pi(a|s) - log pi_old(a|s) of samples of
pi_old, per element: :func:`surrogate_loss`, :func:`clipped_loss`, and
:func:`kl_terms`, whose mean is KL(pi_old, pi). :func:`improvement_bound` evaluates
TRPO's bound exactly on a table and :func:`trust_region_step` takes its step.
:func:`train_ppo` trains on the control tasks, :func:`train_seeds` several seeds in two
processes.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rlbook_utils.actor_critic import advantages, collect
from rlbook_utils.core import workers
from rlbook_utils.nets.networks import ActorCritic, Judged, clip_gradients
from rlbook_utils.worlds import control
from rlbook_utils.worlds.mdp import Array, TabularMDP


def _positive(**numbers: float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}: it must be positive")


def _agree(**parts: Tensor) -> None:
    shapes = {name: tuple(part.shape) for name, part in parts.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"shapes are {shapes}: they must agree")


# Losses, per element


def surrogate_loss(log_ratio: Tensor, advantages: Tensor) -> Tensor:
    """Return -rho A, with rho = exp(log_ratio) = pi(a|s)/pi_old(a|s).

    At log_ratio = 0 its gradient is that of -A log pi(a|s): the policy gradient.

    Parameters
    ----------
    log_ratio : tensor
        log pi - log pi_old, with gradients.
    advantages : tensor
        Of the same shape; a constant.

    Returns
    -------
    tensor
        Of the same shape; take its mean over samples of pi_old.

    Raises
    ------
    ValueError
        If the shapes disagree: (B, 1) and (B,) would broadcast to (B, B).

    Notes
    -----
    Source: Schulman et al. (2017), equation 6.

    Examples
    --------
    >>> surrogate_loss(torch.tensor([0.0]), torch.tensor([2.0]))
    tensor([-2.])
    """
    _agree(log_ratio=log_ratio, advantages=advantages)
    return -log_ratio.exp() * advantages.detach()


def clipped_loss(
    log_ratio: Tensor, advantages: Tensor, clip: float, clip_high: float | None = None
) -> Tensor:
    """Return -min(rho A, clamp(rho, 1 - clip, 1 + clip) A).

    The gradient is 0 where A > 0 and rho > 1 + clip, or A < 0 and rho < 1 - clip; in
    all other cases it is that of -rho A, however far outside the interval rho is.

    Parameters
    ----------
    log_ratio, advantages : tensor
        As for :func:`surrogate_loss`.
    clip : float
        epsilon, positive.
    clip_high : float, optional
        Another epsilon for the upper side.

    Returns
    -------
    tensor
        Of the same shape.

    Raises
    ------
    ValueError
        If the shapes disagree or an epsilon is not positive.

    Notes
    -----
    Source: Schulman et al. (2017), equation 7.

    Examples
    --------
    rho = 2 with epsilon = .2: min(2, 1.2) = 1.2 for A = 1, min(-2, -1.2) = -2 for -1.

    >>> twice = torch.full((2,), 2.0).log()
    >>> clipped_loss(twice, torch.tensor([1.0, -1.0]), 0.2)
    tensor([-1.2000,  2.0000])
    """
    _positive(clip=clip, clip_high=clip_high)
    _agree(log_ratio=log_ratio, advantages=advantages)
    ratio, gaps = log_ratio.exp(), advantages.detach()
    inside = ratio.clamp(1 - clip, 1 + (clip_high or clip))
    return -torch.minimum(ratio * gaps, inside * gaps)


def kl_terms(log_ratio: Tensor) -> Tensor:
    """Return rho - 1 - log rho: its mean over samples of pi_old is KL(pi_old, pi).

    Never negative. The samples do not move with pi, so the gradient of the mean is the
    gradient of KL(pi_old, pi) too: a penalty may use it as it stands. It is the form k3
    of samples of the *first* argument; from samples of pi it would be of -log_ratio.

    Parameters
    ----------
    log_ratio : tensor
        log pi - log pi_old.

    Returns
    -------
    tensor
        Of the same shape.

    Notes
    -----
    Source: J. Schulman, "Approximating KL divergence" (2020).

    Examples
    --------
    2 - 1 - ln 2 = .307.

    >>> kl_terms(torch.tensor([2.0]).log()).round(decimals=3)
    tensor([0.3070])
    """
    return log_ratio.expm1() - log_ratio


def adapted(beta: float, kl: float, target: float) -> float:
    """Return the next weight of the KL penalty: half, the same, or double.

    beta/2 if kl < target/1.5, 2 beta if kl > 1.5 target.

    Parameters
    ----------
    beta : float
        Weight so far, positive.
    kl : float
        d, the mean KL of the update that beta governed.
    target : float
        d_targ, positive.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `beta` or `target` is not positive, or kl is NaN.

    Notes
    -----
    Source: Schulman et al. (2017), section 4.

    Examples
    --------
    >>> [adapted(1.0, kl, 0.01) for kl in (0.006, 0.01, 0.016)]
    [0.5, 1.0, 2.0]
    """
    _positive(beta=beta, target=target)
    if math.isnan(kl):
        raise ValueError(f"kl is {kl}: the policy is broken")
    return beta * (0.5 if kl < target / 1.5 else 2.0 if kl > 1.5 * target else 1.0)


def value_loss(
    values: Tensor,
    targets: Tensor,
    values_old: Tensor | None = None,
    clip: float | None = None,
) -> Tensor:
    """Return (V - y)^2, or max((V - y)^2, (V_old + clamp(V - V_old) - y)^2).

    The clamp is to [-clip, clip]. Where it wins, the gradient is 0: V has moved that
    far from V_old, and toward y.

    Parameters
    ----------
    values : tensor
        V, with gradients.
    targets : tensor
        y, frozen when the batch was collected.
    values_old : tensor, optional
        V at that time; needed with `clip`.
    clip : float, optional
        In the unit of the values; None does not clip.

    Returns
    -------
    tensor
        Of the same shape.

    Raises
    ------
    ValueError
        If shapes disagree, `clip` is not positive, or `values_old` is missing.

    Notes
    -----
    Source: the clipped form is that of the code published with Schulman et al. (2017).

    Examples
    --------
    V moved from 0 to 1 toward y = 3: (1 - 3)^2 = 4, clipped (.2 - 3)^2 = 7.84.

    >>> value_loss(*map(torch.tensor, ([1.0], [3.0], [0.0])), clip=0.2)
    tensor([7.8400])
    """
    _positive(clip=clip)
    y = targets.detach()
    _agree(values=values, targets=y)
    error = (values - y).square()
    if clip is None:
        return error
    if values_old is None:
        raise ValueError("values_old is None: clipping needs the values before")
    old = values_old.detach()
    _agree(values=values, values_old=old)
    near = old + (values - old).clamp(-clip, clip)
    return torch.maximum(error, (near - y).square())


# Trust regions


class Bound(NamedTuple):
    """TRPO's bound: J(new) >= surrogate - C max_kl, all of them exact.

    `old` and `new` are J of the policies, `gain` is `surrogate` - `old`; `mean_kl` is
    the mean of KL(pi_old, pi) over the states as pi_old visits them.
    """

    old: float
    surrogate: float
    new: float
    C: float
    max_kl: float
    mean_kl: float

    @property
    def bound(self) -> float:
        """The surrogate minus C times the largest KL."""
        return self.surrogate - self.C * self.max_kl


def improvement_bound(world: TabularMDP, old: ArrayLike, new: ArrayLike) -> Bound:
    """Evaluate TRPO's lower bound on the return of a new policy, exactly.

    L(new) = J(old) + sum_s d_old(s) sum_a new(a|s) A_old(s, a): states as the old
    policy visits them, actions of the new one. Then
    J(new) >= L(new) - C max_s KL(old(.|s), new(.|s)) with
    C = 4 A_max gamma/(1 - gamma)^2 and A_max = max abs A_old.

    Parameters
    ----------
    world : TabularMDP
        With gamma < 1.
    old, new : (S, A) array
        Probabilities.

    Returns
    -------
    Bound

    Raises
    ------
    ValueError
        If gamma is 1, or a policy is none, or `new` excludes an action of `old`.

    Notes
    -----
    Source: Schulman et al. (2015), theorem 1; Kakade and Langford (2002).

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import chain
    >>> pi = np.full((5, 2), 0.5)
    >>> found = improvement_bound(chain(gamma=0.9), pi, pi)
    >>> found.max_kl, round(found.bound - found.new, 9)
    (0.0, 0.0)
    """
    if world.gamma == 1:
        raise ValueError("gamma is 1: the bound needs a discount below 1")
    p, q = world.policy(old), world.policy(new)
    live = ~world.terminal
    if (live[:, None] & (p > 0) & (q <= 0)).any():
        s, a = np.argwhere(live[:, None] & (p > 0) & (q <= 0))[0]
        raise ValueError(f"new excludes action {a} in state {s}: the KL is infinite")
    values = world.evaluate(p)
    gaps = np.where(live[:, None], world.q_values(values) - values[:, None], 0.0)
    visits = np.where(live, world.occupancy(p), 0.0)
    start = float(world.start @ values)
    gain = float(visits @ (q * gaps).sum(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where((p > 0) & live[:, None], p * np.log(p / q), 0.0).sum(1)
    C = 4 * np.abs(gaps).max() * world.gamma / (1 - world.gamma) ** 2
    after = float(world.start @ world.evaluate(q))
    mean = float(visits @ kl / visits.sum())
    return Bound(start, start + gain, after, float(C), float(kl.max()), mean)


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    iterations: int = 10,
    tolerance: float = 1e-10,
) -> Tensor:
    """Solve F x = right for a positive definite F that is known by its products.

    Exact after as many iterations as F has different eigenvalues, but for rounding.

    Parameters
    ----------
    product : callable
        Maps v to F v.
    right : (P,) tensor
    iterations : int
        At most so many products, at least 1.
    tolerance : float
        Stop where the squared residual falls to this share of the first one.

    Returns
    -------
    (P,) tensor

    Raises
    ------
    ValueError
        If `iterations` is below 1.

    Notes
    -----
    Source: Hestenes and Stiefel (1952); Schulman et al. (2015), appendix C.

    Examples
    --------
    >>> conjugate_gradient(lambda v: 4 * v, torch.tensor([8.0, 2.0]))
    tensor([2.0000, 0.5000])
    """
    _positive(iterations=iterations)
    x, residual = torch.zeros_like(right), right.clone()
    direction, size = residual.clone(), residual @ residual
    least = tolerance * size
    for _ in range(iterations):
        if size <= least:
            break
        image = product(direction)
        step = size / (direction @ image)
        x, residual = x + step * direction, residual - step * image
        size, before = residual @ residual, size
        direction = residual + size / before * direction
    return x


class Step(NamedTuple):
    """What a step of TRPO did: gain of the surrogate, KL, share of the full step."""

    gain: float
    kl: float
    share: float


def trust_region_step(
    parameters: Sequence[Tensor],
    surrogate: Callable[[], Tensor],
    kl: Callable[[], Tensor],
    max_kl: float,
    *,
    damping: float = 1e-3,
    iterations: int = 10,
    halvings: int = 10,
) -> Step:
    """Maximize the surrogate under mean KL <= max_kl: one step of TRPO, in place.

    With g the gradient of the surrogate and F the Hessian of the KL at the old policy,
    the step is sqrt(2 max_kl/(x^T F x)) x with F x = g, by conjugate gradient. It is
    halved until the KL is at most max_kl and the surrogate has improved; if that
    never happens, nothing changes.

    Parameters
    ----------
    parameters : sequence of tensors
        Of the policy alone; set to their new values.
    surrogate, kl : callable
        Return scalars, with gradients, at the present parameters.
    max_kl : float
        The radius, positive.
    damping : float
        Added to the diagonal of F, at least 0.
    iterations, halvings : int
        Most products of the conjugate gradient, most halvings of the step.

    Returns
    -------
    Step
        `share` is 0 if no step was taken.

    Raises
    ------
    ValueError
        If `max_kl` is not positive or `damping` is negative.

    Notes
    -----
    Source: Schulman et al. (2015), appendix C.

    Examples
    --------
    The KL x^2/2 allows sqrt(2 * .02) = .2.

    >>> x = torch.zeros(1, requires_grad=True)
    >>> step = trust_region_step([x], x.sum, lambda: (x * x / 2).sum(), 0.02)
    >>> x.detach().round(decimals=3), step.share
    (tensor([0.2000]), 1.0)
    """
    _positive(max_kl=max_kl)
    if not damping >= 0:
        raise ValueError(f"damping is {damping}: it must not be negative")
    parts = list(parameters)

    def flat(value: Tensor, graph: bool = False) -> Tensor:
        grads = torch.autograd.grad(
            value, parts, create_graph=graph, retain_graph=True, materialize_grads=True
        )
        return torch.cat([grad.reshape(-1) for grad in grads])

    first = surrogate()
    slope, bend = flat(first), flat(kl(), graph=True)

    def product(v: Tensor) -> Tensor:
        return flat(bend @ v) + damping * v

    x = conjugate_gradient(product, slope, iterations)
    full = math.sqrt(2 * max_kl) * x / (x @ product(x)).clamp(min=1e-30).sqrt()
    before = [part.detach().clone() for part in parts]
    moves = torch.split(full, [part.numel() for part in parts])
    with torch.no_grad():
        for k in range(halvings + 1):
            for part, old, move in zip(parts, before, moves, strict=True):
                part.copy_(old + 0.5**k * move.reshape(old.shape))
            gain, far = float(surrogate() - first), float(kl())
            if gain > 0 and far <= max_kl:
                return Step(gain, far, 0.5**k)
        for part, old in zip(parts, before, strict=True):
            part.copy_(old)
    return Step(0.0, 0.0, 0.0)


# Networks


class Settings(NamedTuple):
    """What :func:`train_ppo` may be told, with defaults that solve CartPole.

    `clip`, `beta` and `kl_target` choose the objective: clipped, with a KL penalty of
    fixed weight, or one that is adapted to a target (from `beta`, or 1); with none of
    them there is no limit at all. `stop_kl` ends the epochs once the mean KL exceeds
    it. `minibatch` is a number of samples. `bootstrap=False` is a mistake to look at:
    it takes the clock for the end of the world.
    """

    envs: int = 16
    steps: int = 64
    epochs: int = 6
    minibatch: int = 256
    gamma: float = 0.99
    lam: float = 0.95
    lr: float = 5e-3
    anneal: bool = True
    clip: float | None = 0.2
    beta: float | None = None
    kl_target: float | None = None
    stop_kl: float | None = None
    value_weight: float = 0.5
    value_clip: float | None = None
    entropy_weight: float = 0.0
    normalize: bool = True
    most_norm: float = 0.5
    hidden: tuple[int, ...] = (64, 64)
    reward_scale: float = 1.0
    bootstrap: bool = True


class Samples(NamedTuple):
    """A batch of B steps, as it is kept through the epochs; all but `seen` frozen."""

    seen: Tensor
    actions: Tensor
    logp_old: Tensor
    advantages: Tensor
    targets: Tensor
    values_old: Tensor


class Diagnostics(NamedTuple):
    """What an update did, over the whole batch: see :func:`diagnose`."""

    approx_kl: float
    clip_fraction: float
    max_ratio: float
    entropy: float
    explained_variance: float
    epochs: int


class Trained(NamedTuple):
    """The net, returns (K, episodes) after `steps` (K,), CPU seconds so far.

    `seconds` (K,) leaves out the evaluations; `updates` has one row for each update.
    """

    net: ActorCritic
    steps: Array
    returns: Array
    seconds: Array
    updates: list[Diagnostics]

    def solved(self, level: float) -> int | None:
        """Return the first evaluation with a mean of at least `level`, or None."""
        good = np.flatnonzero(self.returns.mean(1) >= level)
        return int(good[0]) if len(good) else None


@torch.no_grad()
def freeze(
    net: ActorCritic, batch: tuple[Tensor, Tensor], gaps: Tensor, targets: Tensor
) -> Samples:
    """Return observations, actions, advantages and targets as one batch of samples.

    Parameters
    ----------
    net : ActorCritic
        The policy that acted.
    batch : pair of tensors
        Observations (..., O) and actions.
    gaps, targets : (...) tensor
        Advantages and the critic's targets.

    Returns
    -------
    Samples
        With leading shape (B,).

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> net = ActorCritic(4, 2, 0, generator)
    >>> zeros = torch.zeros(3, 5)
    >>> freeze(net, (torch.zeros(3, 5, 4), zeros.long()), zeros, zeros).seen.shape
    torch.Size([15, 4])
    """
    lead = gaps.ndim
    seen, actions, a, y = (
        part.flatten(0, lead - 1) for part in (*batch, gaps, targets)
    )
    judged = net.judge(seen, actions)
    return Samples(seen, actions, judged.logp, a, y, judged.values)


def ppo_loss(
    judged: Judged, data: Samples, settings: Settings, beta: float = 0.0
) -> Tensor:
    """Return PPO's whole loss, per sample.

    The clipped loss (or the surrogate's, without `settings.clip`), plus beta times the
    KL terms, c_V times the value loss, minus c_H times the entropy. With
    `settings.normalize` advantages have mean 0 and standard deviation 1 over the
    samples given.

    Parameters
    ----------
    judged : Judged
        From the net, with gradients.
    data : Samples
    settings : Settings
    beta : float
        Weight of the KL penalty, at least 0.

    Returns
    -------
    (B,) tensor
        Take its mean.

    Raises
    ------
    ValueError
        If beta is negative or shapes disagree.

    Notes
    -----
    Source: Schulman et al. (2017), equations 8 and 9.

    Examples
    --------
    -1 * 2 + .5 * (1 - 3)^2 = 0, and no entropy.

    >>> judged = Judged(*(torch.tensor([x]) for x in (-1.0, 0.5, 1.0)))
    >>> parts = [torch.tensor([x]) for x in (0.0, 0.0, -1.0, 2.0, 3.0, 1.0)]
    >>> ppo_loss(judged, Samples(*parts), Settings(normalize=False))
    tensor([0.])
    """
    if not beta >= 0:
        raise ValueError(f"beta is {beta}: it must not be negative")
    c, gaps = settings, data.advantages
    _agree(logp=judged.logp, logp_old=data.logp_old, values=judged.values)
    if c.normalize:
        gaps = (gaps - gaps.mean()) / (gaps.std() + 1e-8)
    log_ratio = judged.logp - data.logp_old
    if c.clip is None:
        loss = surrogate_loss(log_ratio, gaps)
    else:
        loss = clipped_loss(log_ratio, gaps, c.clip)
    if beta:
        loss = loss + beta * kl_terms(log_ratio)
    error = value_loss(judged.values, data.targets, data.values_old, c.value_clip)
    return loss + c.value_weight * error - c.entropy_weight * judged.entropy


@torch.no_grad()
def diagnose(
    net: ActorCritic, data: Samples, clip: float = 0.2, epochs: int = 0
) -> Diagnostics:
    """Compare a net with the one that collected a batch, on all of its samples.

    approx_kl: mean of :func:`kl_terms`. clip_fraction: share of samples with
    abs(rho - 1) > clip. max_ratio: the largest max(rho, 1/rho). entropy: its mean.
    explained_variance: 1 - var(y - V_old)/var(y), of the critic *before* the update.

    Parameters
    ----------
    net : ActorCritic
    data : Samples
    clip : float
        epsilon.
    epochs : int
        Passed on: epochs that were done.

    Returns
    -------
    Diagnostics

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> net = ActorCritic(4, 2, 0, generator)
    >>> data = freeze(net, (torch.randn(9, 4), torch.ones(9).long()),
    ...               torch.ones(9), torch.arange(9.0))
    >>> diagnose(net, data).max_ratio
    1.0
    """
    judged = net.judge(data.seen, data.actions)
    log_ratio = judged.logp - data.logp_old
    left = (data.targets - data.values_old).var() / data.targets.var().clamp(min=1e-12)
    return Diagnostics(
        float(kl_terms(log_ratio).mean()),
        float(((log_ratio.exp() - 1).abs() > clip).float().mean()),
        float(log_ratio.abs().max().exp()),
        float(judged.entropy.mean()),
        float(1 - left),
        epochs,
    )


def update(
    net: ActorCritic,
    optimizer: torch.optim.Optimizer,
    data: Samples,
    settings: Settings,
    generator: torch.Generator,
    beta: float = 0.0,
) -> Diagnostics:
    """Improve a net on one batch, by epochs of minibatches in random order.

    Parameters
    ----------
    net : ActorCritic
        Changed in place.
    optimizer : torch.optim.Optimizer
        Of its parameters.
    data : Samples
        Advantages, targets and old log-probabilities stay as they are.
    settings : Settings
    generator : torch.Generator
        Source of the order.
    beta : float
        Weight of the KL penalty.

    Returns
    -------
    Diagnostics
        After the update, over the whole batch.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> net = ActorCritic(4, 2, 0, generator)
    >>> data = freeze(net, (torch.randn(9, 4), torch.ones(9).long()),
    ...               torch.randn(9), torch.randn(9))
    >>> adam = torch.optim.Adam(net.parameters())
    >>> update(net, adam, data, Settings(), generator).epochs
    6
    """
    c, count, edge = settings, len(data.seen), settings.clip or 0.2
    if c.normalize and 1 in (c.minibatch, count, count % c.minibatch):
        raise ValueError(
            f"{count} samples in minibatches of {c.minibatch}: one sample alone has no "
            "standard deviation to divide its advantage by"
        )
    for epoch in range(1, c.epochs + 1):
        order = torch.randperm(count, generator=generator, device=data.seen.device)
        mixed = [torch.split(part[order], c.minibatch) for part in data]
        for parts in zip(*mixed, strict=True):
            few = Samples(*parts)
            judged = net.judge(few.seen, few.actions)
            optimizer.zero_grad()
            ppo_loss(judged, few, c, beta).mean().backward()  # type: ignore[no-untyped-call]
            clip_gradients(net.parameters(), c.most_norm)
            optimizer.step()
        if c.stop_kl is not None:
            found = diagnose(net, data, edge, epoch)
            if found.approx_kl > c.stop_kl:
                return found
    return diagnose(net, data, edge, c.epochs)


def train_ppo(
    world: control.World,
    seed: int,
    iterations: int,
    settings: Settings | None = None,
    *,
    every: int = 1,
    episodes: int = 100,
    greedy: bool = True,
    level: float = math.inf,
    device: str = "cpu",
) -> Trained:
    """Train one network by proximal policy optimization.

    One iteration collects T steps in each of E environments, estimates advantages by
    GAE with the bootstraps of :func:`rlbook_utils.actor_critic.advantages`, freezes
    them, and calls :func:`update`.

    Parameters
    ----------
    world : World
    seed : int
        Decides everything but the evaluations, which have their own generator.
    iterations : int
        At least 1.
    settings : Settings, optional
    every : int
        Evaluation after so many iterations, and at the end.
    episodes : int
        Whole episodes of an evaluation.
    greedy : bool
        Whether an evaluation takes the most likely action or samples.
    level : float
        Stop at the first evaluation whose mean is at least this.
    device : str
        Where the nets and environments lie.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If a count is below 1, or as the functions that it calls.

    Notes
    -----
    Source: Schulman et al. (2017), algorithm 1.

    Examples
    --------
    >>> few = Settings(envs=2, steps=8, minibatch=8, epochs=1)
    >>> made = train_ppo(control.CARTPOLE, 0, 3, few, every=2, episodes=4)
    >>> made.returns.shape, made.steps.tolist(), len(made.updates)
    ((2, 4), [32, 48], 3)
    """
    c = settings or Settings()
    _positive(iterations=iterations, every=every, episodes=episodes)
    _positive(lr=c.lr, epochs=c.epochs, minibatch=c.minibatch)
    generator = torch.Generator(device).manual_seed(seed)
    judge = torch.Generator(device).manual_seed(2**40 + seed)
    sizes = world.observations, world.actions, world.dimensions
    net = ActorCritic(*sizes, generator, hidden=c.hidden)
    optimizer = torch.optim.Adam(net.parameters(), c.lr, eps=1e-5, fused=True)
    state, seen = control.reset(world, c.envs, generator)
    beta = c.beta or (1.0 if c.kl_target else 0.0)
    updates, taken, scores, seconds, spent = list[Diagnostics](), [], [], [], 0.0
    for k in range(1, iterations + 1):
        begin = time.process_time()
        if c.anneal:
            optimizer.param_groups[0]["lr"] = c.lr * (1 - (k - 1) / iterations)
        state, seen, batch = collect(world, net, state, seen, c.steps, generator)
        batch = batch._replace(rewards=c.reward_scale * batch.rewards)
        if not c.bootstrap:
            batch = batch._replace(terminated=batch.terminated | batch.truncated)
        gaps, targets = advantages(net, batch, c.gamma, c.lam)
        data = freeze(net, (batch.seen, batch.actions), gaps, targets)
        updates.append(update(net, optimizer, data, c, generator, beta))
        if c.kl_target is not None:
            beta = adapted(beta, updates[-1].approx_kl, c.kl_target)
        spent += time.process_time() - begin
        if k % every == 0 or k == iterations:
            act = functools.partial(net.act, generator=None if greedy else judge)
            found = control.evaluate(world, act, episodes, judge)
            taken.append(k * c.envs * c.steps)
            scores.append(found.returns.cpu().numpy())
            seconds.append(spent)
            if scores[-1].mean() >= level:
                break
    curves = np.array(taken), np.array(scores), np.array(seconds)
    return Trained(net, curves[0], curves[1], curves[2], updates)


Job = tuple[control.World, int, int, Settings]
"""World, seed, iterations and settings of a run."""


def train_seeds(
    jobs: Sequence[Job], *, every: int = 1, episodes: int = 100, greedy: bool = True
) -> list[Trained]:
    """Call :func:`train_ppo` for each of the jobs, in two processes.

    Parameters
    ----------
    jobs : sequence of Job
    every, episodes, greedy
        As for :func:`train_ppo`.

    Returns
    -------
    list of Trained
        In the order of the jobs.

    Examples
    --------
    >>> few = Settings(envs=2, steps=8, minibatch=8, epochs=1)
    >>> len(train_seeds([(control.CARTPOLE, 0, 2, few)], episodes=2))
    1
    """
    train = functools.partial(train_ppo, every=every, episodes=episodes, greedy=greedy)
    return workers.run(train, jobs)


def summary(
    world: control.World,
    seed: int,
    iterations: int,
    settings: Settings,
    every: int = 10,
    episodes: int = 100,
) -> list[float]:
    """Train, and return only what a study keeps.

    Parameters
    ----------
    world, seed, iterations, settings
        As for :func:`train_ppo`.
    every, episodes : int
        Evaluations, with actions sampled.

    Returns
    -------
    list of float
        The mean returns of the evaluations, then of all updates the median approx_kl,
        the mean clip_fraction and the log of the largest ratio.

    Examples
    --------
    >>> few = Settings(envs=2, steps=8, minibatch=8, epochs=1)
    >>> len(summary(control.CARTPOLE, 0, 2, few, every=1, episodes=2))
    5
    """
    made = train_ppo(
        world, seed, iterations, settings, every=every, episodes=episodes, greedy=False
    )
    did = np.array(made.updates)
    ratio = np.log(did[:, 2].max())
    ends = (np.median(did[:, 0]), did[:, 1].mean(), ratio)
    return [float(x) for x in (*made.returns.mean(1), *ends)]
