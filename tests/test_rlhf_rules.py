"""The displayed rules of the chapter on human feedback, to the letter."""

import math

import numpy as np
import pytest
import torch

from rlbook_utils import rlhf
from rlbook_utils.core import kl
from rlbook_utils.worlds import tasks, token_mdp

SEEDS = range(5)


def small(seed, **sizes):
    return token_mdp.random_objective(
        torch.Generator().manual_seed(seed), vocabulary=4, length=3, beta=0.5, **sizes
    )


def some_logits(goal, seed=7):
    return torch.randn(
        *goal.language.shape,
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def slope(value, logits):
    table = logits.clone().requires_grad_()
    return torch.autograd.grad(value(table).sum(), table)[0]


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_eq_rlhf_bt():
    dice = torch.Generator().manual_seed(0)
    one, two = torch.full((40_000,), 0.8), torch.full((40_000,), 0.1)
    share = tasks.prefer(one, two, dice).double().mean().item()
    assert share == pytest.approx(sigmoid(0.8 - 0.1), abs=4 * 0.5 / 200)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_rlhf_nll(seed):
    w, other = np.random.default_rng(seed).normal(size=(2, 20))
    loss = -np.mean([math.log(sigmoid(a - b)) for a, b in zip(w, other, strict=True)])
    ours = rlhf.bradley_terry_loss(torch.tensor(w), torch.tensor(other)).mean()
    assert ours.item() == pytest.approx(loss)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_rlhf_objective(seed):
    goal = small(seed, prompts=2)
    logits = some_logits(goal)
    p = goal.language.log_probs(logits).exp()
    q = goal.reference_log_probs.exp()
    for x in range(2):
        value = sum(
            p[x, y] * (goal.reward[x, y] - 0.5 * (p[x, y] / q[x, y]).log())
            for y in range(64)
        )
        close(goal.value(logits)[x], value)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_rlhf_optimum(seed):
    goal = small(seed)
    weights = goal.reference_log_probs.exp() * (goal.reward / 0.5).exp()
    close(goal.optimum.log_probs.exp(), weights / weights.sum())
    close(goal.optimum.value, 0.5 * weights.sum(1).log())


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_rlhf_gap(seed):
    goal = small(seed)
    logits = some_logits(goal, seed)
    logp = goal.language.log_probs(logits)
    far = (logp.exp() * (logp - goal.optimum.log_probs)).sum(1)
    close(goal.optimum.value - goal.value(logits), 0.5 * far)


def token_rewards_of(goal, logits):
    language, mask = goal.language, goal.language.mask
    logp = language.token_log_probs(logits)[0]
    logp_ref = language.token_log_probs(goal.reference)[0]
    return kl.token_rewards(goal.reward[0], logp, logp_ref, mask, 0.5), logp, logp_ref


@pytest.mark.parametrize("eos", [None, 0])
def test_eq_rlhf_tokens(eos):
    goal = small(1, eos=eos)
    paid, logp, logp_ref = token_rewards_of(goal, some_logits(goal))
    for y, kept in enumerate(goal.language.mask):
        length = int(kept.sum())
        for t in range(3):
            right = torch.tensor(0.0).double()
            if t < length:
                right = -0.5 * (logp[y, t] - logp_ref[y, t])
            if t == length - 1:
                right = right + goal.reward[0, y]
            close(paid[y, t], right)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_rlhf_gradient(seed):
    goal = small(seed)
    logits = some_logits(goal, seed).requires_grad_()
    paid, logp, _ = token_rewards_of(goal, logits)
    paid = paid.detach()
    sums = sum(logp[:, t] * sum(paid[:, u] for u in range(t, 3)) for t in range(3))
    mean = (logp.sum(1).exp().detach() * sums).sum()
    found = torch.autograd.grad(mean, logits)[0]
    close(found, slope(goal.value, logits.detach()))


def test_eq_rlhf_ppo():
    numbers = torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(0))
    logp, old, gaps, values, targets, entropy = numbers
    every = torch.ones(3, 2, dtype=torch.bool)
    rollout = rlhf.Rollout(
        every, every, every, every, old, old, old[:, 0], gaps, targets
    )
    settings = rlhf.Settings(2, 0.5, entropy_weight=0.3, clip=0.1)
    ours = rlhf.rlhf_loss(rlhf.Judged(logp, entropy), values, rollout, settings)
    for b in range(3):
        total = 0.0
        for t in range(2):
            rho = math.exp(logp[b, t] - old[b, t])
            inside = min(max(rho, 0.9), 1.1)
            total += -min(rho * gaps[b, t], inside * gaps[b, t])
            total += 0.5 * (values[b, t] - targets[b, t]) ** 2 - 0.3 * entropy[b, t]
        assert ours[b].item() == pytest.approx(float(total), rel=1e-5)


