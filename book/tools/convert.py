r"""Turn a chapter's MyST text into Markdown that a plain notebook understands.

Reads `_config.yml`, `_toc.yml`, `book/chapters/*.md`, `book/references.bib`.
Writes nothing: `notebooks.py` calls it and writes the notebooks.

A directive becomes a quote or a `<details>`, a citation an author-year link, an
equation label a `\\tag{}`, a cross reference a link to the site. Numbers are
those that Sphinx gives: one counter per kind that runs through the chapter.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jupytext
import nbformat
import yaml
from pybtex.database import Entry, parse_file
from pybtex.richtext import Text as RichText

KNOWN_TAGS = {
    "hide-input",
    "hide-cell",
    "remove-input",
    "solution",
    "nbval-ignore-output",
    "nbval-skip",
    "raises-exception",
}
TOLERANCE = re.compile(r"nbval-tol=([\d.e+-]+)(?::([\d.e+-]+))?")
# Appendices run like chapters and are numbered after them, but promise less: no
# helper of their own, no assignment, no place on the map.
APPENDICES = ("statistics", "refresher", "errata")
SET_UP = re.compile(r"# set up: (numpy|torch)")
THEOREMS = (
    "theorem",
    "lemma",
    "proposition",
    "corollary",
    "definition",
    "example",
    "remark",
    "algorithm",
    "assumption",
    "property",
)
ASIDES = {
    "note": "Note",
    "tip": "Tip",
    "warning": "Warning",
    "important": "Important",
    "seealso": "See also",
    "admonition": "",
    "margin": "",
}
GRADES = (
    "easy",
    "medium",
    "hard",
    "task-proof",
    "task-code",
    "task-experiment",
    "task-bug",
)
NAMES = {"figure": "Figure", "exercise": "Exercise", "equation": "Eq."}

_OPEN = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|:{3,}|~{3,})(?P<info>.*)$")
_DIRECTIVE = re.compile(r"\{(?P<name>[^}]+)\}\s*(?P<argument>.*)")
_TARGET = re.compile(r"^\((?P<label>[\w:.-]+)\)=\s*$")
_HEADING = re.compile(r"^(?P<marks>#{1,6})\s+(?P<title>.*?)\s*$")
_MATH_END = re.compile(r"^\$\$\s*(?:\((?P<label>[\w:.-]+)\))?\s*$")
_INLINE = re.compile(
    r"(?P<role>\{[\w:.+-]+\})?(?P<ticks>`+)(?P<body>.+?)(?<!`)(?P=ticks)(?!`)",
    re.S,
)
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\(#(?P<label>[\w:.-]+)\)")
_TITLED = re.compile(r"^(?P<text>.*?)\s*<(?P<label>[^<>]+)>$", re.S)


class TextError(ValueError):
    """What is wrong in a text, with the file and line."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")


class Label(NamedTuple):
    """Something that a text may refer to."""

    kind: str
    number: str
    title: str
    url: str


class Directive(NamedTuple):
    """A fenced block with a name."""

    name: str
    argument: str
    options: dict[str, str]
    body: list[str]
    line: int
    body_line: int


class Plain(NamedTuple):
    """Lines that Markdown understands as they are, apart from roles."""

    lines: list[str]
    line: int
    verbatim: bool


class Math(NamedTuple):
    """A displayed equation."""

    body: str
    label: str | None
    line: int


class Cell(NamedTuple):
    """One cell of a text, with the line where its source begins."""

    kind: str
    source: str
    metadata: dict[str, Any]
    line: int

    @property
    def tags(self) -> list[str]:
        """The cell's tags."""
        return list(self.metadata.get("tags", []))


class Text(NamedTuple):
    """A chapter as its author wrote it."""

    name: str
    path: Path
    title: str
    draft: bool
    cells: list[Cell]


class Book(NamedTuple):
    """What the chapters share."""

    root: Path
    repository: str
    site: str
    chapters: list[str]
    entries: dict[str, Entry]
    texts: dict[str, Text]
    labels: dict[str, Label]


# ---------------------------------------------------------------- reading


def chapter_names(root: Path) -> list[str]:
    """List the chapters of `_toc.yml` in their order."""
    path = root / "_toc.yml"
    toc = yaml.safe_load(path.read_text(encoding="utf-8"))
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [Path(file).name for file in files if file.startswith("chapters/")]


