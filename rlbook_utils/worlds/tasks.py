"""Two tasks for a small language model that need no data: addition and mini-reviews.

Both hand out texts, a tokenizer that knows their symbols, and a judge. Addition is
judged by a verifier, right or wrong. A review is judged by `review_score`, a table of
word valences of this book's own; an annotator who prefers one review to another does so
with the probability that Bradley and Terry give to the difference of the scores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

PAD, END = "<pad>", "<end>"


class Tokenizer:
    """Map texts to token numbers and back; refuse what is not in the vocabulary.

    Token 0 is padding, 1 ends a text, then come `symbols` in order.

    Parameters
    ----------
    symbols : sequence of str
        Single characters, or words where `words`.
    words : bool
        Split texts at blanks.

    Raises
    ------
    ValueError
        If a symbol occurs twice, is empty, or, of characters, longer than one.

    Examples
    --------
    >>> digits = Tokenizer("0123456789+=")
    >>> digits.encode("7+5="), digits.decode([3, 4, 1, 0])
    ([9, 12, 7, 13], '12')
    """

    pad, end = 0, 1

    def __init__(self, symbols: Sequence[str], *, words: bool = False) -> None:
        self.symbols, self.blank = (PAD, END, *symbols), " " if words else ""
        self.numbers = {symbol: k for k, symbol in enumerate(self.symbols)}
        if len(self.numbers) < len(self.symbols):
            twice = next(s for s in self.symbols if self.symbols.count(s) > 1)
            raise ValueError(f"symbol {twice!r} occurs twice")
        for symbol in symbols:
            if not symbol or (words and " " in symbol) or (not words and symbol[1:]):
                raise ValueError(f"symbol {symbol!r} is none with words={words}")

    def __len__(self) -> int:
        """Return the size of the vocabulary."""
        return len(self.symbols)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without an end token.

        Raises ValueError with the first symbol that is not in the vocabulary.
        """
        parts = text.split() if self.blank else list(text)
        for place, part in enumerate(parts):
            if part not in self.numbers:
                kind = "word" if self.blank else "character"
                raise ValueError(f"unknown {kind} {part!r} at {place} of {text!r}")
        return [self.numbers[part] for part in parts]

    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        """Return the text of tokens up to the first end token, padding left out."""
        numbers = [int(token) for token in tokens]
        if numbers and not 0 <= min(numbers) <= max(numbers) < len(self):
            raise ValueError(f"tokens {numbers}: they go from 0 to {len(self) - 1}")
        if self.end in numbers:
            numbers = numbers[: numbers.index(self.end)]
        return self.blank.join(self.symbols[k] for k in numbers if k != self.pad)

    def batch(
        self,
        prompts: Sequence[str],
        responses: Sequence[str] = (),
        *,
        left: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens, mask and response mask (B, L) of padded texts.

        Parameters
        ----------
        prompts : sequence of str
        responses : sequence of str, optional
            One for each prompt; an end token is added. Without them, prompts alone.
        left : bool
            Pad on the left, as sampling likes it.

        Returns
        -------
        tokens : Tensor of int
        mask : Tensor of bool
            True on real tokens.
        response : Tensor of bool
            True on responses and their end tokens.

        Raises
        ------
        ValueError
            If a prompt or response is empty, or their numbers differ.
        """
        if responses and len(responses) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts, {len(responses)} responses")
        rows = []
        for k, prompt in enumerate(prompts):
            head = self.encode(prompt)
            tail = [*self.encode(responses[k]), self.end] if responses else []
            if not head or len(tail) == 1:
                raise ValueError(f"row {k}: the prompt or the response is empty")
            rows.append((head, tail))
        size = max(len(head) + len(tail) for head, tail in rows)
        tokens = torch.full((len(rows), size), self.pad)
        mask, response = torch.zeros(2, *tokens.shape, dtype=torch.bool)
        for k, (head, tail) in enumerate(rows):
            first = size - len(head) - len(tail) if left else 0
            stop = first + len(head) + len(tail)
            tokens[k, first:stop] = torch.tensor(head + tail)
            mask[k, first:stop] = True
            response[k, first + len(head) : stop] = True
        return tokens, mask, response


# Addition


def addition_tokenizer() -> Tokenizer:
    """Return the tokenizer of digits, plus and equals.

    Examples
    --------
    >>> len(addition_tokenizer())
    14
    """
    return Tokenizer("0123456789+=")


def addition(count: int, generator: torch.Generator) -> tuple[list[str], list[str]]:
    """Draw sums of two numbers of two digits, with repetition.

    Parameters
    ----------
    count : int
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    prompts, responses : list of str

    Raises
    ------
    ValueError
        If `count` is not positive.

    Examples
    --------
    >>> prompts, responses = addition(2, torch.Generator().manual_seed(0))
    >>> [verify_addition(p, r) for p, r in zip(prompts, responses)]
    [1.0, 1.0]
    """
    _count(count)
    pairs = torch.randint(10, 100, (count, 2), generator=generator).tolist()
    return [f"{a}+{b}=" for a, b in pairs], [str(a + b) for a, b in pairs]


def verify_addition(prompt: str, response: str) -> float:
    """Return 1 if the response is the sum that the prompt asks for, else 0.

    Parameters
    ----------
    prompt : str
        As "37+45=".
    response : str
        Compared as text: no blanks, no leading zeros.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the prompt is no addition.

    Examples
    --------
    >>> verify_addition("37+45=", "82"), verify_addition("37+45=", "082")
    (1.0, 0.0)
    """
    match = re.fullmatch(r"(\d+)\+(\d+)=", prompt)
    if match is None:
        raise ValueError(f"prompt {prompt!r} is no addition")
    return float(response == str(int(match[1]) + int(match[2])))


# Mini-reviews

TOPICS = ("film", "plot", "cast", "music", "hotel", "room", "food", "staff")
VALENCES = {
    "fine": 0.5,
    "nice": 1.0,
    "good": 1.3,
    "lovely": 1.8,
    "great": 2.1,
    "wonderful": 2.5,
    "dull": -0.8,
    "boring": -1.1,
    "poor": -1.4,
    "bad": -1.7,
    "awful": -2.2,
    "horrible": -2.6,
    "long": 0.0,
    "new": 0.0,
}
"""How much each word says for (positive) or against what it describes."""

INTENSITIES = {"slightly": 0.5, "quite": 0.9, "very": 1.4, "extremely": 1.7}
"""Factor of the next adjective's valence."""

NEGATION = -0.6
"""Factor of "not": "not good" is bad, but less than "bad"."""

WORDS = ("the", "was", "and", "but", "not", *INTENSITIES, *VALENCES, *TOPICS)


def review_tokenizer() -> Tokenizer:
    """Return the tokenizer of the reviews' words.

    Examples
    --------
    >>> review_tokenizer().encode("the film was not good")
    [2, 25, 3, 6, 13]
    """
    return Tokenizer(WORDS, words=True)


def reviews(count: int, generator: torch.Generator) -> tuple[list[str], list[str]]:
    """Draw reviews from the grammar, as prompts and responses.

    A prompt is "the <topic> was". A response is an opinion, or two of them joined by
    "and the <topic> was" or "but the <topic> was"; an opinion is an adjective behind
    "not" (one in five), and a word of intensity (two in five). All is drawn uniformly.

    Parameters
    ----------
    count : int
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    prompts, responses : list of str

    Raises
    ------
    ValueError
        If `count` is not positive.

    Examples
    --------
    >>> prompts, responses = reviews(2, torch.Generator().manual_seed(1))
    >>> prompts[0], responses[0]
    ('the food was', 'extremely wonderful and the hotel was poor')
    """
    _count(count)
    dice = torch.rand(count, 11, generator=generator).tolist()
    prompts, responses = [], []
    for topic, second, join, *rest in dice:
        prompts.append(f"the {_pick(TOPICS, topic)} was")
        text = _opinion(rest[:4])
        if second < 0.5:
            link = "and" if join < 0.5 else "but"
            text += f" {link} the {_pick(TOPICS, 2 * second)} was {_opinion(rest[4:])}"
        responses.append(text)
    return prompts, responses


def _pick(words: Sequence[str], luck: float) -> str:
    return words[int(luck * len(words))]


def _opinion(dice: Sequence[float]) -> str:
    negated, intense, degree, adjective = dice
    parts = ["not"] if negated < 0.2 else []
    if intense < 0.4:
        parts.append(_pick(tuple(INTENSITIES), degree))
    return " ".join([*parts, _pick(tuple(VALENCES), adjective)])


def review_score(text: str) -> float:
    """Return the gold reward of a text: the mean valence of its opinions.

    An opinion is an adjective's valence, times the factor of the last word of intensity
    and of each "not" that stand directly before it. A text without an adjective scores
    0. Any order of words has a score, whether the grammar makes it or not.

    Parameters
    ----------
    text : str

    Returns
    -------
    float
        From -4.42 to 4.25.

    Raises
    ------
    ValueError
        If a word is unknown.

    Examples
    --------
    >>> round(review_score("good but the plot was not very good"), 3)
    0.104
    """
    opinions, sign, degree = [], 1.0, 1.0
    for word in text.split():
        if word not in WORDS:
            raise ValueError(f"unknown word {word!r} in {text!r}")
        if word == "not":
            sign *= NEGATION
        elif word in INTENSITIES:
            degree = INTENSITIES[word]
        else:
            if word in VALENCES:
                opinions.append(sign * degree * VALENCES[word])
            sign, degree = 1.0, 1.0
    return sum(opinions) / max(len(opinions), 1)


def prefer(
    first: Tensor, second: Tensor, generator: torch.Generator, sharpness: float = 1.0
) -> Tensor:
    """Draw an annotator's choices between responses with these scores.

    P(first is chosen) = sigmoid(sharpness (first - second)), Bradley and Terry's.

    Parameters
    ----------
    first, second : Tensor
        Scores, of one shape.
    generator : torch.Generator
        On the scores' device.
    sharpness : float
        At least 0; 0 is a coin, infinity always picks the better.

    Returns
    -------
    Tensor of bool
        True where the first is chosen.

    Raises
    ------
    ValueError
        If the shapes differ or the sharpness is negative.

    Examples
    --------
    >>> dice = torch.Generator().manual_seed(0)
    >>> prefer(torch.tensor([2.0]), torch.tensor([-2.0]), dice, 9.0).tolist()
    [True]
    """
    if first.shape != second.shape:
        raise ValueError(
            f"first is {tuple(first.shape)}, second {tuple(second.shape)}: "
            "they must agree"
        )
    if not sharpness >= 0:
        raise ValueError(f"sharpness is {sharpness}: it must be 0 or more")
    apart = (first - second) * sharpness
    chance = torch.where(first == second, 0.5, apart.sigmoid())
    luck = torch.rand(chance.shape, generator=generator, device=chance.device)
    return luck < chance


def _count(count: int) -> None:
    if count < 1:
        raise ValueError(f"count is {count}: it must be at least 1")
