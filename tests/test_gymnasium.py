"""Our tables against Gymnasium's own, where it has one."""

import gymnasium
import numpy as np
import pytest

from rlbook_utils.worlds import grids


def table(name, **options):
    """Return dense P (A, S, S), expected r (S, A) and what ends, from `env.P`."""
    env = gymnasium.make(name, **options).unwrapped
    states, actions = env.observation_space.n, env.action_space.n
    moves = np.zeros((actions, states, states))
    rewards = np.zeros((states, actions))
    ends = np.zeros(states, bool)
    for s in range(states):
        for a in range(actions):
            for chance, following, reward, terminated in env.P[s][a]:
                moves[a, s, following] += chance
                rewards[s, a] += chance * reward
                ends[following] |= terminated
    return moves, rewards, ends


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("slippery", [True, False])
def test_frozen_lake(size, slippery):
    options = {"map_name": f"{size}x{size}", "is_slippery": slippery}
    moves, rewards, ends = table("FrozenLake-v1", **options)
    ours = grids.frozen_lake(size, slippery=slippery)
    np.testing.assert_array_equal(ours.terminal, ends)
    np.testing.assert_allclose(ours.dense(), moves, atol=1e-12)
    np.testing.assert_allclose(ours.r, rewards, atol=1e-12)
    assert ours.start[0] == 1.0


def test_cliff_walking():
    moves, rewards, ends = table("CliffWalking-v1")
    ours = grids.cliff()
    # Theirs has 48 states; the ten of the cliff are never entered.
    kept = np.array([*range(37), 47])
    names = {0: "up", 1: "right", 2: "down", 3: "left"}
    order = [grids.MOVES.index(names[a]) for a in range(4)]
    live = ~ours.terminal
    np.testing.assert_array_equal(ours.terminal, ends[kept])
    inside = moves[:, kept][:, :, kept]
    np.testing.assert_allclose(
        ours.dense()[order][:, live], inside[:, live], atol=1e-12
    )
    np.testing.assert_allclose(ours.r[live][:, order], rewards[kept][live], atol=1e-12)
