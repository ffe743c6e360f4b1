"""Grade a folder of submissions: `make grade SUBMISSIONS=dir`.

Reads the folder, and `_build/assignments/graded/`. Writes `grades/`:
  grades.csv                                    student, question, points, message
  feedback/<student>/<assignment>/<...>.html    one a submission
  gradebook.db, submitted/, autograded/         nbgrader's, for hand grading
  cache/                                        verdicts, by content
A submission that cannot be read or graded is a row of its own. A second run executes
only what is new, so that it goes on after an interruption and picks up hand grades.
"""

from __future__ import annotations

import csv
import hashlib
import html
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbformat import NotebookNode
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

sys.path.insert(0, str(Path(__file__).parent))

import course
import grading
from nbgrader.api import Gradebook, MissingEntry

AT_ONCE = 2
LARGEST = 20 << 20
COLUMNS = ("student", "assignment", "question", "points", "possible", "message")
HAND_IN = re.compile(r"(?:_late)?(_\d+)_\d+$", re.I)


class Submission(NamedTuple):
    """Who handed in what, and where it lies."""

    student: str
    assignment: str
    path: Path


class Row(NamedTuple):
    """One line of the CSV."""

    student: str
    assignment: str
    question: str
    points: float | str
    possible: float
    message: str


# ---------------------------------------------------------------- finding


def find(folder: Path) -> list[Submission]:
    """Find the submissions: `student/name.ipynb`, or `student_..._name.ipynb`.

    The file's name ends in the assignment's, perhaps with a number that a browser or
    a learning platform has put behind it. Of Canvas's two numbers the first is the
    student's; the second, and the word "late", differ from one hand-in to the next.
    The newest of several counts.
    """
    known = sorted(path.stem for path in (course.BUILT / "graded").glob("*.json"))
    if not known:
        raise ValueError("no graded version: set COURSE_SECRET, run `make assignments`")
    if not folder.is_dir():
        raise ValueError(f"SUBMISSIONS is {str(folder)!r}: that is no folder")
    longest = "|".join(sorted(known, key=len, reverse=True))
    pattern = re.compile(rf"(.*?)[ _-]*({longest})[ _-]*(?:\(?\d+\)?)?\.ipynb", re.I)
    found: dict[tuple[str, str], Submission] = {}
    for path in sorted(folder.rglob("*.ipynb"), key=lambda p: p.stat().st_mtime):
        match = pattern.fullmatch(path.name)
        inner = path.relative_to(folder).parts
        flat = HAND_IN.sub(r"\1", match[1]) if match else ""
        who = inner[0] if len(inner) > 1 else flat
        student = re.sub(r"[^A-Za-z0-9.@-]+", "-", who).strip("-.")
        if match and student:
            name = match[2].lower()
            found[student, name] = Submission(student, name, path)
        else:
            print(f"left out: {path}: name it <student>/<assignment>.ipynb")
    if not found:
        raise ValueError(f"{folder} holds no submission to {', '.join(known)}")
    return [found[key] for key in sorted(found)]


def seat(notebook: NotebookNode, release: NotebookNode) -> NotebookNode:
    """Give a submission nbgrader's marks back: its test cells, each once.

    A test cell that was deleted or edited is restored; marks that a student added or
    doubled are taken away.
    """
    marks = {c.metadata.nbgrader.grade_id: c for c in release.cells if marked(c)}
    seen, cells = set(), []
    for cell in notebook.cells:
        id = cell.metadata.get("nbgrader", {}).get("grade_id") if marked(cell) else None
        known = marks.get(id)
        if known is None or id in seen or known.cell_type != cell.cell_type:
            cell.metadata.pop("nbgrader", None)
        elif known.metadata.nbgrader.locked:
            cell = known.copy()
        else:
            cell.metadata["nbgrader"] = known.metadata.nbgrader
        if marked(cell):
            seen.add(id)
        cell.id = f"cell-{len(cells)}"
        cells.append(cell)
    for id, known in marks.items():
        if known.metadata.nbgrader.grade and id not in seen:
            cells.append(known.copy())
    made = nbformat.v4.new_notebook(cells=cells, metadata=release.metadata)
    nbformat.validate(made)
    return made


def marked(cell: NotebookNode) -> bool:
    """Tell whether a cell carries nbgrader's marks."""
    marks = cell.metadata.get("nbgrader")
    return isinstance(marks, dict) and isinstance(marks.get("grade_id"), str)


