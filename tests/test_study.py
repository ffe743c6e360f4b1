"""Stored studies, and whether the code that made them is still the same."""

import ast
import importlib
import sys
from pathlib import Path

import convert
import numpy as np
import pytest

from rlbook_utils.core import stats
from rlbook_utils.page import claims, study

ROOT = Path(__file__).resolve().parents[1]
STORED = sorted((ROOT / "rlbook_utils" / "data").glob("*.csv"))


def make():
    return {"step": [1, 2], "regret": [0.5, 1 / 3]}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    claims.start("toy")
    monkeypatch.setenv("RLBOOK_FULL", str(tmp_path))
    return tmp_path


def test_a_full_run_writes_the_columns_and_what_made_them(folder):
    columns = study("slopes", make, seeds=[3, 4], modules=[stats])
    head, again = study_module().parse((folder / "toy_slopes.csv").read_text())
    assert head["seeds"] == "3 4" and head["device"] == "cpu"
    assert "numpy=" in head["versions"]
    assert head["modules"] == "rlbook_utils.core.stats"
    assert len(head["code_sha"]) == 16
    np.testing.assert_allclose(columns["regret"], [0.5, 1 / 3], rtol=1e-7)
    np.testing.assert_array_equal(columns["step"], again["step"])


def study_module():
    return importlib.import_module("rlbook_utils.page.study")


def test_without_full_a_missing_study_says_how_to_make_it(monkeypatch):
    monkeypatch.delenv("RLBOOK_FULL", raising=False)
    claims.start("toy")
    with pytest.raises(FileNotFoundError, match=r"toy_none\.csv: run `make notebooks"):
        study("none", make, seeds=[0], modules=[])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1], "b": [1, 2]}, "columns have the shapes"),
        ({"a": [float("nan")]}, "column 'a' is not finite"),
        ({}, "columns have the shapes"),
    ],
)
def test_bad_columns_are_refused_and_nothing_is_written(folder, columns, message):
    with pytest.raises(ValueError, match=message):
        study("bad", lambda: columns, seeds=[0], modules=[])
    assert not list(folder.iterdir())


def test_the_hash_sees_the_function_and_the_modules():
    sha = study_module().code_sha
    assert sha("def f(): ...", [stats]) == sha("    def f(): ...\n", [stats])
    assert sha("def f(): ...", [stats]) != sha("def f(): pass", [stats])
    assert sha("def f(): ...", [stats]) != sha("def f(): ...", [])


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('"""New."""\ndef f(x):\n    """Of two\n    lines."""\n    return x\n', True),
        ('"""Old."""\n\n\ndef f(x):\n    return x\n', True),
        ('"""Old."""\ndef f(x):\n    "x"; return x\n', False),
        ('"""Old."""\ndef f(x):\n    return -x\n', False),
        ('"""Old."""\ndef f(x):\n    return "x"\n', False),
    ],
)
def test_a_module_s_docstrings_do_not_count_but_all_else_does(
    text, same, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []
    for name, source in (
        ("first_made", '"""Old."""\ndef f(x):\n    """Of it."""\n    return x\n'),
        ("then_made", text),
    ):
        (tmp_path / f"{name}.py").write_text(source)
        module = importlib.import_module(name)
        made.append(study_module().code_sha("def g(): ...", [module]))
        del sys.modules[name]
    assert (made[0] == made[1]) == same


def made_by(chapter, name):
    """Find the source of the function that a chapter hands to `page.study`."""
    functions = {}
    for cell in convert.read_text(ROOT, chapter).cells:
        if cell.kind != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef):
                functions[node.name] = ast.get_source_segment(cell.source, node)
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "study"
                and ast.literal_eval(node.args[0]) == name
            ):
                return functions[node.args[1].id]
    raise AssertionError(f"chapter {chapter} draws no study {name!r}")


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_the_code_of_a_stored_study_has_not_changed(path):
    chapter = next(
        n for n in convert.chapter_names(ROOT) if path.stem.startswith(f"{n}_")
    )
    head, _ = study_module().parse(path.read_text())
    modules = [importlib.import_module(name) for name in head["modules"].split()]
    source = made_by(chapter, path.stem.removeprefix(f"{chapter}_"))
    assert head["code_sha"] == study_module().code_sha(source, modules), (
        f"{path.name} was made by code that has changed: run `make notebooks FULL=1`"
    )
