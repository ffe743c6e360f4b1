"""Policy gradients against enumeration, finite differences and published numbers."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from rlbook_utils import policy_gradient as pg
from rlbook_utils.core.returns import discounted_returns
from rlbook_utils.worlds import control, grids, mdp

NAN = float("nan")
SEEDS = range(5)
T = 4


def courier():
    """Return the courier of the chapter on MDPs: it ends, at random times."""
    ride = [[0.6, 0.4, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]
    rest = [[1.0, 0.0, 0.0], [0.8, 0.2, 0.0], [0.0, 0.0, 1.0]]
    paid = [[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    return mdp.TabularMDP([ride, rest], paid, 0.9, 0, [2])


def case(seed):
    """Return a world and logits: without an end, or the courier."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, 2))
    return (courier() if seed == 0 else mdp.random_mdp(3, 2, rng)), logits


def objective(world, logits, horizon):
    if horizon is None:
        return world.start @ world.evaluate(pg.softmax(logits))
    every = world.enumerate(horizon, pg.softmax(logits))
    return every.probabilities @ every.returns


def differences(world, logits, horizon, width=1e-5):
    found = np.zeros(logits.shape)
    for place in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[place] += width
        down[place] -= width
        rise = objective(world, up, horizon) - objective(world, down, horizon)
        found[place] = rise / (2 * width)
    return found


