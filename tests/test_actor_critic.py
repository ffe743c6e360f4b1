"""Actor-critic against exact gradients, hand arithmetic and the mistakes it invites."""

import re

import numpy as np
import pytest
import torch

from rlbook_utils import actor_critic as ac
from rlbook_utils.core.returns import generalized_advantage_estimation
from rlbook_utils.nets.networks import ActorCritic, Judged
from rlbook_utils.policy_gradient import exact_gradient, softmax
from rlbook_utils.worlds import control
from rlbook_utils.worlds.grids import chain, grid_1d, random_walk
from rlbook_utils.worlds.mdp import Step, TabularMDP

GAMMA = 0.9


def seeded(seed=0):
    return np.random.default_rng(seed)


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def ending_world():
    """Return 3 states and an end that every action leads to within 3 steps."""
    table, rng = np.zeros((2, 4, 4)), seeded(3)
    for s in range(3):
        table[:, s, s + 1 :] = rng.dirichlet(np.ones(3 - s), size=2)
    table[:, 3, 3] = 1
    reward = rng.normal(size=(4, 2))
    reward[3] = 0
    return TabularMDP(table, reward, GAMMA, [0.6, 0.4, 0, 0], [3])


# One step at a time, on tables


def expected_direction(world, logits, values, *, discounted=True, merge=False, clock=3):
    """Return the mean over all trajectories of the summed actor updates."""
    every = world.enumerate(clock, softmax(logits))
    count = len(every.probabilities)
    theta, table = np.tile(logits, (count, 1, 1)), np.tile(values, (count, 1))
    total, rows = np.zeros_like(theta), np.arange(count)
    for t in range(clock):
        live = every.actions[:, t] >= 0
        after = every.states[:, t + 1]
        over = world.terminal[after] | (merge and t == clock - 1)
        step = Step(every.rewards[:, t], after, over)
        weight = live * (GAMMA**t if discounted else 1.0)
        _, up, _ = ac.td_step(
            theta,
            table,
            every.states[:, t],
            every.actions[:, t] * live,
            step,
            weight,
            GAMMA,
        )
        total[rows, every.states[:, t]] += up
    return np.tensordot(every.probabilities, total, 1)


def test_the_expected_update_of_an_episode_is_the_exact_gradient():
    world, logits = ending_world(), seeded(5).normal(size=(4, 2))
    exact = exact_gradient(world, logits)
    values = world.evaluate(softmax(logits))
    found = expected_direction(world, logits, values)
    np.testing.assert_allclose(found, exact, atol=1e-14)


def test_pitfall_4_without_gamma_to_the_t_it_is_another_direction():
    world, logits = ending_world(), seeded(5).normal(size=(4, 2))
    exact = exact_gradient(world, logits)
    values = world.evaluate(softmax(logits))
    wrong = expected_direction(world, logits, values, discounted=False)
    assert np.linalg.norm(wrong - exact) > 0.05 * np.linalg.norm(exact)


def test_a_wrong_critic_biases_by_gamma_times_its_expected_error_ahead():
    world, logits = ending_world(), seeded(5).normal(size=(4, 2))
    pi, error = softmax(logits), np.array([0.3, -0.8, 0.5, 0.0])
    found = expected_direction(world, logits, world.evaluate(pi) + error)
    ahead = GAMMA * np.einsum("ast,t->sa", world.dense(), error)
    visits = np.where(world.terminal, 0, world.occupancy(pi))[:, None]
    bias = visits * pi * (ahead - (pi * ahead).sum(1, keepdims=True))
    np.testing.assert_allclose(found - exact_gradient(world, logits), bias, atol=1e-14)


def test_pitfall_1_a_zero_bootstrap_at_the_clock_biases_even_an_exact_critic():
    world, logits = ending_world(), seeded(5).normal(size=(4, 2))
    values = world.evaluate(softmax(logits))
    right = expected_direction(world, logits, values, clock=1)
    wrong = expected_direction(world, logits, values, clock=1, merge=True)
    pi = softmax(logits)
    q = world.q_values(values)
    one = world.start[:, None] * pi * (q - (pi * q).sum(1, keepdims=True))
    np.testing.assert_allclose(right, one, atol=1e-14)
    assert np.abs(wrong - one).max() > 0.02


