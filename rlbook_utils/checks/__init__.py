"""Checkers for the exercises, one module a chapter: they say what is wrong.

In a chapter: ``from rlbook_utils.checks import bandits as check``, then
``check.name(your_function)``.
"""
