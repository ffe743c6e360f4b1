"""GRPO and its relatives against enumeration of all groups, and the usual mistakes."""

import itertools
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlbook_utils import grpo
from rlbook_utils.grpo import Recipe, Rollout
from rlbook_utils.lm_policy import masked_mean, token_log_probs
from rlbook_utils.nets.tables import Table
from rlbook_utils.nets.transformer import GPT
from rlbook_utils.worlds import tasks
from rlbook_utils.worlds.token_mdp import (
    Objective,
    TokenMDP,
    expected_gradient,
    random_objective,
)

SEEDS = range(5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# Advantages


def test_advantages_by_hand():
    # Mean .25; gaps .75 and -.25; variance (.5625 + 3 * .0625)/3 = .25; others' means 0
    # and 1/3.
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0])
    by_kind = {
        "mean": [0.75, -0.25, -0.25, -0.25],
        "std": [1.5, -0.5, -0.5, -0.5],
        "others": [1.0, -1 / 3, -1 / 3, -1 / 3],
    }
    for kind, right in by_kind.items():
        found = grpo.group_advantages(rewards, kind)
        assert found.tolist() == pytest.approx(right)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9))
def test_leave_one_out_is_dr_grpo_times_g_over_g_minus_1(rewards):
    r = torch.tensor(rewards, dtype=torch.float64)
    size = len(rewards)
    others = torch.stack([r[k] - (r.sum() - r[k]) / (size - 1) for k in range(size)])
    found = grpo.group_advantages(r, "others")
    torch.testing.assert_close(found, others, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        found, size / (size - 1) * grpo.group_advantages(r, "mean")
    )


@pytest.mark.parametrize("kind", grpo.KINDS)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
def test_equal_rewards_give_zeros_and_no_nan(kind, value):
    rewards = torch.full((3, 7), value)
    wrong = (rewards - rewards.mean(1, True)) / rewards.std(1, keepdim=True)
    assert wrong.isnan().any() or wrong.abs().max() > 0.1
    found = grpo.group_advantages(rewards, kind)
    assert found.abs().max() < 1e-7


@pytest.mark.parametrize("kind", grpo.KINDS)
def test_a_group_of_one_is_refused(kind):
    with pytest.raises(ValueError, match="a group of 1 has nothing to compare"):
        grpo.group_advantages(torch.ones(5, 1), kind)
    with pytest.raises(ValueError, match="a group of 1 has nothing to compare"):
        Recipe(4, group=1, kind=kind)
    with pytest.raises(ValueError, match="a group of 1"):
        grpo.multiplier(0.5, 1, kind)


def test_one_group_of_many_rewards_is_not_many_groups_of_one():
    rewards = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert grpo.group_advantages(rewards).shape == (2, 2)
    assert grpo.group_advantages(rewards.T).abs().max() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grpo.group_advantages(torch.ones(2, 2), "max"), "kind is 'max'"),
        (lambda: grpo.group_advantages(torch.tensor([1.0, math.nan])), "reward is nan"),
        (lambda: grpo.multiplier(1.5, 8), "success is 1.5"),
        (lambda: grpo.without_signal(-0.1, 8), "success is -0.1"),
        (lambda: grpo.without_signal(0.5, 1), "a group of 1"),
        (lambda: grpo.pass_at_k(torch.tensor([1]), 4, 5), "k is 5: it must be from 1"),
        (lambda: grpo.pass_at_k(torch.tensor([5]), 4, 2), "correct has [5]"),
        (lambda: Recipe(0), "length is 0"),
        (lambda: Recipe(4, lr=-1.0), "lr is -1.0"),
        (lambda: Recipe(4, clip=0.0), "clip is 0.0"),
        (lambda: Recipe(4, clip_high=0.0), "clip_high is 0.0"),
        (lambda: Recipe(4, beta=-0.1), "beta is -0.1"),
        (lambda: Recipe(4, temperature=0.0), "temperature is 0.0"),
        (lambda: Recipe(4, normalizer="batch"), "normalizer is 'batch'"),
        (lambda: Recipe(4, kind="max"), "kind is 'max'"),
        (lambda: Recipe(4, tries=0), "tries is 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


# What the standard deviation does, exactly


@pytest.mark.parametrize("kind", grpo.KINDS)
@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.9])
def test_the_multiplier_by_all_reward_vectors(kind, size, p):
    total = 0.0
    for rewards in itertools.product([0.0, 1.0], repeat=size):
        r = torch.tensor(rewards, dtype=torch.float64)
        chance = p ** r.sum().item() * (1 - p) ** (size - r.sum().item())
        gaps = grpo.group_advantages(r, kind)
        total += chance * (gaps * (r - p)).sum().item() / size
    found = grpo.multiplier(p, size, kind).item()
    assert found == pytest.approx(total / (p * (1 - p)), rel=1e-9)


