"""Venue hosts: ask each whether it serves us, and its clock how far it is from ours, all at once and in bounded time.

    for answer in ask(("https://api.binance.com", "wss://stream.binance.com:9443")):
        print(answer.host, answer.problem or "serves us")

Uses the standard library only: it is asked before anything is installed.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

TIMEOUT_S = 2.0
MS_NS = 1_000_000
REGION_BLOCK = 451
UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "Y2FuZGxld2ljay1kb2N0bw==",
}
Connection = http.client.HTTPConnection


@dataclass(frozen=True)
class Paths:
    """Where a market's hosts answer."""

    time: str
    websocket: str


SPOT, USDM = Paths("/api/v3/time", "/ws"), Paths("/fapi/v1/time", "/public/ws")


@dataclass(frozen=True)
class Answer:
    """What one host said."""

    host: str
    problem: str = ""
    """Why it does not serve us; empty when it does."""
    region_blocked: bool = False
    """It serves others, but not where we are."""
    round_trip_ms: float = 0.0
    """From the question to its answer, the connection already open."""
    offset_ms: float | None = None
    """Its clock less ours at the middle of the round trip; null for a WebSocket host, which does not tell."""


def ask(
    hosts: Sequence[str], timeout_s: float = TIMEOUT_S, clock: Callable[[], int] = time.time_ns, paths: Paths = SPOT,
) -> Iterator[Answer]:
    """The answer of each host, in their order. None takes longer than `timeout_s`: all were asked at the call."""
    answers: dict[str, Answer] = {}
    asked = {host: threading.Event() for host in hosts}

    def listen(host: str) -> None:
        answers[host] = _answer(host, timeout_s, clock, paths)
        asked[host].set()

    deadline = time.monotonic() + timeout_s
    for host in asked:
        # A name that nobody resolves can hold its thread for longer; a daemon's end is not waited for.
        threading.Thread(target=listen, args=(host,), name=f"ask {host}", daemon=True).start()

    def collect() -> Iterator[Answer]:
        for host, answered in asked.items():
            in_time = answered.wait(max(0.0, deadline - time.monotonic()))
            yield answers[host] if in_time else Answer(host, _late(timeout_s))

    return collect()


def _answer(host: str, timeout_s: float, clock: Callable[[], int], paths: Paths) -> Answer:
    url = urlsplit(host)
    rest, websocket = partial(_tell_time, path=paths.time), partial(_upgrade, path=paths.websocket)
    kinds = {"http": rest, "https": rest, "ws": websocket, "wss": websocket}
    if url.scheme not in kinds or not url.netloc:
        return Answer(host, "is no address: expected http(s)://host or ws(s)://host")
    connection = _connection(url.scheme, url.netloc, timeout_s)
    try:
        connection.connect()  # apart from the question, so that only the question's round trip is measured
        return kinds[url.scheme](host, connection, clock)
    except TimeoutError:
        return Answer(host, _late(timeout_s))
    except ssl.SSLError as error:
        return Answer(host, f"TLS fails: {getattr(error, 'verify_message', '') or error.reason or error}")
    except socket.gaierror as error:
        return Answer(host, f"its name is not resolved: {error.strerror}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(host, str(error) or type(error).__name__)
    finally:
        connection.close()


def _connection(scheme: str, netloc: str, timeout_s: float) -> Connection:
    if scheme in ("https", "wss"):
        return http.client.HTTPSConnection(netloc, timeout=timeout_s, context=ssl.create_default_context())
    return http.client.HTTPConnection(netloc, timeout=timeout_s)


def _tell_time(host: str, connection: Connection, clock: Callable[[], int], path: str) -> Answer:
    began_ns = clock()
    connection.request("GET", path)
    response = connection.getresponse()
    ended_ns = clock()
    if response.status != http.HTTPStatus.OK:
        return _refused(host, response.status)
    told = json.loads(response.read(1000))
    if not isinstance(told, dict) or not isinstance(told.get("serverTime"), int):
        return Answer(host, f"tells no time at {path}")
    middle_ms = (began_ns + ended_ns) / 2 / MS_NS
    return Answer(host, round_trip_ms=(ended_ns - began_ns) / MS_NS, offset_ms=told["serverTime"] - middle_ms)


def _upgrade(host: str, connection: Connection, clock: Callable[[], int], path: str) -> Answer:
    began_ns = clock()
    connection.request("GET", path, headers=UPGRADE)
    status = connection.getresponse().status
    if status != http.HTTPStatus.SWITCHING_PROTOCOLS:
        return _refused(host, status)
    return Answer(host, round_trip_ms=(clock() - began_ns) / MS_NS)


def _refused(host: str, status: int) -> Answer:
    if status == REGION_BLOCK:
        return Answer(host, "refuses this region (HTTP 451)", region_blocked=True)
    return Answer(host, f"answers HTTP {status}")


def _late(timeout_s: float) -> str:
    return f"no answer within {timeout_s:g} s"
