"""The job's queries: one that fails is started again; one that no longer suits is ended and started anew."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from streaming.job import MOST_FAILURES, Queries


@dataclass
class Query:
    """A query that runs until it is stopped or broken."""

    wanted: object = None
    isActive: bool = True  # noqa: N815 Spark's name

    def stop(self) -> None:
        self.isActive = False

    def exception(self) -> str:
        return "broken on purpose"


class Rounds(threading.Event):
    """Lets `watch` go round so often, doing something before each time."""

    def __init__(self, *before_each: object) -> None:
        super().__init__()
        self.before_each = list(before_each)

    def wait(self, _timeout: float | None = None) -> bool:
        step = self.before_each.pop(0) if self.before_each else self.set
        step()  # type: ignore[operator]
        return self.is_set()


def test_a_query_is_started_anew_when_it_was_started_for_another_thing() -> None:
    wanted, started = [("range_15m",)], []

    def start() -> Query:
        started.append(Query(wanted[0]))
        return started[-1]

    queries = Queries({"hot": start}, suits={"hot": lambda: wanted[0]})
    assert queries.watch(Rounds(lambda: None, lambda: wanted.__setitem__(0, ()), lambda: None)) == 0
    assert [(query.wanted, query.isActive) for query in started] == [(("range_15m",), False), ((), True)]
    assert queries.failures == [], "a query that was ended on purpose has not failed"


def test_a_query_that_keeps_failing_ends_the_job() -> None:
    queries = Queries({"lake": lambda: Query(isActive=False)})
    assert queries.watch(Rounds(*[lambda: None] * (MOST_FAILURES + 3)), clock=lambda: 0.0) == 1
    assert len(queries.failures) == MOST_FAILURES + 1