def test_eq_rlhf_estimators():
    d = torch.linspace(-3, 3, 13, dtype=torch.float64)
    close(kl.k1(d), d)
    close(kl.k2(d), d**2 / 2)
    close(kl.k3(d), (-d).exp() - 1 + d)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_rlhf_loss_gradients(seed):
    goal = small(seed)
    language, logits = goal.language, some_logits(goal, seed)
    reference = goal.reference_log_probs

    def found(k):
        def loss(logp):
            return k(logp.sum(-1) - reference)

        return token_mdp.expected_gradient(language, logits, loss)

    def reverse(table):
        return kl.exact_kl(language.log_probs(table), reference)

    def forward(table):
        return kl.exact_kl(reference, language.log_probs(table))

    close(found(lambda d: d), torch.zeros_like(logits))
    close(found(lambda d: d**2 / 2), slope(reverse, logits))
    close(found(lambda d: (-d).exp() - 1 + d), slope(forward, logits))


def tiny(seed):
    return token_mdp.random_objective(
        torch.Generator().manual_seed(seed), vocabulary=3, length=2, beta=0.5
    )


def forward_optimum(q, ref):
    """Beta ref / (zeta - q) of a list, zeta by halving."""
    low, high = max(q), max(q) + 0.5
    for _ in range(80):
        zeta = (low + high) / 2
        if sum(0.5 * b / (zeta - a) for a, b in zip(q, ref, strict=True)) > 1:
            low = zeta
        else:
            high = zeta
    return [0.5 * b / (high - a) for a, b in zip(q, ref, strict=True)]


def tilted(q, ref):
    weights = [b * math.exp(a / 0.5) for a, b in zip(q, ref, strict=True)]
    return [w / sum(weights) for w in weights]


def step_by_step(goal, step):
    """Logits whose rows follow the rule with the mean reward of what comes."""
    ref, rows = goal.reference[0].softmax(-1).tolist(), {}
    means = []
    for s in range(3):
        q = goal.reward[0, 3 * s : 3 * s + 3].tolist()
        rows[s + 1] = step(q, ref[s + 1])
        means.append(sum(p * a for p, a in zip(rows[s + 1], q, strict=True)))
    rows[0] = step(means, ref[0])
    return torch.tensor([[rows[s] for s in range(4)]], dtype=torch.float64).log()


def at_rest(goal, logits, **how):
    loss = goal.loss(where="loss", **how)
    return token_mdp.expected_gradient(goal.language, logits, loss).abs().max()


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_rlhf_forward(seed):
    """The gradient vanishes there, and at the optimum of the reverse KL it does not."""
    goal = tiny(seed)
    law = forward_optimum(
        goal.reward[0].tolist(), goal.reference_log_probs[0].exp().tolist()
    )
    assert sum(law) == pytest.approx(1)
    logits = goal.language.conditionals(torch.tensor([law]).double().log())
    assert at_rest(goal, logits, estimator="k3") < 1e-7
    assert at_rest(goal, goal.optimum.logits, estimator="k3") > 1e-3
    each = step_by_step(goal, forward_optimum)
    assert at_rest(goal, each, estimator="k3", level="token") < 1e-7
    assert at_rest(goal, logits, estimator="k3", level="token") > 1e-3


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "how", [{"estimator": "k2"}, {"estimator": "k3", "ratio": True}]
)
def test_eq_rlhf_steps(seed, how):
    goal = tiny(seed)
    each = step_by_step(goal, tilted)
    assert at_rest(goal, each, level="token", **how) < 1e-7
    assert at_rest(goal, goal.optimum.logits, level="token", **how) > 1e-3
    assert at_rest(goal, goal.optimum.logits, **how) < 1e-7
    assert at_rest(goal, goal.optimum.logits, estimator="k1", ratio=True) < 1e-7


@pytest.mark.parametrize("n", [1, 3, 8])
def test_eq_rlhf_bon(n):
    goal = small(2)
    p, r = goal.reference_log_probs[0].exp(), goal.reward[0].round(decimals=0)
    law = rlhf.best_of_n(p.log(), r, n)
    for y in range(64):
        upto, below = p[r <= r[y]].sum(), p[r < r[y]].sum()
        close(law[y], p[y] * (upto**n - below**n) / (upto - below))


@pytest.mark.parametrize("n", [1, 2, 16, 256])
def test_eq_rlhf_bon_kl(n):
    goal = small(3)
    logs = goal.reference_log_probs[0]
    cost = kl.exact_kl(rlhf.best_of_n(logs.exp().log(), goal.reward[0], n).log(), logs)
    bound = math.log(n) - (n - 1) / n
    assert rlhf.best_of_n_bound(n) == pytest.approx(bound)
    assert cost.item() <= bound + 1e-12
