"""A real Kafka behind `/live` and the publisher: what is published is what is shown, once, by one process."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from feature_repo.contracts import (
    MINUTE_NS,
    SECOND_NS,
    FollowedSymbol,
    LiveSnapshot,
    LiveUpdate,
    Market,
    Prediction,
    SymbolList,
)
from feature_repo.settings import LOOPBACK
from feature_repo.symbols import announce
from feature_repo.topics import (
    ANALYTICS,
    CLEAN,
    FEATURES,
    PREDICTIONS,
    create_topics,
    decode,
    order_book_topic,
    producer,
    record_schema,
    send,
    topics,
)
from tests.bentos.made import made_row, made_summary
from tests.bentos.test_live import book
from tests.feature_repo.made_bars import Walk
from tests.integration.conftest import free_port
from tests.integration.serving_stack import LiveRows, ServingStack, now_second, until

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingStack]:
    made = ServingStack.make(tmp_path_factory.mktemp("live"), free_port)
    try:
        made.start_redis()
        made.start_kafka()
        seed_market(made)
        made.start_service()
        made.start_publisher()
        until(lambda: httpx.get(f"{made.url}/readyz").json()["live_feed"], 30)
        until(lambda: publisher_metric(made, "candlewick_publisher_active") == 1.0, 30)
        yield made
    finally:
        made.close()


def seed_market(stack: ServingStack) -> None:
    """Thirty seconds of bars, unordered and with repeats, and three of books, before the service starts."""
    out, walk, end = producer(stack.settings.kafka, "test"), Walk(1), now_second()
    bars = [walk.bar(end - (29 - i) * SECOND_NS, 1) for i in range(30)]
    for bar in [*bars[:10], bars[9], bars[11], bars[10], *bars[12:]]:
        send(out, CLEAN, bar)
    for _ in range(12):
        send(out, order_book_topic("BTCUSDT"), stamped_book(time.time() * 1e3))
        time.sleep(0.25)
    out.close(timeout=10)


def stamped_book(at_ms: float) -> Any:
    at_ns = int(at_ms) * 1_000_000
    return book(0).model_copy(update={"ts_event": at_ns, "ts_init": at_ns})


def publisher_metric(stack: ServingStack, name: str, port: int | None = None) -> float | None:
    text = httpx.get(f"http://{LOOPBACK}:{port or stack.settings.ports.publisher}/metrics").text
    values = [line.split()[-1] for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return float(values[0]) if values else None


def open_socket(stack: ServingStack, symbol: str = "BTCUSDT", origin: str | None = None) -> ClientConnection:
    address = f"ws://{LOOPBACK}:{stack.settings.ports.service}/live?symbol={symbol}"
    return connect(address, origin=origin, max_size=None, compression=None)  # type: ignore[arg-type]


def hear(socket: ClientConnection, kinds: set[str], seconds: float = 20.0) -> list[LiveUpdate]:
    """Updates until every kind was heard."""
    heard: list[LiveUpdate] = []
    deadline = time.monotonic() + seconds
    while kinds - {update.type for update in heard} and time.monotonic() < deadline:
        heard.append(LiveUpdate.model_validate_json(socket.recv(timeout=seconds)))
    assert not kinds - {update.type for update in heard}
    return heard


def predictions(stack: ServingStack) -> list[Prediction]:
    """Everything in `crypto_predictions`."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=stack.settings.kafka, enable_auto_commit=False, group_id=None)
    partition = TopicPartition(PREDICTIONS, 0)
    try:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end, found = consumer.end_offsets([partition])[partition], []
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=500).values():
                found += [decode(record.value, record_schema(record.headers)) for record in records]
        return found  # type: ignore[return-value]
    finally:
        consumer.close()


