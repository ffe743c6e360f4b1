"""Tabular worlds against enumeration, linear algebra, hand arithmetic and the books."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlbook_utils.worlds import grids, mdp

PLAIN = settings(derandomize=True, deadline=None, database=None, max_examples=30)
SEEDS = st.integers(0, 10**6)
TWO = [[[0.5, 0.5], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]
PAY = [[1.0, 0.0], [0.0, 0.0]]


def seeded(seed=0):
    return np.random.default_rng(seed)


def make(seed=0, states=5, actions=3, successors=None, gamma=0.9):
    return mdp.random_mdp(
        states, actions, seeded(seed), successors=successors, gamma=gamma
    )


def random_policy(world, seed=1):
    return seeded(seed).dirichlet(np.ones(world.actions), size=world.states)


def with_an_end(gamma=0.9):
    """State 2 ends; the same pair (s, a) pays differently by where it leads."""
    dense = [
        [[0.2, 0.3, 0.5], [0.6, 0.4, 0.0], [0.0, 0.0, 1.0]],
        [[0.0, 1.0, 0.0], [0.1, 0.1, 0.8], [0.0, 0.0, 1.0]],
    ]
    paid = np.arange(18.0).reshape(3, 2, 3)
    paid[2] = 0
    return mdp.TabularMDP(dense, paid, gamma, [0.7, 0.3, 0.0], terminal=[2])


WORLDS = {
    "dense": make(0),
    "sparse": make(1, states=12, successors=3),
    "end": with_an_end(),
    "large": make(2, states=260, actions=2, successors=4),
    "corridor": grids.short_corridor(),
    "walk": grids.random_walk(5),
    "chain": grids.chain(),
    "lake": grids.frozen_lake(),
}


# Values


@pytest.mark.parametrize("name", WORLDS)
def test_values_satisfy_the_bellman_equation(name):
    world = WORLDS[name]
    pi = random_policy(world)
    values = world.evaluate(pi)
    dense = world.dense()
    expected = np.einsum("sa,sa->s", pi, world.r) + world.gamma * np.einsum(
        "sa,ast,t->s", pi, dense, values
    )
    np.testing.assert_allclose(values, expected, atol=1e-9)
    q = world.r + world.gamma * np.einsum("ast,t->sa", dense, values)
    np.testing.assert_allclose(world.q_values(values), q, atol=1e-12)


def test_values_by_hand():
    # V(0) = 1 + .9 (.5 V(0) + .5 V(1)), V(1) = 0: V(0) = 1/(1 - .45).
    world = mdp.TabularMDP(TWO, PAY, 0.9)
    np.testing.assert_allclose(world.evaluate([0, 0]), [1 / 0.55, 0])
    np.testing.assert_allclose(world.q_values([1.0, 2.0])[0], [1 + 0.9 * 1.5, 0.9])


@pytest.mark.parametrize("seed", range(5))
def test_solve_is_the_best_of_all_policies(seed):
    world = make(seed, states=4, actions=3)
    every = [
        world.evaluate(pi) for pi in itertools.product(range(3), repeat=world.states)
    ]
    best = world.solve()
    np.testing.assert_allclose(best.values, np.max(every, axis=0), atol=1e-10)
    np.testing.assert_allclose(world.evaluate(best.policy), best.values, atol=1e-12)


@PLAIN
@given(SEEDS)
def test_the_optimum_is_at_least_any_policy(seed):
    world = make(seed, states=6, actions=2, successors=3, gamma=0.95)
    gap = world.solve().values - world.evaluate(random_policy(world, seed + 1))
    assert gap.min() >= -1e-10


def test_terminal_states_bootstrap_zero_whatever_they_hold():
    world = with_an_end()
    np.testing.assert_array_equal(
        world.q_values([1.0, 2.0, 0.0]), world.q_values([1.0, 2.0, 99.0])
    )


def test_the_two_forms_of_a_world_are_one():
    dense = with_an_end()
    paid = np.moveaxis(np.arange(18.0).reshape(3, 2, 3), 1, 0).copy()
    paid[:, 2] = 0
    wide = np.broadcast_to(np.arange(3), (2, 3, 3))
    sparse = mdp.TabularMDP(
        dense.dense(), paid, 0.9, [0.7, 0.3, 0.0], [False, False, True], successors=wide
    )
    np.testing.assert_allclose(sparse.r, dense.r)
    np.testing.assert_allclose(sparse.dense(), dense.dense())
    # r(0, 0) = .2 * 0 + .3 * 1 + .5 * 2.
    assert dense.r[0, 0] == pytest.approx(1.3)


def test_a_successor_may_be_named_twice():
    world = mdp.TabularMDP([[[0.5, 0.5]]], [[1.0]], 0.5, successors=[[[0, 0]]])
    np.testing.assert_array_equal(world.dense(), [[[1.0]]])
    np.testing.assert_allclose(world.evaluate([0]), [2.0])
    every = world.enumerate(3, [0])
    assert every.probabilities.tolist() == [1.0] and every.returns.tolist() == [1.75]


@pytest.mark.parametrize("name", WORLDS)
def test_backups_agree_on_every_path(name, monkeypatch):
    world = WORLDS[name]
    values = np.where(world.terminal, 0, seeded(3).normal(size=world.states))
    expected = (world.r + world.gamma * np.einsum("ast,t->sa", world.dense(), values)).T
    np.testing.assert_allclose(world.backup()(values), expected, atol=1e-12)
    for module in (mdp, grids):
        monkeypatch.setattr(module, "FEW_STATES", 0)
    monkeypatch.setattr(mdp, "MOST_DENSE", 0)
    monkeypatch.setattr(grids, "BLOCK", 7)
    backup, best = type(world).backup(world), np.empty(world.states)
    np.testing.assert_allclose(backup(values), expected, atol=1e-12)
    world.best_backup()(values, best)
    np.testing.assert_allclose(best, expected.max(0), atol=1e-12)
    np.testing.assert_allclose(
        mdp.TabularMDP.backup(world)(values), expected, atol=1e-12
    )
    assert backup(values) is backup(values)


@PLAIN
@given(st.lists(st.integers(0, 7), min_size=8, max_size=8), st.integers(-8, 8))
def test_gathering_is_indexing(random, offset):
    values = seeded().normal(size=8)
    shifted = np.clip(np.arange(8) + offset, 0, 7)
    for index in (np.array([random]), np.array([shifted, shifted[::-1]])):
        out = np.empty(index.shape)
        mdp.gatherer(index)(values, out)
        np.testing.assert_array_equal(out, values[index])
        part = np.empty((len(index), 3))
        mdp.gatherer(index[:, 5:], 5)(values, part)
        np.testing.assert_array_equal(part, values[index[:, 5:]])


# Occupancy


@pytest.mark.parametrize("name", ["dense", "sparse", "end", "lake", "chain"])
def test_occupancy_is_the_discounted_sum_of_marginals(name):
    world = WORLDS[name]
    pi = random_policy(world)
    step, marginal = world.transition_matrix(pi), world.start
    total = np.zeros(world.states)
    for t in range(4000):
        total += world.gamma**t * marginal
        marginal = marginal @ step
    occupancy = world.occupancy(pi)
    np.testing.assert_allclose(occupancy, total, atol=1e-9)
    assert occupancy.sum() == pytest.approx(1 / (1 - world.gamma))
    reward = (pi * world.r).sum(1)
    assert occupancy @ reward == pytest.approx(world.start @ world.evaluate(pi))


def test_occupancy_without_discount_counts_visits():
    # Gambler's ruin from 2 of 4: visits to 1, 2, 3 are 1, 2, 1.
    np.testing.assert_allclose(
        grids.random_walk(3).occupancy([0] * 5), [math.inf, 1, 2, 1, math.inf]
    )


# Samples


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["dense", "end", "chain"])
def test_rollouts_have_the_exact_mean(name, seed):
    world, horizon = WORLDS[name], 6
    pi = random_policy(world)
    run = world.rollout(pi, 20_000, horizon, seeded(seed))
    returns = run.rewards @ world.gamma ** np.arange(horizon)
    exact = world.enumerate(horizon, pi) if name == "end" else None
    mean = exact.probabilities @ exact.returns if exact else recursion(world, pi, 6)
    error = returns.std(ddof=1) / math.sqrt(len(returns))
    # 15 draws: all within 4 standard errors with probability .999.
    assert abs(returns.mean() - mean) < 4 * error


def recursion(world, pi, horizon):
    """Backward induction: the problem ends at T, V_T = 0."""
    values = np.zeros(world.states)
    for _ in range(horizon):
        values = (pi * world.q_values(values)).sum(1)
    return world.start @ values


def test_rollouts_keep_the_clock_and_the_end_apart():
    world = with_an_end()
    run = world.rollout(random_policy(world), 500, 3, seeded())
    ended, cut = run.terminated.any(1), run.truncated.any(1)
    assert (ended ^ cut).all() and ended.any() and cut.any()
    assert run.truncated[:, :-1].sum() == 0
    steps = np.arange(3) < run.lengths[:, None]
    np.testing.assert_array_equal(run.actions >= 0, steps)
    assert (run.rewards[~steps] == 0).all()
    assert (run.states[ended, -1] == 2).all() and (run.states[cut, -1] != 2).all()
    last = run.lengths[ended] - 1
    assert run.terminated[ended, last].all() and run.terminated.sum() == ended.sum()


def test_an_episode_that_starts_at_its_end_has_no_step():
    world = mdp.TabularMDP(TWO, PAY, 0.9, start=1, terminal=[1])
    run = world.rollout([0, 0], 3, 4, seeded())
    assert not run.lengths.any() and not run.truncated.any()


def test_samples_pay_what_the_transition_pays():
    world = with_an_end()
    state, action = np.zeros(30_000, int), np.zeros(30_000, int)
    step = world.step(state, action, seeded())
    # (s, a) = (0, 0) pays 0, 1, 2 by the next state.
    np.testing.assert_array_equal(step.reward, step.next_state)
    np.testing.assert_array_equal(step.terminated, step.next_state == 2)
    share = np.bincount(step.next_state) / 30_000
    # 4 standard errors of a share of .5 are .0115.
    np.testing.assert_allclose(share, [0.2, 0.3, 0.5], atol=0.0115)


class Fixed:
    """A generator whose every uniform number is the same."""

    def __init__(self, number):
        self.number = number

    def random(self, shape):
        return np.full(shape, self.number)


def test_what_has_probability_zero_is_never_sampled():
    # Ten times .1 add up to less than 1 in float64, so the largest uniform number
    # would fall behind the last of them, and 0 before the first.
    row = [0.0, *[0.1] * 10, 0.0]
    world = mdp.TabularMDP([[row] * 12], np.zeros((12, 1)), 0.5, start=row)
    assert np.cumsum(row)[-1] < 1
    for number, after in ((0.0, 1), (np.nextafter(1, 0), 10)):
        assert world.step([3], [0], Fixed(number)).next_state == after
        assert world.reset(1, Fixed(number)) == after


# Enumeration


@pytest.mark.parametrize("name", ["dense", "end", "corridor", "walk"])
def test_enumeration_is_evaluation(name):
    world = WORLDS[name]
    pi = random_policy(world)
    for horizon in (1, 3):
        every = world.enumerate(horizon, pi)
        assert every.probabilities.sum() == pytest.approx(1)
        mean = every.probabilities @ every.returns
        assert mean == pytest.approx(recursion(world, pi, horizon))
        discounts = world.gamma ** np.arange(horizon)
        np.testing.assert_allclose(every.returns, every.rewards @ discounts)
        paths = {
            tuple(row)
            for row in np.column_stack([every.states, every.actions, every.rewards])
        }
        assert len(paths) == len(every.returns)


def test_enumeration_until_all_have_ended_is_the_value():
    # Two steps end it surely: 0 -> 1 -> 2, in between a choice of two rewards.
    dense = np.zeros((2, 3, 3))
    dense[:, 0, 1] = dense[:, 1, 2] = dense[:, 2, 2] = 1
    world = mdp.TabularMDP(dense, [[1, 2], [3, 4], [0, 0]], 1.0, 0, [2])
    pi = [[0.25, 0.75], [0.5, 0.5], [1, 0]]
    every = world.enumerate(4, pi)
    assert len(every.returns) == 4
    # .25 + .75 * 2 + .5 * 3 + .5 * 4 = 5.25.
    assert every.probabilities @ every.returns == pytest.approx(5.25)
    assert world.evaluate(pi)[0] == pytest.approx(5.25)


def test_pitfall_zero_bootstrap_at_a_time_limit():
    world, horizon = with_an_end(), 4
    pi = random_policy(world)
    values, every = world.evaluate(pi), world.enumerate(horizon, pi)
    tail = np.where(world.terminal, 0, values)[every.states[:, -1]]
    right = every.returns + world.gamma**horizon * tail
    exact = world.start @ values
    assert every.probabilities @ right == pytest.approx(exact)
    assert every.probabilities @ every.returns < 0.9 * exact


# Grids


def test_frozen_lake_has_the_standard_dynamics():
    for size in (4, 8):
        text = "".join(grids.FROZEN_LAKES[size].split())
        table, reward = np.zeros((4, size**2, size**2)), np.zeros((size**2, 4))
        for state, action in itertools.product(range(size**2), range(4)):
            if text[state] in "GH":
                table[action, state, state] = 1
                continue
            for turn in (-1, 0, 1):
                row, column = divmod(state, size)
                down, right = [(0, -1), (1, 0), (0, 1), (-1, 0)][(action + turn) % 4]
                row = min(max(row + down, 0), size - 1)
                column = min(max(column + right, 0), size - 1)
                after = row * size + column
                table[action, state, after] += 1 / 3
                reward[state, action] += (text[after] == "G") / 3
        world = grids.frozen_lake(size)
        np.testing.assert_allclose(world.dense(), table, atol=1e-12)
        np.testing.assert_allclose(world.r, reward, atol=1e-12)
        assert world.start[0] == 1 and text[0] == "S"
        assert world.terminal.tolist() == [mark in "GH" for mark in text]


def test_frozen_lake_without_slip_takes_six_moves():
    # The goal pays on the sixth move: gamma^5.
    world = grids.frozen_lake(gamma=0.9, slippery=False)
    assert world.solve().values[0] == pytest.approx(0.9**5)


def test_slip_by_hand():
    world = grids.grid_world("...\n.S.\n..#", 0.9, slip=0.2)
    assert world.states == 8
    table = world.dense()[:, 4]
    # Right from the middle: .8 right (5), .1 down (7), .1 up (1).
    np.testing.assert_allclose(table[2], np.array([0, 0.1, 0, 0, 0, 0.8, 0, 0.1]))
    # Down from (1, 2): the wall holds, .1 left (4), .1 over the edge.
    edge = world.dense()[1, 5]
    np.testing.assert_allclose(edge, [0, 0, 0, 0, 0.1, 0.9, 0, 0])


def test_wind_pushes_up_and_stops_at_the_edge():
    world = grids.grid_world("...\n...\n...", 0.9, wind=[0, 1, 0])
    # From the middle (4): left and right climb a row, down is held, up cannot do two.
    assert world.moves[:, 4].tolist() == [0, 4, 2, 1]
    held = grids.grid_world("...\n.#.\n...", 0.9, wind=[0, 2, 0])
    # From below the wall (6): aside and then two up; straight up the wall holds.
    assert held.moves[:, 6].tolist() == [0, 6, 2, 6]


def test_the_windy_grid_takes_fifteen_moves():
    text = "\n".join([".........."] * 3 + ["S......G.."] + [".........."] * 3)
    wind = [0, 0, 0, 1, 1, 1, 2, 2, 1, 0]
    world = grids.grid_world(text, 1.0, step=-1, rewards={"G": -1}, wind=wind)
    # Sutton and Barto (2018), example 6.5: the optimum is 15 steps.
    assert world.start @ world.solve().values == pytest.approx(-15)


def test_the_cliff_sends_back_and_does_not_end():
    world = grids.cliff()
    begin = int(world.start.argmax())
    assert world.states == 38 and world.moves[2, begin] == begin
    assert world.r[begin].tolist() == [-1, -1, -100, -1]
    # Sutton and Barto (2018), example 6.6: 13 moves; the safe way, along the top, 17.
    assert world.start @ world.solve().values == pytest.approx(-13)


def test_the_maze_takes_fourteen_moves():
    world = grids.dyna_maze()
    assert world.states == 47
    best = world.solve().policy
    run = world.rollout(best, 1, 50, seeded())
    assert run.lengths.tolist() == [14] and run.rewards.sum() == 1


def test_a_world_where_some_policies_take_for_ever_is_solved():
    # Exploring with probability .1 every policy ends, but one that walks into the
    # cliff takes about 10^16 steps: its values are nothing but rounding.
    plain = grids.cliff()
    P, r = plain.dense(), plain.r
    P = 0.9 * P + 0.1 * P.mean(0)
    r = 0.9 * r + 0.1 * r.mean(1, keepdims=True)
    world = mdp.TabularMDP(P, r, 1.0, plain.start, np.flatnonzero(plain.terminal))
    values = np.zeros(world.states)
    for _ in range(1000):
        values = (r + np.einsum("ast,t->sa", P, values)).max(1)
    np.testing.assert_allclose(world.solve().values, values, atol=1e-9)


def test_pictures_leave_walls_empty():
    picture = grids.grid_world("S#\n.G").picture([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(picture, [[1.0, math.nan], [2.0, 3.0]])


def test_a_million_states_fit():
    # Held: successors (8), probabilities and rewards (8 + 8) for 4 x 3 outcomes, r, the
    # four moves and cells (32 + 32 + 16). Sweeping adds four arrays of (4, S).
    size = 300
    text = "\n".join(["." * size] * (size - 1) + ["." * (size - 1) + "G"])
    world = grids.grid_world(text, slip=0.2)
    arrays = [value for value in vars(world).values() if isinstance(value, np.ndarray)]
    per_state = sum(array.nbytes for array in arrays) / world.states
    assert per_state < 400
    assert 1e6 * (per_state + 4 * 4 * 8) < 2**30 / 1.9
    assert not any(array.size >= world.states**2 for array in arrays)


# Worlds on a line


@pytest.mark.parametrize("gamma", [0.3, 0.9])
def test_grid_1d_has_its_closed_form(gamma):
    world, here = grids.grid_1d(9, gamma, left=0.2), np.arange(1, 8)
    form = np.maximum(0.2 * gamma ** (here - 1), gamma ** (7 - here))
    np.testing.assert_allclose(world.solve().values[1:-1], form)


@pytest.mark.parametrize("length", [1, 19])
def test_the_random_walk_has_its_closed_form(length):
    values = grids.random_walk(length).evaluate([0] * (length + 2))
    here = np.arange(1, length + 1)
    np.testing.assert_allclose(values[1:-1], 2 * here / (length + 1) - 1, atol=1e-12)


def test_the_short_corridor_has_its_published_values():
    world = grids.short_corridor()

    def shared(p):
        return world.evaluate([[1 - p, p]] * 4)[0]

    # Sutton and Barto (2018), example 13.1: p* = 2 - sqrt 2, -11.657; -82.1, -44.2.
    best = 2 - math.sqrt(2)
    assert shared(best) == pytest.approx(-11.657, abs=5e-4)
    assert max(shared(best - 0.01), shared(best + 0.01)) < shared(best)
    assert shared(0.05) == pytest.approx(-82.1, abs=0.05)
    assert shared(0.95) == pytest.approx(-44.2, abs=0.05)
    assert world.solve().values.tolist() == [-3, -2, -1, 0]


def test_the_chain_by_hand():
    # Without slip: up for ever from the last state is 10/(1 - .5) = 20.
    world = grids.chain(3, slip=0.0, gamma=0.5)
    np.testing.assert_allclose(world.evaluate([0, 0, 0]), [5, 10, 20])
    np.testing.assert_allclose(world.evaluate([1, 1, 1]), [4, 4, 4])
    assert grids.chain().r[-1].tolist() == pytest.approx([8.4, 3.6])


# Refusals

LEAVES = [[[0.5, 0.5], [0.5, 0.5]]]


def build(p=TWO, r=PAY, gamma=0.9, start=None, terminal=(), successors=None):
    return mdp.TabularMDP(p, r, gamma, start, terminal, successors)


def broken(value):
    table = np.array(TWO)
    table[1, 0, 1] = value
    return table


BAD = [
    ("transitions has shape (2, 2): it must be (A, S, S)", lambda: build(p=PAY)),
    ("transitions has shape (1, 1, 2)", lambda: build(p=[[[0.5, 0.5]]])),
    (
        "successors has shape (1, 2), transitions (2, 2, 2)",
        lambda: build(successors=[[0, 1]]),
    ),
    ("state 0, action 1 has probability -0.5", lambda: build(p=broken(-0.5))),
    ("state 0, action 1 has probability nan", lambda: build(p=broken(math.nan))),
    (
        "state 0, action 1: probabilities sum to 1.00000001, not 1",
        lambda: build(p=broken(1e-8)),
    ),
    (
        "state 0, action 0 leads to state 7, but there are 2",
        lambda: build(successors=[[[7, 1], [0, 1]], [[0, 1], [0, 1]]]),
    ),
    ("gamma is 1.1: it must be in [0, 1]", lambda: build(gamma=1.1)),
    ("gamma is nan", lambda: build(gamma=math.nan)),
    ("r has shape (3,): it must be (2, 2) or (2, 2, 2)", lambda: build(r=[0, 1, 2])),
    ("state 0, action 1 has reward inf", lambda: build(r=[[0, math.inf], [0, 0]])),
    (
        "state 1, action 0 has reward nan",
        lambda: build(
            p=np.ones((1, 2, 1)), r=[[[0], [math.nan]]], successors=[[[0], [1]]]
        ),
    ),
    ("start is state 2, but there are 2", lambda: build(start=2)),
    ("start has shape (3,): it must be (2,)", lambda: build(start=[1, 0, 0])),
    ("it sums to 0.9", lambda: build(start=[0.5, 0.4])),
    ("terminal has state 5, but there are 2", lambda: build(terminal=[5])),
    (
        "terminal state 1, action 0 leads to state 0: a terminal state must stay",
        lambda: build(p=LEAVES, r=[[0.0], [0.0]], terminal=[1]),
    ),
    (
        "terminal state 1, action 1 has reward 3.0: it must be 0",
        lambda: build(r=[[0, 0], [0, 3]], terminal=[1]),
    ),
    ("gamma is 1, but from state 0 no policy ends", lambda: build(gamma=1)),
    (
        "under this policy no episode ends from state 0",
        lambda: grids.short_corridor().evaluate([0, 0, 0, 0]),
    ),
    (
        "gamma is 1, but action 0 in state 0 pays 0.0 and need never end",
        lambda: grids.grid_world("SG", gamma=1.0).solve(),
    ),
    ("policy takes action 2 in state 1: there are 2", lambda: build().evaluate([0, 2])),
    (
        "policy in state 1 is [0.5, 0.6]",
        lambda: build().evaluate([[1, 0], [0.5, 0.6]]),
    ),
    ("policy has shape (3,)", lambda: build().evaluate([0, 0, 0])),
    ("values has shape (3,): not (2,)", lambda: build().q_values([0, 0, 0])),
    ("count is 0, horizon is 5", lambda: build().rollout([0, 0], 0, 5, seeded())),
    ("horizon is 0: it must be", lambda: build().enumerate(0, [0, 0])),
    (
        "131072 trajectories after 16 of 20 steps: at most 100000 are enumerated",
        lambda: build(p=LEAVES, r=[[0.0], [0.0]]).enumerate(20, [0, 0]),
    ),
    (
        "5001 states: an S x S matrix is made for at most 5000",
        lambda: grids.grid_1d(5001).solve(),
    ),
    ("the map is empty", lambda: grids.grid_world(" \n ")),
    ("row 1 of the map has 1 cells, row 0 2", lambda: grids.grid_world("..\n.")),
    ("row 0 of the map has '?'", lambda: grids.grid_world("S?")),
    ("the map has no cell", lambda: grids.grid_world("##")),
    ("needs one start: it has 0", lambda: grids.grid_world("C.")),
    ("slip is 1.5: it must be in [0, 1]", lambda: grids.grid_world("SG", slip=1.5)),
    (
        "wind has 1 numbers, the map 2 columns",
        lambda: grids.grid_world("SG", wind=[1]),
    ),
    (
        "rewards names 'g': no mark of maps",
        lambda: grids.grid_world("SG", rewards={"g": 1}),
    ),
    ("length is 2: it must be at least 3", lambda: grids.grid_1d(2)),
    ("length is 1: it must be at least 2", lambda: grids.chain(1)),
    ("length is 0: it must be at least 1", lambda: grids.random_walk(0)),
    ("arms is 1: it must be at least 2", lambda: grids.bias_trap(1)),
    ("outcomes is 1: it must be at least 2", lambda: grids.bias_trap(2, 1)),
    (
        "states is 3, actions 1, successors 4",
        lambda: mdp.random_mdp(3, 1, seeded(), successors=4),
    ),
    (
        "terminal has shape (3,): it must be (2,)",
        lambda: build(terminal=[False, False, False]),
    ),
    ("size is 5: it must be 4 or 8", lambda: grids.frozen_lake(5)),
]


@pytest.mark.parametrize(("message", "call"), BAD, ids=[m for m, _ in BAD])
def test_bad_input_is_refused(message, call):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
