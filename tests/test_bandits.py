"""Bandits against enumeration, plain loops, torch's own Adam and published numbers."""

import itertools
import math
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlbook_utils import bandits

PLAIN = settings(derandomize=True, deadline=None, database=None, max_examples=60)
FIVE = (0.1, 0.3, 0.5, 0.7, 0.9)
CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")
POLICIES = {
    "greedy": bandits.greedy(),
    "optimistic": bandits.greedy(initial=5.0, step=0.1),
    "epsilon": bandits.epsilon_greedy(0.1),
    "ucb": bandits.ucb(),
    "thompson": bandits.thompson(),
    "jeffreys": bandits.thompson((0.5, 0.5)),
    "gradient": bandits.gradient(0.1),
    "plain gradient": bandits.gradient(0.1, baseline=False),
    "reinforce": bandits.reinforce_adam(),
}
RULES = {
    "greedy": partial(bandits.epsilon_greedy_probabilities, epsilon=0.0),
    "epsilon": bandits.epsilon_greedy_probabilities,
    "ucb": bandits.ucb_probabilities,
    "thompson": bandits.thompson_probabilities,
}
ONLY_BERNOULLI = {"thompson", "jeffreys"}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mean_and_error(samples):
    samples = np.asarray(samples, dtype=np.float64)
    return samples.mean(0), samples.std(0, ddof=1) / math.sqrt(len(samples))


def column(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)[:, None]


def values_state(counts, totals):
    counts, totals = column(*counts), column(*totals)
    values = totals / counts.clamp(min=1)
    return bandits.ActionValues(counts, totals, values, int(counts.sum()))


# The displayed equations of the chapter, evaluated literally


def test_eq_bandit_incremental_mean():
    draws = np.random.default_rng(0)
    actions, rewards = draws.integers(3, size=200), draws.normal(size=200)
    for step in (None, 0.1):
        policy = bandits.epsilon_greedy(0.1, step=step, initial=2.0)
        state = policy.init(bandits.GaussianBandit([0.0] * 3), 1, CPU)
        q, n = np.full(3, 2.0), np.zeros(3)
        for a, r in zip(actions, rewards, strict=True):
            n[a] += 1
            q[a] += (1 / n[a] if step is None else step) * (r - q[a])
            reward = torch.tensor([r], dtype=torch.float32)
            state = policy.update(state, torch.tensor([a]), reward)
        np.testing.assert_allclose(state.values[:, 0], q, rtol=1e-5)
        np.testing.assert_array_equal(state.counts[:, 0], n)


@pytest.mark.parametrize("values", [(0.0, 2.0, 1.0), (2.0, 1.0, 2.0), (1.0, 1.0, 1.0)])
def test_eq_bandit_epsilon_greedy(values):
    epsilon, arms = 0.3, len(values)
    best = [k for k in range(arms) if values[k] == max(values)]
    for k in range(arms):
        literal = epsilon / arms + (1 - epsilon) * (k in best) / len(best)
        pi = bandits.greedy_probabilities(column(*values), epsilon)
        assert float(pi[k, 0]) == pytest.approx(literal)


def test_eq_bandit_ucb():
    q, n, c = (0.5, 0.25, 0.75), (4, 2, 7), 1.5
    t = sum(n) + 1
    literal = [q[k] + c * math.sqrt(math.log(t) / n[k]) for k in range(3)]
    bounds = bandits.upper_confidence_bounds(column(*q), column(*n), sum(n), c)
    np.testing.assert_allclose(bounds[:, 0], literal)
    untried = bandits.upper_confidence_bounds(column(1.0, 0.0), column(3, 0), 3, c)
    assert untried.isinf().flatten().tolist() == [False, True]
    state = bandits.ActionValues(column(*n), column(*q), column(*q), sum(n))
    action = bandits.ucb(c).act(state, bandits.Noise(seeded(), 1))
    assert int(action) == int(np.argmax(literal)) == 1


def test_eq_bandit_thompson():
    # Three wins and a loss of arm 0, two losses of arm 1, prior (1, 1).
    policy = bandits.thompson()
    state = policy.init(bandits.BernoulliBandit([0.5, 0.5]), 1, CPU)
    for arm, reward in ((0, 1.0), (0, 1.0), (1, 0.0), (0, 0.0), (1, 0.0), (0, 1.0)):
        state = policy.update(state, torch.tensor([arm]), torch.tensor([reward]))
    wins, losses = np.array([3, 0]), np.array([1, 2])
    np.testing.assert_array_equal(state.pseudo_counts[0, :, 0], 1 + wins)
    np.testing.assert_array_equal(state.pseudo_counts[1, :, 0], 1 + losses)
    # The pulled arm is the argmax of independent Beta(1 + wins, 1 + losses). Its
    # probability is 1/14, and 4 standard errors of 100,000 draws are .0033.
    many = bandits.Posterior(state.pseudo_counts.repeat(1, 1, 100_000))
    share = policy.act(many, bandits.Noise(seeded(), 100_000)).double().mean()
    theta = np.random.default_rng(0).beta(1 + wins, 1 + losses, size=(100_000, 2))
    exact = bandits.thompson_probabilities(wins, losses)[1]
    assert float(share) == pytest.approx(exact, abs=0.0033)
    assert np.mean(theta[:, 1] > theta[:, 0]) == pytest.approx(exact, abs=0.0033)


