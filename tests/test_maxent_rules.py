"""The displayed rules of the chapter on control as inference, to the letter."""

import itertools
import math

import numpy as np
import pytest
from test_maxent import differences, ending, fork, some_policy, tree

from rlbook_utils import maxent
from rlbook_utils.checks import maxent as check
from rlbook_utils.core import tilt as core
from rlbook_utils.worlds import mdp

SEEDS = range(5)
ALPHA = 0.6


def world(seed, states=5, actions=3, gamma=0.9):
    rng = np.random.default_rng(seed)
    return mdp.random_mdp(states, actions, rng, gamma=gamma)


def plain(seed, states=4, actions=2):
    """Return an ending world without discount whose reward depends on (s, a) alone."""
    m = ending(seed, states, actions)
    return mdp.TabularMDP(m.dense(), m.r, 1.0, m.start, m.terminal)


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def options(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=5), *rng.dirichlet(np.ones(5), 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_tilt(seed):
    r, ref, _ = options(seed)
    z = sum(ref[y] * math.exp(r[y] / ALPHA) for y in range(5))
    found = core.tilt(r, ALPHA, ref)
    for y in range(5):
        right = ref[y] * math.exp(r[y] / ALPHA) / z
        assert found.probabilities[y] == pytest.approx(right)
    assert float(found.value) == pytest.approx(ALPHA * math.log(z))


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_identity(seed):
    r, ref, p = options(seed)
    best = core.tilt(r, ALPHA, ref)
    left = sum(p * r) - ALPHA * kl(p, ref)
    right = float(best.value) - ALPHA * kl(p, best.probabilities)
    assert left == pytest.approx(right)
    assert float(core.objective(p, r, ALPHA, ref)) == pytest.approx(left)
    assert float(core.suboptimality(p, r, ALPHA, ref)) == pytest.approx(
        float(best.value) - left
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_posterior(seed):
    m = plain(seed)
    prior = some_policy(m)
    every, after = maxent.trajectory_posterior(m, 3, ALPHA, prior)
    weights = []
    for states, actions in zip(every.states, every.actions, strict=True):
        p, total = m.start[states[0]], 0.0
        for t, a in enumerate(actions):
            if a >= 0:
                p *= prior[states[t], a] * m.dense()[a, states[t], states[t + 1]]
                total += m.r[states[t], a]
        weights.append(p * math.exp(total / ALPHA))
    np.testing.assert_allclose(after.probabilities, np.array(weights) / sum(weights))


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_messages(seed):
    m, horizon = plain(seed), 4
    prior, P = some_policy(m), plain(seed).dense()
    told = maxent.backward_messages(m, horizon, ALPHA, prior)
    assert (told.values[horizon] == 0).all()
    for t, s in itertools.product(range(horizon), range(4)):
        for a in range(2):
            ahead = sum(
                P[a, s, j] * math.exp(told.values[t + 1, j] / ALPHA) for j in range(4)
            )
            right = m.r[s, a] + ALPHA * math.log(ahead)
            assert told.q_values[t, s, a] == pytest.approx(right)
        inner = sum(
            prior[s, a] * math.exp(told.q_values[t, s, a] / ALPHA) for a in range(2)
        )
        assert told.values[t, s] == pytest.approx(ALPHA * math.log(inner), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_conditionals(seed):
    m, horizon = plain(seed), 3
    prior, P = some_policy(m), plain(seed).dense()
    told = maxent.backward_messages(m, horizon, ALPHA, prior)
    every, after = maxent.trajectory_posterior(m, horizon, ALPHA, prior)
    p, s_all, a_all = after.probabilities, every.states, every.actions
    for t, s, a in itertools.product(range(horizon), range(3), range(2)):
        here = p[s_all[:, t] == s].sum()
        both = (s_all[:, t] == s) & (a_all[:, t] == a)
        gain = told.q_values[t, s, a] - told.values[t, s]
        right = prior[s, a] * math.exp(gain / ALPHA)
        assert p[both].sum() / here == pytest.approx(right)
        for j in range(4):
            after_it = p[both & (s_all[:, t + 1] == j)].sum() / p[both].sum()
            gain = m.r[s, a] + told.values[t + 1, j] - told.q_values[t, s, a]
            assert after_it == pytest.approx(P[a, s, j] * math.exp(gain / ALPHA))


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_variational(seed):
    m = plain(seed)
    every, after = maxent.trajectory_posterior(m, 3, ALPHA, some_policy(m))
    p = every.probabilities
    q = np.random.default_rng(seed).dirichlet(np.ones(len(p)))
    left = q @ every.returns - ALPHA * kl(q, p)
    right = float(after.value) - ALPHA * kl(q, after.probabilities)
    assert left == pytest.approx(right)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_fixed(seed):
    m, horizon = plain(seed), 4
    prior, P = some_policy(m), plain(seed).dense()
    told = maxent.backward_messages(m, horizon, ALPHA, prior, dynamics="fixed")
    for t, s in itertools.product(range(horizon), range(4)):
        for a in range(2):
            right = m.r[s, a] + sum(
                P[a, s, j] * told.values[t + 1, j] for j in range(4)
            )
            assert told.q_values[t, s, a] == pytest.approx(right, abs=1e-12)
        inner = sum(
            prior[s, a] * math.exp(told.q_values[t, s, a] / ALPHA) for a in range(2)
        )
        assert told.values[t, s] == pytest.approx(ALPHA * math.log(inner), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_objective(seed):
    m = world(seed, 3, 2, gamma=0.5)
    pi, ref = some_policy(m), some_policy(m, 2)
    values = maxent.soft_policy_evaluation(m, pi, ALPHA, ref)
    every = m.enumerate(3, pi)
    price = np.array([kl(pi[s], ref[s]) for s in range(3)])
    total = 0.0
    parts = (every.probabilities, every.states, every.actions)
    for p, states, actions in zip(*parts, strict=True):
        gain = sum(
            0.5**t * (m.r[states[t], a] - ALPHA * price[states[t]])
            for t, a in enumerate(actions)
        )
        total += p * (gain + 0.5**3 * values[states[-1]])
    assert total == pytest.approx(m.start @ values)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_bellman(seed):
    m = world(seed)
    ref, P = some_policy(m), m.dense()
    soft = maxent.soft_value_iteration(m, ALPHA, ref)
    for s in range(5):
        q = [m.r[s, a] + 0.9 * P[a, s] @ soft.values for a in range(3)]
        inner = sum(ref[s, a] * math.exp(q[a] / ALPHA) for a in range(3))
        assert soft.values[s] == pytest.approx(ALPHA * math.log(inner), abs=1e-9)
        for a in range(3):
            right = ref[s, a] * math.exp((q[a] - soft.values[s]) / ALPHA)
            assert soft.policy[s, a] == pytest.approx(right, abs=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_contraction(seed):
    m, rng = world(seed), np.random.default_rng(seed)
    ref = some_policy(m)
    for _ in range(10):
        u, v = rng.normal(size=(2, 5)) * 10
        tu, tv = (
            maxent.soft_value_iteration(m, ALPHA, ref, sweeps=1, values=x).values
            for x in (u, v)
        )
        assert abs(tu - tv).max() <= 0.9 * abs(u - v).max() + 1e-12


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_gap(seed):
    m = world(seed)
    pi, ref = some_policy(m, seed), some_policy(m, 2)
    soft = maxent.soft_value_iteration(m, ALPHA, ref)
    price = np.array([kl(pi[s], soft.policy[s]) for s in range(5)])
    lost = soft.values - maxent.soft_policy_evaluation(m, pi, ALPHA, ref)
    for s in range(5):
        marginal, total = np.eye(5)[s], 0.0
        for t in range(400):
            total += 0.9**t * marginal @ price
            marginal = marginal @ m.transition_matrix(pi)
        assert lost[s] == pytest.approx(ALPHA * total, abs=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_cold(seed):
    m = world(seed)
    ref, best = some_policy(m), m.solve().values
    c = math.log(1 / ref.min()) / (1 - 0.9)
    for alpha in (0.01, 0.1, 1.0):
        values = maxent.soft_value_iteration(m, alpha, ref, tolerance=1e-8).values
        assert (m.evaluate(ref) <= values + 1e-8).all()
        assert (values <= best + 1e-8).all() and (best - values <= c * alpha).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_boltzmann(seed):
    m = world(seed)
    ref, best = some_policy(m), m.solve().values
    q, least = m.q_values(best), ref.min()
    c = math.log(1 / least) / (1 - 0.9)
    for alpha in (0.005, 0.02, 0.1):
        pi = maxent.soft_value_iteration(m, alpha, ref, tolerance=1e-8).policy
        for s, a in itertools.product(range(5), range(3)):
            delta = best[s] - q[s, a]
            if delta > 1e-9:
                right = math.log(1 / least) + 0.9 * c - delta / alpha
                assert math.log(max(pi[s, a], 1e-300)) <= max(right, -690) + 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_hot(seed):
    m = world(seed)
    ref = some_policy(m)
    for alpha in (0.5, 5.0, 500.0):
        soft = maxent.soft_value_iteration(m, alpha, ref, tolerance=1e-7)
        q = m.q_values(soft.values)
        for s, a in itertools.product(range(5), range(3)):
            apart = abs(math.log(soft.policy[s, a]) - math.log(ref[s, a]))
            assert apart <= (q[s].max() - q[s].min()) / alpha + 1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_gradient(seed):
    m, logits = world(seed), np.random.default_rng(seed).normal(size=(5, 3))
    ref, pi = some_policy(m), core.tilt(logits, 1.0).probabilities
    q = m.q_values(maxent.soft_policy_evaluation(m, pi, ALPHA, ref))
    d, right = m.occupancy(pi), np.zeros((5, 3))
    for s, a, b in itertools.product(range(5), range(3), range(3)):
        slope = pi[s, a] * ((a == b) - pi[s, b])
        worth = q[s, a] - ALPHA * math.log(pi[s, a] / ref[s, a])
        right[s, b] += d[s] * slope * worth
    np.testing.assert_allclose(
        maxent.soft_policy_gradient(m, logits, ALPHA, ref), right, atol=1e-10
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_language(seed):
    m, number, texts, paid = tree(seed)
    ref = some_policy(m)
    soft = maxent.soft_value_iteration(m, ALPHA, ref, sweeps=3)
    weights, whole = [], []
    for text, score in zip(texts, paid, strict=True):
        rows = [number[text[:k]] for k in range(3)]
        before = math.prod(ref[k, a] for k, a in zip(rows, text, strict=True))
        weights.append(before * math.exp(score / ALPHA))
        whole.append(
            math.prod(soft.policy[k, a] for k, a in zip(rows, text, strict=True))
        )
    np.testing.assert_allclose(whole, np.array(weights) / sum(weights))


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_improvement(seed):
    m = world(seed)
    pi, ref = some_policy(m, seed), some_policy(m, 2)
    values = maxent.soft_policy_evaluation(m, pi, ALPHA, ref)
    better = ref * np.exp(m.q_values(values) / ALPHA)
    better /= better.sum(1, keepdims=True)
    np.testing.assert_allclose(maxent.boltzmann(m.q_values(values), ALPHA, ref), better)
    assert (
        maxent.soft_policy_evaluation(m, better, ALPHA, ref) >= values - 1e-12
    ).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_sac_critic(seed):
    # The mean of the target over successors and a' is the soft Q of the policy.
    m = world(seed)
    pi, P = some_policy(m, seed), m.dense()
    q = m.q_values(maxent.soft_policy_evaluation(m, pi, ALPHA))
    for s, a in itertools.product(range(5), range(3)):
        mean = 0.0
        for j, b in itertools.product(range(5), range(3)):
            y = m.r[s, a] + 0.9 * (q[j, b] - ALPHA * math.log(pi[j, b]))
            mean += P[a, s, j] * pi[j, b] * y
        assert mean == pytest.approx(q[s, a])
    case = {**check.soft_target.cases[0]}
    y = [
        r + 0.9 * (1 - end) * sum(p * (x - 0.5 * np.log(p)))
        for r, end, x, p in zip(
            *(case[k] for k in ("reward", "terminated", "next_q", "next_pi")),
            strict=True,
        )
    ]
    np.testing.assert_allclose(check.soft_target.oracle(**case), y)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_maxent_sac_actor(seed):
    m, logits = world(seed), np.random.default_rng(seed).normal(size=(5, 3))
    pi = core.tilt(logits, 1.0).probabilities
    q, d = m.q_values(maxent.soft_policy_evaluation(m, pi, ALPHA)), m.occupancy(pi)

    def loss(theta):
        p = np.exp(theta) / np.exp(theta).sum(1, keepdims=True)
        return sum(
            d[s] * p[s, a] * (ALPHA * math.log(p[s, a]) - q[s, a])
            for s, a in itertools.product(range(5), range(3))
        )

    gradient = maxent.soft_policy_gradient(m, logits, ALPHA)
    np.testing.assert_allclose(differences(loss, logits), -gradient, atol=1e-6)
    # And it is alpha times the distance to the tilt, up to a constant.
    star = core.tilt(q, ALPHA)
    away = sum(d[s] * ALPHA * kl(pi[s], star.probabilities[s]) for s in range(5))
    assert loss(logits) == pytest.approx(away - d @ star.value)


def test_eq_maxent_sac_temperature():
    # log alpha - eta (H - target) = log 1 - .5 (.6 - .3) = -.15.
    assert check.temperature_step.oracle(1.0, 0.6, 0.3, 0.5) == pytest.approx(
        math.exp(-0.15)
    )
    # It settles where the entropy of the soft-optimal fork has its target.
    alpha, target = 5.0, 0.66
    for _ in range(400):
        p = maxent.soft_value_iteration(fork(), alpha, sweeps=3).policy[0]
        alpha = check.temperature_step.oracle(alpha, -p @ np.log(p), target, 2.0)
    assert -p @ np.log(p) == pytest.approx(target, abs=1e-4)
