"""The displayed rules of the chapter on policy gradients, to the letter."""

import itertools
import math

import numpy as np
import pytest
import torch

from rlbook_utils import policy_gradient as pg
from rlbook_utils.worlds import grids, mdp

SEEDS = range(5)
T, S, A, GAMMA = 3, 3, 2, 0.9


def case(seed):
    rng = np.random.default_rng(seed)
    return mdp.random_mdp(S, A, rng, gamma=GAMMA), rng.normal(size=(S, A))


def log_gradient(theta, s, a):
    """Return d log pi(a given s)/d theta (S, A) by autograd."""
    given = torch.tensor(theta, requires_grad=True)
    given.log_softmax(-1)[s, a].backward()
    return given.grad.numpy()


def trajectories(world, theta):
    """Yield (probability, states, actions, rewards), one at a time."""
    pi, P = pg.softmax(theta), world.dense()
    for s in itertools.product(range(S), repeat=T + 1):
        for a in itertools.product(range(A), repeat=T):
            p = world.start[s[0]]
            for t in range(T):
                p *= pi[s[t], a[t]] * P[a[t], s[t], s[t + 1]]
            yield p, s, a, [world.r[s[t], a[t]] for t in range(T)]


def future(rewards, t):
    return sum(GAMMA ** (k - t) * rewards[k] for k in range(t, T))


def mean_of(world, theta, weight):
    """Return E sum_t weight(t, s, a, r) grad log pi(a_t given s_t)."""
    scores = {(s, a): log_gradient(theta, s, a) for s in range(S) for a in range(A)}
    total = np.zeros((S, A))
    for p, s, a, r in trajectories(world, theta):
        for t in range(T):
            total += p * weight(t, s, a, r) * scores[s[t], a[t]]
    return total


def test_eq_pg_corridor():
    world = grids.short_corridor()
    for p in (0.05, 0.4, 2 - math.sqrt(2), 0.95):
        value = world.evaluate(np.tile([1 - p, p], (4, 1)))[0]
        assert value == pytest.approx((2 * p - 4) / (p * (1 - p)))


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_pg_softmax(seed):
    _, theta = case(seed)
    pi = pg.softmax(theta)
    for s in range(S):
        for a in range(A):
            expected = np.zeros((S, A))
            for b in range(A):
                expected[s, b] = (a == b) - pi[s, b]
            np.testing.assert_allclose(log_gradient(theta, s, a), expected, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_pg_objective(seed):
    world, theta = case(seed)
    total = sum(p * future(r, 0) for p, _, _, r in trajectories(world, theta))
    every = world.enumerate(T, pg.softmax(theta))
    assert total == pytest.approx(every.probabilities @ every.returns)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_pg_total(seed):
    world, theta = case(seed)
    found = mean_of(world, theta, lambda t, s, a, r: future(r, 0))
    np.testing.assert_allclose(found, pg.exact_gradient(world, theta, T), atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_pg_to_go(seed):
    world, theta = case(seed)
    found = mean_of(world, theta, lambda t, s, a, r: GAMMA**t * future(r, t))
    np.testing.assert_allclose(found, pg.exact_gradient(world, theta, T), atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_pg_baseline(seed):
    world, theta = case(seed)
    b = np.random.default_rng(seed).normal(size=(T, S)) * 10
    found = mean_of(world, theta, lambda t, s, a, r: GAMMA**t * b[t, s[t]])
    np.testing.assert_allclose(found, 0, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_pg_theorem(seed):
    world, theta = case(seed)
    pi = pg.softmax(theta)
    d, q = world.occupancy(pi), world.q_values(world.evaluate(pi))
    total = np.zeros((S, A))
    for s in range(S):
        for a in range(A):
            total += d[s] * pi[s, a] * q[s, a] * log_gradient(theta, s, a)
    np.testing.assert_allclose(total, pg.exact_gradient(world, theta), atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_pg_tabular(seed):
    world, theta = case(seed)
    pi = pg.softmax(theta)
    values = world.evaluate(pi)
    d, q = world.occupancy(pi), world.q_values(values)
    found = pg.exact_gradient(world, theta)
    for s in range(S):
        for a in range(A):
            advantage = q[s, a] - values[s]
            assert found[s, a] == pytest.approx(d[s] * pi[s, a] * advantage, abs=1e-10)


def weighed_by_time(world, theta, weight):
    """Return sum_t gamma^t mu_t(s) pi(a given s) weight(t, s, a)."""
    pi, total, marginal = pg.softmax(theta), np.zeros((S, A)), world.start
    for t in range(T):
        for s in range(S):
            for a in range(A):
                total[s, a] += GAMMA**t * marginal[s] * pi[s, a] * weight(t, s, a)
        marginal = marginal @ world.transition_matrix(pi)
    return total


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_pg_clock(seed):
    world, theta = case(seed)
    V, Q = pg.values_by_time(world, pg.softmax(theta), T)
    found = weighed_by_time(world, theta, lambda t, s, a: Q[t, s, a] - V[t, s])
    expected = mean_of(world, theta, lambda t, s, a, r: future(r, 0))
    np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_allclose(pg.exact_gradient(world, theta, T), found, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_returns_summed_up_to_t_follow_the_present_reward_alone(seed):
    world, theta = case(seed)
    pi = pg.softmax(theta)

    def up_to(t, s, a, r):
        return sum(GAMMA**k * r[k] for k in range(t + 1))

    def above_the_mean(t, s, a):
        return world.r[s, a] - pi[s] @ world.r[s]

    found = mean_of(world, theta, up_to)
    expected = weighed_by_time(world, theta, above_the_mean)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    right = pg.exact_gradient(world, theta, T)
    assert abs(found - right).max() > 1e-3


def test_eq_pg_reinforce():
    world, theta = case(0)
    seeded = [np.random.default_rng(7) for _ in range(2)]
    made = pg.reinforce(world, theta[None], 1, seeded[0], lr=0.1, horizon=T)
    run = pg.sample_episodes(world, pg.softmax(theta)[None], T, seeded[1])
    expected = theta.copy()
    for t in range(T):
        s, a = run.states[0, t], run.actions[0, t]
        weight = GAMMA**t * future(run.rewards[0], t)
        expected += 0.1 * weight * log_gradient(theta, s, a)
    np.testing.assert_allclose(made.theta[0], expected, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_pg_loss(seed):
    rng = np.random.default_rng(seed)
    logp, weights = (torch.from_numpy(rng.normal(size=(4, T))) for _ in range(2))
    loss = -(1 / 4) * sum(
        weights[i, t] * logp[i, t] for i in range(4) for t in range(T)
    )
    found = pg.policy_loss(logp, weights).sum(1).mean()
    torch.testing.assert_close(found, loss)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_pg_others(seed):
    rng = np.random.default_rng(seed)
    rewards = torch.from_numpy(rng.normal(size=(1, 5, T)))
    live = torch.ones(rewards.shape, dtype=torch.bool)
    found = pg.batch_weights(rewards, live, GAMMA, "others")[0].numpy()
    returns = [[future(row, t) for t in range(T)] for row in rewards[0].numpy()]
    for i in range(5):
        for t in range(T):
            mean = sum(returns[j][t] for j in range(5) if j != i) / 4
            assert found[i, t] == pytest.approx(returns[i][t] - mean)
