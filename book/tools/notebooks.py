"""Execute the stale chapters and write their notebooks.

Reads `_config.yml`, `_toc.yml`, `book/chapters/*.md`, `book/references.bib`,
`requirements.txt`, `rlbook_utils/`, `chapters/*.ipynb`.
Writes `chapters/<name>.ipynb`; with DEVICE=cuda `_build/notebooks-cuda/` instead;
with FULL=1 also `rlbook_utils/data/<chapter>_<study>.csv`. What a chapter's run took,
and with which versions, goes to `book/runs.json` when its code has changed since.

Cells tagged nbval-skip need what not every machine has. They keep their stored
outputs while none of them has changed, whatever else is executed; REAL=1 runs them
again, with their chapters, where their packages are (`make real`). What they take is
left out of `book/runs.json`.

A notebook is replaced in one step when its chapter has run to the end; one that
fails, or is interrupted, stays as it was. Two chapters run at once.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

sys.path.insert(0, str(Path(__file__).parent))

import convert
from convert import Book, Cell, Text, TextError

ROOT = Path(__file__).resolve().parents[2]
PINNED = ("torch", "numpy", "matplotlib", "ipywidgets")
DEVICES = ("cpu", "cuda", "mps")
CELL_TIMEOUT = 1800
# Run in the kernel after the last cell; psutil comes with ipykernel.
REPORT = f"""
import json, os, platform, psutil
from importlib.metadata import version
me = psutil.Process()
times = [p.cpu_times() for p in (me, *me.children(recursive=True))]
ended = me.cpu_times()
print(json.dumps({{
    "seconds": round(sum(t.user + t.system for t in times)
                     + ended.children_user + ended.children_system),
    "device": os.environ["RLBOOK_DEVICE"],
    "full": "RLBOOK_FULL" in os.environ,
    "versions": {{"python": platform.python_version(),
                 **{{name: version(name) for name in {PINNED}}}}},
}}))
"""
AT_ONCE = 2
COLUMNS = (
    TextColumn("{task.description:>16}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("cells"),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class ChapterError(RuntimeError):
    """A chapter that did not run to its end."""


# ---------------------------------------------------------------- staleness


def sha(*parts: str) -> str:
    """Return a short hash of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def code_sha(text: Text) -> str:
    """Hash a chapter's code cells with their tags."""
    cells = [cell for cell in text.cells if cell.kind == "code"]
    return sha(*(json.dumps([cell.source, sorted(cell.tags)]) for cell in cells))


def reached_modules(root: Path, sources: Iterable[str]) -> list[Path]:
    """List the helper's files that sources import, directly or not."""
    seen: set[Path] = set()
    waiting = list(sources)
    while waiting:
        for path in _imported(root, waiting.pop()):
            if path not in seen:
                seen.add(path)
                waiting.append(path.read_text(encoding="utf-8"))
    return sorted(seen)


def _imported(root: Path, source: str) -> set[Path]:
    lines = [line for line in source.split("\n") if not line.lstrip().startswith("%")]
    names: set[str] = set()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    found: set[Path] = set()
    for name in names:
        parts = name.split(".")
        if parts[0] != "rlbook_utils":
            continue
        for depth in range(1, len(parts) + 1):
            base = root.joinpath(*parts[:depth])
            for path in (base / "__init__.py", base.with_suffix(".py")):
                if path.exists():
                    found.add(path)
    return found


def helper_sha(root: Path, text: Text) -> str:
    """Hash the helper's modules that a chapter reaches, and its stored studies."""
    sources = [cell.source for cell in text.cells if cell.kind == "code"]
    paths = reached_modules(root, [*sources, "from rlbook_utils import page"])
    stored = sorted((root / "rlbook_utils" / "data").glob("*.csv"))
    studies = [
        path
        for path in stored
        if path.name.startswith(f"{text.name}_")
        or any(path.name in source for source in sources)
    ]
    return sha(*(_named_text(root, path) for path in [*paths, *studies]))


def _named_text(root: Path, path: Path) -> str:
    return f"{path.relative_to(root).as_posix()}\n{path.read_text(encoding='utf-8')}"


def pins_sha(root: Path) -> str:
    """Hash the pinned versions that decide what a chapter prints."""
    lines = (root / "requirements.txt").read_text(encoding="utf-8").split("\n")
    pins = [line for line in lines if re.split("[=<>]", line)[0] in PINNED]
    return sha(*sorted(pins))


def stamps(root: Path, text: Text) -> dict[str, str]:
    """Return what a notebook records about what it was made from."""
    raw = (root / text.path).read_text(encoding="utf-8")
    return {
        "chapter": text.name,
        "code_sha": code_sha(text),
        "helper_sha": helper_sha(root, text),
        "pins_sha": pins_sha(root),
        "text_sha": sha(raw),
    }


