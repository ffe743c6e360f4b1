"""The displayed rules of the chapter on MDPs, evaluated to the letter."""

import itertools

import numpy as np
import pytest

from rlbook_utils.worlds import mdp

GAMMA = 0.9
P = np.array(
    [
        [[0.6, 0.4, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]],
        [[1.0, 0.0, 0.0], [0.8, 0.2, 0.0], [0.0, 0.0, 1.0]],
    ]
)
R = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
PI = np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])


def courier(start=0, gamma=GAMMA):
    return mdp.TabularMDP(P, R, gamma=gamma, start=start, terminal=[2])


def test_eq_mdp_markov():
    every = courier().enumerate(3, PI)
    # Whatever happened before step 2, the chance of step 3 given (s_2, a_2) is P.
    key = every.states[:, 2] * 2 + every.actions[:, 2]
    pasts = every.states[:, :2] @ [3, 1]
    for past, now in set(zip(pasts.tolist(), key.tolist(), strict=True)):
        chosen = (pasts == past) & (key == now)
        if (every.actions[chosen, 2] < 0).any():
            continue
        weight = every.probabilities[chosen]
        after = np.bincount(every.states[chosen, 3], weight, minlength=3)
        s, a = divmod(now, 2)
        np.testing.assert_allclose(after / weight.sum(), P[a, s], atol=1e-12)


def test_eq_mdp_marginal():
    mu = np.array([1.0, 0.0, 0.0])
    every = courier().enumerate(6, PI)
    for t in range(7):
        counted = np.bincount(every.states[:, t], every.probabilities, minlength=3)
        np.testing.assert_allclose(mu, counted, atol=1e-12)
        mu = sum(
            mu[s] * PI[s, a] * P[a, s] for s, a in itertools.product(range(3), (0, 1))
        )


def test_eq_mdp_return():
    every = courier().enumerate(5, PI)
    literal = [sum(GAMMA**k * x for k, x in enumerate(row)) for row in every.rewards]
    np.testing.assert_allclose(every.returns, literal, atol=1e-12)


def test_eq_mdp_survival():
    # Dying with probability 1 - gamma is a move to home: the same J, undiscounted.
    mortal = GAMMA * P
    mortal[:, :2, 2] += 1 - GAMMA
    mortal[:, 2, 2] = 1.0
    alive = mdp.TabularMDP(mortal, R, gamma=1.0, start=0, terminal=[2])
    np.testing.assert_allclose(alive.evaluate(PI), courier().evaluate(PI), atol=1e-12)


def test_eq_mdp_occupancy():
    visits, mu = np.zeros(3), np.array([1.0, 0.0, 0.0])
    for t in range(400):
        visits += GAMMA**t * mu
        mu = np.einsum("s,sa,ast->t", mu, PI, P)
    np.testing.assert_allclose(courier().occupancy(PI), visits, atol=1e-12)
    assert visits.sum() == pytest.approx(1 / (1 - GAMMA))


def test_eq_mdp_flow():
    d = courier().occupancy(PI)
    moved = np.einsum("s,sa,ast->t", d, PI, P)
    np.testing.assert_allclose(d, [1.0, 0.0, 0.0] + GAMMA * moved, atol=1e-12)
    objective = (d[:, None] * PI * R).sum()
    assert objective == pytest.approx(courier().evaluate(PI)[0], abs=1e-12)


def test_eq_mdp_truncation():
    values = courier().evaluate(PI)
    every = courier().enumerate(4, PI)
    ended = every.states[:, -1] == 2
    rest = GAMMA**4 * np.where(ended, 0.0, values[every.states[:, -1]])
    whole = every.probabilities @ (every.returns + rest)
    assert whole == pytest.approx(values[0], abs=1e-12)
    # The wrong version, 0 at the clock's end, misses what was cut off.
    assert every.probabilities @ every.returns < values[0] - 1
