"""The command line `worker-state`: one file for each command, `shared_options` for several, `app` for all of them.

`run_worker`, `run_health`, `watch_room` and `offer_job` need trio and rich, which `--help` does not load.
"""