def stored(path: Path) -> nbformat.NotebookNode | None:
    """Read a stored notebook; None if there is none that can be read."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError):
        return None


def is_stale(root: Path, text: Text, notebook: nbformat.NotebookNode | None) -> bool:
    """Tell whether a chapter must be executed again."""
    if notebook is None:
        return True
    old, new = notebook.metadata.get("rlbook", {}), stamps(root, text)
    return any(old.get(k) != new[k] for k in ("code_sha", "helper_sha", "pins_sha"))


# ---------------------------------------------------------------- assembling


def assemble(
    book: Book, name: str, executed: nbformat.NotebookNode
) -> nbformat.NotebookNode:
    """Build a chapter's notebook from its text and the outputs of its code cells."""
    text = book.texts[name]
    outputs = [cell for cell in executed.cells if cell.cell_type == "code"]
    prose = iter(convert.markdown(book, name, convert.stored_values(executed)))
    cells, rank = [], 0
    for index, cell in enumerate(text.cells):
        id = f"{name}-{index}".replace("_", "-")
        if cell.kind == "markdown":
            new = nbformat.v4.new_markdown_cell(next(prose), id=id)
        else:
            new = nbformat.v4.new_code_cell(
                convert.code_source(book, name, cell), id=id, metadata=_metadata(cell)
            )
            new.execution_count = rank + 1
            new.outputs = [_clean(out, rank + 1) for out in outputs[rank].outputs]
            rank += 1
        cells.append(new)
    metadata = {**KERNEL, "rlbook": stamps(book.root, text)}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def _metadata(cell: Cell) -> dict[str, Any]:
    metadata = dict(cell.metadata)
    if {"solution", "hide-input", "hide-cell"} & set(cell.tags):
        metadata["cellView"] = "form"
    return metadata


def _clean(output: nbformat.NotebookNode, count: int) -> nbformat.NotebookNode:
    if output.output_type == "execute_result":
        output.execution_count = count
    if output.output_type == "error":
        plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in output.traceback]
        output.traceback = plain[-1:]
    return output


def problems(text: Text, notebook: nbformat.NotebookNode) -> list[str]:
    """List what is wrong with a notebook's outputs."""
    seen: dict[str, str] = {}
    found = []
    for kind in ("claim", "value", "figure"):
        for record in convert.records(notebook, kind):
            id = record.get("id", record.get("name", ""))
            group = "figure" if kind == "figure" else "claim or value"
            where = seen.setdefault(f"{group} {id!r}", record["cell"])
            if where != record["cell"]:
                found.append(f"{group} {id!r} stands in {where} and {record['cell']}")
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        for output in cell.get("outputs", []):
            if output.output_type == "error" and "raises-exception" not in tags:
                found.append(f"{cell.id} holds the error {output.ename}")
            images = [
                mime for mime in output.get("data", {}) if mime.startswith("image/")
            ]
            if images and "rlbook" not in output.metadata:
                found.append(
                    f"{cell.id} shows an image without alt text: use page.figure"
                )
    return [f"{text.path}: {problem}" for problem in found]


def write(path: Path, notebook: nbformat.NotebookNode) -> bool:
    """Write a notebook in one step if its bytes differ; tell whether they did."""
    nbformat.validate(notebook)
    new = nbformat.writes(notebook) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == new:
        return False
    write_text(path, new)
    return True


def write_text(path: Path, text: str) -> None:
    """Write a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(text, encoding="utf-8")
    half.replace(path)


# ---------------------------------------------------------------- executing


def environment(root: Path, device: str, full: bool) -> dict[str, str]:
    """Return the kernels' environment: static figures, one thread, this checkout."""
    env = dict(os.environ)
    env.update(
        RLBOOK_STATIC="1",
        RLBOOK_DEVICE=device,
        PYTHONHASHSEED="0",
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
        PYTHONPATH=os.pathsep.join([str(root), *filter(None, [env.get("PYTHONPATH")])]),
        PYDEVD_DISABLE_FILE_VALIDATION="1",
    )
    env.pop("RLBOOK_FULL", None)
    if full:
        env["RLBOOK_FULL"] = str(root / "rlbook_utils" / "data")
    return env


def kept_outputs(
    code: list[Cell], notebook: nbformat.NotebookNode, old: Any
) -> dict[int, list[Any]]:
    """Return the stored outputs of cells tagged nbval-skip, by number of code cell.

    All of a chapter or none: one that runs may need what another one made.
    """
    known = {
        cell.source: cell.outputs
        for cell in (old.cells if old else [])
        if cell.cell_type == "code" and "nbval-skip" in cell.metadata.get("tags", [])
    }
    skipped = [k for k, cell in enumerate(code) if "nbval-skip" in cell.tags]
    sources = {k: notebook.cells[k].source for k in skipped}
    if not set(sources.values()) <= set(known):
        return {}
    return {k: known[source] for k, source in sources.items()}


