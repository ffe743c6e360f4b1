"""What the bench compares the helper with: plain loops, and solvers of other libraries.

The other libraries are pinned in the extra `bench` and imported when they are called.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

MOST_SWEEPS = 10**5


class Solved(NamedTuple):
    """The values a solver returned and the sweeps it did, of either kind."""

    values: Any
    sweeps: int


Solver = Callable[[], Solved]


# ---------------------------------------------------------------- bandits


def beta_loop(
    means: Sequence[float], steps: int, runs: int, seed: int
) -> list[list[float]]:
    """Run Thompson sampling plainly, one run after the other; return the gaps."""
    import torch

    torch.manual_seed(seed)
    gaps = []
    for _ in range(runs):
        successes, failures = torch.ones(len(means)), torch.ones(len(means))
        gaps.append([])
        for _ in range(steps):
            draws = torch.distributions.Beta(successes, failures).sample()
            arm = int(draws.argmax())
            reward = float(torch.rand(()) < means[arm])
            successes[arm] += reward
            failures[arm] += 1 - reward
            gaps[-1].append(max(means) - means[arm])
    return gaps


def autograd_loop(
    means: Sequence[float], rate: float, steps: int, runs: int, seed: int
) -> list[list[float]]:
    """Run REINFORCE plainly, one run after the other; return the gaps."""
    import torch

    torch.manual_seed(seed)
    gaps = []
    for _ in range(runs):
        preferences = torch.zeros(len(means), requires_grad=True)
        adam = torch.optim.Adam([preferences], lr=rate)
        baseline = 0.0
        gaps.append([])
        for _ in range(steps):
            policy = torch.distributions.Categorical(logits=preferences)
            arm = policy.sample()
            reward = float(torch.rand(()) < means[arm])
            loss = -(reward - baseline) * policy.log_prob(arm)
            adam.zero_grad()
            loss.backward()
            adam.step()
            baseline += rate * (reward - baseline)
            gaps[-1].append(max(means) - means[arm])
    return gaps


def numpy_loop(
    arms: int, steps: int, runs: int, seed: int, epsilon: float = 0.1
) -> list[list[float]]:
    """Run epsilon-greedy on the testbed, one pull at a time; return the gaps."""
    import numpy as np

    rng = np.random.default_rng(seed)
    gaps = []
    for _ in range(runs):
        means = rng.normal(size=arms)
        best_mean = means.max()
        counts, values = np.zeros(arms), np.zeros(arms)
        gaps.append([])
        for _ in range(steps):
            if rng.random() < epsilon:
                arm = rng.integers(arms)
            else:
                best = np.flatnonzero(values == values.max())
                arm = best[rng.integers(len(best))]
            reward = rng.normal(means[arm])
            counts[arm] += 1
            values[arm] += (reward - values[arm]) / counts[arm]
            gaps[-1].append(best_mean - means[arm])
    return gaps


# ---------------------------------------------------------------- solvers


def sparse_rows(world: Any, order: tuple[int, int, int]) -> Any:
    """Return P as a sparse matrix, rows by (action, state) or (state, action)."""
    import numpy as np
    from scipy import sparse

    columns = np.ascontiguousarray(world.successors.transpose(order)).ravel()
    weights = np.ascontiguousarray(world.probabilities.transpose(order)).ravel()
    ends = np.arange(0, len(columns) + 1, world.successors.shape[2])
    shape = (len(ends) - 1, world.states)
    matrix = sparse.csr_matrix((weights, columns, ends), shape=shape)
    matrix.sum_duplicates()
    return matrix


def quantecon_solver(world: Any, method: str, error: float) -> Solver:
    """Return a solver of quantecon on its sparse form, which is made beforehand.

    It guarantees half its epsilon. Modified policy iteration has its 20 evaluations.
    """
    import numpy as np
    from quantecon.markov import DiscreteDP

    program = DiscreteDP(
        np.ascontiguousarray(world.r).ravel(),
        sparse_rows(world, (1, 0, 2)),
        world.gamma,
        np.repeat(np.arange(world.states), world.actions),
        np.tile(np.arange(world.actions), world.states),
    )

    def solve() -> Solved:
        found = program.solve(method, epsilon=2 * error, max_iter=MOST_SWEEPS)
        inner = found.k * (found.num_iter - 1) if "k" in found else 0
        return Solved(found.v, found.num_iter + inner)

    return solve


def toolbox_solver(world: Any, error: float) -> Solver:
    """Return value iteration of pymdptoolbox on sparse matrices made beforehand.

    Its constructor checks them and bounds the sweeps, which takes most of the time.
    """
    import numpy as np
    from mdptoolbox.mdp import ValueIteration

    stacked, size = sparse_rows(world, (0, 1, 2)), world.states
    parts = [stacked[k * size : (k + 1) * size] for k in range(world.actions)]
    reward = np.ascontiguousarray(world.r)

    def solve() -> Solved:
        with warnings.catch_warnings(action="ignore"):
            solver = ValueIteration(parts, reward, world.gamma, 2 * error, MOST_SWEEPS)
            solver.run()
        return Solved(np.array(solver.V), solver.iter)

    return solve


# ---------------------------------------------------------------- learners


def plain_learner(
    world: Any, method: str, episodes: int, seed: int
) -> tuple[list[float], int]:
    """Learn by one of the four methods in one run; return the returns and the steps.

    Step .5, epsilon .1, ties at random: as `td.control`.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    moves, rewards = world.successors[..., 0], world.rewards[..., 0]
    tables = np.zeros((2 if method == "double_q_learning" else 1, *world.r.shape))
    epsilon, actions, start = 0.1, world.actions, int(world.start.argmax())

    def greedy(q: Any) -> int:
        best = np.flatnonzero(q == q.max())
        return int(best[rng.integers(len(best))])

    def act(state: int) -> int:
        if rng.random() < epsilon:
            return int(rng.integers(actions))
        return greedy(tables[:, state].sum(0))

    returns, steps = [], 0
    for _ in range(episodes):
        state, total, ended = start, 0.0, False
        action = act(state)
        while not ended:
            reward, after = rewards[action, state], moves[action, state]
            ended = world.terminal[after]
            own = rng.integers(2) if len(tables) > 1 else 0
            following = act(after) if method == "sarsa" and not ended else -1
            if ended:
                ahead = 0.0
            elif method == "sarsa":
                ahead = tables[0, after, following]
            elif method == "expected_sarsa":
                q = tables[0, after]
                ahead = epsilon * q.mean() + (1 - epsilon) * q.max()
            elif method == "q_learning":
                ahead = tables[0, after].max()
            else:
                ahead = tables[1 - own, after, greedy(tables[own, after])]
            target = reward + world.gamma * ahead
            tables[own, state, action] += 0.5 * (target - tables[own, state, action])
            total, steps, state = total + reward, steps + 1, after
            if not ended:
                action = following if method == "sarsa" else act(state)
        returns.append(total)
    return returns, steps
