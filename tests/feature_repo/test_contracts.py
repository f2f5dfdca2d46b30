"""Messages: what goes in comes out, what is wrong is refused, and every derived copy is the committed one."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from feature_repo import derive
from feature_repo.avro_writer import writer
from feature_repo.contracts import (
    BOOK_FIELDS,
    WIRE_MESSAGES,
    Alert,
    Bar,
    DeadLetter,
    FeatureRow,
    FollowedSymbol,
    InvalidMessage,
    MarketSummary,
    Message,
    MissingTrades,
    Observation,
    OrderBook,
    Prediction,
    PriceLevels,
    SecondClosed,
    Trade,
    UnknownSchema,
)
from feature_repo.topics import (
    base,
    dead_letter,
    decode,
    encode,
    fingerprint,
    header,
    headers,
    parsed_schema,
    record_schema,
    topics,
)

EARLIER = derive.SCHEMAS / "avro" / "earlier"
nanos = st.integers(0, 2**63 - 1)
counts = st.integers(0, 2**63 - 1)
positive = st.floats(min_value=1e-8, max_value=1e12)
sizes = st.floats(min_value=0.0, max_value=1e12)
finite = st.floats(allow_nan=False, allow_infinity=False)
share = st.floats(0.0, 1.0)
words = st.text(max_size=40)
symbols = st.sampled_from(["BTCUSDT", "BTC-USD-PERP.STANDX", "ETHUSDT"])


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


market = {
    "symbol": symbols, "ts_event": nanos, "ts_init": nanos, "session": words,
    "source": st.sampled_from(["live", "recording", "simulated"]),
}
book = {
    name: st.booleans() if name == "book_valid" else maybe(finite if name == "order_flow_imbalance" else positive)
    for name in BOOK_FIELDS
}
levels = st.integers(0, 20).flatmap(lambda n: st.builds(
    PriceLevels, prices=st.lists(positive, min_size=n, max_size=n),
    quantities=st.lists(positive, min_size=n, max_size=n),
))
bins = st.lists(maybe(sizes), min_size=30, max_size=30)
depths = {f"{side}_depth_{bps}bps": maybe(sizes) for side in ("bid", "ask") for bps in (5, 10, 25)}
MESSAGES: dict[type[Message], st.SearchStrategy[Any]] = {
    Trade: st.builds(Trade, **market, trade_id=counts, price=positive, quantity=positive),
    SecondClosed: st.builds(
        SecondClosed, **market, **book, close=nanos, prev_close=maybe(nanos), n_trades=counts,
        first_trade_id=maybe(counts), last_trade_id=maybe(counts)),
    Bar: st.builds(
        Bar, **market, **book, interval_s=st.sampled_from([1, 60]), open_time=nanos, close_time=nanos, open=positive,
        high=positive, low=positive, close=positive, volume=sizes, quote_volume=sizes, vwap=positive, trades=counts,
        taker_buy_volume=maybe(sizes), created=nanos, first_trade_id=maybe(counts), last_trade_id=maybe(counts)),
    OrderBook: st.builds(
        OrderBook, **market, last_update_id=counts, mid_price=positive, bids=levels, asks=levels, bid_bins=bins,
        ask_bins=bins, **depths),
    FeatureRow: st.builds(
        FeatureRow, **market, created=nanos, feature_set=words, price=positive,
        values=st.dictionaries(words, maybe(finite)), reasons=st.dictionaries(words, words)),
    MarketSummary: st.builds(
        MarketSummary, **market, created=nanos, price=positive, average_1m=maybe(positive),
        **{name: maybe(sizes) for name in ("volatility_1m", "volatility_5m", "volume_1m", "quote_volume_1m")},
        **{name: maybe(finite) for name in ("change_10s", "change_1m", "change_1h", "change_24h", "move_10s")},
        moved=maybe(st.booleans()), alert_since=maybe(nanos), reasons=st.dictionaries(words, words)),
    Prediction: st.builds(
        Prediction, **market, created=nanos, model=words, model_version=words, feature_set=words, horizon_s=counts,
        price=maybe(positive), p_up=maybe(share), p_flat=maybe(share), signal=maybe(st.floats(-1, 1)),
        confidence=maybe(st.floats(0.5, 1)), risk_score=maybe(share), spike_prob=maybe(share),
        anomaly_score=maybe(share), expected_edge_bps=maybe(finite), cost_bps=maybe(finite),
        **{f"volatility_{h}": maybe(positive) for h in ("5m", "15m", "60m", "15m_low", "15m_high")},
        tier=st.integers(1, 5), reasons=st.lists(words, max_size=3), row_hash=maybe(words),
        sequence_hash=maybe(words), expected_edge_15m_bps=maybe(finite), should_trade_15m=st.booleans()),
    Alert: st.builds(
        Alert, **market, rule=words, severity=st.sampled_from(["info", "warning", "critical"]), window_start=nanos,
        state=st.sampled_from(["firing", "resolved"]), value=maybe(finite), threshold=maybe(finite), summary=words),
    DeadLetter: st.builds(
        DeadLetter, ts_init=nanos, component=words, reason=words, detail=words, topic=maybe(words),
        symbol=maybe(words), payload=st.binary(max_size=64)),
    FollowedSymbol: st.builds(FollowedSymbol, symbol=market["symbol"], ts_init=nanos, followed=st.booleans()),
    MissingTrades: st.builds(
        MissingTrades, **market, first_ids=st.lists(nanos, max_size=3), last_ids=st.lists(nanos, max_size=3)),
    Observation: st.builds(
        Observation, **market, series=words, provider=words, instrument=words, created=nanos,
        provenance=st.sampled_from(["live", "backfill"]), value=finite, stale=st.booleans()),
}
any_message = st.one_of(*MESSAGES.values())


def test_every_wire_message_has_a_strategy() -> None:
    assert set(MESSAGES) == set(WIRE_MESSAGES)


@settings(max_examples=150, deadline=None)
@given(any_message)
def test_what_is_encoded_is_decoded_to_the_same_message(message: Message) -> None:
    assert decode(encode(message), header(message)) == message


@settings(max_examples=150, deadline=None)
@given(any_message)
def test_the_body_is_the_one_that_a_general_avro_library_writes(message: Message) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed_schema(type(message)), message.model_dump())
    assert encode(message) == out.getvalue()


@pytest.mark.parametrize("schema", ["float", ["null", "long", "double"], ["long", "null"], {"type": "fixed"}])
def test_a_type_that_no_message_has_gets_no_writer(schema: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        writer({"type": "record", "name": "R", "fields": [{"name": "x", "type": schema}]})


@settings(max_examples=100, deadline=None)
@given(any_message)
def test_json_carries_the_same_message(message: Message) -> None:
    assert type(message).model_validate_json(message.model_dump_json()) == message


@settings(max_examples=150, deadline=None)
@given(any_message, st.data())
def test_a_damaged_body_is_refused_or_stays_a_valid_message_never_another_error(message: Message, data: Any) -> None:
    body = encode(message)
    place = data.draw(st.integers(0, len(body) - 1))
    damaged = body[:place] + bytes([body[place] ^ data.draw(st.integers(1, 255))]) + body[place + 1 :]
    with suppress(InvalidMessage):
        assert type(decode(damaged, header(message))) is type(message)


@settings(max_examples=50, deadline=None)
@given(any_message, st.binary(min_size=1, max_size=5))
def test_bytes_after_the_record_are_refused(message: Message, rest: bytes) -> None:
    with pytest.raises(InvalidMessage, match="left over"):
        decode(encode(message) + rest, header(message))


@pytest.mark.parametrize("schema", [None, "", "Trade", "Trade:0", b"\xff\xfe", "Trade:ffffffffffffffff"])
def test_an_unknown_schema_header_is_refused(schema: str | bytes | None) -> None:
    with pytest.raises(UnknownSchema, match="expected a schema header"):
        decode(b"", schema)


OF_15_MINUTES = {"expected_edge_15m_bps": None, "should_trade_15m": False}
ADDED = {
    "a67c39b9f2af489b": {"row_hash": None, "sequence_hash": None, **OF_15_MINUTES}, "437f8bd38319902e": OF_15_MINUTES,
}
"""By the fingerprint of an earlier Prediction, what has been added since, as it is read."""


@settings(max_examples=20, deadline=None)
@given(MESSAGES[Prediction], st.sampled_from(sorted(ADDED)))
def test_what_was_written_before_a_field_was_added_is_read_with_its_default(now: Prediction, mark: str) -> None:
    """Predictions written before lie in the broker for days after an upgrade."""
    schema = fastavro.parse_schema(json.loads((EARLIER / f"Prediction-{mark}.avsc").read_text()))
    record = {name: value for name, value in now.model_dump().items() if name not in ADDED[mark]}
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, record)
    assert decode(body.getvalue(), f"Prediction:{mark}") == now.model_copy(update=ADDED[mark])


@pytest.mark.parametrize("path", sorted(EARLIER.glob("*.avsc")), ids=lambda path: path.stem)
def test_an_earlier_schema_lies_under_its_own_fingerprint(path: Path) -> None:
    name, _, mark = path.stem.partition("-")
    schema = json.loads(path.read_text())
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    assert (schema["name"], fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")) == (name, mark)


def test_fingerprints_tell_the_messages_apart() -> None:
    assert len({fingerprint(kind) for kind in WIRE_MESSAGES}) == len(WIRE_MESSAGES)
    assert len(fingerprint(Trade)) == 16


TRADE = {
    "symbol": "BTCUSDT", "ts_event": 1, "ts_init": 2, "source": "recording", "session": "s", "trade_id": 7,
    "price": 1.5, "quantity": 2.0, "buyer_is_maker": True,
}


@pytest.mark.parametrize(("change", "expected"), [
    ({"colour": "red"}, "Extra inputs"), ({"price": 0.0}, "greater than 0"), ({"price": float("nan")}, "finite"),
    ({"price": "1.5"}, "valid number"), ({"ts_event": -1}, "greater than or equal"),
    ({"symbol": "btc usdt"}, "pattern"),
    ({"source": "dream"}, "live"), ({"trade_id": 2**63}, "less than"), ({"quantity": float("inf")}, "finite"),
])
def test_a_wrong_field_is_refused_with_what_was_expected(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Trade(**(TRADE | change))


def test_messages_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Trade(**TRADE).price = 2.0  # type: ignore[misc]


def test_the_committed_schemas_are_the_ones_the_contracts_give() -> None:
    assert derive.main(check=True) == 0


def test_spark_reads_the_derived_schema_and_the_stream_s_types_agree() -> None:
    from pyspark.sql.types import LongType, StructType

    for kind in WIRE_MESSAGES:
        schema = StructType.fromJson(derive.spark_schema(kind))
        assert schema.fieldNames() == list(kind.model_fields)
    assert StructType.fromJson(derive.spark_schema(Trade))["ts_event"].dataType == LongType()


def test_a_dead_letter_keeps_the_payload_and_names_the_reason() -> None:
    letter = dead_letter(b"\x00\xff", InvalidMessage("expected x"), component="ingest", ts_init=5, topic="t")
    assert (letter.payload, letter.reason, letter.detail) == (b"\x00\xff", "InvalidMessage", "expected x")
    assert record_schema(headers(letter)) == header(letter).encode()


def test_topics_follow_the_base_and_every_named_topic_is_there() -> None:
    names = {topic.name for topic in topics(("BTCUSDT", "ETHUSDT", "BTC-USD-PERP.STANDX"))}
    assert {
        "crypto.btc.trades", "crypto.eth.orderbook", "macro.feed", "news.raw", "sentiment.raw", "crypto_prices",
        "crypto_raw", "crypto_clean", "crypto_features", "crypto_predictions", "crypto_alerts", "crypto_dlq",
    } <= names
    assert (base("ETHBTC"), base("BTC"), base("1000SHIBUSDT")) == ("eth", "btc", "1000shib")
