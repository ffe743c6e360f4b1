"""The displayed rules of the chapter on learning from samples, to the letter."""

import itertools
import math

import numpy as np
import pytest

from rlbook_utils import bellman, td
from rlbook_utils.checks import td as check
from rlbook_utils.worlds import grids, mdp

GAMMA, LR = 0.9, 0.3
SEEDS = range(5)


def episode(states, rewards, *, terminated=True):
    length = len(rewards)
    last = np.arange(length)[None] == length - 1
    return mdp.Rollout(
        np.array([states]),
        np.zeros((1, length), np.intp),
        np.array([rewards], float),
        last & terminated,
        last & (not terminated),
        np.array([length]),
    )


def sampled(seed, length=6, states=4):
    """Return an episode of random states and rewards, and a guess with V = 0 last."""
    rng = np.random.default_rng(seed)
    path = [*rng.integers(states, size=length), states]
    guess = np.append(rng.normal(size=states), 0.0)
    return path, rng.normal(size=length), guess


def returns(rewards):
    return [
        sum(GAMMA**k * r for k, r in enumerate(rewards[t:]))
        for t in range(len(rewards))
    ]


def errors(path, rewards, guess):
    return [
        r + GAMMA * guess[path[t + 1]] - guess[path[t]] for t, r in enumerate(rewards)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_td_update(seed):
    # One state that ends at once: its values are a running estimate of the rewards.
    guess = 0.7
    values = np.array([[guess, 0.0]])
    for y in np.random.default_rng(seed).normal(size=8):
        guess = guess + LR * (y - guess)
        values = td.monte_carlo(values, episode([0, 1], [y]), 1.0, LR)
        assert values[0, 0] == pytest.approx(guess)


@pytest.mark.parametrize("lr", [0.1, 0.5, 1.0])
def test_eq_td_noise(lr):
    # All 2^8 sequences of rewards 1 +- 2: mean 1, variance 4.
    every = np.array(list(itertools.product([-1.0, 3.0], repeat=8)))
    guess, error = np.zeros(len(every)), 1.0
    for n in range(8):
        guess += lr * (every[:, n] - guess)
        error = (1 - lr) ** 2 * error + lr**2 * 4
        assert ((guess - 1) ** 2).mean() == pytest.approx(error)
    for _ in range(1000):
        error = (1 - lr) ** 2 * error + lr**2 * 4
    assert error == pytest.approx(lr / (2 - lr) * 4)


def test_steps_that_shrink_too_fast_keep_half_of_the_first_guess():
    left = math.prod(1 - 1 / (n + 1) ** 2 for n in range(1, 10_000))
    assert left == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_td_mc(seed):
    path, rewards, guess = sampled(seed)
    moved = td.monte_carlo(guess[None], episode(path, rewards), GAMMA, LR)[0]
    for s, total in zip(path, returns(rewards), strict=False):
        guess[s] += LR * (total - guess[s])
    np.testing.assert_allclose(moved, guess)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_td_zero(seed):
    path, rewards, guess = sampled(seed)
    moved = td.n_step_td(guess[None], episode(path, rewards), GAMMA, LR)[0]
    for t, r in enumerate(rewards):
        ahead = 0.0 if t == len(rewards) - 1 else guess[path[t + 1]]
        delta = r + GAMMA * ahead - guess[path[t]]
        guess[path[t]] += LR * delta
    np.testing.assert_allclose(moved, guess)


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_eq_td_nstep(n):
    path, rewards, guess = sampled(n)
    moved = td.n_step_td(guess[None], episode(path, rewards), GAMMA, LR, n)[0]
    for t in range(len(rewards)):
        target = sum(GAMMA**k * r for k, r in enumerate(rewards[t : t + n]))
        if t + n < len(rewards):
            target += GAMMA**n * guess[path[t + n]]
        guess[path[t]] += LR * (target - guess[path[t]])
    np.testing.assert_allclose(moved, guess)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_td_telescope(seed):
    path, rewards, guess = sampled(seed)
    deltas = errors(path, rewards, guess)
    for t, total in enumerate(returns(rewards)):
        right = sum(GAMMA**k * d for k, d in enumerate(deltas[t:]))
        assert total - guess[path[t]] == pytest.approx(right)
    # With lambda = 1 the helper's forward view is the return.
    seen = td.lambda_returns(guess[None], episode(path, rewards), GAMMA, 1.0)[0]
    np.testing.assert_allclose(seen, returns(rewards))


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_td_batch(seed):
    world = grids.random_walk(5)
    batch = world.rollout(np.zeros(7, int), 30, 1000, np.random.default_rng(seed))
    values = td.batch_td(np.zeros(7), batch, GAMMA)
    counts, gains, moves = np.zeros(7), np.zeros(7), np.zeros((7, 7))
    for states, rewards, length in zip(
        batch.states, batch.rewards, batch.lengths, strict=True
    ):
        for t in range(length):
            counts[states[t]] += 1
            gains[states[t]] += rewards[t]
            moves[states[t], states[t + 1]] += 1
    for s in np.flatnonzero(counts):
        right = gains[s] / counts[s] + GAMMA * moves[s] / counts[s] @ values
        assert values[s] == pytest.approx(right)


def learned(method, epsilon=0.6):
    """Return a world, and Q after many episodes in which nothing is random but acts."""
    world = grids.grid_1d(6, gamma=GAMMA, left=0.3)
    rng = np.random.default_rng(0)
    lr = 0.1 if method == "sarsa" else 0.5
    run = td.control(world, method, 4000, 4, rng, lr=lr, epsilon=epsilon)
    return world, run.q_values


def test_eq_td_sarsa():
    # From Q = 0 and with lr 1, each visit copies its target: in an episode of one
    # state the target is the reward, Q + 1 (r - Q) = r.
    after = np.array([[[1], [1]], [[1], [1]]])
    world = mdp.TabularMDP(
        np.ones((2, 2, 1)), [[2.0, 5.0], [0, 0]], GAMMA, 0, [1], successors=after
    )
    q = td.control(world, "sarsa", 40, 3, np.random.default_rng(0), lr=1.0, epsilon=1.0)
    assert q.q_values[:, 0].tolist() == [[2.0, 5.0]] * 3
    # And its fixed point is Q of the policy that acts, here a uniform one.
    world, found = learned("sarsa", epsilon=1.0)
    uniform = np.full((6, 2), 0.5)
    exact = bellman.q_from_v(world, world.evaluate(uniform))
    np.testing.assert_allclose(found.mean(0)[1:-1], exact[1:-1], atol=0.1)


@pytest.mark.parametrize("epsilon", [0.6, 1.0])
def test_eq_td_expected(epsilon):
    world, found = learned("expected_sarsa", epsilon)
    q = found[0]
    for s in range(1, 5):
        for a in range(2):
            after = int(world.successors[a, s, 0])
            pi = np.full(2, epsilon / 2)
            pi[q[after].argmax()] += 1 - epsilon
            ahead = 0.0 if world.terminal[after] else pi @ q[after]
            assert q[s, a] == pytest.approx(world.r[s, a] + GAMMA * ahead, abs=1e-6)
    case = {"q": q[2], "reward": 1.0, "gamma": GAMMA, "epsilon": epsilon}
    pi = np.full(2, epsilon / 2)
    pi[q[2].argmax()] += 1 - epsilon
    assert check.expected_target.oracle(**case) == pytest.approx(1 + GAMMA * pi @ q[2])


def test_eq_td_q():
    world, found = learned("q_learning")
    q = found[0]
    for s in range(1, 5):
        for a in range(2):
            after = int(world.successors[a, s, 0])
            ahead = 0.0 if world.terminal[after] else max(q[after])
            assert q[s, a] == pytest.approx(world.r[s, a] + GAMMA * ahead, abs=1e-6)


def test_eq_td_bias():
    # All 3^3 values of three independent estimates, q = (0, .1, -.2), noise -1, 0, 1.
    q = np.array([0.0, 0.1, -0.2])
    noise = np.array(list(itertools.product([-1.0, 0.0, 1.0], repeat=3)))
    one = q + noise
    assert one.max(1).mean() > q.max() + 0.3
    chosen = one.argmax(1)
    judged = (q + noise)[:, chosen].mean(0)
    assert judged.mean() <= q.max()
    np.testing.assert_allclose(judged, q[chosen])


def test_eq_td_double():
    q1, q2 = np.array([1.0, 3.0]), np.array([7.0, 0.5])
    # q1 chooses action 1, q2 says .5: 2 + .9 * .5 = 2.45.
    assert check.double_target.oracle(q1, q2, 2.0, GAMMA) == pytest.approx(2.45)


def loop(horizon):
    """Return the chapter's world of one state as a tree, cut after `horizon` steps.

    Yield (steps, probability under b, weight, return) of its episodes.
    """
    for k in range(1, horizon + 1):
        here = 0.9 ** (k - 1) * 0.5 ** (k - 1)
        yield k, here * 0.5, 0.0, 0.0
        yield k, here * 0.5 * 0.1, 2.0**k, 1.0


def test_eq_td_is():
    every = list(loop(400))
    assert sum(p for _, p, _, _ in every) == pytest.approx(1)
    assert sum(p * rho * g for _, p, rho, g in every) == pytest.approx(1)
    paid = [(rho, g) for _, _, rho, g in every if rho]
    for some in (paid[:1], paid[:7], paid[3:5]):
        weighted = sum(rho * g for rho, g in some) / sum(rho for rho, _ in some)
        assert weighted == pytest.approx(1)


def test_pitfall_29_eq_td_infinite():
    for horizon in (5, 20, 60):
        moment = sum(p * (rho * g) ** 2 for _, p, rho, g in loop(horizon))
        series = 0.2 * sum(1.8 ** (k - 1) for k in range(1, horizon + 1))
        assert moment == pytest.approx(series)
    assert series > 1e13


def test_eq_td_infinite():
    terms = [p * (rho * g) ** 2 for _, p, rho, g in loop(30) if rho]
    np.testing.assert_allclose(np.divide(terms[1:], terms[:-1]), 1.8)
