"""Policy gradients: exact ones, the forms of their estimator, and REINFORCE.

A tabular policy is softmax(logits) with logits (S, A), and every gradient is with
respect to them. Where states share parameters, as when they look alike, the gradient
with respect to theta is the sum of their rows. An estimate from one episode is

    g = sum_t w_t grad log pi(a_t given s_t),

and the forms differ in the weight w_t alone. Where a horizon T is given the *problem*
ends there: nothing is bootstrapped, and values depend on the time that is left.

The tabular part is numpy float64. REINFORCE with a network, one for each of N seeds,
imports torch when it is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from rlbook_utils.core import returns
from rlbook_utils.worlds.mdp import Array, Ints, Rollout, TabularMDP, Trajectories

if TYPE_CHECKING:
    import torch

    from rlbook_utils.nets.networks import MLP
    from rlbook_utils.worlds.control import World

WITH_Q = ("q_value", "advantage")
FORMS = ("total_return", "reward_to_go", "baseline", *WITH_Q, "td_residual", "gae")
BASELINES = ("none", "others", "standardize")
Episodes = Rollout | Trajectories
Tensor = TypeVar("Tensor")


class Moments(NamedTuple):
    """Mean (S, A) and bias (S, A) of an estimator, and its total variance.

    The variance is summed over the components; a batch of B episodes divides it by B.
    """

    mean: Array
    bias: Array
    variance: float


class Learning(NamedTuple):
    """What N replications of E episodes led to.

    `theta` is (N, O, A), `values` (N, O), `returns` (undiscounted) (N, E).
    """

    theta: Array
    values: Array
    returns: Array


class Batch(NamedTuple):
    """Whole episodes of N seeds: `seen` (N, E, T, O), the rest (N, E, T).

    `live` marks the steps that were taken; rewards are 0 elsewhere.
    """

    seen: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    live: torch.Tensor


def softmax(logits: ArrayLike) -> Array:
    """Return exp(h_a) / sum_b exp(h_b) along the last axis.

    Parameters
    ----------
    logits : (..., A) array
        Finite.

    Returns
    -------
    (..., A) array

    Raises
    ------
    ValueError
        If a logit is not finite.

    Examples
    --------
    >>> softmax([[0.0, 0.0], [800.0, 0.0]]).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    given = np.asarray(logits, np.float64)
    if not np.isfinite(given).all():
        raise ValueError(f"logits has {given[~np.isfinite(given)][0]}: not finite")
    weights = np.exp(given - given.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def _positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not value > 0 or value == np.inf:
            raise ValueError(f"{name} is {value}: it must be positive")


def values_by_time(
    world: TabularMDP, pi: ArrayLike, horizon: int
) -> tuple[Array, Array]:
    """Return V_t(s) and Q_t(s, a) of the problem that ends after T steps.

    V_T = 0, Q_t = r + gamma P V_{t+1}, V_t(s) = sum_a pi(a given s) Q_t(s, a).

    Parameters
    ----------
    world : TabularMDP
    pi : (S,) array of int or (S, A) array
        Actions or probabilities.
    horizon : int
        T, at least 1.

    Returns
    -------
    values : (T + 1, S) array
    q_values : (T, S, A) array

    Raises
    ------
    ValueError
        If `pi` is no policy or the horizon is below 1.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import short_corridor
    >>> values_by_time(short_corridor(), [1, 0, 1, 0], 2)[0].tolist()
    [[-2.0, -2.0, -1.0, 0.0], [-1.0, -1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    _positive(horizon=horizon)
    table = world.policy(pi)
    values = np.zeros((horizon + 1, world.states))
    q_values = np.zeros((horizon, world.states, world.actions))
    for t in reversed(range(horizon)):
        q_values[t] = world.q_values(values[t + 1])
        values[t] = (table * q_values[t]).sum(1)
    return values, q_values


def exact_gradient(
    world: TabularMDP,
    logits: ArrayLike,
    horizon: int | None = None,
    *,
    discounted: bool = True,
) -> Array:
    """Return the gradient of J by the policy gradient theorem.

    dJ/dtheta(s, a) = sum_t gamma^t P(s_t = s) pi(a given s) A_t(s, a); without a
    horizon sum_t gamma^t P(s_t = s) is the occupancy d_gamma(s), and A does not depend
    on t.

    Parameters
    ----------
    world : TabularMDP
    logits : (S, A) array
    horizon : int, optional
        T; by default the problem has no clock.
    discounted : bool
        False leaves out gamma^t, and what is returned is not the gradient of J. It
        needs a horizon.

    Returns
    -------
    (S, A) array
        0 in terminal states.

    Raises
    ------
    ValueError
        If the logits are not finite or of the wrong shape, the horizon is below 1, or
        gamma^t is to be left out of a problem without one.

    Notes
    -----
    Source: Sutton, McAllester, Singh and Mansour (2000), theorem 1.

    Examples
    --------
    One state, two actions that pay 1 and 0 for one step: p (1 - p) = 1/4 either way.

    >>> bandit = TabularMDP([[[1]], [[1]]], [[1, 0]], gamma=0.5)
    >>> exact_gradient(bandit, [[0, 0]], 1).tolist()
    [[0.25, -0.25]]
    """
    pi = world.policy(softmax(logits))
    if horizon is None:
        if not discounted:
            raise ValueError("discounted is False: this needs a horizon")
        q = world.q_values(world.evaluate(pi))
        visits = np.where(world.terminal, 0.0, world.occupancy(pi))
        better = q - (pi * q).sum(1, keepdims=True)
        return np.asarray(visits[:, None] * pi * better)
    values, q_values = values_by_time(world, pi, horizon)
    marginal, step = world.start, world.transition_matrix(pi)
    gradient, factor = np.zeros(pi.shape), 1.0
    for v, q in zip(values, q_values, strict=False):
        gradient += factor * marginal[:, None] * pi * (q - v[:, None])
        marginal = marginal @ step
        factor *= world.gamma if discounted else 1.0
    return np.where(world.terminal[:, None], 0.0, gradient)


def _by_time(table: ArrayLike | None, shape: tuple[int, ...], name: str) -> Array:
    """Return values (T, S, ...), from those or from (S, ...) that hold at any time."""
    if table is None:
        raise ValueError(f"{name} is None: this form needs it")
    given = np.asarray(table, np.float64)
    if given.shape not in (shape, shape[1:]):
        raise ValueError(
            f"{name} has shape {given.shape}: it must be {shape} or {shape[1:]}"
        )
    return np.broadcast_to(given, shape)


def step_weights(
    form: str,
    world: TabularMDP,
    episodes: Episodes,
    values: ArrayLike | None = None,
    q_values: ArrayLike | None = None,
    lam: float = 0.95,
    *,
    discounted: bool = True,
) -> Array:
    """Return w_t, the factor of grad log pi(a_t given s_t), in one of seven forms.

    ============  ================================================================
    total_return  G_0
    reward_to_go  gamma^t G_t
    baseline      gamma^t (G_t - V_t(s_t))
    q_value       gamma^t Q_t(s_t, a_t)
    advantage     gamma^t (Q_t(s_t, a_t) - V_t(s_t))
    td_residual   gamma^t (r_t + gamma V_{t+1}(s_{t+1}) - V_t(s_t))
    gae           gamma^t sum_l (gamma lam)^l delta_{t+l}, delta the TD residuals
    ============  ================================================================

    lam = 0 makes gae the td_residual, lam = 1 the baseline. With exact values all have
    the gradient of J as their mean; td_residual and gae with lam < 1 lose it where the
    values are wrong, baseline with any values never does.

    Parameters
    ----------
    form : str
        One of the above.
    world : TabularMDP
        Gives gamma, and the terminal states, whose values are taken as 0.
    episodes : Rollout or Trajectories
        The problem ends where the record does.
    values : (T + 1, S) or (S,) array
        V_t, or one V for all times; needed by all but the first two and q_value. At
        the horizon it is taken as 0.
    q_values : (T, S, A) or (S, A) array
        Needed by q_value and advantage.
    lam : float
        In [0, 1].
    discounted : bool
        False leaves out gamma^t; the total return has none to leave out.

    Returns
    -------
    (N, T) array
        0 from the end of an episode on.

    Raises
    ------
    ValueError
        If the form is unknown, the values that it needs are missing or have another
        shape, or lam is outside [0, 1].

    Notes
    -----
    Source: Schulman, Moritz, Levine, Jordan and Abbeel (2016), section 2.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import short_corridor
    >>> world = short_corridor()
    >>> run = world.rollout([1, 0, 1, 0], 1, 4, np.random.default_rng(0))
    >>> step_weights("reward_to_go", world, run).tolist()
    [[-3.0, -2.0, -1.0, 0.0]]
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}: it must be one of {', '.join(FORMS)}")
    live, horizon = episodes.actions >= 0, episodes.actions.shape[1]
    factor = world.gamma ** np.arange(horizon) if discounted else np.ones(horizon)
    steps, states = np.arange(horizon + 1), world.states
    future = returns.discounted_returns(episodes.rewards, world.gamma)
    if form == "total_return":
        return np.asarray(future[:, :1] * live)
    if form == "reward_to_go":
        return np.asarray(factor * future * live)
    q, v = np.zeros(live.shape), np.zeros((len(live), horizon + 1))
    if form in WITH_Q:
        table = _by_time(q_values, (horizon, states, world.actions), "q_values")
        q = table[steps[:-1], episodes.states[:, :-1], episodes.actions]
    if form != "q_value":
        v = _by_time(values, (horizon + 1, states), "values")[steps, episodes.states]
        v = np.where(world.terminal[episodes.states] | (steps == horizon), 0.0, v)
    if form in WITH_Q:
        return np.asarray(factor * (q - v[:, :-1]) * live)
    none = np.zeros(live.shape, np.bool_)
    lam = {"baseline": 1.0, "td_residual": 0.0}.get(form, lam)
    better = returns.generalized_advantage_estimation(
        episodes.rewards, v[:, :-1], v[:, 1:], none, none, world.gamma, lam
    )
    return np.asarray(factor * better * live)


