"""The contract: what a machine can check of every chapter.

The stored notebook must be the one that the text and its outputs give. A chapter
marked `draft` in its front matter is warned about the parts it lacks; what the
appendices need not have is listed here, and nothing else may be waived.
"""

import json
import re
import warnings
from pathlib import Path

import convert
import nbformat
import notebooks
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NAMES = convert.chapter_names(ROOT)
BOOK = convert.read_book(ROOT)

# What the appendices need not have. Their other rules are those of every chapter.
WAIVED = {
    "statistics": {"2,500 to 5,000 words"},
    "refresher": {
        "an interactive figure",
        "a pitfall",
        "five exercises",
        "exercises of each grade",
        "a proof, a code, an experiment and a bug to do",
        "a checker",
        "four quiz questions",
        "8 to 25 code cells",
        "2,500 to 5,000 words",
        "two figures",
        "a summary table",
        "how to do it for real",
    },
    "errata": {
        "a theorem or definition",
        "a proof",
        "an interactive figure",
        "five exercises",
        "exercises of each grade",
        "a proof, a code, an experiment and a bug to do",
        "a checker",
        "four quiz questions",
        "two figures",
        "a summary table",
        "how to do it for real",
        "further reading",
        "a bibliography",
    },
}
each_chapter = pytest.mark.parametrize("name", NAMES)


class DraftWarning(UserWarning):
    """Parts that a draft still lacks."""


def stored(name):
    return nbformat.read(ROOT / "chapters" / f"{name}.ipynb", as_version=4)


def blocks(name):
    """Yield every directive of a chapter, nested ones too."""
    text = BOOK.texts[name]

    def walk(lines, start):
        for block in convert.parse(text.path, lines, start):
            if isinstance(block, convert.Directive):
                yield block
                yield from walk(block.body, block.body_line)

    for cell in text.cells:
        if cell.kind == "markdown":
            yield from walk(cell.source.split("\n"), cell.line)


def code_cells(name):
    return [cell for cell in BOOK.texts[name].cells if cell.kind == "code"][1:]


# ------------------------------------------------------------ the notebook


@each_chapter
def test_the_notebook_is_what_its_text_and_outputs_give(name):
    path = ROOT / "chapters" / f"{name}.ipynb"
    again = notebooks.assemble(BOOK, name, stored(name))
    assert path.read_text(encoding="utf-8") == nbformat.writes(again) + "\n", (
        f"{path.name} was edited by hand or its text has changed: run `make notebooks`"
    )


@each_chapter
def test_the_notebook_is_not_stale(name):
    recorded, now = (
        stored(name).metadata.rlbook,
        notebooks.stamps(ROOT, BOOK.texts[name]),
    )
    stale = [key for key in now if recorded.get(key) != now[key]]
    assert not stale, f"{name} is stale in {stale}: run `make notebooks`"


@each_chapter
def test_what_its_run_took_is_on_record(name):
    """The page of runs shows the run of this code, with this helper and these pins."""
    runs = json.loads((ROOT / "book/runs.json").read_text(encoding="utf-8"))
    now = notebooks.stamps(ROOT, BOOK.texts[name])
    ran = ("code_sha", "helper_sha", "pins_sha")
    stale = [key for key in ran if runs.get(name, {}).get(key) != now[key]]
    assert not stale, f"{name}: run `make notebooks ONLY={name} FORCE=1`"


@each_chapter
def test_execution_counts_run_from_one_without_a_gap(name):
    cells = [cell for cell in stored(name).cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1))


@each_chapter
def test_outputs_hold_no_error_and_no_duplicate(name):
    assert notebooks.problems(BOOK.texts[name], stored(name)) == []


@each_chapter
def test_tags_of_the_notebook_are_known(name):
    for cell in stored(name).cells:
        for tag in cell.metadata.get("tags", []):
            assert tag in convert.KNOWN_TAGS or convert.TOLERANCE.fullmatch(tag), (
                f"{cell.id} has the unknown tag {tag!r}"
            )


