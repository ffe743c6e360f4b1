"""Returns and advantages of recorded steps, for every way in which an episode ends.

One rule serves all functions. After step t comes

    V'_t = 0 where step t terminated the episode, else next_values[t],

and the recursion is cut behind every step that ended one: terminated, truncated, or the
last column of the record. terminated and truncated are never merged: the first says
that nothing more is to come, the second that the clock ran out in a state that is still
worth next_values[t], the value of the *final observation* and not of the state in which
the next episode starts. Where both are set, terminated wins.

Arrays are (N, T), or any shape with the steps last; they are numpy arrays or torch
tensors, and the answer is of the same kind, type and device. Nothing here imports
torch, and gradients flow through.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A numpy array or a torch tensor."""


def _library(*arrays: Array) -> Any:
    """Return the module, numpy or torch, that the arrays belong to."""
    torch = sys.modules.get("torch")
    kinds = {torch is not None and torch.is_tensor(array) for array in arrays}
    if len(kinds) > 1:
        raise ValueError("some arguments are torch tensors, some are not: give one")
    return torch if kinds.pop() else np


def _numbers(xp: Any, array: Array, name: str) -> Array:
    """Return an array of floats, its type kept where it is one; refuse NaN."""
    found: Array = array if xp is not np else np.asarray(array)
    if xp is np and found.dtype.kind not in "fbiu":
        raise ValueError(f"{name} has dtype {found.dtype}: it must be numbers")
    floating = found.dtype.kind == "f" if xp is np else found.is_floating_point()
    if not floating:
        found = found.astype(np.float64) if xp is np else found.float()
    if found.ndim == 0 or 0 in found.shape:
        raise ValueError(f"{name} has shape {tuple(found.shape)}: it must be (N, T)")
    wrong = ~xp.isfinite(found)
    if wrong.any():
        raise ValueError(f"{name} has {float(found[wrong][0])}: it must be finite")
    return found


def _flags(xp: Any, array: Array, name: str) -> Array:
    found: Array = array if xp is not np else np.asarray(array)
    if found.dtype not in (xp.bool, np.bool_):
        raise ValueError(f"{name} has dtype {found.dtype}: it must be bool")
    return found


def _agree(**arrays: Array) -> None:
    (first, shape), *others = ((k, tuple(a.shape)) for k, a in arrays.items())
    for name, other in others:
        if other != shape:
            raise ValueError(
                f"{first} has shape {shape}, {name} {other}: they must agree"
            )


def _share(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}: it must be in [0, 1]")


def _record(
    rewards: Array, next_values: Array, terminated: Array, truncated: Array
) -> tuple[Any, Array, Array, Array]:
    """Return the library, r, V' and whether the recursion is cut behind each step."""
    xp = _library(rewards, next_values, terminated, truncated)
    r = _numbers(xp, rewards, "rewards")
    after = _numbers(xp, next_values, "next_values")
    over = _flags(xp, terminated, "terminated")
    clock = _flags(xp, truncated, "truncated")
    _agree(rewards=r, next_values=after, terminated=over, truncated=clock)
    after = xp.where(over, xp.zeros_like(after), after)
    cut = over | clock
    last = xp.zeros_like(cut)
    last[..., -1] = True
    return xp, r, after, cut | last


def _backward(xp: Any, terms: Array, weight: float, cut: Array) -> Array:
    """Return y_t = x_t + w y_{t+1}, where it is not cut, from the last step back."""
    # A bool times a float is float32 in torch, whatever the terms are.
    weights = weight * xp.where(cut, xp.zeros_like(terms), xp.ones_like(terms))
    found = [terms[..., -1]]
    for t in range(terms.shape[-1] - 2, -1, -1):
        found.append(terms[..., t] + weights[..., t] * found[-1])
    return xp.stack(found[::-1], -1)


def discounted_returns(
    rewards: Array,
    gamma: float,
    next_values: Array | None = None,
    terminated: Array | None = None,
    truncated: Array | None = None,
) -> Array:
    """Return G_t = r_t + gamma G_{t+1}, the return from each step on.

    Behind a step that ends its episode G_{t+1} is V'_t: 0 if it was terminated,
    next_values[t] if it was truncated or is the last of the record. Given rewards
    alone, they are one episode a row, 0 after its end: nothing is bootstrapped.

    Parameters
    ----------
    rewards : (N, T) array
        Finite.
    gamma : float
        Discount, in [0, 1].
    next_values : (N, T) array, optional
        V(s_{t+1}), of the final observation where the episode was truncated.
    terminated, truncated : (N, T) array of bool, optional
        How each step ended its episode, if it did; given with `next_values`.

    Returns
    -------
    (N, T) array

    Raises
    ------
    ValueError
        If an array is not finite, shapes disagree, flags are not bool, only some of
        the optional arguments are given, or gamma is outside [0, 1].

    Notes
    -----
    Source: Sutton and Barto (2018), equation 3.9.

    Examples
    --------
    >>> discounted_returns([[1.0, 2.0, 4.0]], 0.5).tolist()
    [[3.0, 4.0, 4.0]]
    """
    given = [next_values is not None, terminated is not None, truncated is not None]
    if all(given):
        return lambda_returns(rewards, next_values, terminated, truncated, gamma, 1.0)
    if any(given):
        raise ValueError("give next_values, terminated and truncated together, or none")
    _share(gamma=gamma)
    xp = _library(rewards)
    r = _numbers(xp, rewards, "rewards")
    return _backward(xp, r, gamma, xp.zeros_like(r) > 0)


