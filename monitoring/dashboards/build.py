"""Build the Grafana dashboard, `candlewick.json`, or compare it with the committed one.

    python -m monitoring.dashboards.build [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

OUTPUT = Path(__file__).with_name("candlewick.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="candlewick-prometheus")
HOPS = ("venue_to_ingest", "close_to_seal", "seal_to_kafka", "close_to_redis", "row_to_prediction")


@dataclass(frozen=True)
class Panel:
    """One panel: PromQL by legend; `red` is where its threshold line lies."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    red: float | None = None
    width: int = 12
    single: bool = False


def _quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{by}[1m])))", f"p{round(q * 100)}")
        for q in (0.5, 0.95, 0.99)
    )


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("Now", (
        Panel("Oldest feature view", (("max(candlewick_feature_age_seconds)", "age"),), "s", 60, 6, single=True),
        Panel("Tier", (("max(candlewick_tier)", "tier"),), "short", 5, 6, single=True),
        Panel("Inference p95", (("candlewick:inference_seconds:p95_5m", "p95"),), "s", 0.1, 6, single=True),
        Panel("Worst drift (PSI)", (("max(candlewick_feature_psi)", "PSI"),), "short", 0.25, 6, single=True),
    )),
    ("Freshness and latency", (
        Panel("Feature age by view", (("candlewick_feature_age_seconds", "{{view}}"),), "s", 60),
        Panel("Close to Redis", _quantiles("candlewick_hop_seconds", '{hop="close_to_redis"}'), "s", 2),
        Panel("Latency by hop, p95", tuple(
            (f'histogram_quantile(0.95, sum by (le) (rate(candlewick_hop_seconds_bucket{{hop="{hop}"}}[1m])))', hop)
            for hop in HOPS), "s"),
        Panel("Inference", _quantiles("candlewick_inference_seconds"), "s", 0.1),
    )),
    ("Flow", (
        Panel("Venue events per second", (
            ("sum by (stream) (rate(candlewick_ingest_events_total[1m]))", "{{stream}}"),), "cps"),
        Panel("Messages per second by topic", (("rate(candlewick_topic_messages_total[1m])", "{{topic}}"),), "cps"),
        Panel("Dead letters per second", ((
            "sum by (component, reason) (rate(candlewick_dead_letters_total[5m]))",
            "{{component}} {{reason}}"),), "cps"),
        Panel("Predictions by tier", (
            ("sum by (tier) (rate(candlewick_predictions_total[1m]))", "tier {{tier}}"),), "cps"),
        Panel("Late trades, book resyncs, reconnects", (
            ("rate(candlewick_late_trades_total[5m])", "late {{symbol}}"),
            ("rate(candlewick_book_resyncs_total[5m])", "resync {{symbol}}"),
            ("rate(candlewick_reconnects_total[5m])", "reconnect")), "cps"),
        Panel("Order book valid", (("candlewick_book_valid", "{{symbol}}"),), "bool_yes_no"),
    )),
    ("Drift against the model's training data", (
        Panel("Population stability index", (("candlewick_feature_psi", "{{feature}}"),), "short", 0.25),
        Panel("Kolmogorov-Smirnov distance", (("candlewick_feature_ks", "{{feature}}"),), "short"),
    )),
    ("Skew certificate: what was served against what raw gives", (
        Panel("Cells that differ", (
            ("candlewick_skew_mismatch_ratio", "{{symbol}} {{feature_view}}"),), "percentunit", 1e-9),
        Panel("Cells compared", (
            ("sum by (symbol) (candlewick_skew_compared_cells)", "{{symbol}}"),
            ("sum by (symbol) (candlewick_skew_not_judged)", "{{symbol}}, rows not judged")), "short", width=6),
        Panel("Age of the newest certificate", (
            ("time() - candlewick_skew_certificate_timestamp_seconds", "{{symbol}}"),), "s", 1800, 6),
    )),
    ("Resources", (
        Panel("Resident memory", (("process_resident_memory_bytes", "{{job}}"),), "bytes"),
        Panel("CPU", (("rate(process_cpu_seconds_total[1m])", "{{job}}"),), "percentunit"),
    )),
)


def build() -> str:
    """The dashboard as JSON text; panels numbered and laid out in order."""
    board = (
        dashboard.Dashboard("Candlewick").uid("candlewick").tags(["candlewick"]).editable().refresh("5s")
        .time("now-30m", "now").timezone("utc")
        .description("Freshness, latency, flow and drift. Made by monitoring/dashboards/build.py.")
    )
    number = iter(range(1, 1000))
    for title, panels in ROWS:
        board = board.with_row(dashboard.Row(title).id(next(number)))
        for panel in panels:
            board = board.with_panel(_panel(panel, next(number)))
    return str(JSONEncoder(sort_keys=True, indent=2).encode(board.build())) + "\n"


def _panel(panel: Panel, number: int) -> stat.Panel | timeseries.Panel:
    newest = ReduceDataOptions().calcs(["lastNotNull"])
    shape = stat.Panel().reduce_options(newest) if panel.single else timeseries.Panel()
    shape = (
        shape.id(number).title(panel.title).datasource(SOURCE).unit(panel.unit).span(panel.width)
        .height(4 if panel.single else 8).thresholds(_thresholds(panel.red))
    )
    for target in _targets(panel.queries):
        shape = shape.with_target(target)
    return shape


def _thresholds(red: float | None) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color="green"), *([Threshold(value=red, color="red")] if red is not None else [])]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _targets(queries: Sequence[tuple[str, str]]) -> Iterator[prometheus.Dataquery]:
    for letter, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        yield prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter).datasource(SOURCE)


def main(check: bool) -> int:
    """Write the JSON, or compare it with the committed one."""
    if check and OUTPUT.read_text() != build():
        print(f"{OUTPUT.name} differs from build.py: run `make generate`")
        return 1
    if not check:
        OUTPUT.write_text(build())
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
