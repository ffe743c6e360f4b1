import numpy as np
import pytest

from rlbook_utils.page.check import Checker, Mistake, is_stub, same, show


def discounted(rewards, gamma):
    total, out = 0.0, np.zeros(len(rewards))
    for t in reversed(range(len(rewards))):
        total = rewards[t] + gamma * total
        out[t] = total
    return out


def undiscounted(rewards, gamma):
    return discounted(rewards, 1.0)


def from_the_start(rewards, gamma):
    return np.full(len(rewards), discounted(rewards, gamma)[0])


def reversed_time(rewards, gamma):
    return discounted(rewards[::-1], gamma)


CASES = [
    {"rewards": np.array([1.0, 1.0]), "gamma": 1.0},
    {"rewards": np.array([1.0, 0.0, 2.0]), "gamma": 0.5},
]
MISTAKES = [
    Mistake(undiscounted, "You may have left out gamma."),
    Mistake(from_the_start, "You may have summed from the start of the episode."),
    Mistake(reversed_time, "You may have run through time in the wrong direction."),
]
returns = Checker("returns", discounted, CASES, mistakes=MISTAKES, points=2)


def test_a_right_answer_earns_its_points(capsys):
    def mine(rewards, gamma):
        weights = gamma ** np.arange(len(rewards))
        return np.array([weights[: len(rewards) - t] @ rewards[t:]
                         for t in range(len(rewards))])  # fmt: skip

    verdict = returns.judge(mine)
    assert verdict.passed and verdict.points == verdict.possible == 2
    returns(mine)
    assert capsys.readouterr().out == "returns: right on 2 cases.\n"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.answer.__name__)
def test_each_typical_mistake_is_named(mistake):
    verdict = returns.judge(mistake.answer)
    assert not verdict.passed and verdict.attempted and verdict.points == 0
    assert verdict.message.endswith(mistake.says)


def test_the_first_failing_case_is_shown_with_its_inputs():
    message = returns.judge(undiscounted).message
    assert "wrong on case 2 of 2" in message
    assert "rewards = [1. 0. 2.], shape (3,), gamma = 0.5" in message
    assert "yours     [3. 2. 2.], shape (3,)" in message
    assert "expected  [1.5 1. 2. ], shape (3,)" in message


def test_an_unknown_mistake_is_wrong_without_a_guess():
    message = returns.judge(lambda rewards, gamma: rewards * 7).message
    assert message.count("\n") == 3
    assert "may have" not in message


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda rewards, gamma: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda rewards: rewards, "raised TypeError"),
        (lambda rewards, gamma: print(end=""), "None: is a `return` missing?"),
        (lambda rewards, gamma: discounted(rewards, gamma)[:, None], "shape (2, 1)"),
        (lambda rewards, gamma: rewards * np.nan, "[nan nan]"),
    ],
)
def test_answers_that_crash_or_have_the_wrong_form_are_told_so(answer, message):
    assert message in returns.judge(answer).message


def test_an_answer_that_changes_its_input_is_told_so():
    def mine(rewards, gamma):
        for t in reversed(range(len(rewards) - 1)):
            rewards[t] += gamma * rewards[t + 1]
        return rewards

    assert "changed its input 'rewards' in place" in returns.judge(mine).message


def test_a_stub_is_not_attempted_yet(capsys):
    def mine(rewards, gamma):
        """Return the discounted returns."""
        ...

    verdict = returns.judge(mine)
    assert not verdict.attempted and verdict.message == "returns: not attempted yet"
    assert is_stub(mine)
    assert not is_stub(discounted) and not is_stub(lambda: 3)


def test_what_is_no_function_is_refused():
    assert "3 is no function" in returns.judge(3).message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(cases=[]), "has no cases"),
        (dict(rtol=-1), "rtol=-1"),
        (dict(mistakes=[Mistake(discounted, "none")]), "cannot tell this mistake"),
    ],
)
def test_a_checker_that_cannot_check_is_refused(change, message):
    call = dict(name="returns", oracle=discounted, cases=CASES) | change
    with pytest.raises(ValueError, match=message):
        Checker(**call)


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (1.0, 1.0 + 1e-9, True), (1.0, 1.1, False), ("a", "a", True),
        ("a", 1.0, False), ((1.0, [2.0, 3.0]), (1.0, [2.0, 3.0]), True),
        ((1.0, [2.0, 3.0]), (1.0, [2.0, 4.0]), False), (np.inf, np.inf, True),
        (0.0, np.inf, False),
        (np.nan, np.nan, False), ([[1.0]], [1.0], False), ({}, 1.0, False),
    ],
)  # fmt: skip
def test_comparison(a, b, equal):
    assert same(a, b, 1e-6, 0.0) is equal


def test_tensors_are_compared_as_arrays():
    import torch

    assert same(torch.tensor([1.0, 2.0]), np.array([1.0, 2.0]), 1e-6, 0.0)
    assert show(torch.tensor([1.0])) == "[1.], shape (1,)"
