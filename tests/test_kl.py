"""Estimators of KL against enumeration: means, gradients, and where they rest."""

import math
import re

import numpy as np
import pytest
import torch

from rlbook_utils.core import kl
from rlbook_utils.worlds.token_mdp import expected_gradient, random_objective, settle

SEEDS = range(5)
EVERY = torch.ones(2, 3, dtype=torch.bool)
LEVELS = ("sequence", "token")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=0, **sizes):
    return random_objective(
        seeded(seed), **{"vocabulary": 4, "length": 3, "beta": 0.5, **sizes}
    )


def some_logits(goal, seed=7):
    return torch.randn(
        *goal.language.shape, generator=seeded(seed), dtype=torch.float64
    )


def gradient(value, logits):
    table = logits.clone().requires_grad_()
    return torch.autograd.grad(value(table).sum(), table)[0]


def penalty(goal, **how):
    reference = goal.language.token_log_probs(goal.reference)[0]
    return lambda logp: kl.kl_penalty(logp[0], reference, goal.language.mask, **how)[
        None
    ]


def reverse_kl(goal):
    return lambda table: kl.exact_kl(
        goal.language.log_probs(table), goal.reference_log_probs
    )


def forward_kl(goal):
    return lambda table: kl.exact_kl(
        goal.reference_log_probs, goal.language.log_probs(table)
    )


def stepwise_kl(goal, table):
    """Return the gradient of each step's KL, the law of prefixes held fixed."""
    language = goal.language
    weight = torch.zeros(language.shape[1], dtype=torch.float64)
    chances = language.log_probs(table)[0].exp()
    for t in range(language.length):
        kept = language.mask[:, t]
        weight.index_add_(0, language.contexts[kept, t], chances[kept])
    reference = goal.reference.log_softmax(-1)[0]

    def total(logits):
        logp = logits.log_softmax(-1)[0]
        return weight @ (logp.exp() * (logp - reference)).sum(-1)

    return gradient(total, table)


# Values


@pytest.mark.parametrize(
    ("shift", "bias", "spread"),
    [(0.1, (0, 0.0025, 0), (20, 1.42, 1.42)), (1.0, (0, 0.25, 0), (2, 1.73, 1.70))],
)
def test_published_bias_and_noise_between_two_gaussians(shift, bias, spread):
    # KL(N(0, 1), N(mu, 1)) = mu^2/2 and d = log p - log q = mu^2/2 - mu x; quadrature.
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    weight = torch.exp(-(x**2) / 2) * (x[1] - x[0]) / math.sqrt(2 * math.pi)
    d, true = shift**2 / 2 - shift * x, shift**2 / 2
    for k, expected, noise in zip((kl.k1, kl.k2, kl.k3), bias, spread, strict=True):
        mean = (weight * k(d)).sum()
        sd = (weight * (k(d) - mean) ** 2).sum().sqrt()
        assert mean / true - 1 == pytest.approx(expected, abs=1e-4)
        assert sd / true == pytest.approx(noise, rel=0.006)


@pytest.mark.parametrize("eos", [None, 0])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_are_unbiased_at_both_levels(estimator, level, eos):
    goal = small(eos=eos)
    logits = some_logits(goal)
    logp = goal.language.token_log_probs(logits)
    estimate = penalty(goal, estimator=estimator, level=level)(logp)
    mean = (logp.sum(-1).exp() * estimate).sum()
    assert mean == pytest.approx(reverse_kl(goal)(logits).item(), rel=1e-10)


def test_k2_is_biased():
    goal = small()
    logits = some_logits(goal)
    logp = goal.language.token_log_probs(logits)
    mean = (logp.sum(-1).exp() * penalty(goal, estimator="k2")(logp)).sum()
    assert abs(mean - reverse_kl(goal)(logits)) > 0.1


def test_k3_in_the_wrong_direction_is_biased():
    # Samples of pi: the ratio is reference/pi. Turned round, exp(d) - 1 - d estimates
    # chi-squared minus KL, not KL.
    goal = small()
    logits = some_logits(goal)
    d = goal.language.log_probs(logits) - goal.reference_log_probs
    weight, true = goal.language.log_probs(logits).exp(), reverse_kl(goal)(logits)
    assert (weight * kl.k3(d)).sum() == pytest.approx(true.item())
    assert (weight * kl.k3(-d)).sum() > 1.5 * true


def test_k3_keeps_its_digits_where_the_naive_form_loses_them():
    d = torch.tensor([1e-5], dtype=torch.float32)
    exact = 0.5e-10
    assert kl.k3(d.double()).item() == pytest.approx(exact, rel=1e-4)
    naive = torch.exp(-d) - 1 + d
    assert abs(naive.item() - exact) > abs(kl.k3(d).item() - exact)
    assert abs(naive.item() / exact - 1) > 1


