"""Parity: the skew certificate, that online rows, lake rows, Feast's history and logged predictions are what raw gives.

    report = check(settings, "BTCUSDT", minutes=10)
    report.mismatches                                  # none, or the product is not what it says

`check` looks, `sampled` is what the online store showed, `report` counts, `raw` reads the records and shows those
behind a mismatch, `written` makes a row that of its own feature set, `revised` judges what a reconcile wrote,
`predictions` what was logged of forecasts, `mirrors`, `slow` and `context` the mirror keys, the slow views and the
hourly percentile, `closes` is what slow rows read of bars, `summary` and `page` show a certificate, `job` renews it
while the stack runs.
"""

from monitoring.parity.check import check, check_lake, check_online, lake_rows
from monitoring.parity.report import Report

__all__ = ["Report", "check", "check_lake", "check_online", "lake_rows"]
