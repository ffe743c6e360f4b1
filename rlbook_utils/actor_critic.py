"""Actor-critic: a critic that is learned says whether an action was good.

:func:`td_step` is the update of the online one-step method on tables, with its
eligibility of gamma^t, and :func:`online_actor_critic` runs it in N replications
(numpy, float64). :func:`train_a2c` trains networks on the control tasks in batches,
with generalized advantage estimation (torch, any device, N seeds at once). Both
bootstrap 0 where the world ended and the critic's value of the state reached where only
the clock did.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rlbook_utils.core.returns import generalized_advantage_estimation
from rlbook_utils.nets.networks import ActorCritic, Judged, clip_gradients
from rlbook_utils.policy_gradient import softmax
from rlbook_utils.worlds import control
from rlbook_utils.worlds.mdp import Array, Ints, Step, TabularMDP


def _positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not value > 0 or value == np.inf:
            raise ValueError(f"{name} is {value}: it must be positive")


# Tables, one step at a time


class Online(NamedTuple):
    """Where N replications are: what they have learned, and their episode.

    `theta` is (N, S, A), `values` (N, S), `state` and `age` (N,): the age t of the
    episode gives the eligibility gamma^t.
    """

    theta: Array
    values: Array
    state: Ints
    age: Ints


def start_online(
    world: TabularMDP, replications: int, rng: np.random.Generator
) -> Online:
    """Return N uniform policies with values 0, each at the start of an episode.

    Parameters
    ----------
    world : TabularMDP
    replications : int
        N, at least 1.
    rng : numpy.random.Generator

    Returns
    -------
    Online

    Raises
    ------
    ValueError
        If `replications` is below 1, or an episode can start where it has ended.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import chain
    >>> start_online(chain(), 3, np.random.default_rng(0)).theta.shape
    (3, 5, 2)
    """
    _positive(replications=replications)
    if world.start[world.terminal].any():
        first = int(np.flatnonzero(world.terminal & (world.start > 0))[0])
        raise ValueError(f"start has terminal state {first}: no step could be taken")
    theta = np.zeros((replications, world.states, world.actions))
    age = np.zeros(replications, np.intp)
    return Online(theta, theta[..., 0].copy(), world.reset(replications, rng), age)


def td_step(
    theta: ArrayLike,
    values: ArrayLike,
    state: ArrayLike,
    action: ArrayLike,
    step: Step,
    eligibility: ArrayLike,
    gamma: float,
) -> tuple[Array, Array, Array]:
    """Return the TD error and the two directions of the one-step actor-critic.

    delta = r + gamma V(s') - V(s), where V(s') counts as 0 if the step terminated the
    episode. The critic moves along delta, in s alone; the actor along
    I delta grad log pi(a given s), which for a softmax is
    I delta (1[a = b] - pi(b given s)) in row s, with I = gamma^t.

    Parameters
    ----------
    theta : (N, S, A) array
        Logits.
    values : (N, S) array
    state, action : (N,) arrays of int
    step : Step
        What the action led to.
    eligibility : (N,) array
        I. With gamma^t the expected sum over an episode is the gradient of J where
        the values are exact.
    gamma : float
        Discount, in [0, 1].

    Returns
    -------
    delta : (N,) array
    actor : (N, A) array
        Change of theta in row `state`, for a learning rate of 1.
    critic : (N,) array
        Change of the value of `state`, for a learning rate of 1.

    Raises
    ------
    ValueError
        If gamma is outside [0, 1] or the arguments disagree on N.

    Notes
    -----
    Source: Sutton and Barto (2018), section 13.5.

    Examples
    --------
    delta = 1 + .5 * 4 - 2 = 1; the actor moves by .5 * 1 * (1 - .5, 0 - .5).

    >>> step = Step(np.array([1.0]), np.array([1]), np.array([False]))
    >>> td_step(np.zeros((1, 2, 2)), [[2.0, 4.0]], [0], [0], step, [0.5], 0.5)[:2]
    (array([1.]), array([[ 0.25, -0.25]]))
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma is {gamma}: it must be in [0, 1]")
    logits, v = np.asarray(theta, np.float64), np.asarray(values, np.float64)
    here, chosen, weight = (
        np.asarray(state),
        np.asarray(action),
        np.asarray(eligibility),
    )
    rows = np.arange(len(logits))
    for name, part in {"state": here, "action": chosen, "eligibility": weight}.items():
        if part.shape != rows.shape:
            raise ValueError(f"{name} has shape {part.shape}: it must be {rows.shape}")
    ahead = np.where(step.terminated, 0.0, v[rows, step.next_state])
    delta = step.reward + gamma * ahead - v[rows, here]
    score = -softmax(logits[rows, here])
    score[rows, chosen] += 1
    return delta, (weight * delta)[:, None] * score, delta


