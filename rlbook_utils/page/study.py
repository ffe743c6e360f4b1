"""Long studies: run once with ``FULL=1``, stored as CSV, drawn by the chapter.

A chapter runs a small version live and draws the stored one beside it. The file
names the seeds, versions and device of its run, and the code that made it: a test
compares that hash with the code as it stands.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import inspect
import io
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlbook_utils.core import runtime
from rlbook_utils.page import claims

Columns = Mapping[str, ArrayLike]


def study(
    name: str,
    make: Callable[..., Columns],
    *,
    seeds: Sequence[int],
    modules: Sequence[ModuleType],
    device: str = "cpu",
) -> dict[str, NDArray[np.float64]]:
    """Return a stored study, running it first where ``RLBOOK_FULL`` names a folder.

    Parameters
    ----------
    name : str
        The file is ``<chapter>_<name>.csv``.
    make : callable
        Runs the study; returns columns of equal length, all numbers. Defined
        with ``def`` in the chapter, so that its source can be hashed. One that takes
        an argument is given the path of a log to resume from after an interruption,
        as `core.workers.run` writes it; its name changes with the code.
    seeds : sequence of int
        The seeds that `make` uses.
    modules : sequence of module
        The helper's modules that `make` calls.
    device : str
        Where `make` computes.

    Returns
    -------
    dict of str to array, shape (rows,)

    Raises
    ------
    FileNotFoundError
        If the study was never run.
    ValueError
        If the columns differ in length, are empty, or hold NaN.

    Examples
    --------
    >>> study("none", dict, seeds=[0], modules=[])
    Traceback (most recent call last):
      ...
    FileNotFoundError: no stored study ..._none.csv: run `make notebooks FULL=1`
    """
    file = f"{claims.chapter()}_{name}.csv"
    if "RLBOOK_FULL" in os.environ:
        head = {
            "seeds": " ".join(map(str, seeds)),
            "versions": " ".join(f"{k}={v}" for k, v in runtime.versions().items()),
            "device": device,
            "modules": " ".join(sorted(module.__name__ for module in modules)),
            "code_sha": code_sha(inspect.getsource(make), modules),
        }
        path = Path(os.environ["RLBOOK_FULL"]) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.with_name(f".{path.stem}-{head['code_sha']}.part")
        columns = make(log) if inspect.signature(make).parameters else make()
        path.write_text(_written(name, head, columns), encoding="utf-8")
        log.unlink(missing_ok=True)
        return parse(path.read_text(encoding="utf-8"))[1]
    stored = resources.files("rlbook_utils") / "data" / file
    if not stored.is_file():
        raise FileNotFoundError(f"no stored study {file}: run `make notebooks FULL=1`")
    return parse(stored.read_text(encoding="utf-8"))[1]


def code_sha(source: str, modules: Sequence[ModuleType]) -> str:
    """Hash the function that made a study and the modules that it calls.

    A module's docstrings do not count: they explain, and change no number.

    Parameters
    ----------
    source : str
        The function's source, at any indentation.
    modules : sequence of module

    Returns
    -------
    str
        16 hexadecimal digits; the order of the modules does not matter.

    Examples
    --------
    >>> len(code_sha("def make(): ...", []))
    16
    """
    texts = sorted(_bare(inspect.getsource(module)) for module in modules)
    joined = "\0".join([textwrap.dedent(source).strip(), *texts])
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def _bare(text: str) -> str:
    """Return a source without its empty lines and docstrings, which have their own."""
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(ast.Constant(str()), lineno=first, end_lineno=end):
                lines[first - 1 : end] = [""] * len(lines[first - 1 : end])
    return "\n".join(filter(str.strip, lines))


def parse(text: str) -> tuple[dict[str, str], dict[str, NDArray[np.float64]]]:
    r"""Read a stored study's head and columns.

    Parameters
    ----------
    text : str
        Lines ``# key: value``, then CSV with a line of names.

    Returns
    -------
    head : dict of str to str
    columns : dict of str to array, shape (rows,)

    Examples
    --------
    >>> parse("# seeds: 0\na,b\n1,2\n")[1]["b"]
    array([2.])
    """
    lines = text.split("\n")
    head = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    rows = list(csv.reader(line for line in lines if line and line[:2] != "# "))
    table = np.array(rows[1:], float)
    return head, dict(zip(rows[0], table.T, strict=True))


def _written(name: str, head: Mapping[str, str], columns: Columns) -> str:
    arrays = {key: np.asarray(column, float) for key, column in columns.items()}
    shapes = {key: array.shape for key, array in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(s) != 1 for s in shapes.values()):
        raise ValueError(f"study {name!r}: its columns have the shapes {shapes}")
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"study {name!r}: column {key!r} is not finite")
    out = io.StringIO()
    out.writelines(f"# {key}: {value}\n" for key, value in head.items())
    out.write(",".join(arrays) + "\n")
    np.savetxt(out, np.transpose([*arrays.values()]), "%.8g", ",")
    return out.getvalue()
