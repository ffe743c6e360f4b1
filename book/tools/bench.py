"""Time the book's code beside plain code that does the same.

Ours and the peer take turns in one process on one thread: A B A B A B A B A B after a
first call of each that does not count; medians of the five. A peer whose first call
takes over 30 s is not called again, and is stopped after 60 s. Every row runs in a
process of its own, whose largest resident memory is reported. Rows that build the
book work on a copy of the checkout in a temporary folder.

Writes `_build/bench.json`, row by row: rows of earlier runs stay until they are
measured again. Reads the checkout; writes nothing else that lasts.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import importlib.metadata
import json
import math
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
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

import convert
import peers

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "_build" / "bench.json"
ROUNDS = 5
SLOW, CAP = 30.0, 60.0
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
    note: str = ""


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

    def timed(function: Callable[[], object]) -> float:
        begin = clock()
        function()
        return clock() - begin

    tick(0, rounds)
    ours()
    memory = peak_memory_mb()
    with stopped_after(CAP):
        begin = clock()
        peer()
    first = clock() - begin
    seconds: tuple[list[float], list[float]] = ([], [])
    for done in range(rounds):
        seconds[0].append(timed(ours))
        seconds[1].append(timed(peer) if first <= SLOW else first)
        tick(done + 1, rounds)
    return Timing(*map(statistics.median, seconds), memory)


@contextmanager
def stopped_after(limit: float) -> Iterator[None]:
    """Leave the block after so many seconds, finished or not."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        with suppress(TimeoutError):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
    peer = functools.partial(peers.beta_loop, ARMS, steps, runs, seed=0)
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
    peer = functools.partial(peers.autograd_loop, ARMS, RATE, steps, runs, seed=0)
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

    peer = functools.partial(peers.numpy_loop, arms, steps, runs, seed=0)
    return per_pull(ours, peer, tick, (steps * seeds, steps * runs), seeds)


# ---------------------------------------------------------------- solvers

SHAPES = {2: (10, 10), 3: (25, 40), 4: (100, 100), 5: (250, 400), 6: (1000, 1000)}
DISCOUNT, ERROR = 0.95, 1e-8


def slippery_grid(power: int) -> Any:
    """Return the open grid of 10^power states: goal +1, pit -1, a move -.04, slip .2.

    The goal is in a corner, the pit above it.
    """
    from rlbook_utils.worlds import grids

    rows, columns = SHAPES[power]
    lines = [["."] * columns for _ in range(rows)]
    lines[-1][-1], lines[-2][-1] = "G", "X"
    text = "\n".join(map("".join, lines))
    return grids.grid_world(text, DISCOUNT, slip=0.2, step=-0.04)


def our_solver(world: Any, method: str) -> peers.Solver:
    """Return a solver of the helper; value iteration looks at every fifth residual."""
    from rlbook_utils import bellman

    options = {"every": 5} if method == "value_iteration" else {}

    def solve() -> peers.Solved:
        found = getattr(bellman, method)(world, tolerance=ERROR, **options)
        return peers.Solved(found.values, found.sweeps)

    return solve


def residual_bound(world: Any, values: Any) -> float:
    """Return max |T V - V|/(1 - gamma), which bounds |V - V*|, by plain indexing."""
    import numpy as np

    best = np.full(world.states, -np.inf)
    for action in range(world.actions):
        q = world.r[:, action].copy()
        for which in range(world.successors.shape[2]):
            after = values[world.successors[action, :, which]]
            q += world.gamma * world.probabilities[action, :, which] * after
        np.maximum(best, q, out=best)
    return float(np.abs(best - values).max()) / (1 - world.gamma)


def described(
    world: Any, found: peers.Solved | None, seconds: float, exact: Any
) -> str:
    """Say what a solver did; refuse an error above 1e-8 against the exact values."""
    import numpy as np

    if found is None:
        return f"stopped after {CAP:.0f} s"
    error = float(np.abs(found.values - exact).max())
    if not error <= ERROR + residual_bound(world, exact):
        raise RuntimeError(f"an error of {error:.2e} is above {ERROR:.0e}")
    nano = 1e9 * seconds / world.states / found.sweeps
    return f"{found.sweeps} sweeps of {nano:.3g} ns a state, error {error:.0e}"


