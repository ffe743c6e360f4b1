"""All of the book's Sphinx code.

A chapter's page is built from its MyST text with the outputs of its committed
notebook: `swap_in_text` puts the two together before Sphinx parses them. Nothing
is executed here.
"""

from __future__ import annotations

import hashlib
import html
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import convert
import rlbook_landing
import rlbook_lists
import rlbook_proofs
import rlbook_terms
import rlbook_theme

VERSION = "1"
FORMULA = re.compile(r"\$[^$]*\$")


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
    cells = []
    for cell, written in zip(notebook.cells, text.cells, strict=True):
        cell.source = written.source
        cells.append(cell)
        if written.kind == "code":
            shown = [shown for output in cell.outputs for shown in _shown(output)]
            cell.outputs = shown
            if convert.figure_of(written):
                cells.append(_figure_alone(cell))
    notebook.cells = cells
    source[0] = nbformat.writes(notebook)


def keep_citations_local(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give each page its own keys, so that its citations lead to its own list."""
    del app
    prefix = docname.replace("/", "-") + "-"

    def prefixed(match: re.Match[str]) -> str:
        keys = ",".join(prefix + key.strip() for key in match[2].split(","))
        return f"{{cite{match[1] or ''}}}`{keys}`"

    text = re.sub(r"\{cite(:[pt])?\}`([^`]+)`", prefixed, source[0])
    newline = "\\n" if docname.startswith("chapters/") else "\n"
    fence = "```{bibliography}" + newline
    source[0] = text.replace(fence, f"{fence}:keyprefix: {prefix}{newline}")


def _figure_alone(cell: Any) -> Any:
    """Move a cell's figure into a cell of its own: a caption wraps all outputs."""
    figures = [out for out in cell.outputs if out.get("metadata", {}).get("rlbook")]
    figures = [out for out in figures if out.metadata.rlbook.kind == "figure"]
    alone = nbformat.from_dict({**cell, "outputs": figures})
    alone.id = f"{cell.id}-figure"
    alone.metadata.tags = ["remove-input"]
    cell.outputs = [out for out in cell.outputs if out not in figures]
    del cell.metadata["mystnb"]
    return alone


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
    elif record["kind"] == "figure" and "live" not in record:
        hidden = '<svg aria-hidden="true"'
        drawn = output["data"]["image/svg+xml"].replace("<svg", hidden, 1)
        if record["narrow"]:
            narrow = record["narrow"].replace("<svg", hidden, 1)
            drawn = (
                f'<div class="rl-wide">{drawn}</div>'
                f'<div class="rl-narrow">{narrow}</div>'
            )
        label = html.escape(record["alt"], quote=True)
        markup = f'<div class="rl-figure" role="img" aria-label="{label}">{drawn}</div>'
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


def element(classes: str, tag: str = "div", **attributes: str) -> _Element:
    """Return a node that is written as one HTML element around its children."""
    node = _Element(classes=classes.split())
    node["tag"], node["html"] = tag, attributes
    return node


class _Element(nodes.General, nodes.Element):
    """A block element of the page with a tag of its own."""


def _open(translator: Any, node: _Element) -> None:
    translator.body.append(translator.starttag(node, node["tag"], "", **node["html"]))


def _close(translator: Any, node: _Element) -> None:
    translator.body.append(f"</{node['tag']}>\n")


def as_block(directive: SphinxDirective) -> convert.Directive:
    """Return a directive as the converter sees it, for the checks that both make."""
    argument = directive.arguments[0] if directive.arguments else ""
    lines = list(directive.content)
    start = directive.content_offset
    return convert.Directive(
        directive.name, argument, {}, lines, directive.lineno, start
    )


class Strip(SphinxDirective):
    """The collapsible strip at the head of a chapter, around a definition list."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Build the strip."""
        box = element("rl-strip", "details", open="open")
        summary = element("", "summary")
        summary += nodes.Text("At a glance")
        box += [summary, *self.parse_content_to_nodes()]
        return [box]


class Pitfall(SphinxDirective):
    """A mistake, its cure, and the damage that was measured."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Build the box; the title names the mistake."""
        convert.check_pitfall(Path(self.env.docname), as_block(self))
        box = nodes.admonition(classes=["rl-pitfall"])
        title, messages = self.parse_inline(self.arguments[0])
        box += nodes.title("", "Pitfall: ", *title)
        box += [*messages, *self.parse_content_to_nodes()]
        return [box]


class Quiz(SphinxDirective):
    """A question whose choices each unfold their reason."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Build the question and one foldable line for each choice."""
        block = as_block(self)
        question, choices = convert.read_quiz(Path(self.env.docname), block)
        box = element("rl-quiz")
        asked = nodes.paragraph(classes=["rl-quiz-question"])
        asked += nodes.inline(text="Check yourself.", classes=["rl-quiz-word"])
        asked += [nodes.Text(" "), *self._inline(question)]
        box += asked
        for number, choice in enumerate(choices, start=1):
            kind = "right" if choice.right else "wrong"
            fold = element(f"rl-choice rl-{kind}", "details")
            summary = element("", "summary")
            # A formula alone gives the fold no name that all screen readers read.
            if not FORMULA.sub("", choice.text).strip(" ."):
                name = f"Choice {number}: "
                summary += nodes.inline(text=name, classes=["visually-hidden"])
            summary += self._inline(choice.text)
            reason = element("rl-reason")
            paragraph = nodes.paragraph()
            verdict = "Yes." if choice.right else "Not quite."
            paragraph += nodes.inline(text=verdict, classes=["rl-verdict"])
            paragraph += [nodes.Text(" "), *self._inline(choice.reason)]
            reason += paragraph
            fold += [summary, reason]
            box += fold
        return [box]

    def _inline(self, text: str) -> list[nodes.Node]:
        parsed, messages = self.parse_inline(text)
        return [*parsed, *messages]


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


def show_grades(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Write an exercise's grade and kind behind its title."""
    del app, docname
    for node in doctree.findall(nodes.Admonition):
        graded = convert.grade(" ".join(node.get("classes", [])))
        title = next(iter(node.findall(nodes.title)), None)
        if graded and title is not None:
            title += nodes.inline(text=graded, classes=["rl-grade"])


def outdated(
    app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Write every page again when a style, a script or this extension has changed."""
    del added, changed, removed
    book = Path(app.srcdir) / "book"
    files = [p for name in ("static", "_ext") for p in sorted((book / name).rglob("*"))]
    digest = hashlib.sha256()
    for path in files:
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.name.encode() + path.read_bytes())
    before = getattr(env, "rlbook_look", None)
    env.rlbook_look = digest.hexdigest()
    return [] if before == env.rlbook_look else sorted(env.found_docs)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything with Sphinx."""
    app.setup_extension("rlbook_api")
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", swap_in_text)
    app.connect("source-read", keep_citations_local, priority=600)
    app.connect("config-inited", rlbook_theme.set_theme, priority=900)
    app.connect("builder-inited", rlbook_theme.add_files)
    app.connect("builder-inited", rlbook_theme.wrap_templates, priority=900)
    app.connect("html-page-context", rlbook_theme.trim_scripts, priority=900)
    app.connect("html-page-context", rlbook_theme.page_links, priority=901)
    app.connect("doctree-resolved", wrap_proofs)
    app.connect("doctree-resolved", show_grades, priority=900)
    app.connect("doctree-resolved", rlbook_terms.link_first_uses, priority=950)
    app.add_node(_Element, html=(_open, _close))
    app.add_role("val", Value())
    for name, directive in (
        ("strip", Strip),
        ("pitfall", Pitfall),
        ("quiz", Quiz),
        ("claims-list", rlbook_lists.ClaimsList),
        ("figures-list", rlbook_lists.FiguresList),
        ("runs-list", rlbook_lists.RunsList),
        ("cover", rlbook_landing.Cover),
        ("chapter-map", rlbook_landing.ChapterMap),
        ("columns", rlbook_landing.Columns),
        ("proofs", rlbook_proofs.Proofs),
    ):
        app.add_directive(name, directive)
    return {"version": VERSION, "env_version": 1, "parallel_read_safe": True}
