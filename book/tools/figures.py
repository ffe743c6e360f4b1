"""Write every figure of the book as SVG, PDF and PNG, with a CSV of its data.

Executes the chapters and throws their notebooks away.
Writes `_build/figures/<chapter>/<name>.{svg,pdf,png,csv}`: light, or dark with
THEME=dark. ONLY=name takes one chapter.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

sys.path.insert(0, str(Path(__file__).parent))

import convert
import notebooks

FOLDER = Path("_build") / "figures"
THEMES = ("light", "dark")


def main() -> int:
    """Run the command; return its exit code."""
    theme = os.environ.get("THEME") or "light"
    try:
        if theme not in THEMES:
            raise ValueError(f"unknown theme {theme!r}: choose {' or '.join(THEMES)}")
        book = convert.read_book(notebooks.ROOT)
        names = notebooks.selected(book, os.environ.get("ONLY", ""))
        with Progress(*notebooks.COLUMNS, console=Console()) as progress:
            for name in names:
                env = notebooks.environment(book.root, "cpu", full=False)
                env["RLBOOK_FIGURES"] = str(book.root / FOLDER / name)
                env["RLBOOK_THEME"] = theme
                old = notebooks.stored(book.root / "chapters" / f"{name}.ipynb")
                notebooks.Runner(book, env, progress).execute(name, old)
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the figures so far are kept", file=sys.stderr)
        return 130
    print(f"the figures are in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
