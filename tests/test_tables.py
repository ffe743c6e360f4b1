"""The practitioner's tables name only what exists, and every method of the chapters."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "book/tables.md").read_text(encoding="utf-8")
THEIRS = {"stable_baselines3", "sb3_contrib", "trl", "quantecon", "rliable", "scipy"}
OURS = sorted(
    {
        (module, name)
        for module, name in re.findall(r"`((?:\w+\.)+)(\w+)[`(]", TEXT)
        for module in [module.rstrip(".")]
        if module.split(".")[0] not in THEIRS
    }
)
METHODS = """
    ε-greedy|UCB|gradient bandit|Thompson sampling|value iteration|policy iteration
    TD(λ)|Sarsa|Expected Sarsa|Q-learning|double Q-learning|REINFORCE|GAE|A2C|TRPO|PPO
    adaptive KL penalty|soft value iteration|control as inference|best-of-|DPO|IPO|KTO
    RLHF by PPO|reward model|RLOO|GRPO|Dr. GRPO|DAPO|pass@k
"""
METHODS = [name.strip() for line in METHODS.split("\n") for name in line.split("|")]
METHODS = [name for name in METHODS if name]


def section(title):
    """Return the rows of a section's tables."""
    text = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    return [line for line in text.splitlines() if line.startswith("| ")]


CALLS = [
    node
    for row in section("From a paper to our code")
    for code in re.findall(r"`([^`]+\))`", row.rsplit(" | ", 1)[-1])
    for node in ast.walk(ast.parse(code, mode="eval"))
    if isinstance(node, ast.Call)
]


def test_the_tables_name_functions():
    assert len(OURS) > 45


@pytest.mark.parametrize("module, name", OURS, ids=".".join)
def test_a_named_function_exists(module, name):
    found = importlib.import_module(f"rlbook_utils.{module}")
    assert callable(getattr(found, name))


@pytest.mark.parametrize("call", CALLS, ids=ast.unparse)
def test_a_call_fits_its_function(call):
    module, name = ast.unparse(call.func).rsplit(".", 1)
    found = getattr(importlib.import_module(f"rlbook_utils.{module}"), name)
    named = {k.arg: None for k in call.keywords if k.arg}
    inspect.signature(found).bind(*call.args, **named)


def test_there_are_calls():
    assert len(CALLS) > 35


@pytest.mark.parametrize("title", ["Names", "From a paper to our code"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_row(title, method):
    """As itself: Sarsa does not count where only Expected Sarsa stands."""
    cells = " | ".join(c for row in section(title) for c in row.split(" | ")[:2])
    cells = cells.lower()
    for other in METHODS:
        if method != other and method.lower() in other.lower():
            cells = cells.replace(other.lower(), "")
    assert re.search(rf"(?<!\w){re.escape(method.lower())}", cells)


def test_every_chapter_of_methods_has_a_row():
    named = set(re.findall(r"/chapters/(\w+)>", "".join(section("Methods"))))
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8").split("Appendices")[0]
    assert named == set(re.findall(r"chapters/(\w+)", toc)) - {"mdp"}


def test_every_figure_exists():
    made = set()
    for page in (ROOT / "book/chapters").glob("*.md"):
        made |= set(re.findall(r"name: (fig-[\w-]+)", page.read_text("utf-8")))
    assert set(re.findall(r"numref\}`(fig-[\w-]+)", TEXT)) <= made


def test_the_memory_adds_up():
    """16 bytes a trained parameter, 4 a frozen one, each network as large as P."""
    rows = [row.strip("| ").split(" | ") for row in section("Memory")[1:]]
    assert len(rows) >= 11
    for name, trained, frozen, total, _ in rows:
        most = [0 if x == "none" else len(x.split(", ")) for x in (trained, frozen)]
        assert int(re.match(r"\d+", total).group()) == 16 * most[0] + 4 * most[1], name
        if "(" in frozen:
            assert f"({16 * most[0]})" in total, name
