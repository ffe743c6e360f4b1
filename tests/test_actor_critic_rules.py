"""The displayed rules of the chapter on actor-critic methods, to the letter."""

import numpy as np
import pytest
import torch

from rlbook_utils import actor_critic as ac
from rlbook_utils.core import returns
from rlbook_utils.nets.networks import Judged
from rlbook_utils.policy_gradient import moments, softmax, values_by_time
from rlbook_utils.worlds import mdp

SEEDS = range(5)
GAMMA, LAM, T = 0.9, 0.7, 4


def world(seed):
    rng = np.random.default_rng(seed)
    return mdp.random_mdp(3, 2, rng, successors=2, gamma=GAMMA)


def policy(seed):
    return softmax(np.random.default_rng(seed + 100).normal(size=(3, 2)))


def record(seed, steps=7):
    """Return r, V(s_t) and V(s_{t+1}) of one episode that the world ends."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=steps + 1)
    v[-1] = 0
    ends = np.arange(steps) == steps - 1
    return rng.normal(size=steps), v, ends


def helper(r, v, ends, lam, gamma=GAMMA):
    none = np.zeros_like(ends)
    return returns.generalized_advantage_estimation(
        r, v[:-1], v[1:], ends, none, gamma, lam
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_critic_td(seed):
    r, v, ends = record(seed)
    delta = [r[t] + GAMMA * v[t + 1] - v[t] for t in range(7)]
    np.testing.assert_allclose(helper(r, v, ends, 0.0), delta, atol=1e-14)
    step = mdp.Step(r[:1], np.array([1]), np.array([False]))
    one = ac.td_step(np.zeros((1, 2, 2)), [v[:2]], [0], [0], step, [1.0], GAMMA)
    assert one[0][0] == pytest.approx(delta[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_critic_bias(seed):
    m, pi, e = world(seed), policy(seed), np.random.default_rng(seed).normal(size=3)
    truth = m.evaluate(pi)
    advantage = m.q_values(truth) - truth[:, None]
    P, v = m.dense(), truth + e
    for s in range(3):
        for a in range(2):
            left = sum(P[a, s, k] * (m.r[s, a] + GAMMA * v[k] - v[s]) for k in range(3))
            right = advantage[s, a] - e[s] + GAMMA * P[a, s] @ e
            assert left == pytest.approx(right, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_eq_critic_nstep(n):
    r, v, ends = record(0)
    delta = r + GAMMA * v[1:] - v[:-1]
    none = np.zeros_like(ends)
    found = returns.n_step_returns(r, v[1:], ends, none, GAMMA, n) - v[:-1]
    for t in range(7):
        k = min(n, 7 - t)
        first = sum(GAMMA**i * delta[t + i] for i in range(k))
        second = sum(GAMMA**i * r[t + i] for i in range(k))
        second += GAMMA**k * v[t + k] - v[t]
        assert first == pytest.approx(second) == pytest.approx(found[t])


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.95, 1.0])
def test_eq_critic_gae(lam):
    r, v, ends = record(1)
    delta = r + GAMMA * v[1:] - v[:-1]
    found = helper(r, v, ends, lam)
    for t in range(7):
        steps = [
            sum(GAMMA**i * delta[t + i] for i in range(n)) for n in range(1, 8 - t)
        ]
        mixed = (1 - lam) * sum(lam**k * a for k, a in enumerate(steps[:-1]))
        mixed += lam ** (7 - t - 1) * steps[-1]
        summed = sum((GAMMA * lam) ** k * delta[t + k] for k in range(7 - t))
        assert mixed == pytest.approx(summed) == pytest.approx(found[t])
    # Pitfall 31: with the last exponent T - t + 1, as printed in the PPO paper.
    wrong = delta.copy()
    for t in range(6):
        powers = [*range(6 - t), 7 - t + 1]
        wrong[t] = sum(
            (GAMMA * lam) ** k * d for k, d in zip(powers, delta[t:], strict=True)
        )
    assert (np.abs(wrong - found).max() > 1e-3) == (lam > 0)


def test_eq_critic_recursion():
    r, v, ends = record(2)
    found = np.append(helper(r, v, ends, LAM), 0.0)
    for t in range(7):
        delta = r[t] + GAMMA * v[t + 1] - v[t]
        assert found[t] == pytest.approx(delta + GAMMA * LAM * found[t + 1])


def test_eq_critic_next():
    r, reached, following = np.ones(4), 5.0 * np.ones(4), 9.0
    over = np.array([False, True, False, True])
    late = np.array([False, False, True, True])
    after = np.where(over | late, reached, following)
    found = returns.generalized_advantage_estimation(
        r, np.zeros(4), after, over, late, GAMMA, 0.0
    )
    cases = [following, 0.0, 5.0, 0.0]
    np.testing.assert_allclose(found, [1 + GAMMA * x for x in cases])


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_eq_critic_frontier(lam):
    m, pi, e = world(3), policy(3), np.array([0.4, -1.0, 0.7])
    truth, Q = values_by_time(m, pi, T)
    for s in range(3):
        for a in range(2):
            start = mdp.TabularMDP(m.dense(), m.r, gamma=GAMMA, start=s)
            every = start.enumerate(T, pi)
            chosen = every.actions[:, 0] == a
            p = every.probabilities[chosen] / every.probabilities[chosen].sum()
            v = np.zeros((len(p), T + 1))
            ahead = np.zeros((len(p), T))
            for t in range(T):
                v[:, t] = (truth[t] + e)[every.states[chosen, t]]
                ahead[:, t] = e[every.states[chosen, t + 1]] * (t < T - 1)
            none = np.zeros((len(p), T), bool)
            gaps = returns.generalized_advantage_estimation(
                every.rewards[chosen], v[:, :-1], v[:, 1:], none, none, GAMMA, lam
            )
            total = sum((GAMMA * lam) ** k * (p @ ahead[:, k]) for k in range(T))
            right = Q[0, s, a] - truth[0, s] - e[s] + GAMMA * (1 - lam) * total
            assert p @ gaps[:, 0] == pytest.approx(right, abs=1e-12)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.9, 1.0])
def test_eq_critic_bound(lam):
    bound = GAMMA * (1 - lam) / (1 - GAMMA * lam)
    rng = np.random.default_rng(0)
    for _ in range(50):
        e = rng.uniform(-1, 1, 200)
        found = GAMMA * (1 - lam) * sum((GAMMA * lam) ** k * x for k, x in enumerate(e))
        assert abs(found) <= bound * np.abs(e).max() + 1e-12
    same = GAMMA * (1 - lam) * sum((GAMMA * lam) ** k for k in range(2000))
    assert same == pytest.approx(bound)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_critic_online(seed):
    m, rng = world(seed), np.random.default_rng(seed)
    learner = ac.start_online(m, 1, rng)
    for _ in range(20):
        after = ac.online_actor_critic(m, learner, 1, rng, lr=0.3, lr_values=0.2)
        s, t = learner.state[0], learner.age[0]
        moved = after.values[0, s] - learner.values[0, s]
        delta = moved / 0.2
        pi = softmax(learner.theta[0, s])
        change = (after.theta[0, s] - learner.theta[0, s]) / (0.3 * GAMMA**t * delta)
        scores = [np.eye(2)[a] - pi for a in range(2)]
        assert min(np.abs(change - score).max() for score in scores) < 1e-9
        paid = [
            m.r[s, a] + GAMMA * learner.values[0, k] for a in (0, 1) for k in range(3)
        ]
        assert min(abs(delta + learner.values[0, s] - x) for x in paid) < 1e-9
        learner = after


def test_eq_critic_loss():
    rng = torch.Generator().manual_seed(0)
    logp, entropy, values, gaps, targets = torch.randn(5, 6, generator=rng)
    loss = ac.a2c_loss(Judged(logp, entropy, values), gaps, targets, 0.7, 0.03)
    for i in range(6):
        literal = -gaps[i] * logp[i] + 0.7 * (values[i] - targets[i]) ** 2
        torch.testing.assert_close(loss[i], literal - 0.03 * entropy[i])


def test_the_theorem_holds_for_the_helpers_moments_too():
    m, logits = world(3), np.random.default_rng(103).normal(size=(3, 2))
    truth, _ = values_by_time(m, softmax(logits), T)
    wrong = truth + np.array([1.0, -1.0, 1.0])
    found = moments("gae", m, logits, T, values=wrong, lam=1.0)
    np.testing.assert_allclose(found.bias, 0, atol=1e-13)
