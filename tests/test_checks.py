"""Every checker of the book knows the right answer and names each mistake."""

import importlib
import pkgutil

import pytest

from rlbook_utils import checks
from rlbook_utils.page.check import Checker

NAMES = [module.name for module in pkgutil.iter_modules(checks.__path__)]
MODULES = [importlib.import_module(f"rlbook_utils.checks.{name}") for name in NAMES]
CHECKERS = [
    value
    for module in MODULES
    for value in vars(module).values()
    if isinstance(value, Checker)
]


def test_every_chapter_with_a_checker_is_found():
    assert {"bandits", "mdp", "bellman"} <= set(NAMES)
    assert len(CHECKERS) >= 9


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda c: c.name)
def test_the_oracle_passes_and_every_mistake_is_named(checker):
    assert checker.judge(checker.oracle).passed
    assert len(checker.mistakes) >= 3
    for mistake in checker.mistakes:
        verdict = checker.judge(mistake.answer)
        assert not verdict.passed and mistake.says in verdict.message