def test_the_arguments_of_kl_div_are_log_q_and_p():
    # F.kl_div(input, target) is KL(target, exp(input)); log targets need log_target.
    p = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    ours = kl.exact_kl(p.log(), q.log())
    torch_kl = torch.nn.functional.kl_div
    right = torch_kl(q.log(), p, reduction="sum")
    assert ours == pytest.approx(right.item())
    logs = torch_kl(q.log(), p.log(), reduction="sum", log_target=True)
    assert ours == pytest.approx(logs.item())
    swapped = torch_kl(p.log(), q, reduction="sum")
    assert abs(swapped - ours) > 0.03
    assert torch_kl(q.log(), p.log(), reduction="sum").isnan()


# Expected gradients


@pytest.mark.parametrize("eos", [None, 1])
@pytest.mark.parametrize("seed", SEEDS)
def test_k1_in_the_reward_has_the_gradient_of_the_objective(seed, eos):
    goal = small(seed, eos=eos)
    logits = some_logits(goal, seed + 50)
    found = expected_gradient(goal.language, logits, goal.loss())
    torch.testing.assert_close(-found, gradient(goal.value, logits))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", SEEDS)
def test_k1_in_the_loss_has_no_expected_gradient(seed, level):
    goal = small(seed)
    term = penalty(goal, estimator="k1", level=level)
    found = expected_gradient(goal.language, some_logits(goal), term)
    assert found.abs().max() < 1e-14
    right = gradient(reverse_kl(goal), some_logits(goal))
    assert right.abs().max() > 0.05


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("how", "target"),
    [
        ({"estimator": "k2"}, reverse_kl),
        ({"estimator": "k3"}, forward_kl),
        ({"estimator": "k1", "ratio": True}, reverse_kl),
        ({"estimator": "k3", "ratio": True}, reverse_kl),
    ],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_the_gradient_of_a_sequence_estimator_is_that_of_a_kl(how, target, seed):
    goal = small(seed)
    logits = some_logits(goal)
    found = expected_gradient(goal.language, logits, penalty(goal, **how))
    torch.testing.assert_close(found, gradient(target(goal), logits))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "how",
    [
        {"estimator": "k2"},
        {"estimator": "k1", "ratio": True},
        {"estimator": "k3", "ratio": True},
    ],
    ids=str,
)
def test_per_token_the_prefixes_are_held_fixed(how, seed):
    goal = small(seed)
    logits = some_logits(goal)
    term = penalty(goal, level="token", **how)
    found = expected_gradient(goal.language, logits, term)
    torch.testing.assert_close(found, stepwise_kl(goal, logits))
    right = gradient(reverse_kl(goal), logits)
    assert (found - right).norm() > 0.1 * right.norm()


@pytest.mark.parametrize("seed", SEEDS)
def test_k3_per_token_is_neither_kl(seed):
    goal = small(seed)
    logits = some_logits(goal)
    term = penalty(goal, estimator="k3", level="token")
    found = expected_gradient(goal.language, logits, term)
    for target in (reverse_kl, forward_kl):
        right = gradient(target(goal), logits)
        assert (found - right).norm() > 0.1 * right.norm()


def test_over_later_epochs_k1_in_the_loss_pushes_the_sampled_tokens_down():
    # Eight samples of a policy, used a hundred times: entropy rises to uniform's.
    goal = small()
    language, logits = goal.language, goal.reference.clone().requires_grad_()
    drawn = language.sample(goal.reference, 8, seeded())[0]
    before = language.log_probs(logits.detach())[0, drawn].sum()
    for _ in range(100):
        loss = language.token_log_probs(logits)[0, drawn].sum()
        logits.data -= 0.1 * torch.autograd.grad(loss, logits)[0]
    after = language.log_probs(logits.detach())[0, drawn].sum()
    assert after < before - 8


# Fixed points


RECIPES = {
    "k1 reward": {},
    "k2 sequence": {"where": "loss", "estimator": "k2"},
    "k1 ratio": {"where": "loss", "estimator": "k1", "ratio": True},
    "k2 token": {"where": "loss", "estimator": "k2", "level": "token"},
    "k3 token ratio": {
        "where": "loss",
        "estimator": "k3",
        "level": "token",
        "ratio": True,
    },
    "k3 token": {"where": "loss", "estimator": "k3", "level": "token"},
    "k3 sequence": {"where": "loss", "estimator": "k3"},
}


@pytest.fixture(scope="module")
def rests():
    found = {name: [] for name in RECIPES}
    for seed in SEEDS:
        goal = small(seed)
        for name, recipe in RECIPES.items():
            end = settle(
                goal.language,
                goal.reference,
                goal.loss(**recipe),
                steps=800,
                lr=0.1,
            )
            found[name].append(goal.distance(end).item())
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("name", ["k1 reward", "k2 sequence", "k1 ratio"])
def test_the_right_recipes_rest_at_the_optimum(rests, name):
    assert rests[name].max() < 1e-3


