"""The metrics of one worker in Prometheus' text format, made by the official client. The only file that imports it.

A new metric is one line of `collect`; what the snapshot does not have is counted in `protocol/counters.py`.
"""

import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from worker_state.integrations.readiness import assess, last_acknowledged
from worker_state.protocol import counters as c
from worker_state.protocol.state import State
from worker_state.protocol.status import WorkerStatus

PREFIX = "worker_state_"
INFO = {"version": version("worker-state"), "python": platform.python_version()}


def exposition(state: State, counts: c.Counters, *, now: float, lag: float, wall_ahead: float) -> tuple[str, bytes]:
    """Content type and text. `now`: of trio's clock; `wall_ahead`: Unix time less trio's, in seconds."""
    return CONTENT_TYPE_LATEST, generate_latest(_Scrape(state, counts, now, lag, wall_ahead))


@dataclass(frozen=True)
class _Scrape(Collector):
    state: State
    counts: c.Counters
    now: float
    lag: float
    wall_ahead: float

    def collect(self) -> Iterator[Metric]:
        state, counts = self.state, self.counts
        ack = last_acknowledged(state)
        acked_at = 0.0 if ack is None else ack + self.wall_ahead
        drifted, dropped = counts.of(c.DRIFTED), state.signals_dropped
        yield self._status()
        yield InfoMetricFamily(PREFIX.rstrip("_"), "What runs here.", value=INFO)
        ready = assess(state, self.now).ready
        yield _gauge("ready", "1 while clients find this worker with its true status, as /ready says.", ready)
        yield _gauge("draining", "1 since the worker takes no further job, else 0.", state.draining)
        proved = math.inf if state.proved_at is None else max(0.0, self.now - state.proved_at)
        yield _gauge("last_proof_age_seconds", "Since an echo last proved the registration; +Inf: never.", proved)
        yield _gauge("registered", "1 while the server has accepted this worker, else 0.", state.registered)
        yield _gauge("connected", "1 while there is a link to the server, else 0.", state.connected)
        yield self._labelled("dials", "outcome", "Dials, by what came of them.", c.DIALS)
        yield self._labelled("registrations", "result", "Answers to register, or their absence.", c.REGISTRATIONS)
        yield _counter("evictions", "How often the server forgot this worker while its link was up.", state.evictions)
        yield _counter("drift_repairs", "Records that differed on the server, each written again.", drifted)
        yield self._labelled("status_updates", "result", "Updates of the record, by their answers.", c.UPDATES)
        yield _gauge("last_ack_timestamp_seconds", "Unix time of the server's last answer to us; 0: never.", acked_at)
        yield _gauge("backoff_seconds", "The pause before the next dial; 0 while connected.", counts.pause)
        yield HistogramMetricFamily(
            PREFIX + "time_to_register_seconds",
            "From the loss of a registration (or the start) to the next one.",
            buckets=list(zip([*map(str, c.BOUNDS), "+Inf"], counts.times(), strict=True)),
            sum_value=counts.seconds,
        )
        yield _counter("signals_dropped", "Messages of the worker's other parts that nobody read in time.", dropped)
        yield _gauge("loop_lag_seconds", "The event loop's longest delay of the last ten seconds.", self.lag)

    def _status(self) -> Metric:
        what = "1 for what the worker is doing, 0 for the others."
        metric = GaugeMetricFamily(PREFIX + "status", what, labels=["status"])
        for word in WorkerStatus:
            metric.add_metric([word.value], float(self.state.status is word))
        return metric

    def _labelled(self, name: str, label: str, what: str, family: str) -> Metric:
        metric = CounterMetricFamily(PREFIX + name, what, labels=[label])
        for value, number in self.counts.labels(family):
            metric.add_metric([value], number)
        return metric


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, what, value=value)


def _counter(name: str, what: str, value: int) -> Metric:
    return CounterMetricFamily(PREFIX + name, what, value=value)
