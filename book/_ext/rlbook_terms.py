"""Links the first use of each word of the glossary in each chapter to the glossary."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

# Words with an everyday meaning too: a chapter links them by hand where they are meant.
EVERYDAY = {
    "continuing",
    "control",
    "evaluation",
    "gap",
    "margin",
    "return",
    "score",
    "target",
}
NEVER_INSIDE = (
    nodes.title,
    nodes.reference,
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.caption,
    nodes.rubric,
    nodes.citation,
)


def places(app: Sphinx) -> dict[str, tuple[str, str]]:
    """Return where the glossary explains each of its words."""
    objects = app.env.get_domain("std").get_objects()
    return {
        name.lower(): (document, anchor)
        for name, _, kind, document, anchor, _ in objects
        if kind == "term" and name.lower() not in EVERYDAY
    }


def pattern(words: list[str]) -> re.Pattern[str]:
    """Match a word or its plural, the longest first."""
    longest = sorted(words, key=len, reverse=True)
    return re.compile(
        r"(?<![\w-])(" + "|".join(map(re.escape, longest)) + r")(?=s?(?![\w-]))",
        re.IGNORECASE,
    )


def may_link(text: nodes.Text) -> bool:
    """Tell prose from titles, links, code and the strip at the head of a chapter."""
    node: Any = text
    inside_prose = False
    while node is not None:
        if isinstance(node, NEVER_INSIDE):
            return False
        if {"rl-strip", "rl-check"} & set(
            getattr(node, "attributes", {}).get("classes", [])
        ):
            return False
        inside_prose = inside_prose or isinstance(node, nodes.paragraph)
        node = node.parent
    return inside_prose


def link_first_uses(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn the first use of each word into a link, unless a link stands before it."""
    if not docname.startswith("chapters/"):
        return
    left = places(app)
    for node in list(doctree.findall()):
        if isinstance(node, nodes.reference):
            left.pop(node.astext().lower(), None)
        elif isinstance(node, nodes.Text) and left and may_link(node):
            replace(app, node, docname, left)


def replace(
    app: Sphinx, text: nodes.Text, docname: str, left: dict[str, tuple[str, str]]
) -> None:
    """Split a text at the words that are still to be linked."""
    found: list[nodes.Node] = []
    rest = str(text)
    while left and (match := pattern(list(left)).search(rest)):
        document, anchor = left.pop(match[1].lower())
        uri = app.builder.get_relative_uri(docname, document)
        link = nodes.reference("", match[1], internal=True, classes=["rl-term"])
        link["refuri"] = f"{uri}#{anchor}"
        found += [nodes.Text(rest[: match.start()]), link]
        rest = rest[match.end() :]
    if found:
        text.parent.replace(text, [*found, nodes.Text(rest)])
