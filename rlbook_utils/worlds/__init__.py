"""Worlds to act in: exact tabular MDPs and their standard examples."""
