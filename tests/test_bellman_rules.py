"""The displayed rules of the chapter on Bellman equations, to the letter."""

import numpy as np
import pytest

from rlbook_utils import bellman
from rlbook_utils.worlds import mdp

SEEDS = range(5)


def world(seed, states=6, actions=3, gamma=0.9):
    rng = np.random.default_rng(seed)
    return mdp.random_mdp(states, actions, rng, gamma=gamma)


def some_policy(seed, states=6, actions=3):
    return np.random.default_rng(seed + 100).dirichlet(np.ones(actions), states)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_bellman_v(seed):
    m, pi = world(seed, states=3, actions=2, gamma=0.5), some_policy(seed, 3, 2)
    values = m.evaluate(pi)
    for s in range(3):
        start = mdp.TabularMDP(m.dense(), m.r, gamma=0.5, start=s)
        every = start.enumerate(5, pi)
        rest = 0.5**5 * values[every.states[:, -1]]
        assert every.probabilities @ (every.returns + rest) == pytest.approx(values[s])


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_bellman_q(seed):
    m, pi = world(seed), some_policy(seed)
    values, P = m.evaluate(pi), m.dense()
    q = np.zeros((6, 3))
    for s in range(6):
        for a in range(3):
            q[s, a] = m.r[s, a] + 0.9 * sum(P[a, s, t] * values[t] for t in range(6))
    np.testing.assert_allclose(bellman.q_from_v(m, values), q, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_bellman_expectation(seed):
    m, pi = world(seed), some_policy(seed)
    values, P = m.evaluate(pi), m.dense()
    for s in range(6):
        right = sum(pi[s, a] * (m.r[s, a] + 0.9 * P[a, s] @ values) for a in range(3))
        assert values[s] == pytest.approx(right, abs=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_bellman_optimality(seed):
    m = world(seed)
    values, P = m.solve().values, m.dense()
    for s in range(6):
        right = max(m.r[s, a] + 0.9 * P[a, s] @ values for a in range(3))
        assert values[s] == pytest.approx(right, abs=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_bellman_improvement(seed):
    m, pi = world(seed), some_policy(seed)
    values = m.evaluate(pi)
    better = bellman.q_from_v(m, values).argmax(1)
    assert (m.evaluate(better) >= values - 1e-12).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_bellman_contraction(seed):
    m, rng = world(seed), np.random.default_rng(seed)
    for _ in range(20):
        u, v = rng.normal(size=(2, 6)) * 10
        tu, tv = (bellman.q_from_v(m, x).max(1) for x in (u, v))
        assert abs(tu - tv).max() <= 0.9 * abs(u - v).max() + 1e-12


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_bellman_stop(seed):
    m = world(seed)
    exact = m.solve().values
    values = np.zeros(6)
    for _ in range(40):
        new = bellman.q_from_v(m, values).max(1)
        residual = abs(new - values).max()
        assert abs(new - exact).max() <= 0.9 / (1 - 0.9) * residual + 1e-12
        values = new
