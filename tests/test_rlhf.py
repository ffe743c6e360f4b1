"""Reward models and PPO on responses, against enumeration and hand-made numbers."""

import copy
import math

import numpy as np
import pytest
import torch

from rlbook_utils import rlhf
from rlbook_utils.core.kl import exact_kl, token_rewards
from rlbook_utils.nets.sampling import sample
from rlbook_utils.nets.tables import Table
from rlbook_utils.nets.transformer import GPT
from rlbook_utils.worlds import tasks
from rlbook_utils.worlds.token_mdp import TokenMDP, random_objective

SEEDS = range(5)
WORDS = tasks.review_tokenizer()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=0, **sizes):
    return random_objective(
        seeded(seed), **{"vocabulary": 4, "length": 3, "beta": 0.5, **sizes}
    )


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def table_of(goal, logits, **more):
    language = goal.language
    sizes = language.vocabulary, language.length, language.prompts
    return Table(*sizes, start=logits, **more)


def every_response(language):
    """Return tokens with the prompt in front, and the mask of the response."""
    count = len(language.responses)
    heads = torch.full((count, 1), language.vocabulary)
    tokens = torch.cat([heads, language.responses], 1)
    seen = torch.cat([heads > 0, language.mask], 1)
    return tokens, seen


# Tables


@pytest.mark.parametrize("eos", [None, 0])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_table_is_the_policy_of_its_rows(seed, eos):
    goal = small(seed, prompts=2, eos=eos)
    language, table = goal.language, table_of(goal, goal.reference)
    for x in range(2):
        tokens, seen = every_response(language)
        tokens[:, 0] += x
        logp = rlhf.judge(table, tokens, seen, language.mask).logp.sum(1)
        torch.testing.assert_close(logp, goal.reference_log_probs[x])


def test_a_table_samples_its_own_law():
    goal = small(2)
    language, table = goal.language, table_of(goal, goal.reference)
    heads = torch.full((20_000, 1), language.vocabulary)
    drawn = sample(table, heads, None, language.length, seeded(3), cached=False)
    found = torch.bincount(language.number(drawn.tokens[:, 1:]), minlength=64) / 20_000
    apart = (found - goal.reference_log_probs[0].exp()).abs().max()
    assert apart < 4 * 0.5 / math.sqrt(20_000)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((1, 3, 1), "vocabulary 1"), ((4, 0, 1), "length 0"), ((4, 3, 0), "prompts 0")],
)
def test_a_table_refuses_sizes(sizes, message):
    with pytest.raises(ValueError, match=message):
        Table(*sizes)


def test_a_table_refuses_another_start():
    with pytest.raises(ValueError, match=r"start has shape \(1, 2\)"):
        Table(4, 3, 1, start=torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([3, 1], "first token is 3: it must be from 4 to 5"),
        ([6, 1], "first token is 6"),
        ([4, 4], "token is 4: it must be from 0 to 3"),
        ([4, -1], "token is -1"),
    ],
)
def test_a_table_refuses_tokens_that_it_does_not_know(tokens, message):
    """Token 3 as a prompt would be row -1, without a word that of the last prompt."""
    with pytest.raises(ValueError, match=message):
        Table(4, 3, 2)(torch.tensor([tokens]))


# Preferences


def test_the_loss_by_hand():
    # r_w - r_l = ln 3: sigmoid 3/4, loss ln 4/3 = .2877.
    loss = rlhf.bradley_terry_loss(torch.tensor([math.log(3)]), torch.tensor([0.0]))
    assert loss.item() == pytest.approx(math.log(4 / 3))


