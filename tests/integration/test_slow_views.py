"""From a poller to the online store and the lake: real exchange, Kafka, Spark, Redis and Feast under the slow views."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from feature_repo import topics
from feature_repo.contracts import DAY_NS, HOUR_NS, SECOND_NS, Observation
from feature_repo.feature_sets import Declared, Sets
from feature_repo.features import FEATURE_SET
from feature_repo.settings import LOOPBACK
from feature_repo.slow_features import VIEW_OF
from feature_repo.slow_series import MACRO, SERIES
from feature_repo.store import FeatureStore
from monitoring.parity.report import Report
from monitoring.parity.sampled import ONLINE_SLOW, sample
from monitoring.parity.slow import IN_LAKE, SlowChecker
from streaming.exchange_context import SESSION, Context
from streaming.slow_sources import LOCAL_REASON
from tests.feature_repo.made_observations import observation
from tests.integration.conftest import free_port
from tests.integration.streaming_stack import SYMBOL, StreamingStack, decoded, fresh_topics, records, until

pytestmark = [pytest.mark.integration, pytest.mark.alone]
FUNDING, FEAR_GREED = "crypto.btc.funding", topics.FEAR_GREED
USED = (FUNDING, "crypto.btc.open_interest", FEAR_GREED)


@pytest.fixture
def stack(tmp_path: Path, kafka: str, redis_server: str, applied: Path) -> Iterator[StreamingStack]:
    made = StreamingStack.make(tmp_path, kafka, redis_server, free_port)
    made.settings.registry.parent.mkdir(parents=True)
    shutil.copy(applied, made.settings.registry)
    fresh_topics(kafka, USED)
    try:
        yield made
    finally:
        made.close()
        fresh_topics(kafka, USED)


def history(stack: StreamingStack, *times_ns: int) -> dict[str, list[Any]]:
    asked = pd.DataFrame({"symbol": SYMBOL, "event_timestamp": pd.to_datetime(list(times_ns), utc=True)})
    found = stack.store.history(asked, "context_v1")
    return {name: [None if pd.isna(v) else v for v in found[name]] for name in found.columns}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_is_polled_is_in_the_lake_online_and_in_history_as_it_was_known(stack: StreamingStack, kafka: str) -> None:
    stack.start("streaming.exchange", "--simulate")
    until(lambda: stack.answers(stack.settings.ports.exchange), 60, "the exchange answers")
    stack.start("streaming.pollers", "--local")
    until(lambda: len(records(kafka, FUNDING)) >= 30, 60, "a month of settlements is on the topic")
    health = httpx.get(f"http://{LOOPBACK}:{stack.settings.ports.pollers}/healthz").json()
    assert (health["status"], health["reasons"]) == ("ok", {})
    assert health["notes"] == dict.fromkeys(("fear_greed", *MACRO), f"off: {LOCAL_REASON}")

    # Of the market's series nothing stands in for, two are told here: one known long ago, one a moment ago.
    now = time.time_ns()
    midnight = now // DAY_NS * DAY_NS
    told = [observation("fear_greed", midnight - DAY_NS, 40.0, created=midnight - 3 * HOUR_NS, source="simulated"),
            observation("fear_greed", midnight, 44.0, created=now, source="simulated")]
    producer = topics.producer(kafka, "test")
    for each in told:
        topics.send(producer, FEAR_GREED, each)
    producer.send(FEAR_GREED, b"no message", headers=topics.headers(told[0]))
    producer.flush()
    producer.close()

    stack.start_job("--lake-every", "1 second")
    until(lambda: stack.lake.read("fear_greed", SYMBOL, 0, now).num_rows == 2, 120, "the lake holds both rows", 1.0)
    until(lambda: stack.lake.read("observations", "BTCUSDT-PERP.BINANCE", 0, now).num_rows > 30, 60, "all is kept", 1.0)

    [funding] = stack.lake.read("funding", SYMBOL, 0, now).to_pylist()
    settled = funding["ts_event"]
    assert settled == now // (8 * HOUR_NS) * 8 * HOUR_NS
    assert funding["funding_rate_8h"] == Context(SYMBOL).funding_rate(settled)
    assert funding["funding_rate_mean_7d"] == pytest.approx(
        sum(Context(SYMBOL).funding_rate(settled - back * 8 * HOUR_NS) for back in range(21)) / 21, rel=1e-12)
    assert (funding["funding_source"], funding["funding_provenance"]) == ("simulated", "live")
    observed = [m for m in decoded(records(kafka, FUNDING)) if isinstance(m, Observation)]
    assert {(m.source, m.session, m.provider) for m in observed} == {("simulated", SESSION, "binance")}
    assert funding["created"] == max(m.created for m in observed)

    known = history(stack, told[0].created - 1, told[0].created, told[1].created - 1, time.time_ns())
    assert known["fear_greed_1d"] == [None, 40.0, 40.0, 44.0]
    assert known["funding_rate_8h"] == [None, None, *[funding["funding_rate_8h"]] * 2]
    assert set(known) == {"symbol", "event_timestamp", *(n for view in VIEW_OF.values() for n in view.names)}

    online = {name: column[0] for name, column in stack.store.online([SYMBOL], "context_v1").items()}
    assert (online["fear_greed_1d"], online["sp500_return_1d"]) == (44.0, None)
    assert online["funding_rate_mean_7d"] == funding["funding_rate_mean_7d"]
    assert online["open_interest_5m"] == pytest.approx(Context(SYMBOL).open_interest(time.time_ns()), rel=0.01)
    assert stack.store.online([SYMBOL], ["funding_features:funding_reasons"])["funding_reasons"] == ["{}"]

    # The certificate makes each of them again of the observations that the pollers told.
    report, checker = Report(SYMBOL), SlowChecker(stack.lake, SYMBOL, stack.settings.data_dir)
    seen = sample(stack.store, SYMBOL, 0, time.sleep).slow
    checker.check(report, (now - HOUR_NS, time.time_ns()), None, seen, time.sleep)
    assert (report.examples, report.places[ONLINE_SLOW]) == ([], 3)
    assert report.places[IN_LAKE] >= 4
    assert Sets.open(stack.lake).of(FEATURE_SET) == (Declared.here(),)
    assert stack.lake.filesystem.get_file_info(f"{stack.lake.root}/{Declared.here().path}").is_file

    old = at(stack, settled + VIEW_OF["funding"].ttl_ns + HOUR_NS).online([SYMBOL], "context_v1")
    assert (old["funding_rate_8h"], old["fear_greed_1d"]) == ([None], [44.0]), "age is judged on read, view by view"

    letters = [m for m in decoded(records(kafka, topics.DEAD_LETTERS)) if getattr(m, "topic", "") == FEAR_GREED]
    assert [letter.reason for letter in letters] == ["InvalidMessage"]  # type: ignore[attr-defined]
    assert "candlewick_series_newest_timestamp_seconds" in httpx.get(
        f"http://{LOOPBACK}:{stack.settings.ports.pollers}/metrics").text
    assert stack.stop("pollers") == 0


def at(stack: StreamingStack, now_ns: int) -> FeatureStore:
    """The store as it reads at another time."""
    return stack.store.with_clock(lambda: now_ns)


def test_a_row_that_is_no_news_changes_nothing_online_and_one_ahead_of_the_clock_is_refused(
    stack: StreamingStack,
) -> None:
    from feature_repo.contracts import InvalidMessage
    from feature_repo.slow_features import rows

    now = time.time_ns()
    midnight = now // DAY_NS * DAY_NS
    told = [observation("fear_greed", midnight - day * DAY_NS, 40.0 + day, created=now - day * SECOND_NS)
            for day in (1, 0)]
    older, newer = rows(VIEW_OF["fear_greed"], SYMBOL, told, told)
    store = stack.store
    assert [store.write_slow(row) for row in (newer, older, newer)] == [True, False, False]
    assert store.online([SYMBOL], ["fear_greed_features:fear_greed_1d"])["fear_greed_1d"] == [40.0]
    ahead = observation("fear_greed", midnight, 50.0, created=now + HOUR_NS)
    [row] = rows(VIEW_OF["fear_greed"], SYMBOL, [ahead], [ahead])
    with pytest.raises(InvalidMessage, match="created expected at most 10 s ahead"):
        store.write_slow(row)
    assert SERIES["fear_greed"].stale_ns < VIEW_OF["fear_greed"].ttl_ns