def read_book(root: Path) -> Book:
    """Read every chapter of the table of contents and index its labels."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    site = config["html"]["baseurl"].rstrip("/")
    names = chapter_names(root)
    bibliography = parse_file(str(root / "book" / "references.bib"))
    texts = {name: read_text(root, name) for name in names}
    labels = index_labels([texts[name] for name in names], site)
    repository = config["repository"]["url"]
    entries = dict(bibliography.entries)
    return Book(root, repository, site, names, entries, texts, labels)


def read_text(root: Path, name: str) -> Text:
    """Read one chapter's MyST text into cells with their lines."""
    absolute = root / "book" / "chapters" / f"{name}.md"
    path = absolute.relative_to(root)
    try:
        raw = absolute.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TextError(
            path, 0, f"_toc.yml names {name!r}, which has no text"
        ) from None
    front = _front_matter(path, raw)
    try:
        notebook = jupytext.reads(raw, fmt="md:myst")
    except Exception as error:
        raise TextError(path, 1, f"jupytext cannot read it: {error}") from error
    cells = list(_with_lines(path, raw, notebook.cells))
    first = cells[0].source if cells and cells[0].kind == "markdown" else ""
    heading = re.match(r"# (.+)", first)
    if not heading:
        raise TextError(path, 1, "a chapter begins with its title, '# Title'")
    draft = bool(front.get("rlbook", {}).get("draft", False))
    text = Text(name, path, heading[1].strip(), draft, cells)
    _check_cells(text)
    return text


def _front_matter(path: Path, raw: str) -> dict[str, Any]:
    match = re.match(r"---\n(.*?\n)---\n", raw, flags=re.S)
    if not match:
        raise TextError(path, 1, "it lacks the front matter between two '---' lines")
    try:
        front = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = where.line + 2 if where else 1
        problem = getattr(error, "problem", error)
        raise TextError(path, line, f"broken front matter: {problem}") from None
    if not isinstance(front, dict) or "kernelspec" not in front:
        raise TextError(path, 1, "the front matter must be a mapping with `kernelspec`")
    unknown = set(front.get("rlbook", {})) - {"draft"}
    if unknown:
        raise TextError(path, 1, f"unknown front matter rlbook.{sorted(unknown)[0]}")
    return front


def _with_lines(path: Path, raw: str, cells: list[Any]) -> Iterator[Cell]:
    """Find each cell's line by walking through the text in order."""
    lines = raw.split("\n")
    cursor = 0
    for cell in cells:
        first = cell.source.split("\n")[0]
        while cursor < len(lines) and lines[cursor] != first:
            cursor += 1
        if cursor == len(lines):
            raise TextError(path, 1, f"a cell that begins {first!r} was not found")
        metadata = {k: v for k, v in cell.metadata.items() if k != "lines_to_next_cell"}
        yield Cell(cell.cell_type, cell.source, metadata, cursor + 1)
        cursor += cell.source.count("\n") + 1


def _check_cells(text: Text) -> None:
    set_up = [cell for cell in text.cells if SET_UP.fullmatch(cell.source)]
    code = [cell for cell in text.cells if cell.kind == "code"]
    if len(set_up) != 1 or code[0] is not set_up[0]:
        raise TextError(
            text.path,
            code[0].line if code else 1,
            "the first code cell is '# set up: numpy' or '# set up: torch', once",
        )
    for cell in text.cells:
        for tag in cell.tags:
            if tag not in KNOWN_TAGS and not TOLERANCE.fullmatch(tag):
                raise TextError(text.path, cell.line, f"unknown tag {tag!r}")
        extra = set(cell.metadata) - {"tags", "mystnb"}
        if extra:
            raise TextError(
                text.path, cell.line, f"unknown cell metadata {sorted(extra)[0]!r}"
            )
    for cell, following in zip(text.cells, [*text.cells[1:], None], strict=True):
        if figure_of(cell) and (following is None or following.kind != "markdown"):
            raise TextError(
                text.path, cell.line, "a figure's cell is followed by text: its caption"
            )


def figure_of(cell: Cell) -> dict[str, str] | None:
    """Return name and caption of the figure that a cell makes, or None."""
    figure = cell.metadata.get("mystnb", {}).get("figure")
    return figure if isinstance(figure, dict) else None


# ---------------------------------------------------------------- parsing


