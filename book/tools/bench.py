"""Time the book's code beside plain code that does the same.

Ours and the peer take turns in one process on one thread: A B A B A B A B A B after a
first call of each that does not count; medians of the five. Every row runs in a
process of its own, whose largest resident memory is reported. Rows that build the
book work on a copy of the checkout in a temporary folder.

Writes `_build/bench.json`, row by row: rows of earlier runs stay until they are
measured again. Reads the checkout; writes nothing else that lasts.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import multiprocessing
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

import convert

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "_build" / "bench.json"
ROUNDS = 5
ARMS = (0.1, 0.3, 0.5, 0.7, 0.9)
RATE = 0.05
HOST = "http://localhost"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
NEVER_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", "_build", "__pycache__", ".*_cache", "*.egg-info", ".hypothesis"
)

Tick = Callable[[int, int], None]


class Row(NamedTuple):
    """One line of the table and of `bench.json`; ratio > 1: ours is better."""

    name: str
    ours: float
    peer: float | None
    unit: str
    ratio: float | None
    aim: float | None
    memory_mb: float | None
    n: int
    seeds: int | None
    versions: dict[str, str]


class Measured(NamedTuple):
    """What a row's function measures: n is the number of things in one of ours."""

    ours: float
    peer: float | None
    n: int
    seeds: int | None
    memory_mb: float | None


class Spec(NamedTuple):
    """A row that can be measured."""

    measure: Callable[[Tick], Measured]
    says: str
    unit: str
    aim: float | None


class Timing(NamedTuple):
    """Median seconds of ours and of the peer, and the memory ours took."""

    ours: float
    peer: float
    memory_mb: float


ROWS: dict[str, Spec] = {}


def row(says: str, unit: str, aim: float | None = None) -> Callable[..., Any]:
    """Enter a function into the table under its own name."""

    def enter(measure: Callable[[Tick], Measured]) -> Callable[[Tick], Measured]:
        ROWS[measure.__name__] = Spec(measure, says, unit, aim)
        return measure

    return enter


# ---------------------------------------------------------------- measuring


