"""The command line `worker-state`: one file for each command, `options` for what they share, `app` for all of it."""