def online_actor_critic(
    world: TabularMDP,
    learner: Online,
    steps: int,
    rng: np.random.Generator,
    *,
    lr: float,
    lr_values: float,
    limit: int | None = None,
    discounted: bool = True,
) -> Online:
    """Run the online one-step actor-critic for so many steps in N replications.

    theta <- theta + eta gamma^t delta_t grad log pi(a_t given s_t) and
    V(s_t) <- V(s_t) + eta_V delta_t at every step. An episode that ends is followed by
    the next one. Where the clock ended it, delta_t bootstraps from the state reached.

    Parameters
    ----------
    world : TabularMDP
    learner : Online
        From :func:`start_online` or the last call; left as it was.
    steps : int
        Steps of each replication, at least 1.
    rng : numpy.random.Generator
    lr, lr_values : float
        eta and eta_V, positive.
    limit : int, optional
        The clock: an episode is truncated after so many steps.
    discounted : bool
        False leaves out gamma^t.

    Returns
    -------
    Online

    Raises
    ------
    ValueError
        If a number is not positive.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import chain
    >>> rng = np.random.default_rng(0)
    >>> learner = start_online(chain(), 3, rng)
    >>> learner = online_actor_critic(chain(), learner, 9, rng, lr=0.1, lr_values=0.1)
    >>> learner.age.tolist()
    [9, 9, 9]
    """
    _positive(
        steps=steps, lr=lr, lr_values=lr_values, limit=1 if limit is None else limit
    )
    theta, values = learner.theta.copy(), learner.values.copy()
    state, age = learner.state, learner.age
    rows = np.arange(len(theta))
    for _ in range(steps):
        edges = softmax(theta[rows, state]).cumsum(1)[:, :-1]
        action = (edges <= rng.random((len(rows), 1))).sum(1)
        step = world.step(state, action, rng)
        weight = world.gamma**age if discounted else np.ones(len(rows))
        _, up, gap = td_step(theta, values, state, action, step, weight, world.gamma)
        theta[rows, state] += lr * up
        values[rows, state] += lr_values * gap
        age = age + 1
        ended = step.terminated | (age == limit)
        fresh = world.reset(len(rows), rng)
        state, age = np.where(ended, fresh, step.next_state), age * ~ended
    return Online(theta, values, state, age)


# Networks, in batches


class Batch(NamedTuple):
    """T steps of environments (..., E): what was seen, done and paid, (..., E, T).

    `seen` and `final` are (..., E, T, O): the observation acted on, and the one that
    the step reached, which is what its bootstrap needs however the episode went on.
    """

    seen: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    final: Tensor


class Settings(NamedTuple):
    """What :func:`train_a2c` may be told, with defaults for CartPole."""

    envs: int = 16
    steps: int = 16
    gamma: float = 0.99
    lam: float = 0.95
    lr: float = 3e-3
    value_weight: float = 0.5
    entropy_weight: float = 0.01
    most_norm: float = 0.5
    hidden: tuple[int, ...] = (64, 64)


class Trained(NamedTuple):
    """The networks, and their greedy returns (N, K) after `steps` (K,) of each."""

    net: ActorCritic
    steps: Ints
    returns: Tensor


def collect(
    world: control.World,
    net: ActorCritic,
    state: control.State,
    seen: Tensor,
    steps: int,
    generator: torch.Generator,
) -> tuple[control.State, Tensor, Batch]:
    """Act for T steps with the policy of a net, and record them.

    Parameters
    ----------
    world : World
    net : ActorCritic
    state : State
        Of (E,) or (N, E) environments, from :func:`~rlbook_utils.worlds.control.reset`.
    seen : (..., E, O) tensor
        What is observed there.
    steps : int
        T, at least 1.
    generator : torch.Generator
        Source of actions and starts.

    Returns
    -------
    tuple
        The state and observation to go on from, and the :class:`Batch`.

    Raises
    ------
    ValueError
        If `steps` is below 1.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> net = ActorCritic(4, 2, 0, generator, seeds=3)
    >>> state, seen = control.reset(control.CARTPOLE, (3, 5), generator)
    >>> made = collect(control.CARTPOLE, net, state, seen, 7, generator)[2]
    >>> made.seen.shape, made.rewards.shape
    (torch.Size([3, 5, 7, 4]), torch.Size([3, 5, 7]))
    """
    _positive(steps=steps)
    rows: list[tuple[Tensor, ...]] = []
    for _ in range(steps):
        action = net.act(seen, generator)
        state, out = control.step(world, state, action, generator)
        ends = (out.terminated, out.truncated)
        rows.append((seen, action, out.reward, *ends, out.final))
        seen = out.observation
    axis = state.age.ndim
    return state, seen, Batch(*(torch.stack(x, axis) for x in zip(*rows, strict=True)))


