"""What the stream gives depends on the records and their order alone: not on batches, restarts or repetitions."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo import topics
from feature_repo.contracts import (
    HOUR_NS,
    MINUTE_NS,
    SECOND_NS,
    Alert,
    Bar,
    DeadLetter,
    FeatureRow,
    MarketSummary,
    Message,
    SecondClosed,
    Trade,
)
from feature_repo.features import FORECAST_BAR
from streaming.seconds import PATIENCE
from streaming.symbol_stream import COUNTS, ONLINE, Event, Output, SymbolStream, chunk_bytes, dump, load

START = 478_655 * HOUR_NS + 55 * MINUTE_NS
COMMON = {"symbol": "BTCUSDT", "source": "recording", "session": "s"}


def trade(trade_id: int, at: int, price: float = 100.0, **changes: object) -> Trade:
    return Trade(**{
        **COMMON, "ts_event": START + at, "ts_init": START + at, "trade_id": trade_id, "price": price,
        "quantity": 0.5, "buyer_is_maker": trade_id % 2 == 0, **changes,
    })


def seal(second: int, n: int, prev: int | None, first: int | None = None, last: int | None = None) -> SecondClosed:
    close = START + second * SECOND_NS
    return SecondClosed(
        **COMMON, ts_event=close, ts_init=close + SECOND_NS // 4, close=close, n_trades=n, first_trade_id=first,
        last_trade_id=last, prev_close=None if prev is None else START + prev * SECOND_NS,
        book_valid=True, bid_price=99.5, bid_quantity=1.0, ask_price=100.5, ask_quantity=3.0,
    )


def minute(n: int) -> Bar:
    close = START + n * MINUTE_NS
    return Bar(
        **COMMON, ts_event=close, ts_init=close, interval_s=60, open_time=close - MINUTE_NS, close_time=close,
        open=100.0, high=101.0 + n % 3, low=99.0, close=100.0 + n % 5, volume=2.0 + n % 7, quote_volume=200.0,
        vwap=100.0, trades=3, taker_buy_volume=1.0, created=close + SECOND_NS, provenance="backfill",
    )


def market(n_seconds: int) -> list[Message]:
    """Seventy minutes of history, then seconds of 0, 1 or 2 trades with their seals."""
    rng = random.Random(7)
    messages: list[Message] = [minute(n) for n in range(-69, 1)]
    trade_id = 0
    for second in range(n_seconds):
        ids = list(range(trade_id + 1, trade_id + 1 + rng.randrange(3)))
        trade_id += len(ids)
        messages += [trade(i, second * SECOND_NS + i % 9, 100.0 + rng.randrange(9)) for i in ids]
        messages.append(seal(second + 1, len(ids), second or None, ids[0] if ids else None, trade_id or None))
    return messages


def events(messages: list[Message], first: int = 0) -> list[Event]:
    return [
        Event(0, first + i, START + i, "crypto.btc.trades", topics.header(m), topics.encode(m))
        for i, m in enumerate(messages)
    ]


def restarted(stream: SymbolStream, saved: dict[tuple[int, int], bytes]) -> SymbolStream:
    saved |= {chunk: chunk_bytes(stream, chunk) for chunk in stream.changed}
    return load(stream.symbol, stream.position, dump(stream), saved)


def messages_of(outputs: list[Output]) -> list[Message]:
    return [topics.decode(o.body, o.schema) for o in outputs if o.topic not in (ONLINE, COUNTS)]


def closes(outputs: list[Output]) -> list[int]:
    found = [m for m in messages_of(outputs) if isinstance(m, Bar) and m.provenance == "live"]
    return [(bar.close_time - START) // SECOND_NS for bar in found]


def test_rows_and_bars_are_the_same_after_a_restart_at_every_record() -> None:
    records = events(market(70))
    undisturbed = SymbolStream.new("BTCUSDT").apply(records)
    stream, saved, outputs = SymbolStream.new("BTCUSDT"), {}, []
    for record in records:
        outputs += stream.apply([record])
        stream = restarted(stream, saved)
    assert messages_of(outputs) == messages_of(undisturbed)
    last = [o for o in outputs if o.topic == ONLINE][-1]
    assert last == next(o for o in undisturbed if o.topic == ONLINE)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_batch_boundaries_change_nothing(sizes: list[int]) -> None:
    records = events(market(60))
    stream, outputs, start = SymbolStream.new("BTCUSDT"), [], 0
    for size in [*sizes, len(records)]:
        outputs += stream.apply(records[start : start + size])
        start += size
    assert messages_of(outputs) == messages_of(SymbolStream.new("BTCUSDT").apply(records))


def test_each_closed_second_has_one_line_of_the_table_of_markets() -> None:
    outputs = SymbolStream.new("BTCUSDT").apply(events(market(30)))
    lines = [m for m in messages_of(outputs) if isinstance(m, MarketSummary)]
    assert [(line.ts_event - START) // SECOND_NS for line in lines] == closes(outputs)
    assert [line.price for line in lines] == [
        m.price for m in messages_of(outputs) if isinstance(m, FeatureRow) and m.provenance == "live"
    ]
    assert any(line.moved for line in lines)


def test_a_jump_is_told_once_whatever_restarts_happen() -> None:
    jump = [trade(second, (second - 1) * SECOND_NS, 100.0 if second < 13 else 103.0) for second in range(1, 90)]
    messages = [m for t in jump for m in (t, seal(t.trade_id, 1, t.trade_id - 1 or None, t.trade_id, t.trade_id))]
    stream, saved, outputs = SymbolStream.new("BTCUSDT"), {}, []
    for record in events(messages):
        outputs += stream.apply([record])
        stream = restarted(stream, saved)
    assert [o.topic for o in outputs].count(topics.ALERTS) == 2
    assert [m.state for m in messages_of(outputs) if isinstance(m, Alert)] == ["firing", "resolved"]


def test_history_gives_rows_at_whole_minutes_known_a_second_later() -> None:
    rows = [m for m in messages_of(SymbolStream.new("BTCUSDT").apply(events(market(1)))) if isinstance(m, FeatureRow)]
    assert [(r.ts_event, r.created, r.provenance) for r in rows[:70]] == [
        (START + n * MINUTE_NS, START + n * MINUTE_NS + SECOND_NS, "backfill") for n in range(-69, 1)
    ]
    assert [(r.ts_event, r.created, r.provenance) for r in rows[70:]] == [
        (START + SECOND_NS, START + SECOND_NS * 5 // 4, "live"),
    ]
    assert rows[69].values["realized_vol_60m"] is not None


def test_the_newest_row_carries_its_sequence_and_mirrors() -> None:
    online = [o for o in SymbolStream.new("BTCUSDT").apply(events(market(61))) if o.topic == ONLINE]
    assert len(online) == 1
    row = topics.decode(online[0].body, online[0].schema)
    sequence = np.frombuffer(online[0].sequence or b"").reshape(64, len(FORECAST_BAR))
    newest = [row.values[name] for name in FORECAST_BAR]  # type: ignore[attr-defined]
    assert [None if np.isnan(x) else x for x in sequence[-1]] == newest
    assert set(json.loads(online[0].mirrors or "")) == {"1m", "5m", "15m"}


def test_repeated_records_change_nothing_and_are_counted() -> None:
    messages = market(5)
    once = SymbolStream.new("BTCUSDT").apply(events(messages))
    twice = SymbolStream.new("BTCUSDT").apply(events([*messages, *messages]))
    assert messages_of(twice) == messages_of(once)
    assert json.loads(next(o for o in twice if o.topic == COUNTS).mirrors or "") == {"resent": len(messages)}


def test_a_second_waits_for_its_last_trade() -> None:
    stream = SymbolStream.new("BTCUSDT")
    early = [trade(1, 1), seal(1, 2, None, 1, 2), trade(3, SECOND_NS), seal(2, 1, 1, 3, 3)]
    assert closes(stream.apply(events(early))) == []
    assert closes(stream.apply(events([trade(2, 5)], 4))) == [1, 2]


def test_reordered_seals_wait_for_the_one_between() -> None:
    records = events([trade(1, 1), seal(1, 1, None, 1, 1), seal(3, 0, 2), seal(2, 0, 1)])
    stream = SymbolStream.new("BTCUSDT")
    assert [closes(stream.apply([record])) for record in records] == [[], [1], [], [2, 3]]


def test_a_hole_that_the_seals_tell_is_passed_at_once() -> None:
    records = events([trade(1, 1), seal(1, 1, None, 1, 1), seal(9, 0, 1), seal(10, 0, 9)])
    assert closes(SymbolStream.new("BTCUSDT").apply(records)) == [1, 9, 10]


def test_a_lost_seal_is_given_up_after_some_younger_ones() -> None:
    lost = [seal(second, 0, second - 1) for second in range(3, 3 + PATIENCE + 1)]
    stream = SymbolStream.new("BTCUSDT")
    assert closes(stream.apply(events([trade(1, 1), seal(1, 1, None, 1, 1), *lost[:-1]]))) == [1]
    assert closes(stream.apply(events([lost[-1]], 9))) == list(range(3, 3 + PATIENCE + 1))


def test_a_second_whose_trades_never_come_is_a_hole_with_a_dead_letter() -> None:
    later = [seal(second, 0, second - 1) for second in range(3, 3 + PATIENCE)]
    records = events([trade(1, 1), seal(1, 1, None, 1, 1), seal(2, 3, 1, 2, 4), *later])
    outputs = SymbolStream.new("BTCUSDT").apply(records)
    assert closes(outputs) == [1, *range(3, 3 + PATIENCE)]
    letters = [m for m in messages_of(outputs) if isinstance(m, DeadLetter)]
    assert [(x.reason, x.component, x.symbol) for x in letters] == [("IncompleteSecond", "streaming", "BTCUSDT")]


@pytest.mark.parametrize(("record", "reason"), [
    (Event(0, 0, 5, "crypto.btc.trades", "Trade:0000000000000000", b"x"), "UnknownSchema"),
    (Event(0, 0, 5, "crypto.btc.trades", topics.header(Trade), b"\xff\xff"), "InvalidMessage"),
    (events([trade(1, 1, symbol="ETHUSDT")])[0], "InvalidMessage"),
    (events([trade(1, HOUR_NS, ts_init=START)])[0], "InvalidMessage"),
    (events([seal(1, 0, None).model_copy(update={"close": START + 1})])[0], "InvalidMessage"),
    (events([minute(1).model_copy(update={"close_time": START + SECOND_NS})])[0], "InvalidMessage"),
    (Event(0, 0, 5, "crypto.btc.trades", None, b""), "UnknownSchema"),
])
def test_a_record_that_cannot_be_used_becomes_a_dead_letter(record: Event, reason: str) -> None:
    letter, = messages_of(SymbolStream.new("BTCUSDT").apply([record]))
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.payload, letter.topic) == (reason, record.body, "crypto.btc.trades")


def test_rows_computed_many_at_once_are_those_of_one_at_a_time() -> None:
    """More than a block in one batch, with a bar of the venue's history among the seconds and a long hole behind."""
    seals = [seal(950 + n, 0, 949 + n) for n in range(1, 90)]
    records = events([*market(950), minute(17), *seals, seal(3000, 0, 1039), seal(3001, 0, 3000)])
    stream, outputs = SymbolStream.new("BTCUSDT"), []
    for record in records:
        outputs += [o for o in stream.apply([record]) if o.topic not in (ONLINE, COUNTS)]
    assert [o for o in SymbolStream.new("BTCUSDT").apply(records) if o.topic not in (ONLINE, COUNTS)] == outputs


def test_waiting_trades_are_kept_as_they_came() -> None:
    stream = SymbolStream.new("BTCUSDT")
    records = events([trade(n, n % 3 * SECOND_NS + n) for n in range(1, 9)])
    stream.apply(records)
    again = load("BTCUSDT", stream.position, dump(stream), {})
    assert sorted(tick.body for tick in again.seconds.trades.values()) == sorted(record.body for record in records)
    assert again.seconds.trades == stream.seconds.trades


def test_late_trades_are_left_out_and_counted() -> None:
    outputs = SymbolStream.new("BTCUSDT").apply(events([
        trade(1, 1), trade(9, 2, price=500.0, late=True), seal(1, 1, None, 1, 1),
    ]))
    assert [m.high for m in messages_of(outputs) if isinstance(m, Bar)] == [100.0]
    assert [json.loads(o.mirrors or "") for o in outputs if o.topic == COUNTS] == [{"late": 1}]
