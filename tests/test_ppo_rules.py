"""The displayed rules of the chapter on PPO, to the letter."""

import math

import numpy as np
import pytest
import torch

from rlbook_utils import ppo
from rlbook_utils.nets.networks import Judged
from rlbook_utils.policy_gradient import softmax
from rlbook_utils.worlds import mdp

SEEDS = range(5)
GAMMA = 0.9


def pair(seed):
    """Return a world, two policies and the old one's advantages."""
    rng = np.random.default_rng(seed)
    m = mdp.random_mdp(3, 2, rng, successors=2, gamma=GAMMA)
    old, new = softmax(rng.normal(size=(2, 3, 2)))
    v = m.evaluate(old)
    return m, old, new, m.q_values(v) - v[:, None]


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_ppo_difference(seed):
    m, old, new, A = pair(seed)
    d = m.occupancy(new)
    right = m.start @ m.evaluate(old)
    right += sum(d[s] * new[s, a] * A[s, a] for s in range(3) for a in range(2))
    assert m.start @ m.evaluate(new) == pytest.approx(right)
    assert ppo.improvement_bound(m, old, new).new == pytest.approx(right)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_ppo_surrogate(seed):
    m, old, new, A = pair(seed)
    d = m.occupancy(old)
    L = m.start @ m.evaluate(old)
    L += sum(d[s] * new[s, a] * A[s, a] for s in range(3) for a in range(2))
    assert ppo.improvement_bound(m, old, new).surrogate == pytest.approx(L)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_ppo_ratio(seed):
    m, old, new, A = pair(seed)
    d = (1 - GAMMA) * m.occupancy(old)
    assert d.sum() == pytest.approx(1)
    mean = sum(
        d[s] * old[s, a] * (new[s, a] / old[s, a]) * A[s, a]
        for s in range(3)
        for a in range(2)
    )
    found = ppo.improvement_bound(m, old, new)
    assert found.surrogate == pytest.approx(found.old + mean / (1 - GAMMA))


@pytest.mark.parametrize("seed", range(20))
def test_eq_ppo_bound(seed):
    m, old, new, A = pair(seed)
    C = 4 * np.abs(A).max() * GAMMA / (1 - GAMMA) ** 2
    worst = max(
        sum(old[s, a] * math.log(old[s, a] / new[s, a]) for a in range(2))
        for s in range(3)
    )
    found = ppo.improvement_bound(m, old, new)
    assert found.bound == pytest.approx(found.surrogate - C * worst)
    assert found.new >= found.bound
    # The proof: C alpha^2, with the largest total variation distance.
    alpha = np.abs(old - new).sum(1).max() / 2
    assert abs(found.new - found.surrogate) <= C * alpha**2 <= C * worst / 2 + 1e-12


def stepped(radius, seed=0):
    m, old, _, A = pair(seed)
    start = np.log(old)
    theta = torch.tensor(start, requires_grad=True)
    weights = torch.tensor(m.occupancy(old)[:, None] * old)

    def gain():
        new = theta.log_softmax(1)
        return (weights * (new - torch.tensor(start)).exp() * torch.tensor(A)).sum()

    def kl():
        log_ratio = theta.log_softmax(1) - torch.tensor(start)
        return -((1 - GAMMA) * weights * log_ratio).sum()

    step = ppo.trust_region_step([theta], gain, kl, radius, damping=1e-12)
    return m, old, A, step, theta.detach().numpy() - start


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_ppo_constraint(seed):
    m, old, _, step, moved = stepped(0.01, seed)
    new = softmax(np.log(old) + moved)
    found = ppo.improvement_bound(m, old, new)
    assert found.mean_kl == pytest.approx(step.kl) and step.kl <= 0.01
    assert found.surrogate - found.old == pytest.approx(step.gain) and step.gain > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_ppo_natural(seed):
    m, old, A, step, moved = stepped(1e-4, seed)
    visits = (1 - GAMMA) * m.occupancy(old)
    F = np.zeros((6, 6))
    for s in range(3):
        block = np.diag(old[s]) - np.outer(old[s], old[s])
        F[2 * s : 2 * s + 2, 2 * s : 2 * s + 2] = visits[s] * block
    g = (m.occupancy(old)[:, None] * old * A).ravel()
    x = np.linalg.pinv(F) @ g
    full = math.sqrt(2 * 1e-4 / (x @ F @ x)) * x
    np.testing.assert_allclose(moved.ravel(), step.share * full, rtol=1e-4)


def test_eq_ppo_clip():
    for A in (1.5, -1.5):
        for rho in (0.5, 0.9, 1.0, 1.1, 1.5):
            literal = min(rho * A, min(max(rho, 1 - 0.2), 1 + 0.2) * A)
            found = ppo.clipped_loss(
                torch.tensor([math.log(rho)]), torch.tensor([A]), 0.2
            )
            assert -found.item() == pytest.approx(literal, rel=1e-6)


def sample(values):
    parts = [torch.tensor([float(x)]) for x in values]
    return Judged(*parts[:3]), ppo.Samples(parts[0], parts[0], *parts[3:])


def test_eq_ppo_penalty():
    rho, A, beta = 1.4, 2.0, 0.7
    literal = rho * A - beta * (rho - 1 - math.log(rho))
    judged, data = sample([math.log(rho), 0, 0, 0, A, 0, 0])
    c = ppo.Settings(clip=None, normalize=False)
    found = ppo.ppo_loss(judged, data, c, beta)
    assert -found.item() == pytest.approx(literal, rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_ppo_kl(seed):
    _, old, new, _ = pair(seed)
    rho = new / old
    terms = ppo.kl_terms(torch.tensor(np.log(rho))).numpy()
    np.testing.assert_allclose(terms, rho - 1 - np.log(rho), atol=1e-12)
    kl = (old * np.log(old / new)).sum(1)
    np.testing.assert_allclose((old * terms).sum(1), kl)
    np.testing.assert_allclose((old * -np.log(rho)).sum(1), kl)


def test_eq_ppo_adapt():
    for d in np.linspace(0.001, 0.03, 59):
        beta = 3.0
        if d < 0.01 / 1.5:
            literal = beta / 2
        elif d > 1.5 * 0.01:
            literal = 2 * beta
        else:
            literal = beta
        assert ppo.adapted(beta, d, 0.01) == literal


def test_eq_ppo_value():
    for V in (-1.0, 0.1, 0.9):
        for y in (-2.0, 0.0, 2.0):
            clip = 0.0 + min(max(V - 0.0, -0.2), 0.2)
            literal = max((V - y) ** 2, (clip - y) ** 2)
            parts = [torch.tensor([x]) for x in (V, y, 0.0)]
            assert ppo.value_loss(*parts, 0.2).item() == pytest.approx(literal)


def test_eq_ppo_loss():
    rho, A, V, y, H = 1.4, 2.0, 1.0, 3.0, 0.5
    judged, data = sample([math.log(rho), H, V, 0, A, y, 0.9])
    c = ppo.Settings(normalize=False, entropy_weight=0.01, value_weight=0.5)
    literal = -min(rho * A, 1.2 * A) + 0.5 * (V - y) ** 2 - 0.01 * H
    assert ppo.ppo_loss(judged, data, c).item() == pytest.approx(literal, rel=1e-6)
