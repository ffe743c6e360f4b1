"""Returns and advantages: by hand, by definition, and against what goes wrong."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from rlbook_utils.core import returns
from rlbook_utils.core.returns import generalized_advantage_estimation as gae

GAMMA, LAM = 0.9, 0.7
SEEDS = range(5)
NAN = float("nan")


def record(seed, count=6, steps=9):
    """Return a random record with all four kinds of step ends."""
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(2, count, steps))
    terminated, truncated = rng.random((2, count, steps)) < 0.25
    final, last = rng.normal(size=(count, steps)), rng.normal(size=(count, 1))
    ahead = np.concatenate([values[:, 1:], last], 1)
    after = np.where(terminated, 0.0, np.where(truncated, final, ahead))
    return rewards, values, after, terminated, truncated


def parts(rewards, values, after, terminated, truncated):
    return rewards, after, terminated, truncated


def plain_sum(rewards, values, after, terminated, truncated, gamma, lam, n=None):
    """Return the returns as the sums that define them, one step at a time."""
    count, steps = rewards.shape
    found = np.zeros((count, steps))
    for i in range(count):
        for t in range(steps):
            ends = [
                u
                for u in range(t, steps)
                if terminated[i, u] or truncated[i, u] or u == steps - 1
            ]
            length = ends[0] - t + 1

            def n_step(k, i=i, t=t, length=length):
                k = min(k, length)
                total = sum(gamma**j * rewards[i, t + j] for j in range(k))
                last = t + k - 1
                rest = 0.0 if terminated[i, last] else after[i, last]
                return total + gamma**k * rest

            if n is not None:
                found[i, t] = n_step(n)
            else:
                shares = [(1 - lam) * lam ** (k - 1) for k in range(1, length)]
                shares.append(lam ** (length - 1))
                found[i, t] = sum(
                    share * n_step(k) for k, share in enumerate(shares, start=1)
                )
    return found


def test_a_hand_example():
    # gamma = .5, lam = .5. Step 1 is truncated in a state worth 8; step 3 terminates.
    # delta_3 = 6 - 2 = 4                      A_3 = 4
    # delta_2 = 0 + .5 * 2 - 4 = -3            A_2 = -3 + .25 * 4 = -2
    # delta_1 = 2 + .5 * 8 - 6 = 0             A_1 = 0 (cut: nothing of A_2)
    # delta_0 = 1 + .5 * 6 - 1 = 3             A_0 = 3 + .25 * 0 = 3
    given = (
        np.array([[1.0, 2.0, 0.0, 6.0]]),
        np.array([[1.0, 6.0, 4.0, 2.0]]),
        np.array([[6.0, 8.0, 2.0, 0.0]]),
        np.array([[False, False, False, True]]),
        np.array([[False, True, False, False]]),
    )
    assert gae(*given, 0.5, 0.5).tolist() == [[3.0, 0.0, -2.0, 4.0]]
    # G_3 = 6, G_2 = 0 + .5 * 6 = 3, G_1 = 2 + .5 * 8 = 6, G_0 = 1 + .5 * 6 = 4.
    rewards, after, over, clock = parts(*given)
    found = returns.discounted_returns(rewards, 0.5, after, over, clock)
    assert found.tolist() == [[4.0, 6.0, 3.0, 6.0]]
    # Two steps from t = 0: 1 + .5 * 2 + .25 * 8 = 4; one step: 1 + .5 * 6 = 4.
    two = returns.n_step_returns(rewards, after, over, clock, 0.5, 2)
    assert two.tolist() == [[4.0, 6.0, 3.0, 6.0]]
    one = returns.n_step_returns(rewards, after, over, clock, 0.5, 1)
    assert one.tolist() == [[4.0, 6.0, 1.0, 6.0]]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_return_is_its_definition(seed):
    given = record(seed)
    for n in (1, 2, 3, 9, 50):
        found = returns.n_step_returns(*parts(*given), GAMMA, n)
        expected = plain_sum(*given, GAMMA, None, n)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    for lam in (0.0, LAM, 1.0):
        found = returns.lambda_returns(*parts(*given), GAMMA, lam)
        expected = plain_sum(*given, GAMMA, lam)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        found = gae(*given, GAMMA, lam)
        np.testing.assert_allclose(found, expected - given[1], atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_reductions(seed):
    given = record(seed)
    rewards, values, after, over, clock = given
    one_step = rewards + GAMMA * np.where(over, 0, after)
    full = returns.discounted_returns(rewards, GAMMA, after, over, clock)
    np.testing.assert_allclose(gae(*given, GAMMA, 0.0), one_step - values, atol=1e-12)
    np.testing.assert_allclose(gae(*given, GAMMA, 1.0), full - values, atol=1e-12)
    for n, lam, expected in ((1, 0.0, one_step), (9, 1.0, full), (99, 1.0, full)):
        n_step = returns.n_step_returns(*parts(*given), GAMMA, n)
        mixed = returns.lambda_returns(*parts(*given), GAMMA, lam)
        np.testing.assert_allclose(n_step, expected, atol=1e-12)
        np.testing.assert_allclose(mixed, expected, atol=1e-12)


def test_rewards_alone_are_one_episode():
    rewards = np.random.default_rng(0).normal(size=(3, 6))
    powers = GAMMA ** np.arange(6)
    expected = [[row[t:] @ powers[: 6 - t] for t in range(6)] for row in rewards]
    found = returns.discounted_returns(rewards, GAMMA)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    one = returns.discounted_returns(rewards[0], GAMMA)
    np.testing.assert_array_equal(one, found[0])
    padded = np.concatenate([rewards, np.zeros((3, 4))], 1)
    np.testing.assert_array_equal(
        returns.discounted_returns(padded, GAMMA)[:, :6], found
    )


CALLS = [
    lambda r, v, a, x, y: gae(r, v, a, x, y, GAMMA, LAM),
    lambda r, v, a, x, y: returns.lambda_returns(r, a, x, y, GAMMA, LAM),
    lambda r, v, a, x, y: returns.n_step_returns(r, a, x, y, GAMMA, 3),
    lambda r, v, a, x, y: returns.discounted_returns(r, GAMMA, a, x, y),
    lambda r, v, a, x, y: returns.discounted_returns(r, GAMMA),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_and_numpy_agree_and_keep_the_type(call, dtype):
    arrays = [a if a.dtype == bool else a.astype(dtype) for a in record(3)]
    tensors = [torch.from_numpy(a) for a in arrays]
    ours, theirs = call(*arrays), call(*tensors)
    assert ours.dtype == dtype and theirs.dtype == getattr(torch, dtype)
    atol = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=atol)


def test_numbers_that_are_no_floats_become_floats():
    assert returns.discounted_returns([[1, 2]], 0.5).dtype == np.float64
    assert returns.discounted_returns(torch.tensor([[1, 2]]), 0.5).tolist() == [[2, 2]]


def test_gradients_flow_and_nothing_is_changed():
    arrays = record(2)
    r, v, a, x, y = (torch.from_numpy(b.copy()) for b in arrays)
    v.requires_grad_()
    gae(r, v, a, x, y, GAMMA, LAM)[:, 0].sum().backward()
    # dA_0/dV_0 = -1, dA_0/dV_1 = -gamma lam inside an episode, with V' held fixed.
    inside = ~(x | y)[:, 0]
    assert v.grad[:, 0].tolist() == [-1.0] * 6
    np.testing.assert_allclose(v.grad[:, 1], -GAMMA * LAM * inside)
    for kept, tensor in zip(arrays, (r, v.detach(), a, x, y), strict=True):
        np.testing.assert_array_equal(kept, tensor)


def test_torch_is_not_imported():
    code = "import sys, rlbook_utils.core.returns as r; r.discounted_returns([1.0], 1)"
    check = f"{code}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


# Pitfalls


def test_pitfall_1_zero_bootstrap_at_a_time_limit():
    # One state for ever, r = 1, gamma = .9, V = 10 exact: every advantage is 0. The
    # clock stops after 3 steps; merged with the end of the world A_2 = 1 - 10 = -9.
    ones, tens = np.ones((1, 3)), np.full((1, 3), 10.0)
    none, clock = np.zeros((1, 3), bool), np.array([[False, False, True]])
    right = gae(ones, tens, tens, none, clock, 0.9, 0.95)
    wrong = gae(ones, tens, tens, clock, none, 0.9, 0.95)
    np.testing.assert_allclose(right, 0.0, atol=1e-12)
    assert wrong[0, 2] == pytest.approx(-9.0) and wrong[0, 0] < -6


def shifted_gae(rewards, values, last_value, terminated, truncated, gamma, lam):
    """Bootstrap from the next row, whichever episode it belongs to (wrong)."""
    ahead, advantage, found = last_value, 0.0, []
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * ahead * ~terminated[:, t] - values[:, t]
        cut = terminated[:, t] | truncated[:, t]
        advantage = delta + gamma * lam * advantage * ~cut
        found.append(advantage)
        ahead = values[:, t]
    return np.stack(found[::-1], 1)


def test_pitfall_2_the_next_episode_leaks_in():
    rewards, values = np.zeros((1, 2)), np.array([[1.0, 5.0]])
    none, clock = np.zeros((1, 2), bool), np.array([[True, False]])
    # Step 0 is truncated in a state worth 2; then a new episode starts, worth 5.
    # Right: 0 + 1 * 2 - 1 = 1. With the next row: 0 + 1 * 5 - 1 = 4.
    after = np.array([[2.0, 0.0]])
    assert gae(rewards, values, after, none, clock, 1.0, 0.5)[0, 0] == 1.0
    wrong = shifted_gae(rewards, values, np.zeros(1), none, clock, 1.0, 0.5)
    assert wrong[0, 0] == 4.0


def test_pitfall_2_terminated_wins():
    given = [[0.0]], [[1.0]], [[7.0]], [[True]], [[True]]
    assert gae(*given, 1.0, 1.0).tolist() == [[-1.0]]
    # The clock first would bootstrap: 0 + 7 - 1 = 6.
    given = [[0.0]], [[1.0]], [[7.0]], [[False]], [[True]]
    assert gae(*given, 1.0, 1.0).tolist() == [[6.0]]


def doubled_gae(rewards, values, after, gamma, lam):
    """Add the bootstrap to the last reward and use it again (wrong)."""
    rewards = rewards.copy()
    rewards[:, -1] += gamma * after[:, -1]
    flags = np.zeros(rewards.shape, bool)
    return gae(rewards, values, after, flags, flags, gamma, lam)


def test_pitfall_3_bootstrap_counted_twice():
    rewards, values, after, *_ = record(1)
    flags = np.zeros(rewards.shape, bool)
    after = np.concatenate([values[:, 1:], after[:, -1:]], 1)
    powers = GAMMA ** np.arange(9)
    identity = rewards @ powers + GAMMA**9 * after[:, -1] - values[:, 0]
    right = gae(rewards, values, after, flags, flags, GAMMA, 1.0)
    wrong = doubled_gae(rewards, values, after, GAMMA, 1.0)
    np.testing.assert_allclose(right[:, 0], identity, atol=1e-12)
    np.testing.assert_allclose(
        wrong[:, 0] - identity, GAMMA**9 * after[:, -1], atol=1e-12
    )
    assert abs(wrong[:, 0] - identity).max() > 0.1


def test_pitfall_31_from_the_start_and_the_last_exponent():
    rewards = np.array([[1.0, 2.0, 4.0]])
    right = returns.discounted_returns(rewards, 0.5)
    from_start = np.cumsum(rewards * 0.5 ** np.arange(3), 1)
    assert right.tolist() == [[3.0, 4.0, 4.0]]
    assert from_start.tolist() == [[1.0, 2.0, 3.0]]
    # delta = (1, 1, 1), gamma lam = .5: A_0 = 1 + .5 + .5^(T-t-1) = 1.75 with T = 3.
    # Read with the last exponent T - t + 1 = 4 it would be 1 + .5 + .0625 = 1.5625.
    ones, zeros, no = np.ones((1, 3)), np.zeros((1, 3)), np.zeros((1, 3), bool)
    found = gae(ones, zeros, zeros, no, no, 1.0, 0.5)[0, 0]
    assert found == 1.75 != 1 + 0.5 + 0.5 ** (3 - 0 + 1)


# What is refused


R, V, A, OVER, CLOCK = record(0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gae(R, V, A, OVER, CLOCK, 1.5, LAM), "gamma is 1.5"),
        (lambda: gae(R, V, A, OVER, CLOCK, GAMMA, -0.5), "lam is -0.5"),
        (lambda: gae(R, V, A, OVER, CLOCK, NAN, LAM), "gamma is nan"),
        (
            lambda: gae(R, V, A, OVER[:, :8], CLOCK, GAMMA, LAM),
            "rewards has shape (6, 9), terminated (6, 8): they must agree",
        ),
        (
            lambda: gae(R, V[:, :1], A, OVER, CLOCK, GAMMA, LAM),
            "rewards has shape (6, 9), values (6, 1): they must agree",
        ),
        (
            lambda: gae(R[:, :1], V[:, 0], A[:, 0], OVER[:, 0], CLOCK[:, 0], 1, 1),
            "rewards has shape (6, 1), next_values (6,): they must agree",
        ),
        (lambda: gae(R + NAN, V, A, OVER, CLOCK, GAMMA, LAM), "rewards has nan"),
        (lambda: gae(R, V / 0, A, OVER, CLOCK, GAMMA, LAM), "values has "),
        (lambda: gae(R, V, A + NAN, OVER, CLOCK, GAMMA, LAM), "next_values has nan"),
        (
            lambda: gae(R, V, A, OVER * 1.0, CLOCK, GAMMA, LAM),
            "terminated has dtype float64: it must be bool",
        ),
        (
            lambda: gae(R, V, A, OVER, CLOCK * 1, GAMMA, LAM),
            "truncated has dtype int64: it must be bool",
        ),
        (
            lambda: gae(torch.tensor(R), V, A, OVER, CLOCK, GAMMA, LAM),
            "some arguments are torch tensors, some are not",
        ),
        (lambda: returns.n_step_returns(R, A, OVER, CLOCK, GAMMA, 0), "n is 0"),
        (lambda: returns.n_step_returns(R, A, OVER, CLOCK, GAMMA, 1.5), "n is 1.5"),
        (lambda: returns.lambda_returns(R, A, OVER, CLOCK, GAMMA, 2.0), "lam is 2.0"),
        (lambda: returns.discounted_returns(R, 7.0), "gamma is 7.0"),
        (lambda: returns.discounted_returns(1.0, 1.0), "rewards has shape ()"),
        (lambda: returns.discounted_returns([[]], 1.0), "rewards has shape (1, 0)"),
        (lambda: returns.discounted_returns(["a"], 1.0), "rewards has dtype <U1"),
        (
            lambda: returns.discounted_returns(R, 1.0, truncated=CLOCK),
            "give next_values, terminated and truncated together, or none",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        call()
