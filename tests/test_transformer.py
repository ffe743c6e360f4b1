"""The GPT against a plain re-implementation, and everything that must not matter."""

import ast
import math
import re

import pytest
import torch
from test_architecture import PACKAGE, code_lines

from rlbook_utils.nets.sampling import sample
from rlbook_utils.nets.transformer import GPT, Cache

V, CONTEXT = 11, 12
LENGTHS = (3, 5, 1, 4)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def net():
    network = GPT(V, CONTEXT, seeded(), width=16, layers=2, heads=2)
    with torch.no_grad():
        for weight in network.parameters():
            noise = torch.randn(weight.shape, generator=seeded(1))
            weight.add_(0.3 * noise)
    return network


def rows(seed=2):
    dice = seeded(seed)
    return [torch.randint(0, V, (size,), generator=dice) for size in LENGTHS]


def padded(texts, left, size=6):
    tokens = torch.zeros(len(texts), size, dtype=torch.long)
    mask = torch.zeros(len(texts), size, dtype=torch.bool)
    for k, text in enumerate(texts):
        place = slice(size - len(text), size) if left else slice(0, len(text))
        tokens[k, place], mask[k, place] = text, True
    return tokens, mask


def by_hand(net, tokens):
    """Return the logits of one unpadded text by loops over positions and heads."""

    def norm(x, layer):
        x = x - x.mean()
        return x / (x.square().mean() + layer.eps).sqrt() * layer.weight + layer.bias

    x = torch.stack([net.embed.weight[t] for t in tokens])
    x = x + net.place.weight[: len(tokens)]
    d = net.width // net.heads
    for block in net.blocks:
        q, k, v = (torch.stack([norm(r, block.norm) for r in x]) @ w.T
                   for w in block.qkv.weight.chunk(3))  # fmt: skip
        mixed = torch.zeros_like(x)
        for t in range(len(tokens)):
            for h in range(net.heads):
                part = slice(h * d, (h + 1) * d)
                scores = k[: t + 1, part] @ q[t, part] / math.sqrt(d)
                mixed[t, part] = scores.softmax(0) @ v[: t + 1, part]
        x = x + mixed @ block.out.weight.T
        inner = torch.stack([norm(r, block.norm2) for r in x])
        inner = inner @ block.up.weight.T + block.up.bias
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = x + inner @ block.down.weight.T + block.down.bias
    return torch.stack([norm(r, net.norm) for r in x]) @ net.head.weight.T


def test_the_network_is_as_small_as_promised():
    source = (PACKAGE / "nets" / "transformer.py").read_text()
    assert code_lines(ast.parse(source), source.split("\n")) <= 150
    for sizes, low, high in (
        ({}, 100_000, 130_000),
        ({"width": 128, "layers": 3}, 550_000, 620_000),
    ):
        network = GPT(33, 24, seeded(), **sizes)
        assert low < sum(p.numel() for p in network.parameters()) < high


