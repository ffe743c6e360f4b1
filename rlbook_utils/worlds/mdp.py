"""Tabular Markov decision processes: exact values, samples, and the standard examples.

A world of S states and A actions pays r_t = r(s_t, a_t) for the action taken at t and
moves to s_{t+1} ~ P(. given s_t, a_t). Reaching a terminal state ends the episode; the
state then stays where it is and pays 0, so its value is 0 and nothing special remains
to be done in a Bellman equation. A clock is no part of the world: running out of it is
:attr:`Rollout.truncated`, never `terminated`.

Transitions are held by successors: `successors` and `probabilities`, (A, S, m), for
the at most m states that can follow, so memory grows with S and not with S^2.
Everything is numpy float64.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)
Backup = Callable[[Array], Array]

SUM_TOLERANCE = 1e-9
MOST_DENSE = 5000
FEW_STATES = 200
MOST_TRAJECTORIES = 10**5
NEARLY_ONE = 1 - 1e-6


class Step(NamedTuple):
    """What N actions led to: reward (N,), next_state (N,), terminated (N,)."""

    reward: Array
    next_state: Ints
    terminated: Bools


class Rollout(NamedTuple):
    """N episodes of at most T steps.

    `states` is (N, T + 1); `actions`, `rewards`, `terminated` and `truncated` are
    (N, T); `lengths` is (N,). From the end of an episode on, its state stays, actions
    are -1, rewards 0. `terminated` is true at the step that reached a terminal state,
    `truncated` at step T of an episode that has not.
    """

    states: Ints
    actions: Ints
    rewards: Array
    terminated: Bools
    truncated: Bools
    lengths: Ints


class Trajectories(NamedTuple):
    """All n trajectories of T steps that have positive probability.

    `probabilities` and `returns` (discounted, from t = 0) are (n,), `states` is
    (n, T + 1), `actions` and `rewards` are (n, T), padded as in :class:`Rollout`.
    """

    probabilities: Array
    returns: Array
    states: Ints
    actions: Ints
    rewards: Array


class Optimum(NamedTuple):
    """The optimal values (S,) and a deterministic optimal policy (S,)."""

    values: Array
    policy: Ints


def _first(wrong: Bools) -> tuple[int, ...]:
    return tuple(int(k) for k in np.argwhere(wrong)[0])


def _states_last(array: NDArray[T]) -> NDArray[T]:
    """Return (A, S, m) with the states contiguous in memory: what the kernels read."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, 2)), 1, 2)


def _to_successors(dense: Array) -> Ints:
    """Return the indices (A, S, m) of the non-zero entries of P (A, S, S)."""
    most = max(1, int((dense != 0).sum(-1).max()))
    return np.argsort(dense == 0, axis=-1, kind="stable")[..., :most]


def _check_shapes(table: Array, successors: Ints | None) -> None:
    dense = successors is None
    letters = "(A, S, S)" if dense else "(A, S, m)"
    fits = table.ndim == 3 and (not dense or table.shape[1] == table.shape[2])
    if not fits or table.size == 0:
        raise ValueError(f"transitions has shape {table.shape}: it must be {letters}")
    if successors is not None and successors.shape != table.shape:
        raise ValueError(
            f"successors has shape {successors.shape}, transitions {table.shape}: "
            "they must agree"
        )


def _check_rows(table: Array) -> None:
    for action, rows in enumerate(table):
        wrong = ~np.isfinite(rows) | (rows < 0)
        if wrong.any():
            state, place = _first(wrong)
            raise ValueError(
                f"state {state}, action {action} has probability {rows[state, place]}"
            )
        sums = rows.sum(-1)
        off = np.abs(sums - 1) > SUM_TOLERANCE
        if off.any():
            (state,) = _first(off)
            raise ValueError(
                f"state {state}, action {action}: probabilities sum to "
                f"{sums[state]:.12g}, not 1"
            )


def _check_successors(successors: Ints, states: int) -> None:
    wrong = (successors < 0) | (successors >= states)
    if wrong.any():
        action, state, place = _first(wrong)
        raise ValueError(
            f"state {state}, action {action} leads to state "
            f"{successors[action, state, place]}, but there are {states}"
        )