def gradient_samples(logits: ArrayLike, episodes: Episodes, weights: Array) -> Array:
    """Return one estimate per episode, g = sum_t w_t grad log pi(a_t given s_t).

    For a softmax, d log pi(a given s) / d theta(s, b) = 1[a = b] - pi(b given s), so
    with C(s, a) the sum of the weights of the steps that took a in s,
    g(s, a) = C(s, a) - pi(a given s) sum_b C(s, b).

    Parameters
    ----------
    logits : (S, A) or (N, S, A) array
        One policy, or one for each episode.
    episodes : Rollout or Trajectories
    weights : (N, T) array
        From :func:`step_weights`.

    Returns
    -------
    (N, S, A) array

    Raises
    ------
    ValueError
        If the weights do not fit the episodes, or a logit is not finite.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import short_corridor
    >>> run = short_corridor().rollout([1, 0, 1, 0], 1, 3, np.random.default_rng(0))
    >>> gradient_samples(np.zeros((4, 2)), run, np.array([[3.0, 2.0, 1.0]]))[0].tolist()
    [[-1.5, 1.5], [1.0, -1.0], [-0.5, 0.5], [0.0, 0.0]]
    """
    pi, shape = softmax(logits), episodes.actions.shape
    if np.shape(weights) != shape:
        raise ValueError(
            f"weights has shape {np.shape(weights)}, actions {shape}: they must agree"
        )
    states, actions = pi.shape[-2:]
    live = episodes.actions >= 0
    place = np.arange(len(live))[:, None] * states + episodes.states[:, :-1]
    place = place * actions + episodes.actions
    size = len(live) * states * actions
    sums = np.bincount(place[live], np.asarray(weights)[live], size)
    sums = sums.reshape(len(live), states, actions)
    return np.asarray(sums - pi * sums.sum(-1, keepdims=True))