def test_logits_by_hand(net):
    for text in rows():
        torch.testing.assert_close(
            net(text[None])[0], by_hand(net, text), atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("left", [True, False])
def test_padding_does_not_matter_on_either_side(net, left):
    texts = rows()
    tokens, mask = padded(texts, left)
    logits = net(tokens, mask)
    assert logits.isfinite().all()
    for k, text in enumerate(texts):
        torch.testing.assert_close(
            logits[k][mask[k]], net(text[None])[0], atol=1e-5, rtol=1e-4
        )
    junk = tokens.masked_fill(~mask, V - 1)
    torch.testing.assert_close(net(junk, mask)[mask], logits[mask])


def test_gradients_are_finite_and_the_same_with_padding(net):
    texts = rows()
    found = []
    for left in (True, False):
        tokens, mask = padded(texts, left)
        loss = net(tokens, mask).log_softmax(-1)[mask].sum()
        found.append(torch.autograd.grad(loss, list(net.parameters())))
    for one, other in zip(*found, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_no_token_sees_a_later_one(net):
    text = torch.randint(0, V, (1, 8), generator=seeded())
    other = text.clone()
    other[0, 5] = (other[0, 5] + 1) % V
    torch.testing.assert_close(net(text)[:, :5], net(other)[:, :5])
    assert not torch.allclose(net(text)[:, 5:], net(other)[:, 5:])


@pytest.mark.parametrize("left", [True, False])
def test_reading_in_pieces_through_the_cache_changes_nothing(net, left):
    tokens, mask = padded(rows(), left)
    whole = net(tokens, mask)
    for cuts in ((2, 6), (1, 2, 3, 4, 5, 6)):
        cache, begin, parts = Cache(len(tokens), 6, net), 0, []
        with torch.no_grad():
            for end in cuts:
                part = slice(begin, end)
                parts.append(net(tokens[:, part], mask[:, part], cache))
                begin = end
        pieces = torch.cat(parts, 1)
        torch.testing.assert_close(pieces[mask], whole[mask], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_one_by_eight_is_eight_by_one_with_any_padding_and_cache(net, temperature):
    texts = [*rows(), *rows(3)]
    how = {"count": 5, "temperature": temperature, "eos": 1}
    answers = []
    for left in (True, False):
        for cached in (True, False):
            tokens, mask = padded(texts, left)
            drawn = sample(net, tokens, mask, generator=seeded(9), cached=cached, **how)
            answers.append((drawn.tokens[:, 6:], drawn.mask[:, 6:], drawn.logp))
    dice = seeded(9)
    singles = [sample(net, text[None], None, generator=dice, **how) for text in texts]
    answers.append(
        (
            torch.cat([one.tokens[:, -5:] for one in singles]),
            torch.cat([one.mask[:, -5:] for one in singles]),
            torch.cat([one.logp for one in singles]),
        )
    )
    for tokens, mask, logp in answers[1:]:
        assert tokens.equal(answers[0][0])
        assert mask.equal(answers[0][1])
        torch.testing.assert_close(logp, answers[0][2], atol=1e-5, rtol=1e-4)
    assert answers[0][1].all(1).any()
    assert temperature == 0 or not answers[0][1].all()


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_the_log_probabilities_are_those_of_what_was_sampled(net, temperature):
    tokens, mask = padded(rows(), True)
    drawn = sample(net, tokens, mask, 5, seeded(4), temperature=temperature, eos=1)
    logits = net(drawn.tokens, drawn.mask)[:, 5:-1] / temperature
    chosen = logits.log_softmax(-1).gather(2, drawn.tokens[:, 6:, None])[..., 0]
    expected = chosen.masked_fill(~drawn.response[:, 6:], 0.0)
    torch.testing.assert_close(drawn.logp, expected, atol=1e-5, rtol=1e-4)


def test_a_response_ends_with_its_end_token(net):
    tokens, mask = padded(rows() * 50, True)
    drawn = sample(net, tokens, mask, 6, seeded(), eos=1)
    assert not drawn.response[:, :6].any()
    for row, kept in zip(drawn.tokens[:, 6:], drawn.response[:, 6:], strict=True):
        answer = row[kept].tolist()
        assert 1 not in answer[:-1]
        assert len(answer) == 6 or answer[-1] == 1
        assert (row[~kept] == 1).all()


def test_frequencies_are_those_of_the_softmax(net):
    start = torch.tensor([[3, 4]])
    exact = (net(start)[0, -1] / 1.5).softmax(0).detach()
    drawn = sample(net, start.expand(40_000, -1), None, 1, seeded(), temperature=1.5)
    share = drawn.tokens[:, 2].bincount(minlength=V) / 40_000
    error = (exact * (1 - exact) / 40_000).sqrt()
    assert ((share - exact).abs() < 4 * error + 1e-6).all()


def test_temperature_zero_takes_the_likeliest(net):
    start = torch.tensor([[3, 4]])
    drawn = sample(net, start, None, 1, seeded(), temperature=0.0)
    assert drawn.tokens[0, 2] == net(start)[0, -1].argmax()
    assert drawn.logp.tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: GPT(5, 4, seeded(), width=10, heads=4), "width 10, layers 2, heads"),
        (lambda n: GPT(0, 4, seeded()), "vocabulary 0"),
        (lambda n: n(torch.zeros(1, 13, dtype=torch.long)), "13 tokens: the context"),
        (
            lambda n: n(torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 2) > 0),
            "(1, 2): it must be bool (1, 3)",
        ),
        (
            lambda n: n(torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3)),
            "mask is torch.float32",
        ),
        (
            # A wider mask would else be cut, and another token taken for the last.
            lambda n: sample(
                n,
                torch.zeros(2, 3, dtype=torch.long),
                torch.ones(2, 5, dtype=torch.bool),
                3,
                seeded(),
            ),
            "mask is torch.bool (2, 5): it must be bool (2, 3)",
        ),
        (
            lambda n: sample(
                n, torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3), 3, seeded()
            ),
            "mask is torch.float32 (1, 3)",
        ),
        (
            lambda n: sample(
                n, torch.zeros(1, 10, dtype=torch.long), None, 3, seeded()
            ),
            "a prompt of 10 tokens and 3 new ones",
        ),
        (
            lambda n: sample(n, torch.zeros(1, 1, dtype=torch.long), None, 0, seeded()),
            "0 new ones",
        ),
        (
            lambda n: sample(
                n,
                *padded([torch.zeros(2).long(), torch.zeros(0).long()], True),
                3,
                seeded(),
            ),
            "prompt 1 is empty",
        ),
        (
            lambda n: sample(
                n,
                torch.zeros(1, 1, dtype=torch.long),
                None,
                3,
                seeded(),
                temperature=-1.0,
            ),
            "temperature is -1.0",
        ),
    ],
)
def test_bad_input_is_refused_with_its_value(net, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(net)
