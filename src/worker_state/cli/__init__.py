"""The command line `worker-state`: one file for each command, `options` for what they share, `app` for all of it.

`run_worker`, `run_health` and `watch_room` need trio and rich, which `--help` does not load.
"""
