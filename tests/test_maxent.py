"""Inference and soft control against enumeration, linear solves and closed forms."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlbook_utils import bellman, maxent
from rlbook_utils.core.tilt import relative_entropy, tilt
from rlbook_utils.worlds import grids, mdp

PLAIN = settings(derandomize=True, deadline=None, database=None, max_examples=25)
SEEDS = st.integers(0, 10**6)
TEMPERATURES = st.floats(0.05, 10)


def seeded(seed=0):
    return np.random.default_rng(seed)


def make(seed=0, states=6, actions=3, gamma=0.9):
    return mdp.random_mdp(states, actions, seeded(seed), gamma=gamma)


def some_policy(world, seed=1):
    return seeded(seed).dirichlet(np.ones(world.actions), size=world.states)


def ending(seed=0, states=4, actions=2):
    """Return a random world without discount that ends; transitions are paid."""
    rng = seeded(seed)
    P = rng.dirichlet(np.ones(states), size=(actions, states))
    P[:, -1] = np.eye(states)[-1]
    rewards = rng.normal(size=(states, actions, states))
    rewards[-1] = 0.0
    start = np.append(rng.dirichlet(np.ones(states - 1)), 0.0)
    return mdp.TabularMDP(P, rewards, 1.0, start=start, terminal=[states - 1])


def tree(seed=0, tokens=3, length=3):
    """Return all texts of some tokens as a world with deterministic transitions."""
    nodes = [
        text
        for n in range(length)
        for text in itertools.product(range(tokens), repeat=n)
    ]
    number = {text: k for k, text in enumerate(nodes)}
    end = len(nodes)
    P = np.zeros((tokens, end + 1, end + 1))
    P[:, end, end] = 1.0
    reward = np.zeros((end + 1, tokens))
    texts = list(itertools.product(range(tokens), repeat=length))
    paid = dict(zip(texts, seeded(seed).normal(size=len(texts)), strict=True))
    for text, k in number.items():
        for token in range(tokens):
            longer = (*text, token)
            P[token, k, number.get(longer, end)] = 1.0
            reward[k, token] = paid.get(longer, 0.0)
    world = mdp.TabularMDP(P, reward, 1.0, start=0, terminal=[end])
    return world, number, texts, np.array([paid[text] for text in texts])


def fork():
    """Left then one door, or right then either of two; doors pay 1, walls nothing."""
    P = np.zeros((2, 4, 4))
    P[0, 0, 1] = P[1, 0, 2] = 1.0
    P[:, 1:, 3] = 1.0
    r = np.array([[0, 0], [1, 0], [1, 1], [0, 0]], float)
    return mdp.TabularMDP(P, r, 1.0, start=0, terminal=[3])


# Inference


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("alpha", [0.02, 0.5, 100.0])
def test_messages_give_the_enumerated_posterior(seed, alpha):
    world, horizon = ending(seed), 4
    prior = some_policy(world)
    every, after = maxent.trajectory_posterior(world, horizon, alpha, prior)
    told = maxent.backward_messages(world, horizon, alpha, prior)
    logs = maxent.log_probabilities(world, told, every.states, every.actions)
    np.testing.assert_allclose(np.exp(logs), after.probabilities, atol=1e-10)
    evidence = tilt(told.values[0], alpha, world.start).value
    assert float(evidence) == pytest.approx(float(after.value), abs=1e-10)
    counted = [
        np.bincount(every.states[:, t], after.probabilities, world.states)
        for t in range(horizon + 1)
    ]
    np.testing.assert_allclose(maxent.marginals(world, told), counted, atol=1e-10)


@pytest.mark.parametrize("alpha", [1e-9, 1e-3, 1e9])
def test_messages_are_finite_at_any_temperature(alpha):
    world = ending(1)
    told = maxent.backward_messages(world, 30, alpha, some_policy(world))
    for part in told:
        assert np.isfinite(part).all()
    np.testing.assert_allclose(told.transitions.sum(-1), 1.0)


def test_plain_exponentials_underflow_where_the_logs_do_not():
    # Pitfall: messages kept as probabilities.
    world, alpha, prior = ending(1), 1e-3, np.full((4, 2), 0.5)
    message = np.ones(4)
    with np.errstate(all="ignore"):
        for _ in range(30):
            message = (
                prior * np.exp(world.r / alpha) * (world.dense() @ message).T
            ).sum(1)
    assert not np.isfinite(np.log(message)).all()


@pytest.mark.parametrize("seed", range(5))
def test_one_action_is_the_smoother_of_a_hidden_markov_model(seed):
    rng, steps, states = seeded(seed), 7, 3
    chain = rng.dirichlet(np.ones(states), size=states)
    emit = rng.dirichlet(np.ones(4), size=states)
    seen = rng.integers(0, 4, steps)
    world = mdp.TabularMDP(chain[None], np.zeros((states, 1)), 0.9)
    rewards = np.log(emit[:, seen]).T[:, :, None]
    told = maxent.backward_messages(
        world, steps, 1.0, np.ones((states, 1)), rewards=rewards
    )
    # Forward-backward, with plain products.
    forward = [world.start * emit[:, seen[0]]]
    for x in seen[1:]:
        forward.append(forward[-1] @ chain * emit[:, x])
    backward = [np.ones(states)]
    for x in seen[:0:-1]:
        backward.insert(0, chain @ (emit[:, x] * backward[0]))
    smooth = np.array(forward) * backward
    smooth /= smooth.sum(1, keepdims=True)
    np.testing.assert_allclose(maxent.marginals(world, told)[:-1], smooth, atol=1e-12)
    evidence = tilt(told.values[0], 1.0, world.start).value
    assert float(evidence) == pytest.approx(np.log(forward[-1].sum()))
    # And by brute force: all hidden paths.
    total = 0.0
    for path in itertools.product(range(states), repeat=steps):
        p = world.start[path[0]] * emit[path[0], seen[0]]
        for t in range(1, steps):
            p *= chain[path[t - 1], path[t]] * emit[path[t], seen[t]]
        total += p
    assert float(evidence) == pytest.approx(math.log(total))


def elbo(world, told, horizon, alpha, prior, kind):
    """Return E_q[G] - alpha KL(q, p) by enumeration, with posterior or own dynamics."""
    every = world.enumerate(horizon, prior)
    own = told._replace(
        start=world.start, transitions=np.tile(world.probabilities, (horizon, 1, 1, 1))
    )
    chosen = told if kind == "posterior" else own
    q = np.exp(maxent.log_probabilities(world, chosen, every.states, every.actions))
    kl = relative_entropy(q, np.log(every.probabilities))
    return float(q @ every.returns - alpha * kl)


@pytest.mark.parametrize("seed", range(5))
def test_pitfall_30_the_posterior_is_not_the_soft_bellman_equation(seed):
    world, horizon, alpha = ending(seed), 3, 0.5
    prior = some_policy(world)
    free = maxent.backward_messages(world, horizon, alpha, prior)
    fixed = maxent.backward_messages(world, horizon, alpha, prior, dynamics="fixed")
    evidence = float(tilt(free.values[0], alpha, world.start).value)
    # The posterior may bend the dynamics: it attains alpha log Z.
    assert elbo(world, free, horizon, alpha, prior, "posterior") == pytest.approx(
        evidence
    )
    # With the dynamics held, E[V] is the optimum and the posterior's policy is worse.
    best = elbo(world, fixed, horizon, alpha, prior, "own")
    assert best == pytest.approx(float(world.start @ fixed.values[0]))
    assert best > elbo(world, free, horizon, alpha, prior, "own") + 1e-6
    assert evidence > best + 1e-3
    # The wrong version: the soft Bellman equation with E[V], called the posterior.
    every, after = maxent.trajectory_posterior(world, horizon, alpha, prior)
    logs = maxent.log_probabilities(world, fixed, every.states, every.actions)
    assert np.abs(np.exp(logs) - after.probabilities).max() > 1e-3


def test_fixed_dynamics_beat_every_perturbed_schedule():
    world, horizon, alpha = ending(2), 3, 0.7
    prior = some_policy(world)
    fixed = maxent.backward_messages(world, horizon, alpha, prior, dynamics="fixed")
    best = elbo(world, fixed, horizon, alpha, prior, "own")
    rng = seeded(5)
    for _ in range(20):
        mixed = 0.8 * fixed.policy + 0.2 * rng.dirichlet([1, 1], size=(horizon, 4))
        other = fixed._replace(policy=mixed)
        assert elbo(world, other, horizon, alpha, prior, "own") < best


def test_with_deterministic_dynamics_the_two_agree():
    world, *_ = tree()
    prior = some_policy(world)
    free, fixed = (
        maxent.backward_messages(world, 3, 0.4, prior, dynamics=kind)
        for kind in maxent.DYNAMICS
    )
    np.testing.assert_allclose(free.policy, fixed.policy, atol=1e-12)
    np.testing.assert_allclose(free.values, fixed.values, atol=1e-12)


def test_cold_the_posterior_hopes_for_the_best_successor():
    # r + max V(s') instead of r + E V(s'): the dream of the Bellman chapter.
    world = ending(3)
    told = maxent.backward_messages(world, 2, 1e-7, some_policy(world))
    gains = np.take_along_axis(
        world.rewards, np.argsort(world.successors, axis=-1), axis=-1
    )
    last = gains.max(-1).T
    np.testing.assert_allclose(told.q_values[1], last, atol=1e-5)


def test_fixed_messages_are_soft_value_iteration_for_as_many_sweeps():
    world = ending(4)
    prior = some_policy(world)
    told = maxent.backward_messages(world, 6, 0.3, prior, dynamics="fixed")
    soft = maxent.soft_value_iteration(world, 0.3, prior, sweeps=6)
    np.testing.assert_allclose(told.values[0], soft.values, atol=1e-12)


def test_schedule_values_are_the_mean_of_all_trajectories():
    world = ending(0)
    pi = some_policy(world)
    every = world.enumerate(4, pi)
    values = maxent.schedule_values(world, np.tile(pi, (4, 1, 1)))
    assert world.start @ values[0] == pytest.approx(every.probabilities @ every.returns)


# Soft values


@PLAIN
@given(SEEDS, TEMPERATURES)
def test_soft_evaluation_is_the_sum_over_all_trajectories(seed, alpha):
    world = make(seed, states=3, actions=2, gamma=0.5)
    pi, reference = some_policy(world), some_policy(world, 2)
    values = maxent.soft_policy_evaluation(world, pi, alpha, reference)
    every = world.enumerate(4, pi)
    here, chosen = every.states[:, :-1], every.actions
    paid = world.r[here, chosen] - alpha * np.log(pi / reference)[here, chosen]
    total = paid @ 0.5 ** np.arange(4) + 0.5**4 * values[every.states[:, -1]]
    assert every.probabilities @ total == pytest.approx(world.start @ values)


@PLAIN
@given(SEEDS, TEMPERATURES)
def test_the_soft_optimum_is_a_fixed_point_and_its_policys_value(seed, alpha):
    world = make(seed)
    for reference in (None, some_policy(world)):
        soft = maxent.soft_value_iteration(world, alpha, reference, tolerance=1e-9)
        again = tilt(world.q_values(soft.values), alpha, reference).value
        assert np.abs(again - soft.values).max() < 1e-9
        value = maxent.soft_policy_evaluation(world, soft.policy, alpha, reference)
        assert np.abs(value - soft.values).max() <= 2 * soft.bound <= 2e-9


@PLAIN
@given(SEEDS, TEMPERATURES)
def test_the_soft_sweep_contracts(seed, alpha):
    world, rng = make(seed), seeded(seed)
    one, two = rng.normal(size=(2, 6)) * 10
    swept = [
        maxent.soft_value_iteration(world, alpha, sweeps=1, values=v).values
        for v in (one, two)
    ]
    assert np.abs(swept[0] - swept[1]).max() <= 0.9 * np.abs(one - two).max() + 1e-12
    # One more everywhere is gamma more after a sweep: the factor is attained.
    more = maxent.soft_value_iteration(world, alpha, sweeps=1, values=one + 1).values
    np.testing.assert_allclose(more, swept[0] + 0.9)


@PLAIN
@given(SEEDS, TEMPERATURES)
def test_the_loss_of_any_policy_is_alpha_kl_along_its_own_path(seed, alpha):
    world = make(seed)
    pi = some_policy(world, seed)
    for reference in (None, some_policy(world, 2)):
        soft = maxent.soft_value_iteration(world, alpha, reference, tolerance=1e-9)
        mine = maxent.soft_policy_evaluation(world, pi, alpha, reference)
        lost = world.start @ (soft.values - mine)
        same = maxent.soft_suboptimality(world, pi, soft.values, alpha, reference)
        assert lost == pytest.approx(same, abs=1e-7)


def test_the_loss_is_weighted_by_where_the_policy_goes():
    # Wrong: the occupancy of the optimum.
    world = make(1)
    pi = some_policy(world)
    soft = maxent.soft_value_iteration(world, 0.3, tolerance=1e-9)
    lost = world.start @ (soft.values - maxent.soft_policy_evaluation(world, pi, 0.3))
    loss = 0.3 * relative_entropy(pi, np.log(soft.policy))
    assert world.occupancy(pi) @ loss == pytest.approx(lost, abs=1e-7)
    assert abs(world.occupancy(soft.policy) @ loss - lost) > 0.05


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_a_uniform_reference_is_the_entropy_form_where_nothing_ends(alpha):
    world, uniform = make(2), np.full((6, 3), 1 / 3)
    entropy = maxent.soft_value_iteration(world, alpha)
    kl = maxent.soft_value_iteration(world, alpha, uniform)
    np.testing.assert_allclose(entropy.policy, kl.policy, atol=1e-8)
    shift = alpha * math.log(3) / (1 - 0.9)
    np.testing.assert_allclose(entropy.values, kl.values + shift, atol=1e-7)


def test_where_episodes_end_entropy_pays_for_staying():
    # A goal next door, worth 1. Entropy is paid by the step: hot, the agent stays.
    world = grids.grid_world("S.G", gamma=0.95)
    uniform = np.full((3, 4), 0.25)
    entropy = maxent.soft_value_iteration(world, 5.0)
    kl = maxent.soft_value_iteration(world, 5.0, uniform)
    right = grids.MOVES.index("right")
    assert entropy.policy[1, right] < 0.05 < 0.25 < kl.policy[1, right]


# Limits


@pytest.mark.parametrize("seed", range(5))
def test_cold_values_err_linearly_and_behavior_exponentially(seed):
    world, reference = make(seed), np.full((6, 3), 1 / 3)
    exact = world.solve()
    q = world.q_values(exact.values)
    ranked = np.sort(q, axis=1)
    gap = (ranked[:, -1] - ranked[:, -2]).min()
    steep = math.log(3) / (1 - 0.9)
    for alpha in gap * np.array([0.2, 0.1, 0.05]):
        soft = maxent.soft_value_iteration(world, alpha, reference, tolerance=1e-9)
        error = exact.values - soft.values
        assert (error >= -1e-9).all() and (error <= alpha * steep + 1e-9).all()
        # Off the best action: at most exp(gamma c) exp(-gap/alpha)/p_min.
        off = 1 - soft.policy[np.arange(6), exact.policy]
        assert (off <= 3 * 2 * math.exp(0.9 * steep - gap / alpha) + 1e-12).all()
    # With one best action the value errs by alpha log 3 each step, no less.
    np.testing.assert_allclose(error / alpha, steep, rtol=1e-3)
    lost = exact.values - world.evaluate(soft.policy)
    assert (lost < 1e-4).all()


@PLAIN
@given(SEEDS)
def test_hot_the_policy_tends_to_the_reference(seed):
    world = make(seed)
    reference = some_policy(world)
    base = world.evaluate(reference)
    before = None
    for alpha in (10.0, 100.0, 1000.0):
        soft = maxent.soft_value_iteration(world, alpha, reference, tolerance=1e-8)
        span = np.ptp(world.q_values(soft.values), axis=1)[:, None]
        assert (np.abs(np.log(soft.policy / reference)) <= span / alpha + 1e-12).all()
        assert (base - 1e-8 <= soft.values).all()
        assert before is None or (soft.values <= before + 1e-8).all()
        before = soft.values


def test_all_best_paths_share_alike_when_cold():
    # Three doors, one behind the left way: V(left) = alpha log(1 + e^(1/alpha)),
    # V(right) = 1 + alpha log 2, so P(right) = 2/(3 + e^(-1/alpha)).
    for alpha in (0.05, 0.5, 5.0):
        soft = maxent.soft_value_iteration(fork(), alpha, sweeps=3)
        assert soft.policy[0, 1] == pytest.approx(2 / (3 + math.exp(-1 / alpha)))


# Gradients


def differences(function, x, step=1e-6):
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (function(up) - function(down)) / (2 * step)
    return gradient


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("alpha", [0.0, 0.3, 3.0])
def test_the_gradient_is_that_of_the_soft_objective(seed, alpha):
    world, logits = make(seed), seeded(seed).normal(size=(6, 3))
    for reference in (None, some_policy(world)):

        def soft_return(theta, reference=reference):
            pi = tilt(theta, 1.0).probabilities
            return world.start @ maxent.soft_policy_evaluation(
                world, pi, alpha, reference
            )

        np.testing.assert_allclose(
            maxent.soft_policy_gradient(world, logits, alpha, reference),
            differences(soft_return, logits),
            atol=1e-6,
        )


@pytest.mark.parametrize("seed", range(5))
def test_pitfall_23_an_entropy_bonus_is_another_gradient(seed):
    world, logits = make(seed), seeded(seed).normal(size=(6, 3))
    bonus = maxent.soft_policy_gradient(world, logits, 0.5, bonus=True)
    inside = maxent.soft_policy_gradient(world, logits, 0.5)
    # The bonus is the gradient of J + alpha sum d H with d held fixed.
    visits = world.occupancy(tilt(logits, 1.0).probabilities)

    def held(theta):
        pi = tilt(theta, 1.0)
        entropy = -(pi.probabilities * pi.log_probabilities).sum(1)
        return world.start @ world.evaluate(pi.probabilities) + 0.5 * visits @ entropy

    np.testing.assert_allclose(bonus, differences(held, logits), atol=1e-6)
    assert np.linalg.norm(bonus - inside) > 0.005 * np.linalg.norm(inside)


@pytest.mark.parametrize("seed", range(3))
def test_the_bonus_is_the_gradient_of_no_objective(seed):
    world, logits = fork(), seeded(seed).normal(size=(4, 2))

    def skew(bonus):
        rows = []
        for step in 1e-5 * np.eye(8).reshape(8, 4, 2):
            ends = [
                maxent.soft_policy_gradient(world, logits + s * step, 0.3, bonus=bonus)
                for s in (1, -1)
            ]
            rows.append((ends[0] - ends[1]).ravel() / 2e-5)
        return np.abs(np.array(rows) - np.array(rows).T).max()

    assert skew(False) < 1e-9 < 0.005 < skew(True)


def test_the_bonus_and_max_ent_settle_at_different_forks():
    world, alpha, ends = fork(), 0.3, {}
    for bonus in (False, True):
        logits = np.zeros((4, 2))
        for _ in range(4000):
            logits += maxent.soft_policy_gradient(world, logits, alpha, bonus=bonus)
        ends[bonus] = tilt(logits, 1.0).probabilities[0, 1]
    assert ends[False] == pytest.approx(2 / (3 + math.exp(-1 / alpha)), abs=1e-6)
    # Bonus: Q(left) = 1/(1 + e^(-1/alpha)), Q(right) = 1, a Boltzmann choice of these.
    left = 1 / (1 + math.exp(-1 / alpha))
    other = 1 / (1 + math.exp(-(1 - left) / alpha))
    assert ends[True] == pytest.approx(other, abs=1e-6)
    assert ends[False] - ends[True] > 0.1


def test_the_gradient_vanishes_at_the_soft_optimum():
    world = make(3)
    soft = maxent.soft_value_iteration(world, 0.5)
    gradient = maxent.soft_policy_gradient(world, np.log(soft.policy), 0.5)
    assert np.abs(gradient).max() < 1e-8


# Language: deterministic dynamics


@pytest.mark.parametrize("seed", range(5))
def test_token_by_token_is_the_tilt_of_whole_texts(seed):
    world, number, texts, paid = tree(seed)
    reference, pi = some_policy(world, seed), some_policy(world, seed + 9)

    def whole(policy):
        steps = [[policy[number[t[:k]], t[k]] for k in range(3)] for t in texts]
        return np.prod(steps, axis=1)

    best = tilt(paid, 0.4, whole(reference))
    soft = maxent.soft_value_iteration(world, 0.4, reference, sweeps=3)
    np.testing.assert_allclose(whole(soft.policy), best.probabilities, atol=1e-12)
    assert soft.values[0] == pytest.approx(float(best.value))
    loss = maxent.soft_suboptimality(world, pi, soft.values, 0.4, reference)
    same = 0.4 * relative_entropy(whole(pi), best.log_probabilities)
    assert loss == pytest.approx(float(same))


# Dynamic programming and errors


def test_cold_it_meets_hard_value_iteration():
    world = grids.frozen_lake(gamma=0.9)
    soft = maxent.soft_value_iteration(world, 1e-6, np.full((16, 4), 0.25))
    hard = bellman.value_iteration(world)
    assert np.abs(soft.values - hard.values).max() < 2e-5


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
def test_the_stated_error_holds(tolerance):
    world = make(5, gamma=0.95)
    sharp = maxent.soft_value_iteration(world, 0.2, tolerance=1e-9)
    rough = maxent.soft_value_iteration(world, 0.2, tolerance=tolerance)
    error = np.abs(rough.values - sharp.values).max()
    assert error <= rough.bound + 1e-9 and rough.bound <= tolerance


W = make()
U = np.full((6, 3), 1 / 3)
FIRST = np.zeros(6, int)


def test_what_the_reference_would_do_at_the_end_is_nobody_s_concern():
    world, logits = ending(), np.zeros((4, 2))
    uniform = np.full((4, 2), 0.5)
    decided = np.where(world.terminal[:, None], [1.0, 0.0], uniform)
    np.testing.assert_array_equal(
        maxent.soft_policy_gradient(world, logits, 0.3, decided),
        maxent.soft_policy_gradient(world, logits, 0.3, uniform),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: maxent.soft_value_iteration(W, 0.0), "temperature is 0.0"),
        (lambda: maxent.soft_value_iteration(W, 1.0, tolerance=1e-30), "1e-30"),
        (lambda: maxent.soft_value_iteration(ending(), 1.0), "gamma 1.0"),
        (lambda: maxent.soft_value_iteration(W, 1.0, sweeps=0), "sweeps is 0"),
        (lambda: maxent.soft_value_iteration(W, 1.0, sweeps=2.5), "sweeps is 2.5"),
        (
            lambda: maxent.soft_value_iteration(W, 1.0, values=[0.0]),
            r"\(1,\): it must be \(6,\)",
        ),
        (lambda: maxent.soft_value_iteration(W, 1.0, U[:, :2]), r"\(6, 2\)"),
        (lambda: maxent.soft_policy_evaluation(W, U, -1.0), "temperature is -1.0"),
        (
            lambda: maxent.soft_policy_evaluation(W, U, 1.0, FIRST),
            "takes action 1 in state 0",
        ),
        (
            lambda: maxent.soft_suboptimality(W, U, np.zeros(6), 0.0),
            "temperature is 0.0",
        ),
        (
            lambda: maxent.soft_policy_gradient(W, np.zeros((2, 2)), 1.0),
            r"\(2, 2\): it must be \(6, 3\)",
        ),
        (lambda: maxent.backward_messages(W, 3, 1.0, U), "gamma is 0.9"),
        (lambda: maxent.backward_messages(ending(), 0, 1.0, FIRST[:4]), "horizon is 0"),
        (
            lambda: maxent.backward_messages(W, 2, 1.0, U, rewards=np.zeros((2, 6))),
            r"\(2, 6\): it must be \(2, 6, 3\)",
        ),
        (
            lambda: maxent.backward_messages(
                ending(), 2, 1.0, np.full((4, 2), 0.5), dynamics="hopeful"
            ),
            "'hopeful'",
        ),
        (lambda: maxent.schedule_values(W, np.ones((1, 6, 3))), "policy in state 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