def test_the_loop_makes_these_updates():
    world, rng = chain(), seeded(1)
    start = ac.start_online(world, 4, rng)
    learner = start
    theta, values = start.theta.copy(), start.values.copy()
    state, age = start.state, start.age
    again = seeded(1)
    world.reset(4, again)
    for _ in range(30):
        learner = ac.online_actor_critic(
            world, learner, 1, rng, lr=0.3, lr_values=0.2, limit=7
        )
        pi = softmax(theta[np.arange(4), state])
        action = (pi.cumsum(1)[:, :-1] <= again.random((4, 1))).sum(1)
        step = world.step(state, action, again)
        for row in range(4):
            s, after = state[row], step.next_state[row]
            ahead = 0.0 if world.terminal[after] else values[row, after]
            delta = step.reward[row] + world.gamma * ahead - values[row, s]
            score = np.eye(2)[action[row]] - pi[row]
            theta[row, s] += 0.3 * world.gamma ** age[row] * delta * score
            values[row, s] += 0.2 * delta
        fresh = world.reset(4, again)
        ended = step.terminated | (age + 1 == 7)
        state = np.where(ended, fresh, step.next_state)
        age = np.where(ended, 0, age + 1)
        np.testing.assert_allclose(learner.theta, theta, atol=1e-14)
        np.testing.assert_allclose(learner.values, values, atol=1e-14)
        np.testing.assert_array_equal(learner.state, state)
        np.testing.assert_array_equal(learner.age, age)
    np.testing.assert_array_equal(start.theta, 0)


def test_it_learns_the_optimum_of_a_small_world():
    world, rng = grid_1d(9, gamma=GAMMA, left=0.2), seeded()
    learner = ac.start_online(world, 20, rng)
    learner = ac.online_actor_critic(world, learner, 8000, rng, lr=0.5, lr_values=0.2)
    best = world.start @ world.solve().values
    gained = [world.start @ world.evaluate(softmax(t)) for t in learner.theta]
    uniform = world.start @ world.evaluate(np.full((9, 2), 0.5))
    assert np.mean(gained) > uniform + 0.8 * (best - uniform)


# Batches and networks


def test_a_batch_is_a_record_of_what_happened():
    world = control.PENDULUM._replace(limit=3)
    generator = source()
    net = ActorCritic(3, 0, 1, generator)
    state, seen = control.reset(world, 4, generator)
    state, seen, batch = ac.collect(world, net, state, seen, 5, generator)
    assert batch.seen.shape == (4, 5, 3) and batch.actions.shape == (4, 5, 1)
    assert batch.truncated.all(0).tolist() == [False, False, True, False, False]
    inside = [0, 1, 3]
    after = [1, 2, 4]
    torch.testing.assert_close(batch.final[:, inside], batch.seen[:, after])
    assert (batch.final[:, 2] != batch.seen[:, 3]).any()
    torch.testing.assert_close(batch.final[:, -1], seen)


def shortened_batch(seeds):
    world, generator = control.CARTPOLE._replace(limit=13), source(1)
    net = ActorCritic(4, 2, 0, generator, seeds=seeds, hidden=(8,))
    shape = 12 if seeds is None else (seeds, 12)
    state, seen = control.reset(world, shape, generator)
    batch = ac.collect(world, net, state, seen, 40, generator)[2]
    assert batch.terminated.sum() > 3 and batch.truncated.sum() > 3
    return net, batch