def alternate(
    ours: Callable[[], object],
    peer: Callable[[], object],
    tick: Tick,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Call ours and the peer in turn; return the median seconds of each."""
    tick(0, rounds)
    ours()
    memory = peak_memory_mb()
    peer()
    seconds: tuple[list[float], list[float]] = ([], [])
    for done in range(rounds):
        for function, kept in zip((ours, peer), seconds, strict=True):
            begin = clock()
            function()
            kept.append(clock() - begin)
        tick(done + 1, rounds)
    return Timing(*map(statistics.median, seconds), memory)


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process or of a child."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in whose)
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def finished(name: str, measured: Measured, versions: dict[str, str]) -> Row:
    """Turn what was measured into a row; less is better on both sides."""
    spec = ROWS[name]
    ratio = None if measured.peer is None else measured.peer / measured.ours
    return Row(
        name,
        measured.ours,
        measured.peer,
        spec.unit,
        ratio,
        spec.aim,
        measured.memory_mb,
        measured.n,
        measured.seeds,
        versions,
    )


# ---------------------------------------------------------------- bandits


def beta_loop(
    means: Sequence[float], steps: int, runs: int, seed: int
) -> list[list[float]]:
    """Run Thompson sampling plainly, one run after the other; return the gaps."""
    import torch

    torch.manual_seed(seed)
    gaps = []
    for _ in range(runs):
        successes, failures = torch.ones(len(means)), torch.ones(len(means))
        gaps.append([])
        for _ in range(steps):
            draws = torch.distributions.Beta(successes, failures).sample()
            arm = int(draws.argmax())
            reward = float(torch.rand(()) < means[arm])
            successes[arm] += reward
            failures[arm] += 1 - reward
            gaps[-1].append(max(means) - means[arm])
    return gaps


def autograd_loop(
    means: Sequence[float], steps: int, runs: int, seed: int
) -> list[list[float]]:
    """Run REINFORCE plainly, one run after the other; return the gaps."""
    import torch

    torch.manual_seed(seed)
    gaps = []
    for _ in range(runs):
        preferences = torch.zeros(len(means), requires_grad=True)
        adam = torch.optim.Adam([preferences], lr=RATE)
        baseline = 0.0
        gaps.append([])
        for _ in range(steps):
            policy = torch.distributions.Categorical(logits=preferences)
            arm = policy.sample()
            reward = float(torch.rand(()) < means[arm])
            loss = -(reward - baseline) * policy.log_prob(arm)
            adam.zero_grad()
            loss.backward()
            adam.step()
            baseline += RATE * (reward - baseline)
            gaps[-1].append(max(means) - means[arm])
    return gaps


def numpy_loop(
    arms: int, steps: int, runs: int, seed: int, epsilon: float = 0.1
) -> list[list[float]]:
    """Run epsilon-greedy on the testbed, one pull at a time; return the gaps."""
    import numpy as np

    rng = np.random.default_rng(seed)
    gaps = []
    for _ in range(runs):
        means = rng.normal(size=arms)
        best_mean = means.max()
        counts, values = np.zeros(arms), np.zeros(arms)
        gaps.append([])
        for _ in range(steps):
            if rng.random() < epsilon:
                arm = rng.integers(arms)
            else:
                best = np.flatnonzero(values == values.max())
                arm = best[rng.integers(len(best))]
            reward = rng.normal(means[arm])
            counts[arm] += 1
            values[arm] += (reward - values[arm]) / counts[arm]
            gaps[-1].append(best_mean - means[arm])
    return gaps


def per_pull(
    ours: Callable[[], object],
    peer: Callable[[], object],
    tick: Tick,
    pulls: tuple[int, int],
    seeds: int,
) -> Measured:
    """Time both and divide by the pulls of each, in nanoseconds."""
    timing = alternate(ours, peer, tick)
    nano = [1e9 * t / n for t, n in zip((timing.ours, timing.peer), pulls, strict=True)]
    return Measured(nano[0], nano[1], pulls[0], seeds, timing.memory_mb)


def bernoulli_run(policy: Any, steps: int, seeds: int) -> Callable[[], Any]:
    """Return a function that runs a policy of the helper on the book's world."""
    from rlbook_utils import bandits
    from rlbook_utils.core import runtime

    world = bandits.BernoulliBandit(ARMS)
    luck = runtime.generator(0, "cpu")
    return lambda: bandits.run(policy, world, steps, seeds, luck)


@row("Thompson sampling beside a torch.distributions.Beta loop", "ns a pull", aim=130)
def thompson(tick: Tick) -> Measured:
    """Measure K = 5, T = 500, all replications at once against run by run."""
    from rlbook_utils import bandits

    steps, seeds, runs = 500, 2000, 10
    ours = bernoulli_run(bandits.thompson(), steps, seeds)
    peer = functools.partial(beta_loop, ARMS, steps, runs, seed=0)
    return per_pull(ours, peer, tick, (steps * seeds, steps * runs), seeds)


@row("Thompson sampling beside its Gamma numbers alone", "ns a pull", aim=1 / 1.6)
def thompson_limit(tick: Tick) -> Measured:
    """Measure the share of the random numbers, at the counts half-way of a run."""
    import torch

    from rlbook_utils import bandits
    from rlbook_utils.core import runtime

    steps, seeds = 500, 2000
    ours = bernoulli_run(bandits.thompson(), steps, seeds)
    record = ours()
    past = torch.nn.functional.one_hot(record.actions[:, : steps // 2].long(), 5)
    won = past * record.rewards[:, : steps // 2, None]
    counts = torch.stack([1 + won.sum(1).T, 1 + (past - won).sum(1).T]).contiguous()
    luck = runtime.generator(0, "cpu")

    def draws() -> None:
        for _ in range(steps):
            torch._standard_gamma(counts, generator=luck)

    return per_pull(ours, draws, tick, (steps * seeds,) * 2, seeds)


@row("REINFORCE with Adam beside an autograd loop", "ns a pull", aim=2000)
def reinforce(tick: Tick) -> Measured:
    """Measure K = 5, T = 500, all replications at once against run by run."""
    from rlbook_utils import bandits

    steps, seeds, runs = 500, 2000, 4
    ours = bernoulli_run(bandits.reinforce_adam(RATE, RATE), steps, seeds)
    peer = functools.partial(autograd_loop, ARMS, steps, runs, seed=0)
    return per_pull(ours, peer, tick, (steps * seeds, steps * runs), seeds)


@row("epsilon-greedy on the 10-armed testbed beside a numpy loop", "ns a pull", aim=100)
def testbed(tick: Tick) -> Measured:
    """Measure K = 10, T = 1000 with exact random ties, problems drawn anew."""
    from rlbook_utils import bandits
    from rlbook_utils.core import runtime

    arms, steps, seeds, runs = 10, 1000, 10_000, 20
    luck = runtime.generator(0, "cpu")

    def ours() -> object:
        world = bandits.ten_armed_testbed(seeds, luck, arms)
        return bandits.run(bandits.epsilon_greedy(0.1), world, steps, seeds, luck)

    peer = functools.partial(numpy_loop, arms, steps, runs, seed=0)
    return per_pull(ours, peer, tick, (steps * seeds, steps * runs), seeds)


# ---------------------------------------------------------------- the book


@contextmanager
def copy_of_the_book() -> Iterator[Path]:
    """Copy the checkout into a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "book"
        shutil.copytree(ROOT, root, ignore=NEVER_COPIED)
        yield root


def call(root: Path, *command: str | Path) -> float:
    """Run a command of the copy; return its seconds."""
    env = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(root.parent)}
    for variable in ("ONLY", "FORCE", "FULL", "DEVICE", "RLBOOK_DEVICE"):
        env.pop(variable, None)
    begin = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)), cwd=root, env=env, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(
            f"{command[1]} failed:\n{(done.stdout + done.stderr)[-3000:]}"
        )
    return time.perf_counter() - begin


@row("execute all chapters again, once", "s")
def chapters(tick: Tick) -> Measured:
    """Measure every chapter in a fresh kernel, two at a time."""
    tick(0, 1)
    with copy_of_the_book() as root:
        seconds = call(root, sys.executable, "book/tools/notebooks.py", "--force")
        count = len(convert.chapter_names(root))
    return Measured(seconds, None, count, None, peak_memory_mb())


@row("render the whole site from nothing", "s")
def render(tick: Tick) -> Measured:
    """Measure the median of five clean builds."""
    seconds = []
    with copy_of_the_book() as root:
        for done in range(ROUNDS):
            tick(done, ROUNDS)
            shutil.rmtree(root / "_build", ignore_errors=True)
            seconds.append(call(root, sys.executable, "book/tools/render.py"))
        count = len(list((root / "_build" / "html").rglob("*.html")))
    return Measured(statistics.median(seconds), None, count, None, peak_memory_mb())


class Loaded(NamedTuple):
    """Bytes that a page loads, gzipped: from its own host, and MathJax from another."""

    own: int
    mathjax: int
    files: int


def stock_page(root: Path, name: str, folder: Path) -> Path:
    """Build a chapter's notebook with Jupyter Book as it comes; return the page."""
    folder.mkdir()
    shutil.copy(root / "chapters" / f"{name}.ipynb", folder)
    (folder / "intro.md").write_text("# A book\n")
    (folder / "_toc.yml").write_text(
        f"format: jb-book\nroot: intro\nchapters:\n- file: {name}\n"
    )
    (folder / "_config.yml").write_text(
        'title: A book\nexecute:\n  execute_notebooks: "off"\n'
    )
    builder = Path(sys.executable).with_name("jupyter-book")
    call(folder, builder, "build", folder, "--quiet")
    return folder / "_build" / "html" / f"{name}.html"


def transferred(site: Path, page: str, mathjax: Path) -> Loaded:
    """Load a page in a browser; add up what it asked for, each file gzipped.

    MathJax that a page wants from another host is served from the book's own copy and
    counted apart; all other requests to other hosts are refused and not counted.
    """
    from playwright.sync_api import Route, sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise RuntimeError("no browser: install the package chromium")
    sizes: dict[str, int] = {}

    def answer(route: Route) -> None:
        url = route.request.url
        if url.startswith(HOST):
            local = site / urlsplit(url).path.lstrip("/")
        else:
            local = mathjax / urlsplit(url).path.partition("/es5/")[2]
        if local.is_file():
            body = local.read_bytes()
            sizes[url] = min(len(body), len(gzip.compress(body, 6)))
            cors = {"Access-Control-Allow-Origin": "*"}
            route.fulfill(path=local, headers=cors)
        else:
            route.abort()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.route("**/*", answer)
        tab.goto(f"{HOST}/{page}", wait_until="networkidle")
        tab.evaluate("document.fonts.ready.then(() => 0)")
        browser.close()
    own = sum(size for url, size in sizes.items() if url.startswith(HOST))
    return Loaded(own, sum(sizes.values()) - own, len(sizes))


def page_weights(tick: Tick) -> tuple[Loaded, Loaded]:
    """Return what the first chapter's page loads, and what a stock page does."""
    tick(0, 2)
    with copy_of_the_book() as root:
        name = convert.chapter_names(root)[0]
        mathjax = root / "book" / "static" / "mathjax"
        call(root, sys.executable, "book/tools/render.py")
        site = root / "_build" / "html"
        ours = transferred(site, f"chapters/{name}.html", mathjax)
        tick(1, 2)
        page = stock_page(root, name, root.parent / "stock")
        return ours, transferred(page.parent, page.name, mathjax)


@row("the first chapter's page beside a stock page, with MathJax", "KB gzip", aim=2)
def page(tick: Tick) -> Measured:
    """Count every file that the page loads, on both sides MathJax included."""
    ours, stock = page_weights(tick)
    total = [(loaded.own + loaded.mathjax) / 1000 for loaded in (ours, stock)]
    return Measured(total[0], total[1], ours.files, None, None)


@row("the same, files of the page's own host alone", "KB gzip", aim=2)
def page_own_host(tick: Tick) -> Measured:
    """Count what comes from the page's host: a stock page has MathJax elsewhere."""
    ours, stock = page_weights(tick)
    return Measured(ours.own / 1000, stock.own / 1000, ours.files, None, None)


# ---------------------------------------------------------------- command


def selected(only: str) -> list[str]:
    """Return the rows to measure: all, or the one that is named."""
    if only and only not in ROWS:
        raise ValueError(f"unknown row {only!r}: known are {', '.join(ROWS)}")
    return [only] if only else list(ROWS)


def merged(old: list[dict[str, Any]], new: Row) -> list[dict[str, Any]]:
    """Put a row into those of earlier runs, in the order of the table."""
    rows = {**{entry["name"]: entry for entry in old}, new.name: new._asdict()}
    return [rows[name] for name in ROWS if name in rows]


def keep(path: Path, new: Row) -> None:
    """Write a row into the file of results, in one step."""
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        old = []
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(json.dumps(merged(old, new), indent=1) + "\n", encoding="utf-8")
    half.replace(path)


def number(value: float | None) -> str:
    """Write a number with three digits, or nothing."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def verdict(row: Row) -> str:
    """Say whether a row's aim is reached."""
    if row.aim is None or row.ratio is None:
        return ""
    return "reached" if row.ratio >= row.aim else "missed"


def table(rows: list[Row]) -> Table:
    """Lay out what was measured."""
    made = Table(caption="ratio = peer / ours: over 1, ours is better")
    made.add_column("row")
    for title in ("ours", "peer"):
        made.add_column(title, justify="right")
    made.add_column("unit")
    for title in ("ratio", "aim"):
        made.add_column(title, justify="right")
    made.add_column("")
    made.add_column("MB", justify="right")
    for row in rows:
        made.add_row(
            row.name,
            *map(number, (row.ours, row.peer)),
            row.unit,
            *map(number, (row.ratio, row.aim)),
            verdict(row),
            number(row.memory_mb),
            style="red" if verdict(row) == "missed" else "",
        )
    return made


def in_a_process(name: str, pipe: Connection) -> None:
    """Measure a row; send its progress, then the row or what went wrong."""
    from rlbook_utils.core import runtime

    runtime.set_threads(1)
    try:
        spec = ROWS[name]
        measured = spec.measure(lambda done, of: pipe.send(("tick", done, of)))
        pipe.send(("row", finished(name, measured, runtime.versions())._asdict()))
    except KeyboardInterrupt:
        pass
    except Exception as error:
        pipe.send(("error", f"{name}: {type(error).__name__}: {error}"))


def measure(name: str, progress: Progress) -> Row:
    """Measure a row in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=in_a_process, args=(name, there))
    task = progress.add_task(name, total=ROUNDS)
    process.start()
    there.close()
    try:
        while True:
            kind, *rest = here.recv()
            if kind == "tick":
                progress.update(task, completed=rest[0], total=rest[1])
            elif kind == "row":
                progress.remove_task(task)
                return Row(**rest[0])
            else:
                raise RuntimeError(rest[0])
    except EOFError:
        raise RuntimeError(f"{name}: its process died") from None
    finally:
        process.join(timeout=5)
        if process.is_alive():
            os.kill(process.pid, signal.SIGINT)
            process.join(timeout=5)
        process.kill()


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help="one row")
    args = parser.parse_args(argv)
    console = Console()
    rows: list[Row] = []
    failures: list[str] = []
    columns = (TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn())
    try:
        names = selected(args.only)
        with Progress(*columns, console=console, transient=True) as progress:
            whole = progress.add_task("all", total=len(names))
            for name in names:
                try:
                    rows.append(measure(name, progress))
                    keep(RESULTS, rows[-1])
                except RuntimeError as error:
                    failures.append(str(error))
                progress.advance(whole)
    except ValueError as error:
        failures.append(str(error))
    except KeyboardInterrupt:
        failures.append("interrupted: rows that had finished are kept")
    if rows:
        console.print(table(rows))
        for row in rows:
            console.print(f"{row.name}: {ROWS[row.name].says}", highlight=False)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures and failures[-1].startswith("interrupted"):
        return 130
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