def test_the_loss_neither_overflows_nor_moves_with_a_shift():
    far = torch.tensor([1000.0, -1000.0], dtype=torch.float64)
    loss = rlhf.bradley_terry_loss(far, torch.zeros_like(far))
    assert loss.tolist() == [0.0, 1000.0]
    a, b = normal(9), normal(9, seed=2)
    shift = normal(9, seed=3)
    torch.testing.assert_close(
        rlhf.bradley_terry_loss(a + shift, b + shift), rlhf.bradley_terry_loss(a, b)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_the_expected_gradient_of_the_loss(seed):
    """Over pairs from the reference, judged by the true scores, exactly."""
    goal = small(seed, vocabulary=3, length=2)
    truth, chances = goal.reward[0], goal.reference_log_probs[0].exp()
    guess = normal(len(truth), seed=seed + 9).requires_grad_()
    first, second = torch.cartesian_prod(*[torch.arange(9)] * 2).T
    wins = (truth[first] - truth[second]).sigmoid()
    weight = chances[first] * chances[second] * wins
    loss = (weight * rlhf.bradley_terry_loss(guess[first], guess[second])).sum() * 2
    found = torch.autograd.grad(loss, guess)[0]
    told = (guess[:, None] - guess).sigmoid() - (truth[:, None] - truth).sigmoid()
    wanted = 2 * chances * (told * chances).sum(1)
    torch.testing.assert_close(found, wanted.detach())
    same = torch.autograd.grad(
        (
            weight
            * rlhf.bradley_terry_loss(
                *(truth.requires_grad_()[k] for k in (first, second))
            )
        ).sum(),
        truth,
    )[0]
    assert same.abs().max() < 1e-12


@pytest.mark.parametrize(
    ("chosen", "message"),
    [(torch.zeros(3, 1), r"chosen is \(3, 1\)"), (torch.full((3,), math.nan), "NaN")],
)
def test_the_loss_refuses(chosen, message):
    with pytest.raises(ValueError, match=message):
        rlhf.bradley_terry_loss(chosen, torch.zeros(3))


def test_annotators_choose_as_they_should():
    records = rlhf.review_preferences(4000, seeded(), sharpness=2.0)
    gold = np.array(
        [[tasks.review_score(r[k]) for k in ("chosen", "rejected")] for r in records]
    )
    apart = gold[:, 0] - gold[:, 1]
    some = abs(abs(apart) - 1) < 0.1
    expected = 1 / (1 + math.exp(-2))
    assert (apart[some] > 0).mean() == pytest.approx(expected, abs=0.07)
    assert all(r["prompt"].startswith("the ") for r in records)


@pytest.mark.parametrize(
    ("records", "message"),
    [([], "no records"), ([{"prompt": "the film was", "chosen": "good"}], "record 0")],
)
def test_pairs_refuse(records, message):
    with pytest.raises(ValueError, match=message):
        rlhf.encode_pairs(WORDS, records)


def test_the_score_is_that_of_the_last_token_on_either_side():
    net = rlhf.Scorer(GPT(len(WORDS), 16, seeded()))
    net.head.weight = torch.nn.Parameter(torch.randn(1, 64, generator=seeded(1)))
    texts = ["the film was"] * 2, ["good", "not very good and the plot was dull"]
    scores = []
    for left in (True, False):
        tokens, mask, _ = WORDS.batch(*texts, left=left)
        scores.append(net.score(tokens, mask))
    alone, seen, _ = WORDS.batch(texts[0][:1], texts[1][:1])
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.score(alone, seen)[0], scores[0][0])
    pad = net(tokens, mask)[0, -1, 0]
    assert abs(pad - scores[0][0]) > 1e-3, "the wrong version reads the padding"
    again = rlhf.Scorer(net)
    assert torch.equal(again.score(tokens, mask), net.score(tokens, mask))


def test_a_reward_model_learns_and_refuses_no_steps():
    records = rlhf.review_preferences(200, seeded(), sharpness=9.0)
    pairs = rlhf.encode_pairs(WORDS, records)
    model = rlhf.Scorer(GPT(len(WORDS), 16, seeded(), width=16))
    losses = rlhf.train_reward_model(model, pairs, 60, seeded(), lr=1e-2)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
    assert losses[-1] < 0.5 and rlhf.accuracy(model, pairs) > 0.75
    with pytest.raises(ValueError, match="steps is 0"):
        rlhf.train_reward_model(model, pairs, 0, seeded())


# PPO


def test_advantages_by_hand():
    # paid (-1, 2), V (1, 3): delta = (-1 + 3 - 1, 2 - 3) = (1, -1); lam .5: 1 - .5.
    kept = torch.tensor([[True, True, False]])
    paid, values = torch.tensor([[-1.0, 2.0, 0.0]]), torch.tensor([[1.0, 3.0, 9.0]])
    gaps, targets = rlhf.token_advantages(paid, values, kept, 0.5)
    assert gaps.tolist() == [[0.5, -1.0, 0.0]]
    assert targets.tolist() == [[1.5, 2.0, 0.0]]


