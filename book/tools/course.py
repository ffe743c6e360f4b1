"""nbgrader's side: its settings, and the step that judges instead of executing.

Reads `_build/assignments/graded/*.json`. Writes `grades/cache/`: verdicts by the
content of a submission, so that a second run, or one after an interruption, executes
nothing again.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.preprocessors import TagRemovePreprocessor
from nbformat import NotebookNode
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import (
    CheckCellMetadata,
    LimitOutput,
    NbGraderPreprocessor,
    SaveAutoGrades,
)
from sqlalchemy.exc import SAWarning
from traitlets.config import Config

sys.path.insert(0, str(Path(__file__).parent))

import grading

# nbgrader 0.9 adds objects in an order that SQLAlchemy 2 remarks on.
warnings.simplefilter("ignore", SAWarning)

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "_build" / "assignments"
GRADES = ROOT / "grades"


def configure(c: Any) -> None:
    """Set nbgrader up: our folders, our judge, no solution in what students get."""
    (GRADES / "exchange").mkdir(parents=True, exist_ok=True)
    # nbgrader calls `alembic`, which stands beside this environment's Python.
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    os.environ["PATH"] = os.pathsep.join(places)
    c.CourseDirectory.course_id = "rl-checked"
    c.CourseDirectory.root = str(BUILT / "nbgrader")
    c.CourseDirectory.db_url = f"sqlite:///{GRADES / 'gradebook.db'}"
    for step in ("submitted", "autograded", "feedback"):
        setattr(c.CourseDirectory, f"{step}_directory", str(GRADES / step))
    c.Exchange.root = str(GRADES / "exchange")
    c.ClearSolutions.code_stub = {"python": ""}
    c.Autograde.autograde_preprocessors = [
        Judge,
        LimitOutput,
        SaveAutoGrades,
        CheckCellMetadata,
    ]
    c.HideRubric.remove_cell_tags = {"rubric"}
    c.HideRubric.enabled = True
    c.GenerateFeedback.preprocessors = [
        "nbgrader.preprocessors.GetGrades",
        "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
        HideRubric,
    ]


def api() -> NbGraderAPI:
    """Return nbgrader's interface, set up."""
    config = Config()
    configure(config)
    config.NbGraderAPI.log_level = 40
    return NbGraderAPI(CourseDirectory(config=config), config=config)


def specification(assignment: str) -> dict[str, Any]:
    """Read an assignment's tests with this course's instances."""
    path = BUILT / "graded" / f"{assignment}.json"
    if not path.exists():
        raise ValueError(
            f"{path} is missing: set COURSE_SECRET and run `make assignments` first"
        )
    spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return spec


def mode() -> str:
    """Return how student code runs: in the sandbox unless UNSAFE=1."""
    unsafe = os.environ.get("UNSAFE", "") == "1"
    grading.check_sandbox(unsafe)
    return "unsafe" if unsafe else "bwrap"


def judged(
    notebook: NotebookNode, spec: dict[str, Any], again: str = ""
) -> dict[str, grading.Verdict]:
    """Return a submission's verdicts, from the cache where it has them.

    `again` names a question to run and judge once more. The notebook's cells get
    the outputs of the run.
    """
    path = GRADES / "cache" / f"{grading.key(notebook, spec)}.json"
    old: dict[str, Any] = {"verdicts": {}, "outputs": []}
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
    if again or not old["verdicts"]:
        only = again if old["verdicts"] else ""
        seconds = int(os.environ.get("CELL_SECONDS", grading.CELL_SECONDS))
        found = grading.grade(
            notebook, spec, mode=mode(), only=only, cell_seconds=seconds
        )
        old["verdicts"].update({k: list(v) for k, v in found.verdicts.items()})
        old["outputs"] = [cell.outputs for cell in grading.code_cells(notebook)]
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(f".{os.getpid()}")
        half.write_text(json.dumps(old), encoding="utf-8")
        half.replace(path)
    for cell, outputs in zip(grading.code_cells(notebook), old["outputs"], strict=True):
        cell.outputs = nbformat.from_dict(outputs)
    return {name: grading.Verdict(*found) for name, found in old["verdicts"].items()}


class HideRubric(TagRemovePreprocessor):
    """Removes in feedback what formgrader shows: a class, and settings, of its own."""


class Judge(NbGraderPreprocessor):
    """Takes the place of nbgrader's own execution: sandbox, then exact judge."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Put the verdicts into the test cells and the rubric beside the answer."""
        spec = specification(resources["nbgrader"]["assignment"])
        verdicts = judged(nb, spec)
        cells = []
        for cell in nb.cells:
            if cell.cell_type != "code":
                # A space of no width: scripts do not run in whoever grades' browser.
                cell.source = re.sub(r"<(?=[A-Za-z/!?])", "<\u200b", cell.source)
            id = cell.metadata.get("nbgrader", {}).get("grade_id", "")
            if id == "written":
                text = f"## For the grader\n\n{spec['written']['rubric']}"
                rubric = nbformat.v4.new_markdown_cell(text)
                rubric.metadata["tags"] = ["rubric"]
                cells.append(rubric)
            name = id.removesuffix("-test")
            if id.endswith("-test") and name in verdicts:
                full = verdicts[name].points == cell.metadata.nbgrader["points"]
                right = nbformat.v4.new_output(
                    "stream", name="stdout", text=verdicts[name].message
                )
                wrong = grading.failure("Wrong", verdicts[name].message)
                cell.outputs = [right if full else wrong]
            cells.append(cell)
        nb.cells = cells
        return nb, resources
