"""What a page of the book needs: figures, checked claims, notebook set-up.

This package knows no reinforcement learning. It draws on matplotlib and
IPython, and imports torch only where the caller asks for a device.
"""

from rlbook_utils.page import claims, plotting
from rlbook_utils.page.interact import choice, interactive, slider, switch
from rlbook_utils.page.plotting import figure
from rlbook_utils.page.setup import setup
from rlbook_utils.page.study import study

__all__ = [
    "choice",
    "claims",
    "figure",
    "interactive",
    "plotting",
    "setup",
    "slider",
    "study",
    "switch",
]
