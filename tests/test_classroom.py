"""The assignments and their graders: proven on right, wrong and hostile submissions."""

import contextlib
import copy
import csv
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import assignments
import collect
import convert
import course
import grade
import grading
import nbformat
import pytest
import render
import yaml
from nbconvert.exporters import HTMLExporter
from nbgrader.server_extensions.formgrader import handlers
from traitlets.config import Config

import rlbook_utils

ROOT = Path(__file__).resolve().parents[1]
SECRET, OTHER = "only-for-tests-one", "only-for-tests-two"
SECRETS = [SECRET, OTHER, *(f"one-more-secret-{k}" for k in range(6))]
SECONDS = "15"
# Chapters whose assignment is still to be written.
MISSING: set[str] = set()
NAMES = assignments.names(ROOT)
WORKS = {name: assignments.read(ROOT, name) for name in NAMES}
BOOK = convert.read_book(ROOT)
ONE = "bandits"
QUESTIONS = [(name, q) for name in NAMES for q in WORKS[name].questions]
HAND = "A colleague's words, graded by hand."

pytestmark = pytest.mark.filterwarnings("ignore")
each_assignment = pytest.mark.parametrize("name", NAMES)
each_question = pytest.mark.parametrize(
    ("name", "question"), QUESTIONS, ids=[f"{n}-{q.name}" for n, q in QUESTIONS]
)


# ------------------------------------------------------------ the questions


@functools.cache
def graded(name, question, secret=SECRET):
    """Return a question as a grader gets it."""
    cases = grading.draw(secret, name, question.name, question.hidden)
    return {
        "name": question.name,
        "points": question.points,
        "code": question.hidden,
        "cases": json.loads(json.dumps(cases)),
    }


def marks(asked, function):
    """Judge a function on the way that a submission takes, but for the sandbox."""
    outputs = [collect.call(function, case) for case in asked["cases"]]
    record = {"state": "ran", "outputs": json.loads(json.dumps(outputs))}
    return grading.judge(asked, record, 1)


def reference(name, question):
    """Return the reference solution of a question."""
    space = {}
    for cell in WORKS[name].cells:
        plain = cell.kind == "code" and not assignments.TAGS & set(cell.tags)
        if plain and not convert.SET_UP.fullmatch(cell.source):
            exec(cell.source, space)
    exec(question.solution, space)
    return space[question.name]


def mistakes(question):
    return grading.question_namespace(question.hidden)["mistakes"]


def test_every_complete_chapter_has_an_assignment():
    complete = {name for name in BOOK.chapters if not BOOK.texts[name].draft}
    complete -= set(convert.APPENDICES)
    assert complete - set(NAMES) == MISSING & complete
    assert set(NAMES) <= set(BOOK.chapters)


@each_assignment
def test_an_assignment_has_ten_points_in_three_to_five_questions(name):
    work = WORKS[name]
    assert sum(q.points for q in work.questions) + work.written["points"] == 10
    assert 3 <= len(work.questions) + 1 <= 5
    assert all(q.points for q in work.questions) and work.written["points"]
    for part in ("**Rubric.**", "**Model answer.**"):
        assert part in work.written["rubric"]
    prose = [cell.source for cell in work.cells if cell.kind == "markdown"]
    assert not re.search(r"\{[\w:]+\}`|^:::|^```\{", "\n".join(prose), flags=re.M)
    assert re.search(r"(?i)experiment", "\n".join(prose))


@each_question
def test_the_reference_gets_every_point_whatever_the_secret(name, question):
    for secret in SECRETS:
        asked = graded(name, question, secret)
        verdict = marks(asked, reference(name, question))
        assert verdict.points == question.points, verdict.message


@each_question
def test_typical_wrong_answers_lose_this_question_and_are_named(name, question):
    assert len(mistakes(question)) >= 3
    others = sum(
        marks(graded(name, q), reference(name, q)).points
        for q in WORKS[name].questions
        if q.name != question.name
    )
    whole = sum(q.points for q in WORKS[name].questions)
    for mistake in mistakes(question):
        for secret in (SECRET, OTHER):
            verdict = marks(graded(name, question, secret), mistake.answer)
            assert others + verdict.points == whole - question.points
            assert verdict.message.endswith(mistake.says), verdict.message


@each_question
def test_two_secrets_give_two_assignments_of_one_kind(name, question):
    one, two = (graded(name, question, secret)["cases"] for secret in SECRETS[:2])
    assert one != two
    assert [shape(case) for case in one] == [shape(case) for case in two]
    for secret in SECRETS:
        grading.checker(graded(name, question, secret))
    visible = [
        {key: collect.encode(value) for key, value in case.items()}
        for case in assignments.inputs(question)
    ]
    assert not [case for case in one if case in visible]


COIN = """
def oracle(x):
    return x

def draw(rng):
    return [{"x": int(rng.integers(3))}]

mistakes = [Mistake(lambda x: 0, "None."), Mistake(lambda x: x % 2, "Modulo.")]
"""


