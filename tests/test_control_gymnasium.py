"""10,000 single steps of each control task, each from Gymnasium's own state."""

import gymnasium
import numpy as np
import pytest
import torch

from rlbook_utils.worlds import control

STEPS = 10_000
NAMES = {
    "CartPole-v1": control.CARTPOLE,
    "Acrobot-v1": control.ACROBOT,
    "MountainCar-v0": control.MOUNTAIN_CAR,
    "Pendulum-v1": control.PENDULUM,
}


def recorded(name, seed=0):
    """Return states, actions and what Gymnasium made of them, float64."""
    env = gymnasium.make(name, disable_env_checker=True)
    inner, rng = env.unwrapped, np.random.default_rng(seed)
    env.reset(seed=seed)
    env.action_space.seed(seed)
    rows = {k: [] for k in ("state", "action", "next", "seen", "reward", "ended")}
    held = env.action_space.sample()
    for _ in range(STEPS):
        # Actions are held for a while: random ones hardly move the slow tasks.
        held = env.action_space.sample() if rng.random() < 0.1 else held
        rows["state"].append(np.array(inner.state, np.float64))
        # Pendulum computes in the precision of its action.
        held = held.astype(np.float64) if name == "Pendulum-v1" else held
        rows["action"].append(held)
        seen, reward, terminated, truncated, _ = env.step(held)
        rows["next"].append(np.array(inner.state, np.float64))
        rows["seen"].append(seen)
        rows["reward"].append(float(reward))
        rows["ended"].append(terminated)
        if terminated or truncated:
            env.reset()
    return {key: np.array(value) for key, value in rows.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_step_is_gymnasiums(name):
    world, rows = NAMES[name], recorded(name)
    state, action = torch.tensor(rows["state"]), torch.tensor(rows["action"])
    start = control.State(state, torch.zeros(STEPS, dtype=torch.int64))
    generator = torch.Generator().manual_seed(0)
    after, out = control.step(world, start, action, generator)
    live = ~rows["ended"]
    np.testing.assert_allclose(
        after.physical[live], rows["next"][live], rtol=0, atol=1e-12
    )
    tensors = world.physics(state, action.double())
    np.testing.assert_allclose(tensors[0], rows["next"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(out.reward, rows["reward"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(out.final, rows["seen"], rtol=0, atol=2e-6)
    np.testing.assert_array_equal(out.terminated, rows["ended"])
    if name in ("CartPole-v1", "MountainCar-v0"):
        assert rows["ended"].sum() > 5


@pytest.mark.parametrize("name", NAMES)
def test_starts_and_clocks_are_gymnasiums(name):
    world, env = NAMES[name], gymnasium.make(name)
    assert world.limit == env.spec.max_episode_steps
    starts = []
    for seed in range(500):
        env.reset(seed=seed)
        starts.append(np.array(env.unwrapped.state))
    low, high = np.min(starts, axis=0), np.max(starts, axis=0)
    width = np.array(world.high) - world.low
    np.testing.assert_array_less(np.abs(low - world.low), 0.03 * width + 1e-6)
    np.testing.assert_array_less(np.abs(high - world.high), 0.03 * width + 1e-6)
    assert world.observations == env.observation_space.shape[0]
