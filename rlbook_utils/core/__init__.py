"""Ground floor of the package: run-time set-up and statistics.

Nothing here knows what a policy is. Every other module may import this one.
"""