def _mask(terminal: ArrayLike, states: int) -> Bools:
    chosen = np.asarray(terminal)
    if chosen.dtype == np.bool_ and chosen.shape == (states,):
        return chosen.copy()
    if chosen.dtype == np.bool_:
        raise ValueError(f"terminal has shape {chosen.shape}: it must be ({states},)")
    mask = np.zeros(states, dtype=np.bool_)
    for state in chosen.ravel():
        if not 0 <= state < states or state != int(state):
            raise ValueError(f"terminal has state {state}, but there are {states}")
        mask[int(state)] = True
    return mask


def _distribution(start: ArrayLike | None, terminal: Bools) -> Array:
    states = len(terminal)
    if start is None:
        free = ~terminal if not terminal.all() else terminal
        return np.asarray(free / free.sum())
    given = np.asarray(start, dtype=np.float64)
    if given.ndim == 0:
        if not 0 <= given < states or given != int(given):
            raise ValueError(f"start is state {given:g}, but there are {states}")
        return np.asarray(np.eye(1, states, int(given))[0])
    if given.shape != (states,):
        raise ValueError(f"start has shape {given.shape}: it must be ({states},)")
    if not (given >= 0).all() or abs(given.sum() - 1) > SUM_TOLERANCE:
        raise ValueError(f"start must be probabilities; it sums to {given.sum():.12g}")
    return given.copy()


def _choose(weights: Array, rng: np.random.Generator) -> Ints:
    """Return one column per row of weights (N, k), with these probabilities."""
    edges = np.cumsum(weights, axis=1)
    edges /= edges[:, -1:]
    return np.asarray((edges <= rng.random((len(weights), 1))).sum(1))


def gatherer(index: Ints, first: int = 0) -> Callable[[Array, Array], None]:
    """Return a function (values, out) that sets out[k, s] = values[index[k, s]].

    Where most states move by the same distance, as on a grid, a shifted copy of each
    row with the exceptions patched is several times faster than indexing.

    Parameters
    ----------
    index : (K, n) array of int
        States, at least 0.
    first : int
        The state that column 0 stands for, of n in turn.

    Returns
    -------
    callable
        `values` is (S,); `out` is (K, n), contiguous and no part of it.

    Examples
    --------
    >>> out = np.empty((1, 3))
    >>> gatherer(np.array([[1, 2, 2]]))(np.array([5.0, 6.0, 7.0]), out)
    >>> out.tolist()
    [[6.0, 7.0, 7.0]]
    """
    count = index.shape[1]
    distance = index - np.arange(first, first + count)
    least = distance.min(1)
    offsets = [
        int(np.bincount(row - low).argmax() + low)
        for row, low in zip(distance, least, strict=True)
    ]
    odd = np.flatnonzero(distance != np.array(offsets)[:, None])
    if 4 * len(odd) > index.size:

        def take(values: Array, out: Array) -> None:
            np.take(values, index, out=out, mode="clip")

        return take
    targets = index.reshape(-1)[odd]
    begins = [max(0, -first - offset) for offset in offsets]

    def shift(values: Array, out: Array) -> None:
        for row, begin, offset in zip(out, begins, offsets, strict=True):
            near = values[first + begin + offset : first + count + offset]
            row[begin : begin + len(near)] = near
        out.reshape(-1)[odd] = values[targets]

    return shift


def improve(q_values: Array, incumbent: Ints, tolerance: float = 1e-14) -> Ints:
    """Return a greedy policy that keeps the incumbent action on ties.

    pi'(s) = pi(s) if Q(s, pi(s)) >= max_a Q(s, a) - tolerance * max(1, max |Q|), else
    the first maximizer. Switching between actions that are equal up to rounding would
    let policy iteration cycle for ever.

    Parameters
    ----------
    q_values : (S, A) array
        Q of the incumbent policy.
    incumbent : (S,) array of int
        Its actions.
    tolerance : float
        Relative size of a difference that counts as a tie, >= 0.

    Returns
    -------
    (S,) array of int
        The improved policy; equal to `incumbent` where nothing is better.

    Examples
    --------
    >>> improve(np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([1, 0])).tolist()
    [1, 1]
    """
    best = q_values.max(1)
    kept = np.take_along_axis(q_values, incumbent[:, None], 1)[:, 0]
    slack = tolerance * max(1.0, float(np.abs(q_values).max()))
    return np.where(kept >= best - slack, incumbent, q_values.argmax(1))


