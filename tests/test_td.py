"""Learners against exact values, plain loops, hand arithmetic and published numbers."""

import math
import re

import numpy as np
import pytest

from rlbook_utils import td
from rlbook_utils.worlds.grids import bias_trap, cliff, grid_1d, random_walk
from rlbook_utils.worlds.mdp import Rollout, TabularMDP, random_mdp

NAN, INF = float("nan"), float("inf")
GAMMA = 0.9
# A window around a number that was itself estimated: the difference of two estimates
# with the same standard error has sqrt(2) of it, and we take four of these.
WIDE = 4 * math.sqrt(2)


def seeded(seed=0):
    return np.random.default_rng(seed)


def one_episode(states, rewards, *, terminated):
    """Return one recorded episode from s_0 ... s_T and r_0 ... r_{T-1}."""
    length = len(rewards)
    last = np.arange(length)[None] == length - 1
    return Rollout(
        np.array([states]),
        np.zeros((1, length), np.intp),
        np.array([rewards], np.float64),
        last & terminated,
        last & (not terminated),
        np.array([length]),
    )


def padded(*runs):
    """Return several recorded episodes (states, rewards, terminated) as one."""
    longest = max(len(rewards) for _, rewards, _ in runs)
    parts = []
    for states, rewards, terminated in runs:
        missing = longest - len(rewards)
        episode = one_episode(states, rewards, terminated=terminated)
        parts.append(
            Rollout(
                np.pad(episode.states, ((0, 0), (0, missing)), mode="edge"),
                *(np.pad(array, ((0, 0), (0, missing))) for array in episode[1:5]),
                episode.lengths,
            )
        )
    return Rollout(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def mixed_episodes(count=40, horizon=12, seed=0):
    """Return episodes of a 7-state walk, some terminated, some truncated."""
    world = random_walk(5)
    episodes = world.rollout(np.zeros(7, int), count, horizon, seeded(seed))
    rewards = np.where(
        episodes.actions >= 0, seeded(seed + 1).normal(size=(count, horizon)), 0
    )
    episodes = episodes._replace(rewards=rewards)
    assert 5 < episodes.truncated.any(1).sum() < count - 5
    return episodes, seeded(seed + 2).normal(size=(count, 7))


def steps_of(episodes, row):
    """Return one episode as plain lists: states, rewards, and whether it terminated."""
    length = int(episodes.lengths[row])
    states = episodes.states[row, : length + 1].tolist()
    return (
        states,
        episodes.rewards[row, :length].tolist(),
        episodes.terminated[row].any(),
    )


# Exact values


def test_samples_agree_with_the_exact_values_of_the_19_state_walk():
    world = random_walk(19)
    exact = world.evaluate(np.zeros(21, int))
    np.testing.assert_allclose(exact[1:-1], 2 * np.arange(1, 20) / 20 - 1, atol=1e-12)
    episodes = world.rollout(np.zeros(21, int), 2000, 1500, seeded())
    assert episodes.terminated.any(1).all()
    first = td.batch_monte_carlo(np.zeros(21), episodes, 1.0, "first")
    visited = (episodes.states[:, :, None] == np.arange(21)).any(1).sum(0)
    # A return is +1 or -1, so its variance is 1 - V^2; 5 standard errors, 19 states.
    error = np.sqrt((1 - exact[1:-1] ** 2) / visited[1:-1])
    assert (np.abs(first - exact)[1:-1] < 5 * error).all()
    fixed = td.batch_td(np.zeros(21), episodes, 1.0)
    assert (np.abs(fixed - exact)[1:-1] < 5 * error).all()


def expected_change(update, world, horizon, values):
    """Return E[V' - V] over all episodes, enumerated, cut by a clock at T."""
    paths = world.enumerate(horizon, np.full((world.states, world.actions), 0.5))
    count = len(paths.probabilities)
    actions = paths.actions
    lengths = (actions >= 0).sum(1)
    last = np.arange(horizon) == lengths[:, None] - 1
    ended = world.terminal[paths.states[:, 1:]]
    episodes = Rollout(
        paths.states, actions, paths.rewards, last & ended, last & ~ended, lengths
    )
    change = update(np.tile(values, (count, 1)), episodes) - values
    return paths.probabilities @ change


def small_world():
    """Return 3 states and an end, stochastic, two actions."""
    inner = random_mdp(4, 2, seeded(3), gamma=GAMMA)
    table = inner.dense()
    table[:, 3] = np.eye(4)[3]
    reward = inner.r + 1
    reward[3] = 0
    return TabularMDP(table, reward, GAMMA, [0.5, 0.5, 0, 0], [3])


@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_exact_values_are_where_the_expected_update_is_zero(lam):
    world = small_world()
    exact = world.evaluate(np.full((4, 2), 0.5))

    def right(values, episodes):
        return td.td_lambda(values, episodes, GAMMA, 0.5, lam, online=False)

    np.testing.assert_allclose(expected_change(right, world, 4, exact), 0, atol=1e-13)
    off = expected_change(right, world, 4, exact + 0.1)
    assert np.abs(off).max() > 1e-2


def test_pitfall_1_zero_bootstrap_at_a_time_limit():
    world = small_world()
    exact = world.evaluate(np.full((4, 2), 0.5))

    def wrong(values, episodes):
        merged = episodes._replace(terminated=episodes.terminated | episodes.truncated)
        return td.td_lambda(values, merged, GAMMA, 0.5, 0.6, online=False)

    assert expected_change(wrong, world, 4, exact)[:3].max() < -0.05
    # One state, reward 1 for ever, gamma .9, a clock of 3 steps: V = 1/(1 - .9) = 10.
    # Taking the clock for an end, the mean of 1 + .9 + .81, 1.9 and 1 is 5.61/3 = 1.87.
    for ended, batch in ((False, 10.0), (True, 1.87)):
        episode = one_episode([0, 0, 0, 0], [1, 1, 1], terminated=ended)
        found = td.batch_monte_carlo([0.0], episode, GAMMA)
        assert found[0] == pytest.approx(batch)


# One step at a time


def test_updates_by_hand():
    # States 0, 1, 2 and the end 3; s = 0, 1, 0, 3; r = 1, 2, 4; gamma .5, eta .5;
    # V = (2, 4, 0, 7), where the 7 at the end must never be read.
    episode = one_episode([0, 1, 0, 3], [1, 2, 4], terminated=True)
    values = np.array([[2.0, 4.0, 0.0, 7.0]])
    # TD(0): V0 = 2 + .5 (1 + .5*4 - 2) = 2.5; V1 = 4 + .5 (2 + .5*2.5 - 4) = 3.625;
    # V0 = 2.5 + .5 (4 - 2.5) = 3.25.
    one = td.n_step_td(values, episode, 0.5, 0.5)
    np.testing.assert_allclose(one, [[3.25, 3.625, 0, 7]])
    # n = 2: V0 = 2 + .5 (1 + .5*2 + .25*2 - 2) = 2.25 (V0 is 2 still);
    # V1 = 4 + .5 (2 + .5*4 - 4) = 4; V0 = 2.25 + .5 (4 - 2.25) = 3.125.
    two = td.n_step_td(values, episode, 0.5, 0.5, 2)
    np.testing.assert_allclose(two, [[3.125, 4, 0, 7]])
    # G = 1 + .5*2 + .25*4, 2 + .5*4, 4 = 3, 4, 4. Every visit: V0 = 2 + .5 = 2.5,
    # V1 = 4, V0 = 2.5 + .5*1.5 = 3.25. First visit: V0 stays 2.5.
    every = td.monte_carlo(values, episode, 0.5, 0.5)
    np.testing.assert_allclose(every, [[3.25, 4, 0, 7]])
    first = td.monte_carlo(values, episode, 0.5, 0.5, "first")
    np.testing.assert_allclose(first, [[2.5, 4, 0, 7]])
    # lam = .5, so gamma lam = .25. delta = 1 + 2 - 2 = 1, z = (1, 0): V0 = 2.5.
    # delta = 2 + 1.25 - 4 = -.75, z = (.25, 1): V0 = 2.5 - .09375, V1 = 3.625.
    # delta = 4 - 2.40625 = 1.59375, z = (1.0625, .25): V0 = 2.40625 + .846680 and
    # V1 = 3.625 + .199219.
    traced = td.td_lambda(values, episode, 0.5, 0.5, 0.5)
    np.testing.assert_allclose(traced, [[3.252930, 3.824219, 0, 7]], atol=1e-6)
    assert values.tolist() == [[2, 4, 0, 7]]


def test_a_truncated_step_by_hand():
    # s = 0, 1 and the clock; r = 1; V = (2, 4); gamma .5, eta .5: the target is
    # 1 + .5*4 = 3 for every method, so V0 = 2.5. At a true end it is 1, so V0 = 1.5.
    for ended, expected in ((False, 2.5), (True, 1.5)):
        episode = one_episode([0, 1], [1], terminated=ended)
        values = np.array([[2.0, 4.0]])
        for found in (
            td.n_step_td(values, episode, 0.5, 0.5, 1),
            td.n_step_td(values, episode, 0.5, 0.5, 5),
            td.monte_carlo(values, episode, 0.5, 0.5),
            td.monte_carlo(values, episode, 0.5, 0.5, "first"),
            td.td_lambda(values, episode, 0.5, 0.5, 0.3),
        ):
            np.testing.assert_allclose(found, [[expected, 4.0]])


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12, 50])
def test_n_step_td_is_the_published_algorithm(n):
    episodes, values = mixed_episodes()
    found = td.n_step_td(values, episodes, GAMMA, 0.3, n)
    for row in range(len(values)):
        states, rewards, ended = steps_of(episodes, row)
        v, length = values[row].copy(), len(rewards)
        for t in range(length + n - 1):
            tau = t - n + 1
            if tau < 0:
                continue
            stop = min(tau + n, length)
            g = sum(GAMMA ** (k - tau) * rewards[k] for k in range(tau, stop))
            if stop < length or not ended:
                g += GAMMA ** (stop - tau) * v[states[stop]]
            v[states[tau]] += 0.3 * (g - v[states[tau]])
        np.testing.assert_allclose(found[row], v, atol=1e-12)


