"""Dynamic programming against linear solves, hand arithmetic and the contraction."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlbook_utils import bellman
from rlbook_utils.worlds import grids, mdp

PLAIN = settings(derandomize=True, deadline=None, database=None, max_examples=40)
SEEDS = st.integers(0, 10**6)
TIES = "\n".join(["....."] * 4 + ["....G"])


def seeded(seed=0):
    return np.random.default_rng(seed)


def make(seed=0, states=20, actions=3, successors=4, gamma=0.9):
    return mdp.random_mdp(
        states, actions, seeded(seed), successors=successors, gamma=gamma
    )


def random_policy(world, seed=1):
    return seeded(seed).dirichlet(np.ones(world.actions), size=world.states)


WORLDS = {
    "random": make(),
    "dense": make(1, states=8, successors=8),
    "large": make(2, states=300, actions=2, successors=3),
    "lake": grids.frozen_lake(gamma=0.9),
    "line": grids.grid_1d(9, left=0.3),
    "chain": grids.chain(),
    "grid": grids.grid_world(TIES, slip=0.1, step=-0.04),
    "maze": grids.dyna_maze(gamma=0.9),
    "blink": make(3, gamma=0.0),
}
CONTROL = {
    "value": bellman.value_iteration,
    "gauss-seidel": lambda world, **options: bellman.value_iteration(
        world, gauss_seidel=True, **options
    ),
    "prioritized": bellman.prioritized_value_iteration,
    "modified": bellman.modified_policy_iteration,
    "modified, 0": lambda world, **options: bellman.modified_policy_iteration(
        world, backups=0, **options
    ),
}


def gap(left, right):
    return float(np.abs(np.asarray(left) - right).max())


def optimality(world, values):
    return world.q_values(values).max(1)


# Against the exact solution


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("method", CONTROL)
def test_values_and_policy_are_the_exact_ones(name, method):
    world = WORLDS[name]
    exact = world.solve().values
    found = CONTROL[method](world, tolerance=9e-11)
    assert gap(found.values, exact) <= found.bound <= 9e-11
    assert gap(world.evaluate(found.policy), exact) < 1e-8
    assert (found.values[world.terminal] == 0).all()


@pytest.mark.parametrize("name", WORLDS)
def test_policy_iteration_is_exact(name):
    world = WORLDS[name]
    found = bellman.policy_iteration(world)
    assert gap(found.values, world.solve().values) < 1e-10
    assert gap(world.evaluate(found.policy), found.values) < 1e-10
    assert found.sweeps == len(found.residuals) < 20


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("kind", ["actions", "probabilities"])
def test_evaluation_is_the_linear_solve(name, in_place, kind):
    world = WORLDS[name]
    pi = random_policy(world) if kind == "probabilities" else np.zeros(world.states)
    found = bellman.policy_evaluation(world, pi, tolerance=9e-11, in_place=in_place)
    assert gap(found.values, world.evaluate(pi)) <= found.bound <= 9e-11


def test_policy_iteration_begins_where_it_is_told():
    # Right, left, right goes straight to the end, as left is switched in state 1;
    # always left never ends.
    world = grids.short_corridor()
    found = bellman.policy_iteration(world, [1, 0, 1, 0])
    assert found.values.tolist() == [-3, -2, -1, 0] and found.bound == math.inf
    with pytest.raises(ValueError, match="no episode ends from state 0"):
        bellman.policy_iteration(world)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize("method", CONTROL)
def test_the_stated_error_holds_at_every_tolerance(method, tolerance):
    for name in ("random", "grid", "chain"):
        world = WORLDS[name]
        start = 10 * seeded(4).normal(size=world.states)
        found = CONTROL[method](world, tolerance=tolerance, values=start)
        error = gap(found.values, world.solve().values)
        assert error <= found.bound <= tolerance


def test_a_small_last_change_does_not_bound_the_error():
    # Reward 1 for ever, gamma = .99: V_k = 100 (1 - .99^k), and sweep k changes it by
    # .99^(k - 1). The naive rule "change < .01" stops at V_k = 99, V* = 100: error 1.
    world = mdp.TabularMDP([[[1.0, 0.0], [0.0, 1.0]]], [[1.0], [0.0]], 0.99)
    residual, sweeps = 1.0, 0
    while residual >= 0.01:
        sweeps += 1
        naive = bellman.value_iteration(world, sweeps=sweeps)
        residual = naive.residuals[-1]
    assert gap(naive.values, world.solve().values) > 0.98
    assert gap(naive.values, [100, 0]) <= naive.bound < 1
    right = bellman.value_iteration(world, tolerance=0.01)
    assert gap(right.values, [100, 0]) <= 0.01


def test_modified_policy_iteration_hears_the_smallest_news():
    # Where a gain below 1e-14 counts as a tie, news of a far prize comes one cell an
    # improvement: 75 here, and 20 where every gain counts.
    rows = ["." * 60] * 58 + ["." * 59 + "X", "." * 59 + "G"]
    world = grids.grid_world("\n".join(rows), slip=0.2, step=-0.04)
    found = bellman.modified_policy_iteration(world, tolerance=1e-8)
    right = bellman.value_iteration(world, tolerance=1e-9).values
    assert gap(found.values, right) <= 1.1e-8
    assert len(found.residuals) < 40


# Sweeps by hand


def test_sweeps_by_hand():
    # The prize lies right of state 3, gamma = .5: each sweep carries it one state on.
    # In place, in the order 0 1 2 ..., a prize on the left arrives everywhere in one.
    world = grids.grid_1d(5, gamma=0.5)
    steps = [bellman.value_iteration(world, sweeps=k).values for k in (1, 2, 3)]
    np.testing.assert_array_equal(steps[0], [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(steps[1], [0, 0, 0.5, 1, 0])
    np.testing.assert_array_equal(steps[2], [0, 0.25, 0.5, 1, 0])
    mirror = grids.grid_1d(5, gamma=0.5, left=1.0, right=0.0)
    options = dict(sweeps=1, in_place=True)
    once = bellman.policy_evaluation(mirror, [0] * 5, **options)
    np.testing.assert_array_equal(once.values, [0, 1, 0.5, 0.25, 0])
    assert once.residuals.tolist() == [1.0] and once.sweeps == 1


def test_residuals_are_measured_as_asked():
    world = WORLDS["random"]
    every = bellman.value_iteration(world, sweeps=12)
    some = bellman.value_iteration(world, sweeps=12, every=5)
    np.testing.assert_array_equal(some.residuals, every.residuals[[4, 9, 11]])
    np.testing.assert_array_equal(some.values, every.values)
    assert (every.residuals[1:] <= 0.9 * every.residuals[:-1] + 1e-12).all()


def test_the_error_stays_under_gamma_to_the_k():
    world = make(5)
    exact = world.solve().values
    for k in (1, 5, 20):
        values = bellman.value_iteration(world, sweeps=k).values
        assert gap(values, exact) <= 0.9**k * gap(exact, 0)


def test_undiscounted_sweeps_have_no_bound():
    found = bellman.policy_evaluation(grids.random_walk(3), [0] * 5, sweeps=200)
    assert found.bound == math.inf
    np.testing.assert_allclose(found.values, [0, -0.5, 0, 0.5, 0], atol=1e-12)


def test_prioritized_sweeps_touch_only_what_changes():
    # The prize is known at once to 1 of 99 states; each backup is then the right one,
    # so S backups solve what takes S synchronous sweeps of S backups.
    world = grids.grid_1d(101, gamma=0.99)
    found = bellman.prioritized_value_iteration(world)
    assert found.sweeps == 1
    assert bellman.value_iteration(world, tolerance=1e-9).sweeps >= 98
    limited = bellman.prioritized_value_iteration(make(), sweeps=2)
    assert len(limited.residuals) == 3 and limited.sweeps == 2
    assert gap(limited.values, make().solve().values) <= limited.bound


# Properties of the operators


@PLAIN
@given(SEEDS, st.floats(0, 0.99))
def test_both_operators_contract(seed, gamma):
    world = make(seed, states=6, gamma=gamma)
    rng = seeded(seed)
    left, right = rng.normal(size=(2, world.states), scale=10)
    pi = random_policy(world, seed)
    bound = gamma * gap(left, right) + 1e-12
    assert gap(optimality(world, left), optimality(world, right)) <= bound
    follow = [
        bellman.policy_evaluation(world, pi, sweeps=1, values=v).values
        for v in (left, right)
    ]
    assert gap(*follow) <= bound


@PLAIN
@given(SEEDS)
def test_both_operators_are_monotone(seed):
    world = make(seed, states=6)
    rng = seeded(seed)
    low = rng.normal(size=world.states)
    high = low + rng.exponential(size=world.states)
    assert (optimality(world, high) >= optimality(world, low) - 1e-12).all()
    pi = random_policy(world, seed)
    below, above = (
        bellman.policy_evaluation(world, pi, sweeps=1, values=v).values
        for v in (low, high)
    )
    assert (above >= below - 1e-12).all()


@PLAIN
@given(SEEDS)
def test_improvement_never_hurts(seed):
    world = make(seed, states=6, gamma=0.95)
    pi = seeded(seed).integers(world.actions, size=world.states)
    values = world.evaluate(pi)
    better = mdp.improve(world.q_values(values), pi)
    assert (world.evaluate(better) - values).min() >= -1e-10


# V, Q and greedy actions


def test_values_and_q_values_go_back_and_forth():
    world = WORLDS["random"]
    pi = random_policy(world)
    values = world.evaluate(pi)
    q = bellman.q_from_v(world, values)
    np.testing.assert_allclose(bellman.v_from_q(q, pi), values, atol=1e-12)
    best = world.solve().values
    np.testing.assert_allclose(
        bellman.v_from_q(bellman.q_from_v(world, best)), best, atol=1e-12
    )


def test_all_ties_are_reported():
    world = grids.grid_world("S.\n.G", gamma=0.9)
    found = bellman.value_iteration(world)
    ties = bellman.greedy_actions(bellman.q_from_v(world, found.values))
    # left, down, right, up: from the corner down and right are equally good.
    assert ties[0].tolist() == [False, True, True, False]
    assert ties[1].tolist() == [False, True, False, False]
    assert ties[3].all()
    near = [[1.0, 1.0 - 1e-12, 1.0 - 1e-6]]
    assert bellman.greedy_actions(near).tolist() == [[True, True, False]]


def plain_evaluation(world, pi):
    """Sweep to the last bit, elementwise, so that all machines round alike."""
    here = np.arange(world.states)
    after, weights = world.successors[pi, here], world.probabilities[pi, here]
    values = np.zeros(world.states)
    for _ in range(600):
        old, values = values, world.r[here, pi]
        for which in range(after.shape[1]):
            values = values + world.gamma * weights[:, which] * old[after[:, which]]
    return values


def plain_q(world, values):
    q = world.r.copy()
    for action in range(world.actions):
        for which in range(world.successors.shape[2]):
            weight = world.probabilities[action, :, which]
            near = values[world.successors[action, :, which]]
            q[:, action] = q[:, action] + world.gamma * weight * near
    return q


def policies(world, improvement, most=30):
    policy, seen = np.zeros(world.states, int), []
    while len(seen) < most:
        seen.append(policy)
        q = plain_q(world, plain_evaluation(world, policy))
        policy = improvement(q, policy)
        if np.array_equal(policy, seen[-1]):
            break
    return [tuple(policy.tolist()) for policy in seen]


def test_improvement_that_leaves_the_incumbent_cycles_for_ever():
    # The grid is symmetric about its diagonal, where down and right tie. Q of the two
    # differs by rounding, and which is larger depends on the policy evaluated.
    world = grids.grid_world(TIES, gamma=0.9, slip=0.5)
    naive = policies(world, lambda q, _: q.argmax(1))
    assert len(naive) == 30
    first = naive.index(naive[-1])
    assert first < 29 and len(set(naive[first:])) >= 2
    kept = policies(world, mdp.improve)
    assert len(kept) < 10
    assert gap(world.evaluate(kept[-1]), world.solve().values) < 1e-10


def test_policy_iteration_stops_even_if_a_tie_is_called_an_improvement(monkeypatch):
    world = grids.grid_world(TIES, gamma=0.9, slip=0.5)
    exact = world.solve().values
    for module in (mdp, bellman):
        monkeypatch.setattr(module, "improve", lambda q, _: q.argmax(1))
    monkeypatch.setattr(mdp.TabularMDP, "evaluate", plain_evaluation)
    monkeypatch.setattr(grids.GridWorld, "q_values", plain_q)
    for found in (world.solve(), bellman.policy_iteration(world)):
        assert gap(found.values, exact) < 1e-12


@pytest.mark.parametrize("slip", [0.0, 0.1, 0.3, 0.5, 2 / 3])
@pytest.mark.parametrize("size", [5, 8])
def test_policy_iteration_stops_on_grids_with_ties(slip, size):
    rows = [["."] * size for _ in range(size)]
    rows[size // 2][size // 2] = "G"
    world = grids.grid_world("\n".join(map("".join, rows)), slip=slip)
    found = bellman.policy_iteration(world)
    assert found.sweeps < 20
    assert gap(optimality(world, found.values), found.values) < 1e-12


# Pitfall 8


def wrong_q_iteration(world, sweeps=400):
    """Take the maximum outside the expectation over the next state."""
    q, table = np.zeros((world.states, world.actions)), world.dense()
    for _ in range(sweeps):
        q = world.r + world.gamma * np.einsum("ast,tb->sab", table, q).max(-1)
    return q


def right_q_iteration(world, sweeps=400):
    q = np.zeros((world.states, world.actions))
    for _ in range(sweeps):
        q = bellman.q_from_v(world, bellman.v_from_q(q))
    return q


def test_pitfall_maximum_outside_the_expectation():
    # From state 0 a coin leads to 1 or 2, where different actions pay 1. Inside, the
    # agent sees the coin: Q(0, .) = .9 * 1. Outside it must choose before it falls:
    # .9 * max(.5, .5) = .45.
    dense = np.zeros((2, 4, 4))
    dense[:, 0, [1, 2]] = 0.5
    dense[:, [1, 2, 3], 3] = 1
    reward = [[0, 0], [1, 0], [0, 1], [0, 0]]
    world = mdp.TabularMDP(dense, reward, 0.9, 0, [3])
    np.testing.assert_allclose(right_q_iteration(world)[0], [0.9, 0.9])
    np.testing.assert_allclose(wrong_q_iteration(world)[0], [0.45, 0.45])
    assert world.solve().values[0] == pytest.approx(0.9)


def test_pitfall_is_invisible_in_a_deterministic_world():
    world = grids.dyna_maze()
    assert gap(wrong_q_iteration(world), right_q_iteration(world)) == 0
    slippery = grids.frozen_lake(gamma=0.9)
    wrong, right = wrong_q_iteration(slippery), right_q_iteration(slippery)
    assert (wrong <= right + 1e-12).all() and gap(wrong, right) > 0.02
    assert gap(right.max(1), slippery.solve().values) < 1e-10


# Refusals

WALK = grids.random_walk(3)
BAD = [
    ("gamma is 1: no contraction", lambda: bellman.value_iteration(WALK)),
    ("gamma is 1", lambda: bellman.policy_evaluation(WALK, [0] * 5)),
    ("gamma is 1", lambda: bellman.modified_policy_iteration(WALK)),
    ("gamma is 1", lambda: bellman.prioritized_value_iteration(WALK)),
    (
        "tolerance is 1e-30: float64 guarantees no better than",
        lambda: bellman.value_iteration(make(), tolerance=1e-30),
    ),
    ("tolerance is nan", lambda: bellman.value_iteration(make(), tolerance=math.nan)),
    ("sweeps is 0: it must", lambda: bellman.value_iteration(make(), sweeps=0)),
    ("every is 0: it must", lambda: bellman.value_iteration(make(), every=0)),
    (
        "values has shape (3,): it must be (20,)",
        lambda: bellman.value_iteration(make(), values=[0, 0, 0]),
    ),
    (
        "policy has shape (2,)",
        lambda: bellman.policy_evaluation(make(), [0, 0]),
    ),
    (
        "backups is -1: it must be at least 0",
        lambda: bellman.modified_policy_iteration(make(), backups=-1),
    ),
    (
        "policy has shape (20, 3): it must be (20,)",
        lambda: bellman.policy_iteration(make(), random_policy(make())),
    ),
    (
        "policy has shape (1, 3), q_values (1, 2)",
        lambda: bellman.v_from_q([[1, 2]], [[1, 0, 0]]),
    ),
    (
        "sweeps is 2.5: it must be a whole number",
        lambda: bellman.value_iteration(make(), sweeps=2.5),
    ),
    ("tolerance is -1", lambda: bellman.greedy_actions([[1.0]], tolerance=-1)),
]


@pytest.mark.parametrize(("message", "call"), BAD)
def test_bad_input_is_refused(message, call):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
