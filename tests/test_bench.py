"""The bench: its arithmetic, its format, and that both sides do the same thing."""

import functools
import json
import math

import bench
import peers
import pytest
import torch
from rich.console import Console

from rlbook_utils import bandits

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


def assert_same_mean(ours, theirs):
    """Means within 4 standard errors of their difference."""
    error = math.hypot(ours.std() / len(ours) ** 0.5, theirs.std() / len(theirs) ** 0.5)
    assert abs(ours.mean() - theirs.mean()) < 4 * error
