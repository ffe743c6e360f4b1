"""A small book in an empty folder, on the real tools, for tests that break it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    "book/tools",
    "book/_ext",
    "book/static",
    "rlbook_utils",
    "tests/nbval_rules.py",
    "tests/nbval_sanitize.cfg",
    "tests/test_chapters.py",
    "requirements.txt",
    "pyproject.toml",
    "_config.yml",
    "book/map.yml",
)

FRONT = """---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
rlbook:
  draft: true
---

"""

ONE = """# One

Does the first toy work?

```{code-cell} ipython3
:tags: [remove-input, nbval-ignore-output]

# set up: numpy
```

Some prose about {val}`total`, by {cite:t}`someone2000`.

```{code-cell} ipython3
from pathlib import Path

from rlbook_utils.alpha import total
from rlbook_utils.page import claims, plotting

with Path("../runs.log").open("a") as log:
    log.write("one\\n")
claims.value("total", total(3), "d")
claims.check("total-is-small", total(3), 0, 10, says="The total is {value}.")
print("total", total(3))
```

```{code-cell} ipython3
---
mystnb:
  figure:
    name: fig-one
    caption: A line from nought to three, which tells you nothing else.
---
fig = plotting.canvas()
ax = plotting.axes(fig, x="t", y="y")
plotting.line(ax, [0, 1], [0, total(3)], series=1)
plotting.figure(fig, name="one", alt="A line that rises from nought.",
                data={"y": [0, total(3)]})
```

{numref}`fig-one` is a line.
"""

TWO = """# Two

Does the second toy work?

```{code-cell} ipython3
:tags: [remove-input, nbval-ignore-output]

# set up: numpy
```

Prose.

```{code-cell} ipython3
from pathlib import Path

from rlbook_utils.beta import half

with Path("../runs.log").open("a") as log:
    log.write("two\\n")
print("half", half(3))
```
"""


class ToyBook:
    """Two chapters, `one` (on `alpha`, which imports `gamma`) and `two` (on `beta`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in COPIED:
            source, target = ROOT / name, root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(source, target, ignore=ignored)
            else:
                shutil.copy(source, target)
        (root / "chapters").mkdir()
        self.write("rlbook_utils/gamma.py", "def add(a, b):\n    return a + b\n")
        self.write(
            "rlbook_utils/alpha.py",
            "from rlbook_utils.gamma import add\n\n\n"
            "def total(n):\n    return add(n, 1)\n",
        )
        self.write("rlbook_utils/beta.py", "def half(n):\n    return n / 2\n")
        self.write("book/chapters/one.md", FRONT + ONE)
        self.write("book/chapters/two.md", FRONT + TWO)
        self.write("tests/test_one.py", "")
        self.write("tests/test_two.py", "")
        self.write("rlbook_utils/one.py", "")
        self.write("rlbook_utils/two.py", "")
        self.write("book/intro.md", "# Toy book\n\nIt has two chapters.\n")
        self.write(
            "book/references.bib",
            "@book{someone2000, author={One, Some}, title={T}, publisher={P}, "
            "year={2000}, url={https://example.org/t}}\n",
        )
        self.write(
            "_toc.yml",
            "format: jb-book\nroot: book/intro\nparts:\n- caption: All\n"
            "  numbered: true\n  chapters:\n  - file: chapters/one\n"
            "  - file: chapters/two\n",
        )

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text, f"{old!r} is not in {name}"
        self.write(name, text.replace(old, new))

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def ran(self) -> list[str]:
        """Return which chapters ran since the last call, and forget them."""
        log = self.root / "runs.log"
        names = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return sorted(names)

    def notebooks(self) -> dict[str, bytes]:
        return {
            p.name: p.read_bytes() for p in sorted((self.root / "chapters").iterdir())
        }

    def command(self, *parts: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a tool of the copy with this Python."""
        return subprocess.run(
            [sys.executable, *parts],
            cwd=self.root,
            text=True,
            capture_output=True,
            env=self.environment(**env),
            timeout=300,
        )

    def environment(self, **env: str) -> dict[str, str]:
        clean = {
            k: v
            for k, v in os.environ.items()
            if k not in ("ONLY", "FORCE", "FULL", "DEVICE", "THEME", "RLBOOK_DEVICE")
            and not k.startswith("PYTEST")
        }
        return {**clean, "PYTHONPATH": str(self.root), **env}

    def make_notebooks(self, *args: str, **env: str):
        return self.command("book/tools/notebooks.py", *args, **env)

    def pytest(self, *args: str):
        return self.command("-m", "pytest", "-q", "-p", "no:cacheprovider", *args)