def parse(path: Path, lines: list[str], start: int) -> Iterator[Any]:
    """Split lines into directives, equations, and plain Markdown."""
    plain: list[str] = []
    begin = start
    cursor = 0

    def flush() -> Iterator[Plain]:
        if plain:
            yield Plain(plain.copy(), begin, False)
            plain.clear()

    while cursor < len(lines):
        line, number = lines[cursor], start + cursor
        fence = _OPEN.match(line)
        if fence or line.strip() == "$$" or line.startswith("$$"):
            yield from flush()
            if fence:
                block, cursor = _fenced(path, lines, cursor, start)
            else:
                block, cursor = _equation(path, lines, cursor, start)
            yield block
            begin = start + cursor
            continue
        if not plain:
            begin = number
        if not line.startswith("% "):
            plain.append(line)
        cursor += 1
    yield from flush()


def _fenced(path: Path, lines: list[str], cursor: int, start: int) -> tuple[Any, int]:
    opening = _OPEN.match(lines[cursor])
    assert opening
    fence, indent = opening["fence"], len(opening["indent"])
    close = re.compile(rf"^ *{fence[0]}{{{len(fence)},}} *$")
    end = cursor + 1
    while end < len(lines) and not close.match(lines[end]):
        end += 1
    if end == len(lines):
        raise TextError(path, start + cursor, f"the block {lines[cursor]!r} never ends")
    directive = _DIRECTIVE.fullmatch(opening["info"].strip())
    if directive is None:
        return Plain(lines[cursor : end + 1], start + cursor, True), end + 1
    body = [
        line[indent:] if line[:indent].isspace() else line
        for line in lines[cursor + 1 : end]
    ]
    options, taken = _options(body)
    block = Directive(
        directive["name"],
        directive["argument"].strip(),
        options,
        body[taken:],
        start + cursor,
        start + cursor + 1 + taken,
    )
    return block, end + 1


def _options(body: list[str]) -> tuple[dict[str, str], int]:
    options: dict[str, str] = {}
    taken = 0
    for line in body:
        match = re.match(r"^:([\w-]+):\s*(.*)$", line)
        if not match:
            break
        options[match[1]] = match[2].strip()
        taken += 1
    return options, taken


def _equation(
    path: Path, lines: list[str], cursor: int, start: int
) -> tuple[Math, int]:
    one_line = re.fullmatch(
        r"\$\$(?P<body>.+?)\$\$\s*(?:\((?P<label>[\w:.-]+)\))?\s*", lines[cursor]
    )
    if one_line:
        return (
            Math(one_line["body"].strip(), one_line["label"], start + cursor),
            cursor + 1,
        )
    body = [lines[cursor][2:]] if lines[cursor].strip() != "$$" else []
    end = cursor + 1
    while end < len(lines) and not _MATH_END.match(lines[end]):
        body.append(lines[end])
        end += 1
    if end == len(lines):
        raise TextError(
            path, start + cursor, "the equation that begins here never ends"
        )
    closing = _MATH_END.match(lines[end])
    assert closing
    return Math("\n".join(body).strip(), closing["label"], start + cursor), end + 1


def _math(block: Directive) -> Math:
    body = "\n".join([block.argument, *block.body]).strip()
    return Math(body, block.options.get("label"), block.line)


# ---------------------------------------------------------------- labels


def index_labels(texts: list[Text], site: str, first: int = 1) -> dict[str, Label]:
    """Index everything that has a label; the chapters' numbers begin with `first`."""
    labels: dict[str, Label] = {}
    for number, text in enumerate(texts, start=first):
        for label, line, target in _labels(text, number, site):
            if label in labels:
                raise TextError(text.path, line, f"label {label!r} is used twice")
            labels[label] = target
    return labels


def _labels(text: Text, chapter: int, site: str) -> Iterator[tuple[str, int, Label]]:
    page = f"{site}/chapters/{text.name}.html"
    yield f"chapter-{text.name}", 1, Label("chapter", str(chapter), text.title, page)
    for item in numbered(text, chapter):
        if item.label:
            anchor = re.sub(r"[^a-z0-9]+", "-", item.label.lower()).strip("-")
            prefix = "equation-" if item.kind == "equation" else ""
            target = Label(
                item.kind, item.number, item.title, f"{page}#{prefix}{anchor}"
            )
            yield item.label, item.line, target


class Numbered(NamedTuple):
    """Something with a number of its own, in the order of the page."""

    kind: str
    number: str
    title: str
    label: str | None
    line: int


