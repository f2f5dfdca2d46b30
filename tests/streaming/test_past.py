"""What a witness tells of the past: the raw zone, the venue's klines, a file of trades."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from feature_repo.contracts import HOUR_NS, MINUTE_NS, SECOND_NS
from feature_repo.lake_reader import Lake
from streaming.backfill import closed_bars
from streaming.bars import bars_from_trades
from streaming.mend import backfill, reconcile
from streaming.past import klines, of_files, of_raw
from streaming.stretch import Stretch
from streaming.venues.binance_rest import Identity, RestClient
from tests.feature_repo.made_bars import START_NS
from tests.streaming.made_exchange import Wall, market_of, served, tape_of
from tests.streaming.made_past import NOW, SPAN, SYMBOL, made_trades, raw_lake


def test_the_raw_zone_gives_the_streams_own_bars_again(tmp_path: Path) -> None:
    lake, writer = raw_lake(tmp_path, made_trades())
    span = Stretch(START_NS + 10 * SECOND_NS, START_NS + 110 * SECOND_NS, (SYMBOL,))
    past = of_raw(lake, SYMBOL, span)
    direct = bars_from_trades(made_trades(), START_NS, START_NS + 120 * SECOND_NS)
    assert [(bar.close_time, bar.close, bar.volume, bar.trades) for bar in past.bars] == [
        (bar.close_time, bar.close, bar.volume, bar.trades) for bar in direct[10:110]]
    assert {bar.created - bar.close_time for bar in past.bars} == {250_000_000}
    done = backfill(lake, writer, SYMBOL, past)
    assert (done["bars"], done["rows"]) == (100, 100)
    assert reconcile(lake, writer, SYMBOL, past, span, lambda: NOW).bars == ()


@pytest.mark.parametrize("later_h", [1, 48])
def test_raw_that_holds_nothing_of_the_span_is_refused_and_not_searched_for_in_all_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later_h: int,
) -> None:
    lake, _ = raw_lake(tmp_path, made_trades())
    asked: list[int] = []
    read_raw = Lake.read_raw

    def counted(self: Lake, base: str, topic: str, start_ns: int, end_ns: int) -> pa.Table:
        asked.append(start_ns)
        return read_raw(self, base, topic, start_ns, end_ns)

    monkeypatch.setattr(Lake, "read_raw", counted)
    start = START_NS + later_h * HOUR_NS
    with pytest.raises(ValueError, match=r"expected records of BTCUSDT in the raw zone.*found none.*take --source kl"):
        of_raw(lake, SYMBOL, Stretch(start, start + MINUTE_NS, (SYMBOL,)))
    assert len(asked) == (later_h == 1)


async def test_klines_of_the_span_are_asked_of_the_venue(simulated_frames: list) -> None:
    tape = tape_of(simulated_frames)
    anchor = NOW // MINUTE_NS * MINUTE_NS
    wall = Wall(anchor + 90 * SECOND_NS)
    market = market_of(tape, wall, anchor_ns=anchor)
    span = Stretch(anchor - 5 * MINUTE_NS, anchor + MINUTE_NS, (SYMBOL,))
    origin = Identity("simulated", "s")
    async with served(market, wall) as host, httpx.AsyncClient(trust_env=False) as http:
        rest = RestClient((f"http://{host}",), http, wall)
        minutes = await klines(rest, SYMBOL, span, "1m", origin)
        seconds = await klines(rest, SYMBOL, span, "1s", origin)
        direct = closed_bars(SYMBOL, await rest.klines(SYMBOL, "1m", span.start_ns, span.end_ns), span.end_ns, origin)
        with pytest.raises(ValueError, match="--interval: expected 1m or 1s, found '5m'"):
            await klines(rest, SYMBOL, span, "5m", origin)
    assert list(minutes.bars) == direct
    assert len(direct) == 6
    assert {bar.interval_s for bar in seconds.bars} == {1}


def test_a_trade_archive_fills_whole_seconds_and_tells_no_count_of_aggregates(tmp_path: Path) -> None:
    rows = [
        {"e": "aggTrade", "E": (ms := START_NS // 1_000_000 + i * 900) + 1, "s": SYMBOL, "a": i, "p": f"{100 + i}.0",
         "q": "1.0", "f": i, "l": i, "T": ms, "m": False, "M": True} for i in range(30)
    ]
    file = tmp_path / "trades.json.gz"
    file.write_bytes(gzip.compress(json.dumps(rows).encode()))
    past = of_files([file], SYMBOL, Stretch(START_NS, START_NS + 20 * SECOND_NS, (SYMBOL,)))
    assert "trades" not in past.tells
    assert {(bar.provenance, bar.created - bar.close_time) for bar in past.bars} == {("backfill", SECOND_NS)}
    assert [bar.close for bar in past.bars] == sorted(bar.close for bar in past.bars)
    with pytest.raises(ValueError, match="--frames: expected files of ETHUSDT, found BTCUSDT"):
        of_files([file], "ETHUSDT", SPAN)
