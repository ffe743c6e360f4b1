"""The formulas of the refresher, evaluated as they stand on small random cases."""

import math

import numpy as np
import pytest

from rlbook_utils.core.tilt import relative_entropy, tilt
from rlbook_utils.policy_gradient import softmax

each_seed = pytest.mark.parametrize("seed", range(5))


def case(seed):
    """Return a generator and a joint distribution of 3 times 4 outcomes."""
    rng = np.random.default_rng(seed)
    return rng, rng.dirichlet(np.ones(12)).reshape(3, 4)


def kl(p, q):
    """Return the sum as it is written, one outcome at a time."""
    pairs = zip(np.ravel(p), np.ravel(q), strict=True)
    return sum(a * math.log(a / b) for a, b in pairs)


@each_seed
def test_eq_refresher_tower(seed):
    rng, joint = case(seed)
    f = rng.normal(size=(3, 4))
    two_steps = 0.0
    for x in range(3):
        px = joint[x].sum()
        two_steps += px * sum(joint[x, y] / px * f[x, y] for y in range(4))
    assert two_steps == pytest.approx((joint * f).sum())


@each_seed
def test_eq_refresher_score(seed):
    rng, _ = case(seed)
    theta, f = rng.normal(size=5), rng.normal(size=5)
    p = softmax(theta)
    formula = sum(p[x] * f[x] * (np.eye(5)[x] - p) for x in range(5))
    step = 1e-6
    slopes = [
        (softmax(theta + step * e) - softmax(theta - step * e)) @ f / (2 * step)
        for e in np.eye(5)
    ]
    np.testing.assert_allclose(formula, slopes, atol=1e-8)
    scores = sum(p[x] * (np.eye(5)[x] - p) for x in range(5))
    np.testing.assert_allclose(scores, 0, atol=1e-15)


@each_seed
def test_eq_refresher_kl(seed):
    rng, _ = case(seed)
    p, q = rng.dirichlet(np.ones(4), size=2)
    assert relative_entropy(p, np.log(q)) == pytest.approx(kl(p, q))
    assert kl(p, q) > 0 == kl(p, p)


@each_seed
def test_eq_refresher_chain(seed):
    rng, p = case(seed)
    q = rng.dirichlet(np.ones(12)).reshape(3, 4)
    px, qx = p.sum(1), q.sum(1)
    steps = kl(px, qx) + sum(px[x] * kl(p[x] / px[x], q[x] / qx[x]) for x in range(3))
    assert steps == pytest.approx(kl(p, q))


def family(theta, features, base):
    """Return p_theta and A(theta) by the definition."""
    total = sum(
        h * math.exp(theta @ phi) for h, phi in zip(base, features, strict=True)
    )
    A = math.log(total)
    return base * np.exp(features @ theta - A), A


@each_seed
def test_eq_refresher_family(seed):
    rng, _ = case(seed)
    theta, base = rng.normal(size=4), np.ones(4)
    p, _ = family(theta, np.eye(4), base)
    np.testing.assert_allclose(p, softmax(theta))
    # With one feature, a reward, and theta = 1/alpha it is the helper's tilt.
    reward, q, alpha = rng.normal(size=4), rng.dirichlet(np.ones(4)), 0.7
    p, A = family(np.array([1 / alpha]), reward[:, None], q)
    found = tilt(reward, alpha, q)
    np.testing.assert_allclose(p, found.probabilities)
    assert float(found.value) == pytest.approx(alpha * A)


@each_seed
def test_eq_refresher_moments(seed):
    rng, _ = case(seed)
    features, base = rng.normal(size=(6, 2)), rng.dirichlet(np.ones(6))
    theta, step = rng.normal(size=2), 1e-4
    p, A = family(theta, features, base)
    mean = p @ features
    covariance = (p[:, None] * (features - mean)).T @ (features - mean)

    def at(*moves):
        return family(theta + step * np.sum(moves, 0), features, base)[1]

    for i, e in enumerate(np.eye(2)):
        assert (at(e) - at(-e)) / (2 * step) == pytest.approx(mean[i], abs=1e-6)
        bend = (at(e) - 2 * A + at(-e)) / step**2
        assert bend == pytest.approx(covariance[i, i], abs=1e-5)
    e, f = np.eye(2)
    mixed = (at(e, f) - at(e, -f) - at(-e, f) + at(-e, -f)) / (4 * step**2)
    assert mixed == pytest.approx(covariance[0, 1], abs=1e-5)


@each_seed
def test_eq_refresher_gibbs(seed):
    rng, _ = case(seed)
    r, q, alpha = rng.normal(size=4), rng.dirichlet(np.ones(4)), 0.5
    left = alpha * math.log(sum(q * np.exp(r / alpha)))

    def objective(p):
        return p @ r - alpha * kl(p, q)

    best = q * np.exp(r / alpha)
    assert objective(best / best.sum()) == pytest.approx(left)
    assert all(objective(p) < left for p in rng.dirichlet(np.ones(4), size=200))