def numbered(text: Text, chapter: int) -> list[Numbered]:
    """Number everything in a chapter as Sphinx does."""
    counters: Counter[str] = Counter()
    found: list[Numbered] = []

    def take(kind: str, title: str, label: str | None, line: int) -> None:
        counters[kind] += 1
        number = f"{chapter}.{counters[kind]}"
        found.append(Numbered(kind, number, title, label, line))

    def walk(lines: list[str], start: int) -> None:
        pending: str | None = None
        for block in parse(text.path, lines, start):
            if isinstance(block, Plain) and not block.verbatim:
                for offset, line in enumerate(block.lines):
                    target, heading = _TARGET.match(line), _HEADING.match(line)
                    if target:
                        pending = target["label"]
                    elif heading:
                        section(heading, pending, block.line + offset)
                        pending = None
            elif isinstance(block, Math) and block.label:
                take("equation", "", block.label, block.line)
            elif isinstance(block, Directive):
                kind = block.name.removeprefix("prf:")
                label = block.options.get("label")
                if block.name == "math":
                    if label:
                        take("equation", "", label, block.line)
                    continue
                if kind in THEOREMS or kind == "exercise":
                    take(kind, block.argument, label, block.line)
                walk(block.body, block.body_line)

    def section(heading: re.Match[str], label: str | None, line: int) -> None:
        depth = len(heading["marks"])
        if depth == 2:
            counters["section"] += 1
            counters["subsection"] = 0
            number = f"{chapter}.{counters['section']}"
        elif depth == 3:
            counters["subsection"] += 1
            number = f"{chapter}.{counters['section']}.{counters['subsection']}"
        else:
            number = str(chapter)
        if label:
            found.append(Numbered("section", number, heading["title"], label, line))

    for cell in text.cells:
        figure = figure_of(cell)
        if cell.kind == "markdown":
            walk(cell.source.split("\n"), cell.line)
        elif figure:
            take("figure", "", figure["name"], cell.line)
    return found


# ---------------------------------------------------------------- rendering