class TabularMDP:
    """A finite Markov decision process, held by successors.

    Parameters
    ----------
    transitions : (A, S, S) or (A, S, m) array
        P(s' given s, a). With `successors`, entry j is the probability of successor j.
    r : (S, A), (S, A, S) or (A, S, m) array
        Expected reward, or the reward of each transition: (S, A, S) with dense
        transitions, (A, S, m) with successors. The latter two are reduced to
        r(s, a) = sum_s' P(s' given s, a) r(s, a, s') for values, and kept for samples.
    gamma : float
        Discount, in [0, 1].
    start : int, (S,) array or None
        First state or its distribution; None is uniform over non-terminal states.
    terminal : array of int, or (S,) array of bool
        States that end an episode. They must stay where they are and pay 0.
    successors : (A, S, m) array of int, optional
        States that may follow; one may be named more than once.

    Attributes
    ----------
    successors, probabilities : (A, S, m) arrays
        The transitions.
    rewards : (A, S, m) array or None
        Reward of each transition where it was given.
    r : (S, A) array
        Expected reward.
    start : (S,) array
        Start distribution mu_0.
    terminal : (S,) array of bool
    states, actions : int
        S and A.

    Raises
    ------
    ValueError
        If shapes disagree, a row of P has a negative or NaN entry or does not sum to 1
        within 1e-9, a successor or start is no state, a reward is not finite, gamma is
        outside [0, 1], a terminal state moves or pays, or gamma = 1 and there is a
        state from which no policy can end.

    Notes
    -----
    Source: Puterman (2005), Markov Decision Processes, chapters 2 and 6.

    Examples
    --------
    Stay (0) for a reward of 1 or leave (1) for 10 and the end, gamma = .9: staying is
    worth 1/(1 - .9) = 10 in all, and leaving pays the same at once.

    >>> P = [[[1, 0], [0, 1]], [[0, 1], [0, 1]]]
    >>> mdp = TabularMDP(P, [[1, 10], [0, 0]], gamma=0.9, start=0, terminal=[1])
    >>> mdp.evaluate([0, 0]).round(9).tolist()
    [10.0, 0.0]
    """

    def __init__(
        self,
        transitions: ArrayLike,
        r: ArrayLike,
        gamma: float,
        start: ArrayLike | None = None,
        terminal: ArrayLike = (),
        successors: ArrayLike | None = None,
    ) -> None:
        table = np.asarray(transitions, dtype=np.float64)
        after = None if successors is None else np.asarray(successors, dtype=np.intp)
        _check_shapes(table, after)
        _check_rows(table)
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma is {gamma}: it must be in [0, 1]")
        self.gamma = float(gamma)
        self.actions, self.states = table.shape[:2]
        if after is None:
            after = _to_successors(table)
            table = np.take_along_axis(table, after, axis=-1)
        _check_successors(after, self.states)
        self.successors = _states_last(after)
        self.probabilities = _states_last(table)
        self.terminal = _mask(terminal, self.states)
        self.start = _distribution(start, self.terminal)
        self._set_rewards(np.asarray(r, np.float64), dense=successors is None)
        self._check_terminal()

    def _set_rewards(self, r: Array, *, dense: bool) -> None:
        actions, states, most = self.successors.shape
        full = (states, actions, states) if dense else (actions, states, most)
        if r.shape not in {(states, actions), full}:
            raise ValueError(
                f"r has shape {r.shape}: it must be {(states, actions)} or {full}"
            )
        if not np.isfinite(r).all():
            place = _first(~np.isfinite(r))
            by_action = r.ndim == 3 and not dense
            state, action = place[1::-1] if by_action else place[:2]
            raise ValueError(f"state {state}, action {action} has reward {r[place]}")
        self.rewards: Array | None = None
        if r.ndim == 2:
            self.r = np.asfortranarray(r)
            return
        if dense:
            r = np.take_along_axis(r.swapaxes(0, 1), self.successors, axis=-1)
        self.rewards = _states_last(r)
        self.r = np.empty((states, actions), order="F")
        for action in range(actions):
            np.einsum(
                "sm,sm->s", self.probabilities[action], r[action], out=self.r[:, action]
            )

    def _check_terminal(self) -> None:
        ends = np.flatnonzero(self.terminal)
        leaves = (self.successors[:, ends] != ends[:, None]) & (
            self.probabilities[:, ends] > 0
        )
        if leaves.any():
            action, place, which = _first(leaves)
            target = self.successors[action, ends[place], which]
            raise ValueError(
                f"terminal state {ends[place]}, action {action} leads to state "
                f"{target}: a terminal state must stay"
            )
        if self.r[ends].any():
            place, action = _first(self.r[ends] != 0)
            raise ValueError(
                f"terminal state {ends[place]}, action {action} has reward "
                f"{self.r[ends[place], action]}: it must be 0"
            )
        if self.gamma == 1:
            endless = ~self._can_end(np.ones((self.states, self.actions), np.bool_))
            if endless.any():
                raise ValueError(
                    f"gamma is 1, but from state {_first(endless)[0]} no policy ends"
                )

    def _reaches(self, states: Bools) -> Bools:
        """Return (S, A): whether a step can lead into `states`."""
        into = states[self.successors] & (self.probabilities > 0)
        return np.asarray(into.any(-1).T)

    def _can_end(self, allowed: Bools) -> Bools:
        ends: Bools = self.terminal
        while True:
            more = ends | (self._reaches(ends) & allowed).any(1)
            if np.array_equal(more, ends):
                return ends
            ends = more

    def _check_endless(self) -> None:
        """Refuse gamma = 1 where never ending costs nothing.

        Where every reward on an endless path is negative, a policy that never ends
        has value minus infinity and the optimum is that of a stochastic shortest path.
        """
        stay = ~self.terminal
        while True:
            inside = ~self._reaches(~stay) & stay[:, None]
            if np.array_equal(inside.any(1), stay):
                break
            stay = np.asarray(inside.any(1))
        free = inside & (self.r >= 0)
        if free.any():
            state, action = _first(free)
            raise ValueError(
                f"gamma is 1, but action {action} in state {state} pays "
                f"{self.r[state, action]} and need never end: no optimum is guaranteed"
            )

    def policy(self, pi: ArrayLike) -> Array:
        """Return a policy as probabilities (S, A).

        `pi` is (S,) of actions or (S, A) of probabilities; a wrong action, entry or
        row sum is refused with its state.
        """
        given = np.asarray(pi)
        if given.shape == (self.states,):
            wrong = (given < 0) | (given >= self.actions) | (given != np.floor(given))
            if wrong.any():
                (state,) = _first(wrong)
                raise ValueError(
                    f"policy takes action {given[state]} in state {state}: there are "
                    f"{self.actions}"
                )
            return np.eye(self.actions)[given.astype(np.intp)]
        table = given.astype(np.float64)
        if table.shape != (self.states, self.actions):
            raise ValueError(
                f"policy has shape {table.shape}: it must be ({self.states},) or "
                f"({self.states}, {self.actions})"
            )
        off = ~(np.abs(table.sum(1) - 1) <= SUM_TOLERANCE) | ~(table >= 0).all(1)
        if off.any():
            (state,) = _first(off)
            raise ValueError(
                f"policy in state {state} is {table[state].tolist()}: it must be "
                "probabilities that sum to 1"
            )
        return table

    def dense(self) -> Array:
        """Return P (A, S, S); refused above 5,000 states."""
        if self.states > MOST_DENSE:
            raise ValueError(
                f"{self.states} states: an S x S matrix is made for at most "
                f"{MOST_DENSE}; the solvers of `bellman` need none"
            )
        full = np.zeros((self.actions, self.states, self.states))
        rows = np.arange(self.states)
        for action in range(self.actions):
            for which in range(self.successors.shape[2]):
                columns = self.successors[action, :, which]
                full[action, rows, columns] += self.probabilities[action, :, which]
        return full

    def transition_matrix(self, pi: ArrayLike) -> Array:
        """Return P_pi (S, S), sum_a pi(a given s) P(s' given s, a)."""
        return np.asarray(np.einsum("sa,ast->st", self.policy(pi), self.dense()))

    def _system(self, pi: ArrayLike) -> Array:
        """Return I - gamma P_pi with rows and columns of terminal states those of I."""
        table = self.policy(pi)
        if self.gamma == 1:
            endless = ~self._can_end(table > 0)
            if endless.any():
                raise ValueError(
                    "gamma is 1, but under this policy no episode ends from state "
                    f"{_first(endless)[0]}"
                )
        system = -self.gamma * self.transition_matrix(table)
        system[self.terminal] = 0
        system[:, self.terminal] = 0
        system[np.diag_indices(self.states)] += 1
        return system

    def evaluate(self, pi: ArrayLike) -> Array:
        """Return the exact values V_pi (S,) by a linear solve.

        V = r_pi + gamma P_pi V, with V = 0 at terminal states.

        Parameters
        ----------
        pi : (S,) array of int or (S, A) array
            Actions or probabilities.

        Returns
        -------
        (S,) array

        Raises
        ------
        ValueError
            If `pi` is no policy, gamma = 1 and it never ends from some state, or there
            are more than 5,000 states.

        Notes
        -----
        Source: Sutton and Barto (2018), equation 4.4.
        """
        reward = (self.policy(pi) * self.r).sum(1)
        return np.asarray(np.linalg.solve(self._system(pi), reward))

    def q_values(self, values: ArrayLike) -> Array:
        """Return Q from V: r(s, a) + gamma sum_s' P(s' given s, a) V(s').

        Parameters
        ----------
        values : (S,) array
            Terminal states bootstrap 0, whatever it has there.

        Returns
        -------
        (S, A) array

        Raises
        ------
        ValueError
            If `values` is not (S,).
        """
        given = np.asarray(values, np.float64)
        if given.shape != (self.states,):
            raise ValueError(f"values has shape {given.shape}: not ({self.states},)")
        return self.backup()(np.where(self.terminal, 0.0, given)).T

    def backup(self) -> Backup:
        """Return a function of values (S,) that gives Q as (A, S), states last.

        It writes every result into the same array and allocates nothing. The caller
        holds values 0 at terminal states.
        """
        most = self.successors.shape[2]
        reward = np.ascontiguousarray(self.r.T)
        q = np.empty_like(reward)
        if self.states <= max(FEW_STATES, min(4 * most, MOST_DENSE)):
            matrix = self.gamma * self.dense()

            def multiply(values: Array) -> Array:
                return np.add(np.matmul(matrix, values, out=q), reward, out=q)

            return multiply
        gather = [
            [gatherer(rows[None, :, which]) for which in range(most)]
            for rows in self.successors
        ]
        weights = self.gamma * np.moveaxis(self.probabilities, 2, 1)
        work = np.empty((1, self.states))

        def add_up(values: Array) -> Array:
            q[:] = reward
            for row, takes, parts in zip(q, gather, weights, strict=True):
                for take, part in zip(takes, parts, strict=True):
                    take(values, work)
                    np.multiply(work, part, out=work)
                    np.add(row, work[0], out=row)
            return q

        return add_up

    def best_backup(self) -> Callable[[Array, Array], None]:
        """Return a function (values, out) that sets out (S,) to max_a Q(s, a).

        As with :meth:`backup` the caller holds values 0 at terminal states.
        """
        backup = self.backup()

        def sweep(values: Array, out: Array) -> None:
            np.max(backup(values), axis=0, out=out)

        return sweep

    def solve(self) -> Optimum:
        """Return the optimal values and policy, exactly, by policy iteration.

        Each policy is evaluated by a linear solve, and the incumbent action is kept on
        ties, so it stops.

        Returns
        -------
        Optimum
            ``(values, policy)``, both (S,).

        Raises
        ------
        ValueError
            If there are more than 5,000 states; or if gamma = 1 and an action that can
            be part of a path without end pays 0 or more. (Where all of those pay less,
            a policy that never ends is worth minus infinity, and the optimum is that
            of a stochastic shortest path.)

        Notes
        -----
        Source: Sutton and Barto (2018), section 4.3; Bertsekas and Tsitsiklis (1991),
        An analysis of stochastic shortest path problems.
        """
        policy = np.zeros(self.states, np.intp)
        if self.gamma == 1:
            self._check_endless()
            policy = self._first_policy()
        values = self.evaluate(policy)
        while True:
            better = improve(self.q_values(values), policy)
            if (better == policy).all():
                return Optimum(values, policy)
            higher = self.evaluate(better)
            if not higher.sum() > values.sum():
                return Optimum(values, policy)
            values, policy = higher, better

    def _first_policy(self) -> Ints:
        """Return a policy that ends, if possible one for a gamma just below 1.

        One that merely may end can take so long that its values are lost in rounding.
        """
        sighted = copy.copy(self)
        sighted.gamma = NEARLY_ONE
        policy = sighted.solve().policy
        ends = self._can_end(self.policy(policy) > 0).all()
        return policy if ends else self._ending_policy()

    def _ending_policy(self) -> Ints:
        """Return a policy whose every step may come closer to a terminal state."""
        near, policy = self.terminal, np.zeros(self.states, np.intp)
        while not near.all():
            into = self._reaches(near)
            new = into.any(1) & ~near
            policy[new] = into[new].argmax(1)
            near = near | new
        return policy

    def occupancy(self, pi: ArrayLike) -> Array:
        """Return the occupancy d_gamma(s) = sum_t gamma^t P(s_t = s), unnormalized.

        It solves d = mu_0 + gamma P_pi^T d and sums to 1/(1 - gamma), terminal states
        included, so that J = sum_s d(s) r_pi(s). With gamma = 1 it counts visits:
        infinite at terminal states that can be reached, 0 at the others.

        Parameters
        ----------
        pi : (S,) array of int or (S, A) array
            Actions or probabilities.

        Returns
        -------
        (S,) array

        Raises
        ------
        ValueError
            As :meth:`evaluate`.
        """
        visits = np.linalg.solve(
            self._system(pi).T, np.where(self.terminal, 0, self.start)
        )
        arrivals = self.start + self.gamma * (visits @ self.transition_matrix(pi))
        if self.gamma == 1:
            stays = np.where(arrivals > 0, math.inf, 0.0)
        else:
            stays = arrivals / (1 - self.gamma)
        return np.where(self.terminal, stays, visits)

    def step(
        self, state: ArrayLike, action: ArrayLike, rng: np.random.Generator
    ) -> Step:
        """Take one step in N copies of the world.

        Parameters
        ----------
        state, action : (N,) arrays of int
        rng : numpy.random.Generator

        Returns
        -------
        Step
            ``(reward, next_state, terminated)``, each (N,). The reward is that of the
            transition where it was given, else r(s, a).
        """
        here, chosen = np.asarray(state, np.intp), np.asarray(action, np.intp)
        which = _choose(self.probabilities[chosen, here], rng)
        after = self.successors[chosen, here, which]
        if self.rewards is None:
            reward = self.r[here, chosen]
        else:
            reward = self.rewards[chosen, here, which]
        return Step(reward, after, self.terminal[after])

    def reset(self, count: int, rng: np.random.Generator) -> Ints:
        """Return `count` first states, drawn from the start distribution."""
        edges = np.cumsum(self.start)
        return np.searchsorted(edges / edges[-1], rng.random(count), side="right")

    def rollout(
        self, pi: ArrayLike, count: int, horizon: int, rng: np.random.Generator
    ) -> Rollout:
        """Sample episodes under a policy.

        Parameters
        ----------
        pi : (S,) array of int or (S, A) array
            Actions or probabilities.
        count : int
            N, at least 1.
        horizon : int
            T, at least 1: the clock truncates what has not ended by then.
        rng : numpy.random.Generator

        Returns
        -------
        Rollout

        Raises
        ------
        ValueError
            If a count is below 1 or `pi` is no policy.
        """
        if count < 1 or horizon < 1:
            raise ValueError(
                f"count is {count}, horizon is {horizon}: both must be at least 1"
            )
        table, shape = self.policy(pi), (count, horizon)
        states = np.empty((count, horizon + 1), np.intp)
        actions, rewards = np.full(shape, -1, np.intp), np.zeros(shape)
        terminated, truncated = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        states[:, 0] = self.reset(count, rng)
        live = np.flatnonzero(~self.terminal[states[:, 0]])
        for t in range(horizon):
            states[:, t + 1] = states[:, t]
            here = states[live, t]
            actions[live, t] = _choose(table[here], rng)
            step = self.step(here, actions[live, t], rng)
            rewards[live, t], states[live, t + 1] = step.reward, step.next_state
            terminated[live, t] = step.terminated
            live = live[~step.terminated]
        truncated[live, -1] = True
        lengths = (actions >= 0).sum(1)
        return Rollout(states, actions, rewards, terminated, truncated, lengths)

    def _outcomes(self, table: Array) -> list[list[tuple[float, int, float, int]]]:
        """Return per state the (probability, action, reward, next state) that occur."""
        rows: list[list[tuple[float, int, float, int]]] = []
        for state in range(self.states):
            merged: dict[tuple[int, float, int], float] = {}
            for action in np.flatnonzero(table[state]):
                for which in np.flatnonzero(self.probabilities[action, state]):
                    after = int(self.successors[action, state, which])
                    paid = self.r[state, action]
                    if self.rewards is not None:
                        paid = self.rewards[action, state, which]
                    weight = self.probabilities[action, state, which]
                    key = (int(action), float(paid), after)
                    merged[key] = merged.get(key, 0.0) + table[state, action] * weight
            rows.append([(merged[key], *key) for key in sorted(merged)])
        return rows

    def enumerate(self, horizon: int, pi: ArrayLike) -> Trajectories:
        """Return all trajectories under a policy, with their probabilities and returns.

        p(tau) = mu_0(s_0) prod_t pi(a_t given s_t) P(s_{t+1} given s_t, a_t). The
        *problem* ends at T: nothing is bootstrapped there.

        Parameters
        ----------
        horizon : int
            T, at least 1.
        pi : (S,) array of int or (S, A) array
            Actions or probabilities.

        Returns
        -------
        Trajectories

        Raises
        ------
        ValueError
            If there are more than 100,000 of them, `horizon` < 1 or `pi` is no policy.
        """
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}: it must be at least 1")
        rows = self._outcomes(self.policy(pi))
        counts = np.array([len(row) for row in rows])
        counts[self.terminal] = 1
        for state in np.flatnonzero(self.terminal):
            rows[state] = [(1.0, -1, 0.0, int(state))]
        flat = np.array([outcome for row in rows for outcome in row])
        first = np.cumsum(counts) - counts
        states = np.flatnonzero(self.start)[:, None]
        chance, returns = self.start[states[:, 0]], np.zeros(len(states))
        actions, rewards = (
            np.empty((len(states), 0), np.intp),
            np.empty((len(states), 0)),
        )
        for t in range(horizon):
            fan = counts[states[:, -1]]
            if fan.sum() > MOST_TRAJECTORIES:
                raise ValueError(
                    f"{fan.sum()} trajectories after {t + 1} of {horizon} steps: at "
                    f"most {MOST_TRAJECTORIES} are enumerated"
                )
            parent = np.repeat(np.arange(len(fan)), fan)
            place = np.arange(len(parent)) - np.repeat(np.cumsum(fan) - fan, fan)
            chosen = flat[first[states[parent, -1]] + place]
            chance = chance[parent] * chosen[:, 0]
            returns = returns[parent] + self.gamma**t * chosen[:, 2]
            grown = chosen[:, [1, 3]].astype(np.intp)
            actions = np.column_stack([actions[parent], grown[:, 0]])
            rewards = np.column_stack([rewards[parent], chosen[:, 2]])
            states = np.column_stack([states[parent], grown[:, 1]])
        return Trajectories(chance, returns, states, actions, rewards)


