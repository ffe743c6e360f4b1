"""Grade one notebook: collect answers in a sandbox, judge them outside of it.

The submission runs with the inputs of the hidden tests and nothing else: no expected
value, no solution, no secret. What its functions return comes back as data, and the
exact solvers judge it here, in a process that has never run a student's line.

Reads a specification that `assignments.py` wrote; writes a temporary folder.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import nbformat
import numpy as np
from nbformat import NotebookNode

from rlbook_utils.page.check import Checker, Mistake, same
from rlbook_utils.page.examples import table

sys.path.insert(0, str(Path(__file__).parent))

from collect import decode, encode

CELL_SECONDS, TOTAL_SECONDS, MEGABYTES = 30, 300, 4096
DRAWS = 100
CAUGHT = {
    "timeout": "it ran longer than {seconds} s and was stopped: an infinite loop?",
    "died": "it ended the whole Python process",
    "missing": "after your cells have run there is no function of this name: "
    "was it renamed, deleted, or did its cell fail?",
    "stub": "not attempted yet",
    "broken": "calling it failed: {why}",
    "none": "the run was stopped before this question: time, memory or a crash",
}


class SandboxError(RuntimeError):
    """Why student code may not run here."""


class Verdict(NamedTuple):
    """Points for one question, and why."""

    points: float
    message: str


class Graded(NamedTuple):
    """Verdicts by question, and the notebook with its new outputs."""

    verdicts: dict[str, Verdict]
    notebook: NotebookNode


# ---------------------------------------------------------------- the judge


def question_namespace(code: str) -> dict[str, Any]:
    """Run the source of a question's test: oracle, draw, mistakes, tolerances."""
    namespace: dict[str, Any] = {"np": np, "Mistake": Mistake}
    exec(compile(code, "hidden test", "exec"), namespace)
    return namespace


class Test(Checker):
    """A checker that also names mistakes by the places where they overflow."""

    def _agrees(self, one: Any, two: Any, case: Any) -> bool:
        try:
            values = [np.asarray(f(**copy.deepcopy(case)), float) for f in (one, two)]
        except (TypeError, ValueError):
            return super()._agrees(one, two, case)
        except Exception:
            return False
        finite = [np.nan_to_num(value, nan=1e99) for value in values]
        return same(*finite, self.rtol, self.atol)

    def names(self, mistake: Mistake) -> bool:
        """Tell whether whoever makes this mistake is told of it, not of another."""
        return self._likely(mistake.answer) == [f"  {mistake.says}"]


def checker(question: dict[str, Any]) -> Test:
    """Return a question's test: its oracle on the instances of this course."""
    space = question_namespace(question["code"])
    return Test(
        question["name"],
        space["oracle"],
        [{k: decode(v) for k, v in case.items()} for case in question["cases"]],
        mistakes=space["mistakes"],
        rtol=space.get("rtol", 1e-6),
        atol=space.get("atol", 1e-9),
        points=question["points"],
    )


def replay(question: dict[str, Any], outputs: list[dict[str, Any]]) -> Any:
    """Return a function that answers as the submission did."""
    cases = [{k: decode(v) for k, v in case.items()} for case in question["cases"]]
    known = table(list(zip(cases, outputs, strict=True)))

    def answer(**case: Any) -> Any:
        found = known(**case)
        if "error" in found:
            name, text = found["error"]
            raise type(str(name), (Exception,), {})(text)
        value = decode(found["value"])
        for key in found["changed"]:
            case[key][...] = np.logical_not(case[key])
        return value

    return answer


def judge(question: dict[str, Any], record: dict[str, Any], seconds: int) -> Verdict:
    """Give a question its points from what the sandbox recorded."""
    name = question["name"]
    if record["state"] != "ran":
        text = CAUGHT.get(record["state"], CAUGHT["none"])
        why = record.get("why", [])
        why = "; ".join(map(str, why))[:1000] if isinstance(why, list) else ""
        return Verdict(0.0, f"{name}: {text.format(seconds=seconds, why=why)}")
    test = checker(question)
    try:
        found = test.judge(replay(question, record["outputs"]))
    # A record is what the submission wants it to be.
    except Exception as error:
        why = repr(error)[:300]
        return Verdict(0.0, f"{name}: the record of this answer is damaged: {why}")
    return Verdict(found.points, found.message)


# ---------------------------------------------------------------- the sandbox

# Where a submission's folder lies in the sandbox: a mount hides what lies below it
# outside, so a name that is no folder of anybody's system.
HOME = "/rlbook-submission"


def helper() -> Path:
    """Return the folder of the helper package."""
    spec = importlib.util.find_spec("rlbook_utils")
    assert spec and spec.origin
    return Path(spec.origin).parent


@functools.cache
def has_bubblewrap() -> bool:
    """Tell whether bubblewrap is here and may make its namespaces."""
    path = shutil.which("bwrap")
    probe = [str(path), "--unshare-all", "--ro-bind", "/", "/", "true"]
    return (
        path is not None and not subprocess.run(probe, capture_output=True).returncode
    )


def check_sandbox(unsafe: bool) -> None:
    """Refuse to run student code without a sandbox, unless told to."""
    if not unsafe and not has_bubblewrap():
        raise SandboxError(
            "student code runs in a sandbox made by bubblewrap, and `bwrap` is missing "
            "or may not make namespaces here: install it (apt-get install bubblewrap). "
            "UNSAFE=1 runs the submissions without it: they can then read and delete "
            "your files, see the hidden tests and use the network, as you can."
        )