def markdown(book: Book, name: str, values: dict[str, str] | None) -> list[str]:
    """Render the Markdown cells of a chapter, in order.

    `values` holds the texts of the chapter's numbers by identifier; None renders
    with a blank for each, to find errors before anything runs.
    """
    text = book.texts[name]
    converter = _Converter(book, text, values)
    rendered = []
    figures: dict[str, str] | None = None
    for cell in text.cells:
        if cell.kind == "code":
            figures = figure_of(cell)
            continue
        lines = converter.blocks(cell.source.split("\n"), cell.line)
        if figures:
            number = book.labels[figures["name"]].number
            caption = converter.inline(figures["caption"], cell.line)
            lines = [f"**Figure {number}.** {caption}", "", *lines]
            figures = None
        rendered.append(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n"))
    page = f"{book.site}/chapters/{name}.html"
    link = f"*This notebook is a chapter of the book: [read it there]({page}).*"
    rendered[0] = f"{link}\n\n{rendered[0]}"
    return rendered


class _Converter:
    """Holds what one chapter's rendering needs: the book, counters, citations."""

    def __init__(self, book: Book, text: Text, values: dict[str, str] | None) -> None:
        self.book, self.text, self.values = book, text, values
        self.cited: list[str] = []
        chapter = book.chapters.index(text.name) + 1
        self.numbers: dict[str, Iterator[str]] = {}
        for kind in {item.kind for item in numbered(text, chapter)}:
            items = [
                item.number for item in numbered(text, chapter) if item.kind == kind
            ]
            self.numbers[kind] = iter(items)

    def fail(self, line: int, message: str) -> TextError:
        return TextError(self.text.path, line, message)

    def blocks(self, lines: list[str], start: int) -> list[str]:
        out: list[str] = []
        for block in parse(self.text.path, lines, start):
            if isinstance(block, Plain):
                out += self.plain(block)
            elif isinstance(block, Math) or block.name == "math":
                equation = block if isinstance(block, Math) else _math(block)
                out += self.equation(equation)
            else:
                out += self.directive(block)
        return out

    def plain(self, block: Plain) -> list[str]:
        if block.verbatim:
            return block.lines
        kept = [line for line in block.lines if not _TARGET.match(line)]
        return self.inline("\n".join(kept), block.line).split("\n")

    def equation(self, equation: Math) -> list[str]:
        tag = ""
        if equation.label:
            tag = f" \\tag{{{next(self.numbers['equation'])}}}"
        return ["", f"$$\n{equation.body}{tag}\n$$", ""]

    def directive(self, block: Directive) -> list[str]:
        kind = block.name.removeprefix("prf:")
        handlers: dict[str, Callable[[Directive], list[str]]] = {
            "prf:proof": self.proof,
            "exercise": self.numbered_box,
            "solution": self.solution,
            "quiz": self.quiz,
            "strip": self.strip,
            "pitfall": self.pitfall,
            "hint": self.folded,
            "dropdown": self.folded,
            "bibliography": self.bibliography,
            "code-block": self.code,
            "chapter-map": self.chapter_map,
        }
        if block.name.startswith("prf:") and kind in THEOREMS:
            return self.numbered_box(block)
        if block.name in ASIDES:
            title = self.inline(block.argument, block.line) or ASIDES[block.name]
            return quote(
                [f"**{title}**", "", *self.body(block)] if title else self.body(block)
            )
        if block.name not in handlers:
            raise self.fail(block.line, f"unknown directive {{{block.name}}}")
        return handlers[block.name](block)

    def body(self, block: Directive) -> list[str]:
        return self.blocks(block.body, block.body_line)

    def numbered_box(self, block: Directive) -> list[str]:
        kind = block.name.removeprefix("prf:")
        number = next(self.numbers[kind])
        title = self.inline(block.argument, block.line)
        name = f"{kind.capitalize()} {number}" + (f" ({title})" if title else "")
        graded = grade(block.options.get("class", ""))
        return quote([f"**{name}**{graded}", "", *self.body(block)])

    def proof(self, block: Directive) -> list[str]:
        return quote(["*Proof.*", "", *self.body(block), "", "\N{WHITE SQUARE}"])

    def solution(self, block: Directive) -> list[str]:
        label = block.argument.strip()
        exercise = self.target(label, block.line)
        title = f" ({exercise.title})" if exercise.title else ""
        name = f"Solution to Exercise {exercise.number}{title}"
        return details(self.inline(name, block.line), self.body(block))

    def folded(self, block: Directive) -> list[str]:
        title = self.inline(block.argument, block.line) or "Hint"
        return details(title, self.body(block))

    def pitfall(self, block: Directive) -> list[str]:
        title = self.inline(block.argument, block.line)
        check_pitfall(self.text.path, block)
        return quote([f"**Pitfall: {title}**", "", *self.body(block)])

    def strip(self, block: Directive) -> list[str]:
        lines: list[str] = []
        body = self.body(block)
        for line, following in zip(body, [*body[1:], ""], strict=True):
            definition = re.match(r"^: {0,3}(.*)$", line)
            if definition:
                lines.append(definition[1])
            elif following.startswith(": "):
                lines += ["", f"**{line}**", ""]
            else:
                lines.append(line.removeprefix("  "))
        return details("At a glance", lines, opened=True)

    def quiz(self, block: Directive) -> list[str]:
        question, choices = read_quiz(self.text.path, block)
        lines = ["", "**Check yourself.** " + self.inline(question, block.line), ""]
        for choice in choices:
            verdict = "Yes." if choice.right else "Not quite."
            reason = self.inline(choice.reason, choice.line)
            summary = self.inline(choice.text, choice.line)
            lines += details(summary, [f"**{verdict}** {reason}"])
        return lines

    def code(self, block: Directive) -> list[str]:
        return ["", f"```{block.argument}", *block.body, "```", ""]

    def chapter_map(self, block: Directive) -> list[str]:
        del block
        page = f"{self.book.site}/book/intro.html#chapter-map"
        return ["", f"[The map of the book]({page}) shows what needs this chapter.", ""]

    def bibliography(self, block: Directive) -> list[str]:
        del block
        keys = sorted(set(self.cited))
        keys.sort(key=lambda key: author_year(self.book, key))
        return [f"- {reference(self.book.entries[key])}" for key in keys]

    def target(self, label: str, line: int) -> Label:
        if label not in self.book.labels:
            raise self.fail(line, f"reference to {label!r}, which does not exist")
        return self.book.labels[label]

    def inline(self, text: str, start: int) -> str:
        def role(match: re.Match[str]) -> str:
            if match["role"] is None:
                return match[0]
            line = start + text.count("\n", 0, match.start())
            return self.role(match["role"][1:-1], match["body"].strip(), line)

        def link(match: re.Match[str]) -> str:
            line = start + text.count("\n", 0, match.start())
            label = self.target(match["label"], line)
            return f"[{match['text'] or _named(label)}]({label.url})"

        # Links are found only between code spans: a span may hold anything.
        pieces, last = [], 0
        for match in _INLINE.finditer(text):
            pieces += [_LINK.sub(link, text[last : match.start()]), role(match)]
            last = match.end()
        return "".join([*pieces, _LINK.sub(link, text[last:])])

    def role(self, name: str, body: str, line: int) -> str:
        if name in ("cite", "cite:p", "cite:t"):
            return self.citation(name, body, line)
        if name == "val":
            return self.number(body, line)
        titled = _TITLED.match(body)
        text, label = (titled["text"], titled["label"]) if titled else ("", body)
        if name in ("ref", "numref", "prf:ref", "eq"):
            target = self.target(label, line)
            shown = (
                _named(target) if name != "ref" or not target.title else target.title
            )
            return f"[{text or shown}]({target.url})"
        if name == "doc":
            page = f"/{label}" if not label.startswith("/") else label
            title = text or page_title(
                self.book, page, self.fail(line, f"no page {page!r}")
            )
            return f"[{title}]({self.book.site}{page}.html)"
        if name == "term":
            return f"[{text or label}]({self.book.site}/book/glossary.html)"
        if name == "math":
            return f"${body}$"
        raise self.fail(line, f"unknown role {{{name}}}")

    def number(self, id: str, line: int) -> str:
        if self.values is None:
            return "?"
        if id not in self.values:
            raise self.fail(line, f"{{val}}`{id}`: no cell calls claims.value({id!r})")
        return self.values[id]

    def citation(self, name: str, body: str, line: int) -> str:
        keys = [key.strip() for key in body.split(",")]
        for key in keys:
            if key not in self.book.entries:
                raise self.fail(line, f"citation key {key!r} is not in references.bib")
        self.cited += keys
        links = [
            f"[{author_year(self.book, key, name)}]({address(self.book.entries[key])})"
            for key in keys
        ]
        joined = "; ".join(links)
        return joined if name == "cite:t" else f"({joined})"


def grade(classes: str) -> str:
    """Name an exercise's grade and kind from its classes: ` · easy, code`."""
    words = [word.removeprefix("task-") for word in classes.split() if word in GRADES]
    return f" \N{MIDDLE DOT} {', '.join(words)}" if words else ""


def _named(label: Label) -> str:
    if label.kind == "section":
        return f"Section {label.number}"
    if label.kind == "chapter":
        return f"Chapter {label.number}"
    return f"{NAMES.get(label.kind, label.kind.capitalize())} {label.number}"


def quote(lines: list[str]) -> list[str]:
    """Put lines into a Markdown quote."""
    body = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n").split("\n")
    return ["", *[f"> {line}".rstrip() for line in body], ""]


def details(summary: str, lines: list[str], *, opened: bool = False) -> list[str]:
    """Fold lines under a summary."""
    tag = "<details open>" if opened else "<details>"
    body = "\n".join(lines).strip("\n")
    return ["", f"{tag}<summary>{summary}</summary>", "", body, "", "</details>", ""]


@functools.cache
def _page(path: Path) -> str | None:
    if not path.exists():
        return None
    heading = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), flags=re.M)
    return heading[1].strip() if heading else path.stem


