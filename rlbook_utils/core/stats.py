"""Summaries of replicated experiments: bands, robust means and standard errors.

All functions are numpy, take any array-like (a CPU tensor too) and compute in float64.
Replications come first, as everywhere in the package, except where said otherwise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

BLOCK_NUMBERS = 2**22


class Band(NamedTuple):
    """Lower and upper end of an interval, elementwise."""

    low: Array
    high: Array


class Estimate(NamedTuple):
    """A point estimate between the ends of its interval."""

    value: float
    low: float
    high: float


def _checked(samples: ArrayLike, name: str, axis: int | None, least: int) -> Array:
    array = np.asarray(samples, dtype=np.float64)
    if array.ndim == 0:
        raise ValueError(f"{name} is the scalar {array}: it must be an array")
    if axis is not None and not -array.ndim <= axis < array.ndim:
        raise ValueError(f"axis is {axis}, but {name} has shape {array.shape}")
    count = array.size if axis is None else array.shape[axis]
    if array.size == 0 or count < least:
        raise ValueError(
            f"{name} has shape {array.shape}: {count} samples, at least {least} needed"
        )
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} has {array[place]} at index {place}")
    return array


def _check_interval(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: it must lie strictly between 0 and 1")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}: it must be at least 1")


def _ends(draws: Array, level: float) -> Band:
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return Band(low, high)


def _resampled_means(
    columns: Array, resamples: int, rng: np.random.Generator, rows: int
) -> Array:
    """Return the means of `resamples` resamples, (resamples, M), of columns (N, M)."""
    count = len(columns)
    means = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        picks = rng.integers(count, size=(size, count))
        picks += count * np.arange(size)[:, None]
        counts = np.bincount(picks.ravel(), minlength=size * count)
        weights = counts.reshape(size, count) / count
        np.matmul(weights, columns, out=means[start : start + size])
    return means


def bootstrap_band(
    samples: ArrayLike,
    level: float = 0.95,
    resamples: int = 1000,
    *,
    rng: np.random.Generator,
    block: int = BLOCK_NUMBERS,
) -> Band:
    """Return the percentile bootstrap interval of the mean over replications.

    Each of B resamples draws N replications with replacement, which gives replication
    i the weight w_bi = (times drawn)/N, and has the mean m_b = sum_i w_bi x_i. The
    band runs from the (1 - level)/2 to the (1 + level)/2 quantile of m_1 ... m_B. The
    same B resamples serve every column, so the band of a smooth curve is smooth. The
    interval covers each point by itself, not the whole curve at once.

    Parameters
    ----------
    samples : (N, ...) array
        Replications first, N >= 2.
    level : float
        In (0, 1).
    resamples : int
        B, at least 1.
    rng : numpy.random.Generator
        Source of the resamples.
    block : int
        Numbers held at once per work array. Changes memory, not the result.

    Returns
    -------
    Band
        ``(low, high)``, each of shape (...).

    Raises
    ------
    ValueError
        If `samples` holds NaN or infinity, N < 2, `level` is outside (0, 1),
        `resamples` < 1 or `block` < 1.

    Notes
    -----
    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.

    Examples
    --------
    >>> band = bootstrap_band([0.0, 1.0] * 50, rng=np.random.default_rng(0))
    >>> bool(band.low < 0.5 < band.high)
    True
    """
    array = _checked(samples, "samples", 0, 2)
    _check_interval(level, resamples)
    if block < 1:
        raise ValueError(f"block is {block}: it must be at least 1")
    flat = array.reshape(len(array), -1)
    seed = rng.integers(2**63)
    rows, width = max(1, block // len(flat)), max(1, block // resamples)
    low, high = np.empty(flat.shape[1]), np.empty(flat.shape[1])
    for start in range(0, flat.shape[1], width):
        part = slice(start, start + width)
        again = np.random.default_rng(seed)
        means = _resampled_means(flat[:, part], resamples, again, rows)
        low[part], high[part] = _ends(means, level)
    return Band(low.reshape(array.shape[1:]), high.reshape(array.shape[1:]))


def standard_error(samples: ArrayLike, axis: int = 0) -> Array:
    """Return the standard error of the mean.

    se = sqrt(sum_i (x_i - mean)^2 / (N - 1) / N).

    Parameters
    ----------
    samples : array
        At least 2 samples along `axis`.
    axis : int
        The axis of the replications.

    Returns
    -------
    array
        The shape of `samples` without `axis`.

    Raises
    ------
    ValueError
        If there are fewer than 2 samples, or NaN or infinity among them.

    Examples
    --------
    >>> float(standard_error([1.0, 3.0]))
    1.0
    """
    array = _checked(samples, "samples", axis, 2)
    error = array.std(axis=axis, ddof=1) / math.sqrt(array.shape[axis])
    return np.asarray(error)


def _middle_weights(count: int) -> Array:
    edges = np.clip(np.arange(count + 1), count / 4, 3 * count / 4)
    return np.diff(edges) / (count / 2)


def iqm(samples: ArrayLike, axis: int | None = 0) -> Array:
    """Return the interquartile mean: the mean of the middle half of the samples.

    With x_(1) <= ... <= x_(n), each taken as a step of width 1 over [i - 1, i],
    iqm = (2/n) * integral of the steps from n/4 to 3n/4. A sample that straddles a
    quartile counts by the part of it that is inside, so exactly half of the weight
    is trimmed for every n. Where n is a multiple of 4 this is the 25 % trimmed mean
    of `scipy.stats.trim_mean`, which for other n trims fewer.

    Parameters
    ----------
    samples : array
        At least 1 sample along `axis`.
    axis : int or None
        The axis of the replications; None takes all numbers as one sample.

    Returns
    -------
    array
        The shape of `samples` without `axis`.

    Raises
    ------
    ValueError
        If there are no samples, or NaN or infinity among them.

    Notes
    -----
    Source: Agarwal et al. (2021), Deep Reinforcement Learning at the Edge of the
    Statistical Precipice, section 4.3.

    Examples
    --------
    >>> float(iqm([0.0, 1.0, 3.0, 100.0]))
    2.0
    """
    array = _checked(samples, "samples", axis, 1)
    array = array.ravel() if axis is None else np.moveaxis(array, axis, -1)
    return np.asarray(np.sort(array, axis=-1) @ _middle_weights(array.shape[-1]))


def stratified_bootstrap_iqm(
    scores: ArrayLike,
    level: float = 0.95,
    resamples: int = 2000,
    *,
    rng: np.random.Generator,
    block: int = BLOCK_NUMBERS,
) -> Estimate:
    """Return the IQM over tasks and runs with its stratified bootstrap interval.

    Each resample draws, for every task by itself, as many runs with replacement as
    the task has, and takes the IQM of all the numbers drawn. The interval is the
    percentile interval of these. With one task it is the plain bootstrap of the IQM.

    Parameters
    ----------
    scores : (tasks, runs) array
        Normalized scores, at least 2 runs.
    level : float
        In (0, 1).
    resamples : int
        At least 1.
    rng : numpy.random.Generator
        Source of the resamples.
    block : int
        Numbers held at once. Changes memory, not the result.

    Returns
    -------
    Estimate
        ``(value, low, high)``.

    Raises
    ------
    ValueError
        If `scores` is not a matrix, has fewer than 2 runs or holds NaN or infinity,
        `level` is outside (0, 1), `resamples` < 1 or `block` < 1.

    Notes
    -----
    Source: Agarwal et al. (2021), section 4.1 (stratified bootstrap) and 4.3 (IQM).
    Their library `rliable` has runs first and trims whole samples.

    Examples
    --------
    >>> scores = [[0.0, 1.0, 0.5, 0.6], [0.2, 0.9, 0.4, 0.7]]
    >>> point = stratified_bootstrap_iqm(scores, rng=np.random.default_rng(0))
    >>> point.low <= point.value <= point.high
    True
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"scores has shape {array.shape}: it must be (tasks, runs)")
    array = _checked(array, "scores", 1, 2)
    _check_interval(level, resamples)
    if block < 1:
        raise ValueError(f"block is {block}: it must be at least 1")
    tasks, runs = array.shape
    rows = max(1, block // array.size)
    draws = np.empty(resamples)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        picks = rng.integers(runs, size=(size, tasks, runs))
        drawn = np.take_along_axis(array[None], picks, axis=2)
        draws[start : start + size] = iqm(drawn.reshape(size, -1), axis=1)
    band = _ends(draws, level)
    return Estimate(float(iqm(array, axis=None)), float(band.low), float(band.high))


def moving_average(x: ArrayLike, window: int) -> Array:
    """Return the trailing mean along the last axis.

    y_t = mean(x_{t - w + 1}, ..., x_t), over what there is of it for t < w - 1.
    A window of 1 returns x itself.

    Parameters
    ----------
    x : (..., T) array
        T >= 1.
    window : int
        w, at least 1.

    Returns
    -------
    (..., T) array

    Raises
    ------
    ValueError
        If `x` is empty or holds NaN or infinity, or `window` < 1.

    Examples
    --------
    >>> moving_average([2.0, 4.0, 6.0], 2).tolist()
    [2.0, 3.0, 5.0]
    """
    array = _checked(x, "x", -1, 1)
    if window < 1:
        raise ValueError(f"window is {window}: it must be at least 1")
    sums = np.cumsum(array, axis=-1)
    sums[..., window:] -= sums[..., :-window].copy()
    return sums / np.minimum(np.arange(1, array.shape[-1] + 1), window)