@pytest.mark.parametrize("visits", ["first", "every"])
def test_monte_carlo_is_the_published_algorithm(visits):
    episodes, values = mixed_episodes()
    found = td.monte_carlo(values, episodes, GAMMA, 0.3, visits)
    for row in range(len(values)):
        states, rewards, ended = steps_of(episodes, row)
        v = values[row].copy()
        for t in range(len(rewards)):
            if visits == "first" and states[t] in states[:t]:
                continue
            g = sum(GAMMA**k * reward for k, reward in enumerate(rewards[t:]))
            if not ended:
                g += GAMMA ** (len(rewards) - t) * v[states[-1]]
            v[states[t]] += 0.3 * (g - v[states[t]])
        np.testing.assert_allclose(found[row], v, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_reductions(gamma):
    episodes, values = mixed_episodes()
    horizon = episodes.rewards.shape[1]
    one = td.n_step_td(values, episodes, gamma, 0.3, 1)
    traced = td.td_lambda(values, episodes, gamma, 0.3, 0.0)
    np.testing.assert_allclose(one, traced, atol=1e-12)
    whole = td.monte_carlo(values, episodes, gamma, 0.3)
    for n in (horizon, horizon + 1, 10**6):
        found = td.n_step_td(values, episodes, gamma, 0.3, n)
        np.testing.assert_array_equal(found, whole)
    ahead = np.take_along_axis(values, episodes.states[:, 1:], 1) * ~episodes.terminated
    live = episodes.actions >= 0
    target = np.where(live, episodes.rewards + gamma * ahead, 0)
    np.testing.assert_allclose(td.lambda_returns(values, episodes, gamma, 0.0), target)
    full = td.lambda_returns(values, episodes, gamma, 1.0)
    for row in range(len(values)):
        states, rewards, ended = steps_of(episodes, row)
        g = 0.0 if ended else values[row, states[-1]]
        for t in reversed(range(len(rewards))):
            g = rewards[t] + gamma * g
            assert full[row, t] == pytest.approx(g)


@pytest.mark.parametrize("lam", [0.0, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_forward_and_backward_views_are_equal_offline(gamma, lam):
    episodes, values = mixed_episodes()
    forward = values.copy()
    targets = td.lambda_returns(values, episodes, gamma, lam)
    for row in range(len(values)):
        states, rewards, _ = steps_of(episodes, row)
        for t in range(len(rewards)):
            forward[row, states[t]] += 0.3 * (targets[row, t] - values[row, states[t]])
    backward = td.td_lambda(values, episodes, gamma, 0.3, lam, online=False)
    np.testing.assert_allclose(backward, forward, atol=1e-12)
    online = td.td_lambda(values, episodes, gamma, 0.3, lam)
    assert np.abs(online - backward).max() > 1e-3


# Batches


def test_batch_you_are_the_predictor():
    # Sutton and Barto, example 6.4: A 0 B 0 once, B 1 six times, B 0 once. B is worth
    # 6/8. Monte Carlo: A = 0, the one return seen. TD: A = 0 + V(B) = 3/4.
    ends = [([1, 2], [reward], True) for reward in (1, 1, 1, 1, 1, 1, 0)]
    episodes = padded(([0, 1, 2], [0, 0], True), *ends)
    assert td.batch_monte_carlo(np.zeros(3), episodes, 1.0).tolist() == [0, 0.75, 0]
    assert td.batch_td(np.zeros(3), episodes, 1.0).tolist() == [0.75, 0.75, 0]


def test_batch_td_is_the_value_of_the_empirical_world():
    world = random_walk(5)
    episodes = world.rollout(np.zeros(7, int), 20, 500, seeded(1))
    live = episodes.actions >= 0
    seen = np.zeros((7, 7))
    np.add.at(seen, (episodes.states[:, :-1][live], episodes.states[:, 1:][live]), 1)
    total = np.bincount(episodes.states[:, :-1][live], episodes.rewards[live], 7)
    seen[[0, 6], [0, 6]] = 1
    reward = (total / seen.sum(1))[:, None]
    table = seen / seen.sum(1, keepdims=True)
    empirical = TabularMDP(table[None], reward, 1.0, terminal=[0, 6])
    exact = empirical.evaluate(np.zeros(7, int))
    found = td.batch_td(np.zeros(7), episodes, 1.0)
    np.testing.assert_allclose(found, exact, atol=1e-12)


def test_batch_monte_carlo_is_least_squares():
    world = random_walk(5)
    episodes = world.rollout(np.zeros(7, int), 20, 500, seeded(1))
    live = episodes.actions >= 0
    features = np.eye(7)[episodes.states[:, :-1][live]]
    returns = td.lambda_returns(np.zeros((20, 7)), episodes, GAMMA, 1.0)[live]
    exact = np.linalg.lstsq(features, returns)[0]
    found = td.batch_monte_carlo(np.zeros(7), episodes, GAMMA)
    np.testing.assert_allclose(found, exact, atol=1e-12)
    horizon = episodes.rewards.shape[1]
    many = td.batch_td(np.zeros(7), episodes, GAMMA, horizon)
    np.testing.assert_array_equal(found, many)


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_replaying_a_batch_leads_to_its_fixed_point(lam):
    episodes, _ = mixed_episodes()
    v = np.linspace(-1, 1, 7)
    fixed = td.batch_td(v, episodes, GAMMA, 1 if lam == 0 else 12)
    for _ in range(1500):
        many = np.tile(v, (40, 1))
        after = td.td_lambda(many, episodes, GAMMA, 0.01, lam, online=False)
        v = v + (after - many).sum(0)
    np.testing.assert_allclose(v, fixed, atol=1e-9)
    assert fixed[[0, 6]].tolist() == [-1, 1]


# Control


def plain_control(world, method, episodes, rng, lr, epsilon, horizon, initial):
    """Return Q (S, A) and the returns of one run, one number at a time."""
    actions = world.actions
    tables = [np.full((world.states, actions), initial) for _ in range(2)]
    double = method == "double_q_learning"

    def probabilities(row, eps):
        best = [value == max(row) for value in row]
        return [b * ((1 - eps) / sum(best)) + eps * (1 / actions) for b in best]

    def pick(row, eps):
        edges = np.cumsum(probabilities(row, eps))
        draw = rng.random() * edges[-1]
        return sum(int(edge <= draw) for edge in edges[:-1])

    def act(s):
        row = tables[0][s] + tables[1][s] if double else tables[0][s]
        return pick(row.tolist(), epsilon)

    s, a, t, total, returns = int(world.reset(1, rng)[0]), None, 0, 0.0, []
    while len(returns) < episodes:
        if a is None or method != "sarsa":
            a = act(s)
        step = world.step([s], [a], Silent() if world.successors.shape[2] == 1 else rng)
        r, s2, ended = (
            float(step.reward[0]),
            int(step.next_state[0]),
            step.terminated[0],
        )
        mine, other, a2 = tables[0], tables[1], None
        if method == "sarsa":
            a2 = act(s2)
            ahead = mine[s2, a2]
        elif method == "expected_sarsa":
            row = mine[s2].tolist()
            ahead = sum(np.multiply(probabilities(row, epsilon), row))
        elif method == "q_learning":
            ahead = max(mine[s2])
        else:
            if rng.integers(2) == 1:
                mine, other = other, mine
            ahead = other[s2, pick(mine[s2].tolist(), 0.0)]
        y = r if ended else r + world.gamma * ahead
        mine[s, a] += lr * (y - mine[s, a])
        s, a, t, total = s2, a2, t + 1, total + r
        if ended or t == horizon:
            returns.append(total)
            s, a, t, total = int(world.reset(1, rng)[0]), None, 0, 0.0
    return (tables[0] + tables[1]) / 2 if double else tables[0], returns


class Silent:
    """Zeros in place of random numbers where the world has one successor."""

    def random(self, shape):
        return np.zeros(shape)


@pytest.mark.parametrize("method", td.METHODS)
@pytest.mark.parametrize("horizon", [None, 7])
@pytest.mark.parametrize("name", ["cliff", "stochastic"])
def test_control_is_the_published_algorithm(method, horizon, name):
    world = cliff() if name == "cliff" else small_world()
    made = td.control(
        world, method, 30, 1, seeded(5), lr=0.4, epsilon=0.2, horizon=horizon, initial=2
    )
    q, returns = plain_control(world, method, 30, seeded(5), 0.4, 0.2, horizon, 2.0)
    np.testing.assert_allclose(made.q_values[0], q, atol=1e-9)
    np.testing.assert_allclose(made.returns[0], returns, atol=1e-9)
    if horizon:
        assert made.lengths.max() == horizon


@pytest.mark.parametrize("method", ["q_learning", "double_q_learning"])
def test_q_learning_finds_the_optimal_values(method):
    world = grid_1d(7, gamma=0.5, left=0.5)
    exact = world.q_values(world.solve().values)
    made = td.control(world, method, 300, 50, seeded(), lr=1.0, epsilon=1.0)
    inside = ~world.terminal
    found = made.q_values[:, inside]
    np.testing.assert_allclose(found, np.broadcast_to(exact[inside], found.shape))


def test_shapes_and_records():
    made = td.control(cliff(), "sarsa", 20, 30, seeded())
    assert made.q_values.shape == (30, 38, 4)
    assert made.returns.shape == made.lengths.shape == made.first_actions.shape
    # A step costs 1 and a fall 99 more.
    falls = (-made.returns - made.lengths) / 99
    np.testing.assert_array_equal(falls, np.round(falls))
    assert falls.min() == 0 < falls.max() and made.lengths.min() >= 13
    assert set(np.unique(made.first_actions)) == {0, 1, 2, 3}
    again = td.control(cliff(), "sarsa", 20, 30, seeded())
    np.testing.assert_array_equal(made.q_values, again.q_values)


def test_ties_are_broken_uniformly():
    made = td.control(cliff(), "q_learning", 1, 8000, seeded(), epsilon=0.0)
    share = np.bincount(made.first_actions[:, 0], minlength=4) / 8000
    # 4 standard errors of a share of 1/4: 4 sqrt(.1875/8000) = .0194.
    np.testing.assert_allclose(share, 0.25, atol=0.0194)


def test_allowed_actions_alone_are_taken():
    allowed = np.ones((38, 4), np.bool_)
    allowed[cliff().start.argmax(), [0, 1, 2]] = False
    for method in td.METHODS:
        made = td.control(
            cliff(), method, 5, 10, seeded(), epsilon=0.5, allowed=allowed
        )
        assert (made.first_actions == 3).all()
        assert (np.isfinite(made.q_values) == allowed).all()
        assert (made.q_values[:, ~allowed] == -INF).all()


def test_replications_keep_their_actions_when_others_are_dropped():
    # In states 1, 4 and 7 only right is allowed: an action carried over from a
    # replication in another state would go left there, and move its minus infinity.
    allowed = np.ones((9, 2), np.bool_)
    allowed[1::3, 0] = False
    for method in td.METHODS:
        made = td.control(grid_1d(9), method, 3, 200, seeded(), allowed=allowed)
        assert (made.q_values[:, ~allowed] == -INF).all()
        assert np.isfinite(made.q_values[:, allowed]).all()
        assert (made.returns == 1).all() and len(np.unique(made.lengths)) > 3


def test_without_exploring_expected_sarsa_is_q_learning():
    runs = [
        td.control(cliff(), method, 20, 5, seeded(), epsilon=0.0)
        for method in ("expected_sarsa", "q_learning")
    ]
    np.testing.assert_allclose(runs[0].q_values, runs[1].q_values, atol=1e-12)
    np.testing.assert_array_equal(runs[0].lengths, runs[1].lengths)


def test_pitfall_8_sign_and_terminal_mask():
    # One state and an end, reward 1, gamma .5, eta .5, Q = 4 everywhere before.
    # Right: y = 1, Q = 4 + .5 (1 - 4) = 2.5. Sign turned: 4 + .5 (4 - 1) = 5.5.
    # End not masked: y = 1 + .5*4 = 3, Q = 4 + .5 (3 - 4) = 3.5.
    world = TabularMDP([[[0, 1], [0, 1]]], [[1], [0]], 0.5, 0, [1])
    for method in ("sarsa", "expected_sarsa", "q_learning"):
        made = td.control(world, method, 1, 3, seeded(), initial=4.0)
        assert made.q_values[:, 0, 0].tolist() == [2.5] * 3
    made = td.control(world, "double_q_learning", 1, 3, seeded(), initial=4.0)
    assert made.q_values[:, 0, 0].tolist() == [3.25] * 3  # the mean of 2.5 and 4


@pytest.mark.parametrize("method", td.METHODS)
def test_pitfall_1_in_control(method):
    # One state for ever, reward 1, gamma .5, a clock of 2 steps: Q = 1/(1 - .5) = 2.
    # Taking the clock for an end would leave every second update at 1.
    world = TabularMDP([[[1.0]]], [[1.0]], 0.5)
    made = td.control(world, method, 200, 2, seeded(), horizon=2)
    np.testing.assert_allclose(made.q_values, 2.0)
    assert (made.lengths == 2).all() and (made.returns == 2).all()


# Published numbers


@pytest.mark.parametrize(
    ("method", "expected"),
    [("sarsa", -26.7), ("q_learning", -50.8), ("expected_sarsa", -21.1)],
)
def test_cliff_walking(method, expected):
    made = td.control(cliff(), method, 500, 400, seeded())
    late = made.returns[:, -100:].mean(1)
    assert late.mean() == pytest.approx(expected, abs=WIDE * late.std(ddof=1) / 20)


@pytest.mark.parametrize(
    ("n", "lr", "expected"), [(1, 0.8, 0.345), (4, 0.4, 0.257), (16, 0.2, 0.316)]
)
def test_n_step_td_on_the_19_state_walk(n, lr, expected):
    world, pi = random_walk(19), np.zeros(21, int)
    exact, rng, count = world.evaluate(pi), seeded(1), 300
    values, error = np.zeros((count, 21)), np.zeros(count)
    for _ in range(10):
        values = td.n_step_td(values, world.rollout(pi, count, 1000, rng), 1.0, lr, n)
        error += np.sqrt(((values - exact)[:, 1:-1] ** 2).mean(1)) / 10
    margin = WIDE * error.std(ddof=1) / math.sqrt(count)
    assert margin < 0.025
    assert error.mean() == pytest.approx(expected, abs=margin)


@pytest.mark.parametrize(
    ("method", "peak", "end"),
    [("q_learning", 0.94, 0.128), ("double_q_learning", 0.495, 0.064)],
)
def test_maximization_bias(method, peak, end):
    world, allowed = bias_trap()
    made = td.control(world, method, 300, 1000, seeded(), lr=0.1, allowed=allowed)
    left = (made.first_actions == 0).mean(0)
    for found, expected in ((left.max(), peak), (left[-1], end)):
        margin = WIDE * math.sqrt(expected * (1 - expected) / 1000)
        assert found == pytest.approx(expected, abs=margin)
    assert left[-1] > 0.05 - 4 * math.sqrt(0.05 * 0.95 / 1000)


# What is refused


EPISODES = one_episode([0, 1, 2], [0, 1], terminated=True)
ZEROS = np.zeros((1, 3))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda v, e: td.n_step_td(v, e, 1.5, 0.1), "gamma is 1.5"),
        (lambda v, e: td.n_step_td(v, e, NAN, 0.1), "gamma is nan"),
        (lambda v, e: td.n_step_td(v, e, 1.0, 0.0), "lr is 0.0"),
        (lambda v, e: td.n_step_td(v, e, 1.0, 0.1, 0), "n is 0"),
        (lambda v, e: td.n_step_td(v, e, 1.0, 0.1, 1.5), "n is 1.5"),
        (lambda v, e: td.n_step_td(v[0], e, 1.0, 0.1), "shape (3,): it must be (1, S)"),
        (lambda v, e: td.n_step_td(v + NAN, e, 1.0, 0.1), "values has nan"),
        (lambda v, e: td.n_step_td(v[:, :2], e, 1.0, 0.1), "visit state 2 of 2"),
        (
            lambda v, e: td.n_step_td(v, e._replace(states=e.states[:, 1:]), 1.0, 0.1),
            "states has shape (1, 2): it must be (1, 3)",
        ),
        (
            lambda v, e: td.n_step_td(v, e._replace(states=e.states - 1), 1.0, 0.1),
            "visit state -1 of 3",
        ),
        (lambda v, e: td.monte_carlo(v, e, -0.1, 0.1), "gamma is -0.1"),
        (lambda v, e: td.monte_carlo(v, e, 1.0, 2.0), "lr is 2.0"),
        (lambda v, e: td.monte_carlo(v, e, 1.0, 0.1, "last"), "visits is 'last'"),
        (lambda v, e: td.lambda_returns(v, e, 2.0, 0.1), "gamma is 2.0"),
        (lambda v, e: td.lambda_returns(v, e, 1.0, 1.1), "lam is 1.1"),
        (lambda v, e: td.td_lambda(v, e, 2.0, 0.1, 0.5), "gamma is 2.0"),
        (lambda v, e: td.td_lambda(v, e, 1.0, NAN, 0.5), "lr is nan"),
        (lambda v, e: td.td_lambda(v, e, 1.0, 0.1, -0.5), "lam is -0.5"),
        (lambda v, e: td.batch_td(v, e, 1.0), "shape (1, 3): it must be (S,)"),
        (lambda v, e: td.batch_td(v[0], e, 7.0), "gamma is 7.0"),
        (lambda v, e: td.batch_td(v[0], e, 1.0, -1), "n is -1"),
        (lambda v, e: td.batch_monte_carlo(v[0], e, NAN), "gamma is nan"),
        (lambda v, e: td.batch_monte_carlo(v[0], e, 1.0, ""), "visits is ''"),
    ],
)
def test_prediction_refuses(call, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        call(ZEROS, EPISODES)


def test_a_batch_without_an_end_is_refused():
    endless = one_episode([0, 1, 0], [1, 1], terminated=False)
    with pytest.raises(ValueError, match="gamma is 1.0, but some states never lead"):
        td.batch_td(np.zeros(2), endless, 1.0)
    found = td.batch_td(np.zeros(2), endless, 0.5)
    np.testing.assert_allclose(found, [2, 2])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (dict(method="dqn"), "method is 'dqn': it must be one of sarsa, expected"),
        (dict(episodes=0), "episodes is 0"),
        (dict(replications=2.0), "replications is 2.0"),
        (dict(lr=0.0), "lr is 0.0"),
        (dict(epsilon=1.2), "epsilon is 1.2"),
        (dict(epsilon=NAN), "epsilon is nan"),
        (dict(horizon=0), "horizon is 0"),
        (dict(initial=INF), "initial is inf"),
        (dict(allowed=[[True]]), "allowed has shape (1, 1): it must be (5, 2)"),
        (
            dict(allowed=np.arange(5)[:, None] * [1, 1]),
            "allowed has no action in state 0",
        ),
        (
            dict(allowed=np.array([[1, 1], [1, 1], [1, 1], [1, 0], [1, 1]])),
            None,
        ),
        (
            dict(world=random_mdp(3, 2, seeded())),
            "horizon is None, but state 0 cannot end",
        ),
        (
            dict(world=TabularMDP(np.eye(2)[None], [[0], [0]], 0.5, 1, [1])),
            "state 1 is",
        ),
    ],
)
def test_control_refuses(changed, says):
    given = dict(
        world=grid_1d(5), method="sarsa", episodes=2, replications=2, rng=seeded()
    )
    if says is None:
        td.control(**given | changed)
        return
    with pytest.raises(ValueError, match=re.escape(says)):
        td.control(**given | changed)


def test_an_end_out_of_reach_of_the_allowed_actions_is_refused():
    left = np.tile([True, False], (5, 1))
    left[1] = [False, True]
    with pytest.raises(ValueError, match="horizon is None, but state 1 cannot end"):
        td.control(grid_1d(5), "sarsa", 1, 1, seeded(), allowed=left)