def test_what_lies_behind_the_end_changes_nothing():
    kept = torch.tensor([[True, True, False]])
    paid, values = torch.tensor([[-1.0, 2.0, 0.0]]), torch.tensor([[1.0, 3.0, 9.0]])
    other = torch.tensor([[1.0, 3.0, -50.0]])
    for one, two in zip(
        rlhf.token_advantages(paid, values, kept, 0.9),
        rlhf.token_advantages(paid, other, kept, 0.9),
        strict=True,
    ):
        assert torch.equal(one, two)


def enumerated(goal, policy, critic, settings):
    """Return the rollout that holds every response once, as roll_out would judge it."""
    language = goal.language
    tokens, seen = every_response(language)
    kept = language.mask
    with torch.no_grad():
        logp = rlhf.judge(policy, tokens, seen, kept).logp
        ref = table_of(goal, goal.reference)
        logp_ref = rlhf.judge(ref, tokens, seen, kept).logp
        paid = token_rewards(goal.reward[0], logp, logp_ref, kept, settings.beta)
        values = critic(tokens, seen)[:, :-1, 0]
        gaps, targets = rlhf.token_advantages(paid, values, kept, settings.lam)
    return rlhf.Rollout(
        tokens, seen, seen, kept, logp, logp_ref, goal.reward[0], gaps, targets
    )


@pytest.mark.parametrize("eos", [None, 0])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_expected_gradient_is_that_of_the_objective(seed, eos):
    """lam = 1, any critic, on-policy: minus the gradient of J, to rounding."""
    goal = small(seed, eos=eos)
    logits = normal(*goal.language.shape, seed=seed + 5)
    policy = table_of(goal, logits)
    critic = Table(4, 3, 1, outputs=1, start=normal(1, 21, 1, seed=seed))
    settings = rlhf.Settings(3, goal.beta, lam=1.0)
    rollout = enumerated(goal, policy, critic, settings)
    judged = rlhf.judge(policy, rollout.tokens, rollout.mask, rollout.kept)
    with torch.no_grad():
        values = critic(rollout.tokens, rollout.mask)[:, :-1, 0]
    loss = rlhf.rlhf_loss(judged, values, rollout, settings)
    mean = (rollout.logp.sum(1).exp() * loss).sum()
    found = torch.autograd.grad(mean, policy.rows)[0]
    table = logits.clone().requires_grad_()
    wanted = -torch.autograd.grad(goal.value(table).sum(), table)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_the_critics_gradient_vanishes_at_the_true_values():
    goal = small(1)
    policy = table_of(goal, normal(*goal.language.shape))
    settings = rlhf.Settings(3, goal.beta, lam=1.0)
    blank = Table(4, 3, 1, outputs=1)
    rollout = enumerated(goal, policy, blank, settings)
    chances = rollout.logp.sum(1).exp()
    truth = torch.zeros_like(blank.rows)
    for c in range(21):
        here = (goal.language.contexts == c).double()
        mass = (chances[:, None] * here).sum()
        total = (chances[:, None] * here * rollout.targets).sum()
        truth.data[0, c, 0] = total / mass
    critic = Table(4, 3, 1, outputs=1, start=truth)
    judged = rlhf.Judged(rollout.logp, torch.zeros_like(rollout.logp))
    values = critic(rollout.tokens, rollout.mask)[:, :-1, 0]
    loss = rlhf.rlhf_loss(judged, values, rollout, settings)
    slope = torch.autograd.grad((chances * loss).sum(), critic.rows)[0]
    assert slope.abs().max() < 1e-12


def test_the_entropy_is_weighed():
    goal = small(1)
    policy = table_of(goal, normal(*goal.language.shape))
    plain, bonus = (rlhf.Settings(3, 0.5, entropy_weight=w) for w in (0.0, 0.3))
    rollout = enumerated(goal, policy, Table(4, 3, 1, outputs=1), plain)
    judged = rlhf.judge(policy, rollout.tokens, rollout.mask, rollout.kept)
    values = torch.zeros_like(rollout.targets)
    apart = rlhf.rlhf_loss(judged, values, rollout, plain) - rlhf.rlhf_loss(
        judged, values, rollout, bonus
    )
    torch.testing.assert_close(apart, 0.3 * judged.entropy.sum(1))