def solver_race(
    world: Any, ours: peers.Solver, prepare: Callable[[], peers.Solver], tick: Tick
) -> Measured:
    """Time two solvers and check both against values of a thousandth of the error.

    The memory is that of the world and ours, before the peer's form is made.
    """
    from rlbook_utils import bellman

    found: dict[str, peers.Solved] = {}
    found["ours"] = ours()
    memory, peer = peak_memory_mb(), prepare()
    timing = alternate(
        lambda: found.__setitem__("ours", ours()),
        lambda: found.__setitem__("peer", peer()),
        tick,
    )
    exact = bellman.value_iteration(world, tolerance=ERROR / 1000).values
    if not residual_bound(world, exact) <= ERROR / 10:
        raise RuntimeError("the exact values are not exact")
    notes = [
        described(world, found.get(side), seconds, exact)
        for side, seconds in (("ours", timing.ours), ("peer", timing.peer))
    ]
    note = f"ours {notes[0]}; peer {notes[1]}"
    milli = (1e3 * timing.ours, 1e3 * timing.peer)
    return Measured(*milli, world.states, None, memory, note)


def fastest(solvers: dict[str, peers.Solver]) -> tuple[str, peers.Solver]:
    """Return the solver that takes least in its second call, and its name."""
    seconds = {}
    for name, solve in solvers.items():
        solve()
        begin = time.perf_counter()
        solve()
        seconds[name] = time.perf_counter() - begin
    name = min(seconds, key=seconds.__getitem__)
    return name, solvers[name]


METHODS = ("value_iteration", "modified_policy_iteration")


def beside_quantecon(tick: Tick, power: int, method: str) -> Measured:
    """Measure one method of both."""
    world = slippery_grid(power)
    prepare = functools.partial(peers.quantecon_solver, world, method, ERROR)
    return solver_race(world, our_solver(world, method), prepare, tick)


def beside_toolbox(tick: Tick, power: int) -> Measured:
    """Measure value iteration of both."""
    world = slippery_grid(power)
    prepare = functools.partial(peers.toolbox_solver, world, ERROR)
    return solver_race(world, our_solver(world, METHODS[0]), prepare, tick)


def best_of_both(tick: Tick, power: int) -> Measured:
    """Measure the faster of our two methods beside the faster of quantecon's."""
    world = slippery_grid(power)
    name, ours = fastest({name: our_solver(world, name) for name in METHODS})
    memory = peak_memory_mb()
    theirs = {name: peers.quantecon_solver(world, name, ERROR) for name in METHODS}
    other, peer = fastest(theirs)
    measured = solver_race(world, ours, lambda: peer, tick)
    note = f"{name} beside {other}; {measured.note}"
    return measured._replace(memory_mb=memory, note=note)


@row("value iteration on 10^6 states, resident memory beside a GB", "MB", aim=1)
def million(tick: Tick) -> Measured:
    """Measure the whole process: Python, numpy, the world and its solution."""
    tick(0, 1)
    world = slippery_grid(6)
    our_solver(world, METHODS[0])()
    memory = peak_memory_mb()
    return Measured(memory, 1000.0, world.states, None, memory)


def enter_solvers() -> None:
    """Enter a row for each method and size, named by both."""
    for power in SHAPES:
        aim = {2: None, 3: 1.5}.get(power, 3.0)
        for name, method in zip(("vi", "mpi"), METHODS, strict=True):
            says = f"{method.replace('_', ' ')} beside quantecon's, 10^{power} states"
            measure = functools.partial(beside_quantecon, power=power, method=method)
            ROWS[f"{name}_1e{power}"] = Spec(
                measure, says, "ms", aim if name == "vi" else None
            )
    for power in (4, 5, 6):
        says = f"our best beside quantecon's best, 10^{power} states"
        measure = functools.partial(best_of_both, power=power)
        ROWS[f"best_1e{power}"] = Spec(measure, says, "ms", 1.0)
    for power, aim in ((2, None), (3, 100.0), (4, 1000.0)):
        says = f"value iteration beside pymdptoolbox's whole call, 10^{power} states"
        measure = functools.partial(beside_toolbox, power=power)
        ROWS[f"toolbox_1e{power}"] = Spec(measure, says, "ms", aim)


enter_solvers()


def slopes(rows: Sequence[Row]) -> list[str]:
    """Return, per family of rows, the slopes of log time against log S."""
    families: dict[str, list[Row]] = {}
    for row in rows:
        family, found, _ = row.name.partition("_1e")
        if found:
            families.setdefault(family, []).append(row)
    lines = []
    for family, members in families.items():
        if len(members) > 1:
            size = [math.log(row.n) for row in members]
            fits = [
                statistics.linear_regression(size, list(map(math.log, seconds))).slope
                for seconds in zip(*((r.ours, r.peer) for r in members), strict=True)
            ]
            lines.append(
                f"{family}: log time against log S has slope {fits[0]:.2f}, "
                f"the peer's {fits[1]:.2f}"
            )
    return lines


