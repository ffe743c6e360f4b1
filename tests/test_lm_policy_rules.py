"""The displayed rules of the chapter on language models, to the letter."""

import math

import pytest
import torch

from rlbook_utils import lm_policy as lm
from rlbook_utils.core import kl
from rlbook_utils.nets.transformer import GPT
from rlbook_utils.worlds import tasks
from rlbook_utils.worlds.token_mdp import expected_gradient, random_objective

SEEDS = range(5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def world(seed, eos=None):
    return random_objective(seeded(seed), vocabulary=4, length=3, prompts=2, eos=eos)


def conditional(table, language, x, prefix):
    """Return the row of a prefix, found by counting."""
    V, row = language.vocabulary, 0
    for t in range(len(prefix)):
        row += V**t
    for place, token in enumerate(reversed(prefix)):
        row += token * V**place
    return table.softmax(-1)[x, row]


@pytest.mark.parametrize("eos", [None, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_eq_lm_chain(seed, eos):
    goal = world(seed, eos)
    language = goal.language
    found = language.log_probs(goal.reference)
    for x in range(2):
        for n in range(0, len(language.responses), 7):
            y = language.responses[n][language.mask[n]].tolist()
            total = sum(
                conditional(goal.reference, language, x, y[:t])[y[t]].log()
                for t in range(len(y))
            )
            assert found[x, n].item() == pytest.approx(total.item())


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_lm_shift(seed):
    logits = torch.randn(3, 6, 5, generator=seeded(seed))
    w = torch.randint(5, (3, 6), generator=seeded(seed))
    m = torch.rand(3, 6, generator=seeded(seed)) < 0.6
    m[:, 0], m[:, 3] = False, True
    found = lm.token_log_probs(logits, w, m).sum(1)
    for i in range(3):
        total = 0.0
        for t in range(1, 6):
            chances = logits[i, t - 1].exp() / logits[i, t - 1].exp().sum()
            total += float(m[i, t]) * math.log(chances[w[i, t]])
        assert found[i].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_eq_lm_temperature(alpha):
    z = torch.randn(1, 2, 6, generator=seeded())
    for a in range(6):
        tokens = torch.tensor([[0, a]])
        found = lm.token_log_probs(z, tokens, tokens >= torch.tensor([[9, 0]]), alpha)
        right = torch.exp(z[0, 0, a] / alpha) / torch.exp(z[0, 0] / alpha).sum()
        assert found.exp().item() == pytest.approx(right.item(), rel=1e-5)


@pytest.mark.parametrize("alpha", [0.3, 0.7, 2.0])
def test_eq_lm_sharp(alpha):
    goal = world(0)
    language, table = goal.language, goal.reference
    found = language.log_probs(table / alpha).exp()
    plain = language.log_probs(table).exp()
    for n in range(0, 64, 5):
        y = language.responses[n].tolist()
        S = [
            (conditional(table, language, 0, y[:t]) ** (1 / alpha)).sum()
            for t in range(3)
        ]
        right = plain[0, n] ** (1 / alpha) / math.prod(S)
        assert found[0, n].item() == pytest.approx(right.item())
    whole = plain ** (1 / alpha) / (plain ** (1 / alpha)).sum(1, True)
    assert kl.exact_kl(found.log(), whole.log()).min() > 1e-3


def values_of(goal, x, y):
    """Return V of the prefixes of y by averaging over all that begin like it."""
    language, p = goal.language, goal.language.log_probs(goal.reference)[x].exp()
    values = []
    for t in range(len(y) + 1):
        same = (language.responses[:, :t] == torch.tensor(y[:t])).all(1)
        values.append((p[same] @ goal.reward[x][same] / p[same].sum()).item())
    return values


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_lm_advantage(seed):
    # A = Q - V, and Q of an action is the value of the longer prefix.
    goal = world(seed)
    for x in range(2):
        for n in (0, 17, 42):
            y = goal.language.responses[n].tolist()
            values = values_of(goal, x, y)
            for t in range(3):
                row = conditional(goal.reference, goal.language, x, y[:t])
                q = [values_of(goal, x, [*y[:t], a])[-1] for a in range(4)]
                assert row @ torch.tensor(q).double() == pytest.approx(
                    values[t], abs=1e-6
                )
                assert q[y[t]] == pytest.approx(values[t + 1])
            assert values[-1] == pytest.approx(goal.reward[x, n].item())


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_lm_telescope(seed):
    # V by backward induction, r only at the end; A = V after minus V before.
    goal = world(seed)
    language, table = goal.language, goal.reference

    def value(prefix):
        if len(prefix) == 3:
            return goal.reward[1, language.number(torch.tensor(prefix))].item()
        row = conditional(table, language, 1, prefix)
        return sum(row[a].item() * value([*prefix, a]) for a in range(4))

    for n in range(0, 64, 9):
        y = language.responses[n].tolist()
        advantages = [value(y[: t + 1]) - value(y[:t]) for t in range(3)]
        assert sum(advantages) == pytest.approx(
            goal.reward[1, n].item() - values_of(goal, 1, y)[0]
        )
    for prefix in ([], [2], [0, 3]):
        row = conditional(table, language, 1, prefix)
        mean = sum(
            row[a].item() * (values_of(goal, 1, [*prefix, a])[-1] - value(prefix))
            for a in range(4)
        )
        assert mean == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_lm_gradient(seed):
    goal = world(seed)
    language = goal.language
    table = goal.reference.clone().requires_grad_()
    J = (language.log_probs(table).exp() * goal.reward).sum()
    exact = torch.autograd.grad(J, table)[0]
    baseline = torch.tensor([[3.0], [-2.0]])
    advantages = torch.tensor(
        [[values_of(goal, x, y) for y in language.responses.tolist()] for x in range(2)]
    ).diff(dim=-1)
    for loss in (
        lambda logp: (goal.reward - baseline) * logp.sum(-1),
        lambda logp: (advantages * logp).sum(-1),
    ):
        found = expected_gradient(language, goal.reference, loss)
        torch.testing.assert_close(found, exact, atol=1e-7, rtol=1e-5)


def test_eq_lm_sft():
    digits = tasks.addition_tokenizer()
    net = GPT(len(digits), 12, seeded())
    w, mask, m = digits.batch(*tasks.addition(5, seeded()))
    logits = net(w, mask)
    found, above, below = lm.sft_loss(logits, w, m), 0.0, 0
    for i in range(5):
        for t in range(1, w.shape[1]):
            chance = logits[i, t - 1].softmax(0)[w[i, t]]
            above += float(m[i, t]) * chance.log().item()
            below += int(m[i, t])
    assert found.item() == pytest.approx(-above / below, rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_lm_imitation(seed):
    goal = world(seed)
    p, pi = goal.optimum.log_probs, goal.reference_log_probs
    for x in range(2):
        left = -(p[x].exp() * pi[x]).sum()
        entropy = -(p[x].exp() * p[x]).sum()
        right = entropy + kl.exact_kl(p[x], pi[x])
        assert left.item() == pytest.approx(right.item())