@torch.no_grad()
def advantages(
    net: ActorCritic, batch: Batch, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Return GAE of a batch and the critic's targets, advantages + V(s_t).

    next_values are the critic's values of the final observations: V(s_{t+1}) inside an
    episode, V of where the clock stopped it, and masked where it terminated.

    Parameters
    ----------
    net : ActorCritic
    batch : Batch
    gamma, lam : float
        In [0, 1].

    Returns
    -------
    tuple of (..., E, T) tensors
        The targets are the lambda-returns.

    Raises
    ------
    ValueError
        If gamma or lam is outside [0, 1].

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> net, world = ActorCritic(4, 2, 0, generator), control.CARTPOLE
    >>> state, seen = control.reset(world, 5, generator)
    >>> made = collect(world, net, state, seen, 7, generator)[2]
    >>> advantages(net, made, 0.99, 0.95)[0].shape
    torch.Size([5, 7])
    """
    values, ahead = (_values(net, part) for part in (batch.seen, batch.final))
    ends = batch.terminated, batch.truncated
    gaps = generalized_advantage_estimation(
        batch.rewards, values, ahead, *ends, gamma, lam
    )
    return gaps, gaps + values


def _values(net: ActorCritic, seen: Tensor) -> Tensor:
    lead = seen.shape[: -3 if net.critic.seeds is None else 1]
    flat = seen.reshape(*lead, -1, seen.shape[-1])
    return net.values(flat).reshape(seen.shape[:-1])


def a2c_loss(
    judged: Judged,
    gaps: Tensor,
    targets: Tensor,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
) -> Tensor:
    """Return -A log pi(a given s) + c_V (V(s) - target)^2 - c_H entropy, per sample.

    A and the targets are constants: no gradient flows into them. So its gradient is
    minus that of the policy, plus those of the critic's squared error and the bonus.

    Parameters
    ----------
    judged : Judged
        From the net, with gradients.
    gaps, targets : tensor
        Advantages and the critic's targets, of the shape of `judged.logp`.
    value_weight, entropy_weight : float
        c_V and c_H.

    Returns
    -------
    tensor
        Of the same shape; take its mean over the batch.

    Raises
    ------
    ValueError
        If shapes disagree: (B, 1) and (B,) would broadcast to (B, B).

    Notes
    -----
    Source: Mnih et al. (2016), section 4.

    Examples
    --------
    -2 * (-1) + .5 * (1 - 3)^2 - .01 * .5 = 3.995.

    >>> judged = Judged(*(torch.tensor([x]) for x in (-1.0, 0.5, 1.0)))
    >>> a2c_loss(judged, torch.tensor([2.0]), torch.tensor([3.0])).round(decimals=3)
    tensor([3.9950])
    """
    shapes = {tuple(part.shape) for part in (*judged, gaps, targets)}
    if len(shapes) > 1:
        raise ValueError(f"shapes are {sorted(shapes)}: they must agree")
    error = judged.values - targets.detach()
    policy = -gaps.detach() * judged.logp
    return policy + value_weight * error * error - entropy_weight * judged.entropy


def train_a2c(
    world: control.World,
    seeds: int,
    iterations: int,
    generator: torch.Generator,
    settings: Settings | None = None,
    *,
    every: int = 50,
    episodes: int = 20,
) -> Trained:
    """Train N networks by batched advantage actor-critic, all at once.

    One iteration collects T steps in E environments of each seed, estimates the
    advantages by GAE and takes one step of Adam on the mean of :func:`a2c_loss`. Like
    all implementations in use it leaves out gamma^t.

    Parameters
    ----------
    world : World
    seeds : int
        N.
    iterations : int
        Gradient steps, at least 1.
    generator : torch.Generator
        Source of everything; nets and environments lie on its device.
    settings : Settings, optional
    every : int
        Greedy evaluation after so many iterations, and at the end.
    episodes : int
        Whole episodes of an evaluation.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If a count is below 1, or as the functions that it calls.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> made = train_a2c(control.CARTPOLE, 2, 3, generator, every=2, episodes=4)
    >>> made.returns.shape, made.steps.tolist()
    (torch.Size([2, 2]), [512, 768])
    """
    _positive(seeds=seeds, iterations=iterations, every=every, episodes=episodes)
    c = settings or Settings()
    sizes = world.observations, world.actions, world.dimensions
    net = ActorCritic(*sizes, generator, hidden=c.hidden, seeds=seeds)
    optimizer = torch.optim.Adam(net.parameters(), c.lr, eps=1e-5)
    state, seen = control.reset(world, (seeds, c.envs), generator)
    taken, scores = [], []
    for k in range(1, iterations + 1):
        state, seen, batch = collect(world, net, state, seen, c.steps, generator)
        gaps, targets = (
            part.flatten(1) for part in advantages(net, batch, c.gamma, c.lam)
        )
        judged = net.judge(batch.seen.flatten(1, 2), batch.actions.flatten(1, 2))
        loss = a2c_loss(judged, gaps, targets, c.value_weight, c.entropy_weight)
        optimizer.zero_grad()
        loss.mean(1).sum().backward()  # type: ignore[no-untyped-call]
        clip_gradients(net.parameters(), c.most_norm, seeds)
        optimizer.step()
        if k % every == 0 or k == iterations:
            taken.append(k * c.envs * c.steps)
            found = control.evaluate(world, net.act, (seeds, episodes), generator)
            scores.append(found.returns.mean(1))
    return Trained(net, np.array(taken), torch.stack(scores, 1))
