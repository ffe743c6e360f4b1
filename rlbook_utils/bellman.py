"""Dynamic programming: policy evaluation, policy iteration, value iteration.

The Bellman operators of a known world, with V(terminal) = 0:

- (T_pi V)(s) = sum_a pi(a given s) [r(s, a) + gamma sum_s' P(s' given s, a) V(s')];
- (T V)(s) = max_a [r(s, a) + gamma sum_s' P(s' given s, a) V(s')]. The maximum over the
  *next* action sits inside V(s'), hence inside the expectation over s'.

Both contract: ||T V - T W|| <= gamma ||V - W|| in the sup norm. Every solver stops by a
bound that follows from it, and so returns values with a guaranteed error:

- span rule (synchronous sweeps): with low and high the least and the largest entry of
  T V - V, the fixed point lies between T V + c low and T V + c high, where
  c = gamma/(1 - gamma). The midpoint is returned, and `bound` is c (high - low)/2;
- sup rule (sweeps in place): `bound` is c max |new - old|.

To both, `bound` adds what rounding in each backup can amount to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlbook_utils.worlds.mdp import TabularMDP, improve

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]
Sweep = Callable[[Array, Array], None]

EPSILON = float(np.finfo(np.float64).eps)


class Evaluation(NamedTuple):
    """What iterative policy evaluation found.

    `values` (S,); `residuals`, the sup norm of the change of each measured sweep;
    `bound`, a guarantee on ||values - V_pi||, infinite with gamma = 1; `sweeps` done.
    """

    values: Array
    residuals: Array
    bound: float
    sweeps: int


class Solution(NamedTuple):
    """What a control method found.

    `values` (S,); `policy` (S,), greedy for them; `residuals`, the sup norm of the
    change of each measured sweep; `bound`, a guarantee on ||values - V*||, infinite
    with gamma = 1; `sweeps` done.
    """

    values: Array
    policy: Ints
    residuals: Array
    bound: float
    sweeps: int


class _Stop(NamedTuple):
    """When to stop, how often to look, and which rule bounds the error."""

    tolerance: float
    sweeps: int | None
    every: int
    span: bool


def q_from_v(mdp: TabularMDP, values: ArrayLike) -> Array:
    """Return Q from V by one step of the model.

    Q(s, a) = r(s, a) + gamma sum_s' P(s' given s, a) V(s').

    Parameters
    ----------
    mdp : TabularMDP
    values : (S,) array
        Terminal states count as 0.

    Returns
    -------
    (S, A) array

    Notes
    -----
    Source: Sutton and Barto (2018), equation 4.6.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> q_from_v(grid_1d(4, gamma=0.5), [0.0, 0.5, 1.0, 0.0])[1].tolist()
    [0.0, 0.5]
    """
    return mdp.q_values(values)


def v_from_q(q_values: ArrayLike, policy: ArrayLike | None = None) -> Array:
    """Return V from Q: V(s) = sum_a pi(a given s) Q(s, a), or max_a Q(s, a).

    Parameters
    ----------
    q_values : (S, A) array
    policy : (S, A) array, optional
        Probabilities; None takes the maximum.

    Returns
    -------
    (S,) array

    Raises
    ------
    ValueError
        If the shapes disagree.

    Examples
    --------
    >>> v_from_q([[1.0, 3.0]]).tolist(), v_from_q([[1.0, 3.0]], [[0.5, 0.5]]).tolist()
    ([3.0], [2.0])
    """
    table = np.asarray(q_values, np.float64)
    if policy is None:
        return np.asarray(table.max(1))
    pi = np.asarray(policy, np.float64)
    if pi.shape != table.shape:
        raise ValueError(f"policy has shape {pi.shape}, q_values {table.shape}")
    return np.asarray((pi * table).sum(1))


def greedy_actions(q_values: ArrayLike, tolerance: float = 1e-9) -> Bools:
    """Return all greedy actions: Q(s, a) >= max_b Q(s, b) - tolerance.

    Parameters
    ----------
    q_values : (S, A) array
    tolerance : float
        Absolute difference that counts as a tie, >= 0; choose it above twice the error
        of `q_values`.

    Returns
    -------
    (S, A) array of bool
        At least one per row. Divided by its row sums it is the policy that breaks ties
        at random.

    Raises
    ------
    ValueError
        If `tolerance` is negative.

    Examples
    --------
    >>> greedy_actions([[1.0, 1.0, 0.0]]).tolist()
    [[True, True, False]]
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}: it must be at least 0")
    table = np.asarray(q_values, np.float64)
    return np.asarray(table >= table.max(1, keepdims=True) - tolerance)