def bubblewrap(folder: Path) -> list[str]:
    """Return a command's head: no network, a read-only system, one own folder."""
    paths = ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives"]
    paths += [sys.base_prefix, sys.prefix]
    bound = [part for path in paths for part in ("--ro-bind-try", path, path)]
    flags = "--unshare-all --die-with-parent --new-session --clearenv --cap-drop ALL"
    places = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", *bound]
    own = ["--bind", str(folder), HOME, "--chdir", HOME]
    return ["bwrap", *flags.split(), *places, *own]


def run(task: dict[str, Any], mode: str) -> list[dict[str, Any]]:
    """Run a task; return its records. `mode` is bwrap, nobody or unsafe."""
    with (
        tempfile.TemporaryDirectory(prefix="rlbook-") as name,
        tempfile.TemporaryFile("w+") as out,
    ):
        folder = Path(name)
        shutil.copy(Path(__file__).with_name("collect.py"), folder)
        shutil.copytree(helper(), folder / "rlbook_utils")
        for fonts in Path(matplotlib.get_cachedir()).glob("fontlist*.json"):
            shutil.copy(fonts, folder)
        (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        home = HOME if mode == "bwrap" else str(folder)
        env = {
            "HOME": home,
            "PATH": os.defpath,
            "PYTHONPATH": home,
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
            "MPLCONFIGDIR": home,
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        command = [sys.executable, "collect.py"]
        if mode == "bwrap":
            given = [part for item in env.items() for part in ("--setenv", *item)]
            command = [*bubblewrap(folder), *given, "--", *command]
        extra: dict[str, Any] = {}
        if mode == "nobody":
            folder.chmod(0o777)
            extra = {"user": 65534, "group": 65534, "extra_groups": []}
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **extra,
        )
        wait(process, task["total_seconds"])
        out.seek(0)
        return list(records(out.read(64 << 20)))


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a process and end what it has left."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def records(text: str) -> Any:
    """Yield the records of a run; a line that was cut off is none."""
    for line in text.split("\n"):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("state"), str):
            yield found


# ---------------------------------------------------------------- one notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """List the cells that run: code, but not the graders' own."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and not cell.metadata.get("nbgrader", {}).get("grade")
    ]


def key(notebook: NotebookNode, spec: dict[str, Any]) -> str:
    """Hash what decides the verdicts: the code that runs, and the tests."""
    parts = [[cell.source for cell in code_cells(notebook)], spec["questions"]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def grade(
    notebook: NotebookNode,
    spec: dict[str, Any],
    *,
    mode: str,
    only: str = "",
    cell_seconds: int = CELL_SECONDS,
) -> Graded:
    """Run a submission and judge its questions, all or one."""
    asked = [q for q in spec["questions"] if only in ("", q["name"])]
    cells = code_cells(notebook)
    task = {
        "cells": [str(cell.source) for cell in cells],
        "questions": {q["name"]: q["cases"] for q in asked},
        "cell_seconds": cell_seconds,
        "total_seconds": TOTAL_SECONDS,
        "megabytes": MEGABYTES,
    }
    found = {}
    for record in run(task, mode):
        if record.get("cell") in range(len(cells)):
            set_outputs(cells[record["cell"]], record, cell_seconds)
        elif isinstance(record.get("question"), str):
            found.setdefault(record["question"], record)
    verdicts = {
        q["name"]: judge(q, found.get(q["name"], {"state": "none"}), cell_seconds)
        for q in asked
    }
    return Graded(verdicts, notebook)


def set_outputs(cell: NotebookNode, record: dict[str, Any], seconds: int) -> None:
    """Put what a cell printed into the notebook: text and images, no HTML."""
    if record["state"] == "ran":
        try:
            outputs = nbformat.from_dict(record["outputs"])
            trial = nbformat.v4.new_notebook(
                cells=[nbformat.v4.new_code_cell("", outputs=outputs)]
            )
            nbformat.validate(trial)
            for output in outputs:
                if "data" in output:
                    output.data, output.metadata = harmless(output.data), {}
        except Exception:
            return
        cell.outputs = outputs
    else:
        text = CAUGHT.get(record["state"], CAUGHT["none"]).format(
            seconds=seconds, why=""
        )
        cell.outputs = [failure("Stopped", f"this cell was left out: {text}")]


def harmless(data: dict[str, Any]) -> dict[str, Any]:
    """Keep of an output what runs no script in a browser that shows it."""
    kept = {"text/plain": data.get("text/plain", "")}
    image = data.get("image/png")
    if isinstance(image, str) and re.fullmatch(r"[A-Za-z0-9+/=\s]+", image):
        kept["image/png"] = image
    return kept


def failure(name: str, message: str) -> NotebookNode:
    """Return an error output."""
    return nbformat.v4.new_output(
        "error", ename=name, evalue=message, traceback=message.split("\n")
    )


def draw(
    secret: str, assignment: str, question: str, code: str
) -> list[dict[str, Any]]:
    """Draw a question's instances from the course's secret, such as name mistakes.

    Raises ValueError if no draw tells each mistake from the right answer and from
    those listed before it.
    """
    word = hashlib.sha256(f"{secret}/{assignment}/{question}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(word, "big"))
    space = question_namespace(code)
    for _ in range(DRAWS):
        cases = space["draw"](rng)
        found = [{key: encode(value) for key, value in case.items()} for case in cases]
        asked = {"name": question, "code": code, "cases": found, "points": 0}
        if not unnamed(asked):
            return found
    raise ValueError(
        f"{assignment}/{question}: {DRAWS} draws do not tell apart: {unnamed(asked)}"
    )


def unnamed(question: dict[str, Any]) -> list[str]:
    """List the mistakes that these instances take for another one, or for right."""
    try:
        test = checker(question)
    except ValueError as error:
        return [str(error)]
    return [m.says for m in test.mistakes if not test.names(m)]