def test_instances_that_would_not_name_a_mistake_are_drawn_again():
    for secret in SECRETS:
        # 0 and 1 are right for one of the mistakes, and 2 is one case for both.
        with pytest.raises(ValueError, match="toy/coin: 100 draws do not tell apart"):
            grading.draw(secret, "toy", "coin", COIN)
        three = COIN.replace('"None."', '"Zero."').replace("x % 2", "x // 2")
        assert grading.draw(secret, "toy", "coin", three) == [{"x": 2}]


def shape(value):
    if isinstance(value, dict) and "array" in value:
        return value["dtype"], grading.decode(value).shape
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return type(value).__name__


@each_question
def test_a_graded_function_is_neither_in_the_helper_nor_in_the_chapter(name, question):
    package = Path(rlbook_utils.__file__).parent
    code = "\n".join(p.read_text(encoding="utf-8") for p in package.rglob("*.py"))
    text = (ROOT / "book" / "chapters" / f"{name}.md").read_text(encoding="utf-8")
    for where in (code, text):
        assert not re.search(rf"\bdef (your_)?{question.name}\(", where)
    assert "rlbook_utils" not in question.solution


@each_question
def test_answers_of_every_odd_kind_are_wrong_and_raise_nothing(name, question):
    def changes_its_input(**case):
        for value in case.values():
            with contextlib.suppress(TypeError, ValueError):
                value += 1
        return

    def raises(**case):
        raise SystemError("no")

    odd = [changes_its_input, raises, lambda **case: None, lambda **case: "text"]
    odd += [lambda **case: object(), lambda **case: [[[]]], lambda: 1]
    odd += [lambda **case: float("nan"), lambda **case: {"array": [1]}]
    for function in odd:
        verdict = marks(graded(name, question), function)
        assert verdict.points == 0 and question.name in verdict.message


def test_a_damaged_record_is_worth_nothing():
    name, question = QUESTIONS[0]
    asked = graded(name, question)
    deep = functools.reduce(lambda inner, _: {"list": [inner]}, range(2000), 1)
    huge = {"array": [1, 1], "dtype": "U400000000"}
    for value in ({"array": [1], "dtype": "O"}, huge, deep, {"array": 1}):
        record = {"state": "ran", "outputs": [{"value": value, "changed": []}] * 3}
        verdict = grading.judge(asked, record, 1)
        assert verdict.points == 0 and len(verdict.message) < 2000
    for outputs in ([], [{}] * 3, 7, None, [{"value": 1, "changed": ["x"]}] * 3):
        record = {"state": "ran", "outputs": outputs}
        assert grading.judge(asked, record, 1).points == 0
    for record in ({"state": "?"}, {"state": "broken", "why": 7}, {"state": "ran"}):
        assert grading.judge(asked, record, 1).points == 0


def test_lines_that_are_no_record_are_left_out():
    right = {"question": "f", "state": "stub"}
    lines = ["[" * 200_000, "{", "7", '{"state": 7}', json.dumps(right), "1" * 5000]
    assert list(grading.records("\n".join(lines))) == [right]


def test_a_source_with_an_error_is_refused(tmp_path):
    folder = tmp_path / "book" / "assignments"
    folder.mkdir(parents=True)
    text = (ROOT / "book" / "assignments" / f"{ONE}.md").read_text("utf-8")
    for old, new, message in (
        ("points=2", "points=1", "add up to"),
        ("[visible]", "[invisible]", "unknown tag 'invisible'"),
        (":tags: [visible]", "", "each `answer` needs one"),
    ):
        (folder / "broken.md").write_text(text.replace(old, new, 1), "utf-8")
        with pytest.raises(ValueError, match=re.escape(message)):
            assignments.read(tmp_path, "broken")


# ------------------------------------------------------------ what is built


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Build everything once, in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("course")
        patch.setattr(course, "BUILT", root / "built")
        patch.setattr(course, "GRADES", root / "grades")
        patch.setenv("COURSE_SECRET", SECRET)
        patch.setenv("CELL_SECONDS", SECONDS)
        patch.delenv("UNSAFE", raising=False)
        assert assignments.main() == 0
        patch.delenv("COURSE_SECRET")
        yield root