def moments(
    form: str,
    world: TabularMDP,
    logits: ArrayLike,
    horizon: int,
    values: ArrayLike | None = None,
    q_values: ArrayLike | None = None,
    lam: float = 0.95,
    *,
    discounted: bool = True,
) -> Moments:
    """Return exact mean, bias and variance of a form, over all trajectories.

    mean = sum_tau p(tau) g(tau), bias = mean - grad J, and
    variance = sum_tau p(tau) |g(tau) - mean|^2.

    Parameters
    ----------
    form, world, lam, discounted
        As for :func:`step_weights`.
    logits : (S, A) array
    horizon : int
        T: the problem ends there.
    values, q_values : array, optional
        As for :func:`step_weights`; by default the exact ones.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        As :func:`step_weights`; or if there are too many trajectories to enumerate.

    Examples
    --------
    One step, actions that pay 1 and 0: g is (.5, -.5) or 0, each with probability .5.

    >>> bandit = TabularMDP([[[1]], [[1]]], [[1, 0]], gamma=0.5)
    >>> found = moments("reward_to_go", bandit, [[0, 0]], 1)
    >>> found.mean.tolist(), found.variance
    ([[0.25, -0.25]], 0.125)
    """
    pi = softmax(logits)
    exact_v, exact_q = values_by_time(world, pi, horizon)
    v, q = (exact_v if values is None else values), q_values
    every = world.enumerate(horizon, pi)
    weights = step_weights(
        form, world, every, v, exact_q if q is None else q, lam, discounted=discounted
    )
    samples, p = gradient_samples(logits, every, weights), every.probabilities
    mean = np.tensordot(p, samples, 1)
    spread = ((samples - mean) ** 2).sum((1, 2))
    exact = exact_gradient(world, logits, horizon)
    return Moments(mean, mean - exact, float(p @ spread))


