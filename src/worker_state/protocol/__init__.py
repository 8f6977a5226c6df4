"""The pure core: what is decided, never how it is carried out.

Nothing in here imports trio, httpx, logging, a clock or a global random generator: time and randomness come in as
arguments, so that every decision can be tested as a plain function call.
"""
