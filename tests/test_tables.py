"""The practitioner's tables name only what exists."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "book/tables.md").read_text(encoding="utf-8")
OURS = sorted(
    {
        (module, name)
        for module, name in re.findall(r"`((?:\w+\.)+)(\w+)[`(]", TEXT)
        for module in [module.rstrip(".")]
        if module.split(".")[0] not in {"stable_baselines3", "sb3_contrib", "trl"}
        and module.split(".")[0] not in {"quantecon", "rliable"}
    }
)


def test_the_tables_name_functions():
    assert len(OURS) > 25


@pytest.mark.parametrize("module, name", OURS, ids=".".join)
def test_a_named_function_exists(module, name):
    found = importlib.import_module(f"rlbook_utils.{module}")
    assert callable(getattr(found, name))


def test_the_memory_adds_up():
    """16 bytes a trained parameter, 4 a frozen one, each network as large as P."""
    rows = re.findall(
        r"(?m)^\| (RLHF by PPO|reward model) \| (.+?) \| (.+?) \| (\d+)", TEXT
    )
    assert len(rows) == 2
    for _, trained, frozen, total in rows:
        held = 0 if frozen == "none" else len(frozen.split(", "))
        assert 16 * len(trained.split(", ")) + 4 * held == int(total)
