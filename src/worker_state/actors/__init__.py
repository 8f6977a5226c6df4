"""The four actors. They never import each other: what one has for another, it publishes to the supervisor.

The worker's cancel reaches the cleanup actor alone. The others are shielded, and end when the worker leaves.
"""
