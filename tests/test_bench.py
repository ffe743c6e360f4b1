"""The bench: its arithmetic, its format, and that both sides do the same thing."""

import functools
import json
import math
import subprocess
import sys
from pathlib import Path

import bench
import numpy as np
import peers
import pytest
import torch
from rich.console import Console

from rlbook_utils import bandits, td
from rlbook_utils.worlds import grids

KEYS = [
    "name",
    "ours",
    "peer",
    "unit",
    "ratio",
    "aim",
    "memory_mb",
    "n",
    "seeds",
    "versions",
]


def a_row(name="thompson", ours=2.0, peer=300.0):
    measured = bench.Measured(ours, peer, 1000, 10, 250.0)
    return bench.finished(name, measured, {"torch": "2"})


def test_a_row_has_the_agreed_keys_and_its_ratio():
    row = a_row()
    assert list(row._asdict()) == KEYS
    assert row.ratio == 150
    assert json.loads(json.dumps(row._asdict())) == row._asdict()


def test_a_row_without_a_peer_has_no_ratio_and_no_verdict():
    row = a_row("render", peer=None)
    assert row.ratio is None and bench.verdict(row) == ""


@pytest.mark.parametrize(("peer", "says"), [(260.0, "reached"), (259.0, "missed")])
def test_the_aim_is_compared_with_the_ratio(peer, says):
    assert bench.verdict(a_row(peer=peer)) == says


def test_a_missed_aim_is_in_the_table_with_its_value():
    console = Console(width=120)
    with console.capture() as shown:
        console.print(bench.table([a_row(peer=100.0)]))
    assert "50" in shown.get() and "130" in shown.get() and "missed" in shown.get()


def test_ours_and_the_peer_take_turns_and_the_medians_count():
    calls, ticks, now = [], [], [0.0]
    seconds = {"ours": iter([9, 5, 1, 3, 2, 4]), "peer": iter([9, 50, 10, 30, 90, 40])}

    def side(name):
        def run():
            calls.append(name)
            now[0] += next(seconds[name])

        return run

    timing = bench.alternate(
        side("ours"),
        side("peer"),
        lambda *done: ticks.append(done),
        clock=lambda: now[0],
    )
    assert calls == ["ours", "peer"] * 6
    assert (timing.ours, timing.peer) == (3, 40)
    assert timing.memory_mb > 10
    assert ticks == [(done, 5) for done in range(6)]


def test_a_slow_peer_is_called_once_and_its_only_time_counts():
    calls, now = [], [0.0]

    def peer():
        calls.append("peer")
        now[0] += 31.0

    timing = bench.alternate(int, peer, lambda *_: None, clock=lambda: now[0])
    assert calls == ["peer"] and timing.peer == 31


def test_a_peer_is_stopped_after_its_time():
    went_on = []
    with bench.stopped_after(0.01):
        while True:
            pass
        went_on.append(True)
    assert not went_on


def test_nanoseconds_are_per_pull_of_each_side(monkeypatch):
    timing = bench.Timing(2.0, 3.0, 100.0)
    monkeypatch.setattr(bench, "alternate", lambda *_: timing)
    measured = bench.per_pull(print, print, print, (1000, 10), 5)
    assert measured.ours == pytest.approx(2e6)
    assert measured.peer == pytest.approx(3e8)


def test_an_unknown_row_is_one_line_with_the_known_names(capsys):
    assert bench.main(["--only", "nothing"]) == 1
    said = capsys.readouterr().err.strip()
    assert said == f"error: unknown row 'nothing': known are {', '.join(bench.ROWS)}"


def test_all_rows_are_selected_or_the_one_that_is_named():
    assert bench.selected("") == list(bench.ROWS)
    assert bench.selected("testbed") == ["testbed"]


def test_a_new_row_replaces_its_old_one_and_keeps_the_others(tmp_path):
    path = tmp_path / "_build" / "bench.json"
    bench.keep(path, a_row("testbed"))
    bench.keep(path, a_row("thompson", peer=100.0))
    bench.keep(path, a_row("thompson", peer=400.0))
    kept = json.loads(path.read_text())
    assert [(entry["name"], entry["peer"]) for entry in kept] == [
        ("thompson", 400),
        ("testbed", 300),
    ]
    assert [p.name for p in path.parent.iterdir()] == ["bench.json"]


def test_a_broken_file_of_results_is_replaced(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text("[{")
    bench.keep(path, a_row())
    assert json.loads(path.read_text())[0]["name"] == "thompson"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.6249, "0.625"), (56.94, "56.9"), (132274.4, "132,274")],
)
def test_numbers_have_three_digits(value, text):
    assert bench.number(value) == text


@pytest.mark.parametrize(
    ("peer", "policy"),
    [
        (peers.beta_loop, bandits.thompson()),
        (
            functools.partial(peers.autograd_loop, rate=bench.RATE),
            bandits.reinforce_adam(bench.RATE, bench.RATE),
        ),
    ],
)
def test_a_bernoulli_peer_loses_as_much_as_ours(peer, policy):
    steps, runs = 40, 60
    theirs = torch.tensor(peer(bench.ARMS, steps=steps, runs=runs, seed=1)).sum(1)
    ours = bench.bernoulli_run(policy, steps, 2000)().regret.sum(1)
    assert_same_mean(ours, theirs)


