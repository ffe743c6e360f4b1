"""The enumerable language against hand counts, brute force and the identity of J."""

import itertools
import re

import numpy as np
import pytest
import torch

from rlbook_utils.core.kl import exact_kl
from rlbook_utils.worlds.token_mdp import (
    Objective,
    TokenMDP,
    expected_gradient,
    random_objective,
    settle,
)

SEEDS = range(5)
KINDS = [(8, 4, 1, None), (3, 3, 2, None), (4, 3, 2, 0), (2, 1, 1, None)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def some_logits(language, seed=7):
    return torch.randn(*language.shape, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize(("V", "T", "prompts", "eos"), KINDS)
def test_the_responses_are_all_there_are(V, T, prompts, eos):
    language = TokenMDP(V, T, prompts, eos=eos)
    strings = set()
    for string in itertools.product(range(V), repeat=T):
        stop = string.index(eos) + 1 if eos in string else T
        strings.add((*string[:stop], *[eos] * (T - stop)))
    assert {tuple(row) for row in language.responses.tolist()} == strings
    assert len(strings) == len(language.responses)
    lengths = language.mask.sum(1)
    for row, size in zip(language.responses.tolist(), lengths.tolist(), strict=True):
        assert size == (row.index(eos) + 1 if eos in row else T)


def test_how_many_there_are():
    assert len(TokenMDP().responses) == 4096
    # One response ends at once, 7, 49 and 343 one, two and three tokens later or, the
    # last 343, with any of 8 tokens: 1 + 7 + 49 + 343 * 8.
    assert len(TokenMDP(eos=3).responses) == 1 + 7 + 49 + 343 * 8


@pytest.mark.parametrize(("V", "T", "prompts", "eos"), KINDS)
def test_log_probabilities_by_brute_force(V, T, prompts, eos):
    language = TokenMDP(V, T, prompts, eos=eos)
    logits = some_logits(language)
    chances = logits.softmax(-1)
    rows = {}
    for size in range(T):
        for prefix in itertools.product(range(V), repeat=size):
            rows[prefix] = len(rows)
    found = language.log_probs(logits)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(prompts).double())
    picked = range(0, len(language.responses), max(1, len(language.responses) // 60))
    for x, n in itertools.product(range(prompts), picked):
        tokens, expected = language.responses[n].tolist(), 1.0
        for t in range(int(language.mask[n].sum())):
            expected *= chances[x, rows[tuple(tokens[:t])], tokens[t]].item()
        assert found[x, n].exp().item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("V", "T", "prompts", "eos"), KINDS)
def test_a_law_over_responses_has_one_table(V, T, prompts, eos):
    language = TokenMDP(V, T, prompts, eos=eos)
    logits = some_logits(language)
    law = language.log_probs(logits)
    table = language.conditionals(law + 3.0)
    torch.testing.assert_close(language.log_probs(table), law)
    if eos is None:
        torch.testing.assert_close(table, logits.log_softmax(-1))


def test_conditionals_of_a_law_with_zeros_and_with_tiny_chances():
    language = TokenMDP(2, 2)
    sure = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64).log()
    table = language.conditionals(sure)
    assert language.log_probs(table).exp()[0].tolist() == [0.0, 0.0, 0.0, 1.0]
    tiny = torch.tensor([[0.0, -1.0, -2000.0, -2001.0]], dtype=torch.float64)
    table = language.conditionals(tiny).softmax(-1)[0]
    # After token 1 the odds are 1 to exp(-1), however rare that prefix is.
    assert table[2, 1].item() == pytest.approx(1 / (1 + np.e))


@pytest.mark.parametrize(("V", "T", "prompts", "eos"), KINDS)
def test_a_network_is_read_as_the_table_it_is(V, T, prompts, eos):
    language = TokenMDP(V, T, prompts, eos=eos)
    weights = torch.randn(T, V + prompts, V + prompts, generator=seeded())

    def network(tokens):
        # Causal: position t sees a sum over the tokens up to t.
        one = torch.nn.functional.one_hot(tokens, V + prompts).float()
        mixed = torch.stack([one[:, t] @ weights[t] for t in range(tokens.shape[1])], 1)
        return mixed.cumsum(1).sin() * 3

    table = language.table(network)
    assert table.shape == language.shape
    for x in range(prompts):
        for n in range(0, len(language.responses), 7):
            tokens = torch.cat([torch.tensor([V + x]), language.responses[n]])[None]
            logits = network(tokens[:, :-1])[0, :, :V].double().log_softmax(-1)
            chosen = logits.gather(1, language.responses[n][:, None])[:, 0]
            expected = (chosen * language.mask[n]).sum().item()
            found = language.log_probs(table)[x, n].item()
            assert found == pytest.approx(expected, abs=1e-6)


def test_samples_have_the_frequencies_of_the_policy():
    language = TokenMDP(3, 2, 2, eos=1)
    logits = some_logits(language)
    drawn = language.sample(logits, 40_000, seeded())
    exact = language.log_probs(logits).exp()
    for x in range(2):
        share = drawn[x].bincount(minlength=exact.shape[1]) / 40_000
        error = (exact[x] * (1 - exact[x]) / 40_000).sqrt()
        assert ((share - exact[x]).abs() < 4 * error).all()


@pytest.mark.parametrize("eos", [None, 2])
def test_numbers_and_responses_are_inverse(eos):
    language = TokenMDP(4, 3, eos=eos)
    everything = torch.arange(len(language.responses))
    assert language.number(language.responses).equal(everything)


@pytest.mark.parametrize("eos", [None, 0])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_policy_loses_is_beta_times_its_kl_to_the_best(seed, eos):
    goal = random_objective(
        seeded(seed), vocabulary=4, length=3, prompts=2, beta=0.3, eos=eos
    )
    logits = some_logits(goal.language, seed)
    gap = goal.optimum.value - goal.value(logits)
    torch.testing.assert_close(gap, 0.3 * goal.distance(logits))
    assert goal.distance(goal.optimum.logits).abs().max() < 1e-12
    # Z by hand: the mean of exp(r/beta) under the reference.
    weights = goal.reference_log_probs.exp()
    z = (weights * (goal.reward / 0.3).exp()).sum(-1)
    torch.testing.assert_close(goal.optimum.value, 0.3 * z.log())


def test_the_reward_of_a_random_objective_is_standardized():
    goal = random_objective(seeded(), prompts=3)
    weights = goal.reference_log_probs.exp()
    mean = (weights * goal.reward).sum(-1)
    torch.testing.assert_close(mean, torch.zeros(3).double(), atol=1e-12, rtol=0)
    second = (weights * goal.reward**2).sum(-1)
    torch.testing.assert_close(second, torch.ones(3).double())


def test_gradients_by_finite_differences():
    goal = random_objective(seeded(), vocabulary=3, length=2, beta=0.4)
    logits = some_logits(goal.language).requires_grad_()
    assert torch.autograd.gradcheck(goal.value, logits)
    assert torch.autograd.gradcheck(goal.distance, logits)


def test_the_optimum_is_where_the_gradient_vanishes():
    goal = random_objective(seeded(), vocabulary=4, length=3, prompts=2)
    best = goal.optimum.logits.clone().requires_grad_()
    flat = torch.autograd.grad(goal.value(best).sum(), best)[0]
    assert flat.abs().max() < 1e-12
    found = expected_gradient(goal.language, best, goal.loss())
    assert found.abs().max() < 1e-12


@pytest.mark.parametrize("seed", range(2))
def test_the_exact_gradient_leads_to_the_optimum_of_the_books_language(seed):
    goal = random_objective(seeded(seed))
    end = settle(goal.language, goal.reference, goal.loss(), steps=300, lr=0.2)
    assert goal.distance(goal.reference).item() > 0.3
    assert goal.distance(end).item() < 1e-3


def test_exact_kl_of_what_is_impossible():
    p = torch.tensor([1.0, 0.0], dtype=torch.float64).log().requires_grad_()
    q = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    value = exact_kl(p, q)
    assert value.item() == pytest.approx(np.log(2))
    assert torch.autograd.grad(value, p)[0].isfinite().all()
    assert exact_kl(q, p.detach()) == torch.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TokenMDP(1), "vocabulary 1, length 4, prompts 1"),
        (lambda: TokenMDP(8, 0), "length 0"),
        (lambda: TokenMDP(prompts=0), "prompts 0"),
        (lambda: TokenMDP(eos=8), "eos is 8: tokens are 0 to 7"),
        (lambda: TokenMDP(8, 6), "1 x 8^6 = 262,144 responses are too many"),
        (lambda: TokenMDP(8, 4, 60), "60 x 8^4 = 245,760 responses"),
        (
            lambda: TokenMDP(2, 2).log_probs(torch.zeros(1, 2, 2)),
            "logits has shape (1, 2, 2): it must be (1, 3, 2)",
        ),
        (
            lambda: TokenMDP(3, 2, eos=0).number(torch.tensor([0, 1])),
            "[0, 1] is no response",
        ),
        (lambda: TokenMDP(3, 2).number(torch.tensor([0, 3])), "[0, 3] is no response"),
        (lambda: random_objective(seeded(), beta=0.0), "beta is 0.0"),
        (lambda: random_objective(seeded(), beta=float("nan")), "beta is nan"),
    ],
)
def test_bad_input_is_refused_with_its_value(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_an_objective_refuses_wrong_shapes_and_single_precision():
    language = TokenMDP(2, 1)
    table, reward = torch.zeros(1, 1, 2).double(), torch.zeros(1, 2).double()
    with pytest.raises(ValueError, match=re.escape("reward has shape (2,)")):
        Objective(language, table, reward[0], 0.5)
    with pytest.raises(ValueError, match="reference torch.float32"):
        Objective(language, table.float(), reward, 0.5)