# ---------------------------------------------------------------- learners


def cliff_race(tick: Tick, method: str) -> Measured:
    """Measure 500 episodes, 1,000 replications at once beside one plain run."""
    import numpy as np

    from rlbook_utils import td
    from rlbook_utils.worlds import grids

    world, episodes, seeds = grids.cliff(), 500, 1000
    steps = [0, 0]

    def ours() -> None:
        rng = np.random.default_rng(0)
        steps[0] = int(td.control(world, method, episodes, seeds, rng).lengths.sum())

    def peer() -> None:
        steps[1] = peers.plain_learner(world, method, episodes, seed=0)[1]

    timing = alternate(ours, peer, tick)
    nano = [1e9 * t / n for t, n in zip((timing.ours, timing.peer), steps, strict=True)]
    return Measured(*nano, steps[0], seeds, timing.memory_mb)


for learner in ("sarsa", "expected_sarsa", "q_learning", "double_q_learning"):
    ROWS[learner] = Spec(
        functools.partial(cliff_race, method=learner),
        f"{learner.replace('_', ' ')} on the cliff beside a plain loop of one run",
        "ns a step",
        100.0,
    )


# ---------------------------------------------------------------- PPO

LEVEL, EPISODES = 475.0, 100


def judged_on_cartpole(seed: int) -> Callable[[Any], float]:
    """Return a judge of policies: the mean return of 100 episodes of CartPole."""
    import torch

    from rlbook_utils.worlds import control

    luck = torch.Generator().manual_seed(2**40 + seed)

    def judge(act: Callable[[Any], Any]) -> float:
        found = control.evaluate(control.CARTPOLE, act, EPISODES, luck)
        return float(found.returns.mean())

    return judge


def our_ppo(seed: int) -> peers.Run:
    """Train the helper's PPO with its default settings up to the level."""
    from rlbook_utils import ppo
    from rlbook_utils.worlds import control

    made = ppo.train_ppo(
        control.CARTPOLE, seed, 60, episodes=EPISODES, level=LEVEL, greedy=False
    )
    last = made.solved(LEVEL)
    steps = None if last is None else int(made.steps[last])
    return peers.Run(float(made.seconds[-1]), steps)


def solving_race(
    tick: Tick, peer: Callable[..., peers.Run], seeds: Sequence[int]
) -> Measured:
    """Train both up to a mean of 475, seed by seed in turn; compare median CPU time.

    Both are judged after every 1,024 steps, on 100 episodes of the same physics, with
    actions sampled as in training; that time is left out. (The most likely action of a
    net that has hardly learned passes now and then by luck.) Seeds 5, 6 ... were not
    used to choose settings.
    """
    runs: dict[str, list[peers.Run]] = {"ours": [], "peer": []}
    tick(0, len(seeds))
    memory = 0.0
    for done, seed in enumerate(seeds):
        runs["ours"].append(our_ppo(seed))
        memory = memory or peak_memory_mb()
        runs["peer"].append(peer(judged_on_cartpole(seed), LEVEL, seed))
        tick(done + 1, len(seeds))
    notes = []
    for side, made in runs.items():
        steps = " ".join("none" if r.steps is None else f"{r.steps:,}" for r in made)
        notes.append(f"{side} after {steps} steps")
    medians = [statistics.median(r.seconds for r in made) for made in runs.values()]
    steps = [r.steps for r in runs["ours"] if r.steps is not None]
    if len(steps) < len(seeds):
        raise RuntimeError(f"ours missed the level: {notes[0]}")
    note = "; ".join(notes)
    median = int(statistics.median(steps))
    return Measured(medians[0], medians[1], median, len(seeds), memory, note)


FRESH = range(5, 10)


@row("PPO to 475 on CartPole beside stable-baselines3's, tuned", "CPU s", aim=6)
def ppo_sb3(tick: Tick) -> Measured:
    """Measure 5 seeds; a run of the peer that never gets there counts as it ends."""
    return solving_race(tick, peers.sb3_ppo, FRESH)


