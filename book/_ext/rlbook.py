"""All of the book's Sphinx code.

A chapter's page is built from its MyST text with the outputs of its committed
notebook: `swap_in_text` puts the two together before Sphinx parses them. Nothing
is executed here.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import convert

VERSION = "1"


def swap_in_text(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace a notebook's cells by those of its MyST text; keep its outputs."""
    if not docname.startswith("chapters/"):
        return
    root = Path(app.srcdir)
    text = convert.read_text(root, Path(docname).name)
    app.env.note_dependency(str(root / text.path))
    notebook = nbformat.reads(source[0], as_version=4)
    app.env.temp_data["rlbook_values"] = convert.stored_values(notebook)
    if len(notebook.cells) != len(text.cells):
        raise convert.TextError(
            text.path, 1, "its notebook is stale: run make notebooks"
        )
    for cell, written in zip(notebook.cells, text.cells, strict=True):
        if written.kind == "markdown":
            cell.source = written.source
        else:
            cell.source = written.source
            cell.outputs = [
                shown for output in cell.outputs for shown in _shown(output)
            ]
    source[0] = nbformat.writes(notebook)


def _shown(output: Any) -> list[Any]:
    """Turn what the page kit recorded into the page's HTML."""
    record = output.get("metadata", {}).get("rlbook")
    if record is None:
        return [output]
    if record["kind"] == "value":
        return []
    if record["kind"] == "claim":
        markup = (
            f'<p class="rl-check" id="claim-{record["id"]}">'
            f'<span class="rl-check-word">Checked</span> '
            f"{html.escape(record['sentence'])}</p>"
        )
    elif record["kind"] == "figure":
        drawing = output["data"]["image/svg+xml"].replace(
            "<svg", '<svg aria-hidden="true"', 1
        )
        label = html.escape(record["alt"], quote=True)
        markup = (
            f'<div class="rl-figure" role="img" aria-label="{label}">{drawing}</div>'
        )
    else:
        return [output]
    output["data"] = {"text/html": markup}
    return [output]


class Value(SphinxRole):
    """``{val}`id```: a number that a cell of the chapter made."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the number's text, or an error that names the identifier."""
        values = self.env.temp_data.get("rlbook_values", {})
        if self.text not in values:
            message = self.inliner.reporter.error(
                f"{{val}}`{self.text}`: no cell calls claims.value({self.text!r})",
                line=self.lineno,
            )
            return [nodes.inline(text=self.text)], [message]
        return [nodes.inline(text=values[self.text], classes=["rl-val"])], []


def once_each(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Drop the inline scripts that two extensions add twice."""
    del app, pagename, templatename, doctree
    seen: set[str] = set()
    kept = []
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body")
        if body and body in seen:
            continue
        seen.add(body or "")
        kept.append(script)
    context["script_files"] = kept


def set_theme(app: Sphinx, config: Any) -> None:
    """Add to the theme's options; Jupyter Book's own stay."""
    del app
    config.html_theme_options.update(navbar_persistent=[])


def wrap_proofs(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Mark the word "Proof", which sphinx-proof writes as plain text."""
    del app, docname
    for text in doctree.findall(nodes.Text):
        parent = text.parent
        inside = parent.parent if isinstance(parent, nodes.paragraph) else None
        if inside is not None and "proof" in inside.get("classes", []):
            match = re.match(r"Proof\. ?", str(text))
            if match and parent.index(text) == 0:
                parent.insert(0, nodes.strong(text="Proof.", classes=["rl-proof-word"]))
                parent.replace(text, nodes.Text(f" {str(text)[match.end() :]}"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything with Sphinx."""
    app.connect("source-read", swap_in_text)
    app.connect("config-inited", set_theme, priority=900)
    app.connect("html-page-context", once_each, priority=900)
    app.connect("doctree-resolved", wrap_proofs)
    app.add_role("val", Value())
    return {"version": VERSION, "env_version": 1, "parallel_read_safe": True}
