"""The bug museum: its rows, and the tests that it names."""

import ast
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "book" / "chapters" / "errata.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/\w+\.py)::(\w+)`", TEXT)))
EXHIBITS = re.split(r"(?m)^```\{pitfall\} ", TEXT)[1:]
# Rows 24, 26 and 28 wait for their chapters.
ROWS = {*range(1, 24), 25, 27, *range(29, 33)}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_named_test_exists(path, name):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    assert name in functions, f"the museum names {path}::{name}, which is no test"


def test_every_row_is_shown_once_and_names_a_test():
    numbers = [int(text.split(".")[0]) for text in EXHIBITS]
    assert len(numbers) == len(set(numbers)) and set(numbers) == ROWS
    for text in EXHIBITS:
        body = text.split("\n```")[0]
        assert "**Told apart by** `tests/" in body, body.split("\n")[0]
        assert "{val}`" in body or "check above" in body, body.split("\n")[0]


def test_the_count_and_the_gaps_are_those_of_the_exhibits():
    assert len(EXHIBITS) == len(ROWS) == 29 and "Twenty-nine mistakes" in TEXT
    gaps = sorted(set(range(1, max(ROWS) + 1)) - ROWS)
    assert "{}, {} and {} belong to".format(*gaps) in TEXT


def test_every_chapter_that_shows_an_exhibit_has_pitfalls():
    shown = set(re.findall(r"\{doc\}`/chapters/(\w+)`", TEXT))
    assert {"bandits", "td", "ppo", "maxent", "rlhf", "dpo", "grpo"} <= shown
    for name in shown:
        text = (ROOT / "book" / "chapters" / f"{name}.md").read_text(encoding="utf-8")
        assert "```{pitfall}" in text, name


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5])
def test_pitfall_16_the_deviation_weighs_prompts(p):
    # All 2^8 groups of a prompt that is answered rightly with probability p: the mean
    # of advantage times score, over the true derivative p (1 - p) by the logit.
    size, multiplied = 8, {"std": 0.0, "own mean": 0.0, "others": 0.0}
    for rights in itertools.product([0.0, 1.0], repeat=size):
        r = np.array(rights)
        chance = np.prod(np.where(r == 1, p, 1 - p))
        own = r - r.mean()
        spread = r.std(ddof=1)
        advantages = {
            "std": own / spread if spread else own,
            "own mean": own,
            "others": own * size / (size - 1),
        }
        for name, gaps in advantages.items():
            multiplied[name] += chance * (gaps * (r - p)).mean() / (p * (1 - p))
    published = {0.01: 2.44, 0.3: 1.84, 0.5: 1.74}
    assert multiplied["std"] == pytest.approx(published[p], abs=0.006)
    assert multiplied["std"] < np.sqrt(size) * (1 - 1 / size)
    assert multiplied["own mean"] == pytest.approx(7 / 8)
    assert multiplied["others"] == pytest.approx(1)
