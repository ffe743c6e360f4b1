"""Who may import whom in the helper, and how large it may grow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rlbook_utils"
FILES = sorted(PACKAGE.rglob("*.py"))
OUTSIDE = {"numpy", "torch", "matplotlib", "ipywidgets", "IPython", "rlbook_utils"}
FLOORS = {"core": 0, "nets": 1, "worlds": 1, "page": 1, "algorithm": 2, "checks": 3}
MAY = {
    "core": {"core"},
    "nets": {"nets", "core"},
    "worlds": {"worlds", "core"},
    "page": {"page", "core.stats", "core.runtime"},
    "algorithm": {"worlds", "nets", "core"},
    "checks": {"checks", "algorithm", "worlds", "nets", "core", "page"},
}
LATER = {
    "actor_critic": {"policy_gradient"},
    "ppo": {"actor_critic"},
    "rlhf": {"lm_policy", "ppo"},
    "dpo": {"lm_policy"},
    "grpo": {"lm_policy", "ppo"},
}
# Imported inside functions, where the package may be missing.
ONLY_THERE = {"smollm": {"gguf", "tokenizers"}}
NUMPY_ONLY = {"mdp", "bellman", "td", "maxent"}
SILENT_AT_IMPORT = {"core", "page"}


def floor(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else "algorithm"


def imports(path, *, top_level=False):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: relative import"
            for alias in node.names:
                base = ROOT.joinpath(*node.module.split("."), alias.name)
                is_module = base.is_dir() or base.with_suffix(".py").exists()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def allowed(path, name):
    parts = name.split(".")
    if parts[0] != "rlbook_utils" or len(parts) == 1:
        outside = OUTSIDE | ONLY_THERE.get(path.stem, set())
        return parts[0] in outside or parts[0] in __import__("sys").stdlib_module_names
    here, target = floor(path), ".".join(parts[1:])
    if any(target == ok or target.startswith(f"{ok}.") for ok in MAY[here]):
        return True
    if here == "algorithm":
        return target == path.stem or target in LATER.get(path.stem, set())
    if here == "checks":
        return "algorithm" in MAY[here] and (PACKAGE / f"{target}.py").exists()
    return False


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_down(path):
    if path == PACKAGE / "__init__.py":
        assert not list(imports(path))
        return
    for name in imports(path):
        assert allowed(path, name), f"{path.relative_to(ROOT)} may not import {name}"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("core/stats.py", "rlbook_utils.bandits"),
        ("page/claims.py", "rlbook_utils.core.returns"),
        ("bandits.py", "rlbook_utils.page.claims"),
        ("bandits.py", "rlbook_utils.td"),
        ("bandits.py", "scipy.stats"),
        ("nets/transformer.py", "tokenizers"),
    ],
)
def test_the_rule_refuses_what_it_must(file, name):
    assert not allowed(PACKAGE / file, name)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_is_not_imported_where_it_only_costs_time(path):
    if floor(path) in SILENT_AT_IMPORT or path.stem in NUMPY_ONLY:
        top = list(imports(path, top_level=True))
        assert "torch" not in top, f"{path.relative_to(ROOT)} imports torch on import"


def test_what_may_be_missing_is_imported_inside_functions():
    for path in FILES:
        rare = ONLY_THERE.get(path.stem, set())
        assert not rare & set(imports(path, top_level=True)), path.name


def code_lines(node, lines):
    """Count a node's lines without blanks, comments and docstrings."""
    skipped = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Module | ast.FunctionDef | ast.ClassDef):
            first = inner.body[0] if inner.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                skipped.update(range(first.lineno, first.end_lineno + 1))
    start = getattr(node, "lineno", 1)
    end = getattr(node, "end_lineno", len(lines))
    wanted = [k for k in range(start, end + 1) if k not in skipped]
    return sum(
        bool(lines[k - 1].strip()) and not lines[k - 1].strip().startswith("#")
        for k in wanted
        if k <= len(lines)
    )


def lines_of(path):
    source = path.read_text(encoding="utf-8")
    return code_lines(ast.parse(source), source.split("\n"))


def test_the_helper_stays_small():
    """What readers look at is short; a chapter's checkers are shorter still."""
    page = [path for path in FILES if floor(path) == "page"]
    checks = [path for path in FILES if floor(path) == "checks"]
    methods = [path for path in FILES if floor(path) not in {"page", "checks"}]
    assert sum(map(lines_of, methods)) < 5800
    assert max(map(lines_of, methods)) < 500
    assert sum(map(lines_of, page)) < 1000
    assert max(map(lines_of, checks)) < 130


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_functions_are_short(path):
    source = path.read_text(encoding="utf-8")
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            limit = 120 if node.name.startswith("train") else 40
            assert code_lines(node, lines) < limit, f"{path.name}: {node.name} is long"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            text = ast.get_docstring(node) or ""
            assert text, f"{path.name}: {node.name} has no docstring"
            if isinstance(node, ast.FunctionDef):
                assert "Examples\n" in text, f"{path.name}: {node.name} has no example"
                if node.args.args or node.args.kwonlyargs:
                    assert "Parameters\n" in text, f"{path.name}: {node.name}"
