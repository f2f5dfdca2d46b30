"""The certificate of slow views: lake and Redis beside what the observations gave when the rows were made.

One flipped bit, a row that nothing was known for, one that is missing and one that was left behind are named, with the
raw observations; what came into the lake later than a row is no fault of the row.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, Observation
from feature_repo.lake_reader import Lake
from feature_repo.redis_layout import encode, feature_field
from feature_repo.settings import Settings
from feature_repo.slow_features import SLOW_NAMES, SLOW_VIEWS, VIEW_OF, rows
from feature_repo.store import FeatureStore
from monitoring.parity import closes
from monitoring.parity.report import Report, time_text
from monitoring.parity.sampled import ONLINE_SLOW, sample
from monitoring.parity.slow import ATTEMPTS, ELSEWHERE, FILING, IN_LAKE, MOVED, SlowChecker
from streaming import slow_history
from streaming.lake import LakeWriter
from streaming.slow_rows import SlowRows, lake_closes, row_of
from tests.feature_repo.made_observations import (
    END_NS,
    everything,
    made_bar,
    made_closes,
    made_fear_greed,
    made_funding,
    made_macro,
    observation,
)
from tests.integration.test_skew import flip

pytestmark = pytest.mark.integration
SYMBOL = "BTCUSDT"
NOW_NS = END_NS + DAY_NS + 5 * MINUTE_NS
"""When all of the made market has become known, the last session a day after its close."""
WINDOW = (END_NS - 2 * DAY_NS, NOW_NS - MINUTE_NS)
BETAS = [name for name in SLOW_NAMES if name.startswith("beta_")]


class Market:
    """A lake and a Redis that a stream has written slow rows to."""

    def __init__(self, folder: Path, redis: str) -> None:
        self.settings = Settings(run_dir=folder, redis_url=redis, data_dir=folder / "data")
        self.writer = LakeWriter.open(self.settings.lake)
        self.lake = Lake(self.writer.filesystem, self.writer.root)
        self.store = FeatureStore.open(self.settings, lambda: NOW_NS)
        self.folder = Path(self.settings.lake.removeprefix("file://"))

    def tell(self, told: Sequence[Observation]) -> None:
        """As a stream does, in one batch."""
        SlowRows(self.lake, self.writer, self.store.write_slow, lambda: (SYMBOL,), lambda: NOW_NS)(told)

    def close(self, count: int = 90) -> None:
        self.writer.upsert("clean", [made_bar(each.ts_event, each.value) for each in made_closes(count=count)])

    def age(self) -> None:
        """The bars' files were written when their hours ended."""
        for path in self.folder.glob("clean/**/*.parquet"):
            os.utime(path, ns=(0, 0))

    def checked(self, window: tuple[int, int] = WINDOW, checker: SlowChecker | None = None) -> Report:
        report = Report(SYMBOL)
        samples = sample(self.store, SYMBOL, 0, at_once)
        checker = checker or SlowChecker(self.lake, SYMBOL, self.settings.data_dir)
        checker.check(report, window, window[0], samples.slow, at_once)
        return report

    def put(self, view: str, name: str, value: float) -> None:
        """Overwrite one value of the online row."""
        self.store.client.hset(
            self.store._key(SYMBOL), feature_field(f"{view}_features", name), encode(value, "double"))

    def file(self, view: str) -> Path:
        return max(self.folder.glob(f"{view}/**/{view}.parquet"))

    def held(self, view: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.lake.read(view, SYMBOL, 0, NOW_NS).to_pylist()  # type: ignore[arg-type]
        return found

    def newest(self, view: str) -> dict[str, Any]:
        return self.held(view)[-1]


def at_once(_seconds: float) -> None:
    """What is waited for is there."""


@pytest.fixture
def market(tmp_path: Path, redis_server: str) -> Market:
    return Market(tmp_path, redis_server)


@pytest.fixture
def whole(market: Market) -> Market:
    """Every series, and the closes that betas read."""
    market.close()
    market.tell(everything())
    market.age()
    return market


def wrong(report: Report) -> list[tuple[str, str]]:
    return [(example.where, example.feature) for example in report.examples]


def test_every_slow_feature_in_lake_and_redis_is_what_the_observations_give(whole: Market) -> None:
    report = whole.checked()
    assert (report.examples, report.not_judged) == ([], {})
    assert report.places[ONLINE_SLOW] == len(SLOW_VIEWS)
    created = [row["created"] for view in VIEW_OF for row in whole.held(view)]
    inside = sum(WINDOW[0] < at <= WINDOW[1] for at in created)
    assert inside > 300
    # Of each view also the row that is told when the window begins; open interest begins within it.
    assert report.places[IN_LAKE] == inside + len(SLOW_VIEWS) - 1
    assert {name for name in SLOW_NAMES if report.features[name].known} == set(SLOW_NAMES)
    assert report.by_view()["macro_features"][0] > report.by_view()["fear_greed_features"][0] > 0


def test_a_wrong_online_value_is_named_with_the_observation_behind_it(whole: Market) -> None:
    held = whole.newest("funding")
    whole.put("funding", "funding_rate_8h", math.nextafter(held["funding_rate_8h"], math.inf))
    report = whole.checked()
    assert wrong(report) == [(ONLINE_SLOW, "funding_rate_8h")]
    tally = report.features["funding_rate_8h"]
    assert tally.worst is not None
    assert tally.raw is not None
    assert (tally.worst.ulp, tally.worst.second) == (1, time_text(held["ts_event"]))
    newest = tally.raw["observations"][0]
    assert (newest["value"], newest["moment"]) == (held["funding_rate_8h"], time_text(held["ts_event"]))
    assert newest["known"] == tally.raw["known_by"] == time_text(held["created"])
    assert (tally.raw["topic"], newest["instrument"]) == ("crypto.btc.funding", "BINANCE")
    assert report.by_view()["funding_features"][1] == 1


def test_a_wrong_beta_in_the_lake_is_named_where_its_closes_are_as_they_were(whole: Market) -> None:
    flip(whole.file("macro"), "beta_gold_60d", whole.newest("macro")["ts_event"])
    report = whole.checked()
    assert wrong(report) == [(IN_LAKE, "beta_gold_60d")]
    raw = report.features["beta_gold_60d"].raw
    assert raw is not None
    assert {each["series"] for each in raw["observations"]} == {"gold"}


def test_a_row_shown_to_follow_is_looked_at_again_and_not_made_again(
    whole: Market, monkeypatch: pytest.MonkeyPatch,
) -> None:
    checker = SlowChecker(whole.lake, SYMBOL, whole.settings.data_dir)
    assert whole.checked(checker=checker).mismatches == 0
    monkeypatch.setattr(SlowChecker, "_closes", lambda *_: pytest.fail("a hundred hours of bars were read again"))
    recent = (WINDOW[1] - HOUR_NS, WINDOW[1])
    assert whole.checked(recent, checker).mismatches == 0
    whole.put("macro", "vix_close_1d", 1.0)
    assert wrong(whole.checked(recent, checker)) == [(ONLINE_SLOW, "vix_close_1d")]


def test_a_row_of_nothing_and_a_row_that_is_missing_are_named(whole: Market) -> None:
    view = VIEW_OF["fear_greed"]
    held = row_of(view, whole.newest("fear_greed"))
    whole.writer.upsert("fear_greed", [replace(held, created=held.created + SECOND_NS)])
    funding = whole.file("funding")
    table = pq.read_table(funding, partitioning=None)
    pq.write_table(table.slice(0, table.num_rows - 1), funding)
    looked: list[float] = []
    report = Report(SYMBOL)
    SlowChecker(whole.lake, SYMBOL, whole.settings.data_dir).check(
        report, WINDOW, WINDOW[0], sample(whole.store, SYMBOL, 0, at_once).slow, looked.append)
    assert [(e.where, e.feature, e.expected, e.found) for e in report.examples] == [
        (IN_LAKE, "funding_row", "a row of what became known", "no row"),
        (IN_LAKE, "fear_greed_row", "no row: nothing became known then", "a row"),
        (ONLINE_SLOW, "fear_greed_row", f"the row known at {time_text(held.created + SECOND_NS)}",
         f"that known at {time_text(held.created)}"),
    ]
    assert len(looked) == 2 * (ATTEMPTS - 1), "what is half written is looked at again"


def test_an_online_row_that_was_left_behind_is_named_while_one_is_to_be_there(market: Market) -> None:
    told = made_fear_greed(5)
    market.tell(told[:-1])
    market.store.write_slow = lambda _row: False  # type: ignore[method-assign]
    market.tell(told[-1:])
    newest = told[-1]
    window = (newest.created - HOUR_NS, newest.created + HOUR_NS)

    def at(now_ns: int) -> Report:
        market.store = market.store.with_clock(lambda: now_ns)
        return market.checked(window)

    assert wrong(at(newest.created + MINUTE_NS - SECOND_NS)) == []
    assert wrong(at(newest.created + MINUTE_NS)) == [(ONLINE_SLOW, "fear_greed_row")]
    market.store.client.flushall()
    assert [e.found for e in at(newest.created + MINUTE_NS).examples] == ["none"]
    assert wrong(at(newest.ts_event + VIEW_OF["fear_greed"].ttl_ns + SECOND_NS)) == [], "it would be no answer"


def test_a_value_that_was_not_known_yet_is_not_what_a_row_may_hold(market: Market) -> None:
    told = made_fear_greed(9)
    week, last = told[-8], told[-1]
    corrected = week.model_copy(update={"value": week.value + 7.0, "created": last.created + HOUR_NS,
                                        "ts_init": last.created + HOUR_NS})
    market.tell([*told, corrected])
    assert market.checked().mismatches == 0
    before, after = (row_of(VIEW_OF["fear_greed"], each) for each in market.held("fear_greed")[-2:])
    assert (before.ts_event, after.ts_event) == (last.ts_event, last.ts_event)
    flipped = replace(before, values={**before.values, "fear_greed_change_7d": after.values["fear_greed_change_7d"]})
    path = market.file("fear_greed")
    table = pq.read_table(path, partitioning=None)
    path.unlink()
    kept = [row_of(VIEW_OF["fear_greed"], each) for each in table.to_pylist() if each["created"] != before.created]
    market.writer.upsert("fear_greed", [*kept, flipped])
    assert wrong(market.checked()) == [(IN_LAKE, "fear_greed_change_7d")]


@pytest.mark.parametrize(("read_ns", "mismatches"), [(NOW_NS, 0), (END_NS - 9 * DAY_NS, 2)])
def test_observations_that_a_backfill_brings_later_are_no_fault_of_a_row(
    market: Market, read_ns: int, mismatches: int,
) -> None:
    *older, last = made_fear_greed(9)
    market.tell([last])
    filled = [each.model_copy(update={"provenance": "backfill", "ts_init": read_ns}) for each in older]
    market.writer.add_revision("fear_greed", rows(VIEW_OF["fear_greed"], SYMBOL, [*filled, last], filled), "backfill")
    market.writer.add_revision("observations", filled, "backfill")
    report = market.checked()
    assert report.mismatches == mismatches * 2, report.examples
    # Had they been read before, the change of a week would be known: its value, and no reason for none.
    assert {e.feature for e in report.examples} == set(
        ("fear_greed_change_7d", "fear_greed_reasons") if mismatches else ())


@pytest.mark.parametrize(("after_ns", "weeks"), [(-SECOND_NS, 0), (slow_history.HELD_AFTER_NS, 1)])
def test_a_backfill_beside_the_stream_is_part_of_the_rows_that_come_after_its_stamp_and_of_no_others(
    market: Market, monkeypatch: pytest.MonkeyPatch, after_ns: int, weeks: int,
) -> None:
    first, *_, last = made_fear_greed(8)
    files = market.settings.data_dir / "context"
    files.mkdir(parents=True)
    (files / "fear_greed_daily.csv").write_text(
        f"date,timestamp,value\n2025-03-24,{first.ts_event // SECOND_NS},{first.value}\n")
    began, wrote = NOW_NS - HOUR_NS, NOW_NS - HOUR_NS + 2 * MINUTE_NS
    came = wrote + after_ns
    news = last.model_copy(update={"created": came, "ts_init": came})
    write = LakeWriter.add_revision
    clock = iter((began, wrote, wrote + SECOND_NS))

    def beside(self: LakeWriter, zone: Any, messages: Any, provenance: str) -> list[str]:
        if zone == "observations" and came < wrote:
            market.tell([news])  # the stream is faster than the files' last part
        return write(self, zone, messages, provenance)

    with monkeypatch.context() as during:
        during.setattr(LakeWriter, "add_revision", beside)
        slow_history.backfill(
            market.lake, market.writer, market.settings.data_dir, (SYMBOL,), lambda: next(clock))
    if came >= wrote:
        market.tell([news])
    row = market.newest("fear_greed")
    assert (row["ts_event"], row["fear_greed_change_7d"] is not None) == (last.ts_event, bool(weeks))
    report = market.checked()
    assert (report.examples, report.not_judged) == ([], {})


def test_a_row_that_came_before_a_backfills_stamp_is_the_same_whether_its_files_were_here_or_not(
    market: Market,
) -> None:
    first, *_, last = made_fear_greed(8)
    filed = first.model_copy(update={"provenance": "backfill", "ts_init": last.ts_init + MINUTE_NS})
    market.writer.add_revision("observations", [filed], "backfill")
    market.tell([last])
    row = market.newest("fear_greed")
    assert row["fear_greed_change_7d"] is None, "a batch repeated after a kill would make another row"
    assert market.checked().mismatches == 0


def test_a_backfill_at_work_is_no_mismatch_until_it_should_be_done(market: Market) -> None:
    told = [each.model_copy(update={"provenance": "backfill"}) for each in made_fear_greed(3)]
    view = VIEW_OF["fear_greed"]
    market.writer.add_revision("fear_greed", rows(view, SYMBOL, told, told), "backfill")
    at_work = market.checked()
    assert (at_work.mismatches, at_work.not_judged[IN_LAKE, FILING]) == (0, 3)
    for path in market.folder.glob("fear_greed/**/*.parquet"):
        os.utime(path, ns=(0, 0))
    assert wrong(market.checked()) == [(IN_LAKE, "fear_greed_row")] * 3
    market.writer.add_revision("observations", told, "backfill")
    assert market.checked().mismatches == 0


def test_what_cannot_be_proven_is_read_once_in_a_run_and_not_again(
    market: Market, monkeypatch: pytest.MonkeyPatch,
) -> None:
    market.tell(made_macro())
    market.close()
    asked: list[int] = []
    monkeypatch.setattr(closes, "lake_closes", lambda lake, symbol, times: (
        asked.extend(times), lake_closes(lake, symbol, times))[1])
    checker = SlowChecker(market.lake, SYMBOL, market.settings.data_dir)
    first = market.checked((NOW_NS - HOUR_NS, NOW_NS - MINUTE_NS), checker)
    assert first.not_judged[ONLINE_SLOW, MOVED] == len(BETAS)
    assert first.not_judged[IN_LAKE, MOVED] > 0
    assert len(asked) == len(set(asked)) > 60, "the row in the lake and the one online read the same closes"
    asked.clear()
    again = market.checked((NOW_NS - HOUR_NS, NOW_NS - MINUTE_NS), checker)
    assert (again.not_judged, again.places, asked) == (first.not_judged, first.places, [])
    market.put("macro", "us10y_close_1d", 1.0)
    assert wrong(market.checked((NOW_NS - HOUR_NS, NOW_NS - MINUTE_NS), checker)) == [(ONLINE_SLOW, "us10y_close_1d")]


def test_a_torn_slow_row_is_named_and_the_other_views_are_judged(market: Market) -> None:
    market.tell([*made_funding(), *made_fear_greed()])
    torn = feature_field("funding_features", "funding_reasons")
    market.store.client.hset(market.store._key(SYMBOL), torn, b"\x12\x01[")
    seen = sample(market.store, SYMBOL, 0, at_once)
    [(what, feature)] = seen.unreadable
    assert (what.where, what.name, feature) == (ONLINE_SLOW, "funding_features:funding_reasons", "funding_row")
    assert (what.expected, what.found) == ("a JSON object of texts", repr(b"\x12\x01["))
    report = Report(SYMBOL)
    SlowChecker(market.lake, SYMBOL, market.settings.data_dir).check(report, WINDOW, WINDOW[0], seen.slow, at_once)
    assert (report.examples, report.places[ONLINE_SLOW]) == ([], 1)
    assert report.features["fear_greed_1d"].compared > 1


def test_closes_filled_in_later_leave_betas_unjudged_and_everything_else_judged(market: Market) -> None:
    market.tell(everything())
    assert market.checked().mismatches == 0
    market.close()
    filled = market.checked()
    assert filled.mismatches == 0
    # No close in any of the window's rows: each beta of each of them, and of the online row.
    assert filled.not_judged[ONLINE_SLOW, MOVED] == len(BETAS)
    assert filled.not_judged[IN_LAKE, MOVED] % len(BETAS) == 0
    market.put("macro", "us10y_close_1d", 1.0)
    assert wrong(market.checked()) == [(ONLINE_SLOW, "us10y_close_1d")]
    market.age()
    betrayed = market.checked()
    assert {name for name, tally in betrayed.features.items() if tally.mismatches} == {
        *BETAS, "macro_reasons", "us10y_close_1d"}
    assert betrayed.not_judged == {}


def test_rows_of_files_are_made_again_with_the_files_closes_or_not_at_all(
    market: Market, write_context: Callable[[Path], None],
) -> None:
    write_context(market.settings.data_dir)
    slow_history.backfill(market.lake, market.writer, market.settings.data_dir, (SYMBOL,), lambda: NOW_NS)
    for view in VIEW_OF.values():
        market.store.write_slow(row_of(view, market.newest(view.name)))
    assert market.newest("macro")["beta_sp500_20d"] is not None
    report = market.checked()
    assert (report.examples, report.not_judged) == ([], {})
    moved = market.settings.data_dir.rename(market.settings.run_dir / "elsewhere")
    away = market.checked()
    assert away.mismatches == 0
    assert away.not_judged[ONLINE_SLOW, ELSEWHERE] > 0
    moved.rename(market.settings.data_dir)
    market.put("macro", "beta_sp500_20d", 0.5)
    assert wrong(market.checked()) == [(ONLINE_SLOW, "beta_sp500_20d")]


@pytest.fixture
def write_context() -> Callable[[Path], None]:
    """Thirty sessions of SPY, a settlement, an index and an open interest, and the symbol's hourly closes."""
    import pyarrow as pa

    from tests.feature_repo.made_observations import day_of, sessions

    def write(folder: Path) -> None:
        (folder / "context").mkdir(parents=True)
        (folder / "klines_binance").mkdir()
        closes = "".join(f"{day_of(at)},{500 + 3 * math.sin(n)}\n" for n, at in enumerate(sessions(30)))
        (folder / "context" / "macro_SPY.csv").write_text("date,close\n" + closes)
        (folder / "context" / "binance_btcusdt_funding_8h.csv").write_text(
            "symbol,fundingTime,fundingRate\nBTCUSDT,2025-03-31 16:00:00+00:00,0.0001\n")
        (folder / "context" / "binance_oi_metrics_5m.csv").write_text(
            "date,symbol,sum_open_interest\n2025-03-31 19:05:00+00:00,BTCUSDT,80000.5\n")
        (folder / "context" / "fear_greed_daily.csv").write_text(
            f"date,timestamp,value\n2025-03-31,{END_NS // DAY_NS * 86_400},34.0\n")
        opens = [at - HOUR_NS for at in sessions(30)]
        pq.write_table(pa.table({
            "date": pa.array([at // 1_000_000 for at in opens], pa.timestamp("ms")),
            "close": [60_000 * math.exp(0.02 * math.sin(1.7 * n)) for n in range(len(opens))],
        }), folder / "klines_binance" / "btcusdt_spot_1h.parquet")

    return write


def test_what_was_simulated_is_made_again_of_what_was_simulated(market: Market) -> None:
    at = END_NS // (8 * HOUR_NS) * 8 * HOUR_NS
    made_up = observation("funding_rate", at, 0.04, created=at + 2 * MINUTE_NS, source="simulated")
    market.tell([*made_funding(30), made_up])
    report = market.checked()
    assert report.mismatches == 0
    assert market.newest("funding")["funding_source"] == "simulated"
