"""Run jobs in a few processes that stay alive, one thread each.

They are spawned, so a function must be importable: one of the package, not one that a
notebook defines. They ignore Ctrl-C and die with their parent; interrupting the parent
stops them, and the next call starts new ones.
"""

from __future__ import annotations

import json
import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

from rlbook_utils.core import runtime

_alive: list[tuple[Any, Connection]] = []


def _serve(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runtime.set_threads(1)
    with suppress(EOFError, OSError):
        while True:
            try:
                function, job = pickle.loads(pipe.recv_bytes())
                answer = (True, function(*job))
            except EOFError:
                raise
            except Exception:
                answer = (False, traceback.format_exc())
            # Plain pickle copies tensors; torch's own would share file handles.
            pipe.send_bytes(pickle.dumps(answer))


def _hire(count: int) -> list[Connection]:
    if any(not process.is_alive() for process, _ in _alive):
        stop()
    context = multiprocessing.get_context("spawn")
    while len(_alive) < count:
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there,), daemon=True)
        process.start()
        there.close()
        _alive.append((process, here))
    return [pipe for _, pipe in _alive[:count]]


def stop() -> None:
    """End the processes; the next call of :func:`run` starts new ones.

    Examples
    --------
    >>> stop()
    """
    while _alive:
        process, pipe = _alive.pop()
        pipe.close()
        process.kill()
        process.join()


def run(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    workers: int = 2,
    log: Path | None = None,
) -> list[Any]:
    """Return [function(*job) for job in jobs], several at a time.

    The answers do not depend on the number of processes, nor on which of them did
    what. Where one process is enough, or this is one of them, all is done right here.

    Parameters
    ----------
    function : callable
        Importable, such as a function of the package or a partial of one.
    jobs : sequence of tuples
        Arguments, which can be pickled.
    workers : int
        Processes, at least 1.
    log : Path, optional
        One line of JSON is added for each job that is done; jobs that it holds are not
        done again. For answers that JSON can hold, and a name that changes with the
        code. Progress is written to the terminal, if there is one.

    Returns
    -------
    list
        In the order of the jobs.

    Raises
    ------
    ValueError
        If `workers` is below 1.
    RuntimeError
        If a job fails, with its traceback, or a process dies.

    Examples
    --------
    >>> run(divmod, [(7, 2), (9, 4)], workers=1)
    [(3, 1), (2, 1)]
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: it must be at least 1")
    done = _read(log)
    left = [k for k in range(len(jobs)) if k not in done]

    def keep(index: int, answer: Any) -> None:
        done[index] = answer
        if log is not None:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps([index, answer]) + "\n")
            _tell(f"\r{log.stem}: {len(done)} of {len(jobs)} ")

    if min(workers, len(left)) < 2 or multiprocessing.parent_process() is not None:
        for k in left:
            keep(k, function(*jobs[k]))
    else:
        try:
            _share_out(function, jobs, left, _hire(workers), keep)
        except BaseException:
            stop()
            raise
    return [done[k] for k in range(len(jobs))]


def _read(log: Path | None) -> dict[int, Any]:
    if log is None or not log.exists():
        return {}
    # A line that an interruption cut short is done again.
    lines = log.read_text(encoding="utf-8").split("\n")[:-1]
    return dict(json.loads(line) for line in lines)


def _tell(text: str) -> None:
    with suppress(OSError), Path("/dev/tty").open("w") as terminal:
        terminal.write(text)


def _share_out(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    left: list[int],
    pipes: list[Connection],
    keep: Callable[[int, Any], None],
) -> None:
    waiting, busy = left[::-1], dict[Connection, int]()
    while waiting or busy:
        for pipe in pipes:
            if waiting and pipe not in busy:
                busy[pipe] = waiting.pop()
                pipe.send_bytes(pickle.dumps((function, jobs[busy[pipe]])))
        for ready in wait(list(busy)):
            pipe = cast(Connection, ready)
            try:
                good, answer = pickle.loads(pipe.recv_bytes())
            except (EOFError, OSError):
                raise RuntimeError(f"a process died at job {busy[pipe]}") from None
            index = busy.pop(pipe)
            if not good:
                raise RuntimeError(f"job {index} failed:\n{answer}")
            keep(index, answer)
