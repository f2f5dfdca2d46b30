"""Exporter: ages and drift come from rows, each once; every metric that rules and dashboard name exists."""

from __future__ import annotations

import re
import threading
import tokenize
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from prometheus_client import REGISTRY

from bentos.champion import served_folder
from feature_repo.contracts import MINUTE_NS, NANOS, DeadLetter, FeatureRow
from feature_repo.features import FEATURE_NAMES, FEATURE_SET
from feature_repo.online_row import OnlineRow
from feature_repo.settings import ROOT, load_settings
from feature_repo.store import FeatureStore
from monitoring.dashboards import build
from monitoring.drift import MONITORED, Histogram
from monitoring.exporter import KEPT_MINUTES, Exporter, Watch, load_reference, together

START = 1_723_161_600 * NANOS


def row(at_ns: int, **values: float | None) -> FeatureRow:
    return FeatureRow(
        symbol="BTCUSDT", ts_event=at_ns, ts_init=at_ns, source="simulated", session="made", created=at_ns,
        feature_set=FEATURE_SET, price=1.0, values=dict.fromkeys(FEATURE_NAMES) | values, reasons={},
    )


@pytest.fixture
def store_of_rows(monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """An online store that holds a fresh row of every symbol."""
    store = FeatureStore(load_settings({}), client=None)
    monkeypatch.setattr(store, "read", lambda symbol: OnlineRow(
        row(START, return_1m=0.1).model_copy(update={"symbol": symbol}), None, {}, None))
    return store


def test_the_age_of_a_view_is_that_of_its_newest_known_value() -> None:
    watch = Watch("BTCUSDT")
    watch.see_row(row(START, return_1m=0.1, spread_1s=1.0))
    watch.see_row(row(START + 5 * NANOS, return_1m=0.1))
    assert watch.ages(START + 7 * NANOS) == {"price_features": 2.0, "book_features": 7.0}


def test_an_older_row_seen_again_makes_nothing_younger_or_older() -> None:
    watch = Watch("BTCUSDT")
    watch.see_row(row(START + 5 * NANOS, return_1m=0.1))
    watch.see_row(row(START, return_1m=0.1))
    assert watch.ages(START + 6 * NANOS) == {"price_features": 1.0}


def test_drift_uses_whole_minutes_once_each_and_forgets_the_oldest() -> None:
    watch = Watch("BTCUSDT")
    for second in range(0, 300, 20):
        watch.see_row(row(START + second * NANOS, return_1m=float(second)))
        watch.see_row(row(START + second * NANOS, return_1m=float(second)))
    assert [values["return_1m"] for values in watch.minutes.values()] == [0.0, 60.0, 120.0, 180.0, 240.0]
    for minute in range(5, KEPT_MINUTES + 3):
        watch.see_row(row(START + minute * MINUTE_NS, return_1m=float(minute)))
    assert len(watch.minutes) == KEPT_MINUTES
    assert min(watch.minutes) == START + 3 * MINUTE_NS


def test_rows_may_come_while_drift_and_ages_are_measured() -> None:
    watch, flat = Watch("BTCUSDT"), Histogram(tuple(np.linspace(-1, 1, 9).tolist()), tuple([0.1] * 10))
    rows = [row(START + minute * MINUTE_NS, return_1m=0.1) for minute in range(3_000)]
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(lambda: [watch.see_row(each) for _ in range(4) for each in rows])
        while not coming.done():
            watch.drift({"return_1m": flat})
            watch.ages(START)
        coming.result()
    assert len(watch.minutes) == KEPT_MINUTES


def test_when_measuring_fails_following_ends_and_the_mistake_is_raised() -> None:
    stop = threading.Event()

    def measuring() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        together((measuring,), lambda: None if stop.wait(60) else pytest.fail("following was not ended"), stop)


def test_the_reference_is_of_the_model_that_is_served(tmp_path: Path) -> None:
    settings = replace(load_settings({}), run_dir=tmp_path)
    assert served_folder(settings) == settings.model_dir
    (tmp_path / "models" / "champion").mkdir(parents=True)
    assert served_folder(settings) == tmp_path / "models" / "champion"


def test_shifted_live_rows_raise_the_exported_index() -> None:
    flat = Histogram(tuple(np.linspace(-1, 1, 9).tolist()), tuple([0.1] * 10))
    exporter = Exporter(["BTCUSDT"], lambda: START)
    for minute in range(200):
        even = (minute % 20 - 9.5) / 8
        exporter.take("crypto_features", row(START + minute * MINUTE_NS, return_1m=5.0, return_5m=even))
    exporter.set_drift({"return_1m": flat, "return_5m": flat})
    labels = {"symbol": "BTCUSDT", "feature": "return_1m"}
    assert (REGISTRY.get_sample_value("candlewick_feature_psi", labels) or 0) > 1
    assert REGISTRY.get_sample_value("candlewick_feature_psi", labels | {"feature": "return_5m"}) == 0.0


def test_a_symbol_followed_no_longer_leaves_no_gauge_that_would_seem_stale(store_of_rows: FeatureStore) -> None:
    exporter = Exporter(["BTCUSDT", "ETHUSDT"], lambda: START)
    exporter.set_ages(store_of_rows)
    ages = [{"symbol": symbol, "view": "price_features"} for symbol in ("BTCUSDT", "ETHUSDT")]
    assert [REGISTRY.get_sample_value("candlewick_feature_age_seconds", labels) for labels in ages] == [0.0, 0.0]
    exporter.follow(["BTCUSDT", "SOLUSDT"])
    exporter.set_ages(store_of_rows)
    assert [REGISTRY.get_sample_value("candlewick_feature_age_seconds", labels) for labels in ages] == [0.0, None]
    assert list(exporter.watches) == ["BTCUSDT", "SOLUSDT"]
    exporter.follow(["BTCUSDT", "ETHUSDT"])
    exporter.set_ages(store_of_rows)
    assert [REGISTRY.get_sample_value("candlewick_feature_age_seconds", labels) for labels in ages] == [0.0, 0.0]


def test_dead_letters_are_counted_by_component_and_reason() -> None:
    letter = DeadLetter(
        ts_init=1, component="ingest", reason="InvalidMessage", detail="d", topic=None, symbol=None, payload=b"")
    Exporter([], lambda: 0).take("crypto_dlq", letter)
    labels = {"component": "ingest", "reason": "InvalidMessage"}
    assert REGISTRY.get_sample_value("candlewick_dead_letters_seen_total", labels) == 1


def test_a_model_without_reference_is_a_metric_not_an_end(tmp_path: Path) -> None:
    assert load_reference(tmp_path) == {}
    assert REGISTRY.get_sample_value("candlewick_drift_reference_loaded") == 0


def test_the_shipped_model_brings_a_reference_for_every_monitored_feature() -> None:
    assert set(load_reference(load_settings({}).model_dir)) == set(MONITORED)


def strings(path: Path) -> set[str]:
    with path.open("rb") as source:
        tokens = tokenize.tokenize(source.readline)
        return {token.string.strip("\"'") for token in tokens if token.type == tokenize.STRING}


DEFINED = {
    text
    for package in ("monitoring", "streaming", "bentos", "feature_repo")
    for path in (ROOT / package).rglob("*.py")
    if "dashboards" not in path.parts
    for text in strings(path)
    if text.startswith("candlewick_")
}
RULES = ROOT / "monitoring" / "rules" / "candlewick.rules.yml"


def named(text: str) -> set[str]:
    found = set(re.findall(r"\bcandlewick_[a-z_]+", text)) - {"candlewick"}
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in found}


@pytest.mark.parametrize("source", [RULES, build.OUTPUT], ids=lambda path: path.name)
def test_every_metric_that_is_asked_for_is_exported_somewhere(source: Path) -> None:
    unknown = {name for name in named(source.read_text()) if not {name, name.removesuffix("_total")} & DEFINED}
    assert unknown == set()


def test_the_committed_dashboard_is_the_one_the_code_builds() -> None:
    assert build.main(check=True) == 0


def test_grafana_reads_the_prometheus_of_the_one_table_of_ports() -> None:
    provisioned = ROOT / "infra" / "grafana" / "provisioning" / "datasources" / "candlewick.yml"
    [source] = yaml.safe_load(provisioned.read_text())["datasources"]
    assert source["url"].endswith(f":{load_settings({}).ports.prometheus}")
    assert source["uid"] == build.SOURCE.uid