def _check(mdp: TabularMDP, stop: _Stop) -> None:
    for name, count in (("sweeps", stop.sweeps), ("every", stop.every)):
        if count is not None and (count < 1 or count != int(count)):
            raise ValueError(
                f"{name} is {count}: it must be a whole number, at least 1"
            )
    if stop.sweeps is not None:
        return
    if mdp.gamma == 1:
        raise ValueError(
            "gamma is 1: no contraction bounds the error. Give a number of sweeps, or "
            "use the exact mdp.evaluate and mdp.solve"
        )
    least = 16 * EPSILON * max(float(np.abs(mdp.r).max()), EPSILON)
    least /= (1 - mdp.gamma) ** 2
    if not stop.tolerance >= least:
        raise ValueError(
            f"tolerance is {stop.tolerance}: float64 guarantees no better than "
            f"{least:.1e} here"
        )


def _rounding(mdp: TabularMDP, values: Array) -> float:
    """Return the error that a few units in the last place of every backup allow."""
    return 8 * EPSILON * float(np.abs(values).max()) / (1 - mdp.gamma)


def _first_values(mdp: TabularMDP, values: ArrayLike | None) -> Array:
    if values is None:
        return np.zeros(mdp.states)
    given = np.asarray(values, np.float64)
    if given.shape != (mdp.states,) or not np.isfinite(given).all():
        raise ValueError(
            f"values has shape {given.shape}: it must be ({mdp.states},) and finite"
        )
    return np.where(mdp.terminal, 0.0, given)


def _fixed_point(
    mdp: TabularMDP, sweep: Sweep, first: Array, stop: _Stop
) -> Evaluation:
    """Repeat new = sweep(old) until the bound holds or the sweeps are done."""
    factor = mdp.gamma / (1 - mdp.gamma) if mdp.gamma < 1 else math.inf
    centered = stop.span and stop.sweeps is None
    old, new = first.copy(), np.empty_like(first)
    change, residuals, done = np.empty_like(first), [], 0
    while True:
        sweep(old, new)
        done += 1
        if done % stop.every == 0 or done == stop.sweeps:
            np.subtract(new, old, out=change)
            low, high = float(change.min()), float(change.max())
            residuals.append(max(-low, high))
            bound = math.inf
            if mdp.gamma < 1:
                spread = (high - low) / 2 if centered else residuals[-1]
                bound = factor * spread + _rounding(mdp, new)
            if done == stop.sweeps or (stop.sweeps is None and bound <= stop.tolerance):
                if centered:
                    new[~mdp.terminal] += factor * (low + high) / 2
                return Evaluation(new, np.array(residuals), bound, done)
        old, new = new, old


def _policy_sweep(mdp: TabularMDP, pi: ArrayLike) -> Sweep:
    """Return one synchronous application of T_pi."""
    table = mdp.policy(pi)
    if not ((table == 0) | (table == 1)).all():
        backup, weights = mdp.backup(), np.ascontiguousarray(table.T)

        def average(old: Array, new: Array) -> None:
            np.einsum("as,as->s", weights, backup(old), out=new)

        return average
    return _follow(_rows(mdp, table.argmax(1), np.arange(mdp.states)))


def _rows(mdp: TabularMDP, actions: Ints, states: Ints) -> tuple[Array, Ints, Array]:
    """Return r (n,), successors and gamma P (m, n) of an action in each of n states."""
    after = np.ascontiguousarray(mdp.successors[actions, states].T)
    weights = np.ascontiguousarray(mdp.probabilities[actions, states].T)
    return mdp.r[states, actions], after, mdp.gamma * weights


