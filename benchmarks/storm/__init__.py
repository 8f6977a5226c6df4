"""The parts of `benchmarks.storm_live`: the server's process, the clients' process, what a run is, pictures.

The parent only starts, tells and listens; both sides measure themselves and say so several times a second.
"""
