"""Build the assignments: student notebooks, nbgrader course, otter autograders.

Reads `book/assignments/*.md`, `_config.yml`, `_toc.yml`, the variable COURSE_SECRET.
Writes `_build/assignments/`:
  student/<name>.ipynb       what students get; no secret is needed
  nbgrader/                  the course tree: nbgrader_config.py, source/, release/
  graded/<name>.json         the tests with this course's instances
  otter/<name>.zip           an autograder for Gradescope
and the assignments' cells into the gradebook `grades/gradebook.db`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jupytext
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parent))

import convert
import grading
from collect import encode

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(__file__).resolve().parent
TAGS = {"answer", "solution", "visible", "hidden", "written", "rubric"}
SHORTEST_SECRET = 12
ZIPPED = ("grading.py", "collect.py", "otter_plugin.py")
PINNED = ("torch", "numpy", "matplotlib", "ipywidgets", "nbclient", "ipykernel")
HIDDEN = """\
# {points} points: the grader calls {name} on inputs of its own.
### BEGIN HIDDEN TESTS
raise RuntimeError("not graded: run `make grade`, which judges outside of the kernel")
### END HIDDEN TESTS"""
OTTER_TEST = """\
from otter.test_files import test_case

OK_FORMAT = False
name = {name!r}
points = {points}


@test_case(points={points}, hidden=True)
def test_{name}(verdicts):
    points, message = verdicts[{name!r}]
    assert points == {points}, message
"""


class Question(NamedTuple):
    """A question with a function to write."""

    name: str
    points: int
    stub: str
    solution: str
    visible: str
    hidden: str


class Assignment(NamedTuple):
    """One source: its cells in order, and what they say about the questions."""

    name: str
    cells: list[convert.Cell]
    questions: list[Question]
    written: dict[str, Any]


# ---------------------------------------------------------------- reading


def names(root: Path) -> list[str]:
    """List the assignments that have a source."""
    return sorted(path.stem for path in (root / "book" / "assignments").glob("*.md"))


def points_of(tags: list[str]) -> int:
    """Read the tag `points=2`."""
    found = [int(tag.split("=")[1]) for tag in tags if re.fullmatch(r"points=\d+", tag)]
    return found[0] if found else 0


def read(root: Path, name: str) -> Assignment:
    """Read an assignment's source."""
    path = Path("book/assignments") / f"{name}.md"
    raw = (root / path).read_text(encoding="utf-8")
    notebook = jupytext.reads(raw, fmt="md:myst")
    cells = [convert.Cell(c.cell_type, c.source, c.metadata, 0) for c in notebook.cells]
    for cell in cells:
        for tag in cell.tags:
            if tag not in TAGS and not re.fullmatch(r"points=\d+", tag):
                raise ValueError(f"{path}: unknown tag {tag!r}")
    parts: dict[str, list[convert.Cell]] = {tag: [] for tag in TAGS}
    for cell in cells:
        for tag in TAGS & set(cell.tags):
            parts[tag].append(cell)
    counts = [len(parts[tag]) for tag in ("answer", "solution", "visible", "hidden")]
    if len(set(counts)) > 1 or len(parts["written"]) != 1 or len(parts["rubric"]) != 1:
        raise ValueError(
            f"{path}: each `answer` needs one `solution`, `visible` and `hidden` cell "
            f"(found {counts}), and there is one `written` and one `rubric` cell"
        )
    questions = [
        Question(
            re.search(r"def (\w+)\(", answer.source)[1],  # type: ignore[index]
            points_of(hidden.tags),
            *(cell.source for cell in (answer, solution, visible, hidden)),
        )
        for answer, solution, visible, hidden in zip(
            *(parts[tag] for tag in ("answer", "solution", "visible", "hidden")),
            strict=True,
        )
    ]
    written = {
        "points": points_of(parts["written"][0].tags),
        "rubric": parts["rubric"][0].source,
    }
    total = sum(q.points for q in questions) + written["points"]
    if total != 10:
        raise ValueError(f"{path}: the points add up to {total}, not to 10")
    return Assignment(name, cells, questions, written)