def test_the_testbed_peer_loses_as_much_as_ours():
    steps, runs = 60, 400
    theirs = torch.tensor(peers.numpy_loop(10, steps, runs, seed=1)).sum(1)
    luck = torch.Generator().manual_seed(0)
    world = bandits.ten_armed_testbed(4000, luck)
    ours = bandits.run(bandits.epsilon_greedy(0.1), world, steps, 4000, luck).regret
    assert_same_mean(ours.sum(1), theirs)


def test_no_peer_is_imported_with_the_bench():
    names = (
        "quantecon mdptoolbox scipy numba stable_baselines3 gymnasium trl transformers"
    )
    code = (
        f"import bench, sys; print([n for n in '{names}'.split() if n in sys.modules])"
    )
    tools = Path(bench.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tools, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("method", bench.METHODS)
def test_our_solvers_have_the_error_they_are_timed_for(method):
    world = bench.slippery_grid(2)
    exact = world.solve().values
    found = bench.our_solver(world, method)()
    assert np.abs(found.values - exact).max() <= bench.ERROR
    assert bench.residual_bound(world, exact) < 1e-12
    said = bench.described(world, found, 1e-3, exact)
    assert said.startswith(f"{found.sweeps} sweeps of {1e4 / found.sweeps:.3g} ns")


def test_the_grids_have_the_sizes_of_their_names():
    assert all(a * b == 10**power for power, (a, b) in bench.SHAPES.items())
    world = bench.slippery_grid(3)
    assert world.states == 1000 and world.terminal.sum() == 2
    assert np.isclose(world.probabilities, 0.8).sum() == 4 * 1000


def test_an_error_above_the_limit_is_refused_and_a_stopped_peer_is_told():
    world = bench.slippery_grid(2)
    exact = world.solve().values
    assert bench.described(world, None, 60.0, exact) == "stopped after 60 s"
    wrong = peers.Solved(exact + 3 * bench.ERROR, 5)
    with pytest.raises(RuntimeError, match="an error of 3.00e-08 is above 1e-08"):
        bench.described(world, wrong, 1.0, exact)


def test_both_solvers_of_a_race_are_checked_and_noted():
    world = bench.slippery_grid(2)
    ours = bench.our_solver(world, "value_iteration")
    measured = bench.solver_race(world, ours, lambda: ours, lambda *_: None)
    assert measured.n == 100 and measured.seeds is None
    assert measured.note.count("sweeps of") == 2
    bad = peers.Solved(np.zeros(100), 1)
    with pytest.raises(RuntimeError, match="is above"):
        bench.solver_race(world, ours, lambda: lambda: bad, lambda *_: None)


def test_slopes_are_those_of_the_rows_of_a_family():
    def timed(power, ours, peer):
        return a_row(f"vi_1e{power}", ours, peer)._replace(n=10**power)

    rows = [timed(2, 1, 3), timed(3, 10, 300), timed(4, 100, 30_000), a_row()]
    assert bench.slopes(rows) == [
        "vi: log time against log S has slope 1.00, the peer's 2.00"
    ]
    assert bench.slopes(rows[:1]) == []


def test_the_fastest_solver_is_chosen_by_its_second_call(monkeypatch):
    now = [0.0]
    seconds = {"a": iter([1, 5]), "b": iter([9, 2])}

    def solver(name):
        def solve():
            now[0] += next(seconds[name])

        return solve

    monkeypatch.setattr(bench.time, "perf_counter", lambda: now[0])
    assert bench.fastest({name: solver(name) for name in "ab"})[0] == "b"


@pytest.mark.parametrize("method", td.METHODS)
def test_the_plain_learner_earns_as_much_as_ours(method):
    world, episodes, runs = grids.cliff(), 25, 60
    theirs = [peers.plain_learner(world, method, episodes, k)[0] for k in range(runs)]
    rng = np.random.default_rng(0)
    ours = td.control(world, method, episodes, 1000, rng).returns
    assert_same_mean(ours.sum(1), np.sum(theirs, axis=1))


def test_both_sides_of_the_ppo_race_solve_and_their_steps_are_noted(monkeypatch):
    monkeypatch.setattr(bench, "our_ppo", lambda seed: peers.Run(1.0 + seed, 1024))

    def peer(judge, level, seed):
        assert level == bench.LEVEL
        return peers.Run(10.0, None if seed else 4096)

    made = bench.solving_race(lambda *_: None, peer, [0, 1, 2])
    assert (made.ours, made.peer, made.n, made.seeds) == (2.0, 10.0, 1024, 3)
    assert made.note.endswith("peer after 4,096 none none steps")
    monkeypatch.setattr(bench, "our_ppo", lambda seed: peers.Run(1.0, None))
    with pytest.raises(RuntimeError, match="ours missed the level: ours after none"):
        bench.solving_race(lambda *_: None, peer, [0])


def assert_same_mean(ours, theirs):
    """Means within 4 standard errors of their difference."""
    error = math.hypot(ours.std() / len(ours) ** 0.5, theirs.std() / len(theirs) ** 0.5)
    assert abs(ours.mean() - theirs.mean()) < 4 * error
