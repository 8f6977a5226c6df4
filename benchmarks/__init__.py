"""What worker_state costs, measured: `python -m benchmarks.one`, `.cycle`, `.local`, `.importtime`.

Every one binds 127.0.0.1 only, ends by itself, and takes `--help` and `--json FILE`. Timings of two runs are not to be
compared: the variants that a table sets side by side were interleaved in one run.
"""
