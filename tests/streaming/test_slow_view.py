"""The slow view follows event time: once an hour, again with growing waits, and no failure stays unseen."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from feature_repo.context import CONTEXT_FEATURE, CONTEXT_LAG_NS
from feature_repo.contracts import HOUR_NS, MINUTE_NS, SECOND_NS, StoreUnavailable
from feature_repo.lake_reader import Lake
from streaming.lake import LakeWriter
from streaming.slow_view import SlowView
from tests.feature_repo.made_bars import Walk

pytestmark = pytest.mark.usefixtures("every_log")

HOUR = 480_000 * HOUR_NS
Written = list[tuple[str, float | None, int]]


class AtOnce(Executor):
    """Runs what it is given before it returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - as an executor does
            done.set_exception(error)
        return done


def view(folder: Path, written: Written, fault: Exception | None = None) -> SlowView:
    def write(symbol: str, values: Any, ts_event: int, _created: int) -> bool:
        if fault is not None:
            raise fault
        written.append((symbol, values[CONTEXT_FEATURE], ts_event))
        return True

    writer = LakeWriter.open(folder.as_uri())
    return SlowView(Lake(writer.filesystem, writer.root), writer, write, AtOnce())


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the minute bars of the eight days before the hour."""
    folder, walk = tmp_path_factory.mktemp("lake"), Walk()
    bars = [walk.bar(HOUR - back * MINUTE_NS, 60, book=False) for back in range(8 * 1440, -1, -1)]
    LakeWriter.open(folder.as_uri()).upsert("clean", bars)
    return folder


def test_an_hour_is_renewed_once_its_lag_has_passed_and_no_second_time(week: Path) -> None:
    written: Written = []
    slow = view(week, written)
    for second in range(5):
        slow.on_close("BTCUSDT", HOUR + CONTEXT_LAG_NS + second * SECOND_NS)
    [(symbol, value, ts_event)] = written
    assert (symbol, ts_event) == ("BTCUSDT", HOUR)
    assert value is not None
    assert value > 0


def test_a_lake_with_too_little_is_asked_again_ever_more_rarely(tmp_path: Path) -> None:
    slow = view(tmp_path, [])
    asked = []
    for minute in range(60):
        with capture_logs() as logs:
            slow.on_close("BTCUSDT", HOUR + CONTEXT_LAG_NS + minute * MINUTE_NS)
        asked += [minute] if logs else []
    assert asked[:5] == [0, 1, 3, 7, 15]
    assert all(later - earlier <= 15 for earlier, later in pairwise(asked))


@pytest.mark.parametrize(("fault", "event"), [
    (StoreUnavailable("Redis"), "slow view not renewed"), (ZeroDivisionError(), "slow view failed"),
])
def test_a_store_that_is_away_and_a_mistake_are_both_told(week: Path, fault: Exception, event: str) -> None:
    with capture_logs() as logs:
        view(week, [], fault).on_close("BTCUSDT", HOUR + CONTEXT_LAG_NS)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [(event, "error")]
