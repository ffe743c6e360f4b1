"""Helper package of the reinforcement-learning book.

One module per chapter, named like the chapter. ``core`` holds what every chapter
shares: devices, generators and statistics.
"""

__version__ = "0.1.0"
