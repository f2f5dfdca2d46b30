"""The past is filled in where nothing was, and where it was wrong a revision is added that says why; both once."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from candlewick import app
from feature_repo import topics
from feature_repo.contracts import HOUR_NS, MINUTE_NS, SECOND_NS, Bar, FeatureRow, Message, SecondClosed, Trade
from feature_repo.feast_asof.join import Times, as_of
from feature_repo.features import FEATURE_NAMES
from feature_repo.history import MINUTES_KEPT, SECONDS_KEPT, BarHistory
from feature_repo.lake_layout import RAW_SCHEMA, unflatten
from feature_repo.lake_reader import Lake
from monitoring.parity import Report, check_lake
from monitoring.parity.revised import check_revised
from streaming.backfill import closed_bars
from streaming.bars import bars_from_trades, minute_bars
from streaming.compaction import compact
from streaming.lake import LakeWriter
from streaming.mend import again, backfill, held_bars, joined, reconcile
from streaming.past import Past, klines, of_files, of_raw
from streaming.revisions import Bars, earliest, newest, push, rows_of
from streaming.stretch import Stretch
from streaming.venues.binance_rest import Identity, RestClient
from tests.feature_repo.made_bars import START_NS, minutes_then_seconds
from tests.streaming.made_exchange import Wall, market_of, served, tape_of

SYMBOL = "BTCUSDT"
SECONDS = 300
SPAN = Stretch(START_NS, START_NS + SECONDS * SECOND_NS, (SYMBOL,))
NOW = START_NS + HOUR_NS
EVER = (START_NS - 30 * HOUR_NS, START_NS + 30 * HOUR_NS)


def history_of(symbol: str, bars: Bars) -> BarHistory:
    """All bars as the kernel holds them."""
    closes = [close for _, close in bars]
    span = max(closes, default=0) - min(closes, default=0)
    history = BarHistory(symbol, span // SECOND_NS + SECONDS_KEPT, span // MINUTE_NS + MINUTES_KEPT)
    push(history, bars)
    return history


def streamed(folder: Path, bars: Sequence[Bar]) -> tuple[Lake, LakeWriter]:
    """A lake as the stream leaves it: all bars, a row of each second."""
    writer = LakeWriter.open(folder.as_uri())
    writer.upsert("clean", list(bars))
    seconds = [bar for bar in bars if bar.interval_s == 1]
    writer.upsert("features", rows_of(history_of(SYMBOL, newest(bars)), seconds))
    return Lake(writer.filesystem, writer.root), writer


def rows(lake: Lake) -> list[FeatureRow]:
    found = [unflatten("features", record) for record in lake.read("features", SYMBOL, *EVER).to_pylist()]
    return [row for row in found if isinstance(row, FeatureRow)]


def revised_rows_of(lake: Lake) -> list[FeatureRow]:
    return [row for row in rows(lake) if row.provenance == "reconcile"]


def told(bars: Sequence[Bar], **tells: tuple[str, ...]) -> Past:
    last = {(bar.interval_s, bar.close_time): bar for bar in bars if SPAN.start_ns < bar.close_time <= SPAN.end_ns}
    return Past("klines", tuple(last.values()), **tells)


def corrected(bar: Bar) -> Bar:
    """The same second with a late trade in it."""
    return bar.model_copy(update={"volume": bar.volume + 1.0, "trades": bar.trades + 1, "high": bar.high + 5.0})


def test_a_hole_is_filled_once_with_bars_and_the_rows_that_the_stream_would_have_made(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    hole = [bar for bar in bars if bar.interval_s == 1][100:160]
    whole, _ = streamed(tmp_path / "whole", bars)
    lake, writer = streamed(tmp_path / "holed", [bar for bar in bars if bar not in hole])
    done = backfill(lake, writer, SYMBOL, told(hole))
    assert (done["told"], done["bars"], done["rows"]) == (60, 60, 60)
    expected = {row.ts_event: row.values for row in rows(whole)}
    filled = {bar.close_time for bar in hole}
    assert {row.ts_event: row.values for row in rows(lake) if row.ts_event in filled} == {
        close: expected[close] for close in filled}
    assert backfill(lake, writer, SYMBOL, told(hole)) == {**done, "bars": 0, "rows": 0}


def test_a_backfill_leaves_what_is_there_as_it_is(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = streamed(tmp_path, bars)
    before = held_bars(lake, SYMBOL, *EVER)
    wrong = [corrected(bar) for bar in bars]
    minutes = minute_bars([bar for bar in wrong if bar.interval_s == 1])
    assert minutes
    assert backfill(lake, writer, SYMBOL, told([*wrong, *minutes]))["bars"] == 0
    assert held_bars(lake, SYMBOL, *EVER) == before


def test_a_hole_filled_after_a_revision_knows_nothing_of_it(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    seconds = [bar for bar in bars if bar.interval_s == 1]
    hole = seconds[61:121]
    whole, _ = streamed(tmp_path / "whole", bars)
    lake, writer = streamed(tmp_path / "holed", [bar for bar in bars if bar not in hole])
    assert reconcile(lake, writer, SYMBOL, told([corrected(seconds[30])]), SPAN, lambda: NOW).rows
    assert backfill(lake, writer, SYMBOL, told(hole))["rows"] == len(hole)
    filled = {bar.close_time for bar in hole}
    assert [row for row in rows(lake) if row.ts_event in filled and row.provenance != "reconcile"] == [
        row for row in rows(whole) if row.ts_event in filled]


def test_of_bars_the_earliest_is_the_first_known_that_is_no_revision() -> None:
    bar = minutes_then_seconds(1)[-1]
    again, revised = (bar.model_copy(update=update) for update in (
        {"created": bar.created + 1, "volume": 2.0}, {"created": bar.created - 1, "provenance": "reconcile"}))
    assert list(earliest([again, revised, bar]).values()) == [bar]
    assert earliest([revised]) == {}


def test_what_a_witness_tells_otherwise_becomes_a_revision_with_a_line_and_both_versions_stay(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = streamed(tmp_path, bars)
    as_known = rows(lake)
    wrong = [bar for bar in bars if bar.interval_s == 1][120]
    right = corrected(wrong)
    found = reconcile(lake, writer, SYMBOL, told([*bars[:-1], right]), SPAN, lambda: NOW)
    line, = (one.line for one in found.bars)
    assert line == (
        f"BTCUSDT 2024-08-08T23:42:01Z 1 s: high {wrong.high} → {right.high}, volume {wrong.volume} → {right.volume}, "
        f"trades {wrong.trades} → {right.trades}, told by klines")
    assert {row.ts_event for row in as_known} >= {one.row.ts_event for one in found.rows}
    assert min(one.row.ts_event for one in found.rows) == wrong.close_time
    assert all("by the bar of 2024-08-08T23:42:01Z" in one.line for one in found.rows)

    both = [bar for bar in lake.read("clean", SYMBOL, wrong.close_time, wrong.close_time).to_pylist()
            if bar["interval_s"] == 1]
    assert [(bar["provenance"], bar["created"], bar["volume"], bar["bid_price"]) for bar in both] == [
        ("live", wrong.created, wrong.volume, wrong.bid_price), ("reconcile", NOW, right.volume, wrong.bid_price)]
    held = rows(lake)
    assert [row for row in held if row.provenance != "reconcile"] == as_known
    revised = [row for row in held if row.provenance == "reconcile"]
    assert {row.created for row in revised} == {NOW}
    truth = {row.ts_event: row.values for row in
             rows_of(history_of(SYMBOL, newest([*bars, right.model_copy(update={"created": NOW})])),
                     [bar for bar in bars if bar.interval_s == 1])}
    known = {row.ts_event: row.values for row in as_known} | {row.ts_event: row.values for row in revised}
    assert known == truth, "newest row of every second as if the right bar had always been there"
    again = reconcile(lake, writer, SYMBOL, told([*bars[:-1], right]), SPAN, lambda: NOW + 1)
    assert (again.bars, again.rows) == ((), ())


def test_a_question_before_the_revision_is_answered_as_it_was_known_and_after_it_as_revised(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = streamed(tmp_path, bars)
    wrong = bars[-1]
    reconcile(lake, writer, SYMBOL, told([*bars[:-1], corrected(wrong)]), SPAN, lambda: NOW)
    compact(writer, "features", "features/btc/date=2024-08-08/hour=23")
    held = lake.rows("features", [SYMBOL], *EVER, ["symbol", "ts_event", "created", "provenance"])
    event, created = (held[name].to_numpy() for name in ("ts_event", "created"))
    asked = pa.array([SYMBOL] * 2)
    found = as_of([held["symbol"].combine_chunks()], Times(event, created, created), [asked], np.array([NOW - 1, NOW]))
    assert held.take(found)["provenance"].to_pylist() == ["live", "reconcile"]


def test_revisions_are_known_from_when_they_are_written(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = streamed(tmp_path, bars)
    moments = iter([NOW, NOW + 7])
    found = reconcile(lake, writer, SYMBOL, told([corrected(bars[-1])]), SPAN, lambda: next(moments))
    assert {found.created, *(one.row.created for one in found.rows)} == {NOW + 7}
    for zone in ("clean", "features"):
        held = lake.read(zone, SYMBOL, *EVER).to_pylist()
        assert {row["created"] for row in held if row["provenance"] == "reconcile"} == {NOW + 7}


def test_seconds_that_were_not_held_are_revisions_and_what_comes_after_the_newest_is_not_missing(
    tmp_path: Path,
) -> None:
    bars = minutes_then_seconds(SECONDS)
    seconds = [bar for bar in bars if bar.interval_s == 1]
    lake, writer = streamed(tmp_path, [bar for bar in bars if bar not in seconds[200:203] and bar not in seconds[290:]])
    found = reconcile(lake, None, SYMBOL, told(bars), SPAN, lambda: NOW)
    assert [one.told.close_time for one in found.bars] == [bar.close_time for bar in seconds[200:203]]
    assert found.bars[1].line.endswith(": no bar held, 3 trades told by klines")
    assert not list(tmp_path.rglob("rev-*")), "a dry run writes nothing"
    reconcile(lake, writer, SYMBOL, told(bars), SPAN, lambda: NOW)
    assert {bar.provenance for key, bar in held_bars(lake, SYMBOL, *EVER).items()
            if key[1] in {bar.close_time for bar in seconds[200:203]} and key[0] == 1} == {"reconcile"}


def test_minutes_are_compared_with_those_that_the_held_seconds_make(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, _ = streamed(tmp_path, bars)
    minutes = minute_bars([bar for bar in bars if bar.interval_s == 1])
    assert len(minutes) == 5
    assert reconcile(lake, None, SYMBOL, told(minutes), SPAN, lambda: NOW).bars == ()
    found = reconcile(lake, None, SYMBOL, told([*minutes[:2], corrected(minutes[2])]), SPAN, lambda: NOW)
    assert [(one.told.interval_s, one.fields) for one in found.bars] == [(60, ("high", "volume", "trades"))]
    assert {FEATURE_NAMES.index(name) >= 0 for one in found.rows for name in one.features} <= {True}


def test_what_a_witness_cannot_tell_is_not_compared(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, _ = streamed(tmp_path, bars)
    aggregates = [bar.model_copy(update={"trades": 1, "taker_buy_volume": None}) for bar in bars]
    past = told(aggregates, tells=("close", "taker_buy_volume"))
    assert reconcile(lake, None, SYMBOL, past, SPAN, lambda: NOW).bars == ()


def test_nothing_held_is_no_truth_to_revise(tmp_path: Path) -> None:
    writer = LakeWriter.open(tmp_path.as_uri())
    with pytest.raises(ValueError, match="found none: backfill first"):
        reconcile(Lake(writer.filesystem, writer.root), writer, SYMBOL, told([]), SPAN, lambda: NOW)


def test_a_kill_between_rows_and_bars_is_mended_by_the_same_call(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = streamed(tmp_path, bars)
    past = told([*bars[:-1], corrected(bars[-1])])

    class Dies(LakeWriter):
        def add_revision(self, zone: Any, messages: Any, provenance: str) -> list[str]:
            if zone == "clean":
                raise InterruptedError
            return super().add_revision(zone, messages, provenance)

    with pytest.raises(InterruptedError):
        reconcile(lake, Dies(writer.filesystem, writer.root), SYMBOL, past, SPAN, lambda: NOW)
    found = reconcile(lake, writer, SYMBOL, past, SPAN, lambda: NOW + 1)
    assert (len(found.bars), len(found.rows)) == (1, 1)
    assert reconcile(lake, writer, SYMBOL, past, SPAN, lambda: NOW + 2).bars == ()
    # The rows of the attempt that died follow from the bars of its repeat.
    known = {row.ts_event: row for row in rows(lake) if row.provenance != "reconcile"}
    report = Report(SYMBOL)
    check_revised(report, lake, (SPAN.start_ns, SPAN.end_ns), known, revised_rows_of(lake))
    assert (report.revised.rows, report.revised.mismatches) == (2, 0)


def test_the_reconcile_made_again_at_its_own_time_is_what_it_was_whatever_came_later(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    seconds = [bar for bar in bars if bar.interval_s == 1]
    lake, writer = streamed(tmp_path, bars)
    first = reconcile(lake, writer, SYMBOL, told([corrected(seconds[30])]), SPAN, lambda: NOW)
    second = reconcile(lake, writer, SYMBOL, told([corrected(seconds[40])]), SPAN, lambda: NOW + HOUR_NS)
    for done in (first, second):
        made = again(lake, SYMBOL, done.created, SPAN.start_ns, SPAN.end_ns)
        assert [one.row for one in made.rows] == [one.row for one in done.rows]
        assert [one.line for one in made.bars] == [
            one.line.replace("told by klines", "told by a reconcile") for one in done.bars]
    assert again(lake, SYMBOL, NOW + 2 * HOUR_NS, SPAN.start_ns, SPAN.end_ns).bars == ()


def test_parity_judges_the_streams_rows_and_counts_what_was_filled_in_or_revised(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    hole = [bar for bar in bars if bar.interval_s == 1][-9:-4]
    lake, writer = streamed(tmp_path, [bar for bar in bars if bar not in hole])
    streams_own = {row.ts_event: row for row in rows(lake)}
    backfill(lake, writer, SYMBOL, told([bar.model_copy(update={"provenance": "backfill"}) for bar in hole]))
    reconcile(lake, writer, SYMBOL, told([corrected(bars[-1])]), SPAN, lambda: NOW)
    report = Report(SYMBOL)
    check_lake(report, rows(lake), streams_own)
    assert (report.mismatches, report.revised.filled_in, report.rows) == (0, 5, SECONDS - 5)
    check_revised(report, lake, (SPAN.start_ns, SPAN.end_ns), streams_own, revised_rows_of(lake))
    assert (report.revised.rows, report.revised.mismatches) == (1, 0)


# --- witnesses ------------------------------------------------------------------------------------------------------


def raw_lake(folder: Path, trades: Sequence[Trade]) -> tuple[Lake, LakeWriter]:
    """A raw zone with the trades of some seconds and their seals."""
    messages: list[Message] = []
    for second in range(1, 121):
        close, before = START_NS + second * SECOND_NS, START_NS + (second - 1) * SECOND_NS
        inside = [trade for trade in trades if before <= trade.ts_event < close]
        messages += [*inside, SecondClosed(
            symbol=SYMBOL, ts_event=close, ts_init=close + 250_000_000, source="simulated", session="made", close=close,
            prev_close=before if second > 1 else None, n_trades=len(inside),
            first_trade_id=inside[0].trade_id if inside else None,
            last_trade_id=inside[-1].trade_id if inside else None)]
    writer = LakeWriter.open(folder.as_uri())
    writer.write_batch(pa.Table.from_pylist([
        {"topic": topics.trades_topic(SYMBOL), "partition": 0, "offset": number,
         "kafka_timestamp": datetime.fromtimestamp(START_NS / 1e9, UTC), "key": SYMBOL,
         "schema": topics.header(message), "value": topics.encode(message)}
        for number, message in enumerate(messages)], RAW_SCHEMA))
    return Lake(writer.filesystem, writer.root), writer


def made_trades() -> list[Trade]:
    return [
        Trade(symbol=SYMBOL, ts_event=START_NS + i * 700_000_000, ts_init=START_NS + i * 700_000_000 + 1,
              source="simulated", session="made", trade_id=i + 1, price=60_000.0 + i, quantity=0.1,
              buyer_is_maker=i % 2 == 0)
        for i in range(170)
    ]


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


# --- the verbs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake in the environment, with an exchange's address that nobody answers."""
    for name, value in {
        "RUN_DIR": tmp_path, "LAKE_URL": (tmp_path / "lake").as_uri(), "KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "VENUE_REST": "http://127.0.0.1:1", "VENUE_WS": "ws://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(f"CANDLEWICK_{name}", str(value))
    return tmp_path / "lake"


def verb(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--symbol", SYMBOL])
    return done.exit_code, done.output if done.exception is None or done.exit_code == 0 else str(done.exception)


def test_the_verbs_fill_from_raw_and_explain_a_planted_difference(stage: Path) -> None:
    lake, writer = raw_lake(stage, made_trades())
    span = ("--from", str(START_NS + 10 * SECOND_NS), "--to", str(START_NS + 110 * SECOND_NS), "--source", "raw")
    code, output = verb("backfill", *span, "--json")
    assert (code, json.loads(output)["symbols"]) == (
        0, [{"symbol": SYMBOL, "told": 100, "bars": 100, "rows": 100}])
    planted = held_bars(lake, SYMBOL, *EVER)[1, START_NS + 50 * SECOND_NS]
    writer.upsert("clean", [planted.model_copy(update={"volume": 9.0, "created": planted.created + 1})])
    code, output = verb("reconcile", *span, "--dry-run")
    assert code == 0
    assert output.splitlines()[0] == (
        f"BTCUSDT 2024-08-08T23:40:50Z 1 s: volume 9.0 → {planted.volume}, told by raw")
    assert "100 bars compared with raw, 1 bars and " in output
    shown = json.loads(verb("reconcile", *span, "--json", "--lines", "1")[1])["symbols"][0]
    assert (shown["revised_bars"], len(shown["lines"])) == (1, 1)
    assert shown["lines_left_out"] == shown["revised_rows"] > 0
    frame = pd.read_parquet(stage / "clean" / "btc")
    assert np.isin(frame["provenance"], ["live", "reconcile"]).all()


def test_a_span_of_days_is_filled_a_day_at_a_time_and_days_without_records_are_passed_over(stage: Path) -> None:
    lake, writer = raw_lake(stage, made_trades())
    end, earlier = ("--to", str(START_NS + 110 * SECOND_NS)), ("--from", str(START_NS - 40 * HOUR_NS))
    code, output = verb("backfill", *earlier, *end, "--source", "raw", "--json")
    assert (code, json.loads(output)["symbols"]) == (
        0, [{"symbol": SYMBOL, "told": 110, "bars": 110, "rows": 110}])
    planted = held_bars(lake, SYMBOL, *EVER)[1, START_NS + 50 * SECOND_NS]
    writer.upsert("clean", [planted.model_copy(update={"volume": 9.0, "created": planted.created + 1})])
    found = json.loads(verb("reconcile", *earlier, *end, "--source", "raw", "--dry-run", "--json")[1])["symbols"][0]
    assert (found["compared"], found["revised_bars"]) == (110, 1)
    code, output = verb("backfill", *earlier, "--to", str(START_NS - 20 * HOUR_NS), "--source", "raw")
    assert code == 1
    assert "expected records of BTCUSDT in the raw zone" in output


def test_what_two_parts_of_a_span_told_is_one_report() -> None:
    part = {"symbol": SYMBOL, "created": 1, "compared": 5, "revised_bars": 1, "revised_rows": 2,
            "lines": ["a", "b"], "lines_left_out": 1}
    assert joined(None, part, 3) == part
    assert joined(part, {**part, "created": 2, "lines": ["c", "d"]}, 3) == {
        "symbol": SYMBOL, "created": 2, "compared": 10, "revised_bars": 2, "revised_rows": 4,
        "lines": ["a", "b", "c"], "lines_left_out": 3,
    }


def test_a_revision_is_no_older_than_what_its_witness_told(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, writer = raw_lake(stage, made_trades())
    span = ("--from", str(START_NS + 10 * SECOND_NS), "--to", str(START_NS + 110 * SECOND_NS), "--source", "raw")
    planted = bars_from_trades(made_trades(), START_NS, START_NS + 120 * SECOND_NS)[50]
    writer.upsert("clean", [corrected(planted).model_copy(update={"provenance": "live"})])
    told_ns: list[int] = []

    def timed(lake: Lake, symbol: str, span: Stretch) -> Past:
        past = of_raw(lake, symbol, span)
        told_ns.append(time.time_ns())
        return past

    monkeypatch.setattr("streaming.mend_verbs.of_raw", timed)
    code, output = verb("reconcile", *span, "--json")
    assert code == 0, output
    revised = [row["created"] for zone in ("clean", "features")
               for row in Lake(writer.filesystem, writer.root).read(zone, SYMBOL, *EVER).to_pylist()
               if row["provenance"] == "reconcile"]
    assert revised
    assert min(revised) >= told_ns[0]


@pytest.mark.parametrize(("words", "reason"), [
    (["reconcile"], "expected --from and --to; found neither"),
    (["backfill", "--from", "2024-01-01"], "expected both --from and --to"),
    (["backfill", "--source", "raw"], "--source raw: expected --from and --to"),
    (["backfill", "--source", "gossip"], "--source: expected klines, files, raw"),
    (["reconcile", "--from", "2024-01-01", "--to", "2999-01-01"], "--to: expected a time at least 120 s ago"),
    (["reconcile", "--from", "2024-01-01", "--to", "2024-01-02", "--source", "files"], "expected --frames"),
])
def test_words_that_cannot_be_followed_are_refused(stage: Path, words: list[str], reason: str) -> None:
    code, output = verb(*words)
    assert code == 1
    assert reason in output
    assert not stage.exists()
