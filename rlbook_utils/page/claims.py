"""Numbers that the prose may state, and claims that fail the run when untrue.

Both are displayed with metadata that the book's tools read. Nothing is kept
between chapters: `start` names the chapter and forgets the claims of the last.
"""

from __future__ import annotations

import html
import math
import re
from string import Formatter
from typing import Any, NamedTuple

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class ClaimError(AssertionError):
    """A claim of the book is not true in this run."""


class _Definition(NamedTuple):
    kind: str
    rest: tuple[Any, ...]


_chapter = "scratch"
_definitions: dict[str, _Definition] = {}


def start(chapter: str) -> None:
    """Name the chapter to which the claims that follow belong.

    Parameters
    ----------
    chapter : str
        Lower-case letters, digits and underscores, as in the file's name.

    Raises
    ------
    ValueError
        If the name has other characters.

    Examples
    --------
    >>> start("bandits")
    """
    global _chapter
    if not re.fullmatch(r"[a-z][a-z0-9_]*", chapter):
        raise ValueError(
            f"chapter is {chapter!r}: use lower-case letters, digits and underscores"
        )
    _chapter = chapter
    _definitions.clear()


def chapter() -> str:
    """Return the name of the chapter that `start` named last.

    Returns
    -------
    str
        ``"scratch"`` before the first call of `start`.

    Examples
    --------
    >>> start("bandits")
    >>> chapter()
    'bandits'
    """
    return _chapter


def check(id: str, value: float, low: float, high: float, *, says: str) -> None:
    """State a claim about a number and stop the run when it is not true.

    The claim holds if ``low <= value <= high``. In a notebook it is shown as a
    line that begins with a tick; nbval compares the identifier and the range
    exactly and the value by being in the range.

    Parameters
    ----------
    id : str
        Unique in the chapter: lower-case words joined by hyphens.
    value : float
        The number, in the unit that `says` names.
    low, high : float
        The range, ends included.
    says : str
        The claim as a sentence. Fields: ``{value}``, ``{low}``, ``{high}``,
        with a format if wanted (``{value:.1f}``); ``{value}`` must occur.

    Raises
    ------
    ClaimError
        If the value lies outside the range.
    ValueError
        If the identifier is malformed or used by another claim, a number is
        not finite, the range is empty, or the sentence does not show the value.

    Examples
    --------
    >>> start("scratch")
    >>> check("half", 0.5, 0.4, 0.6, says="A fair coin shows heads {value}.")
    claim scratch/half: 0.500 in [0.4, 0.6]
    """
    name = f"{_chapter}/{id}"
    number, bottom, top = float(value), float(low), float(high)
    for what, x in (("value", number), ("low", bottom), ("high", top)):
        if not math.isfinite(x):
            raise ValueError(f"claim {name}: {what} is {x}: it must be a finite number")
    if bottom > top:
        raise ValueError(f"claim {name}: the range [{low}, {high}] is empty")
    _define(id, _Definition("claim", (bottom, top, says)))
    line = f"claim {name}: {significant(number)} in [{bottom:g}, {top:g}]"
    if not bottom <= number <= top:
        raise ClaimError(
            f"claim {name}: {significant(number, 6)} is outside "
            f"[{bottom:g}, {top:g}]. It says: {says}"
        )
    sentence = _sentence(name, says, number, bottom, top)
    record = {
        "kind": "claim",
        "id": id,
        "chapter": _chapter,
        "sentence": sentence,
        "value": significant(number),
        "low": f"{bottom:g}",
        "high": f"{top:g}",
    }
    markup = f"<p><b>\N{CHECK MARK} Checked.</b> {html.escape(sentence)}</p>"
    _emit(line, record, markup)


def value(id: str, x: float, spec: str = ".3g") -> None:
    """Make a number available to the prose as ``{val}`id```.

    Parameters
    ----------
    id : str
        Unique in the chapter: lower-case words joined by hyphens.
    x : float
        The number, or an int with a format such as ``",d"``.
    spec : str
        Format of the number, as for `format`.

    Raises
    ------
    ValueError
        If the identifier is malformed or in use, or the number is not finite.

    Examples
    --------
    >>> start("scratch")
    >>> value("runs", 2000, ",d")
    runs = 2,000
    """
    if not math.isfinite(float(x)):
        raise ValueError(f"value {_chapter}/{id} is {x}: it must be a finite number")
    _define(id, _Definition("value", (spec,)))
    text = _without_minus_zero(format(x, spec)).replace("-", "\N{MINUS SIGN}")
    _emit(f"{id} = {text}", {"kind": "value", "id": id, "text": text}, None)


def significant(x: float, digits: int = 3) -> str:
    """Write a number with a fixed count of significant digits.

    Parameters
    ----------
    x : float
        Any finite number. A result that is all zeros loses its sign.
    digits : int
        Count of significant digits, at least 1.

    Returns
    -------
    str
        Plain notation from 1e-4 up to 1e6, exponent notation outside.

    Examples
    --------
    >>> significant(12.3456), significant(0.5), significant(-0.0)
    ('12.3', '0.500', '0.00')
    """
    text = _without_minus_zero(f"{x:#.{digits}g}")
    return text.removesuffix(".")


def _without_minus_zero(text: str) -> str:
    return text[1:] if re.fullmatch(r"-[0.,]+(e[+-]0+)?%?", text) else text


def _sentence(name: str, says: str, value: float, low: float, high: float) -> str:
    fields = {field for _, field, _, _ in Formatter().parse(says) if field is not None}
    unknown = fields - {"value", "low", "high"}
    if unknown:
        raise ValueError(
            f"claim {name}: `says` names {sorted(unknown)}: "
            "its fields are value, low and high"
        )
    if "value" not in fields:
        raise ValueError(f"claim {name}: `says` does not show {{value}}: {says!r}")
    numbers = {"value": _Shown(value), "low": _Shown(low), "high": _Shown(high)}
    return Formatter().vformat(says, (), numbers)


class _Shown(float):
    """A number that prints with 3 significant digits unless told otherwise."""

    def __format__(self, spec: str) -> str:
        text = format(float(self), spec) if spec else f"{float(self):.3g}"
        return _without_minus_zero(text).replace("-", "\N{MINUS SIGN}")


def _define(id: str, definition: _Definition) -> None:
    if not _ID.fullmatch(id):
        raise ValueError(
            f"claim identifier {id!r}: use lower-case words joined by hyphens"
        )
    # The same definition again is a cell that was run again.
    if _definitions.setdefault(id, definition) != definition:
        raise ValueError(
            f"claim identifier {id!r} is used twice in chapter {_chapter!r}"
        )


def _emit(line: str, record: dict[str, str], markup: str | None) -> None:
    if not InteractiveShell.initialized():
        print(line)
        return
    data = {"text/plain": line}
    if markup is not None:
        data["text/html"] = markup
    display(data, metadata={"rlbook": record}, raw=True)