# ---------------------------------------------------------------- notebooks


def course_notebook(book: convert.Book, work: Assignment) -> NotebookNode:
    """Return nbgrader's source version, with the solutions and a place for tests."""
    cells: list[NotebookNode] = []
    questions = iter(work.questions)
    for cell in work.cells:
        if "answer" in cell.tags:
            q = next(questions)
            region = f"### BEGIN SOLUTION\n{q.solution}\n### END SOLUTION"
            source = f"{q.stub}\n\n\n{region}"
            cells.append(code(source, f"{q.name}", solution=True))
            cells.append(code(examples(q), f"{q.name}-examples", locked=True))
            source = HIDDEN.format(points=q.points, name=q.name)
            cells.append(code(source, f"{q.name}-test", points=q.points, locked=True))
        elif "written" in cell.tags:
            cells.append(new_markdown_cell(cell.source))
            answer = new_markdown_cell("*Your answer:*")
            mark(answer, "written", points=work.written["points"], solution=True)
            cells.append(answer)
        elif cell.kind == "markdown" and "rubric" not in cell.tags:
            cells.append(new_markdown_cell(cell.source))
        elif convert.SET_UP.fullmatch(cell.source):
            source = convert.set_up_source(book, work.name, cell)
            cells.append(new_code_cell(source, metadata={"cellView": "form"}))
        elif cell.kind == "code" and not TAGS & set(cell.tags):
            cells.append(new_code_cell(cell.source))
    for index, made in enumerate(cells):
        made.id = f"{work.name}-{index}".replace("_", "-")
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return new_notebook(cells=cells, metadata=metadata)


def code(source: str, id: str, **marks: Any) -> NotebookNode:
    """Return a code cell that nbgrader knows."""
    return mark(new_code_cell(source), id, **marks)


def mark(
    cell: NotebookNode,
    id: str,
    *,
    points: int = 0,
    locked: bool = False,
    solution: bool = False,
) -> NotebookNode:
    """Add nbgrader's metadata to a cell."""
    cell.metadata["nbgrader"] = {
        "schema_version": 3,
        "grade_id": id,
        "grade": bool(points),
        "locked": locked,
        "solution": solution,
        "task": False,
        **({"points": points, "cell_type": cell.cell_type} if points else {}),
    }
    return cell


def inputs(q: Question) -> list[dict[str, Any]]:
    """Return the inputs of a question's visible test."""
    space = grading.question_namespace(q.hidden)
    found: list[dict[str, Any]] = eval(q.visible, {"np": space["np"]})
    return found


def examples(q: Question) -> str:
    """Write a question's visible test: examples with their values."""
    space = grading.question_namespace(q.hidden)
    lines = ["from rlbook_utils.page.examples import examples", ""]
    lines += [f'examples("{q.name}", {q.name}, [']
    for case in inputs(q):
        given = [f'"{key}": {literal(value)}' for key, value in case.items()]
        value = literal(space["oracle"](**case))
        lines.append("    ({" + ",\n      ".join(given) + f"}},\n     {value}),")
    rtol, atol = space.get("rtol", 1e-6), space.get("atol", 1e-9)
    return "\n".join([*lines, f"], rtol={rtol}, atol={atol})"])


def literal(value: Any) -> str:
    """Write a value as Python source."""
    plain = encode(value)
    if isinstance(plain, dict) and "array" in plain:
        rows = str(plain["array"]).replace("], [", "],\n      [")
        return f"np.array({rows})"
    if isinstance(plain, dict):
        inner = ", ".join(map(literal, value))
        return f"({inner},)" if isinstance(value, tuple) else f"[{inner}]"
    return repr(plain)


# ---------------------------------------------------------------- graded version


def check_secret(secret: str) -> None:
    """Refuse to draw the graded tests from nothing, or from too little."""
    if len(secret) < SHORTEST_SECRET:
        what = "is not set" if not secret else f"has {len(secret)} characters"
        raise ValueError(
            f"COURSE_SECRET {what}: the student notebooks are built, the graded "
            "version is not, because its hidden tests are drawn from the secret. "
            f"Choose one of at least {SHORTEST_SECRET} characters, keep it out of the "
            "repository, and run `export COURSE_SECRET=$(python3 -c 'import secrets; "
            "print(secrets.token_hex(16))')` or set it in your shell's start-up file."
        )


