"""The book beside other libraries, which only the bench's environment holds."""

import bench
import numpy as np
import peers
import pytest


@pytest.mark.parametrize("method", [*bench.METHODS, "toolbox"])
def test_a_solver_of_another_library_finds_the_same_values(method):
    world = bench.slippery_grid(2)
    if method == "toolbox":
        solve = peers.toolbox_solver(world, bench.ERROR)
    else:
        solve = peers.quantecon_solver(world, method, bench.ERROR)
    found = solve()
    assert np.abs(found.values - world.solve().values).max() <= bench.ERROR
    assert 20 < found.sweeps < 400