def enumerated_gradient(world: TabularMDP, logits: ArrayLike, horizon: int) -> Array:
    """Return the gradient of J as the sum over all trajectories of p' times the return.

    grad J = sum_tau G_0(tau) grad p(tau), with grad p(tau) = p(tau) grad log p(tau).

    Parameters
    ----------
    world : TabularMDP
    logits : (S, A) array
    horizon : int
        T: the problem ends there.

    Returns
    -------
    (S, A) array

    Raises
    ------
    ValueError
        If a logit is not finite or there are too many trajectories.

    Examples
    --------
    >>> bandit = TabularMDP([[[1]], [[1]]], [[1, 0]], gamma=0.5)
    >>> enumerated_gradient(bandit, [[0, 0]], 1).tolist()
    [[0.25, -0.25]]
    """
    return moments("total_return", world, logits, horizon).mean


def sample_episodes(
    world: TabularMDP, pi: Array, horizon: int, rng: np.random.Generator
) -> Rollout:
    """Sample one episode under each of N policies.

    Parameters
    ----------
    world : TabularMDP
    pi : (N, S, A) array
        Probabilities.
    horizon : int
        T: the clock truncates what has not ended by then.
    rng : numpy.random.Generator

    Returns
    -------
    Rollout
        Its arrays are as long as the longest episode.

    Raises
    ------
    ValueError
        If the policies have the wrong shape or the horizon is below 1.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import short_corridor
    >>> right = np.tile([0.5, 0.5], (3, 4, 1))
    >>> run = sample_episodes(short_corridor(), right, 50, np.random.default_rng(0))
    >>> run.terminated.any(1).tolist()
    [True, True, True]
    """
    _positive(horizon=horizon)
    if pi.ndim != 3 or pi.shape[1:] != (world.states, world.actions):
        raise ValueError(
            f"pi has shape {pi.shape}: it must be (N, {world.states}, {world.actions})"
        )
    count, edges = len(pi), pi.cumsum(-1)[..., :-1]
    states = [world.reset(count, rng)]
    steps: list[tuple[Any, ...]] = []
    live = np.flatnonzero(~world.terminal[states[0]])
    while len(live) and len(steps) < horizon:
        here, draw = states[-1][live], rng.random((len(live), 1))
        chosen = (edges[live, here] <= draw).sum(1)
        step = world.step(here, chosen, rng)
        action, reward = np.full(count, -1), np.zeros(count)
        over, after = np.zeros(count, np.bool_), states[-1].copy()
        action[live], reward[live], over[live] = chosen, step.reward, step.terminated
        after[live] = step.next_state
        states.append(after)
        steps.append((action, reward, over))
        live = live[~step.terminated]
    actions, rewards, terminated = (np.stack(x, 1) for x in zip(*steps, strict=True))
    truncated = np.zeros(actions.shape, np.bool_)
    truncated[live, -1] = True
    lengths = (actions >= 0).sum(1)
    return Rollout(
        np.stack(states, 1), actions, rewards, terminated, truncated, lengths
    )


