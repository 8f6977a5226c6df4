"""The Grafana dashboard of workers, as code: `python dashboard.py > dashboard.json`.

It needs the package grafana-foundation-sdk. Change a panel here, write the JSON again, and import that in Grafana.
"""

from grafana_foundation_sdk.builders import common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode, VariableRefresh
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
JOBS = 'job=~"$job"'
HEIGHT = 8  # of a panel; a row is 24 wide


def query(expression: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(SOURCE).expr(expression).legend_format(legend)


def number(title: str, expression: str, what: str) -> stat.Panel:
    panel = stat.Panel().title(title).description(what).datasource(SOURCE).height(4).span(6)
    return panel.with_target(query(expression, title))


def graph(title: str, what: str, unit: str, **queries: str) -> timeseries.Panel:
    """Lines over time; `queries` are the expressions by their legends, in which `_` stands for a space."""
    panel = (
        timeseries.Panel().title(title).description(what).datasource(SOURCE).unit(unit).height(HEIGHT).span(12).min(0)
    )
    for ref, (legend, expression) in zip("ABC", queries.items(), strict=False):
        named = "{{" + legend[3:] + "}}" if legend.startswith("by_") else legend.replace("_", " ")
        panel = panel.with_target(query(expression, named).ref_id(ref))
    return panel


def rate(counter: str, *, by: str) -> str:
    return f"sum by ({by}) (rate({counter}{{{JOBS}}}[$__rate_interval]))"


def time_to_register(quantile: float) -> str:
    classes = f"sum by (le) (rate(worker_state_time_to_register_seconds_bucket{{{JOBS}}}[1h]))"
    return f"histogram_quantile({quantile}, {classes})"


def versions() -> table.Panel:
    found = (
        query(f"count by (version, python) (worker_state_info{{{JOBS}}})", "").format(PromQueryFormat.TABLE).instant()
    )
    panel = table.Panel().title("Versions").description("How many workers run which.").datasource(SOURCE)
    return panel.height(HEIGHT).span(12).with_target(found)


SHARE = ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE)
SHARE = SHARE.steps([Threshold(None, "red"), Threshold(0.5, "yellow"), Threshold(1.0, "green")])
FREE = f'worker_state_status{{status="available",{JOBS}}} * on (job, instance) worker_state_ready{{{JOBS}}}'

DASHBOARD = (
    Dashboard("Workers")
    .uid("worker-state")
    .tags(["worker_state"])
    .refresh("30s")
    .time("now-6h", "now")
    .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    .with_variable(
        QueryVariable("job")
        .label("Job")
        .datasource(SOURCE)
        .query("label_values(worker_state_ready, job)")
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        .multi(True)
        .include_all(True)
    )
    .with_row(Row("The fleet"))
    .with_panel(number("Workers", f"count(worker_state_ready{{{JOBS}}})", "Those that answer the scrape."))
    .with_panel(
        number("Ready", f"avg(worker_state_ready{{{JOBS}}})", "Clients find them with their true status.")
        .unit("percentunit")
        .thresholds(SHARE)
    )
    .with_panel(number("Available", f"sum({FREE})", "Clients find them, and they are free."))
    .with_panel(number("Draining", f"sum(worker_state_draining{{{JOBS}}})", "They take no further job."))
    .with_panel(
        graph(
            "What they do",
            "The workers' own account: the network follows when it can.",
            "short",
            by_status=f"sum by (status) (worker_state_status{{{JOBS}}})",
        )
        .fill_opacity(30)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    )
    .with_panel(
        graph(
            "Ready, each",
            "1: clients find it with its true status.",
            "short",
            by_instance=f"worker_state_ready{{{JOBS}}}",
        )
    )
    .with_row(Row("The link"))
    .with_panel(
        graph(
            "Connected and registered",
            "Workers with a link, and workers that the server has accepted.",
            "short",
            connected=f"sum(worker_state_connected{{{JOBS}}})",
            registered=f"sum(worker_state_registered{{{JOBS}}})",
        )
    )
    .with_panel(
        graph("Dials", "By what came of them.", "ops", by_outcome=rate("worker_state_dials_total", by="outcome"))
    )
    .with_panel(
        graph(
            "Registrations",
            "Answers to register, or their absence.",
            "ops",
            by_result=rate("worker_state_registrations_total", by="result"),
        )
    )
    .with_panel(
        graph(
            "Time to register, within an hour",
            "From the loss of a registration to the next one.",
            "s",
            half=time_to_register(0.5),
            all_but_one_in_a_hundred=time_to_register(0.99),
        )
    )
    .with_panel(
        graph(
            "The longest pause before a dial",
            "0 while all are connected.",
            "s",
            pause=f"max(worker_state_backoff_seconds{{{JOBS}}})",
        )
    )
    .with_panel(
        graph(
            "Evictions and repairs, within an hour",
            "The server forgot a worker whose link was up; a record differed there and was written again.",
            "short",
            evictions=f"sum(increase(worker_state_evictions_total{{{JOBS}}}[1h]))",
            repairs=f"sum(increase(worker_state_drift_repairs_total{{{JOBS}}}[1h]))",
        )
    )
    .with_row(Row("The true status"))
    .with_panel(
        graph(
            "Since the last proof",
            "An echo proves the registration every 20 to 29 s, less often in rooms of more than 800 workers.",
            "s",
            by_instance=f"worker_state_last_proof_age_seconds{{{JOBS}}}",
        )
    )
    .with_panel(
        graph(
            "Since the server's last answer",
            "To anything: a registration, an update, an echo.",
            "s",
            by_instance=f"time() - (worker_state_last_ack_timestamp_seconds{{{JOBS}}} > 0)",
        )
    )
    .with_panel(
        graph(
            "Updates of the record",
            "By their answers.",
            "ops",
            by_result=rate("worker_state_status_updates_total", by="result"),
        )
    )
    .with_row(Row("The process"))
    .with_panel(
        graph(
            "How late the loop was",
            "The longest delay of the last ten seconds. Above 5 s, /health answers 503.",
            "s",
            by_instance=f"worker_state_loop_lag_seconds{{{JOBS}}}",
        )
    )
    .with_panel(
        graph(
            "Signals dropped, within an hour",
            "Messages that the worker's own code did not read in time.",
            "short",
            by_instance=f"sum by (instance) (increase(worker_state_signals_dropped_total{{{JOBS}}}[1h]))",
        )
    )
    .with_panel(versions())
)

if __name__ == "__main__":
    print(JSONEncoder(sort_keys=True, indent=2).encode(DASHBOARD.build()))