def test_the_table_of_the_book():
    p = torch.tensor([0.01, 0.05, 0.3, 0.5])
    assert grpo.multiplier(p, 8).tolist() == pytest.approx(
        [2.44, 2.31, 1.84, 1.74], abs=0.005
    )
    assert grpo.multiplier(p, 8, "others").tolist() == [1.0] * 4
    assert grpo.multiplier(p, 8, "mean").tolist() == [7 / 8] * 4
    silent = grpo.without_signal(p, 8).tolist()
    assert silent == pytest.approx([0.92, 0.66, 0.06, 0.01], abs=0.005)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0, 1.0), st.integers(2, 60))
def test_the_multiplier_stays_below_its_bound(p, size):
    found = grpo.multiplier(p, size).item()
    assert found <= math.sqrt(size) * (1 - 1 / size) * (1 + 1e-12)
    assert found == pytest.approx(grpo.multiplier(1 - p, size).item())


def test_the_multiplier_at_its_ends_and_in_the_limit():
    assert grpo.multiplier(0.0, 8).item() == pytest.approx(math.sqrt(8) * 7 / 8)
    assert grpo.multiplier(1.0, 8).item() == pytest.approx(math.sqrt(8) * 7 / 8)
    for p in (0.1, 0.5):
        limit = 1 / math.sqrt(p * (1 - p))
        assert grpo.multiplier(p, 400).item() == pytest.approx(limit, rel=0.01)


# pass@k


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_pass_at_k_is_unbiased_and_the_plug_in_is_not(k):
    n, p = 6, 0.2
    ours = naive = 0.0
    for c in range(n + 1):
        chance = math.comb(n, c) * p**c * (1 - p) ** (n - c)
        ours += chance * grpo.pass_at_k(torch.tensor(c), n, k).item()
        naive += chance * (1 - (1 - c / n) ** k)
    right = 1 - (1 - p) ** k
    assert ours == pytest.approx(right)
    assert k == 1 or naive < right - 0.01


def test_pass_at_k_by_all_subsets():
    for c, k in itertools.product(range(6), range(1, 6)):
        subsets = list(itertools.combinations([1] * c + [0] * (5 - c), k))
        right = sum(map(any, subsets)) / len(subsets)
        found = grpo.pass_at_k(torch.tensor(c), 5, k).item()
        assert found == pytest.approx(right)


# Losses of tokens


def test_token_losses_by_hand():
    # Ratios 1, 2, 1/2. A = 1: -1, -1.2 (clipped), -.5. A = -1: 1, 2, .8 (clipped).
    old = torch.zeros(2, 3)
    now = torch.tensor([[1.0, 2.0, 0.5]]).log().expand(2, 3)
    mask = torch.ones(2, 3, dtype=torch.bool)
    found = grpo.token_losses(now, old, torch.tensor([1.0, -1.0]), mask)
    right = [-1.0, -1.2, -0.5, 1.0, 2.0, 0.8]
    assert found.flatten().tolist() == pytest.approx(right)
    higher = grpo.token_losses(
        now, old, torch.tensor([1.0, -1.0]), mask, clip_high=0.28
    )
    assert higher[0, 1].item() == pytest.approx(-1.28)
    assert higher[1].tolist() == pytest.approx([1.0, 2.0, 0.8])
    # k3 of d = now - ref: exp(-d) - 1 + d with d = ln 2: 1/2 - 1 + .6931 = .1931.
    priced = grpo.token_losses(
        now, old, torch.zeros(2), mask, logp_ref=torch.zeros(2, 3), beta=0.5
    )
    assert priced[0, 1].item() == pytest.approx(0.5 * 0.19315, abs=1e-5)