def test_a_client_gets_ten_minutes_of_bars_once_and_in_order_then_every_channel(stack: ServingStack) -> None:
    with LiveRows(stack), open_socket(stack) as socket:
        snapshot = LiveSnapshot.model_validate_json(socket.recv(timeout=10))
        closes = [bar.close_time for bar in snapshot.bars]
        assert len(closes) == 30
        assert closes == sorted(set(closes))
        seconds = [shown.ts_event // SECOND_NS for shown in snapshot.books]
        assert seconds == sorted(set(seconds))
        assert len(seconds) >= 3
        assert snapshot.sequences["bar"] == 30
        out = producer(stack.settings.kafka, "test")
        bar = Walk(2).bar(now_second() + SECOND_NS, 1)
        send(out, CLEAN, bar)
        send(out, order_book_topic("BTCUSDT"), stamped_book(time.time() * 1e3))
        out.close(timeout=5)
        heard = hear(socket, {"bar", "book", "features", "prediction", "status"})
    assert next(u for u in heard if u.type == "bar").data == bar
    assert next(u for u in heard if u.type == "bar").sequence == 31
    status = [u.data for u in heard if u.type == "status"][-1]
    assert status.model_version == "1"  # type: ignore[union-attr]
    assert "price_features" in status.feature_ages_ms  # type: ignore[union-attr]


def test_a_line_of_the_table_of_markets_reaches_every_client_and_the_api(stack: ServingStack) -> None:
    with open_socket(stack) as socket:
        socket.recv(timeout=10)
        out = producer(stack.settings.kafka, "test")
        line = made_summary(ts_event=now_second(), change_1m=0.03)
        offset = send(out, ANALYTICS, line).get(timeout=10).offset
        out.close(timeout=5)
        [*_, update] = hear(socket, {"market"})
    assert update.sequence == offset + 1
    assert isinstance(update.data, Market)
    table = Market.model_validate_json(httpx.get(f"{stack.url}/market").text)
    assert table.summaries == update.data.summaries == [line]
    assert [movers.up for movers in table.movers] == [[], ["BTCUSDT"], [], []]


def test_every_live_row_is_predicted_once_and_quickly(stack: ServingStack) -> None:
    with LiveRows(stack) as live:
        until(lambda: len(live.rows) >= 6)
    wanted = {row.ts_event for row in live.rows}
    until(lambda: wanted <= {made.ts_event for made in predictions(stack)})
    found = [made for made in predictions(stack) if made.ts_event in wanted]
    assert sorted(made.ts_event for made in found if made.tier == 1) == sorted(wanted)
    assert {made.nowcast for made in found} <= {True, False}
    assert publisher_metric(stack, 'candlewick_hop_seconds_count{hop="row_to_prediction"}') is not None


def test_what_is_published_is_what_latest_and_the_socket_say(stack: ServingStack) -> None:
    with LiveRows(stack), open_socket(stack) as socket:
        socket.recv(timeout=10)
        update = next(u for u in hear(socket, {"prediction"}) if u.type == "prediction")
        latest = Prediction.model_validate_json(httpx.get(f"{stack.url}/latest?symbol=BTCUSDT").text)
    published = {made.ts_event: made for made in predictions(stack)}
    assert isinstance(update.data, Prediction)
    assert update.data == published[update.data.ts_event]
    assert latest == published[latest.ts_event]


def test_when_features_stop_the_publisher_says_so_and_takes_it_back(stack: ServingStack) -> None:
    with LiveRows(stack) as live:
        until(lambda: len(live.rows) >= 2)
    last = live.rows[-1].ts_event
    until(lambda: [m for m in predictions(stack) if m.ts_event > last], 15)
    [notice, *_] = [made for made in predictions(stack) if made.ts_event > last]
    assert (notice.tier, notice.signal, notice.ts_event % SECOND_NS) == (5, None, 0)
    assert "s old; tier 1 allows 3 s" in notice.reasons[0]
    with LiveRows(stack) as live:
        until(lambda: live.rows and predictions(stack)[-1].tier == 1, 15)


def test_history_is_never_predicted(stack: ServingStack) -> None:
    at = now_second() // MINUTE_NS * MINUTE_NS - 5 * MINUTE_NS
    out = producer(stack.settings.kafka, "test")
    send(out, FEATURES, made_row(at).model_copy(update={"provenance": "backfill"}))
    out.close(timeout=5)
    time.sleep(1.5)
    assert at not in {made.ts_event for made in predictions(stack)}


def test_a_second_publisher_stands_by_and_takes_over_from_a_killed_one(stack: ServingStack) -> None:
    port = free_port()
    second = ServingStack(replace(stack.settings, ports=replace(stack.settings.ports, publisher=port)))
    try:
        second.start_publisher()
        until(lambda: httpx.get(f"http://{LOOPBACK}:{port}/healthz").status_code == 200)
        time.sleep(2.0)
        assert publisher_metric(second, "candlewick_publisher_active") == 0.0
        with LiveRows(stack) as live:
            until(lambda: len(live.rows) >= 2)
            stack.stop("publisher", signal.SIGKILL)
            until(lambda: publisher_metric(second, "candlewick_publisher_active") == 1.0, 15)
            reached = len(live.rows)
            until(lambda: len(live.rows) >= reached + 3)
        taken_over = {row.ts_event for row in live.rows[reached + 1 : reached + 3]}
        until(lambda: taken_over <= {made.ts_event for made in predictions(stack) if made.tier == 1})
        assert second.stop("publisher") == 0
    finally:
        second.close()
        stack.start_publisher()


def test_a_reader_that_does_not_read_is_dropped_to_the_newest(stack: ServingStack) -> None:
    with open_socket(stack) as slow:
        slow.recv(timeout=10)
        out, start = producer(stack.settings.kafka, "test"), now_second()
        for i in range(4_000):
            send(out, FEATURES, made_row(start + i, price=60_000.0 + i).model_copy(update={"provenance": "backfill"}))
        last = send(out, FEATURES, made_row(start + 5_000).model_copy(update={"provenance": "backfill"}))
        newest = last.get(timeout=20).offset
        out.close(timeout=20)
        with open_socket(stack) as quick:
            assert LiveSnapshot.model_validate_json(quick.recv(timeout=5)).sequences["features"] <= newest
        heard, deadline = [], time.monotonic() + 60
        while (not heard or heard[-1] != newest) and time.monotonic() < deadline:
            message = json.loads(slow.recv(timeout=30))
            heard += [message["sequence"]] if message["type"] == "features" else []
    assert heard[-1] == newest
    assert heard == sorted(heard)
    assert len(heard) < 3_000


@pytest.mark.parametrize(("symbol", "origin", "status", "words"), [
    ("BTCUSDT", "https://evil.example", 403, "origin https://evil.example is not allowed"),
    ("BTCUSDT", "null", 403, "origin null is not allowed"),
    ("DOGEUSDT", None, 404, "symbol: expected one of BTCUSDT"),
])
def test_a_socket_that_may_not_be_opened_is_refused_with_the_reason(
    stack: ServingStack, symbol: str, origin: str | None, status: int, words: str,
) -> None:
    with pytest.raises(InvalidStatus) as refused, open_socket(stack, symbol, origin):
        pass
    assert refused.value.response.status_code == status
    assert words in json.loads(refused.value.response.body)["error"]


def test_the_page_may_open_a_socket(stack: ServingStack) -> None:
    with open_socket(stack, origin=f"http://localhost:{stack.settings.ports.frontend}") as socket:
        assert LiveSnapshot.model_validate_json(socket.recv(timeout=10)).status.symbol == "BTCUSDT"


@pytest.mark.parametrize(("messages", "code"), [(["x" * 2_000], 1009), (["x"] * 6, 1008)])
def test_a_client_that_says_too_much_is_closed(stack: ServingStack, messages: list[str], code: int) -> None:
    with open_socket(stack) as socket:
        socket.recv(timeout=10)
        for message in messages:
            socket.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            hear(socket, {"bar"})
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code


def followed(stack: ServingStack) -> list[str]:
    return [each["symbol"] for each in httpx.get(f"{stack.url}/symbols").json()["symbols"]]


def change(stack: ServingStack, symbol: str, is_followed: bool) -> None:
    create_topics(stack.settings.kafka, topics((symbol,)))
    announce(stack.settings.kafka, FollowedSymbol(symbol=symbol, ts_init=time.time_ns(), followed=is_followed))


def test_a_symbol_is_followed_and_left_while_everything_runs(stack: ServingStack) -> None:
    """Service and publisher take it on by themselves; a removed one's sockets are closed and it is listed no more."""
    assert followed(stack) == ["BTCUSDT"]
    assert httpx.get(f"{stack.url}/latest?symbol=ETHUSDT").status_code == 404
    change(stack, "ETHUSDT", is_followed=True)
    until(lambda: followed(stack) == ["BTCUSDT", "ETHUSDT"])
    listed = SymbolList.model_validate_json(httpx.get(f"{stack.url}/symbols").text).symbols[1]
    assert (listed.state, listed.base, listed.source) == ("starting", "eth", None)
    with open_socket(stack, "ETHUSDT") as socket, LiveRows(stack, "ETHUSDT") as live:
        assert LiveSnapshot.model_validate_json(socket.recv(timeout=10)).status.symbol == "ETHUSDT"
        made = next(u.data for u in hear(socket, {"features", "prediction"}) if u.type == "prediction")
        assert isinstance(made, Prediction)
        assert (made.symbol, made.tier) == ("ETHUSDT", 1)
        assert made.ts_event in {row.ts_event for row in live.rows}
        assert httpx.get(f"{stack.url}/latest?symbol=ETHUSDT").json()["symbol"] == "ETHUSDT"
        until(lambda: httpx.get(f"{stack.url}/symbols").json()["symbols"][1]["state"] == "ready")
        change(stack, "ETHUSDT", is_followed=False)
        with pytest.raises(ConnectionClosed) as closed:
            hear(socket, {"bar"})
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "the symbol is followed no longer")
    assert followed(stack) == ["BTCUSDT"]
    assert httpx.post(f"{stack.url}/predict", json={"symbol": "ETHUSDT"}).status_code == 404
