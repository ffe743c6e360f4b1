"""DPO, IPO and KTO against enumeration, and the mistakes that must be told apart."""

import math
import re

import pytest
import torch
from torch.nn import functional

from rlbook_utils import dpo
from rlbook_utils.core.kl import exact_kl
from rlbook_utils.lm_policy import response_log_probs
from rlbook_utils.nets.transformer import GPT
from rlbook_utils.worlds.token_mdp import Objective, random_objective

SEEDS = range(5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def a_goal(seed=0, V=3, T=3, prompts=2, beta=0.5, eos=None):
    return random_objective(
        seeded(seed), vocabulary=V, length=T, prompts=prompts, beta=beta, eos=eos
    )


def some_logits(goal, seed=0):
    size = goal.language.shape
    return torch.randn(*size, generator=seeded(seed + 50), dtype=torch.float64)


def dpo_of(beta):
    return lambda w, lost: dpo.dpo_loss(w, lost, beta)


def gradient(f, logits):
    table = logits.clone().requires_grad_()
    return torch.autograd.grad(f(table).sum(), table)[0]


# Losses by hand


def test_dpo_by_hand():
    # beta (h_w - h_l) = .5 (2 - -1) = 1.5: log(1 + exp(-1.5)) = .20141; the weight is
    # .5 / (1 + exp(1.5)) = .09121.
    w, lost = torch.tensor([2.0]), torch.tensor([-1.0])
    assert dpo.dpo_loss(w, lost, 0.5).item() == pytest.approx(0.20141, abs=1e-5)
    assert dpo.dpo_weight(w, lost, 0.5).item() == pytest.approx(0.09121, abs=1e-5)
    # Smoothed by .1: .9 * .20141 + .1 * (1.5 + .20141) = .35141.
    smoothed = dpo.dpo_loss(w, lost, 0.5, 0.1).item()
    assert smoothed == pytest.approx(0.35141, abs=1e-5)


def test_the_loss_does_not_overflow():
    far = torch.tensor([-1e6, 1e6])
    assert dpo.dpo_loss(far, -far, 1.0).tolist() == [2e6, 0.0]


def test_ipo_and_kto_by_hand():
    # 1/(2 * .25) = 2: (3 - 2)^2 = 1.
    three = torch.tensor(3.0)
    assert dpo.ipo_loss(three, torch.tensor(0.0), 0.25).item() == 1.0
    # Desirable, h = 1, point .5, beta 2: sigmoid(-1) = .26894; undesirable: .73106,
    # times its weight 2.
    h = torch.ones(2)
    found = dpo.kto_loss(
        h, torch.tensor([True, False]), torch.tensor(0.5), 2.0, (1.0, 2.0)
    )
    assert found.tolist() == pytest.approx([0.26894, 1.46212], abs=1e-5)


def test_the_point_of_kto_has_no_gradient_and_is_not_negative():
    point = torch.tensor(0.3, requires_grad=True)
    h = torch.zeros(1, requires_grad=True)
    yes = torch.tensor([True])
    dpo.kto_loss(h, yes, point, 1.0).sum().backward()
    assert point.grad is None and h.grad is not None
    low = dpo.kto_loss(h, yes, torch.tensor(-5.0), 1.0)
    assert low.item() == 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_log_ratios_are_sums_over_the_mask(seed):
    dice = seeded(seed)
    logp, ref = torch.randn(2, 4, 5, generator=dice)
    mask = torch.rand(4, 5, generator=dice) < 0.6
    mask[:, 0] = True
    found = dpo.log_ratio(logp, ref, mask)
    for row in range(4):
        parts = [logp[row, t] - ref[row, t] for t in range(5) if mask[row, t]]
        assert found[row].item() == pytest.approx(sum(parts).item(), abs=1e-5)


# Expected gradients


@pytest.mark.parametrize("eos", [None, 0])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_mean_gradient_over_all_pairs_is_that_of_the_expected_loss(seed, eos):
    goal, beta = a_goal(seed, V=2, prompts=1, eos=eos), 0.3
    logits, n = some_logits(goal, seed), len(goal.language.responses)
    mu = goal.reference_log_probs.exp()[0]
    mean = torch.zeros_like(logits)
    for i in range(n):
        for j in range(n):
            win = (goal.reward[0, i] - goal.reward[0, j]).sigmoid()
            for pair, chance in (((i, j), win), ((j, i), 1 - win)):
                pairs = torch.tensor([[pair]])

                def one(table, pairs=pairs):
                    h = dpo.pair_log_ratios(goal, table, pairs)
                    return dpo.dpo_loss(h[..., 0], h[..., 1], beta)

                mean += mu[i] * mu[j] * chance * gradient(one, logits)
    exact = gradient(lambda x: dpo.expected_loss(goal, x, dpo_of(beta)), logits)
    torch.testing.assert_close(mean, exact, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gradient_is_weighted_supervised_learning(seed):
    goal, beta = a_goal(seed), 0.7
    logits = some_logits(goal, seed)
    pairs = dpo.draw_pairs(goal, 6, seeded(seed))
    h = dpo.pair_log_ratios(goal, logits, pairs)
    weight = dpo.dpo_weight(h[..., 0], h[..., 1], beta)

    def supervised(table):
        logs = goal.language.log_probs(table).gather(1, pairs.flatten(1))
        logs = logs.view(pairs.shape)
        return -weight * (logs[..., 0] - logs[..., 1])

    def direct(table):
        found = dpo.pair_log_ratios(goal, table, pairs)
        return dpo.dpo_loss(found[..., 0], found[..., 1], beta)

    torch.testing.assert_close(gradient(direct, logits), gradient(supervised, logits))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_expected_gradient_of_dpo_vanishes_at_the_optimum(seed):
    goal = a_goal(seed)
    f = lambda x: dpo.expected_loss(goal, x, dpo_of(goal.beta))  # noqa: E731
    assert gradient(f, goal.optimum.logits).abs().max() < 1e-12
    assert gradient(f, goal.reference).abs().max() > 1e-3


@pytest.mark.parametrize("flip", [0.0, 0.3])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_expected_gradient_of_dpo_is_that_of_a_kl_of_coins(seed, flip):
    # The stated objective: sum over pairs of nu nu KL(labels' coin, policy's coin).
    goal, beta = a_goal(seed), 0.4
    logits, mu = some_logits(goal, seed), goal.reference_log_probs.exp()
    p = dpo.win_probability(goal, flip)

    def coins(table):
        h = goal.language.log_probs(table) - goal.reference_log_probs
        q = (beta * (h[:, :, None] - h[:, None])).sigmoid()
        apart = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        return mu[:, :, None] * mu[:, None] * apart

    f = lambda x: dpo.expected_loss(goal, x, dpo_of(beta), flip=flip)  # noqa: E731
    torch.testing.assert_close(gradient(f, logits), gradient(coins, logits))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_expected_gradient_of_ipo_is_that_of_squared_errors(seed):
    # The stated objective: sum of nu nu (h_i - h_j - (2p - 1)/(2 beta))^2.
    goal, beta = a_goal(seed), 0.4
    logits, mu = some_logits(goal, seed), goal.reference_log_probs.exp()
    aim = (2 * dpo.win_probability(goal) - 1) / (2 * beta)

    def errors(table):
        h = goal.language.log_probs(table) - goal.reference_log_probs
        return mu[:, :, None] * mu[:, None] * (h[:, :, None] - h[:, None] - aim) ** 2

    ipo = lambda w, lost: dpo.ipo_loss(w, lost, beta)  # noqa: E731
    f = lambda x: dpo.expected_loss(goal, x, ipo)  # noqa: E731
    torch.testing.assert_close(gradient(f, logits), gradient(errors, logits))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_expected_gradient_of_ipo_vanishes_at_the_tilt_by_wins(seed):
    goal = a_goal(seed)
    mu = goal.reference_log_probs.exp()
    won = (dpo.win_probability(goal) * mu[:, None]).sum(2)
    best = goal.language.conditionals(goal.reference_log_probs + won / goal.beta)
    ipo = lambda w, lost: dpo.ipo_loss(w, lost, goal.beta)  # noqa: E731
    f = lambda x: dpo.expected_loss(goal, x, ipo)  # noqa: E731
    assert gradient(f, best).abs().max() < 1e-10
    assert gradient(f, goal.optimum.logits).abs().max() > 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_expected_gradient_of_kto_by_its_formula(seed):
    # d/dh of w_D p (1 - s) + w_U (1 - p) s, s = sigmoid(beta (h - z)), is
    # beta s (1 - s) (w_U (1 - p) - w_D p).
    goal, beta = a_goal(seed), 0.8
    logits, mu = some_logits(goal, seed), goal.reference_log_probs.exp()
    liked = (dpo.win_probability(goal) * mu[:, None]).sum(2)
    yes = torch.ones_like(liked, dtype=torch.bool)

    def ratios(table):
        return goal.language.log_probs(table) - goal.reference_log_probs

    point = exact_kl(goal.language.log_probs(logits), goal.reference_log_probs)[:, None]

    def mean(table):
        h = ratios(table)
        up = dpo.kto_loss(h, yes, point.expand_as(h), beta, (1.5, 0.7))
        down = dpo.kto_loss(h, ~yes, point, beta, (1.5, 0.7))
        return mu * (liked * up + (1 - liked) * down)

    s = (beta * (ratios(logits) - point)).sigmoid()
    slope = mu * beta * s * (1 - s) * (0.7 * (1 - liked) - 1.5 * liked)
    right = gradient(lambda x: slope * ratios(x), logits)
    torch.testing.assert_close(gradient(mean, logits), right)


# The table of rewards


@pytest.mark.parametrize("flip", [0.0, 0.2])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_tilt_by_the_fitted_rewards_minimizes_dpo_at_every_beta(seed, flip):
    goal = a_goal(seed, prompts=1)
    mu = goal.reference_log_probs.exp()[0]
    wins = mu[:, None] * mu * dpo.win_probability(goal, flip)[0]
    fitted = dpo.reward_table(wins)
    for beta in (0.2, 1.0):
        best = goal.language.conditionals(goal.reference_log_probs + fitted / beta)
        slope = gradient(
            lambda x, b=beta: dpo.expected_loss(goal, x, dpo_of(b), flip=flip), best
        )
        assert slope.abs().max() < 1e-8
    if not flip:
        apart = fitted - goal.reward[0]
        assert apart.std() < 1e-7


def test_a_prior_pulls_rewards_toward_0_and_makes_them_finite():
    always = torch.tensor([[0.0, 5.0], [0.0, 0.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match="no finite maximum"):
        dpo.reward_table(always)
    r = dpo.reward_table(always, prior=0.5)
    # 5 sigmoid(-2 r) = .5 r at the answer.
    assert 5 / (1 + math.exp(2 * r[0])) == pytest.approx(0.5 * r[0].item())


@pytest.mark.parametrize(
    ("won", "gap"),
    [
        ([(0, 1), (1, 0)], "0 never wins against answer 2"),  # 2 is never compared
        ([(0, 1), (1, 0), (2, 3), (3, 2)], "0 never wins against answer 2"),
        ([(0, 1), (1, 2), (1, 0)], "2 never wins against answer 0"),
        ([(0, 1), (1, 2)], "1 never wins against answer 0"),
    ],
)
def test_a_table_without_chains_of_wins_is_refused(won, gap):
    size = max(2, *(max(pair) for pair in won)) + 1
    wins = torch.zeros(size, size, dtype=torch.float64)
    for i, j in won:
        wins[i, j] = 3.0
    with pytest.raises(ValueError, match=re.escape(f"answer {gap}")):
        dpo.reward_table(wins)
    assert dpo.reward_table(wins, prior=0.1).isfinite().all()


def test_one_win_around_a_circle_is_enough():
    wins = torch.tensor([[0.0, 9, 0], [0, 0, 9], [1, 0, 0]], dtype=torch.float64)
    r = dpo.reward_table(wins)
    chance = (r[:, None] - r).sigmoid()
    slope = (wins - (wins + wins.T) * chance).sum(1)
    assert slope.abs().max() < 1e-9 and r[0] > r[1] > r[2]


# Samples and fits


@pytest.mark.parametrize("seed", SEEDS)
def test_pairs_follow_bradley_and_terry(seed):
    goal = a_goal(seed, V=2, T=1, prompts=1)
    count = 40_000
    pairs = dpo.draw_pairs(goal, count, seeded(seed), flip=0.1)[0]
    mu = goal.reference_log_probs.exp()[0]
    wins = dpo.win_probability(goal, 0.1)[0]
    exact = 2 * (mu[0] * mu[1] * wins[0, 1]).item()
    found = ((pairs[:, 0] == 0) & (pairs[:, 1] == 1)).double().mean().item()
    assert abs(found - exact) < 4 * math.sqrt(exact * (1 - exact) / count)


@pytest.mark.parametrize("seed", SEEDS)
def test_more_pairs_bring_a_fit_closer_to_the_optimum(seed):
    goal = a_goal(seed, V=3, T=2, prompts=1)
    ends = []
    for count in (200, 50_000):
        pairs = dpo.draw_pairs(goal, count, seeded(seed))
        ends.append(dpo.fit(goal, dpo_of(0.5), pairs, steps=400).logits)
    few, many = (goal.distance(end).item() for end in ends)
    assert many < 0.01 and many < few


def test_fresh_pairs_and_marks():
    goal = a_goal(0, V=2, T=2, prompts=3)
    dice = seeded()
    drawn = dpo.fit(
        goal,
        dpo_of(0.5),
        lambda: dpo.draw_pairs(goal, 500, dice),
        steps=200,
        marks=(0, 200),
        fall=True,
    )
    assert torch.equal(drawn.path[0], goal.reference)
    assert torch.equal(drawn.path[1], drawn.logits)
    assert (goal.distance(drawn.logits) < 0.1 * goal.distance(goal.reference)).all()


def a_pair():
    good, bad = torch.tensor([[4, 1, 2, 0]] * 3), torch.tensor([[4, 3, 3, 0]] * 3)
    place = torch.arange(4).expand(3, 4)
    return [(side, place < 3, (place > 0) & (place < 3)) for side in (good, bad)]


def test_a_network_learns_its_pairs_and_starts_at_ln_2():
    net = GPT(5, 4, seeded(), width=16)
    good, bad = a_pair()
    before = response_log_probs(net, *good) - response_log_probs(net, *bad)
    report = dpo.train_dpo(
        net, good, bad, dpo_of(0.5), 30, seeded(), batch=4, lr=5e-3, every=10
    )
    after = response_log_probs(net, *good) - response_log_probs(net, *bad)
    assert report.loss[0] == pytest.approx(math.log(2), abs=1e-6)
    assert report.steps == [0, 10, 20, 30] and report.accuracy[-1] == 1.0
    assert (after > before + 1).all()


# Mistakes that must be told apart


def variable_goal(seed):
    return a_goal(seed, V=3, T=3, prompts=1, beta=0.5, eos=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_means_of_token_log_probs_have_another_optimum(seed):
    goal = variable_goal(seed)
    size = goal.language.mask.sum(1).double()

    def wrong(table):
        h = (goal.language.log_probs(table) - goal.reference_log_probs) / size
        mu = goal.reference_log_probs.exp()
        wins = mu[:, :, None] * mu[:, None] * dpo.win_probability(goal)
        loss = functional.softplus(-goal.beta * (h[:, :, None] - h[:, None]))
        return (wins * loss).sum()

    assert gradient(wrong, goal.optimum.logits).abs().max() > 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_beta_twice_is_the_optimum_of_beta_squared(seed):
    goal = a_goal(seed, prompts=1)
    twice = Objective(goal.language, goal.reference, goal.reward, goal.beta**2)
    wrong = lambda w, lost: dpo.dpo_loss(goal.beta * w, goal.beta * lost, goal.beta)  # noqa: E731
    f = lambda x: dpo.expected_loss(goal, x, wrong)  # noqa: E731
    assert gradient(f, twice.optimum.logits).abs().max() < 1e-10
    assert goal.distance(twice.optimum.logits) > 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_swapped_labels_also_start_at_ln_2_and_climb_down(seed):
    goal = a_goal(seed, prompts=1)
    swapped = lambda w, lost: dpo.dpo_loss(lost, w, goal.beta)  # noqa: E731
    start = dpo.expected_loss(goal, goal.reference, swapped)
    assert start.item() == pytest.approx(math.log(2))
    right = gradient(
        lambda x: dpo.expected_loss(goal, x, dpo_of(goal.beta)), goal.reference
    )
    wrong = gradient(lambda x: dpo.expected_loss(goal, x, swapped), goal.reference)
    torch.testing.assert_close(wrong, -right)


def test_a_prompt_that_is_not_masked_cancels_in_sums_and_not_in_means():
    # Both answers follow the same prompt, so a sum over prompt and answer adds the same
    # number to both; a mean divides it by two different lengths.
    net = GPT(5, 6, seeded(), width=16)
    good, bad = torch.tensor([[4, 3, 1, 2]]), torch.tensor([[4, 3, 2, 0]])
    answer = torch.tensor([[False, False, True, True]])
    short = torch.tensor([[False, False, True, False]])
    everything = torch.tensor([[False, True, True, True]])
    almost = torch.tensor([[False, True, True, False]])
    real = torch.ones(1, 4, dtype=torch.bool)

    def margin(first, second, means):
        logs = [
            response_log_probs(net, tokens, real, kept) / (kept.sum() if means else 1)
            for tokens, kept in ((good, first), (bad, second))
        ]
        return (logs[0] - logs[1]).item()

    masked, unmasked = (answer, short), (everything, almost)
    assert margin(*masked, False) == pytest.approx(margin(*unmasked, False), abs=1e-5)
    assert abs(margin(*masked, True) - margin(*unmasked, True)) > 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_answers_that_were_never_shown_are_free(seed):
    # Same optimum of RLHF and DPO? Not where the pairs miss answers: their mass can be
    # anything, the loss stays.
    goal = a_goal(seed, prompts=1)
    shown = goal.language.responses[:, 0] == 0
    mu = goal.reference_log_probs.exp() * shown
    mu = mu / mu.sum()
    best, found = goal.optimum.log_probs.exp(), []
    for mass in (0.01, 0.99):
        inside = best * shown / (best * shown).sum()
        outside = best * ~shown / (best * ~shown).sum()
        law = (1 - mass) * inside + mass * outside
        table = goal.language.conditionals(law.log())
        loss = dpo.expected_loss(goal, table, dpo_of(goal.beta), behavior=mu)
        found.append((loss.item(), goal.distance(table).item()))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-12)
    assert abs(found[0][1] - found[1][1]) > 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_log_ratios_of_another_temperature_give_another_kl(seed):
    # Samples of the policy at temperature .7: its KL from the reference is the mean of
    # log-ratios scored at .7. Scored at 1 they miss it, and the policy is another one.
    goal, temperature = a_goal(seed, prompts=1), 0.7
    cold = goal.optimum.logits / temperature
    law = goal.language.log_probs(cold).exp()
    means = {}
    for name, table in (("right", cold), ("wrong", goal.optimum.logits)):
        h = goal.language.log_probs(table) - goal.reference_log_probs
        means[name] = (law * h).sum().item()
    price = exact_kl(law.log(), goal.reference_log_probs).item()
    assert means["right"] == pytest.approx(price)
    assert price - means["wrong"] > 0.02
    assert goal.distance(cold) > 0.02


def test_a_rejected_answer_of_probability_0_costs_nothing():
    loss = dpo.dpo_loss(torch.tensor(0.0), torch.tensor(-math.inf), 0.5)
    assert loss.item() == 0.0


# Bad input


BAD = [
    (lambda: dpo.dpo_loss(torch.ones(2), torch.ones(2), 0.0), "beta is 0.0"),
    (lambda: dpo.dpo_weight(torch.ones(2), torch.ones(2), -1.0), "beta is -1.0"),
    (lambda: dpo.ipo_loss(torch.ones(2), torch.ones(2), math.inf), "beta is inf"),
    (lambda: dpo.dpo_loss(torch.ones(2, 1), torch.ones(2), 0.1), "shape (2, 1)"),
    (lambda: dpo.dpo_loss(torch.ones(2), torch.ones(2), 0.1, 0.5), "smoothing is 0.5"),
    (
        lambda: dpo.log_ratio(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3) < 0),
        "response 0 is empty",
    ),
    (
        lambda: dpo.log_ratio(torch.ones(2, 3), torch.ones(2, 2), torch.ones(2, 3) > 0),
        "logp_ref (2, 2)",
    ),
    (
        lambda: dpo.kto_loss(torch.ones(2), torch.ones(2), torch.ones(1), 0.1),
        "torch.float32",
    ),
    (
        lambda: dpo.kto_loss(
            torch.ones(1), torch.ones(1) > 0, torch.ones(1), 0.1, (0.0, 1.0)
        ),
        "weights are (0.0, 1.0)",
    ),
    (
        lambda: dpo.kto_loss(
            torch.ones(1), torch.ones(1) > 0, torch.ones(1), 0.1, (1.0, math.inf)
        ),
        "weights are (1.0, inf)",
    ),
    (
        lambda: dpo.kto_loss(torch.ones(2), torch.ones(2) > 0, torch.ones(2, 1), 0.1),
        "point has shape (2, 1)",
    ),
    (
        lambda: dpo.kto_loss(
            torch.tensor([math.nan]), torch.ones(1) > 0, torch.ones(1), 0.1
        ),
        "log_ratios has 1 NaN among 1",
    ),
    (
        lambda: dpo.dpo_loss(torch.ones(2), torch.tensor([0.0, math.nan]), 0.1),
        "rejected has 1 NaN among 2",
    ),
    (
        lambda: dpo.ipo_loss(torch.tensor([math.nan]), torch.ones(1), 0.1),
        "chosen has 1 NaN among 1",
    ),
    (
        lambda: dpo.draw_pairs(a_goal(), 2, seeded(), behavior=torch.ones(1, 27)),
        "behavior has shape (1, 27)",
    ),
    (
        lambda: dpo.draw_pairs(a_goal(), 2, seeded(), behavior=torch.ones(2, 27)),
        "sum 27",
    ),
    (
        lambda: dpo.expected_loss(
            a_goal(), a_goal().reference, dpo_of(1.0), behavior=-torch.ones(2, 27)
        ),
        "least -1",
    ),
    (
        lambda: dpo.kto_loss(
            torch.zeros(2), torch.tensor([True, False]), torch.tensor(math.nan), 0.1
        ),
        "point has 1 NaN among 1",
    ),
    (lambda: dpo.win_probability(a_goal(), 0.6), "flip is 0.6"),
    (lambda: dpo.draw_pairs(a_goal(), 0, seeded()), "count is 0"),
    (lambda: dpo.draw_pairs(a_goal(), 1, seeded(), flip=-0.1), "flip is -0.1"),
    (
        lambda: dpo.pair_log_ratios(
            a_goal(), a_goal().reference, torch.zeros(1, 2, 2).long()
        ),
        "shape (1, 2, 2)",
    ),
    (lambda: dpo.reward_table(torch.ones(2, 3)), "shape (2, 3)"),
    (lambda: dpo.reward_table(-torch.ones(2, 2)), "least entry -1"),
    (lambda: dpo.reward_table(torch.full((2, 2), math.nan)), "least entry nan"),
    (lambda: dpo.reward_table(torch.ones(2, 2), prior=-1.0), "prior is -1.0"),
    (
        lambda: dpo.reward_table(torch.tensor([[0.0, 5], [1, 0]]).double(), steps=1),
        "step 1 moves a reward by",
    ),
    (
        lambda: dpo.fit(a_goal(), dpo_of(1.0), lambda: torch.zeros(1), steps=0),
        "steps is 0",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_a_network_is_not_trained_on_bad_input():
    net, (good, bad) = GPT(5, 4, seeded(), width=16), a_pair()
    with pytest.raises(ValueError, match="3 chosen, 2 rejected"):
        less = tuple(part[:2] for part in bad)
        dpo.train_dpo(net, good, less, dpo_of(1.0), 1, seeded())
    with pytest.raises(ValueError, match="batch 0"):
        dpo.train_dpo(net, good, bad, dpo_of(1.0), 1, seeded(), batch=0)
    other = (bad[0].clone(), *bad[1:])
    other[0][1, 0] = 2
    message = "pair 1 has the prompts [4] and [2]"
    with pytest.raises(ValueError, match=re.escape(message)):
        dpo.train_dpo(net, good, other, dpo_of(1.0), 1, seeded())
    torch.nn.init.constant_(net.head.weight, torch.nan)
    with pytest.raises(ValueError, match="chosen has 64 NaN among 64"):
        dpo.train_dpo(net, good, bad, dpo_of(1.0), 1, seeded())
    with pytest.raises(ValueError, match="the loss is nan at step 0"):
        dpo.train_dpo(net, good, bad, lambda w, lost: w - lost, 1, seeded())