def test_tokens_outside_the_mask_give_no_loss_and_no_gradient():
    now = torch.tensor([[-1.0, -math.inf]], requires_grad=True)
    mask = torch.tensor([[True, False]])
    loss = grpo.token_losses(
        now, torch.zeros(1, 2), torch.ones(1), mask, logp_ref=torch.zeros(1, 2), beta=1
    )
    slope = torch.autograd.grad(loss.sum(), now)[0]
    assert loss[0, 1] == 0 and slope[0, 1] == 0 and loss.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": -1.0}, "beta is -1.0"),
        ({"beta": 1.0}, "there is no logp_ref"),
        ({"mask": torch.ones(2, 3)}, "the mask be bool"),
        ({"logp_old": torch.zeros(2, 4)}, "they must agree"),
        ({"advantages": torch.zeros(3)}, "advantages has shape (3,)"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"clip_high": -0.1}, "clip_high is -0.1"),
    ],
)
def test_bad_losses_are_refused(change, message):
    given = {
        "logp": torch.zeros(2, 3),
        "logp_old": torch.zeros(2, 3),
        "advantages": torch.zeros(2),
        "mask": torch.ones(2, 3, dtype=torch.bool),
    } | change
    with pytest.raises(ValueError, match=re.escape(message)):
        grpo.token_losses(**given)


# Expected gradients, over all groups of an enumerable language


LANGUAGE = TokenMDP(2, 3, eos=0)
REWARD = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64)


def a_policy(seed):
    size = LANGUAGE.shape
    return torch.randn(*size, generator=seeded(seed), dtype=torch.float64)


def mean_gradient(logits, recipe, reward=REWARD, reference=None):
    """Average the gradient of `grpo_loss` over every possible group."""
    table = logits.clone().requires_grad_()
    token = LANGUAGE.token_log_probs(table)[0]
    whole = token.sum(-1).detach()
    known = token.detach() if reference is None else reference
    total = torch.zeros_like(table)
    pad = torch.nn.functional.pad
    for ids in itertools.product(range(len(whole)), repeat=recipe.group):
        rows = list(ids)
        paid = reward[rows]
        if recipe.paid:
            paid = paid - recipe.beta * (token.detach() - known)[rows].sum(1)
        part = Rollout(
            *[pad(LANGUAGE.responses[rows], (1, 0))] * 2,
            pad(LANGUAGE.mask[rows], (1, 0)),
            token.detach()[rows],
            known[rows],
            reward[None, rows],
            grpo.group_advantages(paid, recipe.kind),
        )
        loss = grpo.grpo_loss(token[rows], part, recipe)
        slope = torch.autograd.grad(loss, table, retain_graph=True)[0]
        total += whole[rows].sum().exp() * slope
    return total


def mean_reward_gradient(logits, weights=1.0):
    """Return the gradient of sum_y pi(y) (r - J) weights(y) log pi(y), pi fixed."""
    table = logits.clone().requires_grad_()
    logs = LANGUAGE.log_probs(table)[0]
    chance = logs.detach().exp()
    gaps = REWARD - chance @ REWARD
    return torch.autograd.grad((chance * gaps * weights * logs).sum(), table)[0]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", grpo.KINDS)
