"""Comparisons of two methods: by hand, against published tables and by simulation."""

import itertools
import math
import re
from statistics import NormalDist

import numpy as np
import pytest

from rlbook_utils.core.comparison import (
    difference,
    probability_of_improvement,
    seeds_needed,
    t_quantile,
)

NAN = float("nan")


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("p", "freedom", "published"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 9, 2.262),
        (0.95, 4, 2.132),
        (0.995, 30, 2.750),
        (0.025, 4, -2.776),
    ],
)
def test_quantiles_of_the_printed_tables(p, freedom, published):
    assert t_quantile(p, freedom) == pytest.approx(published, abs=6e-4)


def test_quantiles_have_closed_forms_and_a_limit():
    # One degree of freedom is Cauchy: tan(pi (p - 1/2)). Two: (2p-1)/sqrt(2p(1-p)).
    for p in (0.6, 0.9, 0.99):
        assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)))
        two = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
        assert t_quantile(p, 2) == pytest.approx(two)
    assert t_quantile(0.5, 7) == pytest.approx(0, abs=1e-12)
    assert t_quantile(0.975, 3000) == pytest.approx(1.95996, abs=1e-3)
    for much in (1e10, 1e12, math.inf):
        assert t_quantile(0.975, much) == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize("freedom", [1e3, 1e5, 1e6, 1e9])
@pytest.mark.parametrize("p", [0.6, 0.975, 0.9995])
def test_quantiles_of_much_freedom_approach_the_normal_law(p, freedom):
    # t = z + (z^3 + z)/(4 freedom) + O(1/freedom^2). A rule of fixed nodes on the whole
    # half circle once missed the narrow peak: 1.9975 at a million degrees.
    z = NormalDist().inv_cdf(p)
    expected = z + (z**3 + z) / (4 * freedom)
    assert t_quantile(p, freedom) == pytest.approx(expected, rel=3e-5)


def test_welch_by_hand():
    # Means 2 and 5, variances 1 and 4, n = 3 and 2: se^2 = 1/3 + 2 = 7/3; degrees of
    # freedom (49/9) / ((1/9)/2 + 4/1) = 1.342.
    x, y = [1.0, 2.0, 3.0], [5 - math.sqrt(2), 5 + math.sqrt(2)]
    found = difference(x, y)
    reach = t_quantile(0.975, 49 / 9 / (1 / 18 + 4)) * math.sqrt(7 / 3)
    assert found == pytest.approx((-3, -3 - reach, -3 + reach))


def test_pairs_by_hand():
    # Differences 1, 2, 3: mean 2, se 1/sqrt(3), t = 4.303.
    found = difference([2.0, 4.0, 9.0], [1.0, 2.0, 6.0], paired=True)
    reach = 4.3027 / math.sqrt(3)
    assert found == pytest.approx((2, 2 - reach, 2 + reach), abs=1e-4)


def test_samples_without_spread_have_a_point():
    assert difference([1.0, 1.0], [3.0, 3.0]) == (-2.0, -2.0, -2.0)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("n", [3, 10])
def test_intervals_cover_what_they_promise(n, paired):
    dice, runs = rng(1), 800
    hits = 0
    for _ in range(runs):
        luck = dice.normal(size=n)
        x, y = luck + dice.normal(size=n), 1 + luck + dice.normal(size=n)
        found = difference(x, y, 0.9, paired=paired)
        hits += found.low <= -1 <= found.high
    # Four standard errors of a share of .9 are .042. Unpaired intervals of paired
    # samples are too wide, never too narrow.
    share = hits / runs
    assert share > 0.9 - 0.042 and (not paired or share < 0.9 + 0.042)


def test_pairing_helps_where_luck_is_shared():
    luck = rng(2).normal(size=200)
    x, y = luck + 0.1 * rng(3).normal(size=200), luck
    paired, not_paired = difference(x, y, paired=True), difference(x, y)
    assert paired.high - paired.low < 0.2 * (not_paired.high - not_paired.low)


def test_improvement_is_the_count_over_all_pairs():
    x, y = [3.0, 1.0, 2.0], [2.0, 2.0, 0.0, 5.0]
    pairs = list(itertools.product(x, y))
    count = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / 12
    found = probability_of_improvement(x, y, rng=rng())
    assert found.value == pytest.approx(count)
    turned = probability_of_improvement(y, x, rng=rng())
    assert found.value + turned.value == pytest.approx(1)


def test_improvement_agrees_with_a_plain_loop():
    x, y, dice = rng(1).normal(0.5, 1, 12), rng(2).normal(size=9), rng(3)
    loop = []
    for _ in range(4000):
        a, b = dice.choice(x, 12), dice.choice(y, 9)
        loop.append((np.sign(a[:, None] - b) / 2 + 0.5).mean())
    found = probability_of_improvement(x, y, 0.9, 4000, rng=rng(4))
    assert found[1:] == pytest.approx(np.quantile(loop, [0.05, 0.95]), abs=0.015)


@pytest.mark.parametrize("effect", [0.5, -1.0])
def test_so_many_seeds_have_the_power_promised(effect):
    n = seeds_needed(effect, power=0.9)
    gaps = rng(5).normal(effect, 1, size=(20_000, n))
    z = gaps.mean(1) * math.sqrt(n)
    found = (np.sign(effect) * z > 1.95996).mean()
    # Rounding n up adds a little; four standard errors are .0085.
    assert 0.9 - 0.0085 < found < 0.93
    assert seeds_needed(effect / 2) > 3.8 * seeds_needed(effect)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: t_quantile(1.0, 3), "p is 1.0"),
        (lambda: t_quantile(0.9, 0.5), "freedom is 0.5"),
        (lambda: difference([1.0], [1.0, 2.0]), "x has shape (1,)"),
        (lambda: difference([1.0, 2.0], [[1.0], [2.0]]), "y has shape (2, 1)"),
        (lambda: difference([1.0, NAN], [1.0, 2.0]), "x has nan at index (1,)"),
        (lambda: difference([1.0, 2.0], [1.0, 2.0], 1.0), "level is 1.0"),
        (
            lambda: difference([1.0, 2.0], [1.0, 2.0, 3.0], paired=True),
            "x has 2 scores, y 3",
        ),
        (
            lambda: probability_of_improvement([1, 2], [1, 2], resamples=0, rng=rng()),
            "resamples is 0",
        ),
        (
            lambda: probability_of_improvement([1, 2], [1], rng=rng()),
            "y has shape (1,)",
        ),
        (lambda: seeds_needed(0.0), "effect is 0.0"),
        (lambda: seeds_needed(NAN), "effect is nan"),
        (lambda: seeds_needed(0.5, power=1.0), "power is 1.0"),
        (lambda: seeds_needed(0.5, level=0.0), "level is 0.0"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        call()