# The exact gradient


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("horizon", [1, 2, T])
def test_the_occupancy_formula_is_the_sum_over_trajectories(seed, horizon):
    world, logits = case(seed)
    exact = pg.exact_gradient(world, logits, horizon)
    enumerated = pg.enumerated_gradient(world, logits, horizon)
    np.testing.assert_allclose(exact, enumerated, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("horizon", [T, None])
def test_the_gradient_is_the_limit_of_differences(seed, horizon):
    world, logits = case(seed)
    exact = pg.exact_gradient(world, logits, horizon)
    np.testing.assert_allclose(exact, differences(world, logits, horizon), atol=1e-8)


def test_a_long_horizon_is_none():
    world, logits = case(1)
    long = pg.exact_gradient(world, logits, 400)
    np.testing.assert_allclose(long, pg.exact_gradient(world, logits), atol=1e-10)


def test_the_corridor_by_hand():
    # All cells share theta: the rows add up. v(p) = (2 p - 4)/(p (1 - p)), and with
    # p = softmax(theta)_1, dp/dtheta_1 = p (1 - p), so dv/dtheta_1 = p (1 - p) v'(p),
    # v'(p) = (2 p (1 - p) - (2 p - 4)(1 - 2 p)) / (p (1 - p))^2.
    world = grids.short_corridor()
    for p in (0.05, 0.3, 2 - math.sqrt(2), 0.9):
        logits = np.tile(np.log([1 - p, p]), (4, 1))
        slope = (2 * p * (1 - p) - (2 * p - 4) * (1 - 2 * p)) / (p * (1 - p))
        found = pg.exact_gradient(world, logits).sum(0)
        np.testing.assert_allclose(found, [-slope, slope], atol=1e-9)
        value = world.evaluate(pg.softmax(logits))[0]
        assert value == pytest.approx((2 * p - 4) / (p * (1 - p)))


def test_published_values_of_the_corridor():
    world = grids.short_corridor()
    for p, published in ((2 - math.sqrt(2), -11.657), (0.05, -82.1), (0.95, -44.2)):
        value = world.evaluate(np.tile([1 - p, p], (4, 1)))[0]
        assert value == pytest.approx(published, abs=0.05 if p != 2 else 5e-4)


# The forms of the estimator


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("form", pg.FORMS)
def test_with_exact_values_every_form_is_unbiased(form, seed):
    world, logits = case(seed)
    found = pg.moments(form, world, logits, T)
    np.testing.assert_allclose(found.bias, 0, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("form", pg.FORMS)
def test_autograd_of_the_loss_is_minus_the_gradient_in_the_mean(form, seed):
    world, logits = case(seed)
    pi = pg.softmax(logits)
    every = world.enumerate(T, pi)
    v, q = pg.values_by_time(world, pi, T)
    weights = torch.from_numpy(pg.step_weights(form, world, every, v, q).copy())
    theta = torch.tensor(logits, requires_grad=True)
    here, taken = (torch.from_numpy(x) for x in (every.states[:, :-1], every.actions))
    logp = theta.log_softmax(-1)[here, taken]
    each = pg.policy_loss(logp, weights).sum(1)
    (torch.from_numpy(every.probabilities) @ each).backward()
    exact = pg.exact_gradient(world, logits, T)
    np.testing.assert_allclose(-theta.grad.numpy(), exact, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_reductions(seed):
    world, logits = case(seed)
    pi = pg.softmax(logits)
    every = world.enumerate(T, pi)
    v, q = pg.values_by_time(world, pi, T)
    weigh = lambda form, **more: pg.step_weights(form, world, every, v, q, **more)  # noqa: E731
    for lam, form in ((0.0, "td_residual"), (1.0, "baseline")):
        np.testing.assert_allclose(weigh("gae", lam=lam), weigh(form), atol=1e-12)
    difference = weigh("reward_to_go") - weigh("baseline")
    discount = 0.9 ** np.arange(T) * (every.actions >= 0)
    values = v[np.arange(T), every.states[:, :-1]]
    np.testing.assert_allclose(difference, discount * values, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_baseline_of_the_state_leaves_the_mean(seed):
    world, logits = case(seed)
    anything = np.random.default_rng(seed + 50).normal(size=(T + 1, 3)) * 10
    found = pg.moments("baseline", world, logits, T, anything)
    np.testing.assert_allclose(found.bias, 0, atol=1e-9)
    wrong = pg.moments("td_residual", world, logits, T, anything)
    assert abs(wrong.bias).max() > 0.05


def test_the_order_of_the_variances():
    world, logits = courier(), np.zeros((3, 2))
    order = [
        pg.moments(form, world, logits, T, lam=lam).variance
        for form, lam in (
            ("total_return", 0),
            ("reward_to_go", 0),
            ("baseline", 0),
            ("gae", 0.95),
            ("gae", 0.5),
            ("td_residual", 0),
            ("advantage", 0),
        )
    ]
    assert order == sorted(order, reverse=True)
    assert order[0] / order[-1] > 50


@pytest.mark.parametrize("seed", SEEDS)
def test_without_the_factor_the_mean_is_the_other_formula(seed):
    world, logits = case(seed)
    other = pg.exact_gradient(world, logits, T, discounted=False)
    for form in ("reward_to_go", "advantage"):
        found = pg.moments(form, world, logits, T, discounted=False).mean
        np.testing.assert_allclose(found, other, atol=1e-10)


def test_samples_agree_with_the_enumeration():
    world, logits = courier(), np.zeros((3, 2))
    run = world.rollout(pg.softmax(logits), 20000, T, np.random.default_rng(0))
    weights = pg.step_weights("reward_to_go", world, run)
    samples = pg.gradient_samples(logits, run, weights)
    exact = pg.moments("reward_to_go", world, logits, T)
    # The squared error of a mean of n is variance/n in the mean: allow 16 times it.
    error = ((samples.mean(0) - exact.mean) ** 2).sum()
    assert error < 16 * exact.variance / 20000
    spread = samples.var(0).sum()
    assert spread == pytest.approx(exact.variance, rel=0.05)


# Pitfalls


def mean_gradient(world, logits, weights_of):
    every = world.enumerate(T, pg.softmax(logits))
    samples = pg.gradient_samples(logits, every, weights_of(every))
    return np.tensordot(every.probabilities, samples, 1)


def off(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def test_pitfall_4_gamma_to_the_t_dropped():
    world, logits = courier(), np.zeros((3, 2))
    exact = pg.exact_gradient(world, logits, T)
    dropped = pg.exact_gradient(world, logits, T, discounted=False)
    assert 0.1 < off(dropped, exact) < 0.25


def fork(wait=8, prize=3.0):
    """Return a world where patience pays: 1 at once, or 3 at the end of a long walk.

    In state 0 action 0 pays 1 and leads home over one more step; action 1 leads over
    `wait` steps in all to 3. Elsewhere both actions do the same.
    """
    home = wait + 1
    after = np.minimum(np.arange(home + 1) + 1, home)
    P = np.tile(np.eye(home + 1)[after], (2, 1, 1))
    P[0, 0] = np.eye(home + 1)[wait]
    paid = np.zeros((home + 1, 2))
    paid[0, 0], paid[wait - 1] = 1.0, prize
    return mdp.TabularMDP(P, paid, 1.0, 0, [home])


def mean_over_time(every):
    weights = np.asarray(discounted_returns(every.rewards, 1.0))
    return weights / (every.actions >= 0).sum(1, keepdims=True)


def standardized_inside(every):
    live = every.actions >= 0
    returns = discounted_returns(every.rewards, 1.0)
    count = live.sum(1, keepdims=True)
    mean = (returns * live).sum(1, keepdims=True) / count
    spread = (((returns - mean) * live) ** 2).sum(1, keepdims=True) / count
    return (returns - mean) / (np.sqrt(spread) + 1e-8) * live


def up_to_t(every):
    return np.cumsum(every.rewards, 1) * (every.actions >= 0)


@pytest.mark.parametrize(
    "weights_of",
    [mean_over_time, standardized_inside, up_to_t],
    ids=lambda f: f.__name__,
)
def test_pitfalls_5_6_and_31_turn_the_gradient_round(weights_of):
    # By hand, with p = 1/2: waiting gains 3 - 1, so dJ/dtheta(0, wait) = (3 - 1)/4.
    # Mean over time: (3/8 - 1/2)/4. Standardized inside the episode: G is (1, 0), that
    # is (1, -1), or 3 everywhere, that is 0: (0 - 1)/4. Up to t: (0 - 1)/4.
    world = fork()
    logits = np.zeros((world.states, 2))
    every = world.enumerate(8, pg.softmax(logits))
    wrong = pg.gradient_samples(logits, every, weights_of(every))
    found = np.tensordot(every.probabilities, wrong, 1)[0, 1]
    assert pg.exact_gradient(world, logits)[0, 1] == pytest.approx(0.5)
    expected = {"mean_over_time": -1 / 32, "standardized_inside": -1 / 4}
    assert found == pytest.approx(expected.get(weights_of.__name__, -1 / 4), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_pitfall_31_rewards_up_to_t_leave_only_the_present_reward(seed):
    world, logits = case(seed)
    powers = world.gamma ** np.arange(T)

    def up_to(every):
        return np.cumsum(every.rewards * powers, 1) * (every.actions >= 0)

    def present(every):
        return every.rewards * powers

    found = mean_gradient(world, logits, up_to)
    myopic = mean_gradient(world, logits, present)
    np.testing.assert_allclose(found, myopic, atol=1e-10)
    assert off(found, pg.exact_gradient(world, logits, T)) > 0.05


def test_pitfall_5_the_total_return_is_right_only_noisier():
    world, logits = courier(), np.zeros((3, 2))
    noise = [
        pg.moments(form, world, logits, T) for form in ("total_return", "reward_to_go")
    ]
    assert abs(noise[0].bias).max() < 1e-12
    assert noise[0].variance > 2 * noise[1].variance


def test_pitfall_6_a_group_mean_with_the_own_sample_only_scales():
    # A bandit with 2 arms and groups of 3: enumerate all 8 groups.
    p, paid, group = np.array([0.3, 0.7]), np.array([1.0, 5.0]), 3
    exact = p * (paid - p @ paid)
    own, others = np.zeros(2), np.zeros(2)
    for arms in np.ndindex(*(2,) * group):
        chance = np.prod(p[list(arms)])
        rewards = paid[list(arms)]
        for i, arm in enumerate(arms):
            score = (np.eye(2)[arm] - p) * chance / group
            own += (rewards[i] - rewards.mean()) * score
            others += (rewards[i] - np.delete(rewards, i).mean()) * score
    np.testing.assert_allclose(others, exact, atol=1e-12)
    np.testing.assert_allclose(own, (1 - 1 / group) * exact, atol=1e-12)


def test_pitfall_7_the_loss_says_nothing():
    # Adding a constant to all weights shifts the loss as far as one likes; the mean of
    # its gradient stays. Here: bandit, two arms, loss -E[w log pi].
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    paid, losses, gradients = torch.tensor([1.0, 3.0], dtype=torch.float64), [], []
    for shift in (0.0, -100.0):
        logp = theta.log_softmax(0)
        loss = (logp.exp().detach() * pg.policy_loss(logp, paid + shift)).sum()
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, theta)[0])
    assert losses[0] > 0 > losses[1]
    torch.testing.assert_close(*gradients)


def test_pitfall_22_a_column_and_a_row_would_broadcast():
    logp, weights = torch.zeros(5, 1), torch.ones(5)
    assert (logp * weights).shape == (5, 5)
    with pytest.raises(
        ValueError, match=re.escape("logp has shape (5, 1), weights (5")
    ):
        pg.policy_loss(logp, weights)


def test_no_gradient_flows_into_the_weights():
    logp = torch.zeros(1, 2, requires_grad=True)
    weights = torch.ones(1, 2, requires_grad=True)
    pg.policy_loss(logp, weights).sum().backward()
    assert weights.grad is None and logp.grad.tolist() == [[-1.0, -1.0]]


# REINFORCE


def test_each_replication_follows_its_own_policy():
    pi = np.zeros((2, 4, 2))
    pi[0, :, 1] = 1.0
    pi[1, [0, 2], 1] = pi[1, 1, 0] = pi[1, 3, 0] = 1.0
    run = pg.sample_episodes(grids.short_corridor(), pi, 7, np.random.default_rng(0))
    assert run.states[0].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert run.states[1].tolist() == [0, 1, 2, 3, 3, 3, 3, 3]
    assert run.lengths.tolist() == [7, 3]
    assert run.truncated.sum(1).tolist() == [1, 0]
    assert run.terminated[1].tolist() == [False] * 2 + [True] + [False] * 4


def test_one_update_by_hand():
    # A bandit for one step: pay 1 for arm 0, 0 for arm 1, from theta = 0. Arm 0 gives
    # theta += .2 * 1 * (.5, -.5) = (.1, -.1) and b = 0 + .5 * (1 - 0); arm 1 nothing.
    P = [[[0, 1], [0, 1]]] * 2
    world = mdp.TabularMDP(P, [[1, 0], [0, 0]], 0.5, 0, [1])
    rng = np.random.default_rng(0)
    made = pg.reinforce(world, np.zeros((50, 2, 2)), 1, rng, lr=0.2, lr_values=0.5)
    won = made.returns[:, 0] == 1
    assert 10 < won.sum() < 40
    np.testing.assert_allclose(made.theta[won, 0], [[0.1, -0.1]] * won.sum())
    np.testing.assert_allclose(made.values[won, 0], 0.5)
    assert not made.theta[~won].any() and not made.values[~won].any()


@pytest.mark.parametrize("discounted", [True, False])
def test_the_mean_update_is_the_gradient(discounted):
    world, logits, count = courier(), np.zeros((3, 2)), 20000
    made = pg.reinforce(
        world,
        np.tile(logits, (count, 1, 1)),
        1,
        np.random.default_rng(0),
        lr=1.0,
        horizon=T,
        discounted=discounted,
    )
    exact = pg.exact_gradient(world, logits, T, discounted=discounted)
    form = pg.moments("reward_to_go", world, logits, T, discounted=discounted)
    error = ((made.theta.mean(0) - exact) ** 2).sum()
    assert error < 16 * form.variance / count


def test_shared_rows_add_up():
    world = grids.short_corridor()
    seeded = [np.random.default_rng(4) for _ in range(2)]
    theta = np.zeros((10, 1, 2))
    shared = pg.reinforce(world, theta, 1, seeded[0], lr=1e-3, observe=[0, 0, 0, 0])
    alone = pg.reinforce(world, np.zeros((10, 4, 2)), 1, seeded[1], lr=1e-3)
    np.testing.assert_allclose(shared.theta[:, 0], alone.theta.sum(1), atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_corridor_is_learned(seed):
    world, start = grids.short_corridor(), np.log([0.95, 0.05])
    made = pg.reinforce(
        world,
        np.tile(start, (40, 1, 1)),
        200,
        np.random.default_rng(seed),
        lr=2**-10,
        lr_values=2**-6,
        horizon=1000,
        observe=[0, 0, 0, 0],
    )
    p = pg.softmax(made.theta)[:, 0, 1]
    # From -82.1; the best is -11.657. Seen over 5 seeds of 100: -11.8.
    assert -12.5 < np.mean((2 * p - 4) / (p * (1 - p))) < -11.657
    # The mean of G_t over an episode of length T is -(T + 1)/2, about -6.5 here.
    np.testing.assert_allclose(made.values.mean(), -6.5, atol=2)


# REINFORCE with a network


def hopper(limit=1):
    """Return a task of `limit` steps that pays 3 for action 1 and 1 for action 0."""

    def physics(state, action):
        return state, 1.0 + 2.0 * action, state[..., 0] > 2

    return control.World("hopper", physics, lambda x: x, 1, 2, 0, (1.0,), (1.0,), limit)


def whole(rewards, lengths):
    live = torch.arange(rewards.shape[-1]) < torch.tensor(lengths)[..., None]
    return rewards * live, live


def test_batch_weights_by_hand():
    # Two episodes of lengths 3 and 1, gamma 1, reward 1: G = (3, 2, 1), (1, 0, 0).
    # Without the own: 3 - 1, 2 - 0, 1 - 0 and 1 - 3. Steps taken have G = 3, 2, 1, 1:
    # mean 7/4, mean square 15/4, variance 15/4 - 49/16 = 11/16.
    rewards, live = whole(torch.ones(1, 2, 3), [[3, 1]])
    plain = pg.batch_weights(rewards, live, 1.0, "none")
    assert plain.tolist() == [[[3, 2, 1], [1, 0, 0]]]
    others = pg.batch_weights(rewards, live, 1.0, "others")
    assert others.tolist() == [[[2, 2, 1], [-2, 0, 0]]]
    standard = pg.batch_weights(rewards, live, 1.0, "standardize")
    scale = math.sqrt(11 / 16)
    expected = [[1.25 / scale, 0.25 / scale, -0.75 / scale], [-0.75 / scale, 0, 0]]
    np.testing.assert_allclose(standard[0], expected, rtol=1e-6)


@pytest.mark.parametrize("baseline", pg.BASELINES)
def test_the_mean_neural_gradient_is_the_gradient(baseline):
    # Two steps of a bandit with p = 1/2: dJ/dlogit_1 = 2 steps * p (1 - p) * 2 = 1. The
    # output bias of the net is the logits. Standardizing divides by the std of G: with
    # G_1 = 1 or 3 and G_0 = 2, 4, 4 or 6, mean 3, mean square (5 + 18) / 2 = 11.5, that
    # is by sqrt(2.5), but for the batch's own mean and std (of order 1/episodes).
    generator, count = torch.Generator().manual_seed(0), 4000
    net = pg.policy_net(hopper(2), 5, generator, hidden=(4,))
    batch = pg.collect(hopper(2), net, count, generator)
    weights = pg.batch_weights(batch.rewards, batch.live, 1.0, baseline)
    loss = pg.policy_loss(pg.log_probabilities(net, batch), weights)
    (loss.sum(2).mean(1)).sum().backward()
    found = -net.biases[-1].grad[:, 0]
    assert found.shape == (5, 2)
    expected = 1 / math.sqrt(2.5) if baseline == "standardize" else 1.0
    # The weights have a variance below 20, so 4 standard errors of 20,000 are .13.
    np.testing.assert_allclose(found.mean(0), [-expected, expected], atol=0.13)


def test_every_seed_has_its_own_net_and_learns():
    generator = torch.Generator().manual_seed(0)
    made = pg.train_reinforce(
        hopper(3), 4, 8, 40, generator, lr=0.1, baseline="others", hidden=(4,)
    )
    assert made.shape == (4, 40)
    assert made[:, 0].max() < 8.5 and made[:, -5:].mean(1).min() > 8.5
    assert len(set(made[:, 0].tolist())) > 1


def test_collect_stops_at_the_end_of_each_episode():
    generator = torch.Generator().manual_seed(0)
    net = pg.policy_net(control.CARTPOLE, 2, generator)
    batch = pg.collect(control.CARTPOLE, net, 5, generator)
    lengths = batch.live.sum(2)
    assert batch.seen.shape == (2, 5, int(lengths.max()), 4)
    assert (batch.rewards.sum(2) == lengths).all() and lengths.min() >= 8
    # What is seen before the end is inside the bounds, the pole still up.
    assert (batch.seen[..., 2].abs() * batch.live).max() <= math.pi / 15


def test_torch_is_not_imported():
    code = "import sys, rlbook_utils.policy_gradient; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# What is refused


WORLD, LOGITS = courier(), np.zeros((3, 2))
RUN = WORLD.rollout(pg.softmax(LOGITS), 2, T, np.random.default_rng(0))
THETA = np.zeros((2, 3, 2))


def learn(**changed):
    given = dict(theta=THETA, episodes=1, lr=0.1, rng=np.random.default_rng(0))
    return pg.reinforce(WORLD, **(given | changed))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pg.softmax([0.0, NAN]), "logits has nan"),
        (lambda: pg.values_by_time(WORLD, LOGITS + 0.5, 0), "horizon is 0"),
        (lambda: pg.exact_gradient(WORLD, np.zeros((2, 2))), "policy has shape (2, 2)"),
        (
            lambda: pg.exact_gradient(WORLD, LOGITS, discounted=False),
            "discounted is False: this needs a horizon",
        ),
        (lambda: pg.step_weights("q", WORLD, RUN), "form is 'q': it must be one of"),
        (
            lambda: pg.step_weights("baseline", WORLD, RUN),
            "values is None: this form needs it",
        ),
        (
            lambda: pg.step_weights("advantage", WORLD, RUN, np.zeros(3)),
            "q_values is None: this form needs it",
        ),
        (
            lambda: pg.step_weights("baseline", WORLD, RUN, np.zeros((4, 3))),
            "values has shape (4, 3): it must be (5, 3) or (3,)",
        ),
        (
            lambda: pg.step_weights("gae", WORLD, RUN, np.zeros(3), lam=2.0),
            "lam is 2.0",
        ),
        (
            lambda: pg.gradient_samples(LOGITS, RUN, np.zeros((2, 1))),
            "weights has shape (2, 1), actions (2, 4): they must agree",
        ),
        (
            lambda: pg.moments("total_return", WORLD, LOGITS, 60),
            "trajectories after",
        ),
        (
            lambda: pg.sample_episodes(WORLD, LOGITS, 3, np.random.default_rng(0)),
            "pi has shape (3, 2): it must be (N, 3, 2)",
        ),
        (
            lambda: pg.batch_weights(torch.ones(1, 1, 3), torch.ones(1, 1, 3), 1, "me"),
            "baseline is 'me': it must be one of none, others, standardize",
        ),
        (
            lambda: pg.batch_weights(
                torch.ones(1, 1, 3), torch.ones(1, 1, 3), 1, "others"
            ),
            "baseline 'others' needs 2 episodes or more",
        ),
        (
            lambda: pg.train_reinforce(
                hopper(), 1, 0, 1, torch.Generator(), lr=0.1, baseline="none"
            ),
            "episodes is 0",
        ),
        (lambda: learn(lr=0.0), "lr is 0.0"),
        (lambda: learn(lr=NAN), "lr is nan"),
        (lambda: learn(lr_values=-1.0), "lr_values is -1.0"),
        (lambda: learn(episodes=0), "episodes is 0"),
        (lambda: learn(horizon=0), "horizon is 0"),
        (lambda: learn(observe=[0, 0]), "observe has shape (2,): not (3,)"),
        (
            lambda: learn(observe=[0, 0, 0]),
            "theta has shape (2, 3, 2): it must be (N, 1, 2)",
        ),
        (lambda: learn(theta=THETA * NAN), "logits has nan"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        call()
