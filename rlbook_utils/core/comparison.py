"""Is one method better than another? Differences, pairs, and how many seeds it takes.

All functions are numpy and compute in float64. A sample holds one score a seed.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from rlbook_utils.core.stats import (
    Array,
    Estimate,
    _check_interval,
    _checked,
    _ends,
)

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(100)


def _sample(x: ArrayLike, name: str) -> Array:
    array = _checked(x, name, 0, 2)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: it must be (seeds,)")
    return array


def t_quantile(p: float, freedom: float) -> float:
    """Return the p-quantile of Student's t distribution.

    The density is integrated with t = tan(u) sqrt(freedom), which makes it a power of
    a cosine on a bounded interval; where there is much freedom it is a narrow peak, and
    the interval ends 12 of its widths out. The quantile is found by bisection.

    Parameters
    ----------
    p : float
        In (0, 1).
    freedom : float
        Degrees of freedom, at least 1; need not be whole.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `p` is outside (0, 1) or `freedom` below 1.

    Examples
    --------
    >>> round(t_quantile(0.975, 4), 3)
    2.776
    """
    if not 0 < p < 1:
        raise ValueError(f"p is {p}: it must lie strictly between 0 and 1")
    if not freedom >= 1:
        raise ValueError(f"freedom is {freedom}: it must be at least 1")
    if freedom > 1e9:  # cos(u) would lose its digits; both agree to eight of them
        return NormalDist().inv_cdf(p)

    def inside(angle: float) -> float:
        """Integrate cos(u)^(freedom - 1) from 0 to an angle."""
        u = angle / 2 * (_NODES + 1)
        return float(angle / 2 * _WEIGHTS @ np.cos(u) ** (freedom - 1))

    low, high = 0.0, min(math.pi / 2, 12 / math.sqrt(freedom))
    wanted = abs(2 * p - 1) * inside(high)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < wanted else (low, middle)
    return math.copysign(math.sqrt(freedom) * math.tan(low), p - 0.5)


def difference(
    x: ArrayLike, y: ArrayLike, level: float = 0.95, *, paired: bool = False
) -> Estimate:
    """Return mean(x) - mean(y) with Student's interval.

    Unpaired (Welch): se^2 = s_x^2/n + s_y^2/m, and its degrees of freedom are
    se^4 / (s_x^4/(n^2 (n-1)) + s_y^4/(m^2 (m-1))). Paired: the differences x_i - y_i
    are one sample, se^2 = s_d^2/n, with n - 1 degrees of freedom.

    Parameters
    ----------
    x, y : (n,), (m,) arrays
        At least 2 scores each; with `paired` the i-th of both share their luck.
    level : float
        In (0, 1).
    paired : bool

    Returns
    -------
    Estimate
        ``(value, low, high)``.

    Raises
    ------
    ValueError
        If a sample is too small, not flat or not finite, `level` is outside (0, 1), or
        pairs are asked for and the lengths differ.

    Notes
    -----
    Source: Satterthwaite (1946), An approximate distribution of estimates of variance
    components; Welch (1947), The generalization of "Student's" problem when several
    different population variances are involved.

    Examples
    --------
    >>> tuple(round(v, 2) for v in difference([1, 2, 3], [2, 3, 4], paired=True))
    (-1.0, -1.0, -1.0)
    >>> tuple(round(v, 2) for v in difference([1, 2, 3], [2, 3, 4]))
    (-1.0, -3.27, 1.27)
    """
    first, second = _sample(x, "x"), _sample(y, "y")
    _check_interval(level, 1)
    if paired:
        if len(first) != len(second):
            raise ValueError(
                f"x has {len(first)} scores, y {len(second)}: pairs need equal numbers"
            )
        gaps = first - second
        value, error = float(gaps.mean()), gaps.var(ddof=1) / len(gaps)
        freedom = len(gaps) - 1.0
    else:
        parts = np.array([z.var(ddof=1) / len(z) for z in (first, second)])
        value, error = float(first.mean() - second.mean()), parts.sum()
        counts = np.array([len(first), len(second)]) - 1.0
        freedom = float(error**2 / (parts**2 / counts).sum()) if error else counts.sum()
    reach = t_quantile((1 + level) / 2, float(freedom)) * math.sqrt(error)
    return Estimate(value, value - reach, value + reach)


def probability_of_improvement(
    x: ArrayLike,
    y: ArrayLike,
    level: float = 0.95,
    resamples: int = 1000,
    *,
    rng: np.random.Generator,
) -> Estimate:
    """Return P(X > Y) + P(X = Y)/2 for one more run of each, with a bootstrap interval.

    The estimate is the mean over all n m pairs of scores, 1 for x_i > y_j and 1/2 for a
    tie: the Mann-Whitney statistic over n m. Each resample draws both samples anew.

    Parameters
    ----------
    x, y : (n,), (m,) arrays
        At least 2 scores each; larger is better.
    level : float
        In (0, 1).
    resamples : int
        At least 1.
    rng : numpy.random.Generator

    Returns
    -------
    Estimate
        ``(value, low, high)``; 1/2 says nothing either way.

    Raises
    ------
    ValueError
        If a sample is too small, not flat or not finite, `level` is outside (0, 1) or
        `resamples` < 1.

    Notes
    -----
    Source: Agarwal et al. (2021), section 4.3.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> probability_of_improvement([1, 3], [0, 2], rng=rng).value
    0.75
    """
    first, second = _sample(x, "x"), _sample(y, "y")
    _check_interval(level, resamples)
    n, m = len(first), len(second)
    wins = (np.sign(first[:, None] - second) + 1) / 2
    rows = rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n
    columns = rng.multinomial(m, np.full(m, 1 / m), size=resamples) / m
    band = _ends(((rows @ wins) * columns).sum(1), level)
    return Estimate(float(wins.mean()), float(band.low), float(band.high))


def seeds_needed(effect: float, power: float = 0.8, level: float = 0.95) -> int:
    """Return how many seeds find a difference, in the normal approximation.

    n = ceil(((z_((1 + level)/2) + z_power) / effect)^2): with so many differences, each
    of standard deviation sd, a true difference of effect * sd is found, on its right
    side of an interval that excludes 0, with probability `power`. The interval is that
    of a known sd; Student's is wider, and needs one or two seeds more.

    Parameters
    ----------
    effect : float
        True difference over the standard deviation *of a difference*: of x_i - y_i for
        pairs, sqrt(sd_x^2 + sd_y^2) without. Not 0.
    power, level : float
        In (0, 1).

    Returns
    -------
    int
        Seeds for each method.

    Raises
    ------
    ValueError
        If `effect` is 0 or not finite, or `power` or `level` outside (0, 1).

    Examples
    --------
    >>> seeds_needed(0.5)
    32
    """
    if not (math.isfinite(effect) and effect):
        raise ValueError(f"effect is {effect}: it must be finite and not 0")
    for name, share in (("power", power), ("level", level)):
        if not 0 < share < 1:
            raise ValueError(f"{name} is {share}: it must lie between 0 and 1")
    z = NormalDist().inv_cdf
    return math.ceil(((z((1 + level) / 2) + z(power)) / effect) ** 2)