@each_chapter
def test_cells_carry_their_outputs(name):
    silent = {"pass"}
    for cell in stored(name).cells:
        if cell.cell_type == "code" and re.search(r"(?m)^(print|page\.)", cell.source):
            assert cell.outputs or cell.source in silent, f"{cell.id} has no output"


# ------------------------------------------------------------ the text


@each_chapter
def test_code_is_narrow_and_short(name):
    for cell in code_cells(name):
        lines = cell.source.split("\n")
        wide = [line for line in lines if len(line) > 79]
        assert not wide, (
            f"{BOOK.texts[name].path}:{cell.line}: over 79 columns: {wide[0]}"
        )
        if not {"hide-input", "solution"} & set(cell.tags):
            assert len(lines) <= 30, (
                f"{BOOK.texts[name].path}:{cell.line}: {len(lines)} lines, at most 30"
            )


@each_chapter
def test_every_figure_has_a_caption_and_is_mentioned(name):
    text = BOOK.texts[name]
    raw = (ROOT / text.path).read_text(encoding="utf-8")
    recorded = [record["name"] for record in convert.records(stored(name), "figure")]
    for cell in text.cells:
        figure = convert.figure_of(cell)
        if figure:
            assert len(figure.get("caption", "")) >= 40, (
                f"{figure['name']}: short caption"
            )
            label = re.escape(figure["name"])
            assert re.search(rf"\{{numref\}}`[^`]*{label}>?`", raw), (
                f"{text.path}: {figure['name']} is never referred to"
            )
    captioned = [c for c in text.cells if convert.figure_of(c)]
    assert len(captioned) == len(recorded), "a figure without caption, or the reverse"


@each_chapter
def test_every_exercise_has_a_solution(name):
    asked = {b.options.get("label") for b in blocks(name) if b.name == "exercise"}
    answered = {b.argument for b in blocks(name) if b.name == "solution"}
    assert asked == answered


@each_chapter
def test_every_labelled_rule_has_a_test_of_its_name(name):
    chapter = convert.numbered(BOOK.texts[name], NAMES.index(name) + 1)
    labels = [item.label for item in chapter if item.kind == "equation"]
    paths = sorted((ROOT / "tests").glob(f"test_{name}*.py"))
    source = "".join(path.read_text(encoding="utf-8") for path in paths)
    missing = [
        label for label in labels if f"def test_{label.replace('-', '_')}" not in source
    ]
    assert not missing, f"tests/test_{name}*.py lack tests named after {missing}"


@pytest.mark.parametrize("name", [n for n in NAMES if n not in convert.APPENDICES])
def test_the_chapter_has_helper_and_tests(name):
    assert (ROOT / "tests" / f"test_{name}.py").exists()
    assert list((ROOT / "rlbook_utils").rglob(f"{name}.py"))


def test_sources_can_be_looked_up():
    for key, entry in BOOK.entries.items():
        assert convert.address(entry).startswith(("https://", "http://")), key
        assert entry.persons.get("author"), f"{key} has no author"


TITLE = re.compile(r"^\s*(`{3,}|:{3,})\{[^}`]+\}(.*)$")
PAGES = [
    path
    for part in (".", "chapters", "assignments")
    for path in sorted((ROOT / "book" / part).glob("*.md"))
]


def titles_with_code(text):
    """Return the titles of directives that hold a backtick, which breaks the fence."""
    found = map(TITLE.match, text.split("\n"))
    return [match[2].strip() for match in found if match and "`" in match[2]]


