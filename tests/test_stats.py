"""Bands, interquartile means and moving averages against exact answers."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlbook_utils.core import stats

PLAIN = settings(derandomize=True, deadline=None, database=None, max_examples=60)
NUMBERS = st.floats(-1e3, 1e3)
NAN, INF = float("nan"), float("inf")


def rng(seed=0):
    return np.random.default_rng(seed)


def samples(least=2, dimensions=1):
    shape = st.tuples(*[st.integers(least, 9)] * dimensions)
    return arrays(np.float64, shape, elements=NUMBERS)


# Bootstrap band


def test_band_is_the_quantile_of_all_27_resamples():
    # All 27 equally likely resamples of (0, 1, 10), their means in order. The quantile
    # at .1 is the third smallest (0 has 1/27, 1/3 has 3/27) and lies inside the atom
    # 1/3; that at .9 inside the atom 7 (below it 20/27, up to it 26/27).
    values = np.array([0.0, 1.0, 10.0])
    means = np.sort([np.mean(p) for p in itertools.product(values, repeat=3)])
    exact = means[[int(0.1 * 27), int(0.9 * 27)]]
    assert exact == pytest.approx([1 / 3, 7])
    for seed in range(5):
        band = stats.bootstrap_band(values, 0.8, 4000, rng=rng(seed))
        assert [band.low, band.high] == pytest.approx(exact)


def test_band_agrees_with_a_plain_loop():
    values = rng(1).exponential(size=40)
    draws = rng(2)
    loop = [draws.choice(values, 40).mean() for _ in range(20_000)]
    band = stats.bootstrap_band(values, 0.9, 20_000, rng=rng(3))
    # A quantile of 20,000 draws at .05 has a standard error of about .01 sd.
    assert band == pytest.approx(
        np.quantile(loop, [0.05, 0.95]), abs=0.05 * np.std(loop)
    )


def test_band_covers_the_mean():
    hits = 0
    for seed in range(400):
        values = rng(seed).normal(size=(60,))
        low, high = stats.bootstrap_band(values, resamples=300, rng=rng(seed + 1000))
        hits += low <= 0 <= high
    # 95 % of 400 has a standard error of 1.1 points; the percentile interval of 60
    # numbers covers a point or two too little.
    assert 0.90 <= hits / 400 <= 0.98


def test_band_of_a_curve_has_its_shape_and_no_noise_of_its_own():
    values = rng(0).normal(size=(30, 4, 7))
    band = stats.bootstrap_band(values, rng=rng(1))
    assert band.low.shape == band.high.shape == (4, 7)
    assert stats.bootstrap_band(values[:, 0, 0], rng=rng(1)).low.shape == ()
    twice = np.stack([values[:, 0, 0], values[:, 0, 0]], axis=1)
    band = stats.bootstrap_band(twice, rng=rng(1))
    assert band.low[0] == band.low[1]
    assert band.high[0] == band.high[1]


@pytest.mark.parametrize("block", [1, 50, 1000, 10**7])
def test_band_does_not_depend_on_the_block(block):
    values = rng(0).normal(size=(20, 30))
    band = stats.bootstrap_band(values, resamples=50, rng=rng(1), block=block)
    whole = stats.bootstrap_band(values, resamples=50, rng=rng(1))
    np.testing.assert_allclose(band, whole, rtol=0, atol=1e-14)


def test_band_memory_is_bounded():
    values = np.zeros((20_000, 50))
    tracemalloc.start()
    stats.bootstrap_band(values, resamples=200, rng=rng(0), block=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Without blocks the weights alone are 200 x 20,000 x 8 bytes = 32 MB, and the
    # draws as much again; with them three work arrays of 8 MB each.
    assert peak < 40e6


@PLAIN
@given(samples(), st.floats(-10, 10), st.floats(0.1, 10))
def test_band_moves_and_stretches_with_the_samples(values, shift, scale):
    band = stats.bootstrap_band(values, resamples=20, rng=rng(0))
    other = stats.bootstrap_band(shift + scale * values, resamples=20, rng=rng(0))
    np.testing.assert_allclose(other, shift + scale * np.array(band), atol=1e-8)
    assert values.min() - 1e-9 <= band.low <= band.high <= values.max() + 1e-9


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0], {}, r"shape \(1,\): 1 samples, at least 2"),
        ([], {}, r"shape \(0,\)"),
        (np.zeros((3, 0)), {}, r"shape \(3, 0\)"),
        (3.0, {}, "scalar 3.0"),
        ([[0.0, 1.0], [NAN, 1.0]], {}, r"samples has nan at index \(1, 0\)"),
        ([0.0, INF], {}, r"samples has inf at index \(1,\)"),
        ([0.0, 1.0], {"level": 1.0}, "level is 1.0"),
        ([0.0, 1.0], {"level": 0}, "level is 0"),
        ([0.0, 1.0], {"level": 95}, "level is 95"),
        ([0.0, 1.0], {"level": NAN}, "level is nan"),
        ([0.0, 1.0], {"resamples": 0}, "resamples is 0"),
        ([0.0, 1.0], {"block": 0}, "block is 0"),
    ],
)
def test_band_refuses(values, options, message):
    with pytest.raises(ValueError, match=message):
        stats.bootstrap_band(values, rng=rng(0), **options)


# Standard error


def test_standard_error_by_hand():
    # mean 3, squared deviations 4 + 1 + 9 = 14, / 2 / 3, root.
    assert stats.standard_error([1.0, 2.0, 6.0]) == pytest.approx((14 / 6) ** 0.5)
    values = rng(0).normal(size=(5, 8))
    np.testing.assert_allclose(
        stats.standard_error(values, axis=1), values.std(1, ddof=1) / 8**0.5
    )


@pytest.mark.parametrize(
    ("values", "axis", "message"),
    [
        ([[1.0, 2.0]], 0, r"shape \(1, 2\): 1 samples"),
        ([1.0, NAN], 0, "has nan"),
        ([1.0, 2.0], 1, r"axis is 1, but samples has shape \(2,\)"),
    ],
)
def test_standard_error_refuses(values, axis, message):
    with pytest.raises(ValueError, match=message):
        stats.standard_error(values, axis)


# Interquartile mean


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([7.0], 7),
        ([1.0, 2.0], 1.5),
        # Middle half of three steps: .25 of the first, the second, .25 of the third.
        ([0.0, 1.0, 8.0], (0.25 * 0 + 1 + 0.25 * 8) / 1.5),
        ([100.0, 1.0, 0.0, 3.0], 2),
        # Quartiles at 1.25 and 3.75: .75 * 1 + 2 + .75 * 3 = 5, over 2.5.
        ([0.0, 1.0, 2.0, 3.0, 40.0], 2),
        (list(range(8)), (2 + 3 + 4 + 5) / 4),
    ],
)
def test_iqm_by_hand(values, mean):
    assert stats.iqm(values) == pytest.approx(mean)


@PLAIN
@given(samples(least=1))
def test_iqm_is_the_trimmed_mean_of_four_copies(values):
    copies = np.sort(np.repeat(values, 4))
    middle = copies[len(values) : 3 * len(values)]
    assert stats.iqm(values) == pytest.approx(middle.mean(), abs=1e-9)


def test_iqm_is_not_integer_trimming():
    # int(5 / 4) = 1 sample off each side, as scipy.stats.trim_mean does, keeps 60 %.
    values = np.array([0.0, 1.0, 2.0, 6.0, 40.0])
    assert stats.iqm(values) == pytest.approx((0.75 * 1 + 2 + 0.75 * 6) / 2.5)
    assert stats.iqm(values) != pytest.approx(values[1:-1].mean())


@PLAIN
@given(samples(least=2, dimensions=2), st.integers(-2, 1))
def test_iqm_reduces_along_any_axis(values, axis):
    rows = np.moveaxis(values, axis, -1)
    expected = [stats.iqm(row[::-1]) for row in rows]
    np.testing.assert_allclose(stats.iqm(values, axis), expected, atol=1e-9)
    assert stats.iqm(values, None) == pytest.approx(stats.iqm(values.ravel()))


@pytest.mark.parametrize(
    ("values", "message"), [([], r"shape \(0,\)"), ([1.0, NAN], "has nan")]
)
def test_iqm_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        stats.iqm(values)


# Stratified bootstrap


def pooled_interval(scores, resamples):
    """The wrong version: runs are drawn from all tasks together."""
    flat, draws = scores.ravel(), rng(0)
    means = [stats.iqm(draws.choice(flat, flat.size)) for _ in range(resamples)]
    return np.quantile(means, [0.025, 0.975])


def test_strata_keep_the_spread_between_tasks_out():
    scores = np.repeat([[0.0], [5.0], [9.0]], 6, axis=1)
    estimate = stats.stratified_bootstrap_iqm(scores, rng=rng(0))
    assert estimate.low == estimate.value == estimate.high == stats.iqm(scores, None)
    low, high = pooled_interval(scores, 300)
    assert high - low > 1


def test_stratified_agrees_with_a_plain_loop():
    scores, draws = rng(0).normal(size=(3, 5)), rng(1)
    loop = [
        stats.iqm(np.concatenate([draws.choice(row, 5) for row in scores]))
        for _ in range(8000)
    ]
    estimate = stats.stratified_bootstrap_iqm(scores, 0.9, 8000, rng=rng(2))
    limits = np.quantile(loop, [0.05, 0.95])
    assert estimate[1:] == pytest.approx(limits, abs=0.08 * np.std(loop))


@pytest.mark.parametrize("block", [1, 40, 10**6])
def test_stratified_does_not_depend_on_the_block(block):
    scores = rng(0).normal(size=(2, 6))
    one = stats.stratified_bootstrap_iqm(scores, rng=rng(1), resamples=99, block=block)
    assert one == stats.stratified_bootstrap_iqm(scores, rng=rng(1), resamples=99)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([1.0, 2.0], {}, r"scores has shape \(2,\): it must be \(tasks, runs\)"),
        ([[1.0], [2.0]], {}, r"scores has shape \(2, 1\): 1 samples"),
        ([[1.0, NAN]], {}, "scores has nan"),
        ([[1.0, 2.0]], {"level": 1.5}, "level is 1.5"),
        ([[1.0, 2.0]], {"resamples": -1}, "resamples is -1"),
        ([[1.0, 2.0]], {"block": 0}, "block is 0"),
    ],
)
def test_stratified_refuses(scores, options, message):
    with pytest.raises(ValueError, match=message):
        stats.stratified_bootstrap_iqm(scores, rng=rng(0), **options)


# Moving average


@PLAIN
@given(samples(least=1, dimensions=2), st.integers(1, 12))
def test_moving_average_agrees_with_a_plain_loop(values, window):
    loop = [
        [row[max(0, t - window + 1) : t + 1].mean() for t in range(len(row))]
        for row in values
    ]
    np.testing.assert_allclose(stats.moving_average(values, window), loop, atol=1e-9)


@pytest.mark.parametrize(
    ("values", "window", "message"),
    [([1.0], 0, "window is 0"), ([], 2, r"shape \(0,\)"), ([NAN], 2, "x has nan")],
)
def test_moving_average_refuses(values, window, message):
    with pytest.raises(ValueError, match=message):
        stats.moving_average(values, window)
