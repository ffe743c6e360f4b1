"""The one call that every chapter makes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlbook_utils.core import runtime
from rlbook_utils.page import claims

if TYPE_CHECKING:
    import torch


def setup(chapter: str, *, use_torch: bool = False) -> torch.device | None:
    """Prepare a kernel for a chapter and print what it runs on.

    Checks the environment, sets one thread, names the chapter to which claims
    belong, and prints one line with the versions and the device.

    Parameters
    ----------
    chapter : str
        Name of the chapter, as in ``book/chapters/<chapter>.md``.
    use_torch : bool
        Whether the chapter uses torch. Chapters that are numpy alone do not
        import it.

    Returns
    -------
    torch.device or None
        The device to work on, or None for a chapter without torch.

    Raises
    ------
    RuntimeError
        If a package is missing or too old, or a device is asked for that this
        machine does not have.
    ValueError
        If the chapter's name or the device's name is not known.

    Examples
    --------
    >>> setup("bandits")                                  # doctest: +ELLIPSIS
    rlbook_utils ... numpy ...
    """
    claims.start(chapter)
    runtime.check_environment()
    versions = runtime.versions()
    names = ["rlbook_utils", "numpy"]
    device = None
    if use_torch:
        runtime.set_threads(1)
        device = runtime.device()
        names.insert(1, "torch")
    parts = [f"{name} {versions[name].split('+')[0]}" for name in names]
    print(", ".join(parts) + (f", on {device.type}" if device is not None else ""))
    return device
