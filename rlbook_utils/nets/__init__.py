"""Networks: multilayer perceptrons, one at a time or one per seed."""
