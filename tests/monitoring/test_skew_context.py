"""The certificate of the hourly percentile: lake and Redis beside what the bars give that were known by then."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.context import CONTEXT_FEATURE, CONTEXT_LAG_NS
from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS
from feature_repo.lake_reader import Lake
from feature_repo.online_row import OnlineContext
from feature_repo.settings import Settings
from feature_repo.views import CONTEXT_TTL_S
from monitoring.parity.context import EXPIRED, SETTLED_NS, ContextChecker, Seen, keeps_closes
from monitoring.parity.report import Report, time_text
from monitoring.parity.sampled import ONLINE_SLOW
from monitoring.parity.slow import IN_LAKE, MOVED
from streaming.lake import LakeWriter
from streaming.slow_view import MinuteBars, SlowView
from tests.feature_repo.made_bars import Walk

SYMBOL = "BTCUSDT"
HOUR = 480_000 * HOUR_NS
CREATED = HOUR + CONTEXT_LAG_NS
WINDOW = (CREATED - MINUTE_NS, CREATED + 5 * MINUTE_NS)
NOW = HOUR + 30 * MINUTE_NS


class Told:
    """A lake whose stream has renewed the view of one hour, and what it wrote online."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.writer = folder, LakeWriter.open(folder.as_uri())
        self.lake = Lake(self.writer.filesystem, self.writer.root)
        self.written: list[OnlineContext] = []

    def renew(self, hour: int = HOUR) -> float | None:
        def write(_symbol: str, values: Mapping[str, float | None], ts_event: int, created: int) -> bool:
            self.written.append(OnlineContext(ts_event, created, values[CONTEXT_FEATURE]))
            return True

        return SlowView(self.lake, self.writer, write).renew(SYMBOL, hour)

    def age(self) -> None:
        """Its files were written when their hours ended."""
        for path in self.folder.glob("**/*.parquet"):
            os.utime(path, ns=(0, 0))

    def checked(self, *online: OnlineContext | None, checker: ContextChecker | None = None, at_ns: int = NOW) -> Report:
        report = Report(SYMBOL)
        seen: Seen = {(each.ts_event, each.created) if each else (0, 0): (at_ns, each) for each in online}
        (checker or ContextChecker(self.lake, SYMBOL, keeps_closes=True)).check(report, WINDOW, seen)
        return report

    def flip(self) -> None:
        """Change the last bit of the lake's value."""
        [path] = self.folder.glob("context/**/*.parquet")
        table = pq.read_table(path, partitioning=None)
        values = pa.array([math.nextafter(value, math.inf) for value in table[CONTEXT_FEATURE].to_pylist()])
        at = table.column_names.index(CONTEXT_FEATURE)
        pq.write_table(table.set_column(at, table.schema.field(at), values), path)


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the minute bars of the eight days before the hour, and its row of that hour."""
    folder, walk = tmp_path_factory.mktemp("week"), Walk()
    bars = [walk.bar(HOUR - back * MINUTE_NS, 60, book=False) for back in range(8 * 1440, -1, -1)]
    LakeWriter.open(folder.as_uri()).upsert("clean", bars)
    return folder


@pytest.fixture
def told(week: Path, tmp_path: Path) -> Told:
    made = Told(Path(shutil.copytree(week, tmp_path / "lake")))
    assert made.renew() is not None
    made.age()
    return made


def wrong(report: Report) -> list[tuple[str, str]]:
    return [(example.where, example.feature) for example in report.examples]


def test_the_row_in_lake_and_redis_is_what_the_bars_give(told: Told) -> None:
    report = told.checked(*told.written)
    assert (report.examples, report.not_judged) == ([], {})
    assert report.places == {IN_LAKE: 1, ONLINE_SLOW: 1}
    assert report.by_view() == {"volatility_context": (4, 0)}
    assert report.features[CONTEXT_FEATURE].known == 2


def test_a_wrong_value_online_is_named_with_the_closes_behind_it(told: Told) -> None:
    [held] = told.written
    assert held.value is not None
    report = told.checked(OnlineContext(HOUR, CREATED, math.nextafter(held.value, math.inf)))
    assert wrong(report) == [(ONLINE_SLOW, CONTEXT_FEATURE)]
    tally = report.features[CONTEXT_FEATURE]
    assert tally.worst is not None
    assert tally.raw is not None
    assert (tally.worst.ulp, tally.worst.second) == (1, time_text(HOUR))
    assert [each["moment"] for each in tally.raw["observations"]] == [
        time_text(HOUR - n * MINUTE_NS) for n in range(10)]
    assert tally.raw["observations_left_out"] == 8 * 1440 + 1 - 10


def test_a_wrong_value_in_the_lake_is_named_where_its_bars_are_as_they_were_and_else_left(told: Told) -> None:
    told.flip()
    assert wrong(told.checked()) == [(IN_LAKE, CONTEXT_FEATURE)]
    os.utime(max(told.folder.glob("clean/**/*.parquet")))
    moved = told.checked(*told.written)
    assert moved.not_judged == {(IN_LAKE, MOVED): 1}
    assert wrong(moved) == [(ONLINE_SLOW, CONTEXT_FEATURE)], "lake and Redis hold what one writer wrote to both"


def test_bars_that_may_have_expired_leave_it_unjudged(told: Told) -> None:
    told.flip()
    report = told.checked(checker=ContextChecker(told.lake, SYMBOL, keeps_closes=False))
    assert (report.examples, report.not_judged) == ([], {(IN_LAKE, EXPIRED): 1})
    assert [keeps_closes(Settings(lake_retention=kept)) for kept in (("raw=30",), ("clean=31",), ("clean=32",))] == [
        True, False, True]


def test_a_row_online_that_is_not_the_lakes_and_one_that_is_missing_are_named(told: Told) -> None:
    [held] = told.written
    other = OnlineContext(HOUR - HOUR_NS, CREATED - HOUR_NS, held.value)
    row = "volatility_context_row"
    assert wrong(told.checked(other)) == [(ONLINE_SLOW, row)] * 2
    assert wrong(told.checked(None)) == [(ONLINE_SLOW, row)]
    early = CREATED + SETTLED_NS - SECOND_NS
    assert wrong(told.checked(None, at_ns=early)) == [], "a store that was away is tried again"
    late = HOUR + CONTEXT_TTL_S * SECOND_NS + SECOND_NS
    assert wrong(told.checked(None, at_ns=late)) == [], "it would be no answer"
    assert [e.found for e in told.checked(None).examples] == ["none"]


def test_what_became_known_later_is_no_part_of_the_row_and_the_next_hour_holds_it(told: Told) -> None:
    at = HOUR - 3 * MINUTE_NS
    [bar] = told.lake.read("clean", SYMBOL, at, at).to_pylist()
    walk = Walk()
    revised = walk.bar(at, 60, book=False).model_copy(update={
        "close": bar["close"] * 1.5, "high": bar["close"] * 1.5, "created": CREATED + SECOND_NS,
        "provenance": "reconcile"})
    told.writer.upsert("clean", [revised])
    assert (told.checked(*told.written).examples, told.checked().not_judged) == ([], {})
    bars = MinuteBars.read(told.lake, SYMBOL, HOUR - DAY_NS, HOUR)
    before, after = (dict(zip(*(each.tolist() for each in bars.known(at, at, known_ns)), strict=True))
                     for known_ns in (CREATED, CREATED + SECOND_NS))
    assert (before[at], after[at]) == (bar["close"], bar["close"] * 1.5)


def test_a_restart_writes_what_was_told_and_not_what_would_be_now(told: Told) -> None:
    files = {path: path.read_bytes() for path in told.folder.glob("context/**/*.parquet")}
    filled = Walk().bar(HOUR - 8 * DAY_NS - MINUTE_NS, 60, book=False)
    told.writer.upsert("clean", [filled])
    assert told.renew() == told.written[0].value
    assert told.written[1] == told.written[0]
    assert {path: path.read_bytes() for path in told.folder.glob("context/**/*.parquet")} == files


def test_a_lake_that_is_behind_makes_no_row_of_a_month_that_lacks_its_end(told: Told) -> None:
    assert told.renew(HOUR + HOUR_NS) is None
    assert len(told.written) == 1


def test_a_month_is_read_once_for_a_row(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    checker = ContextChecker(told.lake, SYMBOL, keeps_closes=True)
    assert told.checked(*told.written, checker=checker).mismatches == 0
    monkeypatch.setattr(MinuteBars, "read", lambda *_: pytest.fail("a month of bars was read again"))
    again = told.checked(*told.written, checker=checker)
    assert (again.mismatches, again.places) == (0, {IN_LAKE: 1, ONLINE_SLOW: 1})