def _cpu_seconds(client: NotebookClient) -> float:
    times = psutil.Process(client.km.provisioner.process.pid).cpu_times()
    return float(times.user + times.system)


class Runner:
    """Executes chapters, two at once, and can be stopped between any two cells."""

    def __init__(
        self,
        book: Book,
        env: dict[str, str],
        progress: Progress,
        real: bool = False,
    ) -> None:
        self.book, self.env, self.progress, self.real = book, env, progress, real
        self.stopping = threading.Event()
        self.clients: set[NotebookClient] = set()

    def execute(
        self, name: str, old: nbformat.NotebookNode | None
    ) -> nbformat.NotebookNode:
        """Run one chapter from its text in a fresh kernel."""
        text = self.book.texts[name]
        code = [cell for cell in text.cells if cell.kind == "code"]
        task = self.progress.add_task(name, total=len(code))
        notebook = nbformat.v4.new_notebook(
            cells=[
                nbformat.v4.new_code_cell(
                    convert.code_source(self.book, name, cell), metadata=_metadata(cell)
                )
                for cell in code
            ],
            metadata=dict(KERNEL),
        )
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            coalesce_streams=True,
            record_timing=False,
            resources={"metadata": {"path": str(self.book.root / "chapters")}},
            extra_arguments=["--IPKernelApp.log_level=40"],
        )
        self.clients.add(client)
        kept = {} if self.real else kept_outputs(code, notebook, old)
        rare = 0.0
        try:
            with client.setup_kernel(env=self.env):
                for index, cell in enumerate(code):
                    if self.stopping.is_set():
                        raise KeyboardInterrupt
                    if index in kept:
                        notebook.cells[index].outputs = kept[index]
                    else:
                        begin = _cpu_seconds(client)
                        self._run_cell(client, text, cell, index)
                        if "nbval-skip" in cell.tags:
                            rare += _cpu_seconds(client) - begin
                    self.progress.update(task, completed=index + 1)
                run = self._report(client)
                run["seconds"] -= round(rare)
        finally:
            self.clients.discard(client)
        for cell in notebook.cells:
            cell.metadata.pop("widgets", None)
        notebook.metadata["run"] = run
        return notebook

    def _report(self, client: NotebookClient) -> dict[str, Any]:
        client.nb.cells.append(nbformat.v4.new_code_cell(REPORT))
        client.execute_cell(client.nb.cells[-1], len(client.nb.cells) - 1)
        report: dict[str, Any] = json.loads(client.nb.cells.pop().outputs[0].text)
        return report

    def _run_cell(
        self, client: NotebookClient, text: Text, cell: Cell, index: int
    ) -> None:
        where = f"chapter {text.name}, code cell {index + 1} ({text.path}:{cell.line})"
        try:
            client.execute_cell(client.nb.cells[index], index)
        except CellExecutionError as error:
            frames = re.sub(r"\x1b\[[\d;]*m", "", error.traceback)
            message = f"{where} failed: {error.ename}: {error.evalue}\n{frames}"
            if "nbval-skip" in cell.tags:
                message += "\n`make real` runs such cells where their packages are"
            raise ChapterError(message) from None
        except CellTimeoutError:
            raise ChapterError(f"{where} ran over {CELL_TIMEOUT} s") from None
        except DeadKernelError:
            raise ChapterError(f"{where}: the kernel died") from None

    def stop(self) -> None:
        """End the running kernels; their chapters stay as they were."""
        self.stopping.set()
        for client in list(self.clients):
            manager = client.km
            if manager is not None and getattr(manager, "provisioner", None):
                process = manager.provisioner.process
                if process is not None:
                    process.kill()


def update(
    book: Book, names: list[str], args: argparse.Namespace, console: Console
) -> list[str]:
    """Execute what is stale, convert the rest; return the failures."""
    target = book.root / "chapters"
    if args.device != "cpu":
        target = book.root / "_build" / f"notebooks-{args.device}"
    failures: list[str] = []
    stale, fresh = [], []
    for name in names:
        committed = stored(target / f"{name}.ipynb")
        tags = {tag for cell in book.texts[name].cells for tag in cell.tags}
        real = args.real and "nbval-skip" in tags
        rerun = args.force or args.full or real or args.device != "cpu"
        (
            stale
            if rerun or is_stale(book.root, book.texts[name], committed)
            else fresh
        ).append((name, committed or stored(book.root / "chapters" / f"{name}.ipynb")))
    for name, committed in fresh:
        assert committed is not None
        failures += finish(book, name, committed, target, console)
    if stale:
        failures += run_all(book, stale, target, args, console)
    if args.device != "cpu":
        compare_claims(book, names, target, console)
    return failures


