"""The short corridor, whose states an agent cannot tell apart."""

from __future__ import annotations

import numpy as np

from rlbook_utils.worlds.mdp import TabularMDP


def short_corridor() -> TabularMDP:
    """Return Sutton and Barto's short corridor with switched actions.

    Three cells and a goal (state 3), start at the left (state 0), -1 a step, gamma 1.
    Action 1 goes right and 0 left, but in cell 1 they are switched; left of cell 0 is
    a wall. All cells look the same, so a policy is one number p = pi(right), with value
    V(start) = (2 p - 4)/(p (1 - p)), largest at p = 2 - sqrt 2.

    Returns
    -------
    TabularMDP

    Notes
    -----
    Source: Sutton and Barto (2018), example 13.1. The value follows from
    v0 = -1 + (1-p) v0 + p v1, v1 = -1 + (1-p) v2 + p v0, v2 = -1 + (1-p) v1.

    Examples
    --------
    >>> world, p = short_corridor(), 2 - 2**0.5
    >>> float(world.evaluate(np.tile([1 - p, p], (4, 1)))[0].round(3))
    -11.657
    """
    after = np.array([[[0], [2], [1], [3]], [[1], [0], [3], [3]]])
    reward = np.array([[-1.0, -1.0]] * 3 + [[0.0, 0.0]])
    sure = np.ones(after.shape)
    return TabularMDP(sure, reward, 1.0, 0, [3], successors=after)
