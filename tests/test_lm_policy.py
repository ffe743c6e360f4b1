"""Scores of responses against enumeration, and the mistakes that must be told apart."""

import re

import numpy as np
import pytest
import torch

from rlbook_utils import lm_policy as lm
from rlbook_utils.nets.transformer import GPT
from rlbook_utils.worlds import tasks
from rlbook_utils.worlds.token_mdp import TokenMDP

LANGUAGES = [(4, 3, 2, None), (4, 3, 2, 0)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def a_network(language, seed=0):
    net = GPT(language.vocabulary + language.prompts, 8, seeded(seed), width=16)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=seeded(seed + 1)))
    return net


def poisoned():
    net = GPT(4, 4, seeded(), width=8)
    torch.nn.init.constant_(net.head.weight, torch.nan)
    return net


def rows(language, left=True, padding=2):
    """Return all responses to all prompts as tokens, mask and response mask."""
    parts = []
    for x in range(language.prompts):
        head = torch.full((len(language.responses), 1), language.vocabulary + x)
        tokens = torch.cat([head, language.responses], 1)
        response = torch.cat([head < 0, language.mask], 1)
        mask = torch.cat([head > 0, language.mask], 1)
        parts.append(
            [
                torch.nn.functional.pad(part, (padding, 0) if left else (0, padding))
                for part in (tokens, mask, response)
            ]
        )
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize(("V", "T", "prompts", "eos"), LANGUAGES)
def test_all_responses_add_up_to_one_and_agree_with_the_table(V, T, prompts, eos, left):
    language = TokenMDP(V, T, prompts, eos=eos)
    net = a_network(language)
    # The network has tokens beyond the language; without them it is normalized.
    with torch.no_grad():
        table = language.table(net)
        exact = language.log_probs(table)
    tokens, mask, response = rows(language, left)
    logits = net(tokens, mask)
    logits = torch.where(torch.arange(V + prompts) < V, logits, -torch.inf)
    logp = lm.token_log_probs(logits, tokens, response)
    found = logp.sum(1).view(prompts, -1)
    assert found.exp().sum(1).tolist() == pytest.approx([1.0] * prompts, abs=1e-4)
    torch.testing.assert_close(found.double(), exact, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("left", [True, False])
def test_a_row_does_not_feel_its_neighbors_or_its_padding(left):
    digits = tasks.addition_tokenizer()
    net = a_network(TokenMDP(12, 1, 2))
    prompts, answers = ["1+1=", "12+3=", "7+8="], ["2", "15", "1"]
    whole = lm.response_log_probs(net, *digits.batch(prompts, answers, left=left))
    for k in range(3):
        alone = digits.batch(prompts[k : k + 1], answers[k : k + 1])
        torch.testing.assert_close(
            whole[k : k + 1], lm.response_log_probs(net, *alone), atol=1e-5, rtol=1e-4
        )


def test_wrong_shifts_do_not_add_up_to_one():
    language = TokenMDP(4, 3)
    net = a_network(language)
    tokens, mask, response = rows(language, padding=0)
    with torch.no_grad():
        logits = net(tokens, mask)
    logits = torch.where(torch.arange(5) < 4, logits, -torch.inf)

    def total(scores, labels, kept):
        logp = scores.log_softmax(-1).gather(2, labels[..., None])[..., 0]
        return logp.masked_fill(~kept, 0.0).sum(1).exp().sum().item()

    right = total(logits[:, :-1], tokens[:, 1:], response[:, 1:])
    assert right == pytest.approx(1.0, abs=1e-5)
    unshifted = total(logits[:, 1:], tokens[:, 1:], response[:, 1:])
    mask_left_behind = total(logits[:, :-1], tokens[:, 1:], response[:, :-1])
    assert abs(unshifted - 1) > 0.05
    assert mask_left_behind == pytest.approx(4.0)


def test_the_temperature_of_the_samples_is_part_of_the_score():
    digits = tasks.addition_tokenizer()
    net = a_network(TokenMDP(12, 1, 2))
    texts, drawn = lm.respond(net, digits, ["1+2="] * 9, 3, seeded(), temperature=0.5)
    args = net, drawn.tokens, drawn.mask, drawn.response
    right = lm.response_log_probs(*args, 0.5)
    torch.testing.assert_close(right, drawn.logp.sum(1), atol=1e-5, rtol=1e-4)
    wrong = lm.response_log_probs(*args)
    assert (wrong - right).abs().mean() > 0.1
    assert len(texts) == 9


def test_normalizers_by_hand():
    x = torch.tensor([[2.0, 4.0, 9.0], [6.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    mean = {n: lm.masked_mean(x, mask, normalizer=n) for n in ("tokens", "sequences")}
    assert mean["tokens"] == 4.0  # (2 + 4 + 6)/3
    assert mean["sequences"] == 4.5  # (3 + 6)/2
    constant = lm.masked_mean(x, mask, normalizer="constant", length=3)
    assert constant == 2.0  # 12/(2 * 3)


@pytest.mark.parametrize(("V", "T", "prompts", "eos"), LANGUAGES)
def test_the_expected_gradient_of_sft_is_that_of_kl_from_the_data(V, T, prompts, eos):
    language = TokenMDP(V, T, 1, eos=eos)
    data = torch.randn(1, len(language.responses), generator=seeded(3)).double()
    data = data.log_softmax(-1)
    table = torch.randn(language.shape, generator=seeded(4)).double().requires_grad_()
    tokens, _, response = rows(language, padding=0)
    logits = torch.zeros(*tokens.shape, V, dtype=torch.float64)
    logits[:, :-1] = table[0, language.contexts]
    total = 0.0
    for k, weight in enumerate(data.exp()[0]):
        row = slice(k, k + 1)
        loss = lm.sft_loss(logits[row], tokens[row], response[row])
        total = total + weight * loss * response[row].sum()
    found = torch.autograd.grad(total, table, retain_graph=True)[0]
    kl = (data.exp() * (data - language.log_probs(table))).sum()
    torch.testing.assert_close(found, torch.autograd.grad(kl, table)[0])
    entropy = -(data.exp() * data).sum()
    assert total.item() == pytest.approx((kl + entropy).item())


def test_prompt_tokens_do_not_touch_the_loss():
    digits = tasks.addition_tokenizer()
    tokens, _, response = digits.batch(["11+22=", "3+4="], ["33", "7"])
    logits = torch.randn(*tokens.shape, len(digits), generator=seeded())
    loss = lm.sft_loss(logits, tokens, response)
    changed = tokens.masked_fill(~response, 5)
    assert lm.sft_loss(logits, changed, response) == loss


def test_training_learns_by_heart_and_reports_what_it_did():
    digits = tasks.addition_tokenizer()
    net = GPT(len(digits), 10, seeded(), width=16)
    batch = digits.batch(["11+22=", "30+44="], ["33", "74"])

    def score(network):
        texts, _ = lm.respond(
            network, digits, ["11+22=", "30+44="], 3, seeded(), temperature=0.0
        )
        return float(texts == ["33", "74"])

    curve = lm.train_sft(net, lambda: batch, 120, lr=0.01, evaluate=score, every=40)
    assert curve.steps == [0, 40, 80, 120]
    assert curve.loss[0] == pytest.approx(np.log(len(digits)), abs=0.3)
    assert curve.loss[-1] < 0.05
    assert curve.scores[0] == 0
    assert curve.scores[-1] == 1


def test_the_same_seed_trains_the_same_network():
    def run():
        digits, dice = tasks.addition_tokenizer(), seeded(5)
        net = GPT(len(digits), 10, dice, width=16)
        lm.train_sft(net, lambda: digits.batch(*tasks.addition(8, dice)), 5, every=5)
        return net.head.weight

    assert run().equal(run())


TOKENS = torch.tensor([[1, 2, 1], [2, 1, 0]])
LATER = torch.tensor([[False, True, True], [False, True, False]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda z: lm.token_log_probs(z[:, :2], TOKENS, LATER),
            "logits (2, 2, 4), tokens (2, 3), response (2, 3)",
        ),
        (
            lambda z: lm.token_log_probs(z, TOKENS, LATER[:, :2]),
            "response (2, 2): they must agree",
        ),
        (
            lambda z: lm.token_log_probs(z, TOKENS, LATER & False),
            "response 0 is empty",
        ),
        (
            lambda z: lm.token_log_probs(z, TOKENS, LATER | True),
            "response 0 begins in column 0",
        ),
        (
            lambda z: lm.token_log_probs(z, TOKENS, LATER, 0.0),
            "temperature is 0.0",
        ),
        (
            lambda z: lm.masked_mean(z[..., 0], LATER[:, 1:], normalizer="tokens"),
            "x (2, 3), mask torch.bool (2, 2)",
        ),
        (
            lambda z: lm.masked_mean(z[..., 0], LATER & False, normalizer="tokens"),
            "no row empty",
        ),
        (
            lambda z: lm.masked_mean(z[..., 0], LATER, normalizer="mean"),
            "normalizer is 'mean'",
        ),
        (
            lambda z: lm.masked_mean(z[..., 0], LATER, normalizer="constant"),
            "length is None",
        ),
        (
            lambda z: lm.train_sft(GPT(4, 4, seeded()), lambda: None, 0),
            "steps 0",
        ),
        (
            lambda z: lm.train_sft(
                poisoned(), lambda: (TOKENS, LATER | True, LATER), 9
            ),
            "the loss is nan at step",
        ),
        (
            lambda z: lm.respond(
                GPT(14, 8, seeded()), tasks.addition_tokenizer(), ["1*2="], 2, seeded()
            ),
            "unknown character '*'",
        ),
        (
            lambda z: lm.respond(
                GPT(14, 6, seeded()),
                tasks.addition_tokenizer(),
                ["10+20="],
                4,
                seeded(),
            ),
            "a prompt of 6 tokens and 4 new ones",
        ),
    ],
)
def test_bad_input_is_refused_with_its_value(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(torch.zeros(2, 3, 4))