@pytest.mark.parametrize("seeds", [None, 3])
def test_advantages_bootstrap_from_final_observations_alone(seeds):
    net, batch = shortened_batch(seeds)
    gaps, targets = ac.advantages(net, batch, 0.9, 0.8)

    def value(seen):
        if seeds is None:
            return net.values(seen)
        return net.values(seen.reshape(seeds, -1, 4)).reshape(seen.shape[:-1])

    with torch.no_grad():
        values, ahead = value(batch.seen), value(batch.final)
    later = torch.zeros_like(gaps[..., 0])
    for t in reversed(range(40)):
        over, late = batch.terminated[..., t], batch.truncated[..., t]
        next_value = torch.where(over, 0.0, ahead[..., t])
        delta = batch.rewards[..., t] + 0.9 * next_value - values[..., t]
        later = delta + 0.9 * 0.8 * later * ~(over | late)
        torch.testing.assert_close(gaps[..., t], later, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(targets, gaps + values)


def test_pitfall_2_the_next_episode_leaks_in():
    net, batch = shortened_batch(None)
    right, _ = ac.advantages(net, batch, 0.9, 0.8)
    leaked = torch.cat([batch.seen[:, 1:], batch.final[:, -1:]], 1)
    wrong, _ = ac.advantages(net, batch._replace(final=leaked), 0.9, 0.8)
    late = batch.truncated
    assert ((right - wrong).abs()[late] > 1e-4).any()
    ended = batch.truncated | batch.terminated
    after_last_end = ended.flip(1).cumsum(1).flip(1) == 0
    torch.testing.assert_close(right[after_last_end], wrong[after_last_end])


def test_the_gradient_of_the_loss_is_the_policy_gradient_by_enumeration():
    world, logits = ending_world(), seeded(5).normal(size=(4, 2))
    pi = softmax(logits)
    values = np.where(world.terminal, 0, world.evaluate(pi))
    every = world.enumerate(3, pi)
    live, over = every.actions >= 0, world.terminal[every.states[:, 1:]]
    v = values[every.states]
    no = np.zeros_like(over)
    gaps = generalized_advantage_estimation(
        every.rewards, v[:, :-1], v[:, 1:], over, no, GAMMA, 0.7
    )
    weights = every.probabilities[:, None] * live * GAMMA ** np.arange(3)
    theta = torch.tensor(logits, requires_grad=True)
    logs = theta.log_softmax(1)[every.states[:, :-1], np.maximum(every.actions, 0)]
    zero = torch.zeros_like(logs)
    judged = Judged(logs, zero, torch.tensor(v[:, :-1]))
    loss = ac.a2c_loss(judged, torch.tensor(gaps), torch.tensor(v[:, :-1] + gaps))
    (loss * torch.tensor(weights)).sum().backward()
    exact = exact_gradient(world, logits)
    np.testing.assert_allclose(-theta.grad, exact, atol=1e-14)


def test_no_gradient_flows_into_advantages_or_targets():
    gaps, targets, v = (torch.ones(3, requires_grad=True) for _ in range(3))
    logp = torch.zeros(3, requires_grad=True)
    judged = Judged(logp, torch.zeros(3), 2 * v)
    ac.a2c_loss(judged, gaps, targets, 0.5, 0.0).sum().backward()
    assert gaps.grad is None and targets.grad is None
    # d/dv of .5 (2 v - 1)^2 is 2 (2 v - 1) = 2; d/dlogp of -A logp is -1.
    assert v.grad.tolist() == [2.0] * 3 and logp.grad.tolist() == [-1.0] * 3


def test_pitfall_22_broadcasting_is_refused():
    judged = Judged(*(torch.zeros(3) for _ in range(3)))
    with pytest.raises(ValueError, match=re.escape("[(3,), (3, 1)]")):
        ac.a2c_loss(judged, torch.zeros(3, 1), torch.zeros(3))


def test_training_is_reproducible_and_improves_cartpole():
    settings = ac.Settings(envs=16, steps=32, hidden=(32,), lr=5e-3)
    runs = [
        ac.train_a2c(control.CARTPOLE, 5, 80, source(2), settings, every=40, episodes=5)
        for _ in range(2)
    ]
    torch.testing.assert_close(runs[0].returns, runs[1].returns, rtol=0, atol=0)
    assert runs[0].steps.tolist() == [40 * 512, 80 * 512]
    # Random play earns 22 on average.
    assert runs[0].returns.max(1).values.min() > 60


def test_a_gaussian_policy_trains_too():
    made = ac.train_a2c(control.PENDULUM, 2, 2, source(), every=1, episodes=2)
    assert made.returns.shape == (2, 2) and made.returns.isfinite().all()


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ac.start_online(chain(), 0, seeded()), "replications is 0"),
        (
            lambda: ac.start_online(
                TabularMDP(np.ones((1, 1, 1)), [[0.0]], 0.5, 0, [0]), 1, seeded()
            ),
            "start has terminal state 0",
        ),
        (
            lambda: ac.online_actor_critic(
                chain(),
                ac.start_online(chain(), 1, seeded()),
                5,
                seeded(),
                lr=0.0,
                lr_values=0.1,
            ),
            "lr is 0.0",
        ),
        (
            lambda: ac.online_actor_critic(
                chain(),
                ac.start_online(chain(), 1, seeded()),
                5,
                seeded(),
                lr=0.1,
                lr_values=0.1,
                limit=-1,
            ),
            "limit is -1",
        ),
        (
            lambda: ac.td_step(
                np.zeros((1, 2, 2)),
                [[0, 0]],
                [0],
                [0],
                Step(np.zeros(1), np.zeros(1, int), np.zeros(1, bool)),
                [1.0],
                1.5,
            ),
            "gamma is 1.5",
        ),
        (
            lambda: ac.td_step(
                np.zeros((1, 2, 2)),
                [[0, 0]],
                [0, 1],
                [0],
                Step(np.zeros(1), np.zeros(1, int), np.zeros(1, bool)),
                [1.0],
                0.5,
            ),
            "state has shape (2,): it must be (1,)",
        ),
        (
            lambda: ac.train_a2c(control.CARTPOLE, 0, 1, source()),
            "seeds is 0",
        ),
        (
            lambda: ac.online_actor_critic(
                chain(),
                ac.start_online(chain(), 1, np.random.default_rng(0)),
                1,
                np.random.default_rng(0),
                lr=0.1,
                lr_values=0.1,
                limit=0,
            ),
            "limit is 0",
        ),
        (
            lambda: ac.train_a2c(control.CARTPOLE, 1, 0, source()),
            "iterations is 0",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_random_walk_is_ended_and_started_again():
    rng = seeded()
    learner = ac.start_online(random_walk(3), 50, rng)
    learner = ac.online_actor_critic(
        random_walk(3), learner, 200, rng, lr=0.1, lr_values=0.1
    )
    assert not random_walk(3).terminal[learner.state].any()
