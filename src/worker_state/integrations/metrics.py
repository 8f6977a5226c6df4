"""The metrics of one worker in Prometheus' text format, made by the official client. The only file that imports it.

A new metric is one line of `collect`; what the snapshot does not have is counted in `protocol/counters.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from worker_state.integrations.readiness import last_acknowledged
from worker_state.protocol import counters as c
from worker_state.protocol.state import State

PREFIX = "worker_state_"


def exposition(state: State, counts: c.Counters, *, lag: float, wall_ahead: float) -> tuple[str, bytes]:
    """Content type and text. `wall_ahead`: Unix time less trio's, in seconds."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(state, counts, lag, wall_ahead))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


@dataclass(frozen=True, eq=False)  # a registry hashes it
class _Scrape(Collector):
    state: State
    counts: c.Counters
    lag: float
    wall_ahead: float

    def collect(self) -> Iterator[Metric]:
        state, counts = self.state, self.counts
        ack = last_acknowledged(state)
        acked_at = 0.0 if ack is None else ack + self.wall_ahead
        drifted, dropped = counts.of(c.DRIFTED), state.signals_dropped
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

    def _labelled(self, name: str, label: str, what: str, family: str) -> Metric:
        metric = CounterMetricFamily(PREFIX + name, what, labels=[label])
        for value, number in self.counts.labels(family):
            metric.add_metric([value], number)
        return metric


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, what, value=value)


def _counter(name: str, what: str, value: int) -> Metric:
    return CounterMetricFamily(PREFIX + name, what, value=value)