def n_step_returns(
    rewards: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    gamma: float,
    n: int,
) -> Array:
    """Return r_t + ... + gamma^(n-1) r_{t+n-1} + gamma^n V'_{t+n-1}.

    Where the episode or the record ends before step t + n, the sum ends there, with its
    V'. n = 1 is the target of TD(0); n >= T is :func:`discounted_returns`.

    Parameters
    ----------
    rewards, next_values : (N, T) array
        As for :func:`discounted_returns`.
    terminated, truncated : (N, T) array of bool
    gamma : float
        Discount, in [0, 1].
    n : int
        At least 1.

    Returns
    -------
    (N, T) array

    Raises
    ------
    ValueError
        As :func:`discounted_returns`; or if n is not an integer of at least 1.

    Notes
    -----
    Source: Sutton and Barto (2018), equation 7.1.

    Examples
    --------
    1 + .5 * 10 = 6 and 2 + .5 * 20 = 12 with one step; 1 + .5 * 12 = 7 with two.

    >>> no = [[False, False]]
    >>> n_step_returns([[1.0, 2.0]], [[10.0, 20.0]], no, no, 0.5, 2).tolist()
    [[7.0, 12.0]]
    """
    _share(gamma=gamma)
    if not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"n is {n!r}: it must be an integer, at least 1")
    xp, r, after, cut = _record(rewards, next_values, terminated, truncated)
    returns = r + gamma * after
    for _ in range(min(int(n), r.shape[-1]) - 1):
        later = xp.roll(returns, -1, -1)
        returns = r + gamma * xp.where(cut, after, later)
    return returns


def lambda_returns(
    rewards: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    gamma: float,
    lam: float,
) -> Array:
    """Return G_t = r_t + gamma ((1 - lam) V'_t + lam G_{t+1}).

    Behind a step that ends its episode, or the last of the record, G_{t+1} is V'_t.
    lam = 0 is the one-step target, lam = 1 :func:`discounted_returns`.

    Parameters
    ----------
    rewards, next_values : (N, T) array
        As for :func:`discounted_returns`.
    terminated, truncated : (N, T) array of bool
    gamma, lam : float
        In [0, 1].

    Returns
    -------
    (N, T) array

    Raises
    ------
    ValueError
        As :func:`discounted_returns`; or if lam is outside [0, 1].

    Notes
    -----
    Source: Sutton and Barto (2018), equation 12.3, as a recursion.

    Examples
    --------
    2 + .5 * 20 = 12 at the end of the record; 1 + .5 (.5 * 10 + .5 * 12) = 6.5.

    >>> no = [[False, False]]
    >>> lambda_returns([[1.0, 2.0]], [[10.0, 20.0]], no, no, 0.5, 0.5).tolist()
    [[6.5, 12.0]]
    """
    _share(gamma=gamma, lam=lam)
    xp, r, after, cut = _record(rewards, next_values, terminated, truncated)
    terms = r + gamma * xp.where(cut, after, (1 - lam) * after)
    return _backward(xp, terms, gamma * lam, cut)


def generalized_advantage_estimation(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    gamma: float,
    lam: float,
) -> Array:
    """Return A_t = sum_l (gamma lam)^l delta_{t+l}, up to the end of the episode.

    delta_t = r_t + gamma V'_t - V(s_t), and A_t = delta_t + gamma lam A_{t+1} unless
    step t ended its episode or is the last of the record: then A_t = delta_t. The last
    exponent is T - t - 1. lam = 0 gives delta_t, lam = 1 gives G_t - V(s_t); for
    every lam A_t = :func:`lambda_returns` - V(s_t) where next_values[t] = values[t + 1]
    inside an episode.

    Parameters
    ----------
    rewards, values : (N, T) array
        r_t and V(s_t); finite.
    next_values : (N, T) array
        where(terminated, 0, where(truncated, V(final observation), V(s_{t+1}))).
    terminated, truncated : (N, T) array of bool
        The world ended; the clock ran out.
    gamma, lam : float
        In [0, 1].

    Returns
    -------
    (N, T) array

    Raises
    ------
    ValueError
        As :func:`lambda_returns`.

    Notes
    -----
    Source: Schulman, Moritz, Levine, Jordan and Abbeel (2016), equation 16. Equation 11
    of the PPO paper (2017) prints the last exponent as T - t + 1.

    Examples
    --------
    delta = (1 + .5 * 4 - 2, 3 - 4) = (1, -1), so A_0 = 1 + .5 * .5 * (-1) = .75.

    >>> end, no = [[False, True]], [[False, False]]
    >>> generalized_advantage_estimation(
    ...     [[1.0, 3.0]], [[2.0, 4.0]], [[4.0, 0.0]], end, no, 0.5, 0.5).tolist()
    [[0.75, -1.0]]
    """
    _share(gamma=gamma, lam=lam)
    xp, r, after, cut = _record(rewards, next_values, terminated, truncated)
    _library(rewards, values)
    v = _numbers(xp, values, "values")
    _agree(rewards=r, values=v)
    return _backward(xp, r + gamma * after - v, gamma * lam, cut)