@pytest.mark.parametrize("baseline", [True, False])
def test_eq_bandit_gradient(baseline):
    lr, draws = 0.2, np.random.default_rng(0)
    policy = bandits.gradient(lr, baseline)
    state = policy.init(bandits.GaussianBandit([0.0] * 3), 1, CPU)
    h, seen = np.zeros(3), []
    for _ in range(50):
        a, r = int(draws.integers(3)), draws.normal() + 4
        pi = np.exp(h) / np.exp(h).sum()
        np.testing.assert_allclose(state.probabilities[:, 0], pi, rtol=1e-4)
        b = (np.mean(seen) if seen else r) if baseline else 0.0
        for k in range(3):
            h[k] += lr * (r - b) * ((k == a) - pi[k])
        seen.append(r)
        reward = torch.tensor([r], dtype=torch.float32)
        state = policy.update(state, torch.tensor([a]), reward)
    np.testing.assert_allclose(state.preferences[:, 0], h, rtol=1e-4, atol=1e-5)


def test_eq_bandit_reinforce():
    """Each pull is one step of torch.optim.Adam on -(r - b) log pi(a)."""
    arms, runs, lr, rate = 3, 4, 0.05, 0.1
    policy = bandits.reinforce_adam(lr, rate)
    state = policy.init(bandits.BernoulliBandit([0.5] * arms), runs, CPU)
    h = torch.zeros(arms, runs, requires_grad=True)
    adam, b = torch.optim.Adam([h], lr=lr), torch.zeros(runs)
    source = seeded()
    for _ in range(60):
        actions = torch.randint(arms, (runs,), generator=source)
        rewards = torch.rand(runs, generator=source).round()
        loss = -(rewards - b) * h.log_softmax(0).gather(0, actions[None])[0]
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
        b = b + rate * (rewards - b)
        state = policy.update(state, actions, rewards)
        torch.testing.assert_close(state.preferences, h.detach(), rtol=0, atol=2e-5)
        torch.testing.assert_close(state.baseline, b)
    torch.testing.assert_close(state.probabilities, h.softmax(0), rtol=0, atol=2e-5)


def test_eq_bandit_regret():
    means = np.array(FIVE)
    record = bandits.run(
        POLICIES["epsilon"], bandits.BernoulliBandit(FIVE), 40, 6, seeded()
    )
    literal = np.cumsum(means.max() - means[record.actions.long()], axis=1)
    np.testing.assert_allclose(record.regret.cumsum(1), literal, rtol=1e-5, atol=1e-6)


def test_eq_bandit_lai_robbins():
    literal = 0.0
    for p in FIVE[:-1]:
        kl = p * math.log(p / 0.9) + (1 - p) * math.log((1 - p) / (1 - 0.9))
        literal += (0.9 - p) / kl
    assert bandits.lai_robbins_constant(FIVE) == pytest.approx(literal)
    assert literal == pytest.approx(3.1208, abs=1e-4)


# Exact answers


def test_lai_robbins_at_the_edges():
    assert bandits.lai_robbins_constant([0.4, 0.4]) == 0
    assert bandits.lai_robbins_constant([0.4, 1.0]) == 0
    # KL(0, 1/2) = ln 2, so C = (1/2)/ln 2; two such arms count twice.
    half = 0.5 / math.log(2)
    assert bandits.lai_robbins_constant([0.0, 0.5]) == pytest.approx(half)
    assert bandits.lai_robbins_constant([0.0, 0.5, 0.0]) == pytest.approx(2 * half)


def test_expected_regret_by_hand():
    # .9 - (.2 * .1 + .8 * .9) = .16
    pi = [[0.2, 0.8], [0.0, 1.0]]
    np.testing.assert_allclose(bandits.expected_regret(pi, [0.1, 0.9]), [0.16, 0.0])
    uniform = bandits.expected_regret(np.full(5, 0.2), FIVE)
    assert float(uniform) == pytest.approx(0.4)


def chance_of_more(a, b, c, d):
    """P(X > Y) for X from Beta(a, b) and Y from Beta(c, d), integers, as a sum."""

    def beta(x, y):
        return math.exp(math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y))

    return sum(
        beta(c + i, b + d) / ((b + i) * beta(1 + i, b) * beta(c, d)) for i in range(a)
    )


@PLAIN
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=4)
)
def test_thompson_probabilities_are_exact(records):
    wins, losses = np.array(records).T
    pi = bandits.thompson_probabilities(wins, losses, prior=(1, 2))
    assert pi.sum() == pytest.approx(1, abs=1e-12)
    assert (pi >= 0).all()
    if len(records) == 2:
        closed = chance_of_more(1 + wins[0], 2 + losses[0], 1 + wins[1], 2 + losses[1])
        assert pi[0] == pytest.approx(closed, abs=1e-10)
    same = bandits.thompson_probabilities(wins[[0, 0, 0]], losses[[0, 0, 0]])
    np.testing.assert_allclose(same, 1 / 3)


def test_exact_regret_of_thompson_by_hand():
    # Gap 1/2. First pull: pi_0 = 1/2. P(Beta(2, 1) > U) = 2/3, P(Beta(1, 2) > U) = 1/3.
    # After arm 1 wins (3/4) or loses, pi_0 = 1/3 or 2/3; after arm 0 wins (1/4) or
    # loses, 2/3 or 1/3. Either way its mean is 3/4 * 1/3 + 1/4 * 2/3 = 5/12.
    regret = bandits.exact_regret(bandits.thompson_probabilities, [0.25, 0.75], 2)
    np.testing.assert_allclose(regret, [1 / 4, 5 / 24])


def probabilities(name, state):
    if name == "ucb":
        bounds = bandits.upper_confidence_bounds(
            state.values, state.counts, state.pulls
        )
        return bandits.greedy_probabilities(bounds)
    if name in ("greedy", "optimistic", "epsilon"):
        return bandits.greedy_probabilities(
            state.values, 0.1 if name == "epsilon" else 0
        )
    return state.probabilities


