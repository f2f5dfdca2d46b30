"""A planned reconnect at thirty times the market's pace: held to its seconds, so it runs alone."""

from __future__ import annotations

import time

import pytest

from feature_repo.contracts import SecondClosed, Trade
from streaming.bars import distinct
from streaming.recording import Line
from tests.streaming.made_exchange import served
from tests.streaming.made_ingest import Memory, ingesting, read_bars, until
from tests.streaming.test_ingest import expected, figures, last_close, played_once

pytestmark = [pytest.mark.integration, pytest.mark.alone]


async def test_planned_reconnect_leaves_no_gap_and_sends_nothing_twice(simulated_frames: list[Line]) -> None:
    wanted, memory = expected(simulated_frames), Memory()
    market = played_once(simulated_frames)
    async with served(market, time.time_ns) as host, ingesting(host, memory, planned_s=0.5, overlap_s=0.3) as ingest:
        await until(lambda: last_close(memory) >= max(wanted))
        assert ingest.metrics.resyncs("BTCUSDT") == 0
    bars = figures(read_bars([message for _, message in memory.sent]))
    assert bars.items() <= wanted.items()
    assert len(memory.of(Trade)) == len(distinct(memory.of(Trade)))
    assert not any(trade.late for trade in memory.of(Trade))
    seals = memory.of(SecondClosed)
    assert all(seal.book_valid for seal in seals[20:])
