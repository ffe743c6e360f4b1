"""The reference of `rlbook_utils`, read from its docstrings by autodoc.

A public name without a docstring is a warning, and warnings stop the build. Docstrings
write formulas in plain text: the characters that reStructuredText would read as markup
are escaped in prose, and left alone in examples and in literals.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
COLUMNS = re.compile(r"\S {2,}\S")
MARKUP = re.compile(r"(``[^`]*``)|([*|\\])|(?<=\w)(_)(?!\w)")


def escape(line: str) -> str:
    """Escape what reStructuredText would read as emphasis, link or list."""
    line = MARKUP.sub(lambda m: m[1] or "\\" + (m[2] or m[3]), line)
    return re.sub(r"^(\s*)(\w\.)(?=\s|$)", r"\1\\\2", line)


def as_plain_text(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Warn of a missing docstring; escape its prose, keep its tables."""
    del app, obj, options
    if not any(line.strip() for line in lines):
        LOGGER.warning("%s %s has no docstring", what, name)
    written: list[str] = []
    for blank, group in itertools.groupby(lines, key=lambda line: not line.strip()):
        block = list(group)
        if blank or block[0].lstrip().startswith(">>>"):
            written += block
        elif COLUMNS.search(block[0]):
            written += [".. code-block:: text", "", *(f"    {line}" for line in block)]
        else:
            written += map(escape, block)
    lines[:] = written


def skip(
    app: Sphinx, what: str, name: str, obj: Any, hidden: bool, options: Any
) -> bool | None:
    """Leave out a NamedTuple's own fields and methods: its docstring lists them."""
    del app, what, hidden, options
    if type(obj).__name__ == "_tuplegetter" or name in {"count", "index"}:
        return True
    return None


def set_options(app: Sphinx, config: Any) -> None:
    """Show every public name of a module, in the order of its source."""
    del app
    config.autodoc_default_options = {
        "members": True,
        "undoc-members": True,
        "member-order": "bysource",
    }
    config.autodoc_typehints = "none"
    config.napoleon_use_param = False
    config.napoleon_use_rtype = False
    config.napoleon_use_ivar = True


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the reference."""
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    app.connect("config-inited", set_options)
    app.connect("autodoc-process-docstring", as_plain_text, priority=400)
    app.connect("autodoc-skip-member", skip)
    return {"version": "1", "parallel_read_safe": True}