def regret_over_all_histories(name, means, steps):
    """Go through all (2K)^T histories at once, one per replication."""
    means, policy = torch.tensor(means, dtype=torch.float64), POLICIES[name]
    arms, gaps = len(means), means.max() - means
    ways = torch.tensor(list(itertools.product(range(2 * arms), repeat=steps)))
    state = policy.init(bandits.BernoulliBandit(means), len(ways), CPU)
    weight, regret = torch.ones(len(ways), dtype=torch.float64), []
    for t in range(steps):
        pi = probabilities(name, state).double()
        repeats = (2 * arms) ** (steps - t)
        regret.append(float((weight * (gaps @ pi)).sum() / repeats))
        actions, rewards = ways[:, t] % arms, ways[:, t] // arms
        p = means[actions]
        weight = weight * pi.gather(0, actions[None])[0]
        weight = weight * torch.where(rewards == 1, p, 1 - p)
        state = policy.update(state, actions, rewards.float())
    return np.array(regret)


@pytest.mark.parametrize("name", ["greedy", "epsilon", "ucb"])
def test_exact_regret_agrees_with_all_histories(name):
    for means in ([0.3, 0.6], [0.5, 0.5], [1.0, 0.0]):
        exact = bandits.exact_regret(RULES[name], means, 5)
        histories = regret_over_all_histories(name, means, 5)
        np.testing.assert_allclose(exact, histories, atol=1e-6)


def assert_near(samples, exact, errors):
    mean, error = mean_and_error(samples)
    np.testing.assert_array_less(np.abs(mean - exact), errors * error + 1e-6)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("means", "steps"), [([0.3, 0.6], 12), ([0.2, 0.7, 0.5], 5)])
def test_simulator_agrees_with_exact_regret(name, means, steps):
    exact = bandits.exact_regret(RULES[name], means, steps)
    world = bandits.BernoulliBandit(means)
    record = bandits.run(POLICIES[name], world, steps, 20_000, seeded())
    assert_near(record.regret, exact, 4.5)
    assert_near(record.regret.sum(1), exact.sum(), 4)


@pytest.mark.parametrize(
    "name", ["gradient", "plain gradient", "reinforce", "optimistic"]
)
def test_simulator_agrees_with_all_histories(name):
    exact = regret_over_all_histories(name, [0.3, 0.6], 6)
    world = bandits.BernoulliBandit([0.3, 0.6])
    record = bandits.run(POLICIES[name], world, 6, 40_000, seeded())
    assert_near(record.regret, exact, 4.5)


# The simulator against plain loops, one run and one pull at a time


def softmax(h):
    return np.exp(h - h.max()) / np.exp(h - h.max()).sum()


def plain_thompson(pull, arms, steps, draws):
    wins, losses = np.zeros(arms), np.zeros(arms)
    for _ in range(steps):
        a = int(np.argmax(draws.beta(1 + wins, 1 + losses)))
        r = pull(a)
        wins[a] += r
        losses[a] += 1 - r


def plain_values(pull, arms, steps, draws, epsilon=0.0, c=None):
    q, n = np.zeros(arms), np.zeros(arms)
    for t in range(1, steps + 1):
        score = q
        if c is not None:
            width = c * np.sqrt(math.log(t) / np.maximum(n, 1))
            score = np.where(n == 0, np.inf, q + width)
        a = draws.choice(np.flatnonzero(score == score.max()))
        if draws.random() < epsilon:
            a = draws.integers(arms)
        n[a] += 1
        q[a] += (pull(a) - q[a]) / n[a]


def plain_gradient(pull, arms, steps, draws, lr=0.1):
    h, b = np.zeros(arms), None
    for t in range(1, steps + 1):
        pi = softmax(h)
        a = draws.choice(arms, p=pi)
        r = pull(a)
        b = r if b is None else b
        h += lr * (r - b) * (np.eye(arms)[a] - pi)
        b += (r - b) / t


def plain_reinforce(pull, arms, steps, draws, lr=0.05, rate=0.05):
    h, b, m, v = np.zeros(arms), 0.0, np.zeros(arms), np.zeros(arms)
    for t in range(1, steps + 1):
        pi = softmax(h)
        a = draws.choice(arms, p=pi)
        r = pull(a)
        g = -(r - b) * (np.eye(arms)[a] - pi)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        h -= lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        b += rate * (r - b)


LOOPS = {
    "thompson": plain_thompson,
    "greedy": plain_values,
    "epsilon": partial(plain_values, epsilon=0.1),
    "ucb": partial(plain_values, c=2.0),
    "gradient": plain_gradient,
    "reinforce": plain_reinforce,
}


def plain_runs(loop, means, steps, replications, seed):
    draws, sums = np.random.default_rng(seed), np.zeros((replications, 2))
    for row in sums:

        def pull(a, row=row):
            r = float(draws.random() < means[a])
            row += (max(means) - means[a], r)
            return r

        loop(pull, len(means), steps, draws)
    return sums


@pytest.mark.parametrize("name", LOOPS)
def test_simulator_agrees_with_a_plain_loop(name, seed=0):
    means, steps = (0.2, 0.5, 0.8), 60
    loop, loop_error = mean_and_error(plain_runs(LOOPS[name], means, steps, 300, seed))
    world = bandits.BernoulliBandit(means)
    record = bandits.run(POLICIES[name], world, steps, 4000, seeded(seed))
    sums = torch.stack([record.regret.sum(1), record.rewards.sum(1)], dim=1)
    ours, error = mean_and_error(sums)
    assert (np.abs(ours - loop) < 3 * np.hypot(error, loop_error)).all()


# The gradient