def test_the_expected_gradient_is_that_of_success_times_the_multiplier(seed, kind):
    logits = a_policy(seed)
    p = (LANGUAGE.log_probs(logits)[0].exp() @ REWARD).item()
    recipe = Recipe(3, group=3, kind=kind, normalizer="constant")
    found = -3 * mean_gradient(logits, recipe)
    right = grpo.multiplier(p, 3, kind).item() * mean_reward_gradient(logits)
    torch.testing.assert_close(found, right, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mean_per_response_has_another_expected_gradient(seed):
    logits, length = a_policy(seed), LANGUAGE.mask.sum(1).double()
    found = -mean_gradient(logits, Recipe(3, group=3, kind="others"))
    right = mean_reward_gradient(logits, 1 / length)
    torch.testing.assert_close(found, right, atol=1e-10, rtol=1e-9)
    true = mean_reward_gradient(logits)
    cosine = torch.cosine_similarity(found.flatten(), true.flatten(), 0)
    assert cosine < 0.9999


def test_a_mean_over_tokens_is_a_ratio_and_slightly_biased():
    logits = a_policy(0)
    true = mean_reward_gradient(logits).flatten()
    apart = []
    for size in (2, 5):
        recipe = Recipe(3, group=size, kind="others", normalizer="tokens")
        found = -mean_gradient(logits, recipe).flatten()
        apart.append(1 - torch.cosine_similarity(found, true, 0).item())
    assert apart[0] > 2 * apart[1] > 1e-5


@pytest.mark.parametrize("seed", SEEDS)
def test_kl_in_the_reward_has_the_gradient_of_the_rlhf_objective(seed):
    logits, base = a_policy(seed), a_policy(seed + 40)
    goal = Objective(LANGUAGE, base, REWARD[None], 0.4)
    recipe = Recipe(3, group=3, beta=0.4, **(grpo.RECIPES["rloo"]))
    known = LANGUAGE.token_log_probs(base)[0]
    found = -3 * mean_gradient(logits, recipe, reference=known)
    table = logits.clone().requires_grad_()
    right = torch.autograd.grad(goal.value(table).sum(), table)[0]
    torch.testing.assert_close(found, right, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_k3_in_the_loss_is_the_recipe_of_core_kl_and_not_that_objective(seed):
    logits, base = a_policy(seed), a_policy(seed + 40)
    goal = Objective(LANGUAGE, base, REWARD[None], 0.4)
    recipe = Recipe(3, group=3, beta=0.4, kind="others", normalizer="constant")
    known = LANGUAGE.token_log_probs(base)[0]
    found = 3 * mean_gradient(logits, recipe, reference=known)
    loss = goal.loss(where="loss", estimator="k3", level="token")
    right = expected_gradient(LANGUAGE, logits, loss)
    torch.testing.assert_close(found, right, atol=1e-10, rtol=1e-9)
    table = logits.clone().requires_grad_()
    true = torch.autograd.grad(goal.value(table).sum(), table)[0]
    assert (found + true).abs().max() > 1e-3


def test_with_one_length_the_three_normalizers_agree():
    goal = random_objective(seeded(), vocabulary=2, length=3)
    language = goal.language
    rows = language.sample(goal.reference, 6, seeded(1))[0]
    token = language.token_log_probs(goal.reference)[0][rows]
    mask = language.mask[rows]
    gaps = grpo.group_advantages(goal.reward[0, rows])
    losses = grpo.token_losses(token, token, gaps, mask)
    values = [
        masked_mean(losses, mask, normalizer=n, length=3 if n == "constant" else None)
        for n in ("sequences", "tokens", "constant")
    ]
    assert values[0].item() == pytest.approx(values[1].item(), abs=1e-12)
    assert values[0].item() == pytest.approx(values[2].item(), abs=1e-12)


def test_groups_that_mix_prompts_keep_the_mean_gradient_and_add_noise():
    """Visit all answers of two groups of two, whose columns mix the prompts."""
    logits = torch.tensor([-2.0, 1.5], dtype=torch.float64, requires_grad=True)
    p = logits.sigmoid().repeat_interleave(2)
    true = torch.autograd.grad(p.sum(), logits, retain_graph=True)[0]
    slope, noise = {}, {}
    for name in ("right", "mixed"):
        total, noise[name] = 0.0, 0.0
        for bits in itertools.product((0.0, 1.0), repeat=4):
            r = torch.tensor(bits, dtype=torch.float64)
            logp = torch.where(r > 0, p, 1 - p).log()
            chance = logp.detach().sum().exp()
            groups = r.view(2, 2) if name == "right" else r.view(2, 2).T
            gaps = grpo.group_advantages(groups, "mean")
            gaps = (gaps if name == "right" else gaps.T).flatten()
            total = total + chance * (gaps * logp).sum()
            noise[name] += (chance * gaps.square().mean()).item()
        slope[name] = torch.autograd.grad(total, logits, retain_graph=True)[0]
        torch.testing.assert_close(slope[name], true / 2)
    assert noise["mixed"] > 2 * noise["right"]


def test_a_mean_of_token_means_over_small_batches_is_not_the_mean():
    """Pitfall 17: gradients of two halves, each divided by its own tokens."""
    x = torch.tensor([[1.0, 1.0, 1.0, 1.0], [5.0, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[True] * 4, [True] + [False] * 3])
    halves = [
        masked_mean(x[k : k + 1], mask[k : k + 1], normalizer="tokens") for k in (0, 1)
    ]
    whole = masked_mean(x, mask, normalizer="tokens").item()
    assert whole == pytest.approx(9 / 5)
    assert sum(halves).item() / 2 == pytest.approx(3.0)
    for name in ("sequences", "constant"):
        length = 4 if name == "constant" else None
        parts = [
            masked_mean(x[k : k + 1], mask[k : k + 1], normalizer=name, length=length)
            for k in (0, 1)
        ]
        full = masked_mean(x, mask, normalizer=name, length=length)
        assert sum(parts).item() / 2 == pytest.approx(full.item())


# Rollouts and training


def first_token_is(k):
    return lambda tokens, *_: (tokens[:, 1] == k).double()


START = torch.tensor([[4]])
ONE = (START, START > 0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_what_is_scored_is_what_was_sampled(temperature):
    """Pitfall 25: the old log-probabilities are those at the temperature."""
    net = GPT(14, 10, seeded(), width=16)
    with torch.no_grad():
        net.head.weight *= 20
    prompts = tasks.addition_tokenizer().batch(["12+34=", "10+10="])[:2]
    recipe = Recipe(4, 3, 4, temperature=temperature, eos=1)
    nothing = lambda tokens, *_: torch.zeros(len(tokens))  # noqa: E731
    made = grpo.roll_out(net, None, nothing, prompts, recipe, seeded())[0]
    with torch.no_grad():
        logits = net(made.tokens, made.mask)
    right = token_log_probs(logits, made.tokens, made.response, temperature)
    torch.testing.assert_close(made.logp, right, atol=1e-4, rtol=1e-4)
    wrong = token_log_probs(logits, made.tokens, made.response)
    apart = (wrong - made.logp).abs().max().item()
    assert (apart < 1e-3) == (temperature == 1.0)


def test_dynamic_sampling_keeps_groups_with_signal_and_counts_all():
    recipe = Recipe(2, prompts=6, group=3, tries=20)
    policy = Table(4, 2, 1)
    made, signal, drawn = grpo.roll_out(
        policy, None, first_token_is(0), ONE, recipe, seeded()
    )
    assert made.rewards.shape == (6, 3) and made.tokens.shape == (18, 3)
    assert (made.rewards.amax(1) > made.rewards.amin(1)).all()
    assert drawn > 18 and drawn % 18 == 0
    silent = grpo.without_signal(0.25, 3).item()
    assert signal == pytest.approx(1 - silent, abs=0.35)
    plain = Recipe(2, prompts=6, group=3)
    made, _, drawn = grpo.roll_out(
        policy, None, first_token_is(0), ONE, plain, seeded()
    )
    assert drawn == 18 and (made.rewards.amax(1) == made.rewards.amin(1)).any()


@pytest.mark.parametrize("tries", [1, 3])
@pytest.mark.parametrize("kind", grpo.KINDS)
def test_where_nothing_succeeds_nothing_moves_and_nothing_is_nan(tries, kind):
    policy = Table(4, 2, 1)
    recipe = Recipe(2, 4, 4, kind=kind, tries=tries, lr=0.1)
    made = grpo.train_grpo(policy, first_token_is(9), ONE, 3, recipe, seeded())
    assert policy.rows.abs().max() == 0
    assert made[0].signal == 0 and made[0].drawn == 16 * tries


@pytest.mark.parametrize("name", [*grpo.RECIPES])
def test_every_recipe_learns_the_token_that_pays(name):
    policy = Table(4, 2, 1)
    recipe = Recipe(2, 8, 8, lr=0.1, **grpo.RECIPES[name])
    made = grpo.train_grpo(policy, first_token_is(2), ONE, 60, recipe, seeded())
    assert policy.rows[0, 0].softmax(0)[2] > 0.9
    assert made[0].length == 2


@pytest.mark.parametrize("seed", range(3))
def test_kl_in_the_reward_comes_nearer_to_the_optimum_than_k3_in_the_loss(seed):
    goal = random_objective(seeded(seed), vocabulary=4, length=3)
    flat = goal.reward[0]

    def reward(tokens, *_):
        return flat[goal.language.number(tokens[:, 1:])]

    ends = []
    for paid in (True, False):
        policy = Table(4, 3, 1, start=goal.reference)
        recipe = Recipe(
            3, 32, 8, kind="others", normalizer="constant", beta=0.5, paid=paid, lr=0.08
        )
        grpo.train_grpo(
            policy, reward, ONE, 250, recipe, seeded(seed),
            reference=Table(4, 3, 1, start=goal.reference),
        )  # fmt: skip
        ends.append(goal.distance(policy.rows.detach()).item())
    assert ends[0] < 0.04 and ends[1] > ends[0] + 0.05


def test_a_run_that_is_stopped_is_the_beginning_of_the_whole_run():
    ends = []
    for stop in (5, 20):
        policy, marks = Table(4, 2, 1), []
        recipe = Recipe(2, 4, 4, lr=0.1, epochs=2, minibatch=8)
        made = grpo.train_grpo(
            policy, first_token_is(1), ONE, 20, recipe, seeded(),
            stop=stop, measure=marks.append,
        )  # fmt: skip
        assert marks == list(range(stop + 1)) and len(made) == stop
        ends.append([u.reward for u in made[:5]])
    assert ends[0] == ends[1]


def test_several_epochs_leave_the_interval():
    policy = Table(4, 2, 1)
    recipe = Recipe(2, 8, 8, lr=0.3, epochs=4, minibatch=16)
    made = grpo.train_grpo(policy, first_token_is(1), ONE, 1, recipe, seeded())
    assert 0 < made[0].clip_fraction < 1
    assert made[0].surprise == pytest.approx(math.log(4))


def test_a_column_of_rewards_is_refused():
    # It would broadcast: every advantage would be about the first response.
    for paid in (True, False):
        recipe = Recipe(2, 4, 8, kind="others", paid=paid)
        with pytest.raises(ValueError, match=re.escape("reward has shape (32, 1)")):
            grpo.train_grpo(
                Table(4, 2, 1),
                lambda *drawn: first_token_is(1)(*drawn)[:, None],
                ONE,
                1,
                recipe,
                seeded(),
            )


def test_bad_training_is_refused():
    with pytest.raises(ValueError, match="updates is 0"):
        grpo.train_grpo(Table(4, 2, 1), first_token_is(1), ONE, 0, Recipe(2), seeded())
    with pytest.raises(ValueError, match=re.escape("beta is 0.1, and there is no ref")):
        grpo.train_grpo(
            Table(4, 2, 1), first_token_is(1), ONE, 1, Recipe(2, beta=0.1), seeded()
        )


def test_a_loss_that_becomes_nan_is_refused():
    policy = Table(4, 2, 1)
    with pytest.raises(ValueError, match=r"the loss is .*: lower lr"):
        policy.rows.data.fill_(math.nan)
        grpo.train_grpo(policy, first_token_is(1), ONE, 1, Recipe(2), seeded())


# Addition


def test_the_verifier_reads_texts_whatever_the_padding():
    digits = tasks.addition_tokenizer()
    prompts, answers = ["7+5=", "12+34=", "50+50="], ["12", "45", "100"]
    reward = grpo.verifier(digits, tasks.verify_addition)
    for left in (True, False):
        assert reward(*digits.batch(prompts, answers, left=left)).tolist() == [1, 0, 1]
    tokens, mask, response = digits.batch(["7+5="], ["12"])
    cut = tokens[:, :-1], mask[:, :-1], response[:, :-1]
    assert reward(*cut).item() == 0


def test_no_held_out_sum_is_trained_on():
    train, test = grpo.addition_prompts()
    assert len(train) + len(test) == 8100
    assert not set(train) & set(test)
    assert grpo.addition_prompts() == (train, test)


def test_the_start_stops_at_its_level_or_at_its_end():
    network, steps = grpo.addition_start(0, labels=20, most=160, level=0.0)
    assert steps == 150
    assert sum(p.numel() for p in network.parameters()) < 110_000


def test_a_short_run_on_addition_reports_what_it_did():
    network = grpo.addition_start(0, most=1)[0]
    found = grpo.learn_addition(network, 0, updates=4, every=2, stop=2, repeats=1)
    assert found.marks == [0, 2] and len(found.signal) == 2
    assert found.before.shape == found.after.shape == (200,)
