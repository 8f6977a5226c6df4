"""The four actors: thin async shells around the decisions of `core`, one module each.

They never import each other, nor the manager; what one has to say to another goes through `tell`. An actor is a
function `run(inbox, …)` whose parameters show everything that it may touch. The worker's cancel reaches the cleanup
actor alone; the others shield themselves and end when they hear that the worker leaves.
"""
