"""Choose a device, make generators, fix threads and check the environment.

Importing this module costs nothing: torch and numpy are imported by the functions
that need them, so that chapters without torch do not pay for it.
"""

from __future__ import annotations

import importlib.metadata
import operator
import os
import platform
import re
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import rlbook_utils

if TYPE_CHECKING:
    import numpy as np
    import torch

DEVICES = ("cpu", "cuda", "cuda:<index>", "mps")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
NEEDED = {
    "python": (3, 11),
    "torch": (2, 9),
    "numpy": (2, 0),
    "matplotlib": (3, 10),
    "ipywidgets": (7, 7),
}
NEWEST_PYTHON = (3, 13)


def device(name: str | None = None) -> torch.device:
    """Return the device to compute on.

    The first of these that is given decides: the argument, the environment variable
    ``RLBOOK_DEVICE``, and else what the machine has (cuda, then mps, then cpu).

    Parameters
    ----------
    name : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:<index>"`` or ``"mps"``.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If the name is none of the above.
    RuntimeError
        If the device is asked for but this machine does not have it.

    Examples
    --------
    >>> device("cpu")
    device(type='cpu')
    """
    import torch

    origin = "device"
    if name is None:
        name, origin = os.environ.get("RLBOOK_DEVICE") or None, "RLBOOK_DEVICE"
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    match = re.fullmatch(r"(cpu|mps|cuda)|cuda:(\d+)", str(name).strip().lower())
    if match is None:
        raise ValueError(f"{origin} is {name!r}: choose one of {', '.join(DEVICES)}")
    chosen = torch.device(match.group(0))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"{origin} is {name!r}, but torch finds no CUDA GPU here.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise RuntimeError(f"{origin} is {name!r}, but there are {count} CUDA GPUs.")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise RuntimeError(f"{origin} is {name!r}, but torch finds no Apple GPU here.")
    return chosen


def _seed(seed: int) -> int:
    try:
        value = operator.index(seed)
    except TypeError:
        value = -1
    if isinstance(seed, bool) or not 0 <= value < 2**63:
        raise ValueError(f"seed is {seed!r}: it must be an integer in [0, 2**63)")
    return value


def generator(seed: int, device: torch.device | str | None = None) -> torch.Generator:
    """Return a seeded torch generator.

    Parameters
    ----------
    seed : int
        In [0, 2**63).
    device : torch.device or str, optional
        Where its numbers are drawn; by default where :func:`device` says.

    Returns
    -------
    torch.Generator

    Raises
    ------
    ValueError
        If the seed is not an integer in range, or the device is unknown.

    Examples
    --------
    >>> generator(3, "cpu").initial_seed()
    3
    """
    import torch

    place = _device(None if device is None else str(device))
    return torch.Generator(device=place).manual_seed(_seed(seed))


_device = device


def rng(seed: int) -> np.random.Generator:
    """Return a seeded numpy generator.

    Parameters
    ----------
    seed : int
        In [0, 2**63).

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    ValueError
        If the seed is not an integer in range.

    Examples
    --------
    >>> rng(0).integers(10, size=3).tolist()
    [8, 6, 5]
    """
    import numpy as np

    return np.random.default_rng(_seed(seed))


def set_threads(count: int = 1) -> None:
    """Let numpy and torch use `count` threads in this process.

    Sets the environment variables of OpenMP, MKL and OpenBLAS, which libraries read
    when they load and child processes inherit. Where torch is loaded already, sets
    its number too. Two busy threads on two shared cores are several times slower
    than one.

    Parameters
    ----------
    count : int
        At least 1.

    Raises
    ------
    ValueError
        If `count` is not a positive integer.

    Examples
    --------
    >>> set_threads(1)
    >>> os.environ["OMP_NUM_THREADS"]
    '1'
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count is {count!r}: it must be an integer of at least 1")
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def versions() -> dict[str, str]:
    """Return the versions that decide what a chapter prints.

    Reads package metadata and imports nothing.

    Returns
    -------
    dict of str to str
        Keys ``rlbook_utils``, ``python``, ``torch``, ``numpy``, ``matplotlib`` and
        ``ipywidgets``; a package that is not installed is ``"missing"``.

    Examples
    --------
    >>> versions()["rlbook_utils"] == rlbook_utils.__version__
    True
    """
    found = {
        "rlbook_utils": rlbook_utils.__version__,
        "python": platform.python_version(),
    }
    for package in ("torch", "numpy", "matplotlib", "ipywidgets"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def _release(version: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def check_environment(found: Mapping[str, str] | None = None) -> dict[str, str]:
    """Refuse an environment that the book does not run in.

    Parameters
    ----------
    found : mapping of str to str, optional
        Versions to judge; by default those of :func:`versions`.

    Returns
    -------
    dict of str to str
        The versions found.

    Raises
    ------
    RuntimeError
        If anything is missing or too old. The message names all of it, with the
        version found and the version needed.

    Warns
    -----
    RuntimeWarning
        If Python is newer than the newest one that the book is tested on.

    Examples
    --------
    >>> check_environment()["python"] == platform.python_version()
    True
    """
    found = dict(versions() if found is None else found)
    faults = []
    for name, (major, minor) in NEEDED.items():
        version = found.get(name, "missing")
        if version == "missing":
            faults.append(f"{name} is missing (needs {major}.{minor} or newer)")
        elif _release(version) < (major, minor):
            faults.append(f"{name} {version} is too old (needs {major}.{minor})")
    if faults:
        raise RuntimeError("This environment cannot run the book: " + "; ".join(faults))
    if _release(found["python"]) > NEWEST_PYTHON:
        newest = ".".join(map(str, NEWEST_PYTHON))
        warnings.warn(
            f"Python {found['python']} is newer than {newest}, the newest one tested",
            RuntimeWarning,
            stacklevel=2,
        )
    return found