def _observed(world: TabularMDP, theta: Array, observe: ArrayLike | None) -> Ints:
    """Return the row of theta that each state shows, checked against theta."""
    seen = np.arange(world.states) if observe is None else np.asarray(observe, np.intp)
    if seen.shape != (world.states,):
        raise ValueError(f"observe has shape {seen.shape}: not ({world.states},)")
    wanted = (int(seen.max()) + 1, world.actions)
    if theta.ndim != 3 or theta.shape[1:] != wanted:
        raise ValueError(
            f"theta has shape {theta.shape}: it must be (N, {wanted[0]}, {wanted[1]})"
        )
    return seen


def reinforce(
    world: TabularMDP,
    theta: ArrayLike,
    episodes: int,
    rng: np.random.Generator,
    *,
    lr: float,
    lr_values: float | None = None,
    horizon: int = 10**4,
    observe: ArrayLike | None = None,
    discounted: bool = True,
) -> Learning:
    """Run REINFORCE in N replications, one episode an update.

    theta <- theta + eta sum_t gamma^t (G_t - b(s_t)) grad log pi(a_t given s_t). The
    baseline b is 0, or is learned by b(s_t) <- b(s_t) + eta_b (mean over the episode's
    visits of G_t - b(s_t)), after theta has been moved.

    Parameters
    ----------
    world : TabularMDP
    theta : (N, O, A) array
        First logits of each replication, one row for each observation.
    episodes : int
        E, at least 1.
    rng : numpy.random.Generator
    lr : float
        eta, positive.
    lr_values : float, optional
        eta_b, positive; None is no baseline.
    horizon : int
        Most steps of an episode; beyond it the return is cut off, a bias that the
        default makes negligible.
    observe : (S,) array of int, optional
        The observation, a row of theta, that each state shows; by default itself.
    discounted : bool
        False leaves out gamma^t.

    Returns
    -------
    Learning

    Raises
    ------
    ValueError
        If shapes disagree, a count is below 1 or a rate is not positive.

    Notes
    -----
    Source: Williams (1992); Sutton and Barto (2018), sections 13.3 and 13.4, where
    theta moves after every step of the episode, not once behind it.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import short_corridor
    >>> made = reinforce(short_corridor(), np.zeros((5, 1, 2)), 50,
    ...                  np.random.default_rng(0), lr=0.01, observe=[0, 0, 0, 0])
    >>> made.returns.shape
    (5, 50)
    """
    _positive(
        episodes=episodes, lr=lr, lr_values=1.0 if lr_values is None else lr_values
    )
    theta = np.array(theta, np.float64)
    seen = _observed(world, theta, observe)
    values, gathered = np.zeros(theta.shape[:2]), np.empty((len(theta), episodes))
    same = np.eye(theta.shape[1])[seen]
    rows = np.arange(len(theta))[:, None]
    for k in range(episodes):
        logits = theta[:, seen]
        run = sample_episodes(world, softmax(logits), horizon, rng)
        live, where = run.actions >= 0, seen[run.states[:, :-1]]
        gathered[:, k] = run.rewards.sum(1)
        future = returns.discounted_returns(run.rewards, world.gamma)
        gap = (future - values[rows, where]) * live
        factor = world.gamma ** np.arange(gap.shape[1]) if discounted else 1.0
        rises = gradient_samples(logits, run, factor * gap)
        theta += lr * np.einsum("nsa,so->noa", rises, same)
        if lr_values is not None:
            visits = same[where] * live[..., None]
            total = np.einsum("nt,nto->no", gap, visits)
            values += lr_values * total / np.maximum(visits.sum(1), 1)
    return Learning(theta, values, gathered)


