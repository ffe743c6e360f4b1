"""Lists that are read from the notebooks: claims, moving figures, runs."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import convert
import nbformat
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

TASK = re.compile(
    r'<div class="rl-live"[^>]* data-name="([^"]+)"[^>]*>'
    r'<p class="rl-prompt"><b>(.*?)</b>'
)


def table(classes: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """Return a table of HTML cells."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows
    )
    return nodes.raw(
        "",
        f'<div class="pst-scrollable-table-container {classes}"><table class="table">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>",
        format="html",
    )


class FromNotebooks(SphinxDirective):
    """A directive that reads every chapter's notebook."""

    @property
    def root(self) -> Path:
        """Return the book's folder."""
        return Path(self.env.srcdir)

    def records(self, name: str, kind: str) -> list[dict[str, Any]]:
        """Return a chapter's claims, values or figures."""
        path = self.root / "chapters" / f"{name}.ipynb"
        self.env.note_dependency(str(path))
        return list(convert.records(nbformat.read(path, as_version=4), kind))

    def link(self, name: str, anchor: str, words: str) -> str:
        """Link to a place in a chapter."""
        up = "../" * self.env.docname.count("/")
        ending = f"#{anchor}" if anchor else ""
        return f'<a href="{up}chapters/{name}.html{ending}">{html.escape(words)}</a>'


class ClaimsList(FromNotebooks):
    """Every claim of the book."""

    def run(self) -> list[nodes.Node]:
        """Build one table a chapter."""
        out: list[nodes.Node] = []
        for name in convert.chapter_names(self.root):
            rows = [
                (
                    f"{self.link(name, 'claim-' + claim['id'], claim['id'])}<br>"
                    f"{html.escape(claim['sentence'])}",
                    claim["value"],
                    f"{claim['low']} to {claim['high']}",
                )
                for claim in self.records(name, "claim")
            ]
            out.append(nodes.rubric(text=convert.read_text(self.root, name).title))
            out.append(table("rl-claims", ("Claim", "Value", "Range"), rows))
        return out


class FiguresList(FromNotebooks):
    """Every figure that moves, with the task that it sets."""

    def run(self) -> list[nodes.Node]:
        """Build one table."""
        rows = []
        for name in convert.chapter_names(self.root):
            title = convert.read_text(self.root, name).title
            for figure, task in self.tasks(name):
                link = self.link(name, f"live-{figure}", html.unescape(task))
                rows.append((html.escape(title), link))
        return [table("rl-moving", ("Chapter", "What it asks"), rows)]

    def tasks(self, name: str) -> list[tuple[str, str]]:
        """Return the name and the prompt of a chapter's moving figures."""
        path = self.root / "chapters" / f"{name}.ipynb"
        pages = (
            output["data"].get("text/html", "")
            for cell in nbformat.read(path, as_version=4).cells
            for output in cell.get("outputs", [])
            if "data" in output
        )
        return TASK.findall("".join(pages))


class RunsList(FromNotebooks):
    """What the last run of each chapter took, and what it checked."""

    def run(self) -> list[nodes.Node]:
        """Build one table."""
        path = self.root / "book" / "runs.json"
        self.env.note_dependency(str(path))
        runs = json.loads(path.read_text(encoding="utf-8"))
        rows, total = [], [0, 0, 0]
        for name in convert.chapter_names(self.root):
            run = runs[name]
            counts = [
                run["seconds"],
                len(self.records(name, "claim")),
                len(self.records(name, "figure")),
            ]
            total = [a + b for a, b in zip(total, counts, strict=True)]
            title = convert.read_text(self.root, name).title
            versions = ", ".join(f"{k} {v}" for k, v in run["versions"].items())
            link = self.link(name, "", title)
            rows.append((link, *map(str, counts), run["device"], versions))
        rows.append(("The whole book", *map(str, total), "", ""))
        head = ("Chapter", "Seconds", "Claims", "Figures", "Device", "Versions")
        return [table("rl-runs", head, rows)]
