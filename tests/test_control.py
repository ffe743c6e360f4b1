"""Control tasks: ends of episodes, the clock, the final observation, whole episodes."""

import math
import re

import numpy as np
import pytest
import torch

from rlbook_utils.worlds import control
from rlbook_utils.worlds.control import ACROBOT, CARTPOLE, MOUNTAIN_CAR, PENDULUM

WORLDS = [CARTPOLE, ACROBOT, MOUNTAIN_CAR, PENDULUM]
each_world = pytest.mark.parametrize("world", WORLDS, ids=lambda w: w.name)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def any_action(world, shape, generator):
    if world.actions:
        return torch.randint(world.actions, shape, generator=generator)
    return torch.randn((*shape, world.dimensions), generator=generator)


def test_one_step_of_the_cart_by_hand():
    # From rest, upright, pushed right: push = 10/1.1, no gravity torque as sin 0 = 0,
    # turn = -push/(.5 (4/3 - .1/1.1)) = -14.634..., pull = push - .05/1.1 turn.
    push = 10 / 1.1
    turn = -push / (0.5 * (4 / 3 - 0.1 / 1.1))
    pull = push - 0.05 / 1.1 * turn
    state = torch.zeros(1, 4, dtype=torch.float64)
    moved, _, _ = control.cartpole(state, torch.tensor([1]))
    wanted = [0, 0.02 * pull, 0, 0.02 * turn]
    np.testing.assert_allclose(moved[0], wanted, atol=1e-15)


@each_world
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_types_are_kept(world, dtype):
    generator = seeded()
    state, seen = control.reset(world, (3, 5), generator, dtype)
    action = any_action(world, (3, 5), generator)
    after, out = control.step(world, state, action, generator)
    assert seen.shape == out.observation.shape == (3, 5, world.observations)
    assert {seen.dtype, out.reward.dtype, out.final.dtype, after.physical.dtype} == {
        dtype
    }
    assert out.terminated.dtype == out.truncated.dtype == torch.bool
    assert out.reward.shape == out.terminated.shape == after.age.shape == (3, 5)


@each_world
def test_numpy_and_torch_run_the_same_physics(world):
    generator = seeded(1)
    state, _ = control.reset(world, 200, generator, torch.float64)
    for _ in range(20):
        action = any_action(world, (200,), generator).double()
        ours = world.physics(state.physical, action)
        theirs = world.physics(state.physical.numpy(), action.numpy())
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
        state = state._replace(physical=ours[0])


@each_world
def test_the_clock_truncates_and_the_final_observation_is_handed_over(world):
    short, generator = world._replace(limit=3), seeded()
    state, _ = control.reset(short, 4, generator)
    for t in range(7):
        action = any_action(world, (4,), generator)
        physical, reward, terminated = world.physics(state.physical, action)
        state, out = control.step(short, state, action, generator)
        np.testing.assert_allclose(out.final, world.observe(physical), atol=1e-6)
        np.testing.assert_allclose(out.reward, reward, atol=1e-6)
        late = t % 3 == 2
        assert not terminated.any()
        assert out.truncated.tolist() == [late] * 4
        assert state.age.tolist() == [(t + 1) % 3] * 4
        low, high = torch.tensor(world.low), torch.tensor(world.high)
        if late:
            assert ((state.physical >= low) & (state.physical <= high)).all()
            assert (out.observation != out.final).any(-1).all()
        else:
            torch.testing.assert_close(out.observation, out.final)


def test_an_end_of_the_world_wins_over_the_clock():
    world, generator = CARTPOLE._replace(limit=1), seeded()
    state, _ = control.reset(world, 2, generator)
    over = torch.tensor([[2.39, 9.0, 0, 0], [0, 0, 0, 0]])
    state = state._replace(physical=over)
    _, out = control.step(world, state, torch.tensor([1, 1]), generator)
    assert out.terminated.tolist() == [True, False]
    assert out.truncated.tolist() == [False, True]
    assert out.reward.tolist() == [1.0, 1.0]


def test_only_what_ended_starts_again():
    generator = seeded()
    state, _ = control.reset(CARTPOLE, 3, generator)
    over = state.physical.clone()
    over[1] = torch.tensor([3.0, 0, 0, 0])
    after, out = control.step(
        CARTPOLE, state._replace(physical=over), torch.tensor([0, 0, 0]), generator
    )
    assert out.terminated.tolist() == [False, True, False]
    assert after.age.tolist() == [1, 0, 1]
    assert after.physical[1].abs().max() <= 0.05
    assert out.final[1, 0] == 3.0
    torch.testing.assert_close(out.observation[[0, 2]], out.final[[0, 2]])


def test_what_was_returned_is_not_changed_later():
    generator = seeded()
    state, _ = control.reset(CARTPOLE, 8, generator)
    kept = []
    for _ in range(60):
        action = torch.ones(8, dtype=torch.int64)
        state, out = control.step(CARTPOLE, state, action, generator)
        kept.append((state, out, [part.clone() for part in (*state, *out)]))
    for state, out, copies in kept:
        for part, copy in zip((*state, *out), copies, strict=True):
            torch.testing.assert_close(part, copy, rtol=0, atol=0)


