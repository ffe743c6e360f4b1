"""Checkers for exercises that say what is wrong, not just that it is.

A checker holds an oracle, cases, and the mistakes that readers make. A wrong
answer is compared with each mistake: where the outputs agree, the mistake is named.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Mistake(NamedTuple):
    """A wrong version that readers write, and what to tell them."""

    answer: Callable[..., Any]
    says: str


class Verdict(NamedTuple):
    """What a checker found: a message, and points for a grader."""

    passed: bool
    attempted: bool
    message: str
    points: float
    possible: float


class Checker:
    """Compare a reader's function with an oracle on fixed cases.

    Parameters
    ----------
    name : str
        What the exercise asks for, as the message names it.
    oracle : callable
        Gives the right answer for a case's inputs.
    cases : sequence of mapping
        Keyword arguments of each case, at least one.
    mistakes : sequence of Mistake
        Each must give a wrong answer on some case.
    rtol, atol : float
        Tolerances of the comparison.
    points : float
        What a right answer is worth.

    Raises
    ------
    ValueError
        If there are no cases, a tolerance or the points are negative, or a
        mistake gives the right answer on every case.

    Examples
    --------
    >>> double = Checker("double", lambda x: 2 * x, [{"x": 1.0}, {"x": 3.0}],
    ...                  mistakes=[Mistake(lambda x: x * x, "You squared it.")])
    >>> double(lambda x: x + x)
    double: right on 2 cases.
    >>> double(lambda x: x * x)
    double: wrong on case 1 of 2.
      inputs    x = 1.0
      yours     1.0
      expected  2.0
      You squared it.
    """

    def __init__(
        self,
        name: str,
        oracle: Callable[..., Any],
        cases: Sequence[Mapping[str, Any]],
        *,
        mistakes: Sequence[Mistake] = (),
        rtol: float = 1e-6,
        atol: float = 1e-9,
        points: float = 1.0,
    ) -> None:
        if not cases:
            raise ValueError(f"checker {name!r} has no cases")
        if min(rtol, atol, points) < 0:
            raise ValueError(
                f"checker {name!r}: rtol={rtol}, atol={atol} and points={points} "
                "may not be negative"
            )
        self.name, self.oracle, self.cases = name, oracle, list(cases)
        self.mistakes, self.rtol, self.atol = list(mistakes), rtol, atol
        self.points = points
        for mistake in self.mistakes:
            if all(self._agrees(mistake.answer, oracle, case) for case in self.cases):
                raise ValueError(
                    f"checker {name!r} cannot tell this mistake from the right "
                    f"answer: {mistake.says}"
                )

    def __call__(self, answer: Any) -> None:
        """Print what is right or wrong with an answer."""
        print(self.judge(answer).message)

    def judge(self, answer: Any) -> Verdict:
        """Compare an answer with the oracle, case by case."""
        if not callable(answer):
            message = f"{self.name}: {answer!r} is no function"
            return Verdict(False, True, message, 0.0, self.points)
        if is_stub(answer):
            message = f"{self.name}: not attempted yet"
            return Verdict(False, False, message, 0.0, self.points)
        for number, case in enumerate(self.cases, start=1):
            problem = self._problem(answer, case)
            if problem:
                head = f"{self.name}: wrong on case {number} of {len(self.cases)}."
                lines = [head, *problem, *self._likely(answer)]
                return Verdict(False, True, "\n".join(lines), 0.0, self.points)
        count = len(self.cases)
        message = f"{self.name}: right on {count} case{'s' * (count > 1)}."
        return Verdict(True, True, message, self.points, self.points)

    def _problem(
        self, answer: Callable[..., Any], case: Mapping[str, Any]
    ) -> list[str]:
        expected = self.oracle(**_copy(case))
        inputs = ", ".join(f"{key} = {show(value)}" for key, value in case.items())
        shown = [f"  inputs    {inputs}"]
        given = _copy(case)
        try:
            yours = answer(**given)
        except Exception as error:
            return [*shown, f"  yours     raised {type(error).__name__}: {error}"]
        if yours is None:
            return [*shown, "  yours     None: is a `return` missing?"]
        for key, value in case.items():
            if not same(given[key], value, 0.0, 0.0):
                return [*shown, f"  your function changed its input {key!r} in place"]
        if same(yours, expected, self.rtol, self.atol):
            return []
        return [*shown, f"  yours     {show(yours)}", f"  expected  {show(expected)}"]

    def _likely(self, answer: Callable[..., Any]) -> list[str]:
        for mistake in self.mistakes:
            if all(self._agrees(answer, mistake.answer, case) for case in self.cases):
                return [f"  {mistake.says}"]
        return []

    def _agrees(
        self, one: Callable[..., Any], two: Callable[..., Any], case: Mapping[str, Any]
    ) -> bool:
        try:
            return same(one(**_copy(case)), two(**_copy(case)), self.rtol, self.atol)
        except Exception:
            return False


def is_stub(function: Callable[..., Any]) -> bool:
    """Tell whether a function has no body but a docstring, ``...`` or ``pass``.

    Parameters
    ----------
    function : callable

    Returns
    -------
    bool

    Examples
    --------
    >>> def todo(x): ...
    >>> is_stub(todo), is_stub(lambda x: x)
    (True, False)
    """
    if not hasattr(function, "__code__"):
        return False
    steps = [
        step for step in dis.get_instructions(function) if step.opname not in _OVERHEAD
    ]
    return all(
        step.opname == "RETURN_VALUE"
        or (step.opname in _CONSTANT and step.argval is None)
        for step in steps
    )


_OVERHEAD = {"RESUME", "NOP", "CACHE"}
_CONSTANT = {"LOAD_CONST", "RETURN_CONST"}


def same(a: Any, b: Any, rtol: float, atol: float) -> bool:
    """Compare numbers, arrays, tensors, strings, and sequences of them.

    Parameters
    ----------
    a, b : object
        Shapes must agree; NaN equals nothing.
    rtol, atol : float
        ``abs(a - b) <= atol + rtol * abs(b)``.

    Returns
    -------
    bool

    Examples
    --------
    >>> same([1.0, 2.0], [1.0, 2.0 + 1e-9], 1e-6, 0.0)
    True
    >>> same([1.0], 1.0, 1e-6, 0.0)
    False
    """
    if isinstance(a, str) or isinstance(b, str) or callable(a) or callable(b):
        return bool(a == b)
    if isinstance(b, tuple | list) and any(np.ndim(_numpy(x)) for x in b):
        return (
            isinstance(a, tuple | list)
            and len(a) == len(b)
            and all(same(x, y, rtol, atol) for x, y in zip(a, b, strict=True))
        )
    try:
        x, y = np.asarray(_numpy(a), float), np.asarray(_numpy(b), float)
    except (TypeError, ValueError):
        return bool(a == b)
    if x.shape != y.shape:
        return False
    with np.errstate(invalid="ignore"):
        close = np.abs(x - y) <= atol + rtol * np.abs(y)
    return bool(np.all((close & np.isfinite(y)) | (x == y)))


def show(value: Any) -> str:
    """Write a value in one short line, arrays with their shape.

    Parameters
    ----------
    value : object

    Returns
    -------
    str

    Examples
    --------
    >>> show(np.arange(3.0))
    '[0. 1. 2.], shape (3,)'
    """
    if callable(value):
        return str(getattr(value, "__name__", value))
    array = _numpy(value)
    if isinstance(array, np.ndarray) and array.ndim:
        text = np.array2string(array, precision=4, threshold=8, separator=" ")
        return f"{' '.join(text.split())}, shape {array.shape}"
    if isinstance(value, tuple):
        return "(" + ", ".join(show(item) for item in value) + ")"
    if isinstance(array, np.ndarray | np.generic):
        value = array.item()
    return f"{value:.6g}" if isinstance(value, float) and value % 1 else repr(value)


def _numpy(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _copy(case: Mapping[str, Any]) -> dict[str, Any]:
    copies = {}
    for key, value in case.items():
        if hasattr(value, "clone"):
            copies[key] = value.clone()
        else:
            copies[key] = value.copy() if hasattr(value, "copy") else value
    return copies
