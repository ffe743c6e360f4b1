"""The formulas of the page on comparing methods, evaluated as they stand."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from rlbook_utils.core.comparison import (
    difference,
    probability_of_improvement,
    seeds_needed,
    t_quantile,
)


def samples(n=7):
    rng = np.random.default_rng(0)
    luck = rng.normal(size=n)
    return luck + rng.normal(size=n), 0.5 + luck + rng.normal(size=n)


def test_eq_statistics_error():
    x, y = samples()
    n = len(x)
    covariance = np.cov(x, y)[0, 1]
    for paired, shared in ((True, covariance), (False, 0.0)):
        error = math.sqrt((x.var(ddof=1) + y.var(ddof=1) - 2 * shared) / n)
        found = difference(x, y, paired=paired)
        a, b = x.var(ddof=1) / n, y.var(ddof=1) / n
        freedom = n - 1 if paired else (a + b) ** 2 * (n - 1) / (a**2 + b**2)
        reach = t_quantile(0.975, freedom) * error
        assert found.high - found.value == pytest.approx(reach)


@pytest.mark.parametrize("n", [4, 25])
def test_eq_statistics_wrong(n):
    # Exact for normal scores: sd of a difference sqrt(1 + 4), true difference .6.
    rng = np.random.default_rng(n)
    x, y = rng.normal(0.6, 1, (20_000, n)), rng.normal(0, 2, (20_000, n))
    wrong = (x.mean(1) < y.mean(1)).mean()
    formula = NormalDist().cdf(-math.sqrt(n) * 0.6 / math.sqrt(5))
    assert wrong == pytest.approx(formula, abs=4 * math.sqrt(0.25 / 20_000))


@pytest.mark.parametrize("effect", [0.14, 0.5, 2.0])
def test_eq_statistics_seeds(effect):
    z = NormalDist().inv_cdf
    n = ((z(0.975) + z(0.8)) / effect) ** 2
    assert seeds_needed(effect) - 1 < n <= seeds_needed(effect)


def test_eq_statistics_improvement():
    x, y = [1.0, 3.0, 3.0], [3.0, 0.0]
    total = 0.0
    for a in x:
        for b in y:
            total += float(a > b) + 0.5 * float(a == b)
    found = probability_of_improvement(x, y, rng=np.random.default_rng(0))
    assert found.value == pytest.approx(total / 6)