@PLAIN
@given(
    st.lists(st.floats(-3, 3), min_size=2, max_size=5),
    st.floats(-4, 4),
    st.integers(0, 4),
)
def test_analytic_gradient_is_that_of_autograd(preferences, advantage, arm):
    h = column(*preferences).requires_grad_()
    arm = torch.tensor([arm % len(preferences)])
    weight = torch.tensor([advantage], dtype=torch.float64)
    (weight * h.log_softmax(0).gather(0, arm[None])[0]).sum().backward()
    ours = bandits.reinforce_gradient(h.detach().softmax(0), arm, weight)
    torch.testing.assert_close(ours, h.grad, rtol=1e-10, atol=1e-12)


def expected_update(preferences, means, baseline):
    """Sum over all arms and both rewards; ``baseline(arm, reward)`` gives b."""
    pi, total = preferences.softmax(0), torch.zeros_like(preferences)
    for arm, p in enumerate(means):
        for reward, chance in ((1.0, p), (0.0, 1 - p)):
            advantage = torch.tensor([reward - baseline(arm, reward)]).double()
            update = bandits.reinforce_gradient(pi, torch.tensor([arm]), advantage)
            total += float(pi[arm, 0]) * chance * update
    return total


def gradient_of_expected_reward(preferences, means):
    h = preferences.clone().requires_grad_()
    (h.softmax(0)[:, 0] * torch.tensor(means).double()).sum().backward()
    return h.grad


@PLAIN
@given(
    st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 1)), min_size=2, max_size=4),
    st.floats(-5, 5),
)
def test_expected_update_is_the_gradient_for_any_baseline(arms, b):
    preferences, means = column(*(h for h, _ in arms)), [p for _, p in arms]
    exact = gradient_of_expected_reward(preferences, means)
    ours = expected_update(preferences, means, lambda arm, reward: b)
    torch.testing.assert_close(ours, exact, rtol=1e-6, atol=1e-6)


def test_baselines_that_know_the_action_or_the_reward():
    preferences, means = column(0.3, -0.2, 0.5), [0.2, 0.5, 0.9]
    exact = gradient_of_expected_reward(preferences, means)
    # Wrong: the value of the pulled arm takes the gradient away.
    wrong = expected_update(preferences, means, lambda arm, reward: means[arm])
    torch.testing.assert_close(wrong, torch.zeros_like(exact), rtol=0, atol=1e-7)
    assert exact.norm() > 0.1
    # A mean of 4 rewards that includes the present one only shrinks it by 1 - 1/4.
    shrunk = expected_update(preferences, means, lambda arm, reward: (2.0 + reward) / 4)
    torch.testing.assert_close(shrunk, 0.75 * exact, rtol=1e-6, atol=1e-7)


# Pitfalls


def test_epsilon_is_the_probability_of_exploring():
    runs, epsilon, values = 100_000, 0.1, (0.0, 1.0, 0.0, 0.0)
    state = values_state([9.0] * 4, [9 * v for v in values])
    state = bandits.ActionValues(*(x.expand(-1, runs) for x in state[:3]), 36)
    actions = bandits.epsilon_greedy(epsilon).act(state, bandits.Noise(seeded(), runs))
    share = float((actions == 1).double().mean())
    error = math.sqrt(0.925 * 0.075 / runs)
    assert abs(share - (1 - epsilon + epsilon / 4)) < 4 * error
    # Wrong: epsilon greedy, the rest exploring; and exploring without the greedy arm.
    assert abs(share - (epsilon + (1 - epsilon) / 4)) > 0.5
    assert abs(share - (1 - epsilon)) > 20 * error


def first_maximizer(values, uniforms):
    """The wrong version: ties go to the arm with the smallest number."""
    return torch.tensor(np.argmax(values.numpy(), axis=0))


@pytest.mark.parametrize("name", ["greedy", "epsilon", "ucb", "optimistic"])
def test_ties_are_broken_at_random(name, monkeypatch):
    runs, arms = 40_000, 4
    world, noise = bandits.BernoulliBandit([0.5] * arms), bandits.Noise(seeded(), runs)
    state = POLICIES[name].init(world, runs, CPU)
    counts = POLICIES[name].act(state, noise).bincount(minlength=arms)
    error = math.sqrt(runs * 3 / 16)
    np.testing.assert_allclose(counts, runs / arms, atol=4 * error)
    monkeypatch.setattr(bandits, "_pick", first_maximizer)
    assert (POLICIES[name].act(state, noise) == 0).all()


def test_first_maximizer_moves_the_exact_regret():
    # With the worse arm first, greedy that takes the first maximizer never leaves it
    # before a reward, and afterwards never at all: its regret is the gap each time.
    means, steps = [0.4, 0.8], 6

    def wrong(wins, losses):
        pi = RULES["greedy"](wins, losses)
        return np.eye(2)[np.argmax(pi)]

    right = bandits.exact_regret(RULES["greedy"], means, steps).sum()
    assert bandits.exact_regret(wrong, means, steps).sum() == pytest.approx(6 * 0.4)
    assert right < 0.6 * 6 * 0.4
    record = bandits.run(
        POLICIES["greedy"], bandits.BernoulliBandit(means), steps, 20_000, seeded()
    )
    assert_near(record.regret.sum(1), right, 4)


def test_equal_records_tie_exactly_in_any_order():
    """Used to be possible: float32 incremental means differ by the order of rewards."""
    policy = POLICIES["greedy"]
    orders = list(itertools.product([0.0, 1.0], repeat=6))
    wrong = torch.zeros(len(orders))
    state = policy.init(bandits.BernoulliBandit([0.5, 0.5]), len(orders), CPU)
    for t, rewards in enumerate(torch.tensor(orders).T):
        state = policy.update(state, torch.zeros(len(orders)).long(), rewards)
        wrong = wrong + (rewards - wrong) / (t + 1)
    totals = torch.tensor(orders).sum(1)
    for total in range(7):
        assert len(set(state.values[0, totals == total].tolist())) == 1
    assert any(len(set(wrong[totals == total].tolist())) > 1 for total in range(7))