def page_title(book: Book, page: str, error: Exception) -> str:
    """Return the title of a page named as `/book/notation` or `/chapters/td`."""
    name = page.removeprefix("/chapters/")
    if name in book.texts:
        return book.texts[name].title
    title = _page(book.root / f"{page[1:]}.md")
    if title is None:
        raise error
    return title


# ---------------------------------------------------------------- quizzes


PITFALL = ("**Wrong:**", "**Right:**", "**Damage:**")


def check_pitfall(path: Path, block: Directive) -> None:
    """Refuse a pitfall without a name, a wrong line, a right line or its damage."""
    body = "\n".join(block.body)
    missing = [part for part in PITFALL if part not in body]
    if not block.argument:
        raise TextError(path, block.line, "a pitfall needs a name")
    if missing:
        raise TextError(path, block.line, f"the pitfall lacks {', '.join(missing)}")


class Choice(NamedTuple):
    """One option of a quiz and why it is right or wrong."""

    text: str
    right: bool
    reason: str
    line: int


def read_quiz(path: Path, block: Directive) -> tuple[str, list[Choice]]:
    """Read a quiz: the question, then `- [x] choice`, its reason indented below."""
    question: list[str] = []
    raw: list[tuple[str, bool, list[str], int]] = []
    for offset, line in enumerate(block.body):
        match = re.match(r"^- \[([ x])\] (.+)$", line)
        if match:
            raw.append((match[2], match[1] == "x", [], block.body_line + offset))
        elif raw:
            raw[-1][2].append(line.strip())
        else:
            question.append(line)
    choices = [
        Choice(text, right, " ".join(reason).strip(), line)
        for text, right, reason, line in raw
    ]
    problem = ""
    if len(choices) < 2 or not any(choice.right for choice in choices):
        problem = "a quiz needs at least two choices, one of them right ([x])"
    for choice in choices:
        if not choice.reason:
            problem = f"the choice {choice.text!r} gives no reason"
    asked = "\n".join([block.argument, *question]).strip()
    if not asked:
        problem = "a quiz asks a question"
    if problem:
        raise TextError(path, block.line, problem)
    return asked, choices


