"""Symbols added and removed while exchange, ingest and Spark run; each symbol's rows equal its own recomputation.

Both recordings at 12×, in their own time: BTCUSDT from the start, ETHUSDT added and removed on the way.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from feature_repo import topics
from feature_repo.contracts import SECOND_NS, FeatureRow, SecondClosed, StoreUnavailable
from feature_repo.lake_layout import unflatten
from feature_repo.settings import ROOT
from feature_repo.symbols import read_followed
from streaming.follow import add, remove
from streaming.recompute import recompute
from tests.conftest import Recorded
from tests.integration.conftest import free_port
from tests.integration.streaming_stack import (
    EVER,
    StreamingStack,
    decoded,
    fresh_topics,
    length,
    records,
    until,
)

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(400)]
BTC, ETH = "BTCUSDT", "ETHUSDT"
INPUTS = tuple(topic(symbol) for symbol in (BTC, ETH) for topic in (topics.trades_topic, topics.order_book_topic))
OUTPUTS = (topics.CLEAN, topics.FEATURES, topics.DEAD_LETTERS)


Told = subprocess.CompletedProcess[str]


@dataclass
class Ran:
    """The stack when its market has ended, and what was seen on the way."""

    stack: StreamingStack
    unknown: Told
    """What was told of an instrument that the venue does not trade."""
    left: int
    """Records of the removed symbol's trades topic some time after it was removed."""
    later: int
    """… and at the end."""


def candlewick(stack: StreamingStack, *arguments: str) -> Told:
    command = [sys.executable, "candlewick.py", *arguments, "--json"]
    return subprocess.run(command, cwd=ROOT, env=stack.environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def ran(
    tmp_path_factory: pytest.TempPathFactory, kafka: str, redis_process: str, recorded: Recorded,
) -> Iterator[Ran]:
    fresh_topics(kafka, (*INPUTS, *OUTPUTS, topics.SYMBOLS))
    folder, database = tmp_path_factory.mktemp("symbols"), f"{redis_process.rsplit('/', 1)[0]}/4"
    stack = StreamingStack.make(folder, kafka, database, free_port)
    files = [str(path) for symbol in (BTC, ETH) for path in recorded.frames(symbol)]
    try:
        stack.start_exchange("--frames", *files, "--speed", "12")
        stack.start_job()
        stack.start("streaming.ingest")
        until(lambda: length(kafka, topics.FEATURES) > 1_600, 240, "rows of the first symbol come")
        assert candlewick(stack, "symbols", "add", ETH).returncode == 0
        until(lambda: stack.store.read(ETH) is not None, 120, "the added symbol has a row in Redis")
        assert candlewick(stack, "symbols", "remove", ETH).returncode == 0
        at = length(kafka, INPUTS[0])
        until(lambda: length(kafka, INPUTS[0]) > at + 200, 60, "the first symbol goes on")
        left = length(kafka, topics.trades_topic(ETH))
        unknown = candlewick(stack, "symbols", "add", "DOGEUSDT")
        stack.kill("exchange")
        assert stack.stop("ingest") == 0
        for symbol in (BTC, ETH):
            stack.await_close(max(seal.close for seal in seals(kafka, symbol)), symbol=symbol)
        yield Ran(stack, unknown, left, length(kafka, topics.trades_topic(ETH)))
    finally:
        stack.close()


def seals(kafka: str, symbol: str) -> list[SecondClosed]:
    found = decoded(records(kafka, topics.trades_topic(symbol)))
    return [message for message in found if isinstance(message, SecondClosed)]


def test_an_added_symbol_has_history_bars_and_rows_and_a_removed_one_ends(ran: Ran, kafka: str) -> None:
    rows = ran.stack.lake.read("features", ETH, *EVER).to_pylist()
    live = [row["ts_event"] for row in rows if row["provenance"] == "live"]
    assert live == list(range(live[0], live[-1] + SECOND_NS, SECOND_NS))
    assert len(live) >= 10
    assert ran.left == ran.later, "its streams have ended"
    assert seals(kafka, BTC)[-1].close > live[-1] + 10 * SECOND_NS, "the other symbol went on"
    assert read_followed(kafka, ran.stack.settings.symbols) == (BTC,)
    online = ran.stack.store.read(ETH)
    assert online is not None
    assert online.row.ts_event == live[-1], "what was written stays"
    assert (ran.stack.settings.run_dir / "lake" / "features" / "eth").is_dir()


@pytest.mark.parametrize("symbol", [BTC, ETH])
def test_each_symbols_rows_equal_its_recomputation(ran: Ran, kafka: str, symbol: str) -> None:
    raw = [
        {"schema": (topics.record_schema(r.headers) or b"").decode(), "value": r.value}
        for r in records(kafka, topics.trades_topic(symbol))
    ]
    again = recompute(symbol, raw)
    held = ran.stack.lake.read("features", symbol, *EVER).to_pylist()
    assert {row["symbol"] for row in held} == {symbol}
    assert sorted(again.closes) == [row["ts_event"] for row in held]
    closes = [row["ts_event"] for row in held][-60:]
    ours = [unflatten("features", row) for row in held[-60:]]
    assert ours == again.rows(closes)
    assert all(isinstance(row, FeatureRow) for row in ours)
    online = ran.stack.store.read(symbol)
    assert online is not None
    assert online.row == ours[-1]


def test_a_killed_ingest_still_knows_what_is_followed(ran: Ran, kafka: str) -> None:
    """Every process asks the same topic when it starts."""
    assert candlewick(ran.stack, "symbols", "list").stdout.strip() == '{"followed": ["BTCUSDT"]}'
    assert read_followed(kafka, (BTC, ETH)) == (BTC,)


def test_an_instrument_that_the_venue_does_not_trade_is_refused(ran: Ran) -> None:
    assert ran.unknown.returncode == 2
    assert "expected an instrument that the venue trades, found DOGEUSDT (no such instrument)" in ran.unknown.stderr


async def test_what_cannot_be_added_or_removed_is_refused_with_the_reason(ran: Ran) -> None:
    settings = ran.stack.settings
    with pytest.raises(ValueError, match="expected instruments of one market, found spot and usdm"):
        await add(settings, "BTCUSDT-PERP.BINANCE")
    with pytest.raises(ValueError, match="BTCUSDT is the last one followed"):
        remove(settings, BTC)
    with pytest.raises(ValueError, match="expected one of the followed BTCUSDT; found 'DOGEUSDT'"):
        remove(settings, "DOGEUSDT")


async def test_what_is_followed_already_is_left_as_it_is(ran: Ran) -> None:
    assert await add(ran.stack.settings, BTC) == {"symbol": BTC, "changed": False, "followed": [BTC]}


def test_a_broker_that_is_away_is_said() -> None:
    with pytest.raises(StoreUnavailable, match="Kafka expected at 127\\.0\\.0\\.1:1, found"):
        read_followed("127.0.0.1:1", (BTC,))