def specification(work: Assignment, secret: str) -> dict[str, Any]:
    """Return what a grader needs: tests, instances, rubric; never the secret."""
    return {
        "assignment": work.name,
        "questions": [
            {
                "name": q.name,
                "points": q.points,
                "code": q.hidden,
                "cases": grading.draw(secret, work.name, q.name, q.hidden),
            }
            for q in work.questions
        ],
        "written": work.written,
    }


def otter_zip(spec: dict[str, Any], folder: Path) -> None:
    """Write an autograder for Gradescope: otter's, with our judge as its plugin."""
    from otter.generate import main as generate

    scratch = folder / spec["assignment"]
    (scratch / "tests").mkdir(parents=True)
    for q in spec["questions"]:
        text = OTTER_TEST.format(**q)
        (scratch / "tests" / f"{q['name']}.py").write_text(text, encoding="utf-8")
    config = {"plugins": ["otter_plugin.Judge"], "show_stdout": False}
    (scratch / "otter_config.json").write_text(json.dumps(config), encoding="utf-8")
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")
    kept = [line for line in pins if re.split("[=<>]", line)[0] in PINNED]
    (scratch / "requirements.txt").write_text("\n".join(kept), encoding="utf-8")
    target = folder / f"{spec['assignment']}.zip"
    generate(
        tests_dir=str(scratch / "tests"),
        output_path=str(target),
        config=str(scratch / "otter_config.json"),
        requirements=str(scratch / "requirements.txt"),
        no_environment=True,
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
    )
    with zipfile.ZipFile(target, "a") as archive:
        for name in ZIPPED:
            archive.write(TOOLS / name, name)
        archive.writestr("graded.json", json.dumps(spec))
        for path in sorted((ROOT / "rlbook_utils").rglob("*")):
            if path.suffix in {".py", ".csv", ".typed"}:
                archive.write(path, path.relative_to(ROOT))
    shutil.rmtree(scratch)


# ---------------------------------------------------------------- command


def build_students(folder: Path, book: convert.Book, works: list[Assignment]) -> None:
    """Write the course tree and let nbgrader make the student notebooks from it."""
    import course

    for work in works:
        path = folder / "nbgrader" / "source" / work.name / f"{work.name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(course_notebook(book, work), path)
    config = "import sys\n\nsys.path.insert(0, {!r})\nimport course\n\n" + (
        "course.configure(get_config())\n"
    )
    text = config.format(str(TOOLS))
    (folder / "nbgrader" / "nbgrader_config.py").write_text(text, encoding="utf-8")
    (folder / "student").mkdir(parents=True, exist_ok=True)
    for work in works:
        done = course.api().generate_assignment(work.name)
        if not done["success"]:
            raise RuntimeError(f"nbgrader: {work.name}: {done['log'][-2000:]}")
        release = folder / "nbgrader" / "release" / work.name / f"{work.name}.ipynb"
        shutil.copy(release, folder / "student")


def build_graded(folder: Path, works: list[Assignment], secret: str) -> None:
    """Write the tests with their instances, and the autograders."""
    for part in ("graded", "otter"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
    for work in works:
        spec = specification(work, secret)
        path = folder / "graded" / f"{work.name}.json"
        path.write_text(json.dumps(spec), encoding="utf-8")
        for q in spec["questions"]:
            grading.checker(q)
        otter_zip(spec, folder / "otter")


def main() -> int:
    """Run the command; return its exit code."""
    import course

    secret = os.environ.get("COURSE_SECRET", "")
    try:
        works = [read(ROOT, name) for name in names(ROOT)]
        build_students(course.BUILT, convert.read_book(ROOT), works)
        print(f"student notebooks are in {course.BUILT / 'student'}")
        check_secret(secret)
        build_graded(course.BUILT, works, secret)
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"autograders are in {course.BUILT / 'otter'}; "
        "`make grade SUBMISSIONS=dir` grades with nbgrader"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