@pytest.mark.parametrize("seed", SEEDS)
def test_stepwise_kl_has_the_mean_of_k1_and_less_noise(seed):
    goal = small(seed)
    policy = table_of(goal, normal(*goal.language.shape, seed=seed + 20))
    reference = table_of(goal, goal.reference)
    tokens, seen = every_response(goal.language)
    steps = rlhf.stepwise_kl(policy, reference, tokens, seen, goal.language.mask)
    logp = goal.language.log_probs(policy.rows.detach())[0]
    k1 = logp - goal.reference_log_probs[0]
    exact = exact_kl(logp, goal.reference_log_probs[0])
    assert (logp.exp() * steps).sum().item() == pytest.approx(exact.item())
    noise = [(logp.exp() * (x - exact).square()).sum() for x in (steps, k1)]
    assert noise[0] < noise[1]


@pytest.mark.parametrize("seed", range(3))
def test_ppo_reaches_the_exact_optimum(seed):
    goal = small(seed)
    policy, reference = (table_of(goal, goal.reference) for _ in range(2))
    start = goal.distance(goal.reference).item()

    def reward(tokens, mask, response):
        return goal.reward[0, goal.language.number(tokens[:, 1:])]

    heads = torch.tensor([[4]])
    made = rlhf.train_rlhf(
        policy,
        reference,
        Table(4, 3, 1, outputs=1),
        reward,
        (heads, heads > 0),
        60,
        rlhf.Settings(3, goal.beta, lr=0.05, lr_values=0.1),
        seeded(seed),
    )
    end = goal.distance(policy.rows.detach()).item()
    assert end < 0.02 < 0.1 * start
    assert made[0].kl == 0.0 and made[-1].score > made[0].score


def test_sampling_and_scoring_share_the_temperature():
    """At the first step all ratios are 1; scored at temperature 1 they would not be."""
    goal = small(3)
    policy = table_of(goal, goal.reference)
    heads = torch.tensor([[4]])
    settings = rlhf.Settings(3, 0.5, temperature=0.7)
    rollout = rlhf.roll_out(
        policy,
        policy,
        Table(4, 3, 1, outputs=1),
        lambda tokens, mask, response: tokens[:, 1].double(),
        (heads, heads > 0),
        settings,
        seeded(),
    )
    parts = rollout.tokens, rollout.mask, rollout.kept
    right, wrong = (rlhf.judge(policy, *parts, t).logp.detach() for t in (0.7, 1.0))
    assert torch.equal(right, rollout.logp)
    assert (wrong - rollout.logp).abs().max() > 0.1
    language = goal.language
    cold = language.log_probs(goal.reference / 0.7)[0].exp()
    mean = (cold * language.log_probs(goal.reference / 0.7)[0]).sum()
    assert right.sum(1).mean().item() == pytest.approx(mean.item(), abs=0.3)


def test_responses_that_end_early_are_judged_to_their_end():
    goal = small(2, eos=0)
    policy = table_of(goal, goal.reference)
    heads = torch.tensor([[4]])
    rollout = rlhf.roll_out(
        policy,
        policy,
        Table(4, 3, 1, outputs=1),
        lambda tokens, mask, response: response.sum(1).double(),
        (heads, heads > 0),
        rlhf.Settings(3, 0.5, eos=0),
        seeded(),
    )
    language = goal.language
    place = language.number(rollout.tokens[:, 1:])
    assert torch.equal(rollout.kept, language.mask[place])
    torch.testing.assert_close(rollout.logp.sum(1), goal.reference_log_probs[0][place])
    assert torch.equal(rollout.score, rollout.kept.sum(1).double())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beta": -0.1}, "beta is -0.1"),
        ({"beta": math.nan}, "beta is nan"),
        ({"length": 0}, "length is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"lam": 1.5}, "lam is 1.5"),
        ({"entropy_weight": -1.0}, "entropy_weight is -1.0"),
    ],
)
def test_settings_refuse(wrong, message):
    with pytest.raises(ValueError, match=message):
        rlhf.Settings(**{"length": 3, "beta": 0.5, **wrong})


