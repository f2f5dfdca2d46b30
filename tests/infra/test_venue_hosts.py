"""Venue hosts as they are met: well, with another clock, blocking this region, silent, talking nonsense."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from feature_repo.settings import LOOPBACK, Settings
from infra.stack import venue, venue_hosts
from infra.stack.doctor import market
from infra.stack.doctor.finding import OK, UNKNOWN, WARN
from infra.stack.venue_hosts import Answer

NOW_MS = 1_700_000_000_000
NO_FUTURES = Settings(venue_usdm_rest=(), venue_usdm_ws=())
REFUSED = f"http://{LOOPBACK}:9"


@contextmanager
def host(status: int = 200, body: object = None, paths: list[str] | None = None) -> Iterator[str]:
    """A server that gives every request the same answer, and upgrades a WebSocket where that is asked.

    `paths` takes what it was asked for.
    """
    content = json.dumps(body if body is not None else {"serverTime": NOW_MS}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if paths is not None:
                paths.append(self.path)
            switching = status == 200 and self.headers.get("Upgrade") == "websocket"
            self.send_response(101 if switching else status)
            self.send_header("Content-Length", "0" if switching else str(len(content)))
            self.end_headers()
            if not switching:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def mute() -> Iterator[str]:
    """A host that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"


def websocket(address: str) -> str:
    return address.replace("http", "ws", 1)


def asked(*hosts: str, timeout_s: float = 20.0) -> list[Answer]:
    return list(venue_hosts.ask(hosts, timeout_s))


def test_a_clock_is_compared_at_the_middle_of_the_round_trip() -> None:
    times_ms = iter([NOW_MS - 900, NOW_MS - 700])  # asked, answered: 800 ms behind at the middle
    with host() as address:
        [answer] = venue_hosts.ask([address], 20.0, clock=lambda: next(times_ms) * 1_000_000)
    assert (answer.problem, answer.round_trip_ms, answer.offset_ms) == ("", 200.0, 800.0)
    found = market.clock([answer])
    assert (found.state, found.found) == (WARN, f"800 ± 100 ms behind {address}")


def test_the_host_with_the_shortest_round_trip_tells_the_offset() -> None:
    far = Answer("far", round_trip_ms=900, offset_ms=-450)
    near = Answer("near", round_trip_ms=20, offset_ms=-12)
    found = market.clock([far, Answer("ws", round_trip_ms=1), near])
    assert (found.state, found.found) == (OK, "12 ± 10 ms ahead of near")


def test_without_any_host_the_clock_is_unknown_and_nothing_fails() -> None:
    settings = replace(NO_FUTURES, venue_rest=(REFUSED,), venue_ws=(websocket(REFUSED),))
    rest, ws, clock = market.venue(settings, timeout_s=20.0)
    assert (rest.state, ws.state, clock.state) == (WARN, WARN, UNKNOWN)
    assert "Connection refused" in rest.found
    assert market.STANDS_IN in rest.do


def test_a_host_that_refuses_the_region_says_so_and_another_serves_in_its_place() -> None:
    with host(451) as blocked, host() as serving:
        settings = replace(
            NO_FUTURES, venue_rest=(blocked, serving), venue_ws=(websocket(blocked), websocket(serving)),
        )
        found = {f.name: f for f in market.venue(settings, timeout_s=20.0)}
        assert venue.reachable((blocked, serving), 20.0) == serving
    for refused, instead in ((blocked, serving), (websocket(blocked), websocket(serving))):
        finding = found[f"venue {refused}"]
        assert (finding.state, finding.found) == (WARN, "refuses this region (HTTP 451)")
        assert finding.do == f"{instead} serves in its place"
        assert found[f"venue {instead}"].state == OK
    assert found["clock"].state == WARN  # the server's clock stands at NOW_MS


def test_rest_and_websocket_of_a_host_are_asked_each_in_its_way() -> None:
    with host() as address:
        rest, ws = asked(address, websocket(address))
    assert (rest.problem, ws.problem) == ("", "")
    assert rest.offset_ms is not None
    assert ws.offset_ms is None


def test_futures_are_asked_where_they_answer_and_none_stands_in_for_a_spot_host() -> None:
    spot: list[str] = []
    futures: list[str] = []
    with host(503, paths=spot) as down, host(paths=futures) as up:
        settings = Settings(
            venue_rest=(down,), venue_ws=(websocket(down),), venue_usdm_rest=(up,), venue_usdm_ws=(websocket(up),),
        )
        found = list(market.venue(settings, timeout_s=20.0))
    assert (sorted(spot), sorted(futures)) == (["/api/v3/time", "/ws"], ["/fapi/v1/time", "/public/ws"])
    assert [finding.state for finding in found[:4]] == [WARN, WARN, OK, OK]
    assert market.STANDS_IN in found[0].do


def test_a_silent_host_costs_its_time_and_no_more(mute: str) -> None:
    assert [answer.problem for answer in asked(mute, websocket(mute), timeout_s=0.3)] == ["no answer within 0.3 s"] * 2


def test_the_first_that_serves_is_taken_without_waiting_for_a_silent_one(mute: str) -> None:
    with host() as address:
        assert next(venue_hosts.ask([address, mute], timeout_s=100.0)).problem == ""


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        pytest.param(418, {}, "answers HTTP 418", id="banned"),
        pytest.param(503, {}, "answers HTTP 503", id="overloaded"),
        pytest.param(200, {"time": 1}, "tells no time at /api/v3/time", id="another service"),
        pytest.param(200, [1], "tells no time at /api/v3/time", id="a list"),
        pytest.param(200, {"serverTime": "soon"}, "tells no time at /api/v3/time", id="a text for a time"),
    ],
)
def test_what_is_no_answer_of_a_venue_is_a_problem(status: int, body: object, problem: str) -> None:
    with host(status, body) as address:
        assert [answer.problem for answer in asked(address)] == [problem]


def test_what_is_no_address_and_what_speaks_no_tls_is_told() -> None:
    with host() as address:
        plain, tls = asked("api.binance.com", address.replace("http", "https", 1))
    assert plain.problem == "is no address: expected http(s)://host or ws(s)://host"
    assert tls.problem.startswith("TLS fails: ")