def _follow(rows: tuple[Array, Ints, Array]) -> Sweep:
    """Return one synchronous application of T_pi, pi one action per state."""
    reward, after, weights = rows
    near = np.empty(after.shape)

    def follow(old: Array, new: Array) -> None:
        np.take(old, after, out=near, mode="clip")
        np.multiply(near, weights, out=near)
        np.sum(near, axis=0, out=new)
        np.add(new, reward, out=new)

    return follow


def _in_place_sweep(mdp: TabularMDP, table: Array | None) -> Sweep:
    """Return one Gauss-Seidel sweep: state by state, the newest values used at once."""

    def sweep(old: Array, new: Array) -> None:
        new[:] = old
        for state in range(mdp.states):
            q = _state_q(mdp, new, state)
            new[state] = q.max() if table is None else table[state] @ q

    return sweep


def _state_q(mdp: TabularMDP, values: Array, state: int | Ints) -> Array:
    """Return Q (..., A) of some states alone."""
    after = values[mdp.successors[:, state]]
    expected = (mdp.probabilities[:, state] * after).sum(-1)
    return np.asarray(mdp.r[state] + mdp.gamma * expected.T)


def policy_evaluation(
    mdp: TabularMDP,
    policy: ArrayLike,
    *,
    tolerance: float = 1e-10,
    sweeps: int | None = None,
    in_place: bool = False,
    values: ArrayLike | None = None,
    every: int = 1,
) -> Evaluation:
    """Evaluate a policy by repeated sweeps, V <- T_pi V.

    A synchronous sweep uses the old values of all states; one in place uses each new
    value at once, which needs one array and usually fewer sweeps (but is a plain loop
    over states here).

    Parameters
    ----------
    mdp : TabularMDP
    policy : (S,) array of int or (S, A) array
        Actions or probabilities.
    tolerance : float
        Guaranteed sup-norm error of the result.
    sweeps : int, optional
        Do exactly so many, with no correction of the values, whatever `tolerance`.
    in_place : bool
    values : (S,) array, optional
        Where to begin; default 0. Terminal states are set to 0.
    every : int
        Measure the residual after every so many sweeps.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If gamma = 1 without `sweeps`, `tolerance` is below what float64 can guarantee,
        a count is below 1, or `policy` or `values` is none.

    Notes
    -----
    Source: Sutton and Barto (2018), section 4.1; Puterman (2005), section 6.3 (bounds).

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import frozen_lake
    >>> world = frozen_lake(gamma=0.9)
    >>> found = policy_evaluation(world, [2] * 16, tolerance=1e-6)
    >>> bool(np.abs(found.values - world.evaluate([2] * 16)).max() <= found.bound)
    True
    """
    stop = _Stop(tolerance, sweeps, every, span=not in_place)
    _check(mdp, stop)
    if in_place:
        sweep = _in_place_sweep(mdp, mdp.policy(policy))
    else:
        sweep = _policy_sweep(mdp, policy)
    return _fixed_point(mdp, sweep, _first_values(mdp, values), stop)


def _control(mdp: TabularMDP, found: Evaluation) -> Solution:
    greedy = mdp.q_values(found.values).argmax(1)
    return Solution(found.values, greedy, *found[1:])


def value_iteration(
    mdp: TabularMDP,
    *,
    tolerance: float = 1e-10,
    sweeps: int | None = None,
    gauss_seidel: bool = False,
    values: ArrayLike | None = None,
    every: int = 1,
) -> Solution:
    """Find V* by repeated sweeps, V <- T V.

    After k synchronous sweeps ||V_k - V*|| <= gamma^k ||V_0 - V*||. The greedy policy
    of the result loses at most 2 gamma/(1 - gamma) times `bound`.

    Parameters
    ----------
    mdp : TabularMDP
    tolerance : float
        Guaranteed sup-norm error of the result.
    sweeps : int, optional
        Do exactly so many, with no correction of the values, whatever `tolerance`.
    gauss_seidel : bool
        Sweep state by state in place (a plain loop) instead of synchronously.
    values : (S,) array, optional
        Where to begin; default 0. Terminal states are set to 0.
    every : int
        Measure the residual after every so many sweeps.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError
        As :func:`policy_evaluation`.

    Notes
    -----
    Source: Bellman (1957); Sutton and Barto (2018), section 4.4; Puterman (2005),
    sections 6.3.3 (Gauss-Seidel) and 6.6 (bounds of MacQueen and Porteus).

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> value_iteration(grid_1d(5, gamma=0.5)).policy.tolist()[1:-1]
    [1, 1, 1]
    """
    stop = _Stop(tolerance, sweeps, every, span=not gauss_seidel)
    _check(mdp, stop)
    chosen = _in_place_sweep(mdp, None) if gauss_seidel else mdp.best_backup()
    return _control(mdp, _fixed_point(mdp, chosen, _first_values(mdp, values), stop))