def random_mdp(
    states: int,
    actions: int,
    rng: np.random.Generator,
    *,
    successors: int | None = None,
    gamma: float = 0.9,
) -> TabularMDP:
    """Return a world with random transitions and rewards, without an end.

    Each (s, a) leads to m distinct states chosen uniformly, with probabilities uniform
    on the simplex; r(s, a) ~ N(0, 1).

    Parameters
    ----------
    states, actions : int
        S and A, at least 1.
    rng : numpy.random.Generator
        Source of all numbers.
    successors : int, optional
        m, in 1 ... S; default S.
    gamma : float
        Discount, in [0, 1).

    Returns
    -------
    TabularMDP
        It starts anywhere.

    Raises
    ------
    ValueError
        If a size is out of range; and as :class:`TabularMDP`.

    Examples
    --------
    >>> random_mdp(6, 2, np.random.default_rng(0), successors=3).successors.shape
    (2, 6, 3)
    """
    most = states if successors is None else successors
    if actions < 1 or not 1 <= most <= states:
        raise ValueError(
            f"states is {states}, actions {actions}, successors {most}: it must be "
            "1 <= successors <= states and actions >= 1"
        )
    keys = rng.random((actions, states, states))
    after = np.argsort(keys, axis=-1)[..., :most]
    weights = rng.dirichlet(np.ones(most), size=(actions, states))
    reward = rng.normal(size=(states, actions))
    return TabularMDP(weights, reward, gamma, successors=after)