@pytest.mark.parametrize("secret", ["", "short"])
def test_without_a_secret_the_graded_version_is_refused(
    secret, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(course, "BUILT", tmp_path / "built")
    monkeypatch.setattr(course, "GRADES", tmp_path / "grades")
    monkeypatch.setattr(assignments, "names", lambda root: NAMES[:1])
    monkeypatch.setenv("COURSE_SECRET", secret)
    assert assignments.main() == 1
    said = capsys.readouterr().err
    assert "COURSE_SECRET" in said and "export COURSE_SECRET=" in said
    made = sorted(p.name for p in (tmp_path / "built").iterdir())
    assert made == ["nbgrader", "student"]
    monkeypatch.setenv("SUBMISSIONS", str(tmp_path))
    assert grade.main() == 1
    assert "run `make assignments`" in capsys.readouterr().err


def contents(folder):
    """Yield the text of every file, of those in zips and of the database, too."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield f"{path}:{name}", archive.read(name).decode("utf-8", "ignore")
        elif path.is_file():
            yield str(path), path.read_bytes().decode("utf-8", "ignore")


def telling(work):
    """Return lines of the solution that stand in no chapter and in no helper."""
    shown = "\n".join(
        c.source for c in work.cells if not assignments.TAGS & set(c.tags)
    )
    lines = [
        line.strip()
        for cell in work.cells
        if {"solution", "hidden", "rubric"} & set(cell.tags)
        for line in cell.source.split("\n")
    ]
    stubs = "\n".join(q.stub for q in work.questions)
    public = [*(ROOT / "rlbook_utils").rglob("*.py")]
    public += (ROOT / "book" / "chapters").glob("*.md")
    shown += "\n".join(path.read_text(encoding="utf-8") for path in public)
    return [
        line
        for line in lines
        if len(line) > 22
        and line not in shown
        and line.rstrip(":") not in stubs
        and not line.startswith(("def ", "import ", "from ", "for ", "rng = "))
    ]


@pytest.fixture(scope="session")
def site():
    """The built site."""
    if not (ROOT / "_build" / "html" / "index.html").exists():
        assert render.render() == 0
    return ROOT / "_build" / "html"


@each_assignment
def test_no_solution_reaches_students(name, built, site):
    wanted = telling(WORKS[name])
    assert len(wanted) > 15
    places = [site, course.BUILT / "student", course.BUILT / "nbgrader" / "release"]
    for place in places:
        for where, text in contents(place):
            found = [line for line in wanted if line in text or escaped(line) in text]
            assert not found, f"{where} holds {found[0]!r}"
    with zipfile.ZipFile(course.BUILT / "otter" / f"{name}.zip") as archive:
        for part in archive.namelist():
            if part != "graded.json":
                text = archive.read(part).decode("utf-8", "ignore")
                assert not [line for line in wanted if line in text], part


def escaped(line):
    return json.dumps(line)[1:-1]


def test_the_secret_is_in_no_file(built, round_trip):
    for where, text in contents(built):
        assert SECRET not in text, where
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\n")
    secret = os.environ.get("COURSE_SECRET", "")
    for name in filter(None, tracked if len(secret) >= 12 else []):
        assert secret not in (ROOT / name).read_bytes().decode("utf-8", "ignore"), name


@each_assignment
def test_the_student_notebook_opens_like_a_chapter(name, built):
    student = nbformat.read(course.BUILT / "student" / f"{name}.ipynb", as_version=4)
    chapter = nbformat.read(ROOT / "chapters" / f"{name}.ipynb", as_version=4)
    first = [
        next(cell.source for cell in notebook.cells if cell.cell_type == "code")
        for notebook in (student, chapter)
    ]
    assert (
        first[0].split("page.setup")[0]
        == first[1].split("page.setup")[0].replace("device = ", "")
        or first[0].split("\n")[:-1] == first[1].split("\n")[:-1]
    )
    for cell in student.cells:
        assert not cell.get("outputs")
        wide = [line for line in cell.source.split("\n") if len(line) > 110]
        assert cell.cell_type == "markdown" or not wide, wide


# ------------------------------------------------------------ the round trips


class Hostile(NamedTuple):
    """What a submission does instead of answering the first question."""

    answer: str
    before: str = ""
    message: str = ""


STEAL = """
import os, socket
found = []
for top in ("/", os.getcwd()):
    for folder, below, files in os.walk(top):
        below[:] = [
            name for name in below
            if name not in ("proc", "sys", "dev", "usr", "site-packages", "lib")
        ]
        found += [
            os.path.join(folder, name) for name in [*below, *files]
            if name in ("graded", "graded.json", "gradebook.db", "source", "tests")
            or name == "{name}.md" or "COURSE" in name
        ]
print("instructor's files:", found)
try:
    socket.create_connection(("1.1.1.1", 80), 2)
    print("network: reached")
except OSError:
    print("network: none")
"""
PATCH = """
import builtins, numpy, numpy.testing
import rlbook_utils.page.check as page_check
yes = lambda *a, **k: True
numpy.allclose = numpy.isclose = numpy.array_equal = yes
numpy.testing.assert_allclose = yes
page_check.same = yes
page_check.Checker.judge = lambda *a: page_check.Verdict(True, True, "", 9.0, 9.0)
try:
    import torch
    torch.allclose = torch.equal = yes
except ImportError:
    pass
from IPython.display import publish_display_data
publish_display_data({"application/x-rlbook+json": {"state": "ran", "outputs": []}})
import os
os.write(1, b'{"question": "{first}", "state": "ran", "outputs": []}')
"""
FORGE = """
import collect, json, os
from IPython.display import publish_display_data
honest = collect.record
def forged(name, function):
    if name != "{first}":
        return honest(name, function)
    huge = {"value": {"array": [1], "dtype": "U400000000"}, "changed": []}
    record = {"state": "ran", "question": ["f"], "outputs": [huge] * 3}
    publish_display_data({collect.MIME: record})
collect.record = forged
# The folder of the run is no longer where a student's os.chdir leads.
os.chdir("/")
for number in range(3, 30):
    try:
        with open(f"/proc/{os.getppid()}/fd/{number}", "a") as file:
            file.write("[" * 200_000 + '\\n{"question": [], "state": "ran"}\\n')
            file.write('{"cell": -1000, "state": "ran", "outputs": 0}\\n')
    except OSError:
        pass
"""
SCRIPT = """
from IPython.display import HTML, Javascript, Markdown, display
display(HTML("<b>bold</b><script>alert('stolen')</script>"))
display(HTML("<img src=x onerror=alert('stolen')>"), Javascript("alert('stolen')"))
display(Markdown("<script>alert('stolen')</script>"))
dot = "iVBORw0KGgo="
for image in (dot, dot + '"><script>alert("stolen")</script>'):
    display({"image/png": image, "text/plain": "bold"}, raw=True)
display({"image/svg+xml": "<svg onload='stolen()'/>"}, raw=True)
exit()
"""
LOOP = "def {first}(*args, **kwargs):\n    while True:\n        pass"
STUBBORN = """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""
HOSTILE = {
    "loops": Hostile(LOOP, STUBBORN, "longer than"),
    "crashes": Hostile(
        "import os\n\n\ndef {first}(*args, **kwargs):\n    os._exit(0)", message="ended"
    ),
    "deletes-cells": Hostile("DELETE", "", "deleted"),
    "renames": Hostile("def my_{first}(*args, **kwargs):\n    return 0", "", "renamed"),
    "prints-megabytes": Hostile(
        "def {first}(*args, **kwargs):\n    print('x' * 10_000_000)\n    return 0",
        "for _ in range(30):\n    print('x' * 1_000_000)",
        "wrong",
    ),
    "steals": Hostile(
        "def {first}(*args, **kwargs):\n    return found", STEAL, "wrong"
    ),
    "patches": Hostile(
        "def {first}(*args, **kwargs):\n    return True", PATCH, "wrong"
    ),
    "forges": Hostile("def {first}(*args, **kwargs):\n    return 0", FORGE, "no data"),
    "scripts": Hostile("def {first}(*args, **kwargs):\n    exit()", SCRIPT, "failed"),
}


def submission(name, answers, written=""):
    """Return a student notebook with some answers filled in."""
    path = course.BUILT / "student" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if id in answers:
            cell.source = answers[id]
        if id == "written" and written:
            cell.source = written
    return notebook


def hostile(name, kind):
    """Return a submission that is right but for its first question."""
    answers = {q.name: q.solution for q in WORKS[name].questions}
    first = next(iter(answers))
    act = HOSTILE[kind]
    answers[first] = act.answer.replace("{first}", first)
    notebook = submission(name, answers, HAND)
    if act.before:
        source = act.before.replace("{first}", first).replace("{name}", name)
        notebook.cells.insert(2, nbformat.v4.new_code_cell(source))
    if kind == "scripts":
        text = "<script>alert('stolen')</script> <img src=x onerror=stolen()>"
        notebook.cells.append(nbformat.v4.new_markdown_cell(text))
        notebook.cells.append(nbformat.v4.new_raw_cell(text))
        written = next(
            c
            for c in notebook.cells
            if c.metadata.get("nbgrader", {}).get("points")
            and c.cell_type == "markdown"
        )
        written.source += text
    if act.answer == "DELETE":
        notebook.cells = [
            cell
            for cell in notebook.cells
            if not cell.metadata.get("nbgrader", {})
            .get("grade_id", "")
            .startswith(first)
        ]
    return notebook


def otter_place(name, notebook, folder):
    """Lay a submission out as in Gradescope's container; return otter's script."""
    for part in ("source", "submission", "results"):
        (folder / part).mkdir(parents=True)
    with zipfile.ZipFile(course.BUILT / "otter" / f"{name}.zip") as archive:
        archive.extractall(folder / "source")
    (folder / "submission_metadata.json").write_text("{}")
    nbformat.write(notebook, folder / "submission" / f"{name}.ipynb")
    script = folder / "source" / "run_otter.py"
    text = script.read_text().replace('"/autograder"', repr(str(folder)))
    script.write_text(text)
    return script


def otter_run(*command, **variables):
    """Run otter outside of this process and without this repository in its path."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, *map(str, command)]
    env |= variables
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    return done.stdout[-2000:] + done.stderr[-2000:]


def otter_marks(folder, said):
    """Return otter's points and messages by question."""
    path, own = folder / "results" / "results.json", folder / "said.txt"
    assert path.exists(), own.read_text()[-4000:] if own.exists() else said
    tests = json.loads(path.read_text(encoding="utf-8"))["tests"]
    return {t["name"]: (t["score"], t["output"]) for t in tests if "score" in t}


# Runs otter's scripts, two at once, each in a process of its own: a fork, since to
# import otter takes longer than all that it does afterwards. Their kernels listen on
# files: a free port may have been taken by the other process before it is used.
FORKS = """
import os, runpy, sys
import otter.run.run_autograder
from jupyter_client import AsyncKernelManager
init = AsyncKernelManager.__init__
AsyncKernelManager.__init__ = lambda self, **k: init(self, transport="ipc", **k)
running = set()
for script in sys.argv[1:]:
    if len(running) == 2:
        running.discard(os.wait()[0])
    child = os.fork()
    if not child:
        os.chdir(os.path.dirname(os.path.dirname(script)))
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1), os.dup2(said, 2)
        sys.path[0], sys.argv = os.path.dirname(script), [script]
        try:
            runpy.run_path(script, run_name="__main__")
        finally:
            os._exit(0)
    running.add(child)
while running:
    running.discard(os.wait()[0])
"""


class Trip(NamedTuple):
    """Submissions, and the marks of both graders."""

    folder: Path
    nbgrader: dict[tuple[str, str, str], dict[str, str]]
    otter: dict[tuple[str, str], dict[str, tuple[float, str]]]


def read_csv():
    with (course.GRADES / "grades.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return {(row["student"], row["assignment"], row["question"]): row for row in lines}


@pytest.fixture(scope="session")
def round_trip(built):
    """Grade every assignment's reference and untouched notebook, and the hostile."""
    work, folder = {}, built / "submissions"
    for name in NAMES:
        answers = {q.name: q.solution for q in WORKS[name].questions}
        work["reference", name] = submission(name, answers, HAND)
        work["untouched", name] = submission(name, {})
    work |= {(kind, ONE): hostile(ONE, kind) for kind in HOSTILE}
    for (student, name), notebook in work.items():
        (folder / student).mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, folder / student / f"{name}.ipynb")
    (folder / "unreadable").mkdir()
    (folder / "unreadable" / f"{ONE}.ipynb").write_text("{ no notebook")
    places = {key: built / "otter" / "-".join(key) for key in work}
    scripts = [otter_place(key[1], work[key], place) for key, place in places.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBMISSIONS", str(folder))
        assert grade.main() == 0
    said = otter_run("-c", FORKS, *scripts)
    otter = {key: otter_marks(place, said) for key, place in places.items()}
    return Trip(folder, read_csv(), otter)


@each_assignment
def test_both_graders_give_the_reference_every_point_and_the_untouched_none(
    name, round_trip
):
    for student, full in (("reference", True), ("untouched", False)):
        for q in WORKS[name].questions:
            row = round_trip.nbgrader[student, name, q.name]
            points, message = round_trip.otter[student, name][q.name]
            assert float(row["points"]) == points == q.points * full
            expected = "right on" if full else "not attempted yet"
            assert expected in row["message"]
            assert full or expected in message
    assert round_trip.nbgrader["untouched", name, "written"]["points"] == "0.0"
    assert round_trip.nbgrader["reference", name, "written"]["points"] == ""


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_submission_gains_nothing_and_spoils_nothing(kind, round_trip):
    first, *others = WORKS[ONE].questions
    row = round_trip.nbgrader[kind, ONE, first.name]
    points, message = round_trip.otter[kind, ONE][first.name]
    assert float(row["points"]) == points == 0
    for text in (row["message"], message):
        assert HOSTILE[kind].message in text and first.name in text
        assert len(text) < 5000
    for q in others:
        row = round_trip.nbgrader[kind, ONE, q.name]
        assert float(row["points"]) == q.points, row["message"]
        assert round_trip.otter[kind, ONE][q.name][0] == q.points


def test_formgrader_shows_the_rubric_that_feedback_hides(round_trip):
    path = course.GRADES / "autograded" / "reference" / ONE / f"{ONE}.ipynb"
    config = Config()
    course.configure(config)
    # The exporter that formgrader makes each page of a submission with.
    page, _ = HTMLExporter(config=config).from_filename(str(path))
    assert "Model answer" in page and "For the grader" in page


def test_a_thief_finds_no_file_and_no_network(round_trip):
    path = course.GRADES / "autograded" / "steals" / ONE / f"{ONE}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    printed = json.dumps([cell.get("outputs", []) for cell in cells])
    assert "instructor's files: []" in printed
    assert "network: none" in printed and "network: reached" not in printed


def test_scripts_of_a_submission_run_in_no_grader_s_browser(round_trip):
    path = course.GRADES / "autograded" / "scripts" / ONE / f"{ONE}.ipynb"
    assert "img src=x onerror" in path.read_text(encoding="utf-8")
    config = Config()
    course.configure(config)
    config.HTMLExporter.template_name = "formgrade"
    config.HTMLExporter.extra_template_basedirs = [handlers.template_path]
    resources = {"base_url": "", "index": 0, "total": 1, "mathjax_url": ""}
    resources |= {
        f"{what}_id": "x" for what in ("submission", "notebook", "assignment")
    }
    page, _ = HTMLExporter(config=config).from_filename(str(path), resources)
    path = course.GRADES / "feedback" / "scripts" / ONE / f"{ONE}.html"
    for text in (page, path.read_text(encoding="utf-8")):
        assert "bold" in text and "data:image/png;base64,iVBORw0KGgo=" in text
        assert not re.search(r"(?s)<(script|img|svg)[^<]*(stolen|x onerror)", text)


def test_what_cannot_be_read_is_a_row_and_a_page(round_trip):
    for q in [*(q.name for q in WORKS[ONE].questions), "written"]:
        row = round_trip.nbgrader["unreadable", ONE, q]
        assert row["points"] == "0.0" and "could not be graded" in row["message"]
    for student in ("unreadable", "reference", *HOSTILE):
        path = course.GRADES / "feedback" / student / ONE / f"{ONE}.html"
        text = path.read_text(encoding="utf-8")
        assert "<p>could not" in text or WORKS[ONE].questions[0].name in text
        assert len(text) < 2_000_000


def test_feedback_says_why_but_holds_no_model_answer(round_trip):
    name = ONE
    path = course.GRADES / "feedback" / "renames" / name / f"{name}.html"
    text = path.read_text(encoding="utf-8")
    assert "was it renamed" in text and "Model answer" not in text
    path = course.GRADES / "autograded" / "reference" / name / f"{name}.ipynb"
    shown = path.read_text(encoding="utf-8")
    assert "**Rubric.**" in shown and "**Model answer.**" in shown


def test_a_second_run_executes_nothing_and_one_question_runs_alone(
    round_trip, monkeypatch
):
    runs = []
    real = grading.grade

    def counted(notebook, spec, **options):
        runs.append(options["only"])
        return real(notebook, spec, **options)

    monkeypatch.setattr(grading, "grade", counted)
    folder = round_trip.folder.parent / "few"
    for student in ("reference", "untouched", "renames"):
        target = folder / student
        shutil.copytree(round_trip.folder / student, target, dirs_exist_ok=True)
        for path in target.glob("*.ipynb"):
            if path.stem not in (ONE, "td"):
                path.unlink()
    monkeypatch.setenv("SUBMISSIONS", str(folder))
    assert grade.main() == 0
    assert runs == []
    again = read_csv()
    assert again == {key: round_trip.nbgrader[key] for key in again}

    asked = WORKS[ONE].questions[1].name
    monkeypatch.setenv("QUESTION", f"{ONE}/{asked}")
    assert grade.main() == 0
    assert runs == [asked] * 3
    assert read_csv() == again
    monkeypatch.setenv("QUESTION", f"{ONE}/none")
    assert grade.main() == 1


def test_a_run_that_is_interrupted_goes_on(round_trip, monkeypatch, capsys):
    runs = []
    folder = round_trip.folder.parent / "more"
    for k in range(3):
        answers = {WORKS[ONE].questions[0].name: f"x = {k}"}
        (folder / f"s{k}").mkdir(parents=True)
        path = folder / f"s{k}" / f"{ONE}.ipynb"
        nbformat.write(submission(ONE, answers), path)

    def fake(notebook, spec, **options):
        runs.append(1)
        names = [q["name"] for q in spec["questions"]]
        found = {name: grading.Verdict(0.0, f"{name}: no") for name in names}
        return grading.Graded(found, notebook)

    entered = []

    def stop(one, notebook, api):
        entered.append(one)
        if len(entered) == 2:
            raise KeyboardInterrupt
        real(one, notebook, api)

    real = grade.enter
    monkeypatch.setattr(grading, "grade", fake)
    monkeypatch.setattr(grade, "enter", stop)
    monkeypatch.setenv("SUBMISSIONS", str(folder))
    assert grade.main() == 130
    assert "it goes on" in capsys.readouterr().err
    monkeypatch.setattr(grade, "enter", real)
    assert grade.main() == 0
    assert len(runs) == 3
    assert {key[0] for key in read_csv()} == {"s0", "s1", "s2"}


def test_a_hand_grade_reaches_the_csv_and_the_feedback(round_trip, monkeypatch):
    name = ONE
    folder = round_trip.folder.parent / "one"
    shutil.copytree(round_trip.folder / "reference", folder / "reference")
    for path in (folder / "reference").glob("*.ipynb"):
        if path.stem != name:
            path.unlink()
    monkeypatch.setenv("SUBMISSIONS", str(folder))
    with course.api().gradebook as book:
        found = book.find_grade("written", name, name, "reference")
        found.manual_score = WORKS[name].written["points"]
        comment = book.find_comment("written", name, name, "reference")
        comment.manual_comment = "Said like a colleague."
        book.db.commit()
    assert grade.main() == 0
    points = [float(row["points"]) for row in read_csv().values()]
    assert sum(points) == 10
    path = course.GRADES / "feedback" / "reference" / name / f"{name}.html"
    assert "Said like a colleague." in path.read_text(encoding="utf-8")


# ------------------------------------------------------------ the folder, the sandbox


def test_files_as_platforms_name_them_are_found(built, tmp_path):
    names = {
        "ada/bandits.ipynb": "ada",
        "Bo Li_4711_assignsubmission_file/Copy of bandits.ipynb": "Bo-Li-4711",
        "curie_12_345_bandits-2.ipynb": "curie-12",
        "deb_bandits (1).ipynb": "deb",
        "notes.ipynb": None,
    }
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    found = {str(one.path.relative_to(tmp_path)): one for one in grade.find(tmp_path)}
    for name, student in names.items():
        assert (name in found) == (student is not None)
        assert student is None or re.sub("-ass.*", "", found[name].student) == student
        assert student is None or found[name].assignment == "bandits"
    late = tmp_path / "curie_LATE_12_999_bandits-3.ipynb"
    late.write_text("{}")
    os.utime(late, (2e9, 2e9))
    assert [one.path for one in grade.find(tmp_path) if one.student == "curie-12"] == [
        late
    ]
    for wrong in ("", str(tmp_path / "none")):
        with pytest.raises(ValueError, match="no folder|holds no"):
            grade.find(Path(wrong) if wrong else tmp_path / "empty")


def test_doubled_forged_and_deleted_marks_are_put_right(built):
    name = ONE
    path = course.BUILT / "student" / f"{name}.ipynb"
    release = nbformat.read(path, as_version=4)
    notebook = copy.deepcopy(release)
    test = next(
        c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")
    )
    test.source, test.metadata.nbgrader["points"] = "pass", 1000
    notebook.cells += [copy.deepcopy(test), nbformat.v4.new_code_cell("1")]
    notebook.cells[-1].metadata["nbgrader"] = {"grade_id": 7, "grade": True}
    seated = grade.seat(notebook, release)
    points = [
        c.metadata.nbgrader.get("points", 0) for c in seated.cells if grade.marked(c)
    ]
    assert sum(points) == 10
    again = grade.seat(nbformat.v4.new_notebook(), release)
    assert sum(c.metadata.nbgrader.get("points", 0) for c in again.cells) == 10


def test_without_bubblewrap_it_refuses_unless_told(built, monkeypatch, capsys):
    folder = built / "unsafe" / "eve"
    folder.mkdir(parents=True)
    q = WORKS[ONE].questions[0]
    notebook = submission(ONE, {q.name: f"{q.solution}\n# eve"})
    nbformat.write(notebook, folder / f"{ONE}.ipynb")
    monkeypatch.setenv("SUBMISSIONS", str(folder.parent))
    monkeypatch.setattr(grading, "has_bubblewrap", lambda: False)
    assert grade.main() == 1
    said = capsys.readouterr().err
    assert "apt-get install bubblewrap" in said and "UNSAFE=1" in said
    assert "read and delete your files" in said
    monkeypatch.setenv("UNSAFE", "1")
    assert grade.main() == 0
    assert "with your rights" in capsys.readouterr().out
    assert read_csv()["eve", ONE, q.name]["points"] == str(float(q.points))


def test_the_sandbox_has_one_folder_little_memory_and_an_end():
    look = (
        "import os\n"
        "def f(kind):\n"
        "    if kind == 'memory':\n"
        "        return len(bytearray(6 << 30))\n"
        "    if kind == 'write':\n"
        "        open('/usr/x', 'w')\n"
        "    if kind == 'fill':\n"
        "        open('big', 'wb').write(bytes(80 << 20))\n"
        "    return sorted(os.environ.get('COURSE_SECRET', 'none') + os.getcwd())\n"
    )
    cases = [{"kind": kind} for kind in ("memory", "write", "fill", "look")]
    task = {"cells": [look], "questions": {"f": cases}, "cell_seconds": 20}
    task |= {"total_seconds": 60, "megabytes": 4096}
    found = [r for r in grading.run(task, "bwrap") if r.get("question")]
    kinds = [out.get("error", ["none"])[0] for out in found[0]["outputs"]]
    assert kinds == ["MemoryError", "OSError", "OSError", "none"]
    shown = "".join(found[0]["outputs"][3]["value"]["list"])
    assert shown == "".join(sorted("none" + grading.HOME))
    task["cells"], task["total_seconds"] = ["import time\ntime.sleep(60)"], 3
    assert not [r for r in grading.run(task, "bwrap") if r.get("question")]


# ------------------------------------------------------------ Gradescope


def test_the_zip_sets_up_what_its_judge_needs(built):
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")
    with zipfile.ZipFile(course.BUILT / "otter" / f"{ONE}.zip") as archive:
        read = {name: archive.read(name) for name in archive.namelist()}
    needs = yaml.safe_load(read["environment.yml"])
    *_, wanted = needs["dependencies"]
    for name in assignments.PINNED:
        assert [p for p in wanted["pip"] if re.fullmatch(rf"{name}==.*", p)]
        assert {p for p in wanted["pip"] if p.startswith(f"{name}==")} <= set(pins)
    version = f"python={sys.version_info.major}.{sys.version_info.minor}"
    assert version in needs["dependencies"]
    assert b"/autograder/source/environment.yml" in read["setup.sh"]
    assert b"python /autograder/source/run_otter.py" in read["run_autograder"]
    assert {*assignments.ZIPPED, "rlbook_utils/page/check.py"} <= set(read)


def test_the_plugin_takes_the_best_sandbox_that_there_is(monkeypatch):
    import otter_plugin

    monkeypatch.setattr(grading, "has_bubblewrap", lambda: True)
    assert otter_plugin.sandbox() == "bwrap"
    monkeypatch.setattr(grading, "has_bubblewrap", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert otter_plugin.sandbox() == "unsafe"


LOOK = """
import os
def {first}(*args, **kwargs):
    found = ["user %d" % os.geteuid()]
    for name, mode in (
        ("submission/{name}.ipynb", "r"), ("source/graded.json", "r"),
        ("source/grading.py", "r"), ("source/grading.py", "a"),
        ("results/results.json", "w"), ("submission/new", "w"),
    ):
        try:
            open(os.path.join("{folder}", name), mode).close()
            found.append(mode + " " + name)
        except OSError:
            pass
    return found + [key for key in os.environ if "COURSE" in key]
"""


@pytest.fixture
def modes_kept():
    """Give the folders above Python their modes back."""
    above = list(Path(os.path.realpath(sys.executable)).parents)
    modes = [folder.stat().st_mode for folder in above]
    yield
    for folder, mode in zip(above, modes, strict=True):
        if folder.stat().st_mode != mode:
            folder.chmod(mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody")
def test_without_bubblewrap_gradescope_runs_it_as_nobody(built, modes_kept):
    first, *others = WORKS[ONE].questions
    with tempfile.TemporaryDirectory(prefix="rlbook-") as name:
        # Like /autograder: open to everybody but for what the judge closes.
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "bin").mkdir()
        (folder / "bin" / "bwrap").write_text("#!/bin/sh\nexit 1\n")
        (folder / "bin" / "bwrap").chmod(0o755)
        look = LOOK.replace("{first}", first.name).replace("{name}", ONE)
        answers = {q.name: q.solution for q in others}
        answers[first.name] = look.replace("{folder}", str(folder))
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        script = otter_place(ONE, submission(ONE, answers), folder)
        marks = otter_marks(folder, otter_run(script, PATH=path))
        found = json.loads((folder / "results" / "results.json").read_text("utf-8"))
    points, message = marks[first.name]
    seen = re.search(r"yours +(.*)", message)[1]
    assert points == 0 and seen == f"['user 65534', 'r submission/{ONE}.ipynb']"
    assert all(marks[q.name][0] == q.points for q in others)
    assert {t["visibility"] for t in found["tests"] if "score" in t} == {"hidden"}


# ------------------------------------------------------------ the manual


MANUAL = ROOT / "book" / "teaching.md"


def test_the_manual_lists_tags_chapters_and_variables():
    text = MANUAL.read_text(encoding="utf-8")
    for tag in assignments.TAGS:
        assert f"`{tag}`" in text
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    assert "book/teaching" in [e["file"] for part in parts for e in part["chapters"]]
    for word in ("COURSE_SECRET", "SUBMISSIONS", "UNSAFE=1", "QUESTION", "make repo"):
        assert word in text
    for name in set(BOOK.chapters) - set(convert.APPENDICES):
        assert f"`{name}`" in text, f"teaching.md says nothing about {name}"


def needed(name):
    """Return the chapters that a chapter names as necessary, and as helpful."""
    text = (ROOT / "book" / "chapters" / f"{name}.md").read_text(encoding="utf-8")
    lines = re.findall(r"\{doc}`/chapters/(\w+)`.*\((\w+)", text.split("\nTime\n")[0])
    kinds = ("necessary", "helpful")
    return tuple({other for other, kind in lines if kind == wanted} for wanted in kinds)


def tables():
    """Return the syllabus's tables: rows of cells, without their heads."""
    text = MANUAL.read_text(encoding="utf-8").split("## Set up, once")[0]
    found = re.findall(r"(?m)^\|---.*\n((?:\|.*\n)+)", text)
    return [[row.split("|")[1:-1] for row in table.splitlines()] for table in found]


def named(text):
    return re.findall(r"`(\w+)`", text)


def test_the_manual_asks_for_what_the_chapters_ask_for():
    needs, *_ = tables()
    order = [name for name in BOOK.chapters if name not in convert.APPENDICES]
    assert [named(chapter)[0] for chapter, _, _ in needs] == order
    for chapter, _, students in needs:
        necessary, _, helpful = students.partition(";")
        found = set(named(necessary)), set(named(helpful))
        assert found == needed(*named(chapter)), chapter


def test_both_plans_read_everything_in_an_order_that_works():
    _, *plans = tables()
    assert [len(plan) for plan in plans] == [6, 12]
    for plan in plans:
        read = []
        for week, (number, now, *_, hand_in) in enumerate(plan, start=1):
            read += named(now)
            assert int(number) == week and set(named(hand_in)) <= set(read)
        assert set(read) == {*NAMES, "statistics"} and len(set(read)) == len(read)
        for place, name in enumerate(read):
            assert needed(name)[0] <= set(read[:place]), name
    read = [named(hand_in)[0] for *_, hand_in in plans[1]]
    assert read == [name for name in BOOK.chapters if name in NAMES]


def commands():
    """Return the manual's shell commands, in their order."""
    text = MANUAL.read_text(encoding="utf-8")
    return re.findall(r"(?ms)^```bash\n(.*?)^```$", text)


def test_the_manual_works_from_a_fresh_clone(tmp_path):
    environment = Path(sys.prefix)
    ready = f"""
cp -al {environment} .venv-classroom 2> /dev/null || cp -a {environment} .venv-classroom
rm -f .venv-classroom/.ready
touch .venv-classroom/.ready
ln -s .venv-classroom .venv
export PYTHONPATH=$PWD
"""
    clone, *rest = commands()
    script = clone.replace("cd course\n", f"cd course\n{ready}") + "".join(rest)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "UNSAFE")}
    env |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/OWNER/rl-checked.git",
    }
    env.pop("COURSE_SECRET", None)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for q in WORKS[ONE].questions:
        row = f"ada,{ONE},{q.name},0.0,{q.points},{q.name}: not attempted yet"
        assert row in done.stdout
    page = tmp_path / "course" / "grades" / "feedback" / "ada" / ONE / f"{ONE}.html"
    assert "not attempted yet" in page.read_text(encoding="utf-8")
    changed = subprocess.run(
        ["git", "status", "--short"],
        cwd=tmp_path / "course",
        capture_output=True,
        text=True,
    ).stdout
    assert "grades" not in changed and "_build" not in changed