def modified_policy_iteration(
    mdp: TabularMDP,
    *,
    backups: int = 20,
    tolerance: float = 1e-10,
    values: ArrayLike | None = None,
) -> Solution:
    """Find V* by greedy improvement and a few sweeps of evaluation in turn.

    Each iteration sets W = T V, takes the greedy policy of V (the incumbent on ties)
    and applies T_pi to W `backups` times. With 0 backups it is value iteration, with
    infinitely many policy iteration.

    Parameters
    ----------
    mdp : TabularMDP
    backups : int
        Sweeps of evaluation per improvement, >= 0.
    tolerance : float
        Guaranteed sup-norm error of the result.
    values : (S,) array, optional
        Where to begin; default min(0, min r)/(1 - gamma), from where values only rise.
        Terminal states are set to 0.

    Returns
    -------
    Solution
        `residuals` has ||T V - V|| of each improvement; `sweeps` counts all sweeps.

    Raises
    ------
    ValueError
        If `backups` < 0, and as :func:`policy_evaluation`.

    Notes
    -----
    Source: Puterman and Shin (1978); Puterman (2005), section 6.5.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import frozen_lake
    >>> world = frozen_lake()
    >>> found = modified_policy_iteration(world, tolerance=1e-8)
    >>> bool(np.abs(found.values - world.solve().values).max() <= 1e-8)
    True
    """
    if backups < 0:
        raise ValueError(f"backups is {backups}: it must be at least 0")
    _check(mdp, _Stop(tolerance, None, 1, span=True))
    backup, factor = mdp.backup(), mdp.gamma / (1 - mdp.gamma)
    lowest = min(0.0, float(mdp.r.min())) / (1 - mdp.gamma)
    old = _first_values(mdp, np.full(mdp.states, lowest) if values is None else values)
    new, residuals, here = np.empty_like(old), [], np.arange(mdp.states)
    policy = np.zeros(mdp.states, np.intp)
    rows = _rows(mdp, policy, here)
    follow = _follow(rows)
    while True:
        q = backup(old)
        np.max(q, axis=0, out=new)
        change = new - old
        low, high = float(change.min()), float(change.max())
        residuals.append(max(-low, high))
        bound = factor * (high - low) / 2 + _rounding(mdp, new)
        done = len(residuals) + (len(residuals) - 1) * backups
        if bound <= tolerance:
            new[~mdp.terminal] += factor * (low + high) / 2
            return _control(mdp, Evaluation(new, np.array(residuals), bound, done))
        # However little is better: news from afar is tiny, and the bound ends it all.
        better = np.flatnonzero(q[policy, here] < new)
        policy[better] = q[:, better].argmax(0)
        for held, row in zip(rows, _rows(mdp, policy[better], better), strict=True):
            held[..., better] = row
        for _ in range(backups):
            old, new = new, old
            follow(old, new)
        old, new = new, old