def read(submission: Submission) -> NotebookNode:
    """Read a submission into the seats of its release."""
    if submission.path.stat().st_size > LARGEST:
        raise ValueError(f"the file is larger than {LARGEST >> 20} MB")
    name = submission.assignment
    release = course.BUILT / "nbgrader" / "release" / name / f"{name}.ipynb"
    notebook = nbformat.read(submission.path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    return seat(notebook, nbformat.read(release, as_version=4))


# ---------------------------------------------------------------- grading


def prepare(submission: Submission, again: str) -> NotebookNode:
    """Run and judge a submission, or find it in the cache."""
    notebook = read(submission)
    course.judged(notebook, course.specification(submission.assignment), again)
    return notebook


def enter(submission: Submission, notebook: NotebookNode, api: Any) -> None:
    """Hand a judged submission to nbgrader: gradebook and feedback."""
    student, name = submission.student, submission.assignment
    spec = course.specification(name)
    verdicts = course.judged(notebook, spec)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    text = nbformat.writes(notebook)
    stamp = hashlib.sha256(f"{text}{sorted(verdicts.items())}".encode()).hexdigest()
    done = course.GRADES / "autograded" / student / name / "stamp.txt"
    feedback = course.GRADES / "feedback" / student / name / f"{name}.html"
    entered = done.exists() and done.read_text(encoding="utf-8") == stamp
    if not entered:
        path = course.GRADES / "submitted" / student / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        shown(api.autograde(name, student))
    if not entered or not feedback.exists() or hand_grades_changed(api, submission):
        shown(api.generate_feedback(name, student))
    done.write_text(stamp, encoding="utf-8")


def hand_grades_changed(api: Any, submission: Submission) -> bool:
    """Tell whether hand grades are newer than the feedback; remember them."""
    with api.gradebook as book:
        found = book.find_submission(submission.assignment, submission.student)
        marks = [
            [grade.name, grade.manual_score, grade.extra_credit]
            for notebook in found.notebooks
            for grade in notebook.grades
        ]
        notes = [c.manual_comment for n in found.notebooks for c in n.comments]
    folder = course.GRADES / "autograded" / submission.student / submission.assignment
    path, now = folder / "hand.json", json.dumps([sorted(marks), notes])
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(now, encoding="utf-8")
    return old not in ("", now)


def shown(result: dict[str, Any]) -> None:
    """Raise what nbgrader has swallowed."""
    if not result["success"]:
        raise RuntimeError(f"nbgrader: {(result['log'] or '').strip()[-500:]}")


def rows(submission: Submission, api: Any) -> list[Row]:
    """Return a graded submission's lines: the gradebook's points, our messages."""
    student, name = submission.student, submission.assignment
    spec = course.specification(name)
    verdicts = course.judged(read(submission), spec)
    with api.gradebook as book:
        by_hand, note = hand_grade(book, submission)
        scores = {
            q["name"]: book.find_grade(f"{q['name']}-test", name, name, student).score
            for q in spec["questions"]
        }
    found = [
        Row(
            student,
            name,
            q["name"],
            scores[q["name"]],
            q["points"],
            verdicts[q["name"]][1],
        )
        for q in spec["questions"]
    ]
    possible = spec["written"]["points"]
    return [*found, Row(student, name, "written", by_hand, possible, note)]


def hand_grade(book: Gradebook, submission: Submission) -> tuple[float | str, str]:
    """Return the written answer's points, if it has any yet, and a note."""
    name = submission.assignment
    try:
        grade = book.find_grade("written", name, name, submission.student)
    except MissingEntry:
        return "", "waits for a grade by hand"
    if grade.manual_score is not None:
        return float(grade.score), "graded by hand"
    if grade.auto_score is not None:
        return float(grade.auto_score), "not answered"
    return "", "waits for a grade by hand"


def failed(submission: Submission, error: BaseException) -> list[Row]:
    """Return the lines of a submission that could not be graded, and its page."""
    student, name = submission.student, submission.assignment
    message = f"could not be graded: {type(error).__name__}: {str(error)[:300]}"
    page = course.GRADES / "feedback" / student / name / f"{name}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    text = f"<!doctype html><title>{name}</title><p>{html.escape(message)}</p>"
    page.write_text(text, encoding="utf-8")
    spec = course.specification(name)
    asked = [(q["name"], q["points"]) for q in spec["questions"]]
    asked.append(("written", spec["written"]["points"]))
    return [Row(student, name, q, 0.0, points, message) for q, points in asked]


def grade_all(submissions: list[Submission], again: str) -> list[Row]:
    """Grade submissions, two sandboxes at once, with a progress bar."""
    api, lines = course.api(), []
    bar = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*bar) as progress, ThreadPoolExecutor(AT_ONCE) as pool:
        task = progress.add_task("grading", total=len(submissions))
        jobs = {pool.submit(prepare, one, again): one for one in submissions}
        try:
            for job in as_completed(jobs):
                one = jobs[job]
                try:
                    enter(one, job.result(), api)
                    lines += rows(one, api)
                except grading.SandboxError:
                    raise
                except Exception as error:
                    lines += failed(one, error)
                progress.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True, wait=False)
            raise
    return sorted(lines, key=lambda row: row[:2])


def beside(path: Path, assignment: str) -> list[Row]:
    """Read the rows of other assignments from the grades, if there are any."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        kept = [Row(*row.values()) for row in csv.DictReader(file)]
    return [row for row in kept if row.assignment != assignment]


def write_csv(path: Path, lines: list[Row]) -> None:
    """Write the grades in one step."""
    half = path.with_suffix(".half")
    with half.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(lines)
    half.replace(path)


def main() -> int:
    """Run the command; return its exit code."""
    folder = os.environ.get("SUBMISSIONS", "")
    assignment, _, again = os.environ.get("QUESTION", "").partition("/")
    try:
        if not folder:
            raise ValueError("say which folder: make grade SUBMISSIONS=dir")
        if course.mode() == "unsafe":
            print("UNSAFE=1: the submissions run with your rights and your network")
        found = find(Path(folder))
        if assignment:
            asked = [q["name"] for q in course.specification(assignment)["questions"]]
            if again not in asked:
                raise ValueError(
                    f"QUESTION is {assignment}/{again}: known are {', '.join(asked)}"
                )
            found = [one for one in found if one.assignment == assignment]
        lines, path = grade_all(found, again), course.GRADES / "grades.csv"
        kept = beside(path, assignment) if assignment else []
        write_csv(path, sorted(kept + lines, key=lambda row: row[:2]))
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: run it again and it goes on", file=sys.stderr)
        return 130
    waiting = sum(row.points == "" for row in lines)
    print(
        f"{len(found)} submissions: {course.GRADES / 'grades.csv'}; "
        f"{waiting} wait for a grade by hand"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