def test_regret_pseudo_regret_and_missed_reward_are_three_curves():
    steps, runs = 200, 4000
    record = bandits.run(
        bandits.thompson(), bandits.BernoulliBandit(FIVE), steps, runs, seeded()
    )
    pseudo = record.regret.cumsum(1)
    regret = (0.9 - record.rewards).cumsum(1)
    missed = (1 - record.rewards).cumsum(1)
    # Equal means: the difference is sum_t (mu_{a_t} - r_t), a martingale.
    assert_near(regret - pseudo, 0.0, 4.5)
    assert regret[:, -1].var() > 1.5 * pseudo[:, -1].var()
    assert (pseudo.diff(dim=1) >= 0).all()
    assert (regret.diff(dim=1) < 0).any()
    pulls = torch.arange(1, steps + 1)
    torch.testing.assert_close(missed, regret + 0.1 * pulls, rtol=1e-4, atol=1e-3)
    # Told apart: the last 100 pulls add under 1.5 of the one and over 10 of the other.
    gain = (curve[:, -1] - curve[:, 99] for curve in (pseudo, missed))
    assert [float(g.mean()) > 5 for g in gain] == [False, True]


# Random numbers


@pytest.mark.parametrize("runs", [1, 16, 33])
@pytest.mark.parametrize("name", POLICIES)
def test_result_does_not_depend_on_the_block(name, runs):
    worlds = [bandits.BernoulliBandit([0.2, 0.4, 0.6])]
    if name not in ONLY_BERNOULLI:
        worlds.append(bandits.GaussianBandit([0.0, 0.5, 1.0], walk=0.1))
    for world in worlds:
        first, *others = (
            bandits.run(POLICIES[name], world, 41, runs, seeded(), block=block)
            for block in (1, 7, 64)
        )
        for other in others:
            assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_normals_in_rows_that_are_not_padded_depend_on_the_block():
    """Why :class:`Noise` pads its rows to 16 numbers."""
    source, whole = seeded(), torch.randn(4, 33, generator=seeded())
    rows = torch.stack([torch.randn(33, generator=source) for _ in range(4)])
    assert not torch.equal(rows, whole)
    noise = [bandits.Noise(seeded(), 33, block) for block in (1, 4)]
    assert torch.equal(*(torch.stack([n.normal() for _ in range(4)]) for n in noise))


def test_equal_generators_give_equal_runs_and_other_seeds_others():
    world = bandits.GaussianBandit([0.0, 0.5])
    runs = [
        bandits.run(POLICIES["epsilon"], world, 20, 8, seeded(s)) for s in (1, 1, 2)
    ]
    assert torch.equal(runs[0].rewards, runs[1].rewards)
    assert not torch.equal(runs[0].rewards, runs[2].rewards)


@pytest.mark.parametrize("name", ["reinforce", "thompson"])
def test_two_policies_meet_the_same_luck(name):
    worlds = [bandits.BernoulliBandit([0.4, 0.4]), bandits.GaussianBandit([0.4, 0.4])]
    for world in worlds[: 1 if name in ONLY_BERNOULLI else 2]:
        one = bandits.run(POLICIES["greedy"], world, 30, 8, seeded())
        two = bandits.run(POLICIES[name], world, 30, 8, seeded())
        assert not torch.equal(one.actions, two.actions)
        assert torch.equal(one.rewards, two.rewards)


@PLAIN
@given(st.lists(st.sampled_from([0.0, 1e-7, 0.3, 1.0, 7.0]), min_size=2, max_size=9))
def test_pick_follows_the_weights_and_never_takes_a_zero(weights):
    if sum(weights) == 0:
        return
    last = 1 - 2**-24
    uniforms = torch.cat([torch.linspace(0, last, 1001), torch.tensor([0.0, last])])
    table = torch.tensor(weights)[:, None].expand(-1, len(uniforms))
    actions = bandits._pick(table, uniforms)
    assert (table.gather(0, actions[None]) > 0).all()
    edges = np.cumsum(weights) / sum(weights)
    exact = np.searchsorted(edges, uniforms.double().numpy(), side="right")
    assert np.mean(exact == actions.numpy()) > 0.99


@PLAIN
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=6), st.floats(0, 1)
)
def test_greedy_probabilities_are_a_symmetric_distribution(values, epsilon):
    pi = bandits.greedy_probabilities(column(*values), epsilon)[:, 0]
    assert float(pi.sum()) == pytest.approx(1)
    assert float(pi.min()) >= epsilon / len(values) - 1e-12
    back = bandits.greedy_probabilities(column(*values[::-1]), epsilon)[:, 0]
    torch.testing.assert_close(pi, back.flip(0))


@pytest.mark.parametrize(
    "shapes", [(1.0, 1.0), (5.0, 2.0), (90.0, 400.0), (0.5, 0.5), (0.3, 4.0)]
)
def test_log_odds_of_a_beta_have_their_mean_and_variance(shapes):
    # E = digamma(p) - digamma(q), Var = trigamma(p) + trigamma(q).
    counts = torch.tensor(shapes)
    draws = bandits.sample_log_odds(counts[:, None].expand(2, 100_000), seeded())
    signs = counts.new_tensor([1.0, -1.0])
    assert_near(draws, float(torch.digamma(counts) @ signs), 4)
    variance = float(torch.polygamma(1, counts).sum())
    assert float(draws.var()) == pytest.approx(variance, rel=0.04)


def test_tiny_priors_do_not_underflow():
    draws = bandits.sample_log_odds(torch.full((2, 10_000), 1e-3), seeded())
    assert draws.isfinite().all()
    assert len(set(draws.tolist())) > 9_900
    assert float((draws > 0).double().mean()) == pytest.approx(0.5, abs=0.02)