def policy_loss(logp: Tensor, weights: Tensor) -> Tensor:
    """Return -w_t log pi(a_t given s_t) for each step, whose gradient is the point.

    The weights are constants: no gradient flows into them. Summed over the steps of an
    episode and averaged over episodes, the gradient is minus that of J; the value has
    no meaning, and it may rise while J rises.

    Parameters
    ----------
    logp : (N, T) tensor
        Log-probabilities of the actions taken, with gradients.
    weights : (N, T) tensor
        w_t, 0 where there was no step.

    Returns
    -------
    (N, T) tensor

    Raises
    ------
    ValueError
        If the shapes disagree: (N, 1) and (N,) would broadcast to (N, N).

    Examples
    --------
    >>> import torch
    >>> policy_loss(torch.tensor([[-1.0, -2.0]]), torch.tensor([[3.0, 0.5]])).tolist()
    [[3.0, 1.0]]
    """
    given: Any = logp
    factor: Any = weights
    if given.shape != factor.shape:
        raise ValueError(
            f"logp has shape {tuple(given.shape)}, weights {tuple(factor.shape)}: "
            "they must agree"
        )
    return -given * factor.detach()  # type: ignore[no-any-return]


def policy_net(
    world: World, seeds: int, generator: torch.Generator, hidden: Sequence[int] = (32,)
) -> MLP:
    """Return N nets from observations to logits, all actions about equally likely.

    Parameters
    ----------
    world : World
        With discrete actions.
    seeds : int
        N.
    generator : torch.Generator
        Source of the weights.
    hidden : sequence of int
        Units of the hidden layers, tanh.

    Returns
    -------
    MLP

    Examples
    --------
    >>> import torch
    >>> from rlbook_utils.worlds.control import CARTPOLE
    >>> policy_net(CARTPOLE, 3, torch.Generator())(torch.zeros(3, 7, 4)).shape
    torch.Size([3, 7, 2])
    """
    from rlbook_utils.nets.networks import MLP

    sizes = (world.observations, *hidden, world.actions)
    return MLP(sizes, generator, gain=0.01, seeds=seeds)


def collect(world: World, net: MLP, episodes: int, generator: torch.Generator) -> Batch:
    """Sample E whole episodes with each of N nets, side by side.

    Parameters
    ----------
    world : World
        Its clock is the horizon of the problem.
    net : MLP
        From :func:`policy_net`.
    episodes : int
        E, at least 1.
    generator : torch.Generator

    Returns
    -------
    Batch

    Raises
    ------
    ValueError
        If `episodes` is below 1.

    Examples
    --------
    >>> import torch
    >>> from rlbook_utils.worlds.control import CARTPOLE
    >>> generator = torch.Generator().manual_seed(0)
    >>> net = policy_net(CARTPOLE, 3, generator)
    >>> collect(CARTPOLE, net, 2, generator).live.shape[:2]
    torch.Size([3, 2])
    """
    import torch

    from rlbook_utils.worlds import control

    _positive(episodes=episodes)
    shape = (net.seeds or 1, episodes)
    state, seen = control.reset(world, shape, generator)
    running = torch.ones(shape, dtype=torch.bool, device=seen.device)
    steps: list[tuple[torch.Tensor, ...]] = []
    while len(steps) < world.limit and running.any():
        with torch.no_grad():
            logits = net(seen)
        # The largest of logits plus Gumbel noise is a sample of the softmax.
        noise = torch.empty_like(logits).exponential_(generator=generator).log()
        action = (logits - noise).argmax(-1)
        state, out = control.step(world, state, action, generator)
        steps.append((seen, action, out.reward * running, running))
        running = running & ~(out.terminated | out.truncated)
        seen = out.observation
    return Batch(*(torch.stack(part, 2) for part in zip(*steps, strict=True)))


def log_probabilities(net: MLP, batch: Batch) -> torch.Tensor:
    """Return log pi(a_t given s_t), (N, E, T), with gradients.

    Parameters
    ----------
    net : MLP
    batch : Batch

    Returns
    -------
    (N, E, T) tensor

    Examples
    --------
    >>> import torch
    >>> from rlbook_utils.worlds.control import CARTPOLE
    >>> generator = torch.Generator().manual_seed(0)
    >>> net = policy_net(CARTPOLE, 3, generator)
    >>> log_probabilities(net, collect(CARTPOLE, net, 2, generator)).shape[:2]
    torch.Size([3, 2])
    """
    logits = net(batch.seen.flatten(1, 2)).log_softmax(-1)
    taken = batch.actions.flatten(1)[..., None]
    found: torch.Tensor = logits.gather(-1, taken).reshape(batch.actions.shape)
    return found


