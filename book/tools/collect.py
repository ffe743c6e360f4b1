"""Run a submission's cells and record what its functions return.

Runs inside the sandbox, from a copy in the submission's own folder. Reads `task.json`
there; writes one line of JSON for each record to the standard output. It holds no
expected value: whoever tampers with it can only spoil his own answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

# jsonschema, on the way to nbclient, compiles a grammar of web addresses for more than
# a second wherever it finds this package; notebooks need none of it.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

PRINTED = 200_000
ELEMENTS = 100_000
MIME = "application/x-rlbook+json"
# IPython's `exit()` lets the cell go on and ends the kernel during a later one.
EXIT = "get_ipython().ask_exit = __import__('sys').exit"


def encode(value: Any) -> Any:
    """Turn a value into plain JSON; what is no data becomes its representation."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value[:10_000] if isinstance(value, str) else value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        if value.size <= ELEMENTS:
            return {"array": value.tolist(), "dtype": value.dtype.name}
    elif isinstance(value, tuple | list) and len(value) <= ELEMENTS:
        return {type(value).__name__: [encode(item) for item in value]}
    return {"other": f"a {type(value).__name__} {value!r}"[:200]}


def decode(value: Any) -> Any:
    """Invert `encode`."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        dtype = np.dtype(value["dtype"])
        if dtype.kind not in "biuf":
            raise ValueError(f"an array of {dtype} is no data")
        return np.asarray(value["array"], dtype)
    if "tuple" in value:
        return tuple(decode(item) for item in value["tuple"])
    return [decode(i) for i in value["list"]] if "list" in value else value["other"]


def record(name: str, function: Any) -> None:
    """Call a function on its question's inputs and publish what came out."""
    from IPython.display import publish_display_data

    from rlbook_utils.page.check import is_stub

    # A cell may have changed the folder.
    path = Path(__file__).with_name("task.json")
    task = json.loads(path.read_text(encoding="utf-8"))
    found: dict[str, Any] = {"state": "ran", "outputs": []}
    if not callable(function):
        found["state"] = "missing"
    elif is_stub(function):
        found["state"] = "stub"
    else:
        found["outputs"] = [call(function, case) for case in task["questions"][name]]
    publish_display_data({MIME: found})


def call(function: Any, case: dict[str, Any]) -> dict[str, Any]:
    """Call a function once; note its value or error, and inputs that it changed."""
    given = {key: decode(value) for key, value in case.items()}
    try:
        with Path(os.devnull).open("w") as away, contextlib.redirect_stdout(away):
            value = function(**given)
    except Exception as error:
        return {"error": [type(error).__name__, str(error)[:500]]}
    changed = [key for key, value in given.items() if encode(value) != case[key]]
    return {"value": encode(value), "changed": changed}


def limit(task: dict[str, Any]) -> None:
    """Take away what a submission may not have: time, memory, large files."""
    for kind, value in (
        (resource.RLIMIT_CPU, task["total_seconds"]),
        (resource.RLIMIT_DATA, task["megabytes"] << 20),
        (resource.RLIMIT_FSIZE, 64 << 20),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))


class Run:
    """A submission's cells, run in kernels that may hang or die."""

    def __init__(self, task: dict[str, Any], out: Any) -> None:
        self.task, self.out = task, out
        self.skipped: set[int] = set()
        self.waiting = list(task["questions"])

    def say(self, **line: Any) -> None:
        """Write one record."""
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()

    def all(self) -> None:
        """Run until every question has its record, each in a kernel that lives."""
        while self.waiting:
            self.once()

    def once(self) -> None:
        """Run all cells but those that hung or died before, then the questions."""
        from nbclient.exceptions import CellTimeoutError
        from nbformat.v4 import new_code_cell, new_notebook

        sources = self.task["cells"]
        asked = {len(sources) + k: name for k, name in enumerate(list(self.waiting))}
        calls = [
            f"import collect\ncollect.record({name!r}, globals().get({name!r}))"
            for name in asked.values()
        ]
        cells = [new_code_cell(source) for source in [*sources, *calls]]
        client = self.client(new_notebook(cells=cells))
        index = 0
        try:
            with client.setup_kernel():
                for index, cell in enumerate(cells):
                    if index not in self.skipped:
                        client.execute_cell(cell, index)
                        self.report(index, asked.get(index), cell)
        # A dead kernel, or a message from it that is no message.
        except Exception as error:
            state = "timeout" if isinstance(error, CellTimeoutError) else "died"
            self.skipped.add(index)
            if index in asked:
                self.waiting.remove(asked[index])
                self.skipped.discard(index)
                self.say(question=asked[index], state=state)
            else:
                self.say(cell=index, state=state, outputs=[])

    def report(self, index: int, question: str | None, cell: Any) -> None:
        """Write what a cell printed, or what a question's function returned."""
        if question is None:
            self.say(cell=index, state="ran", outputs=cell.outputs)
            return
        self.waiting.remove(question)
        found = [out.data[MIME] for out in cell.outputs if MIME in out.get("data", {})]
        errors = [
            f"{out.ename}: {out.evalue}"
            for out in cell.outputs
            if out.output_type == "error"
        ]
        made = {"state": "broken", "why": errors}
        if found and isinstance(found[0], dict):
            made = {str(key): value for key, value in found[0].items()}
        self.say(**made | {"question": question})

    def client(self, notebook: Any) -> Any:
        """Return a client that drops what a cell prints beyond a limit."""
        from nbclient import NotebookClient

        class Quiet(NotebookClient):
            printed = 0

            def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
                if msg["msg_type"] in ("stream", "display_data", "execute_result"):
                    data = msg["content"].get("data", {})
                    self.printed += 0 if MIME in data else len(str(msg["content"]))
                    if self.printed > PRINTED and MIME not in data:
                        return None
                return super().process_message(msg, cell, cell_index)

        return Quiet(
            notebook,
            timeout=self.task["cell_seconds"],
            allow_errors=True,
            coalesce_streams=True,
            record_timing=False,
            shutdown_kernel="immediate",
            extra_arguments=[
                "--IPKernelApp.log_level=50",
                f"--IPKernelApp.exec_lines={EXIT}",
            ],
        )


def main() -> None:
    """Run the task in this folder."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    task = json.loads(Path("task.json").read_text(encoding="utf-8"))
    limit(task)
    Run(task, out).all()


if __name__ == "__main__":
    sys.exit(main())
