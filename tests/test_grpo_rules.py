"""The displayed rules of the chapter on GRPO, to the letter."""

import itertools
import math

import pytest
import torch

from rlbook_utils import grpo
from rlbook_utils.grpo import Recipe, Rollout
from rlbook_utils.lm_policy import masked_mean
from rlbook_utils.worlds.token_mdp import TokenMDP

SEEDS = range(5)


def some_rewards(seed, size=5):
    dice = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=dice, dtype=torch.float64)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_grpo_rloo(seed):
    r = some_rewards(seed).tolist()
    mean = sum(r) / 5
    found = grpo.group_advantages(torch.tensor(r), "others").tolist()
    for i in range(5):
        others = sum(r[j] for j in range(5) if j != i) / 4
        assert found[i] == pytest.approx(r[i] - others, abs=1e-6)
        assert found[i] == pytest.approx(5 / 4 * (r[i] - mean), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_grpo_advantage(seed):
    r = some_rewards(seed).tolist()
    mean = sum(r) / 5
    s = math.sqrt(sum((x - mean) ** 2 for x in r) / 4)
    found = grpo.group_advantages(torch.tensor(r), "std").tolist()
    assert found == pytest.approx([(x - mean) / s for x in r], abs=1e-6)


@pytest.mark.parametrize("size", [2, 8, 16])
@pytest.mark.parametrize("p", [0.01, 0.3, 0.8])
def test_eq_grpo_multiplier(size, p):
    mean = 0.0
    for k in range(size + 1):
        chance = math.comb(size, k) * p**k * (1 - p) ** (size - k)
        mean += chance * math.sqrt(k * (size - k) * (size - 1) / size)
    right = mean / (size * p * (1 - p))
    assert grpo.multiplier(p, size).item() == pytest.approx(right)


def test_eq_grpo_silent():
    for p, size in itertools.product((0.0, 0.2, 0.5, 1.0), (2, 8)):
        total = 0.0
        for rewards in itertools.product((0, 1), repeat=size):
            if len(set(rewards)) == 1:
                total += math.prod(p if r else 1 - p for r in rewards)
        assert grpo.without_signal(p, size).item() == pytest.approx(total)


def a_batch(seed):
    dice = torch.Generator().manual_seed(seed)
    now, old, base = -3 * torch.rand(3, 4, 5, generator=dice)
    gaps = torch.randn(4, generator=dice)
    ends = torch.randint(1, 6, (4, 1), generator=dice)
    return now, old, base, gaps, torch.arange(5) < ends


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_grpo_loss(seed):
    now, old, base, gaps, mask = a_batch(seed)
    total = 0.0
    for i in range(4):
        size = int(mask[i].sum())
        for t in range(size):
            rho = math.exp(now[i, t] - old[i, t])
            d = (now[i, t] - base[i, t]).item()
            A = gaps[i].item()
            step = -min(rho * A, min(max(rho, 0.8), 1.2) * A)
            total += (step + 0.3 * (math.exp(-d) - 1 + d)) / size / 4
    wide = torch.nn.functional.pad(mask, (1, 0))
    empty = torch.zeros(1, 4)
    part = Rollout(wide, wide, wide, old, base, empty, gaps)
    found = grpo.grpo_loss(now, part, Recipe(5, beta=0.3)).item()
    assert found == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_grpo_normalizers(seed):
    x, _, _, _, mask = a_batch(seed)
    sizes = mask.sum(1).tolist()
    sums = [x[i, :size].sum().item() for i, size in enumerate(sizes)]
    right = {
        "sequences": sum(s / n for s, n in zip(sums, sizes, strict=True)) / 4,
        "tokens": sum(sums) / sum(sizes),
        "constant": sum(sums) / (4 * 5),
    }
    for name, value in right.items():
        length = 5 if name == "constant" else None
        found = masked_mean(x, mask, normalizer=name, length=length)
        assert found.item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_eq_grpo_length(seed):
    """Visit every pair of answers; compare with the sum over answers."""
    language = TokenMDP(2, 3, eos=0)
    dice = torch.Generator().manual_seed(seed)
    table = torch.randn(language.shape, generator=dice, dtype=torch.float64)
    table.requires_grad_()
    token = language.token_log_probs(table)[0]
    logs, size = token.sum(-1), language.mask.sum(1).double()
    chance = logs.detach().exp()
    r = torch.tensor([0.0, 1.0, 0.3, 1.0], dtype=torch.float64)
    gaps = r - chance @ r
    right = torch.autograd.grad(
        (chance * gaps / size * logs).sum(), table, retain_graph=True
    )[0]
    total = torch.zeros_like(table)
    for ids in itertools.product(range(4), repeat=2):
        rows = list(ids)
        wide = torch.nn.functional.pad(language.mask[rows], (1, 0))
        known = token.detach()[rows]
        A = grpo.group_advantages(r[rows], "others")
        part = Rollout(wide, wide, wide, known, known, r[None, rows], A)
        loss = grpo.grpo_loss(token[rows], part, Recipe(3, group=2, kind="others"))
        slope = torch.autograd.grad(loss, table, retain_graph=True)[0]
        total -= chance[rows].prod() * slope
    torch.testing.assert_close(total, right, atol=1e-10, rtol=1e-8)


def test_eq_grpo_passk():
    for n, k in ((6, 2), (10, 10), (32, 8)):
        for c in range(n + 1):
            right = 1 - math.comb(n - c, k) / math.comb(n, k)
            found = grpo.pass_at_k(torch.tensor(c), n, k).item()
            assert found == pytest.approx(right)
