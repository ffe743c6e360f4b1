"""Tokenizer, verifier and gold reward against hand-computed cases."""

import re

import pytest
import torch

from rlbook_utils.worlds import tasks
from rlbook_utils.worlds.tasks import Tokenizer


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("tokenizer", "texts"),
    [
        (tasks.addition_tokenizer(), tasks.addition(50, seeded())[0]),
        (tasks.review_tokenizer(), tasks.reviews(50, seeded())[1]),
    ],
    ids=["addition", "reviews"],
)
def test_decoding_undoes_encoding(tokenizer, texts):
    for text in texts:
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == text
        assert tokenizer.decode([0, 0, *tokens, 1, tokens[0]]) == text
        assert min(tokens) > 1
        assert max(tokens) < len(tokenizer)


@pytest.mark.parametrize("left", [True, False])
def test_a_batch_holds_prompt_response_and_end(left):
    digits = tasks.addition_tokenizer()
    tokens, mask, response = digits.batch(["1+1=", "12+30="], ["2", "42"], left=left)
    assert tokens.shape == (2, 9)
    for row, text in enumerate(["1+1=2", "12+30=42"]):
        kept = tokens[row][mask[row]].tolist()
        assert kept == [*digits.encode(text), 1]
        answer = tokens[row][response[row]].tolist()
        assert answer == [*digits.encode(text.split("=")[1]), 1]
    assert mask[:, -1].all().item() == left or mask[0].sum() == 9
    assert not (response & ~mask).any()


def test_prompts_alone_have_no_response():
    tokens, mask, response = tasks.addition_tokenizer().batch(["1+1=", "12+30="])
    assert tokens.shape == (2, 6)
    assert mask.sum(1).tolist() == [4, 6]
    assert not response.any()


def test_sums_are_right_and_cover_the_range():
    prompts, responses = tasks.addition(5000, seeded())
    numbers = [tuple(map(int, re.findall(r"\d+", prompt))) for prompt in prompts]
    assert all(a + b == int(r) for (a, b), r in zip(numbers, responses, strict=True))
    assert {a for a, _ in numbers} == set(range(10, 100))
    assert len(set(prompts)) > 3000


@pytest.mark.parametrize(
    ("response", "right"),
    [("82", 1), ("83", 0), ("082", 0), ("82 ", 0), ("82+", 0), ("", 0), ("28", 0)],
)
def test_the_verifier_is_strict(response, right):
    assert tasks.verify_addition("37+45=", response) == right


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("good", 1.3),
        ("very good", 1.4 * 1.3),
        ("not good", -0.6 * 1.3),
        ("not very bad", -0.6 * 1.4 * -1.7),
        ("very not bad", -0.6 * 1.4 * -1.7),
        ("not not good", 0.36 * 1.3),
        ("very slightly good", 0.5 * 1.3),  # the last word of intensity counts
        ("not the good", 1.3),  # something stands between
        ("good but the room was awful", (1.3 - 2.2) / 2),
        ("new", 0.0),
        ("the film was", 0.0),
        ("", 0.0),
        ("good good good", 1.3),
    ],
)
def test_scores_by_hand(text, score):
    assert tasks.review_score(text) == pytest.approx(score)


def test_the_table_of_valences_is_balanced_and_the_extremes_are_known():
    factors = [*tasks.INTENSITIES, ""]
    texts = [
        f"{'not ' * negated}{f} {word}"
        for negated in (0, 1)
        for f in factors
        for word in tasks.VALENCES
    ]
    scores = {text: tasks.review_score(text) for text in texts}
    assert max(scores, key=scores.get) == "extremely wonderful"
    assert min(scores, key=scores.get) == "extremely horrible"
    assert scores["not extremely horrible"] < scores["extremely wonderful"]


def test_reviews_follow_the_grammar():
    prompts, responses = tasks.reviews(4000, seeded())
    topic, word = "|".join(tasks.TOPICS), "|".join(tasks.VALENCES)
    opinion = rf"(not )?(({'|'.join(tasks.INTENSITIES)}) )?({word})"
    whole = re.compile(rf"{opinion}( (and|but) the ({topic}) was {opinion})?")
    assert all(re.fullmatch(rf"the ({topic}) was", prompt) for prompt in prompts)
    assert all(whole.fullmatch(response) for response in responses)
    two = sum(" was " in response for response in responses) / 4000
    negated = sum(response.startswith("not") for response in responses) / 4000
    # Four standard errors: sqrt(.25/4000) = .008, sqrt(.16/4000) = .0063.
    assert two == pytest.approx(0.5, abs=0.032)
    assert negated == pytest.approx(0.2, abs=0.026)
    for word in tasks.WORDS:
        assert any(word in f"{p} {r}" for p, r in zip(prompts, responses, strict=True))


def test_the_annotator_is_bradley_terry():
    first, second = torch.tensor([[1.0], [0.0], [-3.0]]), torch.zeros(3, 1)
    chosen = tasks.prefer(
        first.expand(3, 20_000), second.expand(3, 20_000), seeded(), 2.0
    )
    exact = (2 * first[:, 0]).sigmoid()
    error = (exact * (1 - exact) / 20_000).sqrt()
    assert ((chosen.float().mean(1) - exact).abs() < 4 * error).all()


def test_a_sharp_annotator_never_errs_and_a_blunt_one_tosses_a_coin():
    first, second = torch.ones(1000), torch.zeros(1000)
    assert tasks.prefer(first, second, seeded(), float("inf")).all()
    assert not tasks.prefer(second, first, seeded(), float("inf")).any()
    for a, b, sharp in ((first, first, float("inf")), (first, second, 0.0)):
        share = tasks.prefer(a, b, seeded(), sharp).float().mean().item()
        assert share == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Tokenizer("aba"), "symbol 'a' occurs twice"),
        (lambda: Tokenizer(["ab"]), "symbol 'ab' is none"),
        (lambda: Tokenizer(["a b"], words=True), "symbol 'a b' is none"),
        (lambda: Tokenizer([""], words=True), "symbol ''"),
        (
            lambda: tasks.addition_tokenizer().encode("1-2="),
            "unknown character '-' at 1 of '1-2='",
        ),
        (
            lambda: tasks.review_tokenizer().encode("the film rocks"),
            "unknown word 'rocks' at 2",
        ),
        (lambda: tasks.addition_tokenizer().decode([14]), "tokens [14]"),
        (lambda: tasks.addition_tokenizer().decode([-1]), "tokens [-1]"),
        (lambda: tasks.addition_tokenizer().batch(["1+1=", ""]), "row 1: the prompt"),
        (lambda: tasks.addition_tokenizer().batch(["1="], [""]), "row 0"),
        (
            lambda: tasks.addition_tokenizer().batch(["1=", "2="], ["1"]),
            "2 prompts, 1 responses",
        ),
        (lambda: tasks.addition(0, seeded()), "count is 0"),
        (lambda: tasks.reviews(-1, seeded()), "count is -1"),
        (lambda: tasks.verify_addition("3*4=", "12"), "prompt '3*4=' is no addition"),
        (lambda: tasks.review_score("good pizza"), "unknown word 'pizza'"),
        (
            lambda: tasks.prefer(torch.zeros(2), torch.zeros(3), seeded()),
            "first is (2,), second (3,)",
        ),
        (
            lambda: tasks.prefer(torch.zeros(2), torch.zeros(2), seeded(), -1.0),
            "sharpness is -1.0",
        ),
    ],
)
def test_bad_input_is_refused_with_its_value(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
