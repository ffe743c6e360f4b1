"""The exponential tilt against brute force, both limits, and its errors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlbook_utils.core.tilt import (
    frontier,
    objective,
    relative_entropy,
    suboptimality,
    tilt,
)

PLAIN = settings(derandomize=True, deadline=None, database=None, max_examples=60)
SEEDS = st.integers(0, 10**6)
TEMPERATURES = st.floats(0.05, 20)


def case(seed, size=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=size), rng.dirichlet(np.ones(size)), rng


@PLAIN
@given(SEEDS, TEMPERATURES)
def test_it_is_the_plain_formula(seed, alpha):
    reward, reference, _ = case(seed)
    weights = reference * np.exp(reward / alpha)
    found = tilt(reward, alpha, reference)
    np.testing.assert_allclose(found.probabilities, weights / weights.sum())
    np.testing.assert_allclose(found.value, alpha * np.log(weights.sum()), atol=1e-12)
    np.testing.assert_allclose(
        np.exp(found.log_probabilities), found.probabilities, atol=1e-14
    )
    plain = alpha * np.log(np.exp(reward / alpha).sum())
    np.testing.assert_allclose(tilt(reward, alpha).value, plain)


@PLAIN
@given(SEEDS, TEMPERATURES)
def test_every_distribution_loses_alpha_kl(seed, alpha):
    reward, reference, rng = case(seed)
    other = rng.dirichlet(np.ones(6), size=20)
    for given_reference in (reference, None):
        best = tilt(reward, alpha, given_reference).value
        lost = best - objective(other, reward, alpha, given_reference)
        assert (lost > 0).all()
        same = suboptimality(other, reward, alpha, given_reference)
        np.testing.assert_allclose(lost, same, atol=1e-10)


@PLAIN
@given(SEEDS, TEMPERATURES)
def test_the_optimum_attains_its_value_and_loses_nothing(seed, alpha):
    reward, reference, _ = case(seed)
    best = tilt(reward, alpha, reference)
    here = objective(best.probabilities, reward, alpha, reference)
    assert here == pytest.approx(float(best.value), abs=1e-12)
    assert abs(suboptimality(best.probabilities, reward, alpha, reference)) < 1e-12


def test_the_direction_of_the_kl_matters():
    # Pitfall: KL(p*, p) instead of KL(p, p*).
    reward, reference, rng = case(3)
    other = rng.dirichlet(np.ones(6))
    best = tilt(reward, 0.5, reference)
    lost = best.value - objective(other, reward, 0.5, reference)
    wrong = 0.5 * relative_entropy(best.probabilities, np.log(other))
    assert abs(suboptimality(other, reward, 0.5, reference) - lost) < 1e-12
    assert abs(wrong - lost) > 0.05


@pytest.mark.parametrize("alpha", [1e-300, 1e-12, 1e-3])
def test_cold_it_is_the_maximum_over_the_support(alpha):
    found = tilt([1.0, 5.0, 9.0, 5.0], alpha, [0.5, 0.3, 0.0, 0.2])
    np.testing.assert_allclose(found.probabilities, [0, 0.6, 0, 0.4])
    # The exact value is 5 + alpha log(.3 + .2).
    assert float(found.value) == pytest.approx(5 + alpha * math.log(0.5), abs=1e-15)
    assert float(tilt([1.0, 5.0], alpha).value) == pytest.approx(5.0)


@pytest.mark.parametrize("alpha", [1e6, 1e12, 1e100])
def test_hot_it_is_the_mean_without_cancellation(alpha):
    reward, reference, _ = case(0)
    found = tilt(reward, alpha, reference)
    np.testing.assert_allclose(found.probabilities, reference, rtol=1e-5)
    # alpha log E exp(r/alpha) = E r + Var r/(2 alpha) + ...
    mean = reference @ reward
    second = mean + reference @ (reward - mean) ** 2 / (2 * alpha)
    assert float(found.value) == pytest.approx(second, abs=1e-11)
    naive = np.log(reference @ np.exp(reward / alpha)) * alpha
    assert alpha < 1e12 or not abs(naive - mean) < 1e-6


def test_the_naive_exponential_overflows_where_this_does_not():
    reward = np.array([800.0, 0.0])
    with np.errstate(over="ignore"):
        assert np.isinf(np.log(np.exp(reward).sum()))
    assert float(tilt(reward, 1.0).value) == 800.0


def test_tilts_compose_and_ignore_constants():
    reward, reference, rng = case(1)
    more = rng.normal(size=6)
    once = tilt(reward + more, 0.7, reference).probabilities
    first = tilt(reward, 0.7, reference).probabilities
    np.testing.assert_allclose(tilt(more, 0.7, first).probabilities, once)
    np.testing.assert_allclose(
        tilt(reward + 3, 0.7, reference)[1], tilt(reward, 0.7, reference)[1]
    )


def test_rows_are_tilted_one_by_one():
    reward, reference = np.arange(6.0).reshape(2, 3), np.array([0.2, 0.3, 0.5])
    both = tilt(reward, 0.5, reference)
    for row in range(2):
        np.testing.assert_allclose(
            both.probabilities[row], tilt(reward[row], 0.5, reference).probabilities
        )


def test_by_hand():
    # reference (1/2, 1/2), reward (0, log 3), alpha 1: weights 1/2 and 3/2, Z = 2.
    found = tilt([0.0, math.log(3)], 1.0, [0.5, 0.5])
    np.testing.assert_allclose(found.probabilities, [0.25, 0.75])
    assert float(found.value) == pytest.approx(math.log(2))
    # Staying at the reference loses KL((1/2, 1/2), (1/4, 3/4)) = log 2 - log(3)/2.
    loss = suboptimality([0.5, 0.5], [0.0, math.log(3)], 1.0, [0.5, 0.5])
    assert float(loss) == pytest.approx(math.log(2) - math.log(3) / 2)


def test_no_distribution_lies_above_the_frontier():
    reward, reference, rng = case(2)
    temperatures = np.geomspace(0.02, 50, 400)
    edge = frontier(reward, reference, temperatures)
    assert (np.diff(edge.divergence) < 0).all() and (np.diff(edge.reward) < 0).all()
    other = rng.dirichlet(np.ones(6), size=500)
    price = relative_entropy(other, np.log(reference))
    most = np.interp(price, edge.divergence[::-1], edge.reward[::-1])
    assert (other @ reward <= most + 1e-3).all()


def test_the_slope_of_the_frontier_is_the_temperature():
    reward, reference, _ = case(4)
    for alpha in (0.1, 0.5, 2.0):
        near = frontier(reward, reference, alpha * np.array([1.001, 0.999]))
        slope = np.diff(near.reward)[0] / np.diff(near.divergence)[0]
        assert slope == pytest.approx(alpha, rel=1e-4)


def test_what_the_reference_never_does_stays_out():
    edge = frontier([0.0, 1.0, 9.0], [0.6, 0.4, 0.0], [0.01])
    assert edge.reward[0] == pytest.approx(1.0)
    assert float(relative_entropy([0.0, 0.5, 0.5], np.log([0.6, 0.4, 1e-300]))) > 300
    assert np.isinf(suboptimality([0, 0, 1.0], [0.0, 1.0, 9.0], 1.0, [0.6, 0.4, 0.0]))


@pytest.mark.parametrize("alpha", [0, -1.0, math.inf, math.nan])
def test_temperatures_that_are_refused(alpha):
    with pytest.raises(ValueError, match=f"temperature is {alpha}"):
        tilt([0.0, 1.0], alpha)
    with pytest.raises(ValueError, match=f"temperature is {alpha}"):
        objective([0.5, 0.5], [0.0, 1.0], alpha)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tilt([0.0, np.nan], 1.0), "nan"),
        (lambda: tilt(3.0, 1.0), "reward is 3.0"),
        (lambda: tilt([0.0, 1.0], 1.0, [0.5, 0.6]), "sum 1.1"),
        (lambda: tilt([0.0, 1.0], 1.0, [-0.5, 1.5]), "least -0.5"),
        (lambda: tilt([0.0, 1.0], 1.0, [1.0]), r"\(1,\), reward \(2,\)"),
        (lambda: objective([0.9, 0.0], [0.0, 1.0], 1.0), "policy .*sum 0.9"),
        (lambda: relative_entropy([0.9, 0.0], [0.0, 0.0]), "p must .*sum 0.9"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