@pytest.mark.parametrize(
    "path", PAGES, ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_no_title_of_a_directive_holds_code(path):
    titles = titles_with_code(path.read_text(encoding="utf-8"))
    assert not titles, f"{path.name}: a title holds a backtick: {titles[0]}"


@pytest.mark.parametrize("fence", ["```", "````", ":::", "  ```", ":::::"])
def test_code_in_a_title_is_found_behind_every_fence(fence):
    assert titles_with_code(f"{fence}{{quiz}} What does `x` do?\n") == [
        "What does `x` do?"
    ]
    assert not titles_with_code(f"{fence}{{quiz}} What does x do?\n")
    assert not titles_with_code("So {val}`x` is it, and ```{quiz}` is not.\n")


# ------------------------------------------------------------ completeness


def lacking(name):
    """List the parts of `chapter.md` that a chapter still lacks."""
    text = BOOK.texts[name]
    prose = "\n\n".join(c.source for c in text.cells if c.kind == "markdown")
    opening = re.split(r"\n\s*\n", text.cells[0].source)[1]
    found = list(blocks(name))
    count = {kind: sum(b.name == kind for b in found) for kind in ("quiz", "exercise")}
    kinds = " ".join(b.options.get("class", "") for b in found if b.name == "exercise")
    words = len(re.findall(r"[A-Za-z][A-Za-z'-]+", prose))
    code = "\n".join(cell.source for cell in code_cells(name))
    figures = {r["name"] for r in convert.records(stored(name), "figure")}
    wanted = {
        "an opening that asks a question": opening.strip().endswith("?"),
        "the strip": any(b.name == "strip" for b in found),
        "a theorem or definition": any(b.name.startswith("prf:") for b in found),
        "a proof": any(b.name == "prf:proof" for b in found),
        "a checked claim": "claims.check(" in code,
        "an interactive figure": "page.interactive(" in code,
        "a pitfall": any(b.name == "pitfall" for b in found),
        "five exercises": count["exercise"] >= 5,
        "exercises of each grade": all(g in kinds for g in ("easy", "medium", "hard")),
        "a proof, a code, an experiment and a bug to do": all(
            f"task-{k}" in kinds for k in ("proof", "code", "experiment", "bug")
        ),
        "a checker": "check." in code,
        "four quiz questions": count["quiz"] >= 4,
        "8 to 25 code cells": 8 <= len(code_cells(name)) <= 25,
        "2,500 to 5,000 words": 2500 <= words <= 5000,
        "two figures": len(figures) >= 2,
        "a summary table": bool(re.search(r"(?mi)^## summary", prose))
        and bool(re.search(r"(?m)^\|[ :-]+\|", prose)),
        "how to do it for real": "doing it for real" in prose.lower(),
        "further reading": "further reading" in prose.lower(),
        "a bibliography": any(b.name == "bibliography" for b in found),
    }
    waived = WAIVED.get(name, set())
    assert waived <= set(wanted)
    return [k for k, present in wanted.items() if not present and k not in waived]


@pytest.mark.filterwarnings("always::test_chapters.DraftWarning")
@each_chapter
def test_the_chapter_is_complete_or_a_draft(name):
    parts = lacking(name)
    if BOOK.texts[name].draft:
        warnings.warn(
            f"{name} is a draft and lacks: {'; '.join(parts)}",
            DraftWarning,
            stacklevel=1,
        )
    else:
        assert not parts, f"{name} lacks: {'; '.join(parts)}"


def test_only_appendices_are_let_off():
    assert set(WAIVED) == set(convert.APPENDICES)
    last = [name for name in convert.APPENDICES if name in NAMES]
    assert NAMES[len(NAMES) - len(last) :] == last


def test_chapters_and_texts_are_the_same_set():
    texts = {path.stem for path in (ROOT / "book" / "chapters").glob("*.md")}
    stored_names = {path.stem for path in (ROOT / "chapters").glob("*.ipynb")}
    assert texts == set(NAMES) == stored_names


def test_every_page_of_the_contents_exists():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [toc["root"]] + [
        e["file"] for part in toc["parts"] for e in part["chapters"]
    ]
    for file in files:
        assert any((ROOT / f"{file}{end}").exists() for end in (".md", ".ipynb")), file