# Worlds, shapes, memory


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_pure(name):
    policy, world = POLICIES[name], bandits.BernoulliBandit([0.3, 0.6, 0.9])
    noise = bandits.Noise(seeded(), 5)
    state = policy.init(world, 5, CPU)
    for _ in range(4):
        before = [x.clone() if isinstance(x, torch.Tensor) else x for x in state]
        actions = policy.act(state, noise)
        after = policy.update(state, actions, (actions == 1).float())
        for old, now in zip(before, state, strict=True):
            assert (
                torch.equal(old, now) if isinstance(old, torch.Tensor) else old == now
            )
        state = after


def test_shapes_and_types():
    record = bandits.run(POLICIES["ucb"], bandits.BernoulliBandit(FIVE), 7, 3, seeded())
    assert [tuple(x.shape) for x in record] == [(3, 7)] * 3
    assert [x.dtype for x in record] == [torch.int8, torch.float32, torch.float32]
    many = bandits.BernoulliBandit([0.5] * 128)
    record = bandits.run(POLICIES["ucb"], many, 128, 2, seeded())
    assert record.actions.dtype == torch.int16
    assert sorted(record.actions[1].tolist()) == list(range(128))


def test_ucb_pulls_each_arm_once_first():
    for c in (0.0, 2.0):
        world = bandits.BernoulliBandit(FIVE)
        actions = bandits.run(bandits.ucb(c), world, 5, 50, seeded()).actions
        assert (actions.long().sort(1).values == torch.arange(5)).all()


def test_ucb1_stays_below_its_bound():
    steps, gaps = 400, [0.9 - p for p in FIVE[:-1]]
    bound = sum(8 * math.log(steps) / g + (1 + math.pi**2 / 3) * g for g in gaps)
    ucb1 = bandits.ucb(math.sqrt(2))
    record = bandits.run(ucb1, bandits.BernoulliBandit(FIVE), steps, 500, seeded())
    assert 20 < float(record.regret.sum(1).mean()) < bound


@pytest.mark.parametrize("name", ["thompson", "gradient"])
def test_each_replication_may_have_its_own_problem(name):
    means = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.25]])
    record = bandits.run(
        POLICIES[name], bandits.BernoulliBandit(means), 300, 3, seeded()
    )
    assert (record.rewards[0] == record.actions[0]).all()
    assert (record.rewards[1] == 1 - record.actions[1]).all()
    chosen = means.gather(1, record.actions.long())
    assert torch.equal(record.regret, means.amax(1, keepdim=True) - chosen)


@pytest.mark.parametrize("name", ["epsilon", "thompson"])
def test_summary_keeps_the_sums_of_run(name):
    world, marks = bandits.BernoulliBandit(FIVE), [1, 10, 33, 80]
    record = bandits.run(POLICIES[name], world, 80, 6, seeded())
    summary = bandits.run_summary(POLICIES[name], world, marks, 6, seeded(), block=5)
    assert summary.steps.tolist() == marks
    index = torch.tensor(marks) - 1
    for kept, rows in (
        (summary.regret, record.regret),
        (summary.rewards, record.rewards),
    ):
        assert kept.dtype == torch.float64
        torch.testing.assert_close(kept, rows.double().cumsum(1)[:, index])


def test_walking_means():
    world = bandits.GaussianBandit([0.0] * 10, scale=0.0, walk=0.01)
    noise, means = bandits.Noise(seeded(), 5000), torch.zeros(10, 5000)
    moved = world.move(world.move(means, noise), noise)
    assert float(moved.std()) == pytest.approx(0.01 * math.sqrt(2), rel=0.02)
    # Without noise a reward is the mean of its arm, so reward + gap is the best mean,
    # which does not depend on the policy.
    best = [
        bandits.run(POLICIES[name], world, 50, 4, seeded())
        for name in ("ucb", "greedy")
    ]
    first, second = (record.rewards + record.regret for record in best)
    torch.testing.assert_close(first, second)
    assert (first[:, 0] == 0).all()
    assert (first[:, -1] > 0.02).all()


def test_constant_step_wins_where_means_walk():
    """Sutton and Barto (2018), exercise 2.5."""
    world, late = bandits.GaussianBandit([0.0] * 10, walk=0.01), slice(2000, 3000)
    average, constant = (
        bandits.run(policy, world, 3000, 200, seeded()).regret[:, late].mean(1)
        for policy in (
            bandits.epsilon_greedy(0.1),
            bandits.epsilon_greedy(0.1, step=0.1),
        )
    )
    difference, error = mean_and_error(average - constant)
    assert difference > 4 * error


MEMORY = """
import resource, sys, torch
from rlbook_utils import bandits

def peak():
    try:
        with open("/proc/self/status") as status:
            return next(int(x.split()[1]) / 1e3 for x in status if "VmHWM" in x)
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

torch.set_num_threads(1)
world, source = bandits.BernoulliBandit([.1, .3, .5, .7, .9]), torch.Generator()
policy = getattr(bandits, sys.argv[1])()
bandits.run(policy, world, 2, 16, source)
before = peak()
record = bandits.run(policy, world, 500, 20_000, source)
assert record.regret.shape == (20_000, 500)
print(before, peak())
"""


