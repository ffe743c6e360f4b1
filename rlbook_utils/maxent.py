"""Control as inference and maximum-entropy reinforcement learning, exactly.

Two problems that are often taken for one:

- *Inference.* Optimality variables O_t are 1 with probability proportional to
  exp(r_t/alpha). Given that all are 1, the trajectory has a posterior; messages passed
  backward give it. Held as V = alpha log(message), in units of reward, they obey
  Q = alpha log E exp((r + V)/alpha): an optimist, who hopes that chance helps.
- *Control.* The best policy for reward minus alpha KL(pi, reference), the dynamics
  being what they are, obeys Q = r + gamma E[V].

In both V = alpha log sum_a reference(a) exp(Q/alpha), a :func:`~core.tilt.tilt` of the
reference; they agree where the dynamics are deterministic. Without a reference the
weights are 1, and the penalty becomes an entropy bonus inside the return.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rlbook_utils.core.tilt import Tilt, relative_entropy, suboptimality, tilt
from rlbook_utils.worlds.mdp import Array, Ints, TabularMDP, Trajectories

DYNAMICS = ("posterior", "fixed")
EPSILON = float(np.finfo(np.float64).eps)


class Messages(NamedTuple):
    """Backward messages and the process that they define.

    `values` (T + 1, S) and `q_values` (T, S, A), alpha times the log-messages;
    `start` (S,), `policy` (T, S, A) and `transitions` (T, A, S, m), the posterior's
    start, actions and dynamics, the last in the successor form of the world (with fixed
    dynamics start and dynamics are the world's own).
    """

    values: Array
    q_values: Array
    start: Array
    policy: Array
    transitions: Array


class SoftSolution(NamedTuple):
    """The soft optimum: `values` (S,), `policy` (S, A), `residuals` and error `bound`.

    `residuals` holds the sup norm of the change of each sweep; `bound` guarantees
    ||values - V_alpha||, infinite with gamma = 1.
    """

    values: Array
    policy: Array
    residuals: Array
    bound: float


def boltzmann(
    q_values: ArrayLike, temperature: float, reference: ArrayLike | None = None
) -> Array:
    """Return the policy proportional to reference(a) exp(Q(s, a)/alpha).

    Parameters
    ----------
    q_values : (..., A) array
    temperature : float
        alpha, positive.
    reference : (..., A) array, optional
        Probabilities; None is uniform, to the same effect.

    Returns
    -------
    (..., A) array

    Raises
    ------
    ValueError
        As :func:`~rlbook_utils.core.tilt.tilt`.

    Examples
    --------
    >>> boltzmann([[0.0, np.log(3.0)]], 1.0).round(3).tolist()
    [[0.25, 0.75]]
    """
    return tilt(q_values, temperature, reference).probabilities


def _reference(mdp: TabularMDP, reference: ArrayLike | None) -> Array | None:
    return None if reference is None else mdp.policy(reference)


def _penalty(mdp: TabularMDP, pi: Array, reference: ArrayLike | None) -> Array:
    """Return KL(pi, reference) of each state, or minus the entropy; 0 where it ends."""
    weights = np.ones(pi.shape) if reference is None else mdp.policy(reference)
    never = (pi > 0) & (weights == 0) & ~mdp.terminal[:, None]
    if never.any():
        state, action = np.argwhere(never)[0]
        raise ValueError(
            f"policy takes action {action} in state {state}, which the reference never "
            "takes: the penalty is infinite"
        )
    with np.errstate(divide="ignore"):
        penalty = relative_entropy(pi, np.log(weights))
    return np.where(mdp.terminal, 0.0, penalty)


def soft_policy_evaluation(
    mdp: TabularMDP,
    policy: ArrayLike,
    temperature: float,
    reference: ArrayLike | None = None,
) -> Array:
    """Return the exact soft values of a policy by a linear solve.

    V(s) = sum_a pi(a) [r(s, a) - alpha log(pi(a)/reference(a)) + gamma E V(s')], with
    V = 0 at terminal states. Temperature 0 gives the ordinary values.

    Parameters
    ----------
    mdp : TabularMDP
    policy : (S,) array of int or (S, A) array
    temperature : float
        alpha, >= 0.
    reference : (S,) array of int or (S, A) array, optional
        None counts the entropy instead of minus the KL.

    Returns
    -------
    (S,) array

    Raises
    ------
    ValueError
        If the temperature is negative, `policy` takes what `reference` never does, and
        as :meth:`TabularMDP.evaluate`.

    Notes
    -----
    Source: Haarnoja et al. (2018), soft policy evaluation.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> world = grid_1d(3, gamma=0.9)
    >>> soft_policy_evaluation(world, np.full((3, 2), 0.5), 1.0)[1].round(4)
    np.float64(1.1931)
    """
    if not 0 <= temperature < np.inf:
        raise ValueError(f"temperature is {temperature}: it must be 0 or more")
    pi = mdp.policy(policy)
    paid = mdp.r - temperature * _penalty(mdp, pi, reference)[:, None]
    priced = TabularMDP(
        mdp.probabilities, paid, mdp.gamma, mdp.start, mdp.terminal, mdp.successors
    )
    return priced.evaluate(pi)


def soft_value_iteration(
    mdp: TabularMDP,
    temperature: float,
    reference: ArrayLike | None = None,
    *,
    tolerance: float = 1e-10,
    sweeps: int | None = None,
    values: ArrayLike | None = None,
) -> SoftSolution:
    """Find the soft optimum by V <- alpha log sum_a reference(a) exp(Q/alpha).

    Q(s, a) = r(s, a) + gamma E V(s'). The sweep contracts by gamma, whatever alpha.

    Parameters
    ----------
    mdp : TabularMDP
    temperature : float
        alpha, positive.
    reference : (S,) array of int or (S, A) array, optional
        None rewards entropy instead.
    tolerance : float
        Guaranteed sup-norm error of the values.
    sweeps : int, optional
        Do exactly so many, whatever `tolerance`; needed with gamma = 1.
    values : (S,) array, optional
        Where to begin; default 0. Terminal states are set to 0.

    Returns
    -------
    SoftSolution

    Raises
    ------
    ValueError
        If gamma = 1 without `sweeps`, `sweeps` < 1, `tolerance` is below what float64
        can guarantee, or an argument is none of its kind.

    Notes
    -----
    Source: Fox, Pakman and Tishby (2016); Haarnoja et al. (2017).

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import frozen_lake
    >>> world = frozen_lake(gamma=0.9)
    >>> soft = soft_value_iteration(world, 1e-4, np.full((16, 4), 0.25))
    >>> bool(np.abs(soft.values - world.solve().values).max() < 1e-2)
    True
    """
    weights = _reference(mdp, reference)
    least = _least_tolerance(mdp, temperature)
    if sweeps is None and not tolerance >= least:
        raise ValueError(
            f"tolerance is {tolerance}, gamma {mdp.gamma}: no better than {least:.1e} "
            "can be guaranteed. Give a number of sweeps instead"
        )
    if sweeps is not None and (sweeps < 1 or sweeps != int(sweeps)):
        raise ValueError(f"sweeps is {sweeps}: it must be a whole number, at least 1")
    backup, residuals = mdp.backup(), []
    old = np.zeros(mdp.states) if values is None else np.array(values, np.float64)
    if old.shape != (mdp.states,):
        raise ValueError(f"values has shape {old.shape}: it must be ({mdp.states},)")
    old[mdp.terminal] = 0.0
    while True:
        new = tilt(backup(old).T, temperature, weights).value
        new[mdp.terminal] = 0.0
        residuals.append(float(np.abs(new - old).max()))
        bound = np.inf
        if mdp.gamma < 1:
            bound = mdp.gamma / (1 - mdp.gamma) * residuals[-1] + least / 2
        if len(residuals) == sweeps or (sweeps is None and bound <= tolerance):
            policy = boltzmann(mdp.q_values(new), temperature, weights)
            return SoftSolution(new, policy, np.array(residuals), bound)
        old = new


def _least_tolerance(mdp: TabularMDP, temperature: float) -> float:
    """Return twice the error that rounding of every backup can amount to."""
    if mdp.gamma == 1:
        return float(np.inf)
    most = float(np.abs(mdp.r).max()) + temperature * np.log(max(mdp.actions, 2))
    return float(32 * EPSILON * most / (1 - mdp.gamma) ** 2)


def soft_suboptimality(
    mdp: TabularMDP,
    policy: ArrayLike,
    values: ArrayLike,
    temperature: float,
    reference: ArrayLike | None = None,
) -> float:
    """Return J* - J(pi) = alpha sum_s d(s) KL(pi(. given s), pi*(. given s)).

    d is the discounted occupancy of pi, not of pi*.

    Parameters
    ----------
    mdp : TabularMDP
    policy : (S,) array of int or (S, A) array
    values : (S,) array
        The soft-optimal values at this temperature.
    temperature : float
        alpha, positive.
    reference : (S,) array of int or (S, A) array, optional
        That of the soft-optimal values.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As :func:`~rlbook_utils.core.tilt.suboptimality` and
        :meth:`TabularMDP.occupancy`.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> world = grid_1d(5, gamma=0.5)
    >>> star = soft_value_iteration(world, 1.0)
    >>> bool(soft_suboptimality(world, star.policy, star.values, 1.0) < 1e-9)
    True
    """
    pi, q = mdp.policy(policy), mdp.q_values(values)
    loss = suboptimality(pi, q, temperature, _reference(mdp, reference))
    visits = np.where(mdp.terminal, 0.0, mdp.occupancy(pi))
    return float(np.sum(visits * loss))


def soft_policy_gradient(
    mdp: TabularMDP,
    logits: ArrayLike,
    temperature: float,
    reference: ArrayLike | None = None,
    *,
    bonus: bool = False,
) -> Array:
    """Return the gradient of J in the logits of a softmax policy.

    d(s) pi(a given s) [X(s, a) - sum_b pi(b given s) X(s, b)] with
    X = Q - alpha log(pi/reference), d the discounted occupancy and Q the soft values:
    future penalties are inside Q.

    Parameters
    ----------
    mdp : TabularMDP
    logits : (S, A) array
    temperature : float
        alpha, >= 0; 0 gives the policy gradient of the plain return.
    reference : (S,) array of int or (S, A) array, optional
        None rewards entropy instead.
    bonus : bool
        Leave the future penalties out of Q, as an entropy bonus on the loss does. In
        general that is the gradient of no objective: another method, with other fixed
        points.

    Returns
    -------
    (S, A) array

    Raises
    ------
    ValueError
        If `logits` is not (S, A), and as :func:`soft_policy_evaluation`.

    Notes
    -----
    Source: Schulman, Chen and Abbeel (2017); Mnih et al. (2016), section 4
    (the bonus).

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> soft_policy_gradient(grid_1d(3), np.zeros((3, 2)), 0.0)[1].tolist()
    [-0.25, 0.25]
    """
    scores = np.asarray(logits, np.float64)
    if scores.shape != mdp.r.shape:
        raise ValueError(f"logits has shape {scores.shape}: it must be {mdp.r.shape}")
    best = tilt(scores, 1.0)
    pi, priced = best.probabilities, 0.0 if bonus else temperature
    q = mdp.q_values(soft_policy_evaluation(mdp, pi, priced, reference))
    weights = _reference(mdp, reference)
    # What the reference would do where the world has ended is nobody's concern.
    ended = mdp.terminal[:, None]
    logs = np.log(np.where(ended, 1.0, 1.0 if weights is None else weights))
    x = q - temperature * (best.log_probabilities - logs)
    visits = np.where(mdp.terminal, 0.0, mdp.occupancy(pi))[:, None]
    return np.asarray(visits * pi * (x - (pi * x).sum(1, keepdims=True)))


# Inference on trajectories of T steps


def trajectory_posterior(
    mdp: TabularMDP, horizon: int, temperature: float, prior: ArrayLike
) -> tuple[Trajectories, Tilt]:
    """Return all trajectories and their posterior, by enumeration.

    p(tau given O) is proportional to p(tau) exp(sum_t r_t/alpha): the tilt of the prior
    over trajectories. r_t is what was paid, on the transition where that is known.

    Parameters
    ----------
    mdp : TabularMDP
        Its gamma is not used: the sum has no discount.
    horizon : int
        T.
    temperature : float
        alpha, positive.
    prior : (S,) array of int or (S, A) array
        Policy before anything is observed.

    Returns
    -------
    Trajectories, Tilt
        The second has their posterior probabilities (n,) and the free energy
        alpha log p(O), up to the constant of proportionality.

    Raises
    ------
    ValueError
        As :meth:`TabularMDP.enumerate` and :func:`~rlbook_utils.core.tilt.tilt`.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> every, after = trajectory_posterior(grid_1d(3), 1, 0.5, np.full((3, 2), 0.5))
    >>> every.actions[:, 0].tolist(), after.probabilities.round(3).tolist()
    ([0, 1], [0.119, 0.881])
    """
    every = mdp.enumerate(horizon, prior)
    return every, tilt(every.rewards.sum(1), temperature, every.probabilities)


def backward_messages(
    mdp: TabularMDP,
    horizon: int,
    temperature: float,
    prior: ArrayLike,
    *,
    dynamics: str = "posterior",
    rewards: ArrayLike | None = None,
) -> Messages:
    """Pass messages from the last step to the first.

    V_T = 0; Q_t(s, a) = alpha log E exp((r + V_{t+1}(s'))/alpha), with r inside the
    mean because it may depend on s';
    V_t(s) = alpha log sum_a prior(a) exp(Q_t(s, a)/alpha).

    Parameters
    ----------
    mdp : TabularMDP
    horizon : int
        T, at least 1.
    temperature : float
        alpha, positive.
    prior : (S,) array of int or (S, A) array
        Policy before anything is observed.
    dynamics : {"posterior", "fixed"}
        "fixed" replaces alpha log E exp((r + V)/alpha) by E[r + V]: the best policy for
        the variational problem that may not change the dynamics.
    rewards : (T, S, A) array, optional
        Instead of the world's own, for each step. With one action, temperature 1 and
        rewards log p(x_t given s_t) this is the smoother of a hidden Markov model.

    Returns
    -------
    Messages

    Raises
    ------
    ValueError
        If `horizon` < 1, `dynamics` is unknown, `rewards` has another shape, or the
        world's own are used and gamma is not 1 (put a discount into the dynamics, as a
        chance of survival).

    Notes
    -----
    Source: Levine (2018); Rabiner (1989) for the smoother.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import random_walk
    >>> told = backward_messages(random_walk(3), 2, 1.0, np.ones((5, 1)))
    >>> told.values[0].round(3).tolist()
    [0.0, -0.38, 0.24, 0.62, 0.0]
    """
    pi = mdp.policy(prior)
    paid = _step_rewards(mdp, horizon, rewards)
    if dynamics not in DYNAMICS:
        raise ValueError(f"dynamics is {dynamics!r}: it must be one of {DYNAMICS}")
    values = np.zeros((horizon + 1, mdp.states))
    q_values, policy = np.empty((2, horizon, mdp.states, mdp.actions))
    transitions = np.tile(mdp.probabilities, (horizon, 1, 1, 1))
    start = mdp.start
    for t in reversed(range(horizon)):
        near = paid[t] + values[t + 1][mdp.successors]
        if dynamics == "posterior":
            hoped = tilt(near, temperature, mdp.probabilities)
            transitions[t], q_values[t] = hoped.probabilities, hoped.value.T
        else:
            q_values[t] = (mdp.probabilities * near).sum(-1).T
        chosen = tilt(q_values[t], temperature, pi)
        values[t], policy[t] = chosen.value, chosen.probabilities
    if dynamics == "posterior":
        start = tilt(values[0], temperature, mdp.start).probabilities
    return Messages(values, q_values, start, policy, transitions)


def _step_rewards(mdp: TabularMDP, horizon: int, rewards: ArrayLike | None) -> Array:
    """Return (T, A, S, m or 1): what each transition pays at each step."""
    if horizon < 1:
        raise ValueError(f"horizon is {horizon}: it must be at least 1")
    if rewards is None:
        if mdp.gamma != 1:
            raise ValueError(
                f"gamma is {mdp.gamma}: messages have no discount. Put it into the "
                "dynamics as a chance of survival, or give rewards"
            )
        own = mdp.r.T[:, :, None] if mdp.rewards is None else mdp.rewards
        return np.broadcast_to(own, (horizon, *own.shape))
    paid = np.asarray(rewards, np.float64)
    if paid.shape != (horizon, *mdp.r.shape):
        raise ValueError(
            f"rewards has shape {paid.shape}: it must be {(horizon, *mdp.r.shape)}"
        )
    return paid.swapaxes(1, 2)[..., None]


def marginals(mdp: TabularMDP, messages: Messages) -> Array:
    """Return the state marginals of the process that messages define, (T + 1, S).

    With posterior dynamics p(s_t given O), all observations: smoothing.

    Parameters
    ----------
    mdp : TabularMDP
    messages : Messages

    Returns
    -------
    (T + 1, S) array

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import random_walk
    >>> world = random_walk(3)
    >>> told = backward_messages(world, 2, 1.0, np.ones((5, 1)))
    >>> marginals(world, told)[2].round(3).tolist()
    [0.072, 0.0, 0.393, 0.0, 0.534]
    """
    rows: list[Array] = [messages.start]
    for policy, transitions in zip(messages.policy, messages.transitions, strict=True):
        flow = rows[-1] * policy.T
        arrived = np.bincount(
            mdp.successors.ravel(),
            (flow[:, :, None] * transitions).ravel(),
            mdp.states,
        )
        rows.append(np.asarray(arrived, np.float64))
    return np.array(rows)


def log_probabilities(
    mdp: TabularMDP, messages: Messages, states: Ints, actions: Ints
) -> Array:
    """Return log-probabilities of trajectories under the process of the messages.

    log p(s_0) + sum_t log p(a_t given s_t) + log p(s_{t+1} given s_t, a_t). Transitions
    to one state that differ in their reward alone are added up.

    Parameters
    ----------
    mdp : TabularMDP
    messages : Messages
    states : (n, T + 1) array of int
    actions : (n, T) array of int
        -1 after the end, as :meth:`TabularMDP.enumerate` has it.

    Returns
    -------
    (n,) array

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> world, pi = grid_1d(3, gamma=1.0), np.full((3, 2), 0.5)
    >>> every, after = trajectory_posterior(world, 1, 0.5, pi)
    >>> told = backward_messages(world, 1, 0.5, pi)
    >>> log_p = log_probabilities(world, told, every.states, every.actions)
    >>> np.exp(log_p).round(3).tolist()
    [0.119, 0.881]
    """
    with np.errstate(divide="ignore"):
        total = np.log(messages.start[states[:, 0]])
        for t in range(actions.shape[1]):
            live = np.flatnonzero(actions[:, t] >= 0)
            here, chosen = states[live, t], actions[live, t]
            fits = mdp.successors[chosen, here] == states[live, t + 1, None]
            step = (fits * messages.transitions[t, chosen, here]).sum(1)
            total[live] += np.log(messages.policy[t, here, chosen] * step)
    return np.asarray(total)


def schedule_values(mdp: TabularMDP, policies: ArrayLike) -> Array:
    """Return the true values of a policy that changes from step to step.

    V_T = 0; V_t(s) = sum_a pi_t(a) [r(s, a) + gamma E V_{t+1}(s')], no entropy, the
    world's own dynamics.

    Parameters
    ----------
    mdp : TabularMDP
    policies : (T, S, A) array

    Returns
    -------
    (T + 1, S) array

    Raises
    ------
    ValueError
        If a step's policy is none.

    Examples
    --------
    >>> from rlbook_utils.worlds.grids import grid_1d
    >>> schedule_values(grid_1d(4, gamma=1.0), np.full((2, 4, 2), 0.5))[0].tolist()
    [0.0, 0.25, 0.5, 0.0]
    """
    values = [np.zeros(mdp.states)]
    for table in np.asarray(policies, np.float64)[::-1]:
        values.append((mdp.policy(table) * mdp.q_values(values[-1])).sum(1))
    return np.array(values[::-1])