def test_training_refuses():
    flat, heads = Table(4, 3, 1), torch.tensor([[4]])
    parts = flat, flat, Table(4, 3, 1, outputs=1), lambda *x: x[0][:, 0]
    settings = rlhf.Settings(3, 0.5)
    with pytest.raises(ValueError, match="updates is 0"):
        rlhf.train_rlhf(*parts, (heads, heads > 0), 0, settings, seeded())
    long = rlhf.Settings(4, 0.5)
    with pytest.raises(ValueError, match="the context holds 4"):
        rlhf.train_rlhf(*parts, (heads, heads > 0), 1, long, seeded())


# Best of n


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("ties", [False, True])
def test_the_best_of_n_is_that_of_all_draws(n, ties):
    log_probs = normal(5).log_softmax(0)
    reward = torch.tensor([0.0, 1.0, 1.0, 3.0, 1.0]) if ties else normal(5, seed=2)
    p, law = log_probs.exp(), torch.zeros(5, dtype=torch.float64)
    draws = torch.cartesian_prod(*[torch.arange(5)] * n).view(-1, n)
    for draw in draws:
        best = draw[reward[draw] == reward[draw].max()]
        for y in best:
            law[y] += p[draw].prod() / len(best)
    torch.testing.assert_close(rlhf.best_of_n(log_probs, reward.double(), n), law)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [1, 2, 8, 64])
def test_the_bound_on_best_of_n(seed, n):
    goal = small(seed)
    logs = goal.reference_log_probs[0]
    law = rlhf.best_of_n(logs, goal.reward[0], n)
    kl = exact_kl(law.log(), logs).item()
    assert -1e-12 <= kl <= rlhf.best_of_n_bound(n) + 1e-12


def test_the_bound_is_attained_without_ties_in_the_limit():
    m, n = 20_000, 8
    logs = torch.full((m,), -math.log(m), dtype=torch.float64)
    law = rlhf.best_of_n(logs, torch.arange(m).double(), n)
    kl = exact_kl(law.log(), logs).item()
    assert kl == pytest.approx(rlhf.best_of_n_bound(n), abs=1e-3)


def test_a_response_that_is_never_said_is_never_the_best():
    logs = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    law = rlhf.best_of_n(logs, torch.tensor([0.0, 1.0, 2.0]).double(), 2)
    assert law.tolist() == [0.25, 0.75, 0.0]


@pytest.mark.parametrize("n", [0, -1])
def test_best_of_n_refuses(n):
    half = torch.tensor([0.5, 0.5]).log()
    with pytest.raises(ValueError, match=f"n is {n}"):
        rlhf.best_of_n(half, half, n)
    with pytest.raises(ValueError, match=f"n is {n}"):
        rlhf.best_of_n_bound(n)
    with pytest.raises(ValueError, match=r"log_probs is \(2,\), reward \(3,\)"):
        rlhf.best_of_n(half, torch.zeros(3), 2)


# Mini-reviews


def test_a_chase_changes_neither_reference_nor_reward_model():
    net = rlhf.review_model(0, 2)
    model = rlhf.review_reward_model(net, 4, 0)
    before = copy.deepcopy((net.state_dict(), model.state_dict()))
    found = rlhf.chase(net, model, 2, 0, every=1, samples=16)
    assert [len(x) for x in found[:3]] == [3, 3, 3]
    assert found.kl[0] == 0.0 and found.kl[-1] > 0
    for old, new in zip(before, (net.state_dict(), model.state_dict()), strict=True):
        assert all(torch.equal(old[k], new[k]) for k in old)
    assert rlhf.chase(net, model, 2, 0, every=1, samples=16)[:3] == found[:3]


def test_a_run_of_the_study_has_all_its_numbers():
    row = rlhf.review_run(0, updates=1, test=20)
    assert len(row) == len(rlhf.SIZES) + 2 * 3
    assert all(math.isfinite(x) for x in row)


def test_a_language_too_large_to_list_is_refused():
    with pytest.raises(ValueError, match="too many"):
        TokenMDP(50, 6)