@pytest.mark.parametrize("name", ["ucb", "thompson", "reinforce_adam"])
def test_memory_at_20_000_replications(name):
    """90 MB of records; VmHWM, since ru_maxrss inherits the peak of the parent."""
    command = [sys.executable, "-c", MEMORY, name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, after = map(float, done.stdout.split())
    assert after - before < 150
    assert after - before > 80


# Published numbers

TESTBED = {
    # Reward over the last 100 of 1,000 steps, % best arm there, cumulative regret.
    "greedy": (bandits.greedy(), (1.03, 1.03), (35, 35), (520, 520)),
    "epsilon .01": (bandits.epsilon_greedy(0.01), (1.31, 1.31), (59, 62), (334, 348)),
    "epsilon .1": (bandits.epsilon_greedy(0.1), (1.36, 1.40), (80, 81), (234, 234)),
    "optimistic": (bandits.greedy(5.0, 0.1), (1.48, 1.48), (84.5, 84.5), (243, 243)),
    "ucb": (bandits.ucb(2.0), (1.49, 1.49), (85.8, 85.8), (148, 148)),
    "gradient": (bandits.gradient(0.1), None, (84, 85.6), None),
    "no baseline": (bandits.gradient(0.1, False), None, (50.9, 50.9), None),
}


@pytest.mark.parametrize("name", TESTBED)
def test_ten_armed_testbed(name, seed=0):
    """Sutton and Barto (2018), figures 2.2 to 2.5.

    Windows of 4 standard errors of a difference: the numbers were measured, too.
    """
    policy, *windows = TESTBED[name]
    world = bandits.ten_armed_testbed(2000, seeded(seed))
    best, error = mean_and_error(world.means.amax(1))
    assert abs(best - 1.53875) < 4 * error
    shift = 4.0 if windows[0] is None else 0.0
    world = bandits.GaussianBandit(world.means + shift)
    record = bandits.run(policy, world, 1000, 2000, seeded(seed + 100))
    late = record.regret[:, -100:]
    measured = (
        record.rewards[:, -100:].mean(1),
        100 * (late == 0).double().mean(1),
        record.regret.sum(1),
    )
    for samples, window in zip(measured, windows, strict=True):
        if window is not None:
            mean, error = mean_and_error(samples)
            margin = 4 * math.sqrt(2) * error
            assert window[0] - margin < mean < window[1] + margin


def test_thompson_beats_reinforce_and_lies_below_lai_robbins_at_500():
    world, curves = bandits.BernoulliBandit(FIVE), {}
    for name in ("thompson", "reinforce"):
        record = bandits.run(POLICIES[name], world, 500, 2000, seeded())
        curves[name] = mean_and_error(record.regret.sum(1))
    # 12.26 and 38.26 over 20,000 other runs; C ln 500 = 19.4.
    assert curves["thompson"][0] == pytest.approx(12.26, abs=4 * curves["thompson"][1])
    assert curves["reinforce"][0] == pytest.approx(
        38.26, abs=4 * curves["reinforce"][1]
    )
    assert curves["thompson"][0] < bandits.lai_robbins_constant(FIVE) * math.log(500)


# Bad input

WORLD = bandits.BernoulliBandit([0.2, 0.8])
NORMAL = bandits.GaussianBandit([0.2, 0.8])


def go(policy=POLICIES["greedy"], world=WORLD, steps=3, replications=2, **options):
    return bandits.run(policy, world, steps, replications, seeded(), **options)


def summarize(checkpoints):
    return bandits.run_summary(POLICIES["greedy"], WORLD, checkpoints, 2, seeded())


def sums_to(total):
    return lambda wins, losses: np.array([total, 0.0])


REFUSED = [
    (lambda: bandits.BernoulliBandit([0.1, 1.2]), "means has 1.2: .*[0, 1]"),
    (lambda: bandits.BernoulliBandit([[0.1, 0.2], [0.1, -0.5]]), "means has -0.5"),
    (lambda: bandits.BernoulliBandit([NAN, 0.5]), "means has nan"),
    (lambda: bandits.BernoulliBandit([0.5]), "means has shape (1,)"),
    (lambda: bandits.BernoulliBandit([]), "means has shape (0,)"),
    (lambda: bandits.BernoulliBandit(np.zeros((0, 3))), "means has shape (0, 3)"),
    (lambda: bandits.BernoulliBandit(np.zeros((2, 2, 2))), "means has shape (2, 2, 2)"),
    (lambda: bandits.GaussianBandit([0.0, INF]), "means has inf"),
    (lambda: bandits.GaussianBandit([0.0, NAN]), "means has nan"),
    (lambda: bandits.GaussianBandit([0.0, 1.0], scale=-1.0), "scale is -1.0"),
    (lambda: bandits.GaussianBandit([0.0, 1.0], walk=NAN), "walk is nan"),
    (lambda: bandits.ten_armed_testbed(0, seeded()), "replications is 0"),
    (lambda: bandits.ten_armed_testbed(2, seeded(), 1), "means has shape (2, 1)"),
    (lambda: bandits.epsilon_greedy(1.1), "epsilon is 1.1"),
    (lambda: bandits.epsilon_greedy(-0.1), "epsilon is -0.1"),
    (lambda: bandits.epsilon_greedy(NAN), "epsilon is nan"),
    (lambda: bandits.epsilon_greedy(0.1, step=0.0), "step is 0.0"),
    (lambda: bandits.epsilon_greedy(0.1, step=1.5), "step is 1.5"),
    (lambda: bandits.greedy(initial=INF), "initial is inf"),
    (lambda: bandits.greedy(initial=NAN), "initial is nan"),
    (lambda: bandits.ucb(-1.0), "c is -1.0"),
    (lambda: bandits.ucb(INF), "c is inf"),
    (lambda: bandits.thompson((0.0, 1.0)), "prior is 0.0"),
    (lambda: bandits.thompson((1.0, -2.0)), "prior is -2.0"),
    (lambda: bandits.thompson((1.0,)), "prior is (1.0,)"),
    (lambda: bandits.gradient(0.0), "lr is 0.0"),
    (lambda: bandits.gradient(-0.1), "lr is -0.1"),
    (lambda: bandits.gradient(NAN), "lr is nan"),
    (lambda: bandits.reinforce_adam(0.0), "lr is 0.0"),
    (lambda: bandits.reinforce_adam(baseline_rate=1.5), "baseline_rate is 1.5"),
    (lambda: go(steps=0), "steps is 0"),
    (lambda: go(steps=2.5), "steps is 2.5"),
    (lambda: go(replications=0), "replications is 0"),
    (lambda: go(block=0), "block is 0"),
    (lambda: go(bandits.thompson(), NORMAL), "bandit is a GaussianBandit"),
    (
        lambda: go(world=bandits.BernoulliBandit(np.zeros((3, 2)))),
        "means has shape (3, 2), replications is 2",
    ),
    (lambda: go(device="cuda"), "generator is on cpu, device is cuda"),
    (lambda: summarize([]), "checkpoints are []"),
    (lambda: summarize([0, 2]), "checkpoint is 0"),
    (lambda: summarize([3, 2]), "checkpoints are [3, 2]"),
    (lambda: summarize([5, 5]), "checkpoints are [5, 5]"),
    (lambda: summarize([1, 2.5]), "checkpoint is 2.5"),
    (lambda: bandits.Noise(seeded(), 0), "replications is 0"),
    (lambda: bandits.sample_log_odds(torch.ones(3, 2), seeded()), "has shape (3, 2)"),
    (lambda: bandits.expected_regret([0.5, 0.6], [0, 1]), "probabilities sum to 1.1"),
    (lambda: bandits.expected_regret([-0.5, 1.5], [0, 1]), "probabilities has -0.5"),
    (lambda: bandits.expected_regret([NAN, 1.0], [0, 1]), "probabilities has nan"),
    (lambda: bandits.expected_regret([0.5, 0.5], [0, 1, 2]), "shape (2,), means (3,)"),
    (lambda: bandits.expected_regret([0.5, 0.5], [0, INF]), "means is [ 0. inf]"),
    (lambda: bandits.lai_robbins_constant([0.1, 1.1]), "means has 1.1"),
    (lambda: bandits.lai_robbins_constant([[0.1, 0.2]]), "means has shape (1, 2)"),
    (lambda: bandits.thompson_probabilities([1, 2], [1]), "shape (2,), failures (1,)"),
    (
        lambda: bandits.thompson_probabilities([1.5, 2], [1, 1]),
        "successes is [1.5 2. ]",
    ),
    (lambda: bandits.thompson_probabilities([1, 2], [-1, 1]), "failures is [-1  1]"),
    (lambda: bandits.thompson_probabilities([1, 2], [1, 1], (0.5, 1)), "prior is 0.5"),
    (lambda: bandits.exact_regret(sums_to(1.0), [0.1, 0.9], 0), "steps is 0"),
    (lambda: bandits.exact_regret(sums_to(1.0), [0.1, 0.9], 99), "steps is 99"),
    (lambda: bandits.exact_regret(sums_to(1.0), [0.1, NAN], 2), "means has nan"),
    (lambda: bandits.exact_regret(sums_to(0.5), [0.1, 0.9], 2), "sum to 0.5"),
    (
        lambda: bandits.epsilon_greedy_probabilities([1, 0], [0, 0], 2.0),
        "epsilon is 2.0",
    ),
    (lambda: bandits.ucb_probabilities([1, 0], [0, 0], -2.0), "c is -2.0"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_bad_input_is_named(call, message):
    pattern = re.escape(message).replace(re.escape(".*"), ".*")
    with pytest.raises(ValueError, match=pattern):
        call()


def test_eq_bandit_decomposition():
    record = bandits.run(
        bandits.epsilon_greedy(0.3), bandits.BernoulliBandit(FIVE), 40, 50, seeded()
    )
    gaps = max(FIVE) - np.array(FIVE)
    pulls = (record.actions[:, :, None] == torch.arange(5)).sum(1).numpy()
    # On every run, R_T = sum_a gap_a N_a(T): float32 gaps, so to 1e-5.
    np.testing.assert_allclose(record.regret.sum(1).numpy(), pulls @ gaps, atol=1e-5)


def test_eq_bandit_constant():
    # E[R_T] >= epsilon T / K sum_a gap_a, with equality when epsilon is 1.
    gaps = 0.4
    for epsilon in (0.1, 0.5, 1.0):
        rule = partial(bandits.epsilon_greedy_probabilities, epsilon=epsilon)
        regret = bandits.exact_regret(rule, [0.3, 0.7], 8).sum()
        bound = epsilon * 8 / 2 * gaps
        assert regret >= bound - 1e-12
    assert regret == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize("mean", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [1, 7, 30])
@pytest.mark.parametrize("width", [0.05, 0.2, 0.4])
def test_eq_bandit_hoeffding(mean, n, width):
    wins = np.arange(n + 1)
    ways = np.array([math.comb(n, k) for k in wins], float)
    chances = ways * mean**wins * (1 - mean) ** (n - wins)
    failed = chances[mean >= wins / n + width].sum()
    assert failed <= math.exp(-2 * n * width**2)


def test_eq_bandit_ucb_regret():
    gaps = max(FIVE) - np.array(FIVE)
    gaps = gaps[gaps > 0]
    sums = bandits.run_summary(
        bandits.ucb(math.sqrt(2)),
        bandits.BernoulliBandit(FIVE),
        [50, 500],
        200,
        seeded(),
    )
    for horizon, runs in zip((50, 500), sums.regret.T.numpy(), strict=True):
        bound = (8 * math.log(horizon) / gaps + (1 + math.pi**2 / 3) * gaps).sum()
        mean, error = mean_and_error(runs)
        assert mean + 4 * error <= bound