@row("PPO to 475 on CartPole beside a single file, 4 environments", "CPU s", aim=4)
def ppo_single(tick: Tick) -> Measured:
    """Measure 5 seeds."""
    return solving_race(tick, peers.plain_ppo, FRESH)


# ---------------------------------------------------------------- language

VOCABULARY, PROMPT, NEW, TEXTS = 40, 8, 40, 64


def small_gpt() -> Any:
    """Return the helper's GPT at its default size, 0.1 million parameters."""
    import torch

    from rlbook_utils.nets import transformer

    luck = torch.Generator().manual_seed(0)
    return transformer.GPT(VOCABULARY, PROMPT + NEW, luck)


def some_texts(length: int) -> Any:
    """Return random tokens, as many rows as a batch has; 0 is left to padding."""
    import torch

    luck = torch.Generator().manual_seed(1)
    return torch.randint(1, VOCABULARY, (TEXTS, length), generator=luck)


def sampler(network: Any, cached: bool = True) -> Callable[[], Any]:
    """Return a function that samples responses, with their log-probabilities."""
    import torch

    from rlbook_utils.nets import sampling

    prompts, luck = some_texts(PROMPT), torch.Generator().manual_seed(2)

    def draw() -> Any:
        made = sampling.sample(network, prompts, None, NEW, luck, cached=cached)
        return made.tokens

    return draw


def per_token(
    ours: Callable[[], object], peer: Callable[[], object], tick: Tick, tokens: int
) -> Measured:
    """Time both and divide by the tokens, in microseconds; note tokens per second."""
    timing = alternate(ours, peer, tick)
    seconds = (timing.ours, timing.peer)
    speeds = [f"{tokens / t:,.0f}" for t in seconds]
    note = f"tokens per second: ours {speeds[0]}, peer {speeds[1]}"
    micro = [1e6 * t / tokens for t in seconds]
    return Measured(micro[0], micro[1], tokens, None, timing.memory_mb, note)


@row("sampling with a cache of keys and values beside none", "us a token")
def lm_cache(tick: Tick) -> Measured:
    """Measure 64 responses of 40 tokens to prompts of 8, no end token."""
    network = small_gpt()
    return per_token(sampler(network), sampler(network, False), tick, TEXTS * NEW)


@row("sampling beside transformers' generate, same weights", "us a token", aim=2)
def lm_generate(tick: Tick) -> Measured:
    """Measure the same responses; both return tokens and their log-probabilities."""
    network = small_gpt()
    peer = peers.generator(peers.gpt2_like(network), some_texts(PROMPT), NEW)
    return per_token(sampler(network), peer, tick, TEXTS * NEW)


def trainer(network: Any, texts: Any, steps: int) -> Callable[[], list[float]]:
    """Return a function that trains on a batch of texts, each token but the first."""
    import torch

    from rlbook_utils import lm_policy

    mask = torch.ones_like(texts, dtype=torch.bool)
    scored = mask.clone()
    scored[:, 0] = False

    def train() -> list[float]:
        made = lm_policy.train_sft(
            network, lambda: (texts, mask, scored), steps, every=steps
        )
        return made.loss

    return train


@row("training beside transformers' GPT-2, same weights", "us a token")
def lm_train(tick: Tick) -> Measured:
    """Measure 30 steps of Adam on 64 rows of 24 tokens, gradients cut to norm 1."""
    network, steps, length = small_gpt(), 30, 24
    texts = some_texts(length)
    peer = peers.plain_trainer(peers.gpt2_like(network), texts, steps)
    ours = trainer(network, texts, steps)
    return per_token(ours, peer, tick, TEXTS * length * steps)


def some_language_model() -> Any:
    """Return a network of .8 million weights: 4 layers of width 128, 64 tokens."""
    import torch

    from rlbook_utils.nets.transformer import GPT

    dice = torch.Generator().manual_seed(0)
    return GPT(64, 32, dice, width=128, layers=4, heads=4)


