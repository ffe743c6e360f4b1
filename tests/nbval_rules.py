"""Rules by which nbval compares a chapter's outputs with the stored ones.

Loaded by `pyproject.toml`, so that a bare `pytest --nbval chapters` obeys them.
HTML and images are not compared: the line of text beside each is. Numbers are
compared within a cell's tag `nbval-tol=RTOL[:ATOL]`; the digest line of a figure
within one unit of its last digit; a claim by its identifier, its range, and by
lying in that range. Everything else must be equal.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from nbval.plugin import IPyNbCell

NUMBER = re.compile(r"(?<![\w.])[-\u2212+]?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][-+]?\d+)?")
CLAIM = re.compile(r"claim (\S+): (\S+) in \[(\S+), (\S+)\]")
DIGEST = re.compile(r"[a-z0-9-]+: \d+ curves? x [\d ]+, mean .+, last .+")
TAG = re.compile(r"nbval-tol=([\d.eE+-]+)(?::([\d.eE+-]+))?")
DIGEST_TOLERANCE = (2e-3, 1e-9)


def tolerance(tags: list[str]) -> tuple[float, float] | None:
    """Read the tolerance of a cell's tags."""
    for tag in tags:
        match = TAG.fullmatch(tag)
        if match:
            return float(match[1]), float(match[2] or 0.0)
    return None


def same(reference: str, test: str, tol: tuple[float, float] | None) -> bool:
    """Compare two outputs line by line."""
    ours, theirs = reference.split("\n"), test.split("\n")
    return len(ours) == len(theirs) and all(
        _same_line(a, b, tol) for a, b in zip(ours, theirs, strict=True)
    )


def _same_line(a: str, b: str, tol: tuple[float, float] | None) -> bool:
    claims = CLAIM.fullmatch(a), CLAIM.fullmatch(b)
    if claims[0] and claims[1]:
        name, low, high = (claims[0][k] for k in (1, 3, 4))
        if (name, low, high) != tuple(claims[1][k] for k in (1, 3, 4)):
            return False
        return all(_inside(_value(m[2]), float(low), float(high)) for m in claims if m)
    digest = bool(DIGEST.fullmatch(a) and DIGEST.fullmatch(b))
    if tol is None and not digest:
        return a == b
    if NUMBER.sub("#", a) != NUMBER.sub("#", b):
        return False
    rtol, atol = tol or DIGEST_TOLERANCE
    pairs = zip(NUMBER.findall(a), NUMBER.findall(b), strict=True)
    return all(
        x == y if digest and x.isdigit() else _close(_value(x), _value(y), rtol, atol)
        for x, y in pairs
    )


def _inside(value: float, low: float, high: float) -> bool:
    # The value is printed with 3 digits, so it may stand half a unit outside.
    slack = 5e-3 * abs(value)
    return low - slack <= value <= high + slack


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("\u2212", "-"))


def _close(x: float, y: float, rtol: float, atol: float) -> bool:
    return abs(x - y) <= atol + rtol * max(abs(x), abs(y))


class Tolerant(str):
    """A text whose equality is that of `same`."""

    tol: tuple[float, float] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and same(str(self), str(other), self.tol)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class RuledCell(IPyNbCell):
    """A cell compared by these rules."""

    def sanitize(self, s: Any) -> Any:
        clean = super().sanitize(s)
        if not isinstance(clean, str):
            return clean
        text = Tolerant(clean)
        text.tol = tolerance(self.cell.metadata.get("tags", []))
        return text


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the kernels that nbval starts."""
    if not getattr(config.option, "nbval", False):
        return
    root = str(config.rootpath)
    old = os.environ.get("PYTHONPATH")
    os.environ.update(
        RLBOOK_STATIC="1",
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
        PYDEVD_DISABLE_FILE_VALIDATION="1",
        PYTHONPATH=os.pathsep.join([root, *filter(None, [old])]),
    )
    os.environ.setdefault("RLBOOK_DEVICE", "cpu")
    config.option.nbval_current_env = True
    config.option.nbval_cell_timeout = min(config.option.nbval_cell_timeout, 600)
    if config.option.nbval_sanitize_with is None:
        sanitizer = Path(__file__).with_name("nbval_sanitize.cfg")
        config.option.nbval_sanitize_with = str(sanitizer)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every collected cell these rules."""
    for item in items:
        if type(item) is IPyNbCell:
            item.__class__ = RuledCell
            notebook = item.parent
            if "text/html" not in notebook.skip_compare:
                mimes = ("text/html", "image/svg+xml", "image/png", "image/jpeg")
                notebook.skip_compare = (*notebook.skip_compare, *mimes)