def test_the_others_rest_elsewhere_in_the_published_order(rests):
    # One published world: k2 per token .092, the same for k3 with the token's ratio,
    # k3 per token .22, k3 of the sequence .75.
    np.testing.assert_allclose(
        rests["k2 token"], rests["k3 token ratio"], rtol=0.02, atol=1e-3
    )
    assert rests["k2 token"].min() > 0.01
    assert (rests["k3 sequence"] > rests["k2 token"]).all()
    means = {name: values.mean() for name, values in rests.items()}
    assert means["k2 token"] < means["k3 token"] < means["k3 sequence"]


def test_k3_of_the_sequence_rests_at_the_optimum_of_the_forward_kl():
    goal = small()
    recipe = RECIPES["k3 sequence"]
    end = settle(
        goal.language, goal.reference, goal.loss(**recipe), steps=3000, lr=0.05
    )
    logp, reference = goal.language.log_probs(end)[0], goal.reference_log_probs[0]
    # Stationary points of E[r] - beta KL(reference, pi): pi = beta reference/(c - r).
    price = goal.beta * reference.exp() / logp.exp() + goal.reward[0]
    assert (price - price.mean()).abs().max() < 1e-2


# Token rewards


def test_token_rewards_add_up_and_the_reward_stands_on_the_last_token():
    logp = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -2.0, -9.0]])
    reference = torch.full((2, 3), -1.5)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    # d = (.5, -.5, -1.5) and (.5, -.5): beta .2, rewards 1 and 2.
    paid = kl.token_rewards(torch.tensor([1.0, 2.0]), logp, reference, mask, 0.2)
    expected = [[-0.1, 0.1, 1.3], [-0.1, 2.1, 0.0]]
    np.testing.assert_allclose(paid.numpy(), expected, rtol=1e-6)


def test_left_and_right_padding_are_the_same():
    logp, ref = torch.randn(2, 1, 3, generator=seeded())
    short = EVERY[:1]

    def padded(x, left):
        return torch.nn.functional.pad(x, (2, 0) if left else (0, 2))

    for how in ({}, {"where": "loss", "estimator": "k3", "level": "token"}):
        losses = [
            kl.policy_loss(
                padded(logp, left),
                padded(ref, left),
                torch.tensor([1.0]),
                padded(short, left),
                0.3,
                **how,
            )
            for left in (False, True)
        ]
        torch.testing.assert_close(losses[0], losses[1])


def test_nan_outside_the_mask_reaches_neither_value_nor_gradient():
    logp = torch.tensor([[-1.0, torch.nan]], requires_grad=True)
    mask = torch.tensor([[True, False]])
    for how in ({}, {"where": "loss", "estimator": "k3", "level": "token"}):
        loss = kl.policy_loss(
            logp, torch.tensor([[-2.0, 0.0]]), torch.ones(1), mask, 0.1, **how
        )
        assert loss.isfinite().all()
        assert torch.autograd.grad(loss.sum(), logp)[0].isfinite().all()


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: kl.kl_penalty(z, z, EVERY[:, :2]), "shapes must agree .* (2, 2)"),
        (lambda z: kl.kl_penalty(z[0], z[0], EVERY[0]), "must agree and be (B, T)"),
        (lambda z: kl.kl_penalty(z, z, EVERY.float()), "dtype torch.float32"),
        (lambda z: kl.kl_penalty(z, z, EVERY & False), "response 0 is empty"),
        (lambda z: kl.kl_penalty(z, z, EVERY, estimator="k4"), "estimator is 'k4'"),
        (lambda z: kl.kl_penalty(z, z, EVERY, level="word"), "level 'word'"),
        (lambda z: kl.token_rewards(z[:, 0], z, z, EVERY, -0.1), "beta is -0.1"),
        (lambda z: kl.token_rewards(z, z, z, EVERY, 0.1), "reward has shape (2, 3)"),
        (
            lambda z: kl.policy_loss(z, z, z[:, 0], EVERY, math.inf, where="loss"),
            "beta is inf",
        ),
        (
            lambda z: kl.policy_loss(z, z, z[:, 0], EVERY, 0.1, where="advantage"),
            "where is 'advantage'",
        ),
        (
            lambda z: kl.policy_loss(z, z, z[:, 0], EVERY, 0.1, estimator="k3"),
            "estimator is 'k3', ratio False, level 'sequence': k1 alone is paid",
        ),
        (
            lambda z: kl.policy_loss(z, z, z[:, 0], EVERY, 0.1, level="word"),
            "level 'word'",
        ),
        (
            lambda z: kl.policy_loss(z, z, z[:, :1], EVERY, 0.1, where="loss"),
            "reward has shape (2, 1)",
        ),
        (lambda z: kl.exact_kl(z, z[:, :2]), "log_p has shape"),
        (lambda z: kl.exact_kl(z, z), "not normalized"),
    ],
)
def test_bad_input_is_refused_with_its_value(call, message):
    pattern = ".*".join(re.escape(part) for part in message.split(" .* "))
    with pytest.raises(ValueError, match=pattern):
        call(torch.zeros(2, 3))
