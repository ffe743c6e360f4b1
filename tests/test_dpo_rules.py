"""The displayed rules of the chapter on DPO, to the letter."""

import math

import pytest
import torch

from rlbook_utils import dpo
from rlbook_utils.worlds.token_mdp import random_objective

SEEDS = range(5)


def a_goal(seed):
    dice = torch.Generator().manual_seed(seed)
    return random_objective(dice, vocabulary=3, length=2, beta=0.4)


def some_logits(goal, seed):
    dice = torch.Generator().manual_seed(seed + 70)
    return torch.randn(*goal.language.shape, generator=dice, dtype=torch.float64)


def ratios(goal, logits):
    return (goal.language.log_probs(logits) - goal.reference_log_probs)[0].tolist()


def sigmoid(u):
    return 1 / (1 + math.exp(-u))


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_dpo_optimum(seed):
    goal = a_goal(seed)
    ref, r = goal.reference_log_probs[0].exp().tolist(), goal.reward[0].tolist()
    Z = sum(p * math.exp(x / 0.4) for p, x in zip(ref, r, strict=True))
    best = [p * math.exp(x / 0.4) / Z for p, x in zip(ref, r, strict=True)]
    assert goal.optimum.log_probs[0].exp().tolist() == pytest.approx(best)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_dpo_gap(seed):
    goal = a_goal(seed)
    logits = some_logits(goal, seed)
    ref, r = goal.reference_log_probs[0].exp().tolist(), goal.reward[0].tolist()
    p = goal.language.log_probs(logits)[0].exp().tolist()
    Z = sum(q * math.exp(x / 0.4) for q, x in zip(ref, r, strict=True))
    best = [q * math.exp(x / 0.4) / Z for q, x in zip(ref, r, strict=True)]
    kl = sum(x * math.log(x / y) for x, y in zip(p, best, strict=True))
    assert goal.value(logits).item() == pytest.approx(0.4 * math.log(Z) - 0.4 * kl)
    assert goal.distance(logits).item() == pytest.approx(kl)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_dpo_reward(seed):
    goal = a_goal(seed)
    ref, r = goal.reference_log_probs[0].exp().tolist(), goal.reward[0].tolist()
    Z = sum(q * math.exp(x / 0.4) for q, x in zip(ref, r, strict=True))
    log_z = math.log(Z)
    h = ratios(goal, goal.optimum.logits)
    right = [0.4 * x + 0.4 * log_z for x in h]
    assert goal.reward[0].tolist() == pytest.approx(right, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_dpo_loss(seed):
    goal = a_goal(seed)
    h = ratios(goal, some_logits(goal, seed))
    for w in range(9):
        loss = -math.log(sigmoid(0.4 * (h[w] - h[3])))
        found = dpo.dpo_loss(torch.tensor(h[w]), torch.tensor(h[3]), 0.4)
        assert found.item() == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_dpo_gradient(seed):
    goal = a_goal(seed)
    table = some_logits(goal, seed).requires_grad_()
    logs = goal.language.log_probs(table)[0]
    up, down = (
        torch.autograd.grad(logs[k], table, retain_graph=True)[0] for k in (5, 2)
    )
    h = ratios(goal, table.detach())
    right = -0.4 * sigmoid(-0.4 * (h[5] - h[2])) * (up - down)
    pair = dpo.pair_log_ratios(goal, table, torch.tensor([[[5, 2]]]))
    loss = dpo.dpo_loss(pair[..., 0], pair[..., 1], 0.4)
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), table)[0], right)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_dpo_population(seed):
    goal = a_goal(seed)
    logits, r = some_logits(goal, seed), goal.reward[0].tolist()
    h, nu = ratios(goal, logits), goal.reference_log_probs[0].exp().tolist()
    total = 0.0
    for i in range(9):
        for j in range(9):
            loss = -math.log(sigmoid(0.4 * (h[i] - h[j])))
            total += 2 * nu[i] * nu[j] * sigmoid(r[i] - r[j]) * loss
    found = dpo.expected_loss(goal, logits, lambda w, b: dpo.dpo_loss(w, b, 0.4))
    assert found.item() == pytest.approx(total, abs=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_dpo_free(seed):
    goal = a_goal(seed)
    shown = goal.language.responses[:, 0] == 0
    nu = goal.reference_log_probs.exp() * shown
    nu = nu / nu.sum()
    law = goal.language.log_probs(some_logits(goal, seed))
    mass = law.exp()[0, shown].sum().item()
    c = math.log(0.5 * (1 + mass) / mass)
    rest = math.log(0.5 * (1 - mass) / (1 - mass))
    moved = torch.where(shown, law + c, law + rest)
    assert moved.exp().sum().item() == pytest.approx(1)
    found = [
        dpo.expected_loss(
            goal,
            goal.language.conditionals(x),
            lambda w, b: dpo.dpo_loss(w, b, 0.4),
            behavior=nu,
        ).item()
        for x in (law, moved)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_dpo_ipo(seed):
    goal = a_goal(seed)
    h = ratios(goal, some_logits(goal, seed))
    found = dpo.ipo_loss(torch.tensor(h[1]), torch.tensor(h[7]), 0.4)
    right = (h[1] - h[7] - 1 / (2 * 0.4)) ** 2
    assert found.item() == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_dpo_ipo_optimum(seed):
    goal = a_goal(seed)
    r, nu = goal.reward[0].tolist(), goal.reference_log_probs[0].exp().tolist()
    wins = [sum(p * sigmoid(x - y) for p, y in zip(nu, r, strict=True)) for x in r]
    weights = [p * math.exp(w / 0.4) for p, w in zip(nu, wins, strict=True)]
    law = torch.tensor([[w / sum(weights) for w in weights]], dtype=torch.float64)
    table = goal.language.conditionals(law.log()).requires_grad_()
    mean = dpo.expected_loss(goal, table, lambda w, b: dpo.ipo_loss(w, b, 0.4))
    slope = torch.autograd.grad(mean.sum(), table)[0]
    assert slope.abs().max() < 1e-10


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_dpo_kto(seed):
    goal, z = a_goal(seed), 0.2
    h = ratios(goal, some_logits(goal, seed))
    label = torch.arange(9) % 2 == 0
    found = dpo.kto_loss(
        torch.tensor(h), label, torch.tensor(z), 0.4, (1.5, 0.5)
    ).tolist()
    for k in range(9):
        liked = 1.5 * sigmoid(0.4 * (z - h[k]))
        right = liked if k % 2 == 0 else 0.5 * sigmoid(0.4 * (h[k] - z))
        assert found[k] == pytest.approx(right, abs=1e-6)