def dpo_race(tick: Tick, precompute: bool) -> Measured:
    """Measure 20 steps on 64 pairs of 32 tokens, the first 8 of them a prompt.

    Ours computes the reference's log-probabilities once in every call.
    """
    import torch

    from rlbook_utils import dpo

    steps, count, prompt, beta, lr = 20, 64, 8, 0.1, 5e-4
    dice, network = torch.Generator().manual_seed(1), some_language_model()
    chosen, rejected = torch.randint(2, 64, (2, count, 32), generator=dice)
    rejected[:, :prompt] = chosen[:, :prompt]
    sides = []
    for tokens in (chosen, rejected):
        tokens[:, -1] = 1
        response = (torch.arange(32) >= prompt).expand_as(tokens)
        sides.append((tokens, torch.ones_like(response), response))
    pairs, loss = (chosen, rejected), functools.partial(dpo.dpo_loss, beta=beta)
    peer = peers.trl_dpo(network, pairs, prompt, steps, beta, lr, precompute)

    def ours() -> None:
        dpo.train_dpo(network, *sides, loss, steps, dice, batch=count, lr=lr)

    timing = alternate(ours, peer, tick)
    milli = [1e3 * seconds / steps for seconds in (timing.ours, timing.peer)]
    return Measured(*milli, steps, None, timing.memory_mb)


@row("DPO beside TRL's trainer, same network and pairs", "ms a step", aim=1.5)
def dpo_trl(tick: Tick) -> Measured:
    """Measure TRL asking the reference in each step, as it does by default."""
    return dpo_race(tick, precompute=False)


@row("the same, TRL's reference computed beforehand", "ms a step")
def dpo_trl_precomputed(tick: Tick) -> Measured:
    """Measure what remains when both save the reference's pass."""
    return dpo_race(tick, precompute=True)


@row("GRPO beside TRL's trainer, same network and reward", "ms a step", aim=1.4)
def grpo_trl(tick: Tick) -> Measured:
    """Measure 4 steps of 32 prompts x 8 responses x 16 new tokens, sampling included.

    Prompts have 8 tokens, no response ends early, the reward is the share of even
    tokens, there is no KL: both sample with a cache and read everything once more.
    """
    import torch

    from rlbook_utils import grpo

    steps, count, prompt, lr = 4, 32, 8, 5e-4
    dice, network = torch.Generator().manual_seed(1), some_language_model()
    heads = torch.randint(2, 64, (count, prompt), generator=dice)
    peer = peers.trl_grpo(network, heads, 8, 16, steps, lr)
    recipe = grpo.Recipe(16, count, 8, lr=lr)

    def even(tokens: Any, mask: Any, response: Any) -> Any:
        return (tokens[:, prompt:] % 2 == 0).float().mean(1)

    def ours() -> None:
        start = heads, torch.ones_like(heads, dtype=torch.bool)
        grpo.train_grpo(network, even, start, steps, recipe, dice)

    timing = alternate(ours, peer, tick)
    milli = [1e3 * seconds / steps for seconds in (timing.ours, timing.peer)]
    return Measured(*milli, steps, None, timing.memory_mb)


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


def peer_versions() -> dict[str, str]:
    """Return the versions of the peers that this process has imported."""
    names = {
        "quantecon": "quantecon",
        "mdptoolbox": "pymdptoolbox",
        "stable_baselines3": "stable-baselines3",
        "gymnasium": "gymnasium",
        "trl": "trl",
        "transformers": "transformers",
    }
    return {
        name: importlib.metadata.version(name)
        for module, name in names.items()
        if module in sys.modules
    }


def in_a_process(name: str, pipe: Connection) -> None:
    """Measure a row; send its progress, then the row or what went wrong."""
    from rlbook_utils.core import runtime

    runtime.set_threads(1)
    try:
        spec = ROWS[name]
        measured = spec.measure(lambda done, of: pipe.send(("tick", done, of)))
        made = finished(name, measured, runtime.versions() | peer_versions())
        pipe.send(("row", made._asdict(), measured.note))
    except KeyboardInterrupt:
        pass
    except Exception as error:
        pipe.send(("error", f"{name}: {type(error).__name__}: {error}"))


def measure(name: str, progress: Progress) -> tuple[Row, str]:
    """Measure a row in a process of its own; return it and what there is to say."""
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
                return Row(**rest[0]), rest[1]
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
    notes: dict[str, str] = {}
    failures: list[str] = []
    columns = (TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn())
    try:
        names = selected(args.only)
        with Progress(*columns, console=console, transient=True) as progress:
            whole = progress.add_task("all", total=len(names))
            for name in names:
                try:
                    made, notes[name] = measure(name, progress)
                    rows.append(made)
                    keep(RESULTS, made)
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
            said = filter(None, (ROWS[row.name].says, notes[row.name]))
            console.print(f"{row.name}: {'. '.join(said)}", highlight=False)
        for line in slopes(rows):
            console.print(line, highlight=False)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures and failures[-1].startswith("interrupted"):
        return 130
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