def finish(
    book: Book,
    name: str,
    executed: nbformat.NotebookNode,
    target: Path,
    console: Console,
) -> list[str]:
    """Assemble, check and write one chapter; return what is wrong with it."""
    try:
        notebook = assemble(book, name, executed)
    except TextError as error:
        return [str(error)]
    found = problems(book.texts[name], notebook)
    run = executed.metadata.get("run", {"full": True})
    if not found and not run["full"] and run["device"] == "cpu":
        record(book.root, name, {**notebook.metadata.rlbook, **run})
    if not found and write(target / f"{name}.ipynb", notebook):
        console.print(f"wrote {(target / name).relative_to(book.root)}.ipynb")
    return found


def record(root: Path, name: str, run: dict[str, Any]) -> None:
    """Keep what a run took, unless one of the same code is on record."""
    path = root / "book" / "runs.json"
    runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    ran = ("code_sha", "helper_sha", "pins_sha")
    if name in runs and all(runs[name][key] == run[key] for key in ran):
        return
    runs[name] = {key: run[key] for key in (*ran, "seconds", "device", "versions")}
    write_text(path, json.dumps(runs, indent=1, sort_keys=True) + "\n")


def run_all(
    book: Book,
    stale: list[tuple[str, nbformat.NotebookNode | None]],
    target: Path,
    args: argparse.Namespace,
    console: Console,
) -> list[str]:
    """Execute chapters two at once, writing each as it ends."""
    failures: list[str] = []
    env = environment(book.root, args.device, args.full)
    with Progress(*COLUMNS, console=console) as progress:
        runner = Runner(book, env, progress, args.real)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            jobs = {pool.submit(runner.execute, name, old): name for name, old in stale}
            started = time.monotonic()
            try:
                waiting = set(jobs)
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for job in done:
                        try:
                            executed = job.result()
                        except ChapterError as error:
                            failures.append(str(error))
                        else:
                            failures += finish(
                                book, jobs[job], executed, target, progress.console
                            )
            except KeyboardInterrupt:
                runner.stop()
                pool.shutdown(cancel_futures=True)
                raise
    console.print(f"executed {len(stale)} in {time.monotonic() - started:.0f} s")
    return failures


def compare_claims(
    book: Book, names: list[str], target: Path, console: Console
) -> None:
    """Print each claim's value on the device beside the committed one."""
    for name in names:
        theirs = stored(target / f"{name}.ipynb")
        ours = stored(book.root / "chapters" / f"{name}.ipynb")
        if theirs is None or ours is None:
            continue
        committed = {r["id"]: r for r in convert.records(ours, "claim")}
        for record in convert.records(theirs, "claim"):
            old = committed.get(record["id"], {}).get("value", "none")
            console.print(
                f"{name}/{record['id']}: {record['value']}, committed {old}, "
                f"range {record['low']} to {record['high']}",
                highlight=False,
            )


# ---------------------------------------------------------------- command


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line, whose defaults are the variables of `make`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only", default=os.environ.get("ONLY", ""), help="one chapter"
    )
    parser.add_argument("--device", default=os.environ.get("DEVICE") or "cpu")
    for flag in ("force", "full", "real"):
        given = os.environ.get(flag.upper(), "") not in ("", "0")
        parser.add_argument(f"--{flag}", action="store_true", default=given)
    return parser.parse_args(argv)


def check_device(name: str) -> None:
    """Refuse a device that is unknown or not on this machine."""
    if name not in DEVICES:
        raise ValueError(f"unknown device {name!r}: choose {', '.join(DEVICES)}")
    if name != "cpu":
        from rlbook_utils.core import runtime

        runtime.device(name)


def selected(book: Book, only: str) -> list[str]:
    """Return the chapters to work on: all, or the one that is named."""
    if only and only not in book.chapters:
        known = ", ".join(book.chapters)
        raise ValueError(f"unknown chapter {only!r}: known are {known}")
    return [only] if only else book.chapters


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = arguments(argv)
    # A shell starts background jobs with SIGINT ignored; `kill` sends SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console = Console(stderr=False, soft_wrap=True)
    try:
        check_device(args.device)
        book = convert.read_book(ROOT)
        names = selected(book, args.only)
        for name in names:
            convert.markdown(book, name, None)
        failures = update(book, names, args, console)
    except (ValueError, RuntimeError) as error:
        failures = [str(error)]
    except KeyboardInterrupt:
        print("interrupted: chapters that had finished are kept", file=sys.stderr)
        return 130
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
