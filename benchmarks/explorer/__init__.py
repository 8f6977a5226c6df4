"""An explorer of one worker and its server: every order of events, up to a depth. `benchmarks/explore.py` runs it.

**Real** are the registration actor and the status actor, `protocol/`, the supervisor's routing tables and its rule
about events of older links, and the rules of the development server (v2).

**Modelled** (`models.py`), each as a small pure class:

- the runner: an actor's turn is all events that have come, then what is due;
- the connection actor, its link and the dial: one stage at a time, with constant pauses in place of the reconnect
  policy's (which nothing here judges), without pings and time limits of a send;
- the cleanup actor, over the real `PeerListing`: a deletion's three tries are one call;
- `ApiCalls` and httpx: a call succeeds, fails, is done and its answer lost, or hangs;
- TCP: two queues of each socket. What the worker has sent survives its socket, until the server notices the end.

**Left out**: chance (each draw gives the middle), API keys, other peers, a machine or process that stands still.

What is further away than `canonical.FAR` counts as equal. So two states are told apart by what can happen within
minutes, and the natural end of a token or a room is looked at in one calm run (`quiet.calm`) instead.
"""
