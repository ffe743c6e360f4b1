"""Worked examples that try an answer: the visible tests of an assignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlbook_utils.page.check import Checker, same, show

Pairs = Sequence[tuple[Mapping[str, Any], Any]]


def table(pairs: Pairs) -> Callable[..., Any]:
    """Return a function that knows its value on the given inputs alone.

    Parameters
    ----------
    pairs : sequence of (mapping, object)
        Keyword arguments, and the value there.

    Returns
    -------
    callable
        Raises LookupError on other inputs.

    Examples
    --------
    >>> table([({"x": 1.0}, 2.0), ({"x": 3.0}, 6.0)])(x=3.0)
    6.0
    """

    def known(**case: Any) -> Any:
        for inputs, value in pairs:
            if all(same(case[key], inputs[key], 0.0, 0.0) for key in inputs):
                return value
        raise LookupError(
            f"no value is known for {', '.join(map(show, case.values()))}"
        )

    return known


def examples(
    name: str, answer: Any, pairs: Pairs, rtol: float = 1e-6, atol: float = 1e-9
) -> None:
    """Print whether an answer gives the values of worked examples.

    Parameters
    ----------
    name : str
        What was asked for.
    answer : callable
        What a reader wrote.
    pairs : sequence of (mapping, object)
        Keyword arguments, and the right value.
    rtol, atol : float
        Tolerances of the comparison.

    Examples
    --------
    >>> examples("double", lambda x: 2 * x, [({"x": 1.0}, 2.0)])
    double: right on 1 case.
    """
    cases = [inputs for inputs, _ in pairs]
    Checker(name, table(pairs), cases, rtol=rtol, atol=atol)(answer)