def policy_iteration(mdp: TabularMDP, policy: ArrayLike | None = None) -> Solution:
    """Find V* by exact evaluation and greedy improvement in turn.

    pi_{k+1} is greedy for V_{pi_k} and keeps the action of pi_k on ties, so it stops:
    each change is a strict improvement and policies are finitely many.

    Parameters
    ----------
    mdp : TabularMDP
        At most 5,000 states: evaluation solves an S x S system.
    policy : (S,) array of int, optional
        Where to begin; default action 0 everywhere. With gamma = 1 it must end from
        every state.

    Returns
    -------
    Solution
        `residuals` has ||T V - V|| of each policy, `bound` is that of the last times
        1/(1 - gamma); `sweeps` counts the policies evaluated.

    Raises
    ------
    ValueError
        If `policy` is not (S,) of actions; as :meth:`TabularMDP.evaluate`.

    Notes
    -----
    Source: Howard (1960); Sutton and Barto (2018), section 4.3.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import frozen_lake
    >>> found = policy_iteration(frozen_lake())
    >>> found.values[0].round(4), found.bound < 1e-10
    (np.float64(0.542), True)
    """
    begin = np.zeros(mdp.states, np.intp) if policy is None else np.asarray(policy)
    if begin.ndim != 1:
        raise ValueError(f"policy has shape {begin.shape}: it must be ({mdp.states},)")
    current, residuals, total = mdp.policy(begin).argmax(1), [], -math.inf
    while True:
        values = mdp.evaluate(current)
        q = mdp.q_values(values)
        residuals.append(float(np.abs(q.max(1) - values).max()))
        better = improve(q, current)
        # Rounding can call a tie an improvement; values that do not rise tell.
        if np.array_equal(better, current) or not values.sum() > total:
            bound = math.inf
            if mdp.gamma < 1:
                bound = residuals[-1] / (1 - mdp.gamma) + _rounding(mdp, values)
            count = len(residuals)
            return Solution(values, current, np.array(residuals), bound, count)
        current, total = better, float(values.sum())


def prioritized_value_iteration(
    mdp: TabularMDP,
    *,
    tolerance: float = 1e-10,
    sweeps: int | None = None,
    values: ArrayLike | None = None,
) -> Solution:
    """Find V* by backing up the state with the largest Bellman error, one at a time.

    V(s) <- (T V)(s) for s = argmax |T V - V|; then the errors of the states that can
    lead to s are computed anew, so the largest error is always known exactly and
    ||V - V*|| <= max |T V - V|/(1 - gamma).

    Parameters
    ----------
    mdp : TabularMDP
    tolerance : float
        Guaranteed sup-norm error of the result.
    sweeps : int, optional
        Do at most so many times S backups, whatever `tolerance`.
    values : (S,) array, optional
        Where to begin; default 0. Terminal states are set to 0.

    Returns
    -------
    Solution
        `residuals` has the largest error after each S backups and at the end.

    Raises
    ------
    ValueError
        As :func:`policy_evaluation`.

    Notes
    -----
    Source: Moore and Atkeson (1993), Prioritized sweeping; Sutton and Barto (2018),
    section 8.4.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> prioritized_value_iteration(grid_1d(5, gamma=0.5)).values.tolist()
    [0.0, 0.25, 0.5, 1.0, 0.0]
    """
    _check(mdp, _Stop(tolerance, sweeps, 1, span=False))
    current = _first_values(mdp, values)
    sources = _predecessors(mdp)
    targets = mdp.q_values(current).max(1)
    errors, residuals, count = np.abs(targets - current), [], 0
    # The other half of the tolerance is for rounding.
    goal = 0.0 if sweeps is not None else tolerance * (1 - mdp.gamma) / 2
    last = math.inf if sweeps is None else sweeps * mdp.states
    while errors.max() > goal and count < last:
        state = int(errors.argmax())
        current[state] = targets[state]
        errors[state] = 0.0
        touched = sources[state]
        targets[touched] = _state_q(mdp, current, touched).max(-1)
        errors[touched] = np.abs(targets[touched] - current[touched])
        count += 1
        if count % mdp.states == 0:
            residuals.append(float(errors.max()))
    residuals.append(float(errors.max()))
    bound = math.inf
    if mdp.gamma < 1:
        bound = residuals[-1] / (1 - mdp.gamma) + _rounding(mdp, current)
    done = -(-count // mdp.states)
    return _control(mdp, Evaluation(current, np.array(residuals), bound, done))


def _predecessors(mdp: TabularMDP) -> list[Ints]:
    """Return, per state, the states that can lead to it, without repetition."""
    action, source, which = np.nonzero(mdp.probabilities)
    target = mdp.successors[action, source, which]
    pairs = np.unique(target * mdp.states + source)
    edges = np.searchsorted(pairs, np.arange(1, mdp.states) * mdp.states)
    return np.split(pairs % mdp.states, edges)
