"""The reference: every module is in it, and a name without a docstring stops it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HELPER = ROOT / "rlbook_utils"


def build(folder, source):
    """Build the reference of one module with warnings as errors."""
    (folder / "toy_module.py").write_text(source)
    (folder / "index.rst").write_text("Toy\n===\n\n.. automodule:: toy_module\n")
    (folder / "conf.py").write_text(
        f"import sys\nsys.path[:0] = [{str(folder)!r}, {str(ROOT / 'book/_ext')!r}]\n"
        "extensions = ['rlbook_api']\n"
    )
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "-q",
            "-b",
            "html",
            folder,
            folder / "o",
        ],
        capture_output=True,
        text=True,
    )


FORMULAS = '''"""A toy."""


def scale(x):
    """Return a*x*b, |x| or x_; the rows below are a table.

    none    x
    twice   2*x

    Examples
    --------
    >>> scale(2) * 3
    6
    """
    return x
'''


def test_formulas_in_plain_text_are_shown_as_they_stand(tmp_path):
    done = build(tmp_path, FORMULAS)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "o" / "index.html").read_text(encoding="utf-8")
    assert "Return a*x*b, |x| or x_; the rows below" in page
    assert "twice   2*x" in page


def test_a_public_name_without_a_docstring_stops_the_build(tmp_path):
    done = build(tmp_path, FORMULAS + "\n\ndef bare(x):\n    return x\n")
    assert done.returncode
    assert "function toy_module.bare has no docstring" in done.stderr


def test_every_module_of_the_helper_is_in_the_reference():
    """The checkers are not: a chapter's exercises show them."""
    named = re.findall(
        r"automodule:: rlbook_utils\.(\S+)", (ROOT / "book/api.md").read_text()
    )
    files = [p.relative_to(HELPER).with_suffix("") for p in HELPER.rglob("*.py")]
    modules = {
        ".".join(file.parts)
        for file in files
        if file.name != "__init__" and file.parts[0] != "checks"
    }
    assert set(named) == modules and len(named) == len(modules)