def batch_weights(
    rewards: torch.Tensor, live: torch.Tensor, gamma: float, baseline: str
) -> torch.Tensor:
    """Return G_t less a baseline from the batch, without gamma^t; 0 after the end.

    none         G_t
    others       G_t minus the mean G_t of the *other* episodes at the same t, 0 for
                 those that have ended: no bias
    standardize  (G_t - m)/s, with mean and standard deviation over all steps of the
                 batch: rescaled, with a bias that vanishes as the batch grows

    Parameters
    ----------
    rewards, live : (N, E, T) tensor
        From :func:`collect`.
    gamma : float
        In [0, 1].
    baseline : str
        One of the above.

    Returns
    -------
    (N, E, T) tensor

    Raises
    ------
    ValueError
        If the baseline is unknown or others are wanted where there is one episode.

    Examples
    --------
    >>> import torch
    >>> rewards = torch.tensor([[[1.0, 1.0], [5.0, 0.0]]])
    >>> batch_weights(rewards, rewards > 0, 1.0, "others").tolist()
    [[[-3.0, 1.0], [3.0, -0.0]]]
    """
    if baseline not in BASELINES:
        known = ", ".join(BASELINES)
        raise ValueError(f"baseline is {baseline!r}: it must be one of {known}")
    future: torch.Tensor = returns.discounted_returns(rewards, gamma)
    count = rewards.shape[1]
    if baseline == "others":
        if count < 2:
            raise ValueError("baseline 'others' needs 2 episodes or more, not 1")
        future = (count * future - future.sum(1, keepdim=True)) / (count - 1)
    if baseline == "standardize":
        steps = live.sum((1, 2), keepdim=True)
        future = future - (future * live).sum((1, 2), keepdim=True) / steps
        square = (future * live).square().sum((1, 2), keepdim=True) / steps
        future = future / (square.sqrt() + 1e-8)
    return future * live


def train_reinforce(
    world: World,
    seeds: int,
    episodes: int,
    updates: int,
    generator: torch.Generator,
    *,
    lr: float,
    baseline: str,
    gamma: float = 0.99,
    hidden: Sequence[int] = (32,),
) -> Array:
    """Train N nets by REINFORCE with Adam and return their returns (N, updates).

    Each update samples E episodes with every net and ascends
    (1/E) sum_episodes sum_t w_t grad log pi(a_t given s_t), w from
    :func:`batch_weights`: gamma^t is left out, as is usual.

    Parameters
    ----------
    world : World
    seeds, episodes, updates : int
        N, E and the number of updates, at least 1.
    generator : torch.Generator
        Source of all numbers; its device is where it runs.
    lr : float
        Step size of Adam.
    baseline : str
        As for :func:`batch_weights`.
    gamma : float
        In [0, 1].
    hidden : sequence of int
        Units of the hidden layers.

    Returns
    -------
    (N, updates) array
        Mean undiscounted return of the E episodes of each update.

    Raises
    ------
    ValueError
        As :func:`collect` and :func:`batch_weights`.

    Notes
    -----
    Source: Williams (1992).

    Examples
    --------
    >>> import torch
    >>> from rlbook_utils.worlds.control import CARTPOLE
    >>> generator = torch.Generator().manual_seed(0)
    >>> made = train_reinforce(
    ...     CARTPOLE, 2, 2, 3, generator, lr=0.01, baseline="others")
    >>> made.shape
    (2, 3)
    """
    import torch

    _positive(seeds=seeds, episodes=episodes, updates=updates, lr=lr)
    net = policy_net(world, seeds, generator, hidden)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    gathered = []
    for _ in range(updates):
        batch = collect(world, net, episodes, generator)
        weights = batch_weights(batch.rewards, batch.live, gamma, baseline)
        loss = policy_loss(log_probabilities(net, batch), weights)
        optimizer.zero_grad()
        torch.autograd.backward(loss.sum(2).mean(1).sum())
        optimizer.step()
        gathered.append(batch.rewards.sum(2).mean(1))
    return np.asarray(torch.stack(gathered, 1).cpu().numpy(), np.float64)
