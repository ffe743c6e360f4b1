"""Learning values from samples: Monte Carlo, temporal differences, and control.

Every method here moves an estimate toward a target, V <- V + eta (target - V), and they
differ in the target alone. Two ends of an episode are never merged: where it was
terminated there is nothing more to come and the bootstrap is 0; where a clock truncated
it the world goes on, and the target bootstraps from the state reached.

Prediction takes recorded episodes (:class:`~rlbook_utils.worlds.mdp.Rollout`), one per
replication, and values (N, S); control acts in a world. Both work on all replications
at once. In prediction they are sorted by length, so that those still running are the
first ones; in control a finished replication is dropped. Everything is numpy float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rlbook_utils.worlds.mdp import Array, Bools, Ints, Rollout, Step, TabularMDP

METHODS = ("sarsa", "expected_sarsa", "q_learning", "double_q_learning")
VISITS = ("first", "every")
Mover = Callable[[Ints, Ints], Step]

WORST_CONDITION = 1e12


class Learning(NamedTuple):
    """What N replications of E episodes of control led to.

    `q_values` is (N, S, A), minus infinity for actions that are not allowed; double
    Q-learning returns the mean of its two tables. `returns` (undiscounted), `lengths`
    and `first_actions` (the action taken at t = 0) are (N, E).
    """

    q_values: Array
    returns: Array
    lengths: Ints
    first_actions: Ints


def _check(**numbers: float) -> None:
    """Refuse rates and discounts outside [0, 1], and a learning rate of 0."""
    for name, value in numbers.items():
        if not 0 <= value <= 1 or (name == "lr" and value == 0):
            low = "(" if name == "lr" else "["
            raise ValueError(f"{name} is {value}: it must be in {low}0, 1]")


def _count(**numbers: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} is {value!r}: it must be an integer, at least 1")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(known)}")


def _values(values: ArrayLike, episodes: Rollout, *, pooled: bool = False) -> Array:
    """Return a copy of the values, checked against the episodes."""
    table = np.array(values, dtype=np.float64)
    count, horizon = episodes.rewards.shape
    lead, letters = ((), "(S,)") if pooled else ((count,), f"({count}, S)")
    if table.ndim != len(lead) + 1 or table.shape[:-1] != lead or not table.size:
        raise ValueError(f"values has shape {table.shape}: it must be {letters}")
    if not np.isfinite(table).all():
        raise ValueError(f"values has {table[~np.isfinite(table)][0]}: not finite")
    shape, states = (count, horizon + 1), episodes.states
    if states.shape != shape:
        raise ValueError(f"states has shape {states.shape}: it must be {shape}")
    wrong = states[(states < 0) | (states >= table.shape[-1])]
    if wrong.size:
        raise ValueError(f"episodes visit state {wrong[0]} of {table.shape[-1]}")
    return table


def _visited(episodes: Rollout, visits: str) -> Bools:
    """Return (N, T): the steps taken, or those that are the first from their state."""
    _one_of("visits", visits, VISITS)
    states = episodes.states[:, :-1]
    taken = np.arange(states.shape[1]) < episodes.lengths[:, None]
    if visits == "every":
        return taken
    order = np.argsort(states, axis=1, kind="stable")
    new = np.diff(np.take_along_axis(states, order, 1), axis=1, prepend=-1) != 0
    first = np.empty(states.shape, np.bool_)
    np.put_along_axis(first, order, new, 1)
    return first & taken


def _segments(episodes: Rollout, gamma: float, n: int) -> tuple[Array, Array, Ints]:
    """Return c, w and s_end of the targets c + w V(s_end) of each step, (N, T)."""
    horizon, lengths = episodes.rewards.shape[1], episodes.lengths[:, None]
    steps, n = np.arange(horizon), min(n, horizon)
    sums = np.zeros((len(lengths), horizon + 1))
    for t in reversed(range(horizon)):
        sums[:, t] = episodes.rewards[:, t] + gamma * sums[:, t + 1]
    partial = sums[:, :-1].copy()
    partial[:, : horizon - n + 1] -= gamma**n * sums[:, n:]
    end = np.minimum(steps + n, lengths)
    over = np.asarray(episodes.terminated.any(1))[:, None] & (end == lengths)
    weight = np.where(over, 0.0, gamma ** np.maximum(end - steps, 0))
    return partial, weight, np.take_along_axis(episodes.states, end, 1)


def _longest_first(episodes: Rollout) -> tuple[Ints, Ints]:
    """Return the order of the replications and how many are running at each step."""
    running = _visited(episodes, "every").sum(0)
    return np.argsort(-episodes.lengths, kind="stable"), running[running > 0]


def _in_turn(
    values: Array, episodes: Rollout, gamma: float, rates: Array, n: int
) -> Array:
    """Update V(s_t) for t = 0, 1, ..., each from what the earlier ones left."""
    order, running = _longest_first(episodes)
    parts = (part[order].T for part in (*_segments(episodes, gamma, n), rates))
    partial, weight, end, rate = (np.ascontiguousarray(part) for part in parts)
    base, flat = order * values.shape[1], values.reshape(-1)
    here, end = episodes.states[order, :-1].T + base, end + base
    for t, live in enumerate(running):
        at = here[t, :live]
        target = partial[t, :live] + weight[t, :live] * flat[end[t, :live]]
        flat[at] += rate[t, :live] * (target - flat[at])
    return values


# Prediction, one episode per replication


def monte_carlo(
    values: ArrayLike, episodes: Rollout, gamma: float, lr: float, visits: str = "every"
) -> Array:
    """Return the values after constant-step Monte Carlo on one episode each.

    V(s_t) <- V(s_t) + eta (G_t - V(s_t)) for t = 0, ..., T-1 in turn, at every visit or
    only at the first one to each state. G_t = sum_k gamma^k r_{t+k}, and where the
    episode was truncated gamma^(T-t) V(s_T) is added. Every-visit Monte Carlo is
    :func:`n_step_td` with n >= T. For the sample average see
    :func:`batch_monte_carlo`.

    Parameters
    ----------
    values : (N, S) array
        Estimates before; finite.
    episodes : Rollout
        One episode per replication.
    gamma : float
        Discount, in [0, 1].
    lr : float
        eta, in (0, 1].
    visits : str
        ``"first"`` or ``"every"``.

    Returns
    -------
    (N, S) array
        The values given are left as they were.

    Raises
    ------
    ValueError
        If the values are not finite or do not fit the episodes, or a number or
        `visits` is out of range.

    Notes
    -----
    Source: Sutton and Barto (2018), section 5.1 and equation 6.1.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import random_walk
    >>> rng = np.random.default_rng(0)
    >>> episodes = random_walk(1).rollout([0, 0, 0], 2, 5, rng)
    >>> abs(monte_carlo(np.zeros((2, 3)), episodes, 1.0, 0.5)).tolist()
    [[0.0, 0.5, 0.0], [0.0, 0.5, 0.0]]
    """
    table = _values(values, episodes)
    _check(gamma=gamma, lr=lr)
    rates = np.where(_visited(episodes, visits), lr, 0.0)
    return _in_turn(table, episodes, gamma, rates, rates.shape[1])


def n_step_td(
    values: ArrayLike, episodes: Rollout, gamma: float, lr: float, n: int = 1
) -> Array:
    """Return the values after n-step TD on one episode each.

    V(s_t) <- V(s_t) + eta (G - V(s_t)) with
    G = r_t + ... + gamma^(n-1) r_{t+n-1} + gamma^n V(s_{t+n}), for t = 0, ..., T-1 in
    turn: this is the online algorithm, because the update of t is made before that of
    t + 1 whatever n is. Where the episode ends before t + n, G ends there, with
    gamma^(T-t) V(s_T) if it was truncated. n = 1 is TD(0); n >= T is every-visit
    Monte Carlo.

    Parameters
    ----------
    values : (N, S) array
        Estimates before; finite.
    episodes : Rollout
        One episode per replication.
    gamma : float
        Discount, in [0, 1].
    lr : float
        eta, in (0, 1].
    n : int
        Steps before the bootstrap, at least 1.

    Returns
    -------
    (N, S) array
        The values given are left as they were.

    Raises
    ------
    ValueError
        If the values are not finite or do not fit the episodes, or a number is out of
        range.

    Notes
    -----
    Source: Sutton and Barto (2018), equations 6.2, 7.1 and 7.2.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import random_walk
    >>> rng = np.random.default_rng(0)
    >>> episodes = random_walk(1).rollout([0, 0, 0], 2, 5, rng)
    >>> abs(n_step_td(np.zeros((2, 3)), episodes, 1.0, 0.5)).tolist()
    [[0.0, 0.5, 0.0], [0.0, 0.5, 0.0]]
    """
    table = _values(values, episodes)
    _check(gamma=gamma, lr=lr)
    _count(n=n)
    return _in_turn(table, episodes, gamma, np.full(episodes.rewards.shape, lr), n)


def lambda_returns(
    values: ArrayLike, episodes: Rollout, gamma: float, lam: float
) -> Array:
    """Return the lambda-returns of one episode each, with the values held fixed.

    G_t = r_t + gamma ((1 - lam) V(s_{t+1}) + lam G_{t+1}); G_{T-1} is r_{T-1} where the
    episode was terminated, and r_{T-1} + gamma V(s_T) where it was truncated. lam = 0
    is the target of TD(0), lam = 1 the return. This is the forward view of
    :func:`td_lambda`.

    Parameters
    ----------
    values : (N, S) array
        V; finite.
    episodes : Rollout
        One episode per replication.
    gamma, lam : float
        Discount and lambda, in [0, 1].

    Returns
    -------
    (N, T) array
        0 from the end of an episode on.

    Raises
    ------
    ValueError
        If the values are not finite or do not fit the episodes, or a number is out of
        range.

    Notes
    -----
    Source: Sutton and Barto (2018), equations 12.2 and 12.3.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import random_walk
    >>> rng = np.random.default_rng(0)
    >>> episodes = random_walk(1).rollout([0, 0, 0], 2, 3, rng)
    >>> abs(lambda_returns(np.zeros((2, 3)), episodes, 1.0, 0.5)).tolist()
    [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    table = _values(values, episodes)
    _check(gamma=gamma, lam=lam)
    ahead = np.take_along_axis(table, episodes.states[:, 1:], 1)
    ahead[episodes.terminated] = 0.0
    targets, last = np.empty_like(ahead), episodes.lengths - 1
    later = ahead[:, -1]
    for t in reversed(range(ahead.shape[1])):
        later = np.where(t == last, ahead[:, t], later)
        mixed = (1 - lam) * ahead[:, t] + lam * later
        later = targets[:, t] = episodes.rewards[:, t] + gamma * mixed
    return targets * (np.arange(ahead.shape[1]) <= last[:, None])


def td_lambda(
    values: ArrayLike,
    episodes: Rollout,
    gamma: float,
    lr: float,
    lam: float,
    *,
    online: bool = True,
) -> Array:
    """Return the values after TD(lambda) with accumulating traces on one episode each.

    z <- gamma lam z + [s = s_t] and V <- V + eta delta_t z, where
    delta_t = r_t + gamma V(s_{t+1}) - V(s_t), without V(s_{t+1}) at a true end. Online,
    V changes at each step; offline, the changes are added up with V held fixed and made
    at the end, and then they equal eta sum_t (G_t^lam - V(s_t)) [s = s_t] exactly, with
    the :func:`lambda_returns`. lam = 0, online, is TD(0).

    Parameters
    ----------
    values : (N, S) array
        Estimates before; finite.
    episodes : Rollout
        One episode per replication.
    gamma : float
        Discount, in [0, 1].
    lr : float
        eta, in (0, 1].
    lam : float
        Lambda, in [0, 1].
    online : bool
        Whether to change V at each step.

    Returns
    -------
    (N, S) array
        The values given are left as they were.

    Raises
    ------
    ValueError
        If the values are not finite or do not fit the episodes, or a number is out of
        range.

    Notes
    -----
    Source: Sutton and Barto (2018), equations 12.5 to 12.7.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import random_walk
    >>> rng = np.random.default_rng(0)
    >>> episodes = random_walk(1).rollout([0, 0, 0], 2, 5, rng)
    >>> abs(td_lambda(np.zeros((2, 3)), episodes, 1.0, 0.5, 0.9)).tolist()
    [[0.0, 0.5, 0.0], [0.0, 0.5, 0.0]]
    """
    table = _values(values, episodes)
    _check(gamma=gamma, lr=lr, lam=lam)
    order, running = _longest_first(episodes)
    after = table[order]
    fixed = after if online else after.copy()
    states, rewards = episodes.states[order], episodes.rewards[order]
    going = gamma * ~episodes.terminated[order]
    traces, rows = np.zeros_like(after), np.arange(len(order))
    for t, live in enumerate(running):
        row, here, ahead = rows[:live], states[:live, t], states[:live, t + 1]
        error = rewards[:live, t] + going[:live, t] * fixed[row, ahead]
        error -= fixed[row, here]
        traces[:live] *= gamma * lam
        traces[row, here] += 1
        after[:live] += (lr * error)[:, None] * traces[:live]
    table[order] = after
    return table


# Batches: all episodes are of one replication, replayed for ever


def _fixed_point(
    values: Array, episodes: Rollout, used: Bools, gamma: float, n: int
) -> Array:
    """Solve V(s) = mean over the visits used of c + w V(s_end)."""
    partial, weight, end = _segments(episodes, gamma, n)
    here = episodes.states[:, :-1][used]
    counts = np.bincount(here, minlength=len(values))
    seen = counts > 0
    share = np.zeros((len(values), len(values)))
    np.add.at(share, (here, end[used]), weight[used])
    gains = np.bincount(here, partial[used], len(values))
    system = (np.diag(counts) - share)[np.ix_(seen, seen)]
    if np.linalg.cond(system) > WORST_CONDITION:
        raise ValueError(f"gamma is {gamma}, but some states never lead to an end")
    known = share[np.ix_(seen, ~seen)] @ values[~seen]
    values[seen] = np.linalg.solve(system, gains[seen] + known)
    return values


def batch_td(values: ArrayLike, episodes: Rollout, gamma: float, n: int = 1) -> Array:
    """Return what n-step TD converges to when a batch is replayed for ever.

    Small steps end where the errors at each state add up to 0: V(s) is the mean, over
    all visits to s, of r_t + ... + gamma^n V(s_{t+n}), a linear system. n = 1 is the
    value of s in the empirical MDP (certainty equivalence); n >= T is every-visit
    :func:`batch_monte_carlo`.

    Parameters
    ----------
    values : (S,) array
        Estimates of the states from which no step was taken: they keep these, and are
        bootstrapped from after a truncation.
    episodes : Rollout
        The batch; its N episodes count alike.
    gamma : float
        Discount, in [0, 1].
    n : int
        Steps before the bootstrap, at least 1.

    Returns
    -------
    (S,) array

    Raises
    ------
    ValueError
        If the values are not finite or do not fit the episodes, a number is out of
        range, or gamma = 1 and the batch holds states that never lead to an end.

    Notes
    -----
    Source: Sutton and Barto (2018), section 6.3; Sutton (1988), theorem 3.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> rng = np.random.default_rng(0)
    >>> world = grid_1d(5, gamma=0.5)
    >>> episodes = world.rollout([1, 1, 1, 1, 1], 2, 5, rng)
    >>> batch_td(np.zeros(5), episodes, 0.5).tolist()
    [0.0, 0.0, 0.5, 1.0, 0.0]
    """
    table = _values(values, episodes, pooled=True)
    _check(gamma=gamma)
    _count(n=n)
    return _fixed_point(table, episodes, _visited(episodes, "every"), gamma, n)


def batch_monte_carlo(
    values: ArrayLike, episodes: Rollout, gamma: float, visits: str = "every"
) -> Array:
    """Return the mean return from each state: what batch Monte Carlo converges to.

    V(s) is the mean of G_t over all visits to s, or over the first of each episode.
    Over every visit this minimizes sum_t (G_t - V(s_t))^2. Truncated episodes
    bootstrap from V(s_T), which makes it a linear system.

    Parameters
    ----------
    values : (S,) array
        Estimates of the states from which no step was taken: they keep these, and are
        bootstrapped from after a truncation.
    episodes : Rollout
        The batch; its N episodes count alike.
    gamma : float
        Discount, in [0, 1].
    visits : str
        ``"first"`` or ``"every"``.

    Returns
    -------
    (S,) array

    Raises
    ------
    ValueError
        If the values are not finite or do not fit the episodes, gamma or `visits` is
        out of range, or gamma = 1 and the batch holds states that never lead to an end.

    Notes
    -----
    Source: Sutton and Barto (2018), sections 5.1 and 6.3.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> rng = np.random.default_rng(0)
    >>> world = grid_1d(5, gamma=0.5)
    >>> episodes = world.rollout([1, 1, 1, 1, 1], 2, 5, rng)
    >>> batch_monte_carlo(np.zeros(5), episodes, 0.5).tolist()
    [0.0, 0.0, 0.5, 1.0, 0.0]
    """
    table = _values(values, episodes, pooled=True)
    _check(gamma=gamma)
    used = _visited(episodes, visits)
    return _fixed_point(table, episodes, used, gamma, used.shape[1])


# Control


def _allowed(allowed: ArrayLike | None, world: TabularMDP) -> Bools:
    shape = world.states, world.actions
    mask = np.asarray(np.ones(shape) if allowed is None else allowed, np.bool_)
    if mask.shape != shape:
        raise ValueError(f"allowed has shape {mask.shape}: it must be {shape}")
    if not mask.any(1).all():
        raise ValueError(f"allowed has no action in state {mask.any(1).argmin()}")
    return mask


def _check_ends(world: TabularMDP, allowed: Bools) -> None:
    """Refuse a world without a clock where some state cannot end."""
    ends, before = world.terminal, 0
    while ends.sum() > before:
        before = int(ends.sum())
        into = (ends[world.successors] & (world.probabilities > 0)).any(-1).T
        ends = ends | (into & allowed).any(1)
    if not ends.all():
        raise ValueError(f"horizon is None, but state {ends.argmin()} cannot end")


def _mover(world: TabularMDP, rng: np.random.Generator) -> Mover:
    if world.successors.shape[2] > 1:
        return lambda state, action: world.step(state, action, rng)
    paid = world.r.T if world.rewards is None else world.rewards[..., 0]
    gains, moves = np.ravel(paid), np.ravel(world.successors[..., 0])

    def move(state: Ints, action: Ints) -> Step:
        place = action * world.states + state
        after = moves[place]
        return Step(gains[place], after, world.terminal[after])

    return move


def _greedy(q: Array, explore: float | Array, epsilon: float) -> Array:
    """Return epsilon-greedy probabilities (A, n), the greedy share split over ties."""
    best = q == q.max(0)
    return np.asarray(best * ((1 - epsilon) / best.sum(0)) + explore)


def _pick(weights: Array, rng: np.random.Generator) -> Ints:
    """Return one row per column of weights (A, n), which become their running sums."""
    for k in range(1, len(weights)):
        weights[k] += weights[k - 1]
    below = weights[:-1] <= rng.random(weights.shape[1]) * weights[-1]
    return np.asarray(below.sum(0))


class _Run(NamedTuple):
    """A run of control; Q is (tables, A, N S), `explore` is (A, S) or (A, 1)."""

    world: TabularMDP
    method: str
    lr: float
    epsilon: float
    explore: Array
    q: Array
    rng: np.random.Generator


def _behavior(run: _Run, q: Array, state: Ints) -> Array:
    explore = run.explore if len(run.explore.T) == 1 else run.explore[:, state]
    return _greedy(q, explore, run.epsilon)


def _act(run: _Run, rows: Ints, state: Ints) -> Ints:
    held = run.q.take(rows, axis=2)
    q = held[0] if len(held) == 1 else held[0] + held[1]
    return _pick(_behavior(run, q, state), run.rng)


def _ahead(run: _Run, rows: Ints, after: Ints, table: Ints) -> Array:
    """Return the bootstrap (n,) of the methods that need no next action."""
    if run.method == "double_q_learning":
        _, actions, width = run.q.shape
        flat, place = run.q.reshape(-1), np.arange(actions)[:, None] * width + rows
        mine = flat.take(place + table * run.q[0].size)
        best = _pick(_greedy(mine, 0.0, 0.0), run.rng)
        other = ((1 - table) * actions + best) * width + rows
        return np.asarray(flat.take(other))
    q = run.q[0].take(rows, axis=1)
    if run.method == "q_learning":
        return np.asarray(q.max(0))
    pi = _behavior(run, q, after)
    return np.asarray((pi * np.where(pi > 0, q, 0.0)).sum(0))


def _update(run: _Run, base: Ints, state: Ints, action: Ints, step: Step) -> Ints:
    """Change Q in place and return the next actions, which only Sarsa has chosen."""
    flat, rows, width = run.q.reshape(-1), base + step.next_state, run.q.shape[2]
    place = action * width + base + state
    if run.method == "sarsa":
        action = _act(run, rows, step.next_state)
        ahead = flat[action * width + rows]
    else:
        table = np.zeros(1, np.intp)
        if len(run.q) > 1:
            table = run.rng.integers(len(run.q), size=len(base))
            place += table * run.q[0].size
        ahead = _ahead(run, rows, step.next_state, table)
    target = step.reward + run.world.gamma * np.where(step.terminated, 0.0, ahead)
    old = flat[place]
    flat[place] = old + run.lr * (target - old)
    return action


def _learn(run: _Run, logs: Learning, limit: float) -> None:
    """Run all replications to their last episode; Q and the logs change in place."""
    (count, episodes), world = logs.returns.shape, run.world
    move, state = _mover(world, run.rng), world.reset(count, run.rng)
    who, total = np.arange(count), np.zeros(count)
    episode, clock, action = np.zeros((3, count), np.intp)
    while len(who):
        base = who * world.states
        fresh = (clock == 0).nonzero()[0]
        if run.method == "sarsa":
            action[fresh] = _act(run, base[fresh] + state[fresh], state[fresh])
        else:
            action = _act(run, base + state, state)
        logs.first_actions[who[fresh], episode[fresh]] = action[fresh]
        step = move(state, action)
        action, state = _update(run, base, state, action, step), step.next_state
        total += step.reward
        clock += 1
        over = (step.terminated | (clock >= limit)).nonzero()[0]
        logs.returns[who[over], episode[over]] = total[over]
        logs.lengths[who[over], episode[over]] = clock[over]
        state[over] = world.reset(len(over), run.rng)
        total[over], clock[over] = 0.0, 0
        episode[over] += 1
        if episode.max() == episodes:
            keep = np.flatnonzero(episode < episodes)
            who, episode, clock = who[keep], episode[keep], clock[keep]
            state, action, total = state[keep], action[keep], total[keep]


def control(
    world: TabularMDP,
    method: str,
    episodes: int,
    replications: int,
    rng: np.random.Generator,
    *,
    lr: float = 0.5,
    epsilon: float = 0.1,
    horizon: int | None = None,
    initial: float = 0.0,
    allowed: ArrayLike | None = None,
) -> Learning:
    """Learn Q by acting epsilon-greedily, and return what happened.

    Q(s_t, a_t) <- Q(s_t, a_t) + eta (y_t - Q(s_t, a_t)), y_t = r_t + gamma B, with B

    - ``"sarsa"``: Q(s_{t+1}, a_{t+1}), a_{t+1} being the action that is then taken;
    - ``"expected_sarsa"``: sum_a pi(a given s_{t+1}) Q(s_{t+1}, a), pi epsilon-greedy;
    - ``"q_learning"``: max_a Q(s_{t+1}, a);
    - ``"double_q_learning"``: Q_2(s_{t+1}, argmax_a Q_1(s_{t+1}, a)) for the table Q_1
      that a coin chose to update; actions are epsilon-greedy in Q_1 + Q_2.

    B = 0 where the step terminated the episode, and only there: the last step of a
    truncated one bootstraps from the state reached. Ties are broken uniformly at
    random, in acting and in the argmax of double Q-learning. With
    epsilon = 0 Sarsa, Expected Sarsa and Q-learning have the same target.

    Parameters
    ----------
    world : TabularMDP
        Its gamma is the discount.
    method : str
        One of the four above.
    episodes, replications : int
        E and N, at least 1.
    rng : numpy.random.Generator
        Source of all numbers.
    lr : float
        eta, in (0, 1].
    epsilon : float
        Probability of exploring, in [0, 1].
    horizon : int, optional
        Steps after which an episode is truncated. Needed where the world may not end;
        advisable with epsilon = 0, when a greedy policy may run in circles.
    initial : float
        Q before the first step. Terminal states keep it and nothing reads it.
    allowed : (S, A) array of bool, optional
        Actions that each state has; default all.

    Returns
    -------
    Learning
        Q at the end, and the record of each episode.

    Raises
    ------
    ValueError
        If the method is unknown, a number is out of range, `allowed` has another shape
        or leaves a state without actions, an episode may start at its end, or there is
        no horizon and some state from which no episode can end.

    Notes
    -----
    Source: Sutton and Barto (2018), equations 6.7 to 6.10; van Hasselt (2010).

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> rng = np.random.default_rng(0)
    >>> run = control(grid_1d(5, gamma=0.5), "q_learning", 500, 3, rng)
    >>> run.q_values[0, 1:4].round(3).tolist()
    [[0.0, 0.25], [0.125, 0.5], [0.25, 1.0]]
    """
    mask = _allowed(allowed, world)
    _one_of("method", method, METHODS)
    _check(lr=lr, epsilon=epsilon)
    _count(episodes=episodes, replications=replications)
    if not math.isfinite(initial):
        raise ValueError(f"initial is {initial}: it must be finite")
    if world.start[world.terminal].any():
        raise ValueError(f"state {(world.start * world.terminal).argmax()} is an end")
    if horizon is None:
        _check_ends(world, mask)
    else:
        _count(horizon=horizon)
    columns = 1 if mask.all() else world.states
    explore = epsilon * (mask / mask.sum(1, keepdims=True)).T[:, :columns]
    tables = 2 if method == "double_q_learning" else 1
    before = np.where(mask, initial, -math.inf).T
    q = np.ascontiguousarray(np.tile(before, (tables, 1, replications)))
    shape = replications, episodes
    logs = Learning(q, np.zeros(shape), *np.zeros((2, *shape), np.intp))
    run = _Run(world, method, lr, epsilon, explore, q, rng)
    _learn(run, logs, math.inf if horizon is None else horizon)
    final = q.mean(0).reshape(world.actions, replications, world.states)
    return logs._replace(q_values=np.ascontiguousarray(np.moveaxis(final, 0, 2)))
