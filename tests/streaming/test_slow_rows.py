"""Slow rows in the lake: once each, the same after a kill, known no earlier than they were, online by newest wins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from candlewick import app
from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, Observation, StoreUnavailable
from feature_repo.lake_reader import Lake
from feature_repo.slow_features import SLOW_VIEWS, SlowRow, rows
from feature_repo.slow_series import session_close
from streaming import slow_history
from streaming.lake import LakeWriter
from streaming.lake_upkeep import Upkeep
from streaming.slow_rows import SlowRows, lake_closes, new_among, read_observations
from tests.feature_repo.made_observations import (
    END_NS,
    LAST_DAY,
    everything,
    made_bar,
    made_closes,
    made_fear_greed,
    made_funding,
    made_macro,
    observation,
    sessions,
)

FOLLOWED = ("BTCUSDT", "ETHUSDT")
ALL = 2**62


class Online:
    """An online store that can be away; it remembers what came, in order."""

    def __init__(self) -> None:
        self.rows: list[SlowRow] = []
        self.away = False

    def write(self, row: SlowRow) -> bool:
        if self.away:
            raise StoreUnavailable("redis is away")
        self.rows.append(row)
        return True


def slow_rows(folder: Path, online: Online, followed: Sequence[str] = FOLLOWED, now_ns: int = END_NS) -> SlowRows:
    writer = LakeWriter.open(folder.as_uri())
    return SlowRows(Lake(writer.filesystem, writer.root), writer, online.write, lambda: followed, lambda: now_ns)


def lake_of(folder: Path) -> Lake:
    return Lake.open(folder.as_uri())


def held(folder: Path, zone: str, symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
    return lake_of(folder).read(zone, symbol, 0, ALL).to_pylist()  # type: ignore[arg-type, no-any-return]


def by_created(told: Sequence[Observation]) -> list[Observation]:
    return sorted(told, key=lambda o: o.created)


def test_rows_come_out_as_the_kernel_makes_them_whatever_the_batches(tmp_path: Path) -> None:
    told = by_created([*made_funding(40), *made_fear_greed(20)])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    slow_rows(whole, Online())(told)
    step = slow_rows(parts, Online())
    for i in range(0, len(told), 7):
        step(told[i : i + 7])
    for view in SLOW_VIEWS[:3]:
        assert held(whole, view.name) == held(parts, view.name)
    funding = made_funding(40)
    expected = [r.values["funding_rate_mean_7d"] for r in rows(SLOW_VIEWS[0], "BTCUSDT", funding, funding)]
    assert [r["funding_rate_mean_7d"] for r in held(parts, "funding")] == expected


def test_what_is_told_again_changes_nothing(tmp_path: Path) -> None:
    told = made_funding(5)
    again = [o.model_copy(update={"created": o.created + DAY_NS, "ts_init": o.created + DAY_NS}) for o in told]
    flagged = [told[-1].model_copy(update={"created": told[-1].created + HOUR_NS, "stale": True})]
    online = Online()
    slow = slow_rows(tmp_path, online)
    assert slow(told) == 5
    before = {zone: held(tmp_path, zone) for zone in ("funding", "observations")}
    assert [slow(news) for news in (again, flagged, told)] == [0, 0, 0]
    assert {zone: held(tmp_path, zone) for zone in before} == before
    assert len(online.rows) == 1


def test_a_batch_repeated_after_a_kill_before_its_end_makes_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = by_created(made_fear_greed(12))
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    slow_rows(undisturbed, Online())(told)
    upsert = LakeWriter.upsert

    def dies(self: LakeWriter, zone: Any, messages: Any) -> None:
        if zone == "observations":
            raise KeyboardInterrupt
        upsert(self, zone, messages)

    with monkeypatch.context() as patched:
        patched.setattr(LakeWriter, "upsert", dies)
        with pytest.raises(KeyboardInterrupt):
            slow_rows(killed, Online())(told)
    assert read_observations(lake_of(killed), ["MARKET"], 0, ALL) == []
    slow_rows(killed, Online())(told)
    for zone, symbol in (("fear_greed", "BTCUSDT"), ("fear_greed", "ETHUSDT"), ("observations", "MARKET")):
        assert held(killed, zone, symbol) == held(undisturbed, zone, symbol)


def test_the_markets_values_are_rows_of_every_symbol_and_a_contracts_of_its_own(tmp_path: Path) -> None:
    slow_rows(tmp_path, Online())([*made_fear_greed(2), *made_funding(2, word="ETHUSDT")])
    assert [len(held(tmp_path, "fear_greed", symbol)) for symbol in FOLLOWED] == [2, 2]
    assert [len(held(tmp_path, "funding", symbol)) for symbol in FOLLOWED] == [0, 2]


def test_an_online_store_that_is_away_holds_up_nothing_and_gets_the_newest_rows_when_it_is_back(tmp_path: Path) -> None:
    online = Online()
    slow = slow_rows(tmp_path, online)
    online.away = True
    told = by_created(made_fear_greed(4))
    for one in told:
        assert slow([one]) == 1
    online.away = False
    slow([])
    assert {(row.symbol, row.ts_event) for row in online.rows} == {(s, told[-1].ts_event) for s in FOLLOWED}


def test_after_a_restart_the_newest_rows_of_the_lake_are_written_online(tmp_path: Path) -> None:
    told = by_created(made_fear_greed(4))
    first = Online()
    slow_rows(tmp_path, first)(told)
    again = Online()
    slow_rows(tmp_path, again)([])
    assert again.rows == first.rows
    late = Online()
    slow_rows(tmp_path, late, now_ns=END_NS + 30 * DAY_NS)([])
    assert late.rows == [], "too old to be an answer"


def test_what_a_backfill_adds_while_the_stream_runs_is_online_within_five_minutes(tmp_path: Path) -> None:
    online, now = Online(), [END_NS]
    writer = LakeWriter.open(tmp_path.as_uri())
    lake = Lake(writer.filesystem, writer.root)
    slow = SlowRows(lake, writer, online.write, lambda: FOLLOWED, lambda: now[0])
    slow([])
    told = made_fear_greed(3)
    added = rows(SLOW_VIEWS[2], "ETHUSDT", told, told)
    writer.add_revision("fear_greed", added, "backfill")
    for after_ns, expected in ((5 * MINUTE_NS - 1, []), (5 * MINUTE_NS, [added[-1]]), (5 * MINUTE_NS + 1, [added[-1]])):
        now[0] = END_NS + after_ns
        for _ in FOLLOWED:
            slow([])
        assert online.rows == expected
    now[0] = END_NS + 10 * MINUTE_NS
    slow([])
    assert online.rows == [added[-1]], "one symbol's turn a batch"
    slow([])
    assert online.rows == [added[-1], added[-1]]


def test_a_beta_reads_the_lakes_own_closes_as_they_were_known(tmp_path: Path) -> None:
    writer = LakeWriter.open(tmp_path.as_uri())
    bars = [made_bar(o.ts_event, o.value) for o in made_closes(count=30)]
    revised = made_bar(bars[-1].close_time, 1.0, created=END_NS + 9 * DAY_NS)
    for each in (*bars, revised):
        writer.upsert("clean", [each])
    told = [o.model_copy(update={"source": "live"}) for o in made_macro(30)]
    slow_rows(tmp_path, Online(), ("BTCUSDT",))(told)
    expected = rows(SLOW_VIEWS[3], "BTCUSDT", told, told, made_closes(count=30))
    assert held(tmp_path, "macro")[-1]["beta_gold_20d"] == expected[-1].values["beta_gold_20d"]
    assert expected[-1].values["beta_gold_20d"] is not None
    assert [o.value for o in lake_closes(lake_of(tmp_path), "BTCUSDT", [END_NS])] == [bars[-1].close, 1.0]


def test_a_month_of_a_slow_zone_is_one_folder(tmp_path: Path) -> None:
    slow_rows(tmp_path, Online(), ("BTCUSDT",))(made_fear_greed(30))
    folders = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")}
    assert {f for f in folders if f.startswith("fear_greed/")} == {"fear_greed/btc/date=2025-03-01/hour=00"}
    lake = lake_of(tmp_path)
    assert lake.newest("fear_greed", "BTCUSDT") == END_NS // DAY_NS * DAY_NS
    some = lake.read("fear_greed", "BTCUSDT", END_NS - 3 * DAY_NS, END_NS)
    assert some.num_rows == 3


def test_a_month_of_a_slow_zone_is_kept_until_its_last_day_is_past_its_time(tmp_path: Path) -> None:
    slow_rows(tmp_path, Online(), ("BTCUSDT",))(made_fear_greed(3))
    month_ends = END_NS // DAY_NS * DAY_NS + DAY_NS
    writer = LakeWriter.open(tmp_path.as_uri())
    gone = [Upkeep(writer, {"fear_greed": 30}, lambda at=at: at).all_expired(dry_run=True)["fear_greed"]["hours"]
            for at in (month_ends + 29 * DAY_NS, month_ends + 30 * DAY_NS)]
    assert gone == [0, 1]


def test_of_two_words_on_one_moment_the_first_and_each_change_count(tmp_path: Path) -> None:
    at = END_NS // DAY_NS * DAY_NS
    told = [observation("fear_greed", at, value, created=at + n) for n, value in enumerate((40.0, 40.0, 41.0, 40.0))]
    assert [o.value for o in new_among(lake_of(tmp_path), told)] == [40.0, 41.0, 40.0]


# --- the data folder's files ---

def write_files(folder: Path) -> Path:
    """A data folder of a few made files, in the shapes of the real ones."""
    context = folder / "context"
    context.mkdir(parents=True)
    (context / "binance_btcusdt_funding_8h.csv").write_text(
        "symbol,fundingTime,fundingRate,markPrice\n"
        "BTCUSDT,2025-03-30 16:00:00+00:00,0.0001,\n"
        "BTCUSDT,2025-03-31 00:00:00.001000+00:00,0.0002,82000.1\n")
    (context / "binance_oi_metrics_5m.csv").write_text(
        "date,symbol,sum_open_interest,sum_open_interest_value\n2025-03-31 00:05:00+00:00,BTCUSDT,80000.5,6e9\n")
    (context / "fear_greed_daily.csv").write_text(
        f"date,timestamp,value,classification\n2025-03-31,{END_NS // DAY_NS * 86_400},34.0,Fear\n")
    closes = "".join(f"{day},1.0,1.0,1.0,{close},5\n" for day, close in (("2025-03-28", 555.0), ("2025-03-31", 560.0)))
    (context / "macro_SPY.csv").write_text("date,open,high,low,close,volume\n" + closes)
    (context / "macro_DGS10.csv").write_text("date,value\n2025-03-28,4.27\n2025-03-30,\n2025-03-31,4.23\n")
    return folder


def backfilled(lake_folder: Path, data: Path, now_ns: int = END_NS + 9 * DAY_NS, **given: Any) -> dict[str, Any]:
    writer = LakeWriter.open(lake_folder.as_uri())
    lake = Lake(writer.filesystem, writer.root)
    return slow_history.backfill(lake, writer, data, ("BTCUSDT",), lambda: now_ns, **given)


def test_files_become_rows_known_their_lag_later_and_again_nothing(tmp_path: Path) -> None:
    data, lake = write_files(tmp_path / "data"), tmp_path / "lake"
    found = backfilled(lake, data)
    assert found["rows"] == {"funding": 2, "open_interest": 1, "fear_greed": 1, "macro": 2}
    for view in SLOW_VIEWS:
        for row in held(lake, view.name):
            assert row["created"] == row["ts_event"] + view.lag_ns
            assert (row[view.state("source")], row[view.state("provenance")]) == ("live", "backfill")
    [before, last] = held(lake, "macro")
    assert (last["ts_event"], last["vix_close_1d"], last["us10y_close_1d"]) == (session_close(LAST_DAY), None, 4.23)
    assert last["us10y_change_1d"] == pytest.approx(-0.04)
    assert before["sp500_return_1d"] is None
    files = {path: path.read_bytes() for path in lake.rglob("*.parquet")}
    again = backfilled(lake, data)
    assert (sum(again["rows"].values()), again["held"]) == (0, 8)
    assert {path: path.read_bytes() for path in lake.rglob("*.parquet")} == files


def test_what_is_not_known_yet_and_what_lies_outside_the_span_is_left_out(tmp_path: Path) -> None:
    data = write_files(tmp_path / "data")
    early = backfilled(tmp_path / "early", data, now_ns=END_NS + HOUR_NS)
    assert early["rows"]["macro"] == 1
    span = (session_close(LAST_DAY) - HOUR_NS, session_close(LAST_DAY))
    found = backfilled(tmp_path / "span", data, span=span)
    assert found["rows"] == {"funding": 0, "open_interest": 0, "fear_greed": 0, "macro": 1}


def test_what_a_poller_has_told_already_stays_as_it_is(tmp_path: Path) -> None:
    data, lake = write_files(tmp_path / "data"), tmp_path / "lake"
    at = END_NS // DAY_NS * DAY_NS
    slow_rows(lake, Online(), ("BTCUSDT",))([observation("fear_greed", at, 35.0, created=at + HOUR_NS)])
    assert backfilled(lake, data)["rows"]["fear_greed"] == 0
    assert [row["fear_greed_1d"] for row in held(lake, "fear_greed")] == [35.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("date,value\n2025-03-28,many\n", "macro_DGS10.csv line 2: expected date and value of us10y"),
        ("date,value\nsoon,4.2\n", "macro_DGS10.csv line 2"),
        ("date,value\n2025-03-28,400\n", "expected -5 to 50 percent a year, found 400"),
        ("day,value\n2025-03-28,4.2\n", "KeyError\\('date'\\)"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    data = write_files(tmp_path / "data")
    (data / "context" / "macro_DGS10.csv").write_text(text)
    with pytest.raises(ValueError, match=expected):
        backfilled(tmp_path / "lake", data)


def test_a_folder_without_such_files_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--source context: expected files such as .* found none"):
        backfilled(tmp_path / "lake", tmp_path)


def test_the_verb_brings_them_in_once_and_names_what_is_wrong(tmp_path: Path) -> None:
    env = {"CANDLEWICK_RUN_DIR": str(tmp_path / "run"), "CANDLEWICK_DATA_DIR": str(write_files(tmp_path / "data"))}
    words = ["backfill", "--source", "context", "--symbol", "BTCUSDT", "--json"]
    first, again = (json.loads(CliRunner().invoke(app, words, env=env).stdout) for _ in range(2))
    assert (first["rows"]["macro"], again["rows"]["macro"], again["held"]) == (2, 0, 8)
    wrong = CliRunner().invoke(app, [*words, "--from", "2025-03-01T00:00Z"], env=env)
    assert wrong.exit_code != 0
    assert "expected both --from and --to" in str(wrong.exception)


def test_every_declared_series_of_the_made_market_reaches_its_view() -> None:
    assert {o.series for o in everything()} == {name for view in SLOW_VIEWS for name in view.series}
    assert len(sessions(3)) == 3
