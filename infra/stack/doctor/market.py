"""Market: which venue hosts serve us, how far their clock is from ours, and what stands in without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from feature_repo.settings import Settings
from infra.stack import venue_hosts
from infra.stack.doctor.finding import OK, UNKNOWN, WARN, Finding
from infra.stack.venue_hosts import Answer

OFFSET_MS = 500
STANDS_IN = "without a venue `make up` plays a recording or the simulator"


def venue(settings: Settings, timeout_s: float = venue_hosts.TIMEOUT_S) -> Iterator[Finding]:
    """A finding for each host of each market, all asked at once; then one for the clock."""
    markets = (
        venue_hosts.ask((*settings.venue_rest, *settings.venue_ws), timeout_s),
        venue_hosts.ask((*settings.venue_usdm_rest, *settings.venue_usdm_ws), timeout_s, paths=venue_hosts.USDM),
    )
    answered = [list(answers) for answers in markets]
    for answers in answered:
        for answer in answers:
            yield reached(answer, answers)
    yield clock([answer for answers in answered for answer in answers])


def reached(answer: Answer, others: Sequence[Answer]) -> Finding:
    """Whether one host serves us; one that does not is no failure, because something stands in for it."""
    name = f"venue {answer.host}"
    expected = f"an answer within {venue_hosts.TIMEOUT_S:g} s"
    if not answer.problem:
        return Finding(name, OK, f"answers in {answer.round_trip_ms:.0f} ms", expected)
    kind = answer.host[:2]  # "ht" asks by REST, "ws" by WebSocket
    instead = next((other.host for other in others if not other.problem and other.host[:2] == kind), None)
    do = f"{instead} serves in its place" if instead else f"live data need it; {STANDS_IN}"
    return Finding(name, WARN, answer.problem, expected, do)


def clock(answers: Sequence[Answer]) -> Finding:
    """Our clock against the host with the shortest round trip, whose middle is known best."""
    told = [answer for answer in answers if answer.offset_ms is not None]
    expected = f"within {OFFSET_MS} ms of the venue's"
    if not told:
        return Finding("clock", UNKNOWN, "no venue host tells its time; the local exchange uses ours", expected)
    best = min(told, key=lambda answer: answer.round_trip_ms)
    assert best.offset_ms is not None
    side = "behind" if best.offset_ms > 0 else "ahead of"
    found = f"{abs(best.offset_ms):.0f} ± {best.round_trip_ms / 2:.0f} ms {side} {best.host}"
    if abs(best.offset_ms) <= OFFSET_MS:
        return Finding("clock", OK, found, expected)
    return Finding("clock", WARN, found, expected, "let the system keep its time: timedatectl set-ntp true, or chrony")


def data(settings: Settings) -> Iterator[Finding]:
    """Recorded market data, which may be absent."""
    if settings.data_dir.is_dir():
        yield Finding("data folder", OK, str(settings.data_dir))
    else:
        do = "set CANDLEWICK_DATA_DIR to recorded market data; without it the simulator stands in"
        yield Finding("data folder", WARN, f"none at {settings.data_dir}", "a folder", do)
