"""Grid worlds drawn as text, worlds on a line, and the standard examples of both.

A grid world is a :class:`~rlbook_utils.worlds.mdp.TabularMDP` that also knows where its
states lie on the map and that its four moves are all that its actions mix, which makes
its sweeps several times faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlbook_utils.worlds.mdp import (
    FEW_STATES,
    Array,
    Backup,
    Bools,
    Ints,
    TabularMDP,
    gatherer,
)

BLOCK = 2**15
Fill = Callable[[Array, Array], None]
MOVES = ("left", "down", "right", "up")
STEPS = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])
MAP = {"#": "wall", ".": "free", "S": "start", "G": "goal", "X": "pit", "C": "cliff"}


class GridWorld(TabularMDP):
    """A grid whose states are the cells that are not walls, row by row.

    Made by :func:`grid_world`. Actions are `left, down, right, up`.

    Attributes
    ----------
    cells : (S, 2) array of int
        Row and column of each state.
    shape : tuple of int
        Rows and columns of the map.
    moves : (4, S) array of int
        Where each direction leads.
    mix : (4, 4) array
        Probability of moving in direction d when action a is chosen.
    """

    def __init__(
        self,
        cells: Ints,
        moves: Ints,
        gains: Array,
        slip: float,
        shape: tuple[int, ...],
        gamma: float,
        start: ArrayLike | None,
        terminal: ArrayLike,
    ) -> None:
        self.cells, self.shape, self.moves = cells, shape, moves
        weights = np.array([1 - slip, slip / 2, slip / 2] if slip else [1.0])
        taken = (np.arange(4)[:, None] + [0, -1, 1][: len(weights)]) % 4
        self.mix = np.zeros((4, 4))
        np.put_along_axis(self.mix, taken, weights[None], axis=1)
        after = np.moveaxis(moves[taken], 1, 2)
        table = np.broadcast_to(weights, after.shape)
        paid = np.moveaxis(gains[taken], 1, 2)
        super().__init__(table, paid, gamma, start, terminal, successors=after)

    def _blocks(self) -> list[tuple[slice, Fill]]:
        """Return slices of the states, each with a function (values, out (A, n)) for Q.

        All actions share the four neighbors' values, so a sweep reads 4 values a state
        instead of A * m, by shifted copies; a block's work stays in the cache.
        """
        near, mix = np.empty(4 * min(BLOCK, self.states)), self.gamma * self.mix
        reward = self.r.T

        def fill(first: int) -> tuple[slice, Fill]:
            part = slice(first, first + BLOCK)
            gather, paid = gatherer(self.moves[:, part], first), reward[:, part]
            work = near[: paid.size].reshape(paid.shape)

            def block(values: Array, out: Array) -> None:
                gather(values, work)
                np.matmul(mix, work, out=out)
                np.add(out, paid, out=out)

            return part, block

        return [fill(first) for first in range(0, self.states, BLOCK)]

    def backup(self) -> Backup:
        """Return the function of :meth:`TabularMDP.backup`, block by block."""
        if self.states <= FEW_STATES:
            return super().backup()
        q, blocks = np.empty((self.actions, self.states)), self._blocks()

        def mix_neighbors(values: Array) -> Array:
            for part, block in blocks:
                block(values, q[:, part])
            return q

        return mix_neighbors

    def best_backup(self) -> Fill:
        """Return the function of :meth:`TabularMDP.best_backup`, block by block."""
        if self.states <= FEW_STATES:
            return super().best_backup()
        q, blocks = np.empty((self.actions, min(BLOCK, self.states))), self._blocks()

        def sweep(values: Array, out: Array) -> None:
            for part, block in blocks:
                best = out[part]
                block(values, q[:, : len(best)])
                np.max(q[:, : len(best)], axis=0, out=best)

        return sweep

    def picture(self, values: ArrayLike) -> Array:
        """Return values (S,) on the map, (rows, columns), NaN where there is no state.

        Example: ``grid_world("S#G").picture([1.0, 0.0])`` is ``[[1, nan, 0]]``.
        """
        image = np.full(self.shape, math.nan)
        image[self.cells[:, 0], self.cells[:, 1]] = values
        return image


def _parse(text: str) -> NDArray[np.str_]:
    lines = [line.strip() for line in text.strip().splitlines()]
    if not lines or not lines[0]:
        raise ValueError("the map is empty")
    for number, line in enumerate(lines):
        if len(line) != len(lines[0]):
            raise ValueError(
                f"row {number} of the map has {len(line)} cells, row 0 {len(lines[0])}"
            )
        strange = set(line) - set(MAP)
        if strange:
            raise ValueError(
                f"row {number} of the map has {min(strange)!r}: cells are "
                + ", ".join(f"{mark} {name}" for mark, name in MAP.items())
            )
    return np.array([list(line) for line in lines])


def _landing(marks: NDArray[np.str_], cells: Ints, wind: Ints) -> Ints:
    """Return the cells (4, S, 2) that the four moves lead to, walls and edges kept."""
    passable = np.pad(marks != "#", 1)

    def advance(places: Ints, step: Ints) -> Ints:
        target = places + step
        free = passable[target[:, 0] + 1, target[:, 1] + 1]
        return np.where(free[:, None], target, places)

    landed = []
    for down, right in STEPS:
        net = down - wind[cells[:, 1]]
        places = advance(cells, np.array([0, right]))
        for k in range(int(np.abs(net).max())):
            sign = np.where(np.abs(net) > k, np.sign(net), 0)
            places = advance(places, np.column_stack([sign, np.zeros_like(sign)]))
        landed.append(places)
    return np.stack(landed)


def _paid(marks: NDArray[np.str_], step: float, rewards: Mapping[str, float]) -> Array:
    """Return what entering each cell pays, (rows, columns)."""
    paid = np.full(marks.shape, step, np.float64)
    for mark, reward in rewards.items():
        if mark not in MAP:
            raise ValueError(f"rewards names {mark!r}: no mark of maps")
        paid[marks == mark] = reward
    return paid


def grid_world(
    text: str,
    gamma: float = 0.95,
    *,
    slip: float = 0.0,
    step: float = 0.0,
    rewards: Mapping[str, float] | None = None,
    wind: Sequence[int] | None = None,
) -> GridWorld:
    """Return the grid world drawn in a text map.

    Cells are ``#`` wall, ``.`` free, ``S`` start, ``G`` goal and ``X`` pit (both end
    the episode), ``C`` cliff (back to the start, not an end). The chosen direction is
    taken with probability 1 - slip, each of the two at right angles to it with slip/2;
    a move into a wall or over the edge leaves the agent where it is. A move pays
    rewards[mark of the cell entered], or `step` where that mark is not named.

    Parameters
    ----------
    text : str
        Rows of equal length; blanks around a row do not count.
    gamma : float
        Discount, in [0, 1].
    slip : float
        In [0, 1].
    step : float
        Reward of a move.
    rewards : mapping of str to float, optional
        By mark of the cell entered; default ``{"G": 1.0, "X": -1.0}``.
    wind : sequence of int, optional
        Cells by which each column pushes up what leaves it; negative is down.

    Returns
    -------
    GridWorld
        It starts on ``S`` (uniformly where there are several), or anywhere that is no
        end where there is none.

    Raises
    ------
    ValueError
        If the map is empty, uneven, has an unknown mark, no cell, or a cliff without
        exactly one start; if `slip` is outside [0, 1], `wind` has not one number per
        column, `rewards` an unknown mark; and as :class:`TabularMDP`.

    Notes
    -----
    Source: Sutton and Barto (2018), examples 6.5 (wind), 6.6 (cliff), 8.1 (maze).

    Examples
    --------
    >>> grid_world("S..G", gamma=0.9).solve().values.round(9).tolist()
    [0.81, 0.9, 1.0, 0.0]
    """
    marks = _parse(text)
    if not 0 <= slip <= 1:
        raise ValueError(f"slip is {slip}: it must be in [0, 1]")
    push = np.zeros(marks.shape[1], np.intp) if wind is None else np.asarray(wind)
    if push.shape != marks.shape[1:]:
        raise ValueError(
            f"wind has {push.size} numbers, the map {marks.shape[1]} columns"
        )
    paid = _paid(marks, step, {"G": 1.0, "X": -1.0} if rewards is None else rewards)
    cells = np.argwhere((marks != "#") & (marks != "C"))
    if not len(cells):
        raise ValueError("the map has no cell that is a state")
    kinds = marks[cells[:, 0], cells[:, 1]]
    starts = np.flatnonzero(kinds == "S")
    if (marks == "C").any() and len(starts) != 1:
        raise ValueError(f"a map with a cliff needs one start: it has {len(starts)}")
    number = np.full(marks.shape, starts[0] if len(starts) else -1)
    number[cells[:, 0], cells[:, 1]] = np.arange(len(cells))
    landed = _landing(marks, cells, push)
    places = landed[..., 0], landed[..., 1]
    moves, gains = number[places], paid[places]
    ends = np.isin(kinds, ("G", "X"))
    moves[:, ends], gains[:, ends] = np.flatnonzero(ends), 0.0
    start = (kinds == "S") / len(starts) if len(starts) else None
    return GridWorld(cells, moves, gains, slip, marks.shape, gamma, start, ends)


def cliff(gamma: float = 1.0) -> GridWorld:
    """Return cliff walking: 4 x 12 cells, -1 a move, -100 and back for a fall.

    The shortest way takes 13 moves along the edge.

    Parameters
    ----------
    gamma : float
        Discount, in [0, 1].

    Returns
    -------
    GridWorld
        38 states; the cliff's cells are none.

    Notes
    -----
    Source: Sutton and Barto (2018), example 6.6.

    Examples
    --------
    >>> world = cliff()
    >>> float(world.start @ world.solve().values)
    -13.0
    """
    text = "\n".join(["." * 12] * 3 + ["S" + "C" * 10 + "G"])
    return grid_world(text, gamma, step=-1.0, rewards={"C": -100.0})


def dyna_maze(gamma: float = 0.95) -> GridWorld:
    """Return the Dyna maze: 6 x 9 cells, 7 of them walls, reward 1 at the goal.

    The shortest way takes 14 moves.

    Parameters
    ----------
    gamma : float
        Discount, in [0, 1).

    Returns
    -------
    GridWorld
        47 states.

    Notes
    -----
    Source: Sutton and Barto (2018), example 8.1 and figure 8.2.

    Examples
    --------
    >>> world = dyna_maze()
    >>> bool(np.isclose(world.start @ world.solve().values, 0.95**13))
    True
    """
    text = """
        .......#G
        ..#....#.
        S.#....#.
        ..#......
        .....#...
        .........
    """
    return grid_world(text, gamma)


FROZEN_LAKES = {
    4: "SFFF FHFH FFFH HFFG",
    8: ("SFFFFFFF FFFFFFFF FFFHFFFF FFFFFHFF FFFHFFFF FHHFFFHF FHFFHFHF FFFHFFFG"),
}


def frozen_lake(
    size: int = 4, gamma: float = 0.99, *, slippery: bool = True
) -> GridWorld:
    """Return FrozenLake: reach the goal over ice with holes, reward 1 there, else 0.

    On slippery ice the chosen direction and the two at right angles to it have
    probability 1/3 each.

    Parameters
    ----------
    size : int
        4 or 8, the standard maps.
    gamma : float
        Discount, in [0, 1).
    slippery : bool
        Else every move goes where it should.

    Returns
    -------
    GridWorld
        size^2 states, row by row; actions 0 left, 1 down, 2 right, 3 up.

    Raises
    ------
    ValueError
        If `size` is neither 4 nor 8.

    Notes
    -----
    Source: the FrozenLake-v1 environment of Gymnasium (Farama Foundation).

    Examples
    --------
    >>> frozen_lake().solve().values[0].round(4)
    np.float64(0.542)
    """
    if size not in FROZEN_LAKES:
        raise ValueError(f"size is {size}: it must be 4 or 8")
    text = FROZEN_LAKES[size].translate(str.maketrans("FH ", ".X\n"))
    slip = 2 / 3 if slippery else 0.0
    return grid_world(text, gamma, slip=slip, rewards={"G": 1.0})


# Worlds on a line


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}: it must be at least {least}")


def grid_1d(
    length: int, gamma: float = 0.9, left: float = 0.0, right: float = 1.0
) -> TabularMDP:
    """Return a corridor with a prize at each end.

    States are 0 ... S - 1; action 0 goes left, 1 right; both ends are terminal, and
    entering them pays `left` and `right`. For prizes >= 0 and 0 < s < S - 1,
    V*(s) = max(left gamma^(s - 1), right gamma^(S - 2 - s)).

    Parameters
    ----------
    length : int
        S, at least 3.
    gamma : float
        Discount, in [0, 1).
    left, right : float
        Rewards of entering the ends.

    Returns
    -------
    TabularMDP
        It starts in the middle, at S // 2.

    Raises
    ------
    ValueError
        If `length` < 3; and as :class:`TabularMDP`.

    Examples
    --------
    >>> grid_1d(5, gamma=0.5).solve().values.tolist()
    [0.0, 0.25, 0.5, 1.0, 0.0]
    """
    _at_least("length", length, 3)
    here = np.arange(length)
    after = np.clip(np.stack([here - 1, here + 1]), 0, length - 1)
    after[:, [0, -1]] = here[[0, -1]]
    reward = np.zeros((length, 2))
    reward[1, 0], reward[-2, 1] = left, right
    ends = [0, length - 1]
    moves, sure = after[..., None], np.ones((2, length, 1))
    return TabularMDP(sure, reward, gamma, length // 2, ends, successors=moves)


def chain(length: int = 5, slip: float = 0.2, gamma: float = 0.95) -> TabularMDP:
    """Return the chain: a small prize at once or a large one after many steps.

    Action 0 goes one state up and pays 0, but 10 where it stays in the last state;
    action 1 goes back to state 0 and pays 2. With probability `slip` the other action's
    effect happens. It never ends. Greedy exploration settles for the 2.

    Parameters
    ----------
    length : int
        S, at least 2.
    slip : float
        In [0, 1].
    gamma : float
        Discount, in [0, 1).

    Returns
    -------
    TabularMDP
        It starts in state 0.

    Raises
    ------
    ValueError
        If `length` < 2; and as :class:`TabularMDP`.

    Notes
    -----
    Source: Strens (2000), A Bayesian framework for reinforcement learning, section 6.

    Examples
    --------
    >>> chain().solve().policy.tolist()
    [0, 0, 0, 0, 0]
    """
    _at_least("length", length, 2)
    up = np.minimum(np.arange(length) + 1, length - 1)
    after = np.stack([up, np.zeros(length, np.intp)], axis=-1)
    paid = np.zeros((length, 2))
    paid[-1, 0], paid[:, 1] = 10.0, 2.0
    weights = np.array([[1 - slip, slip], [slip, 1 - slip]])
    table = np.broadcast_to(weights[:, None], (2, length, 2))
    both = (2, length, 2)
    return TabularMDP(
        table,
        np.broadcast_to(paid, both),
        gamma,
        0,
        successors=np.broadcast_to(after, both),
    )


def random_walk(length: int = 19, gamma: float = 1.0) -> TabularMDP:
    """Return the random walk: one action, a step to either side with probability 1/2.

    States 1 ... length are inside; 0 and length + 1 are terminal and pay -1 and +1 on
    entry. With gamma = 1, V(s) = 2 s/(length + 1) - 1.

    Parameters
    ----------
    length : int
        Number of states that are not terminal, at least 1.
    gamma : float
        Discount, in [0, 1].

    Returns
    -------
    TabularMDP
        It starts in the middle.

    Raises
    ------
    ValueError
        If `length` < 1; and as :class:`TabularMDP`.

    Notes
    -----
    Source: Sutton and Barto (2018), example 7.1.

    Examples
    --------
    >>> random_walk(3).solve().values.round(9).tolist()
    [0.0, -0.5, 0.0, 0.5, 0.0]
    """
    _at_least("length", length, 1)
    ends = [0, length + 1]
    here = np.arange(length + 2)
    after = np.stack([here - 1, here + 1], axis=-1)
    after[ends] = np.array(ends)[:, None]
    paid = np.zeros(after.shape)
    paid[1, 0], paid[length, 1] = -1.0, 1.0
    half = np.full((1, *after.shape), 0.5)
    start = (length + 1) // 2
    return TabularMDP(half, paid[None], gamma, start, ends, successors=after[None])


def short_corridor() -> TabularMDP:
    """Return the corridor with switched actions: -1 a step, gamma = 1.

    Action 0 goes left, 1 right, but in state 1 the other way round; state 3 ends. A
    policy that cannot tell the states apart and goes right with probability p has
    V(0) = -2 (2 - p)/(p (1 - p)), best at p = 2 - sqrt 2 where it is -11.657.

    Returns
    -------
    TabularMDP
        4 states; it starts in state 0.

    Notes
    -----
    Source: Sutton and Barto (2018), example 13.1.

    Examples
    --------
    >>> world = short_corridor()
    >>> float(world.evaluate([[0.41, 0.59]] * 4)[0].round(3))
    -11.658
    """
    after = np.array([[0, 2, 1, 3], [1, 0, 3, 3]])[..., None]
    reward = np.array([-1.0, -1.0, -1.0, 0.0])[:, None].repeat(2, axis=1)
    return TabularMDP(np.ones((2, 4, 1)), reward, 1.0, 0, [3], successors=after)


def bias_trap(arms: int = 10, outcomes: int = 41) -> tuple[TabularMDP, Bools]:
    """Return a world in which the largest of many noisy estimates lures, and a mask.

    In state 0, action 0 leads to state 1 and action 1 to the end, both for 0; each of
    the arms of state 1 pays -.1 in the mean with variance 1 and ends. The rewards are
    those of N(-.1, 1) at equally likely quantiles, scaled to variance 1.

    Parameters
    ----------
    arms : int
        Actions of state 1, at least 2; state 0 has two.
    outcomes : int
        Rewards that an arm can pay, at least 2.

    Returns
    -------
    tuple of TabularMDP and (3, arms) array of bool
        The world, and the actions that each state has.

    Raises
    ------
    ValueError
        If a number is below 2.

    Notes
    -----
    Source: Sutton and Barto (2018), example 6.7, with quantiles for the normal law.

    Examples
    --------
    >>> world, allowed = bias_trap()
    >>> world.solve().values.round(9).tolist(), allowed.sum(1).tolist()
    ([0.0, -0.1, 0.0], [2, 10, 10])
    """
    _at_least("arms", arms, 2)
    _at_least("outcomes", outcomes, 2)
    middle = (np.arange(outcomes) + 0.5) / outcomes
    normal = np.array([NormalDist().inv_cdf(p) for p in middle])
    after = np.full((arms, 3, outcomes), 2)
    after[0, 0] = 1
    paid = np.zeros(after.shape)
    paid[:, 1] = normal / normal.std() - 0.1
    sure = np.full(after.shape, 1 / outcomes)
    allowed = np.ones((3, arms), np.bool_)
    allowed[0, 2:] = False
    return TabularMDP(sure, paid, 1.0, 0, [2], successors=after), allowed