@each_world
def test_the_way_taken_on_a_gpu_leads_to_the_same_place(world, monkeypatch):
    short, generator = world._replace(limit=9), seeded(4)
    state, _ = control.reset(short, (2, 30), generator, torch.float64)
    state = state._replace(age=torch.arange(60).reshape(2, 30) % 9)
    action = any_action(world, (2, 30), generator)
    here = control.step(short, state, action, seeded(5))
    monkeypatch.setattr(control, "_on_cpu", lambda tensor: False)
    there = control.step(short, state, action, seeded(5))
    for ours, theirs in zip((*here[0], *here[1]), (*there[0], *there[1]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_starts_are_uniform_over_their_box():
    state, _ = control.reset(MOUNTAIN_CAR, 4000, seeded())
    position, speed = state.physical.unbind(-1)
    assert (speed == 0).all()
    # Uniform on [-.6, -.4]: standard deviation .2/sqrt 12; 5 standard errors.
    assert abs(position.mean() + 0.5) < 5 * 0.2 / math.sqrt(12 * 4000)
    assert position.min() >= -0.6 and position.max() <= -0.4


# Evaluation


def toy(limit=500):
    """Return a world whose episodes end at a step drawn at their start."""

    def physics(state, action):
        moved = state - 1
        return moved, 1 + 0 * state[..., 0], moved[..., 0] <= 0

    return control.World(
        "toy", physics, lambda s: s, 1, 2, 0, (0.0,), (100.0,), limit=limit
    )


def still(seen):
    return torch.zeros(seen.shape[:-1], dtype=torch.int64)


def test_evaluation_is_not_biased_toward_short_episodes():
    # Lengths are uniform on 1 ... 100: mean 50.5, standard deviation 28.9.
    found = control.evaluate(toy(), still, 4000, seeded())
    lengths = found.lengths.double()
    assert abs(lengths.mean() - 50.5) < 5 * 28.9 / math.sqrt(4000)
    torch.testing.assert_close(found.returns, found.lengths.float())
    # The wrong way: the first 4000 episodes to end in 100 environments.
    generator = seeded()
    state, _ = control.reset(toy(), 4000, generator)
    first, age = [], state.age
    while len(first) < 4000:
        state, out = control.step(toy(), state, torch.zeros_like(age), generator)
        age = age + 1
        first += age[out.terminated].tolist()
        age = age * ~out.terminated
    assert np.mean(first[:4000]) < 40


def test_evaluation_counts_a_truncated_episode_once():
    found = control.evaluate(toy(limit=10), still, (3, 50), seeded())
    assert found.returns.shape == (3, 50)
    assert found.lengths.max() == 10
    assert 0.8 < (found.lengths == 10).float().mean() < 0.99


def test_evaluation_adds_up_the_rewards_of_one_episode():
    found = control.evaluate(
        PENDULUM._replace(limit=5), lambda s: s[..., :1], 6, seeded()
    )
    generator = seeded()
    state, seen = control.reset(PENDULUM, 6, generator)
    total = torch.zeros(6)
    for _ in range(5):
        state, out = control.step(PENDULUM, state, seen[..., :1], generator)
        seen, total = out.observation, total + out.reward
    torch.testing.assert_close(found.returns, total)
    assert found.lengths.tolist() == [5] * 6


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g, s: control.reset(CARTPOLE, 0, g), "shape is 0"),
        (lambda g, s: control.reset(CARTPOLE, (), g), "shape is ()"),
        (lambda g, s: control.reset(CARTPOLE, (3, 0), g), "shape is (3, 0)"),
        (
            lambda g, s: control.reset(CARTPOLE, 2, g, torch.float16),
            "dtype is torch.float16",
        ),
        (
            lambda g, s: control.step(CARTPOLE, s, torch.zeros(2, 1).long(), g),
            "action has shape (2, 1): cartpole needs (2,)",
        ),
        (
            lambda g, s: control.step(CARTPOLE, s, torch.tensor([0, 2]), g),
            "action is 2: cartpole has 2",
        ),
        (
            lambda g, s: control.step(CARTPOLE, s, torch.tensor([-1, 1]), g),
            "action is -1: cartpole has 2",
        ),
        (
            lambda g, s: control.step(CARTPOLE, s, torch.zeros(2), g),
            "action is torch.float32: cartpole needs integers",
        ),
        (
            lambda g, s: control.step(PENDULUM, s, torch.zeros(2), g),
            "action has shape (2,): pendulum needs (2, 1)",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    generator = seeded()
    state, _ = control.reset(CARTPOLE, 2, generator)
    with pytest.raises(ValueError, match=re.escape(message)):
        call(generator, state)
