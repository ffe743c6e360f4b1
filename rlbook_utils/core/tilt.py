"""The exponential tilt: the best distribution for a reward and a KL penalty.

Among all distributions p over the last axis, E_p[r] - alpha KL(p, reference) is largest
for p* proportional to reference exp(r/alpha), its value there is alpha log Z with
Z = sum reference exp(r/alpha), and any other p loses exactly alpha KL(p, p*). Without a
reference the penalty is the negative entropy: weights 1 instead of probabilities.

One function serves a choice among answers (bandit), the next action (soft values), the
next state (posterior dynamics), and whole trajectories. Everything is numpy float64 and
held in logs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SUM_TOLERANCE = 1e-9


class Tilt(NamedTuple):
    """The tilted distribution and the value of its objective.

    `probabilities` and `log_probabilities` (..., n); `value` (...), alpha log Z.
    """

    probabilities: Array
    log_probabilities: Array
    value: Array


class Frontier(NamedTuple):
    """What each temperature buys: mean `reward`, and its price `divergence` in KL."""

    divergence: Array
    reward: Array


def _check(temperature: float) -> None:
    if not 0 < temperature < np.inf:
        raise ValueError(
            f"temperature is {temperature}: it must be positive and finite"
        )


def _probabilities(name: str, given: ArrayLike, shape: tuple[int, ...]) -> Array:
    table = np.asarray(given, np.float64)
    if table.shape[-1:] != shape[-1:]:
        raise ValueError(f"{name} has shape {table.shape}, reward {shape}")
    sums = table.sum(-1)
    if not (table >= 0).all() or (np.abs(sums - 1) > SUM_TOLERANCE).any():
        worst = sums.flat[np.abs(sums - 1).argmax()]
        raise ValueError(
            f"{name} must be probabilities: least {table.min():.12g}, sum {worst:.12g}"
        )
    return table


def _reward(given: ArrayLike) -> Array:
    reward = np.asarray(given, np.float64)
    if reward.ndim == 0 or not np.isfinite(reward).all():
        raise ValueError(f"reward is {given!r}: it must be an array of finite numbers")
    return reward


def _log(x: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(x))


def tilt(
    reward: ArrayLike, temperature: float, reference: ArrayLike | None = None
) -> Tilt:
    """Return p* proportional to reference exp(r/alpha), and alpha log Z.

    Parameters
    ----------
    reward : (..., n) array
        Finite.
    temperature : float
        alpha, positive. Toward 0 the value tends to the maximum over the reference's
        support, toward infinity (with a reference) to its mean.
    reference : (..., n) array, optional
        Probabilities; None puts weight 1 on everything, so that the value is
        alpha log sum exp(r/alpha) and the objective E_p[r] + alpha H(p).

    Returns
    -------
    Tilt

    Raises
    ------
    ValueError
        If the temperature is not positive, a reward not finite, or `reference` no
        distribution of that shape.

    Notes
    -----
    Nothing overflows or cancels at any temperature: the largest reward is taken out
    first, and near Z = 1 the logarithm is that of 1 plus a mean of expm1. Source: the
    variational principle of Donsker and Varadhan; Todorov (2009).

    Examples
    --------
    >>> tilt([0.0, np.log(3.0)], 1.0, [0.5, 0.5]).probabilities.round(3).tolist()
    [0.25, 0.75]
    >>> tilt([0.0, 1.0], 1e-9).value.round(6), tilt([0.0, 1.0], 1e9, [0.5, 0.5]).value
    (np.float64(1.0), array(0.5))
    """
    _check(temperature)
    paid = _reward(reward)
    size = paid.shape[-1]
    if reference is None:
        weights = np.full(size, 1 / size)
    else:
        weights = _probabilities("reference", reference, paid.shape)
    best = np.where(weights > 0, paid, -np.inf).max(-1, keepdims=True)
    with np.errstate(over="ignore"):
        scores = np.minimum((paid - best) / temperature, 0.0)
    short = (weights * np.expm1(scores)).sum(-1, keepdims=True)
    total = (weights * np.exp(scores)).sum(-1, keepdims=True)
    log_mean = np.where(short > -0.5, np.log1p(np.maximum(short, -0.5)), _log(total))
    logs = _log(weights) + scores - log_mean
    value = (best + temperature * log_mean)[..., 0]
    if reference is None:
        value = value + temperature * np.log(size)
    return Tilt(weights * np.exp(scores) / total, logs, value)


def relative_entropy(p: ArrayLike, log_q: ArrayLike) -> Array:
    """Return KL(p, q) = sum p (log p - log q) over the last axis.

    Parameters
    ----------
    p : (..., n) array
        Probabilities.
    log_q : (..., n) array
        Logarithms, so that tiny q count; minus infinity is a q of 0.

    Returns
    -------
    (...) array
        Infinite where q = 0 < p.

    Raises
    ------
    ValueError
        If `p` is no distribution of that shape.

    Examples
    --------
    >>> relative_entropy([1.0, 0.0], np.log([0.5, 0.5])).round(4)
    np.float64(0.6931)
    """
    logs = np.asarray(log_q, np.float64)
    table = _probabilities("p", p, logs.shape)
    apart = np.where(table > 0, _log(table) - np.where(table > 0, logs, 0.0), 0.0)
    return np.asarray((table * apart).sum(-1))


def objective(
    policy: ArrayLike,
    reward: ArrayLike,
    temperature: float,
    reference: ArrayLike | None = None,
) -> Array:
    """Return J(p) = E_p[r] - alpha KL(p, reference), or E_p[r] + alpha H(p).

    Parameters
    ----------
    policy : (..., n) array
        Probabilities p.
    reward, temperature, reference
        As for :func:`tilt`.

    Returns
    -------
    (...) array

    Raises
    ------
    ValueError
        As :func:`tilt`, and if `policy` is no distribution.

    Examples
    --------
    >>> objective([1.0, 0.0], [2.0, 5.0], 1.0, [0.5, 0.5]).round(4)
    np.float64(1.3069)
    """
    _check(temperature)
    paid = _reward(reward)
    table = _probabilities("policy", policy, paid.shape)
    weights = np.ones(paid.shape)
    if reference is not None:
        weights = _probabilities("reference", reference, paid.shape)
    logs = _log(np.broadcast_to(weights, paid.shape))
    penalty = temperature * relative_entropy(table, logs)
    return np.asarray((table * paid).sum(-1) - penalty)


def suboptimality(
    policy: ArrayLike,
    reward: ArrayLike,
    temperature: float,
    reference: ArrayLike | None = None,
) -> Array:
    """Return what a distribution loses: J* - J(p) = alpha KL(p, p*).

    Parameters
    ----------
    policy : (..., n) array
        Probabilities p.
    reward, temperature, reference
        As for :func:`tilt`.

    Returns
    -------
    (...) array
        At least 0, and 0 only for p*.

    Raises
    ------
    ValueError
        As :func:`objective`.

    Examples
    --------
    >>> loss = suboptimality([0.9, 0.1], [0.0, 1.0], 0.5, [0.5, 0.5])
    >>> best = tilt([0.0, 1.0], 0.5, [0.5, 0.5]).value
    >>> bool(np.isclose(loss, best - objective([0.9, 0.1], [0.0, 1.0], 0.5, [0.5] * 2)))
    True
    """
    best = tilt(reward, temperature, reference)
    return temperature * relative_entropy(policy, best.log_probabilities)


def frontier(
    reward: ArrayLike, reference: ArrayLike, temperatures: ArrayLike
) -> Frontier:
    """Return KL and mean reward of the tilt at several temperatures.

    No distribution has more reward at the same KL, and the slope of the curve is the
    temperature: d reward = alpha d KL.

    Parameters
    ----------
    reward, reference : (n,) arrays
        As for :func:`tilt`.
    temperatures : (k,) array

    Returns
    -------
    Frontier
        Both arrays are (k,).

    Raises
    ------
    ValueError
        As :func:`tilt`.

    Examples
    --------
    >>> frontier([0.0, 1.0], [0.5, 0.5], [1e-3]).divergence.round(4).tolist()
    [0.6931]
    """
    paid, logs = _reward(reward), _log(np.asarray(reference, np.float64))
    best = [
        tilt(paid, alpha, reference).probabilities for alpha in np.ravel(temperatures)
    ]
    return Frontier(
        np.array([relative_entropy(p, logs) for p in best]),
        np.array([p @ paid for p in best]),
    )
