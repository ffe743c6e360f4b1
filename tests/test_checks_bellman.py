"""Answers of the checkers of the chapter `bellman`, by hand."""

import numpy as np
import pytest

from rlbook_utils.checks import bellman as check


def test_backups_by_hand():
    # V = (5, 3, 0), gamma .9: riding fresh 2 + .9 (.6 * 5 + .4 * 3) = 5.78,
    # resting fresh .9 * 5 = 4.5, riding tired 1 + .9 * .5 * 3 = 2.35,
    # resting tired .9 (.8 * 5 + .2 * 3) = 4.14.
    backup = check.optimal_backup.oracle(**check.optimal_backup.cases[0])
    np.testing.assert_allclose(backup, [5.78, 4.14, 0.0])
    q = check.q_sweep.oracle(**check.q_sweep.cases[0])
    np.testing.assert_allclose(q[:2], [[5.78, 4.5], [2.35, 4.14]])


def test_the_residual_by_hand():
    # gamma / (1 - gamma) = 9 at gamma .9: residual .001 / 9.
    assert check.stopping_residual.oracle(0.9, 1e-3) == pytest.approx(1e-3 / 9)