# ---------------------------------------------------------------- citations


def author_year(book: Book, key: str, role: str = "cite:p") -> str:
    """Name a source as `Lai and Robbins, 1985` or `Lai and Robbins (1985)`."""
    entry = book.entries[key]
    people = [
        " ".join(person.prelast_names + person.last_names)
        for person in entry.persons.get("author", [])
    ]
    people = [plain(person) for person in people]
    names = " and ".join(people) if len(people) < 3 else f"{people[0]} et al."
    year = entry.fields["year"]
    return f"{names} ({year})" if role == "cite:t" else f"{names}, {year}"


def plain(latex: str) -> str:
    """Turn a field of the bibliography into plain text: no braces, real accents."""
    return str(RichText.from_latex(latex))


def address(entry: Entry) -> str:
    """Return the DOI link or URL of a source."""
    if "doi" in entry.fields:
        return f"https://doi.org/{entry.fields['doi']}"
    if "url" not in entry.fields:
        raise ValueError(f"book/references.bib: {entry.key} has neither doi nor url")
    return str(entry.fields["url"])


def reference(entry: Entry) -> str:
    """Write a source out for the list of references of a notebook."""
    people = [plain(str(person)) for person in entry.persons["author"]]
    title = plain(entry.fields["title"])
    where = next(
        (
            entry.fields[field]
            for field in ("journal", "booktitle", "publisher")
            if field in entry.fields
        ),
        "",
    )
    where = plain(where)
    year = entry.fields["year"]
    tail = f" {where}, {year}." if where else f" {year}."
    return f"{'; '.join(people)}. [{title}]({address(entry)}).{tail}"


# ---------------------------------------------------------------- notebooks


def set_up_source(book: Book, name: str, cell: Cell) -> str:
    """Expand the marker of the first code cell into the cell that readers run."""
    match = SET_UP.fullmatch(cell.source)
    assert match
    version = re.search(
        r'^version = "(.+)"$', (book.root / "pyproject.toml").read_text(), flags=re.M
    )
    assert version
    template = (Path(__file__).parent / "set_up_cell.txt").read_text(encoding="utf-8")
    last = f'page.setup("{name}")'
    if match[1] == "torch":
        last = f'device = page.setup("{name}", use_torch=True)'
    return (
        textwrap.dedent(template)
        .strip()
        .format(repository=book.repository, version=version[1], last=last)
    )


def code_source(book: Book, name: str, cell: Cell) -> str:
    """Return a code cell's source as the notebook holds it."""
    if SET_UP.fullmatch(cell.source):
        return set_up_source(book, name, cell)
    if "solution" in cell.tags:
        return f"#@title Solution\n{cell.source}"
    return cell.source


def stored_values(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """Collect the numbers for the prose from a notebook's outputs."""
    return {record["id"]: record["text"] for record in records(notebook, "value")}


def records(notebook: nbformat.NotebookNode, kind: str) -> Iterator[dict[str, str]]:
    """Yield what the page kit recorded in a notebook's outputs, with its cell."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            record = output.get("metadata", {}).get("rlbook")
            if record and record["kind"] == kind:
                yield {**record, "cell": cell.id}
